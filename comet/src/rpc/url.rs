//! Addresses of RPC endpoints, as people and CometBFT's own tools write them.

use std::{fmt, str::FromStr};

use ureq::http::Uri;

/// `http://HOST:PORT`, `https://HOST` or CometBFT's own `tcp://HOST:PORT`, with a path if it is
/// behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RpcUrl {
    /// Host as it stands in the address, an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    /// Ends without a slash.
    path: String,
}

/// An address that no RPC can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an address at all.
    #[error("{0:?} is no address: write http://HOST:PORT, such as http://127.0.0.1:26657")]
    Syntax(String),
    /// Something else than HTTP.
    #[error("{0:?}: write http://, https:// or tcp:// before the host")]
    Scheme(String),
    /// Names and passwords would end up in logs.
    #[error("the address of {0} has a name or password before the host: leave that out")]
    Credentials(String),
}

impl RpcUrl {
    /// The address that calls are posted to.
    pub(super) fn http(&self) -> String {
        // Behind a proxy the path is where the RPC begins: with a slash more it may be another one.
        self.with_scheme("http", if self.path.is_empty() { "/" } else { "" })
    }

    /// The address of the events.
    pub(super) fn websocket(&self) -> String {
        self.with_scheme("ws", "/websocket")
    }

    fn with_scheme(&self, scheme: &str, last: &str) -> String {
        let tls = if self.is_tls { "s" } else { "" };
        format!("{scheme}{tls}://{}:{}{}{last}", self.host, self.port, self.path)
    }

    /// Host as name resolution wants it.
    pub(super) fn host_name(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }
}

impl FromStr for RpcUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let syntax = || UrlError::Syntax(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| syntax())?;
        let is_tls = match uri.scheme_str() {
            Some("http" | "tcp") => false,
            Some("https") => true,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let authority = uri.authority().ok_or_else(syntax)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials(authority.host().to_owned()));
        }
        if authority.host().is_empty() || uri.query().is_some() {
            return Err(syntax());
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|port| *port != 0).ok_or_else(syntax)?,
            // Something stands there that is no port.
            None if authority.as_str() != authority.host() => return Err(syntax()),
            None if is_tls => 443,
            None => 80,
        };
        let host = authority.host().to_owned();
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, is_tls, path })
    }
}

impl fmt::Display for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_scheme("http", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str), UrlError>) {
        let found = text.parse::<RpcUrl>().map(|url| (url.http(), url.websocket()));
        let expected = expected.map(|(http, ws)| (http.to_owned(), ws.to_owned()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn an_address_is_read_as_people_write_it() {
        check(
            "http://127.0.0.1:26657",
            Ok(("http://127.0.0.1:26657/", "ws://127.0.0.1:26657/websocket")),
        );
        check("tcp://[::1]:1/", Ok(("http://[::1]:1/", "ws://[::1]:1/websocket")));
        check(
            "https://rpc.example/cosmos/",
            Ok(("https://rpc.example:443/cosmos", "wss://rpc.example:443/cosmos/websocket")),
        );
        check("http://host", Ok(("http://host:80/", "ws://host:80/websocket")));
    }

    #[test]
    fn an_address_that_no_rpc_can_have_is_refused() {
        check("", Err(UrlError::Syntax(String::new())));
        check("127.0.0.1:26657", Err(UrlError::Scheme("127.0.0.1:26657".into())));
        check("unix:///run/rpc.sock", Err(UrlError::Syntax("unix:///run/rpc.sock".into())));
        check("ftp://host", Err(UrlError::Scheme("ftp://host".into())));
        check("http://me:secret@host", Err(UrlError::Credentials("host".into())));
        check("http://host:0", Err(UrlError::Syntax("http://host:0".into())));
        check("http://host:99999", Err(UrlError::Syntax("http://host:99999".into())));
        check("http://host/?a=b", Err(UrlError::Syntax("http://host/?a=b".into())));
    }
}
