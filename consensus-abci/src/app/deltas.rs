//! Deltas: what a committed block changed, to whoever follows in this process.
//!
//! One `Arc` for each subscriber, after the commit is durable, and nothing ever waits for one: a
//! subscriber whose queue is full is let go. It sees its channel end, subscribes again and reads
//! the state anew.

use std::sync::Arc;

use chain_types::{BlockDelta, ChainEvent, StateChange, StateKey};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::state::{StateError, decode};
use crate::store::{Prepared, Writes};

/// Who follows.
#[derive(Default)]
pub(super) struct Subscribers(Vec<Sender<Arc<BlockDelta>>>);

impl Subscribers {
    /// A follower from the next commit on.
    pub(super) fn add(&mut self, capacity: usize) -> Receiver<Arc<BlockDelta>> {
        // A capacity of zero would mean that the commit meets a waiting reader or loses it.
        let (sender, receiver) = bounded(capacity.max(1));
        self.0.push(sender);
        receiver
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn send(&mut self, delta: &Arc<BlockDelta>) {
        self.0.retain(|subscriber| match subscriber.try_send(Arc::clone(delta)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(height = delta.height, "a follower of the chain lags and is let go");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}

/// What a block changed.
pub(super) fn delta(
    prepared: &Prepared,
    events: Vec<ChainEvent>,
    results: Vec<([u8; 32], u32)>,
) -> Result<BlockDelta, StateError> {
    let head = prepared.head();
    let changes = changes(prepared.writes())?;
    Ok(BlockDelta { height: head.height, time_ms: head.block_time_ms, changes, events, results })
}

fn changes(writes: &Writes) -> Result<Vec<StateChange>, StateError> {
    let mut changes = Vec::with_capacity(writes.len());
    for (bytes, value) in writes {
        let Some(key) = StateKey::parse(bytes) else { continue };
        let change = match (key, value) {
            (StateKey::Access(stream, viewer), value) => {
                let record = value.as_ref().map(|value| decode(key, value)).transpose()?;
                StateChange::Access { stream, viewer, record }
            }
            (StateKey::Lane(lane), value) => {
                StateChange::Lane(lane, value.as_ref().map(|value| decode(key, value)).transpose()?)
            }
            (StateKey::Account(id), Some(value)) => StateChange::Account(id, decode(key, value)?),
            (StateKey::Stream(_), Some(value)) => {
                StateChange::Stream(Box::new(decode(key, value)?))
            }
            (StateKey::Channel(id), Some(value)) => {
                StateChange::Channel(id, Box::new(decode(key, value)?))
            }
            (StateKey::Relay(id), Some(value)) => {
                StateChange::Relay(id, Box::new(decode(key, value)?))
            }
            (StateKey::Params, Some(value)) => StateChange::Params(Box::new(decode(key, value)?)),
            // Sums that no follower asks for.
            (StateKey::Supply | StateKey::FeePool | StateKey::Rewards, _) => continue,
            // Whoever stakes asks.
            (
                StateKey::Validator(_)
                | StateKey::ConsensusAddress(_)
                | StateKey::SigningInfo(_)
                | StateKey::Delegation(..)
                | StateKey::Departure(_)
                | StateKey::Proposal(_)
                | StateKey::Vote(..)
                | StateKey::Evidence(_)
                | StateKey::Upgrade
                | StateKey::UpgradesDone
                | StateKey::ChainId
                | StateKey::Proposals,
                _,
            ) => continue,
            // Never removed.
            (
                StateKey::Account(_)
                | StateKey::Stream(_)
                | StateKey::Channel(_)
                | StateKey::Relay(_)
                | StateKey::Params,
                None,
            ) => continue,
        };
        changes.push(change);
    }
    Ok(changes)
}
