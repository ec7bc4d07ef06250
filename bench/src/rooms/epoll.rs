//! Readiness of many connections, level-triggered, with a time to wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events that one turn takes.
const EVENTS: usize = 512;

/// What a connection is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Also room to write.
    ReadWrite,
}

/// An epoll instance.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// One connection that can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// As it was added.
    pub token: u64,
    /// It may be read, or has failed, which reading tells.
    pub read: bool,
    /// It may be written.
    pub write: bool,
}

impl Epoll {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Watches an open descriptor. It leaves by being closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, descriptor: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, token, interest)
    }

    /// Watches it for something else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&self, descriptor: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, descriptor, token, interest)
    }

    fn control(
        &self,
        operation: libc::c_int,
        descriptor: RawFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is valid through the call.
        let done = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut event)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until something is ready or the time is over; in `ready` is what is.
    ///
    /// # Errors
    /// The kernel's; a signal is none.
    pub fn wait(&mut self, span: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let ms = span.as_millis().min(1000) as libc::c_int;
        let room = self.events.len() as libc::c_int;
        // SAFETY: `events` has `room` writable entries.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(self.events[..count as usize].iter().map(|event| {
            let has = |bits: libc::c_int| event.events & bits as u32 != 0;
            let failed = has(libc::EPOLLERR | libc::EPOLLHUP);
            Ready {
                token: event.u64,
                read: has(libc::EPOLLIN) || failed,
                write: has(libc::EPOLLOUT),
            }
        }));
        Ok(())
    }
}
