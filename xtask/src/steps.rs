//! `cargo xtask test`: named steps in order, up to the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{again, browser, fuzz, ops, perturb, quickstart, requirements, tools};

/// Something that must hold, checked by itself.
struct Step {
    name: &'static str,
    about: &'static str,
    run: Run,
}

enum Run {
    /// Ends before the next step begins.
    Alone(fn(&Workspace, &mut Tally) -> Result<()>),
    /// Goes on beside the steps that follow, to the end of the one that is named: what those measure
    /// does not change when the machine is busy.
    Beside { begin: fn(&Workspace, &mut Tally) -> Result<perturb::Run>, until: &'static str },
}

/// The longest that one command of a step may take; beyond it the command hangs and is killed.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// The same for all tests, which are built first.
const TESTS_LIMIT: Duration = Duration::from_secs(45 * 60);

const STEPS: &[Step] = &[
    Step {
        name: "tools",
        about: "browsers, CometBFT, promtool, valgrind; npm packages",
        run: Run::Alone(tools),
    },
    Step { name: "fmt", about: "formatting", run: Run::Alone(fmt) },
    Step { name: "lints", about: "clippy, warnings are errors", run: Run::Alone(lints) },
    Step {
        name: "tests",
        about: "unit, property, simulation, integration tests",
        run: Run::Alone(tests),
    },
    Step {
        name: "perturb",
        about: "a network of nodes, disturbed for five minutes beside the next two steps",
        run: Run::Beside { begin: perturb::begin, until: "instructions" },
    },
    Step {
        name: "fuzz",
        about: "every parser: corpus, then 20 s of search",
        run: Run::Alone(fuzz::test),
    },
    Step {
        name: "instructions",
        about: "counts per packet, against the baseline",
        run: Run::Alone(instructions),
    },
    Step { name: "web", about: "type check and unit tests of the pages", run: Run::Alone(web) },
    Step {
        name: "quickstart",
        about: "each quick start, from its own text",
        run: Run::Alone(quickstart::test),
    },
    Step {
        name: "ops",
        about: "units, compose, rules, every query over a node",
        run: Run::Alone(ops::test),
    },
    Step {
        name: "browsers",
        about: "scenarios in Chromium and Firefox",
        run: Run::Alone(browser::test),
    },
    Step {
        name: "requirements",
        about: "the table, the module map",
        run: Run::Alone(requirements),
    },
];

/// Runs every step, or one, or those from one on.
pub fn test(
    workspace: &Workspace,
    only: Option<&str>,
    from: Option<&str>,
    skip_browser: bool,
) -> Result<()> {
    let names = || STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ");
    if only == Some("list") {
        STEPS.iter().for_each(|step| println!("{:14}{}", step.name, step.about));
        return Ok(());
    }
    let chosen: Vec<&Step> = STEPS
        .iter()
        .skip_while(|step| from.is_some_and(|name| name != step.name))
        .filter(|step| only.is_none_or(|name| name == step.name))
        .filter(|step| !(skip_browser && step.name == "browsers"))
        .collect();
    if chosen.is_empty() {
        bail!("no such step; there are: {}", names());
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    let outcome = run_steps(workspace, &chosen, &mut tally);
    if outcome.is_err() && tally.failed == 0 {
        tally.failed = 1; // A step that is no test runner failed: it counts as one test.
    }
    if skip_browser {
        println!("left out: the scenarios in real browsers");
    }
    println!("requirements cited by tests: {}", requirements::cited(workspace)?);
    println!("{tally} ({})", whole_seconds(started.elapsed()));
    outcome
}

fn run_steps(workspace: &Workspace, steps: &[&Step], tally: &mut Tally) -> Result<()> {
    let mut beside: Option<Beside> = None;
    for (index, step) in steps.iter().enumerate() {
        let head = format!("[{}/{}] {}", index + 1, steps.len(), step.name);
        println!("{head}: {}", step.about);
        let started = Instant::now();
        let outcome = match step.run {
            Run::Alone(run) => run(workspace, tally),
            Run::Beside { begin, until } => begin(workspace, tally).map(|run| {
                beside = Some(Beside { run, head: head.clone(), name: step.name, until, started });
            }),
        };
        report(step.name, &head, started, outcome)?;
        let is_last = index + 1 == steps.len();
        if let Some(Beside { run, head, name, started, .. }) =
            beside.take_if(|beside| is_last || beside.until == step.name)
        {
            println!("{head}: its end is awaited");
            report(name, &head, started, run.join(tally))?;
        }
    }
    Ok(())
}

/// A step that goes on beside others. It is ended where one of those fails.
struct Beside {
    run: perturb::Run,
    head: String,
    name: &'static str,
    until: &'static str,
    started: Instant,
}

fn report(name: &str, head: &str, started: Instant, outcome: Result<()>) -> Result<()> {
    let took = whole_seconds(started.elapsed());
    match outcome {
        Ok(()) => println!("{head} … {took}"),
        Err(error) => {
            println!("{head} failed after {took}");
            println!("this step alone: cargo xtask test --only {name}");
            return Err(error).with_context(|| format!("step {name}"));
        }
    }
    Ok(())
}

fn whole_seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64().round())
}

fn tools(workspace: &Workspace, _: &mut Tally) -> Result<()> {
    tools::install(workspace)
}

fn fmt(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    // The fuzz targets are workspaces of their own.
    let fuzz = fuzz::CRATES.map(|directory| format!("{directory}/Cargo.toml"));
    for manifest in fuzz.iter().map(String::as_str).chain(["Cargo.toml"]) {
        let scope = ["fmt", "--all", "--check", "--manifest-path", manifest];
        run(workspace.cargo().args(scope), LIMIT, tally)?;
    }
    Ok(())
}

fn lints(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let scope = ["clippy", "--release", "--workspace", "--all-targets", "--locked"];
    run(workspace.cargo().args(scope).args(["--", "-D", "warnings"]), LIMIT, tally)
}

fn tests(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let scope = ["test", "--release", "--workspace", "--locked", "--no-fail-fast"];
    let mut first = Tally::default();
    let outcome = run(workspace.cargo().args(scope), TESTS_LIMIT, &mut first);
    again::once(outcome, first, tally, |names, tally| {
        run(workspace.cargo().args(scope).args(["--", "--exact"]).args(names), TESTS_LIMIT, tally)
    })
}

fn web(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    for script in [&["run", "check"][..], &["test"]] {
        let mut npm = workspace.command("npm");
        run(npm.args(script).current_dir(workspace.root.join("web")), LIMIT, tally)?;
    }
    Ok(())
}

fn instructions(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    workspace.build(tally)?;
    let mut perf = workspace.command(workspace.binary("sutantra-perf"));
    run(perf.args(["instructions", "--check"]), LIMIT, tally)
}

fn requirements(workspace: &Workspace, _: &mut Tally) -> Result<()> {
    requirements::report(workspace)
}
