//! The trailer that says who wrote a message that somebody else carried.

use coordinator::identity::{NodeKey, PublicKey};

use super::FrameError;

/// `seq` and signature at the end of a signed message.
pub const SIGNED_TRAILER_BYTES: usize = SEQ_BYTES + SIGNATURE_BYTES;

const SEQ_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;

/// Who signs, and for whom.
pub struct Author<'a> {
    /// The sender's key; its id is who the message is from.
    pub key: &'a NodeKey,
    /// The receiver's node id, or the room of a broadcast.
    pub to: &'a str,
    /// Greater than that of any message before.
    pub seq: u64,
}

/// Who must have signed, and for whom.
#[derive(Clone, Copy)]
pub struct Verifier<'a> {
    /// The sender's key.
    pub key: &'a PublicKey,
    /// The sender's node id.
    pub from: &'a str,
    /// The receiver's node id, or the room of a broadcast.
    pub to: &'a str,
}

/// The text that a signature covers: whose message it is, then the message up to its signature,
/// with its two header bytes as they would be without FRAG.
fn signed_bytes(from: &str, to: &str, seq: u64, head: [u8; 2], before: &[u8]) -> Vec<u8> {
    let mut bytes = format!("sutantra/dmsg/v1\n{from}\n{to}\n{seq}\n").into_bytes();
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(before);
    bytes
}

/// Closes a message: its bytes, `seq`, the signature.
pub(super) fn seal(head: [u8; 2], message: &mut Vec<u8>, author: &Author<'_>) {
    let Author { key, to, seq } = author;
    message.extend_from_slice(&seq.to_be_bytes());
    let signed = signed_bytes(&key.node_id(), to, *seq, head, message);
    message.extend_from_slice(&key.sign(&signed));
}

/// Opens a message: its bytes without the trailer, and `seq`. Without `verifier` nothing is checked:
/// the channel that brought it has already said who sent it.
pub(super) fn open<'a>(
    head: [u8; 2],
    message: &'a [u8],
    verifier: Option<&Verifier<'_>>,
) -> Result<(&'a [u8], u64), FrameError> {
    let (len_bytes, need_bytes) = (message.len(), SIGNED_TRAILER_BYTES);
    let missing = FrameError::Truncated { len_bytes, need_bytes };
    let (before, signature) = message.split_last_chunk::<SIGNATURE_BYTES>().ok_or(missing)?;
    let (body, seq) = before.split_last_chunk::<SEQ_BYTES>().ok_or(missing)?;
    let seq = u64::from_be_bytes(*seq);
    if let Some(Verifier { key, from, to }) = verifier
        && !key.verify(&signed_bytes(from, to, seq, head, before), signature)
    {
        return Err(FrameError::Signature);
    }
    Ok((body, seq))
}
