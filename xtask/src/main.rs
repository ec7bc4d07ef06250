//! Automation: `cargo xtask test` is everything that proves the project, and what CI runs.

mod again;
mod browser;
mod citations;
#[cfg(test)]
mod direction;
#[cfg(test)]
mod documents;
mod fuzz;
mod netns;
mod node;
mod ops;
mod perturb;
mod process;
mod quickstart;
mod requirements;
mod soak;
mod steps;
mod tally;
mod tools;
mod workspace;

use std::process::ExitCode;

use browser::Effort;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Automation of the workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that proves the project; stops at the first step that fails.
    Test {
        /// Run this step alone (`--only list` names them).
        #[arg(long, value_name = "STEP")]
        only: Option<String>,
        /// Begin with this step, as after mending what a run stopped at.
        #[arg(long, value_name = "STEP", conflicts_with = "only")]
        from: Option<String>,
        /// Leave out the scenarios in real browsers.
        #[arg(long)]
        skip_browser: bool,
    },
    /// Everything long, one result file an item in target/soak.
    Soak {
        /// Skip the items that an earlier run has passed.
        #[arg(long)]
        resume: bool,
        /// Run this item alone (`--only list` names them).
        #[arg(long, value_name = "ITEM")]
        only: Option<String>,
    },
    /// Installs what the tests and a local network need, CometBFT into .tools among it.
    Tools {
        /// CometBFT alone: what `sutantra-node localnet` needs.
        #[arg(long)]
        cometbft: bool,
    },
    /// The requirements that no test cites, and the module table of ARCHITECTURE.md.
    Requirements,
    /// Runs browser scenarios on the network that it is started in.
    #[command(hide = true)]
    Scenarios {
        /// Long, with nothing forgiven.
        #[arg(long)]
        thorough: bool,
        /// Which.
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = workspace::Workspace::find()?;
    match task {
        Task::Test { only, from, skip_browser } => {
            steps::test(&workspace, only.as_deref(), from.as_deref(), skip_browser)
        }
        Task::Soak { resume, only } => soak::soak(&workspace, resume, only.as_deref()),
        Task::Tools { cometbft: true } => {
            tools::install_cometbft(&workspace, tools::COMETBFT).map(drop)
        }
        Task::Tools { cometbft: false } => tools::install(&workspace),
        Task::Requirements => requirements::report(&workspace),
        Task::Scenarios { thorough, names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let effort = if thorough { Effort::Thorough } else { Effort::Quick };
            let outcome = browser::run_here(&workspace, &names, effort);
            println!("{}", outcome.closing_line());
            outcome.into_result()
        }
    }
}
