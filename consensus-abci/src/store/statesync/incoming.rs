//! A snapshot that comes from others: its chunks are checked and kept in files; no state is
//! touched before all of them are here.

use sha2::{Digest, Sha256};

use super::{
    archive::{Archive, SnapshotError, Unfinished},
    format::{Chunk, Metadata},
    proof::Verifier,
};

/// Why a chunk is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChunkRefused {
    /// It is not the one that the snapshot names: another sender may have it.
    #[error("chunk {index} is not what the snapshot says: its hash is another")]
    Sender {
        /// Which.
        index: usize,
    },
    /// It is the one that the snapshot names, and that does not lead to the app hash: nobody has a
    /// good one.
    #[error("chunk {index} is no part of this state: {why}")]
    Snapshot {
        /// Which.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Chunks are taken in order.
    #[error("chunk {index} came where chunk {expected} is next")]
    Order {
        /// The one that came.
        index: usize,
        /// The one that is needed.
        expected: usize,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Files(#[from] SnapshotError),
}

/// Chunks of one snapshot, as far as they came. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    metadata: Metadata,
    verifier: Verifier,
    files: Unfinished,
    next: usize,
}

impl Incoming {
    /// Before the first chunk. `metadata.app_hash` must be one that the caller trusts.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn begin(archive: &Archive, metadata: Metadata) -> Result<Self, SnapshotError> {
        let files = archive.begin("incoming")?;
        Ok(Self { verifier: Verifier::new(metadata.app_hash), metadata, files, next: 0 })
    }

    /// What it says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Takes the next chunk; `true`: it was the last, and all of them are the state.
    ///
    /// # Errors
    /// See [`ChunkRefused`]. After one that blames the snapshot this is of no use any more.
    pub fn add(&mut self, index: usize, bytes: &[u8]) -> Result<bool, ChunkRefused> {
        let Some(hash) = self.metadata.chunks.get(index).filter(|_| index == self.next) else {
            return Err(ChunkRefused::Order { index, expected: self.next });
        };
        if Sha256::digest(bytes)[..] != hash[..] {
            return Err(ChunkRefused::Sender { index });
        }
        let is_last = index + 1 == self.metadata.chunks.len();
        let refused = |why| ChunkRefused::Snapshot { index, why };
        let chunk = Chunk::decode(bytes).ok_or_else(|| refused("it cannot be read"))?;
        self.verifier.add(&chunk, is_last).map_err(refused)?;
        self.files.write_chunk(index, bytes)?;
        self.next += 1;
        Ok(is_last)
    }

    /// A chunk that was taken.
    ///
    /// # Errors
    /// The system's.
    pub fn chunk(&self, index: usize) -> Result<Vec<u8>, SnapshotError> {
        self.files.chunk(index)
    }

    /// It becomes one of the archive's, for others.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(self) -> Result<(), SnapshotError> {
        self.files.finish(&self.metadata)
    }
}
