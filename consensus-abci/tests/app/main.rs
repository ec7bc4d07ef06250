//! The application from outside: blocks in, results, state, proofs and deltas out.

mod access;
mod channels;
mod check;
mod envelope;
mod follow;
mod money;
mod presenters;
mod query;
mod redeem;
mod stake;
mod staked;
mod streams;
mod world;
