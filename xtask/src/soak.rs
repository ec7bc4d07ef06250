//! `cargo xtask soak`: everything long, item by item, each with a result file of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::browser::{self, Effort};
use crate::fuzz;
use crate::process::run;
use crate::tally::Tally;
use crate::tools;
use crate::workspace::Workspace;

/// How long the soak searches in each fuzz target.
const SEARCH: Duration = Duration::from_secs(600);
/// The longest that the comparison may take; beyond it something hangs and is killed.
const LOAD_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// The longest that the crashes may take, their build included.
const CRASHES_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The longest that half an hour of disturbances may take, its last look included.
const PERTURB_LIMIT: Duration = Duration::from_secs(50 * 60);

/// How long the simulation of the chain searches for seeds.
const SEEDS: Duration = Duration::from_secs(600);
/// Building the tests, beyond the search itself.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// One long thing.
enum Item {
    /// A fuzz target.
    Fuzz(String),
    /// A scenario in real browsers.
    Browser(&'static str),
    /// The relay on both links, with one and two shards, beside the bare loop, a plain SFU, and
    /// LiveKit and Janus where they are installed.
    Load,
    /// `kill -9` of application and CometBFT at fifty moments of chance, beside an uncrashed twin.
    Crashes,
    /// New seeds of the chain's simulation.
    Seeds,
    /// The thousand blocks of the golden hash by a second build: unoptimised, overflow checked.
    SecondBuild,
    /// A network of real nodes under load, disturbed in every way for half an hour, under the line of
    /// CometBFT that is named.
    Perturb(&'static str),
}

/// Runs every item, or one; goes on after a failure and fails at the end.
pub fn soak(workspace: &Workspace, resume: bool, only: Option<&str>) -> Result<()> {
    let mut items = items(workspace)?;
    if only == Some("list") {
        items.iter().for_each(|item| println!("{}", item.name()));
        return Ok(());
    }
    items.retain(|item| only.is_none_or(|name| name == item.name()));
    ensure!(!items.is_empty(), "no such item; `--only list` names them");
    workspace.build(&mut Tally::default())?;
    std::fs::create_dir_all(workspace.target.join("soak"))?;
    let mut failed = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = item.name();
        let head = format!("[{}/{}] {name}", index + 1, items.len());
        if resume && has_passed(workspace, &name) {
            println!("{head} … passed before");
            continue;
        }
        println!("{head}");
        let started = Instant::now();
        let outcome = item.run(workspace);
        let seconds = started.elapsed().as_secs_f64();
        let verdict = if outcome.is_ok() { "passed" } else { "failed" };
        println!("{head} … {verdict} after {seconds:.0} s");
        write_result(workspace, &name, seconds, &outcome)?;
        if let Err(error) = outcome {
            println!("{error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn items(workspace: &Workspace) -> Result<Vec<Item>> {
    let mut items = vec![
        Item::Load,
        Item::Crashes,
        Item::Seeds,
        Item::SecondBuild,
        Item::Perturb(tools::COMETBFT),
        Item::Perturb(tools::COMETBFT_NEXT),
    ];
    items.extend(browser::SCENARIOS.iter().map(|scenario| Item::Browser(scenario.name)));
    items.extend(fuzz::targets(workspace)?.into_iter().map(Item::Fuzz));
    Ok(items)
}

impl Item {
    /// Unique, and the name of its result file.
    fn name(&self) -> String {
        match self {
            Item::Fuzz(target) => format!("fuzz-{target}"),
            Item::Browser(scenario) => format!("browser-{scenario}"),
            Item::Load => "load".to_owned(),
            Item::Crashes => "crashes".to_owned(),
            Item::Seeds => "sim".to_owned(),
            Item::SecondBuild => "second-build".to_owned(),
            Item::Perturb(version) if *version == tools::COMETBFT => "perturb".to_owned(),
            Item::Perturb(_) => "perturb-39".to_owned(),
        }
    }

    /// Runs it to its end; what it found goes into the result file.
    fn run(&self, workspace: &Workspace) -> Result<Value> {
        match self {
            Item::Fuzz(target) => {
                fuzz::search(workspace, target, SEARCH)?;
                Ok(json!({ "searched_seconds": SEARCH.as_secs() }))
            }
            Item::Browser(scenario) => {
                let names = [*scenario];
                let mut tally = Tally::default();
                browser::on_own_network(workspace, &names, Effort::Thorough, &mut tally)?;
                Ok(json!({ "scenarios_passed": tally.passed }))
            }
            Item::Load => run_load(workspace),
            Item::Crashes => run_crashes(workspace),
            Item::Seeds => run_seeds(workspace),
            Item::SecondBuild => run_second_build(workspace),
            Item::Perturb(version) => run_perturb(workspace, version, &self.name()),
        }
    }
}

fn run_load(workspace: &Workspace) -> Result<Value> {
    let report = workspace.target.join("soak").join("load-report.json");
    let mut peers = workspace.command(workspace.binary("sutantra-perf"));
    peers.args(["peers", "--repeats", "3", "--max-loss", "0", "--node"]);
    peers.arg(workspace.binary("sutantra-node")).arg("--json").arg(&report);
    peers.arg("--markdown").arg(report.with_extension("md"));
    run(&mut peers, LOAD_LIMIT, &mut Tally::default())?;
    Ok(serde_json::from_str(&std::fs::read_to_string(&report)?)?)
}

fn run_crashes(workspace: &Workspace) -> Result<Value> {
    let name = "crash::fifty_kills_under_load_leave_the_state_of_an_uncrashed_twin";
    run_ignored(ignored(workspace, "comet", name), name, CRASHES_LIMIT)?;
    Ok(json!({ "moments": 50 }))
}

/// The seed that finds something is printed, with the command that runs it again.
fn run_seeds(workspace: &Workspace) -> Result<Value> {
    let name = "new_seeds_until_the_time_is_over";
    let mut search = ignored(workspace, "sim", name);
    search.env("SUTANTRA_SIM_SECONDS", SEEDS.as_secs().to_string());
    run_ignored(search, name, BUILD_LIMIT + SEEDS)?;
    Ok(json!({ "searched_seconds": SEEDS.as_secs() }))
}

/// What `cargo test --release` compares with the golden hash, compiled in another way.
fn run_second_build(workspace: &Workspace) -> Result<Value> {
    let mut tally = Tally::default();
    let mut tests = workspace.cargo();
    tests.args(["test", "--locked", "--package", "consensus-abci", "--test", "app", "golden"]);
    run(&mut tests, BUILD_LIMIT, &mut tally)?;
    ensure!(tally.passed > 0, "no test of the golden hash was found");
    Ok(json!({ "profile": "dev", "tests_passed": tally.passed }))
}

/// One long test of the chain, which `cargo test` leaves out.
fn ignored(workspace: &Workspace, binary: &str, name: &str) -> Command {
    let mut tests = workspace.cargo();
    tests.args(["test", "--release", "--locked", "--package", "consensus-abci", "--test", binary]);
    tests.args(["--", "--ignored", "--exact", name, "--nocapture"]);
    tests
}

fn run_ignored(mut test: Command, name: &str, limit: Duration) -> Result<()> {
    let mut tally = Tally::default();
    run(&mut test, limit, &mut tally)?;
    ensure!(tally.passed == 1, "the test {name} was not found");
    Ok(())
}

/// Homes and logs are kept where it says when something does not hold.
fn run_perturb(workspace: &Workspace, version: &str, name: &str) -> Result<Value> {
    let comet = tools::install_cometbft(workspace, version)?;
    let report = workspace.target.join("soak").join(format!("{name}-report.json"));
    let mut perturb = workspace.command(workspace.binary("sutantra-perturb"));
    perturb.args(["run", "perturb/manifests/thirty-minutes.toml", "--comet-bin"]).arg(comet);
    perturb.arg("--node-bin").arg(workspace.binary("sutantra-node")).arg("--json").arg(&report);
    run(&mut perturb, PERTURB_LIMIT, &mut Tally::default())?;
    Ok(serde_json::from_str(&std::fs::read_to_string(&report)?)?)
}

fn result_file(workspace: &Workspace, item: &str) -> PathBuf {
    workspace.target.join("soak").join(format!("{item}.json"))
}

fn has_passed(workspace: &Workspace, item: &str) -> bool {
    let text = std::fs::read_to_string(result_file(workspace, item)).unwrap_or_default();
    // No file, or one torn by an interruption: not passed.
    serde_json::from_str::<Value>(&text).is_ok_and(|result| result["passed"] == true)
}

fn write_result(
    workspace: &Workspace,
    item: &str,
    seconds: f64,
    outcome: &Result<Value>,
) -> Result<()> {
    let finished = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut result = json!({
        "item": item,
        "passed": outcome.is_ok(),
        "seconds": seconds,
        "finished_unix_seconds": finished,
    });
    match outcome {
        Ok(report) => result["report"] = report.clone(),
        Err(error) => result["error"] = Value::String(format!("{error:#}")),
    }
    let text = serde_json::to_string_pretty(&result)?;
    std::fs::write(result_file(workspace, item), text + "\n").context("target/soak")
}
