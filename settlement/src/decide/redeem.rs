//! When vouchers are worth a transaction, and which go into one.

use std::collections::BTreeMap;

use chain_types::{AccountId, Balance, LaneKey, SignedVoucher, params::REDEEM_ENTRIES_MAX};

use super::{Decider, Output, Time};
use crate::{
    book::Lane,
    chain::{BlockchainState, ChannelStanding},
    exposure::{is_large, redeem_fee},
};

/// A batch is worth its transaction at so many times its fee.
pub const WORTH_FEES: u64 = 50;
/// What is accepted is redeemed after this time even where it is worth less, ns.
pub const REDEEM_AGE_NS: u64 = 600_000_000_000;
/// Between two looks at what there is to redeem, ns.
const REDEEM_EACH_NS: u64 = 1_000_000_000;
/// Between two batches of one payee that are not urgent, ns: meanwhile more lanes gather for the next.
pub const REDEEM_SPACING_NS: u64 = 10_000_000_000;
/// A batch that the chain has not paid after this time is tried again, ns.
pub const REDEEM_RETRY_NS: u64 = 30_000_000_000;

/// One lane's voucher that the chain would pay something for.
struct Candidate {
    key: LaneKey,
    voucher: SignedVoucher,
    worth: Balance,
    is_urgent: bool,
    since_ns: u64,
}

impl Decider {
    /// Hands over what is worth redeeming now: by payee, the urgent first, only what is on the disk.
    pub(super) fn redeem(&mut self, now: Time, out: &mut Vec<Output>) {
        self.redeem_at_ns = now.mono_ns.saturating_add(REDEEM_EACH_NS);
        let Some(access) = &self.access else { return };
        if self.books_fault.is_some() {
            return;
        }
        let state = std::sync::Arc::clone(&access.blockchain_state);
        self.settle_redeemed(&state);
        let mut by_payee: BTreeMap<AccountId, Vec<Candidate>> = BTreeMap::new();
        for (key, lane) in self.book.iter() {
            if let Some(candidate) = self.candidate(now, &state, key, lane) {
                by_payee.entry(key.payee).or_default().push(candidate);
            }
        }
        for (payee, mut candidates) in by_payee {
            // The urgent, then the dearest; the key decides between equals.
            candidates.sort_by_key(|one| (!one.is_urgent, std::cmp::Reverse(one.worth), one.key));
            candidates.truncate(REDEEM_ENTRIES_MAX);
            let last_ns = self.redeemed_at_ns.get(&payee);
            let is_soon =
                last_ns.is_some_and(|last| now.mono_ns.saturating_sub(*last) < REDEEM_SPACING_NS);
            if !is_due(now, &state, &candidates, is_soon) {
                continue;
            }
            self.redeemed_at_ns.insert(payee, now.mono_ns);
            for Candidate { key, voucher, .. } in &candidates {
                if let Some(lane) = self.book.get_mut(key) {
                    lane.redeeming = Some((voucher.voucher.cumulative, now.mono_ns));
                }
                self.redeem_soon.remove(key);
            }
            self.counters.redeems += 1;
            let vouchers = candidates.iter().map(|candidate| candidate.voucher).collect();
            out.push(Output::Redeem { payee, vouchers });
        }
    }

    /// What the chain has paid is no longer on its way.
    fn settle_redeemed(&mut self, state: &BlockchainState) {
        let keys: Vec<LaneKey> = self.book.iter().map(|(key, _)| *key).collect();
        for key in keys {
            let paid = state.paid(&key);
            let Some(lane) = self.book.get_mut(&key) else { continue };
            if lane.redeeming.is_some_and(|(amount, _)| paid >= amount) {
                lane.redeeming = None;
                lane.unredeemed_since_ns = None;
            }
            if lane.paid() <= paid {
                lane.unredeemed_since_ns = None;
                self.redeem_soon.remove(&key);
            }
        }
    }

    fn candidate(
        &self,
        now: Time,
        state: &BlockchainState,
        key: &LaneKey,
        lane: &Lane,
    ) -> Option<Candidate> {
        let voucher = lane.synced?;
        if lane.redeeming.is_some_and(|(_, at)| now.mono_ns.saturating_sub(at) < REDEEM_RETRY_NS) {
            return None;
        }
        let more = voucher.voucher.cumulative.saturating_sub(state.paid(key));
        let standing = state.standing(&key.channel, &key.payee);
        let (available, is_ending) = match standing {
            ChannelStanding::Open { available, .. } => (available, false),
            ChannelStanding::Expiring { available } | ChannelStanding::Closing { available } => {
                (available, true)
            }
            ChannelStanding::Closed | ChannelStanding::Unknown => return None,
        };
        let worth = more.min(available);
        // One more entry must bring more than it costs.
        let params = state.params();
        let alone = redeem_fee(params, 1).saturating_sub(redeem_fee(params, 0));
        if worth <= alone {
            return None;
        }
        let channel = state.channel(&key.channel)?;
        let has_reserve = !channel.reserve_of(&key.payee, state.height()).is_zero();
        let reserve_ends = has_reserve && state.cover(&key.channel, &key.payee).is_zero();
        let is_exposed = is_large(state, &self.book, &key.channel, self.config.exposure_seconds);
        Some(Candidate {
            key: *key,
            voucher,
            worth,
            is_urgent: is_ending
                || reserve_ends
                || is_exposed
                || self.terms_expire(state, key, lane)
                || self.redeem_soon.contains(key),
            since_ns: lane.unredeemed_since_ns.unwrap_or(now.mono_ns),
        })
    }

    /// The lane's price was replaced, and can soon be redeemed no longer.
    fn terms_expire(&self, state: &BlockchainState, key: &LaneKey, lane: &Lane) -> bool {
        let params = state.params();
        state
            .stream(&key.stream)
            .and_then(|stream| stream.replaced_at(lane.terms_version))
            .is_some_and(|replaced| {
                let last = replaced.saturating_add(params.terms_grace_blocks);
                state.height().saturating_add(params.reserve_margin_blocks) >= last
            })
    }
}

/// Whether a batch is worth its fee, and now; soon after another one only if something is urgent.
fn is_due(now: Time, state: &BlockchainState, candidates: &[Candidate], is_soon: bool) -> bool {
    if candidates.is_empty() {
        return false;
    }
    let fee = redeem_fee(state.params(), candidates.len());
    let worth = candidates
        .iter()
        .map(|candidate| candidate.worth)
        .fold(Balance::ZERO, |sum, part| sum.checked_add(part).unwrap_or(Balance::MAX));
    let is_old = |one: &Candidate| now.mono_ns.saturating_sub(one.since_ns) >= REDEEM_AGE_NS;
    let is_worth_it = || {
        candidates.iter().any(is_old)
            || fee.checked_mul(WORTH_FEES).is_some_and(|enough| worth >= enough)
    };
    let is_urgent = candidates.iter().any(|candidate| candidate.is_urgent);
    worth > fee && (is_urgent || (!is_soon && is_worth_it()))
}
