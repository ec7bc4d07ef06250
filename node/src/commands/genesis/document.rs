//! A genesis file: read, changed and written with all that other tools have put into it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, Params, hex};
use consensus_abci::{
    app::AppState,
    engine::{Genesis, GenesisError},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Gentx;
use crate::chain::genesis;

/// Longest genesis file that is read: accounts and validators of a large chain.
const GENESIS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The text of one and what it says, which need not be right.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: Vec<u8>,
    json: Value,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// There is none, or it is no JSON.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        if !path.try_exists().with_context(name)? {
            bail!(
                "{} is not there: make a home with `sutantra-node init MONIKER`, or name yours with \
                 --home DIR",
                path.display()
            );
        }
        let length = fs::metadata(path).with_context(name)?.len();
        if length > GENESIS_BYTES_MAX {
            bail!("{} is no genesis: it has {length} bytes", path.display());
        }
        let text = fs::read(path).with_context(name)?;
        Self::read(text, path)
    }

    /// Reads the text of what is, or will be, the file `path`.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn read(text: Vec<u8>, path: &Path) -> anyhow::Result<Self> {
        let json: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        Ok(Self { path: path.to_owned(), text, json })
    }

    /// Everything that is wrong with it, each fault with its place.
    pub fn faults(&self) -> Vec<String> {
        let (engine, mut faults) = match Genesis::from_json(&self.text) {
            Ok(genesis) => (Some(genesis), Vec::new()),
            Err(GenesisError::Invalid(faults)) => (None, faults),
            Err(error) => return vec![error.to_string()],
        };
        // The application's part too, whatever is wrong with the engine's.
        let state = match AppState::parse(self.json["app_state"].to_string().as_bytes()) {
            Ok(state) => Some(state),
            Err(error) => {
                faults.extend(error.0);
                None
            }
        };
        match (&state, self.chain_id()) {
            (Some(state), Ok(chain_id)) => faults.extend(state.check(&chain_id)),
            // Nobody can tell whether what was signed is for this chain.
            (Some(state), Err(_)) => faults.extend(state.faults()),
            (None, _) => {}
        }
        if let (Some(engine), Some(state)) = (&engine, &state) {
            faults.extend(self.between(engine, &state.params));
        }
        faults
    }

    /// What each part says rightly, and both cannot say together.
    fn between(&self, engine: &Genesis, params: &Params) -> Vec<String> {
        let mut faults = Vec::new();
        let evidence_ms = engine.consensus_params.evidence_max_age_ns / 1_000_000;
        let unbonding_ms = i64::try_from(params.unbonding_ms).unwrap_or(i64::MAX);
        if self.has_gentxs() && evidence_ms > unbonding_ms {
            faults.push(format!(
                "consensus_params.evidence.max_age_duration is {evidence_ms} ms, longer than \
                 app_state.params.unbonding_ms ({unbonding_ms}): stake could flee its punishment"
            ));
        }
        let bytes = engine.consensus_params.block_max_bytes;
        if bytes != -1 && bytes < i64::from(params.transaction_bytes_max) + 1024 {
            faults.push(format!(
                "consensus_params.block.max_bytes is {bytes}: a transaction of \
                 app_state.params.transaction_bytes_max ({}) does not fit; -1 lets the application \
                 bound a block",
                params.transaction_bytes_max
            ));
        }
        if engine.validators.is_empty() && !self.has_gentxs() && !self.has_records() {
            faults.push(
                "nobody validates: there are no validators and no app_state.gentxs; collect them \
                 with `sutantra-node genesis collect-gentxs`"
                    .to_owned(),
            );
        }
        let few = |gentxs: &[chain_types::Transaction]| {
            gentxs.len() as u64 <= u64::from(params.validators_max)
        };
        if self.has_gentxs() && !engine.validators.is_empty() {
            let mut said: Vec<_> =
                engine.validators.iter().map(|known| (known.pub_key, known.power)).collect();
            let mut made: Vec<_> = match self.gentxs() {
                // Who of more than that votes, the application chooses.
                Ok(gentxs) if !few(&gentxs) => return faults,
                Ok(gentxs) => genesis::validators(&gentxs, params)
                    .into_iter()
                    .map(|known| (known.pub_key, known.power))
                    .collect(),
                Err(_) => return faults,
            };
            said.sort_by_key(|(key, power)| (*power, key.to_bytes()));
            made.sort_by_key(|(key, power)| (*power, key.to_bytes()));
            if said != made {
                faults.push(
                    "validators are not those of app_state.gentxs: collect them again, or leave the \
                     list empty"
                        .to_owned(),
                );
            }
        }
        faults
    }

    /// The chain's id.
    ///
    /// # Errors
    /// It has none.
    pub fn chain_id(&self) -> anyhow::Result<String> {
        let id = self.json["chain_id"].as_str();
        let id = id.with_context(|| format!("{} has no chain_id", self.path.display()))?;
        Ok(id.to_owned())
    }

    /// SHA-256 of the file, as `sha256sum` prints it.
    pub fn hash(&self) -> String {
        hex::text(&Sha256::digest(&self.text))
    }

    /// Validators of the first block, as far as the file says.
    pub fn validators_count(&self) -> usize {
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        count(&self.json["app_state"]["gentxs"]).max(count(&self.json["validators"]))
    }

    fn has_gentxs(&self) -> bool {
        self.json["app_state"]["gentxs"].as_array().is_some_and(|list| !list.is_empty())
    }

    /// Whether it goes on with a state that was exported.
    fn has_records(&self) -> bool {
        self.json["app_state"]["records"].as_array().is_some_and(|list| !list.is_empty())
    }

    fn gentxs(&self) -> anyhow::Result<Vec<chain_types::Transaction>> {
        let list = self.json["app_state"]["gentxs"].as_array().cloned().unwrap_or_default();
        let read = |entry: &Value| {
            let bytes = entry.as_str().and_then(hex::bytes).context("no hex digits")?;
            Ok(chain_types::Transaction::decode(&bytes)?)
        };
        list.iter().map(read).collect()
    }

    fn params(&self) -> anyhow::Result<Params> {
        let params = match &self.json["app_state"]["params"] {
            Value::Null => return Ok(Params::default()),
            params => params.clone(),
        };
        let unread = || format!("app_state.params of {}", self.path.display());
        serde_json::from_value(params).with_context(unread)
    }

    fn accounts(&mut self) -> anyhow::Result<&mut Vec<Value>> {
        let path = self.path.display().to_string();
        let list = self.json["app_state"]["accounts"].as_array_mut();
        list.with_context(|| {
            format!("{path} has no app_state.accounts: it is no genesis of this program's")
        })
    }

    /// What an account begins with.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn balance(&self, account: &AccountId) -> anyhow::Result<Option<Balance>> {
        let id = account.to_string();
        let mut copy = self.clone();
        let Some(entry) = copy.accounts()?.iter().find(|entry| entry["account"] == *id) else {
            return Ok(None);
        };
        let balance = entry["balance"].as_str().and_then(|text| text.parse().ok());
        balance.map(Some).with_context(|| format!("the balance of {account} is no amount"))
    }

    /// One account more.
    ///
    /// # Errors
    /// It is there already, has nothing, or there is no list.
    pub fn add_account(&mut self, account: AccountId, amount: Balance) -> anyhow::Result<()> {
        if amount.is_zero() {
            bail!("an account that begins with nothing need not be there: give it something");
        }
        if let Some(balance) = self.balance(&account)? {
            bail!(
                "{account} begins with {} SUT already: change that in {}",
                balance.in_sut(),
                self.path.display()
            );
        }
        self.accounts()?.push(json!({ "account": account, "balance": amount }));
        self.rewrite();
        Ok(())
    }

    /// The same with these validators, and no others.
    ///
    /// # Errors
    /// What was signed is no transaction, or the parameters cannot be read.
    pub fn with_gentxs(&self, gentxs: &[Gentx]) -> anyhow::Result<Self> {
        let params = self.params()?;
        let transactions: Vec<_> =
            gentxs.iter().filter_map(|gentx| gentx.transaction().ok()).collect();
        let mut changed = self.clone();
        let signed: Vec<_> = gentxs.iter().map(|gentx| json!(gentx.signed)).collect();
        // As the list of an engine that has heard of nothing else.
        let engine: Vec<_> = genesis::validators(&transactions, &params)
            .into_iter()
            .map(|validator| validator.to_json())
            .collect();
        changed.accounts()?;
        changed.json["app_state"]["gentxs"] = Value::Array(signed);
        changed.json["validators"] = Value::Array(engine);
        changed.rewrite();
        Ok(changed)
    }

    fn rewrite(&mut self) {
        self.text = serde_json::to_vec_pretty(&self.json).expect("JSON has a text form");
    }

    /// Writes it where it was read.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self) -> anyhow::Result<()> {
        write(&self.path, &self.text)
    }

    /// The text.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// The system's, with the file.
pub fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let temp = path.with_extension(format!("new-{}", std::process::id()));
    let written = fs::write(&temp, text)
        .and_then(|()| fs::File::open(&temp)?.sync_all())
        .and_then(|()| fs::rename(&temp, path));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.with_context(|| path.display().to_string())
}
