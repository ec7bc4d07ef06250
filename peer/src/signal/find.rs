//! Where the coordinator is: what a seed's `/nodes` says, or the coordinator itself.

use std::time::Duration;

use coordinator::wire::{IceServer, Info, Nodes};

use super::{HttpError, SignalError, http::HttpClient};

const WITHIN: Duration = Duration::from_secs(10);

/// What is known at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// A node's URL, as `http://host:port`.
    Seed(String),
    /// The coordinator's, with or without `/webrtc`.
    Coordinator(String),
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What every HTTP call begins with.
    pub url: String,
    /// Where the WebSocket is.
    pub websocket_url: String,
    /// What joins sign.
    pub network_id: String,
    /// STUN and TURN servers that everybody is told.
    pub ice_servers: Vec<IceServer>,
}

/// Asks.
///
/// # Errors
/// [`SignalError::Unreachable`], [`SignalError::Disabled`].
pub async fn find(entrance: &Entrance) -> Result<Found, SignalError> {
    match entrance {
        Entrance::Seed(url) => {
            let answer = HttpClient::new(url)?.get("/nodes", None, WITHIN).await?;
            let nodes: Nodes = answer.json()?;
            let webrtc = nodes.webrtc;
            let urls = webrtc.coordinator_url.zip(webrtc.websocket_url);
            let Some((coordinator_url, websocket_url)) = urls.filter(|_| webrtc.enabled) else {
                return Err(SignalError::Disabled { url: url.clone() });
            };
            Ok(Found {
                url: coordinator_url.trim_end_matches('/').to_owned(),
                websocket_url,
                network_id: nodes.network_id,
                ice_servers: ice_servers(
                    webrtc.stun_servers.unwrap_or_default(),
                    webrtc.turn_servers.unwrap_or_default(),
                ),
            })
        }
        Entrance::Coordinator(url) => {
            let trimmed = url.trim_end_matches('/');
            let base = match trimmed.ends_with("/webrtc") {
                true => trimmed.to_owned(),
                false => format!("{trimmed}/webrtc"),
            };
            let answer = HttpClient::new(&base)?.get("/info?v=1", None, WITHIN).await?;
            if answer.status.as_u16() == 404 {
                return Err(SignalError::Disabled { url: url.clone() });
            }
            let info: Info = answer.json()?;
            let why = "it names no networkId".to_owned();
            let network_id = info.network_id.ok_or(HttpError::Answer { url: url.clone(), why })?;
            Ok(Found {
                url: base,
                websocket_url: info.websocket_url,
                network_id,
                ice_servers: ice_servers(info.stun_servers, info.turn_servers),
            })
        }
    }
}

/// R83: a STUN server's URL becomes an object as `RTCPeerConnection` takes it.
fn ice_servers(stun: Vec<String>, turn: Vec<IceServer>) -> Vec<IceServer> {
    let stun = stun.into_iter().map(|urls| IceServer { urls, username: None, credential: None });
    stun.chain(turn).collect()
}
