//! The block thread: it decides when there is a block, makes it, and tells the rest.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tendermint::Time;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::{CheckTxType, RequestCheckTx};

use super::block::{
    MadeBlock, commit_of, encoded_tx_bytes, make_block, precommit_bytes, tx_hash, vote_time,
};
use super::bus::CommittedBlock;
use super::core::Core;
use super::execution::{
    HaltReason, apply_block, committed, prepare_request, process_request, stored_commit,
};
use super::fail::{FailAt, FailPoint, fail_point};
use super::index::{FoundTx, TxPosition};
use super::mempool::{Fate, TxHash, Wake};
use super::signer::Signer;
use super::state::State;

/// Longest sleep before the genesis time is looked at again: clocks are set.
const GENESIS_WAIT_MAX: Duration = Duration::from_millis(500);

/// Owner of the chain's head; lives on the block thread.
pub(crate) struct Producer {
    pub core: Arc<Core>,
    pub state: State,
    pub signer: Signer,
    pub min_block_interval: Duration,
    pub empty_block_interval: Duration,
    pub fail_at: Option<FailAt>,
}

impl Producer {
    /// Makes blocks until the engine is stopped or something fails.
    pub(crate) fn run(mut self) {
        self.wait_for_genesis_time();
        let mut last = Instant::now();
        let mut first = self.state.last_block_height == 0;
        loop {
            let idle = if first { Duration::ZERO } else { self.empty_block_interval };
            match self.core.mempool.wait(last + self.min_block_interval, last + idle) {
                Wake::Stop => break,
                Wake::Block => {}
            }
            if self.core.halted().is_some() {
                break;
            }
            // From the beginning of one block to the beginning of the next: what a block costs
            // does not slow the chain until it costs more than the interval.
            last = Instant::now();
            first = false;
            let made = catch_unwind(AssertUnwindSafe(|| self.make_block(Time::now)));
            let failure = match made {
                Ok(Ok(())) => continue,
                Ok(Err(reason)) => reason,
                Err(panic) => HaltReason::Panicked(panic_text(panic.as_ref())),
            };
            self.core.halt(&failure.to_string());
            break;
        }
        self.core.bus.close();
        self.core.mempool.halt("the engine stopped");
    }

    fn wait_for_genesis_time(&self) {
        if self.state.last_block_height > 0 {
            return;
        }
        loop {
            let Ok(left) = self.state.last_block_time.duration_since(Time::now()) else { return };
            let until = Instant::now() + left.min(GENESIS_WAIT_MAX);
            if self.core.mempool.wait(until, until) == Wake::Stop {
                return;
            }
        }
    }

    /// One block, from the mempool to the subscribers; `now` is asked when it is signed.
    pub(crate) fn make_block(&mut self, now: impl FnOnce() -> Time) -> Result<(), HaltReason> {
        let height = self.state.next_height();
        let made = self.propose()?;
        fail_point(self.fail_at, FailPoint::BeforeSign, height);

        let round = self.signer.free_round(height);
        let timestamp = vote_time(now(), made.block.header().time);
        let validator = self.signer.key().address();
        let bytes = precommit_bytes(&self.state, &made, round, timestamp, validator);
        let signature = self.signer.sign(height, round, bytes)?;
        fail_point(self.fail_at, FailPoint::AfterSign, height);

        let commit = commit_of(&made, round, timestamp, validator, signature);
        self.core.store.save_block(&made, &commit.into())?;
        fail_point(self.fail_at, FailPoint::AfterBlockSaved, height);

        let hashes: Vec<TxHash> = made.block.data().iter().map(|tx| tx_hash(tx)).collect();
        let core = &self.core;
        let commit = || {
            let _gate = core.mempool.committing();
            core.app.commit()?;
            core.mempool.remove_committed(&hashes);
            recheck(core)
        };
        let (next, results) =
            apply_block(&*core.app, &core.store, &self.state, &made, self.fail_at, commit)?;
        self.state = next;
        let block = committed(made, results);
        core.publish_tip(&self.state, &block);
        core.bus.publish(&block);
        tell_waiters(core, &block, &hashes);
        tracing::debug!(height, txs = hashes.len(), "block committed");
        Ok(())
    }

    /// The next block: the application orders what waits and says whether it may be voted for.
    fn propose(&self) -> Result<MadeBlock, HaltReason> {
        let state = &self.state;
        let last_commit = match state.last_block_height {
            0 => None,
            last => Some(stored_commit(&self.core.store, last)?),
        };
        let proposer = self.signer.key().address();
        let empty = make_block(state, last_commit.clone(), Vec::new(), proposer);
        let bytes_max = state.params.tx_bytes_max();
        // Without a bound on blocks the application sees the whole mempool and chooses.
        let reap_max = if state.params.block_max_bytes == -1 { i64::MAX } else { bytes_max };
        let offered = self.core.mempool.reap(reap_max);
        let offered_hashes: Vec<TxHash> = offered.iter().map(|tx| tx_hash(tx)).collect();
        let prepared = self.core.app.prepare_proposal(prepare_request(state, &empty, offered))?;
        let bytes: i64 = prepared.txs.iter().map(|tx| encoded_tx_bytes(tx)).sum();
        if bytes > bytes_max {
            return Err(HaltReason::Protocol(format!(
                "PrepareProposal of height {} gives {bytes} bytes, at most {bytes_max} fit",
                state.next_height()
            )));
        }
        let txs = prepared.txs.iter().map(|tx| tx.to_vec()).collect();
        let made = make_block(state, last_commit, txs, proposer);
        if self.accepts(&made)? {
            return Ok(made);
        }
        // The chain goes on without what its application cannot agree with itself about.
        tracing::warn!(
            height = state.next_height(),
            txs = prepared.txs.len(),
            "the application rejects its own proposal; its transactions are dropped"
        );
        for hash in &offered_hashes {
            self.core.mempool.evict(hash, 1, "its block was rejected by the application");
        }
        match self.accepts(&empty)? {
            true => Ok(empty),
            false => Err(HaltReason::Protocol(format!(
                "ProcessProposal rejects even the empty block of height {}",
                state.next_height()
            ))),
        }
    }

    fn accepts(&self, made: &MadeBlock) -> Result<bool, HaltReason> {
        let response = self.core.app.process_proposal(process_request(&self.state, made))?;
        Ok(response.status == ProposalStatus::Accept as i32)
    }
}

/// CheckTx again for everything that still waits, against the state just committed.
fn recheck(core: &Core) -> Result<(), HaltReason> {
    for (hash, tx) in core.mempool.waiting() {
        let request = RequestCheckTx { tx, r#type: CheckTxType::Recheck as i32 };
        let response = core.app.check_tx(request)?;
        if response.code != 0 {
            core.mempool.evict(&hash, response.code, &response.log);
        }
    }
    Ok(())
}

fn tell_waiters(core: &Core, block: &CommittedBlock, hashes: &[TxHash]) {
    let txs = block.block.data.iter().flat_map(|data| &data.txs);
    for (index, ((hash, tx), result)) in
        hashes.iter().zip(txs).zip(&block.results.tx_results).enumerate()
    {
        for waiter in core.mempool.take_waiters(hash) {
            let position = TxPosition { height: block.height, index: index as u32 };
            let found = FoundTx { position, tx: tx.clone(), result: result.clone() };
            // A client that went away needs no answer.
            let _ = waiter.send(Fate::Included(Box::new(found)));
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}
