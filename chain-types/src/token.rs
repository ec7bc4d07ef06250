//! The access token: who may do what on one stream, until when, under an issuer's signature.
//!
//! Body, 170 bytes, big-endian:
//! ```text
//!   0 token_id 16 | 16 stream 32 | 48 viewer 32 | 80 holder_key 32 | 112 issuer_key 32
//! 144 grants u32 | 148 max_layer u8 | 149 payment_status u8 | 150 rev_epoch u32
//! 154 not_before u64 ms | 162 valid_until u64 ms
//! ```
//! Signed: `sutantra/tokn/v1` ‖ chain tag ‖ body. On the wire: body ‖ signature (234 bytes); as
//! a bearer token (RFC 6750) base64url of that without padding, 312 characters.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    id::{AccountId, StreamId, TokenId},
    preimage::{Domain, Preimage},
};

/// Bytes of an encoded [`Token`].
pub const TOKEN_BODY_BYTES: usize = 170;
/// Bytes of an encoded [`SignedToken`].
pub const TOKEN_SIGNED_BYTES: usize = TOKEN_BODY_BYTES + 64;

/// What the holder of a token may do: a set of bits. Never empty, never with an unknown bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grants(u32);

impl Grants {
    /// Receive the stream's media.
    pub const SUBSCRIBE: Self = Self(1);
    /// Send the stream's media.
    pub const PUBLISH: Self = Self(2);
    /// Send on data channels.
    pub const DATA: Self = Self(4);
    /// Forward the stream to others.
    pub const RELAY: Self = Self(8);
    /// Stay out of presence lists.
    pub const HIDDEN: Self = Self(16);
    /// Remove other participants.
    pub const MODERATE: Self = Self(32);
    const KNOWN: u32 = 63;

    /// The set with these bits.
    pub const fn from_bits(bits: u32) -> Result<Self, TokenError> {
        match bits {
            0 => Err(TokenError::GrantsEmpty),
            _ if bits & !Self::KNOWN != 0 => {
                Err(TokenError::GrantsUnknown { bits: bits & !Self::KNOWN })
            }
            _ => Ok(Self(bits)),
        }
    }

    /// The bits, as encoded.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The union of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every grant of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a viewer stands with its payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PaymentStatus {
    /// Nothing was agreed.
    None = 0,
    /// Nothing is owed, ever.
    Free = 1,
    /// Paid up.
    Current = 2,
    /// Behind, within the grace.
    Grace = 3,
    /// Behind, beyond the grace.
    Overdue = 4,
    /// The deposit is used up.
    Exhausted = 5,
    /// Somebody else pays.
    Sponsored = 6,
}

impl PaymentStatus {
    /// All seven, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Free,
        Self::Current,
        Self::Grace,
        Self::Overdue,
        Self::Exhausted,
        Self::Sponsored,
    ];

    /// Whether media may flow in this status.
    pub const fn is_current(self) -> bool {
        match self {
            Self::Free | Self::Current | Self::Grace | Self::Sponsored => true,
            Self::None | Self::Overdue | Self::Exhausted => false,
        }
    }

    /// Whether a token may carry it: a token is signed ahead, so it cannot know of arrears.
    pub const fn is_allowed_in_token(self) -> bool {
        match self {
            Self::Free | Self::Current | Self::Sponsored => true,
            Self::None | Self::Grace | Self::Overdue | Self::Exhausted => false,
        }
    }

    /// The status of this code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The code, as encoded.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why bytes are no acceptable access token. Whoever presents one can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64url without padding.
    #[error("the token is not base64url without padding")]
    Base64,
    /// Another length than the layout's.
    #[error("the token has {len_bytes} bytes, expected {need_bytes}")]
    Length {
        /// Bytes given.
        len_bytes: usize,
        /// Bytes of the layout.
        need_bytes: usize,
    },
    /// Grants that this version does not know: refused, since ignoring one could widen another.
    #[error("the token has unknown grants {bits:#x}")]
    GrantsUnknown {
        /// The unknown bits alone.
        bits: u32,
    },
    /// No grant at all.
    #[error("the token grants nothing")]
    GrantsEmpty,
    /// A payment status that is unknown or that a token may not carry.
    #[error(
        "the token carries payment status {code}; only 1 (Free), 2 (Current) and 6 (Sponsored) may stand in a token"
    )]
    PaymentStatusForbidden {
        /// The code given.
        code: u8,
    },
    /// `not_before` is not before `valid_until`.
    #[error("the token's time span is empty")]
    SpanEmpty,
    /// `issuer_key` is no ed25519 public key, or not the signing key's.
    #[error("the token's issuer key is not a usable ed25519 key")]
    IssuerKey,
    /// Not signed by `issuer_key` for this chain (the domain and the chain are part of what is
    /// signed: a signature of another type or chain is a wrong signature).
    #[error("the token's signature is wrong for this issuer and chain")]
    Signature,
    /// Before its time.
    #[error("the token is not valid before {not_before_ms} (now {now_ms}, unix ms)")]
    NotYetValid {
        /// From the token, unix ms.
        not_before_ms: u64,
        /// The verifier's clock, unix ms.
        now_ms: u64,
    },
    /// After its time.
    #[error("the token expired at {valid_until_ms} (now {now_ms}, unix ms)")]
    Expired {
        /// From the token, unix ms.
        valid_until_ms: u64,
        /// The verifier's clock, unix ms.
        now_ms: u64,
    },
}

/// What an issuer says about one viewer on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// Names this token in a revocation.
    pub token_id: TokenId,
    /// The stream it is for.
    pub stream: StreamId,
    /// The account of the viewer; [`AccountId::ZERO`]: whoever bears the token.
    pub viewer: AccountId,
    /// The key that signs the viewer's Bind; [`AccountId::ZERO`] in a token that is only borne.
    pub holder_key: AccountId,
    /// Who signs.
    pub issuer_key: AccountId,
    /// What it allows.
    pub grants: Grants,
    /// Highest layer that may be sent to the holder; 255 = no cap.
    pub max_layer: u8,
    /// Free, Current or Sponsored.
    pub payment_status: PaymentStatus,
    /// The stream's revocation epoch at the time of signing.
    pub rev_epoch: u32,
    /// First instant of validity, unix ms.
    pub not_before_ms: u64,
    /// First instant after validity, unix ms.
    pub valid_until_ms: u64,
}

impl Token {
    /// The body. Total; what [`Token::decode`] would refuse it writes all the same.
    pub fn encode(&self) -> [u8; TOKEN_BODY_BYTES] {
        // No `..`: a field that is not encoded does not compile.
        let Self {
            token_id,
            stream,
            viewer,
            holder_key,
            issuer_key,
            grants,
            max_layer,
            payment_status,
            rev_epoch,
            not_before_ms,
            valid_until_ms,
        } = self;
        let mut body = [0; TOKEN_BODY_BYTES];
        body[..16].copy_from_slice(&token_id.0);
        body[16..48].copy_from_slice(&stream.0);
        body[48..80].copy_from_slice(&viewer.0);
        body[80..112].copy_from_slice(&holder_key.0);
        body[112..144].copy_from_slice(&issuer_key.0);
        body[144..148].copy_from_slice(&grants.bits().to_be_bytes());
        body[148] = *max_layer;
        body[149] = payment_status.code();
        body[150..154].copy_from_slice(&rev_epoch.to_be_bytes());
        body[154..162].copy_from_slice(&not_before_ms.to_be_bytes());
        body[162..].copy_from_slice(&valid_until_ms.to_be_bytes());
        body
    }

    /// Reads a body. The result is well formed; nothing is said yet about who signed it or when.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let body: &[u8; TOKEN_BODY_BYTES] = bytes.try_into().map_err(|_| TokenError::Length {
            len_bytes: bytes.len(),
            need_bytes: TOKEN_BODY_BYTES,
        })?;
        let code = body[149];
        let token = Self {
            token_id: TokenId(field(body, 0)),
            stream: StreamId(field(body, 16)),
            viewer: AccountId(field(body, 48)),
            holder_key: AccountId(field(body, 80)),
            issuer_key: AccountId(field(body, 112)),
            grants: Grants::from_bits(u32::from_be_bytes(field(body, 144)))?,
            max_layer: body[148],
            payment_status: PaymentStatus::from_code(code)
                .ok_or(TokenError::PaymentStatusForbidden { code })?,
            rev_epoch: u32::from_be_bytes(field(body, 150)),
            not_before_ms: u64::from_be_bytes(field(body, 154)),
            valid_until_ms: u64::from_be_bytes(field(body, 162)),
        };
        token.check()?;
        Ok(token)
    }

    /// Signs for one chain. Refuses what [`Token::decode`] would refuse and a key that is not
    /// `issuer_key`'s, so that no token leaves that nobody accepts.
    pub fn sign(self, key: &SigningKey, chain_id: &str) -> Result<SignedToken, TokenError> {
        self.check()?;
        if AccountId::from(key) != self.issuer_key {
            return Err(TokenError::IssuerKey);
        }
        let signature = key.sign(self.preimage(chain_id).as_slice()).to_bytes();
        Ok(SignedToken { token: self, signature })
    }

    fn check(&self) -> Result<(), TokenError> {
        if !self.payment_status.is_allowed_in_token() {
            let code = self.payment_status.code();
            return Err(TokenError::PaymentStatusForbidden { code });
        }
        if self.not_before_ms >= self.valid_until_ms {
            return Err(TokenError::SpanEmpty);
        }
        Ok(())
    }

    fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::TOKEN, chain_id).bytes(&self.encode())
    }
}

/// A token and a signature that may be wrong: only [`SignedToken::verify`] gives the token out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedToken {
    token: Token,
    signature: [u8; 64],
}

impl SignedToken {
    /// Body ‖ signature.
    pub fn encode(&self) -> [u8; TOKEN_SIGNED_BYTES] {
        let mut bytes = [0; TOKEN_SIGNED_BYTES];
        bytes[..TOKEN_BODY_BYTES].copy_from_slice(&self.token.encode());
        bytes[TOKEN_BODY_BYTES..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads body ‖ signature; checks the form, not the signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let bytes: &[u8; TOKEN_SIGNED_BYTES] = bytes.try_into().map_err(|_| {
            TokenError::Length { len_bytes: bytes.len(), need_bytes: TOKEN_SIGNED_BYTES }
        })?;
        let token = Token::decode(&bytes[..TOKEN_BODY_BYTES])?;
        Ok(Self { token, signature: field(bytes, TOKEN_BODY_BYTES) })
    }

    /// The text of an `Authorization: Bearer` header.
    pub fn to_bearer(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.encode())
    }

    /// Reads the text of an `Authorization: Bearer` header.
    pub fn from_bearer(text: &str) -> Result<Self, TokenError> {
        // The length first, so that a megabyte of header is not decoded to be refused.
        const TEXT_BYTES: usize = TOKEN_SIGNED_BYTES.div_ceil(3) * 4;
        if text.len() > TEXT_BYTES {
            let len_bytes = text.len() / 4 * 3;
            return Err(TokenError::Length { len_bytes, need_bytes: TOKEN_SIGNED_BYTES });
        }
        Self::decode(&URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Base64)?)
    }

    /// The token, if `issuer_key` signed it for this chain (strict: RFC 8032 without small-order
    /// keys, so that every verifier agrees) and `not_before <= now_ms < valid_until`.
    ///
    /// Whether that issuer has a say on the stream is the caller's question.
    pub fn verify(&self, chain_id: &str, now_ms: u64) -> Result<&Token, TokenError> {
        let token = self.verify_at_any_time(chain_id)?;
        let Token { not_before_ms, valid_until_ms, .. } = *token;
        if now_ms < not_before_ms {
            return Err(TokenError::NotYetValid { not_before_ms, now_ms });
        }
        if now_ms >= valid_until_ms {
            return Err(TokenError::Expired { valid_until_ms, now_ms });
        }
        Ok(token)
    }

    /// As [`SignedToken::verify`] without the time span: to revoke a token, or to name it in a log.
    pub fn verify_at_any_time(&self, chain_id: &str) -> Result<&Token, TokenError> {
        VerifyingKey::from_bytes(&self.token.issuer_key.0)
            .map_err(|_| TokenError::IssuerKey)?
            .verify_strict(
                self.token.preimage(chain_id).as_slice(),
                &Signature::from_bytes(&self.signature),
            )
            .map_err(|_| TokenError::Signature)?;
        Ok(&self.token)
    }
}

/// `N` bytes at `offset`, which the layout guarantees.
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("a range of N bytes")
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
