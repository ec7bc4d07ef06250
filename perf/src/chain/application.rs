//! What is measured against: an application that accepts everything and keeps nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Instant;

use axum::body::Bytes;
use consensus_abci::application::{Application, ApplicationError, Wrapper};
use tendermint_proto::v0_38::abci::{
    ExecTxResult, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestPrepareProposal, RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery, response_process_proposal::ProposalStatus,
};

type Answer<T> = Result<T, ApplicationError>;

/// Decodes nothing, verifies nothing, writes nothing: the engine alone is what remains.
pub struct Empty;

/// Always the same: there is no state.
const APP_HASH: [u8; 32] = [0; 32];

impl Application for Empty {
    fn info(&self, _: RequestInfo) -> Answer<ResponseInfo> {
        Ok(ResponseInfo::default())
    }

    fn init_chain(&self, _: RequestInitChain) -> Answer<ResponseInitChain> {
        Ok(ResponseInitChain { app_hash: APP_HASH.to_vec().into(), ..Default::default() })
    }

    fn check_tx(&self, _: RequestCheckTx) -> Answer<ResponseCheckTx> {
        Ok(ResponseCheckTx::default())
    }

    fn expect_txs(&self, _: &[Bytes]) {}

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> Answer<ResponsePrepareProposal> {
        // What CometBFT offers fits into a block already.
        Ok(ResponsePrepareProposal { txs: request.txs })
    }

    fn process_proposal(&self, _: RequestProcessProposal) -> Answer<ResponseProcessProposal> {
        Ok(ResponseProcessProposal { status: ProposalStatus::Accept as i32 })
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> Answer<ResponseFinalizeBlock> {
        Ok(ResponseFinalizeBlock {
            tx_results: vec![ExecTxResult::default(); request.txs.len()],
            app_hash: APP_HASH.to_vec().into(),
            ..Default::default()
        })
    }

    fn commit(&self) -> Answer<ResponseCommit> {
        Ok(ResponseCommit::default())
    }

    fn query(&self, _: RequestQuery) -> Answer<ResponseQuery> {
        Ok(ResponseQuery::default())
    }
}

/// Nanoseconds in the two methods that a block waits for.
#[derive(Default)]
pub struct Spent {
    pub finalize_ns: AtomicU64,
    pub commit_ns: AtomicU64,
    pub commits: AtomicU64,
}

/// An application in the process, timed where the ABCI server would.
pub struct Timed<A> {
    pub app: A,
    pub spent: Arc<Spent>,
}

fn timed<T>(into: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    let ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    into.fetch_add(ns, Ordering::Relaxed);
    done
}

impl<A: Application> Wrapper for Timed<A> {
    type Inner = A;

    fn inner(&self) -> &A {
        &self.app
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> Answer<ResponseFinalizeBlock> {
        timed(&self.spent.finalize_ns, || self.app.finalize_block(request))
    }

    fn commit(&self) -> Answer<ResponseCommit> {
        self.spent.commits.fetch_add(1, Ordering::Relaxed);
        timed(&self.spent.commit_ns, || self.app.commit())
    }
}
