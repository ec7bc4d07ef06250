//! Offers between peers whose connections break all the time: each arrives once, in its sender's
//! order, whether it is pushed, resumed or polled for.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use bench::http::Base;
use coordinator::Mode;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{Hosted, PLENTY};
use tungstenite::{Error, Message, WebSocket};

const ROOM: &str = "delivery";
/// Peers with a WebSocket, then peers that poll.
const SOCKETS: usize = 3;
const PEERS: usize = 5;
/// Offers of each peer to each other.
const EACH: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(8);
/// A poll that finds nothing ends after this.
const POLL_MS: u64 = 50;

/// Opens when all peers are there; a peer that failed does not keep the others waiting for ever.
#[derive(Default)]
struct Gate(Mutex<usize>, Condvar);

impl Gate {
    fn wait(&self) {
        let mut there = self.0.lock().unwrap();
        *there += 1;
        self.1.notify_all();
        let is_missing = |there: &mut usize| *there < PEERS;
        let (_there, waited) = self.1.wait_timeout_while(there, PATIENCE, is_missing).unwrap();
        assert!(!waited.timed_out(), "a peer did not come");
    }
}

fn name(number: usize) -> String {
    format!("d{number}")
}

/// What one peer got: numbers by sender, in the order of their coming.
#[derive(Default)]
struct Inbox(BTreeMap<String, Vec<u64>>);

impl Inbox {
    fn take(&mut self, from: &Value, sdp: &Value) {
        let number = sdp.as_str().unwrap().trim_start_matches("v=0 ").parse().unwrap();
        self.0.entry(from.as_str().unwrap().to_owned()).or_default().push(number);
    }

    fn count(&self) -> u64 {
        self.0.values().map(|numbers| numbers.len() as u64).sum()
    }
}

/// Receivers in a random order, each as often as it gets offers; the numbers rise for each.
fn errands(me: usize, rng: &mut StdRng) -> Vec<(String, String)> {
    let others = (0..PEERS).filter(|other| *other != me);
    let mut receivers: Vec<usize> =
        others.flat_map(|other| std::iter::repeat_n(other, EACH as usize)).collect();
    receivers.shuffle(rng);
    let mut next = [0; PEERS];
    let errand = |to: usize| {
        next[to] += 1;
        (name(to), format!("v=0 {}", next[to] - 1))
    };
    receivers.into_iter().map(errand).collect()
}

/// A peer with a WebSocket and the cap `resume`.
struct Socket {
    at: SocketAddr,
    me: String,
    socket: WebSocket<TcpStream>,
    session: String,
    cursor: u64,
    inbox: Inbox,
}

impl Socket {
    fn connect(at: SocketAddr) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{at}/webrtc/signal"), stream).unwrap();
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        socket
    }

    fn join(at: SocketAddr, me: String) -> Self {
        let (session, inbox) = (String::new(), Inbox::default());
        let mut peer = Self { at, me, socket: Self::connect(at), session, cursor: 0, inbox };
        let hello = json!({"type":"hello","v":1,"caps":["resume"],"nodeId":peer.me});
        peer.say(&hello);
        let welcome = peer.until("welcome");
        peer.session = welcome["session"].as_str().unwrap().to_owned();
        peer.say(&json!({"type":"join","room":ROOM,"nodeId":peer.me,"metadata":{}}));
        peer.until("joined");
        peer
    }

    fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// Takes what comes next; `None` when nothing comes for a moment.
    fn hear(&mut self) -> Option<Value> {
        let text = match self.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => return None,
            Err(Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return None;
            }
            Err(error) => panic!("{}: {error}", self.me),
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if let Some(seq) = message["seq"].as_u64() {
            assert!(seq > self.cursor, "{}: {seq} came again after {}", self.me, self.cursor);
            self.cursor = seq;
        }
        match message["type"].as_str().unwrap() {
            "offer" => self.inbox.take(&message["from"], &message["sdp"]),
            "error" => panic!("{}: {text}", self.me),
            _ => {}
        }
        Some(message)
    }

    fn until(&mut self, kind: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.hear() {
                Some(message) if message["type"] == kind => return message,
                _ => assert!(Instant::now() < until, "{}: no {kind} came", self.me),
            }
        }
    }

    /// The connection breaks, with whatever is on its way to this peer; it is taken up again.
    fn break_and_resume(&mut self) {
        // What this peer has sent is confirmed by the pong: only the other direction is at stake.
        self.say(&json!({"type":"ping"}));
        self.until("pong");
        self.socket.get_ref().shutdown(Shutdown::Both).unwrap();
        self.socket = Self::connect(self.at);
        let resume = json!({"session":self.session,"cursor":self.cursor});
        self.say(&json!({"type":"hello","v":1,"caps":["resume"],"nodeId":self.me,"resume":resume}));
        let welcome = self.until("welcome");
        assert_eq!(welcome["resumed"], json!([ROOM]), "{welcome}");
        self.session = welcome["session"].as_str().unwrap_or(&self.session).to_owned();
    }

    fn run(mut self, mut rng: StdRng, errands: Vec<(String, String)>, all_sent: &Gate) -> Inbox {
        for (to, sdp) in errands {
            self.say(&json!({"type":"offer","to":to,"room":ROOM,"sdp":sdp}));
            if rng.random_bool(0.3) {
                self.hear();
            }
            if rng.random_bool(0.1) {
                let cursor = self.cursor;
                self.say(&json!({"type":"ack","cursor":cursor}));
            }
            if rng.random_bool(0.15) {
                self.break_and_resume();
            }
        }
        all_sent.wait();
        let (until, expected) = (Instant::now() + PATIENCE, EACH * (PEERS as u64 - 1));
        while self.inbox.count() < expected {
            assert!(Instant::now() < until, "{} has {} of {expected}", self.me, self.inbox.count());
            self.hear();
            if rng.random_bool(0.1) {
                self.break_and_resume();
            }
        }
        // What would come twice comes now.
        self.break_and_resume();
        self.say(&json!({"type":"ping"}));
        self.until("pong");
        self.inbox
    }
}

/// A peer that polls with cursors.
struct Poller {
    base: Base,
    at: SocketAddr,
    me: String,
    cursor: u64,
    inbox: Inbox,
}

impl Poller {
    fn join(at: SocketAddr, me: String) -> Self {
        let base = Base::parse(&format!("http://{at}")).unwrap();
        let peer = Self { base, at, me, cursor: 0, inbox: Inbox::default() };
        peer.post("/webrtc/join", &json!({"nodeId":peer.me,"room":ROOM,"metadata":{}}));
        peer
    }

    fn post(&self, path: &str, body: &Value) {
        let answer = self.base.request_json("POST", path, &body.to_string(), PATIENCE).unwrap();
        assert_eq!(answer.status, 200, "{}: {}", self.me, answer.body);
    }

    fn path(&self) -> String {
        let (me, cursor) = (&self.me, self.cursor);
        format!("/webrtc/signal?nodeId={me}&room={ROOM}&cursor={cursor}&timeout={POLL_MS}")
    }

    fn poll(&mut self) {
        let answer = self.base.request_json("GET", &self.path(), "", PATIENCE).unwrap();
        assert_eq!(answer.status, 200, "{}: {}", self.me, answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        for signal in answer["signals"].as_array().unwrap() {
            let seq = signal["seq"].as_u64().unwrap();
            assert!(seq > self.cursor, "{}: {seq} came again after {}", self.me, self.cursor);
            if signal["type"] == "offer" {
                self.inbox.take(&signal["from"], &signal["payload"]["sdp"]);
            }
        }
        self.cursor = answer["cursor"].as_u64().unwrap();
    }

    /// A poll whose answer nobody reads: the next one asks with the same cursor.
    fn poll_and_break(&self) {
        let mut stream = TcpStream::connect(self.at).unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path(), self.at);
        stream.write_all(request.as_bytes()).unwrap();
        // The answer, or part of it, may come between these.
        stream.shutdown(Shutdown::Both).unwrap();
    }

    fn run(mut self, mut rng: StdRng, errands: Vec<(String, String)>, all_sent: &Gate) -> Inbox {
        for (to, sdp) in errands {
            let offer =
                json!({"from":self.me,"to":to,"room":ROOM,"type":"offer","payload":{"sdp":sdp}});
            self.post("/webrtc/signal", &offer);
            if rng.random_bool(0.1) {
                self.poll();
            }
            if rng.random_bool(0.1) {
                self.poll_and_break();
            }
        }
        all_sent.wait();
        let (until, expected) = (Instant::now() + PATIENCE, EACH * (PEERS as u64 - 1));
        while self.inbox.count() < expected {
            assert!(Instant::now() < until, "{} has {} of {expected}", self.me, self.inbox.count());
            if rng.random_bool(0.3) {
                self.poll_and_break();
            }
            self.poll();
        }
        self.poll(); // What would come twice comes now.
        self.inbox
    }
}

#[track_caller]
fn check(seed: u64) {
    let server = Hosted::start(Mode::Open, |limits| {
        // Breaking connections is the point here; bounds have tests of their own.
        (limits.joins, limits.signals) = (PLENTY, PLENTY);
        (limits.address_opens, limits.socket_messages) = (PLENTY, PLENTY);
        limits.address_connections_max = 10_000;
    });
    let (all_in, all_sent) = (Gate::default(), Gate::default());
    let inboxes: Vec<Inbox> = std::thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS)
            .map(|me| {
                let (at, all_in, all_sent) = (server.at, &all_in, &all_sent);
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(seed * 100 + me as u64);
                    let errands = errands(me, &mut rng);
                    if me < SOCKETS {
                        let peer = Socket::join(at, name(me));
                        all_in.wait();
                        peer.run(rng, errands, all_sent)
                    } else {
                        let peer = Poller::join(at, name(me));
                        all_in.wait();
                        peer.run(rng, errands, all_sent)
                    }
                })
            })
            .collect();
        peers.into_iter().map(|peer| peer.join().unwrap()).collect()
    });
    for (me, inbox) in inboxes.iter().enumerate() {
        for other in (0..PEERS).filter(|other| *other != me) {
            let numbers = inbox.0.get(&name(other)).cloned().unwrap_or_default();
            let in_order: Vec<u64> = (0..EACH).collect();
            assert_eq!(numbers, in_order, "seed {seed}: from {other} to {me}");
        }
    }
}

/// R100 R102
#[test]
fn no_signal_is_lost_doubled_or_reordered_while_sockets_break_and_polls_are_cut() {
    [1, 2, 3].into_iter().for_each(check);
}
