//! Bind: a viewer's keys tied to one transport, so that neither can be used without the other.
//!
//! Body, 272 bytes:
//! ```text
//!   0 token_id 16 | 16 stream 32 | 48 viewer 32 | 80 holder_key 32 | 112 relay_key 32
//! 144 client fingerprint 32 | 176 relay fingerprint 32 | 208 channel 32 | 240 SHA-256(terms) 32
//! ```
//! Signed by `holder_key` under `sutantra/bind/v2`; with both a token and a channel by the channel's
//! voucher key too. The relay answers with its signature over the same body under
//! `sutantra/bnda/v1`. Fingerprints are SHA-256 of the DTLS certificates (RFC 8122).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    id::{AccountId, ChannelId, StreamId, TokenId},
    preimage::{Domain, Preimage},
    token::field,
};

/// Bytes of an encoded [`Bind`].
pub const BIND_BODY_BYTES: usize = 272;

/// Why bytes are no acceptable Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another length than body and one or two signatures.
    #[error("the bind has {len_bytes} bytes, expected 336, or 400 with a token and a channel")]
    Length {
        /// Bytes given.
        len_bytes: usize,
    },
    /// A key is no ed25519 public key.
    #[error("a key of the bind is not a usable ed25519 key")]
    Key,
    /// Not signed by the key that must sign.
    #[error("a signature of the bind is wrong for its key and chain")]
    Signature,
}

/// Who watches what through which transport, and what pays for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bind {
    /// The access token, zeros where there is none.
    pub token_id: TokenId,
    /// What is watched.
    pub stream: StreamId,
    /// Account of the viewer.
    pub viewer: AccountId,
    /// Signs: the token's holder key; without a token the channel's voucher key; with neither the
    /// viewer's account key.
    pub holder_key: AccountId,
    /// The relay's, as on chain.
    pub relay_key: AccountId,
    /// Of the client's DTLS certificate.
    pub client_fingerprint: [u8; 32],
    /// Of the relay's DTLS certificate.
    pub relay_fingerprint: [u8; 32],
    /// The channel that pays, zeros where none does.
    pub channel: ChannelId,
    /// SHA-256 of the terms' JSON as the relay sent them.
    pub terms_hash: [u8; 32],
}

impl Bind {
    /// The body.
    pub fn encode(&self) -> [u8; BIND_BODY_BYTES] {
        let Self {
            token_id,
            stream,
            viewer,
            holder_key,
            relay_key,
            client_fingerprint,
            relay_fingerprint,
            channel,
            terms_hash,
        } = self;
        let mut body = [0; BIND_BODY_BYTES];
        body[..16].copy_from_slice(&token_id.0);
        let fields = [
            &stream.0,
            &viewer.0,
            &holder_key.0,
            &relay_key.0,
            client_fingerprint,
            relay_fingerprint,
            &channel.0,
            terms_hash,
        ];
        for (place, field) in body[16..].chunks_exact_mut(32).zip(fields) {
            place.copy_from_slice(field);
        }
        body
    }

    /// Reads a body; any 272 bytes are one.
    pub fn decode(body: &[u8; BIND_BODY_BYTES]) -> Self {
        Self {
            token_id: TokenId(field(body, 0)),
            stream: StreamId(field(body, 16)),
            viewer: AccountId(field(body, 48)),
            holder_key: AccountId(field(body, 80)),
            relay_key: AccountId(field(body, 112)),
            client_fingerprint: field(body, 144),
            relay_fingerprint: field(body, 176),
            channel: ChannelId(field(body, 208)),
            terms_hash: field(body, 240),
        }
    }

    /// Whether the channel's voucher key must sign as well as the holder.
    pub fn needs_second_signature(&self) -> bool {
        !self.token_id.is_zero() && !self.channel.is_zero()
    }

    fn preimage(&self, domain: Domain, chain_id: &str) -> Preimage {
        Preimage::new(domain, chain_id).bytes(&self.encode())
    }

    /// Signed by the holder, and by the voucher key where both sign.
    pub fn sign(
        self,
        holder: &SigningKey,
        voucher: Option<&SigningKey>,
        chain_id: &str,
    ) -> SignedBind {
        let preimage = self.preimage(Domain::BIND, chain_id);
        let sign = |key: &SigningKey| key.sign(preimage.as_slice()).to_bytes();
        let second = self.needs_second_signature().then(|| voucher.map(sign)).flatten();
        SignedBind { signature: sign(holder), second, bind: self }
    }

    /// The relay's signature over the same body: BindAck.
    pub fn acknowledge(&self, relay: &SigningKey, chain_id: &str) -> [u8; 64] {
        relay.sign(self.preimage(Domain::BIND_ACK, chain_id).as_slice()).to_bytes()
    }

    /// Whether `relay_key` acknowledged this body.
    ///
    /// # Errors
    /// Key or signature.
    pub fn verify_ack(&self, signature: &[u8; 64], chain_id: &str) -> Result<(), BindError> {
        verify(&self.relay_key, &self.preimage(Domain::BIND_ACK, chain_id), signature)
    }
}

/// A Bind and signatures that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedBind {
    /// What it says, true or not.
    pub bind: Bind,
    /// By the holder key.
    pub signature: [u8; 64],
    /// By the channel's voucher key, with a token and a channel.
    pub second: Option<[u8; 64]>,
}

impl SignedBind {
    /// Body ‖ signature [‖ second signature].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.bind.encode().to_vec();
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(self.second.as_ref().map_or(&[][..], |bytes| bytes));
        bytes
    }

    /// Reads body ‖ signature [‖ second signature]; checks the form, not the signatures.
    ///
    /// # Errors
    /// Another length than this body asks for.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindError> {
        let wrong = BindError::Length { len_bytes: bytes.len() };
        let bind = Bind::decode(bytes.first_chunk().ok_or(wrong)?);
        let signatures = if bind.needs_second_signature() { 128 } else { 64 };
        if bytes.len() != BIND_BODY_BYTES + signatures {
            return Err(wrong);
        }
        let second = bytes.get(BIND_BODY_BYTES + 64..).and_then(|bytes| bytes.try_into().ok());
        Ok(Self { bind, signature: field(bytes, BIND_BODY_BYTES), second })
    }

    /// The Bind, if its holder key signed it for this chain, and `voucher_key` where both must.
    /// Whether these are the right keys is the caller's question.
    ///
    /// # Errors
    /// Key or signature.
    pub fn verify(
        &self,
        voucher_key: Option<&AccountId>,
        chain_id: &str,
    ) -> Result<&Bind, BindError> {
        let preimage = self.bind.preimage(Domain::BIND, chain_id);
        verify(&self.bind.holder_key, &preimage, &self.signature)?;
        if self.bind.needs_second_signature() {
            let (key, second) = voucher_key.zip(self.second.as_ref()).ok_or(BindError::Key)?;
            verify(key, &preimage, second)?;
        }
        Ok(&self.bind)
    }
}

fn verify(key: &AccountId, preimage: &Preimage, signature: &[u8; 64]) -> Result<(), BindError> {
    VerifyingKey::from_bytes(&key.0)
        .map_err(|_| BindError::Key)?
        .verify_strict(preimage.as_slice(), &Signature::from_bytes(signature))
        .map_err(|_| BindError::Signature)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bind(holder: &SigningKey, relay: &SigningKey) -> Bind {
        Bind {
            token_id: TokenId::ZERO,
            stream: StreamId([3; 32]),
            viewer: AccountId([4; 32]),
            holder_key: AccountId::from(holder),
            relay_key: AccountId::from(relay),
            client_fingerprint: [5; 32],
            relay_fingerprint: [6; 32],
            channel: ChannelId([1; 32]),
            terms_hash: [8; 32],
        }
    }

    #[test]
    fn a_bind_with_another_fingerprint_is_not_the_one_that_was_signed() {
        let (holder, relay) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let signed = bind(&holder, &relay).sign(&holder, None, "a");
        assert!(signed.verify(None, "a").is_ok());
        assert_eq!(signed.verify(None, "b"), Err(BindError::Signature));
        let mut moved = signed;
        moved.bind.client_fingerprint = [9; 32];
        assert_eq!(moved.verify(None, "a"), Err(BindError::Signature));
        let mut other_relay = signed;
        other_relay.bind.relay_fingerprint = [9; 32];
        assert_eq!(other_relay.verify(None, "a"), Err(BindError::Signature));
    }

    #[test]
    fn the_relays_answer_covers_the_whole_bind() {
        let (holder, relay) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let bind = bind(&holder, &relay);
        let ack = bind.acknowledge(&relay, "a");
        assert_eq!(bind.verify_ack(&ack, "a"), Ok(()));
        let other = Bind { relay_fingerprint: [9; 32], ..bind };
        assert_eq!(other.verify_ack(&ack, "a"), Err(BindError::Signature));
        // The viewer's own signature is no acknowledgement.
        let own = bind.sign(&holder, None, "a").signature;
        assert_eq!(bind.verify_ack(&own, "a"), Err(BindError::Signature));
    }

    #[test]
    fn with_a_token_and_a_channel_both_keys_sign() {
        let (holder, voucher) =
            (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[9; 32]));
        let bind = Bind { token_id: TokenId([1; 16]), ..bind(&holder, &holder) };
        let account = AccountId::from(&voucher);
        let signed = bind.sign(&holder, Some(&voucher), "a");
        assert!(signed.verify(Some(&account), "a").is_ok());
        assert_eq!(SignedBind::decode(&signed.encode()), Ok(signed));
        assert_eq!(signed.verify(None, "a"), Err(BindError::Key));
        assert_eq!(signed.verify(Some(&bind.holder_key), "a"), Err(BindError::Signature));
        let alone = bind.sign(&holder, None, "a");
        assert_eq!(alone.verify(Some(&account), "a"), Err(BindError::Key));
        assert!(SignedBind::decode(&alone.encode()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bind_that_encodes_to_them_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 260..420),
        ) {
            if let Ok(signed) = SignedBind::decode(&bytes) {
                prop_assert_eq!(signed.encode(), bytes);
            }
        }
    }
}
