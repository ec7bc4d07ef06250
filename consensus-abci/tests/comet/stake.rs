//! Validators of the real CometBFT: one joins, one signs twice, one is away; stake moves and pays.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chain_types::{Params, Payload, ResultCode};
use consensus_abci::app::App;
use consensus_abci::engine::{NodeKey, ValidatorKey};
use consensus_abci::server::{Limits, ListenAddr, Server};
use serde_json::{Value, json};

use crate::load::signed;
use crate::node::{chain_genesis, comet_binary, free_port};
use crate::rpc::{Rpc, number};
use crate::staked::{
    STAKE, SUT, address, create, delegate, engine_key, redelegate, staked_state, undelegate, units,
    withdraw,
};
use crate::world::{BEGIN, CHAIN_ID, Dir, World, id};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The engines of the first four, of the one that joins, and of the one that copied a key.
const ENGINES: usize = 6;
const FIRSTS: [(&str, u64, u16); 4] =
    [("v1", STAKE, 0), ("v2", STAKE, 1_000), ("v3", STAKE, 0), ("v4", STAKE, 0)];
/// Of [`crate::world::NAMES`]: it has an account.
const FIFTH: &str = "other";

fn params() -> Params {
    Params { unbonding_ms: 8_000, downtime_jail_ms: 1_000, ..Params::for_tests() }
}

/// CometBFT; killed with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where every engine of the network is.
struct Places {
    node_keys: Vec<NodeKey>,
    p2p_ports: Vec<u16>,
}

impl Places {
    fn new() -> Self {
        let node_keys = (0..ENGINES).map(|at| NodeKey::from_seed([100 + at as u8; 32])).collect();
        Self { node_keys, p2p_ports: (0..ENGINES).map(|_| free_port()).collect() }
    }

    fn others(&self, this: usize) -> String {
        let place =
            |at: usize| format!("{}@127.0.0.1:{}", self.node_keys[at].id(), self.p2p_ports[at]);
        let others: Vec<_> = (0..ENGINES).filter(|at| *at != this).map(place).collect();
        others.join(",")
    }
}

/// An application in this process, and its engine in another.
struct Peer {
    at: usize,
    dir: Dir,
    app: Arc<App>,
    server: Server,
    rpc_port: u16,
    comet: Option<Running>,
}

impl Peer {
    /// With the consensus key of `operator`.
    fn start(places: &Places, at: usize, operator: &str) -> Self {
        let dir = Dir::new();
        let home = dir.path();
        for part in ["config", "data"] {
            fs::create_dir_all(home.join(part)).unwrap();
        }
        let write = |name: &str, text: String| fs::write(home.join(name), text).unwrap();
        let mut genesis = chain_genesis().to_json();
        genesis["validators"] = json!([]);
        genesis["app_state"] = serde_json::to_value(staked_state(params(), &FIRSTS)).unwrap();
        write("config/genesis.json", genesis.to_string());
        write("config/config.toml", CONFIG.to_owned());
        write("config/priv_validator_key.json", key_json(operator));
        write("config/node_key.json", node_key_json(100 + at as u8));
        write("data/priv_validator_state.json", r#"{"height":"0","round":0,"step":0}"#.to_owned());
        let app = Arc::new(App::open(&home.join("app")).unwrap());
        let socket = ListenAddr::Unix(home.join("abci.sock"));
        let server = Server::start(app.clone(), &socket, Limits::default()).unwrap();
        let mut peer = Self { at, dir, app, server, rpc_port: free_port(), comet: None };
        peer.start_comet(places);
        peer
    }

    fn start_comet(&mut self, places: &Places) {
        let log = self.dir.path().join("comet.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(comet_binary());
        command
            .arg("start")
            .arg("--home")
            .arg(self.dir.path())
            .args(["--proxy_app", &self.server.local_addr().to_string()])
            .args(["--rpc.laddr", &format!("tcp://127.0.0.1:{}", self.rpc_port)])
            .args(["--p2p.laddr", &format!("tcp://127.0.0.1:{}", places.p2p_ports[self.at])])
            .args(["--p2p.persistent_peers", &places.others(self.at)])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // SAFETY: between fork and exec this makes one system call and touches no memory.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        self.comet = Some(Running(command.spawn().unwrap()));
    }

    fn rpc(&self) -> Rpc {
        Rpc { port: self.rpc_port }
    }

    fn height(&self) -> u64 {
        self.app.snapshot().height()
    }

    fn answer(&self, path: &str) -> Value {
        World::answer_of(&self.app, path).unwrap()
    }

    fn validator(&self, operator: &str) -> Value {
        self.answer(&format!("/validator/{}", id(operator)))
    }

    fn stake_of(&self, delegator: &str, operator: &str) -> Value {
        let all = self.answer(&format!("/delegations/{}", id(delegator)));
        let operator = id(operator).to_string();
        let all = all.as_array().unwrap();
        all.iter().find(|one| one["validator"] == operator).expect("a delegation").clone()
    }

    fn balance(&self, name: &str) -> u64 {
        let account = self.app.snapshot().account(&id(name)).unwrap().unwrap_or_default();
        u64::try_from(account.balance.units()).unwrap()
    }

    /// Waits for the transaction's block; its height, its events, and what it cost.
    #[track_caller]
    fn done(&self, who: &str, payload: Payload) -> Done {
        let nonce = self.app.snapshot().account(&id(who)).unwrap().unwrap_or_default().nonce;
        let tx = signed(who, nonce, payload);
        let included = self.rpc().commit(&tx).expect("it comes into a block");
        let at = json!({ "height": included.height.to_string() });
        let results = self.rpc().call("block_results", at);
        assert_eq!(
            included.code,
            0,
            "{:?}: {results}",
            ResultCode::from_code(included.code as u32)
        );
        let events = results["txs_results"][0]["events"].clone();
        let fee = attribute(&events, "fee", "amount").expect("every transaction costs");
        Done { height: included.height, events, fee: fee.parse().unwrap() }
    }

    /// Powers by address, upper-case hex.
    #[track_caller]
    fn powers(&self, height: u64) -> Vec<(String, u64)> {
        wait("the engine knows its validators", || self.rpc().height().unwrap_or(0) + 1 >= height);
        let answer = self.rpc().call("validators", json!({ "height": height.to_string() }));
        let power = |one: &Value| {
            (one["address"].as_str().unwrap().to_owned(), number(&one["voting_power"]))
        };
        let mut powers: Vec<_> =
            answer["validators"].as_array().unwrap().iter().map(power).collect();
        powers.sort();
        powers
    }

    /// Whether a validator's signature is under the block of this height.
    fn has_signed(&self, operator: &str, height: u64) -> bool {
        let Some(answer) = self.rpc().try_call("commit", json!({ "height": height.to_string() }))
        else {
            return false;
        };
        let signatures = answer["signed_header"]["commit"]["signatures"].as_array().unwrap();
        let address = hex_address(operator);
        signatures
            .iter()
            .any(|one| one["validator_address"] == address && one["block_id_flag"] == 2)
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("comet.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

struct Done {
    height: u64,
    events: Value,
    fee: u64,
}

impl Done {
    #[track_caller]
    fn attribute(&self, event: &str, name: &str) -> u64 {
        let found = attribute(&self.events, event, name);
        found.unwrap_or_else(|| panic!("{event}: {}", self.events)).parse().unwrap()
    }
}

fn attribute(events: &Value, event: &str, name: &str) -> Option<String> {
    let found = events.as_array()?.iter().find(|found| found["type"] == event)?;
    let attributes = found["attributes"].as_array()?;
    let attribute = attributes.iter().find(|attribute| attribute["key"] == name)?;
    Some(attribute["value"].as_str()?.to_owned())
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it never came to this: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn hex_address(operator: &str) -> String {
    address(operator).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Blocks several times a second, and short rounds where a proposer is away.
const CONFIG: &str = r#"
db_backend = "goleveldb"
log_level = "info"
[p2p]
pex = false
addr_book_strict = false
allow_duplicate_ip = true
flush_throttle_timeout = "5ms"
[consensus]
timeout_propose = "400ms"
timeout_prevote = "200ms"
timeout_precommit = "200ms"
timeout_commit = "100ms"
peer_gossip_sleep_duration = "5ms"
[tx_index]
indexer = "null"
"#;

fn key_json(operator: &str) -> String {
    let seed = engine_key(operator).to_bytes();
    let key = ValidatorKey::from_seed(seed);
    let public = key.public_key().to_bytes();
    json!({
        "address": key.address().to_string(),
        "pub_key": { "type": "tendermint/PubKeyEd25519", "value": BASE64.encode(&public) },
        "priv_key": {
            "type": "tendermint/PrivKeyEd25519",
            "value": BASE64.encode([&seed[..], &public].concat()),
        },
    })
    .to_string()
}

fn node_key_json(byte: u8) -> String {
    let public = ValidatorKey::from_seed([byte; 32]).public_key().to_bytes();
    let private = BASE64.encode([&[byte; 32][..], &public].concat());
    json!({ "priv_key": { "type": "tendermint/PrivKeyEd25519", "value": private } }).to_string()
}

/// R2, R107: bonding and unbonding change the validator set two blocks later, double signing and
/// absence are punished, and stake pays to the unit; all applications agree on every state.
#[test]
fn four_validators_of_the_real_engine_become_five_and_every_stake_is_accounted_for() {
    let places = Places::new();
    let mut peers: Vec<Peer> = FIRSTS
        .iter()
        .enumerate()
        .map(|(at, (operator, ..))| Peer::start(&places, at, operator))
        .collect();
    peers.push(Peer::start(&places, 4, FIFTH));
    let begin = Instant::now();
    while peers.iter().any(|peer| peer.height() < 3) {
        assert!(begin.elapsed() < PATIENCE, "no chain:\n{}", peers[0].log_end());
        thread::sleep(Duration::from_millis(20));
    }

    // One joins.
    let Done { height, .. } = peers[0].done(FIFTH, create(FIFTH, 50 * SUT, 500));
    let four = FIRSTS.map(|(operator, ..)| (hex_address(operator), 100));
    let mut expected = four.to_vec();
    expected.sort();
    assert_eq!(peers[0].powers(height + 1), expected);
    expected.push((hex_address(FIFTH), 50));
    expected.sort();
    assert_eq!(peers[0].powers(height + 2), expected);
    wait("the fifth signs", || {
        let height = peers[0].height().saturating_sub(1);
        peers[0].has_signed(FIFTH, height)
    });

    // A delegation counts two blocks later.
    let Done { height, .. } = peers[1].done("viewer", delegate("v1", 25 * SUT));
    assert_eq!(peers[0].powers(height + 1), expected);
    expected.iter_mut().find(|(address, _)| *address == hex_address("v1")).unwrap().1 = 125;
    assert_eq!(peers[0].powers(height + 2), expected);
    peers[0].done("viewer", delegate("v4", 20 * SUT));

    // The fourth's key is copied: it signs twice, as soon as both do.
    let twin = Peer::start(&places, 5, "v4");
    wait("the chain knows who signed twice", || peers[0].validator("v4")["status"] == "tombstoned");
    drop(twin);
    let record = peers[0].validator("v4");
    assert_eq!(units(&record["tokens"]), 114 * SUT, "5 % of 120");
    assert_eq!(record["slashed"]["bps"], 500);
    assert_eq!(units(&peers[0].stake_of("viewer", "v4")["amount"]), 19 * SUT);
    let known = record["slashed"]["height"].as_u64().unwrap();
    let after = peers[0].powers(known + 2);
    assert!(after.iter().all(|(address, _)| *address != hex_address("v4")), "{after:?}");
    let evidence = peers[0].rpc().call("block", json!({ "height": known.to_string() }));
    let evidence = evidence["block"]["evidence"]["evidence"].as_array().unwrap().len();
    assert!(evidence >= 1, "the block brought the proof");

    // The third is stopped, jailed, and comes back.
    peers[2].comet = None;
    wait("who is away is jailed", || peers[0].validator("v3")["status"] == "jailed");
    assert_eq!(units(&peers[0].validator("v3")["tokens"]), STAKE, "that costs nothing");
    peers[2].start_comet(&places);
    wait("it is back", || peers[2].height() + 1 >= peers[0].height());
    let until_ms = peers[0].validator("v3")["jailed"]["until_ms"].as_u64().unwrap();
    wait("its time is over", || peers[0].app.snapshot().block_time_ms() >= until_ms);
    let Done { height, .. } = peers[0].done("v3", Payload::Unjail);
    assert!(peers[0].powers(height + 2).contains(&(hex_address("v3"), 100)));
    wait("it signs again", || {
        let height = peers[0].height().saturating_sub(1);
        peers[0].has_signed("v3", height)
    });

    // Stake moves, leaves and pays: to the unit, as was said.
    let moved = peers[0].done("viewer", redelegate("v1", "v2", 10 * SUT));
    assert_eq!(moved.attribute("stake_moved", "amount"), 10 * SUT);
    assert!(peers[0].powers(moved.height + 2).contains(&(hex_address("v2"), 110)));
    peers[0].done("viewer", undelegate("v1", 5 * SUT));
    let said = peers[0].stake_of("viewer", "v1");
    assert_eq!(units(&said["amount"]), 10 * SUT);
    let leaving = said["leaving"].as_array().unwrap();
    let left = leaving.iter().find(|one| one["to"].is_null()).expect("it left");
    assert_eq!(units(&left["amount"]), 5 * SUT);
    for (who, validator) in [("viewer", "v1"), ("viewer", "v2"), ("v2", "v2"), (FIFTH, FIFTH)] {
        let said = units(&peers[0].stake_of(who, validator)["rewards"]);
        assert!(said > 0);
        let before = peers[0].balance(who);
        let done = peers[0].done(who, withdraw(validator));
        let paid = ["amount", "commission"].map(|name| done.attribute("rewards_paid", name));
        assert_eq!(paid.iter().sum::<u64>(), said, "{who} of {validator}");
        assert_eq!(paid[1] > 0, who == validator);
        let came = match attribute(&done.events, "stake_complete", "amount") {
            Some(amount) => amount.parse().unwrap(),
            None => 0,
        };
        assert_eq!(peers[0].balance(who), before + said + came - done.fee);
    }
    if !peers[0].stake_of("viewer", "v1")["leaving"].as_array().unwrap().is_empty() {
        let free_ms = left["complete_ms"].as_u64().unwrap();
        wait("what left is free", || peers[0].app.snapshot().block_time_ms() >= free_ms);
        let (before, said) =
            (peers[0].balance("viewer"), units(&peers[0].stake_of("viewer", "v1")["rewards"]));
        let done = peers[0].done("viewer", withdraw("v1"));
        assert_eq!(done.attribute("stake_complete", "amount"), 5 * SUT);
        assert_eq!(peers[0].balance("viewer"), before + said + 5 * SUT - done.fee);
    }
    assert!(peers[0].balance("viewer") < BEGIN - 40 * SUT + SUT);

    // All agree, at every height.
    let height = peers[0].height() - 1;
    wait("all are there", || peers.iter().all(|peer| peer.height() > height));
    for height in 1..=height {
        let hash = peers[0].rpc().app_hash_after(height);
        for peer in &peers[1..] {
            assert_eq!(peer.rpc().app_hash_after(height), hash, "after height {height}");
        }
    }
    for peer in &peers {
        let audit = peer.app.snapshot().audit().unwrap();
        assert!(audit.is_balanced(), "{audit:?}");
        assert_eq!(peer.app.snapshot().chain_id(), Some(CHAIN_ID));
        assert_eq!(peer.server.failure(), None);
    }
    println!("{height} heights, equal on {} nodes", peers.len());
}
