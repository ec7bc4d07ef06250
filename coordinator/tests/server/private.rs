//! Signed callers, private rooms, and rooms that a port decides about.

use std::sync::{Arc, Mutex};

use coordinator::identity::{Can, Invite, NodeKey};
use coordinator::{Admission, Applicant, MediaControl, Options, PortFuture, Rate, Refused};
use serde_json::{Value, json};

use super::party::{open, proof, roomy, serve};

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn signed() -> Options {
    Options { limits: roomy(), ..Options::new("c") }
}

fn signed_join(key: &NodeKey, room: &str) -> Value {
    let mut body = serde_json::to_value(proof(key, room)).unwrap();
    body["nodeId"] = key.node_id().into();
    body["room"] = room.into();
    body
}

/// R87
#[tokio::test]
async fn a_signed_join_opens_a_session_and_nothing_else_does() {
    let server = serve(signed()).await;
    let (a, id) = (key(1), key(1).node_id());
    let plain = json!({ "nodeId": id, "room": "lobby" });
    server.post("/webrtc/join", plain.clone()).await.check(401, "unauthenticated");
    let body = signed_join(&a, "lobby");
    let answer = server.post("/webrtc/join", body.clone()).await.json();
    let session = answer["session"].as_str().unwrap();
    assert!(answer["cursor"].is_u64());
    server.post("/webrtc/join", body).await.check(401, "unauthenticated");
    let mut forged = signed_join(&a, "lobby");
    forged["nodeId"] = key(2).node_id().into();
    server.post("/webrtc/join", forged).await.check(401, "unauthenticated");
    let other = json!({ "nodeId": key(2).node_id(), "room": "lobby" });
    server.post_as(session, "/webrtc/leave", other).await.check(403, "forbidden");
    assert_eq!(server.post_as(session, "/webrtc/leave", plain).await.status, 200);
    server.get("/webrtc/peers?room=lobby").await.check(401, "unauthenticated");
    server.get(&format!("/webrtc/signal?nodeId={id}")).await.check(401, "unauthenticated");
}

/// R63, R87
#[tokio::test]
async fn a_query_is_signed_or_shows_a_session_or_ends_the_connection() {
    let server = serve(signed()).await;
    let id = key(1).node_id();
    let mut refused = server.socket(&format!("?nodeId={id}&room=lobby")).await;
    assert_eq!(refused.closed().await.0, 4401);
    let p = proof(&key(1), "lobby");
    let query =
        format!("?nodeId={id}&room=lobby&pk={}&ts={}&nonce={}&sig={}", p.pk, p.ts, p.nonce, p.sig);
    let mut first = server.socket(&query).await;
    first.hears_nothing().await;
    let session = server.sign_in(&key(2)).await;
    let other = key(2).node_id();
    let mut second = server.socket(&format!("?nodeId={other}&room=lobby&session={session}")).await;
    assert_eq!(first.hear().await["peer"]["nodeId"], other.as_str());
    second.hears_nothing().await;
    // The same key again replaces.
    let p = proof(&key(1), "");
    let query = format!("?nodeId={id}&pk={}&ts={}&nonce={}&sig={}", p.pk, p.ts, p.nonce, p.sig);
    let _third = server.socket(&query).await;
    assert_eq!(first.closed().await.0, 4409);
}

/// R89
#[tokio::test]
async fn a_private_room_opens_to_its_owner_and_the_invited_alone() {
    let server = serve(signed()).await;
    let (owner, guest) = (key(1), key(2));
    let owners = server.sign_in(&owner).await;
    let guests = server.sign_in(&guest).await;
    let nobodys = json!({ "nodeId": owner.node_id(), "salt": "x", "peersMax": 0 });
    let refusal = server.post_as(&owners, "/webrtc/rooms", nobodys).await.check(400, "bad_request");
    assert!(refusal["message"].as_str().unwrap().starts_with("`peersMax`"), "{refusal}");
    let made = json!({ "nodeId": owner.node_id(), "salt": "x", "ban": [key(3).node_id()] });
    let made = server.post_as(&owners, "/webrtc/rooms", made).await.json();
    let room = made["room"].as_str().unwrap();
    let join = |key: &NodeKey| json!({ "nodeId": key.node_id(), "room": room });
    assert_eq!(server.post_as(&owners, "/webrtc/join", join(&owner)).await.status, 200);
    server.post_as(&guests, "/webrtc/join", join(&guest)).await.check(403, "forbidden");
    let far = u64::MAX >> 12;
    let issue =
        |to: &str, exp| Invite::issue(&owner, "standalone", room, to, exp, &[Can::Join]).encode();
    let with = |key: &NodeKey, invite: &str| {
        let mut body = join(key);
        body["invite"] = invite.into();
        body
    };
    let expired = with(&guest, &issue("*", 1));
    server.post_as(&guests, "/webrtc/join", expired).await.check(403, "forbidden");
    let others = with(&guest, &issue(&key(3).node_id(), far));
    server.post_as(&guests, "/webrtc/join", others).await.check(403, "forbidden");
    // A short code stands for the invite.
    let asked = json!({ "invite": issue(&guest.node_id(), far) });
    let code = server.post_as(&guests, "/webrtc/invite", asked).await.json();
    assert_eq!((&code["room"], &code["can"]), (&json!(room), &json!(["join"])));
    let by_code = with(&guest, code["code"].as_str().unwrap());
    let joined = server.post_as(&guests, "/webrtc/join", by_code).await.json();
    assert_eq!(joined["peers"][0]["nodeId"], owner.node_id());
    let banned = server.sign_in(&key(3)).await;
    let invited = with(&key(3), &issue("*", far));
    server.post_as(&banned, "/webrtc/join", invited).await.check(403, "forbidden");
    let path = format!("GET /webrtc/peers?room={room}");
    let bearer = format!("Bearer {banned}");
    let answer = server.ask(&path, &[("authorization", &bearer)], "").await;
    answer.check(403, "forbidden");
}

/// R89, R92
#[tokio::test]
async fn an_invite_has_one_code_and_who_asks_too_often_waits_while_others_do_not() {
    let mut options = signed();
    options.limits.joins = Rate { per_minute: 1, burst: 6 };
    let server = serve(options).await;
    let owner = key(1);
    let owners = server.sign_in(&owner).await;
    let made = json!({ "nodeId": owner.node_id(), "salt": "x" });
    let made = server.post_as(&owners, "/webrtc/rooms", made).await.json();
    let room = made["room"].as_str().unwrap();
    // An invite for as long as there is time.
    let invite = Invite::issue(&owner, "standalone", room, "*", u64::MAX, &[Can::Join]).encode();
    let asked = json!({ "invite": invite });
    let mut codes = Vec::new();
    for _ in 0..4 {
        let answer = server.post_as(&owners, "/webrtc/invite", asked.clone()).await.json();
        codes.push(answer["code"].as_str().unwrap().to_owned());
    }
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    let refusal = server.post_as(&owners, "/webrtc/invite", asked.clone()).await;
    assert!(refusal.check(429, "rate_limited")["retryAfterMs"].is_u64());
    let guests = server.sign_in(&key(2)).await;
    let answer = server.post_as(&guests, "/webrtc/invite", asked).await.json();
    assert_eq!(answer["code"], codes[0]);
}

/// A relay that lets in who shows a ticket, and notes who comes and goes.
struct Relay(Arc<Mutex<Vec<String>>>);

impl Admission for Relay {
    fn admit(&self, applicant: Applicant) -> PortFuture<'_, Result<(), Refused>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            match applicant.token.as_deref() {
                Some("ticket") => Ok(()),
                Some(_) => Err(Refused::Forbidden("the ticket is for another day".to_owned())),
                None => Err(Refused::PaymentRequired(json!({ "price": 7 }))),
            }
        })
    }
}

impl MediaControl for Relay {
    fn joined(&self, room: &str, node_id: &str) {
        self.0.lock().unwrap().push(format!("{node_id} joined {room}"));
    }
    fn left(&self, room: &str, node_id: &str) {
        self.0.lock().unwrap().push(format!("{node_id} left {room}"));
    }
}

#[tokio::test]
async fn a_streams_room_opens_to_whom_the_port_admits_and_the_port_hears() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut options = open();
    options.ports.admission = Arc::new(Relay(Arc::clone(&heard)));
    options.ports.media = Arc::new(Relay(Arc::clone(&heard)));
    let server = serve(options).await;
    let join = |invite: Option<&str>| json!({ "nodeId": "a", "room": "s:1", "invite": invite });
    let refusal = server.post("/webrtc/join", join(None)).await.check(402, "payment_required");
    assert_eq!(refusal["terms"], json!({ "price": 7 }));
    server.post("/webrtc/join", join(Some("old"))).await.check(403, "forbidden");
    assert_eq!(server.post("/webrtc/join", join(Some("ticket"))).await.status, 200);
    // What a query asks for and does not get ends the connection.
    assert_eq!(server.socket("?nodeId=c&room=s:1").await.closed().await.0, 4402);
    assert_eq!(server.socket("?nodeId=c&room=s:1&invite=old").await.closed().await.0, 4403);
    let mut c = server.socket("?nodeId=c&room=s:1&invite=ticket").await;
    c.hears_nothing().await;
    c.say(json!({ "type": "leave", "room": "s:1" })).await;
    c.hears_nothing().await;
    // Over a WebSocket what comes behind such a join waits for it.
    let (mut b, _) = server.hello("b", &[]).await;
    b.say(json!({ "type": "join", "room": "s:1", "invite": "ticket" })).await;
    b.say(json!({ "type": "offer", "to": "a", "room": "s:1", "sdp": "hi" })).await;
    b.say(json!({ "type": "ping" })).await;
    assert_eq!(b.hear().await["type"], "joined");
    assert_eq!(b.hear().await["type"], "pong");
    assert_eq!(server.poll("nodeId=a").await["signals"][0]["from"], "b");
    server.post("/webrtc/leave", json!({ "nodeId": "a", "room": "s:1" })).await;
    let want = ["a joined s:1", "c joined s:1", "c left s:1", "b joined s:1", "a left s:1"];
    assert_eq!(*heard.lock().unwrap(), want);
}

/// R98
#[tokio::test]
async fn a_connection_whose_query_names_a_full_room_is_closed() {
    let mut options = open();
    options.limits.room_peers_max = 1;
    let server = serve(options).await;
    server.join("a", "lobby").await;
    assert_eq!(server.socket("?nodeId=b&room=lobby").await.closed().await.0, 4403);
    let (mut b, _) = server.hello("b", &[]).await;
    b.say(json!({ "type": "join", "room": "lobby" })).await;
    assert_eq!(b.hear().await["code"], "room_full");
    b.hears_nothing().await;
}
