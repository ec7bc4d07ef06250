//! Consensus parameters: what a genesis file sets and `FinalizeBlock` may change.

use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint::Hash;
use tendermint_proto::google::protobuf::Duration as ProtoDuration;
use tendermint_proto::v0_38::types as pb;

/// CometBFT's `MaxBlockSizeBytes`: what `max_bytes = -1` means.
pub const BLOCK_BYTES_MAX: i64 = 100 * 1024 * 1024;

/// Bytes of a block around its transactions (CometBFT `MaxDataBytes`): encoding overhead 11, header
/// 626, commit 94, and 111 for each validator's signature.
const BLOCK_OVERHEAD_BYTES: i64 = 11 + 626 + 94 + 111;

/// Consensus parameters as CometBFT 0.38 knows them, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsensusParams {
    /// Largest block in bytes; -1 is [`BLOCK_BYTES_MAX`].
    pub block_max_bytes: i64,
    /// Largest sum of gas; -1 is no bound. This engine counts no gas.
    pub block_max_gas: i64,
    pub evidence_max_age_blocks: i64,
    pub evidence_max_age_ns: i64,
    pub evidence_max_bytes: i64,
    /// The application's protocol version, in every header.
    pub app_version: u64,
}

impl Default for ConsensusParams {
    /// CometBFT's defaults, except that `PrepareProposal` is to see the whole mempool.
    fn default() -> Self {
        ConsensusParams {
            block_max_bytes: -1,
            block_max_gas: -1,
            evidence_max_age_blocks: 100_000,
            evidence_max_age_ns: 48 * 3600 * 1_000_000_000,
            evidence_max_bytes: 1024 * 1024,
            app_version: 0,
        }
    }
}

impl ConsensusParams {
    /// Every rule that these parameters break, a sentence each.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut rule = |holds: bool, sentence: String| {
            if !holds {
                errors.push(sentence);
            }
        };
        let bytes = self.block_max_bytes;
        rule(
            bytes == -1 || (BLOCK_OVERHEAD_BYTES + 1..=BLOCK_BYTES_MAX).contains(&bytes),
            format!(
                "consensus_params.block.max_bytes is {bytes}, must be -1 or {} to {BLOCK_BYTES_MAX}",
                BLOCK_OVERHEAD_BYTES + 1
            ),
        );
        let gas = self.block_max_gas;
        rule(gas >= -1, format!("consensus_params.block.max_gas is {gas}, must be -1 or greater"));
        rule(
            self.evidence_max_age_blocks > 0,
            "consensus_params.evidence.max_age_num_blocks must be greater than 0".to_owned(),
        );
        rule(
            self.evidence_max_age_ns > 0,
            "consensus_params.evidence.max_age_duration must be greater than 0".to_owned(),
        );
        let block_bytes = if bytes == -1 { BLOCK_BYTES_MAX } else { bytes };
        rule(
            (0..=block_bytes).contains(&self.evidence_max_bytes),
            "consensus_params.evidence.max_bytes must be 0 to block.max_bytes".to_owned(),
        );
        errors
    }

    /// Room for transactions in a block, in bytes of their protobuf encoding.
    pub fn tx_bytes_max(&self) -> i64 {
        let block = if self.block_max_bytes == -1 { BLOCK_BYTES_MAX } else { self.block_max_bytes };
        block - BLOCK_OVERHEAD_BYTES
    }

    /// The header's `consensus_hash`.
    pub fn hash(&self) -> Hash {
        let hashed = pb::HashedParams {
            block_max_bytes: self.block_max_bytes,
            block_max_gas: self.block_max_gas,
        };
        Hash::Sha256(Sha256::digest(hashed.encode_to_vec()).into())
    }

    /// These parameters with the parts that `update` names replaced; an error sentence otherwise.
    pub fn updated(&self, update: &pb::ConsensusParams) -> Result<Self, String> {
        let mut params = self.clone();
        if let Some(block) = &update.block {
            params.block_max_bytes = block.max_bytes;
            params.block_max_gas = block.max_gas;
        }
        if let Some(evidence) = &update.evidence {
            params.evidence_max_age_blocks = evidence.max_age_num_blocks;
            params.evidence_max_bytes = evidence.max_bytes;
            let age = evidence.max_age_duration.unwrap_or_default();
            params.evidence_max_age_ns = age
                .seconds
                .checked_mul(1_000_000_000)
                .and_then(|ns| ns.checked_add(i64::from(age.nanos)))
                .ok_or("evidence.max_age_duration is out of range")?;
        }
        if let Some(validator) = &update.validator {
            check_key_types(validator.pub_key_types.iter().map(String::as_str))?;
        }
        if let Some(version) = &update.version {
            params.app_version = version.app;
        }
        if update.abci.is_some_and(|abci| abci.vote_extensions_enable_height != 0) {
            return Err("vote extensions are not made by the embedded engine".to_owned());
        }
        match params.errors() {
            errors if errors.is_empty() => Ok(params),
            errors => Err(errors.join("; ")),
        }
    }

    /// The protobuf form, of `InitChain` and of the state record.
    pub fn to_proto(&self) -> pb::ConsensusParams {
        pb::ConsensusParams {
            block: Some(pb::BlockParams {
                max_bytes: self.block_max_bytes,
                max_gas: self.block_max_gas,
            }),
            evidence: Some(pb::EvidenceParams {
                max_age_num_blocks: self.evidence_max_age_blocks,
                max_age_duration: Some(ProtoDuration {
                    seconds: self.evidence_max_age_ns / 1_000_000_000,
                    nanos: i32::try_from(self.evidence_max_age_ns % 1_000_000_000)
                        .expect("below a second"),
                }),
                max_bytes: self.evidence_max_bytes,
            }),
            validator: Some(pb::ValidatorParams { pub_key_types: vec!["ed25519".to_owned()] }),
            version: Some(pb::VersionParams { app: self.app_version }),
            abci: Some(pb::AbciParams { vote_extensions_enable_height: 0 }),
        }
    }

    /// CometBFT's JSON of genesis files and of `/consensus_params`: 64-bit numbers are strings.
    pub fn to_json(&self) -> Value {
        json!({
            "block": {
                "max_bytes": self.block_max_bytes.to_string(),
                "max_gas": self.block_max_gas.to_string(),
            },
            "evidence": {
                "max_age_num_blocks": self.evidence_max_age_blocks.to_string(),
                "max_age_duration": self.evidence_max_age_ns.to_string(),
                "max_bytes": self.evidence_max_bytes.to_string(),
            },
            "validator": { "pub_key_types": ["ed25519"] },
            "version": { "app": self.app_version.to_string() },
            "abci": { "vote_extensions_enable_height": "0" },
        })
    }

    /// Reads [`ConsensusParams::to_json`]; missing parts have their defaults, every fault a sentence
    /// in `errors`.
    pub fn from_json(value: &Value, errors: &mut Vec<String>) -> Self {
        let default = ConsensusParams::default();
        let mut read = |pointer: &str, default: i64| match value.pointer(pointer) {
            None | Some(Value::Null) => default,
            Some(found) => int64(found).unwrap_or_else(|| {
                let name = pointer.replace('/', ".");
                errors.push(format!("consensus_params{name} is {found}, needs an integer"));
                default
            }),
        };
        let mut params = ConsensusParams {
            block_max_bytes: read("/block/max_bytes", default.block_max_bytes),
            block_max_gas: read("/block/max_gas", default.block_max_gas),
            evidence_max_age_blocks: read(
                "/evidence/max_age_num_blocks",
                default.evidence_max_age_blocks,
            ),
            evidence_max_age_ns: read("/evidence/max_age_duration", default.evidence_max_age_ns),
            evidence_max_bytes: read("/evidence/max_bytes", default.evidence_max_bytes),
            app_version: 0,
        };
        let app_version = read("/version/app", 0);
        if read("/abci/vote_extensions_enable_height", 0) != 0 {
            errors.push(
                "consensus_params.abci.vote_extensions_enable_height must be 0: the embedded \
                 engine makes no vote extensions"
                    .to_owned(),
            );
        }
        match u64::try_from(app_version) {
            Ok(version) => params.app_version = version,
            Err(_) => errors.push("consensus_params.version.app is negative".to_owned()),
        }
        if let Some(types) = value.pointer("/validator/pub_key_types").and_then(Value::as_array) {
            let types = types.iter().map(|name| name.as_str().unwrap_or("?"));
            if let Err(sentence) = check_key_types(types) {
                errors.push(format!("consensus_params.validator.pub_key_types: {sentence}"));
            }
        }
        errors.extend(params.errors());
        params
    }
}

fn check_key_types<'a>(types: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut types = types.into_iter().peekable();
    if types.peek().is_none() {
        return Err("is empty, needs ed25519".to_owned());
    }
    match types.find(|name| *name != "ed25519") {
        None => Ok(()),
        Some(other) => Err(format!("{other} is not known, only ed25519 is")),
    }
}

/// A 64-bit integer of CometBFT's JSON: a decimal string, or a plain number from a lenient writer.
pub(crate) fn int64(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    }
}
