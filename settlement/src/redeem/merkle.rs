//! Merkle trees as in RFC 6962 §2.1 over SHA-256: one root for many receipts, a short proof for one.

use sha2::{Digest, Sha256};

/// SHA-256 of a leaf or of two nodes.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over leaves; of none, zeros, which no tree has.
pub fn root<L: AsRef<[u8]>>(leaves: &[L]) -> Hash {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    if hashes.is_empty() { [0; 32] } else { root_of(&hashes) }
}

fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

/// The audit path of leaf `index`, from the leaf up; `None`: there is no such leaf.
pub fn prove<L: AsRef<[u8]>>(leaves: &[L], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    let mut path = Vec::new();
    prove_in(&hashes, index, &mut path);
    Some(path)
}

fn prove_in(hashes: &[Hash], index: usize, path: &mut Vec<Hash>) {
    if hashes.len() < 2 {
        return;
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    if index < left.len() {
        prove_in(left, index, path);
        path.push(root_of(right));
    } else {
        prove_in(right, index - left.len(), path);
        path.push(root_of(left));
    }
}

/// Whether `leaf` is leaf `index` of the `len` leaves under `root`.
pub fn verify(root: &Hash, leaf: &[u8], index: usize, len: usize, path: &[Hash]) -> bool {
    index < len && climb(leaf_hash(leaf), index, len, path).as_ref() == Some(root)
}

/// The root that a path leads to; `None`: it has another length than the tree is high there.
fn climb(leaf: Hash, index: usize, len: usize, path: &[Hash]) -> Option<Hash> {
    if len == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (sibling, below) = path.split_last()?;
    let left_len = split(len);
    if index < left_len {
        Some(node_hash(&climb(leaf, index, left_len, below)?, sibling))
    } else {
        Some(node_hash(sibling, &climb(leaf, index - left_len, len - left_len, below)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The inputs and roots that implementations of RFC 6962 test with.
    #[test]
    fn the_known_roots_come_out() {
        let leaves: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        #[track_caller]
        fn check(leaves: &[&[u8]], expected: &str) {
            assert_eq!(hex(root(leaves)), expected);
        }
        check(&leaves[..1], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        check(&leaves[..2], "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        check(&leaves[..3], "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        check(&leaves[..7], "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c");
        check(&leaves[..8], "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        check(&[], &"00".repeat(32));
    }

    proptest! {
        /// R24: the proof of a leaf verifies against the root, for this leaf at this place alone.
        #[test]
        fn a_leaf_is_proved_at_its_place_and_nowhere_else(
            len in 1usize..70,
            at in any::<prop::sample::Index>(),
            other in any::<prop::sample::Index>(),
            damage in any::<prop::sample::Index>(),
        ) {
            let leaves: Vec<[u8; 8]> = (0..len as u64).map(u64::to_be_bytes).collect();
            let (at, other) = (at.index(len), other.index(len));
            let root = root(&leaves);
            let path = prove(&leaves, at).unwrap();
            prop_assert!(verify(&root, &leaves[at], at, len, &path));
            prop_assert_eq!(verify(&root, &leaves[other], at, len, &path), at == other);
            prop_assert_eq!(verify(&root, &leaves[at], other, len, &path), at == other);
            prop_assert!(!verify(&root, &leaves[at], at + len, len, &path));
            let mut longer = path.clone();
            longer.push([0; 32]);
            prop_assert!(!verify(&root, &leaves[at], at, len, &longer));
            if !path.is_empty() {
                let mut damaged = path.clone();
                damaged[damage.index(path.len())][0] ^= 1;
                prop_assert!(!verify(&root, &leaves[at], at, len, &damaged));
                prop_assert!(!verify(&root, &leaves[at], at, len, &path[1..]));
            }
            prop_assert_eq!(prove(&leaves, len), None);
        }
    }
}
