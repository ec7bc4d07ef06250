//! The embedded single-validator engine: it decides blocks alone, and proves them as a network would.
//!
//! Headers, commits, validator sets and BFT time are CometBFT 0.38's, so that any light client of
//! that protocol verifies the chain. Each block goes, in this order: the signature is noted (double
//! signing), block and commit are durable, `FinalizeBlock`, its answer is durable, `Commit`, state
//! and indices. [`handshake`] mends a crash between any two of these.

mod block;
mod bus;
mod core;
mod execution;
mod fail;
mod files;
mod genesis;
mod handshake;
mod hex;
mod index;
mod keys;
mod mempool;
mod merkle;
mod open;
mod params;
mod producer;
mod query;
mod signer;
mod state;
mod stepped;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tendermint_proto::v0_38::abci::{CheckTxType, ExecTxResult, RequestCheckTx, ResponseCheckTx};

pub use bus::{BLOCK_SUBSCRIBERS_MAX, BlockSubscription, CommittedBlock, SubscriptionEnd};
pub use execution::HaltReason;
pub use fail::{FailAt, FailPoint};
pub use genesis::{Genesis, GenesisError, GenesisValidator};
pub use handshake::HandshakeError;
pub use keys::{KeyFileError, NodeKey, ValidatorKey};
pub use mempool::{MempoolError, MempoolLimits, TxHash};
pub use params::{BLOCK_BYTES_MAX, ConsensusParams};
pub use query::{QUERY_BYTES_MAX, QUERY_CONDITIONS_MAX, Query, QueryError};
pub use signer::SignError;
#[doc(hidden)]
pub use stepped::SteppedEngine;
pub use store::StoreError;

pub(crate) use self::core::Core;
pub(crate) use block::{BLOCK_PROTOCOL, tx_hash};
pub(crate) use handshake::{COMETBFT_VERSION, P2P_PROTOCOL};
pub(crate) use hex::{hex_decode, hex_upper};
pub(crate) use index::{FoundTx, SearchError, TxPosition, add_events, tx_attributes};
pub(crate) use keys::public_json;
pub(crate) use merkle::prove_leaf;
pub(crate) use query::{Attributes, Test};

use crate::application::{Application, ApplicationError};
use mempool::Fate;
use producer::Producer;

/// What an engine is started with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Directory of the block store; made when missing. One engine at a time.
    pub dir: PathBuf,
    pub genesis: Genesis,
    /// Signs blocks; must be the genesis file's only validator.
    pub key: ValidatorKey,
    /// Names the node in `status`.
    pub node_key: NodeKey,
    /// `priv_validator_state.json`. Never restore it from a copy together with the key.
    pub state_file: PathBuf,
    /// The node's name in `status`.
    pub moniker: String,
    /// Least time from block to block while transactions wait.
    pub min_block_interval: Duration,
    /// Time from block to block while none wait.
    pub empty_block_interval: Duration,
    pub mempool: MempoolLimits,
    /// Kills the process at a chosen moment. For tests.
    #[doc(hidden)]
    pub fail_at: Option<FailAt>,
}

impl EngineConfig {
    /// A configuration with the default intervals (50 ms, 1 s) and bounds.
    pub fn new(
        dir: impl Into<PathBuf>,
        genesis: Genesis,
        key: ValidatorKey,
        node_key: NodeKey,
        state_file: impl Into<PathBuf>,
    ) -> Self {
        EngineConfig {
            dir: dir.into(),
            genesis,
            key,
            node_key,
            state_file: state_file.into(),
            moniker: "sutantra".to_owned(),
            min_block_interval: Duration::from_millis(50),
            empty_block_interval: Duration::from_secs(1),
            mempool: MempoolLimits::default(),
            fail_at: None,
        }
    }
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{dir}: {source}")]
    Store { dir: PathBuf, source: StoreError },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(
        "the genesis names {found} as validators, the embedded engine decides alone with the key \
         {own}: run this chain under CometBFT, or make a genesis with this one validator"
    )]
    NotTheOnlyValidator { own: String, found: String },
    #[error(
        "{path} says that the key signed height {signed}, the block store ends at {store}: the \
         store is older than the last signature. Restore the newer store; where no block after \
         {store} was ever seen by anybody, remove the file"
    )]
    SignedBeyondStore { path: PathBuf, signed: u64, store: u64 },
    #[error("the block thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// What CheckTx said of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOutcome {
    /// 0 is accepted: it waits for a block.
    pub code: u32,
    pub log: String,
    pub codespace: String,
    pub hash: TxHash,
}

/// A transaction in a block, or what CheckTx had against it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitOutcome {
    pub check: CheckOutcome,
    /// `None` where CheckTx refused it.
    pub included: Option<Included>,
}

/// Where a transaction came to be, and with which result.
#[derive(Debug, Clone, PartialEq)]
pub struct Included {
    pub height: u64,
    pub index: u32,
    pub result: ExecTxResult,
}

/// Why a transaction was not taken, or nothing is known of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// The chain stands; the sentence says why.
    #[error("the chain is halted: {0}")]
    Halted(String),
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    #[error("the transaction left the mempool again: code {code}: {log}")]
    Evicted { code: u32, log: String },
    #[error("timed out waiting for tx to be included in a block")]
    TimedOut,
}

/// A running chain of one validator; a handle that clones cheaply.
///
/// The last handle to go stops the block thread, after the block in hand: that drop waits for the
/// block, so call [`Engine::stop`] from a blocking thread first where that matters.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens the store, brings the application to its height, and starts to make blocks.
    pub fn start(config: EngineConfig, app: Arc<dyn Application>) -> Result<Engine, EngineError> {
        let producer = Producer::open(config, app)?;
        let core = producer.core.clone();
        let thread = thread::Builder::new()
            .name("chain".to_owned())
            .spawn(move || producer.run())
            .map_err(EngineError::Thread)?;
        Ok(Engine(Arc::new(Handle { core, thread: Mutex::new(Some(thread)) })))
    }

    fn without_thread(core: Arc<Core>) -> Engine {
        Engine(Arc::new(Handle { core, thread: Mutex::new(None) }))
    }

    /// CheckTx, then the mempool; returns without waiting for a block.
    ///
    /// Blocks for as long as CheckTx takes, or a Commit that is under way: call it from a blocking
    /// thread.
    pub fn broadcast_tx_sync(&self, tx: Vec<u8>) -> Result<CheckOutcome, BroadcastError> {
        let (outcome, _) = self.check_and_insert(Bytes::from(tx))?;
        Ok(outcome)
    }

    /// CheckTx, then waits until the transaction is in a block, `timeout` at most.
    pub async fn broadcast_tx_commit(
        &self,
        tx: Vec<u8>,
        timeout: Duration,
    ) -> Result<CommitOutcome, BroadcastError> {
        let (check, _, included) = self.check_and_wait(tx, timeout).await?;
        Ok(CommitOutcome { check, included })
    }

    pub(crate) async fn check_and_wait(
        &self,
        tx: Vec<u8>,
        timeout: Duration,
    ) -> Result<(CheckOutcome, ResponseCheckTx, Option<Included>), BroadcastError> {
        // Registered first: the block may be faster than the answer of CheckTx.
        let fate = self.core().mempool.wait_for(tx_hash(&tx))?;
        let engine = self.clone();
        let checked = tokio::task::spawn_blocking(move || engine.check_and_insert(tx.into()));
        let (outcome, response) = checked.await.map_err(|failure| {
            BroadcastError::Halted(format!("CheckTx did not come to an end: {failure}"))
        })??;
        if outcome.code != 0 {
            return Ok((outcome, response, None));
        }
        match tokio::time::timeout(timeout, fate).await {
            Err(_) => Err(BroadcastError::TimedOut),
            Ok(Ok(Fate::Included(found))) => {
                let TxPosition { height, index } = found.position;
                let included = Included { height, index, result: found.result };
                Ok((outcome, response, Some(included)))
            }
            Ok(Ok(Fate::Evicted { code, log })) => Err(BroadcastError::Evicted { code, log }),
            Ok(Ok(Fate::Halted(sentence))) => Err(BroadcastError::Halted(sentence)),
            Ok(Err(_)) => Err(BroadcastError::Halted("the engine stopped".to_owned())),
        }
    }

    /// CheckTx and mempool, with all that CheckTx answered.
    pub(crate) fn check_and_insert(
        &self,
        tx: Bytes,
    ) -> Result<(CheckOutcome, ResponseCheckTx), BroadcastError> {
        let core = self.core();
        if let Some(sentence) = core.halted() {
            return Err(BroadcastError::Halted(sentence.to_owned()));
        }
        if core.mempool.stopping() {
            return Err(BroadcastError::Halted("the engine stopped".to_owned()));
        }
        let max = core.tip().max_tx_bytes;
        if tx.len() > max {
            return Err(MempoolError::TooLarge { bytes: tx.len(), max }.into());
        }
        let hash = core.mempool.admit(&tx)?;
        let _gate = core.mempool.checking();
        let request = RequestCheckTx { tx: tx.clone(), r#type: CheckTxType::New as i32 };
        let response = match core.app.check_tx(request) {
            Ok(response) => response,
            Err(error) => {
                core.mempool.forget(&hash);
                let sentence = HaltReason::Application(error).to_string();
                core.halt(&sentence);
                return Err(BroadcastError::Halted(sentence));
            }
        };
        match response.code {
            0 => core.mempool.insert(hash, tx)?,
            _ => core.mempool.forget(&hash),
        }
        let outcome = CheckOutcome {
            code: response.code,
            log: response.log.clone(),
            codespace: response.codespace.clone(),
            hash,
        };
        Ok((outcome, response))
    }

    /// ABCI `Query` on the caller's thread. A failing query is an error of its own and halts
    /// nothing: it wrote nothing.
    pub fn query(
        &self,
        request: tendermint_proto::v0_38::abci::RequestQuery,
    ) -> Result<tendermint_proto::v0_38::abci::ResponseQuery, ApplicationError> {
        self.core().app.query(request)
    }

    /// Height of the newest committed block; 0 before the first.
    pub fn height(&self) -> u64 {
        self.core().tip().height
    }

    /// Header time of the newest committed block in unix milliseconds; the genesis time before the
    /// first.
    pub fn latest_block_time_ms(&self) -> u64 {
        self.core().tip().time_ms
    }

    /// The chain's id.
    pub fn chain_id(&self) -> &str {
        self.core().genesis.chain_id.as_str()
    }

    /// Why no further block is made; `None` while the chain runs.
    pub fn is_halted(&self) -> Option<String> {
        self.core().halted().map(str::to_owned)
    }

    /// Blocks from the next one on, `capacity` of them queued at most: who is slower is let go and
    /// never delays a block. `None` above [`BLOCK_SUBSCRIBERS_MAX`] or after the end.
    pub fn subscribe_blocks(&self, capacity: usize) -> Option<BlockSubscription> {
        self.core().bus.subscribe(capacity)
    }

    /// Transactions that wait for a block, and their bytes.
    pub fn mempool_size(&self) -> (usize, usize) {
        self.core().mempool.size()
    }

    /// Finishes the block in hand and joins the block thread. Reads are served on; the store closes
    /// with the last handle.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// CometBFT's RPC over this engine: mount it at `/` of a listener of its own, or nest it.
    pub fn rpc_router(&self) -> axum::Router {
        crate::rpc::router(self.clone())
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} at {})", self.chain_id(), self.height())
    }
}

impl Handle {
    fn stop(&self) {
        self.core.mempool.stop();
        let thread = self.thread.lock().expect("nothing panics in here").take();
        if let Some(thread) = thread {
            // The thread catches its own panics; a handle dropped by the application on that very
            // thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
            if let Err(error) = self.core.store.sync() {
                tracing::error!(%error, "the block store could not be synced at the end");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
