//! The relay on both links and with one and two shards, the plain SFU and the bare loop, case by
//! case in one run, so that a noisy machine disturbs all alike.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::child::{Kind, NodeOptions, Place, Server};
use crate::load::{self, LoadConfig};
use crate::report::Report;
use crate::server;
use crate::trace::Trace;

/// Packets a message for which the bare loop is measured beside each case.
const BARE_LOOP_BURSTS: &str = "1,4,8";

/// What to run.
#[derive(Debug, Clone)]
pub struct MatrixConfig {
    /// The relay's program.
    pub node: PathBuf,
    /// The program with the bare loop; left out when absent.
    pub perf: Option<PathBuf>,
    /// Links of the relay.
    pub links: Vec<String>,
    /// Numbers of shards.
    pub shards: Vec<usize>,
    /// Numbers of viewers.
    pub viewers: Vec<usize>,
    /// Window of each case.
    pub duration: Duration,
    /// Rounds through all cases.
    pub repeats: usize,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Matrix {
    machine: String,
    cases: Vec<CaseReports>,
    bare_loop: Vec<BareLoop>,
}

#[derive(Debug, Serialize)]
struct CaseReports {
    viewers: usize,
    server: String,
    /// One for each round.
    reports: Vec<Report>,
    /// Runs that brought no figures.
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BareLoop {
    receivers: usize,
    /// As the program wrote them.
    rows: serde_json::Value,
}

/// Runs all cases.
pub fn run(config: &MatrixConfig) -> anyhow::Result<Matrix> {
    ensure!(config.node.is_file(), "{}: no such program", config.node.display());
    let trace = Arc::new(Trace::built_in("video-2400k").expect("a trace that is built in"));
    let nodes = config.links.iter().flat_map(|link| {
        config.shards.iter().map(|shards| {
            let (link, shards) = (Some(link.clone()), Some(*shards));
            Kind::Node(NodeOptions { link, shards, ..NodeOptions::default() })
        })
    });
    let kinds: Vec<Kind> = nodes.chain([Kind::Reference]).collect();
    let mut cases: Vec<(Kind, CaseReports)> = config
        .viewers
        .iter()
        .flat_map(|viewers| kinds.iter().map(move |kind| (*viewers, kind.clone())))
        .map(|(viewers, kind)| {
            let server = kind.to_string();
            (kind, CaseReports { viewers, server, reports: Vec::new(), failures: Vec::new() })
        })
        .collect();
    let total = cases.len() * config.repeats;
    for round in 0..config.repeats {
        for (at, (kind, case)) in cases.iter_mut().enumerate() {
            let number = round * total / config.repeats + at + 1;
            eprintln!("case {number} of {total}: {kind}, {} viewers", case.viewers);
            match run_case(config, kind, case.viewers, &trace) {
                Ok(report) => case.reports.push(report),
                Err(error) => {
                    eprintln!("  {error:#}");
                    case.failures.push(format!("{error:#}"));
                }
            }
        }
    }
    let mut bare_loop = Vec::new();
    if let Some(perf) = &config.perf {
        for receivers in &config.viewers {
            eprintln!("bare loop, {receivers} receivers");
            bare_loop.push(BareLoop { receivers: *receivers, rows: limit(perf, *receivers)? });
        }
    }
    let cases = cases.into_iter().map(|(_, case)| case).collect();
    Ok(Matrix { machine: server::machine(), cases, bare_loop })
}

fn run_case(
    config: &MatrixConfig,
    kind: &Kind,
    viewers: usize,
    trace: &Arc<Trace>,
) -> anyhow::Result<Report> {
    let own = std::env::current_exe()?;
    let program = if *kind == Kind::Reference { &own } else { &config.node };
    let server = Server::start(kind, program, Place::LOOPBACK)?;
    let load = LoadConfig {
        viewers,
        duration: config.duration,
        pid: Some(server.pid()),
        ..LoadConfig::new(server.target.clone(), "video-2400k", Arc::clone(trace))
    };
    load::run(&load).with_context(|| format!("its log ends with:\n{}", server.log_tail()))
}

fn limit(perf: &Path, receivers: usize) -> anyhow::Result<serde_json::Value> {
    let file = std::env::temp_dir().join(format!("sutantra-limit-{}.json", std::process::id()));
    let output = Command::new(perf)
        .args(["limit", "--burst", BARE_LOOP_BURSTS, "--packets", "50000", "--repeats", "3"])
        .args(["--receivers", &receivers.to_string(), "--json"])
        .arg(&file)
        .output()
        .with_context(|| perf.display().to_string())?;
    let text = std::fs::read_to_string(&file);
    // Already gone when the program failed; the next line says so.
    let _absent = std::fs::remove_file(&file);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text?)?)
}

impl Matrix {
    /// Sentences about what lost packets, damaged them, cost too much or did not run.
    pub fn verdict(&self, thresholds: &crate::report::Thresholds) -> Vec<String> {
        let judge = |case: &CaseReports| {
            let name = format!("{}, {} viewers", case.server, case.viewers);
            let wrong = case.reports.iter().flat_map(|report| report.verdict(thresholds));
            wrong
                .chain(case.failures.iter().cloned())
                .map(|sentence| format!("{name}: {sentence}"))
                .collect::<Vec<_>>()
        };
        // The plain SFU is there for comparison; what it loses is in the table.
        let reference = Kind::Reference.to_string();
        self.cases.iter().filter(|case| case.server != reference).flat_map(judge).collect()
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", self.machine);
        out += "| viewers | server | lost | µs/packet (min–max) | shard threads | packets/message \
                | copied B/packet | KiB/viewer | latency p50 / p99 ms | waited for CPU |\n";
        out += "|---|---|---|---|---|---|---|---|---|---|\n";
        for case in &self.cases {
            out += &row(case);
        }
        if !self.bare_loop.is_empty() {
            out += "\nBare loop, CPU ns per forwarded packet, median (min–max) of 3:\n\n";
            out += "| receivers | link | packets/message | ns |\n|---|---|---|---|\n";
        }
        for bare in &self.bare_loop {
            for row in bare.rows.as_array().into_iter().flatten() {
                let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
                // Writing to a string cannot fail.
                let _written = writeln!(
                    out,
                    "| {} | {} | {:.1} | {:.0} ({:.0}–{:.0}) |",
                    bare.receivers,
                    row["link"].as_str().unwrap_or("?"),
                    number("packets_per_message"),
                    number("median_ns"),
                    number("min_ns"),
                    number("max_ns")
                );
            }
        }
        out
    }
}

/// One line: the round with the median cost, the spread of the cost, the loss of all rounds.
fn row(case: &CaseReports) -> String {
    let cost = |report: &Report| report.server.as_ref().map_or(f64::NAN, |s| s.us_per_packet);
    let mut reports: Vec<&Report> = case.reports.iter().collect();
    reports.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let (Some(first), Some(last)) = (reports.first(), reports.last()) else {
        let why = case.failures.first().map_or("not run", String::as_str);
        let why = why.lines().next().unwrap_or_default();
        return format!("| {} | {} | {why} |||||||||\n", case.viewers, case.server);
    };
    let median = reports[reports.len() / 2];
    let lost: u64 = reports.iter().map(|report| report.packets.lost).sum();
    let dash = || "-".to_owned();
    let server = median.server.as_ref();
    let sending = median.sending.as_ref();
    let shards = server.and_then(|server| server.shard_us_per_packet);
    let copied = sending.and_then(|sending| sending.copied_bytes_per_packet);
    let rss = server.and_then(|server| server.rss_kib_per_viewer);
    let waited = server.map(|server| server.waited_percent);
    format!(
        "| {} | {} | {lost} | {:.2} ({:.2}–{:.2}) | {} | {} | {} | {} | {:.2} / {:.2} | {} |\n",
        case.viewers,
        case.server,
        cost(median),
        cost(first),
        cost(last),
        shards.map_or_else(dash, |us| format!("{us:.2}")),
        sending.map_or_else(dash, |sending| format!("{:.2}", sending.packets_per_message)),
        copied.map_or_else(dash, |bytes| format!("{bytes:.0}")),
        rss.map_or_else(dash, |kib| format!("{kib:.0}")),
        median.latency_ms.p50,
        median.latency_ms.p99,
        waited.map_or_else(dash, |percent| format!("{percent:.0} %")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Thresholds, tests::example};

    fn matrix(reports: Vec<Report>, failures: Vec<String>, server: &str) -> Matrix {
        let case = CaseReports { viewers: 2, server: server.to_owned(), reports, failures };
        Matrix { machine: "test".to_owned(), cases: vec![case], bare_loop: Vec::new() }
    }

    #[test]
    fn the_row_shows_the_median_run_and_the_spread() {
        let at = |us: f64| {
            let mut report = example();
            report.server.as_mut().expect("the example has it").us_per_packet = us;
            report
        };
        let matrix = matrix(vec![at(9.0), at(4.0), at(5.0)], Vec::new(), "epoll, 1 shard");
        let markdown = matrix.markdown();
        assert!(markdown.contains("| 2 | epoll, 1 shard | 0 | 5.00 (4.00–9.00) |"), "{markdown}");
    }

    /// R114
    #[test]
    fn loss_of_the_relay_fails_a_matrix_and_loss_of_the_reference_does_not() {
        let mut report = example();
        report.packets.lost = 10;
        let thresholds = Thresholds { loss_percent_max: Some(0.0), ..Thresholds::default() };
        let relay = matrix(vec![report.clone()], vec!["no".to_owned()], "epoll, 1 shard");
        assert_eq!(relay.verdict(&thresholds).len(), 2);
        let reference = matrix(vec![report], Vec::new(), "plain str0m");
        assert!(reference.verdict(&thresholds).is_empty());
    }
}
