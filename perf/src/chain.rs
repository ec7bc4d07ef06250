//! What the chain carries: our application beside an empty one under the same CometBFT, and the
//! embedded engine.
//!
//! Printed, never a gate. Cases are interleaved, so that what else the machine does falls on all.

mod application;
pub mod child;
mod figures;
mod load;
mod net;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use comet::process::Binary;
use serde_json::{Value, json};

use child::Kind;
use figures::Run;
use net::{Net, Plan};

/// Options of `chain`.
#[derive(Args)]
pub struct ChainArgs {
    /// Validators, one case each; each has a CometBFT and an application of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    validators: Vec<usize>,
    /// Seconds of load in each run.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Runs of each case, interleaved.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    repeats: u64,
    /// Transfers that are signed beforehand; a run ends when they are used up.
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    transfers: u64,
    /// CometBFT's pause after a block, ms. The embedded engine has its own: 50 ms at least.
    #[arg(long, default_value_t = 200)]
    timeout_commit_ms: u64,
    /// No load: the blocks that are made without one.
    #[arg(long)]
    idle: bool,
    /// CometBFT's program; otherwise the first one in .tools, PATH or Go's bin.
    #[arg(long, value_name = "FILE", env = "SUTANTRA_COMET_BIN")]
    comet_bin: Option<PathBuf>,
    /// Folder for the chains, which wait for its disk; the system's for temporary files if none is
    /// given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write every run as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

struct Case {
    kind: Kind,
    validators: usize,
    runs: Vec<Run>,
}

impl Case {
    fn name(&self) -> String {
        let what = match self.kind {
            Kind::App => "our application",
            Kind::Empty => "an empty one",
            Kind::Embedded => "embedded engine",
        };
        format!(
            "{what}, {} validator{}",
            self.validators,
            if self.validators == 1 { "" } else { "s" }
        )
    }
}

/// Measures all and prints a table.
pub fn run(args: &ChainArgs) -> anyhow::Result<()> {
    let binary = Binary::find(args.comet_bin.as_deref())?;
    let mut cases = Vec::new();
    for validators in &args.validators {
        ensure!((1..=16).contains(validators), "--validators takes 1 to 16, not {validators}");
        cases.push(Case { kind: Kind::App, validators: *validators, runs: Vec::new() });
        cases.push(Case { kind: Kind::Empty, validators: *validators, runs: Vec::new() });
        if *validators == 1 {
            cases.push(Case { kind: Kind::Embedded, validators: 1, runs: Vec::new() });
        }
    }
    let requests = if args.idle { Vec::new() } else { load::requests(args.transfers) };
    let app_state = load::app_state()?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut repeat = |repeat: u64| -> anyhow::Result<()> {
        for (at, case) in cases.iter_mut().enumerate() {
            eprintln!("{} ({repeat} of {})", case.name(), args.repeats);
            let plan = Plan {
                kind: case.kind,
                validators: case.validators,
                dir: parent.join(format!("sutantra-perf-{}-{repeat}-{at}", std::process::id())),
                binary: &binary,
                timeout_commit: Duration::from_millis(args.timeout_commit_ms),
                app_state: &app_state,
            };
            let run = one(&plan, &requests, args).with_context(|| case.name())?;
            eprintln!(
                "  {:.0} tx/s, blocks {:.0} ms apart",
                run.tx_per_second, run.interval_p50_ms
            );
            case.runs.push(run);
        }
        Ok(())
    };
    let outcome = (1..=args.repeats).try_for_each(&mut repeat);
    // What was measured before a failure is worth its line too.
    cases.retain(|case| !case.runs.is_empty());
    print(&cases, args, &binary);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&as_json(&cases, args, &binary))?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    outcome
}

fn one(plan: &Plan<'_>, requests: &[String], args: &ChainArgs) -> anyhow::Result<Run> {
    let span = Duration::from_secs(args.seconds);
    let mut net = Net::start(plan)?;
    let (sample, cpu) = (net.sample()?, net.cpu()?);
    let (all, submitted) = match args.idle {
        true => (load::idle(&net.clients()[0], span)?, 0),
        false => {
            let name = format!("{:?}", plan.kind);
            let waiting_max = match plan.kind {
                Kind::App | Kind::Empty => load::WAITING_MAX,
                Kind::Embedded => load::WAITING_EMBEDDED_MAX,
            };
            let outcome = load::drive(net.clients(), requests, span, waiting_max, &name)?;
            if outcome.sending < span {
                eprintln!("  all transfers were sent after {:.1} s", outcome.sending.as_secs_f64());
            }
            (outcome.blocks, outcome.submitted)
        }
    };
    let (sample_after, cpu_after) = (net.sample()?, net.cpu()?);
    // After the clocks were read: this reads every result.
    let refused = load::refused(&net.clients()[0], &all)?;
    ensure!(refused == 0, "{refused} transfers were refused in their blocks");
    let blocks = if args.idle { &all[..] } else { figures::loaded(&all) };
    let committed: u64 = blocks.iter().map(|block| block.txs).sum();
    let intervals = figures::intervals_ms(blocks);
    ensure!(!intervals.is_empty(), "fewer than two blocks: give it more --seconds");
    let thousand = committed.max(1) as f64 / 1e3;
    let commits = (sample_after.commits - sample.commits).max(1) as f64;
    Ok(Run {
        submitted,
        committed,
        blocks: blocks.len(),
        tx_per_second: figures::rate(blocks).unwrap_or_default(),
        interval_p50_ms: figures::quantile(&intervals, 0.5),
        interval_p99_ms: figures::quantile(&intervals, 0.99),
        finalize_us_per_tx: (sample_after.finalize_seconds - sample.finalize_seconds) * 1e6
            / committed.max(1) as f64,
        commit_ms: (sample_after.commit_seconds - sample.commit_seconds) * 1e3 / commits,
        app_cpu_per_1000: (cpu_after.app - cpu.app) / thousand,
        engine_cpu_per_1000: (cpu_after.engine - cpu.engine) / thousand,
    })
}

fn print(cases: &[Case], args: &ChainArgs, binary: &Binary) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "CometBFT {}, timeout_commit {} ms, {} s a run, {} runs, {cores} cores: median (least–most)",
        binary.version, args.timeout_commit_ms, args.seconds, args.repeats
    );
    if args.idle {
        println!("{:<32}{:>24}{:>24}{:>8}", "no load", "interval p50 ms", "p99 ms", "blocks");
    } else {
        println!(
            "{:<32}{:>11}{:>24}{:>20}{:>20}{:>20}{:>18}{:>20}{:>20}",
            "case",
            "submitted",
            "committed tx/s",
            "interval p50 ms",
            "p99 ms",
            "Finalize µs/tx",
            "Commit ms",
            "app CPU s/1000",
            "engine CPU s/1000"
        );
    }
    for case in cases {
        let show = |figure: fn(&Run) -> f64, digits| figures::spread(&case.runs, figure, digits);
        let submitted: u64 = case.runs.iter().map(|run| run.submitted).sum();
        let (p50, p99) = (show(|run| run.interval_p50_ms, 0), show(|run| run.interval_p99_ms, 0));
        if args.idle {
            let blocks: usize = case.runs.iter().map(|run| run.blocks).sum();
            println!("{:<32}{p50:>24}{p99:>24}{blocks:>8}", case.name());
            continue;
        }
        let engine = match case.kind {
            Kind::Embedded => "in the app's".to_owned(),
            Kind::App | Kind::Empty => show(|run| run.engine_cpu_per_1000, 2),
        };
        println!(
            "{:<32}{submitted:>11}{:>24}{p50:>20}{p99:>20}{:>20}{:>18}{:>20}{engine:>20}",
            case.name(),
            show(|run| run.tx_per_second, 0),
            show(|run| run.finalize_us_per_tx, 1),
            show(|run| run.commit_ms, 1),
            show(|run| run.app_cpu_per_1000, 2),
        );
    }
    if args.idle {
        return;
    }
    for validators in &args.validators {
        let of = |kind| {
            let case =
                cases.iter().find(|case| case.kind == kind && case.validators == *validators);
            case.map(|case| {
                let rates: Vec<f64> = case.runs.iter().map(|run| run.tx_per_second).collect();
                figures::quantile(&rates, 0.5)
            })
        };
        if let (Some(ours), Some(empty)) = (of(Kind::App), of(Kind::Empty)) {
            println!("{validators}: our application at {:.2}× of the empty one", ours / empty);
        }
    }
}

fn as_json(cases: &[Case], args: &ChainArgs, binary: &Binary) -> Value {
    let case = |case: &Case| json!({ "case": case.kind, "validators": case.validators, "runs": case.runs });
    json!({
        "cometbft": binary.version.to_string(),
        "timeout_commit_ms": args.timeout_commit_ms,
        "seconds": args.seconds,
        "idle": args.idle,
        "cases": cases.iter().map(case).collect::<Vec<_>>(),
    })
}
