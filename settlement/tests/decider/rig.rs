//! A decider on a small chain of its own, with viewers who hold keys, and a clock that is moved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chain_types::{
    AccessRecord, AccountId, Balance, Bind, BlockDelta, ChainEvent, Channel, ChannelId, Frame,
    Grants, LaneKey, LaneRecord, Params, PaymentStatus, Policy, Reserve, SignedBind, SignedToken,
    SignedVoucher, SigningKey, Split, StateChange, StreamId, StreamMetadata, StreamTerms, Terms,
    Token, TokenId, Voucher,
};
use settlement::{
    Admission, Admit, Refusal, Snapshot,
    decide::{Config, Decider, GateOrder, Input, Output, Time, Usage},
    event::SutantraEvent,
    log::LogRecord,
};
use sfu::ports::{SessionKey, SlotId};

pub const CHAIN: &str = "sutantra-test-1";
pub const RATE: u64 = 1_000_000;
/// Unix ms at the begin of a test.
pub const START_MS: u64 = 1_800_000_000_000;
const START_NS: u64 = 1_000_000_000_000;
pub const RELAY_FINGERPRINT: [u8; 32] = [0x66; 32];
pub const PAYEE: AccountId = AccountId([2; 32]);

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn account(seed: u8) -> AccountId {
    AccountId::from(&key(seed))
}

pub fn creator() -> SigningKey {
    key(200)
}

pub fn relay() -> SigningKey {
    key(201)
}

pub fn stream_id(n: u8) -> StreamId {
    StreamId([n; 32])
}

pub fn config() -> Config {
    Config {
        chain_id: CHAIN.to_owned(),
        payee: PAYEE,
        relay_key: relay(),
        relay_fingerprint: RELAY_FINGERPRINT,
        cadence_ms: 1000,
        grace_ms: 3000,
        pause_max_s: 60,
        exposure_seconds: 10,
        serve_free: Vec::new(),
        min_share_bps: 1000,
    }
}

/// The chain's rules as far as MONEY can see them.
pub struct MiniChain {
    pub height: u64,
    pub time_ms: u64,
    pub params: Params,
    pub streams: BTreeMap<StreamId, StreamMetadata>,
    pub access: BTreeMap<(StreamId, AccountId), AccessRecord>,
    pub channels: BTreeMap<ChannelId, Channel>,
    pub lanes: BTreeMap<LaneKey, LaneRecord>,
    changes: Vec<StateChange>,
    events: Vec<ChainEvent>,
}

impl MiniChain {
    fn new() -> Self {
        Self {
            height: 100,
            time_ms: START_MS,
            params: Params::for_tests(),
            streams: BTreeMap::new(),
            access: BTreeMap::new(),
            channels: BTreeMap::new(),
            lanes: BTreeMap::new(),
            changes: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn stream(&mut self, id: StreamId, edit: impl FnOnce(&mut StreamMetadata)) {
        let stream = self.streams.entry(id).or_insert_with(|| StreamMetadata {
            id,
            creator: AccountId::from(&creator()),
            title: "a stream".to_owned(),
            policy: Policy::Paid,
            terms: vec![StreamTerms {
                version: 1,
                rate_per_second: RATE,
                tier_bps: [2_500, 5_000, 10_000],
                from_height: 1,
                ticket_price: Balance::ZERO,
                ticket_ms: 0,
            }],
            split: vec![Split { version: 1, creator_bps: 7_000, origin_bps: 0 }],
            origin_relay: None,
            issuers: Vec::new(),
            rev_epoch: 0,
            codecs: Vec::new(),
            created: START_MS,
            ended: None,
            ext: BTreeMap::new(),
        });
        edit(stream);
        self.changes.push(StateChange::Stream(Box::new(stream.clone())));
        self.events.push(ChainEvent::StreamUpdated { stream: id });
    }

    /// A new price, in force `ahead` blocks after the next one.
    pub fn set_price(&mut self, id: StreamId, rate_per_second: u64, ahead: u64) {
        let from_height = self.height + 1 + ahead;
        self.stream(id, |stream| {
            let newest = stream.terms.last().expect("it has terms").clone();
            let version = newest.version + 1;
            stream.terms.push(StreamTerms { version, rate_per_second, from_height, ..newest });
        });
    }

    pub fn channel(&mut self, id: ChannelId, edit: impl FnOnce(&mut Channel)) {
        let channel = self.channels.get_mut(&id).expect("it was opened");
        edit(channel);
        let closing = channel.close_requested.is_some();
        self.changes.push(StateChange::Channel(id, Box::new(channel.clone())));
        if closing {
            self.events.push(ChainEvent::ChannelClosing { channel: id });
        }
    }

    pub fn open(&mut self, viewer: &Viewer, deposit: u64, reserve: u64) {
        let channel = Channel {
            payer: viewer.account(),
            voucher_key: AccountId::from(&viewer.voucher_key),
            deposits: Balance::of(deposit),
            redeemed: Balance::ZERO,
            reserves: vec![Reserve {
                payee: PAYEE,
                amount: Balance::of(reserve),
                until_height: self.height + 100_000,
            }],
            close_requested: None,
            closed: false,
            expires_height: self.height + 1_000_000,
        };
        self.channels.insert(viewer.channel, channel.clone());
        self.changes.push(StateChange::Channel(viewer.channel, Box::new(channel)));
    }

    pub fn grant(&mut self, stream: StreamId, viewer: AccountId, until_ms: u64) {
        self.record(stream, viewer, until_ms, PaymentStatus::Free.code());
    }

    pub fn record(&mut self, stream: StreamId, viewer: AccountId, valid_until: u64, status: u8) {
        let rev_epoch = self.streams[&stream].rev_epoch;
        let record =
            AccessRecord { valid_until, payment_status: status, max_layer: 255, rev_epoch };
        self.access.insert((stream, viewer), record);
        self.changes.push(StateChange::Access { stream, viewer, record: Some(record) });
        self.events.push(ChainEvent::AccessGranted { stream, viewer, valid_until });
    }

    pub fn revoke(&mut self, stream: StreamId, viewer: AccountId) {
        self.access.remove(&(stream, viewer));
        self.changes.push(StateChange::Access { stream, viewer, record: None });
        self.events.push(ChainEvent::AccessRevoked { stream, viewer });
    }

    /// The chain's Redeem: entry by entry, own reserve first; what it paid.
    pub fn redeem(&mut self, vouchers: &[SignedVoucher]) -> Balance {
        let mut sum = Balance::ZERO;
        for signed in vouchers {
            let voucher = signed.voucher;
            let Some(channel) = self.channels.get_mut(&voucher.channel) else { continue };
            if channel.closed || signed.verify(&channel.voucher_key, CHAIN).is_err() {
                continue;
            }
            let key = voucher.lane_key();
            let zero = LaneRecord {
                cum: Balance::ZERO,
                paid: Balance::ZERO,
                terms_version: voucher.terms_version,
            };
            let lane = self.lanes.entry(key).or_insert(zero);
            if voucher.cumulative <= lane.paid {
                continue;
            }
            let reserve = channel.reserve_of(&voucher.payee, self.height);
            let most = channel.available_to(&voucher.payee, self.height);
            let paid = voucher.cumulative.saturating_sub(lane.paid).min(most);
            let from_reserve = paid.min(reserve);
            for kept in channel.reserves.iter_mut().filter(|kept| kept.payee == voucher.payee) {
                kept.amount = kept.amount.saturating_sub(from_reserve);
            }
            channel.redeemed = channel.redeemed.checked_add(paid).expect("below its deposit");
            lane.cum = lane.cum.max(voucher.cumulative);
            lane.paid = lane.paid.checked_add(paid).expect("below its deposit");
            sum = sum.checked_add(paid).expect("below all deposits");
            self.changes.push(StateChange::Lane(key, Some(*lane)));
            self.changes.push(StateChange::Channel(voucher.channel, Box::new(channel.clone())));
            let none = Balance::ZERO;
            self.events.push(ChainEvent::ChannelRedeemed {
                lane: key,
                paid,
                fee: none,
                creator: none,
                origin: none,
                payee: paid,
            });
        }
        sum
    }

    pub fn block(&mut self, time_ms: u64) -> Arc<BlockDelta> {
        self.height += 1;
        self.time_ms = time_ms;
        Arc::new(BlockDelta {
            height: self.height,
            time_ms,
            changes: std::mem::take(&mut self.changes),
            events: std::mem::take(&mut self.events),
            results: Vec::new(),
        })
    }

    pub fn snapshot(&mut self) -> Snapshot {
        self.changes.clear();
        self.events.clear();
        let mut records = vec![StateChange::Params(Box::new(self.params.clone()))];
        records.extend(self.streams.values().map(|s| StateChange::Stream(Box::new(s.clone()))));
        let access = self.access.iter().map(|((stream, viewer), record)| StateChange::Access {
            stream: *stream,
            viewer: *viewer,
            record: Some(*record),
        });
        records.extend(access);
        let channels = self.channels.iter();
        records.extend(channels.map(|(id, c)| StateChange::Channel(*id, Box::new(c.clone()))));
        records.extend(self.lanes.iter().map(|(key, lane)| StateChange::Lane(*key, Some(*lane))));
        Snapshot { height: self.height, time_ms: self.time_ms, records }
    }
}

/// Somebody with an account, a channel, and a transport's certificate.
#[derive(Clone)]
pub struct Viewer {
    pub key: SigningKey,
    pub voucher_key: SigningKey,
    pub channel: ChannelId,
    pub fingerprint: [u8; 32],
}

impl Viewer {
    pub fn new(seed: u8) -> Self {
        let key = key(seed);
        let channel = ChannelId::of(&AccountId::from(&key), 0);
        Self { key, voucher_key: self::key(seed + 100), channel, fingerprint: [seed; 32] }
    }

    pub fn account(&self) -> AccountId {
        AccountId::from(&self.key)
    }

    /// A Bind for these terms that pays by the channel.
    pub fn bind(&self, terms: &Terms) -> Bind {
        Bind {
            token_id: TokenId::ZERO,
            stream: terms.stream,
            viewer: self.account(),
            holder_key: AccountId::from(&self.voucher_key),
            relay_key: AccountId::from(&relay()),
            client_fingerprint: self.fingerprint,
            relay_fingerprint: RELAY_FINGERPRINT,
            channel: self.channel,
            terms_hash: terms.hash(),
        }
    }

    pub fn signed_bind(&self, terms: &Terms) -> SignedBind {
        self.bind(terms).sign(&self.voucher_key, None, CHAIN)
    }

    /// A Bind for a ticket or an entry on a list: the account's own key.
    pub fn account_bind(&self, terms: &Terms) -> SignedBind {
        let holder_key = self.account();
        Bind { holder_key, channel: ChannelId::ZERO, ..self.bind(terms) }
            .sign(&self.key, None, CHAIN)
    }

    pub fn voucher(&self, terms: &Terms, cumulative: u128) -> Voucher {
        Voucher {
            channel: self.channel,
            payee: terms.payee,
            stream: terms.stream,
            lane: terms.lane(),
            terms_version: terms.terms_version,
            nonce: u64::try_from(cumulative).expect("a test's amount"),
            cumulative: Balance::new(cumulative).expect("a test's amount"),
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        }
    }

    pub fn pay(&self, terms: &Terms, cumulative: u128) -> SignedVoucher {
        self.voucher(terms, cumulative).sign(&self.voucher_key, CHAIN)
    }
}

pub fn token(stream: StreamId, viewer: &Viewer) -> Token {
    Token {
        token_id: TokenId([7; 16]),
        stream,
        viewer: viewer.account(),
        holder_key: viewer.account(),
        issuer_key: AccountId::from(&creator()),
        grants: Grants::SUBSCRIBE,
        max_layer: 1,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms: START_MS - 1000,
        valid_until_ms: START_MS + 60_000,
    }
}

pub fn signed(token: Token) -> SignedToken {
    token.sign(&creator(), CHAIN).expect("the creator's own")
}

/// A decider, its chain and its clock; outputs are kept by kind.
pub struct Rig {
    pub decider: Decider,
    pub chain: MiniChain,
    pub now: Time,
    pub gates: BTreeMap<SlotId, GateOrder>,
    pub sent: Vec<(SessionKey, Frame)>,
    pub closed: Vec<(SessionKey, u16, String)>,
    pub log: Vec<(u64, LogRecord)>,
    pub redeems: Vec<Vec<SignedVoucher>>,
    pub events: Vec<SutantraEvent>,
    /// The log syncs whatever it is given.
    pub syncs: bool,
    usage: BTreeMap<SessionKey, Usage>,
    next_session: u64,
}

impl Rig {
    /// Stream 1 is there, as `edit` leaves it.
    pub fn new(edit: impl FnOnce(&mut StreamMetadata)) -> Self {
        Self::with(config(), edit)
    }

    pub fn with(config: Config, edit: impl FnOnce(&mut StreamMetadata)) -> Self {
        let mut chain = MiniChain::new();
        chain.stream(stream_id(1), edit);
        let mut rig = Self::bare(Decider::new(config, []), chain);
        rig.resync();
        rig
    }

    pub fn bare(decider: Decider, chain: MiniChain) -> Self {
        Self {
            decider,
            chain,
            now: Time { mono_ns: START_NS, unix_ms: START_MS },
            gates: BTreeMap::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            log: Vec::new(),
            redeems: Vec::new(),
            events: Vec::new(),
            syncs: true,
            usage: BTreeMap::new(),
            next_session: 0,
        }
    }

    pub fn resync(&mut self) {
        let snapshot = self.chain.snapshot();
        self.input(Input::Snapshot(Box::new(snapshot)));
    }

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.decider.handle(self.now, input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        let mut synced = None;
        for output in out {
            match output {
                Output::Gate { slot, gate } => {
                    self.gates.insert(slot, gate);
                }
                Output::Send { session, frame } => {
                    self.sent.push((session, Frame::decode(&frame).expect("our own frame")));
                }
                Output::Close { session, last_frame } => {
                    let frame = Frame::decode(&last_frame).expect("our own frame");
                    let Frame::Error { code, message } = frame else { panic!("{frame:?}") };
                    self.closed.push((session, code, message));
                }
                Output::Append { sequence, record } => {
                    self.log.push((sequence, record));
                    synced = Some(sequence);
                }
                Output::Forget { .. } => {}
                Output::Redeem { payee, vouchers } => {
                    assert!(vouchers.iter().all(|signed| signed.voucher.payee == payee));
                    self.redeems.push(vouchers);
                }
                Output::Event(event) => self.events.push(event),
            }
        }
        if let Some(sequence) = synced.filter(|_| self.syncs) {
            self.input(Input::Synced { sequence });
        }
    }

    pub fn terms(&self) -> Terms {
        self.terms_of(stream_id(1))
    }

    pub fn terms_of(&self, stream: StreamId) -> Terms {
        self.decider.terms(&stream).expect("the chain has it")
    }

    pub fn admit(&mut self, admit: &Admit) -> Result<Admission, Refusal> {
        let mut out = Vec::new();
        let result = self.decider.admit(self.now, admit, &mut out);
        self.carry_out(out);
        result
    }

    /// A request of a viewer who pays `cumulative`.
    pub fn request(&self, viewer: &Viewer, cumulative: u128) -> Admit {
        self.request_for(stream_id(1), viewer, cumulative)
    }

    pub fn request_for(&self, stream: StreamId, viewer: &Viewer, cumulative: u128) -> Admit {
        let terms = self.terms_of(stream);
        Admit {
            stream,
            bind: Some(viewer.signed_bind(&terms)),
            voucher: Some(viewer.pay(&terms, cumulative)),
            token: None,
            client_fingerprint: viewer.fingerprint,
        }
    }

    /// Lets in, begins and connects.
    pub fn join(&mut self, admit: &Admit) -> SessionKey {
        let admission = self.admit(admit).expect("it is let in");
        let session = self.begin(&admission);
        self.input(Input::Connected { session });
        session
    }

    pub fn begin(&mut self, admission: &Admission) -> SessionKey {
        self.next_session += 1;
        let session = SessionKey(self.next_session);
        self.input(Input::Begun { admission: admission.id, session, slot: slot(session) });
        session
    }

    /// A viewer with a channel who pays two seconds and watches stream 1.
    pub fn watching(&mut self, seed: u8) -> (Viewer, SessionKey) {
        let viewer = Viewer::new(seed);
        self.chain.open(&viewer, 1_000_000_000, 900_000_000);
        self.block();
        let request = self.request(&viewer, 2 * u128::from(RATE));
        let session = self.join(&request);
        (viewer, session)
    }

    pub fn gate(&self, session: SessionKey) -> GateOrder {
        self.gates.get(&slot(session)).copied().unwrap_or(GateOrder::CLOSED)
    }

    /// Whether media could leave now.
    pub fn is_open(&self, session: SessionKey) -> bool {
        let gate = self.gate(session);
        gate.open && gate.valid_until_ns.is_none_or(|until| until > self.now.mono_ns)
    }

    pub fn block(&mut self) {
        let delta = self.chain.block(self.now.unix_ms);
        self.input(Input::Delta(delta));
    }

    pub fn after(&mut self, ms: u64) {
        self.now.mono_ns += ms * 1_000_000;
        self.now.unix_ms += ms;
    }

    /// Time passes with ticks, and nothing else happens.
    pub fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.after(50);
            self.input(Input::Tick);
        }
    }

    /// So much more media was served and disputed on a session, and reported.
    pub fn usage(&mut self, session: SessionKey, served_ms: u64, disputed_ms: u64) {
        let usage = self.total(session, served_ms, disputed_ms);
        self.input(Input::Usage(vec![usage]));
    }

    pub fn total(&mut self, session: SessionKey, served_ms: u64, disputed_ms: u64) -> Usage {
        let usage = self.usage.entry(session).or_insert(Usage {
            session,
            served_ms: 0,
            disputed_ms: 0,
            sent_bytes: 0,
            first_sent_ns: 0,
            last_sent_ns: 0,
        });
        usage.served_ms += served_ms;
        usage.disputed_ms += disputed_ms;
        usage.sent_bytes += (served_ms + disputed_ms) * 125;
        *usage
    }

    /// One frame of a session's peer; what it is sent in answer.
    pub fn frame(&mut self, session: SessionKey, frame: &Frame) -> Vec<Frame> {
        self.bytes(session, &frame.encode())
    }

    pub fn bytes(&mut self, session: SessionKey, bytes: &[u8]) -> Vec<Frame> {
        self.sent.clear();
        self.input(Input::Frame { session, bytes: bytes.into() });
        self.said(session)
    }

    pub fn pay(&mut self, session: SessionKey, voucher: SignedVoucher) -> Vec<Frame> {
        self.frame(session, &Frame::Voucher(Box::new(voucher)))
    }

    pub fn post(
        &mut self,
        session: SessionKey,
        body: &[u8],
    ) -> Result<Vec<u8>, settlement::decide::PostError> {
        let mut out = Vec::new();
        let result = self.decider.post_frames(self.now, session, body, &mut out);
        self.carry_out(out);
        result
    }

    /// What a session was sent since this was last asked for.
    pub fn said(&mut self, session: SessionKey) -> Vec<Frame> {
        let (own, others) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition::<Vec<_>, _>(|(to, _)| *to == session);
        self.sent = others;
        own.into_iter().map(|(_, frame)| frame).collect()
    }

    pub fn end_of(&self, session: SessionKey) -> Option<u16> {
        self.closed.iter().find(|(ended, ..)| *ended == session).map(|(_, code, _)| *code)
    }

    pub fn lane(&self, viewer: &Viewer, terms: &Terms) -> LaneKey {
        viewer.voucher(terms, 0).lane_key()
    }

    /// The vouchers that wait to be redeemed are, in a new block.
    pub fn settle(&mut self) -> Balance {
        let mut paid = Balance::ZERO;
        for batch in std::mem::take(&mut self.redeems) {
            paid = paid.checked_add(self.chain.redeem(&batch)).expect("below all deposits");
        }
        self.block();
        paid
    }

    /// The process dies and starts again with the log's records up to `keep`.
    pub fn crash(&mut self, keep: u64) {
        let mut newest: BTreeMap<LaneKey, LogRecord> = BTreeMap::new();
        for (_, record) in self.log.iter().filter(|(sequence, _)| *sequence <= keep) {
            let merged = newest.get(&record.lane()).map_or(*record, |old| old.merged(*record));
            newest.insert(record.lane(), merged);
        }
        // They stay in the file; the next process counts its own from 1.
        self.log = newest.values().map(|record| (0, *record)).collect();
        self.decider = Decider::new(config(), newest.into_values());
        self.gates.clear();
        self.usage.clear();
        self.sent.clear();
        self.resync();
    }
}

pub fn slot(session: SessionKey) -> SlotId {
    SlotId { shard: 0, index: u32::try_from(session.0).expect("few sessions"), generation: 1 }
}

/// Kinds of frames, for tests that care about these alone.
pub fn kinds(frames: &[Frame]) -> BTreeSet<u8> {
    frames.iter().map(Frame::kind).collect()
}
