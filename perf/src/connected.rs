//! A link whose messages leave by a connected socket of each subscriber, for comparison.
//!
//! A connected socket saves the look-up of the route and the copy of the address for each message,
//! and costs a descriptor, a socket's memory, and a batch: `sendmmsg` knows one socket only.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use io_uring::{IoUring, opcode, types::Fixed};
use sfu::io::{Link, LinkCounters, LinkKind, Message, Train, Waker};
use sfu::limits::{MESSAGE_BYTES_MAX, MESSAGES_PER_FLUSH_MAX};

use crate::sockets;

/// As large as the arena of the relay's own links.
const ARENA_BYTES: usize = 512 << 10;
const CONTROL_BYTES: usize = size_of::<libc::cmsghdr>() + 8;
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What the kernel reads of one message.
struct Slot {
    header: libc::msghdr,
    payload: libc::iovec,
    control: [u64; CONTROL_BYTES / 8],
    socket: usize,
}

/// How messages leave.
enum Exit {
    /// `send` or `sendmsg`, one call a message.
    Call,
    /// `IORING_OP_SENDMSG` on registered files, one call a flush.
    Ring(Box<IoUring>),
}

/// Receives through `inner`; sends from `sockets`, where [`Message::endpoint`] is an index.
pub struct Connected<L> {
    inner: L,
    sockets: Vec<UdpSocket>,
    exit: Exit,
    arena: Box<[u8]>,
    used: usize,
    /// (start in the arena, message)
    queued: Vec<(usize, Message)>,
    slots: Box<[Slot]>,
    counters: LinkCounters,
}

impl<L: Link> Connected<L> {
    /// Sockets bound to `local`, which lets others share its port, each connected to one of `to`.
    pub fn new(
        inner: L,
        kind: LinkKind,
        local: SocketAddr,
        to: &[SocketAddr],
    ) -> io::Result<Connected<L>> {
        let connect = |to: &SocketAddr| sockets::connect_from(local, *to);
        let sockets = to.iter().map(connect).collect::<io::Result<Vec<_>>>()?;
        let exit = match kind {
            LinkKind::Epoll => Exit::Call,
            LinkKind::IoUring => {
                let mut builder = IoUring::builder();
                builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_submit_all();
                let ring = builder.build(MESSAGES_PER_FLUSH_MAX as u32)?;
                let files: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
                ring.submitter().register_files(&files)?;
                Exit::Ring(Box::new(ring))
            }
        };
        let slot = |_| Slot {
            // SAFETY: all zeroes is a valid, empty `msghdr`.
            header: unsafe { std::mem::zeroed() },
            payload: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            control: [0; CONTROL_BYTES / 8],
            socket: 0,
        };
        Ok(Connected {
            inner,
            sockets,
            exit,
            arena: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            queued: Vec::with_capacity(MESSAGES_PER_FLUSH_MAX),
            slots: (0..MESSAGES_PER_FLUSH_MAX).map(slot).collect(),
            counters: LinkCounters::default(),
        })
    }

    fn fill_slots(&mut self) {
        for (slot, (start, message)) in self.slots.iter_mut().zip(&self.queued) {
            let bytes = &mut self.arena[*start..*start + message.len_bytes];
            let iov_base = bytes.as_mut_ptr().cast();
            slot.payload = libc::iovec { iov_base, iov_len: bytes.len() };
            slot.header.msg_iov = &raw mut slot.payload;
            slot.header.msg_iovlen = 1;
            slot.socket = message.endpoint;
            let is_train = message.len_bytes > message.segment_bytes;
            slot.header.msg_controllen = if is_train { CONTROL_BYTES as _ } else { 0 };
            slot.header.msg_control =
                if is_train { slot.control.as_mut_ptr().cast() } else { std::ptr::null_mut() };
            if is_train {
                // `cmsghdr` (cmsg(3)): length, then level and type, then the segment's 16 bits.
                let len = size_of::<libc::cmsghdr>() + size_of::<u16>();
                let kind = libc::SOL_UDP as u64 | (libc::UDP_SEGMENT as u64) << 32;
                slot.control = [len as u64, kind, message.segment_bytes as u64];
            }
        }
    }

    fn settle(&mut self, failed: usize) {
        for (_, message) in self.queued.drain(..) {
            self.counters.sent_messages += 1;
            self.counters.sent_datagrams +=
                message.len_bytes.div_ceil(message.segment_bytes.max(1)) as u64;
            self.counters.sent_bytes += message.len_bytes as u64;
        }
        self.counters.send_errors += failed as u64;
        self.used = 0;
    }
}

impl<L: Link> Link for Connected<L> {
    fn receive(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> io::Result<()> {
        self.inner.receive(deadline, sink)
    }

    fn pause(&mut self, until: Instant) {
        self.inner.pause(until);
    }

    fn begin(&mut self) -> &mut [u8] {
        let is_full = self.queued.len() == MESSAGES_PER_FLUSH_MAX
            || self.used + MESSAGE_BYTES_MAX > ARENA_BYTES;
        if is_full {
            self.flush();
        }
        &mut self.arena[self.used..self.used + MESSAGE_BYTES_MAX]
    }

    fn commit(&mut self, message: Message) {
        self.queued.push((self.used, message));
        self.used = (self.used + message.len_bytes).next_multiple_of(64);
    }

    fn flush(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        self.fill_slots();
        let slots = &self.slots[..self.queued.len()];
        let failed = match &mut self.exit {
            Exit::Call => slots.iter().filter(|slot| !send(&self.sockets, slot)).count(),
            Exit::Ring(ring) => send_all(ring, slots),
        };
        self.settle(failed);
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}

fn send(sockets: &[UdpSocket], slot: &Slot) -> bool {
    let socket = sockets[slot.socket].as_raw_fd();
    // SAFETY: the header's pointers go into the slot and the arena, which lie still; `send` is
    // `sendmsg` without name and control message.
    let sent = unsafe {
        if slot.header.msg_controllen == 0 {
            libc::send(socket, slot.payload.iov_base, slot.payload.iov_len, SEND_FLAGS)
        } else {
            libc::sendmsg(socket, &raw const slot.header, SEND_FLAGS)
        }
    };
    sent >= 0
}

/// Messages that were refused.
fn send_all(ring: &mut IoUring, slots: &[Slot]) -> usize {
    for slot in slots {
        let socket = Fixed(slot.socket as u32);
        let entry = if slot.header.msg_controllen == 0 {
            let (from, len) = (slot.payload.iov_base.cast(), slot.payload.iov_len as u32);
            opcode::Send::new(socket, from, len).flags(SEND_FLAGS).build()
        } else {
            let header = &raw const slot.header;
            opcode::SendMsg::new(socket, header).flags(SEND_FLAGS as u32).build()
        };
        // SAFETY: slots and arena outlive the requests, which complete below.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.expect("the ring holds a flush");
    }
    let (mut missing, mut failed) = (slots.len(), 0);
    while missing > 0 {
        if let Err(error) = ring.submit_and_wait(missing)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return failed + missing;
        }
        for entry in ring.completion() {
            missing -= 1;
            failed += usize::from(entry.result() < 0);
        }
    }
    failed
}
