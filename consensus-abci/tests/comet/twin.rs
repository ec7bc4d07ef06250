//! An application that never crashed, fed the very blocks that CometBFT has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chain_types::Params;
use consensus_abci::app::App;
use consensus_abci::application::Application;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::abci::{CommitInfo, RequestFinalizeBlock, Validator, VoteInfo};

use crate::load::Acknowledged;
use crate::rpc::{Rpc, number};
use crate::world::{Dir, genesis};

/// What the twin has seen.
#[derive(Debug, PartialEq)]
pub struct Replayed {
    pub heights: u64,
    pub txs: usize,
    /// With code 0.
    pub done: usize,
}

/// Replays every block; the app hash is the same at every height, and so is each result. Each
/// transaction that was acknowledged is in the block that was named.
#[track_caller]
pub fn replay(rpc: Rpc, acknowledged: &Acknowledged) -> Replayed {
    let dir = Dir::new();
    let twin = App::open(dir.path()).unwrap();
    let begin = twin.init_chain(genesis(Params::for_tests())).unwrap();
    // Of the newest block the results may not be there yet.
    let heights = rpc.height().expect("the chain runs") - 1;
    let mut replayed = Replayed { heights, txs: 0, done: 0 };
    let mut app_hash = begin.app_hash;
    let mut missing = acknowledged.clone();
    for height in 1..=heights {
        let at = json!({ "height": height.to_string() });
        let answer = rpc.call("block", at.clone());
        let header = &answer["block"]["header"];
        assert_eq!(bytes(&header["app_hash"]), app_hash, "the header of height {height}");
        let request = request(rpc, &answer, height);
        for tx in &request.txs {
            let hash: [u8; 32] = Sha256::digest(tx).into();
            if let Some(named) = missing.remove(&hash) {
                assert_eq!(named, height, "an acknowledged transaction stays in its block");
            }
        }
        let response = twin.finalize_block(request).unwrap();
        twin.commit().unwrap();
        let results = rpc.call("block_results", at);
        let stored = BASE64.decode(results["app_hash"].as_str().unwrap()).unwrap();
        assert_eq!(stored, response.app_hash, "after height {height}");
        let empty = Vec::new();
        let codes = results["txs_results"].as_array().unwrap_or(&empty);
        let codes: Vec<_> = codes.iter().map(|result| result["code"].as_u64().unwrap()).collect();
        let ours: Vec<_> =
            response.tx_results.iter().map(|result| u64::from(result.code)).collect();
        assert_eq!(codes, ours, "results of height {height}");
        replayed.txs += codes.len();
        replayed.done += codes.iter().filter(|code| **code == 0).count();
        app_hash = response.app_hash;
    }
    assert!(missing.is_empty(), "{} acknowledged transactions are in no block", missing.len());
    let audit = twin.snapshot().audit().unwrap();
    assert!(audit.is_balanced(), "{audit:?}");
    replayed
}

/// As CometBFT asked for it.
fn request(rpc: Rpc, answer: &Value, height: u64) -> RequestFinalizeBlock {
    let header = &answer["block"]["header"];
    let empty = Vec::new();
    let txs = answer["block"]["data"]["txs"].as_array().unwrap_or(&empty);
    let time: tendermint::Time = header["time"].as_str().unwrap().parse().unwrap();
    RequestFinalizeBlock {
        txs: txs.iter().map(|tx| BASE64.decode(tx.as_str().unwrap()).unwrap().into()).collect(),
        decided_last_commit: Some(last_commit(rpc, &answer["block"]["last_commit"], height)),
        misbehavior: Vec::new(),
        hash: bytes(&answer["block_id"]["hash"]),
        height: i64::try_from(height).unwrap(),
        time: Some(time.into()),
        next_validators_hash: bytes(&header["next_validators_hash"]),
        proposer_address: bytes(&header["proposer_address"]),
    }
}

fn last_commit(rpc: Rpc, commit: &Value, height: u64) -> CommitInfo {
    let empty = Vec::new();
    let signatures = commit["signatures"].as_array().unwrap_or(&empty);
    if signatures.is_empty() {
        return CommitInfo::default();
    }
    let before = json!({ "height": (height - 1).to_string() });
    let validators = rpc.call("validators", before)["validators"].take();
    let votes = validators.as_array().unwrap().iter().zip(signatures).map(|(validator, vote)| {
        let power = i64::try_from(number(&validator["voting_power"])).unwrap();
        let address = bytes(&validator["address"]);
        let block_id_flag = i32::try_from(vote["block_id_flag"].as_i64().unwrap()).unwrap();
        VoteInfo { validator: Some(Validator { address, power }), block_id_flag }
    });
    let round = i32::try_from(commit["round"].as_i64().unwrap()).unwrap();
    CommitInfo { round, votes: votes.collect() }
}

/// From hex digits.
fn bytes(value: &Value) -> Bytes {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
