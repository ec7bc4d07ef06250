//! Requests and answers over HTTP.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{IceServer, RoomPeer};
use crate::identity::{Can, JoinProof};

/// `GET /nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    pub node_id: String,
    pub network_id: String,
    pub seeds: Vec<String>,
    pub webrtc: Webrtc,
    pub outbound: Vec<Value>,
    pub inbound: Vec<Value>,
    /// Seconds.
    pub uptime: u64,
}

/// `webrtc` of `/nodes`: all keys where a coordinator runs, else `enabled` alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webrtc {
    pub enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stun_servers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_servers: Option<Vec<IceServer>>,
}

/// `GET /webrtc/info`; the last five keys with `?v=1` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub enabled: bool,
    pub node_id: String,
    pub rooms: Vec<String>,
    pub peer_count: usize,
    pub stun_servers: Vec<String>,
    pub turn_servers: Vec<IceServer>,
    pub websocket_url: String,
    pub http_fallback: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `POST /webrtc/join`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    pub node_id: String,
    pub room: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<JoinProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// The answer to a join; `session` and `cursor` for a signed one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    pub success: bool,
    pub room: String,
    pub peers: Vec<RoomPeer>,
    pub ice_servers: Vec<IceServer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
}

/// `POST /webrtc/signal`: what is sent stands in `payload`, or flat beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalRequest {
    pub from: String,
    pub to: String,
    pub room: String,
    /// `offer`, `answer`, `ice-candidate` or `message`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_sig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
}

/// What a signal carries: one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The answer to a signal; `queued` is false when it was pushed over a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalAnswer {
    pub success: bool,
    pub queued: bool,
}

/// `GET /webrtc/signal`; `cursor` where the request had one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PollAnswer {
    pub signals: Vec<Signal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
}

/// A polled signal, or with a cursor a presence change (`peer-joined`: `peer`; `peer-left`:
/// `peerId`) or broadcast.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Newcomer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_sig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
}

/// Who came, in a `peer-joined`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Newcomer {
    pub node_id: String,
    pub metadata: Value,
}

/// `POST /webrtc/leave`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaveRequest {
    pub node_id: String,
    pub room: String,
}

/// The answer to a leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveAnswer {
    pub success: bool,
}

/// `GET /webrtc/peers?room`; `next` where the request had `limit` and more follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeersAnswer {
    pub room: String,
    pub peers: Vec<PeerEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Somebody in a room, as `/webrtc/peers` says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerEntry {
    pub node_id: String,
    pub name: String,
    pub online: bool,
    /// Unix ms.
    pub last_seen: u64,
    pub metadata: Value,
}

/// `POST /webrtc/auth`: a signed join of no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthRequest {
    pub node_id: String,
    #[serde(flatten)]
    pub proof: JoinProof,
}

/// The answer to it. `expiresAt` (Unix ms) moves on with each use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthAnswer {
    pub success: bool,
    pub session: String,
    pub expires_at: u64,
}

/// `POST /webrtc/rooms`: makes a private room, in the owner's session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomRequest {
    pub node_id: String,
    pub salt: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ban: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers_max: Option<usize>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomAnswer {
    pub success: bool,
    pub room: String,
}

/// `POST /webrtc/invite`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRequest {
    pub invite: String,
}

/// What an invite lets whom do, and a short code that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InviteAnswer {
    pub success: bool,
    pub room: String,
    pub to: String,
    pub can: Vec<Can>,
    pub expires_at: u64,
    pub code: String,
}

/// `GET /webrtc/health`: `ok`, or `draining`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: String,
}
