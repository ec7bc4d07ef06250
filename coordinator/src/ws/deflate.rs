//! permessage-deflate (RFC 7692), each message for itself: no connection keeps a window.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::{self, FrameError, HEADER_SPACE};
use crate::limits::{COMPRESS_ABOVE_BYTES, INFLATE_FLOOR_BYTES, INFLATE_RATIO_MAX};

/// What the answer to an accepted offer says.
pub const ACCEPTED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What a flushed block ends with, and a message leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Fastest: an SDP shrinks to a third at any level.
const LEVEL: Compression = Compression::new(1);

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(LEVEL, false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Whether a `Sec-WebSocket-Extensions` header has an offer that [`ACCEPTED`] answers.
pub fn is_offered(header: &str) -> bool {
    header.split(',').any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some("permessage-deflate")
            && parts.all(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                match (name.trim(), value.trim().trim_matches('"')) {
                    ("server_no_context_takeover" | "client_no_context_takeover", "") => true,
                    ("client_max_window_bits", _) => true,
                    // A smaller window than the compressor's cannot be promised.
                    ("server_max_window_bits", bits) => bits == "15",
                    _ => false,
                }
            })
    })
}

/// Inflates a message of at most `bytes_max` bytes, or of [`INFLATE_RATIO_MAX`] times what came.
pub fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    let by_ratio = payload.len().saturating_mul(INFLATE_RATIO_MAX).max(INFLATE_FLOOR_BYTES);
    let bytes_max = bytes_max.min(by_ratio);
    let mut output = Vec::with_capacity(bytes_max.min(4 * payload.len() + 64));
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        for part in [payload, &TAIL] {
            inflate_part(decompress, part, bytes_max, &mut output)?;
        }
        Ok(output)
    })
}

fn inflate_part(
    decompress: &mut Decompress,
    mut part: &[u8],
    bytes_max: usize,
    output: &mut Vec<u8>,
) -> Result<(), FrameError> {
    loop {
        let (before, written) = (decompress.total_in(), output.len());
        let status = decompress
            .decompress_vec(part, output, FlushDecompress::Sync)
            .map_err(|_| FrameError::Inflate)?;
        let taken = (decompress.total_in() - before) as usize;
        part = &part[taken..];
        if output.len() > bytes_max {
            return Err(FrameError::TooLarge);
        }
        let full = output.len() == output.capacity();
        if full {
            // One byte above the bound, so that reaching it is seen.
            let more = output.len().max(64).min(bytes_max + 1 - output.len());
            output.reserve_exact(more);
        }
        match status {
            // A final block inside a message is allowed, and ends it (§7.2.3.5).
            Status::StreamEnd => return Ok(()),
            _ if part.is_empty() && !full => return Ok(()),
            _ if taken == 0 && output.len() == written && !full => return Err(FrameError::Inflate),
            _ => {}
        }
    }
}

/// The same text as a compressed frame, where that is worth it and shorter.
pub fn deflate_frame(plain: &Bytes) -> Option<Bytes> {
    let text = frame::text_of(plain)?;
    if text.len() <= COMPRESS_ABOVE_BYTES {
        return None;
    }
    let mut output = Vec::with_capacity(HEADER_SPACE.len() + text.len());
    output.extend_from_slice(HEADER_SPACE.as_bytes());
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        // Where the output would not fit it does not shrink either, and the plain frame goes.
        let status = compress.compress_vec(text.as_bytes(), &mut output, FlushCompress::Sync);
        let whole = status.is_ok() && compress.total_in() == text.len() as u64;
        (whole && output.ends_with(&TAIL)).then_some(())
    })?;
    output.truncate(output.len() - TAIL.len());
    Some(frame::seal_deflated(output))
}

/// `body` as gzip.
pub(crate) fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 2), LEVEL);
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflated(text: &str) -> Vec<u8> {
        let frame = deflate_frame(&frame::text(text)).unwrap();
        assert_eq!(frame[0], 0xC1);
        let header = if frame[1] == 126 { 4 } else { 2 };
        frame[header..].to_vec()
    }

    /// R97
    #[test]
    fn texts_over_the_threshold_are_compressed_and_come_back() {
        let short = "x".repeat(COMPRESS_ABOVE_BYTES);
        assert_eq!(deflate_frame(&frame::text(&short)), None);
        for len in [COMPRESS_ABOVE_BYTES + 1, 5_000, 60_000] {
            let text: String =
                (0..len).map(|index| char::from(b'a' + (index * index % 26) as u8)).collect();
            assert_eq!(inflate(&deflated(&text), 64 << 10), Ok(text.into_bytes()));
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_junk_is_an_error() {
        let bomb = |bytes: usize| {
            let mut output = Vec::with_capacity(8 << 10);
            let mut best = Compress::new(Compression::best(), false);
            let text = vec![b'0'; bytes];
            best.compress_vec(&text, &mut output, FlushCompress::Sync).unwrap();
            assert_eq!(best.total_in(), bytes as u64);
            output
        };
        assert_eq!(inflate(&bomb(1 << 20), 64 << 10), Err(FrameError::TooLarge));
        // Small, but a thousandfold: the ratio forbids what the size would allow.
        assert_eq!(inflate(&bomb(60_000), 64 << 10), Err(FrameError::TooLarge));
        assert_eq!(inflate(&bomb(4_000), 64 << 10).map(|text| text.len()), Ok(4_000));
        assert_eq!(inflate(&[0xFF; 40], 64 << 10), Err(FrameError::Inflate));
        assert_eq!(inflate(&[], 64 << 10), Ok(Vec::new()));
    }

    #[test]
    fn an_offer_is_taken_when_its_terms_can_be_kept() {
        for good in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "x, permessage-deflate; server_max_window_bits=15; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        ] {
            assert!(is_offered(good), "{good}");
        }
        for bad in
            ["", "x", "permessage-deflate; server_max_window_bits=10", "permessage-deflate; y"]
        {
            assert!(!is_offered(bad), "{bad}");
        }
    }
}
