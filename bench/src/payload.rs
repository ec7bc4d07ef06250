//! What a test packet carries: a valid VP8 descriptor where needed, a sealed record, a pattern.
//!
//! ```text
//! video: descriptor (4, RFC 7741 §4.2) | frame header (10, RFC 6386 §9.1) | record (32) | pattern
//! audio:                                                                    record (32) | pattern
//! ```

/// Bytes of the VP8 descriptor and frame header before the record of a video packet.
const VIDEO_PREFIX_BYTES: usize = 14;
const RECORD_BYTES: usize = 32;
/// Shortest payload that has room for all of it.
pub const PAYLOAD_BYTES_MIN: usize = VIDEO_PREFIX_BYTES + RECORD_BYTES;
const MAGIC: u32 = 0x5375_7431;

/// Whose packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Opus, 48 kHz.
    Audio,
    /// VP8, 90 kHz.
    Video,
}

/// What every test packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Number of the publisher within the run.
    pub publisher: u16,
    /// Track of that publisher.
    pub kind: Kind,
    /// Counts the packets of the track from 0.
    pub counter: u64,
    /// `CLOCK_MONOTONIC` when it was handed to the publisher's transport, ns.
    pub sent_ns: u64,
}

/// What the first packet of a frame must say to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Frame {
    /// 15 bits.
    pub picture_id: u16,
    /// First packet of the frame.
    pub start: bool,
    /// The frame is a keyframe.
    pub key: bool,
}

/// Why a payload is not what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Shorter than a record, or than the record says.
    #[error("payload length differs from what was sent")]
    Length,
    /// The record's checksum or magic is wrong.
    #[error("record damaged")]
    Record,
    /// The bytes after the record differ.
    #[error("pattern damaged")]
    Pattern,
}

/// Writes a payload of `payload_bytes` bytes into `out` (cleared first).
pub fn write(out: &mut Vec<u8>, record: Record, frame: Option<Vp8Frame>, payload_bytes: usize) {
    assert!(payload_bytes >= PAYLOAD_BYTES_MIN, "the trace parser refuses shorter packets");
    assert_eq!(frame.is_some(), record.kind == Kind::Video, "only video has frames");
    out.clear();
    if let Some(frame) = frame {
        write_vp8_prefix(out, frame);
    }
    let total = u16::try_from(payload_bytes).expect("the trace parser refuses longer packets");
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&record.publisher.to_be_bytes());
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&record.counter.to_be_bytes());
    out.extend_from_slice(&record.sent_ns.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, u8::from(record.kind == Kind::Video)]);
    let sum = checksum(&out[start..]);
    out.extend_from_slice(&sum.to_be_bytes());
    debug_assert_eq!(out.len() - start, RECORD_BYTES, "the layout above");
    let mut word = seed(record);
    while out.len() < payload_bytes {
        let room = (payload_bytes - out.len()).min(8);
        out.extend_from_slice(&word.to_le_bytes()[..room]);
        word = next_word(word);
    }
}

/// Reads the record of a payload, and compares the pattern behind it when `fully` asks for it.
pub fn read(payload: &[u8], kind: Kind, fully: bool) -> Result<Record, Corrupt> {
    let prefix = match kind {
        Kind::Audio => 0,
        Kind::Video => vp8_descriptor_bytes(payload).ok_or(Corrupt::Length)? + 10,
    };
    let body = payload.get(prefix..).ok_or(Corrupt::Length)?;
    let Some((record_bytes, mut pattern)) = body.split_first_chunk::<RECORD_BYTES>() else {
        return Err(Corrupt::Length);
    };
    let (sealed, sum) = record_bytes.split_at(RECORD_BYTES - 4);
    let magic_matches = sealed[..4] == MAGIC.to_be_bytes();
    if !magic_matches || sum != checksum(sealed).to_be_bytes() {
        return Err(Corrupt::Record);
    }
    let u64_at = |at: usize| sealed[at..at + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let kind = if sealed[27] == 1 { Kind::Video } else { Kind::Audio };
    let record = Record {
        publisher: u16::from_be_bytes([sealed[4], sealed[5]]),
        kind,
        counter: u64_at(8),
        sent_ns: u64_at(16),
    };
    // The relay may shorten or lengthen the descriptor, never what follows it.
    let sent_prefix = if kind == Kind::Video { VIDEO_PREFIX_BYTES } else { 0 };
    let sent_total = usize::from(u16::from_be_bytes([sealed[6], sealed[7]]));
    if sent_total != sent_prefix + body.len() {
        return Err(Corrupt::Length);
    }
    let mut word = seed(record);
    while fully && !pattern.is_empty() {
        let (now, later) = pattern.split_at(pattern.len().min(8));
        if *now != word.to_le_bytes()[..now.len()] {
            return Err(Corrupt::Pattern);
        }
        (pattern, word) = (later, next_word(word));
    }
    Ok(record)
}

/// Whether a video payload is the first of a keyframe.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
    let tag = vp8_descriptor_bytes(payload).and_then(|bytes| payload.get(bytes));
    starts_frame && tag.is_some_and(|tag| tag & 1 == 0)
}

fn write_vp8_prefix(out: &mut Vec<u8>, frame: Vp8Frame) {
    let start_bit = if frame.start { 0x10 } else { 0 };
    let [high, low] = (frame.picture_id & 0x7fff).to_be_bytes();
    // X and S, then I, then a picture id of 15 bits (M set).
    out.extend_from_slice(&[0x80 | start_bit, 0x80, 0x80 | high, low]);
    // Frame tag: P is 0 in a keyframe; show_frame set. Then start code and 640 x 360.
    let tag = if frame.key { 0x10 } else { 0x11 };
    out.extend_from_slice(&[tag, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
}

/// Length of the VP8 payload descriptor (RFC 7741 §4.2).
fn vp8_descriptor_bytes(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    if first & 0x80 == 0 {
        return Some(1);
    }
    let extensions = *payload.get(1)?;
    let mut bytes = 2;
    if extensions & 0x80 != 0 {
        bytes += if payload.get(bytes)? & 0x80 != 0 { 2 } else { 1 };
    }
    bytes += usize::from(extensions & 0x40 != 0);
    bytes += usize::from(extensions & 0x30 != 0);
    Some(bytes)
}

/// FNV-1a, 32 bits: errors of a relay, not of an attacker (SRTP has authenticated the packet).
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn seed(record: Record) -> u64 {
    let track = u64::from(record.publisher) << 1 | u64::from(record.kind == Kind::Video);
    (record.counter ^ track << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn next_word(word: u64) -> u64 {
    word.rotate_left(17).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(kind: Kind, payload_bytes: usize) -> (Record, Vec<u8>) {
        let record = Record { publisher: 3, kind, counter: 77, sent_ns: 123_456_789_000 };
        let frame = (kind == Kind::Video).then_some(Vp8Frame {
            picture_id: 0x1234,
            start: true,
            key: true,
        });
        let mut out = Vec::new();
        write(&mut out, record, frame, payload_bytes);
        assert_eq!(out.len(), payload_bytes);
        (record, out)
    }

    #[test]
    fn what_is_written_is_read_at_every_length() {
        for payload_bytes in (PAYLOAD_BYTES_MIN..200).chain([1150, 1500]) {
            for kind in [Kind::Audio, Kind::Video] {
                let (record, out) = example(kind, payload_bytes);
                assert_eq!(read(&out, kind, true), Ok(record));
            }
        }
    }

    #[test]
    fn every_changed_byte_behind_the_frame_header_is_found() {
        for kind in [Kind::Audio, Kind::Video] {
            let (_, good) = example(kind, 120);
            let from = if kind == Kind::Video { VIDEO_PREFIX_BYTES } else { 0 };
            for at in from..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x20;
                assert!(read(&bad, kind, true).is_err(), "byte {at} of {kind:?}");
            }
            assert_eq!(read(&good[..119], kind, false), Err(Corrupt::Length));
            assert_eq!(read(&[&good[..], &[0]].concat(), kind, false), Err(Corrupt::Length));
            for cut in 0..from + RECORD_BYTES {
                assert_eq!(read(&good[..cut], kind, true), Err(Corrupt::Length));
            }
        }
    }

    #[test]
    fn only_the_first_packet_of_a_keyframe_starts_one() {
        let record = Record { publisher: 0, kind: Kind::Video, counter: 0, sent_ns: 0 };
        let mut out = Vec::new();
        for (start, key) in [(true, true), (true, false), (false, true), (false, false)] {
            write(&mut out, record, Some(Vp8Frame { picture_id: 9, start, key }), 100);
            assert_eq!(starts_keyframe(&out), start && key);
        }
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn a_relay_may_rewrite_the_descriptor() {
        let (record, good) = example(Kind::Video, 300);
        for descriptor in [&[0x10][..], &[0x90, 0x80, 0x07], &[0x90, 0xf0, 0x80, 1, 2, 3]] {
            let rewritten = [descriptor, &good[4..]].concat();
            assert_eq!(read(&rewritten, Kind::Video, true), Ok(record));
        }
    }
}
