//! Snapshots in files: a directory per height, whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::format::Metadata;

/// Name of the directory, in the state's.
pub const DIRECTORY: &str = "snapshots";
/// Ends the name of a directory that is not whole yet.
const UNFINISHED: &str = ".unfinished";
const METADATA: &str = "metadata";

/// What is wrong with a snapshot's files.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none of this height.
    #[error("there is no snapshot of height {height}: `snapshots list` shows those that are there")]
    Unknown {
        /// The one asked for.
        height: u64,
    },
    /// It is not what this program writes, or what its own hashes say.
    #[error("the snapshot {} cannot be used: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

/// The snapshots of a state.
#[derive(Debug, Clone)]
pub struct Archive {
    dir: PathBuf,
}

impl Archive {
    /// Those of the state in `state_dir`.
    pub fn of(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(DIRECTORY) }
    }

    /// Their metadata, the newest first. What cannot be read is not among them.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self) -> Result<Vec<Metadata>, SnapshotError> {
        let mut found: Vec<Metadata> =
            self.heights()?.into_iter().filter_map(|height| self.metadata(height).ok()).collect();
        found.sort_unstable_by_key(|metadata| std::cmp::Reverse(metadata.height));
        Ok(found)
    }

    /// What the snapshot of a height says about itself.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn metadata(&self, height: u64) -> Result<Metadata, SnapshotError> {
        let path = self.place(height).join(METADATA);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SnapshotError::Unknown { height });
            }
            Err(source) => return Err(SnapshotError::File { path, source }),
        };
        match Metadata::decode(&bytes).filter(|metadata| metadata.height == height) {
            Some(metadata) => Ok(metadata),
            None => Err(SnapshotError::Damaged {
                path,
                what: "its metadata are not those of this height and format".to_owned(),
            }),
        }
    }

    /// A chunk as it is on disk; whoever takes it checks it.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn chunk(&self, height: u64, index: usize) -> Result<Vec<u8>, SnapshotError> {
        let path = chunk_path(&self.place(height), index);
        fs::read(&path).map_err(|source| SnapshotError::File { path, source })
    }

    /// Bytes of a snapshot's files.
    ///
    /// # Errors
    /// The system's.
    pub fn len_bytes(&self, height: u64) -> Result<u64, SnapshotError> {
        let dir = self.place(height);
        let sum =
            || fs::read_dir(&dir)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()));
        sum().map_err(|source| SnapshotError::File { path: dir, source })
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// There is none, or the system refuses.
    pub fn delete(&self, height: u64) -> Result<(), SnapshotError> {
        let dir = self.place(height);
        if !dir.exists() {
            return Err(SnapshotError::Unknown { height });
        }
        // By its name it is unfinished first: half of it is never offered.
        let gone = self.unfinished(&height.to_string());
        let remove = || {
            let _ = fs::remove_dir_all(&gone);
            fs::rename(&dir, &gone)?;
            fs::remove_dir_all(&gone)
        };
        remove().map_err(|source| SnapshotError::File { path: dir.clone(), source })
    }

    /// Removes all but the newest `keep`.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_newest(&self, keep: usize) -> Result<(), SnapshotError> {
        let mut heights = self.heights()?;
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.into_iter().skip(keep).try_for_each(|height| self.delete(height))
    }

    /// Removes those of heights above `height`.
    ///
    /// # Errors
    /// The system's.
    pub fn delete_above(&self, height: u64) -> Result<(), SnapshotError> {
        let above = self.heights()?.into_iter().filter(|other| *other > height);
        above.into_iter().try_for_each(|height| self.delete(height))
    }

    /// Removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// The system's.
    pub fn clean(&self) -> Result<(), SnapshotError> {
        for name in self.names()? {
            if name.ends_with(UNFINISHED) {
                let path = self.dir.join(name);
                fs::remove_dir_all(&path).map_err(|source| SnapshotError::File { path, source })?;
            }
        }
        Ok(())
    }

    /// Begins a snapshot; what was begun under this name before is gone.
    pub(super) fn begin(&self, name: &str) -> Result<Unfinished, SnapshotError> {
        let dir = self.unfinished(name);
        let make = || {
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)
        };
        make().map_err(|source| SnapshotError::File { path: dir.clone(), source })?;
        Ok(Unfinished { archive: self.clone(), dir })
    }

    fn place(&self, height: u64) -> PathBuf {
        self.dir.join(height.to_string())
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{UNFINISHED}"))
    }

    fn heights(&self) -> Result<Vec<u64>, SnapshotError> {
        let height = |name: String| {
            let height = name.parse().ok()?;
            // "007" is nobody's.
            (name == u64::to_string(&height)).then_some(height)
        };
        Ok(self.names()?.into_iter().filter_map(height).collect())
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let failed = |source| SnapshotError::File { path: self.dir.clone(), source };
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }
}

/// A snapshot that is being written; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    archive: Archive,
    dir: PathBuf,
}

impl Unfinished {
    /// Writes a chunk, synced.
    pub(super) fn write_chunk(&self, index: usize, bytes: &[u8]) -> Result<(), SnapshotError> {
        write(chunk_path(&self.dir, index), bytes)
    }

    /// A chunk that was written.
    pub(super) fn chunk(&self, index: usize) -> Result<Vec<u8>, SnapshotError> {
        let path = chunk_path(&self.dir, index);
        fs::read(&path).map_err(|source| SnapshotError::File { path, source })
    }

    /// Writes the metadata, and lets it be seen.
    pub(super) fn finish(self, metadata: &Metadata) -> Result<(), SnapshotError> {
        write(self.dir.join(METADATA), &metadata.encode())?;
        let place = self.archive.place(metadata.height);
        let publish = || {
            File::open(&self.dir)?.sync_all()?;
            if place.exists() {
                fs::remove_dir_all(&place)?;
            }
            fs::rename(&self.dir, &place)?;
            File::open(&self.archive.dir)?.sync_all()
        };
        publish().map_err(|source| SnapshotError::File { path: place.clone(), source })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed, when it was finished.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn chunk_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("chunk-{index:05}"))
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), SnapshotError> {
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| SnapshotError::File { path: path.clone(), source })
}
