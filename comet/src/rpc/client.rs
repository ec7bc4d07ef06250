//! JSON-RPC 2.0 by POST, as CometBFT answers it.

use std::{
    fmt, io,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use super::{
    error::RpcError,
    url::{RpcUrl, UrlError},
};

/// An answer longer than this is not read on.
pub const BODY_BYTES_MAX: u64 = 32 << 20;
/// A call that takes longer has failed; a query of CometBFT itself gives up after 10 s.
const CALL_WAIT: Duration = Duration::from_secs(10);
/// Nobody there after so long.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Connections that wait for the next call; more are closed after use.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// CometBFT closes one that is idle for longer than its read timeout of 10 s.
const IDLE_AGE_MAX: Duration = Duration::from_secs(8);
/// So much of a stranger's words is repeated.
const QUOTE_CHARS_MAX: usize = 120;

/// One endpoint. A clone shares its connections.
#[derive(Clone)]
pub struct Client {
    url: Arc<RpcUrl>,
    name: Arc<str>,
    agent: Agent,
    next_id: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    id: Option<Value>,
    result: Option<T>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

impl Client {
    /// Calls an endpoint; nothing is connected to yet.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self::at(url.parse()?))
    }

    /// Calls an endpoint whose address is known to be one.
    pub fn at(url: RpcUrl) -> Self {
        Self::with_timeout(url, CALL_WAIT)
    }

    /// As [`Client::at`], where a call may take `wait`.
    pub fn with_timeout(url: RpcUrl, wait: Duration) -> Self {
        // Mozilla's roots from the binary: the same verdict on every machine, and none needs a
        // certificate store. Whoever runs an authority of their own can speak HTTP on a private
        // network: what matters is verified by signatures of the chain's validators anyway.
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::WebPki)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // An error of CometBFT comes with status 500, and its words in the body.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Nothing ambient: no proxy from the environment.
            .proxy(None)
            .timeout_global(Some(wait))
            .timeout_connect(Some(CONNECT_WAIT))
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .max_idle_age(IDLE_AGE_MAX)
            .user_agent("sutantra")
            .build();
        let name = url.to_string().into();
        Self { url: Arc::new(url), name, agent: config.new_agent(), next_id: Arc::default() }
    }

    /// Its address.
    pub fn url(&self) -> &RpcUrl {
        &self.url
    }

    /// Its address as text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls a method.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = request(id, method, params);
        let (status, body) = self.post(method, request.to_string())?;
        let envelope: Envelope<T> = match serde_json::from_slice(&body) {
            Ok(envelope) => envelope,
            Err(error) => return Err(self.unreadable(method, status, &body, &error)),
        };
        if envelope.error.is_none() && envelope.id.as_ref().and_then(Value::as_u64) != Some(id) {
            return Err(self.malformed(method, "the answer is to another question"));
        }
        self.open(method, envelope)
    }

    /// Calls a method several times in one request; answers in the same order.
    ///
    /// # Errors
    /// [`RpcError`], where there is no answer at all.
    pub(super) fn call_batch<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Result<T, RpcError>>, RpcError> {
        let mut requests = Vec::new();
        for params in params {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            requests.push((id, request(id, method, params)));
        }
        let text = Value::Array(requests.iter().map(|(_, request)| request.clone()).collect());
        let (status, body) = self.post(method, text.to_string())?;
        let envelopes: Vec<Envelope<T>> = match serde_json::from_slice(&body) {
            Ok(envelopes) => envelopes,
            // A refusal of the batch as a whole is one object.
            Err(error) => {
                return Err(match serde_json::from_slice::<Envelope<Value>>(&body) {
                    Ok(Envelope { error: Some(error), .. }) => self.refused(method, error),
                    _ => self.unreadable(method, status, &body, &error),
                });
            }
        };
        let mut by_id: std::collections::BTreeMap<u64, Envelope<T>> = envelopes
            .into_iter()
            .filter_map(|envelope| Some((envelope.id.as_ref()?.as_u64()?, envelope)))
            .collect();
        let answer = |(id, _): &(u64, Value)| match by_id.remove(id) {
            Some(envelope) => self.open(method, envelope),
            None => Err(self.malformed(method, "one call of a batch has no answer")),
        };
        Ok(requests.iter().map(answer).collect())
    }

    fn open<T>(&self, method: &str, envelope: Envelope<T>) -> Result<T, RpcError> {
        match envelope {
            Envelope { error: Some(error), .. } => Err(self.refused(method, error)),
            Envelope { result: Some(result), .. } => Ok(result),
            _ => Err(self.malformed(method, "neither a result nor an error")),
        }
    }

    fn post(&self, method: &str, body: String) -> Result<(u16, Vec<u8>), RpcError> {
        match self.post_once(&body) {
            // The node may have closed a connection that waited for this call; calls of this RPC
            // can be repeated, and a new connection is made for the second.
            Err(ureq::Error::Io(error)) if is_stale(&error) => self.post_once(&body),
            done => done,
        }
        .map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(limit_bytes) => RpcError::TooLarge {
                url: self.name.to_string(),
                method: method.to_owned(),
                limit_bytes,
            },
            ureq::Error::Protocol(error) => self.malformed(method, error),
            error => self.unreachable(method, error),
        })
    }

    fn post_once(&self, body: &str) -> Result<(u16, Vec<u8>), ureq::Error> {
        let mut response = self
            .agent
            .post(self.url.http())
            .header("content-type", "application/json")
            .send(body.as_bytes())?;
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec()?;
        Ok((response.status().as_u16(), body))
    }

    fn unreadable(
        &self,
        method: &str,
        status: u16,
        body: &[u8],
        error: &serde_json::Error,
    ) -> RpcError {
        let text = String::from_utf8_lossy(body);
        let quote: String = text.trim().chars().take(QUOTE_CHARS_MAX).collect();
        match status {
            200 if quote.is_empty() => self.malformed(method, "an empty answer"),
            200 => self.malformed(method, format_args!("{error}, in {quote:?}")),
            // A proxy's word for a node that is gone, or asked too much.
            429 | 500.. => self.unreachable(method, format_args!("HTTP {status}, {quote:?}")),
            _ => self.malformed(method, format_args!("HTTP {status}, {quote:?}")),
        }
    }

    fn unreachable(&self, method: &str, reason: impl fmt::Display) -> RpcError {
        let (url, method) = (self.name.to_string(), method.to_owned());
        RpcError::Unreachable { url, method, reason: reason.to_string() }
    }

    pub(super) fn malformed(&self, method: &str, reason: impl fmt::Display) -> RpcError {
        let (url, method) = (self.name.to_string(), method.to_owned());
        RpcError::Malformed { url, method, reason: reason.to_string() }
    }

    fn refused(&self, method: &str, error: ErrorObject) -> RpcError {
        let message = match error.data {
            Value::String(data) if !data.is_empty() => format!("{}: {data}", error.message),
            _ => error.message,
        };
        let (url, method) = (self.name.to_string(), method.to_owned());
        RpcError::Refused { url, method, code: error.code, message }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.name).finish()
    }
}

fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn is_stale(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}
