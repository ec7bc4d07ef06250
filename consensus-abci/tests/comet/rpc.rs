//! CometBFT's JSON-RPC as far as these tests need it: one call, one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chain_types::{Account, AccountId};
use serde_json::{Value, json};

/// Longer than `broadcast_tx_commit` waits.
const CALL: Duration = Duration::from_secs(15);

#[derive(Clone, Copy)]
pub struct Rpc {
    pub port: u16,
}

/// A transaction in a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Included {
    pub height: u64,
    pub code: u64,
}

impl Rpc {
    /// The result; `None` where nobody answers, or with an error.
    pub fn try_call(&self, method: &str, params: Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(CALL)).ok()?;
        // Of HTTP/1.0 the answer ends with the connection, and has no chunks.
        let head = format!(
            "POST / HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let mut answer: Value = serde_json::from_slice(&answer[end + 4..]).ok()?;
        Some(answer.get_mut("result")?.take())
    }

    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|| panic!("{method} has no answer"))
    }

    /// Of the newest block in the store.
    pub fn height(&self) -> Option<u64> {
        let status = self.try_call("status", json!({}))?;
        Some(number(&status["sync_info"]["latest_block_height"]))
    }

    /// What the application answers to a path, as JSON; `None` where there is no such record.
    pub fn read(&self, path: &str) -> Option<Value> {
        let answer = self.try_call("abci_query", json!({ "path": path }))?;
        let value = BASE64.decode(answer["response"]["value"].as_str()?).ok()?;
        serde_json::from_slice(&value).ok()
    }

    pub fn nonce(&self, account: AccountId) -> Option<u64> {
        let account: Account =
            serde_json::from_value(self.read(&format!("/account/{account}"))?).ok()?;
        Some(account.nonce)
    }

    /// CheckTx's code.
    pub fn send(&self, tx: &[u8]) -> Option<u64> {
        let answer = self.try_call("broadcast_tx_sync", json!({ "tx": BASE64.encode(tx) }))?;
        answer["code"].as_u64()
    }

    /// Waits for the block; `None` where that is not known to have come.
    pub fn commit(&self, tx: &[u8]) -> Option<Included> {
        let answer = self.try_call("broadcast_tx_commit", json!({ "tx": BASE64.encode(tx) }))?;
        let height = number(&answer["height"]);
        let included = Included { height, code: answer["tx_result"]["code"].as_u64()? };
        (answer["check_tx"]["code"] == 0 && height > 0).then_some(included)
    }

    #[track_caller]
    pub fn app_hash_after(&self, height: u64) -> Vec<u8> {
        let results = self.call("block_results", json!({ "height": height.to_string() }));
        BASE64.decode(results["app_hash"].as_str().expect("a hash")).expect("base64")
    }
}

/// A number as CometBFT writes it: a string.
pub fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}
