//! Headers and records of the chain, verified without trusting who sends them.
//!
//! Nothing in here opens a socket or reads a clock: blocks come from a [`Provider`] or, where that
//! cannot block, one by one into a [`Skipping`]; `now` is an argument. What a caller wants to keep
//! over a restart is plain data ([`LightClient::keep`]).

pub mod block;
mod client;
mod error;
pub mod proof;
pub mod provider;
mod skipping;
mod trust;

pub use block::{LightBlock, MalformedBlock, PlainBlock, light_block};
pub use client::{LightClient, TRUSTED_MAX};
pub use error::LightError;
pub use provider::{Provider, ProviderError};
pub use skipping::{Skipping, Terms};
pub use trust::Trust;
