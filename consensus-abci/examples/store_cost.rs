//! What the state on disk costs: blocks, proofs, a snapshot and a restore, by number of keys.
//!
//! `cargo run --release -p consensus-abci --example store_cost [KEYS…]` (default 100,000 and
//! 1,000,000): keys of 41 bytes and values of 40, blocks that change 1,000 random keys, synced. Times
//! are CPU time of the thread that does it; where it says "passed", what the disk and everybody else
//! took is in it. The peak of memory is the process's so far, so give the larger number last.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use consensus_abci::store::{
    Store, Update, Writes,
    statesync::{Archive, Incoming, Maker},
};
use ics23::{CommitmentProof, HostFunctionsManager};
use prost13::Message as _;
use sha2::{Digest, Sha256};

#[path = "cpu/clock.rs"]
#[allow(dead_code, reason = "the other examples use the rest")]
mod clock;

use clock::Cost;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Keys that come into being in one block while the state is built.
const LOAD: u64 = 20_000;
/// Keys that a measured block changes.
const PER_BLOCK: u64 = 1_000;
const BLOCKS: u64 = 20;
const PROOFS: u64 = 500;

fn key(at: u64) -> Vec<u8> {
    [b"key/", &Sha256::digest(at.to_be_bytes())[..], b"/tail"].concat()
}

fn value(at: u64, round: u64) -> Vec<u8> {
    let mut value = Sha256::digest([at, round].map(u64::to_be_bytes).concat()).to_vec();
    value.resize(40, 0);
    value
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sizes = match arguments.is_empty() {
        true => vec![100_000, 1_000_000],
        false => arguments.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
    };
    for keys in sizes {
        let dir = std::env::temp_dir().join(format!("sutantra-store-cost-{}", std::process::id()));
        let result = measure(keys, &dir);
        std::fs::remove_dir_all(&dir)?;
        result?;
    }
    Ok(())
}

fn commit(store: &Store, height: u64, writes: Writes) -> Outcome<(Cost, Cost)> {
    let update = Update { height, block_time_ms: height, writes, ..Update::default() };
    let (prepared, root) = clock::measured(|| store.prepare(update));
    let prepared = prepared?;
    let (done, commit) = clock::measured(|| store.commit(&prepared));
    done?;
    Ok((root, commit))
}

/// The middle and the longest, ms.
fn spread(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    (times.get(times.len() / 2).map_or(0.0, ms), times.last().map_or(0.0, ms))
}

fn measure(keys: u64, dir: &Path) -> Outcome<()> {
    let (here, there) = (dir.join("here"), dir.join("there"));
    let store = Store::open(&here)?;
    let begin = Instant::now();
    let mut height = 0;
    for first in (0..keys).step_by(LOAD as usize) {
        let last = (first + LOAD).min(keys);
        commit(&store, height, (first..last).map(|at| (key(at), Some(value(at, 0)))).collect())?;
        height += 1;
    }
    println!("{keys} keys, built in {:.1} s", begin.elapsed().as_secs_f64());
    let (mut roots, mut commits) = (Vec::new(), Vec::new());
    for round in 1..=BLOCKS {
        let pick = |at: u64| {
            let digest = Sha256::digest([round, at].map(u64::to_be_bytes).concat());
            u64::from_be_bytes(*digest.first_chunk().expect("32 bytes")) % keys
        };
        let writes = (0..PER_BLOCK).map(|at| (key(pick(at)), Some(value(at, round)))).collect();
        let (root, commit) = commit(&store, height, writes)?;
        roots.push(root);
        commits.push(commit);
        height += 1;
    }
    let (root, root_max) = spread(roots.iter().map(|cost: &Cost| cost.cpu));
    let (sync, sync_max) = spread(commits.iter().map(|cost: &Cost| cost.cpu));
    let (passed, passed_max) = spread(commits.iter().map(|cost| cost.wall));
    println!(
        "  block of {PER_BLOCK} keys   root {root:.1} ms (most {root_max:.1}), commit {sync:.1} ms \
         (most {sync_max:.1}), passed {passed:.1} ms (most {passed_max:.1})"
    );
    proofs(&store, keys, height - 1)?;
    snapshot(&store, height - 1, &here, &there)?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("  memory, peak         {}", peak.trim_start_matches("VmHWM:").trim());
    Ok(())
}

fn proofs(store: &Store, keys: u64, height: u64) -> Outcome<()> {
    let view = store.snapshot()?;
    let root = view.root_at(height)?.to_vec();
    let spec = jmt::ics23_spec();
    let (mut len_bytes, mut proving, mut verifying) = (0, Duration::ZERO, Duration::ZERO);
    for at in 0..PROOFS {
        let key = key(at * (keys / PROOFS));
        let (proved, cost) = clock::measured(|| view.proof(&key, height));
        let proved = proved?;
        proving += cost.cpu;
        len_bytes += proved.proof.len();
        let value = proved.value.ok_or("a key is not there")?;
        let begin = clock::of_thread();
        let proof = CommitmentProof::decode(&proved.proof[..])?;
        let holds =
            ics23::verify_membership::<HostFunctionsManager>(&proof, &spec, &root, &key, &value);
        verifying += clock::of_thread() - begin;
        if !holds {
            return Err("a proof does not hold".into());
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / PROOFS as f64;
    println!(
        "  proof                {} bytes, made in {:.0} µs, verified in {:.0} µs",
        len_bytes as u64 / PROOFS,
        each(proving),
        each(verifying)
    );
    Ok(())
}

fn snapshot(store: &Store, height: u64, here: &Path, there: &Path) -> Outcome<()> {
    let archive = Archive::of(here);
    let maker = Maker::start(archive.clone(), 1, 1)?;
    let begin = Instant::now();
    let view = store.snapshot()?;
    maker.committed(height, || view);
    let metadata = loop {
        match archive.metadata(height) {
            Ok(metadata) => break metadata,
            Err(_) if begin.elapsed() < Duration::from_secs(600) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    };
    let made = begin.elapsed();
    let mb = archive.len_bytes(height)? as f64 / 1e6;
    println!(
        "  snapshot             {mb:.1} MB in {} chunks, made, passed {:.2} s",
        metadata.chunks.len(),
        made.as_secs_f64()
    );
    let other = Store::open(there)?;
    let (begin, cpu) = (Instant::now(), clock::of_thread());
    let mut incoming = Incoming::begin(&Archive::of(there), metadata.clone())?;
    for at in 0..metadata.chunks.len() {
        incoming.add(at, &archive.chunk(height, at)?)?;
    }
    let checked = begin.elapsed();
    let head = other.begin_restore(&metadata, |at| incoming.chunk(at))?.commit()?;
    if head.app_hash != metadata.app_hash {
        return Err("another state was restored".into());
    }
    println!(
        "  restore              {:.2} s, passed {:.2} s, chunks are checked and kept after {:.2} s of it",
        (clock::of_thread() - cpu).as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        checked.as_secs_f64()
    );
    Ok(())
}
