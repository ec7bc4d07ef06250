//! `kill -9` while the voucher log is written: nothing that was confirmed is lost.
//!
//! The program is its own victim: started with `--writer DIRECTORY` it appends and prints what is
//! confirmed, until somebody ends it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use chain_types::{AccountId, Balance, ChannelId, SignedVoucher, StreamId, Voucher};
use settlement::log::{LogNotice, LogRecord, spawn};

const CHAIN: &str = "sutantra-test-1";
const LANES: u64 = 7;
/// Enough to meet the moments between append, sync and the file's replacement.
const KILLS: u32 = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, flag, directory] if flag == "--writer" => write(Path::new(directory)),
        _ => kill_and_read(),
    }
}

fn record(sequence: u64) -> LogRecord {
    let voucher = Voucher {
        channel: ChannelId([1; 32]),
        payee: AccountId([2; 32]),
        stream: StreamId([3; 32]),
        lane: u32::try_from(sequence % LANES).expect("few lanes"),
        terms_version: 1,
        nonce: sequence,
        cumulative: Balance::of(sequence),
        media_ms: 0,
        bytes: 0,
        qos: [0; 32],
    };
    LogRecord { voucher: SignedVoucher { voucher, signature: [9; 64] }, served_ms: sequence }
}

/// Goes on from the newest voucher found; prints `sequence` lines of what is confirmed.
fn write(directory: &Path) {
    let (mut writer, opened) = spawn(directory, CHAIN).expect("the log opens after a kill");
    let found = opened.newest.iter().map(|record| record.served_ms).max().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    let mut next = found + 1;
    loop {
        while writer.append(record(next)).is_ok() {
            next += 1;
        }
        while let Ok(notice) = writer.notices().try_recv() {
            match notice {
                LogNotice::Synced { sequence } => {
                    writeln!(out, "{}", found + sequence).expect("the parent reads");
                }
                LogNotice::Appended { .. } => {}
                LogNotice::LogFailed { reason } => panic!("{reason}"),
                LogNotice::LogRecovered => unreachable!("it did not fail"),
            }
        }
        std::thread::yield_now();
    }
}

fn kill_and_read() {
    let directory = std::env::temp_dir().join(format!("sutantra-log-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut confirmed_before = 0;
    let began = Instant::now();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .arg("--writer")
            .arg(&directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Killed after so many confirmations and a time that differs each round.
        let mut lines = lines.map_while(Result::ok);
        let mut confirmed: Vec<u64> =
            lines.by_ref().take(1 + kill as usize % 3).map(|line| parse(&line)).collect();
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_micros(u64::from(kill) * 379 % 20_000) {
            std::hint::spin_loop();
        }
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("the child is reaped");
        confirmed.extend(lines.map(|line| parse(&line)));
        let last = *confirmed.iter().max().expect("something was confirmed");
        assert!(last > confirmed_before, "round {kill}: {last} after {confirmed_before}");
        confirmed_before = last;

        let (_writer, opened) = spawn(&directory, CHAIN).expect("the log opens after a kill");
        for lane in 0..LANES {
            // The newest confirmed voucher of the lane.
            let Some(expected) = (0..=last).rev().take(LANES as usize).find(|s| s % LANES == lane)
            else {
                continue;
            };
            let found = opened.newest.iter().find(|found| u64::from(found.lane().lane) == lane);
            let found = found.map_or(0, |found| found.served_ms);
            assert!(found >= expected, "round {kill}: lane {lane} has {found}, not {expected}");
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
    println!(
        "{KILLS} kills in {:?}: {confirmed_before} vouchers confirmed, none lost",
        began.elapsed()
    );
}

fn parse(line: &str) -> u64 {
    line.parse().expect("the child prints numbers")
}
