//! Stake: put in, taken out, moved to another validator, and what it brings.

use chain_types::{
    AccountId, Balance, ChainEvent, DepartureKey, ResultCode, StateKey,
    staking::{
        Delegation, Departure, INCOMING_MAX, Incoming, Jail, LEAVING_MAX, Leaving, Rewards, Slash,
        Validator,
    },
};

use super::{due, held_shares, mul_div, mul_div_up, part, tokens_of};
use crate::app::state::{BlockState, StateError, Stop, reject, sum};

/// Whether what left in block `height` was at stake for an infraction, and left before it was known.
pub(super) fn is_cut(slash: &Slash, height: u64, complete_ms: u64) -> bool {
    // Power acts two blocks after the block that changes it.
    height.saturating_add(1) >= slash.infraction_height
        && height < slash.height
        && slash.time_ms < complete_ms
}

impl BlockState {
    /// `Delegate`.
    pub(in crate::app) fn delegate(
        &mut self,
        delegator: &AccountId,
        operator: &AccountId,
        amount: Balance,
    ) -> Result<(), Stop> {
        let least = self.params.delegation_min;
        if amount < least {
            return reject(ResultCode::Funds, format!("at least {least} units are staked at once"));
        }
        let (mut validator, mut rewards, mut own) = self.paid_out(delegator, operator)?;
        if validator.slashed.is_some() {
            return reject(ResultCode::Policy, "the validator signed twice: it never votes again");
        }
        self.debit(delegator, amount)?;
        own.shares += add_tokens(&mut validator, &mut rewards, amount)?;
        self.put_stake(delegator, operator, &validator, &rewards, &own);
        let (delegator, validator) = (*delegator, *operator);
        self.event(ChainEvent::StakeBonded { delegator, validator, amount });
        Ok(())
    }

    /// `Undelegate`.
    pub(in crate::app) fn undelegate(
        &mut self,
        delegator: &AccountId,
        operator: &AccountId,
        amount: Balance,
    ) -> Result<(), Stop> {
        let (amount, complete_ms) = self.leave(delegator, operator, amount, None)?;
        let (delegator, validator) = (*delegator, *operator);
        self.event(ChainEvent::StakeUnbonding { delegator, validator, amount, complete_ms });
        Ok(())
    }

    /// `Redelegate`.
    pub(in crate::app) fn redelegate(
        &mut self,
        delegator: &AccountId,
        from: &AccountId,
        to: &AccountId,
        amount: Balance,
    ) -> Result<(), Stop> {
        if from == to {
            return reject(
                ResultCode::Decode,
                "stake moves between two validators, not within one",
            );
        }
        let (amount, complete_ms) = self.leave(delegator, from, amount, Some(*to))?;
        let (mut validator, mut rewards, mut own) = self.paid_out(delegator, to)?;
        if validator.slashed.is_some() {
            return reject(ResultCode::Policy, "the validator signed twice: it never votes again");
        }
        if own.shares == 0 && amount < self.params.delegation_min {
            let least = self.params.delegation_min;
            return reject(ResultCode::Funds, format!("at least {least} units are staked at once"));
        }
        let shares = add_tokens(&mut validator, &mut rewards, amount)?;
        own.shares += shares;
        let (height, from) = (self.height, *from);
        let is_same = |one: &Incoming| one.from == from && one.height == height;
        match own.incoming.iter().position(is_same) {
            Some(at) => own.incoming[at].shares += shares,
            None if own.incoming.len() >= INCOMING_MAX => {
                let log = format!("at most {INCOMING_MAX} moves to one validator can be cut yet");
                return reject(ResultCode::Policy, log);
            }
            None => own.incoming.push(Incoming { from, height, complete_ms, shares }),
        }
        self.put_stake(delegator, to, &validator, &rewards, &own);
        let (delegator, to) = (*delegator, *to);
        self.event(ChainEvent::StakeMoved { delegator, from, to, amount });
        Ok(())
    }

    /// `WithdrawRewards`.
    pub(in crate::app) fn withdraw(
        &mut self,
        account: &AccountId,
        operator: &AccountId,
    ) -> Result<(), Stop> {
        self.rewards()?;
        let has_delegation = self.delegation(account, operator)?.is_some();
        if !has_delegation && account != operator {
            return reject(ResultCode::NotFound, "the account has nothing with this validator");
        }
        let (validator, rewards, mut own) = self.paid_out(account, operator)?;
        let (done, left): (Vec<_>, Vec<_>) = own
            .leaving
            .iter()
            .map(|leaving| {
                let key = departure_key(account, operator, leaving);
                let corrupt = || StateError::Corrupt { key: Box::new(StateKey::Departure(key)) };
                let departure: Departure =
                    self.get(StateKey::Departure(key))?.ok_or_else(corrupt)?;
                Ok((*leaving, key, departure))
            })
            .collect::<Result<Vec<_>, StateError>>()?
            .into_iter()
            .partition(|(_, _, departure)| departure.complete_ms <= self.time_ms);
        own.leaving = left.into_iter().map(|(leaving, ..)| leaving).collect();
        self.put_stake(account, operator, &validator, &rewards, &own);
        for (leaving, key, Departure { amount, complete_ms }) in done {
            self.delete(StateKey::Departure(key));
            if leaving.to.is_some() {
                continue; // It is staked elsewhere; the record was kept for a slash.
            }
            let cut = match &validator.slashed {
                Some(slash) if is_cut(slash, leaving.height, complete_ms) => {
                    part(amount, slash.bps)
                }
                _ => Balance::ZERO,
            };
            self.burn(cut)?;
            self.credit(account, amount.saturating_sub(cut))?;
            self.event(ChainEvent::StakeComplete {
                delegator: *account,
                validator: *operator,
                amount,
                burned: cut,
            });
        }
        Ok(())
    }

    /// Takes stake from a delegation, and notes that it left.
    fn leave(
        &mut self,
        delegator: &AccountId,
        operator: &AccountId,
        amount: Balance,
        to: Option<AccountId>,
    ) -> Result<(Balance, u64), Stop> {
        if amount.is_zero() {
            return reject(ResultCode::Decode, "the amount is zero");
        }
        let (mut validator, mut rewards, mut own) = self.paid_out(delegator, operator)?;
        let value = tokens_of(&validator, own.shares);
        if amount > value {
            let log = format!("{amount} units are asked for, {value} are staked");
            return reject(ResultCode::Funds, log);
        }
        let shares = match amount == value {
            true => own.shares,
            false => mul_div_up(amount.units(), validator.shares, validator.tokens.units())
                .unwrap_or(own.shares)
                .min(own.shares),
        };
        let rest = own.shares - shares;
        if rest < held_shares(&own, self.time_ms) {
            let log = "what came from another validator stays until that one's unbonding time ends";
            return reject(ResultCode::Policy, log);
        }
        let least = self.params.delegation_min;
        let amount = take_tokens(&mut validator, &mut rewards, shares);
        own.shares = rest;
        let left = tokens_of(&validator, rest);
        if rest > 0 && left < least {
            let log = format!("{left} units would be left: all or {least} at least must stay");
            return reject(ResultCode::Funds, log);
        }
        let leaving = Leaving { height: self.height, to };
        if !own.leaving.contains(&leaving) {
            if own.leaving.len() >= LEAVING_MAX {
                let log = format!(
                    "at most {LEAVING_MAX} parts can be on their way: withdraw those that arrived"
                );
                return reject(ResultCode::Policy, log);
            }
            own.leaving.push(leaving);
        }
        let key = StateKey::Departure(departure_key(delegator, operator, &leaving));
        let complete_ms = self.time_ms.saturating_add(self.params.unbonding_ms);
        let before: Option<Departure> = self.get(key)?;
        let before = before.map_or(Balance::ZERO, |before| before.amount);
        self.put(key, &Departure { amount: sum(before, amount), complete_ms });
        if delegator == operator {
            self.jail_if_low(operator, &mut validator, rest);
        }
        self.put_stake(delegator, operator, &validator, &rewards, &own);
        Ok((amount, complete_ms))
    }

    /// A delegation, empty where there is none, with its validator: cut for what its parts' former
    /// validators did, and its rewards paid.
    fn paid_out(
        &mut self,
        account: &AccountId,
        operator: &AccountId,
    ) -> Result<(Validator, Rewards, Delegation), Stop> {
        let (mut validator, mut rewards) = self.settled(operator)?;
        let mut own = self.delegation(account, operator)?.unwrap_or_else(|| Delegation {
            shares: 0,
            paid: validator.per_share,
            incoming: Vec::new(),
            leaving: Vec::new(),
        });
        let amount = due(&validator, &own).min(rewards.held);
        own.paid = validator.per_share;
        let commission = match account == operator {
            true => std::mem::take(&mut validator.commission_due),
            false => Balance::ZERO,
        };
        let commission = commission.min(rewards.held.saturating_sub(amount));
        let all = sum(amount, commission);
        rewards.held = rewards.held.saturating_sub(all);
        if !all.is_zero() {
            self.credit(account, all)?;
            let (account, validator) = (*account, *operator);
            self.event(ChainEvent::RewardsPaid { account, validator, amount, commission });
        }
        let is_cut = self.cut_incoming(operator, &mut validator, &mut rewards, &mut own)?;
        if is_cut && account == operator {
            self.jail_if_low(operator, &mut validator, own.shares);
        }
        Ok((validator, rewards, own))
    }

    /// An operator that has too little left with its own validator is jailed until it has more.
    fn jail_if_low(&mut self, operator: &AccountId, validator: &mut Validator, shares: u128) {
        let left = tokens_of(validator, shares);
        if left < self.params.self_delegation_min && validator.jailed.is_none() {
            validator.jailed = Some(Jail { until_ms: self.time_ms, height: self.height });
            self.event(ChainEvent::ValidatorJailed { validator: *operator, missed: 0 });
        }
    }

    /// Cuts what came from validators that signed twice before it came; forgets what is safe.
    /// Whether anything was cut.
    fn cut_incoming(
        &mut self,
        operator: &AccountId,
        validator: &mut Validator,
        rewards: &mut Rewards,
        own: &mut Delegation,
    ) -> Result<bool, Stop> {
        let mut is_any = false;
        for incoming in std::mem::take(&mut own.incoming) {
            let slashed = self.validator(&incoming.from)?.slashed;
            let slash =
                slashed.filter(|slash| is_cut(slash, incoming.height, incoming.complete_ms));
            if let Some(slash) = slash {
                let shares = mul_div(incoming.shares, u128::from(slash.bps), 10_000).unwrap_or(0);
                let shares = shares.min(own.shares);
                own.shares -= shares;
                let amount = take_tokens(validator, rewards, shares);
                self.burn(amount)?;
                is_any = true;
                self.event(ChainEvent::ValidatorSlashed {
                    validator: *operator,
                    infraction_height: slash.infraction_height,
                    amount,
                });
            } else if incoming.complete_ms > self.time_ms {
                own.incoming.push(incoming);
            }
        }
        Ok(is_any)
    }

    fn put_stake(
        &mut self,
        account: &AccountId,
        operator: &AccountId,
        validator: &Validator,
        rewards: &Rewards,
        own: &Delegation,
    ) {
        self.put(StateKey::Validator(*operator), validator);
        self.put(StateKey::Rewards, rewards);
        self.put_delegation(account, operator, own);
    }
}

fn departure_key(delegator: &AccountId, operator: &AccountId, leaving: &Leaving) -> DepartureKey {
    DepartureKey {
        validator: *operator,
        height: leaving.height,
        delegator: *delegator,
        to: leaving.to.unwrap_or(AccountId::ZERO),
    }
}

/// Stakes tokens with a settled validator; the shares that they are.
fn add_tokens(
    validator: &mut Validator,
    rewards: &mut Rewards,
    amount: Balance,
) -> Result<u128, Stop> {
    let shares = match validator.shares {
        0 => Some(amount.units()),
        all => mul_div(amount.units(), all, validator.tokens.units()),
    };
    let all = shares.and_then(|shares| validator.shares.checked_add(shares));
    let (Some(shares), Some(all)) = (shares.filter(|shares| *shares > 0), all) else {
        return reject(ResultCode::Policy, "nothing can be staked with what is left of it");
    };
    validator.shares = all;
    validator.tokens = sum(validator.tokens, amount);
    if validator.power > 0 {
        rewards.bonded = sum(rewards.bonded, amount);
    }
    Ok(shares)
}

/// Takes shares out of a settled validator; the tokens that they are.
fn take_tokens(validator: &mut Validator, rewards: &mut Rewards, shares: u128) -> Balance {
    let amount = match shares == validator.shares {
        true => validator.tokens,
        false => tokens_of(validator, shares),
    };
    validator.shares -= shares;
    validator.tokens = validator.tokens.saturating_sub(amount);
    if validator.power > 0 {
        rewards.bonded = rewards.bonded.saturating_sub(amount);
    }
    amount
}
