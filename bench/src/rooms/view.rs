//! What is seen of a run of rooms while it goes on.

use std::fmt::Write as _;

use super::config::RoomsConfig;
use super::engine::Counts;
use super::series::Sample;
use crate::screen::{Row, Scene, Screen, number};
use crate::series::Phase;

/// For one run.
pub(super) fn screen(config: &RoomsConfig) -> Screen<Sample> {
    let mut title = format!("{} rooms of {} peers", config.rooms, config.peers_per_room);
    let more = [
        (config.signals_per_second, "signals/s"),
        (config.idle as f64, "idle"),
        (f64::from(config.churn_per_second), "joins/s"),
    ];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0.0) {
        let _infallible = write!(title, ", {count:.0} {what}");
    }
    let _infallible = write!(title, ", {:?}", config.duration);
    Screen::new(config.show, title, Phase::OF_ROOMS)
}

/// Peers, as many as there are by now.
pub(super) struct Crowd<'a> {
    /// What was counted of them.
    pub counts: &'a Counts,
    /// How many there are to be, but for those that come and go.
    pub peers: usize,
}

impl Scene for Crowd<'_> {
    type Sample = Sample;
    const ROWS: &'static [Row<Sample>] = &[
        ("sent", |s| Some(s.sent_per_second), 0, " signals/s"),
        ("arrived", |s| Some(s.delivered_per_second), 0, " signals/s"),
        ("joins", |s| Some(s.joins_per_second), 0, " peers/s"),
        ("presence", |s| Some(s.presence_per_second), 0, " messages/s"),
        ("latency", |s| s.latency_p99_ms, 2, " ms p99"),
        ("cost", |s| s.us_per_signal, 1, " µs a signal"),
        ("server", |s| s.server_cores, 2, " cores"),
        ("memory", |s| s.rss_mib, 1, " MiB"),
        ("generator", |s| Some(s.generator_cores), 2, " cores"),
    ];

    fn line(&self, last: Option<&Sample>) -> String {
        let counts = self.counts;
        let mut line = format!(
            "{} connections, {} peers joined, {} refused, {} ended",
            counts.open, counts.joined, counts.refused, counts.ended
        );
        if let Some(sample) = last {
            let _infallible = write!(
                line,
                "; {:.0} signals/s sent, {:.0} arrived, p99 {}, server {}, generator {:.2} cores",
                sample.sent_per_second,
                sample.delivered_per_second,
                number(sample.latency_p99_ms, 2, " ms"),
                number(sample.server_cores, 2, " cores"),
                sample.generator_cores,
            );
        }
        line
    }

    fn share(&self, phase: Phase) -> Option<f64> {
        let counts = self.counts;
        match phase {
            Phase::Publishing | Phase::Settling | Phase::Measuring => None,
            Phase::Idling | Phase::Joining => {
                Some((counts.joined + counts.refused) as f64 / self.peers.max(1) as f64)
            }
            Phase::Draining => Some(counts.delivered as f64 / counts.sent.max(1) as f64),
        }
    }

    fn counts(&self) -> Vec<String> {
        let counts = self.counts;
        vec![
            format!(
                "peers      {} connections, {} joined, {} refused, {} ended",
                counts.open, counts.joined, counts.refused, counts.ended
            ),
            format!(
                "signals    {} sent, {} arrived, {} twice, {} out of order",
                counts.sent, counts.delivered, counts.doubled, counts.reordered
            ),
        ]
    }
}
