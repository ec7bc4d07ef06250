//! CometBFT 0.38's RPC over the embedded engine: GET, POST, batch and WebSocket.

mod chain;
mod consensus;
mod envelope;
mod error;
mod failures;
mod info;
mod methods;
mod params;
mod request;
mod search;
mod shape;
mod txs;
mod websocket;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::engine::Engine;
use envelope::envelope;
use error::RpcError;
use methods::Methods;
use params::Params;
use request::answer_body;

/// Longest request body in bytes; CometBFT has the same bound.
pub const BODY_BYTES_MAX: usize = 1_000_000;

/// Requests in one batch.
pub const BATCH_REQUESTS_MAX: usize = 100;

/// CometBFT's id of a call that came as a URI.
const URI_ID: i64 = -1;

/// The routes of the RPC, for `/` of a listener or nested under a path.
pub fn router(engine: Engine) -> Router {
    let websockets = websocket::Websockets::new(Methods::new(engine.clone()));
    Router::new()
        .route("/websocket", get(websocket::upgrade))
        .with_state(websockets)
        .merge(
            Router::new()
                .route("/", get(listing).post(post))
                .route("/{method}", get(get_method))
                .with_state(Methods::new(engine)),
        )
        .layer(middleware::from_fn(cors))
}

/// Anybody's page may read the chain and broadcast: no answer depends on who asks.
pub async fn cors(request: Request<Body>, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = match preflight {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, OPTIONS"),
        );
        headers
            .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
    }
    response
}

async fn listing() -> String {
    methods::listing()
}

async fn get_method(
    State(methods): State<Methods>,
    Path(method): Path<String>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let answer = match query {
        Ok(Query(pairs)) => methods.call(&method, Params::Uri(pairs)).await,
        Err(_) => Err(RpcError::invalid_params("the query string cannot be decoded")),
    };
    // CometBFT answers a failed URI call with an error status, a failed POST call with 200.
    let status = match &answer {
        Ok(_) => StatusCode::OK,
        Err(error) if error.code == -32601 => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    json_response(status, &envelope(json!(URI_ID), answer))
}

async fn post(State(methods): State<Methods>, request: Request<Body>) -> Response {
    let Ok(body) = to_bytes(request.into_body(), BODY_BYTES_MAX).await else {
        let error = RpcError::invalid_request(format!(
            "error reading request body: at most {BODY_BYTES_MAX} bytes are read"
        ));
        return json_response(StatusCode::BAD_REQUEST, &envelope(Value::Null, Err(error)));
    };
    if body.is_empty() {
        return methods::listing().into_response();
    }
    match answer_body(&methods, &body).await {
        Ok(Some(answer)) => json_response(StatusCode::OK, &answer),
        // Notifications have no answer.
        Ok(None) => StatusCode::OK.into_response(),
        Err(error) => {
            let status = match error.code {
                -32700 => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            json_response(status, &envelope(Value::Null, Err(error)))
        }
    }
}

fn json_response(status: StatusCode, answer: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
