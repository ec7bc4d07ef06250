//! Answers that list peers or signals, written from the JSON texts in which these are kept.

use std::fmt::Write;

use crate::error::Refusal;
use crate::queue::Entry;
use crate::state::PeerView;
use crate::wire::IceServer;

/// `[…]` of the items that `each` writes.
fn array<T>(text: &mut String, items: &[T], mut each: impl FnMut(&mut String, &T)) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        each(text, item);
    }
    text.push(']');
}

/// `peers` of the answers to a join; with metadata over a WebSocket.
pub(crate) fn join_peers(text: &mut String, peers: &[PeerView], detail: Detail) {
    array(text, peers, |text, peer| {
        let PeerView { node, card, joined_ms, .. } = peer;
        let _ = write!(text, r#"{{"nodeId":"{node}","name":{},"joinedAt":{joined_ms}"#, card.name);
        if detail == Detail::WithMetadata {
            let _ = write!(text, r#","metadata":{}"#, card.metadata);
        }
        text.push('}');
    });
}

/// How much a join's answer says of each peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Base,
    WithMetadata,
}

/// The answer to `POST /webrtc/join`; `session` (hex) and `cursor` where it was signed.
pub(crate) fn join(
    room: &str,
    peers: &[PeerView],
    ice: &[IceServer],
    session: Option<(&str, u64)>,
) -> String {
    let mut text = format!(r#"{{"success":true,"room":"{room}","peers":"#);
    join_peers(&mut text, peers, Detail::Base);
    let _ = write!(text, r#","iceServers":{}"#, json(&ice));
    if let Some((session, cursor)) = session {
        let _ = write!(text, r#","session":"{session}","cursor":{cursor}"#);
    }
    text.push('}');
    text
}

/// `joined` over a WebSocket.
pub(crate) fn joined(room: &str, peers: &[PeerView], ice: &[IceServer]) -> String {
    let mut text = format!(r#"{{"type":"joined","room":"{room}","peers":"#);
    join_peers(&mut text, peers, Detail::WithMetadata);
    let _ = write!(text, r#","iceServers":{}}}"#, json(&ice));
    text
}

/// The answer to `GET /webrtc/peers`; `next` continues it.
pub(crate) fn peers(room: &str, peers: &[PeerView], next: Option<&str>) -> String {
    let mut text = format!(r#"{{"room":"{room}","peers":"#);
    array(&mut text, peers, |text, peer| {
        let PeerView { node, card, online, seen_ms, .. } = peer;
        let _ = write!(
            text,
            r#"{{"nodeId":"{node}","name":{},"online":{online},"lastSeen":{seen_ms},"metadata":{}}}"#,
            card.name, card.metadata
        );
    });
    if let Some(next) = next {
        let _ = write!(text, r#","next":"{next}""#);
    }
    text.push('}');
    text
}

/// The answer to a poll; with `cursor` what the caller sends next.
pub(crate) fn poll(entries: &[Entry], cursor: Option<u64>) -> String {
    let mut text = r#"{"signals":"#.to_owned();
    array(&mut text, entries, |text, entry| {
        let draft = entry.note.draft();
        match cursor {
            None => draft.write_base_poll(text),
            Some(_) => draft.write_cursor_poll(entry.seq, text),
        }
    });
    if let Some(cursor) = cursor {
        let newest = entries.last().map_or(cursor, |entry| entry.seq);
        let _ = write!(text, r#","cursor":{newest}"#);
    }
    text.push('}');
    text
}

/// An error as a WebSocket is told; `reference` is JSON text. A base client gets two keys.
pub(crate) fn socket_error(
    refusal: &Refusal,
    reference: Option<&str>,
    extended: Extended,
) -> String {
    let mut text = format!(r#"{{"type":"error","message":{}"#, json(&refusal.message));
    if extended == Extended::Yes {
        write_error_rest(&mut text, refusal, reference);
    }
    text.push('}');
    text
}

/// An error as an HTTP body.
pub(crate) fn http_error(refusal: &Refusal) -> String {
    let mut text = format!(r#"{{"type":"error","message":{}"#, json(&refusal.message));
    write_error_rest(&mut text, refusal, None);
    text.push('}');
    text
}

/// Whether a client asked for extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extended {
    No,
    Yes,
}

fn write_error_rest(text: &mut String, refusal: &Refusal, reference: Option<&str>) {
    let _ = write!(text, r#","code":"{}""#, refusal.code.as_str());
    if let Some(reference) = reference {
        let _ = write!(text, r#","ref":{reference}"#);
    }
    if let Some(wait_ms) = refusal.retry_after_ms {
        let _ = write!(text, r#","retryAfterMs":{wait_ms}"#);
    }
    if let Some(terms) = &refusal.terms {
        let _ = write!(text, r#","terms":{terms}"#);
    }
}

/// JSON of what always can be written.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("maps have string keys, and no writer fails")
}
