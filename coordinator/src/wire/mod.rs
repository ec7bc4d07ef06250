//! The protocol's messages as types, for clients, tests and the coordinator's cold paths.
//!
//! Shapes and meaning: `docs/coordinator.md`. The coordinator itself reads signals without these,
//! because it never looks into an SDP.

mod http;
mod socket;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use http::*;
pub use socket::*;

/// The WebSocket subprotocol that asks for extensions.
pub const SUBPROTOCOL: &str = "sutantra.signal.v1";

/// A server for ICE as `RTCPeerConnection` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    pub urls: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Somebody in a room, as the answers to a join say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomPeer {
    pub node_id: String,
    /// `metadata.name`, else the id.
    pub name: String,
    /// Unix ms.
    pub joined_at: u64,
    /// Over a WebSocket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// Why something was refused, in the protocol's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    Unauthenticated,
    PaymentRequired,
    Forbidden,
    UnknownRoom,
    UnknownPeer,
    /// No such path; HTTP only.
    NotFound,
    IdTaken,
    TooLarge,
    RoomFull,
    RateLimited,
    Internal,
    Draining,
}

impl Code {
    pub const ALL: [Self; 13] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::UnknownRoom,
        Self::UnknownPeer,
        Self::NotFound,
        Self::IdTaken,
        Self::TooLarge,
        Self::RoomFull,
        Self::RateLimited,
        Self::Internal,
        Self::Draining,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::PaymentRequired => "payment_required",
            Self::Forbidden => "forbidden",
            Self::UnknownRoom => "unknown_room",
            Self::UnknownPeer => "unknown_peer",
            Self::NotFound => "not_found",
            Self::IdTaken => "id_taken",
            Self::TooLarge => "too_large",
            Self::RoomFull => "room_full",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Draining => "draining",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::PaymentRequired => 402,
            Self::Forbidden => 403,
            Self::UnknownRoom | Self::UnknownPeer | Self::NotFound => 404,
            Self::IdTaken => 409,
            Self::TooLarge => 413,
            Self::RoomFull => 423,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Draining => 503,
        }
    }
}

/// Numbers with which the coordinator closes a WebSocket.
pub mod close {
    pub const BAD_REQUEST: u16 = 4400;
    pub const UNAUTHENTICATED: u16 = 4401;
    pub const PAYMENT_REQUIRED: u16 = 4402;
    pub const FORBIDDEN: u16 = 4403;
    pub const HEARTBEAT: u16 = 4408;
    pub const REPLACED: u16 = 4409;
    pub const TOO_LARGE: u16 = 4413;
    pub const RATE_LIMITED: u16 = 4429;
    pub const DRAINING: u16 = 4503;
}

/// The body of a refusal over HTTP; over a WebSocket the same keys are [`ServerMessage::Error`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub code: Code,
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `payment_required`: the stream's terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_it_is_named() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..=503).contains(&code.status()));
        }
    }
}
