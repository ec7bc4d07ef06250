//! Raw deflate (RFC 1951) in bounded memory.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

use super::{FrameError, INFLATED_BYTES_MAX, INFLATION_RATIO_MAX};

/// `bytes` deflated, where that is shorter.
pub(super) fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    encoder.write_all(bytes).ok()?;
    let deflated = encoder.finish().ok()?;
    (deflated.len() < bytes.len()).then_some(deflated)
}

/// What `bytes` stand for, never more than the bounds allow.
pub(super) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let limit_bytes = INFLATED_BYTES_MAX.min(bytes.len().saturating_mul(INFLATION_RATIO_MAX));
    let mut inflated = Vec::new();
    // One byte beyond the limit tells a message of exactly that length from a longer one.
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = DeflateDecoder::new(bytes).take(limit);
    reader.read_to_end(&mut inflated).map_err(|_| FrameError::Inflate)?;
    if inflated.len() > limit_bytes {
        return Err(FrameError::Bomb { limit_bytes });
    }
    Ok(inflated)
}
