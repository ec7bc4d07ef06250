//! Who somebody is, and what somebody else says in his name.

use coordinator::identity::{FingerprintError, check_fingerprint};
use serde_json::json;

use super::{
    options::{NETWORK, open, required, signed},
    party::{Node, Pair, get_as, post_as, refused, with_proof},
    world::{World, now_ms},
};

/// R87
#[test]
fn a_forged_id_is_unauthenticated() {
    let world = World::of(signed());
    let mut pair = Pair::join(&world);
    let (victim, eve) = (Node::new(), Node::new());
    let join = |body: &serde_json::Value| world.post("/webrtc/join", &body.to_string());
    // Her own key and signature under his name.
    refused(join(&with_proof(&victim.id, "global", &eve.proof("global"))), 401, "unauthenticated");
    // His key, her signature.
    let mut proof = eve.proof("global");
    proof.pk = victim.key.public().to_string();
    refused(join(&with_proof(&victim.id, "global", &proof)), 401, "unauthenticated");
    // Nothing at all, and a name that no key has.
    let bare = json!({"nodeId": victim.id, "room": "global", "metadata": {}});
    refused(join(&bare), 401, "unauthenticated");
    refused(join(&json!({"nodeId": "eve", "room": "global"})), 401, "unauthenticated");
    // Another network's signature.
    let proof = eve.key.prove_join("elsewhere", "global", now_ms(), [1; 16]);
    refused(join(&with_proof(&eve.id, "global", &proof)), 401, "unauthenticated");
    let query = format!("?nodeId={}&room=global", victim.id);
    assert_eq!(world.closed(&query), 4401);
    // Where everybody may come, a name that is a key's is still that key's alone.
    let free = World::of(open());
    refused(free.post("/webrtc/join", &bare.to_string()), 401, "unauthenticated");
    assert_eq!(free.closed(&query), 4401);
    // His own key opens the door.
    victim.joined(&world, "global");
    pair.exchange();
}

/// R87
#[test]
fn a_replayed_join_is_unauthenticated() {
    let world = World::of(signed());
    let mut pair = Pair::join(&world);
    let node = Node::new();
    let body = node.join("global").to_string();
    assert_eq!(world.post("/webrtc/join", &body).0, 200);
    refused(world.post("/webrtc/join", &body), 401, "unauthenticated");
    // The same words over the other door.
    let query = node.query("learning");
    drop(world.socket(&query));
    assert_eq!(world.closed(&query), 4401);
    // Words that nobody has heard yet, but of another minute.
    for ts in [now_ms() - 61_000, now_ms() + 90_000] {
        let proof = node.key.prove_join(NETWORK, "global", ts, [3; 16]);
        let late = with_proof(&node.id, "global", &proof).to_string();
        refused(world.post("/webrtc/join", &late), 401, "unauthenticated");
    }
    // Signed for another room.
    let other = with_proof(&node.id, "learning", &node.proof("global")).to_string();
    refused(world.post("/webrtc/join", &other), 401, "unauthenticated");
    pair.exchange();
}

/// R87
#[test]
fn a_spoofed_from_is_forbidden_and_never_arrives() {
    let world = World::of(signed());
    let (alice, bob, eve) = (Node::new(), Node::new(), Node::new());
    let mut bobs = bob.socket(&world, "global");
    let of_alice = alice.joined(&world, "global");
    assert_eq!(bobs.next()["peer"]["nodeId"], alice.id);
    let of_eve = eve.joined(&world, "global");
    assert_eq!(bobs.next()["peer"]["nodeId"], eve.id);
    let signal = json!({
        "from": alice.id, "to": bob.id, "room": "global", "type": "offer", "sdp": "x"
    });
    refused(post_as(&world, &of_eve, "/webrtc/signal", &signal), 403, "forbidden");
    refused(world.post("/webrtc/signal", &signal.to_string()), 401, "unauthenticated");
    refused(post_as(&world, &"0".repeat(64), "/webrtc/signal", &signal), 401, "unauthenticated");
    // Her post is not his, nor may she end his stay.
    let poll = format!("/webrtc/signal?nodeId={}&room=global&timeout=0", alice.id);
    refused(get_as(&world, &of_eve, &poll), 403, "forbidden");
    refused(world.get(&poll), 401, "unauthenticated");
    let leave = json!({"nodeId": alice.id, "room": "global"});
    refused(post_as(&world, &of_eve, "/webrtc/leave", &leave), 403, "forbidden");
    refused(world.post("/webrtc/leave", &leave.to_string()), 401, "unauthenticated");
    bobs.is_quiet();
    // Over a socket the name is the connection's; a message that names another is refused.
    let mut eves = eve.socket(&world, "learning");
    let mut message = json!({
        "type": "offer", "from": alice.id, "to": bob.id, "room": "global", "sdp": "y"
    });
    eves.send(&message.to_string());
    assert_eq!(eves.next()["type"], "error");
    message.as_object_mut().unwrap().remove("from");
    eves.send(&message.to_string());
    let seen = bobs.next();
    assert_eq!((&seen["type"], &seen["from"]), (&json!("offer"), &json!(eve.id)), "{seen}");
    assert_eq!(post_as(&world, &of_alice, "/webrtc/signal", &signal).0, 200, "his own word");
    assert_eq!(bobs.next()["from"], alice.id);
}

/// R87
#[test]
fn a_connection_is_replaced_by_its_own_key_alone() {
    let world = World::of(signed());
    let node = Node::new();
    let mut first = node.socket(&world, "global");
    let query = format!("?nodeId={}&room=global&session={}", node.id, "0".repeat(64));
    assert_eq!(world.closed(&query), 4401);
    first.is_quiet();
    let mut second = node.socket(&world, "global");
    match first.event() {
        super::world::Event::Closed(4409, _) => {}
        other => panic!("{other:?}"),
    }
    second.is_quiet();
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\na=fingerprint:sha-256 AA:BB:CC\r\n";

/// R87
#[test]
fn a_fingerprint_that_the_coordinator_swaps_is_seen_by_the_receiver() {
    let world = World::of(required());
    let mut pair_room = (Node::new(), Node::new());
    let (alice, bob) = (&mut pair_room.0, &mut pair_room.1);
    let mut bobs = bob.socket(&world, "global");
    let mut alices = alice.socket(&world, "global");
    bobs.next_of("peer-joined");
    // Without its signature no offer is taken in this mode.
    let bare = json!({"type": "offer", "to": bob.id, "room": "global", "sdp": SDP});
    alices.send(&bare.to_string());
    assert_eq!(alices.next()["type"], "error");
    let fp_sig = alice.key.sign_fingerprint(&bob.id, "global", SDP).unwrap();
    let pk = alice.key.public().to_string();
    let of_alice = alice.joined(&world, "learning");
    let offer = json!({
        "from": alice.id, "to": bob.id, "room": "global", "type": "offer",
        "payload": {"sdp": SDP}, "fpSig": fp_sig, "pk": pk,
    });
    let mut cut = offer.clone();
    cut.as_object_mut().unwrap().remove("fpSig");
    assert!((400..=403).contains(&post_as(&world, &of_alice, "/webrtc/signal", &cut).0));
    assert_eq!(post_as(&world, &of_alice, "/webrtc/signal", &offer).0, 200);
    let seen = bobs.next_of("offer");
    let (sdp, room) = (seen["sdp"].as_str().unwrap(), seen["room"].as_str().unwrap());
    let check = |from: &str, to: &str, sdp: &str, pk: &str| {
        check_fingerprint(from, to, room, sdp, pk, &fp_sig).map(|_| ())
    };
    assert_eq!(check(&alice.id, &bob.id, sdp, &pk), Ok(()), "an honest coordinator");
    // A hostile one puts its own certificate, its own key, or both into what it relays.
    let swapped = sdp.replace("AA:BB", "EE:EE");
    assert_eq!(check(&alice.id, &bob.id, &swapped, &pk), Err(FingerprintError::Signature));
    let eve = Node::new();
    let eves_pk = eve.key.public().to_string();
    assert_eq!(check(&alice.id, &bob.id, &swapped, &eves_pk), Err(FingerprintError::OtherKey));
    let eves = eve.key.sign_fingerprint(&bob.id, room, &swapped).unwrap();
    let forged = check_fingerprint(&alice.id, &bob.id, room, &swapped, &eves_pk, &eves);
    assert_eq!(forged.map(|_| ()), Err(FingerprintError::OtherKey));
    // What was signed for somebody else, or stands twice, vouches for nothing.
    assert_eq!(check(&alice.id, &eve.id, sdp, &pk), Err(FingerprintError::Signature));
    let both = format!("{sdp}a=fingerprint:sha-256 EE:EE:EE\r\n");
    assert_eq!(check(&alice.id, &bob.id, &both, &pk), Err(FingerprintError::Several));
}
