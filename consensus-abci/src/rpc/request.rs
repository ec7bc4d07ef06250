//! From the bytes of a body to its answer, one request or a batch of them.

use serde_json::Value;

use super::envelope::{Request, Requests, envelope, parse};
use super::error::RpcError;
use super::methods::{Methods, parameter_names};
use super::params::Params;

/// Answers one request; `None` for a notification, which is not executed, as CometBFT does.
pub(crate) async fn answer_one(
    methods: &Methods,
    request: Result<Request, (Value, RpcError)>,
) -> Option<Value> {
    let request = match request {
        Ok(request) => request,
        Err((id, error)) => return Some(envelope(id, Err(error))),
    };
    let id = request.id?;
    let params =
        parameter_names(&request.method).and_then(|names| Params::from_json(request.params, names));
    let answer = match params {
        Ok(params) => methods.call(&request.method, params).await,
        Err(error) => Err(error),
    };
    Some(envelope(id, answer))
}

/// Answers a body; a batch in order, one after another.
pub(crate) async fn answer_body(methods: &Methods, body: &[u8]) -> Result<Option<Value>, RpcError> {
    match parse(body)? {
        Requests::One(request) => Ok(answer_one(methods, request).await),
        Requests::Batch(requests) => {
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.extend(answer_one(methods, request).await);
            }
            Ok((!answers.is_empty()).then_some(Value::Array(answers)))
        }
    }
}
