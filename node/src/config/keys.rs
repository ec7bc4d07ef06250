//! The one table of settings: flag, environment name, key in `sutantra.toml`, default, help.
//!
//! A key is written in kebab case everywhere but in the environment: `udp-port` is `--udp-port`,
//! `udp-port = 7443`, `SUTANTRA_UDP_PORT=7443`.

/// What a value looks like in TOML, and so how flag and environment are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer.
    Integer,
    /// `true` or `false`; as a flag also without a value.
    Switch,
    /// `true` or `false`; as a flag always with it, in a word of its own.
    Answer,
    /// An array of strings; a repeated flag; separated by commas in the environment.
    List,
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Kebab case.
    pub name: &'static str,
    /// Other names of the same setting.
    pub aliases: &'static [&'static str],
    /// Form of the value.
    pub kind: Kind,
    /// Stands for the value in the help.
    pub value_name: &'static str,
    /// One sentence, the default at its end.
    pub help: &'static str,
}

impl Key {
    /// `SUTANTRA_` and the name in capitals.
    pub fn env_name(name: &str) -> String {
        format!("SUTANTRA_{}", name.replace('-', "_").to_uppercase())
    }

    /// Under which the help lists it; `None`: among the options.
    pub fn heading(&self) -> Option<&'static str> {
        WEBRTC.iter().any(|key| key.name == self.name).then_some(WEBRTC_HEADING)
    }

    /// Name and aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

macro_rules! keys {
    ($($ident:ident = $name:literal $(or $alias:literal)*, $kind:ident $value:literal: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Key = Key {
                name: $name,
                aliases: &[$($alias),*],
                kind: Kind::$kind,
                value_name: $value,
                help: $help,
            };
        )*
        /// Every setting, in the order of the help.
        pub static ALL: &[&Key] = &[$(&$ident),*];
    };
}

keys! {
    HOME = "home" or "data-dir", Text "DIR":
        "Directory of keys, certificates and revocations [default: ~/.local/share/sutantra]";
    HTTP = "http", Text "ADDR":
        "Address of pages, WHIP, WHEP, API and metrics [default: 127.0.0.1:8080; with --lan 0.0.0.0:8443]";
    UDP_PORT = "udp-port", Integer "N":
        "UDP port of all media, one for all shards; 0 takes a free one [default: 7443]";
    MEDIA_IP = "media-ip", List "IP":
        "Address that browsers are told to send media to, repeatable: NAT 1:1 [default: those of this host]";
    SHARDS = "shards", Integer "N":
        "Threads that forward media [default: processor cores - 1, at least 1]";
    PIN = "pin", Switch "BOOL":
        "Pin each shard to a core of its own [default: false]";
    LINK = "link", Text "KIND":
        "How datagrams pass the kernel: auto, io_uring or epoll [default: auto]";
    NO_DEMO = "no-demo", Switch "BOOL":
        "Do not play the demo stream [default: false; true with start]";
    OPEN = "open", Switch "BOOL":
        "Whoever reaches the HTTP address may publish and watch without a token [default: false]";
    TLS_CERT = "tls-cert", Text "FILE":
        "Certificate chain for HTTPS (PEM), read again at SIGHUP";
    TLS_KEY = "tls-key", Text "FILE":
        "Private key for HTTPS (PEM), read again at SIGHUP";
    LAN = "lan", Switch "BOOL":
        "HTTPS for the local network: makes a certificate authority, binds all addresses, shows a QR code [default: false]";
    GATHER_US = "gather-us", Integer "N":
        "Microseconds that a shard lets packets collect before it looks again, and waits for the rest of a frame, 0 to 1000 [default: 1000]";
    GSO = "gso", Switch "BOOL":
        "Hand several packets for a viewer to the kernel as one message (UDP GSO) [default: true]";
    PAD = "pad", Switch "BOOL":
        "One byte of RTP padding where it makes a frame one message [default: true]";
    CHAIN = "chain", Switch "BOOL":
        "Run a chain of its own, on which streams have prices and viewers pay [default: true; false with --decisions]";
    ROLE = "role", Text "ROLE":
        "What this node is: validator, relay, validator-relay or coordinator [default: validator-relay]";
    COMET = "comet", Text "ENGINE":
        "Who makes the blocks: embedded, spawn (a CometBFT that this node starts) or external [default: embedded]";
    COMET_BIN = "comet-bin", Text "FILE":
        "CometBFT's program, version 0.38 or 0.39 [default: the first one in .tools, PATH or Go's bin]";
    ABCI = "abci", Text "ADDR":
        "Where the application waits for CometBFT, unix://PATH or tcp://HOST:PORT [default: abci.sock in the home]";
    P2P = "p2p", Text "ADDR":
        "Where CometBFT listens for other validators [default: 0.0.0.0:26656]";
    PEERS = "peers", List "ID@ADDR":
        "Peer that CometBFT stays connected to, repeatable";
    MONIKER = "moniker", Text "NAME":
        "This node's name among CometBFT's peers [default: as in its config.toml]";
    TIMEOUT_COMMIT_MS = "timeout-commit-ms", Integer "N":
        "CometBFT's pause after a block, milliseconds [default: as in its config.toml]";
    CHAIN_RPC = "chain-rpc", List "URL":
        "RPC of a chain that others keep, for a relay without a state of its own; give at least two";
    TRUST = "trust", Text "HEIGHT:HASH":
        "Header from which a relay without a state of its own begins to verify [default: the first that its endpoints agree on]";
    RPC = "rpc", Text "ADDR":
        "Address of the chain's CometBFT RPC, which is also under /rpc of --http [default: 127.0.0.1:26657 if it is free]";
    SNAPSHOT_INTERVAL = "snapshot-interval", Integer "BLOCKS":
        "A snapshot of the state each so many blocks, from which others join; 0 makes none [default: 1000]";
    SNAPSHOT_KEEP_RECENT = "snapshot-keep-recent", Integer "N":
        "Snapshots that are kept, 1 to 100 [default: 2]";
    PRUNING_KEEP_RECENT = "pruning-keep-recent", Integer "BLOCKS":
        "States that can still be asked for and proved, 10 or more; 0 keeps all [default: 1000]";
    HALT_HEIGHT = "halt-height", Integer "HEIGHT":
        "Stop when the block of this height is durable; 0 goes on";
    HALT_TIME = "halt-time", Text "TIME":
        "Stop with the first block at or after this time: RFC 3339, or unix seconds";
    FAUCET_PUBLIC = "faucet-public", Switch "BOOL":
        "Give play money to other machines too [default: false]";
    DECISIONS = "decisions", Text "unix:PATH":
        "Socket of a process that decides who may watch";
    CADENCE_MS = "cadence-ms", Integer "N":
        "Milliseconds between two vouchers, 250 to 10000; read again at SIGHUP [default: 1000]";
    GRACE_MS = "grace-ms", Integer "N":
        "How far a viewer's payments may be behind before media stops; read again at SIGHUP [default: 3000]";
    EXPOSURE_SECONDS = "exposure-seconds", Integer "N":
        "Unreserved money that is borne for a pool, in seconds of its rate; read again at SIGHUP [default: 10]";
    MIN_SHARE_BPS = "min-share-bps", Integer "N":
        "Streams whose split leaves the relay less, in 1/10000, are refused; read again at SIGHUP [default: 0]";
    WHOLESALE_PER_GB = "wholesale-per-gb", Text "SUT":
        "What other relays pay for a GB fetched here; read again at SIGHUP [default: 0]";
    SERVE_FREE = "serve-free", List "ACCOUNT":
        "Creator whose ticket holders watch without paying the relay, repeatable; read again at SIGHUP";
    SESSIONS_MAX = "sessions-max", Integer "N":
        "Sessions at one time; read again at SIGHUP [default: 8192 for each shard]";
    SERVER = "server", Switch "bool":
        "Serve /nodes and the WebRTC coordinator under /webrtc (default: false; true with dev and as role coordinator)";
    NO_WEBRTC = "no-webrtc", Switch "bool":
        "Disable WebRTC coordinator";
    STUN = "stun", List "url":
        "Add STUN server (default: stun.l.google.com:19302)";
    TURN = "turn", List "url":
        "Add TURN server (format: turn:user:pass@host:port)";
    AUTO_WEBRTC = "auto-webrtc", Answer "bool":
        "Auto-connect to coordinator (default: true)";
    SEED = "seed", List "url":
        "Node whose /nodes leads to a coordinator and to other nodes, repeatable";
    TURN_SECRET = "turn-secret", Text "FILE":
        "Secret that the TURN servers share (coturn's static-auth-secret): each join gets a password of an hour";
    COORDINATOR_MODE = "coordinator-mode", Text "MODE":
        "Who may join: open, signed, or required, which wants every offer signed too (default: signed; open with dev)";
    NETWORK_ID = "network-id", Text "ID":
        "Name of the network, which joins sign (default: connected with a --seed, else standalone)";
    PUBLIC_URL = "public-url", Text "URL":
        "Where peers reach this node's HTTP (default: as they asked, by the Host header)";
    CORS = "cors", List "ORIGIN":
        "Origin whose pages may use /webrtc and /nodes, repeatable (default: *, all)";
    TRUSTED_PROXIES = "trusted-proxies", List "IP":
        "Reverse proxy whose Forwarded and X-Forwarded-For headers are believed, an address or a network such as 10.0.0.0/8, repeatable (default: none)";
    ROOM_PEERS_MAX = "room-peers-max", Integer "N":
        "Peers in a room, 2 to 10000 (default: 50)";
    PEER_ROOMS_MAX = "peer-rooms-max", Integer "N":
        "Rooms of a peer, 1 to 1024 (default: 32)";
    ROOMS_MAX = "rooms-max", Integer "N":
        "Rooms in all, 8 to 1000000 (default: 10000)";
    SIGNALS_PER_SECOND = "signals-per-second", Integer "N":
        "Signals of a node, four times as many at once; 1 to 100000 (default: 50)";
    JOINS_PER_MINUTE = "joins-per-minute", Integer "N":
        "Joins of a node, twice as many at once; 1 to 100000 (default: 10)";
    ADDRESS_CONNECTIONS_MAX = "address-connections-max", Integer "N":
        "WebSockets and waiting polls from one address, 1 to 1000000 (default: 64)";
    HEARTBEAT_MS = "heartbeat-ms", Integer "N":
        "How often a peer shows that it is there, 100 to 20000 (default: 15000)";
    STALE_MS = "stale-ms", Integer "N":
        "A peer that is silent for so long is gone, 200 to 600000 (default: 30000)";
    LOG = "log", Text "FILTER":
        "Which log lines: a level, and target=level for parts, separated by commas; read again at SIGHUP [default: info, less for what peers do wrong]";
    LOG_FORMAT = "log-format", Text "FORMAT":
        "Log lines as text or json; read again at SIGHUP [default: text]";
}

/// What the help says above the settings of the coordinator.
pub const WEBRTC_HEADING: &str = "WebRTC Options (Server Mode)";

/// The settings of the coordinator and of those who look for one.
pub static WEBRTC: [&Key; 20] = [
    &SERVER,
    &NO_WEBRTC,
    &STUN,
    &TURN,
    &AUTO_WEBRTC,
    &SEED,
    &TURN_SECRET,
    &COORDINATOR_MODE,
    &NETWORK_ID,
    &PUBLIC_URL,
    &CORS,
    &TRUSTED_PROXIES,
    &ROOM_PEERS_MAX,
    &PEER_ROOMS_MAX,
    &ROOMS_MAX,
    &SIGNALS_PER_SECOND,
    &JOINS_PER_MINUTE,
    &ADDRESS_CONNECTIONS_MAX,
    &HEARTBEAT_MS,
    &STALE_MS,
];

/// The key with this name or alias.
pub fn find(name: &str) -> Option<&'static Key> {
    ALL.iter().copied().find(|key| key.names().any(|known| known == name))
}

/// The known name that a person most likely meant.
pub fn suggest(name: &str) -> Option<&'static str> {
    const LIKENESS_MIN: f64 = 0.75;
    let wanted = name.replace('_', "-").to_lowercase();
    ALL.iter()
        .flat_map(|key| key.names())
        .map(|known| (strsim::jaro_winkler(known, &wanted), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_means_one_key_in_kebab_case() {
        let names: Vec<_> = ALL.iter().flat_map(|key| key.names()).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
        assert_eq!(find("data-dir"), Some(&HOME));
        assert_eq!(find("udp_port"), None);
        assert_eq!(Key::env_name("udp-port"), "SUTANTRA_UDP_PORT");
    }

    #[test]
    fn a_slip_of_the_finger_is_understood_and_nonsense_is_not() {
        assert_eq!(suggest("udp_port"), Some("udp-port"));
        assert_eq!(suggest("udpport"), Some("udp-port"));
        assert_eq!(suggest("shard"), Some("shards"));
        assert_eq!(suggest("tls_crt"), Some("tls-cert"));
        assert_eq!(suggest("quux"), None);
    }
}
