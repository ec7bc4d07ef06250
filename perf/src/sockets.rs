//! Receivers' sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bench::socket::{Gro, Poller, bind_towards};

/// Where a route is asked for; nothing is sent there (RFC 863).
const DISCARD_PORT: u16 = 9;
/// Messages drained by one call.
const BATCH: usize = 64;

/// The sockets of the load's viewers (arrival times, one datagram a message, watched by epoll), so
/// that delivery costs the same; what comes is thrown away.
pub struct Receivers {
    sockets: Vec<UdpSocket>,
    _poller: Poller,
}

impl Receivers {
    /// Binds `count` sockets on free ports of an address of ours.
    pub fn bind(at: Ipv4Addr, count: usize) -> io::Result<Self> {
        let poller = Poller::new()?;
        let bind = |token| {
            let (socket, _) = bind_towards((at, DISCARD_PORT).into(), Gro::Off)?;
            poller.add(&socket, token)?;
            Ok(socket)
        };
        let sockets = (0..count as u64).map(bind).collect::<io::Result<_>>()?;
        Ok(Self { sockets, _poller: poller })
    }

    /// Where they listen.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(UdpSocket::local_addr).collect()
    }

    /// Takes everything that waits and throws it away without copying it; datagrams taken.
    pub fn drain(&self) -> io::Result<u64> {
        let mut total = 0;
        for socket in &self.sockets {
            loop {
                let taken = drain_batch(socket)?;
                total += taken as u64;
                if taken < BATCH {
                    break;
                }
            }
        }
        Ok(total)
    }

    /// One datagram of the first socket, whole; `None` when none waits.
    pub fn take_one(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 2048];
        match self.sockets[0].recv(&mut buffer) {
            Ok(bytes) => {
                buffer.truncate(bytes);
                Ok(Some(buffer))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A socket on `local`, whose port must be open to sharing, connected to `to`.
pub fn connect_from(local: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let (SocketAddr::V4(local), SocketAddr::V4(to)) = (local, to) else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "IPv4 addresses only"));
    };
    // SAFETY: takes three integers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 4 << 20)
        .or_else(|_| set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, 4 << 20))?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: local.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(local.ip().octets()) },
        sin_zero: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a socket address of `len` bytes, read during the call.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.connect(to)?;
    Ok(socket)
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    let from = (&raw const value).cast();
    // SAFETY: `from` points to `value`, which lives through the call, and `size` is its size.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, from, size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn drain_batch(socket: &UdpSocket) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid `mmsghdr`: no name, no parts, no control message; a message
    // without parts is taken from the queue and its bytes are dropped (`MSG_TRUNC`).
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: `messages` holds BATCH valid headers, the descriptor is open, no timeout is given.
    let taken = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            BATCH as u32,
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            std::ptr::null_mut(),
        )
    };
    if taken >= 0 {
        return Ok(taken as usize);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

/// Sends `bytes` as one message of datagrams of `segment_bytes` (UDP GSO) to `to`.
pub fn send_train(
    socket: &UdpSocket,
    to: SocketAddr,
    bytes: &[u8],
    segment_bytes: usize,
) -> io::Result<()> {
    if bytes.len() <= segment_bytes {
        return socket.send_to(bytes, to).map(drop);
    }
    let segment = libc::c_int::try_from(segment_bytes).map_err(io::Error::other)?;
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, segment)?;
    socket.send_to(bytes, to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_arrives_as_single_datagrams_and_is_counted() {
        let receivers = Receivers::bind(Ipv4Addr::LOCALHOST, 2).expect("loopback");
        let to = receivers.addresses().expect("bound");
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        send_train(&sender, to[0], &[7; 250], 100).expect("three datagrams");
        send_train(&sender, to[1], &[8; 100], 100).expect("one datagram");
        assert_eq!(receivers.take_one().expect("it waits"), Some(vec![7; 100]));
        assert_eq!(receivers.drain().expect("they wait"), 3);
        assert_eq!(receivers.take_one().expect("nothing waits"), None);
    }
}
