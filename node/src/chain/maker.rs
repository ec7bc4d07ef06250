//! Who decides the blocks of a chain whose state is here: our engine, or a CometBFT.

use std::{
    fs, mem,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use axum::Router;
use comet::{
    process::{self, Binary, Settings, State},
    rpc::{Client, RpcError},
};
use consensus_abci::{
    app::App,
    application::Application,
    engine::{BroadcastError, Engine, MempoolError},
    server::{Limits, ListenAddr, Server},
};
use settlement::SubmitError;

use super::proxy;
use crate::{
    config::chain::ChainConfig,
    metrics::{EngineKind, EngineSight},
};

/// How long a CometBFT that this node starts may take to ask for the genesis state.
const GENESIS_MAX: Duration = Duration::from_secs(60);
/// How long it may take to answer, or to execute the next block that the state has not.
const RUNNING_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(20);
/// Between two lines about a CometBFT that does not come.
const REMINDER: Duration = Duration::from_secs(10);

/// Makes blocks of the application's transactions.
pub(super) enum Maker {
    /// In this process, alone.
    Embedded(Engine),
    /// Another program.
    Comet(Box<CometBft>),
}

/// A CometBFT and its way to the application.
pub(super) struct CometBft {
    server: Server,
    /// Where this node has started it.
    process: Option<Mutex<process::Comet>>,
    client: Client,
    rpc: SocketAddr,
    about: String,
}

impl CometBft {
    /// Listens for an engine of `app`, which it reaches as `driven`, starts one if it is to, and waits
    /// until the state is there: the genesis, or a snapshot that others have.
    ///
    /// # Errors
    /// A sentence that says what is in the way.
    pub(super) fn start(
        home: &Path,
        app: &App,
        driven: Arc<dyn Application>,
        config: &ChainConfig,
        rpc: SocketAddr,
        spawn: bool,
    ) -> anyhow::Result<Self> {
        let at = match &config.abci {
            Some(at) => at.clone(),
            None => ListenAddr::Unix(std::path::absolute(home)?.join("abci.sock")),
        };
        // Before the socket: without the program there is nothing to wait for.
        let binary = spawn.then(|| Binary::find(config.comet_bin.as_deref())).transpose()?;
        let server = Server::start(driven, &at, Limits::default())?;
        let about = match &binary {
            Some(binary) => format!("CometBFT {}", binary.version),
            None => format!("CometBFT at {}", server.local_addr()),
        };
        let process = match binary {
            None => None,
            Some(binary) => {
                let settings = settings(home, config, server.local_addr(), rpc);
                Some(Mutex::new(process::Comet::spawn(binary, settings)?))
            }
        };
        let client = Client::new(&format!("http://{rpc}"))?;
        let comet = Self { server, process, client, rpc, about };
        comet.await_genesis(app, spawn && takes_snapshot(home))?;
        comet.check_chain(app)?;
        Ok(comet)
    }

    fn await_genesis(&self, app: &App, by_snapshot: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut said = begun;
        while app.snapshot().head().is_none() {
            if let Some(failure) = self.halted() {
                bail!("{failure}");
            }
            if by_snapshot {
                // As long as it takes: CometBFT gives up by itself where nobody has one.
                if said.elapsed() > REMINDER {
                    said = Instant::now();
                    tracing::info!("CometBFT looks for a snapshot of the state, or fetches one");
                }
            } else if self.process.is_some() && begun.elapsed() > GENESIS_MAX {
                bail!(
                    "CometBFT has not asked for the genesis state within {} s: see {} in the home",
                    GENESIS_MAX.as_secs(),
                    process::LOG_FILE
                );
            }
            if self.process.is_none() && said.elapsed() > REMINDER {
                said = Instant::now();
                tracing::warn!(
                    "waiting for CometBFT: start it with proxy_app = \"{}\"",
                    self.server.local_addr()
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Somebody else's RPC may be that of another chain: what is sent there would never come here.
    /// It opens when the application has all blocks that CometBFT has, so it is waited for.
    fn check_chain(&self, app: &App) -> anyhow::Result<()> {
        let mut begun = Instant::now();
        // Of one that this node starts there is nothing to say at once.
        let mut said = self.process.as_ref().map(|_| begun);
        let mut height = None;
        let status = loop {
            let answer = match &self.process {
                Some(process) => {
                    let process = process.lock().unwrap_or_else(PoisonError::into_inner);
                    if process.wait_until(POLL, |state| *state == State::Running) == State::Running
                    {
                        return Ok(());
                    }
                    None
                }
                None => match self.client.status() {
                    Ok(status) => Some(status),
                    Err(RpcError::Unreachable { .. }) => None,
                    Err(error) => {
                        return Err(error).with_context(|| {
                            format!(
                                "--rpc must be where that CometBFT serves its RPC, and is {}",
                                self.rpc
                            )
                        });
                    }
                },
            };
            if let Some(status) = answer {
                break status;
            }
            if let Some(failure) = self.halted() {
                bail!("{failure}");
            }
            // What it has and the application has not is executed first, however much it is.
            let before = mem::replace(&mut height, app.snapshot().head().map(|head| head.height));
            let is_replaying = before.is_some() && height > before;
            if is_replaying {
                begun = Instant::now();
            }
            if self.process.is_some() && begun.elapsed() > RUNNING_MAX {
                bail!(
                    "CometBFT does not answer and has executed no block for {} s: see {} in the home",
                    RUNNING_MAX.as_secs(),
                    process::LOG_FILE
                );
            }
            if said.is_none_or(|said| said.elapsed() > REMINDER) {
                if said.replace(Instant::now()).is_some()
                    && begun.elapsed() < REMINDER
                    && height > Some(0)
                {
                    let height = height.unwrap_or_default();
                    tracing::info!(height, "CometBFT replays the blocks that the state has not");
                } else if self.process.is_none() {
                    tracing::warn!(
                        "waiting for CometBFT: start it with proxy_app = \"{}\", its RPC at {} \
                         (--rpc)",
                        self.server.local_addr(),
                        self.rpc
                    );
                }
            }
            thread::sleep(POLL);
        };
        let own = app.snapshot().chain_id().unwrap_or_default().to_owned();
        if status.chain_id != own {
            bail!(
                "the RPC at {} is of chain {}, this node's state is of chain {own}: give the address \
                 of its own CometBFT with --rpc, or start with the home of the other chain",
                self.rpc,
                status.chain_id
            );
        }
        Ok(())
    }

    fn halted(&self) -> Option<String> {
        if let Some(failure) = self.server.failure() {
            return Some(failure);
        }
        let process = self.process.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        match process.state() {
            State::Failed(sentence) => Some(sentence),
            _ => None,
        }
    }

    fn submit(&self, transaction: &[u8]) -> Result<(), SubmitError> {
        match self.client.broadcast_tx_sync(transaction) {
            Ok(checked) if checked.code == 0 => Ok(()),
            Ok(checked) => Err(SubmitError::Refused { code: checked.code, log: checked.log }),
            Err(error) if error.is_known_tx() => Err(SubmitError::Known),
            Err(error) => Err(SubmitError::Unavailable(error.to_string())),
        }
    }

    fn stop(&self) {
        // The engine first: it ends its commit, for which it needs the application.
        if let Some(process) = &self.process {
            process.lock().unwrap_or_else(PoisonError::into_inner).stop();
        }
        self.server.stop();
    }
}

/// Whether CometBFT's own configuration has it join by state sync.
fn takes_snapshot(home: &Path) -> bool {
    let text = fs::read_to_string(home.join("config/config.toml")).unwrap_or_default();
    let config = text.parse::<toml::Table>().unwrap_or_default();
    let enable = config.get("statesync").and_then(|section| section.get("enable"));
    enable.and_then(toml::Value::as_bool).unwrap_or_default()
}

fn settings(home: &Path, config: &ChainConfig, app: &ListenAddr, rpc: SocketAddr) -> Settings {
    let mut settings = Settings::new(home, app.to_string());
    settings.rpc = rpc;
    settings.p2p = config.p2p;
    settings.persistent_peers = config.peers.iter().map(ToString::to_string).collect();
    settings.moniker.clone_from(&config.moniker);
    settings.timeout_commit = config.timeout_commit_ms.map(|ms| Duration::from_millis(ms.into()));
    settings
}

impl Maker {
    /// Why no further block is made.
    pub(super) fn halted(&self) -> Option<String> {
        match self {
            Self::Embedded(engine) => engine.is_halted().map(|halted| {
                format!(
                    "{halted}: mend that, such as by freeing disk space, and start the node again"
                )
            }),
            Self::Comet(comet) => comet.halted(),
        }
    }

    /// What to look at when no blocks come.
    pub(super) fn advice(&self) -> Option<String> {
        let Self::Comet(comet) = self else { return None };
        let process = comet.process.as_ref();
        let warning = process
            .and_then(|process| process.lock().unwrap_or_else(PoisonError::into_inner).warning());
        comet.server.advice().or(warning)
    }

    /// Transactions that wait for a block, where this process knows.
    pub(super) fn waiting(&self) -> Option<usize> {
        match self {
            Self::Embedded(engine) => Some(engine.mempool_size().0),
            Self::Comet(_) => None,
        }
    }

    /// For metrics.
    pub(super) fn sight(&self) -> EngineSight {
        let (kind, is_up, restarts, abci) = match self {
            Self::Embedded(engine) => {
                (EngineKind::Embedded, Some(engine.is_halted().is_none()), 0, None)
            }
            Self::Comet(comet) => {
                let counters = comet.server.counters();
                // CometBFT keeps four connections.
                let is_connected = counters.connections_open > 0;
                let (kind, is_up, restarts) = match &comet.process {
                    Some(process) => {
                        let process = process.lock().unwrap_or_else(PoisonError::into_inner);
                        let is_running = process.state() == State::Running;
                        (EngineKind::Spawn, is_running && is_connected, process.restarts())
                    }
                    None => (EngineKind::External, is_connected, 0),
                };
                (kind, Some(is_up), restarts, Some(Box::new(counters)))
            }
        };
        EngineSight { kind, is_up, restarts, abci, endpoints: Vec::new() }
    }

    /// Hands over a transaction.
    pub(super) fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError> {
        match self {
            Self::Embedded(engine) => match engine.broadcast_tx_sync(transaction) {
                Ok(outcome) if outcome.code == 0 => Ok(()),
                Ok(outcome) => Err(SubmitError::Refused { code: outcome.code, log: outcome.log }),
                Err(BroadcastError::Mempool(MempoolError::InCache)) => Err(SubmitError::Known),
                Err(error) => Err(SubmitError::Unavailable(error.to_string())),
            },
            Self::Comet(comet) => comet.submit(&transaction),
        }
    }

    /// The chain's RPC.
    pub(super) fn rpc_router(&self) -> Router {
        match self {
            Self::Embedded(engine) => engine.rpc_router(),
            Self::Comet(comet) => proxy::router(vec![format!("http://{}", comet.rpc)]),
        }
    }

    /// Where somebody else serves that RPC already.
    pub(super) fn rpc_at(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(_) => None,
            Self::Comet(comet) => Some(comet.rpc),
        }
    }

    /// For people.
    pub(super) fn about(&self) -> String {
        match self {
            Self::Embedded(_) => "embedded".to_owned(),
            Self::Comet(comet) => comet.about.clone(),
        }
    }

    /// Finishes the block in hand and stops.
    pub(super) fn stop(&self) {
        match self {
            Self::Embedded(engine) => engine.stop(),
            Self::Comet(comet) => comet.stop(),
        }
    }
}
