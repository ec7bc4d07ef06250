//! Identifiers and signed messages that chain, relay and wallets share: bytes, never I/O.
//!
//! No clock, no randomness, no file: time and keys are arguments, and each decoder is total (any
//! input gives a value or an error with a name). Signed messages have a fixed big-endian layout;
//! what is signed is `domain ‖ chain tag ‖ body` ([`Preimage`]), so that a signature made for one
//! type or one chain means nothing for another.

mod hex;
mod id;
mod preimage;
mod revocation;
mod token;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use id::{AccountId, IdParseError, StreamId, TokenId};
pub use preimage::{ChainTag, Domain, LOCAL_CHAIN_ID, Preimage};
pub use revocation::{
    REVOCATION_BODY_BYTES, REVOCATION_SIGNED_BYTES, Revocation, RevocationError, Revoked,
    SignedRevocation,
};
pub use token::{
    Grants, PaymentStatus, SignedToken, TOKEN_BODY_BYTES, TOKEN_SIGNED_BYTES, Token, TokenError,
};
