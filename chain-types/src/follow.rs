//! How the state is followed from afar: which keys there are, what they hold, which ones changed.
//!
//! ABCI queries and one event. Keys are hints, which a peer may invent or leave out; values come
//! with ICS-23 proofs of one height, held against the app hash in the next height's header.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::keys::StateKey;

/// Query path of [`ListRequest`]; the answer is a borsh `Vec<Vec<u8>>` of keys of the newest state.
pub const LIST_PATH: &str = "/store/app/list";
/// Query path whose data is a borsh `Vec<Vec<u8>>` of keys; the answer is a borsh
/// `Vec<Option<Vec<u8>>>` and, where they are asked for, one proof for each key in the same order.
pub const VALUES_PATH: &str = "/store/app/values";
/// Event of a block: the key of each of its attributes is a changed state key in hex.
pub const CHANGES_EVENT: &str = "changes";
/// Keys of one answer of [`LIST_PATH`] at most.
pub const LIST_KEYS_MAX: u16 = 4096;
/// Keys of one question of [`VALUES_PATH`] at most; a proof has about a kilobyte.
pub const VALUES_MAX: usize = 256;

/// Asks for keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ListRequest {
    /// One of [`FOLLOWED`].
    pub prefix: Vec<u8>,
    /// The last key of the answer before.
    pub after: Option<Vec<u8>>,
    /// At most so many; never more than [`LIST_KEYS_MAX`].
    pub limit: u16,
}

/// Prefixes of the records that a relay follows. Accounts are not among them: whoever needs one asks.
pub const FOLLOWED: &[&[u8]] = &[
    StateKey::STREAMS,
    StateKey::ACCESSES,
    StateKey::CHANNELS,
    StateKey::LANES,
    StateKey::RELAYS,
    StateKey::PARAMS,
];

/// Whether a state key is of a record that a relay follows.
pub fn is_followed(key: &[u8]) -> bool {
    FOLLOWED.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, StreamId};

    #[test]
    fn a_relay_follows_records_and_no_accounts() {
        assert!(is_followed(&StateKey::Params.to_bytes()));
        assert!(is_followed(&StateKey::Stream(StreamId([1; 32])).to_bytes()));
        assert!(is_followed(&StateKey::Relay(AccountId([1; 32])).to_bytes()));
        assert!(!is_followed(&StateKey::Account(AccountId([1; 32])).to_bytes()));
        assert!(!is_followed(&StateKey::Supply.to_bytes()));
        assert!(!is_followed(b""));
    }
}
