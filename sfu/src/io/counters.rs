//! What a link counts.

/// Counts since the link was made. Written by the shard's thread alone; a copy leaves now and then.
///
/// A *message* is one system-call unit (a GRO or GSO train), a *datagram* one UDP packet of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Messages taken from the kernel.
    pub received_messages: u64,
    /// Datagrams in them.
    pub received_datagrams: u64,
    /// UDP payload bytes in them.
    pub received_bytes: u64,
    /// Datagrams longer than [`crate::limits::DATAGRAM_BYTES_MAX`] or cut by the kernel: dropped.
    pub truncated_datagrams: u64,
    /// Times the receive buffers ran out; the rest stayed in the socket's buffer until later.
    pub receive_buffers_exhausted: u64,
    /// Messages the kernel took.
    pub sent_messages: u64,
    /// Datagrams in them.
    pub sent_datagrams: u64,
    /// UDP payload bytes in them.
    pub sent_bytes: u64,
    /// Datagrams the kernel refused (no route, bad address, too long): dropped.
    pub send_errors: u64,
    /// Datagrams that found the socket's send buffer or the device's queue full: dropped.
    pub send_would_block: u64,
    /// Datagrams sent one by one because the kernel refuses GSO to their destination.
    pub gso_fallback_datagrams: u64,
    /// Waits that a [`super::Waker`] ended or forestalled.
    pub wakeups: u64,
    /// Times the thread was ready to block.
    pub waits: u64,
    /// Times it let datagrams collect.
    pub pauses: u64,
}
