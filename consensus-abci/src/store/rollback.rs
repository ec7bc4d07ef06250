//! Taking back the newest block: the state becomes that of the height before, in one batch.

use std::collections::BTreeSet;

use fjall::{PersistMode, Readable};
use jmt::{
    KeyHash,
    storage::{HasPreimage, TreeReader},
};

use super::{
    Head, Snapshot, Store, StoreError, head_key,
    tree::{INDEX_ADDED, INDEX_REMOVED, STALE_NODE, STALE_VALUE, value_key},
};

impl Store {
    /// Takes back the newest block; what it did is forgotten, and the same or another block of
    /// its height may follow. Returns what is the newest state then.
    ///
    /// # Errors
    /// There is no block, the height before is not kept, or the database fails.
    pub fn roll_back(&self) -> Result<Head, StoreError> {
        let _write = self.shared.lock();
        let now = self.snapshot()?;
        let refused = |height, why| Err(StoreError::RollBack { height, why });
        let Some(head) = now.head() else { return refused(0, "there is no state") };
        let first = now.first()?.ok_or(StoreError::Corrupt { what: "first height" })?;
        if head.height == first.height {
            let why = match first.is_genesis {
                true => "it is the genesis state",
                false => "it came from a snapshot, and nothing before it is here",
            };
            return refused(head.height, why);
        }
        let before = head.height - 1;
        let earlier = match before >= now.oldest() {
            true => now.head_at(before)?,
            false => None,
        };
        let Some(earlier) = earlier else {
            return refused(head.height, "the height before it is not kept");
        };
        if now.root_at(before)? != earlier.app_hash {
            return Err(StoreError::Corrupt { what: "earlier root" });
        }
        let tables = &self.shared.tables;
        let mut batch = self.shared.db.batch().durability(Some(PersistMode::SyncAll));
        let version = head.height.to_be_bytes();
        let corrupt = || StoreError::Corrupt { what: "list of stale parts" };
        // Removed and added again in one block: what was there before counts.
        let mut index_removed = BTreeSet::new();
        for guard in now.view.prefix(&tables.stale, version) {
            let stale = guard.key()?;
            match stale[8..].split_first().ok_or_else(corrupt)? {
                (&STALE_NODE, _) => {}
                (&STALE_VALUE, key_hash) => {
                    let key_hash = KeyHash(key_hash.try_into().map_err(|_| corrupt())?);
                    self.value_back(&now, &mut batch, key_hash, head.height)?;
                }
                (&INDEX_ADDED, key) => batch.remove(&tables.index, key),
                (&INDEX_REMOVED, key) => {
                    index_removed.insert(key.to_vec());
                }
                _ => return Err(corrupt()),
            }
            batch.remove(&tables.stale, stale);
        }
        for key in index_removed {
            batch.insert(&tables.index, key, []);
        }
        for guard in now.view.prefix(&tables.nodes, version) {
            batch.remove(&tables.nodes, guard.key()?);
        }
        batch.remove(&tables.meta, head_key(head.height));
        tables.set_head(&mut batch, &earlier);
        batch.commit()?;
        Ok(earlier)
    }

    /// A key has the value again that it had before `version`.
    fn value_back(
        &self,
        now: &Snapshot,
        batch: &mut fjall::OwnedWriteBatch,
        key_hash: KeyHash,
        version: u64,
    ) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let key = now.preimage(key_hash).map_err(StoreError::Tree)?;
        let key = key.ok_or(StoreError::Corrupt { what: "list of keys" })?;
        match now.get_value_option(version - 1, key_hash).map_err(StoreError::Tree)? {
            Some(value) => batch.insert(&tables.flat, key, value),
            None => {
                batch.remove(&tables.flat, key);
                let earlier = value_key(&key_hash, 0)..value_key(&key_hash, version);
                if now.view.range(&tables.values, earlier).next().is_none() {
                    batch.remove(&tables.preimages, key_hash.0);
                }
            }
        }
        batch.remove(&tables.values, value_key(&key_hash, version));
        Ok(())
    }
}
