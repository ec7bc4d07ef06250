//! What waits for one peer: in order, numbered, bounded, forgotten with time.
//!
//! **When it is full:** the oldest ICE candidate goes; without one, the oldest presence change or
//! broadcast; without one, the oldest thing that a live WebSocket was handed already and has not
//! acknowledged. Of what else is left, offers, answers and messages that nobody has seen, none is
//! dropped: the next is refused. Presence and broadcasts are never refused, they are lost.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::signaling::{Kind, Note};

/// One thing that waits.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Unique and growing for this peer, also across a coordinator's restart.
    pub seq: u64,
    pub note: Arc<Note>,
    /// When it is forgotten (mono ms).
    until_ms: u64,
    /// Whether a WebSocket was handed it.
    pub handed: bool,
}

/// The queue has no room left for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer's queue is full; wait until it has polled")]
pub struct QueueFull;

/// The bounds of a mailbox.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub entries_max: usize,
    pub bytes_max: usize,
    pub ttl_ms: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Mailbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    last_seq: u64,
    dropped: u64,
}

impl Mailbox {
    /// An empty one. Numbers start from the microsecond of its making, so that a cursor from an
    /// earlier life of the coordinator acknowledges nothing of this one.
    pub fn new(unix_ms: u64) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, last_seq: unix_ms * 1_000, dropped: 0 }
    }

    /// Appends; gives the number. `handed` says that a WebSocket gets it at the same time.
    pub fn push(
        &mut self,
        note: Arc<Note>,
        handed: bool,
        now_ms: u64,
        bounds: Bounds,
    ) -> Result<u64, QueueFull> {
        self.expire(now_ms);
        while self.entries.len() >= bounds.entries_max
            || self.bytes + note.bytes() > bounds.bytes_max
        {
            let Some(index) = self.least_needed() else { return Err(QueueFull) };
            if let Some(entry) = self.entries.remove(index) {
                self.bytes -= entry.note.bytes();
                self.dropped += 1;
            }
        }
        self.last_seq += 1;
        self.bytes += note.bytes();
        let until_ms = now_ms.saturating_add(bounds.ttl_ms);
        self.entries.push_back(Entry { seq: self.last_seq, note, until_ms, handed });
        Ok(self.last_seq)
    }

    fn least_needed(&self) -> Option<usize> {
        let find = |wanted: fn(&Entry) -> bool| self.entries.iter().position(wanted);
        find(|entry| entry.note.kind() == Kind::Candidate)
            .or_else(|| find(|entry| !entry.note.kind().is_signal()))
            .or_else(|| find(|entry| entry.handed))
    }

    /// Forgets what has `seq` ≤ `cursor`: it has arrived. A number that was never given says nothing.
    pub fn acknowledge(&mut self, cursor: u64) {
        if cursor > self.last_seq {
            return;
        }
        while self.entries.front().is_some_and(|entry| entry.seq <= cursor) {
            self.pop();
        }
        self.settle();
    }

    /// Forgets what has waited too long.
    pub fn expire(&mut self, now_ms: u64) {
        while self.entries.front().is_some_and(|entry| entry.until_ms <= now_ms) {
            self.pop();
            self.dropped += 1;
        }
        self.settle();
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.note.bytes();
        }
    }

    /// Gives the memory of an empty queue back: most peers wait for nothing, most of the time.
    fn settle(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    /// Takes out what `wanted` says, in order.
    pub fn take(&mut self, mut wanted: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for entry in self.entries.drain(..) {
            if wanted(&entry) {
                self.bytes -= entry.note.bytes();
                taken.push(entry);
            } else {
                left.push_back(entry);
            }
        }
        self.entries = left;
        taken
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The newest number given.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The number up to which nothing waits.
    pub fn cursor(&self) -> u64 {
        self.entries.front().map_or(self.last_seq, |entry| entry.seq - 1)
    }

    /// What was dropped or expired since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::Draft;

    const BOUNDS: Bounds = Bounds { entries_max: 3, bytes_max: 100, ttl_ms: 60_000 };

    fn note(kind: Kind, body: &str) -> Arc<Note> {
        let draft = Draft { kind, room: "r", from: "a", body, extras: "", at_ms: 0 };
        Arc::new(draft.to_note("r".into()))
    }

    fn bodies(mailbox: &Mailbox) -> Vec<String> {
        mailbox.iter().map(|entry| entry.note.draft().body.to_owned()).collect()
    }

    /// Pushes in order at time 0: `o` offer, `c` candidate, `j` presence, `h` offer that was
    /// handed to a WebSocket; `!` behind one says that it is refused.
    #[track_caller]
    fn check(script: &str, left: &[&str]) {
        let mut mailbox = Mailbox::new(1);
        for step in script.split_whitespace() {
            let kind = match &step[..1] {
                "c" => Kind::Candidate,
                "j" => Kind::PeerJoined,
                _ => Kind::Offer,
            };
            let body = step.trim_end_matches('!');
            let got = mailbox.push(note(kind, body), step.starts_with('h'), 0, BOUNDS);
            assert_eq!(got.is_err(), step.ends_with('!'), "{step}");
        }
        assert_eq!(bodies(&mailbox), left);
    }

    #[test]
    fn a_full_queue_drops_candidates_first_and_offers_never() {
        check("o1 c1 o2", &["o1", "c1", "o2"]);
        check("c1 c2 c3 c4", &["c2", "c3", "c4"]);
        check("o1 c1 c2 o2", &["o1", "c2", "o2"]);
        check("o1 c1 j1 o2 o3", &["o1", "o2", "o3"]);
        check("o1 o2 o3 o4! c1!", &["o1", "o2", "o3"]);
        check("o1 h1 o2 o3 o4!", &["o1", "o2", "o3"]);
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_too() {
        let mut mailbox = Mailbox::new(1);
        let big = "x".repeat(60);
        assert!(mailbox.push(note(Kind::Candidate, &big), false, 0, BOUNDS).is_ok());
        assert!(mailbox.push(note(Kind::Offer, &big), false, 0, BOUNDS).is_ok());
        assert_eq!(mailbox.len(), 1);
        assert_eq!(mailbox.push(note(Kind::Offer, &big), false, 0, BOUNDS), Err(QueueFull));
        assert_eq!(mailbox.take_dropped(), 1);
    }

    #[test]
    fn what_is_acknowledged_or_too_old_is_forgotten() {
        let mut mailbox = Mailbox::new(1);
        let first = mailbox.push(note(Kind::Offer, "1"), false, 0, BOUNDS).unwrap();
        let second = mailbox.push(note(Kind::Offer, "2"), false, 10, BOUNDS).unwrap();
        assert_eq!((mailbox.cursor(), second), (first - 1, first + 1));
        for nothing in [0, second + 1, u64::MAX] {
            mailbox.acknowledge(nothing);
            assert_eq!(mailbox.len(), 2, "{nothing}");
        }
        mailbox.acknowledge(first);
        assert_eq!(bodies(&mailbox), ["2"]);
        mailbox.expire(60_009);
        assert_eq!(mailbox.len(), 1);
        mailbox.expire(60_010);
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.cursor(), second);
    }
}
