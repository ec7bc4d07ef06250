//! Server processes that a comparison starts itself, and ends itself.

mod janus;
mod livekit;
pub mod programs;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::http::Base;
use crate::signal::Target;
use crate::signal::livekit::Access;

/// How long a server may take to answer its first request.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(8);
/// Lines of its log shown when it fails.
const LOG_LINES: usize = 8;

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
    child: Child,
    home: PathBuf,
}

/// Homes made by this process.
static HOMES: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts `program` as a `kind` and waits until it answers.
    ///
    /// # Errors
    /// It does not start there, ends, or stays silent: told with the end of its log.
    pub fn start(kind: &Kind, program: &Path, place: Place<'_>) -> anyhow::Result<Self> {
        Self::try_start(kind, program, place).with_context(|| format!("starting {kind}"))
    }

    fn try_start(kind: &Kind, program: &Path, place: Place<'_>) -> anyhow::Result<Self> {
        let number = HOMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("sutantra-bench-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&home)?;
        let started = Self::spawn(kind, program, place, &home);
        let (child, target) = match started {
            Ok(started) => started,
            Err(error) => {
                // What could not be used need not be kept; the error is about something else.
                let _removed = std::fs::remove_dir_all(&home);
                return Err(error);
            }
        };
        let mut server = Self { target, child, home };
        server.wait_ready(kind)?;
        Ok(server)
    }

    fn spawn(
        kind: &Kind,
        program: &Path,
        place: Place<'_>,
        home: &Path,
    ) -> anyhow::Result<(Child, Target)> {
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
        let log = File::create(home.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(adopt) = place.adopt {
            adopt(&mut command).context("into its network namespace")?;
        }
        end_with_parent(&mut command);
        let child = command.spawn().with_context(|| program.display().to_string())?;
        Ok((child, target))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it said.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.home.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn wait_ready(&mut self, kind: &Kind) -> anyhow::Result<()> {
        let path = match kind {
            Kind::Node(_) => "/readyz",
            // The plain SFU knows no such path, but answers.
            Kind::Reference | Kind::LiveKit => "/",
            Kind::Janus => "/janus/info",
        };
        let until = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            let answer = self.target.base().request("GET", path, None, "");
            if answer.is_ok_and(|answer| answer.status != 503) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("it does not answer:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Has the child be killed when the thread that starts it ends, however that happens: a comparison
/// that is killed leaves no server behind.
fn end_with_parent(command: &mut Command) {
    let die_with_us = || {
        // SAFETY: takes two integers, no memory; it may be called between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(die_with_us) };
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

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: no memory is involved; the process is our child and not yet waited for, so its id
        // is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // After a drain in time both are without effect.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.home);
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
