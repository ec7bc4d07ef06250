//! Relays: who forwards media, under which key, at which address.

use std::collections::BTreeMap;

use chain_types::{
    AccountId, BIND_BODY_BYTES, Balance, Bind, ChainEvent, Domain, Preimage, RelayFacts,
    RelayRecord, ResultCode, StateKey, StreamMetadata, Terms, records::FORMER_KEYS_MAX,
    staking::Evidence,
};
use sha2::{Digest, Sha256};

use super::{
    signatures, stake,
    state::{BlockState, Stop, reject},
};

impl BlockState {
    /// `RegisterRelay`.
    pub(super) fn register_relay(
        &mut self,
        account: &AccountId,
        facts: RelayFacts,
        bond: Balance,
    ) -> Result<(), Stop> {
        // One that left, and took its bond, may come again.
        let before = self.relay(account)?;
        let is_one = |before: &RelayRecord| before.leaving.is_none() || !before.bond.is_zero();
        if before.as_ref().is_some_and(is_one) {
            return reject(ResultCode::Policy, "the account is a relay: update it instead");
        }
        let least = self.params.relay_bond_min;
        if bond < least {
            return reject(ResultCode::Funds, format!("a relay's bond is {least} units at least"));
        }
        self.debit(account, bond)?;
        let relay_key = facts.relay_key;
        // The new bond answers for what was signed before, too.
        let (named, ext) = match before {
            Some(RelayRecord { relay_key, ext, .. }) => (relay_key, ext),
            None => (relay_key, BTreeMap::new()),
        };
        let mut record = RelayRecord {
            bond,
            relay_key: named,
            endpoint: facts.endpoint,
            region: facts.region,
            wholesale_per_gb: facts.wholesale_per_gb,
            min_share_bps: facts.min_share_bps,
            since_height: self.height,
            leaving: None,
            ext,
        };
        self.change_relay_key(&mut record, relay_key)?;
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
        let mut record = RelayRecord {
            endpoint: facts.endpoint,
            region: facts.region,
            wholesale_per_gb: facts.wholesale_per_gb,
            min_share_bps: facts.min_share_bps,
            ..record
        };
        self.change_relay_key(&mut record, relay_key)?;
        self.put(StateKey::Relay(*account), &record);
        self.event(ChainEvent::RelayUpdated { account: *account, relay_key });
        Ok(())
    }

    /// The key before answers as long as a bond that leaves would.
    fn change_relay_key(&self, record: &mut RelayRecord, key: AccountId) -> Result<(), Stop> {
        let until_ms = self.time_ms.saturating_add(self.params.unbonding_ms);
        record.change_key(key, self.time_ms, until_ms).or_else(|free_ms| {
            let seconds = free_ms.saturating_sub(self.time_ms).div_ceil(1000);
            let log = format!(
                "the bond answers for {FORMER_KEYS_MAX} former keys: its key changes again in \
                 {seconds} s"
            );
            reject(ResultCode::Policy, log)
        })
    }

    /// `UnbondRelay`: the first begins, the second, after the unbonding time, ends.
    pub(super) fn unbond_relay(&mut self, account: &AccountId) -> Result<(), Stop> {
        let Some(mut record) = self.relay(account)? else {
            return reject(ResultCode::NotFound, "the account is no relay");
        };
        match record.leaving {
            None => {
                let until_ms = self.time_ms.saturating_add(self.params.unbonding_ms);
                record.leaving = Some(until_ms);
                self.event(ChainEvent::RelayLeaving { account: *account, until_ms });
            }
            Some(until_ms) if self.time_ms < until_ms => {
                let seconds = (until_ms - self.time_ms).div_ceil(1000);
                let log =
                    format!("the bond can still be cut for {seconds} s: send this again then");
                return reject(ResultCode::Policy, log);
            }
            Some(_) if record.bond.is_zero() => {
                return reject(ResultCode::Policy, "the relay has left: there is no bond to take");
            }
            Some(_) => {
                let bond = std::mem::take(&mut record.bond);
                self.credit(account, bond)?;
                self.event(ChainEvent::RelayLeft { account: *account, bond });
            }
        }
        self.put(StateKey::Relay(*account), &record);
        Ok(())
    }

    /// `SubmitEvidence`.
    pub(super) fn submit_evidence(
        &mut self,
        reporter: &AccountId,
        evidence: &Evidence,
    ) -> Result<(), Stop> {
        let Evidence::DearTerms { terms, bind, ack } = evidence;
        let relay = self.proved_dear(terms, bind, ack)?;
        let mut hash = Sha256::new();
        hash.update(relay.0);
        hash.update(terms);
        let key = StateKey::Evidence(hash.finalize().into());
        if self.get::<u64>(key)?.is_some() {
            return reject(
                ResultCode::EvidenceDuplicate,
                "the relay was cut for these terms before",
            );
        }
        let Some(mut record) = self.relay(&relay)? else {
            return reject(ResultCode::EvidenceInvalid, "the terms' payee is no relay");
        };
        let amount = stake::part(record.bond, self.params.relay_fault_bps);
        let reward = stake::part(amount, self.params.reporter_bps);
        record.bond = record.bond.saturating_sub(amount);
        self.put(StateKey::Relay(relay), &record);
        let height = self.height;
        self.put(key, &height);
        self.credit(reporter, reward)?;
        self.burn(amount.saturating_sub(reward))?;
        self.event(ChainEvent::RelaySlashed {
            account: relay,
            reporter: *reporter,
            amount,
            reward,
        });
        Ok(())
    }

    /// The relay that acknowledged terms which are dearer than the stream's price.
    fn proved_dear(&self, terms: &str, bind: &[u8], ack: &[u8]) -> Result<AccountId, Stop> {
        let invalid = |log: &str| reject(ResultCode::EvidenceInvalid, log.to_owned());
        let Ok(read) = serde_json::from_str::<Terms>(terms) else {
            return invalid("the terms cannot be read");
        };
        let (Ok(body), Ok(signature)) =
            (<&[u8; BIND_BODY_BYTES]>::try_from(bind), <[u8; 64]>::try_from(ack))
        else {
            return invalid("a bind has 272 bytes and its acknowledgement 64");
        };
        let bound = Bind::decode(body);
        let hash: [u8; 32] = Sha256::digest(terms.as_bytes()).into();
        if bound.terms_hash != hash || bound.stream != read.stream {
            return invalid("the bind is about other terms");
        }
        let Some(record) = self.relay(&read.payee)? else {
            return invalid("the terms' payee is no relay");
        };
        let is_its = record.answers_for(&bound.relay_key, self.time_ms);
        if !is_its || read.relay_key != bound.relay_key {
            return invalid("the bind names another relay's key than the chain");
        }
        let signed = Preimage::new(Domain::BIND_ACK, &self.chain_id).bytes(body);
        if !signatures::holds(&bound.relay_key, signed.as_slice(), signature) {
            return invalid("the relay did not sign this");
        }
        let stream: Option<StreamMetadata> = self.get(StateKey::Stream(read.stream))?;
        let price = stream.as_ref().and_then(|stream| stream.terms_of(read.terms_version));
        let Some(price) = price else {
            return reject(ResultCode::TermsUnknown, "the stream has no such price version");
        };
        let share = price.tier_bps.get(usize::from(read.tier)).copied().unwrap_or(0);
        let asked = u128::from(read.rate) * 10_000;
        if asked <= u128::from(price.rate_per_second) * u128::from(share) {
            return invalid("the terms are not dearer than the stream's price");
        }
        Ok(read.payee)
    }
}
