//! One connection: bytes in, requests one by one, answers out in batches.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use prost::Message;

use super::{Limits, counters, dispatch::Answer, dispatch::Dispatcher, frame::Frames};
use super::{frame::FrameError, listener::Stream};

/// Bytes that one read takes.
const READ_BYTES: usize = 64 << 10;
/// Answers wait for each other up to so many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// After an exception so much is read and thrown away, so that closing does not overtake it.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER: Duration = Duration::from_millis(500);
/// How long a peer that does not read its answers holds up a stop.
const UNREAD_GRACE: Duration = Duration::from_secs(1);

/// Why a connection ended before its peer closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message stopped midway, and nothing came for {seconds} s")]
    Stalled { seconds: u64 },
    #[error("the peer closed in the middle of a message")]
    Midway,
    #[error("answered with an exception: {0}")]
    Exception(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection's thread, for as long as it has the socket.
pub(super) struct Connection<'a> {
    pub(super) id: u64,
    pub(super) stream: Stream,
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) limits: &'a Limits,
    pub(super) stopping: &'a AtomicBool,
}

impl Connection<'_> {
    /// Serves until the peer closes, a message cannot be answered, or the server stops; then the
    /// request in hand is answered still.
    pub(super) fn serve(&mut self) -> Result<(), ConnectionError> {
        self.stream.set_read_timeout(self.limits.stall)?;
        self.stream.set_write_timeout(UNREAD_GRACE)?;
        let mut frames = Frames::new(self.limits.message_bytes_max);
        let mut replies = Vec::new();
        let mut chunk = vec![0; READ_BYTES];
        let mut arrived = Vec::new();
        loop {
            let refused = loop {
                match frames.next_frame() {
                    Ok(None) => break None,
                    Ok(Some(message)) => arrived.push(Dispatcher::read(message)),
                    Err(error) => break Some(error),
                }
            };
            self.dispatcher.expect(&arrived);
            for asked in arrived.drain(..) {
                if self.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let answer = self.dispatcher.answer(self.id, asked);
                append(&mut replies, &answer);
                if let Some(sentence) = answer.ends {
                    self.end(&mut replies)?;
                    return Err(ConnectionError::Exception(sentence));
                }
                if answer.is_flush || replies.len() >= BATCH_BYTES {
                    self.write(&mut replies)?;
                }
            }
            if let Some(error) = refused {
                return self.refuse(replies, error.into());
            }
            self.write(&mut replies)?;
            if self.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) if frames.is_midway() => return Err(ConnectionError::Midway),
                Ok(0) => return Ok(()),
                Ok(count) => {
                    counters::add(&self.dispatcher.counters.received_bytes, count);
                    frames.extend(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && frames.is_midway() => {
                    let seconds = self.limits.stall.as_secs();
                    return self.refuse(replies, ConnectionError::Stalled { seconds });
                }
                Err(error) if is_timeout(&error) => {} // Between messages it may be silent.
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends with an exception for what is no message.
    fn refuse(
        &mut self,
        mut replies: Vec<u8>,
        error: ConnectionError,
    ) -> Result<(), ConnectionError> {
        append(&mut replies, &self.dispatcher.bad_message(&error.to_string()));
        self.end(&mut replies)?;
        Err(error)
    }

    /// Writes the last answers, and waits a moment for the peer to have them: a socket that is
    /// closed with unread bytes in it resets the connection, and the peer may lose the sentence.
    fn end(&mut self, replies: &mut Vec<u8>) -> Result<(), ConnectionError> {
        self.write(replies)?;
        self.stream.shutdown(Shutdown::Write)?;
        self.dispatcher.left(self.id); // Nothing more is decided here: another engine may.
        self.stream.set_read_timeout(LINGER)?;
        let (begin, mut bytes, mut chunk) = (Instant::now(), 0, [0; 4096]);
        while bytes < LINGER_BYTES_MAX && begin.elapsed() < LINGER {
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes += count,
            }
        }
        Ok(())
    }

    /// Writes all; who does not read is waited for until the server stops.
    fn write(&mut self, replies: &mut Vec<u8>) -> Result<(), ConnectionError> {
        let mut rest = &replies[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => {
                    counters::add(&self.dispatcher.counters.sent_bytes, count);
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && !self.stopping.load(Ordering::SeqCst) => {}
                Err(error) => return Err(error.into()),
            }
        }
        replies.clear();
        replies.shrink_to(BATCH_BYTES);
        Ok(())
    }
}

/// Adds an answer as it goes over the wire.
pub(super) fn append(replies: &mut Vec<u8>, answer: &Answer) {
    answer.response.encode_length_delimited(replies).expect("a vector has room");
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
