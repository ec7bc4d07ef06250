//! Frames of the pay channel: vouchers, Binds, and the same over HTTP.

use std::sync::Arc;

use chain_types::{
    Balance, Frame, FrameError, LaneKey, LaneState, SignedBind, SignedVoucher,
    frame::{divide_frames, join_frames},
};
use sfu::ports::SessionKey;

use super::{Cause, Decider, Output, Time};
use crate::{book::Taken, chain::ChannelStanding, event::SutantraEvent, lane::End};

/// Frames in the body of one request.
pub const POST_FRAMES_MAX: usize = 64;

/// Why a request with frames has no answer in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The session ended unpaid: 402, for a minute.
    #[error("Payment required")]
    PaymentRequired,
    /// There is no such session: 404.
    #[error("there is no such session: join again")]
    Unknown,
    /// The body is not lengths and frames: 400.
    #[error("the body is no sequence of at most {POST_FRAMES_MAX} frames behind their lengths")]
    Malformed,
    /// The relay stops, or is far behind: 503.
    #[error("this relay cannot answer now: try again")]
    Unavailable,
}

impl PostError {
    /// The HTTP status (RFC 9110 §15).
    pub const fn http_status(self) -> u16 {
        match self {
            Self::PaymentRequired => 402,
            Self::Unknown => 404,
            Self::Malformed => 400,
            Self::Unavailable => 503,
        }
    }
}

impl Decider {
    /// Frames of a session that came by HTTP; the answer holds those for its payer.
    ///
    /// # Errors
    /// See [`PostError`].
    pub fn post_frames(
        &mut self,
        now: Time,
        key: SessionKey,
        body: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<Vec<u8>, PostError> {
        if !self.sessions.contains_key(&key) {
            return Err(match self.ended.get(&key).map(|ended| ended.end) {
                Some(End::Unpaid) => PostError::PaymentRequired,
                Some(End::Denied(_) | End::Invalid | End::Gone) | None => PostError::Unknown,
            });
        }
        let frames = divide_frames(body)
            .filter(|frames| frames.len() <= POST_FRAMES_MAX)
            .ok_or(PostError::Malformed)?;
        let before = out.len();
        for frame in frames {
            self.frame(now, key, frame, out);
        }
        // Who has no data channel hears here what is said there.
        self.acknowledge(now, key, None, out);
        let state = self.sessions.get(&key).map(|session| session.machine.state());
        if matches!(state, Some(LaneState::Late | LaneState::Paused)) {
            self.request(now, key, out);
        }
        self.repeat_terms(key, out);
        let mut answer = Vec::new();
        let said = out.split_off(before);
        for output in said {
            match output {
                Output::Send { session, frame } if session == key => answer.push(frame),
                Output::Close { session, last_frame } if session == key => {
                    answer.push(last_frame.clone());
                    out.push(Output::Close { session, last_frame });
                }
                other => out.push(other),
            }
        }
        self.time_passed(now, out);
        Ok(join_frames(answer.iter().map(Vec::as_slice)))
    }

    /// One frame of a session's peer.
    pub(super) fn frame(
        &mut self,
        now: Time,
        key: SessionKey,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        if !self.sessions.contains_key(&key) {
            return;
        }
        match Frame::decode(bytes) {
            Ok(Frame::Voucher(voucher)) => self.voucher(now, key, *voucher, out),
            Ok(Frame::Bind(bind)) => self.bind(now, key, &bind, out),
            // What only a relay says, and reports that mean nothing to the books.
            Ok(
                Frame::Terms(_)
                | Frame::BindAck(_)
                | Frame::PayAck(_)
                | Frame::PayReq(_)
                | Frame::PaySync(_)
                | Frame::Receipt(..)
                | Frame::QualityReport(..)
                | Frame::GateNotice { .. }
                | Frame::Error { .. },
            )
            | Err(FrameError::Type(_)) => {}
            Err(FrameError::Voucher(_)) => {
                self.invalid(now, key, "the voucher cannot be read", out);
            }
            Err(error) => {
                let frame = Frame::Error { code: 400, message: error.to_string() }.encode();
                out.push(Output::Send { session: key, frame });
            }
        }
    }

    fn voucher(
        &mut self,
        now: Time,
        key: SessionKey,
        signed: SignedVoucher,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some((own, version)) = session.pass.lane else {
            // Nothing is charged here: no harm is done.
            let message = "nothing is to be paid on this session".to_owned();
            let frame = Frame::Error { code: 400, message }.encode();
            out.push(Output::Send { session: key, frame });
            return;
        };
        let voucher = &signed.voucher;
        let lane = voucher.lane_key();
        let version = if lane == own {
            Some(version)
        } else if let Some((_, version)) = session.next_lane.filter(|(next, _)| *next == lane) {
            Some(version)
        } else if lane.channel == own.channel && lane.stream == own.stream {
            // A lane that it paid on before: its price was replaced while the voucher travelled.
            self.book.get(&lane).map(|lane| lane.terms_version)
        } else {
            None
        };
        let fault = match version {
            _ if voucher.channel != own.channel => Some("the voucher is of another channel"),
            _ if voucher.payee != own.payee => Some("the voucher pays somebody else"),
            _ if voucher.stream != own.stream => Some("the voucher is for another stream"),
            None => Some("the voucher is on another lane"),
            Some(version) if version != voucher.terms_version => {
                Some("the voucher is for another version of the terms")
            }
            Some(_) => None,
        };
        if let Some(fault) = fault {
            self.invalid(now, key, fault, out);
            return;
        }
        let known = self.book.get(&lane).map(crate::book::Lane::paid).unwrap_or_default();
        if voucher.cumulative <= known {
            self.counters.vouchers_stale += 1;
            self.acknowledge_on(now, key, lane, own, out);
            if voucher.cumulative < known {
                self.sync_lane(key, &lane, out);
            }
            return;
        }
        let voucher_key = self
            .access
            .as_ref()
            .and_then(|access| access.blockchain_state.channel(&own.channel))
            .map(|channel| channel.voucher_key);
        let Some(voucher_key) = voucher_key else { return };
        if signed.verify(&voucher_key, &self.config.chain_id).is_err() {
            self.invalid(now, key, "the voucher's signature is wrong", out);
            return;
        }
        if voucher.cumulative > self.payable(&lane) {
            // No fault of who signed: a top-up may be on its way. But nobody is paid by it.
            let message = "the channel holds less than the voucher promises: top it up".to_owned();
            let frame = Frame::Error { code: 402, message }.encode();
            out.push(Output::Send { session: key, frame });
            return;
        }
        self.take(now, signed, out);
        self.acknowledge_on(now, key, lane, own, out);
        for session in self.book.sessions(&own.channel) {
            self.evaluate(now, session, Cause::Voucher, out);
        }
    }

    /// The highest cumulative amount that the chain could pay out on a lane now.
    pub fn payable(&self, lane: &LaneKey) -> Balance {
        let Some(access) = &self.access else { return Balance::ZERO };
        let state = &access.blockchain_state;
        let available = match state.standing(&lane.channel, &lane.payee) {
            ChannelStanding::Open { available, .. }
            | ChannelStanding::Expiring { available }
            | ChannelStanding::Closing { available } => available,
            ChannelStanding::Closed | ChannelStanding::Unknown => Balance::ZERO,
        };
        state.paid(lane).checked_add(available).unwrap_or(Balance::MAX)
    }

    /// Takes a voucher whose signature is right into the books, and hands it to the log.
    pub(super) fn take(&mut self, now: Time, signed: SignedVoucher, out: &mut Vec<Output>) {
        let lane = signed.voucher.lane_key();
        if self.book.get(&lane).is_none() {
            let version = signed.voucher.terms_version;
            let rate = self.rate_of(&lane.stream, version).unwrap_or(0);
            self.book.lane(lane, version, rate);
        }
        match self.book.take(signed, now.mono_ns) {
            Taken::More(amount) => {
                self.counters.vouchers_accepted += 1;
                self.counters.accepted_units =
                    self.counters.accepted_units.saturating_add(amount.units());
                self.write(lane, out);
                let stream_id = lane.stream;
                out.push(Output::Event(SutantraEvent::PaymentReceived {
                    stream_id,
                    amount,
                    settled: false,
                }));
            }
            Taken::Known | Taken::Older => self.counters.vouchers_stale += 1,
        }
    }

    fn acknowledge_on(
        &mut self,
        now: Time,
        key: SessionKey,
        lane: LaneKey,
        own: LaneKey,
        out: &mut Vec<Output>,
    ) {
        let other = (lane != own).then_some(lane);
        self.acknowledge(now, key, other, out);
    }

    /// Nothing of it is kept; the third ends the session.
    fn invalid(&mut self, now: Time, key: SessionKey, fault: &str, out: &mut Vec<Output>) {
        self.counters.vouchers_invalid += 1;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.invalid_vouchers = session.invalid_vouchers.saturating_add(1);
        let frame = Frame::Error { code: 400, message: fault.to_owned() }.encode();
        out.push(Output::Send { session: key, frame });
        self.evaluate(now, key, Cause::Voucher, out);
    }

    /// PaySync, where the books know a higher voucher than the payer seems to.
    fn sync_lane(&self, key: SessionKey, lane: &LaneKey, out: &mut Vec<Output>) {
        let Some(newest) = self.book.get(lane).and_then(|lane| lane.newest) else { return };
        let frame = Frame::PaySync(Box::new(newest)).encode();
        out.push(Output::Send { session: key, frame });
    }

    /// What the relay has of the session's lane, for a wallet that may have lost it.
    pub(super) fn sync_voucher(&self, key: SessionKey, out: &mut Vec<Output>) {
        let lane = self.sessions.get(&key).and_then(|session| session.pass.lane);
        if let Some((lane, _)) = lane {
            self.sync_lane(key, &lane, out);
        }
    }

    /// A new Bind on a running session: for the terms that hold, or those that come.
    fn bind(&mut self, now: Time, key: SessionKey, signed: &SignedBind, out: &mut Vec<Output>) {
        let Some(access) = &self.access else { return };
        let state = Arc::clone(&access.blockchain_state);
        let Some(session) = self.sessions.get(&key) else { return };
        let pass = session.pass.clone();
        let Some(old) = pass.bind else { return };
        let Some(stream) = state.stream(&pass.stream) else { return };
        let current = state.terms_at(&pass.stream).map(|terms| self.terms_of(stream, terms));
        let next = stream.next_terms(state.height()).map(|terms| self.terms_of(stream, terms));
        let hashes: Vec<[u8; 32]> =
            [&current, &next].into_iter().flatten().map(chain_types::Terms::hash).collect();
        let checked = self.check_bind(
            &state,
            signed,
            &pass.stream,
            pass.token.as_ref(),
            &old.client_fingerprint,
            &hashes,
        );
        let bind = match checked {
            // The same viewer, the same channel: only what is agreed to may change.
            Ok(bound) if bound.bind.viewer == old.viewer && bound.bind.channel == old.channel => {
                bound.bind
            }
            Ok(_) => {
                let message = "the bind is for another viewer or channel: join anew".to_owned();
                let frame = Frame::Error { code: 409, message }.encode();
                out.push(Output::Send { session: key, frame });
                return;
            }
            Err(refusal) => {
                let (code, message) = (refusal.http_status(), refusal.to_string());
                let frame = Frame::Error { code, message }.encode();
                out.push(Output::Send { session: key, frame });
                return;
            }
        };
        let is_next = next.as_ref().is_some_and(|next| next.hash() == bind.terms_hash);
        let next_lane = next.filter(|_| is_next && !bind.channel.is_zero()).map(|next| {
            (self.lane_of(bind.channel, pass.stream, next.terms_version), next.terms_version)
        });
        if let Some(session) = self.sessions.get_mut(&key) {
            match next_lane {
                Some(next) => session.next_lane = Some(next),
                None => {
                    session.is_bound = true;
                    session.pass.bind = Some(bind);
                }
            }
        }
        let ack = bind.acknowledge(&self.config.relay_key, &self.config.chain_id);
        out.push(Output::Send { session: key, frame: Frame::BindAck(ack).encode() });
        self.evaluate(now, key, Cause::Voucher, out);
    }
}
