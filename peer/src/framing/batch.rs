//! Small messages that leave together.

use std::time::Instant;

use super::{
    BATCH_BYTES, BATCH_MESSAGES_MAX, BATCH_WAIT, Body, Compression, Encoder, FrameError, Kind,
    Message,
};

/// Collects small messages for [`BATCH_WAIT`] or [`BATCH_BYTES`], whichever comes first. Order is
/// kept: a message that does not fit what waits sends it off first.
#[derive(Debug, Default)]
pub struct Batcher {
    encoder: Encoder,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    kind: Kind,
    is_bin: bool,
    bodies: Vec<Body>,
    len_bytes: usize,
    leaves_at: Instant,
}

impl Batcher {
    /// Takes a message; gives the frames that must leave now.
    ///
    /// # Errors
    /// [`FrameError::MessageTooLong`]: what waited before stays.
    pub fn push(
        &mut self,
        message: Message,
        compression: Compression,
        now: Instant,
    ) -> Result<Vec<Vec<u8>>, FrameError> {
        let len_bytes = message.body.as_bytes().len();
        if len_bytes >= BATCH_BYTES {
            let own = self.encoder.encode(&message, compression, None)?;
            let mut frames = self.flush();
            frames.extend(own);
            return Ok(frames);
        }
        let is_bin = message.body.is_bin();
        let joins = |waiting: &Waiting| waiting.kind == message.kind && waiting.is_bin == is_bin;
        let mut frames = Vec::new();
        if !self.waiting.as_ref().is_some_and(joins) {
            frames = self.flush();
        }
        let new = || Waiting {
            kind: message.kind,
            is_bin,
            bodies: Vec::new(),
            len_bytes: 0,
            leaves_at: now + BATCH_WAIT,
        };
        let waiting = self.waiting.get_or_insert_with(new);
        waiting.bodies.push(message.body);
        // A length takes two bytes at most: the longest that waits has fewer than 16,384.
        waiting.len_bytes += len_bytes + 2;
        if waiting.len_bytes >= BATCH_BYTES || waiting.bodies.len() == BATCH_MESSAGES_MAX {
            frames.extend(self.flush());
        }
        Ok(frames)
    }

    /// When [`Batcher::flush`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.leaves_at)
    }

    /// Frames of all that waits.
    pub fn flush(&mut self) -> Vec<Vec<u8>> {
        let Some(mut waiting) = self.waiting.take() else { return Vec::new() };
        let Waiting { kind, is_bin, .. } = waiting;
        // One alone needs no batch.
        let frames = match (waiting.bodies.pop(), waiting.bodies.is_empty()) {
            (Some(body), true) => {
                self.encoder.encode(&Message { kind, body }, Compression::Auto, None)
            }
            (last, _) => {
                waiting.bodies.extend(last);
                self.encoder.encode_batch(kind, is_bin, &waiting.bodies)
            }
        };
        frames.expect("a batch is far below the longest message")
    }
}
