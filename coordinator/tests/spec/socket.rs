//! The WebSocket's messages, verbatim.

use serde_json::json;

use super::{
    options::open,
    world::{Event, World, same_shape, sample},
};

/// What a client sends, as the specification prints it.
const JOIN: &str = r#"{ "type": "join", "room": "global", "nodeId": "abc", "metadata": {} }"#;
const LEAVE: &str = r#"{ "type": "leave", "room": "global", "nodeId": "abc" }"#;
const OFFER: &str = r#"{ "type": "offer", "to": "peer-1", "room": "global", "sdp": "..." }"#;
const ANSWER: &str = r#"{ "type": "answer", "to": "peer-1", "room": "global", "sdp": "..." }"#;
const CANDIDATE: &str =
    r#"{ "type": "ice-candidate", "to": "peer-1", "room": "global", "candidate": {} }"#;
const PING: &str = r#"{ "type": "ping" }"#;

/// What the server sends.
const PEER_JOINED: &str =
    r#"{ "type": "peer-joined", "room": "global", "peer": { "nodeId": "xyz", "metadata": {} } }"#;
const PEER_LEFT: &str = r#"{ "type": "peer-left", "room": "global", "peerId": "xyz" }"#;
const OFFERED: &str = r#"{ "type": "offer", "from": "peer-1", "room": "global", "sdp": "..." }"#;
const ANSWERED: &str = r#"{ "type": "answer", "from": "peer-1", "room": "global", "sdp": "..." }"#;
const CANDIDATES: &str =
    r#"{ "type": "ice-candidate", "from": "peer-1", "room": "global", "candidate": {} }"#;
const ERROR: &str = r#"{ "type": "error", "message": "..." }"#;
const PONG: &str = r#"{ "type": "pong" }"#;

/// R64, R65
#[test]
fn each_message_is_taken_verbatim_and_answered_with_exactly_its_keys() {
    let world = World::of(open());
    let mut peer = world.socket("?nodeId=peer-1&room=global");
    peer.is_quiet();
    let mut abc = world.socket("");
    abc.send(JOIN);
    abc.is_quiet();
    let joined = peer.next();
    same_shape(&joined, &sample(PEER_JOINED));
    assert_eq!(joined["peer"], json!({"nodeId": "abc", "metadata": {}}));
    for (sent, got) in [(OFFER, OFFERED), (ANSWER, ANSWERED), (CANDIDATE, CANDIDATES)] {
        abc.send(sent);
        let mut expected = sample(got);
        expected["from"] = json!("abc");
        assert_eq!(peer.next(), expected, "these keys and no other");
    }
    abc.send(PING);
    assert_eq!(abc.next(), sample(PONG));
    abc.send(LEAVE);
    let left = peer.next();
    same_shape(&left, &sample(PEER_LEFT));
    assert_eq!(left["peerId"], "abc");
    // Outside of the room it may not signal into it.
    abc.send(OFFER);
    same_shape(&abc.next(), &sample(ERROR));
    peer.is_quiet();
}

/// R63
#[test]
fn connecting_alone_joins_the_room_of_the_query() {
    let world = World::of(open());
    let mut first = world.socket("?nodeId=first&room=global");
    first.is_quiet();
    let mut second = world.socket("?nodeId=second&room=global");
    second.is_quiet();
    assert_eq!(first.next()["peer"]["nodeId"], "second");
    let (_, peers) = world.get("/webrtc/peers?room=global");
    assert_eq!(peers["peers"].as_array().unwrap().len(), 2);
    drop(second);
    assert_eq!(
        first.next(),
        json!({"type": "peer-left", "room": "global", "peerId": "second"}),
        "presence follows the connection"
    );
    let _third = world.socket("?nodeId=third&room=global&metadata=%7B%22name%22%3A%22C%22%7D");
    assert_eq!(first.next()["peer"], json!({"nodeId": "third", "metadata": {"name": "C"}}));
    assert_eq!(world.closed("?nodeId=fourth&room=global&metadata=C"), 4400);
}

/// R63
#[test]
fn a_close_that_may_not_be_sent_is_answered_as_the_rfc_says() {
    let world = World::of(open());
    #[track_caller]
    fn check(world: &World, payload: &[u8], want: u16) {
        let mut socket = world.socket("");
        // A close frame, masked with zeros.
        let length = u8::try_from(payload.len()).unwrap();
        socket.raw(&[&[0x88, 0x80 | length, 0, 0, 0, 0], payload].concat()).unwrap();
        match socket.event() {
            Event::Closed(code, _) => assert_eq!(code, want, "{payload:?}"),
            Event::Message(said) => panic!("{said}"),
        }
    }
    check(&world, &[], 1000);
    check(&world, b"\x03\xe8bye", 1000);
    check(&world, &[3], 1002);
    for code in [999_u16, 1005, 1006, 1015, 5000] {
        check(&world, &code.to_be_bytes(), 1002);
    }
    check(&world, b"\x03\xe8\xff", 1007);
}

/// R59, R66
#[test]
fn one_that_polls_and_one_on_a_socket_reach_each_other() {
    let world = World::of(open());
    let mut peer = world.socket("?nodeId=b&room=global");
    let join = json!({"nodeId": "a", "room": "global", "metadata": {"name": "A"}});
    let joined = world.done("/webrtc/join", &join);
    assert_eq!(joined["peers"][0]["nodeId"], "b");
    assert_eq!(peer.next()["peer"], json!({"nodeId": "a", "metadata": {"name": "A"}}));
    let send = |kind: &str, payload| {
        let body =
            json!({"from": "a", "to": "b", "room": "global", "type": kind, "payload": payload});
        let answer = world.done("/webrtc/signal", &body);
        assert_eq!(answer, json!({"success": true, "queued": false}), "it was pushed");
    };
    send("offer", json!({"sdp": "from a"}));
    let offer = json!({"type": "offer", "from": "a", "room": "global", "sdp": "from a"});
    assert_eq!(peer.next(), offer, "payload becomes flat");
    peer.send(r#"{"type": "answer", "to": "a", "room": "global", "sdp": "from b"}"#);
    let poll = || world.get("/webrtc/signal?nodeId=a&room=global&timeout=20000").1;
    let answer = poll();
    assert_eq!(answer["signals"][0]["payload"], json!({"sdp": "from b"}), "flat becomes payload");
    send("ice-candidate", json!({"candidate": {"candidate": "of a"}}));
    assert_eq!(peer.next()["candidate"], json!({"candidate": "of a"}));
    peer.send(
        r#"{"type": "ice-candidate", "to": "a", "room": "global", "candidate": {"candidate": "of b"}}"#,
    );
    assert_eq!(poll()["signals"][0]["payload"]["candidate"]["candidate"], "of b");
}

/// R65
#[test]
fn a_client_that_asked_for_nothing_sees_no_key_beyond_the_specification() {
    let world = World::of(open());
    let mut plain = world.socket("?nodeId=plain&room=global");
    plain.is_quiet();
    let mut rich = world.try_socket("", Some("sutantra.signal.v1")).unwrap();
    let hello = json!({"type": "hello", "v": 1, "caps": ["resume", "batch"], "nodeId": "rich"});
    rich.send(&hello.to_string());
    let welcome = rich.next_of("welcome");
    assert_eq!(welcome["nodeId"], "rich");
    rich.send(r#"{"type": "join", "room": "global", "metadata": {}}"#);
    let joined = rich.next_of("joined");
    assert_eq!(joined["peers"][0]["nodeId"], "plain");
    same_shape(&plain.next(), &sample(PEER_JOINED));
    let offer = json!({
        "type": "offer", "to": "plain", "room": "global", "sdp": "x", "sid": "s1", "id": 7
    });
    rich.send(&offer.to_string());
    assert_eq!(
        plain.next(),
        json!({"type": "offer", "from": "rich", "room": "global", "sdp": "x"})
    );
    // The other way round the one that said hello has its extensions.
    plain.send(r#"{"type": "answer", "to": "rich", "room": "global", "sdp": "y"}"#);
    let answer = rich.next_of("answer");
    assert!(answer["seq"].is_u64() && answer["timestamp"].is_u64(), "{answer}");
    plain.send(r#"{"type": "nonsense", "id": 1}"#);
    let error = plain.next();
    same_shape(&error, &sample(ERROR));
    rich.send(r#"{"type": "nonsense", "id": "r1"}"#);
    let error = rich.next_of("error");
    assert_eq!((&error["code"], &error["ref"]), (&json!("bad_request"), &json!("r1")));
    plain.is_quiet();
}

/// R64
#[test]
fn a_message_that_is_none_is_an_error_and_the_connection_stays() {
    let world = World::of(open());
    let mut abc = world.socket("?nodeId=abc&room=global");
    for text in [
        "",
        "nothing",
        "[]",
        "{}",
        r#"{"type": 1}"#,
        r#"{"type": "hug"}"#,
        r#"{"type": "offer"}"#,
        r#"{"type": "offer", "to": "x", "room": "global"}"#,
        r#"{"type": "join", "room": "UPPER", "nodeId": "abc"}"#,
    ] {
        abc.send(text);
        match abc.event() {
            Event::Message(error) => same_shape(&error, &sample(ERROR)),
            Event::Closed(code, reason) => panic!("{text}: closed with {code} {reason}"),
        }
    }
    abc.is_quiet();
}
