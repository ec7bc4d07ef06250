//! Selective forwarding middlebox (RFC 7667 §3.7): takes RTP streams from publishers, hands them
//! to subscribers whose gate is open.
//!
//! The crate knows packets, slots, gates, deadlines and bytes. It names no account, no price, no
//! HTTP. str0m does ICE, DTLS, SDP and SCTP (the cold half); every SRTP and SRTCP packet is opened
//! and sealed by our own code (the hot half), a thread per core, nothing shared.
//!
//! Start at [`Relay`]: the control side's handle on all shards.

pub mod io;
pub mod limits;
pub mod ports;
pub mod wire;

pub mod forward;
pub mod session;
pub mod shard;

mod relay;
pub use forward::run::Runs;
pub use relay::{Accepted, LocalSource, Relay, RelayConfig, StartError, Started};
pub use session::fingerprint::offer_fingerprint;
pub use session::keys::generate_certificate;
pub use session::offer::OfferError;
pub use str0m::config::DtlsCert;
