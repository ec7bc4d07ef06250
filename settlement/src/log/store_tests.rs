//! The log on a disk that fails, fills up, lies after a failed sync, and forgets in a crash.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    COMPACT_BYTES_MIN, LOG_FILE, LOG_FILE_DAMAGED, LOG_FILE_NEXT, LogError, LogOpenError,
    RECORD_BYTES, Store, UNSYNCED_BYTES_MAX,
    disk::{Disk, DiskFile},
    record::tests::record,
};

pub(super) const CHAIN: &str = "sutantra-test-1";

/// A disk in memory, shared with the test that plays its fate.
#[derive(Debug, Clone)]
pub(super) struct FaultyDisk(Arc<Mutex<World>>);

#[derive(Debug)]
pub(super) struct World {
    rng: StdRng,
    files: Vec<FaultyFile>,
    /// What names meant since they were last synced; the last is what they mean now.
    names: Vec<BTreeMap<String, usize>>,
    /// Of each operation, to fail.
    fault_probability: f64,
    /// Operations until the power fails.
    operations_left: Option<u64>,
    /// Bytes that fit.
    pub space_bytes: usize,
    pub is_sync_failing: bool,
}

#[derive(Debug, Clone, Default)]
struct FaultyFile {
    /// As it is read.
    bytes: Vec<u8>,
    /// As it is after a crash, at least.
    durable: Vec<u8>,
    /// After a failed sync the kernel takes its pages for written: later syncs do nothing.
    is_lying: bool,
}

/// A crash keeps or loses so many bytes together.
const SECTOR_BYTES: usize = 512;

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            rng: StdRng::seed_from_u64(seed),
            files: Vec::new(),
            names: vec![BTreeMap::new()],
            fault_probability: 0.0,
            operations_left: None,
            space_bytes: usize::MAX,
            is_sync_failing: false,
        })))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// What the machine finds when it has power again.
    fn reboot(&self) {
        let mut world = self.world();
        let World { rng, files, names, .. } = &mut *world;
        let kept = rng.random_range(0..names.len());
        *names = vec![names.swap_remove(kept)];
        for file in files {
            let len_bytes = rng.random_range(file.durable.len()..=file.bytes.len());
            let mut found = file.durable.clone();
            found.resize(len_bytes, 0);
            for at in file.durable.len()..len_bytes {
                if at % SECTOR_BYTES == 0 || at == file.durable.len() {
                    let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(len_bytes);
                    if rng.random_bool(0.5) {
                        found[at..end].copy_from_slice(&file.bytes[at..end]);
                    }
                }
            }
            *file = FaultyFile { bytes: found.clone(), durable: found, is_lying: false };
        }
        world.operations_left = None;
        world.fault_probability = 0.0;
    }
}

impl World {
    /// Whether the operation may go on; one that fails at power's end may have done a part.
    fn operate(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.operations_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        }
        if self.rng.random_bool(self.fault_probability) {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }

    fn names(&self) -> &BTreeMap<String, usize> {
        self.names.last().unwrap()
    }

    pub fn file(&mut self, name: &str) -> &mut Vec<u8> {
        let at = self.names()[name];
        &mut self.files[at].bytes
    }
}

impl Disk for FaultyDisk {
    type File = OpenFile;

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let world = self.world();
        Ok(world.names().get(name).map(|at| world.files[*at].bytes.clone()))
    }

    fn create(&mut self, name: &str) -> io::Result<OpenFile> {
        let mut world = self.world();
        world.operate()?;
        let at = world.files.len();
        world.files.push(FaultyFile::default());
        let mut names = world.names().clone();
        names.insert(name.to_owned(), at);
        world.names.push(names);
        Ok(OpenFile { disk: self.clone(), at })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        let mut names = world.names().clone();
        let at = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_owned(), at);
        world.names.push(names);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        let now = world.names().clone();
        world.names = vec![now];
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct OpenFile {
    disk: FaultyDisk,
    at: usize,
}

impl DiskFile for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.disk.world();
        let operated = world.operate();
        let room = world.space_bytes.min(bytes.len());
        let written = if room == 0 { 0 } else { world.rng.random_range(1..=room) };
        if world.operations_left != Some(0) || operated.is_ok() {
            world.files[self.at].bytes.extend_from_slice(&bytes[..written]);
        }
        operated?;
        if written == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.space_bytes -= written;
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        let operated = world.operate();
        let is_failing = world.is_sync_failing;
        let file = &mut world.files[self.at];
        if operated.is_err() || is_failing {
            file.is_lying = true;
            return Err(io::Error::other("input/output error"));
        }
        if !file.is_lying {
            file.durable.clone_from(&file.bytes);
        }
        Ok(())
    }
}

fn open(disk: &FaultyDisk) -> (Store<FaultyDisk>, super::Opened) {
    Store::open(disk.clone(), CHAIN).unwrap()
}

#[test]
fn what_is_appended_is_found_again() {
    let disk = FaultyDisk::new(1);
    let (mut store, opened) = open(&disk);
    assert_eq!((opened.newest.len(), opened.dropped_bytes), (0, 0));
    store.append(&[record(1, 5), record(2, 7)]).unwrap();
    store.append(&[record(1, 6)]).unwrap();
    assert!(store.is_unsynced());
    store.sync().unwrap();
    assert!(!store.is_unsynced());
    let (_, opened) = open(&disk);
    assert_eq!(opened.newest, [record(1, 6), record(2, 7)]);
}

#[test]
fn a_torn_tail_is_dropped_and_counted() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5), record(1, 6)]).unwrap();
    disk.world().file(LOG_FILE).truncate(2 * RECORD_BYTES + 100);
    let (_, opened) = open(&disk);
    assert_eq!((opened.newest, opened.dropped_bytes), (vec![record(1, 5)], 100));
    let (_, opened) = open(&disk);
    assert_eq!(opened.dropped_bytes, 0, "it is told once");
}

/// One damaged byte costs one record: those behind it were confirmed, and are money.
#[test]
fn damage_costs_only_the_record_that_it_hit_and_the_file_is_kept() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5), record(2, 7), record(3, 9)]).unwrap();
    store.sync().unwrap();
    disk.world().file(LOG_FILE)[RECORD_BYTES + 44] ^= 0xff;
    let damaged = disk.world().file(LOG_FILE).clone();
    let (_, opened) = open(&disk);
    assert_eq!(opened.newest, [record(2, 7), record(3, 9)]);
    assert_eq!((opened.lost_records, opened.dropped_bytes), (1, 0));
    assert_eq!(opened.copy.as_deref(), Some(LOG_FILE_DAMAGED));
    assert_eq!(*disk.world().file(LOG_FILE_DAMAGED), damaged);
    // It is told once, and a later damage does not take the first copy's place.
    let (mut store, opened) = open(&disk);
    assert_eq!((opened.newest.len(), opened.lost_records, opened.copy), (2, 0, None));
    store.append(&[record(4, 1)]).unwrap();
    store.sync().unwrap();
    disk.world().file(LOG_FILE)[2 * RECORD_BYTES] ^= 1;
    let (_, opened) = open(&disk);
    assert_eq!(opened.newest, [record(2, 7), record(4, 1)]);
    assert_eq!(opened.copy, Some(format!("{LOG_FILE_DAMAGED}.2")));
    assert_eq!(*disk.world().file(LOG_FILE_DAMAGED), damaged);
}

#[test]
fn damage_is_not_written_over_where_no_copy_can_be_kept() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5), record(2, 7)]).unwrap();
    store.sync().unwrap();
    disk.world().file(LOG_FILE)[RECORD_BYTES + 3] ^= 1;
    let before = disk.world().file(LOG_FILE).clone();
    disk.world().space_bytes = 0;
    let refused = Store::open(disk.clone(), CHAIN).unwrap_err();
    assert!(matches!(refused, LogOpenError::Copy(_)), "{refused}");
    assert_eq!(*disk.world().file(LOG_FILE), before);
    disk.world().space_bytes = usize::MAX;
    assert_eq!(open(&disk).1.newest, [record(2, 7)]);
}

#[test]
fn a_full_disk_loses_nothing_that_was_accepted_and_the_log_goes_on_when_there_is_room() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5)]).unwrap();
    disk.world().space_bytes = 100; // Less than a record: the write is cut short.
    assert!(matches!(store.append(&[record(1, 6)]), Err(LogError::Write(_))));
    assert!(matches!(store.append(&[record(2, 1)]), Err(LogError::Broken)));
    assert!(matches!(store.sync(), Err(LogError::Broken)));
    assert!(matches!(store.rewrite(), Err(LogError::Rewrite(_))));
    assert!(store.is_broken());
    disk.world().space_bytes = usize::MAX;
    store.rewrite().unwrap();
    assert!(!store.is_broken() && !store.is_unsynced());
    let (_, opened) = open(&disk);
    assert_eq!(opened.newest, [record(1, 6), record(2, 1)]);
}

#[test]
fn a_file_whose_sync_has_failed_is_not_used_again() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5)]).unwrap();
    disk.world().is_sync_failing = true;
    assert!(matches!(store.sync(), Err(LogError::Sync(_))));
    disk.world().is_sync_failing = false;
    assert!(matches!(store.sync(), Err(LogError::Broken)), "that would be a lie");
    store.rewrite().unwrap();
    disk.reboot();
    assert_eq!(open(&disk).1.newest, [record(1, 5)]);
}

#[test]
fn a_log_that_cannot_be_written_is_read_and_begins_broken() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5)]).unwrap();
    disk.world().space_bytes = 0;
    let (store, opened) = open(&disk);
    assert_eq!(opened.newest, [record(1, 5)]);
    assert!(opened.failure.is_some() && store.is_broken());
}

#[test]
fn a_file_of_old_vouchers_shrinks_to_the_newest_of_each_lane() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    let mut cumulative = 0;
    while !store.wants_compaction() {
        cumulative += 1;
        store.append(&[record(cumulative as u32 % 3, cumulative)]).unwrap();
        if store.room() == 0 {
            store.sync().unwrap();
        }
    }
    assert!(disk.world().file(LOG_FILE).len() as u64 > COMPACT_BYTES_MIN);
    // A rewriting that fails for lack of space costs nothing: the old file still serves.
    disk.world().space_bytes = 700;
    assert!(matches!(store.rewrite(), Err(LogError::Rewrite(_))));
    assert!(!store.is_broken() && !store.wants_compaction());
    disk.world().space_bytes = usize::MAX;
    store.rewrite().unwrap();
    assert_eq!(disk.world().file(LOG_FILE).len(), 4 * RECORD_BYTES);
    let newest: Vec<_> = (cumulative - 2..=cumulative).collect();
    let mut found: Vec<_> =
        open(&disk).1.newest.iter().map(|record| record.voucher.voucher.nonce).collect();
    found.sort_unstable();
    assert_eq!(found, newest);
}

#[test]
fn a_forgotten_channel_leaves_the_file_when_it_is_written_anew() {
    let disk = FaultyDisk::new(1);
    let (mut store, _) = open(&disk);
    store.append(&[record(1, 5)]).unwrap();
    store.forget(&record(1, 5).lane().channel);
    store.rewrite().unwrap();
    assert!(!disk.world().names().contains_key(LOG_FILE_NEXT));
    assert_eq!(open(&disk).1.newest, []);
}

/// One life of the process: random work until the power fails. Adds to `safe` what was confirmed
/// as synced, to `written` what was ever handed over.
fn live(
    disk: &FaultyDisk,
    rng: &mut StdRng,
    safe: &mut BTreeMap<u32, u64>,
    written: &mut BTreeMap<u32, u64>,
) -> Result<(), TestCaseError> {
    let (mut store, opened) = match Store::open(disk.clone(), CHAIN) {
        Ok(open) => open,
        Err(error) => return Err(TestCaseError::fail(format!("refused after a crash: {error}"))),
    };
    let found: BTreeMap<u32, u64> = (opened.newest.iter())
        .map(|record| (record.lane().lane, record.voucher.voucher.nonce))
        .collect();
    for (lane, cumulative) in &*safe {
        prop_assert!(found.get(lane) >= Some(cumulative), "lane {} lost {}", lane, cumulative);
    }
    for (lane, cumulative) in &found {
        prop_assert!(written.get(lane) >= Some(cumulative), "lane {} was invented", lane);
    }
    // What was never confirmed and is gone, was never.
    *written = found.clone();
    if opened.failure.is_none() {
        // What was found is durable now, though nobody had been told before.
        safe.extend(&found);
    }
    {
        let mut world = disk.world();
        world.operations_left = Some(rng.random_range(0..120));
        world.fault_probability = if rng.random_bool(0.5) { 0.05 } else { 0.0 };
    }
    while disk.world().operations_left != Some(0) {
        match rng.random_range(0..10) {
            0..6 => {
                let count = rng.random_range(1..=store.room().clamp(1, 12));
                let batch: Vec<_> = (0..count)
                    .map(|_| {
                        let lane = rng.random_range(0..4);
                        let next = written.get(&lane).copied().unwrap_or(0) + 1;
                        written.insert(lane, next);
                        record(lane, next)
                    })
                    .collect();
                if store.room() < batch.len() {
                    break;
                }
                let _ = store.append(&batch);
            }
            6..9 => {
                if store.sync().is_ok() {
                    safe.extend(written.iter());
                }
            }
            _ => {
                if store.rewrite().is_ok() {
                    safe.extend(written.iter());
                }
            }
        }
        if store.room() == 0 && store.sync().is_ok() {
            safe.extend(written.iter());
        }
    }
    disk.reboot();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// R18 counts on it: what was confirmed as synced is found again, whatever failed and whenever
    /// the power did; nothing is found that was not written.
    #[test]
    fn what_was_confirmed_survives_any_crash(seed in any::<u64>()) {
        let disk = FaultyDisk::new(seed);
        let mut rng = StdRng::seed_from_u64(seed ^ 1);
        let (mut safe, mut written) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..4 {
            live(&disk, &mut rng, &mut safe, &mut written)?;
        }
        live(&disk, &mut rng, &mut safe, &mut written)?;
    }
}

/// A bound that could not fail proves nothing: a disk that forgets what it said was synced is
/// found out by the same check.
#[test]
fn the_check_of_crashes_finds_a_disk_that_forgets() {
    let is_found = (0..50).any(|seed| {
        let disk = FaultyDisk::new(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut safe, mut written) = (BTreeMap::new(), BTreeMap::new());
        live(&disk, &mut rng, &mut safe, &mut written).unwrap();
        let mut world = disk.world();
        if let Some(&at) = world.names().get(LOG_FILE) {
            let file = &mut world.files[at];
            let cut = file.bytes.len().saturating_sub(UNSYNCED_BYTES_MAX / 4).max(RECORD_BYTES);
            file.bytes.truncate(cut);
        }
        drop(world);
        live(&disk, &mut rng, &mut safe, &mut written).is_err()
    });
    assert!(is_found);
}
