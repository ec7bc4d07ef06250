//! Private files that are whole or absent: written aside, synced, renamed, directory synced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Longest file that is read: sums of a few thousand lanes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a file of the wallet cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot use {}: {error}; is the disk full, or the directory another user's?", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A secret that others can read is none.
    #[error("{} can be read by others (mode {mode:03o}): chmod 600 it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what a wallet wrote.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |error| FileError::Io { path: path.to_owned(), error }
}

/// Creates a directory and what lies above it, mode 700.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_at(dir))
}

/// The text of a private file; `None`: there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_at(path)(error)),
    };
    let mode = file.metadata().map_err(io_at(path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    match (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(FileError::Damaged { path: path.to_owned(), reason: "it is not text".to_owned() })
        }
        Err(error) => Err(io_at(path)(error)),
    }
}

/// Replaces a file. When this returns, the new text is on the disk; when it fails, or the machine
/// stops in it, the old one or the new one is there, whole.
///
/// One writer at a time: the caller holds the lock that goes with the file.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let mut name = path.file_name().expect("a file of the wallet has a name").to_owned();
    name.push(".new");
    let temp = path.with_file_name(name);
    stop::here(path)?;
    write_synced(OpenOptions::new().create(true).truncate(true), &temp, text)?;
    stop::here(path)?;
    fs::rename(&temp, path).map_err(io_at(path))?;
    stop::here(path)?;
    sync_parent(path)?;
    stop::here(path)
}

/// Writes a file that must not be there; `false`: it is, and stays as it was.
pub(crate) fn create(path: &Path, text: &str) -> Result<bool, FileError> {
    let mut name = path.file_name().expect("a file of the wallet has a name").to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temp = path.with_file_name(name);
    write_synced(OpenOptions::new().create(true).truncate(true), &temp, text)?;
    let linked = fs::hard_link(&temp, path);
    fs::remove_file(&temp).map_err(io_at(&temp))?;
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_at(path)(error)),
    }
}

/// Opens the lock that goes with a file, not yet locked.
pub(crate) fn lock_file(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(io_at(path))
}

/// Removes a file that may be absent.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        Ok(()) | Err(_) => sync_parent(path),
    }
}

fn write_synced(options: &mut OpenOptions, path: &Path, text: &str) -> Result<(), FileError> {
    let mut file = options.write(true).mode(0o600).open(path).map_err(io_at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_at(path))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let dir = path.parent().expect("a file of the wallet has a directory");
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

/// Where a test stops the machine.
mod stop {
    use super::{FileError, Path};

    #[cfg(test)]
    std::thread_local! {
        /// Points to pass before the stop; `None`: run on.
        pub(crate) static AFTER: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn here(path: &Path) -> Result<(), FileError> {
        let stops = AFTER.with(|after| match after.get() {
            None => false,
            Some(0) => true,
            Some(left) => {
                after.set(Some(left - 1));
                false
            }
        });
        let error = std::io::Error::other("stopped by the test");
        if stops { Err(FileError::Io { path: path.to_owned(), error }) } else { Ok(()) }
    }

    #[cfg(not(test))]
    pub(super) fn here(_: &Path) -> Result<(), FileError> {
        Ok(())
    }
}

/// Makes every write of this thread fail once `points` points were passed; `None`: no longer.
#[cfg(test)]
pub(crate) fn stop_after(points: Option<u32>) {
    stop::AFTER.with(|after| after.set(points));
}
