//! `localnet.json`: what a network is, so that it comes back as it was.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::ports::{PortError, Ports};
use crate::config::home::{self, HomeError};

/// Most validators of one network: their numbers have one digit.
pub const VALIDATORS_MAX: usize = 10;
/// How many there are unless somebody says otherwise: one may be away, and blocks are made.
pub const VALIDATORS_DEFAULT: usize = 4;

const FILE: &str = "localnet.json";
const LOCK: &str = "lock";
/// Of the files in the directory.
const LAYOUT: u32 = 1;
/// Longest such file that is read; ours has under 2 kB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A network on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    layout: u32,
    /// Name of its chain.
    pub chain_id: String,
    /// Of each validator, in order.
    pub nodes: Vec<NodePorts>,
    /// Of the relay, whether it runs or not.
    pub relay: RelayPorts,
}

/// Where a validator is, on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePorts {
    /// CometBFT's peers.
    pub p2p: u16,
    /// CometBFT's RPC.
    pub rpc: u16,
    /// The node's pages, metrics and health.
    pub http: u16,
}

/// Where the relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPorts {
    /// Pages, WHIP, WHEP, API.
    pub http: SocketAddr,
    /// The chain's RPC, as the relay passes it on.
    pub rpc: u16,
    /// Media.
    pub udp: u16,
}

/// Why a directory cannot be a network's.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The system refuses.
    #[error("{}: {error}; choose another directory with --dir DIR", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The directory cannot be made.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Nothing here was made by `localnet`.
    #[error("{} holds other files than a local network: choose another directory with --dir DIR", .0.display())]
    Foreign(PathBuf),
    /// Another one runs on it.
    #[error("the network in {} is running already, started by the process {pid}", dir.display())]
    Running {
        /// The directory.
        dir: PathBuf,
        /// As the other one wrote it.
        pid: String,
    },
    /// Somebody wrote into the file.
    #[error("{} is damaged ({reason}): begin another network with --fresh, or choose another --dir", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// From another version.
    #[error("{} was made by another version of this program (layout {layout}, this one writes {LAYOUT}): begin another network with --fresh, or choose another --dir", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What it says.
        layout: u32,
    },
    /// Validators are in the genesis.
    #[error("the network in {} has {has} validators, for ever: drop --validators, or begin another network with --fresh or another --dir", dir.display())]
    OtherCount {
        /// The directory.
        dir: PathBuf,
        /// As many as it has.
        has: usize,
    },
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> NetError + '_ {
    move |error| NetError::Io { path: path.to_owned(), error }
}

/// A directory that this process alone runs a network in, until it is dropped.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    _lock: File,
}

/// What the person asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub validators: Option<usize>,
    pub base_port: Option<u16>,
    pub http: Option<SocketAddr>,
    pub no_relay: bool,
    pub fresh: bool,
}

impl Dir {
    /// Makes the directory where it is missing, and locks it.
    ///
    /// # Errors
    /// It is somebody else's, or in use.
    pub fn open(path: &Path) -> Result<Self, NetError> {
        let path = std::path::absolute(path).map_err(io_at(path))?;
        home::create_dir(&path)?;
        let is_ours = path.join(FILE).try_exists().map_err(io_at(&path))?;
        let mut entries = fs::read_dir(&path).map_err(io_at(&path))?;
        // A lock alone is what is left of a start that ended at once.
        let is_other =
            |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != LOCK);
        if !is_ours && entries.any(is_other) {
            return Err(NetError::Foreign(path));
        }
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&lock_path).map_err(io_at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut lock).take(16).read_to_string(&mut pid);
                return Err(NetError::Running { dir: path, pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_at(&lock_path)(error)),
        }
        let note = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        note(&mut lock).map_err(io_at(&lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, from the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Home of a validator.
    pub fn node(&self, number: usize) -> PathBuf {
        self.path.join(format!("node{number}"))
    }

    /// Home of the relay.
    pub fn relay(&self) -> PathBuf {
        self.path.join("relay")
    }

    /// The network that is here, or a new one; with other ports where the person wants them. What
    /// comes back is written, and its ports are free now.
    ///
    /// # Errors
    /// What is here is no such network, or a port is taken.
    pub fn net(&self, wish: Wish, ports: &mut Ports<'_>) -> Result<Net, NetError> {
        if wish.fresh {
            self.clear()?;
        }
        let count = wish.validators;
        let net = match self.read()? {
            Some(net) => {
                let has = net.nodes.len();
                if count.is_some_and(|count| count != has) {
                    return Err(NetError::OtherCount { dir: self.path.clone(), has });
                }
                let nodes = match wish.base_port {
                    Some(base) => ports.nodes(has, Some(base))?,
                    None => net.nodes,
                };
                let http = wish.http.unwrap_or(net.relay.http);
                Net { nodes, relay: RelayPorts { http, ..net.relay }, ..net }
            }
            None => {
                let nodes = ports.nodes(count.unwrap_or(VALIDATORS_DEFAULT), wish.base_port)?;
                let relay = ports.relay(&nodes, wish.http)?;
                let chain_id = format!("sutantra-local-{:08x}", rand::rng().next_u32());
                Net { layout: LAYOUT, chain_id, nodes, relay }
            }
        };
        ports.check(&net, wish.no_relay)?;
        self.write(&net)?;
        Ok(net)
    }

    /// Removes what `localnet` has made, its file last: a removal that is cut short can be repeated.
    fn clear(&self) -> Result<(), NetError> {
        let homes = (0..VALIDATORS_MAX).map(|number| self.node(number)).chain([self.relay()]);
        for home in homes {
            match fs::remove_dir_all(&home) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at(&home)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let file = self.path.join(FILE);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&file)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn read(&self) -> Result<Option<Net>, NetError> {
        let path = self.path.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at(&path)(error)),
        };
        let damaged = |reason: String| NetError::Damaged { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_reader(file.take(FILE_BYTES_MAX))
            .map_err(|error| damaged(error.to_string()))?;
        // First the layout: another one may look otherwise.
        match value["layout"].as_u64().and_then(|layout| u32::try_from(layout).ok()) {
            Some(LAYOUT) => {}
            Some(layout) => return Err(NetError::Layout { path, layout }),
            None => return Err(damaged("no layout".to_owned())),
        }
        let net: Net = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if !(1..=VALIDATORS_MAX).contains(&net.nodes.len()) {
            return Err(damaged(format!("{} validators", net.nodes.len())));
        }
        Ok(Some(net))
    }

    fn write(&self, net: &Net) -> Result<(), NetError> {
        let mut text = serde_json::to_string_pretty(net).expect("plain values serialize");
        text.push('\n');
        write_whole(&self.path.join(FILE), text.as_bytes())
    }
}

/// The file appears whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_at(&new))?;
    fs::rename(&new, path).map_err(io_at(path))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn open(temp: &TempDir) -> Dir {
        Dir::open(&temp.path().join("net")).expect("free")
    }

    fn net(dir: &Dir, wish: Wish) -> Result<Net, NetError> {
        dir.net(wish, &mut Ports::of(|_| true))
    }

    #[test]
    fn a_network_comes_back_with_its_name_and_its_ports() {
        let temp = TempDir::new().unwrap();
        let first = net(&open(&temp), Wish::default()).expect("a new one");
        assert_eq!(first.nodes.len(), VALIDATORS_DEFAULT);
        let digits = first.chain_id.strip_prefix("sutantra-local-").expect("its name");
        assert!(digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let again = Wish { validators: Some(VALIDATORS_DEFAULT), ..Wish::default() };
        assert_eq!(net(&open(&temp), again).expect("the same"), first);

        let http = "127.0.0.1:9999".parse().expect("an address");
        let moved = Wish { base_port: Some(30_000), http: Some(http), ..Wish::default() };
        let moved = net(&open(&temp), moved).expect("moved");
        assert_eq!((moved.nodes[0].p2p, moved.relay.http), (30_000, http));
        assert_eq!(moved.chain_id, first.chain_id);
        assert_eq!(net(&open(&temp), Wish::default()).expect("remembered"), moved);
    }

    #[test]
    fn one_network_runs_once() {
        let temp = TempDir::new().unwrap();
        let first = open(&temp);
        let error = Dir::open(first.path()).expect_err("in use").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        open(&temp);
    }

    #[test]
    fn only_what_localnet_made_is_used_and_thrown_away() {
        let temp = TempDir::new().unwrap();
        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).expect("ours");
        fs::write(foreign.join("letters.txt"), "dear").expect("ours");
        assert!(matches!(Dir::open(&foreign), Err(NetError::Foreign(_))));

        let dir = open(&temp);
        let first = net(&dir, Wish::default()).expect("a new one");
        fs::create_dir_all(dir.node(0).join("data")).expect("ours");
        fs::write(dir.path().join("notes.txt"), "mine").expect("ours");
        let fresh = Wish { fresh: true, validators: Some(1), ..Wish::default() };
        let second = net(&dir, fresh).expect("another one");
        assert_ne!(second.chain_id, first.chain_id);
        assert_eq!(second.nodes.len(), 1);
        assert!(!dir.node(0).exists());
        assert!(dir.path().join("notes.txt").exists(), "a person's file stays");
    }

    #[test]
    fn a_file_that_is_not_ours_to_read_is_refused_with_the_remedy() {
        let temp = TempDir::new().unwrap();
        let dir = open(&temp);
        net(&dir, Wish::default()).expect("a new one");
        let other = Wish { validators: Some(7), ..Wish::default() };
        let error = net(&dir, other).expect_err("it has four").to_string();
        assert!(error.contains("has 4 validators") && error.contains("--fresh"), "{error}");

        let path = dir.path().join(FILE);
        let good = fs::read_to_string(&path).expect("written");
        let newer = good.replace("\"layout\": 1", "\"layout\": 2");
        fs::write(&path, newer).expect("ours");
        assert!(matches!(net(&dir, Wish::default()), Err(NetError::Layout { layout: 2, .. })));
        let (start, _) = good.split_once("\"nodes\"").expect("a list");
        let empty = serde_json::json!({"layout": 1, "chain_id": "x", "nodes": [],
            "relay": {"http": "127.0.0.1:1", "rpc": 1, "udp": 1}});
        for text in ["", "[]", "{\"layout\": 1}", start, &empty.to_string()] {
            fs::write(&path, text).expect("ours");
            let error = net(&dir, Wish::default()).expect_err("damaged");
            assert!(matches!(error, NetError::Damaged { .. }), "{text}: {error}");
        }
        net(&dir, Wish { fresh: true, ..Wish::default() }).expect("thrown away");
    }
}
