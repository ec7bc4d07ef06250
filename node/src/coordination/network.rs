//! A node with a seed is a peer of its network: it joins where its seed says, and says so in
//! `/nodes`.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use coordinator::{Directory, identity::NodeKey};
use peer::{
    event::Event,
    signal::{Backoff, Entrance, Membership, SignalError, Transport},
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

    /// Joins again and again: the seed may come up later than this node.
    async fn stay(&self, place: usize) {
        let Some(seed) = self.seeds.get(place) else { return };
        let url = &seed.url;
        let mut backoff = Backoff::default();
        let mut has_warned = false;
        loop {
            let mut has_joined = false;
            let end = self.join_once(seed, &mut has_joined).await;
            seed.set(|standing| *standing = Standing::default());
            if has_joined {
                backoff.reset();
                has_warned = false;
            }
            let why = match end {
                Ok(Some(SignalError::Replaced)) => {
                    let error = SignalError::Replaced;
                    tracing::warn!(seed = %url, %error, "the network of this seed is left");
                    return;
                }
                Ok(Some(error)) => error.to_string(),
                Ok(None) => "the connection has ended".to_owned(),
                Err(error) => error.to_string(),
            };
            let wait = backoff.next_wait(None, &mut rand::rng());
            // Once for each time that it is lost, however long that takes.
            if std::mem::replace(&mut has_warned, true) {
                tracing::debug!(seed = %url, why, ?wait, "the seed's network is still not joined");
            } else {
                tracing::warn!(seed = %url, why, "the network of this seed is not joined; trying again");
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Is a member until the peer ends; gives the refusal it ended with.
    async fn join_once(
        &self,
        seed: &Seed,
        has_joined: &mut bool,
    ) -> io::Result<Option<SignalError>> {
        let url = &seed.url;
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
        // The handle lives as long as the events are read: dropped, it would leave.
        let (_peer, mut events, _driver) = Peer::start(options).await?;
        let mut refusal = None;
        while let Some(event) = events.recv().await {
            match event {
                Event::Joined { .. } => {
                    *has_joined = true;
                    seed.set(|standing| standing.is_joined = true);
                    tracing::info!(seed = %url, "joined the seed's coordinator");
                }
                Event::CoordinatorLost { why, .. } => {
                    seed.set(|standing| standing.is_joined = false);
                    tracing::debug!(seed = %url, why, "the seed's coordinator is lost");
                }
                Event::Connected { id, is_verified, .. } => {
                    seed.set(|standing| standing.channels += 1);
                    tracing::debug!(seed = %url, id, is_verified, "a channel is open");
                }
                Event::Disconnected { was_open: true, id, .. } => {
                    seed.set(|standing| standing.channels = standing.channels.saturating_sub(1));
                    tracing::debug!(seed = %url, id, "a channel is closed");
                }
                Event::Refused(error) => {
                    seed.set(|standing| standing.is_joined = false);
                    refusal = Some(error);
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
        Ok(refusal)
    }
}

impl Seed {
    fn set(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner));
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

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    fn network(url: String) -> Network {
        let seed = Seed { url, standing: Mutex::default() };
        Network { key: NodeKey::from_seed([7; 32]), seeds: Arc::new([seed]) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_seed_that_comes_up_later_than_the_node_is_joined() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = network(format!("http://{}", listener.local_addr().unwrap()));
        network.join();
        // So far whoever asks is hung up on.
        for _ in 0..2 {
            let asked = tokio::time::timeout(WITHIN, listener.accept()).await;
            drop(asked.expect("the node asks again").unwrap());
            assert!(network.outbound().is_empty());
        }
        let coordinator = coordinator::Coordinator::new(coordinator::Options::new("seed")).unwrap();
        let app = coordinator.router().merge(coordinator.nodes_router());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let joined = async {
            while network.outbound().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WITHIN, joined).await.expect("the node joins");
        assert_eq!(network.outbound()[0]["room"], ROOM);
    }
}
