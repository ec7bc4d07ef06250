//! The deciding core: inputs and virtual time in, gates, frames, records and events out.
//!
//! Pure: no clock, no thread, no file, no random number, no order that a hash gives. After each
//! input its outputs are to be carried out in their order; an [`Output::Append`] that was handed over
//! comes before the acknowledgement that rests on it.

mod admit;
mod chain;
mod gate;
mod pay;
mod redeem;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chain_types::{
    AccountId, Balance, BlockDelta, ChannelId, LaneKey, Policy, SignedVoucher, SigningKey,
    StreamId, StreamMetadata, StreamTerms, TIER_FULL, Terms, lane::min_prepay,
};
use sfu::ports::{SessionKey, SlotId};

use crate::{
    access::StreamAccessControl,
    book::Book,
    event::SutantraEvent,
    lane::Disputes,
    log::LogRecord,
    ports::{AdmissionId, Snapshot},
};

pub use pay::PostError;
use session::{Admitted, Ended, Session};

/// Sessions that one lane pays for at a time.
pub const LANE_SESSIONS_MAX: usize = 4;
/// An admission whose session has not begun after this time is void, ns.
pub const ADMISSION_NS: u64 = 30_000_000_000;
/// How long after its end a session is remembered, ns: its URL answers 402, its last usage counts.
pub const ENDED_NS: u64 = 60_000_000_000;
/// Between two acknowledgements that no voucher asked for, ns.
pub const ACK_NS: u64 = 1_000_000_000;
/// Between two requests for payment of one who is late, ns.
pub const REQUEST_NS: u64 = 500_000_000;
/// Between two receipts, ns.
pub const RECEIPT_NS: u64 = 60_000_000_000;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Of the monotonic clock, ns.
    pub mono_ns: u64,
    /// Unix ms.
    pub unix_ms: u64,
}

impl Time {
    /// The monotonic moment of a unix one; what is past is now.
    fn mono_of(self, unix_ms: u64) -> u64 {
        let ahead_ms = unix_ms.saturating_sub(self.unix_ms);
        self.mono_ns.saturating_add(ahead_ms.saturating_mul(1_000_000))
    }
}

/// The relay's own choices.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of the chain that is followed.
    pub chain_id: String,
    /// Account that is paid.
    pub payee: AccountId,
    /// Signs BindAck and receipts.
    pub relay_key: SigningKey,
    /// SHA-256 of the relay's DTLS certificate.
    pub relay_fingerprint: [u8; 32],
    /// Between two vouchers, ms.
    pub cadence_ms: u32,
    /// How far a channel may be behind, in time of its rate, ms.
    pub grace_ms: u32,
    /// How long a paused session waits, s.
    pub pause_max_s: u32,
    /// Unreserved money that is borne for a channel, in time of its rate, s.
    pub exposure_seconds: u32,
    /// Creators whose granted viewers are served without payment.
    pub serve_free: Vec<AccountId>,
    /// No stream is served whose split leaves less, basis points.
    pub min_share_bps: u16,
}

/// What the operator may change while sessions run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// As [`Config::cadence_ms`]; a running payer keeps the cadence that it was told.
    pub cadence_ms: u32,
    /// As [`Config::grace_ms`], also for running sessions.
    pub grace_ms: u32,
    /// As [`Config::exposure_seconds`].
    pub exposure_seconds: u32,
    /// As [`Config::serve_free`].
    pub serve_free: Vec<AccountId>,
    /// As [`Config::min_share_bps`], for admissions from now on.
    pub min_share_bps: u16,
}

/// What one session was sent since it began: absolute values, so that a lost report costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub session: SessionKey,
    /// Half-second slots that were served, ms.
    pub served_ms: u64,
    /// Slots of which RTCP says that nothing arrived, ms.
    pub disputed_ms: u64,
    /// RTP payload, bytes.
    pub sent_bytes: u64,
    /// First packet since the gate was last opened, monotonic ns; 0 = none.
    pub first_sent_ns: u64,
    /// Newest packet, monotonic ns; 0 = none.
    pub last_sent_ns: u64,
}

/// What happens to MONEY. Requests that are answered are methods: [`Decider::admit`],
/// [`Decider::post_frames`].
#[derive(Debug, Clone)]
pub enum Input {
    /// The chain's records, at first and after a gap.
    Snapshot(Box<Snapshot>),
    /// The next block, after its commit.
    Delta(Arc<BlockDelta>),
    /// An admitted viewer's session exists.
    Begun {
        /// As [`Decider::admit`] gave it.
        admission: AdmissionId,
        /// The session.
        session: SessionKey,
        /// Its gate.
        slot: SlotId,
    },
    /// It will not begin.
    Abandoned {
        /// As [`Decider::admit`] gave it.
        admission: AdmissionId,
    },
    /// ICE and DTLS are up.
    Connected {
        /// The session.
        session: SessionKey,
    },
    /// A session is over.
    Closed {
        /// The session.
        session: SessionKey,
        /// All that it was sent.
        usage: Option<Usage>,
    },
    /// A frame of its pay channel.
    Frame {
        /// The session.
        session: SessionKey,
        /// As it came.
        bytes: Box<[u8]>,
    },
    /// What sessions were sent.
    Usage(Vec<Usage>),
    /// The log has all records up to this one on the disk.
    Synced {
        /// Of an [`Output::Append`].
        sequence: u64,
    },
    /// The log cannot be written.
    LogFailed {
        /// Why.
        reason: String,
    },
    /// It can be written again.
    LogRecovered,
    /// The operator chose other limits: each session is looked at again at once.
    Reconfigured(Box<Limits>),
    /// Time has passed.
    Tick,
}

/// The gate of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateOrder {
    /// Media may flow.
    pub open: bool,
    /// Highest layer; 255 for all.
    pub layer_cap: u8,
    /// When it closes by itself, monotonic ns; `None`: not before another order.
    pub valid_until_ns: Option<u64>,
}

impl GateOrder {
    /// Shut.
    pub const CLOSED: Self = Self { open: false, layer_cap: 0, valid_until_ns: None };
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Set a gate.
    Gate {
        /// Whose.
        slot: SlotId,
        /// How.
        gate: GateOrder,
    },
    /// Send a frame on the pay channel.
    Send {
        /// To whom.
        session: SessionKey,
        /// The frame.
        frame: Vec<u8>,
    },
    /// End a session.
    Close {
        /// Which.
        session: SessionKey,
        /// Sent before.
        last_frame: Vec<u8>,
    },
    /// Write a record to the log.
    Append {
        /// Counts from 1; [`Input::Synced`] names the last that is safe.
        sequence: u64,
        /// The record.
        record: LogRecord,
    },
    /// A channel is finalized: the log need not keep its vouchers.
    Forget {
        /// Which.
        channel: ChannelId,
    },
    /// Have these paid out by the chain.
    Redeem {
        /// Who is paid; one for all.
        payee: AccountId,
        /// At most [`chain_types::params::REDEEM_ENTRIES_MAX`].
        vouchers: Vec<SignedVoucher>,
    },
    /// Tell who follows.
    Event(SutantraEvent),
}

/// Counts for operators, from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Vouchers that raised a lane.
    pub vouchers_accepted: u64,
    /// Vouchers that were known, or older than the known one.
    pub vouchers_stale: u64,
    /// Vouchers with a wrong signature, channel, payee, stream or lane.
    pub vouchers_invalid: u64,
    /// Sum of what vouchers raised lanes by, units.
    pub accepted_units: u128,
    /// Sum of what the chain paid out for this relay, units; also what others submitted.
    pub redeemed_units: u128,
    /// Batches that were handed over to be redeemed.
    pub redeems: u64,
    /// Requests that were answered 402.
    pub payment_required: u64,
    /// Admissions.
    pub admitted: u64,
    /// Admissions that were refused for another reason than payment.
    pub refused: u64,
    /// Gates opened or closed because of the chain.
    pub gate_flips_chain: u64,
    /// Because of a voucher.
    pub gate_flips_voucher: u64,
    /// Because time passed, by usage or a deadline.
    pub gate_flips_time: u64,
    /// Sessions now, by [`chain_types::LaneState`]'s number.
    pub sessions_by_state: [u64; 6],
    /// Owed and neither redeemed nor reserved, of all channels, units.
    pub exposure_units: u128,
    /// Whether the books cannot be written now.
    pub is_books_unsafe: bool,
}

/// What made a gate change, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Chain,
    Voucher,
    Time,
}

/// See the module.
#[derive(Debug)]
pub struct Decider {
    config: Config,
    relay_account: AccountId,
    /// `None` until the chain was read.
    access: Option<StreamAccessControl>,
    book: Book,
    /// Why the log cannot be written.
    books_fault: Option<String>,
    sessions: BTreeMap<SessionKey, Session>,
    admissions: BTreeMap<AdmissionId, Admitted>,
    next_admission: u64,
    ended: BTreeMap<SessionKey, Ended>,
    /// By channel, for as long as something was disputed on it within a minute.
    disputes: BTreeMap<ChannelId, Disputes>,
    /// When each session has to be looked at again, ns.
    wakes: BTreeSet<(u64, SessionKey)>,
    /// Lanes of sessions that ended unpaid.
    redeem_soon: BTreeSet<LaneKey>,
    redeem_at_ns: u64,
    /// When each payee's newest batch was handed over, ns.
    redeemed_at_ns: BTreeMap<AccountId, u64>,
    counters: Counters,
}

impl Decider {
    /// With the books as the log kept them.
    pub fn new(config: Config, records: impl IntoIterator<Item = LogRecord>) -> Self {
        Self {
            relay_account: AccountId::from(&config.relay_key),
            config,
            access: None,
            book: Book::restore(records),
            books_fault: None,
            sessions: BTreeMap::new(),
            admissions: BTreeMap::new(),
            next_admission: 0,
            ended: BTreeMap::new(),
            disputes: BTreeMap::new(),
            wakes: BTreeSet::new(),
            redeem_soon: BTreeSet::new(),
            redeem_at_ns: 0,
            redeemed_at_ns: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input; what follows from it is appended to `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Snapshot(snapshot) => self.snapshot(now, &snapshot, out),
            Input::Delta(delta) => self.delta(now, &delta, out),
            Input::Begun { admission, session, slot } => {
                self.begun(now, admission, session, slot, out);
            }
            Input::Abandoned { admission } => {
                self.admissions.remove(&admission);
            }
            Input::Connected { session } => self.connected(now, session, out),
            Input::Closed { session, usage } => self.closed(now, session, usage, out),
            Input::Frame { session, bytes } => self.frame(now, session, &bytes, out),
            Input::Usage(usage) => self.usage(now, &usage, out),
            Input::Synced { sequence } => self.book.synced(sequence),
            Input::LogFailed { reason } => self.log_failed(now, reason, out),
            Input::LogRecovered => self.log_recovered(now, out),
            Input::Reconfigured(limits) => self.reconfigured(now, *limits, out),
            Input::Tick => {}
        }
        self.time_passed(now, out);
    }

    fn reconfigured(&mut self, now: Time, limits: Limits, out: &mut Vec<Output>) {
        // No `..`: a limit that is not taken over does not compile.
        let Limits { cadence_ms, grace_ms, exposure_seconds, serve_free, min_share_bps } = limits;
        self.config.cadence_ms = cadence_ms;
        self.config.grace_ms = grace_ms;
        self.config.exposure_seconds = exposure_seconds;
        self.config.serve_free = serve_free;
        self.config.min_share_bps = min_share_bps;
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.evaluate(now, session, Cause::Time, out);
        }
    }

    /// When [`Input::Tick`] is needed at the latest, monotonic ns.
    pub fn next_deadline_ns(&self) -> u64 {
        let wake = self.wakes.first().map_or(u64::MAX, |(at, _)| *at);
        wake.min(self.redeem_at_ns)
    }

    fn time_passed(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((at, session)) = self.wakes.first().copied()
            && at <= now.mono_ns
        {
            self.wakes.remove(&(at, session));
            self.evaluate(now, session, Cause::Time, out);
        }
        self.admissions.retain(|_, admitted| admitted.void_at_ns > now.mono_ns);
        self.ended.retain(|_, ended| ended.forget_at_ns > now.mono_ns);
        if now.mono_ns >= self.redeem_at_ns {
            self.disputes.retain(|_, disputes| disputes.window.sum_ms(now.mono_ns) > 0);
            self.redeem(now, out);
        }
    }

    /// What is asked for a stream now; `None`: the chain does not know it, or it has ended.
    pub fn terms(&self, stream: &StreamId) -> Option<Terms> {
        let state = &self.access.as_ref()?.blockchain_state;
        let stream = state.stream(stream).filter(|stream| stream.ended.is_none())?;
        Some(self.terms_of(stream, stream.terms_at(state.height())?))
    }

    /// One version of a stream's terms, as this relay asks for them.
    fn terms_of(&self, stream: &StreamMetadata, terms: &StreamTerms) -> Terms {
        let rate = match stream.policy {
            Policy::Paid => terms.rate(TIER_FULL).unwrap_or(u64::MAX),
            Policy::Free | Policy::Ticketed | Policy::AllowList => 0,
        };
        let fee_per_voucher = self
            .access
            .as_ref()
            .map_or(Balance::ZERO, |access| access.blockchain_state.params().fee_per_voucher);
        let Config { payee, relay_fingerprint, cadence_ms, grace_ms, pause_max_s, .. } =
            &self.config;
        Terms {
            stream: stream.id,
            payee: *payee,
            relay_key: self.relay_account,
            // `AccountId` writes 32 bytes in lower-case hex.
            relay_fp: AccountId(*relay_fingerprint).to_string(),
            terms_version: terms.version,
            rate,
            tier: TIER_FULL,
            cadence_ms: *cadence_ms,
            grace_ms: *grace_ms,
            pause_max_s: *pause_max_s,
            min_prepay: min_prepay(rate, *cadence_ms, fee_per_voucher),
        }
    }

    /// Height of the chain as it is known here; `None` until it was read.
    pub fn height(&self) -> Option<u64> {
        Some(self.access.as_ref()?.blockchain_state.height())
    }

    /// Who may watch, and who does; `None` until the chain was read.
    pub fn access(&self) -> Option<&StreamAccessControl> {
        self.access.as_ref()
    }

    /// The books.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Sessions that are connected, of those that a lane pays for.
    pub fn viewers_on(&self, lane: &LaneKey) -> usize {
        let keys = self.book.get(lane).into_iter().flat_map(|lane| &lane.sessions);
        let sessions = keys.filter_map(|key| self.sessions.get(key));
        sessions.filter(|session| session.is_connected).count()
    }

    /// Counts, with those of this moment.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for session in self.sessions.values() {
            counters.sessions_by_state[session.machine.state() as usize] += 1;
        }
        counters.exposure_units = self.uncovered_units();
        counters.is_books_unsafe = self.books_fault.is_some();
        counters
    }

    fn uncovered_units(&self) -> u128 {
        let Some(access) = &self.access else { return 0 };
        let channels: BTreeSet<_> = self.book.iter().map(|(key, _)| key.channel).collect();
        channels
            .iter()
            .map(|channel| {
                let lanes = self.book.of_channel(channel);
                crate::exposure::uncovered(&access.blockchain_state, channel, lanes).units()
            })
            .fold(0, u128::saturating_add)
    }

    fn is_served_free(&self, creator: &AccountId) -> bool {
        self.config.serve_free.contains(creator)
    }

    fn pause_max_ns(&self) -> u64 {
        u64::from(self.config.pause_max_s) * 1_000_000_000
    }
}
