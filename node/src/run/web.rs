//! HTTP's listener, its certificate, and the address that other machines are told.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, TlsChoice},
    lan::{self, Authority},
    tls::{self, Tls},
};

/// Takes the address of HTTP.
pub fn bind(at: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(at).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "TCP port {} on {} is taken by another process; choose another with --http",
            at.port(),
            at.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("not allowed to bind TCP port {}; choose one above 1023 with --http", at.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("this host has no address {}; choose another with --http", at.ip())
        }
        _ => anyhow!("cannot listen on {at}: {error}"),
    })?;
    listener.set_nonblocking(true).context("the HTTP listener")?;
    Ok(listener)
}

/// What HTTPS needs, if it is spoken.
pub struct Web {
    pub tls: Option<Tls>,
    files: Option<(PathBuf, PathBuf)>,
    pub authority: Option<Arc<Authority>>,
}

impl Web {
    /// Reads or makes the certificate.
    pub fn prepare(config: &Config, home: &Path) -> anyhow::Result<Self> {
        let plain = Self { tls: None, files: None, authority: None };
        Ok(match &config.tls {
            TlsChoice::Plain => plain,
            TlsChoice::Files { cert, key } => {
                let tls = Some(Tls::new(tls::read_files(cert, key)?));
                Self { tls, files: Some((cert.clone(), key.clone())), ..plain }
            }
            TlsChoice::Lan => {
                let now = SystemTime::now();
                let authority = Authority::open(home, now)?;
                let leaf = authority.issue(&sfu::io::host_addresses(), now)?;
                Self { tls: Some(Tls::new(leaf)), authority: Some(Arc::new(authority)), ..plain }
            }
        })
    }

    /// Of addresses.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Exchanges the certificate when SIGHUP says so, or the host's addresses do.
    pub fn keep_fresh(&self) -> anyhow::Result<()> {
        // Always taken: unhandled, a closed terminal would end the process without a goodbye.
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let files = self.tls.clone().zip(self.files.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match &files {
                    None => {}
                    Some((tls, (cert, key))) => match tls.reload(cert, key) {
                        Ok(()) => tracing::info!("certificate read again"),
                        Err(error) => tracing::error!(%error, "the old certificate stays in use"),
                    },
                }
            }
        });
        if let Some(tls) = self.tls.clone()
            && let Some(authority) = self.authority.clone()
        {
            tokio::spawn(lan::keep_fresh(authority, tls));
        }
        Ok(())
    }
}

/// An address at which this host reaches itself.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Host and port for other machines, where HTTP is bound to all addresses; with `authority` one
/// that its certificate names.
pub fn shown_authority(bound: SocketAddr, host: &[IpAddr], authority: bool) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let listens = |ip: &&IpAddr| ip.is_ipv4() || bound.is_ipv6();
    let named = |ip: &&IpAddr| !authority || lan::is_local(**ip);
    match host.iter().filter(listens).filter(named).find(|ip| !ip.is_loopback()) {
        Some(ip) => SocketAddr::new(*ip, bound.port()),
        None => reachable(bound),
    }
}
