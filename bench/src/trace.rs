//! A publisher's packets as they were recorded: when each left, how large it was.
//!
//! The form is a text line a packet, `<offset µs> <a|v> <payload bytes> <marker 0|1> <key 0|1>`,
//! offsets ascending, after a line `period <µs>`. `#` begins a comment. A run plays it in a loop.

use std::time::Duration;

use crate::payload::{Kind, PAYLOAD_BYTES_MIN};

/// Largest RTP payload that a trace may ask for.
const PAYLOAD_BYTES_MAX: usize = 1200;
/// Most packets of a trace; a longer one is refused.
const PACKETS_MAX: usize = 1_000_000;
/// A publisher thread plays no faster.
const PACKETS_PER_SECOND_MAX: f64 = 50_000.0;
const VIDEO_2400K: &str = include_str!("../traces/video-2400k.txt");
const BURSTS_2400K: &str = include_str!("../traces/bursts-2400k.txt");
const AUDIO: &str = include_str!("../traces/audio.txt");

/// One packet of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// From the start of the period.
    pub at: Duration,
    /// Which track.
    pub kind: Kind,
    /// RTP payload, without RTP header and SRTP tag.
    pub payload_bytes: usize,
    /// Last packet of a frame.
    pub marker: bool,
    /// The frame is a keyframe.
    pub key: bool,
}

/// A loop of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Length of the loop.
    pub period: Duration,
    /// In the order of sending.
    pub packets: Vec<Packet>,
}

/// Why a text is not a trace; `line` counts from 1.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// A line that is neither comment, period nor packet.
    #[error("line {line}: {text:?} is not `<offset µs> <a|v> <bytes> <marker> <key>`")]
    Line {
        /// Where.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// The packet cannot be sent as a test packet.
    #[error("line {line}: payload of {payload_bytes} bytes, allowed are 46 to 1200")]
    Size {
        /// Where.
        line: usize,
        /// What stands there.
        payload_bytes: usize,
    },
    /// Offsets go back, or past the period.
    #[error("line {line}: offset {offset_us} µs is out of order or not below the period")]
    Order {
        /// Where.
        line: usize,
        /// What stands there.
        offset_us: u64,
    },
    /// No machine could play it.
    #[error(
        "{per_second:.0} packets a second, allowed are {PACKETS_PER_SECOND_MAX}: is the period in µs?"
    )]
    Rate {
        /// Asked for.
        per_second: f64,
    },
    /// No period or no packet.
    #[error("a trace needs a `period` line first and one packet at least, one million at most")]
    Empty,
}

impl Trace {
    /// A trace that the program carries, by name.
    pub fn built_in(name: &str) -> Option<Self> {
        let text = match name {
            "video-2400k" => VIDEO_2400K,
            "bursts-2400k" => BURSTS_2400K,
            "audio" => AUDIO,
            _ => return None,
        };
        Some(Self::parse(text).expect("the committed traces parse, held by a test"))
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let (mut period_us, mut packets, mut last_us) = (None, Vec::new(), 0);
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text.trim())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            // A second period would leave what stands before it unchecked.
            if let Some(period) = text.strip_prefix("period ").filter(|_| period_us.is_none()) {
                period_us = period.trim().parse::<u64>().ok().filter(|us| *us > 0);
                continue;
            }
            let period_us = period_us.ok_or(TraceError::Empty)?;
            let (offset_us, packet) = parse_packet(text)
                .ok_or_else(|| TraceError::Line { line, text: text.to_owned() })?;
            let payload_bytes = packet.payload_bytes;
            if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&payload_bytes) {
                return Err(TraceError::Size { line, payload_bytes });
            }
            if offset_us < last_us || offset_us >= period_us {
                return Err(TraceError::Order { line, offset_us });
            }
            last_us = offset_us;
            packets.push(packet);
        }
        let per_second = packets.len() as f64 * 1e6 / period_us.unwrap_or(1) as f64;
        if !packets.is_empty() && per_second > PACKETS_PER_SECOND_MAX {
            return Err(TraceError::Rate { per_second });
        }
        match period_us {
            Some(us) if !packets.is_empty() && packets.len() <= PACKETS_MAX => {
                Ok(Self { period: Duration::from_micros(us), packets })
            }
            _ => Err(TraceError::Empty),
        }
    }

    /// Packets a message of a server that sends each frame, and each audio packet, as one message:
    /// more takes waiting for the next frame.
    pub fn packets_per_message_ideal(&self) -> f64 {
        let messages = self.packets.iter().filter(|p| p.marker || p.kind == Kind::Audio).count();
        self.packets.len() as f64 / messages.max(1) as f64
    }

    /// Whether the trace has packets of a track.
    pub fn has(&self, kind: Kind) -> bool {
        self.packets.iter().any(|packet| packet.kind == kind)
    }
}

fn parse_packet(text: &str) -> Option<(u64, Packet)> {
    let mut fields = text.split_ascii_whitespace();
    let offset_us = fields.next()?.parse().ok()?;
    let kind = match fields.next()? {
        "a" => Kind::Audio,
        "v" => Kind::Video,
        _ => return None,
    };
    let payload_bytes = fields.next()?.parse().ok()?;
    let mut flag = || match fields.next()? {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    let (marker, key) = (flag()?, flag()?);
    let at = Duration::from_micros(offset_us);
    let packet = Packet { at, kind, payload_bytes, marker, key };
    fields.next().is_none().then_some((offset_us, packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_video_trace_is_2400_kbit_in_260_packets_and_30_frames_a_second() {
        let trace = Trace::built_in("video-2400k").expect("carried by the program");
        let video: Vec<_> = trace.packets.iter().filter(|p| p.kind == Kind::Video).collect();
        let seconds = trace.period.as_secs_f64();
        let rate = |n: usize| n as f64 / seconds;
        let kbps = rate(video.iter().map(|p| p.payload_bytes + 12).sum()) * 8.0 / 1000.0;
        let frames = video.iter().filter(|p| p.marker).count();
        assert!((2300.0..2500.0).contains(&kbps), "{kbps} kbit/s");
        assert!((250.0..275.0).contains(&rate(video.len())), "{} packets/s", rate(video.len()));
        assert!((29.0..31.0).contains(&rate(frames)), "{} frames/s", rate(frames));
        assert!(video[0].key, "a loop begins with a keyframe");
        assert!(video.last().is_some_and(|p| p.marker), "a loop ends with a frame");
        let audio = trace.packets.len() - video.len();
        assert!((49.0..51.0).contains(&rate(audio)), "{} audio packets/s", rate(audio));
        let ideal = trace.packets.len() as f64 / (frames + audio) as f64;
        assert_eq!(trace.packets_per_message_ideal(), ideal);
    }

    #[test]
    fn packets_of_a_frame_differ_by_one_byte_at_most_as_libwebrtc_splits_them() {
        let trace = Trace::built_in("video-2400k").expect("carried by the program");
        let video: Vec<_> =
            trace.packets.iter().copied().filter(|p| p.kind == Kind::Video).collect();
        for frame in video.split_inclusive(|p| p.marker) {
            let sizes = || frame.iter().map(|p| p.payload_bytes);
            let spread = sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0);
            assert!(spread <= 1, "{frame:?}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_trace_is_refused_with_its_line() {
        let line = |line, text: &str| TraceError::Line { line, text: text.into() };
        for (text, error) in [
            ("", TraceError::Empty),
            ("period 10\n0 v 99 1 1", TraceError::Rate { per_second: 100_000.0 }),
            ("period 1000\n0 v 99 1 1\nperiod 2000", line(3, "period 2000")),
            ("0 v 100 1 1", TraceError::Empty),
            ("period 100", TraceError::Empty),
            ("period 0\n0 v 100 1 1", TraceError::Empty),
            ("period 100\n0 x 100 1 1", line(2, "0 x 100 1 1")),
            ("period 100\n\n0 v 100 1", line(3, "0 v 100 1")),
            ("period 100\n0 v 100 1 1 1", line(2, "0 v 100 1 1 1")),
            ("period 100\n0 v 45 1 1", TraceError::Size { line: 2, payload_bytes: 45 }),
            ("period 100\n0 v 1201 1 1", TraceError::Size { line: 2, payload_bytes: 1201 }),
            ("period 100\n9 v 99 1 1\n8 v 99 1 1", TraceError::Order { line: 3, offset_us: 8 }),
            ("period 100\n100 v 99 1 1", TraceError::Order { line: 2, offset_us: 100 }),
        ] {
            assert_eq!(Trace::parse(text), Err(error), "{text:?}");
        }
    }
}
