//! The payer of one session: which vouchers it signs, when, and when it stops.
//!
//! It never signs more than [`lane::signed_total`] of what the relay says it served, bounded by what
//! arrived here; only the first voucher of a session may reach the relay's prepayment instead, and
//! until media has come it is the only one. So a relay that sends nothing gets two cadences, once.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use chain_types::{
    AccountId, Balance, Bind, ChannelId, Frame, GateReason, LaneKey, LaneState, PayAck, PayReq,
    QualityReport, Receipt, SignedVoucher, StreamMetadata, Terms, TermsRefused, TokenId, Voucher,
    lane,
};
use sha2::{Digest, Sha256};

use crate::{
    ledger::{Room, RoomLimit},
    offer::LaneDue,
    pool::{Basis, LaneSums},
};

/// Between two quality reports.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);
/// A rate that rises by more than this over what the person agreed to is not paid, percent.
const RISE_PERCENT: u128 = 10;
/// A price that was replaced this many blocks ago or less may still be asked: heights travel.
const REPLACED_BLOCKS_MAX: u64 = 20;
/// How long a relay may ask for more than it is paid for before the payer leaves.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);
/// What may be forgiven of served time that did not arrive: what a relay serves into a broken
/// connection before it notices, and this share of all that did arrive. So a relay that breaks
/// connections on purpose gains little.
const FORGIVEN_SHARE: u64 = 10;
/// One session on a lane: a pool has one writer, and a writer one session.
const SESSIONS: u32 = 1;

/// Why the payer does not pay, each with what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The terms against the chain.
    #[error("{0}: do not pay it, watch through another relay")]
    Terms(#[from] TermsRefused),
    /// The terms are for another stream.
    #[error("the relay asks to be paid for another stream: do not pay it")]
    OtherStream,
    /// The chain has no relay of this account.
    #[error("the chain knows no relay {0}: watch through a registered one")]
    UnknownRelay(AccountId),
    /// A version that is no longer, or not yet, in force.
    #[error("the relay asks for price version {0}, which is not in force: try again in a moment")]
    VersionPast(u32),
    /// The certificate's fingerprint is no fingerprint.
    #[error("the relay's terms name no certificate: tell its operator")]
    Fingerprint,
    /// Dearer than what the person agreed to.
    #[error(
        "the price rises to {asked} units a second, agreed were {agreed}: watch again to agree to it"
    )]
    Dearer {
        /// Units per second.
        asked: u64,
        /// Units per second.
        agreed: u64,
    },
    /// Somebody else's signature or certificate.
    #[error(
        "{0}: somebody may stand between you and the relay; nothing was played, try another network"
    )]
    Tampered(&'static str),
    /// More is asked than was sent.
    #[error(
        "the relay wants {due} units where its media and prepayment come to {allowed}: watch through another relay, or with a new pool if your connection broke"
    )]
    Claim {
        /// By the relay, cumulative.
        due: Balance,
        /// By the rules, cumulative.
        allowed: Balance,
    },
    /// Deposit or caps.
    #[error("{}", .0.advice())]
    Room(RoomLimit),
    /// The relay ended it.
    #[error("the relay ended the session ({code}): {message}")]
    Ended {
        /// HTTP's number with 4000 added.
        code: u16,
        /// Its sentence.
        message: String,
    },
}

/// What the chain says about a stream and the relay that wants to be paid for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFacts {
    /// Height at which it was asked.
    pub height: u64,
    /// The stream.
    pub stream: StreamMetadata,
    /// The account that is paid.
    pub payee: AccountId,
    /// The key that the chain has for it; `None`: no relay.
    pub relay_key: Option<AccountId>,
    /// Of the fee table.
    pub fee_per_voucher: Balance,
}

/// Terms that were held against the chain: the only ones that are bound or paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    terms: Terms,
    relay_fingerprint: [u8; 32],
}

impl ChainFacts {
    /// Checks what a relay asks.
    ///
    /// # Errors
    /// See [`Stop`].
    pub fn agree(&self, terms: Terms) -> Result<Agreed, Stop> {
        if terms.stream.is_zero() || terms.stream != self.stream.id {
            return Err(Stop::OtherStream);
        }
        let relay_key = self.relay_key.filter(|_| terms.payee == self.payee);
        let relay_key = relay_key.ok_or(Stop::UnknownRelay(terms.payee))?;
        terms.check(&self.stream, &relay_key, self.fee_per_voucher)?;
        let oldest = self.height.saturating_sub(REPLACED_BLOCKS_MAX);
        let replaced = self.stream.replaced_at(terms.terms_version);
        if replaced.is_some_and(|height| height <= oldest) {
            return Err(Stop::VersionPast(terms.terms_version));
        }
        let fingerprint: AccountId = terms.relay_fp.parse().map_err(|_| Stop::Fingerprint)?;
        Ok(Agreed { terms, relay_fingerprint: fingerprint.0 })
    }
}

impl Agreed {
    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// SHA-256 of the certificate that the relay must show.
    pub fn relay_fingerprint(&self) -> [u8; 32] {
        self.relay_fingerprint
    }

    /// Whether an answer comes from the relay of these terms: `bind_ack` is its signature over
    /// `bind`, `shown` the fingerprint of the certificate in its SDP.
    ///
    /// # Errors
    /// [`Stop::Tampered`].
    pub fn check_answer(
        &self,
        bind: &Bind,
        bind_ack: Option<[u8; 64]>,
        shown: [u8; 32],
        chain_id: &str,
    ) -> Result<(), Stop> {
        if shown != self.relay_fingerprint {
            return Err(Stop::Tampered("the answer shows another certificate than the terms name"));
        }
        let ack = bind_ack.ok_or(Stop::Tampered("the relay did not acknowledge the bind"))?;
        bind.verify_ack(&ack, chain_id).map_err(|_| {
            Stop::Tampered("the bind was acknowledged with another key than the relay's")
        })
    }

    /// What `who` signs to watch under these terms.
    pub fn bind(&self, who: &Identity) -> Bind {
        Bind {
            token_id: who.token_id,
            stream: self.terms.stream,
            viewer: who.viewer,
            holder_key: who.holder_key,
            relay_key: self.terms.relay_key,
            client_fingerprint: who.client_fingerprint,
            relay_fingerprint: self.relay_fingerprint,
            channel: who.channel,
            terms_hash: self.terms.hash(),
        }
    }
}

/// Who watches, through which transport, and what pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub viewer: AccountId,
    /// Signs the Bind: the token's holder, else the voucher key, else the account.
    pub holder_key: AccountId,
    /// Zeros: no token.
    pub token_id: TokenId,
    /// Zeros: nobody pays.
    pub channel: ChannelId,
    /// Of the own DTLS certificate.
    pub client_fingerprint: [u8; 32],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Sign and send a Bind to new terms.
    Bind(Bind),
    /// Write down, sign, send.
    Pay {
        /// What to sign.
        voucher: Voucher,
        /// To be kept with it.
        basis: Basis,
    },
    /// Send the newest voucher again: the relay does not know it.
    Resend,
    /// The relay knows a newer voucher of ours: keep its sums.
    Raise(Box<SignedVoucher>),
    /// Ask the chain again and hand the facts to [`Payer::handle_chain`].
    AskChain,
    /// New terms that are not agreed to; the present ones hold on as long as they do.
    Declined(Stop),
    /// Sign nothing more, and leave.
    Stop(Stop),
}

fn payable_ms(sums: &LaneSums) -> u64 {
    let arrived_ms = lane::payable_ms(sums.served_ms, sums.media_ms);
    arrived_ms.saturating_add(sums.forgiven_ms).min(sums.served_ms)
}

/// After a session that was not ended in order: accepts what the relay served into the broken
/// connection, two cadences and the grace at most. Once for each such session.
fn forgive(sums: &mut LaneSums, terms: &Terms) {
    if !std::mem::take(&mut sums.is_open) {
        return;
    }
    let once_ms = 2 * u64::from(terms.cadence_ms) + u64::from(terms.grace_ms);
    let most_ms = once_ms.saturating_add(sums.media_ms / FORGIVEN_SHARE);
    let missing_ms = sums.served_ms.saturating_sub(payable_ms(sums)).min(once_ms);
    sums.forgiven_ms = sums.forgiven_ms.saturating_add(missing_ms).min(most_ms);
}

/// One lane of the session.
#[derive(Debug, Clone)]
struct Run {
    agreed: Agreed,
    bind: Bind,
    is_acknowledged: bool,
    sums: LaneSums,
    /// Received on the lane, earlier sessions included.
    media_ms: u64,
    bytes: u64,
    /// As the relay says, and as it said when the session came to the lane.
    served_ms: u64,
    served_before_ms: u64,
    sent_bytes: u64,
    state: LaneState,
}

impl Run {
    fn new(agreed: Agreed, bind: Bind, channel: ChannelId, known: &[LaneSums]) -> Self {
        let Terms { payee, stream, terms_version, .. } = agreed.terms;
        let key = LaneKey { channel, payee, stream, lane: agreed.terms.lane() };
        let sums = known.iter().find(|sums| sums.key == key).copied();
        let sums = sums.unwrap_or_else(|| LaneSums::new(key, terms_version, agreed.terms.rate));
        let LaneSums { media_ms, bytes, served_ms, .. } = sums;
        let (served_before_ms, state) = (served_ms, LaneState::Pending);
        let (is_acknowledged, sent_bytes) = (false, 0);
        Self {
            agreed,
            bind,
            is_acknowledged,
            sums,
            media_ms,
            bytes,
            served_ms,
            served_before_ms,
            sent_bytes,
            state,
        }
    }

    fn payable_ms(&self) -> u64 {
        payable_ms(&self.received())
    }

    /// The sums with what came since the last voucher.
    fn received(&self) -> LaneSums {
        let Self { media_ms, bytes, served_ms, .. } = *self;
        LaneSums { media_ms, bytes, served_ms, ..self.sums }
    }

    /// Most that the rules allow once media flows.
    fn total(&self) -> Balance {
        let Terms { rate, cadence_ms, .. } = self.agreed.terms;
        lane::signed_total(rate, self.payable_ms(), cadence_ms, SESSIONS)
    }

    /// Most that the rules allow for being let in.
    fn admission_total(&self) -> Balance {
        let Terms { rate, min_prepay, .. } = self.agreed.terms;
        let owed = lane::cost(rate, self.payable_ms());
        owed.checked_add(min_prepay).unwrap_or(Balance::MAX).max(self.total())
    }

    fn basis(&self, has_media: bool) -> Basis {
        let (served_ms, forgiven_ms) = (self.served_ms, self.sums.forgiven_ms);
        Basis { served_ms, rate: self.agreed.terms.rate, forgiven_ms, has_media }
    }

    /// The next voucher, of `total` or what was signed already if that is more.
    fn voucher(&mut self, total: Balance, qos: [u8; 32]) -> Voucher {
        let LaneSums { key, terms_version, nonce, cumulative, .. } = self.sums;
        self.sums.nonce = nonce.checked_add(1).expect("2^64 vouchers are never signed");
        self.sums.cumulative = cumulative.max(total);
        self.sums.media_ms = self.media_ms;
        self.sums.bytes = self.bytes;
        Voucher {
            channel: key.channel,
            payee: key.payee,
            stream: key.stream,
            lane: key.lane,
            terms_version,
            nonce: self.sums.nonce,
            cumulative: self.sums.cumulative,
            media_ms: self.media_ms,
            bytes: self.bytes,
            qos,
        }
    }
}

/// What a viewer saw in one interval, for its report; times in unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of the report's layout, units included")]
pub struct Received {
    pub from_ms: u64,
    pub to_ms: u64,
    pub packets: u64,
    pub lost: u32,
    pub jitter_us: u32,
    pub rtt_us: u32,
    pub freezes: u16,
    pub freeze_ms: u32,
    pub frames: u32,
    pub kbps: u32,
    pub first_frame_ms: u16,
    pub pauses: u16,
    pub pause_ms: u32,
}

/// The payer of one session; see the crate's driving contract.
#[derive(Debug)]
pub struct Payer {
    chain_id: String,
    identity: Identity,
    voucher_key: AccountId,
    facts: ChainFacts,
    agreed_rate: u64,
    known: Vec<LaneSums>,
    current: Run,
    next: Option<Run>,
    /// Terms that the chain has to be asked about.
    unchecked: Option<Terms>,
    room: Room,
    has_media: bool,
    has_paid: bool,
    is_held: bool,
    is_stopped: bool,
    paid_at: Option<Instant>,
    pay_at: Option<Instant>,
    claimed_since: Option<Instant>,
    gate: Option<(bool, GateReason)>,
    qos: [u8; 32],
    reports: u32,
    outputs: VecDeque<Output>,
}

impl Payer {
    /// Begins with terms that hold against the chain. `known`: the sums of the pool's lanes.
    pub fn new(
        chain_id: &str,
        identity: Identity,
        voucher_key: AccountId,
        facts: ChainFacts,
        agreed: Agreed,
        known: &[LaneSums],
        room: Room,
    ) -> Self {
        let agreed_rate = agreed.terms.rate;
        let bind = agreed.bind(&identity);
        Self {
            chain_id: chain_id.to_owned(),
            identity,
            voucher_key,
            facts,
            agreed_rate,
            known: known.to_vec(),
            current: Run::new(agreed, bind, identity.channel, known),
            next: None,
            unchecked: None,
            room,
            has_media: false,
            has_paid: false,
            is_held: false,
            is_stopped: false,
            paid_at: None,
            pay_at: None,
            claimed_since: None,
            gate: None,
            qos: [0; 32],
            reports: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The Bind for the first request.
    pub fn bind(&self) -> Bind {
        self.current.bind
    }

    /// The voucher for the next request to be let in, given what the relay said of the lane when it
    /// refused the last one; to be written down and signed as an [`Output::Pay`].
    ///
    /// Where the last session broke off, the relay may have served for a while what did not arrive:
    /// that much is accepted once, or an honest viewer of an honest relay could never come back.
    ///
    /// # Errors
    /// The relay wants more than the rules allow, or there is no room for it.
    pub fn admission(&mut self, lane: Option<LaneDue>) -> Result<(Voucher, Basis), Stop> {
        if let Some(other) = lane.filter(|lane| lane.lane != self.current.sums.key.lane) {
            return self.settle(other);
        }
        let run = &mut self.current;
        if let Some(lane) = lane {
            run.served_ms = run.served_ms.max(lane.served_ms);
            run.served_before_ms = run.served_ms;
            if lane.due > run.admission_total().max(run.sums.cumulative) {
                run.sums = run.received();
                forgive(&mut run.sums, &run.agreed.terms);
            }
            let allowed = run.admission_total().max(run.sums.cumulative);
            // It knows our newest voucher, or nothing that we could add would do.
            if lane.due > allowed {
                return Err(Stop::Claim { due: lane.due, allowed });
            }
        }
        let total = run.admission_total();
        let raise = total.saturating_sub(run.sums.cumulative);
        if raise > self.room.amount {
            return Err(Stop::Room(self.room.limit));
        }
        self.has_paid |= !raise.is_zero();
        let basis = run.basis(false);
        Ok((run.voucher(total, self.qos), basis))
    }

    /// What is owed on another lane of the pool: who owes on any is let in on none.
    fn settle(&mut self, lane: LaneDue) -> Result<(Voucher, Basis), Stop> {
        let payee = self.current.sums.key.payee;
        let owing = |sums: &&mut LaneSums| sums.key.lane == lane.lane && sums.key.payee == payee;
        let due = lane.due;
        let sums = self.known.iter_mut().find(owing);
        let sums = sums.ok_or(Stop::Claim { due, allowed: Balance::ZERO })?;
        sums.served_ms = sums.served_ms.max(lane.served_ms);
        if due > lane::cost(sums.rate, payable_ms(sums)).max(sums.cumulative) {
            forgive(sums, &self.current.agreed.terms);
        }
        let allowed = lane::cost(sums.rate, payable_ms(sums)).max(sums.cumulative);
        if due > allowed {
            return Err(Stop::Claim { due, allowed });
        }
        if allowed.saturating_sub(sums.cumulative) > self.room.amount {
            return Err(Stop::Room(self.room.limit));
        }
        sums.nonce = sums.nonce.checked_add(1).expect("2^64 vouchers are never signed");
        sums.cumulative = allowed;
        let LaneSums { key, terms_version, nonce, cumulative, media_ms, bytes, .. } = *sums;
        let LaneSums { served_ms, rate, forgiven_ms, .. } = *sums;
        let basis = Basis { served_ms, rate, forgiven_ms, has_media: false };
        let LaneKey { channel, payee, stream, lane } = key;
        let qos = [0; 32];
        let voucher = Voucher {
            channel,
            payee,
            stream,
            lane,
            terms_version,
            nonce,
            cumulative,
            media_ms,
            bytes,
            qos,
        };
        Ok((voucher, basis))
    }

    /// Let in: `bind_ack` is the relay's signature, `shown` the fingerprint of the certificate in
    /// its answer.
    ///
    /// # Errors
    /// [`Stop::Tampered`].
    pub fn handle_admitted(
        &mut self,
        now: Instant,
        bind_ack: Option<[u8; 64]>,
        shown: [u8; 32],
        lane: Option<LaneDue>,
    ) -> Result<(), Stop> {
        let run = &mut self.current;
        run.agreed.check_answer(&run.bind, bind_ack, shown, &self.chain_id)?;
        run.is_acknowledged = true;
        if let Some(lane) = lane.filter(|lane| lane.lane == run.sums.key.lane) {
            run.served_ms = run.served_ms.max(lane.served_ms);
        }
        self.schedule(now);
        Ok(())
    }

    /// What may be signed from now on.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Signs nothing until [`Payer::release`]; the relay lets the media run out within its grace.
    pub fn hold(&mut self) {
        self.is_held = true;
        self.pay_at = None;
    }

    /// Signs again, at once.
    pub fn release(&mut self, now: Instant) {
        self.is_held = false;
        self.claimed_since = None;
        self.pay(now);
    }

    /// Media that arrived since the last call.
    pub fn handle_media(&mut self, now: Instant, media_ms: u64, bytes: u64) {
        if media_ms == 0 && bytes == 0 {
            return;
        }
        let run = &mut self.current;
        run.media_ms = run.media_ms.saturating_add(media_ms);
        run.bytes = run.bytes.saturating_add(bytes);
        let is_first = !std::mem::replace(&mut self.has_media, true);
        if is_first {
            self.schedule(now);
        }
    }

    /// What the chain says now, after [`Output::AskChain`].
    pub fn handle_chain(&mut self, facts: ChainFacts) {
        self.facts = facts;
        if let Some(terms) = self.unchecked.take() {
            match self.facts.agree(terms) {
                Ok(agreed) => self.adopt(agreed),
                Err(stop) => self.stop(stop),
            }
        }
    }

    /// A frame of the relay.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) {
        if self.is_stopped {
            return;
        }
        match frame {
            Frame::Terms(json) => self.handle_terms(&json),
            Frame::BindAck(signature) => self.handle_bind_ack(&signature),
            Frame::PayAck(ack) => self.handle_ack(now, &ack),
            Frame::PayReq(request) => self.handle_request(now, &request),
            Frame::PaySync(voucher) => self.handle_sync(*voucher),
            Frame::Receipt(receipt, signature) => self.handle_receipt(&receipt, &signature),
            Frame::GateNotice { open, reason } => self.gate = Some((open, reason)),
            Frame::Error { code, message } => {
                if code >= 4000 {
                    self.stop(Stop::Ended { code, message });
                }
            }
            // A payer's own frames mean nothing from a relay.
            Frame::Bind(_) | Frame::Voucher(_) | Frame::QualityReport(..) => {}
        }
    }

    fn handle_terms(&mut self, json: &str) {
        // What is no terms says nothing; the present ones hold.
        let Ok(terms) = serde_json::from_str::<Terms>(json) else { return };
        let lane = terms.lane();
        let is_known = lane == self.current.sums.key.lane
            || self.next.as_ref().is_some_and(|next| next.sums.key.lane == lane);
        if is_known || terms.stream != self.facts.stream.id {
            return;
        }
        let current = &self.current.agreed.terms;
        if terms.payee != current.payee || terms.relay_fp != current.relay_fp {
            return self.stop(Stop::Tampered("new terms name another relay than this session's"));
        }
        if u128::from(terms.rate) * 100 > u128::from(self.agreed_rate) * (100 + RISE_PERCENT) {
            let stop = Stop::Dearer { asked: terms.rate, agreed: self.agreed_rate };
            return self.outputs.push_back(Output::Declined(stop));
        }
        // What is known of the chain may be older than this price.
        self.unchecked = Some(terms);
        self.outputs.push_back(Output::AskChain);
    }

    /// Binds to new terms and prepays their lane.
    fn adopt(&mut self, agreed: Agreed) {
        let bind = agreed.bind(&self.identity);
        let mut run = Run::new(agreed, bind, self.identity.channel, &self.known);
        let total = run.admission_total();
        if total.saturating_sub(run.sums.cumulative) > self.room.amount {
            return self.outputs.push_back(Output::Declined(Stop::Room(self.room.limit)));
        }
        let voucher = run.voucher(total, [0; 32]);
        let basis = run.basis(self.has_media);
        self.next = Some(run);
        self.outputs.push_back(Output::Bind(bind));
        self.outputs.push_back(Output::Pay { voucher, basis });
    }

    fn handle_bind_ack(&mut self, signature: &[u8; 64]) {
        let run = self.next.as_mut().unwrap_or(&mut self.current);
        if run.bind.verify_ack(signature, &self.chain_id).is_ok() {
            run.is_acknowledged = true;
        } else if self.current.bind.verify_ack(signature, &self.chain_id).is_err() {
            self.stop(Stop::Tampered("a bind was acknowledged with another key than the relay's"));
        }
    }

    fn handle_ack(&mut self, now: Instant, ack: &PayAck) {
        let is_next = self.next.as_ref().is_some_and(|next| next.sums.key.lane == ack.lane);
        let run = match (&mut self.next, is_next) {
            (Some(next), true) => next,
            _ if ack.lane == self.current.sums.key.lane => &mut self.current,
            _ => return,
        };
        run.served_ms = run.served_ms.max(ack.served_ms);
        run.sent_bytes = run.sent_bytes.max(ack.sent_bytes);
        run.state = ack.state;
        // The relay counts on the new price's lane now.
        if is_next && run.is_acknowledged && run.served_ms > run.served_before_ms {
            self.current = self.next.take().expect("it is the next lane that was acknowledged");
        }
        // The freshest word on the lane: a voucher that is nearly due is best signed now.
        let cadence = self.cadence();
        let early = self.paid_at.is_none_or(|at| now >= at + cadence * 3 / 4);
        if early && self.pay_at.is_some() {
            self.pay(now);
        }
    }

    fn handle_request(&mut self, now: Instant, request: &PayReq) {
        let run = &self.current;
        if request.lane != run.sums.key.lane {
            return;
        }
        let allowed = run.total().max(run.sums.cumulative);
        let is_claim = request.due > allowed;
        match (is_claim, self.claimed_since) {
            (false, _) => self.claimed_since = None,
            (true, None) => self.claimed_since = Some(now),
            (true, Some(since)) if now >= since + CLAIM_PATIENCE && !self.is_held => {
                return self.stop(Stop::Claim { due: request.due, allowed });
            }
            (true, Some(_)) => {}
        }
        if self.is_held {
            return;
        }
        if request.paid < run.sums.cumulative && run.total() <= run.sums.cumulative {
            self.outputs.push_back(Output::Resend);
        } else {
            self.pay(now);
        }
    }

    /// May only raise what is believed, and only by our own signature.
    fn handle_sync(&mut self, known: SignedVoucher) {
        if known.verify(&self.voucher_key, &self.chain_id).is_err() {
            return;
        }
        let runs = std::iter::once(&mut self.current).chain(&mut self.next);
        let key = known.voucher.lane_key();
        let Some(run) = runs.into_iter().find(|run| run.sums.key == key) else { return };
        let Voucher { nonce, cumulative, media_ms, bytes, .. } = known.voucher;
        run.sums.nonce = run.sums.nonce.max(nonce);
        run.sums.cumulative = run.sums.cumulative.max(cumulative);
        run.media_ms = run.media_ms.max(media_ms);
        run.bytes = run.bytes.max(bytes);
        self.outputs.push_back(Output::Raise(Box::new(known)));
    }

    fn handle_receipt(&mut self, receipt: &Receipt, signature: &[u8; 64]) {
        let relay_key = self.current.agreed.terms.relay_key;
        let is_true = receipt.relay_key == relay_key
            && receipt.channel == self.identity.channel
            && receipt.is_signed(signature, &self.chain_id);
        if !is_true {
            self.stop(Stop::Tampered("a receipt is signed with another key than the relay's"));
        }
    }

    /// Drives time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.pay_at.is_some_and(|at| now >= at) {
            self.pay(now);
        }
    }

    /// When [`Payer::handle_timeout`] is due; `None`: something else comes first.
    pub fn deadline(&self) -> Option<Instant> {
        self.pay_at
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn cadence(&self) -> Duration {
        Duration::from_millis(self.current.agreed.terms.cadence_ms.into())
    }

    fn schedule(&mut self, now: Instant) {
        let pays = self.has_media && !self.is_held && !self.is_stopped;
        self.pay_at = pays.then(|| now + self.cadence());
    }

    fn pay(&mut self, now: Instant) {
        self.schedule(now);
        if self.pay_at.is_none() {
            return;
        }
        let run = &mut self.current;
        let total = run.total();
        let Some(raise) = total.checked_sub(run.sums.cumulative).filter(|raise| !raise.is_zero())
        else {
            return;
        };
        if raise > self.room.amount {
            return self.stop(Stop::Room(self.room.limit));
        }
        self.paid_at = Some(now);
        self.has_paid = true;
        let voucher = run.voucher(total, self.qos);
        let basis = run.basis(true);
        self.outputs.push_back(Output::Pay { voucher, basis });
    }

    fn stop(&mut self, stop: Stop) {
        self.is_stopped = true;
        self.pay_at = None;
        self.outputs.push_back(Output::Stop(stop));
    }

    /// A report of what was received, to be signed and sent each [`REPORT_EVERY`]; the next
    /// voucher carries its hash.
    pub fn report(&mut self, seen: Received) -> QualityReport {
        let Received {
            from_ms,
            to_ms,
            packets,
            lost,
            jitter_us,
            rtt_us,
            freezes,
            freeze_ms,
            frames,
            kbps,
            first_frame_ms,
            pauses,
            pause_ms,
        } = seen;
        self.reports = self.reports.wrapping_add(1);
        let key = self.current.sums.key;
        let report = QualityReport {
            stream: key.stream.0,
            channel: key.channel.0,
            relay_key: self.current.agreed.terms.relay_key.0,
            lane: key.lane,
            seq: self.reports,
            from_ms,
            to_ms,
            packets,
            lost,
            jitter_us,
            rtt_us,
            freezes,
            freeze_ms,
            frames,
            kbps,
            // One encoding is offered.
            layer_switches: 0,
            first_frame_ms,
            pauses,
            pause_ms,
        };
        self.qos = Sha256::digest(report.encode()).into();
        report
    }

    /// The terms in force for this session.
    pub fn terms(&self) -> &Terms {
        &self.current.agreed.terms
    }

    /// What was signed on the lane, all sessions.
    pub fn signed(&self) -> Balance {
        self.current.sums.cumulative
    }

    /// The sums of the lane with what came since the last voucher, to be kept at the end.
    pub fn received(&self) -> LaneSums {
        self.current.received()
    }

    /// Time that the relay says it served on the lane, ms.
    pub fn served_ms(&self) -> u64 {
        self.current.served_ms
    }

    /// How the relay says that the session stands.
    pub fn state(&self) -> LaneState {
        self.current.state
    }

    /// The relay's last word on the gate.
    pub fn gate(&self) -> Option<(bool, GateReason)> {
        self.gate
    }

    /// Whether the relay took new money in this session and no media came.
    pub fn got_nothing(&self) -> bool {
        self.has_paid && !self.has_media
    }
}
