//! What `/metrics` shows: Prometheus' text format, prefix `sutantra_`, every label bounded.
//!
//! No label names a stream, a session or an address: those are facts for `/api/streams`. Shards
//! count on their own; their newest snapshot is put beside the registry when somebody scrapes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chain_types::Balance;

use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
    core::Collector,
    proto::{self, Counter, LabelPair, Metric, MetricFamily, MetricType},
};
use sfu::{
    io::{BufferBytes, LinkCounters},
    ports::{CloseReason, Role, SrtpProfile},
    shard::{ShardSnapshot, TICK_BOUNDS},
};

use crate::{
    doctor::ready::{ChainVitals, Readiness, Unready, Vitals},
    streams::Totals,
};

mod engine;
mod host;
mod money;
mod operations;
mod quality;
mod rooms;
mod wallet;

pub use engine::{EndpointSight, EngineKind, EngineSight};
pub use host::{Disk, KernelClock, open_files_max};
pub use money::MoneySight;
pub use quality::watch as watch_quality;
pub use rooms::RoomsSight;
pub use wallet::watch as watch_fee_wallet;

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Clock ticks of `/proc/self/stat`: `USER_HZ`, a constant of Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's own counts.
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    connect_seconds: HistogramVec,
    connected: IntCounterVec,
    closed: IntCounterVec,
    gate_commands: IntCounterVec,
    tokens: IntCounterVec,
    streams: IntGauge,
    sessions: IntGauge,
    viewers: IntGauge,
    cpu_seconds: Gauge,
    resident_bytes: Gauge,
    open_fds: Gauge,
    quality: quality::Quality,
    readiness: Readiness,
    home: OnceLock<PathBuf>,
    buffers: OnceLock<BufferBytes>,
    engine: OnceLock<Box<dyn Fn() -> EngineSight + Send + Sync>>,
    fee_wallet: Mutex<Option<Balance>>,
    rooms: OnceLock<Box<dyn Fn() -> RoomsSight + Send + Sync>>,
}

/// What is fixed at start.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: &'static str,
    /// The link in use: `io_uring` or `epoll`.
    pub link: String,
    /// When the process started, seconds of Unix time.
    pub started: SystemTime,
}

impl Metrics {
    /// All at zero.
    pub fn new(build: &BuildInfo) -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels);
            added(&registry, vec.expect("a valid name and labels, fixed here"))
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let vec = HistogramVec::new(options, labels);
            added(&registry, vec.expect("a valid name and labels, fixed here"))
        };
        let gauge = |name: &str, help: &str| {
            added(&registry, Gauge::new(name, help).expect("a valid name, fixed here"))
        };
        let int_gauge = |name: &str, help: &str| {
            added(&registry, IntGauge::new(name, help).expect("a valid name, fixed here"))
        };
        let info = Opts::new("sutantra_build_info", "Version and link of this process; always 1")
            .const_label("version", build.version)
            .const_label("link", build.link.clone());
        added(&registry, IntGauge::with_opts(info).expect("a valid name, fixed here")).set(1);
        let started = build.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        gauge("sutantra_process_start_time_seconds", "Start of the process, Unix time")
            .set(started.as_secs_f64());
        Self {
            http_requests: counters(
                "sutantra_http_requests_total",
                "HTTP requests answered, by route and class of status",
                &["route", "class"],
            ),
            http_seconds: histograms(
                "sutantra_http_request_seconds",
                "Time to answer an HTTP request, by route",
                &["route"],
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
            ),
            connect_seconds: histograms(
                "sutantra_session_connect_seconds",
                "From the answered offer to an established transport, by role",
                &["role"],
                &[0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8],
            ),
            connected: counters(
                "sutantra_sessions_connected_total",
                "Sessions whose transport was established, by role and DTLS-SRTP profile",
                &["role", "profile"],
            ),
            closed: counters(
                "sutantra_sessions_closed_total",
                "Sessions that ended, by role and reason",
                &["role", "reason"],
            ),
            gate_commands: counters(
                "sutantra_gate_commands_total",
                "Gate commands sent to the shards, by what they ask",
                &["op"],
            ),
            tokens: counters(
                "sutantra_admission_total",
                "Requests to publish or watch, by admission's verdict",
                &["verdict"],
            ),
            streams: int_gauge("sutantra_streams", "Live streams"),
            sessions: int_gauge("sutantra_sessions", "Sessions, connected or connecting"),
            viewers: int_gauge("sutantra_viewers", "Connected viewers of all streams"),
            cpu_seconds: gauge(
                "sutantra_process_cpu_seconds_total",
                "User and system CPU time of the process",
            ),
            resident_bytes: gauge(
                "sutantra_process_resident_memory_bytes",
                "Resident memory of the process",
            ),
            open_fds: gauge("sutantra_process_open_fds", "Open file descriptors of the process"),
            quality: quality::Quality::new(&registry),
            readiness: Readiness::default(),
            home: OnceLock::new(),
            buffers: OnceLock::new(),
            engine: OnceLock::new(),
            fee_wallet: Mutex::default(),
            rooms: OnceLock::new(),
            registry,
        }
    }

    /// An HTTP request was answered. `route` is a template, never the path itself.
    pub fn http_request(&self, route: &str, status: u16, took: Duration) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.http_requests.with_label_values(&[route, class]).inc();
        self.http_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// A session's transport is up.
    pub fn connected(&self, role: Role, profile: SrtpProfile, after: Duration) {
        self.connected.with_label_values(&[role_label(role), profile_label(profile)]).inc();
        self.connect_seconds.with_label_values(&[role_label(role)]).observe(after.as_secs_f64());
    }

    /// A session ended.
    pub fn closed(&self, role: Role, reason: CloseReason) {
        self.closed.with_label_values(&[role_label(role), reason_label(reason)]).inc();
    }

    /// A gate command was sent.
    pub fn gate_command(&self, open: bool) {
        self.gate_commands.with_label_values(&[if open { "open" } else { "close" }]).inc();
    }

    /// Admission answered; `verdict` is one of a fixed few words.
    pub fn admission(&self, verdict: &'static str) {
        self.tokens.with_label_values(&[verdict]).inc();
    }

    /// Whose disk is to be looked at; the first call counts.
    pub fn watch_home(&self, home: &Path) {
        self.home.get_or_init(|| home.to_owned());
    }

    /// What the kernel granted to the media sockets; the first call counts.
    pub fn watch_buffers(&self, granted: BufferBytes) {
        self.buffers.get_or_init(|| granted);
    }

    /// How to look at the engine; the first call counts. `look` must not wait.
    pub fn watch_engine(&self, look: impl Fn() -> EngineSight + Send + Sync + 'static) {
        self.engine.get_or_init(|| Box::new(look));
    }

    /// How to look at the coordinator; the first call counts.
    pub fn watch_rooms(&self, look: impl Fn() -> RoomsSight + Send + Sync + 'static) {
        self.rooms.get_or_init(|| Box::new(look));
    }

    /// Why new sessions are not well taken here now; empty: they are.
    pub fn unready(&self, is_draining: bool, money: Option<&MoneySight>) -> Vec<Unready> {
        let engine = self.engine.get().map(|look| look());
        let chain = money.map(|sight| ChainVitals {
            halted: sight.halted.clone(),
            height: sight.height,
            block_time_ms: sight.block_time_ms,
            has_books: sight.has_books,
            are_books_safe: sight.books.is_some_and(|books| !books.is_books_unsafe),
        });
        let vitals = Vitals {
            is_draining,
            chain,
            disk: self.home.get().and_then(|home| Disk::of(home).ok()),
            endpoints: engine.as_ref().map_or(&[], |engine| &engine.endpoints),
        };
        self.readiness.unready((Instant::now(), SystemTime::now()), &vitals)
    }

    /// The exposition. `unready` is as [`Metrics::unready`] gave it.
    pub fn render(
        &self,
        totals: Totals,
        shards: &[ShardSnapshot],
        money: Option<&MoneySight>,
        unready: &[Unready],
    ) -> String {
        self.streams.set(i64::try_from(totals.streams).unwrap_or(i64::MAX));
        self.sessions.set(i64::try_from(totals.sessions).unwrap_or(i64::MAX));
        self.viewers.set(i64::try_from(totals.viewers).unwrap_or(i64::MAX));
        if let Some(usage) = ProcessUsage::read() {
            self.cpu_seconds.set(usage.cpu_seconds);
            self.resident_bytes.set(usage.resident_bytes);
            self.open_fds.set(usage.open_fds);
        }
        let mut families = self.registry.gather();
        for family in &mut families {
            // The crate has no counter that is set, only one that is added to.
            if family.name() == self.cpu_seconds.desc()[0].fq_name {
                as_counter(family);
            }
        }
        families.extend(shard_families(shards));
        families.extend(money.into_iter().flat_map(money::families));
        families.extend(operations::families(unready));
        families.extend(host::families(self.home.get().map(PathBuf::as_path), self.buffers.get()));
        families.extend(self.engine.get().iter().flat_map(|look| engine::families(&look())));
        families.extend(self.rooms.get().iter().flat_map(|look| rooms::families(&look())));
        let wallet = *self.fee_wallet.lock().unwrap_or_else(PoisonError::into_inner);
        families.extend(wallet.map(wallet::family_of));
        // A validator has no shards; the encoder refuses a family without a metric.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&families, &mut text)
            .expect("the empty were taken out, and none is nameless");
        String::from_utf8(text).expect("names, labels and help are text")
    }
}

/// Registers a collector and hands it back.
fn added<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each name is registered once, in `new`");
    collector
}

/// One family; an empty label means a single value without one.
fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    label: &str,
    values: &[(&str, f64)],
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    let metrics = values.iter().map(|&(of, value)| {
        let mut labels = Vec::new();
        if !label.is_empty() {
            let mut pair = LabelPair::default();
            pair.set_name(label.to_owned());
            pair.set_value(of.to_owned());
            labels.push(pair);
        }
        match kind == MetricType::COUNTER {
            true => counter(value, labels),
            false => gauge(value, labels),
        }
    });
    family.set_metric(metrics.collect());
    family
}

fn as_counter(family: &mut MetricFamily) {
    family.set_field_type(MetricType::COUNTER);
    for metric in family.mut_metric() {
        let value = metric.get_gauge().get_value();
        *metric = counter(value, metric.take_label());
    }
}

fn counter(value: f64, labels: Vec<LabelPair>) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

/// One family for each counter of the shards, one metric in it for each shard.
fn shard_families(shards: &[ShardSnapshot]) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    for snapshot in shards {
        let mut label = LabelPair::default();
        label.set_name("shard".to_owned());
        label.set_value(snapshot.shard.to_string());
        each(snapshot, &mut |name, help, value| {
            let (name, value) = in_base_unit(name, value);
            let kind =
                if name.ends_with("_total") { MetricType::COUNTER } else { MetricType::GAUGE };
            let labels = vec![label.clone()];
            let metric = match kind == MetricType::COUNTER {
                true => counter(value, labels),
                false => gauge(value, labels),
            };
            match families.iter_mut().find(|family| family.name() == name) {
                Some(family) => family.mut_metric().push(metric),
                None => {
                    let mut family = MetricFamily::default();
                    family.set_name(name);
                    family.set_help(help.trim().replace("Nanoseconds", "Seconds"));
                    family.set_field_type(kind);
                    family.set_metric(vec![metric]);
                    families.push(family);
                }
            }
        });
    }
    families.push(tick_family(shards));
    families
}

/// How long the turns of each shard's loop worked.
fn tick_family(shards: &[ShardSnapshot]) -> MetricFamily {
    let metric = |snapshot: &ShardSnapshot| {
        let mut label = LabelPair::default();
        label.set_name("shard".to_owned());
        label.set_value(snapshot.shard.to_string());
        let mut cumulative = 0;
        let buckets = TICK_BOUNDS.iter().zip(snapshot.ticks.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(snapshot.ticks.counts.iter().sum());
        histogram.set_sample_sum(snapshot.ticks.sum.as_secs_f64());
        let mut metric = Metric::from_label(vec![label]);
        metric.set_histogram(histogram);
        metric
    };
    let mut family = MetricFamily::default();
    family.set_name("sutantra_sfu_tick_seconds".to_owned());
    family.set_help("Work of a turn of the loop, waiting not counted".to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(shards.iter().map(metric).collect());
    family
}

/// Shards count whole nanoseconds; Prometheus' convention is seconds.
fn in_base_unit(name: &str, value: u64) -> (String, f64) {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
    let value = value as f64;
    match name.contains("_nanoseconds") {
        true => (name.replace("_nanoseconds", "_seconds"), value / 1e9),
        false => (name.to_owned(), value),
    }
}

fn gauge(value: f64, labels: Vec<LabelPair>) -> Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn each(snapshot: &ShardSnapshot, emit: &mut dyn FnMut(&'static str, &'static str, u64)) {
    // No `..` in either: a number that nobody exports does not compile.
    let ShardSnapshot {
        shard: _,
        counters,
        link,
        sessions,
        longest_tick_nanoseconds,
        ticks: _,    // A histogram: see `tick_family`.
        streams: _,  // Unbounded: for `/api/streams`.
        profiles: _, // Counted at `Connected`, with the role.
    } = snapshot;
    counters.each(emit);
    emit("sutantra_sfu_sessions", "Sessions of the shard", *sessions);
    emit(
        "sutantra_sfu_longest_tick_nanoseconds",
        "Longest turn of the loop in the last second",
        *longest_tick_nanoseconds,
    );
    let LinkCounters {
        received_messages,
        received_datagrams,
        received_bytes,
        truncated_datagrams,
        receive_buffers_exhausted,
        sent_messages,
        sent_datagrams,
        sent_bytes,
        send_errors,
        send_would_block,
        gso_fallback_datagrams,
        wakeups,
        waits,
        pauses,
    } = *link;
    for (name, help, value) in [
        (
            "sutantra_link_received_messages_total",
            "Messages taken from the kernel (a GRO train is one)",
            received_messages,
        ),
        ("sutantra_link_received_datagrams_total", "UDP datagrams received", received_datagrams),
        ("sutantra_link_received_bytes_total", "UDP payload bytes received", received_bytes),
        (
            "sutantra_link_truncated_datagrams_total",
            "Datagrams dropped for their length",
            truncated_datagrams,
        ),
        (
            "sutantra_link_receive_buffers_exhausted_total",
            "Times the receive buffers ran out",
            receive_buffers_exhausted,
        ),
        (
            "sutantra_link_sent_messages_total",
            "Messages the kernel took (a GSO train is one)",
            sent_messages,
        ),
        ("sutantra_link_sent_datagrams_total", "UDP datagrams sent", sent_datagrams),
        ("sutantra_link_sent_bytes_total", "UDP payload bytes sent", sent_bytes),
        ("sutantra_link_send_errors_total", "Datagrams the kernel refused", send_errors),
        (
            "sutantra_link_send_would_block_total",
            "Datagrams dropped because a send buffer was full",
            send_would_block,
        ),
        (
            "sutantra_link_gso_fallback_datagrams_total",
            "Datagrams sent singly because their destination takes no GSO",
            gso_fallback_datagrams,
        ),
        ("sutantra_link_wakeups_total", "Waits that another thread ended", wakeups),
        ("sutantra_link_waits_total", "Times the shard was ready to sleep", waits),
        ("sutantra_link_pauses_total", "Times the shard let datagrams collect", pauses),
    ] {
        emit(name, help, value);
    }
}

fn role_label(role: Role) -> &'static str {
    match role {
        Role::Publisher => "publisher",
        Role::Subscriber => "subscriber",
    }
}

fn reason_label(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Peer => "peer",
        CloseReason::Control => "control",
        CloseReason::Silence => "silence",
        CloseReason::HandshakeTimeout => "handshake_timeout",
        CloseReason::Fingerprint => "fingerprint",
        CloseReason::Transport => "transport",
        CloseReason::Drain => "drain",
    }
}

/// The registered names of the profiles (RFC 5764 §4.1.2, RFC 7714 §14.2).
fn profile_label(profile: SrtpProfile) -> &'static str {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        SrtpProfile::AEAD_AES_128_GCM => "SRTP_AEAD_AES_128_GCM",
        SrtpProfile::AEAD_AES_256_GCM => "SRTP_AEAD_AES_256_GCM",
        _ => "other", // The enum is another crate's and may grow.
    }
}

/// What the kernel says about this process.
struct ProcessUsage {
    cpu_seconds: f64,
    resident_bytes: f64,
    open_fds: f64,
}

impl ProcessUsage {
    /// `None` without `/proc`: then the old values stay.
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        #[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count() as f64;
        Some(Self {
            cpu_seconds: cpu_seconds(&stat)?,
            resident_bytes: resident_bytes(&status)?,
            open_fds,
        })
    }
}

/// utime + stime, fields 14 and 15 of proc_pid_stat(5). The second field, the program's name, may
/// hold spaces and parentheses: count from the last one.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// `VmRSS` of proc_pid_status(5), which is in kB whatever the page size.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
