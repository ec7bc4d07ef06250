//! What the node is to the chain: which part it plays, who makes the blocks, whom it asks.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use chain_types::hex;
use consensus_abci::{
    app::Options,
    server::{ListenAddr, ListenAddrError},
};
use tendermint::Time;

use super::{Layers, keys, parse_http, quote};

/// Endpoints of a remote chain at most; each costs a connection and a header a block.
pub const CHAIN_RPC_MAX: usize = 8;
/// Peers that may be named; CometBFT finds more by itself.
const PEERS_MAX: usize = 64;
/// Most blocks that a setting counts: thirty years of them, one a second.
const BLOCKS_MAX: u64 = 1_000_000_000;
/// Fewer states than that, and nobody could ask for the one of the newest proof.
const VERSIONS_MIN: u64 = 10;
/// Longest name for people, as CometBFT allows it in a peer's handshake.
const MONIKER_BYTES_MAX: usize = 70;

/// How a node and the chain meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainConfig {
    /// Which parts run.
    pub role: Role,
    /// Who decides the blocks of a node with a state of its own.
    pub comet: Comet,
    /// CometBFT's program; `None`: it is looked for.
    pub comet_bin: Option<PathBuf>,
    /// Where the application listens for an engine; `None`: a socket in the home.
    pub abci: Option<ListenAddr>,
    /// Where CometBFT listens for its peers.
    pub p2p: SocketAddr,
    /// Peers that CometBFT keeps.
    pub peers: Vec<Peer>,
    /// Name for people.
    pub moniker: Option<String>,
    /// CometBFT's `timeout_commit`, ms; `None`: what its config.toml says.
    pub timeout_commit_ms: Option<u32>,
    /// RPC endpoints of a chain that others keep.
    pub chain_rpc: Vec<String>,
    /// First header to be trusted.
    pub trust: Option<Trust>,
    /// What of past states is kept, and for whom.
    pub kept: Options,
    /// When the node is to stop by itself.
    pub halt: HaltAt,
}

/// A stop that is asked for; with both, whichever comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HaltAt {
    /// When the block of this height is durable.
    pub height: Option<u64>,
    /// With the first block at or after this time, unix ms.
    pub time_ms: Option<u64>,
}

/// Which parts of a node run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The chain, no media.
    Validator,
    /// Media, on a chain that others keep.
    Relay,
    /// Both.
    ValidatorRelay,
    /// Neither: rooms and signalling alone.
    Coordinator,
}

impl Role {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Relay => "relay",
            Self::ValidatorRelay => "validator-relay",
            Self::Coordinator => "coordinator",
        }
    }

    /// Whether media is forwarded.
    pub const fn relays(self) -> bool {
        matches!(self, Self::Relay | Self::ValidatorRelay)
    }

    /// Whether the chain's state is here.
    pub const fn keeps_chain(self) -> bool {
        matches!(self, Self::Validator | Self::ValidatorRelay)
    }
}

/// Who decides the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comet {
    /// The engine in this process, of one validator.
    Embedded,
    /// A CometBFT that this process starts and watches.
    Spawn,
    /// A CometBFT that somebody else runs.
    External,
}

impl Comet {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Spawn => "spawn",
            Self::External => "external",
        }
    }
}

/// A CometBFT peer, `ID@HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(String);

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(id, at)| Some((id, at.rsplit_once(':')?)));
        let is_peer = parts.is_some_and(|(id, (host, port))| {
            id.len() == 40
                && id.bytes().all(|digit| digit.is_ascii_hexdigit())
                && !host.is_empty()
                && !host.contains([',', '@', '/'])
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        match is_peer {
            true => Ok(Self(text.to_owned())),
            false => Err("a peer is ID@HOST:PORT, its id as `comet show-node-id` prints it".into()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A header that somebody vouches for: `HEIGHT:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// Its height.
    pub height: u64,
    /// SHA-256 merkle root of its fields.
    pub hash: [u8; 32],
}

impl FromStr for Trust {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (height, hash) = text.split_once(':')?;
            let height = height.parse().ok().filter(|height| *height > 0)?;
            Some(Self { height, hash: hex::bytes(hash)?.try_into().ok()? })
        };
        parse().ok_or_else(|| "write a height, a colon and the block's hash, 64 hex digits".into())
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, hex::text(&self.hash))
    }
}

/// Reads the settings of the chain.
pub(super) fn read(layers: &mut Layers) -> ChainConfig {
    fn shown(value: &impl fmt::Display) -> Option<String> {
        Some(quote(&value.to_string()))
    }
    let role = layers.one(
        &keys::ROLE,
        Role::ValidatorRelay,
        |role| shown(&role.name()),
        |text| match text {
            "validator" => Ok(Role::Validator),
            "relay" => Ok(Role::Relay),
            "validator-relay" => Ok(Role::ValidatorRelay),
            "coordinator" => Ok(Role::Coordinator),
            _ => Err("say validator, relay, validator-relay or coordinator".to_owned()),
        },
    );
    let comet = layers.one(
        &keys::COMET,
        Comet::Embedded,
        |comet| shown(&comet.name()),
        |text| match text {
            "embedded" => Ok(Comet::Embedded),
            "spawn" => Ok(Comet::Spawn),
            "external" => Ok(Comet::External),
            _ => Err("say embedded, spawn or external".to_owned()),
        },
    );
    let comet_bin = layers.path(&keys::COMET_BIN);
    let abci = layers.one(
        &keys::ABCI,
        None,
        |at: &Option<ListenAddr>| at.as_ref().and_then(shown),
        |text| text.parse().map(Some).map_err(|error: ListenAddrError| error.to_string()),
    );
    let p2p_default = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 26656));
    let p2p = layers.one(&keys::P2P, p2p_default, shown, parse_http);
    let peers = layers.list(&keys::PEERS, PEERS_MAX, str::parse);
    let moniker = layers.one(
        &keys::MONIKER,
        None,
        |name: &Option<String>| name.as_ref().map(|name| quote(name)),
        |text| match text.trim() {
            "" => Err("give a name".to_owned()),
            name if name.len() > MONIKER_BYTES_MAX => {
                Err(format!("a name has at most {MONIKER_BYTES_MAX} bytes"))
            }
            name => Ok(Some(name.to_owned())),
        },
    );
    let timeout_commit_ms = layers.one(
        &keys::TIMEOUT_COMMIT_MS,
        None,
        |ms: &Option<u32>| ms.map(|ms| ms.to_string()),
        |text| match text.parse() {
            Ok(ms @ 0..=60_000) => Ok(Some(ms)),
            _ => Err("0 to 60000 ms".to_owned()),
        },
    );
    let chain_rpc = layers.list(&keys::CHAIN_RPC, CHAIN_RPC_MAX, endpoint);
    let trust = layers.one(
        &keys::TRUST,
        None,
        |trust: &Option<Trust>| trust.as_ref().and_then(shown),
        |text| text.parse().map(Some),
    );
    let kept = kept(layers);
    let halt = halt(layers);
    if role != Role::Relay && !chain_rpc.is_empty() {
        let keeps = if role.keeps_chain() { "the chain itself" } else { "no chain" };
        layers.conflict(&format!(
            "--chain-rpc is for a relay on a chain that others keep: add --role relay, or drop it \
             (a {} keeps {keeps})",
            role.name()
        ));
    }
    if chain_rpc.len() == 1 {
        layers.conflict(
            "--chain-rpc needs two endpoints of different operators, so that one cannot lie alone: \
             give it twice",
        );
    }
    if !role.keeps_chain() && comet != Comet::Embedded {
        layers.conflict(
            "--comet is for a node that keeps the chain: say --role validator-relay, or drop it",
        );
    }
    ChainConfig {
        role,
        comet,
        comet_bin,
        abci,
        p2p,
        peers,
        moniker,
        timeout_commit_ms,
        chain_rpc,
        trust,
        kept,
        halt,
    }
}

fn kept(layers: &mut Layers) -> Options {
    let usual = Options::default();
    let number = |text: &str, least: u64, most: u64| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("a whole number, {least} to {most}")),
    };
    let snapshot_interval = layers.one(
        &keys::SNAPSHOT_INTERVAL,
        usual.snapshot_interval,
        |blocks| Some(blocks.to_string()),
        |text| number(text, 0, BLOCKS_MAX),
    );
    let snapshot_keep = layers.one(
        &keys::SNAPSHOT_KEEP_RECENT,
        usual.snapshot_keep,
        |kept| Some(kept.to_string()),
        |text| number(text, 1, 100).map(|kept| usize::try_from(kept).expect("at most 100")),
    );
    let versions_kept = layers.one(
        &keys::PRUNING_KEEP_RECENT,
        usual.versions_kept,
        |kept| Some(if *kept == u64::MAX { 0 } else { *kept }.to_string()),
        |text| match text {
            "0" => Ok(u64::MAX),
            _ => number(text, VERSIONS_MIN, BLOCKS_MAX)
                .map_err(|error| format!("{error}, or 0, which keeps all")),
        },
    );
    Options { snapshot_interval, snapshot_keep, versions_kept }
}

fn halt(layers: &mut Layers) -> HaltAt {
    let height = layers.one(
        &keys::HALT_HEIGHT,
        None,
        |height: &Option<u64>| height.map(|height| height.to_string()),
        |text| match text.parse() {
            Ok(0) => Ok(None),
            Ok(height) => Ok(Some(height)),
            Err(_) => Err("a height, or 0".to_owned()),
        },
    );
    let time_ms = layers.one(
        &keys::HALT_TIME,
        None,
        |ms: &Option<u64>| ms.map(|ms| quote(&(ms / 1000).to_string())),
        |text| {
            let seconds = match text.parse::<u64>() {
                Ok(seconds) => Some(seconds),
                Err(_) => Time::parse_from_rfc3339(text)
                    .ok()
                    .and_then(|time| u64::try_from(time.unix_timestamp()).ok()),
            };
            let ms = seconds.and_then(|seconds| seconds.checked_mul(1000));
            ms.map(Some).ok_or("a time such as 2030-01-31T12:00:00Z, or unix seconds".to_owned())
        },
    );
    HaltAt { height, time_ms }
}

fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with(['/', ':']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("an RPC address, such as http://127.0.0.1:26657".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = String> + fmt::Display>(right: &[&str], wrong: &[&str]) {
        for text in right {
            let value: T = text.parse().expect("a right one");
            assert_eq!(value.to_string(), *text);
        }
        for text in wrong {
            assert!(text.parse::<T>().is_err(), "{text} is taken");
        }
    }

    #[test]
    fn what_names_the_chain_is_taken_as_people_write_it() {
        let hash = "ab".repeat(32);
        check::<Trust>(
            &[&format!("7:{hash}")],
            &["", "7", "0:00", "7:ab", &format!("0:{hash}"), &format!("-1:{hash}")],
        );
        let id = "0123456789abcdef0123456789abcdef01234567";
        check::<Peer>(
            &[&format!("{id}@10.0.0.1:26656"), &format!("{id}@[::1]:1")],
            &["", id, &format!("{id}@host"), &format!("{id}@host:0"), "ab@host:1"],
        );
        assert_eq!(endpoint("http://a:1/"), Ok("http://a:1".to_owned()));
        assert!(endpoint("a:1").is_err() && endpoint("http://").is_err());
    }
}
