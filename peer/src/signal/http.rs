//! HTTP/1.1 requests to one coordinator, over a connection that is kept.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest answer that is read. A longer one is an error.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A byte stream, plain or over TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not `http://` or `https://` with a host.
    #[error("`{0}` is no URL of the form http://host:port")]
    Url(String),
    /// Name, address, port or certificate.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system says.
        why: String,
    },
    /// No answer in time.
    #[error("{host} does not answer within {} s", within.as_secs())]
    Silent {
        /// Host and port.
        host: String,
        /// How long we waited.
        within: Duration,
    },
    /// It broke off.
    #[error("{host} broke off: {why}")]
    Broken {
        /// Host and port.
        host: String,
        /// What hyper says.
        why: String,
    },
    /// It is not what was asked for.
    #[error("the answer of {url} is not what a coordinator says: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What serde says.
        why: String,
    },
}

/// Host, port and whether TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl Origin {
    /// Of `http:`, `https:`, `ws:` or `wss:`; with the path and query.
    pub(super) fn of(url: &str) -> Result<(Self, String), HttpError> {
        let error = || HttpError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| error())?;
        let is_tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(_) | None => return Err(error()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(error)?.to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok((Self { host, port, is_tls }, path))
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, HttpError> {
        let unreachable = |why: String| HttpError::Unreachable { host: self.authority(), why };
        let silent = |_| HttpError::Silent { host: self.authority(), within: CONNECT_WITHIN };
        // The brackets of an IPv6 address are the URL's.
        let host = self.host.trim_matches(['[', ']']);
        let tcp = timeout(CONNECT_WITHIN, TcpStream::connect((host, self.port)));
        let tcp = tcp.await.map_err(silent)?.map_err(|error| unreachable(error.to_string()))?;
        // Signals are small and somebody waits for each.
        tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        if !self.is_tls {
            return Ok(Box::new(tcp));
        }
        let name = rustls::pki_types::ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| unreachable(error.to_string()))?;
        let tls = timeout(CONNECT_WITHIN, tls_connector()?.connect(name, tcp));
        let tls = tls.await.map_err(silent)?.map_err(|error| unreachable(error.to_string()))?;
        Ok(Box::new(tls))
    }
}

fn tls_connector() -> Result<TlsConnector, HttpError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of TLS 1.2 and 1.3");
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// An answer, unread.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    url: String,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| HttpError::Answer { url: self.url.clone(), why: error.to_string() })
    }
}

/// A client that keeps its connection between requests.
pub(super) struct HttpClient {
    base: String,
    origin: Origin,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    /// `base` is what every path is appended to, as `http://host/webrtc`.
    pub(super) fn new(base: &str) -> Result<Self, HttpError> {
        let (origin, _) = Origin::of(base)?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), origin, sender: None })
    }

    pub(super) async fn get(
        &mut self,
        path: &str,
        bearer: Option<&str>,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        self.request(Method::GET, path, bearer, Bytes::new(), within).await
    }

    pub(super) async fn post(
        &mut self,
        path: &str,
        bearer: Option<&str>,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        let body = serde_json::to_vec(body).expect("what we say has text keys only");
        self.request(Method::POST, path, bearer, body.into(), within).await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        let url = format!("{}{path}", self.base);
        let (_, target) = Origin::of(&url)?;
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, self.origin.authority())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = request.body(Full::new(body)).map_err(|_| HttpError::Url(url.clone()))?;
        let host = self.origin.authority();
        let mut sender = self.sender().await?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>((status, body))
        };
        let (status, body) = match timeout(within, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(HttpError::Broken { host, why }),
            Err(_) => return Err(HttpError::Silent { host, within }),
        };
        // Only after a whole exchange is the connection fit for the next.
        self.sender = Some(sender);
        Ok(Answer { status, body, url })
    }

    /// The kept connection where it is still open, else a new one. A server may close a kept one just
    /// as we use it; the caller's backoff covers that.
    async fn sender(&mut self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let io = TokioIo::new(self.origin.connect().await?);
        let broken = |error: hyper::Error| HttpError::Broken {
            host: self.origin.authority(),
            why: error.to_string(),
        };
        let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
        // Ends by itself when `sender` is dropped; its error reaches the request that waits.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// `text` as one part of a query (RFC 3986 §2.1).
pub(super) fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, want: Option<(&str, u16, bool, &str)>) {
        let got = Origin::of(url).ok();
        let want = want.map(|(host, port, is_tls, path)| {
            (Origin { host: host.to_owned(), port, is_tls }, path.to_owned())
        });
        assert_eq!(got, want, "{url}");
    }

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        check("http://127.0.0.1:8080", Some(("127.0.0.1", 8080, false, "/")));
        check("https://example.org/webrtc?a=b", Some(("example.org", 443, true, "/webrtc?a=b")));
        check("ws://[::1]/x", Some(("[::1]", 80, false, "/x")));
        check("example.org", None);
        check("ftp://example.org", None);
        check("http://", None);
        check("", None);
    }

    #[test]
    fn what_is_no_plain_letter_is_escaped() {
        assert_eq!(percent("p:a b&c=ü-~"), "p%3Aa%20b%26c%3D%C3%BC-~");
    }
}
