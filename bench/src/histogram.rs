//! Latency histogram with a bounded relative error: buckets of 1/32 of each power of two.

/// Buckets of one power of two; the relative error of a percentile is at most one of them.
const SUB_BUCKETS: usize = 32;
const SUB_BITS: u32 = SUB_BUCKETS.ilog2();
/// One linear row and a row for every power of two of a `u64` above it.
const BUCKETS: usize = SUB_BUCKETS * (65 - SUB_BITS as usize);

/// Percentiles of a curve.
const CURVE: [f64; 22] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 97.5, 99.0,
    99.5, 99.75, 99.9, 99.95, 99.99, 100.0,
];

/// Counts nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket_of(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Largest value, exact.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// Percentiles for a curve, dense towards the end: percent, ms.
    pub fn curve_ms(&self) -> Vec<(f64, f64)> {
        if self.total == 0 {
            return Vec::new();
        }
        CURVE.iter().map(|percent| (*percent, self.percentile_ns(*percent) as f64 / 1e6)).collect()
    }

    /// Upper edge of the bucket that holds the `percent`th percentile; 0 when nothing was counted.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        let rank = ((percent / 100.0) * self.total as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return upper_edge(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < SUB_BUCKETS as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - SUB_BITS;
    let row = (shift + 1) as usize;
    row * SUB_BUCKETS + ((ns >> shift) as usize - SUB_BUCKETS)
}

fn upper_edge(bucket: usize) -> u64 {
    let (row, column) = (bucket / SUB_BUCKETS, bucket % SUB_BUCKETS);
    if row == 0 {
        return column as u64;
    }
    let width = 1u128 << (row - 1);
    let edge = (SUB_BUCKETS + column + 1) as u128 * width - 1;
    u64::try_from(edge).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_below_the_edge_of_its_bucket_by_at_most_a_thirtysecond() {
        let mut value = 0_u64;
        for step in 0..100_000_u64 {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS, "{value}");
            let edge = upper_edge(bucket);
            assert!(edge >= value && edge - value <= value / SUB_BUCKETS as u64, "{value} {edge}");
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step) >> (step % 60);
        }
        assert_eq!(upper_edge(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_of_a_thousand_equal_steps_are_the_steps() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        (1..=500).for_each(|ms| low.record(ms * 1_000_000));
        (501..=1000).for_each(|ms| high.record(ms * 1_000_000));
        low.merge(&high);
        for (percent, expected_ms) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1000.0)] {
            let ms = low.percentile_ns(percent) as f64 / 1e6;
            assert!((ms - expected_ms).abs() <= expected_ms / 32.0, "p{percent} is {ms} ms");
        }
        assert_eq!((low.total(), low.max_ns()), (1000, 1_000_000_000));
        assert_eq!(Histogram::default().percentile_ns(99.0), 0);
        let curve = low.curve_ms();
        assert!(curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        assert_eq!(curve.last(), Some(&(100.0, 1000.0)));
        assert!(Histogram::default().curve_ms().is_empty());
    }
}
