//! Wires MONEY into the node: which streams are the chain's, who decides about their gates, and what
//! HTTP needs to know of both.

use std::{collections::BTreeMap, sync::Arc};

use chain_types::{AccountId, StreamId, StreamMetadata};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use settlement::{
    Outlets,
    event::{Bus, QualityMetrics, SutantraEvent},
    money::Money,
};
use sfu::{
    Relay,
    ports::{CloseReason, Codec, Gate, SessionKey, SlotId, SlotUsage},
};

use crate::{
    chain::{NodeChain, Till},
    metrics::MoneySight,
    relay_control::{ByAdmission, DecisionSource},
    streams::{Lease, Output, StreamName},
};

/// Gates that MONEY has set and the thread that owns them has not taken yet. Beyond it a gate keeps
/// its deadline, which closes it; the next usage report, 200 ms later, decides again.
const GATES_MAX: usize = 65_536;

/// The chain and MONEY, for HTTP.
pub struct Paying {
    /// Decides.
    pub money: Money,
    /// Where the money is.
    pub chain: Arc<dyn NodeChain>,
    /// Short names of streams that the chain knows by id.
    pub aliases: BTreeMap<StreamName, StreamId>,
    /// Account that is paid.
    pub payee: AccountId,
    /// Signs for the relay.
    pub relay_key: AccountId,
    /// Gives play money away, where there is some.
    pub faucet: Option<Till>,
}

impl Paying {
    /// The stream of the chain that a name in a URL means, and the name under which it is live here.
    pub fn resolve(&self, name: &StreamName) -> Option<(StreamId, StreamName)> {
        if let Some(stream) = self.aliases.get(name) {
            return Some((*stream, name.clone()));
        }
        let stream: StreamId = name.as_str().parse().ok()?;
        if let Some((alias, _)) = self.aliases.iter().find(|(_, id)| **id == stream) {
            return Some((stream, alias.clone()));
        }
        self.stream(stream).map(|_| (stream, name.clone()))
    }

    /// Chain and books at this moment. Waits for a turn of the deciding thread.
    pub fn sight(&self) -> MoneySight {
        let head = self.chain.head();
        MoneySight {
            books: self.money.counters(),
            height: head.height,
            block_time_ms: head.block_time_ms,
            halted: self.chain.halted(),
            has_books: true,
            redeems: Some(self.money.redeem_counters()),
            waiting: self.chain.waiting(),
        }
    }

    /// What the chain says about a stream now. One that cannot be read is unknown here; MONEY, which
    /// decides, says why.
    pub fn stream(&self, stream: StreamId) -> Option<StreamMetadata> {
        self.chain.stream(&stream).ok().flatten()
    }
}

/// MONEY decides about the streams of the chain, admission's word about all others.
pub struct BySettlement {
    money: Money,
    gates: Receiver<(SlotId, Gate)>,
}

impl BySettlement {
    /// Takes the gates that [`RelayOutlets`] hands over.
    pub fn new(money: Money, gates: Receiver<(SlotId, Gate)>) -> Self {
        Self { money, gates }
    }
}

impl DecisionSource for BySettlement {
    fn connected(
        &mut self,
        name: &StreamName,
        session: SessionKey,
        slot: SlotId,
        lease: &Lease,
    ) -> Option<Gate> {
        if lease.admission.is_none() {
            return ByAdmission.connected(name, session, slot, lease);
        }
        self.money.connected(session);
        None
    }

    fn closed(&mut self, session: SessionKey, _: Option<SlotId>, usage: Option<SlotUsage>) {
        self.money.closed(session, usage);
    }

    fn decisions(&self) -> Receiver<(SlotId, Gate)> {
        self.gates.clone()
    }
}

/// Tells the bus what the media does.
pub struct Announcer {
    bus: Bus<SutantraEvent>,
    aliases: BTreeMap<StreamName, StreamId>,
}

impl Announcer {
    /// For the bus of this MONEY.
    pub fn new(paying: &Paying) -> Self {
        Self { bus: paying.money.bus().clone(), aliases: paying.aliases.clone() }
    }

    /// A name's id: the chain's, or the one that the name alone gives.
    fn id(&self, name: &StreamName) -> StreamId {
        let known = self.aliases.get(name).copied().or_else(|| name.as_str().parse().ok());
        known.unwrap_or_else(|| StreamId::local(name.as_str()))
    }

    /// A publisher's first keyframe is here.
    pub fn stream_started(&self, name: &StreamName, codec: Codec, size: Option<(u16, u16)>) {
        let quality = QualityMetrics { codec, size, frames_per_second: None, bitrate_kbps: None };
        self.bus.publish(SutantraEvent::StreamStarted { stream_id: self.id(name), quality });
    }

    /// What follows from a change of streams and viewers.
    pub fn announce(&self, output: &Output) {
        let event = match output {
            Output::ViewerJoined { name, viewers } => {
                SutantraEvent::ViewerJoined { stream_id: self.id(name), viewer_count: *viewers }
            }
            Output::ViewerLeft { name, viewers } => {
                SutantraEvent::ViewerLeft { stream_id: self.id(name), viewer_count: *viewers }
            }
            Output::StreamEnded { name, duration } => {
                SutantraEvent::StreamEnded { stream_id: self.id(name), duration: *duration }
            }
            Output::Close(_)
            | Output::Free(_)
            | Output::Admitted { .. }
            | Output::StreamStarted { .. } => return,
        };
        self.bus.publish(event);
    }
}

/// What MONEY tells the relay.
pub struct RelayOutlets {
    relay: Arc<Relay>,
    gates: Sender<(SlotId, Gate)>,
}

impl RelayOutlets {
    /// And where the gates come out.
    pub fn new(relay: Arc<Relay>) -> (Self, Receiver<(SlotId, Gate)>) {
        let (gates, out) = crossbeam_channel::bounded(GATES_MAX);
        (Self { relay, gates }, out)
    }
}

impl Outlets for RelayOutlets {
    fn set_gate(&mut self, slot: SlotId, gate: Gate) {
        if let Err(TrySendError::Full(_)) = self.gates.try_send((slot, gate)) {
            tracing::warn!("gate decisions pile up; gates close by their deadlines");
        }
    }

    fn send(&mut self, session: SessionKey, frame: Vec<u8>) {
        self.relay.send_frame(session, frame);
    }

    fn close(&mut self, session: SessionKey, last_frame: Vec<u8>) {
        self.relay.close_with(session, CloseReason::Control, Some(last_frame));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use settlement::event::Received;

    use super::*;

    /// R10, R20, R21, R22
    #[test]
    fn what_the_media_does_is_told_under_the_chains_id_of_the_stream() {
        let name = |text: &str| text.parse::<StreamName>().expect("a valid name");
        let chains = StreamId([3; 32]);
        let bus = Bus::new();
        let told = bus.subscribe();
        let announcer = Announcer { bus, aliases: BTreeMap::from([(name("demo"), chains)]) };
        #[track_caller]
        fn check(
            told: &settlement::event::Receiver<SutantraEvent>,
            expected: Option<SutantraEvent>,
        ) {
            let got = told.try_recv().map(|received| match received {
                Received::Value(event) => event,
                Received::Lagged(count) => panic!("{count} events were lost"),
            });
            assert_eq!(got, expected);
        }

        announcer.stream_started(&name("demo"), Codec::Vp8, Some((640, 360)));
        let (size, frames_per_second) = (Some((640, 360)), None);
        let quality =
            QualityMetrics { codec: Codec::Vp8, size, frames_per_second, bitrate_kbps: None };
        check(&told, Some(SutantraEvent::StreamStarted { stream_id: chains, quality }));

        announcer.announce(&Output::ViewerJoined { name: name("demo"), viewers: 2 });
        let (stream_id, viewer_count) = (chains, 2);
        check(&told, Some(SutantraEvent::ViewerJoined { stream_id, viewer_count }));
        announcer.announce(&Output::ViewerLeft { name: name(&"05".repeat(32)), viewers: 0 });
        let (stream_id, viewer_count) = (StreamId([5; 32]), 0);
        check(&told, Some(SutantraEvent::ViewerLeft { stream_id, viewer_count }));
        let duration = Duration::from_secs(9);
        announcer.announce(&Output::StreamEnded { name: name("cam"), duration });
        let stream_id = StreamId::local("cam");
        check(&told, Some(SutantraEvent::StreamEnded { stream_id, duration }));

        // The transport of a publisher is no picture yet.
        announcer.announce(&Output::StreamStarted { name: name("demo") });
        check(&told, None);
    }
}
