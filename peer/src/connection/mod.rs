//! One connection to one peer: negotiation, ICE, the channel and its frames; sans-IO.
//!
//! After every input poll [`Connection::poll_output`] until it gives a deadline, then wait for the
//! next input until then.

mod channels;
mod negotiation;
mod remote;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use str0m::{
    Candidate, Event as RtcEvent, IceConnectionState, Input, Output as RtcOutput, Rtc, RtcError,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    net::Transmit,
};

pub use channels::SendError;
pub use negotiation::{Decision, Standing, decide};
pub use remote::RemoteIdentity;

use self::channels::Channels;
use crate::framing::{Body, CHANNEL_LABEL, Compression, FrameError, Message};

/// From the offer to the open channel. Later the connection is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// An interrupted connection is given up when it has not come back by then.
const BACK_WITHIN: Duration = Duration::from_secs(45);
/// An offer without an answer is made again: the first may have been lost with the coordinator.
const OFFER_AGAIN: Duration = Duration::from_secs(8);
/// How long an offer that is not repeated stands against the peer's own.
const OFFER_STANDS: Duration = Duration::from_secs(10);
/// Wait before an ICE restart: whoever offered first goes first.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Wait of the other side, and between attempts.
const RESTART_LATER: Duration = Duration::from_secs(8);
/// Frames that str0m has taken and the peer has not acknowledged.
const SCTP_BUFFERED_BYTES_MAX: usize = 512 * 1024;
/// Candidates that wait for the description they belong to. One more drops.
const EARLY_CANDIDATES_MAX: usize = 64;

/// What the connection wants.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit(Transmit),
    /// Somebody should know.
    Event(Event),
    /// Nothing until then.
    Timeout(Instant),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// To the peer, through the coordinator: an offer.
    Offer(String),
    /// An answer to its offer.
    Answer(String),
    /// A candidate, as browsers write it.
    Candidate(Value),
    /// The channel is open. Once.
    Opened,
    /// A message of the channel.
    Message(Message),
    /// A message of a channel with another label, or a text on ours.
    Raw {
        /// The channel's.
        label: String,
        /// What it says.
        body: Body,
    },
    /// A frame that was dropped.
    Refused(FrameError),
    /// The end. Once; only transmits follow.
    Closed(CloseReason),
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We ended it.
    #[error("closed here")]
    Local,
    /// The peer ended it.
    #[error("closed by the peer")]
    Remote,
    /// It never opened.
    #[error("no path was found within {} s: a TURN server may help", OPEN_WITHIN.as_secs())]
    NoPath,
    /// It was open, and is cut off.
    #[error("the path was lost, and not found again within {} s", BACK_WITHIN.as_secs())]
    Lost,
    /// The peer came with another certificate than before, or broke the protocol.
    #[error("the peer does not keep to what it described")]
    Protocol,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Opening { until: Instant, offer_at: Instant },
    Open,
    Interrupted { until: Instant, restart_at: Instant },
    Closed,
}

/// A connection.
pub struct Connection {
    rtc: Rtc,
    sid: String,
    is_offerer: bool,
    is_polite: bool,
    pending: Option<SdpPendingOffer>,
    /// The SDP of `pending`.
    offer: String,
    offered_at: Instant,
    restarts: u32,
    remote: Option<RemoteIdentity>,
    early_candidates: Vec<Candidate>,
    state: State,
    has_opened: bool,
    channels: Channels,
    events: VecDeque<Event>,
}

impl Connection {
    /// A connection that offers, or waits for [`Connection::accept_offer`]. `sid` names it in all
    /// that is signalled; `is_polite` is whose offer yields when both offer.
    pub fn new(
        sid: String,
        role: Role,
        is_polite: bool,
        candidates: &[Candidate],
        now: Instant,
    ) -> Self {
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .clear_codecs()
            .set_sctp_max_buffered_amount(SCTP_BUFFERED_BYTES_MAX)
            .build(now);
        for candidate in candidates {
            rtc.add_local_candidate(candidate.clone());
        }
        let mut connection = Self {
            rtc,
            sid,
            is_offerer: role == Role::Offerer,
            is_polite,
            pending: None,
            offer: String::new(),
            offered_at: now,
            restarts: 0,
            remote: None,
            early_candidates: Vec::new(),
            state: State::Opening { until: now + OPEN_WITHIN, offer_at: now + OFFER_AGAIN },
            has_opened: false,
            channels: Channels::default(),
            events: VecDeque::new(),
        };
        if connection.is_offerer {
            let mut changes = connection.rtc.sdp_api();
            changes.add_channel(CHANNEL_LABEL.to_owned());
            let (offer, pending) = changes.apply().expect("a first channel needs an offer");
            connection.pending = Some(pending);
            connection.offer = offer.to_sdp_string();
            connection.events.push_back(Event::Offer(connection.offer.clone()));
        }
        connection
    }

    /// Its name in all that is signalled.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Whether the channel has opened and the connection has not ended.
    pub fn is_open(&self) -> bool {
        self.has_opened && !self.is_closed()
    }

    /// Whether the channel has ever been open.
    pub fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether we made the first offer.
    pub fn is_offerer(&self) -> bool {
        self.is_offerer
    }

    /// What matters for an offer that comes in now ([`decide`]).
    pub fn standing(&self, sid: Option<&str>, sdp: &str, now: Instant) -> Standing {
        let is_same_sid = sid == Some(&*self.sid);
        let is_same_remote = match (&self.remote, RemoteIdentity::of(sdp)) {
            (Some(known), Some(offered)) => *known == offered,
            (None, _) | (_, None) => false,
        };
        Standing {
            // An offer that nobody answers does not stand in the way of the peer's for ever.
            has_offered: self.pending.is_some() && now < self.offered_at + OFFER_STANDS,
            is_polite: self.is_polite,
            continues: is_same_remote || is_same_sid && self.remote.is_some(),
        }
    }

    /// Takes the peer's offer: the first, or one that begins ICE anew. The answer is an event.
    ///
    /// # Errors
    /// What str0m finds wrong with it.
    pub fn accept_offer(&mut self, sid: Option<String>, sdp: &str) -> Result<(), RtcError> {
        let offer = SdpOffer::from_sdp_string(sdp)
            .map_err(|error| RtcError::RemoteSdp(error.to_string()))?;
        self.remote = RemoteIdentity::of(sdp);
        self.pending = None;
        self.sid = sid.unwrap_or_default();
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.events.push_back(Event::Answer(answer.to_sdp_string()));
        self.add_early_candidates();
        Ok(())
    }

    /// Takes the peer's answer; `false`: it belongs to no offer of ours and is dropped.
    ///
    /// # Errors
    /// What str0m finds wrong with it.
    pub fn accept_answer(&mut self, sid: Option<&str>, sdp: &str) -> Result<bool, RtcError> {
        if sid.is_some_and(|sid| sid != self.sid) {
            return Ok(false);
        }
        let remote = RemoteIdentity::of(sdp);
        if self.remote.is_some() && self.remote != remote && self.pending.is_some() {
            // Another instance of the peer answers: the old session is over.
            self.end(CloseReason::Protocol);
            return Ok(false);
        }
        let Some(pending) = self.pending.take() else { return Ok(false) };
        let answer = SdpAnswer::from_sdp_string(sdp)
            .map_err(|error| RtcError::RemoteSdp(error.to_string()))?;
        self.remote = remote;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.add_early_candidates();
        Ok(true)
    }

    /// Takes a candidate of the peer. What cannot be read (a name under `.local`, the end of
    /// candidates) is dropped: the peer's checks show its address anyway.
    pub fn add_remote_candidate(&mut self, sid: Option<&str>, candidate: &Value) {
        if sid.is_some_and(|sid| !self.sid.is_empty() && sid != self.sid) {
            return;
        }
        let text = candidate.get("candidate").unwrap_or(candidate).as_str();
        let Some(Ok(candidate)) =
            text.map(|text| Candidate::from_sdp_string(text.strip_prefix("a=").unwrap_or(text)))
        else {
            return;
        };
        if self.remote.is_some() {
            self.rtc.add_remote_candidate(candidate);
        } else if self.early_candidates.len() < EARLY_CANDIDATES_MAX {
            self.early_candidates.push(candidate);
        }
    }

    /// Takes an address of ours that was found meanwhile, and has it signalled.
    pub fn add_local_candidate(&mut self, candidate: Candidate) {
        if self.is_closed() {
            return;
        }
        if let Some(candidate) = self.rtc.add_local_candidate(candidate) {
            // One m-line, so the index says all.
            let candidate = json!({
                "candidate": candidate.to_sdp_string(), "sdpMid": null, "sdpMLineIndex": 0,
            });
            self.events.push_back(Event::Candidate(candidate));
        }
    }

    /// Whether a datagram belongs here.
    pub fn accepts(&self, input: &Input<'_>) -> bool {
        !self.is_closed() && self.rtc.accepts(input)
    }

    /// Takes a datagram.
    pub fn handle_input(&mut self, input: Input<'_>) {
        if self.rtc.handle_input(input).is_err() {
            self.end(CloseReason::Protocol);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.end(self.given_up());
        }
        self.channels.handle_timeout(now);
        match self.state {
            State::Opening { until, .. } if until <= now => self.end(CloseReason::NoPath),
            State::Opening { until, offer_at } if offer_at <= now => {
                self.state = State::Opening { until, offer_at: now + OFFER_AGAIN };
                if self.pending.is_some() {
                    self.offered_at = now;
                    self.events.push_back(Event::Offer(self.offer.clone()));
                }
            }
            State::Interrupted { until, .. } if until <= now => self.end(CloseReason::Lost),
            State::Interrupted { until, restart_at } if restart_at <= now => {
                self.state = State::Interrupted { until, restart_at: now + RESTART_LATER };
                self.restart_ice(now);
            }
            State::Opening { .. } | State::Open | State::Interrupted { .. } | State::Closed => {}
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        message: Message,
        compression: Compression,
        now: Instant,
    ) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::NotOpen);
        }
        self.channels.push(message, compression, now)
    }

    /// Whether a sender that holds back for this connection may go on.
    pub fn is_writable(&mut self) -> bool {
        self.channels.is_writable(&mut self.rtc)
    }

    /// Says goodbye. What has not left by [`Connection::flush`] and a poll is lost.
    pub fn close(&mut self) {
        // A connection that never opened has nothing to say.
        let _nothing_said = self.rtc.close();
        self.end(CloseReason::Local);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self, now: Instant) -> Output {
        loop {
            self.write_queued();
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            match self.rtc.poll_output() {
                Ok(RtcOutput::Transmit(transmit)) => return Output::Transmit(transmit),
                Ok(RtcOutput::Event(event)) => self.handle_event(event, now),
                Ok(RtcOutput::Timeout(at)) => {
                    if !self.rtc.is_alive() && !self.is_closed() {
                        self.end(CloseReason::Remote);
                        continue;
                    }
                    return Output::Timeout(self.deadline(at));
                }
                Err(_) if self.is_closed() => return Output::Timeout(now + OPEN_WITHIN),
                Err(_) => self.end(self.given_up()),
            }
        }
    }

    /// Why the stack gives up when nothing but time has passed: a handshake that nobody answers is an
    /// error of its own there.
    fn given_up(&self) -> CloseReason {
        match self.state {
            State::Opening { .. } => CloseReason::NoPath,
            State::Interrupted { .. } => CloseReason::Lost,
            State::Open | State::Closed => CloseReason::Protocol,
        }
    }

    fn deadline(&self, at: Instant) -> Instant {
        let own = match self.state {
            State::Opening { until, offer_at } => Some(until.min(offer_at)),
            State::Interrupted { until, restart_at } => Some(until.min(restart_at)),
            State::Open | State::Closed => None,
        };
        [own, self.channels.deadline()].into_iter().flatten().fold(at, Instant::min)
    }

    fn handle_event(&mut self, event: RtcEvent, now: Instant) {
        match event {
            RtcEvent::IceConnectionStateChange(state) => self.handle_ice(state, now),
            RtcEvent::ChannelOpen(id, label) if label == CHANNEL_LABEL => {
                self.channels.open(id);
                if !self.has_opened {
                    self.has_opened = true;
                    self.state = State::Open;
                    self.events.push_back(Event::Opened);
                }
            }
            RtcEvent::ChannelOpen(id, label) => {
                self.channels.open_raw(id, &label);
            }
            RtcEvent::ChannelData(data) => {
                self.channels.handle_data(data.id, data.binary, &data.data, &mut self.events);
            }
            RtcEvent::ChannelClose(id) if self.channels.is_ours(id) => {
                self.end(CloseReason::Remote);
            }
            RtcEvent::ChannelClose(id) => self.channels.close_raw(id),
            // Media, its statistics, and marks that this connection does not ask for.
            _ => {}
        }
    }

    fn handle_ice(&mut self, state: IceConnectionState, now: Instant) {
        match (self.state, state) {
            (State::Open, IceConnectionState::Disconnected) => {
                let wait = if self.is_offerer { RESTART_AFTER } else { RESTART_LATER };
                let (until, restart_at) = (now + BACK_WITHIN, now + wait);
                self.state = State::Interrupted { until, restart_at };
            }
            (
                State::Interrupted { .. },
                IceConnectionState::Connected | IceConnectionState::Completed,
            ) => self.state = State::Open,
            (
                State::Opening { .. } | State::Open | State::Interrupted { .. } | State::Closed,
                _,
            ) => {}
        }
    }

    fn restart_ice(&mut self, now: Instant) {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        if let Some((offer, pending)) = changes.apply() {
            // A name of its own: under the former one the peer has answered already.
            self.restarts += 1;
            let base = self.sid.split('-').next().unwrap_or_default();
            self.sid = format!("{base}-{}", self.restarts);
            self.pending = Some(pending);
            self.offer = offer.to_sdp_string();
            self.offered_at = now;
            self.events.push_back(Event::Offer(self.offer.clone()));
        }
    }

    fn add_early_candidates(&mut self) {
        for candidate in std::mem::take(&mut self.early_candidates) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// What waits for more, without the wait.
    pub fn flush(&mut self) {
        self.channels.flush();
        self.write_queued();
    }

    fn write_queued(&mut self) {
        if self.channels.write(&mut self.rtc).is_err() {
            self.end(CloseReason::Protocol);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.channels.clear();
        self.events.push_back(Event::Closed(reason));
    }
}

/// Who makes the first offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We do: the newcomer.
    Offerer,
    /// The peer does.
    Answerer,
}

#[cfg(test)]
mod tests;
