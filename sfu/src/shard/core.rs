//! A shard's state and what each input does to it; sans-IO, its outputs wait in queues.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::counters::{ShardCounters, ShardSnapshot, StreamSnapshot};
use super::lane::{Lane, LaneMessage};
use super::stream::Stream;
use crate::forward::packet::{Packet, Pool};
use crate::io::{Endpoint, Train};
use crate::limits::{EVENTS_MAX, HANDSHAKE_MAX, RETRANSMITS_PER_TICK_MAX, SILENCE_MAX};
use crate::ports::gate::{GateCmd, GateOp, MonotonicClock};
use crate::ports::{CloseReason, Event, Kind, Role, SessionKey, SrtpProfile, StreamKey};
use crate::session::offer::home_shard;
use crate::session::srtp::{OpenContext, SealContext};
use crate::session::transport::{Closed, NewSession, Path, Session};
use crate::wire::demux::{DatagramKind, classify};
use crate::wire::stun;

/// What control asks of a shard.
pub enum Command {
    Create(Box<NewSession>, u16),
    Close(SessionKey, CloseReason),
    /// An in-process source feeds `stream` on this shard from now on.
    OpenLocal(StreamKey),
    Ingest(StreamKey, Kind, Box<Packet>),
    EndStream(StreamKey),
    /// Close every session with `CloseReason::Drain`, then stop.
    Drain,
}

/// Who a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Session(usize),
    Shard(u16),
}

/// A retransmission to be sent with this tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retransmit {
    pub session: usize,
    pub kind: Kind,
    /// The subscriber's sequence number.
    pub sequence: u16,
}

#[derive(Debug, Clone, Copy)]
struct SlotEntry {
    generation: u32,
    session: usize,
}

/// Datagrams to send that str0m or RTCP made, kept until the receive phase is over.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub bytes: Vec<u8>,
    pub datagrams: Vec<(Path, usize)>,
}

impl Outbox {
    pub fn push(&mut self, path: Path, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.datagrams.push((path, datagram.len()));
    }
}

pub struct Core {
    pub id: u16,
    pub now: Instant,
    endpoints: Vec<Endpoint>,
    pub(super) sessions: Vec<Option<Box<Session>>>,
    free_sessions: Vec<usize>,
    by_key: HashMap<SessionKey, usize>,
    by_path: HashMap<Path, Owner>,
    by_ufrag: HashMap<String, usize>,
    slots: Vec<Option<SlotEntry>>,
    pub(super) streams: Vec<Option<Box<Stream>>>,
    stream_by_key: HashMap<StreamKey, usize>,
    /// Streams with packets of this tick.
    pub(super) dirty: Vec<usize>,
    pub(super) pool: Pool,
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) outbox: Outbox,
    pub(super) retransmits: Vec<Retransmit>,
    timers: BinaryHeap<Reverse<(Instant, usize, SessionKey)>>,
    events: VecDeque<Event>,
    clock: MonotonicClock,
    /// Scratch space of one RTCP compound, in and out.
    pub(super) compound: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) asked: Vec<u64>,
    pub counters: ShardCounters,
    pub(super) profiles: Vec<(SrtpProfile, u64)>,
    pub draining: bool,
}

impl Core {
    pub fn new(
        id: u16,
        endpoints: Vec<Endpoint>,
        lanes: Vec<Option<Lane>>,
        clock: MonotonicClock,
        now: Instant,
    ) -> Core {
        Core {
            id,
            now,
            endpoints,
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            by_key: HashMap::new(),
            by_path: HashMap::new(),
            by_ufrag: HashMap::new(),
            slots: Vec::new(),
            streams: Vec::new(),
            stream_by_key: HashMap::new(),
            dirty: Vec::with_capacity(64),
            pool: Pool::default(),
            lanes,
            outbox: Outbox::default(),
            retransmits: Vec::with_capacity(RETRANSMITS_PER_TICK_MAX),
            timers: BinaryHeap::new(),
            events: VecDeque::new(),
            clock,
            compound: Vec::with_capacity(2048),
            sealed: Vec::with_capacity(2048),
            asked: Vec::with_capacity(crate::limits::MISSING_MAX),
            counters: ShardCounters::default(),
            profiles: Vec::new(),
            draining: false,
        }
    }

    pub fn session_count(&self) -> usize {
        self.by_key.len()
    }

    /// The oldest event that control has not seen.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// An event that control had no room for.
    pub fn hold_event(&mut self, event: Event) {
        self.events.push_front(event);
    }

    pub(super) fn emit(&mut self, event: Event) {
        // Lifecycle events are bounded by the sessions, of which there are fewer.
        debug_assert!(self.events.len() < EVENTS_MAX, "events are bounded by sessions");
        self.events.push_back(event);
    }

    // ---- Inputs -------------------------------------------------------------------------------

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
                DatagramKind::Stun | DatagramKind::Dtls => self.handle_cold(index, path, datagram),
                DatagramKind::Unknown => self.counters.dropped_unknown_datagrams += 1,
            }
            if self.sessions[index].is_none() {
                return; // It closed over this very datagram.
            }
        }
    }

    /// STUN and DTLS go to str0m.
    fn handle_cold(&mut self, index: usize, path: Path, datagram: &[u8]) {
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
                    Some(index) => self.accept(index, kind, packet),
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

    /// A command of control.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            Command::Create(new, home) => self.create(*new, home),
            Command::Close(key, reason) => {
                if let Some(index) = self.by_key.get(&key).copied() {
                    self.close(index, reason);
                }
            }
            Command::OpenLocal(key) => {
                let index = self.stream_index(key, self.id);
                let stream = self.streams[index].as_mut().expect("the index was just looked up");
                stream.is_local = true;
            }
            Command::Ingest(key, kind, packet) => match self.stream_by_key.get(&key).copied() {
                Some(index) => {
                    self.counters.rtp_received_packets += 1;
                    self.counters.rtp_received_bytes += packet.payload_bytes() as u64;
                    self.note_new_track(index, kind, &packet);
                    self.accept(index, kind, packet);
                }
                None => self.pool.give(packet),
            },
            Command::EndStream(key) => self.end_stream(key),
            Command::Drain => {
                self.draining = true;
                for index in 0..self.sessions.len() {
                    self.close(index, CloseReason::Drain);
                }
            }
        }
    }

    /// A gate command; ignored if the slot is not (or no longer) the one that was meant.
    pub fn handle_gate(&mut self, command: GateCmd) {
        let entry = self.slots.get(command.slot as usize).copied().flatten();
        let Some(entry) = entry.filter(|entry| entry.generation == command.generation) else {
            self.counters.gate_commands_stale += 1;
            return;
        };
        self.counters.gate_commands += 1;
        let Some(session) = self.sessions[entry.session].as_mut() else { return };
        let (bit, stream_index) = (session.bit, session.stream);
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        match command.op {
            GateOp::Close => stream.gates.close(bit),
            GateOp::Open => {
                let valid_until =
                    (command.valid_until != 0).then(|| self.clock.instant(command.valid_until));
                let was_open = stream.gates.is_open(bit);
                stream.gates.open(bit, valid_until);
                if !was_open {
                    // What was missed meanwhile is not asked for: numbers go on behind the last.
                    session.outlets.iter_mut().flatten().for_each(|outlet| outlet.pause());
                    if session.outlets[Kind::Video as usize].is_some() {
                        self.want_keyframe(stream_index);
                    }
                }
            }
        }
    }

    /// Timers of str0m that are due. Returns when to call again.
    pub fn handle_timers(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, index, key))) = self.timers.peek().copied() {
            if at > self.now {
                return Some(at);
            }
            self.timers.pop();
            let now = self.now;
            let Some(session) = self.sessions[index].as_mut() else { continue };
            if session.key != key || session.queued_timeout != Some(at) {
                continue; // The place of a session that is gone, or an entry that was overtaken.
            }
            session.queued_timeout = None;
            if session.next_timeout <= now && session.handle_timeout(now).is_err() {
                self.counters.dropped_transport_datagrams += 1;
            }
            self.drive(index);
        }
        None
    }

    // ---- Sessions -----------------------------------------------------------------------------

    fn create(&mut self, new: NewSession, home: u16) {
        let stream = self.stream_index(new.stream, home);
        let index = self.free_sessions.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        let mut bit = 0;
        if let Some(slot) = new.slot {
            let entry = slot.index as usize;
            if self.slots.len() <= entry {
                self.slots.resize(entry + 1, None);
            }
            self.slots[entry] = Some(SlotEntry { generation: slot.generation, session: index });
            let subscribed = self.streams[stream].as_mut().expect("the index was just looked up");
            bit = subscribed.add_slot(index);
            self.tell_interest(stream, true);
        }
        self.by_key.insert(new.key, index);
        self.by_ufrag.insert(new.ufrag.clone(), index);
        self.sessions[index] = Some(Box::new(Session::new(new, stream, bit, self.now)));
        self.counters.sessions_opened += 1;
        self.drive(index);
        if self.draining {
            self.close(index, CloseReason::Drain);
        }
    }

    /// Makes a session what it is after a handshake, for [`super::bench`].
    pub(super) fn make_ready(
        &mut self,
        index: usize,
        contexts: (SealContext, OpenContext),
        path: Path,
    ) {
        let session = self.sessions[index].as_mut().expect("the bench just made it");
        (session.seal, session.open) = (Some(contexts.0), Some(contexts.1));
        session.path = Some(path);
        session.add_path(path);
        self.by_path.insert(path, Owner::Session(index));
        self.connected(index, SrtpProfile::AEAD_AES_256_GCM);
    }

    /// Polls str0m and obeys; the session may be gone afterwards.
    pub(super) fn drive(&mut self, index: usize) -> crate::session::transport::Driven {
        let Some(session) = self.sessions[index].as_mut() else { return Default::default() };
        let (endpoints, outbox) = (&self.endpoints, &mut self.outbox);
        let driven = session.drive(|local, remote, datagram| {
            let of_local = |endpoint: &Endpoint| endpoint.advertise == local;
            let endpoint = endpoints.iter().position(of_local).unwrap_or(0);
            let path = Path { endpoint, remote };
            outbox.push(path, datagram);
            path
        });
        if session.queued_timeout.is_none_or(|queued| session.next_timeout < queued) {
            session.queued_timeout = Some(session.next_timeout);
            self.timers.push(Reverse((session.next_timeout, index, session.key)));
        }
        if let Some(profile) = driven.connected {
            self.connected(index, profile);
        }
        if let Some(closed) = driven.closed {
            let reason = match closed {
                Closed::ByPeer => CloseReason::Peer,
                Closed::Fingerprint => CloseReason::Fingerprint,
                Closed::Transport => CloseReason::Transport,
            };
            self.remove(index, reason);
        }
        driven
    }

    fn connected(&mut self, index: usize, profile: SrtpProfile) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let (key, stream_key, role) = (session.key, session.stream_key, session.role);
        let (slot, stream) = (session.slot, session.stream);
        let after = now.duration_since(session.offered_at);
        match self.profiles.iter_mut().find(|(known, _)| *known == profile) {
            Some((_, count)) => *count += 1,
            None => self.profiles.push((profile, 1)),
        }
        if role == Role::Publisher {
            if let Some(stream) = self.streams[stream].as_mut() {
                stream.publisher = Some(index);
            }
            self.want_keyframe(stream);
        }
        self.emit(Event::Connected {
            session: key,
            stream: stream_key,
            role,
            slot,
            profile,
            after,
        });
    }

    /// Ends a session in order: close_notify, then [`Core::remove`].
    pub(super) fn close(&mut self, index: usize, reason: CloseReason) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        session.start_close();
        let (endpoints, outbox) = (&self.endpoints, &mut self.outbox);
        session.drive(|local, remote, datagram| {
            let of_local = |endpoint: &Endpoint| endpoint.advertise == local;
            let endpoint = endpoints.iter().position(of_local).unwrap_or(0);
            let path = Path { endpoint, remote };
            outbox.push(path, datagram);
            path
        });
        self.remove(index, reason);
    }

    fn remove(&mut self, index: usize, reason: CloseReason) {
        let Some(session) = self.sessions[index].take() else { return };
        self.free_sessions.push(index);
        self.by_key.remove(&session.key);
        self.by_ufrag.remove(&session.ufrag);
        for path in session.paths() {
            if self.by_path.get(path) == Some(&Owner::Session(index)) {
                self.by_path.remove(path);
            }
            for lane in self.lanes.iter_mut().flatten() {
                lane.send(LaneMessage::Forget { path: *path });
            }
        }
        if let Some(slot) = session.slot {
            self.slots[slot.index as usize] = None;
        }
        if let Some(stream) = self.streams[session.stream].as_mut() {
            match session.role {
                Role::Subscriber => stream.remove_slot(session.bit),
                Role::Publisher if stream.publisher == Some(index) => stream.publisher = None,
                Role::Publisher => {}
            }
            let forsaken = session.role == Role::Subscriber && stream.subscribers() == 0;
            if forsaken {
                self.tell_interest(session.stream, false);
            }
        }
        self.retire_stream(session.stream);
        self.counters.sessions_closed += 1;
        self.counters.fingerprint_mismatches += u64::from(reason == CloseReason::Fingerprint);
        self.emit(Event::Closed {
            session: session.key,
            stream: session.stream_key,
            role: session.role,
            slot: session.slot,
            reason,
        });
    }

    /// Ends sessions that nobody answers for, a few times a second.
    pub(super) fn sweep(&mut self) {
        for index in 0..self.sessions.len() {
            let Some(session) = self.sessions[index].as_ref() else { continue };
            let silent_for = self.now.duration_since(session.heard_at);
            match session.is_connected() {
                true if silent_for >= SILENCE_MAX => self.close(index, CloseReason::Silence),
                false if self.now.duration_since(session.offered_at) >= HANDSHAKE_MAX => {
                    self.close(index, CloseReason::HandshakeTimeout);
                }
                _ => {}
            }
        }
    }

    // ---- Streams ------------------------------------------------------------------------------

    pub(super) fn stream_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let index = self.stream_by_key.get(&key).copied()?;
        self.streams[index].as_deref_mut()
    }

    pub(super) fn stream_index(&mut self, key: StreamKey, home: u16) -> usize {
        if let Some(index) = self.stream_by_key.get(&key).copied() {
            return index;
        }
        let index = self.streams.iter().position(Option::is_none).unwrap_or(self.streams.len());
        if index == self.streams.len() {
            self.streams.push(None);
        }
        self.streams[index] = Some(Box::new(Stream::new(key, home)));
        self.stream_by_key.insert(key, index);
        index
    }

    /// Tells the home shard whether we have subscribers of a stream.
    fn tell_interest(&mut self, index: usize, wanted: bool) {
        let Some(stream) = self.streams[index].as_ref() else { return };
        let (key, home) = (stream.key, stream.home);
        if home == self.id {
            return;
        }
        if let Some(Some(lane)) = self.lanes.get_mut(usize::from(home)) {
            lane.send(LaneMessage::Interest { stream: key, wanted });
        }
    }

    fn end_stream(&mut self, key: StreamKey) {
        let Some(index) = self.stream_by_key.get(&key).copied() else { return };
        let Some(stream) = self.streams[index].as_mut() else { return };
        stream.is_local = false;
        let publisher = stream.publisher;
        let subscribers: Vec<usize> = stream.slots.iter().flatten().copied().collect();
        for session in publisher.into_iter().chain(subscribers) {
            self.close(session, CloseReason::Control);
        }
        self.retire_stream(index);
    }

    /// Frees a stream that nobody here publishes, feeds, watches or wants.
    fn retire_stream(&mut self, index: usize) {
        let Some(stream) = self.streams[index].as_mut() else { return };
        let used = stream.publisher.is_some()
            || stream.is_local
            || stream.interested != 0
            || stream.subscribers() > 0
            // A publisher may still be shaking hands.
            || self.sessions.iter().flatten().any(|session| session.stream == index);
        if used {
            return;
        }
        for kind in [Kind::Audio, Kind::Video] {
            if let Some(track) = stream.existing_track_mut(kind) {
                track.cache.clear(&mut self.pool);
            }
        }
        let key = stream.key;
        self.streams[index] = None;
        self.stream_by_key.remove(&key);
        self.dirty.retain(|dirty| *dirty != index);
    }

    /// When the oldest packet of this tick has been gathered for long enough.
    pub fn fan_out_due(&self, gather: Duration) -> Option<Instant> {
        let due =
            |kind| move |stream: &Stream| stream.track(kind).and_then(|track| track.due_at(gather));
        let streams = || self.dirty.iter().filter_map(|index| self.streams[*index].as_deref());
        streams().filter_map(due(Kind::Audio)).chain(streams().filter_map(due(Kind::Video))).min()
    }

    /// Sends an RTCP compound that is in `self.compound`.
    pub(super) fn send_compound(&mut self, index: usize) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        let (Some(seal), Some(path)) = (session.seal.as_mut(), session.path) else { return };
        self.sealed.clear();
        seal.seal_rtcp(&self.compound, &mut self.sealed);
        self.outbox.push(path, &self.sealed);
        self.counters.rtcp_sent_packets += 1;
    }

    /// Hands over what other shards shall get, and wakes them.
    pub fn flush_lanes(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::flush);
    }

    /// A copy of what control may see; the loop adds its own numbers.
    pub fn snapshot(&self) -> ShardSnapshot {
        let stream = |stream: &Stream| StreamSnapshot {
            stream: stream.key,
            received_packets: stream.received_packets,
            received_bytes: stream.received_bytes,
            subscribers: stream.subscribers() as u32,
            open: stream.gates.words().iter().map(|word| word.count_ones()).sum(),
        };
        ShardSnapshot {
            shard: self.id,
            counters: self.counters.clone(),
            sessions: self.session_count() as u64,
            streams: self.streams.iter().flatten().map(|known| stream(known)).collect(),
            profiles: self.profiles.clone(),
            ..ShardSnapshot::default()
        }
    }

    /// Our address as peers know it, for tests.
    pub fn endpoint(&self, index: usize) -> Option<SocketAddr> {
        self.endpoints.get(index).map(|endpoint| endpoint.advertise)
    }
}
