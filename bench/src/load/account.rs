//! From counters to a report.

use std::time::Instant;

use super::ticks::LongestTick;
use super::{Ended, LoadConfig, REDEEM_MAX, Window, load};
use crate::histogram::Histogram;
use crate::interrupt;
use crate::pay::{Bank, PayAccount, Payments};
use crate::report::{Generator, Latency, Packets, Report, Sending, ServerCost};
use crate::server;
use crate::socket::Gro;
use crate::viewer::Viewer;
use crate::worker::{Outcome, playing_after};

/// Between two looks at what the chain has paid out.
const REDEEM_POLL: std::time::Duration = std::time::Duration::from_millis(250);
/// Refusals shown.
const REFUSED_SHOWN: usize = 3;

pub fn report(
    config: &LoadConfig,
    window: Window,
    ended: Ended,
    payments: Option<Payments>,
) -> Report {
    let outcomes = &ended.outcomes;
    let viewers: Vec<&Viewer> = outcomes.iter().flat_map(|outcome| &outcome.viewers).collect();
    let (mut packets, mut latency) = (Packets::default(), Histogram::default());
    let (mut joins, mut connects) = (Histogram::default(), Histogram::default());
    for viewer in viewers.iter().filter(|viewer| viewer.hears) {
        let Some(playing) = playing_after(viewer, config.awaited()) else { continue };
        joins.record(playing.as_nanos() as u64);
        if let Some(after) = viewer.connected_after {
            connects.record(after.as_nanos() as u64);
        }
        packets.add(viewer, &window.audio, &window.video, &config.trace);
    }
    outcomes.iter().for_each(|outcome| latency.merge(&outcome.latency));
    let forwarded = packets.received + window.sink_dropped;
    let machine_cores = server::cores();
    Report {
        machine: server::machine(),
        command: config.command.clone(),
        trace: config.trace_name.clone(),
        rooms: config.rooms,
        publishers: config.publishers,
        viewers: ended.asked,
        churned: ended.churned,
        hearing: (0..ended.asked).filter(|viewer| config.hears(*viewer)).count(),
        connected: load(&ended.live.connected) as usize,
        playing: joins.total() as usize,
        refused: ended.refused.len(),
        ended: load(&ended.live.ended) as usize,
        seconds: window.seconds,
        interrupted: interrupt::asked(),
        server_answers: window.server_answers,
        forwarded,
        join_ms: Latency::in_ms(&joins),
        connect_ms: Latency::in_ms(&connects),
        latency_ms: Latency::in_ms(&latency),
        latency_curve: latency.curve_ms(),
        join_curve: joins.curve_ms(),
        server: server_cost(config, &window, &ended, forwarded),
        sending: sending(config, &window, forwarded),
        joining_ticks: ended.joining.ticks,
        window_ticks: window.metrics.as_ref().and_then(|(early, late)| {
            let mut longest = LongestTick::default();
            longest.take(Some(late));
            longest.ticks(early, late)
        }),
        payments,
        generator: Generator {
            threads: config.threads.max(1),
            cores: window.own_cpu.process_ns as f64 / 1e9 / window.seconds,
            busiest_percent: window.own_cpu.busiest_ns as f64 / 1e7 / window.seconds,
            machine_cores,
            waited_percent: window.own_cpu.waited_ns as f64 / 1e7 / window.seconds,
            dropped_datagrams: outcomes.iter().map(|outcome| outcome.dropped_datagrams).sum(),
            takes_trains: config.gro == Gro::On,
        },
        errors: ended
            .refused
            .iter()
            .take(REFUSED_SHOWN)
            .chain(outcomes.iter().flat_map(|outcome| &outcome.errors))
            .cloned()
            .collect(),
        packets,
        series: ended.samples,
    }
}

fn server_cost(
    config: &LoadConfig,
    window: &Window,
    ended: &Ended,
    forwarded: u64,
) -> Option<ServerCost> {
    let cpu = window.cpu?;
    let per_packet = |ns: u64| ns as f64 / 1000.0 / forwarded.max(1) as f64;
    let joining = ended.joining;
    Some(ServerCost {
        us_per_packet: per_packet(cpu.process_ns),
        shard_us_per_packet: (cpu.shards_ns > 0).then(|| per_packet(cpu.shards_ns)),
        user_us_per_packet: per_packet(cpu.user_ns),
        system_us_per_packet: per_packet(cpu.system_ns),
        cores: cpu.process_ns as f64 / 1e9 / window.seconds,
        waited_percent: cpu.waited_ns as f64 / 1e7 / window.seconds,
        cpu_ms_per_join: joining
            .cpu
            .filter(|_| joining.joins > 0)
            .map(|cpu| cpu.process_ns as f64 / 1e6 / joining.joins as f64),
        rss_mib: window.rss.map(|rss| rss as f64 / 1_048_576.0),
        rss_kib_per_viewer: window.rss.zip(ended.rss_before).map(|(after, before)| {
            (after as f64 - before as f64) / 1024.0 / config.all_viewers().max(1) as f64
        }),
    })
}

fn sending(config: &LoadConfig, window: &Window, forwarded: u64) -> Option<Sending> {
    let (early, late) = window.metrics.as_ref()?;
    let datagrams = late.increase(early, "sent_datagrams_total")?;
    let messages = late.increase(early, "sent_messages_total")?;
    let copied = late.increase(early, "copied_bytes_total");
    Some(Sending {
        packets_per_message: datagrams / messages.max(1.0),
        packets_per_message_ideal: config.trace.packets_per_message_ideal(),
        copied_bytes_per_packet: copied.map(|bytes| bytes / forwarded.max(1) as f64),
    })
}

/// Adds up what was paid; waits a little for what is on its way into a block.
pub fn payments(bank: &Bank, outcomes: &[Outcome]) -> anyhow::Result<Payments> {
    let accounts: Vec<PayAccount> =
        outcomes.iter().flat_map(|outcome| &outcome.paid).cloned().collect();
    let until = Instant::now() + REDEEM_MAX;
    loop {
        let payments = bank.payments(&accounts)?;
        if payments.redeemed >= payments.paid || Instant::now() >= until || interrupt::asked() {
            return Ok(payments);
        }
        std::thread::sleep(REDEEM_POLL);
    }
}
