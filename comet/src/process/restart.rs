//! When a program that died is started again, and when no more.

use std::time::Duration;

/// A run that is longer was a good one.
const QUICK: Duration = Duration::from_secs(10);
/// So many quick runs in a row are the last.
pub(super) const QUICK_DEATHS_MAX: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start again after this pause.
    After(Duration),
    /// It will not get better by itself.
    GiveUp,
}

/// Counts deaths.
#[derive(Debug, Default)]
pub struct Restarts {
    quick: u32,
}

impl Restarts {
    /// A run of this length has ended unasked; `is_final`: another cannot end otherwise.
    pub fn died(&mut self, ran: Duration, is_final: bool) -> Next {
        self.quick = if ran < QUICK { self.quick + 1 } else { 1 };
        if is_final || self.quick >= QUICK_DEATHS_MAX {
            return Next::GiveUp;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << (self.quick - 1));
        Next::After(pause.min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_given_up_and_a_good_run_forgets_them() {
        let mut restarts = Restarts::default();
        let quick = Duration::from_secs(1);
        let ms = |n| Next::After(Duration::from_millis(n));
        assert_eq!(restarts.died(quick, false), ms(200));
        assert_eq!(restarts.died(quick, false), ms(400));
        assert_eq!(restarts.died(quick, false), ms(800));
        assert_eq!(restarts.died(QUICK, false), ms(200), "a good run");
        for pause in [400, 800, 1_600] {
            assert_eq!(restarts.died(quick, false), ms(pause));
        }
        assert_eq!(restarts.died(quick, false), Next::GiveUp);
        assert_eq!(Restarts::default().died(QUICK, true), Next::GiveUp);
    }
}
