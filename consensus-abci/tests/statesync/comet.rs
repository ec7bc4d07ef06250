//! Nodes that join by state sync, with the real CometBFT: from an honest node, and beside a liar.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chain_types::Payload;
use consensus_abci::{
    app::{App, Options},
    application::{Application, ApplicationError, Wrapper},
    engine::{Genesis, NodeKey, ValidatorKey},
    server::{Limits, ListenAddr, Server},
};
use serde_json::json;
use tendermint_proto::v0_38::abci::{
    RequestLoadSnapshotChunk, ResponseListSnapshots, ResponseLoadSnapshotChunk,
};

use crate::{
    chain::large_state,
    node::{comet_binary, free_port, key_json},
    rpc::Rpc,
    world::{CHAIN_ID, Dir, GENESIS_MS, World, sut},
};

/// Snapshots about every four seconds, there as long as a test.
const OPTIONS: Options = Options { snapshot_interval: 12, snapshot_keep: 9, versions_kept: 1000 };
const VALIDATOR: u8 = 7;
/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn chain_genesis() -> Genesis {
    let app_state = serde_json::to_value(large_state()).unwrap();
    let seconds = i64::try_from(GENESIS_MS / 1000).unwrap();
    let time = tendermint::Time::from_unix_timestamp(seconds, 0).unwrap();
    let key = ValidatorKey::from_seed([VALIDATOR; 32]).public_key();
    Genesis::single(CHAIN_ID.parse().unwrap(), time, key, app_state)
}

/// CometBFT in a process, its application in this one.
struct Node {
    dir: Dir,
    app: Arc<App>,
    server: Option<Server>,
    comet: Option<Child>,
    id: String,
    is_validator: bool,
    p2p_port: u16,
    rpc_port: u16,
}

impl Node {
    /// `wrap`: what stands between the application and the engine.
    fn new(
        genesis: &Genesis,
        is_validator: bool,
        wrap: impl FnOnce(Arc<App>) -> Arc<dyn Application>,
    ) -> Node {
        let dir = Dir::new();
        let (config, data) = (dir.path().join("config"), dir.path().join("data"));
        fs::create_dir_all(&config).unwrap();
        fs::create_dir_all(&data).unwrap();
        fs::write(config.join("genesis.json"), genesis.to_json().to_string()).unwrap();
        let state = r#"{"height":"0","round":0,"step":0}"#;
        fs::write(data.join("priv_validator_state.json"), state).unwrap();
        let key_file = config.join("priv_validator_key.json");
        if is_validator {
            fs::write(key_file, key_json(&ValidatorKey::from_seed([VALIDATOR; 32]))).unwrap();
        } else {
            ValidatorKey::load_or_create(&key_file).unwrap();
        }
        let id = NodeKey::load_or_create(&config.join("node_key.json")).unwrap().id();
        let app = Arc::new(App::open_with(&dir.path().join("app"), OPTIONS).unwrap());
        let at: ListenAddr =
            format!("unix://{}", dir.path().join("abci.sock").display()).parse().unwrap();
        let server = Server::start(wrap(Arc::clone(&app)), &at, Limits::default()).unwrap();
        let (p2p_port, rpc_port) = (free_port(), free_port());
        Node { dir, app, server: Some(server), comet: None, id, is_validator, p2p_port, rpc_port }
    }

    fn address(&self) -> String {
        format!("{}@127.0.0.1:{}", self.id, self.p2p_port)
    }

    fn rpc(&self) -> Rpc {
        Rpc { port: self.rpc_port }
    }

    fn start(&mut self, peers: &[&Node], statesync: &str) {
        let peers: Vec<String> = peers.iter().map(|peer| peer.address()).collect();
        // Who only follows waits for nobody: it can catch up.
        let timeout_commit = if self.is_validator { "300ms" } else { "10ms" };
        let config = format!(
            "db_backend = \"goleveldb\"\nlog_level = \"info\"\n\
             proxy_app = \"unix://{}\"\n\
             [rpc]\nladdr = \"tcp://127.0.0.1:{}\"\n\
             [p2p]\nladdr = \"tcp://127.0.0.1:{}\"\npersistent_peers = \"{}\"\npex = false\n\
             addr_book_strict = false\nallow_duplicate_ip = true\n\
             [consensus]\ntimeout_commit = \"{timeout_commit}\"\n\
             peer_gossip_sleep_duration = \"10ms\"\n\
             [tx_index]\nindexer = \"null\"\n{statesync}",
            self.dir.path().join("abci.sock").display(),
            self.rpc_port,
            self.p2p_port,
            peers.join(","),
        );
        fs::write(self.dir.path().join("config/config.toml"), config).unwrap();
        let log = File::create(self.log_path()).unwrap();
        let mut command = Command::new(comet_binary());
        command
            .args(["start", "--home"])
            .arg(self.dir.path())
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
        self.comet = Some(command.spawn().unwrap());
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("comet.log")
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            if begin.elapsed() > PATIENCE {
                let failure = self.server.as_ref().and_then(Server::failure);
                panic!("not {what}: {failure:?}\n{}", end_of(&self.log_path()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn wait_for_height(&self, height: u64) {
        self.wait_until(&format!("at height {height}"), || self.app.snapshot().height() >= height);
    }

    fn snapshots(&self) -> usize {
        self.app.list_snapshots().unwrap().snapshots.len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut comet) = self.comet.take() {
            let _ = comet.kill();
            let _ = comet.wait();
        }
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// What a joiner is told to trust.
fn statesync(provider: &Node) -> String {
    let trusted = provider.rpc().call("commit", json!({ "height": "3" }));
    let hash = trusted["signed_header"]["commit"]["block_id"]["hash"].as_str().unwrap().to_owned();
    let server = format!("http://127.0.0.1:{}", provider.rpc_port);
    format!(
        "[statesync]\nenable = true\nrpc_servers = \"{server},{server}\"\ntrust_height = 3\n\
         trust_hash = \"{hash}\"\ntrust_period = \"168h0m0s\"\ndiscovery_time = \"5s\"\n\
         chunk_request_timeout = \"5s\"\n"
    )
}

/// The joiner came by a snapshot, has the provider's state, and follows.
#[track_caller]
fn check_joined(joiner: &Node, provider: &Node) {
    joiner.wait_until("restored", || joiner.app.snapshot().head().is_some());
    let oldest = joiner.app.snapshot().height();
    assert!(oldest >= OPTIONS.snapshot_interval, "by a snapshot, not by blocks");
    let next = provider.app.snapshot().height() + 3;
    joiner.wait_for_height(next);
    provider.wait_for_height(next);
    let hash = |node: &Node| node.app.snapshot().app_hash_at(next).unwrap();
    assert_eq!(hash(joiner), hash(provider), "app hash of height {next}");
    assert!(joiner.app.snapshot().app_hash_at(2).is_err(), "what was before is not there");
    assert!(joiner.app.snapshot().audit().unwrap().is_balanced());
}

/// R107: a late joiner by state sync has the same app hash, and takes transactions.
#[test]
fn a_node_joins_by_state_sync_and_has_the_same_app_hash() {
    let genesis = chain_genesis();
    let mut provider = Node::new(&genesis, true, |app| app);
    provider.start(&[], "");
    provider.wait_until("a snapshot", || provider.snapshots() > 0);
    let mut joiner = Node::new(&genesis, false, |app| app);
    let sync = statesync(&provider);
    joiner.start(&[&provider], &sync);
    check_joined(&joiner, &provider);

    // A transaction given to the joiner is in both.
    let world = World::new();
    let other = crate::world::id("other");
    let balance = |node: &Node| node.app.snapshot().account(&other).unwrap().unwrap().balance;
    let before = balance(&provider);
    let tx = world.sign("viewer", Payload::Transfer { to: other, amount: sut(77) });
    let answer = joiner.rpc().call("broadcast_tx_sync", json!({ "tx": base64(&tx) }));
    assert_eq!(answer["code"], 0, "{answer}");
    for node in [&joiner, &provider] {
        let paid = before.checked_add(sut(77)).unwrap();
        node.wait_until("paid", || balance(node) == paid);
    }
    check_joined(&joiner, &provider);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Whether a lie was told, and those who wait for it.
#[derive(Default)]
struct Lies {
    count: AtomicU32,
    told: Mutex<bool>,
    any: Condvar,
}

/// Gives chunks with a flipped bit, or holds honest ones back until somebody has done so: whom the
/// joiner asks is chance, and it must ask the liar once.
struct Provider {
    app: Arc<App>,
    lies: Arc<Lies>,
    is_liar: bool,
}

impl Wrapper for Provider {
    type Inner = App;

    fn inner(&self) -> &App {
        &self.app
    }

    fn load_snapshot_chunk(
        &self,
        request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, ApplicationError> {
        let ResponseLoadSnapshotChunk { chunk } = self.app.load_snapshot_chunk(request)?;
        let mut told = self.lies.told.lock().unwrap();
        if !self.is_liar {
            let (_told, _) = self
                .lies
                .any
                .wait_timeout_while(told, Duration::from_secs(20), |told| !*told)
                .unwrap();
            return Ok(ResponseLoadSnapshotChunk { chunk });
        }
        *told = true;
        self.lies.any.notify_all();
        self.lies.count.fetch_add(1, Ordering::SeqCst);
        let mut bytes = chunk.to_vec();
        let middle = bytes.len() / 2;
        bytes.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
        Ok(ResponseLoadSnapshotChunk { chunk: Bytes::from(bytes) })
    }

    /// Only the first one, which both have: the joiner finds two providers of it.
    fn list_snapshots(&self) -> Result<ResponseListSnapshots, ApplicationError> {
        let mut listed = self.app.list_snapshots()?;
        listed.snapshots.retain(|snapshot| snapshot.height == OPTIONS.snapshot_interval);
        Ok(listed)
    }
}

/// One of two providers gives corrupted chunks: it is told off, and the state comes from the other.
#[test]
fn a_node_joins_although_one_of_two_providers_gives_corrupted_chunks() {
    let genesis = chain_genesis();
    let lies = Arc::new(Lies::default());
    let wrap = |is_liar| {
        let lies = Arc::clone(&lies);
        move |app: Arc<App>| Arc::new(Provider { app, lies, is_liar }) as Arc<dyn Application>
    };
    let mut honest = Node::new(&genesis, true, wrap(false));
    honest.start(&[], "");
    let mut liar = Node::new(&genesis, false, wrap(true));
    liar.start(&[&honest], "");
    honest.wait_until("a snapshot", || honest.snapshots() > 0);
    liar.wait_until("the same snapshot", || liar.snapshots() > 0);
    let mut joiner = Node::new(&genesis, false, |app| app);
    let sync = statesync(&honest);
    joiner.start(&[&honest, &liar], &sync);
    check_joined(&joiner, &honest);
    assert!(lies.count.load(Ordering::SeqCst) > 0, "the liar was never asked");
}
