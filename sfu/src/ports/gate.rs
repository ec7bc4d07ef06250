//! Gate commands: who may be sent to, decided elsewhere, obeyed by the shards.
//!
//! One producer (the thread that decides) and one ring for each shard. When a ring is full the
//! producer keeps the newest command of each slot and hands it over later: it never waits, and a
//! full queue never opens a gate.

use std::collections::BTreeMap;
use std::time::Instant;

use super::SlotId;
use super::ring::{Consumer, Producer};
use crate::io::Waker;

/// The state a slot's gate shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub open: bool,
    /// Highest layer to forward; 255 for all.
    pub layer_cap: u8,
    /// When the gate closes by itself; `None`: not before another command.
    pub valid_until: Option<Instant>,
}

impl Gate {
    pub const CLOSED: Gate = Gate { open: false, layer_cap: 0, valid_until: None };
    pub const OPEN: Gate = Gate { open: true, layer_cap: u8::MAX, valid_until: None };
}

/// A gate command as it crosses the ring, and, big-endian in this order, a process boundary:
/// 32 bytes {op u8, flags u8, reason u16, slot u32, generation u32, layer_cap u8, 3 zeros,
/// valid_until u64, sequence u64}.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct GateCmd {
    pub op: GateOp,
    pub flags: u8,
    /// For the notice to the peer; means nothing to the shard.
    pub reason: u16,
    pub slot: u32,
    pub generation: u32,
    pub layer_cap: u8,
    pub reserved: [u8; 3],
    /// Nanoseconds of the monotonic clock; 0 for "not before another command".
    pub valid_until: u64,
    /// Counts the commands to one shard.
    pub sequence: u64,
}

const _: () = assert!(size_of::<GateCmd>() == GateCmd::BYTES);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum GateOp {
    #[default]
    Close = 0,
    Open = 1,
}

/// Why 32 bytes are no gate command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateCmdError {
    #[error("a gate command has {want} bytes, got {0}", want = GateCmd::BYTES)]
    Length(usize),
    #[error("unknown operation {0}; 0 closes, 1 opens")]
    Operation(u8),
    #[error("reserved bytes must be zero")]
    Reserved,
}

impl GateCmd {
    pub const BYTES: usize = 32;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = self.op as u8;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&self.reason.to_be_bytes());
        out[4..8].copy_from_slice(&self.slot.to_be_bytes());
        out[8..12].copy_from_slice(&self.generation.to_be_bytes());
        out[12] = self.layer_cap;
        out[16..24].copy_from_slice(&self.valid_until.to_be_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<GateCmd, GateCmdError> {
        let bytes: &[u8; Self::BYTES] =
            bytes.try_into().map_err(|_| GateCmdError::Length(bytes.len()))?;
        let op = match bytes[0] {
            0 => GateOp::Close,
            1 => GateOp::Open,
            other => return Err(GateCmdError::Operation(other)),
        };
        if bytes[1] != 0 || bytes[13..16] != [0; 3] {
            return Err(GateCmdError::Reserved);
        }
        let u32_at = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        Ok(GateCmd {
            op,
            flags: 0,
            reason: u16::from_be_bytes([bytes[2], bytes[3]]),
            slot: u32_at(4),
            generation: u32_at(8),
            layer_cap: bytes[12],
            reserved: [0; 3],
            valid_until: u64_at(16),
            sequence: u64_at(24),
        })
    }
}

/// Turns [`Instant`]s into the nanoseconds of a [`GateCmd`] and back.
///
/// On Linux both are `CLOCK_MONOTONIC`, so another process on the host means the same moment.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    instant: Instant,
    nanos: u64,
}

impl MonotonicClock {
    /// `nanos` is what `CLOCK_MONOTONIC` showed at `instant`.
    pub fn new(instant: Instant, nanos: u64) -> MonotonicClock {
        MonotonicClock { instant, nanos }
    }

    /// Never 0, which stands for "no deadline".
    pub fn nanos(&self, at: Instant) -> u64 {
        let nanos = match at.checked_duration_since(self.instant) {
            Some(after) => {
                self.nanos.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
            }
            None => {
                let before = self.instant.duration_since(at).as_nanos();
                self.nanos.saturating_sub(u64::try_from(before).unwrap_or(u64::MAX))
            }
        };
        nanos.max(1)
    }

    /// A moment too far off for an [`Instant`] is as good as a year from now.
    pub fn instant(&self, nanos: u64) -> Instant {
        const YEAR_NANOS: u64 = 365 * 86_400 * 1_000_000_000;
        use std::time::Duration;
        if nanos >= self.nanos {
            self.instant + Duration::from_nanos((nanos - self.nanos).min(YEAR_NANOS))
        } else {
            let before = Duration::from_nanos(self.nanos - nanos);
            self.instant.checked_sub(before).unwrap_or(self.instant)
        }
    }
}

/// One shard's lane of a [`GateSender`].
#[derive(Debug)]
struct Lane {
    ring: Producer<GateCmd>,
    waker: Waker,
    sequence: u64,
    /// Commands that found the ring full, newest per slot.
    kept: BTreeMap<u32, GateCmd>,
}

/// The deciding thread's end of all gate rings.
#[derive(Debug)]
pub struct GateSender {
    lanes: Vec<Lane>,
    clock: MonotonicClock,
}

impl GateSender {
    pub(crate) fn new(lanes: Vec<(Producer<GateCmd>, Waker)>, clock: MonotonicClock) -> GateSender {
        let lane = |(ring, waker)| Lane { ring, waker, sequence: 0, kept: BTreeMap::new() };
        GateSender { lanes: lanes.into_iter().map(lane).collect(), clock }
    }

    /// Sets the gate of `slot`. Never blocks; a slot that does not exist any more ignores it.
    pub fn set(&mut self, slot: SlotId, gate: Gate) {
        let command = GateCmd {
            op: if gate.open { GateOp::Open } else { GateOp::Close },
            slot: slot.index,
            generation: slot.generation,
            layer_cap: gate.layer_cap,
            valid_until: gate.valid_until.map_or(0, |at| self.clock.nanos(at)),
            ..GateCmd::default()
        };
        self.send(slot.shard, command);
    }

    /// Hands `command` to `shard` as it is, but for its sequence. An unknown shard is ignored.
    pub fn send(&mut self, shard: u16, command: GateCmd) {
        let Some(lane) = self.lanes.get_mut(usize::from(shard)) else { return };
        lane.kept.insert(command.slot, command);
        lane.hand_over();
    }

    /// Tries again what found a full ring. To be called every few milliseconds while
    /// [`GateSender::backlog`] is not 0.
    pub fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.hand_over();
        }
    }

    /// Commands that wait for room.
    pub fn backlog(&self) -> usize {
        self.lanes.iter().map(|lane| lane.kept.len()).sum()
    }

    pub fn clock(&self) -> MonotonicClock {
        self.clock
    }
}

impl Lane {
    fn hand_over(&mut self) {
        while let Some(entry) = self.kept.first_entry() {
            let command = GateCmd { sequence: self.sequence + 1, ..*entry.get() };
            if self.ring.push(command).is_err() {
                break;
            }
            self.sequence += 1;
            entry.remove();
        }
        self.waker.wake();
    }
}

/// A shard's end of its gate ring.
pub type GateReceiver = Consumer<GateCmd>;

#[cfg(test)]
mod tests {
    use super::super::ring::ring;
    use super::*;
    use std::time::Duration;

    fn slot(index: u32) -> SlotId {
        SlotId { shard: 0, index, generation: 7 }
    }

    fn sender(capacity: usize) -> (GateSender, GateReceiver) {
        let (producer, consumer) = ring(capacity);
        let waker = Waker::new().expect("an eventfd");
        let clock = MonotonicClock::new(Instant::now(), 1_000_000_000_000);
        (GateSender::new(vec![(producer, waker)], clock), consumer)
    }

    /// R108
    #[test]
    fn a_full_ring_keeps_the_newest_state_of_each_slot() {
        let (mut sender, mut receiver) = sender(2);
        sender.set(slot(1), Gate::OPEN);
        sender.set(slot(2), Gate::OPEN);
        sender.set(slot(3), Gate::OPEN);
        sender.set(slot(3), Gate::CLOSED);
        assert_eq!(sender.backlog(), 1);
        assert_eq!(receiver.pop().map(|command| command.slot), Some(1));
        assert_eq!(receiver.pop().map(|command| command.slot), Some(2));
        sender.flush();
        let last = receiver.pop().expect("it was kept");
        assert_eq!((last.slot, last.op, last.sequence), (3, GateOp::Close, 3));
        assert_eq!((receiver.pop(), sender.backlog()), (None, 0));
    }

    #[test]
    fn a_command_to_an_unknown_shard_is_ignored() {
        let (mut sender, mut receiver) = sender(2);
        sender.set(SlotId { shard: 9, ..slot(1) }, Gate::OPEN);
        assert_eq!(receiver.pop(), None);
    }

    #[test]
    fn a_malformed_command_is_refused_by_name() {
        let good = GateCmd {
            slot: 5,
            generation: 6,
            layer_cap: 2,
            valid_until: 9,
            sequence: 1,
            ..GateCmd::default()
        };
        let bytes = good.encode();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            GateCmd::decode(&bytes)
        };
        assert_eq!(GateCmd::decode(&bytes), Ok(good));
        assert_eq!(GateCmd::decode(&bytes[..31]), Err(GateCmdError::Length(31)));
        assert_eq!(with(0, 2), Err(GateCmdError::Operation(2)));
        assert_eq!(with(14, 1), Err(GateCmdError::Reserved));
        assert_eq!(with(1, 1), Err(GateCmdError::Reserved));
    }

    #[test]
    fn deadlines_survive_the_way_through_nanoseconds() {
        let start = Instant::now();
        let clock = MonotonicClock::new(start, 5_000_000_000);
        for at in [start, start + Duration::from_nanos(1), start + Duration::from_secs(3600)] {
            assert_eq!(clock.instant(clock.nanos(at)), at);
        }
        assert!(clock.instant(u64::MAX) > start + Duration::from_secs(86_400));
        assert!(clock.instant(1) <= start, "a deadline of long ago is over");
    }
}
