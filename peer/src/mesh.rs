//! The connections to everybody in a room: who is offered to, what comes in, when to try again.
//!
//! Holds no socket and no task: signals, datagrams, commands and time go in; signals, datagrams and
//! events come out through [`Mesh::poll`].

mod neighbour;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use coordinator::identity::{check_fingerprint, is_key_id};
use rand::Rng as _;
use str0m::{
    Candidate, Input,
    net::{Protocol, Receive, Transmit},
};
use tokio::sync::oneshot;

use self::neighbour::Neighbour;
use crate::{
    connection::{CloseReason, Connection, Decision, Role, SendError, decide},
    event::Event,
    framing::{Compression, Message},
    signal::{Incoming, Outgoing, What},
};

/// Connections at once. An offer beyond is dropped.
const CONNECTIONS_MAX: usize = 256;
/// What leaves the mesh.
pub enum Out {
    /// A datagram.
    Transmit(Transmit),
    /// A signal.
    Signal(Outgoing),
    /// For the user.
    Event(Event),
}

/// All of them.
pub struct Mesh {
    node_id: String,
    room: String,
    must_verify: bool,
    neighbours: BTreeMap<String, Neighbour>,
    candidates: Vec<Candidate>,
    events: VecDeque<Event>,
}

impl Mesh {
    /// Nobody yet. With `must_verify` a peer without a signature of its fingerprint is refused.
    pub fn new(node_id: String, room: String, must_verify: bool) -> Self {
        let (neighbours, candidates, events) = Default::default();
        Self { node_id, room, must_verify, neighbours, candidates, events }
    }

    /// An address that is ours no longer: connections that begin later do without it.
    pub fn remove_candidate(&mut self, candidate: &Candidate) {
        self.candidates.retain(|one| one != candidate);
    }

    /// An address of ours.
    pub fn add_candidate(&mut self, candidate: Candidate) {
        for neighbour in self.neighbours.values_mut() {
            if let Some(connection) = &mut neighbour.connection {
                connection.add_local_candidate(candidate.clone());
                neighbour.is_dirty = true;
            }
        }
        self.candidates.push(candidate);
    }

    /// Who is in the room, all of them: the newcomer, which we are, offers to each.
    pub fn joined(&mut self, peers: Vec<(String, String)>, now: Instant) {
        let is_listed = |id: &str| peers.iter().any(|(peer, _)| peer == id);
        let gone: Vec<_> = self.neighbours.keys().filter(|id| !is_listed(id)).cloned().collect();
        gone.iter().for_each(|id| self.peer_left(id));
        for (id, name) in peers {
            if id != self.node_id {
                self.enter(&id, name);
                self.connect(&id, now);
            }
        }
    }

    /// Somebody came, and will offer.
    pub fn peer_joined(&mut self, id: &str, name: String) {
        if id == self.node_id {
            return;
        }
        self.enter(id, name);
        // Whoever comes anew knows nothing of an offer to who it was before.
        if let Some(neighbour) = self.neighbours.get_mut(id)
            && neighbour.connection.as_ref().is_some_and(|connection| !connection.has_opened())
        {
            drop(neighbour.give_up());
        }
    }

    /// Somebody went. An open channel stays: it may be the coordinator that has lost sight.
    pub fn peer_left(&mut self, id: &str) {
        let Some(neighbour) = self.neighbours.get_mut(id) else { return };
        if std::mem::take(&mut neighbour.is_present) {
            let (id, name) = (id.to_owned(), neighbour.name.clone());
            self.events.push_back(Event::PeerLeft { id, name });
        }
        neighbour.retry_at = None;
        if !neighbour.connection.as_ref().is_some_and(Connection::is_open) {
            self.neighbours.remove(id);
        }
    }

    /// Offers to a peer, where there is no connection yet.
    pub fn connect(&mut self, id: &str, now: Instant) {
        let full = self.connections() >= CONNECTIONS_MAX;
        let Some(neighbour) = self.neighbours.get_mut(id) else { return };
        if neighbour.connection.is_some() || full {
            return;
        }
        let sid = format!("{:016x}", rand::rng().random::<u64>());
        let is_polite = *self.node_id < *id;
        let candidates = &self.candidates;
        let connection = Connection::new(sid, Role::Offerer, is_polite, candidates, now);
        neighbour.connection = Some(connection);
        neighbour.is_verified = false;
        neighbour.retry_at = None;
        neighbour.is_dirty = true;
    }

    /// A peer describes something.
    pub fn handle_signal(&mut self, signal: Incoming, now: Instant) {
        let Incoming { from, sid, what, signature } = signal;
        if from == self.node_id {
            return;
        }
        let is_verified = match &what {
            What::Offer(sdp) | What::Answer(sdp) => match self.verify(&from, sdp, signature) {
                Ok(is_verified) => is_verified,
                Err(why) => {
                    let why = format!("what {from} describes is refused: {why}");
                    return self.events.push_back(Event::Warning(why));
                }
            },
            What::Candidate(_) => false,
        };
        match what {
            What::Offer(sdp) => self.handle_offer(&from, sid, &sdp, is_verified, now),
            What::Answer(sdp) => {
                let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
                let Some(connection) = &mut neighbour.connection else { return };
                neighbour.is_dirty = true;
                match connection.accept_answer(sid.as_deref(), &sdp) {
                    Ok(is_taken) => neighbour.is_verified |= is_taken && is_verified,
                    Err(error) => self.refuse(&from, &error.to_string(), now),
                }
            }
            What::Candidate(candidate) => {
                let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
                if let Some(connection) = &mut neighbour.connection {
                    connection.add_remote_candidate(sid.as_deref(), &candidate);
                    neighbour.is_dirty = true;
                }
            }
        }
    }

    /// Takes a datagram; one that belongs to no connection is dropped.
    pub fn handle_datagram(
        &mut self,
        source: std::net::SocketAddr,
        destination: std::net::SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) {
        let Ok(receive) = Receive::new(Protocol::Udp, source, destination, bytes) else { return };
        let input = Input::Receive(now, receive);
        for neighbour in self.neighbours.values_mut() {
            if let Some(connection) = &mut neighbour.connection
                && connection.accepts(&input)
            {
                neighbour.is_dirty = true;
                return connection.handle_input(input);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (id, neighbour) in &mut self.neighbours {
            if neighbour.deadline.is_some_and(|deadline| deadline <= now)
                && let Some(connection) = &mut neighbour.connection
            {
                connection.handle_timeout(now);
                neighbour.is_dirty = true;
            }
            if neighbour.retry_at.is_some_and(|at| at <= now) {
                neighbour.retry_at = None;
                due.push(id.clone());
            }
        }
        due.iter().for_each(|id| self.connect(id, now));
    }

    /// When [`Mesh::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let neighbours = self.neighbours.values();
        neighbours.flat_map(|one| [one.deadline, one.retry_at]).flatten().min()
    }

    /// Sends to one peer, or to all that are connected; `done` hears when more may be sent.
    pub fn send(
        &mut self,
        to: Option<&str>,
        message: &Message,
        compression: Compression,
        done: oneshot::Sender<Result<(), SendError>>,
        now: Instant,
    ) {
        let mut result = if to.is_some() { Err(SendError::NotOpen) } else { Ok(()) };
        let mut waits_at = None;
        for (id, neighbour) in &mut self.neighbours {
            if to.is_some_and(|to| to != id) {
                continue;
            }
            let Some(connection) = &mut neighbour.connection else { continue };
            if to.is_none() && !connection.is_open() {
                continue;
            }
            result = connection.send(message.clone(), compression, now);
            neighbour.is_dirty = true;
            if result.is_ok() && !connection.is_writable() {
                waits_at = Some(id.clone());
            }
        }
        match waits_at.and_then(|id| self.neighbours.get_mut(&id)) {
            Some(neighbour) => neighbour.waiting.push(done),
            // Whoever has stopped to wait does not want to know.
            None => {
                let _unheard = done.send(result);
            }
        }
    }

    /// Ids and names of those whose channel is open.
    pub fn connected(&self) -> Vec<(String, String)> {
        let is_open = |one: &Neighbour| one.connection.as_ref().is_some_and(Connection::is_open);
        let open = self.neighbours.iter().filter(|(_, one)| is_open(one));
        open.map(|(id, one)| (id.clone(), one.name.clone())).collect()
    }

    /// Small messages that wait for others leave with the next poll.
    pub fn flush(&mut self) {
        for neighbour in self.neighbours.values_mut() {
            if let Some(connection) = &mut neighbour.connection {
                connection.flush();
                neighbour.is_dirty = true;
            }
        }
    }

    /// Says goodbye to all.
    pub fn close(&mut self) {
        for neighbour in self.neighbours.values_mut() {
            neighbour.is_present = false;
            if let Some(connection) = &mut neighbour.connection {
                connection.close();
                neighbour.is_dirty = true;
            }
        }
    }

    /// All that has to leave now.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Out>) {
        let dirty = |(id, one): (&String, &Neighbour)| one.is_dirty.then(|| id.clone());
        let dirty: Vec<_> = self.neighbours.iter().filter_map(dirty).collect();
        for id in dirty {
            let Some(neighbour) = self.neighbours.get_mut(&id) else { continue };
            let has_ended = neighbour.poll(&id, now, out);
            if has_ended && !neighbour.is_present {
                self.neighbours.remove(&id);
            }
        }
        out.extend(self.events.drain(..).map(Out::Event));
    }

    fn enter(&mut self, id: &str, name: String) {
        let neighbour = self.neighbours.entry(id.to_owned()).or_default();
        neighbour.name = name;
        neighbour.attempts = 0;
        if !std::mem::replace(&mut neighbour.is_present, true) {
            let (id, name) = (id.to_owned(), neighbour.name.clone());
            self.events.push_back(Event::PeerJoined { id, name });
        }
    }

    fn connections(&self) -> usize {
        self.neighbours.values().filter(|one| one.connection.is_some()).count()
    }

    /// Whether a description is signed by its sender; an error is one that must not be used.
    fn verify(
        &self,
        from: &str,
        sdp: &str,
        signature: Option<(String, String)>,
    ) -> Result<bool, String> {
        match signature {
            Some((pk, fp_sig)) if is_key_id(from) => {
                check_fingerprint(from, &self.node_id, &self.room, sdp, &pk, &fp_sig)
                    .map(|_| true)
                    .map_err(|error| error.to_string())
            }
            // An id that is no key's can sign nothing that means something.
            Some(_) | None if self.must_verify => Err("its fingerprint is not signed".to_owned()),
            Some(_) | None => Ok(false),
        }
    }

    fn handle_offer(
        &mut self,
        from: &str,
        sid: Option<String>,
        sdp: &str,
        is_verified: bool,
        now: Instant,
    ) {
        let known = self.neighbours.get(from).and_then(|one| one.connection.as_ref());
        let standing = known.map(|connection| connection.standing(sid.as_deref(), sdp, now));
        let decision = decide(standing);
        let full = self.connections() >= CONNECTIONS_MAX;
        match decision {
            Decision::Ignore => return,
            Decision::Replace if full && known.is_none() => {
                let why = format!("an offer of {from} is dropped: {CONNECTIONS_MAX} connections");
                return self.events.push_back(Event::Warning(why));
            }
            Decision::Replace | Decision::Continue => {}
        }
        let neighbour = self.neighbours.entry(from.to_owned()).or_default();
        if neighbour.name.is_empty() {
            from.clone_into(&mut neighbour.name);
        }
        if decision == Decision::Replace {
            if neighbour.connection.as_ref().is_some_and(Connection::is_open) {
                let event = neighbour.end(from, CloseReason::Remote, now);
                self.events.push_back(event);
            }
            let sid = sid.clone().unwrap_or_default();
            let (role, is_polite) = (Role::Answerer, *self.node_id < *from);
            let candidates = &self.candidates;
            let connection = Connection::new(sid, role, is_polite, candidates, now);
            neighbour.connection = Some(connection);
            neighbour.retry_at = None;
            neighbour.is_verified = is_verified;
        }
        let Some(connection) = &mut neighbour.connection else { return };
        neighbour.is_dirty = true;
        if let Err(error) = connection.accept_offer(sid, sdp) {
            self.refuse(from, &error.to_string(), now);
        }
    }

    /// A description that cannot be used ends the connection.
    fn refuse(&mut self, from: &str, why: &str, now: Instant) {
        let why = format!("what {from} describes cannot be used: {why}");
        self.events.push_back(Event::Warning(why));
        let Some(neighbour) = self.neighbours.get_mut(from) else { return };
        let event = neighbour.end(from, CloseReason::Protocol, now);
        self.events.push_back(event);
        if !neighbour.is_present {
            self.neighbours.remove(from);
        }
    }
}

#[cfg(test)]
mod tests;
