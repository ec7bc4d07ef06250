//! A load run: publishers, then viewers at a steady rate, then a window in which all is counted.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::{JoinError, JoinWith, Joiner, OnBound, Role};
use crate::histogram::Histogram;
use crate::metrics::Metrics;
use crate::payload::Kind;
use crate::publisher::{Published, Publisher};
use crate::report::{Generator, Latency, Packets, Report, Sending, ServerCost, Ticks};
use crate::server::{self, CpuSample};
use crate::signal::Target;
use crate::sink::Sink;
use crate::socket::Gro;
use crate::trace::Trace;
use crate::viewer::{Check, Viewer};
use crate::worker::{Command, Live, Outcome, Worker, WorkerConfig, playing_after};

/// Between the last join and the window.
const SETTLE: Duration = Duration::from_secs(1);
/// Between the window and the count: retransmissions of its last packets arrive.
const DRAIN: Duration = Duration::from_millis(1500);
/// How long publishers may take to connect, and viewers to play after the last join.
const PLAYING_MAX: Duration = Duration::from_secs(20);

/// The server's gauge of the longest turn in the last second, and its histogram of all turns.
const TICK_GAUGE: &str = "sutantra_sfu_longest_tick_seconds";
const TICK_HISTOGRAM: &str = "sutantra_sfu_tick_seconds_bucket";
/// Between two looks at the gauge.
const GAUGE_EVERY: Duration = Duration::from_millis(900);

/// What to run.
#[derive(Clone)]
pub struct LoadConfig {
    /// The server.
    pub target: Target,
    /// Bearer token of WHIP and WHEP.
    pub bearer: Option<String>,
    /// Stream name; with several publishers, `-0`, `-1` … is appended.
    pub stream: String,
    /// Clients that watch, spread over the publishers.
    pub viewers: usize,
    /// Clients that publish.
    pub publishers: u16,
    /// The counted window.
    pub duration: Duration,
    /// Joins a second.
    pub ramp_per_second: u32,
    /// What publishers play.
    pub trace: Arc<Trace>,
    /// What to call the trace in the report.
    pub trace_name: String,
    /// Server process, for CPU and memory.
    pub pid: Option<u32>,
    /// Threads that drive clients.
    pub threads: usize,
    /// Every n-th viewer compares all payload bytes.
    pub sample_every: usize,
    /// See [`Gro`].
    pub gro: Gro,
    /// Share of the SRTP and SRTCP packets that viewers throw away, 0 to 1.
    pub drop_share: f64,
    /// Takes the media of the viewers that do not hear.
    pub sink: Option<Arc<dyn Sink>>,
    /// With a sink, viewer n hears media when n is a multiple of this; the others need only be
    /// connected. Without a sink all hear.
    pub hear_every: usize,
}

impl LoadConfig {
    /// One publisher of `trace`, a hundred viewers at fifty a second, twenty seconds.
    pub fn new(target: Target, trace_name: &str, trace: Arc<Trace>) -> Self {
        Self {
            target,
            bearer: None,
            stream: "bench".to_owned(),
            viewers: 100,
            publishers: 1,
            duration: Duration::from_secs(20),
            ramp_per_second: 50,
            trace,
            trace_name: trace_name.to_owned(),
            pid: None,
            threads: 1,
            sample_every: 10,
            gro: Gro::Off,
            drop_share: 0.0,
            sink: None,
            hear_every: 1,
        }
    }

    fn hears(&self, viewer: usize) -> bool {
        self.sink.is_none() || viewer.is_multiple_of(self.hear_every.max(1))
    }
}

/// Runs it; `Err` when nothing could be measured.
pub fn run(config: &LoadConfig) -> anyhow::Result<Report> {
    let joiner = Joiner::new(config.target.clone(), config.bearer.clone(), config.gro)?;
    let awaited = if config.trace.has(Kind::Video) { Kind::Video } else { Kind::Audio };
    let mut run = Run::start(config, joiner, awaited)?;
    let outcome = run.publish().and_then(|()| run.view()).and_then(|()| run.measure());
    run.leave();
    let outcomes = run.stop()?;
    let window = outcome?;
    Ok(report(config, &run, &window, &outcomes, awaited))
}

struct Run<'a> {
    config: &'a LoadConfig,
    joiner: Joiner,
    live: Arc<Live>,
    published: Vec<Arc<Published>>,
    workers: Vec<(Sender<Command>, JoinHandle<std::io::Result<Outcome>>)>,
    session_paths: Vec<String>,
    refused: Vec<String>,
    rss_before: Option<u64>,
    joining: Option<Joining>,
    progress: Progress,
}

/// What the joining cost the server.
struct Joining {
    cpu: Option<server::CpuUsed>,
    ticks: Option<Ticks>,
}

/// What the main thread saw at the edges of the window.
struct Window {
    seconds: f64,
    /// Counters `from..until` of audio and video, by publisher.
    audio: Vec<(u64, u64)>,
    video: Vec<(u64, u64)>,
    cpu: Option<server::CpuUsed>,
    rss: Option<u64>,
    metrics: Option<(Metrics, Metrics)>,
    own_cpu: server::CpuUsed,
    sink_dropped: u64,
}

impl<'a> Run<'a> {
    fn start(config: &'a LoadConfig, joiner: Joiner, awaited: Kind) -> anyhow::Result<Self> {
        let threads = config.threads.max(1);
        let idle_looks = (0..threads).map(|_| AtomicU64::new(0)).collect();
        let live = Arc::new(Live { idle_looks, ..Live::default() });
        let settings = WorkerConfig { awaited, gro: config.gro, drop_share: config.drop_share };
        let mut workers = Vec::new();
        for number in 0..threads {
            let (sender, receiver) = channel();
            let worker = Worker::new(number, receiver, Arc::clone(&live), settings)?;
            let thread = std::thread::Builder::new()
                .name(format!("clients-{number}"))
                .spawn(move || worker.run())?;
            workers.push((sender, thread));
        }
        let published = (0..config.publishers).map(|_| Arc::default()).collect();
        Ok(Self {
            config,
            joiner,
            live,
            published,
            workers,
            session_paths: Vec::new(),
            refused: Vec::new(),
            rss_before: None,
            joining: None,
            progress: Progress::new(),
        })
    }

    fn stream(&self, publisher: usize) -> String {
        match self.config.publishers {
            1 => self.config.stream.clone(),
            _ => format!("{}-{publisher}", self.config.stream),
        }
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        for number in 0..self.config.publishers {
            let stream = self.stream(number.into());
            let joined = self.joiner.join(Role::Publisher, &stream).context("publishing")?;
            self.session_paths.extend(joined.session_path.clone());
            let published = Arc::clone(&self.published[usize::from(number)]);
            let trace = Arc::clone(&self.config.trace);
            let publisher = Box::new(Publisher::new(number, trace, published));
            self.tell(0, Command::Publish(Box::new(joined), publisher))?;
        }
        let wanted = u64::from(self.config.publishers);
        if !self.wait("publishing", |live| load(&live.publishing) >= wanted) {
            bail!("{} of {wanted} publishers connected", load(&self.live.publishing));
        }
        // The server creates a stream at its first packets; let them arrive before viewers ask.
        std::thread::sleep(Duration::from_millis(300));
        self.rss_before = self.config.pid.and_then(|pid| server::rss_bytes(pid).ok());
        Ok(())
    }

    fn view(&mut self) -> anyhow::Result<()> {
        let (early_cpu, early_metrics) = (self.cpu()?, self.metrics());
        let mut longest = LongestTick::default();
        let mut admitted = 0;
        let began = Instant::now();
        let gap = Duration::from_secs(1) / self.config.ramp_per_second.max(1);
        for number in 0..self.config.viewers {
            let due = began + gap * u32::try_from(number).unwrap_or(u32::MAX);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let publisher = number % usize::from(self.config.publishers);
            let (hears, sink) = (self.config.hears(number), self.config.sink.clone());
            let mut tell_sink = |local| sink.as_ref().map_or(Ok(()), |sink| sink.hear(local));
            let bound: Option<OnBound<'_>> = if hears { Some(&mut tell_sink) } else { None };
            let with = JoinWith { bound, ..JoinWith::default() };
            longest.look(|| self.metrics());
            match self.joiner.join_with(Role::Viewer, &self.stream(publisher), with) {
                Ok(joined) => {
                    admitted += 1;
                    self.session_paths.extend(joined.session_path.clone());
                    let whole = number % self.config.sample_every.max(1) == 0;
                    let check = if whole { Check::Whole } else { Check::Record };
                    let mut viewer = Box::new(Viewer::new(publisher as u16, check));
                    viewer.hears = hears;
                    let worker = number % self.workers.len();
                    self.tell(worker, Command::View(Box::new(joined), viewer))?;
                }
                Err(error @ JoinError::Refused { .. }) => self.refused.push(error.to_string()),
                Err(error) => return Err(error).context("viewing"),
            }
            self.progress.show("joining", &self.live, self.config.viewers);
        }
        // Those who never play are counted and named by the verdict; the others are measured.
        self.wait("waiting for media", |live| load(&live.ready) + load(&live.ended) >= admitted);
        let (late_cpu, late_metrics) = (self.cpu()?, self.metrics());
        longest.take(late_metrics.as_ref());
        self.joining = Some(Joining {
            cpu: early_cpu.zip(late_cpu).map(|(early, late)| late.since(&early)),
            ticks: early_metrics
                .zip(late_metrics)
                .and_then(|(early, late)| longest.ticks(&early, &late)),
        });
        if self.config.viewers > 0 && load(&self.live.playing) == 0 {
            let why = self.refused.first().map_or("no media arrived", String::as_str);
            bail!("no viewer plays: {why}");
        }
        Ok(())
    }

    fn measure(&mut self) -> anyhow::Result<Window> {
        self.pause("settling", SETTLE);
        let early_metrics = self.metrics();
        self.tell_all(|| Command::Measure(true))?;
        let (began, own_pid) = (Instant::now(), std::process::id());
        let own_began = CpuSample::take(own_pid)?;
        let cpu_began = self.cpu()?;
        let from = self.counters();
        let sink_from = self.sink_dropped()?;
        self.pause("measuring", self.config.duration);
        let (until, sink_until) = (self.counters(), self.sink_dropped()?);
        let cpu_ended = self.cpu()?;
        let seconds = began.elapsed().as_secs_f64();
        let own_cpu = CpuSample::take(own_pid)?.since(&own_began);
        self.tell_all(|| Command::Measure(false))?;
        let late_metrics = self.metrics();
        let rss = self.config.pid.and_then(|pid| server::rss_bytes(pid).ok());
        self.pause("draining", DRAIN);
        self.catch_up();
        self.progress.end();
        let pair = |kind: usize| -> Vec<(u64, u64)> {
            from.iter().zip(&until).map(|(from, until)| (from[kind], until[kind])).collect()
        };
        Ok(Window {
            seconds,
            audio: pair(0),
            video: pair(1),
            cpu: cpu_began.zip(cpu_ended).map(|(began, ended)| ended.since(&began)),
            rss,
            metrics: early_metrics.zip(late_metrics),
            own_cpu,
            sink_dropped: sink_until.saturating_sub(sink_from),
        })
    }

    fn leave(&mut self) {
        // A worker that has already ended says why when it is joined.
        let _ended = self.tell_all(|| Command::Leave);
        for path in &self.session_paths {
            // The run is over: a server that has gone or forgets is seen in the figures above.
            let _status = self.joiner.leave(path);
        }
    }

    fn stop(&mut self) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for (commands, thread) in self.workers.drain(..) {
            // A worker that has already ended says why when it is joined.
            let _ended = commands.send(Command::Stop);
            let outcome = thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            outcomes.push(outcome.context("driving clients")?);
        }
        Ok(outcomes)
    }

    fn tell(&self, worker: usize, command: Command) -> anyhow::Result<()> {
        self.workers[worker].0.send(command).ok().context("a worker has ended")
    }

    fn tell_all(&self, command: impl Fn() -> Command) -> anyhow::Result<()> {
        (0..self.workers.len()).try_for_each(|worker| self.tell(worker, command()))
    }

    fn counters(&self) -> Vec<[u64; 2]> {
        let next = |p: &Arc<Published>| [p.next(Kind::Audio), p.next(Kind::Video)];
        self.published.iter().map(next).collect()
    }

    fn cpu(&self) -> anyhow::Result<Option<CpuSample>> {
        let Some(pid) = self.config.pid else { return Ok(None) };
        Ok(Some(CpuSample::take(pid).with_context(|| format!("process {pid}"))?))
    }

    fn sink_dropped(&self) -> anyhow::Result<u64> {
        let dropped = self.config.sink.as_ref().map(|sink| sink.dropped()).transpose();
        Ok(dropped.context("asking the sink")?.unwrap_or(0))
    }

    fn metrics(&self) -> Option<Metrics> {
        let answer = self.config.target.base().request("GET", "/metrics", None, "").ok()?;
        let metrics = Metrics::parse(&answer.body);
        (answer.status == 200 && !metrics.is_empty()).then_some(metrics)
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Live) -> bool) -> bool {
        let until = Instant::now() + PLAYING_MAX;
        while Instant::now() < until {
            if done(&self.live) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
            self.progress.show(what, &self.live, self.config.viewers);
        }
        false
    }

    /// Waits until every worker has once found its sockets empty: what arrived is counted, also by
    /// a generator that got too little of the machine.
    fn catch_up(&mut self) {
        let looks = |live: &Live| -> Vec<u64> { live.idle_looks.iter().map(load).collect() };
        let before = looks(&self.live);
        self.wait("catching up", |live| {
            looks(live).iter().zip(&before).all(|(now, before)| now > before)
        });
    }

    fn pause(&mut self, what: &str, span: Duration) {
        let until = Instant::now() + span;
        loop {
            self.progress.show(what, &self.live, self.config.viewers);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(250)));
        }
    }
}

/// Longest turn of the server's loops, by a gauge that tells of one second at a time.
#[derive(Default)]
struct LongestTick {
    looked: Option<Instant>,
    seconds: Option<f64>,
}

impl LongestTick {
    /// Asks for the gauge about once a second: more often would be a load of its own.
    fn look(&mut self, metrics: impl FnOnce() -> Option<Metrics>) {
        if self.looked.is_none_or(|at| at.elapsed() >= GAUGE_EVERY) {
            self.looked = Some(Instant::now());
            self.take(metrics().as_ref());
        }
    }

    fn take(&mut self, metrics: Option<&Metrics>) {
        let seconds = metrics.and_then(|metrics| metrics.largest(TICK_GAUGE));
        self.seconds = [self.seconds, seconds].into_iter().flatten().reduce(f64::max);
    }

    /// What is known of the turns between two pages.
    fn ticks(&self, early: &Metrics, late: &Metrics) -> Option<Ticks> {
        let over_1ms = late.increase(early, "_ticks_over_1ms_total")? as u64;
        let over_10ms = late.increase(early, "_ticks_over_10ms_total")? as u64;
        let longest = late.highest_bucket(early, TICK_HISTOGRAM).or(self.seconds)?;
        let longest_ms = longest.is_finite().then_some(longest * 1000.0);
        Some(Ticks { longest_ms, over_1ms, over_10ms })
    }
}

/// One line on standard error, rewritten twice a second, where that is a terminal.
struct Progress {
    enabled: bool,
    shown: Option<(Instant, u64)>,
}

impl Progress {
    fn new() -> Self {
        Self { enabled: std::io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, what: &str, live: &Live, viewers: usize) {
        let (now, packets) = (Instant::now(), load(&live.packets));
        let due = self.shown.is_none_or(|(at, _)| at + Duration::from_millis(500) <= now);
        if !self.enabled || !due {
            return;
        }
        let rate = self.shown.map_or(0.0, |(at, before)| {
            (packets - before) as f64 / now.duration_since(at).as_secs_f64()
        });
        self.shown = Some((now, packets));
        eprint!(
            "\r{what}: {} of {viewers} play, {rate:.0} packets/s, {} ended \x1b[K",
            load(&live.playing),
            load(&live.ended)
        );
        let _unseen = std::io::stderr().flush();
    }

    fn end(&mut self) {
        if self.enabled {
            eprint!("\r\x1b[K");
        }
    }
}

fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

fn report(
    config: &LoadConfig,
    run: &Run<'_>,
    window: &Window,
    outcomes: &[Outcome],
    awaited: Kind,
) -> Report {
    let viewers: Vec<&Viewer> = outcomes.iter().flat_map(|outcome| &outcome.viewers).collect();
    let (mut packets, mut latency) = (Packets::default(), Histogram::default());
    let (mut joins, mut connects) = (Histogram::default(), Histogram::default());
    for viewer in viewers.iter().filter(|viewer| viewer.hears) {
        let Some(playing) = playing_after(viewer, awaited) else { continue };
        joins.record(playing.as_nanos() as u64);
        if let Some(after) = viewer.connected_after {
            connects.record(after.as_nanos() as u64);
        }
        packets.add(viewer, &window.audio, &window.video);
    }
    outcomes.iter().for_each(|outcome| latency.merge(&outcome.latency));
    let forwarded = packets.received + window.sink_dropped;
    let per_packet = |ns: u64| ns as f64 / 1000.0 / forwarded.max(1) as f64;
    let joining_cpu = run.joining.as_ref().and_then(|joining| joining.cpu);
    let server = window.cpu.map(|cpu| ServerCost {
        us_per_packet: per_packet(cpu.process_ns),
        shard_us_per_packet: (cpu.shards_ns > 0).then(|| per_packet(cpu.shards_ns)),
        user_us_per_packet: per_packet(cpu.user_ns),
        system_us_per_packet: per_packet(cpu.system_ns),
        cores: cpu.process_ns as f64 / 1e9 / window.seconds,
        waited_percent: cpu.waited_ns as f64 / 1e7 / window.seconds,
        cpu_ms_per_join: joining_cpu
            .map(|cpu| cpu.process_ns as f64 / 1e6 / load(&run.live.connected).max(1) as f64),
        rss_mib: window.rss.map(|rss| rss as f64 / 1048576.0),
        rss_kib_per_viewer: window.rss.zip(run.rss_before).map(|(after, before)| {
            (after as f64 - before as f64) / 1024.0 / viewers.len().max(1) as f64
        }),
    });
    let sending = window.metrics.as_ref().and_then(|(early, late)| {
        let datagrams = late.increase(early, "sent_datagrams_total")?;
        let messages = late.increase(early, "sent_messages_total")?;
        let copied = late.increase(early, "copied_bytes_total");
        Some(Sending {
            packets_per_message: datagrams / messages.max(1.0),
            packets_per_message_ideal: config.trace.packets_per_message_ideal(),
            copied_bytes_per_packet: copied.map(|bytes| bytes / forwarded.max(1) as f64),
        })
    });
    Report {
        machine: server::machine(),
        trace: config.trace_name.clone(),
        publishers: config.publishers,
        viewers: config.viewers,
        hearing: (0..config.viewers).filter(|viewer| config.hears(*viewer)).count(),
        connected: load(&run.live.connected) as usize,
        playing: joins.total() as usize,
        refused: run.refused.len(),
        ended: load(&run.live.ended) as usize,
        seconds: window.seconds,
        packets,
        forwarded,
        join_ms: Latency::in_ms(&joins),
        connect_ms: Latency::in_ms(&connects),
        latency_ms: Latency::in_ms(&latency),
        server,
        sending,
        joining_ticks: run.joining.as_ref().and_then(|joining| joining.ticks),
        window_ticks: window.metrics.as_ref().and_then(|(early, late)| {
            let mut longest = LongestTick::default();
            longest.take(Some(late));
            longest.ticks(early, late)
        }),
        generator: Generator {
            threads: config.threads,
            cores: window.own_cpu.process_ns as f64 / 1e9 / window.seconds,
            waited_percent: window.own_cpu.waited_ns as f64 / 1e7 / window.seconds,
            dropped_datagrams: outcomes.iter().map(|outcome| outcome.dropped_datagrams).sum(),
            takes_trains: config.gro == Gro::On,
        },
        errors: run
            .refused
            .iter()
            .take(3)
            .chain(outcomes.iter().flat_map(|outcome| &outcome.errors))
            .cloned()
            .collect(),
    }
}
