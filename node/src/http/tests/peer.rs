//! A WebRTC endpoint on str0m: VP8 and Opus, one UDP socket on loopback.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};

pub struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    video: Mid,
    pub offer: String,
    pub connected: bool,
    pub closed: bool,
    /// Packets received, by payload type.
    pub received: BTreeMap<u8, usize>,
    sent: u64,
}

impl Peer {
    pub fn publisher() -> Self {
        Self::new(Direction::SendOnly)
    }

    pub fn viewer() -> Self {
        Self::new(Direction::RecvOnly)
    }

    fn new(direction: Direction) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket option");
        let local = socket.local_addr().expect("it is bound");
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::new(str0m_aws_lc_rs::default_provider()))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_vp8(true)
            .enable_opus(true, false)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a host address"));
        let mut api = rtc.sdp_api();
        let video = api.add_media(MediaKind::Video, direction, None, None, None);
        api.add_media(MediaKind::Audio, direction, None, None, None);
        let (offer, pending) = api.apply().expect("a change");
        let (connected, closed) = (false, false);
        let (offer, pending, sent) = (offer.to_sdp_string(), Some(pending), 0);
        let received = BTreeMap::new();
        Self { rtc, socket, local, pending, video, offer, connected, closed, received, sent }
    }

    pub fn answer(&mut self, sdp: &str) {
        let answer = SdpAnswer::from_sdp_string(sdp).expect("the relay's answer is SDP");
        let pending = self.pending.take().expect("one answer an offer");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the answer fits the offer");
    }

    /// Sends a keyframe of 640x360 in one packet.
    pub fn write_keyframe(&mut self) {
        let media = self.rtc.media(self.video).expect("the offer's section");
        let pts = media.remote_pts().to_vec();
        let params = self.rtc.codec_config().params().iter();
        let pt = params.map(|params| params.pt()).find(|pt| pts.contains(pt)).expect("VP8");
        // Descriptor with S; frame tag of a shown keyframe, start code, size (RFC 6386 §9.1).
        let payload =
            [&[0x10, 0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01][..], &[0; 90]];
        self.sent += 1;
        let (sequence, time) = (self.sent, self.sent as u32 * 3000);
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.video, None).expect("the offer's stream");
        let write =
            RtpWrite::new(pt, sequence.into(), time, Instant::now(), payload.concat()).marker(true);
        stream.write_rtp(write);
        self.drain();
    }

    pub fn close(&mut self) {
        self.rtc.close().expect("it can be closed");
        self.drain();
    }

    pub fn poll(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len_bytes, source)) = self.socket.recv_from(&mut buffer) {
            let Ok(contents) = buffer[..len_bytes].try_into() else { continue };
            let receive =
                Receive { proto: Protocol::Udp, source, destination: self.local, contents };
            // What str0m refuses is the test's to notice by what is missing.
            let _ = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
            self.drain();
        }
        let _ = self.rtc.handle_input(Input::Timeout(Instant::now()));
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(_)) => return,
                Ok(Output::Transmit(out)) => {
                    let _ = self.socket.send_to(&out.contents, out.destination);
                }
                Ok(Output::Event(Event::Connected)) => self.connected = true,
                Ok(Output::Event(Event::Closed)) => self.closed = true,
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    *self.received.entry(*packet.header.payload_type).or_default() += 1;
                }
                Ok(Output::Event(_)) => {}
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }
}
