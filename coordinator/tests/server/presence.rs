//! Who hears of whom, and what the silent and the doubled are told.

use futures_util::SinkExt;
use serde_json::json;

use super::party::{open, serve};

/// R61, R65, R70
#[tokio::test]
async fn coming_leaving_and_losing_a_connection_are_heard_in_order() {
    let server = serve(open()).await;
    let mut a = server.socket("?nodeId=a&room=lobby").await;
    a.hears_nothing().await;
    let joined = |id: &str| json!({ "type": "peer-joined", "room": "lobby", "peer": { "nodeId": id, "metadata": {} } });
    let left = |id: &str| json!({ "type": "peer-left", "room": "lobby", "peerId": id });
    let mut b = server.socket("?nodeId=b&room=lobby").await;
    assert_eq!(a.hear().await, joined("b"));
    b.say(json!({ "type": "leave", "room": "lobby", "nodeId": "b" })).await;
    assert_eq!(a.hear().await, left("b"));
    b.say(json!({ "type": "join", "room": "lobby", "nodeId": "b", "metadata": {} })).await;
    assert_eq!(a.hear().await, joined("b"));
    b.0.close(None).await.unwrap();
    assert_eq!(a.hear().await, left("b"));
    // Not even a close: the connection is simply gone.
    let c = server.socket("?nodeId=c&room=lobby").await;
    assert_eq!(a.hear().await, joined("c"));
    drop(c);
    assert_eq!(a.hear().await, left("c"));
}

/// R73, R98
#[tokio::test]
async fn the_silent_are_closed_and_the_others_hear() {
    let mut options = open();
    options.limits.heartbeat_ms = 200;
    options.limits.stale_ms = 2_000;
    let server = serve(options).await;
    let mut silent = server.socket("?nodeId=silent&room=lobby").await;
    server.join("gone", "lobby").await;
    // Who speaks stays: polls with a cursor hear presence too.
    server.join("b", "lobby").await;
    let mut left = Vec::new();
    let mut cursor = 0;
    while left.len() < 2 {
        let polled = server.poll(&format!("nodeId=b&cursor={cursor}&timeout=500")).await;
        cursor = polled["cursor"].as_u64().unwrap();
        for signal in polled["signals"].as_array().unwrap() {
            assert_eq!(signal["type"], "peer-left");
            left.push(signal["peerId"].as_str().unwrap().to_owned());
        }
    }
    left.sort();
    assert_eq!(left, ["gone", "silent"]);
    assert_eq!(silent.closed().await.0, 4408);
}

#[tokio::test]
async fn a_websocket_that_stays_without_a_name_is_closed() {
    let mut options = open();
    options.limits.nameless_ms = 100;
    let server = serve(options).await;
    assert_eq!(server.socket("").await.closed().await.0, 4408);
}

/// R63
#[tokio::test]
async fn an_id_that_has_a_connection_is_refused_to_who_cannot_show_its_session() {
    let server = serve(open()).await;
    let (mut a, welcome) = server.hello("a", &[]).await;
    let mut thief = server.socket("?nodeId=a&room=lobby").await;
    assert_eq!(thief.hear().await["type"], "error");
    assert_eq!(thief.closed().await.0, 4409);
    a.hears_nothing().await;
    let mut again = server.socket("").await;
    again.say(json!({ "type": "hello", "v": 1, "session": welcome["session"] })).await;
    assert_eq!(again.hear().await["nodeId"], "a");
    assert_eq!(a.closed().await.0, 4409);
    again.hears_nothing().await;
}

/// R64
#[tokio::test]
async fn what_is_not_understood_is_refused_and_the_connection_stays() {
    let server = serve(open()).await;
    let (mut a, _) = server.hello("a", &[]).await;
    for (message, code) in [
        (json!({ "type": "sing", "id": 7 }), "bad_request"),
        (json!({ "type": "offer", "to": "b", "room": "lobby", "id": 7 }), "bad_request"),
        (json!({ "type": "join", "room": "NO", "id": 7 }), "bad_request"),
        (json!({ "type": "leave", "room": "lobby", "nodeId": "b", "id": 7 }), "forbidden"),
        (json!({ "type": "offer", "to": "b", "room": "nope", "sdp": "", "id": 7 }), "unknown_room"),
        (json!({ "type": "join", "room": "p:nope", "id": 7 }), "unknown_room"),
        (json!({ "type": "join", "room": "s:x", "id": 7 }), "forbidden"),
    ] {
        a.say(message).await;
        let error = a.hear().await;
        assert_eq!((error["code"].as_str(), &error["ref"]), (Some(code), &json!(7)), "{error}");
    }
    for text in ["{", "[]", r#"["ping"]"#, r#"{"type":"batch","messages":[["ping"]]}"#] {
        a.0.send(tokio_tungstenite::tungstenite::Message::text(text)).await.unwrap();
        assert_eq!(a.hear().await["code"], "bad_request", "{text}");
    }
    a.hears_nothing().await;
}

/// R64
#[tokio::test]
async fn a_connection_says_hello_once() {
    let server = serve(open()).await;
    let (mut a, welcome) = server.hello("a", &["resume"]).await;
    let hello = json!({ "type": "hello", "v": 1, "nodeId": "a" });
    let mut resumed = hello.clone();
    resumed["resume"] = json!({ "session": welcome["session"], "cursor": 0 });
    for again in [hello, resumed] {
        a.say(again).await;
        assert_eq!(a.hear().await["code"], "bad_request");
    }
    a.hears_nothing().await;
    // After a join it may be said, and after one that was refused.
    let mut b = server.socket("?nodeId=b&room=lobby").await;
    b.say(json!({ "type": "hello", "v": 2, "nodeId": "b" })).await;
    assert_eq!(b.hear().await["type"], "error");
    b.say(json!({ "type": "hello", "v": 1, "nodeId": "b" })).await;
    assert_eq!(b.hear().await["type"], "welcome");
}

/// R116
#[tokio::test]
async fn a_broadcast_reaches_every_other_member_once_and_a_batch_is_taken_apart() {
    let server = serve(open()).await;
    let mut members = Vec::new();
    for node in ["a", "b", "c"] {
        let (mut socket, _) = server.hello(node, &["batch"]).await;
        socket.say(json!({ "type": "join", "room": "global" })).await;
        assert_eq!(socket.hear().await["type"], "joined");
        members.push(socket);
    }
    for (index, expected) in [(0, 2), (1, 1)] {
        for _ in 0..expected {
            assert_eq!(members[index].hear().await["type"], "peer-joined");
        }
    }
    let said = |data: &str| json!({ "type": "broadcast", "room": "global", "data": data });
    let nested = json!({ "type": "batch", "messages": [] });
    members[0]
        .say(json!({ "type": "batch", "messages": [said("AA=="), said("AQ=="), nested] }))
        .await;
    assert_eq!(members[0].hear().await["code"], "bad_request");
    for member in &mut members[1..] {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let message = member.hear().await;
            match message["type"].as_str() {
                Some("batch") => heard.extend(message["messages"].as_array().unwrap().clone()),
                _ => heard.push(message),
            }
        }
        let data: Vec<_> = heard.iter().map(|message| message["data"].clone()).collect();
        assert_eq!(data, ["AA==", "AQ=="]);
        assert_eq!(heard[0]["from"], "a");
        member.hears_nothing().await;
    }
}
