//! The messages of `livekit_rtc.proto` that a load sends or reads, with the fields that it uses.
//! Field numbers are the protocol's; what is left out is skipped when it comes.

/// From client to server.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignalRequest {
    /// One of them.
    #[prost(oneof = "Request", tags = "1, 2, 4, 8, 16")]
    pub message: Option<Request>,
}

/// See [`SignalRequest`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Request {
    /// For the publisher's peer connection.
    #[prost(message, tag = "1")]
    Offer(SessionDescription),
    /// For the subscriber's.
    #[prost(message, tag = "2")]
    Answer(SessionDescription),
    /// A track will be offered.
    #[prost(message, tag = "4")]
    AddTrack(AddTrack),
    /// The end.
    #[prost(message, tag = "8")]
    Leave(LeaveRequest),
    /// `ping_req`: still there.
    #[prost(message, tag = "16")]
    Ping(Ping),
}

/// From server to client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignalResponse {
    /// One of them; `None` for those that say nothing to a load.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4, 6, 8")]
    pub message: Option<Response>,
}

/// See [`SignalResponse`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    /// The first message.
    #[prost(message, tag = "1")]
    Join(Join),
    /// To the publisher's offer.
    #[prost(message, tag = "2")]
    Answer(SessionDescription),
    /// What a subscriber is to receive.
    #[prost(message, tag = "3")]
    Offer(SessionDescription),
    /// A candidate of the server.
    #[prost(message, tag = "4")]
    Trickle(Trickle),
    /// To [`AddTrack`].
    #[prost(message, tag = "6")]
    TrackPublished(TrackPublished),
    /// The end.
    #[prost(message, tag = "8")]
    Leave(LeaveRequest),
}

/// `JoinResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Join {
    /// The viewer's connection is the one that matters.
    #[prost(bool, tag = "6")]
    pub subscriber_primary: bool,
}

/// `SessionDescription`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionDescription {
    /// `offer` or `answer`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Text.
    #[prost(string, tag = "2")]
    pub sdp: String,
    /// An answer carries its offer's.
    #[prost(uint32, tag = "3")]
    pub id: u32,
}

impl SessionDescription {
    /// The publisher's.
    pub fn offer(sdp: String) -> Self {
        Self { kind: "offer".to_owned(), sdp, id: 0 }
    }

    /// To the offer `id`.
    pub fn answer(sdp: String, id: u32) -> Self {
        Self { kind: "answer".to_owned(), sdp, id }
    }
}

/// `TrickleRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trickle {
    /// JSON of an `RTCIceCandidateInit`.
    #[prost(string, tag = "1")]
    pub candidate_init: String,
    /// Whose candidate.
    #[prost(enumeration = "Target", tag = "2")]
    pub target: i32,
}

/// `SignalTarget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Target {
    /// The peer connection that the client offers.
    Publisher = 0,
    /// The peer connection that the server offers.
    Subscriber = 1,
}

/// `AddTrackRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AddTrack {
    /// The track's name in the offer (`msid`).
    #[prost(string, tag = "1")]
    pub cid: String,
    /// For people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Which kind.
    #[prost(enumeration = "TrackType", tag = "3")]
    pub kind: i32,
    /// From where.
    #[prost(enumeration = "TrackSource", tag = "8")]
    pub source: i32,
    /// No redundant encoding (RFC 2198) of audio.
    #[prost(bool, tag = "13")]
    pub disable_red: bool,
}

impl AddTrack {
    /// A track without layers or redundancy.
    pub fn new(cid: &str, kind: TrackType, source: TrackSource) -> Self {
        let (kind, source) = (kind.into(), source.into());
        Self { cid: cid.to_owned(), name: cid.to_owned(), kind, source, disable_red: true }
    }
}

/// `TrackType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TrackType {
    /// Sound.
    Audio = 0,
    /// Picture.
    Video = 1,
}

/// `TrackSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TrackSource {
    /// Not said.
    Unknown = 0,
    /// Picture.
    Camera = 1,
    /// Sound.
    Microphone = 2,
}

/// `TrackPublishedResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrackPublished {
    /// As in [`AddTrack`].
    #[prost(string, tag = "1")]
    pub cid: String,
}

/// `LeaveRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaveRequest {
    /// `DisconnectReason`.
    #[prost(int32, tag = "2")]
    pub reason: i32,
}

impl LeaveRequest {
    /// `CLIENT_INITIATED`.
    pub fn by_client() -> Self {
        Self { reason: 1 }
    }
}

/// `Ping`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {
    /// ms since 1970.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn messages_have_the_protocols_bytes() {
        let track = AddTrack::new("a", TrackType::Video, TrackSource::Camera);
        let request = SignalRequest { message: Some(Request::AddTrack(track)) };
        // add_track = 4: cid = 1 "a", name = 2 "a", type = 3 VIDEO, source = 8 CAMERA,
        // disable_red = 13.
        let bytes = [0x22, 12, 0x0a, 1, b'a', 0x12, 1, b'a', 0x18, 1, 0x40, 1, 0x68, 1];
        assert_eq!(request.encode_to_vec(), bytes);
        assert_eq!(SignalRequest::decode(&bytes[..]), Ok(request));
        let answer = SessionDescription::answer("v=0".into(), 7);
        let request = SignalRequest { message: Some(Request::Answer(answer)) };
        let bytes = b"\x12\x0f\x0a\x06answer\x12\x03v=0\x18\x07";
        assert_eq!(request.encode_to_vec(), bytes);
    }

    #[test]
    fn a_message_that_says_nothing_to_a_load_is_skipped_and_a_torn_one_refused() {
        // connection_quality = 12, empty; then a trickle with `final` = 3 set.
        let skipped = SignalResponse::decode(&[0x62, 0][..]).expect("it is whole");
        assert_eq!(skipped.message, None);
        let trickle = SignalResponse::decode(&[0x22, 7, 0x0a, 1, b'x', 0x10, 1, 0x18, 1][..]);
        let trickle = trickle.expect("it is whole").message;
        let expected = Trickle { candidate_init: "x".into(), target: Target::Subscriber.into() };
        assert_eq!(trickle, Some(Response::Trickle(expected)));
        assert!(SignalResponse::decode(&[0x22, 9, 0x0a][..]).is_err());
    }
}
