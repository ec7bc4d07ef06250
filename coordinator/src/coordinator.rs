//! The coordinator as its host and its edge see it: who may do what, then what the state does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use rand::Rng;
use tokio::sync::watch;

use crate::clock::{Clock, Now};
use crate::codes::Codes;
use crate::error::Refusal;
use crate::figures::{Figures, Refusals};
use crate::identity::{Invite, InviteError, JoinProof, PublicKey, is_key_id, is_node_id};
use crate::limits::{
    BACKOFF_MS_MAX, DRAIN_SPREAD_MS_EACH, DRAIN_SPREAD_MS_MAX, INVITE_CODE_MS_MAX, SWEEP_MS,
};
use crate::link::Link;
use crate::options::{Mode, Options, OptionsError};
use crate::peers::{Delivery, SessionId};
use crate::ports::{Applicant, Refused};
use crate::queue::Entry;
use crate::room::{Card, Owner, RoomKind, kind_of};
use crate::sessions::{Caller, Sessions, Who};
use crate::shards::Shards;
use crate::signaling::Draft;
use crate::state::{Join, Memory, Page, PeerView, PollCall, StateBackend};
use crate::wire::{Code, close};

/// A closing WebSocket that its client does not read is cut off after this.
const CLOSE_PATIENCE_MS: u64 = 5_000;

const SIGN_FIRST: &str = "this coordinator wants a signed join, then its session with every call";

/// A coordinator. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    clock: Clock,
    pub(crate) state: Box<dyn StateBackend>,
    pub(crate) sessions: Sessions,
    pub(crate) codes: Codes,
    links: Shards<u64, Arc<Link>>,
    links_made: AtomicU64,
    links_open: AtomicUsize,
    draining: watch::Sender<Option<Drain>>,
    pub(crate) refusals: Refusals,
    sweeper: OnceLock<()>,
}

/// Since when the coordinator goes away, and where clients find another.
#[derive(Clone)]
struct Drain {
    since_ms: u64,
    /// Until the last WebSocket is closed.
    spread_ms: u64,
    reason: String,
}

/// What a join asks for, before anybody has decided.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub room: String,
    /// JSON text.
    pub metadata: Option<String>,
    pub invite: Option<String>,
    /// A bearer token that is no session: a stream's admission may know it.
    pub token: Option<String>,
}

/// A join to which all but a stream's admission has said yes.
pub(crate) struct Wanted {
    pub(crate) room: String,
    card: Arc<Card>,
    pub(crate) applicant: Option<Applicant>,
}

impl Coordinator {
    /// A coordinator of these options; an error names the option that cannot be.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        let clock = Clock::start();
        let media = Arc::clone(&options.ports.media);
        let state = Box::new(Memory::new(&options.limits, media, clock.now()));
        Ok(Self(Arc::new(Inner {
            sessions: Sessions::new(&options.limits, clock.now()),
            codes: Codes::default(),
            state,
            options,
            clock,
            links: Shards::new(),
            links_made: AtomicU64::new(0),
            links_open: AtomicUsize::new(0),
            draining: watch::Sender::new(None),
            refusals: Refusals::default(),
            sweeper: OnceLock::new(),
        })))
    }

    /// Serves `/webrtc/`, and 404 for what is unknown below it; an application's own routes go
    /// beside it. The caller's address is read from axum's `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> axum::Router {
        crate::http::router(self.clone())
    }

    /// Serves `/nodes`.
    pub fn nodes_router(&self) -> axum::Router {
        crate::http::nodes_router(self.clone())
    }

    /// How it goes, as plain numbers.
    pub fn metrics(&self) -> Figures {
        let counts = self.state().counts();
        Figures {
            counts,
            sockets: self.0.links.len(),
            sessions: self.0.sessions.count(),
            refused: self.0.refusals.read(),
        }
    }

    /// Goes away: new joins and connections are refused (`draining`) and held polls answered so at
    /// once, WebSockets are closed (4503) one after the other, over half a minute where there are
    /// many, each told to connect to `reconnect_url`, a coordinator's address as `/nodes` tells it.
    pub fn drain(&self, reconnect_url: &str) {
        let reason = serde_json::json!({ "reconnect": reconnect_url }).to_string();
        // A close frame holds 123 bytes; half a JSON text would help nobody.
        let reason = if reason.len() <= 123 { reason } else { "{}".to_owned() };
        let sockets = u64::try_from(self.0.links.len()).unwrap_or(u64::MAX);
        let spread_ms = sockets.saturating_mul(DRAIN_SPREAD_MS_EACH).clamp(1, DRAIN_SPREAD_MS_MAX);
        let drain = Drain { since_ms: self.now().mono_ms, spread_ms, reason };
        self.0.draining.send_if_modified(|draining| match draining {
            Some(_) => false,
            None => {
                *draining = Some(drain);
                true
            }
        });
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.borrow().is_some()
    }

    /// Joins `caller` to a room, if it may.
    pub async fn join_room(
        &self,
        caller: &Caller,
        request: JoinRequest,
    ) -> Result<Vec<PeerView>, Refusal> {
        let mut wanted = self.may_join(caller, request)?;
        if let Some(applicant) = wanted.applicant.take() {
            self.admit(applicant).await?;
        }
        self.enter(caller, wanted)
    }

    /// Leaves a room; gives whether the node was in it.
    pub fn leave_room(&self, node: &str, room: &str) -> bool {
        self.state().leave_room(node, room, self.now())
    }

    pub fn leave_all_rooms(&self, node: &str) {
        self.state().leave_all_rooms(node, self.now());
    }

    /// Who is in a room.
    pub fn room_peers(&self, room: &str, page: Page<'_>) -> Result<Vec<PeerView>, Refusal> {
        self.state().room_peers(room, page, self.now())
    }

    /// Brings a signal to `to`.
    pub fn queue_signal(&self, to: &str, draft: Draft<'_>) -> Result<Delivery, Refusal> {
        self.state().queue_signal(to, draft, self.now(), roll())
    }

    /// Tells all in the draft's room but who says it.
    pub fn broadcast_to_room(&self, draft: Draft<'_>) -> Result<usize, Refusal> {
        self.state().broadcast_to_room(draft, self.now(), roll())
    }

    /// What waits for `node`, or what comes within `timeout`; nothing when nothing does. With a
    /// cursor all that is newer, again and again; without, each signal once. Who would have to wait
    /// while the coordinator drains is refused.
    pub async fn poll_signals(
        &self,
        node: &str,
        room: Option<&str>,
        cursor: Option<u64>,
        timeout: Duration,
    ) -> Result<Vec<Entry>, Refusal> {
        let serial = self.state().begin_poll(node, self.now())?;
        let _held = HeldPoll { coordinator: self, node, serial };
        let call = PollCall { node, room, cursor, serial };
        let mut draining = self.0.draining.subscribe();
        let mut drained = pin!(draining.wait_for(Option::is_some));
        let answer = poll_fn(|cx| match self.state().poll_signals(call, self.now(), cx.waker()) {
            Ok(Poll::Ready(entries)) => Poll::Ready(Ok(entries)),
            Ok(Poll::Pending) => drained.as_mut().poll(cx).map(|_| Err(Refusal::draining())),
            Err(refusal) => Poll::Ready(Err(refusal)),
        });
        tokio::time::timeout(timeout, answer).await.unwrap_or(Ok(Vec::new()))
    }

    /// Lets time pass. The router does it by itself; a host without one calls it each second.
    pub fn cleanup_stale_peers(&self) {
        let now = self.now();
        self.sweep_links(now);
        for session in self.state().cleanup_stale_peers(now) {
            // Asking for it moves its end on.
            let _ = self.0.sessions.caller(&session, now);
        }
        self.0.sessions.sweep(now);
        self.0.codes.sweep(now);
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn state(&self) -> &dyn StateBackend {
        &*self.0.state
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn now(&self) -> Now {
        self.0.clock.now()
    }

    pub(crate) fn mono_ms(&self) -> u64 {
        self.0.clock.mono_ms()
    }

    pub(crate) fn uptime_s(&self) -> u64 {
        self.mono_ms() / 1_000
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.0.refusals.count(refusal.code);
    }

    /// Starts the passing of time with the first request, in the runtime that serves it.
    pub(crate) fn wake_up(&self) {
        self.0.sweeper.get_or_init(|| {
            let weak = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(SWEEP_MS));
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let Some(inner) = weak.upgrade() else { return };
                    Self(inner).cleanup_stale_peers();
                }
            });
        });
    }

    /// Makes a link for a new WebSocket; [`Coordinator::close_link`] must follow.
    pub(crate) fn open_link(
        &self,
        address: Option<std::net::IpAddr>,
        deflate: bool,
    ) -> Result<Arc<Link>, Refusal> {
        let now = self.now();
        if self.is_draining() {
            return Err(Refusal::draining());
        }
        if let Some(address) = address {
            self.0.sessions.open_connection(address, now, roll())?;
        }
        let open = self.0.links_open.fetch_add(1, Ordering::Relaxed);
        if open >= self.options().limits.sockets_max {
            self.0.links_open.fetch_sub(1, Ordering::Relaxed);
            if let Some(address) = address {
                self.0.sessions.close_connection(address);
            }
            let sentence = "this coordinator has as many WebSockets as it may; poll, or come later";
            return Err(Refusal::rate_limited(sentence).after(BACKOFF_MS_MAX));
        }
        let id = self.0.links_made.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link::new(id, address, deflate, now.mono_ms));
        self.0.links.of(&id).insert(id, Arc::clone(&link));
        Ok(link)
    }

    pub(crate) fn close_link(&self, link: &Link) {
        self.0.links.of(&link.id).remove(&link.id);
        self.0.links_open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = link.address {
            self.0.sessions.close_connection(address);
        }
    }

    fn sweep_links(&self, now: Now) {
        let limits = &self.options().limits;
        let drain = self.0.draining.borrow().clone();
        self.0.links.retain(|_, link| {
            let silent_since = link.heard_ms().saturating_add(limits.stale_ms);
            let nameless_until = link.opened_ms().saturating_add(limits.nameless_ms);
            if silent_since <= now.mono_ms {
                let reason = "nothing was heard for too long; ping in time";
                link.close(close::HEARTBEAT, reason, now.mono_ms);
            } else if !link.is_named() && nameless_until <= now.mono_ms {
                let reason = "say hello or join a room sooner after connecting";
                link.close(close::HEARTBEAT, reason, now.mono_ms);
            }
            if let Some(drain) = &drain {
                // Spread by a multiplicative hash, so that neighbours do not go together.
                let place = link.id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                let at_ms = drain.since_ms.saturating_add(place % drain.spread_ms);
                if at_ms <= now.mono_ms {
                    link.close(close::DRAINING, &drain.reason, now.mono_ms);
                }
            }
            link.abort_if_stuck(now.mono_ms, CLOSE_PATIENCE_MS);
            true
        });
    }

    /// Who calls: the session's node, or in mode `open` whoever it says it is.
    pub(crate) fn caller(
        &self,
        session: Option<&str>,
        claimed: Option<&str>,
        now: Now,
    ) -> Result<Caller, Refusal> {
        if let Some(session) = session {
            let secret = crate::identity::hex_bytes::<32>(session).ok_or_else(|| {
                Refusal::unauthenticated("a session has 64 hex digits; sign a join to get one")
            })?;
            let caller = self.0.sessions.caller(&secret, now)?;
            if claimed.is_some_and(|claimed| *claimed != *caller.node_id) {
                let sentence = "the session belongs to another node; use its own id";
                return Err(Refusal::forbidden(sentence));
            }
            return Ok(caller);
        }
        let Some(claimed) = claimed else {
            return Err(match self.options().mode {
                Mode::Open => Refusal::bad_request("`nodeId` is missing"),
                Mode::Signed | Mode::Required => Refusal::unauthenticated(SIGN_FIRST),
            });
        };
        self.may_claim(claimed)?;
        Ok(Caller { node_id: claimed.into(), key: None, session: None })
    }

    /// Whether an id is taken at its word here.
    fn may_claim(&self, node_id: &str) -> Result<(), Refusal> {
        if !is_node_id(node_id) {
            let form = "`nodeId` must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ -";
            return Err(Refusal::bad_request(form));
        }
        let sentence = match self.options().mode {
            Mode::Open if !is_key_id(node_id) => return Ok(()),
            Mode::Open => "an id that begins with sn1 is a key's; sign the join with it",
            Mode::Signed | Mode::Required => SIGN_FIRST,
        };
        Err(Refusal::unauthenticated(sentence))
    }

    /// Who signed: checks the proof for `room` (empty: none), and takes its nonce.
    pub(crate) fn signer(
        &self,
        node_id: &str,
        room: &str,
        proof: &JoinProof,
        now: Now,
    ) -> Result<Caller, Refusal> {
        let window_ms = self.options().limits.join_window_ms;
        let network = self.options().network_id();
        let (key, nonce) = proof
            .check(network, node_id, room, now.unix_ms, window_ms)
            .map_err(|error| Refusal::unauthenticated(error.to_string()))?;
        self.0.sessions.take_nonce(nonce, proof.ts, now)?;
        Ok(Caller { node_id: node_id.into(), key: Some(key), session: None })
    }

    /// Gives a caller a session.
    pub(crate) fn open_session(&self, caller: &mut Caller, now: Now) -> Result<SessionId, Refusal> {
        let mut secret: SessionId = [0; 32];
        rand::rng().fill(&mut secret);
        self.0.sessions.open(secret, &caller.node_id, caller.key, now)?;
        caller.session = Some(secret);
        Ok(secret)
    }

    /// Counts a join, sign-in or made room.
    pub(crate) fn take_join(&self, caller: &Caller, now: Now) -> Result<(), Refusal> {
        self.0.sessions.take_join(&Who::Node(Arc::clone(&caller.node_id)), now, roll())
    }

    /// The code of a checked invite, which stands for it until the one or the other ends.
    pub(crate) fn code_of(
        &self,
        invite: &Invite,
        by: Option<Who>,
        now: Now,
    ) -> Result<String, Refusal> {
        if let Some(by) = &by {
            self.0.sessions.take_join(by, now, roll())?;
        }
        let lasts_ms = invite.last().exp.saturating_sub(now.unix_ms).min(INVITE_CODE_MS_MAX);
        let until_ms = now.mono_ms.saturating_add(lasts_ms);
        let fresh = BASE32_NOPAD.encode(&rand::rng().random::<[u8; 10]>()).to_ascii_lowercase();
        self.0.codes.keep(fresh, invite.encode(), by, until_ms, now)
    }

    /// Everything about a join but a stream's admission, which takes time.
    pub(crate) fn may_join(
        &self,
        caller: &Caller,
        request: JoinRequest,
    ) -> Result<Wanted, Refusal> {
        let now = self.now();
        if self.is_draining() {
            return Err(Refusal::draining());
        }
        let kind = kind_of(&request.room)?;
        let bytes_max = self.options().limits.metadata_bytes_max;
        let card = Card::new(request.metadata.as_deref(), &caller.node_id, bytes_max)?;
        self.take_join(caller, now)?;
        let applicant = match kind {
            RoomKind::Public => None,
            RoomKind::Private => {
                self.may_enter_private(caller, &request.room, request.invite.as_deref(), now)?;
                None
            }
            RoomKind::Stream => Some(Applicant {
                room: request.room.clone(),
                node_id: caller.node_id.to_string(),
                key: caller.key,
                token: request.invite.or(request.token),
            }),
        };
        Ok(Wanted { room: request.room, card: Arc::new(card), applicant })
    }

    /// Asks the host about a stream's room.
    pub(crate) async fn admit(&self, applicant: Applicant) -> Result<(), Refusal> {
        let admission = Arc::clone(&self.options().ports.admission);
        admission.admit(applicant).await.map_err(|refused| match refused {
            Refused::PaymentRequired(terms) => {
                let sentence = "this stream is paid; fulfil `terms`, then join again";
                let mut refusal = Refusal::new(Code::PaymentRequired, sentence);
                refusal.terms = Some(Box::new(terms));
                refusal
            }
            Refused::Forbidden(sentence) => Refusal::forbidden(sentence),
        })
    }

    /// The join itself.
    pub(crate) fn enter(&self, caller: &Caller, wanted: Wanted) -> Result<Vec<PeerView>, Refusal> {
        let Wanted { room, card, .. } = wanted;
        let join = Join { node: &caller.node_id, room: &room, card, roll: roll() };
        self.state().join_room(join, self.now())
    }

    fn may_enter_private(
        &self,
        caller: &Caller,
        room: &str,
        invite: Option<&str>,
        now: Now,
    ) -> Result<(), Refusal> {
        let owner = self.state().owner(room).ok_or_else(Refusal::unknown_room)?;
        if owner.ban.iter().any(|id| **id == *caller.node_id) {
            return Err(Refusal::forbidden("the owner has closed this room to this node"));
        }
        if caller.key == Some(owner.key) {
            return Ok(());
        }
        let Some(text) = invite else {
            return Err(Refusal::forbidden("this room is private; join with an `invite`"));
        };
        let (invite, _) = self.checked_invite(text, now)?;
        if invite.room() != room {
            return Err(invite_refusal(InviteError::OtherRoom));
        }
        invite.check_holder(&caller.node_id).map_err(invite_refusal)
    }

    /// The invite that a text or a code is, with its chain checked, and its room's owner.
    pub(crate) fn checked_invite(&self, text: &str, now: Now) -> Result<(Invite, Owner), Refusal> {
        let by_code = self.0.codes.invite_of(text, now);
        let text = by_code.as_deref().unwrap_or(text);
        let invite = Invite::decode(text).map_err(invite_refusal)?;
        let owner = self.state().owner(invite.room()).ok_or_else(Refusal::unknown_room)?;
        invite
            .check(self.options().network_id(), invite.room(), &owner.key, now.unix_ms)
            .map_err(invite_refusal)?;
        Ok((invite, owner))
    }

    /// Makes a private room of the caller, who must have signed.
    pub(crate) fn make_room(
        &self,
        caller: &Caller,
        salt: &str,
        ban: Vec<String>,
        peers_max: Option<usize>,
    ) -> Result<String, Refusal> {
        let now = self.now();
        let key: PublicKey = caller.key.ok_or_else(|| {
            Refusal::unauthenticated("a private room belongs to a key; sign in at /webrtc/auth")
        })?;
        self.take_join(caller, now)?;
        let room = crate::identity::private_room(&key, salt);
        let owner = Owner { key, ban, peers_max };
        self.state().make_room(&room, owner, now)?;
        Ok(room)
    }
}

fn invite_refusal(error: InviteError) -> Refusal {
    match error {
        InviteError::Form => Refusal::bad_request(error.to_string()),
        _ => Refusal::forbidden(error.to_string()),
    }
}

/// A random number for the core, which draws none itself.
pub(crate) fn roll() -> u64 {
    rand::rng().random()
}

/// Ends a poll when its caller goes away in the middle.
struct HeldPoll<'a> {
    coordinator: &'a Coordinator,
    node: &'a str,
    serial: u64,
}

impl Drop for HeldPoll<'_> {
    fn drop(&mut self) {
        self.coordinator.state().end_poll(self.node, self.serial, self.coordinator.now());
    }
}
