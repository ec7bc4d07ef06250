//! CometBFT's RPC from outside: calls, events, and transactions in bulk.
//!
//! Blocking, by threads: the callers are threads already, and a call is rare beside what it waits
//! for. Whatever a peer sends becomes a value or an error; nothing it says is believed here.

mod answers;
mod broadcaster;
mod client;
mod error;
mod methods;
mod stream;
mod subscription;
mod url;

pub use answers::{
    AbciQuery, Attribute, BlockAnswer, BlockResults, Broadcast, ConsensusParams, Event, FoundTx,
    Genesis, NetInfo, Peer, ProofOp, Status, TxResult,
};
pub use broadcaster::{Broadcaster, Outcome, QueueFull};
pub use client::{BODY_BYTES_MAX, Client};
pub use error::RpcError;
pub use methods::TX_BATCH_MAX;
pub use subscription::{NEW_BLOCK, NEW_BLOCK_EVENTS, NEW_BLOCK_HEADER, Subscription, TX, Update};
pub use url::{RpcUrl, UrlError};
