//! The server's own counters, read from its Prometheus page.

use std::collections::BTreeMap;

/// Only names with this prefix are kept.
const PREFIX: &str = "sutantra_";

/// Counters by name, summed over labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text exposition format 0.0.4; what is no sample of ours is skipped.
    pub fn parse(text: &str) -> Self {
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with(PREFIX)) {
            let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
            let value = match line.rfind('}') {
                Some(end) => line[end + 1..].split_whitespace().next(),
                None => line.split_whitespace().nth(1),
            };
            if let Some(value) = value.and_then(|value| value.parse::<f64>().ok()) {
                *sums.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(sums)
    }

    /// Increase since `earlier` of all counters whose name ends in `suffix`; `None` when the server
    /// exports none.
    pub fn increase(&self, earlier: &Self, suffix: &str) -> Option<f64> {
        let mut counters = self.0.iter().filter(|(name, _)| name.ends_with(suffix)).peekable();
        counters.peek()?;
        let before = |name| earlier.0.get(name).copied().unwrap_or(0.0);
        Some(counters.map(|(name, value)| value - before(name)).sum())
    }

    /// Nothing was exported.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels_and_compared() {
        let early = "# TYPE sutantra_sfu_sent_messages_total counter\n\
             sutantra_sfu_sent_messages_total{shard=\"0\"} 10\n\
             sutantra_sfu_sent_messages_total{shard=\"1\",link=\"a b}c\"} 5\n\
             process_cpu 9\n";
        let late = "sutantra_sfu_sent_messages_total 40 1700000000\nsutantra_sfu_x nonsense\n";
        let (early, late) = (Metrics::parse(early), Metrics::parse(late));
        assert_eq!(late.increase(&early, "sent_messages_total"), Some(25.0));
        assert_eq!(late.increase(&early, "x"), None);
        assert_eq!(early.increase(&Metrics::default(), "sent_messages_total"), Some(15.0));
        assert!(Metrics::parse("process_cpu 9").is_empty());
    }
}
