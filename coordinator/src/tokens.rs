//! How often somebody may do something: buckets that fill with time, and how long to wait after a no.

use crate::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, Rate};

/// One token, in the unit in which a bucket counts: a bucket of one a minute gains 1 a millisecond.
const TOKEN: u64 = 60_000;

/// A bucket of tokens. What it holds is reckoned when it is asked; no timer fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    held: u64,
    at_ms: u64,
}

impl Bucket {
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        Self { held: u64::from(rate.burst) * TOKEN, at_ms: now_ms }
    }

    /// Takes a token where there is one.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        let enough = self.held >= TOKEN;
        if enough {
            self.held -= TOKEN;
        }
        enough
    }

    /// Whether it is full again, so that nothing is lost by forgetting it.
    pub fn is_full(&mut self, rate: Rate, now_ms: u64) -> bool {
        self.fill(rate, now_ms);
        self.held == u64::from(rate.burst) * TOKEN
    }

    fn fill(&mut self, rate: Rate, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(u64::from(rate.per_minute));
        self.held = self.held.saturating_add(gained).min(u64::from(rate.burst) * TOKEN);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

/// How long to wait after one refusal more: doubles, with full jitter, until a success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    refusals: u8,
}

impl Backoff {
    /// The next `retryAfterMs`, between 1 and the ceiling; `roll` is random.
    pub fn refuse(&mut self, roll: u64) -> u64 {
        let ceiling = self.ceiling_ms();
        self.refusals = self.refusals.saturating_add(1);
        1 + roll % ceiling
    }

    /// What the next wait cannot exceed.
    pub fn ceiling_ms(self) -> u64 {
        let doubled = BACKOFF_MS_MIN.checked_shl(u32::from(self.refusals.min(32)));
        doubled.unwrap_or(BACKOFF_MS_MAX).min(BACKOFF_MS_MAX)
    }

    pub fn succeed(&mut self) {
        self.refusals = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_minute: 60, burst: 3 };

    /// R92
    #[test]
    fn a_burst_passes_then_one_a_second_and_never_more_than_the_burst_is_saved() {
        let mut bucket = Bucket::full(RATE, 0);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(RATE, now)).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 999), 0);
        assert_eq!(taken(&mut bucket, 1_000), 1);
        assert_eq!(taken(&mut bucket, 3_000), 2);
        assert!(!bucket.is_full(RATE, 5_999));
        assert!(bucket.is_full(RATE, 6_000));
        assert_eq!(taken(&mut bucket, 1_000_000), 3);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::full(RATE, 5_000);
        assert!((0..3).all(|_| bucket.take(RATE, 5_000)));
        assert!(!bucket.take(RATE, 0));
        assert!(!bucket.take(RATE, 5_000));
        assert!(bucket.take(RATE, u64::MAX));
    }

    /// R93
    #[test]
    fn the_wait_doubles_to_the_cap_and_starts_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut ceilings = Vec::new();
        for _ in 0..9 {
            ceilings.push(backoff.ceiling_ms());
            let wait = backoff.refuse(u64::MAX);
            assert!((1..=*ceilings.last().unwrap()).contains(&wait));
        }
        assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        for _ in 0..300 {
            backoff.refuse(7);
        }
        assert_eq!(backoff.ceiling_ms(), BACKOFF_MS_MAX);
        backoff.succeed();
        assert_eq!(backoff.ceiling_ms(), BACKOFF_MS_MIN);
    }
}
