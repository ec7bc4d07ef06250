//! The state on disk: one fjall database, one atomic and synced batch per block.
//!
//! A value lives twice: in a flat table, which answers reads, and as a leaf of a Jellyfish Merkle
//! tree, which gives the app hash and proofs. The tree keeps the last [`VERSIONS_KEPT`] heights;
//! what only older ones need is removed in the background ([`prune`]). Indices are lists of keys
//! that can be computed from the state; they are in the same batch, outside of the tree.

mod prune;
mod snapshot;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use borsh::{BorshDeserialize, BorshSerialize};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use crate::fail::{self, Step};

pub use self::{
    snapshot::{Entries, Proved, Snapshot},
    tree::Prepared,
};

/// Heights of which the tree is kept, the newest included: their values can be proved.
pub const VERSIONS_KEPT: u64 = 1000;
/// Layout of the tables; a change of it needs a new number.
const FORMAT: u8 = 1;
/// A table's writes in memory before they become a file, bytes.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;

const META_FORMAT: &[u8] = b"format";
const META_HEAD: &[u8] = b"head";
const META_CHAIN_ID: &[u8] = b"chain_id";
const META_PRUNED: &[u8] = b"pruned";

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
    #[error("the state has layout {found}, this program reads layout {FORMAT}")]
    Format {
        /// The layout's number on disk.
        found: u8,
    },
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

impl Head {
    /// The oldest height whose tree is kept.
    pub fn oldest_kept(&self) -> u64 {
        self.height.saturating_sub(VERSIONS_KEPT - 1)
    }
}

/// What a block changes: all that becomes durable together.
#[derive(Debug, Default)]
pub struct Update {
    /// The block's height; 0 for the genesis state.
    pub height: u64,
    /// The block's time, unix ms.
    pub block_time_ms: u64,
    /// State.
    pub writes: Writes,
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
}

impl Store {
    /// Opens the state in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// Another process has it, another layout, or the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let directory = |source| StoreError::Directory { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(directory)?;
        let db = match Database::builder(dir).worker_threads(1).open() {
            Ok(db) => db,
            Err(fjall::Error::Locked) => return Err(StoreError::Locked { dir: dir.to_owned() }),
            Err(fjall::Error::Io(source)) => return Err(directory(source)),
            Err(error) => return Err(error.into()),
        };
        let tables = Tables::open(&db)?;
        match tables.meta.get(META_FORMAT)?.as_deref() {
            Some([FORMAT]) => {}
            Some([found, ..]) => return Err(StoreError::Format { found: *found }),
            Some([]) => return Err(StoreError::Corrupt { what: "layout number" }),
            None => {
                let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&tables.meta, META_FORMAT, [FORMAT]);
                batch.commit()?;
            }
        }
        let shared = Arc::new(Shared { db, tables, write: Mutex::new(()) });
        let pruner = Arc::new(prune::Pruner::start(Arc::clone(&shared)).map_err(directory)?);
        Ok(Self { shared, pruner })
    }

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
        let head = self.snapshot()?.head();
        if prepared.parent() != head {
            return Err(StoreError::OutOfOrder {
                height: prepared.head().height,
                head: head.map(|head| head.height),
            });
        }
        let mut batch = self.shared.db.batch().durability(Some(PersistMode::SyncAll));
        prepared.write(&self.shared.tables, &mut batch)?;
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
    fn open(db: &Database) -> Result<Self, StoreError> {
        let table = |name: &str, is_point_read: bool| {
            db.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(MEMTABLE_BYTES_MAX)
                    .expect_point_read_hits(is_point_read)
            })
        };
        Ok(Self {
            nodes: table("nodes", true)?,
            values: table("values", false)?,
            preimages: table("preimages", true)?,
            stale: table("stale", false)?,
            flat: table("flat", false)?,
            index: table("index", false)?,
            meta: table("meta", true)?,
        })
    }
}
