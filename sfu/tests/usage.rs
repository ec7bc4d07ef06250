//! Usage of subscribers: on the shard's core with time in the test's hands, and over loopback.

mod support;

use std::time::Duration;

use sfu::io::LinkKind;
use sfu::ports::{CloseReason, Event, Gate, SessionKey, SlotUsage, SrtpProfile};
use sfu::shard::Command;
use sfu::shard::bench::ForwardBench;
use sfu::wire::rtcp;
use sfu::wire::twcc::TwccReceiver;
use support::rig::{Rig, send};
use support::{both_links, until};

const PAYLOAD_BYTES: u64 = 400;

/// A stream with a packet each 100 ms.
struct Stream {
    bench: ForwardBench,
    next: u64,
}

impl Stream {
    fn new(subscribers: usize) -> Stream {
        let bench = ForwardBench::new(subscribers, SrtpProfile::AEAD_AES_256_GCM);
        Stream { bench: bench.expect("an eventfd"), next: 100 }
    }

    /// One packet to all whose gate is open; its payload is a whole keyframe.
    fn packet(&mut self) {
        let mut payload = vec![7; PAYLOAD_BYTES as usize];
        payload[..2].copy_from_slice(&[0x10, 0x10]);
        let timestamp = self.next as u32 * 9000;
        let datagram = self.bench.publisher_packet(self.next, timestamp, true, &payload);
        self.next += 1;
        self.bench.receive(&datagram);
        self.bench.fan_out();
    }

    fn play(&mut self, packets: u64) {
        for _ in 0..packets {
            self.packet();
            self.bench.advance(Duration::from_millis(100));
        }
    }

    /// A subscriber sends RTCP.
    fn rtcp(&mut self, number: usize, write: impl FnOnce(&mut Vec<u8>, u32)) {
        let subscriber = &mut self.bench.subscribers[number];
        let (mut compound, mut sealed) = (Vec::new(), Vec::new());
        rtcp::write_receiver_report(&mut compound, 77, &[]);
        write(&mut compound, subscriber.ssrc);
        subscriber.seal.seal_rtcp(&compound, &mut sealed);
        self.bench.receive_from_subscriber(number, &sealed);
    }

    /// A subscriber's feedback that none of these packets arrived.
    fn say_none_arrived(&mut self, number: usize, base: u16, packets: u16) {
        self.rtcp(number, |out, media| {
            out.extend_from_slice(&[0x8f, 205, 0, 5]);
            out.extend_from_slice(&77u32.to_be_bytes());
            out.extend_from_slice(&media.to_be_bytes());
            out.extend_from_slice(&base.to_be_bytes());
            out.extend_from_slice(&packets.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            // One run of "not received", and two bytes that fill the word.
            out.extend_from_slice(&packets.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        });
    }

    fn usage(&mut self, number: usize) -> SlotUsage {
        let slot = self.bench.subscribers[number].slot;
        let report = self.bench.core.usage_report();
        assert_eq!(report.at, self.bench.core.now);
        *report.slots.iter().find(|usage| usage.slot == slot).expect("it is connected")
    }
}

#[test]
fn half_seconds_with_media_are_served_and_a_closed_gate_makes_none() {
    let mut stream = Stream::new(3);
    stream.bench.set_gate(1, false);
    stream.play(15);
    stream.bench.set_gate(2, false);
    stream.play(15);
    stream.bench.advance(Duration::from_secs(2));
    let [open, closed, half] = [0, 1, 2].map(|number| stream.usage(number));
    assert_eq!((open.served_ms, open.disputed_ms), (3000, 0));
    assert_eq!((open.sent_packets, open.sent_bytes), (30, 30 * PAYLOAD_BYTES));
    assert_eq!((closed.served_ms, closed.sent_packets, closed.sent_bytes), (0, 0, 0));
    assert_eq!((half.served_ms, half.sent_packets), (1500, 15));
    // A pause of the publisher costs nobody anything.
    stream.bench.advance(Duration::from_secs(10));
    assert_eq!(stream.usage(0), open);
}

#[test]
fn usage_is_counted_from_the_first_opening_of_the_gate() {
    let mut stream = Stream::new(1);
    stream.bench.advance(Duration::from_millis(700));
    let before = stream.usage(0);
    assert_eq!((before.first_sent, before.last_sent), (0, 0), "nothing was sent");
    stream.bench.set_gate(0, false);
    stream.bench.advance(Duration::from_millis(50));
    let closed = stream.usage(0).gate_changed;
    assert_eq!(closed - before.gate_changed, 700_000_000);
    stream.bench.set_gate(0, true);
    stream.bench.set_gate(0, true);
    stream.bench.advance(Duration::from_millis(3));
    stream.play(4);
    let usage = stream.usage(0);
    assert_eq!(usage.gate_changed - closed, 50_000_000, "the second command changed nothing");
    assert_eq!(usage.first_sent - usage.gate_changed, 3_000_000);
    assert_eq!(usage.last_sent - usage.first_sent, 300_000_000);
}

#[test]
fn retransmissions_count_as_sent_and_their_headers_do_not() {
    let mut stream = Stream::new(1);
    stream.play(3);
    stream.rtcp(0, |out, media| rtcp::write_nack(out, 77, media, &[1000, 1001]));
    stream.bench.fan_out();
    let usage = stream.usage(0);
    assert_eq!((usage.sent_packets, usage.sent_bytes), (5, 5 * PAYLOAD_BYTES));
}

#[test]
fn a_subscriber_that_says_that_nothing_arrived_gets_disputed_slots() {
    let mut stream = Stream::new(2);
    stream.play(10);
    stream.say_none_arrived(0, 0, 10);
    // The other says so of the first slot, and acknowledges a packet of the second.
    stream.say_none_arrived(1, 0, 5);
    stream.rtcp(1, |out, media| {
        let mut receiver = TwccReceiver::new();
        receiver.record(7, 1000);
        assert!(receiver.build(77, media, out));
    });
    assert_eq!(stream.usage(0).disputed_ms, 0, "feedback to the contrary may still come");
    assert_eq!(stream.usage(1).served_ms, 500, "an arrival decides at once");
    stream.bench.advance(Duration::from_secs(1));
    let [disputed, one] = [0, 1].map(|number| stream.usage(number));
    assert_eq!((disputed.served_ms, disputed.disputed_ms), (0, 1000));
    assert_eq!((one.served_ms, one.disputed_ms), (500, 500));
    assert_eq!(disputed.sent_bytes, 10 * PAYLOAD_BYTES, "sent is sent");
}

#[test]
fn feedback_after_a_second_changes_nothing() {
    let mut stream = Stream::new(1);
    stream.play(5);
    stream.bench.advance(Duration::from_secs(1));
    assert_eq!(stream.usage(0).served_ms, 500);
    stream.say_none_arrived(0, 0, 5);
    stream.bench.advance(Duration::from_secs(1));
    assert_eq!((stream.usage(0).served_ms, stream.usage(0).disputed_ms), (500, 0));
}

#[test]
fn the_end_of_a_session_tells_its_whole_usage() {
    let mut stream = Stream::new(2);
    stream.play(12);
    stream.bench.events();
    assert_eq!(stream.usage(0).served_ms, 0, "all of it is undecided");
    // The publisher is session 1, its subscribers are 2 and 3.
    for key in [2, 1] {
        let close = Command::Close(SessionKey(key), CloseReason::Control, None);
        stream.bench.core.handle_command(close);
    }
    let usage = |key: u64, events: &[Event]| {
        events.iter().find_map(|event| match event {
            Event::Closed { session, usage, .. } if session.0 == key => Some(*usage),
            _ => None,
        })
    };
    let events = stream.bench.events();
    let last = usage(2, &events).expect("it closed").expect("a subscriber has usage");
    assert_eq!((last.served_ms, last.sent_packets), (1500, 12));
    assert_eq!(last.slot, stream.bench.subscribers[0].slot);
    assert_eq!(usage(1, &events), Some(None), "a publisher is sent nothing");
    let report = stream.bench.core.usage_report();
    assert_eq!(report.slots.len(), 1, "who is gone is no longer reported");
}

#[test]
fn usage_that_nobody_wants_is_not_metered() {
    let mut rig = Rig::with(LinkKind::Epoll, 1, |config| config.usage = false);
    let (mut publisher, _) = rig.publish();
    let (mut viewer, session, slot) = rig.watch();
    rig.wait_connected(&mut [&mut publisher, &mut viewer]);
    rig.gates.set(slot, Gate::OPEN);
    rig.wait_for_a_row_of_300(&mut publisher, &mut viewer);
    rig.relay.close(session, CloseReason::Control);
    rig.wait_closed(&mut [&mut publisher, &mut viewer], session);
    assert_eq!(rig.last_usage(session), None);
    assert!(rig.usage.is_empty());
}

#[test]
fn a_viewer_that_watches_is_reported_as_served() {
    both_links(|link| {
        let mut rig = Rig::new(link, 2);
        let (mut publisher, _) = rig.publish();
        let (mut viewer, session, slot) = rig.watch();
        let (mut shut, shut_session, _) = rig.watch();
        rig.wait_connected(&mut [&mut publisher, &mut viewer, &mut shut]);
        rig.gates.set(slot, Gate::OPEN);
        let (mut sent, mut newest, mut seen_shut) = (0, None::<SlotUsage>, false);
        let peers = &mut [&mut publisher, &mut viewer, &mut shut];
        until("two seconds served", peers, |peers| {
            rig.pump();
            if sent < peers[1].packets.len() as u64 + 30 {
                send(peers[0], sent);
                sent += 1;
            }
            for usage in rig.usage.try_iter().flat_map(|report| report.slots) {
                if usage.session == session {
                    let grown = |before: SlotUsage| {
                        usage.served_ms >= before.served_ms && usage.sent_bytes >= before.sent_bytes
                    };
                    assert!(newest.is_none_or(grown), "absolute values never shrink");
                    newest = Some(usage);
                } else {
                    assert_eq!((usage.session, usage.sent_packets), (shut_session, 0));
                    seen_shut = true;
                }
            }
            newest.is_some_and(|usage| usage.served_ms >= 2000)
        });
        let newest = newest.expect("the wait ended");
        assert_eq!((newest.slot, newest.disputed_ms), (slot, 0));
        assert!(seen_shut, "a connected viewer is reported with nothing sent, too");
        assert!(newest.gate_changed <= newest.first_sent && newest.first_sent < newest.last_sent);
        rig.relay.close(session, CloseReason::Control);
        rig.wait_closed(&mut [&mut publisher, &mut viewer, &mut shut], session);
        let last = rig.last_usage(session).expect("a subscriber has usage");
        assert!(last.served_ms >= newest.served_ms && last.sent_packets >= newest.sent_packets);
        let received: usize = viewer.packets.iter().map(|packet| packet.payload.len()).sum();
        assert!(last.sent_bytes >= received as u64);
    });
}
