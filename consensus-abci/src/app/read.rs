//! Reading committed state with types, at one height.

use borsh::BorshDeserialize;
use chain_types::{
    AccessRecord, Account, AccountId, Balance, Channel, ChannelId, LaneKey, LaneRecord, Params,
    RelayRecord, StateKey, StreamId, StreamMetadata, Supply,
};

use super::{
    books::Audit,
    index::{self, BY_CREATOR, BY_PAYEE, BY_PAYER},
    state::{StateError, decode},
};
use crate::store::{Entries, Head, Proved, Snapshot};

/// The committed state at one height; later commits do not change it. Holding one keeps what it
/// sees on disk, so let it go when done.
#[derive(Clone)]
pub struct StateSnapshot(pub(super) Snapshot);

impl StateSnapshot {
    /// What was committed last; `None` before the genesis state is.
    pub fn head(&self) -> Option<Head> {
        self.0.head()
    }

    /// Its height; 0 before the first block.
    pub fn height(&self) -> u64 {
        self.0.head().map_or(0, |head| head.height)
    }

    /// The time of its block, unix ms; 0 before the genesis state.
    pub fn block_time_ms(&self) -> u64 {
        self.0.head().map_or(0, |head| head.block_time_ms)
    }

    /// The chain's id; `None` before the genesis state.
    pub fn chain_id(&self) -> Option<&str> {
        self.0.chain_id()
    }

    /// An account; `None`: nobody ever paid it anything.
    ///
    /// # Errors
    /// The disk's, or an unreadable record; so for all that follow.
    pub fn account(&self, account: &AccountId) -> Result<Option<Account>, StateError> {
        self.get(StateKey::Account(*account))
    }

    /// A stream.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn stream(&self, stream: &StreamId) -> Result<Option<StreamMetadata>, StateError> {
        self.get(StateKey::Stream(*stream))
    }

    /// A channel.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn channel(&self, channel: &ChannelId) -> Result<Option<Channel>, StateError> {
        self.get(StateKey::Channel(*channel))
    }

    /// A lane; `None`: nothing was redeemed on it.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn lane(&self, lane: &LaneKey) -> Result<Option<LaneRecord>, StateError> {
        self.get(StateKey::Lane(*lane))
    }

    /// What the chain says about a viewer on a stream.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn access(
        &self,
        stream: &StreamId,
        viewer: &AccountId,
    ) -> Result<Option<AccessRecord>, StateError> {
        self.get(StateKey::Access(*stream, *viewer))
    }

    /// A relay.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, StateError> {
        self.get(StateKey::Relay(*account))
    }

    /// The parameters.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`], and before the genesis state.
    pub fn params(&self) -> Result<Params, StateError> {
        self.get(StateKey::Params)?.ok_or(StateError::NoGenesis)
    }

    /// The supply: what the chain began with, and what was burned.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`], and before the genesis state.
    pub fn supply(&self) -> Result<Supply, StateError> {
        self.get(StateKey::Supply)?.ok_or(StateError::NoGenesis)
    }

    /// The validators' share of fees.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn fee_pool(&self) -> Result<Balance, StateError> {
        Ok(self.get(StateKey::FeePool)?.unwrap_or_default())
    }

    /// Channels that an account deposited into, in the order of their ids.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn channels_by_payer(
        &self,
        payer: &AccountId,
    ) -> impl Iterator<Item = Result<ChannelId, StateError>> + use<> {
        self.list(BY_PAYER, payer).map(|id| id.map(ChannelId))
    }

    /// Channels that are not finalized and have a reserve or a lane of an account.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn channels_by_payee(
        &self,
        payee: &AccountId,
    ) -> impl Iterator<Item = Result<ChannelId, StateError>> + use<> {
        self.list(BY_PAYEE, payee).map(|id| id.map(ChannelId))
    }

    /// Streams that an account registered.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn streams_by_creator(
        &self,
        creator: &AccountId,
    ) -> impl Iterator<Item = Result<StreamId, StateError>> + use<> {
        self.list(BY_CREATOR, creator).map(|id| id.map(StreamId))
    }

    /// Raw keys that begin with `prefix` and their values, such as [`StateKey::STREAMS`].
    pub fn iterate(&self, prefix: &[u8]) -> Entries {
        self.0.prefix(prefix)
    }

    /// All records of one kind: their keys and values.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`].
    pub fn records<T: BorshDeserialize>(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(StateKey, T), StateError>> + use<T> {
        self.0.prefix(prefix).filter_map(|entry| {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let key = StateKey::parse(&key)?;
            Some(decode(key, &value).map(|record| (key, record)))
        })
    }

    /// A value or its absence, proved under the app hash of `height` (in the header of
    /// `height + 1`).
    ///
    /// # Errors
    /// The height is not kept, or the disk's.
    pub fn proof(&self, key: &StateKey, height: u64) -> Result<Proved, StateError> {
        Ok(self.0.proof(&key.to_bytes(), height)?)
    }

    /// Counts all money. Takes as long as the state is large.
    ///
    /// # Errors
    /// As [`StateSnapshot::account`], and before the genesis state.
    pub fn audit(&self) -> Result<Audit, StateError> {
        Audit::of(&self.0)
    }

    fn get<T: BorshDeserialize>(&self, key: StateKey) -> Result<Option<T>, StateError> {
        self.0.get(&key.to_bytes())?.map(|bytes| decode(key, &bytes)).transpose()
    }

    fn list(
        &self,
        prefix: &[u8],
        account: &AccountId,
    ) -> impl Iterator<Item = Result<[u8; 32], StateError>> + use<> {
        // An entry of another length is none of ours: the prefixes have no common beginning.
        self.0.index(&index::list(prefix, account)).filter_map(|id| match id {
            Ok(id) => id.try_into().ok().map(Ok),
            Err(error) => Some(Err(error.into())),
        })
    }
}
