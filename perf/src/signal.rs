//! What signalling costs, side by side: the same peers through the coordinator, PeerJS and socket.io,
//! round after round in one run, so that a noisy machine disturbs all alike.

mod contender;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bench::interrupt;
use bench::rooms::{self, RoomsConfig, RoomsReport};
use clap::Args;
use serde::Serialize;

use contender::{Contender, Started};
use table::Row;

/// Of the quick run.
const QUICK_WINDOW: Duration = Duration::from_secs(1);
const QUICK_IDLE: usize = 200;
const QUICK_RATE: f64 = 500.0;
/// How many idle peers connect a second.
const RAMP: u32 = 2000;
/// Window of the run with idle peers: their memory is looked at before it.
const IDLE_WINDOW: Duration = Duration::from_millis(200);

/// Options of `signal`.
#[derive(Args)]
pub struct SignalArgs {
    /// Rounds; tables show medians and spread.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    repeats: u8,
    /// Counted time of each run: 5s, 500ms.
    #[arg(long, default_value = "5s", value_parser = bench::span::parse)]
    window: Duration,
    /// Rooms of ten peers that send offers to one another.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rooms: u16,
    /// Offers a second, of all peers together.
    #[arg(long, default_value_t = 4000.0, value_name = "PER_SECOND")]
    signals_per_second: f64,
    /// Size of an offer's SDP.
    #[arg(long, default_value_t = 2048, value_name = "BYTES")]
    signal_bytes: usize,
    /// Connections that only stay, for the memory of one.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle: usize,
    /// One round with a short window and few connections: whether it works, not what it costs.
    #[arg(long)]
    quick: bool,
    /// Servers, by name; all if not given: coordinator, node, peerjs, socketio.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// The relay's program, which carries a coordinator too; left out if not given.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where `npm install peer socket.io` was run.
    #[arg(long, value_name = "DIR", default_value = ".tools/signalling")]
    modules: PathBuf,
    /// Exit code 1 when the coordinator loses an offer, or a run of it fails.
    #[arg(long)]
    check: bool,
    /// Write everything as JSON; written anew after each round.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Everything {
    machine: String,
    rounds: usize,
    window_seconds: f64,
    rooms: usize,
    signals_per_second: f64,
    signal_bytes: usize,
    idle: usize,
    /// Who took part, as what, in which version.
    servers: Vec<String>,
    /// Sentences about who could not take part.
    left_out: Vec<String>,
    rows: Vec<Row>,
}

/// Runs it.
///
/// # Errors
/// Nobody could be measured, or a file cannot be written.
pub fn run(args: &SignalArgs) -> anyhow::Result<ExitCode> {
    let (contenders, left_out) = contender::gather(&args.modules, args.node.as_deref());
    let contenders = chosen(contenders, &args.servers)?;
    left_out.iter().for_each(|sentence| eprintln!("{sentence}"));
    rooms::raise_descriptors();
    interrupt::listen();
    let (rounds, window, idle, rate) = match args.quick {
        true => (1, QUICK_WINDOW, QUICK_IDLE.min(args.idle), QUICK_RATE),
        false => (usize::from(args.repeats), args.window, args.idle, args.signals_per_second),
    };
    let mut everything = Everything {
        machine: bench::server::machine(),
        rounds,
        window_seconds: window.as_secs_f64(),
        rooms: args.rooms.into(),
        signals_per_second: rate,
        signal_bytes: args.signal_bytes,
        idle,
        servers: contenders.iter().map(Contender::description).collect(),
        left_out,
        rows: contenders.iter().map(|one| Row::new(one.name())).collect(),
    };
    for round in 1..=rounds {
        for (contender, row) in contenders.iter().zip(&mut everything.rows) {
            if interrupt::asked() {
                break;
            }
            eprintln!("round {round} of {rounds}: {}", contender.name());
            row.add_offers(measure(contender, |config| {
                config.rooms = args.rooms.into();
                config.signals_per_second = rate;
                config.signal_bytes = args.signal_bytes;
                config.duration = window;
            }));
            row.add_idle(measure(contender, |config| {
                (config.rooms, config.idle, config.signals_per_second) = (0, idle, 0.0);
                (config.ramp_per_second, config.duration) = (RAMP, IDLE_WINDOW);
            }));
        }
        write_json(args.json.as_deref(), &everything)?;
    }
    ensure!(
        everything.rows.iter().any(|row| !row.offers.is_empty()),
        "nothing was measured: {}",
        everything.reasons()
    );
    let markdown = everything.markdown();
    print!("{markdown}");
    if let Some(path) = &args.markdown {
        std::fs::write(path, markdown).with_context(|| path.display().to_string())?;
    }
    let wrong = if args.check { everything.wrong() } else { Vec::new() };
    wrong.iter().for_each(|sentence| println!("FAILED: {sentence}."));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// One run against a server that is started for it.
fn measure(
    contender: &Contender,
    change: impl Fn(&mut RoomsConfig),
) -> anyhow::Result<RoomsReport> {
    let started = Started::start(contender)?;
    let mut config = RoomsConfig::new(started.base.clone());
    (config.server, config.pid) = (contender.speaks(), Some(started.pid()));
    change(&mut config);
    rooms::run(&config).with_context(|| format!("{}: {}", contender.name(), started.log_tail()))
}

fn chosen(all: Vec<Contender>, names: &[String]) -> anyhow::Result<Vec<Contender>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| one.name() != *name)) {
        bail!("no server is called {unknown:?}, or it is not installed");
    }
    let is_chosen =
        |one: &Contender| names.is_empty() || names.iter().any(|name| name == one.name());
    Ok(all.into_iter().filter(is_chosen).collect())
}

impl Everything {
    /// Why servers were left out or brought no figures, in one line.
    fn reasons(&self) -> String {
        let failures = self.rows.iter().flat_map(|row| row.failures.first()).cloned();
        let reasons: Vec<String> = self.left_out.iter().cloned().chain(failures).collect();
        if reasons.is_empty() { "no server was chosen".to_owned() } else { reasons.join("; ") }
    }

    /// What the coordinator must not do.
    fn wrong(&self) -> Vec<String> {
        self.rows.iter().filter(|row| row.is_ours()).flat_map(Row::wrong).collect()
    }

    fn markdown(&self) -> String {
        let mut out = format!(
            "{}; {} rounds, windows of {} s; {} rooms of 10 peers, {:.0} offers of {} bytes a second; \
             then {} idle connections. Medians (min–max).\n\n",
            self.machine,
            self.rounds,
            self.window_seconds,
            self.rooms,
            self.signals_per_second,
            self.signal_bytes,
            self.idle
        );
        self.servers.iter().chain(&self.left_out).for_each(|line| out += &format!("- {line}\n"));
        out + "\n" + &table::markdown(&self.rows)
    }
}

fn write_json(path: Option<&Path>, everything: &Everything) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(everything)? + "\n";
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
