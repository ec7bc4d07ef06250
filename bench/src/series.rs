//! What happened when: a sample each half second, of whatever a run counts.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::histogram::Histogram;
use crate::server::{self, CpuSample};

/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Samples kept; beyond it every second one is dropped, and they are taken half as often.
const SAMPLES_MAX: usize = 4096;

/// A phase of a run, in order; a run begins with one of the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Publishers connect.
    Publishing,
    /// Idle peers connect.
    Idling,
    /// Viewers, or peers of rooms, join.
    Joining,
    /// All are there; nothing is counted yet.
    Settling,
    /// The window.
    Measuring,
    /// What is on its way arrives.
    Draining,
}

impl Phase {
    /// Of a run with publishers and viewers.
    pub const OF_LOAD: [Self; 5] =
        [Self::Publishing, Self::Joining, Self::Settling, Self::Measuring, Self::Draining];
    /// Of a run with rooms.
    pub const OF_ROOMS: [Self; 5] =
        [Self::Idling, Self::Joining, Self::Settling, Self::Measuring, Self::Draining];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Idling => "idling",
            Self::Joining => "joining",
            Self::Settling => "settling",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// Something that was seen at the end of an interval.
pub trait Timed {
    /// Seconds since the run began.
    fn at_s(&self) -> f64;
    /// The phase at that moment.
    fn phase(&self) -> Phase;
}

/// What a run has counted from its beginning up to one moment.
pub trait Counted: Sized {
    /// What is seen in one interval.
    type Sample: Timed + Copy;

    /// What an interval was, from the counts at its two ends.
    fn sample(interval: &Interval<'_, Self>) -> Self::Sample;
}

/// The time between two samples.
pub struct Interval<'a, C> {
    /// Its end, seconds since the run began.
    pub at_s: f64,
    /// At its end.
    pub phase: Phase,
    /// Its length.
    pub seconds: f64,
    /// Counts at its begin.
    pub before: &'a C,
    /// Counts at its end.
    pub late: &'a C,
    /// CPU time of the server's process in it.
    pub server_ns: Option<f64>,
    /// The server's resident set at its end.
    pub rss_mib: Option<f64>,
    /// Cores that the generator kept busy.
    pub generator_cores: f64,
    latency: &'a Histogram,
}

impl<C> Interval<'_, C> {
    /// How much a count has grown.
    pub fn grown(&self, of: impl Fn(&C) -> u64) -> f64 {
        of(self.late).saturating_sub(of(self.before)) as f64
    }

    /// How much it has grown a second.
    pub fn rate(&self, of: impl Fn(&C) -> u64) -> f64 {
        self.grown(of) / self.seconds
    }

    /// CPU µs of the server for each of `count` things; unknown when there were none.
    pub fn server_us_for_each(&self, count: f64) -> Option<f64> {
        self.server_ns.filter(|_| count > 0.0).map(|ns| ns / 1e3 / count)
    }

    /// Cores that the server kept busy.
    pub fn server_cores(&self) -> Option<f64> {
        self.server_ns.map(|ns| ns / 1e9 / self.seconds)
    }

    /// A percentile of the latencies; unknown when there were none.
    pub fn latency_ms(&self, percent: f64) -> Option<f64> {
        (self.latency.total() > 0).then(|| self.latency.percentile_ns(percent) as f64 / 1e6)
    }
}

struct Moment<C> {
    at: Instant,
    counts: C,
    server: Option<CpuSample>,
    own: Option<CpuSample>,
}

impl<C> Moment<C> {
    fn look(at: Instant, pid: Option<u32>, counts: C) -> Self {
        let server = pid.and_then(|pid| CpuSample::take(pid).ok());
        Self { at, counts, server, own: CpuSample::take(std::process::id()).ok() }
    }
}

/// Takes the samples.
pub struct Sampler<C: Counted> {
    began: Instant,
    every: Duration,
    pid: Option<u32>,
    before: Moment<C>,
    /// All samples so far.
    pub samples: Vec<C::Sample>,
}

impl<C: Counted> Sampler<C> {
    /// Begins with these counts; `pid` is the server's.
    pub fn start(pid: Option<u32>, counts: C) -> Self {
        let began = Instant::now();
        let before = Moment::look(began, pid, counts);
        Self { began, every: SAMPLE_EVERY, pid, before, samples: Vec::new() }
    }

    /// Takes a sample when one is due; `look` gives the counts and the latencies since the last.
    pub fn tick(
        &mut self,
        phase: Phase,
        look: impl FnOnce() -> (C, Histogram),
    ) -> Option<C::Sample> {
        let now = Instant::now();
        if now < self.before.at + self.every {
            return None;
        }
        let (counts, latency) = look();
        let late = Moment::look(now, self.pid, counts);
        let sample = C::sample(&self.interval(phase, &late, &latency));
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

    fn interval<'a>(
        &'a self,
        phase: Phase,
        late: &'a Moment<C>,
        latency: &'a Histogram,
    ) -> Interval<'a, C> {
        let before = &self.before;
        let seconds = late.at.duration_since(before.at).as_secs_f64();
        let used = |late: &Option<CpuSample>, before: &Option<CpuSample>| {
            Some(late.as_ref()?.since(before.as_ref()?).process_ns as f64)
        };
        let rss = self.pid.and_then(|pid| server::rss_bytes(pid).ok());
        Interval {
            at_s: late.at.duration_since(self.began).as_secs_f64(),
            phase,
            seconds,
            before: &before.counts,
            late: &late.counts,
            server_ns: used(&late.server, &before.server),
            rss_mib: rss.map(|bytes| bytes as f64 / 1_048_576.0),
            generator_cores: used(&late.own, &before.own).unwrap_or(0.0) / 1e9 / seconds,
            latency,
        }
    }

    /// As if an interval had gone by.
    #[cfg(test)]
    pub(crate) fn let_one_be_due(&mut self) {
        self.before.at -= self.every;
    }
}
