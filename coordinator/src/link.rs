//! The outgoing half of one WebSocket: what waits to be written, bounded, and the order to close.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;

use crate::limits::{OUTBOUND_BYTES_MAX, OUTBOUND_FRAMES_MAX};
use crate::shards::lock;
use crate::wire::close;
use crate::ws::{deflate, frame};

/// One connection, as everybody else sees it.
#[derive(Debug)]
pub struct Link {
    pub id: u64,
    pub address: Option<IpAddr>,
    /// Whether the client takes compressed frames.
    deflate: bool,
    opened_ms: u64,
    heard_ms: AtomicU64,
    named: AtomicBool,
    outbox: Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    waker: Option<Waker>,
}

/// How far a connection's end has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The close frame is the last in the outbox, since this moment (mono ms).
    Closing { since_ms: u64 },
    /// Nothing is written any more.
    Aborted,
}

/// What a link wants of its task.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// These frames are to be written; more may come.
    Frames,
    /// Nothing to write; the task is woken when that changes.
    Nothing,
    /// All that will ever be written has been taken.
    Ended,
    /// Stop at once.
    Aborted,
}

impl Link {
    pub fn new(id: u64, address: Option<IpAddr>, deflate: bool, now_ms: u64) -> Self {
        Self {
            id,
            address,
            deflate,
            opened_ms: now_ms,
            heard_ms: AtomicU64::new(now_ms),
            named: AtomicBool::new(false),
            outbox: Mutex::default(),
        }
    }

    /// Gives a frame to be written; false when the connection is ending. A client that lets too
    /// much wait does not read, and is closed with 4429.
    pub fn push(&self, frame: Bytes) -> bool {
        let waker = {
            let mut outbox = lock(&self.outbox);
            if outbox.end != End::Open {
                return false;
            }
            outbox.bytes += frame.len();
            outbox.frames.push_back(frame);
            if outbox.bytes > OUTBOUND_BYTES_MAX || outbox.frames.len() > OUTBOUND_FRAMES_MAX {
                outbox.frames.clear();
                let reason = "the connection is not read; read it, or ask for less";
                outbox.frames.push_back(frame::close(close::RATE_LIMITED, reason));
                // As if closed long ago: the next sweep ends it even if nothing can be written.
                outbox.end = End::Closing { since_ms: 0 };
            }
            outbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// As [`Link::push`] of a frame that is shared: `deflated` is its compressed form.
    pub(crate) fn push_shared(&self, plain: Bytes, deflated: &mut Option<Option<Bytes>>) -> bool {
        if !self.deflate {
            return self.push(plain);
        }
        let deflated = deflated.get_or_insert_with(|| deflate::deflate_frame(&plain));
        self.push(deflated.clone().unwrap_or(plain))
    }

    pub(crate) fn deflates(&self) -> bool {
        self.deflate
    }

    /// Asks for the end: what waits is written, then a close with this number.
    pub fn close(&self, code: u16, reason: &str, now_ms: u64) {
        let waker = {
            let mut outbox = lock(&self.outbox);
            if outbox.end != End::Open {
                return;
            }
            outbox.frames.push_back(frame::close(code, reason));
            outbox.end = End::Closing { since_ms: now_ms };
            outbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends what has been closing for longer than `patience_ms`.
    pub fn abort_if_stuck(&self, now_ms: u64, patience_ms: u64) {
        let waker = {
            let mut outbox = lock(&self.outbox);
            match outbox.end {
                End::Closing { since_ms } if since_ms.saturating_add(patience_ms) <= now_ms => {}
                _ => return,
            }
            outbox.end = End::Aborted;
            outbox.frames.clear();
            outbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what waits, up to a count, for the connection's own task.
    pub fn take(&self, into: &mut VecDeque<Bytes>, frames_max: usize, cx: &Context<'_>) -> Taken {
        let mut outbox = lock(&self.outbox);
        if outbox.end == End::Aborted {
            return Taken::Aborted;
        }
        if outbox.frames.is_empty() {
            // An idle connection keeps no memory for frames.
            outbox.frames = VecDeque::new();
            if outbox.end != End::Open {
                return Taken::Ended;
            }
            let asked = outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if !asked {
                outbox.waker = Some(cx.waker().clone());
            }
            return Taken::Nothing;
        }
        let count = outbox.frames.len().min(frames_max);
        for frame in outbox.frames.drain(..count) {
            into.push_back(frame);
        }
        outbox.bytes = outbox.frames.iter().map(Bytes::len).sum();
        Taken::Frames
    }

    /// While its own task runs, nobody needs to wake it.
    pub(crate) fn forget_waker(&self) {
        lock(&self.outbox).waker = None;
    }

    /// Asks to be woken at the next change although frames may wait: the socket is full.
    pub(crate) fn wake_on_abort(&self, cx: &Context<'_>) {
        lock(&self.outbox).waker = Some(cx.waker().clone());
    }

    pub(crate) fn is_aborted(&self) -> bool {
        lock(&self.outbox).end == End::Aborted
    }

    pub fn is_open(&self) -> bool {
        lock(&self.outbox).end == End::Open
    }

    /// The client said something.
    pub fn hear(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    pub fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    /// A node's id is bound to it.
    pub fn name(&self) {
        self.named.store(true, Ordering::Relaxed);
    }

    pub fn is_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn drain(link: &Link) -> (Taken, Vec<Bytes>) {
        let mut frames = VecDeque::new();
        let cx = Context::from_waker(Waker::noop());
        let taken = link.take(&mut frames, usize::MAX, &cx);
        (taken, frames.into())
    }

    #[test]
    fn frames_leave_in_order_then_the_close_then_nothing() {
        let link = Link::new(1, None, false, 0);
        assert_eq!(drain(&link).0, Taken::Nothing);
        assert!(link.push(Bytes::from_static(b"1")) && link.push(Bytes::from_static(b"2")));
        link.close(4408, "late", 0);
        assert!(!link.push(Bytes::from_static(b"3")));
        link.close(4409, "twice", 0);
        let (taken, frames) = drain(&link);
        assert_eq!((taken, frames.len()), (Taken::Frames, 3));
        assert_eq!(frames[2], frame::close(4408, "late"));
        assert_eq!(drain(&link).0, Taken::Ended);
    }

    #[test]
    fn who_does_not_read_is_closed_and_holds_no_memory() {
        let link = Arc::new(Link::new(1, None, false, 0));
        let frame = Bytes::from(vec![0; 1_000]);
        let pushed = (0..10_000).take_while(|_| link.push(frame.clone())).count();
        assert_eq!(pushed, OUTBOUND_BYTES_MAX / 1_000 + 1);
        assert!(!link.is_open());
        assert_eq!(lock(&link.outbox).frames.len(), 1);
        link.abort_if_stuck(5_000, 5_000);
        assert_eq!(drain(&link).0, Taken::Aborted);
    }

    #[test]
    fn a_close_that_cannot_be_written_ends_after_a_while() {
        let link = Link::new(1, None, false, 0);
        link.close(4408, "", 1_000);
        link.abort_if_stuck(5_999, 5_000);
        assert_eq!(drain(&link).0, Taken::Frames);
        link.abort_if_stuck(6_000, 5_000);
        assert_eq!(drain(&link).0, Taken::Aborted);
    }
}
