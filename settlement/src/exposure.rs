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

/// The limit: so many seconds of the dearest lane's rate, of those that are watched and of the one
/// that is being `entered`; never less than two redeems cost, since nothing smaller is worth
/// claiming.
pub fn limit<'a>(
    params: &Params,
    seconds: u32,
    lanes: impl IntoIterator<Item = &'a Lane>,
    entered: Option<&'a Lane>,
) -> Balance {
    let watched = lanes.into_iter().filter(|lane| !lane.sessions.is_empty());
    let dearest = watched.chain(entered).filter_map(|lane| lane.rate).max().unwrap_or(0);
    let floor = redeem_fee(params, 1).checked_mul(2).unwrap_or(Balance::MAX);
    cost(dearest, u64::from(seconds) * 1000).max(floor)
}

/// Whether half of the limit is used: what can be redeemed should be.
pub fn is_large(state: &BlockchainState, book: &Book, channel: &ChannelId, seconds: u32) -> bool {
    let uncovered = uncovered(state, channel, book.of_channel(channel));
    // Who has left is not expected back: then nearly all is too much.
    let lanes = book.of_channel(channel).map(|(_, lane)| lane);
    let limit = limit(state.params(), seconds, lanes, None);
    uncovered.units() * 2 > limit.units()
}

#[cfg(test)]
mod tests {
    use chain_types::{AccountId, Payload, SigningKey, TransactionBody, Voucher};

    use super::*;

    #[test]
    fn the_fee_that_is_reckoned_with_pays_for_a_real_redeem_and_little_more() {
        let (params, key) = (Params::default(), SigningKey::from_bytes(&[7; 32]));
        let voucher = Voucher {
            channel: ChannelId([1; 32]),
            payee: AccountId([2; 32]),
            stream: chain_types::StreamId([3; 32]),
            lane: 1,
            terms_version: 1,
            nonce: 1,
            cumulative: Balance::of(1),
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        for entries in [1, 256] {
            let payload = Payload::Redeem {
                entries: vec![voucher.sign(&key, "a").encode(); entries],
                watch_root: [1; 32],
                qos_root: [1; 32],
            };
            let body = TransactionBody {
                signer: AccountId::from(&key),
                fee_payer: None,
                nonce: 0,
                valid_until_height: 1,
                fee: Balance::of(1),
                payload,
            };
            let bytes = body.clone().sign(&key, "a").encode();
            let real = params.fee_min(&body.payload, bytes.len());
            let reckoned = redeem_fee(&params, entries);
            assert!(real <= reckoned, "{entries}: {real:?} {reckoned:?}");
            assert!(reckoned.saturating_sub(real) <= Balance::of(1_000), "{entries}");
        }
        assert_eq!(redeem_fee(&Params { fee_base: Balance::MAX, ..params }, 1), Balance::MAX);
    }

    #[test]
    fn the_limit_follows_the_dearest_lane_that_is_watched() {
        let params = Params::default();
        let lane = |rate, is_watched: bool| {
            let mut lane = Lane::new(1, Some(rate));
            if is_watched {
                lane.sessions.insert(sfu::ports::SessionKey(1));
            }
            lane
        };
        let lanes = [lane(1_000_000, true), lane(2_000_000, true), lane(9_000_000, false)];
        assert_eq!(limit(&params, 10, &lanes, None), Balance::of(20_000_000));
        // Who comes back to a lane is given its time again.
        assert_eq!(limit(&params, 10, &lanes, Some(&lanes[2])), Balance::of(90_000_000));
        // Nothing below what two redeems cost is worth stopping for.
        assert_eq!(limit(&params, 10, &[lane(1, true)], None), Balance::of(31_920));
    }
}
