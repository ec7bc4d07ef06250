//! What a peer behind a NAT asks of servers: its address (STUN), and a way round (TURN).

pub mod binding;
pub mod server;
pub mod stream;
pub mod stun;
pub mod turn;

pub use server::{IceServer, ServerError, Transport};
