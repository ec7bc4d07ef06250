//! The file that holds a node's secret key: 64 hex digits, readable by its owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use coordinator::identity::NodeKey;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("{}: {error}: name another file with --key", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no key: a key file has 64 hex digits", path.display())]
    Form {
        /// Where.
        path: PathBuf,
    },
}

/// Reads the key at `path`, or makes a new one there.
///
/// # Errors
/// [`KeyError`].
pub fn read_or_make(path: &Path) -> Result<NodeKey, KeyError> {
    let failed = |error| KeyError::File { path: path.to_owned(), error };
    match fs::read_to_string(path) {
        Ok(text) => {
            let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
            let seed = bytes.ok().and_then(|bytes| bytes.try_into().ok());
            seed.map(NodeKey::from_seed).ok_or_else(|| KeyError::Form { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory).map_err(failed)?;
            }
            let seed: [u8; 32] = rand::random();
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(path).map_err(failed)?;
            let text = format!("{}\n", HEXLOWER.encode(&seed));
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// R87
    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_read_ever_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/peer.key");
        let made = read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap().node_id(), made.node_id());
        fs::write(&path, "no key").unwrap();
        assert!(matches!(read_or_make(&path), Err(KeyError::Form { .. })));
        assert!(matches!(read_or_make(directory.path()), Err(KeyError::File { .. })));
    }
}
