//! What the log asks of a disk, and a directory that gives it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::LOCK_FILE;

/// A directory of files, as the log uses one. Another one stands in for it in tests: one that
/// fails, and forgets what was not synced.
pub trait Disk: Send + 'static {
    /// An open file.
    type File: DiskFile;

    /// All bytes of a file; `None`: there is none of this name.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes an empty file in place of whatever has this name.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in place of whatever has it.
    ///
    /// # Errors
    /// It keeps its name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    /// They may or may not be.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// A file that grows at its end.
pub trait DiskFile: Send {
    /// Writes some of `bytes`, at least one; says how many.
    ///
    /// # Errors
    /// None was written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// Any part of what was written since the last success may or may not be.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory, locked against a second process for as long as it is open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens, and makes where it is missing.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: another process has it. Others: it cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        // The name of a new directory is as durable as its files from here on.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        let mut options = OpenOptions::new();
        let lock = options.create(true).write(true).truncate(false).open(path.join(LOCK_FILE))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

impl Disk for Directory {
    type File = File;

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().append(true).create_new(true).open(path)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Size included, as fdatasync(2) says of metadata that a later read needs.
        self.sync_data()
    }
}
