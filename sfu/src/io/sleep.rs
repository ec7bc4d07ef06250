//! Sleeping protocol of a shard and its wakers: which of them must ring, so that no wake is lost.
//!
//! ```text
//! owner:  drain queues -> try_sleep -> block -> wake_up -> drain queues -> ...
//! waker:  push to a queue -> notify -> ring the bell if it says so
//! ```
//!
//! Every transition is a read-modify-write of one atomic, so all of them lie in one order:
//! - `notify` before the owner's `try_sleep`: it left `NOTIFIED`, `try_sleep` fails, the owner does
//!   not block.
//! - `notify` after it: it found `SLEEPING` and rings; the bell ends the wait, or the next one.
//! - A second `notify` finds `NOTIFIED`: the first one's ring, or the failing `try_sleep`, serves
//!   both, for the owner has yet to pass `wake_up`. That one reads what `notify` wrote
//!   (acquire, release), so the drain after it sees what was pushed before either.
//!
//! A plain "is it asleep?" load in `notify` would be cheaper and wrong: push and load may pass each
//! other, as may `try_sleep` and the owner's last look at its queue.

use super::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

/// The state that the owner and its wakers share.
#[derive(Debug)]
pub(crate) struct SleepFlag(AtomicU8);

impl SleepFlag {
    /// The owner is awake.
    pub(crate) fn new() -> SleepFlag {
        SleepFlag(AtomicU8::new(AWAKE))
    }

    /// Owner, before it blocks: false if there was a [`SleepFlag::notify`] since the last
    /// [`SleepFlag::wake_up`], and blocking would sleep over it.
    pub(crate) fn try_sleep(&self) -> bool {
        self.0.compare_exchange(AWAKE, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Owner, after the wait and before it drains: true if there was a [`SleepFlag::notify`].
    pub(crate) fn wake_up(&self) -> bool {
        self.0.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }

    /// Waker, after its push: true if it must ring the bell, for the owner may block.
    #[must_use]
    pub(crate) fn notify(&self) -> bool {
        self.0.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING
    }
}
