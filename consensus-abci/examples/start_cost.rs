//! What a start after a crash costs, by the length of the chain.
//!
//! `cargo run --release -p consensus-abci --example start_cost [BLOCKS]` (default 100,000): the
//! embedded engine makes so many blocks, a transfer in every tenth, and dies between FinalizeBlock and
//! Commit of the next. Then it starts: the store is opened, the block that was decided is executed
//! again. The same again after a death that lost nothing, and with an application whose state is gone,
//! which replays a hundredth of the chain. Blocks are made in memory where the system has a
//! `/dev/shm`, since so many need so many syncs.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use chain_types::{AccountId, Balance, Params, Payload, SigningKey, TransactionBody};
use consensus_abci::{
    app::{App, AppState, GenesisAccount, Options},
    engine::{EngineConfig, FailPoint, Genesis, NodeKey, SteppedEngine, ValidatorKey},
    fail,
};
use tendermint::Time;

#[path = "cpu/clock.rs"]
#[allow(dead_code, reason = "the other examples use the rest")]
mod clock;

const CHAIN_ID: &str = "sutantra-start-1";
const BEGIN_SECONDS: i64 = 1_700_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn main() -> Outcome<()> {
    let blocks = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = parent.join(format!("sutantra-start-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(blocks, &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn start(dir: &Path) -> Outcome<SteppedEngine> {
    let validator = ValidatorKey::from_seed([7; 32]);
    let accounts = vec![GenesisAccount { account: (&key()).into(), balance: Balance::of(1 << 60) }];
    let state = AppState { params: Params::for_tests(), accounts, ..AppState::default() };
    let time = Time::from_unix_timestamp(BEGIN_SECONDS, 0)?;
    let state = serde_json::to_value(&state)?;
    let genesis = Genesis::single(CHAIN_ID.parse()?, time, validator.public_key(), state);
    let options = Options { snapshot_interval: 0, ..Options::default() };
    let app = Arc::new(App::open_with(&dir.join("state"), options)?);
    let config = EngineConfig::new(
        dir.join("blocks"),
        genesis,
        validator,
        NodeKey::from_seed([8; 32]),
        dir.join("priv_validator_state.json"),
    );
    Ok(SteppedEngine::start(config, app)?)
}

fn step(engine: &mut SteppedEngine, fail_at: Option<FailPoint>) -> Outcome<()> {
    let height = i64::try_from(engine.engine().height())?;
    Ok(engine.step(Time::from_unix_timestamp(BEGIN_SECONDS + height, 0)?, fail_at)?)
}

fn transfer(nonce: u64) -> Vec<u8> {
    let mut body = TransactionBody {
        signer: (&key()).into(),
        fee_payer: None,
        nonce,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload: Payload::Transfer { to: AccountId([9; 32]), amount: Balance::of(1_000_000) },
    };
    body.fee = Params::for_tests().fee_min(&body.payload, body.signed_len_bytes());
    body.sign(&key(), CHAIN_ID).encode()
}

fn measure(blocks: u64, dir: &Path) -> Outcome<()> {
    fail::unwind_here();
    let mut engine = start(dir)?;
    let (built, cost) = clock::measured(|| -> Outcome<()> {
        for at in 0..blocks {
            if at % 10 == 0 {
                engine.engine().broadcast_tx_sync(transfer(at / 10))?;
            }
            step(&mut engine, None)?;
        }
        Ok(())
    });
    built?;
    println!(
        "{blocks} blocks, made at {:.0} µs of CPU each; {:.0} MB of blocks, {:.0} MB of state",
        cost.us_each(usize::try_from(blocks)?),
        megabytes(&dir.join("blocks"))?,
        megabytes(&dir.join("state"))?
    );
    let died = catch_unwind(AssertUnwindSafe(|| {
        step(&mut engine, Some(FailPoint::AfterFinalizeBlock)).is_ok()
    }));
    if died.is_ok() {
        return Err("it did not die".into());
    }
    drop(engine);
    let engine = timed("after a death between FinalizeBlock and Commit", dir, blocks + 1)?;
    drop(engine);
    let engine = timed("after a death that lost nothing", dir, blocks + 1)?;
    drop(engine);

    let short = dir.join("short");
    let replayed = blocks / 100;
    let mut engine = start(&short)?;
    for _ in 0..replayed {
        step(&mut engine, None)?;
    }
    drop(engine);
    std::fs::remove_dir_all(short.join("state"))?;
    drop(timed(&format!("with no state: {replayed} blocks are replayed"), &short, replayed)?);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("memory, peak: {}", peak.trim_start_matches("VmHWM:").trim());
    Ok(())
}

fn timed(what: &str, dir: &Path, height: u64) -> Outcome<SteppedEngine> {
    let (engine, cost) = clock::measured(|| start(dir));
    let engine = engine?;
    if engine.engine().height() != height {
        return Err(format!("{what}: it is at {}", engine.engine().height()).into());
    }
    let passed = cost.wall.as_secs_f64() * 1e3;
    println!("start {what}: {:.0} ms of CPU, {passed:.0} ms passed", cost.ms());
    Ok(engine)
}

fn megabytes(dir: &Path) -> Outcome<f64> {
    let mut bytes = 0;
    let mut left = vec![PathBuf::from(dir)];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => left.push(entry.path()),
                false => bytes += entry.metadata()?.len(),
            }
        }
    }
    Ok(bytes as f64 / 1e6)
}
