//! What validators decide together: other parameters, and the next version of the program.
//!
//! Each voting validator has its power as its word; more than two thirds pass a proposal at once.

use chain_types::{
    AccountId, ChainEvent, Params, ResultCode, StateKey,
    staking::{Change, Proposal, ProposalState, Upgrade, Validator},
};

use super::state::{BlockState, StateError, Stop, reject};

/// How the votes on a proposal stand: power in the engine.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) yes: u64,
    pub(super) no: u64,
    pub(super) total: u64,
}

impl Tally {
    /// One validator's power and word.
    pub(super) fn count(&mut self, power: u64, word: Option<bool>) {
        self.total = self.total.saturating_add(power);
        match word {
            Some(true) => self.yes = self.yes.saturating_add(power),
            Some(false) => self.no = self.no.saturating_add(power),
            None => {}
        }
    }
}

impl BlockState {
    /// `Propose`.
    pub(super) fn propose(
        &mut self,
        proposer: &AccountId,
        title: String,
        text: String,
        params: Box<Params>,
    ) -> Result<(), Stop> {
        if let Some(fault) = self.faults_of_change(&params).first() {
            return reject(ResultCode::Decode, fault.as_str());
        }
        self.put_proposal(proposer, title, text, Change::Params { params })
    }

    /// `ScheduleUpgrade`.
    pub(super) fn schedule_upgrade(
        &mut self,
        proposer: &AccountId,
        upgrade: Upgrade,
    ) -> Result<(), Stop> {
        let first = self.height.saturating_add(self.params.notice_blocks);
        if upgrade.height <= first {
            let log = format!("an upgrade is scheduled for a block behind {first}");
            return reject(ResultCode::Policy, log);
        }
        if self.is_upgraded(&upgrade.name)? {
            let log = format!("the chain went through the upgrade {} already", upgrade.name);
            return reject(ResultCode::Policy, log);
        }
        let title = format!("upgrade {} at {}", upgrade.name, upgrade.height);
        let text = upgrade.info.clone();
        self.put_proposal(proposer, title, text, Change::Upgrade { upgrade })
    }

    /// `Vote`.
    pub(super) fn vote(
        &mut self,
        operator: &AccountId,
        number: u64,
        approve: bool,
    ) -> Result<(), Stop> {
        self.voter(operator)?;
        let Some(mut proposal) = self.get::<Proposal>(StateKey::Proposal(number))? else {
            return reject(ResultCode::NotFound, format!("there is no proposal {number}"));
        };
        if proposal.state != ProposalState::Voting || self.time_ms >= proposal.ends_ms {
            return reject(ResultCode::Policy, "the voting on this proposal is over");
        }
        self.put(StateKey::Vote(number, *operator), &approve);
        self.event(ChainEvent::Voted { proposal: number, validator: *operator, approve });
        let Tally { yes, no, total } = self.tally(number)?;
        let (yes, no, total) = (u128::from(yes) * 3, u128::from(no) * 3, u128::from(total));
        let passed = yes > 2 * total;
        if !passed && no < total {
            return Ok(());
        }
        let is_done = passed && self.carry_out(&proposal.change)?;
        proposal.state = if is_done { ProposalState::Passed } else { ProposalState::Rejected };
        self.put(StateKey::Proposal(number), &proposal);
        self.event(ChainEvent::Decided { proposal: number, passed: is_done });
        Ok(())
    }

    /// The power behind the votes, of those who vote in the engine now.
    fn tally(&self, number: u64) -> Result<Tally, StateError> {
        let mut tally = Tally::default();
        for key in self.keys(StateKey::VALIDATORS, usize::MAX)? {
            let Some(StateKey::Validator(operator)) = StateKey::parse(&key) else { continue };
            let validator: Option<Validator> = self.get(StateKey::Validator(operator))?;
            let power = validator.map_or(0, |validator| validator.power);
            tally.count(power, self.get(StateKey::Vote(number, operator))?);
        }
        Ok(tally)
    }

    fn faults_of_change(&self, params: &Params) -> Vec<String> {
        let mut faults = params.faults();
        if params.power_unit != self.params.power_unit {
            faults.push("params.power_unit never changes: slashes are counted in it".to_owned());
        }
        if params.unbonding_ms < self.params.unbonding_ms {
            // How old evidence may be is the engine's, which the genesis holds against it once.
            faults.push(format!(
                "params.unbonding_ms never falls below {}: stake could flee its punishment",
                self.params.unbonding_ms
            ));
        }
        if (params.validators_max == 1) != (self.params.validators_max == 1) {
            faults.push("a chain of one validator stays one, and no other becomes one".to_owned());
        }
        faults
    }

    fn voter(&self, operator: &AccountId) -> Result<(), Stop> {
        let validator: Option<Validator> = self.get(StateKey::Validator(*operator))?;
        match validator {
            Some(validator) if validator.power > 0 => Ok(()),
            _ => reject(ResultCode::NotOwner, "only operators of voting validators decide"),
        }
    }

    fn put_proposal(
        &mut self,
        proposer: &AccountId,
        title: String,
        text: String,
        change: Change,
    ) -> Result<(), Stop> {
        self.voter(proposer)?;
        let before: u64 = self.get(StateKey::Proposals)?.unwrap_or(0);
        let number = before.checked_add(1).expect("2^64 transactions take ages");
        let record = Proposal {
            proposer: *proposer,
            title,
            text,
            change,
            height: self.height,
            ends_ms: self.time_ms.saturating_add(self.params.voting_ms),
            state: ProposalState::Voting,
        };
        self.put(StateKey::Proposals, &number);
        self.put(StateKey::Proposal(number), &record);
        self.event(ChainEvent::Proposed { proposal: number, proposer: *proposer });
        Ok(())
    }

    /// Whether the change still fits, and is made.
    fn carry_out(&mut self, change: &Change) -> Result<bool, StateError> {
        Ok(match change {
            Change::Params { params } => {
                let fits = self.faults_of_change(params).is_empty();
                if fits {
                    self.put(StateKey::Params, params);
                }
                fits
            }
            Change::Upgrade { upgrade } => {
                let fits = upgrade.height > self.height && !self.is_upgraded(&upgrade.name)?;
                if fits {
                    self.put(StateKey::Upgrade, upgrade);
                    let Upgrade { name, height, info: _ } = upgrade.clone();
                    self.event(ChainEvent::UpgradeScheduled { name, height });
                }
                fits
            }
        })
    }
}
