//! Parameters of a call, from a URI or from JSON, read into the types that methods ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::error::RpcError;
use crate::engine::hex_decode;

/// Parameters by name, as they came.
#[derive(Debug, Clone)]
pub(crate) enum Params {
    /// `?name=value`: strings in double quotes, bytes as 0x-hex or as a quoted string.
    Uri(Vec<(String, String)>),
    /// A JSON-RPC `params` object: bytes in base64, hashes and query data in hex.
    Json(Map<String, Value>),
}

enum Raw<'a> {
    Uri(&'a str),
    Json(&'a Value),
}

impl Params {
    /// JSON-RPC `params`: an object, a list in the order of `names`, or nothing.
    pub(crate) fn from_json(params: Option<Value>, names: &[&str]) -> Result<Self, RpcError> {
        match params {
            None | Some(Value::Null) => Ok(Params::Json(Map::new())),
            Some(Value::Object(map)) => Ok(Params::Json(map)),
            Some(Value::Array(list)) if list.len() <= names.len() => {
                let named = names.iter().map(|name| (*name).to_owned()).zip(list);
                Ok(Params::Json(named.collect()))
            }
            Some(Value::Array(list)) => Err(RpcError::invalid_params(format!(
                "expected {} parameters ({}), got {}",
                names.len(),
                names.join(", "),
                list.len()
            ))),
            Some(_) => Err(RpcError::invalid_params("params must be an object or a list")),
        }
    }

    fn raw(&self, name: &str) -> Option<Raw<'_>> {
        match self {
            Params::Uri(pairs) => {
                let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
                (!value.is_empty()).then_some(Raw::Uri(value))
            }
            Params::Json(map) => match map.get(name)? {
                Value::Null => None,
                value => Some(Raw::Json(value)),
            },
        }
    }

    /// Whether it was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// An integer: plain, quoted, or a decimal string.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, RpcError> {
        let parsed = match self.raw(name) {
            None => return Ok(None),
            Some(Raw::Json(Value::String(text))) if text.is_empty() => return Ok(None),
            Some(Raw::Uri(text)) => unquoted(text).parse().ok(),
            Some(Raw::Json(Value::String(text))) => text.parse().ok(),
            Some(Raw::Json(value)) => value.as_i64(),
        };
        parsed.map(Some).ok_or_else(|| wrong(name, "an integer"))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<bool, RpcError> {
        let text = match self.raw(name) {
            None => return Ok(false),
            Some(Raw::Json(Value::Bool(value))) => return Ok(*value),
            Some(Raw::Json(Value::String(text))) => text.as_str(),
            Some(Raw::Uri(text)) => unquoted(text),
            Some(Raw::Json(_)) => "",
        };
        text.parse().map_err(|_| wrong(name, "true or false"))
    }

    /// Text; empty when it is missing.
    pub(crate) fn text(&self, name: &str) -> Result<String, RpcError> {
        match self.raw(name) {
            None => Ok(String::new()),
            Some(Raw::Json(Value::String(text))) => Ok(text.clone()),
            Some(Raw::Json(_)) => Err(wrong(name, "a string")),
            Some(Raw::Uri(text)) => match (quoted(text), zero_x(text)) {
                (Some(inner), _) => inner.map_err(|()| wrong(name, "a string in double quotes")),
                (None, Some(hex)) => hex
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| wrong(name, "a string")),
                (None, None) => Ok(text.to_owned()),
            },
        }
    }

    /// A transaction: base64 in JSON, 0x-hex or a quoted string in a URI.
    pub(crate) fn transaction(&self, name: &str) -> Result<Vec<u8>, RpcError> {
        match self.raw(name) {
            None => Err(RpcError::invalid_params(format!("{name} is missing"))),
            Some(Raw::Json(Value::String(text))) => {
                BASE64.decode(text).map_err(|_| wrong(name, "base64"))
            }
            Some(Raw::Json(_)) => Err(wrong(name, "base64")),
            Some(Raw::Uri(text)) => uri_bytes(text)
                .ok_or_else(|| wrong(name, "0x and hex digits, or a string in double quotes")),
        }
    }

    /// Query data: hex in JSON, 0x-hex or a quoted string in a URI; empty when it is missing.
    pub(crate) fn data(&self, name: &str) -> Result<Vec<u8>, RpcError> {
        let bytes = match self.raw(name) {
            None => return Ok(Vec::new()),
            Some(Raw::Json(Value::String(text))) => {
                zero_x(text).unwrap_or_else(|| hex_decode(text))
            }
            Some(Raw::Json(_)) => None,
            Some(Raw::Uri(text)) => uri_bytes(text).or_else(|| hex_decode(text)),
        };
        bytes.ok_or_else(|| wrong(name, "hex digits"))
    }

    /// A 32-byte hash: hex of either case, with or without 0x, or base64 in JSON.
    pub(crate) fn hash(&self, name: &str) -> Result<Vec<u8>, RpcError> {
        let bytes = match self.raw(name) {
            None => return Err(RpcError::invalid_params(format!("{name} is missing"))),
            Some(Raw::Json(Value::String(text))) => zero_x(text)
                .unwrap_or_else(|| hex_decode(text).filter(|bytes| bytes.len() == 32))
                .or_else(|| BASE64.decode(text).ok()),
            Some(Raw::Json(_)) => None,
            Some(Raw::Uri(text)) => zero_x(text).unwrap_or_else(|| hex_decode(unquoted(text))),
        };
        let hash = bytes.filter(|bytes| bytes.len() == 32);
        hash.ok_or_else(|| wrong(name, "a 32-byte hash in hex"))
    }
}

fn wrong(name: &str, needs: &str) -> RpcError {
    RpcError::invalid_params(format!("{name} needs {needs}"))
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A JSON string in a URI, if it looks like one.
fn quoted(text: &str) -> Option<Result<String, ()>> {
    text.starts_with('"').then(|| serde_json::from_str(text).map_err(|_| ()))
}

/// Bytes of 0x-hex, if it looks like that.
fn zero_x(text: &str) -> Option<Option<Vec<u8>>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    Some(hex_decode(digits))
}

fn uri_bytes(text: &str) -> Option<Vec<u8>> {
    match (zero_x(text), quoted(text)) {
        (Some(bytes), _) => bytes,
        (None, Some(Ok(inner))) => Some(inner.into_bytes()),
        (None, _) => None,
    }
}
