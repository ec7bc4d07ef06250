//! The state machine: accounts, streams, channels, access and relays, driven by ABCI.
//!
//! A block is a pure function of the committed state and the request: no clock, no randomness, no
//! unordered map. FinalizeBlock computes in memory, Commit makes it durable in one batch, and only
//! then do queries, CheckTx and followers ([`App::subscribe`]) see it.

mod abci;
mod access;
mod accounts;
mod books;
mod channels;
mod deltas;
mod events;
mod execute;
mod expected;
mod export;
mod form;
mod genesis;
mod governance;
mod index;
mod mempool;
mod proposal;
mod query;
mod read;
mod records;
mod redeem;
mod relays;
mod signatures;
mod stake;
mod state;
mod statesync;
mod streams;
mod upgrade;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use chain_types::{
    Account, AccountId, Balance, BlockDelta, ChainEvent, Params, StateKey, Transaction,
    staking::{DoneUpgrade, Validator},
    transaction_hash,
};
use crossbeam_channel::Receiver;
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::{
        abci::{
            CheckTxType, RequestFinalizeBlock, RequestInitChain, RequestPrepareProposal,
            RequestProcessProposal, ResponseFinalizeBlock, ValidatorUpdate,
        },
        crypto::{PublicKey, public_key},
    },
};

use self::{
    abci::Failure,
    deltas::Subscribers,
    execute::Refusal,
    expected::{Expected, Offer},
    mempool::Waiting,
    proposal::{BLOCK_BYTES_MAX, Candidate},
    signatures::SignatureCache,
    stake::PowerUpdate,
    state::{BlockState, decode},
    statesync::StateSync,
};
pub use self::{
    books::Audit,
    channels::LANES_PER_FINALIZE,
    genesis::{AppState, GenesisAccount, GenesisError, GenesisRecord},
    mempool::{NONCES_AHEAD, WAITING_MAX},
    query::{LIST_MAX, PROOF_TYPE},
    read::StateSnapshot,
    redeem::{ENTRY_OUTCOME_BYTES, EntryOutcome},
    state::StateError,
    statesync::Options,
    upgrade::{KnownUpgrade, Migration, UPGRADE_INFO_FILE, UPGRADES},
};
use crate::store::{Prepared, Store, StoreError, Update, Writes};

/// Version of the state machine's rules, in `Info` and in block headers.
pub const APP_VERSION: u64 = 1;

/// The application over a directory of its own.
pub struct App {
    store: Store,
    committed: RwLock<Arc<Committed>>,
    finalized: Mutex<Option<Finalized>>,
    waiting: Mutex<Waiting>,
    expected: Mutex<Expected>,
    verified: Mutex<SignatureCache>,
    subscribers: Mutex<Subscribers>,
    statesync: StateSync,
    dir: PathBuf,
    upgrades: &'static [KnownUpgrade],
}

/// What queries and CheckTx see.
struct Committed {
    snapshot: StateSnapshot,
    /// `None` before the genesis state.
    params: Option<Params>,
    /// The program is too old for this state.
    unknown_upgrade: Option<DoneUpgrade>,
}

/// A block that was executed and waits for its commit.
struct Finalized {
    prepared: Prepared,
    events: Vec<ChainEvent>,
    results: Vec<([u8; 32], u32)>,
}

/// Why the application cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The directory, another process, another layout.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl App {
    /// Opens the state in `dir`, which is made where it is not there.
    ///
    /// # Errors
    /// See [`StoreError`] and [`StateError`]; each is a sentence for the operator.
    pub fn open(dir: &Path) -> Result<Self, AppError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`App::open`], kept as `options` say.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, AppError> {
        Self::open_knowing(dir, options, UPGRADES)
    }

    /// As [`App::open_with`], with other upgrades than this program's own [`UPGRADES`].
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_knowing(
        dir: &Path,
        options: Options,
        upgrades: &'static [KnownUpgrade],
    ) -> Result<Self, AppError> {
        let store = Store::open_with(dir, options.versions_kept)?;
        let statesync = StateSync::start(dir, &options)?;
        let committed = Committed::of(&store, upgrades)?;
        Ok(Self {
            store,
            dir: dir.to_owned(),
            upgrades,
            expected: Mutex::default(),
            committed: RwLock::new(Arc::new(committed)),
            finalized: Mutex::default(),
            waiting: Mutex::default(),
            verified: Mutex::default(),
            subscribers: Mutex::default(),
            statesync,
        })
    }

    /// The committed state as it is now.
    pub fn snapshot(&self) -> StateSnapshot {
        self.committed().snapshot.clone()
    }

    /// Follows the chain: one delta for each block that is committed from now on, after it is
    /// durable.
    ///
    /// The queue holds `capacity` of them. Whoever lets it fill is let go: the channel ends behind
    /// what is in it. Then, and at the beginning: subscribe, take a [`App::snapshot`], ignore deltas
    /// up to its height.
    pub fn subscribe(&self, capacity: usize) -> Receiver<Arc<BlockDelta>> {
        lock(&self.subscribers).add(capacity)
    }

    fn committed(&self) -> Arc<Committed> {
        Arc::clone(&self.committed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn genesis(&self, request: &RequestInitChain) -> Result<[u8; 32], Failure> {
        if request.chain_id.is_empty() {
            return Err(Failure::Said("the chain has no id".to_owned()));
        }
        let state = AppState::parse(&request.app_state_bytes)
            .map_err(|error| Failure::Said(error.to_string()))?;
        let faults = state.check(&request.chain_id);
        if !faults.is_empty() {
            return Err(Failure::Said(GenesisError(faults).to_string()));
        }
        // CometBFT counts from 1 where the file says nothing.
        let height = height(request.initial_height)?.saturating_sub(1);
        if height > 0 && state.records.is_empty() {
            let sentence = "initial_height is above 1: only an exported state begins later";
            return Err(Failure::Said(sentence.to_owned()));
        }
        let block_time_ms = unix_ms(request.time.as_ref())?;
        let writes = state.writes(&request.chain_id, block_time_ms);
        let snapshot = self.snapshot();
        if let Some(head) = snapshot.head() {
            // Asked again, since the first block was not committed.
            let is_same = head.height == height
                && snapshot.chain_id() == Some(&request.chain_id)
                && head.block_time_ms == block_time_ms
                && holds_exactly(&snapshot, &writes)?;
            if is_same {
                return Ok(head.app_hash);
            }
            let sentence = "this directory has the state of another genesis: use another directory";
            return Err(Failure::Said(sentence.to_owned()));
        }
        let chain_id = Some(request.chain_id.clone());
        let entries = writes.iter().map(|(key, value)| {
            Ok::<_, StateError>((key.clone(), value.clone().unwrap_or_default()))
        });
        let index_added = index::of_state(entries)?;
        let update =
            Update { height, block_time_ms, writes, chain_id, index_added, ..Update::default() };
        let prepared = self.store.prepare(update)?;
        self.store.commit(&prepared)?;
        self.refresh()?;
        Ok(prepared.head().app_hash)
    }

    /// The voting validators of the committed state, for the engine; none where its own genesis names
    /// them.
    fn voters(&self) -> Result<Vec<ValidatorUpdate>, StateError> {
        let mut voters = Vec::new();
        for entry in self.snapshot().records::<Validator>(StateKey::VALIDATORS) {
            let (_, Validator { consensus_key, power, .. }) = entry?;
            if power > 0 {
                voters.push(engine_update(PowerUpdate { consensus_key, power }));
            }
        }
        Ok(voters)
    }

    /// Lets readers see what was committed.
    fn refresh(&self) -> Result<(), StateError> {
        let committed = Arc::new(Committed::of(&self.store, self.upgrades)?);
        *self.committed.write().unwrap_or_else(PoisonError::into_inner) = committed;
        Ok(())
    }

    /// Verifies the signatures of transactions that are to be checked next in one batch, which costs
    /// a fifth of one by one. Those that fail for a cheaper reason are left out.
    fn verify_together(&self, txs: &[Bytes]) -> Result<(), StateError> {
        let committed = self.committed();
        let chain_id = committed.snapshot.chain_id().ok_or(StateError::NoGenesis)?;
        let height = committed.snapshot.height();
        let mut worthy = Vec::with_capacity(txs.len());
        for bytes in txs {
            if let Ok((transaction, balance)) = committed.check_offer(bytes)? {
                let (bytes, hash) = (bytes.clone(), transaction_hash(bytes));
                worthy.push(Offer { bytes, hash, transaction, balance, height });
            }
        }
        let claims: Vec<_> =
            worthy.iter().map(|offer| (offer.hash, Some(&offer.transaction))).collect();
        self.verify(&claims, chain_id);
        lock(&self.expected).announce(worthy);
        Ok(())
    }

    fn check(&self, bytes: &[u8], kind: CheckTxType) -> Result<Result<(), Refusal>, StateError> {
        let committed = self.committed();
        let announced = lock(&self.expected).take(bytes, committed.snapshot.height());
        let (hash, transaction, balance) = match announced {
            Some(Offer { hash, transaction, balance, .. }) => (hash, transaction, balance),
            None => match committed.check_offer(bytes)? {
                Ok((transaction, balance)) => (transaction_hash(bytes), transaction, balance),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        // The dearest check is last, and outside of every lock.
        if kind == CheckTxType::New && !self.is_signed(&hash, &transaction, &committed.snapshot)? {
            let log = "a signature does not fit its key, the bytes and this chain".to_owned();
            return Ok(Err((chain_types::ResultCode::Signature, log)));
        }
        Ok(lock(&self.waiting).enter(hash, &transaction, balance))
    }

    fn is_signed(
        &self,
        hash: &[u8; 32],
        transaction: &Transaction,
        snapshot: &StateSnapshot,
    ) -> Result<bool, StateError> {
        if lock(&self.verified).contains(hash) {
            return Ok(true);
        }
        let chain_id = snapshot.chain_id().ok_or(StateError::NoGenesis)?;
        let holds = signatures::all_hold(&signatures::claims(transaction, chain_id));
        if holds {
            lock(&self.verified).insert(*hash);
        }
        Ok(holds)
    }

    fn prepare(&self, request: &RequestPrepareProposal) -> Result<Vec<Bytes>, Failure> {
        let height = height(request.height)?;
        let committed = self.committed();
        let Some(params) = &committed.params else { return Err(StateError::NoGenesis.into()) };
        let snapshot = &committed.snapshot;
        let mut candidates = Vec::new();
        let mut next: BTreeMap<AccountId, u64> = BTreeMap::new();
        for bytes in &request.txs {
            let Ok(transaction) = execute::read(bytes, params) else { continue };
            if execute::check_offer(&transaction, bytes.len(), height, params).is_err()
                || !self.is_signed(&transaction_hash(bytes), &transaction, snapshot)?
            {
                continue;
            }
            let signer = transaction.body.signer;
            if let std::collections::btree_map::Entry::Vacant(place) = next.entry(signer) {
                place.insert(snapshot.account(&signer)?.unwrap_or_default().nonce);
            }
            let class = proposal::class_of(&transaction.body.payload, &snapshot.0)?;
            candidates.push(Candidate { bytes: bytes.clone(), transaction, class });
        }
        // Without a limit of the engine's (`max_bytes = -1`) the whole mempool comes to be ordered.
        let bytes_max = u64::try_from(request.max_tx_bytes).unwrap_or(0).min(BLOCK_BYTES_MAX);
        Ok(proposal::order(candidates, &next, bytes_max))
    }

    fn is_acceptable(&self, request: &RequestProcessProposal) -> Result<bool, Failure> {
        let committed = self.committed();
        let Some(params) = &committed.params else { return Err(StateError::NoGenesis.into()) };
        let chain_id = committed.snapshot.chain_id().ok_or(StateError::NoGenesis)?;
        if !proposal::fits(&request.txs) {
            return Ok(false);
        }
        let mut transactions = Vec::with_capacity(request.txs.len());
        for bytes in &request.txs {
            let Ok(transaction) = execute::read(bytes, params) else { return Ok(false) };
            transactions.push((transaction_hash(bytes), transaction));
        }
        let transactions: Vec<_> =
            transactions.iter().map(|(hash, transaction)| (*hash, Some(transaction))).collect();
        Ok(self.verify(&transactions, chain_id).into_iter().all(|is_signed| is_signed))
    }

    /// Whether the signatures of each transaction hold; `false` where there is none.
    fn verify(
        &self,
        transactions: &[([u8; 32], Option<&Transaction>)],
        chain_id: &str,
    ) -> Vec<bool> {
        let mut verdicts = vec![false; transactions.len()];
        let mut unknown = Vec::new();
        {
            let verified = lock(&self.verified);
            for (at, (hash, transaction)) in transactions.iter().enumerate() {
                let Some(transaction) = transaction else { continue };
                if verified.contains(hash) {
                    verdicts[at] = true;
                } else {
                    unknown.push((at, signatures::claims(transaction, chain_id)));
                }
            }
        }
        let (places, claims): (Vec<usize>, Vec<_>) = unknown.into_iter().unzip();
        let found = signatures::verdicts(&claims);
        let mut verified = lock(&self.verified);
        for (at, holds) in places.into_iter().zip(found) {
            verdicts[at] = holds;
            if holds {
                verified.insert(transactions[at].0);
            }
        }
        verdicts
    }

    fn execute(&self, request: &RequestFinalizeBlock) -> Result<ResponseFinalizeBlock, Failure> {
        let (height, time_ms) = (height(request.height)?, unix_ms(request.time.as_ref())?);
        let committed = self.committed();
        let head = committed.snapshot.head().ok_or(StateError::NoGenesis)?;
        if head.height.checked_add(1) != Some(height) {
            let committed = head.height;
            return Err(Failure::Said(format!(
                "block {height} does not follow the state of height {committed}"
            )));
        }
        if let Some(done) = &committed.unknown_upgrade {
            return Err(upgrade::too_old(done));
        }
        let mut state = BlockState::new(committed.snapshot.0.clone(), height, time_ms)?;
        let mut block_events = state.upgrade(self.upgrades, &self.dir)?;
        let votes = request.decided_last_commit.as_ref().map_or(&[][..], |last| &last.votes);
        block_events.extend(state.begin(&request.misbehavior, votes)?);
        let read: Vec<_> =
            request.txs.iter().map(|bytes| execute::read(bytes, &state.params)).collect();
        let hashes: Vec<_> = request.txs.iter().map(|bytes| transaction_hash(bytes)).collect();
        let claims: Vec<_> =
            hashes.iter().zip(&read).map(|(hash, read)| (*hash, read.as_ref().ok())).collect();
        let verdicts = self.verify(&claims, &state.chain_id);
        let mut tx_results = Vec::with_capacity(read.len());
        let mut results = Vec::with_capacity(read.len());
        let mut events = Vec::new();
        for (at, (read, is_signed)) in read.into_iter().zip(verdicts).enumerate() {
            let done = state.execute(read, request.txs[at].len(), is_signed)?;
            results.push((hashes[at], done.code()));
            tx_results.push(events::result(&done));
            events.extend(done.events);
        }
        let (updates, ended) = state.end()?;
        block_events.extend(ended);
        state.check_books()?;
        let changes = state.index_changes()?;
        let (writes, before) = state.into_writes();
        let prepared = self.store.prepare(Update {
            height,
            block_time_ms: time_ms,
            writes,
            before,
            index_added: changes.added,
            index_removed: changes.removed,
            chain_id: None,
        })?;
        let app_hash = Bytes::copy_from_slice(&prepared.head().app_hash);
        let mut told: Vec<_> = block_events.iter().map(events::to_abci).collect();
        told.extend(events::changes(prepared.writes()));
        block_events.extend(events);
        *lock(&self.finalized) = Some(Finalized { prepared, events: block_events, results });
        Ok(ResponseFinalizeBlock {
            events: told,
            tx_results,
            app_hash,
            validator_updates: updates.into_iter().map(engine_update).collect(),
            ..ResponseFinalizeBlock::default()
        })
    }

    fn make_durable(&self) -> Result<(), Failure> {
        let Some(finalized) = lock(&self.finalized).take() else {
            return Err(Failure::Said("there is no finalized block".to_owned()));
        };
        let Finalized { prepared, events, results } = finalized;
        self.store.commit(&prepared)?;
        upgrade::warn(&events, self.upgrades);
        self.refresh()?;
        self.snapshot_if_due();
        lock(&self.waiting).clear();
        {
            let mut verified = lock(&self.verified);
            results.iter().for_each(|(hash, _)| verified.remove(hash));
        }
        let mut subscribers = lock(&self.subscribers);
        if !subscribers.are_none() {
            subscribers.send(&Arc::new(deltas::delta(&prepared, events, results)?));
        }
        Ok(())
    }
}

impl Committed {
    /// Reads a transaction and checks all but its signatures; with what its fee payer has.
    fn check_offer(
        &self,
        bytes: &[u8],
    ) -> Result<Result<(Transaction, Balance), Refusal>, StateError> {
        let Some(params) = &self.params else {
            // Others send transactions while this node still looks for a snapshot.
            let log = "this node has no state yet: send it to another, or later".to_owned();
            return Ok(Err((chain_types::ResultCode::Policy, log)));
        };
        let transaction = match execute::read(bytes, params) {
            Ok(transaction) => transaction,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let snapshot = &self.snapshot;
        let next_height = snapshot.height().saturating_add(1);
        let account = |account| -> Result<Account, StateError> {
            Ok(snapshot.account(&account)?.unwrap_or_default())
        };
        let (signer, payer) = (transaction.body.signer, transaction.fee_payer());
        let Account { nonce, balance } = account(signer)?;
        let checked = execute::check_offer(&transaction, bytes.len(), next_height, params)
            .and_then(|()| mempool::check_nonce(transaction.body.nonce, nonce));
        if let Err(refusal) = checked {
            return Ok(Err(refusal));
        }
        let balance = if payer == signer { balance } else { account(payer)?.balance };
        if balance < transaction.body.fee {
            return Ok(Err(execute::cannot_pay(balance, transaction.body.fee)));
        }
        Ok(Ok((transaction, balance)))
    }

    fn of(store: &Store, upgrades: &[KnownUpgrade]) -> Result<Self, StateError> {
        let snapshot = StateSnapshot(store.snapshot()?);
        let params = match snapshot.0.get(&StateKey::Params.to_bytes())? {
            None => None,
            Some(bytes) => Some(decode(StateKey::Params, &bytes)?),
        };
        let unknown_upgrade = upgrade::unknown(&snapshot.0, upgrades)?;
        Ok(Self { snapshot, params, unknown_upgrade })
    }
}

/// What the engine is told of a validator.
fn engine_update(PowerUpdate { consensus_key, power }: PowerUpdate) -> ValidatorUpdate {
    let key = consensus_key.0.to_vec();
    ValidatorUpdate {
        pub_key: Some(PublicKey { sum: Some(public_key::Sum::Ed25519(key)) }),
        power: i64::try_from(power).unwrap_or(i64::MAX),
    }
}

/// None of these locks guards something that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn holds_exactly(snapshot: &StateSnapshot, writes: &Writes) -> Result<bool, StateError> {
    let mut expected = writes.iter();
    for entry in snapshot.iterate(b"") {
        let (key, value) = entry?;
        if expected.next() != Some((&key, &Some(value))) {
            return Ok(false);
        }
    }
    Ok(expected.next().is_none())
}

fn height(height: i64) -> Result<u64, Failure> {
    u64::try_from(height).map_err(|_| Failure::Said(format!("the height {height} is negative")))
}

fn unix_ms(time: Option<&Timestamp>) -> Result<u64, Failure> {
    let ms = time.and_then(|time| {
        let ms = u64::try_from(time.nanos).ok()? / 1_000_000;
        u64::try_from(time.seconds).ok()?.checked_mul(1000)?.checked_add(ms)
    });
    ms.ok_or_else(|| Failure::Said("the block has no time, or one before 1970".to_owned()))
}
