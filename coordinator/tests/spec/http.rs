//! The HTTP calls, with the specification's own texts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    options::open,
    world::{World, now_ms, same_shape, sample},
};

/// `POST /webrtc/join`, its request as the specification prints it.
const JOIN: &str = r#"{
  "nodeId": "client-abc",
  "room": "global",
  "metadata": {
    "name": "Observer-1",
    "capabilities": ["memory-sync", "learning"]
  }
}"#;
/// Its answer.
const JOINED: &str = r#"{
  "success": true,
  "room": "global",
  "peers": [
    { "nodeId": "peer-1", "name": "Observer-2", "joinedAt": 1703520000000 },
    { "nodeId": "peer-2", "name": "Observer-3", "joinedAt": 1703520100000 }
  ],
  "iceServers": [
    { "urls": "stun:stun.l.google.com:19302" }
  ]
}"#;
/// `POST /webrtc/signal`.
const SIGNAL: &str = r#"{
  "from": "client-abc",
  "to": "peer-1",
  "room": "global",
  "type": "offer",
  "payload": {
    "sdp": "v=0\r\no=- 4611731400430051336..."
  }
}"#;
/// Its answer.
const QUEUED: &str = r#"{
  "success": true,
  "queued": true
}"#;
/// `GET /webrtc/signal`.
const SIGNALS: &str = r#"{
  "signals": [
    {
      "from": "peer-1",
      "type": "answer",
      "payload": { "sdp": "..." },
      "timestamp": 1703520200000
    }
  ]
}"#;
/// `GET /webrtc/peers`.
const PEERS: &str = r#"{
  "room": "global",
  "peers": [
    {
      "nodeId": "peer-1",
      "name": "Observer-2",
      "online": true,
      "lastSeen": 1703520300000,
      "metadata": {}
    }
  ]
}"#;
/// `GET /webrtc/info`.
const INFO: &str = r#"{
  "enabled": true,
  "nodeId": "coordinator-xyz",
  "rooms": ["global", "memory-sync", "learning"],
  "peerCount": 5,
  "stunServers": ["stun:stun.l.google.com:19302"],
  "turnServers": [],
  "websocketUrl": "ws://192.168.1.100:8888/webrtc/signal",
  "httpFallback": true
}"#;
/// `GET /nodes`: the document's example, and what its code adds (`websocketUrl`, `outbound`,
/// `inbound`).
const NODES: &str = r#"{
  "nodeId": "seed-node-abc",
  "networkId": "sentient-network-001",
  "webrtc": {
    "enabled": true,
    "coordinatorUrl": "http://192.168.1.100:8888/webrtc",
    "websocketUrl": "ws://192.168.1.100:8888/webrtc/signal",
    "stunServers": ["stun:stun.l.google.com:19302"],
    "turnServers": []
  },
  "seeds": [],
  "outbound": [],
  "inbound": [],
  "uptime": 3600
}"#;

fn join(world: &World, id: &str, name: &str) -> Value {
    let body = json!({"nodeId": id, "room": "global", "metadata": {"name": name}});
    world.done("/webrtc/join", &body)
}

/// A room with the document's three nodes.
fn populated() -> World {
    let world = World::of(open());
    join(&world, "peer-1", "Observer-2");
    join(&world, "peer-2", "Observer-3");
    world.done("/webrtc/join", &sample(JOIN));
    world
}

fn polled(world: &World, id: &str) -> Value {
    let (status, answer) = world.get(&format!("/webrtc/signal?nodeId={id}&room=global&timeout=0"));
    assert_eq!(status, 200, "{answer}");
    answer
}

/// R55
#[test]
fn nodes_says_where_the_coordinator_is_and_who_else_is_known() {
    let world = World::of(open());
    let (status, nodes) = world.get("/nodes");
    assert_eq!(status, 200);
    same_shape(&nodes, &sample(NODES));
    assert_eq!(nodes["networkId"], "standalone");
    let at = world.at;
    assert_eq!(nodes["webrtc"]["coordinatorUrl"], format!("http://{at}/webrtc"));
    assert_eq!(nodes["webrtc"]["websocketUrl"], format!("ws://{at}/webrtc/signal"));
    assert!(nodes["uptime"].as_u64().unwrap() < 600);
}

/// R56, R57, R69
#[test]
fn info_lists_the_built_in_rooms_of_an_empty_coordinator() {
    let world = World::of(open());
    let (status, info) = world.get("/webrtc/info");
    assert_eq!(status, 200);
    same_shape(&info, &sample(INFO));
    assert_eq!(info["rooms"], json!(["global", "memory-sync", "learning"]));
    assert_eq!((&info["peerCount"], &info["httpFallback"]), (&json!(0), &json!(true)));
    assert_eq!(info["stunServers"], json!(["stun:stun.l.google.com:19302"]));
    assert_eq!(info["websocketUrl"], format!("ws://{}/webrtc/signal", world.at));

    let custom = json!({"nodeId": "a", "room": "chess", "metadata": {}});
    world.done("/webrtc/join", &custom);
    let (_, info) = world.get("/webrtc/info");
    assert!(info["rooms"].as_array().unwrap().contains(&json!("chess")), "{info}");
    assert_eq!(info["peerCount"], 1);
}

/// R58, R118
#[test]
fn a_join_answers_with_those_who_were_there_and_never_with_the_joiner() {
    let world = World::of(open());
    let before = now_ms();
    join(&world, "peer-1", "Observer-2");
    join(&world, "peer-2", "Observer-3");
    for _again in 0..2 {
        let (status, joined) = world.post("/webrtc/join", JOIN);
        assert_eq!(status, 200);
        same_shape(&joined, &sample(JOINED));
        assert_eq!((&joined["success"], &joined["room"]), (&json!(true), &json!("global")));
        let peers = joined["peers"].as_array().unwrap();
        let mut names: Vec<_> =
            peers.iter().map(|peer| (peer["nodeId"].as_str(), peer["name"].as_str())).collect();
        names.sort_unstable();
        let expected = [(Some("peer-1"), Some("Observer-2")), (Some("peer-2"), Some("Observer-3"))];
        assert_eq!(names, expected, "joining twice is joining once");
        for peer in peers {
            let at = peer["joinedAt"].as_u64().unwrap();
            assert!((before..=now_ms()).contains(&at), "{peer}: Unix ms");
        }
        assert_eq!(joined["iceServers"], json!([{"urls": "stun:stun.l.google.com:19302"}]));
    }
    assert_eq!(world.get("/webrtc/info").1["peerCount"], 3);
}

/// R59, R60
#[test]
fn a_signal_is_queued_for_who_polls_in_either_form_of_its_body() {
    let world = populated();
    let (status, queued) = world.post("/webrtc/signal", SIGNAL);
    assert_eq!((status, &queued), (200, &sample(QUEUED)));
    let candidate = json!({"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host"});
    let flat = [
        json!({"from": "client-abc", "to": "peer-1", "room": "global", "type": "answer", "sdp": "v=0"}),
        json!({"from": "client-abc", "to": "peer-1", "room": "global", "type": "ice-candidate", "candidate": candidate}),
    ];
    for body in &flat {
        assert_eq!(world.done("/webrtc/signal", body), sample(QUEUED));
    }
    let seen = polled(&world, "peer-1");
    let signals = seen["signals"].as_array().unwrap();
    assert_eq!(signals.len(), 3, "{seen}");
    same_shape(&json!({"signals": signals[..2]}), &sample(SIGNALS));
    assert_eq!(signals[0]["type"], "offer");
    assert_eq!(signals[0]["payload"], sample(SIGNAL)["payload"], "to the byte");
    assert_eq!(signals[1]["payload"], json!({"sdp": "v=0"}), "flat becomes payload");
    assert_eq!(signals[2]["payload"], json!({"candidate": candidate}));
    for signal in signals {
        let keys: Vec<_> = signal.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!(signal["from"], "client-abc");
        assert!(signal["timestamp"].as_u64().unwrap().abs_diff(now_ms()) < 60_000);
    }
    // Without a cursor what was handed out does not come again, and nobody else's comes at all.
    assert_eq!(polled(&world, "peer-1"), json!({"signals": []}));
    assert_eq!(polled(&world, "peer-2"), json!({"signals": []}));
}

/// R60
#[test]
fn a_poll_that_waits_ends_with_the_signal_and_an_idle_one_at_its_time() {
    let world = populated();
    let begun = Instant::now();
    let idle = world.get("/webrtc/signal?nodeId=peer-2&room=global&timeout=300");
    assert_eq!(idle, (200, json!({"signals": []})));
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waited");

    let waiting = world.curl("/webrtc/signal?nodeId=peer-1&room=global&timeout=25000", &[]);
    // Whether the poll arrives before the signal or after it: it has it, and long before its end.
    let begun = Instant::now();
    world.post("/webrtc/signal", SIGNAL);
    let (_, seen) = waiting.answer();
    assert_eq!(seen["signals"][0]["type"], "offer", "{seen}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

/// R61
#[test]
fn who_leaves_is_gone_for_the_others() {
    let world = populated();
    let mut other = world.socket("?nodeId=watcher&room=global");
    let answer = world.done("/webrtc/leave", &json!({"nodeId": "client-abc", "room": "global"}));
    assert_eq!(answer, json!({"success": true}));
    let left = json!({"type": "peer-left", "room": "global", "peerId": "client-abc"});
    assert_eq!(other.next(), left);
    let (_, peers) = world.get("/webrtc/peers?room=global");
    let here = peers["peers"].as_array().unwrap();
    assert!(here.iter().all(|peer| peer["nodeId"] != "client-abc"), "{peers}");
}

/// R62
#[test]
fn peers_are_listed_with_what_they_said_of_themselves() {
    let world = populated();
    let (status, peers) = world.get("/webrtc/peers?room=global");
    assert_eq!(status, 200);
    same_shape(&peers, &sample(PEERS));
    let here = peers["peers"].as_array().unwrap();
    assert_eq!(here.len(), 3);
    let abc = here.iter().find(|peer| peer["nodeId"] == "client-abc").unwrap();
    assert_eq!(abc["metadata"], sample(JOIN)["metadata"]);
    assert_eq!((&abc["name"], &abc["online"]), (&json!("Observer-1"), &json!(true)));
    assert!(abc["lastSeen"].as_u64().unwrap().abs_diff(now_ms()) < 60_000);
}

/// R104
#[test]
fn two_clients_of_curl_alone_complete_their_signalling() {
    let world = World::of(open());
    for id in ["alice", "bob"] {
        world.done("/webrtc/join", &json!({"nodeId": id, "room": "learning", "metadata": {}}));
    }
    let send = |from: &str, to: &str, kind: &str, payload: Value| {
        let body =
            json!({"from": from, "to": to, "room": "learning", "type": kind, "payload": payload});
        assert_eq!(world.done("/webrtc/signal", &body), sample(QUEUED));
    };
    let take = |id: &str| {
        let path = format!("/webrtc/signal?nodeId={id}&room=learning&timeout=20000");
        let (status, answer) = world.get(&path);
        assert_eq!(status, 200, "{answer}");
        answer["signals"].as_array().unwrap().clone()
    };
    send("alice", "bob", "offer", json!({"sdp": "offered"}));
    assert_eq!(take("bob")[0]["payload"]["sdp"], "offered");
    send("bob", "alice", "answer", json!({"sdp": "answered"}));
    assert_eq!(take("alice")[0]["payload"]["sdp"], "answered");
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        send(from, to, "ice-candidate", json!({"candidate": {"candidate": from}}));
        assert_eq!(take(to)[0]["payload"]["candidate"]["candidate"], from);
    }
    for id in ["alice", "bob"] {
        world.done("/webrtc/leave", &json!({"nodeId": id, "room": "learning"}));
    }
    assert_eq!(world.get("/webrtc/info").1["peerCount"], 0);
}

/// R72
#[test]
fn what_cannot_be_is_an_error_with_a_code_and_a_sentence() {
    let world = populated();
    #[track_caller]
    fn check((status, answer): (u16, Value), expected: u16, code: &str) {
        assert_eq!((status, answer["code"].as_str()), (expected, Some(code)), "{answer}");
        assert_eq!(answer["type"], "error");
        assert!(answer["message"].as_str().is_some_and(|text| text.len() > 10), "{answer}");
    }
    let post = |path: &str, body: &str| world.post(path, body);
    check(post("/webrtc/join", "{"), 400, "bad_request");
    check(post("/webrtc/join", "[]"), 400, "bad_request");
    // An array of an object's values is no object.
    for (path, body) in [
        ("/webrtc/join", r#"["", 1, "a", "global"]"#),
        ("/webrtc/leave", r#"["", 1, "peer-1", "global"]"#),
        ("/webrtc/signal", r#"["offer", 1, "peer-2", "global", "peer-1", null, null, "x"]"#),
        (
            "/webrtc/signal",
            r#"{"from":"peer-2","to":"peer-1","room":"global","type":"offer","payload":["x"]}"#,
        ),
        ("/webrtc/auth", r#"["peer-1"]"#),
        ("/webrtc/rooms", r#"["peer-1", "salt"]"#),
        ("/webrtc/invite", r#"["si1."]"#),
    ] {
        check(post(path, body), 400, "bad_request");
    }
    check(post("/webrtc/join", r#"{"nodeId": "a"}"#), 400, "bad_request");
    check(post("/webrtc/join", r#"{"nodeId": "a", "room": "No Room"}"#), 400, "bad_request");
    check(post("/webrtc/join", r#"{"nodeId": "a b", "room": "global"}"#), 400, "bad_request");
    check(post("/webrtc/join", r#"{"nodeId": 7, "room": "global"}"#), 400, "bad_request");
    let unknown = r#"{"from":"client-abc","to":"nobody","room":"global","type":"offer","sdp":"x"}"#;
    check(post("/webrtc/signal", unknown), 404, "unknown_peer");
    let odd = r#"{"from":"client-abc","to":"peer-1","room":"global","type":"hug","sdp":"x"}"#;
    check(post("/webrtc/signal", odd), 400, "bad_request");
    let empty = r#"{"from":"client-abc","to":"peer-1","room":"global","type":"offer"}"#;
    check(post("/webrtc/signal", empty), 400, "bad_request");
    check(world.get("/webrtc/peers?room=nowhere"), 404, "unknown_room");
    check(world.get("/webrtc/none"), 404, "not_found");
    check(world.get("/webrtc/"), 404, "not_found");
    check(post("/webrtc/info", "{}"), 405, "bad_request");
    // And the room goes on.
    assert_eq!(world.post("/webrtc/signal", SIGNAL), (200, sample(QUEUED)));
}

/// R54
#[test]
fn the_router_stands_beside_an_applications_own_routes() {
    use axum::{Router, routing::get};
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let at = listener.local_addr().unwrap();
    let inside = runtime.enter();
    let coordinator = coordinator::Coordinator::new(open()).unwrap();
    drop(inside);
    let app = Router::new()
        .route("/chat", get(|| async { "chat" }))
        .route("/memory", get(|| async { "memory" }))
        .route("/nodes", get(|| async { "the application's own" }))
        .merge(coordinator.router())
        .fallback(|| async { (axum::http::StatusCode::IM_A_TEAPOT, "the application's") });
    runtime.spawn(async move { axum::serve(listener, app).await });
    let status = |path: &str| {
        let url = format!("http://{at}{path}");
        let out = std::process::Command::new("curl")
            .args(["--silent", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", &url])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    for path in ["/chat", "/memory", "/nodes", "/webrtc/info"] {
        assert_eq!(status(path), "200", "{path}");
    }
    assert_eq!(status("/webrtc/none"), "404");
    assert_eq!(status("/elsewhere"), "418", "unknown paths fall through");
}
