//! How the coordinator goes, as plain numbers for its host's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::state::Counts;
use crate::wire::Code;

/// A moment's numbers. Those of [`Counts`] but `peers` and `rooms` only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub counts: Counts,
    /// Open WebSockets.
    pub sockets: usize,
    pub sessions: usize,
    /// Refusals so far, by code.
    pub refused: Vec<(Code, u64)>,
}

/// Counts refusals.
#[derive(Default)]
pub(crate) struct Refusals([AtomicU64; Code::ALL.len()]);

impl Refusals {
    pub(crate) fn count(&self, code: Code) {
        let place = Code::ALL.iter().position(|other| *other == code);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Vec<(Code, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        Code::ALL.into_iter().zip(counts).collect()
    }
}
