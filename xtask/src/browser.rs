//! Scenarios in real browsers against a real node, on a network of their own where that is allowed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Pair;
use crate::process::{Guard, run};
use crate::tally::Tally;
use crate::workspace::Workspace;

const SCENARIOS: &str = "web/e2e";
/// The longest that one scenario may take; beyond it the scenario hangs and is killed.
const SCENARIO_LIMIT: Duration = Duration::from_secs(300);
const ALL_LIMIT: Duration = Duration::from_secs(20 * 60);
/// From the start of a node until `/readyz` answers 200.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Builds the node and runs every scenario, inside a namespace when we may make one.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    build(workspace, tally)?;
    match Pair::create() {
        Ok(pair) => {
            let mut command = pair.command(std::env::current_exe()?);
            run(command.current_dir(&workspace.root).arg("scenarios"), ALL_LIMIT, tally)
        }
        Err(error) => {
            // Not root: the host's own interfaces serve, which browsers gather as well.
            println!("on the host's network, since there is no own one: {error:#}");
            run_here(workspace, tally)
        }
    }
}

fn build(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    // The whole workspace, as the tests build it: another choice of crates would unify features
    // differently and build them again.
    let scope = ["build", "--release", "--workspace", "--bins", "--locked"];
    run(workspace.cargo().args(scope), ALL_LIMIT, tally)
}

/// Runs every scenario on the network that we are in; counts each as one test.
pub fn run_here(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let mut failed = Vec::new();
    for scenario in scenarios(workspace)? {
        let name = scenario.file_stem().expect("it ends in .mjs").to_string_lossy().into_owned();
        let started = Instant::now();
        let outcome = run_scenario(workspace, &scenario, &name);
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                tally.passed += 1;
                println!("scenario {name} ... ok ({took:.1} s)");
            }
            Err(error) => {
                tally.failed += 1;
                println!("scenario {name} ... FAILED ({took:.1} s): {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "scenarios failed: {}", failed.join(", "));
    Ok(())
}

fn scenarios(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let directory = workspace.root.join(SCENARIOS);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("{SCENARIOS} is gone"))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mjs"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{SCENARIOS} holds no scenario");
    Ok(files)
}

fn run_scenario(workspace: &Workspace, scenario: &Path, name: &str) -> Result<()> {
    let directory = workspace.target.join("e2e").join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory).context("an earlier run's files")?;
    }
    std::fs::create_dir_all(&directory)?;
    let node = Node::start(workspace, &directory)?;
    let mut command = workspace.command("node");
    command.arg(scenario).env("SUTANTRA_URL", &node.url).env("SUTANTRA_E2E_OUT", &directory);
    let outcome = run(&mut command, SCENARIO_LIMIT, &mut Tally::default());
    outcome.with_context(|| format!("the node's log: {}", node.log.display()))
}

/// A running `sutantra-node dev`, killed when the value is dropped.
struct Node {
    url: String,
    log: PathBuf,
    _process: Guard,
}

impl Node {
    fn start(workspace: &Workspace, directory: &Path) -> Result<Node> {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let log = directory.join("node.log");
        let output = File::create(&log)?;
        let mut command = Command::new(workspace.binary("sutantra-node"));
        command
            .args(["dev", "--http", &http.to_string(), "--udp-port", &free_port()?.to_string()])
            .arg("--home")
            .arg(directory.join("home"))
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        let mut process = Guard(command.spawn().context("sutantra-node does not start")?);
        wait_until_ready(http, &mut process.0)
            .with_context(|| format!("its log: {}", log.display()))?;
        Ok(Node { url: format!("http://{http}"), log, _process: process })
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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
