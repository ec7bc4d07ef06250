//! Who may present a voucher: its payee and its relay's key, and by no detour its payer.

use chain_types::{
    Balance, ChannelId, LaneRecord, Payload, Policy, ResultCode, SplitShares, StateKey, StreamId,
    Voucher,
};
use proptest::prelude::*;

use crate::world::*;

/// 10 SUT.
const DEPOSIT: u64 = 10_000_000_000;
/// The most that an amount can be.
const MOST: Balance = Balance::MAX;

/// `relay` is a relay with the key `submitter`; `creator` has a stream at 1,000,000 units a second.
fn world() -> (World, StreamId) {
    let mut world = World::new();
    world.relays(&["relay"], "submitter");
    let stream = world.register(Policy::Paid);
    (world, stream)
}

/// A stream of `who` that leaves everything to `who`.
fn own_stream(world: &mut World, who: &str) -> StreamId {
    let stream = StreamId::of(&id(who), world.account(who).nonce);
    let mut payload = register(Policy::Paid);
    if let Payload::RegisterStream { split, origin_relay, .. } = &mut payload {
        *split = SplitShares { creator_bps: 10_000, origin_bps: 0 };
        *origin_relay = None;
    }
    world.done(who, payload);
    stream
}

fn lane(world: &World, voucher: &Voucher) -> Option<LaneRecord> {
    world.app.snapshot().lane(&lane_of(voucher)).expect("a sound chain")
}

/// Channels and lanes, byte by byte.
fn books(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_book = |key: &[u8]| {
        [StateKey::CHANNELS, StateKey::LANES].iter().any(|prefix| key.starts_with(prefix))
    };
    content(&world.app.snapshot()).into_iter().filter(|(key, _)| is_book(key)).collect()
}

#[test]
fn the_payee_and_the_key_that_it_names_present_and_nobody_else() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[]);
    let at = |cumulative| redeem(vec![signed(voucher(channel, stream, cumulative))]);
    world.done("relay", at(100));
    world.done("submitter", at(200));
    for stranger in ["viewer", "creator", "origin", "other"] {
        world.refused(stranger, at(300), ResultCode::NotOwner);
    }
    // Who names somebody else's key as its own lets that one present, and gains nothing.
    world.relays(&["viewer"], "submitter");
    world.relays(&["other"], "other");
    world.refused("viewer", at(300), ResultCode::NotOwner);
    world.refused("other", at(300), ResultCode::NotOwner);
    world.done("submitter", at(300));
}

#[test]
fn a_payee_that_is_no_relay_presents_alone() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[]);
    let to_other = Voucher { payee: id("other"), ..voucher(channel, stream, 100) };
    world.refused("submitter", redeem(vec![signed(to_other)]), ResultCode::NotOwner);
    world.done("other", redeem(vec![signed(to_other)]));
}

#[test]
fn a_key_that_was_replaced_presents_no_more() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[]);
    let at = |cumulative| redeem(vec![signed(voucher(channel, stream, cumulative))]);
    world.done("submitter", at(100));
    world.done("relay", Payload::UpdateRelay { relay: relay_facts("origin") });
    world.refused("submitter", at(200), ResultCode::NotOwner);
    world.done("origin", at(200));
    world.done("relay", at(300));
}

/// Each entry has its own code also here: what cannot be read, and what names a second payee, is
/// told apart from what the signer may not present.
#[test]
fn a_strangers_entries_are_refused_each_for_its_own_reason() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[]);
    let mine = voucher(channel, stream, 100);
    let mut undecodable = signed(mine);
    undecodable[112] = 0xff;
    // The first voucher names the payee of them all: one for the signer does not open the others.
    let own = Voucher { payee: id("viewer"), ..mine };
    let result = world.run("viewer", redeem(vec![undecodable, signed(mine), signed(own)]));
    let refused = |data: &[u8]| -> Vec<_> {
        let outcomes = consensus_abci::app::EntryOutcome::decode_all(data).expect("a redeem's");
        outcomes.iter().map(|outcome| outcome.refused).collect()
    };
    let not_owner = Some(ResultCode::NotOwner);
    let codes = [Some(ResultCode::Decode), not_owner, Some(ResultCode::WrongPayee)];
    assert_eq!(refused(&result.data), codes);
    assert_eq!(ResultCode::from_code(result.code), Some(ResultCode::Decode));
    let result = world.run("viewer", redeem(vec![signed(own), signed(mine)]));
    assert_eq!(refused(&result.data), [None, Some(ResultCode::WrongPayee)]);
    assert_eq!(lane(&world, &mine), None);
}

/// R3: all but a unit is reserved for an accomplice, and in that moment the payer presents a total
/// that its lane can never reach. The relay then serves 46 s, is given a reserve for them, and is
/// paid.
#[test]
fn a_payer_cannot_poison_a_lane_with_a_total_of_its_own() {
    let (mut world, stream) = world();
    let until = world.height + 14;
    let channel = world.open(DEPOSIT, &[("other", DEPOSIT - 1, until)]);
    assert_eq!(world.channel(&channel).free(world.height), sut(1));
    let poison = Voucher { cumulative: MOST, ..voucher(channel, stream, 1) };
    world.refused("viewer", redeem(vec![signed(poison)]), ResultCode::NotOwner);
    world.refused("other", redeem(vec![signed(poison)]), ResultCode::NotOwner);
    assert_eq!(lane(&world, &poison), None);
    world.skip(until - world.height);
    let reserve = keep("relay", DEPOSIT, world.height + 1_000);
    world.done("viewer", Payload::Reserve { channel, reserve });
    let honest = voucher(channel, stream, 46_500_000);
    world.done("submitter", redeem(vec![signed(honest)]));
    let record = lane(&world, &honest).expect("it was paid");
    assert_eq!((record.cum, record.paid), (sut(46_500_000), sut(46_500_000)));
}

/// Even the relay itself does its lane no harm with a total that the channel could not pay.
#[test]
fn a_total_that_was_shown_too_high_stands_against_no_later_one() {
    let (mut world, stream) = world();
    let until = world.height + 5;
    let channel = world.open(DEPOSIT, &[("other", DEPOSIT - 1, until)]);
    let high = Voucher { cumulative: MOST, ..voucher(channel, stream, 1) };
    world.done("submitter", redeem(vec![signed(high)]));
    world.skip(until - world.height);
    let honest = voucher(channel, stream, 46_500_000);
    world.done("submitter", redeem(vec![signed(honest)]));
    let record = lane(&world, &honest).expect("it was paid");
    assert_eq!((record.cum, record.paid), (MOST, sut(46_500_000)));
}

/// R3: the payer presents a unit under other terms first, to which the lane would be bound.
#[test]
fn a_payer_cannot_bind_a_lane_to_other_terms() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[]);
    world.done("creator", Payload::SetPrice { stream, price: price(2_000_000), from_height: 0 });
    let honest = voucher(channel, stream, 1_000_000);
    let other_terms = Voucher { terms_version: 2, ..voucher(channel, stream, 1) };
    world.refused("viewer", redeem(vec![signed(other_terms)]), ResultCode::NotOwner);
    world.done("submitter", redeem(vec![signed(honest)]));
    assert_eq!(lane(&world, &honest).map(|record| record.terms_version), Some(1));
}

/// R3: vouchers for the relay on a stream whose split leaves the relay nothing: the payer's own, or
/// an accomplice's. Its reserve would pay the creator there.
#[test]
fn a_payer_cannot_drain_a_reserve_through_a_stream_of_its_own() {
    let (mut world, stream) = world();
    let channel = world.open(DEPOSIT, &[("relay", DEPOSIT, 10_000)]);
    for thief in ["viewer", "other"] {
        let sybil = own_stream(&mut world, thief);
        let drain = voucher(channel, sybil, DEPOSIT);
        for presenter in ["viewer", "other", "creator"] {
            world.refused(presenter, redeem(vec![signed(drain)]), ResultCode::NotOwner);
        }
        // Nor with the relay's money as the payer's: a reserve is for its payee alone.
        let own = Voucher { payee: id(thief), ..drain };
        world.refused(thief, redeem(vec![signed(own)]), ResultCode::Funds);
    }
    let reserve = |world: &World| world.channel(&channel).reserve_of(&id("relay"), world.height);
    assert_eq!(reserve(&world), sut(DEPOSIT));
    let before = world.balance("relay");
    world.done("submitter", redeem(vec![signed(voucher(channel, stream, DEPOSIT))]));
    assert_eq!(reserve(&world), Balance::ZERO);
    // What the fee leaves, less 70 and 10 per cent.
    assert_eq!(world.balance("relay") - before, DEPOSIT / 100 * 99 / 10 * 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// R3: whatever others present, in whatever order, on whichever stream and terms: channels and
    /// lanes are those of a chain on which the relay alone presented.
    #[test]
    fn what_strangers_present_leaves_no_trace_in_the_books(
        relays in prop::collection::vec(1u64..1_000_000, 1..6),
        strangers in prop::collection::vec(
            (0usize..6, 0usize..4, 0u32..3, 0usize..3, 1u32..3, any::<u64>()),
            1..24,
        ),
    ) {
        let begin = || {
            let (mut world, stream) = world();
            world.done("creator", Payload::SetPrice {
                stream,
                price: price(2_000_000),
                from_height: 0,
            });
            let sybil = own_stream(&mut world, "other");
            let channel: ChannelId = world.open(DEPOSIT, &[("relay", 1_000_000, 10_000)]);
            (world, [stream, sybil, StreamId::ZERO], channel)
        };
        let ((mut calm, ..), (mut noisy, streams, channel)) = (begin(), begin());
        let mut total = 0;
        for (at, more) in relays.iter().enumerate() {
            let of_turn = strangers.iter().filter(|(turn, ..)| *turn % relays.len() == at);
            for (_, who, lane, stream, terms_version, amount) in of_turn {
                let noise = Voucher {
                    cumulative: sut(*amount),
                    lane: *lane,
                    terms_version: *terms_version,
                    ..voucher(channel, streams[*stream], 1)
                };
                let who = ["viewer", "other", "creator", "origin"][*who];
                let result = noisy.run(who, redeem(vec![signed(noise)]));
                prop_assert_eq!(result.code, ResultCode::NotOwner.code());
                calm.skip(1);
            }
            total += more;
            for world in [&mut calm, &mut noisy] {
                world.done("submitter", redeem(vec![signed(voucher(channel, streams[0], total))]));
            }
            prop_assert_eq!(books(&calm), books(&noisy));
        }
        prop_assert_eq!(noisy.balance("relay"), calm.balance("relay"));
    }
}
