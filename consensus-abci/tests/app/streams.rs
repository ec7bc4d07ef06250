//! Streams and relays: registration, prices and splits by version, ends.

use std::collections::BTreeMap;

use chain_types::{
    Payload, Policy, Price, RelayFacts, ResultCode, SplitShares, StreamId, records::TERMS_MAX,
};

use crate::world::*;

/// A payload for a stream by each of the kinds that only its creator may use.
fn of_creator(stream: StreamId) -> Vec<Payload> {
    vec![
        update(stream),
        Payload::SetPrice { stream, price: price(5), from_height: 0 },
        Payload::SetSplit { stream, split: shares(1_000, 0), from_height: 0 },
        Payload::SetIssuers { stream, issuers: vec![] },
        grant(stream),
        Payload::RevokeAccess { stream, viewer: id("viewer") },
        Payload::BumpRevocation { stream },
    ]
}

fn grant(stream: StreamId) -> Payload {
    Payload::GrantAccess {
        stream,
        viewer: id("viewer"),
        valid_until: u64::MAX,
        payment_status: 1,
        max_layer: 255,
    }
}

fn update(stream: StreamId) -> Payload {
    Payload::UpdateStream {
        stream,
        title: None,
        policy: None,
        origin_relay: None,
        codecs: None,
        ext: None,
    }
}

fn shares(creator_bps: u16, origin_bps: u16) -> SplitShares {
    SplitShares { creator_bps, origin_bps }
}

/// R4, R42
#[test]
fn a_registered_stream_has_what_its_creator_said() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let record = world.stream(&stream);
    assert_eq!((record.id, record.creator), (stream, id("creator")));
    assert_eq!((record.title.as_str(), record.policy), ("A stream", Policy::Paid));
    assert_eq!(record.created, GENESIS_MS + 1000);
    assert_eq!((record.terms[0].version, record.terms[0].from_height), (1, 1));
    assert_eq!(record.terms[0].rate(2), Some(1_000_000));
    assert_eq!((record.split[0].creator_bps, record.split[0].origin_bps), (7_000, 1_000));
    assert_eq!((record.rev_epoch, record.ended), (0, None));
    let second = world.register(Policy::Free);
    assert_ne!(stream, second);
}

/// R4
#[test]
fn a_stream_with_too_much_or_too_many_of_anything_is_not_even_charged() {
    #[track_caller]
    fn check(code: ResultCode, edit: impl FnOnce(&mut Payload)) {
        let mut world = World::new();
        let mut payload = register(Policy::Paid);
        edit(&mut payload);
        let bytes = world.sign("creator", payload);
        world.ignored(bytes, code);
    }
    macro_rules! with {
        ($field:ident, $value:expr) => {
            |payload: &mut Payload| match payload {
                Payload::RegisterStream { $field: field, .. } => *field = $value,
                other => panic!("{other:?}"),
            }
        };
    }
    check(ResultCode::TooLarge, with!(title, "x".repeat(129)));
    check(ResultCode::TooLarge, with!(issuers, (0..17).map(|n| id(&n.to_string())).collect()));
    check(ResultCode::Decode, with!(issuers, vec![id("a"), id("a")]));
    check(ResultCode::TooLarge, with!(codecs, vec!["VP8".into(); 9]));
    check(ResultCode::TooLarge, with!(codecs, vec!["x".repeat(33)]));
    check(ResultCode::Decode, with!(split, shares(9_000, 1_001)));
    check(ResultCode::Decode, with!(price, Price { tier_bps: [0, 0, 10_001], ..price(1) }));
    let ext = |name: &str, len| BTreeMap::from([(name.to_owned(), vec![0; len])]);
    check(ResultCode::TooLarge, with!(ext, ext("a", 257)));
    check(ResultCode::TooLarge, with!(ext, ext(&"a".repeat(33), 1)));
    check(ResultCode::Decode, with!(ext, ext("chain.active_ms", 8)));
    let nine = (0..9).map(|n| (n.to_string(), vec![])).collect::<BTreeMap<_, _>>();
    check(ResultCode::TooLarge, with!(ext, nine));
}

/// R4
#[test]
fn only_the_creator_changes_a_stream_that_exists_and_has_not_ended() {
    let mut world = World::new();
    for payload in of_creator(StreamId([9; 32])) {
        world.refused("creator", payload, ResultCode::NotFound);
    }
    let stream = world.register(Policy::Paid);
    for payload in of_creator(stream) {
        world.refused("other", payload, ResultCode::NotOwner);
    }
    world.done("creator", Payload::EndStream { stream });
    for payload in of_creator(stream) {
        world.refused("creator", payload, ResultCode::Policy);
    }
}

/// R4
#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let before = world.stream(&stream);
    let payload = Payload::UpdateStream {
        stream,
        title: Some("New".into()),
        policy: None,
        origin_relay: Some(None),
        codecs: None,
        ext: Some(BTreeMap::from([("a".into(), vec![1])])),
    };
    let result = world.done("creator", payload);
    assert_eq!(events(&result), ["fee", "stream_updated"]);
    let after = world.stream(&stream);
    assert_eq!((after.title.as_str(), after.policy), ("New", Policy::Paid));
    assert_eq!((after.origin_relay, &after.codecs), (None, &before.codecs));
    assert_eq!(after.ext.get("a"), Some(&vec![1]));
    let bytes = world.sign(
        "creator",
        Payload::UpdateStream {
            stream,
            title: Some("x".repeat(129)),
            policy: None,
            origin_relay: None,
            codecs: None,
            ext: None,
        },
    );
    world.ignored(bytes, ResultCode::TooLarge);
    world.done("creator", Payload::SetIssuers { stream, issuers: vec![id("a"), id("b")] });
    assert_eq!(world.stream(&stream).issuers, [id("a"), id("b")]);
    let too_many = (0..17).map(|n| id(&n.to_string())).collect();
    let bytes = world.sign("creator", Payload::SetIssuers { stream, issuers: too_many });
    world.ignored(bytes, ResultCode::TooLarge);
}

/// R4
#[test]
fn a_new_price_and_a_new_split_share_one_counter_and_hold_after_the_notice() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let notice = world.params().notice_blocks;
    world.done("creator", Payload::SetPrice { stream, price: price(5), from_height: 0 });
    let first = world.height + notice;
    let from_height = first + 7;
    world.done("creator", Payload::SetSplit { stream, split: shares(500, 0), from_height });
    let record = world.stream(&stream);
    let versions: Vec<_> =
        record.terms.iter().map(|terms| (terms.version, terms.from_height)).collect();
    assert_eq!(versions, [(1, 1), (2, first), (3, from_height)]);
    assert_eq!(record.terms[2].rate_per_second, 5, "the split keeps the price");
    assert_eq!(record.split.iter().map(|split| split.version).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(record.terms_at(first - 1).unwrap().version, 1);
    assert_eq!(record.terms_at(first).unwrap().version, 2);
    assert_eq!(record.split_of(2).unwrap().creator_bps, 7_000);
    assert_eq!(record.split_of(3).unwrap().creator_bps, 500);

    // Not before the notice, and not before a version that was announced.
    let at = |from_height| Payload::SetPrice { stream, price: price(6), from_height };
    world.refused("creator", at(world.height + notice), ResultCode::Policy);
    world.refused("creator", at(from_height - 1), ResultCode::Policy);
    world.done("creator", at(world.height + 1 + notice + 10));
    let bytes = world.sign(
        "creator",
        Payload::SetPrice {
            stream,
            price: Price { tier_bps: [10_001, 0, 0], ..price(1) },
            from_height: 0,
        },
    );
    world.ignored(bytes, ResultCode::Decode);
    let split = shares(10_000, 1);
    let bytes = world.sign("creator", Payload::SetSplit { stream, split, from_height: 0 });
    world.ignored(bytes, ResultCode::Decode);
}

/// R4
#[test]
fn versions_are_bounded_and_old_ones_make_room() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let split = Payload::SetSplit { stream, split: shares(500, 0), from_height: 0 };
    for _ in 1..TERMS_MAX {
        world.done("creator", split.clone());
    }
    world.refused("creator", split.clone(), ResultCode::Policy);
    world.skip(world.params().terms_grace_blocks + world.params().notice_blocks);
    world.done("creator", split);
    let record = world.stream(&stream);
    assert_eq!(record.terms.last().unwrap().version, 33);
    assert!(record.terms.len() < TERMS_MAX, "{} are kept", record.terms.len());
    for terms in &record.terms {
        assert!(record.split_of(terms.version).is_some(), "{}", terms.version);
    }
    let in_force = record.terms_at(world.height).unwrap();
    assert_eq!(in_force.version, 32);
}

/// R4, R22
#[test]
fn a_stream_is_ended_by_its_creator_or_by_anybody_after_a_day_without_a_sign_of_life() {
    let mut world = World::new();
    world.refused("other", Payload::EndStream { stream: StreamId([9; 32]) }, ResultCode::NotFound);
    let stream = world.register(Policy::Free);
    world.refused("other", Payload::EndStream { stream }, ResultCode::NotOwner);
    let result = world.done("creator", Payload::EndStream { stream });
    assert_eq!(events(&result), ["fee", "stream_closed"]);
    assert_eq!(world.stream(&stream).ended, Some(world.time_ms));
    world.refused("creator", Payload::EndStream { stream }, ResultCode::Policy);

    let idle_ms = world.params().idle_stream_ms;
    let stream = world.register(Policy::Free);
    world.time_ms += idle_ms - 5_000;
    world.done("creator", update(stream));
    world.time_ms += 10_000;
    world.refused("other", Payload::EndStream { stream }, ResultCode::NotOwner);
    world.time_ms += idle_ms;
    world.done("other", Payload::EndStream { stream });
}

#[test]
fn a_payment_is_a_sign_of_life() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let channel = world.open(1_000_000_000, &[]);
    world.time_ms += world.params().idle_stream_ms - 10_000;
    world.done("relay", redeem(vec![signed(voucher(channel, stream, 1_000))]));
    world.time_ms += 20_000;
    world.refused("other", Payload::EndStream { stream }, ResultCode::NotOwner);
}

fn facts() -> RelayFacts {
    RelayFacts {
        relay_key: id("relay key"),
        endpoint: "https://relay.example".into(),
        region: "DE-u33".into(),
        wholesale_per_gb: sut(5),
        min_share_bps: 1_000,
    }
}

/// R4
#[test]
fn a_relay_registers_once_and_updates_its_facts() {
    let mut world = World::new();
    world.refused("relay", Payload::UpdateRelay { relay: facts() }, ResultCode::NotFound);
    let bond = sut(BEGIN);
    world.refused("relay", Payload::RegisterRelay { relay: facts(), bond }, ResultCode::Funds);
    let bond = sut(1_000);
    let result = world.done("relay", Payload::RegisterRelay { relay: facts(), bond });
    assert_eq!(events(&result), ["fee", "relay_registered"]);
    world.refused("relay", Payload::RegisterRelay { relay: facts(), bond }, ResultCode::Policy);
    let changed = RelayFacts { endpoint: "https://new.example".into(), ..facts() };
    world.done("relay", Payload::UpdateRelay { relay: changed });
    let record = world.app.snapshot().relay(&id("relay")).unwrap().unwrap();
    assert_eq!((record.endpoint.as_str(), record.bond), ("https://new.example", bond));
    assert_eq!(world.app.snapshot().audit().unwrap().bonds, bond);

    let mut too = |relay, code| {
        let bytes = world.sign("relay", Payload::UpdateRelay { relay });
        world.ignored(bytes, code);
    };
    too(RelayFacts { endpoint: "x".repeat(257), ..facts() }, ResultCode::TooLarge);
    too(RelayFacts { region: "x".repeat(33), ..facts() }, ResultCode::TooLarge);
    too(RelayFacts { min_share_bps: 10_001, ..facts() }, ResultCode::Decode);
}
