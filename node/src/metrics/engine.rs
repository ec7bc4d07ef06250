//! What `/metrics` shows of who makes the blocks: its kind, its ABCI server, a remote chain's
//! endpoints. Whoever starts the engine says how to look at it.

use consensus_abci::{
    application::Method,
    server::{Counters, MethodCounters},
};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::{counter, family, gauge};

/// How a node and its chain meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// The engine in this process.
    Embedded,
    /// A CometBFT that this process started.
    Spawn,
    /// A CometBFT that somebody else runs.
    External,
    /// No application: another chain's RPC, verified.
    Remote,
}

impl EngineKind {
    const ALL: [Self; 4] = [Self::Embedded, Self::Spawn, Self::External, Self::Remote];

    /// As configuration and labels have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Spawn => "spawn",
            Self::External => "external",
            Self::Remote => "remote",
        }
    }
}

/// The engine at one moment.
#[derive(Debug, Clone)]
pub struct EngineSight {
    /// Which.
    pub kind: EngineKind,
    /// It runs, or somebody is connected; `None`: not known here.
    pub is_up: Option<bool>,
    /// How often a spawned one was started again.
    pub restarts: u64,
    /// Of the ABCI server, where there is one.
    pub abci: Option<Box<Counters>>,
    /// Of a remote chain, in the order of `--chain-rpc`.
    pub endpoints: Vec<EndpointSight>,
}

/// One RPC endpoint of a remote chain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EndpointSight {
    /// Its last answer came, and was believed.
    pub is_up: bool,
    /// Height of its newest block; 0: not known.
    pub height: u64,
    /// How long the last answer took, s.
    pub answer_seconds: f64,
    /// Calls that failed.
    pub failures: u64,
    /// Its clock (`Date` of its answers) minus ours, s; `None`: it said none.
    pub clock_ahead_seconds: Option<f64>,
}

/// The families of `sight`.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
pub fn families(sight: &EngineSight) -> Vec<MetricFamily> {
    // No `..`: what is not shown does not compile.
    let EngineSight { kind, is_up, restarts, abci, endpoints } = sight;
    let kinds = EngineKind::ALL.map(|of| (of.name(), f64::from(u8::from(of == *kind))));
    let mut families = vec![
        family(
            "sutantra_chain_engine",
            "1 for the engine that makes this node's blocks",
            MetricType::GAUGE,
            "engine",
            &kinds,
        ),
        family(
            "sutantra_chain_engine_restarts_total",
            "Times that the CometBFT beside this process was started again",
            MetricType::COUNTER,
            "",
            &[("", *restarts as f64)],
        ),
    ];
    families.extend(is_up.map(|is_up| {
        family(
            "sutantra_chain_engine_up",
            "1 while the engine runs and is connected",
            MetricType::GAUGE,
            "",
            &[("", f64::from(u8::from(is_up)))],
        )
    }));
    families.extend(abci.iter().flat_map(|counters| of_abci(counters)));
    if !endpoints.is_empty() {
        families.extend(of_endpoints(endpoints));
    }
    families
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
fn of_abci(counters: &Counters) -> Vec<MetricFamily> {
    let Counters {
        connections_open,
        connections_accepted,
        connections_refused,
        received_bytes,
        sent_bytes,
        bad_messages,
        methods: _, // By name below.
    } = *counters;
    let sum =
        |name, help, value: u64| family(name, help, MetricType::COUNTER, "", &[("", value as f64)]);
    let methods = |of: fn(&MethodCounters) -> f64| -> Vec<(&'static str, f64)> {
        Method::ALL.iter().map(|method| (method.name(), of(&counters.method(*method)))).collect()
    };
    let by_method =
        |name, help, of| family(name, help, MetricType::COUNTER, "method", &methods(of));
    vec![
        family(
            "sutantra_abci_connections",
            "Connections of engines now; CometBFT keeps four",
            MetricType::GAUGE,
            "",
            &[("", connections_open as f64)],
        ),
        family(
            "sutantra_abci_connections_total",
            "Connections of engines, by what became of them",
            MetricType::COUNTER,
            "verdict",
            &[("accepted", connections_accepted as f64), ("refused", connections_refused as f64)],
        ),
        sum("sutantra_abci_received_bytes_total", "Bytes that engines sent", received_bytes),
        sum("sutantra_abci_sent_bytes_total", "Bytes that engines were sent", sent_bytes),
        sum(
            "sutantra_abci_bad_messages_total",
            "Messages that were no request of ABCI 2.0",
            bad_messages,
        ),
        by_method("sutantra_abci_requests_total", "ABCI requests answered, by method", |of| {
            of.requests as f64
        }),
        by_method("sutantra_abci_errors_total", "ABCI requests answered by an exception", |of| {
            of.errors as f64
        }),
        by_method("sutantra_abci_seconds_total", "Time in ABCI requests, by method", |of| {
            of.seconds
        }),
    ]
}

/// An endpoint is known by its place in the configuration, of which there are eight at most.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
fn of_endpoints(endpoints: &[EndpointSight]) -> Vec<MetricFamily> {
    let all = |name: &str, help: &str, kind, of: &dyn Fn(&EndpointSight) -> Option<f64>| {
        let metrics = endpoints.iter().enumerate().filter_map(|(place, endpoint)| {
            let mut label = LabelPair::default();
            label.set_name("endpoint".to_owned());
            label.set_value(place.to_string());
            let value = of(endpoint)?;
            Some(match kind == MetricType::COUNTER {
                true => counter(value, vec![label]),
                false => gauge(value, vec![label]),
            })
        });
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.collect());
        family
    };
    let families = [
        all(
            "sutantra_chain_endpoint_up",
            "1 while an endpoint of the remote chain answers, by its place in --chain-rpc",
            MetricType::GAUGE,
            &|of| Some(f64::from(u8::from(of.is_up))),
        ),
        all(
            "sutantra_chain_endpoint_height",
            "Height of an endpoint's newest block",
            MetricType::GAUGE,
            &|of| Some(of.height as f64),
        ),
        all(
            "sutantra_chain_endpoint_answer_seconds",
            "How long an endpoint's last answer took",
            MetricType::GAUGE,
            &|of| Some(of.answer_seconds),
        ),
        all(
            "sutantra_chain_endpoint_failures_total",
            "Calls of an endpoint that failed",
            MetricType::COUNTER,
            &|of| Some(of.failures as f64),
        ),
        all(
            "sutantra_chain_endpoint_clock_seconds",
            "An endpoint's clock minus this machine's",
            MetricType::GAUGE,
            &|of| of.clock_ahead_seconds,
        ),
    ];
    // A family without a metric is no exposition.
    families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}
