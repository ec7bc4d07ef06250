//! How peers come, are there, and go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::connections::Lane;
use super::{Ended, Engine};
use crate::rooms::config::Server;
use crate::rooms::dialect::Seat;
use crate::rooms::peer::{Asked, Http, Peer, Role, State};
use crate::rooms::{frame, poll};

/// A server that does not close after a good-bye is left.
const CLOSE_MAX: Duration = Duration::from_secs(5);

impl Engine<'_> {
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

    fn polls(&self, at: u32) -> bool {
        match self.peers[at as usize].role {
            Role::Talker(number) => self.config.polls(number as usize % self.config.peers_per_room),
            Role::Idle | Role::Passer => false,
        }
    }

    pub(super) fn is_ready(&mut self, owner: u32) {
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

    /// What is due by the clock: pings, good-byes, the end of patience.
    pub(super) fn keep_alive(&mut self, now: Instant) {
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
        match self.connections.find(self.peers[owner as usize].socket) {
            Some(slot) => {
                if let Some(link) = &mut self.connections.at(slot).link {
                    frame::write_close(link.outbox(), mask);
                }
                self.flush(slot);
            }
            None => self.depart(owner),
        }
    }

    /// A connection is gone.
    pub(super) fn lost(&mut self, owner: u32, lane: Lane, ended: Ended) {
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
            if let Some(slot) = self.connections.find(name) {
                self.close(slot);
            }
        }
        if self.peers[owner as usize].role == Role::Passer {
            self.gone.push(owner);
        }
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
