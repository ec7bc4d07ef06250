//! What junk costs: CheckTx of each kind of it in CPU microseconds, and whether blocks go on while
//! thousands of it arrive each second.
//!
//! `cargo run --release -p consensus-abci --example junk_cost [PER_SECOND] [SECONDS]` (default 5,000
//! a second, 10 seconds): the embedded engine with blocks of one transfer each, first alone, then with
//! as much junk as was asked for, of all kinds in turn.

use std::{
    collections::BTreeMap,
    error::Error,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chain_types::{AccountId, Balance, Params, Payload, SigningKey, TransactionBody};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    application::Application,
    engine::{Engine, EngineConfig, Genesis, NodeKey, ValidatorKey},
};
use sha2::{Digest, Sha256};
use tendermint::Time;
use tendermint_proto::v0_38::abci::RequestCheckTx;

#[path = "cpu/clock.rs"]
#[allow(dead_code, reason = "the other examples use the rest")]
mod clock;

const CHAIN_ID: &str = "sutantra-junk-1";
/// Of each kind.
const COUNT: usize = 2_000;
/// Junk is sent in batches so far apart.
const BATCH: Duration = Duration::from_millis(10);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn key(at: u64) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(at.to_be_bytes()).into())
}

fn id(at: u64) -> AccountId {
    AccountId::from(&key(at))
}

fn body(who: u64, nonce: u64, payload: Payload) -> TransactionBody {
    let params = Params::for_tests();
    let mut body = TransactionBody {
        signer: id(who),
        fee_payer: None,
        nonce,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload,
    };
    body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
    body
}

fn transfer(amount: u64) -> Payload {
    Payload::Transfer { to: id(1), amount: Balance::of(amount) }
}

fn noise(at: usize, len_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len_bytes + 32);
    for part in 0.. {
        if bytes.len() >= len_bytes {
            break;
        }
        bytes.extend_from_slice(&Sha256::digest([at, part].map(usize::to_be_bytes).concat()));
    }
    bytes.truncate(len_bytes);
    bytes
}

/// One piece of junk of a kind; each differs from the others.
fn junk(kind: &str, at: usize) -> Bytes {
    let number = at as u64;
    let signed = |body: TransactionBody, chain: &str| body.sign(&key(0), chain).encode();
    match kind {
        "garbage, 200 bytes" => noise(at, 200),
        "too large, 128 KiB + 1" => noise(at, 131_073),
        "a wrong signature" => {
            let mut bytes = signed(body(0, 0, transfer(number + 1)), CHAIN_ID);
            let last = bytes.len() - 1;
            bytes[last - at % 32] ^= 1;
            bytes
        }
        "of another chain" => signed(body(0, 0, transfer(number + 1)), "sutantra-junk-2"),
        "a nonce far away" => signed(body(0, 1 << 40 | number, transfer(1)), CHAIN_ID),
        "a fee too small" => {
            let mut cheap = body(0, 0, transfer(number + 1));
            cheap.fee = Balance::of(1);
            signed(cheap, CHAIN_ID)
        }
        "an account without money" => {
            let who = 1_000_000 + number;
            body(who, 0, transfer(1)).sign(&key(who), CHAIN_ID).encode()
        }
        other => unreachable!("{other} is none of the kinds"),
    }
    .into()
}

const KINDS: [&str; 7] = [
    "garbage, 200 bytes",
    "too large, 128 KiB + 1",
    "a wrong signature",
    "of another chain",
    "a nonce far away",
    "a fee too small",
    "an account without money",
];

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let per_second = words.next().map_or(Ok(5_000), |text| text.parse())?;
    let seconds = words.next().map_or(Ok(10), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("sutantra-junk-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(per_second, Duration::from_secs(seconds), &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(per_second: u64, span: Duration, dir: &Path) -> Outcome<()> {
    let validator = ValidatorKey::from_seed([7; 32]);
    let account = |at| GenesisAccount { account: id(at), balance: Balance::of(1 << 50) };
    let accounts = (0..100).map(account).collect();
    let state = AppState { params: Params::for_tests(), accounts, ..AppState::default() };
    let state = serde_json::to_value(&state)?;
    let genesis = Genesis::single(CHAIN_ID.parse()?, Time::now(), validator.public_key(), state);
    let app = Arc::new(App::open(&dir.join("state"))?);
    let mut config = EngineConfig::new(
        dir.join("blocks"),
        genesis,
        validator,
        NodeKey::from_seed([8; 32]),
        dir.join("priv_validator_state.json"),
    );
    config.min_block_interval = Duration::from_millis(50);
    let engine = Engine::start(config, app.clone())?;

    println!("{:<28}{:>10}{:>14}", "CheckTx of junk", "code", "CPU µs each");
    let mut pieces: BTreeMap<&str, Vec<Bytes>> = BTreeMap::new();
    for kind in KINDS {
        let each: Vec<Bytes> = (0..COUNT).map(|at| junk(kind, at)).collect();
        let (code, cost) = clock::measured(|| check_all(&app, &each));
        println!("{kind:<28}{:>10}{:>14.1}", code?, cost.us_each(COUNT));
        pieces.insert(kind, each);
    }

    let alone = blocks(&engine, span, &[], 0, 0)?;
    let all: Vec<Bytes> = (0..COUNT)
        .flat_map(|at| KINDS.map(|kind| pieces[kind][at].clone()))
        .filter(|bytes| bytes.len() < 10_000) // Refused by their length, before anything else.
        .collect();
    let beside = blocks(&engine, span, &all, per_second, alone.next_nonce)?;
    println!(
        "\n{:<28}{:>10}{:>14}{:>14}{:>12}",
        "blocks of a transfer", "blocks", "p50 ms", "most ms", "junk/s"
    );
    for (what, run) in [("alone", &alone), ("beside junk", &beside)] {
        println!(
            "{what:<28}{:>10}{:>14.0}{:>14.0}{:>12.0}",
            run.times_ms.len(),
            run.times_ms.get(run.times_ms.len() / 2).copied().unwrap_or_default(),
            run.times_ms.last().copied().unwrap_or_default(),
            run.junk as f64 / span.as_secs_f64()
        );
    }
    engine.stop();
    Ok(())
}

/// Checks them; the code of all.
fn check_all(app: &App, each: &[Bytes]) -> Outcome<u32> {
    let mut found = None;
    for tx in each {
        let code = app.check_tx(RequestCheckTx { tx: tx.clone(), ..Default::default() })?.code;
        if code == 0 || found.is_some_and(|found| found != code) {
            return Err(format!("junk has code {code}, not {found:?}").into());
        }
        found = Some(code);
    }
    found.ok_or_else(|| "there is none".into())
}

struct Run {
    /// From a transfer to its block, sorted.
    times_ms: Vec<f64>,
    junk: u64,
    next_nonce: u64,
}

/// One transfer after the other, each awaited, while junk comes at its pace.
fn blocks(
    engine: &Engine,
    span: Duration,
    junk: &[Bytes],
    per_second: u64,
    first_nonce: u64,
) -> Outcome<Run> {
    let begin = Instant::now();
    let until = begin + span;
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let (mut sent, per_batch) = (0u64, per_second as f64 * BATCH.as_secs_f64());
            for batch in 1u32.. {
                let due = begin + BATCH * batch;
                if due > until || junk.is_empty() {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                while (sent as f64) < per_batch * f64::from(batch) {
                    let piece = &junk[sent as usize % junk.len()];
                    if engine.broadcast_tx_sync(piece.to_vec()).is_ok_and(|out| out.code == 0) {
                        return Err("junk is taken");
                    }
                    sent += 1;
                    if Instant::now() > until {
                        break;
                    }
                }
            }
            Ok(sent)
        });
        let runtime = tokio::runtime::Runtime::new()?;
        let (mut times_ms, mut nonce) = (Vec::new(), first_nonce);
        while Instant::now() < until {
            let tx = body(2, nonce, transfer(1)).sign(&key(2), CHAIN_ID).encode();
            let asked = Instant::now();
            let commit = engine.broadcast_tx_commit(tx, Duration::from_secs(60));
            let outcome = runtime.block_on(commit)?;
            if outcome.included.is_none_or(|included| included.result.code != 0) {
                return Err("a transfer is not done".into());
            }
            times_ms.push(asked.elapsed().as_secs_f64() * 1e3);
            nonce += 1;
        }
        let junk = sender.join().map_err(|_| "the sender failed")??;
        times_ms.sort_unstable_by(f64::total_cmp);
        Ok(Run { times_ms, junk, next_nonce: nonce })
    })
}
