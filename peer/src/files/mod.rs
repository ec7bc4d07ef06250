//! Files over a channel (`docs/coordinator.md`, "Files"): offered, accepted, sent in pieces, checked.

mod inbox;
mod send;
mod words;

pub use inbox::{Inbox, Received};
pub use send::{FileError, Progress, send};
pub use words::{FileId, Word, piece, read_piece};

/// Bytes of one piece: with its headers it is one frame.
pub const PIECE_BYTES: usize = 16_000;
/// Longest name that is taken, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// Files that come in at once. One more is refused.
pub const INCOMING_MAX: usize = 16;
/// Of these, from one peer, so that one that never ends its files leaves places to others.
pub const INCOMING_OF_ONE_MAX: usize = 4;
/// Longest file that is taken: 64 GiB.
pub const FILE_BYTES_MAX: u64 = 64 << 30;
