//! Server processes that a matrix starts itself, and ends itself.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::http::Base;

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
    Node {
        /// `io_uring` or `epoll`.
        link: String,
        /// Media threads.
        shards: usize,
    },
    /// [`crate::reference`].
    Reference,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Node { link, shards: 1 } => write!(f, "{link}, 1 shard"),
            Kind::Node { link, shards } => write!(f, "{link}, {shards} shards"),
            Kind::Reference => f.write_str("plain str0m"),
        }
    }
}

/// A running server with a home of its own, removed with it.
pub struct Server {
    /// Where it serves.
    pub base: Base,
    child: Child,
    home: PathBuf,
}

impl Server {
    /// Starts `kind` and waits until it answers.
    pub fn start(kind: &Kind, node: &Path) -> anyhow::Result<Self> {
        let (http, udp) = free_ports()?;
        let home = std::env::temp_dir().join(format!("sutantra-bench-{}", std::process::id()));
        std::fs::create_dir_all(&home)?;
        let log = File::create(home.join("log"))?;
        let address = format!("127.0.0.1:{http}");
        let mut command = match kind {
            Kind::Node { link, shards } => {
                let mut command = Command::new(node);
                command.args(["dev", "--open", "--no-demo", "--link", link]);
                command.args(["--shards", &shards.to_string()]).arg("--home").arg(&home);
                command
            }
            Kind::Reference => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("reference-sfu");
                command
            }
        };
        command.args(["--http", &address, "--udp-port", &udp.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {kind}"))?;
        let mut server = Self { base: Base::parse(&format!("http://{address}"))?, child, home };
        server.wait_ready().with_context(|| format!("starting {kind}"))?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it said.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            // The plain SFU knows no such path, but answers.
            let answer = self.base.request("GET", "/readyz", None, "");
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
        let kind = Kind::Node { link: "epoll".into(), shards: 1 };
        let error = Server::start(&kind, Path::new("/bin/false")).err().expect("it cannot start");
        assert!(format!("{error:#}").contains("exit status: 1"), "{error:#}");
    }
}
