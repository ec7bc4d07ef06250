//! Usage: what each subscriber was sent, in absolute values, so that a lost report costs freshness.

use std::time::Instant;

use super::{SessionKey, SlotId};

/// What one subscriber was sent since its session began.
///
/// Times are nanoseconds of the monotonic clock ([`crate::ports::gate::MonotonicClock`]), as of the
/// shard's turn that did it; 0 stands for "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUsage {
    pub slot: SlotId,
    pub session: SessionKey,
    /// Milliseconds of half-second slots in which at least one media packet left through an open
    /// gate, and RTCP does not say that none of the slot's packets arrived.
    pub served_ms: u64,
    /// Milliseconds of slots of whose packets RTCP says that none arrived.
    pub disputed_ms: u64,
    /// RTP payload octets, retransmissions included, headers and padding not.
    pub sent_bytes: u64,
    /// Packets of media, retransmissions included.
    pub sent_packets: u64,
    /// When the gate was last opened or closed by a command.
    pub gate_changed: u64,
    /// The first media packet since the gate was last opened.
    pub first_sent: u64,
    /// The newest packet of media.
    pub last_sent: u64,
}

/// All connected subscribers of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    pub shard: u16,
    pub at: Instant,
    pub slots: Vec<SlotUsage>,
}
