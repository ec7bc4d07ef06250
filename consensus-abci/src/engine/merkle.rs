//! Merkle proofs of RFC 6962 with CometBFT's shape: which transaction is in a block.

use sha2::{Digest, Sha256};

/// A leaf's way to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafProof {
    pub root: [u8; 32],
    pub leaf_hash: [u8; 32],
    /// Siblings, from the leaf's to the root's child.
    pub aunts: Vec<[u8; 32]>,
}

/// Proves `leaves[index]`; `None` where there is no such leaf.
pub(crate) fn prove_leaf(leaves: &[[u8; 32]], index: usize) -> Option<LeafProof> {
    let leaf_hash = leaf_hash(leaves.get(index)?);
    let mut aunts = Vec::new();
    let root = walk(leaves, index, &mut aunts);
    Some(LeafProof { root, leaf_hash, aunts })
}

/// Root of `leaves`; adds the siblings on the way from leaf `index`.
fn walk(leaves: &[[u8; 32]], index: usize, aunts: &mut Vec<[u8; 32]>) -> [u8; 32] {
    if let [leaf] = leaves {
        return leaf_hash(leaf);
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    match index.checked_sub(left.len()) {
        None => {
            let own = walk(left, index, aunts);
            let sibling = root(right);
            aunts.push(sibling);
            inner_hash(own, sibling)
        }
        Some(index) => {
            let own = walk(right, index, aunts);
            let sibling = root(left);
            aunts.push(sibling);
            inner_hash(sibling, own)
        }
    }
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [leaf] => leaf_hash(leaf),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            inner_hash(root(left), root(right))
        }
    }
}

fn leaf_hash(leaf: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn inner_hash(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::merkle_root;

    #[test]
    fn every_leaf_of_every_small_tree_leads_to_the_headers_root() {
        for total in 1..=33u8 {
            let leaves: Vec<[u8; 32]> = (0..total).map(|byte| [byte; 32]).collect();
            let expected = merkle_root(&leaves);
            for index in 0..leaves.len() {
                let proof = prove_leaf(&leaves, index).expect("the leaf is there");
                assert_eq!(proof.root.as_slice(), expected.as_bytes(), "{index} of {total}");
                assert_eq!(climb(&proof, index, leaves.len()), proof.root, "{index} of {total}");
            }
            assert_eq!(prove_leaf(&leaves, leaves.len()), None);
        }
    }

    /// A verifier, as a client would write it.
    fn climb(proof: &LeafProof, index: usize, total: usize) -> [u8; 32] {
        fn up(hash: [u8; 32], index: usize, total: usize, aunts: &[[u8; 32]]) -> [u8; 32] {
            let Some((last, rest)) = aunts.split_last() else { return hash };
            let left = total.next_power_of_two() / 2;
            match index < left {
                true => inner_hash(up(hash, index, left, rest), *last),
                false => inner_hash(*last, up(hash, index - left, total - left, rest)),
            }
        }
        up(proof.leaf_hash, index, total, &proof.aunts)
    }
}
