//! Scenarios in real browsers against a real node, on a network of their own where that is allowed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::again;
use crate::netns::Pair;
use crate::node::Node;
use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// One run of a script under web/e2e.
pub struct Scenario {
    /// Unique.
    pub name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    /// Arguments of a quick run.
    quick: &'static [&'static str],
    /// Arguments of a thorough run.
    thorough: &'static [&'static str],
    node: NodeOf,
}

/// Who starts the node.
enum NodeOf {
    /// We do; the script is told its address.
    Ours,
    /// The script, because it kills it or decides about gates; it is told the program.
    Script,
}

/// How long and how strictly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Seconds, for each change.
    Quick,
    /// As long as people watch, with nothing forgiven.
    Thorough,
}

/// Encoder and two decoders share the machine's cores with the relay, and a starved decoder freezes:
/// in a quick run less is encoded, and freezes are reported, not judged. Frames that do not arrive,
/// which are the relay's, are judged as strictly as ever.
const WATCH_QUICK: &[&str] =
    &["--seconds", "6", "--size", "640x360", "--bitrate", "1000000", "--freezes-max", "100"];
const WATCH_THOROUGH: &[&str] = &["--seconds", "30"];

/// From the least to the most: the first that fails names the nearest cause.
pub const SCENARIOS: &[Scenario] = &[
    watch_demo("demo-chromium", &["--browser", "chromium"]),
    watch_demo("demo-firefox", &["--browser", "firefox"]),
    publish_and_watch("vp8", &["--codec", "VP8"]),
    publish_and_watch("vp9", &["--codec", "VP9"]),
    publish_and_watch("av1", &["--codec", "AV1"]),
    // Debian's Firefox fetches its H.264 decoder from the net: Chromium alone.
    publish_and_watch("h264", &["--codec", "H264", "--viewers", "chromium"]),
    Scenario {
        name: "gate",
        script: "gate",
        arguments: &[],
        quick: &["--cycles", "20"],
        thorough: &["--cycles", "100"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "interop",
        script: "interop",
        arguments: &[],
        quick: &[],
        thorough: &[],
        node: NodeOf::Script,
    },
    Scenario {
        name: "validator-relay",
        script: "validator-relay",
        arguments: &[],
        quick: &["--seconds", "6"],
        thorough: &["--seconds", "300"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "explorer",
        script: "explorer",
        arguments: &[],
        quick: &[],
        thorough: &["--comet", "spawn"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "money",
        script: "money",
        arguments: &[],
        quick: &[],
        thorough: &["--frames", "600"],
        node: NodeOf::Script,
    },
    // Real validators, two of which die; the relay has no state of its own.
    Scenario {
        name: "money-network",
        script: "money",
        arguments: &["--validators", "4"],
        quick: &[],
        thorough: &["--frames", "600"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "money-crash",
        script: "money-crash",
        arguments: &[],
        quick: &["--rounds", "5"],
        thorough: &["--rounds", "100"],
        node: NodeOf::Script,
    },
    rooms("rooms", "rooms", &[]),
    // No way but through coturn.
    rooms("rooms-turn", "rooms", &["--relay-only"]),
    rooms("rooms-mesh", "rooms-mesh", &[]),
    rooms("rooms-app", "rooms-app", &[]),
    Scenario { thorough: &["--times", "5"], ..rooms("rooms-restart", "rooms-restart", &[]) },
    Scenario {
        name: "loss",
        script: "loss",
        arguments: &["--loss", "3"],
        quick: &["--seconds", "8"],
        thorough: &["--seconds", "30"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "loss-firefox",
        script: "loss",
        arguments: &["--loss", "3", "--viewer", "firefox"],
        quick: &["--seconds", "8"],
        thorough: &["--seconds", "30"],
        node: NodeOf::Script,
    },
    Scenario {
        name: "restart",
        script: "restart",
        arguments: &[],
        quick: &["--times", "1"],
        thorough: &["--times", "3"],
        node: NodeOf::Script,
    },
];

const fn watch_demo(name: &'static str, arguments: &'static [&'static str]) -> Scenario {
    let script = "watch-demo";
    Scenario { name, script, arguments, quick: &[], thorough: &[], node: NodeOf::Ours }
}

const fn publish_and_watch(name: &'static str, arguments: &'static [&'static str]) -> Scenario {
    Scenario {
        name,
        script: "publish-watch",
        arguments,
        quick: WATCH_QUICK,
        thorough: WATCH_THOROUGH,
        node: NodeOf::Ours,
    }
}

const fn rooms(
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
) -> Scenario {
    Scenario { name, script, arguments, quick: &[], thorough: &[], node: NodeOf::Script }
}

/// The longest that one scenario may take; beyond it the scenario hangs and is killed.
const SCENARIO_LIMIT: Duration = Duration::from_secs(8 * 60);
const ALL_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds the node and runs every scenario, quickly.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    workspace.build(tally)?;
    let names = SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>();
    let mut first = Tally::default();
    let outcome = on_own_network(workspace, &names, Effort::Quick, &mut first);
    again::once(outcome, first, tally, |names, tally| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        on_own_network(workspace, &names, Effort::Quick, tally)
    })
}

/// Runs scenarios inside a namespace when we may make one, else where we are.
pub fn on_own_network(
    workspace: &Workspace,
    names: &[&str],
    effort: Effort,
    tally: &mut Tally,
) -> Result<()> {
    match Pair::create() {
        Ok(pair) => {
            // Not the program that runs: the build above may have put a newer one in its place.
            let mut command = pair.command(workspace.binary("xtask"));
            command.current_dir(&workspace.root).arg("scenarios").args(names);
            if effort == Effort::Thorough {
                command.arg("--thorough");
            }
            run(&mut command, ALL_LIMIT, tally)
        }
        Err(error) => {
            // Not root: the host's own interfaces serve, which browsers gather as well.
            println!("on the host's network, since there is no own one: {error:#}");
            let outcome = run_here(workspace, names, effort);
            println!("{}", outcome.closing_line());
            let names_failed = outcome.names_failed.iter().map(ToString::to_string).collect();
            let Outcome { passed, failed, .. } = outcome;
            tally.add(Tally { passed, failed, names_failed, ..Tally::default() });
            outcome.into_result()
        }
    }
}

/// What became of the scenarios.
#[derive(Default)]
pub struct Outcome {
    passed: u64,
    failed: u64,
    names_failed: Vec<&'static str>,
}

impl Outcome {
    /// The closing line, as libtest prints it, so that whoever started us counts it.
    pub fn closing_line(&self) -> String {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        format!("test result: {verdict}. {} passed; {} failed", self.passed, self.failed)
    }

    /// An error if one failed.
    pub fn into_result(self) -> Result<()> {
        ensure!(self.failed == 0, "scenarios failed: {}", self.names_failed.join(", "));
        Ok(())
    }
}

/// Runs scenarios on the network that we are in; goes on after a failure.
pub fn run_here(workspace: &Workspace, names: &[&str], effort: Effort) -> Outcome {
    let mut total = Outcome::default();
    for scenario in SCENARIOS.iter().filter(|scenario| names.contains(&scenario.name)) {
        let name = scenario.name;
        let started = Instant::now();
        let outcome = run_scenario(workspace, scenario, effort);
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                total.passed += 1;
                println!("scenario {name} ... ok ({took:.1} s)");
            }
            Err(error) => {
                total.failed += 1;
                total.names_failed.push(name);
                println!("scenario {name} ... FAILED ({took:.1} s): {error:#}");
            }
        }
    }
    total
}

fn run_scenario(workspace: &Workspace, scenario: &Scenario, effort: Effort) -> Result<()> {
    let directory = workspace.target.join("e2e").join(scenario.name);
    let mut command = workspace.command("node");
    command
        .current_dir(workspace.root.join("web"))
        .arg(format!("e2e/{}.mjs", scenario.script))
        .args(scenario.arguments)
        .args(match effort {
            Effort::Quick => scenario.quick,
            Effort::Thorough => scenario.thorough,
        });
    match scenario.node {
        NodeOf::Ours => {
            let node = Node::start(workspace, &directory, &[])?;
            command.args(["--base", &node.url]);
            run(&mut command, SCENARIO_LIMIT, &mut Tally::default())
                .with_context(|| format!("the node's log: {}", node.log.display()))
        }
        NodeOf::Script => {
            command.arg("--node").arg(workspace.binary("sutantra-node"));
            run(&mut command, SCENARIO_LIMIT, &mut Tally::default())
        }
    }
}
