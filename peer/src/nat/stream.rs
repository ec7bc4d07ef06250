//! TURN over TCP: where a message ends in a stream (RFC 8656 §12.5).

use super::stun::HEADER_BYTES;

/// Bytes that are kept for a message which is not whole: the longest one, and a read's worth.
const BUFFERED_BYTES_MAX: usize = 128 * 1024;

/// A stream that is neither STUN nor ChannelData: it cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TURN server's stream is neither STUN nor channel data")]
pub struct StreamError;

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub struct StreamReader {
    bytes: Vec<u8>,
}

impl StreamReader {
    /// Takes what was read. [`StreamReader::next_message`] must be asked until it has none.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, without padding.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (message_bytes, padded_bytes) = match head[0] >> 6 {
            0 => (HEADER_BYTES + length, HEADER_BYTES + length),
            1 => (4 + length, 4 + length.next_multiple_of(4)),
            _ => return Err(StreamError),
        };
        if self.bytes.len() < padded_bytes {
            return if self.bytes.len() > BUFFERED_BYTES_MAX { Err(StreamError) } else { Ok(None) };
        }
        let mut message: Vec<u8> = self.bytes.drain(..padded_bytes).collect();
        message.truncate(message_bytes);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_however_the_stream_is_cut(
            lengths in prop::collection::vec((any::<bool>(), 0..300_u16), 1..10),
            read_bytes in 1..100_usize,
        ) {
            let (mut stream, mut want) = (Vec::new(), Vec::new());
            for (is_channel, length) in lengths {
                let length = if is_channel { length } else { length / 4 * 4 };
                let head = if is_channel { vec![0x40, 0] } else { vec![0, 1] };
                let mut message = [&head[..], &length.to_be_bytes()].concat();
                let rest = if is_channel { 0 } else { 16 } + usize::from(length);
                message.extend(std::iter::repeat_n(9, rest));
                want.push(message.clone());
                message.resize(message.len().next_multiple_of(4), 0);
                stream.extend(message);
            }
            let (mut reader, mut got) = (StreamReader::default(), Vec::new());
            for read in stream.chunks(read_bytes) {
                reader.push(read);
                while let Some(message) = reader.next_message().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn a_stream_of_something_else_is_given_up() {
        let mut reader = StreamReader::default();
        reader.push(b"HTTP");
        assert_eq!(reader.next_message(), Ok(None), "'H' begins as channel data does");
        reader.push(&[0xFF; 30_000]);
        let mut reader = StreamReader::default();
        reader.push(&[0xFF; 4]);
        assert_eq!(reader.next_message(), Err(StreamError));
    }
}
