//! A chain whose state is in this process: the application, and whoever decides its blocks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::bail;
use axum::Router;
use chain_types::{
    AccessRecord, Account, AccountId, BlockDelta, Channel, LaneRecord, Params, RelayRecord,
    StateChange, StateKey, StreamId, StreamMetadata,
};
use consensus_abci::{
    app::{App, StateError, StateSnapshot},
    application::Application,
    engine::{Engine, EngineConfig, Genesis, NodeKey, ValidatorKey},
};
use crossbeam_channel::Receiver;
use settlement::{Chain, ChainError, Snapshot, SubmitError};
use tokio::sync::watch;

use super::{
    Halted, Head, Keys, NodeChain, files, genesis,
    halt::{self, Halting},
    maker::{CometBft, Maker},
};
use crate::{
    config::{
        chain::{ChainConfig, Comet, HaltAt},
        home, stamp,
    },
    metrics::EngineSight,
};

/// Where CometBFT's RPC is by custom.
pub const RPC_PORT: u16 = 26657;
/// Blocks that may be waiting for a follower; one that is slower resynchronises.
const DELTAS_MAX: usize = 1024;

/// The chain of this home, alive as long as this process.
pub struct LocalChain {
    app: Arc<App>,
    maker: Maker,
    /// Where a stop is asked for.
    halting: Option<Arc<Halting>>,
    /// As the genesis has it.
    chain_id: String,
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
    /// Opens the chain of this home, under the engine that the configuration names.
    ///
    /// # Errors
    /// What is wrong with the home or the engine, and what to do.
    pub fn open(
        home: &Path,
        begin: Begin<'_>,
        config: &ChainConfig,
        rpc: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        files::check(home)?;
        let dir = home.join("chain");
        let config_dir = home.join("config");
        let genesis_file = config_dir.join("genesis.json");
        // Somebody else's CometBFT has its genesis at its own place.
        let needs_genesis = config.comet != Comet::External;
        if matches!(begin, Begin::Refuse) && needs_genesis && !genesis_file.exists() {
            bail!(
                "{} has no chain: make one with `sutantra-node init NAME --home DIR`, or start `dev`",
                home.display()
            );
        }
        let engine = match config.comet {
            Comet::Embedded => stamp::Engine::Embedded,
            Comet::Spawn | Comet::External => stamp::Engine::Cometbft,
        };
        // Another one's blocks are refused before anything is touched; the home is claimed when
        // this one has begun, since a start that fails makes no blocks.
        if stamp::read(home)?.is_some_and(|stamp| stamp.engine.is_some()) {
            stamp::claim_engine(home, engine)?;
        }
        home::create_dir(&dir)?;
        home::create_dir(&config_dir)?;
        let validator = ValidatorKey::load_or_create(&config_dir.join("priv_validator_key.json"))?;
        let node_key = NodeKey::load_or_create(&config_dir.join("node_key.json"))?;
        let genesis = || {
            Genesis::load_or_create(&genesis_file, || match begin {
                Begin::Development(keys) => genesis::development(&validator, keys),
                Begin::Refuse => unreachable!("looked for above"),
            })
        };
        let genesis = match needs_genesis {
            true => Some(genesis()?),
            false => None,
        };
        let app = Arc::new(App::open_with(&dir.join("state"), config.kept)?);
        let state = app.snapshot();
        if let Some(halted) = halt::reached(config.halt, state.height(), state.block_time_ms()) {
            // Before an engine could give it the next block.
            return Err(halted.into());
        }
        let halting = (config.halt != HaltAt::default())
            .then(|| Arc::new(Halting::new(app.clone(), config.halt)));
        let driven: Arc<dyn Application> = match &halting {
            Some(halting) => halting.clone(),
            None => app.clone(),
        };
        let maker = match (config.comet, genesis) {
            (Comet::Embedded, Some(genesis)) => {
                let state_file = dir.join("priv_validator_state.json");
                let blocks = dir.join("blocks");
                let config = EngineConfig::new(blocks, genesis, validator, node_key, state_file);
                Maker::Embedded(Engine::start(config, driven)?)
            }
            (comet, _) => {
                let rpc = rpc.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, RPC_PORT)));
                let spawn = comet == Comet::Spawn;
                let comet = CometBft::start(home, &app, driven, config, rpc, spawn)?;
                Maker::Comet(Box::new(comet))
            }
        };
        stamp::claim_engine(home, engine)?;
        let chain_id = app.snapshot().chain_id().unwrap_or_default().to_owned();
        Ok(Self { app, maker, halting, chain_id })
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
        let state = self.read();
        Head { height: state.height(), block_time_ms: state.block_time_ms() }
    }

    fn halted(&self) -> Option<String> {
        self.maker.halted()
    }

    fn advice(&self) -> Option<String> {
        self.maker.advice()
    }

    fn waiting(&self) -> Option<usize> {
        self.maker.waiting()
    }

    fn engine_sight(&self) -> EngineSight {
        self.maker.sight()
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
        self.maker.rpc_router()
    }

    fn rpc_at(&self) -> Option<SocketAddr> {
        self.maker.rpc_at()
    }

    fn engine(&self) -> String {
        self.maker.about()
    }

    fn halting(&self) -> Option<watch::Receiver<Option<Halted>>> {
        self.halting.as_ref().map(|halting| halting.watch())
    }

    fn stop(&self) {
        if let Some(halting) = &self.halting {
            halting.release();
        }
        self.maker.stop();
    }
}

impl Chain for LocalChain {
    fn chain_id(&self) -> &str {
        &self.chain_id
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
        self.maker.submit(transaction)
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
