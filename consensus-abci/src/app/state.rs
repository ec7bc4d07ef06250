//! The state while a block executes: writes of the block over the committed state, and over those
//! the writes of one transaction, which are dropped when it fails.

use std::{cell::RefCell, collections::BTreeMap, ops::Bound};

use borsh::{BorshDeserialize, BorshSerialize};
use chain_types::{
    AccessRecord, Account, AccountId, Balance, ChainEvent, Channel, ChannelId, LaneKey, LaneRecord,
    Params, RelayRecord, ResultCode, StateKey, StreamId, StreamMetadata, Supply, split,
};

use crate::store::{Snapshot, StoreError, Writes};

/// Why the state machine cannot go on; no transaction can cause it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk, or a height that is not kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that this program did not write so.
    #[error("the record {key:?} cannot be read")]
    Corrupt {
        /// Which.
        key: Box<StateKey>,
    },
    /// There is no genesis state yet.
    #[error("there is no genesis state yet")]
    NoGenesis,
    /// What is staked does not fit together.
    #[error("the stake does not fit together: {sentence}")]
    Stake {
        /// What was met.
        sentence: String,
    },
    /// Money came from nowhere or went nowhere.
    #[error(
        "the books of height {height} do not balance: all money is {found} units, it must be {expected}"
    )]
    Books {
        /// Of the block.
        height: u64,
        /// Sum of all that the state holds, and what was burned.
        found: i128,
        /// The genesis supply.
        expected: i128,
    },
}

/// Why a transaction has no effect, or why the chain stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// The transaction's fault.
    Rejected(ResultCode, String),
    /// Nobody's that sends transactions.
    Fatal(StateError),
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Fatal(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Fatal(error.into())
    }
}

/// Refuses a transaction.
pub(super) fn reject<T>(code: ResultCode, log: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Rejected(code, log.into()))
}

/// Reads a record's bytes.
pub(super) fn decode<T: BorshDeserialize>(key: StateKey, bytes: &[u8]) -> Result<T, StateError> {
    borsh::from_slice(bytes).map_err(|_| StateError::Corrupt { key: Box::new(key) })
}

/// A record's bytes.
pub(super) fn encode(record: &impl BorshSerialize) -> Vec<u8> {
    borsh::to_vec(record).expect("writing to memory does not fail")
}

/// The state of a block that executes.
pub(super) struct BlockState {
    /// The state that the block is built on.
    pub(super) base: Snapshot,
    /// The block's height.
    pub(super) height: u64,
    /// The block's time, unix ms.
    pub(super) time_ms: u64,
    /// Fixed for the block.
    pub(super) params: Params,
    /// For what is signed.
    pub(super) chain_id: String,
    /// What was read of `base`: nothing is fetched twice. A cell, for reading changes nothing else.
    before: RefCell<Writes>,
    /// Of transactions that are done.
    block: Writes,
    /// Of the transaction that executes.
    transaction: Writes,
    /// What the transaction did so far.
    events: Vec<ChainEvent>,
}

impl BlockState {
    /// Begins a block on `base`.
    pub(super) fn new(base: Snapshot, height: u64, time_ms: u64) -> Result<Self, StateError> {
        let chain_id = base.chain_id().ok_or(StateError::NoGenesis)?.to_owned();
        let params = base.get(&StateKey::Params.to_bytes())?.ok_or(StateError::NoGenesis)?;
        let params = decode(StateKey::Params, &params)?;
        Ok(Self {
            base,
            height,
            time_ms,
            params,
            chain_id,
            before: RefCell::default(),
            block: Writes::new(),
            transaction: Writes::new(),
            events: Vec::new(),
        })
    }

    /// The transaction's writes hold; what it did is returned.
    pub(super) fn keep(&mut self) -> Vec<ChainEvent> {
        // Not `append`: it would build the block's whole map anew for each transaction.
        self.block.extend(std::mem::take(&mut self.transaction));
        std::mem::take(&mut self.events)
    }

    /// As if the transaction had not begun, since the last [`BlockState::keep`].
    pub(super) fn drop_writes(&mut self) {
        self.transaction.clear();
        self.events.clear();
    }

    /// All that the block changed, and what it knows of the state before.
    pub(super) fn into_writes(self) -> (Writes, Writes) {
        assert!(self.transaction.is_empty(), "each transaction was kept or dropped");
        (self.block, self.before.into_inner())
    }

    /// A key's bytes before the block, handed to `read`.
    pub(super) fn before<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        if let Some(value) = self.before.borrow().get(key) {
            return read(value.as_deref());
        }
        let value = self.base.get(key)?;
        let outcome = read(value.as_deref());
        self.before.borrow_mut().insert(key.to_vec(), value);
        outcome
    }

    /// All that the block changed so far.
    pub(super) fn writes(&self) -> &Writes {
        &self.block
    }

    /// Something happened.
    pub(super) fn event(&mut self, event: ChainEvent) {
        self.events.push(event);
    }

    pub(super) fn get<T: BorshDeserialize>(&self, key: StateKey) -> Result<Option<T>, StateError> {
        let bytes = key.to_bytes();
        let written = self.transaction.get(&bytes).or_else(|| self.block.get(&bytes));
        match written {
            Some(value) => value.as_deref().map(|value| decode(key, value)).transpose(),
            None => self.before(&bytes, |value| value.map(|value| decode(key, value)).transpose()),
        }
    }

    pub(super) fn put(&mut self, key: StateKey, record: &impl BorshSerialize) {
        self.transaction.insert(key.to_bytes(), Some(encode(record)));
    }

    pub(super) fn delete(&mut self, key: StateKey) {
        self.transaction.insert(key.to_bytes(), None);
    }

    /// At most `most` keys that begin with `prefix`, in the order of their bytes.
    pub(super) fn keys(&self, prefix: &[u8], most: usize) -> Result<Vec<Vec<u8>>, StateError> {
        // Both overlays hold few keys of one prefix; the newest word about a key counts.
        let mut written = BTreeMap::new();
        for overlay in [&self.block, &self.transaction] {
            let range = overlay.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            let begins = range.take_while(|(key, _)| key.starts_with(prefix));
            written.extend(begins.map(|(key, value)| (key.clone(), value.is_some())));
        }
        let mut keys: Vec<Vec<u8>> =
            written.iter().filter(|(_, is_there)| **is_there).map(|(key, _)| key.clone()).collect();
        for entry in self.base.prefix(prefix) {
            // Overlay keys may sort before any of these: `most` of each are enough of both.
            if keys.len() >= most.saturating_add(written.len()) {
                break;
            }
            let (key, _) = entry?;
            if !written.contains_key(&key) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        keys.truncate(most);
        Ok(keys)
    }

    /// An account; one that nobody has paid yet is empty.
    pub(super) fn account(&self, account: &AccountId) -> Result<Account, StateError> {
        Ok(self.get(StateKey::Account(*account))?.unwrap_or_default())
    }

    /// Whether an account is in the state.
    pub(super) fn has_account(&self, account: &AccountId) -> Result<bool, StateError> {
        Ok(self.get::<Account>(StateKey::Account(*account))?.is_some())
    }

    pub(super) fn put_account(&mut self, account: &AccountId, record: &Account) {
        self.put(StateKey::Account(*account), record);
    }

    /// Adds to an account, which comes into being where it was not.
    pub(super) fn credit(
        &mut self,
        account: &AccountId,
        amount: Balance,
    ) -> Result<(), StateError> {
        if amount.is_zero() {
            return Ok(());
        }
        let mut record = self.account(account)?;
        record.balance = sum(record.balance, amount);
        self.put_account(account, &record);
        Ok(())
    }

    /// Takes from an account.
    pub(super) fn debit(&mut self, account: &AccountId, amount: Balance) -> Result<(), Stop> {
        let mut record = self.account(account)?;
        let Some(rest) = record.balance.checked_sub(amount) else {
            return reject(
                ResultCode::Funds,
                format!("the account has {} units, {amount} are needed", record.balance),
            );
        };
        record.balance = rest;
        self.put_account(account, &record);
        Ok(())
    }

    /// Divides a fee that was taken from somebody: half is burned, the rest is the validators'.
    /// Returns what was burned.
    pub(super) fn collect_fee(&mut self, fee: Balance) -> Result<Balance, StateError> {
        let burned = split::burned(fee);
        let kept = fee.checked_sub(burned).expect("half of a fee is not more than it");
        let mut supply: Supply = self.get(StateKey::Supply)?.ok_or(StateError::NoGenesis)?;
        supply.burned = sum(supply.burned, burned);
        self.put(StateKey::Supply, &supply);
        let pool: Balance = self.get(StateKey::FeePool)?.unwrap_or_default();
        self.put(StateKey::FeePool, &sum(pool, kept));
        Ok(burned)
    }

    pub(super) fn stream(&self, stream: &StreamId) -> Result<StreamMetadata, Stop> {
        match self.get(StateKey::Stream(*stream))? {
            Some(record) => Ok(record),
            None => reject(ResultCode::NotFound, format!("there is no stream {stream}")),
        }
    }

    pub(super) fn put_stream(&mut self, record: &StreamMetadata) {
        self.put(StateKey::Stream(record.id), record);
    }

    pub(super) fn access(
        &self,
        stream: &StreamId,
        viewer: &AccountId,
    ) -> Result<Option<AccessRecord>, StateError> {
        self.get(StateKey::Access(*stream, *viewer))
    }

    pub(super) fn channel(&self, channel: &ChannelId) -> Result<Channel, Stop> {
        match self.get(StateKey::Channel(*channel))? {
            Some(record) => Ok(record),
            None => reject(ResultCode::NotFound, format!("there is no channel {channel}")),
        }
    }

    pub(super) fn put_channel(&mut self, channel: &ChannelId, record: &Channel) {
        self.put(StateKey::Channel(*channel), record);
    }

    pub(super) fn lane(&self, lane: &LaneKey) -> Result<Option<LaneRecord>, StateError> {
        self.get(StateKey::Lane(*lane))
    }

    pub(super) fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, StateError> {
        self.get(StateKey::Relay(*account))
    }
}

/// The sum of two parts of the supply.
pub(super) fn sum(a: Balance, b: Balance) -> Balance {
    a.checked_add(b).expect("parts of one supply add up to an amount")
}
