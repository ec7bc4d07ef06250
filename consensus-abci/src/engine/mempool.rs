//! Transactions that wait for a block: bounded, in order of arrival, each once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::block::{encoded_tx_bytes, tx_hash};
use super::index::FoundTx;

/// SHA-256 of a transaction.
pub type TxHash = [u8; 32];

/// Bounds of the mempool. What does not fit is refused with a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Most transactions that wait.
    pub txs_max: usize,
    /// Most bytes that wait, all transactions together.
    pub bytes_max: usize,
    /// Longest transaction.
    pub tx_bytes_max: usize,
    /// Hashes remembered to refuse what was seen; the oldest is forgotten.
    pub cache_max: usize,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        MempoolLimits {
            txs_max: 10_000,
            bytes_max: 32 * 1024 * 1024,
            tx_bytes_max: 512 * 1024,
            cache_max: 50_000,
        }
    }
}

/// Why a transaction does not wait for a block. The sentences are CometBFT's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    #[error("Tx too large. Max size is {max}, but got {bytes}")]
    TooLarge { bytes: usize, max: usize },
    #[error("tx already exists in cache")]
    InCache,
    #[error(
        "mempool is full: number of txs {txs} (max: {txs_max}), total txs bytes {bytes} (max: \
         {bytes_max})"
    )]
    Full { txs: usize, txs_max: usize, bytes: usize, bytes_max: usize },
    #[error("too many clients wait for their transactions' blocks (max: {max})")]
    TooManyWaiters { max: usize },
}

/// What came of a transaction that somebody waits for.
#[derive(Debug)]
pub(crate) enum Fate {
    Included(Box<FoundTx>),
    /// A later block made it invalid: the recheck's code and log.
    Evicted {
        code: u32,
        log: String,
    },
    /// No block will be made: the sentence.
    Halted(String),
}

/// Most clients that wait for their transactions' blocks.
const WAITERS_MAX: usize = 1_000;

pub(crate) struct Mempool {
    limits: MempoolLimits,
    pool: Mutex<Pool>,
    wake: Condvar,
    /// Read by CheckTx of new transactions, written while a block is committed and what is left is
    /// rechecked: an application's view of pending transactions is rebuilt in one piece.
    gate: RwLock<()>,
}

#[derive(Default)]
struct Pool {
    /// By arrival.
    txs: BTreeMap<u64, (TxHash, Bytes)>,
    arrivals: HashMap<TxHash, u64>,
    next_arrival: u64,
    bytes: usize,
    /// Hash → its number in the order.
    cache: HashMap<TxHash, u64>,
    cache_order: VecDeque<(u64, TxHash)>,
    next_remembered: u64,
    waiters: HashMap<TxHash, Vec<oneshot::Sender<Fate>>>,
    /// Something came that no proposal has been offered.
    fresh: bool,
    stop: bool,
}

/// Why the block thread woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Block,
    Stop,
}

impl Mempool {
    pub(crate) fn new(limits: MempoolLimits) -> Self {
        Mempool { limits, pool: Mutex::default(), wake: Condvar::new(), gate: RwLock::default() }
    }

    /// Held by a caller around CheckTx and [`Mempool::insert`].
    pub(crate) fn checking(&self) -> RwLockReadGuard<'_, ()> {
        // A CheckTx that panicked leaves nothing half done here.
        self.gate.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Held by the block thread around Commit and recheck.
    pub(crate) fn committing(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().expect("nothing in here panics")
    }

    /// First half of a broadcast: takes the hash into the cache, or says why CheckTx need not run.
    pub(crate) fn admit(&self, tx: &[u8]) -> Result<TxHash, MempoolError> {
        let max = self.limits.tx_bytes_max;
        if tx.len() > max {
            return Err(MempoolError::TooLarge { bytes: tx.len(), max });
        }
        let hash = tx_hash(tx);
        let mut pool = self.pool();
        pool.check_room(&self.limits, tx.len())?;
        if !pool.remember(hash, self.limits.cache_max) {
            return Err(MempoolError::InCache);
        }
        Ok(hash)
    }

    /// CheckTx refused it: the same bytes may be tried again.
    pub(crate) fn forget(&self, hash: &TxHash) {
        self.pool().forget(hash);
    }

    /// Second half of a broadcast: CheckTx accepted it, now it waits.
    pub(crate) fn insert(&self, hash: TxHash, tx: Bytes) -> Result<(), MempoolError> {
        let mut pool = self.pool();
        if let Err(full) = pool.check_room(&self.limits, tx.len()) {
            pool.forget(&hash);
            return Err(full);
        }
        let arrival = pool.next_arrival;
        pool.next_arrival += 1;
        pool.bytes += tx.len();
        pool.txs.insert(arrival, (hash, tx));
        pool.arrivals.insert(hash, arrival);
        pool.fresh = true;
        self.wake.notify_one();
        Ok(())
    }

    /// Tells what became of `hash`. Register before the broadcast.
    pub(crate) fn wait_for(&self, hash: TxHash) -> Result<oneshot::Receiver<Fate>, MempoolError> {
        let mut pool = self.pool();
        pool.drop_gone_waiters();
        if pool.waiters.len() >= WAITERS_MAX {
            return Err(MempoolError::TooManyWaiters { max: WAITERS_MAX });
        }
        let (sender, receiver) = oneshot::channel();
        pool.waiters.entry(hash).or_default().push(sender);
        Ok(receiver)
    }

    /// Transactions in order of arrival: at most `bytes_max` in a block's encoding.
    pub(crate) fn reap(&self, bytes_max: i64) -> Vec<Bytes> {
        let mut pool = self.pool();
        pool.fresh = false;
        let mut room = bytes_max;
        let fits = |(_, tx): &&(TxHash, Bytes)| {
            room -= encoded_tx_bytes(tx);
            room >= 0
        };
        pool.txs.values().take_while(fits).map(|(_, tx)| tx.clone()).collect()
    }

    /// A block took these: they leave, and stay known so that they are not taken twice.
    pub(crate) fn remove_committed(&self, hashes: &[TxHash]) {
        let mut pool = self.pool();
        for hash in hashes {
            pool.remove(hash);
            pool.remember(*hash, self.limits.cache_max);
        }
        // What a full block left behind is as good as new; what a proposal passed over is not, or
        // a transaction that must wait would drive empty blocks.
        pool.fresh |= !hashes.is_empty() && !pool.txs.is_empty();
    }

    /// Everything that waits.
    pub(crate) fn waiting(&self) -> Vec<(TxHash, Bytes)> {
        self.pool().txs.values().cloned().collect()
    }

    /// The first `limit` of what waits.
    pub(crate) fn oldest(&self, limit: usize) -> Vec<Bytes> {
        self.pool().txs.values().take(limit).map(|(_, tx)| tx.clone()).collect()
    }

    /// Takes out what can never be included; whoever waits for it is told.
    pub(crate) fn evict(&self, hash: &TxHash, code: u32, log: &str) {
        let mut pool = self.pool();
        pool.remove(hash);
        pool.forget(hash);
        for waiter in pool.waiters.remove(hash).unwrap_or_default() {
            // Whoever no longer listens misses nothing.
            let _ = waiter.send(Fate::Evicted { code, log: log.to_owned() });
        }
    }

    /// Whether somebody waits for `hash`; the sender half goes to the caller.
    pub(crate) fn take_waiters(&self, hash: &TxHash) -> Vec<oneshot::Sender<Fate>> {
        let mut pool = self.pool();
        match pool.waiters.is_empty() {
            true => Vec::new(),
            false => pool.waiters.remove(hash).unwrap_or_default(),
        }
    }

    /// Tells everybody who waits that no block comes.
    pub(crate) fn halt(&self, sentence: &str) {
        for waiter in std::mem::take(&mut self.pool().waiters).into_values().flatten() {
            let _ = waiter.send(Fate::Halted(sentence.to_owned()));
        }
    }

    /// Number of transactions and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let pool = self.pool();
        (pool.txs.len(), pool.bytes)
    }

    /// Sleeps until `busy_at` if transactions wait or come, otherwise until `idle_at`.
    pub(crate) fn wait(&self, busy_at: Instant, idle_at: Instant) -> Wake {
        let mut pool = self.pool();
        loop {
            if pool.stop {
                return Wake::Stop;
            }
            let due = if pool.fresh { busy_at } else { idle_at };
            let left = due.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Wake::Block;
            }
            pool = self.wake.wait_timeout(pool, left).expect("nothing in here panics").0;
        }
    }

    /// Whether the block thread is gone or goes.
    pub(crate) fn stopping(&self) -> bool {
        self.pool().stop
    }

    /// Wakes the block thread for the last time.
    pub(crate) fn stop(&self) {
        self.pool().stop = true;
        self.wake.notify_all();
    }
}

impl Pool {
    fn check_room(&self, limits: &MempoolLimits, tx_bytes: usize) -> Result<(), MempoolError> {
        let full = self.txs.len() >= limits.txs_max || self.bytes + tx_bytes > limits.bytes_max;
        match full {
            false => Ok(()),
            true => Err(MempoolError::Full {
                txs: self.txs.len(),
                txs_max: limits.txs_max,
                bytes: self.bytes,
                bytes_max: limits.bytes_max,
            }),
        }
    }

    /// False when it was known.
    fn remember(&mut self, hash: TxHash, cache_max: usize) -> bool {
        if self.cache.contains_key(&hash) || self.arrivals.contains_key(&hash) {
            return false;
        }
        let number = self.next_remembered;
        self.next_remembered += 1;
        self.cache.insert(hash, number);
        self.cache_order.push_back((number, hash));
        // Forgotten hashes stay in the order until they are the oldest: it has a bound of its own.
        while self.cache.len() > cache_max || self.cache_order.len() > cache_max.saturating_mul(2) {
            let Some((number, oldest)) = self.cache_order.pop_front() else { break };
            if self.cache.get(&oldest) == Some(&number) {
                self.cache.remove(&oldest);
            }
        }
        true
    }

    fn forget(&mut self, hash: &TxHash) {
        self.cache.remove(hash);
    }

    fn remove(&mut self, hash: &TxHash) {
        if let Some(arrival) = self.arrivals.remove(hash)
            && let Some((_, tx)) = self.txs.remove(&arrival)
        {
            self.bytes -= tx.len();
        }
    }

    fn drop_gone_waiters(&mut self) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }
}
