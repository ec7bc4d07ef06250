//! What the shard's core does to packets, with real keys and without sockets.

use std::time::Duration;

use sfu::ports::{Event, SrtpProfile};
use sfu::shard::bench::{ForwardBench, MID_ID, PUBLISHER_SSRC};
use sfu::wire::rtcp::{self, Rtcp};
use sfu::wire::rtp::{RtpHeader, payload_without_padding};

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM, SrtpProfile::AES128_CM_SHA1_80];

/// VP8 payload descriptor and frame tag of a keyframe's first packet, of a later packet.
const KEY: [u8; 2] = [0x10, 0x10];
const INTER: [u8; 2] = [0x10, 0x11];
const REST: [u8; 2] = [0x00, 0x55];

fn payload(lead: [u8; 2], number: u64, len_bytes: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; len_bytes];
    payload[..2].copy_from_slice(&lead);
    payload
}

/// A packet as a subscriber decrypted it.
#[derive(Debug, PartialEq)]
struct Got {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    ssrc: u32,
    payload: Vec<u8>,
}

struct Rig {
    bench: ForwardBench,
    /// Extended sequence number each subscriber has seen last, for its rollover counter.
    next: u64,
}

impl Rig {
    fn new(subscribers: usize, profile: SrtpProfile) -> Rig {
        let mut bench = ForwardBench::new(subscribers, profile).expect("an eventfd");
        bench.link.keep = true;
        bench.fan_out();
        bench.link.sent.clear();
        bench.link.runs.clear();
        Rig { bench, next: 100 }
    }

    /// The publisher sends a frame in packets of these sizes.
    fn frame(&mut self, lead: [u8; 2], sizes: &[usize]) {
        for (at, size) in sizes.iter().enumerate() {
            let lead = if at == 0 { lead } else { REST };
            let body = payload(lead, self.next, *size);
            let datagram =
                self.bench.publisher_packet(self.next, 9000, at + 1 == sizes.len(), &body);
            self.bench.receive(&datagram);
            self.next += 1;
        }
    }

    /// Packets of a frame whose end is still to come.
    fn beginning_of_a_frame(&mut self, lead: [u8; 2], sizes: &[usize]) {
        for (at, size) in sizes.iter().enumerate() {
            let body = payload(if at == 0 { lead } else { REST }, self.next, *size);
            let datagram = self.bench.publisher_packet(self.next, 9000, false, &body);
            self.bench.receive(&datagram);
            self.next += 1;
        }
    }

    /// Ends the tick; what subscriber `number` got of media, decrypted.
    fn deliver(&mut self, number: usize) -> Vec<Got> {
        self.bench.fan_out();
        self.opened(number)
    }

    fn opened(&mut self, number: usize) -> Vec<Got> {
        let subscriber = &mut self.bench.subscribers[number];
        let mut got = Vec::new();
        for (to, datagram) in &self.bench.link.sent {
            if *to != subscriber.address || (192..=223).contains(&datagram[1]) {
                continue;
            }
            let header = RtpHeader::parse(datagram).expect("we sent it");
            let mut out = vec![0; 2000];
            let opened = subscriber.open.open_rtp(
                datagram,
                header.header_bytes,
                header.ssrc,
                u64::from(header.sequence),
                &mut out,
            );
            let len_bytes = opened.expect("sealed with the keys of this subscriber");
            let body = payload_without_padding(&out[..len_bytes], header.padding).expect("legal");
            got.push(Got {
                sequence: header.sequence,
                timestamp: header.timestamp,
                marker: header.marker,
                ssrc: header.ssrc,
                payload: body.to_vec(),
            });
        }
        got
    }

    /// MID extensions of the media packets that subscriber `number` was sent.
    fn mids(&self, number: usize) -> Vec<Vec<u8>> {
        let address = self.bench.subscribers[number].address;
        let media =
            |(to, datagram): &&(_, Vec<u8>)| *to == address && !(192..=223).contains(&datagram[1]);
        let mid = |(_, datagram): &(_, Vec<u8>)| {
            let header = RtpHeader::parse(datagram).expect("we sent it");
            let mut extensions = header.extensions(datagram);
            extensions.find(|(id, _)| *id == MID_ID).map(|(_, value)| value.to_vec())
        };
        self.bench.link.sent.iter().filter(media).filter_map(mid).collect()
    }

    fn forget_sent(&mut self) {
        self.bench.link.sent.clear();
        self.bench.link.runs.clear();
    }

    /// Subscriber `number` sends an RTCP compound.
    fn rtcp(&mut self, number: usize, write: impl FnOnce(&mut Vec<u8>, u32)) {
        let subscriber = &mut self.bench.subscribers[number];
        let (mut compound, mut sealed) = (Vec::new(), Vec::new());
        rtcp::write_receiver_report(&mut compound, 77, &[]);
        write(&mut compound, subscriber.ssrc);
        subscriber.seal.seal_rtcp(&compound, &mut sealed);
        self.bench.receive_from_subscriber(number, &sealed);
    }

    /// PLIs that the publisher was sent in this tick.
    fn keyframe_requests(&mut self) -> usize {
        let mut count = 0;
        for (_, datagram) in &self.bench.link.sent {
            let mut compound = Vec::new();
            if (192..=223).contains(&datagram[1])
                && self.bench.publisher_open.open_rtcp(datagram, &mut compound).is_ok()
            {
                let is_pli = |packet: &Result<Rtcp<'_>, _>| matches!(packet, Ok(Rtcp::Pli { media, .. }) if *media == PUBLISHER_SSRC);
                count += rtcp::parse(&compound).filter(is_pli).count();
            }
        }
        count
    }
}

fn report_block() -> rtcp::ReportBlock {
    rtcp::ReportBlock {
        ssrc: 0,
        fraction_lost: 0,
        cumulative_lost: 0,
        highest_sequence: 0,
        jitter: 0,
        last_sr: 0,
        delay_since_last_sr: 0,
    }
}

/// R7
#[test]
fn every_subscriber_gets_every_payload_bit_for_bit() {
    for profile in PROFILES {
        let mut rig = Rig::new(3, profile);
        rig.frame(KEY, &[1100, 1099, 400]);
        rig.frame(INTER, &[900]);
        for number in 0..3 {
            let got = rig.deliver(number);
            let want: Vec<Vec<u8>> = vec![
                payload(KEY, 100, 1100),
                payload(REST, 101, 1099),
                payload(REST, 102, 400),
                payload(INTER, 103, 900),
            ];
            assert_eq!(got.iter().map(|got| got.payload.clone()).collect::<Vec<_>>(), want);
            assert!(got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
            assert_eq!(
                got.iter().map(|got| got.marker).collect::<Vec<_>>(),
                [false, false, true, true]
            );
        }
    }
}

/// R106: the publisher's shard copies no payload.
#[test]
fn no_payload_is_copied_on_the_publishers_shard() {
    let mut rig = Rig::new(10, SrtpProfile::AEAD_AES_256_GCM);
    rig.frame(KEY, &[1100, 1100, 1100]);
    rig.deliver(0);
    assert_eq!(rig.bench.core.counters.rtp_forwarded_packets, 30);
    assert_eq!(rig.bench.core.counters.payload_copied_bytes, 0);
}

#[test]
fn a_frame_leaves_as_one_message_for_each_subscriber() {
    let mut rig = Rig::new(2, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[1100, 1100, 1099, 1099, 1099, 300]);
    rig.bench.fan_out();
    assert_eq!(rig.bench.link.runs, [6, 6]);
    assert_eq!(rig.bench.core.counters.rtp_padded_packets, 6);
}

#[test]
fn the_section_is_named_until_the_subscriber_has_reported() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500, 500]);
    rig.deliver(0);
    assert_eq!(rig.mids(0), [b"0", b"0"]);
    rig.forget_sent();
    rig.rtcp(0, |out, ssrc| {
        rtcp::write_receiver_report(out, 77, &[rtcp::ReportBlock { ssrc, ..report_block() }]);
    });
    rig.frame(INTER, &[500]);
    assert_eq!(rig.deliver(0).len(), 1);
    assert_eq!(rig.mids(0), Vec::<Vec<u8>>::new());
}

#[test]
fn nobody_is_sent_anything_before_a_keyframe() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(INTER, &[800, 800]);
    assert_eq!(rig.deliver(0), []);
    rig.frame(KEY, &[800]);
    assert_eq!(rig.deliver(0).len(), 1);
}

#[test]
fn a_replayed_packet_is_dropped_and_counted() {
    for profile in PROFILES {
        let mut rig = Rig::new(1, profile);
        let body = payload(KEY, 1, 500);
        let datagram = rig.bench.publisher_packet(1, 0, true, &body);
        rig.bench.receive(&datagram);
        rig.bench.receive(&datagram);
        assert_eq!(rig.deliver(0).len(), 1);
        assert_eq!(rig.bench.core.counters.dropped_replayed_packets, 1);
    }
}

#[test]
fn a_forged_packet_is_dropped_and_changes_nothing() {
    for profile in PROFILES {
        let mut rig = Rig::new(1, profile);
        let body = payload(KEY, 1, 500);
        let good = rig.bench.publisher_packet(1, 0, true, &body);
        for at in [3, 5, 9, 30, good.len() - 1] {
            let mut forged = good.clone();
            forged[at] ^= 0x40;
            rig.bench.receive(&forged);
        }
        rig.bench.receive(&good);
        assert_eq!(rig.deliver(0).len(), 1, "the genuine packet is not taken for a replay");
        let counters = &rig.bench.core.counters;
        assert_eq!(counters.dropped_unauthentic_packets, 5);
        assert_eq!(counters.rtp_received_packets, 1);
    }
}

#[test]
fn media_from_a_path_without_a_check_is_dropped() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    let body = payload(KEY, 1, 500);
    let datagram = rig.bench.publisher_packet(1, 0, true, &body);
    rig.bench.receive_from_subscriber(40, &datagram); // An address that no session has.
    assert_eq!(rig.deliver(0), []);
    assert_eq!(rig.bench.core.counters.dropped_unknown_path_datagrams, 1);
}

#[test]
fn a_second_ssrc_of_the_same_kind_collides_until_the_first_falls_silent() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500]);
    assert_eq!(rig.deliver(0).len(), 1);
    rig.forget_sent();
    let body = payload(KEY, 9, 600);
    let other = rig.bench.publisher_packet_of(0x3333_3333, 5, 50, true, &body);
    rig.bench.receive(&other);
    assert_eq!(rig.deliver(0), []);
    assert_eq!(rig.bench.core.counters.dropped_ssrc_collision_packets, 1);
    rig.bench.advance(Duration::from_secs(1));
    rig.bench.receive(&other);
    let got = rig.deliver(0);
    assert_eq!(got.len(), 1, "the new stream has taken over");
    assert_eq!(got[0].sequence, 1001, "and the subscriber's numbers go on");
}

#[test]
fn rtp_from_a_subscriber_and_unknown_payload_types_are_dropped() {
    let mut rig = Rig::new(2, SrtpProfile::AEAD_AES_128_GCM);
    let body = payload(KEY, 1, 100);
    let datagram = rig.bench.publisher_packet(1, 0, true, &body);
    rig.bench.receive_from_subscriber(0, &datagram);
    let mut other_type = rig.bench.publisher_packet(2, 0, true, &body);
    other_type[1] = 0x80 | 45;
    rig.bench.receive(&other_type);
    assert_eq!(rig.bench.core.counters.dropped_unexpected_packets, 2);
    assert_eq!(rig.deliver(0), []);
}

/// R34 in part: a closed gate sends nothing, and its opening leaves no gap to be asked for.
#[test]
fn a_closed_gate_passes_nothing_and_resumes_without_a_gap() {
    let mut rig = Rig::new(2, SrtpProfile::AEAD_AES_256_GCM);
    rig.frame(KEY, &[500, 500]);
    let before = rig.deliver(0);
    for round in 0..100 {
        rig.forget_sent();
        rig.bench.set_gate(0, false);
        rig.frame(INTER, &[700, 700, 700]);
        assert_eq!(rig.deliver(0), [], "round {round}");
        assert_eq!(rig.opened(1).len(), 3, "the other subscriber is not disturbed");
        rig.bench.set_gate(0, true);
        rig.forget_sent();
        rig.frame(INTER, &[700]);
        assert_eq!(rig.deliver(0), [], "a decoder cannot start here");
        rig.frame(KEY, &[300, 300]);
        let after = rig.deliver(0);
        assert_eq!(after.len(), 2);
        let continues = before.last().expect("two came").sequence + 1 + round * 2;
        assert_eq!(after[0].sequence, continues, "round {round}");
    }
}

#[test]
fn an_expired_gate_passes_nothing_even_without_a_command() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500]);
    assert_eq!(rig.deliver(0).len(), 1);
    rig.bench.set_gate_until(0, Duration::from_millis(500));
    rig.bench.advance(Duration::from_millis(499));
    rig.forget_sent();
    rig.frame(INTER, &[500]);
    assert_eq!(rig.deliver(0).len(), 1);
    rig.bench.advance(Duration::from_millis(1));
    rig.forget_sent();
    rig.frame(INTER, &[500]);
    assert_eq!(rig.deliver(0), []);
    rig.rtcp(0, |out, ssrc| rtcp::write_nack(out, 77, ssrc, &[1000]));
    assert_eq!(rig.deliver(0), [], "nor does it get retransmissions");
    assert_eq!(rig.bench.core.counters.gates_expired, 1);
}

#[test]
fn a_gate_command_for_an_earlier_holder_of_the_slot_is_ignored() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.bench.subscribers[0].slot.generation -= 1;
    rig.bench.set_gate(0, false);
    rig.frame(KEY, &[500]);
    assert_eq!(rig.deliver(0).len(), 1);
    assert_eq!(rig.bench.core.counters.gate_commands_stale, 1);
}

#[test]
fn a_lost_packet_is_sent_again_on_the_retransmission_stream() {
    for profile in PROFILES {
        let mut rig = Rig::new(2, profile);
        rig.frame(KEY, &[1000, 1000, 700]);
        let sent = rig.deliver(1);
        let lost = u64::from(sent[1].sequence);
        rig.forget_sent();
        rig.rtcp(1, |out, ssrc| {
            // It reports on our SSRC, and still the retransmission names its section.
            let block = rtcp::ReportBlock { ssrc, ..report_block() };
            rtcp::write_receiver_report(out, 77, &[block]);
            rtcp::write_nack(out, 77, ssrc, &[lost, lost + 500]);
        });
        let again = rig.deliver(1);
        assert_eq!(rig.mids(1), [b"0"], "Firefox drops what it cannot place");
        assert_eq!(again.len(), 1, "one is cached, the other never was");
        assert_eq!(again[0].ssrc, sent[1].ssrc ^ 0x0100_0000);
        assert_eq!(again[0].payload[..2], sent[1].sequence.to_be_bytes());
        assert_eq!(again[0].payload[2..], sent[1].payload);
        assert_eq!(again[0].timestamp, sent[1].timestamp);
        assert_eq!(rig.opened(0), [], "nobody else gets it");
        assert_eq!(rig.bench.core.counters.retransmit_misses, 1);
    }
}

#[test]
fn a_packet_that_was_missing_is_asked_for_and_forwarded_late_once() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500]);
    let body = payload(REST, 101, 500);
    let missing = rig.bench.publisher_packet(101, 9000, false, &body);
    rig.next = 102;
    rig.frame(INTER, &[500]);
    assert_eq!(rig.deliver(0).iter().map(|got| got.sequence).collect::<Vec<_>>(), [1000, 1002]);
    rig.forget_sent();
    rig.bench.receive(&missing);
    rig.bench.receive(&missing);
    assert_eq!(rig.deliver(0).iter().map(|got| got.sequence).collect::<Vec<_>>(), [1001]);
}

#[test]
fn keyframe_requests_of_many_reach_the_publisher_once() {
    let mut rig = Rig::new(5, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500]);
    rig.deliver(0);
    rig.bench.advance(Duration::from_secs(1));
    rig.forget_sent();
    for number in 0..5 {
        rig.rtcp(number, |out, ssrc| rtcp::write_pli(out, 77, ssrc));
    }
    rig.bench.fan_out();
    assert_eq!(rig.keyframe_requests(), 1);
    assert_eq!(rig.bench.core.counters.keyframe_requests_received, 5);
}

#[test]
fn a_closed_gate_cannot_ask_for_keyframes() {
    let mut rig = Rig::new(2, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(KEY, &[500]);
    rig.deliver(0);
    rig.bench.set_gate(0, false);
    rig.bench.advance(Duration::from_secs(1));
    rig.forget_sent();
    rig.rtcp(0, |out, ssrc| rtcp::write_pli(out, 77, ssrc));
    rig.bench.fan_out();
    assert_eq!(rig.keyframe_requests(), 0);
}

#[test]
fn the_first_packet_and_the_first_keyframe_are_announced() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
    rig.frame(INTER, &[100]);
    let started = |event: &Event| matches!(event, Event::TrackStarted { .. });
    let keyframe = |event: &Event| matches!(event, Event::FirstKeyframe { .. });
    let events = rig.bench.events();
    assert!(events.iter().any(started) && !events.iter().any(keyframe), "{events:?}");
    rig.frame(KEY, &[100]);
    rig.frame(KEY, &[100]);
    let events = rig.bench.events();
    assert_eq!(events.iter().filter(|event| keyframe(event)).count(), 1, "{events:?}");
}

proptest::proptest! {
    /// Whatever a peer's datagrams hold, the shard neither panics nor lets them pass as media.
    #[test]
    fn garbage_from_a_known_path_disturbs_nobody(
        garbage in proptest::collection::vec(
            proptest::collection::vec(proptest::prelude::any::<u8>(), 1..200), 0..40)
    ) {
        let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_128_GCM);
        for datagram in &garbage {
            rig.bench.receive(datagram);
            rig.bench.receive_from_subscriber(0, datagram);
        }
        rig.frame(KEY, &[500]);
        proptest::prop_assert_eq!(rig.deliver(0).len(), 1);
        proptest::prop_assert_eq!(rig.bench.core.counters.rtp_forwarded_packets, 1);
    }
}

#[test]
fn a_finished_frame_leaves_at_once_and_an_unfinished_one_waits_for_the_gathering_budget() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_256_GCM);
    let budget = Duration::from_micros(500);
    rig.frame(KEY, &[1000, 1000]);
    assert_eq!(rig.bench.fan_out_gathered(budget), None);
    assert_eq!(rig.opened(0).len(), 2);
    rig.bench.link.sent.clear();

    rig.beginning_of_a_frame(INTER, &[1000, 1000]);
    let came = rig.bench.core.now;
    assert_eq!(rig.bench.fan_out_gathered(budget), Some(came + budget));
    rig.bench.advance(budget - Duration::from_micros(1));
    assert_eq!(rig.bench.fan_out_gathered(budget), Some(came + budget));
    assert!(rig.opened(0).is_empty(), "it may still grow");
    rig.bench.advance(Duration::from_micros(1));
    assert_eq!(rig.bench.fan_out_gathered(budget), None);
    assert_eq!(rig.opened(0).len(), 2);
}

#[test]
fn the_end_of_a_frame_takes_its_waiting_beginning_along_in_one_message() {
    let mut rig = Rig::new(1, SrtpProfile::AEAD_AES_256_GCM);
    rig.frame(KEY, &[1000]);
    rig.deliver(0);
    rig.bench.link.sent.clear();
    rig.bench.link.runs.clear();
    let budget = Duration::from_micros(500);
    rig.beginning_of_a_frame(INTER, &[1000, 1000]);
    assert!(rig.bench.fan_out_gathered(budget).is_some());
    rig.frame(REST, &[1000]);
    assert_eq!(rig.bench.fan_out_gathered(budget), None);
    assert_eq!(rig.opened(0).len(), 3);
    assert_eq!(rig.bench.link.runs, [3]);
}
