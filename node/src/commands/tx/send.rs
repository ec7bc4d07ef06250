//! Sends a signed transaction and follows it into its block.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use chain_types::{
    Account, AccountId, Params, ResultCode, StateKey, Transaction, hex, transaction_hash,
};
use comet::rpc::{Client, Event, RpcError, Status};
use serde_json::{Value, json};

use super::{Output, document::Document, made};
use crate::commands::say;

/// How long is waited for a block.
const INCLUSION: Duration = Duration::from_secs(60);
/// Between two questions for a transaction that is in no block yet.
const POLL: Duration = Duration::from_millis(200);

/// The signer's account as the RPC has it; one that the chain does not know is empty. Unproved: a
/// lie here costs the liar's user a refused transaction.
pub fn account(client: &Client, account: &AccountId) -> anyhow::Result<Account> {
    Ok(record(client, StateKey::Account(*account))?.unwrap_or_default())
}

/// The chain's fee table, unproved as well.
pub fn params(client: &Client) -> anyhow::Result<Params> {
    record(client, StateKey::Params)?.with_context(|| {
        format!("{} has a chain without parameters: is it Sutantra's?", client.name())
    })
}

fn record<T: borsh::BorshDeserialize>(client: &Client, key: StateKey) -> anyhow::Result<Option<T>> {
    let answer = client.abci_query("/store/app/key", &key.to_bytes(), 0, false)?;
    if answer.code != 0 {
        bail!("{} does not tell: {} (code {})", client.name(), answer.log, answer.code);
    }
    if answer.value.is_empty() {
        return Ok(None);
    }
    let record = borsh::from_slice(&answer.value);
    record
        .map(Some)
        .with_context(|| format!("{} gives another record than this version knows", client.name()))
}

/// What became of it.
struct Outcome {
    code: u32,
    log: String,
    /// `None`: CheckTx said it, it is in no block.
    height: Option<u64>,
    /// The number of a proposal that it made.
    proposal: Option<u64>,
}

/// Sends, waits, and tells.
///
/// # Errors
/// The chain's refusal, or no block in time.
pub fn send(client: &Client, document: &Document, output: Output) -> anyhow::Result<()> {
    let transaction = document.transaction()?;
    let found = client.status()?.chain_id;
    if found != document.chain_id {
        bail!("{} is of the chain {found}, this is for {}", client.name(), document.chain_id);
    }
    let bytes = transaction.encode();
    let hash = transaction_hash(&bytes);
    let outcome = follow(client, &transaction, &bytes, &hash, output)?;
    let name = hex::text(&hash).to_uppercase();
    match output {
        Output::Json => say(&format!("{}\n", as_json(&name, &outcome, &transaction)))?,
        Output::Text if outcome.code == 0 => say(&as_text(&name, &outcome, &transaction))?,
        Output::Text => {}
    }
    if outcome.code == 0 {
        return Ok(());
    }
    let why = advice(outcome.code, &outcome.log);
    match outcome.height {
        None => bail!("the chain does not take the transaction: {why}"),
        Some(height) => {
            bail!("the transaction {name} failed in block {height}, its fee is spent: {why}")
        }
    }
}

fn follow(
    client: &Client,
    transaction: &Transaction,
    bytes: &[u8],
    hash: &[u8; 32],
    output: Output,
) -> anyhow::Result<Outcome> {
    match client.broadcast_tx_sync(bytes) {
        Ok(checked) if checked.code != 0 => {
            let (code, log) = (checked.code, checked.log);
            return Ok(Outcome { code, log, height: None, proposal: None });
        }
        Ok(_) => {}
        // Sent before: where is it?
        Err(error) if error.is_known_tx() => {}
        // It may have come there all the same.
        Err(error @ RpcError::Unreachable { .. }) => {
            return Err(anyhow::Error::new(error).context(may_come(hash)));
        }
        Err(error) => return Err(error.into()),
    }
    if output == Output::Text {
        eprintln!("sent, waiting for its block");
    }
    let until = Instant::now() + INCLUSION;
    loop {
        // A node that does not answer once may the next time; what was sent is on its way.
        let found = match client.tx(hash) {
            Err(RpcError::Unreachable { .. }) if Instant::now() < until => None,
            found => found.with_context(|| may_come(hash))?,
        };
        if let Some(found) = found {
            let proposal = proposed(&found.tx_result.events);
            let (code, log) = (found.tx_result.code, found.tx_result.log);
            return Ok(Outcome { code, log, height: Some(found.height), proposal });
        }
        let last = transaction.body.valid_until_height;
        let is_past = |status: Status| status.latest_height > last.saturating_add(1);
        if last != 0 && client.status().is_ok_and(is_past) {
            bail!("the chain went past height {last} without this transaction: make it again");
        }
        if Instant::now() >= until {
            bail!(may_come(hash));
        }
        thread::sleep(POLL);
    }
}

fn may_come(hash: &[u8; 32]) -> String {
    format!(
        "the transaction {} is in no block yet and may still come: `sutantra-node query tx` tells, \
         before you try again",
        hex::text(hash).to_uppercase()
    )
}

/// Only the chain knows how many there were before.
fn proposed(events: &[Event]) -> Option<u64> {
    let event = events.iter().find(|event| event.kind == "proposed")?;
    let number = event.attributes.iter().find(|attribute| attribute.key == "proposal")?;
    number.value.parse().ok()
}

fn as_text(name: &str, outcome: &Outcome, transaction: &Transaction) -> String {
    let body = &transaction.body;
    let proposal = outcome.proposal.map(|number| ("proposal", number.to_string()));
    let made = made(body).or(proposal).map_or(String::new(), |(what, id)| format!("{what} {id}\n"));
    format!(
        "{made}{} in block {}, fee {} SUT, transaction {name}\n",
        body.payload.kind().replace('_', " "),
        outcome.height.unwrap_or_default(),
        body.fee.in_sut(),
    )
}

fn as_json(name: &str, outcome: &Outcome, transaction: &Transaction) -> Value {
    let body = &transaction.body;
    let mut json = json!({
        "hash": name,
        "kind": body.payload.kind(),
        "height": outcome.height,
        "code": outcome.code,
        "log": outcome.log,
        "fee": body.fee,
        "nonce": body.nonce,
    });
    if outcome.code != 0 {
        json["reason"] = json!(ResultCode::from_code(outcome.code));
        json["advice"] = json!(advice(outcome.code, &outcome.log));
    } else if let Some((what, id)) = made(body) {
        json[what] = json!(id);
    } else if let Some(number) = outcome.proposal {
        json["proposal"] = json!(number);
    }
    json
}

/// What to do about a code, and the chain's own sentence.
pub fn advice(code: u32, log: &str) -> String {
    let said = if log.is_empty() { String::new() } else { format!(" ({log})") };
    match ResultCode::from_code(code) {
        Some(known) => format!("{}{said}", known.advice()),
        None => format!("code {code}{said}"),
    }
}
