//! The load: transfers signed beforehand, sent in batches, found again in the blocks.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chain_types::{AccountId, Balance, Params, Payload, SigningKey, TransactionBody};
use comet::rpc::Client;
use consensus_abci::app::{AppState, GenesisAccount};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint::Time;

pub const CHAIN_ID: &str = "sutantra-perf-1";
/// Who sends.
const ACCOUNTS: u64 = 1_000;
/// Transactions in one request; the nodes' `config.toml` allows 100.
const BATCH: usize = 50;
/// Connections, divided among the nodes.
const CONNECTIONS: usize = 4;
/// Sent and in no block yet: enough for several blocks, fewer than a mempool holds, and no account
/// further ahead than the application lets it be.
pub const WAITING_MAX: u64 = 10_000;
/// The same for the embedded engine, which refuses when 5,000 wait for CheckTx.
pub const WAITING_EMBEDDED_MAX: u64 = 4_000;
/// Between two looks at the blocks.
const POLL: Duration = Duration::from_millis(50);
/// Without a transaction in any block for so long, something is lost.
const STALLED: Duration = Duration::from_secs(60);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Most heights in one answer of `blockchain`.
const METAS_MAX: u64 = 20;

fn key(at: u64) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(at.to_be_bytes()).into())
}

/// The genesis state: everybody who sends has enough.
pub fn app_state() -> anyhow::Result<Value> {
    let account =
        |at| GenesisAccount { account: AccountId::from(&key(at)), balance: Balance::of(1 << 45) };
    let accounts = (0..ACCOUNTS).map(account).collect();
    let state = AppState { params: Params::for_tests(), accounts, ..AppState::default() };
    Ok(serde_json::to_value(state)?)
}

/// Requests of [`BATCH`] transfers each, `count` transfers in all, in the order of their nonces.
/// Signed on every core.
pub fn requests(count: u64) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let keys: Vec<SigningKey> = (0..ACCOUNTS).map(key).collect();
    let params = Params::for_tests();
    let sign = |at: u64| {
        let (from, nonce) = (at % ACCOUNTS, at / ACCOUNTS);
        let to = AccountId::from(&keys[((from + 1) % ACCOUNTS) as usize]);
        let key = &keys[from as usize];
        let mut body = TransactionBody {
            signer: AccountId::from(key),
            fee_payer: None,
            nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload: Payload::Transfer { to, amount: Balance::of(1) },
        };
        body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
        body.sign(key, CHAIN_ID).encode()
    };
    let batches = count.div_ceil(BATCH as u64);
    let request = |batch: u64| {
        let txs = batch * BATCH as u64..(batch + 1) * BATCH as u64;
        let calls = txs.map(|at| {
            let tx = base64(&sign(at));
            json!({ "jsonrpc": "2.0", "id": at, "method": "broadcast_tx_async",
                "params": { "tx": tx } })
        });
        Value::Array(calls.collect()).to_string()
    };
    let mut made: Vec<(u64, String)> = std::thread::scope(|scope| {
        let threads = (0..cores).map(|core| {
            let mine = (core..batches).step_by(cores as usize);
            scope.spawn(move || mine.map(|batch| (batch, request(batch))).collect::<Vec<_>>())
        });
        // Started all before one is waited for.
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("signing panics at nothing"))
            .collect()
    });
    made.sort_by_key(|(batch, _)| *batch);
    made.into_iter().map(|(_, request)| request).collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A block, as far as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub height: u64,
    pub time: Time,
    pub txs: u64,
}

/// What became of the load.
pub struct Outcome {
    /// Every block since the load began, ascending.
    pub blocks: Vec<Block>,
    pub submitted: u64,
    /// From the first request to the last.
    pub sending: Duration,
}

/// Sends for `span`, or until nothing is left, `waiting_max` ahead of the blocks; then waits until all
/// is in blocks.
pub fn drive(
    clients: &[Client],
    requests: &[String],
    span: Duration,
    waiting_max: u64,
    name: &str,
) -> anyhow::Result<Outcome> {
    let watched = &clients[0];
    let first = newest(watched)? + 1;
    let (next, submitted, committed) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let ended = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|at| {
                let url = clients[at % clients.len()].url().to_string();
                let (next, submitted, committed, ended) = (&next, &submitted, &committed, &ended);
                scope.spawn(move || -> anyhow::Result<()> {
                    let agent = ureq::Agent::new_with_defaults();
                    while !ended.load(Ordering::Relaxed) && begin.elapsed() < span {
                        let committed = committed.load(Ordering::Relaxed);
                        let waiting = submitted.load(Ordering::Relaxed).saturating_sub(committed);
                        if waiting >= waiting_max {
                            std::thread::sleep(Duration::from_millis(2));
                            continue;
                        }
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(request) = requests.get(at) else { return Ok(()) };
                        submitted.fetch_add(BATCH as u64, Ordering::Relaxed);
                        send(&agent, &url, request)?;
                    }
                    Ok(())
                })
            })
            .collect();
        let outcome = follow(watched, first, name, &committed, &submitted, || {
            senders.iter().all(|sender| sender.is_finished())
        });
        ended.store(true, Ordering::Relaxed);
        let mut sending = Ok(());
        for sender in senders {
            sending = sending.and(sender.join().expect("a sender panics at nothing"));
        }
        sending?;
        let (blocks, sending) = outcome?;
        Ok(Outcome { blocks, submitted: submitted.load(Ordering::Relaxed), sending })
    })
}

fn send(agent: &ureq::Agent, url: &str, request: &str) -> anyhow::Result<()> {
    let mut answer = agent.post(url).header("Content-Type", "application/json").send(request)?;
    let text = answer.body_mut().read_to_string()?;
    if let Some(at) = text.find("\"error\"") {
        let words: String = text[at..].chars().take(300).collect();
        bail!("a transaction was not taken: {words}");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Metas {
    last_height: String,
    block_metas: Vec<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    header: Header,
    num_txs: String,
}

#[derive(Deserialize)]
struct Header {
    height: String,
    time: Time,
}

fn metas(client: &Client, first: u64) -> anyhow::Result<Vec<Block>> {
    let params =
        json!({ "minHeight": first.to_string(), "maxHeight": (first + METAS_MAX - 1).to_string() });
    let answer: Metas = client.call("blockchain", params)?;
    let mut blocks = Vec::new();
    for Meta { header, num_txs } in answer.block_metas {
        let (height, txs) = (header.height.parse()?, num_txs.parse()?);
        blocks.push(Block { height, time: header.time, txs });
    }
    blocks.sort_by_key(|block| block.height);
    Ok(blocks)
}

/// Height of the newest block.
pub fn newest(client: &Client) -> anyhow::Result<u64> {
    let status: Metas = client.call("blockchain", json!({ "minHeight": "1", "maxHeight": "1" }))?;
    Ok(status.last_height.parse()?)
}

/// Counts blocks from `first` on until the senders are done and all that they sent is in one; when
/// sending ended.
fn follow(
    client: &Client,
    first: u64,
    name: &str,
    committed: &AtomicU64,
    submitted: &AtomicU64,
    is_sent: impl Fn() -> bool,
) -> anyhow::Result<(Vec<Block>, Duration)> {
    let begin = Instant::now();
    let (mut blocks, mut sending) = (Vec::new(), None);
    let (mut moved, mut told) = (begin, begin);
    loop {
        let sent_before = is_sent();
        let next = first + blocks.len() as u64;
        let new = since(client, next)?;
        let found: u64 = new.iter().map(|block| block.txs).sum();
        let all = committed.fetch_add(found, Ordering::Relaxed) + found;
        blocks.extend(new);
        if sent_before {
            sending.get_or_insert(begin.elapsed());
        }
        let sent = submitted.load(Ordering::Relaxed);
        if let Some(sending) = sending
            && all >= sent
            // A block is listed before it is executed: its successor says that it was.
            && blocks.last().is_some_and(|block: &Block| block.txs == 0)
        {
            return Ok((blocks, sending));
        }
        if found > 0 {
            moved = Instant::now();
        } else if moved.elapsed() > STALLED {
            bail!("{} of {sent} transactions are in no block and do not come", sent - all);
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("  {name}: {sent} sent, {all} in {} blocks", blocks.len());
        }
        std::thread::sleep(POLL);
    }
}

/// The blocks from `next` on.
fn since(client: &Client, next: u64) -> anyhow::Result<Vec<Block>> {
    let newest = newest(client)?;
    let mut blocks = Vec::new();
    while next + (blocks.len() as u64) <= newest {
        let more = metas(client, next + blocks.len() as u64)?;
        if more.is_empty() {
            bail!("block {} is not there", next + blocks.len() as u64);
        }
        blocks.extend(more);
    }
    Ok(blocks)
}

/// Blocks without a load, for `span`.
pub fn idle(client: &Client, span: Duration) -> anyhow::Result<Vec<Block>> {
    let first = newest(client)? + 1;
    std::thread::sleep(span);
    since(client, first)
}

/// Transactions that are in blocks and were refused there; must be none.
pub fn refused(client: &Client, blocks: &[Block]) -> anyhow::Result<u64> {
    let mut refused = 0;
    for block in blocks.iter().filter(|block| block.txs > 0) {
        let results = client.block_results(Some(block.height)).context("block_results")?;
        refused += results.tx_results.iter().filter(|result| result.code != 0).count() as u64;
    }
    Ok(refused)
}
