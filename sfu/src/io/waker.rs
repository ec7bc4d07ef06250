//! Ends a link's wait from another thread, by an eventfd that is written only while the shard sleeps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::sleep::SleepFlag;

/// Wakes one shard; cheap to clone, usable from any thread, harmless after the shard is gone.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    flag: SleepFlag,
    /// Never read: both links watch it edge-triggered, so each write is one event. The counter
    /// would need 2⁶⁴ wakes to fill.
    bell: OwnedFd,
}

impl Waker {
    /// # Errors
    /// The process or the system is out of file descriptors.
    pub(crate) fn new() -> io::Result<Waker> {
        // SAFETY: takes two integers, no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else owns.
        let bell = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Waker(Arc::new(Inner { flag: SleepFlag::new(), bell })))
    }

    /// Makes the shard's present wait, or else its next one, return. Call it after the push to
    /// the shard's queue. One atomic exchange; a system call only if the shard sleeps.
    pub fn wake(&self) {
        if !self.0.flag.notify() {
            return;
        }
        let one = 1_u64;
        // SAFETY: writes the eight bytes of `one` to a descriptor that `self` keeps open. It can
        // fail only when the counter is full, and then the event is there already.
        unsafe { libc::write(self.0.bell.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// See [`SleepFlag::try_sleep`].
    pub(super) fn try_sleep(&self) -> bool {
        self.0.flag.try_sleep()
    }

    /// See [`SleepFlag::wake_up`].
    pub(super) fn wake_up(&self) -> bool {
        self.0.flag.wake_up()
    }

    /// The eventfd, to be watched edge-triggered and never read.
    pub(super) fn bell(&self) -> RawFd {
        self.0.bell.as_raw_fd()
    }
}
