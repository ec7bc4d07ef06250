//! Messages over the WebSocket, each a JSON object with a `type`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Code, IceServer, Newcomer, RoomPeer};
use crate::identity::JoinProof;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientMessage {
    Join(SocketJoin),
    #[serde(rename_all = "camelCase")]
    Leave {
        room: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_id: Option<String>,
    },
    Offer(Described),
    Answer(Described),
    IceCandidate {
        to: String,
        room: String,
        candidate: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
    },
    Ping {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<u64>,
    },
    Hello(Hello),
    Ack {
        cursor: u64,
    },
    /// A signed frame in base64, to one peer.
    Message {
        to: String,
        room: String,
        data: String,
    },
    /// A signed frame in base64, to everybody else in the room.
    Broadcast {
        room: String,
        data: String,
    },
    Batch {
        messages: Vec<ClientMessage>,
    },
}

/// `join` over a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketJoin {
    pub room: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<JoinProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

/// An offer or an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    pub to: String,
    pub room: String,
    pub sdp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_sig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
}

/// The message that asks for extensions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub v: u64,
    #[serde(default)]
    pub caps: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<JoinProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Where a lost connection is taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub session: String,
    pub cursor: u64,
}

/// Where and when a message was: `seq` with cap `resume`, `timestamp` in Unix ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    PeerJoined {
        room: String,
        peer: Newcomer,
        #[serde(flatten)]
        place: Place,
    },
    #[serde(rename_all = "camelCase")]
    PeerLeft {
        room: String,
        peer_id: String,
        #[serde(flatten)]
        place: Place,
    },
    Offer(Offered),
    Answer(Offered),
    IceCandidate {
        from: String,
        room: String,
        candidate: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        #[serde(flatten)]
        place: Place,
    },
    Message {
        from: String,
        room: String,
        data: String,
        #[serde(flatten)]
        place: Place,
    },
    Broadcast {
        room: String,
        from: String,
        data: String,
        #[serde(flatten)]
        place: Place,
    },
    #[serde(rename_all = "camelCase")]
    Error {
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// With `payment_required`: the stream's terms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Value>,
    },
    Pong {},
    Welcome(Welcome),
    #[serde(rename_all = "camelCase")]
    Joined {
        room: String,
        peers: Vec<RoomPeer>,
        ice_servers: Vec<IceServer>,
    },
    Left {
        room: String,
    },
    Batch {
        messages: Vec<ServerMessage>,
    },
}

/// An offer or an answer as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    pub from: String,
    pub room: String,
    pub sdp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_sig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
    #[serde(flatten)]
    pub place: Place,
}

/// The answer to `hello`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    pub v: u64,
    pub node_id: String,
    pub session: String,
    pub cursor: u64,
    pub caps: Vec<String>,
    pub heartbeat_ms: u64,
    pub stale_ms: u64,
    pub ice_servers: Vec<IceServer>,
    /// Rooms that the node is in already.
    pub resumed: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn client(json: &str) {
        let message: ClientMessage = serde_json::from_str(json).unwrap();
        let again: Value = serde_json::to_value(&message).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(json).unwrap());
    }

    #[track_caller]
    fn server(json: &str) {
        let message: ServerMessage = serde_json::from_str(json).unwrap();
        let again: Value = serde_json::to_value(&message).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(json).unwrap());
    }

    /// R64
    #[test]
    fn a_clients_base_messages_are_read_and_written_key_for_key() {
        client(r#"{"type":"join","room":"global","nodeId":"abc","metadata":{}}"#);
        client(r#"{"type":"leave","room":"global","nodeId":"abc"}"#);
        client(r#"{"type":"offer","to":"peer-1","room":"global","sdp":"..."}"#);
        client(r#"{"type":"answer","to":"peer-1","room":"global","sdp":"..."}"#);
        client(r#"{"type":"ice-candidate","to":"peer-1","room":"global","candidate":{}}"#);
        client(r#"{"type":"ping"}"#);
    }

    /// R65
    #[test]
    fn the_servers_base_messages_are_read_and_written_key_for_key() {
        server(r#"{"type":"peer-joined","room":"global","peer":{"nodeId":"xyz","metadata":{}}}"#);
        server(r#"{"type":"peer-left","room":"global","peerId":"xyz"}"#);
        server(r#"{"type":"offer","from":"peer-1","room":"global","sdp":"..."}"#);
        server(r#"{"type":"answer","from":"peer-1","room":"global","sdp":"..."}"#);
        server(r#"{"type":"ice-candidate","from":"peer-1","room":"global","candidate":{}}"#);
        server(r#"{"type":"error","message":"..."}"#);
        server(r#"{"type":"pong"}"#);
    }

    #[test]
    fn extensions_are_read_and_written_key_for_key() {
        client(
            r#"{"type":"hello","v":1,"caps":["batch"],"nodeId":"a","pk":"p","ts":1,"nonce":"n","sig":"s"}"#,
        );
        client(r#"{"type":"hello","v":1,"caps":[],"resume":{"session":"s","cursor":3}}"#);
        client(
            r#"{"type":"batch","messages":[{"type":"ping","cursor":7},{"type":"ack","cursor":9}]}"#,
        );
        server(
            r#"{"type":"offer","from":"a","room":"r","sdp":"","fpSig":"f","pk":"p","seq":1,"timestamp":2}"#,
        );
        server(r#"{"type":"batch","messages":[{"type":"left","room":"r"},{"type":"pong"}]}"#);
        server(
            r#"{"type":"error","message":"m","code":"rate_limited","ref":4,"retryAfterMs":250}"#,
        );
    }
}
