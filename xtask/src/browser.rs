//! Scenarios in real browsers against a real node, on a network of their own where that is allowed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::Pair;
use crate::node::Node;
use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;

const SCENARIOS: &str = "web/e2e";
/// The longest that one scenario may take; beyond it the scenario hangs and is killed.
const SCENARIO_LIMIT: Duration = Duration::from_secs(300);
const ALL_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds the node and runs every scenario, inside a namespace when we may make one.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    build(workspace, tally)?;
    match Pair::create() {
        Ok(pair) => {
            let mut command = pair.command(std::env::current_exe()?);
            run(command.current_dir(&workspace.root).arg("scenarios"), ALL_LIMIT, tally)
        }
        Err(error) => {
            // Not root: the host's own interfaces serve, which browsers gather as well.
            println!("on the host's network, since there is no own one: {error:#}");
            run_here(workspace, tally)
        }
    }
}

/// Builds every program of the workspace.
pub fn build(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    // The whole workspace, as the tests build it: another choice of crates would unify features
    // differently and build them again.
    let scope = ["build", "--release", "--workspace", "--bins", "--locked"];
    run(workspace.cargo().args(scope), ALL_LIMIT, tally)
}

/// Runs every scenario on the network that we are in; counts each as one test.
pub fn run_here(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let mut failed = Vec::new();
    for scenario in scenarios(workspace)? {
        let name = scenario.file_stem().expect("it ends in .mjs").to_string_lossy().into_owned();
        let started = Instant::now();
        let outcome = run_scenario(workspace, &scenario, &name);
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                tally.passed += 1;
                println!("scenario {name} ... ok ({took:.1} s)");
            }
            Err(error) => {
                tally.failed += 1;
                println!("scenario {name} ... FAILED ({took:.1} s): {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "scenarios failed: {}", failed.join(", "));
    Ok(())
}

fn scenarios(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let directory = workspace.root.join(SCENARIOS);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("{SCENARIOS} is gone"))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mjs"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{SCENARIOS} holds no scenario");
    Ok(files)
}

fn run_scenario(workspace: &Workspace, scenario: &Path, name: &str) -> Result<()> {
    let directory = workspace.target.join("e2e").join(name);
    let node = Node::start(workspace, &directory, &[])?;
    let mut command = workspace.command("node");
    command.arg(scenario).env("SUTANTRA_URL", &node.url).env("SUTANTRA_E2E_OUT", &directory);
    let outcome = run(&mut command, SCENARIO_LIMIT, &mut Tally::default());
    outcome.with_context(|| format!("the node's log: {}", node.log.display()))
}
