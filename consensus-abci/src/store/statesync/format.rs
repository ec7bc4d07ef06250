//! What a snapshot says about itself, and what a chunk of it is made of.

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

use super::proof::Proof;

/// Number of this format (ABCI `Snapshot.format`); another one is refused.
pub const FORMAT: u32 = 1;
/// A chunk ends with the key that brings it here: keys and values, bytes.
pub const CHUNK_BYTES: usize = 1 << 20;
/// What is larger is no chunk: a full one, one large record and its proof fit in.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;
/// Chunks of one snapshot: their hashes fit in a message of CometBFT (4 MB).
pub const CHUNKS_MAX: usize = 100_000;

/// ABCI `Snapshot.metadata`. Nobody has signed it: the light client vouches for the app hash, and
/// the chunks must fit to that.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Metadata {
    /// [`FORMAT`].
    pub format: u32,
    /// Of the state.
    pub height: u64,
    /// The time of its block, unix ms. A wrong one misleads readers until the next block, and
    /// nobody else: no rule reads it.
    pub block_time_ms: u64,
    /// Root of the state.
    pub app_hash: [u8; 32],
    /// SHA-256 of each chunk.
    pub chunks: Vec<[u8; 32]>,
}

impl Metadata {
    /// Reads it; `None`: these bytes are none, or of another format, or of no or too many chunks.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let metadata: Self = borsh::from_slice(bytes).ok()?;
        let is_ours =
            metadata.format == FORMAT && (1..=CHUNKS_MAX).contains(&metadata.chunks.len());
        is_ours.then_some(metadata)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory does not fail")
    }

    /// ABCI `Snapshot.hash`.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }
}

/// A part of a state.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Chunk {
    /// Keys and values, in the order of the keys' SHA-256.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is on the right of the last key.
    pub proof: Proof,
}

impl Chunk {
    /// Reads it; `None`: these bytes are none, or too many.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > CHUNK_BYTES_MAX {
            return None;
        }
        borsh::from_slice(bytes).ok()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("writing to memory does not fail")
    }
}
