//! Every bound of the coordinator, and what happens when it is reached.

/// The bounds that operators may set; [`Limits::default`] is what the protocol documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Peers in a room; the next join is refused (`room_full`), in `global` it sees a sample.
    pub room_peers_max: usize,
    /// Rooms of one peer; the next join is refused (`rate_limited`).
    pub peer_rooms_max: usize,
    /// Rooms in all but private ones; a join that would make another is refused (`rate_limited`).
    pub rooms_max: usize,
    /// Private rooms in all; the next is refused (`rate_limited`).
    pub owned_rooms_max: usize,
    /// A join's metadata as JSON; more is refused (`too_large`).
    pub metadata_bytes_max: usize,
    /// A signal's whole JSON, and any WebSocket message; more is refused (`too_large`, 4413).
    pub signal_bytes_max: usize,
    /// Any other HTTP body; more is refused (`too_large`).
    pub body_bytes_max: usize,
    /// A relayed message's frame in base64; more is refused (`too_large`).
    pub message_bytes_max: usize,
    /// A broadcast's frame in base64; more is refused (`too_large`).
    pub broadcast_bytes_max: usize,
    /// What waits for a peer; see the rule of [`crate::queue`].
    pub queue_signals_max: usize,
    /// Bytes that wait for a peer, likewise.
    pub queue_bytes_max: usize,
    /// How long a signal waits; then it is forgotten.
    pub queue_ttl_ms: u64,
    /// Signals, broadcasts and messages per node; beyond it `rate_limited`.
    pub signals: Rate,
    /// Joins, sign-ins and rooms made per node; beyond it `rate_limited`.
    pub joins: Rate,
    /// Connections (WebSockets and held polls) per address; the next is refused (`rate_limited`).
    pub address_connections_max: usize,
    /// WebSockets in all; the next is refused (`rate_limited`).
    pub sockets_max: usize,
    /// New WebSockets per address; beyond it `rate_limited`.
    pub address_opens: Rate,
    /// Messages of any kind per WebSocket, junk too; beyond it the connection is closed (4429).
    pub socket_messages: Rate,
    /// How often a client pings.
    pub heartbeat_ms: u64,
    /// Silence after which a peer is gone and its WebSocket closed (4408).
    pub stale_ms: u64,
    /// How long after a loss a connection can be resumed.
    pub resume_ms: u64,
    /// How long a WebSocket may stay without a name; then it is closed (4408).
    pub nameless_ms: u64,
    /// How long an empty room that a join made goes on.
    pub room_empty_ms: u64,
    /// How long an empty private room goes on; its owner may make it again.
    pub owned_room_empty_ms: u64,
    /// How far a signed join's clock may differ, and how long its nonce is remembered.
    pub join_window_ms: u64,
    /// How long a session lives without use.
    pub session_ms: u64,
    /// How long a poll is held at most, and by default.
    pub poll_ms_max: u64,
    /// Private rooms of one owner; the next is refused (`rate_limited`).
    pub owner_rooms_max: usize,
    /// Lifetime of the credentials that are made from a TURN secret.
    pub turn_ttl_ms: u64,
}

/// A bucket of `burst` tokens that fills with `per_minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_minute: u32,
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            room_peers_max: 50,
            peer_rooms_max: 32,
            rooms_max: 10_000,
            owned_rooms_max: 10_000,
            metadata_bytes_max: 4 << 10,
            signal_bytes_max: 64 << 10,
            body_bytes_max: 8 << 10,
            message_bytes_max: base64_chars(16 << 10),
            broadcast_bytes_max: base64_chars(4 << 10),
            queue_signals_max: 256,
            queue_bytes_max: 2 << 20,
            queue_ttl_ms: 60_000,
            signals: Rate { per_minute: 50 * 60, burst: 200 },
            joins: Rate { per_minute: 10, burst: 20 },
            address_connections_max: 64,
            sockets_max: 20_000,
            address_opens: Rate { per_minute: 20 * 60, burst: 20 },
            socket_messages: Rate { per_minute: 200 * 60, burst: 2_000 },
            heartbeat_ms: 15_000,
            stale_ms: 30_000,
            resume_ms: 60_000,
            nameless_ms: 10_000,
            room_empty_ms: 60_000,
            owned_room_empty_ms: DAY_MS,
            join_window_ms: 60_000,
            session_ms: 120_000,
            poll_ms_max: 25_000,
            owner_rooms_max: 16,
            turn_ttl_ms: 3_600_000,
        }
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

const fn base64_chars(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// What `global` shows to who joins it above the cap.
pub const GLOBAL_SAMPLE_PEERS: usize = 12;

/// Bytes that wait for one WebSocket; a client that lets more wait does not read: 4429.
pub const OUTBOUND_BYTES_MAX: usize = 1 << 20;

/// Frames that wait for one WebSocket, likewise.
pub const OUTBOUND_FRAMES_MAX: usize = 4_096;

/// Messages in one batch; a longer one is `bad_request`.
pub const BATCH_MESSAGES_MAX: usize = 64;

/// Payload above which a frame is compressed for who offered it, and an HTTP body likewise.
pub const COMPRESS_ABOVE_BYTES: usize = 1_024;

/// What a compressed message may become, per byte that came; beyond it 4413.
pub const INFLATE_RATIO_MAX: usize = 100;

/// What a compressed message may become whatever its ratio: small ones repeat themselves much.
pub const INFLATE_FLOOR_BYTES: usize = 4 << 10;

/// Bytes of `sid`, `fpSig`, `pk` each; longer is `bad_request`.
pub const EXTRA_BYTES_MAX: usize = 256;

/// A body that has not arrived after this is refused (`bad_request`).
pub const BODY_READ_MS_MAX: u64 = 10_000;

/// First and longest `retryAfterMs`; each refusal doubles it.
pub const BACKOFF_MS_MIN: u64 = 250;
/// See [`BACKOFF_MS_MIN`].
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// Peers on one page of `/webrtc/peers` where `limit` asks for pages.
pub const PEERS_PAGE_MAX: usize = 1_000;

/// Sessions, nonces, addresses and buckets that are remembered, each; when full, the next sign-in or
/// join is refused (`rate_limited`) until some have expired.
pub const REMEMBERED_MAX: usize = 1 << 20;

/// Invite codes in all; the next is refused (`rate_limited`): the invite itself does the same.
pub const INVITE_CODES_MAX: usize = 1 << 14;

/// Invite codes that one caller has made and that still stand; the next is refused likewise.
pub const INVITE_CODES_PER_CALLER_MAX: usize = 64;

/// How long a code stands for an invite at most, however long the invite is good for.
pub const INVITE_CODE_MS_MAX: u64 = DAY_MS;

/// A signed join that is older than this process by more is refused (`rate_limited`, until then):
/// the nonces that its predecessor took are forgotten. The difference lets through who signed
/// while the process began, and clocks that are a little behind; others wait out what they are behind.
pub const JOIN_BEFORE_START_MS: u64 = 5_000;

/// Bits of an IPv6 address that count as one address: a line has as many addresses as it likes.
pub const IPV6_PREFIX_BITS: u32 = 64;

/// Ids on one room's ban list; more is `bad_request`.
pub const BANS_MAX: usize = 256;

/// A draining coordinator closes its WebSockets one after the other, so that not all of them come
/// to another one at once: this long for each, and not longer than [`DRAIN_SPREAD_MS_MAX`] in all.
pub const DRAIN_SPREAD_MS_EACH: u64 = 5;
/// The longest that closing all takes.
pub const DRAIN_SPREAD_MS_MAX: u64 = 30_000;

/// How often time is let pass: silence, expiry and emptiness are seen this much later at most.
pub const SWEEP_MS: u64 = 500;

const _: () = assert!(GLOBAL_SAMPLE_PEERS <= PEERS_PAGE_MAX);
const _: () = assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX);
const _: () = assert!(INFLATE_FLOOR_BYTES > COMPRESS_ABOVE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    /// R98
    #[test]
    fn the_defaults_are_the_documents() {
        let limits = Limits::default();
        assert_eq!(limits.room_peers_max, 50);
        assert_eq!((limits.heartbeat_ms, limits.stale_ms), (15_000, 30_000));
        assert_eq!(limits.signals, Rate { per_minute: 3_000, burst: 200 });
        assert_eq!(limits.joins, Rate { per_minute: 10, burst: 20 });
    }
}
