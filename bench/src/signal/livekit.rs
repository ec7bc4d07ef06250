//! LiveKit's signalling (`livekit_rtc.proto`): protobuf messages over a WebSocket at `/rtc`, which
//! stays open as long as the session.
//!
//! A publisher may not subscribe and a viewer may not publish, so each has one peer connection: the
//! publisher offers, the viewer is offered what its room has, again whenever that changes.

mod messages;
mod token;

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use prost::Message as _;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::error::SdpError;
use str0m::{Candidate, Rtc, RtcError};
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

use self::messages::{
    AddTrack, LeaveRequest, Ping, Request, Response, SessionDescription, SignalRequest,
    SignalResponse, Target as Side, TrackSource, TrackType, Trickle,
};
use super::{AUDIO_TRACK, Mids, Signalled, VIDEO_TRACK};
use crate::client::Role;
use crate::http::{Base, HttpError};

/// How long the server may take for each message of a publisher's start.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two looks at the connection of a young session.
const LOOK_YOUNG: Duration = Duration::from_millis(20);
/// Between two looks later on: pings of the server are answered then.
const LOOK_LATER: Duration = Duration::from_millis(500);
/// How long after the last description a session counts as young.
const YOUNG: Duration = Duration::from_secs(3);
/// Between two pings of ours; the server gives a silent client 15 s.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Version 9 brings media in the first offer and disconnect updates; later ones add nothing that a
/// load needs.
const PROTOCOL: u32 = 9;

/// A server and the key with which tokens for it are signed.
#[derive(Clone)]
pub struct Access {
    /// Where its HTTP is.
    pub base: Base,
    /// Name of the key.
    pub key: String,
    /// The key.
    pub secret: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("base", &self.base).field("key", &self.key).finish()
    }
}

/// Why LiveKit's signalling failed.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No connection.
    #[error("LiveKit's address: {0}")]
    Address(#[from] HttpError),
    /// The socket failed, or stayed silent for too long.
    #[error("LiveKit's WebSocket: {0}")]
    Socket(#[from] io::Error),
    /// The WebSocket failed.
    #[error("LiveKit's WebSocket: {0}")]
    WebSocket(#[source] Box<tungstenite::Error>),
    /// The request was answered with another status than 101.
    #[error("/rtc: HTTP status {0}: is the key the server's, and its version 1.5 or later?")]
    Refused(u16),
    /// Not a message of the protocol.
    #[error("LiveKit's message: {0}")]
    Message(#[from] prost::DecodeError),
    /// The server ended the session.
    #[error("LiveKit ended the session, reason {reason} of its DisconnectReason")]
    Left {
        /// Number in `livekit_models.proto`.
        reason: i32,
    },
    /// A description does not parse.
    #[error("LiveKit's SDP: {0}")]
    Sdp(#[from] SdpError),
    /// A description does not fit.
    #[error("LiveKit's SDP does not fit: {0}")]
    Rtc(#[from] RtcError),
}

impl From<tungstenite::Error> for SignalError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => Self::Socket(error),
            tungstenite::Error::Http(response) => Self::Refused(response.status().as_u16()),
            error => Self::WebSocket(Box::new(error)),
        }
    }
}

/// The open WebSocket of one session.
pub struct Connection {
    socket: WebSocket<TcpStream>,
    side: Side,
    /// A description came or went.
    described: Instant,
    looked: Instant,
    pinged: Instant,
}

/// Joins the room `stream` as `identity`. A publisher comes back with the answer taken; a viewer is
/// offered its media later, by [`Connection::look`].
pub fn join(
    access: &Access,
    role: Role,
    stream: &str,
    identity: &str,
    rtc: &mut Rtc,
) -> Result<Signalled, SignalError> {
    let token = token::sign(access, role, stream, identity, unix_seconds());
    let mut connection = Connection::open(access, role, &token)?;
    let mids = match role {
        Role::Publisher => Some(connection.publish(rtc)?),
        Role::Viewer => None,
    };
    connection.socket.get_ref().set_nonblocking(true)?;
    Ok(Signalled { mids, connection: Some(connection), ..Signalled::default() })
}

fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Connection {
    fn open(access: &Access, role: Role, token: &str) -> Result<Self, SignalError> {
        let authority = access.base.authority();
        let url = format!(
            "ws://{authority}/rtc?access_token={token}&auto_subscribe=1&adaptive_stream=0\
             &protocol={PROTOCOL}"
        );
        let stream = TcpStream::connect_timeout(&access.base.resolve()?, ANSWER_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let (socket, _) = tungstenite::client(url, stream).map_err(|error| match error {
            HandshakeError::Failure(error) => error.into(),
            HandshakeError::Interrupted(_) => SignalError::Socket(io::ErrorKind::TimedOut.into()),
        })?;
        let side = match role {
            Role::Publisher => Side::Publisher,
            Role::Viewer => Side::Subscriber,
        };
        let now = Instant::now();
        Ok(Self { socket, side, described: now, looked: now, pinged: now })
    }

    /// Names the tracks, then offers them: the server matches both by the track's name.
    fn publish(&mut self, rtc: &mut Rtc) -> Result<Mids, SignalError> {
        self.await_response(|response| matches!(response, Response::Join(_)).then_some(()))?;
        for (cid, kind, source) in [
            (AUDIO_TRACK, TrackType::Audio, TrackSource::Microphone),
            (VIDEO_TRACK, TrackType::Video, TrackSource::Camera),
        ] {
            self.send(Request::AddTrack(AddTrack::new(cid, kind, source)))?;
            self.await_response(|response| match response {
                Response::TrackPublished(track) => (track.cid == cid).then_some(()),
                _ => None,
            })?;
        }
        let (offer, pending, mids, _) = super::offer(rtc, Role::Publisher, None);
        self.send(Request::Offer(SessionDescription::offer(offer.to_sdp_string())))?;
        let mut candidates = Vec::new();
        let answer = self.await_response(|response| match response {
            Response::Answer(answer) => Some(answer.sdp),
            Response::Trickle(trickle) => {
                candidates.push(trickle);
                None
            }
            _ => None,
        })?;
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer)?)?;
        candidates.iter().for_each(|trickle| self.add_candidate(rtc, trickle));
        Ok(mids)
    }

    /// Reads, blocking, until `found` is content.
    fn await_response<T>(
        &mut self,
        mut found: impl FnMut(Response) -> Option<T>,
    ) -> Result<T, SignalError> {
        let until = Instant::now() + ANSWER_MAX;
        while Instant::now() < until {
            match self.read()? {
                Some(Response::Leave(leave)) => return Err(left(&leave)),
                Some(response) => {
                    if let Some(found) = found(response) {
                        return Ok(found);
                    }
                }
                None => {}
            }
        }
        Err(SignalError::Socket(io::ErrorKind::TimedOut.into()))
    }

    /// When [`Connection::look`] is due.
    pub fn due(&self) -> Instant {
        let young = self.looked.saturating_duration_since(self.described) < YOUNG;
        self.looked + if young { LOOK_YOUNG } else { LOOK_LATER }
    }

    /// Takes what the server said meanwhile; true when media were negotiated anew.
    ///
    /// # Errors
    /// The session is over.
    pub fn look(&mut self, now: Instant, rtc: &mut Rtc) -> Result<bool, SignalError> {
        self.looked = now;
        if now.saturating_duration_since(self.pinged) >= PING_EVERY {
            self.pinged = now;
            let timestamp = i64::try_from(unix_seconds() * 1000).unwrap_or(i64::MAX);
            self.send(Request::Ping(Ping { timestamp }))?;
        }
        match self.socket.flush() {
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            flushed => flushed?,
        }
        let mut negotiated = false;
        loop {
            match self.read() {
                Ok(Some(Response::Offer(offer))) => {
                    self.described = now;
                    negotiated = true;
                    let answer =
                        rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer.sdp)?)?;
                    let answer = SessionDescription::answer(answer.to_sdp_string(), offer.id);
                    self.send(Request::Answer(answer))?;
                }
                Ok(Some(Response::Trickle(trickle))) => self.add_candidate(rtc, &trickle),
                Ok(Some(Response::Leave(leave))) => return Err(left(&leave)),
                // Who else is in the room, and how well each hears, concerns no load.
                Ok(Some(Response::Join(_) | Response::Answer(_) | Response::TrackPublished(_)))
                | Ok(None) => {}
                Err(SignalError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(negotiated);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says goodbye, so that the server need not wait for the connectivity checks to fail.
    pub fn leave(&mut self) {
        // The session is over on our side whether the server hears of it or not.
        let _unheard = self.send(Request::Leave(LeaveRequest::by_client()));
        let _closed = self.socket.close(None);
    }

    fn send(&mut self, request: Request) -> Result<(), SignalError> {
        let message = SignalRequest { message: Some(request) }.encode_to_vec();
        match self.socket.send(Message::Binary(message.into())) {
            // What the socket's buffer has no room for leaves with the next look.
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(())
            }
            sent => Ok(sent?),
        }
    }

    /// The next message that says something to us; `None` for one that does not.
    fn read(&mut self) -> Result<Option<Response>, SignalError> {
        match self.socket.read()? {
            Message::Binary(bytes) => Ok(SignalResponse::decode(bytes)?.message),
            // A ping is answered by the library, a close ends the next read with an error; text
            // comes to those alone who sent text.
            _ => Ok(None),
        }
    }

    fn add_candidate(&self, rtc: &mut Rtc, trickle: &Trickle) {
        if trickle.target == self.side as i32
            && let Some(candidate) = candidate(&trickle.candidate_init)
        {
            rtc.add_remote_candidate(candidate);
        }
    }
}

fn left(leave: &LeaveRequest) -> SignalError {
    SignalError::Left { reason: leave.reason }
}

/// The candidate of an `RTCIceCandidateInit`; `None` for the end of candidates, and for those that
/// are none over UDP.
fn candidate(init: &str) -> Option<Candidate> {
    #[derive(serde::Deserialize)]
    struct Init {
        candidate: String,
    }
    let init: Init = serde_json::from_str(init).ok()?;
    let line = init.candidate.trim_start_matches("a=");
    let found = Candidate::from_sdp_string(line).ok()?;
    (found.proto() == str0m::net::Protocol::Udp).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickled_candidate_is_read_and_others_are_not_guessed() {
        let init = |line: &str| format!(r#"{{"candidate":"{line}","sdpMid":"0"}}"#);
        let udp = "candidate:1 1 udp 2130706431 127.0.0.1 7882 typ host";
        let found = candidate(&init(udp)).expect("a UDP host candidate");
        assert_eq!(found.addr().to_string(), "127.0.0.1:7882");
        for refused in [
            init("candidate:1 1 tcp 1 127.0.0.1 7881 typ host tcptype passive"),
            init(""),
            init("candidate:1"),
            "no JSON".to_owned(),
        ] {
            assert!(candidate(&refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn a_server_that_refuses_the_token_is_told_with_its_status() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 2048];
            let bytes = stream.read(&mut request).expect("a request");
            let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).expect("it listens");
            String::from_utf8_lossy(&request[..bytes]).into_owned()
        });
        let base = Base::parse(&url).expect("an address");
        let access = Access { base, key: "key".into(), secret: "secret".into() };
        let mut rtc = Rtc::builder().build(Instant::now());
        let error = join(&access, Role::Viewer, "room", "viewer-1", &mut rtc).err();
        assert!(matches!(error, Some(SignalError::Refused(401))), "{error:?}");
        let request = server.join().expect("it was asked");
        assert!(request.starts_with("GET /rtc?access_token="), "{request}");
        assert!(!format!("{access:?}").contains("secret"), "a key is not printed");
    }
}
