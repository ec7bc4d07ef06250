//! Sends an arena's messages in batches, and settles what the kernel said of each.
//!
//! Both links share it, so that they refuse, fall back and count alike; a link only takes a
//! [`Batch`] to the kernel and writes down the results.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::arena::{Arena, Queued};
use super::message::{CONTROL_BYTES, SOCKET_ADDRESS_BYTES, encode_address, encode_segment_control};
use super::{LinkCounters, Message};
use crate::limits::MESSAGES_PER_FLUSH_MAX;

/// Messages that go to the kernel together.
pub(super) const BATCH_MESSAGES_MAX: usize = MESSAGES_PER_FLUSH_MAX;

/// Destinations remembered as refusing GSO. When it is full it is emptied: each that still refuses
/// costs one failed send to learn again.
const SINGLE_SENDS_MAX: usize = 1024;

/// What the kernel wants besides the payload: lies still while it reads.
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL_BYTES],
    address: [u8; SOCKET_ADDRESS_BYTES],
    payload: libc::iovec,
}

/// What we want to know when the result is there.
#[derive(Debug, Clone, Copy)]
struct Sent {
    endpoint: usize,
    /// Position in the arena's queue.
    index: usize,
    datagrams: u64,
    bytes: u64,
}

/// Up to [`BATCH_MESSAGES_MAX`] messages in the kernel's form, and room for its results.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    /// `headers[i]` points into `slots[i]` and into the arena.
    headers: Box<[libc::mmsghdr]>,
    sent: Vec<Sent>,
    /// Zero or an errno, by message; written by the link.
    results: [i32; BATCH_MESSAGES_MAX],
}

impl Batch {
    fn new() -> Batch {
        let slot = |_| Slot {
            control: [0; CONTROL_BYTES],
            address: [0; SOCKET_ADDRESS_BYTES],
            payload: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
        };
        // SAFETY: all-zero integers and null pointers are a valid, empty `mmsghdr`.
        let header = |_| unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        Batch {
            slots: (0..BATCH_MESSAGES_MAX).map(slot).collect(),
            headers: (0..BATCH_MESSAGES_MAX).map(header).collect(),
            sent: Vec::with_capacity(BATCH_MESSAGES_MAX),
            results: [0; BATCH_MESSAGES_MAX],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    fn is_full(&self) -> bool {
        self.sent.len() == BATCH_MESSAGES_MAX
    }

    pub(super) fn endpoint(&self, index: usize) -> usize {
        self.sent[index].endpoint
    }

    /// Headers for `sendmmsg`, or each by itself for `sendmsg`. The pointers in them are good
    /// while the closure that got this batch runs: neither batch nor arena moves.
    pub(super) fn headers(&mut self) -> &mut [libc::mmsghdr] {
        &mut self.headers[..self.sent.len()]
    }

    /// Notes what became of a message: zero, or why the kernel refused it (an errno).
    pub(super) fn set_result(&mut self, index: usize, errno: i32) {
        self.results[index] = errno;
    }

    /// Adds `payload`, a message or a single segment of it, to go as segments of `segment_bytes`.
    fn push(&mut self, index: usize, message: &Message, payload: &[u8], segment_bytes: usize) {
        let at = self.sent.len();
        let slot = &mut self.slots[at];
        let header = &mut self.headers[at].msg_hdr;
        header.msg_namelen = encode_address(message.to, &mut slot.address);
        header.msg_name = slot.address.as_mut_ptr().cast();
        // The kernel only reads from it, whatever the type says.
        slot.payload =
            libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        header.msg_iov = &raw mut slot.payload;
        header.msg_iovlen = 1;
        let datagrams = if payload.len() <= segment_bytes {
            // A single datagram needs no control message, and is cheaper without.
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            1
        } else {
            let segment = u16::try_from(segment_bytes).expect("shorter than a message");
            encode_segment_control(segment, &mut slot.control);
            header.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            payload.len().div_ceil(segment_bytes) as u64
        };
        let bytes = payload.len() as u64;
        self.sent.push(Sent { endpoint: message.endpoint, index, datagrams, bytes });
        self.results[at] = 0;
    }
}

/// A link's outgoing half: arena, batch, and who gets no GSO.
pub(super) struct Outbox {
    pub(super) arena: Arena,
    batch: Batch,
    endpoints: usize,
    single_sends: HashSet<SocketAddr>,
    /// Trains of this flush that were refused as GSO, by position in the arena's queue.
    refused: Vec<usize>,
}

impl Outbox {
    pub(super) fn new(endpoints: usize) -> Outbox {
        Outbox {
            arena: Arena::new(),
            batch: Batch::new(),
            endpoints,
            single_sends: HashSet::with_capacity(SINGLE_SENDS_MAX),
            refused: Vec::with_capacity(BATCH_MESSAGES_MAX),
        }
    }

    /// See [`super::Link::commit`].
    pub(super) fn commit(&mut self, message: Message) {
        assert!(message.endpoint < self.endpoints, "a message leaves from a socket that is there");
        self.arena.commit(message);
    }

    /// Sends all that is queued through `send`, which sets the result of each message of the batch
    /// it gets before it returns. Messages of one endpoint lie next to one another in a batch.
    pub(super) fn flush(&mut self, counters: &mut LinkCounters, mut send: impl FnMut(&mut Batch)) {
        for endpoint in 0..self.endpoints {
            for index in 0..self.arena.queued().len() {
                let Queued { message, .. } = self.arena.queued()[index];
                if message.endpoint == endpoint {
                    self.push(index, &message, counters, &mut send);
                }
            }
        }
        self.dispatch(counters, &mut send);
        self.send_refused_singly(counters, &mut send);
        self.arena.clear();
    }

    fn push(
        &mut self,
        index: usize,
        message: &Message,
        counters: &mut LinkCounters,
        send: &mut impl FnMut(&mut Batch),
    ) {
        let is_train = message.len_bytes > message.segment_bytes;
        if is_train && self.single_sends.contains(&message.to) {
            return self.push_singly(index, counters, send);
        }
        if self.batch.is_full() {
            self.dispatch(counters, send);
        }
        let payload = self.arena.bytes_of(&self.arena.queued()[index]);
        self.batch.push(index, message, payload, message.segment_bytes);
    }

    /// Adds each segment of a message to the batch as a datagram of its own.
    fn push_singly(
        &mut self,
        index: usize,
        counters: &mut LinkCounters,
        send: &mut impl FnMut(&mut Batch),
    ) {
        let queued = self.arena.queued()[index];
        let message = queued.message;
        let segments = message.len_bytes.div_ceil(message.segment_bytes);
        counters.gso_fallback_datagrams += segments as u64;
        for segment in 0..segments {
            if self.batch.is_full() {
                self.dispatch(counters, send);
            }
            let start = segment * message.segment_bytes;
            let end = message.len_bytes.min(start + message.segment_bytes);
            let payload = &self.arena.bytes_of(&queued)[start..end];
            self.batch.push(index, &message, payload, message.segment_bytes);
        }
    }

    /// Takes the batch to the kernel and settles it; refused trains are set aside.
    fn dispatch(&mut self, counters: &mut LinkCounters, send: &mut impl FnMut(&mut Batch)) {
        if self.batch.len() == 0 {
            return;
        }
        send(&mut self.batch);
        for (sent, errno) in self.batch.sent.iter().zip(self.batch.results) {
            if sent.datagrams > 1 && is_gso_refusal(errno) {
                self.refused.push(sent.index);
            } else {
                settle(sent, errno, counters);
            }
        }
        self.batch.sent.clear();
    }

    /// Sends refused trains at once, datagram by datagram, and remembers the destinations for
    /// which that helped. A later message to the same destination may have overtaken them in this
    /// one flush; RTP puts up with it.
    fn send_refused_singly(
        &mut self,
        counters: &mut LinkCounters,
        send: &mut impl FnMut(&mut Batch),
    ) {
        while let Some(index) = self.refused.pop() {
            let taken = counters.sent_datagrams;
            self.push_singly(index, counters, send);
            self.dispatch(counters, send);
            // Nothing taken: it is the destination that is bad, not GSO to it.
            if counters.sent_datagrams > taken {
                if self.single_sends.len() == SINGLE_SENDS_MAX {
                    self.single_sends.clear();
                }
                self.single_sends.insert(self.arena.queued()[index].message.to);
            }
        }
    }
}

/// What the kernel says to a train that it would take as single datagrams: the device computes no
/// checksums (`EIO`), a segment exceeds the path's MTU, or there are too many of them (`EINVAL`,
/// since Linux 6.9 `EMSGSIZE`).
fn is_gso_refusal(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EMSGSIZE | libc::EINVAL)
}

fn settle(sent: &Sent, errno: i32, counters: &mut LinkCounters) {
    match errno {
        0 => {
            counters.sent_messages += 1;
            counters.sent_datagrams += sent.datagrams;
            counters.sent_bytes += sent.bytes;
        }
        libc::EAGAIN | libc::ENOBUFS => counters.send_would_block += sent.datagrams,
        _ => counters.send_errors += sent.datagrams,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues messages `(last octet of the destination, bytes)` in segments of 10 bytes, lets
    /// `kernel` answer for each datagram or train of them (its destination, its datagrams) and
    /// compares what the kernel took, in order, as `to x datagrams`.
    struct Check {
        outbox: Outbox,
        counters: LinkCounters,
    }

    impl Check {
        fn new() -> Check {
            Check { outbox: Outbox::new(2), counters: LinkCounters::default() }
        }

        #[track_caller]
        fn flush(
            &mut self,
            messages: &[(usize, u8, usize)],
            kernel: impl Fn(u8, u64) -> i32,
            want: &str,
        ) {
            for &(endpoint, to, len_bytes) in messages {
                let to = ([127, 0, 0, to], 9).into();
                self.outbox.commit(Message { endpoint, to, len_bytes, segment_bytes: 10 });
            }
            let mut taken = Vec::new();
            self.outbox.flush(&mut self.counters, |batch| {
                for index in 0..batch.len() {
                    let to = batch.slots[index].address[7];
                    let datagrams = batch.sent[index].datagrams;
                    let errno = kernel(to, datagrams);
                    batch.set_result(index, errno);
                    if errno == 0 {
                        taken.push(format!("{to}x{datagrams}"));
                    }
                }
            });
            assert_eq!(taken.join(" "), want);
            assert!(self.outbox.arena.queued().is_empty());
        }
    }

    #[test]
    fn messages_of_one_endpoint_go_together() {
        let mut check = Check::new();
        let messages = [(1, 1, 10), (0, 2, 25), (1, 3, 30), (0, 4, 0)];
        check.flush(&messages, |_, _| 0, "2x3 4x1 1x1 3x3");
        let counters = check.counters;
        assert_eq!((counters.sent_messages, counters.sent_datagrams), (4, 8));
        assert_eq!(counters.sent_bytes, 65);
    }

    #[test]
    fn a_destination_that_refuses_gso_gets_single_datagrams_from_then_on() {
        let mut check = Check::new();
        let kernel = |to, datagrams| if to == 7 && datagrams > 1 { libc::EIO } else { 0 };
        check.flush(&[(0, 7, 25), (0, 8, 25)], kernel, "8x3 7x1 7x1 7x1");
        let unwilling = |to, datagrams| {
            assert!(to != 7 || datagrams == 1, "GSO is not tried again");
            0
        };
        check.flush(&[(0, 7, 20), (0, 8, 20)], unwilling, "7x1 7x1 8x2");
        assert_eq!(check.counters.gso_fallback_datagrams, 5);
        assert_eq!(check.counters.send_errors, 0);
    }

    #[test]
    fn a_bad_destination_is_counted_and_not_mistaken_for_one_without_gso() {
        let mut check = Check::new();
        check.flush(&[(0, 7, 25), (0, 8, 5)], |to, _| if to == 7 { 22 } else { 0 }, "8x1");
        assert_eq!(check.counters.send_errors, 3);
        check.flush(&[(0, 7, 25)], |_, _| 0, "7x3");
    }

    #[test]
    fn a_full_send_buffer_drops_and_counts() {
        let mut check = Check::new();
        check.flush(&[(0, 7, 25), (0, 7, 5)], |_, _| libc::EAGAIN, "");
        assert_eq!((check.counters.send_would_block, check.counters.send_errors), (4, 0));
    }

    #[test]
    fn a_train_of_more_datagrams_than_a_batch_is_sent_singly_all_the_same() {
        let mut check = Check::new();
        let want = vec!["7x1"; 130].join(" ");
        check.flush(&[(0, 7, 1300)], |_, n| if n > 128 { libc::EMSGSIZE } else { 0 }, &want);
    }

    #[test]
    fn the_memory_of_destinations_without_gso_is_bounded() {
        let mut check = Check::new();
        for to in 0..=SINGLE_SENDS_MAX {
            let ip = u32::try_from(to).expect("small").into();
            let to = SocketAddr::new(std::net::IpAddr::V4(ip), 9);
            check.outbox.commit(Message { endpoint: 0, to, len_bytes: 20, segment_bytes: 10 });
            check.outbox.flush(&mut check.counters, |batch| {
                let is_train = batch.sent[0].datagrams > 1;
                (0..batch.len()).for_each(|i| batch.set_result(i, if is_train { 5 } else { 0 }));
            });
        }
        assert_eq!(check.outbox.single_sends.len(), 1, "emptied once, the last one remembered");
    }
}
