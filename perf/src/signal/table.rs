//! What the rounds brought, as a table.

use std::fmt::Write as _;

use bench::rooms::{RoomsReport, Thresholds};
use serde::Serialize;

use crate::peers::Spread;

/// The coordinator's CPU for an offer is to be at most this part of PeerJS'.
const PEERJS_PARTS_MIN: f64 = 4.0;
/// Memory of an idle connection is to be at most this.
const IDLE_BYTES_MAX: f64 = 12_000.0;

/// One server.
#[derive(Debug, Serialize)]
pub struct Row {
    server: &'static str,
    /// Runs with offers.
    pub offers: Vec<RoomsReport>,
    /// Runs with idle connections.
    pub idle: Vec<RoomsReport>,
    /// Why runs failed.
    pub failures: Vec<String>,
}

impl Row {
    /// An empty one.
    pub fn new(server: &'static str) -> Self {
        Self { server, offers: Vec::new(), idle: Vec::new(), failures: Vec::new() }
    }

    /// Takes what a round brought.
    pub fn add_offers(&mut self, outcome: anyhow::Result<RoomsReport>) {
        match outcome {
            Ok(report) => self.offers.push(report),
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// Takes what a round brought.
    pub fn add_idle(&mut self, outcome: anyhow::Result<RoomsReport>) {
        match outcome {
            Ok(report) => self.idle.push(report),
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// Whether it is the coordinator.
    pub fn is_ours(&self) -> bool {
        matches!(self.server, "coordinator" | "node")
    }

    /// What went wrong in its runs.
    pub fn wrong(&self) -> Vec<String> {
        let reports = self.offers.iter().chain(&self.idle);
        let verdicts = reports.flat_map(|report| report.verdict(&Thresholds::default()));
        let wrong = self.failures.iter().cloned().chain(verdicts);
        wrong.map(|sentence| format!("{}: {sentence}", self.server)).collect()
    }

    fn us(&self) -> Option<Spread> {
        spread(&self.offers, |report| report.server.as_ref()?.us_per_signal)
    }

    fn idle_bytes(&self) -> Option<Spread> {
        spread(&self.idle, |report| report.server.as_ref()?.rss_bytes_per_idle)
    }
}

fn spread(reports: &[RoomsReport], of: impl Fn(&RoomsReport) -> Option<f64>) -> Option<Spread> {
    Spread::of(reports.iter().filter_map(of))
}

/// All rows, with what was aimed at below.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| server | CPU µs/offer | of PeerJS | of socket.io | p50 ms | p99 ms | offers/s | lost | \
         kB/idle connection | waited |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let of = |name: &str| rows.iter().find(|row| row.server == name)?.us().map(|us| us.median);
    for row in rows {
        let text = |value: Option<Spread>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| value.text(digits))
        };
        let part = |other: Option<f64>| match (row.us(), other) {
            (Some(us), Some(other)) if other > us.median => {
                format!("1/{:.1}", other / us.median)
            }
            (Some(us), Some(other)) => format!("{:.2}", us.median / other),
            _ => "-".to_owned(),
        };
        let offers = |value: fn(&RoomsReport) -> Option<f64>| spread(&row.offers, value);
        let lost: u64 = row.offers.iter().map(|report| report.signals.lost).sum();
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {lost} | {} | {} |",
            row.server,
            text(row.us(), 1),
            part(of("peerjs")),
            part(of("socketio")),
            text(offers(|report| Some(report.latency_ms.p50)), 2),
            text(offers(|report| Some(report.latency_ms.p99)), 2),
            text(offers(|report| Some(report.delivered_per_second)), 0),
            text(
                row.idle_bytes().map(|Spread { median, min, max }| Spread {
                    median: median / 1e3,
                    min: min / 1e3,
                    max: max / 1e3,
                }),
                1
            ),
            offers(|report| Some(report.server.as_ref()?.waited_percent))
                .map_or_else(|| "-".to_owned(), |waited| format!("{:.0} %", waited.median)),
        );
    }
    out.push('\n');
    let met = |is_met: bool| if is_met { "met" } else { "**not met**" };
    if let Some(row) = rows.iter().find(|row| row.server == "coordinator") {
        if let (Some(us), Some(peerjs)) = (row.us(), of("peerjs")) {
            let parts = peerjs / us.median;
            let is_met = met(parts >= PEERJS_PARTS_MIN);
            let _infallible =
                writeln!(out, "- ≤ 1/{PEERJS_PARTS_MIN} of PeerJS: {is_met}, 1/{parts:.1}");
        }
        if let Some(idle) = row.idle_bytes() {
            let (is_met, kb) = (met(idle.median <= IDLE_BYTES_MAX), idle.median / 1e3);
            let most = IDLE_BYTES_MAX / 1e3;
            let _infallible =
                writeln!(out, "- ≤ {most:.0} kB an idle connection: {is_met}, {kb:.1} kB");
        }
    }
    for failure in rows.iter().flat_map(|row| &row.failures) {
        let _infallible = writeln!(out, "- failed: {failure}");
    }
    out
}
