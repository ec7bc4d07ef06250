//! What happened when in a run of rooms: a sample each half second.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::engine::{Counts, Engine};
use crate::histogram::Histogram;
use crate::server::{self, CpuSample};

/// Between two samples; twice as long each time that there are too many.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Samples kept.
const SAMPLES_MAX: usize = 4096;

/// A phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Idle peers connect.
    Idling,
    /// Peers of rooms join.
    Joining,
    /// Offers flow; nothing is counted yet.
    Settling,
    /// The window.
    Measuring,
    /// What is on its way arrives.
    Draining,
}

impl Phase {
    /// In order.
    pub const ALL: [Self; 5] =
        [Self::Idling, Self::Joining, Self::Settling, Self::Measuring, Self::Draining];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idling => "idling",
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
    /// Offers a second that peers sent.
    pub sent_per_second: f64,
    /// Offers a second that arrived.
    pub delivered_per_second: f64,
    /// Peers a second that joined.
    pub joins_per_second: f64,
    /// `peer-joined` and `peer-left` a second.
    pub presence_per_second: f64,
    /// Connections open.
    pub open: u64,
    /// Median latency of the interval, over WebSockets.
    pub latency_p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub latency_p99_ms: Option<f64>,
    /// Server's CPU µs for each offer that arrived.
    pub us_per_signal: Option<f64>,
    /// Cores that the server kept busy.
    pub server_cores: Option<f64>,
    /// Its resident set.
    pub rss_mib: Option<f64>,
    /// Cores that the generator kept busy.
    pub generator_cores: f64,
}

struct Before {
    at: Instant,
    counts: Counts,
    server: Option<CpuSample>,
    own: Option<CpuSample>,
}

/// Takes the samples.
pub struct Sampler {
    began: Instant,
    every: Duration,
    pid: Option<u32>,
    before: Before,
    /// All so far.
    pub samples: Vec<Sample>,
}

fn look(at: Instant, pid: Option<u32>, counts: &Counts) -> Before {
    Before {
        at,
        counts: counts.clone(),
        server: pid.and_then(|pid| CpuSample::take(pid).ok()),
        own: CpuSample::take(std::process::id()).ok(),
    }
}

impl Sampler {
    /// Begins to count.
    pub fn start(pid: Option<u32>) -> Self {
        let began = Instant::now();
        let before = look(began, pid, &Counts::default());
        Self { began, every: SAMPLE_EVERY, pid, before, samples: Vec::new() }
    }

    /// Takes a sample when one is due.
    pub fn tick(&mut self, phase: Phase, engine: &mut Engine<'_>) -> Option<Sample> {
        let now = Instant::now();
        if now < self.before.at + self.every {
            return None;
        }
        let late = look(now, self.pid, &engine.counts);
        let sample = self.sample(phase, &late, &engine.recent);
        engine.recent = Histogram::default();
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

    fn sample(&self, phase: Phase, late: &Before, latency: &Histogram) -> Sample {
        let before = &self.before;
        let seconds = late.at.duration_since(before.at).as_secs_f64();
        let rate = |of: fn(&Counts) -> u64| {
            of(&late.counts).saturating_sub(of(&before.counts)) as f64 / seconds
        };
        let used = |late: &Option<CpuSample>, before: &Option<CpuSample>| {
            Some(late.as_ref()?.since(before.as_ref()?).process_ns as f64)
        };
        let server_ns = used(&late.server, &before.server);
        let delivered = rate(|counts| counts.delivered);
        let percentile = |percent: f64| {
            (latency.total() > 0).then(|| latency.percentile_ns(percent) as f64 / 1e6)
        };
        let rss = self.pid.and_then(|pid| server::rss_bytes(pid).ok());
        Sample {
            at_s: late.at.duration_since(self.began).as_secs_f64(),
            phase,
            sent_per_second: rate(|counts| counts.sent),
            delivered_per_second: delivered,
            joins_per_second: rate(|counts| counts.joined),
            presence_per_second: rate(|counts| counts.presence),
            open: late.counts.open,
            latency_p50_ms: percentile(50.0),
            latency_p99_ms: percentile(99.0),
            us_per_signal: server_ns
                .filter(|_| delivered > 0.0)
                .map(|ns| ns / 1e3 / (delivered * seconds)),
            server_cores: server_ns.map(|ns| ns / 1e9 / seconds),
            rss_mib: rss.map(|bytes| bytes as f64 / 1_048_576.0),
            generator_cores: used(&late.own, &before.own).unwrap_or(0.0) / 1e9 / seconds,
        }
    }
}
