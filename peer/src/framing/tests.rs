use std::time::{Duration, Instant};

use coordinator::identity::NodeKey;
use proptest::prelude::*;

use super::*;

fn noise(len_bytes: usize) -> Vec<u8> {
    // xorshift: bytes that deflate cannot shorten.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..len_bytes).map(|_| next()).collect()
}

fn encode(message: &Message) -> Vec<Vec<u8>> {
    Encoder::default().encode(message, Compression::Auto, None).unwrap()
}

fn assemble(frames: &[Vec<u8>]) -> Result<Vec<Message>, FrameError> {
    let mut assembler = Assembler::default();
    let mut messages = Vec::new();
    for frame in frames {
        messages.extend(assembler.push(frame, Trust::Channel)?);
    }
    assert_eq!(assembler.partial_bytes(), 0, "nothing is left over");
    Ok(messages)
}

#[track_caller]
fn check(frame: &[u8], want: Result<&[Message], FrameError>) {
    let got = Assembler::default().push(frame, Trust::Channel);
    assert_eq!(got.as_deref(), want.as_deref(), "{frame:02x?}");
}

#[test]
fn a_frame_is_read_or_refused_by_name() {
    let text = |text: &str| Message::text(Kind::Application, text);
    check(&[0x40, 0, b'h', b'i'], Ok(&[text("hi")]));
    check(&[0x40, 0], Ok(&[text("")]));
    check(&[0x41, 1, 0xFF], Ok(&[Message::bytes(Kind::Prrc, [0xFF])]));
    check(&[0x44, 0, 1, b'a', 0, 2, b'b', b'c'], Ok(&[text("a"), text(""), text("bc")]));
    check(&[], Err(FrameError::Truncated { len_bytes: 0, need_bytes: 2 }));
    check(&[0x40], Err(FrameError::Truncated { len_bytes: 1, need_bytes: 2 }));
    check(&[0x00, 0], Err(FrameError::Version(0)));
    check(&[0xC0, 0], Err(FrameError::Version(3)));
    check(&[0x60, 0], Err(FrameError::Flags(0x20)));
    check(&[0x40, 4], Err(FrameError::Kind(4)));
    check(&[0x40, 0, 0xFF], Err(FrameError::NotText));
    check(&[0x44, 0, 3, b'a'], Err(FrameError::Batch { len_bytes: 2 }));
    check(&[0x44, 0, 0x80, 0x80, 0x80, 0x80, 1], Err(FrameError::Batch { len_bytes: 5 }));
    check(&[0x42, 0, 0xFF, 0xFF], Err(FrameError::Inflate));
    check(&[0x48, 0, 0, 0], Err(FrameError::Truncated { len_bytes: 4, need_bytes: 10 }));
    let fragment = |index, total| FrameError::Fragment { index, total };
    check(&[0x48, 0, 0, 0, 0, 1, 0, 2, 0, 2, 7], Err(fragment(2, 2)));
    check(&[0x48, 0, 0, 0, 0, 1, 0, 0, 0, 0, 7], Err(fragment(0, 0)));
    check(&[0x48, 0, 0, 0, 0, 1, 0, 0, 0, 2], Err(fragment(0, 2)));
    check(&[0x40; FRAME_BYTES_MAX + 1], Err(FrameError::FrameTooLong(FRAME_BYTES_MAX + 1)));
}

/// R97
#[test]
fn a_message_is_deflated_above_1024_bytes_where_that_shortens_it() {
    let is_deflated =
        |bytes: Vec<u8>| encode(&Message::bytes(Kind::Application, bytes))[0][0] & DEFLATE != 0;
    assert!(!is_deflated(vec![7; 1024]));
    assert!(is_deflated([vec![7; 512], noise(513)].concat()));
    assert!(!is_deflated(noise(2000)), "noise does not get shorter");
    let piece = Message::bytes(Kind::Control, vec![7; 5000]);
    let frames = Encoder::default().encode(&piece, Compression::Never, None).unwrap();
    assert_eq!(frames[0][0] & DEFLATE, 0);
}

#[test]
fn a_message_beyond_a_hundredfold_goes_as_it_is() {
    let message = Message::bytes(Kind::Application, vec![0; 3_000_000]);
    let frames = encode(&message);
    assert_eq!(frames[0][0] & DEFLATE, 0);
    assert_eq!(assemble(&frames), Ok(vec![message]));
}

#[test]
fn a_deflated_bomb_is_refused_before_it_is_held() {
    let best = flate2::Compression::best();
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), best);
    std::io::Write::write_all(&mut encoder, &vec![0; 64 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 80_000, "a thousand to one");
    let mut frames = Encoder::default();
    let message = Message::bytes(Kind::Application, bomb);
    let frames = frames.encode(&message, Compression::Never, None).unwrap();
    let mut assembler = Assembler::default();
    let flagged = |frame: &Vec<u8>| [&[frame[0] | DEFLATE], &frame[1..]].concat();
    let last = frames.iter().map(|frame| assembler.push(&flagged(frame), Trust::Channel)).last();
    assert!(matches!(last, Some(Err(FrameError::Bomb { .. }))), "{last:?}");
}

/// R97
#[test]
fn a_hundred_small_messages_leave_in_three_frames_at_most() {
    let now = Instant::now();
    let mut batcher = Batcher::default();
    let messages: Vec<_> =
        (0..100).map(|n| Message::text(Kind::Prrc, format!("{n:020}"))).collect();
    let mut frames = Vec::new();
    for message in &messages {
        frames.extend(batcher.push(message.clone(), Compression::Auto, now).unwrap());
    }
    assert_eq!(batcher.deadline(), Some(now + Duration::from_millis(5)));
    frames.extend(batcher.flush());
    assert!(frames.len() <= 3, "{} frames", frames.len());
    assert_eq!(assemble(&frames), Ok(messages));
    assert_eq!(batcher.deadline(), None);
}

#[test]
fn a_batch_keeps_the_order_of_kinds_and_of_long_messages() {
    let now = Instant::now();
    let mut batcher = Batcher::default();
    let messages = [
        Message::text(Kind::Application, "one"),
        Message::text(Kind::Prrc, "two"),
        Message::bytes(Kind::Prrc, *b"three"),
        Message::bytes(Kind::Prrc, noise(50_000)),
        Message::bytes(Kind::Prrc, *b"five"),
    ];
    let push = |message: &Message| batcher.push(message.clone(), Compression::Auto, now).unwrap();
    let mut frames: Vec<_> = messages.iter().flat_map(push).collect();
    frames.extend(batcher.flush());
    assert_eq!(assemble(&frames).unwrap(), messages);
}

#[test]
fn the_longest_message_passes_and_a_longer_one_is_refused() {
    let longest = Message::bytes(Kind::Application, noise(MESSAGE_BYTES_MAX));
    assert_eq!(assemble(&encode(&longest)), Ok(vec![longest]));
    let longer = Message::bytes(Kind::Application, noise(MESSAGE_BYTES_MAX + 1));
    let refused = Encoder::default().encode(&longer, Compression::Auto, None);
    assert_eq!(refused, Err(FrameError::MessageTooLong(MESSAGE_BYTES_MAX + 1)));
}

#[test]
fn fragments_that_never_end_hold_a_bounded_amount() {
    let mut assembler = Assembler::default();
    let piece = noise(FRAME_BYTES_MAX - FRAGMENT_HEADER_BYTES);
    for id in 0..1000_u32 {
        let frame = [&[0x49, 0][..], &id.to_be_bytes(), &[0, 0, 0, 2], &piece].concat();
        assert_eq!(assembler.push(&frame, Trust::Channel), Ok(Vec::new()));
        assert!(assembler.partial_bytes() <= PARTIAL_MESSAGES_MAX * piece.len());
    }
    // One message whose pieces are more than a message may have.
    let mut refused = None;
    for index in 0..300_u16 {
        let head = [&[0x49, 0, 9, 9, 9, 9][..], &index.to_be_bytes(), &[0xFF, 0xFF]].concat();
        refused = assembler.push(&[&head, &piece[..]].concat(), Trust::Channel).err().or(refused);
    }
    assert!(matches!(refused, Some(FrameError::MessageTooLong(_))), "{refused:?}");
}

/// R91
#[test]
fn a_relayed_message_counts_only_with_its_senders_signature() {
    let (key, other) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
    let message = Message::text(Kind::Prrc, "pay 5 ".repeat(500));
    let author = Author { key: &key, to: "room", seq: 7 };
    let frames = Encoder::default().encode(&message, Compression::Auto, Some(&author)).unwrap();
    let [frame] = &frames[..] else { panic!("one frame") };
    let (key, other) = (key.public(), other.public());
    let open = |frame: &[u8], verifier| Assembler::default().push(frame, Trust::Relayed(verifier));
    let from = key.node_id();
    let right = Verifier { key: &key, from: &from, to: "room" };
    assert_eq!(open(frame, right), Ok(vec![message.clone()]));
    for wrong in [
        Verifier { key: &other, ..right },
        Verifier { from: "b", ..right },
        Verifier { to: "another", ..right },
    ] {
        assert_eq!(open(frame, wrong), Err(FrameError::Signature));
    }
    for at in [0, 1, 20] {
        let mut changed = frame.clone();
        changed[at] ^= 1;
        assert_eq!(open(&changed, right), Err(FrameError::Signature), "byte {at}");
    }
    let unsigned = encode(&message);
    assert_eq!(open(&unsigned[0], right), Err(FrameError::Unsigned));
    let short = FrameError::Truncated { len_bytes: 3, need_bytes: 72 };
    assert_eq!(open(&[0x50, 0, 1, 2, 3], right), Err(short));
    // A channel is believed for its other end: the trailer comes off unread.
    assert_eq!(assemble(&frames), Ok(vec![message]));
}

fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(Kind::Application),
        Just(Kind::Prrc),
        Just(Kind::Commit),
        Just(Kind::Control)
    ];
    let body = prop_oneof![
        ".{0,200}".prop_map(Body::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Body::Bytes),
        (0..60_000_usize, any::<u8>()).prop_map(|(len, byte)| Body::Bytes(vec![byte; len])),
        (1000..60_000_usize).prop_map(|len| Body::Bytes(noise(len))),
    ];
    (kind, body).prop_map(|(kind, body)| Message { kind, body })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_sent_arrives_in_order(messages in prop::collection::vec(any_message(), 0..12)) {
        let now = Instant::now();
        let mut batcher = Batcher::default();
        let mut frames = Vec::new();
        for message in &messages {
            frames.extend(batcher.push(message.clone(), Compression::Auto, now).unwrap());
        }
        frames.extend(batcher.flush());
        prop_assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
        prop_assert_eq!(assemble(&frames).unwrap(), messages);
    }

    #[test]
    fn fragments_may_come_in_any_order(seed in any::<u64>(), len in 16_384..100_000_usize) {
        let message = Message::bytes(Kind::Application, noise(len));
        let mut frames = encode(&message);
        let count = frames.len();
        for (from, to) in (0..count).zip((0..count).map(|n| (seed as usize).wrapping_mul(n + 7) % count)) {
            frames.swap(from, to);
        }
        prop_assert_eq!(assemble(&frames).unwrap(), vec![message]);
    }

    #[test]
    fn junk_is_refused_and_never_held_beyond_the_bounds(
        frames in prop::collection::vec(
            (prop::sample::select(vec![0x40_u8, 0x41, 0x42, 0x44, 0x46, 0x48, 0x4A, 0x4C, 0x4F, 0x50, 0x5F, 0x00]),
             prop::collection::vec(0..4_u8, 0..40)),
            0..60,
        ),
    ) {
        let mut assembler = Assembler::default();
        for (first, rest) in frames {
            let _either = assembler.push(&[&[first][..], &rest].concat(), Trust::Channel);
            prop_assert!(assembler.partial_bytes() <= PARTIAL_MESSAGES_MAX * MESSAGE_BYTES_MAX);
        }
    }
}

/// The JavaScript client writes these; both ends are held to the same bytes.
#[test]
fn the_vectors_that_the_javascript_client_shares_are_read_alike() {
    let vectors = include_str!("../../../web/client/test-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let bytes = |hex: &serde_json::Value| {
        data_encoding::HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap()
    };
    let list = |value: &serde_json::Value| -> Vec<_> {
        value.as_array().unwrap().iter().map(bytes).collect()
    };
    let frames = vectors["frames"].as_array().unwrap();
    assert!(frames.len() > 3);
    for vector in frames {
        let messages = assemble(&list(&vector["frames"])).unwrap();
        let got: Vec<_> = messages.iter().map(|one| one.body.as_bytes().to_vec()).collect();
        assert_eq!(got, list(&vector["messages"]), "{}", vector["name"]);
        for message in messages {
            assert_eq!(u64::from(message.kind.code()), vector["kind"].as_u64().unwrap());
            assert_eq!(message.body.is_bin(), vector["bin"].as_bool().unwrap());
        }
    }
    let signed = frames.iter().find(|vector| vector["name"] == "signed").unwrap();
    let keys = vectors["keys"].as_array().unwrap();
    let sender = keys.iter().find(|key| key["nodeId"] == signed["from"]).unwrap();
    let key = sender["pk"].as_str().unwrap().parse().unwrap();
    let (from, to) = (signed["from"].as_str().unwrap(), signed["to"].as_str().unwrap());
    let trust = Trust::Relayed(Verifier { key: &key, from, to });
    assert!(Assembler::default().push(&list(&signed["frames"])[0], trust).is_ok());
}
