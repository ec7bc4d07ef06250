//! The server's own counters, read from its Prometheus page.

use std::collections::BTreeMap;

/// Only names with this prefix are kept.
const PREFIX: &str = "sutantra_";

/// Buckets of a histogram carry their upper edge in this label.
const EDGE_LABEL: &str = "le=\"";

/// Samples by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Summed over labels.
    sums: BTreeMap<String, f64>,
    /// Largest of all labels.
    largest: BTreeMap<String, f64>,
    /// Cumulative counts of histograms: name, then upper edge and count, ascending.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Metrics {
    /// Reads the text exposition format 0.0.4; what is no sample of ours is skipped.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| line.starts_with(PREFIX)) {
            let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
            let value = match line.rfind('}') {
                Some(end) => line[end + 1..].split_whitespace().next(),
                None => line.split_whitespace().nth(1),
            };
            let Some(value) = value.and_then(|value| value.parse::<f64>().ok()) else { continue };
            *metrics.sums.entry(name.to_owned()).or_insert(0.0) += value;
            let largest = metrics.largest.entry(name.to_owned()).or_insert(value);
            *largest = largest.max(value);
            if let Some((edge, _)) =
                line.split_once(EDGE_LABEL).and_then(|(_, rest)| rest.split_once('"'))
                && let Ok(edge) = edge.parse::<f64>()
            {
                metrics.add_bucket(name, edge, value);
            }
        }
        metrics
    }

    fn add_bucket(&mut self, name: &str, edge: f64, count: f64) {
        let buckets = self.buckets.entry(name.to_owned()).or_default();
        match buckets.binary_search_by(|(known, _)| known.total_cmp(&edge)) {
            Ok(at) => buckets[at].1 += count,
            Err(at) => buckets.insert(at, (edge, count)),
        }
    }

    /// The sample of this name; of several labels the largest.
    pub fn largest(&self, name: &str) -> Option<f64> {
        self.largest.get(name).copied()
    }

    /// Upper edge of the highest bucket that counted anything since `earlier`; infinite when that
    /// is the last one, `None` without such a histogram or count.
    pub fn highest_bucket(&self, earlier: &Self, name: &str) -> Option<f64> {
        let (mut below, mut highest) = (0.0, None);
        let before = earlier.buckets.get(name).map_or(&[][..], Vec::as_slice);
        for (edge, count) in self.buckets.get(name)? {
            let known = before.iter().find(|(known, _)| known == edge);
            let since = count - known.map_or(0.0, |(_, count)| *count);
            if since > below {
                (below, highest) = (since, Some(*edge));
            }
        }
        highest
    }

    /// Increase since `earlier` of all counters whose name ends in `suffix`; `None` when the server
    /// exports none.
    pub fn increase(&self, earlier: &Self, suffix: &str) -> Option<f64> {
        let mut counters = self.sums.iter().filter(|(name, _)| name.ends_with(suffix)).peekable();
        counters.peek()?;
        let before = |name| earlier.sums.get(name).copied().unwrap_or(0.0);
        Some(counters.map(|(name, value)| value - before(name)).sum())
    }

    /// Nothing was exported.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
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

    #[test]
    fn the_highest_bucket_is_that_which_grew_over_the_sum_of_shards() {
        let page = |counts: [u64; 3]| {
            let edges = ["0.001", "0.01", "+Inf"];
            let line = |shard: u8, edge: &str, count: u64| {
                format!("sutantra_t_bucket{{shard=\"{shard}\",le=\"{edge}\"}} {count}\n")
            };
            let mut text = "sutantra_g{shard=\"0\"} 3\nsutantra_g{shard=\"1\"} 2\n".to_owned();
            for (edge, count) in edges.iter().zip(counts) {
                text += &(line(0, edge, count) + &line(1, edge, 1));
            }
            Metrics::parse(&text)
        };
        let name = "sutantra_t_bucket";
        let (early, later) = (page([5, 6, 6]), page([9, 10, 10]));
        assert_eq!(later.highest_bucket(&early, name), Some(0.001));
        assert_eq!(page([9, 11, 11]).highest_bucket(&early, name), Some(0.01));
        assert_eq!(page([9, 11, 12]).highest_bucket(&early, name), Some(f64::INFINITY));
        assert_eq!(early.highest_bucket(&early, name), None);
        assert_eq!(later.highest_bucket(&early, "sutantra_other"), None);
        assert_eq!(early.largest("sutantra_g"), Some(3.0));
    }
}
