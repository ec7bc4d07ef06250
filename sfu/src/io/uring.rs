//! The link over io_uring: after its making, the shard's thread calls `io_uring_enter` alone.
//!
//! One multishot `RECVMSG` per socket fills buffers of a ring; one multishot poll watches the
//! waker; sends are `SENDMSG` that complete while they are submitted, for they never wait.
//! Zero-copy sends, registered buffers and a kernel thread that polls for submissions measured
//! slower at the size of media packets.

mod buffer_ring;
mod ring;

use std::io;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, Timespec};
use io_uring::{cqueue, opcode};

use self::buffer_ring::BufferRing;
use self::ring::{BELL, Completion, KIND, RECEIVE, Ring, SETUPS, Setup, set_up};
use super::deadline::Wait;
use super::endpoint::ShardSockets;
use super::inbox::{Received, hand_over, is_passing};
use super::message::CONTROL_BYTES;
use super::outbox::{BATCH_MESSAGES_MAX, Outbox};
use super::{Link, LinkCounters, Message, Train, Waker};

/// Room for the source address in a receive buffer; the control message behind it is aligned.
const NAME_BYTES: u32 = 32;

/// Buffer group of the receives; a ring has no other.
const GROUP: u16 = 0;

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
        UringLink::with_setups(shard, &SETUPS)
    }

    fn with_setups(shard: ShardSockets, setups: &[Setup]) -> Result<UringLink, LinkUnavailable> {
        let step = |step| move |source| LinkUnavailable { step, source };
        let mut files = shard.raw_fds();
        let endpoints = files.len();
        let submissions = BATCH_MESSAGES_MAX + endpoints + 1;
        let submissions = u32::try_from(submissions.next_power_of_two()).expect("some sockets");
        let (uring, setup) = set_up(submissions, setups).map_err(step("io_uring_setup"))?;
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

    fn pause(&mut self, until: Instant) {
        let Wait::AtMost(span) = Wait::until(Some(until)) else { return };
        self.arm();
        self.counters.pauses += 1;
        self.ring.pause(span);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Endpoint, bind_shards};

    /// A train to itself through a link made with these flags.
    #[track_caller]
    fn check(setup: Setup) {
        let at = ([127, 0, 0, 1], 0).into();
        let (bound, mut shards) =
            bind_shards(&[Endpoint { bind: at, advertise: at }], 1).expect("a free port");
        let mut link = match UringLink::with_setups(shards.remove(0), &[setup]) {
            Ok(link) => link,
            Err(error) => return eprintln!("not run with {}: {error}", setup.0),
        };
        assert_eq!(link.setup(), setup.0);
        let deadline = Instant::now() + Duration::from_secs(10);
        for round in 1..=500 {
            link.begin()[..6].copy_from_slice(b"abcdef");
            link.commit(Message { endpoint: 0, to: bound[0].bind, len_bytes: 6, segment_bytes: 2 });
            link.flush();
            while link.counters.received_datagrams < round * 3 {
                assert!(Instant::now() < deadline, "{} loses datagrams", setup.0);
                let mut sink =
                    |train: Train<'_>| assert_eq!(b"abcdef".len() % train.bytes.len(), 0);
                link.receive(Some(deadline), &mut sink).expect("the link works");
            }
        }
        let soon = Instant::now() + Duration::from_millis(2);
        link.receive(Some(soon), &mut |_| panic!("all was received")).expect("the link works");
        assert!(Instant::now() >= soon);
        link.waker.wake();
        link.receive(None, &mut |_| panic!("all was received")).expect("the link works");
    }

    #[test]
    fn it_works_with_every_set_of_flags() {
        SETUPS.into_iter().for_each(check);
    }

    #[test]
    fn a_refusal_names_the_step_and_what_to_look_at() {
        let text = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            LinkUnavailable { step: "io_uring_setup", source }.to_string()
        };
        assert_eq!(
            text(libc::EPERM),
            "io_uring is unavailable, io_uring_setup: Operation not permitted (os error 1) \
             (sysctl kernel.io_uring_disabled or the container's seccomp profile forbids it)"
        );
        assert!(text(libc::ENOSYS).ends_with("or the container hides it)"));
        assert!(text(libc::EINVAL).ends_with("(the kernel is older than Linux 6.0)"));
        assert!(text(libc::EMFILE).ends_with("(os error 24)"));
    }
}
