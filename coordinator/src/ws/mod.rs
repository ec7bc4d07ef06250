//! The WebSocket: frames, compression, one connection's life, and what its messages mean.
//!
//! The layer is our own because of what it need not keep. An idle connection holds no buffer:
//! input is read into one that the thread's connections share, and unmasked and parsed there. A
//! server's frame is not masked, so a frame for many receivers is made once and shared by
//! reference; no library hands out its encoded frames.

mod batch;
pub mod deflate;
pub mod frame;
pub(crate) mod socket;
pub(crate) mod talk;
pub(crate) mod upgrade;
