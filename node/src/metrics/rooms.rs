//! What `/metrics` shows of the coordinator: who is there, what is brought from whom to whom, what
//! is refused. No label names a room or a node.

use coordinator::Figures;
use prometheus::proto::{MetricFamily, MetricType};

use super::family;

/// The coordinator at one moment.
#[derive(Debug, Clone)]
pub struct RoomsSight {
    /// Its own numbers.
    pub figures: Figures,
    /// Rooms of streams with somebody in them.
    pub stream_rooms: usize,
    /// Who is in these.
    pub stream_peers: usize,
}

/// The families of `sight`.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
pub fn families(sight: &RoomsSight) -> Vec<MetricFamily> {
    let RoomsSight { figures, stream_rooms, stream_peers } = sight;
    let Figures { counts, sockets, sessions, refused } = figures;
    let now =
        |name, help, value: usize| family(name, help, MetricType::GAUGE, "", &[("", value as f64)]);
    let sum = |name, help, label, values: &[(&str, u64)]| {
        let values: Vec<_> = values.iter().map(|(of, value)| (*of, *value as f64)).collect();
        family(name, help, MetricType::COUNTER, label, &values)
    };
    let refused: Vec<_> = refused.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    vec![
        now("sutantra_coordinator_rooms", "Rooms of the coordinator", counts.rooms),
        now("sutantra_coordinator_peers", "Peers that the coordinator knows", counts.peers),
        now("sutantra_coordinator_sockets", "WebSockets of peers", *sockets),
        now("sutantra_coordinator_sessions", "Sessions of peers", *sessions),
        now(
            "sutantra_coordinator_stream_rooms",
            "Rooms of streams with somebody in them",
            *stream_rooms,
        ),
        now("sutantra_coordinator_stream_peers", "Peers in the rooms of streams", *stream_peers),
        sum(
            "sutantra_coordinator_membership_total",
            "Rooms joined and left",
            "change",
            &[("join", counts.joins), ("leave", counts.leaves)],
        ),
        sum(
            "sutantra_coordinator_signals_total",
            "Signals brought from one peer to another, pushed over a WebSocket or queued for a poll",
            "path",
            &[("pushed", counts.signals_pushed), ("queued", counts.signals_queued)],
        ),
        sum(
            "sutantra_coordinator_signals_dropped_total",
            "Signals dropped from full queues, or too old",
            "",
            &[("", counts.signals_dropped)],
        ),
        sum(
            "sutantra_coordinator_broadcasts_total",
            "Broadcasts to rooms",
            "",
            &[("", counts.broadcasts)],
        ),
        sum(
            "sutantra_coordinator_refused_total",
            "Requests and messages refused, by the protocol's code",
            "code",
            &refused,
        ),
    ]
}
