//! The embedded engine and its RPC, from the outside, over a small application of the tests' own.

#![allow(clippy::unwrap_used)] // A test may panic.

mod chain;
mod crash;
mod kv;
mod mempool;
mod rpc;
mod websocket;
mod world;
