//! The quality of streams as histograms: what each live stream brought in a second, and how much of
//! what viewers were sent they reported missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use sfu::{Relay, ports::StreamKey, shard::ShardSnapshot};

use super::{Metrics, added};

/// Between two samples; shards hand their counters over as often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Fewer reported packets say nothing about loss.
const REPORTED_MIN: u64 = 20;

/// The histograms, and where the counters stood at the sample before.
#[derive(Debug)]
pub(super) struct Quality {
    bitrate: Histogram,
    loss: Histogram,
    freezes: IntCounter,
    silent_seconds: IntCounter,
    before: Mutex<Before>,
}

#[derive(Debug, Default)]
struct Before {
    at: Option<Instant>,
    streams: BTreeMap<StreamKey, Stream>,
    /// Reported and missing packets by shard.
    feedback: BTreeMap<u16, (u64, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    received_bytes: u64,
    received_packets: u64,
    is_silent: bool,
}

impl Quality {
    pub(super) fn new(registry: &Registry) -> Self {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            added(registry, Histogram::with_opts(options).expect("a valid name, fixed here"))
        };
        let counter = |name: &str, help: &str| {
            added(registry, IntCounter::new(name, help).expect("a valid name, fixed here"))
        };
        Self {
            bitrate: histogram(
                "sutantra_stream_bytes_per_second",
                "RTP payload that a live stream brought in a second; one observation a stream and second",
                &[4e3, 16e3, 32e3, 64e3, 125e3, 250e3, 500e3, 1e6, 2e6, 4e6],
            ),
            loss: histogram(
                "sutantra_viewer_loss_ratio",
                "Share of packets that a shard's viewers reported missing; one observation a shard and second with reports",
                &[0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
            ),
            freezes: counter(
                "sutantra_stream_freezes_total",
                "Times that a live stream fell silent for a second or longer",
            ),
            silent_seconds: counter(
                "sutantra_stream_silent_seconds_total",
                "Seconds in which a live stream brought nothing",
            ),
            before: Mutex::default(),
        }
    }

    /// Compares with the sample before. A stream's first sample is only remembered.
    pub(super) fn sample(&self, now: Instant, shards: &[ShardSnapshot]) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = before.at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        before.at = Some(now);
        let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) else {
            before.remember(shards);
            return;
        };
        for snapshot in shards {
            for stream in &snapshot.streams {
                if let Some(known) = before.streams.get(&stream.stream) {
                    let bytes = stream.received_bytes.saturating_sub(known.received_bytes);
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 in a second")]
                    self.bitrate.observe(bytes as f64 / seconds);
                    if stream.received_packets == known.received_packets {
                        self.silent_seconds.inc();
                        self.freezes.inc_by(u64::from(!known.is_silent));
                    }
                }
            }
            let counters = &snapshot.counters;
            if let Some((had, missed)) = before.feedback.get(&snapshot.shard) {
                let received = counters.feedback_received_packets.saturating_sub(*had);
                let lost = counters.feedback_lost_packets.saturating_sub(*missed);
                if received.saturating_add(lost) >= REPORTED_MIN {
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 in a second")]
                    self.loss.observe(lost as f64 / (received + lost) as f64);
                }
            }
        }
        before.remember(shards);
    }
}

impl Before {
    /// Streams that ended are forgotten with it.
    fn remember(&mut self, shards: &[ShardSnapshot]) {
        let old = std::mem::take(&mut self.streams);
        for snapshot in shards {
            let counters = &snapshot.counters;
            let feedback = (counters.feedback_received_packets, counters.feedback_lost_packets);
            self.feedback.insert(snapshot.shard, feedback);
            for stream in &snapshot.streams {
                let is_silent = old
                    .get(&stream.stream)
                    .is_some_and(|known| known.received_packets == stream.received_packets);
                let (received_bytes, received_packets) =
                    (stream.received_bytes, stream.received_packets);
                self.streams
                    .insert(stream.stream, Stream { received_bytes, received_packets, is_silent });
            }
        }
    }
}

/// Samples each second until the relay is gone.
///
/// # Errors
/// The system gives no thread.
pub fn watch(metrics: Arc<Metrics>, relay: &Arc<Relay>) -> std::io::Result<()> {
    let relay: Weak<Relay> = Arc::downgrade(relay);
    let run = move || {
        while let Some(relay) = relay.upgrade() {
            metrics.quality.sample(Instant::now(), &relay.counters());
            drop(relay);
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("quality".to_owned()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use sfu::shard::{ShardCounters, StreamSnapshot};

    use super::*;

    fn shard(packets: u64, bytes: u64, reported: u64, lost: u64) -> ShardSnapshot {
        let stream = StreamSnapshot {
            stream: StreamKey(7),
            received_packets: packets,
            received_bytes: bytes,
            subscribers: 1,
            open: 1,
        };
        let counters = ShardCounters {
            feedback_received_packets: reported,
            feedback_lost_packets: lost,
            ..Default::default()
        };
        ShardSnapshot { counters, streams: vec![stream], ..Default::default() }
    }

    /// R13
    #[test]
    fn a_second_of_a_stream_is_one_observation_of_its_bitrate_and_its_viewers_loss() {
        let quality = Quality::new(&Registry::new());
        let begin = Instant::now();
        let mut seconds = 0;
        let mut sample = |shards: &[ShardSnapshot]| {
            quality.sample(begin + Duration::from_secs(seconds), shards);
            seconds += 1;
        };
        sample(&[shard(10, 1_000, 0, 0)]);
        assert_eq!(quality.bitrate.get_sample_count(), 0, "the first one is only remembered");
        sample(&[shard(110, 126_000, 990, 10)]);
        assert_eq!(quality.bitrate.get_sample_sum(), 125e3);
        assert_eq!((quality.loss.get_sample_count(), quality.loss.get_sample_sum()), (1, 0.01));
        // Few reports say nothing; silence is a freeze once, and counts on.
        sample(&[shard(110, 126_000, 1_000, 10)]);
        sample(&[shard(110, 126_000, 1_000, 10)]);
        assert_eq!(quality.loss.get_sample_count(), 1);
        assert_eq!((quality.freezes.get(), quality.silent_seconds.get()), (1, 2));
        sample(&[shard(111, 126_100, 1_000, 10)]);
        sample(&[shard(111, 126_100, 1_000, 10)]);
        assert_eq!((quality.freezes.get(), quality.silent_seconds.get()), (2, 3));
        // A stream that ended is forgotten; its successor begins anew.
        sample(&[]);
        assert!(quality.before.lock().expect("ours").streams.is_empty());
    }
}
