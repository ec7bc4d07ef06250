//! Every key of the chain's authenticated state, in one place.
//!
//! A key is a readable prefix and the raw bytes of what it names, parts divided by `/`. Indices
//! are no state: they can be recomputed, and have no key here.

use crate::id::{AccountId, ChannelId, LaneKey, StreamId};

/// What a piece of state is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// `acct/<account 32>`: [`crate::Account`].
    Account(AccountId),
    /// `stream/<stream 32>`: [`crate::StreamMetadata`].
    Stream(StreamId),
    /// `access/<stream 32>/<viewer 32>`: [`crate::AccessRecord`].
    Access(StreamId, AccountId),
    /// `channel/<channel 32>`: [`crate::Channel`].
    Channel(ChannelId),
    /// `lane/<channel 32>/<payee 32>/<stream 32>/<lane u32 big-endian>`: [`crate::LaneRecord`].
    Lane(LaneKey),
    /// `relay/<account 32>`: [`crate::RelayRecord`].
    Relay(AccountId),
    /// `val/<operator 32>`: [`crate::staking::Validator`].
    Validator(AccountId),
    /// `valaddr/<consensus address 20>`: the [`AccountId`] of its operator; never deleted.
    ConsensusAddress([u8; 20]),
    /// `signinfo/<operator 32>`: [`crate::staking::SigningInfo`].
    SigningInfo(AccountId),
    /// `deleg/<delegator 32>/<validator 32>`: [`crate::staking::Delegation`].
    Delegation(AccountId, AccountId),
    /// `ubd/<validator 32>/<height u64 big-endian>/<delegator 32>/<to 32>`:
    /// [`crate::staking::Departure`]; `to` is another validator, or zeros for the delegator's account.
    Departure(DepartureKey),
    /// `prop/<number u64 big-endian>`: [`crate::staking::Proposal`].
    Proposal(u64),
    /// `vote/<proposal u64 big-endian>/<operator 32>`: `bool`.
    Vote(u64, AccountId),
    /// `evid/<hash 32>`: the height (u64) at which this evidence was given.
    Evidence([u8; 32]),
    /// `upgrade/next`: [`crate::staking::Upgrade`].
    Upgrade,
    /// `upgrade/done`: a list of [`crate::staking::DoneUpgrade`], the oldest first.
    UpgradesDone,
    /// `param/chain`: [`crate::Params`].
    Params,
    /// `param/id`: the chain's id, a text.
    ChainId,
    /// `param/proposals`: how many proposals were made (u64).
    Proposals,
    /// `pool/rewards`: [`crate::staking::Rewards`].
    Rewards,
    /// `pool/supply`: [`crate::Supply`].
    Supply,
    /// `pool/fees`: [`crate::Balance`], the validators' share of fees until it is paid out.
    FeePool,
}

/// What left which validator when, whose, and for where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepartureKey {
    /// The validator that it left.
    pub validator: AccountId,
    /// The height at which it did.
    pub height: u64,
    /// Whose it is.
    pub delegator: AccountId,
    /// Another validator, or zeros for the delegator's account.
    pub to: AccountId,
}

impl StateKey {
    /// Prefix of all validators.
    pub const VALIDATORS: &[u8] = b"val/";
    /// Prefix of all delegations.
    pub const DELEGATIONS: &[u8] = b"deleg/";
    /// Prefix of all departures.
    pub const DEPARTURES: &[u8] = b"ubd/";
    /// Prefix of all proposals.
    pub const PROPOSALS: &[u8] = b"prop/";
    const ADDRESSES: &[u8] = b"valaddr/";
    const SIGNING: &[u8] = b"signinfo/";
    const VOTES: &[u8] = b"vote/";
    const EVIDENCE: &[u8] = b"evid/";
    const UPGRADE: &[u8] = b"upgrade/next";
    const UPGRADES_DONE: &[u8] = b"upgrade/done";
    const CHAIN_ID: &[u8] = b"param/id";
    const PROPOSAL_COUNT: &[u8] = b"param/proposals";
    const REWARDS: &[u8] = b"pool/rewards";
    /// Prefix of all accounts.
    pub const ACCOUNTS: &[u8] = b"acct/";
    /// Prefix of all streams.
    pub const STREAMS: &[u8] = b"stream/";
    /// Prefix of all access records.
    pub const ACCESSES: &[u8] = b"access/";
    /// Prefix of all channels.
    pub const CHANNELS: &[u8] = b"channel/";
    /// Prefix of all lanes.
    pub const LANES: &[u8] = b"lane/";
    /// Prefix of all relays.
    pub const RELAYS: &[u8] = b"relay/";
    /// The key of the parameters.
    pub const PARAMS: &[u8] = b"param/chain";
    const SUPPLY: &[u8] = b"pool/supply";
    const FEE_POOL: &[u8] = b"pool/fees";

    /// The key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Account(account) => [Self::ACCOUNTS, &account.0].concat(),
            Self::Stream(stream) => [Self::STREAMS, &stream.0].concat(),
            Self::Access(stream, viewer) => [Self::ACCESSES, &stream.0, b"/", &viewer.0].concat(),
            Self::Channel(channel) => [Self::CHANNELS, &channel.0].concat(),
            Self::Lane(lane) => [&Self::lanes_of(&lane.channel)[..], &{
                [&lane.payee.0[..], b"/", &lane.stream.0, b"/", &lane.lane.to_be_bytes()].concat()
            }]
            .concat(),
            Self::Relay(account) => [Self::RELAYS, &account.0].concat(),
            Self::Validator(operator) => [Self::VALIDATORS, &operator.0].concat(),
            Self::ConsensusAddress(address) => [Self::ADDRESSES, &address[..]].concat(),
            Self::SigningInfo(operator) => [Self::SIGNING, &operator.0].concat(),
            Self::Delegation(delegator, validator) => {
                [&Self::delegations_of(delegator)[..], &validator.0].concat()
            }
            Self::Departure(DepartureKey { validator, height, delegator, to }) => {
                let since = Self::departures_since(validator, *height);
                [&since[..], b"/", &delegator.0, b"/", &to.0].concat()
            }
            Self::Proposal(number) => [Self::PROPOSALS, &number.to_be_bytes()].concat(),
            Self::Vote(number, operator) => [&Self::votes_of(*number)[..], &operator.0].concat(),
            Self::Evidence(hash) => [Self::EVIDENCE, &hash[..]].concat(),
            Self::Upgrade => Self::UPGRADE.to_vec(),
            Self::UpgradesDone => Self::UPGRADES_DONE.to_vec(),
            Self::ChainId => Self::CHAIN_ID.to_vec(),
            Self::Proposals => Self::PROPOSAL_COUNT.to_vec(),
            Self::Rewards => Self::REWARDS.to_vec(),
            Self::Params => Self::PARAMS.to_vec(),
            Self::Supply => Self::SUPPLY.to_vec(),
            Self::FeePool => Self::FEE_POOL.to_vec(),
        }
    }

    /// Prefix of the lanes of one channel.
    pub fn lanes_of(channel: &ChannelId) -> Vec<u8> {
        [Self::LANES, &channel.0, b"/"].concat()
    }

    /// Prefix of the delegations of one account.
    pub fn delegations_of(delegator: &AccountId) -> Vec<u8> {
        [Self::DELEGATIONS, &delegator.0, b"/"].concat()
    }

    /// Prefix of what left one validator.
    pub fn departures_of(validator: &AccountId) -> Vec<u8> {
        [Self::DEPARTURES, &validator.0, b"/"].concat()
    }

    /// The least key of what left one validator at `height` or later.
    pub fn departures_since(validator: &AccountId, height: u64) -> Vec<u8> {
        [&Self::departures_of(validator)[..], &height.to_be_bytes()].concat()
    }

    /// Prefix of the votes about one proposal.
    pub fn votes_of(proposal: u64) -> Vec<u8> {
        [Self::VOTES, &proposal.to_be_bytes(), b"/"].concat()
    }

    /// Reads a key; `None`: these bytes are no key.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes {
            Self::PARAMS => return Some(Self::Params),
            Self::SUPPLY => return Some(Self::Supply),
            Self::FEE_POOL => return Some(Self::FeePool),
            Self::UPGRADE => return Some(Self::Upgrade),
            Self::UPGRADES_DONE => return Some(Self::UpgradesDone),
            Self::CHAIN_ID => return Some(Self::ChainId),
            Self::PROPOSAL_COUNT => return Some(Self::Proposals),
            Self::REWARDS => return Some(Self::Rewards),
            _ => {}
        }
        let after = |prefix| bytes.strip_prefix(prefix);
        if let Some(rest) = after(Self::ACCOUNTS) {
            return Some(Self::Account(AccountId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::STREAMS) {
            return Some(Self::Stream(StreamId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::RELAYS) {
            return Some(Self::Relay(AccountId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::CHANNELS) {
            return Some(Self::Channel(ChannelId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::ACCESSES) {
            let (stream, viewer) = (part(rest, 0)?, part(rest, 1)?);
            return (rest.len() == 65).then_some(Self::Access(StreamId(stream), AccountId(viewer)));
        }
        if let Some(rest) = after(Self::VALIDATORS) {
            return Some(Self::Validator(AccountId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::ADDRESSES) {
            return Some(Self::ConsensusAddress(rest.try_into().ok()?));
        }
        if let Some(rest) = after(Self::SIGNING) {
            return Some(Self::SigningInfo(AccountId(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::DELEGATIONS) {
            let (delegator, validator) = (part(rest, 0)?, part(rest, 1)?);
            let key = Self::Delegation(AccountId(delegator), AccountId(validator));
            return (rest.len() == 65).then_some(key);
        }
        if let Some(rest) = after(Self::DEPARTURES) {
            return departure(rest).map(Self::Departure);
        }
        if let Some(rest) = after(Self::PROPOSALS) {
            return Some(Self::Proposal(u64::from_be_bytes(rest.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::VOTES) {
            let (number, operator) = rest.split_at_checked(8)?;
            let operator = operator.strip_prefix(b"/")?;
            let number = u64::from_be_bytes(number.try_into().ok()?);
            return Some(Self::Vote(number, AccountId(operator.try_into().ok()?)));
        }
        if let Some(rest) = after(Self::EVIDENCE) {
            return Some(Self::Evidence(rest.try_into().ok()?));
        }
        let rest = after(Self::LANES)?;
        let lane = u32::from_be_bytes(rest.get(99..)?.try_into().ok()?);
        if rest[98] != b'/' {
            return None;
        }
        Some(Self::Lane(LaneKey {
            channel: ChannelId(part(rest, 0)?),
            payee: AccountId(part(rest, 1)?),
            stream: StreamId(part(rest, 2)?),
            lane,
        }))
    }
}

fn departure(rest: &[u8]) -> Option<DepartureKey> {
    let (validator, rest) = rest.split_at_checked(32)?;
    let (height, rest) = rest.strip_prefix(b"/")?.split_at_checked(8)?;
    let rest = rest.strip_prefix(b"/")?;
    let key = DepartureKey {
        validator: AccountId(validator.try_into().ok()?),
        height: u64::from_be_bytes(height.try_into().ok()?),
        delegator: AccountId(part(rest, 0)?),
        to: AccountId(part(rest, 1)?),
    };
    (rest.len() == 65).then_some(key)
}

/// Part `at` of 32 bytes, each but the first behind a `/`.
fn part(rest: &[u8], at: usize) -> Option<[u8; 32]> {
    if at > 0 && rest.get(33 * at - 1) != Some(&b'/') {
        return None;
    }
    rest.get(33 * at..33 * at + 32)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_round_trips_and_nothing_else_is_a_key() {
        #[track_caller]
        fn check(key: StateKey, len_bytes: usize) {
            let bytes = key.to_bytes();
            assert_eq!(bytes.len(), len_bytes, "{key:?}");
            assert_eq!(StateKey::parse(&bytes), Some(key));
            assert_eq!(StateKey::parse(&bytes[..len_bytes - 1]), None, "cut: {key:?}");
            assert_eq!(StateKey::parse(&[&bytes[..], b"/"].concat()), None, "longer: {key:?}");
        }
        let account = AccountId([0x2f; 32]); // All slashes.
        let (stream, channel) = (StreamId([1; 32]), ChannelId([2; 32]));
        check(StateKey::Account(account), 37);
        check(StateKey::Stream(stream), 39);
        check(StateKey::Access(stream, account), 72);
        check(StateKey::Channel(channel), 40);
        check(StateKey::Lane(LaneKey { channel, payee: account, stream, lane: 7 }), 108);
        check(StateKey::Relay(account), 38);
        check(StateKey::Validator(account), 36);
        check(StateKey::ConsensusAddress([0x2f; 20]), 28);
        check(StateKey::SigningInfo(account), 41);
        check(StateKey::Delegation(account, account), 71);
        let (height, to) = (0x2f2f_2f2f_2f2f_2f2f, AccountId([4; 32]));
        let left = DepartureKey { validator: account, height, delegator: account, to };
        check(StateKey::Departure(left), 111);
        check(StateKey::Proposal(height), 13);
        check(StateKey::Vote(height, account), 46);
        check(StateKey::Evidence([1; 32]), 37);
        check(StateKey::Upgrade, 12);
        check(StateKey::UpgradesDone, 12);
        check(StateKey::ChainId, 8);
        check(StateKey::Proposals, 15);
        check(StateKey::Rewards, 12);
        check(StateKey::Params, 11);
        check(StateKey::Supply, 11);
        check(StateKey::FeePool, 9);
        assert_eq!(StateKey::parse(b""), None);
        let mut lane =
            StateKey::Lane(LaneKey { channel, payee: account, stream, lane: 7 }).to_bytes();
        lane[103] = 0; // The last slash: found by fuzzing.
        assert_eq!(StateKey::parse(&lane), None);
        assert_eq!(StateKey::parse(&[b"access/", &[0; 65][..]].concat()), None);
    }
}
