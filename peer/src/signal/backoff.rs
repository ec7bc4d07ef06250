//! How long to wait before trying again.

use std::time::Duration;

use coordinator::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};
use rand::Rng;

/// As a coordinator that refuses asks for.
const FIRST: Duration = Duration::from_millis(BACKOFF_MS_MIN);
const MAX: Duration = Duration::from_millis(BACKOFF_MS_MAX);

/// Doubles with each failure, with full jitter, and starts again after a success.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait; not shorter than what the coordinator asked for.
    pub fn next_wait(&mut self, asked: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        let jittered = ceiling.mul_f64(rng.random_range(0.0..=1.0));
        // A coordinator may ask for much, but not for ever.
        jittered.max(asked.unwrap_or_default().min(MAX))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    /// R93
    #[test]
    fn waits_grow_to_a_cap_and_start_again_after_a_success() {
        let mut rng = StdRng::seed_from_u64(1);
        let longest_of = |failures: u32, rng: &mut StdRng| {
            let waits = (0..200).map(|_| Backoff { failures }.next_wait(None, rng));
            waits.max().unwrap()
        };
        for (failures, ceiling_ms) in [(0, 250), (1, 500), (4, 4000), (7, 30_000), (99, 30_000)] {
            let longest = longest_of(failures, &mut rng);
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(
                longest <= ceiling && longest > ceiling.mul_f64(0.9),
                "{failures}: {longest:?}"
            );
        }
        let mut backoff = Backoff::default();
        (0..9).for_each(|_| {
            backoff.next_wait(None, &mut rng);
        });
        backoff.reset();
        assert!(backoff.next_wait(None, &mut rng) <= FIRST);
    }

    /// R93
    #[test]
    fn what_the_coordinator_asks_for_is_kept_to() {
        let mut rng = StdRng::seed_from_u64(1);
        let asked = Some(Duration::from_secs(3));
        let wait = Backoff::default().next_wait(asked, &mut rng);
        assert_eq!(wait, Duration::from_secs(3));
        let endless = Some(Duration::from_secs(1 << 40));
        assert_eq!(Backoff::default().next_wait(endless, &mut rng), MAX);
    }
}
