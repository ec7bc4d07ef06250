//! Bytes to types for what arrives on the UDP port: stateless, total on any input, fuzzed.

pub mod demux;
pub mod rtcp;
pub mod rtp;
pub mod stun;
pub mod twcc;
