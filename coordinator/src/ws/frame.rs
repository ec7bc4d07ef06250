//! Frames (RFC 6455 §5): bytes to messages and back. Total on any input; no I/O.

use bytes::Bytes;

/// Bytes of the longest header that a server writes.
pub const HEADER_BYTES_MAX: usize = 10;

/// What a text begins with while it is written, so that its header fits in front in place.
pub(crate) const HEADER_SPACE: &str = "\0\0\0\0\0\0\0\0\0\0";

const _: () = assert!(HEADER_SPACE.len() == HEADER_BYTES_MAX);

/// Payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Why input is no WebSocket that this server serves. Each ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame breaks RFC 6455")]
    Protocol,
    #[error("messages are JSON in text frames")]
    Binary,
    #[error("a text or a close's reason is not UTF-8")]
    NotUtf8,
    #[error("the message is too large")]
    TooLarge,
    #[error("the message cannot be inflated")]
    Inflate,
}

impl FrameError {
    /// The number to close with.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 | Self::Inflate => 1007,
            Self::TooLarge => crate::wire::close::TOO_LARGE,
        }
    }
}

/// The beginning of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub fin: bool,
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    /// Bytes before the payload.
    pub header_bytes: usize,
    pub payload_bytes: usize,
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Text(&'a str),
    Ping(&'a [u8]),
    Pong,
    Close,
}

/// Reads the head of a masked frame; None when more bytes are needed.
pub fn parse_head(input: &[u8], payload_max: usize) -> Result<Option<Head>, FrameError> {
    let &[first, second, ref rest @ ..] = input else { return Ok(None) };
    let opcode = match first & 0x0F {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(FrameError::Protocol),
    };
    let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
    let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    let short = usize::from(second & 0x7F);
    let reserved = first & 0x30 != 0;
    // A client masks every frame (§5.1); a control frame is whole, short and never compressed.
    let bad_control = control && (!fin || compressed || short > CONTROL_BYTES_MAX);
    if reserved || second & 0x80 == 0 || bad_control {
        return Err(FrameError::Protocol);
    }
    let (length_bytes, length) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (2, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (8, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (0, short as u64),
    };
    let payload_bytes = usize::try_from(length).map_err(|_| FrameError::TooLarge)?;
    if payload_bytes > payload_max.max(CONTROL_BYTES_MAX) {
        return Err(FrameError::TooLarge);
    }
    let Some(mask) = rest[length_bytes..].first_chunk::<4>() else { return Ok(None) };
    let header_bytes = 2 + length_bytes + 4;
    Ok(Some(Head { fin, compressed, opcode, mask: *mask, header_bytes, payload_bytes }))
}

/// Takes the mask off (§5.3), eight bytes at a time.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// Assembles messages from frames.
#[derive(Debug)]
pub struct Reader {
    /// Whether permessage-deflate was agreed on.
    deflate: bool,
    message_bytes_max: usize,
    /// The message of which fragments have arrived; None between messages.
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    compressed: bool,
    payload: Vec<u8>,
}

impl Reader {
    pub fn new(deflate: bool, message_bytes_max: usize) -> Self {
        Self { deflate, message_bytes_max, started: None }
    }

    /// Reads one frame from the front of `input`, which it unmasks in place; gives how many bytes
    /// it took, 0 when the frame is not whole yet. `on` hears of what became complete by it.
    pub fn step(
        &mut self,
        input: &mut [u8],
        on: impl FnOnce(Event<'_>),
    ) -> Result<usize, FrameError> {
        let Some(head) = parse_head(input, self.message_bytes_max)? else { return Ok(0) };
        let taken = head.header_bytes + head.payload_bytes;
        let Some(payload) = input.get_mut(head.header_bytes..taken) else { return Ok(0) };
        unmask(payload, head.mask);
        match head.opcode {
            Opcode::Ping => on(Event::Ping(payload)),
            Opcode::Pong => on(Event::Pong),
            Opcode::Close => {
                check_close(payload)?;
                on(Event::Close);
            }
            Opcode::Binary => return Err(FrameError::Binary),
            Opcode::Text => self.text(head, payload, on)?,
            Opcode::Continuation => self.continuation(head, payload, on)?,
        }
        Ok(taken)
    }

    fn text(
        &mut self,
        head: Head,
        payload: &[u8],
        on: impl FnOnce(Event<'_>),
    ) -> Result<(), FrameError> {
        if self.started.is_some() || (head.compressed && !self.deflate) {
            return Err(FrameError::Protocol);
        }
        if head.fin {
            return self.whole(head.compressed, payload, on);
        }
        self.started = Some(Started { compressed: head.compressed, payload: payload.to_vec() });
        Ok(())
    }

    fn continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        on: impl FnOnce(Event<'_>),
    ) -> Result<(), FrameError> {
        let Some(mut started) = self.started.take() else { return Err(FrameError::Protocol) };
        if head.compressed {
            return Err(FrameError::Protocol);
        }
        if started.payload.len() + payload.len() > self.message_bytes_max {
            return Err(FrameError::TooLarge);
        }
        started.payload.extend_from_slice(payload);
        if head.fin {
            return self.whole(started.compressed, &started.payload, on);
        }
        self.started = Some(started);
        Ok(())
    }

    fn whole(
        &self,
        compressed: bool,
        payload: &[u8],
        on: impl FnOnce(Event<'_>),
    ) -> Result<(), FrameError> {
        let inflated;
        let bytes = if compressed {
            inflated = super::deflate::inflate(payload, self.message_bytes_max)?;
            &inflated
        } else {
            payload
        };
        on(Event::Text(std::str::from_utf8(bytes).map_err(|_| FrameError::NotUtf8)?));
        Ok(())
    }
}

/// A close carries nothing, or a number that may be sent and a reason (§5.5.1, §7.4).
fn check_close(payload: &[u8]) -> Result<(), FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(()) } else { Err(FrameError::Protocol) };
    };
    // Others stand for what no frame says (1005, 1006, 1015), or nobody has given them a meaning.
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::Protocol);
    }
    std::str::from_utf8(reason).map(drop).map_err(|_| FrameError::NotUtf8)
}

/// Makes a text frame of a text that was written behind [`HEADER_SPACE`].
pub(crate) fn seal_text(text: Vec<u8>) -> Bytes {
    seal(text, FIN | Opcode::Text as u8)
}

/// As [`seal_text`], of a payload that was deflated.
pub(crate) fn seal_deflated(payload: Vec<u8>) -> Bytes {
    seal(payload, FIN | RSV1 | Opcode::Text as u8)
}

fn seal(mut frame: Vec<u8>, first: u8) -> Bytes {
    let payload_bytes = frame.len() - HEADER_BYTES_MAX;
    let header_bytes = match payload_bytes {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    let start = HEADER_BYTES_MAX - header_bytes;
    let header = &mut frame[start..HEADER_BYTES_MAX];
    header[0] = first;
    match header_bytes {
        2 => header[1] = payload_bytes as u8,
        4 => {
            header[1] = 126;
            header[2..].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    Bytes::from(frame).slice(start..)
}

/// A text frame of `text`.
pub fn text(text: &str) -> Bytes {
    let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + text.len());
    frame.extend_from_slice(HEADER_SPACE.as_bytes());
    frame.extend_from_slice(text.as_bytes());
    seal_text(frame)
}

/// A pong with a ping's payload (§5.5.3).
pub fn pong(payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    control(Opcode::Pong, payload)
}

/// A close with a number and a reason, which is cut to what fits.
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    control(Opcode::Close, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat())
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    let head = [FIN | opcode as u8, payload.len() as u8];
    Bytes::from([&head, payload].concat())
}

/// The payload of a server's frame that is a plain text; None for any other.
pub fn text_of(frame: &[u8]) -> Option<&str> {
    let &[first, second, ..] = frame else { return None };
    if first != FIN | Opcode::Text as u8 {
        return None;
    }
    let header_bytes = match second {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    std::str::from_utf8(frame.get(header_bytes..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame, masked.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        frame
    }

    fn read(mut input: Vec<u8>) -> Result<Vec<String>, FrameError> {
        let mut reader = Reader::new(false, 1_000);
        let (mut at, mut heard) = (0, Vec::new());
        loop {
            let taken = reader.step(&mut input[at..], |event| heard.push(format!("{event:?}")))?;
            if taken == 0 {
                return Ok(heard);
            }
            at += taken;
        }
    }

    #[test]
    fn texts_of_every_length_arrive_whole_or_in_fragments() {
        for len in [0, 1, 7, 8, 125, 126, 127, 999, 1_000] {
            let text = "x".repeat(len);
            let want = vec![format!("Text({text:?})")];
            assert_eq!(read(masked(0x81, text.as_bytes())), Ok(want.clone()), "{len}");
            let (one, two) = text.as_bytes().split_at(len / 2);
            // A ping may come between the fragments.
            let frames = [masked(0x01, one), masked(0x89, b"hi"), masked(0x80, two)].concat();
            let heard = read(frames).unwrap();
            assert_eq!(heard, ["Ping([104, 105])".to_owned(), want[0].clone()], "{len}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_takes_nothing() {
        let frame = masked(0x81, "é".repeat(100).as_bytes());
        for end in 0..frame.len() {
            assert_eq!(read(frame[..end].to_vec()), Ok(vec![]), "{end}");
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_an_error() {
        #[track_caller]
        fn check(input: Vec<u8>, want: FrameError) {
            assert_eq!(read(input), Err(want));
        }
        check(vec![0x81, 0x01, b'x'], FrameError::Protocol); // Not masked.
        check(masked(0xC1, b"x"), FrameError::Protocol); // Compressed without agreement.
        check(masked(0xA1, b"x"), FrameError::Protocol); // A reserved bit.
        check(masked(0x83, b"x"), FrameError::Protocol); // A reserved opcode.
        check(masked(0x09, b"x"), FrameError::Protocol); // A ping in fragments.
        check(masked(0x89, &[0; 126]), FrameError::Protocol); // A long ping.
        check(masked(0x80, b"x"), FrameError::Protocol); // Continues nothing.
        check([masked(0x01, b"x"), masked(0x81, b"x")].concat(), FrameError::Protocol);
        check(masked(0x82, b"x"), FrameError::Binary);
        check(masked(0x81, b"\xFF"), FrameError::NotUtf8);
        check(masked(0x81, &[b'x'; 1_001]), FrameError::TooLarge);
        check(
            [masked(0x01, &[b'x'; 600]), masked(0x80, &[b'x'; 600])].concat(),
            FrameError::TooLarge,
        );
        check(vec![0x81, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0], FrameError::TooLarge);
    }

    /// `reason` behind `code`, as a client closes.
    #[track_caller]
    fn check_closed(code: u16, reason: &[u8], want: Result<(), FrameError>) {
        let heard = read(masked(0x88, &[&code.to_be_bytes(), reason].concat()));
        assert_eq!(heard, want.map(|()| vec!["Close".to_owned()]), "{code}");
    }

    #[test]
    fn a_close_carries_nothing_or_a_number_that_may_be_sent_and_utf8() {
        assert_eq!(read(masked(0x88, b"")), Ok(vec!["Close".to_owned()]));
        assert_eq!(read(masked(0x88, &[3])), Err(FrameError::Protocol));
        for good in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4000, 4999] {
            check_closed(good, "é".as_bytes(), Ok(()));
        }
        for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 0xFFFF] {
            check_closed(bad, b"", Err(FrameError::Protocol));
        }
        check_closed(1000, b"\xFF", Err(FrameError::NotUtf8));
        check_closed(4000, &"é".as_bytes()[..1], Err(FrameError::NotUtf8));
    }

    #[test]
    fn a_servers_frames_have_the_shortest_header() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (0xFFFF, 4), (0x1_0000, 10)] {
            let body = "x".repeat(len);
            let frame = text(&body);
            assert_eq!(frame.len(), header + len);
            assert_eq!(text_of(&frame), Some(body.as_str()));
        }
        assert_eq!(&close(4408, "late")[..], b"\x88\x06\x11\x38late");
        assert_eq!(close(4503, &"é".repeat(100)).len(), 2 + 2 + 122);
        assert_eq!(&pong(b"hi")[..], b"\x8A\x02hi");
    }
}
