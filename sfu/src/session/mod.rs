//! One endpoint's transport: ICE and DTLS by str0m, SRTP and SRTCP by us.

pub mod keys;
pub mod offer;
pub mod replay;
pub mod srtp;
pub mod transport;
