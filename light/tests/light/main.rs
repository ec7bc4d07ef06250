//! A light client among honest nodes and liars.

mod chain;
mod headers;
mod lies;
mod proofs;
