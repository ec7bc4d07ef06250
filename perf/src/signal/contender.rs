//! Who is measured: the coordinator alone and within the relay's program, PeerJS, socket.io.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bench::child::process::{Home, Process};
use bench::child::programs::{Program, Search};
use bench::http::Base;
use bench::rooms::Server;

/// Scripts that start the others, and the packages that these need.
const PEERJS: &str = include_str!("peerjs.cjs");
const SOCKETIO: &str = include_str!("socketio.cjs");
/// How long a server may take to listen.
const READY_MAX: Duration = Duration::from_secs(60);

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
    process: Process,
}

impl Started {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It does not start, ends, or does not listen: told with the end of its log.
    pub fn start(contender: &Contender) -> anyhow::Result<Self> {
        let home = Home::new("sutantra-perf-signal")?;
        let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let command = contender.command(home.path(), at)?;
        let starting = || format!("starting {}", contender.name());
        let mut process = Process::start(command, home).with_context(starting)?;
        let base = Base::parse(&format!("http://{at}"))?;
        process
            .wait(READY_MAX, "it does not listen", || TcpStream::connect(at).is_ok())
            .with_context(starting)?;
        Ok(Self { base, process })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The last lines that it said.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
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
