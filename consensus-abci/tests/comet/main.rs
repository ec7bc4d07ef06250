//! The application behind its socket: clients that break the rules, then the real CometBFT.

#![allow(clippy::unwrap_used)] // A test may panic.

mod client;
mod crash;
mod embedded;
mod hashes;
mod load;
mod node;
mod rpc;
mod script;
mod server;
mod stake;
#[path = "../app/staked.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod staked;
mod twin;
mod upgrade;
#[path = "../app/world.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod world;
