//! A TCP connection that never blocks: connected from an address of choice, with what waits to be
//! written and what is not yet read whole.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One connection.
pub struct Link {
    stream: TcpStream,
    /// What has come and is not consumed; empty, and without memory, while nothing is underway.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    written_bytes: usize,
}

/// What a turn of reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Perhaps something, and the connection goes on.
    Open,
    /// The other side has closed.
    Closed,
}

impl Link {
    /// Begins to connect to `to`, from `from` where one is named.
    ///
    /// # Errors
    /// No descriptor, no such address, or a refusal that is known at once.
    pub fn connect(from: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<Self> {
        let stream = connect(from, to)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), written_bytes: 0 })
    }

    /// For epoll.
    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Where to append what is to be sent; [`flush`](Self::flush) sends it.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.len() - self.written_bytes
    }

    /// Writes what the kernel takes; true when all is written.
    ///
    /// # Errors
    /// The connection failed, or could not be made.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.written_bytes < self.outbox.len() {
            match self.stream.write(&self.outbox[self.written_bytes..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written_bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Not connected yet: the poll says when it is.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written_bytes = 0;
        // Thousands of idle connections keep no buffer.
        self.outbox = Vec::new();
        Ok(true)
    }

    /// Reads what is there and gives it to `consume`, which says how many bytes it has used up; the
    /// rest is kept for the next turn. `scratch` is shared by all connections.
    ///
    /// # Errors
    /// The connection failed, or `consume` did.
    pub fn read<E: From<io::Error>>(
        &mut self,
        scratch: &mut [u8],
        mut consume: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<Came, E> {
        loop {
            let bytes = match self.stream.read(scratch) {
                Ok(0) => return Ok(Came::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Came::Open),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if self.inbox.is_empty() {
                let used = consume(&scratch[..bytes])?;
                self.inbox.extend_from_slice(&scratch[used..bytes]);
            } else {
                self.inbox.extend_from_slice(&scratch[..bytes]);
                let used = consume(&self.inbox)?;
                match used == self.inbox.len() {
                    true => self.inbox = Vec::new(),
                    false => drop(self.inbox.drain(..used)),
                }
            }
            if bytes < scratch.len() {
                return Ok(Came::Open); // The kernel had no more; level-triggered polls tell of new.
            }
        }
    }
}

fn connect(from: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointer is passed.
    let descriptor = checked(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    if let (Some(from), IpAddr::V4(_)) = (from, to.ip()) {
        let on: libc::c_int = 1;
        // The port is chosen at the connect, by both ends: a source address is good for more than
        // the ports that are free on it.
        // SAFETY: `on` is a valid int of the length that is passed.
        checked(unsafe {
            libc::setsockopt(
                descriptor,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        let (address, length) = raw_address(SocketAddr::from((from, 0)));
        // SAFETY: `address` is a valid socket address of `length` bytes.
        checked(unsafe { libc::bind(descriptor, (&raw const address).cast(), length) })?;
    }
    let (address, length) = raw_address(to);
    // SAFETY: `address` is a valid socket address of `length` bytes.
    match checked(unsafe { libc::connect(descriptor, (&raw const address).cast(), length) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from(socket))
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid `sockaddr_storage`.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for every socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: the storage is large enough and aligned for every socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_comes_in_pieces_is_consumed_whole_and_the_source_is_the_one_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let to = listener.local_addr().expect("bound");
        let from = Ipv4Addr::new(127, 0, 3, 7);
        let mut link = Link::connect(Some(from), to).expect("loopback");
        link.outbox().extend_from_slice(b"hello");
        let (mut other, seen_from) = listener.accept().expect("it comes");
        assert_eq!(seen_from.ip(), IpAddr::V4(from));
        while !link.flush().expect("it is connected") {}
        let mut hello = [0; 5];
        other.read_exact(&mut hello).expect("it was sent");
        assert_eq!((&hello, link.waiting_bytes()), (b"hello", 0));
        // Pairs are consumed; an odd byte waits for the next.
        let mut scratch = [0; 64];
        let mut pairs = Vec::new();
        let mut turn = |link: &mut Link, until: usize| {
            while pairs.len() < until {
                let came = link.read::<io::Error>(&mut scratch, |bytes| {
                    pairs.extend(bytes.chunks_exact(2).map(<[u8]>::to_vec));
                    Ok(bytes.len() / 2 * 2)
                });
                assert_eq!(came.expect("it is open"), Came::Open);
            }
            pairs.len()
        };
        other.write_all(b"abc").expect("it is open");
        assert_eq!(turn(&mut link, 1), 1);
        other.write_all(b"d").expect("it is open");
        assert_eq!(turn(&mut link, 2), 2);
        assert_eq!(pairs, [b"ab", b"cd"]);
        drop(other);
        let closed = loop {
            match link.read::<io::Error>(&mut scratch, |bytes| Ok(bytes.len())) {
                Ok(Came::Open) => {}
                other => break other,
            }
        };
        assert_eq!(closed.expect("no error"), Came::Closed);
    }
}
