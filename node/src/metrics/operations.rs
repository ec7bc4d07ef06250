//! What `/metrics` shows of the node's readiness: the same reasons as `/readyz` gives in words.

use prometheus::proto::{MetricFamily, MetricType};

use super::family;
use crate::doctor::ready::{Reason, Unready};

/// Whether it is ready, and each reason why not.
pub fn families(unready: &[Unready]) -> [MetricFamily; 2] {
    let reasons = Reason::ALL.map(|reason| {
        let holds = unready.iter().any(|unready| unready.reason == reason);
        (reason.label(), f64::from(u8::from(holds)))
    });
    [
        family(
            "sutantra_ready",
            "1 while new sessions are well taken here",
            MetricType::GAUGE,
            "",
            &[("", f64::from(u8::from(unready.is_empty())))],
        ),
        family(
            "sutantra_unready",
            "1 for each reason why the node is not ready",
            MetricType::GAUGE,
            "reason",
            &reasons,
        ),
    ]
}
