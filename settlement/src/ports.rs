//! What crosses between MONEY and the rest of the process.

use std::sync::Arc;

use chain_types::{
    Account, AccountId, Balance, BlockDelta, LaneKey, LaneState, SignedBind, SignedToken,
    SignedVoucher, StateChange, StreamId, Terms,
};
use crossbeam_channel::Receiver;
use sfu::ports::{Gate, SessionKey, SlotId};

/// The chain as MONEY needs it: embedded in this process, or another one's behind an RPC.
pub trait Chain: Send + Sync {
    /// Its id.
    fn chain_id(&self) -> &str;

    /// All records at one height, and every block after it. When the receiver ends, the follower was
    /// too slow or the chain has stopped: follow again.
    ///
    /// # Errors
    /// The chain cannot be read now.
    fn follow(&self) -> Result<(Snapshot, Receiver<Arc<BlockDelta>>), ChainError>;

    /// The newest committed state of an account; one that does not exist is empty.
    ///
    /// # Errors
    /// The chain cannot be read now.
    fn account(&self, account: &AccountId) -> Result<Account, ChainError>;

    /// Hands over a transaction, as anybody does by `broadcast_tx_sync`. The same bytes may come
    /// again.
    ///
    /// # Errors
    /// It was refused, or the chain does not answer.
    fn submit(&self, transaction: Vec<u8>) -> Result<(), SubmitError>;
}

/// Every record that MONEY follows, at one height.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Height of the newest committed block.
    pub height: u64,
    /// Its time, unix ms.
    pub time_ms: u64,
    /// Streams, access records, channels, lanes, relays and parameters.
    pub records: Vec<StateChange>,
}

/// The chain cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain cannot be read: {0}")]
pub struct ChainError(pub String);

/// A transaction did not get into the mempool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// CheckTx said no.
    #[error("transaction refused with code {code}: {log}")]
    Refused {
        /// A [`chain_types::ResultCode`].
        code: u32,
        /// The chain's sentence.
        log: String,
    },
    /// It is in the mempool or in a block already: nothing is left to do.
    #[error("the chain has this transaction already")]
    Known,
    /// It does not answer, or takes no transactions now.
    #[error("the chain takes no transactions: {0}")]
    Unavailable(String),
}

/// What MONEY tells the relay. Every method returns at once.
pub trait Outlets: Send {
    /// Sets the gate of a slot; newest wins.
    fn set_gate(&mut self, slot: SlotId, gate: Gate);
    /// Sends a frame on a session's pay channel; dropped if there is none.
    fn send(&mut self, session: SessionKey, frame: Vec<u8>);
    /// Ends a session after a last frame.
    fn close(&mut self, session: SessionKey, last_frame: Vec<u8>);
    /// Nothing else is to be done now: gates that found a full ring are to be handed over again.
    fn flush(&mut self) {}
}

/// One request to watch a stream of the chain.
#[derive(Debug, Clone)]
pub struct Admit {
    /// Which.
    pub stream: StreamId,
    /// The viewer's keys on this transport.
    pub bind: Option<SignedBind>,
    /// The first money.
    pub voucher: Option<SignedVoucher>,
    /// An access token.
    pub token: Option<SignedToken>,
    /// SHA-256 of the client's certificate, from its offer.
    pub client_fingerprint: [u8; 32],
}

/// Names an admission until its session has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdmissionId(pub u64);

/// Let in; the gate stays closed until the transport is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// To be named when the session has begun or failed.
    pub id: AdmissionId,
    /// The relay's signature over the Bind, where there was one.
    pub bind_ack: Option<[u8; 64]>,
    /// Who watches; zeros where nobody is named.
    pub viewer: AccountId,
    /// How the lane stands, where one pays.
    pub lane: Option<LaneStatus>,
}

/// A lane in the relay's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStatus {
    /// Which.
    pub lane: LaneKey,
    /// Cumulative amount that is needed to be let in, or to go on.
    pub due: Balance,
    /// Cumulative amount that was paid.
    pub paid: Balance,
    /// Time served so far, ms.
    pub served_ms: u64,
    /// How it stands.
    pub state: LaneState,
}

/// Not let in. Each has its own code, and a sentence that says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Money, or a Bind, is missing: 402.
    #[error("Payment required")]
    PaymentRequired {
        /// What is asked.
        terms: Box<Terms>,
        /// How the viewer's lane stands, where a valid Bind named one.
        lane: Option<Box<LaneStatus>>,
    },
    /// The chain does not know the stream, or it has ended: 404.
    #[error("the chain has no such stream: check the address")]
    StreamUnknown,
    /// The Bind is missing where the account has to show itself: 401.
    #[error("this stream is for accounts with a ticket or on its list: sign in with a wallet")]
    BindMissing,
    /// A signature of the Bind: 403.
    #[error("the bind's signature is wrong: sign it with the key that it names, for this chain")]
    BindSignature,
    /// The Bind is for another stream, relay or set of terms: 409, with the present terms.
    #[error("the bind is for another {0}: take the present terms and sign again")]
    BindStale(&'static str),
    /// The Bind's fingerprints are not those of this transport: 403.
    #[error(
        "the bind names other certificates than this offer and this relay: something stands between them"
    )]
    FingerprintMismatch,
    /// The token: 403.
    #[error("the token does not open this stream: {0}")]
    Token(&'static str),
    /// No such channel, or it is closing: 402 with a reason.
    #[error("the channel cannot pay: {0}")]
    Channel(&'static str),
    /// The voucher: 400.
    #[error("the voucher cannot be taken: {0}")]
    Voucher(&'static str),
    /// Chain or creator say no: 403.
    #[error("no access: {0}")]
    AccessDenied(&'static str),
    /// Too many sessions on one lane: 429.
    #[error("this payment lane has its 4 sessions already: close one of them")]
    Sessions,
    /// The split leaves this relay too little: 403.
    #[error("this relay does not serve streams that leave it less than its share")]
    Share,
    /// The books cannot be kept safely now: 503.
    #[error("this relay cannot take money now ({0}): try another one")]
    Books(&'static str),
}

impl Refusal {
    /// The HTTP status (RFC 9110 §15).
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::PaymentRequired { .. } | Self::Channel(_) => 402,
            Self::StreamUnknown => 404,
            Self::BindMissing => 401,
            Self::BindStale(_) => 409,
            Self::Voucher(_) => 400,
            Self::Sessions => 429,
            Self::Books(_) => 503,
            Self::BindSignature
            | Self::FingerprintMismatch
            | Self::Token(_)
            | Self::AccessDenied(_)
            | Self::Share => 403,
        }
    }

    /// For programs; never changes.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PaymentRequired { .. } => "payment_required",
            Self::StreamUnknown => "stream_unknown",
            Self::BindMissing => "bind_missing",
            Self::BindSignature => "bind_signature",
            Self::BindStale(_) => "bind_stale",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::Token(_) => "token_refused",
            Self::Channel(_) => "channel_refused",
            Self::Voucher(_) => "voucher_refused",
            Self::AccessDenied(_) => "access_denied",
            Self::Sessions => "lane_sessions",
            Self::Share => "share_too_small",
            Self::Books(_) => "books_unsafe",
        }
    }
}
