//! Proof of stake: who votes with how much, what it earns, and what it loses.
//!
//! Nothing is written for those who are not touched: rewards are sums per token and per share,
//! deadlines are compared when somebody asks. The engine is told of a new power at the end of the
//! block in which it changed, and goes by it two blocks later.

mod delegate;
mod liveness;
mod power;
mod slash;
mod validators;

use chain_types::{
    AccountId, Balance, ChainEvent, ResultCode, StateKey, Supply,
    staking::{Commission, Delegation, Rewards, Validator},
};
use ethnum::U256;
use tendermint_proto::v0_38::abci::{Misbehavior, VoteInfo};

use super::state::{BlockState, StateError, Stop, reject};

pub(super) use self::{
    power::{PowerUpdate, chosen},
    validators::{NewValidator, new_validator},
};

/// Sums of rewards are in units of 2⁻⁶⁴.
const ONE: u128 = 1 << 64;

/// ⌊a·b / c⌋; `None` where that is no 128 bits, or `c` is zero.
pub(super) fn mul_div(a: u128, b: u128, c: u128) -> Option<u128> {
    let product = U256::from(a) * U256::from(b); // Two times 128 bits fit.
    u128::try_from(product.checked_div(U256::from(c))?).ok()
}

/// ⌈a·b / c⌉; `None` as in [`mul_div`].
fn mul_div_up(a: u128, b: u128, c: u128) -> Option<u128> {
    let product = U256::from(a) * U256::from(b);
    let (whole, rest) = (product.checked_div(U256::from(c))?, product.checked_rem(U256::from(c))?);
    let whole = u128::try_from(whole).ok()?;
    if rest == 0 { Some(whole) } else { whole.checked_add(1) }
}

/// A part of an amount, basis points, rounded down.
pub(super) fn part(amount: Balance, bps: u16) -> Balance {
    let units = mul_div(amount.units(), u128::from(bps), 10_000).unwrap_or(u128::MAX);
    Balance::new(units).unwrap_or(Balance::MAX).min(amount)
}

/// Tokens of so many shares of a validator, rounded down.
pub(super) fn tokens_of(validator: &Validator, shares: u128) -> Balance {
    let units = mul_div(shares, validator.tokens.units(), validator.shares).unwrap_or(0);
    Balance::new(units).unwrap_or(validator.tokens).min(validator.tokens)
}

/// What a voting validator has earned since it was settled: all of it, and its commission in it.
fn earned(validator: &Validator, rewards: &Rewards) -> (Balance, Balance) {
    if validator.power == 0 {
        return (Balance::ZERO, Balance::ZERO);
    }
    let since = rewards.per_token.saturating_sub(validator.settled);
    let units = mul_div(validator.tokens.units(), since, ONE).unwrap_or(0);
    let all = Balance::new(units).unwrap_or(rewards.held).min(rewards.held);
    (all, part(all, validator.commission.bps))
}

/// Brings a validator's sums up to date.
pub(super) fn settle(validator: &mut Validator, rewards: &Rewards) {
    let (all, commission) = earned(validator, rewards);
    validator.settled = rewards.per_token;
    let rest = all.saturating_sub(commission).units();
    // What cannot be shared out goes to the operator: nothing is lost.
    let per_share =
        mul_div(rest, ONE, validator.shares).and_then(|more| validator.per_share.checked_add(more));
    let operators = match per_share {
        Some(per_share) => {
            validator.per_share = per_share;
            commission
        }
        None => all,
    };
    validator.commission_due = super::state::sum(validator.commission_due, operators);
}

/// What a delegation can be paid from a settled validator.
pub(super) fn due(validator: &Validator, delegation: &Delegation) -> Balance {
    let since = validator.per_share.saturating_sub(delegation.paid);
    let units = mul_div(delegation.shares, since, ONE).unwrap_or(0);
    Balance::new(units).unwrap_or(Balance::MAX)
}

/// Shares of a delegation that came from other validators and may still be cut for those.
fn held_shares(delegation: &Delegation, now_ms: u64) -> u128 {
    let held = delegation.incoming.iter().filter(|incoming| incoming.complete_ms > now_ms);
    held.fold(0u128, |sum, incoming| sum.saturating_add(incoming.shares)).min(delegation.shares)
}

/// What is wrong with a commission.
pub(super) fn commission_fault(commission: &Commission) -> Option<&'static str> {
    if commission.max_bps > 10_000 {
        Some("the greatest commission is above 10000 basis points")
    } else if commission.bps > commission.max_bps {
        Some("the commission is above its own greatest")
    } else if commission.step_bps > commission.max_bps {
        Some("the commission's step is above its greatest")
    } else {
        None
    }
}

/// No transaction is behind these steps: what they cannot do, the state does not allow.
fn fatal(stop: Stop) -> StateError {
    match stop {
        Stop::Fatal(error) => error,
        Stop::Rejected(_, sentence) => StateError::Stake { sentence },
    }
}

impl BlockState {
    /// Begins a block: who did not sign the last one, and who signed twice; what happened.
    pub(super) fn begin(
        &mut self,
        misbehavior: &[Misbehavior],
        votes: &[VoteInfo],
    ) -> Result<Vec<ChainEvent>, StateError> {
        if self.get::<Rewards>(StateKey::Rewards)?.is_none() {
            return Ok(Vec::new()); // The engine's genesis names the validators.
        }
        self.punish(misbehavior).and_then(|()| self.note_votes(votes)).map_err(fatal)?;
        Ok(self.keep())
    }

    /// Ends a block: fees become rewards; who votes with another power than before, what happened.
    pub(super) fn end(&mut self) -> Result<(Vec<PowerUpdate>, Vec<ChainEvent>), StateError> {
        let updates = self.end_of_stake().map_err(fatal)?;
        Ok((updates, self.keep()))
    }

    fn rewards(&self) -> Result<Rewards, Stop> {
        match self.get(StateKey::Rewards)? {
            Some(rewards) => Ok(rewards),
            None => reject(
                ResultCode::Policy,
                "the validators of this chain are those of its genesis: nothing can be staked",
            ),
        }
    }

    fn validator(&self, operator: &AccountId) -> Result<Validator, Stop> {
        match self.get(StateKey::Validator(*operator))? {
            Some(validator) => Ok(validator),
            None => reject(ResultCode::NotFound, format!("{operator} is no validator's operator")),
        }
    }

    /// A validator whose sums are up to date.
    fn settled(&self, operator: &AccountId) -> Result<(Validator, Rewards), Stop> {
        let rewards = self.rewards()?;
        let mut validator = self.validator(operator)?;
        settle(&mut validator, &rewards);
        Ok((validator, rewards))
    }

    fn delegation(
        &self,
        delegator: &AccountId,
        operator: &AccountId,
    ) -> Result<Option<Delegation>, StateError> {
        self.get(StateKey::Delegation(*delegator, *operator))
    }

    fn put_delegation(&mut self, who: &AccountId, operator: &AccountId, record: &Delegation) {
        let key = StateKey::Delegation(*who, *operator);
        if record.shares == 0 && record.incoming.is_empty() && record.leaving.is_empty() {
            self.delete(key);
        } else {
            self.put(key, record);
        }
    }

    /// Takes an amount out of the world.
    pub(super) fn burn(&mut self, amount: Balance) -> Result<(), Stop> {
        if amount.is_zero() {
            return Ok(());
        }
        let mut supply: Supply = self.get(StateKey::Supply)?.ok_or(StateError::NoGenesis)?;
        supply.burned = super::state::sum(supply.burned, amount);
        self.put(StateKey::Supply, &supply);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_product_is_divided_without_loss_of_its_upper_half() {
        assert_eq!(mul_div(u128::MAX, u128::MAX, u128::MAX), Some(u128::MAX));
        assert_eq!(mul_div(7, 3, 2), Some(10));
        assert_eq!(mul_div_up(7, 3, 2), Some(11));
        assert_eq!(mul_div_up(6, 3, 2), Some(9));
        assert_eq!(mul_div(u128::MAX, 2, 1), None);
        assert_eq!(mul_div(1, 1, 0), None);
        assert_eq!(mul_div_up(1, 1, 0), None);
    }

    proptest! {
        #[test]
        fn parts_of_shares_never_make_more_than_the_tokens(
            tokens in 1u128..1 << 96, shares in 1u128..1 << 96, first in 0u128..1 << 96,
        ) {
            let mut validator = new_validator(AccountId([1; 32]), Balance::ZERO, 0);
            (validator.tokens, validator.shares) = (Balance::new(tokens).unwrap(), shares);
            let first = first % shares;
            let (a, b) = (tokens_of(&validator, first), tokens_of(&validator, shares - first));
            prop_assert!(a.units() + b.units() <= tokens);
            prop_assert!(a.units() + b.units() + 1 >= tokens);
        }
    }
}
