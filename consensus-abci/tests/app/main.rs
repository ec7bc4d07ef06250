//! The application from outside: blocks in, results, state, proofs and deltas out.

#![allow(clippy::unwrap_used)] // A test may panic.

mod access;
mod bonds;
mod channels;
mod check;
mod envelope;
mod follow;
mod genesis;
mod golden;
mod govern;
mod junk;
mod money;
mod presenters;
mod query;
mod redeem;
mod slash;
mod stake;
mod stake_model;
mod staked;
mod streams;
mod upgrade;
mod world;
