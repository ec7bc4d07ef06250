//! Every bound of the crate, and what happens when it is reached.

use std::time::Duration;

/// Largest datagram taken from a peer; a longer one is dropped and counted.
pub const DATAGRAM_BYTES_MAX: usize = 2048;
/// Largest RTP payload kept, one byte more for the padding count; a longer one is dropped.
pub const PAYLOAD_BYTES_MAX: usize = 1500;
/// Sessions of a shard; an offer beyond it is refused with [`crate::OfferError::Full`].
pub const SESSIONS_PER_SHARD_MAX: usize = 8192;
/// Bytes of one GSO message (UDP payload limit of IPv4).
pub const MESSAGE_BYTES_MAX: usize = 65_507;
/// Segments of one GSO message (`UDP_MAX_SEGMENTS`, 64 before Linux 6.9, 128 since).
pub const MESSAGE_SEGMENTS_MAX: usize = 64;
/// Messages gathered before the send queue is flushed within a tick.
pub const MESSAGES_PER_FLUSH_MAX: usize = 64;
/// A session without an authenticated packet for this long is closed.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A session that is not connected after this long is closed.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Datagrams of unfinished handshakes that wait for their turn; further ones are dropped and counted.
pub const HANDSHAKE_DATAGRAMS_MAX: usize = 4096;
/// Of those, datagrams of one session: two flights in small pieces.
pub const HANDSHAKE_DATAGRAMS_PER_SESSION_MAX: usize = 16;
/// Time that a turn of a shard's loop gives to handshakes before it looks for media again.
pub const HANDSHAKES_PER_TURN: Duration = Duration::from_micros(500);
/// Media sections of an offer; more are refused with `OfferError::TooManySections`.
pub const MEDIA_SECTIONS_MAX: usize = 16;
/// Addresses one session may be reached from; the oldest is forgotten.
pub const PATHS_PER_SESSION_MAX: usize = 16;
/// SSRCs a publisher may send on; packets of a further one are dropped and counted.
pub const SSRCS_PER_SESSION_MAX: usize = 8;
/// Packets of a track kept for retransmission (a power of two); the oldest is overwritten.
pub const CACHE_PACKETS: usize = 1024;
/// Free packets that a shard keeps; further ones go back to the allocator.
pub const POOL_PACKETS_MAX: usize = 2048;
/// Packets of a track taken in one tick; further ones are dropped and counted.
pub const PENDING_PACKETS_MAX: usize = 512;
const _: () = assert!(PENDING_PACKETS_MAX * 2 <= CACHE_PACKETS);
/// Retransmissions queued in one tick; further requests are dropped (the receiver asks again).
pub const RETRANSMITS_PER_TICK_MAX: usize = 1024;
/// Sequence numbers of one generic NACK that are looked at; the receiver asks for the rest again.
pub const NACKED_SEQUENCES_PER_PACKET_MAX: usize = 256;
/// Missing sequence numbers of a publisher's track asked for at once; beyond it a keyframe is.
pub const MISSING_MAX: usize = 256;
/// Shards; interest of shards in a stream is a 64-bit mask.
pub const SHARDS_MAX: usize = 64;
/// Messages waiting from one shard to another; a further packet is dropped and counted.
pub const LANE_MESSAGES_MAX: usize = 4096;
/// Commands of control waiting for a shard; control waits.
pub const COMMANDS_MAX: usize = 1024;
/// Gate commands waiting for a shard; the producer keeps the newest per slot beyond that.
pub const GATE_COMMANDS_MAX: usize = 65_536;
/// Gate commands applied in one turn of a shard's loop.
pub const GATE_COMMANDS_PER_TURN_MAX: usize = 256;
/// Events waiting for control; a shard holds back further ones itself and stops admitting.
pub const EVENTS_MAX: usize = 65_536;
/// Bytes of a frame on the side channel, either way; a longer one is dropped and counted.
pub const FRAME_BYTES_MAX: usize = 1024;
/// Frames of one session that the owner has not let go of; a further one is dropped and counted.
pub const FRAMES_PER_SESSION_MAX: usize = 64;
/// Frames of all sessions waiting for the owner; a further one is dropped and counted.
pub const FRAMES_MAX: usize = 8192;
const _: () = assert!(FRAMES_MAX >= 64 * FRAMES_PER_SESSION_MAX, "a few cannot fill it");
/// Frames for peers waiting for a shard; [`crate::Relay::send_frame`] refuses a further one.
pub const FRAMES_OUT_MAX: usize = 4096;
/// Frames for peers written in one turn of a shard's loop; the others wait for the next turn.
pub const FRAMES_OUT_PER_TURN_MAX: usize = 32;
/// Bytes for one peer that it has not acknowledged; a further frame is dropped and counted.
pub const FRAMES_UNACKNOWLEDGED_BYTES_MAX: usize = 65_536;
/// Usage reports waiting for the owner; a further one is dropped and counted, and the next repairs
/// it, because its values are absolute.
pub const USAGE_REPORTS_MAX: usize = 4 * SHARDS_MAX;
