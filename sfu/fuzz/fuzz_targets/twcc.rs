//! Any body is counted or fails by name, and any order of arrivals makes feedback that counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_fuzz::wire::rtcp::{Rtcp, parse};
use sfu_fuzz::wire::twcc::{TWCC_WINDOW_PACKETS, TwccReceiver, count, runs};

fuzz_target!(|input: &[u8]| {
    if let Ok(sum) = count(input) {
        let stated = u32::from(u16::from_be_bytes([input[2], input[3]]));
        assert_eq!(sum.received + sum.lost, stated);
        let packets = |received| {
            let same = runs(input).filter(move |run| run.received == received);
            same.map(|run| u32::from(run.packets)).sum::<u32>()
        };
        assert_eq!((packets(true), packets(false)), (sum.received, sum.lost));
    }
    // Read without asking `count` first, a body ends where it ends.
    assert!(runs(input).map(|run| u32::from(run.packets)).sum::<u32>() <= u32::from(u16::MAX));
    // The same bytes as a story: step of the sequence number, step of the clock, build or not.
    let mut receiver = TwccReceiver::new();
    let mut out = Vec::new();
    let (mut sequence, mut now_us) = (0u16, 0u64);
    for step in input.as_chunks::<4>().0 {
        sequence = sequence.wrapping_add_signed(i16::from_be_bytes([step[0], step[1]]) / 8);
        now_us = now_us.wrapping_add(u64::from(step[2]) * u64::from(step[2]) * 200);
        receiver.record(sequence, now_us);
        if step[3] < 32 {
            assert_feedback(&mut receiver, &mut out);
        }
    }
    assert_feedback(&mut receiver, &mut out);
});

fn assert_feedback(receiver: &mut TwccReceiver, out: &mut Vec<u8>) {
    out.clear();
    let any = receiver.build(1, 2, out);
    assert_eq!(any, !out.is_empty());
    let (mut received, mut lost) = (0, 0);
    for packet in parse(out) {
        let Ok(Rtcp::TransportFeedback { body, .. }) = packet else { panic!("a feedback of ours") };
        assert!(body.len() + 12 <= 1200, "fits a datagram");
        let sum = count(body).expect("a feedback of ours");
        received += sum.received;
        lost += sum.lost;
    }
    assert!((received + lost) as usize <= TWCC_WINDOW_PACKETS);
    assert_eq!(received > 0, any);
}
