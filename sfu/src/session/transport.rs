//! A session on its home shard: addresses, ICE and DTLS through str0m, the two SRTP contexts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::net::{Protocol, Receive};
use str0m::{Input, Output, Rtc, RtcError};

use super::keys::KeySlot;
use super::offer::TrackFacts;
use super::replay::ReplayWindow;
use super::side_channel::{self, SideChannel, SideEvent};
use super::srtp::{self, OpenContext, SealContext};
use crate::forward::loss::LossDetector;
use crate::forward::outlet::Outlet;
use crate::forward::packet::Format;
use crate::forward::reception::Reception;
use crate::forward::usage::Meter;
use crate::limits::PATHS_PER_SESSION_MAX;
use crate::ports::{Kind, Role, SessionKey, SlotId, SrtpProfile, StreamKey};
use crate::wire::demux::{DatagramKind, classify};
use crate::wire::twcc::TwccReceiver;

/// A 4-tuple, seen from here: which of our sockets, and who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    pub endpoint: usize,
    pub remote: SocketAddr,
}

/// What a session is made of when it reaches its shard.
pub struct NewSession {
    pub key: SessionKey,
    pub stream: StreamKey,
    pub role: Role,
    pub slot: Option<SlotId>,
    pub rtc: Rtc,
    pub keys: KeySlot,
    pub ufrag: String,
    pub tracks: Vec<TrackFacts>,
    pub offered_at: Instant,
}

/// One RTP stream that a publisher sends.
#[derive(Debug)]
pub struct Receiver {
    pub ssrc: u32,
    pub kind: Kind,
    /// The stream of retransmissions (RFC 4588) of the same track.
    pub is_rtx: bool,
    pub format: Format,
    pub epoch: u32,
    pub replay: ReplayWindow,
    pub reception: Reception,
    pub loss: LossDetector,
    pub heard_at: Instant,
}

/// What driving str0m brought about.
#[derive(Debug, Default)]
pub struct Driven {
    pub connected: Option<SrtpProfile>,
    pub closed: Option<Closed>,
    /// An answer to a connectivity check left: whoever sent it knows the session's password.
    pub check_answered: bool,
    pub side: Vec<SideEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    ByPeer,
    Fingerprint,
    Transport,
}

pub struct Session {
    pub key: SessionKey,
    pub stream_key: StreamKey,
    /// Index of the stream on this shard.
    pub stream: usize,
    pub role: Role,
    pub slot: Option<SlotId>,
    /// The slot's bit in the stream's gate words.
    pub bit: usize,
    pub ufrag: String,
    pub tracks: Vec<TrackFacts>,
    rtc: Rtc,
    keys: KeySlot,
    pub offered_at: Instant,
    pub heard_at: Instant,
    pub next_timeout: Instant,
    /// Datagrams of its handshake that the shard keeps for later.
    pub waiting_datagrams: usize,
    /// Earliest entry in the shard's timer heap.
    pub queued_timeout: Option<Instant>,
    paths: Vec<Path>,
    /// Where media goes: the newest path with an authenticated packet of DTLS or SRTP.
    pub path: Option<Path>,
    pub seal: Option<SealContext>,
    pub open: Option<OpenContext>,
    /// Transport-wide sequence number of the next packet to this subscriber.
    pub twcc_sequence: u16,
    pub outlets: [Option<Outlet>; 2],
    pub receivers: Vec<Receiver>,
    pub twcc: TwccReceiver,
    pub next_report: Instant,
    side: Option<SideChannel>,
    /// From the gate's first opening on, if usage is reported.
    pub meter: Option<Box<Meter>>,
}

impl Session {
    pub fn new(new: NewSession, stream: usize, bit: usize, now: Instant) -> Session {
        let mut outlets = [None, None];
        if new.role == Role::Subscriber {
            for facts in &new.tracks {
                outlets[facts.kind as usize] = Outlet::new(facts);
            }
        }
        Session {
            key: new.key,
            stream_key: new.stream,
            stream,
            role: new.role,
            slot: new.slot,
            bit,
            ufrag: new.ufrag,
            tracks: new.tracks,
            rtc: new.rtc,
            keys: new.keys,
            offered_at: new.offered_at,
            heard_at: now,
            next_timeout: now,
            waiting_datagrams: 0,
            queued_timeout: None,
            paths: Vec::new(),
            path: None,
            seal: None,
            open: None,
            twcc_sequence: 0,
            outlets,
            receivers: Vec::new(),
            twcc: TwccReceiver::new(),
            next_report: now + REPORT_INTERVAL,
            side: None,
            meter: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.open.is_some()
    }

    /// The RTP stream that counts: of several of a kind, the newest.
    pub fn current_receiver(&self, kind: Kind, is_rtx: bool) -> Option<usize> {
        self.receivers.iter().rposition(|known| known.kind == kind && known.is_rtx == is_rtx)
    }

    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Remembers an authenticated path. Returns one that had to be forgotten for it.
    pub fn add_path(&mut self, path: Path) -> Option<Path> {
        if self.paths.contains(&path) {
            return None;
        }
        let full = self.paths.len() == PATHS_PER_SESSION_MAX;
        let oldest = self.paths.iter().position(|known| Some(*known) != self.path).unwrap_or(0);
        let forgotten = full.then(|| self.paths.remove(oldest));
        self.paths.push(path);
        forgotten
    }

    /// An SRTP or SRTCP packet from `path` was authentic: the peer lives, and media goes there.
    pub fn heard(&mut self, path: Path, now: Instant) {
        self.heard_at = now;
        if self.path != Some(path) {
            self.path = Some(path);
        }
    }

    /// Hands a STUN or DTLS datagram to str0m. `local` is the address the peer was told.
    ///
    /// # Errors
    /// What str0m cannot parse or refuses; the session goes on unless [`Session::drive`] says else.
    pub fn handle_datagram(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        local: SocketAddr,
        now: Instant,
    ) -> Result<(), RtcError> {
        let contents = datagram.try_into().map_err(RtcError::Net)?;
        let receive = Receive { proto: Protocol::Udp, source: from, destination: local, contents };
        self.rtc.handle_input(Input::Receive(now, receive))
    }

    /// Tells str0m the time.
    ///
    /// # Errors
    /// str0m's; [`Session::drive`] then finds it closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), RtcError> {
        self.rtc.handle_input(Input::Timeout(now))
    }

    /// Starts the orderly end: DTLS close_notify leaves with the next [`Session::drive`].
    pub fn start_close(&mut self) {
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    /// Queues a frame for the peer on its side channel; it leaves with the next [`Session::drive`].
    /// False: there is none, or the peer takes nothing.
    pub fn write_frame(&mut self, frame: &[u8]) -> bool {
        self.side.as_ref().is_some_and(|side| side.write(&mut self.rtc, frame))
    }

    /// Polls str0m until only a deadline remains; datagrams go to `transmit(local, to, bytes)`,
    /// which says along which path each leaves. A data channel labelled `side_label` is the side
    /// channel.
    pub fn drive(
        &mut self,
        side_label: Option<&str>,
        mut transmit: impl FnMut(SocketAddr, SocketAddr, &[u8]) -> Path,
    ) -> Driven {
        let mut driven = Driven::default();
        // Every output is either bounded by the input that caused it or the end of the loop.
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.next_timeout = at;
                    break;
                }
                Ok(Output::Transmit(out)) => match classify(&out.contents) {
                    DatagramKind::Rtp | DatagramKind::Rtcp => {
                        debug_assert!(false, "str0m owns no SRTP context");
                    }
                    kind => {
                        let path = transmit(out.source, out.destination, &out.contents);
                        driven.check_answered |= kind == DatagramKind::Stun;
                        // str0m sends DTLS along the pair that ICE nominated; no event names it.
                        if kind == DatagramKind::Dtls {
                            self.path = Some(path);
                        }
                    }
                },
                Ok(Output::Event(event)) => self.handle_event(event, side_label, &mut driven),
                Err(error) => {
                    // The certificate is checked before str0m reports Connected, so no context of
                    // ours exists for a wrong one.
                    let fingerprint =
                        matches!(&error, RtcError::RemoteSdp(what) if what.contains("fingerprint"));
                    driven.closed.get_or_insert(if fingerprint {
                        Closed::Fingerprint
                    } else {
                        Closed::Transport
                    });
                    self.rtc.disconnect();
                    break;
                }
            }
        }
        if !self.rtc.is_alive() {
            driven.closed.get_or_insert(Closed::ByPeer);
        }
        driven
    }

    fn handle_event(&mut self, event: str0m::Event, side_label: Option<&str>, driven: &mut Driven) {
        match event {
            str0m::Event::Connected => {
                let Some(keys) = self.keys.take() else {
                    driven.closed = Some(Closed::Transport);
                    return;
                };
                match srtp::contexts(&keys) {
                    Ok((seal, open)) => {
                        self.seal = Some(seal);
                        self.open = Some(open);
                        driven.connected = Some(keys.profile);
                    }
                    Err(_) => driven.closed = Some(Closed::Transport),
                }
            }
            str0m::Event::Closed => driven.closed = Some(Closed::ByPeer),
            str0m::Event::ChannelOpen(id, label) if side_label == Some(&label) => {
                driven.side.push(side_channel::handle_open(&mut self.side, id));
            }
            str0m::Event::ChannelData(message) => {
                driven.side.extend(self.side.as_ref().and_then(|side| side.handle_data(message)));
            }
            str0m::Event::ChannelClose(id) => {
                if let Some(side) = self.side.as_mut() {
                    side.handle_close(id);
                }
            }
            _ => {}
        }
    }
}

/// Time between two receiver or sender reports to one peer.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
