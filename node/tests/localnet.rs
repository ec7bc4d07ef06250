//! A network on this machine, from outside: real CometBFTs, the processes and files of the command.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use comet::{process::Binary, rpc::Client};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// `localnet` in a world of its own: nothing of the person who runs the tests.
fn localnet(temp: &TempDir, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    command.env_clear().env("HOME", temp.path()).current_dir(temp.path()).arg("localnet");
    command.args(words.split_whitespace());
    command
}

/// A network that runs; killed when dropped, and its nodes with it.
struct Running {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    fn start(temp: &TempDir, words: &str) -> Self {
        let binary = Binary::find(None).unwrap_or_else(|error| panic!("{error}"));
        let program = fs::canonicalize(binary.path).expect("it is there");
        let spawned = localnet(temp, words)
            .arg("--comet-bin")
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = spawned.expect("the binary runs");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let running = Self { process, lines };
        running
            .wait("the network", |lines| lines.iter().any(|line| line.starts_with("ready after")));
        running
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    fn wait(&self, what: &str, until: impl Fn(&[String]) -> bool) {
        wait(what, || until(&self.lines()), || self.lines().join("\n"));
    }

    /// The newest process of each node, and where it answers.
    fn nodes(&self) -> BTreeMap<String, (u32, Client)> {
        let parse = |line: &String| {
            let (name, rest) = line.split_once(" started, pid ")?;
            let (pid, url) = rest.split_once(", rpc ")?;
            let client = Client::new(url).expect("an address");
            Some((name.to_owned(), (pid.parse().expect("a number"), client)))
        };
        self.lines().iter().filter_map(parse).collect()
    }

    /// Asks it to end, and waits until it has.
    fn stop(mut self) -> Vec<String> {
        signal(self.process.id(), "TERM");
        let status = self.process.wait().expect("ours");
        assert!(status.success(), "{status}: {:?}", self.lines());
        wait(
            "its last line",
            || self.lines().iter().any(|line| line.starts_with("stopped")),
            String::new,
        );
        self.lines()
    }
}

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool, about: impl Fn() -> String) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < PATIENCE, "{what} has not come to pass\n{}", about());
        thread::sleep(Duration::from_millis(50));
    }
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(done.expect("kill is everywhere").success());
}

/// Parent and name of a process that lives; a zombie is dead, and waits to be seen by its parent.
fn process(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let mut words = tail.split_whitespace();
    let is_dead = words.next()? == "Z";
    let name = head.split_once('(')?.1.to_owned();
    (!is_dead).then_some((words.next()?.parse().ok()?, name))
}

/// All processes below `root`, with their names.
fn descendants(root: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<(u32, u32, String)> =
        pids.filter_map(|pid| process(pid).map(|(parent, name)| (pid, parent, name))).collect();
    let mut found = BTreeMap::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, _, name) in all.iter().filter(|(_, of, _)| *of == parent) {
            found.insert(*pid, name.clone());
            parents.push(*pid);
        }
    }
    found
}

#[track_caller]
fn all_gone(pids: &BTreeMap<u32, String>) {
    let left = || pids.iter().filter(|(pid, _)| process(**pid).is_some()).collect::<Vec<_>>();
    wait("the end of every process", || left().is_empty(), || format!("{:?}", left()));
}

fn height(client: &Client) -> u64 {
    client.status().map_or(0, |status| status.latest_height)
}

/// The app hash in the header of `height`, as this node has it.
fn app_hash(client: &Client, height: u64) -> Vec<u8> {
    let signed = client.commit(Some(height)).expect("it has that block");
    signed.header.app_hash.as_bytes().to_vec()
}

#[track_caller]
fn all_reach(clients: &[Client], wanted: u64) {
    let heights = || clients.iter().map(height).collect::<Vec<_>>();
    let about = || format!("{:?}", heights());
    wait(&format!("height {wanted}"), || heights().iter().all(|height| *height >= wanted), about);
    let first = app_hash(&clients[0], wanted);
    assert!(!first.is_empty());
    for client in clients {
        assert_eq!(app_hash(client, wanted), first, "{} at {wanted}", client.name());
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

#[test]
fn four_validators_agree_outlive_a_killed_one_and_leave_no_process() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("net");
    let words = format!("--no-relay --dir {}", dir.display());
    let net = Running::start(&temp, &words);
    let nodes = net.nodes();
    assert_eq!(nodes.len(), 4);
    let clients: Vec<Client> = nodes.values().map(|(_, client)| client.clone()).collect();
    all_reach(&clients, 5);

    // A second one on the same directory is refused, and says who is there.
    let program = Binary::find(None).expect("found above").path;
    let second = localnet(&temp, &words).arg("--comet-bin").arg(program).output();
    let said = String::from_utf8(second.expect("the binary runs").stderr).expect("text");
    assert!(
        said.contains("is running already") && said.contains(&net.process.id().to_string()),
        "{said}"
    );

    // Validator 2 dies, and its CometBFT with it; the others go on.
    let (victim, _) = nodes["node2"];
    let of_victim = descendants(victim);
    assert!(of_victim.values().any(|name| name == "cometbft"), "{of_victim:?}");
    let others: Vec<Client> = ["node0", "node1", "node3"].map(|name| nodes[name].1.clone()).into();
    let before = others.iter().map(height).max().expect("three");
    signal(victim, "KILL");
    all_gone(&of_victim);
    all_reach(&others, before + 3);
    // It is started again, and catches up.
    net.wait("the restart", |_| net.nodes()["node2"].0 != victim);
    let newest = others.iter().map(height).max().expect("three");
    all_reach(&clients, newest + 1);
    assert!(net.lines().iter().any(|line| line.starts_with("node2 ended (signal: 9")));

    let started = descendants(net.process.id());
    assert!(started.len() >= 8, "four nodes and four CometBFTs: {started:?}");
    let genesis = read(&dir.join("node0/config/genesis.json"));
    let plan = read(&dir.join("localnet.json"));
    net.stop();
    all_gone(&started);

    // It goes on where it was, under the same name, on the same ports.
    let net = Running::start(&temp, &words);
    assert_eq!(read(&dir.join("localnet.json")), plan);
    let clients: Vec<Client> = net.nodes().into_values().map(|(_, client)| client).collect();
    all_reach(&clients, newest + 3);
    for node in ["node0", "node1", "node2", "node3"] {
        assert_eq!(read(&dir.join(node).join("config/genesis.json")), genesis);
    }
    // What it started does not outlive it, however it ends.
    let started = descendants(net.process.id());
    drop(net);
    all_gone(&started);
}

#[track_caller]
fn refused(temp: &TempDir, words: &str, sentence: &str) {
    let output = localnet(temp, words).output().expect("the binary runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && said.contains(sentence), "{words}: {said}");
}

#[test]
fn what_cannot_become_a_network_is_refused_with_the_remedy() {
    let temp = TempDir::new().unwrap();
    let comet = "#!/bin/sh\necho 1.0.1\n";
    fs::write(temp.path().join("comet"), comet).expect("ours");
    let done = Command::new("chmod").arg("755").arg(temp.path().join("comet")).status();
    assert!(done.expect("it runs").success());
    refused(&temp, "", "cargo xtask tools");
    refused(&temp, "--comet-bin comet", "is CometBFT 1.0.1; this node works with");
    assert!(!temp.path().join(".local").exists(), "nothing was written");

    let binary = Binary::find(None).unwrap_or_else(|error| panic!("{error}"));
    let comet = fs::canonicalize(binary.path).expect("it is there");
    let comet = comet.display();
    let foreign = temp.path().join("foreign");
    fs::create_dir(&foreign).expect("ours");
    fs::write(foreign.join("letters.txt"), "dear").expect("ours");
    let words = |rest: &str| format!("--no-relay --comet-bin {comet} {rest}");
    refused(&temp, &words("--dir foreign --fresh"), "holds other files than a local network");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    if port <= 65_500 {
        let sentence = format!("port {port} of node0 is taken by another program");
        refused(&temp, &words(&format!("--dir new --base-port {port}")), &sentence);
    }
}
