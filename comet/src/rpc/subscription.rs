//! One subscription to what is committed, held over every loss of its connection.

use std::{
    convert::Infallible,
    io,
    time::{Duration, Instant},
};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
};
use serde_json::{Value, json};
use tungstenite::{HandshakeError, Message, WebSocket, protocol::WebSocketConfig};

use super::{client::BODY_BYTES_MAX, stream::Stream, url::RpcUrl};

/// Query for whole blocks.
pub const NEW_BLOCK: &str = "tm.event='NewBlock'";
/// Query for headers.
pub const NEW_BLOCK_HEADER: &str = "tm.event='NewBlockHeader'";
/// Query for a block's own events.
pub const NEW_BLOCK_EVENTS: &str = "tm.event='NewBlockEvents'";
/// Query for transactions, each by itself.
pub const TX: &str = "tm.event='Tx'";

/// The handshake and the first answer may take so long.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// How soon the end of the subscriber is noticed.
const TICK: Duration = Duration::from_millis(250);
/// A ping this often shows that the connection is alive.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A peer that is silent for so long, pongs included, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Wait before the first new attempt; doubled for each that fails, up to the maximum. An endpoint
/// that is back must be noticed within a second.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(800);

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Subscribed: from here on nothing is missed. What came before may have been.
    Connected,
    /// The event's `result`: `query`, `data` (`type`, `value`) and `events`.
    Event(Value),
    /// Not subscribed any more, and why; it is tried again.
    Lost(String),
}

/// Ends when it is dropped.
pub struct Subscription {
    updates: Receiver<Update>,
    /// The thread sees that it is gone.
    _alive: Sender<Infallible>,
}

impl Subscription {
    /// Subscribes with a thread of its own, and goes on trying for as long as it lives. When
    /// `capacity` updates wait, the connection is let go: [`Update::Lost`].
    ///
    /// # Errors
    /// No thread.
    pub fn start(url: &RpcUrl, query: &str, capacity: usize) -> io::Result<Self> {
        let (sender, updates) = bounded(capacity.max(1));
        let (alive, ended) = bounded(0);
        let worker = Worker { url: url.clone(), query: query.to_owned(), updates: sender, ended };
        std::thread::Builder::new().name("rpc-events".to_owned()).spawn(move || worker.run())?;
        Ok(Self { updates, _alive: alive })
    }

    /// What happens, in order.
    pub fn updates(&self) -> &Receiver<Update> {
        &self.updates
    }
}

struct Worker {
    url: RpcUrl,
    query: String,
    updates: Sender<Update>,
    ended: Receiver<Infallible>,
}

/// Why a connection is over.
enum End {
    /// Nobody listens to the subscription any more.
    Dropped,
    /// The reason.
    Lost(String),
}

impl Worker {
    fn run(self) {
        let mut wait = RETRY_MIN;
        let mut is_told = false;
        loop {
            let mut was_connected = false;
            let Err(end) = self.follow(&mut was_connected);
            let End::Lost(reason) = end else { return };
            if was_connected {
                (wait, is_told) = (RETRY_MIN, false);
            }
            tracing::debug!(url = %self.url, %reason, "the chain's events are not followed");
            if !is_told && self.tell(Update::Lost(reason)).is_err() {
                return;
            }
            is_told = true;
            // Jitter: not every subscriber of a node comes back in the same moment.
            match self.ended.recv_timeout(wait.mul_f64(rand::random_range(0.5..1.0))) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(never) => match never {},
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// One connection, from its beginning to its end.
    fn follow(&self, was_connected: &mut bool) -> Result<Infallible, End> {
        let mut socket = self.connect().map_err(|reason| End::Lost(reason.to_string()))?;
        self.subscribe(&mut socket)?;
        *was_connected = true;
        self.tell(Update::Connected)?;
        socket.get_ref().set_waits(TICK, HANDSHAKE_WAIT).map_err(lost)?;
        let (mut heard, mut pinged) = (Instant::now(), Instant::now());
        loop {
            match self.read(&mut socket)? {
                Some(message) => {
                    heard = Instant::now();
                    self.handle(&message)?;
                }
                None if heard.elapsed() > SILENCE_MAX => {
                    let seconds = SILENCE_MAX.as_secs();
                    return Err(End::Lost(format!("nothing was heard for {seconds} s")));
                }
                None => {}
            }
            if pinged.elapsed() > PING_INTERVAL {
                pinged = Instant::now();
                socket.send(Message::Ping(Default::default())).map_err(lost)?;
            }
        }
    }

    fn connect(&self) -> Result<WebSocket<Stream>, tungstenite::Error> {
        let stream = Stream::connect(&self.url)?;
        stream.set_waits(HANDSHAKE_WAIT, HANDSHAKE_WAIT)?;
        let bytes_max = usize::try_from(BODY_BYTES_MAX).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default()
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let connected =
            tungstenite::client::client_with_config(self.url.websocket(), stream, Some(config));
        match connected {
            Ok((socket, _)) => Ok(socket),
            Err(HandshakeError::Failure(error)) => Err(error),
            Err(HandshakeError::Interrupted(_)) => Err(tungstenite::Error::Io(timed_out())),
        }
    }

    fn subscribe(&self, socket: &mut WebSocket<Stream>) -> Result<(), End> {
        let request = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "subscribe",
            "params": { "query": self.query },
        });
        socket.send(Message::text(request.to_string())).map_err(lost)?;
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        while Instant::now() < deadline {
            let Some(message) = self.read(socket)? else { break };
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).map_err(lost)?;
            if let Some(error) = answer.get("error") {
                return Err(End::Lost(format!("the node refuses the subscription: {error}")));
            }
            if answer["id"] == 1 && answer.get("result").is_some() {
                return Ok(());
            }
        }
        Err(lost(timed_out()))
    }

    /// The next message; `None`: none in time.
    fn read(&self, socket: &mut WebSocket<Stream>) -> Result<Option<Message>, End> {
        if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(End::Dropped);
        }
        match socket.read() {
            Ok(message) => Ok(Some(message)),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            Err(error) => Err(lost(error)),
        }
    }

    fn handle(&self, message: &Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text.as_str(),
            Message::Close(_) => return Err(End::Lost("the node closed the connection".into())),
            // A ping's answer is sent by the next read.
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) | Message::Frame(_) => {
                return Err(End::Lost("the node sent bytes where JSON is due".into()));
            }
        };
        let mut answer: Value = serde_json::from_str(text).map_err(lost)?;
        if let Some(error) = answer.get("error") {
            return Err(End::Lost(format!("the node ended the subscription: {error}")));
        }
        let result = answer["result"].take();
        if result.get("data").is_none() {
            return Ok(());
        }
        match self.updates.try_send(Update::Event(result)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(End::Dropped),
            Err(TrySendError::Full(_)) => {
                Err(End::Lost("events came faster than they were taken".to_owned()))
            }
        }
    }

    /// Waits for room: what is told about the connection itself must not be missed.
    fn tell(&self, mut update: Update) -> Result<(), End> {
        loop {
            match self.updates.send_timeout(update, TICK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(End::Dropped),
                Err(SendTimeoutError::Timeout(back)) => update = back,
            }
        }
    }
}

fn lost(error: impl std::fmt::Display) -> End {
    End::Lost(error.to_string())
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the node did not answer in time")
}
