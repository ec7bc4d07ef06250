//! Hands what the kernel delivered to the shard, the same way for both links.

use std::io;

use super::message::{decode_address, decode_gro_control};
use super::{LinkCounters, Train};
use crate::limits::DATAGRAM_BYTES_MAX;

/// A received message in the kernel's form.
pub(super) struct Received<'a> {
    pub(super) endpoint: usize,
    /// Source address (`msg_name`).
    pub(super) name: &'a [u8],
    /// Control messages (`msg_control`).
    pub(super) control: &'a [u8],
    pub(super) payload: &'a [u8],
    /// `msg_flags`.
    pub(super) flags: i32,
}

/// Counts a message and hands it over, unless it was cut, its datagrams are longer than
/// [`DATAGRAM_BYTES_MAX`], or they are empty: of those the shard knows nothing to do.
pub(super) fn hand_over(
    received: &Received<'_>,
    counters: &mut LinkCounters,
    sink: &mut dyn FnMut(Train<'_>),
) {
    let bytes = received.payload;
    let coalesced = decode_gro_control(received.control).unwrap_or(bytes.len());
    let segment_bytes = coalesced.min(bytes.len());
    let datagrams = bytes.len().div_ceil(segment_bytes.max(1)).max(1) as u64;
    counters.received_messages += 1;
    counters.received_datagrams += datagrams;
    counters.received_bytes += bytes.len() as u64;
    let is_cut = received.flags & libc::MSG_TRUNC != 0;
    if is_cut || segment_bytes > DATAGRAM_BYTES_MAX {
        counters.truncated_datagrams += datagrams;
        return;
    }
    let Some(from) = decode_address(received.name) else { return };
    if !bytes.is_empty() {
        sink(Train { endpoint: received.endpoint, from, bytes, segment_bytes });
    }
}

/// Whether a receive error was caused by a peer or a passing shortage (an ICMP message, memory):
/// the socket is as good as before. Any other is ours and ends the link.
pub(super) fn is_passing(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN
            | libc::EINTR
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPROTO
            | libc::EMSGSIZE
            | libc::EACCES
            | libc::ETIMEDOUT
    )
}

/// What the last system call of this thread said.
pub(super) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::message::{
        CONTROL_BYTES, SOCKET_ADDRESS_BYTES, encode_address, encode_segment_control,
    };

    /// Hands over `len` bytes, coalesced from datagrams of `gro` bytes unless that is 0; wants what
    /// the sink saw, `(bytes, segment_bytes)`, and the counts of datagrams and of cut ones.
    #[track_caller]
    fn check(len: usize, gro: u16, flags: i32, want: Option<(usize, usize)>, counts: (u64, u64)) {
        let mut name = [0; SOCKET_ADDRESS_BYTES];
        encode_address(([127, 0, 0, 1], 5004).into(), &mut name);
        let mut control = [0; CONTROL_BYTES];
        encode_segment_control(gro, &mut control);
        control[12..16].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        let control = if gro == 0 { &[][..] } else { &control[..] };
        let payload = vec![7; len];
        let received = Received { endpoint: 3, name: &name, control, payload: &payload, flags };
        let mut counters = LinkCounters::default();
        let mut seen = None;
        hand_over(&received, &mut counters, &mut |train| {
            assert_eq!((train.endpoint, train.from), (3, ([127, 0, 0, 1], 5004).into()));
            seen = Some((train.bytes.len(), train.segment_bytes));
        });
        assert_eq!(seen, want);
        assert_eq!((counters.received_datagrams, counters.truncated_datagrams), counts);
        assert_eq!((counters.received_messages, counters.received_bytes), (1, len as u64));
    }

    #[test]
    fn a_message_is_handed_over_with_its_datagrams_size() {
        check(1200, 0, 0, Some((1200, 1200)), (1, 0));
        check(3000, 1200, 0, Some((3000, 1200)), (3, 0));
        check(800, 1200, 0, Some((800, 800)), (1, 0));
        check(2048, 0, 0, Some((2048, 2048)), (1, 0));
    }

    #[test]
    fn what_is_cut_too_long_or_empty_is_counted_and_kept_back() {
        check(2049, 0, 0, None, (1, 1));
        check(6000, 3000, 0, None, (2, 2));
        check(1200, 0, libc::MSG_TRUNC, None, (1, 1));
        check(0, 0, 0, None, (1, 0));
    }
}
