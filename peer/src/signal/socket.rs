//! The membership over a WebSocket: `hello`, `join`, signals, acknowledgements, the heartbeat.

use std::time::Duration;

use coordinator::wire::{
    ClientMessage, Described, ErrorBody, Hello, Offered, Place, Resume, SUBPROTOCOL, ServerMessage,
    SocketJoin, Welcome, close,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig,
    },
};

use super::{
    End, Incoming, Outgoing, Session, SignalError, Transport, Update, What,
    http::{Origin, Stream},
};

/// For the handshake, and for `welcome` and `joined`.
const WITHIN: Duration = Duration::from_secs(10);
/// Longest message: a batch of the longest signals.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Messages that are not acknowledged. One more is acknowledged at once.
const UNACKNOWLEDGED_MAX: u64 = 32;
/// What the coordinator repeats to us when it refuses our join.
const JOIN_REF: &str = "join";

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Joins, and stays until something ends it.
pub(super) async fn run(
    session: &mut Session,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    updates: &mpsc::Sender<Update>,
) -> End {
    let mut socket = match open(session).await {
        Ok(socket) => socket,
        Err(why) => return End::Unusable(why),
    };
    let mut link = Link { session, updates, acknowledged: 0, is_joined: false };
    match link.enter(&mut socket).await {
        Ok(welcome) => link.stay(&mut socket, &welcome, outgoing).await,
        Err(end) => end,
    }
}

async fn open(session: &Session) -> Result<Socket, String> {
    let url = &session.found.websocket_url;
    let (origin, _) = Origin::of(url).map_err(|error| error.to_string())?;
    let mut request = url.as_str().into_client_request().map_err(|error| error.to_string())?;
    let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
    request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
    let stream = origin.connect().await.map_err(|error| error.to_string())?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let handshake = timeout(WITHIN, client_async_with_config(request, stream, Some(config)));
    match handshake.await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(format!("no WebSocket at {url}: {error}")),
        Err(_) => Err(format!("no WebSocket at {url}: no answer within {} s", WITHIN.as_secs())),
    }
}

struct Link<'a> {
    session: &'a mut Session,
    updates: &'a mpsc::Sender<Update>,
    acknowledged: u64,
    is_joined: bool,
}

impl Link<'_> {
    /// `hello` until `joined`.
    async fn enter(&mut self, socket: &mut Socket) -> Result<Welcome, End> {
        let resume = self.session.secret.clone();
        let resume = resume.map(|session| Resume { session, cursor: self.session.cursor });
        let was_member = resume.is_some();
        let hello = ClientMessage::Hello(Hello {
            v: 1,
            caps: vec!["batch".to_owned(), "resume".to_owned()],
            node_id: Some(self.session.node_id.clone()),
            session: None,
            // Counts where the session has ended meanwhile: the coordinator may have started anew.
            proof: Some(self.session.proof("")),
            resume,
        });
        send(socket, &hello).await?;
        let deadline = Instant::now() + WITHIN;
        let mut welcome = None;
        while welcome.is_none() {
            let messages = receive(socket, deadline).await.map_err(|end| match end {
                // A session that is not taken up closes the socket, with or without an error.
                End::Refused(_) | End::Lost { .. } if was_member => End::Forgotten,
                end => end,
            })?;
            for message in messages {
                match message {
                    ServerMessage::Welcome(message) => welcome = Some(message),
                    ServerMessage::Error { .. } if was_member => return Err(End::Forgotten),
                    message => self.handle(message).await?,
                }
            }
        }
        let welcome = welcome.expect("the loop ends with it");
        self.session.secret = Some(welcome.session.clone());
        let room = self.session.membership.room.clone();
        if welcome.resumed.contains(&room) {
            self.joined(None, welcome.ice_servers.clone()).await?;
            return Ok(welcome);
        }
        self.session.cursor = welcome.cursor;
        let join = ClientMessage::Join(SocketJoin {
            room,
            node_id: Some(self.session.node_id.clone()),
            metadata: Some(self.session.metadata()),
            invite: self.session.membership.invite.clone(),
            id: Some(json!(JOIN_REF)),
            ..SocketJoin::default()
        });
        send(socket, &join).await?;
        while !self.is_joined {
            for message in receive(socket, deadline).await? {
                self.handle(message).await?;
            }
        }
        Ok(welcome)
    }

    async fn stay(
        &mut self,
        socket: &mut Socket,
        welcome: &Welcome,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> End {
        self.session.is_member = true;
        self.acknowledged = self.session.cursor;
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(100, 60_000));
        let stale = Duration::from_millis(welcome.stale_ms).max(heartbeat * 2);
        let mut ping_at = Instant::now() + heartbeat;
        let mut heard_at = Instant::now();
        loop {
            let stale_at = heard_at + stale;
            let result = tokio::select! {
                read = receive(socket, stale_at) => match read {
                    Ok(messages) => {
                        heard_at = Instant::now();
                        self.handle_all(socket, messages).await
                    }
                    Err(end) => Err(end),
                },
                signal = outgoing.recv() => match signal {
                    Some(signal) => self.send_signals(socket, signal, outgoing).await,
                    None => return self.leave(socket).await,
                },
                () = tokio::time::sleep_until(ping_at) => {
                    ping_at = Instant::now() + heartbeat;
                    self.acknowledged = self.session.cursor;
                    send(socket, &ClientMessage::Ping { cursor: Some(self.acknowledged) }).await
                }
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn leave(&mut self, socket: &mut Socket) -> End {
        let room = self.session.membership.room.clone();
        let node_id = Some(self.session.node_id.clone());
        // Whoever cannot be told notices by the silence.
        let _told = send(socket, &ClientMessage::Leave { room, node_id }).await;
        let _closed = timeout(Duration::from_secs(1), socket.close(None)).await;
        End::Left
    }

    /// Sends what waits, in one message where that is more than one.
    async fn send_signals(
        &mut self,
        socket: &mut Socket,
        first: Outgoing,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> Result<(), End> {
        let mut messages = vec![self.message(first)];
        while messages.len() < 16
            && let Ok(next) = outgoing.try_recv()
        {
            messages.push(self.message(next));
        }
        match messages.len() {
            1 => send(socket, &messages[0]).await,
            _ => send(socket, &ClientMessage::Batch { messages }).await,
        }
    }

    fn message(&self, signal: Outgoing) -> ClientMessage {
        let Outgoing { to, sid, what } = signal;
        let room = self.session.membership.room.clone();
        let described = |sdp: String| {
            let (pk, fp_sig) = self.session.sign(&to, &sdp).unzip();
            Described {
                to: to.clone(),
                room: room.clone(),
                sdp,
                sid: Some(sid.clone()),
                fp_sig,
                pk,
            }
        };
        match what {
            What::Offer(sdp) => ClientMessage::Offer(described(sdp)),
            What::Answer(sdp) => ClientMessage::Answer(described(sdp)),
            What::Candidate(candidate) => {
                ClientMessage::IceCandidate { to, room, candidate, sid: Some(sid) }
            }
        }
    }

    async fn handle_all(
        &mut self,
        socket: &mut Socket,
        messages: Vec<ServerMessage>,
    ) -> Result<(), End> {
        for message in messages {
            self.handle(message).await?;
        }
        if self.session.cursor >= self.acknowledged + UNACKNOWLEDGED_MAX {
            self.acknowledged = self.session.cursor;
            send(socket, &ClientMessage::Ack { cursor: self.acknowledged }).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, message: ServerMessage) -> Result<(), End> {
        match message {
            ServerMessage::PeerJoined { room, peer, place } if self.is_new(&room, place) => {
                let name = peer.metadata.get("name").and_then(Value::as_str);
                let name = name.unwrap_or(&peer.node_id).to_owned();
                self.tell(Update::PeerJoined { id: peer.node_id, name }).await
            }
            ServerMessage::PeerLeft { room, peer_id, place } if self.is_new(&room, place) => {
                self.tell(Update::PeerLeft { id: peer_id }).await
            }
            ServerMessage::Offer(offered) => self.described(offered, What::Offer).await,
            ServerMessage::Answer(offered) => self.described(offered, What::Answer).await,
            ServerMessage::IceCandidate { from, room, candidate, sid, place }
                if self.is_new(&room, place) =>
            {
                let what = What::Candidate(candidate);
                self.tell(Update::Signal(Incoming { from, sid, what, signature: None })).await
            }
            ServerMessage::Joined { room, peers, ice_servers }
                if room == self.session.membership.room =>
            {
                self.joined(Some(peers), ice_servers).await
            }
            ServerMessage::Error { message, code, reference, retry_after_ms, terms } => {
                let is_joins = reference == Some(json!(JOIN_REF));
                match code {
                    Some(code) if is_joins || !self.is_joined => {
                        let kind = "error".to_owned();
                        let body =
                            ErrorBody { kind, message, code, reference, retry_after_ms, terms };
                        Err(self.session.refusal(&body))
                    }
                    // A signal to somebody who has just left: presence tells.
                    Some(_) | None => Ok(()),
                }
            }
            // Repeated, of another room, or nothing that this client has asked for.
            ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::IceCandidate { .. }
            | ServerMessage::Message { .. }
            | ServerMessage::Broadcast { .. }
            | ServerMessage::Pong {}
            | ServerMessage::Welcome(_)
            | ServerMessage::Joined { .. }
            | ServerMessage::Left { .. }
            | ServerMessage::Batch { .. } => Ok(()),
        }
    }

    async fn described(
        &mut self,
        offered: Offered,
        what: impl FnOnce(String) -> What,
    ) -> Result<(), End> {
        let Offered { from, room, sdp, sid, fp_sig, pk, place } = offered;
        if !self.is_new(&room, place) {
            return Ok(());
        }
        let (what, signature) = (what(sdp), pk.zip(fp_sig));
        self.tell(Update::Signal(Incoming { from, sid, what, signature })).await
    }

    /// Whether a message is of our room and not a repetition; then it has arrived.
    fn is_new(&mut self, room: &str, place: Place) -> bool {
        if let Some(seq) = place.seq {
            if seq <= self.session.cursor {
                return false;
            }
            self.session.cursor = seq;
        }
        room == self.session.membership.room
    }

    async fn joined(
        &mut self,
        peers: Option<Vec<coordinator::wire::RoomPeer>>,
        ice_servers: Vec<coordinator::wire::IceServer>,
    ) -> Result<(), End> {
        self.is_joined = true;
        let transport = Transport::WebSocket;
        self.tell(Update::Joined { transport, peers, ice_servers }).await
    }

    async fn tell(&self, update: Update) -> Result<(), End> {
        self.updates.send(update).await.map_err(|_| End::Left)
    }
}

async fn send(socket: &mut Socket, message: &ClientMessage) -> Result<(), End> {
    let text = serde_json::to_string(message).expect("what we say has text keys only");
    socket.send(Message::text(text)).await.map_err(lost)
}

/// The messages of the next frame; an empty row is a frame that says nothing to us.
async fn receive(socket: &mut Socket, deadline: Instant) -> Result<Vec<ServerMessage>, End> {
    let silent = || End::Lost { why: "the coordinator is silent".to_owned(), after: None };
    let next = tokio::time::timeout_at(deadline, socket.next()).await.map_err(|_| silent())?;
    let closed =
        || End::Lost { why: "the coordinator closed the connection".to_owned(), after: None };
    match next.ok_or_else(closed)?.map_err(lost)? {
        Message::Text(text) => Ok(read(&text)),
        Message::Close(frame) => {
            Err(frame.map_or_else(closed, |frame| closed_with(frame.code.into(), &frame.reason)))
        }
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
            Ok(Vec::new())
        }
    }
}

/// The messages of a text, one by one: what is unreadable, or of a type that a newer coordinator knows,
/// costs none of its neighbours.
fn read(text: &str) -> Vec<ServerMessage> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    match serde_json::from_str::<Batch<'_>>(text) {
        Ok(Batch { messages }) => {
            messages.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()
        }
        Err(_) => serde_json::from_str(text).into_iter().collect(),
    }
}

fn closed_with(code: u16, reason: &str) -> End {
    let why = format!("the coordinator closed the connection: {code} {reason}");
    match code {
        close::REPLACED => End::Refused(SignalError::Replaced),
        close::DRAINING => {
            let reason: Value = serde_json::from_str(reason).unwrap_or_default();
            match reason.get("reconnect").and_then(Value::as_str) {
                Some(url) => End::Moved(url.to_owned()),
                None => End::Lost { why, after: None },
            }
        }
        close::UNAUTHENTICATED => End::Forgotten,
        _ => End::Lost { why, after: None },
    }
}

fn lost(error: tungstenite::Error) -> End {
    End::Lost { why: format!("the coordinator's connection broke off: {error}"), after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_message_costs_none_of_its_neighbours() {
        let text = r#"{"type":"batch","messages":[{"type":"pong"},{"type":"new"},{"type":"peer-left","room":"r","peerId":7},{"type":"peer-left","room":"r","peerId":"x"}]}"#;
        assert_eq!(read(text).len(), 2);
        assert_eq!(read(r#"{"type":"pong"}"#).len(), 1);
        assert_eq!(read("junk").len(), 0);
    }
}
