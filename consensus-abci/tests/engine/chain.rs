//! Blocks, restarts, refusals to start, halts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use consensus_abci::engine::{
    BroadcastError, ConsensusParams, Engine, EngineError, Genesis, GenesisError, HandshakeError,
    NodeKey, StoreError, SubscriptionEnd, ValidatorKey,
};
use serde_json::json;
use tendermint::block::signed_header::SignedHeader;
use tendermint::validator::{Info, Set};
use tendermint::{Time, node};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{LightBlock, TrustThreshold};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier};

use crate::kv::{Kv, KvApp};
use crate::world::{
    Dir, config, genesis, method, runtime, start, start_error, wait_for_halt, wait_for_height,
};

fn light_block(engine: &Engine, height: u64) -> LightBlock {
    runtime().block_on(async {
        let at = |height: u64| json!({ "height": height.to_string() });
        let commit = method(engine, "commit", at(height)).await.unwrap();
        let signed: SignedHeader = serde_json::from_value(commit["signed_header"].clone()).unwrap();
        let set = |height| async move {
            let answer = method(engine, "validators", at(height)).await.unwrap();
            serde_json::from_value::<Vec<Info>>(answer["validators"].clone()).unwrap()
        };
        let proposer = signed.header.proposer_address;
        let validators = Set::with_proposer(set(height).await, proposer).unwrap();
        let next = Set::without_proposer(set(height + 1).await);
        LightBlock::new(signed, validators, next, node::Id::new([0; 20]))
    })
}

fn verify(trusted: &LightBlock, untrusted: &LightBlock) -> Verdict {
    let options = Options {
        trust_threshold: TrustThreshold::TWO_THIRDS,
        trusting_period: Duration::from_secs(3600),
        clock_drift: Duration::from_secs(5),
    };
    ProdVerifier::default().verify_update_header(
        untrusted.as_untrusted_state(),
        trusted.as_trusted_state(),
        &options,
        Time::now(),
    )
}

/// A stranger's verifier judges the chain: what it trusts at header 2 leads it to any later one.
#[test]
fn a_light_client_verifies_every_header_from_the_second_on() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    for number in 0..30 {
        let outcome = engine.broadcast_tx_sync(format!("k{number}=v").into_bytes()).unwrap();
        assert_eq!(outcome.code, 0);
        wait_for_height(&engine, engine.height() + 1);
    }
    let tip = engine.height();
    assert!(tip >= 30);
    let trusted = light_block(&engine, 2);
    let mut previous = trusted.clone();
    for height in 3..=tip {
        let block = light_block(&engine, height);
        assert_eq!(verify(&trusted, &block), Verdict::Success, "skip from 2 to {height}");
        assert_eq!(verify(&previous, &block), Verdict::Success, "step to {height}");
        let header = |block: &LightBlock| block.signed_header.header.clone();
        assert_eq!(header(&block).last_block_id.unwrap().hash, header(&previous).hash());
        assert!(header(&block).time > header(&previous).time, "BFT time is monotone");
        previous = block;
    }

    let mut forged = previous.clone();
    forged.signed_header.header.app_hash = vec![9; 32].try_into().unwrap();
    assert_ne!(verify(&trusted, &forged), Verdict::Success);
}

#[test]
fn the_application_is_asked_for_every_proposal_and_told_who_signed() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 5);
    engine.stop();
    let calls = app.calls.lock().unwrap().clone();
    let height = engine.height();
    assert_eq!(calls.init_chain, 1);
    assert_eq!(calls.finalized, (1..=height as i64).collect::<Vec<_>>());
    assert_eq!(calls.signed, (2..=height as i64).collect::<Vec<_>>(), "block 1 has no last commit");
    assert_eq!(calls.prepare_proposal, height);
    assert_eq!(calls.process_proposal, height);
}

#[test]
fn a_restarted_chain_goes_on_where_it_was() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    engine.broadcast_tx_sync(b"a=1".to_vec()).unwrap();
    wait_for_height(&engine, 4);
    engine.stop();
    let (height, before) = (engine.height(), light_block(&engine, engine.height()));
    let refused = engine.broadcast_tx_sync(b"late=1".to_vec());
    assert!(matches!(refused, Err(BroadcastError::Halted(_))), "{refused:?}");
    drop(engine);

    let engine = start(dir.path(), &app);
    wait_for_height(&engine, height + 2);
    assert_eq!(light_block(&engine, height), before, "old blocks are the same");
    assert_eq!(
        verify(&light_block(&engine, 2), &light_block(&engine, height + 2)),
        Verdict::Success
    );
    assert_eq!(app.calls.lock().unwrap().init_chain, 1, "the chain begins once");
}

#[test]
fn an_application_that_lost_everything_is_rebuilt_from_the_blocks() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    for number in 0..5 {
        engine.broadcast_tx_sync(format!("k{number}=v").into_bytes()).unwrap();
        wait_for_height(&engine, engine.height() + 1);
    }
    engine.stop();
    let (height, expected) = (engine.height(), app.snapshot());
    drop(engine);
    app.wipe();

    let mut config = config(dir.path());
    config.empty_block_interval = Duration::from_secs(3600);
    let engine = Engine::start(config, app.clone()).unwrap();
    assert_eq!(engine.height(), height, "nothing was decided anew");
    assert_eq!(app.snapshot(), expected);
}

#[test]
fn an_application_ahead_of_the_store_is_refused_with_what_to_do() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    *app.committed.lock().unwrap() = Kv { height: 12, ..Kv::default() };
    let error = start_error(config(dir.path()), &app);
    assert!(matches!(error, EngineError::Handshake(HandshakeError::BlocksGone { app: 12 })));
    // Nothing is there to rebuild it from.
    assert!(!error.to_string().contains("remove the application's data"), "{error}");

    *app.committed.lock().unwrap() = Kv::default();
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 2);
    engine.stop();
    let ends_at = engine.height();
    drop(engine);
    app.committed.lock().unwrap().height = ends_at + 12;
    let error = start_error(config(dir.path()), &app);
    let EngineError::Handshake(HandshakeError::ApplicationAhead { app, store }) = error else {
        panic!("{error}");
    };
    assert_eq!((app, store), (ends_at + 12, ends_at));
    assert!(error.to_string().contains("remove the application's data"), "{error}");
}

#[test]
fn an_application_with_other_state_than_the_chain_is_refused() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 3);
    engine.stop();
    let height = engine.height();
    drop(engine);
    app.committed.lock().unwrap().entries.insert("forged".to_owned(), "1".to_owned());
    let error = start_error(config(dir.path()), &app);
    let EngineError::Handshake(HandshakeError::AppHashDiffers { height: found, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(found, height);
}

#[test]
fn a_store_serves_one_engine_at_a_time() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    let error = start_error(config(dir.path()), &Arc::new(KvApp::default()));
    assert!(matches!(error, EngineError::Store { source: StoreError::Locked, .. }), "{error}");
    drop(engine);
    start(dir.path(), &app);
}

#[test]
fn a_store_belongs_to_one_genesis() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    drop(start(dir.path(), &app));
    let mut other = config(dir.path());
    other.genesis.chain_id = "engine-test-2".parse().unwrap();
    let error = start_error(other, &app);
    assert!(
        matches!(error, EngineError::Handshake(HandshakeError::OtherGenesis { .. })),
        "{error}"
    );
    let mut of_the_same_name = config(dir.path());
    of_the_same_name.genesis.app_state = json!({"differs": true});
    let error = start_error(of_the_same_name, &app).to_string();
    assert!(error.contains("and differs"), "{error}");
}

#[test]
fn only_the_genesis_files_one_validator_may_decide() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut foreign = config(dir.path());
    foreign.key = ValidatorKey::from_seed([1; 32]);
    let error = start_error(foreign, &app);
    assert!(matches!(error, EngineError::NotTheOnlyValidator { .. }), "{error}");
}

#[test]
fn a_second_validator_halts_the_chain_before_its_block_is_committed() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 2);
    app.second_validator.store(true, Ordering::SeqCst);
    let sentence = wait_for_halt(&engine);
    assert!(sentence.contains("CometBFT"), "{sentence}");
    assert_eq!(app.snapshot().height, engine.height());
}

/// A store restored from yesterday's copy must not let the key sign yesterday's heights again.
#[test]
fn a_store_older_than_the_last_signature_is_refused() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 3);
    drop(engine);
    fs::remove_dir_all(dir.path().join("blocks")).unwrap();
    let error = start_error(config(dir.path()), &Arc::new(KvApp::default()));
    assert!(matches!(error, EngineError::SignedBeyondStore { store: 0, .. }), "{error}");
}

#[test]
fn a_full_disk_halts_blocks_and_writes_and_leaves_reads() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 2);
    app.disk_full.store(true, Ordering::SeqCst);
    let sentence = wait_for_halt(&engine);
    assert!(sentence.contains("the disk is full"), "{sentence}");
    let height = engine.height();
    let refused = engine.broadcast_tx_sync(b"a=1".to_vec()).unwrap_err();
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    runtime().block_on(async {
        let status = method(&engine, "status", json!({})).await.unwrap();
        assert_eq!(status["sync_info"]["latest_block_height"], height.to_string());
        for write in ["broadcast_tx_sync", "broadcast_tx_async", "broadcast_tx_commit"] {
            let error = method(&engine, write, json!({ "tx": "YT0x" })).await.unwrap_err();
            assert_eq!(error["code"], -32603);
            assert!(error["data"].as_str().unwrap().contains("the disk is full"), "{error}");
        }
    });
    drop(engine);

    // The block was decided: a restart with room on the disk executes it.
    app.disk_full.store(false, Ordering::SeqCst);
    let engine = start(dir.path(), &app);
    assert!(engine.height() > height);
    assert_eq!(engine.is_halted(), None);
}

#[test]
fn a_panicking_application_halts_the_chain_with_its_words() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    app.panic_at.store(3, Ordering::SeqCst);
    let engine = start(dir.path(), &app);
    let sentence = wait_for_halt(&engine);
    assert!(sentence.contains("told to panic"), "{sentence}");
    assert_eq!(engine.height(), 2);
}

#[test]
fn a_rejected_proposal_costs_its_transactions_and_not_the_chain() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    app.poison.lock().unwrap().insert(b"bad=1".to_vec());
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 1);
    let runtime = runtime();
    let commit =
        |tx: &str| runtime.block_on(engine.broadcast_tx_commit(tx.into(), Duration::from_secs(10)));
    assert!(matches!(commit("bad=1"), Err(BroadcastError::Evicted { .. })));
    assert!(commit("good=1").unwrap().included.is_some());
}

#[test]
fn a_slow_subscriber_is_let_go_and_delays_nobody() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    let mut slow = engine.subscribe_blocks(2).unwrap();
    wait_for_height(&engine, engine.height() + 5);
    let queued = std::iter::from_fn(|| slow.blocking_recv().ok()).count();
    assert_eq!(queued, 2, "what was queued still comes");
    assert_eq!(slow.blocking_recv().unwrap_err(), SubscriptionEnd::Lagged);

    let mut quick = engine.subscribe_blocks(1024).unwrap();
    engine.stop();
    while quick.blocking_recv().is_ok() {}
    assert_eq!(quick.blocking_recv().unwrap_err(), SubscriptionEnd::Stopped);
}

#[test]
fn the_first_block_has_the_initial_height_and_the_genesis_time() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    app.committed.lock().unwrap().height = 0;
    let engine = start(dir.path(), &app);
    wait_for_height(&engine, 1);
    let first = light_block(&engine, 1).signed_header.header;
    assert_eq!(first.time, genesis().genesis_time);
    assert_eq!(first.last_block_id, None);
    assert_eq!(engine.chain_id(), first.chain_id.as_str());
}

#[test]
fn a_chain_waits_for_its_genesis_time() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    let opens = Time::now().checked_add(Duration::from_millis(300)).unwrap();
    config.genesis.genesis_time = opens;
    let engine = Engine::start(config, app).unwrap();
    wait_for_height(&engine, 1);
    assert!(Time::now() >= opens);
}

#[test]
fn a_genesis_file_is_made_once_and_read_again() {
    let dir = Dir::new();
    let path = dir.path().join("config/genesis.json");
    let made = Genesis::load_or_create(&path, genesis).unwrap();
    assert_eq!(made, genesis());
    let again = Genesis::load_or_create(&path, || unreachable!("the file is there")).unwrap();
    assert_eq!(again, made);
    assert_eq!(again.hash(), made.hash());
}

#[test]
fn a_bad_genesis_names_every_fault_at_once() {
    let text = json!({
        "chain_id": "x".repeat(60),
        "genesis_time": "yesterday",
        "initial_height": "-3",
        "consensus_params": {
            "block": { "max_bytes": "0", "max_gas": "-2" },
            "validator": { "pub_key_types": ["secp256k1"] },
            "abci": { "vote_extensions_enable_height": "5" },
        },
        "validators": [
            { "pub_key": { "type": "tendermint/PubKeyEd25519", "value": "AAAA" }, "power": "1" },
            { "pub_key": { "type": "tendermint/PubKeySecp256k1", "value": "" }, "power": "0" },
        ],
        "app_hash": "zz",
    });
    let error = Genesis::from_json(text.to_string().as_bytes()).unwrap_err();
    let GenesisError::Invalid(errors) = error else { panic!("{error}") };
    for part in [
        "chain_id",
        "genesis_time",
        "initial_height",
        "max_bytes",
        "max_gas",
        "pub_key_types",
        "vote_extensions",
        "validators[0]",
        "validators[1]",
        "app_hash",
    ] {
        assert!(errors.iter().any(|error| error.contains(part)), "{part} in {errors:?}");
    }
    assert!(matches!(Genesis::from_json(b"{"), Err(GenesisError::Json(_))));
    assert!(matches!(Genesis::from_json(b"[]"), Err(GenesisError::Invalid(_))));
}

#[test]
fn a_genesis_of_cometbft_is_read() {
    let text = r#"{
      "genesis_time": "2026-03-04T05:06:07.123456789Z", "chain_id": "test-chain-mSnKDt",
      "initial_height": "0",
      "consensus_params": {
        "block": { "max_bytes": "22020096", "max_gas": "-1" },
        "evidence": { "max_age_num_blocks": "100000", "max_age_duration": "172800000000000",
                      "max_bytes": "1048576" },
        "validator": { "pub_key_types": ["ed25519"] },
        "version": { "app": "0" }, "abci": { "vote_extensions_enable_height": "0" } },
      "validators": [ { "address": "CA2A2AEA4AE5F0C7F7FEBC36DD41A01C39B7D02C",
        "pub_key": { "type": "tendermint/PubKeyEd25519",
                     "value": "PLACEHOLDER" },
        "power": "10", "name": "" } ],
      "app_hash": "" }"#;
    let key = ValidatorKey::from_seed([3; 32]);
    let value = serde_json::to_value(key.public_key()).unwrap()["value"].clone();
    let text = text
        .replace("PLACEHOLDER", value.as_str().unwrap())
        .replace("CA2A2AEA4AE5F0C7F7FEBC36DD41A01C39B7D02C", &key.address().to_string());
    let genesis = Genesis::from_json(text.as_bytes()).unwrap();
    assert_eq!(genesis.initial_height, 1);
    assert_eq!(genesis.consensus_params.block_max_bytes, 22_020_096);
    assert_eq!(genesis.validators[0].pub_key, key.public_key());
    assert_eq!(Genesis::from_json(genesis.to_json().to_string().as_bytes()).unwrap(), genesis);
    assert_eq!(ConsensusParams::default().errors(), Vec::<String>::new());
}

#[test]
fn keys_are_made_once_and_damaged_ones_are_refused() {
    let dir = Dir::new();
    let path = dir.path().join("config/priv_validator_key.json");
    let key = ValidatorKey::load_or_create(&path).unwrap();
    assert_eq!(ValidatorKey::load_or_create(&path).unwrap().address(), key.address());
    let file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file["address"], key.address().to_string());
    // The same file as the Go and Rust nodes read.
    let parsed: tendermint::PrivateKey =
        serde_json::from_value(file["priv_key"].clone()).expect("the file format of a private key");
    assert_eq!(parsed.public_key(), key.public_key());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let node_path = dir.path().join("config/node_key.json");
    let node = NodeKey::load_or_create(&node_path).unwrap();
    assert_eq!(NodeKey::load_or_create(&node_path).unwrap().id(), node.id());
    assert_eq!(node.id().len(), 40);

    let mut other = file.clone();
    other["address"] = json!("00");
    let halves = json!({ "type": "tendermint/PrivKeyEd25519", "value": "AAAA" });
    let kind = json!({ "type": "tendermint/PrivKeySecp256k1", "value": "" });
    for damaged in [other, json!({ "priv_key": halves }), json!({ "priv_key": kind }), json!(3)] {
        fs::write(&path, damaged.to_string()).unwrap();
        assert!(ValidatorKey::load_or_create(&path).is_err(), "{damaged}");
    }
}
