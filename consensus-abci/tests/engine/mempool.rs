//! What waits for a block: bounds, order, rechecks, and garbage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use consensus_abci::engine::{BroadcastError, Engine, EngineConfig, MempoolError, MempoolLimits};
use serde_json::json;

use crate::kv::{CODE_GARBAGE, CODE_KEY_TAKEN, KvApp};
use crate::world::{Dir, config, method, runtime, wait_for_height};

const LIMITS: MempoolLimits =
    MempoolLimits { txs_max: 3, bytes_max: 40, tx_bytes_max: 20, cache_max: 4 };

/// Makes the first block, then none for an hour.
fn frozen(dir: &Dir) -> EngineConfig {
    let mut config = config(dir.path());
    config.min_block_interval = Duration::from_secs(3600);
    config.empty_block_interval = Duration::from_secs(3600);
    config.mempool = LIMITS;
    config
}

fn refusal(engine: &Engine, tx: &str) -> MempoolError {
    match engine.broadcast_tx_sync(tx.into()) {
        Err(BroadcastError::Mempool(error)) => error,
        other => panic!("{tx} gave {other:?}"),
    }
}

#[test]
fn every_bound_of_the_mempool_refuses_with_its_own_error() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = Engine::start(frozen(&dir), app).unwrap();
    wait_for_height(&engine, 1);
    let accepted = |tx: &str| {
        assert_eq!(engine.broadcast_tx_sync(tx.into()).unwrap().code, 0, "{tx}");
    };
    let long = format!("long={}", "x".repeat(16));
    assert_eq!(refusal(&engine, &long), MempoolError::TooLarge { bytes: 21, max: 20 });

    accepted("a=1");
    assert_eq!(refusal(&engine, "a=1"), MempoolError::InCache);
    assert_eq!(refusal(&engine, "a=1").to_string(), "tx already exists in cache");

    accepted("b=123456789012345678");
    let full = refusal(&engine, "c=123456789012345678");
    assert_eq!(full, MempoolError::Full { txs: 2, txs_max: 3, bytes: 23, bytes_max: 40 });
    accepted("c=1");
    let full = refusal(&engine, "d=1");
    assert!(full.to_string().contains("number of txs 3 (max: 3)"), "{full}");
    assert_eq!(engine.mempool_size(), (3, 26));
}

#[test]
fn what_check_tx_refuses_may_be_tried_again() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = Engine::start(frozen(&dir), app).unwrap();
    for _ in 0..10 {
        let outcome = engine.broadcast_tx_sync(b"garbage".to_vec()).unwrap();
        assert_eq!((outcome.code, outcome.codespace.as_str()), (CODE_GARBAGE, "kv"));
        assert_eq!(outcome.log, "refused with 1");
    }
    assert_eq!(engine.mempool_size(), (0, 0));
}

#[test]
fn a_block_has_what_waits_in_the_order_of_arrival() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.min_block_interval = Duration::from_millis(200);
    let engine = Engine::start(config, app).unwrap();
    wait_for_height(&engine, 1);
    let mut blocks = engine.subscribe_blocks(64).unwrap();
    for number in 0..50 {
        engine.broadcast_tx_sync(format!("{}=v", 49 - number).into()).unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let block = blocks.blocking_recv().unwrap();
        seen.extend(block.block.data.clone().unwrap_or_default().txs);
    }
    let expected: Vec<Vec<u8>> = (0..50).map(|n| format!("{}=v", 49 - n).into_bytes()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_transaction_that_a_block_made_invalid_leaves_and_its_sender_is_told() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.min_block_interval = Duration::from_millis(200);
    // Header, commit and one transaction of three bytes.
    config.genesis.consensus_params.block_max_bytes = 842 + 5;
    config.genesis.consensus_params.evidence_max_bytes = 0;
    let engine = Engine::start(config, app).unwrap();
    wait_for_height(&engine, 1);
    let (first, second) = runtime().block_on(async {
        let commit = |tx: &str| engine.broadcast_tx_commit(tx.into(), Duration::from_secs(30));
        tokio::join!(commit("a=1"), async {
            // Behind the first: both are valid until the first is in a block.
            while engine.mempool_size().0 == 0 {
                tokio::task::yield_now().await;
            }
            commit("a=2").await
        })
    });
    assert_eq!(first.unwrap().included.unwrap().result.code, 0);
    assert_eq!(
        second.unwrap_err(),
        BroadcastError::Evicted { code: CODE_KEY_TAKEN, log: "refused with 2".to_owned() }
    );
    assert_eq!(engine.mempool_size(), (0, 0));
}

#[test]
fn a_transaction_that_must_wait_drives_no_empty_blocks() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.empty_block_interval = Duration::from_secs(3600);
    let engine = Engine::start(config, app.clone()).unwrap();
    wait_for_height(&engine, 1);
    app.hold.store(true, Ordering::SeqCst);
    engine.broadcast_tx_sync(b"a=1".to_vec()).unwrap();
    wait_for_height(&engine, 2);
    app.hold.store(false, Ordering::SeqCst);
    let commit = engine.broadcast_tx_commit(b"b=1".to_vec(), Duration::from_secs(30));
    let outcome = runtime().block_on(commit).unwrap();
    assert_eq!(outcome.included.unwrap().height, 3, "no block between");
    assert_eq!(engine.mempool_size(), (0, 0));
}

#[test]
fn a_transaction_of_a_block_is_not_taken_again() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = Engine::start(config(dir.path()), app).unwrap();
    let commit = engine.broadcast_tx_commit(b"a=1".to_vec(), Duration::from_secs(30));
    runtime().block_on(commit).unwrap();
    assert_eq!(refusal(&engine, "a=1"), MempoolError::InCache);
}

#[test]
fn a_commit_that_takes_too_long_says_so() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = Engine::start(frozen(&dir), app).unwrap();
    wait_for_height(&engine, 1);
    let commit = engine.broadcast_tx_commit(b"a=1".to_vec(), Duration::from_millis(10));
    assert_eq!(runtime().block_on(commit).unwrap_err(), BroadcastError::TimedOut);
}

/// Blocks in a span, with and without 1,000 garbage transactions a second over the RPC's path.
/// Printed; what gates is that the chain goes on and takes no garbage.
#[test]
fn garbage_is_refused_beside_the_blocks() {
    const SPAN: Duration = Duration::from_secs(2);
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.empty_block_interval = Duration::from_millis(50);
    let engine = Engine::start(config, app.clone()).unwrap();
    wait_for_height(&engine, 1);
    let blocks_in_span = || {
        let (begin, height) = (Instant::now(), engine.height());
        let mut blocks = engine.subscribe_blocks(1024).unwrap();
        while begin.elapsed() < SPAN {
            blocks.blocking_recv().unwrap();
        }
        engine.height() - height
    };
    let quiet = blocks_in_span();
    let (stop, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let beside = thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = runtime();
            let begin = Instant::now();
            for number in 0u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // One each millisecond, whatever the answers take.
                let due = begin + Duration::from_millis(number);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                use base64::Engine as _;
                let garbage = [&[0xff][..], &number.to_be_bytes()].concat();
                let tx = base64::engine::general_purpose::STANDARD.encode(garbage);
                let answer = method(&engine, "broadcast_tx_sync", json!({ "tx": tx }));
                let answer = runtime.block_on(answer).unwrap();
                assert_eq!(answer["code"], CODE_GARBAGE);
                refused.fetch_add(1, Ordering::SeqCst);
            }
        });
        let beside = blocks_in_span();
        stop.store(true, Ordering::SeqCst);
        beside
    });
    let refused = refused.load(Ordering::SeqCst);
    println!("blocks in {SPAN:?}: {quiet} alone, {beside} beside {refused} garbage transactions");
    assert!(beside > 0 && refused > 0);
    assert_eq!(app.snapshot().entries.len(), 1, "only the genesis entry");
}
