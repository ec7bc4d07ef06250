//! Methods about blocks: headers, commits, results, validators, parameters.

use serde_json::{Value, json};
use tendermint_proto::v0_38::types as pb;

use super::error::RpcError;
use super::params::Params;
use super::shape;
use crate::engine::Core;

/// Most block metas in one answer of `blockchain`; CometBFT has the same bound.
const BLOCK_METAS_MAX: u64 = 20;

/// A height between the first block and `newest`; `newest` when none is given.
fn height(core: &Core, params: &Params, newest: u64) -> Result<u64, RpcError> {
    let Some(height) = params.integer("height")? else { return Ok(newest) };
    let asked = u64::try_from(height).unwrap_or(0);
    if asked == 0 {
        return Err(RpcError::internal(format!("height must be greater than 0, but got {height}")));
    }
    if asked > newest {
        return Err(RpcError::internal(format!(
            "height {height} must be less than or equal to the current blockchain height {newest}"
        )));
    }
    let base = core.store.base()?;
    match asked < base {
        true => Err(RpcError::internal(format!(
            "height {height} is not available, lowest height is {base}"
        ))),
        false => Ok(asked),
    }
}

fn found<T>(record: Option<T>, what: &str, height: u64) -> Result<T, RpcError> {
    record.ok_or_else(|| RpcError::internal(format!("there is no {what} at height {height}")))
}

pub(crate) fn block(core: &Core, params: &Params) -> Result<Value, RpcError> {
    block_at(core, height(core, params, core.tip().height)?)
}

pub(super) fn block_at(core: &Core, height: u64) -> Result<Value, RpcError> {
    let meta = found(core.store.meta(height)?, "block", height)?;
    let block = found(core.store.block(height)?, "block", height)?;
    Ok(json!({
        "block_id": shape::block_id(meta.block_id.as_ref()),
        "block": shape::block(&block),
    }))
}

pub(crate) fn block_by_hash(core: &Core, params: &Params) -> Result<Value, RpcError> {
    match core.store.height_of_block(&params.hash("hash")?)? {
        Some(height) => block_at(core, height),
        None => Ok(json!({ "block_id": shape::block_id(None), "block": null })),
    }
}

pub(crate) fn header(core: &Core, params: &Params) -> Result<Value, RpcError> {
    header_at(core, height(core, params, core.tip().height)?)
}

fn header_at(core: &Core, height: u64) -> Result<Value, RpcError> {
    let meta = found(core.store.meta(height)?, "header", height)?;
    Ok(json!({ "header": meta.header.as_ref().map(shape::header) }))
}

pub(crate) fn header_by_hash(core: &Core, params: &Params) -> Result<Value, RpcError> {
    match core.store.height_of_block(&params.hash("hash")?)? {
        Some(height) => header_at(core, height),
        None => Ok(json!({ "header": null })),
    }
}

pub(crate) fn commit(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let newest = core.tip().height;
    let height = height(core, params, newest)?;
    let meta = found(core.store.meta(height)?, "commit", height)?;
    let commit = found(core.store.commit(height)?, "commit", height)?;
    Ok(json!({
        "signed_header": {
            "header": meta.header.as_ref().map(shape::header),
            "commit": shape::commit(&commit),
        },
        // The newest block's commit is not in a block yet.
        "canonical": height < newest,
    }))
}

pub(crate) fn block_results(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let height = height(core, params, core.tip().height)?;
    let results = found(core.store.results(height)?, "block results", height)?;
    Ok(shape::block_results(height, &results))
}

pub(crate) fn blockchain(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let newest = core.tip().height;
    let bound = |name: &str| -> Result<Option<u64>, RpcError> {
        match params.integer(name)? {
            None | Some(0) => Ok(None),
            Some(height) => u64::try_from(height)
                .map(Some)
                .map_err(|_| RpcError::internal(format!("{name} must be non-negative"))),
        }
    };
    let last = bound("maxHeight")?.unwrap_or(newest).min(newest);
    let lowest = last.saturating_sub(BLOCK_METAS_MAX - 1).max(core.store.base()?);
    let first = bound("minHeight")?.unwrap_or(1).max(lowest);
    if newest > 0 && first > last {
        return Err(RpcError::internal(format!(
            "min height {first} can't be greater than max height {last}"
        )));
    }
    let mut metas = Vec::new();
    for height in (first.max(1)..=last).rev() {
        metas.extend(core.store.meta(height)?.as_ref().map(shape::block_meta));
    }
    Ok(json!({ "last_height": newest.to_string(), "block_metas": metas }))
}

pub(crate) fn validators(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let newest = core.tip().height;
    // The next block's signers are known.
    let height = height(core, params, newest + 1)?;
    let height = if params.integer("height")?.is_none() { newest.max(1) } else { height };
    let set = found(core.store.validators(height)?, "validator set", height)?;
    let all = set.validators();
    let (skip, take) = page(params, all.len())?;
    let shown: Vec<Value> = all.iter().skip(skip).take(take).map(shape::validator).collect();
    Ok(json!({
        "block_height": height.to_string(),
        "count": shown.len().to_string(),
        "total": all.len().to_string(),
        "validators": shown,
    }))
}

pub(crate) fn consensus_params(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let newest = core.tip().height;
    let height = height(core, params, newest + 1)?;
    let height = if params.integer("height")?.is_none() { newest.max(1) } else { height };
    let in_force = found(core.store.params(height)?, "parameters", height)?;
    Ok(json!({
        "block_height": height.to_string(),
        "consensus_params": in_force.to_json(),
    }))
}

/// `page` and `per_page` (30 by default, 100 at most) as how many to skip and to take.
pub(crate) fn page(params: &Params, total: usize) -> Result<(usize, usize), RpcError> {
    let take = match params.integer("per_page")?.unwrap_or(30) {
        ..=0 => 30,
        asked => usize::try_from(asked).unwrap_or(100).min(100),
    };
    let pages = total.div_ceil(take).max(1);
    let page = params.integer("page")?.unwrap_or(1);
    match usize::try_from(page) {
        Ok(page) if (1..=pages).contains(&page) => Ok(((page - 1) * take, take)),
        _ => Err(RpcError::internal(format!(
            "page should be within [1, {pages}] range, given {page}"
        ))),
    }
}

/// The newest and the first block's metas; `None` before the first block.
pub(crate) fn ends(core: &Core) -> Result<Option<(pb::BlockMeta, pb::BlockMeta)>, RpcError> {
    let newest = core.tip().height;
    if newest == 0 {
        return Ok(None);
    }
    let base = core.store.base()?;
    let last = found(core.store.meta(newest)?, "block", newest)?;
    let first = found(core.store.meta(base)?, "block", base)?;
    Ok(Some((first, last)))
}
