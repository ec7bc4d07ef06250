//! Paying a stream by the second: what is due, signed, sent, and settled by one redeem.
//!
//! The names are those of the node's specification; under them lie the lane and its vouchers. A
//! payment is a voucher over all that was paid on the lane so far, so a lost one costs nothing: the
//! next includes it, and the newest alone is redeemed.

mod message;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Instant};

use chain_types::{
    AccountId, Balance, ChannelId, Frame, LaneKey, PayAck, SignedVoucher, SigningKey, Terms,
    Voucher,
    lane::{payable_ms, signed_total},
};

use crate::event::BlockchainCommand;

pub use message::{MESSAGE_BYTES_MAX, MessageError, PaymentMessage, PaymentsKnown};

/// What carries payments to the payee: a data channel, or requests to the session's URL.
pub trait PayTransport {
    /// Sends one message.
    ///
    /// # Errors
    /// It did not leave.
    fn send(&mut self, bytes: &[u8]) -> Result<(), TransportError>;
}

/// A message did not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payment did not leave: {0}")]
pub struct TransportError(pub String);

/// How a payment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayForm {
    /// A voucher frame: payment, and receipt for what arrived.
    Frame,
    /// A [`PaymentMessage`] in JSON: payment alone.
    Json,
}

/// Why a payment was not made. Nothing was signed, but for [`PayError::Transport`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// The sum is no amount any more.
    #[error("the lane's total would exceed every amount")]
    Amount,
    /// It was signed and is owed; the next payment includes it.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// One paid session, seen by its payer (R27).
pub struct StreamPaymentChannel<T> {
    /// What carries payments.
    pub webrtc_channel: T,
    /// Who pays.
    pub blockchain_account: AccountId,
    /// Units per second, as the present terms say; below 2⁶⁴.
    pub rate_per_second: Balance,
    /// When the last payment was made; at first, when the channel was made.
    pub last_payment: Instant,
    form: PayForm,
    chain_id: String,
    voucher_key: SigningKey,
    channel: ChannelId,
    terms: Terms,
    /// On the present lane: all that was signed.
    paid: Balance,
    /// Of it, what the payee was told.
    told: Balance,
    nonce: u64,
    /// The relay's word.
    served_ms: u64,
    /// What arrived in the session, and how much of it on earlier lanes.
    received: Received,
    received_before: Received,
    /// The newest of each lane, until somebody settles it.
    unsettled: BTreeMap<LaneKey, SignedVoucher>,
}

/// Media that arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Time for which there was media, ms.
    pub media_ms: u64,
    /// RTP payload, bytes.
    pub bytes: u64,
}

impl<T: PayTransport> StreamPaymentChannel<T> {
    /// Begins to pay for a stream on `terms`, which were checked, out of `channel`.
    #[expect(clippy::too_many_arguments, reason = "each is another party's, none has a default")]
    pub fn new(
        webrtc_channel: T,
        blockchain_account: AccountId,
        voucher_key: SigningKey,
        channel: ChannelId,
        terms: Terms,
        chain_id: &str,
        form: PayForm,
        now: Instant,
    ) -> Self {
        Self {
            webrtc_channel,
            blockchain_account,
            rate_per_second: Balance::of(terms.rate),
            last_payment: now,
            form,
            chain_id: chain_id.to_owned(),
            voucher_key,
            channel,
            terms,
            paid: Balance::ZERO,
            told: Balance::ZERO,
            nonce: 0,
            served_ms: 0,
            received: Received::default(),
            received_before: Received::default(),
            unsettled: BTreeMap::new(),
        }
    }

    /// The lane that is paid now.
    pub fn lane(&self) -> LaneKey {
        let Terms { payee, stream, .. } = self.terms;
        LaneKey { channel: self.channel, payee, stream, lane: self.terms.lane() }
    }

    /// What was signed on the present lane so far.
    pub const fn paid(&self) -> Balance {
        self.paid
    }

    /// Goes on from a voucher that was signed on this lane in an earlier session.
    pub fn resume(&mut self, newest: &SignedVoucher) {
        let voucher = &newest.voucher;
        if voucher.lane_key() == self.lane() && voucher.cumulative > self.paid {
            (self.paid, self.told) = (voucher.cumulative, voucher.cumulative);
            self.nonce = self.nonce.max(voucher.nonce);
        }
    }

    /// The relay's word on a lane; that of another lane says nothing here.
    pub fn on_pay_ack(&mut self, ack: &PayAck) {
        if ack.lane == self.terms.lane() {
            self.served_ms = self.served_ms.max(ack.served_ms);
        }
    }

    /// All that arrived in this session so far.
    pub fn on_received(&mut self, received: Received) {
        self.received.media_ms = self.received.media_ms.max(received.media_ms);
        self.received.bytes = self.received.bytes.max(received.bytes);
    }

    /// Other terms hold: from here on their rate is paid, on their lane, from nothing. The old
    /// lane's newest payment stands.
    pub fn change_terms(&mut self, terms: Terms) {
        if terms.lane() != self.terms.lane() {
            (self.paid, self.told) = (Balance::ZERO, Balance::ZERO);
            (self.nonce, self.served_ms) = (0, 0);
            self.received_before = self.received;
        }
        self.rate_per_second = Balance::of(terms.rate);
        self.terms = terms;
    }

    fn received_on_lane(&self) -> Received {
        let (all, before) = (self.received, self.received_before);
        Received {
            media_ms: all.media_ms.saturating_sub(before.media_ms),
            bytes: all.bytes.saturating_sub(before.bytes),
        }
    }

    /// What a payment now would add (R30): the cost of what was served, as far as it also arrived,
    /// and of two cadences ahead, less what was paid. The lane's first payment reaches what is asked
    /// in advance.
    pub fn calculate_payment_due(&self) -> Balance {
        let payable = payable_ms(self.served_ms, self.received_on_lane().media_ms);
        let rate = u64::try_from(self.rate_per_second.units()).unwrap_or(u64::MAX);
        let total = signed_total(rate, payable, self.terms.cadence_ms, 1);
        let total = if self.paid.is_zero() { total.max(self.terms.min_prepay) } else { total };
        total.saturating_sub(self.paid)
    }

    /// A voucher that adds `amount` to what was paid (R30). It changes nothing here: who signs one and
    /// does not go on by [`StreamPaymentChannel::process_payment`] forgets that he owes it.
    ///
    /// # Errors
    /// The total is no amount.
    pub fn sign_payment(
        &self,
        amount: Balance,
        timestamp_ms: u64,
    ) -> Result<SignedVoucher, PayError> {
        let cumulative = self.paid.checked_add(amount).ok_or(PayError::Amount)?;
        let received = match self.form {
            PayForm::Frame => self.received_on_lane(),
            PayForm::Json => Received::default(), // The message has no room for a receipt.
        };
        let LaneKey { channel, payee, stream, lane } = self.lane();
        let voucher = Voucher {
            channel,
            payee,
            stream,
            lane,
            terms_version: self.terms.terms_version,
            nonce: self.next_nonce(timestamp_ms),
            cumulative,
            media_ms: received.media_ms,
            bytes: received.bytes,
            qos: [0; 32],
        };
        Ok(voucher.sign(&self.voucher_key, &self.chain_id))
    }

    /// Time orders payments, and they stay in order where it does not.
    fn next_nonce(&self, timestamp_ms: u64) -> u64 {
        timestamp_ms.max(self.nonce.saturating_add(1))
    }

    /// Pays what is due (R28): signs, keeps it to be settled, sends. Returns what was paid; what was
    /// sent for it is that message in [`PayForm::Json`] alone. `None`: nothing is due.
    ///
    /// # Errors
    /// See [`PayError`].
    pub fn process_payment(
        &mut self,
        now: Instant,
        timestamp_ms: u64,
    ) -> Result<Option<PaymentMessage>, PayError> {
        let amount = self.calculate_payment_due();
        if amount.is_zero() && self.told == self.paid {
            return Ok(None);
        }
        let signed = self.sign_payment(amount, timestamp_ms)?;
        // Before it leaves: whatever happens to it, it was signed, and the sum never falls.
        self.paid = signed.voucher.cumulative;
        self.nonce = signed.voucher.nonce;
        self.last_payment = now;
        self.submit_blockchain_payment(signed);
        let message = PaymentMessage {
            amount: self.paid.saturating_sub(self.told),
            timestamp: signed.voucher.nonce,
            signature: signed.signature,
        };
        match self.form {
            PayForm::Frame => {
                self.webrtc_channel.send(&Frame::Voucher(Box::new(signed)).encode())?;
            }
            PayForm::Json => self.webrtc_channel.send(message.to_json().as_bytes())?,
        }
        self.told = self.paid;
        Ok(Some(message))
    }

    /// Queues a payment to be settled (R30): the newest of a lane settles all before it, so it takes
    /// their place.
    pub fn submit_blockchain_payment(&mut self, payment: SignedVoucher) {
        let lane = payment.voucher.lane_key();
        let newest = self.unsettled.entry(lane).or_insert(payment);
        if payment.voucher.cumulative >= newest.voucher.cumulative {
            *newest = payment;
        }
    }

    /// The redeem that settles everything that was queued. The payee submits it, or its relay's key.
    /// `None`: nothing was queued since the last one.
    pub fn take_redeem(&mut self) -> Option<BlockchainCommand> {
        let payee = self.unsettled.keys().next()?.payee;
        let (entries, rest) = std::mem::take(&mut self.unsettled)
            .into_values()
            .partition::<Vec<_>, _>(|one| one.voucher.payee == payee);
        self.unsettled = rest.into_iter().map(|one| (one.voucher.lane_key(), one)).collect();
        Some(BlockchainCommand::Redeem { payee, entries })
    }
}
