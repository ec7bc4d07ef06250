//! What peers and a signalling server say to each other: ours, and those of two others that a
//! comparison measures.

use std::borrow::Cow;
use std::time::Duration;

use coordinator::identity::JoinProof;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::identity;

/// A peer in a room, as a server knows it.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its id.
    pub name: String,
    /// Where it is; empty: in none.
    pub room: String,
    /// Proof of the id, where the server asks for one.
    pub signed: Option<JoinProof>,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The peer is where it wanted to be.
    Ready,
    /// This is to be answered.
    Say(Cow<'static, str>),
    /// Somebody's offer, in this text.
    Offer(&'a str),
    /// Somebody came.
    Joined,
    /// Somebody left.
    Left,
    /// All up to this number has arrived, the server may be told.
    Cursor(u64),
    /// It was refused, or is being closed, with this code.
    Refused(Cow<'a, str>),
}

/// How to speak to a server.
pub trait Dialect {
    /// Path and query of the upgrade.
    fn path(&self, seat: &Seat) -> String;
    /// WebSocket subprotocol to ask for.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }
    /// What to say when the socket is open.
    fn greet(&self, seat: &Seat) -> Vec<String>;
    /// Understands one text.
    fn hear<'a>(&self, seat: &Seat, text: &'a str, tell: &mut dyn FnMut(Heard<'a>));
    /// Appends an offer for `to`; `sdp` stands inside a JSON string.
    fn offer(&self, out: &mut Vec<u8>, seat: &Seat, to: &str, sdp: [&[u8]; 3]);
    /// What to say so often, that the server keeps the connection, when all up to `cursor` has come.
    fn keepalive(&self, cursor: u64) -> Option<(Duration, Cow<'static, str>)>;
    /// Tells that all up to `cursor` has arrived.
    fn acknowledge(&self, _cursor: u64) -> Option<String> {
        None
    }
    /// What to say before closing.
    fn farewell(&self, _seat: &Seat) -> Option<String> {
        None
    }
}

/// The coordinator, as a plain client speaks to it.
pub struct Base;

/// The coordinator with `hello`, and the cap `resume`.
pub struct Extended;

/// The PeerJS server.
pub struct PeerJs;

/// A socket.io server whose rooms are those of [`SocketIo`]'s script.
pub struct SocketIo;

/// Heartbeat of the coordinator (R98).
const PING_EVERY: Duration = Duration::from_secs(15);
/// The PeerJS client's default.
const PEERJS_HEARTBEAT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    seq: Option<u64>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
}

/// Understands what the coordinator says to either kind of client.
fn hear_coordinator<'a>(
    seat: &Seat,
    text: &'a str,
    extended: &dyn Fn(&str, &Seat) -> Option<Heard<'static>>,
    tell: &mut dyn FnMut(Heard<'a>),
) {
    let Ok(said) = serde_json::from_str::<Said<'a>>(text) else {
        return tell(Heard::Refused("unreadable".into()));
    };
    match &*said.kind {
        "offer" => tell(Heard::Offer(text)),
        "peer-joined" => tell(Heard::Joined),
        "peer-left" => tell(Heard::Left),
        "error" => tell(Heard::Refused(said.code.or(said.message).unwrap_or("error".into()))),
        "batch" => {
            for message in said.messages.unwrap_or_default() {
                hear_coordinator(seat, message.get(), extended, tell);
            }
        }
        other => {
            if let Some(heard) = extended(other, seat) {
                tell(heard);
            }
        }
    }
    if let Some(seq) = said.seq {
        tell(Heard::Cursor(seq));
    }
}

fn write_offer(out: &mut Vec<u8>, seat: &Seat, to: &str, sdp: [&[u8]; 3]) {
    for part in [b"{\"type\":\"offer\",\"to\":\"", to.as_bytes(), b"\",\"room\":\""] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(seat.room.as_bytes());
    out.extend_from_slice(b"\",\"sdp\":\"");
    sdp.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\"}");
}

fn leave(seat: &Seat) -> String {
    format!(r#"{{"type":"leave","room":"{}","nodeId":"{}"}}"#, seat.room, seat.name)
}

impl Dialect for Base {
    fn path(&self, seat: &Seat) -> String {
        let mut path = format!("/webrtc/signal?nodeId={}&room={}", seat.name, seat.room);
        if let Some(signed) = &seat.signed {
            path += &identity::query(signed);
        }
        path
    }

    /// The pong to this says that the join before it is done: the protocol has no other word for a
    /// plain client.
    fn greet(&self, _seat: &Seat) -> Vec<String> {
        vec![r#"{"type":"ping"}"#.to_owned()]
    }

    fn hear<'a>(&self, seat: &Seat, text: &'a str, tell: &mut dyn FnMut(Heard<'a>)) {
        let pong = |kind: &str, _: &Seat| (kind == "pong").then_some(Heard::Ready);
        hear_coordinator(seat, text, &pong, tell);
    }

    fn offer(&self, out: &mut Vec<u8>, seat: &Seat, to: &str, sdp: [&[u8]; 3]) {
        write_offer(out, seat, to, sdp);
    }

    fn keepalive(&self, _cursor: u64) -> Option<(Duration, Cow<'static, str>)> {
        Some((PING_EVERY, r#"{"type":"ping"}"#.into()))
    }

    fn farewell(&self, seat: &Seat) -> Option<String> {
        Some(leave(seat))
    }
}

impl Dialect for Extended {
    fn path(&self, _seat: &Seat) -> String {
        "/webrtc/signal".to_owned()
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some("sutantra.signal.v1")
    }

    fn greet(&self, seat: &Seat) -> Vec<String> {
        let proof = seat.signed.as_ref().map(identity::members).unwrap_or_default();
        let hello = format!(
            r#"{{"type":"hello","v":1,"caps":["resume"],"nodeId":"{}"{proof}}}"#,
            seat.name
        );
        vec![hello]
    }

    fn hear<'a>(&self, seat: &Seat, text: &'a str, tell: &mut dyn FnMut(Heard<'a>)) {
        let more = |kind: &str, seat: &Seat| match kind {
            "welcome" if seat.room.is_empty() => Some(Heard::Ready),
            "welcome" => {
                let (room, name) = (&seat.room, &seat.name);
                let join = format!(
                    r#"{{"type":"join","room":"{room}","nodeId":"{name}","metadata":{{}}}}"#
                );
                Some(Heard::Say(join.into()))
            }
            "joined" => Some(Heard::Ready),
            _ => None,
        };
        hear_coordinator(seat, text, &more, tell);
    }

    fn offer(&self, out: &mut Vec<u8>, seat: &Seat, to: &str, sdp: [&[u8]; 3]) {
        write_offer(out, seat, to, sdp);
    }

    fn keepalive(&self, cursor: u64) -> Option<(Duration, Cow<'static, str>)> {
        Some((PING_EVERY, format!(r#"{{"type":"ping","cursor":{cursor}}}"#).into()))
    }

    fn acknowledge(&self, cursor: u64) -> Option<String> {
        Some(format!(r#"{{"type":"ack","cursor":{cursor}}}"#))
    }

    fn farewell(&self, seat: &Seat) -> Option<String> {
        Some(leave(seat))
    }
}

impl Dialect for PeerJs {
    fn path(&self, seat: &Seat) -> String {
        format!("/peerjs?key=peerjs&id={}&token=bench&version=1.5.5", seat.name)
    }

    fn greet(&self, _seat: &Seat) -> Vec<String> {
        Vec::new()
    }

    fn hear<'a>(&self, _seat: &Seat, text: &'a str, tell: &mut dyn FnMut(Heard<'a>)) {
        let Ok(said) = serde_json::from_str::<Said<'a>>(text) else {
            return tell(Heard::Refused("unreadable".into()));
        };
        match &*said.kind {
            "OPEN" => tell(Heard::Ready),
            "OFFER" => tell(Heard::Offer(text)),
            // EXPIRE and LEAVE tell of a peer that is not there: its offer is lost, and counted so.
            _ => tell(Heard::Refused(said.kind)),
        }
    }

    fn offer(&self, out: &mut Vec<u8>, _seat: &Seat, to: &str, sdp: [&[u8]; 3]) {
        for part in [b"{\"type\":\"OFFER\",\"dst\":\"", to.as_bytes()] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\",\"payload\":{\"type\":\"data\",\"connectionId\":\"dc_1\",\"sdp\":{\"type\":\"offer\",\"sdp\":\"");
        sdp.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\"}}}");
    }

    fn keepalive(&self, _cursor: u64) -> Option<(Duration, Cow<'static, str>)> {
        Some((PEERJS_HEARTBEAT, r#"{"type":"HEARTBEAT"}"#.into()))
    }
}

impl Dialect for SocketIo {
    fn path(&self, _seat: &Seat) -> String {
        "/socket.io/?EIO=4&transport=websocket".to_owned()
    }

    fn greet(&self, _seat: &Seat) -> Vec<String> {
        Vec::new()
    }

    fn hear<'a>(&self, seat: &Seat, text: &'a str, tell: &mut dyn FnMut(Heard<'a>)) {
        // Engine.IO 4: open, ping; Socket.IO 5 in a message: connect, event.
        if text.starts_with('0') {
            tell(Heard::Say("40".into()));
        } else if text == "2" {
            tell(Heard::Say("3".into()));
        } else if text.starts_with("40") {
            tell(Heard::Say(format!(r#"42["join","{}","{}"]"#, seat.room, seat.name).into()));
        } else if let Some(event) = text.strip_prefix("42[\"") {
            match event.split('"').next() {
                Some("offer") => tell(Heard::Offer(text)),
                Some("joined") => tell(Heard::Ready),
                Some("peer-joined") => tell(Heard::Joined),
                Some("peer-left") => tell(Heard::Left),
                _ => tell(Heard::Refused("unknown event".into())),
            }
        } else {
            tell(Heard::Refused("unknown packet".into()));
        }
    }

    fn offer(&self, out: &mut Vec<u8>, seat: &Seat, to: &str, sdp: [&[u8]; 3]) {
        out.extend_from_slice(b"42[\"signal\",");
        write_offer(out, seat, to, sdp);
        out.push(b']');
    }

    /// The server pings.
    fn keepalive(&self, _cursor: u64) -> Option<(Duration, Cow<'static, str>)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> Seat {
        Seat { name: "me".into(), room: "r1".into(), signed: None }
    }

    #[track_caller]
    fn check(dialect: &dyn Dialect, text: &str, expected: &[Heard<'_>]) {
        let mut heard = Vec::new();
        dialect.hear(&seat(), text, &mut |one| heard.push(one));
        assert_eq!(heard, expected, "{text}");
    }

    #[test]
    fn every_server_is_understood_in_its_own_words() {
        let offer = r#"{"type":"offer","from":"x","room":"r1","sdp":"v=0"}"#;
        check(&Base, offer, &[Heard::Offer(offer)]);
        check(&Base, r#"{"type":"pong"}"#, &[Heard::Ready]);
        check(&Base, r#"{"type":"peer-left","room":"r1","peerId":"x"}"#, &[Heard::Left]);
        check(&Base, r#"{"type":"error","message":"no"}"#, &[Heard::Refused("no".into())]);
        check(
            &Extended,
            r#"{"type":"error","message":"no","code":"room_full"}"#,
            &[Heard::Refused("room_full".into())],
        );
        check(&Extended, r#"{"type":"pong"}"#, &[]);
        let join = r#"{"type":"join","room":"r1","nodeId":"me","metadata":{}}"#;
        check(&Extended, r#"{"type":"welcome","v":1}"#, &[Heard::Say(join.into())]);
        check(&Extended, r#"{"type":"joined","room":"r1"}"#, &[Heard::Ready]);
        let numbered = r#"{"type":"offer","from":"x","seq":7}"#;
        check(&Extended, numbered, &[Heard::Offer(numbered), Heard::Cursor(7)]);
        check(
            &Extended,
            &format!(r#"{{"type":"batch","messages":[{numbered},{{"type":"peer-joined"}}]}}"#),
            &[Heard::Offer(numbered), Heard::Cursor(7), Heard::Joined],
        );
        check(&PeerJs, r#"{"type":"OPEN"}"#, &[Heard::Ready]);
        check(&PeerJs, r#"{"type":"ID-TAKEN"}"#, &[Heard::Refused("ID-TAKEN".into())]);
        check(&SocketIo, r#"0{"sid":"x","pingInterval":25000}"#, &[Heard::Say("40".into())]);
        check(&SocketIo, "2", &[Heard::Say("3".into())]);
        check(&SocketIo, r#"40{"sid":"y"}"#, &[Heard::Say(r#"42["join","r1","me"]"#.into())]);
        check(&SocketIo, r#"42["joined"]"#, &[Heard::Ready]);
        for dialect in [&Base as &dyn Dialect, &PeerJs, &SocketIo] {
            check(
                dialect,
                "nonsense",
                &[Heard::Refused(
                    if dialect.keepalive(0).is_some() { "unreadable" } else { "unknown packet" }
                        .into(),
                )],
            );
        }
    }

    #[test]
    fn an_offer_is_json_in_every_dialect() {
        for (dialect, skip, path) in [
            (&Base as &dyn Dialect, 0, "/sdp"),
            (&Extended, 0, "/sdp"),
            (&PeerJs, 0, "/payload/sdp/sdp"),
            (&SocketIo, 2, "/1/sdp"),
        ] {
            let mut out = Vec::new();
            dialect.offer(&mut out, &seat(), "you", [b"v=0", b"\\r\\n", b"s=x"]);
            let value: serde_json::Value = serde_json::from_slice(&out[skip..]).expect("JSON");
            assert_eq!(value.pointer(path).and_then(|sdp| sdp.as_str()), Some("v=0\r\ns=x"));
        }
    }
}
