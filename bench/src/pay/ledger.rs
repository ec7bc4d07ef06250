//! What paying came to: of one viewer, and of all.

use chain_types::{Balance, ChannelId};
use serde::Serialize;

/// One viewer's payments in one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayAccount {
    /// The pool.
    pub channel: ChannelId,
    /// Vouchers that were signed, that of the admission included.
    pub vouchers: u64,
    /// Signed in this session.
    pub spent: Balance,
    /// Of that, what the relay acknowledged.
    pub paid: Balance,
    /// Packets that came.
    pub packets: u64,
    /// Packets that came while the relay's last word was that more was served than paid.
    pub unpaid_packets: u64,
    /// Why it stopped to pay, if it did.
    pub stopped: Option<String>,
}

/// All payments of a run; sums in 10⁻⁹ SUT.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Payments {
    /// Sessions that paid.
    pub sessions: usize,
    /// Price of a stream, units a second.
    pub rate: u64,
    /// Vouchers that were signed.
    pub vouchers: u64,
    /// Signed by all.
    pub spent: u128,
    /// Acknowledged by the relay.
    pub paid: u128,
    /// Packets that came to those who pay.
    pub packets: u64,
    /// Packets that came while the relay's last word was that more was served than paid.
    pub unpaid_packets: u64,
    /// Paid out by the chain to the relay by the end of the run, of all that these pools ever
    /// signed.
    pub redeemed: u128,
    /// Sessions that stopped to pay.
    pub stopped: usize,
    /// First reasons of these.
    pub reasons: Vec<String>,
}

/// Reasons kept.
const REASONS_MAX: usize = 4;

impl Payments {
    /// Adds one session.
    pub fn add(&mut self, account: &PayAccount) {
        self.sessions += 1;
        self.vouchers += account.vouchers;
        self.spent = self.spent.saturating_add(account.spent.units());
        self.paid = self.paid.saturating_add(account.paid.units());
        self.packets += account.packets;
        self.unpaid_packets += account.unpaid_packets;
        if let Some(reason) = &account.stopped {
            self.stopped += 1;
            if self.reasons.len() < REASONS_MAX && !self.reasons.contains(reason) {
                self.reasons.push(reason.clone());
            }
        }
    }
}
