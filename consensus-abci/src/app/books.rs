//! The books: accounts, channels, bonds, the validators' share and what was burned are the supply.
//!
//! Each block is held to it by what it wrote; [`Audit`] counts everything.

use chain_types::{
    Account, Balance, Channel, RelayRecord, StateKey, Supply,
    staking::{Departure, Rewards, Validator},
};
use serde::Serialize;

use super::state::{BlockState, StateError, decode};
use crate::store::{Snapshot, Writes};

/// All money of a state, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Audit {
    /// Units in accounts.
    pub accounts: Balance,
    /// Units in channels: deposits less what was redeemed.
    pub channels: Balance,
    /// Units that relays put in.
    pub bonds: Balance,
    /// Units staked with validators.
    pub staked: Balance,
    /// Units that left validators and were not fetched.
    pub leaving: Balance,
    /// Units of `pool/rewards`.
    pub rewards: Balance,
    /// Units of `pool/fees`.
    pub fee_pool: Balance,
    /// Units that are no more.
    pub burned: Balance,
    /// Units that the chain began with: what the others must add up to.
    pub genesis: Balance,
}

/// Prefixes of the records that hold money, in the order of [`Audit`]'s fields.
const PURSES: [&[u8]; 5] = [
    StateKey::ACCOUNTS,
    StateKey::CHANNELS,
    StateKey::RELAYS,
    StateKey::VALIDATORS,
    StateKey::DEPARTURES,
];

impl Audit {
    /// Counts the committed state. Takes as long as the state is large.
    ///
    /// # Errors
    /// The disk's, or an unreadable record.
    pub fn of(snapshot: &Snapshot) -> Result<Self, StateError> {
        let mut sums = [0u128; PURSES.len()];
        for (at, prefix) in PURSES.iter().enumerate() {
            for entry in snapshot.prefix(prefix) {
                let (key, value) = entry?;
                let units = units(&key, Some(&value))?;
                sums[at] += u128::try_from(units).expect("these hold no debts");
            }
        }
        let amount = |units| Balance::new(units).unwrap_or(Balance::MAX);
        let get = |key: StateKey| snapshot.get(&key.to_bytes());
        let supply = get(StateKey::Supply)?.ok_or(StateError::NoGenesis)?;
        let supply: Supply = decode(StateKey::Supply, &supply)?;
        let fee_pool = match get(StateKey::FeePool)? {
            None => Balance::ZERO,
            Some(bytes) => decode(StateKey::FeePool, &bytes)?,
        };
        let rewards: Rewards = match get(StateKey::Rewards)? {
            None => Rewards::default(),
            Some(bytes) => decode(StateKey::Rewards, &bytes)?,
        };
        let [accounts, channels, bonds, staked, leaving] = sums.map(amount);
        let (rewards, burned, genesis) = (rewards.held, supply.burned, supply.genesis);
        Ok(Self { accounts, channels, bonds, staked, leaving, rewards, fee_pool, burned, genesis })
    }

    /// Whether every unit is accounted for.
    pub fn is_balanced(&self) -> bool {
        let Self {
            accounts,
            channels,
            bonds,
            staked,
            leaving,
            rewards,
            fee_pool,
            burned,
            genesis: _, // What they must be.
        } = *self;
        let parts = [accounts, channels, bonds, staked, leaving, rewards, fee_pool, burned];
        parts.iter().map(|part| part.units()).sum::<u128>() == self.genesis.units()
    }
}

/// What is wrong with the books of a state that is to be imported.
pub(super) fn imported(writes: &Writes) -> Result<Option<String>, StateError> {
    let mut found: i128 = 0;
    let mut expected = 0;
    for (key, value) in writes {
        found = found.saturating_add(units(key, value.as_deref())?);
        if let (Some(key @ StateKey::Supply), Some(value)) = (StateKey::parse(key), value) {
            expected = signed(decode::<Supply>(key, value)?.genesis);
        }
    }
    let fault = format!("the records hold {found} units, {expected} were there in the beginning");
    Ok((found != expected).then_some(fault))
}

impl BlockState {
    /// Holds the block to the law: what it wrote moved money, and made or lost none.
    pub(super) fn check_books(&self) -> Result<(), StateError> {
        let mut change: i128 = 0;
        for (key, value) in self.writes() {
            if holds_money(key) {
                change += units(key, value.as_deref())?;
                change -= self.before(key, |before| units(key, before))?;
            }
        }
        if change == 0 {
            return Ok(());
        }
        let supply: Supply = self.get(StateKey::Supply)?.ok_or(StateError::NoGenesis)?;
        let expected = signed(supply.genesis);
        Err(StateError::Books { height: self.height, found: expected + change, expected })
    }
}

fn holds_money(key: &[u8]) -> bool {
    PURSES.iter().chain([&&b"pool/"[..]]).any(|prefix| key.starts_with(prefix))
}

fn signed(amount: Balance) -> i128 {
    i128::try_from(amount.units()).expect("below 2^96")
}

/// Units that one record accounts for.
fn units(key: &[u8], value: Option<&[u8]>) -> Result<i128, StateError> {
    let (Some(key), Some(value)) = (StateKey::parse(key), value) else { return Ok(0) };
    Ok(match key {
        StateKey::Account(_) => signed(decode::<Account>(key, value)?.balance),
        StateKey::Channel(_) => {
            let channel: Channel = decode(key, value)?;
            signed(channel.deposits) - signed(channel.redeemed)
        }
        StateKey::Relay(_) => signed(decode::<RelayRecord>(key, value)?.bond),
        StateKey::Validator(_) => signed(decode::<Validator>(key, value)?.tokens),
        // What went to another validator is among its tokens.
        StateKey::Departure(left) if left.to.is_zero() => {
            signed(decode::<Departure>(key, value)?.amount)
        }
        StateKey::Rewards => signed(decode::<Rewards>(key, value)?.held),
        StateKey::FeePool => signed(decode::<Balance>(key, value)?),
        StateKey::Supply => signed(decode::<Supply>(key, value)?.burned),
        StateKey::Stream(_)
        | StateKey::Access(..)
        | StateKey::Lane(_)
        | StateKey::ConsensusAddress(_)
        | StateKey::SigningInfo(_)
        | StateKey::Delegation(..)
        | StateKey::Departure(_)
        | StateKey::Proposal(_)
        | StateKey::Vote(..)
        | StateKey::Evidence(_)
        | StateKey::Upgrade
        | StateKey::UpgradesDone
        | StateKey::Params
        | StateKey::ChainId
        | StateKey::Proposals => 0,
    })
}
