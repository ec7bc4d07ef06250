//! Headers and records of the chain, verified without trusting who sends them.
//!
//! Nothing in here opens a socket or reads a clock: blocks come from a [`Provider`] or, where that
//! cannot block, one by one into a [`Skipping`]; `now` is an argument. What a caller wants to keep
//! over a restart is plain data ([`LightClient::trusted`]).

pub mod block;
pub mod proof;
pub mod provider;

pub use block::{LightBlock, MalformedBlock, light_block};
pub use provider::{Provider, ProviderError};
