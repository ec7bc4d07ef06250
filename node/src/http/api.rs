//! What the node tells about itself: live streams, status, metrics, health.

use std::time::UNIX_EPOCH;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    Http, Problem,
    pay::{self, ChainFacts},
    sdp,
};
use crate::{
    doctor::ready::Unready,
    metrics::{self, MoneySight},
    streams::StreamFacts,
};

/// An entry of `GET /api/streams`.
#[derive(Debug, Serialize)]
struct StreamEntry {
    id: String,
    title: String,
    codecs: Vec<&'static str>,
    viewers: u32,
    whep: String,
    /// What the chain says about it.
    #[serde(flatten)]
    chain: ChainFacts,
}

/// `GET /api/streams/{id}`: the entry and more.
#[derive(Debug, Serialize)]
struct StreamDetail {
    #[serde(flatten)]
    entry: StreamEntry,
    width: Option<u16>,
    height: Option<u16>,
    live_ms: u64,
    publisher_present: bool,
}

impl StreamEntry {
    fn new(http: &Http, facts: &StreamFacts) -> Self {
        Self {
            id: facts.name.to_string(),
            title: facts.title.clone(),
            codecs: facts.codecs.iter().map(|codec| codec.name()).collect(),
            viewers: facts.viewers,
            whep: format!("/whep/{}", facts.name),
            chain: ChainFacts::of(http, &facts.name),
        }
    }
}

/// Live streams by name.
pub async fn streams(State(http): State<Http>) -> Response {
    let streams = http.control.streams();
    fresh(streams.iter().map(|facts| StreamEntry::new(&http, facts)).collect::<Vec<_>>())
}

/// One live stream.
pub async fn stream(
    State(http): State<Http>,
    stream: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let asked = sdp::stream_name(stream)?;
    let name = pay::stream_of(&http, &asked).map_or(asked, |(_, _, name)| name);
    let facts = http.control.stream(&name).ok_or_else(|| {
        let message = format!("Nobody publishes {name} now; /api/streams lists what is live.");
        Problem::new(StatusCode::NOT_FOUND, "not_live", message)
    })?;
    let detail = StreamDetail {
        entry: StreamEntry::new(&http, &facts),
        width: facts.size.map(|(width, _)| width),
        height: facts.size.map(|(_, height)| height),
        live_ms: u64::try_from(facts.live_for.as_millis()).unwrap_or(u64::MAX),
        publisher_present: facts.publisher_present,
    };
    Ok(fresh(detail))
}

/// What runs here.
pub async fn status(State(http): State<Http>) -> Response {
    #[derive(Serialize)]
    struct Status<'a> {
        version: &'a str,
        link: &'a str,
        shards: usize,
        udp_port: u16,
        started_ms: u64,
        open: bool,
    }
    let about = &http.about;
    let started = about.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    fresh(Status {
        version: about.version,
        link: &about.link,
        shards: about.shards,
        udp_port: about.udp_port,
        started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        open: about.open,
    })
}

/// Prometheus' text format.
pub async fn metrics(State(http): State<Http>) -> Response {
    let money = money(&http).await;
    let (totals, shards) = (http.control.totals(), http.control.relay().counters());
    let unready = http.metrics.unready(http.control.is_draining(), money.as_ref());
    let text = http.metrics.render(totals, &shards, money.as_ref(), &unready);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn money(http: &Http) -> Option<MoneySight> {
    let paying = http.paying.clone()?;
    // The books answer from a thread of their own.
    tokio::task::spawn_blocking(move || paying.sight()).await.ok()
}

/// The process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// New sessions are well taken here.
pub async fn readyz(State(http): State<Http>) -> Result<&'static str, Problem> {
    let money = money(&http).await;
    ready(&http.metrics.unready(http.control.is_draining(), money.as_ref()))
}

/// The answer of `/readyz`: every reason in words, the weightiest one as its code.
pub fn ready(unready: &[Unready]) -> Result<&'static str, Problem> {
    let Some(first) = unready.first() else { return Ok("ready\n") };
    let sentences: Vec<_> = unready.iter().map(|unready| unready.sentence.as_str()).collect();
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, first.reason.code(), sentences.join(" ")))
}

/// The local authority's certificate, for a phone to trust.
pub async fn ca(State(http): State<Http>) -> Result<Response, Problem> {
    let pem = http.about.ca_pem.clone().ok_or_else(|| {
        let message = "This relay has no authority of its own; start it with --lan for one.";
        Problem::new(StatusCode::NOT_FOUND, "no_ca", message)
    })?;
    // The type that makes a phone offer to install it.
    Ok(([(header::CONTENT_TYPE, "application/x-x509-ca-cert")], pem).into_response())
}

pub fn fresh(value: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}
