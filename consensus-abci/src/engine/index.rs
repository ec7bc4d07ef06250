//! Where a block, a transaction, an event is: written with the state, read by `tx` and `tx_search`.

use tendermint_proto::v0_38::abci::{Event, ExecTxResult, ResponseFinalizeBlock};

use super::block::{MadeBlock, tx_hash};
use super::query::{Attributes, Query, Test};
use super::store::{BlockStore, StoreError};

/// Longer attribute values are not indexed; a query for them finds nothing.
const INDEXED_VALUE_BYTES_MAX: usize = 1024;

/// Most transactions that one search looks at.
const SEARCH_SCAN_MAX: usize = 10_000;

/// Height of a block and position of the transaction in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TxPosition {
    pub height: u64,
    pub index: u32,
}

/// A transaction with what came of it.
#[derive(Debug, Clone)]
pub(crate) struct FoundTx {
    pub position: TxPosition,
    pub tx: Vec<u8>,
    pub result: ExecTxResult,
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "a search needs tx.hash='…', tx.height=… or type.attribute='value' among its conditions"
    )]
    NoEquality,
    #[error("more than {SEARCH_SCAN_MAX} transactions match; add a tx.height condition")]
    TooMany,
}

pub(crate) fn block_key(hash: &[u8]) -> Vec<u8> {
    [b"b", hash].concat()
}

fn tx_key(hash: &[u8]) -> Vec<u8> {
    [b"t", hash].concat()
}

fn event_prefix(key: &str, value: &str) -> Vec<u8> {
    let mut prefix = vec![b'e'];
    // Lengths in front: no value can run into its neighbour.
    for text in [key, value] {
        prefix.extend_from_slice(&(text.len() as u32).to_be_bytes());
        prefix.extend_from_slice(text.as_bytes());
    }
    prefix
}

impl TxPosition {
    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.height.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let bytes: [u8; 12] = bytes
            .try_into()
            .map_err(|_| StoreError::Damaged("an index entry has not 12 bytes".to_owned()))?;
        let (height, index) = bytes.split_at(8);
        Ok(TxPosition {
            height: u64::from_be_bytes(height.try_into().expect("8 of 12 bytes")),
            index: u32::from_be_bytes(index.try_into().expect("4 of 12 bytes")),
        })
    }
}

/// Index entries of a block, to be written in one batch with its state.
pub(crate) fn entries(
    made: &MadeBlock,
    results: &ResponseFinalizeBlock,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let height = made.block.header().height.value();
    let mut entries = vec![(block_key(made.id.hash.as_bytes()), height.to_be_bytes().to_vec())];
    for (index, (tx, result)) in made.block.data().iter().zip(&results.tx_results).enumerate() {
        let position = TxPosition { height, index: index as u32 }.to_bytes();
        entries.push((tx_key(&tx_hash(tx)), position.to_vec()));
        for event in &result.events {
            for attribute in event.attributes.iter().filter(|attribute| attribute.index) {
                let key = format!("{}.{}", event.r#type, attribute.key);
                if key.len() + attribute.value.len() > INDEXED_VALUE_BYTES_MAX {
                    continue;
                }
                let mut entry = event_prefix(&key, &attribute.value);
                entry.extend_from_slice(&position);
                entries.push((entry, Vec::new()));
            }
        }
    }
    entries
}

/// Adds the attributes of `events` in CometBFT's naming.
pub(crate) fn add_events(attributes: &mut Attributes, events: &[Event]) {
    for event in events {
        if event.r#type.is_empty() {
            continue;
        }
        for attribute in event.attributes.iter().filter(|attribute| !attribute.key.is_empty()) {
            let key = format!("{}.{}", event.r#type, attribute.key);
            attributes.push((key, attribute.value.clone()));
        }
    }
}

/// What queries see of a transaction.
pub(crate) fn tx_attributes(found: &FoundTx) -> Attributes {
    let mut attributes = vec![
        ("tm.event".to_owned(), "Tx".to_owned()),
        ("tx.hash".to_owned(), super::hex::hex_upper(&tx_hash(&found.tx))),
        ("tx.height".to_owned(), found.position.height.to_string()),
    ];
    add_events(&mut attributes, &found.result.events);
    attributes
}

impl BlockStore {
    /// The transaction with `hash`, once its block is committed.
    pub(crate) fn tx(&self, hash: &[u8]) -> Result<Option<FoundTx>, StoreError> {
        match self.index.get(tx_key(hash))? {
            None => Ok(None),
            Some(bytes) => self.tx_at(TxPosition::from_bytes(&bytes)?),
        }
    }

    fn tx_at(&self, position: TxPosition) -> Result<Option<FoundTx>, StoreError> {
        let (Some(block), Some(results)) =
            (self.block(position.height)?, self.results(position.height)?)
        else {
            return Ok(None);
        };
        let index = position.index as usize;
        let tx = block.data.and_then(|data| data.txs.into_iter().nth(index));
        let result = results.tx_results.into_iter().nth(index);
        Ok(tx.zip(result).map(|(tx, result)| FoundTx { position, tx, result }))
    }

    /// Every transaction that `query` finds, in the order of the chain.
    pub(crate) fn search(&self, query: &Query) -> Result<Vec<FoundTx>, SearchError> {
        let mut found = Vec::new();
        for position in self.candidates(query)? {
            // Tables are read again for each hit: a page is small, a block's copy may be large.
            let tx = self.tx_at(position)?;
            found.extend(tx.filter(|tx| query.matches(&tx_attributes(tx))));
        }
        Ok(found)
    }

    /// A superset of the answer, from the condition that selects best.
    fn candidates(&self, query: &Query) -> Result<Vec<TxPosition>, SearchError> {
        let equalities = || {
            query.conditions.iter().filter_map(|condition| match &condition.test {
                Test::Equals(value) => Some((condition.key.as_str(), value.as_str())),
                _ => None,
            })
        };
        if let Some((_, hash)) = equalities().find(|(key, _)| *key == "tx.hash") {
            let Some(hash) = super::hex::hex_decode(hash) else { return Ok(Vec::new()) };
            return Ok(match self.index.get(tx_key(&hash)).map_err(StoreError::from)? {
                None => Vec::new(),
                Some(bytes) => vec![TxPosition::from_bytes(&bytes)?],
            });
        }
        if let Some((_, height)) = equalities().find(|(key, _)| *key == "tx.height") {
            let Ok(height) = height.parse() else { return Ok(Vec::new()) };
            return self.positions_in(height, height);
        }
        if let Some((key, value)) = equalities().find(|(key, _)| *key != "tm.event") {
            return self.positions_of_event(key, value);
        }
        match height_bounds(query) {
            Some((first, last)) => self.positions_in(first, last),
            None => Err(SearchError::NoEquality),
        }
    }

    fn positions_of_event(&self, key: &str, value: &str) -> Result<Vec<TxPosition>, SearchError> {
        let mut positions = Vec::new();
        let prefix = event_prefix(key, value);
        for entry in self.index.prefix(&prefix) {
            let entry = entry.key().map_err(StoreError::from)?;
            let position = TxPosition::from_bytes(&entry[prefix.len()..])?;
            // One transaction may have the same attribute twice; its entries are neighbours.
            if positions.last() != Some(&position) {
                positions.push(position);
            }
            if positions.len() > SEARCH_SCAN_MAX {
                return Err(SearchError::TooMany);
            }
        }
        Ok(positions)
    }

    fn positions_in(&self, first: u64, last: u64) -> Result<Vec<TxPosition>, SearchError> {
        let first = first.max(self.base()?).max(1);
        let last = last.min(self.height()?);
        let mut positions = Vec::new();
        for (scanned, height) in (first..=last).enumerate() {
            let count = self.meta(height)?.map_or(0, |meta| meta.num_txs);
            let indices = 0..u32::try_from(count).unwrap_or(0);
            positions.extend(indices.map(|index| TxPosition { height, index }));
            if scanned.max(positions.len()) > SEARCH_SCAN_MAX {
                return Err(SearchError::TooMany);
            }
        }
        Ok(positions)
    }
}

/// The heights that `tx.height` conditions leave, if there are any such conditions.
fn height_bounds(query: &Query) -> Option<(u64, u64)> {
    let tests = query.conditions.iter().filter(|condition| condition.key == "tx.height");
    let clamp = |bound: i128| u64::try_from(bound.max(0)).unwrap_or(u64::MAX);
    let mut bounds = None;
    for condition in tests {
        let (first, last) = bounds.unwrap_or((0, u64::MAX));
        bounds = Some(match condition.test {
            Test::Less(bound) => (first, last.min(clamp(bound.saturating_sub(1)))),
            Test::LessOrEqual(bound) => (first, last.min(clamp(bound))),
            Test::Greater(bound) => (first.max(clamp(bound.saturating_add(1))), last),
            Test::GreaterOrEqual(bound) => (first.max(clamp(bound)), last),
            Test::Equals(_) | Test::Contains(_) | Test::Exists => (first, last),
        });
    }
    bounds
}
