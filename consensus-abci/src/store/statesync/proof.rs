//! Whether chunks, one after the other, are the leaves of a tree from the left on.
//!
//! The tree is the one of `jmt`: a leaf stands where its key alone has its beginning. While keys
//! come in order, only what is on the left of the newest one's way to the root is remembered; with
//! the proof's right side that gives the root. Nothing is written, and no input does more than be
//! refused.

use borsh::{BorshDeserialize, BorshSerialize};
use jmt::{KeyHash, proof::SparseMerkleRangeProof};
use sha2::{Digest, Sha256};

use super::format::Chunk;

type Hash = [u8; 32];

const EMPTY: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";
/// Bits of a key's hash.
const DEPTH_MAX: usize = 256;

/// The siblings on the right of a key, from the leaf up to the root: one for each bit of the key's
/// hash that is 0, as far down as the leaf is. It has the bytes of `jmt`'s range proof.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proof(Vec<Sibling>);

#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Sibling {
    Empty,
    Inner { left: Hash, right: Hash },
    Leaf { key: Hash, value: Hash },
}

impl Proof {
    pub(super) fn of(proof: &SparseMerkleRangeProof<Sha256>) -> Option<Self> {
        borsh::from_slice(&borsh::to_vec(proof).ok()?).ok()
    }

    /// As the crate takes it that restores the tree.
    pub(super) fn to_range_proof(&self) -> Option<SparseMerkleRangeProof<Sha256>> {
        borsh::from_slice(&borsh::to_vec(self).ok()?).ok()
    }
}

impl Sibling {
    /// `None`: nothing is there.
    fn hash(&self) -> Option<Hash> {
        match self {
            Self::Empty => None,
            Self::Inner { left, right } => Some(inner(left, right)),
            Self::Leaf { key, value } => Some(leaf(key, value)),
        }
    }
}

fn inner(left: &Hash, right: &Hash) -> Hash {
    Sha256::digest([b"JMT::IntrnalNode", &left[..], right].concat()).into()
}

fn leaf(key: &Hash, value: &Hash) -> Hash {
    Sha256::digest([b"JMT::LeafNode", &key[..], value].concat()).into()
}

/// Whether the bit at `depth`, the root's first, is 1: the way goes right.
fn is_right(key: &Hash, depth: usize) -> bool {
    key[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// What chunks have shown so far. Given up after the first that is refused.
#[derive(Debug)]
pub struct Verifier {
    root: Hash,
    /// The newest key's hash and its leaf's.
    last: Option<(Hash, Hash)>,
    /// What is on the left of its way: depth and hash, the root's end first.
    left: Vec<(usize, Hash)>,
}

impl Verifier {
    /// Before the first chunk of the tree with this root.
    pub fn new(root: Hash) -> Self {
        Self { root, last: None, left: Vec::new() }
    }

    /// Takes the next chunk; `is_last`: nothing may come after it.
    ///
    /// # Errors
    /// Why it is not the next part of this tree.
    pub fn add(&mut self, chunk: &Chunk, is_last: bool) -> Result<(), &'static str> {
        if chunk.entries.is_empty() {
            return Err("it has no key");
        }
        for (key, value) in &chunk.entries {
            let key: Hash = KeyHash::with::<Sha256>(key).0;
            let value: Hash = Sha256::digest(value).into();
            self.push(key, leaf(&key, &value))?;
        }
        self.check(&chunk.proof, is_last)
    }

    fn push(&mut self, key: Hash, leaf: Hash) -> Result<(), &'static str> {
        if let Some((last, hash)) = self.last {
            if key <= last {
                return Err("its keys are not in order");
            }
            let fork = (0..DEPTH_MAX)
                .find(|depth| is_right(&key, *depth) != is_right(&last, *depth))
                .expect("they are not equal");
            // All that begins as the last key does below the fork is known now.
            let whole = self.fold(last, hash, fork + 1, |_| None);
            self.left.truncate(self.left.partition_point(|(depth, _)| *depth <= fork));
            self.left.push((fork, whole));
        }
        self.last = Some((key, leaf));
        Ok(())
    }

    /// The hash of the subtree at depth `to` on the way of `key`, whose leaf is `leaf`; `right`
    /// gives what is on the right at a depth.
    fn fold(
        &self,
        key: Hash,
        leaf: Hash,
        to: usize,
        right: impl Fn(usize) -> Option<Hash>,
    ) -> Hash {
        let mut hash = leaf;
        let mut is_leaf = true;
        let mut left = self.left.as_slice();
        for depth in (to..DEPTH_MAX).rev() {
            let sibling = match left.split_last() {
                Some(((at, hash), rest)) if *at == depth => {
                    left = rest;
                    Some(*hash)
                }
                _ => None,
            };
            let sibling = if is_right(&key, depth) { sibling } else { right(depth) };
            if is_leaf && sibling.is_none() {
                continue; // A leaf alone stands higher up.
            }
            is_leaf = false;
            let sibling = sibling.unwrap_or(EMPTY);
            hash = match is_right(&key, depth) {
                true => inner(&sibling, &hash),
                false => inner(&hash, &sibling),
            };
        }
        hash
    }

    fn check(&self, proof: &Proof, is_last: bool) -> Result<(), &'static str> {
        let (key, leaf) = self.last.ok_or("it has no key")?;
        let zeros: Vec<usize> = (0..DEPTH_MAX).filter(|depth| !is_right(&key, *depth)).collect();
        if proof.0.len() > zeros.len() {
            return Err("its proof is longer than a way to the root");
        }
        let mut siblings = [None; DEPTH_MAX];
        let mut lowest = self.left.last().map(|(depth, _)| *depth);
        for (depth, sibling) in zeros.iter().zip(proof.0.iter().rev()) {
            if let Some(hash) = sibling.hash() {
                siblings[*depth] = Some(hash);
                lowest = lowest.max(Some(*depth));
            }
        }
        // The leaf hangs under its lowest sibling: a proof says nothing about what is below.
        let len_bits = lowest.map_or(0, |depth| depth + 1);
        if proof.0.len() != zeros.partition_point(|depth| *depth < len_bits) {
            return Err("its proof does not end at its last key");
        }
        if is_last && siblings.iter().any(Option::is_some) {
            return Err("keys are missing behind the last chunk");
        }
        match self.fold(key, leaf, 0, |depth| siblings[depth]) == self.root {
            true => Ok(()),
            false => Err("with its proof it does not give the app hash"),
        }
    }
}
