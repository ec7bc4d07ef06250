//! However a client's bytes are cut, the same messages come out of them, or the same end; and a
//! message that is understood is written back as the same message.
#![no_main]

use coordinator_fuzz::{
    wire::ClientMessage,
    ws::frame::{Event, FrameError, Reader},
};
use libfuzzer_sys::fuzz_target;

/// Longest message here.
const MAX_BYTES: usize = 2_000;

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close,
}

fn read(stream: &[u8], piece_bytes: usize, deflate: bool) -> (Vec<Seen>, Option<FrameError>) {
    let mut reader = Reader::new(deflate, MAX_BYTES);
    let (mut seen, mut here) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece_bytes.max(1)) {
        here.extend_from_slice(piece);
        loop {
            let mut event = None;
            let taken = reader.step(&mut here, |it| {
                event = Some(match it {
                    Event::Text(text) => Seen::Text(text.to_owned()),
                    Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                    Event::Pong => Seen::Pong,
                    Event::Close => Seen::Close,
                });
            });
            match taken {
                Ok(0) => {
                    assert!(event.is_none(), "nothing is complete by half a frame");
                    break;
                }
                Ok(taken) => {
                    seen.extend(event);
                    here.drain(..taken);
                }
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    // Half of the inputs are a message's text as it is.
    if first & 1 == 1 {
        understand(stream);
        return;
    }
    let deflate = first & 2 == 2;
    let whole = read(stream, stream.len(), deflate);
    assert_eq!(read(stream, usize::from(first >> 2), deflate), whole);
    assert_eq!(read(stream, 1, deflate), whole);
    for seen in whole.0 {
        if let Seen::Text(text) = seen {
            assert!(text.len() <= MAX_BYTES);
            understand(text.as_bytes());
        }
    }
});

fn understand(text: &[u8]) {
    let Ok(message) = serde_json::from_slice::<ClientMessage>(text) else { return };
    let written = serde_json::to_string(&message).expect("what was read can be written");
    let again: ClientMessage = serde_json::from_str(&written).expect("and read again");
    assert_eq!(again, message);
}
