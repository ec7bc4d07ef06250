//! Where the keys of a home lie: one file each, 64 hex digits, only for their owner's eyes.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, SigningKey, hex};
use wallet::Keystore;

use crate::config::home;

/// The key that signs blocks, in a backup.
pub const VALIDATOR_KEY: &str = "config/priv_validator_key.json";
/// The key that names the node, in a backup.
const NODE_KEY: &str = "config/node_key.json";
/// The wallet's key, in a backup.
const WALLET_KEY: &str = "wallet/account.key";
/// The node's own keys, and what each is for.
const OWN: [(&str, &str); 7] = [
    ("operator", "the relay's account: it is paid"),
    ("relay", "signs receipts, redeems vouchers and pays the fees for that"),
    ("creator", "creator of the demo stream"),
    ("faucet", "gives play money away on a development chain"),
    ("issuer", "signs access tokens; holds no money"),
    ("coordinator", "names this node among coordinators and peers; holds no money"),
    ("peer", "names `sutantra-node peer` among peers; holds no money"),
];
/// The name of the wallet's key.
const WALLET: &str = "wallet";
/// Longest name.
const NAME_CHARS_MAX: usize = 32;
/// Longest file that a backup takes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The name of a key: lower-case letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key's name has 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, - and _, and begins with a letter"
)]
pub struct KeyNameError;

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        let is_char =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let is_name = begins && text.len() <= NAME_CHARS_MAX && text.bytes().all(is_char);
        if is_name { Ok(Self(text.to_owned())) } else { Err(KeyNameError) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyName {
    /// For people.
    pub fn purpose(&self) -> &'static str {
        if self.0 == WALLET {
            return "the account of `sutantra-node wallet`";
        }
        let own = OWN.iter().find(|(name, _)| *name == self.0);
        own.map_or("added by `sutantra-node keys`", |(_, purpose)| purpose)
    }
}

/// An account: 64 hex digits, or the name of a key of the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By its id.
    Account(AccountId),
    /// By its name in the home.
    Key(KeyName),
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A name has at most 32 characters: what is longer was meant as an account.
        if text.len() > NAME_CHARS_MAX {
            return text.parse().map(Self::Account).map_err(|error| format!("{error}"));
        }
        text.parse().map(Self::Key).map_err(|_| {
            "an account has 64 hex digits, and a key of the home a name of a-z, 0-9, - and _"
                .to_owned()
        })
    }
}

impl Who {
    /// The account.
    pub fn account(&self, store: &Store) -> anyhow::Result<AccountId> {
        match self {
            Self::Account(account) => Ok(*account),
            Self::Key(name) => Ok(AccountId::from(&store.open(name)?)),
        }
    }

    /// The key; an account's is looked for among those of the home.
    pub fn key(&self, store: &Store) -> anyhow::Result<SigningKey> {
        match self {
            Self::Key(name) => store.open(name),
            Self::Account(account) => {
                let keys = store.list()?;
                match keys.iter().find(|(_, known)| known == account) {
                    Some((name, _)) => store.open(name),
                    None => bail!(
                        "{} has no key of {account}: `sutantra-node keys list` names those that it has",
                        store.home().display()
                    ),
                }
            }
        }
    }
}

/// The keys of one home.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    home: &'a Path,
}

impl<'a> Store<'a> {
    /// The keys of `home`, which may not exist yet.
    pub fn at(home: &'a Path) -> Self {
        Self { home }
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.home
    }

    fn wallet(&self) -> Keystore {
        Keystore::at(self.home.join(WALLET))
    }

    fn path(&self, name: &KeyName) -> PathBuf {
        self.home.join("keys").join(format!("{name}.key"))
    }

    /// The key of a name; an absent one is not made.
    pub fn open(&self, name: &KeyName) -> anyhow::Result<SigningKey> {
        if name.0 == WALLET {
            return Ok(self.wallet().open()?);
        }
        let path = self.path(name);
        if !path.try_exists().with_context(|| path.display().to_string())? {
            bail!(
                "{} has no key called {name}: `sutantra-node keys list` names those that it has",
                self.home.display()
            );
        }
        Ok(home::signing_key(self.home, &name.0)?)
    }

    /// The key of a seed under a name; one that is there is never replaced.
    pub fn create(&self, name: &KeyName, seed: &[u8; 32]) -> anyhow::Result<AccountId> {
        if name.0 == WALLET {
            return Ok(self.wallet().create(seed)?);
        }
        let path = self.path(name);
        if path.try_exists().with_context(|| path.display().to_string())? {
            bail!(
                "{} is there already, and could hold money: choose another name, or export its words \
                 and move the file away",
                path.display()
            );
        }
        home::create_dir(self.home)?;
        home::create_dir(&self.home.join("keys"))?;
        write_new(&path, &(hex::text(seed) + "\n"))?;
        Ok(AccountId::from(&SigningKey::from_bytes(seed)))
    }

    /// All keys by name, the wallet's last.
    pub fn list(&self) -> anyhow::Result<Vec<(KeyName, AccountId)>> {
        let mut names = Vec::new();
        match fs::read_dir(self.home.join("keys")) {
            Ok(entries) => {
                for entry in entries {
                    let file = entry?.file_name();
                    let name = file.to_str().and_then(|name| name.strip_suffix(".key"));
                    names.extend(name.and_then(|name| name.parse::<KeyName>().ok()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(self.home.join("keys").display().to_string()),
        }
        names.sort();
        if self.home.join(WALLET_KEY).try_exists()? {
            names.push(KeyName(WALLET.to_owned()));
        }
        let keys = names.into_iter().map(|name| {
            let account = AccountId::from(&self.open(&name)?);
            Ok((name, account))
        });
        keys.collect()
    }

    /// Every secret of the home that a copy may be kept of, by its path below the home.
    ///
    /// What the validator signed last is none of them: restored from a copy it would be a lie.
    pub fn secrets(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let keys = self.list()?;
        let mut paths: Vec<String> = keys
            .iter()
            .map(|(name, _)| match name.0.as_str() {
                WALLET => WALLET_KEY.to_owned(),
                name => format!("keys/{name}.key"),
            })
            .collect();
        for json in [NODE_KEY, VALIDATOR_KEY] {
            if self.home.join(json).try_exists()? {
                paths.push(json.to_owned());
            }
        }
        if paths.is_empty() {
            bail!("{} has no keys: there is nothing to keep a copy of", self.home.display());
        }
        let read = |path: String| {
            let file = self.home.join(&path);
            let length = fs::metadata(&file).with_context(|| file.display().to_string())?.len();
            if length > SECRET_BYTES_MAX {
                bail!("{} is no key: it has {length} bytes", file.display());
            }
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            Ok((path, text))
        };
        paths.into_iter().map(read).collect()
    }

    /// Writes the files of a backup; gives each path and whether it is new. All or none: a file
    /// that is there with other content stops it before anything is written.
    pub fn restore(&self, files: &BTreeMap<String, String>) -> anyhow::Result<Vec<(String, bool)>> {
        let mut plan = Vec::new();
        let mut conflicts = Vec::new();
        for (path, text) in files {
            if !is_secret(path) {
                bail!("the backup holds {path:?}, which is no key of a home: nothing was restored");
            }
            match fs::read_to_string(self.home.join(path)) {
                Ok(there) if there == *text => plan.push((path, None)),
                Ok(_) => conflicts.push(path.as_str()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    plan.push((path, Some(text)));
                }
                Err(error) => {
                    return Err(error).context(self.home.join(path).display().to_string());
                }
            }
        }
        if !conflicts.is_empty() {
            bail!(
                "{} has other keys of the same names already: {}; move them away, or restore into \
                 another --home. Nothing was restored",
                self.home.display(),
                conflicts.join(", ")
            );
        }
        home::create_dir(self.home)?;
        for (path, text) in &plan {
            if let Some(text) = text {
                let path = self.home.join(path);
                home::create_dir(path.parent().expect("it lies below the home"))?;
                write_new(&path, text)?;
            }
        }
        Ok(plan.into_iter().map(|(path, text)| (path.clone(), text.is_some())).collect())
    }
}

/// Whether a path of a backup is one that [`Store::secrets`] gives.
fn is_secret(path: &str) -> bool {
    let name = path.strip_prefix("keys/").and_then(|rest| rest.strip_suffix(".key"));
    let is_key = name.is_some_and(|name| name != WALLET && name.parse::<KeyName>().is_ok());
    is_key || [NODE_KEY, VALIDATOR_KEY, WALLET_KEY].contains(&path)
}

/// Writes a private file that must not be there; it appears whole or not at all.
pub fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut made = false;
    let there = home::read_secret_or_create(path, || {
        made = true;
        Ok(text.to_owned())
    })?;
    if !made || there != text {
        bail!("{} is there already; nothing was replaced", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    fn name(text: &str) -> KeyName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_name_is_short_and_plain() {
        #[track_caller]
        fn check(text: &str, is_name: bool) {
            assert_eq!(text.parse::<KeyName>().is_ok(), is_name, "{text:?}");
        }
        check("alice", true);
        check("a-1_b", true);
        check(&"a".repeat(32), true);
        check(&"a".repeat(33), false);
        for text in ["", "-a", "1a", "Alice", "a b", "../a", "a/b", "a.key", "é"] {
            check(text, false);
        }
    }

    #[test]
    fn keys_are_made_once_found_by_name_and_listed() {
        let home = TempDir::new().unwrap();
        let store = Store::at(home.path());
        assert!(store.list().expect("no directory is no failure").is_empty());
        assert!(store.open(&name("alice")).is_err());
        assert!(store.list().expect("still none").is_empty(), "looking makes nothing");
        let alice = store.create(&name("alice"), &[1; 32]).expect("made");
        let wallet = store.create(&name("wallet"), &[2; 32]).expect("made");
        let operator = AccountId::from(&home::signing_key(home.path(), "operator").expect("made"));
        for taken in ["alice", "wallet", "operator"] {
            assert!(store.create(&name(taken), &[3; 32]).is_err(), "{taken}");
        }
        let listed = store.list().expect("keys");
        let expected =
            [(name("alice"), alice), (name("operator"), operator), (name("wallet"), wallet)];
        assert_eq!(listed, expected);
        assert_eq!(store.open(&name("alice")).expect("made").to_bytes(), [1; 32]);
        let mode = fs::metadata(home.path().join("keys/alice.key")).expect("a file").mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_account_is_named_by_its_id_or_by_its_key() {
        let home = TempDir::new().unwrap();
        let store = Store::at(home.path());
        let alice = store.create(&name("alice"), &[1; 32]).expect("made");
        for text in ["alice".to_owned(), alice.to_string()] {
            let who: Who = text.parse().expect("a name or an id");
            assert_eq!(who.account(&store).expect("known"), alice);
            assert_eq!(who.key(&store).expect("here").to_bytes(), [1; 32]);
        }
        let stranger: Who = "07".repeat(32).parse().expect("an id");
        assert_eq!(stranger.account(&store).expect("an id").0, [7; 32]);
        assert!(stranger.key(&store).is_err(), "its key is not here");
        assert!("bob".parse::<Who>().expect("a name").account(&store).is_err());
        for text in ["", "Alice", &"g".repeat(64), &"0".repeat(63)] {
            assert!(text.parse::<Who>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_copy_holds_keys_and_never_what_was_signed_last() {
        let home = TempDir::new().unwrap();
        let store = Store::at(home.path());
        assert!(store.secrets().is_err(), "nothing to copy");
        store.create(&name("alice"), &[1; 32]).expect("made");
        store.create(&name("wallet"), &[2; 32]).expect("made");
        for file in [NODE_KEY, VALIDATOR_KEY, "data/priv_validator_state.json"] {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("ours");
            fs::write(path, "{}").expect("ours");
        }
        let secrets = store.secrets().expect("keys");
        let paths: Vec<_> = secrets.keys().map(String::as_str).collect();
        assert_eq!(paths, [NODE_KEY, VALIDATOR_KEY, "keys/alice.key", WALLET_KEY]);
    }

    #[test]
    fn a_copy_comes_back_whole_and_replaces_nothing() {
        let home = TempDir::new().unwrap();
        Store::at(home.path()).create(&name("alice"), &[1; 32]).expect("made");
        Store::at(home.path()).create(&name("bob"), &[2; 32]).expect("made");
        let secrets = Store::at(home.path()).secrets().expect("keys");

        let other = TempDir::new().unwrap();
        let store = Store::at(other.path());
        store.create(&name("alice"), &[1; 32]).expect("the same key");
        let restored = store.restore(&secrets).expect("room for bob");
        let expected = [("keys/alice.key".to_owned(), false), ("keys/bob.key".to_owned(), true)];
        assert_eq!(restored, expected);
        assert_eq!(store.list().expect("keys"), Store::at(home.path()).list().expect("keys"));

        let third = TempDir::new().unwrap();
        let store = Store::at(third.path());
        store.create(&name("bob"), &[3; 32]).expect("another key");
        let refused = store.restore(&secrets).expect_err("bob is somebody else").to_string();
        assert!(refused.contains("keys/bob.key"), "{refused}");
        assert_eq!(store.list().expect("keys").len(), 1, "alice was not restored either");
    }

    #[test]
    fn a_backup_writes_keys_alone() {
        let home = TempDir::new().unwrap();
        let outside = ["../evil.key", "keys/../evil.key", "keys/wallet.key", "sutantra.toml"];
        for path in outside.into_iter().chain(["data/priv_validator_state.json"]) {
            let files = BTreeMap::from([(path.to_owned(), "text".to_owned())]);
            let refused = Store::at(home.path()).restore(&files);
            assert!(refused.is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
    }
}
