//! Taking back a block leaves exactly the state before it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{tests::*, *};

/// Everything that a reader can see.
type Seen = (Option<Head>, BTreeMap<Vec<u8>, Vec<u8>>, Vec<Vec<u8>>, (usize, usize, usize));

fn seen(store: &Store) -> Seen {
    let view = store.snapshot().unwrap();
    let flat = view.prefix(b"").collect::<Result<_, _>>().unwrap();
    let index = view.index(b"i/").collect::<Result<_, _>>().unwrap();
    (view.head(), flat, index, view.tree_len())
}

#[test]
fn a_block_taken_back_and_executed_again_has_the_same_app_hash() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    let with_index = |mut update: Update, added: &[&str], removed: &[&str]| {
        let keys = |keys: &[&str]| keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        (update.index_added, update.index_removed) = (keys(added), keys(removed));
        store.prepare(update).unwrap()
    };
    store.commit(&with_index(update(0, "a=1 b=2 c=3"), &["i/a", "i/b"], &[])).unwrap();
    store.commit(&with_index(update(1, "d=4"), &["i/a"], &["i/none"])).unwrap();
    let before = seen(&store);
    let block = || with_index(update(2, "a=9 b new=5 d"), &["i/a", "i/new"], &["i/b", "i/zzz"]);
    let prepared = block();
    store.commit(&prepared).unwrap();
    let after = seen(&store);
    assert_ne!(after.1, before.1);

    let head = store.roll_back().unwrap();
    assert_eq!((Some(head), head.height), (before.0, 1));
    assert_eq!(seen(&store), before);
    assert_eq!(root_of_flat(&store.snapshot().unwrap()), head.app_hash);
    store.commit(&block()).unwrap();
    assert_eq!(seen(&store), after);

    // Durable, and further back, down to the beginning.
    store.roll_back().unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(seen(&store), before);
    store.roll_back().unwrap();
    assert!(store.snapshot().unwrap().is_genesis().unwrap());
    let refused = store.roll_back().unwrap_err();
    assert!(refused.to_string().contains("it is the genesis state"), "{refused}");
}

#[test]
fn what_cannot_be_taken_back_is_refused_with_the_reason() {
    let dir = Dir::new();
    let store = Store::open_with(dir.path(), 1).unwrap();
    assert!(store.roll_back().unwrap_err().to_string().contains("there is no state"));
    commit(&store, 0, "a=1");
    commit(&store, 1, "a=2");
    let before = seen(&store);
    let refused = store.roll_back().unwrap_err();
    assert!(refused.to_string().contains("height 1 cannot be taken back: the height before it"));
    assert_eq!(seen(&store), before, "nothing is done");
}

#[test]
fn a_chain_that_begins_at_another_height_is_like_any_other() {
    let dir = Dir::new();
    let store = Store::open(dir.path()).unwrap();
    let genesis = commit(&store, 41, "a=1 b=2");
    assert!(store.snapshot().unwrap().is_genesis().unwrap());
    commit(&store, 42, "a=2");
    let view = store.snapshot().unwrap();
    assert!(!view.is_genesis().unwrap());
    assert_eq!(view.root_at(41).unwrap(), genesis);
    assert_eq!(view.value_at(b"a", 41).unwrap(), Some(b"1".to_vec()));
    assert!(matches!(view.root_at(40), Err(StoreError::Height { oldest: 41, newest: 42, .. })));
    store.prune_now().unwrap();
    assert_eq!(store.roll_back().unwrap().height, 41);
    // One content, one root: the height is not in it.
    let other = Dir::new();
    assert_eq!(commit(&Store::open(other.path()).unwrap(), 0, "a=1 b=2"), genesis);
}

#[test]
fn how_many_heights_are_kept_is_a_choice_that_may_change() {
    let dir = Dir::new();
    {
        let store = Store::open_with(dir.path(), 3).unwrap();
        for height in 0..10 {
            commit(&store, height, &format!("a={height}"));
        }
        store.prune_now().unwrap();
        let view = store.snapshot().unwrap();
        assert_eq!(view.oldest(), 7);
        assert_eq!(view.value_at(b"a", 7).unwrap(), Some(b"7".to_vec()));
        assert!(matches!(view.value_at(b"a", 6), Err(StoreError::Height { oldest: 7, .. })));
        assert_eq!(view.tree_len().1, 3);
    }
    // More: what is gone stays gone, and nobody is told that it is there.
    let store = Store::open_with(dir.path(), u64::MAX).unwrap();
    for height in 10..20 {
        commit(&store, height, &format!("a={height}"));
    }
    store.prune_now().unwrap();
    let view = store.snapshot().unwrap();
    assert_eq!((view.oldest(), view.tree_len().1), (7, 13));
    assert!((7..20).all(|height| view.root_at(height).is_ok()));
    drop((view, store));
    let store = Store::open_with(dir.path(), 2).unwrap();
    commit(&store, 20, "a=20");
    store.prune_now().unwrap();
    let view = store.snapshot().unwrap();
    assert_eq!((view.oldest(), view.tree_len().1), (19, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Back as far as heights are kept, and forward again: the same state at each height.
    #[test]
    fn any_blocks_are_taken_back_one_by_one(
        blocks in prop::collection::vec(
            (
                prop::collection::btree_map(0u8..12, prop::option::of(any::<u8>()), 0..6),
                prop::collection::btree_set(0u8..6, 0..3),
                prop::collection::btree_set(0u8..6, 0..3),
            ),
            1..10,
        ),
    ) {
        let dir = Dir::new();
        let store = Store::open_with(dir.path(), 5).unwrap();
        let block = |at: usize| {
            let (writes, added, removed) = &blocks[at];
            let keys = |keys: &BTreeSet<u8>| keys.iter().map(|key| vec![b'i', b'/', *key]).collect();
            Update {
                height: at as u64 + 1,
                block_time_ms: at as u64 * 7,
                writes: writes.iter().map(|(key, value)| (vec![b'k', *key], value.map(|value| vec![value]))).collect(),
                index_added: keys(added),
                index_removed: keys(removed),
                ..Update::default()
            }
        };
        commit(&store, 0, "always=there");
        let mut states = vec![seen(&store)];
        for at in 0..blocks.len() {
            store.commit(&store.prepare(block(at)).unwrap()).unwrap();
            states.push(seen(&store));
        }
        let mut height = blocks.len();
        while height > 0 && height as u64 > store.snapshot().unwrap().oldest() {
            height -= 1;
            store.roll_back().unwrap();
            let now = seen(&store);
            // How much of older heights is still on disk depends on when it was pruned.
            prop_assert_eq!((now.0, now.1, now.2), (states[height].0, states[height].1.clone(), states[height].2.clone()));
        }
        prop_assert!(height == 0 || store.roll_back().is_err());
        for at in height..blocks.len() {
            store.commit(&store.prepare(block(at)).unwrap()).unwrap();
            prop_assert_eq!(seen(&store).0, states[at + 1].0);
        }
    }
}
