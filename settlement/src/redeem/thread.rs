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

/// Starts a submitter. `wallet` signs and pays the fees; it is the payee's key or its relay's.
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

#[cfg(test)]
mod tests {
    use chain_types::{
        Account, AccountId, Balance, BlockDelta, ChannelId, LaneRecord, Params, SignedVoucher,
        StateChange, StreamId, Voucher, transaction_hash,
    };
    use crossbeam_channel::{Sender, bounded};

    use super::*;
    use crate::{
        chain::BlockchainState,
        event::Received,
        ports::{ChainError, Snapshot, SubmitError},
    };

    /// Takes every transaction and shows it; is away at first.
    struct Taking {
        transactions: Sender<Vec<u8>>,
        calls_away: Mutex<u32>,
    }

    impl Chain for Taking {
        fn chain_id(&self) -> &str {
            "sutantra-test-1"
        }
        fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
            Err(ChainError("nobody follows here".to_owned()))
        }
        fn account(&self, _: &AccountId) -> Result<Account, ChainError> {
            Ok(Account { balance: Balance::of(1_000_000), nonce: 3 })
        }
        fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError> {
            let mut away = self.calls_away.lock().unwrap();
            if *away > 0 {
                *away -= 1;
                return Err(SubmitError::Unavailable("starting".to_owned()));
            }
            self.transactions.send(transaction).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_command_becomes_a_transaction_and_its_block_an_event() {
        let (transactions, submitted) = bounded(8);
        let chain = Arc::new(Taking { transactions, calls_away: Mutex::new(2) });
        let (tell, commands) = bounded(8);
        let events = Bus::new();
        let told = events.subscribe();
        let wallet = SigningKey::from_bytes(&[7; 32]);
        let submitter = spawn(chain, wallet, commands, events).unwrap();

        let params = StateChange::Params(Box::new(Params::for_tests()));
        let snapshot = Snapshot { height: 10, time_ms: 10_000, records: vec![params] };
        let mut state = BlockchainState::new(&snapshot).unwrap();
        tell.send(BlockchainCommand::Resynchronised(Arc::new(state.clone()))).unwrap();
        let payee = AccountId([2; 32]);
        let voucher = Voucher {
            channel: ChannelId([1; 32]),
            payee,
            stream: StreamId([3; 32]),
            lane: 1,
            terms_version: 1,
            nonce: 1,
            cumulative: Balance::of(500),
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        let entries = vec![SignedVoucher { voucher, signature: [9; 64] }];
        tell.send(BlockchainCommand::Redeem { payee, entries }).unwrap();

        let long = Duration::from_secs(20);
        let hash = transaction_hash(&submitted.recv_timeout(long).unwrap());
        let signed = RedeemEvent::Signed { hash, entries: 1 };
        assert_eq!(told.recv_timeout(long), Ok(Some(Received::Value(signed))));

        let (cum, lane) = (Balance::of(500), voucher.lane_key());
        let record = LaneRecord { cum, paid: cum, terms_version: 1 };
        let delta = BlockDelta {
            height: 11,
            time_ms: 11_000,
            changes: vec![StateChange::Lane(lane, Some(record))],
            events: vec![],
            results: vec![(hash, 0)],
        };
        state.apply(&delta).unwrap();
        let (delta, state) = (Arc::new(delta), Arc::new(state));
        tell.send(BlockchainCommand::Block { delta, state }).unwrap();
        let redeemed =
            RedeemEvent::Redeemed { hash, height: 11, taken: vec![lane], skipped: vec![] };
        assert_eq!(told.recv_timeout(long), Ok(Some(Received::Value(redeemed))));

        let counters = submitter.counters_reader();
        drop(tell);
        submitter.into_thread().join().unwrap();
        let counters = counters();
        assert_eq!((counters.signed, counters.submitted, counters.redeemed), (1, 3, 1));
    }
}
