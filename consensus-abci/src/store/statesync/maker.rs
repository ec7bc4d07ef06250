//! Making snapshots in the background: blocks do not wait for one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fjall::Readable;
use jmt::{KeyHash, Sha256Jmt};
use sha2::{Digest, Sha256};

use super::{
    archive::Archive,
    format::{CHUNK_BYTES, CHUNKS_MAX, Chunk, FORMAT, Metadata},
    proof::Proof,
};
use crate::store::{Snapshot, StoreError};

/// The thread that makes snapshots; it gives up the one it is at, and ends, when this is dropped.
pub struct Maker {
    interval: u64,
    orders: Option<Sender<Snapshot>>,
    /// What nobody began yet.
    waiting: Receiver<Snapshot>,
    is_ending: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Maker {
    /// Makes one at each height that `interval` divides (0: none), and keeps the newest `keep`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(archive: Archive, interval: u64, keep: usize) -> io::Result<Self> {
        // One waits at most, the newest: a chain that is faster than its snapshots leaves some out.
        let (orders, ordered) = bounded(1);
        let is_ending = Arc::new(AtomicBool::new(false));
        let run = {
            let (ordered, is_ending) = (ordered.clone(), Arc::clone(&is_ending));
            move || run(&archive, keep, &ordered, &is_ending)
        };
        let thread = thread::Builder::new().name("state-snapshot".into()).spawn(run)?;
        Ok(Self {
            interval,
            orders: Some(orders),
            waiting: ordered,
            is_ending,
            thread: Some(thread),
        })
    }

    /// A block was committed; `take` gives its state. Never waits.
    pub fn committed(&self, height: u64, take: impl FnOnce() -> Snapshot) {
        let is_due = self.interval != 0 && height != 0 && height.is_multiple_of(self.interval);
        let Some(orders) = self.orders.as_ref().filter(|_| is_due) else { return };
        let Err(TrySendError::Full(view)) = orders.try_send(take()) else { return };
        if let Ok(older) = self.waiting.try_recv() {
            let height = older.head().map(|head| head.height);
            tracing::warn!(height, "no snapshot: an earlier one is still being made");
        }
        // Only this thread orders: there is room, whoever took the older one.
        let _ = orders.try_send(view);
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // What it reads keeps the database open.
            let _ = thread.join();
        }
    }
}

fn run(archive: &Archive, keep: usize, ordered: &Receiver<Snapshot>, is_ending: &AtomicBool) {
    for view in ordered {
        let Some(head) = view.head() else { continue };
        let height = head.height;
        match make(&view, archive, CHUNK_BYTES, || is_ending.load(Ordering::Relaxed)) {
            Ok(Some(metadata)) => {
                tracing::info!(height, chunks = metadata.chunks.len(), "made a snapshot");
            }
            Ok(None) => return,
            // Blocks do not need it; the next one may have more luck.
            Err(error) => tracing::error!(height, %error, "made no snapshot"),
        }
        drop(view);
        if let Err(error) = archive.keep_newest(keep.max(1)) {
            tracing::error!(%error, "an old snapshot is not removed");
        }
    }
}

/// Makes the snapshot of a state; `None`: it was asked to end.
pub(super) fn make(
    view: &Snapshot,
    archive: &Archive,
    chunk_bytes: usize,
    is_ending: impl Fn() -> bool,
) -> Result<Option<Metadata>, StoreError> {
    let Some(head) = view.head() else { return Err(StoreError::Corrupt { what: "head" }) };
    let tree = Sha256Jmt::new(view);
    let files = archive.begin(&head.height.to_string())?;
    let mut hashes = Vec::new();
    let mut entries = Vec::new();
    let mut len_bytes = 0;
    let mut leaves = Leaves::of(view).peekable();
    while let Some(leaf) = leaves.next() {
        let (key_hash, key, value) = leaf?;
        len_bytes += key.len() + value.len();
        entries.push((key, value));
        if len_bytes < chunk_bytes && leaves.peek().is_some() {
            continue;
        }
        if is_ending() {
            return Ok(None);
        }
        let proof = tree.get_range_proof(key_hash, head.height).map_err(StoreError::Tree)?;
        let proof = Proof::of(&proof).ok_or(StoreError::Corrupt { what: "proof of a chunk" })?;
        let chunk = Chunk { entries: std::mem::take(&mut entries), proof }.encode();
        files.write_chunk(hashes.len(), &chunk)?;
        hashes.push(Sha256::digest(&chunk).into());
        len_bytes = 0;
    }
    if hashes.is_empty() || hashes.len() > CHUNKS_MAX {
        return Err(StoreError::Corrupt { what: "number of chunks" });
    }
    let metadata = Metadata {
        format: FORMAT,
        height: head.height,
        block_time_ms: head.block_time_ms,
        app_hash: head.app_hash,
        chunks: hashes,
    };
    files.finish(&metadata)?;
    Ok(Some(metadata))
}

/// The newest values, in the order of the hashes of their keys.
struct Leaves {
    values: fjall::Iter,
    /// Of `values`, read too early.
    ahead: Option<(KeyHash, fjall::Slice)>,
    keys: fjall::Iter,
}

impl Leaves {
    fn of(view: &Snapshot) -> Self {
        // Behind the tables' marks.
        let all = [0u8; 32].to_vec()..;
        let values = view.view.range(&view.tables.values, all.clone());
        Self { values, ahead: None, keys: view.view.range(&view.tables.preimages, all) }
    }

    /// The next value of any version.
    fn pull(&mut self) -> Result<Option<(KeyHash, fjall::Slice)>, StoreError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let Some(guard) = self.values.next() else { return Ok(None) };
        let (key, value) = guard.into_inner()?;
        let hash = key.first_chunk::<32>().ok_or(StoreError::Corrupt { what: "list of values" })?;
        Ok(Some((KeyHash(*hash), value)))
    }

    fn next_leaf(&mut self) -> Result<Option<Leaf>, StoreError> {
        while let Some((hash, mut value)) = self.pull()? {
            while let Some((next, newer)) = self.pull()? {
                if next != hash {
                    self.ahead = Some((next, newer));
                    break;
                }
                value = newer;
            }
            match value.split_first() {
                Some((0, _)) => {}
                Some((1, value)) => {
                    let key = self.key_of(&hash)?;
                    return Ok(Some((hash, key, value.to_vec())));
                }
                _ => return Err(StoreError::Corrupt { what: "list of values" }),
            }
        }
        Ok(None)
    }

    /// Keys are asked for in order, so their table is read once.
    fn key_of(&mut self, hash: &KeyHash) -> Result<Vec<u8>, StoreError> {
        for guard in &mut self.keys {
            let (at, key) = guard.into_inner()?;
            if at[..] == hash.0 {
                return Ok(key.to_vec());
            }
        }
        Err(StoreError::Corrupt { what: "list of keys" })
    }
}

/// Where it stands in the tree, its key and its value.
type Leaf = (KeyHash, Vec<u8>, Vec<u8>);

impl Iterator for Leaves {
    type Item = Result<Leaf, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_leaf().transpose()
    }
}
