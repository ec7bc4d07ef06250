//! Peers that see each other's TURN server only: Debian's coturn, over UDP and over TCP.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use peer::{
    event::Event,
    framing::{Compression, Kind, Message},
    nat::{IceServer, Transport as Via},
    signal::Transport,
};
use tempfile::TempDir;

use support::{Coordinator, Someone};

const PROGRAMS: [&str; 2] = ["/usr/bin/turnserver", "/usr/sbin/turnserver"];
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// A TURN server of this test alone; it ends with it.
struct Coturn {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Coturn {
    fn start() -> Self {
        let program = PROGRAMS.into_iter().find(|program| Path::new(program).exists());
        let program = program.expect(
            "there is no turnserver on this machine: cargo xtask tools installs it, or apt-get \
             install coturn",
        );
        let (directory, port) = (TempDir::new().unwrap(), support::free_port());
        let (pid, database) = (directory.path().join("pid"), directory.path().join("db"));
        let mut child = Command::new(program)
            .args(["-n", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &port.to_string(), "--lt-cred-mech"])
            .args(["--user", "weaver:warp-and-weft", "--realm", "sutantra"])
            .args(["--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers"])
            .args(["--log-file", "stdout", "--simple-log", "--verbose"])
            .arg("--pidfile")
            .arg(pid)
            .arg("--userdb")
            .arg(database)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        // To its end, or the server would wait for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let coturn = Self { child, port, _directory: directory };
        let mut said = Vec::new();
        loop {
            let line = lines.recv_timeout(LISTENS_WITHIN);
            let line = line.unwrap_or_else(|_| panic!("coturn does not listen: {said:#?}"));
            if line.contains("listener opened") && line.contains("UDP") {
                return coturn;
            }
            said.push(line);
        }
    }

    fn server(&self, transport: Via) -> IceServer {
        IceServer::Turn {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            transport,
            username: "weaver".to_owned(),
            password: "warp-and-weft".to_owned(),
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn check(first: Via, second: Via) {
    let (coturn, coordinator) = (Coturn::start(), Coordinator::start().await);
    let mut a = Someone::join_by_relay(&coordinator, "ann", coturn.server(first)).await;
    let mut b = Someone::join_by_relay(&coordinator, "bob", coturn.server(second)).await;
    let (to_a, to_b) = (a.id(), b.id());
    a.connected_to(&to_b).await;
    b.connected_to(&to_a).await;
    for length in [5, 200_000] {
        let message = Message::bytes(Kind::Application, vec![1; length]);
        a.peer.send(Some(&to_b), message.clone(), Compression::Never).await.unwrap();
        assert_eq!(support::message(&mut b.events).await, message);
        b.peer.send(Some(&to_a), message.clone(), Compression::Never).await.unwrap();
        assert_eq!(support::message(&mut a.events).await, message);
    }
    a.leave().await;
    b.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_meet_at_a_relay_over_udp() {
    check(Via::Udp, Via::Udp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_meet_at_a_relay_over_tcp_and_one_over_each() {
    check(Via::Tcp, Via::Tcp).await;
    check(Via::Tcp, Via::Udp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_reaches_nobody() {
    let (coturn, coordinator) = (Coturn::start(), Coordinator::start().await);
    let mut server = coturn.server(Via::Udp);
    if let IceServer::Turn { password, .. } = &mut server {
        "another".clone_into(password);
    }
    let mut options = support::options(&coordinator.url(), "ann", Transport::WebSocket, "global");
    options.servers = vec![server];
    options.is_relay_only = true;
    let mut someone = Someone::run(options).await;
    let is_told = |event: &Event| matches!(event, Event::Warning(why) if why.contains("refuses user and password"));
    someone.until(is_told).await;
    someone.leave().await;
}
