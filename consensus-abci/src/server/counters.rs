//! What the server counted, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::application::Method;

/// What happened since the server started. Absolute values; read at any time, so that one may be a
/// request ahead of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    /// Connections there are now; CometBFT keeps four.
    pub connections_open: u64,
    /// Connections that were served, those that ended included.
    pub connections_accepted: u64,
    /// Connections that were sent away, since there were too many.
    pub connections_refused: u64,
    /// Bytes read.
    pub received_bytes: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// Messages that were no request of ABCI 2.0.
    pub bad_messages: u64,
    /// By method, in the order of [`Method::ALL`].
    pub methods: [MethodCounters; Method::ALL.len()],
}

impl Counters {
    /// What was counted of one method.
    pub fn method(&self, method: Method) -> MethodCounters {
        self.methods[method as usize]
    }
}

/// Of one method.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodCounters {
    /// Answered, with whatever answer.
    pub requests: u64,
    /// Of them, answered with an exception.
    pub errors: u64,
    /// Seconds between request and answer, summed up; waiting for another call is among them.
    pub seconds: f64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) connections_open: AtomicU64,
    pub(super) connections_accepted: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) bad_messages: AtomicU64,
    methods: [LiveMethod; Method::ALL.len()],
}

#[derive(Debug, Default)]
struct LiveMethod {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Live {
    pub(super) fn answered(&self, method: Method, took: Duration, is_error: bool) {
        let live = &self.methods[method as usize];
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        live.requests.fetch_add(1, Ordering::Relaxed);
        live.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
        live.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections_open: get(&self.connections_open),
            connections_accepted: get(&self.connections_accepted),
            connections_refused: get(&self.connections_refused),
            received_bytes: get(&self.received_bytes),
            sent_bytes: get(&self.sent_bytes),
            bad_messages: get(&self.bad_messages),
            methods: Method::ALL.map(|method| {
                let LiveMethod { requests, errors, nanos } = &self.methods[method as usize];
                let seconds = Duration::from_nanos(get(nanos)).as_secs_f64();
                MethodCounters { requests: get(requests), errors: get(errors), seconds }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_own_place() {
        let live = Live::default();
        for (at, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, at, "{method}");
            live.answered(method, Duration::from_millis(1 + at as u64), at % 2 == 1);
        }
        let counters = live.read();
        for (at, method) in Method::ALL.into_iter().enumerate() {
            let MethodCounters { requests, errors, seconds } = counters.method(method);
            assert_eq!((requests, errors), (1, at as u64 % 2), "{method}");
            assert!((seconds - (1 + at) as f64 / 1000.0).abs() < 1e-9, "{method}");
        }
    }
}
