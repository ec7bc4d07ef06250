//! A validator of two processes: the application in a child of this test binary, and CometBFT.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chain_types::Params;
use consensus_abci::app::App;
use consensus_abci::engine::{Genesis, NodeKey, ValidatorKey};
use consensus_abci::fail::{self, Step};
use consensus_abci::server::{Limits, ListenAddr, Server};

use crate::rpc::Rpc;
use crate::world::{CHAIN_ID, Dir, GENESIS_MS, genesis};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// `address|directory|step or none|height` for the child.
const CHILD: &str = "SUTANTRA_ABCI_TEST_CHILD";
/// Pause between blocks: many heights in a short test.
const TIMEOUT_COMMIT: &str = "20ms";
/// How long a proposal that died with its process holds up the next round.
const TIMEOUT_PROPOSE: &str = "500ms";

/// The CometBFT to test with: the one that is named, the workspace's, or one on the path.
pub fn comet_binary() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/cometbft");
    let path = env::var_os("PATH").unwrap_or_default();
    let places = match env::var_os("SUTANTRA_COMET_BIN") {
        Some(named) => vec![PathBuf::from(named)],
        None => std::iter::once(tools)
            .chain(env::split_paths(&path).map(|dir| dir.join("cometbft")))
            .collect(),
    };
    places.iter().find(|place| place.is_file()).cloned().unwrap_or_else(|| {
        panic!(
            "there is no CometBFT at {}: `cargo xtask tools` installs it into .tools/ of the \
             workspace; or name one in SUTANTRA_COMET_BIN",
            places[0].display()
        )
    })
}

/// Behind the application's death CometBFT ends by itself within milliseconds, or never: where a
/// call was queued while its connection closed, its consensus waits for the answer for ever.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(2);

/// How the two processes speak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transport {
    Unix,
    Tcp,
}

/// The chain's beginning, the same for every engine.
pub fn chain_genesis() -> Genesis {
    let request = genesis(Params::for_tests());
    let app_state = serde_json::from_slice(&request.app_state_bytes).unwrap();
    let seconds = i64::try_from(GENESIS_MS / 1000).unwrap();
    let time = tendermint::Time::from_unix_timestamp(seconds, 0).unwrap();
    let key = ValidatorKey::from_seed([7; 32]).public_key();
    Genesis::single(CHAIN_ID.parse().unwrap(), time, key, app_state)
}

/// One validator in a directory of its own: `app/` and CometBFT's `config/` and `data/`.
pub struct Node {
    pub dir: Dir,
    transport: Transport,
    rpc_port: u16,
    p2p_port: u16,
    pub app: Option<AppChild>,
    pub comet: Option<CometChild>,
}

impl Node {
    pub fn new(transport: Transport) -> Node {
        let dir = Dir::new();
        let config = dir.path().join("config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("genesis.json"), chain_genesis().to_json().to_string()).unwrap();
        fs::write(config.join("config.toml"), config_toml()).unwrap();
        let key = ValidatorKey::from_seed([7; 32]);
        fs::write(config.join("priv_validator_key.json"), key_json(&key)).unwrap();
        NodeKey::load_or_create(&config.join("node_key.json")).unwrap();
        let node = Node {
            dir,
            transport,
            rpc_port: free_port(),
            p2p_port: free_port(),
            app: None,
            comet: None,
        };
        node.forget_blocks();
        node
    }

    /// The engine's data as before the first start.
    pub fn forget_blocks(&self) {
        let data = self.dir.path().join("data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).unwrap();
        let state = r#"{"height":"0","round":0,"step":0}"#;
        fs::write(data.join("priv_validator_state.json"), state).unwrap();
    }

    pub fn app_dir(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    pub fn rpc(&self) -> Rpc {
        Rpc { port: self.rpc_port }
    }

    pub fn start(&mut self) {
        self.start_app(None);
        self.start_comet(None);
    }

    /// `at`: where the application kills itself.
    pub fn start_app(&mut self, at: Option<(Step, u64)>) {
        let address = match self.transport {
            Transport::Unix => format!("unix://{}", self.dir.path().join("abci.sock").display()),
            Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
        };
        assert!(self.app.is_none(), "one application at a time");
        self.app = Some(AppChild::spawn(&address, &self.app_dir(), at));
    }

    /// `fail_index`: which of its own fail points CometBFT dies at.
    pub fn start_comet(&mut self, fail_index: Option<u32>) {
        let log = self.dir.path().join("comet.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let address = self.app.as_ref().expect("the application comes first").address.clone();
        let mut command = Command::new(comet_binary());
        command
            .arg("start")
            .arg("--home")
            .arg(self.dir.path())
            .args(["--proxy_app", &address])
            .args(["--rpc.laddr", &format!("tcp://127.0.0.1:{}", self.rpc_port)])
            .args(["--p2p.laddr", &format!("tcp://127.0.0.1:{}", self.p2p_port)])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // SAFETY: between fork and exec this makes one system call and touches no memory.
        unsafe {
            command.pre_exec(|| {
                // Without its application it may hang: it must not outlive a test that is killed.
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        if let Some(index) = fail_index {
            command.env("FAIL_TEST_INDEX", index.to_string());
        }
        assert!(self.comet.is_none(), "one engine at a time");
        self.comet = Some(CometChild(command.spawn().unwrap()));
    }

    pub fn app(&mut self) -> &mut AppChild {
        self.app.as_mut().expect("the application runs")
    }

    /// `kill -9`; reaped on return.
    pub fn kill_app(&mut self) {
        self.app = None;
    }

    /// `kill -9`; reaped on return.
    pub fn kill_comet(&mut self) {
        self.comet = None;
    }

    /// CometBFT ends since the application is gone; one that hangs is killed, as a supervisor does.
    /// Whether it hung.
    pub fn end_comet_without_app(&mut self) -> bool {
        let mut comet = self.comet.take().expect("the engine runs");
        let begin = Instant::now();
        while comet.0.try_wait().unwrap().is_none() {
            if begin.elapsed() > ENDS_BY_ITSELF {
                return true; // Killed when it is dropped.
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// CometBFT ends by itself.
    #[track_caller]
    pub fn wait_for_comet_end(&mut self) -> ExitStatus {
        let mut comet = self.comet.take().expect("the engine runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = comet.0.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "CometBFT runs on:\n{}", self.log_end());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the chain is at `height` or beyond.
    #[track_caller]
    pub fn wait_for_height(&mut self, height: u64) -> u64 {
        let begin = Instant::now();
        loop {
            let now = self.rpc().height().unwrap_or(0);
            if now >= height {
                return now;
            }
            let ended = self.comet.as_mut().and_then(|comet| comet.0.try_wait().unwrap());
            if ended.is_some() || begin.elapsed() > PATIENCE {
                panic!("height {now} instead of {height}, {ended:?}:\n{}", self.log_end());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The chain has this many blocks more than now.
    #[track_caller]
    pub fn wait_for_blocks(&mut self, blocks: u64) -> u64 {
        let now = self.wait_for_height(1);
        self.wait_for_height(now + blocks)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("comet.log")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// CometBFT; killed with this value.
pub struct CometChild(Child);

impl Drop for CometChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The application; killed with this value.
pub struct AppChild {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Where it listens.
    pub address: String,
}

impl AppChild {
    fn spawn(address: &str, dir: &Path, at: Option<(Step, u64)>) -> AppChild {
        let place = |step: Step| Step::ALL.iter().position(|other| *other == step).unwrap();
        let (step, height) =
            at.map_or((String::new(), 0), |(step, height)| (place(step).to_string(), height));
        let order = format!("{address}|{}|{step}|{height}", dir.display());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "node::a_child_process_serves_the_application", "--nocapture"])
            .env(CHILD, order)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    seen.lock().unwrap().push(line.clone());
                    let _ = sender.send(line);
                }
            }
        });
        let stdin = child.stdin.take();
        let mut app = AppChild { child, stdin, lines, seen, address: String::new() };
        app.address = app.wait_for("ADDRESS");
        app
    }

    /// The rest of the next line that begins with `word`.
    #[track_caller]
    pub fn wait_for(&mut self, word: &str) -> String {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the application never said {word}: {:#?}", self.seen.lock().unwrap())
                }
            }
        }
    }

    /// No file grows any more.
    pub fn fill_the_disk(&mut self) {
        writeln!(self.stdin.as_mut().expect("taken at the end only"), "full").unwrap();
        self.wait_for("FULL");
    }

    /// Asks it to end, as a signal does, and waits.
    pub fn stop(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.seen.lock().unwrap());
    }

    /// It dies by itself, as it was told.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "the application lives on");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for AppChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the application's process; by itself it only returns. It ends with its stdin.
#[test]
fn a_child_process_serves_the_application() {
    let Ok(order) = env::var(CHILD) else { return };
    let [address, dir, step, height]: [&str; 4] =
        order.split('|').collect::<Vec<_>>().try_into().expect("four parts");
    if !step.is_empty() {
        fail::arm(Step::ALL[step.parse::<usize>().unwrap()], height.parse().unwrap());
    }
    let app = Arc::new(App::open(Path::new(dir)).unwrap());
    let at: ListenAddr = address.parse().unwrap();
    let server = Server::start(app, &at, Limits::default()).unwrap();
    println!("\nADDRESS {}", server.local_addr());
    let (sender, orders) = mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let (mut failure, mut advice) = (None, None);
    loop {
        match orders.recv_timeout(Duration::from_millis(5)) {
            Ok(_full) => {
                no_file_grows();
                println!("FULL");
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        say_new("FAILURE", &mut failure, server.failure());
        say_new("ADVICE", &mut advice, server.advice());
    }
    server.stop();
    std::process::exit(0);
}

/// As on a full disk: a write beyond the first byte of a file is an error.
fn no_file_grows() {
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both take plain values; with the signal ignored such a write fails with EFBIG.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

fn say_new(word: &str, said: &mut Option<String>, now: Option<String>) {
    if *said != now {
        if let Some(sentence) = &now {
            println!("{word} {sentence}");
        }
        *said = now;
    }
}

/// A port that nobody has now, and that no other test of this process is given.
pub fn free_port() -> u16 {
    // Below the range that the system gives to outgoing connections.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 500) as u16 * 20;
    loop {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        if TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return port;
        }
    }
}

fn config_toml() -> String {
    format!(
        "db_backend = \"goleveldb\"\n\
         log_level = \"info\"\n\
         [p2p]\n\
         pex = false\n\
         addr_book_strict = false\n\
         [mempool]\n\
         recheck = true\n\
         [consensus]\n\
         timeout_commit = \"{TIMEOUT_COMMIT}\"\n\
         timeout_propose = \"{TIMEOUT_PROPOSE}\"\n\
         [tx_index]\n\
         indexer = \"null\"\n"
    )
}

pub fn key_json(key: &ValidatorKey) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let public = key.public_key().to_bytes();
    let private = [&[7; 32][..], &public].concat();
    serde_json::json!({
        "address": key.address().to_string(),
        "pub_key": { "type": "tendermint/PubKeyEd25519", "value": base64.encode(&public) },
        "priv_key": { "type": "tendermint/PrivKeyEd25519", "value": base64.encode(private) },
    })
    .to_string()
}
