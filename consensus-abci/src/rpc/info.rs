//! Methods about the node and its application.

use serde_json::{Value, json};
use tendermint_proto::v0_38::abci::RequestQuery;
use tendermint_proto::v0_38::types as pb;

use super::chain;
use super::error::RpcError;
use super::params::Params;
use super::shape;
use crate::engine::{BLOCK_PROTOCOL, COMETBFT_VERSION, Core, P2P_PROTOCOL, hex_upper, public_json};

/// Longest piece of a genesis in one answer; CometBFT has the same bound.
const GENESIS_CHUNK_BYTES: usize = 16 * 1024 * 1024;

pub(crate) fn health() -> Value {
    json!({})
}

pub(crate) fn status(core: &Core) -> Result<Value, RpcError> {
    let (first, last) = chain::ends(core)?.unwrap_or_default();
    let hash = |meta: &pb::BlockMeta| {
        meta.block_id.as_ref().map(|id| hex_upper(&id.hash)).unwrap_or_default()
    };
    let header = |meta: &pb::BlockMeta| meta.header.clone().unwrap_or_default();
    let (first_header, last_header) = (header(&first), header(&last));
    let set = core.store.validators(core.tip().height + 1)?;
    let power = set.map_or(0, |set| set.total_voting_power().value());
    Ok(json!({
        "node_info": {
            "protocol_version": {
                "p2p": P2P_PROTOCOL.to_string(),
                "block": BLOCK_PROTOCOL.to_string(),
                "app": core.info.app_version.to_string(),
            },
            "id": core.node_id,
            // Nobody listens for peers; CosmJS refuses a status without an address.
            "listen_addr": "tcp://127.0.0.1:0",
            "network": core.genesis.chain_id.as_str(),
            "version": COMETBFT_VERSION,
            "channels": "",
            "moniker": core.moniker,
            "other": { "tx_index": "on", "rpc_address": "" },
        },
        "sync_info": {
            "latest_block_hash": hash(&last),
            "latest_app_hash": hex_upper(&last_header.app_hash),
            "latest_block_height": last_header.height.to_string(),
            "latest_block_time": shape::time(last_header.time),
            "earliest_block_hash": hash(&first),
            "earliest_app_hash": hex_upper(&first_header.app_hash),
            "earliest_block_height": first_header.height.to_string(),
            "earliest_block_time": shape::time(first_header.time),
            "catching_up": false,
        },
        "validator_info": {
            "address": core.validator_address().to_string(),
            "pub_key": public_json(&core.validator),
            "voting_power": power.to_string(),
        },
    }))
}

pub(crate) fn genesis(core: &Core) -> Result<Value, RpcError> {
    let genesis = core.genesis.to_json();
    match genesis.to_string().len() <= GENESIS_CHUNK_BYTES {
        true => Ok(json!({ "genesis": genesis })),
        false => Err(RpcError::internal(
            "genesis response is large, please use the genesis_chunked API instead",
        )),
    }
}

pub(crate) fn genesis_chunked(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let asked = params.integer("chunk")?.unwrap_or(0);
    let text = core.genesis.to_json().to_string();
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(GENESIS_CHUNK_BYTES).collect();
    match usize::try_from(asked).ok().and_then(|asked| chunks.get(asked)) {
        Some(chunk) => Ok(json!({
            "chunk": asked.to_string(),
            "total": chunks.len().to_string(),
            "data": shape::base64(chunk),
        })),
        None => Err(RpcError::internal(format!(
            "there are {} chunks, counted from 0; {asked} is invalid",
            chunks.len()
        ))),
    }
}

pub(crate) fn net_info() -> Value {
    json!({ "listening": false, "listeners": [], "n_peers": "0", "peers": [] })
}

pub(crate) fn abci_info(core: &Core) -> Result<Value, RpcError> {
    let height = core.tip().height;
    // After the newest block, which is what `Info` would say; the application is not asked, since
    // `info` belongs to the block thread.
    let hash = core.store.results(height)?.map(|results| results.app_hash);
    Ok(json!({
        "response": {
            "data": core.info.data,
            "version": core.info.version,
            "app_version": core.info.app_version.to_string(),
            "last_block_height": height.to_string(),
            "last_block_app_hash": shape::base64(&hash.unwrap_or_default()),
        },
    }))
}

pub(crate) fn abci_query(core: &Core, params: &Params) -> Result<Value, RpcError> {
    let height = params.integer("height")?.unwrap_or(0);
    if height < 0 {
        return Err(RpcError::internal("height must be non-negative"));
    }
    let request = RequestQuery {
        data: params.data("data")?.into(),
        path: params.text("path")?,
        height,
        prove: params.boolean("prove")?,
    };
    Ok(shape::query(&core.app.query(request)?))
}
