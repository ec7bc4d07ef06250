//! The chain of one node: an ABCI application, the engine that decides its blocks, and its RPC.
//!
//! [`application::Application`] is the boundary. What is above it ([`engine`], [`rpc`]) knows
//! blocks, never money; what is below it knows money, never blocks' encoding. A real CometBFT can
//! take the engine's place without a change below.

pub mod app;
pub mod application;
pub mod engine;
pub mod rpc;
pub mod store;
