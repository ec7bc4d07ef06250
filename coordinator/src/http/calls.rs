//! What peers ask: join, signal, poll, leave, and what private rooms need.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::{Asked, answer, refuse, text_of};
use crate::answers::{self, json};
use crate::coordinator::{Coordinator, JoinRequest};
use crate::error::Refusal;
use crate::identity::{hex, is_node_id};
use crate::intake::Said;
use crate::limits::{BANS_MAX, PEERS_PAGE_MAX};
use crate::object::Object;
use crate::options::Mode;
use crate::peers::Delivery;
use crate::room::{RoomKind, kind_of};
use crate::sessions::{Who, network_of};
use crate::signaling::{Draft, Kind};
use crate::state::Page;
use crate::turn::ice_servers;
use crate::wire::{
    AuthAnswer, AuthRequest, Code, InviteAnswer, InviteRequest, LeaveAnswer, RoomAnswer,
    RoomRequest, SignalAnswer,
};

/// Salt of a private room, in bytes.
const SALT_BYTES_MAX: usize = 256;

/// Takes a request apart, reads its body, runs the call on both.
macro_rules! call {
    ($coordinator:ident, $request:ident, $bytes_max:expr, |$asked:ident, $text:ident| $run:expr) => {{
        let (parts, body) = $request.into_parts();
        let call = async {
            let $asked = Asked::new(&$coordinator, &parts)?;
            let $text = text_of(body, $bytes_max).await?;
            $run
        };
        answer(&$coordinator, &parts.headers, call).await
    }};
}

/// `POST /webrtc/join`.
pub async fn handle_join(State(coordinator): State<Coordinator>, request: Request) -> Response {
    // Metadata comes on top of the other keys.
    let limits = &coordinator.options().limits;
    let bytes_max = limits.body_bytes_max + limits.metadata_bytes_max;
    call!(coordinator, request, bytes_max, |asked, text| join(&coordinator, &asked, &text).await)
}

async fn join(coordinator: &Coordinator, asked: &Asked, text: &str) -> Result<String, Refusal> {
    let now = coordinator.now();
    let request = {
        let said = Said::read(text)?;
        let room = said.room()?.to_owned();
        let node_id = said.node_id.as_deref().map(str::to_owned);
        let invite = said.invite.as_deref().map(str::to_owned);
        let metadata = said.metadata(coordinator.options().limits.metadata_bytes_max)?;
        let join = JoinRequest { room, metadata, invite, token: asked.token() };
        (join, node_id, said.proof()?)
    };
    let (join, node_id, proof) = request;
    kind_of(&join.room)?;
    let mut caller = match proof {
        Some(proof) => {
            let node_id =
                node_id.as_deref().ok_or_else(|| Refusal::bad_request("`nodeId` is missing"))?;
            coordinator.signer(node_id, &join.room, &proof, now)?
        }
        None => coordinator.caller(asked.session(), node_id.as_deref(), now)?,
    };
    let room = join.room.clone();
    let peers = coordinator.join_room(&caller, join).await?;
    let session = match (caller.session, caller.key) {
        (Some(session), _) => Some(session),
        (None, Some(_)) => Some(coordinator.open_session(&mut caller, now)?),
        (None, None) => None,
    };
    let node = &*caller.node_id;
    let ice = ice_servers(coordinator.options(), node, now.unix_ms);
    let session = session.map(|session| (hex(&session), coordinator.state().cursor(node)));
    let session = session.as_ref().map(|(session, cursor)| (session.as_str(), *cursor));
    Ok(answers::join(&room, &peers, &ice, session))
}

/// `POST /webrtc/signal`.
pub async fn handle_signal(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let bytes_max = coordinator.options().limits.signal_bytes_max;
    call!(coordinator, request, bytes_max, |asked, text| signal(&coordinator, &asked, &text))
}

fn signal(coordinator: &Coordinator, asked: &Asked, text: &str) -> Result<String, Refusal> {
    let now = coordinator.now();
    let said = Said::read(text)?;
    let options = coordinator.options();
    let kind = said.kind.as_deref().and_then(Kind::of_signal).ok_or_else(|| {
        Refusal::bad_request("`type` must be offer, answer, ice-candidate or message")
    })?;
    let from = said.from.as_deref().or(said.node_id.as_deref());
    let caller = coordinator.caller(asked.session(), from, now)?;
    let extras = said.extras(kind, options.mode)?;
    let draft = Draft {
        kind,
        room: said.room()?,
        from: &caller.node_id,
        body: said.body(kind, &options.limits)?,
        extras: &extras,
        at_ms: now.unix_ms,
    };
    let delivery = coordinator.queue_signal(said.to()?, draft)?;
    Ok(json(&SignalAnswer { success: true, queued: delivery == Delivery::Queued }))
}

/// `GET /webrtc/signal` without an upgrade: a poll.
pub async fn handle_poll(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let call = async {
        let asked = Asked::new(&coordinator, &parts)?;
        poll(&coordinator, &asked).await
    };
    answer(&coordinator, &parts.headers, call).await
}

async fn poll(coordinator: &Coordinator, asked: &Asked) -> Result<String, Refusal> {
    let caller = coordinator.caller(asked.session(), asked.query("nodeId"), coordinator.now())?;
    let poll_ms_max = coordinator.options().limits.poll_ms_max;
    let timeout_ms = asked.number("timeout")?.unwrap_or(poll_ms_max).min(poll_ms_max);
    let cursor = asked.number("cursor")?;
    let room = asked.query("room").filter(|room| !room.is_empty());
    if let Some(room) = room {
        kind_of(room)?;
    }
    let _connection = asked.address.map(|address| Held::new(coordinator, address)).transpose()?;
    let timeout = Duration::from_millis(timeout_ms);
    let entries = coordinator.poll_signals(&caller.node_id, room, cursor, timeout).await?;
    Ok(answers::poll(&entries, cursor))
}

/// An address' connection while a poll is held.
struct Held<'a> {
    coordinator: &'a Coordinator,
    address: std::net::IpAddr,
}

impl<'a> Held<'a> {
    fn new(coordinator: &'a Coordinator, address: std::net::IpAddr) -> Result<Self, Refusal> {
        coordinator.sessions().hold_connection(address)?;
        Ok(Self { coordinator, address })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.coordinator.sessions().close_connection(self.address);
    }
}

/// `POST /webrtc/leave`.
pub async fn handle_leave(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let bytes_max = coordinator.options().limits.body_bytes_max;
    call!(coordinator, request, bytes_max, |asked, text| {
        let said = Said::read(&text)?;
        let claimed = said.node_id.as_deref();
        let caller = coordinator.caller(asked.session(), claimed, coordinator.now())?;
        kind_of(said.room()?)?;
        coordinator.leave_room(&caller.node_id, said.room()?);
        Ok(json(&LeaveAnswer { success: true }))
    })
}

/// `GET /webrtc/peers`.
pub async fn handle_peers(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match Asked::new(&coordinator, &parts) {
        Ok(asked) => {
            let listed = async { peers(&coordinator, &asked) };
            answer(&coordinator, &parts.headers, listed).await
        }
        Err(refusal) => refuse(&coordinator, &parts.headers, &refusal),
    }
}

fn peers(coordinator: &Coordinator, asked: &Asked) -> Result<String, Refusal> {
    let room = asked.query("room").ok_or_else(|| Refusal::bad_request("`room` is missing"))?;
    let open_to_all = kind_of(room)? == RoomKind::Public;
    if !open_to_all || coordinator.options().mode != Mode::Open {
        let now = coordinator.now();
        let caller = coordinator.caller(asked.session(), asked.query("nodeId"), now)?;
        if !open_to_all && !coordinator.state().is_member(&caller.node_id, room) {
            let sentence = "only who is in this room sees who else is; join it first";
            return Err(Refusal::forbidden(sentence));
        }
        coordinator.state().touch(&caller.node_id, now);
    }
    let asked_limit = asked.number("limit")?;
    let limit = asked_limit.map_or(PEERS_PAGE_MAX, |limit| {
        usize::try_from(limit).unwrap_or(PEERS_PAGE_MAX).clamp(1, PEERS_PAGE_MAX)
    });
    // One more than asked for shows whether another page follows.
    let page = Page { after: asked.query("after"), limit: limit + 1 };
    let mut peers = coordinator.room_peers(room, page)?;
    let more = peers.len() > limit;
    peers.truncate(limit);
    let next = peers.last().filter(|_| more && asked_limit.is_some()).map(|peer| peer.node.clone());
    Ok(answers::peers(room, &peers, next.as_deref()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    match serde_json::from_str(text) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

/// `POST /webrtc/auth`.
pub(super) async fn handle_auth(
    State(coordinator): State<Coordinator>,
    request: Request,
) -> Response {
    let bytes_max = coordinator.options().limits.body_bytes_max;
    call!(coordinator, request, bytes_max, |_asked, text| {
        let now = coordinator.now();
        let AuthRequest { node_id, proof } = parse(&text)?;
        let mut caller = coordinator.signer(&node_id, "", &proof, now)?;
        coordinator.take_join(&caller, now)?;
        let session = hex(&coordinator.open_session(&mut caller, now)?);
        let expires_at = now.unix_ms + coordinator.options().limits.session_ms;
        Ok(json(&AuthAnswer { success: true, session, expires_at }))
    })
}

/// `POST /webrtc/rooms`.
pub(super) async fn handle_rooms(
    State(coordinator): State<Coordinator>,
    request: Request,
) -> Response {
    // A ban list of full length comes on top.
    let bytes_max = coordinator.options().limits.body_bytes_max + BANS_MAX * 72;
    call!(coordinator, request, bytes_max, |asked, text| {
        let wanted: RoomRequest = parse(&text)?;
        let now = coordinator.now();
        let caller = coordinator.caller(asked.session(), Some(&wanted.node_id), now)?;
        if wanted.salt.len() > SALT_BYTES_MAX {
            return Err(Refusal::too_large("`salt`", SALT_BYTES_MAX));
        }
        if wanted.ban.len() > BANS_MAX || !wanted.ban.iter().all(|id| is_node_id(id)) {
            let sentence = format!("`ban` must be at most {BANS_MAX} node ids");
            return Err(Refusal::bad_request(sentence));
        }
        if wanted.peers_max == Some(0) {
            let sentence = "`peersMax` must be 1 or more; without it the coordinator's bound holds";
            return Err(Refusal::bad_request(sentence));
        }
        let room = coordinator.make_room(&caller, &wanted.salt, wanted.ban, wanted.peers_max)?;
        Ok(json(&RoomAnswer { success: true, room }))
    })
}

/// `POST /webrtc/invite`.
pub(super) async fn handle_invite(
    State(coordinator): State<Coordinator>,
    request: Request,
) -> Response {
    let bytes_max = coordinator.options().limits.body_bytes_max;
    call!(coordinator, request, bytes_max, |asked, text| {
        let now = coordinator.now();
        let by = match asked.session() {
            Some(session) => Some(Who::Node(coordinator.caller(Some(session), None, now)?.node_id)),
            None if coordinator.options().mode == Mode::Open => {
                asked.address.map(|address| Who::Address(network_of(address)))
            }
            None => {
                let sentence = "sign in at /webrtc/auth, then send the session";
                return Err(Refusal::new(Code::Unauthenticated, sentence));
            }
        };
        let InviteRequest { invite } = parse(&text)?;
        let (checked, _) = coordinator.checked_invite(&invite, now)?;
        let last = checked.last();
        let code = coordinator.code_of(&checked, by, now)?;
        Ok(json(&InviteAnswer {
            success: true,
            room: checked.room().to_owned(),
            to: last.to.clone(),
            can: last.can.clone(),
            expires_at: last.exp,
            code,
        }))
    })
}
