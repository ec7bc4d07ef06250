//! All that is shared between callers: one trait, and its body in memory.
//!
//! A call names all it needs, the time too, and is answered at once. A body over a shared store
//! answers likewise, from this process' mirror: it sends on what a call changed (who is where, what
//! waits for whom), takes in what other coordinators send, and goes on alone while the store is
//! away. What is remembered for one connection only (outboxes, wakers) never leaves the process.

mod memory;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

pub use memory::Memory;

use crate::clock::Now;
use crate::error::Refusal;
use crate::link::Link;
use crate::peers::{Delivery, Flavor, SessionId};
use crate::queue::Entry;
use crate::room::{Card, Owner};
use crate::signaling::Draft;

/// A join that may be: who may come in has been decided.
#[derive(Debug, Clone)]
pub struct Join<'a> {
    pub node: &'a Arc<str>,
    pub room: &'a str,
    pub card: Arc<Card>,
    /// Random.
    pub roll: u64,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    pub node: Arc<str>,
    pub card: Arc<Card>,
    /// Unix ms.
    pub joined_ms: u64,
    pub online: bool,
    /// Unix ms.
    pub seen_ms: u64,
}

/// Which members to list: at most `limit`, behind the one of id `after`.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    pub after: Option<&'a str>,
    pub limit: usize,
}

/// A poll. [`StateBackend::begin_poll`] gives the serial.
#[derive(Debug, Clone, Copy)]
pub struct PollCall<'a> {
    pub node: &'a str,
    pub room: Option<&'a str>,
    /// None: each signal once. Some: all that is newer.
    pub cursor: Option<u64>,
    pub serial: u64,
}

/// How a WebSocket showed whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It said so, in mode `open`.
    Word,
    /// By signature, or by the session of one.
    Key,
    /// By a session that began with a word.
    Session(SessionId),
}

/// Makes a frame of a cursor and of the rooms that a node is in.
pub type Welcome<'a> = dyn FnMut(u64, &[Arc<str>]) -> Option<Bytes> + 'a;

/// A WebSocket that takes up a node's id.
pub struct Attach<'a> {
    pub node: &'a Arc<str>,
    pub link: Arc<Link>,
    pub flavor: Flavor,
    pub shown: Shown,
    /// The session that it is told.
    pub session: Option<SessionId>,
    /// What has `seq` up to this has arrived.
    pub acknowledged: Option<u64>,
    /// What goes before all other frames.
    pub welcome: &'a mut Welcome<'a>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub peers: usize,
    pub rooms: usize,
    pub joins: u64,
    pub leaves: u64,
    pub signals_pushed: u64,
    pub signals_queued: u64,
    /// Dropped from full queues, or expired in them.
    pub signals_dropped: u64,
    pub broadcasts: u64,
}

/// Rooms, peers and what waits for them.
pub trait StateBackend: Send + Sync {
    /// Makes a private room; its owner may make it again, with another ban list.
    fn make_room(&self, room: &str, owner: Owner, now: Now) -> Result<(), Refusal>;

    /// Whose private room it is.
    fn owner(&self, room: &str) -> Option<Owner>;

    /// Joins; again changes the metadata alone. The others hear of it. Gives who is there.
    fn join_room(&self, join: Join<'_>, now: Now) -> Result<Vec<PeerView>, Refusal>;

    /// Leaves; the others hear of it. Gives whether the node was in.
    fn leave_room(&self, node: &str, room: &str, now: Now) -> bool;

    /// Leaves all, as [`StateBackend::leave_room`] each.
    fn leave_all_rooms(&self, node: &str, now: Now);

    /// Who is in a room, in the order of joining.
    fn room_peers(&self, room: &str, page: Page<'_>, now: Now) -> Result<Vec<PeerView>, Refusal>;

    fn is_member(&self, node: &str, room: &str) -> bool;

    /// Public rooms: the built-in ones, then up to `max` others.
    fn rooms(&self, max: usize) -> Vec<String>;

    /// Brings `draft` from `draft.from` to `to`, in a room where both are. `roll` is random.
    fn queue_signal(
        &self,
        to: &str,
        draft: Draft<'_>,
        now: Now,
        roll: u64,
    ) -> Result<Delivery, Refusal>;

    /// Tells `draft` to all in its room but its sender, who must be in it; gives how many.
    fn broadcast_to_room(&self, draft: Draft<'_>, now: Now, roll: u64) -> Result<usize, Refusal>;

    /// Announces a poll; one that is held is answered with nothing.
    fn begin_poll(&self, node: &str, now: Now) -> Result<u64, Refusal>;

    /// What a poll gets; pending until there is something, then the waker is woken.
    fn poll_signals(
        &self,
        call: PollCall<'_>,
        now: Now,
        waker: &Waker,
    ) -> Result<Poll<Vec<Entry>>, Refusal>;

    /// The poll is no longer held.
    fn end_poll(&self, node: &str, serial: u64, now: Now);

    /// Gives a node a WebSocket, in place of one that it has where it may; hands over what waits.
    fn attach(&self, attach: Attach<'_>, now: Now) -> Result<(), Refusal>;

    /// The WebSocket is lost: a resumable one's node stays for a while, another has left.
    fn detach(&self, node: &str, link: u64, now: Now);

    /// All with `seq` ≤ `cursor` has arrived.
    fn acknowledge(&self, node: &str, cursor: u64);

    /// The node said something over HTTP.
    fn touch(&self, node: &str, now: Now);

    /// The newest number that this node was given, for its first cursor.
    fn cursor(&self, node: &str) -> u64;

    /// Lets time pass: silent peers leave, old signals and empty rooms are forgotten. Gives the
    /// sessions that WebSockets hold, which therefore live on.
    fn cleanup_stale_peers(&self, now: Now) -> Vec<SessionId>;

    fn counts(&self) -> Counts;
}
