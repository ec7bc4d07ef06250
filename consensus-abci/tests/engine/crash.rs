//! Death between any two durable steps: a restart finds nothing lost and nothing done twice.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use consensus_abci::engine::{Engine, FailAt, FailPoint};
use serde_json::json;

use crate::kv::{CODE_KEY_TAKEN, KvApp};
use crate::world::{Dir, config, method, runtime};

/// Directory, index in [`FailPoint::ALL`] and height for the child.
const CHILD: &str = "SUTANTRA_ENGINE_TEST_CHILD";

const TXS: u32 = 6;

fn tx(number: u32) -> String {
    format!("k{number}=v{number}")
}

/// Broadcasts every transaction, a block each; notes in a file what was acknowledged.
fn run(dir: &Path, engine: &Engine) {
    let runtime = runtime();
    for number in 0..TXS {
        let commit = engine.broadcast_tx_commit(tx(number).into(), Duration::from_secs(30));
        let outcome = runtime.block_on(commit).unwrap();
        match outcome.included {
            Some(included) => {
                assert_eq!(included.result.code, 0);
                let path = dir.join("acknowledged");
                let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
                writeln!(file, "{number} {}", included.height).unwrap();
            }
            None => assert_eq!(outcome.check.code, CODE_KEY_TAKEN, "it is in a block already"),
        }
    }
}

/// The body of the child process of the test below; by itself it only returns.
#[test]
fn a_child_process_runs_until_its_fail_point() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let [dir, point, height]: [&str; 3] =
        order.split('|').collect::<Vec<_>>().try_into().expect("three parts");
    let dir = Path::new(dir);
    let mut config = config(dir);
    let point = FailPoint::ALL[point.parse::<usize>().unwrap()];
    config.fail_at = Some(FailAt { point, height: height.parse().unwrap() });
    let app = Arc::new(KvApp::in_file(dir.join("app")));
    let engine = Engine::start(config, app).unwrap();
    run(dir, &engine);
}

#[track_caller]
fn check(point: FailPoint, height: u64, twin: &KvApp) {
    let dir = Dir::new();
    let index = FailPoint::ALL.iter().position(|other| *other == point).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::a_child_process_runs_until_its_fail_point"])
        .env(CHILD, format!("{}|{index}|{height}", dir.path().display()))
        .output()
        .unwrap();
    assert!(!output.status.success(), "{point:?} at {height} was never reached");

    let app = Arc::new(KvApp::in_file(dir.path().join("app")));
    let engine = Engine::start(config(dir.path()), app.clone())
        .unwrap_or_else(|error| panic!("{point:?} at {height}: {error}"));
    run(dir.path(), &engine);
    engine.stop();
    assert_eq!(app.snapshot().entries, twin.snapshot().entries, "{point:?} at {height}");

    let acknowledged = fs::read_to_string(dir.path().join("acknowledged")).unwrap_or_default();
    runtime().block_on(async {
        for line in acknowledged.lines() {
            let (number, height) = line.split_once(' ').unwrap();
            let query = format!("set.key='k{number}'");
            let found = method(&engine, "tx_search", json!({ "query": query })).await.unwrap();
            assert_eq!(found["total_count"], "1", "{point:?}: {number} is in one block");
            assert_eq!(found["txs"][0]["height"], height, "{point:?}: {number} stays in its block");
        }
        // Every header continues the one before, and its application state.
        for height in 2..=engine.height() {
            let at = |height: u64| json!({ "height": height.to_string() });
            let block = method(&engine, "block", at(height)).await.unwrap();
            let before = method(&engine, "block", at(height - 1)).await.unwrap();
            let results = method(&engine, "block_results", at(height - 1)).await.unwrap();
            let header = &block["block"]["header"];
            assert_eq!(header["last_block_id"], before["block_id"]);
            let app_hash: tendermint::AppHash =
                header["app_hash"].as_str().unwrap().parse().unwrap();
            let result_hash = BASE64.decode(results["app_hash"].as_str().unwrap()).unwrap();
            assert_eq!(app_hash.as_bytes(), result_hash);
        }
        if point == FailPoint::AfterSign {
            let at = json!({ "height": height.to_string() });
            let commit = method(&engine, "commit", at).await.unwrap();
            let round = &commit["signed_header"]["commit"]["round"];
            assert_eq!(*round, 1, "the lost block's signature is not given again");
        }
    });
}

/// R108 (the chain's part): what was acknowledged survives death at every step.
#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_nothing() {
    let dir = Dir::new();
    let twin = Arc::new(KvApp::in_file(dir.path().join("app")));
    run(dir.path(), &Engine::start(config(dir.path()), twin.clone()).unwrap());
    check(FailPoint::AfterInitChain, 0, &twin);
    for point in FailPoint::ALL.into_iter().skip(1) {
        for height in [1, 4] {
            check(point, height, &twin);
        }
    }
}
