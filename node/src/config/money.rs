//! What the relay asks of those who pay, and bears for them; all of it is read again at SIGHUP.

use chain_types::{AccountId, Balance, CADENCE_MS};

use super::{Layers, keys, quote};

/// Creators that are named at most.
const SERVE_FREE_MAX: usize = 1024;
/// Longest grace, ms: beyond it a viewer watches on credit.
const GRACE_MS_MAX: u32 = 60_000;
/// Most that is borne for a channel, in seconds of its rate.
const EXPOSURE_S_MAX: u32 = 3_600;
/// A whole, in basis points.
const WHOLE_BPS: u16 = 10_000;

/// The relay's own policy about money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyLimits {
    /// Between two vouchers, ms.
    pub cadence_ms: u32,
    /// How far a viewer may be behind before media stops, ms.
    pub grace_ms: u32,
    /// Unreserved money that is borne for a channel, in seconds of its rate.
    pub exposure_seconds: u32,
    /// No stream is served whose split leaves the relay less, basis points.
    pub min_share_bps: u16,
    /// What another relay pays for a GB that it fetches here.
    pub wholesale_per_gb: Balance,
    /// Creators whose granted viewers are served without payment.
    pub serve_free: Vec<AccountId>,
}

/// Reads them.
pub(super) fn read(layers: &mut Layers) -> MoneyLimits {
    fn within(range: std::ops::RangeInclusive<u32>, unit: &str, text: &str) -> Result<u32, String> {
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| format!("{} to {} {unit}", range.start(), range.end()))
    }
    fn shown(value: &impl ToString) -> Option<String> {
        Some(value.to_string())
    }
    MoneyLimits {
        cadence_ms: layers
            .one(&keys::CADENCE_MS, 1000, shown, |text| within(CADENCE_MS, "ms", text)),
        grace_ms: layers
            .one(&keys::GRACE_MS, 3000, shown, |text| within(500..=GRACE_MS_MAX, "ms", text)),
        exposure_seconds: layers.one(&keys::EXPOSURE_SECONDS, 10, shown, |text| {
            within(1..=EXPOSURE_S_MAX, "seconds", text)
        }),
        min_share_bps: layers.one(&keys::MIN_SHARE_BPS, 0, shown, |text| {
            within(0..=u32::from(WHOLE_BPS), "basis points", text)
                .map(|bps| u16::try_from(bps).expect("at most 10,000"))
        }),
        wholesale_per_gb: layers.one(
            &keys::WHOLESALE_PER_GB,
            Balance::ZERO,
            |amount| Some(quote(&amount.in_sut().to_string())),
            |text| Balance::parse_sut(text).map_err(|error| error.to_string()),
        ),
        serve_free: layers.list(&keys::SERVE_FREE, SERVE_FREE_MAX, |text| {
            text.parse::<AccountId>().map_err(|error| error.to_string())
        }),
    }
}
