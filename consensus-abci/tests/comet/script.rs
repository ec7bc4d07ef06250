//! An application that does as it is told, and notes what it was asked.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Condvar, Mutex};

use bytes::Bytes;
use consensus_abci::application::{Application, ApplicationError, Method};
use tendermint_proto::v0_38::abci::{
    RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponsePrepareProposal, ResponseProcessProposal,
    ResponseQuery, response_process_proposal::ProposalStatus,
};

use crate::client::wait_until;

#[derive(Default)]
pub struct Script {
    pub height: AtomicI64,
    pub calls: Mutex<Vec<String>>,
    /// This method fails.
    pub fails: Mutex<Option<Method>>,
    /// `FinalizeBlock` panics.
    pub panics: AtomicBool,
    /// While true, `Commit` waits.
    pub holds_commit: Mutex<bool>,
    pub released: Condvar,
    is_deciding: AtomicBool,
}

impl Script {
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until a call was made.
    pub fn wait_for(&self, call: &str) {
        wait_until(call, || self.calls().iter().any(|made| made == call));
    }

    pub fn release(&self) {
        *self.holds_commit.lock().unwrap() = false;
        self.released.notify_all();
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn deciding<T>(&self, method: Method, call: impl FnOnce() -> T) -> Result<T, ApplicationError> {
        assert!(!self.is_deciding.swap(true, Ordering::SeqCst), "two calls of consensus at once");
        let result = call();
        assert!(self.is_deciding.swap(false, Ordering::SeqCst));
        self.outcome(method, result)
    }

    fn outcome<T>(&self, method: Method, result: T) -> Result<T, ApplicationError> {
        match *self.fails.lock().unwrap() == Some(method) {
            true => Err(ApplicationError::new(method, "the disk is full: make room")),
            false => Ok(result),
        }
    }
}

impl Application for Script {
    fn info(&self, _: RequestInfo) -> Result<ResponseInfo, ApplicationError> {
        self.deciding(Method::Info, || ResponseInfo {
            last_block_height: self.height.load(Ordering::SeqCst),
            ..ResponseInfo::default()
        })
    }

    fn init_chain(&self, request: RequestInitChain) -> Result<ResponseInitChain, ApplicationError> {
        self.deciding(Method::InitChain, || {
            self.note(format!("init {}", request.chain_id));
            ResponseInitChain::default()
        })
    }

    fn check_tx(&self, request: RequestCheckTx) -> Result<ResponseCheckTx, ApplicationError> {
        let data = request.tx;
        self.outcome(Method::CheckTx, ResponseCheckTx { data, ..ResponseCheckTx::default() })
    }

    fn expect_txs(&self, _: &[Bytes]) {}

    fn prepare_proposal(
        &self,
        request: RequestPrepareProposal,
    ) -> Result<ResponsePrepareProposal, ApplicationError> {
        self.deciding(Method::PrepareProposal, || ResponsePrepareProposal { txs: request.txs })
    }

    fn process_proposal(
        &self,
        _: RequestProcessProposal,
    ) -> Result<ResponseProcessProposal, ApplicationError> {
        let status = ProposalStatus::Accept.into();
        self.deciding(Method::ProcessProposal, || ResponseProcessProposal { status })
    }

    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError> {
        assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
        self.deciding(Method::FinalizeBlock, || {
            self.note(format!("finalize {}", request.height));
            let app_hash = request.height.to_be_bytes().to_vec().into();
            ResponseFinalizeBlock { app_hash, ..ResponseFinalizeBlock::default() }
        })
    }

    fn commit(&self) -> Result<ResponseCommit, ApplicationError> {
        self.deciding(Method::Commit, || {
            self.note("commit".to_owned());
            let held = self.holds_commit.lock().unwrap();
            drop(self.released.wait_while(held, |is_held| *is_held).unwrap());
            self.note("committed".to_owned());
            ResponseCommit { retain_height: 7 }
        })
    }

    fn query(&self, request: RequestQuery) -> Result<ResponseQuery, ApplicationError> {
        let value = request.data;
        self.outcome(Method::Query, ResponseQuery { value, ..ResponseQuery::default() })
    }
}
