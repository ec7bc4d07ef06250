//! What one subscriber was sent, and for how much of the time it arrived, in slots of half a second.
//!
//! A slot exists if a packet of media left in it, so a closed gate makes none. It is *served* unless
//! RTCP says that nothing of it arrived; silence about it is no such word.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ports::Kind;
use crate::wire::twcc;

/// Length of a slot.
pub const SLOT: Duration = Duration::from_millis(500);
const SLOT_MS: u64 = SLOT.as_millis() as u64;
/// How long after its end RTCP may say that nothing of a slot arrived.
const PATIENCE: Duration = Duration::from_secs(1);
/// Slots not decided yet, the running one included; with more, the oldest is decided at once.
const OPEN_SLOTS_MAX: usize = 4;
/// Fraction lost of a report block that says that nothing arrived (RFC 3550 §6.4.1).
const ALL_LOST: u8 = u8::MAX;

/// What left for a subscriber in one go.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    pub kind: Kind,
    pub packets: u64,
    /// Payload octets, without padding.
    pub bytes: u64,
    /// Transport-wide number of the first packet, or of the next one if these have none.
    pub first: u16,
    pub has_numbers: HasNumbers,
}

/// Do a batch's packets carry transport-wide numbers?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasNumbers {
    Yes,
    No,
}

/// A slot that is not decided, or that still runs.
#[derive(Debug, Clone, Copy)]
struct Slot {
    ends: Instant,
    is_decided: bool,
    /// Transport-wide numbers of its packets: the first, and how many.
    first: u16,
    numbers: u16,
    /// Of those, so many from the first on did not arrive, feedback says.
    missing: u16,
    /// Kinds without numbers that it has packets of, a bit each.
    unnumbered: u8,
    /// Kinds of which a report says that all was lost.
    lost: u8,
}

impl Slot {
    /// Does RTCP say of every packet that it did not arrive?
    fn is_disputed(&self) -> bool {
        self.missing == self.numbers && self.unnumbered & !self.lost == 0
    }
}

/// The meter of one subscriber. Allocated when its gate first opens, then never again.
#[derive(Debug)]
pub struct Meter {
    /// Slots begin at whole multiples of [`SLOT`] from here.
    anchor: Instant,
    slot_ends: Instant,
    /// Oldest first; the last is the running one.
    slots: VecDeque<Slot>,
    pub served_ms: u64,
    pub disputed_ms: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub gate_changed: Instant,
    /// First packet of media since the gate was last opened.
    pub first_sent: Option<Instant>,
    pub last_sent: Option<Instant>,
}

impl Meter {
    /// The gate opens for the first time.
    pub fn new(now: Instant) -> Meter {
        Meter {
            anchor: now,
            slot_ends: now,
            slots: VecDeque::with_capacity(OPEN_SLOTS_MAX),
            served_ms: 0,
            disputed_ms: 0,
            sent_bytes: 0,
            sent_packets: 0,
            gate_changed: now,
            first_sent: None,
            last_sent: None,
        }
    }

    pub fn handle_gate_opened(&mut self, now: Instant) {
        self.gate_changed = now;
        self.first_sent = None;
    }

    pub fn handle_gate_closed(&mut self, now: Instant) {
        self.gate_changed = now;
    }

    /// Media left. Runs once for a subscriber, a track and a tick: additions and two comparisons.
    #[inline]
    pub fn handle_sent(&mut self, now: Instant, batch: Batch) {
        if batch.packets == 0 {
            return;
        }
        if now >= self.slot_ends {
            self.start_slot(now, batch.first);
        }
        self.sent_packets += batch.packets;
        self.sent_bytes += batch.bytes;
        self.last_sent = Some(now);
        self.first_sent.get_or_insert(now);
        let Some(slot) = self.slots.back_mut() else { return };
        match batch.has_numbers {
            HasNumbers::Yes => {
                let end = batch.first.wrapping_add(batch.packets as u16);
                slot.numbers = end.wrapping_sub(slot.first);
            }
            HasNumbers::No => slot.unnumbered |= 1 << batch.kind as u8,
        }
    }

    /// A retransmission left; alone it serves no slot.
    pub fn handle_retransmitted(&mut self, now: Instant, bytes: u64) {
        self.sent_packets += 1;
        self.sent_bytes += bytes;
        self.last_sent = Some(now);
    }

    #[cold]
    fn start_slot(&mut self, now: Instant, first: u16) {
        self.settle(now);
        if self.slots.len() == OPEN_SLOTS_MAX {
            self.decide(0);
            self.forget_decided(now);
        }
        let number = now.duration_since(self.anchor).as_millis() as u64 / SLOT_MS;
        self.slot_ends = self.anchor + Duration::from_millis((number + 1) * SLOT_MS);
        self.slots.push_back(Slot {
            ends: self.slot_ends,
            is_decided: false,
            first,
            numbers: 0,
            missing: 0,
            unnumbered: 0,
            lost: 0,
        });
    }

    /// Transport-wide feedback, from its base sequence number on. What cannot be read says nothing.
    pub fn handle_feedback(&mut self, body: &[u8]) {
        if self.slots.iter().all(|slot| slot.is_decided) {
            return;
        }
        for run in twcc::runs(body) {
            for at in 0..self.slots.len() {
                let slot = &mut self.slots[at];
                if slot.is_decided {
                    continue;
                }
                // Where the run begins, counted from the slot's first packet; numbers wrap.
                let offset = i32::from(run.first.wrapping_sub(slot.first) as i16);
                let begin = offset.max(0);
                let end = (offset + i32::from(run.packets)).min(i32::from(slot.numbers));
                if begin >= end {
                    continue;
                }
                if run.received {
                    self.serve(at);
                } else if begin <= i32::from(slot.missing) {
                    slot.missing = slot.missing.max(end as u16);
                }
            }
        }
    }

    /// A report block on a track whose packets have no transport-wide numbers.
    pub fn handle_report(&mut self, kind: Kind, fraction_lost: u8, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.is_decided || slot.ends > now || slot.unnumbered >> kind as u8 & 1 == 0 {
                continue;
            }
            if fraction_lost == ALL_LOST {
                slot.lost |= 1 << kind as u8;
            } else {
                self.serve(at);
            }
        }
    }

    /// Decides the slots whose time is up.
    pub fn settle(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            if self.slots[at].ends + PATIENCE <= now {
                self.decide(at);
            }
        }
        self.forget_decided(now);
    }

    /// Decides every slot: the session ends.
    pub fn finish(&mut self) {
        (0..self.slots.len()).for_each(|at| self.decide(at));
        self.slots.clear();
    }

    fn decide(&mut self, at: usize) {
        if self.slots[at].is_decided {
            return;
        }
        if self.slots[at].is_disputed() {
            self.slots[at].is_decided = true;
            self.disputed_ms += SLOT_MS;
        } else {
            self.serve(at);
        }
    }

    fn serve(&mut self, at: usize) {
        self.slots[at].is_decided = true;
        self.served_ms += SLOT_MS;
    }

    /// The running slot stays, decided or not: its packets are still to come.
    fn forget_decided(&mut self, now: Instant) {
        self.slots.retain(|slot| !slot.is_decided || slot.ends > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtcp::{self, Rtcp};
    use crate::wire::twcc::TwccReceiver;

    /// Plays a script: `<ms> sent <packets>`, `plain <packets>` (without numbers), `arrived <numbers>`
    /// and `none <last>` (feedback that ends there), `report <fraction>`, `look`, `end`; after `->`
    /// stands what must have been served and disputed by then, in milliseconds.
    #[track_caller]
    fn check(script: &str) {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let mut next = u16::MAX - 3;
        let first = next;
        for line in script.lines().map(|line| line.split("//").next().unwrap_or_default()) {
            let (input, want) = line.split_once("->").unwrap_or((line, ""));
            let words: Vec<&str> = input.split_whitespace().collect();
            let [ms, what, rest @ ..] = &words[..] else { panic!("{line}") };
            let now = start + Duration::from_millis(ms.parse().expect("milliseconds"));
            let numbers: Vec<u16> =
                rest.iter().map(|word| word.parse().expect("a number")).collect();
            let sent = |has_numbers| Batch {
                kind: Kind::Video,
                packets: u64::from(numbers[0]),
                bytes: 100 * u64::from(numbers[0]),
                first: next,
                has_numbers,
            };
            match *what {
                "sent" => {
                    meter.handle_sent(now, sent(HasNumbers::Yes));
                    next = next.wrapping_add(numbers[0]);
                }
                "plain" => meter.handle_sent(now, sent(HasNumbers::No)),
                "arrived" => {
                    let mut receiver = TwccReceiver::new();
                    for number in numbers {
                        receiver.record(first.wrapping_add(number), 1000);
                    }
                    let mut out = Vec::new();
                    receiver.build(1, 2, &mut out);
                    for packet in rtcp::parse(&out) {
                        let Ok(Rtcp::TransportFeedback { body, .. }) = packet else { panic!() };
                        meter.handle_feedback(body);
                    }
                }
                // base, status count, reference time and count, one run of "not received".
                "none" => {
                    let mut body = first.wrapping_add(numbers[0]).to_be_bytes().to_vec();
                    body.extend_from_slice(&numbers[1].to_be_bytes());
                    body.extend_from_slice(&[0; 4]);
                    body.extend_from_slice(&numbers[1].to_be_bytes());
                    meter.handle_feedback(&body);
                }
                "report" => meter.handle_report(Kind::Video, numbers[0] as u8, now),
                "look" => meter.settle(now),
                "end" => meter.finish(),
                other => panic!("{other}"),
            }
            if !want.is_empty() {
                assert_eq!(
                    format!("{} {}", meter.served_ms, meter.disputed_ms),
                    want.trim(),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn a_slot_of_which_nothing_is_heard_is_served_a_second_after_its_end() {
        check(
            "   0 sent 3
              400 sent 3
             1499 look -> 0 0
             1500 look -> 500 0
             9000 look -> 500 0   // Nothing was sent in the others.",
        );
    }

    #[test]
    fn an_arrival_decides_at_once_and_only_once() {
        check(
            "   0 sent 3
               50 arrived 2 -> 500 0
               60 arrived 2 -> 500 0
              100 sent 3
              120 arrived 4 -> 500 0
              600 sent 3    -> 500 0
              620 arrived 5 -> 500 0  // Of the slot before.
              630 arrived 6 -> 1000 0
             5000 look      -> 1000 0",
        );
    }

    #[test]
    fn a_slot_that_did_not_arrive_at_all_is_disputed() {
        check(
            "   0 sent 6
              600 sent 2
              700 none 0 6
             1499 look -> 0 0
             1500 look -> 0 500
             2000 look -> 500 500",
        );
        // In two feedbacks, then one that says that it came after all.
        check("0 sent 6\n 600 none 0 2\n 620 none 2 4\n 1500 look -> 0 500");
        check("0 sent 6\n 600 none 0 6\n 900 arrived 5 -> 500 0\n 1500 look -> 500 0");
    }

    #[test]
    fn feedback_that_speaks_of_a_part_only_disputes_nothing() {
        check("0 sent 6\n 600 none 0 5\n 1500 look -> 500 0");
        check("0 sent 6\n 600 none 1 5\n 1500 look -> 500 0");
        check("0 sent 6\n 600 none 0 2\n 610 none 3 3\n 1500 look -> 500 0");
        check("0 sent 6\n 600 none 100 5\n 1500 look -> 500 0");
    }

    #[test]
    fn reports_decide_where_packets_have_no_numbers() {
        check("0 plain 3\n 600 report 255\n 1500 look -> 0 500");
        check("0 plain 3\n 600 report 254 -> 500 0\n 1500 look -> 500 0");
        check("0 plain 3\n 400 report 255\n 1500 look -> 500 0"); // The slot had not ended.
        check("0 plain 3\n 10 sent 2\n 600 report 255\n 1500 look -> 500 0");
        check("0 plain 3\n 10 sent 2\n 600 report 255\n 700 none 0 2\n 1500 look -> 0 500");
    }

    #[test]
    fn the_end_of_a_session_decides_what_is_open() {
        check("0 sent 3\n 600 sent 3\n 700 end -> 1000 0\n 5000 look -> 1000 0");
        check("0 sent 3\n 600 sent 3\n 700 none 0 3\n 700 end -> 500 500");
    }

    #[test]
    fn a_batch_of_nothing_serves_nothing() {
        check("0 sent 0\n 0 end -> 0 0");
    }

    proptest::proptest! {
        /// Whatever peers say, each slot with a packet is decided exactly once, and no other is.
        #[test]
        fn every_slot_is_decided_once(
            steps in proptest::collection::vec((0u64..400, 0u8..5, 0u16..50, 0u16..50), 1..100)
        ) {
            let start = Instant::now();
            let mut meter = Meter::new(start);
            let mut next = 0u16;
            let mut at_ms = 0;
            let mut slots = std::collections::BTreeSet::new();
            let mut packets_sent = 0;
            for (step_ms, what, a, b) in steps {
                at_ms += step_ms;
                let now = start + Duration::from_millis(at_ms);
                match what {
                    0 | 1 => {
                        let has_numbers = if what == 0 { HasNumbers::Yes } else { HasNumbers::No };
                        let packets = u64::from(a);
                        let (kind, bytes, first) = (Kind::Video, 0, next);
                        meter.handle_sent(now, Batch { kind, packets, bytes, first, has_numbers });
                        if a > 0 {
                            slots.insert(at_ms / SLOT_MS);
                            packets_sent += packets;
                        }
                        next = next.wrapping_add(if what == 0 { a } else { 0 });
                    }
                    2 => {
                        let mut body = a.to_be_bytes().to_vec();
                        body.extend_from_slice(&b.to_be_bytes());
                        body.extend_from_slice(&[0; 4]);
                        body.extend_from_slice(&((a % 3) << 13 | b).to_be_bytes());
                        meter.handle_feedback(&body);
                    }
                    3 => meter.handle_report(Kind::Video, (a % 2 * 255) as u8, now),
                    _ => meter.settle(now),
                }
                let decided = (meter.served_ms + meter.disputed_ms) / SLOT_MS;
                proptest::prop_assert!(decided <= slots.len() as u64);
            }
            meter.finish();
            let decided = (meter.served_ms + meter.disputed_ms) / SLOT_MS;
            proptest::prop_assert_eq!(decided, slots.len() as u64);
            proptest::prop_assert_eq!(meter.sent_packets, packets_sent);
        }
    }
}
