//! The chain in this process: application and engine, their files, and who has money at the start.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use chain_types::{
    AccessRecord, Account, AccountId, Balance, BlockDelta, Channel, LaneRecord, Params, Payload,
    Policy, Price, RelayFacts, RelayRecord, ResultCode, SigningKey, SplitShares, StateChange,
    StateKey, StreamId, StreamMetadata, TransactionBody, transaction_hash,
};
use consensus_abci::{
    app::{App, StateError, StateSnapshot},
    engine::{BroadcastError, Engine, EngineConfig, Genesis, MempoolError, NodeKey, ValidatorKey},
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use settlement::{Chain, ChainError, Snapshot, SubmitError};

use crate::config::home;

mod faucet;
mod files;

pub use faucet::FaucetRefused;
use faucet::{DROP, Faucet};

/// What each of the node's own accounts begins with on a development chain.
const OWN_BALANCE: Balance = Balance::of(10_000_000_000_000);
/// What the faucet begins with.
const FAUCET_BALANCE: Balance = Balance::of(1_000_000_000_000_000_000);
/// Price of the demo stream, units per second: 0.001 SUT.
const DEMO_RATE: u64 = 1_000_000;
/// Share of the demo stream's creator; the relay has the rest.
const DEMO_SPLIT: SplitShares = SplitShares { creator_bps: 7_000, origin_bps: 0 };
/// An hour of the demo.
const DEMO_TICKET: (Balance, u64) = (Balance::of(2_000_000_000), 3_600_000);
/// Blocks that may be waiting for a follower; one that is slower resynchronises.
const DELTAS_MAX: usize = 1024;
/// How long a transaction of this node's own may take into a block.
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// A block that is further from the clock is no present.
const BLOCK_AGE_MAX: Duration = Duration::from_secs(5);
/// For how many blocks such a transaction is good.
const VALID_BLOCKS: u64 = 100;

/// The node's own keys, each in `keys/` of the home.
pub struct Keys {
    /// The relay's account: it is paid.
    pub operator: SigningKey,
    /// Signs BindAck and receipts, presents vouchers and pays the fees for that; no more.
    pub relay: SigningKey,
    /// Creator of the demo stream.
    pub creator: SigningKey,
    /// Gives play money away.
    faucet: SigningKey,
}

impl Keys {
    /// Reads them; makes those that are missing.
    pub fn open(home: &Path) -> Result<Self, home::HomeError> {
        let key = |name| home::signing_key(home, name);
        Ok(Self {
            operator: key("operator")?,
            relay: key("relay")?,
            creator: key("creator")?,
            faucet: key("faucet")?,
        })
    }
}

/// A chain of one validator, alive as long as this process.
pub struct EmbeddedChain {
    app: Arc<App>,
    engine: Engine,
    faucet_key: SigningKey,
    faucet: Mutex<Faucet>,
    /// Held while a transaction of the faucet is made: one nonce, one transaction.
    faucet_turn: Mutex<()>,
}

impl EmbeddedChain {
    /// Opens the chain of this home, or begins one with a new name.
    pub fn start(home: &Path, keys: &Keys) -> anyhow::Result<Arc<Self>> {
        files::check(home)?;
        let dir = home.join("chain");
        home::create_dir(&dir)?;
        let config = home.join("config");
        home::create_dir(&config)?;
        let validator = ValidatorKey::load_or_create(&config.join("priv_validator_key.json"))?;
        let node_key = NodeKey::load_or_create(&config.join("node_key.json"))?;
        let genesis = Genesis::load_or_create(&config.join("genesis.json"), || {
            development_genesis(&validator, keys)
        })?;
        let state_file: PathBuf = dir.join("priv_validator_state.json");
        let app = Arc::new(App::open(&dir.join("state"))?);
        let config =
            EngineConfig::new(dir.join("blocks"), genesis, validator, node_key, state_file);
        let engine = Engine::start(config, app.clone())?;
        Ok(Arc::new(Self {
            app,
            engine,
            faucet_key: keys.faucet.clone(),
            faucet: Mutex::default(),
            faucet_turn: Mutex::default(),
        }))
    }

    /// The engine, for its RPC.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The newest committed state.
    pub fn read(&self) -> StateSnapshot {
        self.app.snapshot()
    }

    /// The chain's parameters.
    pub fn params(&self) -> Result<Params, ChainError> {
        self.read().params().map_err(unreadable)
    }

    /// Why nobody can rely on the chain now, in a sentence that says what to do; `None`: it goes on.
    pub fn is_stale(&self) -> Option<String> {
        if let Some(halted) = self.engine.is_halted() {
            return Some(format!(
                "The chain has stopped ({halted}): mend that, such as by freeing disk space, and start the node again."
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = Duration::from_millis(self.engine.latest_block_time_ms());
        let apart = now.abs_diff(newest);
        (apart > BLOCK_AGE_MAX).then(|| {
            format!(
                "The newest block is {} s away from this machine's clock: look at the clock and at the log.",
                apart.as_secs()
            )
        })
    }

    /// Finishes the block that is being made and stops.
    pub fn stop(&self) {
        self.engine.stop();
    }

    /// Signs, sends and waits until it is in a block. Blocks for a block's time.
    ///
    /// # Errors
    /// A refusal in the chain's words, or no block in time.
    pub fn transact(&self, key: &SigningKey, payload: Payload) -> anyhow::Result<[u8; 32]> {
        let signer = AccountId::from(key);
        let state = self.read();
        let nonce = state.account(&signer)?.unwrap_or_default().nonce;
        let params = state.params()?;
        let mut body = TransactionBody {
            signer,
            fee_payer: None,
            nonce,
            valid_until_height: state.height() + VALID_BLOCKS,
            fee: Balance::ZERO,
            payload,
        };
        body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
        let bytes = body.sign(key, self.chain_id()).encode();
        let hash = transaction_hash(&bytes);
        // Before it is sent: the block may be faster than the answer.
        let blocks = self.app.subscribe(DELTAS_MAX);
        let checked = self.engine.broadcast_tx_sync(bytes)?;
        if checked.code != 0 {
            bail!("{}", checked.log);
        }
        let deadline = Instant::now() + COMMIT_MAX;
        loop {
            let block = match blocks.recv_deadline(deadline) {
                Ok(block) => block,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no block took it within {} s", COMMIT_MAX.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the chain has stopped"),
            };
            match block.results.iter().find(|(known, _)| *known == hash) {
                Some((_, 0)) => return Ok(hash),
                Some((_, code)) => match ResultCode::from_code(*code) {
                    Some(code) => bail!("{}", code.advice()),
                    None => bail!("the chain refused it with code {code}"),
                },
                None => {}
            }
        }
    }

    /// Makes this node's relay and its demo stream known to the chain, where they are not yet. Gives
    /// the demo stream.
    pub fn introduce(&self, keys: &Keys, endpoint: &str, demo: bool) -> anyhow::Result<StreamId> {
        let account = AccountId::from(&keys.operator);
        let relay_key = AccountId::from(&keys.relay);
        let facts = RelayFacts {
            relay_key,
            endpoint: endpoint.to_owned(),
            region: String::new(),
            wholesale_per_gb: Balance::ZERO,
            min_share_bps: 0,
        };
        match self.read().relay(&account)? {
            None => {
                let payload = Payload::RegisterRelay { relay: facts, bond: Balance::ZERO };
                self.transact(&keys.operator, payload).with_context(|| {
                    format!(
                        "the relay cannot be registered by account {account}, which pays for it"
                    )
                })?;
            }
            Some(known) if known.relay_key != relay_key || known.endpoint != endpoint => {
                self.transact(&keys.operator, Payload::UpdateRelay { relay: facts })
                    .context("the relay's facts cannot be updated")?;
            }
            Some(_) => {}
        }
        // The first transaction of that account, so its id is known before it is sent.
        let stream = StreamId::of(&AccountId::from(&keys.creator), 0);
        if demo && self.read().stream(&stream)?.is_none() {
            self.transact(&keys.creator, demo_stream()).with_context(|| {
                let creator = AccountId::from(&keys.creator);
                format!(
                    "the demo stream cannot be registered by account {creator}, which pays for it"
                )
            })?;
        }
        Ok(stream)
    }

    /// Gives play money to an account. Blocks for a block's time.
    ///
    /// # Errors
    /// [`FaucetRefused`], or the chain does not take the transaction.
    pub fn drip(&self, account: AccountId, from: IpAddr) -> anyhow::Result<([u8; 32], Balance)> {
        let _turn = self.faucet_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let faucet = || self.faucet.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.account(&AccountId::from(&self.faucet_key))?.balance;
        faucet().take(account, from, left, FAUCET_BALANCE, Instant::now())?;
        match self.transact(&self.faucet_key, Payload::Transfer { to: account, amount: DROP }) {
            Ok(hash) => Ok((hash, DROP)),
            Err(error) => {
                faucet().give_back(account);
                Err(error)
            }
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> ChainError {
    ChainError(error.to_string())
}

impl Chain for EmbeddedChain {
    fn chain_id(&self) -> &str {
        self.engine.chain_id()
    }

    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
        // First the later blocks, then the state: nothing falls between. A block that comes twice
        // is known by its height.
        let deltas = self.app.subscribe(DELTAS_MAX);
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

fn development_genesis(validator: &ValidatorKey, keys: &Keys) -> Genesis {
    use rand::RngCore;
    let name = format!("sutantra-dev-{:08x}", rand::rng().next_u32());
    let own = [&keys.operator, &keys.relay, &keys.creator].map(|key| (key, OWN_BALANCE));
    let funded = own.into_iter().chain([(&keys.faucet, FAUCET_BALANCE)]);
    let accounts: Vec<_> = funded
        .map(|(key, balance)| {
            serde_json::json!({"account": AccountId::from(key), "balance": balance})
        })
        .collect();
    let app_state = serde_json::json!({"params": Params::for_tests(), "accounts": accounts});
    Genesis::single(
        name.parse().expect("letters, digits and dashes, under 50 characters"),
        tendermint::Time::now(),
        validator.public_key(),
        app_state,
    )
}

fn demo_stream() -> Payload {
    let (ticket_price, ticket_ms) = DEMO_TICKET;
    Payload::RegisterStream {
        title: crate::demo::TITLE.to_owned(),
        policy: Policy::Paid,
        price: Price {
            rate_per_second: DEMO_RATE,
            tier_bps: [2_500, 5_000, 10_000],
            ticket_price,
            ticket_ms,
        },
        split: DEMO_SPLIT,
        origin_relay: None,
        issuers: Vec::new(),
        codecs: vec!["VP8".to_owned(), "opus".to_owned()],
        ext: BTreeMap::new(),
    }
}

/// Why the chain of this home cannot be used, in a sentence for the start-up screen.
pub fn unusable(error: anyhow::Error) -> anyhow::Error {
    anyhow!(
        "the chain of this home cannot be used: {}; start with another --home, or with --chain=false",
        files::sentence(&error)
    )
}
