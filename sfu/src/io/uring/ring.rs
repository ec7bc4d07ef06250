//! Submission and completion queue of an io_uring, with the sends that complete at once.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{Builder, EnterFlags, IoUring, opcode, squeue};

use crate::io::deadline::Wait;
use crate::io::outbox::Batch;

/// Completions the kernel has room for, by each submission that we have room for.
const COMPLETIONS_PER_SUBMISSION: u32 = 8;

/// Completions that end a pause before its time: more than the kernel has room for, which it takes
/// for as many as it has room for.
const PAUSE_COMPLETIONS: usize = u32::MAX as usize >> 1;

/// Times a flush enters the kernel for one batch. Each enter makes progress unless the system is
/// out of memory; beyond this the link has failed, and the next receive says so.
const ENTERS_PER_BATCH_MAX: usize = 1000;

/// What a completion belongs to: the upper half of its user data. The lower is an index.
pub(super) const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
pub(super) const BELL: u64 = 3 << 32;
pub(super) const KIND: u64 = !0 << 32;

/// A completion that is not a send's.
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// Submission and completion queue, and what was found in the latter while looking for sends.
pub(super) struct Ring {
    pub(super) uring: IoUring,
    pub(super) setup: &'static str,
    /// Bounded by what makes them: the receive buffers, one end for each multishot request, and
    /// one ring of the bell for each wait.
    pub(super) others: VecDeque<Completion>,
    /// Entering failed for good: the errno.
    failed: Option<i32>,
}

impl Ring {
    pub(super) fn new(uring: IoUring, setup: &'static str) -> Ring {
        let others = VecDeque::with_capacity(uring.params().cq_entries() as usize);
        Ring { uring, setup, others, failed: None }
    }

    /// # Panics
    /// If there is no room; there is for one batch and each multishot request.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entries point to (message headers, arena, receive header) outlives the
        // requests: sends complete within `send`, which borrows them; receives are cancelled
        // before the link's boxes are dropped.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("the queue holds a batch and each multishot request");
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.others.is_empty() || !self.uring.completion().is_empty()
    }

    /// Submits what is queued and waits for one completion at least.
    pub(super) fn wait(&mut self, wait: Wait) -> io::Result<()> {
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

    /// Submits what is queued and sleeps for `span`, however many completions there are. One that
    /// fails is no pause; the wait that follows finds the same failure and tells it.
    pub(super) fn pause(&mut self, span: Duration) {
        let timeout = Timespec::from(span);
        let _slept = self
            .uring
            .submitter()
            .submit_with_args(PAUSE_COMPLETIONS, &SubmitArgs::new().timespec(&timeout));
    }

    /// Submits what is queued and lets deferred receives run, without waiting.
    pub(super) fn poll(&mut self) -> io::Result<usize> {
        let queued = self.uring.submission().len() as u32;
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument follows; the entries are good by `push`.
        unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) }
    }

    /// Moves completions out of the kernel's queue; a send's goes to `settle` with its index and
    /// its result.
    pub(super) fn reap(&mut self, mut settle: impl FnMut(usize, i32)) {
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
    pub(super) fn send(&mut self, batch: &mut Batch) {
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

/// Setup flags, their names for the log, and how they are asked for.
pub(super) type Setup = (&'static str, fn(&mut Builder) -> &mut Builder);

/// From best to least: Linux 6.6, 6.1, 5.19, any. `EINVAL` sends us one down.
pub(super) const SETUPS: [Setup; 4] = [
    ("SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL|NO_SQARRAY", |builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_no_sqarray()
    }),
    ("SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL", |builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all()
    }),
    ("COOP_TASKRUN|SUBMIT_ALL", |builder| builder.setup_coop_taskrun().setup_submit_all()),
    ("no flags", |builder| builder),
];

/// A ring with the first of `setups` that the kernel takes, and its name.
pub(super) fn set_up(submissions: u32, setups: &[Setup]) -> io::Result<(IoUring, &'static str)> {
    let mut refusal = io::Error::from_raw_os_error(libc::EINVAL);
    for (name, flags) in setups {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(submissions * COMPLETIONS_PER_SUBMISSION);
        match flags(&mut builder).build(submissions) {
            Ok(uring) => return Ok((uring, name)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}
