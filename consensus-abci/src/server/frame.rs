//! Messages on a stream of bytes: a length as an unsigned varint, then so many bytes of protobuf.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the longest varint of 64 bits.
const LENGTH_BYTES_MAX: usize = 10;
/// What stays allocated between messages.
const KEPT_BYTES: usize = 1 << 20;

/// Why nothing that follows on this stream can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are no varint of 64 bits.
    #[error("a message begins with no length: this is not ABCI")]
    Length,
    /// Longer than is taken.
    #[error("a message of {len_bytes} bytes is announced, {max_bytes} are taken at most")]
    TooLong {
        /// As announced.
        len_bytes: u64,
        /// The limit.
        max_bytes: usize,
    },
}

/// Cuts messages out of what arrives, however it is split.
///
/// Memory follows what has arrived, never what is announced.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    max_bytes: usize,
}

impl Frames {
    /// Takes messages of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Frames { buffer: BytesMut::new(), max_bytes }
    }

    /// Takes what arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` until more arrives.
    ///
    /// # Errors
    /// See [`FrameError`]; the same again each time.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((len_bytes, header_bytes)) = length(&self.buffer)? else { return Ok(None) };
        let max_bytes = self.max_bytes;
        let too_long = FrameError::TooLong { len_bytes, max_bytes };
        let len = usize::try_from(len_bytes).map_err(|_| too_long)?;
        if len > max_bytes {
            return Err(too_long);
        }
        if self.buffer.len() - header_bytes < len {
            return Ok(None);
        }
        self.buffer.advance(header_bytes);
        let frame = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Whether a message has begun and is not whole.
    pub fn is_midway(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// The varint that `bytes` begin with, and how many bytes it takes.
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if at == LENGTH_BYTES_MAX - 1 && *byte > 1 {
            return Err(FrameError::Length); // The tenth byte has room for bit 63 alone.
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            prost::encoding::encode_varint(message.len() as u64, &mut bytes);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[test]
    fn lengths_are_read_to_the_last_bit() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Result<Option<(u64, usize)>, FrameError>) {
            assert_eq!(length(bytes), expected);
        }
        check(&[], Ok(None));
        check(&[0], Ok(Some((0, 1))));
        check(&[0x7f, 9], Ok(Some((127, 1))));
        check(&[0x80], Ok(None));
        check(&[0x80, 1], Ok(Some((128, 2))));
        check(&[0xff; 9], Ok(None));
        check(&[[0xff; 9].as_slice(), &[1]].concat(), Ok(Some((u64::MAX, 10))));
        check(&[[0xff; 9].as_slice(), &[2]].concat(), Err(FrameError::Length));
        check(&[0xff; 10], Err(FrameError::Length));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
        let mut frames = Frames::new(127);
        frames.extend(&[0x80, 1]);
        let error = FrameError::TooLong { len_bytes: 128, max_bytes: 127 };
        assert_eq!(frames.next_frame(), Err(error));
        assert_eq!(frames.next_frame(), Err(error));
        let mut frames = Frames::new(127);
        frames.extend(&[127]);
        assert_eq!(frames.next_frame(), Ok(None));
        assert!(frames.is_midway());
        frames.extend(&[5; 127]);
        assert_eq!(frames.next_frame(), Ok(Some(Bytes::from_static(&[5; 127]))));
        assert!(!frames.is_midway());
    }

    proptest! {
        /// How the bytes are split changes nothing.
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1_usize..64, 1..40),
        ) {
            let bytes = framed(&messages);
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            let (mut frames, mut found) = (Frames::new(1024), Vec::new());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                frames.extend(now);
                rest = later;
                while let Some(frame) = frames.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(!frames.is_midway());
        }
    }
}
