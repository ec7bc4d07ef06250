//! What the chain says: a block's changes become verdicts in the turn in which they come.

use std::{collections::BTreeSet, sync::Arc};

use chain_types::{BlockDelta, ChainEvent, Frame, GateReason, Policy, StreamId};
use sfu::ports::SessionKey;

use super::{Cause, Decider, Output, Time};
use crate::{
    access::StreamAccessControl,
    chain::{Affected, BlockchainState},
    event::SutantraEvent,
    ports::Snapshot,
};

impl Decider {
    /// All records: at the start, and when blocks were missed.
    pub(super) fn snapshot(&mut self, now: Time, snapshot: &Snapshot, out: &mut Vec<Output>) {
        let state = match BlockchainState::new(snapshot) {
            Ok(state) => Arc::new(state),
            Err(error) => {
                tracing::error!(%error, "the chain's snapshot cannot be used");
                return;
            }
        };
        // A snapshot older than what is known would take back what was decided.
        if self.height().is_some_and(|height| height > state.height()) {
            tracing::warn!(height = state.height(), "an older snapshot of the chain is ignored");
            return;
        }
        match &mut self.access {
            Some(access) => access.blockchain_state = state,
            None => self.access = Some(StreamAccessControl::new(state)),
        }
        self.learn_rates();
        let streams: BTreeSet<StreamId> =
            self.sessions.values().map(|session| session.pass.stream).collect();
        for stream in streams {
            self.change_terms(now, stream, out);
        }
        self.forget_closed(out);
        self.evaluate_all(now, out);
        self.redeem(now, out);
    }

    /// The next block; one that was known before says nothing.
    pub(super) fn delta(&mut self, now: Time, delta: &BlockDelta, out: &mut Vec<Output>) {
        let Some(access) = &mut self.access else { return };
        if access.blockchain_state.has(delta.height) {
            return;
        }
        let affected = match Arc::make_mut(&mut access.blockchain_state).apply(delta) {
            Ok(affected) => affected,
            Err(gap) => {
                // Whoever drives this follows the chain again and brings a snapshot.
                tracing::warn!(%gap, "blocks were missed");
                return;
            }
        };
        self.learn_rates();
        let first = self.affected(&affected, delta);
        for change in &affected {
            match change {
                Affected::TermsInForce { stream, .. } => self.change_terms(now, *stream, out),
                Affected::TermsScheduled { stream, .. } => {
                    for session in self.sessions_of(stream) {
                        self.tell_terms(session, out);
                    }
                }
                Affected::Stream(_)
                | Affected::StreamEnded(_)
                | Affected::Revoked { .. }
                | Affected::Access { .. }
                | Affected::Channel(_)
                | Affected::ChannelClosing(_)
                | Affected::Lane(_)
                | Affected::Relay(_)
                | Affected::Params => {}
            }
        }
        for session in first {
            self.evaluate(now, session, Cause::Chain, out);
        }
        // Heights alone change something too: reserves end, channels expire.
        let paying: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.pass.lane.is_some())
            .map(|(key, _)| *key)
            .collect();
        for session in paying {
            self.evaluate(now, session, Cause::Chain, out);
        }
        for event in SutantraEvent::of_block(delta, &affected, &self.config.payee) {
            if let SutantraEvent::PaymentReceived { amount, settled: true, .. } = &event {
                self.counters.redeemed_units =
                    self.counters.redeemed_units.saturating_add(amount.units());
            }
            out.push(Output::Event(event));
        }
        self.forget_closed(out);
        self.redeem(now, out);
    }

    /// Sessions that a block's changes touch, in order.
    fn affected(&mut self, affected: &[Affected], delta: &BlockDelta) -> BTreeSet<SessionKey> {
        for event in &delta.events {
            // A record that is gone says nothing later; its being taken back ends what it opened.
            if let ChainEvent::AccessRevoked { stream, viewer } = event
                && self.policy_of(stream).is_some_and(|policy| policy != Policy::Free)
            {
                for session in self.sessions_of(stream) {
                    if let Some(session) = self.sessions.get_mut(&session) {
                        session.is_revoked |= session.pass.viewer == *viewer;
                    }
                }
            }
        }
        let mut sessions = BTreeSet::new();
        for change in affected {
            match change {
                Affected::Stream(stream)
                | Affected::StreamEnded(stream)
                | Affected::TermsInForce { stream, .. }
                | Affected::Revoked { stream, .. } => sessions.extend(self.sessions_of(stream)),
                Affected::Access { stream, viewer } => {
                    let is_whose = |key: &SessionKey| {
                        self.sessions.get(key).is_some_and(|s| s.pass.viewer == *viewer)
                    };
                    sessions.extend(self.sessions_of(stream).into_iter().filter(is_whose));
                }
                Affected::Channel(channel) | Affected::ChannelClosing(channel) => {
                    sessions.extend(self.book.sessions(channel));
                }
                Affected::Lane(lane) => sessions.extend(self.book.sessions(&lane.channel)),
                Affected::TermsScheduled { .. } | Affected::Relay(_) => {}
                Affected::Params => sessions.extend(self.sessions.keys().copied()),
            }
        }
        sessions
    }

    fn policy_of(&self, stream: &StreamId) -> Option<Policy> {
        Some(self.access.as_ref()?.blockchain_state.stream(stream)?.policy)
    }

    fn sessions_of(&self, stream: &StreamId) -> Vec<SessionKey> {
        self.access.as_ref().map_or_else(Vec::new, |access| access.sessions(stream))
    }

    fn evaluate_all(&mut self, now: Time, out: &mut Vec<Output>) {
        let all: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for session in all {
            self.evaluate(now, session, Cause::Chain, out);
        }
    }

    fn learn_rates(&mut self) {
        let Some(access) = &self.access else { return };
        let state = &access.blockchain_state;
        self.book
            .set_rates(&self.relay_account, |stream| state.stream(stream).map(|stream| &**stream));
    }

    /// Other terms hold: each paying session moves to its new lane, agreed to or not.
    fn change_terms(&mut self, now: Time, stream: StreamId, out: &mut Vec<Output>) {
        let Some(access) = &self.access else { return };
        let Some(terms) = access.blockchain_state.terms_at(&stream) else { return };
        let version = terms.version;
        for key in self.sessions_of(&stream) {
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            let Some((old, old_version)) = session.pass.lane else { continue };
            if old_version >= version {
                continue;
            }
            let agreed = session.next_lane.take().filter(|(_, agreed)| *agreed == version);
            session.is_bound = agreed.is_some();
            let lane = self.lane_of(old.channel, stream, version);
            if let Some(session) = self.sessions.get_mut(&key) {
                session.pass.lane = Some((lane, version));
            }
            self.pays_no_more(&old, key);
            self.write(old, out);
            self.pays(lane, version, key);
            self.tell_terms(key, out);
            self.acknowledge(now, key, None, out);
        }
    }

    /// Sends the terms that come, once for each version.
    pub(super) fn tell_terms(&mut self, key: SessionKey, out: &mut Vec<Output>) {
        let Some(version) = self.coming(key).map(|(version, _)| version) else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.told_version >= version {
            return;
        }
        session.told_version = version;
        self.repeat_terms(key, out);
    }

    /// Sends the terms that come, or that hold and are not agreed to.
    pub(super) fn repeat_terms(&self, key: SessionKey, out: &mut Vec<Output>) {
        if let Some((_, json)) = self.coming(key) {
            out.push(Output::Send { session: key, frame: Frame::Terms(json).encode() });
        }
    }

    fn coming(&self, key: SessionKey) -> Option<(u32, String)> {
        let session = self.sessions.get(&key)?;
        session.pass.lane?;
        let state = &self.access.as_ref()?.blockchain_state;
        let stream = state.stream(&session.pass.stream)?;
        let terms = if session.is_bound {
            stream.next_terms(state.height())?
        } else {
            state.terms_at(&session.pass.stream)?
        };
        if session.next_lane.is_some_and(|(_, agreed)| agreed == terms.version) {
            return None;
        }
        Some((terms.version, self.terms_of(stream, terms).to_json()))
    }

    /// Lanes of finalized channels: nothing can come of them.
    fn forget_closed(&mut self, out: &mut Vec<Output>) {
        let Some(access) = &self.access else { return };
        let state = &access.blockchain_state;
        let closed: BTreeSet<_> = self
            .book
            .iter()
            .map(|(key, _)| key.channel)
            .filter(|channel| state.channel(channel).is_some_and(|channel| channel.closed))
            .collect();
        for channel in closed {
            self.book.forget(&channel);
            out.push(Output::Forget { channel });
        }
    }

    /// The log cannot be written: nobody new, no redeem, what is accepted stays in memory.
    pub(super) fn log_failed(&mut self, _now: Time, reason: String, out: &mut Vec<Output>) {
        tracing::error!(reason, "the voucher log cannot be written");
        self.book.distrust_log();
        if self.books_fault.replace(reason).is_none() {
            self.tell_books(GateReason::Books, out);
        }
    }

    /// It can be written again: all that waited goes to it first.
    pub(super) fn log_recovered(&mut self, _now: Time, out: &mut Vec<Output>) {
        if self.books_fault.take().is_none() {
            return;
        }
        for lane in self.book.unlogged() {
            self.write(lane, out);
        }
        self.tell_books(GateReason::Open, out);
    }

    fn tell_books(&self, reason: GateReason, out: &mut Vec<Output>) {
        for (key, session) in &self.sessions {
            if session.pass.lane.is_some() {
                let frame = Frame::GateNotice { open: session.gate.open, reason }.encode();
                out.push(Output::Send { session: *key, frame });
            }
        }
    }
}
