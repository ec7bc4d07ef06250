//! Sockets and system calls. `unsafe` lives here and in `ports.rs`, nowhere else in the crate.
//!
//! One [`Link`] trait, two bodies: [`UringLink`] (io_uring, multishot receive into provided
//! buffers) and [`EpollLink`] (`recvmmsg`, `sendmmsg`). Both receive trains coalesced by UDP GRO
//! and send trains by UDP GSO; what they lose, refuse and count is the same.

mod atomic {
    //! The atomics of [`super::sleep`]; its loom model puts loom's in their place.
    pub(super) use std::sync::atomic::{AtomicU8, Ordering};
}
mod arena;
mod counters;
mod deadline;
mod endpoint;
mod epoll;
mod host;
mod inbox;
mod kind;
mod message;
mod outbox;
mod sleep;
mod uring;
mod waker;

use std::net::SocketAddr;
use std::time::Instant;

pub use counters::LinkCounters;
pub use endpoint::{
    BindError, BufferBytes, Endpoint, SOCKET_BUFFER_BYTES, ShardSockets, TAKEN_PATIENCE,
    bind_shards, host_addresses,
};
pub use epoll::EpollLink;
pub use host::{monotonic_nanos, pin_to_core, prefer_thread};
pub use kind::{LinkKind, UnknownLink};
pub use uring::{LinkUnavailable, UringLink, available};
pub use waker::Waker;

/// One datagram, or several equal ones of one sender that the kernel coalesced (UDP GRO).
#[derive(Debug)]
pub struct Train<'a> {
    /// Index of the local socket (see [`Endpoint`]) it arrived on.
    pub endpoint: usize,
    /// Source address.
    pub from: SocketAddr,
    /// The datagrams' payloads, one after the other.
    pub bytes: &'a [u8],
    /// Bytes of each datagram; the last may be shorter. Equals `bytes.len()` for a single one.
    pub segment_bytes: usize,
}

/// A message to send: the bytes written by the caller since [`Link::begin`].
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Index of the local socket (see [`Endpoint`]) it leaves from.
    pub endpoint: usize,
    /// Destination address, of the endpoint's family.
    pub to: SocketAddr,
    /// Bytes of the whole message, at most [`crate::limits::MESSAGE_BYTES_MAX`].
    pub len_bytes: usize,
    /// Equal to `len_bytes` for a single datagram, else the size of each but the last (UDP GSO).
    pub segment_bytes: usize,
}

/// A shard's sockets. Not `Sync`: one thread owns it.
pub trait Link {
    /// Waits until a datagram came, `deadline` passed or a [`Waker`] woke us; `None` waits for ever
    /// and a deadline in the past polls. Hands everything that is there to `sink`.
    ///
    /// A [`Waker::wake`] since the last return ends the wait at once: the shard's loop is *drain
    /// the queues, then `receive`*, and nothing queued in between is slept over.
    ///
    /// # Errors
    /// The kernel's, for the link as a whole; those of one peer are counted and passed over.
    fn receive(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> std::io::Result<()>;

    /// Sleeps until `until` while datagrams collect; the next [`Link::receive`] hands them over
    /// together. Neither they nor a [`Waker`] end it, so it must be short: one wake-up for many
    /// datagrams is the point.
    fn pause(&mut self, until: Instant);

    /// Room for one message of up to [`crate::limits::MESSAGE_BYTES_MAX`] bytes. Flushes when the
    /// arena is full. Calling it again without [`Link::commit`] gives the same room.
    fn begin(&mut self) -> &mut [u8];

    /// Queues the first `message.len_bytes` bytes of the room last given.
    fn commit(&mut self, message: Message);

    /// Sends what is queued. What the kernel refuses is dropped and counted, never retried later.
    fn flush(&mut self);

    /// What passed through so far.
    fn counters(&self) -> &LinkCounters;

    /// A handle with which any thread ends this link's wait.
    fn waker(&self) -> Waker;
}
