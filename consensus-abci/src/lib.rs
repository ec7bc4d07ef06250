//! The chain of one node: an ABCI application, the engine that decides its blocks, and its RPC.
//!
//! [`application::Application`] is the boundary. What is above it ([`engine`], [`rpc`]) knows
//! blocks, never money; what is below it knows money, never blocks' encoding. A real CometBFT
//! takes the engine's place through [`server`], without a change below.

pub mod app;
pub mod application;
pub mod engine;
#[doc(hidden)]
pub mod fail;
pub mod rpc;
pub mod server;
pub mod store;
