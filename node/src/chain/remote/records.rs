//! Records by their keys: bytes that were proved become what MONEY follows.

use std::collections::BTreeMap;

use borsh::BorshDeserialize;
use chain_types::{
    AccountId, ChainEvent, ChannelId, LaneKey, Params, RelayRecord, StateChange, StateKey,
    StreamId, StreamMetadata,
};
use comet::rpc::Event;
use settlement::Snapshot;

/// All followed records of one height.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    /// The state's height.
    pub(super) height: u64,
    /// Its block's time, unix ms.
    pub(super) time_ms: u64,
    /// The app hash over it, from the header after.
    pub(super) app_hash: Vec<u8>,
    records: BTreeMap<Vec<u8>, StateChange>,
}

impl Mirror {
    pub(super) fn new(height: u64, time_ms: u64, app_hash: Vec<u8>) -> Self {
        Self { height, time_ms, app_hash, records: BTreeMap::new() }
    }

    /// Takes one record's new value.
    pub(super) fn put(&mut self, key: Vec<u8>, change: StateChange) {
        match change {
            StateChange::Access { record: None, .. } | StateChange::Lane(_, None) => {
                self.records.remove(&key);
            }
            change => {
                self.records.insert(key, change);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether a value is new: another one, or gone.
    pub(super) fn differs(&self, key: &[u8], change: &StateChange) -> bool {
        match (self.records.get(key), change) {
            (None, StateChange::Access { record: None, .. } | StateChange::Lane(_, None)) => false,
            (known, change) => known != Some(change),
        }
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.records.contains_key(key)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let records = self.records.values().cloned().collect();
        Snapshot { height: self.height, time_ms: self.time_ms, records }
    }

    pub(super) fn params(&self) -> Option<Params> {
        match self.records.get(&StateKey::Params.to_bytes()) {
            Some(StateChange::Params(params)) => Some((**params).clone()),
            _ => None,
        }
    }

    pub(super) fn stream(&self, stream: &StreamId) -> Option<StreamMetadata> {
        match self.records.get(&StateKey::Stream(*stream).to_bytes()) {
            Some(StateChange::Stream(record)) => Some((**record).clone()),
            _ => None,
        }
    }

    pub(super) fn relay(&self, account: &AccountId) -> Option<RelayRecord> {
        match self.records.get(&StateKey::Relay(*account).to_bytes()) {
            Some(StateChange::Relay(_, record)) => Some((**record).clone()),
            _ => None,
        }
    }
}

/// What a proved value says; `None`: nothing that is followed.
///
/// # Errors
/// The chain itself has bytes there that this version cannot read.
pub(super) fn change(key: &[u8], value: Option<&[u8]>) -> Result<Option<StateChange>, String> {
    let Some(parsed) = StateKey::parse(key) else { return Ok(None) };
    let change = match (parsed, value) {
        (StateKey::Access(stream, viewer), value) => {
            let record = value.map(|bytes| read(parsed, bytes)).transpose()?;
            StateChange::Access { stream, viewer, record }
        }
        (StateKey::Lane(lane), value) => {
            StateChange::Lane(lane, value.map(|bytes| read(parsed, bytes)).transpose()?)
        }
        (StateKey::Stream(_), Some(bytes)) => StateChange::Stream(Box::new(read(parsed, bytes)?)),
        (StateKey::Channel(id), Some(bytes)) => {
            StateChange::Channel(id, Box::new(read(parsed, bytes)?))
        }
        (StateKey::Relay(id), Some(bytes)) => {
            StateChange::Relay(id, Box::new(read(parsed, bytes)?))
        }
        (StateKey::Params, Some(bytes)) => StateChange::Params(Box::new(read(parsed, bytes)?)),
        // Never removed: a key that somebody invented.
        (
            StateKey::Stream(_) | StateKey::Channel(_) | StateKey::Relay(_) | StateKey::Params,
            None,
        ) => return Ok(None),
        // Not followed.
        (
            StateKey::Account(_)
            | StateKey::Supply
            | StateKey::FeePool
            | StateKey::ChainId
            | StateKey::Validator(_)
            | StateKey::ConsensusAddress(_)
            | StateKey::SigningInfo(_)
            | StateKey::Delegation(..)
            | StateKey::Departure(_)
            | StateKey::Rewards
            | StateKey::Proposal(_)
            | StateKey::Proposals
            | StateKey::Vote(..)
            | StateKey::Evidence(_)
            | StateKey::Upgrade
            | StateKey::UpgradesDone,
            _,
        ) => return Ok(None),
    };
    Ok(Some(change))
}

fn read<T: BorshDeserialize>(key: StateKey, bytes: &[u8]) -> Result<T, String> {
    borsh::from_slice(bytes).map_err(|_| {
        format!(
            "the chain's record {key:?} cannot be read: this node is older than the chain's state"
        )
    })
}

/// The event of a transaction, of those that MONEY reads.
///
/// Nobody signs events: what comes from here is held against proved records ([`ChainEvent::subject`]).
pub(super) fn event(event: &Event) -> Option<ChainEvent> {
    let text = |name: &str| {
        let found = event.attributes.iter().find(|attribute| attribute.key == name);
        found.map(|attribute| attribute.value.as_str())
    };
    let stream = || text("stream")?.parse::<StreamId>().ok();
    let viewer = || text("viewer")?.parse::<AccountId>().ok();
    let channel = || text("channel")?.parse::<ChannelId>().ok();
    let amount = |name: &str| text(name)?.parse().ok();
    match event.kind.as_str() {
        "stream_registered" => Some(ChainEvent::StreamRegistered {
            stream: stream()?,
            creator: text("creator")?.parse().ok()?,
        }),
        "access_granted" => Some(ChainEvent::AccessGranted {
            stream: stream()?,
            viewer: viewer()?,
            valid_until: text("valid_until")?.parse().ok()?,
        }),
        "access_revoked" => {
            Some(ChainEvent::AccessRevoked { stream: stream()?, viewer: viewer()? })
        }
        "revocation_bumped" => Some(ChainEvent::RevocationBumped {
            stream: stream()?,
            rev_epoch: text("rev_epoch")?.parse().ok()?,
        }),
        "channel_closing" => Some(ChainEvent::ChannelClosing { channel: channel()? }),
        "channel_redeemed" => Some(ChainEvent::ChannelRedeemed {
            lane: LaneKey {
                channel: channel()?,
                payee: text("payee")?.parse().ok()?,
                stream: stream()?,
                lane: text("lane")?.parse().ok()?,
            },
            paid: amount("paid")?,
            fee: amount("fee")?,
            creator: amount("creator_share")?,
            origin: amount("origin_share")?,
            payee: amount("payee_share")?,
        }),
        _ => None,
    }
}
