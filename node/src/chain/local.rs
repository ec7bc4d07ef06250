//! A chain whose state is in this process: the application, and whoever decides its blocks.

use std::{path::Path, sync::Arc};

use anyhow::bail;
use axum::Router;
use chain_types::{
    AccessRecord, Account, AccountId, BlockDelta, Channel, LaneRecord, Params, RelayRecord,
    StateChange, StateKey, StreamId, StreamMetadata,
};
use consensus_abci::{
    app::{App, StateError, StateSnapshot},
    engine::{
        BroadcastError, Engine, EngineConfig, Genesis, MempoolError, NodeKey, ValidatorKey,
    },
};
use crossbeam_channel::Receiver;
use settlement::{Chain, ChainError, Snapshot, SubmitError};

use super::{Head, Keys, NodeChain, files, genesis};
use crate::config::home;

/// Blocks that may be waiting for a follower; one that is slower resynchronises.
const DELTAS_MAX: usize = 1024;

/// The chain of this home, alive as long as this process.
pub struct LocalChain {
    app: Arc<App>,
    engine: Engine,
}

/// What to do with a home that has no chain yet.
#[derive(Clone, Copy)]
pub enum Begin<'a> {
    /// Make a development chain on which these have money.
    Development(&'a Keys),
    /// Say how to make one.
    Refuse,
}

impl LocalChain {
    /// Opens the chain of this home with the engine in this process.
    ///
    /// # Errors
    /// What is wrong with the home, and what to do.
    pub fn embedded(home: &Path, begin: Begin<'_>) -> anyhow::Result<Self> {
        files::check(home)?;
        let dir = home.join("chain");
        let config = home.join("config");
        let genesis_file = config.join("genesis.json");
        if matches!(begin, Begin::Refuse) && !genesis_file.exists() {
            bail!(
                "{} has no chain: make one with `sutantra-node init NAME --home DIR`, or start `dev`",
                home.display()
            );
        }
        home::create_dir(&dir)?;
        home::create_dir(&config)?;
        let validator = ValidatorKey::load_or_create(&config.join("priv_validator_key.json"))?;
        let node_key = NodeKey::load_or_create(&config.join("node_key.json"))?;
        let genesis = Genesis::load_or_create(&genesis_file, || match begin {
            Begin::Development(keys) => genesis::development(&validator, keys),
            Begin::Refuse => unreachable!("looked for above"),
        })?;
        let app = Arc::new(App::open(&dir.join("state"))?);
        let state_file = dir.join("priv_validator_state.json");
        let config =
            EngineConfig::new(dir.join("blocks"), genesis, validator, node_key, state_file);
        let engine = Engine::start(config, app.clone())?;
        Ok(Self { app, engine })
    }

    /// The newest committed state.
    fn read(&self) -> StateSnapshot {
        self.app.snapshot()
    }
}

fn unreadable(error: impl std::fmt::Display) -> ChainError {
    ChainError(error.to_string())
}

impl NodeChain for LocalChain {
    fn head(&self) -> Head {
        Head { height: self.engine.height(), block_time_ms: self.engine.latest_block_time_ms() }
    }

    fn halted(&self) -> Option<String> {
        self.engine.is_halted()
    }

    fn waiting(&self) -> Option<usize> {
        Some(self.engine.mempool_size().0)
    }

    fn params(&self) -> Result<Params, ChainError> {
        self.read().params().map_err(unreadable)
    }

    fn stream(&self, stream: &StreamId) -> Result<Option<StreamMetadata>, ChainError> {
        self.read().stream(stream).map_err(unreadable)
    }

    fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, ChainError> {
        self.read().relay(account).map_err(unreadable)
    }

    fn blocks(&self) -> Receiver<Arc<BlockDelta>> {
        self.app.subscribe(DELTAS_MAX)
    }

    fn rpc_router(&self) -> Router {
        self.engine.rpc_router()
    }

    fn engine(&self) -> String {
        "embedded".to_owned()
    }

    fn stop(&self) {
        self.engine.stop();
    }
}

impl Chain for LocalChain {
    fn chain_id(&self) -> &str {
        self.engine.chain_id()
    }

    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
        // First the later blocks, then the state: nothing falls between. A block that comes twice
        // is known by its height.
        let deltas = self.blocks();
        let state = self.read();
        let records = followed(&state).map_err(unreadable)?;
        let (height, time_ms) = (state.height(), state.block_time_ms());
        let snapshot = Snapshot { height, time_ms, records };
        Ok((snapshot, deltas))
    }

    fn account(&self, account: &AccountId) -> Result<Account, ChainError> {
        Ok(self.read().account(account).map_err(unreadable)?.unwrap_or_default())
    }

    fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError> {
        match self.engine.broadcast_tx_sync(transaction) {
            Ok(outcome) if outcome.code == 0 => Ok(()),
            Ok(outcome) => Err(SubmitError::Refused { code: outcome.code, log: outcome.log }),
            Err(BroadcastError::Mempool(MempoolError::InCache)) => Err(SubmitError::Known),
            Err(error) => Err(SubmitError::Unavailable(error.to_string())),
        }
    }
}

/// All records that MONEY follows.
fn followed(state: &StateSnapshot) -> Result<Vec<StateChange>, StateError> {
    let mut records = vec![StateChange::Params(Box::new(state.params()?))];
    for stream in state.records::<StreamMetadata>(StateKey::STREAMS) {
        records.push(StateChange::Stream(Box::new(stream?.1)));
    }
    for access in state.records::<AccessRecord>(StateKey::ACCESSES) {
        if let (StateKey::Access(stream, viewer), record) = access? {
            records.push(StateChange::Access { stream, viewer, record: Some(record) });
        }
    }
    for channel in state.records::<Channel>(StateKey::CHANNELS) {
        if let (StateKey::Channel(id), channel) = channel? {
            records.push(StateChange::Channel(id, Box::new(channel)));
        }
    }
    for lane in state.records::<LaneRecord>(StateKey::LANES) {
        if let (StateKey::Lane(key), lane) = lane? {
            records.push(StateChange::Lane(key, Some(lane)));
        }
    }
    for relay in state.records::<RelayRecord>(StateKey::RELAYS) {
        if let (StateKey::Relay(account), relay) = relay? {
            records.push(StateChange::Relay(account, Box::new(relay)));
        }
    }
    Ok(records)
}
