//! Messages to frames.

use super::{
    Author, BATCH, BIN, Body, DEFLATE, DEFLATE_ABOVE_BYTES, FRAG, FRAGMENT_HEADER_BYTES,
    FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Kind, MESSAGE_BYTES_MAX, Message, SIGNED, VERSION,
    inflate, push_leb128, sign,
};

/// Whether a message may be deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Above [`DEFLATE_ABOVE_BYTES`], where it makes the message shorter.
    Auto,
    /// Never: pieces of files are mostly compressed already.
    Never,
}

/// Cuts messages into frames, each of [`FRAME_BYTES_MAX`] at most.
#[derive(Debug, Default)]
pub struct Encoder {
    next_id: u32,
}

impl Encoder {
    /// Frames of one message.
    ///
    /// # Errors
    /// [`FrameError::MessageTooLong`].
    pub fn encode(
        &mut self,
        message: &Message,
        compression: Compression,
        author: Option<&Author<'_>>,
    ) -> Result<Vec<Vec<u8>>, FrameError> {
        let flags = if message.body.is_bin() { BIN } else { 0 };
        self.frames(message.kind, flags, message.body.as_bytes(), compression, author)
    }

    /// Frames of many messages of one kind, all text or all bytes (`is_bin`).
    ///
    /// # Errors
    /// [`FrameError::MessageTooLong`].
    pub(super) fn encode_batch(
        &mut self,
        kind: Kind,
        is_bin: bool,
        bodies: &[Body],
    ) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut row = Vec::new();
        for body in bodies {
            push_leb128(&mut row, body.as_bytes().len());
            row.extend_from_slice(body.as_bytes());
        }
        let flags = BATCH | if is_bin { BIN } else { 0 };
        self.frames(kind, flags, &row, Compression::Auto, None)
    }

    fn frames(
        &mut self,
        kind: Kind,
        mut flags: u8,
        bytes: &[u8],
        compression: Compression,
        author: Option<&Author<'_>>,
    ) -> Result<Vec<Vec<u8>>, FrameError> {
        // Before the work of deflating: what may be carried deflated may not all be held inflated.
        if bytes.len() > super::INFLATED_BYTES_MAX {
            return Err(FrameError::MessageTooLong(bytes.len()));
        }
        let may_deflate = compression == Compression::Auto && bytes.len() > DEFLATE_ABOVE_BYTES;
        // The receiver refuses what grows more than a hundredfold: such a message goes as it is.
        let fits = |deflated: &Vec<u8>| {
            deflated.len().saturating_mul(super::INFLATION_RATIO_MAX) >= bytes.len()
        };
        let deflated = may_deflate.then(|| inflate::deflate(bytes)).flatten().filter(fits);
        let mut message = match deflated {
            Some(deflated) => {
                flags |= DEFLATE;
                deflated
            }
            None => bytes.to_vec(),
        };
        if let Some(author) = author {
            flags |= SIGNED;
            sign::seal([VERSION | flags, kind.code()], &mut message, author);
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError::MessageTooLong(message.len()));
        }
        Ok(self.cut(kind, flags, &message))
    }

    fn cut(&mut self, kind: Kind, flags: u8, message: &[u8]) -> Vec<Vec<u8>> {
        let head = [VERSION | flags, kind.code()];
        if message.len() <= FRAME_BYTES_MAX - HEADER_BYTES {
            return vec![[&head, message].concat()];
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let head = [head[0] | FRAG, head[1]];
        let pieces = message.chunks(FRAME_BYTES_MAX - FRAGMENT_HEADER_BYTES);
        let total = u16::try_from(pieces.len()).expect("the longest message has 257 pieces");
        let frame = |(index, piece): (u16, &[u8])| {
            let (id, index, total) = (id.to_be_bytes(), index.to_be_bytes(), total.to_be_bytes());
            [&head, &id[..], &index, &total, piece].concat()
        };
        (0..total).zip(pieces).map(frame).collect()
    }
}
