//! CometBFT 0.38's JSON: 64-bit integers are strings, hashes upper hex, other bytes base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tendermint::{Time, validator};
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::abci::{
    Event, ExecTxResult, ResponseCheckTx, ResponseFinalizeBlock, ResponseQuery, ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::{ProofOps, public_key};
use tendermint_proto::v0_38::types as pb;

use crate::engine::{hex_upper, public_json};

pub(crate) fn base64(bytes: &[u8]) -> Value {
    Value::String(BASE64.encode(bytes))
}

/// Go prints an empty byte slice that was never set as `null`.
fn base64_or_null(bytes: &[u8]) -> Value {
    match bytes {
        [] => Value::Null,
        bytes => base64(bytes),
    }
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(hex_upper(bytes))
}

pub(crate) fn time(timestamp: Option<Timestamp>) -> Value {
    match timestamp.map(Time::try_from) {
        Some(Ok(time)) => Value::String(time.to_rfc3339()),
        // Go's zero time.
        Some(Err(_)) | None => Value::String("0001-01-01T00:00:00Z".to_owned()),
    }
}

pub(crate) fn block_id(id: Option<&pb::BlockId>) -> Value {
    let parts = id.and_then(|id| id.part_set_header.as_ref());
    json!({
        "hash": hex(id.map_or(&[], |id| &id.hash)),
        "parts": {
            "total": parts.map_or(0, |parts| parts.total),
            "hash": hex(parts.map_or(&[], |parts| &parts.hash)),
        },
    })
}

pub(crate) fn header(header: &pb::Header) -> Value {
    let version = header.version.unwrap_or_default();
    json!({
        "version": { "block": version.block.to_string(), "app": version.app.to_string() },
        "chain_id": header.chain_id,
        "height": header.height.to_string(),
        "time": time(header.time),
        "last_block_id": block_id(header.last_block_id.as_ref()),
        "last_commit_hash": hex(&header.last_commit_hash),
        "data_hash": hex(&header.data_hash),
        "validators_hash": hex(&header.validators_hash),
        "next_validators_hash": hex(&header.next_validators_hash),
        "consensus_hash": hex(&header.consensus_hash),
        "app_hash": hex(&header.app_hash),
        "last_results_hash": hex(&header.last_results_hash),
        "evidence_hash": hex(&header.evidence_hash),
        "proposer_address": hex(&header.proposer_address),
    })
}

pub(crate) fn commit(commit: &pb::Commit) -> Value {
    let signatures = commit.signatures.iter().map(|sig| {
        json!({
            "block_id_flag": sig.block_id_flag,
            "validator_address": hex(&sig.validator_address),
            "timestamp": time(sig.timestamp),
            "signature": base64_or_null(&sig.signature),
        })
    });
    json!({
        "height": commit.height.to_string(),
        "round": commit.round,
        "block_id": block_id(commit.block_id.as_ref()),
        "signatures": signatures.collect::<Vec<_>>(),
    })
}

pub(crate) fn block(block: &pb::Block) -> Value {
    let txs = block.data.iter().flat_map(|data| &data.txs).map(|tx| base64(tx));
    json!({
        "header": header(&block.header.clone().unwrap_or_default()),
        "data": { "txs": txs.collect::<Vec<_>>() },
        "evidence": { "evidence": [] },
        "last_commit": commit(&block.last_commit.clone().unwrap_or_default()),
    })
}

pub(crate) fn block_meta(meta: &pb::BlockMeta) -> Value {
    json!({
        "block_id": block_id(meta.block_id.as_ref()),
        "block_size": meta.block_size.to_string(),
        "header": header(&meta.header.clone().unwrap_or_default()),
        "num_txs": meta.num_txs.to_string(),
    })
}

pub(crate) fn validator(validator: &validator::Info) -> Value {
    json!({
        "address": validator.address.to_string(),
        "pub_key": public_json(&validator.pub_key),
        "voting_power": validator.power.value().to_string(),
        "proposer_priority": validator.proposer_priority.value().to_string(),
    })
}

pub(crate) fn events(events: &[Event]) -> Value {
    let events = events.iter().map(|event| {
        let attributes = event.attributes.iter().map(|attribute| {
            json!({
                "key": attribute.key,
                "value": attribute.value,
                "index": attribute.index,
            })
        });
        json!({ "type": event.r#type, "attributes": attributes.collect::<Vec<_>>() })
    });
    events.collect()
}

pub(crate) fn exec_tx_result(result: &ExecTxResult) -> Value {
    json!({
        "code": result.code,
        "data": base64_or_null(&result.data),
        "log": result.log,
        "info": result.info,
        "gas_wanted": result.gas_wanted.to_string(),
        "gas_used": result.gas_used.to_string(),
        "events": events(&result.events),
        "codespace": result.codespace,
    })
}

pub(crate) fn check_tx(response: &ResponseCheckTx) -> Value {
    json!({
        "code": response.code,
        "data": base64_or_null(&response.data),
        "log": response.log,
        "info": response.info,
        "gas_wanted": response.gas_wanted.to_string(),
        "gas_used": response.gas_used.to_string(),
        "events": events(&response.events),
        "codespace": response.codespace,
    })
}

fn validator_updates(updates: &[ValidatorUpdate]) -> Value {
    let updates = updates.iter().map(|update| {
        let key = match update.pub_key.as_ref().and_then(|key| key.sum.as_ref()) {
            Some(public_key::Sum::Ed25519(bytes)) => {
                json!({ "Sum": { "type": "tendermint.crypto.PublicKey_Ed25519",
                    "value": { "ed25519": base64(bytes) } } })
            }
            Some(public_key::Sum::Secp256k1(bytes)) => {
                json!({ "Sum": { "type": "tendermint.crypto.PublicKey_Secp256K1",
                    "value": { "secp256k1": base64(bytes) } } })
            }
            None => Value::Null,
        };
        json!({ "pub_key": key, "power": update.power.to_string() })
    });
    updates.collect()
}

/// The proto's own JSON, which has other names than the consensus parameters' of `/genesis`.
fn param_updates(params: Option<&pb::ConsensusParams>) -> Value {
    let Some(params) = params else { return Value::Null };
    json!({
        "block": params.block.map(|block| json!({
            "max_bytes": block.max_bytes.to_string(),
            "max_gas": block.max_gas.to_string(),
        })),
        "version": params.version.map(|version| json!({ "app": version.app.to_string() })),
    })
}

/// `block_results`.
pub(crate) fn block_results(height: u64, results: &ResponseFinalizeBlock) -> Value {
    let txs: Vec<Value> = results.tx_results.iter().map(exec_tx_result).collect();
    json!({
        "height": height.to_string(),
        "txs_results": if txs.is_empty() { Value::Null } else { Value::Array(txs) },
        "finalize_block_events": events(&results.events),
        "validator_updates": validator_updates(&results.validator_updates),
        "consensus_param_updates": param_updates(results.consensus_param_updates.as_ref()),
        "app_hash": base64(&results.app_hash),
    })
}

/// `FinalizeBlock`'s answer inside an event.
pub(crate) fn finalize_block(results: &ResponseFinalizeBlock) -> Value {
    json!({
        "events": events(&results.events),
        "tx_results": results.tx_results.iter().map(exec_tx_result).collect::<Vec<_>>(),
        "validator_updates": validator_updates(&results.validator_updates),
        "consensus_param_updates": param_updates(results.consensus_param_updates.as_ref()),
        "app_hash": base64(&results.app_hash),
    })
}

fn proof_ops(proof: Option<&ProofOps>) -> Value {
    let Some(proof) = proof else { return Value::Null };
    let ops = proof
        .ops
        .iter()
        .map(|op| json!({ "type": op.r#type, "key": base64(&op.key), "data": base64(&op.data) }));
    json!({ "ops": ops.collect::<Vec<_>>() })
}

/// `abci_query`.
pub(crate) fn query(response: &ResponseQuery) -> Value {
    json!({
        "response": {
            "code": response.code,
            "log": response.log,
            "info": response.info,
            "index": response.index.to_string(),
            "key": base64_or_null(&response.key),
            "value": base64_or_null(&response.value),
            "proofOps": proof_ops(response.proof_ops.as_ref()),
            "height": response.height.to_string(),
            "codespace": response.codespace,
        },
    })
}
