//! The methods of ABCI: protobuf in, protobuf out; what they do is in the parts beside.

use bytes::Bytes;
use chain_types::CODESPACE;
use tendermint_proto::v0_38::abci::{
    CheckTxType, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestPrepareProposal, RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, response_process_proposal::ProposalStatus,
};

use super::{APP_VERSION, App, query, state::StateError};
use crate::{
    application::{Application, ApplicationError, Method},
    store::StoreError,
};

impl Application for App {
    fn info(&self, _request: RequestInfo) -> Result<ResponseInfo, ApplicationError> {
        let head = self.committed().snapshot.head();
        Ok(ResponseInfo {
            data: "sutantra".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            app_version: APP_VERSION,
            last_block_height: head
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
