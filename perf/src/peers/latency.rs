//! Added latency at shares of the highest load that loses nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::case::{Aims, Beside, Case, Sink, Subject, Variants};
use super::contender::Contender;
use super::field::Field;
use super::results::Figures;
use super::single::{self, Outcome, Window};

/// Shares of the highest load, percent.
const SHARES: [usize; 3] = [30, 70, 90];
/// First load that is tried, viewers; doubled until something is lost.
const VIEWERS_FIRST: usize = 100;
/// More clients than that are not made.
const VIEWERS_MAX: usize = 6400;
/// The highest load is known to within this part of itself.
const PRECISION: usize = 8;
/// Packets that wait longer than this stand in a queue that grows: the load is not carried, the
/// buffers hold it for the length of the window.
const QUEUED_MS: f64 = 100.0;
/// A sink's count and the publishers' are read one after the other.
const COUNT_TOLERANCE: f64 = 0.005;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// Where the viewers were.
    pub sink: Sink,
    /// Highest load that lost nothing and kept no queue, viewers.
    pub viewers_max: usize,
    /// Its packets a second.
    pub packets_per_second: f64,
    /// By share of it.
    pub rows: Vec<AtShare>,
}

/// One share.
#[derive(Debug, Clone, Serialize)]
pub struct AtShare {
    /// Of the highest load.
    pub percent: usize,
    /// Viewers that makes.
    pub viewers: usize,
    /// One for each round.
    pub figures: Vec<Figures>,
}

fn case(sink: Sink, viewers: usize) -> Case {
    Case {
        name: "latency",
        title: "added latency",
        trace_name: "bursts-2400k",
        publishers: 1,
        viewers,
        sink,
        subject: Subject::Cost,
        ramp_per_second: 100,
        beside: Beside::Nobody,
        variants: Variants::None,
        aims: Aims::default(),
    }
}

/// Whether everything arrived, or was counted by the sink, and nothing piled up.
fn is_carried(outcome: &Outcome) -> bool {
    let report = &outcome.report;
    if report.packets.lost > 0 || report.playing < report.hearing || report.hearing == 0 {
        return false;
    }
    if report.latency_ms.p99 > QUEUED_MS {
        return false;
    }
    let each = report.packets.expected as f64 / report.hearing as f64;
    let all = each * report.viewers as f64;
    report.forwarded as f64 >= all * (1.0 - COUNT_TOLERANCE)
}

/// The largest of `first`, doubled, up to `max`, and then between, that is fine.
fn highest(
    first: usize,
    max: usize,
    mut is_fine: impl FnMut(usize) -> anyhow::Result<bool>,
) -> anyhow::Result<usize> {
    let (mut fine, mut next) = (0, first);
    let mut wrong = loop {
        if !is_fine(next)? {
            break next;
        }
        fine = next;
        if next == max {
            return Ok(max);
        }
        next = (next * 2).min(max);
    };
    while fine > 0 && wrong - fine > fine.div_ceil(PRECISION) {
        let middle = usize::midpoint(fine, wrong);
        if is_fine(middle)? { fine = middle } else { wrong = middle }
    }
    ensure!(fine > 0, "{first} viewers are too many already");
    Ok(fine)
}

/// Finds the highest load, then measures at shares of it, `repeats` times in turn.
///
/// # Errors
/// The relay does not run, or loses at the lightest load.
pub fn run(
    field: &Field,
    relay: &Contender,
    duration: Duration,
    repeats: usize,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Latencies> {
    let sink = if field.has_namespaces() { Sink::Drop } else { Sink::Loopback };
    let window = Window { duration, with_limit: false };
    let mut rate = 0.0;
    let viewers_max = highest(VIEWERS_FIRST, VIEWERS_MAX, |viewers| {
        let outcome = single::run(field, &case(sink, viewers), relay, window)?;
        let fine = is_carried(&outcome);
        let verdict = if fine { "carried" } else { "lost or late" };
        say(&format!("latency: {viewers} viewers: {verdict}"));
        if fine {
            rate = outcome.report.forwarded as f64 / outcome.report.seconds;
        }
        Ok(fine)
    })
    .context("looking for the highest load that is carried")?;
    let at = |percent: usize| {
        let viewers = (viewers_max * percent / 100).max(1);
        AtShare { percent, viewers, figures: Vec::new() }
    };
    let mut rows: Vec<AtShare> = SHARES.into_iter().map(at).collect();
    for round in 1..=repeats {
        for row in &mut rows {
            let name = format!("latency: round {round} of {repeats}, {} viewers", row.viewers);
            match single::run(field, &case(sink, row.viewers), relay, window) {
                Ok(outcome) => {
                    let figures = Figures::of(&outcome);
                    say(&format!("{name}: p99 {:.2} ms", figures.latency_p99));
                    row.figures.push(figures);
                }
                Err(error) => say(&format!("{name} failed: {error:#}")),
            }
        }
    }
    Ok(Latencies { sink, viewers_max, packets_per_second: rate, rows })
}

impl Latencies {
    /// The table.
    pub fn markdown(&self) -> String {
        let sink = match self.sink {
            Sink::Loopback => "loopback",
            Sink::Drop => "drop sink",
        };
        let mut out = format!(
            "### Added latency ({sink}, `latency`)\n\n\
             Highest load without loss and with p99 below {QUEUED_MS:.0} ms: {} viewers, {:.0} \
             packets/s.\n\n\
             | load | viewers | p50 ms | p99 ms | p99.9 ms | waited for a core | µs/packet |\n\
             |---|---|---|---|---|---|---|\n",
            self.viewers_max, self.packets_per_second
        );
        for AtShare { percent, viewers, figures } in &self.rows {
            let median = |of: &dyn Fn(&Figures) -> Option<f64>| {
                let mut values: Vec<f64> = figures.iter().filter_map(of).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).map_or("-".to_owned(), |value| format!("{value:.2}"))
            };
            out += &format!(
                "| {percent} % | {viewers} | {} | {} | {} | {} % | {} |\n",
                median(&|f| Some(f.latency_p50)),
                median(&|f| Some(f.latency_p99)),
                median(&|f| Some(f.latency_p999)),
                median(&|f| f.waited_percent),
                median(&|f| f.us),
            );
        }
        out + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for a limit of `true_max`; the answer, and how many were asked.
    #[track_caller]
    fn check(true_max: usize, low: usize, high: usize) {
        let mut asked = 0;
        let found = highest(100, 6400, |viewers| {
            asked += 1;
            Ok(viewers <= true_max)
        });
        let found = found.expect("there is one");
        assert!((low..=high).contains(&found), "{found}");
        assert!(asked <= 10, "{asked}");
    }

    #[test]
    fn the_highest_load_is_found_to_an_eighth() {
        check(100, 100, 100);
        check(150, 133, 150);
        check(1000, 875, 1000);
        check(6399, 5600, 6399);
        check(9999, 6400, 6400);
        assert!(highest(100, 6400, |_| Ok(false)).is_err());
        assert!(highest(100, 6400, |_| anyhow::bail!("no relay")).is_err());
    }
}
