//! Upgrades that were decided: who does not know them stops, who does goes through.

use bytes::Bytes;
use chain_types::{
    AccountId, Params, Payload, ResultCode, StateKey,
    staking::{DoneUpgrade, Upgrade},
};
use consensus_abci::{
    app::{App, KnownUpgrade, Migration, Options, StateError, UPGRADE_INFO_FILE, UPGRADES},
    application::Application,
};
use serde_json::{Value, json};

use crate::{staked::*, world::*};

/// A longer vote, and somebody is a validator's operator no more than before.
fn longer_votes(state: &mut Migration<'_>) -> Result<(), StateError> {
    let mut params: Params = state.get(StateKey::Params)?.expect("a genesis state");
    params.voting_ms += 1;
    state.put(StateKey::Params, &params);
    let moved = StateKey::ConsensusAddress([7; 20]);
    assert_eq!(state.get::<AccountId>(moved)?, None);
    state.put(moved, &AccountId([7; 32]));
    state.delete(moved);
    assert_eq!(state.keys(StateKey::VALIDATORS)?.len(), FIRSTS.len());
    Ok(())
}

pub const KNOWS_TWO: &[KnownUpgrade] = &[KnownUpgrade { name: "two", migrate: longer_votes }];

fn schedule(name: &str, height: u64) -> Payload {
    let (name, info) = (name.to_owned(), "https://example.org/two".to_owned());
    Payload::ScheduleUpgrade { upgrade: Upgrade { name, height, info } }
}

/// A chain whose next block is the first that needs the upgrade.
pub fn before_the_upgrade(name: &str) -> World {
    let params = Params { notice_blocks: 1, ..Params::for_tests() };
    let mut world = World::staked_with(params, &FIRSTS);
    let height = world.height + 8;
    world.done("v1", schedule(name, height));
    for operator in ["v1", "v2", "v3"] {
        world.done(operator, Payload::Vote { proposal: 1, approve: true });
    }
    world.skip(height - 1 - world.height);
    world
}

/// Ends the application and begins another one on the same state.
fn reopen(world: &mut World, knows: &'static [KnownUpgrade]) {
    let elsewhere = Dir::new();
    world.app = App::open(elsewhere.path()).unwrap();
    world.app = App::open_knowing(world.dir.path(), Options::default(), knows).unwrap();
}

fn info(world: &World) -> Option<Value> {
    let text = std::fs::read(world.dir.path().join(UPGRADE_INFO_FILE)).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// FinalizeBlock fails with all of these words, and changed nothing.
#[track_caller]
fn stops(world: &World, txs: Vec<Bytes>, parts: &[&str]) {
    let before = content(&world.app.snapshot());
    let error = world.app.finalize_block(world.request(txs)).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
    world.app.commit().expect_err("there is no block to commit");
    assert_eq!(world.app.snapshot().height(), world.height);
    assert_eq!(content(&world.app.snapshot()), before);
}

/// R4: the whole way of an upgrade, with a program that lacks it and with one that has it.
#[test]
fn only_a_program_that_knows_the_upgrade_goes_on_from_its_block() {
    let mut world = before_the_upgrade("two");
    let height = world.height + 1;
    assert_eq!(info(&world), None, "before its block nothing is missing");
    let transfer = world.sign("viewer", Payload::Transfer { to: id("relay"), amount: sut(5) });
    let needed = format!("block {height} needs the upgrade two");
    for _ in 0..2 {
        stops(
            &world,
            vec![transfer.clone()],
            &["FinalizeBlock", &needed, "install", "https://example.org/two"],
        );
    }
    assert_eq!(
        info(&world),
        Some(json!({ "name": "two", "height": height, "info": "https://example.org/two" }))
    );
    reopen(&mut world, UPGRADES);
    stops(&world, vec![], &[&needed]);

    reopen(&mut world, KNOWS_TWO);
    assert_eq!(world.answer("/upgrade").unwrap()["name"], "two");
    assert_eq!(world.answer("/upgrades").unwrap(), json!([]));
    let response = world.block(vec![transfer.clone()]);
    assert_eq!(response.tx_results[0].code, 0, "{}", response.tx_results[0].log);
    assert_eq!(types(&response.events)[0], "upgraded");
    assert_eq!(info(&world), None);
    assert_eq!(world.params().voting_ms, Params::for_tests().voting_ms + 1);
    let done = vec![DoneUpgrade { name: "two".to_owned(), height }];
    assert_eq!(world.record::<Vec<DoneUpgrade>>(StateKey::UpgradesDone), Some(done));
    assert_eq!(world.answer("/upgrade").unwrap(), Value::Null);
    assert_eq!(world.answer("/upgrades").unwrap(), json!([{ "name": "two", "height": height }]));
    world.skip(2);
    let again = world.height + 9;
    world.refused("v1", schedule("two", again), ResultCode::Policy);
    world.done("v1", schedule("three", again));

    // A program from before the upgrade does nothing to a state from after it.
    reopen(&mut world, UPGRADES);
    let said = format!("went through the upgrade two at height {height}");
    stops(&world, vec![], &[&said, "install"]);
    reopen(&mut world, KNOWS_TWO);
    world.skip(1);
}

/// What every release knows: networks can practise.
#[test]
fn a_rehearsal_goes_through_and_changes_nothing_else() {
    let mut world = before_the_upgrade("rehearsal");
    let (before, height) = (content(&world.app.snapshot()), world.height + 1);
    let response = world.block(vec![]);
    assert_eq!(types(&response.events), ["upgraded"]);
    let keys = [StateKey::Upgrade, StateKey::UpgradesDone].map(|key| key.to_bytes());
    let rest = |mut all: std::collections::BTreeMap<Vec<u8>, Vec<u8>>| {
        keys.iter().for_each(|key| drop(all.remove(key)));
        all
    };
    assert_eq!(rest(content(&world.app.snapshot())), rest(before));
    assert_eq!(
        world.answer("/upgrades").unwrap(),
        json!([{ "name": "rehearsal", "height": height }])
    );
}

/// An upgrade that fails in the middle stops the chain where it was.
#[test]
fn an_upgrade_that_cannot_be_carried_out_leaves_the_state_as_it_was() {
    const FAILS: &[KnownUpgrade] = &[KnownUpgrade {
        name: "two",
        migrate: |state| {
            state.delete(StateKey::Params);
            Err(StateError::NoGenesis)
        },
    }];
    let mut world = before_the_upgrade("two");
    reopen(&mut world, FAILS);
    stops(&world, vec![], &["FinalizeBlock"]);
    reopen(&mut world, KNOWS_TWO);
    world.skip(1);
}
