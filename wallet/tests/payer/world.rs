//! Worlds in virtual time: one payer, one relay, a path between them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chain_types::{
    AccountId, Balance, Bind, ChannelId, Frame, LaneKey, LaneState, PayAck, PayReq, Policy,
    SigningKey, Split, StreamId, StreamMetadata, StreamTerms, Terms, TokenId, Voucher, lane,
};
use proptest::prelude::*;
use wallet::{ChainFacts, Identity, LaneDue, LaneSums, Output, Payer, Room, RoomLimit, Stop};

pub const CHAIN: &str = "sutantra-test-1";
pub const RATE: u64 = 1_000_000;
pub const FEE: Balance = Balance::of(1_000);

pub fn relay_key() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

pub fn voucher_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn terms(cadence_ms: u32) -> Terms {
    Terms {
        stream: StreamId([3; 32]),
        payee: AccountId([2; 32]),
        relay_key: AccountId::from(&relay_key()),
        relay_fp: "06".repeat(32),
        terms_version: 1,
        rate: RATE,
        tier: 2,
        cadence_ms,
        grace_ms: 3_000,
        pause_max_s: 60,
        min_prepay: lane::min_prepay(RATE, cadence_ms, FEE),
    }
}

pub fn price(version: u32, rate_per_second: u64, from_height: u64) -> StreamTerms {
    StreamTerms {
        version,
        rate_per_second,
        tier_bps: [2_500, 5_000, 10_000],
        from_height,
        ticket_price: Balance::ZERO,
        ticket_ms: 0,
    }
}

pub fn facts() -> ChainFacts {
    ChainFacts {
        height: 100,
        stream: StreamMetadata {
            id: StreamId([3; 32]),
            creator: AccountId([1; 32]),
            title: String::new(),
            policy: Policy::Paid,
            terms: vec![price(1, RATE, 1)],
            split: vec![Split { version: 1, creator_bps: 7_000, origin_bps: 0 }],
            origin_relay: None,
            issuers: Vec::new(),
            rev_epoch: 0,
            codecs: Vec::new(),
            created: 0,
            ended: None,
            ext: BTreeMap::new(),
        },
        payee: AccountId([2; 32]),
        relay_key: Some(AccountId::from(&relay_key())),
        fee_per_voucher: FEE,
    }
}

pub fn identity() -> Identity {
    Identity {
        viewer: AccountId([9; 32]),
        holder_key: AccountId::from(&voucher_key()),
        token_id: TokenId::ZERO,
        channel: ChannelId([1; 32]),
        client_fingerprint: [5; 32],
    }
}

pub const PLENTY: Room = Room { amount: Balance::MAX, limit: RoomLimit::Pool };

pub fn payer(terms: Terms, known: &[LaneSums]) -> Payer {
    let facts = facts();
    let agreed = facts.agree(terms).expect("as on chain");
    let voucher_key = AccountId::from(&voucher_key());
    Payer::new(CHAIN, identity(), voucher_key, facts, agreed, known, PLENTY)
}

pub fn let_in(payer: &mut Payer, now: Instant) -> Voucher {
    let (voucher, _) = payer.admission(None).expect("asks for the prepayment alone");
    let ack = payer.bind().acknowledge(&relay_key(), CHAIN);
    payer.handle_admitted(now, Some(ack), [6; 32], None).expect("the relay's signature");
    voucher
}

pub fn outputs(payer: &mut Payer) -> Vec<Output> {
    std::iter::from_fn(|| payer.poll()).collect()
}

pub fn vouchers(outputs: &[Output]) -> Vec<Voucher> {
    let paid = outputs.iter().filter_map(|output| match output {
        Output::Pay { voucher, .. } => Some(*voucher),
        Output::Bind(_)
        | Output::Resend
        | Output::Raise(_)
        | Output::AskChain
        | Output::Declined(_)
        | Output::Stop(_) => None,
    });
    paid.collect()
}

pub fn ack(lane: u32, cumulative: Balance, served_ms: u64, state: LaneState) -> Frame {
    Frame::PayAck(PayAck { lane, cumulative, sent_bytes: 0, served_ms, state })
}

/// A small generator, so that a world is a function of its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, of: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % of
    }
}

/// What crosses the path, and when it arrives.
enum Post {
    ToRelay(u64, Balance),
    ToPayer(u64, Frame),
}

/// PROTOCOL §1, the lane as tabled, in slots of 500 ms: enough of a relay to be paid honestly.
struct Relay {
    rate: u64,
    grace_ms: u64,
    lane: u32,
    paid: Balance,
    served_ms: u64,
    is_open: bool,
    pauses: u32,
}

impl Relay {
    fn owed(&self) -> Balance {
        lane::cost(self.rate, self.served_ms)
    }

    fn state(&self) -> LaneState {
        match (self.is_open, self.owed() > self.paid) {
            (false, _) => LaneState::Paused,
            (true, true) => LaneState::Late,
            (true, false) => LaneState::Active,
        }
    }

    fn settle(&mut self) {
        let behind = self.owed().saturating_sub(self.paid);
        if behind.is_zero() {
            self.is_open = true;
        } else if self.is_open && behind > lane::cost(self.rate, self.grace_ms) {
            self.is_open = false;
            self.pauses += 1;
        }
    }
}

/// One viewer for two minutes; the relay's pauses, and the payer's bound at each voucher.
fn watch(cadence_ms: u32, rtt_ms: u64, lost_per_mille: u64, seed: u64) -> u32 {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut dice = Dice(seed);
    let mut payer = payer(terms(cadence_ms), &[]);
    let first = let_in(&mut payer, start);
    let mut relay = Relay {
        rate: RATE,
        grace_ms: 3_000,
        lane: first.lane,
        paid: first.cumulative,
        served_ms: 0,
        is_open: true,
        pauses: 0,
    };
    let (mut post, mut received_ms) = (Vec::new(), 0);
    let offset = dice.roll(1_000);
    for now in (0..120_000).step_by(10) {
        for sent in std::mem::take(&mut post) {
            match sent {
                Post::ToRelay(due, paid) if due <= now => {
                    relay.paid = relay.paid.max(paid);
                    relay.settle();
                    let frame = ack(relay.lane, relay.paid, relay.served_ms, relay.state());
                    post.push(Post::ToPayer(now + rtt_ms / 2, frame));
                }
                Post::ToPayer(due, frame) if due <= now => payer.handle_frame(at(now), frame),
                later => post.push(later),
            }
        }
        if now % 500 == 0 && relay.is_open {
            // The relay counts the slot even where none of it arrives: the worst case for us.
            relay.served_ms += 500;
            if dice.roll(1_000) >= lost_per_mille {
                received_ms += 500;
                payer.handle_media(at(now), 500, 60_000);
            }
            relay.settle();
        }
        if now % 1_000 == offset / 10 * 10 {
            let frame = ack(relay.lane, relay.paid, relay.served_ms, relay.state());
            post.push(Post::ToPayer(now + rtt_ms / 2, frame));
            if relay.owed() > relay.paid {
                let (due, paid) = (relay.owed(), relay.paid);
                let request = PayReq { lane: relay.lane, due, paid, deadline_ms: 3_000 };
                post.push(Post::ToPayer(now + rtt_ms / 2, Frame::PayReq(request)));
            }
        }
        payer.handle_timeout(at(now));
        for voucher in vouchers(&outputs(&mut payer)) {
            let payable = lane::payable_ms(relay.served_ms, received_ms);
            assert!(voucher.cumulative <= lane::signed_total(RATE, payable, cadence_ms, 1));
            post.push(Post::ToRelay(now + rtt_ms / 2, voucher.cumulative));
        }
    }
    assert!(relay.served_ms > 5_000, "the world ran");
    relay.pauses
}

/// The lane's timing model of PROTOCOL §1.
#[test]
fn an_honest_viewer_is_never_paused() {
    for cadence_ms in [1_000, 2_000, 5_000, 10_000] {
        for rtt_ms in [50, 300] {
            for lost_per_mille in [0, 20] {
                for seed in 0..20 {
                    let pauses = watch(cadence_ms, rtt_ms, lost_per_mille, seed);
                    assert_eq!(pauses, 0, "{cadence_ms} {rtt_ms} {lost_per_mille} {seed}");
                }
            }
        }
    }
}

/// The model can fail: a path that loses every third half-second pauses its viewer.
#[test]
fn a_path_far_worse_than_the_model_pauses() {
    assert!(watch(1_000, 300, 333, 1) > 0);
}

/// `chain-types/vectors/money.json`, the file that the browser's wallet is held against too.
#[test]
fn the_payer_signs_the_totals_of_the_vectors() {
    let text = include_str!("../../../chain-types/vectors/money.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let totals = vectors["lanes"]["totals"].as_array().expect("a table");
    let mut checked = 0;
    // One writer has one session; the rows of several are the browser's tabs.
    for row in totals.iter().filter(|row| row["sessions"] == 1) {
        let number = |key: &str| row[key].as_str().expect("decimal").parse::<u64>().expect("u64");
        let cadence_ms = u32::try_from(row["cadence_ms"].as_u64().expect("ms")).expect("ms");
        let min_prepay = row["min_prepay"].as_str().expect("decimal").parse().expect("units");
        let rate = number("rate");
        let mut facts = facts();
        facts.stream.terms = vec![price(1, rate, 1)];
        let terms = Terms { rate, min_prepay, ..terms(cadence_ms) };
        let agreed = facts.agree(terms.clone()).expect("as on chain");
        let voucher_key = AccountId::from(&voucher_key());
        let mut payer = Payer::new(CHAIN, identity(), voucher_key, facts, agreed, &[], PLENTY);
        let start = Instant::now();
        let first = let_in(&mut payer, start);
        let admitted: Balance =
            row["signed_total"].as_str().expect("decimal").parse().expect("units");
        payer.handle_media(start, number("media_ms"), 1);
        let later = start + Duration::from_millis(cadence_ms.into());
        payer.handle_frame(
            later,
            ack(first.lane, first.cumulative, number("served_ms"), LaneState::Active),
        );
        let signed =
            vouchers(&outputs(&mut payer)).last().map_or(first.cumulative, |one| one.cumulative);
        assert_eq!(signed, admitted.max(terms.min_prepay), "{row}");
        checked += 1;
    }
    assert!(checked >= 3, "the table has rows of one session");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A relay that takes and sends nothing, over any number of sessions, whatever it claims to
    /// have served: two cadences, once.
    #[test]
    fn a_farmer_relay_gets_two_cadences(
        cadence_ms in 250_u32..=10_000,
        claims in proptest::collection::vec(any::<u32>(), 1..8),
    ) {
        let start = Instant::now();
        let terms = terms(cadence_ms);
        let key = LaneKey {
            channel: identity().channel,
            payee: terms.payee,
            stream: terms.stream,
            lane: terms.lane(),
        };
        let mut sums = LaneSums::new(key, 1, RATE);
        for claim in claims {
            let mut payer = payer(terms.clone(), &[sums]);
            let first = let_in(&mut payer, start);
            let mut signed = vec![first];
            for second in 0..60 {
                let now = start + Duration::from_secs(second);
                let served_ms = u64::from(claim) * second;
                payer.handle_frame(now, ack(key.lane, first.cumulative, served_ms, LaneState::Late));
                let due = lane::cost(RATE, served_ms);
                let request = PayReq { lane: key.lane, due, paid: first.cumulative, deadline_ms: 1 };
                payer.handle_frame(now, Frame::PayReq(request));
                payer.handle_timeout(now);
                signed.extend(vouchers(&outputs(&mut payer)));
            }
            prop_assert!(payer.got_nothing() || sums.cumulative == first.cumulative);
            let last = signed.last().expect("the first one");
            let served_ms = payer.served_ms();
            let Voucher { nonce, cumulative, media_ms, bytes, .. } = *last;
            sums = LaneSums { nonce, cumulative, media_ms, bytes, served_ms: served_ms.min(sums.served_ms), ..sums };
            prop_assert!(cumulative <= terms.min_prepay, "{cumulative} units for nothing");
        }
    }

    /// Any frames, any media, any time: never above the bound, never less than before.
    #[test]
    fn no_frame_makes_the_payer_sign_more_than_the_rules_allow(
        steps in proptest::collection::vec((0_u8..7, any::<u32>(), 0_u64..2_000), 1..120)
    ) {
        let start = Instant::now();
        let terms = terms(1_000);
        let mut payer = payer(terms.clone(), &[]);
        let mut last = let_in(&mut payer, start);
        let (mut now, mut media_ms, mut claimed_ms) = (start, 0, 0);
        let synced = Balance::of(5_000_000);
        let mut floor = last.cumulative;
        for (step, number, wait_ms) in steps {
            now += Duration::from_millis(wait_ms);
            let wild = Balance::new(u128::from(number) << 40).expect("below 2^96");
            match step {
                0 => {
                    claimed_ms = claimed_ms.max(u64::from(number));
                    payer.handle_frame(now, ack(last.lane, wild, number.into(), LaneState::Late));
                }
                1 => payer.handle_frame(now, Frame::PayReq(PayReq {
                    lane: last.lane, due: wild, paid: Balance::ZERO, deadline_ms: number,
                })),
                2 => {
                    media_ms += u64::from(number % 1_000);
                    payer.handle_media(now, u64::from(number % 1_000), 10);
                }
                3 => payer.handle_timeout(now),
                4 => {
                    // A voucher of ours from another life, and one that somebody else signed.
                    let known = Voucher { nonce: 1_000, cumulative: synced, ..last };
                    let key = if number % 2 == 0 { voucher_key() } else { relay_key() };
                    if number % 2 == 0 {
                        floor = floor.max(synced);
                    }
                    payer.handle_frame(now, Frame::PaySync(Box::new(known.sign(&key, CHAIN))));
                }
                5 => payer.hold(),
                _ => payer.release(now),
            }
            for voucher in vouchers(&outputs(&mut payer)) {
                let payable = lane::payable_ms(claimed_ms, media_ms);
                let bound = lane::signed_total(RATE, payable, 1_000, 1).max(floor);
                prop_assert!(voucher.cumulative <= bound);
                prop_assert!(voucher.cumulative >= last.cumulative && voucher.nonce > last.nonce);
                prop_assert!(voucher.media_ms >= last.media_ms && voucher.bytes >= last.bytes);
                floor = floor.max(voucher.cumulative);
                last = voucher;
            }
        }
    }
}

#[test]
fn a_returning_viewer_is_let_in_on_what_is_left_of_its_prepayment() {
    let now = Instant::now();
    let mut first = payer(terms(1_000), &[]);
    let prepaid = let_in(&mut first, now);
    assert_eq!(prepaid.cumulative, Balance::of(2_000_000));
    // Ten seconds were served and received, eleven signed for at most.
    let sums = LaneSums {
        key: prepaid.lane_key(),
        terms_version: 1,
        rate: RATE,
        nonce: 11,
        cumulative: Balance::of(12_000_000),
        media_ms: 10_000,
        bytes: 1,
        served_ms: 9_500,
        forgiven_ms: 0,
        is_open: false,
    };
    let mut again = payer(terms(1_000), &[sums]);
    let (voucher, _) = again.admission(None).expect("within the rules");
    assert_eq!((voucher.nonce, voucher.cumulative), (12, Balance::of(12_000_000)));
    let lane = LaneDue {
        lane: prepaid.lane,
        due: Balance::of(12_000_000),
        paid: Balance::of(12_000_000),
        served_ms: 10_000,
    };
    let (voucher, _) = again.admission(Some(lane)).expect("what it owes and the prepayment");
    assert_eq!((voucher.nonce, voucher.cumulative), (13, Balance::of(12_000_000)));
    // What is owed on another lane of the pool is paid first, as far as it was received.
    let key = LaneKey { stream: StreamId([33; 32]), lane: 77, ..prepaid.lane_key() };
    let other = LaneSums { key, cumulative: Balance::of(9_000_000), ..sums };
    let mut owing = payer(terms(1_000), &[sums, other]);
    let due = LaneDue { lane: 77, due: Balance::of(10_500_000), served_ms: 10_500, ..lane };
    let (voucher, _) = owing.admission(Some(due)).expect("it was received");
    assert_eq!((voucher.lane_key(), voucher.cumulative), (key, Balance::of(10_500_000)));
    let due = LaneDue { due: Balance::of(12_000_000), served_ms: 12_000, ..due };
    assert!(matches!(owing.admission(Some(due)), Err(Stop::Claim { .. })));
    let due = LaneDue { lane: 78, ..due };
    assert!(matches!(owing.admission(Some(due)), Err(Stop::Claim { .. })));
    // More than it sent us, by a second and more.
    let lane = LaneDue { due: Balance::of(15_000_000), served_ms: 13_000, ..lane };
    assert!(matches!(again.admission(Some(lane)), Err(Stop::Claim { .. })));
}

/// A relay goes on sending until it notices that nobody is there.
#[test]
fn what_was_served_into_a_broken_connection_is_paid_once_and_within_bounds() {
    let now = Instant::now();
    let prepaid = let_in(&mut payer(terms(1_000), &[]), now);
    let broken = LaneSums {
        key: prepaid.lane_key(),
        terms_version: 1,
        rate: RATE,
        nonce: 11,
        cumulative: Balance::of(12_000_000),
        media_ms: 10_000,
        bytes: 1,
        served_ms: 10_000,
        forgiven_ms: 0,
        is_open: true,
    };
    #[track_caller]
    fn check(sums: LaneSums, served_ms: u64, expected: Option<u64>) -> u64 {
        let mut payer = payer(terms(1_000), &[sums]);
        payer.admission(None).expect("within the rules");
        let due = Balance::of((served_ms + 2_000) * 1_000);
        let paid = sums.cumulative;
        let lane = LaneDue { lane: sums.key.lane, due, paid, served_ms };
        let result = payer.admission(Some(lane));
        let signed = result.as_ref().ok().map(|(voucher, _)| voucher.cumulative);
        assert_eq!(signed, expected.map(Balance::of), "{result:?}");
        result.map_or(0, |(_, basis)| basis.forgiven_ms)
    }
    // Ten seconds came: 2 % and a second on top are nobody's question.
    assert_eq!(check(LaneSums { is_open: false, ..broken }, 11_200, Some(13_200_000)), 0);
    check(LaneSums { is_open: false, ..broken }, 11_201, None);
    assert_eq!(check(broken, 15_000, Some(17_000_000)), 3_800);
    // Two cadences and the grace, no more at once,
    check(broken, 16_201, None);
    assert_eq!(check(broken, 16_200, Some(18_200_000)), 5_000);
    // and a tenth of what came on top of that in all.
    let often = LaneSums { forgiven_ms: 5_000, ..broken };
    assert_eq!(check(often, 17_200, Some(19_200_000)), 6_000);
    check(often, 17_201, None);
    check(LaneSums { forgiven_ms: 6_000, media_ms: 10_000, ..broken }, 17_201, None);
}

#[test]
fn a_payer_that_holds_signs_nothing_and_goes_on_at_once() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut payer = payer(terms(1_000), &[]);
    let first = let_in(&mut payer, start);
    payer.handle_media(start, 2_000, 1);
    payer.hold();
    for second in 1..10 {
        payer.handle_frame(
            at(second * 1_000),
            ack(first.lane, first.cumulative, 2_000, LaneState::Paused),
        );
        payer.handle_timeout(at(second * 1_000));
    }
    assert_eq!((outputs(&mut payer), payer.deadline()), (Vec::new(), None));
    payer.release(at(10_000));
    let signed = vouchers(&outputs(&mut payer));
    assert_eq!(
        signed.iter().map(|one| one.cumulative).collect::<Vec<_>>(),
        [Balance::of(4_000_000)]
    );
    assert_eq!(payer.deadline(), Some(at(11_000)));
}

#[test]
fn a_new_price_is_bound_prepaid_and_counted_on_once_the_relay_does() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut payer = payer(terms(1_000), &[]);
    let first = let_in(&mut payer, start);
    payer.handle_media(at(500), 3_000, 1);
    let next = Terms {
        terms_version: 2,
        rate: RATE + RATE / 20,
        min_prepay: Balance::of(2_100_000),
        ..terms(1_000)
    };
    payer.handle_frame(at(600), Frame::Terms(next.to_json()));
    assert_eq!(outputs(&mut payer), [Output::AskChain]);
    let mut facts = facts();
    facts.stream.terms.push(price(2, next.rate, 130));
    payer.handle_chain(facts);
    let said = outputs(&mut payer);
    let [Output::Bind(bind), Output::Pay { voucher, .. }] = said[..] else { panic!("{said:?}") };
    let expected: Bind = Bind { terms_hash: next.hash(), ..payer.bind() };
    assert_eq!((bind, voucher.lane), (expected, next.lane()));
    assert_eq!((voucher.cumulative, voucher.terms_version), (Balance::of(2_100_000), 2));
    payer.handle_frame(at(700), Frame::BindAck(bind.acknowledge(&relay_key(), CHAIN)));
    // Until the relay serves on the new lane, the old one is paid.
    payer.handle_frame(at(1_600), ack(first.lane, first.cumulative, 1_500, LaneState::Active));
    payer.handle_timeout(at(1_700));
    let lanes: Vec<u32> = vouchers(&outputs(&mut payer)).iter().map(|one| one.lane).collect();
    assert_eq!(lanes, [first.lane]);
    payer.handle_frame(at(2_600), ack(next.lane(), voucher.cumulative, 500, LaneState::Active));
    assert_eq!(payer.terms(), &next);
    payer.handle_media(at(3_000), 1_500, 1);
    payer.handle_frame(at(3_600), ack(next.lane(), voucher.cumulative, 1_500, LaneState::Active));
    let paid = vouchers(&outputs(&mut payer));
    let last = paid.last().expect("a cadence has passed");
    assert_eq!((last.lane, last.cumulative), (next.lane(), lane::cost(next.rate, 3_500)));
}
