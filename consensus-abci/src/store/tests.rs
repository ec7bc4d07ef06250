//! What a state on disk promises: one root for one content, proofs, history, and no half blocks.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicU32,
};

use ics23::{CommitmentProof, HostFunctionsManager};
use proptest::prelude::*;
use prost13::Message;
use sha2::{Digest, Sha256};

use super::*;

/// A directory that is gone when the test is.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("sutantra-store-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `"a=1 b=2 c"`: a and b are set, c is removed.
fn writes(text: &str) -> Writes {
    let write = |part: &str| match part.split_once('=') {
        Some((key, value)) => (key.into(), Some(value.into())),
        None => (part.into(), None),
    };
    text.split_whitespace().map(write).collect()
}

pub(crate) fn update(height: u64, text: &str) -> Update {
    Update { height, block_time_ms: 1000 * height, writes: writes(text), ..Update::default() }
}

#[track_caller]
pub(crate) fn commit(store: &Store, height: u64, text: &str) -> [u8; 32] {
    let prepared = store.prepare(update(height, text)).unwrap();
    store.commit(&prepared).unwrap();
    prepared.head().app_hash
}

/// The root of a sparse Merkle tree, from its definition: no node is kept, nothing is incremental.
fn naive_root(leaves: &[([u8; 32], [u8; 32])], depth: usize) -> [u8; 32] {
    let bit = |key: &[u8; 32]| key[depth / 8] >> (7 - depth % 8) & 1;
    match leaves {
        [] => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
        [(key, value)] => Sha256::digest([b"JMT::LeafNode", &key[..], value].concat()).into(),
        _ => {
            let right_at = leaves.partition_point(|(key, _)| bit(key) == 0);
            let (left, right) = leaves.split_at(right_at);
            let (left, right) = (naive_root(left, depth + 1), naive_root(right, depth + 1));
            Sha256::digest([b"JMT::IntrnalNode", &left[..], &right].concat()).into()
        }
    }
}

/// The root that the flat table should have.
pub(crate) fn root_of_flat(snapshot: &Snapshot) -> [u8; 32] {
    let mut leaves: Vec<([u8; 32], [u8; 32])> = snapshot
        .prefix(b"")
        .map(|entry| {
            let (key, value) = entry.unwrap();
            (Sha256::digest(key).into(), Sha256::digest(value).into())
        })
        .collect();
    leaves.sort_unstable();
    naive_root(&leaves, 0)
}

fn is_member(root: &[u8; 32], proof: &[u8], key: &[u8], value: &[u8]) -> bool {
    let proof = CommitmentProof::decode(proof).unwrap();
    let spec = jmt::ics23_spec();
    ics23::verify_membership::<HostFunctionsManager>(&proof, &spec, &root.to_vec(), key, value)
}

fn is_absent(root: &[u8; 32], proof: &[u8], key: &[u8]) -> bool {
    let proof = CommitmentProof::decode(proof).unwrap();
    let spec = jmt::ics23_spec();
    ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec, &root.to_vec(), key)
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = Dir::new();
    let root = {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.snapshot().unwrap().head(), None);
        let mut genesis = update(0, "a=1 b=2");
        genesis.chain_id = Some("sutantra-test-1".into());
        genesis.index_added = [b"i/x".to_vec(), b"i/y".to_vec(), b"j/z".to_vec()].into();
        store.commit(&store.prepare(genesis).unwrap()).unwrap();
        let mut second = update(1, "b c=3");
        second.index_removed = [b"i/x".to_vec()].into();
        let second = store.prepare(second).unwrap();
        store.commit(&second).unwrap();
        second.head().app_hash
    };
    let snapshot = Store::open(dir.path()).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.head(), Some(Head { height: 1, app_hash: root, block_time_ms: 1000 }));
    assert_eq!(snapshot.chain_id(), Some("sutantra-test-1"));
    assert_eq!(snapshot.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(snapshot.get(b"b").unwrap(), None);
    assert_eq!(snapshot.root_at(1).unwrap(), root);
    assert_eq!(root_of_flat(&snapshot), root);
    let index: Vec<_> = snapshot.index(b"i/").collect::<Result<_, _>>().unwrap();
    assert_eq!(index, [b"y"]);
}

#[test]
fn a_second_process_is_refused_with_a_sentence() {
    let dir = Dir::new();
    let _first = Store::open(dir.path()).unwrap();
    let Err(error) = Store::open(dir.path()) else { panic!("two stores on one directory") };
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_layout_of_another_version_is_refused() {
    let dir = Dir::new();
    {
        let db = Database::builder(dir.path()).open().unwrap();
        let options = fjall::KeyspaceCreateOptions::default;
        db.keyspace("meta", options).unwrap().insert(META_FORMAT, [9]).unwrap();
    }
    let Err(error) = Store::open(dir.path()) else { panic!("another layout was opened") };
    assert!(matches!(error, StoreError::Format { found: 9 }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_its_name() {
    let dir = Dir::new();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let Err(error) = Store::open(&file.join("state")) else { panic!("a file is no directory") };
    assert!(matches!(&error, StoreError::Directory { dir, .. } if dir.starts_with(&file)));
}

#[test]
fn a_prepared_block_changes_nothing_until_it_is_committed() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    let genesis = commit(&store, 0, "a=1");
    let before = store.snapshot().unwrap();
    let prepared = store.prepare(update(1, "a=2")).unwrap();
    assert_eq!(store.snapshot().unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
    store.commit(&prepared).unwrap();
    assert_eq!(store.snapshot().unwrap().get(b"a").unwrap(), Some(b"2".to_vec()));
    // A snapshot stays what it was.
    assert_eq!(before.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(before.head().unwrap().app_hash, genesis);
}

#[test]
fn heights_follow_one_another_and_a_block_is_committed_once() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, 0, "a=1");
    assert!(matches!(store.prepare(update(0, "a=1")), Err(StoreError::OutOfOrder { .. })));
    assert!(matches!(store.prepare(update(2, "a=2")), Err(StoreError::OutOfOrder { .. })));
    let one = store.prepare(update(1, "a=2")).unwrap();
    let other = store.prepare(update(1, "a=3")).unwrap();
    store.commit(&one).unwrap();
    assert!(matches!(store.commit(&other), Err(StoreError::OutOfOrder { .. })));
    assert!(matches!(store.commit(&one), Err(StoreError::OutOfOrder { .. })));
}

#[test]
fn proofs_hold_under_the_root_of_their_height_only() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    let old = commit(&store, 0, "a=1 b=2 c=3 d=4 e=5");
    let new = commit(&store, 1, "a=9 f=6 e");
    let snapshot = store.snapshot().unwrap();

    let of = |key: &[u8], height| snapshot.proof(key, height).unwrap();
    let proved = of(b"a", 1);
    assert_eq!(proved.value.as_deref(), Some(&b"9"[..]));
    assert!(is_member(&new, &proved.proof, b"a", b"9"));
    assert!(!is_member(&new, &proved.proof, b"a", b"8"), "another value");
    assert!(!is_member(&new, &proved.proof, b"b", b"9"), "another key");
    assert!(!is_member(&old, &proved.proof, b"a", b"9"), "another height's root");
    let mut tampered = proved.proof.clone();
    *tampered.last_mut().unwrap() ^= 1;
    assert!(
        CommitmentProof::decode(&tampered[..]).is_err() || !is_member(&new, &tampered, b"a", b"9")
    );

    // The past is proved as it was.
    let proved = of(b"a", 0);
    assert!(is_member(&old, &proved.proof, b"a", b"1"));
    assert!(is_member(&old, &of(b"e", 0).proof, b"e", b"5"));

    let proved = of(b"e", 1);
    assert_eq!(proved.value, None);
    assert!(is_absent(&new, &proved.proof, b"e"), "removed");
    assert!(!is_absent(&old, &proved.proof, b"e"), "it was there");
    assert!(is_absent(&old, &of(b"f", 0).proof, b"f"), "not yet there");
    assert!(is_absent(&new, &of(b"nothing", 1).proof, b"nothing"));
    assert!(!is_absent(&new, &of(b"nothing", 1).proof, b"a"), "a is there");
}

#[test]
fn a_height_that_is_not_kept_is_refused_with_those_that_are() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, 0, "a=1");
    let snapshot = store.snapshot().unwrap();
    let error = snapshot.proof(b"a", 1).unwrap_err();
    assert!(matches!(error, StoreError::Height { height: 1, oldest: 0, newest: 0 }));
    assert!(matches!(snapshot.value_at(b"a", 7), Err(StoreError::Height { .. })));
    assert!(matches!(snapshot.root_at(7), Err(StoreError::Height { .. })));
}

#[test]
fn what_only_old_heights_need_goes_and_what_is_kept_stays_provable() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    commit(&store, 0, "stays=0 changes=0 goes=0 back=0");
    let mut roots = vec![store.snapshot().unwrap().head().unwrap().app_hash];
    let last = VERSIONS_KEPT + 40;
    for height in 1..=last {
        let text = match height {
            5 => "goes back".into(),
            7 => "back=7".into(),
            // Blocks without a change: their roots are copies.
            20..=30 => String::new(),
            _ => format!("changes={height} other{}={height}", height % 7),
        };
        roots.push(commit(&store, height, &text));
    }
    store.prune_now().unwrap();
    let snapshot = store.snapshot().unwrap();
    let oldest = last - VERSIONS_KEPT + 1;
    assert!(matches!(
        snapshot.proof(b"stays", oldest - 1),
        Err(StoreError::Height { oldest: said, .. }) if said == oldest
    ));
    assert!(!snapshot.has_root(oldest - 1) && !snapshot.has_root(25), "old roots are gone");
    for height in [oldest, oldest + 1, last / 2, last] {
        let root = &roots[height as usize];
        assert_eq!(snapshot.root_at(height).unwrap(), *root);
        let proved = snapshot.proof(b"stays", height).unwrap();
        assert!(is_member(root, &proved.proof, b"stays", b"0"));
        let proved = snapshot.proof(b"back", height).unwrap();
        assert!(is_member(root, &proved.proof, b"back", b"7"));
        let text = height.to_string();
        let proved = snapshot.proof(b"changes", height).unwrap();
        assert!(is_member(root, &proved.proof, b"changes", text.as_bytes()));
        let proved = snapshot.proof(b"goes", height).unwrap();
        assert!(proved.value.is_none() && is_absent(root, &proved.proof, b"goes"));
    }
    // Two keys change in a block; a root, two leaves and few inner nodes each: without pruning
    // the oldest 40 would be there too.
    assert!(snapshot.has_root(oldest) && snapshot.has_root(last));
    let (nodes, values, preimages) = snapshot.tree_len();
    assert!(values as u64 <= 2 * VERSIONS_KEPT + 10, "{values} values");
    assert!(nodes as u64 <= 6 * VERSIONS_KEPT, "{nodes} nodes");
    assert_eq!(preimages, 10, "stays, changes, back, seven others; not what went");
    assert_eq!(root_of_flat(&snapshot), roots[last as usize]);
}

#[test]
fn pruning_resumes_where_it_was_when_the_process_ended() {
    let dir = Dir::new();
    let last = VERSIONS_KEPT + 20;
    {
        let store = Store::open(dir.path()).unwrap();
        commit(&store, 0, "a=0");
        for height in 1..=last {
            commit(&store, height, &format!("a={height}"));
        }
        store.prune_now().unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    commit(&store, last + 1, "a=x");
    store.prune_now().unwrap();
    let snapshot = store.snapshot().unwrap();
    let oldest = snapshot.oldest();
    assert_eq!(snapshot.value_at(b"a", oldest).unwrap(), Some(oldest.to_string().into()));
    assert_eq!(snapshot.tree_len().1 as u64, VERSIONS_KEPT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// R3: one content has one root, however it came about.
    #[test]
    fn the_root_is_that_of_the_flat_table(
        blocks in prop::collection::vec(
            prop::collection::btree_map(0u8..40, prop::option::of(any::<u8>()), 0..12),
            1..12,
        ),
    ) {
        let dir = Dir::new();
        let store = Store::open(dir.path()).unwrap();
        commit(&store, 0, "always=there");
        for (at, block) in blocks.into_iter().enumerate() {
            let writes = block
                .into_iter()
                .map(|(key, value)| (vec![b'k', key], value.map(|value| vec![value])))
                .collect();
            let update = Update { height: at as u64 + 1, writes, ..Update::default() };
            let prepared = store.prepare(update).unwrap();
            store.commit(&prepared).unwrap();
            let snapshot = store.snapshot().unwrap();
            prop_assert_eq!(root_of_flat(&snapshot), prepared.head().app_hash);
            for key in 0..40 {
                let key = [b'k', key];
                let proved = snapshot.proof(&key, at as u64 + 1).unwrap();
                prop_assert_eq!(&proved.value, &snapshot.get(&key).unwrap());
                let root = prepared.head().app_hash;
                let is_proved = match &proved.value {
                    Some(value) => is_member(&root, &proved.proof, &key, value),
                    None => is_absent(&root, &proved.proof, &key),
                };
                prop_assert!(is_proved);
            }
        }
    }
}
