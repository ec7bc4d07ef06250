//! Where the server listens, as `--abci` names it.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// `unix://PATH` or `tcp://IP:PORT`, as CometBFT's `proxy_app` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A socket file.
    Unix(PathBuf),
    /// An address of this machine; port 0 takes a free one.
    Tcp(SocketAddr),
}

/// Why a text is no address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddrError {
    /// Neither `unix://` nor `tcp://`.
    #[error("`{0}` is no ABCI address: write unix://PATH or tcp://IP:PORT")]
    Scheme(String),
    /// `unix://` and nothing.
    #[error(
        "unix:// needs the path of a socket file behind it, e.g. unix:///run/sutantra/abci.sock"
    )]
    NoPath,
    /// A name instead of an address, or no port.
    #[error("`{0}` is no IP address with a port: write e.g. tcp://127.0.0.1:26658")]
    Tcp(String),
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => Err(ListenAddrError::NoPath),
                path => Ok(ListenAddr::Unix(PathBuf::from(path))),
            };
        }
        match text.strip_prefix("tcp://") {
            Some(addr) => {
                let addr = addr.parse().map_err(|_| ListenAddrError::Tcp(addr.to_owned()))?;
                Ok(ListenAddr::Tcp(addr))
            }
            None => Err(ListenAddrError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Unix(path) => write!(f, "unix://{}", path.display()),
            ListenAddr::Tcp(addr) => write!(f, "tcp://{addr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["unix:///run/abci.sock", "unix://abci.sock", "tcp://127.0.0.1:26658"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp://[::1]:0".parse(),
            Ok::<_, ListenAddrError>(ListenAddr::Tcp("[::1]:0".parse().unwrap()))
        );
    }

    #[test]
    fn another_text_is_refused_with_what_to_write() {
        #[track_caller]
        fn check(text: &str, error: ListenAddrError) {
            assert_eq!(text.parse::<ListenAddr>(), Err(error));
        }
        check("", ListenAddrError::Scheme(String::new()));
        check("/run/abci.sock", ListenAddrError::Scheme("/run/abci.sock".to_owned()));
        check("grpc://127.0.0.1:1", ListenAddrError::Scheme("grpc://127.0.0.1:1".to_owned()));
        check("unix://", ListenAddrError::NoPath);
        check("tcp://localhost:26658", ListenAddrError::Tcp("localhost:26658".to_owned()));
        check("tcp://127.0.0.1", ListenAddrError::Tcp("127.0.0.1".to_owned()));
    }
}
