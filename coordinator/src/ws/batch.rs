//! Several messages in one frame, for who asked for it with cap `batch`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::{self, HEADER_SPACE};
use crate::limits::BATCH_MESSAGES_MAX;

/// Longest batch that is made, in bytes of its messages: larger ones gain nothing.
const BATCH_BYTES_MAX: usize = 16 << 10;

const OPEN: &str = r#"{"type":"batch","messages":["#;

/// Replaces each run of short plain texts by one batch.
pub(super) fn pack(frames: &mut VecDeque<Bytes>) {
    let mut packed = VecDeque::with_capacity(frames.len());
    let mut run: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    for frame in frames.drain(..) {
        let fits = bytes + frame.len() <= BATCH_BYTES_MAX && run.len() < BATCH_MESSAGES_MAX;
        let text = frame::text_of(&frame).is_some();
        if !text || !fits {
            packed.extend(join(&mut run));
            bytes = 0;
        }
        if text {
            bytes += frame.len();
            run.push(frame);
        } else {
            packed.push_back(frame);
        }
    }
    packed.extend(join(&mut run));
    *frames = packed;
}

/// One frame of a run; a run of one is that one.
fn join(run: &mut Vec<Bytes>) -> Option<Bytes> {
    if run.len() <= 1 {
        return run.pop();
    }
    let bytes: usize = run.iter().map(Bytes::len).sum();
    let mut text = String::with_capacity(HEADER_SPACE.len() + OPEN.len() + bytes + 2);
    text.push_str(HEADER_SPACE);
    text.push_str(OPEN);
    for (index, frame) in run.drain(..).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(frame::text_of(&frame).expect("only texts are put into a run"));
    }
    text.push_str("]}");
    Some(frame::seal_text(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_wait_together_become_one_and_the_order_stays() {
        let close = frame::close(1000, "");
        let mut frames: VecDeque<Bytes> =
            [frame::text("1"), frame::text("2"), frame::text("3"), close.clone()].into();
        pack(&mut frames);
        assert_eq!(frames.len(), 2);
        let batch = frame::text_of(&frames[0]);
        assert_eq!(batch, Some(r#"{"type":"batch","messages":[1,2,3]}"#));
        assert_eq!(frames[1], close);
        let mut frames: VecDeque<Bytes> = [frame::text("1"), close].into();
        pack(&mut frames);
        assert_eq!(frame::text_of(&frames[0]), Some("1"));
    }

    #[test]
    fn a_batch_has_at_most_so_many_messages() {
        let mut frames: VecDeque<Bytes> = (0..130).map(|_| frame::text("1")).collect();
        pack(&mut frames);
        assert_eq!(frames.len(), 3);
    }
}
