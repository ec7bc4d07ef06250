//! A TCP connection to an endpoint, inside TLS where its address says so.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs,
    pki_types::ServerName,
};

use super::url::RpcUrl;

/// Nobody there after so long.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Tries each address that the host's name has.
    pub(super) fn connect(url: &RpcUrl) -> io::Result<Self> {
        let mut failure = io::Error::other("the host's name has no address");
        for address in (url.host_name(), url.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
                Ok(tcp) => return Self::over(tcp, url),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn over(tcp: TcpStream, url: &RpcUrl) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        if !url.is_tls {
            return Ok(Self::Plain(tcp));
        }
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(url.host_name().to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, tcp))))
    }

    /// How long a read or a write may wait.
    pub(super) fn set_waits(&self, read: Duration, write: Duration) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        };
        tcp.set_read_timeout(Some(read))?;
        tcp.set_write_timeout(Some(write))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(from),
            Self::Tls(tls) => tls.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
