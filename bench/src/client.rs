//! One WebRTC client: str0m behind its own UDP socket, joined by the server's signalling.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::channel::ChannelId;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::error::SdpError;
use str0m::format::Codec;
use str0m::media::Pt;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use crate::http::HttpError;
use crate::payload::Kind;
use crate::signal::{self, Mids, Signalled, Target, janus, livekit, whip};
use crate::socket::{self, Arrival, Gro};

/// What a client does with the stream it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends.
    Publisher,
    /// Receives.
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
    /// The server's WebSocket.
    #[error(transparent)]
    LiveKit(livekit::SignalError),
    /// The server's rooms.
    #[error(transparent)]
    Janus(#[from] janus::SignalError),
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

impl From<livekit::SignalError> for JoinError {
    /// A status is an answer, and a run goes on without that client; the rest is no server's word.
    fn from(error: livekit::SignalError) -> Self {
        match error {
            livekit::SignalError::Refused(status) => {
                Self::Refused { path: "/rtc".to_owned(), status, reason: error.to_string() }
            }
            error => Self::LiveKit(error),
        }
    }
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
    janus: Option<janus::Session>,
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
    /// What a publisher sends into; none with a server that offers.
    mids: Option<Mids>,
    channel: Option<ChannelId>,
    connection: Option<livekit::Connection>,
    ended_by: Option<livekit::SignalError>,
}

/// Payload types in use: an offer of the server's may change them.
struct PayloadTypes {
    video: Pt,
    video_rtx: Option<Pt>,
    audio: Pt,
}

impl PayloadTypes {
    fn of(rtc: &Rtc) -> Self {
        let codec = |codec: Codec| {
            let params = rtc.codec_config().params().iter();
            let found = params.into_iter().find(|params| params.spec().codec == codec);
            let params = found.expect("both codecs were enabled when the client was made");
            (params.pt(), params.resend())
        };
        let ((video, video_rtx), (audio, _)) = (codec(Codec::Vp8), codec(Codec::Opus));
        Self { video, video_rtx, audio }
    }
}

impl Joiner {
    /// Prepares clients for `target`.
    pub fn new(target: Target, bearer: Option<String>, gro: Gro) -> Result<Self, JoinError> {
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| std::io::Error::other("no DTLS certificate could be made"))?;
        let janus = match &target {
            Target::Janus(base) => Some(janus::Session::begin(base)?),
            Target::Whip(_) | Target::LiveKit(_) => None,
        };
        let server = target.base().resolve()?;
        Ok(Self { server, target, janus, bearer, gro, crypto, certificate })
    }

    /// Joins `stream` and takes what the server answers. Blocks on signalling only.
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
        let whip_alone = with.exchange.is_some() || with.channel.is_some();
        let Signalled { mids, channel, session_path, connection } = match &self.target {
            Target::Whip(base) => {
                let (offer, pending, mids, channel) = signal::offer(&mut rtc, role, with.channel);
                let offer = offer.to_sdp_string();
                let (answer, session_path) = match with.exchange {
                    Some(exchange) => exchange(&offer)?,
                    None => whip::exchange(base, self.bearer.as_deref(), role, stream, &offer)?,
                };
                let answer = SdpAnswer::from_sdp_string(&answer)?;
                rtc.sdp_api().accept_answer(pending, answer)?;
                Signalled { mids: Some(mids), channel, session_path, connection: None }
            }
            Target::LiveKit(_) | Target::Janus(_) if whip_alone => {
                return Err(JoinError::Paying("a server without WHIP takes no vouchers".into()));
            }
            Target::LiveKit(access) => {
                // The port is ours alone, on this host, as long as the session lives.
                let identity = match role {
                    Role::Publisher => format!("publisher-{}", local.port()),
                    Role::Viewer => format!("viewer-{}", local.port()),
                };
                livekit::join(access, role, stream, &identity, &mut rtc)?
            }
            Target::Janus(_) => {
                let janus = self.janus.as_ref().expect("begun with the joiner");
                janus.join(role, stream, &mut rtc)?
            }
        };
        let payload_types = PayloadTypes::of(&rtc);
        let client = Client {
            socket,
            local,
            rtc,
            deadline: started,
            started,
            video_pt: payload_types.video,
            audio_pt: payload_types.audio,
            video_rtx_pt: payload_types.video_rtx,
            mids,
            channel,
            connection,
            ended_by: None,
        };
        Ok(Joined { client, session_path })
    }

    /// Ends a session that has a path; the HTTP status.
    pub fn leave(&self, session_path: &str) -> Result<u16, HttpError> {
        if let Some(janus) = &self.janus {
            return janus.leave(session_path);
        }
        Ok(self.target.base().request("DELETE", session_path, self.bearer.as_deref(), "")?.status)
    }
}

impl Client {
    /// When [`Client::handle_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        let look = self.connection.as_ref().map(livekit::Connection::due);
        look.map_or(self.deadline, |look| look.min(self.deadline))
    }

    /// False once the transport has failed or closed, or the server has ended the session.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// Drives time. Afterwards, as after every input, outputs are polled until a deadline remains.
    pub fn handle_timeout(&mut self, now: Instant, on: impl FnMut(Event)) -> Result<(), RtcError> {
        if self.connection.as_ref().is_some_and(|connection| connection.due() <= now) {
            self.look(now);
        }
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain(on)
    }

    /// Takes what the server's signalling says after the join.
    fn look(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        match connection.look(now, &mut self.rtc) {
            Ok(true) => {
                let types = PayloadTypes::of(&self.rtc);
                (self.video_pt, self.audio_pt) = (types.video, types.audio);
                self.video_rtx_pt = types.video_rtx;
            }
            Ok(false) => {}
            // The end of the session is counted and told by whoever drives the client.
            Err(error) => {
                self.connection = None;
                self.ended_by = Some(error);
                self.rtc.disconnect();
            }
        }
    }

    /// Why the server's signalling ended the session, if it did.
    pub fn ended_by(&self) -> Option<&livekit::SignalError> {
        self.ended_by.as_ref()
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
        let Some(mids) = self.mids else { return self.handle_timeout(now, on) };
        let (mid, pt) = match rtp.kind {
            Kind::Audio => (mids.audio, self.audio_pt),
            Kind::Video => (mids.video, self.video_pt),
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
        if let Some(mut connection) = self.connection.take() {
            connection.leave();
        }
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
