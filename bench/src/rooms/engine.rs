//! Thousands of peers in one thread: their connections, what they say, what they hear.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::{RoomsConfig, Server};
use super::dialect::{Dialect, Heard, Seat};
use super::epoll::{Epoll, Interest, Ready};
use super::frame;
use super::identity::Signer;
use super::link::{Came, Link};
use super::offer::Offers;
use super::peer::{Asked, BACKLOG_MAX, Http, Peer, Role, State, Talks};
use super::poll;
use super::track::Step;
use crate::histogram::Histogram;

/// Shared by all connections.
const SCRATCH_BYTES: usize = 256 << 10;
/// A connection with so much to write takes no further offer: the server does not read.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Connections that are being made at one time.
pub const COMING_MAX: usize = 256;
/// What came before the server is told, where it wants to be.
const ACKNOWLEDGE_EVERY: u32 = 32;
/// A server that does not close after a good-bye is left.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Different reasons that are told apart.
const REASONS_MAX: usize = 40;
/// Of a server's own words, so much is kept.
const REASON_CHARS_MAX: usize = 60;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Socket,
    Poll,
    Post,
}

struct Slot {
    link: Option<Link>,
    generation: u32,
    owner: u32,
    lane: Lane,
    upgraded: bool,
    interest: Interest,
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
    epoll: Epoll,
    ready: Vec<Ready>,
    slots: Vec<Slot>,
    free: Vec<u32>,
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

fn token(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
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
            epoll: Epoll::new()?,
            ready: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
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

    fn mask(&mut self) -> [u8; 4] {
        // xorshift64: a mask need only be no constant here.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 32) as u32).to_ne_bytes()
    }

    fn because(&mut self, reason: String) {
        let is_known = self.reasons.contains_key(&reason);
        let reason =
            if is_known || self.reasons.len() < REASONS_MAX { reason } else { "others".to_owned() };
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// Has a peer come.
    pub fn bring(&mut self, at: u32) {
        let number = self.peers[at as usize].number as u64;
        let peer = &mut self.peers[at as usize];
        peer.state = State::Coming;
        peer.began = Instant::now();
        peer.life += 1;
        peer.cursor = 0;
        self.coming += 1;
        if let Some(signer) = &self.signer {
            let key = if peer.role == Role::Passer { self.passers << 32 } else { number };
            // With `hello` the signature is for no room.
            let room = match self.config.server {
                Server::Extended if !self.polls(at) => "",
                _ => &self.peers[at as usize].seat.room,
            };
            let proof = signer.sign(key, room);
            self.peers[at as usize].seat.signed = Some(proof);
        }
        let host = self.config.base.authority().to_owned();
        if self.polls(at) {
            let mut join = Vec::new();
            poll::join(&mut join, &host, &self.peers[at as usize].seat);
            let post = self.open(at, Lane::Post, join);
            let http = Http { post, asked: Asked::Join, ..Http::default() };
            self.peers[at as usize].http = Some(Box::new(http));
            return;
        }
        let seat = &self.peers[at as usize].seat;
        let protocol = self.dialect.subprotocol();
        let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n{}\r\n",
            self.dialect.path(seat),
            self.key,
            protocol.unwrap_or_default()
        );
        self.peers[at as usize].socket = self.open(at, Lane::Socket, upgrade.into_bytes());
    }

    fn polls(&self, at: u32) -> bool {
        match self.peers[at as usize].role {
            Role::Talker(number) => self.config.polls(number as usize % self.config.peers_per_room),
            Role::Idle | Role::Passer => false,
        }
    }

    /// Has one come that will leave again.
    pub fn bring_passer(&mut self) {
        self.passers += 1;
        let (run, number) = (&self.config.run, self.passers);
        let room = match self.config.rooms {
            0 => format!("{run}-churn-{}", number % 16),
            rooms => self.config.room_name(number as usize % rooms),
        };
        let name = match &self.signer {
            Some(signer) => signer.name(number << 32),
            None => format!("{run}-p{number}"),
        };
        let seat = Seat { name, room, signed: None };
        let at = match self.gone.pop() {
            Some(at) => at,
            None => {
                self.peers.push(Peer::new(seat.clone(), Role::Passer, 0));
                self.peers.len() as u32 - 1
            }
        };
        let peer = &mut self.peers[at as usize];
        (peer.seat, peer.number) = (seat, number as usize);
        self.bring(at);
    }

    fn open(&mut self, owner: u32, lane: Lane, first: Vec<u8>) -> Option<u64> {
        let from = self.config.source(self.to.ip(), self.peers[owner as usize].number);
        let made = Link::connect(from, self.to).and_then(|mut link| {
            *link.outbox() = first;
            let slot = match self.free.pop() {
                Some(slot) => slot,
                None => {
                    self.slots.push(Slot {
                        link: None,
                        generation: 0,
                        owner,
                        lane,
                        upgraded: false,
                        interest: Interest::ReadWrite,
                    });
                    self.slots.len() as u32 - 1
                }
            };
            let place = &mut self.slots[slot as usize];
            place.generation += 1;
            let name = token(slot, place.generation);
            self.epoll.add(link.descriptor(), name, Interest::ReadWrite)?;
            (place.owner, place.lane, place.upgraded) = (owner, lane, false);
            (place.link, place.interest) = (Some(link), Interest::ReadWrite);
            Ok(name)
        });
        match made {
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

    fn slot_of(&self, name: Option<u64>) -> Option<usize> {
        let name = name?;
        let slot = (name & u64::from(u32::MAX)) as usize;
        let place = self.slots.get(slot)?;
        (place.link.is_some() && u64::from(place.generation) == name >> 32).then_some(slot)
    }

    fn close(&mut self, slot: usize) {
        if self.slots[slot].link.take().is_some() {
            self.counts.open -= 1;
            self.free.push(slot as u32);
        }
    }

    /// Waits for at most `span` and does what there is to do.
    ///
    /// # Errors
    /// The kernel's, of the poll itself.
    pub fn turn(&mut self, span: Duration) -> std::io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.epoll.wait(span, &mut ready);
        for one in &ready {
            if let Some(slot) = self.slot_of(Some(one.token)) {
                self.serve(slot, *one);
            }
        }
        self.ready = ready;
        waited?;
        self.keep_alive(Instant::now());
        Ok(())
    }

    fn serve(&mut self, slot: usize, ready: Ready) {
        let (owner, lane) = (self.slots[slot].owner, self.slots[slot].lane);
        if ready.read {
            let Some(mut link) = self.slots[slot].link.take() else { return };
            let mut scratch = std::mem::take(&mut self.scratch);
            let came = link.read(&mut scratch, |bytes| self.consume(slot, owner, lane, bytes));
            self.scratch = scratch;
            link.outbox().append(&mut self.replies);
            self.slots[slot].link = Some(link);
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

    fn flush(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        let Some(link) = &mut place.link else { return };
        let (owner, lane) = (place.owner, place.lane);
        let wanted = match link.flush() {
            Ok(true) => Interest::Read,
            Ok(false) => Interest::ReadWrite,
            Err(error) => {
                self.close(slot);
                return self.lost(owner, lane, Ended::Io(error));
            }
        };
        if place.interest != wanted {
            place.interest = wanted;
            let name = token(slot as u32, place.generation);
            if let Err(error) = self.epoll.change(link.descriptor(), name, wanted) {
                self.close(slot);
                self.lost(owner, lane, Ended::Io(error));
            }
        }
    }

    /// A connection is gone.
    fn lost(&mut self, owner: u32, lane: Lane, ended: Ended) {
        let peer = &mut self.peers[owner as usize];
        match (peer.state, lane) {
            (State::Away | State::Gone, _) => return,
            (State::Leaving, _) => return self.depart(owner),
            // Connections of requests may end between them; the next is made when it is needed.
            (State::Ready, Lane::Poll) if matches!(ended, Ended::Silent) && !self.ending => {
                self.counts.reconnected += 1;
                return self.poll_again(owner);
            }
            (State::Ready, Lane::Post) => {
                let http = peer.http.as_mut().expect("a peer with this lane polls");
                (http.post, http.asked) = (None, Asked::Nothing);
                self.counts.reconnected += 1;
                return self.post_next(owner);
            }
            (State::Coming, _) => {
                self.coming -= 1;
                self.counts.refused += 1;
            }
            (State::Ready, _) if self.ending => {}
            (State::Ready, _) => self.counts.ended += 1,
        }
        self.because(ended.to_string());
        self.depart(owner);
    }

    /// Closes what is open of a peer.
    fn depart(&mut self, owner: u32) {
        let peer = &mut self.peers[owner as usize];
        peer.state = State::Gone;
        let http = peer.http.take().unwrap_or_default();
        for name in [peer.socket.take(), http.poll, http.post] {
            if let Some(slot) = self.slot_of(name) {
                self.close(slot);
            }
        }
        if self.peers[owner as usize].role == Role::Passer {
            self.gone.push(owner);
        }
    }

    fn consume(
        &mut self,
        slot: usize,
        owner: u32,
        lane: Lane,
        bytes: &[u8],
    ) -> Result<usize, Ended> {
        match lane {
            Lane::Socket => self.consume_frames(slot, owner, bytes),
            Lane::Poll | Lane::Post => {
                let mut used = 0;
                while let Some(answer) = poll::read(&bytes[used..])? {
                    used += answer.len_bytes;
                    match lane {
                        Lane::Poll => self.polled(owner, &answer)?,
                        _ => self.answered(owner, &answer)?,
                    }
                }
                Ok(used)
            }
        }
    }

    fn consume_frames(&mut self, slot: usize, owner: u32, bytes: &[u8]) -> Result<usize, Ended> {
        let mut used = 0;
        if !self.slots[slot].upgraded {
            let Some(head_bytes) = poll::head_bytes(bytes)? else { return Ok(0) };
            let head = std::str::from_utf8(&bytes[..head_bytes])?;
            match poll::status_of(head) {
                Some(101) if poll::header(head, "sec-websocket-accept") == Some(&self.accept) => {}
                Some(101) => return Err(Ended::Upgrade("a wrong Sec-WebSocket-Accept".into())),
                Some(status) => {
                    let body = std::str::from_utf8(&bytes[head_bytes..]).unwrap_or_default();
                    let answer = poll::Answer { status, body, len_bytes: 0 };
                    return Err(Ended::Upgrade(poll::refusal(&answer)));
                }
                None => return Err(poll::NotHttp.into()),
            }
            self.slots[slot].upgraded = true;
            used = head_bytes;
            for text in self.dialect.greet(&self.peers[owner as usize].seat) {
                self.reply(&text);
            }
        }
        while let Some(frame) = frame::read(&bytes[used..])? {
            used += frame.len_bytes;
            match frame.kind {
                frame::Kind::Text => {
                    self.hear(owner, std::str::from_utf8(frame.payload)?);
                    if let Some(code) = self.refused.take() {
                        return Err(Ended::Join(code));
                    }
                }
                frame::Kind::Ping => {
                    let mask = self.mask();
                    frame::write_pong(&mut self.replies, mask, frame.payload);
                }
                frame::Kind::Close(code) => return Err(Ended::Closed(code)),
                frame::Kind::Pong | frame::Kind::Binary => {}
            }
        }
        Ok(used)
    }

    /// On the connection that is being read.
    fn reply(&mut self, text: &str) {
        let mask = self.mask();
        frame::write_text(&mut self.replies, mask, &[text.as_bytes()]);
    }

    fn hear(&mut self, owner: u32, text: &str) {
        let mut heard = Vec::new();
        let seat = &self.peers[owner as usize].seat;
        self.dialect.hear(seat, text, &mut |one| heard.push(one));
        for one in heard {
            match one {
                Heard::Offer(text) => self.offered(owner, text),
                Heard::Cursor(cursor) => self.heard_up_to(owner, cursor),
                Heard::Joined | Heard::Left => self.counts.presence += 1,
                Heard::Say(text) => self.reply(&text),
                Heard::Ready => self.is_ready(owner),
                Heard::Refused(code) => {
                    let code: String = code.chars().take(REASON_CHARS_MAX).collect();
                    match self.peers[owner as usize].state {
                        State::Coming => self.refused = Some(code),
                        _ => self.because(code),
                    }
                }
            }
        }
    }

    fn heard_up_to(&mut self, owner: u32, cursor: u64) {
        let peer = &mut self.peers[owner as usize];
        peer.cursor = peer.cursor.max(cursor);
        peer.unacknowledged += 1;
        if peer.unacknowledged >= ACKNOWLEDGE_EVERY {
            peer.unacknowledged = 0;
            if let Some(text) = self.dialect.acknowledge(cursor) {
                self.reply(&text);
            }
        }
    }

    fn is_ready(&mut self, owner: u32) {
        let now = Instant::now();
        let peer = &mut self.peers[owner as usize];
        if peer.state != State::Coming {
            return; // A pong to one of the later pings.
        }
        peer.state = State::Ready;
        self.coming -= 1;
        self.counts.joined += 1;
        let took = (now - peer.began).as_nanos() as u64;
        let life = peer.life;
        if peer.role == Role::Passer {
            self.counts.passed += 1;
            self.passing.record(took);
            self.leaving.push_back((now + self.config.stay, owner, life));
        } else {
            self.joins.record(took);
        }
        if let (None, Some((every, _))) = (&peer.http, self.dialect.keepalive(0)) {
            self.pings.push_back((now + every, owner, life));
        }
    }

    /// An offer came.
    fn offered(&mut self, owner: u32, text: &str) {
        let now_ns = self.now_ns();
        let peer = &self.peers[owner as usize];
        let Role::Talker(to) = peer.role else {
            self.counts.alien += 1;
            return;
        };
        let Some(carried) = self.offers.read(text) else {
            self.counts.damaged += 1;
            return;
        };
        let Some(track) = self.talks.track(to, carried.from) else {
            self.counts.alien += 1;
            return;
        };
        match track.take(carried.number) {
            Step::InOrder => self.counts.delivered += 1,
            Step::Late => {
                self.counts.delivered += 1;
                self.counts.reordered += 1;
            }
            Step::Again => {
                self.counts.doubled += 1;
                return;
            }
        }
        self.counts.damaged += u64::from(!carried.intact);
        let took = now_ns.saturating_sub(carried.sent_ns);
        let is_measured = carried.sent_ns >= self.measured_from_ns;
        if peer.http.is_some() {
            self.counts.polled += 1;
            if is_measured {
                self.poll_latency.record(took);
            }
        } else {
            self.recent.record(took);
            if is_measured {
                self.latency.record(took);
            }
        }
    }

    /// The answer to a poll: what it brought, and the next poll.
    fn polled(&mut self, owner: u32, answer: &poll::Answer<'_>) -> Result<(), Ended> {
        if answer.status != 200 {
            return Err(Ended::Poll(poll::refusal(answer)));
        }
        let polled: poll::Polled<'_> =
            serde_json::from_str(answer.body).map_err(|error| Ended::Poll(error.to_string()))?;
        for signal in &polled.signals {
            match serde_json::from_str::<poll::Kind<'_>>(signal.get()).map(|kind| kind.kind) {
                Ok(kind) if kind == "offer" => self.offered(owner, signal.get()),
                Ok(_) => self.counts.presence += 1,
                Err(error) => return Err(Ended::Poll(error.to_string())),
            }
        }
        let peer = &mut self.peers[owner as usize];
        peer.cursor = polled.cursor;
        if peer.state == State::Ready && !self.ending {
            let session = peer.http.as_ref().and_then(|http| http.session.as_deref());
            let host = self.config.base.authority();
            poll::poll(&mut self.replies, host, &peer.seat, session, polled.cursor);
        }
        Ok(())
    }

    fn poll_again(&mut self, owner: u32) {
        let peer = &self.peers[owner as usize];
        let Some(http) = &peer.http else { return };
        let mut first = Vec::new();
        let host = self.config.base.authority();
        poll::poll(&mut first, host, &peer.seat, http.session.as_deref(), peer.cursor);
        let poll = self.open(owner, Lane::Poll, first);
        if let Some(http) = &mut self.peers[owner as usize].http {
            http.poll = poll;
        }
    }

    /// The answer to a join or an offer.
    fn answered(&mut self, owner: u32, answer: &poll::Answer<'_>) -> Result<(), Ended> {
        let Some(http) = &mut self.peers[owner as usize].http else { return Ok(()) };
        match std::mem::take(&mut http.asked) {
            Asked::Join if answer.status != 200 => {
                return Err(Ended::Join(poll::refusal(answer)));
            }
            Asked::Join => {
                let joined: poll::Joined = serde_json::from_str(answer.body)
                    .map_err(|error| Ended::Join(error.to_string()))?;
                http.session = joined.session;
                self.poll_again(owner);
                self.is_ready(owner);
            }
            Asked::Offer if answer.status != 200 => self.because(poll::refusal(answer)),
            Asked::Offer | Asked::Nothing => {}
        }
        let Some(http) = &mut self.peers[owner as usize].http else { return Ok(()) };
        if let Some(mut next) = http.backlog.pop_front() {
            http.asked = Asked::Offer;
            self.replies.append(&mut next);
        }
        Ok(())
    }

    /// Sends what waits, where the connection for it had gone.
    fn post_next(&mut self, owner: u32) {
        let Some(http) = &mut self.peers[owner as usize].http else { return };
        if http.asked != Asked::Nothing {
            return;
        }
        let Some(next) = http.backlog.pop_front() else { return };
        http.asked = Asked::Offer;
        let post = http.post;
        match self.slot_of(post) {
            Some(slot) => {
                if let Some(link) = &mut self.slots[slot].link {
                    link.outbox().extend_from_slice(&next);
                }
                self.flush(slot);
            }
            None => {
                let post = self.open(owner, Lane::Post, next);
                if let Some(http) = &mut self.peers[owner as usize].http {
                    http.post = post;
                }
            }
        }
    }

    /// Has a talker send its next offer, if it is there and its partner too.
    pub fn send(&mut self, talker: u32) {
        let owner = self.first_talker + talker as usize;
        if self.peers[owner].state != State::Ready {
            self.counts.stalled += 1;
            return;
        }
        let slot = self.slot_of(self.peers[owner].socket);
        let is_full = match (&self.peers[owner].http, slot) {
            (Some(http), _) => http.backlog.len() >= BACKLOG_MAX,
            (None, Some(slot)) => {
                let link = self.slots[slot].link.as_ref();
                link.is_none_or(|link| link.waiting_bytes() > WAITING_BYTES_MAX)
            }
            (None, None) => true,
        };
        if is_full {
            self.counts.stalled += 1;
            return;
        }
        let (to, number) = self.talks.next(talker);
        let mut numbers = std::mem::take(&mut self.numbers);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let sdp = self.offers.write(&mut numbers, talker, number, self.now_ns());
        let to = &self.peers[self.first_talker + to as usize].seat.name;
        let seat = &self.peers[owner].seat;
        match (&self.peers[owner].http, slot) {
            (Some(http), _) => {
                let (host, session) = (self.config.base.authority(), http.session.as_deref());
                let mut request = Vec::new();
                poll::offer(&mut request, host, seat, session, to, sdp);
                if let Some(http) = &mut self.peers[owner].http {
                    http.backlog.push_back(request);
                }
                self.post_next(owner as u32);
            }
            (None, slot) => {
                self.dialect.offer(&mut text, seat, to, sdp);
                let mask = self.mask();
                if let Some(slot) = slot {
                    if let Some(link) = &mut self.slots[slot].link {
                        frame::write_text(link.outbox(), mask, &[&text]);
                    }
                    self.flush(slot);
                }
            }
        }
        (self.numbers, self.text) = (numbers, text);
        self.counts.sent += 1;
    }

    /// What is due by the clock: pings, good-byes, the end of patience.
    fn keep_alive(&mut self, now: Instant) {
        while let Some((owner, life)) = due(&mut self.pings, now) {
            let peer = &self.peers[owner as usize];
            if peer.life != life || peer.state != State::Ready {
                continue;
            }
            if let Some((every, text)) = self.dialect.keepalive(peer.cursor) {
                self.say(owner, &text);
                self.pings.push_back((now + every, owner, life));
            }
        }
        while let Some((owner, life)) = due(&mut self.leaving, now) {
            let peer = &self.peers[owner as usize];
            if peer.life == life && peer.state == State::Ready {
                self.leave(owner);
                self.closing.push_back((now + CLOSE_MAX, owner, life));
            }
        }
        while let Some((owner, life)) = due(&mut self.closing, now) {
            let peer = &self.peers[owner as usize];
            if peer.life == life && peer.state == State::Leaving {
                self.because("the server did not close after the good-bye".to_owned());
                self.depart(owner);
            }
        }
    }

    fn leave(&mut self, owner: u32) {
        if let Some(text) = self.dialect.farewell(&self.peers[owner as usize].seat) {
            self.say(owner, &text);
        }
        let mask = self.mask();
        self.peers[owner as usize].state = State::Leaving;
        match self.slot_of(self.peers[owner as usize].socket) {
            Some(slot) => {
                if let Some(link) = &mut self.slots[slot].link {
                    frame::write_close(link.outbox(), mask);
                }
                self.flush(slot);
            }
            None => self.depart(owner),
        }
    }

    fn say(&mut self, owner: u32, text: &str) {
        let mask = self.mask();
        let Some(slot) = self.slot_of(self.peers[owner as usize].socket) else { return };
        if let Some(link) = &mut self.slots[slot].link {
            frame::write_text(link.outbox(), mask, &[text.as_bytes()]);
        }
        self.flush(slot);
    }

    /// Peers of a role that are where they wanted to be.
    pub fn ready_of(&self, is_asked: impl Fn(Role) -> bool) -> usize {
        self.peers.iter().filter(|peer| is_asked(peer.role) && peer.state == State::Ready).count()
    }
}

/// The first of a queue in order of time, when its time has come.
fn due(queue: &mut VecDeque<(Instant, u32, u32)>, now: Instant) -> Option<(u32, u32)> {
    let (at, owner, life) = *queue.front()?;
    (at <= now).then(|| {
        queue.pop_front();
        (owner, life)
    })
}
