use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use chain_types::{
    LaneState, StreamId,
    lane::{cost, min_prepay},
};
use proptest::prelude::*;

use super::*;

const CHAIN: &str = "sutantra-test-1";
/// 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Keeps what was sent; fails on demand.
#[derive(Clone, Default)]
struct Line(Rc<RefCell<(Vec<Vec<u8>>, bool)>>);

impl Line {
    fn sent(&self) -> Vec<Vec<u8>> {
        self.0.borrow().0.clone()
    }

    fn vouchers(&self) -> Vec<SignedVoucher> {
        let voucher = |bytes: &Vec<u8>| match Frame::decode(bytes) {
            Ok(Frame::Voucher(voucher)) => *voucher,
            other => panic!("{other:?}"),
        };
        self.sent().iter().map(voucher).collect()
    }

    fn cut(&self, is_cut: bool) {
        self.0.borrow_mut().1 = is_cut;
    }
}

impl PayTransport for Line {
    fn send(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let mut line = self.0.borrow_mut();
        if line.1 {
            return Err(TransportError("the channel is closed".to_owned()));
        }
        line.0.push(bytes.to_vec());
        Ok(())
    }
}

fn voucher_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn terms(terms_version: u32, rate: u64, cadence_ms: u32) -> Terms {
    Terms {
        stream: StreamId([3; 32]),
        payee: AccountId([2; 32]),
        relay_key: AccountId([6; 32]),
        relay_fp: "06".repeat(32),
        terms_version,
        rate,
        tier: 2,
        cadence_ms,
        grace_ms: 3000,
        pause_max_s: 60,
        min_prepay: min_prepay(rate, cadence_ms, Balance::ZERO),
    }
}

fn paying(terms: Terms, form: PayForm) -> (StreamPaymentChannel<Line>, Line) {
    let line = Line::default();
    let (payer, channel) = (AccountId([4; 32]), ChannelId([1; 32]));
    let now = Instant::now();
    let key = voucher_key();
    let paying =
        StreamPaymentChannel::new(line.clone(), payer, key, channel, terms, CHAIN, form, now);
    (paying, line)
}

/// Time on the present lane, as both sides count it.
fn pass(paying: &mut StreamPaymentChannel<Line>, served_ms: u64, media_ms: u64) {
    let lane = paying.lane().lane;
    paying.on_pay_ack(&PayAck {
        lane,
        cumulative: Balance::ZERO,
        sent_bytes: 0,
        served_ms,
        state: LaneState::Active,
    });
    paying.on_received(Received { media_ms, bytes: media_ms * 300 });
}

fn pay(paying: &mut StreamPaymentChannel<Line>, at_ms: u64) -> Balance {
    let now = paying.last_payment + Duration::from_millis(1);
    let paid = paying.process_payment(now, EPOCH_MS + at_ms).unwrap();
    paid.map_or(Balance::ZERO, |message| message.amount)
}

proptest! {
    /// R28: a minute at any rate and cadence: vouchers sum to its cost and at most two cadences, and
    /// one redeem settles them.
    #[test]
    fn a_minute_costs_a_minute_and_at_most_two_cadences(
        rate in 1u64..u64::MAX / 100,
        cadence_ms in chain_types::CADENCE_MS,
    ) {
        let (mut paying, line) = paying(terms(1, rate, cadence_ms), PayForm::Frame);
        let mut sum = Balance::ZERO;
        let mut at_ms = 0;
        while at_ms < 60_000 {
            pass(&mut paying, at_ms, at_ms);
            sum = sum.checked_add(pay(&mut paying, at_ms)).unwrap();
            prop_assert_eq!(paying.calculate_payment_due(), Balance::ZERO, "paid is paid");
            at_ms += u64::from(cadence_ms);
        }
        pass(&mut paying, 60_000, 60_000);
        sum = sum.checked_add(pay(&mut paying, 60_000)).unwrap();
        let minute = cost(rate, 60_000);
        let ahead = cost(rate, 2 * u64::from(cadence_ms));
        prop_assert!(sum >= minute);
        // Rounded down twice, not once: one unit.
        let most = minute.checked_add(ahead).unwrap().checked_add(Balance::of(1)).unwrap();
        prop_assert!(sum <= most, "{} of {}", sum, most);
        prop_assert_eq!(sum, paying.paid());

        let newest = *line.vouchers().last().unwrap();
        prop_assert_eq!(newest.voucher.cumulative, sum);
        let key = AccountId::from(&voucher_key());
        for voucher in line.vouchers() {
            prop_assert!(voucher.verify(&key, CHAIN).is_ok());
        }
        let Some(BlockchainCommand::Redeem { payee, entries }) = paying.take_redeem() else {
            return Err(TestCaseError::fail("nothing to redeem"));
        };
        prop_assert_eq!((payee, entries), (AccountId([2; 32]), vec![newest]));
        prop_assert!(paying.take_redeem().is_none());
    }

    /// R30: whatever the relay says and whatever arrives, no more is signed than for what arrived,
    /// a little, and two cadences; and no total ever falls.
    #[test]
    fn no_more_is_signed_than_arrived(
        rate in 0u64..1_000_000_000,
        steps in prop::collection::vec((0u64..20_000, 0u64..2_000), 1..40),
    ) {
        let (mut paying, line) = paying(terms(1, rate, 1000), PayForm::Frame);
        let (mut served_ms, mut media_ms) = (0, 0);
        for (at, (served, media)) in (1..).zip(steps) {
            served_ms += served;
            media_ms += media;
            pass(&mut paying, served_ms, media_ms);
            let before = paying.paid();
            pay(&mut paying, at * 1000);
            prop_assert!(paying.paid() >= before);
            let most = cost(rate, media_ms * 102 / 100 + 1000 + 2000);
            prop_assert!(paying.paid() <= most);
        }
        let vouchers = line.vouchers();
        for two in vouchers.windows(2) {
            let (one, next) = (&two[0].voucher, &two[1].voucher);
            prop_assert!(next.cumulative >= one.cumulative && next.nonce > one.nonce);
        }
    }

    #[test]
    fn any_bytes_give_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(PaymentMessage::from_json(&bytes).is_err());
    }
}

/// R27: the fields have these names, and say what holds.
#[test]
fn the_channel_has_its_fields() {
    let now = Instant::now();
    let (mut paying, _line) = paying(terms(1, 1000, 1000), PayForm::Frame);
    let StreamPaymentChannel {
        webrtc_channel: _,
        blockchain_account,
        rate_per_second,
        last_payment,
        ..
    } = &paying;
    assert_eq!(*blockchain_account, AccountId([4; 32]));
    assert_eq!(*rate_per_second, Balance::of(1000));
    assert!(*last_payment >= now);
    let later = now + Duration::from_secs(5);
    paying.process_payment(later, EPOCH_MS).unwrap();
    assert_eq!(paying.last_payment, later);
}

/// R30
#[test]
fn parts_of_a_unit_are_the_viewers_until_they_are_whole() {
    let (mut paying, _line) = paying(terms(1, 3, 250), PayForm::Frame);
    assert_eq!(pay(&mut paying, 0), Balance::of(1)); // 3 · 500 ms: one and a half.
    pass(&mut paying, 166, 166);
    assert_eq!(paying.calculate_payment_due(), Balance::ZERO); // 3 · 666 ms: 1.998.
    pass(&mut paying, 167, 167);
    assert_eq!(paying.calculate_payment_due(), Balance::of(1));
    let (mut free, line) = super::tests::paying(terms(1, 0, 1000), PayForm::Frame);
    pass(&mut free, 60_000, 60_000);
    assert_eq!(pay(&mut free, 1), Balance::ZERO);
    assert_eq!(line.sent().len(), 0, "what costs nothing is not paid");
}

/// R30
#[test]
fn a_pause_costs_nothing() {
    let (mut paying, line) = paying(terms(1, 1000, 1000), PayForm::Frame);
    pay(&mut paying, 0);
    pass(&mut paying, 10_000, 10_000);
    assert_eq!(pay(&mut paying, 10_000), Balance::of(10_000));
    for at_ms in [11_000, 20_000, 60_000] {
        pass(&mut paying, 10_000, 10_000);
        assert_eq!(pay(&mut paying, at_ms), Balance::ZERO);
    }
    assert_eq!(line.sent().len(), 2);
    // A relay that says it served through the pause is believed as far as media came.
    pass(&mut paying, 60_000, 10_000);
    assert_eq!(pay(&mut paying, 61_000), Balance::of(1200));
    pass(&mut paying, 61_000, 11_000);
    assert_eq!(paying.paid(), Balance::of(13_200));
}

/// R27, R30
#[test]
fn a_new_rate_in_mid_stream_is_paid_on_its_own_lane() {
    let (mut paying, _line) = paying(terms(1, 1000, 1000), PayForm::Frame);
    pay(&mut paying, 0);
    pass(&mut paying, 10_000, 10_000);
    pay(&mut paying, 10_000);
    let old = paying.lane();
    paying.change_terms(terms(2, 3000, 1000));
    assert_eq!(paying.rate_per_second, Balance::of(3000));
    assert_ne!(paying.lane(), old);
    assert_eq!(pay(&mut paying, 10_001), Balance::of(6000)); // Two cadences ahead, as at first.
    // Served counts per lane, what arrives counts for the session.
    pass(&mut paying, 5000, 15_000);
    assert_eq!(pay(&mut paying, 15_000), Balance::of(15_000));
    let Some(BlockchainCommand::Redeem { entries, .. }) = paying.take_redeem() else {
        panic!("two lanes are to be settled")
    };
    let mut sums: Vec<_> = entries
        .iter()
        .map(|one| (one.voucher.terms_version, one.voucher.cumulative.units()))
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, [(1, 12_000), (2, 21_000)]);
}

#[test]
fn the_first_payment_reaches_what_is_asked_in_advance() {
    let asked = Terms { min_prepay: Balance::of(5000), ..terms(1, 1000, 1000) };
    let (mut paying, _line) = paying(asked, PayForm::Frame);
    assert_eq!(pay(&mut paying, 0), Balance::of(5000));
    pass(&mut paying, 3000, 3000);
    assert_eq!(paying.calculate_payment_due(), Balance::ZERO);
    pass(&mut paying, 4000, 4000);
    assert_eq!(paying.calculate_payment_due(), Balance::of(1000));
}

#[test]
fn a_payment_that_does_not_leave_is_in_the_next() {
    let (mut paying, line) = paying(terms(1, 1000, 1000), PayForm::Json);
    line.cut(true);
    let failed = paying.process_payment(Instant::now(), EPOCH_MS);
    assert!(matches!(failed, Err(PayError::Transport(_))));
    assert_eq!(paying.paid(), Balance::of(2000), "it was signed");
    line.cut(false);
    // Nothing more is due, but the payee has to hear of it.
    assert_eq!(pay(&mut paying, 1000), Balance::of(2000));
    assert_eq!(pay(&mut paying, 2000), Balance::ZERO);
}

#[test]
fn a_later_session_goes_on_from_the_lanes_newest_voucher() {
    let (mut first, line) = paying(terms(1, 1000, 1000), PayForm::Frame);
    pay(&mut first, 0);
    let newest = line.vouchers()[0];
    let (mut again, _line) = paying(terms(1, 1000, 1000), PayForm::Frame);
    again.resume(&newest);
    assert_eq!(again.paid(), Balance::of(2000));
    assert_eq!(again.calculate_payment_due(), Balance::ZERO);
    // A voucher of another lane says nothing.
    let (mut other, _line) = paying(terms(2, 1000, 1000), PayForm::Frame);
    other.resume(&newest);
    assert_eq!(other.paid(), Balance::ZERO);
}

fn known(paying: &StreamPaymentChannel<Line>) -> PaymentsKnown {
    PaymentsKnown {
        lane: paying.lane(),
        terms_version: 1,
        voucher_key: AccountId::from(&voucher_key()),
        cumulative: Balance::ZERO,
        nonce: 0,
    }
}

/// R29: the JSON is produced by the payer and accepted by the payee, who gets vouchers of it.
#[test]
fn json_payments_become_the_vouchers_that_they_stand_for() {
    let (mut paying, line) = paying(terms(1, 1000, 1000), PayForm::Json);
    let mut known = known(&paying);
    let mut sum = Balance::ZERO;
    for second in 0..60 {
        pass(&mut paying, second * 1000, second * 1000);
        sum = sum.checked_add(pay(&mut paying, second * 1000)).unwrap();
        let message = PaymentMessage::from_json(line.sent().last().unwrap()).unwrap();
        let voucher = message.accept(&mut known, CHAIN).unwrap();
        assert_eq!(voucher.voucher.cumulative, sum);
        assert_eq!(message.timestamp, EPOCH_MS + second * 1000);
    }
    assert_eq!(known.cumulative, Balance::of(61_000));
    let Some(BlockchainCommand::Redeem { entries, .. }) = paying.take_redeem() else {
        panic!("there is something to redeem")
    };
    assert_eq!(entries[0].voucher.cumulative, known.cumulative);
}

/// R29
#[test]
fn the_json_form_is_amount_timestamp_and_signature() {
    let message =
        PaymentMessage { amount: Balance::of(1000), timestamp: EPOCH_MS, signature: [0xab; 64] };
    let json = format!(
        "{{\"amount\":\"1000\",\"timestamp\":1767225600000,\"signature\":\"{}\"}}",
        "ab".repeat(64)
    );
    assert_eq!(message.to_json(), json);
    assert_eq!(PaymentMessage::from_json(json.as_bytes()), Ok(message));
    #[track_caller]
    fn refused(json: &str) {
        let refused = PaymentMessage::from_json(json.as_bytes());
        assert!(matches!(refused, Err(MessageError::Json(_))), "{refused:?}");
    }
    refused("");
    refused("{}");
    refused("[1]");
    refused(&json.replace("\"1000\"", "1000"));
    refused(&json.replace("\"1000\"", "\"-1\""));
    refused(&json.replace("1767225600000", "-1"));
    refused(&json.replace("abab", "abxy"));
    refused(&json.replacen("ab", "", 1));
    refused(&json.replace('}', ",\"more\":1}"));
    let long = format!("{json}{}", " ".repeat(MESSAGE_BYTES_MAX));
    assert_eq!(PaymentMessage::from_json(long.as_bytes()), Err(MessageError::Long(long.len())));
}

/// R29
#[test]
fn a_message_that_was_changed_repeated_or_meant_for_another_lane_pays_nothing() {
    let (mut paying, line) = paying(terms(1, 1000, 1000), PayForm::Json);
    pay(&mut paying, 0);
    let message = PaymentMessage::from_json(&line.sent()[0]).unwrap();
    let fresh = known(&paying);
    #[track_caller]
    fn check(message: PaymentMessage, known: &PaymentsKnown, chain: &str, error: &MessageError) {
        let mut after = known.clone();
        assert_eq!(message.accept(&mut after, chain), Err(error.clone()));
        assert_eq!(after, *known, "what is refused changes nothing");
    }
    let wrong = MessageError::Voucher(chain_types::VoucherError::Signature);
    check(PaymentMessage { amount: Balance::of(2001), ..message }, &fresh, CHAIN, &wrong);
    check(PaymentMessage { timestamp: EPOCH_MS + 1, ..message }, &fresh, CHAIN, &wrong);
    check(PaymentMessage { amount: Balance::MAX, ..message }, &fresh, CHAIN, &wrong);
    check(message, &fresh, "sutantra-other", &wrong);
    let other_lane = PaymentsKnown { terms_version: 2, ..fresh.clone() };
    check(message, &other_lane, CHAIN, &wrong);
    let missed = PaymentsKnown { cumulative: Balance::of(1), ..fresh.clone() };
    check(message, &missed, CHAIN, &wrong);
    check(
        PaymentMessage { amount: Balance::MAX, ..message },
        &missed,
        CHAIN,
        &MessageError::Amount,
    );
    let mut known = fresh;
    message.accept(&mut known, CHAIN).unwrap();
    let stale = MessageError::Stale { timestamp: EPOCH_MS, known: EPOCH_MS };
    check(message, &known, CHAIN, &stale);
}
