//! A WebRTC viewer on str0m behind one UDP socket (draft-ietf-wish-whep, offer by the player).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chain_types::frame::PAY_CHANNEL_LABEL;
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId, Reliability},
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
};

/// Longest datagram that is read.
const DATAGRAM_BYTES: usize = 2048;
/// Between two looks at the connection's own timers.
const TIMER_MAX: Duration = Duration::from_millis(100);

/// What came.
pub enum Seen {
    /// ICE and DTLS are through.
    Connected,
    /// The transport has ended.
    Closed,
    /// An RTP packet, opened.
    Packet(PacketSeen),
    /// The pay channel is open.
    ChannelOpen,
    /// A frame of the pay channel.
    Frame(Vec<u8>),
}

/// One RTP packet, as far as a viewer without a screen looks.
#[derive(Debug, Clone, Copy)]
pub struct PacketSeen {
    pub is_video: bool,
    /// Last packet of a frame.
    pub marker: bool,
    pub ssrc: u32,
    /// With its rollovers.
    pub seq: u64,
    /// In the codec's clock.
    pub timestamp: u32,
    pub payload_bytes: u64,
}

/// One endpoint.
pub struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    video: Mid,
    channel: Option<ChannelId>,
    deadline: Instant,
    /// SDP to send.
    pub offer: String,
}

impl Peer {
    /// Offers to receive audio and video from `server`, with a pay channel if vouchers go by it.
    pub fn new(server: SocketAddr, with_channel: bool) -> anyhow::Result<Self> {
        let (socket, local) = bind_towards(server).context("UDP socket")?;
        let now = Instant::now();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_vp8(true)
            .enable_opus(true, false)
            .build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").context("local address")?);
        let mut api = rtc.sdp_api();
        let video = api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let channel = with_channel.then(|| {
            api.add_channel_with_config(ChannelConfig {
                label: PAY_CHANNEL_LABEL.to_owned(),
                ordered: false,
                reliability: Reliability::Reliable,
                ..ChannelConfig::default()
            })
        });
        let (offer, pending) = api.apply().context("an offer of two media")?;
        let (offer, pending, deadline) = (offer.to_sdp_string(), Some(pending), now);
        Ok(Self { rtc, socket, local, pending, video, channel, deadline, offer })
    }

    /// Takes the relay's answer.
    pub fn accept(&mut self, sdp: &str) -> anyhow::Result<()> {
        let answer = SdpAnswer::from_sdp_string(sdp).context("the relay's SDP answer")?;
        let pending = self.pending.take().context("an offer has one answer")?;
        self.rtc.sdp_api().accept_answer(pending, answer).context("the relay's SDP answer")
    }

    /// Waits for a datagram, until `until` at most; tells what came.
    pub fn wait(&mut self, until: Instant, on: &mut dyn FnMut(Seen)) -> anyhow::Result<()> {
        let now = Instant::now();
        let until = until.min(self.deadline).min(now + TIMER_MAX);
        // A zero timeout would mean to wait for ever.
        let wait = until.saturating_duration_since(now).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        let mut buffer = [0; DATAGRAM_BYTES];
        match self.socket.recv_from(&mut buffer) {
            Ok((len_bytes, source)) => {
                if let Ok(contents) = buffer[..len_bytes].try_into() {
                    let receive =
                        Receive { proto: Protocol::Udp, source, destination: self.local, contents };
                    self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                }
            }
            Err(error) if is_quiet(&error) => {}
            Err(error) => return Err(error).context("UDP socket"),
        }
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        self.drain(on)
    }

    /// Sends a frame; `false`: the channel is not open, or full.
    pub fn send(&mut self, frame: &[u8]) -> anyhow::Result<bool> {
        let Some(mut channel) = self.channel.and_then(|id| self.rtc.channel(id)) else {
            return Ok(false);
        };
        Ok(channel.write(true, frame)?)
    }

    /// Says goodbye: DTLS `close_notify` and RTCP BYE.
    pub fn close(&mut self) {
        // A session that never connected has nothing to say.
        if self.rtc.close().is_ok() {
            let _closed = self.drain(&mut |_| {});
        }
    }

    fn drain(&mut self, on: &mut dyn FnMut(Seen)) -> anyhow::Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return Ok(());
                }
                Output::Transmit(out) => {
                    // A refused send is a lost datagram: the protocols above repair it.
                    let _lost = self.socket.send_to(&out.contents, out.destination);
                }
                Output::Event(event) => self.tell(event, on),
            }
        }
    }

    fn tell(&mut self, event: Event, on: &mut dyn FnMut(Seen)) {
        match event {
            Event::Connected => on(Seen::Connected),
            Event::Closed => on(Seen::Closed),
            Event::ChannelOpen(..) => on(Seen::ChannelOpen),
            Event::ChannelData(data) => on(Seen::Frame(data.data)),
            Event::RtpPacket(packet) => {
                let ssrc = packet.header.ssrc;
                let mid = self.rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid());
                on(Seen::Packet(PacketSeen {
                    is_video: mid == Some(self.video),
                    marker: packet.header.marker,
                    ssrc: *ssrc,
                    seq: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    payload_bytes: packet.payload.len() as u64,
                }));
            }
            // str0m's, and it may have more of them.
            _ => {}
        }
    }
}

fn is_quiet(error: &io::Error) -> bool {
    // ConnectionRefused is ICMP about an earlier datagram of ours.
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
    )
}

/// A socket on the address from which `server` is reached.
fn bind_towards(server: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connecting a UDP socket sends nothing: it asks the kernel for the route.
    let route = UdpSocket::bind(any)?;
    route.connect(server)?;
    let socket = UdpSocket::bind((route.local_addr()?.ip(), 0))?;
    let local = socket.local_addr()?;
    Ok((socket, local))
}

#[cfg(test)]
mod tests {
    use sfu::offer_fingerprint as fingerprint;

    use super::*;

    #[test]
    fn a_fingerprint_is_read_whole_or_not_at_all() {
        let text = |bytes: usize| vec!["aB"; bytes].join(":");
        let sdp = |text: &str| format!("v=0\r\na=fingerprint:sha-256 {text}\r\nm=video\r\n");
        assert_eq!(fingerprint(&sdp(&text(32))), Some([0xab; 32]));
        for wrong in
            [text(31), text(33), text(32).replace('a', "g"), text(32).replace("aB:", "+1:")]
        {
            assert_eq!(fingerprint(&sdp(&wrong)), None, "{wrong}");
        }
        assert_eq!(fingerprint("v=0\r\na=fingerprint:sha-1 AB\r\n"), None);
        let peer = Peer::new(([127, 0, 0, 1], 9).into(), true).expect("a socket");
        assert!(fingerprint(&peer.offer).is_some() && peer.offer.contains("m=application"));
    }
}
