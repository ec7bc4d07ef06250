//! Who is measured: the coordinator alone and within the relay's program, PeerJS, socket.io.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench::child::programs::{Program, Search};
use bench::http::Base;
use bench::rooms::Server;

/// Scripts that start the others, and the packages that these need.
const PEERJS: &str = include_str!("peerjs.cjs");
const SOCKETIO: &str = include_str!("socketio.cjs");
/// How long a server may take to listen, and to end.
const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(8);
/// Lines of its log shown when it fails.
const LOG_LINES: usize = 8;

/// One of them.
#[derive(Debug, Clone)]
pub enum Contender {
    /// The coordinator alone: `sutantra-bench coordinator`.
    Coordinator(PathBuf),
    /// The relay's program with its coordinator, in mode open.
    Node(PathBuf),
    /// A script for Node.js.
    Script {
        /// For the table.
        name: &'static str,
        /// See [`Server`].
        speaks: Server,
        /// What runs.
        text: &'static str,
        /// Where its packages are.
        modules: PathBuf,
        /// Of the package.
        version: String,
    },
}

/// All that are there, and sentences about the others.
pub fn gather(modules: &Path, node: Option<&Path>) -> (Vec<Contender>, Vec<String>) {
    let (mut there, mut left_out) = (Vec::new(), Vec::new());
    match Search::of_process().find(Program::Bench, None) {
        Ok(bench) => there.push(Contender::Coordinator(bench)),
        Err(absent) => left_out.push(absent.to_string()),
    }
    there.extend(node.map(|node| Contender::Node(node.to_owned())));
    for (name, package, speaks, text) in [
        ("peerjs", "peer", Server::PeerJs, PEERJS),
        ("socketio", "socket.io", Server::SocketIo, SOCKETIO),
    ] {
        let modules = modules.join("node_modules");
        match version(&modules.join(package)) {
            Some(version) => {
                there.push(Contender::Script { name, speaks, text, modules, version });
            }
            None => left_out.push(format!(
                "{name} is left out: `npm install --prefix {} peer@1.0.2 socket.io@4.8.4` installs it",
                modules.parent().unwrap_or(Path::new(".")).display()
            )),
        }
    }
    (there, left_out)
}

/// Version that a package says it is.
fn version(package: &Path) -> Option<String> {
    let text = std::fs::read_to_string(package.join("package.json")).ok()?;
    let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
    manifest["version"].as_str().map(str::to_owned)
}

impl Contender {
    /// For `--servers` and the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Coordinator(_) => "coordinator",
            Self::Node(_) => "node",
            Self::Script { name, .. } => name,
        }
    }

    /// What its peers say.
    pub fn speaks(&self) -> Server {
        match self {
            Self::Coordinator(_) | Self::Node(_) => Server::Base,
            Self::Script { speaks, .. } => *speaks,
        }
    }

    /// For the list above the table.
    pub fn description(&self) -> String {
        match self {
            Self::Coordinator(_) => "`coordinator`: the coordinator alone, mode open".to_owned(),
            Self::Node(_) => "`node`: `sutantra-node dev`, relay and coordinator".to_owned(),
            Self::Script { name, version, .. } => format!("`{name}`: {version}, Node.js"),
        }
    }

    fn command(&self, home: &Path, at: SocketAddr) -> anyhow::Result<Command> {
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        Ok(match self {
            Self::Coordinator(program) => {
                let mut command = Command::new(program);
                command.args(["coordinator", "--http", &at.to_string()]);
                command
            }
            Self::Node(program) => {
                let mut command = Command::new(program);
                command.args(["dev", "--open", "--no-demo", "--chain=false"]);
                command.arg("--home").arg(home).args(["--media-ip", &host, "--udp-port", "0"]);
                command.args(["--http", &at.to_string()]);
                command
            }
            Self::Script { text, modules, .. } => {
                let script = home.join("server.cjs");
                std::fs::write(&script, text)?;
                let mut command = Command::new("node");
                command.arg(script).args([host, port]);
                command.env("NODE_PATH", std::path::absolute(modules)?);
                command.env("NODE_ENV", "production");
                command
            }
        })
    }
}

/// A running server with a folder of its own; both end with it.
pub struct Started {
    /// Where it listens.
    pub base: Base,
    child: Child,
    home: PathBuf,
}

/// Folders made by this process.
static HOMES: AtomicU32 = AtomicU32::new(0);

impl Started {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It does not start, ends, or does not listen: told with the end of its log.
    pub fn start(contender: &Contender) -> anyhow::Result<Self> {
        let number = HOMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("sutantra-perf-signal-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&home)?;
        let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = contender.command(&home, at)?;
        let log = File::create(home.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        end_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", contender.name()))?;
        let base = Base::parse(&format!("http://{at}"))?;
        let mut started = Self { base, child, home };
        started.wait(at).with_context(|| format!("starting {}", contender.name()))?;
        Ok(started)
    }

    fn wait(&mut self, at: SocketAddr) -> anyhow::Result<()> {
        let until = Instant::now() + READY_MAX;
        while TcpStream::connect(at).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > until {
                bail!("it does not listen:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
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
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: no memory is involved; the process is our child and not yet waited for, so its id
        // is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // After an end in time both are without effect.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.home);
    }
}

/// Has the child be killed when the thread that starts it ends, however that happens.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_installed_is_left_out_with_the_command_that_installs_it() {
        let (there, left_out) = gather(Path::new("no/such/folder"), None);
        let names: Vec<&str> = there.iter().map(Contender::name).collect();
        assert!(!names.contains(&"peerjs") && !names.contains(&"socketio"), "{names:?}");
        let remedies =
            left_out.iter().filter(|it| it.contains("npm install --prefix no/such/folder"));
        assert_eq!(remedies.count(), 2, "{left_out:?}");
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_by_its_name() {
        let error = Started::start(&Contender::Node("/bin/false".into())).err();
        let error = format!("{:#}", error.expect("it cannot start"));
        assert!(error.starts_with("starting node: it ended with exit status: 1"), "{error}");
    }
}
