//! `/rpc` of a node whose blocks a CometBFT makes: its RPC, passed on.
//!
//! Pages and wallets ask their relay, wherever the chain's RPC is. The first endpoint that answers
//! is taken, so that the loss of one is not the loss of the pages.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{
        Request, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite;

/// Longest request body, as CometBFT has it.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Longest answer that is passed on.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// How long an endpoint may take; `broadcast_tx_commit` waits for a block.
const ANSWER_MAX: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Upstream {
    /// Without a slash at the end.
    endpoints: Arc<Vec<String>>,
    agent: ureq::Agent,
}

/// Routes that pass everything on to `endpoints`, `http://…` without a slash at the end.
pub fn router(endpoints: Vec<String>) -> Router {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_MAX))
        // CometBFT says what is wrong in the body of a 500.
        .http_status_as_error(false)
        .build()
        .new_agent();
    let upstream = Upstream { endpoints: Arc::new(endpoints), agent };
    Router::new()
        .route("/websocket", get(websocket))
        // Nested under a path, that path itself is no business of a fallback.
        .route("/", any(forward))
        .fallback(forward)
        .layer(middleware::from_fn(consensus_abci::rpc::cors))
        .with_state(upstream)
}

async fn forward(State(upstream): State<Upstream>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::GET && parts.method != Method::POST {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "the chain's RPC takes GET and POST");
    }
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        let sentence = format!("at most {BODY_BYTES_MAX} bytes are read");
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, &sentence);
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let is_post = parts.method == Method::POST;
    let asked = tokio::task::spawn_blocking(move || {
        let mut last = String::new();
        for endpoint in upstream.endpoints.iter() {
            match ask(&upstream.agent, &format!("{endpoint}{path}"), is_post.then_some(&body)) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = format!("{endpoint}: {error}"),
            }
        }
        Err(last)
    });
    match asked.await {
        Ok(Ok((status, content_type, bytes))) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, [(header::CONTENT_TYPE, content_type)], bytes).into_response()
        }
        Ok(Err(sentence)) => refusal(
            StatusCode::BAD_GATEWAY,
            &format!("the chain's RPC does not answer: {sentence}"),
        ),
        Err(_) => refusal(StatusCode::BAD_GATEWAY, "the question to the chain's RPC failed"),
    }
}

/// Status, content type, body.
type Answer = (u16, String, Vec<u8>);

fn ask(agent: &ureq::Agent, url: &str, body: Option<&bytes::Bytes>) -> Result<Answer, ureq::Error> {
    let mut answer = match body {
        Some(body) => agent.post(url).content_type("application/json").send(&body[..])?,
        None => agent.get(url).call()?,
    };
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("application/json").to_owned();
    let status = answer.status().as_u16();
    let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
    Ok((status, content_type, bytes))
}

/// As a JSON-RPC client expects it.
fn refusal(status: StatusCode, sentence: &str) -> Response {
    let error = json!({"code": -32603, "message": "Internal error", "data": sentence});
    let body = json!({"jsonrpc": "2.0", "id": null, "error": error});
    (status, axum::Json(body)).into_response()
}

async fn websocket(
    State(upstream): State<Upstream>,
    upgrade: WebSocketUpgrade,
    _: Request<Body>,
) -> Response {
    for endpoint in upstream.endpoints.iter() {
        // Without TLS only: pages poll where there are no events.
        let Some(rest) = endpoint.strip_prefix("http://") else { continue };
        let url = format!("ws://{rest}/websocket");
        if let Ok((stream, _)) = tokio_tungstenite::connect_async(url).await {
            return upgrade.on_upgrade(move |page| bridge(page, stream));
        }
    }
    refusal(StatusCode::BAD_GATEWAY, "no RPC endpoint of the chain gives events here: poll instead")
}

/// Carries text and pings both ways until one side ends.
async fn bridge(
    page: WebSocket,
    node: tokio_tungstenite::WebSocketStream<
        tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>,
    >,
) {
    let (mut to_page, mut from_page) = page.split();
    let (mut to_node, mut from_node) = node.split();
    let down = async {
        while let Some(Ok(message)) = from_node.next().await {
            let message = match message {
                tungstenite::Message::Text(text) => Message::Text(text.as_str().into()),
                tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
                tungstenite::Message::Close(_) => break,
                // Answered by the library on this side, and asked anew by axum on the other.
                _ => continue,
            };
            if to_page.send(message).await.is_err() {
                break;
            }
        }
    };
    let up = async {
        while let Some(Ok(message)) = from_page.next().await {
            let message = match message {
                Message::Text(text) => tungstenite::Message::Text(text.as_str().into()),
                Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
                Message::Close(_) => break,
                _ => continue,
            };
            if to_node.send(message).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}
