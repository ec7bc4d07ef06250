//! A subscription's half of a track: one RTP stream to one subscriber, numbered anew.
//!
//! Out of the publisher's numbers come the subscriber's by subtraction of a constant, which holds
//! for a *segment*: from a keyframe on until the gate closes, the publisher changes, or the track
//! does. A new segment continues right behind the highest number sent, so a pause leaves no gap
//! that the receiver would ask for, and a retransmission request is answered by addition.

use std::time::Instant;

use super::packet::{Format, Packet};
use super::track::Track;
use crate::ports::Kind;
use crate::session::offer::{NegotiatedCodec, TrackFacts};
use crate::wire::rtp::HeaderTemplate;

/// Headers of one negotiated format, ready to be copied.
#[derive(Debug)]
struct Templates {
    media: HeaderTemplate,
    /// With the MID extension (RFC 9143 §15), until the subscriber has shown that it knows us.
    media_mid: HeaderTemplate,
    rtx: Option<HeaderTemplate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing is sent until a packet that a decoder can start with.
    Waiting,
    Flowing,
}

#[derive(Debug)]
pub struct Outlet {
    pub kind: Kind,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    facts: TrackFacts,
    format: Option<Format>,
    /// `None` while the subscriber has no payload type for the track's format.
    templates: Option<Templates>,
    announce_mid: bool,
    flow: Flow,
    epoch: u32,
    /// First publisher's sequence number of the segment.
    segment_start: u64,
    /// Publisher's minus ours within the segment. Wraps where ours is the greater.
    base: u64,
    highest: u64,
    timestamp_offset: u32,
    newest: Option<(u32, Instant)>,
    rtx_index: u64,
    pub packets: u32,
    pub octets: u32,
    pub retransmitted: u64,
}

/// Where a new RTP stream begins: below 2¹⁵, so that receivers agree on rollover counter 0
/// (RFC 3711 §3.3.1), and above 0, so that a packet before it can be told.
const FIRST_SEQUENCE: u64 = 1000;

impl Outlet {
    /// `None` if the facts lack our SSRC.
    pub fn new(facts: &TrackFacts) -> Option<Outlet> {
        Some(Outlet {
            kind: facts.kind,
            ssrc: facts.ssrc?,
            rtx_ssrc: facts.rtx_ssrc,
            facts: facts.clone(),
            format: None,
            templates: None,
            announce_mid: true,
            flow: Flow::Waiting,
            epoch: 0,
            segment_start: 0,
            base: 0,
            highest: FIRST_SEQUENCE - 1,
            timestamp_offset: 0,
            newest: None,
            rtx_index: FIRST_SEQUENCE,
            packets: 0,
            octets: 0,
            retransmitted: 0,
        })
    }

    /// The gate closed, or the stream was left: the next packet starts a segment.
    pub fn pause(&mut self) {
        self.flow = Flow::Waiting;
    }

    /// Is a keyframe needed before anything can be sent?
    pub fn waits_for_keyframe(&self) -> bool {
        self.kind == Kind::Video && self.flow == Flow::Waiting
    }

    /// The subscriber reported on our SSRC: it knows which section the stream belongs to.
    pub fn handle_report(&mut self) {
        self.announce_mid = false;
    }

    /// Index in `track.pending` from which this subscriber is sent to; `None`: not in this tick.
    #[inline]
    pub fn join(&mut self, track: &Track, now: Instant) -> Option<usize> {
        if self.flow == Flow::Flowing && self.epoch == track.epoch && self.format == track.format {
            return Some(0);
        }
        self.start_segment(track, now)
    }

    fn start_segment(&mut self, track: &Track, now: Instant) -> Option<usize> {
        self.flow = Flow::Waiting;
        let format = track.format?;
        if self.format != Some(format) {
            self.format = Some(format);
            self.templates = self.negotiated(format).map(|codec| self.build_templates(codec));
        }
        self.templates.as_ref()?;
        let start = track.pending.iter().position(|sequence| {
            track.cache.get(*sequence).is_some_and(|packet| packet.starts_keyframe)
        })?;
        let first = track.cache.get(track.pending[start])?;
        if self.epoch != track.epoch || self.newest.is_none() {
            self.timestamp_offset = self.continued_timestamp(format, first, now);
        }
        self.epoch = track.epoch;
        self.segment_start = first.sequence;
        self.base = first.sequence.wrapping_sub(self.highest + 1);
        self.flow = Flow::Flowing;
        Some(start)
    }

    /// The offset that lets time go on where the last epoch left it; 0 at first.
    fn continued_timestamp(&self, format: Format, first: &Packet, now: Instant) -> u32 {
        let Some((timestamp, at)) = self.newest else { return 0 };
        let rate = u64::from(format.codec.clock_rate_hz());
        let elapsed = (now.duration_since(at).as_micros() as u64 * rate / 1_000_000) as u32;
        timestamp.wrapping_add(elapsed).wrapping_sub(first.timestamp)
    }

    /// The subscriber's payload types for `format`: of the very same parameters, else of the same
    /// codec and packetization mode (H.264 levels differ between browsers and do not matter here).
    fn negotiated(&self, format: Format) -> Option<NegotiatedCodec> {
        let same_codec = || self.facts.codecs.iter().filter(|known| known.codec == format.codec);
        let mode = |known: &&NegotiatedCodec| {
            let own = known.spec.format;
            own.packetization_mode.unwrap_or(0)
                == format.spec.format.packetization_mode.unwrap_or(0)
                && own.profile_id.unwrap_or(0) == format.spec.format.profile_id.unwrap_or(0)
        };
        same_codec()
            .find(|known| known.spec == format.spec)
            .or_else(|| same_codec().find(mode))
            .copied()
    }

    fn build_templates(&self, codec: NegotiatedCodec) -> Templates {
        let TrackFacts { mid, twcc_id, mid_id, .. } = &self.facts;
        let with_mid = mid_id.map(|id| (id, mid.as_str()));
        let media = |mid| HeaderTemplate::new(self.ssrc, codec.payload_type, *twcc_id, mid);
        let rtx = self.rtx_ssrc.zip(codec.rtx_payload_type);
        Templates {
            media: media(None),
            media_mid: media(with_mid),
            // Always with the MID: Firefox drops an SSRC without one on a section whose media SSRC it
            // knows, and retransmissions are too few for the bytes to matter.
            rtx: rtx.map(|(ssrc, pt)| HeaderTemplate::new(ssrc, pt, *twcc_id, with_mid)),
        }
    }

    pub fn uses_twcc(&self) -> bool {
        self.facts.twcc_id.is_some()
    }

    /// The header for this tick; the same size for all of its packets.
    #[inline]
    pub fn template(&self) -> Option<&HeaderTemplate> {
        let templates = self.templates.as_ref()?;
        Some(if self.announce_mid { &templates.media_mid } else { &templates.media })
    }

    /// Our extended sequence number and timestamp for `packet`; `None` if it is from before the
    /// segment.
    #[inline]
    pub fn number(&mut self, packet: &Packet, now: Instant) -> Option<(u64, u32)> {
        if packet.sequence < self.segment_start {
            return None;
        }
        let sequence = packet.sequence.wrapping_sub(self.base);
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_offset);
        if sequence > self.highest {
            self.highest = sequence;
            self.newest = Some((timestamp, now));
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload_bytes() as u32);
        Some((sequence, timestamp))
    }

    /// The publisher's number of the packet that we sent as `sequence`; `None` if it is not from
    /// this segment.
    pub fn publisher_sequence(&self, sequence: u16) -> Option<u64> {
        let behind = (self.highest as u16).wrapping_sub(sequence);
        let ours = self.highest.checked_sub(u64::from(behind))?;
        let theirs = ours.wrapping_add(self.base);
        (self.flow == Flow::Flowing && theirs >= self.segment_start).then_some(theirs)
    }

    /// Header and numbers of a retransmission (RFC 4588): template, its sequence index, the
    /// original's sequence number and timestamp.
    pub fn retransmission(&mut self, packet: &Packet) -> Option<(&HeaderTemplate, u64, u16, u32)> {
        let original = packet.sequence.wrapping_sub(self.base) as u16;
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_offset);
        let template = self.templates.as_ref()?.rtx.as_ref()?;
        let index = self.rtx_index;
        self.rtx_index += 1;
        self.retransmitted += 1;
        Some((template, index, original, timestamp))
    }

    /// RTP timestamp of ours for one of the publisher's, for a sender report; `None` while paused.
    pub fn own_timestamp(&self, timestamp: u32) -> Option<u32> {
        (self.flow == Flow::Flowing).then(|| timestamp.wrapping_add(self.timestamp_offset))
    }
}
