//! What nodes show of the chain, height by height: the first to show one is believed, and every
//! other must show the same.

use std::collections::BTreeMap;

use chain_types::{Transaction, hex, transaction_hash};
use comet::rpc::{BlockAnswer, BlockResults, Event};

use crate::history::{Acknowledged, Hash};

/// A block and what a node's application made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// Hash of its header.
    pub hash: String,
    /// App hash in its header: the state before it.
    pub app_hash_before: String,
    /// App hash that this node's application answered.
    pub app_hash: String,
    /// Unix ms.
    pub time_ms: i64,
    /// Its transactions in order; what cannot be read is no one's.
    pub txs: Vec<(Hash, Option<Acknowledged>)>,
    /// What happened to validators, in the block's order.
    pub events: Vec<Happening>,
}

/// An event about a validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// At this height.
    pub height: u64,
    /// Such as `validator_jailed`.
    pub kind: String,
    /// Its operator.
    pub validator: String,
}

impl Block {
    /// From a node's two answers.
    pub fn read(block: &BlockAnswer, results: &BlockResults) -> Self {
        let header = &block.block.header;
        let height = header.height.value();
        let codes = results.tx_results.iter().map(|result| result.code);
        let txs = block.block.data.iter().zip(codes).map(|(bytes, code)| {
            let seen = Transaction::decode(bytes).ok().map(|tx| {
                let (signer, nonce) = (tx.body.signer, tx.body.nonce);
                Acknowledged { height, signer, nonce, code }
            });
            (transaction_hash(bytes), seen)
        });
        let of_txs = results.tx_results.iter().flat_map(|result| &result.events);
        let events = of_txs.chain(&results.block_events).filter_map(|event| about(event, height));
        Self {
            height,
            hash: block.block_id.hash.to_string(),
            app_hash_before: hex::text(header.app_hash.as_bytes()),
            app_hash: hex::text(&results.app_hash),
            time_ms: i64::try_from(header.time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
            txs: txs.collect(),
            events: events.collect(),
        }
    }
}

fn about(event: &Event, height: u64) -> Option<Happening> {
    let kind = event.kind.starts_with("validator_").then(|| event.kind.clone())?;
    let named = event.attributes.iter().find(|attribute| attribute.key == "validator");
    Some(Happening { height, kind, validator: named?.value.clone() })
}

/// All heights that anybody has shown.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: BTreeMap<u64, (usize, Block)>,
    /// Answers that were compared with the first.
    pub compared: u64,
}

impl Ledger {
    /// Takes a node's block.
    ///
    /// # Errors
    /// A sentence, where it is not what another node has shown.
    pub fn note(&mut self, node: usize, block: Block, names: &[String]) -> Result<(), String> {
        let height = block.height;
        if let Some((_, before)) = height.checked_sub(1).and_then(|at| self.blocks.get(&at))
            && before.app_hash != block.app_hash_before
        {
            return Err(format!(
                "the header of height {height} on {} has the app hash {}, and the application made \
                 {} of the block before",
                names[node], block.app_hash_before, before.app_hash
            ));
        }
        let Some((first, known)) = self.blocks.get(&height) else {
            self.blocks.insert(height, (node, block));
            return Ok(());
        };
        self.compared += 1;
        for (what, known, found) in [
            ("block hash", &known.hash, &block.hash),
            ("app hash", &known.app_hash, &block.app_hash),
        ] {
            if known != found {
                return Err(format!(
                    "at height {height} {} has the {what} {known}, {} has {found}",
                    names[*first], names[node]
                ));
            }
        }
        if known.txs != block.txs || known.events != block.events {
            return Err(format!(
                "at height {height} {} and {} differ in transactions, codes or events",
                names[*first], names[node]
            ));
        }
        Ok(())
    }

    /// The newest height that anybody has shown.
    pub fn newest(&self) -> u64 {
        self.blocks.keys().next_back().copied().unwrap_or(0)
    }

    /// A block.
    pub fn block(&self, height: u64) -> Option<&Block> {
        self.blocks.get(&height).map(|(_, block)| block)
    }

    /// All of them, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().map(|(_, block)| block)
    }

    /// Those from a height on.
    pub fn since(&self, height: u64) -> impl Iterator<Item = &Block> {
        self.blocks.range(height..).map(|(_, (_, block))| block)
    }

    /// The longest time between two blocks, ms, and the later one's height.
    pub fn longest_gap_ms(&self) -> Option<(i64, u64)> {
        let times: Vec<(u64, i64)> =
            self.blocks().map(|block| (block.height, block.time_ms)).collect();
        // The first block carries the genesis' time.
        let gaps = times.windows(2).skip(1).map(|pair| (pair[1].1 - pair[0].1, pair[1].0));
        gaps.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(height: u64, hash: &str, before: &str, after: &str) -> Block {
        Block {
            height,
            hash: hash.to_owned(),
            app_hash_before: before.to_owned(),
            app_hash: after.to_owned(),
            time_ms: height as i64 * 1_000,
            txs: Vec::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn a_node_that_differs_is_named_with_the_height() {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut ledger = Ledger::default();
        ledger.note(0, block(1, "h1", "", "s1"), &names).expect("the first");
        ledger.note(1, block(1, "h1", "", "s1"), &names).expect("the same");
        let error = ledger.note(1, block(1, "h1", "", "s9"), &names).expect_err("another state");
        assert_eq!(error, "at height 1 a has the app hash s1, b has s9");
        let error = ledger.note(1, block(1, "h9", "", "s1"), &names).expect_err("another block");
        assert!(error.contains("block hash h1, b has h9"), "{error}");
        let error = ledger.note(1, block(2, "h2", "s8", "s2"), &names).expect_err("another state");
        assert!(error.contains("height 2 on b has the app hash s8"), "{error}");
        assert_eq!((ledger.newest(), ledger.compared), (1, 3));
    }

    #[test]
    fn transactions_codes_and_events_are_compared_too() {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut ledger = Ledger::default();
        let mut first = block(1, "h1", "", "s1");
        first.txs.push(([1; 32], None));
        ledger.note(0, first.clone(), &names).expect("the first");
        first.txs.clear();
        let error = ledger.note(1, first, &names).expect_err("one is missing");
        assert!(error.contains("differ in transactions"), "{error}");
    }

    #[test]
    fn the_longest_gap_leaves_the_genesis_time_out() {
        let names = ["a".to_owned()];
        let mut ledger = Ledger::default();
        for (height, time_ms) in [(1, 0), (2, 900_000), (3, 901_000), (4, 905_000), (5, 906_000)] {
            let (hash, before) = (height.to_string(), (height - 1).to_string());
            let new = Block { time_ms, ..block(height, &hash, &before, &hash) };
            ledger.note(0, new, &names).expect("in order");
        }
        assert_eq!(ledger.longest_gap_ms(), Some((4_000, 4)));
    }
}
