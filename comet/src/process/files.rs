//! What must lie in a home before CometBFT starts on it, and what must not.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Binary, ConfigError, Settings, config};

const GENESIS: &str = "config/genesis.json";
const VALIDATOR_KEY: &str = "config/priv_validator_key.json";
const NODE_KEY: &str = "config/node_key.json";
const SIGN_STATE: &str = "data/priv_validator_state.json";
const BLOCKS: &str = "data/blockstore.db";
/// Which genesis the blocks beside it began with. CometBFT keeps the genesis of its first start and
/// passes over another one without a word.
const STAMP: &str = "data/genesis.stamp";

/// Why CometBFT cannot be started on a home.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No `config.toml` can be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that nobody but the operator can give.
    #[error("{} is missing: `sutantra-node init` makes a home; or restore it from a copy", .0.display())]
    Missing(PathBuf),
    /// The genesis is not readable.
    #[error("{} is no genesis document ({reason}): take the one of your network again", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The blocks of another chain lie here.
    #[error(
        "the blocks in {} are of chain {stored}, begun with another genesis than {}, which is of chain {given}: \
         put the old genesis back, or begin with another --home", data.display(), genesis.display()
    )]
    OtherGenesis {
        /// Where the blocks are.
        data: PathBuf,
        /// The file that does not belong to them.
        genesis: PathBuf,
        /// Chain id of the blocks.
        stored: String,
        /// Chain id in the file.
        given: String,
    },
    /// What the validator has signed is forgotten.
    #[error(
        "{} is gone, which says what this validator signed last; without it, it could sign twice and \
         be punished. Restore it from this very machine; else wait until the chain is past every \
         height that it may have signed, and write {{\"height\":\"H\",\"round\":0,\"step\":0}} with \
         that height into it", .0.display()
    )]
    SignStateLost(PathBuf),
    /// Somebody has the address.
    #[error(
        "{what} address {at} cannot be taken: {error}; another node may be running, or choose \
         another address with {flag}"
    )]
    Address {
        /// RPC or p2p.
        what: &'static str,
        /// The address.
        at: SocketAddr,
        /// What the system says.
        error: io::Error,
        /// What changes it.
        flag: &'static str,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> FilesError + '_ {
    move |error| FilesError::Io { path: path.to_owned(), error }
}

/// Makes what is missing in the home (directories, `config.toml`, the record of signatures of a new
/// validator) and refuses what would go wrong. Idempotent; [`super::Comet::spawn`] calls it.
///
/// # Errors
/// What is wrong, and what to do.
pub fn prepare(binary: &Binary, settings: &Settings) -> Result<(), FilesError> {
    let at = |below| settings.path(below);
    for below in ["config", "data", "log"] {
        let dir = at(below);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(io_at(&dir))?;
    }
    for below in [GENESIS, VALIDATOR_KEY, NODE_KEY] {
        if !exists(&at(below))? {
            return Err(FilesError::Missing(at(below)));
        }
    }
    check_genesis(settings)?;
    if !exists(&at(SIGN_STATE))? {
        if exists(&at(BLOCKS))? {
            return Err(FilesError::SignStateLost(at(SIGN_STATE)));
        }
        write_new(&at(SIGN_STATE), &json!({"height": "0", "round": 0, "step": 0}))?;
    }
    config::write_config_if_missing(binary, settings)?;
    check_address("the RPC", settings.rpc, "--rpc")?;
    check_address("the p2p", settings.p2p, "--p2p")
}

fn exists(path: &Path) -> Result<bool, FilesError> {
    path.try_exists().map_err(io_at(path))
}

/// Holds the genesis against the one of the blocks; notes it where there are no blocks yet, or where
/// they come from a home that nobody stamped.
fn check_genesis(settings: &Settings) -> Result<(), FilesError> {
    let (genesis, stamp) = (settings.path(GENESIS), settings.path(STAMP));
    let bytes = fs::read(&genesis).map_err(io_at(&genesis))?;
    let unreadable = |reason: String| FilesError::Genesis { path: genesis.clone(), reason };
    let doc: Value =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let chain_id = doc["chain_id"].as_str().ok_or_else(|| unreadable("no chain_id".to_owned()))?;
    // Of the document, not of its bytes: who pretty-prints it does not change it.
    let hash = Sha256::digest(serde_json::to_vec(&doc).expect("JSON values serialize"));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = json!({"chain_id": chain_id, "genesis_sha256": hash});
    let stored = match fs::read(&stamp) {
        Ok(bytes) if exists(&settings.path(BLOCKS))? => serde_json::from_slice(&bytes).ok(),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_at(&stamp)(error)),
    };
    match stored {
        Some(stored) if stored == now => Ok(()),
        Some::<Value>(stored) => Err(FilesError::OtherGenesis {
            data: settings.path("data"),
            genesis,
            stored: stored["chain_id"].as_str().unwrap_or("?").to_owned(),
            given: chain_id.to_owned(),
        }),
        None => write_new(&stamp, &now),
    }
}

/// Writes a small JSON file, whole, durable, for its owner alone.
fn write_new(path: &Path, value: &Value) -> Result<(), FilesError> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(value.to_string().as_bytes())?;
        file.sync_all()
    };
    write().map_err(io_at(&new))?;
    fs::rename(&new, path).map_err(io_at(path))
}

/// Says so before CometBFT does, which would open its databases first and name no remedy.
fn check_address(what: &'static str, at: SocketAddr, flag: &'static str) -> Result<(), FilesError> {
    match TcpListener::bind(at) {
        Ok(_) => Ok(()),
        Err(error) => Err(FilesError::Address { what, at, error, flag }),
    }
}
