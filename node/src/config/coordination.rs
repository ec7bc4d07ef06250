//! How peers find each other through this node, and whom it shows them to.

use std::{fmt, path::PathBuf, str::FromStr};

use coordinator::{Mode, Network, STUN_DEFAULT};

use super::{Layers, chain::Role, keys, quote};

/// STUN servers, TURN servers, seeds, origins and proxies that may be named.
const SERVERS_MAX: usize = 16;
/// Rarer signs of life, and HTTP would take a connection for dead (`tls::SILENCE_MAX`).
const HEARTBEAT_MS_MAX: u32 = 20_000;
/// Longest name of a network; it stands in what every join signs.
const NETWORK_ID_BYTES_MAX: usize = 64;

/// What the node does for peers that talk to each other directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// What is served.
    pub service: Service,
    /// `stun:host:port`, told to peers.
    pub stun: Vec<String>,
    /// Relays for peers that no path joins.
    pub turn: Vec<Turn>,
    /// File of the secret by which passwords for those are made.
    pub turn_secret: Option<PathBuf>,
    /// A node with a seed joins its coordinator by itself.
    pub auto_webrtc: bool,
    /// Nodes that were known before, base addresses without a slash at their end.
    pub seeds: Vec<String>,
    /// Who may join.
    pub mode: Mode,
    /// The network's name as configured; `None`: whether there are seeds says it.
    pub network_id: Option<String>,
    /// Base address for peers, without a slash at its end; `None`: as they asked.
    pub public_url: Option<String>,
    /// Origins whose pages may ask; `*` is all.
    pub cors: Vec<String>,
    /// Whose word is taken for the address of a client.
    pub trusted_proxies: Vec<Network>,
    /// How much of everything.
    pub limits: SignalLimits,
}

/// What of the server mode there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Nothing.
    Off,
    /// `/nodes` alone, which says that there is no coordinator.
    Nodes,
    /// `/nodes` and `/webrtc`.
    Coordinator,
}

/// Bounds that an operator may want otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalLimits {
    /// Peers in a room.
    pub room_peers_max: usize,
    /// Rooms of a peer.
    pub peer_rooms_max: usize,
    /// Rooms in all.
    pub rooms_max: usize,
    /// Signals of a node.
    pub signals_per_second: u32,
    /// Joins of a node.
    pub joins_per_minute: u32,
    /// Connections of an address.
    pub address_connections_max: usize,
    /// Between two signs of life, ms.
    pub heartbeat_ms: u32,
    /// Silence after which a peer is gone, ms.
    pub stale_ms: u32,
}

/// A TURN server as operators write it: `turn:user:pass@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `turn:host:port`, as browsers take it (RFC 7065).
    pub urls: String,
    /// User and password; `None`: they are made from the shared secret.
    pub login: Option<(String, String)>,
}

impl FromStr for Turn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write turn:USER:PASSWORD@HOST:PORT (turns: for TLS, ?transport=tcp at its end for TCP)"
                .to_owned()
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        if !matches!(scheme, "turn" | "turns") {
            return Err(wrong());
        }
        // A password may hold an `@`; a host cannot.
        let (login, server) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, server)) => {
                let (user, password) = login.split_once(':').ok_or_else(wrong)?;
                if user.is_empty() || password.is_empty() {
                    return Err(wrong());
                }
                (Some((user.to_owned(), password.to_owned())), server)
            }
        };
        let (at, transport) = match server.split_once('?') {
            None => (server, ""),
            Some((at, "transport=tcp" | "transport=udp")) => (at, &server[at.len()..]),
            Some(_) => return Err(wrong()),
        };
        is_host(at)
            .then(|| Self { urls: format!("{scheme}:{at}{transport}"), login })
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.login, self.urls.split_once(':')) {
            (Some((user, password)), Some((scheme, server))) => {
                write!(f, "{scheme}:{user}:{password}@{server}")
            }
            (None, _) | (_, None) => f.write_str(&self.urls),
        }
    }
}

/// `host`, `host:port`, `[::1]:port`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, "")) => (ip, None),
            Some((ip, port)) => (ip, Some(port.strip_prefix(':').unwrap_or(""))),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    !host.is_empty()
        && host.bytes().all(of_host)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// `stun:host`, with a port or the usual one (RFC 7064), or `host:port`.
fn stun(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("stun" | "stuns", at)) if is_host(at) => Ok(text.to_owned()),
        // A word alone is more likely a mistake than a host.
        Some(_) if is_host(text) => Ok(format!("stun:{text}")),
        Some(_) | None => Err("a STUN server is stun:HOST:PORT or HOST:PORT, such as \
                               stun:stun.l.google.com:19302"
            .to_owned()),
    }
}

/// A base address without a slash at its end.
fn base_url(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    let host = bare.strip_prefix("http://").or_else(|| bare.strip_prefix("https://"));
    match host.map(|host| host.split_once('/').map_or(host, |(host, _)| host)) {
        Some(host) if is_host(host) => Ok(bare.to_owned()),
        Some(_) | None => Err("an address such as http://192.0.2.1:8080".to_owned()),
    }
}

/// Reads them; `development`: as `dev` wants it unless told otherwise.
pub(super) fn read(layers: &mut Layers, development: bool, role: Role) -> CoordinatorConfig {
    let server = layers.switch_or(&keys::SERVER, development || role == Role::Coordinator);
    let off = layers.switch(&keys::NO_WEBRTC);
    if role == Role::Coordinator && (off || !server) {
        layers.conflict(
            "a coordinator does nothing else: drop --no-webrtc and --server=false, or say another --role",
        );
    }
    let stun = layers.list_or(&keys::STUN, SERVERS_MAX, &[STUN_DEFAULT], stun);
    let turn: Vec<Turn> = layers.list(&keys::TURN, SERVERS_MAX, str::parse);
    let turn_secret = layers.path(&keys::TURN_SECRET);
    if turn_secret.is_none()
        && let Some(open) = turn.iter().find(|turn| turn.login.is_none())
    {
        layers.conflict(&format!(
            "--turn {open} names no user: write turn:USER:PASSWORD@HOST:PORT, or give --turn-secret FILE"
        ));
    }
    let mode_default = if development { Mode::Open } else { Mode::Signed };
    CoordinatorConfig {
        service: match (server, off) {
            (false, _) => Service::Off,
            (true, true) => Service::Nodes,
            (true, false) => Service::Coordinator,
        },
        stun,
        turn,
        turn_secret,
        auto_webrtc: layers.switch_or(&keys::AUTO_WEBRTC, true),
        seeds: layers.list(&keys::SEED, SERVERS_MAX, base_url),
        mode: layers.one(
            &keys::COORDINATOR_MODE,
            mode_default,
            |mode| Some(quote(mode.as_str())),
            |text| text.parse().map_err(|_| "say open, signed or required".to_owned()),
        ),
        network_id: layers.one(
            &keys::NETWORK_ID,
            None,
            |id: &Option<String>| id.as_deref().map(quote),
            |text| {
                let of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
                match (1..=NETWORK_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(of_id) {
                    true => Ok(Some(text.to_owned())),
                    false => Err("1 to 64 letters, digits, dots, dashes, colons".to_owned()),
                }
            },
        ),
        public_url: layers.one(
            &keys::PUBLIC_URL,
            None,
            |url: &Option<String>| url.as_deref().map(quote),
            |text| base_url(text).map(Some),
        ),
        cors: layers.list_or(&keys::CORS, SERVERS_MAX, &["*"], |text| match text {
            "*" => Ok(text.to_owned()),
            _ => match base_url(text) {
                Ok(origin) if !origin[8..].contains('/') => Ok(origin),
                Ok(_) | Err(_) => Err("an origin, such as https://example.org, or *".to_owned()),
            },
        }),
        trusted_proxies: layers.list(&keys::TRUSTED_PROXIES, SERVERS_MAX, |text| {
            text.parse().map_err(|_| "an address, or a network such as 10.0.0.0/8".to_owned())
        }),
        limits: limits(layers),
    }
}

fn limits(layers: &mut Layers) -> SignalLimits {
    fn number(
        layers: &mut Layers,
        key: &'static keys::Key,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        layers.one(
            key,
            default,
            |value| Some(value.to_string()),
            |text| match text.parse() {
                Ok(value) if range.contains(&value) => Ok(value),
                _ => Err(format!("{} to {}", range.start(), range.end())),
            },
        )
    }
    let size = |value: u32| usize::try_from(value).expect("32 bits fit");
    let limits = SignalLimits {
        room_peers_max: size(number(layers, &keys::ROOM_PEERS_MAX, 50, 2..=10_000)),
        peer_rooms_max: size(number(layers, &keys::PEER_ROOMS_MAX, 32, 1..=1024)),
        rooms_max: size(number(layers, &keys::ROOMS_MAX, 10_000, 8..=1_000_000)),
        signals_per_second: number(layers, &keys::SIGNALS_PER_SECOND, 50, 1..=100_000),
        joins_per_minute: number(layers, &keys::JOINS_PER_MINUTE, 10, 1..=100_000),
        address_connections_max: size(number(
            layers,
            &keys::ADDRESS_CONNECTIONS_MAX,
            64,
            1..=1_000_000,
        )),
        heartbeat_ms: number(layers, &keys::HEARTBEAT_MS, 15_000, 100..=HEARTBEAT_MS_MAX),
        stale_ms: number(layers, &keys::STALE_MS, 30_000, 200..=600_000),
    };
    if limits.stale_ms < 2 * limits.heartbeat_ms {
        layers.conflict(&format!(
            "--stale-ms {} is less than two heartbeats of {} ms: a single lost one would end a peer",
            limits.stale_ms, limits.heartbeat_ms
        ));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, urls: &str, login: Option<(&str, &str)>) {
        let turn: Turn = text.parse().expect("a right one");
        assert_eq!(turn.urls, urls);
        assert_eq!(turn.login.as_ref().map(|(user, word)| (user.as_str(), word.as_str())), login);
        assert_eq!(turn.to_string(), text);
    }

    /// R84
    #[test]
    fn a_turn_server_is_taken_as_s4_writes_it_and_told_as_browsers_take_it() {
        check("turn:ada:pass@turn.example:3478", "turn:turn.example:3478", Some(("ada", "pass")));
        check("turn:ada:p@s:s@192.0.2.1:1", "turn:192.0.2.1:1", Some(("ada", "p@s:s")));
        check("turns:a:b@[2001:db8::1]:5349", "turns:[2001:db8::1]:5349", Some(("a", "b")));
        let tcp = "turn:a:b@host:3478?transport=tcp";
        check(tcp, "turn:host:3478?transport=tcp", Some(("a", "b")));
        check("turn:host", "turn:host", None);
        for wrong in [
            "",
            "turn:",
            "stun:h:1",
            "turn:user@host:1",
            "turn::p@h:1",
            "turn:u:@h:1",
            "turn:u:p@",
            "turn:u:p@h:0",
            "turn:u:p@h:x",
            "turn:u:p@h:1?transport=sctp",
            "turn:u:p@h h:1",
        ] {
            assert!(wrong.parse::<Turn>().is_err(), "{wrong} is taken");
        }
    }

    #[test]
    fn servers_and_addresses_are_taken_as_people_write_them() {
        assert_eq!(stun("stun.l.google.com:19302").as_deref(), Ok(STUN_DEFAULT));
        assert_eq!(stun(STUN_DEFAULT).as_deref(), Ok(STUN_DEFAULT));
        assert_eq!(stun("stuns:h:5349").as_deref(), Ok("stuns:h:5349"));
        assert_eq!(stun("[::1]:3478").as_deref(), Ok("stun:[::1]:3478"));
        assert_eq!(stun("stun:h").as_deref(), Ok("stun:h"));
        for wrong in ["", "stun:", "junk", "a.b", "http://a", "a b", "a:99999", "[::1", "u@h:1"] {
            assert!(stun(wrong).is_err(), "{wrong} is taken");
        }
        assert_eq!(base_url("http://a:1/").as_deref(), Ok("http://a:1"));
        assert_eq!(base_url("https://a/under").as_deref(), Ok("https://a/under"));
        for wrong in ["", "a:1", "http://", "ws://a", "http:///a", "http://a b"] {
            assert!(base_url(wrong).is_err(), "{wrong} is taken");
        }
    }
}
