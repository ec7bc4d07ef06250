//! The revocation of the local mode: an issuer takes back one token, or one viewer on one stream.
//!
//! Body, 121 bytes, big-endian:
//! ```text
//!   0 issuer_key 32 | 32 kind u8 (1 token, 2 viewer) | 33 token_id 16 | 49 stream 32
//!  81 viewer 32 | 113 issued u64 ms
//! ```
//! The fields that the kind does not use are zero, so that one meaning has one encoding. Signed:
//! `sutantra/revk/v1` ‖ chain tag ‖ body; on the wire body ‖ signature (185 bytes).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    id::{AccountId, StreamId, TokenId},
    preimage::{Domain, Preimage},
    token::{Token, field},
};

/// Bytes of an encoded [`Revocation`].
pub const REVOCATION_BODY_BYTES: usize = 121;
/// Bytes of an encoded [`SignedRevocation`].
pub const REVOCATION_SIGNED_BYTES: usize = REVOCATION_BODY_BYTES + 64;

/// What is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// One token, for ever.
    Token(TokenId),
    /// Every token of a viewer on a stream whose validity began at or before `issued_ms`; a
    /// token granted later counts again, so a person sent away can be let back in.
    Viewer {
        /// The stream.
        stream: StreamId,
        /// The viewer; [`AccountId::ZERO`] means all tokens that name no viewer.
        viewer: AccountId,
    },
}

/// Why bytes are no acceptable revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Not base64url without padding.
    #[error("the revocation is not base64url without padding")]
    Base64,
    /// Another length than the layout's.
    #[error("the revocation has {len_bytes} bytes, expected {REVOCATION_SIGNED_BYTES}")]
    Length {
        /// Bytes given.
        len_bytes: usize,
    },
    /// A kind that is neither 1 (token) nor 2 (viewer).
    #[error("unknown kind of revocation {0}")]
    KindUnknown(u8),
    /// A field that the kind does not use is not zero.
    #[error("a field that this kind of revocation does not use is not zero")]
    FieldNotZero,
    /// `issuer_key` is no ed25519 public key.
    #[error("the revocation's issuer key is not a usable ed25519 key")]
    IssuerKey,
    /// Not signed by `issuer_key` for this chain.
    #[error("the revocation's signature is wrong for this issuer and chain")]
    Signature,
}

/// An issuer's word that something it granted counts no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// Who signs; it takes back only what the same key granted.
    pub issuer_key: AccountId,
    /// What is taken back.
    pub what: Revoked,
    /// When, unix ms.
    pub issued_ms: u64,
}

impl Revocation {
    /// The body.
    pub fn encode(&self) -> [u8; REVOCATION_BODY_BYTES] {
        let (kind, token_id, stream, viewer) = match self.what {
            Revoked::Token(token_id) => (1, token_id, StreamId::ZERO, AccountId::ZERO),
            Revoked::Viewer { stream, viewer } => (2, TokenId::ZERO, stream, viewer),
        };
        let mut body = [0; REVOCATION_BODY_BYTES];
        body[..32].copy_from_slice(&self.issuer_key.0);
        body[32] = kind;
        body[33..49].copy_from_slice(&token_id.0);
        body[49..81].copy_from_slice(&stream.0);
        body[81..113].copy_from_slice(&viewer.0);
        body[113..].copy_from_slice(&self.issued_ms.to_be_bytes());
        body
    }

    /// Signs for one chain. `None` if `key` is not `issuer_key`'s.
    pub fn sign(self, key: &SigningKey, chain_id: &str) -> Option<SignedRevocation> {
        if AccountId::from(key) != self.issuer_key {
            return None;
        }
        let signature = key.sign(self.preimage(chain_id).as_slice()).to_bytes();
        Some(SignedRevocation { revocation: self, signature })
    }

    /// Whether `token` counts no longer by this word.
    pub fn covers(&self, token: &Token) -> bool {
        token.issuer_key == self.issuer_key
            && match self.what {
                Revoked::Token(token_id) => token.token_id == token_id,
                Revoked::Viewer { stream, viewer } => {
                    token.stream == stream
                        && token.viewer == viewer
                        && token.not_before_ms <= self.issued_ms
                }
            }
    }

    fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::REVOCATION, chain_id).bytes(&self.encode())
    }
}

/// A revocation and a signature that may be wrong: only [`SignedRevocation::verify`] gives it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedRevocation {
    revocation: Revocation,
    signature: [u8; 64],
}

impl SignedRevocation {
    /// Body ‖ signature.
    pub fn encode(&self) -> [u8; REVOCATION_SIGNED_BYTES] {
        let mut bytes = [0; REVOCATION_SIGNED_BYTES];
        bytes[..REVOCATION_BODY_BYTES].copy_from_slice(&self.revocation.encode());
        bytes[REVOCATION_BODY_BYTES..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads body ‖ signature; checks the form, not the signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, RevocationError> {
        let bytes: &[u8; REVOCATION_SIGNED_BYTES] =
            bytes.try_into().map_err(|_| RevocationError::Length { len_bytes: bytes.len() })?;
        let (token_id, stream, viewer) =
            (TokenId(field(bytes, 33)), StreamId(field(bytes, 49)), AccountId(field(bytes, 81)));
        let what = match bytes[32] {
            1 if stream.is_zero() && viewer.is_zero() => Revoked::Token(token_id),
            2 if token_id.is_zero() => Revoked::Viewer { stream, viewer },
            1 | 2 => return Err(RevocationError::FieldNotZero),
            kind => return Err(RevocationError::KindUnknown(kind)),
        };
        let revocation = Revocation {
            issuer_key: AccountId(field(bytes, 0)),
            what,
            issued_ms: u64::from_be_bytes(field(bytes, 113)),
        };
        Ok(Self { revocation, signature: field(bytes, REVOCATION_BODY_BYTES) })
    }

    /// Text form: base64url without padding.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.encode())
    }

    /// Reads the text form.
    pub fn from_text(text: &str) -> Result<Self, RevocationError> {
        const TEXT_BYTES: usize = REVOCATION_SIGNED_BYTES.div_ceil(3) * 4;
        if text.len() > TEXT_BYTES {
            return Err(RevocationError::Length { len_bytes: text.len() / 4 * 3 });
        }
        Self::decode(&URL_SAFE_NO_PAD.decode(text).map_err(|_| RevocationError::Base64)?)
    }

    /// The revocation, if `issuer_key` signed it for this chain. Whether that issuer is trusted
    /// is the caller's question.
    pub fn verify(&self, chain_id: &str) -> Result<&Revocation, RevocationError> {
        VerifyingKey::from_bytes(&self.revocation.issuer_key.0)
            .map_err(|_| RevocationError::IssuerKey)?
            .verify_strict(
                self.revocation.preimage(chain_id).as_slice(),
                &Signature::from_bytes(&self.signature),
            )
            .map_err(|_| RevocationError::Signature)?;
        Ok(&self.revocation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn signed(what: Revoked) -> SignedRevocation {
        Revocation { issuer_key: AccountId::from(&key()), what, issued_ms: 1_000 }
            .sign(&key(), "local")
            .expect("the key is the issuer's")
    }

    #[test]
    fn a_revocation_holds_for_its_issuer_and_chain_only() {
        let good = signed(Revoked::Token(TokenId([9; 16])));
        assert_eq!(good.verify("local").map(|r| r.what), Ok(Revoked::Token(TokenId([9; 16]))));
        assert_eq!(good.verify("sutantra-test-1"), Err(RevocationError::Signature));

        let other = SigningKey::from_bytes(&[8; 32]);
        assert_eq!(good.revocation.sign(&other, "local"), None);
        let mut bytes = good.encode();
        bytes[..32].copy_from_slice(&AccountId::from(&other).0);
        let forged = SignedRevocation::decode(&bytes).expect("the form is right");
        assert_eq!(forged.verify("local"), Err(RevocationError::Signature));
    }

    #[test]
    fn each_malformed_revocation_has_its_own_error() {
        #[track_caller]
        fn check(edit: impl FnOnce(&mut Vec<u8>), expected: RevocationError) {
            let mut bytes = signed(Revoked::Token(TokenId([9; 16]))).encode().to_vec();
            edit(&mut bytes);
            assert_eq!(SignedRevocation::decode(&bytes), Err(expected));
        }
        check(|b| b.truncate(184), RevocationError::Length { len_bytes: 184 });
        check(|b| b.push(0), RevocationError::Length { len_bytes: 186 });
        check(|b| b[32] = 0, RevocationError::KindUnknown(0));
        check(|b| b[32] = 3, RevocationError::KindUnknown(3));
        check(|b| b[32] = 2, RevocationError::FieldNotZero);
        check(|b| b[49] = 1, RevocationError::FieldNotZero);
        check(|b| b[112] = 1, RevocationError::FieldNotZero);
        assert_eq!(SignedRevocation::from_text("+/=="), Err(RevocationError::Base64));
        assert_eq!(
            SignedRevocation::from_text(&"A".repeat(4000)),
            Err(RevocationError::Length { len_bytes: 3000 })
        );
    }

    proptest! {
        #[test]
        fn decode_is_total_and_encode_is_its_inverse(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), REVOCATION_SIGNED_BYTES),
                proptest::collection::vec(any::<u8>(), 0..400),
            ],
            kind in 0u8..4,
        ) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(32) { *byte = kind; }
            if let Ok(decoded) = SignedRevocation::decode(&bytes) {
                prop_assert_eq!(&decoded.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn text_form_round_trips(stream in any::<[u8; 32]>(), viewer in any::<[u8; 32]>()) {
            let signed = signed(Revoked::Viewer { stream: StreamId(stream), viewer: AccountId(viewer) });
            let back = SignedRevocation::from_text(&signed.to_text());
            prop_assert_eq!(back, Ok(signed));
            prop_assert!(signed.verify("local").is_ok());
        }
    }
}
