//! A chain in one thread: a seed gives clock, transactions, mempool, blocks, deaths and restarts, and
//! replicas that must agree on every answer.
//!
//! Oracles have no tuned number: the books balance, replicas agree, what was seen stays, rules that
//! are written down naively predict every payment. A seed that finds something is run again by
//! `SUTANTRA_SIM_SEED=… cargo test --release -p consensus-abci --test sim -- --ignored --exact
//! a_named_seed --nocapture`.

#![allow(clippy::unwrap_used)] // A test may panic.

mod actors;
mod chance;
mod finding;
mod node;
mod pool;
mod replica;
mod rules;
mod run;
#[path = "../app/staked.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod staked;
#[path = "../statesync/chain.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod statesync;
mod tap;
#[path = "../app/world.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod world;

use std::time::{Duration, Instant};

use finding::Finding;
use node::Fault;
use replica::Bug;
use run::{Report, Setup, run};

/// Blocks with new transactions in a run.
const BLOCKS: u32 = 120;
/// In one that finds what is wrong on purpose.
const BLOCKS_BROKEN: u32 = 60;
/// In one of ten that are searched.
const BLOCKS_LONG: u32 = 1_000;

/// Seeds and the hash of their chains' last block. Every build of the state machine, the engine and
/// their libraries makes these: another hash is a fork, unless a rule was changed on purpose.
const FIXED: [(u64, &str); 3] = [
    (1, "0df24e8852aa7f59151a58dbc79fbfda2436c383849148f39bac56c7afb79cb5"),
    (2, "8829bb9c6c603c47cfc9396a10ae9c5a5ec4ab9bdb80ffbf570f70049c469735"),
    (3, "81c1d197384a059faffb0d3917bc4c79d825b9bea11cb63e35b38ea2296ba7fc"),
];

#[track_caller]
fn check(seed: u64, last_block: &str) -> Report {
    match run(Setup::sound(seed, BLOCKS)) {
        Ok(report) => {
            assert_eq!(report.last_block, last_block, "seed {seed}: {report:?}");
            report
        }
        Err(finding) => panic!("seed {seed}: {finding}"),
    }
}

/// R52, R107: replicas with other hash seeds, options, deaths and beginnings agree on every answer; no
/// unit is made, no transaction is lost; each build makes the same chain.
#[test]
fn the_chain_of_a_fixed_seed_is_the_same_on_every_replica_and_build() {
    let mut joined = 0;
    for (seed, last_block) in FIXED {
        let report = check(seed, last_block);
        println!("seed {seed}: {report:?}");
        // The run had something of everything.
        assert!(report.deaths >= 5, "{report:?}");
        assert!(report.txs >= 100 && report.done < report.txs, "{report:?}");
        assert!(report.redeemed > 0 && report.junk > 20, "{report:?}");
        joined += usize::from(report.joined.is_some());
    }
    assert!(joined > 0, "nobody joined from a snapshot");
}

/// What a run with something wrong in it finds.
#[track_caller]
fn finding(fault: Fault, bug: Bug) -> Finding {
    let setup = Setup { fault, bug, ..Setup::sound(1, BLOCKS_BROKEN) };
    run(setup).expect_err("something is wrong")
}

#[test]
fn a_replica_that_orders_or_misses_a_transaction_or_whose_clock_is_wrong_is_found() {
    for bug in [Bug::Order, Bug::Misses, Bug::Clock] {
        let found = finding(Fault::None, bug);
        assert!(matches!(found, Finding::Diverged { .. }), "{bug:?}: {found}");
    }
}

#[test]
fn a_node_that_passes_an_account_over_or_forgets_its_blocks_is_found() {
    let found = finding(Fault::PassesOver("viewer"), Bug::None);
    assert!(matches!(found, Finding::Lost { .. }), "{found}");
    let found = finding(Fault::ForgetsAll(20), Bug::None);
    assert!(matches!(found, Finding::Forgotten { .. } | Finding::OtherBlock { .. }), "{found}");
}

#[test]
fn an_answer_that_pays_a_unit_too_much_breaks_the_rules() {
    let found =
        run::with_a_unit_too_much(Setup::sound(1, BLOCKS_BROKEN)).expect_err("a unit too much");
    assert!(matches!(found, Finding::Rules { .. }), "{found}");
}

/// New seeds for `SUTANTRA_SIM_SECONDS`; the one that finds something is named.
#[test]
#[ignore = "as long as it is let: cargo xtask soak --only sim"]
fn new_seeds_until_the_time_is_over() {
    let seconds = std::env::var("SUTANTRA_SIM_SECONDS").ok().and_then(|text| text.parse().ok());
    let (begun, patience) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(600)));
    let (mut runs, mut blocks, mut txs, mut deaths) = (0u64, 0, 0, 0);
    while begun.elapsed() < patience {
        // Mostly short ones, where a find is easy to read; sometimes a thousand blocks.
        let seed = rand::random::<u64>() >> 16;
        let report = named(seed);
        (runs, blocks) = (runs + 1, blocks + report.blocks);
        (txs, deaths) = (txs + report.txs, deaths + report.deaths);
    }
    println!("{runs} seeds, {blocks} blocks, {txs} transactions, {deaths} deaths: nothing found");
}

/// One seed, by `SUTANTRA_SIM_SEED`.
#[test]
#[ignore = "needs a seed"]
fn a_named_seed() {
    let seed = std::env::var("SUTANTRA_SIM_SEED").expect("SUTANTRA_SIM_SEED is a number");
    println!("{:?}", named(seed.parse().expect("SUTANTRA_SIM_SEED is a number")));
}

#[track_caller]
fn named(seed: u64) -> Report {
    let blocks = if seed.is_multiple_of(10) { BLOCKS_LONG } else { BLOCKS };
    match run(Setup::sound(seed, blocks)) {
        Ok(report) => report,
        Err(finding) => panic!(
            "seed {seed}: {finding}\nagain: SUTANTRA_SIM_SEED={seed} cargo test --release -p \
             consensus-abci --test sim -- --ignored --exact a_named_seed --nocapture"
        ),
    }
}
