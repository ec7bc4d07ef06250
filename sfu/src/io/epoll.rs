//! The link over `epoll`, `recvmmsg` and `sendmmsg`: for kernels and containers without io_uring.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use super::deadline::Wait;
use super::inbox::{Received, hand_over, is_passing, last_errno};
use super::message::{CONTROL_BYTES, SOCKET_ADDRESS_BYTES};
use super::outbox::{Batch, Outbox};
use super::{Link, LinkCounters, Message, ShardSockets, Train, Waker};

/// Messages taken by one `recvmmsg`.
const RECEIVE_BATCH: usize = 16;

/// `recvmmsg` calls on one socket before the others, the timers and the sends have their turn; what
/// is left is there at the next call.
const RECEIVE_CALLS_MAX: usize = 8;

/// Bytes of a receive buffer: the longest train there is (UDP's length field has 16 bits).
const RECEIVE_BYTES: usize = 1 << 16;

/// What epoll reports for the waker; sockets report their index.
const BELL: u64 = u64::MAX;

/// See the module's header. Made on the shard's thread and kept there.
pub struct EpollLink {
    sockets: Vec<UdpSocket>,
    waker: Waker,
    epoll: OwnedFd,
    /// One for each socket and the bell.
    events: Vec<libc::epoll_event>,
    /// Linux before 5.11 lacks `epoll_pwait2` and its nanoseconds.
    has_pwait2: bool,
    inbox: Inbox,
    outbox: Outbox,
    counters: LinkCounters,
}

impl EpollLink {
    /// # Errors
    /// The process or the system is out of file descriptors, or memory.
    pub fn new(shard: ShardSockets) -> io::Result<EpollLink> {
        // SAFETY: takes an integer, no memory.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        for (index, fd) in shard.raw_fds().into_iter().enumerate() {
            watch(&epoll, fd, libc::EPOLLIN, index as u64)?;
        }
        // Edge-triggered: each ring is one event, and none has to be read away.
        watch(&epoll, shard.waker.bell(), libc::EPOLLIN | libc::EPOLLET, BELL)?;
        let ShardSockets { sockets, waker, .. } = shard;
        let endpoints = sockets.len();
        let mut link = EpollLink {
            sockets,
            waker,
            epoll,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; endpoints + 1],
            has_pwait2: true,
            inbox: Inbox::new(),
            outbox: Outbox::new(endpoints),
            counters: LinkCounters::default(),
        };
        link.has_pwait2 = !matches!(link.wait(Wait::Poll), Err(libc::ENOSYS));
        Ok(link)
    }

    /// Number of events, or the errno.
    fn wait(&mut self, wait: Wait) -> Result<usize, i32> {
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        let events_max = i32::try_from(self.events.len()).expect("a few sockets");
        let count = if self.has_pwait2 {
            let timeout = match wait {
                Wait::Forever => None,
                Wait::Poll => Some(libc::timespec { tv_sec: 0, tv_nsec: 0 }),
                Wait::AtMost(span) => Some(libc::timespec {
                    tv_sec: span.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: span.subsec_nanos().into(),
                }),
            };
            let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let no_mask = std::ptr::null::<libc::sigset_t>();
            // By number: the C library's wrapper is younger than the distributions we run on.
            // SAFETY: `events` has room for `events_max` events; `timeout` is null or lives on.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    events,
                    events_max,
                    timeout,
                    no_mask,
                    0_usize,
                )
            };
            i32::try_from(count).unwrap_or(-1)
        } else {
            let timeout_ms = match wait {
                Wait::Forever => -1,
                Wait::Poll => 0,
                // Up, for a wait that ends before its deadline would spin the rest of it.
                Wait::AtMost(span) => {
                    i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
                }
            };
            // SAFETY: `events` has room for `events_max` events.
            unsafe { libc::epoll_wait(epoll, events, events_max, timeout_ms) }
        };
        usize::try_from(count).map_err(|_| last_errno())
    }
}

fn watch(epoll: &OwnedFd, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: token };
    // SAFETY: `event` is read only during the call.
    let result =
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Link for EpollLink {
    fn receive(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> io::Result<()> {
        loop {
            let mut wait = Wait::until(deadline);
            // From here to `wake_up` a wake rings the bell.
            if wait != Wait::Poll && !self.waker.try_sleep() {
                wait = Wait::Poll;
            }
            self.counters.waits += u64::from(wait != Wait::Poll);
            let ready = self.wait(wait);
            let woken = self.waker.wake_up();
            self.counters.wakeups += u64::from(woken);
            let ready = match ready {
                Ok(ready) => ready,
                Err(libc::EINTR) => 0,
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            };
            let before = self.counters.received_messages;
            for event in &self.events[..ready] {
                let token = event.u64;
                if token != BELL {
                    let endpoint = usize::try_from(token).expect("an index that we registered");
                    let socket = &self.sockets[endpoint];
                    self.inbox.receive(endpoint, socket, &mut self.counters, sink)?;
                }
            }
            // A bell without a wake is the echo of one that was served already: wait on.
            let received = self.counters.received_messages > before;
            if received || woken || Wait::until(deadline) == Wait::Poll {
                return Ok(());
            }
        }
    }

    fn pause(&mut self, until: Instant) {
        if let Wait::AtMost(span) = Wait::until(Some(until)) {
            self.counters.pauses += 1;
            std::thread::sleep(span);
        }
    }

    fn begin(&mut self) -> &mut [u8] {
        if self.outbox.arena.is_full() {
            self.flush();
        }
        self.outbox.arena.room()
    }

    fn commit(&mut self, message: Message) {
        self.outbox.commit(message);
    }

    fn flush(&mut self) {
        let EpollLink { outbox, sockets, counters, .. } = self;
        outbox.flush(counters, |batch| send(sockets, batch));
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Sends a batch, one `sendmmsg` per endpoint and one more after each refusal.
fn send(sockets: &[UdpSocket], batch: &mut Batch) {
    let mut next = 0;
    while next < batch.len() {
        let endpoint = batch.endpoint(next);
        let run = (next..batch.len()).take_while(|i| batch.endpoint(*i) == endpoint).count();
        let headers = &mut batch.headers()[next..next + run];
        let (fd, flags) = (sockets[endpoint].as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: `run` headers, whose pointers are good for the length of this call (see
        // `Batch::headers`).
        let taken =
            unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), run as libc::c_uint, flags as _) };
        match usize::try_from(taken) {
            Ok(taken) => {
                (next..next + taken).for_each(|index| batch.set_result(index, 0));
                next += taken;
            }
            // The kernel stops at the first message it refuses and names the reason only when
            // that one is the first of the call.
            Err(_) => {
                let errno = last_errno();
                if errno != libc::EINTR {
                    batch.set_result(next, errno);
                    next += 1;
                }
            }
        }
    }
}

/// Buffers of one `recvmmsg`.
struct Inbox {
    buffers: Box<[u8]>,
    names: Box<[[u8; SOCKET_ADDRESS_BYTES]]>,
    controls: Box<[Control]>,
    /// Pointed to by the headers; never read by us.
    _payloads: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

impl Inbox {
    fn new() -> Inbox {
        let mut buffers = vec![0; RECEIVE_BATCH * RECEIVE_BYTES].into_boxed_slice();
        let mut names = vec![[0; SOCKET_ADDRESS_BYTES]; RECEIVE_BATCH].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL_BYTES]); RECEIVE_BATCH].into_boxed_slice();
        let mut payloads: Box<[libc::iovec]> = buffers
            .chunks_exact_mut(RECEIVE_BYTES)
            .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() })
            .collect();
        let headers = payloads.iter_mut().zip(&mut names).zip(&mut controls);
        let headers = headers.map(|((payload, name), control)| {
            // SAFETY: all-zero integers and null pointers are a valid, empty `mmsghdr`.
            let mut header = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = payload;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        let headers = headers.collect();
        Inbox { buffers, names, controls, _payloads: payloads, headers }
    }

    /// Hands over what one socket holds.
    fn receive(
        &mut self,
        endpoint: usize,
        socket: &UdpSocket,
        counters: &mut LinkCounters,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> io::Result<()> {
        for _ in 0..RECEIVE_CALLS_MAX {
            for header in &mut self.headers {
                header.msg_hdr.msg_namelen = SOCKET_ADDRESS_BYTES as _;
                header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            }
            // SAFETY: the headers point into our boxes, with these sizes (see `new`), and nothing
            // else refers to those during the call.
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    RECEIVE_BATCH as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            let Ok(count) = usize::try_from(count) else {
                let errno = last_errno();
                if is_passing(errno) {
                    return Ok(());
                }
                return Err(io::Error::from_raw_os_error(errno));
            };
            for index in 0..count {
                let header = &self.headers[index];
                let payload = &self.buffers[index * RECEIVE_BYTES..][..header.msg_len as usize];
                let hdr = &header.msg_hdr;
                let received = Received {
                    endpoint,
                    name: &self.names[index][..hdr.msg_namelen as usize],
                    control: &self.controls[index].0[..hdr.msg_controllen],
                    payload,
                    flags: hdr.msg_flags,
                };
                hand_over(&received, counters, sink);
            }
            if count < RECEIVE_BATCH {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Endpoint, bind_shards};
    use std::time::Duration;

    #[test]
    fn without_epoll_pwait2_a_deadline_is_kept_to_the_millisecond_above() {
        let at = ([127, 0, 0, 1], 0).into();
        let (_, mut shards) = bind_shards(&[Endpoint { bind: at, advertise: at }], 1)
            .expect("a free port on loopback");
        let mut link = EpollLink::new(shards.remove(0)).expect("descriptors are left");
        link.has_pwait2 = false;
        let deadline = Instant::now() + Duration::from_micros(1500);
        link.receive(Some(deadline), &mut |_| panic!("nobody sent")).expect("the link works");
        assert!(Instant::now() >= deadline);
        assert_eq!(link.counters.waits, 1, "one wait reached it, no spinning");
        link.waker.wake();
        link.receive(None, &mut |_| panic!("nobody sent")).expect("the link works");
        assert_eq!(link.counters.wakeups, 1);
    }
}
