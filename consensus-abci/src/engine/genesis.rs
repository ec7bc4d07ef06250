//! The genesis document: CometBFT's `genesis.json`, read whole or refused with every fault named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chain_types::{AccountId, staking};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint::{PublicKey, Time, account, chain};

use super::files;
use super::hex::{hex_decode, hex_upper};
use super::keys::{ValidatorKey, public_json};
use super::params::{ConsensusParams, int64};

/// CometBFT's bound on the sum of voting powers: 2^63 / 8.
const TOTAL_POWER_MAX: u64 = (i64::MAX / 8) as u64;

/// A chain's beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Genesis {
    pub chain_id: chain::Id,
    /// Time of the first block.
    pub genesis_time: Time,
    /// Height of the first block, 1 or more.
    pub initial_height: u64,
    pub consensus_params: ConsensusParams,
    pub validators: Vec<GenesisValidator>,
    /// App hash before `InitChain`; used when the application gives none.
    pub app_hash: Vec<u8>,
    /// The application's own part, handed to `InitChain` as JSON bytes.
    pub app_state: Value,
}

/// A validator of the first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisValidator {
    pub pub_key: PublicKey,
    /// Voting power, 1 or more.
    pub power: u64,
    pub name: String,
}

impl GenesisValidator {
    /// CometBFT's JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "address": account::Id::from(self.pub_key).to_string(),
            "pub_key": public_json(&self.pub_key),
            "power": self.power.to_string(),
            "name": self.name,
        })
    }
}

impl ValidatorKey {
    /// The public half as transactions and records name it.
    pub fn account(&self) -> AccountId {
        let bytes = self.public_key().to_bytes();
        AccountId(bytes.try_into().expect("an ed25519 key has 32 bytes"))
    }

    /// Proves to a chain that this key agrees to sign its blocks for `operator`.
    pub fn possession(&self, operator: &AccountId, chain_id: &str) -> [u8; 64] {
        self.sign(staking::possession_preimage(operator, chain_id).as_slice())
    }
}

/// Why a genesis file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    #[error("genesis {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("genesis is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Every fault, so that one look at the file mends them all.
    #[error("genesis is invalid: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl Genesis {
    /// A chain of one validator with power 10 and default parameters that begins at `genesis_time`.
    pub fn single(
        chain_id: chain::Id,
        genesis_time: Time,
        pub_key: PublicKey,
        app_state: Value,
    ) -> Self {
        Genesis {
            chain_id,
            genesis_time,
            initial_height: 1,
            consensus_params: ConsensusParams::default(),
            validators: vec![GenesisValidator { pub_key, power: 10, name: String::new() }],
            app_hash: Vec::new(),
            app_state,
        }
    }

    /// Reads `path`; where there is no file, takes what `make` gives and writes it there.
    pub fn load_or_create(
        path: &Path,
        make: impl FnOnce() -> Genesis,
    ) -> Result<Self, GenesisError> {
        let failed = |source| GenesisError::Io { path: path.to_owned(), source };
        match fs::read(path) {
            Ok(bytes) => Genesis::from_json(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = serde_json::to_vec_pretty(&make().to_json())?;
                // What is written must be readable: a maker's fault shows now, not at the restart.
                let genesis = Genesis::from_json(&text)?;
                files::create_parent(path).map_err(failed)?;
                files::write_atomic(path, &text).map_err(failed)?;
                Ok(genesis)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Parses and checks a `genesis.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, GenesisError> {
        let doc: Value = serde_json::from_slice(bytes)?;
        let mut errors = Vec::new();
        if !doc.is_object() {
            return Err(GenesisError::Invalid(vec!["it is not a JSON object".to_owned()]));
        }
        let chain_id = read_chain_id(&doc["chain_id"], &mut errors);
        let genesis_time = read_time(&doc["genesis_time"], &mut errors);
        let initial_height = match &doc["initial_height"] {
            Value::Null => 1,
            found => match int64(found) {
                // CometBFT reads 0 as "not given".
                Some(0) => 1,
                Some(height) if height > 0 => height.unsigned_abs(),
                _ => {
                    errors.push(format!("initial_height is {found}, needs 1 or more"));
                    1
                }
            },
        };
        let consensus_params = ConsensusParams::from_json(&doc["consensus_params"], &mut errors);
        let validators = read_validators(&doc["validators"], &mut errors);
        let app_hash = match &doc["app_hash"] {
            Value::Null => Vec::new(),
            found => found.as_str().and_then(hex_decode).unwrap_or_else(|| {
                errors.push(format!("app_hash is {found}, needs hex digits"));
                Vec::new()
            }),
        };
        match (chain_id, genesis_time) {
            (Some(chain_id), Some(genesis_time)) if errors.is_empty() => Ok(Genesis {
                chain_id,
                genesis_time,
                initial_height,
                consensus_params,
                validators,
                app_hash,
                app_state: doc["app_state"].clone(),
            }),
            _ => Err(GenesisError::Invalid(errors)),
        }
    }

    /// CometBFT's JSON.
    pub fn to_json(&self) -> Value {
        let validators = self.validators.iter().map(GenesisValidator::to_json);
        json!({
            "genesis_time": self.genesis_time.to_rfc3339(),
            "chain_id": self.chain_id.as_str(),
            "initial_height": self.initial_height.to_string(),
            "consensus_params": self.consensus_params.to_json(),
            "validators": validators.collect::<Vec<_>>(),
            "app_hash": hex_upper(&self.app_hash),
            "app_state": self.app_state,
        })
    }

    /// `app_state` as `InitChain` gets it; no bytes where the file has none.
    pub fn app_state_bytes(&self) -> Vec<u8> {
        match &self.app_state {
            Value::Null => Vec::new(),
            state => serde_json::to_vec(state).expect("JSON values serialize"),
        }
    }

    /// SHA-256 of the compact JSON: a block store belongs to one genesis.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(&self.to_json()).expect("JSON values serialize")).into()
    }
}

fn read_chain_id(value: &Value, errors: &mut Vec<String>) -> Option<chain::Id> {
    let Some(text) = value.as_str() else {
        errors.push("chain_id is missing".to_owned());
        return None;
    };
    text.parse().map_err(|error| errors.push(format!("chain_id {text:?}: {error}"))).ok()
}

fn read_time(value: &Value, errors: &mut Vec<String>) -> Option<Time> {
    let Some(text) = value.as_str() else {
        errors.push("genesis_time is missing, needs RFC 3339".to_owned());
        return None;
    };
    Time::parse_from_rfc3339(text)
        .map_err(|_| errors.push(format!("genesis_time {text:?} is not RFC 3339")))
        .ok()
}

fn read_validators(value: &Value, errors: &mut Vec<String>) -> Vec<GenesisValidator> {
    let found = match value {
        Value::Null => return Vec::new(),
        Value::Array(found) => found,
        _ => {
            errors.push("validators is not a list".to_owned());
            return Vec::new();
        }
    };
    let mut validators: Vec<GenesisValidator> = Vec::new();
    let mut total_power: u64 = 0;
    for (index, entry) in found.iter().enumerate() {
        match read_validator(entry) {
            Ok(validator) if validators.iter().any(|other| other.pub_key == validator.pub_key) => {
                errors.push(format!("validators[{index}] has the key of another validator"));
            }
            Ok(validator) => {
                total_power = total_power.saturating_add(validator.power);
                validators.push(validator);
            }
            Err(sentence) => errors.push(format!("validators[{index}] {sentence}")),
        }
    }
    if total_power > TOTAL_POWER_MAX {
        errors.push(format!("validators have {total_power} power, at most {TOTAL_POWER_MAX}"));
    }
    validators
}

fn read_validator(entry: &Value) -> Result<GenesisValidator, String> {
    let key = &entry["pub_key"];
    if key["type"] != "tendermint/PubKeyEd25519" {
        return Err(format!("pub_key.type is {}, needs tendermint/PubKeyEd25519", key["type"]));
    }
    let bytes = key["value"].as_str().and_then(|text| BASE64.decode(text).ok());
    let pub_key = bytes
        .and_then(|bytes| PublicKey::from_raw_ed25519(&bytes))
        .ok_or("pub_key.value is not a base64 ed25519 key")?;
    let power = int64(&entry["power"]).filter(|power| *power > 0);
    let power = power.ok_or(format!("power is {}, needs 1 or more", entry["power"]))?;
    let own = account::Id::from(pub_key).to_string();
    match entry["address"].as_str() {
        Some(address) if !address.is_empty() && address != own => {
            Err(format!("address is {address}, the key's address is {own}"))
        }
        _ => Ok(GenesisValidator {
            pub_key,
            power: power.unsigned_abs(),
            name: entry["name"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}
