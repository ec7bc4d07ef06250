//! The account's key on the disk: `account.key`, 64 hex digits, only for its owner's eyes.

use std::path::{Path, PathBuf};

use chain_types::{AccountId, SigningKey, hex};

use crate::file::{self, FileError};

/// Why there is no account key.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// None was made yet.
    #[error(
        "there is no wallet in {}: make one with `sutantra-node wallet create`, or bring yours with `sutantra-node wallet import`", .0.display()
    )]
    Missing(PathBuf),
    /// A key is there already: it could hold money.
    #[error(
        "{} holds a wallet already: note its words (`sutantra-node wallet words`) and move the file away before you make another", .0.display()
    )]
    Exists(PathBuf),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The directory of one wallet.
#[derive(Debug, Clone)]
pub struct Keystore {
    dir: PathBuf,
}

impl Keystore {
    /// The wallet in `dir`, which may not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self) -> PathBuf {
        self.dir.join("account.key")
    }

    /// Makes the wallet of a seed. An existing one is never overwritten.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`], or the disk's.
    pub fn create(&self, seed: &[u8; 32]) -> Result<AccountId, KeystoreError> {
        file::create_dir(&self.dir)?;
        let path = self.path();
        match file::create(&path, &format!("{}\n", hex::text(seed)))? {
            true => Ok(AccountId::from(&SigningKey::from_bytes(seed))),
            false => Err(KeystoreError::Exists(path)),
        }
    }

    /// The account's key.
    ///
    /// # Errors
    /// [`KeystoreError::Missing`], a file that others can read, one that is damaged.
    pub fn open(&self) -> Result<SigningKey, KeystoreError> {
        let path = self.path();
        let text = file::read(&path)?.ok_or_else(|| KeystoreError::Missing(self.dir.clone()))?;
        // An account id has the same text form: 64 hex digits.
        let seed: AccountId = text.trim_end().parse().map_err(|error| {
            KeystoreError::File(FileError::Damaged { path, reason: format!("no key: {error}") })
        })?;
        Ok(SigningKey::from_bytes(&seed.0))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_wallet_is_made_once_and_only_its_owner_reads_it() {
        let dir = TempDir::new().unwrap();
        let keystore = Keystore::at(dir.path().join("wallet"));
        assert!(matches!(keystore.open(), Err(KeystoreError::Missing(_))));
        let account = keystore.create(&[7; 32]).expect("made");
        assert!(matches!(keystore.create(&[8; 32]), Err(KeystoreError::Exists(_))));
        let key = keystore.open().expect("made above");
        assert_eq!((key.to_bytes(), AccountId::from(&key)), ([7; 32], account));
        let path = keystore.dir().join("account.key");
        let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(keystore.dir())), (0o600, 0o700));
        assert_eq!(fs::read_dir(keystore.dir()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_key_that_is_open_or_damaged_is_refused_by_name() {
        let dir = TempDir::new().unwrap();
        let keystore = Keystore::at(dir.path());
        keystore.create(&[7; 32]).expect("made");
        let path = dir.path().join("account.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        let open = keystore.open();
        assert!(matches!(open, Err(KeystoreError::File(FileError::TooOpen { mode: 0o644, .. }))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        for text in ["", "00", &"g".repeat(64)] {
            fs::write(&path, text).expect("ours");
            let damaged = keystore.open();
            assert!(
                matches!(damaged, Err(KeystoreError::File(FileError::Damaged { .. }))),
                "{text}"
            );
        }
    }
}
