//! Server processes that a comparison starts itself, and ends itself.

mod janus;
mod livekit;
pub mod process;
pub mod programs;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use self::process::{Home, Process};
use crate::http::Base;
use crate::signal::Target;
use crate::signal::livekit::Access;

/// How long a server may take to answer its first request.
const READY_MAX: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The relay under test.
    Node(NodeOptions),
    /// [`crate::reference`].
    Reference,
    /// LiveKit, configured for one machine.
    LiveKit,
    /// Janus with its videoroom, two event loops.
    Janus,
}

/// How the relay is started; what is `None` is its own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// `io_uring` or `epoll`.
    pub link: Option<String>,
    /// Media threads.
    pub shards: Option<usize>,
    /// Gathering budget of a tick, µs.
    pub gather_us: Option<u32>,
    /// More arguments, as they are typed.
    pub more: Vec<String>,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Node(options) => options.fmt(f),
            Kind::Reference => f.write_str("plain str0m"),
            Kind::LiveKit => f.write_str("LiveKit"),
            Kind::Janus => f.write_str("Janus"),
        }
    }
}

impl std::fmt::Display for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("relay")?;
        if let Some(link) = &self.link {
            write!(f, ", {link}")?;
        }
        match self.shards {
            Some(1) => f.write_str(", 1 shard")?,
            Some(shards) => write!(f, ", {shards} shards")?,
            None => {}
        }
        if let Some(us) = self.gather_us {
            write!(f, ", gather {us} µs")?;
        }
        match &*self.more {
            [] => Ok(()),
            more => write!(f, ", {}", more.join(" ")),
        }
    }
}

/// Has a command's child start in another network namespace.
pub type Adopt<'a> = &'a dyn Fn(&mut Command) -> io::Result<()>;

/// Where a server is started.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its address, for HTTP and media; one of its namespace.
    pub address: IpAddr,
    /// None for the namespace of the caller.
    pub adopt: Option<Adopt<'a>>,
}

impl Place<'_> {
    /// The caller's own loopback interface.
    pub const LOOPBACK: Self = Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), adopt: None };

    /// This machine's address towards others, for a server that takes no loopback address; `None`
    /// where it has none. What is sent there from this machine does not leave it.
    pub fn of_machine() -> Option<Self> {
        // Connecting a UDP socket sends nothing: it asks the kernel for the route. The address is
        // one for documentation (RFC 5737).
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        Some(Self { address, adopt: None })
    }
}

/// A running server with a home of its own, removed with it.
pub struct Server {
    /// What clients speak to.
    pub target: Target,
    process: Process,
}

impl Server {
    /// Starts `program` as a `kind` and waits until it answers.
    ///
    /// # Errors
    /// It does not start there, ends, or stays silent: told with the end of its log.
    pub fn start(kind: &Kind, program: &Path, place: Place<'_>) -> anyhow::Result<Self> {
        Self::try_start(kind, program, place).with_context(|| format!("starting {kind}"))
    }

    fn try_start(kind: &Kind, program: &Path, place: Place<'_>) -> anyhow::Result<Self> {
        let (process, target) = Self::spawn(kind, program, place)?;
        let mut server = Self { target, process };
        server.wait_ready(kind)?;
        Ok(server)
    }

    fn spawn(kind: &Kind, program: &Path, place: Place<'_>) -> anyhow::Result<(Process, Target)> {
        let own = Home::new("sutantra-bench")?;
        let home = own.path();
        let (http, udp) = free_ports()?;
        let http = SocketAddr::new(place.address, http);
        let base = Base::parse(&format!("http://{http}"))?;
        let mut command = Command::new(program);
        let target = match kind {
            Kind::Node(options) => {
                options.add_to(&mut command);
                command.arg("--home").arg(home).args(["--media-ip", &place.address.to_string()]);
                command.args(["--http", &http.to_string(), "--udp-port", &udp.to_string()]);
                Target::Whip(base)
            }
            Kind::Reference => {
                command.args(["reference-sfu", "--http", &http.to_string()]);
                command.args(["--udp-port", &udp.to_string()]);
                Target::Whip(base)
            }
            Kind::LiveKit => {
                let access =
                    Access { base, key: livekit::KEY.into(), secret: livekit::SECRET.into() };
                let file = home.join("livekit.yaml");
                std::fs::write(&file, livekit::configuration(http))?;
                command.arg("--config").arg(file);
                Target::LiveKit(access)
            }
            Kind::Janus => {
                for (name, text) in janus::configuration(home, http)? {
                    std::fs::write(home.join(name), text)?;
                }
                command.arg("-F").arg(home);
                Target::Janus(base)
            }
        };
        if let Some(adopt) = place.adopt {
            adopt(&mut command).context("into its network namespace")?;
        }
        let process = Process::start(command, own);
        Ok((process.with_context(|| program.display().to_string())?, target))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The last lines that it said.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    fn wait_ready(&mut self, kind: &Kind) -> anyhow::Result<()> {
        let path = match kind {
            Kind::Node(_) => "/readyz",
            // The plain SFU knows no such path, but answers.
            Kind::Reference | Kind::LiveKit => "/",
            Kind::Janus => "/janus/info",
        };
        let base = self.target.base();
        self.process.wait(READY_MAX, "it does not answer", || {
            let answer = base.request("GET", path, None, "");
            answer.is_ok_and(|answer| answer.status != 503)
        })
    }
}

impl NodeOptions {
    fn add_to(&self, command: &mut Command) {
        // Without a chain: the others have none to pay for.
        command.args(["dev", "--open", "--no-demo", "--chain=false"]);
        if let Some(link) = &self.link {
            command.args(["--link", link]);
        }
        if let Some(shards) = self.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        if let Some(us) = self.gather_us {
            command.args(["--gather-us", &us.to_string()]);
        }
        command.args(&self.more);
    }
}

/// A TCP and a UDP port that are free at this moment.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (tcp, udp) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
    Ok((tcp.local_addr()?.port(), udp.local_addr()?.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_last_words() {
        let kind = Kind::Node(NodeOptions { link: Some("epoll".into()), ..Default::default() });
        let error = Server::start(&kind, Path::new("/bin/false"), Place::LOOPBACK).err();
        let error = format!("{:#}", error.expect("it cannot start"));
        assert!(
            error.starts_with("starting relay, epoll: it ended with exit status: 1"),
            "{error}"
        );
    }

    #[test]
    fn a_server_that_is_not_there_is_told_by_its_name() {
        let error = Server::start(&Kind::LiveKit, Path::new("/no/such"), Place::LOOPBACK).err();
        let error = format!("{:#}", error.expect("it cannot start"));
        assert!(error.starts_with("starting LiveKit: /no/such: No such file"), "{error}");
    }

    #[test]
    fn options_are_told_in_the_table() {
        let name = |options| Kind::Node(options).to_string();
        assert_eq!(name(NodeOptions::default()), "relay");
        let options = NodeOptions {
            link: Some("io_uring".into()),
            shards: Some(2),
            gather_us: Some(0),
            more: vec!["--gso".into(), "off".into()],
        };
        assert_eq!(name(options), "relay, io_uring, 2 shards, gather 0 µs, --gso off");
    }
}
