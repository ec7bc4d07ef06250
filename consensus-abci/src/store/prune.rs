//! Removing, in the background, what only heights that are no longer kept would need.
//!
//! A node that was replaced in version `s`, and a value that was overwritten in it, serve only
//! versions before `s`. Once the oldest height kept is `s`, they go. Nothing here is synced: what a
//! crash brings back is found again, since the mark of how far pruning came is in the same batch.

use std::{io, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use fjall::Readable;
use jmt::KeyHash;

use super::{
    META_PRUNED, Shared, StoreError, head_key,
    tree::{INDEX_ADDED, INDEX_REMOVED, STALE_NODE, STALE_VALUE, value_key},
};

/// Stale parts removed in one batch: a commit that comes meanwhile waits for one of them.
const PARTS_PER_BATCH: usize = 512;

/// The thread that prunes; it ends when this is dropped.
pub(super) struct Pruner {
    /// One waiting wake-up is enough: the thread prunes all there is.
    wake: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pruner {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let run = move || run(&shared, &woken);
        let thread = thread::Builder::new().name("state-prune".into()).spawn(run)?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Full: it will wake up anyway. Disconnected: it gave up, and said so.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Pruner {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // The database's lock is free only when its last user is gone.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        loop {
            match shared.prune_some() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Blocks do not need it: the state stays right and grows.
                    tracing::error!(%error, "old versions of the state are not removed any more");
                    return;
                }
            }
        }
    }
}

impl Shared {
    /// Removes some of what is stale; `false`: there was nothing.
    pub(super) fn prune_some(&self) -> Result<bool, StoreError> {
        let _write = self.lock();
        let snapshot = super::Snapshot::take(&self.db, self.tables.clone())?;
        if snapshot.head().is_none() {
            return Ok(false);
        }
        let oldest = snapshot.oldest();
        let from = snapshot.pruned_to()?;
        if from > oldest {
            return Ok(false);
        }
        // Versions up to the oldest kept are done when the table has no more parts of them.
        let past_end = (oldest + 1).to_be_bytes().to_vec();
        let range = from.to_be_bytes().to_vec()..past_end.clone();
        let mut batch = self.batch();
        let mut parts = 0;
        // Heads below were removed with the versions before `from`. Whoever begins further down
        // passes by what is left of each of them, block after block.
        let heads = head_key(from.saturating_sub(1))..head_key(oldest);
        for guard in snapshot.view.range(&self.tables.meta, heads).take(PARTS_PER_BATCH) {
            batch.remove(&self.tables.meta, guard.key()?);
            parts += 1;
        }
        for guard in snapshot.view.range(&self.tables.stale, range).take(PARTS_PER_BATCH - parts) {
            let key = guard.key()?;
            self.remove(&snapshot, &mut batch, &key)?;
            batch.remove(&self.tables.stale, key);
            parts += 1;
        }
        if parts < PARTS_PER_BATCH {
            batch.insert(&self.tables.meta, META_PRUNED, past_end);
        }
        batch.commit()?;
        Ok(parts == PARTS_PER_BATCH)
    }

    fn remove(
        &self,
        snapshot: &super::Snapshot,
        batch: &mut fjall::OwnedWriteBatch,
        stale: &[u8],
    ) -> Result<(), StoreError> {
        let corrupt = StoreError::Corrupt { what: "list of stale parts" };
        let Some((version, rest)) = stale.split_first_chunk::<8>() else { return Err(corrupt) };
        match rest.split_first() {
            Some((&STALE_NODE, node)) => batch.remove(&self.tables.nodes, node),
            Some((&STALE_VALUE, key_hash)) => {
                let key_hash = KeyHash(key_hash.try_into().map_err(|_| corrupt)?);
                let version = u64::from_be_bytes(*version);
                self.remove_values(snapshot, batch, &key_hash, version)?;
            }
            // A version that is the oldest is not taken back.
            Some((&(INDEX_ADDED | INDEX_REMOVED), _)) => {}
            _ => return Err(corrupt),
        }
        Ok(())
    }

    /// Removes the value of a key that `version` overwrote, and its own mark of removal.
    fn remove_values(
        &self,
        snapshot: &super::Snapshot,
        batch: &mut fjall::OwnedWriteBatch,
        key_hash: &KeyHash,
        version: u64,
    ) -> Result<(), StoreError> {
        let values = &self.tables.values;
        let range = value_key(key_hash, 0)..=value_key(key_hash, version);
        let newest = value_key(key_hash, version);
        // From the newest down: those before the overwritten one went with the version that had
        // overwritten them, and what is left of them is not passed by.
        for guard in snapshot.view.range(values, range).rev() {
            let (key, value) = guard.into_inner()?;
            if key[..] != newest[..] {
                batch.remove(values, key);
                break;
            }
            if value[..] == [0] {
                let later =
                    value_key(key_hash, version.saturating_add(1))..=value_key(key_hash, u64::MAX);
                if snapshot.view.range(values, later).next().is_none() {
                    batch.remove(&self.tables.preimages, key_hash.0);
                }
                batch.remove(values, key);
            }
        }
        Ok(())
    }
}
