//! One connection's life: bytes in, messages to `talk`, frames out, the end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, Write};
use hyper::upgrade::Upgraded;

use super::frame::{self, Event, FrameError, Reader};
use super::talk::Talk;
use super::{batch, deflate};
use crate::link::Taken;

/// What one read takes at most. The buffer is the thread's, so that an idle connection has none.
const READ_BYTES: usize = 16 << 10;

/// Reads of one turn; then others have theirs.
const READS_PER_TURN: usize = 8;

/// Frames that are written together.
const FRAMES_PER_WRITE: usize = 32;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A connection, as a future that is done when it has ended.
pub(crate) struct Socket {
    io: Upgraded,
    talk: Talk,
    reader: Reader,
    /// The beginning of a frame whose rest has not arrived, or what waits for an admission.
    partial: Vec<u8>,
    out: VecDeque<Bytes>,
    unflushed: Unflushed,
    end: End,
}

/// Whether the layers below may hold what was written.
#[derive(PartialEq, Eq)]
enum Unflushed {
    No,
    Yes,
}

/// How far the end has come.
#[derive(PartialEq, Eq)]
enum End {
    Open,
    /// The client said close.
    Heard,
    /// Our close is written; the client's, or its end, is awaited.
    Said,
}

impl Socket {
    pub(crate) fn new(io: Upgraded, talk: Talk, deflate: bool) -> Self {
        let message_bytes_max = talk.frame_bytes_max();
        Self {
            io,
            talk,
            reader: Reader::new(deflate, message_bytes_max),
            partial: Vec::new(),
            out: VecDeque::new(),
            unflushed: Unflushed::No,
            end: End::Open,
        }
    }

    /// Reads what is there and lets `talk` answer; ready when the client has gone.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        INPUT.with_borrow_mut(|input| {
            for _ in 0..READS_PER_TURN {
                let count = {
                    let mut buffer = ReadBuf::new(input);
                    match ready!(Pin::new(&mut self.io).poll_read(cx, buffer.unfilled())) {
                        Ok(()) => buffer.filled().len(),
                        Err(_) => return Poll::Ready(()),
                    }
                };
                if count == 0 {
                    return Poll::Ready(());
                }
                self.arrived(&mut input[..count]);
                if self.talk.is_waiting() {
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Bytes from the client, behind those that wait.
    fn arrived(&mut self, input: &mut [u8]) {
        if self.end != End::Open || !self.talk.link().is_open() {
            // What comes after a close is read so that it can end, and not looked at but for
            // the client's own close, which its end of the stream follows.
            self.partial = Vec::new();
            return;
        }
        if self.partial.is_empty() {
            let taken = self.frames(input);
            if taken < input.len() && self.end == End::Open {
                self.partial = input[taken..].to_vec();
            }
            return;
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(input);
        self.go_on(whole);
    }

    /// Takes frames from the front of what has waited.
    fn go_on(&mut self, mut whole: Vec<u8>) {
        let taken = self.frames(&mut whole);
        if taken < whole.len() && self.end == End::Open {
            whole.drain(..taken);
            self.partial = whole;
        }
    }

    /// Handles whole frames; gives how many bytes they took.
    fn frames(&mut self, input: &mut [u8]) -> usize {
        let mut at = 0;
        while self.end == End::Open && !self.talk.is_waiting() && self.talk.link().is_open() {
            let (talk, end) = (&mut self.talk, &mut self.end);
            let step = self.reader.step(&mut input[at..], |event| match event {
                Event::Text(text) => talk.hear(text),
                Event::Ping(payload) => talk.ping(payload),
                Event::Pong => talk.pong(),
                Event::Close => *end = End::Heard,
            });
            match step {
                Ok(0) => break,
                Ok(taken) => at += taken,
                Err(error) => {
                    self.broken(error);
                    return input.len();
                }
            }
        }
        if self.end == End::Heard {
            self.talk.close(1000, "");
        }
        at
    }

    fn broken(&mut self, error: FrameError) {
        self.talk.close(error.close_code(), &error.to_string());
    }

    /// Writes what waits; ready when the connection is over.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.out.is_empty() {
                match self.talk.link().take(&mut self.out, FRAMES_PER_WRITE, cx) {
                    Taken::Frames => self.pack(),
                    Taken::Nothing => {
                        self.out = VecDeque::new();
                        if ready!(self.poll_flush(cx)).is_err() {
                            return Poll::Ready(());
                        }
                        return Poll::Pending;
                    }
                    Taken::Ended => return self.poll_end(cx),
                    Taken::Aborted => return Poll::Ready(()),
                }
            }
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let count = self.out.len().min(FRAMES_PER_WRITE);
            for (slice, frame) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(frame);
            }
            let written = match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(written)) => written,
                Poll::Pending => {
                    self.talk.link().wake_on_abort(cx);
                    return match self.talk.link().is_aborted() {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    };
                }
            };
            self.unflushed = Unflushed::Yes;
            self.advance(written);
        }
    }

    /// Batches and compresses what is about to be written, as the client agreed to.
    fn pack(&mut self) {
        if self.talk.batches() && self.out.len() > 1 {
            batch::pack(&mut self.out);
        }
        if self.talk.link().deflates() {
            for frame in &mut self.out {
                if let Some(deflated) = deflate::deflate_frame(frame) {
                    *frame = deflated;
                }
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.out.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.out.pop_front();
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.unflushed == Unflushed::Yes {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = Unflushed::No;
        }
        Poll::Ready(Ok(()))
    }

    /// All is written: closes our half, and waits for the client's, because who leaves with
    /// unread input resets the connection, and the close frame may be lost with it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() || self.end == End::Heard {
            return Poll::Ready(());
        }
        self.end = End::Said;
        self.talk.link().wake_on_abort(cx);
        if self.talk.link().is_aborted() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Future for Socket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.talk.link().forget_waker();
        if this.talk.poll_waiting(cx).is_ready() {
            if !this.partial.is_empty() {
                let whole = std::mem::take(&mut this.partial);
                this.go_on(whole);
            }
            if !this.talk.is_waiting() && this.poll_input(cx).is_ready() {
                return Poll::Ready(());
            }
            // A message of this turn may have begun to wait: let it register its waker.
            if this.talk.is_waiting() {
                cx.waker().wake_by_ref();
            }
        }
        this.poll_output(cx)
    }
}

/// Text frame from a JSON text, for `talk`.
pub(super) fn text_frame(text: &str) -> Bytes {
    frame::text(text)
}
