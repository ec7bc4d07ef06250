//! A decided block through the application, and what the engine keeps of it.

use std::sync::Arc;

use bytes::Bytes;
use tendermint::block::{Block, Commit, CommitSig};
use tendermint::validator::Set;
use tendermint_proto::v0_38::abci::{
    CommitInfo, ExtendedCommitInfo, ExtendedVoteInfo, RequestFinalizeBlock, RequestPrepareProposal,
    RequestProcessProposal, ResponseFinalizeBlock, Validator, VoteInfo,
};
use tendermint_proto::v0_38::types::{self as pb, BlockIdFlag};

use super::block::MadeBlock;
use super::bus::CommittedBlock;
use super::fail::{FailAt, FailPoint, fail_point};
use super::index;
use super::state::State;
use super::store::{BlockStore, StoreError};
use crate::application::{Application, ApplicationError};

/// Why the chain cannot go on: the sentence of `Engine::is_halted`.
#[derive(Debug, thiserror::Error)]
pub enum HaltReason {
    #[error("the application failed: {0}")]
    Application(#[from] ApplicationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] super::signer::SignError),
    /// The application broke a rule of ABCI.
    #[error("the application broke the protocol: {0}")]
    Protocol(String),
    #[error("the block thread panicked: {0}")]
    Panicked(String),
}

/// `last_commit` as `FinalizeBlock` and `ProcessProposal` get it.
fn commit_info(last_commit: Option<&Commit>, signers: &Set) -> CommitInfo {
    let Some(commit) = last_commit else { return CommitInfo::default() };
    let votes =
        signers.validators().iter().zip(&commit.signatures).map(|(validator, sig)| VoteInfo {
            validator: Some(abci_validator(validator)),
            block_id_flag: pb::CommitSig::from(sig.clone()).block_id_flag,
        });
    CommitInfo { round: i32::from(commit.round), votes: votes.collect() }
}

/// `last_commit` as `PrepareProposal` gets it; vote extensions are not made.
fn extended_commit_info(last_commit: Option<&Commit>, signers: &Set) -> ExtendedCommitInfo {
    let CommitInfo { round, votes } = commit_info(last_commit, signers);
    let extended = |vote: VoteInfo| ExtendedVoteInfo {
        validator: vote.validator,
        block_id_flag: vote.block_id_flag,
        ..Default::default()
    };
    ExtendedCommitInfo { round, votes: votes.into_iter().map(extended).collect() }
}

fn abci_validator(validator: &tendermint::validator::Info) -> Validator {
    Validator {
        address: validator.address.as_bytes().to_vec().into(),
        power: validator.power.into(),
    }
}

/// Asks for an order of `txs` that fits into the next block.
pub(crate) fn prepare_request(
    state: &State,
    draft: &MadeBlock,
    txs: Vec<Bytes>,
) -> RequestPrepareProposal {
    let header = draft.block.header();
    RequestPrepareProposal {
        max_tx_bytes: state.params.tx_bytes_max(),
        txs,
        local_last_commit: Some(extended_commit_info(
            draft.block.last_commit().as_ref(),
            &state.last_validators,
        )),
        misbehavior: Vec::new(),
        height: header.height.into(),
        time: Some(header.time.into()),
        next_validators_hash: header.next_validators_hash.as_bytes().to_vec().into(),
        proposer_address: header.proposer_address.as_bytes().to_vec().into(),
    }
}

/// Asks whether `made` may be voted for.
pub(crate) fn process_request(state: &State, made: &MadeBlock) -> RequestProcessProposal {
    let header = made.block.header();
    RequestProcessProposal {
        txs: made.block.data().iter().cloned().map(Bytes::from).collect(),
        proposed_last_commit: Some(commit_info(
            made.block.last_commit().as_ref(),
            &state.last_validators,
        )),
        misbehavior: Vec::new(),
        hash: made.id.hash.as_bytes().to_vec().into(),
        height: header.height.into(),
        time: Some(header.time.into()),
        next_validators_hash: header.next_validators_hash.as_bytes().to_vec().into(),
        proposer_address: header.proposer_address.as_bytes().to_vec().into(),
    }
}

/// Executes a decided block; checks what ABCI promises of the answer.
pub(crate) fn finalize_block(
    app: &dyn Application,
    block: &Block,
    hash: &[u8],
    last_validators: &Set,
) -> Result<ResponseFinalizeBlock, HaltReason> {
    let header = block.header();
    let request = RequestFinalizeBlock {
        txs: block.data().iter().cloned().map(Bytes::from).collect(),
        decided_last_commit: Some(commit_info(block.last_commit().as_ref(), last_validators)),
        misbehavior: Vec::new(),
        hash: hash.to_vec().into(),
        height: header.height.into(),
        time: Some(header.time.into()),
        next_validators_hash: header.next_validators_hash.as_bytes().to_vec().into(),
        proposer_address: header.proposer_address.as_bytes().to_vec().into(),
    };
    let response = app.finalize_block(request)?;
    let (txs, results) = (block.data().len(), response.tx_results.len());
    if txs != results {
        return Err(HaltReason::Protocol(format!(
            "FinalizeBlock of height {} has {txs} transactions and {results} results",
            header.height
        )));
    }
    Ok(response)
}

/// A block that is in the store goes through the application; its state is durable on return.
///
/// CometBFT's order (`state/execution.go`): the answer is saved before `Commit`, so that an
/// application that is ahead of the engine's state by this one block needs no second execution.
pub(crate) fn apply_block(
    app: &dyn Application,
    store: &BlockStore,
    state: &State,
    made: &MadeBlock,
    fail_at: Option<FailAt>,
    commit: impl FnOnce() -> Result<(), HaltReason>,
) -> Result<(State, ResponseFinalizeBlock), HaltReason> {
    let height = made.block.header().height.value();
    let response =
        finalize_block(app, &made.block, made.id.hash.as_bytes(), &state.last_validators)?;
    fail_point(fail_at, FailPoint::AfterFinalizeBlock, height);
    // Nothing is durable yet: what this engine cannot do stops the chain before it is done.
    let next = next_state(state, made, &response)?;
    store.save_results(height, &response)?;
    fail_point(fail_at, FailPoint::AfterResultsSaved, height);
    commit()?;
    fail_point(fail_at, FailPoint::AfterCommit, height);
    store.save_state(&next, Some(state), index::entries(made, &response))?;
    fail_point(fail_at, FailPoint::AfterStateSaved, height);
    Ok((next, response))
}

/// The state after `made`, if one validator still decides alone in it.
pub(crate) fn next_state(
    state: &State,
    made: &MadeBlock,
    response: &ResponseFinalizeBlock,
) -> Result<State, HaltReason> {
    let next = state.after(made.block.header(), made.id, response).map_err(HaltReason::Protocol)?;
    let only = |set: &Set| match set.validators().as_slice() {
        [validator] => validator.address == made.block.header().proposer_address,
        _ => false,
    };
    match only(&next.next_validators) {
        true => Ok(next),
        false => Err(HaltReason::Protocol(format!(
            "FinalizeBlock of height {} changes who validates; the embedded engine decides alone: \
             run the chain under CometBFT before other validators join",
            made.block.header().height
        ))),
    }
}

/// What subscribers get of a block.
pub(crate) fn committed(made: MadeBlock, results: ResponseFinalizeBlock) -> Arc<CommittedBlock> {
    Arc::new(CommittedBlock {
        height: made.block.header().height.value(),
        block_id: made.id.into(),
        block: made.block.into(),
        results,
    })
}

/// A block read back from the store, with its id.
pub(crate) fn stored_block(store: &BlockStore, height: u64) -> Result<MadeBlock, StoreError> {
    use prost::Message;
    let missing = |what: &str| StoreError::Damaged(format!("{what} {height} is missing"));
    let damaged =
        |error: tendermint::Error| StoreError::Damaged(format!("block {height}: {error}"));
    let block = store.block(height)?.ok_or_else(|| missing("block"))?;
    let encoded = block.encode_to_vec();
    let meta = store.meta(height)?.ok_or_else(|| missing("block meta"))?;
    let id = meta.block_id.ok_or_else(|| missing("block id"))?.try_into().map_err(damaged)?;
    Ok(MadeBlock { block: block.try_into().map_err(damaged)?, id, encoded })
}

/// The commit seen for `height`, in domain form.
pub(crate) fn stored_commit(store: &BlockStore, height: u64) -> Result<Commit, StoreError> {
    let commit = store
        .commit(height)?
        .ok_or_else(|| StoreError::Damaged(format!("commit {height} is missing")))?;
    let commit: Commit = commit
        .try_into()
        .map_err(|error| StoreError::Damaged(format!("commit {height}: {error}")))?;
    let signed = |sig: &CommitSig| {
        pb::CommitSig::from(sig.clone()).block_id_flag == BlockIdFlag::Commit as i32
    };
    match commit.signatures.first().is_some_and(signed) {
        true => Ok(commit),
        false => Err(StoreError::Damaged(format!("commit {height} has no signature"))),
    }
}
