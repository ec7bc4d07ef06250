//! Fuzz targets: the corpus is replayed, then the search goes on for a time.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// Each a workspace of its own, built with coverage instrumentation.
pub const CRATES: [&str; 4] =
    ["chain-types/fuzz", "consensus-abci/fuzz", "coordinator/fuzz", "sfu/fuzz"];
/// How long a test searches in each target.
const TEST_SEARCH: Duration = Duration::from_secs(20);
/// Building the instrumented crates, beyond the search itself.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The targets, by the files that hold them; their names are unique.
pub fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for directory in CRATES {
        let targets = targets_of(workspace, directory)?;
        ensure!(!targets.is_empty(), "{directory} has no target");
        all.extend(targets);
    }
    Ok(all)
}

fn targets_of(workspace: &Workspace, directory: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(workspace.root.join(directory).join("fuzz_targets"));
    let mut targets: Vec<String> = entries
        .with_context(|| format!("{directory}/fuzz_targets"))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    targets.sort();
    Ok(targets)
}

/// Where a target lives.
fn home_of(workspace: &Workspace, target: &str) -> Result<&'static str> {
    for directory in CRATES {
        if targets_of(workspace, directory)?.iter().any(|known| known == target) {
            return Ok(directory);
        }
    }
    bail!("no fuzz target {target}")
}

/// Every target for a short while, two at a time; each counts as one test.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    for directory in CRATES {
        build(workspace, directory)?;
    }
    for pair in targets(workspace)?.chunks(2) {
        // A search is one thread of libFuzzer, and the machine has two cores.
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let searches: Vec<_> = pair
                .iter()
                .map(|target| scope.spawn(|| search(workspace, target, TEST_SEARCH)))
                .collect();
            let joined = searches.into_iter().map(|search| search.join());
            joined.map(|outcome| outcome.expect("a search does not panic")).collect()
        });
        for (target, outcome) in pair.iter().zip(outcomes) {
            outcome?;
            tally.passed += 1;
            println!("fuzz target {target} ... ok");
        }
    }
    Ok(())
}

/// All targets of a crate, so that a search begins at once and its time is search alone.
fn build(workspace: &Workspace, directory: &str) -> Result<()> {
    let mut command = workspace.cargo();
    command.current_dir(workspace.root.join(directory)).args(["build", "--release", "--locked"]);
    run(&mut command, BUILD_LIMIT, &mut Tally::default()).with_context(|| directory.to_owned())
}

/// Replays the corpus of `target` and searches for `time`; a find is an error.
pub fn search(workspace: &Workspace, target: &str, time: Duration) -> Result<()> {
    let found = workspace.target.join("fuzz").join("corpus").join(target);
    let find = workspace.target.join("fuzz").join(format!("find-{target}-"));
    let mut command = workspace.cargo();
    // In this directory, else its .cargo/config.toml with the instrumentation does not apply.
    command
        .current_dir(workspace.root.join(home_of(workspace, target)?))
        .args(["run", "--release", "--locked", "--bin", target, "--", "-create_missing_dirs=1"])
        .arg(format!("-max_total_time={}", time.as_secs()))
        .args(["-timeout=5", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}", find.display()))
        .arg(found)
        .arg(format!("corpus/{target}"));
    run(&mut command, BUILD_LIMIT + time, &mut Tally::default())
        .with_context(|| format!("fuzz target {target}"))
}
