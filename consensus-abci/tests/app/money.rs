//! Laws of money: none is made, none is lost, and the same blocks give the same state everywhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chain_types::{
    AccountId, Channel, ChannelId, LaneRecord, Params, Payload, Policy, ResultCode, SignedVoucher,
    SplitShares, StateKey, StreamId, StreamMetadata, Voucher,
};
use consensus_abci::{
    app::{App, EntryOutcome, StateSnapshot},
    application::Application,
};
use proptest::prelude::*;

use crate::world::*;

/// A fixed sequence from a seed (SplitMix64): the same test on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// Amounts of every size, up to more than an account has.
    fn amount(&mut self) -> u64 {
        let bits = match self.below(20) {
            0 => 41,
            _ => self.below(32),
        };
        self.below(1 << bits)
    }
}

/// A user of everything, who makes mistakes.
pub struct Chaos {
    pub dice: Dice,
    /// With who registered it.
    pub streams: Vec<(StreamId, &'static str)>,
    /// With who opened it.
    pub channels: Vec<(ChannelId, &'static str)>,
}

impl Chaos {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), streams: Vec::new(), channels: Vec::new() }
    }

    /// Of the newest; the creator or, now and then, somebody else.
    fn stream(&mut self) -> (StreamId, &'static str) {
        let newest = self.streams.len().saturating_sub(6);
        Self::pick(&mut self.dice, &self.streams[newest..], StreamId([9; 32]))
    }

    fn channel(&mut self) -> (ChannelId, &'static str) {
        let newest = self.channels.len().saturating_sub(12);
        Self::pick(&mut self.dice, &self.channels[newest..], ChannelId([9; 32]))
    }

    fn pick<T: Copy>(dice: &mut Dice, of: &[(T, &'static str)], none: T) -> (T, &'static str) {
        let stranger = dice.one_of(&NAMES);
        if of.is_empty() || dice.below(30) == 0 {
            return (none, stranger);
        }
        let (id, owner) = dice.one_of(of);
        (id, if dice.below(4) == 0 { stranger } else { owner })
    }

    fn name(&mut self) -> &'static str {
        self.dice.one_of(&NAMES)
    }

    fn split(&mut self) -> SplitShares {
        let creator_bps = self.dice.below(10_001) as u16;
        SplitShares {
            creator_bps,
            origin_bps: self.dice.below(10_001 - u64::from(creator_bps)) as u16,
        }
    }

    fn reserve(&mut self, height: u64) -> chain_types::ReserveRequest {
        let (name, amount) = (self.name(), self.dice.amount() / 64);
        keep(name, amount, height + self.dice.below(60))
    }

    /// Vouchers, and who presents them: their payee mostly, somebody else now and then.
    fn vouchers(&mut self) -> (&'static str, Payload) {
        let payee = self.name();
        let presenter = if self.dice.below(8) == 0 { self.name() } else { payee };
        let entry = |chaos: &mut Self| {
            let stream = match chaos.dice.below(10) {
                0 => StreamId::ZERO,
                _ => chaos.stream().0,
            };
            let mut voucher = voucher(chaos.channel().0, stream, chaos.dice.amount() / 64);
            voucher.lane = chaos.dice.below(3) as u32;
            voucher.terms_version = 1 + (chaos.dice.below(8) / 6) as u32;
            voucher.payee = if chaos.dice.below(20) == 0 { id(chaos.name()) } else { id(payee) };
            let mut bytes = signed(voucher);
            if chaos.dice.below(25) == 0 {
                bytes[200] ^= 1;
            }
            if chaos.dice.below(80) == 0 {
                bytes[112] = 0xff;
            }
            bytes
        };
        (presenter, redeem((0..1 + self.dice.below(6)).map(|_| entry(self)).collect()))
    }

    /// Who does what next.
    pub fn next(&mut self, world: &World) -> (&'static str, Payload) {
        let (anybody, height) = (self.name(), world.height);
        let ((stream, creator), (channel, payer)) = (self.stream(), self.channel());
        match self.dice.below(80) {
            0..=7 => {
                let to = if self.dice.below(10) == 0 { "stranger" } else { self.name() };
                (anybody, Payload::Transfer { to: id(to), amount: sut(self.dice.amount()) })
            }
            8 => {
                let policy = self.dice.one_of(&[Policy::Paid, Policy::Ticketed, Policy::AllowList]);
                let mut payload = register(policy);
                if let Payload::RegisterStream { split, origin_relay, .. } = &mut payload {
                    *split = self.split();
                    *origin_relay = self.dice.one_of(&[None, Some(id("origin"))]);
                }
                (anybody, payload)
            }
            9 => {
                let price = price(self.dice.amount());
                (creator, Payload::SetPrice { stream, price, from_height: 0 })
            }
            10 => (creator, Payload::SetSplit { stream, split: self.split(), from_height: 0 }),
            11 => (creator, Payload::SetIssuers { stream, issuers: vec![id(self.name())] }),
            12 => {
                let title = Some(self.dice.next().to_string());
                let (policy, origin_relay, codecs, ext) = (None, None, None, None);
                let payload =
                    Payload::UpdateStream { stream, title, policy, origin_relay, codecs, ext };
                (creator, payload)
            }
            13 => match self.dice.below(3) {
                0 => (creator, Payload::EndStream { stream }),
                _ => (creator, Payload::BumpRevocation { stream }),
            },
            14..=17 => {
                let payload = Payload::GrantAccess {
                    stream,
                    viewer: id(self.name()),
                    valid_until: world.time_ms + self.dice.below(100_000),
                    payment_status: 1,
                    max_layer: 255,
                };
                (creator, payload)
            }
            18..=20 => (creator, Payload::RevokeAccess { stream, viewer: id(self.name()) }),
            21..=25 => {
                let max_price = sut(self.dice.amount().max(400_000_000));
                (anybody, Payload::BuyAccess { stream, terms_version: 1, max_price })
            }
            26..=27 => {
                let relay = relay_facts(self.name());
                let payload = match self.dice.below(2) {
                    0 => Payload::RegisterRelay { relay, bond: sut(self.dice.amount()) },
                    _ => Payload::UpdateRelay { relay },
                };
                (anybody, payload)
            }
            28..=31 => {
                let payload = Payload::OpenChannel {
                    deposit: sut(1_990_000 + self.dice.amount() / 8),
                    voucher_key: id("session"),
                    expires_height: height + self.dice.below(200),
                    reserves: (0..self.dice.below(3)).map(|_| self.reserve(height)).collect(),
                };
                (anybody, payload)
            }
            32..=36 => {
                let payload = Payload::TopUp {
                    channel,
                    amount: sut(self.dice.amount() / 16),
                    reserves: (0..self.dice.below(2)).map(|_| self.reserve(height)).collect(),
                };
                (payer, payload)
            }
            37..=44 => {
                let reserve = self.reserve(height);
                let who = if self.dice.below(3) == 0 { anybody } else { payer };
                (who, Payload::Reserve { channel, reserve })
            }
            45..=71 => self.vouchers(),
            72..=73 => (payer, Payload::RequestClose { channel }),
            _ => (anybody, Payload::Finalize { channel }),
        }
    }
}

/// Who may present whose vouchers, as the transactions in their order say.
#[derive(Default)]
struct Presenters {
    /// By the relay's account.
    relay_keys: BTreeMap<AccountId, AccountId>,
    by_payees: u32,
    by_relay_keys: u32,
    refused: u32,
}

impl Presenters {
    /// A transaction that came into a block, with its outcome.
    fn check(&mut self, signer: &AccountId, payload: &Payload, is_done: bool, data: &[u8]) {
        match payload {
            Payload::RegisterRelay { relay, .. } | Payload::UpdateRelay { relay } if is_done => {
                self.relay_keys.insert(*signer, relay.relay_key);
            }
            Payload::Redeem { entries, .. } => {
                let first = entries.iter().find_map(|entry| SignedVoucher::decode(entry).ok());
                let Some(payee) = first.map(|signed| signed.voucher.payee) else { return };
                let outcomes = EntryOutcome::decode_all(data).expect("what the chain wrote");
                let is_payee = payee == *signer;
                let is_relay_key = self.relay_keys.get(&payee) == Some(signer);
                let not_owner = outcomes
                    .iter()
                    .filter(|outcome| outcome.refused == Some(ResultCode::NotOwner))
                    .count();
                if is_payee || is_relay_key {
                    assert_eq!(not_owner, 0);
                    *if is_payee { &mut self.by_payees } else { &mut self.by_relay_keys } += 1;
                } else if !outcomes.is_empty() {
                    assert!(!is_done && not_owner > 0);
                    self.refused += 1;
                }
            }
            _ => {}
        }
    }
}

/// Index keys that the state asks for.
fn check_indices(snapshot: &StateSnapshot) {
    let mut by_payee: BTreeSet<(AccountId, ChannelId)> = BTreeSet::new();
    let mut by_payer = BTreeSet::new();
    let mut open = BTreeSet::new();
    for entry in snapshot.records::<Channel>(StateKey::CHANNELS) {
        let (key, channel) = entry.expect("a sound chain");
        let StateKey::Channel(id) = key else { panic!("{key:?}") };
        by_payer.insert((channel.payer, id));
        if !channel.closed {
            open.insert(id);
            by_payee.extend(channel.reserves.iter().map(|kept| (kept.payee, id)));
        }
    }
    for entry in snapshot.records::<LaneRecord>(StateKey::LANES) {
        let (key, _) = entry.expect("a sound chain");
        let StateKey::Lane(lane) = key else { panic!("{key:?}") };
        assert!(open.contains(&lane.channel), "lanes go with their channel");
        by_payee.insert((lane.payee, lane.channel));
    }
    let by_creator: BTreeSet<_> = snapshot
        .records::<StreamMetadata>(StateKey::STREAMS)
        .map(|entry| entry.map(|(_, stream)| (stream.creator, stream.id)).expect("a sound chain"))
        .collect();
    let (mut payers, mut payees, mut creators) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for name in NAMES.iter().chain(&["stranger"]) {
        let account = id(name);
        payers.extend(
            snapshot.channels_by_payer(&account).map(|id| (account, id.expect("a sound chain"))),
        );
        payees.extend(
            snapshot.channels_by_payee(&account).map(|id| (account, id.expect("a sound chain"))),
        );
        creators.extend(
            snapshot.streams_by_creator(&account).map(|id| (account, id.expect("a sound chain"))),
        );
    }
    assert_eq!(payers, by_payer);
    assert_eq!(payees, by_payee);
    assert_eq!(creators, by_creator);
}

/// R3: 10,000 random transactions. [`World::block`] counts all money after each block; replaying
/// the blocks in another process's way (reopened here and there, garbage checked in between) gives
/// the same hash after each of them.
#[test]
fn ten_thousand_random_transactions_conserve_money_and_replay_to_the_same_hashes() {
    let mut params = Params::for_tests();
    params.terms_grace_blocks = 30;
    params.idle_stream_ms = 40_000;
    let mut world = World::with(params.clone());
    let mut chaos = Chaos::new(4);
    let mut hashes = Vec::new();
    let mut done: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let (mut count, mut entries_paid, mut entries_refused) = (0, 0, BTreeSet::new());
    let mut presenters = Presenters::default();
    while count < 10_000 {
        let mut nonces: BTreeMap<&str, u64> = BTreeMap::new();
        let mut txs = Vec::new();
        let mut kinds = Vec::new();
        let mut payloads = Vec::new();
        for _ in 0..1 + chaos.dice.below(40) {
            let (who, payload) = chaos.next(&world);
            let mut body = world.body(who, payload);
            let ahead = nonces.entry(who).or_default();
            body.nonce += *ahead;
            let is_right_nonce = chaos.dice.below(50) != 0;
            if is_right_nonce {
                *ahead += 1;
            } else {
                body.nonce += chaos.dice.below(3);
            }
            kinds.push((body.payload.kind(), who, body.nonce));
            payloads.push(body.payload.clone());
            let chain_id = if chaos.dice.below(100) == 0 { "another" } else { CHAIN_ID };
            let mut bytes = body.sign(&key(who), chain_id).encode();
            if chaos.dice.below(200) == 0 {
                bytes.truncate(chaos.dice.below(bytes.len() as u64) as usize);
            }
            txs.push(Bytes::from(bytes));
        }
        count += txs.len();
        let response = world.block(txs);
        for ((payload, (_, who, _)), result) in
            payloads.iter().zip(&kinds).zip(&response.tx_results)
        {
            presenters.check(&id(who), payload, result.code == 0, &result.data);
        }
        for ((kind, who, nonce), result) in kinds.into_iter().zip(&response.tx_results) {
            match kind {
                "register_stream" if result.code == 0 => {
                    chaos.streams.push((StreamId::of(&id(who), nonce), who));
                }
                "open_channel" if result.code == 0 => {
                    chaos.channels.push((ChannelId::of(&id(who), nonce), who));
                }
                _ => {}
            }
            let (accepted, refused) = done.entry(kind).or_default();
            *if result.code == 0 { accepted } else { refused } += 1;
            for outcome in EntryOutcome::decode_all(&result.data).unwrap() {
                match outcome.refused {
                    None => entries_paid += 1,
                    Some(code) => {
                        entries_refused.insert(code);
                    }
                }
            }
        }
        hashes.push(response.app_hash);
        if chaos.dice.below(16) == 0 {
            check_indices(&world.app.snapshot());
        }
    }
    check_indices(&world.app.snapshot());
    println!("{count} transactions in {} blocks: {done:?}", world.height);
    println!("{entries_paid} entries paid; refused for {entries_refused:?}");
    let Presenters { by_payees, by_relay_keys, refused, .. } = presenters;
    println!("redeems of payees {by_payees}, of relay keys {by_relay_keys}, of others {refused}");
    assert!(by_payees > 200 && by_relay_keys >= 5 && refused > 50);
    assert_eq!(done.len(), 19, "every kind was tried");
    for (kind, (accepted, refused)) in &done {
        assert!(*accepted >= 5 && *refused >= 5, "{kind}: {accepted} done, {refused} refused");
    }
    assert!(entries_paid > 500 && entries_refused.len() >= 8);

    let dir = Dir::new();
    let mut app = App::open(dir.path()).unwrap();
    app.init_chain(genesis(params)).unwrap();
    for (block, hash) in world.blocks.iter().zip(&hashes) {
        let first = app.finalize_block(block.clone()).unwrap();
        if chaos.dice.below(10) == 0 {
            // A crash before the commit: the block is executed again.
            drop(app);
            app = App::open(dir.path()).unwrap();
            assert_eq!(app.finalize_block(block.clone()).unwrap(), first);
        }
        assert_eq!(first.app_hash, hash);
        app.commit().unwrap();
    }
    assert_eq!(content(&app.snapshot()), content(&world.app.snapshot()));
}

/// What happens on one channel.
#[derive(Debug, Clone)]
enum Step {
    TopUp(u64),
    /// The payer: payee, amount, blocks.
    Reserve(usize, u64, u64),
    /// The payee lowers its own to this.
    Lower(usize, u64),
    /// Payee, lane, cumulative.
    Redeem(usize, u32, u64),
    Skip(u64),
}

const PAYEES: [&str; 3] = ["relay", "other", "origin"];
const DEPOSIT: u64 = 2_000_000;

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![0u64..5_000, 0u64..3_000_000];
    prop_oneof![
        2 => (0u64..500_000).prop_map(Step::TopUp),
        4 => (0usize..3, amount.clone(), 0u64..12).prop_map(|(p, a, b)| Step::Reserve(p, a, b)),
        2 => (0usize..3, amount.clone()).prop_map(|(p, a)| Step::Lower(p, a)),
        8 => (0usize..3, 0u32..2, amount).prop_map(|(p, l, c)| Step::Redeem(p, l, c)),
        2 => (0u64..6).prop_map(Step::Skip),
    ]
}

/// The rules of a channel as they are written down, with nothing clever: every question is
/// answered from all that happened.
#[derive(Default)]
struct Naive {
    deposits: u128,
    /// Payee, lane: paid totals.
    lanes: BTreeMap<(usize, u32), u128>,
    /// Payee: left, until.
    reserves: BTreeMap<usize, (u128, u64)>,
}

impl Naive {
    fn reserved(&self, height: u64) -> u128 {
        self.reserves.values().filter(|(_, until)| *until > height).map(|(left, _)| left).sum()
    }

    fn free(&self, height: u64) -> u128 {
        let paid: u128 = self.lanes.values().sum();
        self.deposits - paid - self.reserved(height)
    }

    fn own(&self, payee: usize, height: u64) -> Option<(u128, u64)> {
        self.reserves.get(&payee).copied().filter(|(left, until)| *until > height && *left > 0)
    }

    /// Whether it is done.
    fn reserve(&mut self, payee: usize, amount: u128, until: u64, height: u64) -> bool {
        let (left, kept_until) = self.own(payee, height).unwrap_or((0, 0));
        let fits = amount >= left && amount - left <= self.free(height);
        let is_good = until > height && until >= kept_until && amount > 0 && fits;
        if is_good {
            self.reserves.insert(payee, (amount, until));
        }
        is_good
    }

    fn lower(&mut self, payee: usize, amount: u128, height: u64) -> bool {
        match self.own(payee, height) {
            Some((left, until)) if amount <= left => {
                self.reserves.insert(payee, (amount, until));
                true
            }
            _ => false,
        }
    }

    /// What is paid.
    fn redeem(&mut self, payee: usize, lane: u32, cumulative: u128, height: u64) -> u128 {
        let paid = self.lanes.get(&(payee, lane)).copied().unwrap_or_default();
        if cumulative <= paid {
            return 0;
        }
        let own = self.own(payee, height).map_or(0, |(left, _)| left);
        let pays = (cumulative - paid).min(own + self.free(height));
        if pays > 0 {
            if let Some((left, _)) = self.reserves.get_mut(&payee) {
                *left -= pays.min(own);
            }
            self.lanes.insert((payee, lane), paid + pays);
        }
        pays
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// R3: adversarial orders of redeems, reserves and top-ups against the written rules.
    #[test]
    fn a_channel_does_what_the_naive_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        world.relays(&PAYEES, "submitter");
        let stream = world.register(Policy::Paid);
        let channel = world.open(DEPOSIT, &[]);
        let mut naive = Naive { deposits: u128::from(DEPOSIT), ..Naive::default() };
        for step in steps {
            let height = world.height + 1;
            match step {
                Step::TopUp(amount) => {
                    let payload = Payload::TopUp { channel, amount: sut(amount), reserves: vec![] };
                    world.done("viewer", payload);
                    naive.deposits += u128::from(amount);
                }
                Step::Reserve(payee, amount, blocks) => {
                    let reserve = keep(PAYEES[payee], amount, height + blocks);
                    let result = world.run("viewer", Payload::Reserve { channel, reserve });
                    let is_done = naive.reserve(payee, amount.into(), height + blocks, height);
                    prop_assert_eq!(result.code, if is_done { 0 } else { 11 }, "{}", result.log);
                }
                Step::Lower(payee, amount) => {
                    let until = naive.own(payee, height).map_or(height + 1, |(_, until)| until);
                    let reserve = keep(PAYEES[payee], amount, until);
                    let result = world.run(PAYEES[payee], Payload::Reserve { channel, reserve });
                    let is_done = naive.lower(payee, amount.into(), height);
                    prop_assert_eq!(result.code, if is_done { 0 } else { 11 }, "{}", result.log);
                }
                Step::Redeem(payee, lane, cumulative) => {
                    let voucher = Voucher {
                        payee: id(PAYEES[payee]),
                        lane,
                        ..voucher(channel, stream, cumulative)
                    };
                    let result = world.run("submitter", redeem(vec![signed(voucher)]));
                    let outcome = EntryOutcome::decode_all(&result.data).unwrap()[0];
                    let own = naive.own(payee, height).map_or(0, |(left, _)| left);
                    let paid = naive.lanes.get(&(payee, lane)).copied().unwrap_or_default();
                    let pays = naive.redeem(payee, lane, cumulative.into(), height);
                    prop_assert_eq!(outcome.paid.units(), pays);
                    // What a reserve covers is paid, whoever came first.
                    prop_assert!(pays >= own.min(u128::from(cumulative).saturating_sub(paid)));
                }
                Step::Skip(blocks) => world.skip(blocks),
            }
            let record = world.channel(&channel);
            prop_assert_eq!(record.free(world.height).units(), naive.free(world.height));
            prop_assert_eq!(record.deposits.units(), naive.deposits);
        }
        // Whatever happened, the payer gets back what nobody was paid.
        world.done("viewer", Payload::RequestClose { channel });
        world.skip(world.params().close_window_blocks);
        let result = world.done("viewer", Payload::Finalize { channel });
        let paid: u128 = naive.lanes.values().sum();
        let refund = attribute(&result, "channel_closed", "refund").parse::<u128>().unwrap();
        prop_assert_eq!(refund, naive.deposits - paid);
    }

    /// R3: a payer that signs no more than its pool holds, and reserves nothing beyond what each
    /// payee is owed, pays everybody in full whatever the order of vouchers.
    #[test]
    fn an_honest_pool_pays_everybody_in_full_in_any_order(
        totals in prop::collection::vec(1u64..1_000_000, 6),
        reserved in prop::collection::vec(0u64..=100, 3),
        vouchers in prop::collection::vec((0usize..6, 1u64..=100), 0..30),
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let mut world = World::new();
        world.relays(&PAYEES, "submitter");
        let stream = world.register(Policy::Paid);
        let deposit = totals.iter().sum::<u64>().max(2_000_000);
        // Two lanes for each of three payees.
        let reserves: Vec<_> = reserved
            .iter()
            .enumerate()
            .map(|(payee, per_cent)| {
                let owed = totals[payee] + totals[payee + 3];
                (PAYEES[payee], owed * per_cent / 100, 10_000)
            })
            .filter(|(_, amount, _)| *amount > 0)
            .collect();
        let channel = world.open(deposit, &reserves);
        let voucher = |lane: usize, cumulative| {
            let voucher = voucher(channel, stream, cumulative);
            signed(Voucher { payee: id(PAYEES[lane % 3]), lane: lane as u32, ..voucher })
        };
        let mut txs = Vec::new();
        let steps = vouchers.iter().map(|(lane, part)| (*lane, totals[*lane] * part / 100));
        let last = order.iter().map(|lane| (*lane, totals[*lane]));
        for (nonce, (lane, cumulative)) in steps.chain(last).enumerate() {
            let mut body = world.body("submitter", redeem(vec![voucher(lane, cumulative)]));
            body.nonce = nonce as u64;
            txs.push(Bytes::from(body.sign(&key("submitter"), CHAIN_ID).encode()));
        }
        for part in txs.chunks(7) {
            world.block(part.to_vec());
        }
        for (lane, total) in totals.iter().enumerate() {
            let key = chain_types::LaneKey {
                channel,
                payee: id(PAYEES[lane % 3]),
                stream,
                lane: lane as u32,
            };
            let paid = world.app.snapshot().lane(&key).unwrap().unwrap().paid;
            prop_assert_eq!(paid, sut(*total));
        }
    }
}
