//! The receiver against a slow decoder written from the draft, which shares no code with it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::rtcp;

/// The statuses of one feedback body: (sequence number, arrival in ticks of 250 µs, if received).
fn decode(body: &[u8]) -> Vec<(u16, Option<i64>)> {
    let half = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let (base, status_count) = (half(0), usize::from(half(2)));
    let reference = i64::from(u32::from_be_bytes([0, body[4], body[5], body[6]]));
    let mut symbols = Vec::new();
    let mut at = 8;
    while symbols.len() < status_count {
        let chunk = format!("{:016b}", half(at));
        at += 2;
        let bits = |from: usize, to: usize| usize::from_str_radix(&chunk[from..to], 2).unwrap();
        match &chunk[..2] {
            "10" => symbols.extend((2..16).map(|bit| bits(bit, bit + 1))),
            "11" => symbols.extend((2..16).step_by(2).map(|bit| bits(bit, bit + 2))),
            _ => symbols.extend(vec![bits(1, 3); bits(3, 16)]),
        }
    }
    symbols.truncate(status_count);
    let mut tick = reference * 256;
    let mut statuses = Vec::new();
    for (number, symbol) in symbols.into_iter().enumerate() {
        let sequence = base.wrapping_add(number as u16);
        let delta = match symbol {
            0 => {
                statuses.push((sequence, None));
                continue;
            }
            1 => {
                at += 1;
                i64::from(body[at - 1])
            }
            2 => {
                at += 2;
                i64::from(half(at - 2) as i16)
            }
            _ => panic!("reserved symbol"),
        };
        tick += delta;
        statuses.push((sequence, Some(tick)));
    }
    assert!(body.len() - at < 4, "nothing but padding follows the deltas");
    assert!(body[at..].iter().all(|byte| *byte == 0));
    statuses
}

/// The statuses of a feedback body as [`runs`] has them: (sequence number, received).
fn expanded(body: &[u8]) -> Vec<(u16, bool)> {
    let numbers = |run: Run| (0..run.packets).map(move |at| run.first.wrapping_add(at));
    runs(body).flat_map(|run| numbers(run).map(move |number| (number, run.received))).collect()
}

/// Each feedback packet, decoded; checks its frame, its size, `count` and `runs` on the way.
fn feedbacks(receiver: &mut TwccReceiver) -> Vec<Vec<(u16, Option<i64>)>> {
    let mut out = Vec::new();
    let any = receiver.build(1, 2, &mut out);
    assert_eq!(any, !out.is_empty());
    let packets: Vec<_> = rtcp::parse(&out)
        .map(|packet| {
            let Ok(rtcp::Rtcp::TransportFeedback { sender: 1, media: 2, body }) = packet else {
                panic!("{packet:?}")
            };
            assert!(body.len() + 12 <= 1200, "fits a datagram");
            let statuses = decode(body);
            let received = statuses.iter().filter(|(_, tick)| tick.is_some()).count() as u32;
            let lost = statuses.len() as u32 - received;
            assert_eq!(count(body), Ok(TwccCount { received, lost }));
            let seen = |(number, tick): &(u16, Option<i64>)| (*number, tick.is_some());
            assert_eq!(expanded(body), statuses.iter().map(seen).collect::<Vec<_>>());
            for bytes in 0..body.len() - 3 {
                assert!(count(&body[..bytes]).is_err());
            }
            statuses
        })
        .collect();
    assert!(!receiver.build(1, 2, &mut out), "what was reported is not reported again");
    packets
}

#[track_caller]
fn check(arrivals: &[(u16, u64)], expected: &[(u16, Option<i64>)]) {
    let mut receiver = TwccReceiver::new();
    arrivals.iter().for_each(|(sequence, at)| receiver.record(*sequence, *at));
    assert_eq!(feedbacks(&mut receiver).concat(), expected);
}

#[test]
fn arrivals_are_reported_in_order_with_their_times() {
    check(&[], &[]);
    check(&[(7, 1_000_000)], &[(7, Some(4000))]);
    check(&[(7, 0), (8, 250)], &[(7, Some(0)), (8, Some(1))]);
    check(&[(7, 0), (9, 499)], &[(7, Some(0)), (8, None), (9, Some(1))]);
    check(&[(9, 64_000), (8, 65_000)], &[(8, Some(260)), (9, Some(256))]);
    check(&[(65_535, 0), (0, 100_000)], &[(65_535, Some(0)), (0, Some(400))]);
    check(&[(7, 0), (7, 90_000)], &[(7, Some(0))]);
}

#[test]
fn arrivals_over_eight_seconds_apart_go_into_two_feedbacks() {
    let mut receiver = TwccReceiver::new();
    receiver.record(1, 0);
    receiver.record(3, 9_000_000);
    assert_eq!(feedbacks(&mut receiver), [vec![(1, Some(0)), (2, None)], vec![(3, Some(36_000))]]);
    receiver.record(5, 0); // The caller's clock went back; the reference time says so.
    receiver.record(4, 9_000_000);
    assert_eq!(feedbacks(&mut receiver), [vec![(4, Some(36_000))], vec![(5, Some(0))]]);
}

#[test]
fn the_reference_time_wraps_at_24_bits() {
    check(&[(1, (1 << 24) * 64_000 + 500)], &[(1, Some(2))]);
}

#[test]
fn a_packet_that_comes_late_is_reported_after_all() {
    let mut receiver = TwccReceiver::new();
    receiver.record(10, 0);
    receiver.record(12, 250);
    assert_eq!(feedbacks(&mut receiver), [vec![(10, Some(0)), (11, None), (12, Some(1))]]);
    receiver.record(11, 500);
    assert_eq!(feedbacks(&mut receiver), [vec![(11, Some(2)), (12, Some(1))]]);
    receiver.record(11, 900);
    receiver.record(10, 900);
    assert!(feedbacks(&mut receiver).is_empty(), "repetitions are no news");
}

#[test]
fn a_jump_beyond_the_window_forgets_what_fell_out() {
    let mut receiver = TwccReceiver::new();
    receiver.record(0, 0);
    receiver.record(1, 250);
    receiver.record(20_000, 500);
    receiver.record(20_000 - 2048, 750); // Below the window.
    receiver.record(20_000 - 2047, 1000);
    let statuses = feedbacks(&mut receiver).concat();
    assert_eq!(statuses.len(), TWCC_WINDOW_PACKETS);
    assert_eq!(statuses[0], (20_000 - 2047, Some(4)));
    assert_eq!(statuses[TWCC_WINDOW_PACKETS - 1], (20_000, Some(2)));
    assert!(statuses[1..2047].iter().all(|(_, tick)| tick.is_none()));
}

#[test]
fn each_feedback_has_the_next_number() {
    let mut receiver = TwccReceiver::new();
    let mut out = Vec::new();
    for number in 0..300u16 {
        receiver.record(number, 0);
        out.clear();
        assert!(receiver.build(1, 2, &mut out));
        assert_eq!(out[19], number as u8);
    }
}

#[test]
fn nothing_is_allocated_after_the_first_feedback() {
    let mut receiver = TwccReceiver::new();
    let mut out = Vec::with_capacity(20_000);
    receiver.record(0, 0);
    let capacities =
        |receiver: &TwccReceiver| [&receiver.statuses, &receiver.deltas].map(Vec::capacity);
    let before = capacities(&receiver);
    for sequence in 0..10_000u16 {
        receiver.record(sequence.wrapping_mul(3), u64::from(sequence) * 70_000);
    }
    receiver.build(1, 2, &mut out);
    assert_eq!(capacities(&receiver), before);
    assert_eq!(receiver.arrivals.capacity(), TWCC_WINDOW_PACKETS);
}

#[test]
fn a_feedback_cut_short_or_with_a_reserved_symbol_is_refused() {
    let truncated = |body_bytes| Err(TwccParseError::Truncated { body_bytes });
    assert_eq!(count(&[0; 7]), truncated(7));
    assert_eq!(count(&[0; 8]), Ok(TwccCount::default()));
    assert_eq!(count(&[0, 0, 0, 1, 0, 0, 0, 0]), truncated(8));
    assert_eq!(count(&[0, 0, 0, 1, 0, 0, 0, 0, 0x20, 1]), truncated(10));
    assert_eq!(count(&[0, 0, 0, 1, 0, 0, 0, 0, 0x40, 1, 0]), truncated(11));
    let reserved = Err(TwccParseError::ReservedStatus);
    assert_eq!(count(&[0, 0, 0, 1, 0, 0, 0, 0, 0x60, 1, 0, 0]), reserved);
    assert_eq!(count(&[0, 0, 0, 1, 0, 0, 0, 0, 0xF0, 0, 0, 0]), reserved);
}

#[test]
fn runs_of_nothing_end_with_the_body() {
    // A run of length 0 describes no packet: only the body's length bounds their number.
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0];
    body.extend([0; 1000]);
    assert_eq!(count(&body), Err(TwccParseError::Truncated { body_bytes: 1008 }));
}

proptest! {
    /// What the feedbacks say, taken together, is what arrived.
    #[test]
    fn every_arrival_is_reported_once_with_its_time(
        first: u16,
        steps in proptest::collection::vec((1u16..30, 0u64..2_000_000, 0u8..20), 1..600),
        pause in 1usize..200,
    ) {
        let mut receiver = TwccReceiver::new();
        let (mut sequence, mut now) = (first, 5_000_000u64);
        let (mut expected, mut reported) = (BTreeMap::new(), BTreeMap::new());
        for (number, (gap, wait, kind)) in steps.iter().enumerate() {
            sequence = sequence.wrapping_add(if *kind < 15 { 1 } else { *gap });
            now += if *kind < 18 { wait % 3000 } else { *wait };
            receiver.record(sequence, now);
            // `steps` moves by less than 2^16 in all: numbers do not repeat.
            expected.insert(sequence, (now / 250) as i64);
            if number % pause == 0 {
                reported.extend(feedbacks(&mut receiver).concat());
            }
        }
        reported.extend(feedbacks(&mut receiver).concat());
        let arrived: BTreeMap<u16, i64> =
            reported.iter().filter_map(|(sequence, tick)| Some((*sequence, (*tick)?))).collect();
        prop_assert_eq!(arrived, expected);
        let lowest = first.wrapping_add(if steps[0].2 < 15 { 1 } else { steps[0].0 });
        prop_assert_eq!(reported.len(), usize::from(sequence.wrapping_sub(lowest)) + 1);
    }

    #[test]
    fn any_bytes_count_or_fail_by_name(
        body in proptest::collection::vec(any::<u8>(), 0..60), status_count in 0u8..40,
    ) {
        let mut body = body;
        if let [_, _, high, low, ..] = &mut body[..] {
            (*high, *low) = (0, status_count);
            if let Ok(TwccCount { received, lost }) = count(&body) {
                prop_assert_eq!(received + lost, u32::from(status_count));
                let arrived = expanded(&body).iter().filter(|(_, arrived)| *arrived).count();
                prop_assert_eq!((arrived, expanded(&body).len()), (received as usize, status_count.into()));
            }
            prop_assert!(expanded(&body).len() <= status_count.into());
        }
    }
}
