//! What happened when in a run of rooms.

use serde::Serialize;

use super::engine::Counts;
use crate::series::{Counted, Interval, Phase, Timed};

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

impl Timed for Sample {
    fn at_s(&self) -> f64 {
        self.at_s
    }

    fn phase(&self) -> Phase {
        self.phase
    }
}

impl Counted for Counts {
    type Sample = Sample;

    fn sample(interval: &Interval<'_, Self>) -> Sample {
        let delivered = interval.grown(|counts| counts.delivered);
        Sample {
            at_s: interval.at_s,
            phase: interval.phase,
            sent_per_second: interval.rate(|counts| counts.sent),
            delivered_per_second: delivered / interval.seconds,
            joins_per_second: interval.rate(|counts| counts.joined),
            presence_per_second: interval.rate(|counts| counts.presence),
            open: interval.late.open,
            latency_p50_ms: interval.latency_ms(50.0),
            latency_p99_ms: interval.latency_ms(99.0),
            us_per_signal: interval.server_us_for_each(delivered),
            server_cores: interval.server_cores(),
            rss_mib: interval.rss_mib,
            generator_cores: interval.generator_cores,
        }
    }
}
