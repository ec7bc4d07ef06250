//! The log's file and what it should hold: append, sync, write anew. No thread and no clock.

use std::{collections::BTreeMap, io};

use chain_types::{ChannelId, LaneKey};

use super::{
    COMPACT_BYTES_MIN, COMPACT_FACTOR, LOG_FILE, LOG_FILE_DAMAGED, LOG_FILE_NEXT,
    UNSYNCED_BYTES_MAX,
    disk::{Disk, DiskFile},
    open::{self, LogOpenError, merge},
    record::{LogRecord, RECORD_BYTES, encode_header},
};

/// A log that is open for writing.
///
/// After a failure it is *broken*: it takes records into memory only, until [`Store::rewrite`]
/// succeeds. What was synced before stays on disk throughout.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: D,
    header: [u8; RECORD_BYTES],
    /// `None`: broken.
    file: Option<D::File>,
    /// Of `file`, written so far.
    len_bytes: u64,
    unsynced_bytes: usize,
    /// What is known of each lane: what the file says once it is synced.
    newest: BTreeMap<LaneKey, LogRecord>,
    /// The file's size at which it is next worth writing anew.
    compact_at_bytes: u64,
}

/// What a log held when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// What is known of each lane, by lane.
    pub newest: Vec<LogRecord>,
    /// Bytes behind the last whole record, which were cut off: as a rule, a crash interrupted their
    /// writing.
    pub dropped_bytes: u64,
    /// Records that were damaged, with whole ones behind them: so many lanes at most lack vouchers.
    pub lost_records: u64,
    /// Name of the copy that was kept of a damaged file.
    pub copy: Option<String>,
    /// The log was read and cannot be written now: it begins broken.
    pub failure: Option<LogError>,
}

/// The disk did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Such as a full disk.
    #[error("the voucher log cannot be written: {0}")]
    Write(#[source] io::Error),
    /// Such as a broken disk.
    #[error("the voucher log cannot be synced: {0}")]
    Sync(#[source] io::Error),
    /// The new file did not come into place.
    #[error("the voucher log cannot be written anew: {0}")]
    Rewrite(#[source] io::Error),
    /// It failed before, and was not written anew yet.
    #[error("the voucher log is not being written since an earlier failure")]
    Broken,
}

impl<D: Disk> Store<D> {
    /// Opens the log of `chain_id`, and begins one where there is none. Writes it anew, so that it
    /// goes on in a file whose every byte is durable.
    ///
    /// # Errors
    /// See [`LogOpenError`].
    pub fn open(mut disk: D, chain_id: &str) -> Result<(Self, Opened), LogOpenError> {
        let header = encode_header(chain_id).ok_or(LogOpenError::ChainId)?;
        let found = disk.read(LOG_FILE)?;
        let contents = found.as_ref().map(|bytes| open::read(bytes, chain_id)).transpose()?;
        let contents = contents.unwrap_or_default();
        let copy = found.filter(|_| contents.is_damaged);
        let copy = copy.map(|bytes| keep_copy(&mut disk, &bytes)).transpose();
        let copy = copy.map_err(LogOpenError::Copy)?;
        let mut store = Self {
            disk,
            header,
            file: None,
            len_bytes: 0,
            unsynced_bytes: 0,
            newest: contents.newest,
            compact_at_bytes: COMPACT_BYTES_MIN,
        };
        // Never on in the old file: of an earlier failed sync, memory may show what the disk lacks.
        // And a new one gets its name when it is whole, so that no log begins with half a header.
        let failure = store.rewrite().err();
        let newest = store.newest.values().copied().collect();
        let dropped_bytes = contents.tail_bytes as u64;
        let lost_records = contents.lost_records as u64;
        Ok((store, Opened { newest, dropped_bytes, lost_records, copy, failure }))
    }

    /// Writes records behind the others; at most [`Store::room`] of them. They are in memory
    /// whatever comes.
    ///
    /// # Errors
    /// They are not in the file, nor will later ones be before [`Store::rewrite`].
    ///
    /// # Panics
    /// If there are more records than room.
    pub fn append(&mut self, records: &[LogRecord]) -> Result<(), LogError> {
        assert!(records.len() <= self.room(), "sync before what may be unsynced is full");
        for record in records {
            merge(&mut self.newest, *record);
        }
        let bytes: Vec<u8> = records.iter().flat_map(LogRecord::encode).collect();
        let file = self.file.as_mut().ok_or(LogError::Broken)?;
        if let Err(error) = write_all(file, &bytes) {
            // Part of it may stand in the file: nothing can be written behind.
            self.leave_file();
            return Err(LogError::Write(error));
        }
        self.len_bytes += bytes.len() as u64;
        self.unsynced_bytes += bytes.len();
        Ok(())
    }

    /// How many records may be appended before the next sync.
    pub const fn room(&self) -> usize {
        (UNSYNCED_BYTES_MAX - self.unsynced_bytes) / RECORD_BYTES
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// What was appended since the last success may be lost in a crash, until
    /// [`Store::rewrite`] succeeds.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let file = self.file.as_mut().ok_or(LogError::Broken)?;
        if let Err(error) = file.sync() {
            // A second sync of this file may succeed without having written a thing.
            self.leave_file();
            return Err(LogError::Sync(error));
        }
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Whether something was appended since the last sync.
    pub const fn is_unsynced(&self) -> bool {
        self.unsynced_bytes > 0
    }

    /// Whether the last failure is not overcome yet.
    pub const fn is_broken(&self) -> bool {
        self.file.is_none()
    }

    /// Whether the file holds so much that counts no longer that it should be written anew.
    pub const fn wants_compaction(&self) -> bool {
        self.file.is_some() && self.len_bytes > self.compact_at_bytes
    }

    /// Writes the newest record of each lane to a new file that takes the place of the old one.
    /// With it everything is durable, and the log no longer broken.
    ///
    /// # Errors
    /// The old file stands, with what it held; if it could be written before, it still can, unless
    /// it is unsure which of both has the name.
    pub fn rewrite(&mut self) -> Result<(), LogError> {
        let written = self.write_next();
        let (file, len_bytes) = written.map_err(|error| {
            // Not at once again: the disk may be full, and the old file serves.
            self.compact_at_bytes = self.len_bytes.saturating_add(COMPACT_BYTES_MIN);
            LogError::Rewrite(error)
        })?;
        let placed = self.disk.rename(LOG_FILE_NEXT, LOG_FILE);
        let durable = placed.and_then(|()| self.disk.sync_names());
        if let Err(error) = durable {
            // Whatever is appended to either file now may be to the one that a crash forgets.
            self.leave_file();
            return Err(LogError::Rewrite(error));
        }
        self.file = Some(file);
        self.len_bytes = len_bytes;
        self.unsynced_bytes = 0;
        self.compact_at_bytes = self.next_compaction();
        Ok(())
    }

    fn write_next(&mut self) -> io::Result<(D::File, u64)> {
        let mut bytes = self.header.to_vec();
        bytes.extend(self.newest.values().flat_map(LogRecord::encode));
        let mut file = self.disk.create(LOG_FILE_NEXT)?;
        write_all(&mut file, &bytes)?;
        file.sync()?;
        Ok((file, bytes.len() as u64))
    }

    fn leave_file(&mut self) {
        self.file = None;
        self.unsynced_bytes = 0;
    }

    fn next_compaction(&self) -> u64 {
        let live_bytes = (1 + self.newest.len() as u64) * RECORD_BYTES as u64;
        (live_bytes * COMPACT_FACTOR).max(COMPACT_BYTES_MIN)
    }

    /// Forgets the lanes of a channel that is finalized on chain; they leave the file when it is
    /// next written anew.
    pub fn forget(&mut self, channel: &ChannelId) {
        self.newest.retain(|lane, _| lane.channel != *channel);
        self.compact_at_bytes = self.compact_at_bytes.min(self.next_compaction());
    }

    /// What is known of each lane.
    pub fn newest(&self) -> impl Iterator<Item = &LogRecord> {
        self.newest.values()
    }
}

/// Keeps the bytes of a damaged log under a name that no other copy has; one that holds the same
/// serves.
fn keep_copy<D: Disk>(disk: &mut D, bytes: &[u8]) -> io::Result<String> {
    let names = (1u32..).map(|count| match count {
        1 => LOG_FILE_DAMAGED.to_owned(),
        count => format!("{LOG_FILE_DAMAGED}.{count}"),
    });
    for name in names {
        match disk.read(&name)? {
            Some(other) if other == bytes => return Ok(name),
            Some(_) => {}
            None => {
                let mut file = disk.create(&name)?;
                write_all(&mut file, bytes)?;
                file.sync()?;
                disk.sync_names()?;
                return Ok(name);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write_all(file: &mut impl DiskFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
