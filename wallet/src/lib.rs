//! The payer: whoever watches and pays by the second, and the accounts behind it.
//!
//! Driving contract of [`Payer`]: after every input, [`Payer::poll`] until it gives `None`; then
//! [`Payer::deadline`] is when [`Payer::handle_timeout`] is due. It signs nothing itself: what it
//! wants to pay goes through [`OpenPool::pay`], which writes the sums to the disk before it signs.
//! The rules are those of the browser's wallet; both are held against the same vectors.

mod chain;
mod file;
pub mod http;
mod keystore;
mod ledger;
mod offer;
mod payer;
mod pool;
mod rpc;
mod words;

pub use chain::{Chain, ChannelEntry, Included, Step, SubmitError, moved_by};
pub use file::FileError;
pub use keystore::{Keystore, KeystoreError};
pub use ledger::{BackOff, Caps, Ledger, Room, RoomLimit};
pub use offer::{LaneDue, Offer, OfferError, Paid, Payment};
pub use payer::{Agreed, ChainFacts, Identity, Output, Payer, REPORT_EVERY, Received, Stop};
pub use pool::{Basis, LaneSums, OpenPool, Pool, PoolError, PoolState, Pools, SumsLost};
pub use rpc::{InBlock, Rpc, RpcError, Status};
pub use words::{WordsError, seed_of, words_of};
