//! The link over io_uring: after its making, the shard's thread calls `io_uring_enter` alone.
//!
//! One multishot `RECVMSG` per socket fills buffers of a ring; one multishot poll watches the
//! waker; sends are `SENDMSG` that complete while they are submitted, for they never wait.
//! Zero-copy sends, registered buffers and a kernel thread that polls for submissions measured
//! slower at the size of media packets.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::buffer_ring::BufferRing;
use super::deadline::Wait;
use super::endpoint::ShardSockets;
use super::inbox::{Received, hand_over, is_passing};
use super::message::CONTROL_BYTES;
use super::outbox::{BATCH_MESSAGES_MAX, Batch, Outbox};
use super::{Link, LinkCounters, Message, Train, Waker};

/// Completions the kernel has room for, by each submission that we have room for.
const COMPLETIONS_PER_SUBMISSION: u32 = 8;

/// Times a flush enters the kernel for one batch. Each enter makes progress unless the system is
/// out of memory; beyond this the link has failed, and the next receive says so.
const ENTERS_PER_BATCH_MAX: usize = 1000;

/// Room for the source address in a receive buffer; the control message behind it is aligned.
const NAME_BYTES: u32 = 32;

/// Buffer group of the receives; a ring has no other.
const GROUP: u16 = 0;

/// What a completion belongs to: the upper half of its user data. The lower is an index.
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const BELL: u64 = 3 << 32;
const KIND: u64 = !0 << 32;

/// Why there can be no [`UringLink`]; [`super::EpollLink`] works without.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is unavailable, {step}: {source}{}", hint(source))]
pub struct LinkUnavailable {
    /// What was refused.
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (sysctl kernel.io_uring_disabled or the container's seccomp profile forbids it)"
        }
        Some(libc::ENOSYS) => " (this kernel is built without it, or the container hides it)",
        Some(libc::EINVAL) => " (the kernel is older than Linux 6.0)",
        _ => "",
    }
}

/// Whether this process may use io_uring and the kernel has all that [`UringLink`] needs: one
/// message goes all the way through a link.
///
/// # Errors
/// The first step that failed.
pub fn available() -> Result<(), LinkUnavailable> {
    let step = |step| move |source| LinkUnavailable { step, source };
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    let result = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr())
    };
    if result != 0 {
        return Err(step("socketpair")(io::Error::last_os_error()));
    }
    // SAFETY: two fresh descriptors that nobody else owns.
    let [near, far] = fds.map(|fd| UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) }));
    let shard = ShardSockets::new(vec![near]).map_err(step("eventfd"))?;
    let mut link = UringLink::new(shard)?;
    far.send(b"?").map_err(step("send"))?;
    let deadline = Instant::now() + Duration::from_secs(1);
    link.receive(Some(deadline), &mut |_| {}).map_err(step("multishot receive"))?;
    if link.counters.received_messages == 1 {
        return Ok(());
    }
    Err(step("multishot receive")(io::ErrorKind::TimedOut.into()))
}

/// See the module's header. Made on the shard's thread and kept there: the kernel takes
/// submissions from no other.
pub struct UringLink {
    ring: Ring,
    waker: Waker,
    /// Tells every receive how much room the name and the control message get.
    receive_header: Box<libc::msghdr>,
    /// By endpoint: whether its multishot receive is on. Where not, `arm` starts it again.
    is_receiving: Vec<bool>,
    is_bell_watched: bool,
    outbox: Outbox,
    counters: LinkCounters,
    /// Dropped after `ring`, which fills it.
    buffers: Option<BufferRing>,
    /// Dropped after `ring`, which keeps them open anyhow.
    _sockets: Vec<UdpSocket>,
}

impl UringLink {
    /// # Errors
    /// The kernel has no io_uring, forbids it, or lacks a part that we need.
    pub fn new(shard: ShardSockets) -> Result<UringLink, LinkUnavailable> {
        let step = |step| move |source| LinkUnavailable { step, source };
        let mut files = shard.raw_fds();
        let endpoints = files.len();
        let submissions = BATCH_MESSAGES_MAX + endpoints + 1;
        let submissions = u32::try_from(submissions.next_power_of_two()).expect("some sockets");
        let (uring, setup) = set_up(submissions).map_err(step("io_uring_setup"))?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(step("timeouts in io_uring_enter")(source));
        }
        let buffers = BufferRing::new().map_err(step("receive buffers"))?;
        // SAFETY: `Drop for UringLink` cancels all requests before it lets go of the buffers.
        unsafe { buffers.register(&uring.submitter(), GROUP) }.map_err(step("buffer ring"))?;
        files.push(shard.waker.bell());
        uring.submitter().register_files(&files).map_err(step("registered files"))?;
        // SAFETY: all-zero integers and null pointers are a valid, empty `msghdr`.
        let mut receive_header = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        receive_header.msg_namelen = NAME_BYTES;
        receive_header.msg_controllen = CONTROL_BYTES as _;
        let ShardSockets { sockets, waker, .. } = shard;
        Ok(UringLink {
            ring: Ring::new(uring, setup),
            waker,
            receive_header,
            is_receiving: vec![false; endpoints],
            is_bell_watched: false,
            outbox: Outbox::new(endpoints),
            counters: LinkCounters::default(),
            buffers: Some(buffers),
            _sockets: sockets,
        })
    }

    /// The setup flags that this kernel took, for the log.
    pub fn setup(&self) -> &'static str {
        self.ring.setup
    }

    /// Queues each multishot request that is not on: all of them at first, later those that ended
    /// because the buffers or the completions' room ran out. The next enter submits them.
    fn arm(&mut self) {
        for (endpoint, is_receiving) in self.is_receiving.iter_mut().enumerate() {
            if !*is_receiving {
                let header = &raw const *self.receive_header;
                let entry = opcode::RecvMsgMulti::new(Fixed(endpoint as u32), header, GROUP);
                self.ring.push(entry.build().user_data(RECEIVE | endpoint as u64));
                *is_receiving = true;
            }
        }
        if !self.is_bell_watched {
            let bell = Fixed(self.is_receiving.len() as u32);
            // Multishot poll reports edges: each ring is one, and none has to be read away.
            let entry = opcode::PollAdd::new(bell, libc::POLLIN as u32).multi(true);
            self.ring.push(entry.build().user_data(BELL));
            self.is_bell_watched = true;
        }
    }

    /// Hands over what has completed and gives the buffers back.
    fn take_completions(&mut self, sink: &mut dyn FnMut(Train<'_>)) -> io::Result<()> {
        let buffers = self.buffers.as_mut().expect("only `drop` takes it");
        let mut outcome = Ok(());
        while let Some(completion) = self.ring.others.pop_front() {
            let Completion { user_data, result, flags } = completion;
            let ended = !cqueue::more(flags);
            let endpoint = (user_data & !KIND) as usize;
            match user_data & KIND {
                RECEIVE if ended => self.is_receiving[endpoint] = false,
                BELL if ended => self.is_bell_watched = false,
                _ => {}
            }
            match usize::try_from(result) {
                Err(_) if -result == libc::ENOBUFS => self.counters.receive_buffers_exhausted += 1,
                Err(_) if is_passing(-result) => {}
                Err(_) => outcome = Err(io::Error::from_raw_os_error(-result)),
                Ok(len) => {
                    if let Some(id) = cqueue::buffer_select(flags) {
                        let filled = buffers.filled(id, len);
                        if let Ok(out) = RecvMsgOut::parse(filled, &self.receive_header) {
                            let received = Received {
                                endpoint,
                                name: out.name_data(),
                                control: out.control_data(),
                                payload: out.payload_data(),
                                flags: out.flags() as i32,
                            };
                            hand_over(&received, &mut self.counters, sink);
                        }
                    }
                }
            }
            if let Some(id) = cqueue::buffer_select(flags) {
                buffers.give_back(id);
            }
        }
        buffers.publish();
        outcome
    }
}

impl Link for UringLink {
    fn receive(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> io::Result<()> {
        loop {
            self.arm();
            let mut wait =
                if self.ring.has_completions() { Wait::Poll } else { Wait::until(deadline) };
            // From here to `wake_up` a wake rings the bell.
            if wait != Wait::Poll && !self.waker.try_sleep() {
                wait = Wait::Poll;
            }
            self.counters.waits += u64::from(wait != Wait::Poll);
            let entered = self.ring.wait(wait);
            let woken = self.waker.wake_up();
            self.counters.wakeups += u64::from(woken);
            entered?;
            let before = self.counters.received_messages;
            self.ring.reap(|_, _| unreachable!("a flush returns when its sends have completed"));
            self.take_completions(sink)?;
            // A bell without a wake is the echo of one that was served already: wait on.
            let received = self.counters.received_messages > before;
            if received || woken || Wait::until(deadline) == Wait::Poll {
                return Ok(());
            }
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
        let UringLink { outbox, ring, counters, .. } = self;
        outbox.flush(counters, |batch| ring.send(batch));
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for UringLink {
    fn drop(&mut self) {
        let limit = Timespec::new().sec(1);
        let cancelled =
            self.ring.uring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
        let is_idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if !is_idle {
            // A receive may still write: better to lose the memory than to hand it to others.
            std::mem::forget(self.buffers.take());
        }
        // The kernel takes a ring down some time after it is closed, with the files registered in
        // it: let go of those now, so that the port is free when this returns.
        let _ = self.ring.poll();
        let _ = self.ring.uring.submitter().unregister_files();
    }
}

/// A completion that is not a send's.
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// Submission and completion queue, and what was found in the latter while looking for sends.
struct Ring {
    uring: IoUring,
    setup: &'static str,
    /// Bounded by what makes them: the receive buffers, one end for each multishot request, and
    /// one ring of the bell for each wait.
    others: VecDeque<Completion>,
    /// Entering failed for good: the errno.
    failed: Option<i32>,
}

impl Ring {
    fn new(uring: IoUring, setup: &'static str) -> Ring {
        let others = VecDeque::with_capacity(uring.params().cq_entries() as usize);
        Ring { uring, setup, others, failed: None }
    }

    /// # Panics
    /// If there is no room; there is for one batch and each multishot request.
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entries point to (message headers, arena, receive header) outlives the
        // requests: sends complete within `send`, which borrows them; receives are cancelled
        // before the link's boxes are dropped.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("the queue holds a batch and each multishot request");
    }

    fn has_completions(&mut self) -> bool {
        !self.others.is_empty() || !self.uring.completion().is_empty()
    }

    /// Submits what is queued and waits for one completion at least.
    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(errno) = self.failed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let entered = match wait {
            Wait::Poll => self.poll(),
            Wait::Forever => self.uring.submit_and_wait(1),
            Wait::AtMost(span) => {
                let timeout = Timespec::from(span);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered {
            Err(error) if !is_retried(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Submits what is queued and lets deferred receives run, without waiting.
    fn poll(&mut self) -> io::Result<usize> {
        let queued = self.uring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument follows; the entries are good by `push`.
        unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) }
    }

    /// Moves completions out of the kernel's queue; a send's goes to `settle` with its index and
    /// its result.
    fn reap(&mut self, mut settle: impl FnMut(usize, i32)) {
        for entry in self.uring.completion() {
            let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            if user_data & KIND == SEND {
                settle((user_data & !KIND) as usize, result);
            } else {
                self.others.push_back(Completion { user_data, result, flags });
            }
        }
    }

    /// Sends a batch and stays until the kernel is done with its memory: at once, as a rule, for
    /// a send that must not wait completes while it is submitted.
    fn send(&mut self, batch: &mut Batch) {
        for index in 0..batch.len() {
            batch.set_result(index, libc::ENODEV);
            let endpoint = Fixed(batch.endpoint(index) as u32);
            let header = &raw const batch.headers()[index].msg_hdr;
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
            let entry = opcode::SendMsg::new(endpoint, header).flags(flags);
            if self.failed.is_none() {
                self.push(entry.build().user_data(SEND | index as u64));
            }
        }
        let mut missing = batch.len();
        for enters in 0..ENTERS_PER_BATCH_MAX {
            if self.failed.is_some() {
                return;
            }
            let entered =
                if enters == 0 { self.uring.submit() } else { self.uring.submit_and_wait(1) };
            self.reap(|index, result| {
                // A positive result is the bytes sent.
                batch.set_result(index, (-result).max(0));
                missing -= 1;
            });
            if missing == 0 {
                return;
            }
            if let Err(error) = entered
                && !is_retried(&error)
            {
                self.failed = error.raw_os_error();
            }
        }
        self.failed = Some(libc::EBUSY);
    }
}

/// Errors of `io_uring_enter` after which it is called again: a timeout, a signal, completions to
/// be taken first, memory short for the moment.
fn is_retried(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// A ring with the best flags that the kernel takes, from Linux 6.6 down to any.
fn set_up(submissions: u32) -> io::Result<(IoUring, &'static str)> {
    let completions = submissions * COMPLETIONS_PER_SUBMISSION;
    let build = |flags: fn(&mut io_uring::Builder) -> &mut io_uring::Builder| {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(completions);
        flags(&mut builder).build(submissions)
    };
    let single = build(|b| {
        b.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_no_sqarray()
    });
    if let Ok(uring) = single {
        return Ok((uring, "SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL|NO_SQARRAY"));
    }
    let with_array = build(|b| b.setup_single_issuer().setup_defer_taskrun().setup_submit_all());
    if let Ok(uring) = with_array {
        return Ok((uring, "SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL"));
    }
    if let Ok(uring) = build(|b| b.setup_coop_taskrun().setup_submit_all()) {
        return Ok((uring, "COOP_TASKRUN|SUBMIT_ALL"));
    }
    build(|b| b).map(|uring| (uring, "no flags"))
}
