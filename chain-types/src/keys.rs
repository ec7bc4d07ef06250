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
    /// `param/chain`: [`crate::Params`].
    Params,
    /// `pool/supply`: [`crate::Supply`].
    Supply,
    /// `pool/fees`: [`crate::Balance`], the validators' share of fees until it is paid out.
    FeePool,
}

impl StateKey {
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
            Self::Params => Self::PARAMS.to_vec(),
            Self::Supply => Self::SUPPLY.to_vec(),
            Self::FeePool => Self::FEE_POOL.to_vec(),
        }
    }

    /// Prefix of the lanes of one channel.
    pub fn lanes_of(channel: &ChannelId) -> Vec<u8> {
        [Self::LANES, &channel.0, b"/"].concat()
    }

    /// Reads a key; `None`: these bytes are no key.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes {
            Self::PARAMS => return Some(Self::Params),
            Self::SUPPLY => return Some(Self::Supply),
            Self::FEE_POOL => return Some(Self::FeePool),
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
