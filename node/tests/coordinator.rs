//! The coordinator inside the node: where it is served and where not, under which name, for whom.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    command.env_clear().env("HOME", home).args(words.split_whitespace());
    command
}

#[track_caller]
fn run(home: &Path, words: &str) -> String {
    let output = command(home, words).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A node that serves; it ends with the test.
struct Node {
    child: Child,
    screen: String,
}

impl Node {
    #[track_caller]
    fn start(home: &Path, words: &str) -> Self {
        let words = format!("{words} --http 127.0.0.1:0");
        let mut child =
            command(home, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut screen = String::new();
        while !screen.contains("Ctrl-C") {
            if lines.read_line(&mut screen).unwrap() == 0 {
                let mut said = String::new();
                let _ = log.read_to_string(&mut said);
                panic!("{words}: no screen: {screen}\n{said}");
            }
        }
        // A full pipe would stop it.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, screen }
    }

    /// `127.0.0.1:port`
    fn at(&self) -> &str {
        let (_, after) = self.screen.split_once("://").unwrap();
        after.split(['/', '\n']).next().unwrap()
    }

    #[track_caller]
    fn get(&self, path: &str) -> (u16, Value) {
        self.ask(&format!("GET {path} HTTP/1.1\r\n"), "")
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        self.ask(&head, &body)
    }

    #[track_caller]
    fn ask(&self, head: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.at()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let rest = format!("Host: {}\r\nConnection: close\r\n\r\n{body}", self.at());
        stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(json!(body)))
    }

    /// A WebSocket and the answer's head; `more`: headers.
    #[track_caller]
    fn upgrade(&self, query: &str, more: &str) -> (TcpStream, String) {
        let mut socket = TcpStream::connect(self.at()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let upgrade = format!(
            "GET /webrtc/signal{query} HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            self.at()
        );
        socket.write_all(upgrade.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (socket, String::from_utf8(head).unwrap())
    }

    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port's media, on this machine alone.
const DEV: &str = "dev --udp-port 0 --media-ip 127.0.0.1 --shards 1 --no-demo";

/// R53, R55, R82
#[test]
fn dev_serves_the_coordinator_and_without_webrtc_says_that_there_is_none() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), &format!("{DEV} --chain=false"));
    let (status, nodes) = node.get("/nodes");
    assert_eq!(status, 200, "{nodes}");
    let id = nodes["nodeId"].as_str().unwrap().to_owned();
    assert!(id.starts_with("sn1") && id.len() == 35, "{id}");
    assert!(node.screen.contains(&id), "the screen names it: {}", node.screen);
    assert_eq!(nodes["webrtc"]["coordinatorUrl"], format!("http://{}/webrtc", node.at()));
    assert_eq!(nodes["networkId"], "standalone");
    let (status, info) = node.get("/webrtc/info");
    assert_eq!((status, &info["nodeId"], &info["enabled"]), (200, &json!(id), &json!(true)));
    // Mode open: a name is enough.
    let join = json!({"nodeId": "abc", "room": "global", "metadata": {}});
    assert_eq!(node.post("/webrtc/join", &join).0, 200);
    assert_eq!(node.get("/webrtc/none").0, 404);
    // The relay beside it goes on as before.
    assert_eq!(node.get("/api/streams").0, 200);
    let (_, metrics) = node.get("/metrics");
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("\nsutantra_coordinator_peers 1\n"), "{metrics}");
    let key = fs::metadata(home.path().join(".local/share/sutantra/keys/coordinator.key")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&key) & 0o777, 0o600);
    assert_eq!(node.end(), Some(0));

    let node = Node::start(home.path(), &format!("{DEV} --chain=false --no-webrtc"));
    let (status, nodes) = node.get("/nodes");
    assert_eq!((status, &nodes["webrtc"]), (200, &json!({"enabled": false})));
    assert_eq!(nodes["nodeId"], json!(id), "the same node as before");
    assert_eq!(node.get("/webrtc/info").0, 404);
    assert_eq!(node.post("/webrtc/join", &join).0, 404);
}

/// R53
#[test]
fn start_serves_nothing_of_it_without_server_and_in_mode_signed_with_it() {
    let home = TempDir::new().unwrap();
    let start = "start --role relay --chain=false --udp-port 0 --media-ip 127.0.0.1 --shards 1";
    let node = Node::start(home.path(), start);
    for path in ["/nodes", "/webrtc/info", "/webrtc/health"] {
        assert_eq!(node.get(path).0, 404, "{path}");
    }
    let join = json!({"nodeId": "abc", "room": "global", "metadata": {}});
    assert_eq!(node.post("/webrtc/join", &join).0, 404);
    assert_eq!(node.end(), Some(0));
    let node = Node::start(home.path(), &format!("{start} --server"));
    let (status, answer) = node.post("/webrtc/join", &join);
    assert_eq!((status, &answer["code"]), (401, &json!("unauthenticated")), "{answer}");
    assert_eq!(node.get("/webrtc/info?v=1").1["mode"], "signed");
}

/// R53, R87
#[test]
fn a_coordinator_runs_alone_and_sends_its_peers_on_when_it_ends() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("home");
    let dir = dir.display();
    let made = run(home.path(), &format!("init carol --role coordinator --home {dir}"));
    let settings = format!(
        "start --home {dir} --coordinator-mode open --stun stun.example:1 --room-peers-max 2 \
         --turn turn:ada:word@turn.example:3478 --network-id mine --public-url https://c.example"
    );
    let node = Node::start(home.path(), &settings);
    let (_, nodes) = node.get("/nodes");
    assert!(made.contains(nodes["nodeId"].as_str().unwrap()), "{made}");
    assert_eq!(
        (&nodes["networkId"], nodes["seeds"].as_array().unwrap().len()),
        (&json!("mine"), 0)
    );
    assert_eq!(nodes["webrtc"]["websocketUrl"], "wss://c.example/webrtc/signal");
    assert_eq!(nodes["webrtc"]["stunServers"], json!(["stun:stun.example:1"]));
    let turn = json!([{"urls": "turn:turn.example:3478", "username": "ada", "credential": "word"}]);
    assert_eq!(nodes["webrtc"]["turnServers"], turn);
    assert_eq!(node.get("/api/status").1["role"], "coordinator");
    assert_eq!((node.get("/healthz").0, node.get("/readyz").0), (200, 200));
    assert_eq!(node.get("/whep/demo").0, 404, "no media");
    let join = |id: &str| {
        node.post("/webrtc/join", &json!({"nodeId": id, "room": "small", "metadata": {}}))
    };
    assert_eq!((join("a").0, join("b").0), (200, 200));
    let (status, full) = join("c");
    assert_eq!((status, &full["code"]), (423, &json!("room_full")));
    let stream = json!({"nodeId": "a", "room": "s:demo", "metadata": {}});
    assert_eq!(node.post("/webrtc/join", &stream).0, 403, "no streams here");

    let (mut socket, head) = node.upgrade("?nodeId=d&room=global", "");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // RFC 6455 §1.3's own example.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(node.end(), Some(0));
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    let told = String::from_utf8_lossy(&rest);
    let code = 4503_u16.to_be_bytes();
    assert!(rest.windows(2).any(|bytes| bytes == code), "{rest:?}");
    assert!(told.contains(r#"{"reconnect":"https://c.example/webrtc"}"#), "{told}");
}

/// R92
#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let home = TempDir::new().unwrap();
    let settings =
        format!("{DEV} --chain=false --trusted-proxies 127.0.0.1 --address-connections-max 1");
    let node = Node::start(home.path(), &settings);
    let behind = |client: &str| node.upgrade("", &format!("X-Forwarded-For: {client}\r\n"));
    let (_one, head) = behind("198.51.100.1");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_other, head) = behind("198.51.100.2");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_again, head) = behind("198.51.100.1");
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
}

/// R89
#[test]
fn the_room_of_a_stream_opens_as_the_stream_does() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), &format!("{DEV} --chain=false"));
    let join = |token: Option<&str>| {
        let mut body = json!({"nodeId": "a", "room": "s:cam", "metadata": {}});
        if let Some(token) = token {
            body["invite"] = json!(token);
        }
        node.post("/webrtc/join", &body)
    };
    let (status, answer) = join(None);
    assert_eq!((status, &answer["code"]), (403, &json!("forbidden")), "{answer}");
    let token = run(home.path(), "grant --stream other --role subscribe");
    assert_eq!(join(Some(token.trim())).0, 403, "another stream's");
    for role in ["subscribe", "publish"] {
        let token = run(home.path(), &format!("grant --stream cam --role {role}"));
        assert_eq!(join(Some(token.trim())).0, 200, "{role}");
    }
    let (_, metrics) = node.get("/metrics");
    let line = "\nsutantra_coordinator_stream_peers 1\n";
    assert!(metrics.as_str().unwrap().contains(line));
}

/// R33, R89
#[test]
fn the_room_of_a_paid_stream_asks_for_what_the_stream_asks() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), "dev --udp-port 0 --media-ip 127.0.0.1 --shards 1");
    let body = json!({"nodeId": "a", "room": "s:demo", "metadata": {}});
    let deadline = Instant::now() + PATIENCE;
    let (status, asked) = loop {
        let (status, asked) = node.post("/webrtc/join", &body);
        // A relay takes no money before it has read the chain.
        let is_early = asked["message"].as_str().is_some_and(|text| text.contains("not read yet"));
        if !is_early || Instant::now() > deadline {
            break (status, asked);
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((status, &asked["code"]), (402, &json!("payment_required")), "{asked}");
    let offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 \
                 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n";
    let head = format!(
        "POST /whep/demo HTTP/1.1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n",
        offer.len()
    );
    let (status, whep) = node.ask(&head, offer);
    assert_eq!(status, 402, "{whep}");
    assert_eq!(asked["terms"]["accepts"], whep["accepts"], "the same terms");
    assert_eq!(asked["terms"]["x402Version"], whep["x402Version"]);
}

/// R83
#[test]
fn a_node_with_a_seed_joins_the_seeds_coordinator_by_itself() {
    let (seeds_home, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let quiet = format!("{DEV} --chain=false");
    // No STUN server outside of this machine is asked for anything.
    let empty = seeds_home.path().join("seed.toml");
    fs::write(&empty, "stun = []\n").unwrap();
    let seed = Node::start(seeds_home.path(), &format!("{quiet} --config {}", empty.display()));
    let node = Node::start(home.path(), &format!("{quiet} --seed http://{}", seed.at()));
    let (_, nodes) = node.get("/nodes");
    assert_eq!(nodes["seeds"], json!([format!("http://{}", seed.at())]));
    assert_eq!(nodes["networkId"], "connected");
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let (_, peers) = seed.get("/webrtc/peers?room=global");
        let peers = peers["peers"].as_array().unwrap().clone();
        peers.iter().any(|peer| peer["nodeId"] == nodes["nodeId"])
    };
    while !is_there() {
        assert!(Instant::now() < deadline, "it never joins");
        thread::sleep(Duration::from_millis(50));
    }
    while node.get("/nodes").1["outbound"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "it does not say so");
        thread::sleep(Duration::from_millis(50));
    }
    let outbound = node.get("/nodes").1["outbound"].clone();
    assert_eq!(outbound[0]["url"], format!("http://{}", seed.at()));
    // Told not to, it does not.
    let alone = TempDir::new().unwrap();
    let words = format!("{quiet} --seed http://{} --auto-webrtc false", seed.at());
    let alone = Node::start(alone.path(), &words);
    assert_eq!(alone.get("/nodes").1["outbound"], json!([]));
}
