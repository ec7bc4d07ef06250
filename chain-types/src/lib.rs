//! Identifiers and signed messages that chain, relay and wallets share: bytes, never I/O.
//!
//! No clock, no randomness, no file: time and keys are arguments, and each decoder is total (any
//! input gives a value or an error with a name). Signed messages have a fixed big-endian layout;
//! what is signed is `domain ‖ chain tag ‖ body` ([`Preimage`]), so that a signature made for one
//! type or one chain means nothing for another.

mod balance;
mod bind;
mod code;
mod delta;
pub mod follow;
pub mod frame;
pub mod hex;
mod id;
mod keys;
pub mod lane;
pub mod params;
mod preimage;
pub mod records;
mod revocation;
pub mod split;
pub mod staking;
mod terms;
mod token;
mod transaction;
mod voucher;

pub use balance::{Balance, BalanceError, UNITS_PER_SUT};
pub use bind::{BIND_BODY_BYTES, Bind, BindError, SignedBind};
pub use code::{CODESPACE, ResultCode};
pub use delta::{BlockDelta, ChainEvent, StateChange};
pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use frame::{Frame, FrameError, GateReason, LaneState, PayAck, PayReq, QualityReport, Receipt};
pub use id::{AccountId, ChannelId, IdParseError, LaneKey, StreamId, TokenId};
pub use keys::{DepartureKey, StateKey};
pub use params::Params;
pub use preimage::{ChainTag, Domain, LOCAL_CHAIN_ID, Preimage};
pub use records::{
    AccessRecord, Account, Channel, CloseRequest, LaneRecord, Policy, RelayRecord, Reserve, Split,
    StreamMetadata, StreamTerms, Supply, TIER_FULL,
};
pub use revocation::{
    REVOCATION_BODY_BYTES, REVOCATION_SIGNED_BYTES, Revocation, RevocationError, Revoked,
    SignedRevocation,
};
pub use terms::{CADENCE_MS, Terms, TermsRefused};
pub use token::{
    Grants, PaymentStatus, SignedToken, TOKEN_BODY_BYTES, TOKEN_SIGNED_BYTES, Token, TokenError,
};
pub use transaction::{
    Payload, Price, RelayFacts, ReserveRequest, SplitShares, Transaction, TransactionBody,
    TransactionError, transaction_hash,
};
pub use voucher::{SignedVoucher, VOUCHER_BODY_BYTES, VOUCHER_SIGNED_BYTES, Voucher, VoucherError};
