//! What is seen of a run with viewers while it goes on.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::LoadConfig;
use super::series::Sample;
use crate::screen::{Row, Scene, Screen, number};
use crate::series::Phase;
use crate::worker::Live;

/// For one run.
pub(super) fn screen(config: &LoadConfig) -> Screen<Sample> {
    let rooms =
        if config.rooms > 1 { format!("{} rooms × ", config.rooms) } else { String::new() };
    let title = format!(
        "{rooms}{} × {} -> {} viewers, {:?}",
        config.publishers, config.trace_name, config.viewers, config.duration
    );
    Screen::new(config.show, title, Phase::OF_LOAD)
}

/// Viewers, as many as there are by now.
pub(super) struct Crowd<'a> {
    /// What they count.
    pub live: &'a Live,
    /// How many there are to be.
    pub viewers: usize,
    /// How many were to join by now.
    pub asked: usize,
    /// Of those, how many were refused.
    pub refused: usize,
}

impl Crowd<'_> {
    fn playing(&self) -> u64 {
        load(&self.live.playing).saturating_sub(load(&self.live.departed))
    }
}

impl Scene for Crowd<'_> {
    type Sample = Sample;
    const ROWS: &'static [Row<Sample>] = &[
        ("in", |s| Some(s.published_per_second), 0, " packets/s"),
        ("out", |s| Some(s.forwarded_per_second), 0, " packets/s"),
        ("missing", |s| Some(s.missing_percent), 3, " %"),
        ("latency", |s| s.latency_p99_ms, 2, " ms p99"),
        ("cost", |s| s.us_per_packet, 2, " µs a packet"),
        ("server", |s| s.server_cores, 2, " cores"),
        ("memory", |s| s.rss_mib, 1, " MiB"),
        ("generator", |s| Some(s.generator_cores), 2, " cores"),
    ];

    fn line(&self, last: Option<&Sample>) -> String {
        let mut line = format!("{} of {} play", self.playing(), self.viewers);
        if let Some(sample) = last {
            let _infallible = write!(
                line,
                ", {:.0} packets/s in, {:.0} out, {:.2} % missing, p99 {}, server {}, generator {:.2} cores",
                sample.published_per_second,
                sample.forwarded_per_second,
                sample.missing_percent,
                number(sample.latency_p99_ms, 2, " ms"),
                number(sample.server_cores, 2, " cores"),
                sample.generator_cores,
            );
        }
        line
    }

    fn share(&self, phase: Phase) -> Option<f64> {
        (phase == Phase::Joining)
            .then(|| load(&self.live.ready) as f64 / self.viewers.max(1) as f64)
    }

    fn counts(&self) -> Vec<String> {
        let (asked, refused, playing) = (self.asked, self.refused, self.playing());
        vec![format!(
            "viewers    {asked} asked, {} connected, {playing} play, {refused} refused, {} ended, {} left",
            load(&self.live.connected),
            load(&self.live.ended),
            load(&self.live.departed),
        )]
    }
}

fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}
