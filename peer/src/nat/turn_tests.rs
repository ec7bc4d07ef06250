use md5::{Digest as _, Md5};
use proptest::prelude::*;

use super::*;

const REALM: &str = "example";
const PEER: &str = "192.0.2.9:4000";

fn client(transport: Transport, now: Instant) -> Turn {
    let mut count = 0_u8;
    let next_id = move || {
        count = count.wrapping_add(1);
        [count; 12]
    };
    Turn::new(transport, "user".into(), "pass".into(), next_id, now)
}

fn key() -> [u8; 16] {
    Md5::digest(b"user:example:pass").into()
}

/// The one message that is to be sent.
#[track_caller]
fn sent(turn: &mut Turn) -> Vec<u8> {
    let bytes = turn.poll_transmit().expect("a message is to be sent");
    assert_eq!(turn.poll_transmit(), None, "only one");
    bytes
}

#[track_caller]
fn request(turn: &mut Turn) -> (Method, TransactionId, bool) {
    let bytes = sent(turn);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.class, Class::Request);
    (message.method, message.id, message.is_signed_by(&key()))
}

fn challenge(method: Method, id: TransactionId, code: u8, nonce: &[u8]) -> Vec<u8> {
    Builder::new(method, Class::Error, id)
        .attribute(Attribute::ErrorCode, &[0, 0, 4, code])
        .attribute(Attribute::Realm, REALM.as_bytes())
        .attribute(Attribute::Nonce, nonce)
        .finish(None)
}

fn success(method: Method, id: TransactionId) -> Vec<u8> {
    let relayed = "198.51.100.1:50000".parse().unwrap();
    Builder::new(method, Class::Success, id)
        .address(Attribute::XorRelayedAddress, relayed)
        .attribute(Attribute::Lifetime, &600_u32.to_be_bytes())
        .finish(Some(&key()))
}

fn allocated(transport: Transport, now: Instant) -> Turn {
    let mut turn = client(transport, now);
    let (method, id, is_signed) = request(&mut turn);
    assert_eq!((method, is_signed), (Method::Allocate, false));
    turn.handle_message(&challenge(method, id, 1, b"nonce"), now);
    let (method, id, is_signed) = request(&mut turn);
    assert_eq!((method, is_signed), (Method::Allocate, true), "the challenge is answered");
    turn.handle_message(&success(method, id), now);
    assert!(matches!(turn.poll_event(), Some(Event::Allocated { .. })));
    turn
}

fn permitted(transport: Transport, now: Instant) -> Turn {
    let mut turn = allocated(transport, now);
    turn.permit(PEER.parse::<SocketAddr>().unwrap().ip(), now);
    let (method, id, _) = request(&mut turn);
    assert_eq!(method, Method::CreatePermission);
    turn.handle_message(&success(method, id), now);
    turn
}

#[test]
fn a_datagram_waits_for_its_permission_then_goes_by_indication_then_by_channel() {
    let now = Instant::now();
    let peer: SocketAddr = PEER.parse().unwrap();
    let mut turn = allocated(Transport::Tcp, now);
    turn.send(peer, b"hello", now);
    let (method, id, is_signed) = request(&mut turn);
    assert_eq!((method, is_signed), (Method::CreatePermission, true));
    turn.handle_message(&success(method, id), now);
    let bytes = sent(&mut turn);
    let indication = Message::parse(&bytes).unwrap();
    assert_eq!(indication.method, Method::Send);
    assert_eq!(indication.attribute(Attribute::Data), Some(&b"hello"[..]));

    let data = Builder::new(Method::Data, Class::Indication, [9; 12])
        .address(Attribute::XorPeerAddress, peer)
        .attribute(Attribute::Data, b"back");
    turn.handle_message(&data.finish(None), now);
    assert_eq!(turn.poll_event(), Some(Event::Data { peer, bytes: b"back".to_vec() }));
    let (method, id, _) = request(&mut turn);
    assert_eq!(method, Method::ChannelBind);
    turn.handle_message(&success(method, id), now);
    turn.send(peer, b"again", now);
    // Padded to four bytes in a stream.
    assert_eq!(sent(&mut turn), b"\x40\x00\x00\x05again\0\0\0");
    turn.handle_message(b"\x40\x00\x00\x02yo", now);
    assert_eq!(turn.poll_event(), Some(Event::Data { peer, bytes: b"yo".to_vec() }));
}

#[test]
fn what_is_held_is_renewed_before_it_ends() {
    let mut now = Instant::now();
    let mut turn = permitted(Transport::Udp, now);
    let mut renewed = Vec::new();
    let start = now;
    while now < start + Duration::from_secs(1300) {
        now = turn.poll_timeout().unwrap();
        turn.handle_timeout(now);
        while let Some(bytes) = turn.poll_transmit() {
            let message = Message::parse(&bytes).unwrap();
            renewed.push((message.method, (now - start).as_secs()));
            turn.handle_message(&success(message.method, message.id), now);
        }
    }
    assert_eq!(
        renewed,
        [
            (Method::CreatePermission, 240),
            (Method::CreatePermission, 480),
            (Method::Refresh, 540),
            (Method::CreatePermission, 720),
            (Method::CreatePermission, 960),
            (Method::Refresh, 1080),
            (Method::CreatePermission, 1200),
            (Method::CreatePermission, 1440),
        ]
    );
}

#[test]
fn a_stale_nonce_is_replaced() {
    let now = Instant::now();
    let mut turn = allocated(Transport::Udp, now);
    turn.permit([192, 0, 2, 1].into(), now);
    let (method, id, _) = request(&mut turn);
    turn.handle_message(&challenge(method, id, 38, b"fresh"), now);
    let bytes = sent(&mut turn);
    let again = Message::parse(&bytes).unwrap();
    assert_eq!(again.method, Method::CreatePermission);
    assert_eq!(again.attribute(Attribute::Nonce), Some(&b"fresh"[..]));
}

#[test]
fn a_wrong_password_ends_in_an_error_and_not_in_a_loop() {
    let now = Instant::now();
    let mut turn = client(Transport::Udp, now);
    for _ in 0..3 {
        let (method, id, _) = request(&mut turn);
        turn.handle_message(&challenge(method, id, 1, b"nonce"), now);
    }
    assert_eq!(turn.poll_event(), Some(Event::Failed(TurnError::Unauthorized)));
    assert_eq!((turn.poll_transmit(), turn.poll_timeout()), (None, None));
}

#[test]
fn a_silent_server_is_asked_four_times() {
    let mut now = Instant::now();
    let mut turn = client(Transport::Udp, now);
    let mut sends = 0;
    while let Some(at) = turn.poll_timeout() {
        sends += std::iter::from_fn(|| turn.poll_transmit()).count();
        now = at;
        turn.handle_timeout(now);
    }
    assert_eq!(sends, 4);
    assert_eq!(turn.poll_event(), Some(Event::Failed(TurnError::Silent)));
}

#[test]
fn a_forged_success_changes_nothing() {
    let now = Instant::now();
    let mut turn = client(Transport::Udp, now);
    let (method, id, _) = request(&mut turn);
    turn.handle_message(&challenge(method, id, 1, b"nonce"), now);
    let (method, id, _) = request(&mut turn);
    let forged = Builder::new(method, Class::Success, id)
        .address(Attribute::XorRelayedAddress, PEER.parse().unwrap());
    turn.handle_message(&forged.clone().finish(None), now);
    turn.handle_message(&forged.finish(Some(b"another key")), now);
    assert_eq!(turn.poll_event(), None);
    turn.handle_message(&success(method, id), now);
    assert!(matches!(turn.poll_event(), Some(Event::Allocated { .. })));
}

#[test]
fn one_peer_that_is_forbidden_does_not_end_the_rest() {
    let now = Instant::now();
    let mut turn = allocated(Transport::Udp, now);
    turn.send("203.0.113.5:1".parse().unwrap(), b"x", now);
    let (method, id, _) = request(&mut turn);
    let refused = Builder::new(method, Class::Error, id)
        .attribute(Attribute::ErrorCode, b"\0\0\x04\x03Forbidden IP");
    turn.handle_message(&refused.finish(None), now);
    assert_eq!(turn.poll_event(), None);
    assert!(turn.poll_timeout().is_some(), "the allocation is still held");
}

proptest! {
    #[test]
    fn junk_ends_nothing(
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
        heads in prop::collection::vec(prop::sample::select(vec![0x00_u8, 0x01, 0x40, 0x80]), 20),
    ) {
        let now = Instant::now();
        let mut turn = allocated(Transport::Udp, now);
        for (junk, head) in junk.iter().zip(heads) {
            turn.handle_message(&[&[head], &junk[..]].concat(), now);
            turn.handle_message(junk, now);
        }
        prop_assert_eq!(turn.poll_event(), None);
        turn.permit([192, 0, 2, 1].into(), now);
        prop_assert!(turn.poll_transmit().is_some());
    }
}
