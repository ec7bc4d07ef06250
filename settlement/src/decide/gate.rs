//! One session's verdict: facts gathered, the lane machine asked, its answer carried out.

use chain_types::{
    Balance, Frame, GateReason, LaneKey, LaneState, PayAck, PayReq,
    lane::{cost, duration_ms},
};
use sfu::ports::SessionKey;

use super::{ACK_NS, Cause, Decider, GateOrder, Output, REQUEST_NS, Time, session::Session};
use crate::{
    access::{Rights, StreamAccessControl},
    book::Lane,
    chain::ChannelStanding,
    event::SutantraEvent,
    exposure,
    lane::{Facts, GateWish, Pause, Standing},
};

/// A later deadline is not worth a command unless it is later by this much, ns; an earlier one, and
/// what the chain says, is always sent.
const DEADLINE_STEP_NS: u64 = 100_000_000;

impl Decider {
    /// Looks at a session again, and does what follows.
    pub(super) fn evaluate(
        &mut self,
        now: Time,
        key: SessionKey,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        let Some((facts, rights)) = self.facts(now, key) else { return };
        let pause_max_ns = self.pause_max_ns();
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let mut old = session.machine;
        let channel = session.pass.lane.map(|(lane, _)| lane.channel);
        let disputes = channel.and_then(|channel| self.disputes.get_mut(&channel));
        old.trials = disputes.as_ref().map_or(0, |disputes| disputes.trials);
        let new = old.next(&facts, pause_max_ns);
        if let Some(disputes) = disputes {
            disputes.trials = new.trials;
        }
        session.machine = new;
        session.served_grew = false;
        session.disputed_grew = false;
        if let Standing::Closed(end) = new.standing {
            self.count_flip(key, cause);
            self.end(now, key, end, out);
            return;
        }
        let gate = self.gate_order(now, key, &facts, rights);
        self.order_gate(key, gate, cause, out);
        if old.standing != new.standing {
            self.tell_standing(now, key, old.standing, new.standing, out);
        }
        self.write_served(key, out);
        self.repeat(now, key, out);
        self.schedule(now, key, rights, gate);
    }

    fn facts(&self, now: Time, key: SessionKey) -> Option<(Facts, Option<Rights>)> {
        let access = self.access.as_ref()?;
        let session = self.sessions.get(&key)?;
        let pass = &session.pass;
        let rights = if session.is_revoked {
            Err(GateReason::Revoked)
        } else {
            access.rights(&pass.stream, &pass.viewer, self.claim(pass), now.unix_ms)
        };
        let charged = pass.lane.filter(|_| rights.is_ok_and(|rights| rights.is_charged));
        let mut facts = Facts {
            now_ns: now.mono_ns,
            is_connected: session.is_connected,
            rights: rights.map(|_| ()),
            owed: Balance::ZERO,
            paid: Balance::ZERO,
            is_unbound: false,
            grace: Balance::ZERO,
            moment: Balance::ZERO,
            hold: None,
            is_channel_gone: false,
            invalid_vouchers: session.invalid_vouchers,
            disputed_ms: 0,
            disputed_grew: false,
            served_grew: false,
        };
        if let Some((lane_key, _)) = charged
            && let Some(lane) = self.book.get(&lane_key)
        {
            let rate = lane.rate.unwrap_or(0);
            let disputes = self.disputes.get(&lane_key.channel);
            facts.disputed_ms = disputes.map_or(0, |of| of.window.sum_ms(now.mono_ns));
            facts.disputed_grew = session.disputed_grew;
            facts.served_grew = session.served_grew;
            facts.owed = lane.owed();
            facts.paid = lane.paid();
            facts.is_unbound = !session.is_bound && rate > 0;
            let room = self.room(access, &lane_key, lane);
            facts.grace = room.grace;
            facts.moment = moment(rate);
            facts.is_channel_gone = room.is_channel_gone;
            facts.hold = room.hold(facts.moment);
        }
        Some((facts, rights.ok()))
    }

    /// What a lane may still use. What is the channel's its live lanes share equally.
    fn room(&self, access: &StreamAccessControl, key: &LaneKey, lane: &Lane) -> Room {
        let state = &access.blockchain_state;
        let add = |sum: Balance, part| sum.checked_add(part).unwrap_or(Balance::MAX);
        let (mut others, mut open, mut live_lanes) = (Balance::ZERO, Balance::ZERO, 1);
        for (other_key, other) in self.book.of_channel(&key.channel) {
            open = add(open, other.owed().saturating_sub(state.paid(other_key)));
            if other_key != key {
                others = add(others, other.arrears());
                live_lanes += u128::from(!other.sessions.is_empty());
            }
        }
        let share = |whole: Balance, used: Balance| {
            let left = whole.saturating_sub(used).units() / live_lanes;
            Balance::new(left).expect("a part of an amount is one")
        };
        let lanes = || self.book.of_channel(&key.channel);
        let limit = exposure::limit(
            state.params(),
            self.config.exposure_seconds,
            lanes().map(|(_, lane)| lane),
            Some(lane),
        );
        let standing = state.standing(&key.channel, &key.payee);
        let available = match standing {
            ChannelStanding::Open { available, .. } => available,
            ChannelStanding::Expiring { .. }
            | ChannelStanding::Closing { .. }
            | ChannelStanding::Closed
            | ChannelStanding::Unknown => Balance::ZERO,
        };
        Room {
            grace: share(cost(lane.rate.unwrap_or(0), u64::from(self.config.grace_ms)), others),
            // What is served has to be there when it is redeemed.
            channel: share(available, open),
            exposure: share(limit, exposure::uncovered(state, &key.channel, lanes())),
            is_channel_open: matches!(standing, ChannelStanding::Open { .. }),
            is_channel_gone: matches!(standing, ChannelStanding::Closed | ChannelStanding::Unknown),
        }
    }

    /// What besides payment stands against serving a lane.
    pub(super) fn hold(&self, key: &LaneKey) -> Option<Pause> {
        let (access, lane) = (self.access.as_ref()?, self.book.get(key)?);
        self.room(access, key, lane).hold(moment(lane.rate.unwrap_or(0)))
    }

    /// When media has to stop if it flows on and nothing is paid, ns; `None`: never.
    fn money_deadline_ns(&self, now: Time, lane_key: &LaneKey) -> Option<u64> {
        let (access, lane) = (self.access.as_ref()?, self.book.get(lane_key)?);
        let rate = lane.rate.filter(|rate| *rate > 0)?;
        let room = self.room(access, lane_key, lane);
        let paid_for =
            (lane.paid().units() + room.grace.units()).saturating_sub(lane.owed().units());
        let paid_for = Balance::new(paid_for).unwrap_or(Balance::MAX);
        let budget = paid_for.min(room.channel).min(room.exposure);
        let flowing = || {
            let sessions = lane.sessions.iter().filter_map(|key| self.sessions.get(key));
            sessions.filter(|session| session.is_connected)
        };
        let undecided_ms: u64 = flowing().map(Session::undecided_ms).sum();
        let left_ms = duration_ms(rate, budget).saturating_sub(undecided_ms);
        let each_ms = left_ms / flowing().count().max(1) as u64;
        Some(now.mono_ns.saturating_add(each_ms.saturating_mul(1_000_000)))
    }

    fn gate_order(
        &self,
        now: Time,
        key: SessionKey,
        facts: &Facts,
        rights: Option<Rights>,
    ) -> GateOrder {
        let (Some(session), Some(rights)) = (self.sessions.get(&key), rights) else {
            return GateOrder::CLOSED;
        };
        let (layer_cap, trial_ns) = match session.machine.gate(facts) {
            GateWish::Closed => return GateOrder::CLOSED,
            GateWish::Open => (rights.layer_cap, None),
            GateWish::Lowest => (0, None),
            GateWish::Until { at_ns } => (rights.layer_cap, Some(at_ns)),
        };
        let access_ns = rights.valid_until_ms.map(|until_ms| now.mono_of(until_ms));
        let money_ns = session
            .pass
            .lane
            .filter(|_| rights.is_charged)
            .and_then(|(lane, _)| self.money_deadline_ns(now, &lane));
        let valid_until_ns = [access_ns, money_ns, trial_ns].into_iter().flatten().min();
        if valid_until_ns.is_some_and(|at| at <= now.mono_ns) {
            return GateOrder::CLOSED;
        }
        GateOrder { open: true, layer_cap, valid_until_ns }
    }

    fn order_gate(
        &mut self,
        key: SessionKey,
        gate: GateOrder,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let old = session.gate;
        let is_same = gate.open == old.open
            && gate.layer_cap == old.layer_cap
            && match (old.valid_until_ns, gate.valid_until_ns) {
                (None, None) => true,
                (Some(old), Some(new)) if cause == Cause::Chain => new == old,
                (Some(old), Some(new)) => new >= old && new.saturating_sub(old) < DEADLINE_STEP_NS,
                (None, Some(_)) | (Some(_), None) => false,
            };
        if is_same {
            return;
        }
        session.gate = gate;
        let slot = session.slot;
        out.push(Output::Gate { slot, gate });
        if gate.open != old.open {
            self.count_flip(key, cause);
        }
    }

    fn count_flip(&mut self, key: SessionKey, cause: Cause) {
        if !self.sessions.contains_key(&key) {
            return;
        }
        match cause {
            Cause::Chain => self.counters.gate_flips_chain += 1,
            Cause::Voucher => self.counters.gate_flips_voucher += 1,
            Cause::Time => self.counters.gate_flips_time += 1,
        }
    }

    /// Frames and events of a change.
    fn tell_standing(
        &mut self,
        now: Time,
        key: SessionKey,
        old: Standing,
        new: Standing,
        out: &mut Vec<Output>,
    ) {
        let notice = |open, reason, out: &mut Vec<Output>| {
            let frame = Frame::GateNotice { open, reason }.encode();
            out.push(Output::Send { session: key, frame });
        };
        let flowed = matches!(old, Standing::Active | Standing::Late);
        match new {
            Standing::Active | Standing::Late => {
                if !flowed {
                    notice(true, GateReason::Open, out);
                }
                if new == Standing::Late {
                    self.payment_due(key, out);
                    self.request(now, key, out);
                }
            }
            Standing::Paused { why, .. } => {
                notice(false, why.reason(), out);
                let lane = self.sessions.get(&key).and_then(|session| session.pass.lane);
                if let Some((lane, _)) = lane {
                    self.write(lane, out);
                }
                self.request(now, key, out);
            }
            Standing::Disputed(_) if flowed => notice(false, GateReason::Disputed, out),
            Standing::Disputed(_) | Standing::Pending | Standing::Closed(_) => {}
        }
        self.acknowledge(now, key, None, out);
    }

    fn payment_due(&self, key: SessionKey, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some((lane, _)) = session.pass.lane else { return };
        let (paid, owed) = self.paid_and_owed(&lane);
        out.push(Output::Event(SutantraEvent::PaymentDue {
            stream_id: session.pass.stream,
            viewer: session.pass.viewer,
            amount: owed.saturating_sub(paid),
        }));
    }

    /// PayReq: what is due, and how long media still flows.
    pub(super) fn request(&mut self, now: Time, key: SessionKey, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.request_at_ns = now.mono_ns.saturating_add(REQUEST_NS);
        let Some((lane, _)) = session.pass.lane else { return };
        let gate = session.gate;
        // A debt is written while it grows: a crash forgives none of it.
        self.write(lane, out);
        let (paid, due) = self.paid_and_owed(&lane);
        let left_ns = match gate.valid_until_ns {
            Some(until) if gate.open => until.saturating_sub(now.mono_ns),
            Some(_) | None => 0,
        };
        let deadline_ms = u32::try_from(left_ns / 1_000_000).unwrap_or(u32::MAX);
        let frame = Frame::PayReq(PayReq { lane: lane.lane, due, paid, deadline_ms }).encode();
        out.push(Output::Send { session: key, frame });
    }

    /// PayAck of the session's lane, or of another one that it paid on.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        key: SessionKey,
        other: Option<LaneKey>,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if other.is_none() {
            session.ack_at_ns = now.mono_ns.saturating_add(ACK_NS);
        }
        let Some(lane_key) = other.or(session.pass.lane.map(|(lane, _)| lane)) else { return };
        let Some(lane) = self.book.get(&lane_key) else { return };
        let ack = PayAck {
            lane: lane_key.lane,
            cumulative: lane.handed,
            sent_bytes: lane.sent_bytes,
            served_ms: lane.served_ms,
            state: session.machine.state(),
        };
        out.push(Output::Send { session: key, frame: Frame::PayAck(ack).encode() });
    }

    /// What is said again and again: acknowledgements, requests, receipts.
    fn repeat(&mut self, now: Time, key: SessionKey, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get(&key).filter(|session| session.is_connected) else {
            return;
        };
        let is_late = session.machine.state() == LaneState::Late;
        let (ack_at, request_at, receipt_at) =
            (session.ack_at_ns, session.request_at_ns, session.receipt_at_ns);
        if now.mono_ns >= ack_at {
            self.acknowledge(now, key, None, out);
        }
        if is_late && now.mono_ns >= request_at {
            self.request(now, key, out);
        }
        if now.mono_ns >= receipt_at {
            self.receipt(now, key, out);
        }
    }

    /// Time served is written each cadence even where no voucher comes: who paid far ahead would
    /// have it for nothing after a crash.
    fn write_served(&mut self, key: SessionKey, out: &mut Vec<Output>) {
        let Some((lane, _)) = self.sessions.get(&key).and_then(|session| session.pass.lane) else {
            return;
        };
        let cadence_ms = u64::from(self.config.cadence_ms);
        let is_due = self
            .book
            .get(&lane)
            .is_some_and(|lane| lane.served_ms.saturating_sub(lane.logged_served_ms) >= cadence_ms);
        if is_due {
            self.write(lane, out);
        }
    }

    fn schedule(&mut self, now: Time, key: SessionKey, rights: Option<Rights>, gate: GateOrder) {
        let pause_max_ns = self.pause_max_ns();
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if let Some(old) = session.wake_ns.take() {
            self.wakes.remove(&(old, key));
        }
        let paying = session.is_connected && session.pass.lane.is_some();
        let is_late = session.machine.state() == LaneState::Late;
        let times = [
            session.machine.wakes_at(pause_max_ns),
            rights.and_then(|rights| rights.valid_until_ms).map(|until| now.mono_of(until)),
            paying.then_some(session.ack_at_ns),
            paying.then_some(session.receipt_at_ns),
            (paying && is_late).then_some(session.request_at_ns),
            gate.valid_until_ns.filter(|_| gate.open),
        ];
        let Some(wake) = times.into_iter().flatten().min() else { return };
        // Never in the same turn again.
        let wake = wake.max(now.mono_ns.saturating_add(1_000_000));
        session.wake_ns = Some(wake);
        self.wakes.insert((wake, key));
    }
}

/// What a lane may still use before its media has to stop.
struct Room {
    /// How far it may be behind.
    grace: Balance,
    /// What its channel still holds for it.
    channel: Balance,
    /// What this relay still bears without a reserve.
    exposure: Balance,
    is_channel_open: bool,
    is_channel_gone: bool,
}

impl Room {
    fn hold(&self, moment: Balance) -> Option<Pause> {
        if !self.is_channel_open || self.channel < moment {
            Some(Pause::Channel)
        } else if self.exposure < moment {
            Some(Pause::Exposure)
        } else {
            None
        }
    }
}

/// What a millisecond costs, rounded up.
fn moment(rate_per_second: u64) -> Balance {
    Balance::of(rate_per_second.div_ceil(1000))
}
