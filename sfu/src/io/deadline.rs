//! How long a link may block.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Look, do not block.
    Poll,
    AtMost(Duration),
    Forever,
}

impl Wait {
    pub(super) fn until(deadline: Option<Instant>) -> Wait {
        let Some(deadline) = deadline else { return Wait::Forever };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Wait::Poll,
            left => Wait::AtMost(left),
        }
    }
}
