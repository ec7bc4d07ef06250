//! Identifiers: fixed byte strings with one text form, lower-case hex.

use std::{borrow::Cow, fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::{
    hex::{self, HexError},
    preimage::Domain,
};

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdParseError {
    /// Not twice as many hex digits as the identifier has bytes.
    #[error("expected {need_chars} hex digits, got {len_chars} characters")]
    Length {
        /// Characters given.
        len_chars: usize,
        /// Hex digits needed.
        need_chars: usize,
    },
    /// A character that is no hex digit.
    #[error("character {position} is no hex digit")]
    Digit {
        /// Counted from 0, in bytes.
        position: usize,
    },
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len_bytes:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(pub [u8; $len_bytes]);

        impl $name {
            /// All zeros: stands for "nobody" or "none" where the layout has no option.
            pub const ZERO: Self = Self([0; $len_bytes]);

            /// Whether it is [`Self::ZERO`].
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex::write(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                hex::read(text).map(Self).map_err(|error| match error {
                    HexError::Length { len_chars } => {
                        IdParseError::Length { len_chars, need_chars: 2 * $len_bytes }
                    }
                    HexError::Digit { position } => IdParseError::Digit { position },
                })
            }
        }
    };
}

identifier!(
    /// A stream: SHA-256 of `sutantra/strm/v1 ‖ creator ‖ nonce u64` when it is registered on a
    /// chain, [`StreamId::local`] when no chain knows it.
    StreamId,
    32
);
identifier!(
    /// An account or any other signer: its ed25519 public key.
    AccountId,
    32
);
identifier!(
    /// One access token; drawn at random by who signs it, never reused.
    TokenId,
    16
);

identifier!(
    /// A payment channel: [`ChannelId::of`].
    ChannelId,
    32
);

/// One running total: what one channel pays one payee for one stream at one price.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct LaneKey {
    /// Whose deposit pays.
    pub channel: ChannelId,
    /// Account that is paid.
    pub payee: AccountId,
    /// For which stream.
    pub stream: StreamId,
    /// [`crate::lane::lane_number`].
    pub lane: u32,
}

impl ChannelId {
    /// The channel that `payer` opens with its transaction `nonce`:
    /// SHA-256(`sutantra/chan/v1` ‖ payer ‖ nonce u64).
    pub fn of(payer: &AccountId, nonce: u64) -> Self {
        Self(derived(Domain::CHANNEL, payer, nonce))
    }
}

/// SHA-256(domain ‖ account ‖ nonce u64 big-endian).
fn derived(domain: Domain, account: &AccountId, nonce: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update(account.0);
    hash.update(nonce.to_be_bytes());
    hash.finalize().into()
}

impl StreamId {
    /// The stream that `creator` registers with its transaction `nonce`:
    /// SHA-256(`sutantra/strm/v1` ‖ creator ‖ nonce u64).
    pub fn of(creator: &AccountId, nonce: u64) -> Self {
        Self(derived(Domain::STREAM, creator, nonce))
    }

    /// The id of a stream that no chain knows: SHA-256(`sutantra/strm/v1` ‖ `local` ‖ name).
    ///
    /// Equal names give equal ids on every node, so a token for such a stream is worth something
    /// only where its issuer's key is trusted. A registered stream cannot take such an id by
    /// intent: its hash covers a 32-byte key and a nonce, here stands a name after `local`.
    pub fn local(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(Domain::STREAM.as_bytes());
        hash.update(b"local");
        hash.update(name.as_bytes());
        Self(hash.finalize().into())
    }
}

impl From<&VerifyingKey> for AccountId {
    fn from(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl From<&SigningKey> for AccountId {
    fn from(key: &SigningKey) -> Self {
        Self::from(&key.verifying_key())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_local_stream_id_is_a_function_of_the_name_alone() {
        // `printf 'sutantra/strm/v1localdemo' | sha256sum`
        assert_eq!(
            StreamId::local("demo").to_string(),
            "cbfb3b3f8172139f24154ebc3dc3e97db7e24f3ae9650d64b8caefcf77926807"
        );
        assert_ne!(StreamId::local("demo"), StreamId::local("Demo"));
        assert_ne!(StreamId::local(""), StreamId::ZERO);
    }

    #[test]
    fn a_text_of_another_length_or_with_other_letters_is_no_identifier() {
        #[track_caller]
        fn check(text: &str, expected: Result<TokenId, IdParseError>) {
            assert_eq!(text.parse::<TokenId>(), expected);
        }
        check("000102030405060708090a0b0c0d0e0f", Ok(TokenId(std::array::from_fn(|i| i as u8))));
        check("000102030405060708090A0B0C0D0E0F", Ok(TokenId(std::array::from_fn(|i| i as u8))));
        check("", Err(IdParseError::Length { len_chars: 0, need_chars: 32 }));
        check("00", Err(IdParseError::Length { len_chars: 2, need_chars: 32 }));
        check("0x0102030405060708090a0b0c0d0e0f", Err(IdParseError::Digit { position: 1 }));
        // 32 bytes, 31 characters: the multi-byte letter must not be cut in two.
        check(
            "é0102030405060708090a0b0c0d0e0f0",
            Err(IdParseError::Length { len_chars: 32, need_chars: 32 }),
        );
        check("é102030405060708090a0b0c0d0e0f0", Err(IdParseError::Digit { position: 0 }));
    }

    proptest! {
        #[test]
        fn text_form_round_trips(bytes in any::<[u8; 32]>()) {
            let id = AccountId(bytes);
            prop_assert_eq!(id.to_string().parse::<AccountId>(), Ok(id));
        }

        #[test]
        fn any_text_gives_an_identifier_or_an_error(text in ".*") {
            let _ = text.parse::<StreamId>();
        }
    }
}
