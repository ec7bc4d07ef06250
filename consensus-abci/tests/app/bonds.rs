//! A relay's bond: put in, left in for a while, and cut for a fault that anybody can prove.

use chain_types::{
    AccountId, Balance, Bind, ChannelId, Params, Payload, Policy, ResultCode, StreamId, Terms,
    TokenId, staking::Evidence,
};
use sha2::{Digest, Sha256};

use crate::{staked::*, world::*};

const BOND: u64 = 50 * SUT;

fn bonded() -> World {
    let mut params = Params::for_tests();
    params.relay_bond_min = sut(10 * SUT);
    World::staked_with(params, &FIRSTS)
}

fn enter(bond: u64) -> Payload {
    Payload::RegisterRelay { relay: relay_facts("relay's key"), bond: sut(bond) }
}

fn bond(world: &World, name: &str) -> u64 {
    let record = world.app.snapshot().relay(&id(name)).unwrap().expect("a relay");
    u64::try_from(record.bond.units()).unwrap()
}

/// R52, R4
#[test]
fn a_relay_leaves_with_its_bond_after_the_unbonding_time_and_may_come_again() {
    let mut world = bonded();
    world.refused("relay", Payload::UnbondRelay, ResultCode::NotFound);
    world.refused("relay", enter(10 * SUT - 1), ResultCode::Funds);
    world.refused("relay", enter(BEGIN), ResultCode::Funds);
    world.done("relay", enter(10 * SUT));
    world.refused("relay", enter(10 * SUT), ResultCode::Policy);
    let result = world.done("relay", Payload::UnbondRelay);
    let until_ms = world.time_ms + 20_000;
    assert_eq!(events(&result), ["fee", "relay_leaving"]);
    assert_eq!(attribute(&result, "relay_leaving", "account"), id("relay").to_string());
    assert_eq!(attribute(&result, "relay_leaving", "until_ms"), until_ms.to_string());
    world.refused("relay", Payload::UnbondRelay, ResultCode::Policy);
    world.refused("relay", enter(10 * SUT), ResultCode::Policy);
    world.next_at(until_ms - 1);
    world.refused("relay", Payload::UnbondRelay, ResultCode::Policy);
    let (before, fee) = (world.balance("relay"), world.fee("relay", &Payload::UnbondRelay));
    world.step_ms = 1;
    let result = world.done("relay", Payload::UnbondRelay);
    assert_eq!(events(&result), ["fee", "relay_left"]);
    assert_eq!(attribute(&result, "relay_left", "bond"), (10 * SUT).to_string());
    assert_eq!(world.balance("relay"), before + 10 * SUT - fee);
    assert_eq!(bond(&world, "relay"), 0);
    world.step_ms = 1000;
    world.refused("relay", Payload::UnbondRelay, ResultCode::Policy);
    world.done("relay", enter(20 * SUT));
    assert_eq!(bond(&world, "relay"), 20 * SUT);
    // A validator may be a relay too.
    world.done("v1", enter(10 * SUT));
    assert_eq!((bond(&world, "v1"), world.power("v1")), (10 * SUT, 100));
}

/// Terms of `relay` for `stream`, with what is signed about them.
struct Proof {
    terms: Terms,
    bind: Bind,
    ack: [u8; 64],
}

impl Proof {
    /// The stream's price is 1,000,000 a second, half of it for tier 1.
    fn of(stream: StreamId, rate: u64) -> Self {
        let terms = Terms {
            stream,
            payee: id("relay"),
            relay_key: id("relay's key"),
            relay_fp: "00".repeat(32),
            terms_version: 1,
            rate,
            tier: 1,
            cadence_ms: 1000,
            grace_ms: 3000,
            pause_max_s: 60,
            min_prepay: sut(rate * 2),
        };
        Self::signed(terms)
    }

    fn signed(terms: Terms) -> Self {
        let bind = Bind {
            token_id: TokenId([0; 16]),
            stream: terms.stream,
            viewer: id("viewer"),
            holder_key: id("viewer"),
            relay_key: terms.relay_key,
            client_fingerprint: [1; 32],
            relay_fingerprint: [0; 32],
            channel: ChannelId([2; 32]),
            terms_hash: terms.hash(),
        };
        Self { ack: bind.acknowledge(&key("relay's key"), CHAIN_ID), terms, bind }
    }

    fn evidence(&self) -> Payload {
        let Self { terms, bind, ack } = self;
        let evidence = Evidence::DearTerms {
            terms: terms.to_json(),
            bind: bind.encode().to_vec(),
            ack: ack.to_vec(),
        };
        Payload::SubmitEvidence { evidence }
    }
}

/// R4
#[test]
fn a_relay_that_acknowledged_dearer_terms_than_the_price_is_cut_once_for_them() {
    let mut world = bonded();
    world.done("relay", enter(BOND));
    let stream = world.register(Policy::Paid);
    let proof = Proof::of(stream, 500_001);
    let (before, burned) = (world.balance("other"), world.app.snapshot().supply().unwrap().burned);
    let fee = world.fee("other", &proof.evidence());
    let result = world.done("other", proof.evidence());
    let (amount, reward) = (BOND / 100, BOND / 1000);
    assert_eq!(events(&result), ["fee", "relay_slashed"]);
    for (name, value) in [
        ("account", id("relay").to_string()),
        ("reporter", id("other").to_string()),
        ("amount", amount.to_string()),
        ("reward", reward.to_string()),
    ] {
        assert_eq!(attribute(&result, "relay_slashed", name), value);
    }
    assert_eq!(bond(&world, "relay"), BOND - amount);
    assert_eq!(world.balance("other"), before + reward - fee);
    let burned_now = world.app.snapshot().supply().unwrap().burned;
    let more = burned_now.checked_sub(burned).unwrap();
    assert_eq!(more, sut(amount - reward + fee.div_ceil(2)), "the rest is burned");
    world.refused("other", proof.evidence(), ResultCode::EvidenceDuplicate);
    world.refused("viewer", proof.evidence(), ResultCode::EvidenceDuplicate);
    // The same terms in another session are the same fault; other terms are another one.
    let mut again = Proof::of(stream, 500_001);
    again.bind.channel = ChannelId([3; 32]);
    again.ack = again.bind.acknowledge(&key("relay's key"), CHAIN_ID);
    world.refused("viewer", again.evidence(), ResultCode::EvidenceDuplicate);
    world.done("viewer", Proof::of(stream, 500_002).evidence());
    assert_eq!(bond(&world, "relay"), BOND - amount - (BOND - amount) / 100);
    // A bond that is leaving can still be cut.
    world.done("relay", Payload::UnbondRelay);
    let left = bond(&world, "relay");
    world.done("viewer", Proof::of(stream, 500_003).evidence());
    assert_eq!(bond(&world, "relay"), left - left / 100);
}

/// Signed by a key that the relay may have had.
fn signed_by(name: &str, stream: StreamId, rate: u64) -> Payload {
    let mut proof = Proof::of(stream, rate);
    proof.terms.relay_key = id(name);
    let (relay_key, terms_hash) = (id(name), proof.terms.hash());
    proof.bind = Bind { relay_key, terms_hash, ..proof.bind };
    proof.ack = proof.bind.acknowledge(&key(name), CHAIN_ID);
    proof.evidence()
}

fn with_key(name: &str) -> Payload {
    Payload::UpdateRelay { relay: relay_facts(name) }
}

/// R4: another key is no way out of what the one before signed.
#[test]
fn a_relay_answers_for_its_former_keys_for_the_unbonding_time() {
    let mut world = bonded();
    world.done("relay", enter(BOND));
    let stream = world.register(Policy::Paid);
    world.refused("other", signed_by("second", stream, 500_001), ResultCode::EvidenceInvalid);
    world.done("relay", with_key("second"));
    let until_ms = world.time_ms + 20_000;
    let result = world.done("other", signed_by("relay's key", stream, 500_001));
    assert_eq!(events(&result), ["fee", "relay_slashed"]);
    world.done("other", signed_by("second", stream, 500_002));
    let left = bond(&world, "relay");
    assert_eq!(left, BOND / 100 * 99 / 100 * 99);
    world.refused("other", signed_by("third", stream, 500_003), ResultCode::EvidenceInvalid);
    // Other facts change no key.
    world.done("relay", with_key("second"));
    world.next_at(until_ms - 1);
    world.done("other", signed_by("relay's key", stream, 500_004));
    world.step_ms = 1;
    world.refused("other", signed_by("relay's key", stream, 500_005), ResultCode::EvidenceInvalid);
    assert_eq!(bond(&world, "relay"), left / 100 * 99);
    // A key that is the present one again is held to as such.
    world.step_ms = 1000;
    world.done("relay", with_key("relay's key"));
    world.done("other", signed_by("relay's key", stream, 500_006));
    world.done("other", signed_by("second", stream, 500_007));
}

/// R4
#[test]
fn a_relay_that_left_and_came_again_answers_for_the_key_that_it_had() {
    let mut world = bonded();
    world.done("relay", enter(BOND));
    let stream = world.register(Policy::Paid);
    world.done("relay", Payload::UnbondRelay);
    world.next_at(world.time_ms + 20_000);
    world.done("relay", Payload::UnbondRelay);
    world.step_ms = 1000;
    let relay = relay_facts("second");
    world.done("relay", Payload::RegisterRelay { relay, bond: sut(BOND) });
    let until_ms = world.time_ms + 20_000;
    world.done("other", signed_by("relay's key", stream, 500_001));
    assert_eq!(bond(&world, "relay"), BOND / 100 * 99);
    world.next_at(until_ms);
    world.refused("other", signed_by("relay's key", stream, 500_002), ResultCode::EvidenceInvalid);
}

/// The record stays small: who changes its key all the time waits.
#[test]
fn a_seventh_key_waits_until_the_first_is_safe() {
    let mut world = bonded();
    world.done("relay", enter(BOND));
    let begin_ms = world.time_ms + 1000;
    for at in 0..6 {
        world.done("relay", with_key(&format!("key {at}")));
    }
    world.refused("relay", with_key("key 6"), ResultCode::Policy);
    world.done("relay", with_key("key 2"));
    world.refused("relay", with_key("key 7"), ResultCode::Policy);
    world.next_at(begin_ms + 20_000);
    world.done("relay", with_key("key 7"));
}

/// A relay without a bond is told once that it leaves, and has nothing to come back for.
#[test]
fn a_relay_without_a_bond_leaves_once() {
    let mut world = World::staked();
    world.refused("relay", Payload::UnbondRelay, ResultCode::NotFound);
    world.done("relay", enter(0));
    let result = world.done("relay", Payload::UnbondRelay);
    assert_eq!(events(&result), ["fee", "relay_leaving"]);
    world.refused("relay", Payload::UnbondRelay, ResultCode::Policy);
    world.next_at(world.time_ms + 20_000);
    world.refused("relay", Payload::UnbondRelay, ResultCode::Policy);
    world.done("relay", enter(SUT));
}

/// R4
#[test]
fn evidence_that_proves_nothing_is_refused() {
    let mut world = bonded();
    world.done("relay", enter(BOND));
    world.done("origin", enter(BOND));
    let stream = world.register(Policy::Paid);
    let refused = |world: &mut World, payload: Payload| {
        world.refused("other", payload, ResultCode::EvidenceInvalid);
    };
    let changed = |change: &dyn Fn(&mut Terms)| {
        let mut terms = Proof::of(stream, 500_001).terms;
        change(&mut terms);
        Proof::signed(terms).evidence()
    };
    // As dear as the price is not dearer.
    refused(&mut world, Proof::of(stream, 500_000).evidence());
    refused(&mut world, changed(&|terms| terms.tier = 2));
    // Nobody that is a relay, and another one than the key's.
    refused(&mut world, changed(&|terms| terms.payee = id("viewer")));
    refused(&mut world, changed(&|terms| terms.relay_key = id("viewer")));
    // The bytes do not belong together, or are none.
    let of = |terms: String, bind: Vec<u8>, ack: Vec<u8>| Payload::SubmitEvidence {
        evidence: Evidence::DearTerms { terms, bind, ack },
    };
    let Proof { terms, bind, ack } = Proof::of(stream, 500_001);
    let (json, body, ack) = (terms.to_json(), bind.encode().to_vec(), ack.to_vec());
    let forged = bind.acknowledge(&key("viewer"), CHAIN_ID).to_vec();
    let elsewhere = bind.acknowledge(&key("relay's key"), "sutantra-test-2").to_vec();
    let other_stream = Bind { stream: StreamId([9; 32]), ..bind };
    let other_ack = other_stream.acknowledge(&key("relay's key"), CHAIN_ID).to_vec();
    for payload in [
        of("{}".to_owned(), body.clone(), ack.clone()),
        of(format!("{json} "), body.clone(), ack.clone()),
        of(json.clone(), body[1..].to_vec(), ack.clone()),
        of(json.clone(), body.clone(), ack[1..].to_vec()),
        of(json.clone(), Vec::new(), Vec::new()),
        of(json.clone(), body.clone(), forged),
        of(json.clone(), body.clone(), elsewhere),
        of(json.clone(), other_stream.encode().to_vec(), other_ack),
    ] {
        refused(&mut world, payload);
    }
    // Signed indeed, about a hash that no terms have.
    let hash: [u8; 32] = Sha256::digest("{}").into();
    let other_hash = Bind { terms_hash: hash, ..bind };
    let other_ack = other_hash.acknowledge(&key("relay's key"), CHAIN_ID).to_vec();
    refused(&mut world, of(json, other_hash.encode().to_vec(), other_ack));
    // Prices that the chain does not know.
    let unknown = changed(&|terms| terms.terms_version = 2);
    world.refused("other", unknown, ResultCode::TermsUnknown);
    let nowhere = changed(&|terms| terms.stream = StreamId([9; 32]));
    world.refused("other", nowhere, ResultCode::TermsUnknown);
    assert_eq!(bond(&world, "relay"), BOND);
    assert_eq!(world.account("nobody").balance, Balance::ZERO);
    assert_ne!(id("relay"), AccountId::ZERO);
}
