//! Frames of a WebSocket, without its sockets.

#[path = "../../src/ws/deflate.rs"]
pub mod deflate;
#[path = "../../src/ws/frame.rs"]
pub mod frame;
