//! What happens between chain and media, as one type of value on one bus.
//!
//! Events inform (pages, metrics, programs that follow along); nothing is decided by them, so that
//! a lost one costs freshness and never money.

mod bridge;
mod bus;

use std::time::Duration;

use chain_types::{AccountId, Balance, BlockDelta, ChainEvent, ChannelId, QualityReport, StreamId};
use sfu::ports::Codec;

use crate::chain::Affected;

pub use bridge::{
    BLOCKCHAIN_COMMANDS_MAX, BlockchainCommand, BridgeEnds, BridgeError, EventBridge,
    STREAMING_COMMANDS_MAX, StreamingCommand, deliver,
};
pub use bus::{Bus, Disconnected, EVENT_QUEUE_MAX, Received, Receiver};

/// What happened (R25). The first three come from the chain, the next three from the media, the
/// next two from the money between them; those behind are ours besides.
#[derive(Debug, Clone, PartialEq)]
pub enum SutantraEvent {
    /// A RegisterStream was committed.
    StreamRegistered {
        /// Its id.
        stream_id: StreamId,
        /// Who registered it.
        creator: AccountId,
    },
    /// Money for this relay, for one stream.
    PaymentReceived {
        /// For which stream.
        stream_id: StreamId,
        /// How much more than before.
        amount: Balance,
        /// `false`: a voucher was accepted. `true`: the chain has paid it out.
        settled: bool,
    },
    /// The chain says that a viewer may watch.
    AccessGranted {
        /// Who.
        viewer: AccountId,
        /// What.
        stream_id: StreamId,
    },
    /// A publisher's first keyframe is here.
    StreamStarted {
        /// Which stream.
        stream_id: StreamId,
        /// What it looks like.
        quality: QualityMetrics,
    },
    /// One more watches.
    ViewerJoined {
        /// Which stream.
        stream_id: StreamId,
        /// How many watch now.
        viewer_count: u32,
    },
    /// Its publisher is gone.
    StreamEnded {
        /// Which stream.
        stream_id: StreamId,
        /// From the first keyframe to the publisher's last sign of life.
        duration: Duration,
    },
    /// A viewer is behind.
    PaymentDue {
        /// On which stream.
        stream_id: StreamId,
        /// Who.
        viewer: AccountId,
        /// By how much, as PayReq says it.
        amount: Balance,
    },
    /// How a stream arrives at one viewer.
    QualityReport {
        /// Which stream.
        stream_id: StreamId,
        /// In numbers of both sides.
        metrics: StreamQuality,
    },
    /// The chain says that a viewer may watch no longer.
    AccessRevoked {
        /// Who; `None`: everybody whose access an earlier revocation epoch gave.
        viewer: Option<AccountId>,
        /// What.
        stream_id: StreamId,
    },
    /// One watches no longer.
    ViewerLeft {
        /// Which stream.
        stream_id: StreamId,
        /// How many watch now.
        viewer_count: u32,
    },
    /// A channel's close was requested: what is not redeemed soon is lost.
    ChannelClosing {
        /// Which.
        channel_id: ChannelId,
    },
    /// A new price or split was committed.
    TermsChanged {
        /// Of which stream.
        stream_id: StreamId,
        /// The new version.
        terms_version: u32,
        /// First height at which it holds.
        from_height: u64,
    },
}

/// What a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityMetrics {
    /// Codec of the video.
    pub codec: Codec,
    /// Width and height in pixels, where the codec says it in the clear.
    pub size: Option<(u16, u16)>,
    /// Frames per second; `None` until measured.
    pub frames_per_second: Option<f32>,
    /// Of all tracks, kbit/s; `None` until measured.
    pub bitrate_kbps: Option<u32>,
}

/// How a stream arrives, as the viewer and as the relay see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamQuality {
    /// Signed by the viewer; `None`: it reports nothing.
    pub viewer: Option<QualityReport>,
    /// Counted by the relay.
    pub relay: RelayQuality,
}

/// The relay's own numbers about one viewer, from the session's begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayQuality {
    /// Packets of media sent, retransmissions included.
    pub sent_packets: u64,
    /// RTP payload octets sent, retransmissions included.
    pub sent_bytes: u64,
    /// Time in which media was sent and RTCP does not say that none arrived.
    pub served_ms: u64,
    /// Time of which RTCP says that nothing arrived.
    pub disputed_ms: u64,
}

impl SutantraEvent {
    /// Events of a committed block, in its order, and the changes of terms behind them. Redeems are
    /// told for `payee` alone, who is paid here; all else for everybody.
    ///
    /// Made of the block's own events, never of transactions: what was rejected is no event (R17).
    /// `affected` is what [`crate::chain::BlockchainState::apply`] said of the same block.
    pub fn of_block(delta: &BlockDelta, affected: &[Affected], payee: &AccountId) -> Vec<Self> {
        let told = delta.events.iter().filter_map(|event| Self::of_chain_event(event, payee));
        let changed = affected.iter().filter_map(|affected| match *affected {
            Affected::TermsScheduled { stream: stream_id, version, from_height } => {
                Some(Self::TermsChanged { stream_id, terms_version: version, from_height })
            }
            Affected::Stream(_)
            | Affected::StreamEnded(_)
            | Affected::TermsInForce { .. }
            | Affected::Revoked { .. }
            | Affected::Access { .. }
            | Affected::Channel(_)
            | Affected::ChannelClosing(_)
            | Affected::Lane(_)
            | Affected::Relay(_)
            | Affected::Params => None,
        });
        told.chain(changed).collect()
    }

    fn of_chain_event(event: &ChainEvent, payee: &AccountId) -> Option<Self> {
        match *event {
            ChainEvent::StreamRegistered { stream: stream_id, creator } => {
                Some(Self::StreamRegistered { stream_id, creator })
            }
            ChainEvent::AccessGranted { stream: stream_id, viewer, valid_until: _ } => {
                Some(Self::AccessGranted { viewer, stream_id })
            }
            ChainEvent::AccessRevoked { stream: stream_id, viewer } => {
                Some(Self::AccessRevoked { viewer: Some(viewer), stream_id })
            }
            ChainEvent::RevocationBumped { stream: stream_id, rev_epoch: _ } => {
                Some(Self::AccessRevoked { viewer: None, stream_id })
            }
            ChainEvent::ChannelClosing { channel: channel_id } => {
                Some(Self::ChannelClosing { channel_id })
            }
            ChainEvent::ChannelRedeemed { lane, paid, .. } if lane.payee == *payee => {
                let stream_id = lane.stream;
                Some(Self::PaymentReceived { stream_id, amount: paid, settled: true })
            }
            // [`ChainEvent::subject`] has the whole list, and what is read of it.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// R25: the eight events of the specification by these names and fields, on one bus.
    #[test]
    fn the_eight_events_have_their_names_and_fields() {
        fn is_event<E: Debug + Clone>(event: E) -> E {
            event
        }
        let (stream_id, viewer) = (StreamId([3; 32]), AccountId([4; 32]));
        let amount = Balance::of(5);
        let quality = QualityMetrics {
            codec: Codec::Vp8,
            size: Some((1280, 720)),
            frames_per_second: Some(30.0),
            bitrate_kbps: Some(2500),
        };
        let metrics = StreamQuality { viewer: None, relay: RelayQuality::default() };
        let duration = Duration::from_secs(60);
        let events = [
            SutantraEvent::StreamRegistered { stream_id, creator: viewer },
            SutantraEvent::PaymentReceived { stream_id, amount, settled: false },
            SutantraEvent::AccessGranted { viewer, stream_id },
            SutantraEvent::StreamStarted { stream_id, quality },
            SutantraEvent::ViewerJoined { stream_id, viewer_count: 1u32 },
            SutantraEvent::StreamEnded { stream_id, duration },
            SutantraEvent::PaymentDue { stream_id, viewer, amount },
            SutantraEvent::QualityReport { stream_id, metrics },
        ];
        let bus = Bus::new();
        let receiver = bus.subscribe();
        for event in &events {
            bus.publish(is_event(event.clone()));
        }
        for event in events {
            assert_eq!(receiver.try_recv(), Some(Received::Value(event)));
        }
    }
}
