//! The chain's parameters: fees, windows, bounds. Set at genesis, part of the state.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{balance::Balance, split::BPS, transaction::Payload};

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
    /// Validators that vote, at most; with 1 nobody can join.
    pub validators_max: u32,
    /// Tokens of one unit of power in the engine.
    pub power_unit: Balance,
    /// Least that is staked with, or left with, a validator by one account.
    pub delegation_min: Balance,
    /// Least that an operator stakes with its own validator.
    pub self_delegation_min: Balance,
    /// How long stake, and a relay's bond, can still be cut after it left, ms of block time.
    pub unbonding_ms: u64,
    /// Blocks over which missed ones are counted.
    pub signed_window_blocks: u32,
    /// Part of the window that a validator must sign, basis points.
    pub signed_min_bps: u16,
    /// How long one that missed too many stays out at least, ms of block time.
    pub downtime_jail_ms: u64,
    /// What double signing costs of all stake, basis points.
    pub double_sign_bps: u16,
    /// What a relay's proved fault costs of its bond, basis points.
    pub relay_fault_bps: u16,
    /// Whoever proves it gets this part of the cut, basis points; the rest is burned.
    pub reporter_bps: u16,
    /// Least bond of a relay.
    pub relay_bond_min: Balance,
    /// How long validators may vote on a proposal, ms of block time.
    pub voting_ms: u64,
}

/// Least [`Params::delegation_min`]: sums per share must fit into 128 bits.
pub const DELEGATION_MIN: Balance = Balance::of(1 << 29);
/// All power in the engine (CometBFT's `MaxTotalVotingPower` is 2^60).
pub const POWER_MAX: u64 = 1 << 60;
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
            validators_max: 100,
            power_unit: Balance::of(1_000_000_000),
            delegation_min: Balance::of(1_000_000_000),
            self_delegation_min: Balance::of(1_000_000_000),
            unbonding_ms: 21 * 24 * 3_600_000,
            signed_window_blocks: 1000,
            signed_min_bps: 5000,
            downtime_jail_ms: 10 * 60_000,
            double_sign_bps: 500,
            relay_fault_bps: 100,
            reporter_bps: 1000,
            relay_bond_min: Balance::of(0),
            voting_ms: 7 * 24 * 3_600_000,
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
            unbonding_ms: 20_000,
            signed_window_blocks: 20,
            downtime_jail_ms: 5_000,
            voting_ms: 60_000,
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

    /// What tokens weigh in the engine.
    pub fn power_of(&self, tokens: Balance) -> u64 {
        let power = tokens.units() / self.power_unit.units().max(1);
        u64::try_from(power).unwrap_or(u64::MAX)
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
        check(
            self.transaction_bytes_max <= 1 << 20,
            "params.transaction_bytes_max is above 2^20: a block would hold a few at most",
        );
        check(self.validators_max > 0, "params.validators_max is zero: nobody could vote");
        check(!self.power_unit.is_zero(), "params.power_unit is zero");
        check(
            self.delegation_min >= DELEGATION_MIN,
            "params.delegation_min is below 2^29 units: rewards could not be counted",
        );
        check(
            self.self_delegation_min >= self.delegation_min
                && self.self_delegation_min >= self.power_unit,
            "params.self_delegation_min is below delegation_min or below power_unit",
        );
        check(self.unbonding_ms > 0, "params.unbonding_ms is zero: stake could flee a slash");
        check(
            (10..=100_000).contains(&self.signed_window_blocks),
            "params.signed_window_blocks is not between 10 and 100000",
        );
        for (name, bps) in [
            ("signed_min_bps", self.signed_min_bps),
            ("double_sign_bps", self.double_sign_bps),
            ("relay_fault_bps", self.relay_fault_bps),
            ("reporter_bps", self.reporter_bps),
        ] {
            check(bps <= BPS, &format!("params.{name} is above 10000 basis points"));
        }
        check(self.voting_ms > 0, "params.voting_ms is zero: nobody could vote");
        faults
    }
}
