//! The same deaths under the engine in the process: block store and state are of two minds then.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use consensus_abci::app::App;
use consensus_abci::engine::{Engine, FailAt, FailPoint};
use consensus_abci::fail::{self, Step};

use crate::hashes::{embedded_config, timeless};
use crate::world::Dir;

/// `directory|kind of place|its index|height` for the child.
const CHILD: &str = "SUTANTRA_EMBEDDED_TEST_CHILD";

/// Where the process dies.
#[derive(Debug, Clone, Copy)]
enum Place {
    OfEngine(FailPoint),
    OfApplication(Step),
}

/// Sends every transaction that is not in a block yet, one after the other; the app hash then.
fn run(dir: &Path, fail_at: Option<FailAt>) -> [u8; 32] {
    let app = Arc::new(App::open(&dir.join("state")).unwrap());
    let mut config = embedded_config(dir);
    config.fail_at = fail_at;
    let engine = Engine::start(config, app.clone()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for tx in timeless() {
        let outcome = runtime.block_on(engine.broadcast_tx_commit(tx, Duration::from_secs(30)));
        let outcome = outcome.unwrap();
        // What is in a block has used its nonce up.
        assert!(outcome.included.is_some() || outcome.check.log.contains("nonce"), "{outcome:?}");
    }
    engine.stop();
    let snapshot = app.snapshot();
    assert!(snapshot.audit().unwrap().is_balanced());
    snapshot.head().unwrap().app_hash
}

/// The body of the child process of the test below; by itself it only returns.
#[test]
fn a_child_process_runs_the_engine_until_it_dies() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let [dir, kind, index, height]: [&str; 4] =
        order.split('|').collect::<Vec<_>>().try_into().expect("four parts");
    let (index, height): (usize, u64) = (index.parse().unwrap(), height.parse().unwrap());
    let fail_at = (kind == "engine").then(|| FailAt { point: FailPoint::ALL[index], height });
    if fail_at.is_none() {
        fail::arm(Step::ALL[index], height);
    }
    run(Path::new(dir), fail_at);
}

#[track_caller]
fn check(place: Place, height: u64, expected: [u8; 32]) {
    let dir = Dir::new();
    let (kind, index) = match place {
        Place::OfEngine(point) => {
            ("engine", FailPoint::ALL.iter().position(|other| *other == point))
        }
        Place::OfApplication(step) => {
            ("application", Step::ALL.iter().position(|other| *other == step))
        }
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::a_child_process_runs_the_engine_until_it_dies"])
        .env(CHILD, format!("{}|{kind}|{}|{height}", dir.path().display(), index.unwrap()))
        .output()
        .unwrap();
    assert!(!output.status.success(), "{place:?} at {height} was never reached");
    assert_eq!(run(dir.path(), None), expected, "{place:?} at {height}");
}

/// R108 (the chain's part), R107: whatever step the process dies at, the state becomes that of an
/// uncrashed twin.
#[test]
fn a_death_at_any_step_under_the_embedded_engine_leaves_the_state_of_an_uncrashed_twin() {
    let dir = Dir::new();
    let expected = run(dir.path(), None);
    check(Place::OfEngine(FailPoint::AfterInitChain), 0, expected);
    for point in FailPoint::ALL.into_iter().skip(1) {
        check(Place::OfEngine(point), 4, expected);
    }
    for step in [Step::Prepared, Step::BeforeBatch, Step::AfterBatch] {
        check(Place::OfApplication(step), 0, expected);
        check(Place::OfApplication(step), 4, expected);
    }
}
