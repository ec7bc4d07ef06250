//! The voucher log: what was accepted outlives the process, the newest voucher of each lane.
//!
//! One file, `vouchers.log`: a header of 256 bytes that names the chain, then records of 256 bytes,
//! each with a checksum of its own. A thread appends what it is handed and syncs each
//! [`SYNC_INTERVAL`], or after [`UNSYNCED_BYTES_MAX`]; so a crash makes no more than that
//! unsure. Of a damaged file every record that is whole is kept, and the file itself as
//! [`LOG_FILE_DAMAGED`]. The file is written anew, newest record of each
//! lane only, when it has grown to [`COMPACT_FACTOR`] times that, and after any failed write or
//! sync: what a kernel keeps of a file whose sync has failed is anybody's guess, so that file is
//! not used again.

mod crc32c;
mod disk;
mod open;
mod record;
mod store;
#[cfg(test)]
mod store_tests;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::time::Duration;

pub use disk::{Directory, Disk, DiskFile};
pub use open::LogOpenError;
pub use record::{LogRecord, RECORD_BYTES, RecordError};
pub use store::{LogError, Opened, Store};
pub use writer::{LogFull, LogNotice, LogWriter, spawn, spawn_on};

/// The log's file.
pub const LOG_FILE: &str = "vouchers.log";
/// The next file until it is complete; what is found of it at a start is worth nothing.
pub const LOG_FILE_NEXT: &str = "vouchers.log.next";
/// A copy of a log of which something could not be read; further ones end in `.2`, `.3` and so on.
pub const LOG_FILE_DAMAGED: &str = "vouchers.log.damaged";
/// Held by the process that writes.
pub const LOCK_FILE: &str = "vouchers.lock";

/// Longest time between an append and its sync.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(50);
/// Most bytes that are written and not synced; then the sync comes before its time.
pub const UNSYNCED_BYTES_MAX: usize = 64 * 1024;
/// The file is written anew when it has so many times the bytes that count.
pub const COMPACT_FACTOR: u64 = 4;
/// Below it a file is never written anew for its size: that would cost more than it saves.
pub const COMPACT_BYTES_MIN: u64 = 1024 * 1024;
/// After a failure, the time to the next attempt.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Records that wait for the log's thread; beyond it [`LogFull`]: the voucher is not accepted.
pub const LOG_QUEUE_MAX: usize = 8192;

const _: () = assert!(UNSYNCED_BYTES_MAX.is_multiple_of(RECORD_BYTES));
