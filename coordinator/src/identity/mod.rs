//! Who a node is: an Ed25519 key, the id that is its hash, and what the key signs.

mod fingerprint;
mod invite;
mod join;

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

pub use fingerprint::{FingerprintError, check_fingerprint, fingerprint_text, sdp_fingerprint};
pub use invite::{Can, INVITE_LINKS_MAX, INVITE_PREFIX, Invite, InviteError, Link, private_room};
pub use join::{JoinError, JoinProof, join_text};

/// What every id that belongs to a key begins with.
pub const NODE_ID_PREFIX: &str = "sn1";

/// Characters of such an id: the prefix and 20 bytes in base32.
pub const NODE_ID_CHARS: usize = 35;

/// Longest id that mode `open` takes at its word, in characters.
pub const OPEN_ID_CHARS_MAX: usize = 64;

/// A public key of Ed25519; shown and parsed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key has 64 hex digits")]
pub struct PublicKeyError;

impl PublicKey {
    /// The key's bytes as they are; whether they are a point shows when a signature is checked.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `sn1` and base32 of the first 20 bytes of the key's SHA-256: 35 characters.
    pub fn node_id(&self) -> String {
        let digest = Sha256::digest(self.0);
        let mut id = String::with_capacity(NODE_ID_CHARS);
        id.push_str(NODE_ID_PREFIX);
        id.push_str(&base32_lower(&digest[..20]));
        id
    }

    /// Whether `signature` (64 bytes) over `text` is this key's; strict, so that one text has one
    /// signature and small-order keys have none.
    pub fn verify(&self, text: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex_bytes(text).map(Self).ok_or(PublicKeyError)
    }
}

/// A node's secret key. Neither shown nor compared.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// The key of this secret seed (RFC 8032).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The id that only this key may use.
    pub fn node_id(&self) -> String {
        self.public().node_id()
    }

    /// Ed25519 over `text` as it stands; the callers' texts each begin with their own domain.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).to_bytes()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.node_id())
    }
}

/// Whether an id has the form that mode `open` takes: 1–64 characters of `[A-Za-z0-9._:@-]`.
pub fn is_node_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
    (1..=OPEN_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether an id claims to be a key's, and therefore needs a signature.
pub fn is_key_id(text: &str) -> bool {
    text.starts_with(NODE_ID_PREFIX)
}

/// `bytes` in lower-case base32 without padding (RFC 4648).
pub(crate) fn base32_lower(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Exactly `N` bytes of hex digits in either case.
pub(crate) fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_id_and_it_is_taken_as_a_node_id() {
        let id = NodeKey::from_seed([7; 32]).node_id();
        assert_eq!(id.len(), NODE_ID_CHARS);
        assert!(is_key_id(&id) && is_node_id(&id));
        assert_ne!(id, NodeKey::from_seed([8; 32]).node_id());
    }

    #[test]
    fn ids_of_other_characters_or_lengths_are_no_ids() {
        for good in ["a", "client-abc", "A.b_c:d@e", &"x".repeat(64)] {
            assert!(is_node_id(good), "{good}");
        }
        for bad in ["", "a b", "a\"b", "é", "a/b", &"x".repeat(65)] {
            assert!(!is_node_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_is_read_back_from_its_hex_and_from_nothing_else() {
        let key = NodeKey::from_seed([1; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().to_uppercase().parse(), Ok(key));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
            assert_eq!(bad.parse::<PublicKey>(), Err(PublicKeyError), "{bad}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_text_alone() {
        let key = NodeKey::from_seed([1; 32]);
        let signature = key.sign(b"text");
        assert!(key.public().verify(b"text", &signature));
        assert!(!key.public().verify(b"texT", &signature));
        assert!(!NodeKey::from_seed([2; 32]).public().verify(b"text", &signature));
    }
}
