//! What two ends say about a file: JSON in control messages, and pieces of bytes.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::framing::{Body, Kind, Message};

/// A transfer's name, chosen by the sender: 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId([u8; 16]);

impl FileId {
    /// Of 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Serialize for FileId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a file's id has 32 hex digits"))
    }
}

/// A control message about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "file", rename_all = "kebab-case")]
pub enum Word {
    /// Sender: will you have it?
    Offer {
        /// Of this transfer.
        id: FileId,
        /// Without a path.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// Receiver: send it.
    Accept {
        /// Which.
        id: FileId,
    },
    /// Receiver: no.
    Refuse {
        /// Which.
        id: FileId,
        /// Why.
        reason: String,
    },
    /// Sender: that was all.
    Done {
        /// Which.
        id: FileId,
        /// Of all bytes, 64 hex digits.
        sha256: String,
    },
    /// Receiver: it is here, and is what the sender says.
    Received {
        /// Which.
        id: FileId,
    },
    /// Either: it has ended before its end.
    Failed {
        /// Which.
        id: FileId,
        /// Why.
        reason: String,
    },
}

impl Word {
    /// As a message.
    pub fn message(&self) -> Message {
        let text = serde_json::to_string(self).expect("a word has text keys only");
        Message::text(Kind::Control, text)
    }

    /// Reads one; `None` is a control message about something else.
    pub fn read(message: &Message) -> Option<Self> {
        match &message.body {
            Body::Text(text) if message.kind == Kind::Control => serde_json::from_str(text).ok(),
            Body::Text(_) | Body::Bytes(_) => None,
        }
    }

    /// Which transfer it is about.
    pub fn id(&self) -> FileId {
        match self {
            Word::Offer { id, .. }
            | Word::Accept { id }
            | Word::Refuse { id, .. }
            | Word::Done { id, .. }
            | Word::Received { id }
            | Word::Failed { id, .. } => *id,
        }
    }
}

/// A piece as a message: the id, then bytes.
pub fn piece(id: FileId, bytes: &[u8]) -> Message {
    Message::bytes(Kind::Control, [&id.0, bytes].concat())
}

/// Reads a piece.
pub fn read_piece(message: &Message) -> Option<(FileId, &[u8])> {
    match &message.body {
        Body::Bytes(bytes) if message.kind == Kind::Control => {
            let (id, piece) = bytes.split_first_chunk()?;
            Some((FileId(*id), piece))
        }
        Body::Bytes(_) | Body::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Compression, Encoder, FRAME_BYTES_MAX};

    #[test]
    fn a_word_is_read_as_it_was_written() {
        let id = FileId::new([0xAB; 16]);
        let words = [
            (
                Word::Offer { id, name: "a.txt".into(), size: 5 },
                r#"{"file":"offer","id":"abababababababababababababababab","name":"a.txt","size":5}"#,
            ),
            (Word::Accept { id }, r#"{"file":"accept","id":"abababababababababababababababab"}"#),
            (
                Word::Failed { id, reason: "full".into() },
                r#"{"file":"failed","id":"abababababababababababababababab","reason":"full"}"#,
            ),
        ];
        for (word, text) in words {
            let message = word.message();
            assert_eq!(message, Message::text(Kind::Control, text));
            assert_eq!(Word::read(&message), Some(word));
        }
        for junk in [r#"{"file":"offer"}"#, r#"{"file":"accept","id":"ab"}"#, "hello", "{}"] {
            assert_eq!(Word::read(&Message::text(Kind::Control, junk)), None);
        }
        let elsewhere = Message { kind: Kind::Application, ..Word::Accept { id }.message() };
        assert_eq!(Word::read(&elsewhere), None);
    }

    #[test]
    fn a_piece_is_one_frame() {
        let id = FileId::new([1; 16]);
        let message = piece(id, &[7; super::super::PIECE_BYTES]);
        assert_eq!(read_piece(&message), Some((id, &[7; super::super::PIECE_BYTES][..])));
        let frames = Encoder::default().encode(&message, Compression::Never, None).unwrap();
        assert!(frames.len() == 1 && frames[0].len() <= FRAME_BYTES_MAX);
        assert_eq!(read_piece(&Message::bytes(Kind::Control, [1; 15])), None);
    }
}
