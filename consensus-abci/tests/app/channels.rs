//! Channels: opening, reserves, closing.

use chain_types::{Balance, ChannelId, Payload, Policy, ResultCode};

use crate::world::*;

fn open(deposit: u64, expires_height: u64) -> Payload {
    Payload::OpenChannel {
        deposit: sut(deposit),
        voucher_key: id("session"),
        expires_height,
        reserves: vec![],
    }
}

fn open_with(reserves: &[(&str, u64, u64)]) -> Payload {
    Payload::OpenChannel {
        deposit: sut(1_000_000_000),
        voucher_key: id("session"),
        expires_height: 10_000,
        reserves: reserves.iter().map(|(who, amount, until)| keep(who, *amount, *until)).collect(),
    }
}

fn reserve(channel: ChannelId, payee: &str, amount: u64, until_height: u64) -> Payload {
    Payload::Reserve { channel, reserve: keep(payee, amount, until_height) }
}

fn top_up(channel: ChannelId, amount: u64) -> Payload {
    Payload::TopUp { channel, amount: sut(amount), reserves: vec![] }
}

/// R4
#[test]
fn a_channel_holds_its_deposit_and_keeps_its_reserves() {
    let mut world = World::new();
    let before = world.balance("viewer");
    let fee = world.body("viewer", open_with(&[("relay", 300, 50), ("other", 200, 60)])).fee;
    let channel = world.open(1_000_000_000, &[("relay", 300, 50), ("other", 200, 60)]);
    assert_eq!(world.balance("viewer") as u128, before as u128 - 1_000_000_000 - fee.units());
    let record = world.channel(&channel);
    assert_eq!((record.payer, record.voucher_key), (id("viewer"), id("session")));
    assert_eq!(record.free(world.height), sut(1_000_000_000 - 500));
    assert_eq!(record.available_to(&id("relay"), world.height), sut(1_000_000_000 - 200));
    assert_eq!(record.free(50), sut(1_000_000_000 - 200), "the first is over");
    assert_eq!(record.free(60), sut(1_000_000_000));
    // A block later nothing of it has been touched: deadlines are lazy.
    let events: Vec<_> = world.app.snapshot().channels_by_payee(&id("other")).collect();
    assert_eq!(events.len(), 1);
}

/// R4
#[test]
fn a_channel_that_is_too_small_dead_or_overfull_is_refused() {
    let mut world = World::new();
    let least = world.params().deposit_min().units() as u64;
    world.refused("viewer", open(least - 1, 100), ResultCode::Funds);
    world.refused("viewer", open(BEGIN, 100), ResultCode::Funds);
    world.refused("viewer", open(least, world.height + 1), ResultCode::ChannelState);
    let payload = open(least, world.height + 2);
    world.done("viewer", payload);
    world.refused("viewer", open_with(&[("relay", 1_000_000_001, 500)]), ResultCode::Reserve);
    let over = [("relay", 600_000_000, 500), ("other", 400_000_001, 500)];
    world.refused("viewer", open_with(&over), ResultCode::Reserve);
    world.refused("viewer", open_with(&[("relay", 0, 500)]), ResultCode::Reserve);
    world.refused("viewer", open_with(&[("relay", 5, world.height + 1)]), ResultCode::Reserve);
    let twice = world.sign("viewer", open_with(&[("relay", 5, 500), ("relay", 5, 500)]));
    world.ignored(twice, ResultCode::Decode);
    let names: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let nine: Vec<(&str, u64, u64)> = names.iter().map(|name| (name.as_str(), 5, 500)).collect();
    let too_many = world.sign("viewer", open_with(&nine));
    world.ignored(too_many, ResultCode::TooLarge);
    world.done("viewer", open_with(&nine[..8]));
}

/// R4
#[test]
fn anybody_may_top_up_and_only_the_payer_reserves_with_it() {
    let mut world = World::new();
    world.refused("viewer", top_up(ChannelId([9; 32]), 5), ResultCode::NotFound);
    let channel = world.open(1_000_000_000, &[]);
    let result = world.done("other", top_up(channel, 77));
    assert_eq!(events(&result), ["fee", "channel_topped_up"]);
    assert_eq!(world.channel(&channel).deposits, sut(1_000_000_077));
    world.refused("other", top_up(channel, BEGIN), ResultCode::Funds);
    let reserves = vec![keep("relay", 1_000_000_100, 500)];
    let with = |amount, reserves| Payload::TopUp { channel, amount: sut(amount), reserves };
    world.refused("other", with(23, reserves.clone()), ResultCode::NotOwner);
    world.refused("viewer", with(22, reserves.clone()), ResultCode::Reserve);
    world.done("viewer", with(23, reserves));
    assert_eq!(world.channel(&channel).free(world.height), Balance::ZERO);

    world.done("viewer", Payload::RequestClose { channel });
    world.refused("other", top_up(channel, 5), ResultCode::ChannelState);
    let expires_height = world.height + 3;
    let short = ChannelId::of(&id("viewer"), world.account("viewer").nonce);
    world.done("viewer", open(1_000_000_000, expires_height));
    world.skip(1);
    world.refused("other", top_up(short, 5), ResultCode::ChannelState);
}

/// R4
#[test]
fn the_payer_raises_and_prolongs_a_reserve_and_the_payee_lowers_it() {
    let mut world = World::new();
    world.refused("viewer", reserve(ChannelId([9; 32]), "relay", 5, 50), ResultCode::NotFound);
    let channel = world.open(1_000_000_000, &[]);
    let mut on = |who: &str, payee: &str, amount, until, code: Option<ResultCode>| {
        let payload = reserve(channel, payee, amount, until);
        match code {
            None => {
                world.done(who, payload);
            }
            Some(code) => world.refused(who, payload, code),
        }
        world.channel(&channel)
    };
    let no = Some(ResultCode::Reserve);
    on("viewer", "relay", 1_000_000_001, 100, no);
    on("viewer", "relay", 0, 100, no);
    on("viewer", "relay", 5, 1, no);
    on("other", "relay", 5, 100, Some(ResultCode::NotOwner));
    on("relay", "relay", 5, 100, no);
    on("viewer", "relay", 500, 100, None);
    on("viewer", "relay", 499, 100, no);
    on("viewer", "relay", 500, 99, no);
    on("viewer", "relay", 600, 120, None);
    on("relay", "relay", 601, 120, no);
    on("relay", "relay", 600, 121, no);
    let record = on("relay", "relay", 400, 110, None);
    assert_eq!(record.reserve_of(&id("relay"), 100), sut(400));
    assert_eq!(record.reserve_of(&id("relay"), 110), Balance::ZERO);
    let record = on("relay", "relay", 0, 110, None);
    assert!(record.reserves.is_empty());
    on("relay", "relay", 0, 110, no);
    for payee in 0..8 {
        on("viewer", &payee.to_string(), 5, 500, None);
    }
    on("viewer", "relay", 5, 500, no);
}

/// R4
#[test]
fn a_closing_channel_takes_no_new_reserves_and_still_lets_a_payee_lower_its_own() {
    let mut world = World::new();
    let channel = world.open(1_000_000_000, &[("relay", 500, 900)]);
    world.done("viewer", Payload::RequestClose { channel });
    world.refused("viewer", reserve(channel, "relay", 600, 900), ResultCode::ChannelState);
    world.done("relay", reserve(channel, "relay", 100, 900));
    world.skip(world.params().close_window_blocks);
    world.done("other", Payload::Finalize { channel });
    world.refused("relay", reserve(channel, "relay", 50, 900), ResultCode::ChannelState);
}

/// R4
#[test]
fn a_channel_closes_after_its_window_and_gives_back_what_is_left() {
    let mut world = World::new();
    let nowhere = ChannelId([9; 32]);
    world.refused("viewer", Payload::RequestClose { channel: nowhere }, ResultCode::NotFound);
    world.refused("viewer", Payload::Finalize { channel: nowhere }, ResultCode::NotFound);
    let stream = world.register(Policy::Paid);
    let channel = world.open(1_000_000_000, &[("relay", 500_000, 5_000)]);
    world.done("relay", redeem(vec![signed(voucher(channel, stream, 1_000))]));
    world.refused("other", Payload::RequestClose { channel }, ResultCode::NotOwner);
    world.refused("viewer", Payload::Finalize { channel }, ResultCode::ChannelState);
    let result = world.done("viewer", Payload::RequestClose { channel });
    assert_eq!(events(&result), ["fee", "channel_closing"]);
    let requested = world.height;
    world.refused("viewer", Payload::RequestClose { channel }, ResultCode::ChannelState);
    world.refused("viewer", Payload::Finalize { channel }, ResultCode::ChannelState);
    let lane = lane_of(&voucher(channel, stream, 0));
    assert!(world.app.snapshot().lane(&lane).unwrap().is_some());

    world.skip(requested + world.params().close_window_blocks - 1 - world.height);
    let before = world.balance("viewer");
    let result = world.done("other", Payload::Finalize { channel });
    assert_eq!(world.height, requested + world.params().close_window_blocks);
    assert_eq!(events(&result), ["fee", "channel_closed"]);
    assert_eq!(attribute(&result, "channel_closed", "refund"), (1_000_000_000 - 1_000).to_string());
    assert_eq!(world.balance("viewer"), before + 1_000_000_000 - 1_000);
    let record = world.channel(&channel);
    assert!(record.closed && record.reserves.is_empty());
    assert_eq!((record.deposits, record.redeemed), (sut(1_000), sut(1_000)));
    let snapshot = world.app.snapshot();
    assert_eq!(snapshot.lane(&lane).unwrap(), None, "its lanes are gone");
    assert_eq!(snapshot.channels_by_payee(&id("relay")).count(), 0);
    assert_eq!(snapshot.channels_by_payer(&id("viewer")).count(), 1);
    world.refused("other", Payload::Finalize { channel }, ResultCode::ChannelState);
    world.refused("viewer", Payload::RequestClose { channel }, ResultCode::ChannelState);
}

#[test]
fn the_window_is_of_blocks_and_of_time() {
    let mut params = chain_types::Params::for_tests();
    params.close_window_ms = 60_000;
    let mut world = World::with(params);
    let channel = world.open(1_000_000_000, &[]);
    world.done("viewer", Payload::RequestClose { channel });
    let requested_ms = world.time_ms;
    world.skip(20);
    world.refused("viewer", Payload::Finalize { channel }, ResultCode::ChannelState);
    world.time_ms = requested_ms + 60_000 - 1000;
    world.done("viewer", Payload::Finalize { channel });
}

#[test]
fn after_its_expiry_anybody_may_close_a_channel() {
    let mut world = World::new();
    let channel = ChannelId::of(&id("viewer"), world.account("viewer").nonce);
    world.done("viewer", open(1_000_000_000, world.height + 5));
    world.refused("other", Payload::RequestClose { channel }, ResultCode::NotOwner);
    world.skip(1);
    world.refused("other", Payload::RequestClose { channel }, ResultCode::NotOwner);
    world.done("other", Payload::RequestClose { channel });
    world.skip(world.params().close_window_blocks - 1);
    world.done("other", Payload::Finalize { channel });
}
