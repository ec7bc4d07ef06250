//! A whole relay on loopback sockets with whole WebRTC endpoints around it, on both links.

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use sfu::io::{Endpoint, LinkKind};
use sfu::ports::{CloseReason, Event, Gate, SrtpProfile};
use sfu::session::fingerprint::FingerprintError;
use sfu::{OfferError, Relay, RelayConfig, Runs, generate_certificate, offer_fingerprint};
use support::rig::{Rig, STREAM, number_of, send, vp8};
use support::{Peer, both_links, until};

/// R6 in part, R7: both shards' subscribers get what was published, bit for bit.
#[test]
fn what_is_published_reaches_every_open_viewer() {
    both_links(|link| {
        for shards in [1, 2] {
            let mut rig = Rig::new(link, shards);
            let (mut publisher, _) = rig.publish();
            let (mut one, _, slot_one) = rig.watch();
            let (mut two, _, slot_two) = rig.watch();
            let (mut closed, _, _) = rig.watch();
            rig.wait_connected(&mut [&mut publisher, &mut one, &mut two, &mut closed]);
            rig.gates.set(slot_one, Gate::OPEN);
            rig.gates.set(slot_two, Gate::OPEN);
            let mut sent = 0;
            until(
                "300 packets at both viewers",
                &mut [&mut publisher, &mut one, &mut two, &mut closed],
                |peers| {
                    rig.pump();
                    // A window of outstanding packets, so that no socket buffer overflows.
                    let got = peers[1].packets.len().min(peers[2].packets.len()) as u64;
                    if sent < got + 60 {
                        send(peers[0], sent);
                        sent += 1;
                    }
                    peers[1].packets.len() >= 300 && peers[2].packets.len() >= 300
                },
            );
            for viewer in [&one, &two] {
                let first = number_of(&viewer.packets[0].payload);
                assert_eq!(first % 30, 0, "it starts at a keyframe");
                for (at, packet) in viewer.packets.iter().enumerate() {
                    let (marker, payload) = vp8(first + at as u64);
                    assert_eq!((packet.header.marker, &*packet.payload), (marker, &payload[..]));
                }
            }
            assert_eq!(closed.packets.len(), 0, "nobody opened that gate");
            let gcm = |event: &Event| {
                matches!(event, Event::Connected { profile: SrtpProfile::AEAD_AES_256_GCM, .. })
            };
            assert_eq!(rig.count(gcm), 4, "as DTLS 1.2 server we choose GCM");
        }
    });
}

#[test]
fn losses_on_the_way_to_a_viewer_are_mended() {
    both_links(|link| {
        let mut rig = Rig::new(link, 1);
        let (mut publisher, _) = rig.publish();
        let (mut viewer, _, slot) = rig.watch();
        rig.wait_connected(&mut [&mut publisher, &mut viewer]);
        rig.gates.set(slot, Gate::OPEN);
        viewer.drop_every = 20;
        rig.wait_for_a_row_of_300(&mut publisher, &mut viewer);
    });
}

#[test]
fn losses_on_the_way_from_the_publisher_are_mended() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut publisher, _) = rig.publish();
    let (mut viewer, _, slot) = rig.watch();
    rig.wait_connected(&mut [&mut publisher, &mut viewer]);
    rig.gates.set(slot, Gate::OPEN);
    publisher.lose_every = 20;
    rig.wait_for_a_row_of_300(&mut publisher, &mut viewer);
    until("a snapshot that shows what was asked for", &mut [&mut publisher, &mut viewer], |_| {
        rig.pump();
        rig.counter("sutantra_sfu_nack_sent_packets_total") >= 10
    });
}

/// R34 in part: the gate of a viewer that watches is closed and opened.
#[test]
fn closing_the_gate_stops_the_media_and_opening_it_resumes_at_a_keyframe() {
    let mut rig = Rig::new(LinkKind::Epoll, 2);
    let (mut publisher, _) = rig.publish();
    let (mut viewer, _, slot) = rig.watch();
    rig.wait_connected(&mut [&mut publisher, &mut viewer]);
    let mut sent = 0;
    for round in 0..5 {
        rig.gates.set(slot, Gate::OPEN);
        let mut got = Vec::new();
        until("media with an open gate", &mut [&mut publisher, &mut viewer], |peers| {
            rig.pump();
            if sent % 3 == 0 || peers[1].packets.is_empty() || got.len() < 30 {
                send(peers[0], sent);
                sent += 1;
            }
            got.extend(peers[1].packets.drain(..));
            got.len() >= 30
        });
        assert_eq!(number_of(&got[0].payload) % 30, 0, "round {round} starts at a keyframe");
        rig.gates.set(slot, Gate::CLOSED);
        let stale = rig.counter("sutantra_sfu_gate_commands_total");
        until("the command to be obeyed", &mut [&mut publisher, &mut viewer], |_| {
            rig.counter("sutantra_sfu_gate_commands_total") > stale
        });
        // What was in flight arrives; after that nothing may.
        let mut quiet_since = Instant::now();
        until("silence", &mut [&mut publisher, &mut viewer], |peers| {
            if peers[1].packets.drain(..).count() > 0 {
                quiet_since = Instant::now();
            }
            quiet_since.elapsed() > Duration::from_millis(20)
        });
        for _ in 0..60 {
            send(&mut publisher, sent);
            sent += 1;
        }
        let started = Instant::now();
        until("the packets to pass by", &mut [&mut publisher, &mut viewer], |_| {
            started.elapsed() > Duration::from_millis(50)
        });
        assert_eq!(viewer.packets.len(), 0, "round {round}");
    }
}

#[test]
fn a_wrong_fingerprint_is_refused_before_any_media() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let mut peer = Peer::viewer();
    let at = peer.offer.find("a=fingerprint:sha-256 ").expect("an offer has one") + 22;
    let mut forged = peer.offer.clone();
    let digit = if &forged[at..=at] == "0" { "1" } else { "0" };
    forged.replace_range(at..=at, digit);
    let accepted = rig.relay.subscribe(STREAM, &forged).expect("the SDP itself is good");
    peer.answer(&accepted.answer);
    let reason = rig.wait_closed(&mut [&mut peer], accepted.session);
    assert_eq!(reason, CloseReason::Fingerprint);
    assert_eq!(rig.count(|event| matches!(event, Event::Connected { .. })), 0);
}

#[test]
fn an_offer_with_two_fingerprints_is_refused() {
    let rig = Rig::new(LinkKind::Epoll, 1);
    let offer = Peer::viewer().offer;
    let line = offer.lines().find(|line| line.starts_with("a=fingerprint:")).expect("has one");
    let other = Peer::viewer().offer;
    let another = other.lines().find(|line| line.starts_with("a=fingerprint:")).expect("has one");
    assert_ne!(line, another);
    // At session level, at media level, before or after: whichever would have been believed.
    let first = offer.replacen(line, &format!("{another}\r\n{line}"), 1);
    for twice in [first, format!("{offer}{another}\r\n")] {
        let refused = rig.relay.subscribe(STREAM, &twice).map(|_| ());
        assert_eq!(refused, Err(OfferError::Fingerprint(FingerprintError::Ambiguous)));
        assert_eq!(offer_fingerprint(&twice), None);
    }
    assert!(rig.relay.subscribe(STREAM, &format!("{offer}{line}\r\n")).is_ok(), "twice the same");
}

/// What [`offer_fingerprint`] returns is what the certificate is held against, though a reading of
/// the session's own lines alone would hold it against another hash.
#[test]
fn the_certificate_is_held_against_the_fingerprint_that_the_offer_is_said_to_have() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let mut peer = Peer::viewer();
    let decoy = "a=fingerprint:sha-1 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00";
    let own = peer.offer.lines().find(|line| line.starts_with("a=fingerprint:")).expect("has one");
    let bare = peer.offer.replace(&format!("{own}\r\n"), "");
    let offer = bare.replacen("t=0 0\r\n", &format!("t=0 0\r\n{decoy}\r\n"), 1);
    let offer = format!("{offer}{own}\r\n");
    assert_eq!(offer_fingerprint(&offer), offer_fingerprint(&peer.offer));
    let accepted = rig.relay.subscribe(STREAM, &offer).expect("a good offer");
    peer.answer(&accepted.answer);
    rig.wait_connected(&mut [&mut peer]);
}

#[test]
fn the_relay_shows_its_fingerprint_in_every_answer() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (viewer, _, _) = rig.watch();
    let (publisher, _) = rig.publish();
    for peer in [&viewer, &publisher] {
        assert_eq!(offer_fingerprint(peer.remote_sdp()), Some(rig.relay.fingerprint()));
    }
}

#[test]
fn a_forged_check_and_garbage_from_strangers_change_nothing() {
    let mut rig = Rig::new(LinkKind::Epoll, 2);
    let (mut publisher, _) = rig.publish();
    let (mut viewer, _, slot) = rig.watch();
    rig.wait_connected(&mut [&mut publisher, &mut viewer]);
    rig.gates.set(slot, Gate::OPEN);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let relay = rig.relay.endpoints()[0].advertise;
    // A check with the viewer's username, as anybody who saw the answer could send it, without the
    // password's integrity; then DTLS and media from the same address.
    let ufrag = viewer.remote_ufrag();
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.extend_from_slice(&[9; 12]);
    let name = format!("{ufrag}:abcd");
    check.extend_from_slice(&[0, 6, 0, name.len() as u8]);
    check.extend_from_slice(name.as_bytes());
    while check.len() % 4 != 0 {
        check.push(0);
    }
    let len_bytes = (check.len() - 20) as u16;
    check[2..4].copy_from_slice(&len_bytes.to_be_bytes());
    for datagram in [&check[..], &[22, 254, 253, 0, 0], &[0x80; 60], &[0xff; 9], &[200]] {
        stranger.send_to(datagram, relay).expect("loopback");
    }
    let mut sent = 0;
    until("media as before", &mut [&mut publisher, &mut viewer], |peers| {
        rig.pump();
        send(peers[0], sent);
        sent += 1;
        peers[1].packets.len() > 100
    });
    stranger.set_nonblocking(true).expect("a socket option");
    assert!(stranger.recv_from(&mut [0; 100]).is_err(), "the stranger got no answer");
    until("the drops to show", &mut [&mut publisher, &mut viewer], |_| {
        rig.pump();
        rig.counter("sutantra_sfu_dropped_unknown_path_datagrams_total") >= 2
    });
}

#[test]
fn a_peer_that_leaves_is_noticed_and_its_place_is_used_again() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, slot) = rig.watch();
    rig.wait_connected(&mut [&mut viewer]);
    viewer.close();
    assert_eq!(rig.wait_closed(&mut [&mut viewer], session), CloseReason::Peer);
    let (_, _, again) = rig.watch();
    assert_eq!(again.index, slot.index);
    assert_ne!(again.generation, slot.generation, "old commands must not reach the new holder");
}

#[test]
fn a_peer_that_vanishes_is_noticed_by_its_silence() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, _) = rig.watch();
    let mut other = Peer::viewer();
    rig.wait_connected(&mut [&mut viewer]);
    drop(viewer);
    assert_eq!(rig.wait_closed(&mut [&mut other], session), CloseReason::Silence);
}

#[test]
fn control_and_drain_say_goodbye() {
    both_links(|link| {
        let mut rig = Rig::new(link, 2);
        let (mut one, session, _) = rig.watch();
        let (mut two, drained, _) = rig.watch();
        rig.wait_connected(&mut [&mut one, &mut two]);
        rig.relay.close(session, CloseReason::Control);
        assert_eq!(rig.wait_closed(&mut [&mut one, &mut two], session), CloseReason::Control);
        until("close_notify", &mut [&mut one], |peers| peers[0].closed);
        rig.relay.drain();
        assert_eq!(rig.wait_closed(&mut [&mut two], drained), CloseReason::Drain);
        until("close_notify", &mut [&mut two], |peers| peers[0].closed);
        let refused = rig.relay.subscribe(STREAM, &Peer::viewer().offer);
        assert_eq!(refused.map(|_| ()), Err(OfferError::Draining));
    });
}

#[test]
fn offers_that_cannot_be_served_are_refused_by_name() {
    let rig = Rig::new(LinkKind::Epoll, 1);
    let refused = |result: Result<sfu::Accepted, OfferError>| result.map(|_| ()).unwrap_err();
    let wrong_way = refused(rig.relay.publish(STREAM, &Peer::viewer().offer));
    assert_eq!(wrong_way, OfferError::WrongDirection);
    let wrong_way = refused(rig.relay.subscribe(STREAM, &Peer::publisher().offer));
    assert_eq!(wrong_way, OfferError::WrongDirection);
    let unknown = Peer::viewer().offer.replace("VP8/90000", "XYZ/90000");
    assert_eq!(refused(rig.relay.subscribe(STREAM, &unknown)), OfferError::NoCommonCodec);
    assert!(matches!(refused(rig.relay.publish(STREAM, "v=0")), OfferError::Sdp(_)));
}

/// A second relay on the same port would silently take half of the flows.
#[test]
fn a_second_relay_on_the_same_port_is_refused() {
    let rig = Rig::new(LinkKind::Epoll, 1);
    let taken = rig.relay.endpoints()[0];
    let second = Relay::start(RelayConfig {
        shards: 1,
        link: LinkKind::Epoll,
        endpoints: vec![Endpoint { bind: taken.advertise, ..taken }],
        pin: false,
        gather: Duration::ZERO,
        runs: Runs::default(),
        certificate: generate_certificate().expect("randomness"),
        sessions_max: 1,
        side_channel: None,
        usage: false,
    });
    let message = second.map(|_| ()).expect_err("the port is taken").to_string();
    assert!(message.contains(&taken.advertise.port().to_string()), "{message}");
}
