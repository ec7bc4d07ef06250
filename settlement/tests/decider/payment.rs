//! Vouchers, acknowledgements, requests for money, prices that change, redeeming.

use chain_types::{
    Balance, CloseRequest, Frame, GateReason, LaneState, PayAck, PayReq, SignedVoucher, Voucher,
    frame::{divide_frames, join_frames},
};
use settlement::{
    Refusal,
    decide::{Config, Input, PostError},
    event::SutantraEvent,
};

use crate::rig::{CHAIN, PAYEE, RATE, Rig, START_MS, Viewer, config, key, kinds, stream_id};

const SECOND: u128 = RATE as u128;

fn watching() -> (Rig, Viewer, sfu::ports::SessionKey) {
    let mut rig = Rig::new(|_| {});
    let (viewer, session) = rig.watching(10);
    (rig, viewer, session)
}

fn ack(frames: &[Frame]) -> Option<PayAck> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::PayAck(ack) => Some(*ack),
        _ => None,
    })
}

fn request(frames: &[Frame]) -> Option<PayReq> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::PayReq(request) => Some(*request),
        _ => None,
    })
}

fn notice(frames: &[Frame]) -> Option<(bool, GateReason)> {
    frames.iter().rev().find_map(|frame| match frame {
        Frame::GateNotice { open, reason } => Some((*open, *reason)),
        _ => None,
    })
}

/// R31: a voucher over the pay channel raises the lane, and is acknowledged.
#[test]
fn a_voucher_is_taken_once_handed_to_the_log_and_acknowledged_behind_it() {
    let (mut rig, viewer, session) = watching();
    assert!(rig.is_open(session));
    rig.usage(session, 1_000, 0);
    rig.events.clear();
    let written = rig.log.len();
    let voucher = viewer.pay(&rig.terms(), 3 * SECOND);
    let said = rig.pay(session, voucher);
    let expected = PayAck {
        lane: rig.terms().lane(),
        cumulative: Balance::of(3 * RATE),
        sent_bytes: 125_000,
        served_ms: 1_000,
        state: LaneState::Active,
    };
    assert_eq!(ack(&said), Some(expected));
    let (_, record) = rig.log[written];
    assert_eq!((record.voucher, record.served_ms), (voucher, 1_000));
    let received = SutantraEvent::PaymentReceived {
        stream_id: stream_id(1),
        amount: Balance::of(RATE),
        settled: false,
    };
    assert_eq!(rig.events, [received]);
}

#[test]
fn an_older_voucher_is_acknowledged_and_never_counted_and_the_newest_is_shown() {
    let (mut rig, viewer, session) = watching();
    let newest = viewer.pay(&rig.terms(), 9 * SECOND);
    rig.pay(session, newest);
    for _ in 0..5 {
        // Not even its signature is looked at: it cannot raise anything.
        let old = viewer.voucher(&rig.terms(), 3 * SECOND).sign(&key(9), CHAIN);
        let said = rig.pay(session, old);
        assert_eq!(ack(&said).map(|ack| ack.cumulative), Some(Balance::of(9 * RATE)));
        assert!(said.contains(&Frame::PaySync(Box::new(newest))), "{said:?}");
    }
    let said = rig.pay(session, newest);
    assert_eq!(kinds(&said), [0x11].into(), "the same one again needs no PaySync");
    assert_eq!(rig.end_of(session), None);
    let counters = rig.decider.counters();
    assert_eq!((counters.vouchers_stale, counters.vouchers_invalid), (6, 0));
}

#[test]
fn three_invalid_vouchers_end_the_session_and_nothing_of_them_is_kept() {
    #[track_caller]
    fn check(name: &str, spoil: impl Fn(&Viewer, Voucher) -> SignedVoucher) {
        let (mut rig, viewer, session) = watching();
        let written = rig.log.len();
        for nth in 1u8..=3 {
            assert_eq!(rig.end_of(session), None, "{name}");
            let voucher = viewer.voucher(&rig.terms(), (10 + u128::from(nth)) * SECOND);
            let said = rig.pay(session, spoil(&viewer, voucher));
            assert!(kinds(&said).contains(&0x7f), "{name}");
        }
        assert_eq!(rig.end_of(session), Some(4400), "{name}");
        assert!(!rig.is_open(session), "{name}");
        assert_eq!(rig.log.len(), written, "{name}");
    }
    check("signature", |_, voucher| voucher.sign(&key(9), CHAIN));
    check("chain", |viewer, voucher| voucher.sign(&viewer.voucher_key, "other"));
    let sign = |viewer: &Viewer, voucher: Voucher| voucher.sign(&viewer.voucher_key, CHAIN);
    let channel = chain_types::ChannelId([9; 32]);
    check("channel", |viewer, voucher| sign(viewer, Voucher { channel, ..voucher }));
    check("payee", |v, voucher| sign(v, Voucher { payee: v.account(), ..voucher }));
    check("stream", |v, voucher| sign(v, Voucher { stream: stream_id(9), ..voucher }));
    check("lane", |v, voucher| sign(v, Voucher { lane: voucher.lane ^ 1, ..voucher }));
    check("version", |v, voucher| sign(v, Voucher { terms_version: 9, ..voucher }));
}

#[test]
fn two_invalid_vouchers_are_forgiven_and_a_good_one_counts() {
    let (mut rig, viewer, session) = watching();
    let voucher = viewer.voucher(&rig.terms(), 9 * SECOND);
    rig.pay(session, voucher.sign(&key(9), CHAIN));
    // Cut short: no voucher at all.
    rig.bytes(session, &[0x10, 1, 0]);
    rig.pay(session, voucher.sign(&viewer.voucher_key, CHAIN));
    assert_eq!(rig.end_of(session), None);
    assert_eq!(rig.decider.counters().vouchers_invalid, 2);
    rig.bytes(session, &[0x10, 1, 0]);
    assert_eq!(rig.end_of(session), Some(4400));
}

#[test]
fn frames_that_are_none_or_a_relays_own_change_nothing() {
    let (mut rig, _, session) = watching();
    let own = Frame::BindAck([0; 64]);
    for bytes in [&[][..], &[0x10], &[0x99, 1], &[0x10, 2], &[0x02, 1, 3], &own.encode()] {
        rig.bytes(session, bytes);
        assert_eq!(rig.end_of(session), None);
        assert!(rig.is_open(session));
    }
    assert_eq!(rig.decider.counters().vouchers_invalid, 0);
    rig.bytes(sfu::ports::SessionKey(999), &[0x10, 1]);
}

/// R23
#[test]
fn who_is_late_is_asked_at_once_and_each_half_second_for_what_the_event_says() {
    let (mut rig, viewer, session) = watching();
    rig.events.clear();
    rig.sent.clear();
    rig.usage(session, 2_500, 0);
    let asked = request(&rig.said(session)).expect("at once");
    assert_eq!((asked.due, asked.paid), (Balance::of(2_500_000), Balance::of(2 * RATE)));
    assert_eq!(asked.deadline_ms, 2_500, "the grace is 3 s, of which half a second is used");
    let due = SutantraEvent::PaymentDue {
        stream_id: stream_id(1),
        viewer: viewer.account(),
        amount: asked.due.checked_sub(asked.paid).expect("it is late"),
    };
    assert_eq!(rig.events, [due]);
    for _ in 0..4 {
        rig.wait(450);
        assert_eq!(request(&rig.said(session)), None);
        rig.wait(50);
        assert!(request(&rig.said(session)).is_some());
    }
    let said = rig.pay(session, viewer.pay(&rig.terms(), 4 * SECOND));
    assert_eq!(ack(&said).map(|ack| ack.state), Some(LaneState::Active));
    rig.wait(1_000);
    assert_eq!(request(&rig.said(session)), None);
}

#[test]
fn a_late_viewer_gets_the_lowest_layer_then_nothing_and_all_again_once_it_has_paid() {
    let (mut rig, viewer, session) = watching();
    rig.usage(session, 3_500, 0);
    assert_eq!((rig.gate(session).open, rig.gate(session).layer_cap), (true, 255));
    rig.usage(session, 500, 0);
    assert_eq!((rig.gate(session).open, rig.gate(session).layer_cap), (true, 0));
    rig.usage(session, 500, 0);
    assert_eq!(state(&rig, session), LaneState::Late);
    rig.sent.clear();
    // At the grace to the unit: not a millisecond more may flow.
    rig.usage(session, 500, 0);
    assert_eq!(state(&rig, session), LaneState::Paused);
    assert!(!rig.is_open(session));
    assert_eq!(notice(&rig.said(session)), Some((false, GateReason::Overdue)));
    // Less than all of it opens nothing.
    rig.pay(session, viewer.pay(&rig.terms(), 4_999_999));
    assert!(!rig.is_open(session));
    let said = rig.pay(session, viewer.pay(&rig.terms(), 5_000_000));
    assert_eq!(notice(&said), Some((true, GateReason::Open)));
    assert_eq!((rig.gate(session).open, rig.gate(session).layer_cap), (true, 255));
}

fn state(rig: &Rig, session: sfu::ports::SessionKey) -> LaneState {
    let counters = rig.decider.counters();
    assert_eq!(counters.sessions_by_state.iter().sum::<u64>(), 1, "one session: {session:?}");
    let at = counters.sessions_by_state.iter().position(|count| *count == 1).expect("one");
    LaneState::ALL[at]
}

/// R34: an unpaid session ends with 4402 and this text, and its address says 402 for a minute.
#[test]
fn a_pause_without_payment_ends_with_4402_and_the_address_says_so_for_a_minute() {
    let (mut rig, _, session) = watching();
    rig.usage(session, 10_000, 0);
    assert_eq!(state(&rig, session), LaneState::Paused);
    rig.wait(59_900);
    assert_eq!(rig.end_of(session), None);
    rig.wait(200);
    assert_eq!(rig.closed, [(session, 4402, "Payment required".to_owned())]);
    assert_eq!(rig.post(session, &[]), Err(PostError::PaymentRequired));
    assert_eq!(PostError::PaymentRequired.http_status(), 402);
    rig.wait(60_100);
    assert_eq!(rig.post(session, &[]), Err(PostError::Unknown));
    assert_eq!(PostError::Unknown.http_status(), 404);
}

/// The relay cannot know yet whether the newest packets arrived: they are not given away.
#[test]
fn what_no_report_has_confirmed_yet_counts_against_the_deadline() {
    let (mut rig, _, session) = watching();
    let deadline = |rig: &Rig| {
        let until = rig.gate(session).valid_until_ns.expect("it is charged");
        until.saturating_sub(rig.now.mono_ns) / 1_000_000
    };
    assert_eq!(deadline(&rig), 5_000, "2 s paid, 3 s grace");
    rig.after(1_200);
    let mut usage = rig.total(session, 0, 0);
    usage.first_sent_ns = rig.now.mono_ns - 1_000_000_000;
    usage.last_sent_ns = rig.now.mono_ns;
    rig.input(Input::Usage(vec![usage]));
    assert_eq!(deadline(&rig), 4_000, "one second was sent, whatever becomes of it");
    usage.served_ms = 500;
    rig.input(Input::Usage(vec![usage]));
    assert_eq!(deadline(&rig), 4_000, "half of it is confirmed: counted once");
}

#[test]
fn a_gate_that_hears_nothing_of_its_usage_closes_by_itself() {
    let (mut rig, _, session) = watching();
    rig.after(4_990);
    assert!(rig.is_open(session));
    rig.after(10);
    assert!(!rig.is_open(session), "no report, no voucher, no media");
}

/// R28, R30: a minute costs a minute, to the unit, and what is paid ahead carries over.
#[test]
fn served_time_adds_up_and_lost_reports_cost_nothing() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 62 * SECOND));
    // Reports come twice, late, and out of order: absolute values do not care.
    let mut last = rig.total(session, 0, 0);
    for at in 1..=120u64 {
        let usage = settlement::decide::Usage { served_ms: at * 500, ..last };
        if at % 3 == 0 {
            rig.input(Input::Usage(vec![usage, last, usage]));
            last = usage;
        }
    }
    let lane = rig.lane(&viewer, &rig.terms());
    let owed = rig.decider.book().get(&lane).expect("it pays").owed();
    assert_eq!(owed, Balance::of(60 * RATE));
    // The last word comes with the end.
    let usage = settlement::decide::Usage { served_ms: 60_500, ..last };
    rig.input(Input::Closed { session, usage: Some(usage) });
    let lane = rig.decider.book().get(&lane).expect("it stays in the books");
    assert_eq!(lane.owed(), Balance::of(60_500_000));
    assert_eq!(rig.log.last().map(|(_, record)| record.served_ms), Some(60_500));
}

#[test]
fn sessions_that_share_a_lane_pay_for_each() {
    let (mut rig, viewer, first) = watching();
    let second = Viewer { fingerprint: [99; 32], ..viewer.clone() };
    let request = rig.request(&second, 4 * SECOND);
    let second = rig.join(&request);
    assert_ne!(first, second);
    let (one, two) = (rig.total(first, 1_500, 0), rig.total(second, 1_000, 0));
    rig.input(Input::Usage(vec![one, two]));
    let lane = rig.lane(&viewer, &rig.terms());
    let lane = rig.decider.book().get(&lane).expect("it pays");
    assert_eq!((lane.served_ms, lane.sessions.len()), (2_500, 2));
    // 4 s paid, 2.5 s owed, 3 s grace: 4.5 s for two that burn at once.
    let until = rig.gate(first).valid_until_ns.expect("it is charged");
    assert_eq!((until - rig.now.mono_ns) / 1_000_000, 2_250);
}

#[test]
fn the_grace_is_the_channels_not_each_lanes() {
    let (mut rig, viewer, first) = watching();
    rig.chain.stream(stream_id(2), |_| {});
    rig.block();
    let request = rig.request_for(stream_id(2), &viewer, 2 * SECOND);
    let second = rig.join(&request);
    let (one, two) = (rig.total(first, 4_000, 0), rig.total(second, 4_000, 0));
    rig.input(Input::Usage(vec![one, two]));
    // Two seconds behind on each is four on the channel, and three are the grace.
    assert!(!rig.is_open(first) && !rig.is_open(second));
    rig.pay(first, viewer.pay(&rig.terms(), 4 * SECOND));
    assert!(rig.is_open(first));
}

#[test]
fn an_acknowledgement_comes_each_second_and_a_receipt_each_minute_and_at_the_end() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 100 * SECOND));
    rig.sent.clear();
    let (mut acks, mut receipts) = (0, Vec::new());
    for _ in 0..600 {
        rig.usage(session, 100, 0);
        rig.wait(100);
        for frame in rig.said(session) {
            match frame {
                Frame::PayAck(_) => acks += 1,
                Frame::Receipt(receipt, signature) => receipts.push((receipt, signature)),
                _ => {}
            }
        }
    }
    assert!((59..=61).contains(&acks), "{acks}");
    assert_eq!(receipts.len(), 1);
    let (receipt, signature) = &receipts[0];
    assert!(receipt.is_signed(signature, CHAIN));
    assert_eq!(receipt.cumulative, Balance::of(100 * RATE));
    assert_eq!(receipt.relay_key, rig.terms().relay_key);
    rig.chain.stream(stream_id(1), |stream| stream.ended = Some(START_MS));
    rig.block();
    assert!(kinds(&rig.said(session)).contains(&0x14), "the last receipt");
    assert_eq!(rig.end_of(session), Some(4403));
}

#[test]
fn frames_by_http_are_answered_by_http() {
    let (mut rig, viewer, session) = watching();
    rig.sent.clear();
    let voucher = Frame::Voucher(Box::new(viewer.pay(&rig.terms(), 5 * SECOND))).encode();
    let answer = rig.post(session, &join_frames([&voucher[..]])).expect("frames");
    let frames: Vec<Frame> = divide_frames(&answer)
        .expect("lengths and frames")
        .into_iter()
        .map(|bytes| Frame::decode(bytes).expect("our own frame"))
        .collect();
    assert_eq!(ack(&frames).map(|ack| ack.cumulative), Some(Balance::of(5 * RATE)));
    assert!(rig.said(session).is_empty(), "nothing on the data channel that may not exist");
    assert_eq!(rig.post(session, &[0, 9, 1]), Err(PostError::Malformed));
    assert_eq!(PostError::Malformed.http_status(), 400);
    // Nothing sent: still the relay's word, and what is due.
    rig.usage(session, 6_000, 0);
    rig.sent.clear();
    let answer = rig.post(session, &[]).expect("frames");
    let kinds: Vec<u8> =
        divide_frames(&answer).expect("frames").into_iter().map(|frame| frame[0]).collect();
    assert_eq!(kinds, [0x11, 0x12]);
}

#[test]
fn a_wallet_that_lost_its_count_is_shown_the_newest_voucher() {
    let (mut rig, viewer, session) = watching();
    let newest = viewer.pay(&rig.terms(), 9 * SECOND);
    rig.pay(session, newest);
    rig.input(Input::Closed { session, usage: None });
    let request = rig.request(&viewer, 2 * SECOND);
    rig.sent.clear();
    let again = rig.join(&request);
    assert!(rig.said(again).contains(&Frame::PaySync(Box::new(newest))));
}

/// R27: a new rate in mid-stream is announced, agreed to and honoured.
#[test]
fn a_new_price_is_told_ahead_agreed_to_and_paid_on_a_lane_of_its_own() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 10 * SECOND));
    rig.sent.clear();
    let old = rig.terms();
    rig.chain.set_price(stream_id(1), 2 * RATE, 2);
    rig.block();
    let said = rig.said(session);
    let Some(Frame::Terms(json)) = said.iter().find(|frame| frame.kind() == 1) else {
        panic!("{said:?}")
    };
    let next: chain_types::Terms = serde_json::from_str(json).expect("our own terms");
    assert_eq!((next.terms_version, next.rate), (2, 2 * RATE));
    let said = rig.frame(session, &Frame::Bind(Box::new(viewer.signed_bind(&next))));
    let Some(Frame::BindAck(signature)) = said.iter().find(|frame| frame.kind() == 3) else {
        panic!("{said:?}")
    };
    assert_eq!(viewer.bind(&next).verify_ack(signature, CHAIN), Ok(()));
    let said = rig.pay(session, viewer.pay(&next, 4 * SECOND));
    assert_eq!(ack(&said).map(|ack| (ack.lane, ack.served_ms)), Some((next.lane(), 0)));
    rig.usage(session, 1_000, 0);
    rig.block();
    rig.usage(session, 1_000, 0);
    rig.block();
    assert_eq!(rig.terms().terms_version, 2);
    assert_eq!(state(&rig, session), LaneState::Active);
    rig.usage(session, 1_000, 0);
    let owed = |rig: &Rig, terms| {
        let lane = rig.decider.book().get(&rig.lane(&viewer, terms)).expect("it pays");
        (lane.served_ms, lane.owed())
    };
    assert_eq!(owed(&rig, &old), (2_000, Balance::of(2 * RATE)));
    assert_eq!(owed(&rig, &next), (1_000, Balance::of(2 * RATE)));
    // A voucher for the old lane that was on its way is taken all the same.
    let said = rig.pay(session, viewer.pay(&old, 11 * SECOND));
    assert_eq!(ack(&said).map(|ack| ack.cumulative), Some(Balance::of(11 * RATE)));
}

#[test]
fn who_does_not_agree_to_a_new_price_is_late_from_its_height_on() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 100 * SECOND));
    rig.chain.set_price(stream_id(1), 2 * RATE, 0);
    rig.block();
    assert_eq!(state(&rig, session), LaneState::Late);
    rig.usage(session, 3_500, 0);
    assert_eq!(state(&rig, session), LaneState::Paused);
    assert!(!rig.is_open(session), "what is paid at the old price is not for the new one");
    // It may still agree.
    let terms = rig.terms();
    rig.frame(session, &Frame::Bind(Box::new(viewer.signed_bind(&terms))));
    rig.pay(session, viewer.pay(&terms, 20 * SECOND));
    assert!(rig.is_open(session));
    assert_eq!(state(&rig, session), LaneState::Active);
}

#[test]
fn a_bind_for_somebody_else_does_not_change_a_running_session() {
    let (mut rig, viewer, session) = watching();
    let other = Viewer::new(11);
    rig.chain.open(&other, 1_000_000_000, 0);
    rig.block();
    let stolen = Viewer { fingerprint: viewer.fingerprint, ..other };
    let said = rig.frame(session, &Frame::Bind(Box::new(stolen.signed_bind(&rig.terms()))));
    assert!(matches!(said[..], [Frame::Error { code: 409, .. }]), "{said:?}");
    let foreign = Viewer { fingerprint: [9; 32], ..viewer };
    let said = rig.frame(session, &Frame::Bind(Box::new(foreign.signed_bind(&rig.terms()))));
    assert!(matches!(said[..], [Frame::Error { code: 403, .. }]), "{said:?}");
}

#[test]
fn disputed_media_is_not_charged_and_too_much_of_it_stops_the_media_until_a_trial_succeeds() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 1000 * SECOND));
    rig.usage(session, 10_000, 6_000);
    assert_eq!(state(&rig, session), LaneState::Active, "six seconds in a minute");
    rig.sent.clear();
    rig.usage(session, 0, 500);
    assert_eq!(state(&rig, session), LaneState::Disputed);
    assert_eq!(notice(&rig.said(session)), Some((false, GateReason::Disputed)));
    assert!(!rig.is_open(session));
    // Trials of one slot after 5, 10, 20, 40 and 40 seconds, as long as nothing arrives.
    for after_ms in [5_000, 10_000, 20_000, 40_000, 40_000] {
        rig.wait(after_ms - 50);
        assert!(!rig.is_open(session), "before {after_ms}");
        rig.wait(50);
        assert!(rig.is_open(session), "at {after_ms}");
        rig.wait(500);
        assert!(!rig.is_open(session), "one slot");
        rig.usage(session, 0, 500);
    }
    rig.wait(40_000);
    assert!(rig.is_open(session));
    rig.usage(session, 500, 0);
    assert_eq!(state(&rig, session), LaneState::Active);
    let owed = rig.decider.book().get(&rig.lane(&viewer, &rig.terms())).expect("it pays").owed();
    assert_eq!(owed, Balance::of(10_500_000), "what did not arrive costs nothing");
}

#[test]
fn a_batch_is_redeemed_when_it_is_worth_fifty_fees_and_only_what_is_on_the_disk() {
    let (mut rig, viewer, session) = watching();
    rig.wait(1_000);
    assert_eq!(rig.settle(), Balance::of(2 * RATE), "what let it in");
    rig.syncs = false;
    // 10,000 + 10 · (256 + 240) + 1,000 for one entry: 50 of it are 798,000.
    rig.pay(session, viewer.pay(&rig.terms(), 4 * SECOND));
    rig.wait(12_000);
    assert_eq!(rig.redeems, Vec::<Vec<SignedVoucher>>::new(), "it is not on the disk");
    let sequence = rig.log.last().expect("it was handed over").0;
    rig.input(Input::Synced { sequence });
    rig.wait(1_000);
    let voucher = viewer.pay(&rig.terms(), 4 * SECOND);
    assert_eq!(rig.redeems, [vec![voucher]]);
    rig.wait(2_000);
    assert_eq!(rig.redeems.len(), 1, "not again while it is on its way");
    assert_eq!(rig.settle(), Balance::of(2 * RATE));
    let settled = SutantraEvent::PaymentReceived {
        stream_id: stream_id(1),
        amount: Balance::of(2 * RATE),
        settled: true,
    };
    assert!(rig.events.contains(&settled));
    rig.wait(60_000);
    assert_eq!(rig.redeems, Vec::<Vec<SignedVoucher>>::new(), "nothing is left");
    assert_eq!(rig.decider.counters().redeemed_units, 4 * SECOND);
}

#[test]
fn a_small_sum_waits_ten_minutes_unless_its_channel_closes() {
    let small = |rate_per_second| {
        let mut rig = Rig::new(|stream| stream.terms[0].rate_per_second = rate_per_second);
        let viewer = Viewer::new(10);
        rig.chain.open(&viewer, 1_000_000_000, 0);
        rig.block();
        let ahead = 100_000;
        let request = rig.request(&viewer, ahead);
        let session = rig.join(&request);
        (rig, viewer, session)
    };
    let (mut rig, _, _) = small(10_000);
    rig.wait(599_000);
    assert!(rig.redeems.is_empty());
    rig.wait(2_000);
    assert_eq!(rig.redeems.len(), 1);

    let (mut rig, viewer, session) = small(10_000);
    rig.wait(2_000);
    assert!(rig.redeems.is_empty());
    let request = CloseRequest { height: 101, time_ms: START_MS };
    rig.chain.channel(viewer.channel, |channel| channel.close_requested = Some(request));
    rig.sent.clear();
    rig.block();
    assert_eq!(rig.redeems.len(), 1, "in the turn of the block");
    assert!(!rig.is_open(session), "in the same turn");
    assert_eq!(notice(&rig.said(session)), Some((false, GateReason::Channel)));
}

#[test]
fn a_sum_below_its_fee_is_never_redeemed() {
    let mut rig = Rig::new(|stream| stream.terms[0].rate_per_second = 1_000);
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 0);
    rig.block();
    let request = rig.request(&viewer, 10_000);
    rig.join(&request);
    let closing = CloseRequest { height: 101, time_ms: START_MS };
    rig.chain.channel(viewer.channel, |channel| channel.close_requested = Some(closing));
    rig.block();
    rig.wait(700_000);
    assert!(rig.redeems.is_empty(), "10,000 units cost 15,960 to redeem");
}

#[test]
fn a_batch_that_the_chain_does_not_pay_is_handed_over_again() {
    let (mut rig, viewer, session) = watching();
    rig.pay(session, viewer.pay(&rig.terms(), 4 * SECOND));
    rig.wait(1_500);
    let first = rig.redeems.len();
    rig.wait(31_000);
    assert!(rig.redeems.len() > first);
}

#[test]
fn unreserved_money_is_redeemed_at_half_the_limit_and_stops_the_media_at_the_limit() {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 0);
    rig.block();
    // Most of it cannot be redeemed yet: the log is slow.
    rig.syncs = false;
    let request = rig.request(&viewer, 100 * SECOND);
    let session = rig.join(&request);
    rig.usage(session, 9_500, 0);
    assert!(rig.is_open(session), "ten seconds are borne");
    rig.sent.clear();
    rig.usage(session, 500, 0);
    assert!(!rig.is_open(session));
    assert_eq!(notice(&rig.said(session)), Some((false, GateReason::Exposure)));
    let again = Viewer { fingerprint: [9; 32], ..viewer.clone() };
    let request = rig.request(&again, 100 * SECOND);
    assert!(matches!(rig.admit(&request), Err(Refusal::Channel(_))));
    // Synced, it is redeemed at once, and the media goes on with the block.
    let sequence = rig.log.last().expect("it was handed over").0;
    rig.input(Input::Synced { sequence });
    rig.wait(1_000);
    assert_eq!(rig.redeems.len(), 1);
    rig.sent.clear();
    rig.settle();
    assert!(rig.is_open(session));
    assert_eq!(notice(&rig.said(session)), Some((true, GateReason::Open)));
}

#[test]
fn a_channel_that_holds_less_than_is_owed_stops_the_media_until_it_is_topped_up() {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 5_000_000, 5_000_000);
    rig.block();
    let request = rig.request(&viewer, 5 * SECOND);
    let session = rig.join(&request);
    // The signature promises what the channel does not hold.
    rig.pay(session, viewer.pay(&rig.terms(), 50 * SECOND));
    rig.usage(session, 4_500, 0);
    assert!(rig.is_open(session));
    rig.usage(session, 500, 0);
    assert!(!rig.is_open(session));
    rig.chain.channel(viewer.channel, |channel| channel.deposits = Balance::of(90_000_000));
    rig.block();
    assert!(rig.is_open(session));
}

/// R28: one redeem settles what was paid, to the payee that the vouchers name.
#[test]
fn vouchers_of_many_lanes_go_into_one_batch_of_one_payee() {
    let mut rig = Rig::new(|_| {});
    let watching: Vec<_> = (10..30).map(|seed| rig.watching(seed)).collect();
    rig.wait(32_000);
    rig.settle();
    for (viewer, session) in &watching {
        rig.pay(*session, viewer.pay(&rig.terms(), 3 * SECOND));
        rig.pay(*session, viewer.pay(&rig.terms(), 4 * SECOND));
    }
    rig.wait(12_000);
    let [batch] = &rig.redeems[..] else { panic!("one batch, not {}", rig.redeems.len()) };
    assert_eq!(batch.len(), 20);
    assert!(batch.iter().all(|signed| signed.voucher.payee == PAYEE));
    let lanes: std::collections::BTreeSet<_> =
        batch.iter().map(|signed| signed.voucher.lane_key()).collect();
    assert_eq!(lanes.len(), 20, "the newest voucher of each lane, once");
}

#[test]
fn a_failing_log_admits_nobody_redeems_nothing_loses_nothing_and_says_so() {
    let (mut rig, viewer, session) = watching();
    rig.wait(2_000);
    rig.settle();
    rig.sent.clear();
    rig.input(Input::LogFailed { reason: "no space left on device".to_owned() });
    assert_eq!(notice(&rig.said(session)), Some((true, GateReason::Books)));
    assert!(rig.decider.counters().is_books_unsafe);
    let written = rig.log.len();
    let said = rig.pay(session, viewer.pay(&rig.terms(), 50 * SECOND));
    // It counts for the gate, but is not confirmed.
    assert_eq!(ack(&said).map(|ack| ack.cumulative), Some(Balance::of(2 * RATE)));
    rig.usage(session, 20_000, 0);
    assert!(rig.is_open(session));
    rig.wait(3_000);
    assert_eq!((rig.log.len(), rig.redeems.len()), (written, 0));
    let request = rig.request(&Viewer::new(10), 50 * SECOND);
    assert!(matches!(rig.admit(&request), Err(Refusal::Books(_))));
    rig.sent.clear();
    rig.input(Input::LogRecovered);
    assert_eq!(notice(&rig.said(session)), Some((true, GateReason::Open)));
    let (_, record) = rig.log.last().expect("what was kept in memory");
    assert_eq!(record.voucher.voucher.cumulative, Balance::of(50 * RATE));
    rig.wait(10_000);
    assert_eq!(rig.redeems.len(), 1);
    assert!(rig.admit(&request).is_ok());
}

#[test]
fn what_was_handed_over_and_not_synced_is_handed_over_again_after_a_failure() {
    let (mut rig, viewer, session) = watching();
    rig.syncs = false;
    rig.pay(session, viewer.pay(&rig.terms(), 50 * SECOND));
    rig.input(Input::LogFailed { reason: "the sync failed".to_owned() });
    let written = rig.log.len();
    rig.input(Input::LogRecovered);
    assert_eq!(rig.log.len(), written + 1);
    let (sequence, record) = *rig.log.last().expect("written again");
    assert_eq!(record.voucher.voucher.cumulative, Balance::of(50 * RATE));
    rig.input(Input::Synced { sequence });
    rig.wait(1_000);
    assert_eq!(rig.redeems.last().map(Vec::len), Some(1));
}

#[test]
fn a_restart_knows_the_lane_its_debt_and_its_newest_voucher() {
    let (mut rig, viewer, session) = watching();
    rig.usage(session, 1_000, 0);
    let newest = viewer.pay(&rig.terms(), 3 * SECOND);
    rig.pay(session, newest);
    rig.usage(session, 4_000, 0);
    rig.input(Input::Closed { session, usage: None });
    let last = rig.log.last().expect("records").0;
    rig.crash(last);
    let short = rig.request(&viewer, 6 * SECOND);
    let Err(Refusal::PaymentRequired { lane: Some(lane), .. }) = rig.admit(&short) else {
        panic!("five seconds are owed, and two must be ahead")
    };
    assert_eq!((lane.due, lane.served_ms), (Balance::of(7 * RATE), 5_000));
    let enough = rig.request(&viewer, 7 * SECOND);
    rig.join(&enough);
}

#[test]
fn a_reconnect_farmer_gains_nothing() {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 900_000_000);
    rig.block();
    let mut paid = 2 * SECOND;
    let mut watched_ms = 0u128;
    for _ in 0..50 {
        // Pays as little as lets it in, watches as long as the gate is open, leaves.
        let session = loop {
            let request = rig.request(&viewer, paid);
            match rig.admit(&request) {
                Ok(admission) => {
                    let session = rig.begin(&admission);
                    rig.input(Input::Connected { session });
                    break session;
                }
                Err(Refusal::PaymentRequired { lane: Some(lane), .. }) => {
                    paid = lane.due.units();
                }
                Err(refusal) => panic!("{refusal}"),
            }
        };
        while rig.is_open(session) {
            rig.after(500);
            watched_ms += 500;
            rig.usage(session, 500, 0);
        }
        rig.input(Input::Closed { session, usage: None });
        if rig.chain.height.is_multiple_of(7) {
            rig.settle();
        }
    }
    let cost = watched_ms * SECOND / 1000;
    let unpaid = cost.saturating_sub(paid);
    println!("50 reconnects: {watched_ms} ms watched, {paid} paid, {unpaid} unpaid");
    assert!(unpaid <= 3 * SECOND + SECOND / 2, "the grace and one slot, once");
    assert!(watched_ms > 100_000, "it did watch");
}

#[test]
fn a_relays_own_cadence_and_grace_are_in_its_terms() {
    let slow = Config { cadence_ms: 5_000, grace_ms: 8_000, ..config() };
    let rig = Rig::with(slow, |_| {});
    let terms = rig.terms();
    assert_eq!((terms.cadence_ms, terms.grace_ms), (5_000, 8_000));
    assert_eq!(terms.min_prepay, Balance::of(10 * RATE));
}

/// Printed, not gating: one core's vouchers per second beside its bare signatures.
#[test]
fn every_voucher_of_a_long_row_is_accepted() {
    const COUNT: u128 = 2_000;
    let (mut rig, viewer, session) = watching();
    let terms = rig.terms();
    let vouchers: Vec<SignedVoucher> =
        (1..=COUNT).map(|at| viewer.pay(&terms, 2 * SECOND + at)).collect();
    let voucher_key = chain_types::AccountId::from(&viewer.voucher_key);
    let begin = std::time::Instant::now();
    assert!(vouchers.iter().all(|voucher| voucher.verify(&voucher_key, CHAIN).is_ok()));
    let bare = begin.elapsed();
    let frames: Vec<Vec<u8>> =
        vouchers.into_iter().map(|voucher| Frame::Voucher(Box::new(voucher)).encode()).collect();
    let begin = std::time::Instant::now();
    for bytes in &frames {
        rig.input(Input::Frame { session, bytes: bytes.as_slice().into() });
        rig.sent.clear();
    }
    let whole = begin.elapsed();
    assert_eq!(u128::from(rig.decider.counters().vouchers_accepted), COUNT + 1);
    let micros = |span: std::time::Duration| span.as_secs_f64() * 1e6 / 2_000.0;
    println!("a voucher: {:.1} us, of it the signature {:.1} us", micros(whole), micros(bare));
}
