//! What the payer refuses, by name, beside what it accepts.

use std::time::{Duration, Instant};

use chain_types::{
    AccountId, Balance, Frame, GateReason, LaneState, PayReq, Receipt, StreamId, Terms,
    TermsRefused,
};
use wallet::{Output, Payer, Room, RoomLimit, Stop};

use crate::world::{
    CHAIN, FEE, RATE, ack, facts, identity, let_in, outputs, payer, price, relay_key, terms,
    voucher_key, vouchers,
};

#[test]
fn terms_are_held_against_the_chain() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Terms), expected: Result<(), Stop>) {
        let mut terms = terms(1_000);
        change(&mut terms);
        assert_eq!(facts().agree(terms).map(drop), expected);
    }
    let wrong = |refused: TermsRefused| Err(Stop::Terms(refused));
    check(|_| {}, Ok(()));
    let cheaper = |terms: &mut Terms| {
        terms.rate -= 500;
        terms.min_prepay = Balance::of(2 * terms.rate);
    };
    check(cheaper, Ok(()));
    check(|terms| terms.rate += 1, wrong(TermsRefused::Rate { asked: RATE + 1, price: RATE }));
    check(|terms| terms.tier = 1, wrong(TermsRefused::Rate { asked: RATE, price: RATE / 2 }));
    check(|terms| terms.tier = 3, wrong(TermsRefused::Version(1)));
    check(|terms| terms.terms_version = 2, wrong(TermsRefused::Version(2)));
    check(|terms| terms.cadence_ms = 249, wrong(TermsRefused::Cadence(249)));
    check(|terms| terms.relay_key = AccountId([4; 32]), wrong(TermsRefused::RelayKey));
    let most = Balance::of(2_000_000);
    let asked = Balance::of(2_000_001);
    check(|terms| terms.min_prepay = asked, wrong(TermsRefused::Prepay { asked, most }));
    check(|terms| terms.stream = StreamId([4; 32]), Err(Stop::OtherStream));
    check(|terms| terms.stream = StreamId::ZERO, Err(Stop::OtherStream));
    let payee = AccountId([4; 32]);
    check(|terms| terms.payee = payee, Err(Stop::UnknownRelay(payee)));
    check(|terms| terms.relay_fp = "06".repeat(31), Err(Stop::Fingerprint));

    let mut unknown = facts();
    unknown.relay_key = None;
    assert_eq!(unknown.agree(terms(1_000)), Err(Stop::UnknownRelay(AccountId([2; 32]))));
    let mut replaced = facts();
    replaced.stream.terms.push(price(2, RATE, 100));
    assert!(replaced.agree(terms(1_000)).is_ok(), "replaced just now");
    replaced.height = 120;
    assert_eq!(replaced.agree(terms(1_000)), Err(Stop::VersionPast(1)));
}

#[test]
fn only_the_relay_that_the_chain_names_behind_its_certificate_is_paid() {
    #[track_caller]
    fn check(ack: Option<[u8; 64]>, shown: [u8; 32], is_accepted: bool) {
        let mut payer = payer(terms(1_000), &[]);
        payer.admission(None).expect("the prepayment");
        let result = payer.handle_admitted(Instant::now(), ack, shown, None);
        assert_eq!(result.is_ok(), is_accepted, "{result:?}");
        assert!(matches!(result, Ok(()) | Err(Stop::Tampered(_))));
    }
    let bind = payer(terms(1_000), &[]).bind();
    assert_eq!((bind.client_fingerprint, bind.relay_fingerprint), ([5; 32], [6; 32]));
    let good = bind.acknowledge(&relay_key(), CHAIN);
    check(Some(good), [6; 32], true);
    check(Some(good), [5; 32], false);
    check(None, [6; 32], false);
    check(Some(bind.acknowledge(&voucher_key(), CHAIN)), [6; 32], false);
    check(Some(bind.acknowledge(&relay_key(), "another-chain")), [6; 32], false);
    // Certificates swapped by somebody in between: the signature is over another pair.
    let mut swapped = bind;
    swapped.client_fingerprint = [4; 32];
    check(Some(swapped.acknowledge(&relay_key(), CHAIN)), [6; 32], false);
}

fn watching() -> (Payer, Instant, u32) {
    let now = Instant::now();
    let mut payer = payer(terms(1_000), &[]);
    let lane = let_in(&mut payer, now).lane;
    payer.handle_media(now, 500, 1);
    (payer, now, lane)
}

#[test]
fn a_receipt_or_an_acknowledgement_of_another_key_ends_the_session() {
    let receipt = |lane| Receipt {
        channel: identity().channel,
        relay_key: AccountId::from(&relay_key()),
        lane,
        nonce: 1,
        cumulative: Balance::of(2_000_000),
        sent_bytes: 9,
        state: LaneState::Active,
    };
    let (mut payer, now, lane) = watching();
    let signature = receipt(lane).sign(&relay_key(), CHAIN);
    payer.handle_frame(now, Frame::Receipt(Box::new(receipt(lane)), signature));
    assert_eq!(outputs(&mut payer), []);
    let forged = Receipt { sent_bytes: 10, ..receipt(lane) };
    payer.handle_frame(now, Frame::Receipt(Box::new(forged), signature));
    assert!(matches!(outputs(&mut payer)[..], [Output::Stop(Stop::Tampered(_))]));

    let (mut payer, now, _) = watching();
    payer.handle_frame(now, Frame::BindAck(payer.bind().acknowledge(&relay_key(), CHAIN)));
    assert_eq!(outputs(&mut payer), []);
    payer.handle_frame(now, Frame::BindAck([1; 64]));
    assert!(matches!(outputs(&mut payer)[..], [Output::Stop(Stop::Tampered(_))]));
    // Stopped is stopped: nothing is signed any more.
    payer.handle_frame(now + Duration::from_secs(2), ack(0, FEE, 9_000, LaneState::Late));
    payer.handle_timeout(now + Duration::from_secs(9));
    assert_eq!((outputs(&mut payer), payer.deadline()), (Vec::new(), None));
}

#[test]
fn what_the_relay_ends_is_over_and_what_it_says_is_kept() {
    let (mut payer, now, _) = watching();
    let message = "top up".to_owned();
    payer.handle_frame(now, Frame::GateNotice { open: false, reason: GateReason::Overdue });
    payer.handle_frame(now, Frame::Error { code: 400, message: message.clone() });
    assert_eq!(
        (outputs(&mut payer), payer.gate()),
        (Vec::new(), Some((false, GateReason::Overdue)))
    );
    payer.handle_frame(now, Frame::Error { code: 4402, message: message.clone() });
    assert_eq!(outputs(&mut payer), [Output::Stop(Stop::Ended { code: 4402, message })]);
}

#[test]
fn a_payer_stops_at_the_end_of_its_room() {
    let now = Instant::now();
    let tight = |amount| Room { amount: Balance::of(amount), limit: RoomLimit::DayCap };
    let mut payer = payer(terms(1_000), &[]);
    payer.set_room(tight(1_999_999));
    assert_eq!(payer.admission(None), Err(Stop::Room(RoomLimit::DayCap)));
    payer.set_room(tight(2_000_000));
    let lane = let_in(&mut payer, now).lane;
    payer.set_room(tight(0));
    payer.handle_media(now, 5_000, 1);
    let later = now + Duration::from_secs(1);
    payer.handle_frame(later, ack(lane, Balance::of(2_000_000), 5_000, LaneState::Late));
    assert_eq!(outputs(&mut payer), [Output::Stop(Stop::Room(RoomLimit::DayCap))]);
}

#[test]
fn a_relay_that_wants_more_than_it_sent_is_left_after_a_while() {
    let (mut payer, now, lane) = watching();
    let (mut signed, mut stopped_at) = (Vec::new(), None);
    for second in 1..20 {
        let now = now + Duration::from_secs(second);
        payer.handle_frame(now, ack(lane, Balance::of(2_000_000), 60_000, LaneState::Paused));
        let due = Balance::of(60_000_000);
        let request = PayReq { lane, due, paid: Balance::of(2_000_000), deadline_ms: 0 };
        payer.handle_frame(now, Frame::PayReq(request));
        let said = outputs(&mut payer);
        signed.extend(vouchers(&said));
        if said.iter().any(|output| matches!(output, Output::Stop(Stop::Claim { .. }))) {
            stopped_at = Some(second);
            break;
        }
    }
    assert_eq!(stopped_at, Some(11));
    // 500 ms came: 2 % and a second on top, two cadences ahead.
    let most = signed.iter().map(|one| one.cumulative).max();
    assert_eq!(most, Some(Balance::of(3_510_000)));
}

#[test]
fn a_voucher_that_the_relay_missed_is_sent_again() {
    let (mut payer, now, lane) = watching();
    let later = now + Duration::from_millis(10);
    let request =
        PayReq { lane, due: Balance::of(500_000), paid: Balance::ZERO, deadline_ms: 3_000 };
    payer.handle_frame(later, Frame::PayReq(request));
    assert_eq!(outputs(&mut payer), [Output::Resend]);
}

#[test]
fn a_price_that_rises_much_is_not_paid_unasked() {
    let (mut payer, now, _) = watching();
    let next = |rate| Terms { terms_version: 2, rate, ..terms(1_000) };
    payer.handle_frame(now, Frame::Terms(next(RATE + RATE / 10).to_json()));
    assert_eq!(outputs(&mut payer), [Output::AskChain]);
    let asked = RATE + RATE / 10 + 1;
    payer.handle_frame(now, Frame::Terms(next(asked).to_json()));
    let declined = Output::Declined(Stop::Dearer { asked, agreed: RATE });
    assert_eq!(outputs(&mut payer), [declined]);
    let mut other = next(RATE);
    other.payee = AccountId([4; 32]);
    payer.handle_frame(now, Frame::Terms(other.to_json()));
    assert!(matches!(outputs(&mut payer)[..], [Output::Stop(Stop::Tampered(_))]));
}
