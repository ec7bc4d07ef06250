//! The accept loop with real sockets on loopback.

use std::{fs, net::Ipv4Addr, sync::Arc, time::Instant};

use axum::routing::{get, post};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::home::pem;

/// A self-signed certificate for 127.0.0.1: certificate PEM, key PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let certificate = params.self_signed(&key).expect("signed");
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
}

struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: TempDir::new().unwrap() };
        files.write(&certificate());
        files
    }

    fn write(&self, (cert, key): &(String, String)) {
        fs::write(self.cert(), cert).expect("ours");
        fs::write(self.key(), key).expect("ours");
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    fn tls(&self) -> Tls {
        Tls::new(read_files(&self.cert(), &self.key()).expect("a good pair"))
    }
}

struct Server {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start(tls: Option<Tls>, app: Router) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let at = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve(listener, tls, app, async {
        let _ = stopped.await;
    }));
    Server { at, stop, ended }
}

fn app() -> Router {
    Router::new()
        .route(
            "/peer",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
        )
        .route("/ca.crt", get(|| async { "authority" }))
        .route("/api/admin/revoke", post(|body: String| async move { body }))
}

async fn plain(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

fn connector(cert_pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(cert_pem.as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A request over TLS to whom `trusted` is the only root.
async fn secure(at: SocketAddr, trusted: &str, request: &str) -> io::Result<String> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::from(at.ip());
    let mut stream = connector(trusted).connect(name, stream).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

const PEER: &str = "GET /peer HTTP/1.1\r\nHost: relay:8443\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn handlers_see_the_peer_with_and_without_tls() {
    let server = start(None, app()).await;
    let answer = plain(server.at, PEER).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\n127.0.0.1:"),
        "{answer}"
    );

    let files = Files::new();
    let server = start(Some(files.tls()), app()).await;
    let trusted = fs::read_to_string(files.cert()).expect("ours");
    let answer = secure(server.at, &trusted, PEER).await.expect("trusted");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\n127.0.0.1:"),
        "{answer}"
    );
    let (stranger, _) = certificate();
    secure(server.at, &stranger, PEER).await.expect_err("another root does not trust it");
}

#[tokio::test]
async fn a_good_new_pair_is_used_at_once_and_a_bad_one_leaves_the_old() {
    let files = Files::new();
    let tls = files.tls();
    let server = start(Some(tls.clone()), app()).await;
    let (old, new) = (fs::read_to_string(files.cert()).expect("ours"), certificate());

    #[track_caller]
    fn refused(result: Result<(), TlsError>) -> TlsError {
        result.expect_err("a bad pair is refused")
    }
    let reload = || tls.reload(&files.cert(), &files.key());
    fs::write(files.key(), &new.1).expect("ours");
    assert!(matches!(refused(reload()), TlsError::Pair(_)), "the key of another certificate");
    fs::write(files.cert(), "nothing").expect("ours");
    assert!(matches!(refused(reload()), TlsError::Pem { need: "certificate", .. }));
    fs::remove_file(files.cert()).expect("ours");
    assert!(matches!(refused(reload()), TlsError::Io { .. }));
    secure(server.at, &old, PEER).await.expect("the old pair is still in use");

    files.write(&new);
    reload().expect("a good pair");
    secure(server.at, &new.0, PEER).await.expect("the new pair is in use");
    secure(server.at, &old, PEER).await.expect_err("the old one is not");
}

#[tokio::test]
async fn plain_http_on_an_https_port_is_sent_on_except_where_trust_begins() {
    let server = start(Some(Files::new().tls()), app()).await;
    let answer = plain(server.at, PEER).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: https://relay:8443/peer\r\n"), "{answer}");
    let no_host = plain(server.at, "GET /peer HTTP/1.0\r\n\r\n").await;
    assert!(no_host.starts_with("HTTP/1.0 400"), "{no_host}");
    let ca = plain(server.at, &PEER.replace("/peer", "/ca.crt")).await;
    assert!(ca.ends_with("\r\n\r\nauthority"), "{ca}");
    let post = "POST /api/admin/revoke HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert!(plain(server.at, post).await.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_disturbs_nobody() {
    let files = Files::new();
    let server = start(Some(files.tls()), app()).await;
    for bytes in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16", b"\x00\xff\xfe", b""] {
        let mut stream = TcpStream::connect(server.at).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        stream.shutdown().await.expect("ours");
        let mut answer = Vec::new();
        // Cut off or told so: both end the connection.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    let trusted = fs::read_to_string(files.cert()).expect("ours");
    secure(server.at, &trusted, PEER).await.expect("the server goes on");
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_end_was_called() {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (said, waits) = (entered.clone(), go_on.clone());
    let app = Router::new().route(
        "/slow",
        get(move || async move {
            said.notify_one();
            waits.notified().await;
            "done"
        }),
    );
    let server = start(None, app).await;
    let slow =
        tokio::spawn(
            async move { plain(server.at, "GET /slow HTTP/1.1\r\nHost: r\r\n\r\n").await },
        );
    entered.notified().await;
    // An idle connection must not hold the end up.
    let idle = TcpStream::connect(server.at).await.expect("it listens");
    server.stop.send(()).expect("it runs");
    while TcpStream::connect(server.at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    let answer = slow.await.expect("no panic");
    assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
    server.ended.await.expect("no panic");
    drop(idle);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let entered = Arc::new(Notify::new());
    let said = entered.clone();
    let app = Router::new().route(
        "/never",
        get(move || async move {
            said.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let server = start(None, app).await;
    let never =
        tokio::spawn(
            async move { plain(server.at, "GET /never HTTP/1.1\r\nHost: r\r\n\r\n").await },
        );
    entered.notified().await;
    let begun = Instant::now();
    server.stop.send(()).expect("it runs");
    server.ended.await.expect("no panic");
    assert!(begun.elapsed() >= DRAIN_MAX, "it had its time");
    assert_eq!(never.await.expect("no panic"), "");
}
