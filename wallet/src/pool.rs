//! A pool on this disk: the key of its vouchers and what was signed with it, written before it is.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use chain_types::{
    AccountId, Balance, Bind, Channel, ChannelId, LaneKey, QualityReport, SignedBind,
    SignedVoucher, SigningKey, Voucher,
};
use serde::{Deserialize, Serialize};

use crate::{
    file::{self, FileError},
    ledger::{Ledger, Room, RoomLimit},
};

/// Lanes of one pool; beyond it another pool is needed.
const LANES_MAX: usize = 4096;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Another program pays from it.
    #[error(
        "another program pays from the pool {0}: end it, or open a second pool with `sutantra-node wallet open`"
    )]
    Busy(ChannelId),
    /// The pool or a cap holds too little.
    #[error("{}", .0.advice())]
    Room(RoomLimit),
    /// A voucher that says less than an earlier one of its lane.
    #[error(
        "a voucher of nonce {nonce} and {cumulative} units says less than one that was signed before"
    )]
    Behind {
        /// Of the refused voucher.
        nonce: u64,
        /// Of the refused voucher.
        cumulative: Balance,
    },
    /// A voucher of another pool, or for transport between relays, which viewers do not pay.
    #[error("the voucher is not one that this pool may pay")]
    Foreign,
    /// Too many lanes.
    #[error("the pool pays on {LANES_MAX} lanes already: close it and open another one")]
    Lanes,
    /// After a failed write nobody knows what is on the disk.
    #[error("a write of the pool's sums failed before: start the program again")]
    Poisoned,
    /// The name cannot be a directory's.
    #[error("{0:?} is no usable chain id")]
    ChainId(String),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A pool of which the chain knows, but whose sums are not on this disk: nobody can tell what was
/// signed from it, so it is closed and never paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumsLost(pub ChannelId);

/// Where a pool stands, as far as this disk knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// Its transaction was about to be sent.
    Opening,
    /// The chain has it.
    Open,
    /// Its close was requested.
    Closing,
}

/// What was signed on one lane. Every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSums {
    /// Which.
    pub key: LaneKey,
    /// Version of the stream's terms.
    pub terms_version: u32,
    /// Units per second of its terms.
    pub rate: u64,
    /// Of the newest voucher.
    pub nonce: u64,
    /// Of the newest voucher.
    pub cumulative: Balance,
    /// Of the newest voucher.
    pub media_ms: u64,
    /// Of the newest voucher.
    pub bytes: u64,
    /// As the relay last said before it.
    pub served_ms: u64,
    /// Served time that was accepted without media: the connection broke, see
    /// [`crate::Payer::admission`].
    #[serde(default)]
    pub forgiven_ms: u64,
    /// Media came in the last session, and the session was not ended in order.
    #[serde(default)]
    pub is_open: bool,
}

impl LaneSums {
    /// Of a lane that was never paid.
    pub fn new(key: LaneKey, terms_version: u32, rate: u64) -> Self {
        Self {
            key,
            terms_version,
            rate,
            nonce: 0,
            cumulative: Balance::ZERO,
            media_ms: 0,
            bytes: 0,
            served_ms: 0,
            forgiven_ms: 0,
            is_open: false,
        }
    }
}

/// What stands behind a voucher and is no part of it: kept beside its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// As the relay last said, ms.
    pub served_ms: u64,
    /// Units per second.
    pub rate: u64,
    /// See [`LaneSums::forgiven_ms`].
    pub forgiven_ms: u64,
    /// Media has come in this session.
    pub has_media: bool,
}

/// 32 bytes that nobody sees: hex in the file, nothing in logs.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(from = "AccountId", into = "AccountId")]
struct Seed([u8; 32]);

impl From<AccountId> for Seed {
    fn from(id: AccountId) -> Self {
        Self(id.0)
    }
}

impl From<Seed> for AccountId {
    fn from(seed: Seed) -> Self {
        Self(seed.0)
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// One pool, as its file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pool {
    /// On chain.
    pub channel: ChannelId,
    /// Whose money.
    pub payer: AccountId,
    voucher_seed: Seed,
    /// All deposits that are known here.
    pub deposits: Balance,
    /// As on chain.
    pub expires_height: u64,
    /// As far as is known here.
    pub state: PoolState,
    /// What was signed.
    pub lanes: Vec<LaneSums>,
}

impl Pool {
    /// A pool that is about to be opened with the account's transaction `nonce`.
    pub fn draft(
        payer: AccountId,
        nonce: u64,
        voucher_seed: [u8; 32],
        deposits: Balance,
        expires_height: u64,
    ) -> Self {
        Self {
            channel: ChannelId::of(&payer, nonce),
            payer,
            voucher_seed: Seed(voucher_seed),
            deposits,
            expires_height,
            state: PoolState::Opening,
            lanes: Vec::new(),
        }
    }

    /// Signs the vouchers.
    pub fn voucher_key(&self) -> AccountId {
        AccountId::from(&SigningKey::from_bytes(&self.voucher_seed.0))
    }

    /// All that was signed, to everybody.
    pub fn signed(&self) -> Balance {
        self.lanes.iter().map(|lane| lane.cumulative).sum()
    }

    /// What can still be signed.
    pub fn left(&self) -> Balance {
        self.deposits.saturating_sub(self.signed())
    }

    /// The sums of a lane.
    pub fn lane(&self, key: &LaneKey) -> Option<&LaneSums> {
        self.lanes.iter().find(|lane| lane.key == *key)
    }

    /// The raise that a voucher means, if the rules allow it.
    fn raise_of(&self, voucher: &Voucher) -> Result<Balance, PoolError> {
        let Voucher { nonce, cumulative, .. } = *voucher;
        if voucher.channel != self.channel || voucher.stream.is_zero() {
            return Err(PoolError::Foreign);
        }
        let behind = PoolError::Behind { nonce, cumulative };
        let raise = match self.lane(&voucher.lane_key()) {
            None if self.lanes.len() >= LANES_MAX => return Err(PoolError::Lanes),
            None => cumulative,
            Some(sums) => {
                let grows = nonce > sums.nonce
                    && voucher.media_ms >= sums.media_ms
                    && voucher.bytes >= sums.bytes
                    && voucher.terms_version == sums.terms_version;
                if !grows {
                    return Err(behind);
                }
                cumulative.checked_sub(sums.cumulative).ok_or(behind)?
            }
        };
        if raise > self.left() { Err(PoolError::Room(RoomLimit::Pool)) } else { Ok(raise) }
    }

    fn record(&mut self, voucher: &Voucher, basis: Basis) {
        let key = voucher.lane_key();
        let at = self.lanes.iter().position(|lane| lane.key == key).unwrap_or_else(|| {
            self.lanes.push(LaneSums::new(key, voucher.terms_version, basis.rate));
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[at];
        lane.nonce = lane.nonce.max(voucher.nonce);
        lane.cumulative = lane.cumulative.max(voucher.cumulative);
        lane.media_ms = lane.media_ms.max(voucher.media_ms);
        lane.bytes = lane.bytes.max(voucher.bytes);
        lane.served_ms = lane.served_ms.max(basis.served_ms);
        lane.rate = lane.rate.max(basis.rate);
        lane.forgiven_ms = lane.forgiven_ms.max(basis.forgiven_ms);
        lane.is_open = basis.has_media;
    }
}

/// All pools of one wallet on one chain: a directory.
#[derive(Debug, Clone)]
pub struct Pools {
    dir: PathBuf,
    chain_id: String,
}

impl Pools {
    /// Below the wallet's directory; made where it is missing.
    ///
    /// # Errors
    /// A chain id that is no name for a directory, or the disk's.
    pub fn open(wallet_dir: &Path, chain_id: &str) -> Result<Self, PoolError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_name = !chain_id.is_empty()
            && chain_id.len() <= 64
            && !chain_id.starts_with('.')
            && chain_id.bytes().all(allowed);
        if !is_name {
            return Err(PoolError::ChainId(chain_id.to_owned()));
        }
        let dir = wallet_dir.join(chain_id);
        file::create_dir(&dir)?;
        Ok(Self { dir, chain_id: chain_id.to_owned() })
    }

    /// What the pools share.
    pub fn ledger(&self) -> Ledger {
        Ledger::at(&self.dir)
    }

    fn path(&self, channel: &ChannelId) -> PathBuf {
        self.dir.join(format!("pool-{channel}.json"))
    }

    /// The pools on this disk, in no order; one whose file cannot be read comes as [`SumsLost`].
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Pool, SumsLost>>, PoolError> {
        let io = |error| FileError::Io { path: self.dir.clone(), error };
        let mut pools = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_str().unwrap_or_default();
            let hex = name.strip_prefix("pool-").and_then(|name| name.strip_suffix(".json"));
            let Some(channel) = hex.and_then(|hex| hex.parse::<ChannelId>().ok()) else { continue };
            pools.push(self.load(&channel).map_err(|_| SumsLost(channel)));
        }
        Ok(pools)
    }

    /// Pools of the chain that have no readable file here.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn lost<'a>(
        &self,
        on_chain: impl IntoIterator<Item = &'a ChannelId>,
    ) -> Result<Vec<SumsLost>, PoolError> {
        let known: Vec<ChannelId> =
            self.list()?.into_iter().flatten().map(|pool| pool.channel).collect();
        let is_lost = |channel: &&ChannelId| !known.contains(channel);
        Ok(on_chain.into_iter().filter(is_lost).map(|channel| SumsLost(*channel)).collect())
    }

    fn load(&self, channel: &ChannelId) -> Result<Pool, FileError> {
        let path = self.path(channel);
        let damaged = |reason: String| FileError::Damaged { path: path.clone(), reason };
        let text = file::read(&path)?.ok_or_else(|| damaged("the file is missing".to_owned()))?;
        let pool: Pool = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if pool.channel != *channel {
            return Err(damaged("it is another pool's".to_owned()));
        }
        Ok(pool)
    }

    /// Writes a new pool's file, before its transaction is sent: money that the chain has and this
    /// disk knows nothing of could not be spent.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(&self, pool: &Pool) -> Result<OpenPool, PoolError> {
        let path = self.path(&pool.channel);
        if !file::create(&path, &to_text(pool))? {
            // The same nonce again: the earlier transaction was never in a block, so nothing was
            // signed with that file's key that anybody could redeem.
            let is_unused = self
                .load(&pool.channel)
                .is_ok_and(|old| old.state == PoolState::Opening && old.lanes.is_empty());
            if !is_unused {
                return Err(PoolError::Busy(pool.channel));
            }
            file::replace(&path, &to_text(pool))?;
        }
        self.pay_from(&pool.channel)
    }

    /// Opens a pool for paying, for this program alone until it is dropped.
    ///
    /// # Errors
    /// [`PoolError::Busy`], a damaged file, the disk's.
    pub fn pay_from(&self, channel: &ChannelId) -> Result<OpenPool, PoolError> {
        let path = self.path(channel);
        let lock_path = path.with_extension("lock");
        let lock = file::lock_file(&lock_path)?;
        // The kernel drops the lock with the process, however it ends: nothing to clean up.
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PoolError::Busy(*channel)),
            Err(TryLockError::Error(error)) => {
                return Err(FileError::Io { path: lock_path, error }.into());
            }
        }
        let pool = self.load(channel)?;
        let key = SigningKey::from_bytes(&pool.voucher_seed.0);
        let (ledger, chain_id) = (self.ledger(), self.chain_id.clone());
        Ok(OpenPool { pool, key, path, ledger, chain_id, is_poisoned: false, _lock: lock })
    }

    /// Forgets a pool that the chain has finalized, or never had.
    ///
    /// # Errors
    /// [`PoolError::Busy`], or the disk's.
    pub fn forget(&self, channel: &ChannelId) -> Result<(), PoolError> {
        let path = self.path(channel);
        let lock = file::lock_file(&path.with_extension("lock"))?;
        if lock.try_lock().is_err() {
            return Err(PoolError::Busy(*channel));
        }
        file::remove(&path)?;
        Ok(file::remove(&path.with_extension("lock"))?)
    }
}

fn to_text(pool: &Pool) -> String {
    serde_json::to_string(pool).expect("plain fields have a JSON form")
}

/// A pool and the right to sign from it.
#[derive(Debug)]
pub struct OpenPool {
    pool: Pool,
    key: SigningKey,
    path: PathBuf,
    ledger: Ledger,
    chain_id: String,
    is_poisoned: bool,
    _lock: File,
}

impl OpenPool {
    /// What is known of it.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What may still be signed for a stream, by deposit and caps.
    ///
    /// # Errors
    /// The ledger's file.
    pub fn room(&self, now_ms: u64, stream: &chain_types::StreamId) -> Result<Room, PoolError> {
        let left = Room { amount: self.pool.left(), limit: RoomLimit::Pool };
        Ok(left.min(self.ledger.room(now_ms, stream)?))
    }

    /// Signs a voucher, once its sums are on the disk: after a crash at any point nothing smaller
    /// is signed, no number twice, and nothing beyond deposit and caps.
    ///
    /// # Errors
    /// See [`PoolError`]; then nothing was signed.
    pub fn pay(
        &mut self,
        voucher: Voucher,
        basis: Basis,
        now_ms: u64,
    ) -> Result<SignedVoucher, PoolError> {
        if self.is_poisoned {
            return Err(PoolError::Poisoned);
        }
        let raise = self.pool.raise_of(&voucher)?;
        let mut next = self.pool.clone();
        next.record(&voucher, basis);
        // The caps' file first: a crash between the two counts too much, never too little.
        self.is_poisoned = true;
        if !raise.is_zero()
            && let Err(limit) = self.ledger.spend(now_ms, &voucher.stream, raise)?
        {
            self.is_poisoned = false;
            return Err(PoolError::Room(limit));
        }
        file::replace(&self.path, &to_text(&next))?;
        self.is_poisoned = false;
        self.pool = next;
        assert!(self.pool.signed() <= self.pool.deposits, "nothing is signed beyond the deposit");
        Ok(voucher.sign(&self.key, &self.chain_id))
    }

    /// Takes over a voucher of this pool that the relay knows and this disk may not (it was
    /// restored from a copy): sums rise, never fall. `false`: it is none of this pool's.
    ///
    /// # Errors
    /// The disk's.
    pub fn raise(&mut self, known: &SignedVoucher) -> Result<bool, PoolError> {
        let is_ours = known.voucher.channel == self.pool.channel
            && known.verify(&AccountId::from(&self.key), &self.chain_id).is_ok();
        if !is_ours {
            return Ok(false);
        }
        let mut next = self.pool.clone();
        let nothing = Basis { served_ms: 0, rate: 0, forgiven_ms: 0, has_media: false };
        next.record(&known.voucher, nothing);
        self.keep(next)?;
        Ok(true)
    }

    /// Keeps what a session received since its last voucher. `in_order`: relay and payer both know
    /// that it is over.
    ///
    /// # Errors
    /// The disk's.
    pub fn rest(&mut self, received: &LaneSums, in_order: bool) -> Result<(), PoolError> {
        let mut next = self.pool.clone();
        let Some(lane) = next.lanes.iter_mut().find(|lane| lane.key == received.key) else {
            return Ok(());
        };
        lane.media_ms = lane.media_ms.max(received.media_ms);
        lane.bytes = lane.bytes.max(received.bytes);
        lane.served_ms = lane.served_ms.max(received.served_ms);
        lane.is_open &= !in_order;
        self.keep(next)
    }

    /// Takes over what the chain says of the channel.
    ///
    /// # Errors
    /// The disk's.
    pub fn follow(&mut self, channel: &Channel) -> Result<(), PoolError> {
        let mut next = self.pool.clone();
        next.deposits = channel.deposits;
        next.expires_height = channel.expires_height;
        let closes = channel.closed || channel.close_requested.is_some();
        next.state = if closes { PoolState::Closing } else { PoolState::Open };
        self.keep(next)
    }

    fn keep(&mut self, next: Pool) -> Result<(), PoolError> {
        if self.is_poisoned {
            return Err(PoolError::Poisoned);
        }
        self.is_poisoned = true;
        file::replace(&self.path, &to_text(&next))?;
        self.is_poisoned = false;
        self.pool = next;
        Ok(())
    }

    /// Signs a Bind: after a token's holder, else in the holder's place too.
    pub fn bind(&self, bind: Bind, holder: Option<&SigningKey>) -> SignedBind {
        match holder {
            Some(holder) => bind.sign(holder, Some(&self.key), &self.chain_id),
            None => bind.sign(&self.key, Some(&self.key), &self.chain_id),
        }
    }

    /// Signs a quality report.
    pub fn report(&self, report: &QualityReport) -> [u8; 64] {
        report.sign(&self.key, &self.chain_id)
    }
}

#[cfg(test)]
mod tests;
