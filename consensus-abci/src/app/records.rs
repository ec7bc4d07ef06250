//! Every kind of record by its key: whether bytes from outside are one.

use borsh::BorshDeserialize;
use chain_types::{
    AccessRecord, Account, AccountId, Balance, Channel, LaneRecord, Params, RelayRecord, StateKey,
    StreamMetadata, Supply,
    staking::{
        Delegation, Departure, DoneUpgrade, Proposal, Rewards, SigningInfo, Upgrade, Validator,
    },
};

use super::state::decode;

/// What is wrong with a record of a state that is to be imported.
pub(super) fn faults(key: StateKey, value: &[u8]) -> Vec<String> {
    let unreadable = match key {
        StateKey::Account(_) => unreadable::<Account>(key, value),
        StateKey::Stream(id) => match decode::<StreamMetadata>(key, value) {
            Ok(stream) if stream.id != id => {
                return vec![format!("the stream in it is another one, {}", stream.id)];
            }
            read => read.err().map(|error| error.to_string()),
        },
        StateKey::Access(..) => unreadable::<AccessRecord>(key, value),
        StateKey::Channel(_) => unreadable::<Channel>(key, value),
        StateKey::Lane(_) => unreadable::<LaneRecord>(key, value),
        StateKey::Relay(_) => unreadable::<RelayRecord>(key, value),
        StateKey::Validator(_) => unreadable::<Validator>(key, value),
        StateKey::ConsensusAddress(_) => unreadable::<AccountId>(key, value),
        StateKey::SigningInfo(_) => unreadable::<SigningInfo>(key, value),
        StateKey::Delegation(..) => unreadable::<Delegation>(key, value),
        StateKey::Departure(_) => unreadable::<Departure>(key, value),
        StateKey::Proposal(_) => unreadable::<Proposal>(key, value),
        StateKey::Vote(..) => unreadable::<bool>(key, value),
        StateKey::Evidence(_) | StateKey::Proposals => unreadable::<u64>(key, value),
        StateKey::Upgrade => unreadable::<Upgrade>(key, value),
        StateKey::UpgradesDone => unreadable::<Vec<DoneUpgrade>>(key, value),
        StateKey::Params => match decode::<Params>(key, value) {
            Ok(params) => return params.faults(),
            Err(error) => Some(error.to_string()),
        },
        StateKey::ChainId => unreadable::<String>(key, value),
        StateKey::Rewards => unreadable::<Rewards>(key, value),
        StateKey::Supply => unreadable::<Supply>(key, value),
        StateKey::FeePool => unreadable::<Balance>(key, value),
    };
    unreadable.into_iter().collect()
}

fn unreadable<T: BorshDeserialize>(key: StateKey, value: &[u8]) -> Option<String> {
    decode::<T>(key, value).err().map(|error| error.to_string())
}
