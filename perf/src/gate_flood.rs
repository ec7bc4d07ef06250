//! A hundred thousand gate commands a second from another process while media is forwarded.
//!
//! The relay runs as a program with a foreign source of decisions; this process is that source. It
//! opens every subscriber's gate, then renews gates at the asked rate for as long as the load runs.
//! Runs with and without the flood alternate.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bench::child::{Kind, NodeOptions, Place, Server};
use bench::load::{self, LoadConfig};
use bench::report::Report;
use bench::trace::Trace;
use clap::Args;
use sfu::ports::gate::{GateCmd, GateOp};

use crate::peers::Spread;

/// Options of `gates`.
#[derive(Args)]
pub struct GatesArgs {
    /// The relay's program; by default sutantra-node beside this one.
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Gate commands a second.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// Subscribers whose gates they are for.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    viewers: u32,
    /// Runs with and runs without.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Seconds that are counted of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// The frames of `sfu::ports::foreign`.
const HELLO: u8 = 1;
const JOINED: u8 = 2;
const LEFT: u8 = 3;
const GATE: u8 = 16;
const SLOT_BYTES: usize = 10;
/// Between two writes of a flood.
const BEAT: Duration = Duration::from_millis(1);

/// Measures and prints.
///
/// # Errors
/// The relay does not start, or a run brought no figures.
pub fn run(args: &GatesArgs) -> anyhow::Result<()> {
    let node = match &args.node {
        Some(node) => node.clone(),
        None => std::env::current_exe()?.with_file_name("sutantra-node"),
    };
    ensure!(
        node.is_file(),
        "{} is no program: build the node, or name it with --node",
        node.display()
    );
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    for repeat in 1..=args.repeats {
        eprintln!("repeat {repeat} of {}: without, then {} commands/s", args.repeats, args.rate);
        quiet.push(run_once(&node, args, 0)?);
        flooded.push(run_once(&node, args, args.rate)?);
    }
    print!("{}", table(args, &[&quiet, &flooded]));
    let lost: u64 = quiet.iter().chain(&flooded).map(|run| run.report.packets.lost).sum();
    ensure!(lost == 0, "{lost} packets were lost");
    Ok(())
}

/// One run's figures.
struct Run {
    report: Report,
    /// Gate commands that the relay took while the load ran, a second.
    commands_per_second: f64,
}

fn run_once(node: &Path, args: &GatesArgs, rate: u32) -> anyhow::Result<Run> {
    let socket = std::env::temp_dir().join(format!("sutantra-gates-{}", std::process::id()));
    let decisions = format!("unix:{}", socket.display());
    let options = NodeOptions {
        shards: Some(1),
        more: vec!["--decisions".into(), decisions],
        ..NodeOptions::default()
    };
    let server = Server::start(&Kind::Node(options), node, Place::LOOPBACK)?;
    let source = Source::start(&socket, rate).context("the socket for decisions")?;
    let trace = Trace::built_in("bursts-2400k").context("a trace that is built in")?;
    let config = LoadConfig {
        viewers: args.viewers as usize,
        duration: Duration::from_secs(args.seconds),
        pid: Some(server.pid()),
        ..LoadConfig::new(server.target.clone(), "bursts-2400k", Arc::new(trace))
    };
    let report = load::run(&config);
    let report = report.with_context(|| format!("its log ends with:\n{}", server.log_tail()))?;
    let commands_per_second = source.stop()?;
    Ok(Run { report, commands_per_second })
}

/// This process as a source of decisions.
struct Source {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    began: Instant,
    reader: JoinHandle<io::Result<()>>,
    writer: JoinHandle<io::Result<()>>,
    connection: UnixStream,
}

/// Subscriptions that are there, each as the ten bytes that name it.
type Slots = Arc<Mutex<Vec<[u8; SLOT_BYTES]>>>;

impl Source {
    fn start(socket: &Path, rate: u32) -> io::Result<Source> {
        let connection = UnixStream::connect(socket)?;
        let slots = Slots::default();
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let reader = {
            let (from, to) = (connection.try_clone()?, connection.try_clone()?);
            let (slots, ended) = (Arc::clone(&slots), Arc::clone(&ended));
            std::thread::spawn(move || match follow(from, to, &slots) {
                Err(_) if ended.load(Ordering::Relaxed) => Ok(()),
                outcome => outcome,
            })
        };
        let writer = {
            let to = connection.try_clone()?;
            let (ended, sent) = (Arc::clone(&ended), Arc::clone(&sent));
            std::thread::spawn(move || flood(to, rate, &slots, &ended, &sent))
        };
        Ok(Source { ended, sent, began: Instant::now(), reader, writer, connection })
    }

    /// Ends it; commands a second that the relay took.
    fn stop(self) -> anyhow::Result<f64> {
        self.ended.store(true, Ordering::Relaxed);
        let rate = self.sent.load(Ordering::Relaxed) as f64 / self.began.elapsed().as_secs_f64();
        let written = self.writer.join().map_err(|_| anyhow::anyhow!("the source panicked"))?;
        // The reader waits for a frame: this is what ends it.
        self.connection.shutdown(std::net::Shutdown::Both)?;
        let read = self.reader.join().map_err(|_| anyhow::anyhow!("the source panicked"))?;
        written.and(read).context("the relay closed the socket for decisions")?;
        Ok(rate)
    }
}

/// Keeps the list of subscriptions and opens the gate of each that comes.
fn follow(mut from: UnixStream, mut to: UnixStream, slots: &Slots) -> io::Result<()> {
    loop {
        let mut head = [0; 3];
        from.read_exact(&mut head)?;
        let body_bytes = usize::from(u16::from_be_bytes([head[0], head[1]])).saturating_sub(1);
        let mut body = vec![0; body_bytes];
        from.read_exact(&mut body)?;
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        match (head[2], body.first_chunk::<SLOT_BYTES>()) {
            (HELLO, _) => {}
            (JOINED, Some(slot)) => {
                slots.push(*slot);
                to.write_all(&open_frame(slot))?;
            }
            (LEFT, Some(slot)) => slots.retain(|known| known != slot),
            (kind, _) => return Err(io::Error::other(format!("unknown frame {kind}"))),
        }
    }
}

/// Renews the gates of all, one after the other, `rate` times a second.
fn flood(
    mut to: UnixStream,
    rate: u32,
    slots: &Slots,
    ended: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<()> {
    let (began, mut at) = (Instant::now(), 0_usize);
    let mut frames = Vec::new();
    while rate > 0 && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(BEAT);
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let missing = due.saturating_sub(sent.load(Ordering::Relaxed));
        frames.clear();
        {
            let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            if !slots.is_empty() {
                for _ in 0..missing {
                    frames.extend_from_slice(&open_frame(&slots[at % slots.len()]));
                    at = at.wrapping_add(1);
                }
            }
        }
        to.write_all(&frames)?;
        // What was due while nobody had joined is not made up for.
        sent.fetch_add(missing, Ordering::Relaxed);
    }
    Ok(())
}

fn open_frame(slot: &[u8; SLOT_BYTES]) -> Vec<u8> {
    let u32_at =
        |at: usize| u32::from_be_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]);
    let command = GateCmd {
        op: GateOp::Open,
        slot: u32_at(2),
        generation: u32_at(6),
        layer_cap: u8::MAX,
        ..GateCmd::default()
    };
    let body_bytes = (1 + 2 + GateCmd::BYTES) as u16;
    let mut frame = body_bytes.to_be_bytes().to_vec();
    frame.push(GATE);
    frame.extend_from_slice(&slot[..2]);
    frame.extend_from_slice(&command.encode());
    frame
}

fn table(args: &GatesArgs, rows: &[&[Run]]) -> String {
    let mut out = format!(
        "1 video burst trace -> {} viewers, 1 shard; medians (min-max) of {} runs of {} s.\n\n\
         | gate commands/s | lost | whole process µs/packet | shard thread µs/packet | p99 ms |\n\
         |---|---|---|---|---|\n",
        args.viewers, args.repeats, args.seconds
    );
    for runs in rows {
        let of = |figure: fn(&Run) -> f64| spread(runs.iter().map(figure));
        // Writing to a string cannot fail.
        let _written = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            of(|run| run.commands_per_second),
            runs.iter().map(|run| run.report.packets.lost).sum::<u64>(),
            of(|run| run.report.server.as_ref().map_or(f64::NAN, |cost| cost.us_per_packet)),
            of(|run| {
                let shards = run.report.server.as_ref().and_then(|cost| cost.shard_us_per_packet);
                shards.unwrap_or(f64::NAN)
            }),
            of(|run| run.report.latency_ms.p99),
        );
    }
    out
}

fn spread(figures: impl Iterator<Item = f64>) -> String {
    let Some(Spread { median, min, max }) = Spread::of(figures) else { return "-".into() };
    let digits = if max >= 1000.0 { 0 } else { 2 };
    format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_the_slot_that_was_named() {
        let slot = [0, 3, 0, 0, 0, 9, 0, 0, 0, 77];
        let frame = open_frame(&slot);
        assert_eq!(frame[..5], [0, 35, GATE, 0, 3]);
        let command = GateCmd::decode(&frame[5..]).expect("the relay reads it");
        assert_eq!((command.op, command.slot, command.generation), (GateOp::Open, 9, 77));
        assert_eq!(command.valid_until, 0, "until told otherwise");
    }

    #[test]
    fn a_spread_shows_the_median_between_its_ends() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), "2.00 (1.00-3.00)");
        assert_eq!(spread([99_000.4].into_iter()), "99000 (99000-99000)");
        assert_eq!(spread([].into_iter()), "-");
    }
}
