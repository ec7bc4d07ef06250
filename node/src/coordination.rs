//! Wires the coordinator into the node: who may enter the room of a stream, what is told on.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, SignedToken};
use coordinator::{
    Applicant, Coordinator, Cors, Limits, MediaControl, Options, PortFuture, Ports, Rate, Refused,
    Turn, TurnSecret,
};

mod network;

pub use network::Network;

use crate::{
    admission::{Admission, AdmissionRequest, Role},
    config::{
        coordination::{CoordinatorConfig, Service, SignalLimits},
        home,
    },
    http::{admit, x402},
    metrics::RoomsSight,
    paying::Paying,
    streams::StreamName,
};

/// What the room of a stream is called before the stream's name.
const STREAM_ROOM: &str = "s:";
/// How long the node waits for its peers' connections to end: a coordinator with many closes them over
/// half a minute. Who is left then is cut off.
const DRAIN_MAX: Duration = Duration::from_secs(36);
/// Between two looks.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Longest secret of TURN servers.
const SECRET_BYTES_MAX: usize = 4096;

/// Who knows whom a stream is for.
#[derive(Clone)]
pub struct Streams {
    /// For streams of this node alone; `None`: it forwards none.
    pub admission: Option<Arc<dyn Admission>>,
    /// For streams of the chain.
    pub paying: Option<Arc<Paying>>,
}

/// The coordinator of this node, and its part in the network of its seeds, as configured.
///
/// # Errors
/// Its key or the TURN secret cannot be read.
pub fn open(
    config: &CoordinatorConfig,
    home: &Path,
    base_url: &str,
    streams: Streams,
) -> anyhow::Result<Opened> {
    if config.service == Service::Off && config.seeds.is_empty() {
        return Ok(Opened { served: None, network: None });
    }
    let key = home::coordinator_key(home)?;
    let node_id = key.node_id();
    let network = Network::new(config, key);
    let joins = config.auto_webrtc && !config.seeds.is_empty();
    let joined = joins.then(|| network.clone());
    if config.service == Service::Off {
        return Ok(Opened { served: None, network: joined });
    }
    let turn_secret = config.turn_secret.as_deref().map(read_secret).transpose()?;
    let gatherings = Arc::new(Gatherings::default());
    let options = Options {
        enabled: config.service == Service::Coordinator,
        network_id: config.network_id.clone(),
        seeds: config.seeds.clone(),
        public_url: config.public_url.clone(),
        stun_servers: config.stun.clone(),
        turn_servers: config.turn.iter().map(turn).collect(),
        turn_secret,
        mode: config.mode,
        limits: limits(&config.limits),
        cors: cors(&config.cors),
        trusted_proxies: config.trusted_proxies.clone(),
        ports: Ports {
            admission: Arc::new(Doorkeeper(streams)),
            media: gatherings.clone(),
            directory: Arc::new(network),
        },
        ..Options::new(node_id.clone())
    };
    let coordinator = Coordinator::new(options).context("the coordinator")?;
    let base = config.public_url.as_deref().unwrap_or(base_url);
    let reconnect = format!("{}/webrtc", base.trim_end_matches('/'));
    let served = Served { node_id, coordinator, gatherings, reconnect };
    Ok(Opened { served: Some(served), network: joined })
}

/// What of the configuration there is.
pub struct Opened {
    /// `None`: nothing is served.
    pub served: Option<Served>,
    /// `None`: no seed's coordinator is to be joined.
    pub network: Option<Network>,
}

/// A coordinator at work.
#[derive(Clone)]
pub struct Served {
    /// Names this node.
    pub node_id: String,
    /// Itself.
    pub coordinator: Coordinator,
    /// Who is in the rooms of streams.
    pub gatherings: Arc<Gatherings>,
    /// Where peers find this node again, as `/nodes` says it.
    reconnect: String,
}

impl Served {
    /// Everything that it answers.
    pub fn router(&self) -> axum::Router {
        self.coordinator.router().merge(self.coordinator.nodes_router())
    }

    /// How it goes, for metrics.
    pub fn sight(&self) -> RoomsSight {
        let (stream_rooms, stream_peers) = self.gatherings.count();
        RoomsSight { figures: self.coordinator.metrics(), stream_rooms, stream_peers }
    }

    /// Sends every peer away, with the address at which to come back, and waits a while for those
    /// who are still there: the coordinator spreads its closing, so that not all come at once to
    /// another one.
    pub async fn drain(&self) {
        self.coordinator.drain(&self.reconnect);
        let deadline = Instant::now() + DRAIN_MAX;
        while self.coordinator.metrics().sockets > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

/// The secret that coturn shares with this node, from a file of its owner alone.
fn read_secret(path: &Path) -> anyhow::Result<TurnSecret> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let mode = fs::metadata(path).with_context(|| format!("--turn-secret {shown}"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("--turn-secret {shown} can be read by others (mode {mode:03o}): chmod 600 it");
    }
    let text = fs::read_to_string(path).with_context(|| format!("--turn-secret {shown}"))?;
    match text.trim() {
        "" => bail!("--turn-secret {shown} is empty: write coturn's static-auth-secret into it"),
        secret if secret.len() > SECRET_BYTES_MAX => {
            bail!("--turn-secret {shown} holds more than {SECRET_BYTES_MAX} bytes: is it the file?")
        }
        secret => Ok(TurnSecret(secret.to_owned())),
    }
}

fn turn(turn: &crate::config::coordination::Turn) -> Turn {
    let (username, credential) = turn.login.clone().unzip();
    Turn { url: turn.urls.clone(), username, credential }
}

fn limits(limits: &SignalLimits) -> Limits {
    let SignalLimits {
        room_peers_max,
        peer_rooms_max,
        rooms_max,
        signals_per_second,
        joins_per_minute,
        address_connections_max,
        heartbeat_ms,
        stale_ms,
    } = *limits;
    Limits {
        room_peers_max,
        peer_rooms_max,
        rooms_max,
        signals: Rate { per_minute: signals_per_second * 60, burst: signals_per_second * 4 },
        joins: Rate { per_minute: joins_per_minute, burst: joins_per_minute * 2 },
        address_connections_max,
        heartbeat_ms: u64::from(heartbeat_ms),
        stale_ms: u64::from(stale_ms),
        ..Limits::default()
    }
}

fn cors(origins: &[String]) -> Cors {
    match origins {
        [] => Cors::None,
        origins if origins.iter().any(|origin| origin == "*") => Cors::Any,
        origins => Cors::Origins(origins.to_vec()),
    }
}

/// Lets into a stream's room whom the stream itself is for: by the chain's access where the chain
/// knows it, else by this node's own tokens.
struct Doorkeeper(Streams);

impl coordinator::Admission for Doorkeeper {
    fn admit(&self, applicant: Applicant) -> PortFuture<'_, Result<(), Refused>> {
        let streams = self.0.clone();
        Box::pin(async move {
            // The books answer from a thread of their own.
            let decided = tokio::task::spawn_blocking(move || streams.decide(&applicant)).await;
            let failed =
                |_| Err(Refused::Forbidden("the relay failed to decide; try again".into()));
            decided.unwrap_or_else(failed)
        })
    }
}

impl Streams {
    fn decide(&self, applicant: &Applicant) -> Result<(), Refused> {
        let no = |why: &str| Refused::Forbidden(why.to_owned());
        let name = applicant.room.strip_prefix(STREAM_ROOM).unwrap_or(&applicant.room);
        let name: StreamName = name
            .parse()
            .map_err(|error: crate::streams::StreamNameError| no(&error.to_string()))?;
        if let Some(paying) = &self.paying
            && let Some((stream, _)) = paying.resolve(&name)
        {
            return by_chain(paying, stream, applicant);
        }
        let Some(admission) = &self.admission else {
            return Err(no("this node forwards no streams: ask one that relays them"));
        };
        let now_ms = admit::unix_ms(SystemTime::now());
        let ask = |role| {
            admission.admit(&AdmissionRequest {
                stream: name.as_str(),
                role,
                bearer: applicant.token.as_deref(),
                peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                now_ms,
            })
        };
        match ask(Role::Subscribe).or_else(|first| ask(Role::Publish).map_err(|_| first)) {
            Ok(_) => Ok(()),
            Err(refused) => Err(no(&refused.to_string())),
        }
    }
}

fn by_chain(
    paying: &Paying,
    stream: chain_types::StreamId,
    applicant: &Applicant,
) -> Result<(), Refused> {
    let token = match applicant.token.as_deref().map(SignedToken::from_bearer) {
        None => None,
        Some(Ok(token)) => Some(token),
        Some(Err(error)) => return Err(Refused::Forbidden(error.to_string())),
    };
    // A node whose key is an account's is that account.
    let account = applicant.key.map(|key| AccountId(*key.as_bytes()));
    paying.money.meeting_allowed(stream, account, token.as_ref()).map_err(|refusal| {
        let resource = format!("/whep/{stream}");
        match x402::terms_of(&refusal, &resource, paying.chain.chain_id()) {
            Some(terms) => Refused::PaymentRequired(terms),
            None => Refused::Forbidden(refusal.to_string()),
        }
    })
}

/// Who is in the rooms of streams, for metrics; media itself is told nothing.
#[derive(Debug, Default)]
pub struct Gatherings(Mutex<BTreeMap<String, usize>>);

impl Gatherings {
    /// Rooms of streams with somebody in them, and how many are in all of these.
    pub fn count(&self) -> (usize, usize) {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (rooms.len(), rooms.values().sum())
    }
}

impl MediaControl for Gatherings {
    fn joined(&self, room: &str, node_id: &str) {
        tracing::debug!(room, node_id, "joined the room of a stream");
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *rooms.entry(room.to_owned()).or_default() += 1;
    }

    fn left(&self, room: &str, node_id: &str) {
        tracing::debug!(room, node_id, "left the room of a stream");
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = rooms.get_mut(room) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                rooms.remove(room);
            }
        }
    }
}
