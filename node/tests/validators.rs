//! Several operators begin a chain together, and another one joins it: the commands from outside,
//! with real CometBFTs.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use comet::{process::Binary, rpc::Client};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Exit code, stdout, stderr.
struct Done(i32, String, String);

impl Done {
    #[track_caller]
    fn ok(self) -> String {
        let Self(code, out, err) = self;
        assert_eq!(code, 0, "{out}{err}");
        out
    }

    #[track_caller]
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    #[track_caller]
    fn refused(self, sentences: &[&str]) {
        let Self(code, out, err) = self;
        for sentence in sentences {
            assert!(code == 1 && err.contains(sentence), "{code}, not {sentence:?}: {out}{err}");
        }
    }
}

/// One operator: a home, and where its node is once it runs.
struct Operator {
    home: PathBuf,
    p2p: u16,
    rpc: u16,
    node: Option<Child>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(node) = &mut self.node {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn free_port() -> u16 {
    let bound = TcpListener::bind("127.0.0.1:0").expect("a free port");
    bound.local_addr().expect("bound").port()
}

impl Operator {
    fn new(temp: &TempDir, name: &str) -> Self {
        Self { home: temp.path().join(name), p2p: free_port(), rpc: free_port(), node: None }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
        // A world of its own: nothing of the person who runs the tests.
        command.env_clear().env("HOME", self.home.parent().expect("below the test's directory"));
        command
    }

    fn run(&self, words: &str) -> Done {
        let mut command = self.command();
        command.args(words.split_whitespace()).arg("--home").arg(&self.home);
        let output = command.stdin(Stdio::null()).output().expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Done(output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    fn genesis(&self) -> PathBuf {
        self.home.join("config/genesis.json")
    }

    /// The account of the key `operator`.
    fn account(&self) -> String {
        self.run("keys show operator").ok().trim().to_owned()
    }

    fn peer(&self) -> String {
        format!("{}@127.0.0.1:{}", self.run("comet show-node-id").ok().trim(), self.p2p)
    }

    /// Starts the node under its CometBFT; it is not waited for.
    fn start(&mut self, peers: &[String], more: &str) {
        let binary = Binary::find(None).unwrap_or_else(|error| panic!("{error}"));
        let binary = fs::canonicalize(binary.path).expect("it is there");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("ours");
        let mut command = self.command();
        command.args(["start", "--comet", "spawn", "--timeout-commit-ms", "100"]);
        command.args(["--http", "127.0.0.1:0"]).args(more.split_whitespace());
        command.arg("--rpc").arg(format!("127.0.0.1:{}", self.rpc));
        command.arg("--p2p").arg(format!("127.0.0.1:{}", self.p2p));
        command.arg("--comet-bin").arg(binary).arg("--home").arg(&self.home);
        for peer in peers {
            command.arg("--peers").arg(peer);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.node = Some(command.spawn().expect("the binary runs"));
    }

    fn log(&self) -> PathBuf {
        self.home.join("node.log")
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.rpc)).expect("an address")
    }

    /// Asks this node, whose word is enough.
    fn query(&self, words: &str) -> Value {
        self.run(&format!("query {words} --prove=false -o json --rpc {}", self.url())).json()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc)
    }

    #[track_caller]
    fn reaches(&self, height: u64) {
        let reached = || self.client().status().map_or(0, |status| status.latest_height) >= height;
        self.wait(&format!("height {height}"), reached);
    }

    #[track_caller]
    fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let started = Instant::now();
        while !until() {
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{what} has not come to pass\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn hash(path: &Path) -> Vec<u8> {
    fs::read(path).expect("written")
}

/// The operators of a chain that has not begun: the first has made its genesis, in which all have
/// money, and each has signed.
fn founders(temp: &TempDir) -> Vec<Operator> {
    let all: Vec<_> = ["alice", "bob", "carol"].map(|name| Operator::new(temp, name)).into();
    let [alice, bob, carol] = all.as_slice() else { unreachable!("three") };
    alice.run("init alice --role validator --comet spawn --chain-id sutantra-test-7").ok();
    // Keys first: an account is known before the genesis is.
    for other in [bob, carol] {
        other.run("keys add operator").ok();
        alice.run(&format!("genesis add-account {} 20000", other.account())).ok();
    }
    for (other, name) in [(bob, "bob"), (carol, "carol")] {
        let genesis = alice.genesis();
        other.run(&format!("init {name} --role validator --genesis {}", genesis.display())).ok();
        let signed = other.home.join("signed.json");
        let words = "genesis gentx operator 5000 --commission 5 --website https://example.org";
        other
            .run(&format!("{words} --p2p 127.0.0.1:{} --output {}", other.p2p, signed.display()))
            .ok();
        fs::copy(&signed, alice.home.join(format!("config/gentx/{name}.json"))).expect("ours");
    }
    all
}

#[test]
fn three_operators_begin_one_chain_and_a_fourth_joins_it_by_its_stake() {
    let temp = TempDir::new().unwrap();
    let mut all = founders(&temp);
    let said = all[0].run("genesis collect-gentxs").ok();
    assert!(said.contains("3 validators begin sutantra-test-7"), "{said}");
    assert!(said.contains(&all[1].peer()), "peers are told: {said}");
    let report = all[0].run("genesis validate -o json").json();
    assert_eq!((&report["is_valid"], &report["faults"]), (&true.into(), &Value::Array(vec![])));
    let genesis = all[0].genesis();
    for other in &all[1..] {
        fs::copy(&genesis, other.genesis()).expect("ours");
        let text = other.run("genesis validate").ok();
        assert!(text.contains(report["sha256"].as_str().expect("text")), "{text}");
        assert_eq!(hash(&other.genesis()), hash(&genesis));
    }

    let peers: Vec<_> = all.iter().map(Operator::peer).collect();
    for (own, operator) in all.iter_mut().enumerate() {
        let others = peers.iter().enumerate().filter(|(at, _)| *at != own);
        operator.start(&others.map(|(_, peer)| peer.clone()).collect::<Vec<_>>(), "");
    }
    all.iter().for_each(|operator| operator.reaches(3));
    let app_hash =
        |operator: &Operator| operator.client().commit(Some(3)).expect("made").header.app_hash;
    assert!(all.iter().all(|operator| app_hash(operator) == app_hash(&all[0])));

    // Tables for people, records for programs.
    let listed = all[0].query("staking validators");
    let list = listed["validators"].as_array().expect("a list");
    assert!(list.len() == 3 && list.iter().all(|one| one["status"] == "voting"), "{listed}");
    let url = all[1].url();
    let table = all[0].run(&format!("query staking validators --rpc {url}")).ok();
    let first = table.lines().nth(1).expect("a row");
    assert!(first.starts_with("alice") && first.contains("10000"), "the greatest first: {table}");

    // The fourth: all blocks first, then the money, then the stake.
    let mut dave = Operator::new(&temp, "dave");
    dave.run(&format!("init dave --role validator --genesis {url}")).ok();
    dave.start(&peers, "");
    dave.reaches(3);
    let create = format!(
        "tx staking create-validator --from operator --self-delegation 4000 --yes --rpc {}",
        dave.url()
    );
    dave.run(&create).refused(&["holds 0 SUT", "are needed"]);
    let send = format!(
        "tx transfer --from operator --to {} --amount 6000 --yes --rpc {url}",
        dave.account()
    );
    all[0].run(&send).ok();
    let words = format!("query account operator --prove=false --rpc {}", dave.url());
    dave.wait("the money", || dave.run(&words).0 == 0);
    dave.run(&create).ok();
    let words = format!("query staking validators --rpc {}", all[0].url());
    let voting = || {
        let table = all[0].run(&words).ok();
        let own = table.lines().find(|line| line.ends_with(&dave.account()));
        own.is_some_and(|line| line.starts_with("dave") && line.contains(" voting "))
    };
    dave.wait("the fourth validator's power", voting);
    // Its own signature is in a block.
    let address = dave.run("comet show-address").ok().trim().to_owned();
    let signs = || {
        let Ok(signed) = all[0].client().commit(None) else { return false };
        signed.commit.signatures.iter().any(|signature| {
            signature.validator_address().is_some_and(|own| own.to_string() == address)
        })
    };
    dave.wait("the fourth validator's vote", signs);

    // Stake of somebody else, with proof, and its way back.
    let operator = dave.account();
    all[1]
        .run(&format!("tx staking delegate {operator} 12.5 --from operator --yes --rpc {url}"))
        .ok();
    let account = all[1].account();
    let question = format!("query staking delegation {account} {operator} -o json --rpc {url}");
    let proved = all[1].run(&question).json();
    assert_eq!(
        (&proved["delegation"]["amount"], &proved["proved"]),
        (&"12500000000".into(), &true.into())
    );
    all[1]
        .run(&format!("tx staking undelegate {operator} 2.5 --from operator --yes --rpc {url}"))
        .ok();
    let to = all[0].account();
    all[1]
        .run(&format!("tx staking redelegate {operator} {to} 5 --from operator --yes --rpc {url}"))
        .ok();
    let left = all[1].run(&format!("query staking delegations {account} --rpc {url}")).ok();
    assert!(left.contains("LEAVES") && left.contains("the account"), "{left}");
    let staked = || dave.query(&format!("staking delegators {operator}"))["delegators"].clone();
    dave.wait("two delegators", || staked().as_array().expect("a list").len() == 2);

    // What validators decide.
    let propose = "tx gov propose --title Fees --set fee_base=0.00002 --from operator --yes --rpc";
    let number = all[0].run(&format!("{propose} {url} -o json")).json()["proposal"].to_string();
    let shown = all[0].run(&format!("query gov proposals --rpc {url}")).ok();
    assert!(shown.contains("voting") && shown.contains("Fees"), "{shown}");
    for voter in [&all[0], &all[1], &all[2]] {
        // The last of them may come after the decision.
        let _ = voter.run(&format!("tx gov vote {number} yes --from operator --yes --rpc {url}"));
    }
    let passed = || all[0].query("params")["params"]["fee_base"] == "20000";
    all[0].wait("the new fee", passed);
    let none = all[0].run(&format!("query upgrade --rpc {url}")).ok();
    assert!(none.contains("upgrade: none"), "{none}");
}

#[test]
fn all_that_is_wrong_with_what_was_signed_is_told_at_once_and_changes_nothing() {
    let temp = TempDir::new().unwrap();
    let all = founders(&temp);
    let dir = all[0].home.join("config/gentx");
    let genesis = hash(&all[0].genesis());
    let bob = fs::read_to_string(dir.join("bob.json")).expect("written");
    let carol: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("carol.json")).expect("written"))
            .expect("JSON");
    // Twice the same; another chain; a body that nobody signed.
    fs::write(dir.join("again.json"), &bob).expect("ours");
    all[0].run("genesis collect-gentxs").refused(&[
        "have one operator",
        "have one consensus key",
        "(bob.json)",
    ]);
    fs::write(dir.join("again.json"), bob.replace("sutantra-test-7", "other")).expect("ours");
    let mut changed = carol.clone();
    changed["body"]["payload"]["self_delegation"] = "1".into();
    fs::write(dir.join("carol.json"), changed.to_string()).expect("ours");
    all[0].run("genesis collect-gentxs").refused(&[
        "again.json: it is for the chain other",
        "again.json: its signature",
        "carol.json: `body` is not what `signed` says",
    ]);
    assert_eq!(hash(&all[0].genesis()), genesis, "it is as it was");
    // Who has no money there cannot sign, nor stake more than it has.
    let poor = Operator::new(&temp, "poor");
    let file = all[0].genesis();
    poor.run(&format!("init poor --role validator --genesis {}", file.display())).ok();
    poor.run("genesis gentx operator 1").refused(&["genesis add-account"]);
    all[1].run("genesis gentx operator 20001").refused(&["20000 SUT", "stake less"]);
    let account = all[1].account();
    all[0]
        .run(&format!("genesis add-account {account} 1"))
        .refused(&["begins with 20000 SUT already"]);

    // A genesis that is wrong in both parts.
    let mut broken: Value = serde_json::from_slice(&genesis).expect("JSON");
    broken["initial_height"] = "-1".into();
    broken["app_state"]["params"]["notice_blocks"] = 0.into();
    broken["app_state"]["gentxs"][0] = "00".into();
    let path = temp.path().join("broken.json");
    fs::write(&path, broken.to_string()).expect("ours");
    let words = format!("genesis validate {}", path.display());
    all[0].run(&words).refused(&["initial_height", "notice_blocks", "gentxs[0]"]);
}

/// A node that is to stop at a height makes that block durable, no other, and says how to go on.
#[test]
fn a_node_stops_at_its_height_with_success_and_goes_on_when_it_may() {
    let temp = TempDir::new().unwrap();
    let mut alice = Operator::new(&temp, "alice");
    alice.run("init alice --role validator --comet spawn").ok();
    for _ in 0..2 {
        // The second start finds it reached, and decides nothing.
        alice.start(&[], "--halt-height 5");
        let mut node = alice.node.take().expect("started");
        let started = Instant::now();
        let status = loop {
            match node.try_wait().expect("ours") {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => {
                    let _ = node.kill();
                    panic!(
                        "it does not stop\n{}",
                        fs::read_to_string(alice.log()).unwrap_or_default()
                    );
                }
                None => thread::sleep(Duration::from_millis(50)),
            }
        };
        let log = fs::read_to_string(alice.log()).expect("written");
        assert!(status.success(), "{status}\n{log}");
        assert!(log.contains("the chain is at height 5, and halt-height 5 is reached"), "{log}");
    }
    let path = alice.home.join("next.json");
    alice.run(&format!("export --output {}", path.display())).ok();
    let next: Value = serde_json::from_slice(&hash(&path)).expect("JSON");
    let voter = &next["validators"][0];
    assert_eq!((&voter["name"], &voter["power"]), (&"alice".into(), &"10000".into()), "{next}");
    // What is taken back is executed again, to the same hash.
    let said = alice.run("rollback").ok();
    assert!(said.contains("at height 4") && said.contains("Rolled back"), "{said}");
    alice.start(&[], "");
    alice.reaches(8);
}
