//! What one peer gets to hear of another, and how it is written for a socket and for a poll.
//!
//! A body (`sdp`, `candidate`, `data`, metadata) is carried as the JSON text in which it came:
//! the coordinator never looks inside, so relaying costs a copy.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use crate::ws::frame;

/// What kind of thing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Offer,
    Answer,
    Candidate,
    Message,
    Broadcast,
    PeerJoined,
    PeerLeft,
}

impl Kind {
    /// The signals, by the name that peers give them.
    pub fn of_signal(name: &str) -> Option<Self> {
        match name {
            "offer" => Some(Self::Offer),
            "answer" => Some(Self::Answer),
            "ice-candidate" => Some(Self::Candidate),
            "message" => Some(Self::Message),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Candidate => "ice-candidate",
            Self::Message => "message",
            Self::Broadcast => "broadcast",
            Self::PeerJoined => "peer-joined",
            Self::PeerLeft => "peer-left",
        }
    }

    /// The key under which the body stands.
    pub fn body_key(self) -> &'static str {
        match self {
            Self::Offer | Self::Answer => "sdp",
            Self::Candidate => "candidate",
            Self::Message | Self::Broadcast => "data",
            Self::PeerJoined => "metadata",
            Self::PeerLeft => "peerId",
        }
    }

    /// Whether one peer said it to another: what a base poll and `queued` are about.
    pub fn is_signal(self) -> bool {
        matches!(self, Self::Offer | Self::Answer | Self::Candidate | Self::Message)
    }
}

/// Something to hear, borrowed from the message that brought it.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub kind: Kind,
    pub room: &'a str,
    /// Who said it; with presence, who came or went.
    pub from: &'a str,
    /// JSON text.
    pub body: &'a str,
    /// `,"sid":"…","fpSig":"…"`: JSON members, each with its comma, or nothing.
    pub extras: &'a str,
    /// Unix ms.
    pub at_ms: u64,
}

/// The same, owned, because it waits for somebody.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    kind: Kind,
    at_ms: u64,
    room: Arc<str>,
    from: Box<str>,
    body: Box<str>,
    extras: Box<str>,
}

impl Note {
    pub fn draft(&self) -> Draft<'_> {
        Draft {
            kind: self.kind,
            room: &self.room,
            from: &self.from,
            body: &self.body,
            extras: &self.extras,
            at_ms: self.at_ms,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn room(&self) -> &str {
        &self.room
    }

    /// Bytes that it takes while it waits, roughly.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.extras.len() + self.from.len()
    }
}

impl Draft<'_> {
    pub fn to_note(self, room: Arc<str>) -> Note {
        Note {
            kind: self.kind,
            at_ms: self.at_ms,
            room,
            from: self.from.into(),
            body: self.body.into(),
            extras: self.extras.into(),
        }
    }

    /// A WebSocket text frame: base for who asked for nothing else.
    pub fn base_frame(self) -> Bytes {
        let mut text = self.begin();
        self.socket_base(&mut text);
        text.push('}');
        frame::seal_text(text.into_bytes())
    }

    /// A WebSocket text frame for who said `hello`; `seq` with cap `resume`.
    pub fn extended_frame(self, seq: Option<u64>) -> Bytes {
        let mut text = self.begin();
        self.socket_base(&mut text);
        text.push_str(self.extras);
        let _ = write!(text, r#","timestamp":{}"#, self.at_ms);
        if let Some(seq) = seq {
            let _ = write!(text, r#","seq":{seq}"#);
        }
        text.push('}');
        frame::seal_text(text.into_bytes())
    }

    /// As a base poll says it: four keys.
    pub fn write_base_poll(self, text: &mut String) {
        self.poll_base(text);
        text.push('}');
    }

    /// As a poll with a cursor says it.
    pub fn write_cursor_poll(self, seq: u64, text: &mut String) {
        if self.kind.is_signal() || self.kind == Kind::Broadcast {
            self.poll_base(text);
            let _ = write!(text, r#","seq":{seq},"room":"{}""#, self.room);
        } else {
            self.socket_base(text);
            let _ = write!(text, r#","seq":{seq},"timestamp":{}"#, self.at_ms);
        }
        text.push_str(self.extras);
        text.push('}');
    }

    /// A text with room for the frame's header in front, and for all the rest behind.
    fn begin(self) -> String {
        let bytes = self.room.len() + self.from.len() + self.body.len() + self.extras.len();
        let mut text = String::with_capacity(frame::HEADER_BYTES_MAX + bytes + 128);
        text.push_str(frame::HEADER_SPACE);
        text
    }

    /// Up to, and without, the closing brace. Ids and rooms hold no character that JSON escapes.
    fn socket_base(self, text: &mut String) {
        let Self { kind, room, from, body, .. } = self;
        let name = kind.as_str();
        let parts: &[&str] = match kind {
            Kind::Offer | Kind::Answer | Kind::Candidate | Kind::Message => {
                let key = kind.body_key();
                &[
                    r#"{"type":""#,
                    name,
                    r#"","from":""#,
                    from,
                    r#"","room":""#,
                    room,
                    r#"",""#,
                    key,
                    r#"":"#,
                    body,
                ]
            }
            Kind::Broadcast => &[
                r#"{"type":"broadcast","room":""#,
                room,
                r#"","from":""#,
                from,
                r#"","data":"#,
                body,
            ],
            Kind::PeerJoined => &[
                r#"{"type":"peer-joined","room":""#,
                room,
                r#"","peer":{"nodeId":""#,
                from,
                r#"","metadata":"#,
                body,
                "}",
            ],
            Kind::PeerLeft => {
                &[r#"{"type":"peer-left","room":""#, room, r#"","peerId":""#, from, r#"""#]
            }
        };
        for part in parts {
            text.push_str(part);
        }
    }

    fn poll_base(self, text: &mut String) {
        let (name, key) = (self.kind.as_str(), self.kind.body_key());
        for part in [
            r#"{"from":""#,
            self.from,
            r#"","type":""#,
            name,
            r#"","payload":{""#,
            key,
            r#"":"#,
            self.body,
        ] {
            text.push_str(part);
        }
        let _ = write!(text, r#"}},"timestamp":{}"#, self.at_ms);
    }
}

/// One draft on its way to many: each form is made at most once, and shared.
pub(crate) struct Fan<'a> {
    pub(crate) draft: Draft<'a>,
    room: &'a Arc<str>,
    note: Option<Arc<Note>>,
    base: Option<Bytes>,
    extended: Option<Bytes>,
}

impl<'a> Fan<'a> {
    pub(crate) fn new(draft: Draft<'a>, room: &'a Arc<str>) -> Self {
        Self { draft, room, note: None, base: None, extended: None }
    }

    pub(crate) fn note(&mut self) -> Arc<Note> {
        let (draft, room) = (self.draft, self.room);
        Arc::clone(self.note.get_or_insert_with(|| Arc::new(draft.to_note(Arc::clone(room)))))
    }

    pub(crate) fn base(&mut self) -> Bytes {
        let draft = self.draft;
        self.base.get_or_insert_with(|| draft.base_frame()).clone()
    }

    pub(crate) fn extended(&mut self) -> Bytes {
        let draft = self.draft;
        self.extended.get_or_insert_with(|| draft.extended_frame(None)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: Kind, body: &'static str) -> Draft<'static> {
        Draft { kind, room: "global", from: "xyz", body, extras: r#","sid":"7""#, at_ms: 5 }
    }

    #[track_caller]
    fn check(kind: Kind, body: &'static str, base: &str) {
        let frame = draft(kind, body).base_frame();
        assert_eq!(frame::text_of(&frame), Some(base));
        let extended = draft(kind, body).extended_frame(Some(9));
        let want = format!(r#"{},"sid":"7","timestamp":5,"seq":9}}"#, &base[..base.len() - 1]);
        assert_eq!(frame::text_of(&extended), Some(want.as_str()));
    }

    /// R65
    #[test]
    fn each_message_is_written_as_the_document_shows_it() {
        check(
            Kind::Offer,
            r#""...""#,
            r#"{"type":"offer","from":"xyz","room":"global","sdp":"..."}"#,
        );
        check(
            Kind::Answer,
            r#""...""#,
            r#"{"type":"answer","from":"xyz","room":"global","sdp":"..."}"#,
        );
        check(
            Kind::Candidate,
            "{}",
            r#"{"type":"ice-candidate","from":"xyz","room":"global","candidate":{}}"#,
        );
        check(
            Kind::PeerJoined,
            "{}",
            r#"{"type":"peer-joined","room":"global","peer":{"nodeId":"xyz","metadata":{}}}"#,
        );
        check(Kind::PeerLeft, "", r#"{"type":"peer-left","room":"global","peerId":"xyz"}"#);
        check(
            Kind::Broadcast,
            r#""AA==""#,
            r#"{"type":"broadcast","room":"global","from":"xyz","data":"AA=="}"#,
        );
    }

    /// R60
    #[test]
    fn a_poll_wraps_the_body_in_a_payload() {
        let mut text = String::new();
        draft(Kind::Answer, r#""...""#).write_base_poll(&mut text);
        assert_eq!(text, r#"{"from":"xyz","type":"answer","payload":{"sdp":"..."},"timestamp":5}"#);
        text.clear();
        draft(Kind::Candidate, "{}").write_cursor_poll(3, &mut text);
        let want = r#"{"from":"xyz","type":"ice-candidate","payload":{"candidate":{}},"timestamp":5,"seq":3,"room":"global","sid":"7"}"#;
        assert_eq!(text, want);
        text.clear();
        draft(Kind::PeerLeft, "").write_cursor_poll(4, &mut text);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (value["type"].as_str(), value["peerId"].as_str()),
            (Some("peer-left"), Some("xyz"))
        );
    }
}
