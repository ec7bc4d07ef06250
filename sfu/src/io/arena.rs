//! Where the messages of one flush lie, one after the other, until the kernel has taken them.

use super::Message;
use crate::limits::{MESSAGE_BYTES_MAX, MESSAGES_PER_FLUSH_MAX};

/// Bytes of the arena. Small, so that what was just sealed is still in the L2 cache (1 MiB on the
/// CPUs we know) when the kernel copies it; large enough for [`MESSAGES_PER_FLUSH_MAX`] messages of
/// five full-size packets. When less than one message's room is left, it is flushed.
const ARENA_BYTES: usize = 512 << 10;

/// Each message starts on a cache line of its own.
const ALIGN_BYTES: usize = 64;

const _: () = assert!(ARENA_BYTES >= 4 * MESSAGE_BYTES_MAX);

/// A message and where its bytes start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) message: Message,
    start: usize,
}

#[derive(Debug)]
pub(super) struct Arena {
    bytes: Box<[u8]>,
    used: usize,
    queued: Vec<Queued>,
}

impl Arena {
    pub(super) fn new() -> Arena {
        Arena {
            bytes: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            queued: Vec::with_capacity(MESSAGES_PER_FLUSH_MAX),
        }
    }

    /// True if [`Arena::room`] must not be called before a [`Arena::clear`].
    pub(super) fn is_full(&self) -> bool {
        self.queued.len() == MESSAGES_PER_FLUSH_MAX || self.used + MESSAGE_BYTES_MAX > ARENA_BYTES
    }

    /// Room for one message, contiguous.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..self.used + MESSAGE_BYTES_MAX]
    }

    /// Keeps the first bytes of the room.
    ///
    /// # Panics
    /// If the message is longer than the room, or has datagrams of no bytes: both would make the
    /// kernel send what the caller never wrote.
    pub(super) fn commit(&mut self, message: Message) {
        assert!(message.len_bytes <= MESSAGE_BYTES_MAX, "a message fits its room");
        assert!(message.segment_bytes > 0 || message.len_bytes == 0, "a segment has bytes");
        assert!(!self.is_full(), "begin made room");
        self.queued.push(Queued { message, start: self.used });
        self.used = (self.used + message.len_bytes).next_multiple_of(ALIGN_BYTES).min(ARENA_BYTES);
    }

    pub(super) fn queued(&self) -> &[Queued] {
        &self.queued
    }

    pub(super) fn bytes_of(&self, queued: &Queued) -> &[u8] {
        &self.bytes[queued.start..queued.start + queued.message.len_bytes]
    }

    pub(super) fn clear(&mut self) {
        self.queued.clear();
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len_bytes: usize) -> Message {
        let to = ([127, 0, 0, 1], 9).into();
        Message { endpoint: 0, to, len_bytes, segment_bytes: len_bytes }
    }

    #[test]
    fn the_room_stays_the_same_until_it_is_committed() {
        let mut arena = Arena::new();
        arena.room()[..2].copy_from_slice(b"ab");
        assert_eq!(&arena.room()[..2], b"ab");
        arena.commit(message(2));
        arena.room()[0] = b'c';
        arena.commit(message(1));
        let bytes: Vec<&[u8]> = arena.queued().iter().map(|q| arena.bytes_of(q)).collect();
        assert_eq!(bytes, [&b"ab"[..], b"c"]);
    }

    #[track_caller]
    fn check_messages_until_full(len_bytes: usize, want: usize) {
        let mut arena = Arena::new();
        let mut count = 0;
        while !arena.is_full() {
            assert_eq!(arena.room().len(), MESSAGE_BYTES_MAX);
            arena.commit(message(len_bytes));
            count += 1;
        }
        assert_eq!(count, want);
        arena.clear();
        assert!(!arena.is_full());
    }

    #[test]
    fn it_is_full_at_the_count_or_at_the_bytes() {
        check_messages_until_full(0, MESSAGES_PER_FLUSH_MAX);
        check_messages_until_full(1200, MESSAGES_PER_FLUSH_MAX);
        check_messages_until_full(MESSAGE_BYTES_MAX, 8);
    }

    #[test]
    #[should_panic(expected = "a message fits its room")]
    fn a_message_longer_than_its_room_is_a_bug() {
        Arena::new().commit(message(MESSAGE_BYTES_MAX + 1));
    }
}
