//! The threads around the deciding core, and the handle by which the process speaks with it.

mod shell;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use chain_types::{
    AccountId, Balance, Policy, SignedToken, SigningKey, StreamId, Terms, lane::cost,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use sfu::ports::{Frame, SessionKey, SlotId, SlotUsage, UsageReport};

use crate::{
    decide::{Config, Counters, Decider, Input, Limits, PostError, Time, Usage},
    event::{self, SutantraEvent},
    log::LogOpenError,
    ports::{Admission, AdmissionId, Admit, Chain, ChainError, Outlets, Refusal},
    redeem::RedeemCounters,
};

/// Requests that wait for the deciding thread; who finds them full waits.
const REQUESTS_MAX: usize = 1024;
/// How long an answer is waited for: far longer than any turn lasts.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the operator chose.
pub struct MoneyConfig {
    /// Folder for the log of vouchers; made if there is none.
    pub home: PathBuf,
    /// Account that is paid.
    pub payee: AccountId,
    /// Signs BindAck and receipts.
    pub relay_key: SigningKey,
    /// SHA-256 of the relay's DTLS certificate.
    pub relay_fingerprint: [u8; 32],
    /// Signs redeems and pays their fees. It must be the payee's registered relay key, which
    /// [`MoneyConfig::relay_key`] is, or the payee's own: the chain takes vouchers from nobody else.
    pub fee_wallet: SigningKey,
    /// Between two vouchers, ms.
    pub cadence_ms: u32,
    /// How far a channel may be behind, in time of its rate, ms.
    pub grace_ms: u32,
    /// How long a paused session waits for money, s.
    pub pause_max_s: u32,
    /// Unreserved money that is borne for a channel, in time of its rate, s.
    pub exposure_seconds: u32,
    /// Creators whose granted viewers are served without payment.
    pub serve_free: Vec<AccountId>,
    /// No stream is served whose split leaves less, basis points.
    pub min_share_bps: u16,
}

/// Why MONEY does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its log cannot be read or made.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The chain gives nothing now.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The system gives no thread.
    #[error("no thread for the books: {0}")]
    Thread(#[from] std::io::Error),
    /// The cadence is out of range.
    #[error("a voucher each {0} ms is out of the range of 250 to 10,000 ms")]
    Cadence(u32),
    /// The chain would take no voucher from it.
    #[error("account {0} may not redeem: the fee wallet is the relay's key or the payee's")]
    FeeWallet(AccountId),
}

/// A voucher each so many milliseconds is out of the range that payers accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a voucher each {0} ms is out of the range of 250 to 10,000 ms")]
pub struct CadenceOutOfRange(pub u32);

/// What the chain says about a stream, for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its id.
    pub stream: StreamId,
    /// For people.
    pub title: String,
    /// Who registered it.
    pub creator: AccountId,
    /// Who may watch.
    pub policy: Policy,
    /// Units per second at full quality; nothing is charged but on `Paid`.
    pub price_per_second: u64,
    /// Version of the terms in force.
    pub terms_version: u32,
    /// Price of a ticket.
    pub ticket_price: Balance,
    /// Whether it has ended.
    pub is_ended: bool,
}

/// What a stream brought this relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Earnings {
    /// By vouchers, as far as their channels can pay.
    pub accepted: Balance,
    /// For what was served.
    pub owed: Balance,
    /// Paid out by the chain, its fee and the others' shares included.
    pub redeemed: Balance,
    /// Sessions that pay and are connected now.
    pub viewers: u32,
}

/// Reads the books on the deciding thread.
type Question = Box<dyn FnOnce(&Decider, Time) + Send>;

enum Request {
    Admit(Box<Admit>, Sender<Result<Admission, Refusal>>),
    PostFrames(SessionKey, Vec<u8>, Sender<Result<Vec<u8>, PostError>>),
    Tell(Input),
    Ask(Question),
    Stop,
}

/// The handle; a clone speaks with the same books. Its methods wait for one turn of the deciding
/// thread, about a millisecond: they are not for async threads.
#[derive(Clone)]
pub struct Money {
    requests: Sender<Request>,
    bus: event::Bus<SutantraEvent>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    redeem_counters: Arc<dyn Fn() -> RedeemCounters + Send + Sync>,
}

impl Money {
    /// Opens the books, follows the chain, begins to decide.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: MoneyConfig,
        chain: Arc<dyn Chain>,
        outlets: Box<dyn Outlets>,
        frames: Receiver<Frame>,
        usage: Receiver<UsageReport>,
    ) -> Result<Self, StartError> {
        if !chain_types::CADENCE_MS.contains(&config.cadence_ms) {
            return Err(StartError::Cadence(config.cadence_ms));
        }
        let fee_wallet = AccountId::from(&config.fee_wallet);
        if fee_wallet != config.payee && fee_wallet != AccountId::from(&config.relay_key) {
            return Err(StartError::FeeWallet(fee_wallet));
        }
        let (requests, received) = bounded(REQUESTS_MAX);
        let bus = event::Bus::new();
        let shell::Started { threads, redeem_counters } =
            shell::start(config, chain, outlets, frames, usage, received, bus.clone())?;
        Ok(Self { requests, bus, threads: Arc::new(Mutex::new(threads)), redeem_counters })
    }

    /// What is asked for a stream now; `None`: the chain does not know it, or it has ended.
    pub fn terms(&self, stream: StreamId) -> Option<Terms> {
        self.ask(move |decider, _| decider.terms(&stream)).flatten()
    }

    /// Decides whether a viewer may watch.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(&self, request: Admit) -> Result<Admission, Refusal> {
        let (answer, answered) = bounded(1);
        let stopped = Refusal::Books("it is stopping");
        self.requests
            .send(Request::Admit(Box::new(request), answer))
            .map_err(|_| stopped.clone())?;
        answered.recv_timeout(ANSWER_MAX).unwrap_or(Err(stopped))
    }

    /// The session of an admission exists.
    pub fn begun(&self, admission: AdmissionId, session: SessionKey, slot: SlotId) {
        self.tell(Input::Begun { admission, session, slot });
    }

    /// The session of an admission will not begin.
    pub fn abandoned(&self, admission: AdmissionId) {
        self.tell(Input::Abandoned { admission });
    }

    /// A session's transport is up.
    pub fn connected(&self, session: SessionKey) {
        self.tell(Input::Connected { session });
    }

    /// A session is over; with its last and complete usage.
    pub fn closed(&self, session: SessionKey, usage: Option<SlotUsage>) {
        self.tell(Input::Closed { session, usage: usage.as_ref().map(usage_of) });
    }

    /// Frames that a payer without a data channel sent by HTTP, as lengths and frames; the answer is
    /// the same.
    ///
    /// # Errors
    /// See [`PostError`].
    pub fn post_frames(&self, session: SessionKey, body: &[u8]) -> Result<Vec<u8>, PostError> {
        let (answer, answered) = bounded(1);
        self.requests
            .send(Request::PostFrames(session, body.to_vec(), answer))
            .map_err(|_| PostError::Unavailable)?;
        answered.recv_timeout(ANSWER_MAX).unwrap_or(Err(PostError::Unavailable))
    }

    /// What the chain says about a stream; `None`: nothing.
    pub fn stream_facts(&self, stream: StreamId) -> Option<StreamFacts> {
        self.ask(move |decider, _| stream_facts(decider, &stream)).flatten()
    }

    /// What a stream brought this relay so far.
    pub fn earnings(&self, stream: StreamId) -> Earnings {
        self.ask(move |decider, _| earnings(decider, &stream)).unwrap_or_default()
    }

    /// Whether a token lets its bearer publish a stream of the chain.
    ///
    /// # Errors
    /// The stream is unknown, or the token is wrong.
    pub fn publish_allowed(&self, stream: StreamId, token: &SignedToken) -> Result<(), Refusal> {
        let token = *token;
        self.ask(move |decider, now| decider.publish_allowed(now, &stream, &token))
            .unwrap_or(Err(Refusal::Books("it is stopping")))
    }

    /// Whether an account, or the bearer of a token, may meet a stream's viewers.
    ///
    /// # Errors
    /// The stream is unknown; or it is not theirs, with the terms where money would help.
    pub fn meeting_allowed(
        &self,
        stream: StreamId,
        account: Option<AccountId>,
        token: Option<&SignedToken>,
    ) -> Result<(), Refusal> {
        let token = token.copied();
        self.ask(move |decider, now| {
            decider.meeting_allowed(now, &stream, account.as_ref(), token.as_ref())
        })
        .unwrap_or(Err(Refusal::Books("it is stopping")))
    }

    /// Takes other limits while sessions run: new terms carry them, sessions go on.
    ///
    /// # Errors
    /// The cadence is out of range; then nothing changes.
    pub fn reconfigure(&self, limits: Limits) -> Result<(), CadenceOutOfRange> {
        if !chain_types::CADENCE_MS.contains(&limits.cadence_ms) {
            return Err(CadenceOutOfRange(limits.cadence_ms));
        }
        self.tell(Input::Reconfigured(Box::new(limits)));
        Ok(())
    }

    /// Events from now on.
    pub fn events(&self) -> event::Receiver<SutantraEvent> {
        self.bus.subscribe()
    }

    /// Where others tell what happens on the media's side.
    pub fn bus(&self) -> &event::Bus<SutantraEvent> {
        &self.bus
    }

    /// Counts of this moment; `None` while stopping.
    pub fn counters(&self) -> Option<Counters> {
        self.ask(|decider, _| decider.counters())
    }

    /// How redeeming goes.
    pub fn redeem_counters(&self) -> RedeemCounters {
        (self.redeem_counters)()
    }

    /// Height of the chain as the books know it.
    pub fn height(&self) -> Option<u64> {
        self.ask(|decider, _| decider.height()).flatten()
    }

    /// Ends the threads; what was accepted is on the disk when it returns. A second call does
    /// nothing.
    pub fn stop(&self) {
        // A thread that is gone needs no request.
        let _ = self.requests.send(Request::Stop);
        let threads: Vec<_> =
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the books has panicked");
            }
        }
    }

    fn tell(&self, input: Input) {
        if self.requests.send(Request::Tell(input)).is_err() {
            tracing::debug!("the books are closed");
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Decider, Time) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = bounded(1);
        let ask: Question = Box::new(move |decider: &Decider, now: Time| {
            // Nobody waits any more: nothing is lost.
            let _ = answer.send(question(decider, now));
        });
        self.requests.send(Request::Ask(ask)).ok()?;
        answered.recv_timeout(ANSWER_MAX).ok()
    }
}

impl MoneyConfig {
    fn decider(&self, chain_id: &str) -> Config {
        Config {
            chain_id: chain_id.to_owned(),
            payee: self.payee,
            relay_key: self.relay_key.clone(),
            relay_fingerprint: self.relay_fingerprint,
            cadence_ms: self.cadence_ms,
            grace_ms: self.grace_ms,
            pause_max_s: self.pause_max_s,
            exposure_seconds: self.exposure_seconds,
            serve_free: self.serve_free.clone(),
            min_share_bps: self.min_share_bps,
        }
    }
}

fn usage_of(slot: &SlotUsage) -> Usage {
    Usage {
        session: slot.session,
        served_ms: slot.served_ms,
        disputed_ms: slot.disputed_ms,
        sent_bytes: slot.sent_bytes,
        first_sent_ns: slot.first_sent,
        last_sent_ns: slot.last_sent,
    }
}

fn stream_facts(decider: &Decider, id: &StreamId) -> Option<StreamFacts> {
    let state = &decider.access()?.blockchain_state;
    let stream = state.stream(id)?;
    let terms = state.terms_at(id)?;
    Some(StreamFacts {
        stream: *id,
        title: stream.title.clone(),
        creator: stream.creator,
        policy: stream.policy,
        price_per_second: terms.rate_per_second,
        terms_version: terms.version,
        ticket_price: terms.ticket_price,
        is_ended: stream.ended.is_some(),
    })
}

fn earnings(decider: &Decider, stream: &StreamId) -> Earnings {
    let Some(access) = decider.access() else { return Earnings::default() };
    let state = &access.blockchain_state;
    let mut sum = Earnings::default();
    let add = |sum: Balance, part| sum.checked_add(part).unwrap_or(Balance::MAX);
    for (key, lane) in decider.book().iter().filter(|(key, _)| key.stream == *stream) {
        sum.accepted = add(sum.accepted, lane.paid().min(decider.payable(key)));
        sum.owed = add(sum.owed, cost(lane.rate.unwrap_or(0), lane.served_ms));
        sum.redeemed = add(sum.redeemed, state.paid(key));
        sum.viewers += decider.viewers_on(key) as u32;
    }
    sum
}
