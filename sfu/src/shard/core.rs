//! A shard's state and what each input does to it; sans-IO, its outputs wait in queues.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::counters::{ShardCounters, ShardSnapshot, StreamSnapshot};
use super::handshake::Handshakes;
use super::lane::Lane;
use super::stream::Stream;
use crate::forward::packet::{Packet, Pool};
use crate::forward::run::Runs;
use crate::forward::usage::Meter;
use crate::io::Endpoint;
use crate::limits::{EVENTS_MAX, RETRANSMITS_PER_TICK_MAX};
use crate::ports::gate::{GateCmd, GateOp, MonotonicClock};
use crate::ports::{
    CloseReason, Event, Frame, Kind, SessionKey, SideChannelConfig, SrtpProfile, StreamKey,
};
use crate::session::transport::{NewSession, Path, Session};

/// What control asks of a shard.
pub enum Command {
    Create(Box<NewSession>, u16),
    /// Ends a session; the frame leaves before close_notify, if the side channel takes it.
    Close(SessionKey, CloseReason, Option<Vec<u8>>),
    /// An in-process source feeds `stream` on this shard from now on.
    OpenLocal(StreamKey),
    Ingest(StreamKey, Kind, Box<Packet>),
    EndStream(StreamKey),
    /// Close every session with `CloseReason::Drain`, then stop.
    Drain,
}

/// Who a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
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
pub(super) struct SlotEntry {
    pub generation: u32,
    pub session: usize,
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
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) sessions: Vec<Option<Box<Session>>>,
    pub(super) free_sessions: Vec<usize>,
    pub(super) by_key: HashMap<SessionKey, usize>,
    pub(super) by_path: HashMap<Path, Owner>,
    pub(super) by_ufrag: HashMap<String, usize>,
    pub(super) slots: Vec<Option<SlotEntry>>,
    pub(super) streams: Vec<Option<Box<Stream>>>,
    pub(super) stream_by_key: HashMap<StreamKey, usize>,
    /// Streams with packets of this tick.
    pub(super) dirty: Vec<usize>,
    pub(super) pool: Pool,
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) outbox: Outbox,
    pub(super) handshakes: Handshakes,
    pub(super) retransmits: Vec<Retransmit>,
    pub(super) timers: BinaryHeap<Reverse<(Instant, usize, SessionKey)>>,
    pub(super) events: VecDeque<Event>,
    pub(super) clock: MonotonicClock,
    /// Scratch space of one RTCP compound, in and out.
    pub(super) compound: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) asked: Vec<u64>,
    pub counters: ShardCounters,
    pub(super) profiles: Vec<(SrtpProfile, u64)>,
    pub draining: bool,
    /// `None`: data channels are ignored.
    pub side_channel: Option<SideChannelConfig>,
    /// Is the usage of subscribers metered?
    pub usage: bool,
    pub runs: Runs,
    pub(super) subscribers: usize,
    /// Frames of peers that the owner has not been handed; as many as their sessions may have.
    pub(super) frames: VecDeque<Frame>,
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
            handshakes: Handshakes::default(),
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
            side_channel: None,
            usage: false,
            runs: Runs::default(),
            subscribers: 0,
            frames: VecDeque::new(),
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

    /// A command of control.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            Command::Create(new, home) => self.create(*new, home),
            Command::Close(key, reason, last_frame) => {
                if let Some(index) = self.by_key.get(&key).copied() {
                    self.close_with(index, reason, last_frame.as_deref());
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
        let (bit, stream_index, now) = (session.bit, session.stream, self.now);
        let Some(stream) = self.streams[stream_index].as_mut() else { return };
        match command.op {
            GateOp::Close => {
                if let (true, Some(meter)) = (stream.gates.is_open(bit), session.meter.as_mut()) {
                    meter.handle_gate_closed(now);
                }
                stream.gates.close(bit);
            }
            GateOp::Open => {
                let valid_until =
                    (command.valid_until != 0).then(|| self.clock.instant(command.valid_until));
                let was_open = stream.gates.is_open(bit);
                stream.gates.open(bit, valid_until);
                if !was_open {
                    if self.usage {
                        let meter = || Box::new(Meter::new(now));
                        session.meter.get_or_insert_with(meter).handle_gate_opened(now);
                    }
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
