//! Requests to a TURN server: signed as it asks, over UDP repeated until it answers.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use md5::{Digest as _, Md5};

use crate::nat::{
    server::Transport,
    stun::{Attribute, Builder, Class, Message, Method, TransactionId},
};

/// First wait for an answer over UDP; it doubles (RFC 8489 §6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// Requests until a server over UDP counts as silent: 7.5 s in all.
const SENDS_MAX: u32 = 4;
/// Wait for an answer over TCP.
const TCP_WAIT: Duration = Duration::from_secs(8);
/// What is asked for; the server may give another.
pub const LIFETIME: u32 = 600;
/// REQUESTED-TRANSPORT: UDP between relay and peer.
const PROTOCOL_UDP: [u8; 4] = [17, 0, 0, 0];

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An address at the relay.
    Allocate,
    /// So many seconds more of it; with 0, its end.
    Refresh { lifetime: u32 },
    /// That a peer may send to us.
    Permit(IpAddr),
    /// A short header for a peer.
    Bind { peer: SocketAddr, channel: u16 },
}

#[derive(Debug)]
struct Transaction {
    purpose: Purpose,
    bytes: Vec<u8>,
    sends: u32,
    next_at: Instant,
    challenges: u32,
}

/// What the server wants requests to be signed with.
#[derive(Debug)]
pub struct Challenge {
    realm: String,
    nonce: Vec<u8>,
    /// MD5(user ":" realm ":" password), RFC 8489 §9.2.2.
    key: [u8; 16],
}

/// Those without an answer, and how to sign the next.
pub struct Requests {
    transport: Transport,
    username: String,
    password: String,
    next_id: Box<dyn FnMut() -> TransactionId + Send>,
    challenge: Option<Challenge>,
    transactions: BTreeMap<TransactionId, Transaction>,
}

impl Requests {
    /// None yet, and unsigned until the server asks for more.
    pub fn new(
        transport: Transport,
        username: String,
        password: String,
        next_id: Box<dyn FnMut() -> TransactionId + Send>,
    ) -> Self {
        let (challenge, transactions) = (None, BTreeMap::new());
        Self { transport, username, password, next_id, challenge, transactions }
    }

    /// An id that no other message has.
    pub fn next_id(&mut self) -> TransactionId {
        (self.next_id)()
    }

    /// When [`Requests::repeat`] is due.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.transactions.values().map(|transaction| transaction.next_at)
    }

    /// The message that begins a request; `challenges` of the server have led to it.
    pub fn begin(&mut self, purpose: Purpose, challenges: u32, now: Instant) -> Vec<u8> {
        let id = self.next_id();
        let method = match purpose {
            Purpose::Allocate => Method::Allocate,
            Purpose::Refresh { .. } => Method::Refresh,
            Purpose::Permit(_) => Method::CreatePermission,
            Purpose::Bind { .. } => Method::ChannelBind,
        };
        let mut builder = Builder::new(method, Class::Request, id);
        builder = match purpose {
            Purpose::Allocate => builder
                .attribute(Attribute::RequestedTransport, &PROTOCOL_UDP)
                .attribute(Attribute::Lifetime, &LIFETIME.to_be_bytes()),
            Purpose::Refresh { lifetime } => {
                builder.attribute(Attribute::Lifetime, &lifetime.to_be_bytes())
            }
            // A permission is for an address; the port says nothing (§9.1).
            Purpose::Permit(ip) => {
                builder.address(Attribute::XorPeerAddress, SocketAddr::new(ip, 0))
            }
            Purpose::Bind { peer, channel } => {
                let [high, low] = channel.to_be_bytes();
                builder
                    .attribute(Attribute::ChannelNumber, &[high, low, 0, 0])
                    .address(Attribute::XorPeerAddress, peer)
            }
        };
        let bytes = match &self.challenge {
            Some(Challenge { realm, nonce, key }) => builder
                .attribute(Attribute::Username, self.username.as_bytes())
                .attribute(Attribute::Realm, realm.as_bytes())
                .attribute(Attribute::Nonce, nonce)
                .finish(Some(key)),
            None => builder.finish(None),
        };
        let next_at = now + if self.transport == Transport::Udp { RTO } else { TCP_WAIT };
        let (sends, message) = (1, bytes.clone());
        self.transactions.insert(id, Transaction { purpose, bytes, sends, next_at, challenges });
        message
    }

    /// Says again what had no answer; gives what the requests were for that will have none.
    pub fn repeat(&mut self, now: Instant, transmits: &mut VecDeque<Vec<u8>>) -> Vec<Purpose> {
        let mut silent = Vec::new();
        self.transactions.retain(|_, transaction| {
            if transaction.next_at > now {
                return true;
            }
            if self.transport == Transport::Tcp || transaction.sends >= SENDS_MAX {
                silent.push(transaction.purpose);
                return false;
            }
            transaction.next_at = now + RTO * 2_u32.pow(transaction.sends);
            transaction.sends += 1;
            transmits.push_back(transaction.bytes.clone());
            true
        });
        silent
    }

    /// What a message answers, and how many challenges had led to that request; `None`: nothing of
    /// ours, or it is not signed.
    pub fn answered(&mut self, message: &Message<'_>) -> Option<(Purpose, u32)> {
        let transaction = self.transactions.get(&message.id)?;
        let answered = (transaction.purpose, transaction.challenges);
        let is_answer = match message.class {
            Class::Success => {
                // §9.2.5 of RFC 8489: a success that is not signed with our key is nobody's.
                self.challenge.as_ref().is_none_or(|challenge| message.is_signed_by(&challenge.key))
            }
            Class::Error => true,
            Class::Request | Class::Indication => false,
        };
        if !is_answer {
            return None;
        }
        self.transactions.remove(&message.id);
        Some(answered)
    }

    /// The challenge in an error; `None`: it lacks what a challenge has.
    pub fn challenge_of(&self, message: &Message<'_>) -> Option<Challenge> {
        let realm = message.text(Attribute::Realm).map(str::to_owned);
        let realm = realm.or_else(|| Some(self.challenge.as_ref()?.realm.clone()))?;
        let nonce = message.attribute(Attribute::Nonce)?.to_vec();
        let text = format!("{}:{realm}:{}", self.username, self.password);
        let key = Md5::digest(text.as_bytes()).into();
        Some(Challenge { realm, nonce, key })
    }

    /// Requests that begin later are signed for this.
    pub fn sign_for(&mut self, challenge: Challenge) {
        self.challenge = Some(challenge);
    }

    /// Waits for no answer any more.
    pub fn clear(&mut self) {
        self.transactions.clear();
    }
}
