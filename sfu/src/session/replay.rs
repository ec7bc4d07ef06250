//! Packet index and replay list of one stream (RFC 3711 §3.3.1, §3.3.2, appendix A).

/// Packets below the highest index that may still arrive. RFC 3711 demands 64; retransmissions in
/// a burst on a long path need more.
pub const REPLAY_WINDOW_PACKETS: u64 = 1024;
const WORDS: usize = (REPLAY_WINDOW_PACKETS / 64) as usize;

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// This index was authenticated before.
    #[error("packet index was seen before")]
    Duplicate,
    /// Below the window: whether it was seen is not known.
    #[error("packet index is below the replay window")]
    TooOld,
}

/// Which indices have been authenticated. 144 bytes, no allocation.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    /// Bit of an index: its remainder by [`REPLAY_WINDOW_PACKETS`].
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Nothing has been seen.
    pub fn new() -> ReplayWindow {
        ReplayWindow::default()
    }

    /// Highest index authenticated so far.
    #[inline]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Whether a packet of this index may be opened; asked before authentication.
    #[inline]
    pub fn check(&self, index: u64) -> Result<(), ReplayError> {
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= REPLAY_WINDOW_PACKETS {
                    Err(ReplayError::TooOld)
                } else if self.seen[word(index)] & bit(index) != 0 {
                    Err(ReplayError::Duplicate)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// Records a packet after its authentication; an index below the window changes nothing.
    #[inline]
    pub fn commit(&mut self, index: u64) {
        if self.check(index) == Err(ReplayError::TooOld) {
            return;
        }
        if let Some(highest) = self.highest
            && index > highest
        {
            // The bits between belonged to indices one window below.
            for skipped in (highest + 1..index).take(REPLAY_WINDOW_PACKETS as usize) {
                self.seen[word(skipped)] &= !bit(skipped);
            }
        }
        self.seen[word(index)] |= bit(index);
        self.highest = self.highest.max(Some(index));
    }

    /// The index (rollover counter and sequence number) nearest to the highest one (RFC 3711
    /// appendix A). Before the first packet, and where a lower cycle would be below zero, the
    /// cycle is 0; authentication refuses a wrong guess.
    #[inline]
    pub fn estimate(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else { return u64::from(sequence) };
        let highest_sequence = highest as u16;
        let cycle = highest >> 16;
        let cycle = if highest_sequence < 0x8000 {
            if sequence.saturating_sub(highest_sequence) > 0x8000 {
                cycle.saturating_sub(1)
            } else {
                cycle
            }
        } else if highest_sequence - 0x8000 > sequence {
            cycle + 1
        } else {
            cycle
        };
        cycle << 16 | u64::from(sequence)
    }
}

fn word(index: u64) -> usize {
    (index % REPLAY_WINDOW_PACKETS / 64) as usize
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn after(indices: &[u64]) -> ReplayWindow {
        let mut window = ReplayWindow::new();
        indices.iter().for_each(|index| window.commit(*index));
        window
    }

    #[track_caller]
    fn check(seen: &[u64], index: u64, expected: Result<(), ReplayError>) {
        assert_eq!(after(seen).check(index), expected, "index {index} after {seen:?}");
    }

    #[track_caller]
    fn check_estimate(highest: u64, sequence: u16, expected: u64) {
        assert_eq!(after(&[highest]).estimate(sequence), expected);
    }

    #[test]
    fn an_index_is_taken_once() {
        check(&[], 0, Ok(()));
        check(&[0], 0, Err(ReplayError::Duplicate));
        check(&[5], 5, Err(ReplayError::Duplicate));
        check(&[5], 4, Ok(()));
        check(&[5, 4], 4, Err(ReplayError::Duplicate));
        check(&[5, 4], 5, Err(ReplayError::Duplicate));
        check(&[5, 9, 7], 8, Ok(()));
    }

    #[test]
    fn an_index_below_the_window_is_refused() {
        check(&[2000], 2000 - 1023, Ok(()));
        check(&[2000], 2000 - 1024, Err(ReplayError::TooOld));
        check(&[2000], 0, Err(ReplayError::TooOld));
        check(&[u64::MAX], 0, Err(ReplayError::TooOld));
        let mut window = after(&[2000]);
        window.commit(5);
        assert_eq!(window.highest(), Some(2000));
        assert_eq!(window.check(5 + 1024), Ok(()), "the late commit marked nothing");
    }

    #[test]
    fn a_jump_forgets_what_fell_out() {
        check(&[1, 2, 3, 1_000_000], 1_000_000 - 1, Ok(()));
        check(&[1, 2, 3, 1027], 1026, Ok(()));
        check(&[1, 2, 3, 1026], 3, Err(ReplayError::Duplicate));
    }

    #[test]
    fn the_nearest_cycle_is_guessed() {
        assert_eq!(ReplayWindow::new().estimate(65_535), 65_535);
        check_estimate(10, 11, 11);
        check_estimate(65_530, 2, 65_538);
        check_estimate(65_538, 65_530, 65_530);
        check_estimate(3 << 16 | 100, 65_000, 2 << 16 | 65_000);
        check_estimate(3 << 16 | 65_000, 100, 4 << 16 | 100);
        // No cycle below 0.
        check_estimate(5, 65_530, 65_530);
    }

    proptest! {
        /// The window agrees with a set that forgets nothing.
        #[test]
        fn the_window_agrees_with_a_set(
            steps in proptest::collection::vec((-1500i64..1500, 0u8..10), 1..300),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut highest = 5000u64;
            window.commit(highest);
            seen.insert(highest);
            for (step, jump) in steps {
                let step = if jump == 0 { step } else { step / 100 };
                let index = highest.saturating_add_signed(step);
                let expected = if index + REPLAY_WINDOW_PACKETS <= highest {
                    Err(ReplayError::TooOld)
                } else if seen.contains(&index) {
                    Err(ReplayError::Duplicate)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(index), expected);
                if expected.is_ok() {
                    window.commit(index);
                    seen.insert(index);
                    highest = highest.max(index);
                    prop_assert_eq!(window.highest(), Some(highest));
                }
            }
        }

        #[test]
        fn an_index_within_half_a_cycle_is_guessed_right(
            highest in 0u64..1 << 40, distance in -0x7FFFi64..=0x7FFF,
        ) {
            if let Some(index) = highest.checked_add_signed(distance) {
                prop_assert_eq!(after(&[highest]).estimate(index as u16), index);
            }
        }
    }
}
