//! Too much, too slow, too big: refused, and others are served meanwhile.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use coordinator::{Options, Rate};
use serde_json::{Value, json};

use super::{
    options::{self, NETWORK, signed},
    party::{Node, Pair, post_as, refused},
    world::{Event, PATIENCE, World},
};

/// Everybody may come; who signs does it for this network.
fn open() -> Options {
    Options { network_id: Some(NETWORK.to_owned()), ..options::open() }
}

/// R92
#[test]
fn a_slow_loris_holds_no_place_for_ever() {
    let mut options = signed();
    options.limits.nameless_ms = 500;
    // The pair is not silent for so long, on however slow a machine.
    options.limits.stale_ms = 120_000;
    options.limits.address_connections_max = 40;
    let world = World::of(options);
    // Connections that never say a word, as many as the address may have.
    let mut silent: Vec<_> = (0..40).filter_map(|_| world.try_socket("", None).ok()).collect();
    assert_eq!(silent.len(), 40);
    assert_eq!(world.try_socket("", None).err(), Some(429), "one too many");
    for socket in &mut silent {
        let begun = Instant::now();
        match socket.event() {
            Event::Closed(4408, _) => assert!(begun.elapsed() < PATIENCE),
            other => panic!("{other:?}"),
        }
    }
    drop(silent);
    // There is room again. The connections' ends are noticed by the server in its own time.
    let deadline = Instant::now() + PATIENCE;
    let mut pair = loop {
        match world.try_socket("", None) {
            Ok(_) => break Pair::join(&world),
            Err(status) => assert!(status == 429 && Instant::now() < deadline, "{status}"),
        }
    };
    // Requests whose bodies come by the byte: nobody waits for them, and each is refused in time.
    let mut dribbling: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(world.at).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = "POST /webrtc/join HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                        content-length: 1000\r\n\r\n{";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..5 {
        for stream in &mut dribbling {
            let _ = stream.write_all(b" ");
        }
        pair.exchange();
    }
    for stream in &mut dribbling {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 400");
    }
    pair.exchange();
}

/// R98
#[test]
fn a_member_that_falls_silent_is_gone_and_the_others_hear_of_it() {
    let mut options = open();
    options.limits.heartbeat_ms = 400;
    // Far longer than the pause between two pings, on however slow a machine.
    options.limits.stale_ms = 10_000;
    let world = World::of(options);
    let mut there = world.socket("?nodeId=there&room=global");
    let mut silent = world.socket("?nodeId=silent&room=global");
    there.0.get_ref().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match there.0.read() {
            Ok(message) => {
                let seen: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                if seen["type"] == "peer-left" {
                    assert_eq!(seen["peerId"], "silent");
                    break;
                }
            }
            // This one shows that it is there.
            Err(_) => there.send(r#"{"type": "ping"}"#),
        }
        assert!(Instant::now() < deadline, "nobody says that the other is gone");
    }
    there.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    match silent.event() {
        Event::Closed(4408, _) => {}
        other => panic!("{other:?}"),
    }
    there.send(r#"{"type": "leave", "room": "global"}"#);
    there.send(r#"{"type": "none"}"#);
    assert!(there.next_of("error")["message"].is_string(), "its connection goes on");
}

/// R92
#[test]
fn what_is_too_large_is_refused_by_name() {
    let world = World::of(signed());
    let mut pair = Pair::join(&world);
    let node = Node::new();
    let mut body = node.join("global");
    body["metadata"] = json!({"name": "x".repeat(4 << 10)});
    refused(world.post("/webrtc/join", &body.to_string()), 413, "too_large");
    body["metadata"] = json!({"name": "x".repeat(9 << 10)});
    refused(world.post("/webrtc/join", &body.to_string()), 413, "too_large");
    let session = node.joined(&world, "global");
    let other = Node::new();
    let mut others = other.socket(&world, "global");
    let signal = |bytes: usize| {
        json!({
            "from": node.id, "to": other.id, "room": "global", "type": "offer",
            "sdp": "x".repeat(bytes),
        })
    };
    refused(post_as(&world, &session, "/webrtc/signal", &signal(65 << 10)), 413, "too_large");
    assert_eq!(post_as(&world, &session, "/webrtc/signal", &signal(60 << 10)).0, 200);
    assert_eq!(others.next()["sdp"].as_str().unwrap().len(), 60 << 10);
    // Over a socket: the connection ends with its code, for this one only.
    let mut eves = Node::new().socket(&world, "learning");
    let long =
        json!({"type": "offer", "to": other.id, "room": "global", "sdp": "x".repeat(65 << 10)});
    eves.send(&long.to_string());
    loop {
        match eves.event() {
            Event::Message(error) => assert_eq!(error["type"], "error"),
            Event::Closed(4413, _) => break,
            Event::Closed(code, reason) => panic!("{code} {reason}"),
        }
    }
    // A header that promises the moon.
    let mut liar = Node::new().socket(&world, "learning");
    let mut frame = vec![0x81, 0xff];
    frame.extend(u64::MAX.to_be_bytes());
    frame.extend([0; 4]);
    liar.raw(&frame).unwrap();
    match liar.event() {
        Event::Closed(4413 | 1002 | 1009 | 1006 | 4400, _) => {}
        other => panic!("{other:?}"),
    }
    others.is_quiet();
    pair.exchange();
}

/// R92
#[test]
fn a_body_that_would_inflate_without_end_is_not_inflated() {
    let world = World::of(open());
    let mut pair = Pair::join(&world);
    // 64 MiB of spaces, of which a beginning will do: each byte becomes more than 150.
    let bomb = deflated(64 << 20);
    assert!(bomb.len() < (64 << 20) / 150, "{}", bomb.len());
    // As a request's body.
    for encoding in ["gzip", "deflate"] {
        let mut stream = TcpStream::connect(world.at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /webrtc/join HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-encoding: {encoding}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            4096
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&bomb[..4096]);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 4"), "{encoding}: {answer}");
    }
    // As a message of a connection that agreed on compression (RFC 7692).
    let mut stream = TcpStream::connect(world.at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "GET /webrtc/signal?nodeId=bomber&room=global HTTP/1.1\r\nhost: a\r\n\
                connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                sec-websocket-extensions: permessage-deflate\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    // FIN, RSV1, text; masked with zeros.
    let piece = &bomb[..60_000];
    let mut frame = vec![0xc1, 0x80 | 126];
    frame.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(piece);
    stream.write_all(&frame).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let close = close_code(&rest);
    assert!(
        matches!(close, Some(4413 | 4400 | 1002 | 1009 | 1007)),
        "refused, whatever was agreed: {close:?} of {rest:?}"
    );
    pair.exchange();
}

/// The code of the close frame among unmasked frames.
fn close_code(mut bytes: &[u8]) -> Option<u16> {
    while let [head, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => return None,
            len => (usize::from(*len), rest),
        };
        if head & 0x0f == 8 {
            return Some(u16::from_be_bytes([rest[0], rest[1]]));
        }
        bytes = rest.get(len..)?;
    }
    None
}

/// `len` spaces as raw deflate (RFC 1951), by hand: one fixed block of matches of 258 bytes.
fn deflated(len: usize) -> Vec<u8> {
    let (mut bytes, mut hold, mut held) = (Vec::new(), 0_u64, 0_u32);
    let mut put = |value: u64, bits: u32| {
        hold |= value << held;
        held += bits;
        while held >= 8 {
            bytes.push((hold & 255) as u8);
            hold >>= 8;
            held -= 8;
        }
    };
    let reversed = |value: u64, bits: u32| value.reverse_bits() >> (64 - bits);
    put(1, 1); // The last block,
    put(1, 2); // of the fixed codes.
    put(reversed(0x30 + 0x20, 8), 8); // A space,
    for _ in 0..len / 258 {
        put(reversed(0b1100_0101, 8), 8); // then 258 bytes
        put(0, 5); // from one byte before.
    }
    put(0, 7); // The end.
    put(0, 7);
    bytes
}

/// R92, R93
#[test]
fn who_signals_too_often_is_told_when_to_come_back_and_others_are_not_slowed() {
    let mut options = signed();
    options.limits.signals = Rate { per_minute: 1, burst: 5 };
    options.limits.joins = Rate { per_minute: 1, burst: 3 };
    let world = World::of(options);
    let (alice, bob) = (Node::new(), Node::new());
    let session = alice.joined(&world, "global");
    let mut bobs = bob.socket(&world, "global");
    let signal = json!({
        "from": alice.id, "to": bob.id, "room": "global", "type": "offer", "sdp": "x"
    });
    let mut refusals = Vec::new();
    for _ in 0..12 {
        let (status, answer) = post_as(&world, &session, "/webrtc/signal", &signal);
        match status {
            200 => drop(bobs.next_of("offer")),
            429 => {
                assert_eq!(answer["code"], "rate_limited");
                refusals.push(answer["retryAfterMs"].as_u64().unwrap());
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(refusals.len() >= 3, "{refusals:?}");
    assert!(refusals.iter().all(|wait| *wait <= 30_000), "{refusals:?}");
    // Another node has its own measure.
    let mut pair = Pair::join(&world);
    pair.exchange();
    // And joins have theirs.
    let eve = Node::new();
    let statuses: Vec<u16> = (0..6)
        .map(|turn| world.post("/webrtc/join", &eve.join(&format!("room-{turn}")).to_string()).0)
        .collect();
    assert_eq!(&statuses[..3], [200, 200, 200]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
    pair.exchange();
}

/// R92
#[test]
fn a_hundred_thousand_junk_messages_are_refused_and_a_pair_signals_meanwhile() {
    const JUNK: usize = 100_000;
    const CONNECTIONS: usize = 4;
    // By default a connection that talks so much is closed; here it may go on, to the last message.
    let mut options = open();
    options.limits.socket_messages = Rate { per_minute: 60_000_000, burst: 1_000_000 };
    let world = World::of(options);
    let mut pair = Pair::join(&world);
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|turn| {
            let mut socket = world.socket(&format!("?nodeId=junk-{turn}&room=junk-{turn}"));
            std::thread::spawn(move || {
                let texts = [
                    "{",
                    "\u{0}",
                    "[[[[",
                    r#"{"type":"hug"}"#,
                    r#"{"type":"offer","to":{}}"#,
                    r#"{"type":"join","room":"../../etc"}"#,
                    r#"{"type":"batch","messages":[{}]}"#,
                    "true",
                    r#"{"type":"ice-candidate","to":"nobody","room":"global"}"#,
                    "9e999",
                ];
                let mut refusals = 0;
                for sent in 1..=JUNK / CONNECTIONS {
                    if socket.0.send(tungstenite::Message::text(texts[sent % texts.len()])).is_err()
                    {
                        return (sent, refusals, None);
                    }
                    // Its answers are read, so that nothing but the junk is held against it.
                    if sent % 50 == 0 {
                        for _ in 0..50 {
                            match socket.event() {
                                Event::Message(error) => {
                                    assert_eq!(error["type"], "error", "{error}");
                                    refusals += 1;
                                }
                                Event::Closed(code, _) => return (sent, refusals, Some(code)),
                            }
                        }
                    }
                }
                (JUNK / CONNECTIONS, refusals, None)
            })
        })
        .collect();
    let mut turns = 0;
    while senders.iter().any(|sender| !sender.is_finished()) {
        pair.exchange();
        turns += 1;
    }
    assert!(turns > 0);
    for sender in senders {
        let (sent, refusals, close) = sender.join().unwrap();
        assert_eq!((sent, close), (JUNK / CONNECTIONS, None), "each was answered");
        assert_eq!(refusals, sent);
    }
    pair.exchange();
    assert_eq!(world.get("/webrtc/health").0, 200);
}

/// R92
#[test]
fn a_connection_that_floods_is_closed_by_the_default_measure() {
    let defaults = Options::new("c").limits;
    let mut options = open();
    options.limits.socket_messages = defaults.socket_messages;
    let world = World::of(options);
    let mut pair = Pair::join(&world);
    let mut socket = world.socket("?nodeId=flood&room=global");
    let burst = defaults.socket_messages.burst as usize;
    let mut closed = None;
    'flood: for _ in 0..burst * 4 {
        if socket.0.send(tungstenite::Message::text("{")).is_err() {
            break 'flood;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while closed.is_none() && Instant::now() < deadline {
        if let Event::Closed(code, _) = socket.event() {
            closed = Some(code);
        }
    }
    // The close may be lost behind the reset that unread junk causes.
    assert!(matches!(closed, Some(4429 | 1006)), "{closed:?}");
    pair.exchange();
}

/// R92
#[test]
fn junk_over_http_is_an_error_each_time() {
    let world = World::of(open());
    let mut pair = Pair::join(&world);
    let mut stream = TcpStream::connect(world.at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bodies = ["", "{", "null", "[1,2", "\"\\ud800\"", r#"{"nodeId":null}"#, r#"{"from":[]}"#];
    let paths = ["join", "signal", "leave", "auth", "rooms", "invite"];
    for turn in 0..2_000 {
        let (path, body) = (paths[turn % paths.len()], bodies[turn % bodies.len()]);
        let request = format!(
            "POST /webrtc/{path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (status, answer) = read_answer(&mut stream);
        assert!((400..=429).contains(&status), "{path} {body}: {status} {answer}");
        assert_eq!(answer["type"], "error", "{path} {body}: {answer}");
        if turn % 500 == 0 {
            pair.exchange();
        }
    }
}

/// One answer with a length, of a connection that stays open.
fn read_answer(stream: &mut TcpStream) -> (u16, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
