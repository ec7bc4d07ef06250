//! A body that is understood is written back as the same request; an invite that is read can only be
//! believed where its owner signed it.
#![no_main]

use coordinator_fuzz::{
    identity::{Invite, NodeKey, sdp_fingerprint},
    wire::{
        AuthRequest, InviteRequest, JoinRequest, LeaveRequest, PollAnswer, RoomRequest,
        SignalRequest,
    },
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

fn understand<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    body: &[u8],
) -> Option<T> {
    let request: T = serde_json::from_slice(body).ok()?;
    let written = serde_json::to_string(&request).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<T>(&written).expect("and read again"), request);
    Some(request)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    match first % 8 {
        0 => {
            if let Some(JoinRequest { node_id, room, proof: Some(proof), .. }) = understand(body) {
                let now = proof.ts;
                let believed = proof.check("network", &node_id, &room, now, 60_000);
                if let Ok((key, _)) = believed {
                    assert_eq!(key.node_id(), node_id, "by the key of its own name alone");
                }
            }
        }
        1 => {
            if let Some(SignalRequest { payload: Some(payload), .. }) = understand(body)
                && let Some(sdp) = payload.sdp
                && let Ok(one) = sdp_fingerprint(&sdp)
            {
                assert!(one.contains(' '), "{one}");
            }
        }
        2 => drop(understand::<LeaveRequest>(body)),
        3 => drop(understand::<AuthRequest>(body)),
        4 => drop(understand::<RoomRequest>(body)),
        5 => {
            if let Some(InviteRequest { invite }) = understand(body) {
                check(&invite);
            }
        }
        6 => drop(understand::<PollAnswer>(body)),
        _ => {
            if let Ok(text) = std::str::from_utf8(body) {
                check(text);
            }
        }
    }
});

fn check(text: &str) {
    let Ok(invite) = Invite::decode(text) else { return };
    let again = Invite::decode(&invite.encode()).expect("what was read can be written");
    assert_eq!(again, invite);
    // Nobody here knows this key: whatever was made up opens nothing of its owner's.
    let owner = NodeKey::from_seed([0xa5; 32]).public();
    assert!(invite.check("network", invite.room(), &owner, 0).is_err());
}
