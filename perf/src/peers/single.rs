//! One run of one contender in one case, and the bare loop beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bench::child::{Kind, Server};
use bench::load::{self, LoadConfig};
use bench::report::Report;
use bench::signal::Target;
use serde::Serialize;
use sfu::io::LinkKind;
use sfu::ports::SrtpProfile;

use super::case::{Case, Sink, Subject};
use super::contender::{Contender, Part, Source};
use super::field::{Field, Ground};
use crate::bare_loop::{self, Bursts, Cipher, Gso, Sockets};

/// Behind the drop sink so many viewers hear, at least.
const HEARING: usize = 10;
/// Packets that the bare loop forwards in one measurement.
const LIMIT_PACKETS: u64 = 100_000;
/// How long it forwards at the relay's own pace, s.
const PACED_SECONDS: f64 = 2.0;

/// What one run brought.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Of the clients and the server's process.
    pub report: Report,
    /// Of the bare loop, for the relay.
    pub limit: Option<Limit>,
}

/// The bare loop at the packets a message that the relay reached, at the same sink.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limit {
    /// Packets a message.
    pub packets_per_message: f64,
    /// CPU µs per forwarded packet, burst after burst.
    pub us_per_packet: f64,
    /// The same with the pauses that the relay had between its bursts: each pays for waking up and
    /// for caches that others have used. For the relay as it is shipped.
    pub paced_us_per_packet: Option<f64>,
}

/// How a run is counted.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The counted time.
    pub duration: Duration,
    /// Whether the bare loop runs as well.
    pub with_limit: bool,
}

/// Runs it.
///
/// # Errors
/// Nothing could be measured, with the end of the server's log.
pub fn run(
    field: &Field,
    case: &Case,
    contender: &Contender,
    window: Window,
) -> anyhow::Result<Outcome> {
    let (case, contender) = (case.clone(), contender.clone());
    match (&contender.source, case.sink) {
        (Source::Running { target, pid }, _) => {
            let report = load::run(&load_config(&case, target.clone(), *pid, window.duration))?;
            Ok(Outcome { report, limit: None })
        }
        (Source::Started { .. }, Sink::Loopback) => {
            field.over_loopback(move |ground| on_ground(ground, &case, &contender, window))
        }
        (Source::Started { .. }, Sink::Drop) => {
            field.behind_drop_sink(move |ground| on_ground(ground, &case, &contender, window))
        }
    }
}

fn on_ground(
    ground: &Ground<'_>,
    case: &Case,
    contender: &Contender,
    window: Window,
) -> anyhow::Result<Outcome> {
    let Source::Started { kind, program } = &contender.source else {
        anyhow::bail!("{} is not ours to start", contender.name);
    };
    let server = Server::start(kind, program, ground.place)?;
    let pid = Some(server.pid());
    let mut config = load_config(case, server.target.clone(), pid, window.duration);
    if let Some(sink) = &ground.sink {
        config.sink = Some(Arc::clone(sink) as _);
        config.hear_every = (case.viewers / HEARING).max(1);
    }
    let report = load::run(&config);
    // The reason first: a table has room for one line.
    let report = report
        .map_err(|error| anyhow::anyhow!("{error:#}; its log ends with:\n{}", server.log_tail()))?;
    drop(server);
    let limit = match kind {
        Kind::Node(_) if window.with_limit && case.subject == Subject::Cost => {
            let paced = contender.part == Part::Relay;
            limit(ground, case, kind, &report, paced)?
        }
        _ => None,
    };
    Ok(Outcome { report, limit })
}

fn load_config(case: &Case, target: Target, pid: Option<u32>, duration: Duration) -> LoadConfig {
    let mut config = LoadConfig {
        viewers: case.viewers,
        publishers: case.publishers,
        duration,
        ramp_per_second: case.ramp_per_second,
        pid,
        ..LoadConfig::new(target, case.trace_name, case.trace())
    };
    if case.subject == Subject::Idle {
        // They need only be connected; one hears that the server lives.
        config.sink = Some(Arc::new(Silence));
        config.hear_every = case.viewers;
    }
    config
}

/// Takes nothing, where there is no media to take.
struct Silence;

impl bench::sink::Sink for Silence {
    fn hear(&self, _: SocketAddr) -> std::io::Result<()> {
        Ok(())
    }

    fn dropped(&self) -> std::io::Result<u64> {
        Ok(0)
    }
}

/// The bare loop with the same link and GSO, into the same sink; `None` where the relay does not
/// say how many packets a message it sent.
fn limit(
    ground: &Ground<'_>,
    case: &Case,
    kind: &Kind,
    report: &Report,
    paced: bool,
) -> anyhow::Result<Option<Limit>> {
    let (Kind::Node(options), Some(sending)) = (kind, &report.sending) else { return Ok(None) };
    let packets_per_message = sending.packets_per_message.max(1.0);
    let link = options.link.as_deref().unwrap_or("io_uring").parse::<LinkKind>()?;
    let back_to_back = bare_loop::Case {
        link,
        bursts: Bursts::of_mean(packets_per_message)?,
        gso: if packets_per_message > 1.0 { Gso::On } else { Gso::Off },
        sockets: Sockets::Shared,
        receivers: case.viewers,
        payload_bytes: case.payload_bytes(),
        cipher: Cipher(SrtpProfile::AEAD_AES_256_GCM),
        packets: LIMIT_PACKETS,
        pace: None,
        delivery: ground.delivery(),
    };
    let us = |case: &bare_loop::Case<'_>| -> anyhow::Result<f64> {
        let cost = bare_loop::measure(case).context("the bare loop")?;
        Ok(cost.ns_per_packet / 1000.0)
    };
    let us_per_packet = us(&back_to_back)?;
    // Each viewer is in one room: what it got in a second, by the packets of a message.
    let packets_a_second = report.forwarded as f64 / report.seconds;
    let bursts_a_second = packets_a_second / case.viewers as f64 / packets_per_message;
    let at_its_pace = bare_loop::Case {
        pace: Some((bursts_a_second.round() as u32).max(1)),
        packets: (packets_a_second * PACED_SECONDS) as u64,
        ..back_to_back
    };
    let paced_us_per_packet = paced.then(|| us(&at_its_pace)).transpose()?;
    Ok(Some(Limit { packets_per_message, us_per_packet, paced_us_per_packet }))
}
