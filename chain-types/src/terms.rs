//! Terms: what a relay asks for one stream, in JSON, the same for everybody.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    balance::Balance,
    id::{AccountId, StreamId},
    lane::{lane_number, min_prepay},
    records::{StreamMetadata, decimal},
};

/// Shortest and longest time between two vouchers, ms.
pub const CADENCE_MS: std::ops::RangeInclusive<u32> = 250..=10_000;

/// What a relay asks. Its JSON is compact, with the keys in this order; a Bind carries the SHA-256
/// of exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Which stream.
    pub stream: StreamId,
    /// Account that is paid.
    pub payee: AccountId,
    /// Signs the relay's answers.
    pub relay_key: AccountId,
    /// SHA-256 of the relay's DTLS certificate, lower-case hex.
    pub relay_fp: String,
    /// Version of the stream's terms on chain.
    pub terms_version: u32,
    /// Units per second.
    #[serde(with = "decimal")]
    pub rate: u64,
    /// Tier of quality, 0 to 2.
    pub tier: u8,
    /// Time between two vouchers.
    pub cadence_ms: u32,
    /// How far behind a viewer may be, in time.
    pub grace_ms: u32,
    /// How long a session waits for money before it ends.
    pub pause_max_s: u32,
    /// To be paid beyond what is owed before media flows.
    pub min_prepay: Balance,
}

/// Why a wallet does not accept terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsRefused {
    /// More than the stream's price on chain.
    #[error("the relay asks {asked} units a second, the stream's price on chain is {price}")]
    Rate {
        /// By the relay, units per second.
        asked: u64,
        /// By the chain, units per second.
        price: u64,
    },
    /// The chain knows no such version.
    #[error("the stream has no terms of version {0} on chain")]
    Version(u32),
    /// The chain names another key for this payee.
    #[error("the relay's key is not the one that the chain has for its account")]
    RelayKey,
    /// More is asked in advance than is usual.
    #[error("the relay asks {asked} units in advance, at most {most} are usual")]
    Prepay {
        /// By the relay.
        asked: Balance,
        /// max(2 cadences, 4 entry fees).
        most: Balance,
    },
    /// Outside of [`CADENCE_MS`].
    #[error("a voucher each {0} ms is out of the range of 250 to 10,000 ms")]
    Cadence(u32),
}

impl Terms {
    /// The bytes that are sent, hashed and signed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields have a JSON form")
    }

    /// SHA-256 of [`Terms::to_json`].
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.to_json()).into()
    }

    /// Number of the lane that pays for them.
    pub fn lane(&self) -> u32 {
        lane_number(&self.relay_key, &self.stream, self.terms_version, self.tier)
    }

    /// A wallet's check against what the chain says.
    ///
    /// # Errors
    /// See [`TermsRefused`].
    pub fn check(
        &self,
        stream: &StreamMetadata,
        relay_key: &AccountId,
        fee_per_voucher: Balance,
    ) -> Result<(), TermsRefused> {
        if self.relay_key != *relay_key {
            return Err(TermsRefused::RelayKey);
        }
        let version = self.terms_version;
        let price = stream
            .terms_of(version)
            .and_then(|terms| terms.rate(self.tier))
            .ok_or(TermsRefused::Version(version))?;
        if self.rate > price {
            return Err(TermsRefused::Rate { asked: self.rate, price });
        }
        if !CADENCE_MS.contains(&self.cadence_ms) {
            return Err(TermsRefused::Cadence(self.cadence_ms));
        }
        let twice = fee_per_voucher.checked_mul(2).unwrap_or(Balance::MAX);
        let most = min_prepay(self.rate, self.cadence_ms, twice);
        if self.min_prepay > most {
            return Err(TermsRefused::Prepay { asked: self.min_prepay, most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::records::{Policy, Split, StreamTerms};

    fn stream() -> StreamMetadata {
        let terms = |version, rate_per_second| StreamTerms {
            version,
            rate_per_second,
            tier_bps: [2_500, 5_000, 10_000],
            from_height: u64::from(version) * 10,
            ticket_price: Balance::ZERO,
            ticket_ms: 0,
        };
        StreamMetadata {
            id: StreamId([3; 32]),
            creator: AccountId([4; 32]),
            title: String::new(),
            policy: Policy::Paid,
            terms: vec![terms(1, 1_000_000), terms(2, 2_000_000)],
            split: vec![Split { version: 1, creator_bps: 7_000, origin_bps: 0 }],
            origin_relay: None,
            issuers: Vec::new(),
            rev_epoch: 0,
            codecs: Vec::new(),
            created: 0,
            ended: None,
            ext: BTreeMap::new(),
        }
    }

    fn terms() -> Terms {
        Terms {
            stream: StreamId([3; 32]),
            payee: AccountId([2; 32]),
            relay_key: AccountId([5; 32]),
            relay_fp: "06".repeat(32),
            terms_version: 1,
            rate: 1_000_000,
            tier: 2,
            cadence_ms: 1000,
            grace_ms: 3000,
            pause_max_s: 60,
            min_prepay: Balance::of(2_000_000),
        }
    }

    #[test]
    fn a_wallet_accepts_what_the_chain_says_and_nothing_above() {
        #[track_caller]
        fn check(terms: Terms, expected: Result<(), TermsRefused>) {
            assert_eq!(terms.check(&stream(), &AccountId([5; 32]), Balance::of(1000)), expected);
        }
        check(terms(), Ok(()));
        check(Terms { rate: 900_000, min_prepay: Balance::of(1_800_000), ..terms() }, Ok(()));
        let (asked, price) = (1_000_001, 1_000_000);
        check(Terms { rate: asked, ..terms() }, Err(TermsRefused::Rate { asked, price }));
        let (asked, price) = (1_000_000, 250_000);
        check(Terms { tier: 0, ..terms() }, Err(TermsRefused::Rate { asked, price }));
        check(Terms { tier: 3, ..terms() }, Err(TermsRefused::Version(1)));
        check(Terms { terms_version: 9, ..terms() }, Err(TermsRefused::Version(9)));
        check(Terms { relay_key: AccountId([6; 32]), ..terms() }, Err(TermsRefused::RelayKey));
        check(Terms { cadence_ms: 249, ..terms() }, Err(TermsRefused::Cadence(249)));
        let (asked, most) = (Balance::of(2_000_001), Balance::of(2_000_000));
        check(Terms { min_prepay: asked, ..terms() }, Err(TermsRefused::Prepay { asked, most }));
    }

    #[test]
    fn prices_hold_from_their_height_until_the_next() {
        let stream = stream();
        assert_eq!(stream.terms_at(9).map(|terms| terms.version), None);
        assert_eq!(stream.terms_at(10).map(|terms| terms.version), Some(1));
        assert_eq!(stream.terms_at(19).map(|terms| terms.version), Some(1));
        assert_eq!(stream.terms_at(20).map(|terms| terms.version), Some(2));
        assert_eq!(stream.next_terms(10).map(|terms| terms.version), Some(2));
        assert_eq!(stream.next_terms(20), None);
        assert_eq!(stream.replaced_at(1), Some(20));
        assert_eq!(stream.replaced_at(2), None);
        assert_eq!(stream.split_of(2).map(|split| split.version), Some(1));
    }

    #[test]
    fn the_json_is_compact_and_in_order() {
        assert_eq!(
            terms().to_json(),
            format!(
                "{{\"stream\":\"{}\",\"payee\":\"{}\",\"relay_key\":\"{}\",\"relay_fp\":\"{}\",\
                 \"terms_version\":1,\"rate\":\"1000000\",\"tier\":2,\"cadence_ms\":1000,\
                 \"grace_ms\":3000,\"pause_max_s\":60,\"min_prepay\":\"2000000\"}}",
                "03".repeat(32),
                "02".repeat(32),
                "05".repeat(32),
                "06".repeat(32)
            )
        );
        assert_eq!(serde_json::from_str::<Terms>(&terms().to_json()).unwrap(), terms());
    }
}
