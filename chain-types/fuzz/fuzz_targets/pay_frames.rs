//! Any bytes are frames or errors; what was read writes back to the same bytes.
#![no_main]

use chain_types::{
    Frame, SignedBind, SignedToken, SignedVoucher, Terms,
    frame::{FRAME_BYTES_MAX, divide_frames, join_frames},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(frames) = divide_frames(bytes) {
        assert_eq!(join_frames(frames.iter().copied()), bytes);
        frames.iter().for_each(|frame| one(frame));
    }
    one(bytes);
    if let Ok(bind) = SignedBind::decode(bytes) {
        assert_eq!(bind.encode(), bytes);
        let _ = bind.verify(Some(&bind.bind.viewer), "sutantra-fuzz");
    }
    if let Ok(voucher) = SignedVoucher::decode(bytes) {
        assert_eq!(voucher.encode(), bytes);
    }
    if let Ok(token) = SignedToken::decode(bytes) {
        assert_eq!(token.encode(), bytes);
    }
});

fn one(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    assert_eq!(frame.encode(), bytes);
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    if let Frame::Terms(json) = frame
        && let Ok(terms) = serde_json::from_str::<Terms>(&json)
    {
        let again: Terms = serde_json::from_str(&terms.to_json()).expect("JSON of ours");
        assert_eq!((again.hash(), again.lane()), (terms.hash(), terms.lane()));
    }
}
