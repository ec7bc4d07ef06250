//! Which STUN and TURN servers there are: URLs (RFC 7064, RFC 7065) and `iceServers` objects.

use std::fmt;

use serde_json::Value;

/// How a TURN server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// A server, ready to be resolved.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum IceServer {
    /// Tells a client its address.
    Stun {
        /// Name or address.
        host: String,
        /// 3478 where the URL says none.
        port: u16,
    },
    /// Relays.
    Turn {
        /// Name or address.
        host: String,
        /// 3478 where the URL says none.
        port: u16,
        /// UDP where the URL says none.
        transport: Transport,
        /// Of the long-term credentials (RFC 8489 §9.2).
        username: String,
        /// The other half, never printed.
        password: String,
    },
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IceServer::Stun { host, port } => write!(f, "stun:{host}:{port}"),
            IceServer::Turn { host, port, transport, username, password: _ } => {
                write!(f, "turn:{username}:…@{host}:{port} ({transport:?})")
            }
        }
    }
}

/// Why a URL names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Neither `stun:` nor `turn:`.
    #[error("`{0}` is neither stun:host:port nor turn:user:password@host:port")]
    Scheme(String),
    /// TLS to a TURN server is not spoken.
    #[error("`{0}`: TURN over TLS is not supported, name it as turn:…?transport=tcp or udp")]
    Tls(String),
    /// Host or port cannot be read.
    #[error("`{0}`: after the scheme comes a host, and a port where it is not 3478")]
    Address(String),
    /// TURN needs a user and a password.
    #[error("`{0}`: a TURN server needs credentials, as turn:user:password@host:port")]
    Credentials(String),
    /// `transport=` is neither `udp` nor `tcp`.
    #[error("`{0}`: transport is udp or tcp")]
    Transport(String),
}

const PORT: u16 = 3478;

impl IceServer {
    /// Reads a URL, with `user:password@` in it as the flag `--turn` has it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        Self::with_credentials(url, None)
    }

    /// Reads the servers of an `iceServers` list, or of `/nodes`: objects with `urls` (one or many),
    /// or bare URLs. Those that cannot be used are given with the reason.
    pub fn from_json(list: &Value) -> Vec<Result<Self, ServerError>> {
        let entries = list.as_array().map_or(&[][..], Vec::as_slice);
        entries.iter().flat_map(Self::from_entry).collect()
    }

    fn from_entry(entry: &Value) -> Vec<Result<Self, ServerError>> {
        let urls = entry.get("urls").or_else(|| entry.get("url")).unwrap_or(entry);
        let urls: Vec<&str> = match urls {
            Value::Array(urls) => urls.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let field = |name| entry.get(name).and_then(Value::as_str);
        let credentials = field("username").zip(field("credential"));
        urls.into_iter().map(|url| Self::with_credentials(url, credentials)).collect()
    }

    fn with_credentials(url: &str, credentials: Option<(&str, &str)>) -> Result<Self, ServerError> {
        let (scheme, rest) =
            url.split_once(':').ok_or_else(|| ServerError::Scheme(url.to_owned()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "stun" => {
                let (host, port) = host_and_port(rest, url)?;
                Ok(IceServer::Stun { host, port })
            }
            "turn" => {
                // The URL may hold a password, so no error below shows more than the address.
                let (own, address) = match rest.rsplit_once('@') {
                    Some((own, address)) => (own.split_once(':'), address),
                    None => (None, rest),
                };
                let shown = format!("turn:{address}");
                let (host, port) = host_and_port(address, &shown)?;
                let transport = match query {
                    "" | "transport=udp" => Transport::Udp,
                    "transport=tcp" => Transport::Tcp,
                    _ => return Err(ServerError::Transport(shown)),
                };
                let (username, password) =
                    own.or(credentials).ok_or(ServerError::Credentials(shown))?;
                let (username, password) = (username.to_owned(), password.to_owned());
                Ok(IceServer::Turn { host, port, transport, username, password })
            }
            "turns" | "stuns" => Err(ServerError::Tls(format!("{scheme}:…"))),
            _ => Err(ServerError::Scheme(format!("{scheme}:…"))),
        }
    }
}

fn host_and_port(address: &str, shown: &str) -> Result<(String, u16), ServerError> {
    let error = || ServerError::Address(shown.to_owned());
    let (host, port) = match address.strip_prefix('[') {
        // An IPv6 address stands in brackets, before a port or not.
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(error)?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(error)?)
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = if port.is_empty() { Ok(PORT) } else { port.parse().map_err(|_| error()) }?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) || port == 0 {
        return Err(error());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(url: &str, want: &str) {
        let got = match IceServer::parse(url) {
            Ok(server) => format!("{server:?}"),
            Err(error) => format!("{error:?}").split('(').next().unwrap().to_owned(),
        };
        assert_eq!(got, want, "{url}");
    }

    /// R84
    #[test]
    fn a_url_names_a_server_or_is_refused_by_name() {
        check("stun:stun.example.org:19302", "stun:stun.example.org:19302");
        check("stun:stun.example.org", "stun:stun.example.org:3478");
        check("stun:[2001:db8::1]:99", "stun:2001:db8::1:99");
        check("turn:me:secret@example.org:3479", "turn:me:…@example.org:3479 (Udp)");
        check("turn:me:p@ss@192.0.2.1?transport=tcp", "turn:me:…@192.0.2.1:3478 (Tcp)");
        check("turn:example.org", "Credentials");
        check("turn:me@example.org", "Credentials");
        check("turn:me:secret@example.org?transport=sctp", "Transport");
        check("turns:me:secret@example.org", "Tls");
        check("http://example.org", "Scheme");
        check("example.org", "Scheme");
        check("stun:", "Address");
        check("stun:host:port", "Address");
        check("stun:host:0", "Address");
        check("stun:a b", "Address");
        check("stun:[::1", "Address");
    }

    #[test]
    fn no_error_shows_a_password() {
        for url in ["turn:me:secret@ho st", "turn:me:secret@host?x", "turns:me:secret@host"] {
            let error = IceServer::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    /// R118
    #[test]
    fn the_join_answers_list_is_read_in_each_form() {
        let list = json!([
            { "urls": "stun:a" },
            { "urls": ["turn:b", "turn:b?transport=tcp"], "username": "u", "credential": "c" },
            "stun:d:1",
            { "urls": "turn:e" },
        ]);
        let got: Vec<_> =
            IceServer::from_json(&list).into_iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(
            got,
            [
                "Ok(stun:a:3478)",
                "Ok(turn:u:…@b:3478 (Udp))",
                "Ok(turn:u:…@b:3478 (Tcp))",
                "Ok(stun:d:1)",
                "Err(Credentials(\"turn:e\"))",
            ]
        );
    }
}
