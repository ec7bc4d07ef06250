//! The chain's records at one height, as MONEY reads them; kept up block by block.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chain_types::{
    AccessRecord, AccountId, Balance, BlockDelta, Channel, ChannelId, LaneKey, LaneRecord, Params,
    PaymentStatus, RelayRecord, StateChange, StreamId, StreamMetadata, StreamTerms,
};

use crate::ports::Snapshot;

/// All records of one height. A clone is cheap and never changes: readers keep an
/// `Arc<BlockchainState>`, the writer goes on by [`Arc::make_mut`] and copies only the tables that a
/// block touches, and only while somebody still reads the old ones.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockchainState {
    height: u64,
    time_ms: u64,
    params: Arc<Params>,
    streams: Arc<BTreeMap<StreamId, Arc<StreamMetadata>>>,
    access: Arc<BTreeMap<(StreamId, AccountId), AccessRecord>>,
    channels: Arc<BTreeMap<ChannelId, Arc<Channel>>>,
    lanes: Arc<BTreeMap<LaneKey, LaneRecord>>,
    relays: Arc<BTreeMap<AccountId, Arc<RelayRecord>>>,
    /// (first height, stream) of terms that were set and do not hold yet.
    coming: Arc<BTreeSet<(u64, StreamId)>>,
}

/// The state cannot be made of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A chain has parameters from its genesis on.
    #[error("the snapshot of the chain has no parameters")]
    NoParams,
}

/// A block that is not the next one: what lies between is unknown, so follow the chain again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {got} came after block {have}: follow the chain again")]
pub struct Gap {
    /// Height of the state.
    pub have: u64,
    /// Height of the block.
    pub got: u64,
}

/// What a block changed, for whoever has to decide again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affected {
    /// The record of a stream, new or in any part other; what the next three say is said besides.
    Stream(StreamId),
    /// It has ended in this block.
    StreamEnded(StreamId),
    /// New terms were set: tell those who watch.
    TermsScheduled {
        /// Of which stream.
        stream: StreamId,
        /// The new version.
        version: u32,
        /// First height at which it holds.
        from_height: u64,
    },
    /// From this block's height on, other terms hold than at the height before.
    TermsInForce {
        /// Of which stream.
        stream: StreamId,
        /// The version that holds now.
        version: u32,
    },
    /// Every access record and token of an earlier epoch is void.
    Revoked {
        /// Of which stream.
        stream: StreamId,
        /// The epoch that counts now.
        rev_epoch: u32,
    },
    /// What the chain says about one viewer of one stream.
    Access {
        /// Which stream.
        stream: StreamId,
        /// Who.
        viewer: AccountId,
    },
    /// A channel: money, reserves, or [`Affected::ChannelClosing`] besides.
    Channel(ChannelId),
    /// Its close was requested, or it is closed, since this block.
    ChannelClosing(ChannelId),
    /// How far a lane was redeemed.
    Lane(LaneKey),
    /// What a relay says about itself.
    Relay(AccountId),
    /// Fees, windows and bounds.
    Params,
}

/// What the chain's record allows one viewer (R33).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessToken {
    /// First instant at which it counts no longer, unix ms.
    pub valid_until: u64,
    /// How the record says it is paid.
    pub payment_status: PaymentStatus,
    /// Highest layer, 255 = no cap.
    pub max_layer: u8,
}

impl AccessToken {
    /// Whether it lets in at `now_ms` of the local clock, unix ms.
    pub const fn is_valid(&self, now_ms: u64) -> bool {
        self.payment_status.is_current() && self.valid_until > now_ms
    }
}

/// A channel as one payee sees it at the height of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelStanding {
    /// It pays; the payee can be sure of so much.
    Open {
        /// Own reserve and what is free.
        available: Balance,
        /// What of it is the payee's own reserve.
        reserve: Balance,
    },
    /// It pays what it owes, but lasts too short for new debts: fewer than
    /// [`Params::channel_blocks_min`] blocks.
    Expiring {
        /// As above.
        available: Balance,
    },
    /// Its close was requested or it has expired: redeem now.
    Closing {
        /// As above.
        available: Balance,
    },
    /// It is finalized: nothing is in it.
    Closed,
    /// The chain knows no such channel.
    Unknown,
}

impl BlockchainState {
    /// The state that a snapshot describes.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn new(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let params = snapshot.records.iter().rev().find_map(|record| match record {
            StateChange::Params(params) => Some(Arc::new((**params).clone())),
            _ => None,
        });
        let mut state = Self {
            height: snapshot.height,
            time_ms: snapshot.time_ms,
            params: params.ok_or(SnapshotError::NoParams)?,
            streams: Arc::default(),
            access: Arc::default(),
            channels: Arc::default(),
            lanes: Arc::default(),
            relays: Arc::default(),
            coming: Arc::default(),
        };
        let mut affected = Vec::new();
        for record in &snapshot.records {
            state.change(record, &mut affected);
        }
        state.terms_come(&mut affected);
        Ok(state)
    }

    /// Goes on by one block; says what that changed, each thing at most once, in a fixed order.
    ///
    /// # Errors
    /// The block is not the next one; nothing was changed.
    pub fn apply(&mut self, delta: &BlockDelta) -> Result<Vec<Affected>, Gap> {
        if self.height.checked_add(1) != Some(delta.height) {
            return Err(Gap { have: self.height, got: delta.height });
        }
        self.height = delta.height;
        self.time_ms = delta.time_ms;
        let mut affected = Vec::new();
        for change in &delta.changes {
            self.change(change, &mut affected);
        }
        self.terms_come(&mut affected);
        affected.sort_unstable();
        affected.dedup();
        Ok(affected)
    }

    /// Whether a delta was applied before, so that a follower who begins again can pass over it.
    pub const fn has(&self, height: u64) -> bool {
        height <= self.height
    }

    fn change(&mut self, change: &StateChange, affected: &mut Vec<Affected>) {
        match change {
            // Balances are asked for when they are needed.
            StateChange::Account(..) => {}
            StateChange::Stream(stream) => self.change_stream(stream, affected),
            StateChange::Access { stream, viewer, record } => {
                set(Arc::make_mut(&mut self.access), (*stream, *viewer), *record);
                affected.push(Affected::Access { stream: *stream, viewer: *viewer });
            }
            StateChange::Channel(id, channel) => {
                let channels = Arc::make_mut(&mut self.channels);
                let old = channels.insert(*id, Arc::new((**channel).clone()));
                let is_ending =
                    |channel: &Channel| channel.close_requested.is_some() || channel.closed;
                affected.push(Affected::Channel(*id));
                if is_ending(channel) && !old.is_some_and(|old| is_ending(&old)) {
                    affected.push(Affected::ChannelClosing(*id));
                }
            }
            StateChange::Lane(lane, record) => {
                set(Arc::make_mut(&mut self.lanes), *lane, *record);
                affected.push(Affected::Lane(*lane));
            }
            StateChange::Relay(account, relay) => {
                let relays = Arc::make_mut(&mut self.relays);
                relays.insert(*account, Arc::new((**relay).clone()));
                affected.push(Affected::Relay(*account));
            }
            StateChange::Params(params) => {
                self.params = Arc::new((**params).clone());
                affected.push(Affected::Params);
            }
        }
    }

    fn change_stream(&mut self, new: &StreamMetadata, affected: &mut Vec<Affected>) {
        let id = new.id;
        let old = Arc::make_mut(&mut self.streams).insert(id, Arc::new(new.clone()));
        affected.push(Affected::Stream(id));
        let coming = Arc::make_mut(&mut self.coming);
        for terms in old.iter().flat_map(|old| &old.terms) {
            coming.remove(&(terms.from_height, id));
        }
        let height = self.height;
        // Those of this very height included: `terms_come` tells of them.
        let later = new.terms.iter().filter(|terms| terms.from_height >= height);
        coming.extend(later.map(|terms| (terms.from_height, id)));
        let Some(old) = old else { return };
        for terms in new.terms.iter().filter(|terms| old.terms_of(terms.version) != Some(*terms)) {
            affected.push(Affected::TermsScheduled {
                stream: id,
                version: terms.version,
                from_height: terms.from_height,
            });
        }
        if new.rev_epoch != old.rev_epoch {
            affected.push(Affected::Revoked { stream: id, rev_epoch: new.rev_epoch });
        }
        if new.ended.is_some() && old.ended.is_none() {
            affected.push(Affected::StreamEnded(id));
        }
    }

    /// Terms whose first height has come.
    fn terms_come(&mut self, affected: &mut Vec<Affected>) {
        let end = (self.height, StreamId([0xff; 32]));
        if self.coming.range(..=end).next().is_none() {
            return;
        }
        let coming = Arc::make_mut(&mut self.coming);
        let later = coming.split_off(&end);
        let mut due = std::mem::replace(coming, later);
        // `split_off` keeps its key on the later side.
        due.extend(coming.take(&end));
        for (_, stream) in due {
            if let Some(terms) = self.terms_at(&stream) {
                affected.push(Affected::TermsInForce { stream, version: terms.version });
            }
        }
    }

    /// Height of the newest block in it.
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// Its time, unix ms.
    pub const fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Fees, windows and bounds.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// A stream's record.
    pub fn stream(&self, stream: &StreamId) -> Option<&Arc<StreamMetadata>> {
        self.streams.get(stream)
    }

    /// All streams by id.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<StreamMetadata>> {
        self.streams.values()
    }

    /// The terms that hold for a stream now.
    pub fn terms_at(&self, stream: &StreamId) -> Option<&StreamTerms> {
        self.streams.get(stream)?.terms_at(self.height)
    }

    /// What the chain itself says about a viewer; `None`: nothing, or what it said is void because
    /// the stream has ended or its revocation epoch has moved on (R33).
    ///
    /// Whether it is over is for the reader's own clock to say ([`AccessToken::is_valid`]): a relay
    /// serves by its clock, and is not ready while that differs from the chain's by seconds.
    pub fn get_stream_access(&self, stream: &StreamId, viewer: &AccountId) -> Option<AccessToken> {
        let record = self.access.get(&(*stream, *viewer))?;
        let metadata = self.streams.get(stream)?;
        if metadata.ended.is_some() || record.rev_epoch != metadata.rev_epoch {
            return None;
        }
        Some(AccessToken {
            valid_until: record.valid_until,
            // A status that this program does not know opens nothing.
            payment_status: PaymentStatus::from_code(record.payment_status)
                .unwrap_or(PaymentStatus::None),
            max_layer: record.max_layer,
        })
    }

    /// A channel's record.
    pub fn channel(&self, channel: &ChannelId) -> Option<&Arc<Channel>> {
        self.channels.get(channel)
    }

    /// How a channel stands towards a payee.
    pub fn standing(&self, channel: &ChannelId, payee: &AccountId) -> ChannelStanding {
        let Some(record) = self.channels.get(channel) else { return ChannelStanding::Unknown };
        if record.closed {
            return ChannelStanding::Closed;
        }
        let available = record.available_to(payee, self.height);
        if !record.is_open(self.height) {
            return ChannelStanding::Closing { available };
        }
        if self.expires_soon(record) {
            return ChannelStanding::Expiring { available };
        }
        ChannelStanding::Open { available, reserve: record.reserve_of(payee, self.height) }
    }

    /// Whether a channel has fewer than [`Params::channel_blocks_min`] blocks left.
    pub fn expires_soon(&self, channel: &Channel) -> bool {
        channel.expires_height < self.height.saturating_add(self.params.channel_blocks_min)
    }

    /// What of a payee's reserve counts as cover: nothing in its last
    /// [`Params::reserve_margin_blocks`] blocks.
    pub fn cover(&self, channel: &ChannelId, payee: &AccountId) -> Balance {
        let at = self.height.saturating_add(self.params.reserve_margin_blocks);
        self.channels.get(channel).map_or(Balance::ZERO, |record| record.reserve_of(payee, at))
    }

    /// How far a lane was redeemed; a lane without a record not at all.
    pub fn lane(&self, lane: &LaneKey) -> Option<&LaneRecord> {
        self.lanes.get(lane)
    }

    /// What was paid out on a lane.
    pub fn paid(&self, lane: &LaneKey) -> Balance {
        self.lanes.get(lane).map_or(Balance::ZERO, |record| record.paid)
    }

    /// A relay's record, by its account.
    pub fn relay(&self, account: &AccountId) -> Option<&Arc<RelayRecord>> {
        self.relays.get(account)
    }
}

fn set<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            table.insert(key, value);
        }
        None => {
            table.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
