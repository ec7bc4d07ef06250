//! Which packets of a tick share one message (UDP GSO wants equal sizes, the last may be shorter).

use crate::limits::{MESSAGE_BYTES_MAX, MESSAGE_SEGMENTS_MAX};
use crate::wire::rtp::HEADER_BYTES_MAX;

/// What a subscriber's copy of one packet gets: padding, and whether a message ends behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// 0 or 1 bytes of RTP padding.
    pub padding: usize,
    pub ends_run: bool,
}

/// How packets become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// Several packets a message (UDP GSO); else each is one of its own.
    pub gso: bool,
    /// One byte of RTP padding where it makes a frame one message.
    pub padding: bool,
}

impl Default for Runs {
    /// What measured best.
    fn default() -> Runs {
        Runs { gso: true, padding: true }
    }
}

impl Runs {
    fn segments_max(self) -> usize {
        if self.gso { MESSAGE_SEGMENTS_MAX } else { 1 }
    }

    /// Bytes by which packets of one run may differ before padding.
    fn slack(self) -> usize {
        usize::from(self.padding && self.gso)
    }
}

/// Header and authentication tag of any profile: what a packet can be longer than its payload by.
const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES_MAX + 16 + 1;

/// Plans the messages for packets with these payload lengths, in order; fills `steps`.
///
/// libwebrtc splits a frame into packets that never differ by more than one byte (VP8, H.264 and
/// VP9), so one byte of padding on the shorter ones makes a frame one message instead of two.
/// The plan holds for every subscriber: headers within a tick have one size.
pub fn plan(lengths: impl Iterator<Item = usize>, runs: Runs, steps: &mut Vec<Step>) {
    steps.clear();
    let mut lengths = lengths.peekable();
    let mut run: Option<Run> = None;
    let mut run_start = 0;
    // The lengths of the current run are needed once more for the padding; a run is short.
    let mut run_lengths = [0usize; MESSAGE_SEGMENTS_MAX];
    while let Some(length) = lengths.next() {
        let current = match run {
            None => Run { low: length, high: length, count: 1 },
            Some(run) => {
                Run { low: run.low.min(length), high: run.high.max(length), count: run.count + 1 }
            }
        };
        run_lengths[current.count - 1] = length;
        steps.push(Step { padding: 0, ends_run: false });
        // A packet shorter by more than padding makes up for may only be the last.
        let short_last = current.high - current.low > runs.slack();
        let ends = short_last
            || current.count == runs.segments_max()
            || lengths.peek().is_none_or(|next| !current.takes(*next, runs.slack()));
        run = Some(current);
        if ends {
            let last = steps.len() - 1;
            for index in run_start..last {
                steps[index].padding = current.high - run_lengths[index - run_start];
            }
            steps[last].ends_run = true;
            run_start = steps.len();
            run = None;
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    low: usize,
    high: usize,
    count: usize,
}

impl Run {
    /// Can a packet of this length follow, as an equal one or as the short last?
    fn takes(self, length: usize, slack: usize) -> bool {
        let bytes = (self.count + 1) * (self.high.max(length) + OVERHEAD_BYTES_MAX);
        bytes <= MESSAGE_BYTES_MAX && length <= self.low + slack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs separated by `|`; `+` marks a padded packet.
    #[track_caller]
    fn check(lengths: &[usize], want: &str) {
        check_with(Runs::default(), lengths, want);
    }

    #[track_caller]
    fn check_with(runs: Runs, lengths: &[usize], want: &str) {
        let mut steps = Vec::new();
        plan(lengths.iter().copied(), runs, &mut steps);
        let mut got = String::new();
        for (length, step) in lengths.iter().zip(&steps) {
            got.push_str(&format!("{length}{}", "+".repeat(step.padding)));
            got.push_str(if step.ends_run { "|" } else { " " });
        }
        assert_eq!(got, want);
    }

    #[test]
    fn a_frame_becomes_one_run() {
        check(&[], "");
        check(&[1100], "1100|");
        check(&[1100, 1100, 1100], "1100 1100 1100|");
        check(&[1100, 1100, 1099, 1099], "1100 1100 1099+ 1099|");
        check(&[1099, 1100, 1100], "1099+ 1100 1100|");
        check(&[1100, 1100, 600], "1100 1100 600|");
        check(&[600, 1100, 1100], "600|1100 1100|");
        check(&[1100, 600, 1100], "1100 600|1100|");
        check(&[1098, 1099, 1100], "1098+ 1099|1100|");
        check(&[0, 1], "0+ 1|");
    }

    #[test]
    fn without_padding_a_longer_packet_begins_a_run_and_without_gso_each_does() {
        let unpadded = Runs { gso: true, padding: false };
        check_with(unpadded, &[1100, 1100, 1099, 1099], "1100 1100 1099|1099|");
        check_with(unpadded, &[1099, 1099, 1100], "1099 1099|1100|");
        let single = Runs { gso: false, padding: true };
        check_with(single, &[1100, 1100, 1099], "1100|1100|1099|");
    }

    proptest::proptest! {
        /// In a run all but the last have one padded size, the last is not longer, and the message
        /// fits, whatever the lengths are.
        #[test]
        fn every_run_is_a_legal_message(
            lengths in proptest::collection::vec(0usize..1500, 0..300),
            gso: bool,
            padding: bool,
        ) {
            let mut steps = Vec::new();
            plan(lengths.iter().copied(), Runs { gso, padding }, &mut steps);
            proptest::prop_assert_eq!(steps.len(), lengths.len());
            let mut run: Vec<usize> = Vec::new();
            for (length, step) in lengths.iter().zip(&steps) {
                proptest::prop_assert!(step.padding <= 1);
                run.push(length + step.padding);
                if step.ends_run {
                    let (last, others) = run.split_last().expect("one was just pushed");
                    proptest::prop_assert!(others.iter().all(|size| *size == others[0]));
                    proptest::prop_assert!(others.first().is_none_or(|size| last <= size));
                    proptest::prop_assert!(run.len() <= MESSAGE_SEGMENTS_MAX);
                    let bytes: usize = run.iter().map(|size| size + OVERHEAD_BYTES_MAX - 1).sum();
                    proptest::prop_assert!(bytes <= MESSAGE_BYTES_MAX);
                    run.clear();
                }
            }
            proptest::prop_assert!(run.is_empty());
        }
    }
}
