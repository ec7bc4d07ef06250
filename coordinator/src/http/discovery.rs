//! What anybody may ask: who this node is, and what its coordinator offers.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::{Asked, json_response, refuse};
use crate::answers::json;
use crate::coordinator::Coordinator;
use crate::turn::turn_servers;
use crate::wire::{Health, Info, Nodes, Webrtc};

/// Custom rooms that `/webrtc/info` names at most.
const ROOMS_SHOWN_MAX: usize = 1_000;

/// `GET /webrtc/info`.
pub async fn handle_info(State(coordinator): State<Coordinator>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = match Asked::new(&coordinator, &parts) {
        Ok(asked) => asked,
        Err(refusal) => return refuse(&coordinator, &parts.headers, &refusal),
    };
    let options = coordinator.options();
    let extended = asked.query("v") == Some("1");
    let info = Info {
        enabled: true,
        node_id: options.node_id.clone(),
        rooms: coordinator.state().rooms(ROOMS_SHOWN_MAX),
        peer_count: coordinator.state().counts().peers,
        stun_servers: options.stun_servers.clone(),
        turn_servers: turn_servers(options),
        websocket_url: Urls::of(&coordinator, &parts.headers).websocket,
        http_fallback: true,
        network_id: extended.then(|| options.network_id().to_owned()),
        mode: extended.then(|| options.mode.as_str().to_owned()),
        heartbeat_ms: extended.then_some(options.limits.heartbeat_ms),
        stale_ms: extended.then_some(options.limits.stale_ms),
        version: extended.then_some(1),
    };
    json_response(&parts.headers, StatusCode::OK, json(&info))
}

/// `GET /webrtc/health`: 200 while joins are taken, 503 while it drains.
pub(super) async fn handle_health(
    State(coordinator): State<Coordinator>,
    headers: HeaderMap,
) -> Response {
    let (status, text) = if coordinator.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    json_response(&headers, status, json(&Health { status: text.to_owned() }))
}

/// `GET /nodes`.
pub(super) async fn handle_nodes(
    State(coordinator): State<Coordinator>,
    headers: HeaderMap,
) -> Response {
    let options = coordinator.options();
    let directory = &options.ports.directory;
    let mut seeds = options.seeds.clone();
    for seed in directory.seeds() {
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    let webrtc = if options.enabled {
        let urls = Urls::of(&coordinator, &headers);
        Webrtc {
            enabled: true,
            coordinator_url: Some(urls.coordinator),
            websocket_url: Some(urls.websocket),
            stun_servers: Some(options.stun_servers.clone()),
            turn_servers: Some(turn_servers(options)),
        }
    } else {
        Webrtc::default()
    };
    let nodes = Nodes {
        node_id: options.node_id.clone(),
        network_id: options.network_id().to_owned(),
        seeds,
        webrtc,
        outbound: directory.outbound(),
        inbound: directory.inbound(),
        uptime: coordinator.uptime_s(),
    };
    json_response(&headers, StatusCode::OK, json(&nodes))
}

/// Where clients find the coordinator: where they are told to, or where they asked.
struct Urls {
    coordinator: String,
    websocket: String,
}

impl Urls {
    fn of(coordinator: &Coordinator, headers: &HeaderMap) -> Self {
        let text =
            |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let base = match &coordinator.options().public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                // What the client said is told to the client alone.
                let scheme = match text("x-forwarded-proto") {
                    Some("https") => "https",
                    _ => "http",
                };
                format!("{scheme}://{}", text(header::HOST.as_str()).unwrap_or("localhost"))
            }
        };
        let websocket = format!("ws{}/webrtc/signal", base.trim_start_matches("http"));
        Self { coordinator: format!("{base}/webrtc"), websocket }
    }
}
