//! What stands between an engine and an application: it names the methods that it changes, and
//! every other one reaches the application.

use bytes::Bytes;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal, RequestProcessProposal,
    RequestQuery, ResponseApplySnapshotChunk, ResponseCheckTx, ResponseCommit,
    ResponseFinalizeBlock, ResponseInfo, ResponseInitChain, ResponseListSnapshots,
    ResponseLoadSnapshotChunk, ResponseOfferSnapshot, ResponsePrepareProposal,
    ResponseProcessProposal, ResponseQuery,
};

use super::{Application, ApplicationError};

type Answer<T> = Result<T, ApplicationError>;

/// An application around another one. Whatever it does not write itself is the inner one's, hints
/// and snapshots too: there is nothing to forget.
pub trait Wrapper: Send + Sync + 'static {
    /// What is wrapped.
    type Inner: Application + ?Sized;

    /// Where the methods go that are not written here.
    fn inner(&self) -> &Self::Inner;

    /// [`Application::info`].
    ///
    /// # Errors
    /// Its.
    fn info(&self, request: RequestInfo) -> Answer<ResponseInfo> {
        Application::info(self.inner(), request)
    }

    /// [`Application::init_chain`].
    ///
    /// # Errors
    /// Its.
    fn init_chain(&self, request: RequestInitChain) -> Answer<ResponseInitChain> {
        Application::init_chain(self.inner(), request)
    }

    /// [`Application::check_tx`].
    ///
    /// # Errors
    /// Its.
    fn check_tx(&self, request: RequestCheckTx) -> Answer<ResponseCheckTx> {
        Application::check_tx(self.inner(), request)
    }

    /// [`Application::expect_txs`].
    fn expect_txs(&self, txs: &[Bytes]) {
        Application::expect_txs(self.inner(), txs);
    }

    /// [`Application::prepare_proposal`].
    ///
    /// # Errors
    /// Its.
    fn prepare_proposal(&self, request: RequestPrepareProposal) -> Answer<ResponsePrepareProposal> {
        Application::prepare_proposal(self.inner(), request)
    }

    /// [`Application::process_proposal`].
    ///
    /// # Errors
    /// Its.
    fn process_proposal(&self, request: RequestProcessProposal) -> Answer<ResponseProcessProposal> {
        Application::process_proposal(self.inner(), request)
    }

    /// [`Application::finalize_block`].
    ///
    /// # Errors
    /// Its.
    fn finalize_block(&self, request: RequestFinalizeBlock) -> Answer<ResponseFinalizeBlock> {
        Application::finalize_block(self.inner(), request)
    }

    /// [`Application::commit`].
    ///
    /// # Errors
    /// Its.
    fn commit(&self) -> Answer<ResponseCommit> {
        Application::commit(self.inner())
    }

    /// [`Application::query`].
    ///
    /// # Errors
    /// Its.
    fn query(&self, request: RequestQuery) -> Answer<ResponseQuery> {
        Application::query(self.inner(), request)
    }

    /// [`Application::list_snapshots`].
    ///
    /// # Errors
    /// Its.
    fn list_snapshots(&self) -> Answer<ResponseListSnapshots> {
        Application::list_snapshots(self.inner())
    }

    /// [`Application::load_snapshot_chunk`].
    ///
    /// # Errors
    /// Its.
    fn load_snapshot_chunk(
        &self,
        request: RequestLoadSnapshotChunk,
    ) -> Answer<ResponseLoadSnapshotChunk> {
        Application::load_snapshot_chunk(self.inner(), request)
    }

    /// [`Application::offer_snapshot`].
    ///
    /// # Errors
    /// Its.
    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> Answer<ResponseOfferSnapshot> {
        Application::offer_snapshot(self.inner(), request)
    }

    /// [`Application::apply_snapshot_chunk`].
    ///
    /// # Errors
    /// Its.
    fn apply_snapshot_chunk(
        &self,
        request: RequestApplySnapshotChunk,
    ) -> Answer<ResponseApplySnapshotChunk> {
        Application::apply_snapshot_chunk(self.inner(), request)
    }
}

impl<W: Wrapper> Application for W {
    fn info(&self, request: RequestInfo) -> Answer<ResponseInfo> {
        Wrapper::info(self, request)
    }

    fn init_chain(&self, request: RequestInitChain) -> Answer<ResponseInitChain> {
        Wrapper::init_chain(self, request)
    }

    fn check_tx(&self, request: RequestCheckTx) -> Answer<ResponseCheckTx> {
        Wrapper::check_tx(self, request)
    }

    fn expect_txs(&self, txs: &[Bytes]) {
        Wrapper::expect_txs(self, txs);
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> Answer<ResponsePrepareProposal> {
        Wrapper::prepare_proposal(self, request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> Answer<ResponseProcessProposal> {
        Wrapper::process_proposal(self, request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> Answer<ResponseFinalizeBlock> {
        Wrapper::finalize_block(self, request)
    }

    fn commit(&self) -> Answer<ResponseCommit> {
        Wrapper::commit(self)
    }

    fn query(&self, request: RequestQuery) -> Answer<ResponseQuery> {
        Wrapper::query(self, request)
    }

    fn list_snapshots(&self) -> Answer<ResponseListSnapshots> {
        Wrapper::list_snapshots(self)
    }

    fn load_snapshot_chunk(
        &self,
        request: RequestLoadSnapshotChunk,
    ) -> Answer<ResponseLoadSnapshotChunk> {
        Wrapper::load_snapshot_chunk(self, request)
    }

    fn offer_snapshot(&self, request: RequestOfferSnapshot) -> Answer<ResponseOfferSnapshot> {
        Wrapper::offer_snapshot(self, request)
    }

    fn apply_snapshot_chunk(
        &self,
        request: RequestApplySnapshotChunk,
    ) -> Answer<ResponseApplySnapshotChunk> {
        Wrapper::apply_snapshot_chunk(self, request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes who was called.
    #[derive(Default)]
    struct Noting(Mutex<Vec<&'static str>>);

    impl Noting {
        fn note(&self, method: &'static str) {
            self.0.lock().unwrap().push(method);
        }

        fn noted<T: Default>(&self, method: &'static str) -> Answer<T> {
            self.note(method);
            Ok(T::default())
        }
    }

    impl Application for Noting {
        fn info(&self, _: RequestInfo) -> Answer<ResponseInfo> {
            self.noted("info")
        }

        fn init_chain(&self, _: RequestInitChain) -> Answer<ResponseInitChain> {
            self.noted("init_chain")
        }

        fn check_tx(&self, _: RequestCheckTx) -> Answer<ResponseCheckTx> {
            self.noted("check_tx")
        }

        fn expect_txs(&self, _: &[Bytes]) {
            self.note("expect_txs");
        }

        fn prepare_proposal(&self, _: RequestPrepareProposal) -> Answer<ResponsePrepareProposal> {
            self.noted("prepare_proposal")
        }

        fn process_proposal(&self, _: RequestProcessProposal) -> Answer<ResponseProcessProposal> {
            self.noted("process_proposal")
        }

        fn finalize_block(&self, _: RequestFinalizeBlock) -> Answer<ResponseFinalizeBlock> {
            self.noted("finalize_block")
        }

        fn commit(&self) -> Answer<ResponseCommit> {
            self.noted("commit")
        }

        fn query(&self, _: RequestQuery) -> Answer<ResponseQuery> {
            self.noted("query")
        }

        fn list_snapshots(&self) -> Answer<ResponseListSnapshots> {
            self.noted("list_snapshots")
        }

        fn load_snapshot_chunk(
            &self,
            _: RequestLoadSnapshotChunk,
        ) -> Answer<ResponseLoadSnapshotChunk> {
            self.noted("load_snapshot_chunk")
        }

        fn offer_snapshot(&self, _: RequestOfferSnapshot) -> Answer<ResponseOfferSnapshot> {
            self.noted("offer_snapshot")
        }

        fn apply_snapshot_chunk(
            &self,
            _: RequestApplySnapshotChunk,
        ) -> Answer<ResponseApplySnapshotChunk> {
            self.noted("apply_snapshot_chunk")
        }
    }

    struct Plain(Noting);

    impl Wrapper for Plain {
        type Inner = Noting;

        fn inner(&self) -> &Noting {
            &self.0
        }
    }

    #[test]
    fn a_wrapper_that_changes_nothing_hands_every_method_on() {
        let plain = Plain(Noting::default());
        let wrapped: &dyn Application = &plain;
        wrapped.info(RequestInfo::default()).unwrap();
        wrapped.init_chain(RequestInitChain::default()).unwrap();
        wrapped.check_tx(RequestCheckTx::default()).unwrap();
        wrapped.expect_txs(&[]);
        wrapped.prepare_proposal(RequestPrepareProposal::default()).unwrap();
        wrapped.process_proposal(RequestProcessProposal::default()).unwrap();
        wrapped.finalize_block(RequestFinalizeBlock::default()).unwrap();
        wrapped.commit().unwrap();
        wrapped.query(RequestQuery::default()).unwrap();
        wrapped.list_snapshots().unwrap();
        wrapped.load_snapshot_chunk(RequestLoadSnapshotChunk::default()).unwrap();
        wrapped.offer_snapshot(RequestOfferSnapshot::default()).unwrap();
        wrapped.apply_snapshot_chunk(RequestApplySnapshotChunk::default()).unwrap();
        assert_eq!(
            *plain.0.0.lock().unwrap(),
            [
                "info",
                "init_chain",
                "check_tx",
                "expect_txs",
                "prepare_proposal",
                "process_proposal",
                "finalize_block",
                "commit",
                "query",
                "list_snapshots",
                "load_snapshot_chunk",
                "offer_snapshot",
                "apply_snapshot_chunk"
            ]
        );
    }
}
