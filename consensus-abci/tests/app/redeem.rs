//! Redeem: what a voucher pays, to whom, and what it never pays.

use chain_types::{Balance, ChannelId, Payload, Policy, ResultCode, StreamId, Voucher};
use consensus_abci::app::EntryOutcome;
use tendermint_proto::v0_38::abci::ExecTxResult;

use crate::world::*;

const DEPOSIT: u64 = 1_000_000_000;

/// `submitter` is the relay key of all who are paid.
fn relay_world() -> World {
    let mut world = World::new();
    world.relays(&["relay", "origin", "other"], "submitter");
    world
}

fn paid_world() -> (World, StreamId, ChannelId) {
    let mut world = relay_world();
    let stream = world.register(Policy::Paid);
    let channel = world.open(DEPOSIT, &[]);
    (world, stream, channel)
}

#[track_caller]
fn outcomes(result: &ExecTxResult) -> Vec<Result<u64, ResultCode>> {
    EntryOutcome::decode_all(&result.data)
        .expect("a redeem's data")
        .into_iter()
        .map(|outcome| match outcome.refused {
            None => Ok(outcome.paid.units() as u64),
            Some(code) => {
                assert_eq!(outcome.paid, Balance::ZERO);
                Err(code)
            }
        })
        .collect()
}

/// Presents vouchers in one transaction of `submitter`.
#[track_caller]
fn present(world: &mut World, vouchers: &[Voucher]) -> Vec<Result<u64, ResultCode>> {
    let entries = vouchers.iter().map(|voucher| signed(*voucher)).collect();
    outcomes(&world.run("submitter", redeem(entries)))
}

/// R4
#[test]
fn a_voucher_pays_fee_creator_origin_and_payee() {
    let (mut world, stream, channel) = paid_world();
    let before = ["creator", "origin", "relay", "viewer"].map(|name| world.balance(name));
    let result = world.done("submitter", redeem(vec![signed(voucher(channel, stream, 1_000_099))]));
    assert_eq!(outcomes(&result), [Ok(1_000_099)]);
    assert_eq!(events(&result), ["fee", "channel_redeemed"]);
    // r = d - ⌊d/100⌋ = 990,099; 70 % and 10 % of it, rounded down; the payee takes the rest.
    let after = ["creator", "origin", "relay", "viewer"].map(|name| world.balance(name));
    let gained: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(gained, [693_069, 99_009, 198_021, 0]);
    assert_eq!(attribute(&result, "channel_redeemed", "fee"), "10000");
    assert_eq!(attribute(&result, "channel_redeemed", "paid"), "1000099");
    assert_eq!(attribute(&result, "channel_redeemed", "creator_share"), "693069");
    assert_eq!(world.channel(&channel).redeemed, sut(1_000_099));
    let lane = lane_of(&voucher(channel, stream, 0));
    let lane = world.app.snapshot().lane(&lane).unwrap().unwrap();
    assert_eq!((lane.cum, lane.paid, lane.terms_version), (sut(1_000_099), sut(1_000_099), 1));
}

#[test]
fn a_lane_pays_what_is_new_and_a_stale_voucher_never() {
    let (mut world, stream, channel) = paid_world();
    let at = |cumulative| voucher(channel, stream, cumulative);
    assert_eq!(present(&mut world, &[at(1_000)]), [Ok(1_000)]);
    assert_eq!(present(&mut world, &[at(1_000)]), [Err(ResultCode::StaleVoucher)]);
    assert_eq!(present(&mut world, &[at(999)]), [Err(ResultCode::StaleVoucher)]);
    assert_eq!(
        present(&mut world, &[at(5_000), at(3_000), at(5_001)]),
        [Ok(4_000), Err(ResultCode::StaleVoucher), Ok(1)]
    );
    let other = Voucher { lane: 2, ..at(700) };
    assert_eq!(present(&mut world, &[other]), [Ok(700)], "another lane counts from zero");
    assert_eq!(world.channel(&channel).redeemed, sut(5_701));
}

/// R4: each entry has its own code; the transaction fails only where all do.
#[test]
fn a_bad_entry_is_skipped_with_its_own_code() {
    let (mut world, stream, channel) = paid_world();
    let good = voucher(channel, stream, 1_000);
    let mut undecodable = signed(good);
    undecodable[112] = 0xff; // An amount above 2^96.
    let mut forged = signed(Voucher { lane: 3, ..good });
    forged[239] ^= 1;
    let entries = vec![
        signed(good),
        undecodable,
        forged,
        signed(Voucher { channel: ChannelId([9; 32]), ..good }),
        signed(Voucher { stream: StreamId([9; 32]), lane: 4, ..good }),
        signed(Voucher { payee: id("other"), ..good }),
        signed(good),
        signed(Voucher { terms_version: 2, lane: 5, ..good }),
        signed(Voucher { cumulative: sut(1_500), ..good }),
    ];
    let result = world.done("submitter", redeem(entries.clone()));
    assert_eq!(
        outcomes(&result),
        [
            Ok(1_000),
            Err(ResultCode::Decode),
            Err(ResultCode::Signature),
            Err(ResultCode::NotFound),
            Err(ResultCode::NotFound),
            Err(ResultCode::WrongPayee),
            Err(ResultCode::StaleVoucher),
            Err(ResultCode::TermsUnknown),
            Ok(500),
        ]
    );
    for (entry, code) in [
        (0, ResultCode::StaleVoucher),
        (1, ResultCode::Decode),
        (2, ResultCode::Signature),
        (3, ResultCode::NotFound),
        (4, ResultCode::NotFound),
        (7, ResultCode::TermsUnknown),
    ] {
        world.refused("submitter", redeem(vec![entries[entry]]), code);
    }
    let bytes = world.sign("submitter", redeem(vec![]));
    world.ignored(bytes, ResultCode::Decode);
    let bytes = world.sign("submitter", redeem(vec![entries[0]; 257]));
    world.ignored(bytes, ResultCode::TooLarge);
}

#[test]
fn each_entry_costs_its_fee_even_when_it_is_skipped() {
    let (mut world, stream, channel) = paid_world();
    let one = world.body("submitter", redeem(vec![signed(voucher(channel, stream, 5))])).fee;
    let two = world.body("submitter", redeem(vec![signed(voucher(channel, stream, 5)); 2])).fee;
    let params = world.params();
    let entry = params.fee_per_voucher.units() + 240 * params.fee_per_byte.units();
    assert_eq!(two.units() - one.units(), entry);
    let before = world.balance("submitter");
    let entries = vec![signed(voucher(channel, stream, 5)); 2];
    assert_eq!(
        outcomes(&world.done("submitter", redeem(entries))),
        [Ok(5), Err(ResultCode::StaleVoucher)]
    );
    assert_eq!(before - world.balance("submitter"), two.units() as u64);
}

/// R4
#[test]
fn who_is_short_presents_the_same_voucher_again_when_there_is_more() {
    let (mut world, stream, channel) = paid_world();
    let reserve = keep("other", DEPOSIT - 300, world.height + 20);
    world.done("viewer", Payload::Reserve { channel, reserve });
    let mine = voucher(channel, stream, 10_000);
    assert_eq!(present(&mut world, &[mine]), [Ok(300)]);
    world.refused("submitter", redeem(vec![signed(mine)]), ResultCode::Funds);
    world.done("viewer", Payload::TopUp { channel, amount: sut(700), reserves: vec![] });
    // A lower total counts as long as the lane was not paid that far; the highest stays on record.
    let lower = voucher(channel, stream, 400);
    assert_eq!(present(&mut world, &[lower]), [Ok(100)]);
    let lane = world.app.snapshot().lane(&lane_of(&mine)).unwrap().unwrap();
    assert_eq!((lane.cum, lane.paid), (sut(10_000), sut(400)));
    assert_eq!(present(&mut world, &[lower]), [Err(ResultCode::StaleVoucher)]);
    assert_eq!(present(&mut world, &[mine]), [Ok(600)]);
    world.skip(reserve.until_height - world.height);
    assert_eq!(present(&mut world, &[mine]), [Ok(9_000)], "the other's reserve is over");
    assert_eq!(present(&mut world, &[mine]), [Err(ResultCode::StaleVoucher)]);
}

#[test]
fn a_reserve_pays_its_payee_first_out_of_itself_and_nobody_else() {
    let mut world = relay_world();
    let stream = world.register(Policy::Paid);
    let channel = world.open(DEPOSIT, &[("relay", 600, 500), ("other", DEPOSIT - 1_000, 500)]);
    let relay = voucher(channel, stream, 500);
    assert_eq!(present(&mut world, &[relay]), [Ok(500)]);
    let record = world.channel(&channel);
    assert_eq!(record.reserve_of(&id("relay"), world.height), sut(100), "its own first");
    assert_eq!(record.free(world.height), sut(400), "nothing free was touched");
    let origin = Voucher { payee: id("origin"), ..voucher(channel, stream, 10_000) };
    assert_eq!(present(&mut world, &[origin]), [Ok(400)], "the free part alone");
    let relay = voucher(channel, stream, 10_000);
    assert_eq!(present(&mut world, &[relay]), [Ok(100)]);
    let other = Voucher { payee: id("other"), ..voucher(channel, stream, DEPOSIT) };
    assert_eq!(present(&mut world, &[other]), [Ok(DEPOSIT - 1_000)]);
    assert_eq!(world.channel(&channel).free(world.height), Balance::ZERO);
    assert!(world.channel(&channel).reserves.is_empty());
}

#[test]
fn an_expired_and_a_closing_channel_pay_until_they_are_finalized() {
    let (mut world, stream, channel) = paid_world();
    world.done("viewer", Payload::RequestClose { channel });
    assert_eq!(present(&mut world, &[voucher(channel, stream, 10)]), [Ok(10)]);
    world.skip(world.params().close_window_blocks + 5);
    assert_eq!(present(&mut world, &[voucher(channel, stream, 20)]), [Ok(10)]);
    world.done("viewer", Payload::Finalize { channel });
    let late = redeem(vec![signed(voucher(channel, stream, 30))]);
    world.refused("submitter", late, ResultCode::ChannelState);
}

/// R4
#[test]
fn terms_are_paid_for_a_while_after_they_were_replaced() {
    let (mut world, stream, channel) = paid_world();
    let new = Payload::SetSplit {
        stream,
        split: chain_types::SplitShares { creator_bps: 0, origin_bps: 0 },
        from_height: 0,
    };
    world.done("creator", new.clone());
    let replaced = world.height + world.params().notice_blocks;
    assert_eq!(present(&mut world, &[voucher(channel, stream, 100)]), [Ok(100)]);
    // A lane stays with the version of its first entry.
    let second = Voucher { terms_version: 2, ..voucher(channel, stream, 200) };
    assert_eq!(present(&mut world, &[second]), [Err(ResultCode::TermsUnknown)]);
    let creator = world.balance("creator");
    let second = Voucher { lane: 2, ..second };
    assert_eq!(present(&mut world, &[second]), [Ok(200)]);
    assert_eq!(world.balance("creator"), creator, "the new split leaves the creator nothing");
    world.skip(replaced + world.params().terms_grace_blocks - world.height - 1);
    assert_eq!(present(&mut world, &[voucher(channel, stream, 300)]), [Ok(200)]);
    assert_eq!(
        present(&mut world, &[voucher(channel, stream, 400)]),
        [Err(ResultCode::TermsExpired)]
    );
    // Also when the version is not kept any more.
    world.done("creator", new);
    assert_eq!(world.stream(&stream).terms[0].version, 2);
    assert_eq!(
        present(&mut world, &[voucher(channel, stream, 400)]),
        [Err(ResultCode::TermsExpired)]
    );
    let never = Voucher { terms_version: 0, lane: 7, ..voucher(channel, stream, 5) };
    assert_eq!(present(&mut world, &[never]), [Err(ResultCode::TermsUnknown)]);
}

#[test]
fn transport_between_relays_pays_the_payee_all_but_the_fee() {
    let (mut world, _, channel) = paid_world();
    let (relay, creator) = (world.balance("relay"), world.balance("creator"));
    let transport = Voucher { terms_version: 0, ..voucher(channel, StreamId::ZERO, 1_000) };
    assert_eq!(present(&mut world, &[transport]), [Ok(1_000)]);
    assert_eq!(world.balance("relay"), relay + 990);
    assert_eq!(world.balance("creator"), creator);
}

#[test]
fn without_an_origin_its_share_is_the_creators() {
    let (mut world, stream, channel) = paid_world();
    let update = Payload::UpdateStream {
        stream,
        title: None,
        policy: None,
        origin_relay: Some(None),
        codecs: None,
        ext: None,
    };
    world.done("creator", update);
    let creator = world.balance("creator");
    assert_eq!(present(&mut world, &[voucher(channel, stream, 1_000)]), [Ok(1_000)]);
    assert_eq!(world.balance("creator"), creator + 693 + 99);
}

#[test]
fn a_full_redeem_of_256_lanes_is_one_transaction() {
    let (mut world, stream, channel) = paid_world();
    let vouchers: Vec<_> =
        (0..256).map(|lane| Voucher { lane, ..voucher(channel, stream, 1_000) }).collect();
    assert_eq!(present(&mut world, &vouchers), vec![Ok(1_000); 256]);
    world.done("viewer", Payload::RequestClose { channel });
    world.skip(world.params().close_window_blocks);
    world.done("viewer", Payload::Finalize { channel });
    assert_eq!(world.app.snapshot().iterate(b"lane/").count(), 0);
}
