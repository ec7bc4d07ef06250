//! Domain separation: what a signature covers is `domain ‖ chain tag ‖ body`.

use std::fmt;

use sha2::{Digest, Sha256};

/// The chain id of a node that runs without a chain: grants and revocations of its own issuer key.
pub const LOCAL_CHAIN_ID: &str = "local";

/// 16 ASCII bytes that name one signed type. One domain, one type, for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain([u8; 16]);

impl Domain {
    /// Stream ids (a hash, not a signature).
    pub const STREAM: Self = Self(*b"sutantra/strm/v1");
    /// Channel ids (a hash, not a signature).
    pub const CHANNEL: Self = Self(*b"sutantra/chan/v1");
    /// Transactions.
    pub const TRANSACTION: Self = Self(*b"sutantra/tran/v1");
    /// A validator's consensus key for its operator.
    pub const POSSESSION: Self = Self(*b"sutantra/poss/v1");
    /// Vouchers.
    pub const VOUCHER: Self = Self(*b"sutantra/vchr/v1");
    /// Receipts of the relay.
    pub const RECEIPT: Self = Self(*b"sutantra/rcpt/v1");
    /// Access tokens ([`crate::Token`]).
    pub const TOKEN: Self = Self(*b"sutantra/tokn/v1");
    /// Revocations of the local mode ([`crate::Revocation`]).
    pub const REVOCATION: Self = Self(*b"sutantra/revk/v1");
    /// A viewer's keys bound to one transport.
    pub const BIND: Self = Self(*b"sutantra/bind/v2");
    /// The relay's answer to [`Domain::BIND`].
    pub const BIND_ACK: Self = Self(*b"sutantra/bnda/v1");
    /// Invites.
    pub const INVITE: Self = Self(*b"sutantra/invt/v1");
    /// Quality reports.
    pub const QUALITY_REPORT: Self = Self(*b"sutantra/qrep/v1");
    /// Relay records of the discovery.
    pub const RELAY_RECORD: Self = Self(*b"sutantra/rely/v1");
    /// Stream announcements of the discovery.
    pub const STREAM_ANNOUNCE: Self = Self(*b"sutantra/anno/v1");
    /// Authentication between federated coordinators.
    pub const FEDERATION: Self = Self(*b"sutantra/fedr/v1");

    /// The bytes as they stand before the chain tag.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The first 8 bytes of SHA-256(chain id): binds a signature to one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainTag([u8; 8]);

impl ChainTag {
    /// The tag of the chain called `chain_id`.
    pub fn of(chain_id: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(chain_id.as_bytes()).into();
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash[..8]);
        Self(tag)
    }

    /// The tag's bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// Builds the bytes under a signature: domain 16 ‖ chain tag 8 ‖ body, integers big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preimage(Vec<u8>);

impl Preimage {
    /// Begins with the prefix of `domain` on the chain `chain_id`.
    pub fn new(domain: Domain, chain_id: &str) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(domain.as_bytes());
        bytes.extend_from_slice(ChainTag::of(chain_id).as_bytes());
        Self(bytes)
    }

    /// Appends bytes of a length that the type fixes.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(field);
        self
    }

    /// Appends a big-endian `u32`.
    #[must_use]
    pub fn u32(self, field: u32) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a big-endian `u64`.
    #[must_use]
    pub fn u64(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a big-endian `u128`.
    #[must_use]
    pub fn u128(self, field: u128) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// What is signed.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The voucher vector of the protocol, made with another implementation (WebCrypto).
    #[test]
    fn the_voucher_vector_of_the_protocol_comes_out() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let preimage = Preimage::new(Domain::VOUCHER, "sutantra-test-1")
            .bytes(&[1; 32])
            .bytes(&[2; 32])
            .bytes(&[3; 32])
            .u32(1)
            .u32(1)
            .u64(42)
            .u128(42_000_000)
            .u64(42_000)
            .u64(13_125_000)
            .bytes(&[0; 32]);
        assert_eq!(preimage.as_slice().len(), 200);
        assert_eq!(hex(ChainTag::of("sutantra-test-1").as_bytes()), "ee31badd0fdd2a12");
        assert_eq!(
            hex(&Sha256::digest(preimage.as_slice())),
            "5cda8b6b07392ff313f14a249942e545fc4cf3e616525e85a419cdc15af432c9"
        );
        assert_eq!(
            hex(&key.sign(preimage.as_slice()).to_bytes()),
            "6421b8008f8e06a89f74dc1455a1b0eba739fb190356f8c0d0c120c6b86d48a9\
             4c61e660a2af99335e1999e35a590bea67fe499a60426bade917f2c8c4c9870c"
        );
    }

    #[test]
    fn no_two_types_share_a_domain() {
        let all = [
            Domain::STREAM,
            Domain::CHANNEL,
            Domain::TRANSACTION,
            Domain::VOUCHER,
            Domain::RECEIPT,
            Domain::TOKEN,
            Domain::REVOCATION,
            Domain::BIND,
            Domain::BIND_ACK,
            Domain::INVITE,
            Domain::QUALITY_REPORT,
            Domain::RELAY_RECORD,
            Domain::STREAM_ANNOUNCE,
            Domain::FEDERATION,
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert!(all.iter().all(|domain| domain.as_bytes().is_ascii()));
    }
}
