//! Proofs of single records, made by the tree that the chain has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use jmt::{
    KeyHash, OwnedValue, Sha256Jmt, Version,
    storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader},
};
use light::proof::{PROOF_TYPE, ProofError, ProofOp, spec, verify};
use proptest::prelude::*;
use prost13::Message;
use sha2::Sha256;

/// Versions of a tree in memory.
#[derive(Default)]
struct Tree {
    nodes: HashMap<NodeKey, Node>,
    values: BTreeMap<(KeyHash, Version), Option<OwnedValue>>,
    names: HashMap<KeyHash, Vec<u8>>,
    /// Roots by version.
    roots: Vec<[u8; 32]>,
}

impl TreeReader for Tree {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.nodes.get(key).cloned())
    }

    fn get_value_option(
        &self,
        newest: Version,
        key: KeyHash,
    ) -> anyhow::Result<Option<OwnedValue>> {
        let found = self.values.range((key, 0)..=(key, newest)).next_back();
        Ok(found.and_then(|(_, value)| value.clone()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("only restoring asks for it")
    }
}

impl HasPreimage for Tree {
    fn preimage(&self, key: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.names.get(&key).cloned())
    }
}

impl Tree {
    fn put(&mut self, entries: &[(&[u8], &[u8])]) {
        let version = u64::try_from(self.roots.len()).unwrap();
        let named = entries.iter().map(|(key, _)| (KeyHash::with::<Sha256>(key), key.to_vec()));
        self.names.extend(named);
        let hashed =
            entries.iter().map(|(key, value)| (KeyHash::with::<Sha256>(key), Some(value.to_vec())));
        let (root, batch) = Sha256Jmt::new(self).put_value_set(hashed, version).unwrap();
        self.nodes.extend(batch.node_batch.nodes().clone());
        for ((version, key), value) in batch.node_batch.values() {
            self.values.insert((*key, *version), value.clone());
        }
        self.roots.push(root.0);
    }

    fn prove(&self, key: &[u8], version: Version) -> (Option<Vec<u8>>, ProofOp) {
        let (value, proof) =
            Sha256Jmt::new(self).get_with_ics23_proof(key.to_vec(), version).unwrap();
        let data = proof.encode_to_vec();
        (value, ProofOp { kind: PROOF_TYPE.to_owned(), key: key.to_vec(), data })
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("record/{number}").into_bytes()
}

/// 200 records, of which the first changes in the second version.
fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut tree = Tree::default();
        let keys: Vec<_> = (0..200).map(key).collect();
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().map(|key| (key.as_slice(), &b"old"[..])).collect();
        tree.put(&entries);
        tree.put(&[(&keys[0], b"new")]);
        tree
    })
}

#[test]
fn the_shape_of_the_tree_is_the_trees_own() {
    assert_eq!(spec(), jmt::ics23_spec());
}

#[test]
fn a_record_is_there_with_its_value_and_height() {
    let tree = tree();
    for (version, value) in [(0, b"old"), (1, b"new")] {
        let (found, op) = tree.prove(&key(0), version);
        assert_eq!(found.as_deref(), Some(&value[..]));
        let root = &tree.roots[usize::try_from(version).unwrap()];
        assert_eq!(verify(root, &key(0), Some(value), &[op]), Ok(()));
    }
}

#[test]
fn a_record_that_is_not_there_is_proved_absent() {
    let tree = tree();
    for number in 200..400 {
        let (found, op) = tree.prove(&key(number), 1);
        assert_eq!(found, None);
        assert_eq!(verify(&tree.roots[1], &key(number), None, &[op]), Ok(()));
    }
}

#[test]
fn a_tree_of_one_record_proves_it_and_nothing_else() {
    let mut tree = Tree::default();
    tree.put(&[(b"alone", b"value")]);
    let (_, op) = tree.prove(b"alone", 0);
    assert_eq!(verify(&tree.roots[0], b"alone", Some(b"value"), std::slice::from_ref(&op)), Ok(()));
    let claim = ProofOp { key: b"other".to_vec(), ..op };
    assert_eq!(verify(&tree.roots[0], b"other", None, &[claim]), Err(ProofError::Mismatch));
    let (_, absent) = tree.prove(b"other", 0);
    assert_eq!(verify(&tree.roots[0], b"other", None, &[absent]), Ok(()));
}

#[test]
fn each_lie_about_a_record_is_refused() {
    let tree = tree();
    let (old, new) = (&tree.roots[0], &tree.roots[1]);
    let (_, present) = tree.prove(&key(0), 1);
    let (_, other) = tree.prove(&key(1), 1);
    let (_, absent) = tree.prove(&key(999), 1);
    let relabel = |op: &ProofOp, key: &[u8]| ProofOp { key: key.to_vec(), ..op.clone() };
    let check = |root: &[u8], key: &[u8], value: Option<&[u8]>, op: &ProofOp, error| {
        assert_eq!(verify(root, key, value, std::slice::from_ref(op)), Err(error));
    };
    let mismatch = || ProofError::Mismatch;
    // Another value, key, height.
    check(new, &key(0), Some(b"old"), &present, mismatch());
    check(new, &key(0), Some(b"old"), &other, ProofError::Key);
    check(new, &key(0), Some(b"old"), &relabel(&other, &key(0)), mismatch());
    check(old, &key(0), Some(b"new"), &present, mismatch());
    // There, and said to be absent; absent, and said to be there.
    check(new, &key(0), None, &present, mismatch());
    check(new, &key(0), None, &relabel(&absent, &key(0)), mismatch());
    check(new, &key(999), Some(b"new"), &absent, mismatch());
    // No proof, another kind, cut off, empty.
    assert_eq!(verify(new, &key(0), Some(b"new"), &[]), Err(ProofError::Count(0)));
    let two = [present.clone(), present.clone()];
    assert_eq!(verify(new, &key(0), Some(b"new"), &two), Err(ProofError::Count(2)));
    let iavl = ProofOp { kind: "ics23:iavl".to_owned(), ..present.clone() };
    check(new, &key(0), Some(b"new"), &iavl, ProofError::Kind("ics23:iavl".to_owned()));
    for length in 0..present.data.len() {
        let cut = ProofOp { data: present.data[..length].to_vec(), ..present.clone() };
        assert!(verify(new, &key(0), Some(b"new"), &[cut]).is_err());
    }
    check(new, &key(0), Some(b""), &present, ProofError::Empty);
    check(new, b"", Some(b"new"), &relabel(&present, b""), ProofError::Empty);
    check(b"", &key(0), Some(b"new"), &present, mismatch());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No other bytes prove anything else: flipped ones prove the same or nothing.
    #[test]
    fn flipped_bytes_prove_no_other_value(
        number in 0_u32..400,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..4),
    ) {
        let tree = tree();
        let (value, mut op) = tree.prove(&key(number), 1);
        for (at, flip) in flips {
            let at = at.index(op.data.len());
            op.data[at] ^= flip;
        }
        let (root, key) = (&tree.roots[1], key(number));
        match value {
            Some(_) => prop_assert!(verify(root, &key, None, std::slice::from_ref(&op)).is_err()),
            None => prop_assert!(verify(root, &key, Some(b"old"), std::slice::from_ref(&op)).is_err()),
        }
        prop_assert!(verify(root, &key, Some(b"other"), &[op]).is_err());
    }

    /// Bytes of any kind are refused, never a panic.
    #[test]
    fn any_bytes_are_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let op = ProofOp { kind: PROOF_TYPE.to_owned(), key: key(0), data };
        prop_assert!(verify(&tree().roots[1], &key(0), Some(b"new"), std::slice::from_ref(&op)).is_err());
        prop_assert!(verify(&tree().roots[1], &key(0), None, &[op]).is_err());
    }
}
