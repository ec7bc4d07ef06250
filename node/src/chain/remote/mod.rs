//! A chain that others keep: followed by verified headers, read by proofs, without a state.
//!
//! No endpoint is believed. Headers verify from a trusted one on, and another endpoint must have the
//! same; values come with proofs under a header's app hash; results stand behind the next header.
//! What nobody signs is which keys changed: there, what one endpoint leaves out another one tells.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use axum::Router;
use chain_types::{
    Account, AccountId, BlockDelta, Params, RelayRecord, StateKey, StreamId, StreamMetadata,
};
use comet::rpc::{Broadcaster, Client, Genesis, RpcError, RpcUrl};
use crossbeam_channel::{Receiver, Sender, bounded};
use light::{LightClient, LightError, Provider, Terms, Trust};
use settlement::{Chain, ChainError, Snapshot, SubmitError};
use tendermint::{Hash, Time, block::Height};

use super::{Head, NodeChain, proxy};
use crate::{
    config::chain as config,
    metrics::{EngineKind, EngineSight},
};

mod blocks;
mod endpoint;
mod follower;
mod kept;
mod records;
#[cfg(test)]
mod tests;

use endpoint::Endpoint;
use follower::{Follower, Shared};

/// Between two attempts to reach a chain for the first time.
const BEGIN_AGAIN: Duration = Duration::from_millis(500);
/// Between two lines about it.
const REMINDER: Duration = Duration::from_secs(10);
/// Connections by which transactions go out in bulk.
const BROADCAST_CONNECTIONS: usize = 4;
/// Transactions that wait for them; more go by the one that is asked first.
const BROADCAST_MAX: usize = 4096;

/// The chain behind some RPC endpoints, followed as long as this lives.
pub struct RemoteChain {
    chain_id: String,
    shared: Arc<Shared>,
    broadcaster: Broadcaster,
    /// Whom to ask first for the next transaction.
    turn: AtomicUsize,
    /// The threads end with it.
    alive: Mutex<Option<Sender<Infallible>>>,
}

impl RemoteChain {
    /// Follows the chain behind `chain_rpc`, from what is trusted on: headers kept from
    /// before, a given one, the validators of `config/genesis.json`, or what two endpoints agree on.
    /// Waits until there is somebody to begin with; with headers from before it waits for nobody.
    ///
    /// # Errors
    /// What is wrong with the configuration, the trust or the endpoints, and what to do.
    pub fn open(
        home: &Path,
        chain_rpc: &[String],
        trust: Option<config::Trust>,
    ) -> anyhow::Result<Self> {
        let mut endpoints = Vec::new();
        for url in chain_rpc {
            let url: RpcUrl = url.parse()?;
            endpoints.push(Arc::new(Endpoint::new(url)));
        }
        let urls: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint.url()).collect();
        if urls.is_empty() || urls.len() != endpoints.len() {
            bail!(
                "a relay without a state follows the chain by the RPC of two nodes: give two \
                 different --chain-rpc URL"
            );
        }
        let providers: Vec<Arc<dyn Provider>> =
            endpoints.iter().map(|one| Arc::clone(one) as Arc<dyn Provider>).collect();
        let client = begin(home, trust, &endpoints, &providers)?;
        let chain_id = client.newest().signed_header.header.chain_id.to_string();
        kept::save(home, &client.keep()).context("the home's light/ cannot be written")?;

        let (alive, ended) = bounded(0);
        let (ring, bell) = bounded(1);
        for endpoint in &endpoints {
            endpoint.watch(&chain_id, &ring, &ended).context("no thread for an endpoint")?;
        }
        let clients: Vec<Client> = endpoints.iter().map(|one| one.client().clone()).collect();
        let report = |outcome: comet::rpc::Outcome| {
            if let Err(error) = outcome.result {
                tracing::debug!(%error, "an endpoint did not take a transaction");
            }
        };
        let broadcaster =
            Broadcaster::start(&clients, BROADCAST_CONNECTIONS, BROADCAST_MAX, report)
                .context("no thread for transactions")?;
        let shared = Arc::new(Shared::new(endpoints));
        let follower = Follower::new(shared.clone(), client, (ring, bell), ended, home.to_owned());
        thread::Builder::new()
            .name("chain-follow".to_owned())
            .spawn(move || follower.run())
            .context("no thread to follow the chain")?;
        let alive = Mutex::new(Some(alive));
        Ok(Self { chain_id, shared, broadcaster, turn: AtomicUsize::new(0), alive })
    }

    /// Answers that did not verify, of all endpoints together.
    #[cfg(test)]
    pub fn lies(&self) -> u64 {
        self.shared.endpoints.iter().map(|endpoint| endpoint.lies()).sum()
    }

    fn not_yet(&self) -> ChainError {
        let note = self.shared.halted().or_else(|| self.shared.note());
        ChainError(note.unwrap_or_else(|| "its records are not read yet: wait".to_owned()))
    }
}

/// A light client with something to trust.
fn begin(
    home: &Path,
    given: Option<config::Trust>,
    endpoints: &[Arc<Endpoint>],
    providers: &[Arc<dyn Provider>],
) -> anyhow::Result<LightClient> {
    let genesis = genesis(home)?;
    let kept = kept::load(home);
    if let Some(newest) = kept.last() {
        let header = &newest.signed_header.header;
        let terms = Terms::new(header.chain_id.clone());
        let expires = header.time.checked_add(terms.period);
        let is_fresh = expires.is_some_and(|expires| expires > Time::now());
        let is_newest = given.is_none_or(|trust| trust.height <= header.height.value());
        let is_ours =
            genesis.as_ref().is_none_or(|genesis| genesis.chain_id == header.chain_id.as_str());
        if is_fresh && is_newest && is_ours {
            let resumed = LightClient::resume(terms, providers.to_vec(), kept);
            if let Some(client) = resumed {
                return Ok(client);
            }
        }
    }
    let trust = match (given, &genesis) {
        (Some(trust), _) => Trust::Header {
            height: Height::try_from(trust.height).context("--trust names no height")?,
            hash: Hash::Sha256(trust.hash),
        },
        (None, Some(genesis)) if !genesis.validators.is_empty() => Trust::Genesis {
            initial_height: Height::try_from(genesis.initial_height)
                .context("the genesis file's initial height is none")?,
            validators: genesis.validators.clone(),
        },
        (None, _) => Trust::FirstUse,
    };
    let mut said: Option<Instant> = None;
    for attempt in 0_usize.. {
        // One that is gone is not waited for while another one answers.
        let first = attempt % endpoints.len();
        let mut providers = providers.to_vec();
        providers.rotate_left(first);
        let chain_id = match &genesis {
            Some(genesis) => Ok(genesis.chain_id.clone()),
            None => endpoints[first].ask(Client::status).map(|status| status.chain_id),
        };
        let sentence = match chain_id {
            Err(error @ RpcError::Unreachable { .. }) => error.to_string(),
            Err(error) => return Err(error.into()),
            Ok(chain_id) => {
                let terms = Terms::new(
                    chain_id.parse().with_context(|| format!("{chain_id:?} names no chain"))?,
                );
                match LightClient::begin(terms, providers, &trust, Time::now()) {
                    Ok(client) => {
                        if matches!(trust, Trust::FirstUse) {
                            let newest = client.newest();
                            tracing::warn!(
                                "trusting chain {chain_id} on first use: {} of its endpoints have \
                                 header {} at height {}; compare it with a source that you trust, or \
                                 give --trust HEIGHT:HASH",
                                endpoints.len() - client.unheard().len(),
                                newest.signed_header.header.hash(),
                                newest.height()
                            );
                        }
                        return Ok(client);
                    }
                    Err(LightError::Unanswered(sentence)) => sentence,
                    Err(error @ LightError::Unconfirmed { .. }) if endpoints.len() > 1 => {
                        error.to_string()
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if said.is_none_or(|said| said.elapsed() > REMINDER) {
            said = Some(Instant::now());
            tracing::warn!("waiting for the chain: {sentence}");
        }
        thread::sleep(BEGIN_AGAIN);
    }
    unreachable!("attempts do not end before they succeed or fail for good")
}

fn genesis(home: &Path) -> anyhow::Result<Option<Genesis>> {
    let path = home.join("config/genesis.json");
    if !path.try_exists()? {
        return Ok(None);
    }
    let unreadable = || {
        format!(
            "{} is no genesis file: put the chain's own there, or take it away and give --trust",
            path.display()
        )
    };
    let document = serde_json::from_slice(&fs::read(&path)?).with_context(unreadable)?;
    Ok(Some(Genesis::parse(document).with_context(unreadable)?))
}

impl Chain for RemoteChain {
    fn chain_id(&self) -> &str {
        &self.chain_id
    }

    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
        self.shared.follow(records::Mirror::snapshot).ok_or_else(|| self.not_yet())
    }

    /// At the height of the records, so that it fits what was followed.
    fn account(&self, account: &AccountId) -> Result<Account, ChainError> {
        let at = self.shared.read(|mirror| (mirror.height, mirror.app_hash.clone()));
        let (height, app_hash) = at.ok_or_else(|| self.not_yet())?;
        let keys = [StateKey::Account(*account).to_bytes()];
        let values = blocks::values(&self.shared.endpoints, &keys, height, &app_hash);
        let values = values.map_err(|unknown| ChainError(unknown.0))?;
        match values.first().and_then(Option::as_ref) {
            None => Ok(Account::default()),
            Some(bytes) => borsh::from_slice(bytes).map_err(|_| {
                ChainError("this node is older than the chain's state: update it".to_owned())
            }),
        }
    }

    /// One endpoint's CheckTx is awaited, since only that tells why one is refused; the others get
    /// the same in bulk, so that no endpoint can keep it from the chain. A refusal counts when
    /// nobody takes it.
    fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError> {
        let endpoints: Vec<_> =
            self.shared.endpoints.iter().filter(|endpoint| endpoint.is_up()).collect();
        // Repeated after a refusal or a silence, it begins with somebody else.
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
        let mut refused = None;
        let mut failure = "none of the chain's endpoints answers".to_owned();
        for step in 0..endpoints.len() {
            let endpoint = endpoints[(first + step) % endpoints.len()];
            match endpoint.ask(|client| client.broadcast_tx_sync(&transaction)) {
                Ok(checked) if checked.code == 0 => {
                    if endpoints.len() > 1 {
                        // Full: it is on its way by one already.
                        let _ = self.broadcaster.send(transaction);
                    }
                    return Ok(());
                }
                Ok(checked) => {
                    let refusal = SubmitError::Refused { code: checked.code, log: checked.log };
                    refused = refused.or(Some(refusal));
                }
                Err(error) if error.is_known_tx() => return Err(SubmitError::Known),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(refused.unwrap_or(SubmitError::Unavailable(failure)))
    }
}

impl NodeChain for RemoteChain {
    fn head(&self) -> Head {
        let head = |mirror: &records::Mirror| Head {
            height: mirror.height,
            block_time_ms: mirror.time_ms,
        };
        self.shared.read(head).unwrap_or_default()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn tip(&self) -> u64 {
        let heights = self.shared.endpoints.iter().filter(|endpoint| endpoint.is_up());
        heights.map(|endpoint| endpoint.height()).max().unwrap_or(0)
    }

    fn halted(&self) -> Option<String> {
        self.shared.halted()
    }

    fn advice(&self) -> Option<String> {
        self.shared.note()
    }

    fn engine_sight(&self) -> EngineSight {
        let endpoints: Vec<_> =
            self.shared.endpoints.iter().map(|endpoint| endpoint.sight()).collect();
        let is_up = Some(endpoints.iter().any(|endpoint| endpoint.is_up));
        EngineSight { kind: EngineKind::Remote, is_up, restarts: 0, abci: None, endpoints }
    }

    fn waiting(&self) -> Option<usize> {
        None
    }

    fn params(&self) -> Result<Params, ChainError> {
        self.shared.read(records::Mirror::params).flatten().ok_or_else(|| self.not_yet())
    }

    fn stream(&self, stream: &StreamId) -> Result<Option<StreamMetadata>, ChainError> {
        self.shared.read(|mirror| mirror.stream(stream)).ok_or_else(|| self.not_yet())
    }

    fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, ChainError> {
        self.shared.read(|mirror| mirror.relay(account)).ok_or_else(|| self.not_yet())
    }

    fn blocks(&self) -> Receiver<Arc<BlockDelta>> {
        self.shared.blocks()
    }

    fn rpc_router(&self) -> Router {
        proxy::router(self.shared.endpoints.iter().map(|one| one.url().to_owned()).collect())
    }

    fn rpc_at(&self) -> Option<SocketAddr> {
        None
    }

    fn engine(&self) -> String {
        let urls: Vec<&str> = self.shared.endpoints.iter().map(|one| one.url()).collect();
        format!("followed through {}", urls.join(" and "))
    }

    fn stop(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
