//! What a host sees: mounting, origins, addresses, draining, credentials, numbers.

use axum::Router;
use axum::routing::get;
use coordinator::{Coordinator, Cors, Options, Rate, TurnSecret};
use serde_json::json;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

use super::party::{Server, open, serve, serve_router};

/// R53, R54, R82
#[tokio::test]
async fn an_applications_own_routes_stay_and_unknown_paths_are_404() {
    let coordinator = Coordinator::new(open()).unwrap();
    let own = Router::new().route("/chat", get(|| async { "hello" }));
    let router = own.merge(coordinator.router()).merge(coordinator.nodes_router());
    let server = serve_router(coordinator, router).await;
    assert_eq!(server.get("/chat").await.body, b"hello");
    assert_eq!(server.get("/webrtc/info").await.status, 200);
    server.get("/webrtc/nothing/here").await.check(404, "not_found");
    for (line, allowed) in [("DELETE /webrtc/join", "post"), ("POST /nodes", "get,head")] {
        let answer = server.ask(line, &[], "").await;
        answer.check(405, "bad_request");
        assert!(answer.head.contains(&format!("allow: {allowed}")), "{}", answer.head);
    }
    assert_eq!(server.get("/elsewhere").await.status, 404);
    let server = serve(Options { enabled: false, ..open() }).await;
    for path in ["/webrtc/info", "/webrtc/join", "/webrtc/health", "/webrtc"] {
        server.get(path).await.check(404, "not_found");
    }
    assert_eq!(server.get("/nodes").await.json()["webrtc"], json!({ "enabled": false }));
}

#[tokio::test]
async fn pages_of_named_origins_may_read_and_others_may_not() {
    let origins = vec!["https://good.example".to_owned()];
    let server = serve(Options { cors: Cors::Origins(origins), ..open() }).await;
    let server = &server;
    let ask = |origin: &'static str| async move {
        let headers = [("origin", origin)];
        server.ask("OPTIONS /webrtc/join", &headers, "").await.head
    };
    let allowed = "access-control-allow-origin: https://good.example";
    assert!(ask("https://good.example").await.contains(allowed));
    assert!(!ask("https://bad.example").await.contains("access-control"));
    let upgrade = [
        ("origin", "https://bad.example"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    server.ask("GET /webrtc/signal", &upgrade, "").await.check(403, "forbidden");
}

/// An upgrade as a browser asks for it, from a page of this origin.
async fn upgraded(server: &Server, origin: Option<&str>) -> u16 {
    upgraded_with(server, origin.map(|origin| ("origin", origin))).await
}

async fn upgraded_with(server: &Server, header: Option<(&'static str, &str)>) -> u16 {
    let url = format!("ws://{}/webrtc/signal", server.at);
    let mut request = url.into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((_, answer)) => answer.status().as_u16(),
        Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn without_other_origins_only_the_coordinators_own_page_opens_a_websocket() {
    let options = Options {
        cors: Cors::None,
        public_url: Some("https://relay.example/here".to_owned()),
        ..open()
    };
    let server = serve(options).await;
    let own = format!("http://{}", server.at);
    for origin in [None, Some(&*own), Some("https://relay.example"), Some("https://Relay.Example")]
    {
        assert_eq!(upgraded(&server, origin).await, 101, "{origin:?}");
    }
    let other_port = format!("http://{}:1", server.at.ip());
    for origin in ["https://evil.example", "https://relay.example.evil", "null", &other_port] {
        assert_eq!(upgraded(&server, Some(origin)).await, 403, "{origin}");
    }
}

/// R92
#[tokio::test]
async fn a_coordinator_has_so_many_websockets_and_a_closed_one_makes_place() {
    let mut options = open();
    options.limits.sockets_max = 2;
    let server = serve(options).await;
    let (_a, mut b) = (server.socket("").await, server.socket("").await);
    assert_eq!(upgraded(&server, None).await, 429);
    // What needs none goes on.
    server.join("c", "lobby").await;
    b.0.close(None).await.unwrap();
    while upgraded(&server, None).await != 101 {}
}

/// R92
#[tokio::test]
async fn an_address_has_so_many_connections() {
    let mut options = open();
    options.limits.address_connections_max = 2;
    let server = serve(options).await;
    let (_a, mut b) = (server.socket("").await, server.socket("").await);
    let third = format!("ws://{}/webrtc/signal", server.at);
    let error = tokio_tungstenite::connect_async(&third).await.unwrap_err();
    assert!(error.to_string().contains("429"), "{error}");
    b.0.close(None).await.unwrap();
    while tokio_tungstenite::connect_async(&third).await.is_err() {}
}

#[tokio::test]
async fn a_draining_coordinator_takes_nobody_and_names_another() {
    let server = serve(open()).await;
    // The first link's place in the half minute is its beginning.
    let mut a = server.socket("?nodeId=a&room=lobby").await;
    a.hears_nothing().await;
    assert_eq!(server.get("/webrtc/health").await.json(), json!({ "status": "ok" }));
    server.coordinator.drain("https://other.example");
    assert_eq!(a.closed().await, (4503, r#"{"reconnect":"https://other.example"}"#.to_owned()));
    let health = server.get("/webrtc/health").await;
    assert_eq!((health.status, health.json()), (503, json!({ "status": "draining" })));
    let join = json!({ "nodeId": "b", "room": "lobby" });
    server.post("/webrtc/join", join).await.check(503, "draining");
}

/// R60
#[tokio::test]
async fn a_poll_that_waits_when_the_coordinator_drains_is_answered_at_once() {
    let server = serve(open()).await;
    for node in ["a", "b"] {
        server.join(node, "lobby").await;
    }
    let seen = || async {
        let peers = server.get("/webrtc/peers?room=lobby").await.json();
        peers["peers"][0]["lastSeen"].as_u64().unwrap()
    };
    let before = seen().await;
    let waits = server.get("/webrtc/signal?nodeId=a&timeout=25000");
    let drains = async {
        // Who is silent was seen last when it joined; two clocks may differ by a millisecond.
        while seen().await <= before + 1 {}
        server.coordinator.drain("https://other.example");
    };
    let (answer, ()) = tokio::join!(waits, drains);
    // At the end of its time it would bring nothing.
    answer.check(503, "draining");
    // What is there already is handed out.
    let offer = json!({ "from": "b", "to": "a", "room": "lobby", "type": "offer", "sdp": "1" });
    server.post("/webrtc/signal", offer).await;
    assert_eq!(server.poll("nodeId=a").await["signals"][0]["from"], "b");
    server.get("/webrtc/signal?nodeId=a").await.check(503, "draining");
}

/// R92
#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_measure() {
    let mut options = open();
    options.limits.address_opens = Rate { per_minute: 1, burst: 1 };
    let alone = serve(options.clone()).await;
    options.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
    let behind = serve(options).await;
    for (header, value, status) in [
        ("x-forwarded-for", "198.51.100.1", 101),
        ("x-forwarded-for", "198.51.100.1", 429),
        ("x-forwarded-for", "198.51.100.2", 101),
        // What the client has written itself stands in front.
        ("x-forwarded-for", "203.0.113.9, 198.51.100.2, 127.0.0.9", 429),
        ("forwarded", "for=198.51.100.1", 429),
        ("forwarded", r#"for="[2001:db8::7]:4711";proto=https"#, 101),
    ] {
        assert_eq!(upgraded_with(&behind, Some((header, value))).await, status, "{value}");
    }
    assert_eq!(upgraded_with(&alone, Some(("x-forwarded-for", "198.51.100.1"))).await, 101);
    assert_eq!(upgraded_with(&alone, Some(("x-forwarded-for", "198.51.100.2"))).await, 429);
}

/// R118
#[tokio::test]
async fn a_join_brings_turn_credentials_that_expire() {
    let mut options = open();
    options.turn_servers.push("turn:127.0.0.1:3478".parse().unwrap());
    options.turn_secret = Some(TurnSecret("north".to_owned()));
    let server = serve(options).await;
    let servers = server.join("a", "lobby").await["iceServers"].clone();
    let turn = &servers[1];
    assert_eq!(turn["urls"], "turn:127.0.0.1:3478");
    assert!(turn["username"].as_str().unwrap().ends_with(":a"));
    assert_eq!(turn["credential"].as_str().unwrap().len(), 28);
    let nodes = server.get("/nodes").await.json();
    assert_eq!(nodes["webrtc"]["turnServers"], json!([{ "urls": "turn:127.0.0.1:3478" }]));
}

#[tokio::test]
async fn the_numbers_say_what_happened() {
    let server = serve(open()).await;
    let mut a = server.socket("?nodeId=a&room=lobby").await;
    a.hears_nothing().await;
    server.join("b", "lobby").await;
    let offer = |from: &str, to: &str| json!({ "from": from, "to": to, "room": "lobby", "type": "offer", "sdp": "1" });
    server.post("/webrtc/signal", offer("b", "a")).await;
    server.post("/webrtc/signal", offer("a", "b")).await;
    server.post("/webrtc/signal", offer("a", "x")).await.check(404, "unknown_peer");
    let figures = server.coordinator.metrics();
    let counts = figures.counts;
    assert_eq!((counts.peers, counts.joins, counts.rooms, figures.sockets), (2, 2, 4, 1));
    assert_eq!((counts.signals_pushed, counts.signals_queued), (1, 1));
    let refused: Vec<_> = figures.refused.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused.len(), 1);
}

/// R62
#[tokio::test]
async fn peers_come_in_pages_where_pages_are_asked_for() {
    let server = serve(open()).await;
    for node in ["a", "b", "c"] {
        server.join(node, "lobby").await;
    }
    let all = server.get("/webrtc/peers?room=lobby").await.json();
    assert_eq!(all["peers"].as_array().unwrap().len(), 3);
    assert!(all.get("next").is_none());
    let first = server.get("/webrtc/peers?room=lobby&limit=2").await.json();
    assert_eq!((first["peers"].as_array().unwrap().len(), &first["next"]), (2, &json!("b")));
    let last = server.get("/webrtc/peers?room=lobby&limit=2&after=b").await.json();
    assert_eq!(last["peers"][0]["nodeId"], "c");
    assert!(last.get("next").is_none());
    server.get("/webrtc/peers?room=nope").await.check(404, "unknown_room");
}
