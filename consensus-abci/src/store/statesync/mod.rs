//! Snapshots: a whole state in chunks, each of which is checked against the app hash.
//!
//! A snapshot is the keys and values of one height in the order of the keys' hashes. Each chunk
//! ends with the siblings on the right of its last key, so that all chunks up to it give the root;
//! what comes after the last chunk is proved to be nothing ([`proof`]). [`Archive`] keeps them in
//! files, [`Maker`] makes them beside the blocks, [`Incoming`] collects those of others, and
//! [`super::Store::begin_restore`] turns them into a state.

mod archive;
mod format;
mod incoming;
mod maker;
mod packed;
mod proof;
mod restore;
#[cfg(test)]
mod tests;

pub use self::{
    archive::{Archive, DIRECTORY, SnapshotError},
    format::{CHUNK_BYTES, CHUNK_BYTES_MAX, CHUNKS_MAX, Chunk, FORMAT, Metadata},
    incoming::{ChunkRefused, Incoming},
    maker::Maker,
    packed::{pack, unpack},
    proof::{Proof, Verifier},
    restore::Restore,
};
