//! The genesis state: parameters, first balances and first validators, or the whole state of another
//! chain, from `app_state` of the genesis file.

use std::collections::{BTreeMap, BTreeSet};

use chain_types::{
    Account, AccountId, Balance, Params, Payload, StateKey, Supply, Transaction, hex,
    params::POWER_MAX,
    staking::{
        Delegation, Rewards, SigningInfo, Validator, consensus_address, possession_preimage,
    },
};
use serde::{Deserialize, Serialize};

use super::{form, records, signatures, stake, state::encode};
use crate::store::Writes;

/// `app_state` of the genesis file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppState {
    /// What is left out is [`Params::default`].
    #[serde(default)]
    pub params: Params,
    /// Who begins with how much.
    #[serde(default)]
    pub accounts: Vec<GenesisAccount>,
    /// Signed `CreateValidator` transactions in hex: the first validators. Each takes its stake from
    /// its operator's balance. Without any, the engine's genesis names the validators for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gentxs: Vec<String>,
    /// A state that was exported, instead of all else; in the order of its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<GenesisRecord>,
}

/// An account that the chain begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Its key.
    pub account: AccountId,
    /// Units.
    pub balance: Balance,
}

/// One entry of an exported state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisRecord {
    /// A [`StateKey`], hex.
    pub key: String,
    /// Its value, hex.
    pub value: String,
}

/// Everything that is wrong with an `app_state`, each fault in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the genesis app_state cannot be used: {}", .0.join("; "))]
pub struct GenesisError(pub Vec<String>);

/// The first validator of an operator, as its transaction says.
struct First {
    operator: AccountId,
    record: Validator,
}

impl AppState {
    /// Reads and checks all that does not depend on the chain's id.
    ///
    /// # Errors
    /// Another JSON, or every fault at once.
    pub fn read(json: &[u8]) -> Result<Self, GenesisError> {
        let state = Self::parse(json)?;
        let faults = state.faults();
        if faults.is_empty() { Ok(state) } else { Err(GenesisError(faults)) }
    }

    /// Reads and checks nothing but the form.
    ///
    /// # Errors
    /// Another JSON.
    pub fn parse(json: &[u8]) -> Result<Self, GenesisError> {
        serde_json::from_slice(json)
            .map_err(|error| GenesisError(vec![format!("app_state is not understood: {error}")]))
    }

    /// What is wrong with it on any chain.
    pub fn faults(&self) -> Vec<String> {
        if !self.records.is_empty() {
            return self.faults_of_records();
        }
        let mut faults = self.params.faults();
        let mut seen = BTreeMap::new();
        for (at, GenesisAccount { account, balance }) in self.accounts.iter().enumerate() {
            if let Some(first) = seen.insert(account, at) {
                faults.push(format!("accounts[{at}] and accounts[{first}] are both {account}"));
            }
            if balance.is_zero() {
                faults.push(format!("accounts[{at}] ({account}) has nothing"));
            }
        }
        if self.accounts.is_empty() {
            faults.push("there is no account: nobody could ever pay a fee".to_owned());
        }
        match self.supply() {
            None => faults.push("the supply is not below 2^96 units".to_owned()),
            Some(all) if !self.gentxs.is_empty() && self.params.power_of(all) > POWER_MAX => {
                let sentence = "params.power_unit is too small: all that can be staked must weigh \
                                2^60 at most";
                faults.push(sentence.to_owned());
            }
            Some(_) => {}
        }
        faults
    }

    /// What is wrong with it on the chain `chain_id`, its validators' transactions included.
    pub fn check(&self, chain_id: &str) -> Vec<String> {
        let mut faults = self.faults();
        let (mut operators, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (at, text) in self.gentxs.iter().enumerate() {
            match self.first(text, chain_id) {
                Ok(First { operator, record }) => {
                    if let Some(first) = operators.insert(operator, at) {
                        faults.push(format!("gentxs[{at}] and gentxs[{first}] have one operator"));
                    }
                    if let Some(first) = keys.insert(record.consensus_key, at) {
                        let both = format!("gentxs[{at}] and gentxs[{first}]");
                        faults.push(format!("{both} have one consensus key"));
                    }
                }
                Err(fault) => faults.push(format!("gentxs[{at}]: {fault}")),
            }
        }
        if self.params.validators_max == 1 && self.gentxs.len() > 1 {
            let count = self.gentxs.len();
            faults.push(format!("there are {count} gentxs, params.validators_max is 1"));
        }
        faults
    }

    /// One of the first validators, before it votes.
    fn first(&self, text: &str, chain_id: &str) -> Result<First, String> {
        let bytes = hex::bytes(text).ok_or("it is no hexadecimal text")?;
        let transaction = Transaction::decode(&bytes).map_err(|error| error.to_string())?;
        form::check(&transaction.body.payload).map_err(|(_, fault)| fault.to_owned())?;
        let body = &transaction.body;
        let Payload::CreateValidator {
            consensus_key,
            possession,
            moniker,
            website,
            commission,
            self_delegation,
        } = &body.payload
        else {
            return Err(format!("it is a {}, not a create_validator", body.payload.kind()));
        };
        if body.nonce != 0 || body.fee_payer.is_some() {
            return Err("its nonce is 0, and nobody else pays its fee".to_owned());
        }
        if !signatures::all_hold(&signatures::claims(&transaction, chain_id)) {
            return Err(format!("its operator did not sign it for the chain {chain_id}"));
        }
        let operator = body.signer;
        let proved = possession_preimage(&operator, chain_id);
        if !signatures::holds(consensus_key, proved.as_slice(), *possession) {
            return Err("the consensus key did not sign that it is this operator's".to_owned());
        }
        if let Some(fault) = stake::commission_fault(commission) {
            return Err(fault.to_owned());
        }
        let least = self.params.self_delegation_min;
        if *self_delegation < least {
            return Err(format!("it stakes {self_delegation} units, {least} at least are needed"));
        }
        let of_operator = |account: &&GenesisAccount| account.account == operator;
        match self.accounts.iter().find(of_operator) {
            None => return Err(format!("its operator {operator} has no account")),
            Some(account) if account.balance < *self_delegation => {
                let balance = account.balance;
                return Err(format!("it stakes {self_delegation} units of {balance}"));
            }
            Some(_) => {}
        }
        let record = Validator {
            moniker: moniker.clone(),
            website: website.clone(),
            commission: *commission,
            ..stake::new_validator(*consensus_key, *self_delegation, 0)
        };
        Ok(First { operator, record })
    }

    fn faults_of_records(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.accounts.is_empty() || !self.gentxs.is_empty() {
            faults.push("records stand alone: without accounts and gentxs".to_owned());
        }
        let mut seen = BTreeSet::new();
        let mut can_be_read = true;
        for (at, GenesisRecord { key: text, value }) in self.records.iter().enumerate() {
            let key = hex::bytes(text).and_then(|key| StateKey::parse(&key));
            match key {
                None => faults.push(format!("records[{at}]: its key is none")),
                Some(key) if !seen.insert(key) => {
                    faults.push(format!("records[{at}] ({text}): its key stands there twice"));
                }
                Some(_) => {}
            }
            match (key, hex::bytes(value)) {
                (_, None) => {
                    faults
                        .push(format!("records[{at}] ({text}): its value is no hexadecimal text"));
                }
                (None, _) => {}
                (Some(key), Some(value)) => {
                    let found = records::faults(key, &value);
                    can_be_read &= found.is_empty();
                    let told = |fault| format!("records[{at}] ({text}): {fault}");
                    faults.extend(found.into_iter().map(told));
                }
            }
        }
        for needed in [StateKey::Params, StateKey::Supply, StateKey::FeePool] {
            if !seen.contains(&needed) {
                faults.push(format!("the record {needed:?} is missing"));
            }
        }
        if can_be_read {
            match super::books::imported(&self.imported()) {
                Ok(None) => {}
                Ok(Some(fault)) => faults.push(fault),
                Err(error) => faults.push(error.to_string()),
            }
        }
        faults
    }

    fn supply(&self) -> Option<Balance> {
        super::accounts::sum_of(self.accounts.iter().map(|account| account.balance))
    }

    /// The records of another chain, under this one's name.
    fn imported(&self) -> Writes {
        let pair = |record: &GenesisRecord| {
            Some((hex::bytes(&record.key)?, Some(hex::bytes(&record.value)?)))
        };
        self.records.iter().filter_map(pair).collect()
    }

    /// The state's records; all was checked with [`AppState::check`].
    pub(super) fn writes(&self, chain_id: &str, time_ms: u64) -> Writes {
        let mut writes = match self.records.is_empty() {
            true => self.own_writes(chain_id, time_ms),
            false => self.imported(),
        };
        let chain_id = encode(&chain_id.to_owned());
        writes.insert(StateKey::ChainId.to_bytes(), Some(chain_id));
        writes
    }

    fn own_writes(&self, chain_id: &str, time_ms: u64) -> Writes {
        let genesis = self.supply().expect("checked when it was read");
        let supply = Supply { genesis, burned: Balance::ZERO };
        let mut writes = Writes::from([
            (StateKey::Params.to_bytes(), Some(encode(&self.params))),
            (StateKey::Supply.to_bytes(), Some(encode(&supply))),
            (StateKey::FeePool.to_bytes(), Some(encode(&Balance::ZERO))),
        ]);
        let firsts: Vec<(AccountId, Validator)> = self
            .gentxs
            .iter()
            .filter_map(|text| self.first(text, chain_id).ok())
            // A commission that was told at the genesis changes a day after it, as any other.
            .map(|First { operator, record }| {
                (operator, Validator { commission_changed_ms: time_ms, ..record })
            })
            .collect();
        let staked: BTreeMap<_, _> =
            firsts.iter().map(|(operator, record)| (*operator, record.tokens)).collect();
        for GenesisAccount { account, balance } in &self.accounts {
            let stake = staked.get(account);
            // Its first transaction is its validator's.
            let record = Account {
                balance: balance.saturating_sub(stake.copied().unwrap_or_default()),
                nonce: u64::from(stake.is_some()),
            };
            writes.insert(StateKey::Account(*account).to_bytes(), Some(encode(&record)));
        }
        self.stake(firsts, &mut writes);
        writes
    }

    fn stake(&self, firsts: Vec<(AccountId, Validator)>, writes: &mut Writes) {
        if firsts.is_empty() {
            return;
        }
        let powers = stake::chosen(&firsts, self.params.validators_max, |validator| {
            validator.weight(&self.params)
        });
        let mut put = |key: StateKey, value: Vec<u8>| writes.insert(key.to_bytes(), Some(value));
        let mut bonded = Balance::ZERO;
        for (operator, mut record) in firsts {
            record.power = powers.get(&operator).copied().unwrap_or(0);
            if record.power > 0 {
                bonded = super::state::sum(bonded, record.tokens);
                let info = SigningInfo::new(1, self.params.signed_window_blocks);
                put(StateKey::SigningInfo(operator), encode(&info));
            }
            let own = Delegation {
                shares: record.shares,
                paid: 0,
                incoming: Vec::new(),
                leaving: Vec::new(),
            };
            put(StateKey::Delegation(operator, operator), encode(&own));
            let address = consensus_address(&record.consensus_key);
            put(StateKey::ConsensusAddress(address), encode(&operator));
            put(StateKey::Validator(operator), encode(&record));
        }
        put(StateKey::Rewards, encode(&Rewards { bonded, ..Rewards::default() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(byte: u8, balance: Balance) -> GenesisAccount {
        GenesisAccount { account: AccountId([byte; 32]), balance }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let state = AppState {
            params: Params::for_tests(),
            accounts: vec![account(1, Balance::of(5)), account(2, Balance::of(6))],
            ..AppState::default()
        };
        let json = serde_json::to_vec(&state).unwrap();
        assert_eq!(AppState::read(&json), Ok(state));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let mut state = AppState {
            params: Params::default(),
            accounts: vec![
                account(1, Balance::MAX),
                account(1, Balance::of(1)),
                account(2, Balance::ZERO),
            ],
            ..AppState::default()
        };
        state.params.fee_per_voucher = Balance::of(999);
        state.params.notice_blocks = 0;
        let faults = AppState::read(&serde_json::to_vec(&state).unwrap()).unwrap_err().0;
        for part in ["fee_per_voucher", "notice_blocks", "are both", "has nothing", "2^96"] {
            assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:?}");
        }
        assert_eq!(faults.len(), 5);
    }

    #[test]
    fn another_json_is_refused_with_its_place() {
        #[track_caller]
        fn check(json: &str, part: &str) {
            let error = AppState::read(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        check("", "EOF");
        check(r#"{"accounts":[]}"#, "no account");
        check(r#"{"accounts":[],"acounts":[]}"#, "unknown field");
        check(r#"{"accounts":[{"account":"00","balance":"1"}]}"#, "hex digits");
        let id = "07".repeat(32);
        check(&format!(r#"{{"accounts":[{{"account":"{id}","balance":5}}]}}"#), "app_state");
        let large = 1u128 << 96;
        check(&format!(r#"{{"accounts":[{{"account":"{id}","balance":"{large}"}}]}}"#), "2^96");
    }
}
