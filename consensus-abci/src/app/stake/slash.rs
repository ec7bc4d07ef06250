//! Double signing, as the engine reports it: a part of all that was at stake is burned, and the
//! validator never votes again.

use chain_types::{
    AccountId, Balance, ChainEvent, StateKey,
    staking::{Departure, Jail, Slash},
};
use tendermint_proto::v0_38::abci::Misbehavior;

use super::{delegate::is_cut, part};
use crate::app::state::{BlockState, Stop, decode, sum};

impl BlockState {
    /// What the engine found.
    pub(in crate::app) fn punish(&mut self, found: &[Misbehavior]) -> Result<(), Stop> {
        for one in found {
            let Some(validator) = &one.validator else { continue };
            let Ok(address) = <[u8; 20]>::try_from(&validator.address[..]) else { continue };
            let operator: Option<AccountId> = self.get(StateKey::ConsensusAddress(address))?;
            let Some(operator) = operator else { continue };
            let (height, power) = (
                u64::try_from(one.height).unwrap_or(0),
                u64::try_from(validator.power).unwrap_or(0),
            );
            self.punish_one(&operator, height, power)?;
        }
        Ok(())
    }

    fn punish_one(
        &mut self,
        operator: &AccountId,
        infraction_height: u64,
        power: u64,
    ) -> Result<(), Stop> {
        let (mut validator, mut rewards) = self.settled(operator)?;
        if validator.slashed.is_some() {
            return Ok(());
        }
        let slash = Slash {
            infraction_height,
            height: self.height,
            time_ms: self.time_ms,
            bps: self.params.double_sign_bps,
        };
        let at_stake = self.params.power_unit.checked_mul(power).unwrap_or(Balance::MAX);
        let elsewhere = self.cut_of_departures(operator, &slash)?;
        let here = part(at_stake, slash.bps).saturating_sub(elsewhere).min(validator.tokens);
        validator.tokens = validator.tokens.saturating_sub(here);
        if validator.power > 0 {
            rewards.bonded = rewards.bonded.saturating_sub(here);
        }
        validator.slashed = Some(slash);
        validator.jailed = Some(Jail { until_ms: u64::MAX, height: self.height });
        self.burn(here)?;
        self.put(StateKey::Validator(*operator), &validator);
        self.put(StateKey::Rewards, &rewards);
        let validator = *operator;
        self.event(ChainEvent::ValidatorSlashed { validator, infraction_height, amount: here });
        self.event(ChainEvent::ValidatorTombstoned { validator });
        Ok(())
    }

    /// What will be cut of all that left since the infraction, when it is claimed or touched.
    fn cut_of_departures(&self, operator: &AccountId, slash: &Slash) -> Result<Balance, Stop> {
        let first = slash.infraction_height.saturating_sub(1);
        let from = StateKey::departures_since(operator, first);
        let prefix = StateKey::departures_of(operator);
        // Punishment comes before the block's transactions: the committed state is the whole truth.
        let mut cut = Balance::ZERO;
        for entry in self.base.prefix_behind(&prefix, &from) {
            let (bytes, value) = entry?;
            let Some(key @ StateKey::Departure(left)) = StateKey::parse(&bytes) else { continue };
            let departure: Departure = decode(key, &value)?;
            if is_cut(slash, left.height, departure.complete_ms) {
                cut = sum(cut, part(departure.amount, slash.bps));
            }
        }
        Ok(cut)
    }
}
