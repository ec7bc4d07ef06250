//! Signing twice, and not at all: what is cut of whom, who is jailed for how long.

use chain_types::{Balance, Params, Payload, ResultCode};
use serde_json::json;

use crate::{staked::*, world::*};

/// 5 % of so many units.
fn cut(units: u64) -> u64 {
    units / 20
}

fn burned(world: &World) -> u64 {
    u64::try_from(world.app.snapshot().supply().unwrap().burned.units()).unwrap()
}

fn status(world: &World, name: &str) -> String {
    let one = world.answer(&format!("/validator/{}", id(name))).unwrap();
    one["status"].as_str().unwrap().to_owned()
}

fn tokens(world: &World, name: &str) -> u64 {
    u64::try_from(world.validator(name).tokens.units()).unwrap()
}

/// R2: evidence of double signing takes 5 % of the power at the infraction from everybody who
/// stakes, and the validator out of the engine.
#[test]
fn who_signs_twice_loses_a_twentieth_and_never_votes_again() {
    let mut world = World::staked();
    world.done("viewer", delegate("v2", 40 * SUT + 19));
    world.skip(2);
    let infraction = world.height;
    // It grew since: what is cut is of the power that signed twice.
    world.done("relay", delegate("v2", 60 * SUT));
    let (before, burned_before) = (tokens(&world, "v2"), burned(&world));
    let others = world.rewards().bonded.units() as u64 - before;
    world.signed_twice("v2", infraction);
    let response = world.block(vec![]);
    assert_eq!(
        types(&response.events),
        ["validator_slashed", "validator_tombstoned", "validator_power"]
    );
    let slashed = &response.events[0].attributes;
    let attributes: Vec<_> =
        slashed.iter().map(|one| (one.key.as_str(), one.value.clone())).collect();
    let amount = cut(240 * SUT);
    assert_eq!(
        attributes,
        [
            ("validator", id("v2").to_string()),
            ("infraction_height", infraction.to_string()),
            ("amount", amount.to_string()),
        ]
    );
    assert!(slashed[0].index, "who it was is found");
    assert_eq!(told(&response), [(address("v2"), 0)].into());
    assert_eq!(burned(&world), burned_before + amount);
    assert_eq!(tokens(&world, "v2"), before - amount);
    assert_eq!(world.rewards().bonded.units() as u64, others);
    // Everybody's part is smaller by the same share of it.
    let (all, left) = (u128::from(before), u128::from(before - amount));
    for (who, staked) in [("v2", 200 * SUT), ("viewer", 40 * SUT + 19), ("relay", 60 * SUT)] {
        let is = u128::from(staked) * left / all;
        assert_eq!(u128::from(world.staked_by(who, "v2")), is, "{who}");
    }
    assert_eq!(status(&world, "v2"), "tombstoned");
    let one = world.answer(&format!("/validator/{}", id("v2"))).unwrap();
    let slash = json!({
        "infraction_height": infraction,
        "height": world.height,
        "time_ms": world.time_ms,
        "bps": 500,
    });
    assert_eq!(one["slashed"], slash);
}

/// R4: a tombstone is for good, for the operator and for the key.
#[test]
fn nothing_is_staked_with_a_tombstone_and_its_key_is_never_used_again() {
    let mut world = World::staked();
    world.done("viewer", delegate("v2", 40 * SUT));
    world.done("viewer", delegate("v1", 40 * SUT));
    world.signed_twice("v2", 2);
    world.skip(1);
    let after = tokens(&world, "v2");
    // Found again, of the same block and of another: it is punished once.
    world.signed_twice("v2", 2);
    world.signed_twice("v2", 1);
    let response = world.block(vec![]);
    assert!(types(&response.events).is_empty());
    assert_eq!(tokens(&world, "v2"), after);
    world.refused("v2", Payload::Unjail, ResultCode::Policy);
    world.next_at(world.time_ms + 365 * 24 * 3_600_000);
    world.refused("v2", Payload::Unjail, ResultCode::Policy);
    world.step_ms = 1000;
    world.refused("viewer", delegate("v2", SUT), ResultCode::Policy);
    world.refused("v2", delegate("v2", SUT), ResultCode::Policy);
    world.refused("viewer", redelegate("v1", "v2", SUT), ResultCode::Policy);
    world.refused("v2", create("v2", STAKE, 0), ResultCode::Policy);
    let mut stolen = create("other", STAKE, 0);
    if let Payload::CreateValidator { consensus_key, possession, .. } = &mut stolen {
        use ed25519_dalek::Signer;
        *consensus_key = (&engine_key("v2")).into();
        let preimage = chain_types::staking::possession_preimage(&id("other"), CHAIN_ID);
        *possession = engine_key("v2").sign(preimage.as_slice()).to_bytes();
    }
    world.refused("other", stolen, ResultCode::Policy);
    // Those who staked with it go, and are not cut again.
    let left = world.staked_by("viewer", "v2");
    world.done("viewer", undelegate("v2", left));
    world.signed_twice("v2", 2);
    world.next_at(world.time_ms + 20_000);
    let result = world.done("viewer", withdraw("v2"));
    assert_eq!(attribute(&result, "stake_complete", "amount"), left.to_string());
    assert_eq!(attribute(&result, "stake_complete", "burned"), "0");
    let own = world.staked_by("v2", "v2");
    world.step_ms = 1000;
    world.done("v2", redelegate("v2", "v1", own));
    assert_eq!(world.staked_by("v2", "v1"), own);
    assert_eq!(tokens(&world, "v2"), 0);
}

/// Evidence about a key that is no validator's changes nothing.
#[test]
fn a_stranger_that_signs_twice_is_nobodys_loss() {
    let mut world = World::staked();
    world.signed_twice("v1", 1);
    let validator = world.engine.found[0].validator.as_mut().unwrap();
    validator.address = address("stranger").to_vec().into();
    let before = content(&world.app.snapshot());
    let response = world.block(vec![]);
    assert!(response.events.is_empty());
    assert_eq!(content(&world.app.snapshot()), before);
}

/// What left at `left` blocks from the infraction, found `early_ms` before it would be free.
#[track_caller]
fn check_departure(infraction_after: u64, early_ms: u64, is_cut: bool) {
    let mut world = World::staked();
    world.done("viewer", delegate("v2", 100 * SUT));
    world.skip(2);
    world.done("viewer", undelegate("v2", 40 * SUT));
    let (left, complete_ms) = (world.height, world.time_ms + 20_000);
    world.skip(3);
    let infraction = left + infraction_after;
    let power = world.engine.sets[&infraction][&address("v2")];
    assert_eq!(power, if infraction_after <= 1 { 300 } else { 260 }, "power acts two blocks later");
    let before = burned(&world);
    world.signed_twice("v2", infraction);
    world.next_at(complete_ms - early_ms);
    world.skip(1);
    let first = burned(&world) - before;
    let elsewhere = if is_cut { cut(40 * SUT) } else { 0 };
    assert_eq!(first, cut(power * SUT) - elsewhere);
    assert_eq!(tokens(&world, "v2"), 260 * SUT - first);
    if early_ms > 0 {
        world.next_at(complete_ms);
    }
    let balance = world.balance("viewer");
    let (due, fee) = (world.due("viewer", "v2"), world.fee("viewer", &withdraw("v2")));
    let result = world.done("viewer", withdraw("v2"));
    assert_eq!(attribute(&result, "stake_complete", "amount"), (40 * SUT).to_string());
    assert_eq!(attribute(&result, "stake_complete", "burned"), elsewhere.to_string());
    assert_eq!(world.balance("viewer"), balance + due - fee + 40 * SUT - elsewhere);
    assert_eq!(burned(&world) - before - fee.div_ceil(2), cut(power * SUT), "all in all");
}

/// R2: stake that signed twice is cut wherever it went, stake that left before is not; and not
/// what was free before anybody knew.
#[test]
fn what_left_is_cut_if_it_was_at_stake_and_if_it_was_known_in_time() {
    check_departure(0, 1_000, true);
    check_departure(1, 1_000, true); // It still voted in the block behind the one it left in.
    check_departure(2, 1_000, false);
    check_departure(1, 1, true);
    check_departure(1, 0, false);
}

#[track_caller]
fn check_move(infraction_after: u64, early_ms: u64, is_cut: bool) {
    let mut world = World::staked();
    world.done("viewer", delegate("v2", 100 * SUT));
    world.done("viewer", delegate("v3", 10 * SUT));
    world.skip(2);
    world.done("viewer", redelegate("v2", "v3", 40 * SUT));
    let (left, complete_ms) = (world.height, world.time_ms + 20_000);
    world.skip(3);
    let infraction = left + infraction_after;
    let power = world.engine.sets[&infraction][&address("v2")];
    let before = burned(&world);
    world.signed_twice("v2", infraction);
    world.next_at(complete_ms - early_ms);
    world.skip(1);
    let elsewhere = if is_cut { cut(40 * SUT) } else { 0 };
    assert_eq!(burned(&world) - before, cut(power * SUT) - elsewhere);
    assert_eq!(world.staked_by("viewer", "v3"), 50 * SUT, "cut when it is touched");
    let fee = world.fee("viewer", &withdraw("v3"));
    let bytes = world.sign("viewer", withdraw("v3"));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    match is_cut {
        true => {
            assert_eq!(events(result), ["fee", "rewards_paid", "validator_slashed"]);
            assert_eq!(attribute(result, "validator_slashed", "validator"), id("v3").to_string());
            assert_eq!(attribute(result, "validator_slashed", "amount"), elsewhere.to_string());
            assert_eq!(told(&response), [(address("v3"), 348)].into());
        }
        false => assert_eq!(events(result), ["fee", "rewards_paid"]),
    }
    assert_eq!(world.staked_by("viewer", "v3"), 50 * SUT - elsewhere);
    assert_eq!(burned(&world) - before - fee.div_ceil(2), cut(power * SUT), "all in all");
    // Once is enough.
    world.done("viewer", withdraw("v3"));
    assert_eq!(world.staked_by("viewer", "v3"), 50 * SUT - elsewhere);
    world.next_at(world.time_ms.max(complete_ms) + 1);
    world.done("viewer", undelegate("v3", 50 * SUT - elsewhere));
}

/// R2: moving stake away is no way out.
#[test]
fn what_moved_is_cut_for_what_its_former_validator_did_before() {
    check_move(0, 5_000, true);
    check_move(1, 5_000, true);
    check_move(2, 5_000, false);
    check_move(1, 1, true);
    check_move(1, 0, false);
}

/// A part that was cut for its first validator is cut again for the second one's own fault.
#[test]
fn stake_answers_for_both_validators_that_it_was_with() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 100 * SUT));
    world.skip(2);
    world.done("viewer", redelegate("v1", "v2", 100 * SUT));
    world.skip(3);
    let infraction = world.height - 3;
    world.signed_twice("v1", infraction);
    world.signed_twice("v2", world.height);
    world.skip(1);
    assert_eq!(tokens(&world, "v2"), 285 * SUT);
    assert_eq!(tokens(&world, "v1"), 95 * SUT, "of 200, 10 are cut, of which 5 elsewhere");
    assert_eq!(world.staked_by("viewer", "v2"), 95 * SUT);
    world.done("viewer", withdraw("v2"));
    assert_eq!(world.staked_by("viewer", "v2"), 90 * SUT + SUT / 4, "95 % of 95 %");
    // Its operator had no part in that.
    assert_eq!(world.staked_by("v2", "v2"), 190 * SUT);
}

/// The window of [`Params::for_tests`] is 20 blocks, of which half must be signed.
#[test]
fn who_misses_one_block_too_many_is_jailed_and_loses_nothing() {
    let mut world = World::staked();
    world.skip(3);
    let missed = |world: &World| {
        world.answer(&format!("/validator/{}", id("v1"))).unwrap()["missed_blocks"].clone()
    };
    // Half of the window may be missed, again and again.
    for _ in 0..3 {
        world.engine.absent.insert(address("v1"));
        world.skip(10);
        assert_eq!((missed(&world), &*status(&world, "v1")), (json!(10), "voting"));
        world.engine.absent.clear();
        world.skip(10);
        assert_eq!((missed(&world), &*status(&world, "v1")), (json!(10), "voting"));
    }
    world.skip(10);
    assert_eq!(missed(&world), 0);
    world.engine.absent.insert(address("v1"));
    world.skip(10);
    let response = world.block(vec![]);
    assert_eq!(types(&response.events), ["validator_jailed", "validator_power"]);
    assert_eq!(response.events[0].attributes[1].value, "11");
    assert_eq!(told(&response), [(address("v1"), 0)].into());
    assert_eq!((&*status(&world, "v1"), tokens(&world, "v1")), ("jailed", STAKE));
    let until_ms = world.time_ms + 5_000;
    // It is in the engine for one more block; nobody counts that.
    world.skip(3);
    world.engine.absent.clear();
    world.next_at(until_ms - 1);
    world.refused("v1", Payload::Unjail, ResultCode::Policy);
    world.step_ms = 1;
    let bytes = world.sign("v1", Payload::Unjail);
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(events(result), ["fee", "validator_unjailed"], "{}", result.log);
    assert_eq!(told(&response), [(address("v1"), 100)].into());
    world.step_ms = 1000;
    world.skip(2);
    assert_eq!((missed(&world), &*status(&world, "v1")), (json!(0), "voting"));
    world.refused("v1", Payload::Unjail, ResultCode::Policy);
    // It counts from the block on in which it votes again.
    world.engine.absent.insert(address("v1"));
    world.skip(10);
    assert_eq!((missed(&world), &*status(&world, "v1")), (json!(10), "voting"));
    world.skip(1);
    assert_eq!(status(&world, "v1"), "jailed");
}

/// In jail, and the only one: it votes on, is let out, and its window begins anew.
#[test]
fn the_last_validator_votes_on_in_jail() {
    let mut world = World::staked_with(Params::for_tests(), &FIRSTS[..1]);
    world.engine.absent.insert(address("v1"));
    world.skip(1);
    for _ in 0..11 {
        assert!(world.block(vec![]).validator_updates.is_empty());
    }
    assert_eq!((&*status(&world, "v1"), world.power("v1")), ("jailed", 100));
    world.engine.absent.clear();
    world.skip(5);
    world.done("v1", Payload::Unjail);
    assert_eq!((&*status(&world, "v1"), world.power("v1")), ("voting", 100));
    world.engine.absent.insert(address("v1"));
    world.skip(10);
    assert_eq!(status(&world, "v1"), "voting");
    world.skip(2);
    assert_eq!(status(&world, "v1"), "jailed");
}

/// Leaving and coming back in one block does not forgive what was missed.
#[test]
fn an_operator_cannot_wipe_out_what_it_missed() {
    let mut world = World::staked();
    world.skip(2);
    world.engine.absent.insert(address("v1"));
    world.skip(9);
    let nonce = world.account("v1").nonce;
    let payloads = [undelegate("v1", STAKE), delegate("v1", STAKE), Payload::Unjail];
    let txs = payloads.into_iter().enumerate().map(|(at, payload)| {
        let mut body = world.body("v1", payload);
        body.nonce = nonce + at as u64;
        body.sign(&key("v1"), CHAIN_ID).encode().into()
    });
    let txs = txs.collect();
    let response = world.block(txs);
    assert!(response.tx_results.iter().all(|result| result.code == 0));
    assert!(response.validator_updates.is_empty());
    assert_eq!(status(&world, "v1"), "voting");
    world.skip(1);
    assert_eq!(status(&world, "v1"), "jailed");
}

/// A second evidence against the last validator does nothing; a chain of tombstones goes on.
#[test]
fn the_last_validator_may_even_be_a_tombstone() {
    let mut world = World::staked_with(Params::for_tests(), &FIRSTS[..1]);
    world.skip(2);
    world.signed_twice("v1", 2);
    let response = world.block(vec![]);
    assert!(response.validator_updates.is_empty());
    assert_eq!(tokens(&world, "v1"), 95 * SUT);
    assert_eq!(world.rewards().bonded, sut(95 * SUT));
    world.done("viewer", Payload::Transfer { to: id("relay"), amount: sut(1) });
    let bytes = world.sign("other", create("other", SUT, 0));
    assert_eq!(told(&world.block(vec![bytes])), [(address("other"), 1), (address("v1"), 0)].into());
    assert_eq!(world.rewards().bonded, Balance::of(SUT));
}

/// What came from a validator that signed twice is cut where it is now: an operator that has too
/// little left with its own validator is jailed, as if it had taken it out.
#[test]
fn an_operator_that_a_cut_leaves_with_too_little_is_jailed() {
    let mut world = World::staked();
    world.done("other", create("other", SUT, 0));
    world.done("relay", delegate("other", 10 * SUT));
    world.done("other", delegate("v2", 20 * SUT));
    world.skip(2);
    let infraction = world.height;
    world.done("other", redelegate("v2", "other", SUT));
    world.done("other", undelegate("other", SUT));
    assert_eq!((&*status(&world, "other"), world.power("other")), ("voting", 11));
    world.signed_twice("v2", infraction);
    world.skip(1);
    // Nobody is written who is not touched.
    assert_eq!((&*status(&world, "other"), world.power("other")), ("voting", 11));
    let bytes = world.sign("other", withdraw("other"));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(result.code, 0, "{}", result.log);
    let jailed = events(result).into_iter().filter(|event| *event == "validator_jailed").count();
    assert_eq!(jailed, 1);
    assert_eq!(told(&response), [(address("other"), 0)].into());
    assert_eq!(world.staked_by("other", "other"), SUT - cut(SUT));
    assert_eq!(status(&world, "other"), "jailed");
    world.refused("other", Payload::Unjail, ResultCode::Funds);
    world.done("other", delegate("other", SUT));
    world.done("other", Payload::Unjail);
    assert_eq!((&*status(&world, "other"), world.power("other")), ("voting", 11));
}

/// The cut of somebody else's stake, and a cut that leaves enough, jail nobody.
#[test]
fn an_operator_with_enough_left_is_not_jailed_by_a_cut() {
    let mut world = World::staked();
    world.done("viewer", delegate("v2", 20 * SUT));
    world.done("v1", delegate("v2", 20 * SUT));
    world.skip(2);
    let infraction = world.height;
    world.done("viewer", redelegate("v2", "v1", SUT));
    world.done("v1", redelegate("v2", "v1", SUT));
    world.signed_twice("v2", infraction);
    world.skip(1);
    for who in ["viewer", "v1"] {
        let result = world.done(who, withdraw("v1"));
        assert!(events(&result).contains(&"validator_slashed"), "it was cut");
    }
    assert_eq!(status(&world, "v1"), "voting");
}
