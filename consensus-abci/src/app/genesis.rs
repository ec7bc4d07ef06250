//! The genesis state: parameters and first balances, from `app_state` of the genesis file.

use std::collections::BTreeMap;

use chain_types::{Account, AccountId, Balance, Params, StateKey, Supply};
use serde::{Deserialize, Serialize};

use super::state::encode;
use crate::store::Writes;

/// `app_state` of the genesis file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppState {
    /// What is left out is [`Params::default`].
    #[serde(default)]
    pub params: Params,
    /// Who begins with how much.
    pub accounts: Vec<GenesisAccount>,
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

/// Everything that is wrong with an `app_state`, each fault in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the genesis app_state cannot be used: {}", .0.join("; "))]
pub struct GenesisError(pub Vec<String>);

impl AppState {
    /// Reads and checks.
    ///
    /// # Errors
    /// Another JSON, or every fault at once.
    pub fn read(json: &[u8]) -> Result<Self, GenesisError> {
        let state: Self = serde_json::from_slice(json)
            .map_err(|error| GenesisError(vec![format!("app_state is not understood: {error}")]))?;
        let faults = state.faults();
        if faults.is_empty() { Ok(state) } else { Err(GenesisError(faults)) }
    }

    /// What is wrong with it.
    pub fn faults(&self) -> Vec<String> {
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
        if self.supply().is_none() {
            faults.push("the supply is not below 2^96 units".to_owned());
        }
        faults
    }

    fn supply(&self) -> Option<Balance> {
        super::accounts::sum_of(self.accounts.iter().map(|account| account.balance))
    }

    /// The state's records.
    pub(super) fn writes(&self) -> Writes {
        let genesis = self.supply().expect("checked when it was read");
        let supply = Supply { genesis, burned: Balance::ZERO };
        let mut writes = Writes::from([
            (StateKey::Params.to_bytes(), Some(encode(&self.params))),
            (StateKey::Supply.to_bytes(), Some(encode(&supply))),
            (StateKey::FeePool.to_bytes(), Some(encode(&Balance::ZERO))),
        ]);
        for GenesisAccount { account, balance } in &self.accounts {
            let record = Account { balance: *balance, nonce: 0 };
            writes.insert(StateKey::Account(*account).to_bytes(), Some(encode(&record)));
        }
        writes
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
