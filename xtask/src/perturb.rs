//! A network of real nodes, disturbed for five minutes, beside steps that do not mind the noise.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Guard, show};
use crate::tally::Tally;
use crate::tools;
use crate::workspace::Workspace;

/// Every fault once, with everything that must hold (`perturb/README.md`).
const MANIFEST: &str = "perturb/manifests/five-minutes.toml";
/// The longest that it may take from its begin, its last look included.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often it is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of its log that are shown when something does not hold.
const LINES_SHOWN_MAX: usize = 400;

/// The run, in a process of its own that ends with this value.
pub struct Run {
    child: Guard,
    shown: String,
    log: PathBuf,
    begun: Instant,
}

/// Begins it; what it prints goes into a file.
pub fn begin(workspace: &Workspace, tally: &mut Tally) -> Result<Run> {
    workspace.build(tally)?;
    let comet = tools::install_cometbft(workspace, tools::COMETBFT)?;
    let directory = workspace.target.join("perturb");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let log = directory.join("five-minutes.log");
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = workspace.command(workspace.binary("sutantra-perturb"));
    command.args(["run", MANIFEST, "--comet-bin"]).arg(comet);
    command.arg("--node-bin").arg(workspace.binary("sutantra-node"));
    command.arg("--json").arg(directory.join("five-minutes.json"));
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let shown = show(&command);
    let child = command.spawn().with_context(|| format!("`{shown}` does not start"))?;
    Ok(Run { child: Guard(child), shown, log, begun: Instant::now() })
}

impl Run {
    /// Waits until it has ended; its log is shown where something does not hold.
    pub fn join(mut self, tally: &mut Tally) -> Result<()> {
        let status = loop {
            if let Some(status) = self.child.0.try_wait().context("the network's process")? {
                break Some(status);
            }
            if self.begun.elapsed() > LIMIT {
                break None;
            }
            std::thread::sleep(LOOK);
        };
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        match status {
            Some(status) if status.success() => {
                println!("{}", lines.last().unwrap_or(&"it printed nothing"));
                println!("all of it: {}", self.log.display());
                tally.passed += 1;
                Ok(())
            }
            ended => {
                let first = lines.len().saturating_sub(LINES_SHOWN_MAX);
                lines[first..].iter().for_each(|line| println!("{line}"));
                match ended {
                    Some(status) => bail!("`{}` failed: {status}", self.shown),
                    None => bail!("`{}` did not end within {} s", self.shown, LIMIT.as_secs()),
                }
            }
        }
    }
}
