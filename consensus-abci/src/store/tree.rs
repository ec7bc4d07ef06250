//! From a block's writes to the tree's next version, and from that to one batch.

use borsh::BorshSerialize;
use fjall::OwnedWriteBatch;
use jmt::{
    KeyHash, Sha256Jmt, Version,
    storage::{LeafNode, Node, NodeKey, TreeUpdateBatch},
};
use sha2::Sha256;

use super::{Head, META_CHAIN_ID, Snapshot, StoreError, Tables, Update, Writes};

/// Kinds of entries of the table of stale parts.
pub(super) const STALE_NODE: u8 = b'n';
pub(super) const STALE_VALUE: u8 = b'v';
/// What a version did to the indices, for taking it back.
pub(super) const INDEX_ADDED: u8 = b'+';
pub(super) const INDEX_REMOVED: u8 = b'-';

/// An update with its root, ready to be committed on the state that it was made for.
#[derive(Debug)]
pub struct Prepared {
    parent: Option<Head>,
    head: Head,
    update: Update,
    tree: TreeUpdateBatch,
}

impl Prepared {
    pub(super) fn new(parent: &Snapshot, mut update: Update) -> Result<Self, StoreError> {
        let follows = match parent.head() {
            None => true,
            Some(head) => head.height.checked_add(1) == Some(update.height),
        };
        if !follows {
            return Err(StoreError::OutOfOrder {
                height: update.height,
                head: parent.head().map(|head| head.height),
            });
        }
        drop_unchanged(parent, &mut update)?;
        drop_unchanged_index(parent, &mut update)?;
        let hashed =
            update.writes.iter().map(|(key, value)| (KeyHash::with::<Sha256>(key), value.clone()));
        let (root, tree) = match parent.head() {
            None => Sha256Jmt::new(&NoTree).put_value_set(hashed, update.height),
            Some(_) => Sha256Jmt::new(parent).put_value_set(hashed, update.height),
        }
        .map_err(StoreError::Tree)?;
        let head =
            Head { height: update.height, app_hash: root.0, block_time_ms: update.block_time_ms };
        Ok(Self { parent: parent.head(), head, update, tree })
    }

    /// What will be the newest state.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The state's changes; what did not change is not among them.
    pub fn writes(&self) -> &Writes {
        &self.update.writes
    }

    pub(super) fn parent(&self) -> Option<Head> {
        self.parent
    }

    pub(super) fn write(
        &self,
        tables: &Tables,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), StoreError> {
        let version = self.head.height;
        for (key, node) in self.tree.node_batch.nodes() {
            batch.insert(&tables.nodes, node_key(key), encode(node));
        }
        for ((version, key_hash), value) in self.tree.node_batch.values() {
            let bytes = match value {
                None => vec![0],
                Some(value) => [&[1], &value[..]].concat(),
            };
            batch.insert(&tables.values, value_key(key_hash, *version), bytes);
            batch.insert(&tables.stale, stale_key(*version, STALE_VALUE, &key_hash.0), []);
        }
        for stale in &self.tree.stale_node_index_batch {
            let key = stale_key(stale.stale_since_version, STALE_NODE, &node_key(&stale.node_key));
            batch.insert(&tables.stale, key, []);
        }
        if let Some(before) = version.checked_sub(1) {
            // The tree names an old root stale only where a block changed something; a root is of
            // no use to any other version.
            batch.insert(&tables.stale, stale_key(version, STALE_NODE, &root_key(before)), []);
        }
        for (key, value) in &self.update.writes {
            match value {
                None => batch.remove(&tables.flat, key.as_slice()),
                Some(value) => {
                    batch.insert(&tables.flat, key.as_slice(), value.as_slice());
                    let key_hash = KeyHash::with::<Sha256>(key);
                    batch.insert(&tables.preimages, key_hash.0, key.as_slice());
                }
            }
        }
        for key in &self.update.index_removed {
            batch.remove(&tables.index, key.as_slice());
            batch.insert(&tables.stale, stale_key(version, INDEX_REMOVED, key), []);
        }
        for key in &self.update.index_added {
            batch.insert(&tables.index, key.as_slice(), []);
            batch.insert(&tables.stale, stale_key(version, INDEX_ADDED, key), []);
        }
        if let Some(chain_id) = &self.update.chain_id {
            batch.insert(&tables.meta, META_CHAIN_ID, chain_id.as_bytes());
        }
        tables.set_head(batch, &self.head);
        Ok(())
    }
}

/// The tree before the genesis state, whatever height the chain begins at.
struct NoTree;

impl jmt::storage::TreeReader for NoTree {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok((key.nibble_path().num_nibbles() == 0).then_some(Node::Null))
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<jmt::OwnedValue>> {
        Ok(None)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

/// What is listed already, or is not listed anyway, does not change.
fn drop_unchanged_index(parent: &Snapshot, update: &mut Update) -> Result<(), StoreError> {
    // A key in both lists stays: removals come first.
    update.index_removed = std::mem::take(&mut update.index_removed)
        .into_iter()
        .filter(|key| !update.index_added.contains(key))
        .collect();
    let mut failed = Ok(());
    let mut is_listed = |key: &[u8]| match parent.is_listed(key) {
        Ok(is_listed) => Some(is_listed),
        Err(error) => {
            failed = Err(error);
            None
        }
    };
    update.index_removed.retain(|key| is_listed(key) == Some(true));
    update.index_added.retain(|key| is_listed(key) == Some(false));
    failed
}

/// A value that is written as it was would cost a path of new nodes for nothing.
fn drop_unchanged(parent: &Snapshot, update: &mut Update) -> Result<(), StoreError> {
    let before = std::mem::take(&mut update.before);
    let mut failed = Ok(());
    update.writes.retain(|key, value| {
        if let Some(before) = before.get(key) {
            return before != value;
        }
        match parent.get(key) {
            Ok(before) => before != *value,
            Err(error) => {
                failed = Err(error);
                true
            }
        }
    });
    failed
}

pub(super) fn encode(value: &impl BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory does not fail")
}

/// `version u64 big-endian ‖ nibble path`.
pub(super) fn node_key(key: &NodeKey) -> Vec<u8> {
    let mut bytes = key.version().to_be_bytes().to_vec();
    bytes.extend(encode(key.nibble_path()));
    bytes
}

/// The key of a version's root node: its path has no nibbles (a count and a length in borsh).
pub(super) fn root_key(version: Version) -> Vec<u8> {
    [&version.to_be_bytes()[..], &[0; 12]].concat()
}

/// `key hash ‖ version u64 big-endian`.
pub(super) fn value_key(key_hash: &KeyHash, version: Version) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&key_hash.0);
    bytes[32..].copy_from_slice(&version.to_be_bytes());
    bytes
}

/// `version u64 big-endian ‖ kind ‖ what became stale in that version`.
pub(super) fn stale_key(version: Version, kind: u8, what: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes()[..], &[kind], what].concat()
}
