//! Snapshots, state sync, rollback and export of the application: by ABCI, across crashes, and
//! between real CometBFT nodes.

#![allow(clippy::unwrap_used)] // A test may panic.

mod abci;
mod chain;
mod comet;
mod crash;
mod export;
#[path = "../comet/node.rs"]
#[expect(dead_code, reason = "the tests of crashes use the rest")]
mod node;
#[path = "../comet/rpc.rs"]
#[expect(dead_code, reason = "the tests of crashes use the rest")]
mod rpc;
#[path = "../app/world.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod world;
