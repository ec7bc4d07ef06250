//! The longest turn of the server's media loops, by what it exports.

use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::report::Ticks;

/// The server's gauge of the longest turn in the last second, and its histogram of all turns.
const TICK_GAUGE: &str = "sutantra_sfu_longest_tick_seconds";
const TICK_HISTOGRAM: &str = "sutantra_sfu_tick_seconds_bucket";
/// Between two looks at the gauge.
const GAUGE_EVERY: Duration = Duration::from_millis(900);

/// Longest turn of the server's loops, by a gauge that tells of one second at a time.
#[derive(Default)]
pub struct LongestTick {
    looked: Option<Instant>,
    seconds: Option<f64>,
}

impl LongestTick {
    /// Asks for the gauge about once a second: more often would be a load of its own.
    pub fn look(&mut self, metrics: impl FnOnce() -> Option<Metrics>) {
        if self.looked.is_none_or(|at| at.elapsed() >= GAUGE_EVERY) {
            self.looked = Some(Instant::now());
            self.take(metrics().as_ref());
        }
    }

    /// Takes a page.
    pub fn take(&mut self, metrics: Option<&Metrics>) {
        let seconds = metrics.and_then(|metrics| metrics.largest(TICK_GAUGE));
        self.seconds = [self.seconds, seconds].into_iter().flatten().reduce(f64::max);
    }

    /// What is known of the turns between two pages.
    pub fn ticks(&self, early: &Metrics, late: &Metrics) -> Option<Ticks> {
        let over_1ms = late.increase(early, "_ticks_over_1ms_total")? as u64;
        let over_10ms = late.increase(early, "_ticks_over_10ms_total")? as u64;
        let edge = late.highest_bucket(early, TICK_HISTOGRAM);
        let longest = edge.filter(|edge| edge.is_finite()).or(self.seconds).or(edge)?;
        let longest_ms = longest.is_finite().then_some(longest * 1000.0);
        Some(Ticks { longest_ms, over_1ms, over_10ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_believed_before_a_gauge_and_neither_is_nothing() {
        let page = |text: &str| {
            let counts =
                "sutantra_sfu_ticks_over_1ms_total 7\nsutantra_sfu_ticks_over_10ms_total 2\n";
            Metrics::parse(&format!("{counts}{text}"))
        };
        let empty = Metrics::default();
        let mut longest = LongestTick::default();
        assert_eq!(longest.ticks(&empty, &page("")), None);
        longest.take(Some(&page("sutantra_sfu_longest_tick_seconds{shard=\"0\"} 0.004\n")));
        longest.take(Some(&page("sutantra_sfu_longest_tick_seconds 0.002\n")));
        let ticks = |longest_ms| Ticks { longest_ms, over_1ms: 7, over_10ms: 2 };
        assert_eq!(longest.ticks(&empty, &page("")), Some(ticks(Some(4.0))));
        let bucket = |edge: &str| page(&format!("{TICK_HISTOGRAM}{{le=\"{edge}\"}} 3\n"));
        assert_eq!(longest.ticks(&empty, &bucket("0.008")), Some(ticks(Some(8.0))));
        let beyond = bucket("+Inf");
        assert_eq!(longest.ticks(&empty, &beyond), Some(ticks(Some(4.0))), "the gauge saw it");
        assert_eq!(LongestTick::default().ticks(&empty, &beyond), Some(ticks(None)));
    }
}
