//! Letting in: Bind, token, chain, first money; each refusal by name.

use std::{collections::BTreeMap, sync::Arc};

use chain_types::{
    AccountId, Balance, Bind, Channel, GateReason, Grants, LaneKey, Policy, SignedBind,
    SignedToken, SignedVoucher, StreamId, StreamMetadata, StreamTerms, Terms, Token,
    lane::lane_number, split::BPS,
};
use sfu::ports::SessionKey;

use super::{
    Cause, Decider, LANE_SESSIONS_MAX, Output, Time,
    session::{Admitted, Pass, Session},
};
use crate::{
    access::{Claim, check_token},
    chain::{BlockchainState, ChannelStanding},
    lane::{End, Pause},
    ports::{Admission, AdmissionId, Admit, LaneStatus, Refusal},
};

/// A Bind's parts that are known to be right.
pub(super) struct Bound {
    pub bind: Bind,
    /// Zeros in the Bind where no channel pays.
    pub channel: Option<Arc<Channel>>,
}

impl Decider {
    /// Decides on one request to watch. Money that comes with it is taken even where something else
    /// stands against it.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(
        &mut self,
        now: Time,
        request: &Admit,
        out: &mut Vec<Output>,
    ) -> Result<Admission, Refusal> {
        let result = self.decide(now, request, out);
        match &result {
            Ok(_) => self.counters.admitted += 1,
            Err(refusal) if refusal.http_status() == 402 => self.counters.payment_required += 1,
            Err(_) => self.counters.refused += 1,
        }
        result
    }

    fn decide(
        &mut self,
        now: Time,
        request: &Admit,
        out: &mut Vec<Output>,
    ) -> Result<Admission, Refusal> {
        let Some(access) = &self.access else {
            return Err(Refusal::Books("the chain was not read yet"));
        };
        if self.books_fault.is_some() {
            return Err(Refusal::Books("its log cannot be written"));
        }
        let state = Arc::clone(&access.blockchain_state);
        let (stream, in_force) = stream_in_force(&state, &request.stream)?;
        let terms = self.terms_of(&stream, in_force);
        // A free stream is everybody's: what is shown without a Bind does not matter there.
        let is_needed = stream.policy != Policy::Free || request.bind.is_some();
        let token = match &request.token {
            Some(token) if is_needed => Some(*check_token(
                token,
                &stream,
                Grants::SUBSCRIBE,
                &self.config.chain_id,
                now.unix_ms,
            )?),
            Some(_) | None => None,
        };
        if stream.policy == Policy::Paid && !self.is_served_free(&stream.creator) {
            self.check_share(&stream, terms.terms_version)?;
        }
        let Some(signed) = &request.bind else {
            return match stream.policy {
                Policy::Free => Ok(self.let_in(now, nobody(request.stream), None)),
                Policy::Paid => Err(asked(terms, None)),
                Policy::Ticketed | Policy::AllowList => Err(Refusal::BindMissing),
            };
        };
        let hashes = [terms.hash()];
        let fingerprint = &request.client_fingerprint;
        let bound =
            self.check_bind(&state, signed, &stream.id, token.as_ref(), fingerprint, &hashes)?;
        let mut pass = Pass {
            stream: stream.id,
            viewer: bound.bind.viewer,
            token,
            bind: Some(bound.bind),
            lane: None,
        };
        let claim = Claim { has_lane: false, ..self.claim(&pass) };
        let rights = self
            .access
            .as_ref()
            .map(|access| access.rights(&stream.id, &pass.viewer, claim, now.unix_ms))
            .unwrap_or(Err(GateReason::Stream));
        match (rights, stream.policy) {
            (Ok(_), _) => {}
            (Err(_), Policy::Paid) => {
                pass.lane = Some(self.pay_to_enter(now, request, &bound, &terms, out)?);
            }
            (Err(reason), Policy::Ticketed) => return Err(denied(reason, NO_TICKET)),
            (Err(reason), Policy::Free | Policy::AllowList) => {
                return Err(denied(reason, NOT_LISTED));
            }
        }
        self.make_place(now, &pass, out)?;
        let bind_ack = bound.bind.acknowledge(&self.config.relay_key, &self.config.chain_id);
        Ok(self.let_in(now, pass, Some(bind_ack)))
    }

    fn let_in(&mut self, now: Time, pass: Pass, bind_ack: Option<[u8; 64]>) -> Admission {
        self.next_admission += 1;
        let id = AdmissionId(self.next_admission);
        let viewer = pass.viewer;
        let lane = pass.lane.and_then(|(lane, _)| self.lane_status(&lane, Balance::ZERO));
        self.admissions.insert(id, Admitted::new(pass, now));
        Admission { id, bind_ack, viewer, lane }
    }

    /// The lane that pays, once enough is paid on it and nothing else is owed.
    fn pay_to_enter(
        &mut self,
        now: Time,
        request: &Admit,
        bound: &Bound,
        terms: &Terms,
        out: &mut Vec<Output>,
    ) -> Result<(LaneKey, u32), Refusal> {
        let Some(channel) = &bound.channel else { return Err(asked(terms.clone(), None)) };
        let id = bound.bind.channel;
        self.check_channel(&id)?;
        let lane = LaneKey {
            channel: id,
            payee: self.config.payee,
            stream: terms.stream,
            lane: terms.lane(),
        };
        self.book.lane(lane, terms.terms_version, terms.rate);
        if let Some(voucher) = &request.voucher {
            self.take_first(now, voucher, &lane, terms, &channel.voucher_key, out)?;
        }
        let status = self.lane_status(&lane, terms.min_prepay);
        if status.is_none_or(|status| status.paid < status.due) {
            return Err(asked(terms.clone(), status));
        }
        // Who owes on any lane is let in nowhere.
        let owing = self.book.of_channel(&id).find(|(_, lane)| !lane.arrears().is_zero());
        if let Some(owing) = owing.map(|(key, _)| *key) {
            return Err(asked(terms.clone(), self.lane_status(&owing, Balance::ZERO)));
        }
        self.check_cover(&lane)?;
        Ok((lane, terms.terms_version))
    }

    fn check_channel(&self, id: &chain_types::ChannelId) -> Result<(), Refusal> {
        let standing = self.access.as_ref().map_or(ChannelStanding::Unknown, |access| {
            access.blockchain_state.standing(id, &self.config.payee)
        });
        match standing {
            ChannelStanding::Open { .. } => Ok(()),
            ChannelStanding::Expiring { .. } => {
                Err(Refusal::Channel("it expires too soon: open a new one"))
            }
            ChannelStanding::Closing { .. } => {
                Err(Refusal::Channel("it is closing: open a new one"))
            }
            ChannelStanding::Closed => Err(Refusal::Channel("it is closed: open a new one")),
            ChannelStanding::Unknown => Err(Refusal::Channel(
                "the chain does not know it: open one, and wait for its block",
            )),
        }
    }

    /// What was paid has to be there, and what is owed must not be beyond this relay's limit.
    fn check_cover(&self, lane: &LaneKey) -> Result<(), Refusal> {
        let id = &lane.channel;
        let Some(access) = &self.access else { return Ok(()) };
        let state = &access.blockchain_state;
        let standing = state.standing(id, &self.config.payee);
        let promised = self
            .book
            .of_channel(id)
            .map(|(key, lane)| lane.paid().saturating_sub(state.paid(key)))
            .fold(Balance::ZERO, |sum, part| sum.checked_add(part).unwrap_or(Balance::MAX));
        let available = match standing {
            ChannelStanding::Open { available, .. } => available,
            ChannelStanding::Expiring { .. }
            | ChannelStanding::Closing { .. }
            | ChannelStanding::Closed
            | ChannelStanding::Unknown => Balance::ZERO,
        };
        if promised > available {
            return Err(Refusal::Channel(PROMISES_MORE));
        }
        match self.hold(lane) {
            None => Ok(()),
            Some(Pause::Exposure) => {
                Err(Refusal::Channel("too much of it is not reserved: reserve, or wait a minute"))
            }
            Some(Pause::Channel | Pause::Overdue) => {
                Err(Refusal::Channel("it holds less than is owed: top it up"))
            }
        }
    }

    /// The same Bind is the same place: what it had that is not connected is over. Where a lane's
    /// places are taken by others, the oldest that is not connected gives way.
    fn make_place(&mut self, now: Time, pass: &Pass, out: &mut Vec<Output>) -> Result<(), Refusal> {
        let Some(bind) = pass.bind else { return Ok(()) };
        if let Some((lane, _)) = pass.lane {
            let others = |other: &Pass| {
                let is_on_lane = other.lane.is_some_and(|(other, _)| other == lane);
                other.bind.filter(|other| is_on_lane && *other != bind)
            };
            let sessions = || self.sessions.values();
            let connected: Vec<Bind> = sessions()
                .filter(|session| session.is_connected)
                .filter_map(|session| others(&session.pass))
                .collect();
            // Each with the admission that it began by: the lowest is the oldest.
            let begun = sessions().map(|session| (session.admission, &session.pass));
            let admitted = self.admissions.iter().map(|(id, admitted)| (*id, &admitted.pass));
            let waiting: BTreeMap<AdmissionId, Bind> = begun
                .chain(admitted)
                .filter_map(|(id, pass)| Some((id, others(pass)?)))
                .filter(|(_, bind)| !connected.contains(bind))
                .collect();
            // One of each Bind, for whoever came again has replaced what it had.
            if connected.len() + waiting.len() >= LANE_SESSIONS_MAX {
                let oldest = waiting.into_values().next().ok_or(Refusal::Sessions)?;
                self.replace(now, &oldest, out);
            }
        }
        self.replace(now, &bind, out);
        Ok(())
    }

    /// Ends what a Bind has that is not connected. A session of it that begins later is told that
    /// its admission is void.
    fn replace(&mut self, now: Time, bind: &Bind, out: &mut Vec<Output>) {
        self.admissions.retain(|_, admitted| admitted.pass.bind.as_ref() != Some(bind));
        let is_waiting =
            |session: &Session| !session.is_connected && session.pass.bind.as_ref() == Some(bind);
        let waiting: Vec<SessionKey> = (self.sessions.iter())
            .filter(|(_, session)| is_waiting(session))
            .map(|(key, _)| *key)
            .collect();
        for key in waiting {
            self.end(now, key, End::Gone, out);
        }
    }

    fn check_share(&self, stream: &StreamMetadata, version: u32) -> Result<(), Refusal> {
        let split = stream.split_of(version);
        let taken = split.map_or(0, |split| split.creator_bps.saturating_add(split.origin_bps));
        if BPS.saturating_sub(taken) < self.config.min_share_bps {
            return Err(Refusal::Share);
        }
        Ok(())
    }

    /// A voucher that came with the request: for the lane to enter by, or for another one that owes.
    fn take_first(
        &mut self,
        now: Time,
        signed: &SignedVoucher,
        lane: &LaneKey,
        terms: &Terms,
        voucher_key: &AccountId,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let voucher = &signed.voucher;
        let refuse = |what| Err(Refusal::Voucher(what));
        if voucher.channel != lane.channel {
            return refuse("it is of another channel than the bind");
        }
        if voucher.payee != lane.payee {
            return refuse("it pays somebody else than this relay");
        }
        let key = voucher.lane_key();
        let version = if key == *lane {
            Some(terms.terms_version)
        } else {
            self.book.get(&key).map(|lane| lane.terms_version)
        };
        match version {
            None if voucher.stream != lane.stream => return refuse("it is for another stream"),
            None => return refuse("it is on another lane than these terms'"),
            Some(version) if version != voucher.terms_version => {
                return refuse("it is for another version of the terms");
            }
            Some(_) => {}
        }
        if signed.verify(voucher_key, &self.config.chain_id).is_err() {
            self.counters.vouchers_invalid += 1;
            return refuse("its signature is wrong: sign with the channel's voucher key");
        }
        if voucher.cumulative > self.payable(&key) {
            return Err(Refusal::Channel(PROMISES_MORE));
        }
        self.take(now, *signed, out);
        for session in self.book.sessions(&lane.channel) {
            self.evaluate(now, session, Cause::Voucher, out);
        }
        Ok(())
    }

    /// How a lane stands; `ahead` is asked for beyond what is owed.
    pub(super) fn lane_status(&self, key: &LaneKey, ahead: Balance) -> Option<LaneStatus> {
        let lane = self.book.get(key)?;
        let session = lane.sessions.iter().find_map(|session| self.sessions.get(session));
        Some(LaneStatus {
            lane: *key,
            due: lane.owed().checked_add(ahead).unwrap_or(Balance::MAX),
            paid: lane.paid(),
            served_ms: lane.served_ms,
            state: session.map_or(chain_types::LaneState::Pending, |s| s.machine.state()),
        })
    }

    /// Checks a Bind against this transport, these terms and the keys that must have signed.
    pub(super) fn check_bind(
        &self,
        state: &BlockchainState,
        signed: &SignedBind,
        stream: &StreamId,
        token: Option<&Token>,
        client_fingerprint: &[u8; 32],
        terms_hashes: &[[u8; 32]],
    ) -> Result<Bound, Refusal> {
        let bind = signed.bind;
        if bind.stream != *stream {
            return Err(Refusal::BindStale("stream"));
        }
        if bind.relay_key != self.relay_account {
            return Err(Refusal::BindStale("relay"));
        }
        if bind.client_fingerprint != *client_fingerprint
            || bind.relay_fingerprint != self.config.relay_fingerprint
        {
            return Err(Refusal::FingerprintMismatch);
        }
        if !terms_hashes.contains(&bind.terms_hash) {
            return Err(Refusal::BindStale("set of terms"));
        }
        match token {
            None if !bind.token_id.is_zero() => {
                return Err(Refusal::Token("the bind names one that was not shown"));
            }
            Some(token) if token.token_id != bind.token_id => {
                return Err(Refusal::Token("the bind names another one"));
            }
            Some(token) if !token.viewer.is_zero() && token.viewer != bind.viewer => {
                return Err(Refusal::Token("it is for another viewer"));
            }
            Some(_) | None => {}
        }
        let channel = if bind.channel.is_zero() {
            None
        } else {
            let known = state.channel(&bind.channel).ok_or(Refusal::Channel(
                "the chain does not know it: open one, and wait for its block",
            ))?;
            Some(Arc::clone(known))
        };
        let holder_key = match (token, &channel) {
            (Some(token), _) if !token.holder_key.is_zero() => token.holder_key,
            (_, Some(channel)) => channel.voucher_key,
            (_, None) => bind.viewer,
        };
        let voucher_key = channel.as_ref().map(|channel| channel.voucher_key);
        if bind.holder_key != holder_key
            || signed.verify(voucher_key.as_ref(), &self.config.chain_id).is_err()
        {
            return Err(Refusal::BindSignature);
        }
        // Without a token nobody but the channel's payer can be meant.
        if token.is_none() && channel.as_ref().is_some_and(|channel| channel.payer != bind.viewer) {
            return Err(Refusal::AccessDenied("the bind names another viewer than who pays"));
        }
        Ok(Bound { bind, channel })
    }

    /// Whether a token lets its bearer publish a stream of the chain.
    ///
    /// # Errors
    /// The stream is unknown, or the token is wrong.
    pub fn publish_allowed(
        &self,
        now: Time,
        stream: &StreamId,
        token: &SignedToken,
    ) -> Result<(), Refusal> {
        let Some(access) = &self.access else {
            return Err(Refusal::Books("the chain was not read yet"));
        };
        let stream = access
            .blockchain_state
            .stream(stream)
            .filter(|stream| stream.ended.is_none())
            .ok_or(Refusal::StreamUnknown)?;
        check_token(token, stream, Grants::PUBLISH, &self.config.chain_id, now.unix_ms)?;
        Ok(())
    }

    /// Whether somebody may meet a stream's viewers: everybody where it is free; its creator; whom a
    /// token or a record of the chain lets watch; who watches here now, which is who pays.
    ///
    /// # Errors
    /// The stream is unknown, or it is not theirs; with the terms where it is paid.
    pub fn meeting_allowed(
        &self,
        now: Time,
        stream: &StreamId,
        account: Option<&AccountId>,
        token: Option<&SignedToken>,
    ) -> Result<(), Refusal> {
        let Some(access) = &self.access else {
            return Err(Refusal::Books("the chain was not read yet"));
        };
        let (stream, in_force) = stream_in_force(&access.blockchain_state, stream)?;
        let is_creator = account.is_some_and(|account| *account == stream.creator);
        if stream.policy == Policy::Free || is_creator {
            return Ok(());
        }
        let may = |grant| {
            let token = token.ok_or(Refusal::AccessDenied(NOT_LISTED))?;
            check_token(token, &stream, grant, &self.config.chain_id, now.unix_ms)
        };
        if may(Grants::PUBLISH).is_ok() {
            return Ok(());
        }
        let token = match token {
            Some(_) => Some(*may(Grants::SUBSCRIBE)?),
            None => None,
        };
        // A token that names its viewer is for who shows that account's key.
        let viewer = account.copied().unwrap_or(AccountId::ZERO);
        let watches = access
            .active_streams
            .get(&stream.id)
            .is_some_and(|here| !viewer.is_zero() && here.viewers.values().any(|of| *of == viewer));
        let claim = Claim { token: token.as_ref(), has_lane: watches, is_served_free: false };
        match access.rights(&stream.id, &viewer, claim, now.unix_ms) {
            Ok(_) => Ok(()),
            Err(_) if stream.policy == Policy::Paid => {
                Err(asked(self.terms_of(&stream, in_force), None))
            }
            Err(reason) if stream.policy == Policy::Ticketed => Err(denied(reason, NO_TICKET)),
            Err(reason) => Err(denied(reason, NOT_LISTED)),
        }
    }

    /// The lane of one version of a stream's terms, paid by a channel.
    pub(super) fn lane_of(
        &self,
        channel: chain_types::ChannelId,
        stream: StreamId,
        version: u32,
    ) -> LaneKey {
        let lane = lane_number(&self.relay_account, &stream, version, chain_types::TIER_FULL);
        LaneKey { channel, payee: self.config.payee, stream, lane }
    }
}

const PROMISES_MORE: &str = "it holds less than its vouchers promise: top it up";
const NO_TICKET: &str = "no ticket: buy one";
const NOT_LISTED: &str = "the account is not on the stream's list";

fn denied(reason: GateReason, absent: &'static str) -> Refusal {
    match reason {
        GateReason::Expired => Refusal::AccessDenied("it has expired: get it anew"),
        GateReason::Open
        | GateReason::Overdue
        | GateReason::Disputed
        | GateReason::Revoked
        | GateReason::Channel
        | GateReason::Exposure
        | GateReason::Stream
        | GateReason::Books => Refusal::AccessDenied(absent),
    }
}

fn asked(terms: Terms, lane: Option<LaneStatus>) -> Refusal {
    Refusal::PaymentRequired { terms: Box::new(terms), lane: lane.map(Box::new) }
}

fn nobody(stream: StreamId) -> Pass {
    Pass { stream, viewer: AccountId::ZERO, token: None, bind: None, lane: None }
}

/// A stream that lives, with the terms that hold now.
fn stream_in_force<'a>(
    state: &'a BlockchainState,
    id: &StreamId,
) -> Result<(Arc<StreamMetadata>, &'a StreamTerms), Refusal> {
    let stream =
        state.stream(id).filter(|stream| stream.ended.is_none()).ok_or(Refusal::StreamUnknown)?;
    let terms = state.terms_at(id).ok_or(Refusal::StreamUnknown)?;
    Ok((Arc::clone(stream), terms))
}
