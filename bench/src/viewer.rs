//! What one viewer saw: which packets came, how often, how late, whether intact.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::payload::{self, Corrupt, Kind, Record};

/// Highest counter that is believed; a damaged one must not make us allocate.
const COUNTER_MAX: u64 = 1 << 30;
/// Sequence numbers per SSRC in which a repeated SRTP packet is recognized.
const WIRE_WINDOW: u16 = 128;
/// SSRCs watched for repeated SRTP packets; more are not watched.
const WIRE_STREAMS_MAX: usize = 8;

/// Whether payload bytes are compared with what was sent, or the record alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Every byte.
    Whole,
    /// Record and length.
    Record,
}

/// One track's packets by the publisher's counter.
#[derive(Debug, Clone, Default)]
pub struct Track {
    seen: Vec<u64>,
    lowest: Option<u64>,
    highest: Option<u64>,
    /// The same packet decrypted and delivered again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
}

/// What a packet added to an account: for figures that are read while the run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// 1 for a packet that had not come before.
    pub fresh: u64,
    /// Counters between the highest so far and this one, this one included: what is spanned and did
    /// not come is missing.
    pub spanned: u64,
}

/// One viewer's account.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Counts the viewers of a run.
    pub number: usize,
    publisher: u16,
    check: Check,
    /// It joined within the window: its packets count from its own first one.
    pub late: bool,
    /// Counters of audio and video at which it was told to leave; its packets count up to them.
    pub left: Option<[u64; 2]>,
    /// Media reaches it; one behind a sink need only be connected.
    pub hears: bool,
    /// Audio packets.
    pub audio: Track,
    /// Video packets.
    pub video: Track,
    /// From the `POST` to connected transport.
    pub connected_after: Option<Duration>,
    /// From the `POST` to the first decrypted packet of each track.
    pub audio_after: Option<Duration>,
    /// See `audio_after`.
    pub video_after: Option<Duration>,
    /// The first video packet began a keyframe.
    pub began_with_keyframe: Option<bool>,
    /// Payloads that differ from what was sent.
    pub corrupt: u64,
    /// Packets of another publisher.
    pub alien: u64,
    /// SRTP packets that came twice, before decryption.
    pub wire_repeats: u64,
    /// Retransmissions (RFC 4588).
    pub rtx: u64,
    /// SRTP and SRTCP packets that were thrown away before anybody looked at them.
    pub dropped_on_purpose: u64,
    /// SRTP packets on the wire, retransmissions among them.
    pub wire_packets: u64,
    /// Payloads that the transport opened and delivered.
    pub opened_packets: u64,
    wire: Vec<WireStream>,
}

#[derive(Debug, Clone)]
struct WireStream {
    ssrc: u32,
    highest: u16,
    seen: u128,
}

impl Track {
    fn note(&mut self, counter: u64) -> Progress {
        let (word, bit) = ((counter / 64) as usize, 1 << (counter % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return Progress::default();
        }
        self.seen[word] |= bit;
        if self.highest.is_some_and(|highest| counter < highest) {
            self.reordered += 1;
        }
        let spanned = self.highest.map_or(1, |highest| counter.saturating_sub(highest));
        self.highest = self.highest.max(Some(counter));
        self.lowest = Some(self.lowest.map_or(counter, |lowest| lowest.min(counter)));
        Progress { fresh: 1, spanned }
    }

    /// Counter of the first packet, by number.
    pub fn lowest(&self) -> Option<u64> {
        self.lowest
    }

    /// Longest run of missing packets among the counters `from..until`.
    pub fn longest_gap(&self, from: u64, until: u64) -> u64 {
        let (mut longest, mut gap) = (0, 0);
        for counter in from..until {
            gap = if self.has(counter) { 0 } else { gap + 1 };
            longest = longest.max(gap);
        }
        longest
    }

    fn has(&self, counter: u64) -> bool {
        let word = self.seen.get((counter / 64) as usize);
        word.is_some_and(|word| word >> (counter % 64) & 1 == 1)
    }

    /// Distinct packets among the counters `from..until`.
    pub fn received(&self, from: u64, until: u64) -> u64 {
        (from..until).filter(|counter| self.has(*counter)).count() as u64
    }
}

impl Viewer {
    /// Watches what `publisher` sends.
    pub fn new(publisher: u16, check: Check) -> Self {
        Self {
            number: 0,
            publisher,
            check,
            late: false,
            left: None,
            hears: true,
            audio: Track::default(),
            video: Track::default(),
            connected_after: None,
            audio_after: None,
            video_after: None,
            began_with_keyframe: None,
            corrupt: 0,
            alien: 0,
            wire_repeats: 0,
            rtx: 0,
            dropped_on_purpose: 0,
            wire_packets: 0,
            opened_packets: 0,
            wire: Vec::new(),
        }
    }

    /// Whose packets it waits for.
    pub fn publisher(&self) -> u16 {
        self.publisher
    }

    /// Looks at an SRTP packet before it is opened and counts it when it is a repeated one.
    pub fn note_wire(&mut self, ssrc: u32, seq: u16) {
        self.wire_packets += 1;
        let Some(stream) = self.wire.iter_mut().find(|stream| stream.ssrc == ssrc) else {
            if self.wire.len() < WIRE_STREAMS_MAX {
                self.wire.push(WireStream { ssrc, highest: seq, seen: 1 });
            }
            return;
        };
        let ahead = seq.wrapping_sub(stream.highest);
        if ahead != 0 && ahead < 0x8000 {
            stream.seen = stream.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            stream.highest = seq;
            return;
        }
        let behind = stream.highest.wrapping_sub(seq);
        if behind < WIRE_WINDOW {
            self.wire_repeats += u64::from(stream.seen >> behind & 1 == 1);
            stream.seen |= 1 << behind;
        }
    }

    /// What of the window's counters `from..until` of a track counts for this viewer.
    pub fn span(&self, kind: Kind, (from, until): (u64, u64)) -> (u64, u64) {
        let (track, at) = match kind {
            Kind::Audio => (&self.audio, 0),
            Kind::Video => (&self.video, 1),
        };
        let until = self.left.map_or(until, |left| until.min(left[at]));
        let first = track.lowest().unwrap_or(until);
        let from = if self.late { from.max(first) } else { from };
        (from.min(until), until)
    }

    /// Takes a decrypted payload that arrived at `arrived_ns`, `after` the `POST`.
    pub fn note_packet(
        &mut self,
        payload: &[u8],
        kind: Kind,
        arrived_ns: u64,
        after: Duration,
        latency: Option<&mut Histogram>,
    ) -> Progress {
        self.opened_packets += 1;
        let record = match payload::read(payload, kind, self.check == Check::Whole) {
            Ok(record) if record.kind == kind && record.counter < COUNTER_MAX => record,
            Ok(_) | Err(Corrupt::Length | Corrupt::Record | Corrupt::Pattern) => {
                self.corrupt += 1;
                return Progress::default();
            }
        };
        let Record { publisher, kind, counter, sent_ns } = record;
        if publisher != self.publisher {
            self.alien += 1;
            return Progress::default();
        }
        let progress = match kind {
            Kind::Audio => {
                self.audio_after.get_or_insert(after);
                self.audio.note(counter)
            }
            Kind::Video => {
                self.video_after.get_or_insert(after);
                self.began_with_keyframe.get_or_insert_with(|| payload::starts_keyframe(payload));
                self.video.note(counter)
            }
        };
        if let Some(latency) = latency {
            latency.record(arrived_ns.saturating_sub(sent_ns));
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Vp8Frame;

    fn packet(publisher: u16, counter: u64, key: bool) -> Vec<u8> {
        let record = Record { publisher, kind: Kind::Video, counter, sent_ns: 1000 };
        let mut out = Vec::new();
        let frame = Vp8Frame { picture_id: 0, start: true, key };
        payload::write(&mut out, record, Some(frame), 100);
        out
    }

    /// Feeds counters and compares (received of 0..10, duplicates, reordered).
    #[track_caller]
    fn check(counters: &[u64], expected: (u64, u64, u64)) {
        let mut viewer = Viewer::new(0, Check::Whole);
        for counter in counters {
            let payload = packet(0, *counter, true);
            viewer.note_packet(&payload, Kind::Video, 1500, Duration::ZERO, None);
        }
        let track = &viewer.video;
        assert_eq!((track.received(0, 10), track.duplicates, track.reordered), expected);
    }

    #[test]
    fn losses_duplicates_and_reordering_are_told_apart() {
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], (10, 0, 0));
        check(&[0, 1, 3, 4], (4, 0, 0));
        check(&[0, 2, 1, 3], (4, 0, 1));
        check(&[0, 1, 1, 0, 2], (3, 2, 0));
        check(&[12, 13, 500], (0, 0, 0));
    }

    #[test]
    fn the_longest_gap_counts_to_both_edges() {
        let mut track = Track::default();
        for (counter, spanned) in [(2, 1), (7, 5), (3, 0)] {
            assert_eq!(track.note(counter), Progress { fresh: 1, spanned });
        }
        assert_eq!(track.note(7), Progress::default(), "it had come before");
        assert_eq!(track.longest_gap(0, 10), 3);
        assert_eq!(track.longest_gap(2, 4), 0);
        assert_eq!(track.longest_gap(100, 105), 5);
    }

    #[test]
    fn who_comes_late_or_leaves_early_counts_between_its_own_first_packet_and_its_leave() {
        let mut viewer = Viewer::new(0, Check::Record);
        for counter in [7, 6, 8, 9] {
            let payload = packet(0, counter, true);
            viewer.note_packet(&payload, Kind::Video, 1500, Duration::ZERO, None);
        }
        assert_eq!(viewer.span(Kind::Video, (2, 20)), (2, 20));
        viewer.late = true;
        assert_eq!(viewer.span(Kind::Video, (2, 20)), (6, 20));
        assert_eq!(viewer.span(Kind::Video, (8, 20)), (8, 20));
        viewer.left = Some([3, 9]);
        assert_eq!(viewer.span(Kind::Video, (2, 20)), (6, 9));
        assert_eq!(viewer.span(Kind::Video, (12, 20)), (9, 9));
        assert_eq!(viewer.span(Kind::Audio, (2, 20)), (3, 3), "no audio came");
    }

    #[test]
    fn a_damaged_or_foreign_packet_counts_as_such_and_not_as_received() {
        let mut viewer = Viewer::new(0, Check::Whole);
        let mut damaged = packet(0, 1, true);
        damaged[80] ^= 1;
        viewer.note_packet(&damaged, Kind::Video, 1500, Duration::ZERO, None);
        viewer.note_packet(&packet(1, 2, true), Kind::Video, 1500, Duration::ZERO, None);
        viewer.note_packet(&packet(0, COUNTER_MAX, true), Kind::Video, 0, Duration::ZERO, None);
        assert_eq!((viewer.corrupt, viewer.alien, viewer.video.received(0, 9)), (2, 1, 0));
        assert_eq!(viewer.video_after, None);
    }

    #[test]
    fn the_first_video_packet_tells_whether_the_stream_began_with_a_keyframe() {
        for key in [true, false] {
            let mut viewer = Viewer::new(0, Check::Record);
            let mut latency = Histogram::default();
            let after = Duration::from_millis(7);
            let first = packet(0, 0, key);
            viewer.note_packet(&first, Kind::Video, 1500, after, Some(&mut latency));
            let second = packet(0, 1, true);
            viewer.note_packet(&second, Kind::Video, 1500, after * 2, Some(&mut latency));
            assert_eq!(viewer.began_with_keyframe, Some(key));
            assert_eq!(viewer.video_after, Some(after));
            assert_eq!((latency.total(), latency.max_ns()), (2, 500));
        }
    }

    #[test]
    fn a_repeated_srtp_packet_is_seen_across_the_wrap() {
        let mut viewer = Viewer::new(0, Check::Record);
        for seq in [65_534, 65_535, 0, 2, 1, 1, 65_535, 0, 400, 2] {
            viewer.note_wire(7, seq);
        }
        viewer.note_wire(8, 1);
        assert_eq!(viewer.wire_repeats, 3, "1, 65535 and 0; 2 has left the window");
    }
}
