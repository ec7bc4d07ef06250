//! How much unreserved money of one channel this relay bears: its own policy, the chain knows none.

use chain_types::{Balance, ChannelId, LaneKey, Params, lane::cost};

use crate::{
    book::{Book, Lane},
    chain::BlockchainState,
};

/// Bytes of a Redeem besides its entries: envelope, tags, roots, signature. Rounded up.
const REDEEM_ENVELOPE_BYTES: u64 = 256;
/// Bytes of one entry of a Redeem.
const REDEEM_ENTRY_BYTES: u64 = 240;

/// The least fee of a Redeem with so many entries.
pub fn redeem_fee(params: &Params, entries: usize) -> Balance {
    let entries = entries as u64;
    let bytes = REDEEM_ENVELOPE_BYTES.saturating_add(REDEEM_ENTRY_BYTES.saturating_mul(entries));
    let parts = [
        Some(params.fee_base),
        params.fee_per_byte.checked_mul(bytes),
        params.fee_per_voucher.checked_mul(entries),
    ];
    parts
        .into_iter()
        .try_fold(Balance::ZERO, |sum, part| sum.checked_add(part?))
        .unwrap_or(Balance::MAX)
}

/// What a channel's lanes here owe and the chain has not paid out, less what its own reserve covers.
pub fn uncovered<'a>(
    state: &BlockchainState,
    channel: &ChannelId,
    lanes: impl IntoIterator<Item = (&'a LaneKey, &'a Lane)>,
) -> Balance {
    let mut sum = Balance::ZERO;
    let mut cover = Balance::ZERO;
    for (key, lane) in lanes {
        let open = lane.owed().saturating_sub(state.paid(key));
        sum = sum.checked_add(open).unwrap_or(Balance::MAX);
        // One payee's reserve covers all its lanes; lanes of an account that this relay had before
        // have their own.
        cover = cover.max(state.cover(channel, &key.payee));
    }
    sum.saturating_sub(cover)
}

/// The limit: so many seconds of the dearest lane's rate; never less than two redeems cost, since
/// nothing smaller is worth claiming.
pub fn limit<'a>(
    params: &Params,
    seconds: u32,
    lanes: impl IntoIterator<Item = &'a Lane>,
) -> Balance {
    let dearest = lanes
        .into_iter()
        .filter(|lane| !lane.sessions.is_empty())
        .filter_map(|lane| lane.rate)
        .max()
        .unwrap_or(0);
    let floor = redeem_fee(params, 1).checked_mul(2).unwrap_or(Balance::MAX);
    cost(dearest, u64::from(seconds) * 1000).max(floor)
}

/// Whether half of the limit is used: what can be redeemed should be.
pub fn is_large(state: &BlockchainState, book: &Book, channel: &ChannelId, seconds: u32) -> bool {
    let uncovered = uncovered(state, channel, book.of_channel(channel));
    let limit = limit(state.params(), seconds, book.of_channel(channel).map(|(_, lane)| lane));
    uncovered.units() * 2 > limit.units()
}
