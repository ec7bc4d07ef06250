//! The loop of the deciding thread: everything that comes, in turn, and its outputs at once.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chain_types::BlockDelta;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never, select};
use sfu::ports::{Frame, Gate, UsageReport, gate::MonotonicClock};

use super::{MoneyConfig, Request, StartError, usage_of};
use crate::{
    decide::{Decider, GateOrder, Input, Output, Time},
    event::{BlockchainCommand, BridgeEnds, Bus, EventBridge, SutantraEvent, deliver},
    log::{self, LogFull, LogNotice, LogRecord, LogWriter},
    ports::{Chain, Outlets, Snapshot},
    redeem::{self, RedeemCounters},
};

/// The longest time without a turn.
const TICK: Duration = Duration::from_millis(50);
/// Before the chain is asked again after it gave nothing.
const FOLLOW_AGAIN: Duration = Duration::from_millis(200);

type Followed = (Snapshot, Receiver<Arc<BlockDelta>>);

/// What runs, and a view of how redeeming goes.
pub(super) struct Started {
    pub threads: Vec<JoinHandle<()>>,
    pub redeem_counters: Arc<dyn Fn() -> RedeemCounters + Send + Sync>,
}

pub(super) fn start(
    config: MoneyConfig,
    chain: Arc<dyn Chain>,
    mut outlets: Box<dyn Outlets>,
    frames: Receiver<Frame>,
    usage: Receiver<UsageReport>,
    requests: Receiver<Request>,
    bus: Bus<SutantraEvent>,
) -> Result<Started, StartError> {
    let (log, opened) = log::spawn(&config.home, chain.chain_id())?;
    let decider = Decider::new(config.decider(chain.chain_id()), opened.newest);
    let (bridge, BridgeEnds { blockchain_rx, streaming_rx }) = EventBridge::new(&bus);
    let submitter =
        redeem::spawn(Arc::clone(&chain), config.fee_wallet.clone(), blockchain_rx, Bus::new())?;
    let redeem_counters = Arc::new(submitter.counters_reader());
    // The relay's handle takes locks that other threads hold: not for the deciding thread.
    let relay = thread::Builder::new()
        .name("money-relay".to_owned())
        .spawn(move || deliver(&streaming_rx, &mut *outlets))?;
    let (follow, asked) = bounded(1);
    let (followed, arrived) = bounded(1);
    let follower = thread::Builder::new()
        .name("money-follow".to_owned())
        .spawn(move || follow_chain(&*chain, &asked, &followed))?;
    let shell = Shell {
        decider,
        clock: Clock::now(),
        bridge,
        submitter_is_behind: false,
        bus,
        follow,
        deltas: never(),
        log: Log::new(log),
        out: Vec::new(),
    };
    let decide = thread::Builder::new()
        .name("money".to_owned())
        .spawn(move || shell.run(&requests, &frames, &usage, &arrived))?;
    let threads = vec![decide, follower, relay, submitter.into_thread()];
    Ok(Started { threads, redeem_counters })
}

/// Both clocks, as the core wants them.
#[derive(Debug, Clone, Copy)]
struct Clock {
    anchor: MonotonicClock,
}

impl Clock {
    fn now() -> Self {
        // Any origin will do that leaves room for deadlines before the start.
        const ORIGIN_NS: u64 = 1 << 60;
        Self { anchor: MonotonicClock::new(Instant::now(), ORIGIN_NS) }
    }

    fn time(&self) -> Time {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time {
            mono_ns: self.anchor.nanos(Instant::now()),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn gate(&self, order: GateOrder) -> Gate {
        Gate {
            open: order.open,
            layer_cap: order.layer_cap,
            valid_until: order.valid_until_ns.map(|at| self.anchor.instant(at)),
        }
    }
}

/// Reads the chain from its snapshot on, each time that it is asked to. Ends with its asker.
fn follow_chain(chain: &dyn Chain, asked: &Receiver<()>, followed: &Sender<Followed>) {
    while asked.recv().is_ok() {
        loop {
            match chain.follow() {
                Ok(from) => {
                    if followed.send(from).is_err() {
                        return;
                    }
                    break;
                }
                Err(error) => tracing::warn!(%error, "the chain cannot be followed: trying again"),
            }
            thread::sleep(FOLLOW_AGAIN);
            if asked.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
        }
    }
}

struct Shell {
    decider: Decider,
    clock: Clock,
    bridge: EventBridge,
    /// A block did not reach it: it is told the whole state next.
    submitter_is_behind: bool,
    bus: Bus<SutantraEvent>,
    follow: Sender<()>,
    deltas: Receiver<Arc<BlockDelta>>,
    log: Log,
    out: Vec<Output>,
}

impl Shell {
    fn run(
        mut self,
        requests: &Receiver<Request>,
        frames: &Receiver<Frame>,
        usage: &Receiver<UsageReport>,
        arrived: &Receiver<Followed>,
    ) {
        let (mut frames, mut usage) = (frames.clone(), usage.clone());
        let mut notices = self.log.writer.notices().clone();
        self.follow_again();
        loop {
            let deltas = self.deltas.clone();
            select! {
                recv(deltas) -> delta => match delta {
                    Ok(delta) => self.delta(delta),
                    // Too slow, or the chain stopped: all records anew.
                    Err(_) => self.follow_again(),
                },
                recv(arrived) -> followed => if let Ok((snapshot, deltas)) = followed {
                    self.handle(Input::Snapshot(Box::new(snapshot)));
                    self.deltas = deltas;
                    self.tell_submitter(None);
                },
                recv(requests) -> request => match request {
                    Ok(Request::Stop) | Err(_) => break,
                    Ok(request) => self.answer(request),
                },
                recv(frames) -> frame => match frame {
                    Ok(Frame { session, bytes, .. }) => self.handle(Input::Frame { session, bytes }),
                    Err(_) => frames = never(),
                },
                recv(usage) -> report => match report {
                    Ok(report) => {
                        self.handle(Input::Usage(report.slots.iter().map(usage_of).collect()));
                    }
                    Err(_) => usage = never(),
                },
                recv(notices) -> notice => match notice {
                    Ok(notice) => self.notice(notice),
                    Err(_) => {
                        notices = never();
                        let reason = "the log's thread has ended".to_owned();
                        self.handle(Input::LogFailed { reason });
                    }
                },
                default(self.patience()) => self.handle(Input::Tick),
            }
            self.carry_out();
        }
        self.carry_out();
    }

    fn patience(&self) -> Duration {
        let now = self.clock.time().mono_ns;
        Duration::from_nanos(self.decider.next_deadline_ns().saturating_sub(now)).min(TICK)
    }

    fn delta(&mut self, delta: Arc<BlockDelta>) {
        let is_gap = self.decider.height().is_some_and(|height| delta.height > height + 1);
        self.handle(Input::Delta(Arc::clone(&delta)));
        if is_gap {
            self.follow_again();
        } else {
            self.tell_submitter(Some(delta));
        }
    }

    /// The chain's state for who submits; `None`: after a gap.
    fn tell_submitter(&mut self, delta: Option<Arc<BlockDelta>>) {
        let Some(access) = self.decider.access() else { return };
        let state = Arc::clone(&access.blockchain_state);
        let command = match delta {
            Some(delta) if !self.submitter_is_behind => BlockchainCommand::Block { delta, state },
            Some(_) | None => BlockchainCommand::Resynchronised(state),
        };
        self.submitter_is_behind = self.bridge.to_chain(command).is_err();
    }

    fn follow_again(&mut self) {
        self.deltas = never();
        // Asked already: one answer is enough.
        let _ = self.follow.try_send(());
    }

    fn handle(&mut self, input: Input) {
        let now = self.clock.time();
        self.decider.handle(now, input, &mut self.out);
    }

    fn answer(&mut self, request: Request) {
        let now = self.clock.time();
        match request {
            Request::Admit(admit, answer) => {
                let result = self.decider.admit(now, &admit, &mut self.out);
                self.carry_out();
                // Nobody waits any more: the admission ends by itself.
                let _ = answer.send(result);
            }
            Request::PostFrames(session, body, answer) => {
                let result = self.decider.post_frames(now, session, &body, &mut self.out);
                self.carry_out();
                let _ = answer.send(result);
            }
            Request::Tell(input) => self.handle(input),
            Request::Ask(question) => question(&self.decider, now),
            Request::Stop => {}
        }
    }

    fn notice(&mut self, notice: LogNotice) {
        match notice {
            LogNotice::Appended { .. } => {}
            LogNotice::Synced { sequence } => {
                if let Some(sequence) = self.log.synced(sequence) {
                    self.handle(Input::Synced { sequence });
                }
                // It takes records again: what it did not take comes first.
                if std::mem::take(&mut self.log.is_behind) {
                    self.handle(Input::LogRecovered);
                }
            }
            LogNotice::LogFailed { reason } => self.handle(Input::LogFailed { reason }),
            LogNotice::LogRecovered => {
                self.log.is_behind = false;
                self.handle(Input::LogRecovered);
            }
        }
    }

    /// All outputs, in their order.
    fn carry_out(&mut self) {
        let mut is_refused = false;
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Gate { slot, gate } => {
                    self.bridge.set_gate(slot, self.clock.gate(gate));
                }
                // What the log did not take is not acknowledged.
                Output::Send { frame, .. } if is_refused && frame.first() == Some(&PAY_ACK) => {}
                Output::Send { session, frame } => self.bridge.send(session, frame),
                Output::Close { session, last_frame } => self.bridge.close(session, last_frame),
                Output::Append { sequence, record } => {
                    is_refused |= !self.log.append(sequence, record);
                }
                Output::Forget { channel } => self.log.writer.forget(channel),
                Output::Redeem { payee, vouchers } => {
                    let command = BlockchainCommand::Redeem { payee, entries: vouchers };
                    // The core asks again while the chain has not paid.
                    if let Err(error) = self.bridge.to_chain(command) {
                        tracing::warn!(%error, "vouchers wait to be redeemed");
                    }
                }
                Output::Event(event) => self.bus.publish(event),
            }
        }
        if is_refused {
            self.log.is_behind = true;
            self.handle(Input::LogFailed { reason: LogFull.to_string() });
            return self.carry_out();
        }
        while let Some(event) = self.bridge.event_rx.try_recv() {
            tracing::trace!(?event, "event");
        }
    }
}

/// Type of a PayAck frame.
const PAY_ACK: u8 = 0x11;

/// The log, whose sequence numbers are its own.
struct Log {
    writer: LogWriter,
    /// Its number and the core's, of records that are not synced; at most its queue and a group.
    numbers: VecDeque<(u64, u64)>,
    /// It did not take a record, and has to say that it works before it is trusted again.
    is_behind: bool,
}

impl Log {
    fn new(writer: LogWriter) -> Self {
        Self { writer, numbers: VecDeque::new(), is_behind: false }
    }

    fn append(&mut self, sequence: u64, record: LogRecord) -> bool {
        match self.writer.append(record) {
            Ok(own) => self.numbers.push_back((own, sequence)),
            Err(LogFull) => return false,
        }
        true
    }

    /// The core's number of the newest record that is safe.
    fn synced(&mut self, own: u64) -> Option<u64> {
        let mut newest = None;
        while let Some((number, sequence)) = self.numbers.front().copied()
            && number <= own
        {
            newest = Some(sequence);
            self.numbers.pop_front();
        }
        newest
    }
}
