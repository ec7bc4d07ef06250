//! Making a state from chunks: many batches, and one switch at the end.
//!
//! A mark says that what is here is not whole, from before the first batch until the one that
//! names the head. Whoever opens a directory with that mark removes everything first.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use fjall::PersistMode;
use jmt::{
    KeyHash, RootHash, Sha256Jmt,
    restore::{JellyfishMerkleRestore, StateSnapshotReceiver},
    storage::{NodeBatch, TreeWriter},
};
use sha2::Sha256;

use super::{
    archive::SnapshotError,
    format::{Chunk, Metadata},
};
use crate::{
    fail::{self, Step},
    store::{
        First, Head, META_CHAIN_ID, META_FIRST, META_OLDEST, META_RESTORING, Snapshot, Store,
        StoreError,
        tree::{encode, node_key, value_key},
    },
};

/// A state that is in the tables, and that nobody sees yet.
pub struct Restore {
    store: Store,
    metadata: Metadata,
}

/// Nodes that are ready, until their batch is made.
#[derive(Default)]
struct Ready(Mutex<NodeBatch>);

impl TreeWriter for Ready {
    fn write_node_batch(&self, batch: &NodeBatch) -> anyhow::Result<()> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.merge(batch.clone());
        Ok(())
    }
}

impl Ready {
    fn take(&self) -> NodeBatch {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Writes the tables of a state from its chunks, each of which is checked again. After an
    /// error the directory must be opened again, which empties it.
    ///
    /// # Errors
    /// There is a state here already, a chunk is not there or not right, or the database fails.
    pub fn begin_restore(
        &self,
        metadata: &Metadata,
        chunk: impl Fn(usize) -> Result<Vec<u8>, SnapshotError>,
    ) -> Result<Restore, StoreError> {
        let _write = self.shared.lock();
        let now = self.snapshot()?;
        if let Some(head) = now.head() {
            return Err(StoreError::NotEmpty { height: head.height });
        }
        if now.is_restoring()? {
            return Err(StoreError::HalfRestored);
        }
        let tables = &self.shared.tables;
        let mut batch = self.shared.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&tables.meta, META_RESTORING, []);
        batch.commit()?;

        let corrupt = || StoreError::Corrupt { what: "chunk of a snapshot" };
        let version = metadata.height;
        let ready = Arc::new(Ready::default());
        let root = RootHash(metadata.app_hash);
        let mut tree =
            JellyfishMerkleRestore::<Sha256>::new_overwrite(Arc::clone(&ready), version, root)
                .map_err(StoreError::Tree)?;
        for index in 0..metadata.chunks.len() {
            let Chunk { entries, proof } = Chunk::decode(&chunk(index)?).ok_or_else(corrupt)?;
            let mut batch = self.shared.db.batch();
            let mut leaves = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let hash = KeyHash::with::<Sha256>(&key);
                batch.insert(
                    &tables.values,
                    value_key(&hash, version),
                    [&[1], &value[..]].concat(),
                );
                batch.insert(&tables.preimages, hash.0, key.as_slice());
                batch.insert(&tables.flat, key, value.as_slice());
                leaves.push((hash, value));
            }
            let proof = proof.to_range_proof().ok_or_else(corrupt)?;
            tree.add_chunk(leaves, proof).map_err(StoreError::Tree)?;
            for (key, node) in ready.take().nodes() {
                batch.insert(&tables.nodes, node_key(key), encode(node));
            }
            batch.commit()?;
            fail::reach(Step::RestoredChunk, index as u64);
        }
        tree.finish().map_err(StoreError::Tree)?;
        let mut batch = self.shared.db.batch();
        for (key, node) in ready.take().nodes() {
            batch.insert(&tables.nodes, node_key(key), encode(node));
        }
        batch.commit()?;
        let found = Sha256Jmt::new(&self.snapshot()?).get_root_hash(version);
        if found.map_err(StoreError::Tree)? != root {
            return Err(corrupt());
        }
        Ok(Restore { store: self.clone(), metadata: metadata.clone() })
    }
}

impl Restore {
    /// What is in the tables; without a head.
    ///
    /// # Errors
    /// The database's.
    pub fn view(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot()
    }

    /// The chain's id, as the state has it.
    ///
    /// # Errors
    /// The database's.
    pub fn set_chain_id(&self, chain_id: &str) -> Result<(), StoreError> {
        let mut batch = self.store.shared.db.batch();
        batch.insert(&self.store.shared.tables.meta, META_CHAIN_ID, chain_id);
        Ok(batch.commit()?)
    }

    /// Index keys, as they follow from the state.
    ///
    /// # Errors
    /// The database's.
    pub fn add_index(&self, keys: BTreeSet<Vec<u8>>) -> Result<(), StoreError> {
        let mut batch = self.store.shared.db.batch();
        for key in keys {
            batch.insert(&self.store.shared.tables.index, key, []);
        }
        Ok(batch.commit()?)
    }

    /// The switch: from now on, and durably, this is the state.
    ///
    /// # Errors
    /// The database's; then the directory must be opened again.
    pub fn commit(self) -> Result<Head, StoreError> {
        let shared = &self.store.shared;
        let _write = shared.lock();
        let Metadata { height, block_time_ms, app_hash, .. } = self.metadata;
        let head = Head { height, app_hash, block_time_ms };
        let first = First { height, is_genesis: false };
        let mut batch = shared.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&shared.tables.meta, META_FIRST, encode(&first));
        batch.insert(&shared.tables.meta, META_OLDEST, height.to_be_bytes());
        batch.remove(&shared.tables.meta, META_RESTORING);
        shared.tables.set_head(&mut batch, &head);
        fail::reach(Step::BeforeSwitch, height);
        batch.commit()?;
        fail::reach(Step::AfterSwitch, height);
        Ok(head)
    }
}
