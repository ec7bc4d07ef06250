//! What a coordinator is told when it starts, checked once.

use std::fmt;
use std::str::FromStr;

use crate::identity::is_node_id;
use crate::limits::Limits;
use crate::ports::Ports;
use crate::proxies::Network;
use crate::wire::IceServer;

/// The STUN server that is named where none was configured.
pub const STUN_DEFAULT: &str = "stun:stun.l.google.com:19302";

/// Who may call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Anybody, by any id; an id that is a key's needs its signature.
    Open,
    /// Whoever signed a join; every call needs the session.
    #[default]
    Signed,
    /// As [`Mode::Signed`], and offers and answers must carry `fpSig`.
    Required,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Signed => "signed",
            Self::Required => "required",
        }
    }
}

impl FromStr for Mode {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "signed" => Ok(Self::Signed),
            "required" => Ok(Self::Required),
            _ => Err(OptionsError::Mode(text.to_owned())),
        }
    }
}

/// A TURN server, with what a client needs for it unless a shared secret makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `turn:host:port`, or with `?transport=tcp`, or `turns:`.
    pub url: String,
    pub username: Option<String>,
    pub credential: Option<String>,
}

impl Turn {
    /// As `/nodes` and `iceServers` say it, with the configured credentials.
    pub fn ice_server(&self) -> IceServer {
        IceServer {
            urls: self.url.clone(),
            username: self.username.clone(),
            credential: self.credential.clone(),
        }
    }
}

/// `turn:user:pass@host:port`, or a plain TURN URL.
impl FromStr for Turn {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || OptionsError::Turn(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        if !matches!(scheme, "turn" | "turns") {
            return Err(bad());
        }
        // A password may hold `@` and `:`; a user name and a host cannot.
        let Some((who, host)) = rest.rsplit_once('@') else {
            if rest.is_empty() {
                return Err(bad());
            }
            return Ok(Self { url: text.to_owned(), username: None, credential: None });
        };
        let (username, credential) = who.split_once(':').ok_or_else(bad)?;
        if host.is_empty() || username.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            url: format!("{scheme}:{host}"),
            username: Some(username.to_owned()),
            credential: Some(credential.to_owned()),
        })
    }
}

/// The secret that the coordinator shares with its TURN servers (coturn: `static-auth-secret`).
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(pub String);

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(..)")
    }
}

/// Which pages of other origins may read the answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cors {
    /// None: the coordinator says nothing, and browsers refuse.
    None,
    /// All. No cookie is used, so nothing is given away that a script could not fetch itself.
    #[default]
    Any,
    /// These origins, as `https://example.org`.
    Origins(Vec<String>),
}

/// All that a coordinator is told.
#[derive(Clone)]
pub struct Options {
    /// Whether `/webrtc/` is served at all; without it every path there is 404, and `/nodes` says so.
    pub enabled: bool,
    /// This node's id, as `/nodes` and `/webrtc/info` say it.
    pub node_id: String,
    /// What joins are signed for. None: `connected` with seeds, else `standalone`.
    pub network_id: Option<String>,
    pub seeds: Vec<String>,
    /// Where clients reach this node, as `https://example.org`. None: what their Host header says.
    pub public_url: Option<String>,
    pub stun_servers: Vec<String>,
    pub turn_servers: Vec<Turn>,
    /// With it, TURN credentials are made for each join and expire.
    pub turn_secret: Option<TurnSecret>,
    pub mode: Mode,
    pub limits: Limits,
    pub cors: Cors,
    /// Whose `Forwarded` and `X-Forwarded-For` are believed. None: an address is who connects.
    pub trusted_proxies: Vec<Network>,
    pub ports: Ports,
}

impl Options {
    /// The defaults for the node of this id.
    pub fn new(node_id: impl Into<String>) -> Self {
        Self {
            enabled: true,
            node_id: node_id.into(),
            network_id: None,
            seeds: Vec::new(),
            public_url: None,
            stun_servers: vec![STUN_DEFAULT.to_owned()],
            turn_servers: Vec::new(),
            turn_secret: None,
            mode: Mode::default(),
            limits: Limits::default(),
            cors: Cors::default(),
            trusted_proxies: Vec::new(),
            ports: Ports::default(),
        }
    }

    /// The network's id: configured, or what the seeds make it.
    pub fn network_id(&self) -> &str {
        match &self.network_id {
            Some(id) => id,
            None if self.seeds.is_empty() => "standalone",
            None => "connected",
        }
    }

    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if !is_node_id(&self.node_id) {
            return Err(OptionsError::NodeId(self.node_id.clone()));
        }
        if self.network_id().is_empty() || self.network_id().contains('\n') {
            return Err(OptionsError::NetworkId);
        }
        if let Some(url) = &self.public_url
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            return Err(OptionsError::PublicUrl(url.clone()));
        }
        if let Some(url) = self.stun_servers.iter().find(|url| !is_stun(url)) {
            return Err(OptionsError::Stun(url.clone()));
        }
        if let Some(turn) = self.turn_servers.iter().find(|turn| !is_turn(&turn.url)) {
            return Err(OptionsError::Turn(turn.url.clone()));
        }
        let limits = &self.limits;
        let lengths = [
            ("room_peers_max", limits.room_peers_max),
            ("peer_rooms_max", limits.peer_rooms_max),
            ("rooms_max", limits.rooms_max),
            ("signal_bytes_max", limits.signal_bytes_max),
            ("queue_signals_max", limits.queue_signals_max),
        ];
        if let Some((name, _)) = lengths.iter().find(|(_, value)| *value == 0) {
            return Err(OptionsError::Zero(name));
        }
        if limits.stale_ms <= limits.heartbeat_ms {
            return Err(OptionsError::Stale);
        }
        Ok(())
    }
}

fn is_stun(url: &str) -> bool {
    ["stun:", "stuns:"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
}

fn is_turn(url: &str) -> bool {
    ["turn:", "turns:"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
}

/// What is wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("node id {0:?} is not 1 to 64 characters of [A-Za-z0-9._:@-]")]
    NodeId(String),
    #[error("the network id must not be empty nor hold a line break")]
    NetworkId,
    #[error("the public URL {0:?} must begin with http:// or https://")]
    PublicUrl(String),
    #[error("STUN server {0:?} is not of the form stun:host:port")]
    Stun(String),
    #[error("TURN server {0:?} is not of the form turn:user:pass@host:port")]
    Turn(String),
    #[error("trusted proxy {0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Proxy(String),
    #[error("mode {0:?} is none of open, signed, required")]
    Mode(String),
    #[error("limit {0} must not be 0")]
    Zero(&'static str),
    #[error("stale_ms must be more than heartbeat_ms, or peers that ping in time are lost")]
    Stale,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R84
    #[test]
    fn a_turn_server_is_written_with_or_without_credentials() {
        #[track_caller]
        fn check(text: &str, want: Option<(&str, Option<(&str, &str)>)>) {
            let got = text.parse::<Turn>().ok();
            let want = want.map(|(url, who)| Turn {
                url: url.to_owned(),
                username: who.map(|(user, _)| user.to_owned()),
                credential: who.map(|(_, pass)| pass.to_owned()),
            });
            assert_eq!(got, want, "{text}");
        }
        check("turn:u:p@h:3478", Some(("turn:h:3478", Some(("u", "p")))));
        check("turn:u:p:a@s@h:3478", Some(("turn:h:3478", Some(("u", "p:a@s")))));
        check("turns:h:5349?transport=tcp", Some(("turns:h:5349?transport=tcp", None)));
        for bad in ["", "turn:", "stun:h", "turn:u@h", "turn::p@h", "turn:u:p@"] {
            check(bad, None);
        }
    }

    /// R55, R69
    #[test]
    fn the_defaults_name_a_stun_server_no_turn_server_and_the_network_by_its_seeds() {
        let mut options = Options::new("a");
        assert_eq!(options.check(), Ok(()));
        assert_eq!(options.stun_servers, [STUN_DEFAULT]);
        assert!(options.turn_servers.is_empty());
        assert_eq!(options.network_id(), "standalone");
        options.seeds.push("http://b".to_owned());
        assert_eq!(options.network_id(), "connected");
        options.network_id = Some("mine".to_owned());
        assert_eq!(options.network_id(), "mine");
    }

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Options), want: OptionsError) {
            let mut options = Options::new("a");
            change(&mut options);
            assert_eq!(options.check(), Err(want));
        }
        check(|options| options.node_id.clear(), OptionsError::NodeId(String::new()));
        check(|options| options.network_id = Some("a\nb".to_owned()), OptionsError::NetworkId);
        check(
            |options| options.public_url = Some("ftp://a".to_owned()),
            OptionsError::PublicUrl("ftp://a".to_owned()),
        );
        check(
            |options| options.stun_servers.push("h".to_owned()),
            OptionsError::Stun("h".to_owned()),
        );
        check(|options| options.limits.rooms_max = 0, OptionsError::Zero("rooms_max"));
        check(|options| options.limits.stale_ms = 15_000, OptionsError::Stale);
    }
}
