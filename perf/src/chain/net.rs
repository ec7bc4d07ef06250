//! A network on this machine: homes, applications, engines, and the CPU time that they take.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use comet::process::{Binary, Comet, Settings};
use comet::rpc::Client;
use consensus_abci::engine::{Genesis, GenesisValidator, NodeKey, ValidatorKey};
use serde_json::Value;
use tendermint::Time;

use super::child::{Kind, Running, Sample};
use super::load::CHAIN_ID;

/// From the start to the first block.
const START_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// How a network is made.
pub struct Plan<'a> {
    pub kind: Kind,
    pub validators: usize,
    /// Made anew for each network, and removed with it.
    pub dir: PathBuf,
    pub binary: &'a Binary,
    pub timeout_commit: Duration,
    pub app_state: &'a Value,
}

/// A running network. Fields are dropped in this order: the engines first.
pub struct Net {
    comets: Vec<Comet>,
    apps: Vec<Running>,
    clients: Vec<Client>,
    _dir: Dir,
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays of a temporary folder is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// CPU seconds of all processes of a kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub app: f64,
    pub engine: f64,
}

impl Net {
    /// Starts all, and waits for the first block on each node.
    pub fn start(plan: &Plan<'_>) -> anyhow::Result<Net> {
        let homes: Vec<PathBuf> =
            (0..plan.validators).map(|at| plan.dir.join(format!("node{at}"))).collect();
        let mut keys = Vec::new();
        for home in &homes {
            let path = home.join("config/priv_validator_key.json");
            keys.push(ValidatorKey::load_or_create(&path)?.public_key());
        }
        let mut genesis =
            Genesis::single(CHAIN_ID.parse()?, Time::now(), keys[0], plan.app_state.clone());
        genesis.validators = keys
            .iter()
            .map(|key| GenesisValidator { pub_key: *key, power: 10, name: String::new() })
            .collect();
        let text = serde_json::to_vec(&genesis.to_json())?;
        let ports = free_ports(2 * plan.validators)?;
        let (rpcs, p2ps) = ports.split_at(plan.validators);
        let mut net = Net {
            comets: Vec::new(),
            apps: Vec::new(),
            clients: Vec::new(),
            _dir: Dir(plan.dir.clone()),
        };
        let mut ids = Vec::new();
        for home in &homes {
            std::fs::write(home.join("config/genesis.json"), &text)?;
            ids.push(NodeKey::load_or_create(&home.join("config/node_key.json"))?.id());
        }
        for (at, home) in homes.iter().enumerate() {
            if plan.kind == Kind::Embedded {
                net.apps.push(Running::start(plan.kind, &rpcs[at].to_string(), home)?);
            } else {
                let abci = format!("unix://{}", home.join("abci.sock").display());
                net.apps.push(Running::start(plan.kind, &abci, home)?);
                let others = (0..plan.validators).filter(|other| *other != at);
                let peers = others.map(|other| format!("{}@{}", ids[other], p2ps[other]));
                net.comets.push(Comet::spawn(
                    plan.binary.clone(),
                    Settings {
                        rpc: rpcs[at],
                        p2p: p2ps[at],
                        persistent_peers: peers.collect(),
                        timeout_commit: Some(plan.timeout_commit),
                        ..Settings::new(home, abci)
                    },
                )?);
            }
            net.clients.push(Client::new(&format!("http://{}", rpcs[at]))?);
        }
        net.wait_for_blocks()?;
        Ok(net)
    }

    fn wait_for_blocks(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        for (at, client) in self.clients.iter().enumerate() {
            while client.commit(Some(2)).is_err() {
                if let Some(comet::process::State::Failed(sentence)) =
                    self.comets.get(at).map(Comet::state)
                {
                    bail!("CometBFT of node {at}: {sentence}");
                }
                if Instant::now() > deadline {
                    bail!("node {at} has no second block after {} s", START_MAX.as_secs());
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// One of each node's RPC.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// What the first node's application took so far.
    pub fn sample(&mut self) -> anyhow::Result<Sample> {
        self.apps[0].sample()
    }

    /// CPU time so far, of all nodes together.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu::default();
        for app in &self.apps {
            cpu.app += cpu_seconds(app.pid())?;
        }
        for comet in &self.comets {
            cpu.engine += cpu_seconds(comet.pid().context("CometBFT has ended")?)?;
        }
        Ok(cpu)
    }
}

/// Ports of the loopback that nobody has now.
fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

/// User and system time of a process with all its threads (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, second field, may hold anything; what follows its last parenthesis is plain.
    let (_, rest) = text.rsplit_once(')').context("/proc/…/stat has a name")?;
    let field = |at: usize| -> anyhow::Result<u64> {
        Ok(rest.split_whitespace().nth(at - 3).context("/proc/…/stat is short")?.parse()?)
    };
    // SAFETY: a plain query of a constant of the system.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok((field(14)? + field(15)?) as f64 / ticks as f64)
}
