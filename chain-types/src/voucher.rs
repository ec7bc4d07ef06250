//! The voucher: payment and receipt in one, signed each cadence by the channel's voucher key.
//!
//! Body, 176 bytes, big-endian:
//! ```text
//!   0 channel 32 | 32 payee 32 | 64 stream 32 | 96 lane u32 | 100 terms_version u32
//! 104 nonce u64 | 112 cumulative u128 | 128 media_ms u64 | 136 bytes u64 | 144 qos 32
//! ```
//! Signed: `sutantra/vchr/v1` ‖ chain tag ‖ body (200 bytes). On the wire body ‖ signature (240).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    balance::Balance,
    id::{AccountId, ChannelId, LaneKey, StreamId},
    preimage::{Domain, Preimage},
    token::field,
};

/// Bytes of an encoded [`Voucher`].
pub const VOUCHER_BODY_BYTES: usize = 176;
/// Bytes of an encoded [`SignedVoucher`].
pub const VOUCHER_SIGNED_BYTES: usize = VOUCHER_BODY_BYTES + 64;

/// Why bytes are no acceptable voucher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// Another length than the layout's.
    #[error("the voucher has {len_bytes} bytes, expected {VOUCHER_SIGNED_BYTES}")]
    Length {
        /// Bytes given.
        len_bytes: usize,
    },
    /// 2⁹⁶ units or more.
    #[error("the voucher's amount is not below 2^96")]
    Amount,
    /// The key is no ed25519 public key.
    #[error("the voucher key is not a usable ed25519 key")]
    Key,
    /// Not signed by this key for this chain.
    #[error("the voucher's signature is wrong for its key and chain")]
    Signature,
}

/// What a viewer says it received and pays for on one lane, both counted from the lane's begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Voucher {
    /// Whose deposit pays.
    pub channel: ChannelId,
    /// Account that is paid.
    pub payee: AccountId,
    /// For which stream; zeros: transport between relays.
    pub stream: StreamId,
    /// [`crate::lane::lane_number`].
    pub lane: u32,
    /// Version of the stream's terms.
    pub terms_version: u32,
    /// Orders vouchers as receipts; means nothing to the chain.
    pub nonce: u64,
    /// All that was paid on the lane so far, this included.
    pub cumulative: Balance,
    /// Media received on the lane so far, ms.
    pub media_ms: u64,
    /// RTP payload received on the lane so far, retransmissions included, bytes.
    pub bytes: u64,
    /// SHA-256 of the last quality report's body, or zeros.
    pub qos: [u8; 32],
}

impl Voucher {
    /// The lane that it counts on.
    pub fn lane_key(&self) -> LaneKey {
        LaneKey { channel: self.channel, payee: self.payee, stream: self.stream, lane: self.lane }
    }

    /// The body.
    pub fn encode(&self) -> [u8; VOUCHER_BODY_BYTES] {
        // No `..`: a field that is not encoded does not compile.
        let Self {
            channel,
            payee,
            stream,
            lane,
            terms_version,
            nonce,
            cumulative,
            media_ms,
            bytes,
            qos,
        } = self;
        let mut body = [0; VOUCHER_BODY_BYTES];
        body[..32].copy_from_slice(&channel.0);
        body[32..64].copy_from_slice(&payee.0);
        body[64..96].copy_from_slice(&stream.0);
        body[96..100].copy_from_slice(&lane.to_be_bytes());
        body[100..104].copy_from_slice(&terms_version.to_be_bytes());
        body[104..112].copy_from_slice(&nonce.to_be_bytes());
        body[112..128].copy_from_slice(&cumulative.to_be_bytes());
        body[128..136].copy_from_slice(&media_ms.to_be_bytes());
        body[136..144].copy_from_slice(&bytes.to_be_bytes());
        body[144..].copy_from_slice(qos);
        body
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Length or amount.
    pub fn decode(body: &[u8]) -> Result<Self, VoucherError> {
        if body.len() != VOUCHER_BODY_BYTES {
            return Err(VoucherError::Length { len_bytes: body.len() });
        }
        Ok(Self {
            channel: ChannelId(field(body, 0)),
            payee: AccountId(field(body, 32)),
            stream: StreamId(field(body, 64)),
            lane: u32::from_be_bytes(field(body, 96)),
            terms_version: u32::from_be_bytes(field(body, 100)),
            nonce: u64::from_be_bytes(field(body, 104)),
            cumulative: Balance::from_be_bytes(field(body, 112))
                .map_err(|_| VoucherError::Amount)?,
            media_ms: u64::from_be_bytes(field(body, 128)),
            bytes: u64::from_be_bytes(field(body, 136)),
            qos: field(body, 144),
        })
    }

    /// What is signed, 200 bytes.
    pub fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::VOUCHER, chain_id).bytes(&self.encode())
    }

    /// Signs for one chain.
    pub fn sign(self, key: &SigningKey, chain_id: &str) -> SignedVoucher {
        let signature = key.sign(self.preimage(chain_id).as_slice()).to_bytes();
        SignedVoucher { voucher: self, signature }
    }
}

/// A voucher and a signature that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedVoucher {
    /// What it says, true or not.
    pub voucher: Voucher,
    /// By the channel's voucher key.
    pub signature: [u8; 64],
}

impl SignedVoucher {
    /// Body ‖ signature.
    pub fn encode(&self) -> [u8; VOUCHER_SIGNED_BYTES] {
        let mut bytes = [0; VOUCHER_SIGNED_BYTES];
        bytes[..VOUCHER_BODY_BYTES].copy_from_slice(&self.voucher.encode());
        bytes[VOUCHER_BODY_BYTES..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads body ‖ signature; checks the form, not the signature.
    ///
    /// # Errors
    /// Length or amount.
    pub fn decode(bytes: &[u8]) -> Result<Self, VoucherError> {
        if bytes.len() != VOUCHER_SIGNED_BYTES {
            return Err(VoucherError::Length { len_bytes: bytes.len() });
        }
        let voucher = Voucher::decode(&bytes[..VOUCHER_BODY_BYTES])?;
        Ok(Self { voucher, signature: field(bytes, VOUCHER_BODY_BYTES) })
    }

    /// The voucher, if `voucher_key` signed it for this chain. Strict (RFC 8032 without small-order
    /// keys): whatever passes here passes on chain.
    ///
    /// # Errors
    /// Key or signature.
    pub fn verify(
        &self,
        voucher_key: &AccountId,
        chain_id: &str,
    ) -> Result<&Voucher, VoucherError> {
        VerifyingKey::from_bytes(&voucher_key.0)
            .map_err(|_| VoucherError::Key)?
            .verify_strict(
                self.voucher.preimage(chain_id).as_slice(),
                &Signature::from_bytes(&self.signature),
            )
            .map_err(|_| VoucherError::Signature)?;
        Ok(&self.voucher)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voucher() -> Voucher {
        Voucher {
            channel: ChannelId([1; 32]),
            payee: AccountId([2; 32]),
            stream: StreamId([3; 32]),
            lane: 1,
            terms_version: 1,
            nonce: 42,
            cumulative: Balance::of(42_000_000),
            media_ms: 42_000,
            bytes: 13_125_000,
            qos: [0; 32],
        }
    }

    #[test]
    fn a_voucher_is_worth_something_under_its_key_on_its_chain_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let account = AccountId::from(&key);
        let signed = voucher().sign(&key, "sutantra-test-1");
        assert_eq!(signed.verify(&account, "sutantra-test-1"), Ok(&voucher()));
        assert_eq!(signed.verify(&account, "sutantra-test-2"), Err(VoucherError::Signature));
        let other = AccountId::from(&SigningKey::from_bytes(&[8; 32]));
        assert_eq!(signed.verify(&other, "sutantra-test-1"), Err(VoucherError::Signature));
        let mut more = signed;
        more.voucher.cumulative = Balance::of(42_000_001);
        assert_eq!(more.verify(&account, "sutantra-test-1"), Err(VoucherError::Signature));
    }

    #[test]
    fn an_amount_of_two_to_the_96_is_refused() {
        let mut bytes = voucher().encode();
        bytes[112..128].copy_from_slice(&(1u128 << 96).to_be_bytes());
        assert_eq!(Voucher::decode(&bytes), Err(VoucherError::Amount));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_voucher_that_encodes_to_them_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(signed) = SignedVoucher::decode(&bytes) {
                prop_assert_eq!(signed.encode().to_vec(), bytes);
            }
        }
    }
}
