//! What a run of rooms found, as a table for people, as JSON for programs, as a verdict for scripts.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;

use super::config::{RoomsConfig, Server};
use super::engine::Engine;
use super::peer::Role;
use super::series::Sample;
use super::{IdleCost, Window};
use crate::interrupt;
use crate::report::Latency;
use crate::server;

/// A generator that ran, or waited to, for more of the time can take no more load.
const BUSIEST_PERCENT_MAX: f64 = 95.0;
/// A machine of which more than this share is used has nothing left for either side.
const FULL_SHARE: f64 = 0.97;

/// Everything a run found.
#[derive(Debug, Clone, Serialize)]
pub struct RoomsReport {
    /// CPU, cores, kernel.
    pub machine: String,
    /// How the run was called.
    pub command: String,
    /// Who was spoken to.
    pub server_name: String,
    /// Rooms whose peers sent offers.
    pub rooms: usize,
    /// Peers of each.
    pub peers_per_room: usize,
    /// Peers that were to stay idle.
    pub idle: usize,
    /// Share of the peers in rooms that polled.
    pub poll_share: f64,
    /// Offers a second that were to be sent.
    pub signals_per_second_asked: f64,
    /// Size of each.
    pub signal_bytes: usize,
    /// Peers that were to stay, and did until the end.
    pub stayed: usize,
    /// Length of the counted window.
    pub seconds: f64,
    /// It ended early, by a signal.
    pub interrupted: bool,
    /// After the run the server still took a request.
    pub server_answers: bool,
    /// Offers, over the whole run.
    pub signals: Signals,
    /// Offers that arrived in the window, a second.
    pub delivered_per_second: f64,
    /// Peers.
    pub peers: Peers,
    /// `peer-joined` and `peer-left` that were heard in the window, a second.
    pub presence_per_second: f64,
    /// Hand-over to arrival, over WebSockets, in the window.
    pub latency_ms: Latency,
    /// The same as a curve: percent, ms.
    pub latency_curve: Vec<(f64, f64)>,
    /// Hand-over to arrival at a peer that polls; known when some do.
    pub poll_latency_ms: Option<Latency>,
    /// Connect to joined, of who stays.
    pub join_ms: Latency,
    /// Connect to joined, of who comes and goes in the window.
    pub churn_join_ms: Option<Latency>,
    /// Known when the server's process was named.
    pub server: Option<ServerCost>,
    /// What the generator itself took.
    pub generator: Generator,
    /// Why anything was refused or ended, how often.
    pub reasons: BTreeMap<String, u64>,
    /// What happened when.
    pub series: Vec<Sample>,
}

/// Offers from peer to peer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Signals {
    /// Handed over.
    pub sent: u64,
    /// Arrived, each counted once.
    pub delivered: u64,
    /// Sent less delivered.
    pub lost: u64,
    /// Arrived a second time.
    pub doubled: u64,
    /// Arrived after a later one of the same sender.
    pub reordered: u64,
    /// Arrived with other bytes.
    pub damaged: u64,
    /// Arrived at the wrong peer.
    pub alien: u64,
    /// Arrived by poll.
    pub polled: u64,
    /// Not sent, because the server did not take the ones before, or the peer was gone.
    pub stalled: u64,
}

/// Peers and their connections.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Peers {
    /// Got where they wanted to be.
    pub joined: u64,
    /// Of those, came and went in the window.
    pub churned: u64,
    /// Were refused.
    pub refused: u64,
    /// Were cut off.
    pub ended: u64,
    /// Connections of requests that were made anew.
    pub reconnected: u64,
}

/// What the server spent.
#[derive(Debug, Clone, Serialize)]
pub struct ServerCost {
    /// CPU µs of the whole process for each offer that arrived in the window; pings, presence and
    /// joins of the window are in it.
    pub us_per_signal: Option<f64>,
    /// CPU µs for each peer that came and went, where no offers flowed.
    pub us_per_join: Option<f64>,
    /// Cores kept busy.
    pub cores: f64,
    /// Share of it in user mode.
    pub user_cores: f64,
    /// Time that threads were ready and others had the cores, of a hundred of the window.
    pub waited_percent: f64,
    /// Resident set at the end of the window.
    pub rss_mib: Option<f64>,
    /// How it grew within the window.
    pub rss_growth_mib: Option<f64>,
    /// Growth while idle peers came, for each.
    pub rss_bytes_per_idle: Option<f64>,
}

/// The generator's own state, so that its limit is not taken for the server's.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Cores kept busy.
    pub cores: f64,
    /// Time that its thread ran, or was ready to, of a hundred of the window.
    pub busiest_percent: f64,
    /// Cores of the machine.
    pub machine_cores: usize,
    /// Longest that an offer left after it was due.
    pub behind_ms: f64,
}

/// Bounds of a run; one that is passed makes the exit code 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thresholds {
    /// Offers that may be lost; 0 if none is given.
    pub lost_max: u64,
    /// Milliseconds, 99th percentile over WebSockets.
    pub latency_p99_ms_max: Option<f64>,
    /// Milliseconds from connect to joined, 99th percentile.
    pub join_p99_ms_max: Option<f64>,
    /// Server's CPU µs for each offer.
    pub us_per_signal_max: Option<f64>,
    /// Bytes that the server's memory grows by for an idle peer.
    pub rss_bytes_per_idle_max: Option<f64>,
    /// MiB that it grows by within the window.
    pub rss_growth_mib_max: Option<f64>,
    /// Offers a second that must have arrived.
    pub delivered_per_second_min: Option<f64>,
}

/// Puts it together.
pub(super) fn report(
    config: &RoomsConfig,
    engine: &Engine<'_>,
    window: &Window,
    idle: &IdleCost,
    series: Vec<Sample>,
    server_answers: bool,
) -> RoomsReport {
    let (early, late) = (&window.early.counts, &window.late.counts);
    let (counts, seconds, own) = (&engine.counts, window.seconds(), window.own());
    let rate = |late: u64, early: u64| (late - early) as f64 / seconds;
    RoomsReport {
        machine: server::machine(),
        command: config.command.clone(),
        server_name: match config.server {
            Server::Base => "coordinator, plain clients",
            Server::Extended => "coordinator, clients with hello",
            Server::PeerJs => "PeerJS",
            Server::SocketIo => "socket.io",
        }
        .to_owned(),
        rooms: config.rooms,
        peers_per_room: config.peers_per_room,
        idle: config.idle,
        poll_share: config.poll_share,
        signals_per_second_asked: config.signals_per_second,
        signal_bytes: config.signal_bytes,
        stayed: engine.ready_of(|role| role != Role::Passer),
        seconds,
        interrupted: interrupt::asked(),
        server_answers,
        signals: Signals {
            sent: counts.sent,
            delivered: counts.delivered,
            lost: counts.sent.saturating_sub(counts.delivered),
            doubled: counts.doubled,
            reordered: counts.reordered,
            damaged: counts.damaged,
            alien: counts.alien,
            polled: counts.polled,
            stalled: counts.stalled,
        },
        delivered_per_second: rate(late.delivered, early.delivered),
        peers: Peers {
            joined: counts.joined,
            churned: counts.passed,
            refused: counts.refused,
            ended: counts.ended,
            reconnected: counts.reconnected,
        },
        presence_per_second: rate(late.presence, early.presence),
        latency_ms: Latency::in_ms(&engine.latency),
        latency_curve: engine.latency.curve_ms(),
        poll_latency_ms: (engine.poll_latency.total() > 0)
            .then(|| Latency::in_ms(&engine.poll_latency)),
        join_ms: Latency::in_ms(&engine.joins),
        churn_join_ms: (engine.passing.total() > 0).then(|| Latency::in_ms(&engine.passing)),
        server: server_cost(window, idle, seconds),
        generator: Generator {
            cores: own.process_ns as f64 / 1e9 / seconds,
            busiest_percent: own.busiest_ns as f64 / 1e7 / seconds,
            machine_cores: server::cores(),
            behind_ms: ms(window.behind),
        },
        reasons: engine.reasons.clone(),
        series,
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn server_cost(window: &Window, idle: &IdleCost, seconds: f64) -> Option<ServerCost> {
    let cpu = window.server()?;
    let (early, late) = (&window.early, &window.late);
    let delivered = late.counts.delivered - early.counts.delivered;
    let passed = late.counts.passed - early.counts.passed;
    let us = cpu.process_ns as f64 / 1e3;
    let mib = |bytes: f64| bytes / 1_048_576.0;
    let growth = |late: Option<u64>, early: Option<u64>| Some(late? as f64 - early? as f64);
    Some(ServerCost {
        us_per_signal: (delivered > 0).then(|| us / delivered as f64),
        us_per_join: (delivered == 0 && passed > 0).then(|| us / passed as f64),
        cores: cpu.process_ns as f64 / 1e9 / seconds,
        user_cores: cpu.user_ns as f64 / 1e9 / seconds,
        waited_percent: cpu.waited_ns as f64 / 1e7 / seconds,
        rss_mib: late.rss.map(|rss| mib(rss as f64)),
        rss_growth_mib: growth(late.rss, early.rss).map(mib),
        rss_bytes_per_idle: growth(idle.after, idle.before)
            .filter(|_| idle.peers > 0)
            .map(|bytes| bytes / idle.peers as f64),
    })
}

impl RoomsReport {
    /// Why these figures are the generator's and not the server's, where that is so.
    pub fn generator_limit(&self) -> Option<String> {
        let (own, machine) = (&self.generator, self.generator.machine_cores as f64);
        let server = self.server.as_ref().map_or(0.0, |server| server.cores);
        if own.busiest_percent > BUSIEST_PERCENT_MAX {
            let busiest = own.busiest_percent;
            return Some(format!(
                "its thread ran or waited for a core {busiest:.0} % of the time; ask for less, or \
                 start several"
            ));
        }
        (own.cores + server > FULL_SHARE * machine).then(|| {
            format!(
                "it used {:.2} and the server {server:.2} of this machine's {machine} cores; run it \
                 on another machine",
                own.cores
            )
        })
    }

    /// Sentences that say what is wrong; empty when all is well.
    pub fn verdict(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut wrong = Vec::new();
        let (signals, peers) = (&self.signals, &self.peers);
        if !self.server_answers {
            wrong
                .push("the server no longer answers: it ended during the run, or hangs".to_owned());
        }
        let asked = self.rooms * self.peers_per_room + self.idle;
        if self.stayed < asked {
            wrong.push(format!(
                "{} of {asked} peers were not there to the end",
                asked - self.stayed
            ));
        }
        for (count, what) in [
            (peers.refused, "peers were refused"),
            (peers.ended, "peers were cut off"),
            (signals.doubled, "signals arrived twice"),
            (signals.reordered, "signals arrived out of order"),
            (signals.damaged, "signals arrived damaged"),
            (signals.alien, "signals arrived at the wrong peer"),
        ] {
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        if signals.lost > thresholds.lost_max {
            let (lost, max) = (signals.lost, thresholds.lost_max);
            wrong.push(format!("{lost} of {} signals were lost, allowed are {max}", signals.sent));
        }
        let server = self.server.as_ref();
        let churn = self.churn_join_ms.map_or(0.0, |join| join.p99);
        let join_p99 = self.join_ms.p99.max(churn);
        for (value, max, what, unit) in [
            (Some(self.latency_ms.p99), thresholds.latency_p99_ms_max, "latency p99", "ms"),
            (Some(join_p99), thresholds.join_p99_ms_max, "the time to join (p99)", "ms"),
            (
                server.and_then(|server| server.us_per_signal),
                thresholds.us_per_signal_max,
                "the server's CPU for a signal",
                "µs",
            ),
            (
                server.and_then(|server| server.rss_bytes_per_idle),
                thresholds.rss_bytes_per_idle_max,
                "the server's memory for an idle peer",
                "bytes",
            ),
            (
                server.and_then(|server| server.rss_growth_mib),
                thresholds.rss_growth_mib_max,
                "the growth of the server's memory",
                "MiB",
            ),
        ] {
            match (value, max) {
                (Some(value), Some(max)) if value > max => {
                    wrong.push(format!("{what} is {value:.2} {unit}, allowed are {max}"));
                }
                (None, Some(_)) => {
                    wrong.push(format!("{what} is bounded and not known: is --pid given?"));
                }
                (Some(_) | None, _) => {}
            }
        }
        if let Some(min) = thresholds.delivered_per_second_min
            && self.delivered_per_second < min
        {
            let rate = self.delivered_per_second;
            wrong.push(format!("{rate:.0} signals/s arrived, {min:.0} are asked for"));
        }
        wrong
    }
}

impl Display for RoomsReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        let spread = |l: &Latency| {
            let Latency { p50, p99, p999, max } = l;
            format!("p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms")
        };
        let (signals, peers) = (&self.signals, &self.peers);
        row("machine", self.machine.clone())?;
        row(
            "case",
            format!(
                "{}: {} rooms of {} peers{}, {} idle, {:.0} signals/s of {} bytes, {:.1} s{}",
                self.server_name,
                self.rooms,
                self.peers_per_room,
                match self.poll_share > 0.0 {
                    true => format!(" ({:.0} % poll)", 100.0 * self.poll_share),
                    false => String::new(),
                },
                self.idle,
                self.signals_per_second_asked,
                self.signal_bytes,
                self.seconds,
                if self.interrupted { ", INTERRUPTED before its time" } else { "" },
            ),
        )?;
        row(
            "peers",
            format!(
                "{} joined ({} came and went), {} stayed, {} refused, {} cut off, {} reconnected",
                peers.joined,
                peers.churned,
                self.stayed,
                peers.refused,
                peers.ended,
                peers.reconnected
            ),
        )?;
        row(
            "signals",
            format!(
                "{} sent, {} arrived ({} by poll), {:.0}/s in the window; {:.0} presence messages/s",
                signals.sent,
                signals.delivered,
                signals.polled,
                self.delivered_per_second,
                self.presence_per_second
            ),
        )?;
        row(
            "faults",
            format!(
                "{} lost, {} twice, {} out of order, {} damaged, {} at the wrong peer, {} not sent",
                signals.lost,
                signals.doubled,
                signals.reordered,
                signals.damaged,
                signals.alien,
                signals.stalled
            ),
        )?;
        for (reason, count) in &self.reasons {
            row("", format!("{count} × {reason}"))?;
        }
        row("latency", spread(&self.latency_ms))?;
        if let Some(latency) = &self.poll_latency_ms {
            row("latency by poll", spread(latency))?;
        }
        row("join", spread(&self.join_ms))?;
        if let Some(latency) = &self.churn_join_ms {
            row("join, coming and going", spread(latency))?;
        }
        if let Some(server) = &self.server {
            let each = |value: Option<f64>, what: &str| {
                value.map(|us| format!("{us:.1} µs a {what}; ")).unwrap_or_default()
            };
            row(
                "server CPU",
                format!(
                    "{}{}{:.2} cores, {:.2} of them user; waited for one {:.0} % of the time",
                    each(server.us_per_signal, "signal"),
                    each(server.us_per_join, "join"),
                    server.cores,
                    server.user_cores,
                    server.waited_percent
                ),
            )?;
            if let (Some(rss), Some(growth)) = (server.rss_mib, server.rss_growth_mib) {
                let idle = server.rss_bytes_per_idle;
                let idle = idle.map(|bytes| format!("; {:.1} kB an idle peer", bytes / 1e3));
                row(
                    "server memory",
                    format!(
                        "{rss:.1} MiB, {growth:+.1} MiB in the window{}",
                        idle.unwrap_or_default()
                    ),
                )?;
            }
        }
        let own = &self.generator;
        row(
            "generator",
            format!(
                "{:.2} of {} cores, busy or waiting {:.0} %, at most {:.1} ms behind",
                own.cores, own.machine_cores, own.busiest_percent, own.behind_ms
            ),
        )?;
        if let Some(limit) = self.generator_limit() {
            row("", format!("THE GENERATOR WAS THE LIMIT: {limit}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::histogram::Histogram;

    pub(crate) fn example() -> RoomsReport {
        let none = Latency::in_ms(&Histogram::default());
        RoomsReport {
            machine: "a machine".into(),
            command: "sutantra-bench signal".into(),
            server_name: "coordinator".into(),
            rooms: 2,
            peers_per_room: 5,
            idle: 10,
            poll_share: 0.2,
            signals_per_second_asked: 100.0,
            signal_bytes: 2048,
            stayed: 20,
            seconds: 2.0,
            interrupted: false,
            server_answers: true,
            signals: Signals { sent: 200, delivered: 200, ..Signals::default() },
            delivered_per_second: 100.0,
            peers: Peers { joined: 20, ..Peers::default() },
            presence_per_second: 3.0,
            latency_ms: Latency { p99: 4.0, ..none },
            latency_curve: vec![(50.0, 1.0), (99.0, 4.0), (100.0, 5.0)],
            poll_latency_ms: Some(none),
            join_ms: Latency { p99: 9.0, ..none },
            churn_join_ms: None,
            server: Some(ServerCost {
                us_per_signal: Some(7.0),
                us_per_join: None,
                cores: 0.1,
                user_cores: 0.05,
                waited_percent: 1.0,
                rss_mib: Some(30.0),
                rss_growth_mib: Some(0.5),
                rss_bytes_per_idle: Some(9000.0),
            }),
            generator: Generator {
                cores: 0.2,
                busiest_percent: 20.0,
                machine_cores: 2,
                behind_ms: 0.3,
            },
            reasons: BTreeMap::new(),
            series: Vec::new(),
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut RoomsReport), thresholds: Thresholds, expected: Option<&str>) {
        let mut report = example();
        change(&mut report);
        let wrong = report.verdict(&thresholds);
        match expected {
            None => assert_eq!(wrong, Vec::<String>::new()),
            Some(part) => {
                assert!(wrong.len() == 1 && wrong[0].contains(part), "{wrong:?}");
            }
        }
    }

    /// R102 R114
    #[test]
    fn a_bound_is_broken_by_what_passes_it_and_by_what_is_not_known() {
        let none = Thresholds::default();
        check(|_| {}, none, None);
        check(|r| r.signals.lost = 1, none, Some("1 of 200 signals were lost"));
        check(|r| r.signals.lost = 1, Thresholds { lost_max: 1, ..none }, None);
        check(|r| r.signals.doubled = 2, none, Some("2 signals arrived twice"));
        check(|r| r.signals.reordered = 2, none, Some("out of order"));
        check(|r| r.signals.damaged = 2, none, Some("damaged"));
        check(|r| r.signals.alien = 2, none, Some("wrong peer"));
        check(|r| r.peers.refused = 3, none, Some("3 peers were refused"));
        check(|r| r.peers.ended = 3, none, Some("3 peers were cut off"));
        check(|r| r.stayed = 19, none, Some("1 of 20 peers"));
        check(|r| r.server_answers = false, none, Some("no longer answers"));
        let p99 = |max| Thresholds { latency_p99_ms_max: Some(max), ..none };
        check(|_| {}, p99(4.0), None);
        check(|_| {}, p99(3.9), Some("latency p99 is 4.00 ms, allowed are 3.9"));
        let join = |max| Thresholds { join_p99_ms_max: Some(max), ..none };
        check(|_| {}, join(9.0), None);
        check(|_| {}, join(8.0), Some("the time to join"));
        let cpu = |max| Thresholds { us_per_signal_max: Some(max), ..none };
        check(|_| {}, cpu(7.0), None);
        check(|_| {}, cpu(6.0), Some("CPU for a signal is 7.00 µs"));
        check(|r| r.server = None, cpu(8.0), Some("is --pid given?"));
        let idle = |max| Thresholds { rss_bytes_per_idle_max: Some(max), ..none };
        check(|_| {}, idle(12_000.0), None);
        check(|_| {}, idle(8000.0), Some("an idle peer is 9000.00 bytes"));
        let growth = |max| Thresholds { rss_growth_mib_max: Some(max), ..none };
        check(|_| {}, growth(1.0), None);
        check(|_| {}, growth(0.1), Some("growth of the server's memory"));
        let rate = |min| Thresholds { delivered_per_second_min: Some(min), ..none };
        check(|_| {}, rate(100.0), None);
        check(|_| {}, rate(101.0), Some("100 signals/s arrived, 101 are asked for"));
    }

    #[test]
    fn a_full_generator_is_not_taken_for_the_server() {
        assert_eq!(example().generator_limit(), None);
        let mut busy = example();
        busy.generator.busiest_percent = 99.0;
        assert!(busy.generator_limit().is_some_and(|limit| limit.contains("99 % of the time")));
        let mut full = example();
        full.generator.cores = 1.9;
        assert!(full.to_string().contains("THE GENERATOR WAS THE LIMIT: it used 1.90"));
    }
}
