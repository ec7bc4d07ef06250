//! What time it is, as an argument: the core never asks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment in two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds that only grow; deadlines are reckoned in it.
    pub mono_ms: u64,
    /// Unix milliseconds; what peers are told, and what signed times are held against.
    pub unix_ms: u64,
}

/// The real clocks, read at the edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.mono_ms(), unix_ms: millis(unix.as_millis()) }
    }

    pub(crate) fn mono_ms(self) -> u64 {
        millis(self.0.elapsed().as_millis())
    }
}

fn millis(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
