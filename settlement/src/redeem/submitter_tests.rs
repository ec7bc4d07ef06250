//! The submitter against a chain in miniature that keeps the rules of nonces, fees and lanes.

use std::{collections::BTreeMap, sync::Arc};

use chain_types::{
    Account, AccountId, Balance, BlockDelta, Channel, ChannelId, CloseRequest, LaneKey, LaneRecord,
    Params, Payload, ResultCode, SignedVoucher, SigningKey, StateChange, StreamId, Transaction,
    Voucher, transaction_hash,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{submitter::RETRY_MS, *};
use crate::{
    chain::BlockchainState,
    ports::{ChainError, Snapshot, SubmitError},
};

const CHAIN: &str = "sutantra-test-1";
const PAYEE: AccountId = AccountId([2; 32]);

fn wallet() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn voucher_on(channel: u8, lane: u32, cumulative: u64) -> SignedVoucher {
    let voucher = Voucher {
        channel: ChannelId([channel; 32]),
        payee: PAYEE,
        stream: StreamId([3; 32]),
        lane,
        terms_version: 1,
        nonce: cumulative,
        cumulative: Balance::of(cumulative),
        media_ms: 0,
        bytes: 0,
        qos: [lane as u8; 32],
    };
    // Nobody here verifies it; the chain's own tests do.
    SignedVoucher { voucher, signature: [9; 64] }
}

fn voucher(lane: u32, cumulative: u64) -> SignedVoucher {
    voucher_on(1, lane, cumulative)
}

/// The chain, and all that the submitter said.
struct World {
    state: BlockchainState,
    account: Account,
    mempool: BTreeMap<u64, Vec<u8>>,
    submitter: Submitter,
    now_ms: u64,
    events: Vec<RedeemEvent>,
    submitted: Vec<Vec<u8>>,
    /// What lanes were paid, summed over blocks: to be compared with what they hold.
    paid: BTreeMap<LaneKey, u64>,
    is_available: bool,
    /// Answers get lost: the transaction is in, the submitter does not know.
    is_deaf: bool,
    account_reads: u32,
}

impl World {
    fn new() -> Self {
        let channel = Channel {
            payer: AccountId([4; 32]),
            voucher_key: AccountId::from(&SigningKey::from_bytes(&[5; 32])),
            deposits: Balance::of(1_000_000_000),
            redeemed: Balance::ZERO,
            reserves: vec![],
            close_requested: None,
            closed: false,
            expires_height: 1_000_000,
        };
        let channels =
            (1..3).map(|id| StateChange::Channel(ChannelId([id; 32]), Box::new(channel.clone())));
        let params = StateChange::Params(Box::new(Params::for_tests()));
        let records = channels.chain([params]).collect();
        let snapshot = Snapshot { height: 10, time_ms: 10_000, records };
        let mut world = Self {
            state: BlockchainState::new(&snapshot).unwrap(),
            account: Account { balance: Balance::of(1_000_000_000), nonce: 40 },
            mempool: BTreeMap::new(),
            submitter: Submitter::new(CHAIN, wallet()),
            now_ms: 0,
            events: vec![],
            submitted: vec![],
            paid: BTreeMap::new(),
            is_available: true,
            is_deaf: false,
            account_reads: 0,
        };
        let state = Arc::new(world.state.clone());
        world.tell(Input::Resynchronised(state));
        world
    }

    fn tell(&mut self, input: Input) {
        self.submitter.handle(self.now_ms, input);
        for _ in 0..10_000 {
            match self.submitter.poll(self.now_ms) {
                None => return,
                Some(Output::Event(event)) => self.events.push(event),
                Some(Output::ReadAccount) => {
                    self.account_reads += 1;
                    let answer = if self.is_available {
                        Ok(self.account)
                    } else {
                        Err(ChainError("away".to_owned()))
                    };
                    self.submitter.handle(self.now_ms, Input::Account(answer));
                }
                Some(Output::Submit { hash, bytes }) => {
                    assert_eq!(hash, transaction_hash(&bytes));
                    let answer = self.check_tx(bytes);
                    self.submitter.handle(self.now_ms, Input::Submitted { hash, answer });
                }
            }
        }
        panic!("the submitter does not come to rest");
    }

    fn redeem(&mut self, vouchers: Vec<SignedVoucher>) {
        self.tell(Input::Redeem(vouchers));
    }

    fn check_tx(&mut self, bytes: Vec<u8>) -> Result<(), SubmitError> {
        self.submitted.push(bytes.clone());
        let refused = |code: ResultCode| {
            Err(SubmitError::Refused { code: code.code(), log: "no".to_owned() })
        };
        if !self.is_available {
            return Err(SubmitError::Unavailable("away".to_owned()));
        }
        let transaction = Transaction::decode(&bytes).unwrap();
        assert_eq!(transaction.verify(CHAIN), Ok(()));
        let body = &transaction.body;
        assert_eq!(body.signer, AccountId::from(&wallet()));
        if self.mempool.get(&body.nonce) == Some(&bytes) {
            return Err(SubmitError::Known);
        }
        if body.nonce < self.account.nonce || self.mempool.contains_key(&body.nonce) {
            return refused(ResultCode::Nonce);
        }
        if body.valid_until_height <= self.state.height() {
            return refused(ResultCode::Expired);
        }
        if body.fee < self.state.params().fee_min(&body.payload, bytes.len()) {
            return refused(ResultCode::Fee);
        }
        if body.fee > self.account.balance {
            return refused(ResultCode::Funds);
        }
        self.mempool.insert(body.nonce, bytes);
        if self.is_deaf {
            return Err(SubmitError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }

    /// Executes what is next by nonce, if anything is to be included.
    fn block_with(&mut self, is_including: bool, changes: Vec<StateChange>) -> Arc<BlockDelta> {
        let height = self.state.height() + 1;
        let (mut changes, mut results) = (changes, vec![]);
        while is_including && let Some(bytes) = self.mempool.remove(&self.account.nonce) {
            let transaction = Transaction::decode(&bytes).unwrap();
            if transaction.body.valid_until_height < height {
                continue;
            }
            self.account.nonce += 1;
            let fee = transaction.body.fee;
            self.account.balance = self.account.balance.checked_sub(fee).unwrap();
            let Payload::Redeem { entries, watch_root, qos_root } = transaction.body.payload else {
                panic!("only redeems are sent");
            };
            check_roots(&entries, watch_root, qos_root);
            let mut code = ResultCode::StaleVoucher.code();
            for entry in entries {
                let voucher = SignedVoucher::decode(&entry).unwrap().voucher;
                let lane = voucher.lane_key();
                let known = changes
                    .iter()
                    .rev()
                    .find_map(|change| match change {
                        StateChange::Lane(key, record) if *key == lane => *record,
                        _ => None,
                    })
                    .or_else(|| self.state.lane(&lane).copied());
                let (cum, paid) = known.map_or_else(Default::default, |one| (one.cum, one.paid));
                if voucher.cumulative <= paid {
                    continue;
                }
                code = 0;
                let more = voucher.cumulative.checked_sub(paid).unwrap();
                *self.paid.entry(lane).or_default() += u64::try_from(more.units()).unwrap();
                let (cum, paid) = (cum.max(voucher.cumulative), voucher.cumulative);
                let record = LaneRecord { cum, paid, terms_version: 1 };
                changes.push(StateChange::Lane(lane, Some(record)));
            }
            results.push((transaction_hash(&bytes), code));
        }
        self.mempool.retain(|nonce, _| *nonce >= self.account.nonce);
        let time_ms = height * 1000;
        let delta = BlockDelta { height, time_ms, changes, events: vec![], results };
        self.state.apply(&delta).unwrap();
        Arc::new(delta)
    }

    fn block(&mut self) {
        let delta = self.block_with(true, vec![]);
        self.tell(Input::Block(delta, Arc::new(self.state.clone())));
    }

    fn empty_block(&mut self) {
        let delta = self.block_with(false, vec![]);
        self.tell(Input::Block(delta, Arc::new(self.state.clone())));
    }

    fn paid(&self, voucher: &SignedVoucher) -> u64 {
        u64::try_from(self.state.paid(&voucher.voucher.lane_key()).units()).unwrap()
    }
}

/// R24: the roots in the transaction prove each of its leaves.
fn check_roots(entries: &[[u8; 240]], watch_root: [u8; 32], qos_root: [u8; 32]) {
    let vouchers: Vec<_> = entries.iter().map(|one| SignedVoucher::decode(one).unwrap()).collect();
    let watched: Vec<_> = vouchers.iter().map(watch_leaf).collect();
    let reported: Vec<_> = vouchers.iter().filter_map(qos_leaf).collect();
    for (at, leaf) in watched.iter().enumerate() {
        let path = merkle::prove(&watched, at).unwrap();
        assert!(merkle::verify(&watch_root, leaf, at, watched.len(), &path));
    }
    for (at, leaf) in reported.iter().enumerate() {
        let path = merkle::prove(&reported, at).unwrap();
        assert!(merkle::verify(&qos_root, leaf, at, reported.len(), &path));
    }
    if reported.is_empty() {
        assert_eq!(qos_root, [0; 32]);
    }
}

#[test]
fn a_batch_becomes_one_transaction_with_the_least_fee_and_is_confirmed_by_its_block() {
    let mut world = World::new();
    let (one, two) = (voucher(0, 500), voucher(1, 700));
    world.redeem(vec![one, two]);
    assert_eq!(world.submitted.len(), 1);
    let body = Transaction::decode(&world.submitted[0]).unwrap().body;
    assert_eq!((body.nonce, body.valid_until_height), (40, 10 + VALID_BLOCKS));
    assert_eq!(body.fee, Params::for_tests().fee_min(&body.payload, world.submitted[0].len()));
    assert!(!world.submitter.is_idle());
    world.block();
    assert!(world.submitter.is_idle());
    let hash = transaction_hash(&world.submitted[0]);
    let taken = vec![one.voucher.lane_key(), two.voucher.lane_key()];
    assert_eq!(
        world.events,
        [
            RedeemEvent::Signed { hash, entries: 2 },
            RedeemEvent::Redeemed { hash, height: 11, taken, skipped: vec![] },
        ]
    );
    let counters = world.submitter.counters();
    assert_eq!((counters.signed, counters.redeemed, counters.vouchers_redeemed), (1, 1, 2));
    assert_eq!(counters.fees_units, body.fee.units());
}

#[test]
fn what_the_chain_has_is_not_redeemed_again() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    world.redeem(vec![voucher(0, 500)]); // Under way.
    world.block();
    world.redeem(vec![voucher(0, 500), voucher(0, 400)]); // Paid.
    assert_eq!(world.submitted.len(), 1);
    assert_eq!(world.submitter.counters().vouchers_known, 1);
    assert!(world.submitter.is_idle());
    world.redeem(vec![voucher(0, 501)]);
    assert_eq!(world.submitted.len(), 2);
}

#[test]
fn a_total_below_what_was_shown_is_redeemed_where_the_lane_was_not_paid_that_far() {
    let mut world = World::new();
    let lane = voucher(0, 0).voucher.lane_key();
    let of = Balance::of;
    let record = LaneRecord { cum: of(900), paid: of(400), terms_version: 1 };
    let delta = world.block_with(true, vec![StateChange::Lane(lane, Some(record))]);
    world.tell(Input::Block(delta, Arc::new(world.state.clone())));
    world.redeem(vec![voucher(0, 400)]);
    assert_eq!(world.submitted.len(), 0);
    world.redeem(vec![voucher(0, 600)]);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 600);
}

#[test]
fn several_transactions_are_under_way_by_nonce_and_no_more_than_their_bound() {
    let mut world = World::new();
    for lane in 0..20 {
        world.redeem(vec![voucher(lane, 500)]);
    }
    assert_eq!(world.mempool.keys().copied().collect::<Vec<_>>(), (40..48).collect::<Vec<_>>());
    world.block();
    // The twelve that had to wait go together.
    assert_eq!(world.mempool.len(), 1);
    world.block();
    assert!((0..20).all(|lane| world.paid(&voucher(lane, 0)) == 500));
    assert!(world.submitter.is_idle());
}

#[test]
fn a_batch_too_large_for_a_transaction_is_divided() {
    let mut world = World::new();
    world.redeem((0..600).map(|lane| voucher(lane, 500)).collect());
    let entries: Vec<usize> = world
        .submitted
        .iter()
        .map(|bytes| match Transaction::decode(bytes).unwrap().body.payload {
            Payload::Redeem { entries, .. } => entries.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(entries, [256, 256, 88]);
}

#[test]
fn while_the_chain_is_away_the_same_bytes_are_tried_again() {
    let mut world = World::new();
    world.is_deaf = true; // The first attempt arrives, its answer does not.
    world.redeem(vec![voucher(0, 500)]);
    for _ in 0..3 {
        world.now_ms += RETRY_MS;
        world.is_deaf = false;
        world.is_available = !world.is_available;
        world.tell(Input::Tick);
    }
    assert!(world.submitted.len() >= 3);
    assert!(world.submitted.windows(2).all(|two| two[0] == two[1]));
    world.now_ms += RETRY_MS;
    world.is_available = true;
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 500);
    assert!(world.submitter.is_idle());
}

#[test]
fn no_attempt_is_made_before_its_time() {
    let mut world = World::new();
    world.is_available = false;
    world.redeem(vec![voucher(0, 500)]);
    assert_eq!(world.account_reads, 1);
    world.tell(Input::Tick);
    world.now_ms += RETRY_MS - 1;
    world.tell(Input::Tick);
    assert_eq!(world.account_reads, 1);
    world.now_ms += 1;
    world.is_available = true;
    world.tell(Input::Tick);
    assert_eq!((world.account_reads, world.submitted.len()), (2, 1));
}

#[test]
fn a_nonce_that_another_took_is_replaced_and_nothing_is_paid_twice() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    world.block();
    world.account.nonce += 3; // The same wallet was used elsewhere.
    world.redeem(vec![voucher(0, 600)]);
    assert_eq!(world.mempool.len(), 0);
    world.block();
    world.block();
    let nonces: Vec<u64> = world.mempool.keys().copied().collect();
    assert_eq!(nonces, [44]);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 600);
    assert_eq!(world.paid[&voucher(0, 0).voucher.lane_key()], 600);
    assert_eq!(world.submitter.counters().resigned, 1);
}

#[test]
fn a_transaction_that_no_block_took_in_its_time_is_signed_again() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    let first = world.submitted[0].clone();
    world.mempool.clear(); // The chain restarts and forgets its mempool.
    for _ in 0..=VALID_BLOCKS {
        world.empty_block();
    }
    assert_eq!(world.submitted.len(), 2);
    assert_ne!(world.submitted[1], first);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 500);
    assert!(world.submitter.is_idle());
}

#[test]
fn what_never_comes_into_a_block_is_given_back_in_the_end() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    for _ in 0..=(VALID_BLOCKS + 1) * u64::from(RESIGN_MAX) {
        world.mempool.clear();
        world.empty_block();
    }
    let last = world.events.last().unwrap();
    let (vouchers, error) = (vec![voucher(0, 500)], GaveUp::TooOften);
    assert_eq!(*last, RedeemEvent::GaveUp { vouchers, error });
    assert_eq!(world.submitted.len(), RESIGN_MAX as usize);
    assert!(world.submitter.is_idle());
}

#[test]
fn an_outage_of_the_chain_costs_no_attempt() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    world.mempool.clear();
    world.is_available = false;
    // All these blocks come at once when the chain is back, before it takes anything.
    for _ in 0..=(VALID_BLOCKS + 1) * u64::from(RESIGN_MAX) * 2 {
        world.now_ms += RETRY_MS;
        world.empty_block();
    }
    assert!(!world.events.iter().any(|event| matches!(event, RedeemEvent::GaveUp { .. })));
    world.is_available = true;
    world.now_ms += RETRY_MS;
    world.tell(Input::Tick);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 500);
    assert!(world.submitter.is_idle());
}

#[test]
fn an_empty_fee_wallet_says_which_account_to_fund() {
    let mut world = World::new();
    world.account.balance = Balance::of(100);
    world.redeem(vec![voucher(0, 500)]);
    let Some(RedeemEvent::GaveUp { vouchers, error }) = world.events.last() else {
        panic!("{:?}", world.events)
    };
    assert_eq!(*vouchers, [voucher(0, 500)]);
    let account = AccountId::from(&wallet());
    assert!(matches!(error, GaveUp::Funds { account: named, entries: 1, .. } if *named == account));
    assert!(error.to_string().starts_with(&format!("fund account {account}")), "{error}");
    // Funded, and asked again, it goes through.
    world.account.balance = Balance::of(1_000_000);
    world.redeem(vec![voucher(0, 500)]);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 500);
}

#[test]
fn vouchers_that_the_chain_refuses_in_a_block_are_given_back_and_the_next_go_on() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    // The payee itself redeems the lane first: all entries of ours are stale.
    let lane = voucher(0, 500).voucher.lane_key();
    let of = Balance::of;
    let record = LaneRecord { cum: of(900), paid: of(900), terms_version: 1 };
    let delta = world.block_with(true, vec![StateChange::Lane(lane, Some(record))]);
    assert_eq!(delta.results[0].1, ResultCode::StaleVoucher.code());
    world.tell(Input::Block(delta, Arc::new(world.state.clone())));
    let Some(RedeemEvent::GaveUp { error: GaveUp::Refused { code: 8, .. }, .. }) =
        world.events.last()
    else {
        panic!("{:?}", world.events)
    };
    world.redeem(vec![voucher(1, 500)]);
    world.block();
    assert_eq!(world.paid(&voucher(1, 0)), 500);
}

#[test]
fn vouchers_of_several_payees_are_refused() {
    let mut world = World::new();
    let mut other = voucher(1, 500);
    other.voucher.payee = AccountId([9; 32]);
    world.redeem(vec![voucher(0, 500), other]);
    let Some(RedeemEvent::GaveUp { error, vouchers }) = world.events.last() else {
        panic!("{:?}", world.events)
    };
    assert_eq!((error, vouchers.len()), (&GaveUp::SeveralPayees, 2));
    assert_eq!(world.submitted.len(), 0);
}

#[test]
fn results_that_were_missed_are_made_up_for_by_the_state() {
    let mut world = World::new();
    world.redeem(vec![voucher(0, 500)]);
    world.block_with(true, vec![]); // Nobody is told.
    world.tell(Input::Resynchronised(Arc::new(world.state.clone())));
    (0..3).for_each(|_| world.empty_block());
    assert!(world.submitter.is_idle());
    assert_eq!(world.submitted.len(), 1, "the chain has it already");
    world.redeem(vec![voucher(0, 501)]);
    world.block();
    assert_eq!(world.paid(&voucher(0, 0)), 501);
}

/// A channel begins to close: what the watcher names is in a block within five.
#[test]
fn a_closing_channel_is_redeemed_within_five_blocks() {
    let mut world = World::new();
    let (closing, open) = (voucher_on(2, 0, 500), voucher_on(1, 0, 500));
    let accepted = [open, closing];
    assert_eq!(urgent(&world.state, &accepted), []);
    let mut channel = (**world.state.channel(&ChannelId([2; 32])).unwrap()).clone();
    let height = world.state.height() + 1;
    channel.close_requested = Some(CloseRequest { height, time_ms: height * 1000 });
    let change = StateChange::Channel(ChannelId([2; 32]), Box::new(channel));
    let delta = world.block_with(true, vec![change]);
    world.tell(Input::Block(delta, Arc::new(world.state.clone())));
    let named = urgent(&world.state, &accepted);
    let by_height = height + REDEEM_WITHIN_BLOCKS;
    assert_eq!(named, [Urgent { voucher: closing, urgency: Urgency::Closing, by_height }]);
    world.redeem(named.iter().map(|urgent| urgent.voucher).collect());
    world.block();
    assert_eq!(world.paid(&closing), 500);
    assert!(world.state.height() <= by_height);
    assert_eq!(urgent(&world.state, &accepted), [], "what is paid is not urgent");
}

#[test]
fn the_urgent_go_into_the_first_transaction() {
    let mut world = World::new();
    world.is_available = false;
    world.redeem((0..400).map(|lane| voucher_on(1, lane, 500)).collect());
    let mut channel = (**world.state.channel(&ChannelId([2; 32])).unwrap()).clone();
    channel.close_requested = Some(CloseRequest { height: 11, time_ms: 11_000 });
    let change = StateChange::Channel(ChannelId([2; 32]), Box::new(channel));
    world.redeem(vec![voucher_on(2, 7, 500)]);
    let delta = world.block_with(true, vec![change]);
    world.is_available = true;
    world.now_ms += RETRY_MS;
    world.tell(Input::Block(delta, Arc::new(world.state.clone())));
    let Payload::Redeem { entries, .. } =
        Transaction::decode(&world.submitted[0]).unwrap().body.payload
    else {
        panic!("a redeem")
    };
    assert_eq!(SignedVoucher::decode(&entries[0]).unwrap(), voucher_on(2, 7, 500));
}

#[test]
fn the_watcher_names_each_reason_with_its_height() {
    #[track_caller]
    fn check(change: impl Fn(&mut Channel), expected: Option<(Urgency, u64)>) {
        let mut world = World::new();
        let id = ChannelId([1; 32]);
        let mut channel = (**world.state.channel(&id).unwrap()).clone();
        change(&mut channel);
        world.block_with(true, vec![StateChange::Channel(id, Box::new(channel))]); // Height 11.
        let named = urgent(&world.state, &[voucher(0, 500)]);
        assert_eq!(named.first().map(|one| (one.urgency, one.by_height)), expected);
    }
    let close = |channel: &mut Channel| {
        channel.close_requested = Some(CloseRequest { height: 11, time_ms: 11_000 });
    };
    let reserve = |until_height| chain_types::Reserve {
        payee: PAYEE,
        amount: Balance::of(100),
        until_height,
    };
    check(|_| {}, None);
    check(close, Some((Urgency::Closing, 16)));
    check(|channel| channel.expires_height = 11, Some((Urgency::Closing, 16)));
    check(|channel| channel.expires_height = 40, Some((Urgency::Expiring, 39)));
    check(|channel| channel.expires_height = 41, None); // channel_blocks_min is 30 here.
    check(|channel| channel.reserves.push(reserve(21)), Some((Urgency::ReserveEnding, 20)));
    check(|channel| channel.reserves.push(reserve(22)), None); // reserve_margin_blocks is 10 here.
    check(
        |channel| {
            close(channel);
            channel.closed = true;
        },
        None,
    );
    check(
        |channel| {
            close(channel);
            channel.redeemed = channel.deposits; // Nothing is left for anybody.
        },
        None,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Lost answers, a chain that goes away, forgets its mempool, leaves transactions out, loses
    /// blocks on the way to us, and a wallet used elsewhere: each lane is paid to its newest voucher,
    /// and never twice.
    #[test]
    fn everything_is_redeemed_once_whatever_gets_lost(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        let mut newest = BTreeMap::<u32, u64>::new();
        for _ in 0..200 {
            world.now_ms += rng.random_range(0..700);
            world.is_deaf = rng.random_bool(0.2);
            world.is_available = rng.random_bool(0.8);
            match rng.random_range(0..8) {
                0..3 => {
                    let vouchers = (0..rng.random_range(1..4))
                        .map(|_| {
                            let lane = rng.random_range(0..6);
                            let cumulative = newest.entry(lane).or_default();
                            *cumulative += rng.random_range(0..500);
                            voucher(lane, *cumulative)
                        })
                        .collect();
                    world.redeem(vouchers);
                }
                3 => world.tell(Input::Tick),
                4 => world.empty_block(),
                5 => {
                    if rng.random_bool(0.2) {
                        world.mempool.clear();
                    }
                    if rng.random_bool(0.1) {
                        world.account.nonce += 1;
                    }
                    let _ = world.block_with(true, vec![]);
                    world.tell(Input::Resynchronised(Arc::new(world.state.clone())));
                }
                _ => world.block(),
            }
        }
        // The world calms down. What was given back is asked for again, as its owner does.
        (world.is_deaf, world.is_available) = (false, true);
        for _ in 0..3 {
            world.redeem(newest.iter().map(|(lane, cumulative)| voucher(*lane, *cumulative)).collect());
            for _ in 0..=VALID_BLOCKS + 5 {
                world.now_ms += 1000;
                world.block();
            }
        }
        for (lane, cumulative) in &newest {
            prop_assert_eq!(world.paid(&voucher(*lane, 0)), *cumulative);
            let lane = voucher(*lane, 0).voucher.lane_key();
            prop_assert_eq!(world.paid.get(&lane).copied().unwrap_or(0), *cumulative);
        }
        prop_assert!(world.submitter.is_idle());
    }
}
