//! The HTTP face of a coordinator without a relay or a chain beside it: pages, metrics, health.

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
use serde_json::json;

use super::{Problem, api::fresh};
use crate::{
    metrics::{self, Metrics},
    streams::Totals,
};

/// What the handlers share.
pub struct RoomsFace {
    /// The process's counts.
    pub metrics: Metrics,
    /// Of the program.
    pub version: &'static str,
    /// Start of the process.
    pub started: SystemTime,
    /// Names the node among coordinators.
    pub node_id: String,
}

type Face = State<Arc<RoomsFace>>;

/// Every route but the coordinator's own.
pub fn router(face: Arc<RoomsFace>) -> Router {
    Router::new()
        // There is nothing live here: the first page is that of the rooms.
        .route("/", get(|| async { Redirect::temporary("/rooms") }))
        .route("/api/status", get(status))
        .route("/api/streams", get(|| async { fresh(json!([])) }))
        .route("/metrics", get(scrape))
        .route("/healthz", get(super::api::healthz))
        .route("/readyz", get(readyz))
        .fallback(super::page)
        .with_state(face)
}

async fn status(State(face): Face) -> Response {
    let started = face.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    fresh(json!({
        "version": face.version,
        "role": "coordinator",
        "node_id": face.node_id,
        "started_ms": u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
    }))
}

async fn scrape(State(face): Face) -> Response {
    let unready = face.metrics.unready(false, None);
    let text = face.metrics.render(Totals::default(), &[], None, &unready);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn readyz(State(face): Face) -> Result<&'static str, Problem> {
    super::api::ready(&face.metrics.unready(false, None))
}
