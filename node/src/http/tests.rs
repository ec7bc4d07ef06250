//! The HTTP face over a real relay on loopback sockets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread::JoinHandle,
    time::{Duration, UNIX_EPOCH},
};

use axum::http::Method;
use chain_types::AccountId;
use serde_json::Value;
use sfu::{
    Relay, RelayConfig, Started,
    io::{Endpoint, LinkKind},
};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::{admission::Open, demo::Demo, metrics::BuildInfo, relay_control::ByAdmission};

mod any_request;
mod peer;
mod routes;
mod sessions;

use peer::Peer;

/// A node without a listener.
struct Node {
    router: Router,
    control: Arc<Control>,
    demo: Option<Demo>,
    deciding: Option<JoinHandle<()>>,
    _home: TempDir,
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    Tokens,
}

impl Node {
    fn start(door: Door) -> Self {
        Self::start_with(door, |_| {})
    }

    fn start_with(door: Door, change: impl FnOnce(&mut About)) -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let Started { relay, events, gates, .. } = Relay::start(RelayConfig {
            shards: 1,
            link: LinkKind::Epoll,
            endpoints: vec![Endpoint { bind: local, advertise: local }],
            pin: false,
            gather: Duration::ZERO,
            runs: sfu::Runs::default(),
            certificate: sfu::generate_certificate().expect("randomness"),
            sessions_max: 100,
            side_channel: None,
            usage: false,
        })
        .expect("a free port on loopback");
        let mut about = About {
            version: "1.2.3",
            link: "epoll".to_owned(),
            shards: 1,
            udp_port: relay.endpoints()[0].advertise.port(),
            started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            open: door == Door::Open,
            loopback: true,
            ca_pem: None,
        };
        change(&mut about);
        let build =
            BuildInfo { version: "1.2.3", link: "epoll".to_owned(), started: about.started };
        let metrics = Arc::new(Metrics::new(&build));
        let relay = Arc::new(relay);
        let (control, inputs) =
            Control::new(relay, events, gates, Box::new(ByAdmission), Arc::clone(&metrics), None);
        let home = TempDir::new().unwrap();
        let issuer = SigningKey::from_bytes(&[7; 32]);
        let trusted = vec![AccountId::from(&issuer)];
        let grants = Arc::new(Grants::open(home.path(), trusted).expect("an empty home"));
        let access = match door {
            Door::Open => Access { admission: Arc::new(Open), grants: None, issuer },
            Door::Tokens => Access { admission: grants.clone(), grants: Some(grants), issuer },
        };
        let router = router(Arc::clone(&control), access, metrics, about, None);
        let deciding = std::thread::spawn({
            let control = Arc::clone(&control);
            move || control.run(inputs)
        });
        Self { router, control, demo: None, deciding: Some(deciding), _home: home }
    }

    fn with_demo(mut self) -> Self {
        self.demo = Some(Demo::start(Arc::clone(&self.control)).expect("the name is free"));
        self
    }

    async fn send(&self, request: Request) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], "")).await
    }

    async fn post_sdp(&self, path: &str, headers: &[(&str, &str)], offer: &str) -> Answer {
        let sdp = [("content-type", "application/sdp")];
        self.send(request(Method::POST, path, &[&sdp, headers].concat(), offer)).await
    }

    /// A peer whose offer was answered, and the session's URL.
    async fn join(&self, path: &str, headers: &[(&str, &str)], mut peer: Peer) -> (Peer, String) {
        let answer = self.post_sdp(path, headers, &peer.offer).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        peer.answer(answer.text());
        (peer, answer.header("location").to_owned())
    }

    async fn wait(&self, what: &str, peers: &mut [&mut Peer], done: impl Fn(&[&mut Peer]) -> bool) {
        // A deadline of the test, not a time that anything is asked to keep.
        let give_up = std::time::Instant::now() + Duration::from_secs(60);
        while !done(peers) {
            assert!(std::time::Instant::now() < give_up, "waited a minute for: {what}");
            peers.iter_mut().for_each(|peer| peer.poll());
            tokio::task::yield_now().await;
        }
    }

    async fn viewers(&self, stream: &str) -> Value {
        self.get(&format!("/api/streams/{stream}")).await.json()["viewers"].clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.demo = None;
        self.control.drain();
        if let Some(deciding) = self.deciding.take() {
            // The events' channel ends with the relay's last shard.
            deciding.join().expect("the deciding thread does not panic");
        }
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}"));
        value.to_str().expect("text")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Status and `error`, with the promise that there is a message.
    #[track_caller]
    fn problem(&self) -> (u16, String) {
        let body = self.json();
        let message = body["message"].as_str().expect("a message");
        assert!(message.ends_with('.') && message.len() > 20, "{message:?} says what to do next");
        (self.status, body["error"].as_str().expect("a code").to_owned())
    }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).expect("a valid request")
}
