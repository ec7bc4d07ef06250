//! `sutantra-bench`: real WebRTC clients in number, against any WHIP and WHEP address; peers in number,
//! against a coordinator.

mod signal_command;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use bench::load::{self, LoadConfig, PayConfig};
use bench::pay::Funds;
use bench::report::{Report, Thresholds};
use bench::screen::Show;
use bench::signal::Target;
use bench::socket::Gro;
use bench::trace::Trace;
use bench::{find_max, interrupt, reference, rooms, span};

/// Load generator for WHIP and WHEP servers.
#[derive(Parser)]
#[command(name = "sutantra-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish a trace, watch it with many clients, say what arrived and what it cost.
    Load(Box<LoadArgs>),
    /// Peers in rooms that send offers to one another, idle ones, ones that come and go: what
    /// signalling loses, takes and costs.
    Signal(Box<signal_command::SignalArgs>),
    /// The coordinator alone, in mode open: what `signal` measures without a relay beside it.
    Coordinator {
        /// Where /webrtc/ is served.
        #[arg(long, default_value = "127.0.0.1:8091")]
        http: SocketAddr,
    },
    /// A plain single-threaded SFU through str0m's write_rtp, to compare with.
    ReferenceSfu(ReferenceArgs),
}

#[derive(Args)]
struct ReferenceArgs {
    /// Where WHIP and WHEP are served.
    #[arg(long, default_value = "127.0.0.1:8090")]
    http: SocketAddr,
    /// Where media is served, on the address of --http.
    #[arg(long, default_value_t = 9090)]
    udp_port: u16,
}

#[derive(Args)]
struct LoadArgs {
    /// The server, http://host:port.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    base: String,
    /// Stream to publish and watch (/whip/STREAM, /whep/STREAM).
    #[arg(long, default_value = "bench")]
    stream: String,
    /// Groups of publishers and viewers of their own; streams are STREAM-ROOM-PUBLISHER.
    #[arg(long, default_value_t = 1, value_name = "N")]
    rooms: usize,
    /// Clients of each room that watch.
    #[arg(long, default_value_t = 100, value_name = "N")]
    viewers: usize,
    /// Clients of each room that publish; its viewers are spread over them.
    #[arg(long, default_value_t = 1, value_name = "N")]
    publishers: u16,
    /// Length of the counted window: 20s, 500ms, 2m.
    #[arg(long, default_value = "20s", value_parser = span::parse)]
    duration: Duration,
    /// video-2400k, bursts-2400k, audio, or a file in the form that bench/traces describes.
    #[arg(long, default_value = "video-2400k")]
    trace: String,
    /// Server process, for CPU and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Write the report, with what happened when, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report with plots as one HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Threads that drive clients.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_count)]
    threads: usize,
    /// Viewers that join in a second.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ramp: u32,
    /// In the window, so many viewers leave and as many others join each second.
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND")]
    churn: u32,
    /// Viewers pay: each has an account, a pool and vouchers of its own. Needs a node with a chain.
    #[arg(long)]
    pay: bool,
    /// Price of a stream that is paid, in 10^-9 SUT a second.
    #[arg(long, default_value_t = 1_000_000, value_name = "UNITS", requires = "pay")]
    rate: u64,
    /// Seeds of funded accounts in hex, one a line: the creator's, then one a viewer. Without it the
    /// faucet of a development chain is asked.
    #[arg(long, value_name = "FILE", requires = "pay")]
    keys: Option<PathBuf>,
    /// Look for the highest number of viewers that keeps the thresholds, beginning with --viewers;
    /// --max-loss is 0.1 and --max-latency-p99 is 50 unless given. The report is of the highest.
    #[arg(long)]
    find_max: bool,
    /// Where --find-max ends.
    #[arg(long, default_value_t = 10_000, value_name = "N", requires = "find_max")]
    max_viewers: usize,
    /// Every N-th viewer compares all payload bytes; the others records and lengths.
    #[arg(long, default_value_t = 10, value_name = "N")]
    sample_every: usize,
    /// Bearer token for WHIP and WHEP.
    #[arg(long, env = "SUTANTRA_BENCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Viewers' sockets take trains of datagrams (UDP GRO). Cheaper for both sides on one host, and
    /// unlike a real path: leave it off when the server's cost is the question.
    #[arg(long)]
    viewer_gro: bool,
    /// Viewers throw away this percentage of the SRTP and SRTCP packets, at random: what is lost in
    /// the end was not repaired.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = parse_percent)]
    drop: f64,
    /// Fail when more than this percentage of the packets is lost.
    #[arg(long, value_name = "PERCENT", value_parser = parse_bound)]
    max_loss: Option<f64>,
    /// Fail when the server spends more CPU µs a packet; needs --pid.
    #[arg(long, value_name = "US", conflicts_with = "find_max", value_parser = parse_bound)]
    max_us_per_packet: Option<f64>,
    /// Fail when the 99th percentile of the latency is larger.
    #[arg(long, value_name = "MS", value_parser = parse_bound)]
    max_latency_p99: Option<f64>,
    /// Fail when the 99th percentile of the time to the first media is larger.
    #[arg(long, value_name = "MS", value_parser = parse_bound)]
    max_join_p99: Option<f64>,
    /// Fail when fewer viewers play.
    #[arg(long, value_name = "N", conflicts_with = "find_max")]
    min_playing: Option<usize>,
    /// Fail when the server's memory grows by more for a viewer; needs --pid.
    #[arg(long, value_name = "KIB", conflicts_with = "find_max", value_parser = parse_bound)]
    max_rss_kib_per_viewer: Option<f64>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Load(args) => load(&args),
        Command::Signal(args) => signal_command::run(&args),
        Command::Coordinator { http } => {
            rooms::raise_descriptors();
            rooms::host::host(http).map(|()| ExitCode::SUCCESS)
        }
        Command::ReferenceSfu(args) => {
            let udp = SocketAddr::new(args.http.ip(), args.udp_port);
            reference::run(args.http, udp).map(|()| ExitCode::SUCCESS)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sutantra-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn load(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let config = config_of(args)?;
    let given = Thresholds {
        loss_percent_max: args.max_loss,
        us_per_packet_max: args.max_us_per_packet,
        latency_p99_ms_max: args.max_latency_p99,
        join_p99_ms_max: args.max_join_p99,
        playing_min: args.min_playing,
        rss_kib_per_viewer_max: args.max_rss_kib_per_viewer,
    };
    config.check()?;
    // A report that cannot be written is better known before the run.
    for path in [&args.json, &args.html].into_iter().flatten() {
        probe(path)?;
    }
    interrupt::listen();
    if args.find_max {
        return find_limit(args, &config, &find_max::thresholds(given));
    }
    let report = load::run(&config)?;
    print!("{report}");
    let wrong = report.verdict(&given);
    if let Some(path) = &args.json {
        write_file(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(path) = &args.html {
        write_file(path, load::page::page(&report, &wrong, None))?;
    }
    Ok(judged(&wrong))
}

fn config_of(args: &LoadArgs) -> anyhow::Result<LoadConfig> {
    let trace = Arc::new(read_trace(&args.trace)?);
    let funds = args.keys.clone().map_or(Funds::Faucet, Funds::Keys);
    let pay = PayConfig { base: args.base.clone(), funds, rate: args.rate };
    Ok(LoadConfig {
        bearer: args.token.clone(),
        stream: args.stream.clone(),
        rooms: args.rooms,
        viewers: args.viewers,
        publishers: args.publishers,
        duration: args.duration,
        ramp_per_second: args.ramp,
        churn_per_second: args.churn,
        pay: args.pay.then_some(pay),
        pid: args.pid,
        threads: args.threads,
        sample_every: args.sample_every,
        gro: if args.viewer_gro { Gro::On } else { Gro::Off },
        drop_share: args.drop / 100.0,
        show: Show::Always,
        command: command_line(),
        ..LoadConfig::new(Target::whip(&args.base)?, &args.trace, trace)
    })
}

/// Steps up, prints the table; the report is that of the highest step that kept the thresholds.
fn find_limit(
    args: &LoadArgs,
    config: &LoadConfig,
    thresholds: &Thresholds,
) -> anyhow::Result<ExitCode> {
    let mut best: Option<Report> = None;
    let mut number = 0;
    let measure = |viewers: usize| {
        // A stream of its own for each step: the server may remember the last one for a while.
        number += 1;
        let stream = format!("{}-{number}", config.stream);
        let report = load::run(&LoadConfig { viewers, stream, ..config.clone() })?;
        let step = find_max::step(viewers, &report, thresholds);
        eprintln!(
            "{viewers} viewers: {}",
            step.generator_limit
                .as_ref()
                .or(step.broken.first())
                .map_or("all well", String::as_str)
        );
        let is_good = step.broken.is_empty() && step.generator_limit.is_none();
        let is_better = best.as_ref().is_none_or(|best| best.viewers < report.viewers);
        if is_good && is_better {
            best = Some(report);
        }
        Ok(step)
    };
    let search = find_max::search(args.viewers, args.max_viewers, measure, interrupt::asked)?;
    print!("{search}");
    if let Some(report) = &best {
        print!("\n{report}");
    }
    if let Some(path) = &args.json {
        let json = serde_json::json!({ "search": search, "report": best });
        write_file(path, serde_json::to_string_pretty(&json)? + "\n")?;
    }
    match (&args.html, &best) {
        (Some(path), Some(report)) => {
            write_file(path, load::page::page(report, &[], Some(&search)))?
        }
        (Some(path), None) => eprintln!("{} is not written: no step was good", path.display()),
        (None, _) => {}
    }
    match search.viewers_max {
        0 => Ok(judged(&["not even the smallest step kept the thresholds".to_owned()])),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// As it was typed, less what is secret.
fn command_line() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program.as_str()).file_name().map(|name| name.to_string_lossy());
        *program = name.map(|name| name.into_owned()).unwrap_or_default();
    }
    for at in 0..words.len() {
        if words[at] == "--token" && at + 1 < words.len() {
            words[at + 1] = "…".to_owned();
        } else if words[at].starts_with("--token=") {
            words[at] = "--token=…".to_owned();
        }
    }
    words.join(" ")
}

fn judged(wrong: &[String]) -> ExitCode {
    for sentence in wrong {
        println!("FAILED: {sentence}.");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Whether a report can be written there.
fn probe(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.map(drop).with_context(|| path.display().to_string())
}

fn write_file(path: &Path, text: String) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn read_trace(name: &str) -> anyhow::Result<Trace> {
    if let Some(trace) = Trace::built_in(name) {
        return Ok(trace);
    }
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("{name}: no built-in trace and no file"))?;
    Trace::parse(&text).with_context(|| name.to_owned())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..100.0).contains(percent));
    percent.ok_or_else(|| format!("{text:?} is not a percentage from 0 to below 100"))
}

fn parse_bound(text: &str) -> Result<f64, String> {
    let bound = text.parse().ok().filter(|bound: &f64| bound.is_finite() && *bound >= 0.0);
    bound.ok_or_else(|| format!("{text:?} is not a number from 0 up"))
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=256).contains(count));
    count.ok_or_else(|| format!("{text:?} is not a number from 1 to 256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_nothing_could_pass_is_refused() {
        assert_eq!(parse_bound("0"), Ok(0.0));
        for text in ["nan", "inf", "-1", ""] {
            assert!(parse_bound(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn percentages_end_below_a_hundred() {
        assert_eq!(parse_percent("2.5"), Ok(2.5));
        for text in ["-1", "100", "NaN", "x"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
