//! Indices: whose channels and whose streams, as lists of keys beside the state.
//!
//! They follow from the state and are written in its batch; no root covers them.

use std::collections::BTreeSet;

use chain_types::{AccountId, Channel, ChannelId, StateKey, StreamMetadata};

use super::state::{BlockState, StateError, decode};

/// Prefixes of the lists; then the account, then the id.
pub(super) const BY_PAYER: &[u8] = b"payer/";
pub(super) const BY_PAYEE: &[u8] = b"payee/";
pub(super) const BY_CREATOR: &[u8] = b"creator/";
/// The validator, then its delegators.
pub(super) const BY_VALIDATOR: &[u8] = b"validator/";

/// The part of an index that is about one account.
pub(super) fn list(prefix: &[u8], account: &AccountId) -> Vec<u8> {
    [prefix, &account.0].concat()
}

fn entry(prefix: &[u8], account: &AccountId, id: &[u8; 32]) -> Vec<u8> {
    [prefix, &account.0, id].concat()
}

/// Index keys that a block adds and removes.
#[derive(Default)]
pub(super) struct IndexChanges {
    pub(super) added: BTreeSet<Vec<u8>>,
    pub(super) removed: BTreeSet<Vec<u8>>,
}

/// All index keys of a whole state, given as its entries.
pub(super) fn of_state<E>(
    entries: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
) -> Result<BTreeSet<Vec<u8>>, StateError>
where
    StateError: From<E>,
{
    let mut all = BTreeSet::new();
    let mut closed = BTreeSet::new();
    for entry in entries {
        let (bytes, value) = entry?;
        match StateKey::parse(&bytes) {
            Some(key @ StateKey::Stream(id)) => {
                let stream: StreamMetadata = decode(key, &value)?;
                all.insert(self::entry(BY_CREATOR, &stream.creator, &id.0));
            }
            Some(key @ StateKey::Channel(id)) => {
                let channel: Channel = decode(key, &value)?;
                all.insert(self::entry(BY_PAYER, &channel.payer, &id.0));
                if channel.closed {
                    closed.insert(id);
                } else {
                    let payees = channel.reserves.iter().map(|kept| kept.payee);
                    all.extend(payees.map(|payee| self::entry(BY_PAYEE, &payee, &id.0)));
                }
            }
            // Behind all channels in the order of keys.
            Some(StateKey::Lane(lane)) if !closed.contains(&lane.channel) => {
                all.insert(self::entry(BY_PAYEE, &lane.payee, &lane.channel.0));
            }
            Some(StateKey::Delegation(delegator, validator)) => {
                all.insert(self::entry(BY_VALIDATOR, &validator, &delegator.0));
            }
            _ => {}
        }
    }
    Ok(all)
}

impl BlockState {
    /// What the block's writes mean for the indices.
    pub(super) fn index_changes(&self) -> Result<IndexChanges, StateError> {
        let mut changes = IndexChanges::default();
        let mut payees: BTreeSet<(ChannelId, AccountId)> = BTreeSet::new();
        for (bytes, value) in self.writes() {
            match StateKey::parse(bytes) {
                Some(key @ StateKey::Stream(id)) => {
                    if let Some(value) = value {
                        let stream: StreamMetadata = decode(key, value)?;
                        changes.added.insert(entry(BY_CREATOR, &stream.creator, &id.0));
                    }
                }
                Some(key @ StateKey::Channel(id)) => {
                    let mut note = |record: Option<&[u8]>| {
                        let Some(record) = record else { return Ok(()) };
                        let channel: Channel = decode(key, record)?;
                        payees.extend(channel.reserves.iter().map(|kept| (id, kept.payee)));
                        changes.added.insert(entry(BY_PAYER, &channel.payer, &id.0));
                        Ok(())
                    };
                    self.before(bytes, &mut note)?;
                    note(value.as_deref())?;
                }
                Some(StateKey::Delegation(delegator, validator)) => {
                    let key = entry(BY_VALIDATOR, &validator, &delegator.0);
                    match value {
                        Some(_) => changes.added.insert(key),
                        None => changes.removed.insert(key),
                    };
                }
                Some(StateKey::Lane(lane)) => {
                    payees.insert((lane.channel, lane.payee));
                }
                _ => {}
            }
        }
        for (channel, payee) in payees {
            let key = entry(BY_PAYEE, &payee, &channel.0);
            if self.concerns(&channel, &payee)? {
                changes.added.insert(key);
            } else {
                changes.removed.insert(key);
            }
        }
        Ok(changes)
    }

    /// Whether a payee has something in a channel: a reserve, or a lane.
    fn concerns(&self, channel: &ChannelId, payee: &AccountId) -> Result<bool, StateError> {
        let record: Option<Channel> = self.get(StateKey::Channel(*channel))?;
        let Some(record) = record.filter(|record| !record.closed) else { return Ok(false) };
        if record.reserves.iter().any(|kept| kept.payee == *payee) {
            return Ok(true);
        }
        let lanes = [&StateKey::lanes_of(channel)[..], &payee.0].concat();
        Ok(!self.keys(&lanes, 1)?.is_empty())
    }
}
