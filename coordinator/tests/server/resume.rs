//! A lost connection that comes back.

use serde_json::{Value, json};

use super::party::{Server, Socket, open, serve};

async fn room_of_two() -> (Server, Socket, Socket, Value) {
    let server = serve(open()).await;
    let mut other = server.socket("?nodeId=other&room=lobby").await;
    other.hears_nothing().await;
    let (mut a, welcome) = server.hello("a", &["resume"]).await;
    a.say(json!({ "type": "join", "room": "lobby" })).await;
    assert_eq!(a.hear().await["peers"][0]["nodeId"], "other");
    assert_eq!(other.hear().await["type"], "peer-joined");
    (server, other, a, welcome)
}

fn candidate(n: u64) -> Value {
    json!({ "type": "ice-candidate", "to": "a", "room": "lobby", "candidate": { "n": n } })
}

/// R99
#[tokio::test]
async fn a_resumed_connection_has_its_rooms_and_what_it_missed_and_others_saw_nothing() {
    let (server, mut other, mut a, welcome) = room_of_two().await;
    other.say(candidate(1)).await;
    other.say(candidate(2)).await;
    let first = a.hear().await;
    assert_eq!(first["candidate"], json!({ "n": 1 }));
    // The second arrived, but a is lost before it could say so.
    let second = a.hear().await;
    drop(a);
    other.say(candidate(3)).await;
    other.hears_nothing().await;
    let mut a = server.socket("").await;
    let resume = json!({ "session": welcome["session"], "cursor": first["seq"] });
    a.say(json!({ "type": "hello", "v": 1, "caps": ["resume"], "resume": resume })).await;
    let again = a.hear().await;
    assert_eq!((&again["type"], &again["resumed"]), (&json!("welcome"), &json!(["lobby"])));
    assert_eq!(again["session"], welcome["session"]);
    assert_eq!(a.hear().await, second);
    assert_eq!(a.hear().await["candidate"], json!({ "n": 3 }));
    other.hears_nothing().await;
    a.say(json!({ "type": "answer", "to": "other", "room": "lobby", "sdp": "still here" })).await;
    assert_eq!(other.hear().await["sdp"], "still here");
}

#[tokio::test]
async fn what_was_acknowledged_does_not_come_again() {
    let (server, mut other, mut a, welcome) = room_of_two().await;
    other.say(candidate(1)).await;
    let seq = a.hear().await["seq"].clone();
    a.say(json!({ "type": "ping", "cursor": seq })).await;
    assert_eq!(a.hear().await["type"], "pong");
    drop(a);
    let mut a = server.socket("").await;
    let resume = json!({ "session": welcome["session"], "cursor": 0 });
    a.say(json!({ "type": "hello", "v": 1, "caps": ["resume"], "resume": resume })).await;
    assert_eq!(a.hear().await["cursor"], seq);
    a.hears_nothing().await;
}

#[tokio::test]
async fn a_session_that_nobody_remembers_gives_way_to_what_else_the_hello_shows() {
    let server = serve(open()).await;
    let resume = json!({ "session": "00".repeat(32), "cursor": 5 });
    let mut a = server.socket("").await;
    a.say(json!({ "type": "hello", "v": 1, "resume": resume })).await;
    assert_eq!(a.hear().await["type"], "error");
    a.say(json!({ "type": "hello", "v": 1, "nodeId": "a", "resume": resume })).await;
    let welcome = a.hear().await;
    assert_eq!((&welcome["nodeId"], &welcome["resumed"]), (&json!("a"), &json!([])));
}
