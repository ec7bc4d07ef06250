//! The application in a process of its own, so that its CPU time is its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, atomic::Ordering};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use consensus_abci::app::App;
use consensus_abci::application::Method;
use consensus_abci::engine::{Engine, EngineConfig, Genesis, NodeKey, ValidatorKey};
use consensus_abci::server::{Limits, ListenAddr, Server};
use serde::{Deserialize, Serialize};

use super::application::{Empty, Spent, Timed};

/// What a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Kind {
    /// The application behind an ABCI socket.
    App,
    /// The one that does nothing, behind the same server.
    Empty,
    /// The application and the embedded engine with its RPC.
    Embedded,
}

/// Options of the hidden subcommand.
#[derive(Args)]
pub struct ChildArgs {
    #[arg(long)]
    kind: Kind,
    /// ABCI address, or of `embedded` the RPC's.
    #[arg(long)]
    at: String,
    /// Home: genesis, keys, state.
    #[arg(long)]
    home: PathBuf,
}

/// What FinalizeBlock and Commit took since the start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sample {
    pub finalize_seconds: f64,
    pub commit_seconds: f64,
    pub commits: u64,
}

/// Serves until stdin ends, so that no child outlives its parent; answers each line with a
/// [`Sample`].
pub fn run(args: &ChildArgs) -> anyhow::Result<()> {
    match args.kind {
        Kind::App => serve(Arc::new(App::open(&args.home.join("chain/state"))?), &args.at),
        Kind::Empty => serve(Arc::new(Empty), &args.at),
        Kind::Embedded => embedded(&args.home, args.at.parse()?),
    }
}

fn serve(app: Arc<dyn consensus_abci::application::Application>, at: &str) -> anyhow::Result<()> {
    let at: ListenAddr = at.parse()?;
    let server = Server::start(app, &at, Limits::default())?;
    answer(|| {
        let counters = server.counters();
        let commit = counters.method(Method::Commit);
        Sample {
            finalize_seconds: counters.method(Method::FinalizeBlock).seconds,
            commit_seconds: commit.seconds,
            commits: commit.requests,
        }
    })?;
    server.stop();
    Ok(())
}

fn embedded(home: &Path, at: SocketAddr) -> anyhow::Result<()> {
    let spent = Arc::new(Spent::default());
    let app = App::open(&home.join("chain/state"))?;
    let app = Arc::new(Timed { app, spent: spent.clone() });
    let genesis = Genesis::from_json(&std::fs::read(home.join("config/genesis.json"))?)?;
    let config = EngineConfig::new(
        home.join("chain/blocks"),
        genesis,
        ValidatorKey::load_or_create(&home.join("config/priv_validator_key.json"))?,
        NodeKey::load_or_create(&home.join("config/node_key.json"))?,
        home.join("chain/priv_validator_state.json"),
    );
    let engine = Engine::start(config, app)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(at))?;
    let router = engine.rpc_router();
    runtime.spawn(async move { axum::serve(listener, router).await });
    let seconds = |ns: u64| ns as f64 / 1e9;
    answer(|| Sample {
        finalize_seconds: seconds(spent.finalize_ns.load(Ordering::Relaxed)),
        commit_seconds: seconds(spent.commit_ns.load(Ordering::Relaxed)),
        commits: spent.commits.load(Ordering::Relaxed),
    })?;
    engine.stop();
    Ok(())
}

fn answer(sample: impl Fn() -> Sample) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&sample())?)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", serde_json::to_string(&sample())?)?;
        out.flush()?;
    }
    Ok(())
}

/// A child, from its parent's side.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts one and waits until it listens.
    pub fn start(kind: Kind, at: &str, home: &Path) -> anyhow::Result<Running> {
        let name = kind.to_possible_value().expect("no kind is hidden");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["chain-child", "--kind", name.get_name(), "--at", at, "--home"])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut running = Running { child, stdin, stdout };
        running.read().context("the application does not start")?;
        Ok(running)
    }

    /// What it took so far.
    pub fn sample(&mut self) -> anyhow::Result<Sample> {
        let stdin = self.stdin.as_mut().context("the application was stopped")?;
        writeln!(stdin)?;
        self.read()
    }

    fn read(&mut self) -> anyhow::Result<Sample> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the application's process ended: its log is above");
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if self.child.wait().is_err() {
            // Nothing more can be done about a child that cannot be waited for.
            let _ = self.child.kill();
        }
    }
}
