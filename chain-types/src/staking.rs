//! Proof of stake: validators, what is staked with them, what leaves them, and what they decide.
//!
//! Stake is counted in shares of a validator's tokens, so that a slash is one subtraction. Rewards
//! are sums per token and per share since the beginning, in units of 2⁻⁶⁴: whoever is touched is
//! settled, nobody else is written.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    balance::Balance,
    id::AccountId,
    params::Params,
    preimage::{Domain, Preimage},
    records::decimal,
};

/// Bytes of a validator's name.
pub const MONIKER_BYTES_MAX: usize = 64;
/// Bytes of a validator's web address.
pub const WEBSITE_BYTES_MAX: usize = 128;
/// Bytes of a proposal's title.
pub const PROPOSAL_TITLE_BYTES_MAX: usize = 128;
/// Bytes of a proposal's or an upgrade's text.
pub const PROPOSAL_TEXT_BYTES_MAX: usize = 2048;
/// Moves of stake to one validator from others that can still be slashed for those.
pub const INCOMING_MAX: usize = 8;
/// Parts of one delegation that left and were not fetched yet.
pub const LEAVING_MAX: usize = 8;
/// Between two changes of a commission, ms of block time.
pub const COMMISSION_PAUSE_MS: u64 = 24 * 3_600_000;

/// The engine's address of an ed25519 key: the first 20 bytes of its SHA-256 (CometBFT,
/// `spec/core/data_structures.md`).
pub fn consensus_address(key: &AccountId) -> [u8; 20] {
    let hash: [u8; 32] = Sha256::digest(key.0).into();
    let mut address = [0; 20];
    address.copy_from_slice(&hash[..20]);
    address
}

/// What a validator's consensus key signs to prove that its operator has it.
pub fn possession_preimage(operator: &AccountId, chain_id: &str) -> Preimage {
    Preimage::new(Domain::POSSESSION, chain_id).bytes(&operator.0)
}

/// What a validator keeps of its delegators' rewards.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Commission {
    /// Now, basis points.
    pub bps: u16,
    /// Never more, basis points.
    pub max_bps: u16,
    /// Most change in one step, basis points.
    pub step_bps: u16,
}

/// Why a validator must not vote for now.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Jail {
    /// First block time at which it may ask to be let out, unix ms.
    pub until_ms: u64,
    /// Height at which it was jailed.
    pub height: u64,
}

/// A punishment for double signing; there is one at most, and the validator never votes again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Slash {
    /// Height at which it signed twice: what left it from there on is cut too.
    pub infraction_height: u64,
    /// Height at which the chain knew.
    pub height: u64,
    /// Block time at which the chain knew, unix ms.
    pub time_ms: u64,
    /// The cut, basis points.
    pub bps: u16,
}

/// `val/<operator>`.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Validator {
    /// Its ed25519 key in the engine; never another.
    pub consensus_key: AccountId,
    /// Its name, for people.
    pub moniker: String,
    /// Where it tells more.
    pub website: String,
    /// What it keeps of rewards.
    pub commission: Commission,
    /// Block time of the last change of `commission.bps`, unix ms.
    pub commission_changed_ms: u64,
    /// All that is staked with it, its operator's own part included.
    pub tokens: Balance,
    /// Of which each delegation has some; a slash takes tokens and leaves shares.
    #[serde(with = "decimal")]
    pub shares: u128,
    /// What the engine was told last; 0: it does not vote.
    #[serde(with = "decimal")]
    pub power: u64,
    /// [`Rewards::per_token`] up to which it is settled.
    #[serde(with = "decimal")]
    pub settled: u128,
    /// Rewards of one share since the beginning, 2⁻⁶⁴ units.
    #[serde(with = "decimal")]
    pub per_share: u128,
    /// Commission that waits for its operator.
    pub commission_due: Balance,
    /// Set while it must not vote.
    pub jailed: Option<Jail>,
    /// Set for good once it signed twice.
    pub slashed: Option<Slash>,
    /// Height of its creation.
    pub since_height: u64,
}

impl Validator {
    /// Whether it may be among those who vote.
    pub fn may_vote(&self) -> bool {
        self.jailed.is_none() && self.slashed.is_none()
    }

    /// What its tokens weigh in the engine.
    pub fn weight(&self, params: &Params) -> u64 {
        params.power_of(self.tokens)
    }

    /// The first 20 bytes of its key's hash, as blocks name it.
    pub fn consensus_address(&self) -> [u8; 20] {
        consensus_address(&self.consensus_key)
    }
}

/// `signinfo/<operator>`: which of the last blocks it did not sign.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SigningInfo {
    /// First height that counts: when it came in, or was let out of jail.
    pub start_height: u64,
    /// A bit for each height modulo the window, set where it was missed; as long as the window.
    pub missed: Vec<u8>,
}

impl SigningInfo {
    /// Nothing missed, in a window of so many blocks.
    pub fn new(start_height: u64, window_blocks: u32) -> Self {
        Self { start_height, missed: vec![0; (window_blocks as usize).div_ceil(8)] }
    }

    /// Blocks of the window that were missed.
    pub fn missed_blocks(&self) -> u32 {
        self.missed.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Notes a block; whether that changed anything.
    pub fn note(&mut self, height: u64, window_blocks: u32, is_missed: bool) -> bool {
        let at = usize::try_from(height % u64::from(window_blocks.max(1))).unwrap_or(0);
        let Some(byte) = self.missed.get_mut(at / 8) else { return false };
        let bit = 1 << (at % 8);
        let was = *byte & bit != 0;
        *byte = if is_missed { *byte | bit } else { *byte & !bit };
        was != is_missed
    }
}

/// `deleg/<delegator>/<validator>`.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Delegation {
    /// Of the validator's.
    #[serde(with = "decimal")]
    pub shares: u128,
    /// [`Validator::per_share`] up to which it was paid.
    #[serde(with = "decimal")]
    pub paid: u128,
    /// What came from other validators and can still be cut for what those did; the oldest first.
    pub incoming: Vec<Incoming>,
    /// What left and was not fetched yet; each has its [`crate::StateKey::Departure`].
    pub leaving: Vec<Leaving>,
}

/// Stake that left a delegation in one block.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Leaving {
    /// When.
    pub height: u64,
    /// To which validator; `None`: back to its owner.
    pub to: Option<AccountId>,
}

/// Stake that came from another validator.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Incoming {
    /// From whom.
    pub from: AccountId,
    /// When it moved.
    pub height: u64,
    /// From this block time on it is no longer cut for `from`, unix ms.
    pub complete_ms: u64,
    /// How many of the delegation's shares it became.
    #[serde(with = "decimal")]
    pub shares: u128,
}

/// `ubd/<validator>/<height>/<delegator>/<to>`: stake that left a validator in one block.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Departure {
    /// Units, before any cut.
    pub amount: Balance,
    /// First block time at which it is free, unix ms.
    pub complete_ms: u64,
}

/// `pool/rewards`: what fees brought to those who stake.
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
pub struct Rewards {
    /// Units that are owed to validators and delegators.
    pub held: Balance,
    /// What one unit of stake that votes has earned since the beginning, 2⁻⁶⁴ units.
    #[serde(with = "decimal")]
    pub per_token: u128,
    /// Units staked with validators that vote.
    pub bonded: Balance,
}

/// What validators can decide.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Other parameters, all of them.
    Params {
        /// From the next block on.
        params: Box<Params>,
    },
    /// A new version of the program at a height.
    Upgrade {
        /// Which and when.
        upgrade: Upgrade,
    },
}

/// `upgrade/next`: from a height on only a program that knows this upgrade goes on.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Upgrade {
    /// Its name, which the new program knows.
    pub name: String,
    /// The first block that needs it.
    pub height: u64,
    /// Where to get it.
    pub info: String,
}

/// An upgrade whose block was executed, by a program that knows it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct DoneUpgrade {
    /// Its name; it is never scheduled again.
    pub name: String,
    /// The first block that needed it.
    pub height: u64,
}

/// How a proposal stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// Until its time is over; then it has failed.
    Voting,
    /// More than two thirds of the power said yes: done.
    Passed,
    /// A third said no, or its change did not fit any more.
    Rejected,
}

/// `prop/<number>`.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proposal {
    /// Operator of a validator that votes.
    pub proposer: AccountId,
    /// For people.
    pub title: String,
    /// For people.
    pub text: String,
    /// What is to be decided.
    pub change: Change,
    /// Height at which it was made.
    pub height: u64,
    /// First block time at which it takes no more votes, unix ms.
    pub ends_ms: u64,
    /// How it stands.
    pub state: ProposalState,
}

/// A fault that anybody can prove. Its number is its borsh tag.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// A relay's BindAck over terms that are dearer than the chain's price.
    DearTerms {
        /// [`crate::Terms`] as JSON, byte for byte.
        terms: String,
        /// The body of [`crate::Bind`] that carries their hash.
        #[serde(with = "bytes_hex")]
        bind: Vec<u8>,
        /// The relay's signature over it.
        #[serde(with = "bytes_hex")]
        ack: Vec<u8>,
    },
}

mod bytes_hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::hex;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::text(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        hex::bytes(&text).ok_or_else(|| de::Error::custom("expected pairs of hex digits"))
    }
}
