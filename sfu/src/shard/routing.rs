//! Which session a datagram is for, on this shard or on another.

use super::core::{Core, Owner};
use super::lane::{Lane, LaneMessage};
use crate::io::Train;
use crate::session::offer::home_shard;
use crate::session::transport::Path;
use crate::wire::demux::{DatagramKind, classify};
use crate::wire::stun;

impl Core {
    /// Datagrams from the network.
    pub fn handle_train(&mut self, train: &Train<'_>) {
        let path = Path { endpoint: train.endpoint, remote: train.from };
        if train.bytes.is_empty() || train.segment_bytes == 0 {
            self.counters.dropped_unknown_datagrams += 1;
            return;
        }
        let first = &train.bytes[..train.segment_bytes.min(train.bytes.len())];
        if classify(first) == DatagramKind::Stun {
            self.handle_check(path, first, train);
            return;
        }
        match self.by_path.get(&path).copied() {
            Some(Owner::Session(index)) => self.handle_datagrams(index, path, train),
            Some(Owner::Shard(shard)) => self.hand_over(shard, train),
            // DTLS and media are read only from a path with an authenticated check.
            None => self.counters.dropped_unknown_path_datagrams += 1,
        }
    }

    /// A connectivity check names its session, whatever path it came by: its username begins with
    /// our fragment, and that with the home shard.
    fn handle_check(&mut self, path: Path, first: &[u8], train: &Train<'_>) {
        let ufrag = stun::username_local(first).unwrap_or_default();
        match self.by_ufrag.get(ufrag).copied() {
            Some(index) => self.handle_datagrams(index, path, train),
            None => match home_shard(ufrag) {
                Some(shard) if shard != self.id && usize::from(shard) < self.lanes.len() => {
                    self.hand_over(shard, train);
                }
                _ => self.counters.dropped_unknown_ufrag_datagrams += 1,
            },
        }
    }

    fn hand_over(&mut self, shard: u16, train: &Train<'_>) {
        let Some(lane) = self.lanes[usize::from(shard)].as_mut() else { return };
        let mut bytes = lane.spent_bytes();
        bytes.clear();
        bytes.extend_from_slice(train.bytes);
        let Train { endpoint, from, segment_bytes, .. } = *train;
        if lane.send(LaneMessage::Datagrams { endpoint, from, segment_bytes, bytes }) {
            self.counters.handed_over_datagrams += 1;
        } else {
            self.counters.dropped_lane_full_messages += 1;
        }
    }

    fn handle_datagrams(&mut self, index: usize, path: Path, train: &Train<'_>) {
        for datagram in train.bytes.chunks(train.segment_bytes) {
            match classify(datagram) {
                DatagramKind::Rtp => self.handle_rtp(index, path, datagram),
                DatagramKind::Rtcp => self.handle_rtcp(index, path, datagram),
                DatagramKind::Dtls if !self.is_connected(index) => {
                    self.defer_handshake(index, path, datagram);
                }
                DatagramKind::Stun | DatagramKind::Dtls => self.handle_cold(index, path, datagram),
                DatagramKind::Unknown => self.counters.dropped_unknown_datagrams += 1,
            }
            if self.sessions[index].is_none() {
                return; // It closed over this very datagram.
            }
        }
    }

    fn is_connected(&self, index: usize) -> bool {
        self.sessions[index].as_ref().is_some_and(|session| session.is_connected())
    }

    /// STUN and DTLS go to str0m.
    pub(super) fn handle_cold(&mut self, index: usize, path: Path, datagram: &[u8]) {
        let Some(endpoint) = self.endpoints.get(path.endpoint) else { return };
        let local = endpoint.advertise;
        let Some(session) = self.sessions[index].as_mut() else { return };
        if session.handle_datagram(datagram, path.remote, local, self.now).is_err() {
            self.counters.dropped_transport_datagrams += 1;
        }
        let driven = self.drive(index);
        if driven.check_answered {
            self.learn_path(index, path);
        }
    }

    fn learn_path(&mut self, index: usize, path: Path) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        session.heard_at = self.now;
        if self.by_path.get(&path) == Some(&Owner::Session(index)) {
            return;
        }
        if let Some(forgotten) = session.add_path(path) {
            self.by_path.remove(&forgotten);
        }
        // A 4-tuple that another session left behind is this one's now.
        self.by_path.insert(path, Owner::Session(index));
    }

    /// Once a turn: what the other shards sent.
    pub fn handle_lanes(&mut self) {
        for other in 0..self.lanes.len() {
            // Bounded: at most what the queue holds.
            for _ in 0..crate::limits::LANE_MESSAGES_MAX {
                let Some(message) = self.lanes[other].as_ref().and_then(Lane::receive) else {
                    break;
                };
                self.handle_lane_message(other, message);
            }
        }
    }

    fn handle_lane_message(&mut self, other: usize, message: LaneMessage) {
        match message {
            LaneMessage::Datagrams { endpoint, from, segment_bytes, bytes } => {
                let path = Path { endpoint, remote: from };
                let known = self.by_path.contains_key(&path);
                let train = Train { endpoint, from, bytes: &bytes, segment_bytes };
                let first = &bytes[..segment_bytes.min(bytes.len())];
                let ufrag = stun::username_local(first).unwrap_or_default();
                // Never hand on what was handed over: two shards must not play ping-pong.
                match (self.by_ufrag.get(ufrag).copied(), self.by_path.get(&path).copied()) {
                    (Some(index), _) | (None, Some(Owner::Session(index))) => {
                        self.handle_datagrams(index, path, &train);
                    }
                    _ => self.counters.dropped_unknown_ufrag_datagrams += 1,
                }
                let learned = !known && self.by_path.contains_key(&path);
                if let Some(lane) = self.lanes[other].as_mut() {
                    lane.give_back_bytes(bytes);
                    if learned {
                        lane.send(LaneMessage::Learned { path });
                    }
                }
            }
            LaneMessage::Learned { path } => {
                self.by_path.insert(path, Owner::Shard(other as u16));
            }
            LaneMessage::Forget { path } => {
                if self.by_path.get(&path) == Some(&Owner::Shard(other as u16)) {
                    self.by_path.remove(&path);
                }
            }
            LaneMessage::Packet { stream, kind, packet } => {
                // One comes, one goes back: the pools of both shards keep their size.
                if let (false, Some(lane)) = (self.pool.is_empty(), &self.lanes[other]) {
                    lane.give_back_packet(self.pool.take());
                }
                match self.stream_by_key.get(&stream).copied() {
                    Some(index) => {
                        self.accept(index, kind, packet);
                        if let Some(stream) = self.streams[index].as_mut() {
                            stream.track_mut(kind).hurry();
                        }
                    }
                    None => self.pool.give(packet),
                }
            }
            LaneMessage::SenderTime { stream, kind, time } => {
                if let Some(stream) = self.stream_mut(stream) {
                    stream.track_mut(kind).sender_time = Some(time);
                }
            }
            LaneMessage::Interest { stream, wanted } => {
                let index = self.stream_index(stream, self.id);
                let stream = self.streams[index].as_mut().expect("the index was just looked up");
                let bit = 1 << other;
                stream.interested =
                    if wanted { stream.interested | bit } else { stream.interested & !bit };
                self.retire_stream(index);
            }
            LaneMessage::Keyframe { stream } => {
                if let Some(index) = self.stream_by_key.get(&stream).copied() {
                    self.want_keyframe(index);
                }
            }
        }
    }
}
