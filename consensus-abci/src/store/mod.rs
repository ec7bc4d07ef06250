//! The state on disk: one fjall database, one atomic and synced batch per block.
//!
//! A value lives twice: in a flat table, which answers reads, and as a leaf of a Jellyfish Merkle
//! tree, which gives the app hash and proofs. The tree keeps the last [`VERSIONS_KEPT`] heights;
//! what only older ones need is removed in the background ([`prune`]). Indices are lists of keys
//! that can be computed from the state; they are in the same batch, outside of the tree.
//!
//! A whole state leaves and enters in chunks ([`statesync`]); the newest block can be taken back
//! ([`Store::roll_back`]).

#[cfg(test)]
mod damage_tests;
mod open;
mod prune;
mod rollback;
#[cfg(test)]
mod rollback_tests;
mod snapshot;
pub mod statesync;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use borsh::{BorshDeserialize, BorshSerialize};
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};

use crate::fail::{self, Step};

pub use self::{
    snapshot::{Entries, Proved, Snapshot},
    tree::Prepared,
};

/// Heights of which the tree is kept where nobody asks for another number, the newest included:
/// their values can be proved.
pub const VERSIONS_KEPT: u64 = 1000;
/// Layout of the tables; a change of it needs a new number.
const FORMAT: u8 = 2;

const META_FORMAT: &[u8] = b"format";
const META_HEAD: &[u8] = b"head";
const META_CHAIN_ID: &[u8] = b"chain_id";
const META_PRUNED: &[u8] = b"pruned";
/// The oldest height of which everything is there.
const META_OLDEST: &[u8] = b"oldest";
/// The first height of this directory: there is nothing below it to go back to.
const META_FIRST: &[u8] = b"first";
/// Set while a state comes in chunks: what is here is not whole.
const META_RESTORING: &[u8] = b"restoring";
/// Before a height's big-endian number: what was committed at it.
const META_HEADS: &[u8] = b"h";
/// In each table but `meta`: the height of the last batch that reached the table.
const MARK: &[u8] = &[0];

/// A set of writes: `None` removes the key.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on the directory.
    #[error("{} is in use by another process: stop it first, or choose another directory", dir.display())]
    Locked {
        /// The database's directory.
        dir: PathBuf,
    },
    /// The directory cannot be made or opened.
    #[error("{} cannot be opened: {source}", dir.display())]
    Directory {
        /// The database's directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Made by a version of this program with another layout.
    #[error(
        "the state has layout {found}, this program reads layout {FORMAT}: run the program that \
         made it, or remove the directory, and the state is rebuilt from the engine's blocks"
    )]
    Format {
        /// The layout's number on disk.
        found: u8,
    },
    /// The files in the directory are not what was written.
    #[error(
        "{} is damaged: {what}. Remove the directory, and the state is rebuilt from the engine's \
         blocks or taken from a snapshot (`snapshots restore`, or state sync)",
        dir.display()
    )]
    Damaged {
        /// The database's directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The restoring of a state in chunks did not end: there is no state until it is opened again.
    #[error("a snapshot was half restored: start again, and the directory is empty as before")]
    HalfRestored,
    /// A state that is there is not written over.
    #[error("there is a state of height {height} here: a snapshot is restored into an empty one")]
    NotEmpty {
        /// Its height.
        height: u64,
    },
    /// The newest block cannot be taken back.
    #[error("height {height} cannot be taken back: {why}")]
    RollBack {
        /// The newest height.
        height: u64,
        /// What is missing.
        why: &'static str,
    },
    /// A snapshot on disk.
    #[error(transparent)]
    Snapshot(#[from] statesync::SnapshotError),
    /// The database refused; after a failed write it takes no more until it is opened again.
    #[error("the state's database failed: {0}")]
    Database(#[from] fjall::Error),
    /// The tree does not fit together.
    #[error("the state's tree failed: {0:#}")]
    Tree(anyhow::Error),
    /// A value that this program did not write so.
    #[error("the state's {what} cannot be read")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
    /// A height that is not kept any more, or not there yet.
    #[error("height {height} is not kept: heights {oldest} to {newest} are")]
    Height {
        /// The one asked for.
        height: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// Versions of the tree follow one another.
    #[error("height {height} does not follow {head:?}")]
    OutOfOrder {
        /// The one to be prepared or committed.
        height: u64,
        /// The newest that is committed.
        head: Option<u64>,
    },
}

/// What was committed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// Height of the block, 0 for the genesis state.
    pub height: u64,
    /// Root of the tree after it.
    pub app_hash: [u8; 32],
    /// The block's time, unix ms.
    pub block_time_ms: u64,
}

/// Where the state of a directory begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct First {
    height: u64,
    /// Made from a genesis file; else restored from a snapshot.
    is_genesis: bool,
}

/// What a block changes: all that becomes durable together.
#[derive(Debug, Default)]
pub struct Update {
    /// The block's height; for the genesis state the one before the chain's first block.
    pub height: u64,
    /// The block's time, unix ms.
    pub block_time_ms: u64,
    /// State.
    pub writes: Writes,
    /// Values that the state has now, of keys that were read already; the others are read.
    pub before: Writes,
    /// Index keys that come into being.
    pub index_added: BTreeSet<Vec<u8>>,
    /// Index keys that go.
    pub index_removed: BTreeSet<Vec<u8>>,
    /// Set with the genesis state, and never again.
    pub chain_id: Option<String>,
}

#[derive(Clone)]
struct Tables {
    /// `version u64 ‖ nibble path` to a node of the tree.
    nodes: Keyspace,
    /// `key hash 32 ‖ version u64` to a value (0: removed, 1 ‖ bytes).
    values: Keyspace,
    /// Key hash to key.
    preimages: Keyspace,
    /// `version u64 ‖ kind ‖ node key or key hash`: what became stale in that version.
    stale: Keyspace,
    /// Key to value, newest only.
    flat: Keyspace,
    /// Keys of indices, without values.
    index: Keyspace,
    /// Head, layout, chain id, how far pruning came.
    meta: Keyspace,
}

/// The open database; clones share it. Closed when the last clone and the last snapshot are gone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    // Behind `Arc`: the thread ends with the last clone of the store, not with the first.
    pruner: Arc<prune::Pruner>,
}

struct Shared {
    db: Database,
    tables: Tables,
    /// Held while a batch is made and written: pruning must not remove the preimage of a key that
    /// a commit is about to bring back.
    write: Mutex<()>,
    /// Heights of which the tree is kept.
    versions_kept: u64,
}

impl Store {
    /// The committed state as it is now; it stays so while later blocks are written.
    ///
    /// # Errors
    /// The database's.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::take(&self.shared.db, self.shared.tables.clone())
    }

    /// Computes the root that `update` gives on top of the newest state; writes nothing.
    ///
    /// # Errors
    /// The update does not follow the newest height, or the database fails.
    pub fn prepare(&self, update: Update) -> Result<Prepared, StoreError> {
        let prepared = Prepared::new(&self.snapshot()?, update)?;
        fail::reach(Step::Prepared, prepared.head().height);
        Ok(prepared)
    }

    /// Makes a prepared update durable, all of it or nothing, then visible.
    ///
    /// # Errors
    /// Something else was committed since, or the database fails (a full disk): then nothing is
    /// visible, and the store must be opened again.
    pub fn commit(&self, prepared: &Prepared) -> Result<(), StoreError> {
        let _write = self.shared.lock();
        let now = self.snapshot()?;
        if prepared.parent() != now.head() {
            return Err(StoreError::OutOfOrder {
                height: prepared.head().height,
                head: now.head().map(|head| head.height),
            });
        }
        if now.is_restoring()? {
            return Err(StoreError::HalfRestored);
        }
        let mut batch = self.shared.db.batch().durability(Some(PersistMode::SyncAll));
        prepared.write(&self.shared.tables, &mut batch)?;
        let height = prepared.head().height;
        if now.head().is_none() {
            let first = First { height, is_genesis: true };
            batch.insert(&self.shared.tables.meta, META_FIRST, tree::encode(&first));
            batch.insert(&self.shared.tables.meta, META_OLDEST, height.to_be_bytes());
        } else {
            let kept = self.shared.versions_kept.max(1);
            let oldest = height.saturating_sub(kept - 1).max(now.oldest());
            // With the block, and before anything is removed: what is told to be kept is there.
            batch.insert(&self.shared.tables.meta, META_OLDEST, oldest.to_be_bytes());
        }
        fail::reach(Step::BeforeBatch, prepared.head().height);
        batch.commit()?;
        fail::reach(Step::AfterBatch, prepared.head().height);
        self.pruner.wake();
        Ok(())
    }

    /// Waits until nothing is left that only heights which are no longer kept would need.
    ///
    /// # Errors
    /// The database's.
    pub fn prune_now(&self) -> Result<(), StoreError> {
        while self.shared.prune_some()? {}
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards no value: a thread that panicked left nothing half done behind it.
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.db.batch()
    }
}

impl Tables {
    /// All but `meta`: each has a mark.
    fn marked(&self) -> [&Keyspace; 6] {
        [&self.nodes, &self.values, &self.preimages, &self.stale, &self.flat, &self.index]
    }

    /// Says in each table and in `meta` what is committed, in the batch that commits it.
    fn set_head(&self, batch: &mut OwnedWriteBatch, head: &Head) {
        for table in self.marked() {
            batch.insert(table, MARK, head.height.to_be_bytes());
        }
        batch.insert(&self.meta, head_key(head.height), tree::encode(head));
        batch.insert(&self.meta, META_HEAD, tree::encode(head));
    }
}

fn head_key(height: u64) -> Vec<u8> {
    [META_HEADS, &height.to_be_bytes()].concat()
}
