//! Blocks as light clients verify them: headers, parts, precommits. Pure functions of the state.

use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};
use tendermint::block::{self, Block, Commit, CommitSig, Header, Height, Id, Round, parts};
use tendermint::{Signature, Time, account, vote};
use tendermint_proto::v0_38::types as pb;

use super::state::{State, merkle_root};

/// Block protocol of CometBFT 0.38.
pub(crate) const BLOCK_PROTOCOL: u64 = 11;

/// Bytes of a block part.
const PART_BYTES: usize = 65_536;

/// A block with its encoding and id.
#[derive(Debug, Clone)]
pub(crate) struct MadeBlock {
    pub block: Block,
    pub id: Id,
    pub encoded: Vec<u8>,
}

/// SHA-256 of a transaction: its name everywhere.
pub(crate) fn tx_hash(tx: &[u8]) -> [u8; 32] {
    Sha256::digest(tx).into()
}

/// The block that follows `state` with `txs`. `last_commit` is the commit of the last block, `None`
/// for the first.
pub(crate) fn make_block(
    state: &State,
    last_commit: Option<Commit>,
    txs: Vec<Vec<u8>>,
    proposer: account::Id,
) -> MadeBlock {
    let height = Height::try_from(state.next_height()).expect("heights stay below 2^63");
    let signatures = last_commit.iter().flat_map(|commit| &commit.signatures);
    let signatures: Vec<Vec<u8>> =
        signatures.map(|sig| pb::CommitSig::from(sig.clone()).encode_to_vec()).collect();
    let tx_hashes: Vec<[u8; 32]> = txs.iter().map(|tx| tx_hash(tx)).collect();
    let header = Header {
        version: block::header::Version { block: BLOCK_PROTOCOL, app: state.params.app_version },
        chain_id: state.chain_id.clone(),
        height,
        time: block_time(state, last_commit.as_ref()),
        last_block_id: state.last_block_id,
        last_commit_hash: Some(merkle_root(&signatures)),
        data_hash: Some(merkle_root(&tx_hashes)),
        validators_hash: state.validators.hash(),
        next_validators_hash: state.next_validators.hash(),
        consensus_hash: state.params.hash(),
        app_hash: state.app_hash.clone(),
        last_results_hash: Some(state.last_results_hash),
        evidence_hash: Some(merkle_root::<Vec<u8>>(&[])),
        proposer_address: proposer,
    };
    let hash = header.hash();
    let block = Block::new(header, txs, Default::default(), last_commit);
    let encoded = pb::Block::from(block.clone()).encode_to_vec();
    let parts: Vec<&[u8]> = encoded.chunks(PART_BYTES).collect();
    let total = u32::try_from(parts.len()).expect("a block of 100 MiB has 1,600 parts");
    let part_set_header = parts::Header::new(total, merkle_root(&parts))
        .expect("an encoded block has a header, so at least one part");
    MadeBlock { block, id: Id { hash, part_set_header }, encoded }
}

/// BFT time: the median of the last commit's timestamps, which for one validator is its own.
fn block_time(state: &State, last_commit: Option<&Commit>) -> Time {
    match last_commit.and_then(|commit| commit.signatures.first()) {
        Some(CommitSig::BlockIdFlagCommit { timestamp, .. }) => *timestamp,
        _ => state.last_block_time,
    }
}

/// When the validator votes: now, or right after the block's time where the clock is behind it.
pub(crate) fn vote_time(now: Time, block_time: Time) -> Time {
    let earliest = block_time.checked_add(Duration::from_millis(1)).unwrap_or(block_time);
    now.max(earliest)
}

/// Canonical bytes of a precommit for `block`.
pub(crate) fn precommit_bytes(
    state: &State,
    block: &MadeBlock,
    round: u32,
    timestamp: Time,
    validator: account::Id,
) -> Vec<u8> {
    let vote = vote::Vote {
        vote_type: vote::Type::Precommit,
        height: block.block.header.height,
        round: round_of(round),
        block_id: Some(block.id),
        timestamp: Some(timestamp),
        validator_address: validator,
        validator_index: vote::ValidatorIndex::try_from(0u32).expect("0 is an index"),
        signature: None,
        extension: Vec::new(),
        extension_signature: None,
    };
    vote.into_signable_vec(state.chain_id.clone())
}

/// The commit that one precommit is, where one validator has all the power.
pub(crate) fn commit_of(
    block: &MadeBlock,
    round: u32,
    timestamp: Time,
    validator: account::Id,
    signature: [u8; 64],
) -> Commit {
    let signature = Signature::new(signature).expect("64 bytes are a signature");
    Commit {
        height: block.block.header.height,
        round: round_of(round),
        block_id: block.id,
        signatures: vec![CommitSig::BlockIdFlagCommit {
            validator_address: validator,
            timestamp,
            signature,
        }],
    }
}

fn round_of(round: u32) -> Round {
    Round::try_from(round.min(i32::MAX.unsigned_abs())).expect("clamped to what a round may be")
}

/// Bytes that a transaction takes in a block: itself, its length and its field tag.
pub(crate) fn encoded_tx_bytes(tx: &[u8]) -> i64 {
    let length = tx.len();
    let total = 1 + prost::length_delimiter_len(length) + length;
    i64::try_from(total).expect("a transaction is in memory")
}
