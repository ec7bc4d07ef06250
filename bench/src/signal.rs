//! How a client and a server exchange their session descriptions.

pub mod janus;
pub mod livekit;
pub mod whip;

use str0m::Rtc;
use str0m::change::{SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind, Mid};

use crate::client::Role;
use crate::http::{Base, HttpError};

/// A server and the signalling that it speaks.
#[derive(Debug, Clone)]
pub enum Target {
    /// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) at `/whip/STREAM` and `/whep/STREAM`.
    Whip(Base),
    /// LiveKit's WebSocket; each stream is a room.
    LiveKit(livekit::Access),
    /// The videoroom plugin of Janus behind its HTTP API; each stream is a room.
    Janus(Base),
}

impl Target {
    /// A WHIP and WHEP server at `http://host:port`.
    ///
    /// # Errors
    /// Any other form of address.
    pub fn whip(url: &str) -> Result<Self, HttpError> {
        Base::parse(url).map(Self::Whip)
    }

    /// Where HTTP is served: `/metrics` is asked for there.
    pub fn base(&self) -> &Base {
        match self {
            Self::Whip(base) | Self::Janus(base) => base,
            Self::LiveKit(access) => &access.base,
        }
    }
}

/// What an exchange of descriptions left behind.
#[derive(Default)]
pub struct Signalled {
    /// The publisher's sections; a viewer that answers an offer needs none.
    pub mids: Option<Mids>,
    /// The data channel that was offered.
    pub channel: Option<ChannelId>,
    /// What [`crate::client::Joiner::leave`] ends the session by.
    pub session_path: Option<String>,
    /// A connection that stays open with the session and says more.
    pub connection: Option<livekit::Connection>,
}

/// The two media sections of an offer.
#[derive(Debug, Clone, Copy)]
pub struct Mids {
    /// Opus.
    pub audio: Mid,
    /// VP8.
    pub video: Mid,
}

/// Names that a publisher gives its tracks.
pub const AUDIO_TRACK: &str = "audio-track";
/// See [`AUDIO_TRACK`].
pub const VIDEO_TRACK: &str = "video-track";

/// Our own offer of audio and video, and of an unordered data channel where a label is given.
pub fn offer(
    rtc: &mut Rtc,
    role: Role,
    channel: Option<&str>,
) -> (SdpOffer, SdpPendingOffer, Mids, Option<ChannelId>) {
    let direction = match role {
        Role::Publisher => Direction::SendOnly,
        Role::Viewer => Direction::RecvOnly,
    };
    let mut api = rtc.sdp_api();
    let mut add =
        |kind, track: &str| api.add_media(kind, direction, None, Some(track.into()), None);
    let audio = add(MediaKind::Audio, AUDIO_TRACK);
    let video = add(MediaKind::Video, VIDEO_TRACK);
    let channel = channel.map(|label| {
        api.add_channel_with_config(ChannelConfig {
            label: label.to_owned(),
            ordered: false,
            reliability: Reliability::Reliable,
            ..ChannelConfig::default()
        })
    });
    let (offer, pending) = api.apply().expect("two media were added");
    (offer, pending, Mids { audio, video }, channel)
}
