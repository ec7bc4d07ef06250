//! `block_search`: the blocks whose FinalizeBlock events fit a query.

use serde_json::{Value, json};
use tendermint_proto::v0_38::abci::Event;

use super::chain::{block_at, page};
use super::error::RpcError;
use super::params::Params;
use crate::engine::{Attributes, Core, Query, Test, add_events};

/// Most blocks that one search looks at: their events are read from the results, not an index.
/// A query that leaves more is refused, and says so.
const BLOCKS_SCANNED_MAX: u64 = 1_000;

pub(crate) fn block_search(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let query = Query::parse(&params.text("query")?)
        .map_err(|error| RpcError::invalid_params(error.to_string()))?;
    let newest_first = match params.text("order_by")?.as_str() {
        // Unlike tx_search, whose default is the other one.
        "" | "desc" => true,
        "asc" => false,
        other => {
            return Err(RpcError::internal(format!(
                "expected order_by to be either `asc` or `desc` or empty, got {other:?}"
            )));
        }
    };
    let mut found = heights(core, &query)?;
    if newest_first {
        found.reverse();
    }
    let (skip, take) = page(params, found.len())?;
    let shown = found.iter().skip(skip).take(take);
    let blocks: Result<Vec<Value>, RpcError> =
        shown.map(|height| block_at(core, *height)).collect();
    Ok(json!({ "blocks": blocks?, "total_count": found.len().to_string() }))
}

/// Heights that fit, ascending.
fn heights(core: &Core, query: &Query) -> Result<Vec<u64>, RpcError> {
    let (first, last) = bounds(query);
    let first = first.max(core.store.base()?).max(1);
    let last = last.min(core.tip().height);
    if first > last {
        return Ok(Vec::new());
    }
    if last - first >= BLOCKS_SCANNED_MAX {
        return Err(RpcError::internal(format!(
            "the query leaves {} blocks to look at, at most {BLOCKS_SCANNED_MAX} are: add \
             block.height conditions",
            last - first + 1
        )));
    }
    let mut found = Vec::new();
    for height in first..=last {
        let Some(results) = core.store.results(height)? else { continue };
        if query.matches(&attributes(height, results.events)) {
            found.push(height);
        }
    }
    Ok(found)
}

/// What CometBFT indexes of a block.
fn attributes(height: u64, mut events: Vec<Event>) -> Attributes {
    for event in &mut events {
        event.attributes.retain(|attribute| attribute.index);
    }
    let mut attributes = vec![("block.height".to_owned(), height.to_string())];
    add_events(&mut attributes, &events);
    attributes
}

/// The heights that `block.height` conditions leave.
fn bounds(query: &Query) -> (u64, u64) {
    let clamp = |bound: i128| u64::try_from(bound.max(0)).unwrap_or(u64::MAX);
    let tests = query.conditions.iter().filter(|condition| condition.key == "block.height");
    tests.fold((0, u64::MAX), |(first, last), condition| match &condition.test {
        Test::Less(bound) => (first, last.min(clamp(bound.saturating_sub(1)))),
        Test::LessOrEqual(bound) => (first, last.min(clamp(*bound))),
        Test::Greater(bound) => (first.max(clamp(bound.saturating_add(1))), last),
        Test::GreaterOrEqual(bound) => (first.max(clamp(*bound)), last),
        Test::Equals(value) => match value.parse() {
            Ok(height) => (first.max(height), last.min(height)),
            Err(_) => (1, 0),
        },
        Test::Contains(_) | Test::Exists => (first, last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: (u64, u64)) {
        let query = Query::parse(query).expect("a valid query");
        assert_eq!(bounds(&query), expected, "{query}");
    }

    #[test]
    fn block_height_conditions_bound_what_is_looked_at() {
        check("a.b='c'", (0, u64::MAX));
        check("block.height=7", (7, 7));
        check("block.height='7' AND a.b='c'", (7, 7));
        check("block.height=x", (1, 0));
        check("block.height>7 AND block.height<9", (8, 8));
        check("block.height>=7 AND block.height<=9", (7, 9));
        check("block.height<-3", (0, 0));
        check("block.height EXISTS", (0, u64::MAX));
        check("tx.height=7", (0, u64::MAX));
    }
}
