//! A served coordinator and its clients. Everything ends with the test's runtime.

use std::net::SocketAddr;
use std::time::Duration;

use coordinator::identity::NodeKey;
use coordinator::{Coordinator, Limits, Mode, Options, Rate};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// No answer takes so long on however busy a machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub at: SocketAddr,
    pub coordinator: Coordinator,
}

/// Limits that tests on one address do not reach by being many.
pub fn roomy() -> Limits {
    let rate = Rate { per_minute: 1_000_000, burst: 1_000_000 };
    Limits { joins: rate, address_opens: rate, address_connections_max: 1_000, ..Limits::default() }
}

pub fn open() -> Options {
    Options { mode: Mode::Open, limits: roomy(), ..Options::new("c") }
}

pub async fn serve(options: Options) -> Server {
    let coordinator = Coordinator::new(options).unwrap();
    let router = coordinator.router().merge(coordinator.nodes_router());
    serve_router(coordinator, router).await
}

pub async fn serve_router(coordinator: Coordinator, router: axum::Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Server { at, coordinator }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn check(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status, json["code"].as_str()), (status, Some(code)), "{json}");
        json
    }
}

impl Server {
    /// One request on a connection of its own.
    pub async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.at);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[split + 4..].to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(&format!("POST {path}"), &[], &body.to_string()).await
    }

    /// As [`Server::post`], with a session.
    pub async fn post_as(&self, session: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {session}");
        self.ask(&format!("POST {path}"), &[("authorization", &bearer)], &body.to_string()).await
    }

    pub async fn join(&self, node: &str, room: &str) -> Value {
        let answer = self.post("/webrtc/join", json!({ "nodeId": node, "room": room })).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    pub async fn poll(&self, query: &str) -> Value {
        let answer = self.get(&format!("/webrtc/signal?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// A session for a key, by `/webrtc/auth`.
    pub async fn sign_in(&self, key: &NodeKey) -> String {
        let proof = proof(key, "");
        let mut body = serde_json::to_value(&proof).unwrap();
        body["nodeId"] = key.node_id().into();
        let answer = self.post("/webrtc/auth", body).await.json();
        answer["session"].as_str().unwrap().to_owned()
    }

    pub async fn socket(&self, query: &str) -> Socket {
        let url = format!("ws://{}/webrtc/signal{query}", self.at);
        Socket(connect_async(url).await.unwrap().0)
    }

    /// A WebSocket that has said hello with these caps, and its welcome.
    pub async fn hello(&self, node: &str, caps: &[&str]) -> (Socket, Value) {
        let mut socket = self.socket("").await;
        socket.say(json!({ "type": "hello", "v": 1, "caps": caps, "nodeId": node })).await;
        let welcome = socket.hear().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (socket, welcome)
    }
}

/// A signed join of the network `standalone`, now.
pub fn proof(key: &NodeKey, room: &str) -> coordinator::identity::JoinProof {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    key.prove_join("standalone", room, now.as_millis() as u64, rand::random())
}

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.0.next());
        next.await.expect("nothing was heard").expect("the connection ended").unwrap()
    }

    pub async fn hear(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("heard {other:?}"),
        }
    }

    /// The number and reason of the close that comes next.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Message::Close(Some(close)) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Message::Text(_) => {}
                other => panic!("heard {other:?}"),
            }
        }
    }

    /// Nothing has come: the answer to a ping is the next that does.
    pub async fn hears_nothing(&mut self) {
        self.say(json!({ "type": "ping" })).await;
        let heard = self.hear().await;
        assert_eq!(heard["type"], "pong", "{heard}");
    }
}
