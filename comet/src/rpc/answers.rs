//! What CometBFT 0.38 answers: 64-bit integers as strings, hashes in hex, other bytes in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tendermint::{
    Block, Hash, Time, account, block,
    block::{Height, signed_header::SignedHeader},
    validator,
};

/// `status`: the node and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node's id on the p2p network.
    pub node_id: String,
    /// The chain's id.
    pub chain_id: String,
    /// CometBFT's version, such as `0.38.26`.
    pub version: String,
    /// The operator's name for it.
    pub moniker: String,
    /// Height of the newest block; 0 before the first.
    pub latest_height: u64,
    /// Hash of the newest block's header; none before the first.
    pub latest_hash: Hash,
    /// App hash in the newest block's header: the state before that block.
    pub latest_app_hash: Vec<u8>,
    /// Time of the newest block.
    pub latest_time: Time,
    /// Height of the oldest block that is kept.
    pub earliest_height: u64,
    /// Whether it fetches old blocks still.
    pub is_catching_up: bool,
    /// Its validator's address.
    pub validator: account::Id,
    /// Its validator's power; 0: it does not validate.
    pub voting_power: u64,
}

/// `genesis`.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// The chain's id.
    pub chain_id: String,
    /// When the chain begins.
    pub time: Time,
    /// Height of the first block.
    pub initial_height: u64,
    /// Who validates first; empty: the application says.
    pub validators: Vec<validator::Info>,
    /// The whole document.
    pub document: Value,
}

/// `block`.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockAnswer {
    /// Hash and parts.
    pub block_id: block::Id,
    /// The block.
    pub block: Block,
}

/// `block_results`: what the application made of a block. Nothing of it is in that block's header;
/// a hash over codes and data is in the next one's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockResults {
    /// The block's height.
    #[serde(deserialize_with = "number")]
    pub height: u64,
    /// One for each transaction, in the block's order.
    #[serde(default, rename = "txs_results", deserialize_with = "list")]
    pub tx_results: Vec<TxResult>,
    /// Events of the block itself.
    #[serde(default, rename = "finalize_block_events", deserialize_with = "list")]
    pub block_events: Vec<Event>,
    /// App hash after the block.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub app_hash: Vec<u8>,
}

/// Result of a transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TxResult {
    /// 0: done; else a code of the application.
    pub code: u32,
    /// The application's answer.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub data: Vec<u8>,
    /// The application's sentence.
    #[serde(default)]
    pub log: String,
    /// Gas that was asked for.
    #[serde(default, deserialize_with = "signed_number")]
    pub gas_wanted: i64,
    /// Gas that was used.
    #[serde(default, deserialize_with = "signed_number")]
    pub gas_used: i64,
    /// What happened.
    #[serde(default, deserialize_with = "list")]
    pub events: Vec<Event>,
}

/// An event of the application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its attributes, in the application's order.
    #[serde(default, deserialize_with = "list")]
    pub attributes: Vec<Attribute>,
}

/// One attribute of an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub key: String,
    /// What it is; empty where the node says none.
    #[serde(default, deserialize_with = "text")]
    pub value: String,
}

/// `abci_query`: the application's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AbciQuery {
    /// 0: answered; else a code of the application.
    #[serde(default)]
    pub code: u32,
    /// The application's sentence.
    #[serde(default)]
    pub log: String,
    /// The key, where the path has one.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub key: Vec<u8>,
    /// The answer.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub value: Vec<u8>,
    /// Height of the state that was asked.
    #[serde(default, deserialize_with = "number")]
    pub height: u64,
    /// Proofs, where they were asked for.
    #[serde(default, rename = "proofOps", deserialize_with = "proof_ops")]
    pub proof_ops: Vec<ProofOp>,
}

pub use light::proof::ProofOp;

/// `broadcast_tx_sync` and `broadcast_tx_async`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Broadcast {
    /// CheckTx's code; always 0 of `broadcast_tx_async`, which does not wait for it.
    #[serde(default)]
    pub code: u32,
    /// CheckTx's sentence.
    #[serde(default)]
    pub log: String,
    /// SHA-256 of the transaction.
    #[serde(deserialize_with = "hash32")]
    pub hash: [u8; 32],
}

/// `tx`: a transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FoundTx {
    /// The block's height.
    #[serde(deserialize_with = "number")]
    pub height: u64,
    /// Its place in the block, from 0.
    pub index: u32,
    /// What became of it.
    pub tx_result: TxResult,
    /// Its bytes.
    #[serde(deserialize_with = "base64_bytes")]
    pub tx: Vec<u8>,
}

/// `net_info`: who the node is connected with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NetInfo {
    /// Whether it takes connections.
    #[serde(rename = "listening")]
    pub is_listening: bool,
    /// Its peers.
    #[serde(default, deserialize_with = "list")]
    pub peers: Vec<Peer>,
}

/// One peer of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Id on the p2p network.
    pub node_id: String,
    /// Its operator's name for it.
    pub moniker: String,
    /// Where it is.
    pub remote_ip: String,
    /// Whether this node called it.
    pub is_outbound: bool,
}

/// `consensus_params`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsensusParams {
    /// From this height on, at least up to it.
    pub height: u64,
    /// Bytes of a block at most; -1: no limit but CometBFT's own.
    pub block_bytes_max: i64,
    /// Gas of a block at most; -1: no limit.
    pub block_gas_max: i64,
    /// Nanoseconds after which evidence is too old.
    pub evidence_age_max_ns: i64,
    /// Blocks after which evidence is too old.
    pub evidence_age_max_blocks: i64,
}

#[derive(Deserialize)]
pub(super) struct RawStatus {
    node_info: RawNode,
    sync_info: RawSync,
    validator_info: RawValidator,
}

#[derive(Deserialize)]
struct RawNode {
    #[serde(default)]
    id: String,
    #[serde(default)]
    network: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    moniker: String,
}

#[derive(Deserialize)]
struct RawSync {
    #[serde(deserialize_with = "hash_or_none")]
    latest_block_hash: Hash,
    #[serde(deserialize_with = "hex_bytes")]
    latest_app_hash: Vec<u8>,
    #[serde(deserialize_with = "number")]
    latest_block_height: u64,
    latest_block_time: Time,
    #[serde(deserialize_with = "number")]
    earliest_block_height: u64,
    catching_up: bool,
}

#[derive(Deserialize)]
struct RawValidator {
    address: account::Id,
    #[serde(deserialize_with = "number")]
    voting_power: u64,
}

impl From<RawStatus> for Status {
    fn from(raw: RawStatus) -> Self {
        Self {
            node_id: raw.node_info.id,
            chain_id: raw.node_info.network,
            version: raw.node_info.version,
            moniker: raw.node_info.moniker,
            latest_height: raw.sync_info.latest_block_height,
            latest_hash: raw.sync_info.latest_block_hash,
            latest_app_hash: raw.sync_info.latest_app_hash,
            latest_time: raw.sync_info.latest_block_time,
            earliest_height: raw.sync_info.earliest_block_height,
            is_catching_up: raw.sync_info.catching_up,
            validator: raw.validator_info.address,
            voting_power: raw.validator_info.voting_power,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawGenesis {
    pub genesis: Value,
}

#[derive(Deserialize)]
struct GenesisFields {
    chain_id: String,
    genesis_time: Time,
    #[serde(default = "one", deserialize_with = "number")]
    initial_height: u64,
    #[serde(default, deserialize_with = "list")]
    validators: Vec<validator::Info>,
}

fn one() -> u64 {
    1
}

impl Genesis {
    /// Reads a genesis document, such as a `genesis.json`.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn parse(document: Value) -> Result<Self, serde_json::Error> {
        let fields = GenesisFields::deserialize(&document)?;
        Ok(Self {
            chain_id: fields.chain_id,
            time: fields.genesis_time,
            initial_height: fields.initial_height.max(1),
            validators: fields.validators,
            document,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct RawCommit {
    pub signed_header: SignedHeader,
}

#[derive(Deserialize)]
pub(super) struct RawValidators {
    pub block_height: Height,
    #[serde(deserialize_with = "number")]
    pub total: u64,
    #[serde(default, deserialize_with = "list")]
    pub validators: Vec<validator::Info>,
}

#[derive(Deserialize)]
pub(super) struct RawQuery {
    pub response: AbciQuery,
}

#[derive(Deserialize)]
struct RawPeer {
    node_info: RawNode,
    #[serde(default)]
    is_outbound: bool,
    #[serde(default)]
    remote_ip: String,
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = RawPeer::deserialize(from)?;
        Ok(Self {
            node_id: raw.node_info.id,
            moniker: raw.node_info.moniker,
            remote_ip: raw.remote_ip,
            is_outbound: raw.is_outbound,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct RawConsensusParams {
    #[serde(deserialize_with = "number")]
    block_height: u64,
    consensus_params: RawParams,
}

#[derive(Deserialize)]
struct RawParams {
    block: RawBlockParams,
    evidence: RawEvidenceParams,
}

#[derive(Deserialize)]
struct RawBlockParams {
    #[serde(deserialize_with = "signed_number")]
    max_bytes: i64,
    #[serde(deserialize_with = "signed_number")]
    max_gas: i64,
}

#[derive(Deserialize)]
struct RawEvidenceParams {
    #[serde(deserialize_with = "signed_number")]
    max_age_num_blocks: i64,
    #[serde(deserialize_with = "signed_number")]
    max_age_duration: i64,
}

impl From<RawConsensusParams> for ConsensusParams {
    fn from(raw: RawConsensusParams) -> Self {
        let params = raw.consensus_params;
        Self {
            height: raw.block_height,
            block_bytes_max: params.block.max_bytes,
            block_gas_max: params.block.max_gas,
            evidence_age_max_ns: params.evidence.max_age_duration,
            evidence_age_max_blocks: params.evidence.max_age_num_blocks,
        }
    }
}

/// A list; Go says `null` for one that is empty.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(i64),
}

fn signed_number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    match Number::deserialize(from)? {
        Number::Text(text) => {
            text.parse().map_err(|_| D::Error::custom(format_args!("{text:?} is no integer")))
        }
        Number::Plain(number) => Ok(number),
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = signed_number(from)?;
    u64::try_from(number).map_err(|_| D::Error::custom(format_args!("{number} is negative")))
}

fn base64_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = text(from)?;
    BASE64.decode(&text).map_err(|error| D::Error::custom(format_args!("no base64: {error}")))
}

fn hex_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = text(from)?;
    chain_types::hex::bytes(&text).ok_or_else(|| D::Error::custom("no hex digits"))
}

fn hash32<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let bytes = hex_bytes(from)?;
    bytes.try_into().map_err(|_| D::Error::custom("a hash has 32 bytes"))
}

/// A hash, or an empty text where there is none yet.
fn hash_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
    let bytes = hex_bytes(from)?;
    Hash::try_from(bytes).map_err(D::Error::custom)
}

#[derive(Deserialize)]
struct RawProof {
    #[serde(default, deserialize_with = "list")]
    ops: Vec<RawOp>,
}

#[derive(Deserialize)]
struct RawOp {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "base64_bytes")]
    key: Vec<u8>,
    #[serde(default, deserialize_with = "base64_bytes")]
    data: Vec<u8>,
}

fn proof_ops<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ProofOp>, D::Error> {
    let proof: Option<RawProof> = Option::deserialize(from)?;
    let ops = proof.map(|proof| proof.ops).unwrap_or_default();
    Ok(ops.into_iter().map(|op| ProofOp { kind: op.kind, key: op.key, data: op.data }).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_chain_without_a_block_has_no_hash_yet() {
        let sync = |hash: &str| {
            serde_json::from_value::<RawSync>(json!({
                "latest_block_hash": hash,
                "latest_app_hash": "",
                "latest_block_height": "0",
                "latest_block_time": "1970-01-01T00:00:00Z",
                "earliest_block_height": "0",
                "catching_up": false,
            }))
        };
        assert_eq!(sync("").map(|sync| sync.latest_block_hash).ok(), Some(Hash::None));
        let hash = "AB".repeat(32);
        let read = sync(&hash).map(|sync| sync.latest_block_hash.to_string());
        assert_eq!(read.ok(), Some(hash));
        assert!(sync("AB").is_err() && sync("no hex").is_err());
    }
}
