//! What all pools of one chain share: caps, what was spent today, relays that took and sent nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use chain_types::{AccountId, Balance, StreamId, UNITS_PER_SUT};
use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};

const DAY_MS: u64 = 24 * 3_600_000;
/// Days whose sums are kept: today's, and yesterday's for people who look back.
const DAYS_KEPT: u64 = 2;
/// First pause after a relay took money and sent nothing; each further time twice as long.
const BACK_OFF_FIRST_MS: u64 = 5_000;
/// Longest pause.
const BACK_OFF_MAX_MS: u64 = 3_600_000;

/// Most that is signed on one day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// For one stream.
    pub per_stream: Balance,
    /// For all of them.
    pub per_day: Balance,
}

impl Default for Caps {
    /// 20 SUT for a stream, 50 SUT a day.
    fn default() -> Self {
        let sut = |count: u64| Balance::of(count * UNITS_PER_SUT as u64);
        Self { per_stream: sut(20), per_day: sut(50) }
    }
}

/// What ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomLimit {
    /// The pool's deposit.
    Pool,
    /// The cap for one stream on one day.
    StreamCap,
    /// The cap for one day.
    DayCap,
}

impl RoomLimit {
    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Pool => {
                "the pool is used up: put more into it with `sutantra-node wallet top-up`"
            }
            Self::StreamCap => {
                "today's cap for this stream is reached: raise it with `sutantra-node wallet caps --per-stream SUT`"
            }
            Self::DayCap => {
                "today's cap is reached: raise it with `sutantra-node wallet caps --per-day SUT`"
            }
        }
    }
}

/// How much more may be signed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So much.
    pub amount: Balance,
    /// And what stands in the way of more.
    pub limit: RoomLimit,
}

impl Room {
    /// The smaller of both.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.amount < self.amount { other } else { self }
    }
}

/// A relay that is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// Times in a row that it took money and sent nothing.
    pub failures: u32,
    /// Until then, unix ms.
    pub until_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Form {
    #[serde(default)]
    caps: Caps,
    /// Day since 1970, stream, units.
    #[serde(default)]
    spent: BTreeMap<u64, BTreeMap<StreamId, Balance>>,
    #[serde(default)]
    relays: BTreeMap<AccountId, BackOff>,
}

impl Form {
    fn spent(&self, day: u64) -> Balance {
        self.spent.get(&day).into_iter().flat_map(BTreeMap::values).copied().sum()
    }

    fn room(&self, day: u64, stream: &StreamId) -> Room {
        let of_stream = self.spent.get(&day).and_then(|day| day.get(stream)).copied();
        let of_stream = of_stream.unwrap_or(Balance::ZERO);
        let Caps { per_stream, per_day } = self.caps;
        let stream =
            Room { amount: per_stream.saturating_sub(of_stream), limit: RoomLimit::StreamCap };
        stream
            .min(Room { amount: per_day.saturating_sub(self.spent(day)), limit: RoomLimit::DayCap })
    }
}

/// `ledger.json` of one chain. Every call reads and writes it under its lock: several programs may
/// watch at once, from a pool each.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(crate) fn at(dir: &Path) -> Self {
        Self { path: dir.join("ledger.json") }
    }

    fn locked(&self) -> Result<(File, Form), FileError> {
        let lock_path = self.path.with_extension("lock");
        let lock = file::lock_file(&lock_path)?;
        lock.lock().map_err(|error| FileError::Io { path: lock_path, error })?;
        let form = match file::read(&self.path)? {
            None => Form::default(),
            Some(text) => serde_json::from_str(&text).map_err(|error| FileError::Damaged {
                path: self.path.clone(),
                reason: format!("{error}; remove it to begin today's sums anew"),
            })?,
        };
        Ok((lock, form))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Form) -> R) -> Result<R, FileError> {
        let (_lock, mut form) = self.locked()?;
        let result = change(&mut form);
        let text = serde_json::to_string(&form).expect("plain fields have a JSON form");
        file::replace(&self.path, &text)?;
        Ok(result)
    }

    /// The caps.
    ///
    /// # Errors
    /// The file.
    pub fn caps(&self) -> Result<Caps, FileError> {
        Ok(self.locked()?.1.caps)
    }

    /// New caps, from now on.
    ///
    /// # Errors
    /// The file.
    pub fn set_caps(&self, caps: Caps) -> Result<(), FileError> {
        self.change(|form| form.caps = caps)
    }

    /// What was signed for today, in all.
    ///
    /// # Errors
    /// The file.
    pub fn spent_today(&self, now_ms: u64) -> Result<Balance, FileError> {
        Ok(self.locked()?.1.spent(now_ms / DAY_MS))
    }

    /// What the caps leave for a stream.
    ///
    /// # Errors
    /// The file.
    pub fn room(&self, now_ms: u64, stream: &StreamId) -> Result<Room, FileError> {
        Ok(self.locked()?.1.room(now_ms / DAY_MS, stream))
    }

    /// Notes what is about to be signed; on the disk when this returns. The inner error: a cap.
    pub(crate) fn spend(
        &self,
        now_ms: u64,
        stream: &StreamId,
        amount: Balance,
    ) -> Result<Result<(), RoomLimit>, FileError> {
        let day = now_ms / DAY_MS;
        self.change(|form| {
            let room = form.room(day, stream);
            if amount > room.amount {
                return Err(room.limit);
            }
            form.spent.retain(|kept, _| kept.saturating_add(DAYS_KEPT) > day);
            let sum = form.spent.entry(day).or_default().entry(*stream).or_default();
            *sum = sum.checked_add(amount).expect("a sum below its cap is an amount");
            Ok(())
        })
    }

    /// Whether a relay is left alone now.
    ///
    /// # Errors
    /// The file.
    pub fn back_off(&self, relay: &AccountId, now_ms: u64) -> Result<Option<BackOff>, FileError> {
        let known = self.locked()?.1.relays.get(relay).copied();
        Ok(known.filter(|back_off| now_ms < back_off.until_ms))
    }

    /// A relay took money and sent nothing: it is left alone, each time twice as long.
    ///
    /// # Errors
    /// The file.
    pub fn note_nothing_sent(&self, relay: &AccountId, now_ms: u64) -> Result<BackOff, FileError> {
        self.change(|form| {
            let failures = form.relays.get(relay).map_or(0, |known| known.failures);
            let factor = 1_u64.checked_shl(failures).unwrap_or(u64::MAX);
            let pause_ms = BACK_OFF_FIRST_MS.saturating_mul(factor).min(BACK_OFF_MAX_MS);
            let until_ms = now_ms.saturating_add(pause_ms);
            let back_off = BackOff { failures: failures.saturating_add(1), until_ms };
            form.relays.insert(*relay, back_off);
            back_off
        })
    }

    /// A relay sent something: what was held against it is forgotten.
    ///
    /// # Errors
    /// The file.
    pub fn note_served(&self, relay: &AccountId) -> Result<(), FileError> {
        if self.locked()?.1.relays.contains_key(relay) {
            self.change(|form| form.relays.remove(relay))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const STREAM: StreamId = StreamId([3; 32]);

    #[test]
    fn caps_hold_for_a_stream_and_for_a_day_and_end_with_it() {
        let dir = TempDir::new().unwrap();
        let ledger = Ledger::at(dir.path());
        assert_eq!(ledger.caps().expect("no file yet"), Caps::default());
        let caps = Caps { per_stream: Balance::of(10), per_day: Balance::of(15) };
        ledger.set_caps(caps).expect("written");
        let spend = |day: u64, stream: u8, amount: u64| {
            let now_ms = day * DAY_MS + 5;
            ledger.spend(now_ms, &StreamId([stream; 32]), Balance::of(amount)).expect("a disk")
        };
        assert_eq!(spend(100, 3, 10), Ok(()));
        assert_eq!(spend(100, 3, 1), Err(RoomLimit::StreamCap));
        assert_eq!(spend(100, 4, 6), Err(RoomLimit::DayCap));
        assert_eq!(spend(100, 4, 5), Ok(()));
        assert_eq!(ledger.spent_today(100 * DAY_MS).expect("read"), Balance::of(15));
        assert_eq!(spend(101, 3, 10), Ok(()));
        assert_eq!(spend(110, 3, 1), Ok(()));
        let room = ledger.room(110 * DAY_MS, &STREAM).expect("read");
        assert_eq!(room, Room { amount: Balance::of(9), limit: RoomLimit::StreamCap });
        assert_eq!(ledger.spent_today(100 * DAY_MS).expect("read"), Balance::ZERO);
    }

    #[test]
    fn a_relay_that_sends_nothing_is_left_alone_twice_as_long_each_time() {
        let dir = TempDir::new().unwrap();
        let ledger = Ledger::at(dir.path());
        let relay = AccountId([8; 32]);
        let pauses: Vec<u64> = (0..12)
            .map(|_| ledger.note_nothing_sent(&relay, 1_000).expect("a disk").until_ms - 1_000)
            .collect();
        assert_eq!(pauses[..3], [5_000, 10_000, 20_000]);
        assert_eq!(pauses[11], BACK_OFF_MAX_MS);
        let again = Ledger::at(dir.path());
        assert_eq!(
            again.back_off(&relay, 2_000).expect("read").map(|known| known.failures),
            Some(12)
        );
        assert_eq!(again.back_off(&relay, 1_000 + BACK_OFF_MAX_MS).expect("read"), None);
        assert_eq!(again.back_off(&AccountId([9; 32]), 0).expect("read"), None);
        again.note_served(&relay).expect("written");
        assert_eq!(ledger.back_off(&relay, 2_000).expect("read"), None);
    }
}
