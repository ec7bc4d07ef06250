//! Methods about transactions: broadcast, look up, search, and what waits.

use std::time::Duration;

use serde_json::{Value, json};
use tendermint_proto::v0_38::abci::{CheckTxType, ExecTxResult, RequestCheckTx, ResponseCheckTx};

use super::chain::page;
use super::error::RpcError;
use super::params::Params;
use super::shape;
use crate::engine::{CheckOutcome, Core, Engine, FoundTx, Query, hex_upper, prove_leaf, tx_hash};

/// How long `broadcast_tx_commit` waits for the block; CometBFT's default.
pub(crate) const COMMIT_WAIT: Duration = Duration::from_secs(10);

/// Most transactions in one answer of `unconfirmed_txs`.
const UNCONFIRMED_MAX: usize = 100;

fn broadcast_json(outcome: &CheckOutcome, data: &[u8]) -> Value {
    json!({
        "code": outcome.code,
        "data": hex_upper(data),
        "log": outcome.log,
        "codespace": outcome.codespace,
        "hash": hex_upper(&outcome.hash),
    })
}

pub(crate) fn broadcast_tx_sync(engine: &Engine, params: &Params) -> Result<Value, RpcError> {
    let (outcome, response) = engine.check_and_insert(params.transaction("tx")?.into())?;
    Ok(broadcast_json(&outcome, &response.data))
}

/// CheckTx without the mempool: says what `broadcast_tx_sync` would, and lets nothing wait.
pub(crate) fn check_tx(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let tx = params.transaction("tx")?;
    let max = core.tip().max_tx_bytes;
    if tx.len() > max {
        return Err(RpcError::internal(format!(
            "Tx too large. Max size is {max}, but got {}",
            tx.len()
        )));
    }
    let request = RequestCheckTx { tx: tx.into(), r#type: CheckTxType::New as i32 };
    let _gate = core.mempool.checking();
    Ok(shape::check_tx(&core.app.check_tx(request)?))
}

/// The answer of `broadcast_tx_async`, given before CheckTx ran.
pub(crate) fn accepted_json(tx: &[u8]) -> Value {
    let outcome =
        CheckOutcome { code: 0, log: String::new(), codespace: String::new(), hash: tx_hash(tx) };
    broadcast_json(&outcome, &[])
}

pub(crate) async fn broadcast_tx_commit(
    engine: &Engine,
    params: &Params,
) -> Result<Value, RpcError> {
    let tx = params.transaction("tx")?;
    let (outcome, check, included) = engine.check_and_wait(tx, COMMIT_WAIT).await?;
    let (height, result) = match &included {
        Some(included) => (included.height, &included.result),
        None => (0, &ExecTxResult::default()),
    };
    Ok(commit_json(&outcome, &check, height, result))
}

fn commit_json(
    outcome: &CheckOutcome,
    check: &ResponseCheckTx,
    height: u64,
    result: &ExecTxResult,
) -> Value {
    json!({
        "check_tx": shape::check_tx(check),
        "tx_result": shape::exec_tx_result(result),
        "hash": hex_upper(&outcome.hash),
        "height": height.to_string(),
    })
}

pub(crate) fn tx(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let hash = params.hash("hash")?;
    let prove = params.boolean("prove")?;
    match core.store.tx(&hash)? {
        Some(found) => tx_json(core, &found, prove),
        None => Err(RpcError::internal(format!("tx ({}) not found", hex_upper(&hash)))),
    }
}

pub(crate) fn tx_search(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let query = Query::parse(&params.text("query")?)
        .map_err(|error| RpcError::invalid_params(error.to_string()))?;
    let prove = params.boolean("prove")?;
    let mut found = core.store.search(&query)?;
    match params.text("order_by")?.as_str() {
        "" | "asc" => {}
        "desc" => found.reverse(),
        other => {
            return Err(RpcError::internal(format!(
                "expected order_by to be either `asc` or `desc` or empty, got {other:?}"
            )));
        }
    }
    let (skip, take) = page(params, found.len())?;
    let shown = found.iter().skip(skip).take(take);
    let txs: Result<Vec<Value>, RpcError> = shown.map(|tx| tx_json(core, tx, prove)).collect();
    Ok(json!({ "txs": txs?, "total_count": found.len().to_string() }))
}

fn tx_json(core: &Core, found: &FoundTx, prove: bool) -> Result<Value, RpcError> {
    let mut json = json!({
        "hash": hex_upper(&tx_hash(&found.tx)),
        "height": found.position.height.to_string(),
        "index": found.position.index,
        "tx_result": shape::exec_tx_result(&found.result),
        "tx": shape::base64(&found.tx),
    });
    if prove {
        let block = core.store.block(found.position.height)?;
        let txs = block.and_then(|block| block.data).unwrap_or_default().txs;
        let leaves: Vec<[u8; 32]> = txs.iter().map(|tx| tx_hash(tx)).collect();
        let index = found.position.index as usize;
        if let Some(proof) = prove_leaf(&leaves, index) {
            let aunts = proof.aunts.iter().map(|aunt| shape::base64(aunt));
            json["proof"] = json!({
                "root_hash": hex_upper(&proof.root),
                "data": shape::base64(&found.tx),
                "proof": {
                    "total": leaves.len().to_string(),
                    "index": index.to_string(),
                    "leaf_hash": shape::base64(&proof.leaf_hash),
                    "aunts": aunts.collect::<Vec<_>>(),
                },
            });
        }
    }
    Ok(json)
}

pub(crate) fn unconfirmed_txs(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let limit = match params.integer("limit")?.unwrap_or(30) {
        ..=0 => 30,
        asked => usize::try_from(asked).unwrap_or(UNCONFIRMED_MAX).min(UNCONFIRMED_MAX),
    };
    let waiting = core.mempool.oldest(limit);
    Ok(unconfirmed_json(core, waiting.len(), waiting.iter().map(|tx| shape::base64(tx)).collect()))
}

pub(crate) fn num_unconfirmed_txs(core: &Core) -> Value {
    let (txs, _) = core.mempool.size();
    unconfirmed_json(core, txs, Value::Null)
}

fn unconfirmed_json(core: &Core, shown: usize, txs: Value) -> Value {
    let (total, bytes) = core.mempool.size();
    json!({
        "n_txs": shown.to_string(),
        "total": total.to_string(),
        "total_bytes": bytes.to_string(),
        "txs": txs,
    })
}
