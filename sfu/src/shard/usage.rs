//! Usage reports: a copy of each subscriber's meter, taken a few times a second and at its end.

use std::time::Duration;

use super::core::Core;
use crate::forward::usage::Meter;
use crate::ports::gate::MonotonicClock;
use crate::ports::{SessionKey, SlotId, SlotUsage, UsageReport};
use crate::session::transport::Session;

/// Time between two reports of a shard.
pub(super) const USAGE_INTERVAL: Duration = Duration::from_millis(200);

impl Core {
    /// Does anybody here have usage to be reported?
    pub(super) fn has_usage(&self) -> bool {
        self.usage && self.subscribers > 0
    }

    /// The usage of every subscriber that is connected, as of now.
    pub fn usage_report(&mut self) -> UsageReport {
        let (now, clock) = (self.now, self.clock);
        let mut slots = Vec::with_capacity(self.subscribers);
        for session in self.sessions.iter_mut().flatten() {
            let Some(slot) = session.slot.filter(|_| session.is_connected()) else { continue };
            if let Some(meter) = &mut session.meter {
                meter.settle(now);
            }
            slots.push(slot_usage(slot, session.key, session.meter.as_deref(), &clock));
        }
        UsageReport { shard: self.id, at: now, slots }
    }

    /// A subscriber's complete usage: its session is over.
    pub(super) fn last_usage(&self, session: &mut Session) -> Option<SlotUsage> {
        let slot = session.slot.filter(|_| self.usage)?;
        if let Some(meter) = &mut session.meter {
            meter.finish();
        }
        Some(slot_usage(slot, session.key, session.meter.as_deref(), &self.clock))
    }
}

/// A gate that never opened has no meter, and nothing was sent.
fn slot_usage(
    slot: SlotId,
    session: SessionKey,
    meter: Option<&Meter>,
    clock: &MonotonicClock,
) -> SlotUsage {
    let nothing = SlotUsage {
        slot,
        session,
        served_ms: 0,
        disputed_ms: 0,
        sent_bytes: 0,
        sent_packets: 0,
        gate_changed: 0,
        first_sent: 0,
        last_sent: 0,
    };
    let Some(meter) = meter else { return nothing };
    SlotUsage {
        served_ms: meter.served_ms,
        disputed_ms: meter.disputed_ms,
        sent_bytes: meter.sent_bytes,
        sent_packets: meter.sent_packets,
        gate_changed: clock.nanos(meter.gate_changed),
        first_sent: meter.first_sent.map_or(0, |at| clock.nanos(at)),
        last_sent: meter.last_sent.map_or(0, |at| clock.nanos(at)),
        ..nothing
    }
}
