//! What operators decide: parameters and upgrades, with the power of their validators.

use bytes::Bytes;
use chain_types::{Params, Payload, ResultCode, staking::Upgrade};
use serde_json::{Value, json};

use crate::{staked::*, world::*};

fn propose(change: impl FnOnce(&mut Params)) -> Payload {
    let mut params = Params::for_tests();
    change(&mut params);
    Payload::Propose {
        title: "Fees".to_owned(),
        text: "They are too low.".to_owned(),
        params: Box::new(params),
    }
}

fn fees(base: u64) -> Payload {
    propose(|params| params.fee_base = sut(base))
}

fn vote(proposal: u64, approve: bool) -> Payload {
    Payload::Vote { proposal, approve }
}

fn upgrade(name: &str, height: u64) -> Payload {
    let (name, info) = (name.to_owned(), "https://example.org".to_owned());
    Payload::ScheduleUpgrade { upgrade: Upgrade { name, height, info } }
}

fn state(world: &World, number: u64) -> Value {
    world.answer(&format!("/proposal/{number}")).unwrap()["state"].clone()
}

/// R2, R4
#[test]
fn more_than_two_thirds_of_the_power_pass_a_proposal_at_once() {
    let mut world = World::staked(); // 100, 200, 300
    let result = world.done("v1", fees(20_000));
    assert_eq!(events(&result), ["fee", "proposed"]);
    assert_eq!(attribute(&result, "proposed", "proposal"), "1");
    assert_eq!(attribute(&result, "proposed", "proposer"), id("v1").to_string());
    let ends_ms = world.time_ms + 60_000;
    let result = world.done("v3", vote(1, true));
    assert_eq!(events(&result), ["fee", "voted"]);
    assert_eq!(attribute(&result, "voted", "approve"), "true");
    world.done("v1", vote(1, true));
    assert_eq!(state(&world, 1), "voting", "two thirds are not more than two thirds");
    let one = world.answer("/proposal/1").unwrap();
    let mut params = Params::for_tests();
    params.fee_base = sut(20_000);
    assert_eq!(
        one,
        json!({
            "number": 1,
            "proposer": id("v1").to_string(),
            "title": "Fees",
            "text": "They are too low.",
            "change": { "kind": "params", "params": params },
            "height": 1,
            "ends_ms": ends_ms,
            "state": "voting",
            "yes_power": "400",
            "no_power": "0",
            "total_power": "600",
        })
    );
    assert_eq!(world.answer("/proposals").unwrap(), json!([one]));
    assert_eq!(world.params().fee_base, sut(10_000));
    let result = world.done("v2", vote(1, true));
    assert_eq!(events(&result), ["fee", "voted", "decided"]);
    assert_eq!(attribute(&result, "decided", "passed"), "true");
    assert_eq!(state(&world, 1), "passed");
    assert_eq!(world.params(), params);
    assert_eq!(world.answer("/params").unwrap()["fee_base"], "20000");
    world.refused("v2", vote(1, false), ResultCode::Policy);
}

#[test]
fn a_third_of_the_power_rejects_a_proposal() {
    let mut world = World::staked();
    world.done("v1", fees(20_000));
    world.done("v1", vote(1, false));
    assert_eq!(state(&world, 1), "voting");
    let result = world.done("v2", vote(1, false));
    assert_eq!(attribute(&result, "decided", "passed"), "false");
    assert_eq!((state(&world, 1), world.params().fee_base), (json!("rejected"), sut(10_000)));
    world.refused("v3", vote(1, true), ResultCode::Policy);
    // Exactly a third is enough.
    world.done("v1", fees(20_000));
    world.done("v2", vote(2, false));
    assert_eq!(state(&world, 2), "rejected");
    // The last word of each counts, with the power that it has then.
    world.done("v1", fees(20_000));
    world.done("v1", vote(3, false));
    world.done("v3", vote(3, true));
    world.done("v1", vote(3, true));
    world.done("viewer", delegate("v3", SUT));
    assert_eq!(state(&world, 3), "voting");
    world.done("v1", vote(3, true));
    assert_eq!(state(&world, 3), "passed", "401 of 601");
}

/// R4
#[test]
fn only_operators_of_voting_validators_propose_and_vote_and_only_in_time() {
    let mut params = Params::for_tests();
    params.validators_max = 3;
    let mut world = World::staked_with(params.clone(), &FIRSTS);
    world.done("other", create("other", SUT, 0)); // It waits.
    let same =
        Payload::Propose { title: String::new(), text: String::new(), params: Box::new(params) };
    for name in ["viewer", "other"] {
        world.refused(name, same.clone(), ResultCode::NotOwner);
        world.refused(name, upgrade("two", 10_000), ResultCode::NotOwner);
        world.refused(name, vote(1, true), ResultCode::NotOwner);
    }
    world.refused("v1", vote(1, true), ResultCode::NotFound);
    world.done("v1", same);
    let ends_ms = world.time_ms + 60_000;
    world.next_at(ends_ms - 1);
    world.done("v3", vote(1, true));
    world.step_ms = 1;
    world.refused("v2", vote(1, true), ResultCode::Policy);
    assert_eq!(state(&world, 1), "voting", "it says itself when that was over");
    let mut without = World::new();
    without.refused("viewer", fees(20_000), ResultCode::NotOwner);
    without.refused("viewer", vote(1, true), ResultCode::NotOwner);
}

/// R4
#[test]
fn parameters_that_would_break_the_chain_are_not_even_proposed() {
    let mut world = World::staked();
    let faults: [fn(&mut Params); 7] = [
        |params| params.power_unit = sut(2 * SUT),
        |params| params.validators_max = 1,
        |params| params.validators_max = 0,
        |params| params.fee_base = sut(0),
        |params| params.unbonding_ms = 0,
        |params| params.unbonding_ms -= 1,
        |params| params.double_sign_bps = 10_001,
    ];
    for fault in faults {
        world.refused("v1", propose(fault), ResultCode::Decode);
    }
    assert_eq!(world.answer("/proposals").unwrap(), json!([]));
    let long = |title: usize, text: usize| Payload::Propose {
        title: "t".repeat(title),
        text: "t".repeat(text),
        params: Box::new(Params::for_tests()),
    };
    for payload in [long(129, 0), long(0, 2_049), upgrade(&"n".repeat(33), 1_000)] {
        let bytes = world.sign("v1", payload);
        world.ignored(bytes, ResultCode::TooLarge);
    }
    let bytes = world.sign("v1", upgrade("", 1_000));
    world.ignored(bytes, ResultCode::Decode);
    world.done("v1", long(128, 2_048));
}

/// R2: what passes is in force in the next block, and not within this one.
#[test]
fn new_parameters_hold_from_the_next_block_on() {
    let mut world = World::staked();
    world.done("v1", fees(20_000));
    world.done("v3", vote(1, true));
    world.done("v1", vote(1, true));
    let payload = Payload::Transfer { to: id("relay"), amount: sut(1) };
    let (last, cheap) = (world.sign("v2", vote(1, true)), world.sign("viewer", payload.clone()));
    let body = world.body("other", payload.clone());
    let codes = world.block(vec![last, cheap]).tx_results;
    assert_eq!([codes[0].code, codes[1].code], [0, 0]);
    let late = body.sign(&key("other"), CHAIN_ID).encode();
    world.ignored(late, ResultCode::Fee);
    world.done("other", payload);
}

/// R2: fewer places, and who has none loses its power in the very block that decides.
#[test]
fn fewer_places_take_the_least_validator_out_at_once() {
    let mut world = World::staked();
    world.done("v1", propose(|params| params.validators_max = 2));
    world.done("v1", vote(1, true));
    world.done("v2", vote(1, true));
    let bytes = world.sign("v3", vote(1, true));
    let response = world.block(vec![bytes]);
    assert_eq!(state(&world, 1), "passed");
    assert_eq!(told(&response), [(address("v1"), 0)].into());
    assert_eq!(world.answer(&format!("/validator/{}", id("v1"))).unwrap()["status"], "waiting");
}

/// A window of another length, of as many bytes, begins anew.
#[test]
fn a_new_window_forgets_what_was_missed_in_the_old_one() {
    let mut world = World::staked();
    world.done("v1", propose(|params| params.signed_window_blocks = 17));
    let missed = |world: &World, name: &str| {
        let one = world.answer(&format!("/validator/{}", id(name))).unwrap();
        one["missed_blocks"].as_u64().unwrap()
    };
    world.engine.absent.insert(address("v1"));
    world.skip(9);
    assert_eq!(missed(&world, "v1"), 9);
    world.engine.absent.clear();
    world.done("v1", vote(1, true));
    world.done("v2", vote(1, true));
    world.done("v3", vote(1, true));
    assert_eq!(world.params().signed_window_blocks, 17);
    assert_eq!(missed(&world, "v1"), 0);
    // Of 17 it must sign 8: it may miss 9.
    world.engine.absent.insert(address("v2"));
    world.skip(9);
    assert_eq!((missed(&world, "v2"), world.power("v2")), (9, 200));
    world.skip(1);
    assert_eq!((missed(&world, "v2"), world.power("v2")), (0, 0));
    world.engine.absent.clear();
    world.skip(40);
    assert_eq!(missed(&world, "v1"), 0);
}

/// R4
#[test]
fn an_upgrade_is_scheduled_with_notice_and_only_for_a_block_to_come() {
    let mut world = World::staked();
    let first = world.height + 1 + world.params().notice_blocks;
    world.refused("v1", upgrade("two", first), ResultCode::Policy);
    // The refused one took a block.
    let result = world.done("v1", upgrade("two", first + 2));
    assert_eq!(events(&result), ["fee", "proposed"]);
    assert_eq!(
        world.answer("/proposal/1").unwrap()["change"],
        json!({ "kind": "upgrade", "upgrade": {
            "name": "two", "height": first + 2, "info": "https://example.org",
        } })
    );
    assert_eq!(world.answer("/upgrade").unwrap(), Value::Null);
    let late = first + 3;
    world.done("v1", upgrade("three", late));
    for proposal in [1, 2] {
        world.done("v1", vote(proposal, true));
        world.done("v2", vote(proposal, true));
    }
    let result = world.done("v3", vote(1, true));
    assert_eq!(events(&result), ["fee", "voted", "upgrade_scheduled", "decided"]);
    assert_eq!(attribute(&result, "upgrade_scheduled", "name"), "two");
    assert_eq!(attribute(&result, "upgrade_scheduled", "height"), (first + 2).to_string());
    let scheduled = json!({ "name": "two", "height": first + 2, "info": "https://example.org" });
    assert_eq!(world.answer("/upgrade").unwrap(), scheduled);
}

/// What does not fit any more when it would pass is rejected.
#[test]
fn an_upgrade_that_passes_too_late_is_rejected() {
    let mut params = Params::for_tests();
    params.notice_blocks = 1;
    let mut world = World::staked_with(params, &FIRSTS);
    world.done("v1", upgrade("two", world.height + 3));
    world.done("v3", vote(1, true));
    world.done("v1", vote(1, true));
    let bytes = world.sign("v2", vote(1, true));
    let result = world.block(vec![Bytes::clone(&bytes)]).tx_results.remove(0);
    assert_eq!(attribute(&result, "decided", "passed"), "false");
    assert_eq!(state(&world, 1), "rejected");
    assert_eq!(world.answer("/upgrade").unwrap(), Value::Null);
}
