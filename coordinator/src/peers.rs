//! One peer as the coordinator knows it: how it is reached, what waits for it, where it is.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;

use crate::clock::Now;
use crate::link::Link;
use crate::queue::{Bounds, Entry, Mailbox, QueueFull};
use crate::shards::lock;
use crate::signaling::{Draft, Fan, Kind};
use crate::tokens::{Backoff, Bucket};

/// A session's secret.
pub type SessionId = [u8; 32];

/// A peer. Everybody who is in a room with it holds a reference.
#[derive(Debug)]
pub struct Peer {
    pub id: Arc<str>,
    inbox: Mutex<Inbox>,
}

/// What changes about a peer.
#[derive(Debug)]
pub struct Inbox {
    /// Removed from the registry: who still holds it must look the id up again.
    pub gone: bool,
    pub seen: Now,
    pub attached: Option<Attached>,
    /// Since when a resumable connection is lost (mono ms).
    pub lost_ms: Option<u64>,
    /// The session of that connection: who comes by another way must know it to take its place.
    pub lost_session: Option<SessionId>,
    pub queue: Mailbox,
    pub rooms: Vec<Arc<str>>,
    pub presence: Presence,
    pub poll: Option<Waiting>,
    pub polls: u64,
    pub signals: Bucket,
    pub backoff: Backoff,
}

/// The WebSocket that a peer has.
#[derive(Debug, Clone)]
pub struct Attached {
    pub link: Arc<Link>,
    pub flavor: Flavor,
    /// What a second connection must know to take this one's place.
    pub session: Option<SessionId>,
}

/// How much of the protocol a WebSocket asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    Base,
    /// Said `hello`, or chose the subprotocol.
    Extended,
    /// With cap `resume`: all is numbered, and kept until it is acknowledged.
    Resumable,
}

/// Whether a polling peer hears of comings and goings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has not polled yet, so it may turn out to.
    Unknown,
    /// It polls with a cursor.
    Wanted,
    Unwanted,
}

/// A poll that is held.
#[derive(Debug)]
pub struct Waiting {
    pub serial: u64,
    pub waker: Waker,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Put into the outbox of a WebSocket.
    Pushed,
    /// Waits for a poll, or for a lost WebSocket to come back.
    Queued,
}

impl Peer {
    pub fn new(id: Arc<str>, signals: Bucket, now: Now) -> Self {
        let inbox = Inbox {
            gone: false,
            seen: now,
            attached: None,
            lost_ms: None,
            lost_session: None,
            queue: Mailbox::new(now.unix_ms),
            rooms: Vec::new(),
            presence: Presence::Unknown,
            poll: None,
            polls: 0,
            signals,
            backoff: Backoff::default(),
        };
        Self { id, inbox: Mutex::new(inbox) }
    }

    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }
}

impl Inbox {
    /// Whether the peer can be reached right now: it has a WebSocket or holds a poll.
    pub fn is_online(&self) -> bool {
        self.attached.is_some() || self.poll.is_some()
    }

    /// The last sign of life (mono ms).
    pub fn seen_ms(&self, now: Now) -> u64 {
        if self.poll.is_some() {
            return now.mono_ms;
        }
        let heard = self.attached.as_ref().map_or(0, |attached| attached.link.heard_ms());
        heard.max(self.seen.mono_ms)
    }

    /// The same in Unix ms.
    pub fn seen_unix_ms(&self, now: Now) -> u64 {
        now.unix_ms.saturating_sub(now.mono_ms.saturating_sub(self.seen_ms(now)))
    }

    /// A signal from another peer.
    pub(crate) fn deliver(
        &mut self,
        fan: &mut Fan<'_>,
        now: Now,
        bounds: Bounds,
    ) -> Result<Delivery, QueueFull> {
        if let Some(attached) = &self.attached
            && attached.link.is_open()
        {
            let link = Arc::clone(&attached.link);
            let pushed = match attached.flavor {
                Flavor::Base => link.push(fan.draft.base_frame()),
                Flavor::Extended => link.push(fan.draft.extended_frame(None)),
                Flavor::Resumable => {
                    let seq = self.queue.push(fan.note(), true, now.mono_ms, bounds)?;
                    link.push(fan.draft.extended_frame(Some(seq)));
                    // Even if the link has just ended: it is in the queue for the resume.
                    true
                }
            };
            if pushed {
                return Ok(Delivery::Pushed);
            }
        }
        self.queue.push(fan.note(), false, now.mono_ms, bounds)?;
        self.wake_poll();
        Ok(Delivery::Queued)
    }

    /// A presence change or a broadcast; gives whether it was put somewhere.
    pub(crate) fn tell(
        &mut self,
        fan: &mut Fan<'_>,
        deflated: &mut Option<Option<Bytes>>,
        now: Now,
        bounds: Bounds,
    ) -> bool {
        let broadcast = fan.draft.kind == Kind::Broadcast;
        if let Some(attached) = &self.attached {
            return match attached.flavor {
                Flavor::Base => !broadcast && attached.link.push(fan.base()),
                Flavor::Extended => attached.link.push_shared(fan.extended(), deflated),
                Flavor::Resumable => {
                    let Ok(seq) = self.queue.push(fan.note(), true, now.mono_ms, bounds) else {
                        return false;
                    };
                    attached.link.push(fan.draft.extended_frame(Some(seq)));
                    true
                }
            };
        }
        if self.presence == Presence::Unwanted && self.lost_ms.is_none() {
            return false;
        }
        let queued = self.queue.push(fan.note(), false, now.mono_ms, bounds).is_ok();
        // Who has not polled with a cursor holds no poll that this could answer.
        if self.presence == Presence::Wanted {
            self.wake_poll();
        }
        queued
    }

    fn wake_poll(&mut self) {
        if let Some(poll) = &self.poll {
            poll.waker.wake_by_ref();
        }
    }

    /// Hands a WebSocket that has just been attached what waits for it.
    pub(crate) fn hand_over(&mut self) {
        let Some(attached) = &self.attached else { return };
        match attached.flavor {
            Flavor::Resumable => {
                for entry in self.queue.iter_mut() {
                    entry.handed = true;
                    attached.link.push(entry.note.draft().extended_frame(Some(entry.seq)));
                }
            }
            Flavor::Extended => {
                for entry in self.queue.take(|_| true) {
                    attached.link.push(entry.note.draft().extended_frame(None));
                }
            }
            Flavor::Base => {
                for entry in self.queue.take(|_| true) {
                    if entry.note.kind().is_signal() {
                        attached.link.push(entry.note.draft().base_frame());
                    }
                }
            }
        }
    }

    /// The resumable WebSocket is lost, and with it perhaps what it was handed.
    pub(crate) fn lose(&mut self, now_ms: u64) {
        self.lost_session = self.attached.take().and_then(|attached| attached.session);
        self.lost_ms = Some(now_ms);
        for entry in self.queue.iter_mut() {
            entry.handed = false;
        }
    }

    /// What a poll without a cursor gets: signals, each once. None when there is nothing.
    pub(crate) fn take_signals(&mut self, room: Option<&str>) -> Option<Vec<Entry>> {
        self.presence = Presence::Unwanted;
        let taken = self.queue.take(|entry| {
            !entry.note.kind().is_signal() || room.is_none_or(|room| entry.note.room() == room)
        });
        let signals: Vec<Entry> =
            taken.into_iter().filter(|entry| entry.note.kind().is_signal()).collect();
        (!signals.is_empty()).then_some(signals)
    }

    /// What a poll with a cursor gets: all that is newer, until it says so again with a later one.
    pub(crate) fn read_after(&mut self, cursor: u64, room: Option<&str>) -> Option<Vec<Entry>> {
        self.presence = Presence::Wanted;
        match room {
            None => self.queue.acknowledge(cursor),
            // The numbers run through all rooms; this poll speaks for one of them.
            Some(room) => {
                self.queue.take(|entry| entry.seq <= cursor && entry.note.room() == room);
            }
        }
        let wanted = |entry: &&Entry| room.is_none_or(|room| entry.note.room() == room);
        let entries: Vec<Entry> = self.queue.iter().filter(wanted).cloned().collect();
        (!entries.is_empty()).then_some(entries)
    }
}

/// The text of a presence change's draft.
pub(crate) fn presence<'a>(
    kind: Kind,
    room: &'a str,
    who: &'a str,
    metadata: &'a str,
    now: Now,
) -> Draft<'a> {
    Draft { kind, room, from: who, body: metadata, extras: "", at_ms: now.unix_ms }
}
