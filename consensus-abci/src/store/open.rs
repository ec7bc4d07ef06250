//! Opening a directory: what is in it is one whole state, or it is refused with what to do.
//!
//! Every batch is synced before it counts, so a crash leaves whole blocks. What remains is damage
//! from outside: files that are cut, removed or of another moment. The tables are written to disk
//! at different times, so each has a mark of the height that reached it, and the marks must agree.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
};

use fjall::{Database, KeyspaceCreateOptions, PersistMode, Readable};

use super::{
    FORMAT, MARK, META_FORMAT, Shared, Snapshot, Store, StoreError, Tables, VERSIONS_KEPT, prune,
    statesync,
};

/// A table's writes in memory before they become a file, bytes.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;
/// Blocks of the tables' files in memory, bytes: the inner nodes of a tree of a million keys, and
/// no more than a small chain has.
const CACHE_BYTES_MAX: u64 = 128 << 20;

impl Store {
    /// Opens the state in `dir`, which is made if it is not there, and keeps [`VERSIONS_KEPT`]
    /// heights of it.
    ///
    /// # Errors
    /// Another process has it, another layout, it is damaged, or the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, VERSIONS_KEPT)
    }

    /// As [`Store::open`], with the number of heights that are kept; `u64::MAX`: all.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(dir: &Path, versions_kept: u64) -> Result<Self, StoreError> {
        let directory = |source| StoreError::Directory { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(directory)?;
        let mut shared = open(dir, versions_kept)?;
        if shared.view()?.is_restoring()? {
            tracing::warn!("a snapshot was half restored: the state begins empty again");
            drop(shared);
            wipe(dir).map_err(directory)?;
            shared = open(dir, versions_kept)?;
        }
        check(&shared.view()?).map_err(|what| StoreError::Damaged { dir: dir.to_owned(), what })?;
        let shared = Arc::new(shared);
        let pruner = Arc::new(prune::Pruner::start(Arc::clone(&shared)).map_err(directory)?);
        Ok(Self { shared, pruner })
    }
}

impl Shared {
    pub(super) fn view(&self) -> Result<Snapshot, StoreError> {
        Snapshot::take(&self.db, self.tables.clone())
    }
}

fn open(dir: &Path, versions_kept: u64) -> Result<Shared, StoreError> {
    let damaged = |what: String| StoreError::Damaged { dir: dir.to_owned(), what };
    // Some damage the database finds by an assertion of its own.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = Database::builder(dir).worker_threads(1).cache_size(CACHE_BYTES_MAX).open()?;
        let tables = Tables::open(&db)?;
        Ok((db, tables))
    }))
    .map_err(|_| damaged("the database's files do not fit together".to_owned()))?;
    let (db, tables) = match opened {
        Ok(opened) => opened,
        Err(fjall::Error::Locked) => return Err(StoreError::Locked { dir: dir.to_owned() }),
        // A file that is not there, or ends too early, is damage; the rest is the system's word.
        Err(fjall::Error::Io(source))
            if !matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            return Err(StoreError::Directory { dir: dir.to_owned(), source });
        }
        Err(error) => return Err(damaged(error.to_string())),
    };
    match tables.meta.get(META_FORMAT)?.as_deref() {
        Some([FORMAT]) => {}
        Some([found, ..]) => return Err(StoreError::Format { found: *found }),
        Some([]) => return Err(StoreError::Corrupt { what: "layout number" }),
        None => {
            // The mark of the layout is the first thing that is written.
            let view = Snapshot::take(&db, tables.clone())?;
            check(&view).map_err(damaged)?;
            let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&tables.meta, META_FORMAT, [FORMAT]);
            batch.commit()?;
        }
    }
    Ok(Shared { db, tables, write: Mutex::new(()), versions_kept })
}

/// Whether what is here is the state of one height, whole.
fn check(view: &Snapshot) -> Result<(), String> {
    let head = view.head();
    for table in view.tables.marked() {
        let mark = view.view.get(table, MARK).map_err(|error| error.to_string())?;
        let height = match mark.as_deref() {
            None => None,
            Some(bytes) => {
                let bytes = bytes.try_into().map_err(|_| "a table's mark cannot be read")?;
                Some(u64::from_be_bytes(bytes))
            }
        };
        if height != head.map(|head| head.height) {
            let say = |height: Option<u64>| match height {
                Some(height) => format!("of height {height}"),
                None => "empty".to_owned(),
            };
            let (name, head) = (table.name().to_string(), head.map(|head| head.height));
            return Err(format!(
                "its table `{name}` is {}, the state is {}",
                say(height),
                say(head)
            ));
        }
    }
    let Some(head) = head else { return Ok(()) };
    let root = view.root_at(head.height).map_err(|error| error.to_string())?;
    match root == head.app_hash {
        true => Ok(()),
        false => Err("its tree has another root than the last block's".to_owned()),
    }
}

/// Removes the database; what is beside it stays.
fn wipe(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == statesync::DIRECTORY {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

impl Tables {
    fn open(db: &Database) -> fjall::Result<Self> {
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
