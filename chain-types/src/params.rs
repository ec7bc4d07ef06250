//! The chain's parameters: fees, windows, bounds. Set at genesis, part of the state.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{balance::Balance, transaction::Payload};

/// `param/chain`.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Least fee of any transaction.
    pub fee_base: Balance,
    /// More for each byte of it.
    pub fee_per_byte: Balance,
    /// More for each entry of a Redeem; at least [`FEE_PER_VOUCHER_MIN`].
    pub fee_per_voucher: Balance,
    /// Bytes of a transaction.
    pub transaction_bytes_max: u32,
    /// Between RequestClose and Finalize, ms of block time.
    pub close_window_ms: u64,
    /// Between RequestClose and Finalize, blocks; both must have passed.
    pub close_window_blocks: u64,
    /// Between SetPrice or SetSplit and its first height, blocks.
    pub notice_blocks: u64,
    /// How long a price that was replaced can still be redeemed, blocks.
    pub terms_grace_blocks: u64,
    /// How long a relay wants a channel to last at least, blocks.
    pub channel_blocks_min: u64,
    /// From when on before its end a reserve covers nothing in a relay's books, blocks.
    pub reserve_margin_blocks: u64,
    /// A channel opens with at least this many base fees.
    pub deposit_fees_min: u64,
    /// A transfer that makes an account carries at least this many base fees.
    pub account_fees_min: u64,
    /// A stream without media for this long may be ended by anybody, ms.
    pub idle_stream_ms: u64,
}

/// Below it, rounding could be played with.
pub const FEE_PER_VOUCHER_MIN: Balance = Balance::of(1000);
/// Vouchers of one Redeem.
pub const REDEEM_ENTRIES_MAX: usize = 256;
/// Reserves named by one transaction, and kept by one channel.
pub const RESERVES_MAX: usize = 8;

impl Default for Params {
    /// Of a chain that is meant to last.
    fn default() -> Self {
        Self {
            fee_base: Balance::of(10_000),
            fee_per_byte: Balance::of(10),
            fee_per_voucher: Balance::of(1000),
            transaction_bytes_max: 131_072,
            close_window_ms: 30 * 60_000,
            close_window_blocks: 300,
            notice_blocks: 150,
            terms_grace_blocks: 1800,
            channel_blocks_min: 1800,
            reserve_margin_blocks: 300,
            deposit_fees_min: 200,
            account_fees_min: 10,
            idle_stream_ms: 24 * 3_600_000,
        }
    }
}

impl Params {
    /// Of a chain for trying things out: windows of ten seconds and ten blocks.
    pub fn for_tests() -> Self {
        Self {
            close_window_ms: 10_000,
            close_window_blocks: 10,
            notice_blocks: 10,
            terms_grace_blocks: 120,
            channel_blocks_min: 30,
            reserve_margin_blocks: 10,
            ..Self::default()
        }
    }

    /// The least fee of a transaction of `len_bytes` bytes with its signatures.
    pub fn fee_min(&self, payload: &Payload, len_bytes: usize) -> Balance {
        let entries = match payload {
            Payload::Redeem { entries, .. } => entries.len() as u64,
            _ => 0,
        };
        let parts = [
            Some(self.fee_base),
            self.fee_per_byte.checked_mul(len_bytes as u64),
            self.fee_per_voucher.checked_mul(entries),
        ];
        parts
            .into_iter()
            .try_fold(Balance::ZERO, |sum, part| sum.checked_add(part?))
            .unwrap_or(Balance::MAX)
    }

    /// The least deposit of a new channel.
    pub fn deposit_min(&self) -> Balance {
        self.fee_base.checked_mul(self.deposit_fees_min).unwrap_or(Balance::MAX)
    }

    /// The least amount that makes an account.
    pub fn new_account_min(&self) -> Balance {
        self.fee_base.checked_mul(self.account_fees_min).unwrap_or(Balance::MAX)
    }

    /// What is wrong with them, each fault in a sentence.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |is_right: bool, fault: &str| {
            if !is_right {
                faults.push(fault.to_owned());
            }
        };
        check(
            self.fee_per_voucher >= FEE_PER_VOUCHER_MIN,
            "params.fee_per_voucher is below 1000 units: rounding could be played with",
        );
        check(!self.fee_base.is_zero(), "params.fee_base is zero: transactions would be free");
        check(self.notice_blocks > 0, "params.notice_blocks is zero: prices could change unseen");
        check(self.close_window_blocks > 0, "params.close_window_blocks is zero");
        check(
            self.transaction_bytes_max >= 512,
            "params.transaction_bytes_max is below 512: no transaction fits",
        );
        faults
    }
}
