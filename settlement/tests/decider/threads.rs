//! MONEY on its threads: a chain that answers from a table, a relay that writes down what it is told.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chain_types::{
    Account, AccountId, Balance, BlockDelta, Frame, LaneState, Payload, ResultCode, SignedVoucher,
    Transaction,
};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use settlement::{
    Chain, ChainError, Outlets, Refusal, Snapshot, SubmitError,
    event::SutantraEvent,
    money::{Money, MoneyConfig, StartError},
};
use sfu::ports::{Frame as SideFrame, Gate, SessionKey, SlotId, SlotUsage, UsageReport};

use crate::rig::{
    CHAIN, MiniChain, PAYEE, RATE, RELAY_FINGERPRINT, Rig, START_MS, Viewer, key, relay, slot,
    stream_id,
};

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Table {
    chain: Mutex<(MiniChain, Vec<Sender<Arc<BlockDelta>>>)>,
    submitted: Sender<Vec<SignedVoucher>>,
}

impl Table {
    fn block(&self, change: impl FnOnce(&mut MiniChain)) {
        let mut locked = self.chain.lock().expect("no test panics with it");
        let (chain, followers) = &mut *locked;
        change(chain);
        let delta = chain.block(START_MS);
        followers.retain(|follower| follower.send(Arc::clone(&delta)).is_ok());
    }

    /// Whoever follows is cut off, and has to begin again.
    fn cut(&self) {
        self.chain.lock().expect("no test panics with it").1.clear();
    }
}

impl Chain for Table {
    fn chain_id(&self) -> &str {
        CHAIN
    }

    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError> {
        let mut locked = self.chain.lock().expect("no test panics with it");
        let (sender, receiver) = unbounded();
        locked.1.push(sender);
        Ok((locked.0.snapshot(), receiver))
    }

    fn account(&self, _: &AccountId) -> Result<Account, ChainError> {
        Ok(Account { balance: Balance::of(1_000_000_000_000), nonce: 0 })
    }

    fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError> {
        let transaction = Transaction::decode(&transaction).expect("it is one");
        if transaction.body.signer != AccountId::from(&relay()) {
            let (code, log) = (ResultCode::NotOwner.code(), "not the relay's key".to_owned());
            return Err(SubmitError::Refused { code, log });
        }
        let Payload::Redeem { entries, .. } = transaction.body.payload else { panic!("a redeem") };
        let entries = entries.iter().map(|bytes| SignedVoucher::decode(bytes).expect("one"));
        self.submitted.send(entries.collect()).expect("the test listens");
        Ok(())
    }
}

#[derive(Debug)]
enum Told {
    Gate(SlotId, Gate),
    Send(SessionKey, Frame),
    Close(SessionKey, Frame),
}

struct Relay(Sender<Told>);

impl Outlets for Relay {
    fn set_gate(&mut self, slot: SlotId, gate: Gate) {
        let _ = self.0.send(Told::Gate(slot, gate));
    }

    fn send(&mut self, session: SessionKey, frame: Vec<u8>) {
        let _ = self.0.send(Told::Send(session, Frame::decode(&frame).expect("our own frame")));
    }

    fn close(&mut self, session: SessionKey, last_frame: Vec<u8>) {
        let frame = Frame::decode(&last_frame).expect("our own frame");
        let _ = self.0.send(Told::Close(session, frame));
    }
}

struct World {
    table: Arc<Table>,
    money: Money,
    told: Receiver<Told>,
    frames: Sender<SideFrame>,
    usage: Sender<UsageReport>,
    submitted: Receiver<Vec<SignedVoucher>>,
    home: PathBuf,
}

fn config(home: PathBuf) -> MoneyConfig {
    MoneyConfig {
        home,
        payee: PAYEE,
        relay_key: relay(),
        relay_fingerprint: RELAY_FINGERPRINT,
        fee_wallet: relay(),
        cadence_ms: 1000,
        grace_ms: 3000,
        pause_max_s: 60,
        exposure_seconds: 10,
        serve_free: Vec::new(),
        min_share_bps: 1000,
    }
}

impl World {
    /// A paid stream, and a viewer with a channel.
    fn new(name: &str) -> (Self, Viewer) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let home =
            std::env::temp_dir().join(format!("settlement-{name}-{}-{nth}", std::process::id()));
        let viewer = Viewer::new(10);
        let mut chain = Rig::new(|_| {}).chain;
        chain.open(&viewer, 1_000_000_000, 900_000_000);
        let (submitted, redeems) = unbounded();
        let table = Arc::new(Table { chain: Mutex::new((chain, Vec::new())), submitted });
        (Self::start(table, home, redeems), viewer)
    }

    fn start(table: Arc<Table>, home: PathBuf, submitted: Receiver<Vec<SignedVoucher>>) -> Self {
        let (told_to, told) = unbounded();
        let (frames, frames_rx) = bounded(64);
        let (usage, usage_rx) = bounded(64);
        let chain: Arc<dyn Chain> = Arc::clone(&table) as Arc<dyn Chain>;
        let relay = Box::new(Relay(told_to));
        let money = Money::start(config(home.clone()), chain, relay, frames_rx, usage_rx)
            .expect("it starts");
        let world = Self { table, money, told, frames, usage, submitted, home };
        world.until(|world| world.money.terms(stream_id(1)).is_some());
        world
    }

    fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it never came about");
            std::thread::yield_now();
        }
    }

    /// The next thing that the relay is told and that fits.
    fn hear<T>(&self, mut fits: impl FnMut(Told) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told.recv_deadline(deadline).expect("it is told");
            if let Some(found) = fits(told) {
                return found;
            }
        }
    }

    fn gate(&self, session: SessionKey) -> Gate {
        self.hear(|told| match told {
            Told::Gate(of, gate) if of == slot(session) => Some(gate),
            _ => None,
        })
    }

    fn request(&self, viewer: &Viewer, cumulative: u128) -> settlement::Admit {
        let terms = self.money.terms(stream_id(1)).expect("the chain has it");
        settlement::Admit {
            stream: stream_id(1),
            bind: Some(viewer.signed_bind(&terms)),
            voucher: Some(viewer.pay(&terms, cumulative)),
            token: None,
            client_fingerprint: viewer.fingerprint,
        }
    }

    fn join(&self, viewer: &Viewer, cumulative: u128, session: SessionKey) {
        let admission = self.money.admit(self.request(viewer, cumulative)).expect("it pays");
        self.money.begun(admission.id, session, slot(session));
        self.money.connected(session);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.money.stop();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

const PREPAY: u128 = 2 * RATE as u128;

/// R10, R31: over the pay channel, into the log, onto the chain; whoever follows hears of it.
#[test]
fn a_voucher_goes_from_the_data_channel_to_the_log_and_to_the_chain() {
    let (world, viewer) = World::new("voucher");
    let session = SessionKey(1);
    let events = world.money.events();
    world.join(&viewer, PREPAY, session);
    let gate = world.gate(session);
    assert!(gate.open && gate.valid_until.is_some_and(|until| until > Instant::now()));
    let terms = world.money.terms(stream_id(1)).expect("the chain has it");
    let voucher = viewer.pay(&terms, 2 * PREPAY);
    let bytes = Frame::Voucher(Box::new(voucher)).encode();
    let frame = SideFrame::new(session, Some(slot(session)), bytes.into());
    world.frames.send(frame).expect("the books are open");
    let ack = world.hear(|told| match told {
        Told::Send(of, Frame::PayAck(ack)) if of == session => {
            (ack.cumulative.units() == 2 * PREPAY).then_some(ack)
        }
        _ => None,
    });
    assert_eq!(ack.state, LaneState::Active);
    let redeemed = world.submitted.recv_timeout(PATIENCE).expect("it is worth it");
    assert_eq!(redeemed.len(), 1);
    let received: Vec<SutantraEvent> = std::iter::from_fn(|| events.try_recv())
        .filter_map(|received| match received {
            settlement::event::Received::Value(event) => Some(event),
            settlement::event::Received::Lagged(_) => None,
        })
        .collect();
    let joined = SutantraEvent::ViewerJoined { stream_id: stream_id(1), viewer_count: 1 };
    assert!(received.contains(&joined), "{received:?}");
    let earnings = world.money.earnings(stream_id(1));
    assert_eq!((earnings.accepted.units(), earnings.viewers), (2 * PREPAY, 1));
    assert_eq!(world.money.counters().map(|counters| counters.vouchers_accepted), Some(2));
    let facts = world.money.stream_facts(stream_id(1)).expect("the chain has it");
    assert_eq!((facts.price_per_second, facts.terms_version), (RATE, 1));
}

#[test]
fn usage_moves_what_is_owed_and_a_block_that_closes_the_channel_shuts_the_gate() {
    let (world, viewer) = World::new("usage");
    let session = SessionKey(1);
    world.join(&viewer, PREPAY, session);
    assert!(world.gate(session).open);
    let usage = SlotUsage {
        slot: slot(session),
        session,
        served_ms: 500,
        disputed_ms: 0,
        sent_bytes: 1000,
        sent_packets: 1,
        gate_changed: 1,
        first_sent: 1,
        last_sent: 2,
    };
    let report = UsageReport { shard: 0, at: Instant::now(), slots: vec![usage] };
    world.usage.send(report).expect("the books are open");
    world.until(|world| world.money.earnings(stream_id(1)).owed == Balance::of(RATE / 2));
    let closing = chain_types::CloseRequest { height: 1, time_ms: START_MS };
    world.table.block(|chain| {
        chain.channel(viewer.channel, |channel| channel.close_requested = Some(closing));
    });
    while world.gate(session).open {}
    world.table.block(|chain| chain.channel(viewer.channel, |channel| channel.closed = true));
    let last = world.hear(|told| match told {
        Told::Close(of, frame) if of == session => Some(frame),
        _ => None,
    });
    let message = "Payment required".to_owned();
    assert_eq!(last, Frame::Error { code: 4402, message });
}

/// R26: cut off from the chain, MONEY begins again from a snapshot.
#[test]
fn a_follower_that_is_cut_off_resumes_from_a_snapshot() {
    let (world, viewer) = World::new("cut");
    let session = SessionKey(1);
    world.join(&viewer, PREPAY, session);
    assert!(world.gate(session).open);
    world.table.cut();
    world.table.block(|chain| {
        chain.stream(stream_id(1), |stream| stream.ended = Some(START_MS));
    });
    while world.gate(session).open {}
    world.table.block(|chain| chain.stream(stream_id(2), |_| {}));
    world.until(|world| world.money.terms(stream_id(2)).is_some());
}

#[test]
fn a_stop_and_a_new_start_find_the_books_as_they_were() {
    let (world, viewer) = World::new("restart");
    world.join(&viewer, 3 * PREPAY, SessionKey(1));
    world.money.stop();
    assert_eq!(world.money.terms(stream_id(1)), None);
    assert!(matches!(world.money.admit(world_request(&viewer)), Err(Refusal::Books(_))));
    let (table, home) = (Arc::clone(&world.table), world.home.clone());
    let again = World::start(table, home, world.submitted.clone());
    assert_eq!(again.money.earnings(stream_id(1)).accepted.units(), 3 * PREPAY);
    let bare = settlement::Admit { voucher: None, ..again.request(&viewer, 0) };
    assert!(again.money.admit(bare).is_ok(), "what was paid carries over");
}

fn world_request(viewer: &Viewer) -> settlement::Admit {
    settlement::Admit {
        stream: stream_id(1),
        bind: None,
        voucher: None,
        token: None,
        client_fingerprint: viewer.fingerprint,
    }
}

#[test]
fn a_folder_in_use_a_wrong_cadence_and_a_wallet_that_may_not_redeem_are_refused() {
    let (world, _) = World::new("shared");
    let start = |config| {
        let chain: Arc<dyn Chain> = Arc::clone(&world.table) as Arc<dyn Chain>;
        let (told, _) = unbounded();
        let relay = Box::new(Relay(told));
        Money::start(config, chain, relay, crossbeam_channel::never(), crossbeam_channel::never())
    };
    assert!(matches!(start(config(world.home.clone())), Err(StartError::Log(_))));
    let hasty = MoneyConfig { cadence_ms: 100, ..config(world.home.join("other")) };
    assert!(matches!(start(hasty), Err(StartError::Cadence(100))));
    let stranger = MoneyConfig { fee_wallet: key(77), ..config(world.home.join("other")) };
    let account = AccountId::from(&key(77));
    assert!(matches!(start(stranger), Err(StartError::FeeWallet(of)) if of == account));
}
