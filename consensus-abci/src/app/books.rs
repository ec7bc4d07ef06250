//! The books: accounts, channels, bonds, the validators' share and what was burned are the supply.
//!
//! Each block is held to it by what it wrote; [`Audit`] counts everything.

use chain_types::{Account, Balance, Channel, RelayRecord, StateKey, Supply};
use serde::Serialize;

use super::state::{BlockState, StateError, decode};
use crate::store::Snapshot;

/// All money of a state, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Audit {
    /// Units in accounts.
    pub accounts: Balance,
    /// Units in channels: deposits less what was redeemed.
    pub channels: Balance,
    /// Units that relays put in.
    pub bonds: Balance,
    /// Units of `pool/fees`.
    pub fee_pool: Balance,
    /// Units that are no more.
    pub burned: Balance,
    /// Units that the chain began with: what the others must add up to.
    pub genesis: Balance,
}

impl Audit {
    /// Counts the committed state. Takes as long as the state is large.
    ///
    /// # Errors
    /// The disk's, or an unreadable record.
    pub fn of(snapshot: &Snapshot) -> Result<Self, StateError> {
        let mut sums = [0u128; 3];
        for (at, prefix) in
            [StateKey::ACCOUNTS, StateKey::CHANNELS, StateKey::RELAYS].iter().enumerate()
        {
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
        let [accounts, channels, bonds] = sums.map(amount);
        let (burned, genesis) = (supply.burned, supply.genesis);
        Ok(Self { accounts, channels, bonds, fee_pool, burned, genesis })
    }

    /// Whether every unit is accounted for.
    pub fn is_balanced(&self) -> bool {
        let parts = [self.accounts, self.channels, self.bonds, self.fee_pool, self.burned];
        parts.iter().map(|part| part.units()).sum::<u128>() == self.genesis.units()
    }
}

impl BlockState {
    /// Holds the block to the law: what it wrote moved money, and made or lost none.
    pub(super) fn check_books(&self) -> Result<(), StateError> {
        let mut change: i128 = 0;
        for (key, value) in self.writes() {
            if holds_money(key) {
                let before = self.base.get(key)?;
                change += units(key, value.as_deref())? - units(key, before.as_deref())?;
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
    [StateKey::ACCOUNTS, StateKey::CHANNELS, StateKey::RELAYS, b"pool/"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
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
        StateKey::FeePool => signed(decode::<Balance>(key, value)?),
        StateKey::Supply => signed(decode::<Supply>(key, value)?.burned),
        StateKey::Stream(_) | StateKey::Access(..) | StateKey::Lane(_) | StateKey::Params => 0,
    })
}
