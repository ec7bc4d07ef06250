//! A peer without a WebSocket: requests that join, send and poll, and the answers to them (HTTP/1.1,
//! connections kept).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::dialect::Seat;
use super::identity;

/// How long the server may hold a poll.
const POLL_MS: u32 = 25_000;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// JSON, as a rule.
    pub body: &'a str,
    /// Bytes that it takes with its head.
    pub len_bytes: usize,
}

/// Bytes that are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is not HTTP/1.1 with a length")]
pub struct NotHttp;

/// The first answer in `bytes`; `None` when it is not yet whole.
///
/// # Errors
/// It is none, or has no length.
pub fn read(bytes: &[u8]) -> Result<Option<Answer<'_>>, NotHttp> {
    let Some(head_bytes) = head_bytes(bytes)? else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_bytes]).map_err(|_| NotHttp)?;
    let status = status_of(head).ok_or(NotHttp)?;
    let length = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or(NotHttp)?;
    let Some(body) = bytes.get(head_bytes..head_bytes.saturating_add(length)) else {
        return Ok(None);
    };
    let body = std::str::from_utf8(body).map_err(|_| NotHttp)?;
    Ok(Some(Answer { status, body, len_bytes: head_bytes + length }))
}

/// Bytes of the head with its empty line; `None` when it is not yet whole.
///
/// # Errors
/// It is longer than any honest one.
pub fn head_bytes(bytes: &[u8]) -> Result<Option<usize>, NotHttp> {
    match bytes.windows(4).take(HEAD_BYTES_MAX).position(|end| end == b"\r\n\r\n") {
        Some(at) => Ok(Some(at + 4)),
        None if bytes.len() > HEAD_BYTES_MAX => Err(NotHttp),
        None => Ok(None),
    }
}

/// Status of an answer's head.
pub fn status_of(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Value of a header, whose name is given in small letters.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What the answer to a join brings, beside what is not needed here.
#[derive(Debug, Deserialize)]
pub struct Joined {
    /// Stands for the signature from now on.
    pub session: Option<String>,
}

/// The answer to a poll.
#[derive(Debug, Deserialize)]
pub struct Polled<'a> {
    /// Offers and presence.
    #[serde(borrow)]
    pub signals: Vec<&'a RawValue>,
    /// To be given with the next poll.
    pub cursor: u64,
}

/// What a signal of a poll is.
#[derive(Debug, Deserialize)]
pub struct Kind<'a> {
    /// `offer`, `peer-joined` …
    #[serde(rename = "type", borrow)]
    pub kind: std::borrow::Cow<'a, str>,
}

/// Code of a refusal: that in the body, else the status.
pub fn refusal(answer: &Answer<'_>) -> String {
    #[derive(Deserialize)]
    struct Refused {
        code: String,
    }
    serde_json::from_str::<Refused>(answer.body)
        .map_or_else(|_| format!("HTTP {}", answer.status), |refused| refused.code)
}

/// `POST /webrtc/join`.
pub fn join(out: &mut Vec<u8>, host: &str, seat: &Seat) {
    let proof = seat.signed.as_ref().map(identity::members).unwrap_or_default();
    let body =
        format!(r#"{{"nodeId":"{}","room":"{}","metadata":{{}}{proof}}}"#, seat.name, seat.room);
    post(out, host, "/webrtc/join", None, body.as_bytes());
}

/// `POST /webrtc/signal` with an offer.
pub fn offer(
    out: &mut Vec<u8>,
    host: &str,
    seat: &Seat,
    session: Option<&str>,
    to: &str,
    sdp: [&[u8]; 3],
) {
    let (from, room) = (&seat.name, &seat.room);
    let mut body = format!(
        r#"{{"from":"{from}","to":"{to}","room":"{room}","type":"offer","payload":{{"sdp":""#
    )
    .into_bytes();
    sdp.iter().for_each(|part| body.extend_from_slice(part));
    body.extend_from_slice(b"\"}}");
    post(out, host, "/webrtc/signal", session, &body);
}

/// `GET /webrtc/signal` for what comes after `cursor`.
pub fn poll(out: &mut Vec<u8>, host: &str, seat: &Seat, session: Option<&str>, cursor: u64) {
    let (name, room) = (&seat.name, &seat.room);
    let request = format!(
        "GET /webrtc/signal?nodeId={name}&room={room}&cursor={cursor}&timeout={POLL_MS} HTTP/1.1\r\n\
         Host: {host}\r\n{}\r\n",
        bearer(session)
    );
    out.extend_from_slice(request.as_bytes());
}

fn post(out: &mut Vec<u8>, host: &str, path: &str, session: Option<&str>, body: &[u8]) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        bearer(session),
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

fn bearer(session: Option<&str>) -> String {
    session.map(|session| format!("Authorization: Bearer {session}\r\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_one_by_one_when_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 429 Too Many\r\ncontent-length: 23\r\n\r\n{\"code\":\"rate_limited\"}";
        let first = read(text).expect("valid").expect("whole");
        assert_eq!((first.status, first.body), (200, "{}"));
        let rest = &text[first.len_bytes..];
        let second = read(rest).expect("valid").expect("whole");
        assert_eq!((refusal(&second).as_str(), second.len_bytes), ("rate_limited", rest.len()));
        for cut in [0, 10, 30, rest.len() - 1] {
            assert_eq!(read(&rest[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Err(NotHttp), "no length");
        assert_eq!(read(b"SSH-2.0\r\n\r\n"), Err(NotHttp));
        assert_eq!(read(&[b'x'; HEAD_BYTES_MAX + 1]), Err(NotHttp));
        let html = Answer { status: 502, body: "<html>", len_bytes: 0 };
        assert_eq!(refusal(&html), "HTTP 502");
    }

    #[test]
    fn requests_carry_json_of_the_length_they_say() {
        let seat = Seat { name: "me".into(), room: "r".into(), signed: None };
        let mut out = Vec::new();
        offer(&mut out, "h:1", &seat, Some("5e"), "you", [b"v=0", b"", b"\\n"]);
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("\r\nAuthorization: Bearer 5e\r\n"), "{head}");
        assert_eq!(header(head, "content-length"), Some(body.len().to_string().as_str()));
        let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(value["payload"]["sdp"], "v=0\n");
        let mut out = Vec::new();
        poll(&mut out, "h:1", &seat, None, 7);
        assert!(out.starts_with(
            b"GET /webrtc/signal?nodeId=me&room=r&cursor=7&timeout=25000 HTTP/1.1\r\n"
        ));
        assert!(out.ends_with(b"\r\n\r\n"));
    }
}
