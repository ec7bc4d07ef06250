//! `sutantra-perturb`: runs, checks and makes manifests.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use perturb::{
    conduct, generate,
    manifest::{Manifest, Span},
    tools::Tools,
};

/// Disturbs a network of real nodes on this machine, and looks whether all holds that must.
#[derive(Debug, Parser)]
#[command(name = "sutantra-perturb", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a manifest; exit code 1 when something does not hold
    Run(RunArgs),
    /// Looks whether a manifest can be run, and says what it would do
    Check {
        /// TOML
        manifest: PathBuf,
    },
    /// Prints a manifest of chance
    Generate {
        /// The same seed gives the same manifest
        #[arg(long, value_name = "N")]
        seed: u64,
        /// How long it runs
        #[arg(long, value_name = "TIME", default_value = "5m")]
        duration: Span,
        /// Nobody makes snapshots, nobody joins from one
        #[arg(long)]
        no_snapshots: bool,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// TOML, such as perturb/manifests/small.toml
    manifest: PathBuf,
    /// How long, instead of what the manifest says
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// What chance is made of, instead of what the manifest says
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The node's program [default: beside this one, or in PATH]
    #[arg(long, value_name = "FILE")]
    node_bin: Option<PathBuf>,
    /// CometBFT's program, 0.38 or 0.39 [default: the first in .tools, PATH or Go's bin]
    #[arg(long, value_name = "FILE")]
    comet_bin: Option<PathBuf>,
    /// Keep homes and logs here; without it they are kept only when something does not hold
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Check { manifest } => check(&manifest),
        Command::Generate { seed, duration, no_snapshots } => {
            print(&make(seed, duration.0, !no_snapshots)).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// A closed pipe is no panic.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("stdout")
}

fn make(seed: u64, duration: Duration, has_snapshots: bool) -> String {
    let wish = generate::Wish { seed, duration, has_snapshots };
    format!(
        "# Made by `sutantra-perturb generate --seed {seed} --duration {}{}`.\n{}",
        Span(duration),
        if has_snapshots { "" } else { " --no-snapshots" },
        generate::manifest(wish).text()
    )
}

fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut manifest = Manifest::load(&args.manifest)?;
    if let Some(duration) = args.duration {
        manifest.chain.duration = duration;
    }
    if let Some(seed) = args.seed {
        manifest.chain.seed = seed;
    }
    let engine = manifest.chain.engine.clone();
    let tools =
        Tools::find(args.node_bin.as_deref(), args.comet_bin.as_deref(), engine.as_deref())?;
    conduct::heed_signals();
    let name = args.manifest.display().to_string();
    let report = conduct::run(conduct::Wish { name, manifest, tools, keep: args.keep })?;
    if let Some(path) = &args.json {
        std::fs::write(path, report.json() + "\n").with_context(|| path.display().to_string())?;
    }
    print(&report.text())?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(path)?;
    let mut text = format!("{}: {}\n", path.display(), manifest.chain.duration);
    for node in &manifest.nodes {
        let start = match node.start_at {
            Some(at) => format!(", joins: {at}"),
            None => String::new(),
        };
        text.push_str(&format!("  {}{start}\n", node.name));
        for one in &node.perturb {
            text.push_str(&format!("    {}: {}\n", one.at, one.fault));
        }
    }
    for step in &manifest.stakes {
        text.push_str(&format!("  {}: {:?} by {}\n", step.at, step.action, step.from));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
