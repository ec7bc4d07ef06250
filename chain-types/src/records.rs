//! What the chain keeps: the values behind [`crate::StateKey`], in borsh; in JSON for people.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    balance::Balance,
    id::{AccountId, StreamId},
    lane::rate_of_tier,
};

/// Numbers above 2^53 as decimal strings, so that JavaScript reads them whole.
pub(crate) mod decimal {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// `acct/…`: never deleted, so that a nonce never comes back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Account {
    /// What it may spend.
    pub balance: Balance,
    /// Transactions that it was charged for so far; the nonce of the next.
    pub nonce: u64,
}

/// Who may watch a stream.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Everybody.
    Free,
    /// Whoever pays by the second.
    Paid,
    /// Whoever bought a ticket.
    Ticketed,
    /// Whom the creator put on the list.
    AllowList,
}

/// A price, from a height on.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StreamTerms {
    /// Counts from 1; a new price or split makes the next.
    pub version: u32,
    /// Units per second at full quality.
    #[serde(with = "decimal")]
    pub rate_per_second: u64,
    /// Share of the rate for each tier, basis points, lowest tier first; at most 10⁴.
    pub tier_bps: [u16; 3],
    /// First height at which it holds.
    pub from_height: u64,
    /// Price of a ticket.
    pub ticket_price: Balance,
    /// How long a ticket is good for, ms.
    pub ticket_ms: u64,
}

impl StreamTerms {
    /// Units per second of a tier; `None`: there is no such tier.
    pub fn rate(&self, tier: u8) -> Option<u64> {
        let bps = *self.tier_bps.get(usize::from(tier))?;
        Some(rate_of_tier(self.rate_per_second, bps))
    }
}

/// The highest tier: full quality.
pub const TIER_FULL: u8 = 2;

/// Who gets what of a payment, from a version of the terms on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Split {
    /// First version of the terms that it holds for.
    pub version: u32,
    /// The creator's share of what the fee leaves, basis points.
    pub creator_bps: u16,
    /// The origin relay's, basis points; the sum is at most 10⁴.
    pub origin_bps: u16,
}

/// `stream/…` (R42).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StreamMetadata {
    /// [`StreamId::of`] creator and nonce.
    pub id: StreamId,
    /// Who registered it, and is paid.
    pub creator: AccountId,
    /// For people; at most [`TITLE_BYTES_MAX`] bytes.
    pub title: String,
    /// Who may watch.
    pub policy: Policy,
    /// Prices by version, oldest first; never empty.
    pub terms: Vec<StreamTerms>,
    /// Splits by version, oldest first; never empty.
    pub split: Vec<Split>,
    /// Account of the relay that the creator publishes to.
    pub origin_relay: Option<AccountId>,
    /// Keys besides the creator's that may sign tokens.
    pub issuers: Vec<AccountId>,
    /// Tokens and access records of an earlier epoch count no longer.
    pub rev_epoch: u32,
    /// Names as in SDP.
    pub codecs: Vec<String>,
    /// Block time, unix ms.
    pub created: u64,
    /// Block time of its end, unix ms.
    pub ended: Option<u64>,
    /// What later versions add, by name.
    pub ext: BTreeMap<String, Vec<u8>>,
}

/// Longest title.
pub const TITLE_BYTES_MAX: usize = 128;
/// Most issuers of a stream.
pub const ISSUERS_MAX: usize = 16;
/// Most codec names of a stream, each at most [`NAME_BYTES_MAX`] bytes.
pub const CODECS_MAX: usize = 8;
/// Most entries of `ext`; names at most [`NAME_BYTES_MAX`], values at most 256 bytes.
pub const EXT_MAX: usize = 8;
/// Bytes of a value in `ext`.
pub const EXT_VALUE_BYTES_MAX: usize = 256;
/// Bytes of a codec's, region's or extension's name.
pub const NAME_BYTES_MAX: usize = 32;
/// Bytes of a relay's endpoint.
pub const ENDPOINT_BYTES_MAX: usize = 256;
/// Versions of terms that a stream keeps; SetPrice and SetSplit beyond it are refused until old
/// ones have ceased to be redeemable and are dropped.
pub const TERMS_MAX: usize = 32;

impl StreamMetadata {
    /// The terms in force at `height`: the newest version whose height has come. `None` before the
    /// first.
    pub fn terms_at(&self, height: u64) -> Option<&StreamTerms> {
        self.terms.iter().rev().find(|terms| terms.from_height <= height)
    }

    /// Terms that will be in force later than `height`, the next first.
    pub fn next_terms(&self, height: u64) -> Option<&StreamTerms> {
        self.terms.iter().find(|terms| terms.from_height > height)
    }

    /// A version that is still kept.
    pub fn terms_of(&self, version: u32) -> Option<&StreamTerms> {
        self.terms.iter().find(|terms| terms.version == version)
    }

    /// First height at which `version` no longer holds; `None`: nothing is known to replace it.
    pub fn replaced_at(&self, version: u32) -> Option<u64> {
        self.terms.iter().find(|terms| terms.version > version).map(|terms| terms.from_height)
    }

    /// The split in force for a version of the terms.
    pub fn split_of(&self, version: u32) -> Option<&Split> {
        self.split.iter().rev().find(|split| split.version <= version)
    }

    /// Whether `key` may sign tokens for the stream.
    pub fn is_issuer(&self, key: &AccountId) -> bool {
        self.creator == *key || self.issuers.contains(key)
    }
}

/// `access/…`: what the chain says about one viewer on one stream.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct AccessRecord {
    /// First instant at which it counts no longer, unix ms.
    pub valid_until: u64,
    /// Code of a [`crate::PaymentStatus`].
    pub payment_status: u8,
    /// Highest layer, 255 = no cap.
    pub max_layer: u8,
    /// The stream's epoch when it was given.
    pub rev_epoch: u32,
}

/// Part of a channel that is kept for one payee.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Reserve {
    /// For whom.
    pub payee: AccountId,
    /// What is left of it.
    pub amount: Balance,
    /// First height at which it is free again.
    pub until_height: u64,
}

/// When a channel began to close.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct CloseRequest {
    /// Height of the request.
    pub height: u64,
    /// Block time of the request, unix ms.
    pub time_ms: u64,
}

/// `channel/…`: a deposit that pays many payees by vouchers.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Channel {
    /// Who deposited, and gets back what is left.
    pub payer: AccountId,
    /// Signs its vouchers.
    pub voucher_key: AccountId,
    /// All deposits so far.
    pub deposits: Balance,
    /// All that was paid out of it.
    pub redeemed: Balance,
    /// At most one for each payee, those that ended included until they are touched.
    pub reserves: Vec<Reserve>,
    /// Whether and since when it closes.
    pub close_requested: Option<CloseRequest>,
    /// Finalized: nothing is in it, and nothing will be.
    pub closed: bool,
    /// From this height on it takes no new money, and anybody may request its close.
    pub expires_height: u64,
}

impl Channel {
    /// What a payee's live reserve still holds.
    pub fn reserve_of(&self, payee: &AccountId, height: u64) -> Balance {
        let live = |kept: &&Reserve| kept.payee == *payee && kept.until_height > height;
        self.reserves.iter().find(live).map_or(Balance::ZERO, |kept| kept.amount)
    }

    /// What is neither paid out nor reserved.
    pub fn free(&self, height: u64) -> Balance {
        let live = self.reserves.iter().filter(|kept| kept.until_height > height);
        let left = self.deposits.saturating_sub(self.redeemed);
        live.fold(left, |free, kept| free.saturating_sub(kept.amount))
    }

    /// What a payee can be sure of now: its own reserve and what is free.
    pub fn available_to(&self, payee: &AccountId, height: u64) -> Balance {
        let reserve = self.reserve_of(payee, height);
        self.free(height).checked_add(reserve).unwrap_or(Balance::MAX)
    }

    /// Whether it is neither closing nor closed nor expired.
    pub fn is_open(&self, height: u64) -> bool {
        !self.closed && self.close_requested.is_none() && height < self.expires_height
    }
}

/// `lane/…`: how far one lane was redeemed by its payee or its relay's key; deleted when its channel
/// is finalized. An entry counts iff its total is above `paid`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct LaneRecord {
    /// The highest cumulative amount presented by the payee, or its relay's key, of which something
    /// was paid; no rule depends on it.
    pub cum: Balance,
    /// What was paid of it.
    pub paid: Balance,
    /// The version of its first entry.
    pub terms_version: u32,
}

/// `relay/…`: who relays, and with which key it signs.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RelayRecord {
    /// What it has put in.
    pub bond: Balance,
    /// Signs BindAck and receipts; may redeem what the relay is owed, and spend nothing of it.
    pub relay_key: AccountId,
    /// Base URL of its HTTP face.
    pub endpoint: String,
    /// ISO country code and geohash.
    pub region: String,
    /// Price of transport between relays, units per GB.
    pub wholesale_per_gb: Balance,
    /// It serves no stream whose split leaves it less, basis points.
    pub min_share_bps: u16,
    /// Height at which it registered.
    pub since_height: u64,
    /// Set while its bond comes back: from this block time on it may be taken, unix ms.
    pub leaving: Option<u64>,
    /// What later versions add, by name.
    pub ext: BTreeMap<String, Vec<u8>>,
}

/// A key that a relay signed with before, and can still be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FormerKey {
    /// Was [`RelayRecord::relay_key`].
    pub key: AccountId,
    /// First block time at which its bond is safe from what this key signed, unix ms.
    pub until_ms: u64,
}

/// Former keys that a relay can be held to at a time; another change of its key waits for the oldest.
pub const FORMER_KEYS_MAX: usize = 6;
const _: () = assert!(4 + FORMER_KEYS_MAX * 40 <= EXT_VALUE_BYTES_MAX);
/// Name in [`RelayRecord::ext`] of its [`FormerKey`]s, borsh.
const FORMER_KEYS: &str = "chain.former_keys";

impl RelayRecord {
    /// Keys before the present one; some may be safe by now.
    pub fn former_keys(&self) -> Vec<FormerKey> {
        let bytes = self.ext.get(FORMER_KEYS);
        bytes.and_then(|bytes| borsh::from_slice(bytes).ok()).unwrap_or_default()
    }

    /// Whether its bond answers at a block time (unix ms) for what `key` signed.
    pub fn answers_for(&self, key: &AccountId, now_ms: u64) -> bool {
        let is_held = |former: &FormerKey| former.key == *key && now_ms < former.until_ms;
        self.relay_key == *key || self.former_keys().iter().any(is_held)
    }

    /// Signs with `key` from now on; what was signed before counts until `until_ms`.
    ///
    /// # Errors
    /// The first block time at which another change is possible, unix ms: too many former keys
    /// count still.
    pub fn change_key(&mut self, key: AccountId, now_ms: u64, until_ms: u64) -> Result<(), u64> {
        if key == self.relay_key {
            return Ok(());
        }
        let mut former = self.former_keys();
        former.retain(|former| former.key != key && now_ms < former.until_ms);
        if former.len() >= FORMER_KEYS_MAX {
            return Err(former.iter().map(|former| former.until_ms).min().unwrap_or(until_ms));
        }
        former.push(FormerKey { key: self.relay_key, until_ms });
        self.relay_key = key;
        let bytes = borsh::to_vec(&former).expect("writing to memory does not fail");
        self.ext.insert(FORMER_KEYS.to_owned(), bytes);
        Ok(())
    }
}

/// `pool/supply`: all money is `genesis − burned`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Supply {
    /// What the chain began with.
    pub genesis: Balance,
    /// What was burned since.
    pub burned: Balance,
}
