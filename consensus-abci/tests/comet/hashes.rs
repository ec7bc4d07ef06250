//! One application, three ways to run it: the same transactions give the same hashes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chain_types::{AccountId, ChannelId, Payload, Policy};
use consensus_abci::app::App;
use consensus_abci::application::Application;
use consensus_abci::engine::{Engine, EngineConfig, NodeKey, ValidatorKey};
use serde_json::Value;
use tendermint_proto::v0_38::abci::RequestQuery;

use crate::load::{Acknowledged, open_channel, signed, transfer};
use crate::node::{Node, Transport, chain_genesis};
use crate::twin::replay;
use crate::world::{Dir, id, register, relay_facts, sut};

/// Far beyond the end of the test.
const EXPIRES: u64 = 1_000_000;

/// Transactions whose traces in the state name no height and no time.
pub fn timeless() -> Vec<Vec<u8>> {
    let channel = ChannelId::of(&id("viewer"), 0);
    let to_nobody = Payload::Transfer { to: AccountId([9; 32]), amount: sut(5_000_000) };
    let top_up = Payload::TopUp { channel, amount: sut(7_000), reserves: Vec::new() };
    vec![
        signed("creator", 0, transfer("relay", 1_000)),
        signed("viewer", 0, open_channel(50_000_000, EXPIRES)),
        signed("relay", 0, transfer("viewer", 77)),
        signed("viewer", 1, top_up),
        signed("other", 0, to_nobody),
        // More than it has: charged, and refused.
        signed("submitter", 0, transfer("creator", u64::MAX)),
        signed("submitter", 1, transfer("creator", 1)),
        // Somebody else's channel.
        signed("other", 1, Payload::RequestClose { channel }),
        signed("viewer", 2, open_channel(60_000_000, EXPIRES)),
    ]
}

/// Transactions after which a record names the height or the time of its block.
fn timely() -> Vec<Vec<u8>> {
    let channel = ChannelId::of(&id("viewer"), 0);
    let relay = relay_facts("relay");
    vec![
        signed("creator", 1, register(Policy::Paid)),
        signed("relay", 1, Payload::RegisterRelay { relay, bond: sut(0) }),
        signed("creator", 2, register(Policy::AllowList)),
        signed("viewer", 3, Payload::RequestClose { channel }),
    ]
}

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Trace {
    /// Result code and app hash after each of [`timeless`].
    prefixes: Vec<(u64, Vec<u8>)>,
    /// Result codes of [`timely`].
    codes: Vec<u64>,
    /// All records then, less heights and times.
    records: Vec<Value>,
}

fn paths() -> Vec<String> {
    let mut paths: Vec<String> =
        ["/streams", "/relays", "/supply", "/params"].map(Into::into).into();
    for name in crate::world::NAMES {
        paths.push(format!("/account/{}", id(name)));
        paths.push(format!("/channels/by-payer/{}", id(name)));
    }
    paths
}

/// Without what differs from run to run.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !["from_height", "since_height", "created", "close_requested"]
                    .contains(&name.as_str())
            });
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

fn under_comet(transport: Transport) -> Trace {
    let mut node = Node::new(transport);
    node.start();
    node.wait_for_height(1);
    let rpc = node.rpc();
    let mut acknowledged = Acknowledged::new();
    let mut run = |tx: Vec<u8>| {
        let included = rpc.commit(&tx).expect("it comes into a block");
        acknowledged.insert(sha256(&tx), included.height);
        (included.code, rpc.app_hash_after(included.height))
    };
    let prefixes = timeless().into_iter().map(&mut run).collect();
    let codes = timely().into_iter().map(|tx| run(tx).0).collect();
    let mut records: Vec<Value> =
        paths().iter().map(|path| rpc.read(path).expect("a record")).collect();
    records.iter_mut().for_each(strip);
    node.wait_for_blocks(2);
    let replayed = replay(rpc, &acknowledged);
    assert_eq!(replayed.txs, timeless().len() + timely().len());
    Trace { prefixes, codes, records }
}

/// The engine in the process, with its blocks in `dir`.
pub fn embedded_config(dir: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(
        dir.join("blocks"),
        chain_genesis(),
        ValidatorKey::from_seed([7; 32]),
        NodeKey::from_seed([8; 32]),
        dir.join("priv_validator_state.json"),
    );
    config.min_block_interval = Duration::from_millis(1);
    config.empty_block_interval = Duration::from_millis(20);
    config
}

fn embedded() -> Trace {
    let dir = Dir::new();
    let app = Arc::new(App::open(&dir.path().join("app")).unwrap());
    let engine = Engine::start(embedded_config(dir.path()), app.clone()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = |tx: Vec<u8>| {
        let outcome = runtime.block_on(engine.broadcast_tx_commit(tx, Duration::from_secs(30)));
        let included = outcome.unwrap().included.expect("it comes into a block");
        let head = app.snapshot().head().expect("there are blocks");
        assert!(head.height >= included.height);
        (u64::from(included.result.code), head.app_hash.to_vec())
    };
    let prefixes = timeless().into_iter().map(run).collect();
    let codes = timely().into_iter().map(|tx| run(tx).0).collect();
    let read = |path: String| -> Value {
        let answer = app.query(RequestQuery { path, ..RequestQuery::default() }).unwrap();
        assert_eq!(answer.code, 0, "{}", answer.log);
        serde_json::from_slice(&answer.value).unwrap()
    };
    let mut records: Vec<Value> = paths().into_iter().map(read).collect();
    records.iter_mut().for_each(strip);
    engine.stop();
    Trace { prefixes, codes, records }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// R107 (the three ways to run it): the app hash is one of the state, whoever decides the blocks
/// and however they are cut; fed the very same blocks, it is equal at every height.
#[test]
fn the_same_transactions_give_the_same_app_hashes_under_every_engine() {
    let embedded = embedded();
    let codes: Vec<u64> = embedded.prefixes.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 7, "{codes:?}");
    let mut hashes: Vec<&Vec<u8>> = embedded.prefixes.iter().map(|(_, hash)| hash).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), timeless().len(), "each transaction changes the state");
    assert_eq!(embedded.codes, [0; 4]);
    for transport in [Transport::Unix, Transport::Tcp] {
        assert_eq!(under_comet(transport), embedded, "{transport:?}");
    }
}
