//! A node with a seed is a peer of its network: it joins where its seed says, and says so in
//! `/nodes`.

use std::sync::{Arc, Mutex, PoisonError};

use coordinator::{Directory, identity::NodeKey};
use peer::{
    event::Event,
    signal::{Entrance, Membership, Transport},
    task::{Options, Peer},
};
use serde_json::{Value, json};

use crate::config::coordination::CoordinatorConfig;

/// The room in which a network's nodes announce what concerns all.
const ROOM: &str = "global";

/// The seeds, and how the way to each stands.
#[derive(Clone)]
pub struct Network {
    key: NodeKey,
    seeds: Arc<[Seed]>,
}

struct Seed {
    url: String,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    is_joined: bool,
    channels: usize,
}

impl Network {
    /// Of the seeds that are configured; joined by [`Network::join`].
    pub fn new(config: &CoordinatorConfig, key: NodeKey) -> Self {
        let seed = |url: &String| Seed { url: url.clone(), standing: Mutex::default() };
        Self { key, seeds: config.seeds.iter().map(seed).collect() }
    }

    /// Joins the coordinator of each seed, and stays. Must be called within a tokio runtime, with
    /// which it ends.
    pub fn join(&self) {
        for place in 0..self.seeds.len() {
            let network = self.clone();
            tokio::spawn(async move { network.stay(place).await });
        }
    }

    async fn stay(&self, place: usize) {
        let Some(Seed { url, standing }) = self.seeds.get(place) else { return };
        let membership = Membership {
            entrance: Entrance::Seed(url.clone()),
            transport: Transport::Auto,
            room: ROOM.to_owned(),
            name: self.key.node_id(),
            key: self.key.clone(),
            invite: None,
        };
        let options = Options {
            membership,
            servers: Vec::new(),
            bind: Vec::new(),
            is_relay_only: false,
            must_verify: false,
        };
        // The handle lives as long as the task: dropped, it would leave.
        let (_peer, mut events, _driver) = match Peer::start(options).await {
            Ok(started) => started,
            Err(error) => {
                tracing::warn!(seed = %url, %error, "the network of this seed cannot be joined");
                return;
            }
        };
        while let Some(event) = events.recv().await {
            let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Joined { .. } => {
                    standing.is_joined = true;
                    tracing::info!(seed = %url, "joined the seed's coordinator");
                }
                Event::CoordinatorLost { why, .. } => {
                    standing.is_joined = false;
                    tracing::debug!(seed = %url, why, "the seed's coordinator is lost");
                }
                Event::Connected { id, is_verified, .. } => {
                    standing.channels += 1;
                    tracing::debug!(seed = %url, id, is_verified, "a channel is open");
                }
                Event::Disconnected { was_open: true, id, .. } => {
                    standing.channels = standing.channels.saturating_sub(1);
                    tracing::debug!(seed = %url, id, "a channel is closed");
                }
                Event::Refused(error) => {
                    standing.is_joined = false;
                    tracing::warn!(seed = %url, "the seed's coordinator refuses this node: {error}");
                }
                Event::Warning(words) => tracing::debug!(seed = %url, "{words}"),
                // What others say is for applications, of which a relay is none.
                Event::Disconnected { was_open: false, .. }
                | Event::PeerJoined { .. }
                | Event::PeerLeft { .. }
                | Event::Message { .. }
                | Event::Raw { .. } => {}
            }
        }
        standing.lock().unwrap_or_else(PoisonError::into_inner).is_joined = false;
    }
}

impl Directory for Network {
    fn seeds(&self) -> Vec<String> {
        // Those of the configuration are told already.
        Vec::new()
    }

    fn outbound(&self) -> Vec<Value> {
        let of = |seed: &Seed| {
            let standing = *seed.standing.lock().unwrap_or_else(PoisonError::into_inner);
            standing
                .is_joined
                .then(|| json!({"url": seed.url, "room": ROOM, "channels": standing.channels}))
        };
        self.seeds.iter().filter_map(of).collect()
    }

    fn inbound(&self) -> Vec<Value> {
        // Who joins here is a peer; which of them are nodes they do not say.
        Vec::new()
    }
}
