//! Thousands of peers in one thread: their connections, what they say, what they hear.

mod connections;
mod lives;
mod talk;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::RoomsConfig;
use super::dialect::{Dialect, Seat};
use super::epoll::Ready;
use super::frame;
use super::identity::Signer;
use super::link::Came;
use super::offer::Offers;
use super::peer::{Peer, Role, State, Talks};
use super::poll;
use crate::histogram::Histogram;
use connections::{Connections, Lane, Slot};

/// Shared by all connections.
const SCRATCH_BYTES: usize = 256 << 10;
/// Connections that are being made at one time.
pub const COMING_MAX: usize = 256;
/// Different reasons that are told apart.
const REASONS_MAX: usize = 40;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] frame::FrameError),
    #[error("{0}")]
    Http(#[from] poll::NotHttp),
    #[error("the upgrade was refused: {0}")]
    Upgrade(String),
    #[error("closed by the server with {0}")]
    Closed(u16),
    #[error("closed by the server")]
    Silent,
    #[error("text that is no UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("a poll was refused: {0}")]
    Poll(String),
    #[error("a join was refused: {0}")]
    Join(String),
}

/// What was counted since the run began.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Offers handed to the kernel.
    pub sent: u64,
    /// Offers that came, each once.
    pub delivered: u64,
    /// Of those, to peers that poll.
    pub polled: u64,
    /// Came a second time.
    pub doubled: u64,
    /// Came after a later one of the same sender.
    pub reordered: u64,
    /// Came with other bytes than were sent.
    pub damaged: u64,
    /// Were not for who got them.
    pub alien: u64,
    /// Not sent, because the server did not take the ones before.
    pub stalled: u64,
    /// Peers that got where they wanted to be.
    pub joined: u64,
    /// Of those, peers that came in passing.
    pub passed: u64,
    /// Peers that were refused.
    pub refused: u64,
    /// Peers whose connection ended against their will.
    pub ended: u64,
    /// Polls and posts whose connection was made anew.
    pub reconnected: u64,
    /// `peer-joined` and `peer-left` that were heard.
    pub presence: u64,
    /// Connections open now.
    pub open: u64,
}

/// The peers of a run.
pub struct Engine<'a> {
    config: &'a RoomsConfig,
    dialect: Box<dyn Dialect>,
    signer: Option<Signer>,
    to: SocketAddr,
    offers: Offers,
    connections: Connections,
    ready: Vec<Ready>,
    /// All that ever came, but passers take the places of passers that went.
    pub peers: Vec<Peer>,
    gone: Vec<u32>,
    passers: u64,
    talks: Talks,
    first_talker: usize,
    pings: VecDeque<(Instant, u32, u32)>,
    leaving: VecDeque<(Instant, u32, u32)>,
    closing: VecDeque<(Instant, u32, u32)>,
    /// Being made.
    pub coming: usize,
    /// See [`Counts`].
    pub counts: Counts,
    /// Why something was refused or ended, how often.
    pub reasons: BTreeMap<String, u64>,
    /// Hand-over to arrival at a socket, of the window.
    pub latency: Histogram,
    /// The same at a poll.
    pub poll_latency: Histogram,
    /// Since the last sample.
    pub recent: Histogram,
    /// Connect to ready, of who stays.
    pub joins: Histogram,
    /// Connect to ready, of passers.
    pub passing: Histogram,
    began: Instant,
    /// Offers sent from here on are measured, ns since the beginning.
    pub measured_from_ns: u64,
    scratch: Vec<u8>,
    replies: Vec<u8>,
    text: Vec<u8>,
    numbers: Vec<u8>,
    random: u64,
    key: String,
    accept: String,
    /// Why the peer that is being heard may not come in.
    refused: Option<String>,
    /// Ends of connections are expected now.
    pub ending: bool,
}

impl<'a> Engine<'a> {
    /// With the peers of `config`, none of them here yet.
    ///
    /// # Errors
    /// The server's address resolves to nothing, or no descriptor is left.
    pub fn new(config: &'a RoomsConfig, signer: Option<Signer>) -> anyhow::Result<Self> {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut peers = Vec::with_capacity(config.idle + config.talkers());
        let run = &config.run;
        for number in 0..config.idle {
            // Ten to a room: each is somewhere, and few hear of each.
            let room = format!("{run}-idle-{}", number / 10);
            peers.push((format!("{run}-i{number}"), room, Role::Idle));
        }
        for number in 0..config.talkers() {
            let room = config.room_name(number / config.peers_per_room);
            peers.push((format!("{run}-t{number}"), room, Role::Talker(number as u32)));
        }
        let peers = peers.into_iter().enumerate().map(|(number, (name, room, role))| {
            Peer::new(Seat { name, room, signed: None }, role, number)
        });
        let mut engine = Self {
            config,
            dialect: config.dialect(),
            signer,
            to: config.base.resolve()?,
            offers: Offers::new(config.signal_bytes),
            connections: Connections::new()?,
            ready: Vec::new(),
            peers: peers.collect(),
            gone: Vec::new(),
            passers: 0,
            talks: Talks::new(config.talkers(), config.peers_per_room),
            first_talker: config.idle,
            pings: VecDeque::new(),
            leaving: VecDeque::new(),
            closing: VecDeque::new(),
            coming: 0,
            counts: Counts::default(),
            reasons: BTreeMap::new(),
            latency: Histogram::default(),
            poll_latency: Histogram::default(),
            recent: Histogram::default(),
            joins: Histogram::default(),
            passing: Histogram::default(),
            began: Instant::now(),
            measured_from_ns: u64::MAX,
            scratch: vec![0; SCRATCH_BYTES],
            replies: Vec::new(),
            text: Vec::new(),
            numbers: Vec::new(),
            random: rand::random::<u64>() | 1,
            key,
            accept,
            refused: None,
            ending: false,
        };
        engine.name_by_keys();
        Ok(engine)
    }

    /// Where ids are hashes of keys, all peers that stay get theirs now.
    fn name_by_keys(&mut self) {
        let Some(signer) = &self.signer else { return };
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.seat.name = signer.name(number as u64);
        }
    }

    /// ns since the run began.
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn because(&mut self, reason: String) {
        let is_known = self.reasons.contains_key(&reason);
        let reason =
            if is_known || self.reasons.len() < REASONS_MAX { reason } else { "others".to_owned() };
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// Waits for at most `span` and does what there is to do.
    ///
    /// # Errors
    /// The kernel's, of the poll itself.
    pub fn turn(&mut self, span: Duration) -> std::io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.connections.wait(span, &mut ready);
        for one in &ready {
            if let Some(slot) = self.connections.find(Some(one.token)) {
                self.serve(slot, *one);
            }
        }
        self.ready = ready;
        waited?;
        self.keep_alive(Instant::now());
        Ok(())
    }

    fn serve(&mut self, slot: usize, ready: Ready) {
        let Slot { owner, lane, .. } = *self.connections.at(slot);
        if ready.read {
            let Some(mut link) = self.connections.at(slot).link.take() else { return };
            let mut scratch = std::mem::take(&mut self.scratch);
            let came = link.read(&mut scratch, |bytes| self.consume(slot, owner, lane, bytes));
            self.scratch = scratch;
            link.outbox().append(&mut self.replies);
            self.connections.at(slot).link = Some(link);
            let ended = match came {
                Ok(Came::Open) => None,
                Ok(Came::Closed) => Some(Ended::Silent),
                Err(ended) => Some(ended),
            };
            if let Some(ended) = ended {
                self.close(slot);
                return self.lost(owner, lane, ended);
            }
        }
        self.flush(slot);
    }

    fn open(&mut self, owner: u32, lane: Lane, first: Vec<u8>) -> Option<u64> {
        let from = self.config.source(self.to.ip(), self.peers[owner as usize].number);
        match self.connections.open(from, self.to, owner, lane, first) {
            Ok(name) => {
                self.counts.open += 1;
                Some(name)
            }
            Err(error) => {
                self.lost(owner, lane, Ended::Io(error));
                None
            }
        }
    }

    fn flush(&mut self, slot: usize) {
        let Err(error) = self.connections.flush(slot) else { return };
        let Slot { owner, lane, .. } = *self.connections.at(slot);
        self.close(slot);
        self.lost(owner, lane, Ended::Io(error));
    }

    fn close(&mut self, slot: usize) {
        if self.connections.close(slot) {
            self.counts.open -= 1;
        }
    }

    /// Peers of a role that are where they wanted to be.
    pub fn ready_of(&self, is_asked: impl Fn(Role) -> bool) -> usize {
        self.peers.iter().filter(|peer| is_asked(peer.role) && peer.state == State::Ready).count()
    }
}
