//! Chunks of a state are taken however it is cut; one that was changed is not, whatever it says.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

#[path = "../../src/store/statesync/format.rs"]
mod format;
#[allow(dead_code, reason = "the store uses the rest")]
#[path = "../../src/store/statesync/proof.rs"]
mod proof;

use format::{Chunk, Metadata};
use proof::{Proof, Verifier};

type Hash = [u8; 32];
/// Key hash to key, value and value hash.
type Leaves = BTreeMap<Hash, (Vec<u8>, Vec<u8>, Hash)>;

const EMPTY: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

fn is_right(key: &Hash, depth: usize) -> bool {
    key[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The subtree of these leaves, from its definition: its bytes as a sibling in a proof, its hash.
fn subtree(leaves: &[(&Hash, &Hash)], depth: usize) -> (Vec<u8>, Hash) {
    let hash = |parts: [&[u8]; 3]| -> Hash { Sha256::digest(parts.concat()).into() };
    match leaves {
        [] => (vec![0], EMPTY),
        [(key, value)] => {
            let sibling = [&[2], &key[..], &value[..]].concat();
            (sibling, hash([b"JMT::LeafNode", &key[..], &value[..]]))
        }
        _ => {
            let at = leaves.partition_point(|(key, _)| !is_right(key, depth));
            let (left, right) =
                (subtree(&leaves[..at], depth + 1), subtree(&leaves[at..], depth + 1));
            let sibling = [&[1], &left.1[..], &right.1[..]].concat();
            (sibling, hash([b"JMT::IntrnalNode", &left.1, &right.1]))
        }
    }
}

/// What is on the right of the leaf `last`.
fn proof_of(all: &[(&Hash, &Hash)], last: &Hash) -> Proof {
    let mut siblings = Vec::new();
    let (mut leaves, mut depth) = (all, 0);
    while leaves.len() > 1 {
        let at = leaves.partition_point(|(key, _)| !is_right(key, depth));
        let (left, right) = leaves.split_at(at);
        depth += 1;
        leaves = match is_right(last, depth - 1) {
            true => right,
            false => {
                siblings.push(subtree(right, depth).0);
                left
            }
        };
    }
    siblings.reverse();
    let len = u32::try_from(siblings.len()).expect("at most 256").to_le_bytes();
    let bytes = [&len[..], &siblings.concat()].concat();
    borsh::from_slice(&bytes).expect("a proof")
}

/// A state from bytes: keys of one or two bytes, values that follow from them.
fn state(bytes: &[u8]) -> Leaves {
    let entry = |key: &[u8]| {
        let value = vec![key[0]; usize::from(key[0] % 9)];
        let value_hash = Sha256::digest(&value).into();
        (Sha256::digest(key).into(), (key.to_vec(), value, value_hash))
    };
    bytes.chunks(2).take(64).map(entry).collect()
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(chunk) = Chunk::decode(bytes) {
        assert_eq!(chunk.encode(), bytes);
        assert!(Verifier::new([7; 32]).add(&chunk, true).is_err());
        assert!(Verifier::new([7; 32]).add(&chunk, false).is_err());
    }
    if let Some(metadata) = Metadata::decode(bytes) {
        assert_eq!(metadata.encode(), bytes);
    }
    let Some((&[cuts, which, place_low, place_high, flip], rest)) = bytes.split_first_chunk()
    else {
        return;
    };
    let leaves = state(rest);
    let pairs: Vec<(&Hash, &Hash)> = leaves.iter().map(|(key, (.., value))| (key, value)).collect();
    let Some((last, _)) = pairs.last() else { return };
    let root = subtree(&pairs, 0).1;
    let mut chunks = Vec::new();
    let mut entries = Vec::new();
    for (at, (hash, (key, value, _))) in leaves.iter().enumerate() {
        entries.push((key.clone(), value.clone()));
        if hash == *last || cuts.rotate_left(at as u32) & 1 == 1 {
            let proof = proof_of(&pairs, hash);
            chunks.push(Chunk { entries: std::mem::take(&mut entries), proof }.encode());
        }
    }
    let count = chunks.len();
    let mut verifier = Verifier::new(root);
    for (at, chunk) in chunks.iter().enumerate() {
        let chunk = Chunk::decode(chunk).expect("ours");
        verifier.add(&chunk, at + 1 == count).expect("an honest chunk");
    }
    // A byte of one chunk is another.
    let victim = usize::from(which) % count;
    let place = usize::from(u16::from_le_bytes([place_low, place_high])) % chunks[victim].len();
    if flip == 0 {
        return;
    }
    chunks[victim][place] ^= flip;
    let mut verifier = Verifier::new(root);
    let refused = chunks.iter().enumerate().find_map(|(at, chunk)| {
        let taken = Chunk::decode(chunk).map(|chunk| verifier.add(&chunk, at + 1 == count));
        (taken != Some(Ok(()))).then_some(at)
    });
    assert_eq!(refused, Some(victim), "the changed chunk is the one that is refused");
});
