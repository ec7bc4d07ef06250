//! JSON-RPC 2.0 errors with CometBFT's codes and words.

use serde_json::{Value, json};

/// An `error` member: code, CometBFT's message, and the sentence that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub code: i32,
    pub message: &'static str,
    pub data: String,
}

impl RpcError {
    pub(crate) fn parse(data: impl Into<String>) -> Self {
        RpcError { code: -32700, message: "Parse error. Invalid JSON", data: data.into() }
    }

    pub(crate) fn invalid_request(data: impl Into<String>) -> Self {
        RpcError { code: -32600, message: "Invalid Request", data: data.into() }
    }

    pub(crate) fn method_not_found(data: impl Into<String>) -> Self {
        RpcError { code: -32601, message: "Method not found", data: data.into() }
    }

    pub(crate) fn invalid_params(data: impl Into<String>) -> Self {
        RpcError { code: -32602, message: "Invalid params", data: data.into() }
    }

    pub(crate) fn internal(data: impl Into<String>) -> Self {
        RpcError { code: -32603, message: "Internal error", data: data.into() }
    }

    pub(crate) fn server(data: impl Into<String>) -> Self {
        RpcError { code: -32000, message: "Server error", data: data.into() }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message, "data": self.data })
    }
}
