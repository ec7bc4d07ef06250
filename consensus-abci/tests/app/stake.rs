//! Validators made and edited; stake put in, taken out and moved; rewards to the unit.

use chain_types::{
    Balance, Params, Payload, ResultCode,
    staking::{Commission, INCOMING_MAX, Incoming, LEAVING_MAX},
};
use ed25519_dalek::Signer;
use ethnum::U256;
use serde_json::json;

use crate::{staked::*, world::*};

const DAY_MS: u64 = 24 * 3_600_000;

/// R2: the transactions of the genesis make the validators, and the engine is told of them.
#[test]
fn the_validators_of_the_genesis_vote_with_what_they_staked() {
    let world = World::staked();
    let set = &world.engine.sets[&1];
    let expected = FIRSTS.map(|(name, stake, _)| (address(name), stake / SUT));
    assert_eq!(*set, expected.into_iter().collect());
    assert_eq!(world.account("v1").nonce, 1, "its first transaction was its validator's");
    assert_eq!(world.balance("v1"), BEGIN - STAKE);
    let one = world.answer(&format!("/validator/{}", id("v2"))).unwrap();
    let hex_address: String = address("v2").iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(
        one,
        json!({
            "account": id("v2").to_string(),
            "consensus_key": chain_types::AccountId::from(&engine_key("v2")).to_string(),
            "moniker": "v2",
            "website": "",
            "commission": { "bps": 1000, "max_bps": 5000, "step_bps": 1000 },
            "commission_changed_ms": GENESIS_MS,
            "tokens": (2 * STAKE).to_string(),
            "shares": (2 * STAKE).to_string(),
            "power": "200",
            "settled": "0",
            "per_share": "0",
            "commission_due": "0",
            "jailed": null,
            "slashed": null,
            "since_height": 0,
            "status": "voting",
            "address": hex_address,
            "missed_blocks": 0,
        })
    );
    let all = world.answer("/validators").unwrap();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert!(all.as_array().unwrap().contains(&one));
    let supply = world.answer("/supply").unwrap();
    assert_eq!((&supply["bonded"], &supply["rewards_held"]), (&json!("600000000000"), &json!("0")));
    assert_eq!(world.answer("/upgrade").unwrap(), json!(null));
    assert_eq!(world.answer("/proposals").unwrap(), json!([]));
    assert_eq!(world.answer(&format!("/validator/{}", id("other"))), Err(ResultCode::NotFound));
    assert_eq!(world.answer("/validator/zz"), Err(ResultCode::Decode));
    assert_eq!(world.answer("/proposal/1"), Err(ResultCode::NotFound));
    assert_eq!(world.answer("/proposal/x"), Err(ResultCode::Decode));
}

/// R2
#[test]
fn a_chain_whose_validators_are_the_engines_refuses_every_stake() {
    let mut world = World::new();
    for payload in [
        create("other", STAKE, 0),
        Payload::EditValidator { moniker: None, website: None, commission_bps: None },
        delegate("v1", STAKE),
        undelegate("v1", STAKE),
        redelegate("v1", "v2", STAKE),
        withdraw("v1"),
        Payload::Unjail,
    ] {
        world.refused("other", payload, ResultCode::Policy);
    }
    assert_eq!(world.answer("/validators").unwrap(), json!([]));
}

/// R2, R4
#[test]
fn a_new_validator_joins_with_its_stake_and_the_engine_hears_of_it_alone() {
    let mut world = World::staked();
    let bytes = world.sign("other", create("other", 50 * SUT, 500));
    let fee = world.fee("other", &create("other", 50 * SUT, 500));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(result.code, 0, "{}", result.log);
    assert_eq!(events(result), ["fee", "validator_created", "stake_bonded"]);
    let consensus_key = chain_types::AccountId::from(&engine_key("other")).to_string();
    assert_eq!(attribute(result, "validator_created", "validator"), id("other").to_string());
    assert_eq!(attribute(result, "validator_created", "consensus_key"), consensus_key);
    assert_eq!(attribute(result, "stake_bonded", "amount"), (50 * SUT).to_string());
    assert_eq!(types(&response.events), ["validator_power"]);
    assert_eq!(told(&response), [(address("other"), 50)].into());
    assert_eq!(world.balance("other"), BEGIN - 50 * SUT - fee);
    assert_eq!(world.staked_by("other", "other"), 50 * SUT);
    // Nobody's power changed: nothing is said.
    assert!(world.block(vec![]).validator_updates.is_empty());
    world.refused("other", create("other", 50 * SUT, 500), ResultCode::Policy);
}

/// R4
#[test]
fn a_validator_is_not_made_without_its_keys_proof_its_stake_or_a_sound_commission() {
    let mut world = World::staked();
    let good = create("other", STAKE, 0);
    #[track_caller]
    fn check(world: &mut World, change: impl FnOnce(&mut Payload), code: ResultCode) {
        let mut payload = create("other", STAKE, 0);
        change(&mut payload);
        world.refused("other", payload, code);
    }
    macro_rules! with {
        ($field:ident = $value:expr) => {
            |payload: &mut Payload| {
                let Payload::CreateValidator { $field, .. } = payload else { panic!() };
                *$field = $value;
            }
        };
    }
    let proof = |engine: &str, operator: &str, chain: &str| {
        let preimage = chain_types::staking::possession_preimage(&id(operator), chain);
        engine_key(engine).sign(preimage.as_slice()).to_bytes()
    };
    let faulty = |bps, max_bps, step_bps| Commission { bps, max_bps, step_bps };
    check(&mut world, with!(possession = proof("v1", "other", CHAIN_ID)), ResultCode::Signature);
    check(&mut world, with!(possession = proof("other", "v1", CHAIN_ID)), ResultCode::Signature);
    check(&mut world, with!(possession = proof("other", "other", "else")), ResultCode::Signature);
    check(&mut world, with!(possession = [0; 64]), ResultCode::Signature);
    check(&mut world, with!(commission = faulty(1, 10_001, 0)), ResultCode::Decode);
    check(&mut world, with!(commission = faulty(501, 500, 0)), ResultCode::Decode);
    check(&mut world, with!(commission = faulty(0, 500, 501)), ResultCode::Decode);
    check(&mut world, with!(self_delegation = sut(SUT - 1)), ResultCode::Funds);
    check(&mut world, with!(self_delegation = sut(BEGIN)), ResultCode::Funds);
    check(&mut world, with!(self_delegation = Balance::MAX), ResultCode::Funds);
    // Another validator's key, honestly proved.
    let mut copied = good.clone();
    with!(consensus_key = (&engine_key("v1")).into())(&mut copied);
    with!(possession = proof("v1", "other", CHAIN_ID))(&mut copied);
    world.refused("other", copied, ResultCode::Policy);
    for long in [with_moniker(String::new()), with_moniker("m".repeat(65))] {
        let bytes = world.sign("other", long);
        world.ignored(bytes, ResultCode::TooLarge);
    }
    let mut long = good.clone();
    with!(website = "w".repeat(129))(&mut long);
    let bytes = world.sign("other", long);
    world.ignored(bytes, ResultCode::TooLarge);
    world.done("other", good);
    let mut params = Params::for_tests();
    params.validators_max = 1;
    let mut alone = World::staked_with(params, &FIRSTS[..1]);
    alone.refused("other", create("other", STAKE, 0), ResultCode::Policy);
}

fn with_moniker(name: String) -> Payload {
    let mut payload = create("other", STAKE, 0);
    if let Payload::CreateValidator { moniker, .. } = &mut payload {
        *moniker = name;
    }
    payload
}

/// R4
#[test]
fn a_commission_moves_one_step_a_day_up_to_its_greatest() {
    fn edit(bps: u16) -> Payload {
        Payload::EditValidator { moniker: None, website: None, commission_bps: Some(bps) }
    }
    let mut world = World::staked();
    // What a genesis says of a commission holds for a day, too.
    world.refused("v2", edit(900), ResultCode::Policy);
    world.next_at(GENESIS_MS + DAY_MS - 1);
    world.refused("v2", edit(900), ResultCode::Policy);
    world.step_ms = 1;
    world.done("v2", edit(900));
    world.step_ms = 1000;
    world.done("other", create("other", STAKE, 4_500));
    let born_ms = world.time_ms;
    world.refused("other", edit(4_400), ResultCode::Policy);
    world.next_at(born_ms + DAY_MS - 1);
    world.refused("other", edit(4_400), ResultCode::Policy);
    world.next_at(born_ms + DAY_MS);
    world.done("other", edit(5_000));
    world.next_at(born_ms + 2 * DAY_MS);
    world.refused("other", edit(5_001), ResultCode::Policy);
    world.step_ms = 1;
    world.refused("other", edit(3_999), ResultCode::Policy);
    world.done("other", edit(4_000));
    assert_eq!(world.validator("other").commission, commission(4_000));
    let result = world.done(
        "other",
        Payload::EditValidator {
            moniker: Some("Other".to_owned()),
            website: Some("https://other.example".to_owned()),
            commission_bps: None,
        },
    );
    assert_eq!(events(&result), ["fee", "validator_edited"]);
    assert_eq!(attribute(&result, "validator_edited", "validator"), id("other").to_string());
    let record = world.validator("other");
    assert_eq!((&*record.moniker, &*record.website), ("Other", "https://other.example"));
    world.refused("viewer", edit(0), ResultCode::NotFound);
    let unnamed = Payload::EditValidator {
        moniker: Some(String::new()),
        website: None,
        commission_bps: None,
    };
    let bytes = world.sign("other", unnamed);
    world.ignored(bytes, ResultCode::TooLarge);
}

/// What was earned before a new commission is shared by the old one.
#[test]
fn a_new_commission_is_for_what_is_earned_from_then_on() {
    let mut world = World::staked_with(Params::for_tests(), &[("v1", STAKE, 1_000)]);
    world.next_at(GENESIS_MS + DAY_MS);
    world.done("viewer", Payload::Transfer { to: id("relay"), amount: sut(1) });
    world.step_ms = 1000;
    let earned = world.rewards().held.units();
    let edit = Payload::EditValidator { moniker: None, website: None, commission_bps: Some(0) };
    world.done("v1", edit);
    let record = world.validator("v1");
    let all = wide(u128::from(STAKE), (earned << 64) / u128::from(STAKE));
    assert_eq!(record.commission_due.units(), all / 10);
}

/// R2, R4
#[test]
fn a_delegation_changes_the_power_and_is_listed() {
    let mut world = World::staked();
    let bytes = world.sign("viewer", delegate("v1", 10 * SUT + 7));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(events(result), ["fee", "stake_bonded"], "{}", result.log);
    assert_eq!(attribute(result, "stake_bonded", "delegator"), id("viewer").to_string());
    assert_eq!(attribute(result, "stake_bonded", "validator"), id("v1").to_string());
    assert_eq!(told(&response), [(address("v1"), 110)].into(), "whole SUT only");
    let one = world.stake_of("viewer", "v1");
    assert_eq!(units(&one["amount"]), 10 * SUT + 7);
    assert_eq!(one["shares"], (10 * SUT + 7).to_string());
    assert_eq!((&one["incoming"], &one["leaving"]), (&json!([]), &json!([])));
    let mut delegators = vec![
        json!({ "delegator": id("viewer").to_string(), "amount": (10 * SUT + 7).to_string() }),
        json!({ "delegator": id("v1").to_string(), "amount": STAKE.to_string() }),
    ];
    delegators.sort_by_key(|one| one["delegator"].as_str().unwrap().to_owned());
    assert_eq!(world.answer(&format!("/delegators/{}", id("v1"))).unwrap(), json!(delegators));
    // Less than a unit of power: nobody is told.
    let bytes = world.sign("viewer", delegate("v2", SUT));
    assert_eq!(told(&world.block(vec![bytes])), [(address("v2"), 201)].into());
    let bytes = world.sign("viewer", undelegate("v1", 7));
    assert!(world.block(vec![bytes]).validator_updates.is_empty());
    let first = world.balance("viewer");
    let cost = world.fee("viewer", &delegate("v1", first));
    for (validator, amount, code) in [
        ("v1", SUT - 1, ResultCode::Funds),
        ("v1", 0, ResultCode::Funds),
        ("v1", first, ResultCode::Funds),
        ("relay", SUT, ResultCode::NotFound),
    ] {
        world.refused("viewer", delegate(validator, amount), code);
    }
    world.done("viewer", delegate("v1", first - 5 * cost));
}

/// R2, R3: what leaves is paid when its time has come, and not a millisecond before.
#[test]
fn unbonding_never_pays_early() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 10 * SUT));
    let bytes = world.sign("viewer", undelegate("v1", 4 * SUT));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(told(&response), [(address("v1"), 106)].into());
    let (left_height, complete_ms) = (world.height, world.time_ms + 20_000);
    assert_eq!(events(result), ["fee", "rewards_paid", "stake_unbonding"]);
    assert_eq!(attribute(result, "stake_unbonding", "amount"), (4 * SUT).to_string());
    assert_eq!(attribute(result, "stake_unbonding", "complete_ms"), complete_ms.to_string());
    assert_eq!(
        world.stake_of("viewer", "v1")["leaving"],
        json!([{
            "height": left_height,
            "to": null,
            "amount": (4 * SUT).to_string(),
            "complete_ms": complete_ms,
        }])
    );
    world.next_at(complete_ms - 1);
    let result = world.done("viewer", withdraw("v1"));
    assert_eq!(events(&result), ["fee", "rewards_paid"]);
    let before = world.balance("viewer");
    let (due, fee) = (world.due("viewer", "v1"), world.fee("viewer", &withdraw("v1")));
    world.step_ms = 1;
    let result = world.done("viewer", withdraw("v1"));
    assert_eq!(world.time_ms, complete_ms);
    assert_eq!(events(&result), ["fee", "rewards_paid", "stake_complete"]);
    assert_eq!(attribute(&result, "rewards_paid", "amount"), due.to_string());
    assert_eq!(attribute(&result, "rewards_paid", "commission"), "0");
    assert_eq!(attribute(&result, "stake_complete", "amount"), (4 * SUT).to_string());
    assert_eq!(attribute(&result, "stake_complete", "burned"), "0");
    assert_eq!(world.balance("viewer"), before + 4 * SUT + due - fee);
    assert_eq!(world.staked_by("viewer", "v1"), 6 * SUT);
    // It is paid once.
    let result = world.done("viewer", withdraw("v1"));
    assert_eq!(events(&result), ["fee", "rewards_paid"]);
}

/// R4
#[test]
fn what_is_taken_back_is_there_and_leaves_nothing_or_the_least() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 10 * SUT));
    for (validator, amount, code) in [
        ("v1", 0, ResultCode::Decode),
        ("v1", 10 * SUT + 1, ResultCode::Funds),
        ("v1", 9 * SUT + 1, ResultCode::Funds),
        ("v2", 1, ResultCode::Funds),
        ("relay", SUT, ResultCode::NotFound),
    ] {
        world.refused("viewer", undelegate(validator, amount), code);
    }
    world.done("viewer", undelegate("v1", 9 * SUT));
    assert_eq!(world.staked_by("viewer", "v1"), SUT, "the least may stay");
    world.done("viewer", undelegate("v1", SUT));
    world.refused("viewer", undelegate("v1", SUT), ResultCode::Funds);
    assert_eq!(world.staked_by("viewer", "v1"), 0);
    world.next_at(world.time_ms + 20_000);
    world.done("viewer", withdraw("v1"));
    assert_eq!(world.delegation("viewer", "v1"), None, "nothing is kept of it");
    world.refused("viewer", withdraw("v1"), ResultCode::NotFound);
    assert_eq!(world.answer(&format!("/delegations/{}", id("viewer"))).unwrap(), json!([]));
    let delegators = world.answer(&format!("/delegators/{}", id("v1"))).unwrap();
    assert_eq!(delegators.as_array().unwrap().len(), 1);
}

/// Parts of one block are one part; more than eight blocks' wait for a withdrawal.
#[test]
fn at_most_eight_parts_of_a_delegation_are_on_their_way() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 100 * SUT));
    let nonce = world.account("viewer").nonce;
    let txs = (0..3).map(|ahead| {
        let mut body = world.body("viewer", undelegate("v1", SUT + ahead));
        body.nonce = nonce + ahead;
        body.sign(&key("viewer"), CHAIN_ID).encode().into()
    });
    let txs = txs.collect();
    assert!(world.block(txs).tx_results.iter().all(|result| result.code == 0));
    let begin_ms = world.time_ms;
    let leaving = world.stake_of("viewer", "v1")["leaving"].clone();
    assert_eq!(leaving.as_array().unwrap().len(), 1);
    assert_eq!(units(&leaving[0]["amount"]), 3 * SUT + 3);
    for _ in 1..LEAVING_MAX {
        world.done("viewer", undelegate("v1", SUT));
    }
    world.refused("viewer", undelegate("v1", SUT), ResultCode::Policy);
    world.refused("viewer", redelegate("v1", "v2", SUT), ResultCode::Policy);
    world.next_at(begin_ms + 20_000);
    let result = world.done("viewer", withdraw("v1"));
    assert_eq!(attribute(&result, "stake_complete", "amount"), (3 * SUT + 3).to_string());
    world.step_ms = 1;
    world.done("viewer", undelegate("v1", SUT));
}

/// R2, R4
#[test]
fn stake_moves_at_once_and_cannot_move_on_before_its_time() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 10 * SUT));
    let bytes = world.sign("viewer", redelegate("v1", "v2", 4 * SUT));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(events(result), ["fee", "rewards_paid", "stake_moved"], "{}", result.log);
    assert_eq!(attribute(result, "stake_moved", "from"), id("v1").to_string());
    assert_eq!(attribute(result, "stake_moved", "to"), id("v2").to_string());
    assert_eq!(attribute(result, "stake_moved", "amount"), (4 * SUT).to_string());
    assert_eq!(told(&response), [(address("v1"), 106), (address("v2"), 204)].into());
    let complete_ms = world.time_ms + 20_000;
    let incoming =
        Incoming { from: id("v1"), height: world.height, complete_ms, shares: u128::from(4 * SUT) };
    assert_eq!(world.delegation("viewer", "v2").unwrap().incoming, [incoming]);
    for (from, to, amount, code) in [
        ("v1", "v1", SUT, ResultCode::Decode),
        ("v1", "v2", 0, ResultCode::Decode),
        ("v1", "relay", SUT, ResultCode::NotFound),
        ("relay", "v1", SUT, ResultCode::NotFound),
        ("v1", "v2", 6 * SUT + 1, ResultCode::Funds),
        ("v1", "v2", 5 * SUT + 1, ResultCode::Funds), // Less than the least would stay,
        ("v1", "v3", SUT - 1, ResultCode::Funds),     // or would come.
        ("v2", "v3", SUT, ResultCode::Policy),
        ("v2", "v3", 4 * SUT, ResultCode::Policy),
    ] {
        world.refused("viewer", redelegate(from, to, amount), code);
    }
    world.refused("viewer", undelegate("v2", SUT), ResultCode::Policy);
    // What was there before, or came another way, is free.
    world.done("viewer", delegate("v2", 3 * SUT));
    world.done("viewer", redelegate("v2", "v3", 3 * SUT));
    // Where there is enough already, any amount may come.
    world.done("viewer", redelegate("v1", "v2", 1));
    assert_eq!(world.staked_by("viewer", "v2"), 4 * SUT + 1);
    world.next_at(complete_ms);
    world.done("viewer", redelegate("v2", "v3", 3 * SUT));
    assert_eq!(world.staked_by("viewer", "v3"), 6 * SUT);
}

#[test]
fn at_most_eight_moves_to_one_validator_wait_for_their_time() {
    let firsts = ["v1", "v2", "v3"].map(|name| (name, STAKE, 0));
    let mut world = World::staked_with(Params::for_tests(), &firsts);
    world.done("viewer", delegate("v1", 50 * SUT));
    world.done("viewer", delegate("v2", 50 * SUT));
    let begin_ms = world.time_ms + world.step_ms;
    for at in 0..INCOMING_MAX {
        let from = ["v1", "v2"][at % 2];
        world.done("viewer", redelegate(from, "v3", SUT));
    }
    world.refused("viewer", redelegate("v1", "v3", SUT), ResultCode::Policy);
    world.next_at(begin_ms + 21_000); // The first two are safe, the others are not yet.
    world.refused("viewer", undelegate("v3", 3 * SUT), ResultCode::Policy);
    world.step_ms = 1;
    world.done("viewer", redelegate("v1", "v3", SUT));
    let one = world.stake_of("viewer", "v3");
    assert_eq!(one["incoming"].as_array().unwrap().len(), INCOMING_MAX - 1);
}

/// R2
#[test]
fn an_operator_that_leaves_too_little_is_jailed_until_it_stakes_again() {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 30 * SUT));
    world.done("v1", undelegate("v1", 99 * SUT));
    assert_eq!(world.power("v1"), 31, "the least is enough");
    world.refused("v1", Payload::Unjail, ResultCode::Policy);
    let bytes = world.sign("v1", undelegate("v1", SUT));
    let response = world.block(vec![bytes]);
    let result = &response.tx_results[0];
    assert_eq!(events(result), ["fee", "rewards_paid", "validator_jailed", "stake_unbonding"]);
    assert_eq!(attribute(result, "validator_jailed", "missed"), "0");
    assert_eq!(told(&response), [(address("v1"), 0)].into());
    let one = world.answer(&format!("/validator/{}", id("v1"))).unwrap();
    assert_eq!((&one["status"], &one["power"]), (&json!("jailed"), &json!("0")));
    world.refused("v1", Payload::Unjail, ResultCode::Funds);
    world.refused("viewer", Payload::Unjail, ResultCode::NotFound);
    world.done("v1", delegate("v1", SUT));
    let bytes = world.sign("v1", Payload::Unjail);
    let response = world.block(vec![bytes]);
    assert_eq!(events(&response.tx_results[0]), ["fee", "validator_unjailed"]);
    assert_eq!(told(&response), [(address("v1"), 31)].into());
}

/// R2: the chain goes on when the last validator leaves; it votes on until another one can.
#[test]
fn the_last_validator_is_never_taken_from_the_engine() {
    let mut world = World::staked_with(Params::for_tests(), &FIRSTS[..1]);
    let bytes = world.sign("v1", undelegate("v1", STAKE));
    let response = world.block(vec![bytes]);
    assert_eq!(response.tx_results[0].code, 0);
    assert!(response.validator_updates.is_empty());
    assert_eq!((world.power("v1"), world.rewards().bonded), (100, Balance::ZERO));
    assert!(world.validator("v1").jailed.is_some());
    // Fees wait for somebody who has staked.
    world.done("viewer", Payload::Transfer { to: id("relay"), amount: sut(1) });
    let waiting = world.app.snapshot().fee_pool().unwrap();
    assert!(!waiting.is_zero());
    let bytes = world.sign("other", create("other", 20 * SUT, 0));
    let response = world.block(vec![bytes]);
    assert_eq!(told(&response), [(address("other"), 20), (address("v1"), 0)].into());
    world.skip(1);
    assert_eq!(world.app.snapshot().fee_pool().unwrap(), Balance::ZERO);
    assert!(world.due("other", "other") >= waiting.units() as u64 - 1);
}

/// The most tokens vote, and of equals the lesser operator; who falls out waits, and earns nothing.
#[test]
fn only_so_many_vote_as_the_parameters_say() {
    let mut params = Params::for_tests();
    params.validators_max = 2;
    let mut world = World::staked_with(params, &[("v1", STAKE, 0), ("v2", 2 * STAKE, 0)]);
    let bytes = world.sign("other", create("other", STAKE, 0));
    let response = world.block(vec![bytes]);
    let is_lesser = id("other") < id("v1");
    assert_eq!(told(&response).len(), if is_lesser { 2 } else { 0 });
    let (inside, outside) = if is_lesser { ("other", "v1") } else { ("v1", "other") };
    let status = |world: &World, name: &str| {
        world.answer(&format!("/validator/{}", id(name))).unwrap()["status"].clone()
    };
    assert_eq!(status(&world, inside), "voting");
    assert_eq!(status(&world, outside), "waiting");
    let before = (world.due(inside, inside), world.due(outside, outside));
    world.done("viewer", Payload::Transfer { to: id("relay"), amount: sut(1) });
    let after = (world.due(inside, inside), world.due(outside, outside));
    assert!(after.0 > before.0 && after.1 == before.1, "{before:?} {after:?}");
    // A unit more, though no power more, and the other one waits.
    world.done("viewer", delegate(outside, SUT));
    assert_eq!(
        (status(&world, inside), status(&world, outside)),
        ("waiting".into(), "voting".into())
    );
    assert_eq!(world.engine.sets[&(world.height + 2)].len(), 2);
}

/// Rules of a block's fees, and of a validator's share: every division rounds down.
struct Rules {
    per_token: U256,
}

impl Rules {
    fn add_fees(&mut self, fees: u128, bonded: u128) {
        self.per_token += (U256::from(fees) << 64) / U256::from(bonded);
    }

    /// Commission, and what each share gets in units of 2⁻⁶⁴.
    fn settle(&mut self, tokens: u128, shares: u128, bps: u16) -> (u128, U256) {
        let all: U256 = (U256::from(tokens) * self.per_token) >> 64;
        let commission = all * U256::from(bps) / U256::from(10_000u32);
        let rest = all - commission;
        (commission.as_u128(), (rest << 64) / U256::from(shares))
    }
}

/// R2, R3: half of the fees, by tokens, commission first; recomputed beside the chain.
#[test]
fn rewards_are_paid_to_the_unit() {
    let mut world = World::staked();
    // Of one block, so that nobody is settled in between.
    let stakes = [
        ("viewer", "v1", 31 * SUT + 1),
        ("relay", "v1", 17 * SUT + 999_999_937),
        ("creator", "v2", 400 * SUT + 3),
        ("origin", "v2", SUT),
        ("other", "v3", 77 * SUT + 123_456_789),
    ];
    let txs: Vec<_> =
        stakes.iter().map(|(who, to, amount)| world.sign(who, delegate(to, *amount))).collect();
    let fees = |world: &World, txs: &[bytes::Bytes]| -> u128 {
        let kept = |tx: &bytes::Bytes| decoded(tx).body.fee.units() / 2;
        let _ = world;
        txs.iter().map(kept).sum()
    };
    let first_fees = fees(&world, &txs);
    assert!(world.block(txs).tx_results.iter().all(|result| result.code == 0));
    let tokens_of = |validator: &str| -> u128 {
        let own = FIRSTS.iter().find(|(name, ..)| *name == validator).unwrap().1;
        let more = stakes.iter().filter(|(_, to, _)| *to == validator);
        u128::from(own) + more.map(|(.., amount)| u128::from(*amount)).sum::<u128>()
    };
    let bonded: u128 = FIRSTS.iter().map(|(name, ..)| tokens_of(name)).sum();
    // Their powers changed: they were settled at the end of that block.
    let mut first = Rules { per_token: U256::ZERO };
    first.add_fees(first_fees, bonded);
    let mut rest = Rules { per_token: U256::ZERO };
    for count in 1..=9u64 {
        let txs: Vec<_> = ["submitter", "viewer", "creator"][..(count % 4) as usize % 4]
            .iter()
            .map(|name| {
                let payload = Payload::Transfer { to: id("relay"), amount: sut(1) };
                let mut body = world.body(name, payload);
                body.fee = body.fee.checked_add(sut(count * 1_234_567)).unwrap();
                bytes::Bytes::from(body.sign(&key(name), CHAIN_ID).encode())
            })
            .collect();
        let fees = fees(&world, &txs);
        assert!(world.block(txs).tx_results.iter().all(|result| result.code == 0));
        rest.add_fees(fees, bonded);
    }
    let mut expected = Vec::new();
    let mut held = 0;
    for (validator, own, bps) in FIRSTS {
        let tokens = tokens_of(validator);
        let (one, per_share_one) = first.settle(tokens, tokens, bps);
        let (two, per_share_two) = rest.settle(tokens, tokens, bps);
        let per_share = per_share_one + per_share_two;
        let part = |amount: u64| -> u128 {
            let units: U256 = (U256::from(amount) * per_share) >> 64;
            units.as_u128()
        };
        expected.push((validator, validator, part(own), one + two));
        for (who, _, amount) in stakes.iter().filter(|(_, to, _)| *to == validator) {
            expected.push((who, validator, part(*amount), 0));
        }
    }
    let mut txs = Vec::new();
    for (who, validator, amount, commission) in &expected {
        assert!(*amount > 0 && (*commission > 0) == (who == validator && *who != "v1"));
        assert_eq!(u128::from(world.due(who, validator)), amount + commission, "{who}");
        held += amount + commission;
        txs.push(world.sign(who, withdraw(validator)));
    }
    let before: Vec<_> = expected.iter().map(|(who, ..)| world.balance(who)).collect();
    let owed = world.rewards().held.units();
    assert!(owed >= held && owed - held < 30, "of {owed} units {held} are somebody's");
    let last_fees = fees(&world, &txs);
    let costs: Vec<_> = txs.iter().map(|tx| decoded(tx).body.fee.units()).collect();
    let response = world.block(txs);
    for (at, (who, _, amount, commission)) in expected.iter().enumerate() {
        let result = &response.tx_results[at];
        assert_eq!(attribute(result, "rewards_paid", "amount"), amount.to_string());
        assert_eq!(attribute(result, "rewards_paid", "commission"), commission.to_string());
        let balance = u128::from(before[at]) + amount + commission - costs[at];
        assert_eq!(u128::from(world.balance(who)), balance, "{who}");
    }
    assert_eq!(world.rewards().held.units(), owed - held + last_fees);
}
