//! The relay's control side: carries out what [`Streams`] decides, on the relay and its gates.
//!
//! HTTP handlers call in from any thread; one thread of its own takes the shards' events and owns
//! the gates ([`Control::run`]). Media never passes here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chain_types::AccountId;
use crossbeam_channel::{Receiver, Sender, select};
use sfu::{
    LocalSource, OfferError, Relay,
    ports::{
        CloseReason, Codec, Event, Gate, GateSender, Role, SessionKey, SlotId, SlotUsage,
        StreamKey, foreign::ForeignDecisions,
    },
};

use crate::{
    metrics::Metrics,
    paying::Announcer,
    streams::{
        Lease, NewSession, Output, Refused, ResourceId, StreamFacts, StreamName, Streams, Totals,
    },
};

/// Gate decisions that wait for the deciding thread. When it is full a revocation is still carried
/// out: its session is closed, only not by the gate first.
const DECISIONS_MAX: usize = 4096;
/// How often leases and absent publishers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long the URL of a session that paid answers after its end, and how many such are kept.
const OVER_KEPT: Duration = Duration::from_secs(60);
const OVER_MAX: usize = 4096;
/// How soon a gate command that found a full ring is offered again.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

/// Who decides which gate is open.
pub trait DecisionSource: Send {
    /// A subscriber is connected: the gate to set at once, `None` to leave it closed.
    fn connected(
        &mut self,
        stream: &StreamName,
        session: SessionKey,
        slot: SlotId,
        lease: &Lease,
    ) -> Option<Gate>;
    /// A session is over; `usage` is all that its slot was sent, where that is reported.
    fn closed(&mut self, session: SessionKey, slot: Option<SlotId>, usage: Option<SlotUsage>);
    /// Decisions that come later; [`crossbeam_channel::never`] if there are none.
    fn decisions(&self) -> Receiver<(SlotId, Gate)>;
}

/// Admission's word at the door is the decision: open from `Connected` until the lease ends.
pub struct ByAdmission;

impl DecisionSource for ByAdmission {
    fn connected(
        &mut self,
        _: &StreamName,
        _: SessionKey,
        _: SlotId,
        lease: &Lease,
    ) -> Option<Gate> {
        Some(Gate { open: true, layer_cap: lease.layer_cap, valid_until: lease.valid_until })
    }

    fn closed(&mut self, _: SessionKey, _: Option<SlotId>, _: Option<SlotUsage>) {}

    fn decisions(&self) -> Receiver<(SlotId, Gate)> {
        crossbeam_channel::never()
    }
}

/// Another process decides, over a framed socket; admission only lets in who may ask.
pub struct ByForeign(pub ForeignDecisions);

impl DecisionSource for ByForeign {
    fn connected(
        &mut self,
        stream: &StreamName,
        _: SessionKey,
        slot: SlotId,
        lease: &Lease,
    ) -> Option<Gate> {
        let viewer = lease.token.as_ref().map_or(AccountId::ZERO, |token| token.viewer);
        self.0.joined(slot, format!("{} {viewer}", stream.as_str()).as_bytes());
        None
    }

    fn closed(&mut self, _: SessionKey, slot: Option<SlotId>, _: Option<SlotUsage>) {
        if let Some(slot) = slot {
            self.0.left(slot);
        }
    }

    fn decisions(&self) -> Receiver<(SlotId, Gate)> {
        self.0.decisions()
    }
}

/// A session that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Names it in its URL.
    pub resource: ResourceId,
    /// SDP.
    pub answer: String,
    /// The relay's name for it.
    pub session: SessionKey,
    /// A subscriber's slot.
    pub slot: Option<SlotId>,
}

/// Why a session was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The stream does not allow it.
    #[error("refused: {0:?}")]
    Refused(Refused),
    /// The relay refused the offer.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

impl From<Refused> for BeginError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// The relay, its streams and sessions, for HTTP and the demo.
pub struct Control {
    relay: Arc<Relay>,
    // Control only: taken for a look-up or an insertion, never while media or SDP is worked on.
    streams: Mutex<Streams>,
    decisions: Sender<(SlotId, Gate)>,
    metrics: Arc<Metrics>,
    announcer: Option<Announcer>,
    /// Sessions that paid and are over: their URL still says why for a minute.
    over: Mutex<VecDeque<(Instant, ResourceId, SessionKey)>>,
    draining: AtomicBool,
}

/// What [`Control::run`] needs besides.
pub struct Inputs {
    decisions: Receiver<(SlotId, Gate)>,
    events: Receiver<Event>,
    gates: GateSender,
    source: Box<dyn DecisionSource>,
}

impl Control {
    /// The handle, and what a thread must be given to [`Control::run`].
    pub fn new(
        relay: Arc<Relay>,
        events: Receiver<Event>,
        gates: GateSender,
        source: Box<dyn DecisionSource>,
        metrics: Arc<Metrics>,
        announcer: Option<Announcer>,
    ) -> (Arc<Self>, Inputs) {
        let (sender, decisions) = crossbeam_channel::bounded(DECISIONS_MAX);
        let streams = Mutex::new(Streams::default());
        let draining = AtomicBool::new(false);
        let over = Mutex::default();
        let control =
            Self { relay, streams, decisions: sender, metrics, announcer, over, draining };
        (Arc::new(control), Inputs { decisions, events, gates, source })
    }

    /// The relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Answers a publisher's offer. Blocks for about a millisecond.
    pub fn publish(
        &self,
        name: &StreamName,
        title: Option<&str>,
        offer: &str,
        lease: Lease,
    ) -> Result<Begun, BeginError> {
        let stream = self.with_streams(|streams, out| streams.claim(name, title, out))?;
        match self.relay.publish(stream, offer) {
            Ok(accepted) => self.begin(Role::Publisher, stream, accepted, offer, lease),
            Err(error) => {
                self.with_streams(|streams, out| streams.release(stream, out));
                Err(error.into())
            }
        }
    }

    /// Answers a subscriber's offer. Blocks for about a millisecond.
    pub fn subscribe(
        &self,
        name: &StreamName,
        offer: &str,
        lease: Lease,
    ) -> Result<Begun, BeginError> {
        let stream = self.with_streams(|streams, _| streams.live(name))?;
        let accepted = self.relay.subscribe(stream, offer)?;
        self.begin(Role::Subscriber, stream, accepted, offer, lease)
    }

    fn begin(
        &self,
        role: Role,
        stream: StreamKey,
        accepted: sfu::Accepted,
        offer: &str,
        lease: Lease,
    ) -> Result<Begun, BeginError> {
        let sfu::Accepted { session, answer, slot } = accepted;
        let resource = ResourceId::random(&mut rand::rng());
        let peer_ufrag = ice_ufrag(offer).unwrap_or_default().to_owned();
        let new = NewSession { session, role, stream, slot, resource, lease, peer_ufrag };
        self.with_streams(|streams, out| streams.begin(new, Instant::now(), out))?;
        Ok(Begun { resource, answer, session, slot })
    }

    /// Ends a session by its URL. `false`: there is none (any more).
    pub fn end(&self, resource: ResourceId) -> bool {
        let session = self.lock().take_resource(resource);
        if let Some(session) = session {
            self.relay.close(session, CloseReason::Control);
        }
        session.is_some()
    }

    /// The relay's name of a session that MONEY decides about, for a minute after its end too.
    pub fn paying_session(&self, resource: ResourceId) -> Option<SessionKey> {
        if let Some(session) = self.lock().session(resource) {
            return session.lease.admission.map(|_| session.session);
        }
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.iter().find(|(_, known, _)| *known == resource).map(|(.., session)| *session)
    }

    /// Keeps the name of a session that paid and is now over.
    fn keep_name(&self, session: SessionKey, now: Instant) {
        let Some(resource) = self.lock().paying_resource(session) else { return };
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        while over.len() >= OVER_MAX
            || over.front().is_some_and(|(at, ..)| now.duration_since(*at) >= OVER_KEPT)
        {
            over.pop_front();
        }
        over.push_back((now, resource, session));
    }

    /// `a=ice-ufrag` of the peer of a session; `None`: there is no such session.
    pub fn peer_ufrag(&self, resource: ResourceId) -> Option<String> {
        self.lock().session(resource).map(|session| session.peer_ufrag.clone())
    }

    /// Ends every session that rests on a revoked token, gate first. Gives their number.
    pub fn revoke(&self, revocation: &chain_types::Revocation) -> usize {
        let hit = self.lock().revoked(revocation);
        for &(session, slot) in &hit {
            if let Some(slot) = slot {
                // Full: closing the session below stops the media as well, a moment later.
                let _ = self.decisions.try_send((slot, Gate::CLOSED));
            }
            self.relay.close(session, CloseReason::Control);
        }
        hit.len()
    }

    /// Starts a stream whose publisher is in this process. [`Control::close_local`] ends it.
    pub fn open_local(
        &self,
        name: &StreamName,
        title: &str,
        codecs: &[Codec],
    ) -> Result<(StreamKey, LocalSource), Refused> {
        let now = Instant::now();
        let stream =
            self.with_streams(|streams, out| streams.open_local(name, title, codecs, now, out))?;
        Ok((stream, self.relay.open_local_source(stream, codecs)))
    }

    /// Ends a stream of [`Control::open_local`].
    pub fn close_local(&self, stream: StreamKey) {
        self.with_streams(|streams, out| streams.close_local(stream, Instant::now(), out));
    }

    /// A live stream.
    pub fn stream(&self, name: &StreamName) -> Option<StreamFacts> {
        self.lock().facts(name, Instant::now())
    }

    /// All live streams by name.
    pub fn streams(&self) -> Vec<StreamFacts> {
        self.lock().list(Instant::now())
    }

    /// How much of everything there is.
    pub fn totals(&self) -> Totals {
        self.lock().totals()
    }

    /// Ends all sessions and stops the relay; new ones are refused from here on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.relay.drain();
    }

    /// Whether [`Control::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes events and sets gates until the relay has stopped. Runs on a thread of its own, the
    /// only one that owns the gates.
    pub fn run(&self, inputs: Inputs) {
        let Inputs { decisions, events, mut gates, mut source } = inputs;
        let mut later = source.decisions();
        let mut tick_at = Instant::now() + TICK;
        loop {
            let wait = if gates.backlog() > 0 { BACKLOG_RETRY } else { TICK };
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.handle_event(&event, &mut gates, source.as_mut()),
                    Err(crossbeam_channel::RecvError) => break, // Every shard has stopped.
                },
                recv(decisions) -> decision => {
                    let (slot, gate) = decision.expect("`self` holds the sender");
                    self.set_gate(slot, gate, &mut gates);
                }
                recv(later) -> decision => match decision {
                    Ok((slot, gate)) => self.set_gate(slot, gate, &mut gates),
                    // The source hung up: gates stay as they are until their deadlines.
                    Err(crossbeam_channel::RecvError) => later = crossbeam_channel::never(),
                },
                default(wait) => {}
            }
            if gates.backlog() > 0 {
                gates.flush();
            }
            let now = Instant::now();
            if now >= tick_at {
                tick_at = now + TICK;
                self.with_streams(|streams, out| streams.tick(now, out));
            }
        }
    }

    fn set_gate(&self, slot: SlotId, gate: Gate, gates: &mut GateSender) {
        self.metrics.gate_command(gate.open);
        gates.set(slot, gate);
    }

    fn handle_event(&self, event: &Event, gates: &mut GateSender, source: &mut dyn DecisionSource) {
        self.relay.note_event(event);
        let now = Instant::now();
        match *event {
            Event::Connected { session, role, profile, after, .. } => {
                self.metrics.connected(role, profile, after);
                let mut out = Vec::new();
                self.lock().connected(session, now, &mut out);
                for output in &out {
                    if let Output::Admitted { name, session, slot, lease } = output
                        && let Some(gate) = source.connected(name, *session, *slot, lease)
                    {
                        self.set_gate(*slot, gate, gates);
                    }
                }
                self.carry_out(out);
            }
            Event::Closed { session, role, slot, reason, ref usage, .. } => {
                self.metrics.closed(role, reason);
                source.closed(session, slot, *usage);
                self.keep_name(session, now);
                self.with_streams(|streams, out| streams.closed(session, now, out));
            }
            Event::TrackStarted { stream, codec, .. } => {
                self.lock().track_started(stream, codec);
            }
            Event::FirstKeyframe { stream, codec, size } => {
                if let Some(size) = size {
                    self.lock().size_known(stream, size);
                }
                let name = self.lock().name(stream).cloned();
                if let (Some(announcer), Some(name)) = (&self.announcer, name) {
                    announcer.stream_started(&name, codec, size);
                }
            }
            // The demo has a keyframe each second and is the only source in this process.
            Event::KeyframeWanted { .. } => {}
        }
    }

    /// Changes the facts, then carries out what follows, without the lock.
    fn with_streams<T>(&self, change: impl FnOnce(&mut Streams, &mut Vec<Output>) -> T) -> T {
        let mut out = Vec::new();
        let result = change(&mut self.lock(), &mut out);
        self.carry_out(out);
        result
    }

    fn carry_out(&self, outputs: Vec<Output>) {
        for output in outputs {
            if let Some(announcer) = &self.announcer {
                announcer.announce(&output);
            }
            match output {
                Output::Close(session) => self.relay.close(session, CloseReason::Control),
                Output::Free(stream) => self.relay.end_stream(stream),
                Output::Admitted { .. } => {} // Its gate is the deciding thread's, at `Connected`.
                Output::StreamStarted { name } => tracing::info!(stream = %name, "stream started"),
                Output::ViewerJoined { name, viewers } => {
                    tracing::info!(stream = %name, viewers, "viewer joined");
                }
                Output::ViewerLeft { name, viewers } => {
                    tracing::info!(stream = %name, viewers, "viewer left");
                }
                Output::StreamEnded { name, duration } => {
                    tracing::info!(stream = %name, seconds = duration.as_secs(), "stream ended");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        // A panic while it was held would be a bug of ours; the facts are still the best we have.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first `a=ice-ufrag` of an SDP (RFC 8839 §5.4).
pub fn ice_ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
}
