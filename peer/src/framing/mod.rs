//! Frames of the data channel `sutantra/1` (`docs/coordinator.md`, "Data channels between peers").
//!
//! ```text
//! byte 0   01 0 S F B D T     version 1; Signed, Frag, Batch, Deflate, bin (T)
//! byte 1   kind
//! Frag     id u32, index u16, total u16, piece
//! ```
//!
//! A message is batched, then deflated, then signed, then cut. Both directions are sans-IO: bytes go
//! in, frames or messages come out. Reading is total: whatever the bytes, there is a message, nothing
//! yet, or an error with a name.

mod batch;
mod inflate;
mod read;
mod sign;
mod write;

pub use batch::Batcher;
pub use read::{Assembler, Trust};
pub use sign::{Author, SIGNED_TRAILER_BYTES, Verifier};
pub use write::{Compression, Encoder};

/// Label of the channel that carries frames; any other carries raw application data.
pub const CHANNEL_LABEL: &str = "sutantra/1";
/// Longest frame, so longest SCTP message. A longer one is refused.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Longest message as its fragments carry it. A longer one is refused, at either end.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Longest message inflated. A longer one is refused.
pub const INFLATED_BYTES_MAX: usize = 8 << 20;
/// Most bytes that one deflated byte may stand for. A message beyond is refused.
pub const INFLATION_RATIO_MAX: usize = 100;
/// Above this length a message is deflated, where that makes it shorter.
pub const DEFLATE_ABOVE_BYTES: usize = 1024;
/// Messages that are under way in fragments at once. One more pushes out the oldest.
pub const PARTIAL_MESSAGES_MAX: usize = 8;
/// Messages in one batch. A longer one is refused.
pub const BATCH_MESSAGES_MAX: usize = 4096;
/// Bytes at which a batch leaves without waiting.
pub const BATCH_BYTES: usize = 1200;
/// Longest wait of a batch.
pub const BATCH_WAIT: std::time::Duration = std::time::Duration::from_millis(5);

const VERSION: u8 = 0x40;
const VERSION_MASK: u8 = 0xC0;
const BIN: u8 = 1;
const DEFLATE: u8 = 2;
const BATCH: u8 = 4;
const FRAG: u8 = 8;
const SIGNED: u8 = 16;
const FLAGS: u8 = BIN | DEFLATE | BATCH | FRAG | SIGNED;
const HEADER_BYTES: usize = 2;
const FRAGMENT_HEADER_BYTES: usize = HEADER_BYTES + 8;

const _: () = assert!(MESSAGE_BYTES_MAX / (FRAME_BYTES_MAX - FRAGMENT_HEADER_BYTES) < 65_535);

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The application's own.
    Application,
    /// A message of a PRRC channel.
    Prrc,
    /// A step of the commit protocol.
    Commit,
    /// Between the two ends of the channel: files.
    Control,
}

impl Kind {
    /// As on the wire.
    pub fn code(self) -> u8 {
        match self {
            Kind::Application => 0,
            Kind::Prrc => 1,
            Kind::Commit => 2,
            Kind::Control => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self, FrameError> {
        match code {
            0 => Ok(Kind::Application),
            1 => Ok(Kind::Prrc),
            2 => Ok(Kind::Commit),
            3 => Ok(Kind::Control),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// UTF-8.
    Text(String),
    /// Anything.
    Bytes(Vec<u8>),
}

impl Body {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Body::Text(text) => text.as_bytes(),
            Body::Bytes(bytes) => bytes,
        }
    }

    fn is_bin(&self) -> bool {
        matches!(self, Body::Bytes(_))
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// A text.
    pub fn text(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, body: Body::Text(text.into()) }
    }

    /// Bytes.
    pub fn bytes(kind: Kind, bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind, body: Body::Bytes(bytes.into()) }
    }
}

/// Why a frame was refused, at either end. A peer can cause every variant; none is a bug of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No room for its header.
    #[error("a frame of {len_bytes} bytes, its header needs {need_bytes}")]
    Truncated { len_bytes: usize, need_bytes: usize },
    /// Two high bits that are not 01.
    #[error("a frame of version {0}, this end speaks version 1")]
    Version(u8),
    /// Bit 5, which has no meaning in version 1.
    #[error("a frame with a flag that version 1 does not know: {0:#04x}")]
    Flags(u8),
    /// A kind above 3.
    #[error("a frame of kind {0}, the highest is 3")]
    Kind(u8),
    /// More than an SCTP message may have.
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX} are allowed: cut it into fragments")]
    FrameTooLong(usize),
    /// Index not below total, none in all, an empty piece, a piece twice.
    #[error("fragment {index} of {total} does not belong to its message")]
    Fragment { index: u16, total: u16 },
    /// More than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes, at most {MESSAGE_BYTES_MAX} are allowed: send it in parts")]
    MessageTooLong(usize),
    /// Not raw deflate, or cut off.
    #[error("a deflated message that does not inflate")]
    Inflate,
    /// More than [`INFLATED_BYTES_MAX`], or than [`INFLATION_RATIO_MAX`] to one.
    #[error("a deflated message that inflates beyond {limit_bytes} bytes")]
    Bomb { limit_bytes: usize },
    /// Lengths that do not add up, or too many.
    #[error("a batch whose lengths do not fit its {len_bytes} bytes")]
    Batch { len_bytes: usize },
    /// BIN is not set, and it is no UTF-8.
    #[error("a text that is not UTF-8")]
    NotText,
    /// Relayed, and not signed.
    #[error("a relayed message without a signature")]
    Unsigned,
    /// Signed by somebody else, for somebody else, or changed on its way.
    #[error("a message whose signature is not its sender's")]
    Signature,
}

/// Appends `value` in LEB128.
fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        // Seven bits at a time, the lowest first; the mask makes the cast exact.
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a LEB128 number of at most four bytes (28 bits) off the front.
fn take_leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
