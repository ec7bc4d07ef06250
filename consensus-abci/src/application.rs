//! The boundary between consensus and the state machine: ABCI 2.0 as a trait.

mod wrapper;

use std::fmt;

use bytes::Bytes;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal,
    RequestQuery, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseListSnapshots,
    ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, response_apply_snapshot_chunk, response_offer_snapshot,
};

pub use self::wrapper::Wrapper;

/// Why the application cannot go on. Always fatal: the chain halts until somebody has looked.
///
/// A bad transaction, a bad query or a bad proposal is no such error; those are answered with a
/// non-zero code in the response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method}: {reason}")]
pub struct ApplicationError {
    /// The ABCI method that failed, e.g. `Commit`.
    pub method: Method,
    /// One sentence for the operator: what failed and, where known, what to do.
    pub reason: String,
}

impl ApplicationError {
    /// An error of `method`, with its sentence.
    pub fn new(method: Method, reason: impl Into<String>) -> Self {
        ApplicationError { method, reason: reason.into() }
    }
}

/// The methods of ABCI 2.0, in the order of their numbers in `Request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Echo,
    Flush,
    Info,
    InitChain,
    Query,
    CheckTx,
    Commit,
    ListSnapshots,
    OfferSnapshot,
    LoadSnapshotChunk,
    ApplySnapshotChunk,
    PrepareProposal,
    ProcessProposal,
    ExtendVote,
    VerifyVoteExtension,
    FinalizeBlock,
}

impl Method {
    /// All of them, each at the place that it has as a number.
    pub const ALL: [Method; 16] = [
        Method::Echo,
        Method::Flush,
        Method::Info,
        Method::InitChain,
        Method::Query,
        Method::CheckTx,
        Method::Commit,
        Method::ListSnapshots,
        Method::OfferSnapshot,
        Method::LoadSnapshotChunk,
        Method::ApplySnapshotChunk,
        Method::PrepareProposal,
        Method::ProcessProposal,
        Method::ExtendVote,
        Method::VerifyVoteExtension,
        Method::FinalizeBlock,
    ];

    /// The name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Method::Echo => "Echo",
            Method::Flush => "Flush",
            Method::Info => "Info",
            Method::InitChain => "InitChain",
            Method::Query => "Query",
            Method::CheckTx => "CheckTx",
            Method::Commit => "Commit",
            Method::ListSnapshots => "ListSnapshots",
            Method::OfferSnapshot => "OfferSnapshot",
            Method::LoadSnapshotChunk => "LoadSnapshotChunk",
            Method::ApplySnapshotChunk => "ApplySnapshotChunk",
            Method::PrepareProposal => "PrepareProposal",
            Method::ProcessProposal => "ProcessProposal",
            Method::ExtendVote => "ExtendVote",
            Method::VerifyVoteExtension => "VerifyVoteExtension",
            Method::FinalizeBlock => "FinalizeBlock",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A replicated state machine (CometBFT spec, `abci++_methods.md`).
///
/// `info`, `init_chain`, `prepare_proposal`, `process_proposal`, `finalize_block` and `commit` are
/// called by one thread, in order. `check_tx` and `query` are called by many threads at any time,
/// also while a block executes, and see the last committed state.
pub trait Application: Send + Sync + 'static {
    /// Height and app hash of what `commit` has made durable; height 0 before `InitChain`.
    fn info(&self, request: RequestInfo) -> Result<ResponseInfo, ApplicationError>;

    /// Makes the genesis state. Called at height 0 only; may be called again when the first block
    /// was never committed, and must then give the same hash.
    fn init_chain(&self, request: RequestInitChain) -> Result<ResponseInitChain, ApplicationError>;

    /// Whether a transaction may wait in the mempool. `type` 0 is new, 1 is a recheck.
    fn check_tx(&self, request: RequestCheckTx) -> Result<ResponseCheckTx, ApplicationError>;

    /// These transactions will be checked next, in this order: what they have in common can be done
    /// at once. Changes nothing that a caller can see, and may do nothing. Without a default: what
    /// stands between an engine and an application is a [`Wrapper`], which hands everything on.
    fn expect_txs(&self, txs: &[Bytes]);

    /// Orders and drops transactions for a block of at most `max_tx_bytes`.
    fn prepare_proposal(
        &self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, ApplicationError>;

    /// Whether a proposed block may be voted for.
    fn process_proposal(
        &self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, ApplicationError>;

    /// Executes a decided block; nothing becomes durable or visible before `commit`.
    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError>;

    /// Makes the finalized block durable, then visible to `check_tx` and `query`.
    fn commit(&self) -> Result<ResponseCommit, ApplicationError>;

    /// Reads committed state.
    fn query(&self, request: RequestQuery) -> Result<ResponseQuery, ApplicationError>;

    /// Snapshots that others may have. Called by many threads at any time, as `load_snapshot_chunk`
    /// is. An application that says nothing makes none.
    fn list_snapshots(&self) -> Result<ResponseListSnapshots, ApplicationError> {
        Ok(ResponseListSnapshots::default())
    }

    /// A chunk of one of them; empty: there is none.
    fn load_snapshot_chunk(
        &self,
        _request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, ApplicationError> {
        Ok(ResponseLoadSnapshotChunk::default())
    }

    /// Whether the chunks of this snapshot may come; its app hash is verified. Only an application
    /// without a state says yes. Called by one thread, as `apply_snapshot_chunk` is.
    fn offer_snapshot(
        &self,
        _request: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, ApplicationError> {
        let result = response_offer_snapshot::Result::Reject.into();
        Ok(ResponseOfferSnapshot { result })
    }

    /// Takes the chunks of the accepted snapshot in order. With the last of them the state is
    /// there, durably; before, nothing is.
    fn apply_snapshot_chunk(
        &self,
        _request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, ApplicationError> {
        let result = response_apply_snapshot_chunk::Result::Abort.into();
        Ok(ResponseApplySnapshotChunk { result, ..ResponseApplySnapshotChunk::default() })
    }
}
