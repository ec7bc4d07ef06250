//! What a run was, for people and for programs.

use std::{fmt::Write as _, path::PathBuf};

use serde::Serialize;

use crate::{audit::Audited, world::Incident};

/// A run that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The manifest's file.
    pub manifest: String,
    /// What chance was made of.
    pub seed: u64,
    /// CometBFT's version.
    pub engine: String,
    /// From the first block to the end of the load.
    pub seconds: f64,
    /// Until the first block, homes included.
    pub start_seconds: f64,
    /// The longest time between two blocks, and the later one's height.
    pub longest_gap_ms: i64,
    /// See [`Report::longest_gap_ms`].
    pub longest_gap_height: u64,
    /// Mean time between blocks.
    pub block_ms: f64,
    /// The load.
    pub load: LoadReport,
    /// What was done to whom, in the order of their ends.
    pub incidents: Vec<Incident>,
    /// What was looked at in the end.
    pub audited: Audited,
    /// What must not be; empty: all is well.
    pub violations: Vec<String>,
    /// Homes and logs, where they were kept.
    pub kept: Option<PathBuf>,
    /// It was ended by a signal, and says nothing about what was not done.
    pub is_interrupted: bool,
}

/// The load in numbers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct LoadReport {
    /// Different transactions.
    pub sent: u64,
    /// The same bytes once more.
    pub sent_again: u64,
    /// Seen in a block.
    pub seen: u64,
    /// Of these, with a code other than 0.
    pub seen_refused: u64,
    /// Refused by CheckTx.
    pub given_up: u64,
    /// In no block when waiting ended.
    pub unanswered: u64,
}

impl Report {
    /// Whether the run went its whole way and all held.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && !self.is_interrupted
    }

    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values have a JSON form")
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a text takes every line");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let Self { audited, load, .. } = self;
        writeln!(to, "{}, seed {}, CometBFT {}", self.manifest, self.seed, self.engine)?;
        writeln!(
            to,
            "  {:.0} s, {} blocks, one in {:.0} ms, the longest wait {:.1} s (before height {}); first block after {:.1} s",
            self.seconds,
            audited.height,
            self.block_ms,
            self.longest_gap_ms as f64 / 1e3,
            self.longest_gap_height,
            self.start_seconds,
        )?;
        writeln!(
            to,
            "  load: {} transactions sent, {} seen in blocks ({} of them refused there), {} sent again, {} refused by CheckTx, {} in no block",
            load.sent,
            load.seen,
            load.seen_refused,
            load.sent_again,
            load.given_up,
            load.unanswered
        )?;
        writeln!(to, "  disturbances:")?;
        for incident in &self.incidents {
            let recovered = incident.recovered_seconds;
            let recovered = recovered.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"));
            writeln!(
                to,
                "    {:7.1} s  height {:5}  {:10} {:34} {:>8}  {}",
                incident.at_seconds,
                incident.height,
                incident.node,
                incident.what,
                recovered,
                incident.notes.join("; ")
            )?;
        }
        let heights: u64 = audited.heights_by_node.values().sum();
        writeln!(
            to,
            "  equal on every node: {heights} heights of {} nodes up to {}, {} answers compared",
            audited.heights_by_node.len(),
            audited.height,
            audited.answers_compared
        )?;
        writeln!(
            to,
            "  acknowledged: {} transactions ({} done), each looked for on each node",
            audited.acknowledged, audited.acknowledged_done
        )?;
        writeln!(to, "  validator sets: {} changes act two blocks later", audited.sets_compared)?;
        let parts: Vec<String> =
            audited.supply.iter().map(|(name, units)| format!("{name} {units}")).collect();
        writeln!(to, "  supply: {} units = {}", audited.supply_units, parts.join(" + "))?;
        if self.is_interrupted {
            writeln!(to, "INTERRUPTED: what was not done yet was not looked at")?;
        }
        for violation in &self.violations {
            writeln!(to, "VIOLATED: {violation}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(to, "homes and logs: {}", kept.display())?;
        }
        let verdict = if self.is_good() { "all holds" } else { "it does not hold" };
        writeln!(to, "{verdict}")
    }
}
