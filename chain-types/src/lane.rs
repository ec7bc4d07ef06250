//! The arithmetic of paying by the second, shared by payer and payee so that they cannot disagree.
//!
//! A lane is (channel, payee, stream, lane number): one running total of what was paid for one
//! stream at one price to one relay, kept across sessions.

use sha2::{Digest, Sha256};

use crate::{
    balance::Balance,
    id::{AccountId, StreamId},
};

/// A lane's number: the first 4 bytes of SHA-256(relay_key ‖ stream ‖ terms_version u32 ‖ tier u8).
pub fn lane_number(relay_key: &AccountId, stream: &StreamId, terms_version: u32, tier: u8) -> u32 {
    let mut hash = Sha256::new();
    hash.update(relay_key.0);
    hash.update(stream.0);
    hash.update(terms_version.to_be_bytes());
    hash.update([tier]);
    let hash: [u8; 32] = hash.finalize().into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// The price of one tier, units per second: ⌊price · tier_bps / 10⁴⌋, at most 2⁶⁴ − 1.
pub fn rate_of_tier(price_per_second: u64, tier_bps: u16) -> u64 {
    let rate = u128::from(price_per_second) * u128::from(tier_bps) / 10_000;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// What `duration_ms` costs: ⌊rate · ms / 1000⌋. Saturates at [`Balance::MAX`], which nobody can pay.
pub fn cost(rate_per_second: u64, duration_ms: u64) -> Balance {
    let units = u128::from(rate_per_second) * u128::from(duration_ms) / 1000;
    Balance::new(units).unwrap_or(Balance::MAX)
}

/// How long `amount` lasts at a rate, ms; `u64::MAX` where nothing is charged.
pub fn duration_ms(rate_per_second: u64, amount: Balance) -> u64 {
    if rate_per_second == 0 {
        return u64::MAX;
    }
    let ms = amount.units().saturating_mul(1000) / u128::from(rate_per_second);
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// What must be paid beyond what is owed before media flows: 2 cadences, and at least two
/// entries' fees, so that dust is not worth claiming.
pub fn min_prepay(rate_per_second: u64, cadence_ms: u32, fee_per_voucher: Balance) -> Balance {
    if rate_per_second == 0 {
        return Balance::ZERO;
    }
    let ahead = cost(rate_per_second, 2 * u64::from(cadence_ms));
    ahead.max(fee_per_voucher.checked_mul(2).unwrap_or(Balance::MAX))
}

/// The time that a payer accepts as served: the relay's word, bounded by what the payer itself
/// received (2 % and a second more, for what clocks and losses differ).
pub fn payable_ms(relay_served_ms: u64, own_media_ms: u64) -> u64 {
    let own = u128::from(own_media_ms) * 102 / 100 + 1000;
    relay_served_ms.min(u64::try_from(own).unwrap_or(u64::MAX))
}

/// The total that the payer signs each cadence and never exceeds: what is payable, and two
/// cadences ahead for each of the `sessions` that share the lane.
pub fn signed_total(
    rate_per_second: u64,
    payable_ms: u64,
    cadence_ms: u32,
    sessions: u32,
) -> Balance {
    let ahead = 2 * u64::from(cadence_ms) * u64::from(sessions);
    cost(rate_per_second, payable_ms.saturating_add(ahead))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lane_is_a_function_of_relay_stream_price_and_tier() {
        let (relay, stream) = (AccountId([2; 32]), StreamId([3; 32]));
        let lane = lane_number(&relay, &stream, 1, 2);
        assert_eq!(lane, lane_number(&relay, &stream, 1, 2));
        assert_ne!(lane, lane_number(&relay, &stream, 2, 2));
        assert_ne!(lane, lane_number(&relay, &stream, 1, 1));
        assert_ne!(lane, lane_number(&AccountId([4; 32]), &stream, 1, 2));
        assert_ne!(lane, lane_number(&relay, &StreamId([4; 32]), 1, 2));
    }

    #[test]
    fn a_second_costs_the_rate_and_parts_of_a_unit_are_the_viewers() {
        assert_eq!(cost(1_000_000, 1000), Balance::of(1_000_000));
        assert_eq!(cost(3, 333), Balance::ZERO);
        assert_eq!(cost(3, 334), Balance::of(1));
        assert_eq!(cost(u64::MAX, u64::MAX), Balance::MAX);
        assert_eq!(rate_of_tier(1_000_000, 2_500), 250_000);
        assert_eq!(rate_of_tier(u64::MAX, 10_000), u64::MAX);
        assert_eq!(duration_ms(1_000_000, Balance::of(2_500_000)), 2500);
        assert_eq!(duration_ms(0, Balance::ZERO), u64::MAX);
        assert_eq!(min_prepay(1_000_000, 1000, Balance::of(1000)), Balance::of(2_000_000));
        assert_eq!(min_prepay(1, 1000, Balance::of(1000)), Balance::of(2000));
        assert_eq!(min_prepay(0, 1000, Balance::of(1000)), Balance::ZERO);
    }

    #[test]
    fn a_payer_signs_for_what_it_received_and_two_cadences() {
        // The relay claims a minute, the payer saw ten seconds: 10.2 s and 1 s are payable.
        assert_eq!(payable_ms(60_000, 10_000), 11_200);
        assert_eq!(payable_ms(10_000, 60_000), 10_000);
        assert_eq!(signed_total(1000, 10_000, 1000, 1), Balance::of(12_000));
        assert_eq!(signed_total(1000, 10_000, 1000, 3), Balance::of(16_000));
    }

    proptest! {
        #[test]
        fn the_total_never_falls_as_time_goes_on(
            rate in any::<u64>(), served in any::<u64>(), more in any::<u64>(), media in any::<u64>(),
        ) {
            let at = |served, media| signed_total(rate, payable_ms(served, media), 1000, 1);
            let later = served.saturating_add(more);
            prop_assert!(at(later, media) >= at(served, media));
            prop_assert!(at(served, media.saturating_add(more)) >= at(served, media));
        }

        #[test]
        fn what_lasts_a_time_pays_for_it(rate in 1u64.., units in 0..u128::from(u64::MAX)) {
            let amount = Balance::new(units).unwrap();
            prop_assert!(cost(rate, duration_ms(rate, amount)) <= amount);
        }
    }
}
