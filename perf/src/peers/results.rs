//! What all rounds brought: medians, spread, ratios of the same rounds, aims met or not.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::case::{Aims, Case, Sink, Subject};
use super::contender::{Contender, Part};
use super::single::Outcome;

/// Figures of one run that the tables show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// CPU µs of the whole process per forwarded packet.
    pub us: Option<f64>,
    /// Of those, in user mode.
    pub user_us: Option<f64>,
    /// Of those, in the kernel.
    pub system_us: Option<f64>,
    /// Packets a message, by the server's own counters.
    pub packets_per_message: Option<f64>,
    /// Bare loop, µs.
    pub limit_us: Option<f64>,
    /// Bare loop at the relay's pace, µs.
    pub paced_limit_us: Option<f64>,
    /// Milliseconds.
    pub latency_p50: f64,
    /// Milliseconds.
    pub latency_p99: f64,
    /// Milliseconds.
    pub latency_p999: f64,
    /// Packets of those who hear that never came.
    pub lost: u64,
    /// Clients that the server did not let in.
    pub refused: usize,
    /// kB (1000 bytes) of resident memory a viewer.
    pub viewer_kb: Option<f64>,
    /// CPU ms a join.
    pub join_ms: Option<f64>,
    /// Longest turn of a media loop while viewers joined, ms.
    pub longest_tick_ms: Option<f64>,
    /// Ready threads of the server had to wait, percent of the window.
    pub waited_percent: Option<f64>,
    /// Cores that the generator took.
    pub generator_cores: f64,
}

impl Figures {
    /// Those of one run.
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { report, limit } = outcome;
        let server = report.server.as_ref();
        Self {
            us: server.map(|server| server.us_per_packet),
            user_us: server.map(|server| server.user_us_per_packet),
            system_us: server.map(|server| server.system_us_per_packet),
            packets_per_message: report.sending.as_ref().map(|s| s.packets_per_message),
            limit_us: limit.map(|limit| limit.us_per_packet),
            paced_limit_us: limit.and_then(|limit| limit.paced_us_per_packet),
            latency_p50: report.latency_ms.p50,
            latency_p99: report.latency_ms.p99,
            latency_p999: report.latency_ms.p999,
            lost: report.packets.lost,
            refused: report.refused,
            viewer_kb: server.and_then(|s| s.rss_kib_per_viewer).map(|kib| kib * 1.024),
            join_ms: server.and_then(|server| server.cpu_ms_per_join),
            longest_tick_ms: report.joining_ticks.and_then(|ticks| ticks.longest_ms),
            waited_percent: server.map(|server| server.waited_percent),
            generator_cores: report.generator.cores,
        }
    }
}

/// One contender in one case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub contender: String,
    /// Who it is to the table.
    pub part: Part,
    /// One for each round that worked.
    pub figures: Vec<Figures>,
    /// What did not work, and why.
    pub failures: Vec<String>,
    /// Whole reports, in the order of `figures`.
    pub reports: Vec<Value>,
}

/// One case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseResults {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where the viewers were.
    pub sink: Sink,
    /// What was played.
    pub trace: String,
    /// How many.
    pub publishers: u16,
    /// How many.
    pub viewers: usize,
    /// In the order of running.
    pub rows: Vec<Row>,
    #[serde(skip)]
    subject: Subject,
    #[serde(skip)]
    aims: Aims,
}

/// Median and spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of an even number of rounds, between the two in the middle.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Spread {
    /// `None` without a value.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }

    /// Median, and the range where there is one.
    pub fn text(self, digits: usize) -> String {
        let Self { median, min, max } = self;
        if min == max {
            return format!("{median:.digits$}");
        }
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

impl Row {
    /// An empty one.
    pub fn new(contender: &Contender) -> Self {
        let Contender { name, part, source: _ } = contender;
        let (figures, failures, reports) = (Vec::new(), Vec::new(), Vec::new());
        Self { contender: name.clone(), part: *part, figures, failures, reports }
    }

    /// Takes what a round brought.
    pub fn add(&mut self, outcome: anyhow::Result<Outcome>) {
        match outcome {
            Ok(outcome) => {
                self.figures.push(Figures::of(&outcome));
                // A report is numbers and text: it has a JSON form.
                self.reports.push(serde_json::to_value(&outcome).unwrap_or(Value::Null));
            }
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    fn spread(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.figures.iter().filter_map(of))
    }

    fn median(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        self.spread(of).map(|spread| spread.median)
    }
}

impl CaseResults {
    /// A case that nobody has run in yet.
    pub fn new(case: &Case, contenders: &[Contender]) -> Self {
        Self {
            name: case.name.to_owned(),
            title: case.title.to_owned(),
            sink: case.sink,
            trace: case.trace_name.to_owned(),
            publishers: case.publishers,
            viewers: case.viewers,
            rows: contenders.iter().map(Row::new).collect(),
            subject: case.subject,
            aims: case.aims,
        }
    }

    /// What its table shows.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    fn row(&self, part: Part) -> Option<&Row> {
        self.rows.iter().find(|row| row.part == part && !row.figures.is_empty())
    }

    fn cost(&self, part: Part) -> Option<f64> {
        self.row(part)?.median(|figures| figures.us)
    }

    /// Bare loop for a row: its own, else that of the relay as it is shipped.
    fn limit(&self, row: &Row) -> Option<f64> {
        let own = row.median(|figures| figures.limit_us);
        own.or_else(|| self.row(Part::Relay)?.median(|figures| figures.limit_us))
    }

    /// What was aimed at and came of it; only the relay as it is shipped has aims.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let Some(relay) = self.row(Part::Relay) else { return Vec::new() };
        let Aims { limit, livekit, janus, viewer_kb, two_shards } = self.aims;
        let us = relay.median(|figures| figures.us);
        let ratio = |to: Option<f64>| Some(us? / to?);
        let mut verdicts = Vec::new();
        let mut judge = |aim: Option<f64>, is: Option<f64>, unit: Unit, of: &str| {
            if let Some(aim) = aim {
                let met = is.map(|is| is <= aim);
                let found = is.map(|is| unit.text(is));
                verdicts
                    .push(Verdict { aim: format!("≤ {}{of}", unit.text(aim)), found, is, met });
            }
        };
        judge(limit, ratio(self.limit(relay)), Unit::Times, " the bare loop");
        judge(livekit, ratio(self.cost(Part::LiveKit)), Unit::Share, " of LiveKit");
        judge(janus, ratio(self.cost(Part::Janus)), Unit::Share, " of Janus");
        let kb = relay.median(|figures| figures.viewer_kb);
        judge(viewer_kb, kb, Unit::KiloBytes, " a viewer");
        let grown = self.cost(Part::TwoShards).and_then(|two| Some(two / us?));
        judge(two_shards, grown, Unit::Times, " the cost of one shard, for two");
        verdicts
    }

    /// Sentences about runs of the relay that failed, or lost more than `loss_percent_max`.
    pub fn wrong(&self, loss_percent_max: f64) -> Vec<String> {
        let mut wrong = Vec::new();
        for row in self.rows.iter().filter(|row| row.part.is_relay()) {
            let name = format!("{}, {}", self.name, row.contender);
            wrong.extend(row.failures.iter().map(|failure| format!("{name}: {failure}")));
            for report in &row.reports {
                let packets = &report["report"]["packets"];
                let number = |field: &str| packets[field].as_f64().unwrap_or(f64::NAN);
                let percent = 100.0 * number("lost") / number("expected").max(1.0);
                if percent.is_nan() || percent > loss_percent_max {
                    wrong.push(format!("{name}: {percent:.3} % of the packets were lost"));
                }
                if number("corrupt") > 0.0 {
                    wrong.push(format!("{name}: packets arrived damaged"));
                }
            }
        }
        wrong
    }

    /// The table of one case.
    pub fn markdown(&self) -> String {
        let sink = match self.sink {
            Sink::Loopback => "loopback",
            Sink::Drop => "drop sink",
        };
        let mut out = format!("### {} ({sink}, `{}`)\n\n", self.title, self.name);
        out += &match self.subject {
            Subject::Cost => self.cost_table(),
            Subject::Idle => self.idle_table(),
            Subject::Joins => self.joins_table(),
        };
        out.push('\n');
        for verdict in self.verdicts() {
            // Writing to a string cannot fail.
            let _written = writeln!(out, "- {verdict}");
        }
        out + "\n"
    }

    fn cost_table(&self) -> String {
        let mut out = "| server | CPU µs/packet | user + system | packets/message | × limit \
                       | × limit at its pace | of LiveKit | of Janus | p50 ms | p99 ms | lost \
                       | kB/viewer | waited |\n\
                       |---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for row in &self.rows {
            if let Some(line) = failed(row, 12) {
                out += &line;
                continue;
            }
            let us = row.median(|figures| figures.us);
            let of = |to: Option<f64>| us.zip(to).map(|(us, to)| us / to);
            let parts = row.median(|f| f.user_us).zip(row.median(|f| f.system_us));
            let limit = self.limit(row);
            let paced = self.row(Part::Relay).and_then(|relay| relay.median(|f| f.paced_limit_us));
            let cells = [
                name_of(row),
                cell(row.spread(|f| f.us), |spread| spread.text(2)),
                cell(parts, |(user, system)| format!("{user:.2} + {system:.2}")),
                cell(row.spread(|f| f.packets_per_message), |k| format!("{:.1}", k.median)),
                cell(of(limit).zip(limit), |(times, us)| format!("{times:.2} ({us:.2} µs)")),
                cell(of(paced).zip(paced), |(times, us)| format!("{times:.2} ({us:.2} µs)")),
                cell(of(self.cost(Part::LiveKit)), share),
                cell(of(self.cost(Part::Janus)), share),
                cell(row.spread(|f| Some(f.latency_p50)), |spread| spread.text(2)),
                cell(row.spread(|f| Some(f.latency_p99)), |spread| spread.text(2)),
                row.figures.iter().map(|figures| figures.lost).sum::<u64>().to_string(),
                cell(row.median(|f| f.viewer_kb), |kb| format!("{kb:.0}")),
                cell(row.median(|f| f.waited_percent), |percent| format!("{percent:.0} %")),
            ];
            out += &line(&cells);
        }
        out
    }

    fn idle_table(&self) -> String {
        let mut out = "| server | sessions | kB/session |\n|---|---|---|\n".to_owned();
        for row in &self.rows {
            out += &failed(row, 2).unwrap_or_else(|| {
                let kb = cell(row.spread(|f| f.viewer_kb), |spread| spread.text(0));
                line(&[name_of(row), self.viewers.to_string(), kb])
            });
        }
        out
    }

    fn joins_table(&self) -> String {
        let mut out =
            "| server | CPU ms/join | longest tick ms | p99 ms of media |\n|---|---|---|---|\n"
                .to_owned();
        for row in &self.rows {
            out += &failed(row, 3).unwrap_or_else(|| {
                line(&[
                    name_of(row),
                    cell(row.spread(|f| f.join_ms), |spread| spread.text(2)),
                    cell(row.spread(|f| f.longest_tick_ms), |spread| spread.text(2)),
                    cell(row.spread(|f| Some(f.latency_p99)), |spread| spread.text(2)),
                ])
            });
        }
        out
    }
}

/// One aim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// In words.
    pub aim: String,
    /// What it came to, in words.
    pub found: Option<String>,
    /// The same as a number.
    pub is: Option<f64>,
    /// `None` when it was not measured.
    pub met: Option<bool>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { aim, found, is: _, met } = self;
        match (found, met) {
            (Some(found), Some(true)) => write!(f, "{aim}: **met**, {found}"),
            (Some(found), Some(false)) => write!(f, "{aim}: **not met**, {found}"),
            _ => write!(f, "{aim}: not measured"),
        }
    }
}

/// What an aim is counted in.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Times,
    Share,
    KiloBytes,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Times => format!("{value:.2} ×"),
            Self::Share => share(value),
            Self::KiloBytes => format!("{value:.0} kB"),
        }
    }
}

fn name_of(row: &Row) -> String {
    let mut name = row.contender.clone();
    let refused: usize = row.figures.iter().map(|figures| figures.refused).sum();
    for (count, what) in [(row.failures.len(), "runs failed"), (refused, "joins refused")] {
        if count > 0 {
            name += &format!(" ({count} {what})");
        }
    }
    name
}

/// The line of a row without figures.
fn failed(row: &Row, columns: usize) -> Option<String> {
    let why = row.failures.first().map_or("not run", String::as_str);
    let why = why.lines().next().unwrap_or_default().replace('|', "/");
    let line = format!("| {} | {why} {}\n", row.contender, "|".repeat(columns));
    row.figures.is_empty().then_some(line)
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn cell<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// A share of a peer's cost, as a fraction of one.
fn share(of: f64) -> String {
    if of < 1.0 { format!("1/{:.1}", 1.0 / of) } else { format!("{of:.2}") }
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    fn figures(us: f64) -> Figures {
        Figures { us: Some(us), limit_us: None, ..Figures::default() }
    }

    fn row(contender: &str, part: Part, figures: Vec<Figures>) -> Row {
        let (failures, reports) = (Vec::new(), Vec::new());
        Row { contender: contender.to_owned(), part, figures, failures, reports }
    }

    fn results(rows: Vec<Row>) -> CaseResults {
        let case = case::all().into_iter().find(|case| case.name == "video-200");
        let mut results = CaseResults::new(&case.expect("it is in the table"), &[]);
        results.rows = rows;
        results
    }

    #[test]
    fn the_row_shows_the_median_and_the_spread_and_the_share_of_peers() {
        let relay = [9.0, 4.0, 5.0].map(|us| Figures { limit_us: Some(4.0), ..figures(us) });
        let results = results(vec![
            row("relay", Part::Relay, relay.to_vec()),
            row("livekit", Part::LiveKit, vec![figures(30.0)]),
        ]);
        let markdown = results.markdown();
        let line = markdown.lines().find(|line| line.starts_with("| relay")).expect("its row");
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[2], "5.00 (4.00–9.00)");
        assert_eq!(&cells[5..9], ["1.25 (4.00 µs)", "-", "1/6.0", "-"]);
    }

    #[test]
    fn aims_are_met_not_met_or_not_measured() {
        let relay = Figures { limit_us: Some(2.0), viewer_kb: Some(161.0), ..figures(2.5) };
        let results = results(vec![
            row("relay", Part::Relay, vec![relay]),
            row("livekit", Part::LiveKit, vec![figures(14.0)]),
            row("relay-2-shards", Part::TwoShards, vec![figures(2.6)]),
        ]);
        let met: Vec<Option<bool>> = results.verdicts().iter().map(|one| one.met).collect();
        // Limit, LiveKit, Janus, memory, two shards.
        assert_eq!(met, [Some(true), Some(false), None, Some(false), Some(true)]);
        let text = results.markdown();
        for line in [
            "- ≤ 1.25 × the bare loop: **met**, 1.25 ×",
            "- ≤ 1/6.0 of LiveKit: **not met**, 1/5.6",
            "- ≤ 1/6.0 of Janus: not measured",
            "- ≤ 160 kB a viewer: **not met**, 161 kB",
            "- ≤ 1.05 × the cost of one shard, for two: **met**, 1.04 ×",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_run_that_fails_stands_in_the_table_with_its_reason() {
        let mut janus = row("janus", Part::Janus, Vec::new());
        janus.add(Err(anyhow::anyhow!("no | answer\nand more")));
        let results = results(vec![row("relay", Part::Relay, vec![figures(1.0)]), janus]);
        assert!(results.markdown().contains("| janus | no / answer ||"), "{}", results.markdown());
    }

    /// R114
    #[test]
    fn loss_of_the_relay_is_wrong_and_loss_of_a_peer_is_not() {
        let lossy = serde_json::json!({ "report": { "packets": {
            "lost": 10, "expected": 1000, "corrupt": 0 } } });
        for (part, expected) in [(Part::Relay, 2), (Part::Variant, 2), (Part::Plain, 0)] {
            let mut row = row("x", part, vec![figures(1.0)]);
            row.reports.push(lossy.clone());
            row.add(Err(anyhow::anyhow!("it ended")));
            let results = results(vec![row]);
            assert_eq!(results.wrong(0.0).len(), expected, "{part:?}");
            assert_eq!(results.wrong(1.0).len(), expected / 2, "{part:?}");
        }
    }

    #[test]
    fn an_even_number_of_rounds_has_the_mean_of_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter()).expect("there are some");
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([f64::NAN].into_iter()), None);
    }
}
