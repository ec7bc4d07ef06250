//! Rooms that are not for everybody, and signals that do not leave theirs.

use coordinator::identity::{Can, Invite};
use serde_json::json;

use super::{
    options::{NETWORK, signed},
    party::{Node, Pair, post_as, refused},
    world::{World, now_ms},
};

const BOTH: &[Can] = &[Can::Join, Can::Invite];

/// R89
#[test]
fn a_private_room_opens_to_its_owner_and_to_invites_that_hold() {
    let world = World::of(signed());
    let mut pair = Pair::join(&world);
    let (owner, friend, guest, eve) = (Node::new(), Node::new(), Node::new(), Node::new());
    let session = owner.joined(&world, "global");
    let request = json!({"nodeId": owner.id, "salt": "s1", "ban": [eve.id]});
    let (status, made) = post_as(&world, &session, "/webrtc/rooms", &request);
    assert_eq!(status, 200, "{made}");
    let room = made["room"].as_str().unwrap();
    assert!(room.starts_with("p:") && room.len() == 34, "{room}");
    owner.joined(&world, room);

    let join = |node: &Node, invite: Option<&str>| {
        let mut body = node.join(room);
        if let Some(invite) = invite {
            body["invite"] = json!(invite);
        }
        world.post("/webrtc/join", &body.to_string())
    };
    let soon = now_ms() + 60_000;
    let issue = |to: &str, exp, can: &[Can]| Invite::issue(&owner.key, NETWORK, room, to, exp, can);
    refused(join(&friend, None), 403, "forbidden");
    refused(join(&friend, Some("si1.nonsense")), 400, "bad_request");
    // Expired.
    let old = issue(&friend.id, now_ms() - 1, BOTH).encode();
    refused(join(&friend, Some(&old)), 403, "forbidden");
    // Somebody else's, and one that only lets invite.
    let others = issue(&guest.id, soon, BOTH).encode();
    refused(join(&friend, Some(&others)), 403, "forbidden");
    let door = issue(&friend.id, soon, &[Can::Invite]).encode();
    refused(join(&friend, Some(&door)), 403, "forbidden");
    // Made by a guest for herself.
    let forged = Invite::issue(&eve.key, NETWORK, room, &eve.id, soon, BOTH).encode();
    refused(join(&eve, Some(&forged)), 403, "forbidden");
    // Widened by who hands it on: longer, or more.
    let to_friend = || issue(&friend.id, soon, BOTH);
    let longer = to_friend().extend(&friend.key, NETWORK, &guest.id, soon + 1, &[Can::Join]);
    refused(join(&guest, Some(&longer.encode())), 403, "forbidden");
    let narrow = issue(&friend.id, soon, &[Can::Invite]);
    let more = narrow.extend(&friend.key, NETWORK, &guest.id, soon, BOTH);
    refused(join(&guest, Some(&more.encode())), 403, "forbidden");
    // Banned, though invited.
    let to_eve = issue(&eve.id, soon, BOTH).encode();
    refused(join(&eve, Some(&to_eve)), 403, "forbidden");
    // And those that hold.
    assert_eq!(join(&friend, Some(&to_friend().encode())).0, 200);
    let on = to_friend().extend(&friend.key, NETWORK, &guest.id, soon, &[Can::Join]);
    assert_eq!(join(&guest, Some(&on.encode())).0, 200);
    pair.exchange();
}

/// R89
#[test]
fn a_private_room_is_made_in_its_owners_session_only() {
    let world = World::of(signed());
    let (owner, eve) = (Node::new(), Node::new());
    owner.joined(&world, "global");
    let of_eve = eve.joined(&world, "global");
    let request = json!({"nodeId": owner.id, "salt": "s1"});
    refused(post_as(&world, &of_eve, "/webrtc/rooms", &request), 403, "forbidden");
    refused(world.post("/webrtc/rooms", &request.to_string()), 401, "unauthenticated");
    // Nobody makes one by its name.
    let name = format!("p:{}", "a".repeat(32));
    let (status, answer) = world.post("/webrtc/join", &eve.join(&name).to_string());
    assert!(matches!(status, 403 | 404), "{answer}");
}

/// R89
#[test]
fn a_signal_across_rooms_is_refused_in_either_direction() {
    let world = World::of(signed());
    let mut pair = Pair::join(&world);
    let (alice, bob) = (Node::new(), Node::new());
    let session = alice.joined(&world, "room-a");
    let mut bobs = bob.socket(&world, "room-b");
    let signal = |room: &str| {
        let body =
            json!({"from": alice.id, "to": bob.id, "room": room, "type": "offer", "sdp": "x"});
        post_as(&world, &session, "/webrtc/signal", &body)
    };
    refused(signal("room-b"), 403, "forbidden");
    refused(signal("room-a"), 404, "unknown_peer");
    // Nor into a room that she has left.
    let leave = json!({"nodeId": alice.id, "room": "room-a"});
    assert_eq!(post_as(&world, &session, "/webrtc/leave", &leave).0, 200);
    let (status, answer) = signal("room-a");
    assert!(matches!(status, 403 | 404), "{answer}");
    bobs.is_quiet();
    pair.exchange();
}
