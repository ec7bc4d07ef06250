//! The way to other peers through a coordinator: who is in the room, and what they describe.
//!
//! One task, [`run`], holds the membership: it finds the coordinator, proves the key, joins, and after
//! every loss comes back, by a WebSocket or by polling. Signals go in and updates come out.

mod backoff;
mod find;
mod http;
mod poll;
mod socket;

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use coordinator::{
    identity::{JoinProof, NodeKey},
    wire::{Code, ErrorBody, IceServer, RoomPeer},
};
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use backoff::Backoff;
pub use find::{Entrance, Found, find};
pub use http::HttpError;

/// Signals that wait to be sent. One more is dropped: negotiation starts again by itself.
pub const OUTGOING_MAX: usize = 512;
/// Updates that wait to be read. One more makes this side read slower.
pub const UPDATES_MAX: usize = 512;

/// How the coordinator is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By WebSocket, or by polling where there is none.
    Auto,
    /// By WebSocket only.
    WebSocket,
    /// By polling only.
    Poll,
}

impl FromStr for Transport {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Transport::Auto),
            "websocket" => Ok(Transport::WebSocket),
            "poll" => Ok(Transport::Poll),
            _ => Err("a transport is auto, websocket or poll"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Auto => "auto",
            Transport::WebSocket => "websocket",
            Transport::Poll => "poll",
        })
    }
}

/// Who joins what, and how.
#[derive(Clone)]
pub struct Membership {
    /// Where the coordinator is learnt.
    pub entrance: Entrance,
    /// How it is spoken to.
    pub transport: Transport,
    /// The room.
    pub room: String,
    /// Shown to others.
    pub name: String,
    /// Whose id joins.
    pub key: NodeKey,
    /// Into a private room.
    pub invite: Option<String>,
}

/// What is described to a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// An SDP.
    Offer(String),
    /// An SDP.
    Answer(String),
    /// As browsers write it.
    Candidate(Value),
}

/// A signal to a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its id.
    pub to: String,
    /// The connection's name.
    pub sid: String,
    /// What is described.
    pub what: What,
}

/// A signal of a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Its id, as the coordinator vouches for it.
    pub from: String,
    /// The connection's name, where the peer gives one.
    pub sid: Option<String>,
    /// What is described.
    pub what: What,
    /// The peer's key and its signature of the fingerprint.
    pub signature: Option<(String, String)>,
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// We are in the room.
    Joined {
        /// How it is spoken to.
        transport: Transport,
        /// Who else is in it. `None`: who was, and what changed meanwhile comes as updates.
        peers: Option<Vec<RoomPeer>>,
        /// STUN and TURN servers.
        ice_servers: Vec<IceServer>,
    },
    /// Somebody came.
    PeerJoined {
        /// Its id.
        id: String,
        /// Its name, or its id.
        name: String,
    },
    /// Somebody went.
    PeerLeft {
        /// Its id.
        id: String,
    },
    /// Somebody describes something to us.
    Signal(Incoming),
    /// The coordinator is lost, and tried again after the wait.
    Lost {
        /// What happened.
        why: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// It will not have us; the task has ended.
    Refused(SignalError),
}

/// Why there is no membership, and will be none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SignalError {
    /// The first attempt to find it.
    #[error("no coordinator: {0}")]
    Unreachable(HttpError),
    /// The node has none.
    #[error("{url} runs no coordinator: it must be started with --server")]
    Disabled {
        /// The seed.
        url: String,
    },
    /// 402.
    #[error("room {room} must be paid for{}", terms.as_ref().map(|terms| format!(": {terms}")).unwrap_or_default())]
    PaymentRequired {
        /// Which.
        room: String,
        /// The stream's.
        terms: Option<Value>,
    },
    /// 403.
    #[error("room {room} is not open to this key ({message}): a private room needs --invite")]
    Forbidden {
        /// Which.
        room: String,
        /// The coordinator's words.
        message: String,
    },
    /// Another reason that will not go away.
    #[error("the coordinator refuses the join of {room}: {message} ({})", code.as_str())]
    Refused {
        /// Which.
        room: String,
        /// Its kind.
        code: Code,
        /// The coordinator's words.
        message: String,
    },
    /// Another connection has taken over.
    #[error("another process has joined with the same key: give each its own --key")]
    Replaced,
}

// Not `#[from]`: its sentence is said here, and would be again by whoever shows a chain of sources.
impl From<HttpError> for SignalError {
    fn from(error: HttpError) -> Self {
        Self::Unreachable(error)
    }
}

/// How a connection to the coordinator ended.
#[derive(Debug)]
enum End {
    /// We left.
    Left,
    /// It may work again.
    Lost { why: String, after: Option<Duration> },
    /// It never came to a membership this way; another way may work.
    Unusable(String),
    /// It will not work again.
    Refused(SignalError),
    /// The session is not known any more.
    Forgotten,
    /// Go there instead.
    Moved(String),
}

/// What outlives a connection.
struct Session {
    membership: Membership,
    node_id: String,
    found: Found,
    /// Stands for the signature.
    secret: Option<String>,
    /// What has arrived.
    cursor: u64,
    /// Has ever been in the room by this session.
    is_member: bool,
}

impl Session {
    fn proof(&self, room: &str) -> JoinProof {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ts = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let nonce = rand::rng().random();
        self.membership.key.prove_join(&self.found.network_id, room, ts, nonce)
    }

    fn metadata(&self) -> Value {
        json!({ "name": self.membership.name })
    }

    /// An SDP's signature: key and `fpSig`.
    fn sign(&self, to: &str, sdp: &str) -> Option<(String, String)> {
        let key = &self.membership.key;
        let signature = key.sign_fingerprint(to, &self.membership.room, sdp).ok()?;
        Some((key.public().to_string(), signature))
    }

    /// What a refusal of the join means.
    fn refusal(&self, error: &ErrorBody) -> End {
        let room = self.membership.room.clone();
        let message = error.message.clone();
        match error.code {
            Code::PaymentRequired => {
                let terms = error.terms.clone();
                End::Refused(SignalError::PaymentRequired { room, terms })
            }
            Code::Forbidden => End::Refused(SignalError::Forbidden { room, message }),
            Code::BadRequest
            | Code::Unauthenticated
            | Code::UnknownRoom
            | Code::NotFound
            | Code::IdTaken
            | Code::TooLarge => {
                End::Refused(SignalError::Refused { room, code: error.code, message })
            }
            Code::UnknownPeer
            | Code::RoomFull
            | Code::RateLimited
            | Code::Internal
            | Code::Draining => {
                End::Lost { why: message, after: error.retry_after_ms.map(Duration::from_millis) }
            }
        }
    }
}

/// Holds the membership until `outgoing` ends (then it leaves the room) or the coordinator refuses.
pub async fn run(
    membership: Membership,
    mut outgoing: mpsc::Receiver<Outgoing>,
    updates: mpsc::Sender<Update>,
) {
    // A reader that has gone does not want to know.
    let tell = async |update| drop(updates.send(update).await);
    let found = match find(&membership.entrance).await {
        Ok(found) => found,
        Err(error) => return tell(Update::Refused(error)).await,
    };
    let node_id = membership.key.node_id();
    let (secret, cursor, is_member) = (None, 0, false);
    let mut session = Session { membership, node_id, found, secret, cursor, is_member };
    let mut backoff = Backoff::default();
    loop {
        let by_socket = session.membership.transport != Transport::Poll;
        let mut end = match by_socket {
            true => socket::run(&mut session, &mut outgoing, &updates).await,
            false => poll::run(&mut session, &mut outgoing, &updates).await,
        };
        if let (End::Unusable(_), Transport::Auto) = (&end, session.membership.transport) {
            end = poll::run(&mut session, &mut outgoing, &updates).await;
        }
        if std::mem::take(&mut session.is_member) {
            backoff.reset();
        }
        let (why, after) = match end {
            End::Left => return,
            End::Refused(error) => return tell(Update::Refused(error)).await,
            End::Moved(url) => {
                session.secret = None;
                session.membership.entrance = Entrance::Coordinator(url.clone());
                match find(&session.membership.entrance).await {
                    Ok(found) => session.found = found,
                    Err(error) => {
                        tell(Update::Lost { why: error.to_string(), retry_in: Duration::ZERO })
                            .await
                    }
                }
                (format!("the coordinator sends us to {url}"), None)
            }
            End::Forgotten => {
                session.secret = None;
                session.cursor = 0;
                ("the coordinator does not know the session any more".to_owned(), None)
            }
            End::Lost { why, after } => (why, after),
            End::Unusable(why) => (why, None),
        };
        let retry_in = backoff.next_wait(after, &mut rand::rng());
        tell(Update::Lost { why, retry_in }).await;
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = updates.closed() => return,
        }
    }
}
