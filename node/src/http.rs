//! The HTTP face: pages, WHIP (RFC 9725), WHEP (draft-ietf-wish-whep), the JSON API and `/metrics`.
//!
//! Every answer that is no success says what to do next, as JSON ([`Problem`]). Nothing here panics
//! on any request; `http/tests.rs` holds that with arbitrary ones.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use chain_types::SigningKey;

use crate::{
    admission::{Admission, Grants},
    metrics::Metrics,
    paying::Paying,
    relay_control::Control,
};

pub mod admit;
mod api;
mod body;
pub mod chain_only;
mod grant;
mod origin;
mod pay;
mod problem;
mod revoke;
pub mod rooms_only;
mod sdp;
mod sdpfrag;
mod session;
pub mod x402;

pub use problem::Problem;

/// What the node says about itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Version of the program.
    pub version: &'static str,
    /// The link in use: `io_uring` or `epoll`.
    pub link: String,
    /// Shards that run.
    pub shards: usize,
    /// The one UDP port of media.
    pub udp_port: u16,
    /// Start of the process.
    pub started: SystemTime,
    /// Nobody needs a token.
    pub open: bool,
    /// HTTP listens on a loopback address only.
    pub loopback: bool,
    /// PEM of the local authority, with `--lan`.
    pub ca_pem: Option<String>,
}

/// Who is let in, and by whose word.
#[derive(Clone)]
pub struct Access {
    /// Asked for every session.
    pub admission: Arc<dyn Admission>,
    /// The same, where it takes revocations; `None` on an open relay.
    pub grants: Option<Arc<Grants>>,
    /// Signs what `/api/grant` gives to the node's own pages.
    pub issuer: SigningKey,
}

/// What the handlers share.
#[derive(Clone)]
pub struct Http {
    control: Arc<Control>,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    about: Arc<About>,
    paying: Option<Arc<Paying>>,
}

/// The whole HTTP face; with `paying` streams of the chain too, and the chain's RPC under `/rpc`.
pub fn router(
    control: Arc<Control>,
    access: Access,
    metrics: Arc<Metrics>,
    about: About,
    paying: Option<Arc<Paying>>,
) -> Router {
    let rpc = paying.as_ref().map(|paying| paying.chain.rpc_router());
    let access = Arc::new(access);
    let http = Http { control, access, metrics, about: Arc::new(about), paying };
    // Any origin may publish and watch: what it needs is a token, and no cookie exists.
    let shared = Router::new()
        .route("/whip/{stream}", post(sdp::whip))
        .route("/whep/{stream}", post(sdp::whep))
        .route("/session/{resource}", axum::routing::patch(session::patch).delete(session::delete))
        .route("/session/{resource}/pay", post(pay::frames))
        .route("/api/chain", get(pay::chain))
        .route("/api/earnings/{stream}", get(pay::earnings))
        .route("/api/streams", get(api::streams))
        .route("/api/streams/{stream}", get(api::stream))
        .route("/api/status", get(api::status))
        // Before the layer, which answers OPTIONS in its place.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(cross_origin));
    let router = Router::new()
        .merge(shared)
        .route("/api/faucet", post(pay::faucet))
        .route("/api/grant", get(grant::grant))
        .route("/api/admin/revoke", post(revoke::revoke))
        .route("/metrics", get(api::metrics))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/ca.crt", get(api::ca))
        .fallback(page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(http.clone(), observe))
        .with_state(http);
    match rpc {
        Some(rpc) => router.nest("/rpc", rpc),
        None => router,
    }
}

/// Pages and their parts, each under the path that the `web` crate gives it.
async fn page(method: Method, request: Request) -> Response {
    let Some(asset) = web::asset(request.uri().path()) else {
        return Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing here; the start page is at /.",
        )
        .into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        let mut response = method_not_allowed().await.into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::ETAG, asset.etag),
        // Kept, but asked about each time: a new binary brings new pages.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if is_known(request.headers(), asset.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(asset.bytes) };
    let length = asset.bytes.len();
    (headers, [(header::CONTENT_LENGTH, length)], body).into_response()
}

/// `If-None-Match` by weak comparison (RFC 9110 §13.1.2).
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag)
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This address takes other methods; see the Allow header.",
    )
}

/// CORS (Fetch standard §3.3) for what any page may use, preflight included.
async fn cross_origin(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        // RFC 9725 §4.2: how a client learns what it may post.
        (StatusCode::NO_CONTENT, [("accept-post", sdp::SDP)]).into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match, Payment-Signature",
        ),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Location, Link, ETag, WWW-Authenticate, Accept-Patch, Retry-After, Payment-Required, \
             Payment-Response",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Counts by route template, and adds the headers that every answer carries.
async fn observe(State(http): State<Http>, request: Request, next: Next) -> Response {
    let begun = std::time::Instant::now();
    // The template, never the path: a label must be bounded.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("page", MatchedPath::as_str);
    http.metrics.http_request(route, response.status().as_u16(), begun.elapsed());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, web::CONTENT_SECURITY_POLICY),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
