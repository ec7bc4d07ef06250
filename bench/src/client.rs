//! One WebRTC client: str0m behind its own UDP socket, joined over WHIP or WHEP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::error::SdpError;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use crate::http::{HttpError, location_path};
use crate::payload::Kind;
use crate::signal::Target;
use crate::socket::{self, Arrival, Gro};

/// What a client does with the stream it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends, by WHIP (RFC 9725).
    Publisher,
    /// Receives, by WHEP (draft-ietf-wish-whep).
    Viewer,
}

/// Why a client could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No socket.
    #[error("UDP socket: {0}")]
    Socket(#[from] std::io::Error),
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer other than 201.
    #[error("{path}: HTTP status {status}: {reason}")]
    Refused {
        /// Asked for.
        path: String,
        /// Answered.
        status: u16,
        /// First line of the body.
        reason: String,
    },
    /// The answer's SDP does not parse.
    #[error("SDP answer: {0}")]
    Sdp(#[from] SdpError),
    /// The answer does not fit the offer.
    #[error("SDP answer does not fit: {0}")]
    Rtc(#[from] RtcError),
    /// The server and the one who pays do not agree.
    #[error("paying: {0}")]
    Paying(String),
}

/// Called with the client's own address before the server is asked.
pub type OnBound<'a> = &'a mut dyn FnMut(SocketAddr) -> std::io::Result<()>;

/// Takes an SDP offer to the server in place of the target's own signalling; the answer's SDP, and
/// the session's path.
pub type Exchange<'a> = &'a mut dyn FnMut(&str) -> Result<(String, Option<String>), JoinError>;

/// What a join may need beside role and stream.
#[derive(Default)]
pub struct JoinWith<'a> {
    /// See [`OnBound`].
    pub bound: Option<OnBound<'a>>,
    /// Label of a data channel, unordered, that is offered with the media.
    pub channel: Option<&'a str>,
    /// See [`Exchange`].
    pub exchange: Option<Exchange<'a>>,
}

/// What all clients of a run share.
pub struct Joiner {
    target: Target,
    server: SocketAddr,
    bearer: Option<String>,
    gro: Gro,
    crypto: Arc<CryptoProvider>,
    // One certificate for all: a key pair each would measure our key generation, not the server.
    certificate: DtlsCert,
}

/// A client that was admitted: connectivity checks and DTLS follow once somebody drives it.
pub struct Joined {
    /// To be driven.
    pub client: Client,
    /// Path to `DELETE`, where the server gave one.
    pub session_path: Option<String>,
}

/// Transport and tracks of one endpoint.
pub struct Client {
    /// Its own 4-tuple.
    pub socket: UdpSocket,
    local: SocketAddr,
    rtc: Rtc,
    deadline: Instant,
    /// When the `POST` began.
    pub started: Instant,
    /// Payload types of the offer.
    pub video_pt: Pt,
    /// Payload types of the offer.
    pub audio_pt: Pt,
    video_rtx_pt: Option<Pt>,
    video_mid: Mid,
    audio_mid: Mid,
    channel: Option<ChannelId>,
}

impl Joiner {
    /// Prepares clients for `target`.
    pub fn new(target: Target, bearer: Option<String>, gro: Gro) -> Result<Self, JoinError> {
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| std::io::Error::other("no DTLS certificate could be made"))?;
        Ok(Self { server: target.base().resolve()?, target, bearer, gro, crypto, certificate })
    }

    /// Offers audio and video for `stream` and takes the answer. Blocks on HTTP only.
    pub fn join(&self, role: Role, stream: &str) -> Result<Joined, JoinError> {
        self.join_with(role, stream, JoinWith::default())
    }

    /// As [`Joiner::join`], with hooks.
    pub fn join_with(
        &self,
        role: Role,
        stream: &str,
        with: JoinWith<'_>,
    ) -> Result<Joined, JoinError> {
        let started = Instant::now();
        let (socket, local) = socket::bind_towards(self.server, self.gro)?;
        if let Some(bound) = with.bound {
            bound(local)?;
        }
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(started);
        let candidate = Candidate::host(local, "udp").map_err(std::io::Error::other)?;
        rtc.add_local_candidate(candidate);
        let (direction, endpoint) = match role {
            Role::Publisher => (Direction::SendOnly, "whip"),
            Role::Viewer => (Direction::RecvOnly, "whep"),
        };
        let mut api = rtc.sdp_api();
        let audio_mid = api.add_media(MediaKind::Audio, direction, None, None, None);
        let video_mid = api.add_media(MediaKind::Video, direction, None, None, None);
        let channel = with.channel.map(|label| {
            api.add_channel_with_config(ChannelConfig {
                label: label.to_owned(),
                ordered: false,
                reliability: Reliability::Reliable,
                ..ChannelConfig::default()
            })
        });
        let (offer, pending) = api.apply().expect("two media were added");
        let offer = offer.to_sdp_string();
        let (answer, session_path) = match with.exchange {
            Some(exchange) => exchange(&offer)?,
            None => {
                let path = format!("/{endpoint}/{stream}");
                let bearer = self.bearer.as_deref();
                let answer = self.target.base().request("POST", &path, bearer, &offer)?;
                if answer.status != 201 {
                    let reason = answer.body.lines().next().unwrap_or_default().to_owned();
                    return Err(JoinError::Refused { path, status: answer.status, reason });
                }
                let location = answer.location.as_deref();
                let location = location.map(|location| location_path(location).to_owned());
                (answer.body, location)
            }
        };
        let sdp = SdpAnswer::from_sdp_string(&answer)?;
        rtc.sdp_api().accept_answer(pending, sdp)?;
        let codec = |codec: Codec| {
            let params = rtc.codec_config().params().iter();
            let found = params.into_iter().find(|params| params.spec().codec == codec);
            let params = found.expect("the codec was enabled above");
            (params.pt(), params.resend())
        };
        let ((video_pt, video_rtx_pt), (audio_pt, _)) = (codec(Codec::Vp8), codec(Codec::Opus));
        let client = Client {
            socket,
            local,
            rtc,
            deadline: started,
            started,
            video_pt,
            audio_pt,
            video_rtx_pt,
            video_mid,
            audio_mid,
            channel,
        };
        Ok(Joined { client, session_path })
    }

    /// Ends a session by `DELETE`; the HTTP status.
    pub fn leave(&self, session_path: &str) -> Result<u16, HttpError> {
        Ok(self.target.base().request("DELETE", session_path, self.bearer.as_deref(), "")?.status)
    }
}

impl Client {
    /// When [`Client::handle_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// False once the transport has failed or closed.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// Drives time. Afterwards, as after every input, outputs are polled until a deadline remains.
    pub fn handle_timeout(&mut self, now: Instant, on: impl FnMut(Event)) -> Result<(), RtcError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain(on)
    }

    /// Takes one datagram of `arrival`.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        arrival: &Arrival<'_>,
        datagram: &[u8],
        on: impl FnMut(Event),
    ) -> Result<(), RtcError> {
        let Ok(contents) = datagram.try_into() else { return Ok(()) };
        let source = arrival.from;
        let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
        self.rtc.handle_input(Input::Receive(now, receive))?;
        self.drain(on)
    }

    /// Sends one RTP packet; `packet` counts the track's packets from 0.
    pub fn send_rtp(
        &mut self,
        now: Instant,
        rtp: OutgoingRtp<'_>,
        on: impl FnMut(Event),
    ) -> Result<(), RtcError> {
        let (mid, pt) = match rtp.kind {
            Kind::Audio => (self.audio_mid, self.audio_pt),
            Kind::Video => (self.video_mid, self.video_pt),
        };
        let mut api = self.rtc.direct_api();
        if let Some(track) = api.stream_tx_by_mid(mid, None) {
            let seq = (SEQUENCE_START + rtp.packet).into();
            let write = str0m::rtp::RtpWrite::new(pt, seq, rtp.timestamp, now, rtp.payload);
            track.write_rtp(write.marker(rtp.marker).nackable(rtp.kind == Kind::Video));
        }
        self.handle_timeout(now, on)
    }

    /// Sends a binary message on the data channel; false while it is not open, or full.
    pub fn send_message(&mut self, message: &[u8]) -> Result<bool, RtcError> {
        match self.channel.and_then(|id| self.rtc.channel(id)) {
            Some(mut channel) => channel.write(true, message),
            None => Ok(false),
        }
    }

    /// Whether a packet's payload type is that of a retransmission (RFC 4588).
    pub fn is_rtx(&self, payload_type: u8) -> bool {
        self.video_rtx_pt.is_some_and(|pt| *pt == payload_type)
    }

    /// Begins the end: DTLS `close_notify` and RTCP BYE leave with the outputs.
    pub fn close(&mut self) {
        // A session that never connected has nothing to say; that is no error of the run.
        if self.rtc.close().is_ok() {
            let _closed = self.drain(|_| {});
        }
    }

    fn drain(&mut self, mut on: impl FnMut(Event)) -> Result<(), RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    // A full or refused send is a lost datagram: the protocols above repair it.
                    let _lost = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(event) => on(event),
            }
        }
    }
}

/// First sequence number: small, so that the rollover counter of SRTP begins at 0.
const SEQUENCE_START: u64 = 1000;

/// One packet of a publisher.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingRtp<'a> {
    /// Track.
    pub kind: Kind,
    /// Counts the track's packets from 0.
    pub packet: u64,
    /// In the codec's clock.
    pub timestamp: u32,
    /// Last packet of a frame.
    pub marker: bool,
    /// Without RTP header.
    pub payload: &'a [u8],
}

/// Longest time between two looks at a client's timers.
pub const TIMER_MAX: Duration = Duration::from_millis(500);
