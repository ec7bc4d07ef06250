//! What happens, for people or as lines of JSON.

use std::{
    io::{self, Write as _},
    path::Path,
};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    event::Event,
    files::{Progress, Received},
    framing::{Body, Kind},
};

/// Columns of the bar.
const BAR_COLUMNS: u64 = 30;

/// Writes to standard output, progress to standard error.
pub(super) struct Show {
    is_json: bool,
    /// A bar stands in the terminal's last line.
    has_bar: bool,
    percent: u64,
}

impl Show {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, has_bar: false, percent: u64::MAX }
    }

    /// One thing that happened: in words, and as JSON.
    fn line(&mut self, words: &str, value: &Value) {
        if std::mem::take(&mut self.has_bar) {
            eprintln!();
        }
        let mut out = io::stdout().lock();
        // A reader that has gone (`peer | head`) ends the program by its own means.
        let _written = match self.is_json {
            true => writeln!(out, "{value}"),
            false => writeln!(out, "{}", printable(words)),
        };
        let _flushed = out.flush();
    }

    pub(super) fn found(&mut self, node_id: &str, url: &str) {
        let value = json!({ "event": "found", "nodeId": node_id, "coordinator": url });
        self.line(&format!("The coordinator is at {url}; /join joins."), &value);
    }

    pub(super) fn joined(&mut self, node_id: &str, room: &str, transport: &str) {
        let value =
            json!({ "event": "joined", "nodeId": node_id, "room": room, "transport": transport });
        self.line(&format!("In room {room} as {node_id}, by {transport}."), &value);
    }

    pub(super) fn peers(&mut self, peers: &[(String, String)]) {
        let list: Vec<_> =
            peers.iter().map(|(id, name)| json!({ "nodeId": id, "name": name })).collect();
        let value = json!({ "event": "peers", "peers": list });
        let words: Vec<_> = peers.iter().map(|(id, name)| format!("{name}  {id}")).collect();
        let none = "Nobody is connected.".to_owned();
        self.line(&if words.is_empty() { none } else { words.join("\n") }, &value);
    }

    pub(super) fn notice(&mut self, event: &str, words: &str) {
        self.line(words, &json!({ "event": event, "message": words }));
    }

    /// An event that concerns the user; those that the chat handles itself are left out.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            // With the room and our id, which the chat knows.
            Event::Joined { .. } => {}
            Event::PeerJoined { id, name } => {
                let value = json!({ "event": "peer-joined", "peer": id, "name": name });
                self.line(&format!("{name} is in the room."), &value);
            }
            Event::PeerLeft { id, name } => {
                let value = json!({ "event": "peer-left", "peer": id, "name": name });
                self.line(&format!("{name} has left."), &value);
            }
            Event::Connected { id, name, is_verified } => {
                let value = json!({
                    "event": "peer-connected", "peer": id, "name": name, "verified": is_verified,
                });
                let how = if *is_verified { "" } else { ", not verified" };
                self.line(&format!("Connected to {name} ({id}){how}."), &value);
            }
            Event::Disconnected { id, name, was_open, reason } => {
                let value = json!({
                    "event": "peer-disconnected", "peer": id, "name": name, "wasOpen": was_open,
                    "reason": reason.to_string(),
                });
                self.line(&format!("No longer connected to {name}: {reason}."), &value);
            }
            Event::Message { from, name, message } => {
                let kind = match message.kind {
                    Kind::Application => "application",
                    Kind::Prrc => "prrc",
                    Kind::Commit => "commit",
                    Kind::Control => "control",
                };
                self.message(from, name, kind, &message.body);
            }
            Event::Raw { from, name, label, body } => self.message(from, name, label, body),
            Event::CoordinatorLost { why, retry_in } => {
                let value = json!({
                    "event": "coordinator-lost", "message": why,
                    "retryInMs": u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
                });
                let words = format!("{why}; trying again in {:.1} s.", retry_in.as_secs_f64());
                self.line(&words, &value);
            }
            Event::Warning(why) => self.notice("warning", why),
            Event::Refused(error) => self.notice("refused", &error.to_string()),
        }
    }

    fn message(&mut self, from: &str, name: &str, kind: &str, body: &Body) {
        let mut value = json!({ "event": "message", "from": from, "name": name, "kind": kind });
        let words = match body {
            Body::Text(text) => {
                value["text"] = json!(text);
                text.clone()
            }
            Body::Bytes(bytes) => {
                value["base64"] = json!(BASE64.encode(bytes));
                format!("({} bytes)", bytes.len())
            }
        };
        self.line(&format!("{name}: {words}"), &value);
    }

    pub(super) fn received(&mut self, from: &str, name: &str, received: &Received) {
        match received {
            Received::Begun { name: file, size } => {
                let value = json!({
                    "event": "file-begun", "from": from, "file": file, "bytes": size,
                });
                self.line(&format!("{name} sends {file}, {size} bytes."), &value);
            }
            Received::Piece { name: file, received, size } => {
                self.progress(file, Progress { sent: *received, size: *size });
            }
            Received::Whole { path, size } => {
                let value = json!({
                    "event": "file-received", "from": from, "path": path, "bytes": size,
                });
                let words = format!("{} is here, {size} bytes, as {name} sent it.", path.display());
                self.line(&words, &value);
            }
            Received::Failed { name: file, reason } => {
                let value = json!({
                    "event": "file-failed", "from": from, "file": file, "reason": reason,
                });
                self.line(&format!("{file} of {name} was not taken: {reason}."), &value);
            }
        }
    }

    pub(super) fn sent(&mut self, to: &str, path: &Path) {
        let value = json!({ "event": "file-sent", "to": to, "path": path });
        self.line(&format!("{} has arrived.", path.display()), &value);
    }

    pub(super) fn not_sent(&mut self, to: &str, path: &Path, reason: &str) {
        let value = json!({ "event": "file-not-sent", "to": to, "path": path, "reason": reason });
        self.line(&format!("{} did not arrive: {reason}.", path.display()), &value);
    }

    /// A bar, drawn again at each percent; JSON has none.
    pub(super) fn progress(&mut self, file: &str, Progress { sent, size }: Progress) {
        let part = |of: u64| sent.saturating_mul(of).checked_div(size).unwrap_or(of);
        let percent = part(100);
        if self.is_json || percent == self.percent {
            return;
        }
        (self.percent, self.has_bar) = (percent, true);
        let bar: String = (0..BAR_COLUMNS)
            .map(|column| if column < part(BAR_COLUMNS) { '#' } else { '.' })
            .collect();
        eprint!("\r{} [{bar}] {percent} %", printable(file));
    }
}

/// What a terminal shows and does not obey: names and texts are their senders'.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_terminal_obeys_no_peer() {
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}c\td"), "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}c\td");
    }
}
