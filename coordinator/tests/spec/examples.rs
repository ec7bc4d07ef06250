//! The specification's data flows, step by step, at the level of its protocol; what travels inside
//! the data channels is the clients' own and tried with them.

use serde_json::{Value, json};

use super::{
    options::{open, with_seed},
    world::{Socket, World},
};

/// R85
#[test]
fn example_1_a_node_joins_the_network() {
    let world = World::of(with_seed());
    let mut one = world.socket("?nodeId=existing-peer-1&room=global");
    one.is_quiet();
    let mut two = world.socket("?nodeId=existing-peer-2&room=global");
    two.is_quiet();
    assert_eq!(one.next()["peer"]["nodeId"], "existing-peer-2");

    // 1. The node starts with --seed: all that it knows is this address.
    let seed = format!("http://{}", world.at);
    // 2. → GET {seed}/nodes
    let (status, nodes) = world.get("/nodes");
    assert_eq!(status, 200);
    // 3. The server returns { webrtc: { coordinatorUrl, … } }
    let url = nodes["webrtc"]["coordinatorUrl"].as_str().unwrap().to_owned();
    assert_eq!((&nodes["webrtc"]["enabled"], &url), (&json!(true), &format!("{seed}/webrtc")));
    assert_eq!(nodes["networkId"], "connected");
    let coordinator = url.strip_prefix(&seed).unwrap();
    // 4. → POST {coordinatorUrl}/join { room: "global" }
    let join = json!({"nodeId": "cli-node", "room": "global", "metadata": {"name": "CLI"}});
    let joined = world.done(&format!("{coordinator}/join"), &join);
    // 5. The server returns the peers.
    let mut peers: Vec<_> = joined["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer["nodeId"].as_str().unwrap().to_owned())
        .collect();
    peers.sort();
    assert_eq!(peers, ["existing-peer-1", "existing-peer-2"]);
    // 6. An RTCPeerConnection for each of them: these servers are what it is made with.
    assert_eq!(joined["iceServers"], json!([{"urls": "stun:stun.l.google.com:19302"}]));
    for (socket, name) in [(&mut one, "1"), (&mut two, "2")] {
        let seen = socket.next();
        assert_eq!(seen["type"], "peer-joined", "{name}: {seen}");
        assert_eq!(seen["peer"], json!({"nodeId": "cli-node", "metadata": {"name": "CLI"}}));
    }
    for (socket, peer) in [(&mut one, "existing-peer-1"), (&mut two, "existing-peer-2")] {
        // 7. → POST /webrtc/signal { type: "offer", to }
        let offer = json!({
            "from": "cli-node", "to": peer, "room": "global", "type": "offer",
            "sdp": format!("offer to {peer}"),
        });
        let answer = world.done(&format!("{coordinator}/signal"), &offer);
        assert_eq!(answer, json!({"success": true, "queued": false}));
        // 8. It receives the offer via WebSocket.
        let expected = json!({
            "type": "offer", "from": "cli-node", "room": "global",
            "sdp": format!("offer to {peer}"),
        });
        assert_eq!(socket.next(), expected);
        // 9. → WS: { type: "answer", to: "cli-node", sdp }
        let back = json!({
            "type": "answer", "to": "cli-node", "room": "global",
            "sdp": format!("answer of {peer}"),
        });
        socket.send(&back.to_string());
        // 10. The node receives the answer; ICE negotiation completes, candidates go both ways.
        let poll = format!("{coordinator}/signal?nodeId=cli-node&room=global&timeout=20000");
        let (_, got) = world.get(&poll);
        let signal = &got["signals"][0];
        assert_eq!((&signal["from"], &signal["type"]), (&json!(peer), &json!("answer")));
        assert_eq!(signal["payload"], json!({"sdp": format!("answer of {peer}")}));
        let of_node = json!({
            "from": "cli-node", "to": peer, "room": "global", "type": "ice-candidate",
            "candidate": {"candidate": "of the node"},
        });
        world.done(&format!("{coordinator}/signal"), &of_node);
        assert_eq!(socket.next()["candidate"], json!({"candidate": "of the node"}));
        let of_peer = json!({
            "type": "ice-candidate", "to": "cli-node", "room": "global",
            "candidate": {"candidate": peer},
        });
        socket.send(&of_peer.to_string());
        let (_, got) = world.get(&poll);
        assert_eq!(got["signals"][0]["payload"], json!({"candidate": {"candidate": peer}}));
    }
    // 11. The data channel opens, and needs nothing of the coordinator: nobody was told a word more.
    one.is_quiet();
    two.is_quiet();
}

/// A node of the second example: its socket, and the traces that it holds.
struct Node {
    id: &'static str,
    socket: Socket,
    traces: Vec<Value>,
}

impl Node {
    fn join(world: &World, id: &'static str) -> Self {
        let mut socket = world.try_socket("", Some("sutantra.signal.v1")).unwrap();
        let hello = json!({"type": "hello", "v": 1, "caps": [], "nodeId": id});
        socket.send(&hello.to_string());
        assert_eq!(socket.next_of("welcome")["nodeId"], id);
        socket.send(r#"{"type": "join", "room": "memory-sync", "metadata": {}}"#);
        assert_eq!(socket.next_of("joined")["room"], "memory-sync");
        Self { id, socket, traces: Vec::new() }
    }

    fn broadcast(&mut self, content: &Value) {
        let data = base64(content.to_string().as_bytes());
        let message = json!({"type": "broadcast", "room": "memory-sync", "data": data});
        self.socket.send(&message.to_string());
    }

    /// A broadcast of `from`, opened.
    #[track_caller]
    fn hears(&mut self, from: &str) -> Value {
        let seen = self.socket.next_of("broadcast");
        assert_eq!((&seen["from"], &seen["room"]), (&json!(from), &json!("memory-sync")));
        serde_json::from_slice(&unbase64(seen["data"].as_str().unwrap())).unwrap()
    }
}

/// R86, R116
///
/// Without data channels here: the same messages as the room's broadcasts, which is how nodes whose
/// channels are not open yet get them.
#[test]
fn example_2_memories_are_proposed_voted_on_and_held_by_all() {
    let world = World::of(open());
    let mut nodes = ["node-a", "node-b", "node-c"].map(|id| Node::join(&world, id));
    // 1. Node A stores a new thought trace.
    let trace = json!({"trace": "t1", "content": "water is wet"});
    nodes[0].traces.push(trace.clone());
    // 2. It creates a proposal and broadcasts it; 3. to every connected peer.
    nodes[0].broadcast(&json!({"kind": "proposal", "trace": trace}));
    // 4. B and C receive the proposal, A does not hear itself.
    for node in &mut nodes[1..] {
        let proposal = node.hears("node-a");
        assert_eq!(proposal, json!({"kind": "proposal", "trace": trace}));
        // 5. They vote.
        let vote = json!({"kind": "vote", "trace": "t1", "by": node.id, "accept": true});
        node.broadcast(&vote);
    }
    let mut voters = Vec::new();
    for expected in ["node-b", "node-c"] {
        let seen = nodes[0].socket.next_of("broadcast");
        let vote: Value =
            serde_json::from_slice(&unbase64(seen["data"].as_str().unwrap())).unwrap();
        assert_eq!((&vote["kind"], &vote["accept"]), (&json!("vote"), &json!(true)), "{expected}");
        assert_eq!(vote["by"], seen["from"], "the coordinator says whose it is");
        voters.push(vote["by"].as_str().unwrap().to_owned());
    }
    voters.sort();
    assert_eq!(voters, ["node-b", "node-c"], "a quorum, each once");
    nodes[0].broadcast(&json!({"kind": "accepted", "trace": trace}));
    // 6. Every node's memory has it.
    for node in &mut nodes[1..] {
        let accepted = loop {
            let message = node.socket.next_of("broadcast");
            let content: Value =
                serde_json::from_slice(&unbase64(message["data"].as_str().unwrap())).unwrap();
            if content["kind"] == "accepted" {
                break content;
            }
        };
        node.traces.push(accepted["trace"].clone());
    }
    assert!(nodes.iter().all(|node| node.traces == [trace.clone()]));
    for node in &mut nodes {
        node.socket.is_quiet();
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let byte = |at: usize| u32::from(piece.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            let is_there = at <= piece.len();
            text.push(if is_there { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits {
        let value = ALPHABET.iter().position(|known| *known == digit).expect("base64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    bytes
}
