//! `revocations`: signed revocations, one after the other, appended and synced, read at start.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use chain_types::{LOCAL_CHAIN_ID, REVOCATION_SIGNED_BYTES, Revocation, SignedRevocation};

/// Revocations kept. The next one is refused with the advice to change the issuer's key, which
/// takes back everything at once. (12 MB; 3 s of signature checks at start.)
pub const REVOCATIONS_MAX: usize = 65_536;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A record is not what was appended: a token that was taken back might open again, so the
    /// node does not start.
    #[error("{}: record {record} is damaged ({reason}): restore the file from a backup, or remove \
             it and keys/issuer.key, which takes back every token", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Counted from 0.
        record: usize,
        /// What is wrong.
        reason: chain_types::RevocationError,
    },
    /// [`REVOCATIONS_MAX`] records.
    #[error(
        "{REVOCATIONS_MAX} revocations are recorded: remove keys/issuer.key and `revocations`, \
             which takes back every token, and grant anew"
    )]
    Full,
}

/// The open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    records: usize,
}

impl Log {
    /// Opens or creates the log and reads it. A record cut short by a crash was never confirmed
    /// to anybody: it is dropped. The caller holds the home, so nobody else appends.
    pub fn open(path: &Path) -> Result<(Self, Vec<Revocation>), LogError> {
        let io_error = |error| LogError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error)?;
        let mut bytes = Vec::new();
        let bytes_max = ((REVOCATIONS_MAX + 1) * REVOCATION_SIGNED_BYTES) as u64;
        (&mut file).take(bytes_max).read_to_end(&mut bytes).map_err(io_error)?;
        let whole = bytes.len() - bytes.len() % REVOCATION_SIGNED_BYTES;
        if whole < bytes.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io_error)?;
        }
        let chunks = bytes[..whole].chunks_exact(REVOCATION_SIGNED_BYTES).enumerate();
        let revocations = chunks
            .map(|(record, chunk)| {
                SignedRevocation::decode(chunk)
                    .and_then(|signed| signed.verify(LOCAL_CHAIN_ID).copied())
                    .map_err(|reason| LogError::Damaged { path: path.to_owned(), record, reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let log = Self { file, path: path.to_owned(), records: revocations.len() };
        Ok((log, revocations))
    }

    /// Appends one record; when this returns it survives a crash.
    pub fn append(&mut self, signed: &SignedRevocation) -> Result<(), LogError> {
        if self.records >= REVOCATIONS_MAX {
            return Err(LogError::Full);
        }
        let before = self.records as u64 * REVOCATION_SIGNED_BYTES as u64;
        let appended = self.file.write_all(&signed.encode()).and_then(|()| self.file.sync_data());
        if let Err(error) = appended {
            // Half a record (a full disk) would damage each one after it.
            let _ = self.file.set_len(before);
            return Err(LogError::Io { path: self.path.clone(), error });
        }
        self.records += 1;
        Ok(())
    }
}
