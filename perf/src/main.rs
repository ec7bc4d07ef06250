//! `sutantra-perf`: what things cost, in instructions, in CPU time and in memory.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod bare_loop;
mod capacity;
mod chain;
mod connected;
mod cross;
mod drop_sink;
mod gate_flood;
mod idle;
mod instructions;
mod limit;
mod money;
mod peers;
mod signal;
mod sockets;
mod stages;
mod thread_clock;
mod workload;

/// Passes everything on; `idle` reads what it counts.
#[global_allocator]
static ALLOCATOR: idle::Counting = idle::Counting;

/// Costs of the media path and of money.
#[derive(Parser)]
#[command(name = "sutantra-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The bare receive-open-rewrite-seal-send loop over loopback: CPU ns a packet.
    Limit(limit::LimitArgs),
    /// Instructions per forwarded packet, counted by callgrind, held against the baseline.
    Instructions(InstructionArgs),
    /// Viewers and Gb/s of a core by bitrate, from measured coefficients.
    Capacity(capacity::CapacityArgs),
    /// ns of the same work as `instructions`, and the stages of a forwarded packet.
    Stages,
    /// Memory that one idle session holds in the relay, and what of it is str0m's.
    Idle {
        /// Sessions at once; the figures are their means.
        #[arg(long, default_value_t = 5000)]
        sessions: u16,
    },
    /// Gate commands by the hundred thousand a second while media is forwarded.
    Gates(gate_flood::GatesArgs),
    /// Transactions a second: our application beside an empty one under CometBFT.
    Chain(chain::ChainArgs),
    /// The application of `chain`, in a process of its own.
    #[command(hide = true)]
    ChainChild(chain::child::ChildArgs),
    /// The relay beside LiveKit, Janus and others, by the same clients: CPU a packet, memory, latency.
    Peers(peers::PeersArgs),
    /// The coordinator beside PeerJS and socket.io, by the same peers: CPU an offer, memory, latency.
    Signal(signal::SignalArgs),
    /// Vouchers a second and core, delays up to the order for a gate, blocks, memory of lanes.
    Money(MoneyArgs),
    /// What `instructions` runs under callgrind.
    #[command(hide = true)]
    CallgrindWorkload {
        /// Name of the case.
        case: String,
        /// How often.
        rounds: u64,
    },
}

/// Options of `instructions`.
#[derive(Args)]
struct InstructionArgs {
    /// Fail when a count has grown by more than 3 %.
    #[arg(long, conflicts_with = "update")]
    check: bool,
    /// Write the counts as the new baseline.
    #[arg(long)]
    update: bool,
    /// The baseline.
    #[arg(long, default_value = instructions::BASELINE)]
    baseline: PathBuf,
}

/// Options of `money`.
#[derive(Args)]
struct MoneyArgs {
    /// Viewers that pay at once, each on a lane.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    lanes: u64,
    /// Vouchers whose CPU time is taken.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    vouchers: u64,
    /// Vouchers through the threads.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    frames: u64,
    /// Transfers, grants and revokes, each in a block of its own.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    blocks: u64,
    /// Least time from block to block, ms.
    #[arg(long, default_value_t = 50)]
    min_block_interval_ms: u64,
    /// Folder for the chain and the log, which wait for its disk; the system's for temporary files
    /// if none is given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Limit(args) => limit::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Instructions(args) => instructions::run(&args),
        Command::Capacity(args) => capacity::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Stages => stages::run().map(|()| ExitCode::SUCCESS),
        Command::Idle { sessions } => idle::run(sessions).map(|()| ExitCode::SUCCESS),
        Command::Gates(args) => gate_flood::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Chain(args) => chain::run(&args).map(|()| ExitCode::SUCCESS),
        Command::ChainChild(args) => chain::child::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Peers(args) => peers::run(&args),
        Command::Signal(args) => signal::run(&args),
        Command::Money(args) => money::run(&args).map(|()| ExitCode::SUCCESS),
        Command::CallgrindWorkload { case, rounds } => {
            workload::run(&case, rounds).map(|_time| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sutantra-perf: {error:#}");
        ExitCode::from(2)
    })
}
