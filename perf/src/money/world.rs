//! The chain and the books in this process: application and engine on a folder, MONEY on its threads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use chain_types::{
    Account, AccountId, Balance, BlockDelta, Params, Payload, StateChange, StreamId, Terms,
    TransactionBody, transaction_hash,
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    engine::{BroadcastError, Engine, EngineConfig, Genesis, MempoolError, NodeKey, ValidatorKey},
};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use settlement::{
    Chain, ChainError, Outlets, Snapshot, SubmitError,
    money::{Money, MoneyConfig},
};
use sfu::ports::{Frame, Gate, SessionKey, SlotId, UsageReport};

use super::viewer::{CHAIN, EXPOSURE_SECONDS, GRACE_MS, RELAY, RELAY_FINGERPRINT, account, key};

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Blocks that may wait for who follows here.
const DELTAS_MAX: usize = 1024;
/// What everybody begins with, units.
const BALANCE: Balance = Balance::of(10_000_000_000_000);
/// The threads between a frame and its gate order, by the kernel's names.
pub const MONEY_THREADS: [&str; 2] = ["money", "money-relay"];
/// Those between a transaction and its gate order.
pub const CHAIN_THREADS: [&str; 4] = ["chain", DELTA_THREAD, "money", "money-relay"];
/// Takes a block from the application and notes the moment.
const DELTA_THREAD: &str = "perf-deltas";

/// When MONEY was handed a block.
type Handed = (Instant, Arc<BlockDelta>);

/// The chain as MONEY sees it. It is followed once, from before the first transaction: then the
/// parameters are all its records.
struct Embedded {
    app: Arc<App>,
    engine: Engine,
    handed: Mutex<Option<Sender<Handed>>>,
}

impl Chain for Embedded {
    fn chain_id(&self) -> &str {
        CHAIN
    }

    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
        let unreadable = |error: &dyn std::fmt::Display| ChainError(error.to_string());
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = handed.take().ok_or_else(|| unreadable(&"it was followed before"))?;
        let blocks = self.app.subscribe(DELTAS_MAX);
        let state = self.app.snapshot();
        let params = state.params().map_err(|error| unreadable(&error))?;
        let (height, time_ms) = (state.height(), state.block_time_ms());
        let (deltas, followed) = bounded(DELTAS_MAX);
        let forward = move || {
            for delta in blocks {
                let now = Instant::now();
                if deltas.send(Arc::clone(&delta)).is_err() || handed.send((now, delta)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name(DELTA_THREAD.to_owned())
            .spawn(forward)
            .map_err(|error| unreadable(&error))?;
        let records = vec![StateChange::Params(Box::new(params))];
        Ok((Snapshot { height, time_ms, records }, followed))
    }

    fn account(&self, account: &AccountId) -> Result<Account, ChainError> {
        let found = self.app.snapshot().account(account);
        Ok(found.map_err(|error| ChainError(error.to_string()))?.unwrap_or_default())
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

/// Notes when each order for a gate comes out.
struct Gates(Sender<(Instant, SlotId, Gate)>);

impl Outlets for Gates {
    fn set_gate(&mut self, slot: SlotId, gate: Gate) {
        // Nobody listens any more at the end.
        let _ = self.0.send((Instant::now(), slot, gate));
    }

    fn send(&mut self, _: SessionKey, _: Vec<u8>) {}

    fn close(&mut self, _: SessionKey, _: Vec<u8>) {}
}

/// A transaction in a block.
pub struct Included {
    /// Just before CheckTx.
    pub submitted: Instant,
    /// When its block was handed to MONEY: durable, executed, committed.
    pub handed: Instant,
}

/// See the module.
pub struct World {
    pub money: Money,
    engine: Engine,
    params: Params,
    handed: Receiver<Handed>,
    gates: Receiver<(Instant, SlotId, Gate)>,
    frames: Sender<Frame>,
    /// Open as long as the relay is there.
    _usage: Sender<UsageReport>,
    nonces: BTreeMap<u64, u64>,
    _dir: Folder,
}

impl World {
    /// A new chain in a folder of its own under `parent`, on which `people` have money.
    pub fn start(
        parent: &Path,
        min_block_interval: Duration,
        people: &[u64],
    ) -> anyhow::Result<Self> {
        let folder = Folder::new(parent)?;
        let dir = &folder.0;
        let app = Arc::new(App::open(&dir.join("state"))?);
        let accounts =
            people.iter().map(|who| GenesisAccount { account: account(*who), balance: BALANCE });
        let accounts = accounts.collect();
        let state = AppState { params: Params::for_tests(), accounts, ..AppState::default() };
        let validator = ValidatorKey::from_seed([1; 32]);
        let genesis = Genesis::single(
            CHAIN.parse().context("the name of the chain")?,
            tendermint::Time::now(),
            validator.public_key(),
            serde_json::to_value(&state)?,
        );
        let (blocks, signed) = (dir.join("blocks"), dir.join("priv_validator_state.json"));
        let node_key = NodeKey::from_seed([2; 32]);
        let config = EngineConfig {
            min_block_interval,
            ..EngineConfig::new(blocks, genesis, validator, node_key, signed)
        };
        let engine = Engine::start(config, app.clone())?;
        let (handed_to, handed) = unbounded();
        let chain = Embedded { app, engine: engine.clone(), handed: Mutex::new(Some(handed_to)) };
        let (gates_to, gates) = unbounded();
        let (frames, frames_in) = bounded(64);
        let (usage, usage_in) = bounded(64);
        let config = MoneyConfig {
            home: dir.join("money"),
            payee: account(RELAY),
            relay_key: key(RELAY),
            relay_fingerprint: RELAY_FINGERPRINT,
            fee_wallet: key(RELAY),
            cadence_ms: 1000,
            grace_ms: GRACE_MS,
            pause_max_s: 60,
            exposure_seconds: EXPOSURE_SECONDS,
            serve_free: Vec::new(),
            min_share_bps: 0,
        };
        let outlets = Box::new(Gates(gates_to));
        let money = Money::start(config, Arc::new(chain), outlets, frames_in, usage_in)?;
        let (params, nonces) = (state.params, BTreeMap::new());
        let _usage = usage;
        let _dir = folder;
        let world = Self { money, engine, params, handed, gates, frames, _usage, nonces, _dir };
        // Transactions wait until the books follow.
        world.until(|world| world.money.height().is_some())?;
        Ok(world)
    }

    /// Signs and sends; [`World::included`] waits for it.
    pub fn submit(&mut self, who: u64, payload: Payload) -> anyhow::Result<(Instant, [u8; 32])> {
        let nonce = self.nonces.entry(who).or_default();
        let mut body = TransactionBody {
            signer: account(who),
            fee_payer: None,
            nonce: *nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload,
        };
        body.fee = self.params.fee_min(&body.payload, body.signed_len_bytes());
        let bytes = body.sign(&key(who), CHAIN).encode();
        let hash = transaction_hash(&bytes);
        let submitted = Instant::now();
        let checked = self.engine.broadcast_tx_sync(bytes)?;
        ensure!(checked.code == 0, "refused with code {}: {}", checked.code, checked.log);
        *nonce += 1;
        Ok((submitted, hash))
    }

    /// Until a transaction is in a block; it must have been carried out.
    pub fn included(&self, (submitted, hash): (Instant, [u8; 32])) -> anyhow::Result<Included> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (handed, delta) =
                self.handed.recv_deadline(deadline).context("no block has the transaction")?;
            match delta.results.iter().find(|(known, _)| *known == hash) {
                Some((_, 0)) => return Ok(Included { submitted, handed }),
                Some((_, code)) => bail!("the transaction failed with code {code}"),
                None => {}
            }
        }
    }

    /// Sends, and waits for the block.
    pub fn transact(&mut self, who: u64, payload: Payload) -> anyhow::Result<Included> {
        let sent = self.submit(who, payload)?;
        self.included(sent)
    }

    /// Transactions that somebody has sent: the nonce of the next.
    pub fn sent(&self, who: u64) -> u64 {
        self.nonces.get(&who).copied().unwrap_or(0)
    }

    /// Until the books have the newest block.
    pub fn followed(&self) -> anyhow::Result<()> {
        let height = Some(self.height());
        self.until(|world| world.money.height() >= height)
    }

    /// Newest block.
    pub fn height(&self) -> u64 {
        self.engine.height()
    }

    /// A frame on a session's pay channel.
    pub fn frame(&self, session: SessionKey, bytes: Box<[u8]>) -> anyhow::Result<Instant> {
        let frame = Frame::new(session, Some(slot(session)), bytes);
        let now = Instant::now();
        self.frames.send(frame).context("the books are closed")?;
        Ok(now)
    }

    /// When the next order for a session's gate came out that is as it should be.
    pub fn gate(
        &self,
        session: SessionKey,
        fits: impl Fn(&Gate) -> bool,
    ) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (at, of, gate) =
                self.gates.recv_deadline(deadline).context("no order for the gate came")?;
            if of == slot(session) && fits(&gate) {
                return Ok(at);
            }
        }
    }

    /// What the books ask for a stream, once its block has come to them.
    pub fn terms(&self, stream: StreamId) -> anyhow::Result<Terms> {
        self.until(|world| world.money.terms(stream).is_some())?;
        self.money.terms(stream).context("the stream is there")
    }

    /// Begins and connects an admitted session; its gate opens.
    pub fn begin(&self, admit: settlement::Admit, session: SessionKey) -> anyhow::Result<()> {
        let admission = self.money.admit(admit)?;
        self.money.begun(admission.id, session, slot(session));
        self.money.connected(session);
        self.gate(session, |gate| gate.open)?;
        Ok(())
    }

    fn until(&self, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            ensure!(Instant::now() < deadline, "the books do not follow the chain");
            thread::yield_now();
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.money.stop();
        self.engine.stop();
    }
}

fn slot(session: SessionKey) -> SlotId {
    let index = u32::try_from(session.0).expect("sessions are counted from 1 here");
    SlotId { shard: 0, index, generation: 1 }
}

/// Is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let dir = parent.join(format!("sutantra-perf-money-{}", std::process::id()));
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        // One that is there is somebody else's.
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}
