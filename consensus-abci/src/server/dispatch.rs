//! One request to one answer: which calls there are, their order, and what is fatal.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use tendermint_proto::v0_38::abci::{
    CheckTxType, Request, RequestFinalizeBlock, RequestInfo, RequestInitChain,
    RequestVerifyVoteExtension, Response, ResponseCommit, ResponseEcho, ResponseException,
    ResponseExtendVote, ResponseFinalizeBlock, ResponseFlush, ResponseInfo, ResponseInitChain,
    ResponseVerifyVoteExtension, request::Value as Asked, response::Value as Said,
    response_verify_vote_extension::VerifyStatus,
};

use super::counters::Live;
use crate::{
    application::{Application, ApplicationError, Method},
    fail::{self, Step},
};

/// What this server speaks, as engines name it in `Info`: that of CometBFT 0.38 and 0.39.
const ABCI_SERIES: &str = "2.0.";

/// The application behind all connections.
pub(super) struct Dispatcher {
    app: Arc<dyn Application>,
    pub(super) counters: Live,
    failure: OnceLock<String>,
    consensus: Mutex<Consensus>,
    freed: Condvar,
    engine_change: Duration,
}

/// Who decides blocks, and how far that came. Locked while the application runs one of the calls
/// that must not meet each other.
#[derive(Default)]
struct Consensus {
    /// The connection whose engine decides, until it ends: between a FinalizeBlock and its Commit
    /// nobody else's block can come.
    owner: Option<u64>,
    /// Height of the block that is executed and not committed.
    finalized: Option<u64>,
    engine: Engine,
    advice: Option<String>,
}

/// What those who are connected have done together.
#[derive(Default)]
enum Engine {
    #[default]
    Silent,
    /// It knows the application's height, and sent no block yet.
    Asked {
        height: i64,
    },
    Decides,
}

/// The answer to one request.
pub(super) struct Answer {
    pub(super) response: Response,
    /// It must not wait for others.
    pub(super) is_flush: bool,
    /// Why nothing more is answered on this connection.
    pub(super) ends: Option<String>,
}

/// Bytes that are no request, and why.
pub(super) struct NoRequest(String);

/// A call that has no response but a sentence.
struct Refused(String);

impl Dispatcher {
    pub(super) fn new(app: Arc<dyn Application>, engine_change: Duration) -> Self {
        Dispatcher {
            app,
            counters: Live::default(),
            failure: OnceLock::new(),
            consensus: Mutex::default(),
            freed: Condvar::new(),
            engine_change,
        }
    }

    /// Why the chain stands still.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// Why the engine may have left.
    pub(super) fn advice(&self) -> Option<String> {
        self.lock().advice.clone()
    }

    /// Reads a message.
    pub(super) fn read(message: Bytes) -> Result<Asked, NoRequest> {
        match Request::decode(message) {
            Ok(Request { value: Some(asked) }) => Ok(asked),
            Ok(Request { value: None }) => Err(NoRequest(String::new())),
            Err(error) => Err(NoRequest(format!(": {error}"))),
        }
    }

    /// Lets the application see which transactions it will be asked about.
    pub(super) fn expect(&self, arrived: &[Result<Asked, NoRequest>]) {
        let new = |asked: &Result<Asked, NoRequest>| match asked {
            Ok(Asked::CheckTx(request)) if request.r#type == CheckTxType::New as i32 => {
                Some(request.tx.clone())
            }
            _ => None,
        };
        let transactions: Vec<Bytes> = arrived.iter().filter_map(new).collect();
        if transactions.len() > 1 && self.failure.get().is_none() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.app.expect_txs(&transactions)));
        }
    }

    /// Answers a message that came on `connection`.
    pub(super) fn answer(&self, connection: u64, asked: Result<Asked, NoRequest>) -> Answer {
        let asked = match asked {
            Ok(asked) => asked,
            Err(NoRequest(why)) => {
                return self.bad_message(&format!("the message is no request of ABCI 2.0{why}"));
            }
        };
        let method = method(&asked);
        let begin = Instant::now();
        let outcome = self.call(connection, asked);
        self.counters.answered(method, begin.elapsed(), outcome.is_err());
        match outcome {
            Ok(said) => Answer {
                is_flush: method == Method::Flush,
                response: Response { value: Some(said) },
                ends: None,
            },
            Err(Refused(sentence)) => Answer::exception(sentence),
        }
    }

    /// The answer to what is no request.
    pub(super) fn bad_message(&self, sentence: &str) -> Answer {
        self.counters.bad_messages.fetch_add(1, Ordering::Relaxed);
        Answer::exception(sentence.to_owned())
    }

    /// A connection ended: another one may decide.
    pub(super) fn left(&self, connection: u64) {
        let mut consensus = self.lock();
        if consensus.owner == Some(connection) {
            consensus.owner = None;
            consensus.finalized = None;
            self.freed.notify_all();
        }
    }

    /// The last connection ended, and no other has come.
    pub(super) fn all_left(&self) {
        let mut consensus = self.lock();
        let Engine::Asked { height } = std::mem::take(&mut consensus.engine) else { return };
        let advice = format!(
            "the engine asked for the application's height ({height}) and left without a block. \
             If its log says that the application's height is higher or its hash another, the \
             application is ahead of this engine or belongs to another chain: restore both from \
             the same moment; or remove the application's data, and it is rebuilt from the \
             engine's blocks"
        );
        tracing::warn!("{advice}");
        consensus.advice = Some(advice);
    }

    fn call(&self, connection: u64, asked: Asked) -> Result<Said, Refused> {
        let app = &*self.app;
        Ok(match asked {
            Asked::Echo(request) => Said::Echo(ResponseEcho { message: request.message }),
            Asked::Flush(_) => Said::Flush(ResponseFlush {}),
            Asked::Info(request) => Said::Info(self.info(request)?),
            Asked::Query(request) => Said::Query(self.run(Method::Query, || app.query(request))?),
            Asked::CheckTx(request) => {
                self.check_going()?;
                Said::CheckTx(self.run(Method::CheckTx, || app.check_tx(request))?)
            }
            Asked::InitChain(request) => Said::InitChain(self.init_chain(connection, request)?),
            Asked::PrepareProposal(request) => {
                let _turn = self.turn(connection)?;
                let call = || app.prepare_proposal(request);
                Said::PrepareProposal(self.run(Method::PrepareProposal, call)?)
            }
            Asked::ProcessProposal(request) => {
                let _turn = self.turn(connection)?;
                let call = || app.process_proposal(request);
                Said::ProcessProposal(self.run(Method::ProcessProposal, call)?)
            }
            Asked::FinalizeBlock(request) => {
                Said::FinalizeBlock(self.finalize_block(connection, request)?)
            }
            Asked::Commit(_) => Said::Commit(self.commit(connection)?),
            // Votes are not extended: what is not empty was made by another application.
            Asked::ExtendVote(_) => Said::ExtendVote(ResponseExtendVote::default()),
            Asked::VerifyVoteExtension(request) => Said::VerifyVoteExtension(verify(&request)),
            // On a connection of their own: they need no turn, since nothing is decided before the
            // state is there.
            Asked::ListSnapshots(_) => {
                Said::ListSnapshots(self.run(Method::ListSnapshots, || app.list_snapshots())?)
            }
            Asked::OfferSnapshot(request) => {
                self.check_going()?;
                let call = || app.offer_snapshot(request);
                Said::OfferSnapshot(self.run(Method::OfferSnapshot, call)?)
            }
            Asked::LoadSnapshotChunk(request) => {
                let call = || app.load_snapshot_chunk(request);
                Said::LoadSnapshotChunk(self.run(Method::LoadSnapshotChunk, call)?)
            }
            Asked::ApplySnapshotChunk(request) => {
                self.check_going()?;
                let call = || app.apply_snapshot_chunk(request);
                Said::ApplySnapshotChunk(self.run(Method::ApplySnapshotChunk, call)?)
            }
        })
    }

    fn info(&self, request: RequestInfo) -> Result<ResponseInfo, Refused> {
        let RequestInfo { version, abci_version, .. } = &request;
        if !abci_version.is_empty() && !abci_version.starts_with(ABCI_SERIES) {
            return Err(Refused(format!(
                "the engine is CometBFT {version} and speaks ABCI {abci_version}; this \
                 application speaks ABCI {ABCI_SERIES}x: run CometBFT 0.38 or 0.39"
            )));
        }
        let mut consensus = self.lock();
        self.check_going()?;
        let info = self.run(Method::Info, || self.app.info(request))?;
        if !matches!(consensus.engine, Engine::Decides) {
            consensus.engine = Engine::Asked { height: info.last_block_height };
        }
        Ok(info)
    }

    fn init_chain(
        &self,
        connection: u64,
        request: RequestInitChain,
    ) -> Result<ResponseInitChain, Refused> {
        let _turn = self.turn(connection)?;
        let info = self.run(Method::Info, || self.app.info(RequestInfo::default()))?;
        if info.last_block_height > 0 {
            return Err(self.halt(format!(
                "the application is at height {}, the engine begins at 0: its blocks are gone, or \
                 it is another chain's. Restore both from the same moment; where the chain is to \
                 begin anew, remove the application's data too",
                info.last_block_height
            )));
        }
        fail::reach(Step::BeforeInitChain, 0);
        let response = self.run(Method::InitChain, || self.app.init_chain(request))?;
        fail::reach(Step::AfterInitChain, 0);
        Ok(response)
    }

    fn finalize_block(
        &self,
        connection: u64,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, Refused> {
        let mut turn = self.turn(connection)?;
        let height = u64::try_from(request.height).unwrap_or(0);
        fail::reach(Step::BeforeFinalizeBlock, height);
        let response = self.run(Method::FinalizeBlock, || self.app.finalize_block(request))?;
        fail::reach(Step::AfterFinalizeBlock, height);
        turn.finalized = Some(height);
        Ok(response)
    }

    fn commit(&self, connection: u64) -> Result<ResponseCommit, Refused> {
        let mut turn = self.turn(connection)?;
        let Some(height) = turn.finalized.take() else {
            let sentence = "Commit without a block: FinalizeBlock comes before it";
            return Err(Refused(sentence.to_owned()));
        };
        fail::reach(Step::BeforeCommit, height);
        let response = self.run(Method::Commit, || self.app.commit())?;
        fail::reach(Step::AfterCommit, height);
        Ok(response)
    }

    /// The right to decide blocks, one call at a time and one connection until it ends.
    fn turn(&self, connection: u64) -> Result<MutexGuard<'_, Consensus>, Refused> {
        let is_taken =
            |consensus: &mut Consensus| consensus.owner.is_some_and(|owner| owner != connection);
        // An engine that was restarted may be here before the end of its old connection is seen.
        let (mut consensus, _) = self
            .freed
            .wait_timeout_while(self.lock(), self.engine_change, is_taken)
            .unwrap_or_else(PoisonError::into_inner);
        if is_taken(&mut consensus) {
            let sentence = "another connection decides the blocks of this application: stop the \
                            other engine first";
            return Err(Refused(sentence.to_owned()));
        }
        self.check_going()?;
        consensus.owner = Some(connection);
        consensus.engine = Engine::Decides;
        consensus.advice = None;
        Ok(consensus)
    }

    /// Calls the application; an error or a panic of it is the chain's end for now.
    fn run<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, ApplicationError>,
    ) -> Result<T, Refused> {
        let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            Err(ApplicationError::new(method, format!("the application panicked: {text}")))
        });
        outcome.map_err(|error| self.halt(error.to_string()))
    }

    /// Remembers the first reason, which is the one that counts.
    fn halt(&self, sentence: String) -> Refused {
        if self.failure.set(sentence.clone()).is_ok() {
            tracing::error!("the chain is halted: {sentence}");
        }
        Refused(sentence)
    }

    fn check_going(&self) -> Result<(), Refused> {
        match self.failure.get() {
            None => Ok(()),
            Some(sentence) => Err(Refused(format!("the chain is halted: {sentence}"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Consensus> {
        // The application's panics are caught inside; what is guarded is whole at any time.
        self.consensus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    pub(super) fn exception(sentence: String) -> Answer {
        let exception = ResponseException { error: sentence.clone() };
        let response = Response { value: Some(Said::Exception(exception)) };
        Answer { response, is_flush: true, ends: Some(sentence) }
    }
}

fn verify(request: &RequestVerifyVoteExtension) -> ResponseVerifyVoteExtension {
    let status = match request.vote_extension.is_empty() {
        true => VerifyStatus::Accept,
        false => VerifyStatus::Reject,
    };
    ResponseVerifyVoteExtension { status: status.into() }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

fn method(asked: &Asked) -> Method {
    match asked {
        Asked::Echo(_) => Method::Echo,
        Asked::Flush(_) => Method::Flush,
        Asked::Info(_) => Method::Info,
        Asked::InitChain(_) => Method::InitChain,
        Asked::Query(_) => Method::Query,
        Asked::CheckTx(_) => Method::CheckTx,
        Asked::Commit(_) => Method::Commit,
        Asked::ListSnapshots(_) => Method::ListSnapshots,
        Asked::OfferSnapshot(_) => Method::OfferSnapshot,
        Asked::LoadSnapshotChunk(_) => Method::LoadSnapshotChunk,
        Asked::ApplySnapshotChunk(_) => Method::ApplySnapshotChunk,
        Asked::PrepareProposal(_) => Method::PrepareProposal,
        Asked::ProcessProposal(_) => Method::ProcessProposal,
        Asked::ExtendVote(_) => Method::ExtendVote,
        Asked::VerifyVoteExtension(_) => Method::VerifyVoteExtension,
        Asked::FinalizeBlock(_) => Method::FinalizeBlock,
    }
}
