//! HTTP alone, and mixed with WebSockets.

use serde_json::json;

use super::party::{open, serve};

fn offer(from: &str, to: &str, sdp: &str) -> serde_json::Value {
    json!({ "from": from, "to": to, "room": "lobby", "type": "offer", "payload": { "sdp": sdp } })
}

/// R60, R104
#[tokio::test]
async fn a_poll_that_waits_is_answered_by_the_next_signal() {
    let server = serve(open()).await;
    server.join("a", "lobby").await;
    server.join("b", "lobby").await;
    let waits = server.poll("nodeId=b&room=lobby&timeout=25000");
    let sends = async {
        let answer = server.post("/webrtc/signal", offer("a", "b", "1")).await;
        assert_eq!(answer.json(), json!({ "success": true, "queued": true }));
    };
    let (polled, ()) = tokio::join!(waits, sends);
    assert_eq!(polled["signals"].as_array().unwrap().len(), 1);
    assert_eq!(polled["signals"][0]["payload"], json!({ "sdp": "1" }));
    let again = server.poll("nodeId=b&room=lobby&timeout=0").await;
    assert_eq!(again, json!({ "signals": [] }));
}

/// R60
#[tokio::test]
async fn a_cursor_brings_everything_again_until_it_moves_on() {
    let server = serve(open()).await;
    server.join("b", "lobby").await;
    server.join("a", "lobby").await;
    for sdp in ["1", "2", "3"] {
        server.post("/webrtc/signal", offer("a", "b", sdp)).await;
    }
    let first = server.poll("nodeId=b&cursor=0&timeout=0").await;
    let types: Vec<_> =
        first["signals"].as_array().unwrap().iter().map(|signal| signal["type"].clone()).collect();
    assert_eq!(types, ["peer-joined", "offer", "offer", "offer"]);
    assert_eq!(first["signals"][0]["peer"], json!({ "nodeId": "a", "metadata": {} }));
    let again = server.poll("nodeId=b&cursor=0&timeout=0").await;
    assert_eq!(first, again);
    let middle = first["signals"][2]["seq"].as_u64().unwrap();
    let rest = server.poll(&format!("nodeId=b&cursor={middle}&timeout=0")).await;
    assert_eq!(rest["signals"].as_array().unwrap().len(), 1);
    assert_eq!(rest["signals"][0]["payload"]["sdp"], "3");
    let end = rest["cursor"].as_u64().unwrap();
    let done = server.poll(&format!("nodeId=b&cursor={end}&timeout=0")).await;
    assert_eq!(done, json!({ "signals": [], "cursor": end }));
}

/// R60
#[tokio::test]
async fn a_cursor_that_was_never_given_is_refused_and_hides_nothing() {
    let server = serve(open()).await;
    for node in ["a", "b"] {
        server.join(node, "lobby").await;
    }
    server.post("/webrtc/signal", offer("a", "b", "1")).await;
    let given = server.poll("nodeId=b&cursor=0&timeout=0").await["cursor"].as_u64().unwrap();
    for room in ["", "&room=lobby"] {
        for cursor in [given + 1, u64::MAX] {
            let path = format!("/webrtc/signal?nodeId=b&cursor={cursor}&timeout=0{room}");
            server.get(&path).await.check(400, "bad_request");
        }
    }
    let beyond = format!("/webrtc/signal?nodeId=b&cursor={}&timeout=0", 1_u128 << 64);
    server.get(&beyond).await.check(400, "bad_request");
    server.post("/webrtc/signal", offer("a", "b", "2")).await;
    let polled = server.poll("nodeId=b&cursor=0&timeout=0").await;
    let sdps: Vec<_> =
        polled["signals"].as_array().unwrap().iter().map(|s| s["payload"]["sdp"].clone()).collect();
    assert_eq!(sdps, ["1", "2"]);
    assert_eq!(
        server.poll(&format!("nodeId=b&cursor={given}&timeout=0")).await["cursor"],
        given + 1
    );
}

/// R59, R66
#[tokio::test]
async fn a_polling_peer_and_one_on_a_websocket_reach_each_other() {
    let server = serve(open()).await;
    server.join("a", "lobby").await;
    let mut b = server.socket("?nodeId=b&room=lobby").await;
    b.hears_nothing().await;
    let answer = server.post("/webrtc/signal", offer("a", "b", "from a")).await;
    assert_eq!(answer.json(), json!({ "success": true, "queued": false }));
    let want = json!({ "type": "offer", "from": "a", "room": "lobby", "sdp": "from a" });
    assert_eq!(b.hear().await, want);
    b.say(json!({ "type": "answer", "to": "a", "room": "lobby", "sdp": "from b" })).await;
    let polled = server.poll("nodeId=a&room=lobby").await;
    assert_eq!(polled["signals"][0]["type"], "answer");
    assert_eq!(polled["signals"][0]["payload"], json!({ "sdp": "from b" }));
}

#[tokio::test]
async fn a_second_poll_of_a_node_answers_the_first_with_nothing() {
    let server = serve(open()).await;
    server.join("a", "lobby").await;
    server.join("b", "lobby").await;
    let first = server.poll("nodeId=b&timeout=25000");
    let then = async {
        // Until the first is held the second would be the one that is answered with nothing.
        while !server.get("/webrtc/peers?room=lobby").await.json()["peers"][1]["online"]
            .as_bool()
            .unwrap()
        {}
        server.poll("nodeId=b&timeout=0").await
    };
    let (first, second) = tokio::join!(first, then);
    assert_eq!((first, second), (json!({ "signals": [] }), json!({ "signals": [] })));
}

/// R59
#[tokio::test]
async fn a_signal_reaches_only_who_shares_the_room() {
    let server = serve(open()).await;
    server.join("a", "lobby").await;
    server.join("b", "elsewhere").await;
    let send = |body| server.post("/webrtc/signal", body);
    send(offer("a", "b", "1")).await.check(404, "unknown_peer");
    send(offer("b", "a", "1")).await.check(403, "forbidden");
    send(offer("a", "nobody", "1")).await.check(404, "unknown_peer");
    let nowhere = json!({ "from": "a", "to": "b", "room": "nowhere", "type": "offer", "sdp": "1" });
    send(nowhere).await.check(404, "unknown_room");
    let kind = json!({ "from": "a", "to": "b", "room": "lobby", "type": "song", "sdp": "1" });
    send(kind).await.check(400, "bad_request");
}

/// R92, R93
#[tokio::test]
async fn who_sends_too_much_is_told_to_wait_and_others_are_not() {
    let mut options = open();
    options.limits.signals = coordinator::Rate { per_minute: 1, burst: 2 };
    let server = serve(options).await;
    for node in ["a", "b"] {
        server.join(node, "lobby").await;
    }
    for _ in 0..2 {
        assert_eq!(server.post("/webrtc/signal", offer("a", "b", "1")).await.status, 200);
    }
    let refusal = server.post("/webrtc/signal", offer("a", "b", "1")).await;
    let wait = refusal.check(429, "rate_limited")["retryAfterMs"].as_u64().unwrap();
    assert!((1..=250).contains(&wait), "{wait}");
    assert!(refusal.head.contains("retry-after: 1"), "{}", refusal.head);
    assert_eq!(server.post("/webrtc/signal", offer("b", "a", "1")).await.status, 200);
}
