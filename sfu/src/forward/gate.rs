//! The gate: which slots of a stream may be sent to, as plain bit words written by one shard.

use std::time::Instant;

/// Gate bits of one stream on one shard; bit `i` is the stream's slot `i`.
///
/// A slot starts closed, and an open one closes by itself at its deadline: silence never opens.
#[derive(Debug, Default)]
pub struct Gates {
    open: Vec<u64>,
    deadlines: Vec<Option<Instant>>,
    /// Not later than the earliest deadline of an open slot.
    next_deadline: Option<Instant>,
}

impl Gates {
    /// Makes room for slot `bit`, closed.
    pub fn add(&mut self, bit: usize) {
        if self.deadlines.len() <= bit {
            self.deadlines.resize(bit + 1, None);
            self.open.resize(bit / 64 + 1, 0);
        }
        self.close(bit);
    }

    /// Opens slot `bit` until `valid_until` (`None`: until told otherwise).
    pub fn open(&mut self, bit: usize, valid_until: Option<Instant>) {
        self.open[bit / 64] |= 1 << (bit % 64);
        self.deadlines[bit] = valid_until;
        // A deadline that moved back leaves `next_deadline` early: one scan too many, no error.
        self.next_deadline = self.next_deadline.into_iter().chain(valid_until).min();
    }

    pub fn close(&mut self, bit: usize) {
        self.open[bit / 64] &= !(1 << (bit % 64));
        self.deadlines[bit] = None;
    }

    pub fn is_open(&self, bit: usize) -> bool {
        self.open.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Closes every slot whose time is up; called before each fan-out. Returns how many closed.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> usize {
        match self.next_deadline {
            Some(deadline) if deadline <= now => self.expire_due(now),
            _ => 0,
        }
    }

    fn expire_due(&mut self, now: Instant) -> usize {
        let mut closed = 0;
        for bit in 0..self.deadlines.len() {
            if self.deadlines[bit].is_some_and(|deadline| deadline <= now) {
                self.open[bit / 64] &= !(1 << (bit % 64));
                self.deadlines[bit] = None;
                closed += 1;
            }
        }
        self.next_deadline = self.deadlines.iter().flatten().min().copied();
        closed
    }

    /// The words, for the fan-out to iterate.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_new_gate_is_closed() {
        let mut gates = Gates::default();
        gates.add(70);
        assert!((0..=70).all(|bit| !gates.is_open(bit)));
        assert!(!gates.is_open(10_000), "a slot that does not exist is not open");
    }

    #[test]
    fn a_reused_slot_is_closed_again() {
        let mut gates = Gates::default();
        gates.add(3);
        gates.open(3, None);
        gates.add(3);
        assert!(!gates.is_open(3));
    }

    #[test]
    fn silence_closes_a_gate_at_its_deadline() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gates = Gates::default();
        gates.add(0);
        gates.add(1);
        gates.open(0, Some(at(100)));
        gates.open(1, Some(at(200)));
        assert_eq!(gates.expire(at(99)), 0);
        assert_eq!(gates.expire(at(100)), 1);
        assert!(!gates.is_open(0) && gates.is_open(1));
        gates.open(1, Some(at(300))); // Renewed in time.
        assert_eq!(gates.expire(at(250)), 0);
        assert_eq!(gates.expire(at(300)), 1);
        assert!(!gates.is_open(1));
    }

    proptest::proptest! {
        /// Whatever happens, a slot is open only if its last command opened it and its time is not up.
        #[test]
        fn gates_agree_with_a_map_of_last_commands(
            commands in proptest::collection::vec((0usize..130, 0u8..3, 0u64..50), 0..200)
        ) {
            let start = Instant::now();
            let mut gates = Gates::default();
            let mut model: Vec<Option<Option<Instant>>> = vec![None; 130];
            gates.add(129);
            for (step, (bit, op, ms)) in commands.into_iter().enumerate() {
                let now = start + Duration::from_millis(step as u64);
                let until = now + Duration::from_millis(ms);
                match op {
                    0 => { gates.close(bit); model[bit] = None }
                    1 => { gates.open(bit, Some(until)); model[bit] = Some(Some(until)) }
                    _ => { gates.open(bit, None); model[bit] = Some(None) }
                }
                gates.expire(now);
                for (bit, state) in model.iter().enumerate() {
                    let open = matches!(state, Some(until) if until.is_none_or(|until| until > now));
                    proptest::prop_assert_eq!(gates.is_open(bit), open);
                }
            }
        }
    }
}
