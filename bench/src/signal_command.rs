//! `sutantra-bench signal`: peers in rooms in number, against a coordinator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use bench::http::Base;
use bench::rooms::{self, Identity, RoomsConfig, Server, Thresholds, page};
use bench::screen::Show;
use bench::{interrupt, span};

use crate::{command_line, judged, parse_bound, write_file};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Client {
    /// The messages that every client knows.
    Plain,
    /// With hello, sequence numbers and acknowledgements.
    Hello,
    /// What a PeerJS server understands, to compare with.
    Peerjs,
    /// What the script of `sutantra-perf signal` understands, to compare with.
    Socketio,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Who {
    /// Any id: for a coordinator in mode open.
    Open,
    /// A key each, and a signature for each join.
    Signed,
}

/// Options of `signal`.
#[derive(Args)]
pub struct SignalArgs {
    /// The server, http://host:port.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Rooms whose peers send offers to one another.
    #[arg(long, default_value_t = 10, value_name = "N")]
    rooms: usize,
    /// Peers of each.
    #[arg(long, default_value_t = 10, value_name = "N")]
    peers_per_room: usize,
    /// Name of the room, for a public one such as global; with several rooms, -0, -1 … is appended.
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// Peers that only stay connected; they come before all others.
    #[arg(long, default_value_t = 0, value_name = "N")]
    idle: usize,
    /// Offers a second, of all peers together.
    #[arg(long, default_value_t = 1000.0, value_name = "PER_SECOND")]
    signals_per_second: f64,
    /// Size of an offer's SDP.
    #[arg(long, default_value_t = 2048, value_name = "BYTES")]
    signal_bytes: usize,
    /// In the window, so many peers a second come, each over a connection of its own, and leave.
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND")]
    join_rate: u32,
    /// How long such a peer stays.
    #[arg(long, default_value = "500ms", value_parser = span::parse)]
    stay: Duration,
    /// Peers that connect a second before the window.
    #[arg(long, default_value_t = 500, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    ramp: u32,
    /// Length of the counted window: 20s, 500ms, 2m.
    #[arg(long, default_value = "10s", value_parser = span::parse)]
    duration: Duration,
    /// Share of the peers in rooms that poll over HTTP in place of a WebSocket, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    poll_share: f64,
    /// Who the peers say they are.
    #[arg(long, value_enum, default_value = "signed")]
    identity: Who,
    /// What the peers with a WebSocket speak.
    #[arg(long, value_enum, default_value = "plain")]
    client: Client,
    /// All connections come from one address; otherwise, over loopback, from many of 127.0.0.0/8,
    /// as the coordinator's bounds for one address want it.
    #[arg(long)]
    one_address: bool,
    /// Server process, for CPU and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Write the report: as JSON where the name ends in .json, as a page with plots where it ends in
    /// .html; may be given again.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Fail when more signals are lost.
    #[arg(long, default_value_t = 0, value_name = "N")]
    lost_max: u64,
    /// Fail when the 99th percentile of the latency over WebSockets is larger.
    #[arg(long, value_name = "MS", value_parser = parse_bound)]
    p99_max: Option<f64>,
    /// Fail when the 99th percentile of the time from connect to joined is larger.
    #[arg(long, value_name = "MS", value_parser = parse_bound)]
    join_p99_max: Option<f64>,
    /// Fail when the server spends more CPU µs a signal; needs --pid.
    #[arg(long, value_name = "US", value_parser = parse_bound)]
    us_per_signal_max: Option<f64>,
    /// Fail when the server's memory grows by more bytes for an idle peer; needs --pid.
    #[arg(long, value_name = "BYTES", value_parser = parse_bound)]
    rss_per_idle_max: Option<f64>,
    /// Fail when the server's memory grows by more MiB within the window; needs --pid.
    #[arg(long, value_name = "MIB", value_parser = parse_bound)]
    rss_growth_max: Option<f64>,
    /// Fail when fewer signals a second arrive.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_bound)]
    signals_min: Option<f64>,
}

/// Runs it.
///
/// # Errors
/// It cannot be run, or a report cannot be written.
pub fn run(args: &SignalArgs) -> anyhow::Result<ExitCode> {
    let config = RoomsConfig {
        server: match args.client {
            Client::Plain => Server::Base,
            Client::Hello => Server::Extended,
            Client::Peerjs => Server::PeerJs,
            Client::Socketio => Server::SocketIo,
        },
        rooms: args.rooms,
        peers_per_room: args.peers_per_room,
        room: args.room.clone(),
        idle: args.idle,
        signals_per_second: args.signals_per_second,
        signal_bytes: args.signal_bytes,
        churn_per_second: args.join_rate,
        stay: args.stay,
        ramp_per_second: args.ramp,
        duration: args.duration,
        poll_share: args.poll_share,
        identity: match args.identity {
            Who::Open => Identity::Open,
            Who::Signed => Identity::Signed,
        },
        pid: args.pid,
        many_addresses: !args.one_address,
        show: Show::Always,
        command: command_line(),
        ..RoomsConfig::new(Base::parse(&args.url)?)
    };
    config.check()?;
    let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "html");
    for path in &args.report {
        let is_json = path.extension().is_some_and(|end| end == "json");
        ensure!(is_json || is_page(path), "--report {}: not .json or .html", path.display());
        // A report that cannot be written is better known before the run.
        crate::probe(path)?;
    }
    interrupt::listen();
    bench::rooms::raise_descriptors();
    let report = rooms::run(&config)?;
    let wrong = report.verdict(&Thresholds {
        lost_max: args.lost_max,
        latency_p99_ms_max: args.p99_max,
        join_p99_ms_max: args.join_p99_max,
        us_per_signal_max: args.us_per_signal_max,
        rss_bytes_per_idle_max: args.rss_per_idle_max,
        rss_growth_mib_max: args.rss_growth_max,
        delivered_per_second_min: args.signals_min,
    });
    print!("{report}");
    for path in &args.report {
        let text = match is_page(path) {
            true => page::page(&report, &wrong),
            false => serde_json::to_string_pretty(&report)? + "\n",
        };
        write_file(path, text)?;
    }
    Ok(judged(&wrong))
}
