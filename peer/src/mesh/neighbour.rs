//! Somebody in the room: the connection to it, who waits for that, when to try again.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Out;
use crate::{
    connection::{self, CloseReason, Connection, Output, SendError},
    event::Event,
    signal::{Outgoing, What},
};

/// Attempts in a row to reach a peer that is in the room.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// Before the second attempt; it doubles.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// Somebody in the room, connected or not.
#[derive(Default)]
pub(super) struct Neighbour {
    /// As it calls itself.
    pub name: String,
    /// The coordinator sees it in the room.
    pub is_present: bool,
    /// Ours to it.
    pub connection: Option<Connection>,
    /// Its key signed the certificate that the connection has.
    pub is_verified: bool,
    /// When its connection wants time to pass.
    pub deadline: Option<Instant>,
    /// It may have something to say.
    pub is_dirty: bool,
    /// In a row, to reach it.
    pub attempts: u32,
    /// The next of them.
    pub retry_at: Option<Instant>,
    /// Senders that hold back.
    pub waiting: Vec<oneshot::Sender<Result<(), SendError>>>,
}

impl Neighbour {
    /// Without a connection nobody waits for it, and no time is due.
    pub fn give_up(&mut self) -> Option<Connection> {
        for done in self.waiting.drain(..) {
            // Whoever has stopped to wait does not want to know.
            let _unheard = done.send(Err(SendError::NotOpen));
        }
        self.deadline = None;
        self.connection.take()
    }

    /// The connection has ended: whoever waits is told, and whoever offered tries again.
    pub fn end(&mut self, id: &str, reason: CloseReason, now: Instant) -> Event {
        let connection = self.give_up();
        let was_open = connection.as_ref().is_some_and(Connection::has_opened);
        let may_retry = match reason {
            CloseReason::NoPath | CloseReason::Lost | CloseReason::Protocol => {
                connection.is_some_and(|connection| connection.is_offerer())
            }
            CloseReason::Local | CloseReason::Remote => false,
        };
        if may_retry && self.is_present && self.attempts < ATTEMPTS_MAX {
            self.retry_at = Some(now + RETRY * 2_u32.pow(self.attempts));
            self.attempts += 1;
        }
        let (id, name) = (id.to_owned(), self.name.clone());
        Event::Disconnected { id, name, was_open, reason }
    }

    /// All that has to leave to it now, or to be told of it; whether that was the connection's end.
    pub fn poll(&mut self, id: &str, now: Instant, out: &mut Vec<Out>) -> bool {
        self.is_dirty = false;
        let Some(connection) = &mut self.connection else { return false };
        let mut ended = None;
        let signal = |sid: &str, what| {
            Out::Signal(Outgoing { to: id.to_owned(), sid: sid.to_owned(), what })
        };
        let name = || self.name.clone();
        let id_of = || id.to_owned();
        loop {
            let event = match connection.poll_output(now) {
                Output::Transmit(transmit) => {
                    out.push(Out::Transmit(transmit));
                    continue;
                }
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    break;
                }
                Output::Event(event) => event,
            };
            let sid = connection.sid();
            out.push(match event {
                connection::Event::Offer(sdp) => signal(sid, What::Offer(sdp)),
                connection::Event::Answer(sdp) => signal(sid, What::Answer(sdp)),
                connection::Event::Candidate(candidate) => signal(sid, What::Candidate(candidate)),
                connection::Event::Opened => {
                    self.attempts = 0;
                    let is_verified = self.is_verified;
                    Out::Event(Event::Connected { id: id_of(), name: name(), is_verified })
                }
                connection::Event::Message(message) => {
                    Out::Event(Event::Message { from: id_of(), name: name(), message })
                }
                connection::Event::Raw { label, body } => {
                    Out::Event(Event::Raw { from: id_of(), name: name(), label, body })
                }
                connection::Event::Refused(error) => {
                    Out::Event(Event::Warning(format!("from {}: {error}", self.name)))
                }
                connection::Event::Closed(reason) => {
                    ended = Some(reason);
                    continue;
                }
            });
        }
        if connection.is_writable() {
            for done in self.waiting.drain(..) {
                // Whoever has stopped to wait does not want to know.
                let _unheard = done.send(Ok(()));
            }
        }
        let Some(reason) = ended else { return false };
        let event = self.end(id, reason, now);
        out.push(Out::Event(event));
        true
    }
}
