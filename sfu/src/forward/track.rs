//! One track of a stream on one shard: what came in this tick, and what is kept for losses.

use std::time::{Duration, Instant};

use super::cache::Cache;
use super::keyframe::KeyframeRequester;
use super::packet::{Format, Packet, Pool};
use super::run::{self, Runs, Step};
use crate::limits::{CACHE_PACKETS, PENDING_PACKETS_MAX};
use crate::ports::Kind;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It leaves with this tick.
    New,
    /// It had come before, by retransmission say.
    Duplicate,
    /// Older than what the cache spans.
    TooOld,
    /// The tick is full.
    Dropped,
}

/// NTP and RTP time of one moment (from the publisher's sender report).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderTime {
    pub ntp: u64,
    pub rtp_timestamp: u32,
    pub at: Instant,
}

#[derive(Debug)]
pub struct Track {
    pub kind: Kind,
    pub format: Option<Format>,
    pub epoch: u32,
    pub cache: Cache,
    pub keyframes: KeyframeRequester,
    pub sender_time: Option<SenderTime>,
    /// Sequence numbers that came in this tick, in order of arrival.
    pub pending: Vec<u64>,
    /// When the oldest of `pending` came.
    pending_since: Option<Instant>,
    /// Nothing that comes soon could share a message with `pending`.
    is_complete: bool,
    /// One step for each of `pending`, made by [`Track::plan`].
    pub steps: Vec<Step>,
    highest: Option<u64>,
    /// Timestamp and arrival of the newest packet.
    pub newest: Option<(u32, Instant)>,
    /// A keyframe of this epoch came.
    pub keyframe_seen: bool,
}

impl Track {
    pub fn new(kind: Kind) -> Track {
        Track {
            kind,
            format: None,
            epoch: 0,
            cache: Cache::default(),
            keyframes: KeyframeRequester::default(),
            sender_time: None,
            pending: Vec::with_capacity(PENDING_PACKETS_MAX),
            pending_since: None,
            is_complete: false,
            steps: Vec::with_capacity(PENDING_PACKETS_MAX),
            highest: None,
            newest: None,
            keyframe_seen: false,
        }
    }

    /// Takes a packet in. A packet of another epoch or format starts the track anew.
    pub fn accept(&mut self, packet: Box<Packet>, pool: &mut Pool, now: Instant) -> Accepted {
        if packet.epoch != self.epoch || self.format.is_none_or(|format| format != packet.format) {
            self.restart(&packet, pool);
        }
        let sequence = packet.sequence;
        let too_old =
            self.highest.is_some_and(|highest| sequence + CACHE_PACKETS as u64 <= highest);
        let verdict = match () {
            () if too_old => Accepted::TooOld,
            () if self.cache.get(sequence).is_some() => Accepted::Duplicate,
            () if self.pending.len() == PENDING_PACKETS_MAX => Accepted::Dropped,
            () => Accepted::New,
        };
        if verdict != Accepted::New {
            pool.give(packet);
            return verdict;
        }
        if packet.starts_keyframe {
            self.keyframes.handle_keyframe();
        }
        if self.highest.is_none_or(|highest| sequence > highest) {
            self.highest = Some(sequence);
            self.newest = Some((packet.timestamp, now));
        }
        self.pending_since.get_or_insert(now);
        self.is_complete |= packet.marker || self.kind == Kind::Audio;
        self.pending.push(sequence);
        self.cache.insert(packet, pool);
        Accepted::New
    }

    fn restart(&mut self, packet: &Packet, pool: &mut Pool) {
        self.cache.clear(pool);
        self.clear_pending();
        self.highest = None;
        self.sender_time = None;
        self.epoch = packet.epoch;
        self.format = Some(packet.format);
    }

    /// Plans this tick's messages.
    pub fn plan(&mut self, runs: Runs) {
        let Track { pending, cache, steps, .. } = self;
        let lengths = pending.iter().map(|sequence| match cache.get(*sequence) {
            Some(packet) => packet.payload_bytes(),
            None => 0,
        });
        run::plan(lengths, runs, steps);
    }

    /// Ends the tick.
    pub fn clear_pending(&mut self) {
        self.pending.clear();
        self.pending_since = None;
        self.is_complete = false;
    }

    /// When what came is to leave: at once if nothing can be won by waiting (audio, the end of a
    /// frame, packets that another shard has gathered), else `gather` after the oldest came.
    pub fn due_at(&self, gather: Duration) -> Option<Instant> {
        let since = self.pending_since?;
        Some(if self.is_complete { since } else { since + gather })
    }

    /// What is pending has waited elsewhere.
    pub fn hurry(&mut self) {
        self.is_complete = true;
    }

    /// Our best knowledge of which RTP timestamp belongs to `now`, for a sender report.
    pub fn time_at(&self, now: Instant, ntp_now: u64) -> Option<(u64, u32)> {
        let rate = u64::from(self.format?.codec.clock_rate_hz());
        let ticks = |span: Duration| (span.as_micros() as u64 * rate / 1_000_000) as u32;
        match self.sender_time {
            Some(time) => {
                let elapsed = now.duration_since(time.at);
                let ntp = time.ntp.wrapping_add(ntp_span(elapsed));
                Some((ntp, time.rtp_timestamp.wrapping_add(ticks(elapsed))))
            }
            None => {
                let (timestamp, at) = self.newest?;
                Some((ntp_now, timestamp.wrapping_add(ticks(now.duration_since(at)))))
            }
        }
    }
}

/// A span as NTP 32.32 fixed point.
fn ntp_span(span: Duration) -> u64 {
    (span.as_secs() << 32) + ((u64::from(span.subsec_nanos()) << 32) / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Codec;

    fn packet(sequence: u64, epoch: u32) -> Box<Packet> {
        let mut packet = Pool::default().take();
        packet.sequence = sequence;
        packet.epoch = epoch;
        packet.format.codec = Codec::Vp8;
        packet.copy_payload(b"payload");
        packet
    }

    /// Feeds `sequence[:epoch]` words and compares the verdicts' initials.
    #[track_caller]
    fn check(feed: &str, want: &str) {
        let (mut track, mut pool) = (Track::new(Kind::Video), Pool::default());
        let verdict = |word: &str| {
            let (sequence, epoch) = word.split_once(':').unwrap_or((word, "0"));
            let packet = packet(sequence.parse().expect("number"), epoch.parse().expect("number"));
            match track.accept(packet, &mut pool, Instant::now()) {
                Accepted::New => 'n',
                Accepted::Duplicate => 'd',
                Accepted::TooOld => 'o',
                Accepted::Dropped => 'x',
            }
        };
        assert_eq!(feed.split(' ').map(verdict).collect::<String>(), want, "{feed}");
    }

    #[test]
    fn a_late_packet_is_forwarded_once() {
        check("10 11 13 12 12 13", "nnnndd");
        check("10 2000 976 977 10", "nnono"); // 976 is out of the cache's span, 977 is not.
    }

    #[test]
    fn a_publisher_that_comes_back_starts_anew() {
        check("5000 5001 3:1 4:1 3:1", "nnnnd");
    }

    #[test]
    fn a_full_tick_drops_and_says_so() {
        let (mut track, mut pool) = (Track::new(Kind::Video), Pool::default());
        for sequence in 0..PENDING_PACKETS_MAX as u64 {
            assert_eq!(track.accept(packet(sequence, 0), &mut pool, Instant::now()), Accepted::New);
        }
        let next = PENDING_PACKETS_MAX as u64;
        let verdict = |track: &mut Track, pool: &mut Pool| {
            track.accept(packet(next, 0), pool, Instant::now())
        };
        assert_eq!(verdict(&mut track, &mut pool), Accepted::Dropped);
        track.clear_pending();
        assert_eq!(verdict(&mut track, &mut pool), Accepted::New);
    }
}
