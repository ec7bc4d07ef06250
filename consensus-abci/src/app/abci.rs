//! The methods of ABCI: protobuf in, protobuf out; what they do is in the parts beside.

use bytes::Bytes;
use chain_types::CODESPACE;
use tendermint_proto::v0_38::abci::{
    CheckTxType, RequestApplySnapshotChunk, RequestCheckTx, RequestFinalizeBlock, RequestInfo,
    RequestInitChain, RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, ResponseApplySnapshotChunk, ResponseCheckTx,
    ResponseCommit, ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseListSnapshots,
    ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, response_process_proposal::ProposalStatus,
};

use super::{APP_VERSION, App, query, state::StateError};
use crate::{
    application::{Application, ApplicationError, Method},
    store::StoreError,
};

impl Application for App {
    fn info(&self, _request: RequestInfo) -> Result<ResponseInfo, ApplicationError> {
        let committed = self.committed();
        let snapshot = &committed.snapshot.0;
        let head = snapshot.head();
        // Before its first block a chain is at height 0, whatever height that block will have.
        let is_genesis =
            snapshot.is_genesis().map_err(|error| Failure::from(error).of(Method::Info))?;
        Ok(ResponseInfo {
            data: "sutantra".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            app_version: APP_VERSION,
            last_block_height: head
                .filter(|_| !is_genesis)
                .map_or(0, |head| i64::try_from(head.height).unwrap_or(i64::MAX)),
            last_block_app_hash: head
                .map_or_else(Bytes::new, |head| Bytes::copy_from_slice(&head.app_hash)),
        })
    }

    fn init_chain(&self, request: RequestInitChain) -> Result<ResponseInitChain, ApplicationError> {
        let app_hash = self.genesis(&request).map_err(|error| error.of(Method::InitChain))?;
        let validators =
            self.voters().map_err(|error| Failure::State(error).of(Method::InitChain))?;
        let app_hash = Bytes::copy_from_slice(&app_hash);
        Ok(ResponseInitChain { consensus_params: None, validators, app_hash })
    }

    fn check_tx(&self, request: RequestCheckTx) -> Result<ResponseCheckTx, ApplicationError> {
        let kind = CheckTxType::try_from(request.r#type).unwrap_or(CheckTxType::New);
        let checked = self
            .check(&request.tx, kind)
            .map_err(|error| Failure::State(error).of(Method::CheckTx))?;
        Ok(match checked {
            Ok(()) => ResponseCheckTx::default(),
            Err((code, log)) => ResponseCheckTx {
                code: code.code(),
                log,
                codespace: CODESPACE.to_owned(),
                ..ResponseCheckTx::default()
            },
        })
    }

    fn expect_txs(&self, txs: &[Bytes]) {
        // Whatever is wrong is told by the check of the transaction that it is about.
        let _ = self.verify_together(txs);
    }

    fn prepare_proposal(
        &self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, ApplicationError> {
        let txs = self.prepare(&request).map_err(|error| error.of(Method::PrepareProposal))?;
        Ok(ResponsePrepareProposal { txs })
    }

    fn process_proposal(
        &self,
        request: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, ApplicationError> {
        let is_acceptable =
            self.is_acceptable(&request).map_err(|error| error.of(Method::ProcessProposal))?;
        let status = if is_acceptable { ProposalStatus::Accept } else { ProposalStatus::Reject };
        Ok(ResponseProcessProposal { status: status.into() })
    }

    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError> {
        self.execute(&request).map_err(|error| error.of(Method::FinalizeBlock))
    }

    fn commit(&self) -> Result<ResponseCommit, ApplicationError> {
        self.make_durable().map_err(|error| error.of(Method::Commit))?;
        Ok(ResponseCommit { retain_height: 0 })
    }

    fn query(&self, request: RequestQuery) -> Result<ResponseQuery, ApplicationError> {
        query::answer(&self.committed().snapshot, &request)
            .map_err(|error| Failure::State(error).of(Method::Query))
    }

    fn list_snapshots(&self) -> Result<ResponseListSnapshots, ApplicationError> {
        let snapshots = self
            .listed_snapshots()
            .map_err(|error| Failure::from(error).of(Method::ListSnapshots))?;
        Ok(ResponseListSnapshots { snapshots })
    }

    fn load_snapshot_chunk(
        &self,
        request: RequestLoadSnapshotChunk,
    ) -> Result<ResponseLoadSnapshotChunk, ApplicationError> {
        let RequestLoadSnapshotChunk { height, format, chunk } = request;
        Ok(ResponseLoadSnapshotChunk { chunk: self.snapshot_chunk(height, format, chunk) })
    }

    fn offer_snapshot(
        &self,
        request: RequestOfferSnapshot,
    ) -> Result<ResponseOfferSnapshot, ApplicationError> {
        let result = self.consider(request).map_err(|error| error.of(Method::OfferSnapshot))?;
        Ok(ResponseOfferSnapshot { result: result.into() })
    }

    fn apply_snapshot_chunk(
        &self,
        request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, ApplicationError> {
        self.take_chunk(request).map_err(|error| error.of(Method::ApplySnapshotChunk))
    }
}

/// Why a method has no response: the chain halts.
#[derive(Debug)]
pub(super) enum Failure {
    State(StateError),
    Said(String),
}

impl Failure {
    pub(super) fn of(self, method: Method) -> ApplicationError {
        match self {
            Self::State(error) => ApplicationError::new(method, error.to_string()),
            Self::Said(sentence) => ApplicationError::new(method, sentence),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}
