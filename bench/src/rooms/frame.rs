//! WebSocket frames (RFC 6455 §5) on byte buffers: a client's are masked, a server's are not.

/// Largest payload that is taken: a poll's worth of signals and more.
const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// With its code; 1005 where it had none.
    Close(u16),
    /// To be answered by a pong with the same payload.
    Ping,
    /// Answer to a ping.
    Pong,
}

/// A whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it carries.
    pub payload: &'a [u8],
    /// Bytes that it takes with its head.
    pub len_bytes: usize,
}

/// A server's bytes that are no frame for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Extensions were not asked for.
    #[error("a frame is compressed or has reserved bits, and no extension was agreed on")]
    Reserved,
    /// Only clients mask.
    #[error("a frame of the server is masked")]
    Masked,
    /// None of the four servers sends such.
    #[error("a message comes in fragments; only whole ones are read")]
    Fragmented,
    /// No such opcode.
    #[error("opcode {0} is none")]
    Opcode(u8),
    /// See the bound.
    #[error("a frame of {0} bytes, more than {PAYLOAD_BYTES_MAX}")]
    TooLong(u64),
}

/// The first frame in `bytes`; `None` when it is not yet whole.
///
/// # Errors
/// See [`FrameError`].
pub fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    if first & 0x80 == 0 || first & 0x0f == 0 {
        return Err(FrameError::Fragmented);
    }
    let (length, head_bytes) = match second & 0x7f {
        126 => {
            let Some(length) = rest.first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), 4)
        }
        127 => {
            let Some(length) = rest.first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*length), 10)
        }
        short => (u64::from(short), 2),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLong(u64::MAX))?;
    let Some(payload) = bytes.get(head_bytes..head_bytes + length) else { return Ok(None) };
    let kind = match first & 0x0f {
        1 => Kind::Text,
        2 => Kind::Binary,
        8 => Kind::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
        9 => Kind::Ping,
        10 => Kind::Pong,
        other => return Err(FrameError::Opcode(other)),
    };
    Ok(Some(Frame { kind, payload, len_bytes: head_bytes + length }))
}

/// Appends a masked text frame of these parts, one after the other.
pub fn write_text(out: &mut Vec<u8>, mask: [u8; 4], parts: &[&[u8]]) {
    write(out, 0x81, mask, parts);
}

/// Appends a masked pong.
pub fn write_pong(out: &mut Vec<u8>, mask: [u8; 4], payload: &[u8]) {
    write(out, 0x8a, mask, &[payload]);
}

/// Appends a masked close with the code for "done" (1000).
pub fn write_close(out: &mut Vec<u8>, mask: [u8; 4]) {
    write(out, 0x88, mask, &[&1000_u16.to_be_bytes()]);
}

fn write(out: &mut Vec<u8>, first: u8, mask: [u8; 4], parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(first);
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let from = out.len();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    // Four bytes a step: the compiler makes wide ones of it.
    let (chunks, tail) = out[from..].as_chunks_mut::<4>();
    let key = u32::from_ne_bytes(mask);
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ key).to_ne_bytes();
    }
    tail.iter_mut().zip(mask).for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_another_implementation() {
        use tungstenite::protocol::{Role, WebSocket};
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
            let text = "x".repeat(length);
            let mut bytes = Vec::new();
            write_text(&mut bytes, [1, 2, 3, 4], &[text.as_bytes()]);
            write_text(&mut bytes, [9, 0, 200, 4], &[b"a", b"bcd", b"", b"efg"]);
            let stream = std::io::Cursor::new(bytes);
            let mut server = WebSocket::from_raw_socket(stream, Role::Server, None);
            assert_eq!(server.read().expect("a frame").into_text().expect("text"), text.as_str());
            assert_eq!(server.read().expect("a frame").into_text().expect("text"), "abcdefg");
        }
    }

    #[test]
    fn a_frame_is_read_when_it_is_whole_and_not_before() {
        for length in [0_usize, 5, 126, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..=125 => bytes.push(length as u8),
                126..=0xffff => bytes.extend([126, (length >> 8) as u8, length as u8]),
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(std::iter::repeat_n(b'y', length));
            let whole = bytes.len();
            for cut in [0, 1, 2, whole / 2, whole - 1].into_iter().filter(|cut| *cut < whole) {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{cut} of {whole}");
            }
            bytes.push(0);
            let frame = read(&bytes).expect("valid").expect("whole");
            assert_eq!(
                (frame.kind, frame.payload.len(), frame.len_bytes),
                (Kind::Text, length, whole)
            );
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused_by_name() {
        for (bytes, expected) in [
            (&[0xc1, 0][..], FrameError::Reserved),
            (&[0x81, 0x80, 0, 0, 0, 0], FrameError::Masked),
            (&[0x01, 0], FrameError::Fragmented),
            (&[0x80, 0], FrameError::Fragmented),
            (&[0x83, 0], FrameError::Opcode(3)),
            (&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0], FrameError::TooLong(u64::MAX)),
        ] {
            assert_eq!(read(bytes).err(), Some(expected), "{bytes:?}");
        }
        let close = read(&[0x88, 2, 0x11, 0x38]).expect("valid").expect("whole");
        assert_eq!(close.kind, Kind::Close(4408));
        assert_eq!(read(&[0x88, 0]).expect("valid").expect("whole").kind, Kind::Close(1005));
    }
}
