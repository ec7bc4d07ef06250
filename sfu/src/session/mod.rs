//! One endpoint's transport: ICE and DTLS by str0m, SRTP and SRTCP by us.

pub mod fingerprint;
pub mod keys;
pub mod offer;
pub mod replay;
pub mod side_channel;
pub mod srtp;
pub mod transport;
