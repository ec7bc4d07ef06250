//! The submitter's thread: the core's outputs carried to the chain, one call at a time.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use chain_types::SigningKey;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::submitter::{Input, Output, RedeemCounters, RedeemEvent, Submitter};
use crate::{
    event::{BlockchainCommand, Bus},
    ports::Chain,
};

/// The longest time without a turn: what waits for the chain is tried again.
const TICK: Duration = Duration::from_millis(100);

/// A running submitter. Ends when the commands do; what is not in a block by then is in the log.
#[derive(Debug)]
pub struct SubmitterThread {
    thread: JoinHandle<()>,
    counters: Arc<Mutex<RedeemCounters>>,
}

impl SubmitterThread {
    /// Counts so far.
    pub fn counters(&self) -> RedeemCounters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of the counts that outlives this handle.
    pub fn counters_reader(&self) -> impl Fn() -> RedeemCounters + Send + Sync + 'static {
        let counters = Arc::clone(&self.counters);
        move || *counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread, to be joined once the commands have ended.
    pub fn into_thread(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Starts a submitter. `wallet` pays the fees and can do nothing else here.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(
    chain: Arc<dyn Chain>,
    wallet: SigningKey,
    commands: Receiver<BlockchainCommand>,
    events: Bus<RedeemEvent>,
) -> io::Result<SubmitterThread> {
    let submitter = Submitter::new(chain.chain_id(), wallet);
    let counters = Arc::<Mutex<RedeemCounters>>::default();
    let shared = Arc::clone(&counters);
    let thread = thread::Builder::new()
        .name("redeem".to_owned())
        .spawn(move || run(submitter, &*chain, &commands, &events, &shared))?;
    Ok(SubmitterThread { thread, counters })
}

fn run(
    mut submitter: Submitter,
    chain: &dyn Chain,
    commands: &Receiver<BlockchainCommand>,
    events: &Bus<RedeemEvent>,
    counters: &Mutex<RedeemCounters>,
) {
    let origin = Instant::now();
    let now_ms = || u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX);
    loop {
        let input = match commands.recv_timeout(TICK) {
            Ok(command) => input_of(command),
            Err(RecvTimeoutError::Timeout) => Input::Tick,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        submitter.handle(now_ms(), input);
        while let Some(output) = submitter.poll(now_ms()) {
            match output {
                Output::Submit { hash, bytes } => {
                    let answer = chain.submit(bytes);
                    submitter.handle(now_ms(), Input::Submitted { hash, answer });
                }
                Output::ReadAccount => {
                    let answer = chain.account(&submitter.account());
                    submitter.handle(now_ms(), Input::Account(answer));
                }
                Output::Event(event) => {
                    tell(&event);
                    events.publish(event);
                }
            }
        }
        *counters.lock().unwrap_or_else(PoisonError::into_inner) = submitter.counters();
    }
}

fn input_of(command: BlockchainCommand) -> Input {
    match command {
        BlockchainCommand::Redeem { payee: _, entries } => Input::Redeem(entries),
        BlockchainCommand::Block { delta, state } => Input::Block(delta, state),
        BlockchainCommand::Resynchronised(state) => Input::Resynchronised(state),
    }
}

fn tell(event: &RedeemEvent) {
    match event {
        RedeemEvent::Signed { entries, .. } => tracing::debug!(entries, "redeeming"),
        RedeemEvent::Redeemed { height, taken, skipped, .. } => {
            tracing::info!(height, taken = taken.len(), skipped = skipped.len(), "redeemed");
        }
        RedeemEvent::GaveUp { vouchers, error } => {
            tracing::error!(vouchers = vouchers.len(), %error, "not redeemed");
        }
    }
}
