//! Whatever a client of the RPC sends is a request or an error with a name; what is read is what was
//! written, in each of the forms that a parameter has.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

#[path = "../../src/engine"]
mod engine {
    #[allow(dead_code, reason = "the engine uses the rest")]
    mod hex;
    #[allow(dead_code, reason = "the engine uses the rest")]
    pub mod query;

    pub(crate) use hex::hex_decode;
}
#[path = "../../src/rpc"]
mod rpc {
    pub mod envelope;
    #[allow(dead_code, reason = "the methods use the rest")]
    pub mod error;
    pub mod params;

    /// As in the module that these are of.
    pub const BATCH_REQUESTS_MAX: usize = 100;
}

use engine::query::{QUERY_BYTES_MAX, QUERY_CONDITIONS_MAX, Query};
use rpc::envelope::{Request, Requests, envelope, parse};
use rpc::params::Params;

/// Names of every method's parameters.
const NAMES: [&str; 12] = [
    "path", "data", "height", "prove", "hash", "query", "page", "per_page", "order_by", "tx",
    "limit", "chunk",
];

/// A request as a client writes it.
fn written(request: &Request) -> Value {
    let Request { id, method, params } = request;
    let mut fields = Map::new();
    fields.insert("jsonrpc".to_owned(), json!("2.0"));
    fields.insert("method".to_owned(), json!(method));
    id.iter().for_each(|id| drop(fields.insert("id".to_owned(), id.clone())));
    params.iter().for_each(|params| drop(fields.insert("params".to_owned(), params.clone())));
    Value::Object(fields)
}

/// Fractions are read to within a bit of what is written; no method has one.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn is_same(one: &Request, other: &Request) -> bool {
    (&one.id, &one.method) == (&other.id, &other.method)
        && (one.params == other.params || one.params.as_ref().is_some_and(has_fraction))
}

/// Asks for each parameter in each type: a value, or an error that names the parameter.
fn read_all(params: &Params) {
    for name in NAMES {
        let named = |error: rpc::error::RpcError| assert!(error.data.contains(name), "{error:?}");
        params.integer(name).map_or_else(named, drop);
        params.boolean(name).map_or_else(named, drop);
        params.transaction(name).map_or_else(named, drop);
        params.data(name).map_or_else(named, drop);
        match params.hash(name) {
            Ok(hash) => assert_eq!(hash.len(), 32),
            Err(error) => named(error),
        }
        match params.text(name) {
            Ok(text) => subscription(&text),
            Err(error) => named(error),
        }
        if !params.has(name) {
            assert_eq!(params.text(name).as_deref(), Ok(""));
            assert_eq!(params.integer(name), Ok(None));
        }
    }
}

fn body(bytes: &[u8]) {
    let requests = match parse(bytes) {
        Ok(Requests::One(request)) => vec![request],
        Ok(Requests::Batch(requests)) => {
            assert!((1..=rpc::BATCH_REQUESTS_MAX).contains(&requests.len()));
            requests
        }
        Err(error) => {
            assert!(matches!(error.code, -32700 | -32600), "{error:?}");
            return;
        }
    };
    for request in requests {
        let request = match request {
            Ok(request) => request,
            Err((id, error)) => {
                let answer = envelope(id, Err(error));
                assert_eq!(answer["error"]["code"], -32600);
                continue;
            }
        };
        let again = serde_json::to_vec(&written(&request)).expect("JSON is written");
        match parse(&again) {
            Ok(Requests::One(Ok(again))) => assert!(is_same(&again, &request), "{request:?}"),
            other => panic!("{request:?} became {other:?}"),
        }
        if let Ok(params) = Params::from_json(request.params, &NAMES) {
            read_all(&params);
        }
    }
}

/// A query string, its percent signs decoded.
fn uri(text: &str) {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    read_all(&Params::Uri(text.split('&').map(pair).collect()));
}

/// Bytes come out of every form as they went in.
fn forms(bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let of_uri = Params::Uri(vec![("tx".to_owned(), format!("0x{hex}"))]);
    assert_eq!(of_uri.transaction("tx").as_deref(), Ok(bytes));
    assert_eq!(of_uri.data("tx").as_deref(), Ok(bytes));
    let of_json = |value: String| {
        let fields = json!({ "tx": value });
        Params::from_json(Some(fields), &[]).expect("an object")
    };
    assert_eq!(of_json(BASE64.encode(bytes)).transaction("tx").as_deref(), Ok(bytes));
    assert_eq!(of_json(hex.to_uppercase()).data("tx").as_deref(), Ok(bytes));
    assert_eq!(of_json(hex).hash("tx").is_ok(), bytes.len() == 32);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let quoted = Params::Uri(vec![("query".to_owned(), json!(text).to_string())]);
        assert_eq!(quoted.text("query").as_deref(), Ok(text));
        assert_eq!(of_json(text.to_owned()).text("tx").as_deref(), Ok(text));
    }
}

/// What `subscribe` and `tx_search` are asked.
fn subscription(text: &str) {
    let Ok(query) = Query::parse(text) else { return };
    assert!(text.len() <= QUERY_BYTES_MAX);
    assert!((1..=QUERY_CONDITIONS_MAX).contains(&query.conditions.len()));
    let shown = query.to_string();
    if shown.len() <= QUERY_BYTES_MAX {
        assert_eq!(Query::parse(&shown).as_ref(), Ok(&query), "{shown}");
    }
    let attributes = query.conditions.iter().map(|it| (it.key.clone(), "7".to_owned())).collect();
    query.matches(&attributes);
    assert!(!query.matches(&Vec::new()), "nothing matches what nobody said");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let text = std::str::from_utf8(rest);
    match (kind, text) {
        (b'u', Ok(text)) => uri(text),
        (b'q', Ok(text)) => subscription(text),
        (b'f', _) => forms(rest),
        _ => body(bytes),
    }
});
