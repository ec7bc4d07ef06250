//! A shard's thread: made with its link, which belongs to it, and counted out when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::StartError;
use crate::io::{EpollLink, LinkKind, ShardSockets, UringLink, pin_to_core, prefer_thread};
use crate::shard::{Core, Ports, Shard};

/// What a shard's thread takes with it.
pub(super) struct Start {
    pub core: Core,
    pub ports: Ports,
    pub sockets: ShardSockets,
    pub link: LinkKind,
    pub gather: Duration,
    pub pin: bool,
    pub alive: Arc<AtomicUsize>,
}

impl Start {
    /// Starts the thread and waits until its link is made (a ring belongs to the thread that uses it).
    pub fn spawn(self, id: usize) -> Result<JoinHandle<()>, StartError> {
        let (ready, made) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name(format!("shard-{id}"))
            .spawn(move || self.run(id, &ready))
            .map_err(|error| StartError::Thread { shard: id, error })?;
        match made.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let error = std::io::Error::other("the thread ended before it was ready");
                Err(StartError::Thread { shard: id, error })
            }
        }
    }

    fn run(self, id: usize, ready: &Sender<Result<(), StartError>>) {
        if self.pin
            && let Err(error) = pin_to_core(id)
        {
            tracing::warn!(shard = id, %error, "cannot pin the shard to its core");
        }
        // Beside others that are busy a shard waits for a core up to tens of milliseconds.
        if let Err(error) = prefer_thread() {
            tracing::debug!(shard = id, %error, "the shard has no priority over other threads");
        }
        let Start { core, ports, sockets, link, gather, alive, .. } = self;
        let _gone = Gone(alive);
        let ended = match link {
            LinkKind::IoUring => match UringLink::new(sockets) {
                Ok(link) => {
                    let _ = ready.send(Ok(()));
                    Shard::new(core, link, ports, gather).run()
                }
                Err(error) => return drop(ready.send(Err(error.into()))),
            },
            LinkKind::Epoll => match EpollLink::new(sockets) {
                Ok(link) => {
                    let _ = ready.send(Ok(()));
                    Shard::new(core, link, ports, gather).run()
                }
                Err(error) => {
                    return drop(ready.send(Err(StartError::Thread { shard: id, error })));
                }
            },
        };
        if let Err(error) = ended {
            tracing::error!(shard = id, %error, "the shard ended; its sessions are lost");
        }
    }
}

/// Counts a shard out, also when it panics.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
