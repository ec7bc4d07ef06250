//! What people ask about stake: validators, delegations with what they can fetch now, proposals.

use std::vec;

use chain_types::{
    AccountId, Balance, DepartureKey, ResultCode, StateKey, hex,
    staking::{Delegation, Departure, Incoming, Proposal, Rewards, SigningInfo, Validator},
};
use serde::Serialize;

use super::{NoAnswer, Question, StateError};
use crate::app::{
    governance::Tally,
    index::{BY_VALIDATOR, list},
    stake::{due, settle, tokens_of},
};

/// Records of a list, each with its place in it.
type Listed<P, T> = vec::IntoIter<Result<(P, T), StateError>>;

/// Where a validator stands.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Voting,
    Waiting,
    Jailed,
    Tombstoned,
}

#[derive(Serialize)]
pub(super) struct OfValidator {
    account: AccountId,
    #[serde(flatten)]
    record: Validator,
    status: Status,
    /// As blocks name it.
    address: String,
    /// Of the last `params.signed_window_blocks`.
    missed_blocks: u32,
}

#[derive(Serialize)]
pub(super) struct OfDelegation {
    validator: AccountId,
    #[serde(serialize_with = "text")]
    shares: u128,
    /// What the shares are worth now.
    amount: Balance,
    /// What WithdrawRewards would pay now, the operator's commission included.
    rewards: Balance,
    incoming: Vec<Incoming>,
    leaving: Vec<OfDeparture>,
}

#[derive(Serialize)]
struct OfDeparture {
    height: u64,
    to: Option<AccountId>,
    amount: Balance,
    complete_ms: u64,
}

#[derive(Serialize)]
pub(super) struct OfDelegator {
    delegator: AccountId,
    amount: Balance,
}

#[derive(Serialize)]
pub(super) struct OfProposal {
    number: u64,
    #[serde(flatten)]
    record: Proposal,
    #[serde(serialize_with = "text")]
    yes_power: u64,
    #[serde(serialize_with = "text")]
    no_power: u64,
    #[serde(serialize_with = "text")]
    total_power: u64,
}

fn text<T: ToString, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

impl Question<'_> {
    pub(super) fn validators(&self) -> Result<Listed<[u8; 32], OfValidator>, NoAnswer> {
        let mut all = Vec::new();
        for entry in self.snapshot.records::<Validator>(StateKey::VALIDATORS) {
            let (key, record) = entry?;
            let StateKey::Validator(account) = key else { continue };
            all.push(Ok((account.0, self.with_status(account, record)?)));
        }
        Ok(all.into_iter())
    }

    pub(super) fn validator(&self, operator: AccountId) -> Result<OfValidator, NoAnswer> {
        let record = self.record(StateKey::Validator(operator))?;
        self.with_status(operator, record)
    }

    fn with_status(&self, account: AccountId, record: Validator) -> Result<OfValidator, NoAnswer> {
        let status = match &record {
            Validator { slashed: Some(_), .. } => Status::Tombstoned,
            Validator { jailed: Some(_), .. } => Status::Jailed,
            Validator { power: 0, .. } => Status::Waiting,
            _ => Status::Voting,
        };
        let info: Option<SigningInfo> = self.optional(StateKey::SigningInfo(account))?;
        let missed_blocks = info.map_or(0, |info| info.missed_blocks());
        let address = hex::text(&record.consensus_address()).to_uppercase();
        Ok(OfValidator { account, record, status, address, missed_blocks })
    }

    pub(super) fn delegations(
        &self,
        delegator: &AccountId,
    ) -> Result<Listed<[u8; 32], OfDelegation>, NoAnswer> {
        let rewards: Rewards = self.optional(StateKey::Rewards)?.unwrap_or_default();
        let mut all = Vec::new();
        let prefix = StateKey::delegations_of(delegator);
        for entry in self.snapshot.records::<Delegation>(&prefix) {
            let (key, record) = entry?;
            let StateKey::Delegation(_, operator) = key else { continue };
            let mut validator: Validator = self.record(StateKey::Validator(operator))?;
            settle(&mut validator, &rewards);
            let mut leaving = Vec::with_capacity(record.leaving.len());
            for left in &record.leaving {
                let (delegator, to) = (*delegator, left.to.unwrap_or(AccountId::ZERO));
                let key = DepartureKey { validator: operator, height: left.height, delegator, to };
                let Departure { amount, complete_ms } = self.record(StateKey::Departure(key))?;
                let (height, to) = (left.height, left.to);
                leaving.push(OfDeparture { height, to, amount, complete_ms });
            }
            let commission = match operator == *delegator {
                true => validator.commission_due,
                false => Balance::ZERO,
            };
            let own = due(&validator, &record);
            all.push(Ok((
                operator.0,
                OfDelegation {
                    validator: operator,
                    shares: record.shares,
                    amount: tokens_of(&validator, record.shares),
                    rewards: own.checked_add(commission).unwrap_or(Balance::MAX),
                    incoming: record.incoming,
                    leaving,
                },
            )));
        }
        Ok(all.into_iter())
    }

    pub(super) fn delegators(
        &self,
        operator: &AccountId,
    ) -> Result<Listed<[u8; 32], OfDelegator>, NoAnswer> {
        let validator: Validator = self.record(StateKey::Validator(*operator))?;
        let mut all = Vec::new();
        for entry in self.snapshot.0.index(&list(BY_VALIDATOR, operator)) {
            let bytes = entry.map_err(StateError::from)?;
            let Ok(delegator) = <[u8; 32]>::try_from(bytes.as_slice()) else { continue };
            let delegator = AccountId(delegator);
            let record: Delegation = self.record(StateKey::Delegation(delegator, *operator))?;
            let amount = tokens_of(&validator, record.shares);
            all.push(Ok((delegator.0, OfDelegator { delegator, amount })));
        }
        Ok(all.into_iter())
    }

    pub(super) fn proposals(&self) -> Result<Listed<[u8; 8], OfProposal>, NoAnswer> {
        let mut all = Vec::new();
        for entry in self.snapshot.records::<Proposal>(StateKey::PROPOSALS) {
            let (key, record) = entry?;
            let StateKey::Proposal(number) = key else { continue };
            all.push(Ok((number.to_be_bytes(), self.with_votes(number, record)?)));
        }
        Ok(all.into_iter())
    }

    pub(super) fn proposal(&self, number: &str) -> Result<OfProposal, NoAnswer> {
        let number: u64 = number.parse().map_err(|_| {
            NoAnswer::Refused(ResultCode::Decode, format!("{number} is no proposal's number"))
        })?;
        self.with_votes(number, self.record(StateKey::Proposal(number))?)
    }

    fn with_votes(&self, number: u64, record: Proposal) -> Result<OfProposal, NoAnswer> {
        let mut tally = Tally::default();
        for entry in self.snapshot.records::<Validator>(StateKey::VALIDATORS) {
            let (key, validator) = entry?;
            let StateKey::Validator(operator) = key else { continue };
            tally.count(validator.power, self.optional(StateKey::Vote(number, operator))?);
        }
        let Tally { yes: yes_power, no: no_power, total: total_power } = tally;
        Ok(OfProposal { number, record, yes_power, no_power, total_power })
    }
}
