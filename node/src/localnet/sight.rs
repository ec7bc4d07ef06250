//! What the validators say about themselves: asked over their RPC, each by a thread of its own.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use comet::rpc::Client;
use serde_json::{Value, json};

use super::net::NodePorts;

/// Between two questions to a validator.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long one may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Blocks that the time between blocks is taken over.
const PACE_BLOCKS_MAX: u64 = 20;

/// What one validator says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Of its newest block; 0 before the first.
    pub height: u64,
    /// Of that block, unix ms.
    pub time_ms: u64,
    /// Whether it fetches old blocks still.
    pub is_catching_up: bool,
    /// Connections to others.
    pub peers: usize,
    /// Transactions that wait for a block.
    pub waiting: u64,
    /// The app hash of the height that all are compared at.
    pub app_hash: Option<(u64, Vec<u8>)>,
}

/// Whether the validators have the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Fewer than two have spoken about one height.
    Unknown,
    /// All that have spoken say this.
    Equal {
        /// Of the header.
        height: u64,
        /// In the header: the state before that block.
        app_hash: Vec<u8>,
    },
    /// They do not, at this height.
    Different {
        /// Of the header.
        height: u64,
    },
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sights: Vec<Mutex<Option<Sight>>>,
    /// Height at which app hashes are compared: one that all who answer have.
    common: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    /// Starts a thread for each validator.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(nodes: &[NodePorts]) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            sights: nodes.iter().map(|_| Mutex::default()).collect(),
            common: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        for (number, node) in nodes.iter().enumerate() {
            let url = format!("http://127.0.0.1:{}", node.rpc);
            let url = url.parse().expect("an address of the form that is wanted");
            let client = Client::with_timeout(url, ANSWER_MAX);
            let shared = shared.clone();
            thread::Builder::new().name(format!("watch-{number}")).spawn(move || {
                while !shared.is_over.load(Ordering::Relaxed) {
                    let sight = look(&client, shared.common.load(Ordering::Relaxed));
                    *lock(&shared.sights[number]) = sight;
                    thread::sleep(INTERVAL);
                }
            })?;
        }
        Ok(Self { shared })
    }

    /// The newest of each; `None`: it does not answer.
    pub fn sights(&self) -> Vec<Option<Sight>> {
        let sights: Vec<_> = self.shared.sights.iter().map(|sight| lock(sight).clone()).collect();
        let common = sights.iter().flatten().map(|sight| sight.height).min().unwrap_or(0);
        self.shared.common.store(common, Ordering::Relaxed);
        sights
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(client: &Client, common: u64) -> Option<Sight> {
    let status = client.status().ok()?;
    let peers = client.net_info().map_or(0, |info| info.peers.len());
    let waiting = client.call::<Value>("num_unconfirmed_txs", json!({})).ok();
    let waiting = waiting.and_then(|answer| answer["total"].as_str()?.parse().ok());
    let header = (common > 0).then(|| client.commit(Some(common)).ok()).flatten();
    let time_ms = status.latest_time.unix_timestamp_nanos() / 1_000_000;
    Some(Sight {
        height: status.latest_height,
        time_ms: u64::try_from(time_ms).unwrap_or(0),
        is_catching_up: status.is_catching_up,
        peers,
        waiting: waiting.unwrap_or(0),
        app_hash: header.map(|signed| (common, signed.header.app_hash.as_bytes().to_vec())),
    })
}

/// Holds the newest heights that two or more have spoken about against each other.
pub fn agreement(sights: &[Option<Sight>]) -> Agreement {
    let hashes = || sights.iter().flatten().filter_map(|sight| sight.app_hash.as_ref());
    let mut heights: Vec<u64> = hashes().map(|(height, _)| *height).collect();
    heights.sort_unstable();
    // The threads ask one after another: some are a height ahead of the others.
    let shared = heights.windows(2).rev().find(|pair| pair[0] == pair[1]);
    let height = match (shared, sights.len()) {
        (Some(pair), _) => pair[0],
        // A network of one agrees with itself.
        (None, 1) if !heights.is_empty() => heights[0],
        (None, _) => return Agreement::Unknown,
    };
    let mut at = hashes().filter(|(of, _)| *of == height).map(|(_, hash)| hash);
    let Some(first) = at.next() else { return Agreement::Unknown };
    match at.all(|hash| hash == first) {
        true => Agreement::Equal { height, app_hash: first.clone() },
        false => Agreement::Different { height },
    }
}

/// Time between the newest blocks.
#[derive(Debug)]
pub struct Pace {
    /// Blocks from before are another run's, unix ms.
    since_ms: u64,
    /// Height and time of blocks that were seen, unix ms.
    seen: VecDeque<(u64, u64)>,
}

impl Pace {
    /// Of the blocks that are made from now on.
    pub fn new(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { since_ms, seen: VecDeque::new() }
    }

    /// Whether a block was made in this run.
    pub fn has_block(&self) -> bool {
        !self.seen.is_empty()
    }

    /// A block was seen.
    pub fn note(&mut self, height: u64, time_ms: u64) {
        if time_ms < self.since_ms {
            return;
        }
        if self.seen.back().is_none_or(|(newest, _)| *newest < height) {
            self.seen.push_back((height, time_ms));
        }
        while self.seen.front().is_some_and(|(oldest, _)| oldest + PACE_BLOCKS_MAX < height) {
            self.seen.pop_front();
        }
    }

    /// Mean time from block to block, ms.
    pub fn block_ms(&self) -> Option<u64> {
        let ((first, since), (last, until)) = (self.seen.front()?, self.seen.back()?);
        until.checked_sub(*since)?.checked_div(last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(hash: Option<(u64, u8)>) -> Option<Sight> {
        let app_hash = hash.map(|(height, byte)| (height, vec![byte]));
        Some(Sight { app_hash, ..Sight::default() })
    }

    #[track_caller]
    fn check(hashes: &[Option<(u64, u8)>], expected: &Agreement) {
        let sights: Vec<_> = hashes.iter().map(|hash| sight(*hash)).collect();
        assert_eq!(agreement(&sights), *expected);
    }

    #[test]
    fn states_are_compared_at_one_height() {
        let equal = |height, byte| Agreement::Equal { height, app_hash: vec![byte] };
        check(&[], &Agreement::Unknown);
        check(&[None, None], &Agreement::Unknown);
        check(&[Some((5, 1)), Some((6, 2))], &Agreement::Unknown);
        check(&[Some((5, 1)), Some((5, 1)), None], &equal(5, 1));
        check(&[Some((5, 1)), Some((6, 2)), Some((6, 2))], &equal(6, 2));
        check(&[Some((6, 1)), Some((6, 2)), Some((6, 1))], &Agreement::Different { height: 6 });
        check(&[Some((7, 1))], &equal(7, 1));
    }

    #[test]
    fn the_pace_is_that_of_the_newest_blocks() {
        let mut pace = Pace::new(UNIX_EPOCH + Duration::from_millis(900));
        pace.note(1, 899);
        assert!(!pace.has_block() && pace.block_ms().is_none(), "another run's");
        pace.note(1, 1_000);
        assert_eq!(pace.block_ms(), None);
        pace.note(3, 1_500);
        pace.note(2, 1_200);
        assert_eq!(pace.block_ms(), Some(250));
        for height in 4..=100 {
            pace.note(height, 1_500 + (height - 3) * 100);
        }
        assert_eq!(pace.block_ms(), Some(100), "what is long ago is forgotten");
    }
}
