//! Frames to messages.

use std::collections::{BTreeMap, VecDeque};

use super::{
    BATCH, BATCH_MESSAGES_MAX, BIN, Body, DEFLATE, FLAGS, FRAG, FRAGMENT_HEADER_BYTES,
    FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Kind, MESSAGE_BYTES_MAX, Message,
    PARTIAL_MESSAGES_MAX, SIGNED, VERSION, VERSION_MASK, Verifier, inflate, sign, take_leb128,
};

/// How far what brought a frame is believed.
#[derive(Clone, Copy)]
pub enum Trust<'a> {
    /// A data channel whose other end is known: a signature may be there and is not needed.
    Channel,
    /// Somebody carried it: only this signature counts.
    Relayed(Verifier<'a>),
}

/// A message of which some fragments are here.
#[derive(Debug)]
struct Partial {
    head: [u8; 2],
    total: u16,
    pieces: BTreeMap<u16, Vec<u8>>,
    len_bytes: usize,
}

/// Puts frames together again. Holds [`PARTIAL_MESSAGES_MAX`] messages that are not whole yet, and of
/// all their pieces [`MESSAGE_BYTES_MAX`] each at most.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: BTreeMap<u32, Partial>,
    /// Ids of `partial`, the oldest first.
    order: VecDeque<u32>,
}

impl Assembler {
    /// Takes a frame; gives the messages that it completes: none while fragments are missing, more
    /// than one from a batch. An error discards the message that the frame belongs to.
    ///
    /// # Errors
    /// Every [`FrameError`].
    pub fn push(&mut self, frame: &[u8], trust: Trust<'_>) -> Result<Vec<Message>, FrameError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::FrameTooLong(frame.len()));
        }
        let missing = |need_bytes| FrameError::Truncated { len_bytes: frame.len(), need_bytes };
        let (head, rest) = frame.split_first_chunk().ok_or(missing(HEADER_BYTES))?;
        let &[first, kind] = head;
        if first & VERSION_MASK != VERSION {
            return Err(FrameError::Version(first >> 6));
        }
        let flags = first & !VERSION_MASK;
        if flags & !FLAGS != 0 {
            return Err(FrameError::Flags(flags & !FLAGS));
        }
        let kind = Kind::from_code(kind)?;
        if flags & FRAG == 0 {
            return open(kind, flags, rest, trust);
        }
        let (id, rest) = rest.split_first_chunk().ok_or(missing(FRAGMENT_HEADER_BYTES))?;
        let (index, rest) = rest.split_first_chunk().ok_or(missing(FRAGMENT_HEADER_BYTES))?;
        let (total, piece) = rest.split_first_chunk().ok_or(missing(FRAGMENT_HEADER_BYTES))?;
        let fragment = Fragment {
            head: *head,
            id: u32::from_be_bytes(*id),
            index: u16::from_be_bytes(*index),
            total: u16::from_be_bytes(*total),
            piece,
        };
        match self.collect(&fragment) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(message)) => open(kind, flags, &message, trust),
            Err(error) => {
                self.forget(fragment.id);
                Err(error)
            }
        }
    }

    /// Bytes of messages that are not whole yet.
    pub fn partial_bytes(&self) -> usize {
        self.partial.values().map(|partial| partial.len_bytes).sum()
    }

    fn collect(&mut self, fragment: &Fragment<'_>) -> Result<Option<Vec<u8>>, FrameError> {
        let &Fragment { head, id, index, total, piece } = fragment;
        let error = FrameError::Fragment { index, total };
        if index >= total || piece.is_empty() {
            return Err(error);
        }
        if !self.partial.contains_key(&id) {
            if self.order.len() >= PARTIAL_MESSAGES_MAX
                && let Some(oldest) = self.order.front().copied()
            {
                self.forget(oldest);
            }
            self.order.push_back(id);
        }
        let new = || Partial { head, total, pieces: BTreeMap::new(), len_bytes: 0 };
        let partial = self.partial.entry(id).or_insert_with(new);
        if partial.head != head || partial.total != total || partial.pieces.contains_key(&index) {
            return Err(error);
        }
        partial.len_bytes += piece.len();
        if partial.len_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::MessageTooLong(partial.len_bytes));
        }
        partial.pieces.insert(index, piece.to_vec());
        if partial.pieces.len() < usize::from(total) {
            return Ok(None);
        }
        let mut message = Vec::with_capacity(partial.len_bytes);
        partial.pieces.values().for_each(|piece| message.extend_from_slice(piece));
        self.forget(id);
        Ok(Some(message))
    }

    fn forget(&mut self, id: u32) {
        self.partial.remove(&id);
        self.order.retain(|other| *other != id);
    }
}

struct Fragment<'a> {
    head: [u8; 2],
    id: u32,
    index: u16,
    total: u16,
    piece: &'a [u8],
}

/// A whole message: signature off, inflated, taken apart.
fn open(
    kind: Kind,
    flags: u8,
    message: &[u8],
    trust: Trust<'_>,
) -> Result<Vec<Message>, FrameError> {
    let head = [VERSION | flags & !FRAG, kind.code()];
    let message = match (flags & SIGNED != 0, trust) {
        (true, Trust::Channel) => sign::open(head, message, None)?.0,
        (true, Trust::Relayed(verifier)) => sign::open(head, message, Some(&verifier))?.0,
        (false, Trust::Channel) => message,
        (false, Trust::Relayed(_)) => return Err(FrameError::Unsigned),
    };
    let inflated;
    let message = if flags & DEFLATE != 0 {
        inflated = inflate::inflate(message)?;
        &inflated
    } else {
        message
    };
    let is_bin = flags & BIN != 0;
    if flags & BATCH == 0 {
        return Ok(vec![Message { kind, body: body(message, is_bin)? }]);
    }
    let (mut rest, mut messages) = (message, Vec::new());
    let error = FrameError::Batch { len_bytes: message.len() };
    while !rest.is_empty() {
        let len_bytes = take_leb128(&mut rest).ok_or(error)?;
        let (item, after) = rest.split_at_checked(len_bytes).ok_or(error)?;
        if messages.len() == BATCH_MESSAGES_MAX {
            return Err(error);
        }
        messages.push(Message { kind, body: body(item, is_bin)? });
        rest = after;
    }
    Ok(messages)
}

fn body(bytes: &[u8], is_bin: bool) -> Result<Body, FrameError> {
    if is_bin {
        return Ok(Body::Bytes(bytes.to_vec()));
    }
    let text = str::from_utf8(bytes).map_err(|_| FrameError::NotText)?;
    Ok(Body::Text(text.to_owned()))
}
