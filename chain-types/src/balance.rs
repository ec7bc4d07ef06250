//! Amounts of money: whole units of 10⁻⁹ SUT, below 2⁹⁶, with checked arithmetic only.

use std::{fmt, io, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units of one SUT.
pub const UNITS_PER_SUT: u128 = 1_000_000_000;

/// An amount, or a rate per second, in units of 10⁻⁹ SUT; always below 2⁹⁶.
///
/// JSON: a decimal string of units. Bytes: 16, little-endian in borsh, big-endian in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize)]
pub struct Balance(u128);

/// Why a number or a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    /// 2⁹⁶ units or more.
    #[error("an amount is below 2^96 units")]
    TooLarge,
    /// Not decimal digits alone.
    #[error("an amount is written in decimal digits, in units of 10^-9 SUT")]
    NotDecimal,
}

impl Balance {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount, 2⁹⁶ − 1 units.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// This many units.
    ///
    /// # Errors
    /// 2⁹⁶ or more.
    pub const fn new(units: u128) -> Result<Self, BalanceError> {
        if units > Self::MAX.0 { Err(BalanceError::TooLarge) } else { Ok(Self(units)) }
    }

    /// This many units.
    pub const fn of(units: u64) -> Self {
        Self(units as u128)
    }

    /// The number of units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, if it is an amount.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        // Both are below 2^96: the sum fits.
        Self::new(self.0 + other.0).ok()
    }

    /// The difference, if it is not negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, zero where it would be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `factor` times the amount, if that is one.
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        Self::new(self.0.checked_mul(u128::from(factor))?).ok()
    }

    /// As 16 bytes, big-endian.
    pub const fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads 16 bytes, big-endian.
    ///
    /// # Errors
    /// 2⁹⁶ or more.
    pub const fn from_be_bytes(bytes: [u8; 16]) -> Result<Self, BalanceError> {
        Self::new(u128::from_be_bytes(bytes))
    }

    /// For people: SUT with as many decimals as it needs, such as `0.001`.
    pub fn in_sut(self) -> impl fmt::Display {
        InSut(self.0)
    }

    /// Reads what people write: SUT with at most nine decimals, such as `1.5`.
    ///
    /// # Errors
    /// Another text, or 2⁹⁶ units or more.
    pub fn parse_sut(text: &str) -> Result<Self, BalanceError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = !whole.is_empty() && digits(whole) && digits(decimals);
        if !is_number || decimals.len() > 9 || text.ends_with('.') {
            return Err(BalanceError::NotDecimal);
        }
        format!("{whole}{decimals:0<9}").parse()
    }
}

struct InSut(u128);

impl fmt::Display for InSut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / UNITS_PER_SUT, self.0 % UNITS_PER_SUT);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:09}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl std::iter::Sum for Balance {
    /// # Panics
    /// If the sum is no amount: sums are taken of parts of a supply that is one.
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |sum, part| {
            sum.checked_add(part).expect("parts of one supply add up to an amount")
        })
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Balance {
    type Err = BalanceError;

    fn from_str(text: &str) -> Result<Self, BalanceError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BalanceError::NotDecimal);
        }
        Self::new(text.parse().map_err(|_| BalanceError::TooLarge)?)
    }
}

impl BorshDeserialize for Balance {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let units = <u128 as BorshDeserialize>::deserialize_reader(reader)?;
        Self::new(units).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_below_two_to_the_96() {
        assert_eq!(Balance::new(1 << 96), Err(BalanceError::TooLarge));
        assert_eq!(Balance::new((1 << 96) - 1), Ok(Balance::MAX));
        assert_eq!(Balance::MAX.checked_add(Balance::of(1)), None);
        assert_eq!(Balance::MAX.checked_mul(2), None);
        assert_eq!(Balance::of(1).checked_sub(Balance::of(2)), None);
        let over = (1u128 << 96).to_le_bytes();
        assert!(borsh::from_slice::<Balance>(&over).is_err());
        assert_eq!(borsh::from_slice::<Balance>(&7u128.to_le_bytes()).ok(), Some(Balance::of(7)));
    }

    #[test]
    fn people_write_sut_and_programs_write_units() {
        #[track_caller]
        fn check(text: &str, units: Result<u64, BalanceError>) {
            assert_eq!(Balance::parse_sut(text), units.map(Balance::of), "{text}");
        }
        check("1.5", Ok(1_500_000_000));
        check("0.000000001", Ok(1));
        check("12", Ok(12_000_000_000));
        check("0.0000000001", Err(BalanceError::NotDecimal));
        check("", Err(BalanceError::NotDecimal));
        check(".5", Err(BalanceError::NotDecimal));
        check("1.", Err(BalanceError::NotDecimal));
        check("-1", Err(BalanceError::NotDecimal));
        check("1e9", Err(BalanceError::NotDecimal));
        assert_eq!(Balance::of(1_500_000_000).in_sut().to_string(), "1.5");
        assert_eq!(Balance::of(3_000_000_000).in_sut().to_string(), "3");
        assert_eq!(serde_json::to_string(&Balance::of(5)).unwrap(), "\"5\"");
        assert_eq!(serde_json::from_str::<Balance>("\"5\"").unwrap(), Balance::of(5));
        assert!(serde_json::from_str::<Balance>("5").is_err());
        assert!("+5".parse::<Balance>().is_err());
    }
}
