//! The HTTP face of a node without media: the chain's facts, RPC, pages, metrics, health.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use chain_types::AccountId;
use serde_json::json;

use super::{Problem, api::fresh, pay};
use crate::{
    chain::NodeChain,
    metrics::{self, Metrics, MoneySight},
    streams::Totals,
};

/// What the handlers share.
pub struct ChainFace {
    /// The chain of this node.
    pub chain: Arc<dyn NodeChain>,
    /// The process's counts.
    pub metrics: Metrics,
    /// Of the program.
    pub version: &'static str,
    /// Start of the process.
    pub started: SystemTime,
    /// The operator's account.
    pub operator: AccountId,
}

type Face = State<Arc<ChainFace>>;

/// Every route.
pub fn router(face: Arc<ChainFace>) -> Router {
    let rpc = face.chain.rpc_router();
    Router::new()
        // There is nothing live here: the first page is the chain's.
        .route("/", get(|| async { Redirect::temporary("/network") }))
        .route("/api/chain", get(chain))
        .route("/api/status", get(status))
        .route("/api/streams", get(|| async { fresh(json!([])) }))
        .route("/metrics", get(scrape))
        .route("/healthz", get(super::api::healthz))
        .route("/readyz", get(readyz))
        .fallback(super::page)
        .with_state(face)
        .nest("/rpc", rpc)
}

async fn chain(State(face): Face) -> Result<Response, Problem> {
    Ok(fresh(pay::chain_facts(&*face.chain)?))
}

async fn status(State(face): Face) -> Response {
    let started = face.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    fresh(json!({
        "version": face.version,
        "role": "validator",
        "operator": face.operator,
        "started_ms": u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
    }))
}

fn sight(face: &ChainFace) -> MoneySight {
    let head = face.chain.head();
    MoneySight {
        height: head.height,
        block_time_ms: head.block_time_ms,
        halted: face.chain.halted(),
        waiting: face.chain.waiting(),
        ..MoneySight::default()
    }
}

async fn scrape(State(face): Face) -> Response {
    let sight = sight(&face);
    let unready = face.metrics.unready(false, Some(&sight));
    let text = face.metrics.render(Totals::default(), &[], Some(&sight), &unready);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn readyz(State(face): Face) -> Result<&'static str, Problem> {
    super::api::ready(&face.metrics.unready(false, Some(&sight(&face))))
}
