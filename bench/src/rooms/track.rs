//! What one receiver has of one sender: how many came, how many twice, how many out of order.

/// How far back a late one is told from one that came twice.
const WINDOW: u32 = 128;

/// Of a pair of peers, in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Track {
    /// Above the highest number that came.
    next: u32,
    /// Of the numbers below `next`, the nearest first: which have come.
    seen: u128,
}

/// What one more was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Above all before it.
    InOrder,
    /// One that a later one had overtaken.
    Late,
    /// It had come already, or is too old to tell.
    Again,
}

impl Track {
    /// Takes the number of one that came.
    pub fn take(&mut self, number: u32) -> Step {
        if number >= self.next {
            let jump = number - self.next + 1;
            self.seen = if jump < WINDOW { self.seen << jump } else { 0 };
            self.seen |= 1;
            self.next = number + 1;
            return Step::InOrder;
        }
        let back = self.next - 1 - number;
        if back >= WINDOW || self.seen >> back & 1 == 1 {
            return Step::Again;
        }
        self.seen |= 1 << back;
        Step::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_doubles_and_gaps_are_told_apart() {
        use Step::{Again, InOrder, Late};
        let mut track = Track::default();
        for (number, expected) in [
            (0, InOrder),
            (0, Again),
            (3, InOrder),
            (1, Late),
            (1, Again),
            (3, Again),
            (2, Late),
            (4, InOrder),
            (400, InOrder),
            (399, Late),
            (399, Again),
            (100, Again), // Older than the window: no way to tell, and the worse is assumed.
        ] {
            assert_eq!(track.take(number), expected, "{number}");
        }
    }
}
