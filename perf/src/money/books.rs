//! The deciding core alone, on one thread: a voucher's signature, its acceptance, ten thousand lanes.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context, bail, ensure};
use chain_types::{
    Balance, Channel, Frame, Params, Policy, Reserve, Split, StateChange, StreamId, StreamMetadata,
    StreamTerms, Terms,
};
use ed25519_dalek::{Signature, VerifyingKey};
use settlement::{
    Snapshot,
    decide::{Config, Decider, Input, Output, Time},
};
use sfu::ports::{SessionKey, SlotId};

use super::{
    figures::{Row, Samples, own_queued_ns, resident_bytes},
    viewer::{
        CHAIN, CREATOR, DEPOSIT, EXPOSURE_SECONDS, GRACE_MS, RATE, RELAY, RELAY_FINGERPRINT,
        RESERVE, Viewer, account, key,
    },
};
use crate::thread_clock::thread_cpu_ns;

const STREAM: StreamId = StreamId([7; 32]);
/// The log's thread says so after as many records at most.
const GROUP: u64 = 256;
/// Viewers whose admission is one figure.
const ADMITTED: u64 = 500;
const FIRST: &str = "a viewer let in among few: Bind and voucher in -> BindAck out";
const LAST: &str = "a viewer let in among all lanes";

/// Memory of the process, bytes, without lanes and with so many.
pub struct Resident {
    pub before: u64,
    pub with_lanes: u64,
    pub lanes: u64,
}

/// Lets `lanes` viewers in, each on a lane of its own, and takes `vouchers` from them in turn.
pub fn run(lanes: u64, vouchers: u64, rows: &mut Vec<Row>) -> anyhow::Result<Resident> {
    ensure!(lanes > 0 && lanes <= u64::from(u32::MAX), "at least one lane, and not that many");
    let before = resident_bytes()?;
    let mut books = Books::new(lanes);
    let terms = books.decider.terms(&STREAM).context("the stream was in the snapshot")?;
    let few = lanes.min(ADMITTED);
    rows.push(books.admissions(FIRST, 0..few, &terms)?);
    books.admissions("", few..lanes.saturating_sub(ADMITTED).max(few), &terms)?;
    let last = lanes.saturating_sub(ADMITTED).max(few)..lanes;
    if !last.is_empty() {
        rows.push(books.admissions(LAST, last, &terms)?);
    }
    let with_lanes = resident_bytes()?;
    rows.push(signatures(lanes, vouchers, &terms)?);
    rows.push(books.vouchers(lanes, vouchers, &terms)?);
    Ok(Resident { before, with_lanes, lanes })
}

/// ed25519's part alone: key, signature and 200 bytes are there.
fn signatures(lanes: u64, vouchers: u64, terms: &Terms) -> anyhow::Result<Row> {
    let mut samples = Samples::default();
    let queued_before = own_queued_ns();
    for at in 0..vouchers {
        let viewer = Viewer::new(at % lanes);
        let signed = viewer.pay(terms, terms.min_prepay.units())?;
        let preimage = signed.voucher.preimage(CHAIN);
        ensure!(preimage.as_slice().len() == 200, "a voucher's preimage has 200 bytes");
        let key = VerifyingKey::from_bytes(&viewer.account.0)?;
        let signature = Signature::from_bytes(&signed.signature);
        let begin = thread_cpu_ns();
        let verdict = key.verify_strict(preimage.as_slice(), &signature);
        samples.add_ns(thread_cpu_ns() - begin);
        verdict.context("its own signature")?;
    }
    Ok(Row {
        what: "verify_strict alone, 200 bytes",
        clock: "CPU",
        samples,
        queued_ns: queued_since(queued_before),
    })
}

fn queued_since(before: Option<u64>) -> Option<u64> {
    Some(own_queued_ns()?.saturating_sub(before?))
}

struct Books {
    decider: Decider,
    now: Time,
    out: Vec<Output>,
}

impl Books {
    /// On a chain with a paid stream and a channel for each viewer.
    fn new(lanes: u64) -> Self {
        let config = Config {
            chain_id: CHAIN.to_owned(),
            payee: account(RELAY),
            relay_key: key(RELAY),
            relay_fingerprint: RELAY_FINGERPRINT,
            cadence_ms: 1000,
            grace_ms: GRACE_MS,
            pause_max_s: 60,
            exposure_seconds: EXPOSURE_SECONDS,
            serve_free: Vec::new(),
            min_share_bps: 0,
        };
        let now = Time { mono_ns: 1 << 60, unix_ms: 1_800_000_000_000 };
        let mut books = Self { decider: Decider::new(config, []), now, out: Vec::new() };
        let mut records = vec![
            StateChange::Params(Box::new(Params::for_tests())),
            StateChange::Stream(Box::new(stream(now.unix_ms))),
        ];
        records.extend((0..lanes).map(channel));
        let snapshot = Snapshot { height: 100, time_ms: now.unix_ms, records };
        books.input(Input::Snapshot(Box::new(snapshot)));
        books
    }

    fn input(&mut self, input: Input) {
        self.out.clear();
        // Far from the deadlines of redeems and receipts, which come once in many vouchers.
        self.now.mono_ns += 1000;
        self.decider.handle(self.now, input, &mut self.out);
    }

    /// Bind and first voucher checked, the Bind acknowledged.
    fn admissions(
        &mut self,
        what: &'static str,
        viewers: Range<u64>,
        terms: &Terms,
    ) -> anyhow::Result<Row> {
        let mut samples = Samples::default();
        let queued_before = own_queued_ns();
        for at in viewers {
            let request = Viewer::new(at).paying(terms)?;
            self.out.clear();
            let begin = thread_cpu_ns();
            let admitted = self.decider.admit(self.now, &request, &mut self.out);
            samples.add_ns(thread_cpu_ns() - begin);
            let admission = admitted.with_context(|| format!("viewer {at} is not let in"))?.id;
            self.synced();
            let (session, slot) = place(at);
            self.input(Input::Begun { admission, session, slot });
            self.input(Input::Connected { session });
            let opens = |output: &Output| matches!(output, Output::Gate { gate, .. } if gate.open);
            ensure!(self.out.iter().any(opens), "viewer {at}: the gate is not opened");
        }
        Ok(Row { what, clock: "CPU", samples, queued_ns: queued_since(queued_before) })
    }

    /// From the frame's bytes to the order for the gate and the record for the log.
    fn vouchers(&mut self, lanes: u64, vouchers: u64, terms: &Terms) -> anyhow::Result<Row> {
        let mut samples = Samples::default();
        let queued_before = own_queued_ns();
        for at in 0..vouchers {
            let seconds = u128::from(at / lanes) + 1;
            let cumulative = terms.min_prepay.units() + seconds * u128::from(RATE);
            let voucher = Viewer::new(at % lanes).pay(terms, cumulative)?;
            let bytes = Frame::Voucher(Box::new(voucher)).encode().into_boxed_slice();
            let session = place(at % lanes).0;
            let begin = thread_cpu_ns();
            self.input(Input::Frame { session, bytes });
            samples.add_ns(thread_cpu_ns() - begin);
            let gates = self.out.iter().any(|output| matches!(output, Output::Gate { .. }));
            let appends = self.out.iter().any(|output| matches!(output, Output::Append { .. }));
            ensure!(gates && appends, "voucher {at} gave {:?}", self.out);
            if at.is_multiple_of(GROUP) {
                self.synced();
            }
        }
        if self.decider.counters().vouchers_accepted != lanes + vouchers {
            bail!("vouchers were lost: {:?}", self.decider.counters());
        }
        let what = "a voucher accepted: frame in -> gate order and log record out";
        Ok(Row { what, clock: "CPU", samples, queued_ns: queued_since(queued_before) })
    }

    /// The log has all that it was given.
    fn synced(&mut self) {
        let sequence = self.out.iter().rev().find_map(|output| match output {
            Output::Append { sequence, .. } => Some(*sequence),
            _ => None,
        });
        if let Some(sequence) = sequence {
            self.input(Input::Synced { sequence });
        }
    }
}

fn place(at: u64) -> (SessionKey, SlotId) {
    let index = u32::try_from(at).expect("bounded by the number of lanes");
    (SessionKey(at + 1), SlotId { shard: 0, index, generation: 1 })
}

fn stream(created: u64) -> StreamMetadata {
    let terms = StreamTerms {
        version: 1,
        rate_per_second: RATE,
        tier_bps: [2_500, 5_000, 10_000],
        from_height: 1,
        ticket_price: Balance::ZERO,
        ticket_ms: 0,
    };
    StreamMetadata {
        id: STREAM,
        creator: account(CREATOR),
        title: "A stream".to_owned(),
        policy: Policy::Paid,
        terms: vec![terms],
        split: vec![Split { version: 1, creator_bps: 7_000, origin_bps: 0 }],
        origin_relay: None,
        issuers: Vec::new(),
        rev_epoch: 0,
        codecs: Vec::new(),
        created,
        ended: None,
        ext: BTreeMap::new(),
    }
}

fn channel(who: u64) -> StateChange {
    let viewer = Viewer::new(who);
    let reserve =
        Reserve { payee: account(RELAY), amount: Balance::of(RESERVE), until_height: 100_000 };
    let channel = Channel {
        payer: viewer.account,
        voucher_key: viewer.account,
        deposits: Balance::of(DEPOSIT),
        redeemed: Balance::ZERO,
        reserves: vec![reserve],
        close_requested: None,
        closed: false,
        expires_height: 1_000_000,
    };
    StateChange::Channel(viewer.channel, Box::new(channel))
}
