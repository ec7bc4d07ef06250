//! Media between relay and viewer, as MONEY sees it: slots of half a second, decided late.

use settlement::decide::Usage;
use sfu::ports::SessionKey;

const SLOT_MS: u64 = 500;
/// After its end, a slot of which nothing is heard is decided.
const PATIENCE_MS: u64 = 1_000;
/// Transport-wide feedback comes so often.
const FEEDBACK_MS: u64 = 100;

struct Slot {
    begins_ms: u64,
    is_lost: bool,
}

/// What a relay sends one viewer, and learns of it.
pub struct Path {
    rtt_ms: u64,
    usage: Usage,
    was_open: bool,
    slots: Vec<Slot>,
    /// The viewer received something in so many slots, ms.
    pub received_ms: u64,
    /// Media left in so many slots that arrived, ms: what a fair price would be asked for.
    pub true_ms: u64,
    /// Media that left in slots of which the viewer says that nothing arrived, ms.
    pub denied_ms: u64,
}

impl Path {
    pub fn new(session: SessionKey, rtt_ms: u64) -> Self {
        let usage = Usage {
            session,
            served_ms: 0,
            disputed_ms: 0,
            sent_bytes: 0,
            first_sent_ns: 0,
            last_sent_ns: 0,
        };
        let (received_ms, true_ms, denied_ms) = (0, 0, 0);
        Self { rtt_ms, usage, was_open: false, slots: Vec::new(), received_ms, true_ms, denied_ms }
    }

    /// Time has come to `now_ms`; if the gate is open, media leaves. `is_lost` says of a slot that
    /// begins whether nothing of it arrives, or is said to.
    pub fn step(&mut self, now_ms: u64, is_open: bool, is_lost: impl FnOnce() -> bool) {
        if is_open {
            let now_ns = now_ms * 1_000_000;
            if !self.was_open {
                self.usage.first_sent_ns = now_ns;
            }
            self.usage.last_sent_ns = now_ns;
            self.usage.sent_bytes += 6_250;
            let begins_ms = now_ms / SLOT_MS * SLOT_MS;
            if self.slots.last().is_none_or(|slot| slot.begins_ms != begins_ms) {
                let is_lost = is_lost();
                self.slots.push(Slot { begins_ms, is_lost });
                if is_lost {
                    self.denied_ms += SLOT_MS;
                } else {
                    self.received_ms += SLOT_MS;
                    self.true_ms += SLOT_MS;
                }
            }
        }
        self.was_open = is_open;
        let rtt_ms = self.rtt_ms;
        let usage = &mut self.usage;
        self.slots.retain(|slot| {
            let heard_ms = slot.begins_ms + rtt_ms + FEEDBACK_MS;
            let given_up_ms = slot.begins_ms + SLOT_MS + PATIENCE_MS;
            if !slot.is_lost && now_ms >= heard_ms {
                usage.served_ms += SLOT_MS;
            } else if slot.is_lost && now_ms >= given_up_ms {
                usage.disputed_ms += SLOT_MS;
            } else {
                return true;
            }
            // The running slot is kept, so that it is not counted twice.
            now_ms < slot.begins_ms + SLOT_MS && {
                if slot.is_lost {
                    usage.disputed_ms -= SLOT_MS
                } else {
                    usage.served_ms -= SLOT_MS
                }
                true
            }
        });
    }

    /// As the shard reports it each 200 ms.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The session's last word: every slot decided.
    pub fn finish(mut self) -> Usage {
        for slot in self.slots.drain(..) {
            if slot.is_lost {
                self.usage.disputed_ms += SLOT_MS;
            } else {
                self.usage.served_ms += SLOT_MS;
            }
        }
        self.usage
    }
}
