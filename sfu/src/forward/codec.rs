//! Where a decoder can start: keyframes told from payload descriptors that are in the clear.

use crate::ports::Codec;

/// Does `payload` hold the first packet of a keyframe? Audio can be joined at any packet.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => vp8_frame(payload).is_some_and(|frame| frame[0] & 1 == 0),
        Codec::Vp9 => vp9_starts_keyframe(payload),
        Codec::H264 => h264_starts_keyframe(payload),
        // N bit of the aggregation header: first packet of a coded video sequence
        // (AV1 RTP specification §4.4).
        Codec::Av1 => payload.first().is_some_and(|header| header & 0x08 != 0),
    }
}

/// Width and height, where the keyframe says them at a fixed place (VP8, RFC 6386 §9.1).
pub fn keyframe_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    let frame = match codec {
        Codec::Vp8 => vp8_frame(payload)?,
        Codec::Opus | Codec::Vp9 | Codec::H264 | Codec::Av1 => return None,
    };
    let size = frame.get(3..10).filter(|_| frame[0] & 1 == 0)?;
    let [0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *size else { return None };
    let dimension = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    Some((dimension(w0, w1), dimension(h0, h1)))
}

/// The first partition's bytes if `payload` begins a frame (RFC 7741 §4.2: S = 1, PID = 0).
fn vp8_frame(payload: &[u8]) -> Option<&[u8]> {
    let first = *payload.first()?;
    if first & 0x1f != 0x10 {
        return None;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(at)?;
        at += 1;
        if extension & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0); // TL0PICIDX
        at += usize::from(extension & 0x30 != 0); // TID, Y, KEYIDX
    }
    payload.get(at..).filter(|frame| !frame.is_empty())
}

/// RFC 9628 §4.2: begin of a frame (B), not inter-predicted (P = 0), lowest spatial layer.
fn vp9_starts_keyframe(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    let (picture_id, predicted, layers, begin) =
        (first & 0x80 != 0, first & 0x40 != 0, first & 0x20 != 0, first & 0x08 != 0);
    if predicted || !begin {
        return false;
    }
    if !layers {
        return true;
    }
    let mut at = 1;
    if picture_id {
        at += if payload.get(at).is_some_and(|id| id & 0x80 != 0) { 2 } else { 1 };
    }
    payload.get(at).is_some_and(|layer| (layer >> 1) & 0x07 == 0)
}

/// RFC 6184 §5.2: a sequence parameter set leads a keyframe, alone or in a STAP-A; an IDR slice
/// counts as well, for encoders that send parameter sets once.
fn h264_starts_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let Some(&first) = payload.first() else { return false };
    match first & 0x1f {
        IDR | SPS => true,
        FU_A => payload.get(1).is_some_and(|fu| fu & 0x80 != 0 && fu & 0x1f == IDR),
        STAP_A => {
            let mut rest = &payload[1..];
            while let [high, low, unit, ..] = *rest {
                if matches!(unit & 0x1f, IDR | SPS) {
                    return true;
                }
                let next = 2 + usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(next..).unwrap_or(&[]);
            }
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(codec: Codec, payload: &[u8], want: bool) {
        assert_eq!(starts_keyframe(codec, payload), want, "{codec:?} {payload:02x?}");
    }

    #[test]
    fn keyframes_are_told_from_other_frames() {
        let vp8_key = [0x90, 0x80, 0x81, 0x23, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1];
        check(Codec::Vp8, &vp8_key, true);
        check(Codec::Vp8, &[0x10, 0x10], true);
        check(Codec::Vp8, &[0x10, 0x11], false); // Inter frame.
        check(Codec::Vp8, &[0x00, 0x10], false); // Middle of a frame.
        check(Codec::Vp8, &[0x11, 0x10], false); // Second partition.
        check(Codec::Vp8, &[0x90, 0x80, 0x81], false); // Cut off.
        check(Codec::Vp9, &[0x8a, 0x81, 0x23], true); // I, B, F.
        check(Codec::Vp9, &[0xca, 0x81, 0x23], false); // P.
        check(Codec::Vp9, &[0x82, 0x81, 0x23], false); // Not the begin.
        check(Codec::Vp9, &[0xa8, 0x01, 0x00], true); // Layer indices, SID 0.
        check(Codec::Vp9, &[0xa8, 0x01, 0x02], false); // SID 1.
        check(Codec::H264, &[0x67, 0x42], true);
        check(Codec::H264, &[0x65], true);
        check(Codec::H264, &[0x41], false);
        check(Codec::H264, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true);
        check(Codec::H264, &[0x78, 0, 2, 0x09, 0x10, 0, 1, 0x65], true);
        check(Codec::H264, &[0x78, 0, 2, 0x41, 0x10], false);
        check(Codec::H264, &[0x78, 0xff, 0xff, 0x41, 0x10], false); // Length beyond the packet.
        check(Codec::H264, &[0x7c, 0x85], true);
        check(Codec::H264, &[0x7c, 0x05], false); // FU-A, not the start.
        check(Codec::Av1, &[0x18], true);
        check(Codec::Av1, &[0x10], false);
        check(Codec::Opus, &[0x78], true);
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
            check(codec, &[], false);
        }
    }

    #[test]
    fn the_size_of_a_vp8_keyframe_is_read() {
        let key = [0x90, 0x80, 0x81, 0x23, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 1];
        assert_eq!(keyframe_size(Codec::Vp8, &key), Some((640, 360)));
        assert_eq!(keyframe_size(Codec::Vp8, &key[..12]), None);
        assert_eq!(keyframe_size(Codec::Vp9, &key), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(payload: Vec<u8>) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
                starts_keyframe(codec, &payload);
                keyframe_size(codec, &payload);
            }
        }
    }
}
