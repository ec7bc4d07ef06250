//! The table of methods, and the way from a name to an answer.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::error::RpcError;
use super::params::Params;
use super::{chain, consensus, info, search, txs};
use crate::engine::Engine;

/// Calls that run at once; more wait their turn. Each holds a blocking thread.
const CALLS_MAX: usize = 64;

/// Transactions of `broadcast_tx_async` whose CheckTx has not begun; more are refused.
const ASYNC_CHECKS_MAX: usize = 5_000;

/// Method names with their parameters in the order of a positional call.
const METHODS: &[(&str, &[&str])] = &[
    ("abci_info", &[]),
    ("abci_query", &["path", "data", "height", "prove"]),
    ("block", &["height"]),
    ("block_by_hash", &["hash"]),
    ("block_results", &["height"]),
    ("block_search", &["query", "page", "per_page", "order_by"]),
    ("blockchain", &["minHeight", "maxHeight"]),
    ("broadcast_evidence", &["evidence"]),
    ("broadcast_tx_async", &["tx"]),
    ("broadcast_tx_commit", &["tx"]),
    ("broadcast_tx_sync", &["tx"]),
    ("check_tx", &["tx"]),
    ("commit", &["height"]),
    ("consensus_params", &["height"]),
    ("consensus_state", &[]),
    ("dump_consensus_state", &[]),
    ("genesis", &[]),
    ("genesis_chunked", &["chunk"]),
    ("header", &["height"]),
    ("header_by_hash", &["hash"]),
    ("health", &[]),
    ("net_info", &[]),
    ("num_unconfirmed_txs", &[]),
    ("status", &[]),
    ("tx", &["hash", "prove"]),
    ("tx_search", &["query", "prove", "page", "per_page", "order_by"]),
    ("unconfirmed_txs", &["limit"]),
    ("validators", &["height", "page", "per_page"]),
];

/// Parameter names of `method`, or the error that names the known ones.
pub(crate) fn parameter_names(method: &str) -> Result<&'static [&'static str], RpcError> {
    match METHODS.iter().find(|(name, _)| *name == method) {
        Some((_, names)) => Ok(names),
        None => {
            let known: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
            let shown: String = method.chars().take(64).collect();
            Err(RpcError::method_not_found(format!(
                "{shown:?} is not known; known are {}, and over /websocket subscribe, \
                 unsubscribe, unsubscribe_all",
                known.join(", ")
            )))
        }
    }
}

/// One line for each method, for people who open the address in a browser.
pub(crate) fn listing() -> String {
    let lines = METHODS.iter().map(|(name, names)| {
        let query: Vec<String> = names.iter().map(|name| format!("{name}=_")).collect();
        match query.is_empty() {
            true => format!("/{name}\n"),
            false => format!("/{name}?{}\n", query.join("&")),
        }
    });
    format!("Available endpoints:\n\n{}/websocket\n", lines.collect::<String>())
}

/// Answers calls on behalf of every transport.
#[derive(Clone)]
pub(crate) struct Methods {
    pub engine: Engine,
    calls: Arc<Semaphore>,
    async_checks: Arc<Semaphore>,
}

impl Methods {
    pub(crate) fn new(engine: Engine) -> Self {
        Methods {
            engine,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            async_checks: Arc::new(Semaphore::new(ASYNC_CHECKS_MAX)),
        }
    }

    /// Answers one call.
    pub(crate) async fn call(&self, method: &str, params: Params) -> Result<Value, RpcError> {
        let name = parameter_names(method).map(|_| method.to_owned())?;
        match method {
            // Waits for a block: must not hold a thread meanwhile.
            "broadcast_tx_commit" => txs::broadcast_tx_commit(&self.engine, &params).await,
            "broadcast_tx_async" => self.broadcast_tx_async(&params),
            _ => {
                let engine = self.engine.clone();
                self.blocking(move || call_now(&engine, &name, &params)).await
            }
        }
    }

    async fn blocking(
        &self,
        work: impl FnOnce() -> Result<Value, RpcError> + Send + 'static,
    ) -> Result<Value, RpcError> {
        let permit = self.calls.clone().acquire_owned().await;
        let permit = permit.expect("this semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(answer) => answer,
            Err(failure) => Err(RpcError::internal(format!("the call failed: {failure}"))),
        }
    }

    fn broadcast_tx_async(&self, params: &Params) -> Result<Value, RpcError> {
        let tx = params.transaction("tx")?;
        if let Some(sentence) = self.engine.is_halted() {
            return Err(RpcError::internal(format!("the chain is halted: {sentence}")));
        }
        let answer = txs::accepted_json(&tx);
        let Ok(queued) = self.async_checks.clone().try_acquire_owned() else {
            return Err(RpcError::internal(format!(
                "{ASYNC_CHECKS_MAX} transactions wait for CheckTx already"
            )));
        };
        let methods = self.clone();
        tokio::spawn(async move {
            let engine = methods.engine.clone();
            let check = move || {
                if let Err(error) = engine.broadcast_tx_sync(tx) {
                    // The client asked not to be told.
                    tracing::debug!(%error, "a transaction was not taken");
                }
                Ok(Value::Null)
            };
            let _ = methods.blocking(check).await;
            drop(queued);
        });
        Ok(answer)
    }
}

fn call_now(engine: &Engine, method: &str, params: &Params) -> Result<Value, RpcError> {
    let core = engine.core();
    match method {
        "abci_info" => info::abci_info(core),
        "abci_query" => info::abci_query(core, params),
        "block" => chain::block(core, params),
        "block_by_hash" => chain::block_by_hash(core, params),
        "block_results" => chain::block_results(core, params),
        "block_search" => search::block_search(core, params),
        "blockchain" => chain::blockchain(core, params),
        "broadcast_evidence" => consensus::broadcast_evidence(params),
        "broadcast_tx_sync" => txs::broadcast_tx_sync(engine, params),
        "check_tx" => txs::check_tx(core, params),
        "commit" => chain::commit(core, params),
        "consensus_params" => chain::consensus_params(core, params),
        "consensus_state" => consensus::consensus_state(core),
        "dump_consensus_state" => consensus::dump_consensus_state(core),
        "genesis" => info::genesis(core),
        "genesis_chunked" => info::genesis_chunked(core, params),
        "header" => chain::header(core, params),
        "header_by_hash" => chain::header_by_hash(core, params),
        "health" => Ok(info::health()),
        "net_info" => Ok(info::net_info()),
        "num_unconfirmed_txs" => Ok(txs::num_unconfirmed_txs(core)),
        "status" => info::status(core),
        "tx" => txs::tx(core, params),
        "tx_search" => txs::tx_search(core, params),
        "unconfirmed_txs" => txs::unconfirmed_txs(core, params),
        "validators" => chain::validators(core, params),
        other => Err(RpcError::internal(format!("{other} has no answer here"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Routes of CometBFT 0.38.26 with their parameters (`rpc/core/routes.go`).
    const COMETBFT: &[(&str, &str)] = &[
        ("abci_info", ""),
        ("abci_query", "path,data,height,prove"),
        ("block", "height"),
        ("block_by_hash", "hash"),
        ("block_results", "height"),
        ("block_search", "query,page,per_page,order_by"),
        ("blockchain", "minHeight,maxHeight"),
        ("broadcast_evidence", "evidence"),
        ("broadcast_tx_async", "tx"),
        ("broadcast_tx_commit", "tx"),
        ("broadcast_tx_sync", "tx"),
        ("check_tx", "tx"),
        ("commit", "height"),
        ("consensus_params", "height"),
        ("consensus_state", ""),
        ("dump_consensus_state", ""),
        ("genesis", ""),
        ("genesis_chunked", "chunk"),
        ("header", "height"),
        ("header_by_hash", "hash"),
        ("health", ""),
        ("net_info", ""),
        ("num_unconfirmed_txs", ""),
        ("status", ""),
        ("tx", "hash,prove"),
        ("tx_search", "query,prove,page,per_page,order_by"),
        ("unconfirmed_txs", "limit"),
        ("validators", "height,page,per_page"),
    ];

    /// Of a WebSocket alone, and those that CometBFT serves to nobody unless `unsafe = true`.
    const COMETBFT_ELSEWHERE: &[&str] = &[
        "subscribe",
        "unsubscribe",
        "unsubscribe_all",
        "dial_seeds",
        "dial_peers",
        "unsafe_flush_mempool",
    ];

    #[test]
    fn the_routes_are_cometbfts_with_its_parameters() {
        let ours: Vec<(&str, String)> =
            METHODS.iter().map(|(name, names)| (*name, names.join(","))).collect();
        let theirs: Vec<(&str, String)> =
            COMETBFT.iter().map(|(name, names)| (*name, (*names).to_owned())).collect();
        assert_eq!(ours, theirs);
        for name in COMETBFT_ELSEWHERE {
            let error = parameter_names(name).expect_err("this is not called over HTTP");
            assert_eq!(error.code, -32601, "{name}");
        }
    }
}
