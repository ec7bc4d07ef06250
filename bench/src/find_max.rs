//! The highest number of viewers that keeps the thresholds: doubled until one breaks, then bisected.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::report::{Report, Thresholds};

/// Loss and latency that count as broken where nothing was said.
const LOSS_PERCENT_MAX: f64 = 0.1;
const LATENCY_P99_MS_MAX: f64 = 50.0;
/// The search ends when the gap is this share of the broken step.
const RESOLUTION: f64 = 0.05;
/// Most steps: doublings from one viewer to a hundred thousand, as many halvings, each tried twice.
const STEPS_MAX: usize = 68;

/// What was found at one number of viewers.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// In each room.
    pub viewers: usize,
    /// Packets a second to all viewers.
    pub packets_per_second: f64,
    /// Of a hundred.
    pub loss_percent: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
    /// Server, whole process; known with --pid.
    pub us_per_packet: Option<f64>,
    /// Server's; known with --pid.
    pub server_cores: Option<f64>,
    /// Time that the server was ready and others had the cores, of a hundred: high means that the
    /// limit is the machine's.
    pub server_waited_percent: Option<f64>,
    /// Generator's.
    pub generator_cores: f64,
    /// What broke: empty when nothing did.
    pub broken: Vec<String>,
    /// Why the generator was the limit, if it was.
    pub generator_limit: Option<String>,
}

/// Whose limit was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The server's: the sentences say what broke.
    Server(Vec<String>),
    /// The generator's own: the server can do more.
    Generator(String),
    /// Neither: the search was told to go no further.
    Bound,
    /// Ended early, by a signal.
    Interrupted,
}

/// The whole search.
#[derive(Debug, Clone, Serialize)]
pub struct Search {
    /// In order.
    pub steps: Vec<Step>,
    /// Most viewers of a room that kept all thresholds; 0: none did.
    pub viewers_max: usize,
    /// Why not more.
    pub limit: Limit,
}

/// What a step is measured by: thresholds that were given, or those of the search. Cost and memory
/// for one of many fall as there are more, and would steer it the wrong way.
pub fn thresholds(given: Thresholds) -> Thresholds {
    Thresholds {
        loss_percent_max: given.loss_percent_max.or(Some(LOSS_PERCENT_MAX)),
        latency_p99_ms_max: given.latency_p99_ms_max.or(Some(LATENCY_P99_MS_MAX)),
        playing_min: None,
        us_per_packet_max: None,
        rss_kib_per_viewer_max: None,
        ..given
    }
}

/// One step's figures.
pub fn step(viewers: usize, report: &Report, thresholds: &Thresholds) -> Step {
    let server = report.server.as_ref();
    Step {
        viewers,
        packets_per_second: report.forwarded as f64 / report.seconds,
        loss_percent: report.packets.loss_percent(),
        latency_p99_ms: report.latency_ms.p99,
        us_per_packet: server.map(|server| server.us_per_packet),
        server_cores: server.map(|server| server.cores),
        server_waited_percent: server.map(|server| server.waited_percent),
        generator_cores: report.generator.cores,
        broken: report.verdict(thresholds),
        generator_limit: report.generator_limit(),
    }
}

impl Step {
    fn is_good(&self) -> bool {
        self.broken.is_empty() && self.generator_limit.is_none()
    }
}

/// Searches between `first` and `last` viewers; `measure` runs one step, `stop` ends early. What
/// breaks is tried once more: a hiccup of the machine is nobody's limit.
///
/// # Errors
/// What `measure` says, if nothing was measured before.
pub fn search(
    first: usize,
    last: usize,
    mut measure: impl FnMut(usize) -> anyhow::Result<Step>,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Search> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut good, mut bad): (usize, Option<usize>) = (0, None);
    let mut viewers = first.clamp(1, last.max(1));
    let mut limit = Limit::Bound;
    while steps.len() < STEPS_MAX {
        if stop() {
            limit = Limit::Interrupted;
            break;
        }
        let step = match measure(viewers) {
            Ok(step) => step,
            Err(_) if stop() => {
                limit = Limit::Interrupted;
                break;
            }
            Err(error) if steps.is_empty() => return Err(error),
            Err(error) => failed(viewers, &error),
        };
        let is_again = steps.last().is_some_and(|last| last.viewers == viewers);
        if !step.is_good() && !is_again {
            steps.push(step);
            continue;
        }
        if !step.is_good() {
            bad = Some(viewers);
            // A generator that loses packets itself says nothing about the server.
            limit = match &step.generator_limit {
                Some(why) => Limit::Generator(why.clone()),
                None => Limit::Server(step.broken.clone()),
            };
        } else {
            good = good.max(viewers);
        }
        steps.push(step);
        viewers = match bad {
            None if good >= last => break,
            None => good.saturating_mul(2).min(last),
            Some(bad) => {
                let gap = bad - good;
                if gap <= 1 || (gap as f64) <= bad as f64 * RESOLUTION {
                    break;
                }
                good + gap / 2
            }
        };
    }
    Ok(Search { steps, viewers_max: good, limit })
}

/// A step in which nothing could be measured: the server was beyond its end.
fn failed(viewers: usize, error: &anyhow::Error) -> Step {
    Step {
        viewers,
        packets_per_second: 0.0,
        loss_percent: 100.0,
        latency_p99_ms: 0.0,
        us_per_packet: None,
        server_cores: None,
        server_waited_percent: None,
        generator_cores: 0.0,
        broken: vec![format!("nothing could be measured: {error:#}")],
        generator_limit: None,
    }
}

impl Display for Search {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>10} {:>9} {:>9} {:>10} {:>8} {:>9} {:>10}",
            "viewers",
            "packets/s",
            "loss %",
            "p99 ms",
            "µs/packet",
            "server",
            "waited %",
            "generator"
        )?;
        let number =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"));
        for step in &self.steps {
            let what = match (&step.generator_limit, step.broken.first()) {
                (Some(_), _) => "  generator's limit",
                (None, Some(_)) => "  broken",
                (None, None) => "",
            };
            writeln!(
                f,
                "{:>8} {:>10.0} {:>9.4} {:>9.2} {:>10} {:>8} {:>9} {:>10.2}{what}",
                step.viewers,
                step.packets_per_second,
                step.loss_percent,
                step.latency_p99_ms,
                number(step.us_per_packet),
                number(step.server_cores),
                number(step.server_waited_percent),
                step.generator_cores,
            )?;
        }
        let max = self.viewers_max;
        match &self.limit {
            Limit::Server(why) => {
                writeln!(f, "{max} viewers a room; more is the SERVER'S limit: {}.", why.join("; "))
            }
            Limit::Generator(why) => writeln!(
                f,
                "{max} viewers a room; more is the GENERATOR'S limit, the server may do more: {why}."
            ),
            Limit::Bound => {
                writeln!(
                    f,
                    "{max} viewers a room; the search was told to go no further: raise --max-viewers."
                )
            }
            Limit::Interrupted => {
                writeln!(f, "{max} viewers a room; interrupted before more was tried.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    /// A server that breaks beyond `server` viewers, and a generator beyond `generator`.
    #[track_caller]
    fn check(first: usize, last: usize, server: usize, generator: usize, expected: (usize, &str)) {
        let found = search(
            first,
            last,
            |viewers| {
                let mut report = example();
                if viewers > server {
                    report.packets.lost = 900;
                }
                if viewers > generator {
                    report.generator.dropped_datagrams = 1;
                }
                Ok(step(viewers, &report, &thresholds(Thresholds::default())))
            },
            || false,
        )
        .expect("every step is measured");
        let name = match &found.limit {
            Limit::Server(_) => "server",
            Limit::Generator(_) => "generator",
            Limit::Bound => "bound",
            Limit::Interrupted => "interrupted",
        };
        let close = found.viewers_max <= expected.0
            && found.viewers_max as f64 >= expected.0 as f64 * (1.0 - 2.0 * RESOLUTION) - 1.0;
        assert!(close && name == expected.1, "{found}");
        assert!(found.steps.len() <= 24, "{found}");
    }

    /// R114
    #[test]
    fn the_search_ends_below_the_first_limit_and_says_whose_it_is() {
        check(10, 10_000, 700, 9999, (700, "server"));
        check(10, 10_000, 9999, 333, (333, "generator"));
        check(100, 10_000, 37, 9999, (37, "server"));
        check(10, 160, 9999, 9999, (160, "bound"));
        check(10, 10_000, 0, 9999, (0, "server"));
        check(1, 1, 5, 5, (1, "bound"));
    }

    #[test]
    fn what_breaks_once_and_holds_the_second_time_is_no_limit() {
        let mut hiccups = 2;
        let measure = |viewers: usize| {
            let mut report = example();
            if viewers == 20 && hiccups == 2 || viewers > 50 {
                hiccups -= usize::from(viewers == 20);
                report.packets.lost = 900;
            }
            Ok(step(viewers, &report, &thresholds(Thresholds::default())))
        };
        let found = search(10, 1000, measure, || false).expect("every step is measured");
        assert!((48..=50).contains(&found.viewers_max), "{found}");
        let tried: Vec<usize> = found.steps.iter().map(|step| step.viewers).collect();
        assert_eq!(tried[..6], [10, 20, 20, 40, 80, 80]);
    }

    #[test]
    fn a_server_that_breaks_down_ends_the_doubling_and_a_first_step_that_fails_is_an_error() {
        let measure = |viewers: usize| match viewers {
            0..=40 => Ok(step(viewers, &example(), &thresholds(Thresholds::default()))),
            _ => anyhow::bail!("connection refused"),
        };
        let found = search(10, 1000, measure, || false).expect("the first steps work");
        assert!((38..=40).contains(&found.viewers_max), "{found}");
        assert!(matches!(&found.limit, Limit::Server(why) if why[0].contains("refused")));
        assert!(search(50, 1000, measure, || false).is_err());
        let stopped = search(10, 1000, measure, || true).expect("nothing was asked");
        assert_eq!((stopped.viewers_max, stopped.limit), (0, Limit::Interrupted));
    }
}
