//! From admission to end: what MONEY remembers of one viewer's transport.

use chain_types::{AccountId, Balance, Bind, Frame, LaneKey, Receipt, StreamId, Token};
use sfu::ports::{SessionKey, SlotId};

use super::{
    ADMISSION_NS, Cause, Decider, ENDED_NS, GateOrder, Input, Output, RECEIPT_NS, Time, Usage,
};
use crate::{
    access::Claim,
    event::SutantraEvent,
    lane::{End, Machine},
    ports::AdmissionId,
};

/// What an admitted viewer showed.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub stream: StreamId,
    /// Zeros where nobody is named.
    pub viewer: AccountId,
    pub token: Option<Token>,
    pub bind: Option<Bind>,
    /// The lane that pays, with its version of the terms.
    pub lane: Option<(LaneKey, u32)>,
}

/// Let in, its session not begun.
#[derive(Debug)]
pub(super) struct Admitted {
    pub pass: Pass,
    pub void_at_ns: u64,
}

impl Admitted {
    pub fn new(pass: Pass, now: Time) -> Self {
        Self { pass, void_at_ns: now.mono_ns.saturating_add(ADMISSION_NS) }
    }
}

/// A session that lives.
#[derive(Debug)]
pub(super) struct Session {
    pub pass: Pass,
    /// What it began by: older ones are lower.
    pub admission: AdmissionId,
    pub slot: SlotId,
    pub is_connected: bool,
    pub machine: Machine,
    /// The viewer has agreed to the terms of its lane.
    pub is_bound: bool,
    /// Terms that come, agreed to ahead: their lane and version.
    pub next_lane: Option<(LaneKey, u32)>,
    /// Newest version of terms that was sent.
    pub told_version: u32,
    /// The chain took its access back by name.
    pub is_revoked: bool,
    pub invalid_vouchers: u8,
    pub usage: Usage,
    /// `first_sent_ns` and the decided time when the gate was last opened.
    pub opened: (u64, u64),
    pub served_grew: bool,
    pub disputed_grew: bool,
    /// As it was last ordered.
    pub gate: GateOrder,
    pub ack_at_ns: u64,
    pub request_at_ns: u64,
    pub receipt_at_ns: u64,
    /// Its entry among the wakes.
    pub wake_ns: Option<u64>,
}

impl Session {
    fn new(
        admission: AdmissionId,
        key: SessionKey,
        slot: SlotId,
        pass: Pass,
        told_version: u32,
        now: Time,
    ) -> Self {
        Self {
            pass,
            admission,
            slot,
            is_connected: false,
            machine: Machine::default(),
            is_bound: true,
            next_lane: None,
            told_version,
            is_revoked: false,
            invalid_vouchers: 0,
            usage: Usage {
                session: key,
                served_ms: 0,
                disputed_ms: 0,
                sent_bytes: 0,
                first_sent_ns: 0,
                last_sent_ns: 0,
            },
            opened: (0, 0),
            served_grew: false,
            disputed_grew: false,
            gate: GateOrder::CLOSED,
            ack_at_ns: now.mono_ns,
            request_at_ns: now.mono_ns,
            receipt_at_ns: now.mono_ns.saturating_add(RECEIPT_NS),
            wake_ns: None,
        }
    }

    /// Media that was sent and is not yet said to be served or disputed, ms. Deadlines count it as
    /// served, so that what RTCP has not confirmed yet is not given away.
    pub fn undecided_ms(&self) -> u64 {
        // Usage decides a slot two seconds after it began at the latest.
        const UNDECIDED_MS_MAX: u64 = 2_000;
        let Usage { first_sent_ns, last_sent_ns, served_ms, disputed_ms, .. } = self.usage;
        if first_sent_ns == 0 {
            return 0;
        }
        let flown_ms = last_sent_ns.saturating_sub(first_sent_ns) / 1_000_000;
        let decided_ms = (served_ms + disputed_ms).saturating_sub(self.opened.1);
        flown_ms.saturating_sub(decided_ms).min(UNDECIDED_MS_MAX)
    }
}

/// A session that is over, while its last usage may still come and its URL says why.
#[derive(Debug)]
pub(super) struct Ended {
    pub end: End,
    pub lane: Option<LaneKey>,
    pub usage: Usage,
    pub forget_at_ns: u64,
}

impl Decider {
    pub(super) fn claim<'a>(&self, pass: &'a Pass) -> Claim<'a> {
        let creator = self
            .access
            .as_ref()
            .and_then(|access| access.blockchain_state.stream(&pass.stream))
            .map(|stream| stream.creator);
        Claim {
            token: pass.token.as_ref(),
            has_lane: pass.lane.is_some(),
            is_served_free: creator.is_some_and(|creator| self.is_served_free(&creator)),
        }
    }

    pub(super) fn begun(
        &mut self,
        now: Time,
        admission: AdmissionId,
        key: SessionKey,
        slot: SlotId,
        out: &mut Vec<Output>,
    ) {
        let (Some(admitted), Some(access)) =
            (self.admissions.remove(&admission), self.access.as_mut())
        else {
            // It took longer than an admission lives: the viewer has to ask again.
            let message = "the admission is void: ask again".to_owned();
            let last_frame = Frame::Error { code: 4408, message }.encode();
            out.push(Output::Close { session: key, last_frame });
            return;
        };
        let pass = admitted.pass;
        access.join(pass.stream, key, pass.viewer);
        let version = pass.lane.map_or(0, |(_, version)| version);
        if let Some((lane, _)) = pass.lane {
            self.pays(lane, version, key);
        }
        self.sessions.insert(key, Session::new(admission, key, slot, pass, version, now));
        self.evaluate(now, key, Cause::Chain, out);
    }

    /// The session pays on a lane from now on.
    pub(super) fn pays(&mut self, lane: LaneKey, version: u32, session: SessionKey) {
        let terms = self.terms(&lane.stream);
        let rate = self.rate_of(&lane.stream, version).unwrap_or(0);
        self.book.lane(lane, version, rate).sessions.insert(session);
        if let Some(access) = &mut self.access {
            access.pays(lane, terms);
        }
    }

    pub(super) fn pays_no_more(&mut self, lane: &LaneKey, session: SessionKey) {
        if let Some(lane) = self.book.get_mut(lane) {
            lane.sessions.remove(&session);
        }
        if let Some(access) = &mut self.access {
            access.pays_no_more(lane);
        }
    }

    /// Units per second at full quality of a version of a stream's terms.
    pub(super) fn rate_of(&self, stream: &StreamId, version: u32) -> Option<u64> {
        let stream = self.access.as_ref()?.blockchain_state.stream(stream)?;
        stream.terms_of(version)?.rate(chain_types::TIER_FULL)
    }

    pub(super) fn connected(&mut self, now: Time, key: SessionKey, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get(&key).filter(|session| !session.is_connected) else {
            return;
        };
        let pass = session.pass.clone();
        let is_paid_up = pass
            .lane
            .and_then(|(lane, _)| self.book.get(&lane))
            .is_some_and(|lane| lane.owed() <= lane.paid());
        let claim = self.claim(&pass);
        let Some(access) = &mut self.access else { return };
        if !access.on_webrtc_connect(key, &pass.stream, claim, is_paid_up, now.unix_ms, out) {
            self.forget(now, key, End::Unpaid, out);
            return;
        }
        let viewer_count = access.connected(&pass.stream);
        let stream_id = pass.stream;
        out.push(Output::Event(SutantraEvent::ViewerJoined { stream_id, viewer_count }));
        if let Some(session) = self.sessions.get_mut(&key) {
            session.is_connected = true;
        }
        // The same Bind is the same place: the transport that it named before is gone.
        if let Some(bind) = pass.bind {
            let is_same = |other: &Session| other.pass.bind == Some(bind);
            let old: Vec<SessionKey> = self
                .sessions
                .iter()
                .filter(|(other, session)| **other != key && is_same(session))
                .map(|(other, _)| *other)
                .collect();
            for other in old {
                self.end(now, other, End::Gone, out);
            }
        }
        self.evaluate(now, key, Cause::Voucher, out);
        self.tell_terms(key, out);
        self.sync_voucher(key, out);
    }

    /// What MONEY decides to end: gate, receipt, last frame.
    pub(super) fn end(&mut self, now: Time, key: SessionKey, end: End, out: &mut Vec<Output>) {
        if !self.sessions.contains_key(&key) {
            return;
        }
        self.receipt(now, key, out);
        if let Some(access) = &self.access {
            access.reject_connection(key, end.code(), end.message(), out);
        }
        self.forget(now, key, end, out);
    }

    /// The session is over, whoever ended it: its gate is shut and its lane written.
    pub(super) fn forget(&mut self, now: Time, key: SessionKey, end: End, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.remove(&key) else { return };
        if session.gate.open {
            out.push(Output::Gate { slot: session.slot, gate: GateOrder::CLOSED });
        }
        if let Some(wake) = session.wake_ns {
            self.wakes.remove(&(wake, key));
        }
        let lane = session.pass.lane.map(|(lane, _)| lane);
        if let Some(lane) = lane {
            self.pays_no_more(&lane, key);
            self.write(lane, out);
            if end == End::Unpaid {
                self.redeem_soon.insert(lane);
            }
        }
        let stream_id = session.pass.stream;
        let left = self
            .access
            .as_mut()
            .and_then(|access| access.leave(&stream_id, key, session.is_connected));
        if let Some(viewer_count) = left {
            out.push(Output::Event(SutantraEvent::ViewerLeft { stream_id, viewer_count }));
        }
        let forget_at_ns = now.mono_ns.saturating_add(ENDED_NS);
        self.ended.insert(key, Ended { end, lane, usage: session.usage, forget_at_ns });
    }

    pub(super) fn closed(
        &mut self,
        now: Time,
        key: SessionKey,
        usage: Option<Usage>,
        out: &mut Vec<Output>,
    ) {
        if let Some(usage) = usage {
            self.count(now, &usage);
        }
        let lane = self.ended.get(&key).and_then(|ended| ended.lane);
        self.forget(now, key, End::Gone, out);
        if let Some(lane) = lane {
            self.write(lane, out);
        }
    }

    pub(super) fn usage(&mut self, now: Time, usage: &[Usage], out: &mut Vec<Output>) {
        // First all, then the verdicts: sessions share lanes.
        for usage in usage {
            self.count(now, usage);
        }
        for usage in usage {
            self.evaluate(now, usage.session, Cause::Time, out);
        }
    }

    /// Adds what is new in a report to the lane that pays for it.
    fn count(&mut self, now: Time, usage: &Usage) {
        let (known, lane) = if let Some(session) = self.sessions.get_mut(&usage.session) {
            let is_charged = session.pass.lane.map(|(lane, _)| lane);
            (&mut session.usage, is_charged)
        } else if let Some(ended) = self.ended.get_mut(&usage.session) {
            (&mut ended.usage, ended.lane)
        } else {
            return;
        };
        let old = *known;
        let served_ms = usage.served_ms.saturating_sub(old.served_ms);
        let disputed_ms = usage.disputed_ms.saturating_sub(old.disputed_ms);
        let sent_bytes = usage.sent_bytes.saturating_sub(old.sent_bytes);
        *known = Usage {
            session: usage.session,
            served_ms: usage.served_ms.max(old.served_ms),
            disputed_ms: usage.disputed_ms.max(old.disputed_ms),
            sent_bytes: usage.sent_bytes.max(old.sent_bytes),
            ..*usage
        };
        if let Some(session) = self.sessions.get_mut(&usage.session) {
            if session.opened.0 != usage.first_sent_ns {
                session.opened = (usage.first_sent_ns, old.served_ms + old.disputed_ms);
            }
            session.served_grew |= served_ms > 0;
            session.disputed_grew |= disputed_ms > 0;
        }
        let Some(key) = lane.filter(|lane| self.is_paid_stream(&lane.stream)) else { return };
        if disputed_ms > 0 {
            let disputes = self.disputes.entry(key.channel).or_default();
            disputes.window.add(now.mono_ns, disputed_ms);
        }
        if let Some(lane) = self.book.get_mut(&key) {
            lane.served_ms = lane.served_ms.saturating_add(served_ms);
            lane.sent_bytes = lane.sent_bytes.saturating_add(sent_bytes);
        }
    }

    fn is_paid_stream(&self, stream: &StreamId) -> bool {
        let state = self.access.as_ref().map(|access| &access.blockchain_state);
        let stream = state.and_then(|state| state.stream(stream));
        stream.is_some_and(|stream| stream.policy == chain_types::Policy::Paid)
    }

    /// A receipt for what was sent and paid so far.
    pub(super) fn receipt(&mut self, now: Time, key: SessionKey, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.receipt_at_ns = now.mono_ns.saturating_add(RECEIPT_NS);
        let Some((lane_key, _)) = session.pass.lane else { return };
        let Some(lane) = self.book.get(&lane_key) else { return };
        // What is not handed to the log is not acknowledged by a signature either.
        let acknowledged = lane.newest.filter(|newest| newest.voucher.cumulative == lane.handed);
        let Some(newest) = acknowledged.or(lane.synced) else { return };
        let receipt = Receipt {
            channel: lane_key.channel,
            relay_key: self.relay_account,
            lane: lane_key.lane,
            nonce: newest.voucher.nonce,
            cumulative: newest.voucher.cumulative,
            sent_bytes: lane.sent_bytes,
            state: session.machine.state(),
        };
        let signature = receipt.sign(&self.config.relay_key, &self.config.chain_id);
        let frame = Frame::Receipt(Box::new(receipt), signature).encode();
        out.push(Output::Send { session: key, frame });
    }

    /// Writes a lane to the log, or keeps it in memory while that fails.
    pub(super) fn write(&mut self, lane: LaneKey, out: &mut Vec<Output>) {
        if self.books_fault.is_some() {
            self.book.hold_back(lane);
        } else if let Some((sequence, record)) = self.book.hand_over(&lane) {
            out.push(Output::Append { sequence, record });
        }
    }

    pub(super) fn paid_and_owed(&self, lane: &LaneKey) -> (Balance, Balance) {
        let lane = self.book.get(lane);
        lane.map_or((Balance::ZERO, Balance::ZERO), |lane| (lane.paid(), lane.owed()))
    }
}

impl Input {
    /// For logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Delta(_) => "delta",
            Self::Begun { .. } => "begun",
            Self::Abandoned { .. } => "abandoned",
            Self::Connected { .. } => "connected",
            Self::Closed { .. } => "closed",
            Self::Frame { .. } => "frame",
            Self::Usage(_) => "usage",
            Self::Synced { .. } => "synced",
            Self::LogFailed { .. } => "log failed",
            Self::LogRecovered => "log recovered",
            Self::Reconfigured(_) => "reconfigured",
            Self::Tick => "tick",
        }
    }
}
