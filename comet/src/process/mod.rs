//! CometBFT as a child of this process: found, given its files, started, supervised, stopped.
//!
//! ```text
//! Binary::find ─► Settings ─► Comet::spawn ─► state() … stop()
//!   0.38.x or      flags of     files made where they are missing, then a thread that
//!   0.39.x         the child    starts it again when it dies, and gives up with a sentence
//! ```
//!
//! What the operator may set is in `config/config.toml`, which is written once. What the node controls
//! (addresses, and peers, name and pace where it is told them) goes as flags and variables.

mod binary;
mod child;
mod config;
mod files;
mod journal;
mod refusal;
mod restart;
mod supervisor;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use binary::{Binary, BinaryError, GO_INSTALL, Places, VERSION_INSTALLED, Version};
pub use child::{die_with_parent, terminate};
pub use config::{CONFIG_FILE, ConfigError, write_config_if_missing};
pub use files::{FilesError, prepare};
pub use journal::LOG_FILE;
pub use refusal::Refusal;
pub use restart::{Next, Restarts};
pub use supervisor::{Comet, SpawnError, State};

/// What a CometBFT is started with. Its home is the node's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Holds `config/{genesis,node_key,priv_validator_key}.json` already; `data/`, `log/` and
    /// `config/config.toml` are made where they are missing.
    pub home: PathBuf,
    /// Where the application listens: `unix:///path` or `tcp://host:port`.
    pub app: String,
    /// Where its JSON-RPC listens.
    pub rpc: SocketAddr,
    /// Where its peers reach it. On a loopback address the first `config.toml` is one for several
    /// nodes on one machine.
    pub p2p: SocketAddr,
    /// `id@host:port` each; none leaves what `config.toml` says.
    pub persistent_peers: Vec<String>,
    /// The node's name among its peers; `None` leaves what `config.toml` says.
    pub moniker: Option<String>,
    /// Pause between a block and the next; `None` leaves what `config.toml` says.
    pub timeout_commit: Option<Duration>,
    /// Where it serves its metrics; `None` leaves what `config.toml` says.
    pub metrics: Option<SocketAddr>,
    /// Further variables for the child alone.
    pub env: Vec<(String, String)>,
}

impl Settings {
    /// Pause between blocks that the first `config.toml` has, unless told otherwise.
    pub const TIMEOUT_COMMIT: Duration = Duration::from_secs(1);

    /// Settings with CometBFT's customary addresses on this machine alone.
    pub fn new(home: impl Into<PathBuf>, app: impl Into<String>) -> Self {
        Settings {
            home: home.into(),
            app: app.into(),
            rpc: SocketAddr::from(([127, 0, 0, 1], 26657)),
            p2p: SocketAddr::from(([127, 0, 0, 1], 26656)),
            persistent_peers: Vec::new(),
            moniker: None,
            timeout_commit: None,
            metrics: None,
            env: Vec::new(),
        }
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.home.join(below)
    }
}
