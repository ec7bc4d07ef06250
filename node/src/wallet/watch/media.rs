//! What arrived: how much media in time and bytes, and what a quality report says about it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ::wallet::Received;

use super::peer::PacketSeen;

/// A relay counts in slots of half a second: a packet stands for the half second after it.
const SLOT: Duration = Duration::from_millis(500);
/// A longer silence ends a run of media; a shorter one may be a busy machine's.
const GAP: Duration = Duration::from_millis(1_500);
/// Sources whose sequence numbers are followed; a relay sends two or three.
const SOURCES_MAX: usize = 16;
/// Runs of media that are kept for the summary.
const RUNS_MAX: usize = 1000;

/// Everything since the beginning of the session.
pub struct Media {
    began: Instant,
    covered_until: Option<Instant>,
    last_packet: Option<Instant>,
    last_frame: Option<Instant>,
    /// Time that packets stand for.
    covered: Duration,
    pub packets: u64,
    /// RTP payload.
    pub bytes: u64,
    /// Of video.
    pub frames: u64,
    /// Begin and end of each run, since `began`.
    pub runs: Vec<(Duration, Duration)>,
    sources: BTreeMap<u32, Source>,
    taken: Counts,
    reported: Counts,
    freezes: u16,
    freeze_ms: u32,
    jitter_us: f64,
}

struct Source {
    first: u64,
    highest: u64,
    packets: u64,
    /// Arrival and timestamp of the last packet of another frame.
    last: (Instant, u32),
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    ms: u64,
    packets: u64,
    bytes: u64,
    frames: u64,
    lost: u64,
    runs: usize,
}

impl Media {
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            covered_until: None,
            last_packet: None,
            last_frame: None,
            covered: Duration::ZERO,
            packets: 0,
            bytes: 0,
            frames: 0,
            runs: Vec::new(),
            sources: BTreeMap::new(),
            taken: Counts::default(),
            reported: Counts::default(),
            freezes: 0,
            freeze_ms: 0,
            jitter_us: 0.0,
        }
    }

    /// One packet arrived.
    pub fn note(&mut self, now: Instant, packet: &PacketSeen) {
        self.packets += 1;
        self.bytes += packet.payload_bytes;
        let from = self.covered_until.map_or(now, |until| until.max(now));
        // Whole time: parts of milliseconds of many packets add up to what a relay wants to be paid.
        self.covered += now + SLOT - from;
        self.covered_until = Some(now + SLOT);

        let at = now - self.began;
        let goes_on = self.last_packet.is_some_and(|last| now < last + GAP);
        let is_full = self.runs.len() >= RUNS_MAX;
        match self.runs.last_mut() {
            Some(run) if goes_on => run.1 = at,
            Some(_) | None if !is_full => self.runs.push((at, at)),
            Some(_) | None => {}
        }
        self.last_packet = Some(now);
        self.follow(now, packet);
        if packet.is_video && packet.marker {
            self.frames += 1;
            // A picture that stands longer than a slot; what is paused is no freeze.
            let stood = self.last_frame.map(|last| now - last);
            if let Some(stood) = stood.filter(|stood| *stood > SLOT && goes_on) {
                self.freezes = self.freezes.saturating_add(1);
                let ms = u32::try_from(stood.as_millis()).unwrap_or(u32::MAX);
                self.freeze_ms = self.freeze_ms.saturating_add(ms);
            }
            self.last_frame = Some(now);
        }
    }

    /// Sequence numbers, and interarrival jitter of video (RFC 3550 §A.8).
    fn follow(&mut self, now: Instant, packet: &PacketSeen) {
        let PacketSeen { ssrc, seq, timestamp, .. } = *packet;
        if !self.sources.contains_key(&ssrc) && self.sources.len() >= SOURCES_MAX {
            return;
        }
        let fresh = || Source { first: seq, highest: seq, packets: 0, last: (now, timestamp) };
        let source = self.sources.entry(ssrc).or_insert_with(fresh);
        source.packets += 1;
        source.first = source.first.min(seq);
        source.highest = source.highest.max(seq);
        let (arrived, stamped) = source.last;
        if packet.is_video && stamped != timestamp {
            let ticks = f64::from(timestamp.wrapping_sub(stamped).cast_signed());
            let apart_us = (now - arrived).as_secs_f64() * 1e6 - ticks / 90_000.0 * 1e6;
            self.jitter_us += (apart_us.abs() - self.jitter_us) / 16.0;
            source.last = (now, timestamp);
        }
    }

    fn counts(&self) -> Counts {
        let lost = self
            .sources
            .values()
            .map(|source| (source.highest - source.first + 1).saturating_sub(source.packets));
        Counts {
            ms: self.ms(),
            packets: self.packets,
            bytes: self.bytes,
            frames: self.frames,
            lost: lost.sum(),
            runs: self.runs.len(),
        }
    }

    /// Time that packets stand for, ms.
    pub fn ms(&self) -> u64 {
        u64::try_from(self.covered.as_millis()).unwrap_or(u64::MAX)
    }

    /// Media time and bytes since the last call.
    pub fn take(&mut self) -> (u64, u64) {
        let (now, before) = (self.counts(), self.taken);
        self.taken = now;
        (now.ms - before.ms, now.bytes - before.bytes)
    }

    /// When the first packet came, since the beginning.
    pub fn first(&self) -> Option<Duration> {
        self.runs.first().map(|run| run.0)
    }

    /// What a quality report says about the time since the last one; `from_ms` and `to_ms` in unix
    /// ms.
    pub fn report(&mut self, from_ms: u64, to_ms: u64) -> Received {
        let (now, before) = (self.counts(), self.reported);
        self.reported = now;
        let span_ms = to_ms.saturating_sub(from_ms);
        let bits = (now.bytes - before.bytes) * 8;
        let whole = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let short = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        let first_ms = self.first().map_or(0, |first| first.as_millis() as u64);
        Received {
            from_ms,
            to_ms,
            packets: now.packets - before.packets,
            lost: whole(now.lost.saturating_sub(before.lost)),
            // Not below zero, and far below 2^32 µs: a cast saturates.
            jitter_us: self.jitter_us as u32,
            // Not measured here.
            rtt_us: 0,
            freezes: std::mem::take(&mut self.freezes),
            freeze_ms: std::mem::take(&mut self.freeze_ms),
            frames: whole(now.frames - before.frames),
            kbps: whole(bits / span_ms.max(1)),
            first_frame_ms: short(first_ms),
            pauses: short(
                (now.runs - before.runs).saturating_sub(usize::from(before.runs == 0)) as u64
            ),
            pause_ms: whole(span_ms.saturating_sub(now.ms - before.ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u64, marker: bool) -> PacketSeen {
        let timestamp = u32::try_from(seq * 3000).expect("small");
        PacketSeen { is_video: true, marker, ssrc: 1, seq, timestamp, payload_bytes: 100 }
    }

    #[test]
    fn a_packet_stands_for_half_a_second_and_silence_for_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut media = Media::new(start);
        for (seq, ms) in (0..30).map(|n| (n, n * 100)) {
            media.note(at(ms), &packet(seq, true));
        }
        assert_eq!((media.ms(), media.take()), (3_400, (3_400, 3_000)));
        // Many packets in each millisecond: none of them loses its part of one.
        let mut dense = Media::new(start);
        for n in 0..50_000_u64 {
            dense.note(start + Duration::from_micros(n * 333), &packet(n, false));
        }
        assert_eq!(dense.ms(), 50_000 * 333 / 1000 + 499);
        media.note(at(10_000), &packet(31, true));
        assert_eq!((media.take(), media.take()), ((500, 100), (0, 0)));
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!(media.runs, [(ms(0), ms(2_900)), (ms(10_000), ms(10_000))]);
        let Received { packets, lost, frames, pauses, pause_ms, .. } = media.report(0, 10_500);
        assert_eq!((packets, lost, frames, pauses, pause_ms), (31, 1, 31, 1, 6_600));
        let Received { packets, lost, pauses, .. } = media.report(10_500, 11_000);
        assert_eq!((packets, lost, pauses), (0, 0, 0));
    }
}
