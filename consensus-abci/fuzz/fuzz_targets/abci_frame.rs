//! However a stream is cut, the same messages come out of it, or the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the server uses the rest")]
#[path = "../../src/server/frame.rs"]
mod frame;

use frame::Frames;

/// Longest message.
const MAX_BYTES: usize = 300;

fn read(stream: &[u8], piece_bytes: usize) -> (Vec<bytes::Bytes>, bool) {
    let mut frames = Frames::new(MAX_BYTES);
    let mut found = Vec::new();
    for piece in stream.chunks(piece_bytes.max(1)) {
        frames.extend(piece);
        loop {
            match frames.next_frame() {
                Ok(Some(message)) => {
                    assert!(message.len() <= MAX_BYTES);
                    found.push(message);
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let whole = read(stream, stream.len());
    assert_eq!(read(stream, usize::from(*first)), whole);
    assert_eq!(read(stream, 1), whole);
    let total: usize = whole.0.iter().map(|message| message.len() + 1).sum();
    assert!(total <= stream.len(), "nothing is made up");
});
