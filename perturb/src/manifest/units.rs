//! Spans, moments and amounts, as a manifest writes them.

use std::{fmt, time::Duration};

use chain_types::Balance;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest span that a manifest may name.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A span of time, as `200ms`, `5s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let parsed = units.iter().find_map(|(unit, ms)| {
            let digits = text.strip_suffix(unit)?;
            let number: u64 = digits.parse().ok()?;
            number.checked_mul(*ms).map(Duration::from_millis)
        });
        match parsed {
            Some(span) if span <= SPAN_MAX => Ok(Self(span)),
            _ => Err(format!(
                "{text:?} is no span of time: write a whole number and ms, s, m or h, at most 24h, \
                 such as 5s"
            )),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// When something happens: when the chain is at a height, or so long after its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest height of any node.
    Height(u64),
    /// After the first block.
    After(Duration),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Height(height) => write!(f, "height {height}"),
            Self::After(span) => write!(f, "after {}", Span(*span)),
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = At;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a height such as 20, or a text such as \"after 10s\"")
            }

            fn visit_i64<E: de::Error>(self, height: i64) -> Result<At, E> {
                let height = u64::try_from(height).ok().filter(|height| *height > 0);
                height.map(At::Height).ok_or_else(|| E::custom("a height is 1 or more"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                let span = text.strip_prefix("after ").ok_or_else(|| {
                    E::custom(format!("{text:?}: write \"after 10s\", or a height without quotes"))
                })?;
                span.parse::<Span>().map(|span| At::After(span.0)).map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Height(height) => to.serialize_u64(*height),
            Self::After(span) => to.serialize_str(&format!("after {}", Span(*span))),
        }
    }
}

/// An amount in SUT, as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sut(pub Balance);

impl<'de> Deserialize<'de> for Sut {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Balance::parse_sut(&text).map(Self).map_err(|error| {
            de::Error::custom(format!("{text:?} is no amount of SUT, such as \"100\": {error}"))
        })
    }
}

impl Serialize for Sut {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0.in_sut())
    }
}
