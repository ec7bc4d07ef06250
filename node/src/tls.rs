//! The accept loop: plain HTTP or HTTPS on one listener, with an end that lets requests finish.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// TCP connections at once; the next one waits in the kernel's backlog until one ends. A peer of the
/// coordinator that polls holds one; one whose connection became a WebSocket holds none.
pub const CONNECTIONS_MAX: usize = 8192;
/// A peer that has not finished its TLS handshake by then is cut off.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A peer that has not sent the whole header of its (next) request by then is cut off.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(30);
/// A peer that sends nothing, or takes nothing of what it is sent, for this long is cut off.
pub const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Open HTTP/2 streams of one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Requests that are under way when the node stops get this long.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Wait after a failed accept (no file descriptor left): trying again at once would burn a core.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Not PEM, or not with what is needed.
    #[error("{}: no {need} in PEM form", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        need: &'static str,
    },
    /// The key cannot be used, or belongs to another certificate.
    #[error("certificate and key do not work together: {0}")]
    Pair(rustls::Error),
}

/// A certificate with its key, ready to serve.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Pair)
}

/// Reads a chain and a key from PEM files.
pub fn read_files(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::Io { path: path.to_owned(), error })
    };
    let no = |path: &Path, need| TlsError::Pem { path: path.to_owned(), need };
    let chain = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| no(cert, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| no(key, "private key"))?;
    certified_key(chain, key)
}

/// HTTPS whose certificate can be exchanged while it serves; clones share it.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Reloadable>,
}

/// Gives every handshake the newest certificate.
#[derive(Debug)]
struct Reloadable(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Reloadable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// TLS 1.2 and 1.3 with this certificate; HTTP/2 is offered first.
    pub fn new(key: CertifiedKey) -> Self {
        let current = Arc::new(Reloadable(RwLock::new(Arc::new(key))));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { config: Arc::new(config), current }
    }

    /// From now on new connections get this certificate; open ones go on.
    pub fn replace(&self, key: CertifiedKey) {
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// Reads the files again; if they are no good the old certificate stays.
    pub fn reload(&self, cert: &Path, key: &Path) -> Result<(), TlsError> {
        read_files(cert, key).map(|key| self.replace(key))
    }
}

/// Serves `app` until `shutdown` is done, then lets requests under way finish for [`DRAIN_MAX`].
///
/// Handlers find the peer as [`ConnectInfo<SocketAddr>`]. With TLS the port also answers plain
/// HTTP: by sending the browser to `https:`, except for the authority's certificate, which nobody
/// trusts yet, and for revocations, which are signed, no secret, and must reach a node whose
/// certificate the operator's shell does not trust.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: Router,
    shutdown: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (closing, _) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            if room.available_permits() == 0 {
                tracing::warn!(CONNECTIONS_MAX, "no room for another HTTP connection");
            }
            let permit = room.clone().acquire_owned().await.expect("never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (tls, app, mut closing) = (tls.clone(), app.clone(), closing.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, peer, tls, app, closing.clone()) => {}
                        // Whoever does not finish in time is dropped with its task.
                        () = async { let _ = closing.changed().await; tokio::time::sleep(DRAIN_MAX).await } => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                drop(permit);
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let _ = closing.send(());
    let all = u32::try_from(CONNECTIONS_MAX).expect("a small constant");
    let _ = room.acquire_many(all).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    app: Router,
    closing: watch::Receiver<()>,
) {
    // Answers are small: waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return exchange(TokioIo::new(patient(stream)), peer, app, false, closing).await;
    };
    let mut first = [0];
    match timeout(HANDSHAKE_MAX, stream.peek(&mut first)).await {
        // A TLS record of the handshake (RFC 8446 §5.1); no HTTP method begins with that byte.
        Ok(Ok(1)) if first[0] == 0x16 => {}
        Ok(Ok(1)) => {
            return exchange(TokioIo::new(patient(stream)), peer, app, true, closing).await;
        }
        Ok(Ok(_) | Err(_)) | Err(_) => return,
    }
    match timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls.config).accept(patient(stream))).await {
        Ok(Ok(stream)) => exchange(TokioIo::new(stream), peer, app, false, closing).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

/// Cuts a peer off that is silent, or does not read, for [`SILENCE_MAX`]: nobody holds a place among
/// [`CONNECTIONS_MAX`] for nothing. No answer of ours takes that long to begin.
fn patient(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(SILENCE_MAX));
    stream.set_write_timeout(Some(SILENCE_MAX));
    Box::pin(stream)
}

/// Requests and answers of one connection.
async fn exchange<S>(
    io: TokioIo<S>,
    peer: SocketAddr,
    app: Router,
    to_https: bool,
    mut closing: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let app = app.clone();
        async move {
            let public = matches!(
                (request.method(), request.uri().path()),
                (&Method::GET, "/ca.crt") | (&Method::POST, "/api/admin/revoke")
            );
            if to_https && !public {
                return Ok::<Response, Infallible>(redirect(&request));
            }
            app.oneshot(request).await
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(Some(HEADER_READ_MAX));
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
    tokio::select! {
        // A peer that hangs up in the middle is its own affair.
        _ = connection.as_mut() => return,
        _ = closing.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The same address under `https:`.
fn redirect(request: &Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let path = request.uri().path_and_query().cloned();
    let location = authority.zip(path).and_then(|(authority, path)| {
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path);
        HeaderValue::from_str(&uri.build().ok()?.to_string()).ok()
    });
    match location {
        Some(to) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to)]).into_response(),
        None => (StatusCode::BAD_REQUEST, "This port speaks HTTPS.\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
