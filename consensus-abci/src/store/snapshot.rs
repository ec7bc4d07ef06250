//! One height of the state, read while the next ones are written.

use std::ops::Bound;

use borsh::BorshDeserialize;
use fjall::{Database, Readable};
use jmt::{KeyHash, Sha256Jmt};
use prost13::Message;
use sha2::Sha256;

use super::{
    First, Head, MARK, META_CHAIN_ID, META_FIRST, META_HEAD, META_OLDEST, META_PRUNED,
    META_RESTORING, StoreError, Tables, head_key, tree::value_key,
};

/// The state at one height. Cheap to take; holding one keeps what it sees on disk.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) view: fjall::Snapshot,
    pub(super) tables: Tables,
    head: Option<Head>,
    chain_id: Option<String>,
    oldest: u64,
}

/// A value, or its absence, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// `None`: the key is proved to be absent.
    pub value: Option<Vec<u8>>,
    /// `ics23.CommitmentProof` in protobuf, for `jmt::ics23_spec`.
    pub proof: Vec<u8>,
}

impl Snapshot {
    pub(super) fn take(db: &Database, tables: Tables) -> Result<Self, StoreError> {
        let view = db.snapshot();
        let head = match view.get(&tables.meta, META_HEAD)? {
            None => None,
            Some(bytes) => {
                Some(borsh::from_slice(&bytes).map_err(|_| StoreError::Corrupt { what: "head" })?)
            }
        };
        let chain_id = match view.get(&tables.meta, META_CHAIN_ID)? {
            None => None,
            Some(bytes) => Some(
                String::from_utf8(bytes.to_vec())
                    .map_err(|_| StoreError::Corrupt { what: "chain id" })?,
            ),
        };
        let oldest = number(&view, &tables, META_OLDEST)?;
        Ok(Self { view, tables, head, chain_id, oldest })
    }

    /// What was committed last; `None` before the genesis state is.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The oldest height whose values can be read and proved; 0 before the genesis state.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Whether the newest state is the one from the genesis file: no block came after it.
    ///
    /// # Errors
    /// The database's.
    pub fn is_genesis(&self) -> Result<bool, StoreError> {
        let first = self.first()?;
        Ok(self.head.is_some_and(|head| {
            first.is_some_and(|first| first.is_genesis && first.height == head.height)
        }))
    }

    /// The chain's id; `None` before the genesis state is committed.
    pub fn chain_id(&self) -> Option<&str> {
        self.chain_id.as_deref()
    }

    /// A key's value.
    ///
    /// # Errors
    /// The database's.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.view.get(&self.tables.flat, key)?.map(|value| value.to_vec()))
    }

    /// Keys that begin with `prefix` and their values, in the order of their bytes.
    pub fn prefix(&self, prefix: &[u8]) -> Entries {
        Entries(self.view.prefix(&self.tables.flat, prefix))
    }

    /// As [`Snapshot::prefix`], from behind the key `after` on.
    pub fn prefix_behind(&self, prefix: &[u8], after: &[u8]) -> Entries {
        if after < prefix {
            return self.prefix(prefix);
        }
        let mut end = prefix.to_vec();
        // Prefixes are ASCII: the next byte is there.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        let range = (Bound::Excluded(after.to_vec()), Bound::Excluded(end));
        Entries(self.view.range(&self.tables.flat, range))
    }

    /// Index keys that begin with `prefix`, in the order of their bytes; the prefix is cut off.
    ///
    /// # Errors
    /// The database's.
    pub fn index(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> + use<> {
        let len_bytes = prefix.len();
        self.view.prefix(&self.tables.index, prefix).map(move |guard| {
            Ok(guard.key().map(|key| key.get(len_bytes..).unwrap_or_default().to_vec())?)
        })
    }

    /// A key's value at a height that is kept.
    ///
    /// # Errors
    /// The height is not kept, or the database fails.
    pub fn value_at(&self, key: &[u8], height: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.check_height(height)?;
        let tree = Sha256Jmt::new(self);
        tree.get(KeyHash::with::<Sha256>(key), height).map_err(StoreError::Tree)
    }

    /// A key's value at a height that is kept, or its absence, proved under that height's root.
    ///
    /// # Errors
    /// The height is not kept, or the database fails.
    pub fn proof(&self, key: &[u8], height: u64) -> Result<Proved, StoreError> {
        self.check_height(height)?;
        let tree = Sha256Jmt::new(self);
        let (value, proof) =
            tree.get_with_ics23_proof(key.to_vec(), height).map_err(StoreError::Tree)?;
        Ok(Proved { value, proof: proof.encode_to_vec() })
    }

    /// The root of a height that is kept: the app hash in the next height's header.
    ///
    /// # Errors
    /// The height is not kept, or the database fails.
    pub fn root_at(&self, height: u64) -> Result<[u8; 32], StoreError> {
        self.check_height(height)?;
        Ok(Sha256Jmt::new(self).get_root_hash(height).map_err(StoreError::Tree)?.0)
    }

    pub(super) fn check_height(&self, height: u64) -> Result<(), StoreError> {
        let Some(head) = self.head else {
            return Err(StoreError::Height { height, oldest: 0, newest: 0 });
        };
        let (oldest, newest) = (self.oldest, head.height);
        if (oldest..=newest).contains(&height) {
            return Ok(());
        }
        Err(StoreError::Height { height, oldest, newest })
    }

    /// First version whose stale parts are still there.
    pub(super) fn pruned_to(&self) -> Result<u64, StoreError> {
        number(&self.view, &self.tables, META_PRUNED)
    }

    /// What was committed at a height; `None`: it is not kept.
    pub(super) fn head_at(&self, height: u64) -> Result<Option<Head>, StoreError> {
        self.meta(&head_key(height), "earlier head")
    }

    /// Where this directory's state begins.
    pub(super) fn first(&self) -> Result<Option<First>, StoreError> {
        self.meta(META_FIRST, "first height")
    }

    /// Whether a state is coming in, chunk by chunk.
    pub(super) fn is_restoring(&self) -> Result<bool, StoreError> {
        Ok(self.view.contains_key(&self.tables.meta, META_RESTORING)?)
    }

    /// Whether a key is in an index.
    pub(super) fn is_listed(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.view.contains_key(&self.tables.index, key)?)
    }

    fn meta<T: BorshDeserialize>(
        &self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let bytes = self.view.get(&self.tables.meta, key)?;
        let read = |bytes: fjall::Slice| {
            borsh::from_slice(&bytes).map_err(|_| StoreError::Corrupt { what })
        };
        bytes.map(read).transpose()
    }

    /// How many nodes and values of the tree are on disk, of all versions.
    #[cfg(test)]
    pub(super) fn tree_len(&self) -> (usize, usize, usize) {
        let count = |table| {
            let mark = usize::from(self.view.contains_key(table, MARK).unwrap());
            self.view.len(table).unwrap() - mark
        };
        (count(&self.tables.nodes), count(&self.tables.values), count(&self.tables.preimages))
    }
}

/// Keys and values in the order of the keys' bytes.
pub struct Entries(fjall::Iter);

impl Iterator for Entries {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()?.into_inner() {
                Ok((key, _)) if key[..] == *MARK => {}
                Ok((key, value)) => return Some(Ok((key.to_vec(), value.to_vec()))),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// A number of the table `meta`; 0 where it is not set.
fn number(view: &fjall::Snapshot, tables: &Tables, key: &[u8]) -> Result<u64, StoreError> {
    match view.get(&tables.meta, key)? {
        None => Ok(0),
        Some(bytes) => bytes[..]
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| StoreError::Corrupt { what: "count of heights" }),
    }
}

// The tree reads its nodes and values through the snapshot: a proof is of one height, whatever is
// written meanwhile.
impl jmt::storage::TreeReader for Snapshot {
    fn get_node_option(
        &self,
        key: &jmt::storage::NodeKey,
    ) -> anyhow::Result<Option<jmt::storage::Node>> {
        let bytes = self.view.get(&self.tables.nodes, super::tree::node_key(key))?;
        Ok(bytes.map(|bytes| borsh::from_slice(&bytes)).transpose()?)
    }

    fn get_value_option(
        &self,
        max_version: jmt::Version,
        key_hash: KeyHash,
    ) -> anyhow::Result<Option<jmt::OwnedValue>> {
        let range = value_key(&key_hash, 0)..=value_key(&key_hash, max_version);
        let Some(newest) = self.view.range(&self.tables.values, range).next_back() else {
            return Ok(None);
        };
        match newest.value()?.split_first() {
            Some((0, _)) => Ok(None),
            Some((1, value)) => Ok(Some(value.to_vec())),
            _ => anyhow::bail!("a value is marked neither as there nor as removed"),
        }
    }

    fn get_rightmost_leaf(
        &self,
    ) -> anyhow::Result<Option<(jmt::storage::NodeKey, jmt::storage::LeafNode)>> {
        // Asked for by the restoring of a tree in chunks only, which has its own reader.
        anyhow::bail!("the rightmost leaf is not kept")
    }
}

impl jmt::storage::HasPreimage for Snapshot {
    fn preimage(&self, key_hash: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.view.get(&self.tables.preimages, key_hash.0)?.map(|key| key.to_vec()))
    }
}

impl Snapshot {
    /// Whether the root node of a version is on disk.
    #[cfg(test)]
    pub(super) fn has_root(&self, version: u64) -> bool {
        self.view.contains_key(&self.tables.nodes, super::tree::root_key(version)).unwrap()
    }
}
