//! What the engine knows between two blocks: the sets, parameters and hashes of the next header.

use prost::Message;
use tendermint::validator::{self, Set};
use tendermint::{AppHash, Hash, PublicKey, Time, block, chain, merkle, vote};
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock, ValidatorUpdate};
use tendermint_proto::v0_38::types as pb;

use super::genesis::Genesis;
use super::params::ConsensusParams;

type Sha = tendermint::crypto::default::Sha256;

/// CometBFT's `State`: everything that the header of height `last_block_height + 1` is made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub chain_id: chain::Id,
    pub initial_height: u64,
    /// 0 before the first block.
    pub last_block_height: u64,
    pub last_block_id: Option<block::Id>,
    /// The genesis time before the first block.
    pub last_block_time: Time,
    /// Signers of the last block; empty before the first.
    pub last_validators: Set,
    pub validators: Set,
    pub next_validators: Set,
    pub params: ConsensusParams,
    pub last_results_hash: Hash,
    pub app_hash: AppHash,
    pub genesis_hash: [u8; 32],
}

/// [`State`] in the store.
#[derive(Clone, PartialEq, Message)]
struct StateRecord {
    #[prost(string, tag = "1")]
    chain_id: String,
    #[prost(uint64, tag = "2")]
    initial_height: u64,
    #[prost(uint64, tag = "3")]
    last_block_height: u64,
    #[prost(message, optional, tag = "4")]
    last_block_id: Option<pb::BlockId>,
    #[prost(message, optional, tag = "5")]
    last_block_time: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    last_validators: Option<pb::ValidatorSet>,
    #[prost(message, optional, tag = "7")]
    validators: Option<pb::ValidatorSet>,
    #[prost(message, optional, tag = "8")]
    next_validators: Option<pb::ValidatorSet>,
    #[prost(message, optional, tag = "9")]
    params: Option<pb::ConsensusParams>,
    #[prost(bytes = "vec", tag = "10")]
    last_results_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "11")]
    app_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    genesis_hash: Vec<u8>,
}

impl State {
    /// The state before the first block, before `InitChain` had its say.
    pub(crate) fn genesis(genesis: &Genesis) -> Self {
        let validators = genesis.validators.iter().map(|entry| {
            let power = vote::Power::try_from(entry.power).expect("the genesis was checked");
            validator::Info::new(entry.pub_key, power)
        });
        let validators = validator_set(validators.collect());
        State {
            chain_id: genesis.chain_id.clone(),
            initial_height: genesis.initial_height,
            last_block_height: 0,
            last_block_id: None,
            last_block_time: genesis.genesis_time,
            last_validators: Set::new(Vec::new(), None),
            next_validators: validators.clone(),
            validators,
            params: genesis.consensus_params.clone(),
            last_results_hash: merkle_root::<Vec<u8>>(&[]),
            app_hash: app_hash(&genesis.app_hash),
            genesis_hash: genesis.hash(),
        }
    }

    /// Height of the next block.
    pub(crate) fn next_height(&self) -> u64 {
        match self.last_block_height {
            0 => self.initial_height,
            last => last + 1,
        }
    }

    /// The state after the block of `header` was executed with `response`; an error sentence when
    /// the application asked for something that this engine cannot do.
    pub(crate) fn after(
        &self,
        header: &block::Header,
        block_id: block::Id,
        response: &ResponseFinalizeBlock,
    ) -> Result<Self, String> {
        let params = match &response.consensus_param_updates {
            Some(update) => self.params.updated(update)?,
            None => self.params.clone(),
        };
        Ok(State {
            last_block_height: header.height.value(),
            last_block_id: Some(block_id),
            last_block_time: header.time,
            last_validators: self.validators.clone(),
            // Updates of height H sign from H + 2 on: the set of H + 1 is in the header already.
            validators: self.next_validators.clone(),
            next_validators: updated_set(&self.next_validators, &response.validator_updates)?,
            params,
            last_results_hash: results_hash(&response.tx_results),
            app_hash: app_hash(&response.app_hash),
            ..self.clone()
        })
    }

    /// Replaces the validators by what `InitChain` returned, when it returned any.
    pub(crate) fn with_init_chain(
        mut self,
        validators: &[ValidatorUpdate],
        params: Option<&pb::ConsensusParams>,
        hash: &[u8],
    ) -> Result<Self, String> {
        if !validators.is_empty() {
            self.validators = updated_set(&Set::new(Vec::new(), None), validators)?;
            self.next_validators = self.validators.clone();
        }
        if let Some(update) = params {
            self.params = self.params.updated(update)?;
        }
        if !hash.is_empty() {
            self.app_hash = app_hash(hash);
        }
        Ok(self)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let record = StateRecord {
            chain_id: self.chain_id.to_string(),
            initial_height: self.initial_height,
            last_block_height: self.last_block_height,
            last_block_id: self.last_block_id.map(Into::into),
            last_block_time: Some(self.last_block_time.into()),
            last_validators: Some(self.last_validators.clone().into()),
            validators: Some(self.validators.clone().into()),
            next_validators: Some(self.next_validators.clone().into()),
            params: Some(self.params.to_proto()),
            last_results_hash: self.last_results_hash.as_bytes().to_vec(),
            app_hash: self.app_hash.as_bytes().to_vec(),
            genesis_hash: self.genesis_hash.to_vec(),
        };
        record.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let record = StateRecord::decode(bytes).map_err(|error| error.to_string())?;
        let set = |set: Option<pb::ValidatorSet>| -> Result<Set, String> {
            Set::try_from(set.unwrap_or_default()).map_err(|error| error.to_string())
        };
        let text = |error: tendermint::Error| error.to_string();
        Ok(State {
            chain_id: record.chain_id.parse().map_err(text)?,
            initial_height: record.initial_height,
            last_block_height: record.last_block_height,
            last_block_id: record.last_block_id.map(TryInto::try_into).transpose().map_err(text)?,
            last_block_time: record
                .last_block_time
                .ok_or("last_block_time is missing")?
                .try_into()
                .map_err(text)?,
            last_validators: set(record.last_validators)?,
            validators: set(record.validators)?,
            next_validators: set(record.next_validators)?,
            params: ConsensusParams::default().updated(&record.params.unwrap_or_default())?,
            last_results_hash: record.last_results_hash.try_into().map_err(text)?,
            app_hash: app_hash(&record.app_hash),
            genesis_hash: record
                .genesis_hash
                .try_into()
                .map_err(|_| "genesis_hash has not 32 bytes")?,
        })
    }
}

/// An app hash of any length.
pub(crate) fn app_hash(bytes: &[u8]) -> AppHash {
    AppHash::try_from(bytes.to_vec()).expect("an app hash may be any bytes")
}

/// RFC 6962 Merkle root, as every hash of a header.
pub(crate) fn merkle_root<T: AsRef<[u8]>>(leaves: &[T]) -> Hash {
    Hash::Sha256(merkle::simple_hash_from_byte_vectors::<Sha>(leaves))
}

/// The next header's `last_results_hash`: over what is deterministic of each result.
fn results_hash(results: &[ExecTxResult]) -> Hash {
    let leaves = results.iter().map(|result| {
        let deterministic = ExecTxResult {
            code: result.code,
            data: result.data.clone(),
            gas_wanted: result.gas_wanted,
            gas_used: result.gas_used,
            ..Default::default()
        };
        deterministic.encode_to_vec()
    });
    merkle_root(&leaves.collect::<Vec<_>>())
}

/// A set whose first validator proposes.
pub(crate) fn validator_set(validators: Vec<validator::Info>) -> Set {
    let proposer = validators.first().cloned();
    Set::new(validators, proposer)
}

fn updated_set(set: &Set, updates: &[ValidatorUpdate]) -> Result<Set, String> {
    let mut validators = set.validators().clone();
    for update in updates {
        let key = update.pub_key.clone().ok_or("a validator update has no public key")?;
        let pub_key = PublicKey::try_from(key).map_err(|error| error.to_string())?;
        validators.retain(|validator| validator.pub_key != pub_key);
        let power = u64::try_from(update.power)
            .map_err(|_| format!("a validator update has power {}", update.power))?;
        if power > 0 {
            let power = vote::Power::try_from(power).map_err(|error| error.to_string())?;
            validators.push(validator::Info::new(pub_key, power));
        }
    }
    let total = validators.iter().map(validator::Info::power).fold(0, u64::saturating_add);
    match total > Set::MAX_TOTAL_VOTING_POWER {
        true => Err(format!("validators would have {total} power, which is out of range")),
        false => Ok(validator_set(validators)),
    }
}
