//! A validator's own record: made, edited, let out of jail.

use chain_types::{
    AccountId, Balance, ChainEvent, ResultCode, StateKey,
    staking::{
        COMMISSION_PAUSE_MS, Commission, Delegation, SigningInfo, Validator, consensus_address,
        possession_preimage,
    },
};

use super::{commission_fault, settle, tokens_of};
use crate::app::{
    signatures,
    state::{BlockState, Stop, reject},
};

/// A validator on which nothing is staked yet.
pub(in crate::app) fn new_validator(
    consensus_key: AccountId,
    tokens: Balance,
    height: u64,
) -> Validator {
    Validator {
        consensus_key,
        moniker: String::new(),
        website: String::new(),
        commission: Commission { bps: 0, max_bps: 0, step_bps: 0 },
        commission_changed_ms: 0,
        tokens,
        shares: tokens.units(),
        power: 0,
        settled: 0,
        per_share: 0,
        commission_due: Balance::ZERO,
        jailed: None,
        slashed: None,
        since_height: height,
    }
}

/// What `CreateValidator` says.
pub(in crate::app) struct NewValidator {
    pub(in crate::app) consensus_key: AccountId,
    pub(in crate::app) possession: [u8; 64],
    pub(in crate::app) moniker: String,
    pub(in crate::app) website: String,
    pub(in crate::app) commission: Commission,
    pub(in crate::app) self_delegation: Balance,
}

impl BlockState {
    /// `CreateValidator`.
    pub(in crate::app) fn create_validator(
        &mut self,
        operator: &AccountId,
        new: NewValidator,
    ) -> Result<(), Stop> {
        let rewards = self.rewards()?;
        if self.params.validators_max == 1 {
            return reject(ResultCode::Policy, "this chain has one validator and takes no other");
        }
        if self.get::<Validator>(StateKey::Validator(*operator))?.is_some() {
            return reject(ResultCode::Policy, "the account is a validator's operator already");
        }
        let address = consensus_address(&new.consensus_key);
        if self.get::<AccountId>(StateKey::ConsensusAddress(address))?.is_some() {
            return reject(
                ResultCode::Policy,
                "this consensus key is, or was, another validator's",
            );
        }
        if let Some(fault) = commission_fault(&new.commission) {
            return reject(ResultCode::Decode, fault);
        }
        let proved = possession_preimage(operator, &self.chain_id);
        if !signatures::holds(&new.consensus_key, proved.as_slice(), new.possession) {
            let log = "the consensus key did not sign that it is this operator's";
            return reject(ResultCode::Signature, log);
        }
        let least = self.params.self_delegation_min;
        if new.self_delegation < least {
            let log = format!("an operator stakes {least} units at least with its own validator");
            return reject(ResultCode::Funds, log);
        }
        self.debit(operator, new.self_delegation)?;
        let record = Validator {
            moniker: new.moniker,
            website: new.website,
            commission: new.commission,
            commission_changed_ms: self.time_ms,
            settled: rewards.per_token,
            ..new_validator(new.consensus_key, new.self_delegation, self.height)
        };
        self.put(
            StateKey::Delegation(*operator, *operator),
            &Delegation {
                shares: record.shares,
                paid: 0,
                incoming: Vec::new(),
                leaving: Vec::new(),
            },
        );
        self.put(StateKey::Validator(*operator), &record);
        self.put(StateKey::ConsensusAddress(address), operator);
        let (validator, consensus_key) = (*operator, new.consensus_key);
        self.event(ChainEvent::ValidatorCreated { validator, consensus_key });
        self.event(ChainEvent::StakeBonded {
            delegator: validator,
            validator,
            amount: new.self_delegation,
        });
        Ok(())
    }

    /// `EditValidator`.
    pub(in crate::app) fn edit_validator(
        &mut self,
        operator: &AccountId,
        moniker: Option<String>,
        website: Option<String>,
        commission_bps: Option<u16>,
    ) -> Result<(), Stop> {
        // What was earned so far was earned under the old commission.
        let (mut record, _) = self.settled(operator)?;
        if let Some(bps) = commission_bps {
            let Commission { bps: before, max_bps, step_bps } = record.commission;
            if bps > max_bps {
                let log = format!("the commission never goes above {max_bps} basis points");
                return reject(ResultCode::Policy, log);
            }
            if bps.abs_diff(before) > step_bps {
                let log = format!("the commission changes by {step_bps} basis points at most");
                return reject(ResultCode::Policy, log);
            }
            if self.time_ms.saturating_sub(record.commission_changed_ms) < COMMISSION_PAUSE_MS {
                return reject(ResultCode::Policy, "the commission changes once a day at most");
            }
            record.commission.bps = bps;
            record.commission_changed_ms = self.time_ms;
        }
        record.moniker = moniker.unwrap_or(record.moniker);
        record.website = website.unwrap_or(record.website);
        self.put(StateKey::Validator(*operator), &record);
        self.event(ChainEvent::ValidatorEdited { validator: *operator });
        Ok(())
    }

    /// `Unjail`.
    pub(in crate::app) fn unjail(&mut self, operator: &AccountId) -> Result<(), Stop> {
        let (mut record, _) = self.settled(operator)?;
        if record.slashed.is_some() {
            return reject(ResultCode::Policy, "the validator signed twice: it never votes again");
        }
        let Some(jail) = record.jailed else {
            return reject(ResultCode::Policy, "the validator is not jailed");
        };
        if self.time_ms < jail.until_ms {
            let seconds = (jail.until_ms - self.time_ms).div_ceil(1000);
            return reject(ResultCode::Policy, format!("it stays in jail for {seconds} s more"));
        }
        let own = self.delegation(operator, operator)?.map_or(0, |own| own.shares);
        let least = self.params.self_delegation_min;
        if tokens_of(&record, own) < least {
            let log = format!("its operator must stake {least} units at least with it first");
            return reject(ResultCode::Funds, log);
        }
        record.jailed = None;
        self.put(StateKey::Validator(*operator), &record);
        let info: Option<SigningInfo> = self.get(StateKey::SigningInfo(*operator))?;
        if record.power > 0 && info.is_none() {
            // It was the last one, and voted on in jail.
            let info = SigningInfo::new(self.height, self.params.signed_window_blocks);
            self.put(StateKey::SigningInfo(*operator), &info);
        }
        self.event(ChainEvent::ValidatorUnjailed { validator: *operator });
        Ok(())
    }

    /// Reads, settles and hands over every validator, in the order of their operators.
    pub(super) fn all_validators(&self) -> Result<Vec<(AccountId, Validator)>, Stop> {
        let rewards = self.rewards()?;
        let mut all = Vec::new();
        for key in self.keys(StateKey::VALIDATORS, usize::MAX)? {
            let Some(StateKey::Validator(operator)) = StateKey::parse(&key) else { continue };
            let mut validator = self.validator(&operator)?;
            settle(&mut validator, &rewards);
            all.push((operator, validator));
        }
        Ok(all)
    }
}
