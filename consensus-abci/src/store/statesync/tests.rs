//! What snapshots promise: the same state elsewhere, and nothing else, whoever sends the chunks.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{super::tests::*, *};
use crate::store::{Snapshot, Store, StoreError, Update, Writes};

/// A state of `keys` records, built in three blocks with removals and changes.
fn store_of(dir: &Dir, keys: u32, value_bytes: usize) -> Store {
    let store = Store::open(dir.path()).unwrap();
    let value = |key: u32, round: u8| {
        let mut value = key.to_be_bytes().to_vec();
        value.resize(value_bytes.max(4), round);
        Some(value)
    };
    let name = |key: u32| format!("key/{key}").into_bytes();
    let all: Writes = (0..keys).map(|key| (name(key), value(key, 0))).collect();
    let genesis = Update { writes: all, chain_id: Some("c-1".into()), ..Update::default() };
    store.commit(&store.prepare(genesis).unwrap()).unwrap();
    for height in 1..3u64 {
        let step = 7 * height as usize;
        let changed = (0..keys).step_by(step).map(|key| (name(key), value(key, height as u8)));
        let gone = (3..keys).step_by(step + 4).map(|key| (name(key), None));
        let writes = changed.chain(gone).collect();
        let update = Update { height, block_time_ms: height * 1000, writes, ..Update::default() };
        store.commit(&store.prepare(update).unwrap()).unwrap();
    }
    store
}

fn content(view: &Snapshot) -> BTreeMap<Vec<u8>, Vec<u8>> {
    view.prefix(b"").collect::<Result<_, _>>().unwrap()
}

/// Makes the snapshot of the newest state in chunks of about so many bytes.
fn snapshot_of(store: &Store, archive: &Archive, chunk_bytes: usize) -> (Metadata, Vec<Vec<u8>>) {
    let view = store.snapshot().unwrap();
    let metadata = maker::make(&view, archive, chunk_bytes, || false).unwrap().unwrap();
    let chunks =
        (0..metadata.chunks.len()).map(|at| archive.chunk(metadata.height, at).unwrap()).collect();
    (metadata, chunks)
}

/// Takes all chunks and makes the state of them.
fn restore(dir: &Dir, metadata: &Metadata, chunks: &[Vec<u8>]) -> Store {
    let store = Store::open(dir.path()).unwrap();
    let mut incoming = Incoming::begin(&Archive::of(dir.path()), metadata.clone()).unwrap();
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(incoming.add(at, chunk).unwrap(), at + 1 == chunks.len());
    }
    let restored = store.begin_restore(metadata, |at| incoming.chunk(at)).unwrap();
    assert_eq!(store.snapshot().unwrap().head(), None, "nothing is visible before the switch");
    restored.set_chain_id("c-1").unwrap();
    restored.add_index([b"i/x".to_vec()].into()).unwrap();
    restored.commit().unwrap();
    incoming.keep().unwrap();
    store
}

fn empty_block(store: &Store, height: u64, text: &[u8]) -> [u8; 32] {
    let writes = [(b"key/1".to_vec(), Some(text.to_vec())), (b"key/2".to_vec(), None)].into();
    let update = Update { height, block_time_ms: height * 1000, writes, ..Update::default() };
    let prepared = store.prepare(update).unwrap();
    store.commit(&prepared).unwrap();
    prepared.head().app_hash
}

#[test]
fn a_state_of_20_000_keys_is_the_same_elsewhere_and_goes_on_alike() {
    let (here, there) = (Dir::new(), Dir::new());
    let store = store_of(&here, 20_000, 100);
    let archive = Archive::of(here.path());
    let (metadata, chunks) = snapshot_of(&store, &archive, 256 << 10);
    assert!(chunks.len() > 5, "{} chunks", chunks.len());
    assert_eq!(archive.list().unwrap(), std::slice::from_ref(&metadata));
    let files: u64 = archive.len_bytes(2).unwrap();
    assert!(files > chunks.iter().map(|chunk| chunk.len() as u64).sum(), "and metadata");

    let other = restore(&there, &metadata, &chunks);
    let (mine, theirs) = (store.snapshot().unwrap(), other.snapshot().unwrap());
    assert_eq!(theirs.head(), mine.head());
    assert_eq!(theirs.chain_id(), Some("c-1"));
    assert!(content(&theirs) == content(&mine));
    assert!(!theirs.is_genesis().unwrap());
    assert_eq!(theirs.index(b"i/").collect::<Result<Vec<_>, _>>().unwrap(), [b"x"]);
    assert_eq!(root_of_flat(&theirs), theirs.head().unwrap().app_hash);
    // What was before it is not there, and said so.
    assert!(matches!(theirs.root_at(1), Err(StoreError::Height { oldest: 2, newest: 2, .. })));
    assert_eq!(theirs.proof(b"key/9", 2).unwrap(), mine.proof(b"key/9", 2).unwrap());
    // It can be given on, byte for byte.
    let again = Archive::of(there.path());
    assert_eq!(again.list().unwrap(), std::slice::from_ref(&metadata));
    let (made, _) = snapshot_of(&other, &Archive::of(&there.path().join("x")), 256 << 10);
    assert_eq!(made, metadata, "whoever makes it");
    drop((mine, theirs));

    for height in 3..6 {
        assert_eq!(empty_block(&store, height, b"n"), empty_block(&other, height, b"n"));
    }
    drop(other);
    let other = Store::open(there.path()).unwrap();
    assert!(content(&other.snapshot().unwrap()) == content(&store.snapshot().unwrap()));
    other.prune_now().unwrap();
    assert_eq!(empty_block(&store, 6, b"m"), empty_block(&other, 6, b"m"));
}

#[test]
fn a_chunk_that_is_not_the_named_one_is_its_senders_and_the_good_one_is_taken_after_it() {
    let (here, there, third) = (Dir::new(), Dir::new(), Dir::new());
    let store = store_of(&here, 400, 30);
    let (metadata, chunks) = snapshot_of(&store, &Archive::of(here.path()), 2 << 10);
    assert!(chunks.len() >= 4);
    empty_block(&store, 3, b"later");
    let (_, later) = snapshot_of(&store, &Archive::of(third.path()), 2 << 10);
    let decoded = |at: usize| Chunk::decode(&chunks[at]).unwrap();
    let changed = |at: usize, change: &dyn Fn(&mut Chunk)| {
        let mut chunk = decoded(at);
        change(&mut chunk);
        chunk.encode()
    };
    let flipped = |at: usize, byte: usize| {
        let mut bytes = chunks[at].clone();
        bytes[byte] ^= 1;
        bytes
    };
    let last = chunks.len() - 1;
    let bad: Vec<(&str, usize, Vec<u8>)> = vec![
        ("a flipped byte", 0, flipped(0, 40)),
        ("a flipped byte at the end", 1, flipped(1, chunks[1].len() - 1)),
        ("chunks swapped", 1, chunks[2].clone()),
        ("the one before again", 1, chunks[0].clone()),
        ("of another height", 0, later[0].clone()),
        ("a cut proof", 1, chunks[1][..chunks[1].len() - 66].to_vec()),
        (
            "an extra key",
            2,
            changed(2, &|chunk| {
                chunk.entries.push((b"mine".to_vec(), b"1".to_vec()));
            }),
        ),
        (
            "a missing last key",
            last,
            changed(last, &|chunk| {
                chunk.entries.pop();
            }),
        ),
        ("nothing", 0, Vec::new()),
        ("garbage", last, vec![0xff; 5000]),
        ("too long", 1, vec![0; CHUNK_BYTES_MAX + 1]),
    ];
    let mut incoming = Incoming::begin(&Archive::of(there.path()), metadata.clone()).unwrap();
    for (at, chunk) in chunks.iter().enumerate() {
        for (what, _, bytes) in bad.iter().filter(|(_, place, _)| *place == at) {
            let refused = incoming.add(at, bytes).unwrap_err();
            assert!(matches!(refused, ChunkRefused::Sender { index } if index == at), "{what}");
        }
        let order = incoming.add(at + 1, chunk).unwrap_err();
        assert!(matches!(order, ChunkRefused::Order { expected, .. } if expected == at));
        incoming.add(at, chunk).unwrap();
    }
    let other = Store::open(there.path()).unwrap();
    other.begin_restore(&metadata, |at| incoming.chunk(at)).unwrap().commit().unwrap();
    assert_eq!(other.snapshot().unwrap().head().unwrap().app_hash, metadata.app_hash);
}

/// Nobody signed the metadata: a liar can name the hashes of his own chunks.
#[test]
fn chunks_that_fit_lying_metadata_do_not_fit_the_app_hash() {
    let (here, there, third) = (Dir::new(), Dir::new(), Dir::new());
    let store = store_of(&here, 400, 30);
    let (metadata, chunks) = snapshot_of(&store, &Archive::of(here.path()), 2 << 10);
    empty_block(&store, 3, b"later");
    let (_, later) = snapshot_of(&store, &Archive::of(third.path()), 2 << 10);
    let last = chunks.len() - 1;

    #[track_caller]
    fn check(metadata: &Metadata, chunks: &[Vec<u8>], dir: &Dir, part: &str) {
        let hashes = chunks.iter().map(|chunk| Sha256::digest(chunk).into()).collect();
        let lie = Metadata { chunks: hashes, ..metadata.clone() };
        let mut incoming = Incoming::begin(&Archive::of(dir.path()), lie).unwrap();
        let mut refused = None;
        for (at, chunk) in chunks.iter().enumerate() {
            match incoming.add(at, chunk) {
                Ok(_) => assert!(refused.is_none()),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let Some(ChunkRefused::Snapshot { why, .. }) = &refused else { panic!("{refused:?}") };
        assert!(why.contains(part), "{why}");
    }
    let with = |at: usize, change: &dyn Fn(&mut Chunk)| {
        let mut all = chunks.clone();
        let mut chunk = Chunk::decode(&all[at]).unwrap();
        change(&mut chunk);
        all[at] = chunk.encode();
        all
    };
    let app_hash = "does not give the app hash";
    check(&metadata, &with(0, &|chunk| chunk.entries[3].1[0] ^= 1), &there, app_hash);
    check(&metadata, &with(1, &|chunk| chunk.entries[0].0[0] ^= 1), &there, "");
    check(&metadata, &with(1, &|chunk| drop(chunk.entries.remove(2))), &there, app_hash);
    check(&metadata, &with(1, &|chunk| chunk.entries.swap(2, 3)), &there, "in order");
    check(
        &metadata,
        &with(1, &|chunk| chunk.entries[1] = chunk.entries[0].clone()),
        &there,
        "order",
    );
    check(&metadata, &with(1, &|chunk| chunk.entries.clear()), &there, "no key");
    check(&metadata, &with(last, &|chunk| drop(chunk.entries.pop())), &there, "");
    check(&metadata, &later, &there, "");
    check(&metadata, &chunks[1..], &there, app_hash);
    check(&metadata, &chunks[..last], &there, "keys are missing behind the last chunk");
    check(&metadata, &[chunks.clone(), vec![chunks[last].clone()]].concat(), &there, "order");
    check(&metadata, &[vec![b"garbage".to_vec()], chunks.clone()].concat(), &there, "read");
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    check(&metadata, &swapped, &there, app_hash);
    // Another chunk's proof, longer and shorter ones.
    let foreign = Chunk::decode(&chunks[0]).unwrap().proof;
    check(&metadata, &with(1, &|chunk| chunk.proof = foreign.clone()), &there, "");
    let bytes = |len: u32| [&len.to_le_bytes()[..], &vec![0; len as usize]].concat();
    let empties = |len| borsh::from_slice::<Proof>(&bytes(len)).unwrap();
    check(&metadata, &with(1, &|chunk| chunk.proof = empties(0)), &there, "");
    check(&metadata, &with(1, &|chunk| chunk.proof = empties(256)), &there, "longer");
    check(&metadata, &with(last, &|chunk| chunk.proof = empties(90)), &there, "end");
    // After all that, the honest one.
    let other = restore(&there, &metadata, &chunks);
    assert_eq!(other.snapshot().unwrap().head().unwrap().app_hash, metadata.app_hash);
}

#[test]
fn a_restore_that_ends_in_the_middle_leaves_an_empty_state_when_opened_again() {
    let (here, there) = (Dir::new(), Dir::new());
    let store = store_of(&here, 400, 30);
    let archive = Archive::of(here.path());
    let (metadata, chunks) = snapshot_of(&store, &archive, 2 << 10);
    {
        let other = Store::open(there.path()).unwrap();
        let no_more = |at: usize| match at {
            0..=1 => Ok(chunks[at].clone()),
            _ => archive.chunk(99, at),
        };
        assert!(matches!(other.begin_restore(&metadata, no_more), Err(StoreError::Snapshot(_))));
        assert_eq!(other.snapshot().unwrap().head(), None);
        // Neither blocks nor another snapshot come on top of half a state.
        let genesis =
            Update { writes: [(b"a".to_vec(), Some(vec![1]))].into(), ..Update::default() };
        let genesis = other.prepare(genesis).unwrap();
        assert!(matches!(other.commit(&genesis), Err(StoreError::HalfRestored)));
        let again = other.begin_restore(&metadata, |at| Ok(chunks[at].clone()));
        assert!(matches!(again, Err(StoreError::HalfRestored)));
    }
    assert_eq!(content(&Store::open(there.path()).unwrap().snapshot().unwrap()).len(), 0);
    let other = restore(&there, &metadata, &chunks);
    assert!(content(&other.snapshot().unwrap()) == content(&store.snapshot().unwrap()));
    let onto = other.begin_restore(&metadata, |at| Ok(chunks[at].clone()));
    assert!(matches!(onto, Err(StoreError::NotEmpty { height: 2 })));
}

#[test]
fn snapshots_are_made_beside_the_blocks_and_the_newest_are_kept() {
    let dir = Dir::new();
    let store = store_of(&dir, 50, 10);
    let archive = Archive::of(dir.path());
    let maker = Maker::start(archive.clone(), 3, 2).unwrap();
    for height in 3..=20 {
        empty_block(&store, height, &height.to_be_bytes());
        maker.committed(height, || store.snapshot().unwrap());
        if height % 3 == 0 {
            // So that none is left out: the next one waits until this one is there.
            let begin = std::time::Instant::now();
            while archive.metadata(height).is_err() {
                assert!(begin.elapsed() < Duration::from_secs(20), "no snapshot of {height}");
                std::thread::yield_now();
            }
        }
    }
    drop(maker);
    let heights: Vec<u64> = archive.list().unwrap().iter().map(|found| found.height).collect();
    assert_eq!(heights, [18, 15]);
    let newest = &archive.list().unwrap()[0];
    assert_eq!(newest.app_hash, store.snapshot().unwrap().root_at(18).unwrap());
    archive.delete_above(15).unwrap();
    assert_eq!(archive.list().unwrap().len(), 1);
    archive.delete(15).unwrap();
    assert!(matches!(archive.delete(15), Err(SnapshotError::Unknown { height: 15 })));
    assert!(matches!(archive.metadata(15), Err(SnapshotError::Unknown { height: 15 })));
}

#[test]
fn what_was_not_finished_is_not_offered_and_is_removed() {
    let dir = Dir::new();
    let store = store_of(&dir, 50, 10);
    let archive = Archive::of(dir.path());
    let view = store.snapshot().unwrap();
    assert_eq!(maker::make(&view, &archive, 100, || true).unwrap(), None);
    assert_eq!(archive.list().unwrap(), []);
    let left = dir.path().join(DIRECTORY).join("7.unfinished");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::create_dir_all(dir.path().join(DIRECTORY).join("007")).unwrap();
    archive.clean().unwrap();
    assert!(!left.exists());
    assert_eq!(archive.list().unwrap(), []);
}

#[test]
fn a_snapshot_travels_in_one_file_and_a_damaged_file_is_refused_with_a_sentence() {
    let (here, there) = (Dir::new(), Dir::new());
    let store = store_of(&here, 400, 30);
    let archive = Archive::of(here.path());
    let (metadata, _) = snapshot_of(&store, &archive, 2 << 10);
    let file = here.path().join("carried");
    assert_eq!(pack(&archive, 2, &file).unwrap(), metadata);
    assert!(pack(&archive, 2, &file).is_err(), "it is there already");
    assert!(matches!(pack(&archive, 5, &file), Err(SnapshotError::Unknown { height: 5 })));
    let target = Archive::of(there.path());
    let incoming = unpack(&target, &file).unwrap();
    assert_eq!(incoming.metadata(), &metadata);
    drop(incoming);

    let bytes = std::fs::read(&file).unwrap();
    let damaged = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        unpack(&target, &file).unwrap_err().to_string()
    };
    assert!(damaged(b"").contains("ends too early"));
    assert!(damaged(&bytes[..bytes.len() - 1]).contains("ends too early"));
    assert!(damaged(&[7; 100]).contains("no snapshot"));
    let mut flipped = bytes.clone();
    flipped[5000] ^= 1;
    assert!(damaged(&flipped).contains("its hash is another"), "{}", damaged(&flipped));
    assert_eq!(target.list().unwrap(), []);
}

#[test]
fn metadata_of_another_kind_are_refused() {
    let good = Metadata {
        format: FORMAT,
        height: 5,
        block_time_ms: 1,
        app_hash: [1; 32],
        chunks: vec![[2; 32]],
    };
    assert_eq!(Metadata::decode(&good.encode()), Some(good.clone()));
    let other = Metadata { format: 2, ..good.clone() };
    assert_eq!(Metadata::decode(&other.encode()), None);
    let none = Metadata { chunks: Vec::new(), ..good.clone() };
    assert_eq!(Metadata::decode(&none.encode()), None);
    let many = Metadata { chunks: vec![[0; 32]; CHUNKS_MAX + 1], ..good.clone() };
    assert_eq!(Metadata::decode(&many.encode()), None);
    assert_eq!(Metadata::decode(&[&good.encode()[..], &[0]].concat()), None);
    assert_eq!(Metadata::decode(b""), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the keys and however they are cut: all chunks are taken, and a changed one is not.
    #[test]
    fn chunks_of_any_state_are_taken_and_changed_ones_are_not(
        keys in prop::collection::btree_set(any::<u16>(), 1..60),
        chunk_bytes in 1usize..200,
        place in any::<prop::sample::Index>(),
        change in any::<prop::sample::Index>(),
    ) {
        let (here, there) = (Dir::new(), Dir::new());
        let store = Store::open(here.path()).unwrap();
        let writes = keys.iter().map(|key| (key.to_be_bytes().to_vec(), Some(vec![7; 5]))).collect();
        store.commit(&store.prepare(Update { writes, ..Update::default() }).unwrap()).unwrap();
        let (metadata, chunks) = snapshot_of(&store, &Archive::of(here.path()), chunk_bytes);
        let other = restore(&there, &metadata, &chunks);
        prop_assert!(content(&other.snapshot().unwrap()) == content(&store.snapshot().unwrap()));

        let at = place.index(chunks.len());
        let mut verifier = Verifier::new(metadata.app_hash);
        for (index, bytes) in chunks.iter().enumerate() {
            let is_last = index + 1 == chunks.len();
            let mut bytes = bytes.clone();
            if index == at {
                let byte = change.index(bytes.len());
                bytes[byte] ^= 1;
            }
            let taken = Chunk::decode(&bytes).map(|chunk| verifier.add(&chunk, is_last));
            if index == at {
                prop_assert!(!matches!(taken, Some(Ok(()))));
                break;
            }
            prop_assert_eq!(taken, Some(Ok(())));
        }
    }
}
