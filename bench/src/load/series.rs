//! What happened when in a run with viewers: of the server, the viewers and the generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::payload::Kind;
use crate::publisher::Published;
use crate::series::{Counted, Interval, Phase, Timed};
use crate::sink::Sink;
use crate::worker::Live;

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

impl Timed for Sample {
    fn at_s(&self) -> f64 {
        self.at_s
    }

    fn phase(&self) -> Phase {
        self.phase
    }
}

/// What was counted from the beginning.
pub struct Counts {
    published: u64,
    packets: u64,
    spanned: u64,
    sunk: u64,
    connected: u64,
    playing: u64,
    ended: u64,
}

impl Counted for Counts {
    type Sample = Sample;

    fn sample(interval: &Interval<'_, Self>) -> Sample {
        let received = interval.grown(|counts| counts.packets);
        let forwarded = received + interval.grown(|counts| counts.sunk);
        let spanned = interval.grown(|counts| counts.spanned);
        Sample {
            at_s: interval.at_s,
            phase: interval.phase,
            published_per_second: interval.rate(|counts| counts.published),
            received_per_second: received / interval.seconds,
            forwarded_per_second: forwarded / interval.seconds,
            us_per_packet: interval.server_us_for_each(forwarded),
            server_cores: interval.server_cores(),
            rss_mib: interval.rss_mib,
            latency_p50_ms: interval.latency_ms(50.0),
            latency_p99_ms: interval.latency_ms(99.0),
            missing_percent: 100.0 * (spanned - received).max(0.0) / spanned.max(1.0),
            joins_per_second: interval.rate(|counts| counts.connected),
            playing: interval.late.playing,
            ended: interval.late.ended,
            generator_cores: interval.generator_cores,
        }
    }
}

/// Where a run's counts are read.
pub struct Gauges {
    /// What viewers count.
    pub live: Arc<Live>,
    /// What publishers count.
    pub published: Vec<Arc<Published>>,
    /// Who takes what viewers do not decrypt.
    pub sink: Option<Arc<dyn Sink>>,
    /// Latencies, from each worker now and then.
    pub recent: Receiver<Histogram>,
}

impl Gauges {
    /// What is counted by now, and the latencies since the last look.
    pub fn look(&self) -> (Counts, Histogram) {
        let live = &self.live;
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let sent =
            |published: &Arc<Published>| published.next(Kind::Audio) + published.next(Kind::Video);
        let counts = Counts {
            published: self.published.iter().map(sent).sum(),
            packets: load(&live.packets),
            spanned: load(&live.spanned),
            // What cannot be read now is seen at the window's edges, where it is an error.
            sunk: self.sink.as_ref().and_then(|sink| sink.dropped().ok()).unwrap_or(0),
            connected: load(&live.connected),
            playing: load(&live.playing).saturating_sub(load(&live.departed)),
            ended: load(&live.ended),
        };
        let mut latency = Histogram::default();
        self.recent.try_iter().for_each(|recent| latency.merge(&recent));
        (counts, latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Sampler;

    #[test]
    fn rates_are_of_the_interval_and_what_was_overtaken_is_missing() {
        let live = Arc::new(Live::default());
        let (sender, recent) = std::sync::mpsc::channel();
        let published = vec![Arc::new(Published::default())];
        let gauges = Gauges { live: Arc::clone(&live), published, sink: None, recent };
        let mut sampler = Sampler::start(Some(std::process::id()), gauges.look().0);
        assert!(sampler.tick(Phase::Joining, || gauges.look()).is_none(), "none is due");
        live.packets.store(90, Ordering::Relaxed);
        live.spanned.store(100, Ordering::Relaxed);
        live.playing.store(3, Ordering::Relaxed);
        live.departed.store(1, Ordering::Relaxed);
        let mut latency = Histogram::default();
        (1..=100).for_each(|ms| latency.record(ms * 1_000_000));
        sender.send(latency).expect("the gauges listen");
        sampler.let_one_be_due();
        let sample = sampler.tick(Phase::Measuring, || gauges.look()).expect("one is due");
        assert!((sample.received_per_second - 180.0).abs() < 20.0, "{sample:?}");
        assert!((sample.missing_percent - 10.0).abs() < 1e-9 && sample.playing == 2);
        let p99 = sample.latency_p99_ms.expect("there was latency");
        assert!((p99 - 99.0).abs() < 4.0 && sample.us_per_packet.is_some());
        sampler.let_one_be_due();
        let quiet = sampler.tick(Phase::Draining, || gauges.look()).expect("one is due");
        assert_eq!((quiet.latency_p99_ms, quiet.us_per_packet), (None, None));
        assert_eq!((quiet.received_per_second, sampler.samples.len()), (0.0, 2));
    }
}
