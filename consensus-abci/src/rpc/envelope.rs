//! JSON-RPC 2.0 envelopes: bytes to requests, answers to JSON; nothing is carried out here.

use serde_json::{Value, json};

use super::BATCH_REQUESTS_MAX;
use super::error::RpcError;

/// A request whose envelope is sound.
#[derive(Debug)]
pub(crate) struct Request {
    /// A string or an integer; `None` makes it a notification.
    pub id: Option<Value>,
    pub method: String,
    pub params: Option<Value>,
}

/// What a body holds.
#[derive(Debug)]
pub(crate) enum Requests {
    One(Result<Request, (Value, RpcError)>),
    Batch(Vec<Result<Request, (Value, RpcError)>>),
}

/// The answer to `id`.
pub(crate) fn envelope(id: Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
    }
}

/// Reads the envelopes; an error where the whole body is unusable.
pub(crate) fn parse(body: &[u8]) -> Result<Requests, RpcError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| RpcError::parse(format!("error unmarshaling request: {error}")))?;
    match value {
        Value::Array(list) if list.is_empty() => Err(RpcError::invalid_request("empty batch")),
        Value::Array(list) if list.len() > BATCH_REQUESTS_MAX => {
            Err(RpcError::invalid_request(format!(
                "the batch has {} requests, at most {BATCH_REQUESTS_MAX} are answered",
                list.len()
            )))
        }
        Value::Array(list) => Ok(Requests::Batch(list.into_iter().map(parse_one).collect())),
        one => Ok(Requests::One(parse_one(one))),
    }
}

fn parse_one(value: Value) -> Result<Request, (Value, RpcError)> {
    let Value::Object(mut fields) = value else {
        return Err((Value::Null, RpcError::invalid_request("a request is a JSON object")));
    };
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(id) if id.is_string() || id.is_i64() || id.is_u64() => Some(id),
        Some(_) => {
            let error = RpcError::invalid_request("id must be a string or an integer");
            return Err((Value::Null, error));
        }
    };
    let known_id = id.clone().unwrap_or(Value::Null);
    if let Some(version) = fields.get("jsonrpc")
        && *version != "2.0"
    {
        return Err((known_id, RpcError::invalid_request("jsonrpc must be \"2.0\"")));
    }
    match fields.remove("method") {
        Some(Value::String(method)) => Ok(Request { id, method, params: fields.remove("params") }),
        _ => Err((known_id, RpcError::invalid_request("method must be a string"))),
    }
}
