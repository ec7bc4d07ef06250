//! The close-window watcher: which vouchers have to be redeemed by which height, and why.

use chain_types::{AccountId, Channel, SignedVoucher};

use crate::chain::BlockchainState;

/// A relay redeems within so many blocks of the block that makes it urgent.
pub const REDEEM_WITHIN_BLOCKS: u64 = 5;

/// Why a voucher cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The channel's close was requested, or it has expired so that anybody may request it.
    Closing,
    /// The price that it pays was replaced, and is soon redeemable no longer.
    TermsEnding,
    /// The payee's own reserve ends: then what it held is everybody's.
    ReserveEnding,
    /// The channel expires soon.
    Expiring,
}

/// A voucher that has to be in a block soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgent {
    /// Which.
    pub voucher: SignedVoucher,
    /// Why.
    pub urgency: Urgency,
    /// Last height at which a block should hold it.
    pub by_height: u64,
}

/// Of vouchers that are on the disk, newest of their lanes, those that cannot wait; the nearest
/// height first. What the chain has paid whole, or what can bring nothing, is not among them.
pub fn urgent<'a>(
    state: &BlockchainState,
    vouchers: impl IntoIterator<Item = &'a SignedVoucher>,
) -> Vec<Urgent> {
    let mut urgent: Vec<Urgent> =
        vouchers.into_iter().filter_map(|voucher| urgency_of(state, voucher)).collect();
    urgent.sort_by_key(|urgent| (urgent.by_height, urgent.voucher.voucher.lane_key()));
    urgent
}

fn urgency_of(state: &BlockchainState, signed: &SignedVoucher) -> Option<Urgent> {
    let voucher = &signed.voucher;
    if voucher.cumulative <= state.paid(&voucher.lane_key()) {
        return None;
    }
    let channel = state.channel(&voucher.channel)?;
    let height = state.height();
    if channel.closed || channel.available_to(&voucher.payee, height).is_zero() {
        return None;
    }
    let reasons = [
        closing_by(channel, height).map(|by| (by, Urgency::Closing)),
        terms_end_by(state, signed).map(|by| (by, Urgency::TermsEnding)),
        reserve_ends_by(state, channel, &voucher.payee).map(|by| (by, Urgency::ReserveEnding)),
        (channel.is_open(height) && state.expires_soon(channel))
            .then_some((channel.expires_height - 1, Urgency::Expiring)),
    ];
    let (by_height, urgency) = reasons.into_iter().flatten().min_by_key(|(by, _)| *by)?;
    Some(Urgent { voucher: *signed, urgency, by_height })
}

/// Since when the payer's close can be followed by Finalize; the window is longer than this.
fn closing_by(channel: &Channel, height: u64) -> Option<u64> {
    let since = match channel.close_requested {
        Some(request) => request.height,
        None if height >= channel.expires_height => channel.expires_height,
        None => return None,
    };
    Some(since.saturating_add(REDEEM_WITHIN_BLOCKS))
}

fn terms_end_by(state: &BlockchainState, signed: &SignedVoucher) -> Option<u64> {
    let replaced =
        state.stream(&signed.voucher.stream)?.replaced_at(signed.voucher.terms_version)?;
    let params = state.params();
    let by = replaced.saturating_add(params.terms_grace_blocks);
    (state.height().saturating_add(params.reserve_margin_blocks) >= by).then_some(by)
}

/// Last height at which the payee's own reserve is worth something, if that is near.
fn reserve_ends_by(state: &BlockchainState, channel: &Channel, payee: &AccountId) -> Option<u64> {
    let (height, margin) = (state.height(), state.params().reserve_margin_blocks);
    let live = channel.reserves.iter().find(|kept| {
        kept.payee == *payee && kept.until_height > height && !kept.amount.is_zero()
    })?;
    (live.until_height <= height.saturating_add(margin)).then_some(live.until_height - 1)
}
