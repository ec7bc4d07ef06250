//! What happened when: a sample each half second, of the server, the viewers and the generator.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::histogram::Histogram;
use crate::payload::Kind;
use crate::publisher::Published;
use crate::server::{self, CpuSample};
use crate::sink::Sink;
use crate::worker::Live;

/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Samples kept; beyond it every second one is dropped, and they are taken half as often.
const SAMPLES_MAX: usize = 4096;

/// A phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Publishers connect.
    Publishing,
    /// Viewers join.
    Joining,
    /// All play; nothing is counted yet.
    Settling,
    /// The window.
    Measuring,
    /// Retransmissions of the window's last packets arrive.
    Draining,
}

impl Phase {
    /// In order.
    pub const ALL: [Self; 5] =
        [Self::Publishing, Self::Joining, Self::Settling, Self::Measuring, Self::Draining];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Joining => "joining",
            Self::Settling => "settling",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// What was seen in one interval; rates are of this interval.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// End of the interval, seconds since the run began.
    pub at_s: f64,
    /// At its end.
    pub phase: Phase,
    /// Packets a second that publishers sent.
    pub published_per_second: f64,
    /// Distinct packets a second that viewers decrypted.
    pub received_per_second: f64,
    /// The same with what a sink dropped.
    pub forwarded_per_second: f64,
    /// Server's CPU µs per forwarded packet, whole process.
    pub us_per_packet: Option<f64>,
    /// Cores that the server kept busy.
    pub server_cores: Option<f64>,
    /// Its resident set.
    pub rss_mib: Option<f64>,
    /// Median latency of the interval.
    pub latency_p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub latency_p99_ms: Option<f64>,
    /// Packets of a hundred that a later one of the same track has overtaken and that have not come;
    /// a retransmission that comes lowers the next value.
    pub missing_percent: f64,
    /// Viewers connected a second.
    pub joins_per_second: f64,
    /// Viewers that play.
    pub playing: u64,
    /// Clients whose transport ended.
    pub ended: u64,
    /// Cores that the generator kept busy.
    pub generator_cores: f64,
}

struct Counts {
    at: Instant,
    published: u64,
    packets: u64,
    spanned: u64,
    sunk: u64,
    connected: u64,
    server: Option<CpuSample>,
    own: Option<CpuSample>,
}

/// Takes the samples.
pub struct Sampler {
    began: Instant,
    every: Duration,
    live: Arc<Live>,
    published: Vec<Arc<Published>>,
    sink: Option<Arc<dyn Sink>>,
    pid: Option<u32>,
    recent: Receiver<Histogram>,
    before: Counts,
    /// All samples so far.
    pub samples: Vec<Sample>,
}

impl Sampler {
    /// Begins to count.
    pub fn start(
        live: Arc<Live>,
        published: Vec<Arc<Published>>,
        sink: Option<Arc<dyn Sink>>,
        pid: Option<u32>,
        recent: Receiver<Histogram>,
    ) -> Self {
        let now = Instant::now();
        let before = counts(now, &live, &published, sink.as_deref(), pid);
        let (began, every, samples) = (now, SAMPLE_EVERY, Vec::new());
        Self { began, every, live, published, sink, pid, recent, before, samples }
    }

    /// Takes a sample when one is due.
    pub fn tick(&mut self, phase: Phase) -> Option<Sample> {
        let now = Instant::now();
        if now < self.before.at + self.every {
            return None;
        }
        let late = counts(now, &self.live, &self.published, self.sink.as_deref(), self.pid);
        let mut latency = Histogram::default();
        self.recent.try_iter().for_each(|recent| latency.merge(&recent));
        let sample = self.sample(phase, &late, &latency);
        self.before = late;
        self.samples.push(sample);
        if self.samples.len() >= SAMPLES_MAX {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.every *= 2;
        }
        Some(sample)
    }

    fn sample(&self, phase: Phase, late: &Counts, latency: &Histogram) -> Sample {
        let before = &self.before;
        let seconds = late.at.duration_since(before.at).as_secs_f64();
        let since = |late: u64, before: u64| late.saturating_sub(before) as f64;
        let received = since(late.packets, before.packets);
        let forwarded = received + since(late.sunk, before.sunk);
        let spanned = since(late.spanned, before.spanned);
        let used = |late: &Option<CpuSample>, before: &Option<CpuSample>| {
            Some(late.as_ref()?.since(before.as_ref()?).process_ns as f64)
        };
        let server_ns = used(&late.server, &before.server);
        let percentile = |percent: f64| {
            (latency.total() > 0).then(|| latency.percentile_ns(percent) as f64 / 1e6)
        };
        let load = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        Sample {
            at_s: late.at.duration_since(self.began).as_secs_f64(),
            phase,
            published_per_second: since(late.published, before.published) / seconds,
            received_per_second: received / seconds,
            forwarded_per_second: forwarded / seconds,
            us_per_packet: server_ns.filter(|_| forwarded > 0.0).map(|ns| ns / 1e3 / forwarded),
            server_cores: server_ns.map(|ns| ns / 1e9 / seconds),
            rss_mib: self
                .pid
                .and_then(|pid| server::rss_bytes(pid).ok())
                .map(|bytes| bytes as f64 / 1_048_576.0),
            latency_p50_ms: percentile(50.0),
            latency_p99_ms: percentile(99.0),
            missing_percent: 100.0 * (spanned - received).max(0.0) / spanned.max(1.0),
            joins_per_second: since(late.connected, before.connected) / seconds,
            playing: load(&self.live.playing).saturating_sub(load(&self.live.departed)),
            ended: load(&self.live.ended),
            generator_cores: used(&late.own, &before.own).unwrap_or(0.0) / 1e9 / seconds,
        }
    }
}

fn counts(
    at: Instant,
    live: &Live,
    published: &[Arc<Published>],
    sink: Option<&dyn Sink>,
    pid: Option<u32>,
) -> Counts {
    let load = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
    let sent =
        |published: &Arc<Published>| published.next(Kind::Audio) + published.next(Kind::Video);
    Counts {
        at,
        published: published.iter().map(sent).sum(),
        packets: load(&live.packets),
        spanned: load(&live.spanned),
        // What cannot be read now is seen at the window's edges, where it is an error.
        sunk: sink.and_then(|sink| sink.dropped().ok()).unwrap_or(0),
        connected: load(&live.connected),
        server: pid.and_then(|pid| CpuSample::take(pid).ok()),
        own: CpuSample::take(std::process::id()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_interval_and_what_was_overtaken_is_missing() {
        let live = Arc::new(Live::default());
        let (sender, recent) = std::sync::mpsc::channel();
        let published = vec![Arc::new(Published::default())];
        let pid = Some(std::process::id());
        let mut sampler = Sampler::start(Arc::clone(&live), published, None, pid, recent);
        assert!(sampler.tick(Phase::Joining).is_none(), "none is due");
        live.packets.store(90, Ordering::Relaxed);
        live.spanned.store(100, Ordering::Relaxed);
        live.playing.store(3, Ordering::Relaxed);
        live.departed.store(1, Ordering::Relaxed);
        let mut latency = Histogram::default();
        (1..=100).for_each(|ms| latency.record(ms * 1_000_000));
        sender.send(latency).expect("the sampler listens");
        // As if half a second had gone by.
        sampler.before.at -= SAMPLE_EVERY;
        let sample = sampler.tick(Phase::Measuring).expect("one is due");
        assert!((sample.received_per_second - 180.0).abs() < 20.0, "{sample:?}");
        assert!((sample.missing_percent - 10.0).abs() < 1e-9 && sample.playing == 2);
        let p99 = sample.latency_p99_ms.expect("there was latency");
        assert!((p99 - 99.0).abs() < 4.0 && sample.us_per_packet.is_some());
        sampler.before.at -= SAMPLE_EVERY;
        let quiet = sampler.tick(Phase::Draining).expect("one is due");
        assert_eq!((quiet.latency_p99_ms, quiet.us_per_packet), (None, None));
        assert_eq!((quiet.received_per_second, sampler.samples.len()), (0.0, 2));
    }
}
