//! How a payment divides: fee, creator, origin relay, payee; and what of a fee is burned.

use crate::balance::Balance;

/// One in so many units of a payment is fee.
const FEE_DIVISOR: u128 = 100;
/// Basis points of a whole.
pub const BPS: u16 = 10_000;

/// The parts of one payment; they add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// ⌊d/100⌋.
    pub fee: Balance,
    /// ⌊r·creator_bps/10⁴⌋ of what the fee leaves.
    pub creator: Balance,
    /// ⌊r·origin_bps/10⁴⌋ of what the fee leaves.
    pub origin: Balance,
    /// The rest.
    pub payee: Balance,
}

/// Divides `amount`. `creator_bps + origin_bps` is at most 10⁴ (held where a split is made); more is
/// cut to it.
pub fn shares(amount: Balance, creator_bps: u16, origin_bps: u16) -> Shares {
    let units = amount.units();
    let fee = units / FEE_DIVISOR;
    let rest = units - fee;
    let creator_bps = creator_bps.min(BPS);
    let origin_bps = origin_bps.min(BPS - creator_bps);
    // Below 2^96 · 2^14: no overflow.
    let part = |bps: u16| rest * u128::from(bps) / u128::from(BPS);
    let (creator, origin) = (part(creator_bps), part(origin_bps));
    let balance = |units| Balance::new(units).expect("a part of an amount is one");
    Shares {
        fee: balance(fee),
        creator: balance(creator),
        origin: balance(origin),
        payee: balance(rest - creator - origin),
    }
}

/// What of a fee is burned: half, rounded up. The rest is the validators'.
pub fn burned(fee: Balance) -> Balance {
    Balance::new(fee.units().div_ceil(2)).expect("half of an amount is one")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_creator_and_the_origin_take_their_share_of_what_the_fee_leaves() {
        let parts = shares(Balance::of(1_000_099), 7_000, 1_000);
        assert_eq!(parts.fee, Balance::of(10_000));
        assert_eq!(parts.creator, Balance::of(693_069));
        assert_eq!(parts.origin, Balance::of(99_009));
        assert_eq!(parts.payee, Balance::of(198_021));
        assert_eq!(burned(Balance::of(5)), Balance::of(3));
        assert_eq!(burned(Balance::ZERO), Balance::ZERO);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(
            units in 0..Balance::MAX.units(),
            creator in 0..=BPS,
            origin in 0..=BPS,
        ) {
            let parts = shares(Balance::new(units).unwrap(), creator, origin);
            let all = [parts.fee, parts.creator, parts.origin, parts.payee];
            prop_assert_eq!(all.into_iter().sum::<Balance>().units(), units);
        }
    }
}
