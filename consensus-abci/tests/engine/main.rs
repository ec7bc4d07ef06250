//! The embedded engine and its RPC, from the outside, over a small application of the tests' own.

mod chain;
mod crash;
mod kv;
mod mempool;
mod rpc;
mod websocket;
mod world;
