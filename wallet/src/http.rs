//! One HTTP/1.1 request on one connection (RFC 9112): plain TCP, everything bounded.
//!
//! A client of our own in place of a crate: a wallet on the command line asks its own node or a
//! relay over loopback or a tunnel, a few requests a second; the crates at hand bring a TLS stack
//! and a pool of connections for that.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

/// Nobody waits longer for a connection, or for a byte of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// `http://host[:port][/path]`: where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    authority: String,
    path: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an address that this client can speak to.
    #[error("{0:?} is no address of the form http://host:port (https is not spoken here)")]
    Url(String),
    /// Nobody there, or the connection broke.
    #[error(
        "no answer from http://{authority}: {error}; does the node run, and is this its address?"
    )]
    Io {
        /// Host and port.
        authority: String,
        /// What the system says.
        error: io::Error,
    },
    /// What answers is no HTTP server, or the answer is cut.
    #[error("http://{0} answers something else than HTTP")]
    Malformed(String),
}

/// A request, to be sent once.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, `DELETE`.
    pub method: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// May be empty.
    pub body: &'a [u8],
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// RFC 9110 §15.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Undone from its transfer coding.
    pub body: Vec<u8>,
}

impl FromStr for Url {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !clean(host) || !clean(path) || host.contains('@') {
            return Err(wrong());
        }
        let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { authority, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Url {
    /// The same server, another path (with its leading slash) or an absolute `Location` on it.
    ///
    /// # Errors
    /// A `Location` that leads to something else than plain HTTP.
    pub fn at(&self, location: &str) -> Result<Self, HttpError> {
        match location.starts_with('/') {
            true => Ok(Self { authority: self.authority.clone(), path: location.to_owned() }),
            false => location.parse(),
        }
    }

    /// This address with more path behind it, `segment` with its leading slash.
    #[must_use]
    pub fn join(&self, segment: &str) -> Self {
        Self { authority: self.authority.clone(), path: format!("{}{segment}", self.path) }
    }

    /// The first address of the host.
    ///
    /// # Errors
    /// No such host.
    pub fn resolve(&self) -> Result<SocketAddr, HttpError> {
        let mut addresses = self.authority.to_socket_addrs().map_err(|error| self.io(error))?;
        let none = || self.io(io::Error::new(io::ErrorKind::NotFound, "no such host"));
        addresses.next().ok_or_else(none)
    }

    fn io(&self, error: io::Error) -> HttpError {
        HttpError::Io { authority: self.authority.clone(), error }
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// See [`HttpError`]; an answer of any status is none.
    pub fn send(&self, request: Request<'_>) -> Result<Answer, HttpError> {
        let Request { method, headers, body } = request;
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.authority);
        for (name, value) in headers {
            assert!(!value.contains(['\r', '\n']), "a header value is one line");
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let exchange = || {
            let mut stream = TcpStream::connect_timeout(&self.address()?, ANSWER_MAX)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.set_write_timeout(Some(ANSWER_MAX))?;
            stream.write_all(&[head.as_bytes(), body].concat())?;
            let mut bytes = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = exchange().map_err(|error| self.io(error))?;
        parse_answer(&bytes).ok_or_else(|| HttpError::Malformed(self.authority.clone()))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no such host");
        self.authority.to_socket_addrs()?.next().ok_or_else(none)
    }
}

impl Answer {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text, for people.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let head_bytes = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_bytes]).ok()?;
    let body = &bytes[head_bytes + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(field).collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    let chunked = answer
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    answer.body = match (chunked, answer.header("content-length")) {
        (true, _) => join_chunks(body)?,
        (false, Some(length)) => body.get(..length.parse().ok()?)?.to_vec(),
        (false, None) => body.to_vec(),
    };
    Some(answer)
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

    #[test]
    fn an_answer_is_read_with_length_with_chunks_or_to_the_end() {
        #[track_caller]
        fn check(bytes: &str, expected: Option<(u16, &str)>) {
            let parsed = parse_answer(bytes.as_bytes());
            let seen = parsed.as_ref().map(|answer| (answer.status, answer.text()));
            let seen = seen.as_ref().map(|(status, body)| (*status, body.as_ref()));
            assert_eq!(seen, expected, "{bytes:?}");
        }
        check("HTTP/1.1 402 X\r\ncontent-length: 3\r\n\r\nv=0", Some((402, "v=0")));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n";
        check(chunks, Some((200, "abcde")));
        check("HTTP/1.0 404 Not Found\r\n\r\nno", Some((404, "no")));
        check("HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\nv=0", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", None);
        let huge = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na";
        check(huge, None);
        check("SSH-2.0-x\r\n\r\n", None);
        check("", None);
    }

    #[test]
    fn an_address_is_http_host_port_and_path() {
        #[track_caller]
        fn check(url: &str, expected: Option<&str>) {
            let read = url.parse::<Url>().ok().map(|url| url.to_string());
            assert_eq!(read.as_deref(), expected, "{url}");
        }
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080"));
        check("http://127.0.0.1:8080/rpc/", Some("http://127.0.0.1:8080/rpc"));
        check("http://relay.example", Some("http://relay.example:80"));
        check("http://[::1]", Some("http://[::1]:80"));
        check("http://[::1]:8080", Some("http://[::1]:8080"));
        for refused in ["https://relay.example", "http://", "relay:80", "http://a b", "http://u@h"]
        {
            check(refused, None);
        }
        let base: Url = "http://h:1/x".parse().expect("an address");
        assert_eq!(base.at("/whep/1").expect("a path").to_string(), "http://h:1/whep/1");
        assert_eq!(base.at("http://g:2/y").expect("absolute").to_string(), "http://g:2/y");
        assert_eq!(base.join("/pay").to_string(), "http://h:1/x/pay");
        assert!(base.at("https://g/y").is_err());
    }
}
