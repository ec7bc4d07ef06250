//! Blocks and transactions: the header is verified, and the transactions against its data hash.

use anyhow::{Context as _, bail};
use chain_types::{ResultCode, Transaction, hex, transaction_hash};
use serde_json::{Value, json};
use tendermint::{Hash, block::Header, crypto::default::Sha256, merkle};

use super::{Asking, say, show};
use crate::commands::tx::Output;

impl Asking<'_> {
    /// A block's header and transactions.
    pub(super) fn block(&mut self, height: Option<u64>) -> anyhow::Result<()> {
        let (header, basis) = self.trusted_header(height)?;
        let client = self.follower.primary();
        let found = client.block(Some(header.height.value()))?;
        let transactions = found.block.data;
        is_of(&header, &found.block.header, &transactions)
            .with_context(|| client.name().to_owned())?;
        let hashes = transactions.iter().map(|tx| upper(&transaction_hash(tx)));
        let block = json!({
            "chain_id": header.chain_id.as_str(),
            "height": header.height.value(),
            "hash": header.hash().to_string(),
            "time": header.time.to_rfc3339(),
            "proposer": header.proposer_address.to_string(),
            "app_hash": header.app_hash.to_string(),
            "validators_hash": header.validators_hash.to_string(),
            "transactions": hashes.collect::<Vec<_>>(),
        });
        self.tell_block(json!({ "block": block }), &basis)
    }

    /// A transaction: that it is in its block is proved, what became of it is the endpoint's word.
    pub(super) fn tx(&mut self, hash: &str) -> anyhow::Result<()> {
        let wanted = hash.strip_prefix("0x").unwrap_or(hash);
        let wanted: [u8; 32] = hex::bytes(wanted)
            .and_then(|bytes| bytes.try_into().ok())
            .context("a transaction's hash has 64 hex digits")?;
        let client = self.follower.primary().clone();
        let Some(found) = client.tx(&wanted)? else {
            bail!(
                "{} has no such transaction in a block: it may still come, or never will once the \
                 height is past that it was valid until",
                client.name()
            );
        };
        if transaction_hash(&found.tx) != wanted {
            bail!("{} gives another transaction than was asked for: do not use it", client.name());
        }
        let (header, basis) = self.trusted_header(Some(found.height))?;
        let block = client.block(Some(found.height))?.block;
        is_of(&header, &block.header, &block.data).with_context(|| client.name().to_owned())?;
        if !block.data.contains(&found.tx) {
            bail!(
                "{} names block {}, which does not have it: do not use it",
                client.name(),
                found.height
            );
        }
        let transaction = Transaction::decode(&found.tx).ok();
        let code = found.tx_result.code;
        let record = json!({
            "hash": upper(&wanted),
            "height": found.height,
            "time": header.time.to_rfc3339(),
            "kind": transaction.as_ref().map(|tx| tx.body.payload.kind()),
            "body": transaction.map(|tx| tx.body),
            "result": {
                "code": code,
                "reason": ResultCode::from_code(code),
                "advice": ResultCode::from_code(code).map(ResultCode::advice),
                "log": found.tx_result.log,
                "basis": format!("unproved: the word of {}", client.name()),
            },
        });
        self.tell_block(json!({ "tx": record }), &basis)
    }

    /// The node behind the RPC.
    pub(super) fn status(&mut self) -> anyhow::Result<()> {
        let status = self.follower.primary().status()?;
        self.tell_unproved(json!({ "status": {
            "chain_id": status.chain_id,
            "node_id": status.node_id,
            "moniker": status.moniker,
            "version": status.version,
            "height": status.latest_height,
            "hash": status.latest_hash.to_string(),
            "app_hash": upper(&status.latest_app_hash),
            "time": status.latest_time.to_rfc3339(),
            "earliest_height": status.earliest_height,
            "catching_up": status.is_catching_up,
            "validator": status.validator.to_string(),
            "voting_power": status.voting_power,
        }}))
    }

    /// The header of a height and why it may be believed.
    fn trusted_header(&mut self, height: Option<u64>) -> anyhow::Result<(Header, String)> {
        if !self.options.prove {
            let client = self.follower.primary();
            let header = client.commit(height)?.header;
            return Ok((header, format!("unproved: the word of {}", client.name())));
        }
        let header = self.follower.header(height)?.signed_header.header;
        Ok((header, self.follower.began_words()))
    }

    fn tell_block(&self, mut value: Value, basis: &str) -> anyhow::Result<()> {
        match self.options.output {
            Output::Json => {
                value["proved"] = json!(self.options.prove);
                value["basis"] = json!(basis);
                say(&format!("{value}\n"))
            }
            Output::Text => say(&format!("{}{basis}\n", show::lines(&value))),
        }
    }
}

/// Whether transactions belong to a header: CometBFT's data hash is the Merkle root over their
/// hashes.
fn is_of(trusted: &Header, given: &Header, transactions: &[Vec<u8>]) -> anyhow::Result<()> {
    if given.hash() != trusted.hash() {
        bail!("its block has another header than the verified one: do not use this endpoint");
    }
    let hashes: Vec<_> = transactions.iter().map(|tx| transaction_hash(tx)).collect();
    let root = merkle::simple_hash_from_byte_vectors::<Sha256>(&hashes);
    match trusted.data_hash {
        Some(Hash::Sha256(expected)) if expected != root => {
            bail!("its block has other transactions than the header: do not use this endpoint")
        }
        None | Some(Hash::None) if !transactions.is_empty() => {
            bail!("its block has transactions and the header has none: do not use this endpoint")
        }
        Some(_) | None => Ok(()),
    }
}

fn upper(bytes: &[u8]) -> String {
    hex::text(bytes).to_uppercase()
}
