//! Frames between peers: what is put together is bounded and reads the same again; nothing that was
//! carried by somebody is believed without its signature.
#![no_main]

use coordinator_fuzz::{
    framing::{
        Assembler, Compression, Encoder, INFLATED_BYTES_MAX, MESSAGE_BYTES_MAX,
        PARTIAL_MESSAGES_MAX, Trust, Verifier,
    },
    identity::NodeKey,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let key = NodeKey::from_seed([0xa5; 32]).public();
    let from = key.node_id();
    let verifier = Verifier { key: &key, from: &from, to: "global" };
    let trust = if first & 1 == 1 { Trust::Relayed(verifier) } else { Trust::Channel };
    let (mut assembler, mut encoder) = (Assembler::default(), Encoder::default());
    // Each frame behind its length.
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        let messages = assembler.push(frame, trust).unwrap_or_default();
        assert!(assembler.partial_bytes() <= PARTIAL_MESSAGES_MAX * MESSAGE_BYTES_MAX);
        assert!(first & 1 == 0 || messages.is_empty(), "nobody has that key");
        let total: usize = messages.iter().map(|message| message.body.as_bytes().len()).sum();
        assert!(total <= INFLATED_BYTES_MAX);
        for message in messages {
            let frames = encoder.encode(&message, Compression::Auto, None);
            let Ok(frames) = frames else { continue };
            let mut again = Assembler::default();
            let read: Vec<_> = frames
                .iter()
                .flat_map(|frame| again.push(frame, Trust::Channel).expect("our own frame"))
                .collect();
            assert_eq!(read, [message]);
        }
    }
});
