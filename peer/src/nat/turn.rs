//! A TURN client (RFC 8656): an address at a relay, and the way to a peer from there.
//!
//! Sans-IO: messages and time go in, messages and events come out. After every input poll
//! [`Turn::poll_transmit`] and [`Turn::poll_event`] until both are empty, then wait until
//! [`Turn::poll_timeout`]. Randomness comes in with [`Turn::new`], as a source of transaction ids.

mod requests;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    server::Transport,
    stun::{Attribute, Builder, Class, Message, Method, TransactionId},
};
use requests::{LIFETIME, Purpose, Requests};

/// Addresses of peers that may send to us at once. One more is not permitted and its datagrams drop.
const PERMISSIONS_MAX: usize = 256;
/// Channels at once. One more peer is served by Send indications, 36 bytes a datagram dearer.
const CHANNELS_MAX: usize = 256;
/// Datagrams that wait for a permission. One more drops the oldest: checks are repeated.
const QUEUED_MAX: usize = 16;
/// Permissions end after 300 s (§9), channels after 600 s (§12); either is renewed well before.
const RENEW_AFTER: Duration = Duration::from_secs(240);
/// Challenges to one request. A server that asks again refuses our credentials.
const CHALLENGES_MAX: u32 = 2;
const CHANNEL_FIRST: u16 = 0x4000;
/// §12: channel numbers end at 0x4FFF.
const CHANNEL_LAST: u16 = 0x4FFF;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is an address at the relay.
    Allocated {
        /// Where peers send to.
        relayed: SocketAddr,
        /// How the server sees us.
        mapped: Option<SocketAddr>,
    },
    /// A peer sent a datagram.
    Data {
        /// Its address as the relay sees it.
        peer: SocketAddr,
        /// What it sent.
        bytes: Vec<u8>,
    },
    /// There is no such address, or no longer.
    Failed(TurnError),
}

/// Why a relay does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// No answer.
    #[error("the TURN server does not answer: check its address and the firewall")]
    Silent,
    /// Challenged again and again.
    #[error("the TURN server refuses user and password")]
    Unauthorized,
    /// Another error code.
    #[error("the TURN server refuses: {code} {reason}")]
    Refused {
        /// RFC 8489 §14.8, RFC 8656 §19.
        code: u16,
        /// In the server's words.
        reason: String,
    },
    /// An answer without what it must have.
    #[error("the TURN server's answer has no relayed address or no realm")]
    Answer,
}

#[derive(Debug)]
struct Permission {
    is_granted: bool,
    renew_at: Instant,
    queued: VecDeque<(SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    is_bound: bool,
    renew_at: Instant,
}

#[derive(Debug)]
enum State {
    Allocating,
    Allocated { refresh_at: Instant },
    Ended,
}

/// One allocation.
pub struct Turn {
    transport: Transport,
    requests: Requests,
    state: State,
    permissions: BTreeMap<IpAddr, Permission>,
    channels: BTreeMap<SocketAddr, Channel>,
    next_channel: u16,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Turn {
    /// Asks for an address.
    pub fn new(
        transport: Transport,
        username: String,
        password: String,
        next_id: impl FnMut() -> TransactionId + Send + 'static,
        now: Instant,
    ) -> Self {
        let mut turn = Self {
            transport,
            requests: Requests::new(transport, username, password, Box::new(next_id)),
            state: State::Allocating,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            next_channel: CHANNEL_FIRST,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        turn.request(Purpose::Allocate, 0, now);
        turn
    }

    /// A message for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Turn::handle_timeout`] is due; `None` once it has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Allocated { refresh_at } => Some(refresh_at),
            State::Allocating => None,
            State::Ended => return None,
        };
        let permissions = self.permissions.values();
        let permissions =
            permissions.filter(|permission| permission.is_granted).map(|one| one.renew_at);
        let channels = self.channels.values().filter(|one| one.is_bound).map(|one| one.renew_at);
        self.requests.deadlines().chain(state).chain(permissions).chain(channels).min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        for purpose in self.requests.repeat(now, &mut self.transmits) {
            self.give_up(purpose, TurnError::Silent);
        }
        if let State::Allocated { refresh_at } = self.state
            && refresh_at <= now
        {
            // Until the answer says when to refresh next, nothing else is due.
            self.state =
                State::Allocated { refresh_at: now + Duration::from_secs(LIFETIME.into()) };
            self.request(Purpose::Refresh { lifetime: LIFETIME }, 0, now);
        }
        let mut due = Vec::new();
        for (ip, permission) in &mut self.permissions {
            if permission.is_granted && permission.renew_at <= now {
                permission.renew_at = now + RENEW_AFTER;
                due.push(Purpose::Permit(*ip));
            }
        }
        for (peer, channel) in &mut self.channels {
            if channel.is_bound && channel.renew_at <= now {
                channel.renew_at = now + RENEW_AFTER;
                due.push(Purpose::Bind { peer: *peer, channel: channel.number });
            }
        }
        due.into_iter().for_each(|purpose| self.request(purpose, 0, now));
    }

    /// Lets `peer` send to us, from whatever port.
    pub fn permit(&mut self, peer: IpAddr, now: Instant) {
        let is_full = self.permissions.len() >= PERMISSIONS_MAX;
        if !matches!(self.state, State::Allocated { .. })
            || self.permissions.contains_key(&peer)
            || is_full
        {
            return;
        }
        let renew_at = now + RENEW_AFTER;
        let permission = Permission { is_granted: false, renew_at, queued: VecDeque::new() };
        self.permissions.insert(peer, permission);
        self.request(Purpose::Permit(peer), 0, now);
    }

    /// Sends a datagram to `peer`, from the relay's address.
    pub fn send(&mut self, peer: SocketAddr, bytes: &[u8], now: Instant) {
        self.permit(peer.ip(), now);
        let Some(permission) = self.permissions.get_mut(&peer.ip()) else { return };
        if !permission.is_granted {
            if permission.queued.len() == QUEUED_MAX {
                permission.queued.pop_front();
            }
            permission.queued.push_back((peer, bytes.to_vec()));
            return;
        }
        match self.channels.get(&peer) {
            Some(Channel { number, is_bound: true, .. }) => {
                let Ok(length) = u16::try_from(bytes.len()) else { return };
                let mut data = [&number.to_be_bytes(), &length.to_be_bytes(), bytes].concat();
                if self.transport == Transport::Tcp {
                    data.resize(data.len().next_multiple_of(4), 0);
                }
                self.transmits.push_back(data);
            }
            Some(_) | None => {
                let indication =
                    Builder::new(Method::Send, Class::Indication, self.requests.next_id())
                        .address(Attribute::XorPeerAddress, peer)
                        .attribute(Attribute::Data, bytes);
                self.transmits.push_back(indication.finish(None));
            }
        }
    }

    /// Gives the address back.
    pub fn close(&mut self, now: Instant) {
        if matches!(self.state, State::Allocated { .. }) {
            self.request(Purpose::Refresh { lifetime: 0 }, 0, now);
        }
        self.state = State::Ended;
        self.requests.clear();
    }

    /// Takes a whole message of the server.
    pub fn handle_message(&mut self, bytes: &[u8], now: Instant) {
        if matches!(self.state, State::Ended) {
            return;
        }
        match bytes.first().map(|first| first >> 6) {
            Some(0) => {
                if let Ok(message) = Message::parse(bytes) {
                    self.handle_stun(&message, now);
                }
            }
            Some(1) => self.handle_channel_data(bytes),
            // Not from this protocol: whoever knows the server's address may have sent it.
            Some(_) | None => {}
        }
    }

    fn handle_channel_data(&mut self, bytes: &[u8]) {
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return };
        let number = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let holder = self.channels.iter().find(|(_, channel)| channel.number == number);
        if let (Some((peer, _)), Some(data)) = (holder, rest.get(..length)) {
            self.events.push_back(Event::Data { peer: *peer, bytes: data.to_vec() });
        }
    }

    fn handle_stun(&mut self, message: &Message<'_>, now: Instant) {
        if (message.method, message.class) == (Method::Data, Class::Indication) {
            let peer = message.address(Attribute::XorPeerAddress);
            if let (Some(peer), Some(data)) = (peer, message.attribute(Attribute::Data)) {
                self.events.push_back(Event::Data { peer, bytes: data.to_vec() });
                self.bind(peer, now);
            }
            return;
        }
        let Some((purpose, challenges)) = self.requests.answered(message) else { return };
        match message.class {
            Class::Success => self.handle_success(purpose, message, now),
            Class::Error => self.handle_error(purpose, challenges, message, now),
            Class::Request | Class::Indication => {}
        }
    }

    fn handle_success(&mut self, purpose: Purpose, message: &Message<'_>, now: Instant) {
        let refresh_at = || {
            let lifetime = message.number(Attribute::Lifetime).unwrap_or(LIFETIME);
            // A minute before it ends, or at half of a short one.
            let lifetime = Duration::from_secs(lifetime.into());
            let early = lifetime.saturating_sub(Duration::from_secs(60));
            now + early.max(lifetime / 2).max(Duration::from_secs(1))
        };
        match purpose {
            Purpose::Allocate => {
                let Some(relayed) = message.address(Attribute::XorRelayedAddress) else {
                    return self.fail(TurnError::Answer);
                };
                self.state = State::Allocated { refresh_at: refresh_at() };
                let mapped = message.address(Attribute::XorMappedAddress);
                self.events.push_back(Event::Allocated { relayed, mapped });
            }
            Purpose::Refresh { .. } => self.state = State::Allocated { refresh_at: refresh_at() },
            Purpose::Permit(ip) => {
                let Some(permission) = self.permissions.get_mut(&ip) else { return };
                permission.is_granted = true;
                permission.renew_at = now + RENEW_AFTER;
                let queued = std::mem::take(&mut permission.queued);
                queued.into_iter().for_each(|(peer, bytes)| self.send(peer, &bytes, now));
            }
            Purpose::Bind { peer, .. } => {
                if let Some(channel) = self.channels.get_mut(&peer) {
                    channel.is_bound = true;
                    channel.renew_at = now + RENEW_AFTER;
                }
            }
        }
    }

    fn handle_error(
        &mut self,
        purpose: Purpose,
        challenges: u32,
        message: &Message<'_>,
        now: Instant,
    ) {
        let (code, reason) = message.error().unwrap_or((0, "no reason given"));
        if matches!(code, 401 | 438) {
            let Some(challenge) = self.requests.challenge_of(message) else {
                return self.fail(TurnError::Answer);
            };
            if challenges >= CHALLENGES_MAX {
                return self.give_up(purpose, TurnError::Unauthorized);
            }
            self.requests.sign_for(challenge);
            return self.request(purpose, challenges + 1, now);
        }
        self.give_up(purpose, TurnError::Refused { code, reason: reason.to_owned() });
    }

    /// An allocation that cannot be had or held is the end; one peer that cannot be reached is not.
    fn give_up(&mut self, purpose: Purpose, error: TurnError) {
        match purpose {
            Purpose::Allocate | Purpose::Refresh { .. } => self.fail(error),
            Purpose::Permit(ip) => {
                self.permissions.remove(&ip);
            }
            Purpose::Bind { peer, .. } => {
                self.channels.remove(&peer);
            }
        }
    }

    fn fail(&mut self, error: TurnError) {
        self.state = State::Ended;
        self.requests.clear();
        self.events.push_back(Event::Failed(error));
    }

    /// A peer that answers gets a channel: four bytes a datagram instead of thirty-six.
    fn bind(&mut self, peer: SocketAddr, now: Instant) {
        let is_full = self.channels.len() >= CHANNELS_MAX || self.next_channel > CHANNEL_LAST;
        if self.channels.contains_key(&peer) || is_full {
            return;
        }
        let number = self.next_channel;
        self.next_channel += 1;
        let renew_at = now + RENEW_AFTER;
        self.channels.insert(peer, Channel { number, is_bound: false, renew_at });
        self.request(Purpose::Bind { peer, channel: number }, 0, now);
    }

    fn request(&mut self, purpose: Purpose, challenges: u32, now: Instant) {
        let bytes = self.requests.begin(purpose, challenges, now);
        self.transmits.push_back(bytes);
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
