//! From blocks and counters to one line of the table.

use serde::Serialize;

use super::load::Block;

/// What one run gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Run {
    pub submitted: u64,
    pub committed: u64,
    pub blocks: usize,
    /// Transactions in blocks over the time between the first and the last of those blocks.
    pub tx_per_second: f64,
    pub interval_p50_ms: f64,
    pub interval_p99_ms: f64,
    pub finalize_us_per_tx: f64,
    pub commit_ms: f64,
    /// CPU seconds of all nodes for 1,000 transactions; of the embedded engine all is `app`.
    pub app_cpu_per_1000: f64,
    pub engine_cpu_per_1000: f64,
}

/// Milliseconds from each block's header time to the next one's.
pub fn intervals_ms(blocks: &[Block]) -> Vec<f64> {
    let between = |pair: &[Block]| {
        let span = pair[1].time.duration_since(pair[0].time).unwrap_or_default();
        span.as_secs_f64() * 1e3
    };
    blocks.windows(2).map(between).collect()
}

/// Transactions a second: a block's are counted for the time up to the next one, since a header's
/// time is when its block was begun. `None` where there are not two blocks with transactions.
pub fn rate(blocks: &[Block]) -> Option<f64> {
    let (last, counted) = blocks.split_last()?;
    let first = counted.first()?;
    let span = last.time.duration_since(first.time).ok()?.as_secs_f64();
    let txs: u64 = counted.iter().map(|block| block.txs).sum();
    (span > 0.0).then(|| txs as f64 / span)
}

/// The blocks from the first that has transactions to the last.
pub fn loaded(blocks: &[Block]) -> &[Block] {
    let first = blocks.iter().position(|block| block.txs > 0);
    let last = blocks.iter().rposition(|block| block.txs > 0);
    match (first, last) {
        (Some(first), Some(last)) => &blocks[first..=last],
        _ => &[],
    }
}

/// The value below which `share` of them are; 0 of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Median with least and greatest, of one figure over all repeats.
pub fn spread(runs: &[Run], figure: impl Fn(&Run) -> f64, digits: usize) -> String {
    let values: Vec<f64> = runs.iter().map(figure).collect();
    let of = |share| format!("{:.digits$}", quantile(&values, share));
    match values.len() {
        1 => of(0.5),
        _ => format!("{} ({}–{})", of(0.5), of(0.0), of(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tendermint::Time;

    use super::*;

    fn blocks(each: &[(u64, u64)]) -> Vec<Block> {
        let begin = Time::unix_epoch();
        let block = |(at, (ms, txs)): (usize, &(u64, u64))| Block {
            height: at as u64 + 1,
            time: (begin + Duration::from_millis(*ms)).expect("not far from the epoch"),
            txs: *txs,
        };
        each.iter().enumerate().map(block).collect()
    }

    #[test]
    fn only_the_blocks_between_the_first_and_the_last_transaction_count() {
        let all = blocks(&[(0, 0), (1000, 5), (1500, 0), (2000, 15), (3000, 0)]);
        let loaded = loaded(&all);
        assert_eq!(loaded.iter().map(|block| block.height).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(intervals_ms(loaded), [500.0, 500.0]);
        // What the last block has was still to be decided when the time ends.
        assert_eq!(rate(loaded), Some(5.0));
        assert_eq!(rate(&loaded[..1]), None);
        assert_eq!(rate(&[]), None);
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (3.0, 5.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
