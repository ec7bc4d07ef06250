//! A CometBFT node seen from outside: its RPC, its files, its process.

pub mod process;
pub mod rpc;
