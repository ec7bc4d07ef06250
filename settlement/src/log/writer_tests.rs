use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    record::tests::record,
    store_tests::{CHAIN, FaultyDisk},
    *,
};

/// A directory of its own, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sutantra-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn await_notice(writer: &LogWriter, is_it: impl Fn(&LogNotice) -> bool) -> Vec<LogNotice> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut seen = Vec::new();
    loop {
        let notice = writer.notices().recv_deadline(until).expect("the notice comes");
        seen.push(notice);
        if is_it(seen.last().unwrap()) {
            return seen;
        }
    }
}

fn synced(sequence: u64) -> impl Fn(&LogNotice) -> bool {
    move |notice| matches!(notice, LogNotice::Synced { sequence: upto } if *upto >= sequence)
}

#[test]
fn what_is_handed_over_is_confirmed_in_order_and_found_again() {
    let scratch = Scratch::new("log-order");
    let (mut writer, opened) = spawn(&scratch.0, CHAIN).unwrap();
    assert_eq!(opened.newest, []);
    for cumulative in 1..=1000u64 {
        let record = record((cumulative % 5) as u32, cumulative);
        while writer.append(record).is_err() {
            std::thread::yield_now();
        }
    }
    let notices = await_notice(&writer, synced(1000));
    let (mut appended, mut durable) = (0, 0);
    for notice in notices {
        match notice {
            LogNotice::Appended { sequence } => {
                assert!(sequence > appended);
                appended = sequence;
            }
            LogNotice::Synced { sequence } => {
                assert!(sequence > durable && sequence <= appended);
                durable = sequence;
            }
            LogNotice::LogFailed { .. } | LogNotice::LogRecovered => panic!("{notice:?}"),
        }
    }
    drop(writer);
    let (_writer, opened) = spawn(&scratch.0, CHAIN).unwrap();
    let newest: Vec<_> = (0..5)
        .map(|lane| record(lane, if lane == 0 { 1000 } else { 995 + u64::from(lane) }))
        .collect();
    assert_eq!(opened.newest, newest);
}

#[test]
fn what_was_taken_is_on_the_disk_when_the_writer_is_dropped() {
    let scratch = Scratch::new("log-drop");
    let (mut writer, _) = spawn(&scratch.0, CHAIN).unwrap();
    writer.append(record(1, 5)).unwrap();
    drop(writer);
    assert_eq!(spawn(&scratch.0, CHAIN).unwrap().1.newest, [record(1, 5)]);
}

#[test]
fn a_second_writer_and_another_chain_are_refused() {
    let scratch = Scratch::new("log-lock");
    let (writer, _) = spawn(&scratch.0, CHAIN).unwrap();
    let refused = spawn(&scratch.0, CHAIN).unwrap_err();
    assert!(matches!(refused, LogOpenError::Locked), "{refused}");
    drop(writer);
    let refused = spawn(&scratch.0, "sutantra-other").unwrap_err();
    assert!(matches!(refused, LogOpenError::OtherChain { .. }), "{refused}");
    spawn(&scratch.0, CHAIN).unwrap();
}

#[test]
fn a_full_disk_is_told_and_what_came_meanwhile_is_kept_and_written_later() {
    let disk = FaultyDisk::new(1);
    let (mut writer, _) = spawn_on(disk.clone(), CHAIN).unwrap();
    writer.append(record(1, 1)).unwrap();
    await_notice(&writer, synced(1));
    disk.world().space_bytes = 0;
    writer.append(record(1, 2)).unwrap();
    let seen = await_notice(&writer, |notice| matches!(notice, LogNotice::LogFailed { .. }));
    assert!(!seen.iter().any(synced(2)));
    writer.append(record(2, 3)).unwrap();
    disk.world().space_bytes = usize::MAX;
    let seen = await_notice(&writer, synced(3));
    let recovered = seen.iter().position(|notice| *notice == LogNotice::LogRecovered);
    let durable = seen.iter().position(synced(2));
    assert!(recovered.is_some() && recovered < durable, "{seen:?}");
    drop(writer);
    assert_eq!(spawn_on(disk, CHAIN).unwrap().1.newest, [record(1, 2), record(2, 3)]);
}

#[test]
fn a_failing_sync_is_told_and_nothing_is_confirmed_before_it_works_again() {
    let disk = FaultyDisk::new(1);
    let (mut writer, _) = spawn_on(disk.clone(), CHAIN).unwrap();
    disk.world().is_sync_failing = true;
    writer.append(record(1, 1)).unwrap();
    let seen = await_notice(&writer, |notice| matches!(notice, LogNotice::LogFailed { .. }));
    assert!(!seen.iter().any(synced(1)));
    disk.world().is_sync_failing = false;
    await_notice(&writer, synced(1));
    drop(writer);
    assert_eq!(spawn_on(disk, CHAIN).unwrap().1.newest, [record(1, 1)]);
}

#[test]
fn a_log_that_begins_on_a_full_disk_says_so_and_recovers() {
    let disk = FaultyDisk::new(1);
    disk.world().space_bytes = 0;
    let (writer, opened) = spawn_on(disk.clone(), CHAIN).unwrap();
    assert!(opened.failure.is_some());
    await_notice(&writer, |notice| matches!(notice, LogNotice::LogFailed { .. }));
    disk.world().space_bytes = usize::MAX;
    await_notice(&writer, |notice| *notice == LogNotice::LogRecovered);
}
