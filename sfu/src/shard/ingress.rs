//! A publisher's RTP on its way in: opened, numbered, put into its track.

use super::core::Core;
use super::lane::LaneMessage;
use crate::forward::codec;
use crate::forward::loss::LossDetector;
use crate::forward::packet::{Format, Packet};
use crate::forward::reception::Reception;
use crate::forward::track::Accepted;
use crate::limits::SSRCS_PER_SESSION_MAX;
use crate::ports::{Event, Kind, Role};
use crate::session::replay::{ReplayError, ReplayWindow};
use crate::session::srtp::SrtpError;
use crate::session::transport::{Path, Receiver, Session};
use crate::wire::rtp::{RtpHeader, payload_without_padding};
use std::time::{Duration, Instant};

/// A publisher's SSRC may be replaced by another of the same kind after this much silence.
const SSRC_SILENCE: Duration = Duration::from_millis(500);

/// What an RTP stream is, judged by payload type.
#[derive(Debug, Clone, Copy)]
struct Classified {
    kind: Kind,
    is_rtx: bool,
    format: Format,
}

/// What to do with a packet of an SSRC.
enum Place {
    Known(usize),
    New(Classified),
    Collision,
    Unexpected,
}

impl Core {
    pub(super) fn handle_rtp(&mut self, index: usize, path: Path, datagram: &[u8]) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let Some(open) = session.open.as_ref() else {
            self.counters.dropped_early_packets += 1;
            return;
        };
        let Ok(header) = RtpHeader::parse(datagram) else {
            self.counters.dropped_malformed_packets += 1;
            return;
        };
        let place = place(session, &header, now);
        let (replay, new) = match &place {
            Place::Known(at) => (Some(&session.receivers[*at].replay), None),
            Place::New(classified) => (None, Some(*classified)),
            Place::Collision => {
                self.counters.dropped_ssrc_collision_packets += 1;
                return;
            }
            Place::Unexpected => {
                self.counters.dropped_unexpected_packets += 1;
                return;
            }
        };
        let sequence = header.sequence;
        let rtp_index = replay.map_or(u64::from(sequence), |replay| replay.estimate(sequence));
        match replay.map_or(Ok(()), |replay| replay.check(rtp_index)) {
            Ok(()) => {}
            Err(ReplayError::Duplicate | ReplayError::TooOld) => {
                self.counters.dropped_replayed_packets += 1;
                return;
            }
        }
        let mut packet = self.pool.take();
        // Out of place, from the receive buffer to where the packet stays: the only pass over it.
        let opened = open.open_rtp(
            datagram,
            header.header_bytes,
            header.ssrc,
            rtp_index,
            packet.buffer_mut(),
        );
        let plaintext_bytes = match opened {
            Ok(len_bytes) => len_bytes,
            Err(error) => {
                self.pool.give(packet);
                match error {
                    SrtpError::Authentication => self.counters.dropped_unauthentic_packets += 1,
                    SrtpError::Replay => self.counters.dropped_replayed_packets += 1,
                    SrtpError::TooShort | SrtpError::PlaintextTooLarge => {
                        self.counters.dropped_malformed_packets += 1;
                    }
                }
                return;
            }
        };
        let session = self.sessions[index].as_mut().expect("it was there above");
        session.heard(path, now);
        let at = match (place, new) {
            (Place::Known(at), _) => at,
            // Only an authentic packet makes an SSRC known.
            (_, Some(classified)) => {
                let Some(stream) = self.streams[session.stream].as_mut() else { return };
                let epoch = stream.next_epoch;
                stream.next_epoch += u32::from(!classified.is_rtx);
                learn(session, header.ssrc, classified, epoch, now)
            }
            _ => return,
        };
        let receiver = &mut session.receivers[at];
        receiver.replay.commit(rtp_index);
        receiver.heard_at = now;
        let plaintext = &packet.buffer_mut()[..plaintext_bytes];
        let Ok(payload) = payload_without_padding(plaintext, header.padding) else {
            self.counters.dropped_malformed_packets += 1;
            self.pool.give(packet);
            return;
        };
        let payload_bytes = payload.len();
        self.note_transport_sequence(index, at, &header, datagram);
        self.take_in(index, at, &header, rtp_index, packet, payload_bytes);
    }

    /// Transport-wide sequence number of an arrival, for the publisher's congestion control.
    fn note_transport_sequence(
        &mut self,
        index: usize,
        at: usize,
        header: &RtpHeader,
        datagram: &[u8],
    ) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let kind = session.receivers[at].kind;
        let facts = session.tracks.iter().find(|track| track.kind == kind);
        let Some(id) = facts.and_then(|track| track.twcc_id) else { return };
        if let Some((_, &[high, low])) = header
            .extensions(datagram)
            .find(|(known, value)| *known == id && value.len() == 2)
            .and_then(|(id, value)| Some((id, <&[u8; 2]>::try_from(value).ok()?)))
        {
            let arrival_us = now.duration_since(session.offered_at).as_micros() as u64;
            session.twcc.record(u16::from_be_bytes([high, low]), arrival_us);
        }
    }

    /// Fills in what the header said and puts the packet into its track.
    fn take_in(
        &mut self,
        index: usize,
        at: usize,
        header: &RtpHeader,
        rtp_index: u64,
        mut packet: Box<Packet>,
        payload_bytes: usize,
    ) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let stream_index = session.stream;
        let receiver = &mut session.receivers[at];
        let kind = receiver.kind;
        receiver.reception.handle_packet(rtp_index, header.timestamp, now);
        self.counters.rtp_received_packets += 1;
        self.counters.rtp_received_bytes += payload_bytes as u64;
        let (media_at, start, sequence) = if receiver.is_rtx {
            self.counters.rtx_received_packets += 1;
            // RFC 4588 §4: the original's sequence number leads the payload. Probes are empty.
            let Some(&[high, low]) =
                packet.buffer_mut().first_chunk::<2>().filter(|_| payload_bytes > 2)
            else {
                self.pool.give(packet);
                return;
            };
            let original = u16::from_be_bytes([high, low]);
            let primary = session.current_receiver(kind, false);
            let Some(primary) = primary else {
                self.pool.give(packet);
                return;
            };
            (primary, 2, session.receivers[primary].replay.estimate(original))
        } else {
            (at, 0, rtp_index)
        };
        let media = &mut session.receivers[media_at];
        if media.loss.handle_packet(sequence, now) && kind == Kind::Video {
            self.want_keyframe(stream_index);
        }
        let Some(session) = self.sessions[index].as_mut() else { return };
        let media = &session.receivers[media_at];
        packet.set_payload(start, payload_bytes - start);
        packet.sequence = sequence;
        packet.timestamp = header.timestamp;
        packet.marker = header.marker;
        packet.epoch = media.epoch;
        packet.format = media.format;
        packet.starts_keyframe = codec::starts_keyframe(media.format.codec, packet.payload());
        self.note_new_track(stream_index, kind, &packet);
        self.accept(stream_index, kind, packet);
    }

    /// Tells control about the first packet and the first keyframe of a track.
    pub(super) fn note_new_track(&mut self, stream_index: usize, kind: Kind, packet: &Packet) {
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        stream.received_packets += 1;
        stream.received_bytes += packet.payload_bytes() as u64;
        let key = stream.key;
        let track = stream.track_mut(kind);
        let is_new = track.format.is_none() || track.epoch != packet.epoch;
        let codec = packet.format.codec;
        let announce_keyframe =
            kind == Kind::Video && packet.starts_keyframe && (is_new || !track.keyframe_seen);
        track.keyframe_seen = packet.starts_keyframe || (track.keyframe_seen && !is_new);
        if is_new {
            self.emit(Event::TrackStarted { stream: key, kind, codec });
        }
        if announce_keyframe {
            let size = codec::keyframe_size(codec, packet.payload());
            self.emit(Event::FirstKeyframe { stream: key, codec, size });
        }
    }

    /// Puts a packet into its track; it leaves with the next fan-out.
    pub(super) fn accept(&mut self, stream_index: usize, kind: Kind, packet: Box<Packet>) {
        let now = self.now;
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        let was_clean = !stream.has_pending();
        match stream.track_mut(kind).accept(packet, &mut self.pool, now) {
            Accepted::New => {
                if was_clean {
                    self.dirty.push(stream_index);
                }
            }
            Accepted::Duplicate => self.counters.dropped_duplicate_packets += 1,
            Accepted::TooOld => self.counters.dropped_late_packets += 1,
            Accepted::Dropped => self.counters.dropped_tick_full_packets += 1,
        }
    }

    /// Somebody needs a keyframe: ask the publisher, control, or the home shard.
    pub(super) fn want_keyframe(&mut self, stream_index: usize) {
        let now = self.now;
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        if stream.track_mut(Kind::Video).keyframes.handle_request(now) {
            self.ask_for_keyframe(stream_index);
        }
    }

    /// The request itself; [`Core::want_keyframe`] has seen to it that it is not one of many.
    pub(super) fn ask_for_keyframe(&mut self, stream_index: usize) {
        let Some(stream) = self.streams[stream_index].as_ref() else { return };
        let (key, home) = (stream.key, stream.home);
        if home != self.id {
            if let Some(Some(lane)) = self.lanes.get_mut(usize::from(home)) {
                lane.send(LaneMessage::Keyframe { stream: key });
            }
        } else if stream.is_local {
            self.emit(Event::KeyframeWanted { stream: key });
        } else if let Some(publisher) = stream.publisher {
            self.send_keyframe_request(publisher);
        }
    }
}

/// Which of the session's RTP streams a packet belongs to.
fn place(session: &Session, header: &RtpHeader, now: Instant) -> Place {
    if session.role != Role::Publisher {
        return Place::Unexpected;
    }
    let Some(classified) = classify(session, header.payload_type) else { return Place::Unexpected };
    let current = session.current_receiver(classified.kind, classified.is_rtx);
    let same = |receiver: &Receiver| receiver.ssrc == header.ssrc;
    if let Some(at) = session.receivers.iter().position(same) {
        let format = session.receivers[at].format;
        let agrees = current == Some(at) && (classified.is_rtx || format == classified.format);
        return if agrees { Place::Known(at) } else { Place::Collision };
    }
    let speaks = |at: usize| now.duration_since(session.receivers[at].heard_at) < SSRC_SILENCE;
    let full = session.receivers.len() >= SSRCS_PER_SESSION_MAX;
    if full || current.is_some_and(speaks) { Place::Collision } else { Place::New(classified) }
}

fn classify(session: &Session, payload_type: u8) -> Option<Classified> {
    session.tracks.iter().find_map(|track| {
        track.codecs.iter().find_map(|codec| {
            let format = Format { codec: codec.codec, spec: codec.spec };
            let is_rtx = codec.rtx_payload_type == Some(payload_type);
            let matches = is_rtx || codec.payload_type == payload_type;
            matches.then_some(Classified { kind: track.kind, is_rtx, format })
        })
    })
}

/// Makes an SSRC known, as the current one of its kind. The one it follows keeps its replay window,
/// and what it still sends is dropped.
fn learn(session: &mut Session, ssrc: u32, new: Classified, epoch: u32, now: Instant) -> usize {
    session.receivers.push(Receiver {
        ssrc,
        kind: new.kind,
        is_rtx: new.is_rtx,
        format: new.format,
        epoch,
        replay: ReplayWindow::new(),
        reception: Reception::new(new.format.codec.clock_rate_hz(), now),
        loss: LossDetector::default(),
        heard_at: now,
    });
    session.receivers.len() - 1
}
