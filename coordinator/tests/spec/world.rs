//! A coordinator on a port of its own, asked by the real `curl` and over WebSockets.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use coordinator::{Coordinator, Options};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tungstenite::{Message, WebSocket, client::IntoClientRequest, protocol::CloseFrame};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running coordinator; it ends with the test.
pub struct World {
    pub coordinator: Coordinator,
    pub at: SocketAddr,
    _runtime: Runtime,
}

impl World {
    /// Serves a coordinator of these options, with `/nodes`.
    pub fn of(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("two threads");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("ours");
        let at = listener.local_addr().expect("bound");
        let inside = runtime.enter();
        let coordinator = Coordinator::new(options).expect("right options");
        let app = coordinator.router().merge(coordinator.nodes_router());
        let listener = tokio::net::TcpListener::from_std(listener).expect("ours");
        runtime.spawn(async move {
            let app = app.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).await
        });
        drop(inside);
        Self { coordinator, at, _runtime: runtime }
    }

    /// `GET`, by curl.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.curl(path, &[]).answer()
    }

    /// `POST` of a JSON text, by curl.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.curl(path, &["-H", "content-type: application/json", "--data-binary", body]).answer()
    }

    /// As [`World::post`] of what must be done.
    #[track_caller]
    pub fn done(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, &body.to_string());
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// The real curl on its way to `path`.
    pub fn curl(&self, path: &str, more: &[&str]) -> Curl {
        let url = format!("http://{}{path}", self.at);
        let child = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "-w", "\n%{http_code}"])
            .args(more)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Curl(Some(child.expect("curl; install Debian's package `curl`")))
    }

    /// A WebSocket to `/webrtc/signal` with this query.
    #[track_caller]
    pub fn socket(&self, query: &str) -> Socket {
        self.try_socket(query, None).unwrap_or_else(|status| panic!("no upgrade: {status}"))
    }

    /// The code with which a connection with this query is closed: a browser shows a script no other
    /// answer.
    #[track_caller]
    pub fn closed(&self, query: &str) -> u16 {
        let mut socket = self.socket(query);
        loop {
            match socket.event() {
                Event::Message(said) => assert_eq!(said["type"], "error", "{said}"),
                Event::Closed(code, _) => return code,
            }
        }
    }

    /// The same, with a subprotocol perhaps; the status where there is no upgrade.
    pub fn try_socket(&self, query: &str, protocol: Option<&str>) -> Result<Socket, u16> {
        let stream = TcpStream::connect(self.at).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("ours");
        stream.set_nodelay(true).expect("ours");
        let url = format!("ws://{}/webrtc/signal{query}", self.at);
        let mut request = url.into_client_request().expect("a request");
        if let Some(protocol) = protocol {
            let value = protocol.parse().expect("a header's value");
            request.headers_mut().insert("sec-websocket-protocol", value);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(other) => panic!("no handshake: {other}"),
        }
    }
}

/// A curl that runs; ended with the test.
pub struct Curl(Option<Child>);

impl Curl {
    /// Its status and JSON.
    #[track_caller]
    pub fn answer(mut self) -> (u16, Value) {
        let output = self.0.take().expect("asked once").wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("curl writes the status last");
        let json = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.parse().expect("a status"), json)
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client's end of a WebSocket.
pub struct Socket(pub WebSocket<TcpStream>);

impl Socket {
    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("it reads");
    }

    /// The next message.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        match self.event() {
            Event::Message(value) => value,
            Event::Closed(code, reason) => panic!("closed with {code}: {reason}"),
        }
    }

    /// The next message, or the end.
    #[track_caller]
    pub fn event(&mut self) -> Event {
        loop {
            return match self.0.read() {
                Ok(Message::Text(text)) => {
                    Event::Message(serde_json::from_str(&text).expect("JSON"))
                }
                Ok(Message::Close(frame)) => match frame {
                    Some(CloseFrame { code, reason }) => {
                        Event::Closed(code.into(), reason.to_string())
                    }
                    None => Event::Closed(1005, String::new()),
                },
                Ok(_) => continue,
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("silence")
                }
                Err(error) => Event::Closed(1006, error.to_string()),
            };
        }
    }

    /// The next message of this type; those before it are dropped.
    #[track_caller]
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Nothing has come until now: what is queued for this client comes before the pong.
    #[track_caller]
    pub fn is_quiet(&mut self) {
        self.send(r#"{ "type": "ping" }"#);
        assert_eq!(self.next(), json!({"type": "pong"}));
    }

    /// Bytes beside the protocol, as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }
}

/// What a socket brings.
#[derive(Debug)]
pub enum Event {
    Message(Value),
    /// Code and reason; 1006: without a close frame.
    Closed(u16, String),
}

/// `seen` has exactly the keys and types of `sample`, at every depth. An empty object stands for any
/// object, the elements of an array for the first one of the sample's.
#[track_caller]
pub fn same_shape(seen: &Value, sample: &Value) {
    if let Err(fault) = compare(seen, sample, "") {
        panic!("{fault}\nseen   {seen}\nsample {sample}");
    }
}

fn compare(seen: &Value, sample: &Value, at: &str) -> Result<(), String> {
    match (seen, sample) {
        (Value::Object(_), Value::Object(any)) if any.is_empty() => Ok(()),
        (Value::Object(seen), Value::Object(sample)) => {
            let (seen, sample): (BTreeMap<_, _>, BTreeMap<_, _>) =
                (seen.iter().collect(), sample.iter().collect());
            if !seen.keys().eq(sample.keys()) {
                let (seen, sample) = (seen.keys(), sample.keys());
                return Err(format!("{at}: keys {seen:?}, expected {sample:?}"));
            }
            seen.iter()
                .try_for_each(|(key, value)| compare(value, sample[key], &format!("{at}.{key}")))
        }
        (Value::Array(seen), Value::Array(sample)) => match sample.first() {
            None => Ok(()),
            Some(one) => seen
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| compare(value, one, &format!("{at}[{index}]"))),
        },
        (Value::Null, Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::String(_), Value::String(_)) => Ok(()),
        (Value::Number(seen), Value::Number(sample)) if seen.is_u64() == sample.is_u64() => Ok(()),
        _ => Err(format!("{at}: {seen} is of another type than {sample}")),
    }
}

/// A JSON text of the specification.
#[track_caller]
pub fn sample(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Unix ms.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("64 bits hold it")
}

/// Differs at every call.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
