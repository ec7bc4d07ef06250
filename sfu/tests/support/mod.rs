//! A whole WebRTC endpoint on str0m for tests: full ICE, its own SRTP, one UDP socket.

#![allow(dead_code, reason = "each test uses what it needs of it")]

pub mod rig;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sfu::io::LinkKind;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

pub struct Peer {
    rtc: Rtc,
    pub socket: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    mid: Mid,
    pub offer: String,
    answer: String,
    pub connected: bool,
    pub closed: bool,
    pub packets: VecDeque<RtpPacket>,
    pub keyframe_requests: usize,
    channels: Vec<ChannelId>,
    /// Those of them that are open.
    pub open_channels: usize,
    /// Binary messages received on any data channel.
    pub frames: VecDeque<Vec<u8>>,
    /// Drops every n-th received media datagram, 0 for none.
    pub drop_every: u64,
    received: u64,
    /// Drops every n-th media datagram that leaves, 0 for none.
    pub lose_every: u64,
    sent: u64,
}

impl Peer {
    pub fn publisher() -> Peer {
        Peer::new(Direction::SendOnly, &[])
    }

    pub fn viewer() -> Peer {
        Peer::new(Direction::RecvOnly, &[])
    }

    /// A viewer that opens data channels with these labels.
    pub fn viewer_with_channels(labels: &[&str]) -> Peer {
        Peer::new(Direction::RecvOnly, labels)
    }

    fn new(direction: Direction, labels: &[&str]) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let local = socket.local_addr().expect("it is bound");
        let mut rtc = Rtc::builder()
            .set_crypto_provider(std::sync::Arc::new(str0m_aws_lc_rs::default_provider()))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_vp8(true)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a host address"));
        let mut api = rtc.sdp_api();
        let mid = api.add_media(MediaKind::Video, direction, None, None, None);
        let channels = labels.iter().map(|label| api.add_channel((*label).into())).collect();
        let (offer, pending) = api.apply().expect("a change");
        Peer {
            rtc,
            socket,
            local,
            pending: Some(pending),
            mid,
            offer: offer.to_sdp_string(),
            answer: String::new(),
            connected: false,
            closed: false,
            packets: VecDeque::new(),
            keyframe_requests: 0,
            channels,
            open_channels: 0,
            frames: VecDeque::new(),
            drop_every: 0,
            received: 0,
            lose_every: 0,
            sent: 0,
        }
    }

    pub fn answer(&mut self, sdp: &str) {
        let answer = SdpAnswer::from_sdp_string(sdp).expect("the relay's answer is SDP");
        self.answer = sdp.into();
        let pending = self.pending.take().expect("one answer an offer");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the answer fits the offer");
    }

    /// Sends one VP8 packet.
    pub fn write(&mut self, sequence: u64, timestamp: u32, marker: bool, payload: Vec<u8>) {
        let media = self.rtc.media(self.mid).expect("the offer's section");
        let pts = media.remote_pts().to_vec();
        let params = self.rtc.codec_config().params().iter();
        let pt = params.map(|params| params.pt()).find(|pt| pts.contains(pt)).expect("VP8");
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.mid, None).expect("the offer's stream");
        let write = RtpWrite::new(pt, sequence.into(), timestamp, Instant::now(), payload);
        stream.write_rtp(write.marker(marker).nackable(true));
        self.drain();
    }

    /// Sends a binary message on the data channel with this index in the order of the labels.
    pub fn send_frame(&mut self, channel: usize, frame: &[u8]) {
        self.send_message(channel, true, frame);
    }

    pub fn send_text(&mut self, channel: usize, text: &str) {
        self.send_message(channel, false, text.as_bytes());
    }

    fn send_message(&mut self, channel: usize, binary: bool, message: &[u8]) {
        let mut channel = self.rtc.channel(self.channels[channel]).expect("an open channel");
        assert!(channel.write(binary, message).expect("an open channel"), "the buffer is full");
        self.drain();
    }

    /// Opens a further data channel, which gets the next index.
    pub fn open_channel(&mut self, label: &str) {
        let config = ChannelConfig { label: label.into(), ..ChannelConfig::default() };
        self.channels.push(self.rtc.direct_api().create_data_channel(config));
        self.drain();
    }

    pub fn close_channel(&mut self, channel: usize) {
        self.rtc.direct_api().close_data_channel(self.channels[channel]);
        self.drain();
    }

    /// The relay's answer.
    pub fn remote_sdp(&self) -> &str {
        &self.answer
    }

    /// The relay's ICE username fragment, from its answer.
    pub fn remote_ufrag(&self) -> String {
        self.answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or("").into()
    }

    pub fn close(&mut self) {
        self.rtc.close().expect("it can be closed");
        self.drain();
    }

    /// Takes what has arrived and lets str0m act on the time.
    pub fn poll(&mut self) {
        self.socket.set_nonblocking(true).expect("a socket option");
        let mut buffer = [0; 2048];
        while let Ok((len_bytes, from)) = self.socket.recv_from(&mut buffer) {
            let datagram = &buffer[..len_bytes];
            if (128..192).contains(&datagram[0]) {
                self.received += 1;
                if self.received.is_multiple_of(self.drop_every) {
                    continue;
                }
            }
            let Ok(contents) = datagram.try_into() else { continue };
            let receive =
                Receive { proto: Protocol::Udp, source: from, destination: self.local, contents };
            // A datagram that str0m refuses is the test's to notice by what is missing.
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
                    if (128..192).contains(&out.contents[0]) {
                        self.sent += 1;
                        if self.sent.is_multiple_of(self.lose_every) {
                            continue;
                        }
                    }
                    // Loopback; a full buffer is loss, which is what UDP does.
                    let _ = self.socket.send_to(&out.contents, out.destination);
                }
                Ok(Output::Event(event)) => match event {
                    Event::Connected => self.connected = true,
                    Event::Closed => self.closed = true,
                    Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                        self.closed = true;
                    }
                    Event::RtpPacket(packet) => self.packets.push_back(packet),
                    Event::KeyframeRequest(_) => self.keyframe_requests += 1,
                    Event::ChannelOpen(..) => self.open_channels += 1,
                    Event::ChannelData(message) => self.frames.push_back(message.data),
                    _ => {}
                },
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }
}

/// Runs a test on every link that there is here.
pub fn both_links(test: impl Fn(LinkKind)) {
    test(LinkKind::Epoll);
    // Containers may forbid io_uring; the other link is then what the relay runs on too.
    match sfu::io::available() {
        Ok(()) => test(LinkKind::IoUring),
        Err(error) => eprintln!("io_uring is not to be had here: {error}"),
    }
}

/// Polls all peers until `done`; panics with `what` if that takes a minute.
pub fn until(what: &str, peers: &mut [&mut Peer], mut done: impl FnMut(&mut [&mut Peer]) -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        peers.iter_mut().for_each(|peer| peer.poll());
        if done(peers) {
            return;
        }
        assert!(Instant::now() < give_up, "waited a minute for: {what}");
        std::thread::yield_now();
    }
}
