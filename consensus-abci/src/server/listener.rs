//! The two kinds of sockets, and the file of one of them.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ListenAddr, ServerError};

/// Only who runs the application may decide its blocks.
const SOCKET_MODE: u32 = 0o600;

/// A bound socket that takes connections.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// One connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Removed with this value, if it still is the file that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Ends the listener's wait for a connection, from another thread.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Listener {
    /// Binds; a socket file that nobody listens on is replaced.
    pub(super) fn bind(at: &ListenAddr) -> Result<Listener, ServerError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::InUse { at: at.clone() },
            _ => ServerError::Bind { at: at.clone(), source },
        };
        match at {
            ListenAddr::Tcp(addr) => {
                if !addr.ip().is_loopback() {
                    tracing::warn!(
                        %addr,
                        "ABCI knows no passwords: whoever reaches this address can halt the chain. \
                         Keep it behind a firewall, or use a unix socket"
                    );
                }
                Ok(Listener::Tcp(TcpListener::bind(addr).map_err(failed)?))
            }
            ListenAddr::Unix(path) => {
                remove_stale(path, at)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile::of(path).map_err(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
                    .map_err(failed)?;
                Ok(Listener::Unix(listener, file))
            }
        }
    }

    /// As it was bound, with the port that was free.
    pub(super) fn local_addr(&self) -> io::Result<ListenAddr> {
        Ok(match self {
            Listener::Unix(_, file) => ListenAddr::Unix(file.path.clone()),
            Listener::Tcp(listener) => ListenAddr::Tcp(listener.local_addr()?),
        })
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept()?.0)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // Answers are small and asked for one by one: each leaves at once.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        let fd = match self {
            Listener::Unix(listener, _) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        };
        Ok(Waker(fd.try_clone_to_owned()?))
    }
}

impl Waker {
    /// `accept` fails from now on.
    pub(super) fn wake(self) -> io::Result<()> {
        // On Linux, shutting a listening socket down ends accept(2) with EINVAL, of either family.
        // The standard library has no name for it on a listener; the call knows no families.
        UnixStream::from(self.0).shutdown(Shutdown::Both)
    }
}

/// Refuses a path that is in use or no socket.
fn remove_stale(path: &Path, at: &ListenAddr) -> Result<(), ServerError> {
    let failed = |source| ServerError::Bind { at: at.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServerError::InUse { at: at.clone() }),
        // Left by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), inode: inode(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it, and another server may have made its own.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Stream {
    pub(super) fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
        })
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        }
    }

    /// How long one read waits.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    /// How long one write waits for room.
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_write_timeout(Some(timeout)),
            Stream::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // Sockets keep nothing back.
    }
}
