//! Who signed the block before: whoever misses too many is jailed.

use chain_types::{
    AccountId, ChainEvent, StateKey,
    staking::{Jail, SigningInfo},
};
use tendermint_proto::v0_38::{abci::VoteInfo, types::BlockIdFlag};

use crate::app::state::{BlockState, Stop};

impl BlockState {
    /// Notes the votes for the block before this one.
    pub(in crate::app) fn note_votes(&mut self, votes: &[VoteInfo]) -> Result<(), Stop> {
        let signed_height = self.height.saturating_sub(1);
        for vote in votes {
            let Some(validator) = &vote.validator else { continue };
            let Ok(address) = <[u8; 20]>::try_from(&validator.address[..]) else { continue };
            let operator: Option<AccountId> = self.get(StateKey::ConsensusAddress(address))?;
            let Some(operator) = operator else { continue };
            let is_missed = vote.block_id_flag == BlockIdFlag::Absent as i32;
            self.note_vote(&operator, signed_height, is_missed)?;
        }
        Ok(())
    }

    /// The window has another length: its bits stand for other heights.
    pub(super) fn begin_windows_anew(&mut self) -> Result<(), Stop> {
        for (operator, _) in self.all_validators()? {
            let key = StateKey::SigningInfo(operator);
            if let Some(info) = self.get::<SigningInfo>(key)? {
                let window = self.params.signed_window_blocks;
                self.put(key, &SigningInfo::new(info.start_height, window));
            }
        }
        Ok(())
    }

    fn note_vote(
        &mut self,
        operator: &AccountId,
        height: u64,
        is_missed: bool,
    ) -> Result<(), Stop> {
        let info: Option<SigningInfo> = self.get(StateKey::SigningInfo(*operator))?;
        let Some(mut info) = info.filter(|info| info.start_height <= height) else { return Ok(()) };
        let window = self.params.signed_window_blocks;
        if !info.note(height, window, is_missed) {
            return Ok(());
        }
        let missed = info.missed_blocks();
        let least_signed = u64::from(window) * u64::from(self.params.signed_min_bps) / 10_000;
        if u64::from(missed) <= u64::from(window).saturating_sub(least_signed) {
            self.put(StateKey::SigningInfo(*operator), &info);
            return Ok(());
        }
        self.delete(StateKey::SigningInfo(*operator));
        let (mut validator, _) = self.settled(operator)?;
        let until_ms = self.time_ms.saturating_add(self.params.downtime_jail_ms);
        validator.jailed = Some(Jail { until_ms, height: self.height });
        self.put(StateKey::Validator(*operator), &validator);
        self.event(ChainEvent::ValidatorJailed { validator: *operator, missed });
        Ok(())
    }
}
