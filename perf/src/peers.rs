//! Who forwards a packet at which cost, side by side: the same clients through the relay, LiveKit,
//! Janus, a plain SFU, any WHIP address, and the bare loop, round after round in one run, so that a
//! noisy machine disturbs all alike.

mod case;
mod contender;
mod field;
mod latency;
mod plots;
mod results;
mod single;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bench::child::programs::Search;
use bench::signal::Target;
use clap::Args;
use serde::Serialize;

use case::{Case, Sink, Subject};
use contender::{Contender, Named, Part, Source};
use field::Field;
use latency::Latencies;
use results::CaseResults;
pub(crate) use results::Spread;
use single::Window;

/// Name of the case that is a search.
const LATENCY: &str = "latency";
/// Of the quick run.
const QUICK_WINDOW: Duration = Duration::from_secs(1);
const QUICK_CASES: [&str; 3] = ["video-100", "audio-200", "rooms-8x8"];
/// Seconds of a run beside joins and window: start, settling, draining, bare loop, end.
const AROUND_SECONDS: f64 = 5.0;

/// Options of `peers`.
#[derive(Args)]
pub struct PeersArgs {
    /// Rounds through all cases; tables show medians and spread.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    repeats: u8,
    /// Counted time of each run: 5s, 500ms.
    #[arg(long, default_value = "5s", value_parser = bench::span::parse)]
    window: Duration,
    /// Cases, by name; all if not given. --list names them.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Servers, by name; all if not given. --list names them.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// One round with few viewers and a short window: whether it works, not what it costs.
    #[arg(long)]
    quick: bool,
    /// Names cases and servers and ends.
    #[arg(long)]
    list: bool,
    /// The relay's program; the one beside this program if not given.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// LiveKit's program; looked for in .tools, PATH and ~/go/bin if not given.
    #[arg(long, value_name = "FILE", env = "SUTANTRA_LIVEKIT_BIN")]
    livekit: Option<PathBuf>,
    /// Janus's program; looked for in PATH if not given.
    #[arg(long, value_name = "FILE")]
    janus: Option<PathBuf>,
    /// Another server that runs already and speaks WHIP and WHEP, NAME=http://HOST:PORT; may be
    /// given again. It takes part over loopback.
    #[arg(long, value_name = "NAME=URL")]
    whip: Vec<String>,
    /// Process of each --whip, in the same order, for CPU and memory.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Exit code 1 when the relay loses more than this percentage of the packets in any run, or a
    /// run of it fails.
    #[arg(long, value_name = "PERCENT")]
    max_loss: Option<f64>,
    /// Write everything as JSON; written anew after each round.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draw the tables, as SVG files in this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Everything {
    machine: String,
    rounds: usize,
    window_seconds: f64,
    /// Who took part, as what, in which version.
    servers: Vec<String>,
    /// Sentences about who could not take part.
    left_out: Vec<String>,
    cases: Vec<CaseResults>,
    latency: Option<Latencies>,
}

/// Runs what was asked for.
///
/// # Errors
/// Nothing could be run: no such case, no relay.
pub fn run(args: &PeersArgs) -> anyhow::Result<ExitCode> {
    let named =
        Named { node: args.node.clone(), livekit: args.livekit.clone(), janus: args.janus.clone() };
    let running = addresses(&args.whip, &args.pid)?;
    let (contenders, mut left_out) = contender::gather(&Search::of_process(), &named, running)?;
    if args.list {
        list(&contenders);
        return Ok(ExitCode::SUCCESS);
    }
    let contenders = chosen_contenders(contenders, &args.servers)?;
    let (mut cases, with_latency) = chosen_cases(args)?;
    raise_descriptors();
    let field = Field::open()?;
    if let Some(refused) = &field.refused {
        left_out.push(format!("the drop sink is left out: {refused}"));
        cases.retain(|case| case.sink == Sink::Loopback);
    }
    left_out.iter().for_each(|sentence| eprintln!("{sentence}"));
    let (rounds, duration) = match args.quick {
        true => (1, QUICK_WINDOW),
        false => (usize::from(args.repeats), args.window),
    };
    let mut everything = Everything {
        machine: bench::server::machine(),
        rounds,
        window_seconds: duration.as_secs_f64(),
        servers: contenders.iter().map(Contender::description).collect(),
        left_out,
        cases: cases.iter().map(|case| results_of(case, &contenders)).collect(),
        latency: None,
    };
    let window = Window { duration, with_limit: true };
    let mut progress = Progress::new(&cases, &contenders, rounds, duration);
    for round in 1..=rounds {
        for (case, results) in cases.iter().zip(&mut everything.cases) {
            let taking_part = contenders.iter().filter(|one| one.takes_part(case));
            for (contender, row) in taking_part.zip(&mut results.rows) {
                progress.begin(round, case, contender);
                let outcome = single::run(&field, case, contender, window);
                progress.end(case, &outcome);
                row.add(outcome);
            }
        }
        write_json(args.json.as_deref(), &everything)?;
    }
    let relay = contenders.iter().find(|contender| contender.part == Part::Relay);
    if let Some(relay) = relay.filter(|_| with_latency && !args.quick) {
        match latency::run(&field, relay, duration, rounds, |text| eprintln!("{text}")) {
            Ok(latencies) => everything.latency = Some(latencies),
            Err(error) => everything.left_out.push(format!("latency: {error:#}")),
        }
    }
    let figures = everything.cases.iter().flat_map(|case| &case.rows);
    ensure!(
        everything.latency.is_some() || figures.into_iter().any(|row| !row.figures.is_empty()),
        "nothing was measured: {}",
        everything.reasons()
    );
    let markdown = everything.markdown();
    print!("{markdown}");
    write_json(args.json.as_deref(), &everything)?;
    if let Some(path) = &args.markdown {
        std::fs::write(path, markdown).with_context(|| path.display().to_string())?;
    }
    if let Some(folder) = &args.plots {
        plots::write(folder, &everything.cases)?;
    }
    let wrong: Vec<String> = args.max_loss.map_or_else(Vec::new, |percent| {
        everything.cases.iter().flat_map(|case| case.wrong(percent)).collect()
    });
    wrong.iter().for_each(|sentence| println!("FAILED: {sentence}."));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn results_of(case: &Case, contenders: &[Contender]) -> CaseResults {
    let taking_part: Vec<Contender> =
        contenders.iter().filter(|contender| contender.takes_part(case)).cloned().collect();
    CaseResults::new(case, &taking_part)
}

impl Everything {
    /// Why servers were left out or brought no figures, in one line.
    fn reasons(&self) -> String {
        let rows = self.cases.iter().flat_map(|case| &case.rows);
        let failures = rows.flat_map(|row| row.failures.first()).cloned();
        let reasons: Vec<String> = self.left_out.iter().cloned().chain(failures).collect();
        if reasons.is_empty() { "no case was run".to_owned() } else { reasons.join("; ") }
    }

    fn markdown(&self) -> String {
        let mut out = format!(
            "{}; {} rounds, windows of {} s. Medians (min–max); CPU of the server's whole process \
             per packet that it forwarded. `waited`: how long its threads were ready and others \
             had the cores.\n\n",
            self.machine, self.rounds, self.window_seconds
        );
        let lines = self.servers.iter().chain(&self.left_out);
        lines.for_each(|line| out += &format!("- {line}\n"));
        out.push('\n');
        self.cases.iter().for_each(|case| out += &case.markdown());
        if let Some(latency) = &self.latency {
            out += &latency.markdown();
        }
        out
    }
}

fn write_json(path: Option<&Path>, everything: &Everything) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(everything)? + "\n";
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn list(contenders: &[Contender]) {
    println!("cases:");
    case::all().iter().for_each(|case| println!("  {:<16} {}", case.name, case.title));
    println!(
        "  {LATENCY:<16} added latency at 30, 70 and 90 % of the highest load that is carried"
    );
    println!("servers:");
    contenders.iter().for_each(|contender| println!("  {}", contender.description()));
}

/// Servers that run already, by `NAME=URL`.
fn addresses(whip: &[String], pids: &[u32]) -> anyhow::Result<Vec<Contender>> {
    ensure!(pids.len() <= whip.len(), "--pid belongs to a --whip before it; there is none");
    let parse = |(at, text): (usize, &String)| {
        let (name, url) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .with_context(|| format!("--whip {text:?} is not NAME=http://HOST:PORT"))?;
        let source = Source::Running { target: Target::whip(url)?, pid: pids.get(at).copied() };
        Ok(Contender { name: name.to_owned(), part: Part::Address, source })
    };
    whip.iter().enumerate().map(parse).collect()
}

fn chosen_contenders(all: Vec<Contender>, names: &[String]) -> anyhow::Result<Vec<Contender>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| one.name != **name)) {
        bail!("no server is called {unknown:?}, or it is not installed: --list names those there");
    }
    let is_chosen = |one: &Contender| names.is_empty() || names.contains(&one.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// The cases, and whether the search for latencies is one of them.
fn chosen_cases(args: &PeersArgs) -> anyhow::Result<(Vec<Case>, bool)> {
    let all = case::all();
    let is_known = |name: &str| name == LATENCY || all.iter().any(|case| case.name == name);
    if let Some(unknown) = args.cases.iter().find(|name| !is_known(name)) {
        bail!("no case is called {unknown:?}: --list names them");
    }
    let asked = |name: &str| match args.cases.is_empty() {
        true => !args.quick || QUICK_CASES.contains(&name),
        false => args.cases.iter().any(|asked| asked == name),
    };
    let with_latency = asked(LATENCY);
    let chosen = all.into_iter().filter(|case| asked(case.name));
    let chosen = chosen.map(|case| if args.quick { case.small() } else { case });
    Ok((chosen.collect(), with_latency))
}

/// Thousands of clients have a socket each.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit. Where it is refused the old one stays, and a socket
        // too many is an error of its run.
        let _refused = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Says what runs and how long all will take.
struct Progress {
    runs: usize,
    done: usize,
    /// By guess, seconds.
    guessed_total: f64,
    guessed_done: f64,
    current: f64,
    began: Instant,
    duration: Duration,
}

impl Progress {
    fn new(cases: &[Case], contenders: &[Contender], rounds: usize, duration: Duration) -> Self {
        let part = |case: &Case| contenders.iter().filter(|one| one.takes_part(case)).count();
        let runs = cases.iter().map(part).sum::<usize>() * rounds;
        let seconds = |case: &Case| guess(case, duration) * (part(case) * rounds) as f64;
        let guessed_total = cases.iter().map(seconds).sum();
        let began = Instant::now();
        Self { runs, done: 0, guessed_total, guessed_done: 0.0, current: 0.0, began, duration }
    }

    fn begin(&mut self, round: usize, case: &Case, contender: &Contender) {
        self.current = guess(case, self.duration);
        let left = self.guessed_total - self.guessed_done;
        // What was done tells how good the guess is.
        let pace = match self.guessed_done > 0.0 {
            true => self.began.elapsed().as_secs_f64() / self.guessed_done,
            false => 1.0,
        };
        // On a terminal the clients' own picture comes below.
        let end = if std::io::stderr().is_terminal() { "\n" } else { "" };
        eprint!(
            "[{}/{}, about {} left] round {round}, {}: {} … {end}",
            self.done + 1,
            self.runs,
            in_words(left * pace),
            case.name,
            contender.name
        );
    }

    fn end(&mut self, case: &Case, outcome: &anyhow::Result<single::Outcome>) {
        self.done += 1;
        self.guessed_done += self.current;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("failed: {error:#}");
                return;
            }
        };
        let report = &outcome.report;
        let server = report.server.as_ref();
        let figure = match case.subject {
            Subject::Cost => server.map(|server| format!("{:.2} µs/packet", server.us_per_packet)),
            Subject::Idle => server
                .and_then(|server| server.rss_kib_per_viewer)
                .map(|kib| format!("{kib:.0} KiB/session")),
            Subject::Joins => server
                .and_then(|server| server.cpu_ms_per_join)
                .map(|ms| format!("{ms:.2} ms/join")),
        };
        let figure = figure.unwrap_or_else(|| "no process was named".to_owned());
        let limit = outcome.limit.map(|limit| {
            let (k, us) = (limit.packets_per_message, limit.us_per_packet);
            format!(", bare loop {us:.2} at {k:.1} a message")
        });
        eprintln!("{figure}{}, {} lost", limit.unwrap_or_default(), report.packets.lost);
    }
}

/// Seconds of one run.
fn guess(case: &Case, duration: Duration) -> f64 {
    let joins = case.viewers as f64 / f64::from(case.ramp_per_second.max(1));
    joins + duration.as_secs_f64() + AROUND_SECONDS
}

fn in_words(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..=90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_name_and_a_process_its_address() {
        let text = |text: &str| vec![text.to_owned()];
        let found = addresses(&text("mine=http://127.0.0.1:8080"), &[7]).expect("it is one");
        assert_eq!((found[0].name.as_str(), found[0].part), ("mine", Part::Address));
        assert!(matches!(found[0].source, Source::Running { pid: Some(7), .. }));
        for wrong in ["http://127.0.0.1:8080", "=http://127.0.0.1:8080", "x=ftp://y", "x"] {
            assert!(addresses(&text(wrong), &[]).is_err(), "{wrong}");
        }
        assert!(addresses(&[], &[7]).is_err());
    }

    #[test]
    fn the_time_left_is_said_in_seconds_then_in_minutes() {
        for (seconds, words) in [(-1.0, "0 s"), (12.4, "12 s"), (90.0, "90 s"), (91.0, "2 min")] {
            assert_eq!(in_words(seconds), words);
        }
    }
}
