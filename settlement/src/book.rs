//! The books: for each lane what was served, what was paid, and what of it is safely written.

use std::collections::{BTreeMap, BTreeSet};

use chain_types::{
    AccountId, Balance, ChannelId, LaneKey, SignedVoucher, StreamId, StreamMetadata, TIER_FULL,
    lane::{cost, lane_number},
};
use sfu::ports::SessionKey;

use crate::log::LogRecord;

/// One lane in the books. Kept across sessions, until its channel is finalized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Of the stream's terms.
    pub terms_version: u32,
    /// Units per second; `None` until the chain has said it.
    pub rate: Option<u64>,
    /// Time served, ms.
    pub served_ms: u64,
    /// RTP payload sent, bytes.
    pub sent_bytes: u64,
    /// The highest voucher that was accepted, in memory.
    pub newest: Option<SignedVoucher>,
    /// What of it was handed to the log, and may therefore be acknowledged.
    pub handed: Balance,
    /// The highest voucher that is on the disk, and may therefore be redeemed.
    pub synced: Option<SignedVoucher>,
    /// Live sessions that it pays for.
    pub sessions: BTreeSet<SessionKey>,
    /// The newest redeem: up to which amount, and when it was asked for, ns.
    pub redeeming: Option<(Balance, u64)>,
    /// Since when something of it is neither redeemed nor on its way, ns.
    pub unredeemed_since_ns: Option<u64>,
    /// Served time that the log has with the newest voucher, ms.
    pub logged_served_ms: u64,
}

impl Lane {
    /// A lane on which nothing happened.
    pub fn new(terms_version: u32, rate: Option<u64>) -> Self {
        Self {
            terms_version,
            rate,
            served_ms: 0,
            sent_bytes: 0,
            newest: None,
            handed: Balance::ZERO,
            synced: None,
            sessions: BTreeSet::new(),
            redeeming: None,
            unredeemed_since_ns: None,
            logged_served_ms: 0,
        }
    }

    /// ⌊rate · served / 1000⌋.
    pub fn owed(&self) -> Balance {
        self.rate.map_or(Balance::ZERO, |rate| cost(rate, self.served_ms))
    }

    /// The cumulative amount that was paid.
    pub fn paid(&self) -> Balance {
        self.newest.map_or(Balance::ZERO, |newest| newest.voucher.cumulative)
    }

    /// What is owed beyond what was paid.
    pub fn arrears(&self) -> Balance {
        self.owed().saturating_sub(self.paid())
    }
}

/// What became of a voucher whose signature is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It raises the lane by so much.
    More(Balance),
    /// It is the newest that is known.
    Known,
    /// A higher one is known.
    Older,
}

/// All lanes of this relay.
#[derive(Debug, Clone, Default)]
pub struct Book {
    lanes: BTreeMap<LaneKey, Lane>,
    /// Records handed to the log that it has not synced yet, by sequence. Bounded by what the log
    /// takes before it says that it fails.
    waiting: BTreeMap<u64, SignedVoucher>,
    /// Lanes with a voucher or served time that the log refused.
    unlogged: BTreeSet<LaneKey>,
    next_sequence: u64,
}

impl Book {
    /// The books as a log kept them. Rates come with the chain ([`Book::set_rates`]).
    pub fn restore(records: impl IntoIterator<Item = LogRecord>) -> Self {
        let mut book = Self::default();
        for LogRecord { voucher: signed, served_ms } in records {
            let voucher = &signed.voucher;
            let lane = book
                .lanes
                .entry(voucher.lane_key())
                .or_insert_with(|| Lane::new(voucher.terms_version, None));
            if lane.paid() <= voucher.cumulative {
                lane.newest = Some(signed);
                lane.synced = Some(signed);
                lane.handed = voucher.cumulative;
                lane.sent_bytes = lane.sent_bytes.max(voucher.bytes);
            }
            lane.served_ms = lane.served_ms.max(served_ms);
            lane.logged_served_ms = lane.served_ms;
            // Since when is not known: long enough.
            lane.unredeemed_since_ns = Some(0);
        }
        book
    }

    /// A lane.
    pub fn get(&self, key: &LaneKey) -> Option<&Lane> {
        self.lanes.get(key)
    }

    /// A lane, to be changed.
    pub fn get_mut(&mut self, key: &LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(key)
    }

    /// A lane, made if there is none.
    pub fn lane(&mut self, key: LaneKey, terms_version: u32, rate: u64) -> &mut Lane {
        let lane = self.lanes.entry(key).or_insert_with(|| Lane::new(terms_version, Some(rate)));
        lane.rate.get_or_insert(rate);
        lane
    }

    /// All lanes, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&LaneKey, &Lane)> {
        self.lanes.iter()
    }

    /// All lanes of a channel.
    pub fn of_channel(&self, channel: &ChannelId) -> impl Iterator<Item = (&LaneKey, &Lane)> {
        self.lanes.range(range_of(channel))
    }

    /// What a channel owes beyond what it paid, on all its lanes.
    pub fn arrears(&self, channel: &ChannelId) -> Balance {
        let add = |sum: Balance, part| sum.checked_add(part).unwrap_or(Balance::MAX);
        self.of_channel(channel).map(|(_, lane)| lane.arrears()).fold(Balance::ZERO, add)
    }

    /// Sessions of all lanes of a channel.
    pub fn sessions(&self, channel: &ChannelId) -> BTreeSet<SessionKey> {
        self.of_channel(channel).flat_map(|(_, lane)| lane.sessions.iter().copied()).collect()
    }

    /// Takes a voucher whose signature is right; `lane` exists.
    pub fn take(&mut self, signed: SignedVoucher, now_ns: u64) -> Taken {
        let key = signed.voucher.lane_key();
        let lane =
            self.lanes.entry(key).or_insert_with(|| Lane::new(signed.voucher.terms_version, None));
        let known = lane.paid();
        let more = signed.voucher.cumulative.saturating_sub(known);
        if more.is_zero() {
            return if signed.voucher.cumulative == known { Taken::Known } else { Taken::Older };
        }
        lane.newest = Some(signed);
        lane.unredeemed_since_ns.get_or_insert(now_ns);
        Taken::More(more)
    }

    /// What the log shall write of a lane now: its newest voucher and its served time. `None`: there
    /// is nothing to write.
    pub fn hand_over(&mut self, key: &LaneKey) -> Option<(u64, LogRecord)> {
        let lane = self.lanes.get_mut(key)?;
        let voucher = lane.newest?;
        let is_written =
            lane.handed == voucher.voucher.cumulative && lane.logged_served_ms == lane.served_ms;
        if is_written {
            return None;
        }
        lane.handed = voucher.voucher.cumulative;
        lane.logged_served_ms = lane.served_ms;
        self.next_sequence += 1;
        self.waiting.insert(self.next_sequence, voucher);
        self.unlogged.remove(key);
        Some((self.next_sequence, LogRecord { voucher, served_ms: lane.served_ms }))
    }

    /// The log takes nothing now: the lane waits in memory.
    pub fn hold_back(&mut self, key: LaneKey) {
        self.unlogged.insert(key);
    }

    /// Everything that the log has not synced has to be written again.
    pub fn distrust_log(&mut self) {
        for voucher in std::mem::take(&mut self.waiting).into_values() {
            let key = voucher.voucher.lane_key();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.handed = lane.synced.map_or(Balance::ZERO, |synced| synced.voucher.cumulative);
                lane.logged_served_ms = 0;
                self.unlogged.insert(key);
            }
        }
    }

    /// Lanes that wait for the log.
    pub fn unlogged(&self) -> Vec<LaneKey> {
        self.unlogged.iter().copied().collect()
    }

    /// Everything up to `sequence` is on the disk.
    pub fn synced(&mut self, sequence: u64) {
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= sequence
        {
            let signed = first.remove();
            if let Some(lane) = self.lanes.get_mut(&signed.voucher.lane_key()) {
                let is_higher = lane
                    .synced
                    .is_none_or(|old| old.voucher.cumulative <= signed.voucher.cumulative);
                if is_higher {
                    lane.synced = Some(signed);
                }
            }
        }
    }

    /// Fills in the rates of lanes that a log restored, from what the chain says.
    pub fn set_rates<'a>(
        &mut self,
        relay_key: &AccountId,
        stream: impl Fn(&StreamId) -> Option<&'a StreamMetadata>,
    ) {
        for (key, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.rate.is_none()) {
            let Some(stream) = stream(&key.stream) else { continue };
            let Some(terms) = stream.terms_of(lane.terms_version) else { continue };
            // The tier is part of the number only; a lane of another relay key counts as full.
            let is_tier =
                |tier: &u8| lane_number(relay_key, &stream.id, terms.version, *tier) == key.lane;
            let tier = (0..=TIER_FULL).find(is_tier).unwrap_or(TIER_FULL);
            lane.rate = terms.rate(tier);
        }
    }

    /// Forgets the lanes of a finalized channel: nothing can come of them.
    pub fn forget(&mut self, channel: &ChannelId) {
        let keys: Vec<LaneKey> = self
            .lanes
            .range(range_of(channel))
            .filter(|(_, lane)| lane.sessions.is_empty())
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.lanes.remove(&key);
            self.unlogged.remove(&key);
        }
    }
}

fn range_of(channel: &ChannelId) -> std::ops::RangeInclusive<LaneKey> {
    let key = |byte, lane| LaneKey {
        channel: *channel,
        payee: AccountId([byte; 32]),
        stream: StreamId([byte; 32]),
        lane,
    };
    key(0, 0)..=key(0xff, u32::MAX)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
