//! The side channel: a real data channel of a whole WebRTC endpoint, over loopback, on both links.

mod support;

use sfu::io::LinkKind;
use sfu::limits::{FRAME_BYTES_MAX, FRAMES_PER_SESSION_MAX};
use sfu::ports::{CloseReason, Frame, SessionKey};
use support::rig::{LABEL, Rig};
use support::{Peer, both_links, until};

const OPENED: &str = "sutantra_sfu_side_channels_opened_total";
const REFUSED: &str = "sutantra_sfu_side_channels_refused_total";
const TOO_LONG: &str = "sutantra_sfu_side_dropped_too_long_frames_total";
const TEXT: &str = "sutantra_sfu_side_dropped_text_frames_total";
const WAITING: &str = "sutantra_sfu_side_dropped_waiting_frames_total";
const UNSENT: &str = "sutantra_sfu_side_dropped_unsent_frames_total";

/// What the viewer has been sent next on its side channel.
fn wait_received(rig: &mut Rig, viewer: &mut Peer) -> Vec<u8> {
    until("a frame of the relay", &mut [viewer], |peers| {
        rig.pump();
        !peers[0].frames.is_empty()
    });
    viewer.frames.pop_front().expect("the wait ended")
}

/// R31 in part: the data channel itself.
#[test]
fn frames_pass_both_ways() {
    both_links(|link| {
        for shards in [1, 2] {
            let mut rig = Rig::new(link, shards);
            let (mut one, session_one, slot_one) = rig.watch_with_channels(&[LABEL]);
            let (mut two, session_two, slot_two) = rig.watch_with_channels(&[LABEL]);
            let longest = vec![7; FRAME_BYTES_MAX];
            for bytes in [&b"a"[..], &longest] {
                one.send_frame(0, bytes);
                let frame = rig.wait_frame(&mut [&mut one, &mut two]);
                assert_eq!((frame.session, frame.slot), (session_one, Some(slot_one)));
                assert_eq!(*frame.bytes, *bytes);
                assert!(rig.relay.send_frame(session_two, bytes.to_vec()));
                assert_eq!(wait_received(&mut rig, &mut two), bytes);
            }
            two.send_frame(0, b"b");
            let frame = rig.wait_frame(&mut [&mut one, &mut two]);
            assert_eq!((frame.session, frame.slot), (session_two, Some(slot_two)));
            assert!(one.frames.is_empty(), "what was for another");
            rig.wait_counter(&mut [&mut one, &mut two], OPENED, 2);
        }
    });
}

#[test]
fn what_is_no_frame_is_dropped_and_counted() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, _, _) = rig.watch_with_channels(&[LABEL]);
    viewer.send_frame(0, &[7; FRAME_BYTES_MAX + 1]);
    viewer.send_text(0, "words");
    viewer.send_frame(0, &vec![7; 100_000]);
    viewer.send_frame(0, b"a frame");
    assert_eq!(*rig.wait_frame(&mut [&mut viewer]).bytes, *b"a frame");
    rig.wait_counter(&mut [&mut viewer], TOO_LONG, 2);
    rig.wait_counter(&mut [&mut viewer], TEXT, 1);
}

#[test]
fn a_session_has_64_places_for_frames_that_wait_and_takes_nobody_elses() {
    both_links(|link| {
        let mut rig = Rig::new(link, 1);
        let (mut eager, session, _) = rig.watch_with_channels(&[LABEL]);
        let (mut other, other_session, _) = rig.watch_with_channels(&[LABEL]);
        for number in 0..=FRAMES_PER_SESSION_MAX {
            eager.send_frame(0, &[number as u8]);
        }
        rig.wait_counter(&mut [&mut eager, &mut other], WAITING, 1);
        other.send_frame(0, b"other");
        until("the other's frame", &mut [&mut eager, &mut other], |_| {
            rig.pump();
            rig.frames.len() > FRAMES_PER_SESSION_MAX
        });
        let held: Vec<Frame> = rig.frames.try_iter().collect();
        let of = |session: SessionKey| held.iter().filter(move |frame| frame.session == session);
        let numbers: Vec<u8> = of(session).map(|frame| frame.bytes[0]).collect();
        assert_eq!(numbers, (0..FRAMES_PER_SESSION_MAX as u8).collect::<Vec<_>>(), "the 65th");
        assert_eq!(of(other_session).count(), 1);
        // Taken from the queue is not yet let go.
        eager.send_frame(0, b"no place");
        rig.wait_counter(&mut [&mut eager, &mut other], WAITING, 2);
        drop(held);
        eager.send_frame(0, b"a place");
        assert_eq!(*rig.wait_frame(&mut [&mut eager, &mut other]).bytes, *b"a place");
    });
}

#[test]
fn other_labels_and_second_channels_are_ignored() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, _) = rig.watch_with_channels(&["other", LABEL, LABEL]);
    rig.wait_counter(&mut [&mut viewer], OPENED, 1);
    rig.wait_counter(&mut [&mut viewer], REFUSED, 1);
    viewer.send_frame(0, b"other label");
    viewer.send_frame(1, b"the first");
    viewer.send_frame(2, b"the second");
    assert_eq!(*rig.wait_frame(&mut [&mut viewer]).bytes, *b"the first");
    viewer.send_frame(1, b"again");
    assert_eq!(*rig.wait_frame(&mut [&mut viewer]).bytes, *b"again");
    assert!(rig.relay.send_frame(session, b"answer".to_vec()));
    assert_eq!(wait_received(&mut rig, &mut viewer), b"answer");
    assert!(viewer.frames.is_empty(), "one channel, one copy");
}

#[test]
fn without_a_label_data_channels_are_ignored() {
    let mut rig = Rig::with(LinkKind::Epoll, 1, |config| config.side_channel = None);
    let (mut viewer, session, _) = rig.watch_with_channels(&[LABEL]);
    viewer.send_frame(0, b"anybody?");
    assert!(rig.relay.send_frame(session, b"nobody".to_vec()));
    rig.wait_counter(&mut [&mut viewer], UNSENT, 1);
    assert_eq!(rig.counter(OPENED), 0);
    assert!(rig.frames.is_empty() && viewer.frames.is_empty());
}

#[test]
fn frames_for_nobody_are_refused_or_counted() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, _) = rig.watch();
    rig.wait_connected(&mut [&mut viewer]);
    assert!(!rig.relay.send_frame(session, vec![7; FRAME_BYTES_MAX + 1]), "too long");
    assert!(!rig.relay.send_frame(SessionKey(u64::MAX), vec![7]), "unknown session");
    assert!(rig.relay.send_frame(session, vec![7]), "handed to the shard");
    rig.wait_counter(&mut [&mut viewer], UNSENT, 1);
}

#[test]
fn a_channel_that_the_peer_closed_can_be_opened_again() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, _) = rig.watch_with_channels(&[LABEL]);
    rig.wait_counter(&mut [&mut viewer], OPENED, 1);
    viewer.close_channel(0);
    let mut tried = 0;
    until("a frame that finds no channel", &mut [&mut viewer], |_| {
        rig.pump();
        tried += 1;
        rig.relay.send_frame(session, vec![7]);
        rig.counter(UNSENT) > 0
    });
    viewer.open_channel(LABEL);
    rig.wait_counter(&mut [&mut viewer], OPENED, 2);
    viewer.send_frame(1, b"here again");
    assert_eq!(*rig.wait_frame(&mut [&mut viewer]).bytes, *b"here again");
}

#[test]
fn a_last_frame_arrives_before_the_end() {
    both_links(|link| {
        let mut rig = Rig::new(link, 1);
        let (mut viewer, session, _) = rig.watch_with_channels(&[LABEL]);
        let last = vec![9; FRAME_BYTES_MAX];
        assert!(rig.relay.send_frame(session, b"before".to_vec()));
        rig.relay.close_with(session, CloseReason::Control, Some(last.clone()));
        assert_eq!(rig.wait_closed(&mut [&mut viewer], session), CloseReason::Control);
        until("close_notify", &mut [&mut viewer], |peers| peers[0].closed);
        assert_eq!(viewer.frames, [b"before".to_vec(), last]);
    });
}

#[test]
fn a_last_frame_without_a_channel_is_counted_and_the_session_ends() {
    let mut rig = Rig::new(LinkKind::Epoll, 1);
    let (mut viewer, session, _) = rig.watch();
    let (mut other, _, _) = rig.watch();
    rig.wait_connected(&mut [&mut viewer, &mut other]);
    rig.relay.close_with(session, CloseReason::Control, Some(vec![9]));
    assert_eq!(rig.wait_closed(&mut [&mut viewer], session), CloseReason::Control);
    rig.wait_counter(&mut [&mut viewer, &mut other], UNSENT, 1);
}
