//! A deliberately plain SFU for comparison: one thread, one socket, every packet through str0m's
//! `write_rtp`, one system call a datagram.
//!
//! It is what a careful first version looks like, not a straw man: payloads are shared between
//! viewers, viewers begin at a keyframe, retransmissions, reports and feedback are str0m's.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use str0m::change::SdpOffer;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::Codec;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

use crate::{payload, socket};

const DATAGRAM_BYTES_MAX: usize = 2048;
/// What the relay under test asks for, too: a burst of work must not drop the publisher's packets.
const RECEIVE_BUFFER_BYTES: i32 = 4 << 20;
/// Longest HTTP request.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Longest wait for a request to arrive whole.
const REQUEST_MAX: Duration = Duration::from_millis(500);
/// Least time between two keyframe requests to a publisher.
const KEYFRAME_INTERVAL_MIN: Duration = Duration::from_millis(300);
/// Datagrams taken before timers and HTTP get their turn.
const DATAGRAMS_PER_TURN_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Publisher,
    Viewer,
}

struct Session {
    role: Role,
    stream: String,
    rtc: Rtc,
    deadline: Instant,
    connected: bool,
    /// Payload types and sections of this session's SDP.
    audio: Option<(Mid, Pt)>,
    video: Option<(Mid, Pt)>,
    /// Publisher's sequence number to ours: subtracted, so that ours begins below 65,536.
    audio_base: Option<u64>,
    video_base: Option<u64>,
    /// A viewer waits for a keyframe of this publisher; asked for when the interval allows it.
    keyframe_wanted: bool,
    keyframe_asked_at: Option<Instant>,
}

impl Session {
    fn due(&self) -> Instant {
        self.keyframe_due().map_or(self.deadline, |due| due.min(self.deadline))
    }

    fn keyframe_due(&self) -> Option<Instant> {
        let may_ask_at = self.keyframe_asked_at.map(|at| at + KEYFRAME_INTERVAL_MIN);
        self.keyframe_wanted.then(|| may_ask_at.unwrap_or(self.deadline))
    }
}

struct Sfu {
    socket: UdpSocket,
    local: SocketAddr,
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    sessions: HashMap<u64, Session>,
    by_address: HashMap<SocketAddr, u64>,
    next_key: u64,
}

/// Serves WHIP and WHEP on `http` and media on `udp`, for ever.
pub fn run(http: SocketAddr, udp: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(http).with_context(|| format!("HTTP on {http}"))?;
    listener.set_nonblocking(true)?;
    let socket = UdpSocket::bind(udp).with_context(|| format!("UDP on {udp}"))?;
    socket.set_nonblocking(true)?;
    socket::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
    let crypto = Arc::new(str0m::crypto::from_feature_flags());
    let certificate =
        crypto.dtls_provider.generate_certificate().context("no DTLS certificate could be made")?;
    let mut sfu = Sfu {
        local: socket.local_addr()?,
        socket,
        crypto,
        certificate,
        sessions: HashMap::new(),
        by_address: HashMap::new(),
        next_key: 0,
    };
    println!("listening on http://{} and UDP {}", listener.local_addr()?, sfu.local);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        sfu.wait(&listener)?;
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            match sfu.socket.recv_from(&mut buffer) {
                Ok((bytes, from)) => sfu.handle_datagram(from, &buffer[..bytes]),
                // ConnectionRefused is an earlier send to a viewer that has gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("UDP"),
            }
        }
        if let Ok((stream, _)) = listener.accept()
            && let Err(error) = sfu.handle_http(stream)
        {
            eprintln!("HTTP: {error}");
        }
        sfu.handle_timers();
    }
}

impl Sfu {
    fn wait(&self, listener: &TcpListener) -> io::Result<()> {
        let now = Instant::now();
        let due = self.sessions.values().map(Session::due).min();
        let span = due.map_or(Duration::from_secs(1), |due| due.saturating_duration_since(now));
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(self.socket.as_raw_fd()), poll(listener.as_raw_fd())];
        let ms = span.min(Duration::from_secs(1)).as_micros().div_ceil(1000) as libc::c_int;
        // SAFETY: `fds` holds two valid entries, and both descriptors are open.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) };
        if ready >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }

    fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        let Ok(contents) = datagram.try_into() else { return };
        let receive =
            Receive { proto: Protocol::Udp, source: from, destination: self.local, contents };
        let input = Input::Receive(now, receive);
        let known = self.by_address.get(&from).copied();
        let key = known.filter(|key| self.sessions.contains_key(key)).or_else(|| {
            self.sessions.iter().find(|(_, s)| s.rtc.accepts(&input)).map(|(key, _)| *key)
        });
        let Some(key) = key else { return };
        self.by_address.insert(from, key);
        let session = self.sessions.get_mut(&key).expect("found above");
        if session.rtc.handle_input(input).is_err() {
            self.close(key);
            return;
        }
        self.drain(key, now);
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.due() <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.advance(key, now);
        }
    }

    fn advance(&mut self, key: u64, now: Instant) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let may_ask_at = session.keyframe_asked_at.map(|at| at + KEYFRAME_INTERVAL_MIN);
        if session.keyframe_wanted && may_ask_at.is_none_or(|at| at <= now) {
            (session.keyframe_wanted, session.keyframe_asked_at) = (false, Some(now));
            let mid = session.video.map(|(mid, _)| mid);
            let mut api = session.rtc.direct_api();
            if let Some(track) = mid.and_then(|mid| api.stream_rx_by_mid(mid, None)) {
                track.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
        match session.rtc.handle_input(Input::Timeout(now)) {
            Ok(()) => self.drain(key, now),
            Err(_) => self.close(key),
        }
    }

    /// Polls a session's outputs until a deadline remains; packets and requests go on from here.
    fn drain(&mut self, key: u64, now: Instant) {
        let (mut packets, mut keyframe_wanted) = (Vec::new(), false);
        loop {
            let Some(session) = self.sessions.get_mut(&key) else { return };
            match session.rtc.poll_output() {
                Ok(Output::Timeout(deadline)) => {
                    session.deadline = deadline;
                    break;
                }
                Ok(Output::Transmit(transmit)) => {
                    // A datagram that the kernel refuses is lost, as on any network.
                    let _lost = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(event)) => match event {
                    Event::Connected => {
                        session.connected = true;
                        keyframe_wanted |= session.role == Role::Viewer;
                    }
                    Event::RtpPacket(packet) if session.role == Role::Publisher => {
                        packets.push(packet);
                    }
                    Event::KeyframeRequest(_) => keyframe_wanted = true,
                    Event::Closed
                    | Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                        self.close(key);
                        return;
                    }
                    // Nothing else concerns a relay that only forwards.
                    _ => {}
                },
                Err(_) => {
                    self.close(key);
                    return;
                }
            }
        }
        for packet in packets {
            self.forward(key, &packet, now);
        }
        if keyframe_wanted {
            self.request_keyframe(key, now);
        }
    }

    fn forward(&mut self, publisher: u64, packet: &RtpPacket, now: Instant) {
        let Some(source) = self.sessions.get(&publisher) else { return };
        let pt = packet.header.payload_type;
        let is_video = source.video.is_some_and(|(_, video_pt)| video_pt == pt);
        let stream = source.stream.clone();
        let begins = is_video && payload::starts_keyframe(&packet.payload);
        let viewers = self.viewers_of(&stream);
        for viewer in viewers {
            let session = self.sessions.get_mut(&viewer).expect("listed above");
            let (track, base) = match is_video {
                true => (session.video, &mut session.video_base),
                false => (session.audio, &mut session.audio_base),
            };
            let Some((mid, pt)) = track else { continue };
            if base.is_none() && is_video && !begins {
                continue;
            }
            let base = *base.get_or_insert(*packet.seq_no);
            let Some(behind) = (*packet.seq_no).checked_sub(base) else { continue };
            let mut api = session.rtc.direct_api();
            let Some(track) = api.stream_tx_by_mid(mid, None) else { continue };
            let payload = Arc::clone(&packet.payload);
            let time = packet.header.timestamp;
            let write = RtpWrite::new(pt, (1000 + behind).into(), time, now, payload);
            track.write_rtp(write.marker(packet.header.marker).nackable(is_video));
            self.advance(viewer, now);
        }
    }

    fn viewers_of(&self, stream: &str) -> Vec<u64> {
        let watches = |s: &Session| s.role == Role::Viewer && s.connected && s.stream == stream;
        self.sessions.iter().filter(|(_, session)| watches(session)).map(|(key, _)| *key).collect()
    }

    /// Asks the publisher of the stream that `asker` watches.
    fn request_keyframe(&mut self, asker: u64, now: Instant) {
        let Some(stream) = self.sessions.get(&asker).map(|session| session.stream.clone()) else {
            return;
        };
        let publishes = |s: &Session| s.role == Role::Publisher && s.stream == stream;
        let found = self.sessions.iter_mut().find(|(_, session)| publishes(session));
        let Some((&key, publisher)) = found else { return };
        publisher.keyframe_wanted = true;
        self.advance(key, now);
    }

    fn close(&mut self, key: u64) {
        self.sessions.remove(&key);
        self.by_address.retain(|_, session| *session != key);
    }

    fn handle_http(&mut self, mut stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(REQUEST_MAX))?;
        let request = read_request(&mut stream)?;
        let (status, location, body) = match self.answer(&request) {
            Ok(Some((key, answer))) => {
                ("201 Created", format!("Location: /session/{key}\r\n"), answer)
            }
            Ok(None) => ("200 OK", String::new(), String::new()),
            Err(error) => ("400 Bad Request", String::new(), error.to_string()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{location}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> anyhow::Result<Option<(u64, String)>> {
        let mut path = request.path.trim_start_matches('/').split('/');
        let (endpoint, name) = (path.next().unwrap_or(""), path.next().unwrap_or(""));
        let role = match (request.method.as_str(), endpoint) {
            ("POST", "whip") => Role::Publisher,
            ("POST", "whep") => Role::Viewer,
            ("DELETE", "session") => {
                self.close(name.parse()?);
                return Ok(None);
            }
            (method, _) => anyhow::bail!("{method} {} is unknown", request.path),
        };
        let now = Instant::now();
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .set_ice_lite(true)
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(self.local, "udp")?);
        let offer = SdpOffer::from_sdp_string(&request.body)?;
        let answer = rtc.sdp_api().accept_offer(offer)?.to_sdp_string();
        let track = |kind: MediaKind, codec: Codec| {
            let mids = answer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
            let mid = mids
                .map(|mid| Mid::from(mid.trim()))
                .find(|mid| rtc.media(*mid).is_some_and(|media| media.kind() == kind))?;
            let params = rtc.codec_config().params().iter();
            let pt = params.into_iter().find(|params| params.spec().codec == codec)?.pt();
            Some((mid, pt))
        };
        let audio = track(MediaKind::Audio, Codec::Opus);
        let video = track(MediaKind::Video, Codec::Vp8);
        let key = self.next_key;
        self.next_key += 1;
        let session = Session {
            role,
            stream: name.to_owned(),
            rtc,
            deadline: now,
            connected: false,
            audio,
            video,
            audio_base: None,
            video_base: None,
            keyframe_wanted: false,
            keyframe_asked_at: None,
        };
        self.sessions.insert(key, session);
        Ok(Some((key, answer)))
    }
}

struct Request {
    method: String,
    path: String,
    body: String,
}

fn read_request(stream: &mut impl Read) -> anyhow::Result<Request> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(head_bytes) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = std::str::from_utf8(&bytes[..head_bytes])?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
            });
            let length = length.transpose()?.unwrap_or(0).min(REQUEST_BYTES_MAX);
            if let Some(body) = bytes.get(head_bytes + 4..head_bytes + 4 + length) {
                let mut first = head.lines().next().unwrap_or("").split(' ');
                let (method, path) = (first.next(), first.next());
                return Ok(Request {
                    method: method.unwrap_or("").to_owned(),
                    path: path.unwrap_or("").to_owned(),
                    body: std::str::from_utf8(body)?.to_owned(),
                });
            }
        }
        let taken = stream.read(&mut chunk)?;
        anyhow::ensure!(
            taken > 0 && bytes.len() < REQUEST_BYTES_MAX,
            "the request is cut or too long"
        );
        bytes.extend_from_slice(&chunk[..taken]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_whole_and_a_cut_one_refused() {
        let text = "POST /whip/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nv=0";
        let request = read_request(&mut text.as_bytes()).expect("it is whole");
        assert_eq!((&*request.method, &*request.path, &*request.body), ("POST", "/whip/x", "v=0"));
        assert!(read_request(&mut &text.as_bytes()[..text.len() - 1]).is_err());
        assert!(read_request(&mut &b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"[..]).is_err());
        assert!(read_request(&mut &[b'a'; 2 * REQUEST_BYTES_MAX][..]).is_err());
    }
}
