//! Access: tickets, the creator's list, revocation.

use chain_types::{Payload, PaymentStatus, Policy, Price, ResultCode, StreamId};

use crate::world::*;

fn buy(stream: StreamId, terms_version: u32, max_price: u64) -> Payload {
    Payload::BuyAccess { stream, terms_version, max_price: sut(max_price) }
}

fn grant(stream: StreamId, valid_until: u64, payment_status: u8) -> Payload {
    Payload::GrantAccess { stream, viewer: id("viewer"), valid_until, payment_status, max_layer: 1 }
}

const PRICE: u64 = 500_000_000;

/// R4
#[test]
fn a_ticket_pays_fee_origin_and_creator_and_lets_its_buyer_in() {
    let mut world = World::new();
    let stream = world.register(Policy::Ticketed);
    let (viewer, creator) = (world.balance("viewer"), world.balance("creator"));
    let origin = world.balance("origin");
    let fee = world.body("viewer", buy(stream, 1, PRICE)).fee.units() as u64;
    let result = world.done("viewer", buy(stream, 1, PRICE));
    assert_eq!(events(&result), ["fee", "transfer", "transfer", "access_granted"]);
    assert_eq!(world.balance("viewer"), viewer - PRICE - fee);
    // 1 % fee, 10 % of the rest to the origin, all else to the creator.
    let rest = PRICE - PRICE / 100;
    assert_eq!(world.balance("origin"), origin + rest / 10);
    assert_eq!(world.balance("creator"), creator + rest - rest / 10);
    let access =
        |world: &World| world.app.snapshot().access(&stream, &id("viewer")).unwrap().unwrap();
    let until = world.time_ms + 60_000;
    assert_eq!((access(&world).valid_until, access(&world).rev_epoch), (until, 0));
    assert_eq!(access(&world).payment_status, PaymentStatus::Current.code());
    // A second ticket begins where the first ends.
    world.done("viewer", buy(stream, 1, PRICE));
    assert_eq!(access(&world).valid_until, until + 60_000);
    // One of an epoch that is over does not count.
    world.done("creator", Payload::BumpRevocation { stream });
    world.done("viewer", buy(stream, 1, PRICE));
    assert_eq!(access(&world).valid_until, world.time_ms + 60_000);
    assert_eq!(access(&world).rev_epoch, 1);
}

/// R4
#[test]
fn a_ticket_is_sold_at_the_price_in_force_on_ticketed_streams_only() {
    let mut world = World::new();
    world.refused("viewer", buy(StreamId([9; 32]), 1, PRICE), ResultCode::NotFound);
    for policy in [Policy::Free, Policy::Paid, Policy::AllowList] {
        let stream = world.register(policy);
        world.refused("viewer", buy(stream, 1, PRICE), ResultCode::Policy);
    }
    let stream = world.register(Policy::Ticketed);
    world.refused("viewer", buy(stream, 1, PRICE - 1), ResultCode::Policy);
    world.refused("viewer", buy(stream, 0, PRICE), ResultCode::TermsExpired);
    world.refused("viewer", buy(stream, 2, PRICE), ResultCode::TermsUnknown);
    let dear = Price { ticket_price: sut(BEGIN), ..price(1) };
    world.done("creator", Payload::SetPrice { stream, price: dear, from_height: 0 });
    world.refused("viewer", buy(stream, 2, BEGIN), ResultCode::TermsUnknown);
    world.skip(world.params().notice_blocks);
    world.refused("viewer", buy(stream, 1, BEGIN), ResultCode::TermsExpired);
    world.refused("viewer", buy(stream, 2, BEGIN), ResultCode::Funds);
    let none = Price { ticket_ms: 0, ..price(1) };
    world.done("creator", Payload::SetPrice { stream, price: none, from_height: 0 });
    world.skip(world.params().notice_blocks);
    world.refused("viewer", buy(stream, 3, BEGIN), ResultCode::Policy);
    world.done("creator", Payload::EndStream { stream });
    world.refused("viewer", buy(stream, 3, BEGIN), ResultCode::Policy);
}

/// R4
#[test]
fn the_creators_list_is_written_and_struck() {
    let mut world = World::new();
    let stream = world.register(Policy::AllowList);
    let until = world.time_ms + 1_000_000;
    let result = world.done("creator", grant(stream, until, 1));
    assert_eq!(events(&result), ["fee", "access_granted"]);
    let access = world.app.snapshot().access(&stream, &id("viewer")).unwrap().unwrap();
    assert_eq!((access.valid_until, access.payment_status, access.max_layer), (until, 1, 1));
    world.refused("creator", grant(stream, world.time_ms + 1000, 1), ResultCode::Policy);
    for status in [0, 3, 4, 5, 7, 255] {
        let bytes = world.sign("creator", grant(stream, until, status));
        world.ignored(bytes, ResultCode::Decode);
    }
    let revoke = Payload::RevokeAccess { stream, viewer: id("viewer") };
    let result = world.done("creator", revoke.clone());
    assert_eq!(events(&result), ["fee", "access_revoked"]);
    assert_eq!(world.app.snapshot().access(&stream, &id("viewer")).unwrap(), None);
    world.refused("creator", revoke, ResultCode::NotFound);
    let result = world.done("creator", Payload::BumpRevocation { stream });
    assert_eq!(events(&result), ["fee", "revocation_bumped"]);
    assert_eq!(world.stream(&stream).rev_epoch, 1);
}
