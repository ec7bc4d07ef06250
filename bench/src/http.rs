//! The little HTTP/1.1 that signalling needs: one request, one answer, the connection closed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read; more is refused.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Where a server is: `http://host:port`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `host:port`, as the `Host` header wants it.
    authority: String,
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not `http://host[:port]`.
    #[error("{0:?} is not an address of the form http://host:port")]
    Address(String),
    /// The connection failed.
    #[error("{authority}: {source}")]
    Io {
        /// Who was asked.
        authority: String,
        /// What the socket said.
        source: std::io::Error,
    },
    /// The answer is not HTTP.
    #[error("{0}: the answer is not HTTP/1.1")]
    Malformed(String),
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code, three digits.
    pub status: u16,
    /// `Location` header, as sent.
    pub location: Option<String>,
    /// Body, chunks joined.
    pub body: String,
}

impl Base {
    /// Parses `http://host[:port][/]`.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', ' ', '?', '#', '@']) {
            return Err(wrong());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
        });
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority })
    }

    /// The socket address behind the name.
    pub fn resolve(&self) -> Result<SocketAddr, HttpError> {
        let addresses = self.authority.to_socket_addrs().map_err(|source| self.io(source))?;
        addresses.into_iter().next().ok_or_else(|| HttpError::Address(self.authority.clone()))
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends one request; `bearer` becomes an `Authorization` header, `body` an SDP.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: &str,
    ) -> Result<Answer, HttpError> {
        let mut headers = String::new();
        if let Some(token) = bearer {
            headers += &format!("Authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            headers += "Content-Type: application/sdp\r\n";
        }
        self.exchange(method, path, &headers, body, ANSWER_MAX)
    }

    /// Sends one request with a JSON body, or with none when it is empty; the answer may take
    /// `patience`.
    pub fn request_json(
        &self,
        method: &str,
        path: &str,
        body: &str,
        patience: Duration,
    ) -> Result<Answer, HttpError> {
        let headers = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        self.exchange(method, path, headers, body, patience)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
        patience: Duration,
    ) -> Result<Answer, HttpError> {
        let mut stream = TcpStream::connect_timeout(&self.resolve()?, ANSWER_MAX)
            .map_err(|source| self.io(source))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        let mut bytes = Vec::new();
        stream
            .set_read_timeout(Some(patience))
            .and_then(|()| stream.write_all(request.as_bytes()))
            .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(|source| self.io(source))?;
        parse_answer(&bytes).ok_or_else(|| HttpError::Malformed(self.authority.clone()))
    }

    fn io(&self, source: std::io::Error) -> HttpError {
        HttpError::Io { authority: self.authority.clone(), source }
    }
}

/// The path of a `Location`, which may be absolute (`http://…/x`) or a path.
pub fn location_path(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let head_bytes = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_bytes]).ok()?;
    let body = &bytes[head_bytes + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let (mut location, mut chunked, mut length) = (None, false, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "location" => location = Some(value.to_owned()),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "content-length" => length = value.parse::<usize>().ok(),
            _ => {}
        }
    }
    let body = match (chunked, length) {
        (true, _) => join_chunks(body)?,
        (false, Some(length)) => body.get(..length)?.to_vec(),
        (false, None) => body.to_vec(),
    };
    Some(Answer { status, location, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Undoes chunked transfer coding (RFC 9112 §7.1).
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|end| end == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, expected: Option<(u16, Option<&str>, &str)>) {
        let parsed = parse_answer(bytes.as_bytes());
        let seen = parsed.as_ref().map(|a| (a.status, a.location.as_deref(), a.body.as_str()));
        assert_eq!(seen, expected, "{bytes:?}");
    }

    #[test]
    fn an_answer_is_read_with_length_with_chunks_or_to_the_end() {
        check(
            "HTTP/1.1 201 Created\r\nLocation: /whip/7\r\ncontent-length: 3\r\n\r\nv=0",
            Some((201, Some("/whip/7"), "v=0")),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n",
            Some((200, None, "abcde")),
        );
        check("HTTP/1.0 404 Not Found\r\n\r\nno", Some((404, None, "no")));
    }

    #[test]
    fn an_answer_that_is_cut_or_not_http_is_refused() {
        check("HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\nv=0", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na", None);
        check("SSH-2.0-x\r\n\r\n", None);
        check("", None);
    }

    #[test]
    fn an_address_is_http_host_and_port() {
        for (url, authority) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://relay.example/", Some("relay.example:80")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("https://relay.example", None),
            ("http://relay.example/path", None),
            ("http://", None),
        ] {
            assert_eq!(Base::parse(url).ok().map(|base| base.authority).as_deref(), authority);
        }
    }

    #[test]
    fn a_location_gives_its_path() {
        assert_eq!(location_path("http://127.0.0.1:1/whip/x/1"), "/whip/x/1");
        assert_eq!(location_path("/whip/x/1"), "/whip/x/1");
        assert_eq!(location_path("http://host"), "/");
    }
}
