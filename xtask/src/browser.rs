//! Scenarios in real browsers against a real node, on a network of their own where that is allowed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::Pair;
use crate::node::Node;
use crate::process::run;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// One run of a script under web/e2e, against a node of its own.
pub struct Scenario {
    /// Unique.
    pub name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    /// Takes `--seconds`, how long is watched.
    has_length: bool,
    node: NodeOf,
}

/// Who starts the node.
enum NodeOf {
    /// We do; the script is told its address.
    Ours,
    /// The script, because it has to kill it; it is told the program.
    Script,
}

/// From the least to the most: the first that fails names the nearest cause.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "demo-chromium",
        script: "watch-demo",
        arguments: &["--browser", "chromium"],
        has_length: false,
        node: NodeOf::Ours,
    },
    Scenario {
        name: "demo-firefox",
        script: "watch-demo",
        arguments: &["--browser", "firefox"],
        has_length: false,
        node: NodeOf::Ours,
    },
    publish_and_watch("vp8", &["--codec", "VP8", "--size", "640x360"]),
    publish_and_watch("vp9", &["--codec", "VP9", "--size", "640x360"]),
    publish_and_watch("av1", &["--codec", "AV1", "--size", "640x360"]),
    // Debian's Firefox fetches its H.264 decoder from the net: Chromium alone.
    publish_and_watch("h264", &["--codec", "H264", "--size", "640x360", "--viewers", "chromium"]),
    Scenario {
        name: "restart",
        script: "restart",
        arguments: &[],
        has_length: false,
        node: NodeOf::Script,
    },
];

const fn publish_and_watch(name: &'static str, arguments: &'static [&'static str]) -> Scenario {
    Scenario { name, script: "publish-watch", arguments, has_length: true, node: NodeOf::Ours }
}

/// How long a test watches; the soak does it for longer.
const TEST_SECONDS: u32 = 6;
/// Encoder and two decoders share the machine's cores with the relay, and a starved decoder
/// freezes: a lower bitrate, and some freezes are forgiven. Lost packets, which are the relay's, are
/// judged as strictly as in the soak.
const TEST_ARGUMENTS: [&str; 4] = ["--bitrate", "1000000", "--freezes-max", "4"];
/// The longest that one scenario may take; beyond it the scenario hangs and is killed.
const SCENARIO_LIMIT: Duration = Duration::from_secs(300);
const ALL_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds the node and runs every scenario for a few seconds.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    workspace.build(tally)?;
    let names = SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>();
    on_own_network(workspace, &names, TEST_SECONDS, tally)
}

/// Runs scenarios inside a namespace when we may make one, else where we are.
pub fn on_own_network(
    workspace: &Workspace,
    names: &[&str],
    seconds: u32,
    tally: &mut Tally,
) -> Result<()> {
    match Pair::create() {
        Ok(pair) => {
            let mut command = pair.command(std::env::current_exe()?);
            command.current_dir(&workspace.root).args(["scenarios", "--seconds"]);
            run(command.arg(seconds.to_string()).args(names), ALL_LIMIT, tally)
        }
        Err(error) => {
            // Not root: the host's own interfaces serve, which browsers gather as well.
            println!("on the host's network, since there is no own one: {error:#}");
            let outcome = run_here(workspace, names, seconds);
            println!("{}", outcome.closing_line());
            tally.passed += outcome.passed;
            tally.failed += outcome.failed;
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
pub fn run_here(workspace: &Workspace, names: &[&str], seconds: u32) -> Outcome {
    let mut total = Outcome::default();
    for scenario in SCENARIOS.iter().filter(|scenario| names.contains(&scenario.name)) {
        let name = scenario.name;
        let started = Instant::now();
        let outcome = run_scenario(workspace, scenario, seconds);
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

fn run_scenario(workspace: &Workspace, scenario: &Scenario, seconds: u32) -> Result<()> {
    let directory = workspace.target.join("e2e").join(scenario.name);
    let mut command = workspace.command("node");
    command
        .current_dir(workspace.root.join("web"))
        .arg(format!("e2e/{}.mjs", scenario.script))
        .args(scenario.arguments);
    if scenario.has_length {
        command.args(["--seconds", &seconds.to_string()]);
        if seconds == TEST_SECONDS {
            command.args(TEST_ARGUMENTS);
        }
    }
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
