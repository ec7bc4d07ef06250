//! A running `sutantra-node dev`: free ports, a home of its own, gone when the value is dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Guard;
use crate::workspace::Workspace;

/// From the start of a node until `/readyz` answers 200.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The process and where it is reached.
pub struct Node {
    /// `http://127.0.0.1:port`
    pub url: String,
    /// What it printed.
    pub log: PathBuf,
    _process: Guard,
}

impl Node {
    /// Starts the release build with `flags` besides its own; its files go to `directory`, which is
    /// emptied first. Returns once it is ready.
    pub fn start(workspace: &Workspace, directory: &Path, flags: &[&str]) -> Result<Node> {
        if directory.exists() {
            std::fs::remove_dir_all(directory).context("an earlier run's files")?;
        }
        std::fs::create_dir_all(directory)?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let udp_port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = directory.join("node.log");
        let output = File::create(&log)?;
        let mut command = Command::new(workspace.binary("sutantra-node"));
        command
            .args(["dev", "--http", &http.to_string(), "--udp-port", &udp_port.to_string()])
            .arg("--home")
            .arg(directory.join("home"))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        let mut process = Guard(command.spawn().context("sutantra-node does not start")?);
        wait_until_ready(http, &mut process.0)
            .with_context(|| format!("its log: {}", log.display()))?;
        Ok(Node { url: format!("http://{http}"), log, _process: process })
    }
}

fn wait_until_ready(http: SocketAddr, process: &mut Child) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < READY_LIMIT {
        if let Some(status) = process.try_wait()? {
            bail!("sutantra-node ended at start: {status}");
        }
        if is_ready(http).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("/readyz did not answer 200 within {} s", READY_LIMIT.as_secs())
}

fn is_ready(http: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&http, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12]; // `HTTP/1.1 200`
    stream.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}
