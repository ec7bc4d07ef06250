//! The end of a block: fees become rewards, and the engine is told who votes.

use std::{cmp::Reverse, collections::BTreeMap};

use chain_types::{
    AccountId, Balance, ChainEvent, StateKey,
    staking::{Rewards, SigningInfo, Validator},
};

use super::{ONE, mul_div};
use crate::app::state::{BlockState, StateError, Stop, sum};

/// A validator's new power, for the engine.
pub(in crate::app) struct PowerUpdate {
    pub(in crate::app) consensus_key: AccountId,
    pub(in crate::app) power: u64,
}

impl BlockState {
    /// Shares out the fees of the block, then sees whose power changed.
    pub(in crate::app) fn end_of_stake(&mut self) -> Result<Vec<PowerUpdate>, Stop> {
        let Some(rewards) = self.get::<Rewards>(StateKey::Rewards)? else { return Ok(Vec::new()) };
        self.share_fees(rewards)?;
        let concerns =
            |key: &[u8]| key.starts_with(StateKey::VALIDATORS) || key == StateKey::PARAMS;
        if !self.writes().keys().any(|key| concerns(key)) {
            return Ok(Vec::new());
        }
        if self.writes().contains_key(StateKey::PARAMS) {
            // No later block needs to touch a validator: what it means for them is seen now.
            let window = self.params.signed_window_blocks;
            self.params = self.get(StateKey::Params)?.ok_or(StateError::NoGenesis)?;
            if self.params.signed_window_blocks != window {
                self.begin_windows_anew()?;
            }
        }
        self.update_powers()
    }

    fn share_fees(&mut self, mut rewards: Rewards) -> Result<(), Stop> {
        let fees: Balance = self.get(StateKey::FeePool)?.unwrap_or_default();
        if fees.is_zero() || rewards.bonded.is_zero() {
            return Ok(());
        }
        let more = mul_div(fees.units(), ONE, rewards.bonded.units());
        let Some(per_token) = more.and_then(|more| rewards.per_token.checked_add(more)) else {
            return Ok(()); // They wait for more stake.
        };
        rewards.per_token = per_token;
        rewards.held = sum(rewards.held, fees);
        self.put(StateKey::FeePool, &Balance::ZERO);
        self.put(StateKey::Rewards, &rewards);
        Ok(())
    }

    fn update_powers(&mut self) -> Result<Vec<PowerUpdate>, Stop> {
        let all = self.all_validators()?;
        let chosen =
            chosen(&all, self.params.validators_max, |validator| validator.weight(&self.params));
        if chosen.is_empty() {
            // Without a voter there would never be another block: those who vote go on.
            return Ok(Vec::new());
        }
        let mut rewards = self.rewards()?;
        let mut updates = Vec::new();
        for (operator, mut validator) in all {
            let power = chosen.get(&operator).copied().unwrap_or(0);
            if power == validator.power {
                continue;
            }
            match (validator.power, power) {
                (0, _) => {
                    rewards.bonded = sum(rewards.bonded, validator.tokens);
                    // It signs from two blocks later on.
                    let from = self.height.saturating_add(2);
                    let info = SigningInfo::new(from, self.params.signed_window_blocks);
                    self.put(StateKey::SigningInfo(operator), &info);
                }
                (_, 0) => {
                    rewards.bonded = rewards.bonded.saturating_sub(validator.tokens);
                    self.delete(StateKey::SigningInfo(operator));
                }
                _ => {}
            }
            validator.power = power;
            self.put(StateKey::Validator(operator), &validator);
            self.event(ChainEvent::ValidatorPower { validator: operator, power });
            updates.push(PowerUpdate { consensus_key: validator.consensus_key, power });
        }
        self.put(StateKey::Rewards, &rewards);
        Ok(updates)
    }
}

/// Who votes with what: the most tokens first, then the lesser operator.
pub(in crate::app) fn chosen(
    all: &[(AccountId, Validator)],
    most: u32,
    weight: impl Fn(&Validator) -> u64,
) -> BTreeMap<AccountId, u64> {
    let mut able: Vec<_> =
        all.iter().filter(|(_, validator)| validator.may_vote() && weight(validator) > 0).collect();
    able.sort_by_key(|(operator, validator)| (Reverse(validator.tokens), *operator));
    able.truncate(most as usize);
    able.into_iter().map(|(operator, validator)| (*operator, weight(validator))).collect()
}
