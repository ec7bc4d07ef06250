//! The fan-out: this tick's packets to every open slot, sealed next to one another, a message a run.

use super::core::Core;
use super::counters::ShardCounters;
use super::lane::LaneMessage;
use crate::forward::track::Track;
use crate::forward::usage::{Batch, HasNumbers};
use crate::io::{Link, Message};
use crate::ports::Kind;
use crate::session::transport::Session;
use std::time::{Duration, Instant};

impl Core {
    /// Sends what is complete, and what has waited for `gather`. Returns when the rest will have.
    pub fn fan_out<L: Link>(&mut self, gather: Duration, link: &mut L) -> Option<Instant> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut next = None;
        dirty.retain(|stream_index| {
            let mut waits = false;
            for kind in [Kind::Audio, Kind::Video] {
                match self.fan_out_due(*stream_index, kind, gather) {
                    Some(due) if due > self.now => {
                        waits = true;
                        next = Some(next.map_or(due, |next: Instant| next.min(due)));
                    }
                    Some(_) => self.fan_out_track(*stream_index, kind, link),
                    None => {}
                }
            }
            waits
        });
        self.dirty = dirty; // The same vector: its room is kept.
        next
    }

    /// When a track's packets are to leave; `None` if it has none.
    fn fan_out_due(&self, stream_index: usize, kind: Kind, gather: Duration) -> Option<Instant> {
        self.streams[stream_index].as_deref()?.track(kind)?.due_at(gather)
    }

    fn fan_out_track<L: Link>(&mut self, stream_index: usize, kind: Kind, link: &mut L) {
        let now = self.now;
        self.cross(stream_index, kind);
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        let (track, gates, slots) = stream.parts(kind);
        let Some(track) = track.filter(|track| !track.pending.is_empty()) else { return };
        self.counters.gates_expired += gates.expire(now) as u64;
        track.plan(self.runs);
        let mut keyframe_wanted = false;
        for (word_index, word) in gates.words().iter().enumerate() {
            let mut open = *word;
            while open != 0 {
                let bit = word_index * 64 + open.trailing_zeros() as usize;
                open &= open - 1;
                let Some(session) =
                    slots[bit].and_then(|index| self.sessions[index].as_deref_mut())
                else {
                    continue;
                };
                keyframe_wanted |= send_track(link, session, track, now, &mut self.counters);
            }
        }
        track.clear_pending();
        if keyframe_wanted {
            self.want_keyframe(stream_index);
        }
    }

    /// Copies the tick's packets to the shards that have subscribers: once for each shard.
    fn cross(&mut self, stream_index: usize, kind: Kind) {
        let Some(stream) = self.streams[stream_index].as_ref() else { return };
        if stream.interested == 0 || stream.home != self.id {
            return;
        }
        let (key, interested) = (stream.key, stream.interested);
        let Some(track) = stream.track(kind) else { return };
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            let (Some(lane), 1) = (lane, interested >> other & 1) else { continue };
            for packet in track.pending.iter().filter_map(|sequence| track.cache.get(*sequence)) {
                let mut copy = lane.spent_packet().unwrap_or_else(|| self.pool.take());
                packet.copy_into(&mut copy);
                self.counters.payload_copied_bytes += packet.payload_bytes() as u64;
                if lane.send(LaneMessage::Packet { stream: key, kind, packet: copy }) {
                    self.counters.crossed_packets += 1;
                } else {
                    self.counters.dropped_lane_full_messages += 1;
                }
            }
        }
    }

    /// Answers this tick's retransmission requests (RTX, RFC 4588).
    pub fn retransmit<L: Link>(&mut self, link: &mut L) {
        let mut requests = std::mem::take(&mut self.retransmits);
        for request in requests.drain(..) {
            if !self.gate_is_open(request.session) {
                continue;
            }
            let Some(session) = self.sessions[request.session].as_deref_mut() else { continue };
            let Some(stream) = self.streams[session.stream].as_ref() else { continue };
            let Session {
                outlets, seal: Some(seal), path: Some(path), twcc_sequence, meter, ..
            } = session
            else {
                continue;
            };
            let Some(outlet) = outlets[request.kind as usize].as_mut() else { continue };
            let packet = outlet
                .publisher_sequence(request.sequence)
                .and_then(|sequence| stream.track(request.kind)?.cache.get(sequence));
            let Some(packet) = packet else {
                self.counters.retransmit_misses += 1;
                continue;
            };
            let uses_twcc = outlet.uses_twcc();
            let Some(rtx_ssrc) = outlet.rtx_ssrc else { continue };
            let Some((template, index, original, timestamp)) = outlet.retransmission(packet) else {
                continue;
            };
            // The original sequence number leads the payload; a copy is cheap this seldom.
            self.sealed.clear();
            self.sealed.extend_from_slice(&original.to_be_bytes());
            self.sealed.extend_from_slice(packet.payload());
            let room = link.begin();
            let header_bytes =
                template.write(room, packet.marker, false, index as u16, timestamp, *twcc_sequence);
            let len_bytes = seal.seal_rtp(room, header_bytes, &self.sealed, rtx_ssrc, index);
            *twcc_sequence = twcc_sequence.wrapping_add(u16::from(uses_twcc));
            let Message { endpoint, to, .. } = message(*path, len_bytes);
            link.commit(Message { endpoint, to, len_bytes, segment_bytes: len_bytes });
            self.counters.rtx_sent_packets += 1;
            if let Some(meter) = meter {
                meter.handle_retransmitted(self.now, packet.payload_bytes() as u64);
            }
        }
        self.retransmits = requests;
    }

    /// Sends what str0m and RTCP made.
    pub fn post<L: Link>(&mut self, link: &mut L) {
        let mut at = 0;
        for (path, len_bytes) in self.outbox.datagrams.drain(..) {
            let datagram = &self.outbox.bytes[at..at + len_bytes];
            at += len_bytes;
            link.begin()[..len_bytes].copy_from_slice(datagram);
            link.commit(message(path, len_bytes));
        }
        self.outbox.bytes.clear();
    }
}

fn message(path: crate::session::transport::Path, len_bytes: usize) -> Message {
    Message { endpoint: path.endpoint, to: path.remote, len_bytes, segment_bytes: len_bytes }
}

/// Rewrites, seals and queues a track's packets of this tick for one subscriber. Returns whether
/// the subscriber waits for a keyframe that is not among them.
///
/// Runs packets × subscribers times a second: no allocation (`sfu/tests/no_alloc.rs`), no lock, no
/// copy of a payload but the cipher's own pass from the cache into the arena.
#[inline(never)]
fn send_track<L: Link>(
    link: &mut L,
    session: &mut Session,
    track: &Track,
    now: Instant,
    counters: &mut ShardCounters,
) -> bool {
    let Session { outlets, seal: Some(seal), path: Some(path), twcc_sequence, meter, .. } = session
    else {
        return false;
    };
    let Some(outlet) = outlets[track.kind as usize].as_mut() else { return false };
    let Some(start) = outlet.join(track, now) else { return outlet.waits_for_keyframe() };
    let ssrc = outlet.ssrc;
    let twcc_step = u16::from(outlet.uses_twcc());
    let first = *twcc_sequence;
    let mut room = link.begin();
    let (mut used, mut segment_bytes) = (0, 0);
    let (mut packets, mut bytes, mut padded) = (0, 0, 0);
    for (sequence, step) in track.pending[start..].iter().zip(&track.steps[start..]) {
        let numbered = track
            .cache
            .get(*sequence)
            .and_then(|packet| Some((packet, outlet.number(packet, now)?)));
        if let Some((packet, (sequence, timestamp))) = numbered {
            let Some(template) = outlet.template() else { break };
            let out = &mut room[used..];
            let padding = step.padding;
            let header_bytes = template.write(
                out,
                packet.marker,
                padding > 0,
                sequence as u16,
                timestamp,
                *twcc_sequence,
            );
            *twcc_sequence = twcc_sequence.wrapping_add(twcc_step);
            let len_bytes =
                seal.seal_rtp(out, header_bytes, packet.padded(padding), ssrc, sequence);
            if used == 0 {
                segment_bytes = len_bytes;
            }
            used += len_bytes;
            packets += 1;
            bytes += packet.payload_bytes() as u64;
            padded += padding as u64;
        }
        if step.ends_run && used > 0 {
            let (endpoint, to) = (path.endpoint, path.remote);
            link.commit(Message { endpoint, to, len_bytes: used, segment_bytes });
            room = link.begin();
            used = 0;
        }
    }
    debug_assert_eq!(used, 0, "the last step of a plan ends a run");
    counters.rtp_forwarded_packets += packets;
    counters.rtp_forwarded_bytes += bytes;
    counters.rtp_padded_packets += padded;
    if let Some(meter) = meter {
        let has_numbers = if twcc_step == 1 { HasNumbers::Yes } else { HasNumbers::No };
        meter.handle_sent(now, Batch { kind: track.kind, packets, bytes, first, has_numbers });
    }
    false
}
