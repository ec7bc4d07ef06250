//! Control's handle on all shards: takes offers, gives answers, tells shards what to do.

mod local_source;
mod thread;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use crossbeam_queue::ArrayQueue;
use str0m::config::DtlsCert;

pub use self::local_source::LocalSource;
use self::thread::Start;
use crate::forward::run::Runs;
use crate::io::{
    BindError, BufferBytes, Endpoint, LinkKind, LinkUnavailable, ShardSockets, Waker, bind_shards,
    monotonic_nanos,
};
use crate::limits::{
    COMMANDS_MAX, EVENTS_MAX, FRAME_BYTES_MAX, FRAMES_MAX, FRAMES_OUT_MAX, GATE_COMMANDS_MAX,
    SESSIONS_PER_SHARD_MAX, SHARDS_MAX, USAGE_REPORTS_MAX,
};
use crate::ports::gate::{GateReceiver, MonotonicClock};
use crate::ports::ring::ring;
use crate::ports::side_channel::FrameOut;
use crate::ports::{
    CloseReason, Codec, Event, Frame, GateSender, Role, SessionKey, SideChannelConfig, SlotId,
    StreamKey, UsageReport,
};
use crate::session::fingerprint::{self, FINGERPRINT_BYTES};
use crate::session::offer::{self, OfferError};
use crate::session::transport::NewSession;
use crate::shard::{Command, Core, Lanes, Ports, ShardSnapshot};

/// How a relay is set up.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Threads that forward, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    pub link: LinkKind,
    /// Local sockets and the addresses that peers are told.
    pub endpoints: Vec<Endpoint>,
    /// Bind shard `n` to core `n`.
    pub pin: bool,
    /// How long a packet may wait for others of its frame, 0 to 1 ms.
    pub gather: Duration,
    /// How packets become messages.
    pub runs: Runs,
    /// The relay's identity towards all peers.
    pub certificate: DtlsCert,
    /// Sessions at once, at most [`SESSIONS_PER_SHARD_MAX`] for each shard.
    pub sessions_max: usize,
    /// `None`: data channels of peers are ignored.
    pub side_channel: Option<SideChannelConfig>,
    /// Report the usage of subscribers?
    pub usage: bool,
}

/// A relay that runs, and what comes out of it. A queue that nobody reads may be dropped.
#[derive(Debug)]
pub struct Started {
    pub relay: Relay,
    /// Whoever reads them must call [`Relay::note_event`] with each, before anything else.
    pub events: Receiver<Event>,
    /// Sets gates; for one thread.
    pub gates: GateSender,
    /// What peers sent on the side channel.
    pub frames: Receiver<Frame>,
    /// Each 200 ms from every shard with subscribers.
    pub usage: Receiver<UsageReport>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0} shards are not possible; 1 to {SHARDS_MAX} are")]
    Shards(usize),
    #[error("no local address to receive media on")]
    NoEndpoint,
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Link(#[from] LinkUnavailable),
    #[error("shard {shard} cannot start: {error}")]
    Thread { shard: usize, error: std::io::Error },
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub session: SessionKey,
    /// The SDP answer.
    pub answer: String,
    /// A subscriber's gate, closed until somebody opens it.
    pub slot: Option<SlotId>,
}

/// What control keeps of a shard.
#[derive(Debug)]
struct ShardHandle {
    commands: Sender<Command>,
    frames_out: Sender<FrameOut>,
    waker: Waker,
    snapshots: Arc<ArrayQueue<ShardSnapshot>>,
    thread: Option<JoinHandle<()>>,
}

/// Control's books: small, and locked only while an offer is answered or a session told to end.
#[derive(Debug, Default)]
struct Books {
    /// Shard of each stream's publisher; fixed for the life of the key.
    homes: HashMap<StreamKey, u16>,
    sessions: HashMap<SessionKey, SessionEntry>,
    /// Sessions of each shard.
    load: Vec<usize>,
    slots: Vec<SlotTable>,
    newest: Vec<ShardSnapshot>,
}

#[derive(Debug, Clone, Copy)]
struct SessionEntry {
    shard: u16,
    slot: Option<SlotId>,
}

#[derive(Debug, Default)]
struct SlotTable {
    free: Vec<SlotId>,
    used: u32,
}

/// All shards of a process.
#[derive(Debug)]
pub struct Relay {
    shards: Vec<ShardHandle>,
    endpoints: Vec<Endpoint>,
    certificate: DtlsCert,
    sessions_max: AtomicUsize,
    buffer_bytes: BufferBytes,
    next_session: AtomicU64,
    alive: Arc<AtomicUsize>,
    draining: AtomicBool,
    stop: Arc<AtomicBool>,
    books: Mutex<Books>,
}

impl Relay {
    /// Binds the sockets and starts the shards.
    ///
    /// # Errors
    /// A taken port, a link that this host does not have, a thread that cannot be started.
    pub fn start(config: RelayConfig) -> Result<Started, StartError> {
        if !(1..=SHARDS_MAX).contains(&config.shards) {
            return Err(StartError::Shards(config.shards));
        }
        if config.endpoints.is_empty() {
            return Err(StartError::NoEndpoint);
        }
        let (endpoints, sockets) = bind_shards(&config.endpoints, config.shards)?;
        let now = Instant::now();
        let clock = MonotonicClock::new(now, monotonic_nanos());
        let wakers: Vec<Waker> = sockets.iter().map(ShardSockets::waker).collect();
        let buffer_bytes = sockets[0].buffer_bytes();
        let lanes = Lanes::new(config.shards);
        let (events, events_out) = crossbeam_channel::bounded(EVENTS_MAX);
        let (frames, frames_in) = crossbeam_channel::bounded(FRAMES_MAX);
        let (usage, usage_out) = crossbeam_channel::bounded(USAGE_REPORTS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let alive = Arc::new(AtomicUsize::new(config.shards));
        let mut shards = Vec::new();
        let mut gate_lanes = Vec::new();
        for (id, sockets) in sockets.into_iter().enumerate() {
            let (commands, commands_out) = crossbeam_channel::bounded(COMMANDS_MAX);
            let (frames_out, frames_to_peers) = crossbeam_channel::bounded(FRAMES_OUT_MAX);
            let (gates, gates_out) = ring(GATE_COMMANDS_MAX);
            let snapshots = Arc::new(ArrayQueue::new(1));
            let waker = wakers[id].clone();
            let lanes = lanes.of(id, &wakers);
            let mut core = Core::new(id as u16, endpoints.clone(), lanes, clock, now);
            core.side_channel = config.side_channel.clone();
            core.usage = config.usage;
            core.runs = config.runs;
            let ports = Ports {
                commands: commands_out,
                gates: gates_out as GateReceiver,
                events: events.clone(),
                snapshots: snapshots.clone(),
                stop: stop.clone(),
                frames: frames.clone(),
                frames_out: frames_to_peers,
                usage: usage.clone(),
            };
            let start = Start {
                core,
                ports,
                sockets,
                link: config.link,
                gather: config.gather,
                pin: config.pin,
                alive: alive.clone(),
            };
            let thread = start.spawn(id)?;
            gate_lanes.push((gates, waker.clone()));
            let thread = Some(thread);
            shards.push(ShardHandle { commands, frames_out, waker, snapshots, thread });
        }
        let books = Books {
            load: vec![0; config.shards],
            slots: (0..config.shards).map(|_| SlotTable::default()).collect(),
            newest: vec![ShardSnapshot::default(); config.shards],
            ..Books::default()
        };
        let relay = Relay {
            shards,
            endpoints,
            certificate: config.certificate,
            sessions_max: AtomicUsize::new(config.sessions_max),
            buffer_bytes,
            next_session: AtomicU64::new(1),
            alive,
            draining: AtomicBool::new(false),
            stop,
            books: Mutex::new(books),
        };
        let gates = GateSender::new(gate_lanes, clock);
        Ok(Started { relay, events: events_out, gates, frames: frames_in, usage: usage_out })
    }

    /// Answers a publisher's offer. Blocks for about a millisecond.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn publish(&self, stream: StreamKey, offer: &str) -> Result<Accepted, OfferError> {
        self.accept(stream, Role::Publisher, offer)
    }

    /// Answers a viewer's offer; its gate is closed. Blocks for about a millisecond.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn subscribe(&self, stream: StreamKey, offer: &str) -> Result<Accepted, OfferError> {
        self.accept(stream, Role::Subscriber, offer)
    }

    fn accept(&self, stream: StreamKey, role: Role, offer: &str) -> Result<Accepted, OfferError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(OfferError::Draining);
        }
        let (home, shard) = self.choose_shard(stream, role)?;
        let now = Instant::now();
        let prepared =
            match offer::prepare(offer, role, shard, &self.endpoints, &self.certificate, now) {
                Ok(prepared) => prepared,
                Err(error) => {
                    self.books().load[usize::from(shard)] -= 1;
                    return Err(error);
                }
            };
        let session = SessionKey(self.next_session.fetch_add(1, Ordering::Relaxed));
        let slot = (role == Role::Subscriber).then(|| self.take_slot(shard));
        self.books().sessions.insert(session, SessionEntry { shard, slot });
        let new = NewSession {
            key: session,
            stream,
            role,
            slot,
            rtc: prepared.rtc,
            keys: prepared.keys,
            ufrag: prepared.ufrag,
            tracks: prepared.tracks,
            offered_at: now,
        };
        self.command(shard, Command::Create(Box::new(new), home));
        Ok(Accepted { session, answer: prepared.answer, slot })
    }

    /// Home shard of the stream, and the shard for this session, whose load it adds to: a publisher
    /// goes to the stream's home, a subscriber to the least loaded.
    fn choose_shard(&self, stream: StreamKey, role: Role) -> Result<(u16, u16), OfferError> {
        let mut books = self.books();
        if books.load.iter().sum::<usize>() >= self.sessions_max.load(Ordering::Relaxed) {
            return Err(OfferError::Full);
        }
        let least =
            (0..books.load.len()).min_by_key(|shard| books.load[*shard]).unwrap_or(0) as u16;
        let home = *books.homes.entry(stream).or_insert(least);
        let shard = if role == Role::Publisher { home } else { least };
        if books.load[usize::from(shard)] >= SESSIONS_PER_SHARD_MAX {
            return Err(OfferError::Full);
        }
        books.load[usize::from(shard)] += 1;
        Ok((home, shard))
    }

    fn take_slot(&self, shard: u16) -> SlotId {
        let mut books = self.books();
        let table = &mut books.slots[usize::from(shard)];
        match table.free.pop() {
            Some(used) => SlotId { generation: used.generation.wrapping_add(1), ..used },
            None => {
                table.used += 1;
                SlotId { shard, index: table.used - 1, generation: 1 }
            }
        }
    }

    /// Keeps the books: to be called with every event, before anything else is done with it.
    pub fn note_event(&self, event: &Event) {
        let Event::Closed { session, .. } = event else { return };
        let mut books = self.books();
        let Some(entry) = books.sessions.remove(session) else { return };
        books.load[usize::from(entry.shard)] -= 1;
        if let Some(slot) = entry.slot {
            books.slots[usize::from(entry.shard)].free.push(slot);
        }
    }

    /// Ends a session; its `Closed` event follows. Unknown sessions are ignored.
    pub fn close(&self, session: SessionKey, reason: CloseReason) {
        self.close_with(session, reason, None);
    }

    /// Ends a session after a last frame on its side channel, which is sent before close_notify,
    /// once: it may be lost, and without an open side channel it is dropped and counted.
    pub fn close_with(
        &self,
        session: SessionKey,
        reason: CloseReason,
        last_frame: Option<Vec<u8>>,
    ) {
        if let Some(shard) = self.shard_of(session) {
            self.command(shard, Command::Close(session, reason, last_frame));
        }
    }

    /// Sends a frame to a peer on its side channel. Never blocks. False: dropped here, because it
    /// is longer than [`FRAME_BYTES_MAX`], the session is unknown, or [`FRAMES_OUT_MAX`] frames
    /// wait. The shard drops and counts what the peer does not take.
    pub fn send_frame(&self, session: SessionKey, bytes: Vec<u8>) -> bool {
        let Some(shard) = self.shard_of(session).filter(|_| bytes.len() <= FRAME_BYTES_MAX) else {
            return false;
        };
        let handle = &self.shards[usize::from(shard)];
        let taken = handle.frames_out.try_send(FrameOut { session, bytes }).is_ok();
        handle.waker.wake();
        taken
    }

    fn shard_of(&self, session: SessionKey) -> Option<u16> {
        self.books().sessions.get(&session).map(|entry| entry.shard)
    }

    /// Ends a stream on all shards, with the sessions of its publisher and subscribers.
    pub fn end_stream(&self, stream: StreamKey) {
        self.books().homes.remove(&stream);
        for shard in 0..self.shards.len() {
            self.command(shard as u16, Command::EndStream(stream));
        }
    }

    /// A publisher inside the process.
    pub fn open_local_source(&self, stream: StreamKey, tracks: &[Codec]) -> LocalSource {
        let home = {
            let mut books = self.books();
            let least = (0..books.load.len()).min_by_key(|shard| books.load[*shard]).unwrap_or(0);
            *books.homes.entry(stream).or_insert(least as u16)
        };
        self.command(home, Command::OpenLocal(stream));
        let handle = &self.shards[usize::from(home)];
        LocalSource::new(stream, tracks.to_vec(), handle.commands.clone(), handle.waker.clone())
    }

    /// The newest snapshot of each shard, at most a second old while it has sessions.
    pub fn counters(&self) -> Vec<ShardSnapshot> {
        let mut books = self.books();
        for (handle, newest) in self.shards.iter().zip(&mut books.newest) {
            if let Some(snapshot) = handle.snapshots.pop() {
                *newest = snapshot;
            }
        }
        books.newest.clone()
    }

    /// The local sockets with their real ports, and what peers are told.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// SHA-256 of our DTLS certificate: what peers see in every answer.
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        fingerprint::of_certificate(&self.certificate)
    }

    /// What the kernel gave of the socket buffers that we asked for.
    pub fn buffer_bytes(&self) -> BufferBytes {
        self.buffer_bytes
    }

    /// How many sessions there may be from now on; those that are there stay. A shard's own bound
    /// ([`SESSIONS_PER_SHARD_MAX`]) holds besides.
    pub fn set_sessions_max(&self, sessions: usize) {
        self.sessions_max.store(sessions, Ordering::Relaxed);
    }

    /// Are all shards running? A shard that failed takes the media of its sessions with it.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) == self.shards.len()
    }

    /// Says goodbye to every peer (DTLS close_notify) and waits until the shards have ended.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for shard in 0..self.shards.len() {
            self.command(shard as u16, Command::Drain);
        }
        let deadline = Instant::now() + DRAIN_MAX;
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn command(&self, shard: u16, command: Command) {
        let handle = &self.shards[usize::from(shard)];
        // A shard that ended has no sessions any more, and nothing to be told.
        if handle.commands.send(command).is_ok() {
            handle.waker.wake();
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A drain that takes longer is given up: peers notice by themselves.
const DRAIN_MAX: Duration = Duration::from_secs(3);

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for handle in &mut self.shards {
            handle.waker.wake();
            if let Some(thread) = handle.thread.take() {
                // A shard that panicked has said so on stderr.
                let _ = thread.join();
            }
        }
    }
}
