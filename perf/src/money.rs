//! What money costs: vouchers a second and core, from an event to the order for a gate, blocks, memory.
//!
//! Printed, never a gate: on a machine with other work the threads wait for a core, and the
//! run-queue delay beside each figure says how long.

mod books;
mod figures;
mod gates;
mod viewer;
mod world;

use std::time::Duration;

use crate::MoneyArgs;
use books::Resident;
use figures::Row;
use gates::{BlockRate, Counts};

/// Measures all and prints a table.
pub fn run(args: &MoneyArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    // First: the memory of what comes later must not be in its figure.
    let Resident { before, with_lanes, lanes } = books::run(args.lanes, args.vouchers, &mut rows)?;
    let in_books = rows.len();
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let counts = Counts { vouchers: args.frames, blocks: args.blocks };
    let interval = Duration::from_millis(args.min_block_interval_ms);
    let BlockRate { blocks, span } = gates::run(&parent, interval, &counts, &mut rows)?;
    println!("{}", Row::HEAD);
    for row in &rows {
        println!("{}", row.print());
    }
    println!();
    for row in &rows[..in_books] {
        println!("{}: {:.0} a second and core", row.what, 1e9 / row.samples.mean_ns().max(1.0));
    }
    let rate = blocks as f64 / span.as_secs_f64();
    let interval_ms = args.min_block_interval_ms;
    println!(
        "blocks: {rate:.1} a second while one transfer waits, {interval_ms} ms apart at least"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "memory: {:.1} MiB resident, with {lanes} lanes {:.1} MiB, {:.0} B a lane",
        mib(before),
        mib(with_lanes),
        with_lanes.saturating_sub(before) as f64 / lanes as f64
    );
    Ok(())
}
