//! What crosses between the shards and the rest of the process: plain values over bounded queues.

pub mod foreign;
pub mod gate;
pub mod ring;
#[cfg(test)]
mod ring_tests;
pub mod side_channel;
mod sync;
pub mod usage;

use std::time::Duration;

pub use gate::{Gate, GateCmd, GateSender};
pub use side_channel::{Frame, SideChannelConfig};
pub use str0m::crypto::dtls::SrtpProfile;
pub use usage::{SlotUsage, UsageReport};

/// A live stream inside this process; given by control, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(pub u64);

/// One endpoint's transport (one `RTCPeerConnection`); given by [`crate::Relay`], never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// One (session, stream) subscription on one shard. `generation` defeats reuse of `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    pub shard: u16,
    pub index: u32,
    pub generation: u32,
}

/// What a session does with its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Publisher,
    Subscriber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Audio,
    Video,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    Opus,
    Vp8,
    Vp9,
    H264,
    Av1,
}

impl Codec {
    pub const fn kind(self) -> Kind {
        match self {
            Codec::Opus => Kind::Audio,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => Kind::Video,
        }
    }

    /// RTP clock rate, Hz.
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => 90_000,
        }
    }

    /// Encoding name as in an SDP `a=rtpmap` line.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::Av1 => "AV1",
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer sent close_notify.
    Peer,
    /// Control asked for it (DELETE, revocation).
    Control,
    /// Nothing authenticated came for [`crate::limits::SILENCE_MAX`].
    Silence,
    /// ICE or DTLS did not finish within [`crate::limits::HANDSHAKE_MAX`].
    HandshakeTimeout,
    /// The certificate does not match the offer's fingerprint.
    Fingerprint,
    /// Any other failure of the transport.
    Transport,
    /// The process drains.
    Drain,
}

/// What a shard tells control. Lifecycle events are never dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// ICE and DTLS are up and the certificate matches the offer.
    Connected {
        session: SessionKey,
        stream: StreamKey,
        role: Role,
        /// Only subscribers hold a slot.
        slot: Option<SlotId>,
        profile: SrtpProfile,
        /// From the offer to here.
        after: Duration,
    },
    Closed {
        session: SessionKey,
        stream: StreamKey,
        role: Role,
        slot: Option<SlotId>,
        reason: CloseReason,
        /// A subscriber's last and complete usage, if the relay reports any.
        usage: Option<SlotUsage>,
    },
    /// First packet of a publisher's track.
    TrackStarted { stream: StreamKey, kind: Kind, codec: Codec },
    /// First keyframe of a publisher; the size is known for codecs that say it in the clear.
    FirstKeyframe { stream: StreamKey, codec: Codec, size: Option<(u16, u16)> },
    /// A subscriber needs a keyframe from an in-process source ([`crate::LocalSource`]).
    KeyframeWanted { stream: StreamKey },
}
