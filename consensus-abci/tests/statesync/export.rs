//! A state that is exported begins a chain again, as it was.

use chain_types::{Params, Policy, hex};
use consensus_abci::{
    app::{App, AppState},
    application::Application,
};
use tendermint_proto::v0_38::abci::{RequestInfo, RequestInitChain};

use crate::{
    chain::chain,
    world::{Dir, content, genesis, keep, timestamp},
};

#[test]
fn an_exported_state_is_a_genesis_and_the_next_block_has_the_same_app_hash() {
    let mut world = chain(genesis(Params::for_tests()));
    world.relays(&["relay"], "relay");
    world.register(Policy::Ticketed);
    let channel = world.open(50_000_000, &[("relay", 10_000_000, 90)]);
    let exported = world.app.snapshot().export().unwrap();
    let keys: Vec<_> = exported.records.iter().map(|record| record.key.clone()).collect();
    assert!(keys.is_sorted() && keys.len() == content(&world.app.snapshot()).len());
    assert!(keys.iter().all(|key| hex::bytes(key).is_some()));
    let json = serde_json::to_vec(&exported).unwrap();
    assert_eq!(AppState::read(&json), Ok(exported));

    let dir = Dir::new();
    let app = App::open(dir.path()).unwrap();
    let height = i64::try_from(world.height).unwrap();
    let begin = RequestInitChain {
        app_state_bytes: json.into(),
        initial_height: height + 1,
        time: timestamp(world.time_ms),
        ..genesis(Params::for_tests())
    };
    let answer = app.init_chain(begin.clone()).unwrap();
    assert_eq!(answer.app_hash, world.app.snapshot().head().unwrap().app_hash[..]);
    assert_eq!(content(&app.snapshot()), content(&world.app.snapshot()));
    // No block is there yet: the engine begins it again after a crash.
    assert_eq!(app.info(RequestInfo::default()).unwrap().last_block_height, 0);
    assert_eq!(app.init_chain(begin).unwrap(), answer);

    let reserve = chain_types::Payload::Reserve { channel, reserve: keep("relay", 11_000_000, 95) };
    let request = world.request(vec![world.sign("viewer", reserve)]);
    let response = app.finalize_block(request.clone()).unwrap();
    app.commit().unwrap();
    assert_eq!(response, world.block(request.txs));
    assert_eq!(response.tx_results[0].code, 0, "{}", response.tx_results[0].log);
    assert_eq!(app.info(RequestInfo::default()).unwrap().last_block_height, height + 1);
}

#[test]
fn nothing_is_exported_before_the_genesis_state() {
    let dir = Dir::new();
    let error = App::open(dir.path()).unwrap().snapshot().export().unwrap_err();
    assert!(error.to_string().contains("no genesis state"), "{error}");
}
