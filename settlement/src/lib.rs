//! MONEY: what is owed, what was paid, who may watch, and which gate is therefore open.
//!
//! Laws: nothing that was accepted is forgotten, nothing unproven is believed. One thread decides
//! ([`decide::Decider`], pure, so that a simulation can run it), one writes the log of vouchers,
//! one hands transactions to the chain. The relay learns slots, gates and opaque bytes only.

pub mod access;
pub mod book;
pub mod chain;
pub mod decide;
pub mod event;
pub mod exposure;
pub mod lane;
pub mod log;
pub mod money;
pub mod payments;
pub mod ports;
pub mod redeem;

pub use ports::{
    Admission, AdmissionId, Admit, Chain, ChainError, LaneStatus, Outlets, Refusal, Snapshot,
    SubmitError,
};
