//! Configuration: flags, environment and file become one validated [`Config`], once, at start.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub mod chain;
pub mod coordination;
pub mod endpoints;
mod error;
pub mod file;
pub mod home;
pub mod keys;
mod layers;
pub mod money;
pub mod stamp;

use chain::{ChainConfig, Role};
use coordination::CoordinatorConfig;
pub use error::{ConfigError, Origin};
use keys::Key;
use layers::{Layers, default_home, quote};
use money::MoneyLimits;
use sfu::Runs;
use sfu::limits::SESSIONS_PER_SHARD_MAX;
pub use sfu::limits::SHARDS_MAX;
use tracing_subscriber::EnvFilter;

/// Longest time that a shard may gather, microseconds: beyond it people see the delay.
pub const GATHER_US_MAX: u64 = 1000;
/// Host candidates of an answer; each costs every viewer a connectivity check.
pub const MEDIA_IPS_MAX: usize = 16;
/// What the log says unless told otherwise. str0m warns about what peers do wrong, which any peer
/// could fill a disk with; it is counted in the metrics instead.
pub const LOG_DEFAULT: &str =
    "info,str0m=error,str0m_proto=error,is=error,dimpl=error,sctp_proto=error";
/// Name of the configuration file in the home.
pub const FILE_NAME: &str = "sutantra.toml";

/// What the node does, valid by construction and passed down by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Keys, certificates, revocations.
    pub home: PathBuf,
    /// Nobody chose the home: it may be moved if it cannot be written.
    pub home_is_default: bool,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// The one UDP port of media; 0 = a free one.
    pub udp_port: u16,
    /// Addresses told to peers; empty = those of the host's interfaces.
    pub media_ips: Vec<IpAddr>,
    /// 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Pin each shard to a core.
    pub pin: bool,
    /// How datagrams pass the kernel.
    pub link: Link,
    /// Play the demo stream.
    pub demo: bool,
    /// No token is needed.
    pub open: bool,
    /// Plain HTTP or HTTPS.
    pub tls: TlsChoice,
    /// 0 to [`GATHER_US_MAX`] microseconds.
    pub gather: Duration,
    /// How packets become messages.
    pub runs: Runs,
    /// Run a chain, on which streams have prices.
    pub chain: bool,
    /// Which part the node plays there, and with whom.
    pub on_chain: ChainConfig,
    /// What is asked of those who pay.
    pub money: MoneyLimits,
    /// Sessions at one time.
    pub sessions_max: usize,
    /// Where the chain's RPC listens besides `/rpc` of HTTP; `None`: at its usual port, if that is
    /// free.
    pub rpc: Option<SocketAddr>,
    /// The faucet serves other machines too.
    pub faucet_public: bool,
    /// Rooms and signalling for peers.
    pub coordinator: CoordinatorConfig,
    /// Socket of a foreign decision source.
    pub decisions: Option<PathBuf>,
    /// Which log lines there are, as `tracing_subscriber` reads it.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
}

/// Which link the shards use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}

/// How HTTP is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsChoice {
    /// Plain HTTP.
    Plain,
    /// HTTPS with the operator's certificate.
    Files {
        /// PEM chain.
        cert: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
    /// HTTPS with a certificate of the node's own authority.
    Lan,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Flags as given: key name to values.
pub type Flags = BTreeMap<&'static str, Vec<String>>;

/// What surrounds the process; an argument, so that tests have a world of their own.
pub struct Surroundings<'a> {
    /// An environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Text of a file: `Ok(None)` if there is none.
    pub read_file: &'a dyn Fn(&Path) -> std::io::Result<Option<String>>,
    /// Processor cores.
    pub cores: usize,
    /// As `dev` does unless told otherwise: with the demo stream, and a coordinator for everybody.
    pub development: bool,
}

/// The configuration and where each value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// To run with.
    pub config: Config,
    /// (key, value as TOML or `None` where unset, origin), in the order of [`keys::ALL`].
    pub rows: Vec<(&'static Key, Option<String>, Origin)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Flag before environment before file before default; all errors, not only the first.
pub fn resolve(
    flags: &Flags,
    config_file: Option<&Path>,
    around: &Surroundings,
) -> Result<Resolved, Vec<ConfigError>> {
    let mut layers = Layers::new(flags, around.env);
    // The home decides where the file lies, so it is known before the file is read.
    let home_before_file = layers.home(around.env)?;
    let (path, must_exist) = match config_file {
        Some(path) => (path.to_owned(), true),
        None => match (around.env)("SUTANTRA_CONFIG") {
            Some(path) => (PathBuf::from(path), true),
            None => (home_before_file.join(FILE_NAME), false),
        },
    };
    let unreadable = |reason| vec![ConfigError::Unreadable { path: path.clone(), reason }];
    let file = match (around.read_file)(&path) {
        Ok(Some(text)) => Some(text),
        Ok(None) if must_exist => return Err(unreadable("there is no such file".to_owned())),
        Ok(None) => None,
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if let Some(text) = &file {
        layers.add_file(&path, file::parse(&path, text)?, must_exist);
    }
    layers.finish(around, file.map(|_| path))
}

impl Layers {
    /// All settings, read one after the other.
    fn finish(
        mut self,
        around: &Surroundings,
        file: Option<PathBuf>,
    ) -> Result<Resolved, Vec<ConfigError>> {
        let default_home = default_home(around.env).unwrap_or_default();
        let home_is_default = !self.given.contains_key(keys::HOME.name);
        let http_is_default = !self.given.contains_key(keys::HTTP.name);
        let quoted = |value: &dyn fmt::Display| Some(quote(&value.to_string()));

        let home = self.one(
            &keys::HOME,
            default_home,
            |home| Some(quote(&home.to_string_lossy())),
            |text| if text.is_empty() { Err("give a directory".into()) } else { Ok(text.into()) },
        );
        let lan = self.switch(&keys::LAN);
        let http_default = if lan {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
        };
        let http = self.one(&keys::HTTP, http_default, |v| quoted(v), parse_http);
        let udp_port = self.one(
            &keys::UDP_PORT,
            7443,
            |v| Some(v.to_string()),
            |text| text.parse().map_err(|_| "a UDP port is 0 to 65535".to_owned()),
        );
        let media_ips = self.media_ips();
        let shards = self.one(
            &keys::SHARDS,
            around.cores.saturating_sub(1).clamp(1, SHARDS_MAX),
            |v| Some(v.to_string()),
            |text| match text.parse() {
                Ok(shards @ 1..=SHARDS_MAX) => Ok(shards),
                _ => Err(format!("between 1 and {SHARDS_MAX} shards")),
            },
        );
        let pin = self.switch(&keys::PIN);
        let link = self.one(
            &keys::LINK,
            Link::Auto,
            |link| {
                quoted(&match link {
                    Link::Auto => "auto",
                    Link::IoUring => "io_uring",
                    Link::Epoll => "epoll",
                })
            },
            |text| match text {
                "auto" => Ok(Link::Auto),
                "io_uring" => Ok(Link::IoUring),
                "epoll" => Ok(Link::Epoll),
                _ => Err("say auto, io_uring or epoll".to_owned()),
            },
        );
        let demo = !self.switch_or(&keys::NO_DEMO, !around.development);
        let open = self.switch(&keys::OPEN);
        let tls_cert = self.path(&keys::TLS_CERT);
        let tls_key = self.path(&keys::TLS_KEY);
        let gather_us = self.one(
            &keys::GATHER_US,
            1000,
            |v| Some(v.to_string()),
            |text| match text.parse() {
                Ok(us @ 0..=GATHER_US_MAX) => Ok(us),
                _ => Err(format!("0 to {GATHER_US_MAX} microseconds")),
            },
        );
        let runs = Runs {
            gso: self.switch_or(&keys::GSO, true),
            padding: self.switch_or(&keys::PAD, true),
        };
        let decisions = self.one(
            &keys::DECISIONS,
            None,
            |path: &Option<PathBuf>| {
                path.as_ref().map(|path| quote(&format!("unix:{}", path.display())))
            },
            |text| match text.strip_prefix("unix:") {
                Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
                _ => Err("write unix: and the path of a socket".to_owned()),
            },
        );
        let on_chain = chain::read(&mut self);
        let chain_is_default = !self.given.contains_key(keys::CHAIN.name);
        let coordinates = on_chain.role == Role::Coordinator;
        let chain = self.switch_or(&keys::CHAIN, decisions.is_none() && !coordinates);
        if chain && coordinates {
            self.conflict("a coordinator keeps no chain: drop --chain, or say another --role");
        }
        if chain && !chain_is_default && decisions.is_some() {
            self.conflict("--decisions takes the place of the chain: drop one of the two");
        }
        if !chain && on_chain.role == Role::Validator {
            self.conflict("a validator is nothing without the chain: drop --chain=false");
        }
        if chain && on_chain.role == Role::Relay && on_chain.chain_rpc.is_empty() {
            self.conflict(
                "a relay without a state of its own needs the RPC of a chain: give --chain-rpc \
                 twice, or --chain=false for a relay without money",
            );
        }
        let money = money::read(&mut self);
        let sessions_max = self.one(
            &keys::SESSIONS_MAX,
            shards * SESSIONS_PER_SHARD_MAX,
            |v| Some(v.to_string()),
            |text| match text.parse() {
                Ok(sessions) if (1..=SHARDS_MAX * SESSIONS_PER_SHARD_MAX).contains(&sessions) => {
                    Ok(sessions)
                }
                _ => Err(format!("between 1 and {}", SHARDS_MAX * SESSIONS_PER_SHARD_MAX)),
            },
        );
        let rpc = self.one(
            &keys::RPC,
            None,
            |v: &Option<SocketAddr>| v.as_ref().and_then(|v| quoted(v)),
            |text| parse_http(text).map(Some),
        );
        let faucet_public = self.switch(&keys::FAUCET_PUBLIC);
        let coordinator = coordination::read(&mut self, around.development, on_chain.role);
        let log = self.one(
            &keys::LOG,
            LOG_DEFAULT.to_owned(),
            |v| quoted(v),
            |text| match EnvFilter::try_new(text) {
                Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
                _ => Err("a level (error, warn, info, debug, trace), or target=level".to_owned()),
            },
        );
        let log_format = self.one(
            &keys::LOG_FORMAT,
            LogFormat::Text,
            |format| quoted(&if *format == LogFormat::Text { "text" } else { "json" }),
            |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("say text or json".to_owned()),
            },
        );

        let tls = match (tls_cert, tls_key, lan) {
            (None, None, false) => TlsChoice::Plain,
            (None, None, true) => TlsChoice::Lan,
            (Some(cert), Some(key), false) => TlsChoice::Files { cert, key },
            (Some(_), Some(_), true) => {
                self.conflict("--lan makes a certificate of its own: drop --tls-cert and --tls-key, or drop --lan");
                TlsChoice::Plain
            }
            (Some(_), None, _) => {
                self.conflict("--tls-cert needs its private key: add --tls-key FILE");
                TlsChoice::Plain
            }
            (None, Some(_), _) => {
                self.conflict("--tls-key needs its certificate: add --tls-cert FILE");
                TlsChoice::Plain
            }
        };
        if lan && !http_is_default && http.ip().is_loopback() {
            self.conflict(&format!(
                "--lan serves other machines, which cannot reach --http {http}: drop --http or bind 0.0.0.0"
            ));
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let gather = Duration::from_micros(gather_us);
        let config = Config {
            home,
            home_is_default,
            http,
            udp_port,
            media_ips,
            shards,
            pin,
            link,
            demo,
            open,
            tls,
            gather,
            runs,
            chain,
            on_chain,
            money,
            sessions_max,
            rpc,
            faucet_public,
            coordinator,
            decisions,
            log,
            log_format,
        };
        assert_eq!(self.rows.len(), keys::ALL.len(), "every key is read once");
        self.rows.sort_by_key(|(key, ..)| keys::ALL.iter().position(|known| known == key));
        Ok(Resolved { config, rows: self.rows, file })
    }

    fn media_ips(&mut self) -> Vec<IpAddr> {
        self.list(&keys::MEDIA_IP, MEDIA_IPS_MAX, |text| match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                Err("no peer can send to it".to_owned())
            }
            Ok(ip) => Ok(ip),
            Err(_) => Err("an IPv4 or IPv6 address, without a port".to_owned()),
        })
    }
}

fn parse_http(text: &str) -> Result<SocketAddr, String> {
    // People write `localhost:8080` and `:8080`; names that need a resolver are not taken.
    if let Some(port) = text.strip_prefix("localhost:") {
        return parse_http(&format!("127.0.0.1:{port}"));
    }
    text.parse()
        .map_err(|_| "an address with a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// The effective configuration as a file that could be read again, each origin beside its value.
pub fn render(resolved: &Resolved) -> String {
    let lines = resolved.rows.iter().map(|(key, value, origin)| match value {
        Some(value) => (format!("{} = {value}", key.name), origin.to_string()),
        None => (format!("# {} is not set", key.name), String::new()),
    });
    let lines: Vec<_> = lines.collect();
    let width = lines.iter().map(|(text, _)| text.len()).filter(|w| *w <= 48).max().unwrap_or(0);
    let mut out = String::new();
    for (text, origin) in lines {
        match origin.as_str() {
            "" => out.push_str(&format!("{text}\n")),
            _ => out.push_str(&format!("{text:width$}  # {origin}\n")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
