//! The cases of the bare loop side by side: interleaved repeats, medians and spread.

use anyhow::Context;
use serde::Serialize;
use sfu::io::LinkKind;

use crate::LimitArgs;
use crate::bare_loop::{self, Case, Cost};

/// One case's figures.
#[derive(Debug, Clone, Serialize)]
struct Row {
    link: String,
    burst: usize,
    /// CPU ns per forwarded packet, over the repeats.
    median_ns: f64,
    min_ns: f64,
    max_ns: f64,
    packets_per_message: f64,
    /// Smallest share that arrived, of a hundred; absent without draining.
    arrived_percent: Option<f64>,
}

/// Measures and prints.
pub fn run(args: &LimitArgs) -> anyhow::Result<()> {
    let mut links = Vec::new();
    for name in &args.links {
        let link = name.parse::<LinkKind>()?;
        match (link, sfu::io::available()) {
            (LinkKind::IoUring, Err(error)) => println!("left out: {error}"),
            (LinkKind::IoUring | LinkKind::Epoll, _) => links.push(link),
        }
    }
    let cases: Vec<Case> = args
        .burst
        .iter()
        .flat_map(|burst| links.iter().map(move |link| (*link, *burst)))
        .map(|(link, burst)| Case {
            link,
            burst,
            receivers: args.receivers,
            payload_bytes: args.payload_bytes,
            cipher: args.cipher,
            packets: args.packets,
            drain: !args.no_drain,
        })
        .collect();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); cases.len()];
    for repeat in 0..args.repeats.max(1) {
        for (case, costs) in cases.iter().zip(&mut costs) {
            eprintln!("repeat {} of {}: {} k={}", repeat + 1, args.repeats, case.link, case.burst);
            let cost = bare_loop::measure(case);
            costs.push(cost.with_context(|| format!("{} with k={}", case.link, case.burst))?);
        }
    }
    let rows: Vec<Row> = cases.iter().zip(&costs).map(|(case, costs)| row(case, costs)).collect();
    print(args, &rows);
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn row(case: &Case, costs: &[Cost]) -> Row {
    let mut ns: Vec<f64> = costs.iter().map(|cost| cost.ns_per_packet).collect();
    ns.sort_by(f64::total_cmp);
    Row {
        link: case.link.to_string(),
        burst: case.burst,
        median_ns: ns[ns.len() / 2],
        min_ns: ns[0],
        max_ns: ns[ns.len() - 1],
        packets_per_message: costs[0].packets_per_message,
        arrived_percent: costs.iter().filter_map(|cost| cost.arrived_percent).reduce(f64::min),
    }
}

fn print(args: &LimitArgs, rows: &[Row]) {
    println!(
        "Bare loop over loopback: {} receivers ({}), payload {} B, {:?}, {} repeats of {} packets,",
        args.receivers,
        if args.no_drain { "not drained: the kernel drops" } else { "drained between bursts" },
        args.payload_bytes,
        args.cipher.0,
        args.repeats,
        args.packets
    );
    println!(
        "CPU ns of the loop's thread per forwarded packet, delivery to the receivers included."
    );
    println!();
    println!("| link | packets a message | median ns | min–max | arrived % |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let arrived = row.arrived_percent.map_or("-".to_owned(), |share| format!("{share:.2}"));
        println!(
            "| {} | {:.1} | {:.0} | {:.0}–{:.0} | {arrived} |",
            row.link, row.packets_per_message, row.median_ns, row.min_ns, row.max_ns
        );
    }
}
