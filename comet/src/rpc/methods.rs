//! CometBFT's methods, each with the type of its answer.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use light::{LightBlock, Provider, ProviderError, block::VALIDATORS_MAX};
use serde_json::{Value, json};
use tendermint::{
    block::{Height, signed_header::SignedHeader},
    validator,
};

use super::{
    answers::{
        AbciQuery, BlockAnswer, BlockResults, Broadcast, ConsensusParams, FoundTx, Genesis,
        NetInfo, RawCommit, RawConsensusParams, RawGenesis, RawQuery, RawStatus, RawValidators,
        Status,
    },
    client::Client,
    error::RpcError,
};

/// Transactions of one batch: what CometBFT takes as it comes (`max_request_batch_size`).
pub const TX_BATCH_MAX: usize = 10;
/// Validators of one page; CometBFT gives no more.
const PAGE_VALIDATORS: usize = 100;

/// Each of them fails with [`RpcError`].
impl Client {
    /// The node and how far it is.
    pub fn status(&self) -> Result<Status, RpcError> {
        self.call::<RawStatus>("status", json!({})).map(Status::from)
    }

    /// The genesis document. CometBFT gives none of more than 16 MB in one piece.
    pub fn genesis(&self) -> Result<Genesis, RpcError> {
        let raw: RawGenesis = self.call("genesis", json!({}))?;
        Genesis::parse(raw.genesis).map_err(|error| self.malformed("genesis", error))
    }

    /// A header and the signatures over it; the newest without a height.
    pub fn commit(&self, height: Option<u64>) -> Result<SignedHeader, RpcError> {
        let raw: RawCommit = self.call("commit", at(height))?;
        self.is_height("commit", height, raw.signed_header.header.height.value())?;
        Ok(raw.signed_header)
    }

    /// All validators of a height, in CometBFT's order. The set after the newest block is known.
    pub fn validators(&self, height: u64) -> Result<Vec<validator::Info>, RpcError> {
        let mut all: Vec<validator::Info> = Vec::new();
        for page in 1.. {
            let params = json!({
                "height": height.to_string(),
                "page": page.to_string(),
                "per_page": PAGE_VALIDATORS.to_string(),
            });
            let raw: RawValidators = self.call("validators", params)?;
            self.is_height("validators", Some(height), raw.block_height.value())?;
            let is_last = raw.validators.is_empty();
            all.extend(raw.validators);
            if all.len() > VALIDATORS_MAX {
                return Err(self.malformed("validators", "more than CometBFT allows"));
            }
            let found = u64::try_from(all.len()).unwrap_or(u64::MAX);
            match found.cmp(&raw.total) {
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Less if !is_last => {}
                _ => return Err(self.malformed("validators", "pages and their total differ")),
            }
        }
        Ok(all)
    }

    /// A block; the newest without a height.
    pub fn block(&self, height: Option<u64>) -> Result<BlockAnswer, RpcError> {
        let answer: BlockAnswer = self.call("block", at(height))?;
        self.is_height("block", height, answer.block.header.height.value())?;
        Ok(answer)
    }

    /// What the application made of a block; of the newest without a height.
    pub fn block_results(&self, height: Option<u64>) -> Result<BlockResults, RpcError> {
        let answer: BlockResults = self.call("block_results", at(height))?;
        self.is_height("block_results", height, answer.height)?;
        Ok(answer)
    }

    /// All that verification of a header needs; of the newest without a height.
    pub fn light_block(&self, height: Option<u64>) -> Result<LightBlock, RpcError> {
        let signed = self.commit(height)?;
        let height = signed.header.height.value();
        let next = height.checked_add(1).filter(|next| i64::try_from(*next).is_ok());
        let next = next.ok_or_else(|| self.malformed("commit", "a height without a next one"))?;
        let (validators, next) = (self.validators(height)?, self.validators(next)?);
        light::light_block(signed.header, signed.commit, validators, next)
            .map_err(|error| self.malformed("commit", error))
    }

    /// Asks the application. Height 0 is its newest state; a proof at H is under the app hash in the
    /// header of H + 1.
    pub fn abci_query(
        &self,
        path: &str,
        data: &[u8],
        height: u64,
        prove: bool,
    ) -> Result<AbciQuery, RpcError> {
        let params = json!({
            "path": path,
            "data": chain_types::hex::text(data),
            "height": height.to_string(),
            "prove": prove,
        });
        self.call::<RawQuery>("abci_query", params).map(|raw| raw.response)
    }

    /// Hands over a transaction and waits for CheckTx.
    pub fn broadcast_tx_sync(&self, tx: &[u8]) -> Result<Broadcast, RpcError> {
        self.call("broadcast_tx_sync", transaction(tx))
    }

    /// Hands over a transaction; nobody says what CheckTx makes of it.
    pub fn broadcast_tx_async(&self, tx: &[u8]) -> Result<Broadcast, RpcError> {
        self.call("broadcast_tx_async", transaction(tx))
    }

    /// As [`Client::broadcast_tx_async`] for up to [`TX_BATCH_MAX`] transactions in one request; an
    /// answer for each, in their order.
    pub fn broadcast_txs_async(
        &self,
        txs: &[Vec<u8>],
    ) -> Result<Vec<Result<Broadcast, RpcError>>, RpcError> {
        self.call_batch("broadcast_tx_async", txs.iter().map(|tx| transaction(tx)))
    }

    /// A transaction that is in a block, by its hash; `None`: it is in none, or not indexed.
    pub fn tx(&self, hash: &[u8; 32]) -> Result<Option<FoundTx>, RpcError> {
        match self.call("tx", json!({ "hash": BASE64.encode(hash), "prove": false })) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing_tx() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who the node is connected with.
    pub fn net_info(&self) -> Result<NetInfo, RpcError> {
        self.call("net_info", json!({}))
    }

    /// The engine's parameters at a height; the newest without one.
    pub fn consensus_params(&self, height: Option<u64>) -> Result<ConsensusParams, RpcError> {
        self.call::<RawConsensusParams>("consensus_params", at(height)).map(ConsensusParams::from)
    }

    fn is_height(&self, method: &str, asked: Option<u64>, found: u64) -> Result<(), RpcError> {
        match asked {
            Some(asked) if asked != found => {
                Err(self
                    .malformed(method, format_args!("height {found}, when {asked} was asked for")))
            }
            _ => Ok(()),
        }
    }
}

impl Provider for Client {
    fn name(&self) -> &str {
        Client::name(self)
    }

    fn light_block(&self, height: Option<Height>) -> Result<LightBlock, ProviderError> {
        Client::light_block(self, height.map(|height| height.value())).map_err(|error| {
            let sentence = error.to_string();
            match error {
                RpcError::Malformed { .. } | RpcError::TooLarge { .. } => {
                    ProviderError::Malformed(sentence)
                }
                RpcError::Refused { .. } if error.is_missing_height() => {
                    ProviderError::Missing(sentence)
                }
                RpcError::Refused { .. } | RpcError::Unreachable { .. } => {
                    ProviderError::Unreachable(sentence)
                }
            }
        })
    }
}

fn at(height: Option<u64>) -> Value {
    match height {
        Some(height) => json!({ "height": height.to_string() }),
        None => json!({}),
    }
}

fn transaction(tx: &[u8]) -> Value {
    json!({ "tx": BASE64.encode(tx) })
}
