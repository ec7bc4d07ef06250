//! The block store: what was decided and what came of it, in a database of the engine's own.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use prost::Message;
use tendermint::validator::Set;
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::types as pb;

use super::block::MadeBlock;
use super::index;
use super::params::ConsensusParams;
use super::state::State;

/// Memory for blocks read back; a reader far behind reads the disk.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Each keyspace holds at most this much before it goes to a table.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// The database's least.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the block store is in use by another process")]
    Locked,
    #[error("the block store failed: {0}")]
    Database(#[source] fjall::Error),
    /// A record is missing or cannot be decoded.
    #[error("the block store is damaged: {0}")]
    Damaged(String),
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => StoreError::Locked,
            other => StoreError::Database(other),
        }
    }
}

/// Cheap to clone: a handle.
#[derive(Clone)]
pub(crate) struct BlockStore {
    database: Database,
    /// Height → `Block`.
    blocks: Keyspace,
    /// Height → `BlockMeta`.
    metas: Keyspace,
    /// Height → the commit seen for that height.
    commits: Keyspace,
    /// Height → `ResponseFinalizeBlock`.
    results: Keyspace,
    /// `state`, and by first height: validators and parameters in force from there.
    state: Keyspace,
    /// Block hashes, transaction hashes, events: [`index`].
    pub(super) index: Keyspace,
}

impl BlockStore {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = |name| database.keyspace(name, options);
        Ok(BlockStore {
            blocks: keyspace("blocks")?,
            metas: keyspace("metas")?,
            commits: keyspace("commits")?,
            results: keyspace("results")?,
            state: keyspace("state")?,
            index: keyspace("index")?,
            database,
        })
    }

    /// Block, meta, commit: durable on return.
    pub(crate) fn save_block(
        &self,
        made: &MadeBlock,
        commit: &pb::Commit,
    ) -> Result<(), StoreError> {
        let header = made.block.header();
        let key = header.height.value().to_be_bytes();
        let meta = pb::BlockMeta {
            block_id: Some(made.id.into()),
            block_size: made.encoded.len() as i64,
            header: Some(header.clone().into()),
            num_txs: made.block.data().len() as i64,
        };
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.blocks, key, made.encoded.as_slice());
        batch.insert(&self.metas, key, meta.encode_to_vec());
        batch.insert(&self.commits, key, commit.encode_to_vec());
        Ok(batch.commit()?)
    }

    /// The application's answer to `FinalizeBlock`: durable on return, before `Commit` is called.
    pub(crate) fn save_results(
        &self,
        height: u64,
        results: &ResponseFinalizeBlock,
    ) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.results, height.to_be_bytes(), results.encode_to_vec());
        Ok(batch.commit()?)
    }

    /// State and indices of a block, together. Not synced: the next block's sync carries it, and
    /// until then a restart makes the same again from results and block.
    pub(crate) fn save_state(
        &self,
        state: &State,
        previous: Option<&State>,
        entries: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        batch.insert(&self.state, b"state", state.encode());
        let next = state.next_height();
        // A record only where something changed: readers take the newest at or below a height.
        let fresh = previous.is_none();
        if fresh {
            let set = pb::ValidatorSet::from(state.validators.clone()).encode_to_vec();
            batch.insert(&self.state, height_key(b'v', next), set);
        }
        if fresh || previous.is_some_and(|old| old.next_validators != state.next_validators) {
            let set = pb::ValidatorSet::from(state.next_validators.clone()).encode_to_vec();
            batch.insert(&self.state, height_key(b'v', next + 1), set);
        }
        if fresh || previous.is_some_and(|old| old.params != state.params) {
            let params = state.params.to_proto().encode_to_vec();
            batch.insert(&self.state, height_key(b'p', next), params);
        }
        for (key, value) in entries {
            batch.insert(&self.index, key, value);
        }
        Ok(batch.commit()?)
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    pub(crate) fn state(&self) -> Result<Option<State>, StoreError> {
        match self.state.get(b"state")? {
            None => Ok(None),
            Some(bytes) => State::decode(&bytes)
                .map(Some)
                .map_err(|reason| StoreError::Damaged(format!("state: {reason}"))),
        }
    }

    /// Greatest height with a block; 0 when there is none.
    pub(crate) fn height(&self) -> Result<u64, StoreError> {
        height_of(self.metas.last_key_value())
    }

    /// Smallest height with a block; 0 when there is none.
    pub(crate) fn base(&self) -> Result<u64, StoreError> {
        height_of(self.metas.first_key_value())
    }

    pub(crate) fn block(&self, height: u64) -> Result<Option<pb::Block>, StoreError> {
        self.record(&self.blocks, "block", height)
    }

    pub(crate) fn meta(&self, height: u64) -> Result<Option<pb::BlockMeta>, StoreError> {
        self.record(&self.metas, "block meta", height)
    }

    pub(crate) fn commit(&self, height: u64) -> Result<Option<pb::Commit>, StoreError> {
        self.record(&self.commits, "commit", height)
    }

    pub(crate) fn results(&self, height: u64) -> Result<Option<ResponseFinalizeBlock>, StoreError> {
        self.record(&self.results, "results", height)
    }

    /// The set that signs block `height`; `None` below the first block.
    pub(crate) fn validators(&self, height: u64) -> Result<Option<Set>, StoreError> {
        let Some(bytes) = self.newest(b'v', height)? else { return Ok(None) };
        let damaged = |reason: String| StoreError::Damaged(format!("validators: {reason}"));
        let set =
            pb::ValidatorSet::decode(bytes.as_ref()).map_err(|error| damaged(error.to_string()))?;
        Set::try_from(set).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// The parameters in force at block `height`; `None` below the first block.
    pub(crate) fn params(&self, height: u64) -> Result<Option<ConsensusParams>, StoreError> {
        let Some(bytes) = self.newest(b'p', height)? else { return Ok(None) };
        let damaged = |reason: String| StoreError::Damaged(format!("parameters: {reason}"));
        let params = pb::ConsensusParams::decode(bytes.as_ref())
            .map_err(|error| damaged(error.to_string()))?;
        ConsensusParams::default().updated(&params).map(Some).map_err(damaged)
    }

    /// Height of the block with `hash`.
    pub(crate) fn height_of_block(&self, hash: &[u8]) -> Result<Option<u64>, StoreError> {
        match self.index.get(index::block_key(hash))? {
            None => Ok(None),
            Some(bytes) => Ok(Some(be_height(&bytes)?)),
        }
    }

    fn newest(&self, kind: u8, height: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        let range = height_key(kind, 0)..=height_key(kind, height);
        match self.state.range(range).next_back() {
            None => Ok(None),
            Some(entry) => Ok(Some(Arc::from(entry.value()?.as_ref()))),
        }
    }

    fn record<M: Message + Default>(
        &self,
        keyspace: &Keyspace,
        name: &str,
        height: u64,
    ) -> Result<Option<M>, StoreError> {
        match keyspace.get(height.to_be_bytes())? {
            None => Ok(None),
            Some(bytes) => M::decode(bytes.as_ref())
                .map(Some)
                .map_err(|error| StoreError::Damaged(format!("{name} {height}: {error}"))),
        }
    }
}

fn height_key(kind: u8, height: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&height.to_be_bytes());
    key
}

fn height_of(entry: Option<fjall::Guard>) -> Result<u64, StoreError> {
    match entry {
        None => Ok(0),
        Some(entry) => be_height(&entry.key()?),
    }
}

fn be_height(bytes: &[u8]) -> Result<u64, StoreError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(StoreError::Damaged(format!("a height has {} bytes", bytes.len()))),
    }
}
