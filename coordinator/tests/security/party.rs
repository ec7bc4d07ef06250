//! Nodes with keys, and a pair of them that only wants to be left in peace.

use coordinator::identity::{JoinProof, NodeKey};
use serde_json::{Value, json};

use super::{
    options::NETWORK,
    world::{Event, Socket, World, now_ms, unique},
};

/// A node with a key.
pub struct Node {
    pub key: NodeKey,
    pub id: String,
}

impl Node {
    /// One that no other test has.
    pub fn new() -> Self {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&unique().to_be_bytes());
        let key = NodeKey::from_seed(seed);
        Self { id: key.node_id(), key }
    }

    /// A fresh proof for `room`.
    pub fn proof(&self, room: &str) -> JoinProof {
        let mut nonce = [9; 16];
        nonce[..8].copy_from_slice(&unique().to_be_bytes());
        self.key.prove_join(NETWORK, room, now_ms(), nonce)
    }

    /// The body of a signed join.
    pub fn join(&self, room: &str) -> Value {
        with_proof(&self.id, room, &self.proof(room))
    }

    /// Joins over HTTP; the session's secret.
    #[track_caller]
    pub fn joined(&self, world: &World, room: &str) -> String {
        let answer = world.done("/webrtc/join", &self.join(room));
        answer["session"].as_str().unwrap().to_owned()
    }

    /// The query of a signed connection.
    pub fn query(&self, room: &str) -> String {
        let JoinProof { pk, ts, nonce, sig } = self.proof(room);
        format!("?nodeId={}&room={room}&pk={pk}&ts={ts}&nonce={nonce}&sig={sig}", self.id)
    }

    /// A connection that has joined `room`.
    #[track_caller]
    pub fn socket(&self, world: &World, room: &str) -> Socket {
        let mut socket = world.socket(&self.query(room));
        socket.is_quiet();
        socket
    }
}

/// The body of a join with this proof.
pub fn with_proof(id: &str, room: &str, proof: &JoinProof) -> Value {
    let mut body = json!({"nodeId": id, "room": room, "metadata": {}});
    let proof = serde_json::to_value(proof).unwrap();
    body.as_object_mut().unwrap().extend(proof.as_object().unwrap().clone());
    body
}

/// `POST` in a session.
#[track_caller]
pub fn post_as(world: &World, session: &str, path: &str, body: &Value) -> (u16, Value) {
    let bearer = format!("authorization: Bearer {session}");
    let body = body.to_string();
    let more = ["-H", "content-type: application/json", "-H", &bearer, "--data-binary", &body];
    world.curl(path, &more).answer()
}

/// `GET` in a session.
#[track_caller]
pub fn get_as(world: &World, session: &str, path: &str) -> (u16, Value) {
    let bearer = format!("authorization: Bearer {session}");
    world.curl(path, &["-H", &bearer]).answer()
}

/// An answer is this refusal, with a sentence.
#[track_caller]
pub fn refused((status, answer): (u16, Value), expected: u16, code: &str) {
    assert_eq!((status, answer["code"].as_str()), (expected, Some(code)), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.len() > 10), "{answer}");
}

/// Two nodes that signal to each other; whatever happens around them, they can.
pub struct Pair {
    one: (String, Socket),
    two: (String, Socket),
    room: String,
    turns: u64,
}

impl Pair {
    #[track_caller]
    pub fn join(world: &World) -> Self {
        let room = format!("pair-{}", unique());
        let (one, two) = (Node::new(), Node::new());
        let mut first = one.socket(world, &room);
        let second = two.socket(world, &room);
        assert_eq!(first.next()["peer"]["nodeId"], two.id);
        Self { one: (one.id, first), two: (two.id, second), room, turns: 0 }
    }

    /// An offer there and an answer back, whole and in order.
    #[track_caller]
    pub fn exchange(&mut self) {
        self.turns += 1;
        let (sdp, room) = (format!("sdp {}", self.turns), &self.room);
        let offer = json!({"type": "offer", "to": self.two.0, "room": room, "sdp": sdp});
        self.one.1.send(&offer.to_string());
        let seen = match self.two.1.event() {
            Event::Message(seen) => seen,
            // What the sender was told says why.
            closed => panic!("turn {}: {closed:?}, {:?}", self.turns, self.one.1.event()),
        };
        assert_eq!(seen, json!({"type": "offer", "from": self.one.0, "room": room, "sdp": sdp}));
        let answer = json!({"type": "answer", "to": self.one.0, "room": room, "sdp": sdp});
        self.two.1.send(&answer.to_string());
        let seen = self.one.1.next();
        assert_eq!((&seen["from"], &seen["sdp"]), (&json!(self.two.0), &json!(sdp)));
    }
}
