//! What a publisher's packets lack, and when to ask for it (generic NACK, RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

use crate::limits::MISSING_MAX;

/// A packet may be overtaken for this long before it counts as lost.
const REORDER_GRACE: Duration = Duration::from_millis(10);
/// Time between two requests for one packet: about a round trip of a bad line.
const RETRY_INTERVAL: Duration = Duration::from_millis(80);
/// After this many requests the packet is given up.
const TRIES_MAX: u8 = 8;

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    tries: u8,
    ask_at: Instant,
}

/// Gaps in one track of a publisher.
#[derive(Debug, Default)]
pub struct LossDetector {
    highest: Option<u64>,
    missing: Vec<Missing>,
}

impl LossDetector {
    /// A packet came, first-hand or by retransmission. `true`: so much is missing that asking is
    /// pointless, and only a keyframe helps.
    pub fn handle_packet(&mut self, sequence: u64, now: Instant) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return false;
        };
        if sequence <= highest {
            self.missing.retain(|missing| missing.sequence != sequence);
            return false;
        }
        self.highest = Some(sequence);
        let gap = (sequence - highest - 1) as usize;
        if self.missing.len() + gap > MISSING_MAX {
            self.missing.clear();
            return true;
        }
        let ask_at = now + REORDER_GRACE;
        let lost = highest + 1..sequence;
        self.missing.extend(lost.map(|sequence| Missing { sequence, tries: 0, ask_at }));
        false
    }

    /// Appends what to ask for now to `ask`, ascending.
    pub fn handle_timeout(&mut self, now: Instant, ask: &mut Vec<u64>) {
        self.missing.retain_mut(|missing| {
            if missing.ask_at > now {
                return true;
            }
            if missing.tries == TRIES_MAX {
                return false;
            }
            missing.tries += 1;
            missing.ask_at = now + RETRY_INTERVAL;
            ask.push(missing.sequence);
            true
        });
    }

    /// When [`LossDetector::handle_timeout`] has something to do next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.ask_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str) {
        let start = Instant::now();
        let mut detector = LossDetector::default();
        for line in script.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let now = start + Duration::from_millis(words[0].parse().expect("milliseconds"));
            let line = line.split("//").next().unwrap_or_default();
            let want = line.split_once("->").map_or("", |(_, want)| want.trim());
            let got = if words[1] == "timeout" {
                let mut ask = Vec::new();
                detector.handle_timeout(now, &mut ask);
                ask.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
            } else if detector.handle_packet(words[1].parse().expect("sequence"), now) {
                "keyframe".into()
            } else {
                String::new()
            };
            assert_eq!(got, want, "{line}");
        }
    }

    #[test]
    fn a_gap_is_asked_for_until_it_closes() {
        check(
            " 0 10
              1 13
              5 timeout ->            // May still be on its way.
             11 timeout -> 11 12
             12 timeout ->            // Asked just now.
             30 11
             91 timeout -> 12
             95 12
            500 timeout ->",
        );
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up() {
        let start = Instant::now();
        let mut detector = LossDetector::default();
        detector.handle_packet(1, start);
        detector.handle_packet(3, start);
        let mut ask = Vec::new();
        for tick in 0..100 {
            detector.handle_timeout(start + RETRY_INTERVAL * tick, &mut ask);
        }
        assert_eq!(ask, vec![2; usize::from(TRIES_MAX)]);
        assert_eq!(detector.next_timeout(), None);
    }

    #[test]
    fn a_hole_too_large_to_mend_wants_a_keyframe() {
        check(&format!("0 10\n 0 {} -> keyframe\n 100 timeout ->", 12 + MISSING_MAX));
    }
}
