//! Which streams are live, who publishes and who watches each: facts made of requests and events.
//!
//! No socket, no clock, no lock: a caller hands in what happened and when, and carries out the
//! [`Output`]s. [`crate::relay_control`] is that caller.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use chain_types::{Revocation, Token};
use settlement::AdmissionId;
use sfu::ports::{Codec, Role, SessionKey, SlotId, StreamKey};

/// Bytes of a stream's name; a longer one is no name.
pub const STREAM_NAME_BYTES_MAX: usize = 64;
/// Streams that exist at a time; a further publisher is refused with [`Refused::Full`].
pub const STREAMS_MAX: usize = 4096;
/// How long a stream waits for its publisher to come back; then it ends and its viewers with it.
pub const PUBLISHER_RETURN_MAX: Duration = Duration::from_secs(10);
/// Sessions remembered as closed before they were entered; the oldest is forgotten beyond it, and
/// then a closed session stays counted as waiting for its handshake until [`Streams::tick`].
const CLOSED_EARLY_MAX: usize = 256;
/// A session that the relay never reported as connected is dropped after this long. The relay's
/// own limit is shorter and always reported; this bound only heals a lost report.
const PENDING_MAX: Duration = Duration::from_secs(60);

/// A stream's name: `[a-z0-9][a-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(String);

/// A text that is no stream name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream's name is 1 to 64 of a-z, 0-9, '.', '_', '-', and starts with a letter or digit")]
pub struct StreamNameError;

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<Self, StreamNameError> {
        let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts = text.as_bytes().first().is_some_and(is_alphanumeric);
        let rest = text.bytes().all(|b| is_alphanumeric(&b) || matches!(b, b'.' | b'_' | b'-'));
        if starts && rest && text.len() <= STREAM_NAME_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(StreamNameError)
        }
    }
}

impl StreamName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a session in its URL; 128 random bits, so that nobody ends a session he was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResourceId(u128);

impl ResourceId {
    /// A fresh one.
    pub fn random(rng: &mut impl rand::CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ResourceId {
    type Err = ();

    /// Exactly 32 lower-case hexadecimal digits: one session, one URL.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_hex) {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// What admission allowed a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// First instant at which it counts no longer; `None`: as long as the session lives.
    pub valid_until: Option<Instant>,
    /// Highest layer that may be sent; 255 = no cap.
    pub layer_cap: u8,
    /// The token it rests on; `None` on an open relay.
    pub token: Option<Token>,
    /// MONEY's name for it: then MONEY decides about the gate, and the rest here is without limit.
    pub admission: Option<AdmissionId>,
}

impl Lease {
    /// Without a limit.
    pub const OPEN: Self =
        Self { valid_until: None, layer_cap: u8::MAX, token: None, admission: None };
}

/// Why a session was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else publishes this stream.
    Taken,
    /// Nobody publishes this stream.
    NotLive,
    /// [`STREAMS_MAX`] streams exist.
    Full,
}

/// What the caller must do, or may tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// End this session.
    Close(SessionKey),
    /// Nothing of this stream is left: the relay may forget it.
    Free(StreamKey),
    /// A subscriber is connected and its lease holds: its gate may open.
    Admitted { name: StreamName, session: SessionKey, slot: SlotId, lease: Box<Lease> },
    /// A publisher's transport is up for the first time.
    StreamStarted { name: StreamName },
    /// A viewer's transport is up; the count includes it.
    ViewerJoined { name: StreamName, viewers: u32 },
    /// A viewer is gone; the count is without it.
    ViewerLeft { name: StreamName, viewers: u32 },
    /// The publisher is gone for [`PUBLISHER_RETURN_MAX`], or for good.
    StreamEnded { name: StreamName, duration: Duration },
}

/// One live stream, for whoever asks.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFacts {
    /// Its name, which is its id.
    pub name: StreamName,
    /// For people.
    pub title: String,
    /// As the packets say, in order of appearance.
    pub codecs: Vec<Codec>,
    /// Connected subscribers.
    pub viewers: u32,
    /// Width and height, where the codec says it in the clear.
    pub size: Option<(u16, u16)>,
    /// Since its publisher first connected.
    pub live_for: Duration,
    /// Whether the publisher is there now (else it is awaited).
    pub publisher_present: bool,
}

enum Publisher {
    /// An offer is being answered; `absent_since` restores the state before it, should it fail.
    Answering {
        absent_since: Option<Instant>,
    },
    /// A session; `connected` from `Connected` to `Closed`.
    Session {
        session: SessionKey,
        connected: bool,
        absent_since: Option<Instant>,
    },
    /// In this process.
    Local,
    Absent {
        since: Instant,
    },
}

struct Stream {
    key: StreamKey,
    title: String,
    publisher: Publisher,
    /// When a publisher first connected. `None`: not live yet, seen by nobody.
    live_since: Option<Instant>,
    codecs: Vec<Codec>,
    size: Option<(u16, u16)>,
    viewers: u32,
}

/// A session whose offer was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    /// The relay's name for it.
    pub session: SessionKey,
    /// What it does.
    pub role: Role,
    /// With which stream.
    pub stream: StreamKey,
    /// A subscriber's slot.
    pub slot: Option<SlotId>,
    /// The name in its URL.
    pub resource: ResourceId,
    /// What admission allowed.
    pub lease: Lease,
    /// `a=ice-ufrag` of the peer's offer: tells a trickled candidate from an ICE restart.
    pub peer_ufrag: String,
}

struct Session {
    facts: NewSession,
    /// Whether `Connected` came: only then is a subscriber counted.
    connected: bool,
    begun: Instant,
}

/// All streams and sessions of the node.
#[derive(Default)]
pub struct Streams {
    by_name: BTreeMap<StreamName, Stream>,
    names: HashMap<StreamKey, StreamName>,
    sessions: HashMap<SessionKey, Session>,
    resources: HashMap<ResourceId, SessionKey>,
    closed_early: VecDeque<SessionKey>,
    keys_given: u64,
}

impl Streams {
    /// Takes a name for a publisher whose offer is about to be answered: then either
    /// [`Streams::begin`] or [`Streams::release`] must follow.
    ///
    /// A publisher whose session is not connected (any more, or yet) is replaced: the person who
    /// reloads the page must not wait for the old one's time-outs.
    pub fn claim(
        &mut self,
        name: &StreamName,
        title: Option<&str>,
        out: &mut Vec<Output>,
    ) -> Result<StreamKey, Refused> {
        if let Some(stream) = self.by_name.get_mut(name) {
            let absent_since = match stream.publisher {
                Publisher::Absent { since } => Some(since),
                Publisher::Session { session, connected: false, absent_since } => {
                    out.push(Output::Close(session));
                    absent_since
                }
                Publisher::Answering { .. } | Publisher::Session { .. } | Publisher::Local => {
                    return Err(Refused::Taken);
                }
            };
            stream.publisher = Publisher::Answering { absent_since };
            if let Some(title) = title {
                stream.title = title.to_owned();
            }
            return Ok(stream.key);
        }
        self.insert(name, title, Publisher::Answering { absent_since: None })
    }

    /// Takes a name for a publisher in this process, live at once.
    pub fn open_local(
        &mut self,
        name: &StreamName,
        title: &str,
        codecs: &[Codec],
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<StreamKey, Refused> {
        if self.by_name.contains_key(name) {
            return Err(Refused::Taken);
        }
        let key = self.insert(name, Some(title), Publisher::Local)?;
        let stream = self.by_name.get_mut(name).expect("inserted above");
        stream.live_since = Some(now);
        stream.codecs = codecs.to_vec();
        out.push(Output::StreamStarted { name: name.clone() });
        Ok(key)
    }

    /// The publisher in this process has stopped: the stream ends.
    pub fn close_local(&mut self, key: StreamKey, now: Instant, out: &mut Vec<Output>) {
        if let Some(name) = self.names.get(&key).cloned() {
            self.end(&name, now, out);
        }
    }

    /// The claimed publisher's offer was refused.
    pub fn release(&mut self, key: StreamKey, out: &mut Vec<Output>) {
        let Some(name) = self.names.get(&key).cloned() else { return };
        let Some(stream) = self.by_name.get_mut(&name) else { return };
        let Publisher::Answering { absent_since } = stream.publisher else { return };
        match absent_since {
            Some(since) => stream.publisher = Publisher::Absent { since },
            None => self.forget(&name, out),
        }
    }

    /// The stream that a subscriber asks for, if it is live.
    pub fn live(&self, name: &StreamName) -> Result<StreamKey, Refused> {
        match self.by_name.get(name) {
            Some(stream) if stream.live_since.is_some() => Ok(stream.key),
            Some(_) | None => Err(Refused::NotLive),
        }
    }

    /// Enters a session whose offer was answered.
    pub fn begin(
        &mut self,
        new: NewSession,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Refused> {
        let session = new.session;
        let name = self.names.get(&new.stream);
        let Some(stream) = name.and_then(|name| self.by_name.get_mut(name)) else {
            // It ended while the offer was answered.
            out.push(Output::Close(session));
            out.push(Output::Free(new.stream));
            return Err(Refused::NotLive);
        };
        if new.role == Role::Publisher
            && let Publisher::Answering { absent_since } = stream.publisher
        {
            stream.publisher = Publisher::Session { session, connected: false, absent_since };
        }
        self.resources.insert(new.resource, session);
        self.sessions.insert(session, Session { facts: new, connected: false, begun: now });
        if let Some(at) = self.closed_early.iter().position(|&early| early == session) {
            self.closed_early.remove(at);
            self.closed(session, now, out);
        }
        Ok(())
    }

    /// ICE and DTLS of a session are up.
    pub fn connected(&mut self, session: SessionKey, now: Instant, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if entry.connected {
            return;
        }
        let Some(name) = self.names.get(&entry.facts.stream) else { return };
        let Some(stream) = self.by_name.get_mut(name) else { return };
        entry.connected = true;
        match entry.facts.role {
            Role::Publisher => {
                let Publisher::Session { session: current, connected, absent_since } =
                    &mut stream.publisher
                else {
                    return;
                };
                if *current != session {
                    return; // Replaced before it connected; its end is on the way.
                }
                *connected = true;
                *absent_since = None;
                if stream.live_since.is_none() {
                    stream.live_since = Some(now);
                    out.push(Output::StreamStarted { name: name.clone() });
                }
            }
            Role::Subscriber => {
                stream.viewers += 1;
                out.push(Output::ViewerJoined { name: name.clone(), viewers: stream.viewers });
                let NewSession { slot, lease, .. } = &entry.facts;
                let is_current = lease.valid_until.is_none_or(|until| now < until);
                if let (Some(slot), true) = (*slot, is_current) {
                    let (name, lease) = (name.clone(), Box::new(lease.clone()));
                    out.push(Output::Admitted { name, session, slot, lease });
                }
            }
        }
    }

    /// A session is over, whatever the reason.
    pub fn closed(&mut self, session: SessionKey, now: Instant, out: &mut Vec<Output>) {
        let Some(entry) = self.sessions.remove(&session) else {
            if self.closed_early.len() == CLOSED_EARLY_MAX {
                self.closed_early.pop_front();
            }
            self.closed_early.push_back(session);
            return;
        };
        self.resources.remove(&entry.facts.resource);
        let Some(name) = self.names.get(&entry.facts.stream).cloned() else { return };
        let Some(stream) = self.by_name.get_mut(&name) else { return };
        match (entry.facts.role, &stream.publisher) {
            (Role::Subscriber, _) => {
                if entry.connected {
                    stream.viewers -= 1;
                    out.push(Output::ViewerLeft { name, viewers: stream.viewers });
                }
            }
            (Role::Publisher, Publisher::Session { session: current, absent_since, .. })
                if *current == session =>
            {
                if stream.live_since.is_some() {
                    let since = absent_since.unwrap_or(now);
                    stream.publisher = Publisher::Absent { since };
                } else {
                    self.forget(&name, out);
                }
            }
            // A publisher that was replaced.
            (Role::Publisher, _) => {}
        }
    }

    /// The publisher's first packet of a codec.
    pub fn track_started(&mut self, key: StreamKey, codec: Codec) {
        let Some(stream) = self.names.get(&key).and_then(|name| self.by_name.get_mut(name)) else {
            return;
        };
        // A publisher that comes back with another codec replaces the old one of that kind.
        stream.codecs.retain(|known| known.kind() != codec.kind());
        stream.codecs.push(codec);
        stream.codecs.sort_by_key(|codec| std::cmp::Reverse(codec.kind()));
    }

    /// The publisher's picture size became known.
    pub fn size_known(&mut self, key: StreamKey, size: (u16, u16)) {
        if let Some(stream) = self.names.get(&key).and_then(|name| self.by_name.get_mut(name)) {
            stream.size = Some(size);
        }
    }

    /// Ends what its time ended: leases, streams whose publisher stays away. Call once a second or
    /// more often.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let expired =
            |session: &Session| session.facts.lease.valid_until.is_some_and(|until| now >= until);
        let over = self.sessions.iter().filter(|(_, session)| expired(session));
        out.extend(over.map(|(&key, _)| Output::Close(key)));
        let is_lost = |session: &Session| !session.connected && now >= session.begun + PENDING_MAX;
        let lost = self.sessions.iter().filter(|(_, session)| is_lost(session));
        for session in lost.map(|(&key, _)| key).collect::<Vec<_>>() {
            out.push(Output::Close(session));
            self.closed(session, now, out);
        }
        let stays_away = |stream: &Stream| match stream.publisher {
            Publisher::Absent { since } => now >= since + PUBLISHER_RETURN_MAX,
            Publisher::Answering { .. } | Publisher::Session { .. } | Publisher::Local => false,
        };
        let ended = self.by_name.iter().filter(|(_, stream)| stays_away(stream));
        for name in ended.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.end(&name, now, out);
        }
    }

    /// The sessions that rest on a token which counts no longer.
    pub fn revoked(&self, revocation: &Revocation) -> Vec<(SessionKey, Option<SlotId>)> {
        let rests_on_it = |session: &Session| {
            session.facts.lease.token.as_ref().is_some_and(|token| revocation.covers(token))
        };
        let hit = self.sessions.iter().filter(|(_, session)| rests_on_it(session));
        hit.map(|(&key, session)| (key, session.facts.slot)).collect()
    }

    /// The session behind a URL.
    pub fn session(&self, resource: ResourceId) -> Option<&NewSession> {
        let key = self.resources.get(&resource)?;
        self.sessions.get(key).map(|session| &session.facts)
    }

    /// The URL of a session that MONEY decides about.
    pub fn paying_resource(&self, session: SessionKey) -> Option<ResourceId> {
        let facts = &self.sessions.get(&session)?.facts;
        facts.lease.admission.map(|_| facts.resource)
    }

    /// The name of a stream.
    pub fn name(&self, key: StreamKey) -> Option<&StreamName> {
        self.names.get(&key)
    }

    /// Gives up a session's URL, since its client ends it; its end itself comes by
    /// [`Streams::closed`].
    pub fn take_resource(&mut self, resource: ResourceId) -> Option<SessionKey> {
        self.resources.remove(&resource)
    }

    /// A live stream.
    pub fn facts(&self, name: &StreamName, now: Instant) -> Option<StreamFacts> {
        self.by_name.get(name).and_then(|stream| stream.facts(name, now))
    }

    /// All live streams by name.
    pub fn list(&self, now: Instant) -> Vec<StreamFacts> {
        self.by_name.iter().filter_map(|(name, stream)| stream.facts(name, now)).collect()
    }

    /// How much of everything there is.
    pub fn totals(&self) -> Totals {
        let live = || self.by_name.values().filter(|stream| stream.live_since.is_some());
        Totals {
            streams: live().count(),
            sessions: self.sessions.len(),
            viewers: live().map(|stream| u64::from(stream.viewers)).sum(),
        }
    }

    fn insert(
        &mut self,
        name: &StreamName,
        title: Option<&str>,
        publisher: Publisher,
    ) -> Result<StreamKey, Refused> {
        if self.by_name.len() >= STREAMS_MAX {
            return Err(Refused::Full);
        }
        self.keys_given += 1;
        let key = StreamKey(self.keys_given);
        let stream = Stream {
            key,
            title: title.unwrap_or(name.as_str()).to_owned(),
            publisher,
            live_since: None,
            codecs: Vec::new(),
            size: None,
            viewers: 0,
        };
        self.by_name.insert(name.clone(), stream);
        self.names.insert(key, name.clone());
        Ok(key)
    }

    /// Ends a live stream: its sessions are closed, its name is free.
    fn end(&mut self, name: &StreamName, now: Instant, out: &mut Vec<Output>) {
        let Some(stream) = self.by_name.get(name) else { return };
        let key = stream.key;
        let mine = self.sessions.iter().filter(|(_, session)| session.facts.stream == key);
        let sessions: Vec<SessionKey> = mine.map(|(&session, _)| session).collect();
        let duration = stream.live_since.map_or(Duration::ZERO, |since| now - since);
        for session in sessions {
            out.push(Output::Close(session));
            // Here and not at `Closed`: the name may be taken again before that comes.
            self.closed(session, now, out);
        }
        self.forget(name, out);
        out.push(Output::StreamEnded { name: name.clone(), duration });
    }

    fn forget(&mut self, name: &StreamName, out: &mut Vec<Output>) {
        if let Some(stream) = self.by_name.remove(name) {
            self.names.remove(&stream.key);
            out.push(Output::Free(stream.key));
        }
    }
}

/// Sizes of [`Streams`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Live streams.
    pub streams: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Connected subscribers.
    pub viewers: u64,
}

impl Stream {
    fn facts(&self, name: &StreamName, now: Instant) -> Option<StreamFacts> {
        let live_since = self.live_since?;
        Some(StreamFacts {
            name: name.clone(),
            title: self.title.clone(),
            codecs: self.codecs.clone(),
            viewers: self.viewers,
            size: self.size,
            live_for: now.saturating_duration_since(live_since),
            publisher_present: match self.publisher {
                Publisher::Session { connected, .. } => connected,
                Publisher::Local => true,
                Publisher::Answering { .. } | Publisher::Absent { .. } => false,
            },
        })
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
