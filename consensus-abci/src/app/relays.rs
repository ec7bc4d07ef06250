//! Relays: who forwards media, under which key, at which address.

use std::collections::BTreeMap;

use chain_types::{AccountId, Balance, ChainEvent, RelayFacts, RelayRecord, ResultCode, StateKey};

use super::state::{BlockState, Stop, reject};

impl BlockState {
    /// `RegisterRelay`.
    pub(super) fn register_relay(
        &mut self,
        account: &AccountId,
        facts: RelayFacts,
        bond: Balance,
    ) -> Result<(), Stop> {
        if self.relay(account)?.is_some() {
            return reject(ResultCode::Policy, "the account is a relay: update it instead");
        }
        self.debit(account, bond)?;
        let relay_key = facts.relay_key;
        let record = RelayRecord {
            bond,
            relay_key,
            endpoint: facts.endpoint,
            region: facts.region,
            wholesale_per_gb: facts.wholesale_per_gb,
            min_share_bps: facts.min_share_bps,
            since_height: self.height,
            ext: BTreeMap::new(),
        };
        self.put(StateKey::Relay(*account), &record);
        self.event(ChainEvent::RelayRegistered { account: *account, relay_key });
        Ok(())
    }

    /// `UpdateRelay`.
    pub(super) fn update_relay(
        &mut self,
        account: &AccountId,
        facts: RelayFacts,
    ) -> Result<(), Stop> {
        let Some(record) = self.relay(account)? else {
            return reject(ResultCode::NotFound, "the account is no relay: register it first");
        };
        let relay_key = facts.relay_key;
        let record = RelayRecord {
            relay_key,
            endpoint: facts.endpoint,
            region: facts.region,
            wholesale_per_gb: facts.wholesale_per_gb,
            min_share_bps: facts.min_share_bps,
            ..record
        };
        self.put(StateKey::Relay(*account), &record);
        self.event(ChainEvent::RelayUpdated { account: *account, relay_key });
        Ok(())
    }
}
