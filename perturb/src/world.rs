//! What the threads of a run share: what was seen, what was said, what must end it.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chain_types::hex;
use comet::rpc::Client;

use crate::{
    history::History,
    homes::Homes,
    ledger::{Block, Ledger},
    manifest::{At, Manifest},
};

/// A look that is older says nothing about now.
const FRESH: Duration = Duration::from_secs(3);
/// Between two looks at what is waited for.
pub const POLL: Duration = Duration::from_millis(50);
/// One RPC call.
pub const CALL_MAX: Duration = Duration::from_secs(4);

/// What a node's RPC said last.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Its newest height.
    pub height: u64,
    /// Its oldest block.
    pub earliest: u64,
    /// Whether it fetches old blocks still.
    pub is_catching_up: bool,
    /// When it said so.
    pub at: Instant,
}

/// A disturbance or a late start, and how it went.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Incident {
    /// The node.
    pub node: String,
    /// What.
    pub what: String,
    /// The chain's height when it began.
    pub height: u64,
    /// Seconds after the first block.
    pub at_seconds: f64,
    /// From its heal until the node was where the others are.
    pub recovered_seconds: Option<f64>,
    /// How it was done, what was said.
    pub notes: Vec<String>,
}

/// What the threads share.
#[derive(Debug)]
pub struct World {
    /// What is run.
    pub manifest: Manifest,
    /// The network.
    pub homes: Homes,
    /// A node's RPC each.
    pub clients: Vec<Client>,
    /// Names of the nodes.
    pub names: Vec<String>,
    /// When this began.
    pub started: Instant,
    /// When the first block was seen.
    pub begun: Mutex<Option<Instant>>,
    /// The chain.
    pub ledger: Mutex<Ledger>,
    /// What was acknowledged.
    pub history: Mutex<History>,
    /// What each node said last.
    pub sights: Vec<Mutex<Option<Sight>>>,
    /// What each node goes through.
    pub states: Vec<Mutex<String>>,
    /// What happened.
    pub incidents: Mutex<Vec<Incident>>,
    /// What must not be, each in a sentence.
    pub violations: Mutex<Vec<String>>,
    /// Nodes that are disturbed right now.
    pub disturbed: AtomicUsize,
    /// Nodes with nothing left to go through.
    pub finished: AtomicUsize,
    /// No further disturbance, no further transaction.
    pub ending: AtomicBool,
    /// Everything was looked at: nodes end.
    pub closing: AtomicBool,
    is_terminal: bool,
}

/// The value of a lock, whoever panicked with it.
pub fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Nothing was seen yet.
    pub fn new(manifest: Manifest, homes: Homes, clients: Vec<Client>) -> Self {
        let count = clients.len();
        Self {
            names: homes.nodes.iter().map(|home| home.name.clone()).collect(),
            manifest,
            homes,
            clients,
            started: Instant::now(),
            begun: Mutex::new(None),
            ledger: Mutex::default(),
            history: Mutex::default(),
            sights: (0..count).map(|_| Mutex::default()).collect(),
            states: (0..count).map(|_| Mutex::new("waits".to_owned())).collect(),
            incidents: Mutex::default(),
            violations: Mutex::default(),
            disturbed: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Whether it is over, by its time or by a violation.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Whether nodes are to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// What a node goes through, for people.
    pub fn set_state(&self, node: usize, state: impl Into<String>) {
        *lock(&self.states[node]) = state.into();
    }

    /// Since the first block; zero before it.
    pub fn elapsed(&self) -> Duration {
        lock(&self.begun).map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// A line for people.
    pub fn say(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let seconds = self.elapsed().as_secs_f64();
        // Nobody listens any more: the report is still written.
        let _ = writeln!(std::io::stderr(), "{clear}{seconds:7.1} s  {text}");
    }

    /// Something that must not be.
    pub fn violate(&self, text: String) {
        self.say(&format!("VIOLATED: {text}"));
        lock(&self.violations).push(text);
    }

    /// Whether something was violated.
    pub fn is_violated(&self) -> bool {
        !lock(&self.violations).is_empty()
    }

    /// The node's last word, if it is from now.
    pub fn sight(&self, node: usize) -> Option<Sight> {
        lock(&self.sights[node]).filter(|sight| sight.at.elapsed() < FRESH)
    }

    /// Whether a node is at a height and fetches no old blocks any more, by a word that it said after
    /// `since`.
    pub fn is_at(&self, node: usize, target: u64, since: Instant) -> bool {
        self.sight(node).is_some_and(|sight| {
            sight.height >= target && !sight.is_catching_up && sight.at > since
        })
    }

    /// The newest height of all nodes.
    pub fn height(&self) -> u64 {
        lock(&self.ledger).newest()
    }

    /// Nodes that answer now.
    pub fn live(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|node| self.sight(*node).is_some()).collect()
    }

    /// Takes a node's block, and notes its transactions as acknowledged.
    pub fn note(&self, node: usize, block: Block) {
        let acknowledged: Vec<_> =
            block.txs.iter().filter_map(|(hash, seen)| Some((*hash, (*seen)?))).collect();
        lock(&self.begun).get_or_insert_with(Instant::now);
        if let Err(sentence) = lock(&self.ledger).note(node, block, &self.names) {
            self.violate(sentence);
        }
        let mut history = lock(&self.history);
        for (hash, seen) in acknowledged {
            history.acknowledge(hash, seen);
        }
    }

    /// Whether a moment has come.
    pub fn is_due(&self, at: At) -> bool {
        match at {
            At::Height(height) => self.height() >= height,
            At::After(span) => lock(&self.begun).is_some_and(|begun| begun.elapsed() >= span),
        }
    }

    /// Waits for something, at most `within`; whether it came.
    pub fn wait(&self, within: Duration, mut came: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + within;
        loop {
            if came() {
                return true;
            }
            if Instant::now() > until || (self.is_ending() && self.is_violated()) {
                return false;
            }
            thread::sleep(POLL);
        }
    }

    /// Whether an event about a node's validator was seen from a height on.
    pub fn happened(&self, node: usize, kind: &str, since: u64) -> Option<u64> {
        let operator = self.homes.nodes[node].account().to_string();
        self.happened_to(&operator, kind, since)
    }

    /// The same by operator.
    pub fn happened_to(&self, operator: &str, kind: &str, since: u64) -> Option<u64> {
        let ledger = lock(&self.ledger);
        let mut events = ledger.since(since).flat_map(|block| &block.events);
        let found = events.find(|event| event.kind == kind && event.validator == operator);
        found.map(|event| event.height)
    }

    /// A short name of the state at a height.
    pub fn app_hash(&self, height: u64) -> String {
        let ledger = lock(&self.ledger);
        let hash = ledger.block(height).map(|block| block.app_hash.clone()).unwrap_or_default();
        hash.chars().take(8).collect()
    }
}

/// The newest state's JSON of an ABCI path.
///
/// # Errors
/// No answer, or the application's refusal.
pub fn query(client: &Client, path: &str) -> anyhow::Result<serde_json::Value> {
    let answer = client.abci_query(path, &[], 0, false)?;
    anyhow::ensure!(answer.code == 0, "{path}: {} (code {})", answer.log, answer.code);
    serde_json::from_slice(&answer.value).map_err(|error| {
        anyhow::anyhow!("{path} answers {}, no JSON: {error}", hex::text(&answer.value))
    })
}
