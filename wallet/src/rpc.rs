//! CometBFT's JSON-RPC 2.0 over HTTP POST: the four methods that a wallet needs.

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::http::{HttpError, Request, Url};

/// Between two questions for a transaction that is in no block yet.
const POLL: Duration = Duration::from_millis(200);
/// The code of an `abci_query` that finds nothing ([`chain_types::ResultCode::NotFound`]).
const NOT_FOUND: u32 = 6;

/// Why the chain gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody answers.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Something answers, but no CometBFT RPC.
    #[error("{url} answers {method} with {reason}: is this the RPC address of a chain (--rpc)?")]
    Malformed {
        /// Asked.
        url: String,
        /// For this.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The RPC says no.
    #[error("the chain answers {method} with an error: {message}")]
    Refused {
        /// Asked for this.
        method: &'static str,
        /// Its sentence.
        message: String,
    },
}

/// A JSON-RPC address.
#[derive(Debug, Clone)]
pub struct Rpc {
    url: Url,
}

/// `status`, as far as a wallet looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The chain's id.
    pub chain_id: String,
    /// Of the newest block.
    pub height: u64,
    /// Of the newest block, unix ms.
    pub time_ms: u64,
}

/// `broadcast_tx_sync`: what CheckTx said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Checked {
    /// 0: it waits for a block.
    #[serde(default)]
    pub code: u32,
    /// The chain's sentence.
    #[serde(default)]
    pub log: String,
    /// SHA-256 of the bytes, hex.
    #[serde(default)]
    pub hash: String,
}

/// `tx`: what a block did with a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InBlock {
    /// Of the block.
    pub height: u64,
    /// 0: it had its effect.
    pub code: u32,
    /// The chain's sentence.
    pub log: String,
}

impl Rpc {
    /// Speaks to `url`, such as `http://127.0.0.1:26657`.
    pub fn new(url: Url) -> Self {
        Self { url }
    }

    /// Where it asks.
    pub fn url(&self) -> &Url {
        &self.url
    }

    fn call(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let headers = [("Content-Type", "application/json")];
        let body = request.to_string();
        let answer =
            self.url.send(Request { method: "POST", headers: &headers, body: body.as_bytes() })?;
        // CometBFT answers errors with 500 and a JSON body: the body decides.
        let mut json: Value = serde_json::from_slice(&answer.body).map_err(|error| {
            self.malformed(method, format!("status {}, {error}", answer.status))
        })?;
        if let Some(error) = json.get("error").filter(|error| !error.is_null()) {
            let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
            let message = text("data").or_else(|| text("message")).unwrap_or("no reason is given");
            return Err(RpcError::Refused { method, message: message.to_owned() });
        }
        match json.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(self.malformed(method, "no result".to_owned())),
        }
    }

    fn malformed(&self, method: &'static str, reason: String) -> RpcError {
        RpcError::Malformed { url: self.url.to_string(), method, reason }
    }

    fn read<T: DeserializeOwned>(&self, method: &'static str, json: Value) -> Result<T, RpcError> {
        serde_json::from_value(json).map_err(|error| self.malformed(method, error.to_string()))
    }

    /// A 64-bit number, which CometBFT writes as text.
    fn number(&self, method: &'static str, json: &Value) -> Result<u64, RpcError> {
        let number = json.as_str().and_then(|text| text.parse().ok()).or_else(|| json.as_u64());
        number.ok_or_else(|| self.malformed(method, format!("{json} in place of a number")))
    }

    /// Id and height of the chain.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn status(&self) -> Result<Status, RpcError> {
        const METHOD: &str = "status";
        let json = self.call(METHOD, json!({}))?;
        let chain_id = json["node_info"]["network"].as_str();
        let chain_id = chain_id.ok_or_else(|| self.malformed(METHOD, "no network".to_owned()))?;
        let height = self.number(METHOD, &json["sync_info"]["latest_block_height"])?;
        let time = json["sync_info"]["latest_block_time"].as_str().and_then(unix_ms);
        let time_ms = time.ok_or_else(|| self.malformed(METHOD, "no block time".to_owned()))?;
        Ok(Status { chain_id: chain_id.to_owned(), height, time_ms })
    }

    /// The JSON record behind a path; `None`: there is none.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn query<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, RpcError> {
        #[derive(Deserialize)]
        struct Response {
            #[serde(default)]
            code: u32,
            #[serde(default)]
            log: String,
            #[serde(default)]
            value: Option<String>,
        }
        const METHOD: &str = "abci_query";
        let params = json!({ "path": path, "data": "", "height": "0", "prove": false });
        let mut json = self.call(METHOD, params)?;
        let response: Response = self.read(METHOD, json["response"].take())?;
        match response.code {
            0 => {}
            NOT_FOUND => return Ok(None),
            code => {
                let message = format!("code {code}, {}", response.log);
                return Err(RpcError::Refused { method: METHOD, message });
            }
        }
        let Some(value) = response.value.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(value);
        let bytes = bytes.map_err(|error| self.malformed(METHOD, error.to_string()))?;
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|error| self.malformed(METHOD, format!("{path}: {error}")))
    }

    /// Hands over a transaction; the answer is CheckTx's.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn broadcast_tx_sync(&self, transaction: &[u8]) -> Result<Checked, RpcError> {
        const METHOD: &str = "broadcast_tx_sync";
        let json = self.call(METHOD, json!({ "tx": STANDARD.encode(transaction) }))?;
        self.read(METHOD, json)
    }

    /// Where a transaction is; `None`: in no block.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn tx(&self, hash: &[u8; 32]) -> Result<Option<InBlock>, RpcError> {
        const METHOD: &str = "tx";
        let params = json!({ "hash": STANDARD.encode(hash), "prove": false });
        let json = match self.call(METHOD, params) {
            Ok(json) => json,
            // CometBFT knows no other word than an error for "not in a block".
            Err(RpcError::Refused { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        let height = self.number(METHOD, &json["height"])?;
        let result: Checked = self.read(METHOD, json["tx_result"].clone())?;
        Ok(Some(InBlock { height, code: result.code, log: result.log }))
    }

    /// Waits until a transaction is in a block, for at most `wait`; `None`: it is in none yet.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn wait_for(&self, hash: &[u8; 32], wait: Duration) -> Result<Option<InBlock>, RpcError> {
        let until = Instant::now() + wait;
        loop {
            if let Some(found) = self.tx(hash)? {
                return Ok(Some(found));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

/// Unix ms of a time in UTC (RFC 3339, `2026-11-22T16:39:52.5Z`), as CometBFT writes it; `None`: it
/// is none, or before 1970.
fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| {
        text.split(by).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<u64>>>()
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let [hour, minute, second] = numbers(clock, ':')?[..] else { return None };
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !in_range {
        return None;
    }
    // Days of the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second;
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(seconds * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_time_is_read_or_refused() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(unix_ms(text), expected, "{text}");
        }
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T12:00:00.5Z", Some(951_825_600_500));
        check("2026-11-22T16:39:52.123456789Z", Some(1_795_365_592_123));
        for text in ["", "Z", "T", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-22"] {
            check(text, None);
        }
        check("1970-01-01T00:00:00.éZ", None);
        check("1970-01-01T24:00:00Z", None);
    }
}
