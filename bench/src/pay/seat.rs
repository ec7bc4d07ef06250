//! One paying viewer's session: what arrived goes to the payer, what it signs goes to the relay.

use std::time::{Duration, Instant};

use chain_types::{Balance, Frame, SignedVoucher, SigningKey, StreamId, lane};
use wallet::{OpenPool, Output, Payer, PoolError, REPORT_EVERY, Received};

use super::{PayAccount, now_ms};

/// A relay counts in slots of half a second: a packet stands for the half second after it.
const SLOT: Duration = Duration::from_millis(500);
/// How often the payer hears what arrived.
const TURN: Duration = Duration::from_millis(100);
/// Frames that wait for their way; beyond it the oldest go: a newer voucher says all that they did.
const WAITING_MAX: usize = 16;

/// An account, its key and its pool.
pub struct Purse {
    /// The account's.
    pub key: SigningKey,
    /// Signs vouchers, and Binds.
    pub pool: OpenPool,
}

/// See the module.
pub struct Seat {
    purse: Purse,
    payer: Payer,
    stream: StreamId,
    last: SignedVoucher,
    vouchers: u64,
    signed_before: Balance,
    acknowledged: Balance,
    owed: Balance,
    heard: Vec<Frame>,
    waiting: Vec<Vec<u8>>,
    turn_at: Instant,
    report_at: Instant,
    reported_ms: u64,
    covered: Duration,
    covered_until: Option<Instant>,
    bytes: u64,
    /// Covered time and bytes that the payer has heard of.
    told: (u64, u64),
    packets: u64,
    reported_packets: u64,
    unpaid_packets: u64,
    stopped: Option<String>,
}

impl Seat {
    /// Of a session that was let in; `last` is the voucher that did it, `vouchers` how many were
    /// signed for it, `signed_before` what the lane had signed before.
    pub fn new(
        purse: Purse,
        payer: Payer,
        stream: StreamId,
        last: SignedVoucher,
        vouchers: u64,
        signed_before: Balance,
    ) -> Self {
        let now = Instant::now();
        Self {
            purse,
            payer,
            stream,
            last,
            vouchers,
            signed_before,
            acknowledged: signed_before,
            owed: Balance::ZERO,
            heard: Vec::new(),
            waiting: Vec::new(),
            turn_at: now,
            report_at: now + REPORT_EVERY,
            reported_ms: now_ms(),
            covered: Duration::ZERO,
            covered_until: None,
            bytes: 0,
            told: (0, 0),
            packets: 0,
            reported_packets: 0,
            unpaid_packets: 0,
            stopped: None,
        }
    }

    /// A packet arrived.
    pub fn note_packet(&mut self, now: Instant, payload_bytes: usize) {
        self.packets += 1;
        self.bytes += payload_bytes as u64;
        let from = self.covered_until.map_or(now, |until| until.max(now));
        // Whole time: parts of milliseconds of many packets add up to what a relay wants.
        self.covered += now + SLOT - from;
        self.covered_until = Some(now + SLOT);
        self.unpaid_packets += u64::from(self.owed > self.acknowledged);
    }

    /// A message of the pay channel; what is no frame that we know is ignored.
    pub fn note_frame(&mut self, bytes: &[u8]) {
        self.heard.extend(Frame::decode(bytes));
        self.turn_at = Instant::now();
    }

    /// When [`Seat::turn`] is due.
    pub fn deadline(&self) -> Instant {
        self.payer.deadline().map_or(self.turn_at, |due| due.min(self.turn_at))
    }

    /// Hears, pays, sends; why it stops to pay, once.
    pub fn turn(&mut self, now: Instant, mut send: impl FnMut(&[u8]) -> bool) -> Option<String> {
        self.turn_at = now + TURN;
        if self.stopped.is_some() {
            self.heard.clear();
            return None;
        }
        let stopped = self.pay(now).err();
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..surplus);
        let sent = self.waiting.iter().take_while(|frame| send(frame)).count();
        self.waiting.drain(..sent);
        self.stopped.clone_from(&stopped);
        stopped.map(|why| format!("a viewer stopped to pay: {why}"))
    }

    fn pay(&mut self, now: Instant) -> Result<(), String> {
        let media_ms = u64::try_from(self.covered.as_millis()).unwrap_or(u64::MAX);
        let (told_ms, told_bytes) = std::mem::replace(&mut self.told, (media_ms, self.bytes));
        self.payer.handle_media(now, media_ms - told_ms, self.bytes - told_bytes);
        for frame in std::mem::take(&mut self.heard) {
            if let Frame::PayAck(ack) = &frame {
                self.acknowledged = self.acknowledged.max(ack.cumulative);
                self.owed = lane::cost(self.payer.terms().rate, ack.served_ms);
            }
            self.payer.handle_frame(now, frame);
        }
        self.payer.handle_timeout(now);
        while let Some(output) = self.payer.poll() {
            self.carry_out(output)?;
        }
        if now >= self.report_at {
            self.report(now);
        }
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<(), String> {
        let said = |error: PoolError| error.to_string();
        match output {
            Output::Pay { voucher, basis } => {
                self.last = self.purse.pool.pay(voucher, basis, now_ms()).map_err(said)?;
                self.vouchers += 1;
                self.payer.set_room(self.purse.pool.room(now_ms(), &self.stream).map_err(said)?);
                self.waiting.push(Frame::Voucher(Box::new(self.last)).encode());
            }
            Output::Resend => self.waiting.push(Frame::Voucher(Box::new(self.last)).encode()),
            Output::Raise(known) => {
                self.purse.pool.raise(&known).map_err(said)?;
            }
            Output::Bind(bind) => {
                let bind = self.purse.pool.bind(bind, None);
                self.waiting.push(Frame::Bind(Box::new(bind)).encode());
            }
            // The streams are registered by the run itself, and their price never changes.
            Output::AskChain => return Err("the relay asks another price than the chain".into()),
            Output::Declined(stop) | Output::Stop(stop) => return Err(stop.to_string()),
        }
        Ok(())
    }

    fn report(&mut self, now: Instant) {
        self.report_at = now + REPORT_EVERY;
        let (from_ms, to_ms) = (self.reported_ms, now_ms());
        self.reported_ms = to_ms;
        let packets = self.packets - std::mem::replace(&mut self.reported_packets, self.packets);
        let report = self.payer.report(Received { from_ms, to_ms, packets, ..Received::default() });
        let signature = self.purse.pool.report(&report);
        self.waiting.push(Frame::QualityReport(Box::new(report), signature).encode());
    }

    /// Ends the session: its account, and the purse for the next one.
    pub fn leave(mut self) -> (PayAccount, Purse) {
        let kept = self.purse.pool.rest(&self.payer.received(), true);
        let stopped = self.stopped.or_else(|| kept.err().map(|error| error.to_string()));
        let account = PayAccount {
            channel: self.purse.pool.pool().channel,
            vouchers: self.vouchers,
            spent: self.payer.signed().saturating_sub(self.signed_before),
            paid: self.acknowledged.saturating_sub(self.signed_before),
            packets: self.packets,
            unpaid_packets: self.unpaid_packets,
            stopped,
        };
        (account, self.purse)
    }
}
