//! The HTTP edge: routes, who asks, bodies, origins, and how an answer leaves.

mod calls;
mod discovery;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::answers;
use crate::coordinator::Coordinator;
use crate::error::Refusal;
use crate::limits::{BODY_READ_MS_MAX, COMPRESS_ABOVE_BYTES};
use crate::options::Cors;
use crate::proxies::client_of;
use crate::wire::Code;
use crate::ws::deflate;
use crate::ws::upgrade::handle_websocket;

pub use calls::{handle_join, handle_leave, handle_peers, handle_poll, handle_signal};
pub use discovery::handle_info;

/// `/webrtc/`, and 404 below it for all else.
pub(crate) fn router(coordinator: Coordinator) -> Router {
    let nothing = Router::new()
        .route("/webrtc", any(handle_unknown))
        .route("/webrtc/", any(handle_unknown))
        .route("/webrtc/{*rest}", any(handle_unknown));
    let router = if coordinator.options().enabled {
        nothing
            .route("/webrtc/info", get(handle_info))
            .route("/webrtc/health", get(discovery::handle_health))
            .route("/webrtc/join", post(handle_join))
            .route("/webrtc/signal", get(handle_signal_get).post(handle_signal))
            .route("/webrtc/leave", post(handle_leave))
            .route("/webrtc/peers", get(handle_peers))
            .route("/webrtc/auth", post(calls::handle_auth))
            .route("/webrtc/rooms", post(calls::handle_rooms))
            .route("/webrtc/invite", post(calls::handle_invite))
    } else {
        nothing
    };
    finish(router, coordinator)
}

/// `/nodes`.
pub(crate) fn nodes_router(coordinator: Coordinator) -> Router {
    finish(Router::new().route("/nodes", get(discovery::handle_nodes)), coordinator)
}

/// What is the same for every path.
fn finish(router: Router<Coordinator>, coordinator: Coordinator) -> Router {
    router
        .method_not_allowed_fallback(handle_other_method)
        .layer(from_fn_with_state(coordinator.clone(), origins))
        .with_state(coordinator)
}

/// One path, two protocols: an upgrade is a WebSocket, anything else a poll.
async fn handle_signal_get(state: State<Coordinator>, request: Request) -> Response {
    if request.headers().contains_key(header::UPGRADE) {
        return handle_websocket(state, request).await;
    }
    handle_poll(state, request).await
}

async fn handle_unknown(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let sentence = "there is no such path; docs/coordinator.md lists them";
    refuse(&coordinator, request.headers(), &Refusal::new(Code::NotFound, sentence))
}

/// The answer names the right methods in `Allow`.
async fn handle_other_method(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let sentence = "this path takes another method; docs/coordinator.md lists them";
    let mut response = refuse(&coordinator, request.headers(), &Refusal::bad_request(sentence));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Says which pages may read the answer, and answers their preflights.
async fn origins(State(coordinator): State<Coordinator>, request: Request, next: Next) -> Response {
    coordinator.wake_up();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = match (&coordinator.options().cors, origin) {
        (Cors::None, _) => None,
        (Cors::Any, _) => Some(HeaderValue::from_static("*")),
        (Cors::Origins(origins), Some(origin)) => {
            origins.iter().any(|allowed| origin == allowed.as_str()).then_some(origin)
        }
        (Cors::Origins(_), None) => None,
    };
    let preflight = request.method() == Method::OPTIONS;
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if preflight {
            let methods = HeaderValue::from_static("GET, POST");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let allowed = HeaderValue::from_static("authorization, content-type");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

/// Who asks, and for what: a request without its body.
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) address: Option<IpAddr>,
    query: HashMap<String, String>,
}

impl Asked {
    pub(crate) fn new(coordinator: &Coordinator, parts: &Parts) -> Result<Self, Refusal> {
        let Query(query) = Query::try_from_uri(&parts.uri)
            .map_err(|_| Refusal::bad_request("the query is not of the form key=value&..."))?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self {
            headers: parts.headers.clone(),
            address: address.map(|ConnectInfo(peer)| {
                client_of(&coordinator.options().trusted_proxies, peer.ip(), &parts.headers)
            }),
            query,
        })
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, Refusal> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Refusal::bad_request(format!("`{key}` must be a number")))
        };
        self.query(key).map(parse).transpose()
    }

    fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// The bearer token that has a session's form.
    pub(crate) fn session(&self) -> Option<&str> {
        self.bearer().filter(|token| is_session(token))
    }

    /// The bearer token that has another, which a stream's admission may know.
    pub(crate) fn token(&self) -> Option<String> {
        self.bearer().filter(|token| !is_session(token)).map(str::to_owned)
    }
}

fn is_session(token: &str) -> bool {
    token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The body as text, of at most so many bytes and within a while.
pub(crate) async fn text_of(body: Body, bytes_max: usize) -> Result<String, Refusal> {
    let arrived =
        tokio::time::timeout(Duration::from_millis(BODY_READ_MS_MAX), to_bytes(body, bytes_max));
    let bytes = arrived
        .await
        .map_err(|_| Refusal::bad_request("the body did not arrive in time"))?
        .map_err(|_| Refusal::too_large("the body", bytes_max))?;
    String::from_utf8(bytes.into()).map_err(|_| Refusal::bad_request("the body is not UTF-8"))
}

/// Runs a call and writes what it answers: JSON, or a refusal.
pub(crate) async fn answer(
    coordinator: &Coordinator,
    headers: &HeaderMap,
    call: impl Future<Output = Result<String, Refusal>>,
) -> Response {
    match call.await {
        Ok(json) => json_response(headers, StatusCode::OK, json),
        Err(refusal) => refuse(coordinator, headers, &refusal),
    }
}

/// A refusal as the document's table says it.
pub(crate) fn refuse(
    coordinator: &Coordinator,
    headers: &HeaderMap,
    refusal: &Refusal,
) -> Response {
    coordinator.refused(refusal);
    let status = StatusCode::from_u16(refusal.code.status()).expect("the table has valid numbers");
    let mut response = json_response(headers, status, answers::http_error(refusal));
    if let Some(wait_ms) = refusal.retry_after_ms {
        let seconds = HeaderValue::from(wait_ms.div_ceil(1_000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

pub(crate) fn json_response(headers: &HeaderMap, status: StatusCode, json: String) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let accepts = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|coding| coding.trim() == "gzip"));
    if accepts
        && json.len() > COMPRESS_ABOVE_BYTES
        && let Some(body) = deflate::gzip(json.as_bytes())
    {
        let coding = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (status, [kind, fresh, coding], body).into_response();
    }
    (status, [kind, fresh], json).into_response()
}
