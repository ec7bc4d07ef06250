//! A transaction as a JSON document, between the machine that makes it, the one that holds the key
//! and the one that sends it.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use chain_types::{AccountId, SigningKey, Transaction, TransactionBody, hex, transaction_hash};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Longest text that is read: the largest transaction in hex, twice.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// A body, for one chain, with as many of its signatures as it has so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The chain that it is for: the signatures cover it.
    pub chain_id: String,
    /// What is signed.
    pub body: TransactionBody,
    /// By `body.signer`, 128 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    /// By `body.fee_payer`, 128 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fee_payer_signature: Option<String>,
}

impl Document {
    /// Nobody has signed.
    pub fn new(chain_id: String, body: TransactionBody) -> Self {
        Self { chain_id, body, signature: None, fee_payer_signature: None }
    }

    /// Reads the JSON.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text)
            .context("this is no document of `sutantra-node tx … --generate-only`")
    }

    /// For a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("records have a JSON form") + "\n"
    }

    /// Adds the signature of one of those who must sign.
    pub fn sign(&mut self, key: &SigningKey) -> anyhow::Result<()> {
        let account = AccountId::from(key);
        let slot = if account == self.body.signer {
            &mut self.signature
        } else if Some(account) == self.body.fee_payer {
            &mut self.fee_payer_signature
        } else {
            bail!(
                "{account} need not sign this: it acts for {}{}",
                self.body.signer,
                self.body.fee_payer.map_or(String::new(), |payer| format!(", and {payer} pays"))
            );
        };
        // One preimage, whoever signs.
        *slot = Some(hex::text(&self.body.clone().sign(key, &self.chain_id).signature));
        Ok(())
    }

    /// The transaction, its signatures verified.
    pub fn transaction(&self) -> anyhow::Result<Transaction> {
        let signature = match &self.signature {
            Some(text) => bytes_of(text)?,
            None => bail!("{} has not signed: `sutantra-node tx sign`", self.body.signer),
        };
        let fee_payer_signature = match (&self.body.fee_payer, &self.fee_payer_signature) {
            (None, None) => None,
            (Some(_), Some(text)) => Some(bytes_of(text)?),
            (Some(payer), None) => {
                bail!("{payer}, who pays the fee, has not signed: `sutantra-node tx sign`")
            }
            (None, Some(_)) => bail!("there is a fee payer's signature and no fee payer"),
        };
        let transaction = Transaction { body: self.body.clone(), signature, fee_payer_signature };
        transaction
            .verify(&self.chain_id)
            .with_context(|| format!("on the chain {}", self.chain_id))?;
        Ok(transaction)
    }

    /// For a person who is asked whether it may be sent.
    pub fn summary(&self) -> String {
        let TransactionBody { signer, fee_payer, nonce, valid_until_height, fee, payload } =
            &self.body;
        let payload = serde_json::to_string_pretty(payload).expect("records have a JSON form");
        format!(
            "{payload}\nby      {signer}, nonce {nonce}\nfee     {} SUT, paid by {}\nchain   {}, until \
             height {valid_until_height}\n",
            fee.in_sut(),
            fee_payer.unwrap_or(*signer),
            self.chain_id,
        )
    }
}

fn bytes_of(signature: &str) -> anyhow::Result<[u8; 64]> {
    let bytes = hex::bytes(signature).and_then(|bytes| bytes.try_into().ok());
    bytes.context("a signature has 128 hex digits")
}

/// What a transaction is, as JSON for people and programs; `text` is a document, hex or base64.
/// Where the chain is known, its signatures are checked.
pub fn describe(text: &str, chain_id: Option<&str>) -> anyhow::Result<String> {
    let text = text.trim();
    let (transaction, chain_id) = if text.starts_with('{') {
        let document = Document::read(text)?;
        if document.signature.is_none() {
            return Ok(pretty(&json!({
                "kind": document.body.payload.kind(),
                "chain_id": document.chain_id,
                "body": document.body,
                "signed": false,
            })));
        }
        (document.transaction()?, Some(document.chain_id))
    } else {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let bytes = hex::bytes(digits).or_else(|| STANDARD.decode(text).ok());
        let bytes = bytes.context("this is neither a document, nor hex, nor base64")?;
        (Transaction::decode(&bytes)?, chain_id.map(str::to_owned))
    };
    let bytes = transaction.encode();
    let verified = chain_id.as_deref().map(|id| transaction.verify(id).is_ok());
    Ok(pretty(&json!({
        "kind": transaction.body.payload.kind(),
        "hash": hex::text(&transaction_hash(&bytes)).to_uppercase(),
        "chain_id": chain_id,
        "body": transaction.body,
        "signed": true,
        // Without the chain's id nobody can tell.
        "signatures_fit": verified,
        "len_bytes": bytes.len(),
        "base64": STANDARD.encode(&bytes),
    })))
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON has a text form") + "\n"
}

/// The text of a file, of stdin for `-`.
pub fn text_of(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(TEXT_BYTES_MAX).read_to_string(&mut text)
    } else {
        fs::File::open(file)
            .and_then(|opened| opened.take(TEXT_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| file.display().to_string())?;
    Ok(text)
}

/// The text of a file, where there is one of this name, or the argument itself.
pub fn text_or_file(argument: &str) -> anyhow::Result<String> {
    // A transaction in hex is longer than a file's name may be: asking for it is an error, not a
    // file.
    let is_file = argument == "-" || fs::metadata(argument).is_ok_and(|meta| meta.is_file());
    if is_file { text_of(Path::new(argument)) } else { Ok(argument.to_owned()) }
}

#[cfg(test)]
mod tests {
    use chain_types::{Balance, Payload};

    use super::*;

    const CHAIN: &str = "sutantra-test-1";

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes(&[byte; 32])
    }

    fn document(fee_payer: Option<u8>) -> Document {
        let body = TransactionBody {
            signer: AccountId::from(&key(1)),
            fee_payer: fee_payer.map(|byte| AccountId::from(&key(byte))),
            nonce: 7,
            valid_until_height: 120,
            fee: Balance::of(12_000),
            payload: Payload::Transfer { to: AccountId([9; 32]), amount: Balance::of(5) },
        };
        Document::new(CHAIN.to_owned(), body)
    }

    #[test]
    fn a_document_travels_to_its_signers_and_becomes_the_transaction() {
        let mut made = document(Some(2));
        let unsigned = made.transaction().expect_err("nobody signed").to_string();
        assert!(unsigned.contains("tx sign"), "{unsigned}");
        for byte in [2, 1] {
            let mut travelled = Document::read(&made.to_json()).expect("its own JSON");
            assert_eq!(travelled, made);
            travelled.sign(&key(byte)).expect("it must sign");
            made = travelled;
        }
        let expected = made.body.clone().sign_with_fee_payer(&key(1), &key(2), CHAIN);
        assert_eq!(made.transaction().expect("both signed"), expected);
        assert!(made.sign(&key(3)).is_err(), "a stranger's signature has no place");
    }

    #[test]
    fn a_document_that_was_changed_after_it_was_signed_is_refused() {
        let mut made = document(None);
        made.sign(&key(1)).expect("the signer");
        let text = made.to_json();
        for (from, to) in [("\"5\"", "\"6\""), (CHAIN, "sutantra-test-2"), ("120", "121")] {
            let changed = Document::read(&text.replace(from, to)).expect("a document still");
            let refused = changed.transaction().expect_err("another body");
            assert!(format!("{refused:#}").contains("signature"), "{from}: {refused:#}");
        }
        assert!(Document::read(&text.replace("nonce", "once")).is_err());
        let with_more = text.replacen('{', "{\"memo\": \"\",", 1);
        assert!(Document::read(&with_more).is_err(), "what nobody reads is not signed either");
    }

    #[test]
    fn a_transaction_is_shown_from_each_of_its_forms() {
        let mut made = document(None);
        let shown = |text: &str, chain| -> serde_json::Value {
            serde_json::from_str(&describe(text, chain).expect("one of its forms")).expect("JSON")
        };
        assert_eq!(shown(&made.to_json(), None)["signed"], false);
        made.sign(&key(1)).expect("the signer");
        let bytes = made.transaction().expect("signed").encode();
        let of_document = shown(&made.to_json(), None);
        assert_eq!(of_document["signatures_fit"], true);
        assert_eq!(of_document["body"]["payload"]["kind"], "transfer");
        for text in [hex::text(&bytes), format!("0x{}", hex::text(&bytes)), STANDARD.encode(&bytes)]
        {
            assert_eq!(shown(&text, Some(CHAIN)), of_document);
            assert!(shown(&text, None)["signatures_fit"].is_null());
            assert_eq!(shown(&text, Some("other"))["signatures_fit"], false);
        }
        for text in ["", "zz", "00", "{}"] {
            assert!(describe(text, None).is_err(), "{text}");
        }
    }
}
