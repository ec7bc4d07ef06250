//! A light client among honest nodes and liars.

#![allow(clippy::unwrap_used)] // A test may panic.

mod chain;
mod headers;
mod lies;
mod proofs;
