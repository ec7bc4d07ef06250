//! A process's UDP sockets: per shard one for each local address, all shards on the same ports.
//!
//! `SO_REUSEPORT` lets shards share a port, and would let a second process of the same user share
//! it too, silently, and take a part of the flows. So the first socket of a port is bound *without*
//! it, which the kernel grants to one process only, and gets the option afterwards, still bound;
//! from there on its siblings may join, while another process, whose own first bind is exclusive,
//! is refused. The bound socket is itself the lock: there is no moment between a probe and the real
//! bind, no file that survives a crash, nothing to name after a data directory, it knows that
//! `0.0.0.0:7443` and `127.0.0.1:7443` collide, and `kill -9` frees it.
//!
//! Not at once, though: the kernel takes the io_uring of a process that ended down in the
//! background, and with it the sockets registered there (some 40 ms measured). A successor started
//! in that moment waits for it, up to [`TAKEN_PATIENCE`].

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use super::Waker;
use super::message::{SOCKET_ADDRESS_BYTES, decode_address, encode_address};

/// What each socket's receive and send buffers are raised to: one second of 32 Mb/s, should the
/// shard stall. What comes beyond it is lost and NACKed.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// How long a taken port is tried again before it counts as another's (see the module's header).
pub const TAKEN_PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries.
const TAKEN_RETRY: Duration = Duration::from_millis(5);

/// A local address that peers reach us on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the socket. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Address that ICE candidates name; differs from `bind` behind a static NAT. Port 0 stands
    /// for the port that was bound.
    pub advertise: SocketAddr,
}

/// Why the sockets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port belongs to another process, or another user's.
    #[error(
        "UDP port {port} on {address} is taken by another process; choose another with --udp-port"
    )]
    Taken {
        /// Local address.
        address: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// No interface of this host has the address, or its family is switched off. A caller that
    /// tries every address of the host passes over this one.
    #[error("this host has no address {address} to bind UDP port {port} on")]
    NoSuchAddress {
        /// Local address.
        address: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// A port below 1024 without the right to it.
    #[error(
        "not allowed to bind UDP port {port} on {address}; choose one above 1023 with --udp-port"
    )]
    Denied {
        /// Local address.
        address: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// Neither endpoints nor shards may be none.
    #[error("{endpoints} endpoints for {shards} shards: there must be one of each at least")]
    Nothing {
        /// Endpoints asked for.
        endpoints: usize,
        /// Shards asked for.
        shards: usize,
    },
    /// Any other refusal, such as a lack of file descriptors.
    #[error("{call} for UDP port {port} on {address}: {source}")]
    System {
        /// Local address.
        address: IpAddr,
        /// UDP port.
        port: u16,
        /// System call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Bytes of a socket's buffers as the kernel granted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferBytes {
    /// `SO_RCVBUF`.
    pub receive: usize,
    /// `SO_SNDBUF`.
    pub send: usize,
}

/// One shard's sockets, in the order of the endpoints, with the waker of the link to be made of
/// them.
#[derive(Debug)]
pub struct ShardSockets {
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) waker: Waker,
    buffer_bytes: BufferBytes,
}

impl ShardSockets {
    /// The smallest buffers among the sockets. Less than [`SOCKET_BUFFER_BYTES`] means that
    /// `net.core.rmem_max` or `wmem_max` caps them and bursts are lost sooner.
    pub fn buffer_bytes(&self) -> BufferBytes {
        self.buffer_bytes
    }

    /// Wakes the link that these sockets go to, from before it exists.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn new(sockets: Vec<UdpSocket>) -> io::Result<ShardSockets> {
        let buffer_bytes = smallest_buffers(&sockets)?;
        Ok(ShardSockets { sockets, waker: Waker::new()?, buffer_bytes })
    }

    pub(super) fn raw_fds(&self) -> Vec<RawFd> {
        self.sockets.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// Opens one socket per endpoint and shard; all shards share the endpoints' ports.
///
/// Gives the endpoints back with their real ports in place of 0, and `shards` sets of sockets: UDP
/// GRO on, IPv6 only on IPv6 addresses, the don't-fragment bit on whatever fits the path's MTU,
/// buffers of [`SOCKET_BUFFER_BYTES`] if the system grants them.
///
/// # Errors
/// The first refusal, for a taken port after [`TAKEN_PATIENCE`]; nothing stays bound then.
pub fn bind_shards(
    endpoints: &[Endpoint],
    shards: usize,
) -> Result<(Vec<Endpoint>, Vec<ShardSockets>), BindError> {
    if endpoints.is_empty() || shards == 0 {
        return Err(BindError::Nothing { endpoints: endpoints.len(), shards });
    }
    let mut bound = Vec::with_capacity(endpoints.len());
    let mut columns = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let (port, sockets) = bind_port(endpoint.bind, shards)?;
        bound.push(with_port(*endpoint, port));
        columns.push(sockets.into_iter());
    }
    let at = endpoints[0].bind;
    let rows = (0..shards).map(|_| {
        let sockets: Vec<UdpSocket> = columns.iter_mut().filter_map(Iterator::next).collect();
        ShardSockets::new(sockets).map_err(|source| system(at, "eventfd or getsockopt", source))
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok((bound, rows))
}

fn with_port(mut endpoint: Endpoint, port: u16) -> Endpoint {
    endpoint.bind.set_port(port);
    if endpoint.advertise.port() == 0 {
        endpoint.advertise.set_port(port);
    }
    endpoint
}

/// One socket per shard on one port; the first is bound alone (see the module's header).
fn bind_port(at: SocketAddr, shards: usize) -> Result<(u16, Vec<UdpSocket>), BindError> {
    let first = open(at)?;
    bind_alone(&first, at)?;
    let at = first.local_addr().map_err(|source| system(at, "getsockname", source))?;
    share_port(&first, at)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        let next = open(at)?;
        share_port(&next, at)?;
        bind(&next, at)?;
        sockets.push(next);
    }
    Ok((at.port(), sockets))
}

/// An unbound socket with all options but `SO_REUSEPORT`. It blocks; every call on it says
/// `MSG_DONTWAIT`, because io_uring gives up on a non-blocking file where it should wait.
fn open(at: SocketAddr) -> Result<UdpSocket, BindError> {
    let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes three integers, no memory.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => {
                BindError::NoSuchAddress { address: at.ip(), port: at.port() }
            }
            _ => system(at, "socket", error),
        });
    }
    // SAFETY: `fd` is a fresh descriptor that nobody else owns.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let set = |level, name, value| {
        set_option(&socket, level, name, value).map_err(|e| system(at, "setsockopt", e))
    };
    match at {
        SocketAddr::V4(_) => {
            set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT)?;
        }
        SocketAddr::V6(_) => {
            set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT)?;
        }
    }
    // A kernel without GRO for UDP (before 5.0, gVisor) costs speed only.
    let _ = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    raise_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
    raise_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
    Ok(socket)
}

/// Past the system's limit where we may, else up to it; what came of it is in [`BufferBytes`].
fn raise_buffer(socket: &UdpSocket, force: i32, plain: i32) {
    let bytes = i32::try_from(SOCKET_BUFFER_BYTES).expect("a few MiB");
    if set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
        let _ = set_option(socket, libc::SOL_SOCKET, plain, bytes);
    }
}

fn share_port(socket: &UdpSocket, at: SocketAddr) -> Result<(), BindError> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
        .map_err(|source| system(at, "setsockopt SO_REUSEPORT", source))
}

fn bind_alone(socket: &UdpSocket, at: SocketAddr) -> Result<(), BindError> {
    let started = Instant::now();
    loop {
        match bind(socket, at) {
            Err(BindError::Taken { .. }) if started.elapsed() < TAKEN_PATIENCE => {
                thread::sleep(TAKEN_RETRY);
            }
            outcome => return outcome,
        }
    }
}

fn bind(socket: &UdpSocket, at: SocketAddr) -> Result<(), BindError> {
    let mut bytes = [0; SOCKET_ADDRESS_BYTES];
    let len = encode_address(at, &mut bytes);
    // SAFETY: `bytes` holds a socket address of `len` bytes, read only during the call; the
    // kernel copies it and asks for no alignment.
    let result = unsafe { libc::bind(socket.as_raw_fd(), bytes.as_ptr().cast(), len) };
    if result == 0 {
        return Ok(());
    }
    let (address, port) = (at.ip(), at.port());
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EADDRINUSE) => BindError::Taken { address, port },
        Some(libc::EADDRNOTAVAIL) => BindError::NoSuchAddress { address, port },
        Some(libc::EACCES) => BindError::Denied { address, port },
        _ => system(at, "bind", error),
    })
}

fn system(at: SocketAddr, call: &'static str, source: io::Error) -> BindError {
    BindError::System { address: at.ip(), port: at.port(), call, source }
}

fn smallest_buffers(sockets: &[UdpSocket]) -> io::Result<BufferBytes> {
    let mut smallest = BufferBytes { receive: usize::MAX, send: usize::MAX };
    for socket in sockets {
        // The kernel doubles what was asked for, to cover its own bookkeeping (socket(7)).
        let granted = |name| option(socket, name).map(|bytes| bytes / 2);
        smallest.receive = smallest.receive.min(granted(libc::SO_RCVBUF)?);
        smallest.send = smallest.send.min(granted(libc::SO_SNDBUF)?);
    }
    Ok(smallest)
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is an integer of `len` bytes, read only during the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option(socket: &UdpSocket, name: i32) -> io::Result<usize> {
    let mut value = 0_i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` has room for the `len` bytes that the kernel may write.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0))
}

/// Addresses of this host's running interfaces: public and private ones first, loopback
/// ([`IpAddr::is_loopback`]) last, IPv4 before IPv6, each once. Link-local IPv6 addresses are left
/// out: a candidate cannot name the interface that they need.
///
/// Empty if the system does not say.
pub fn host_addresses() -> Vec<IpAddr> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the kernel's answer is a list that is ours until freed below.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list, which is not freed yet.
        let interface = unsafe { &*next };
        next = interface.ifa_next;
        if interface.ifa_flags & libc::IFF_UP as u32 == 0 || interface.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: every socket address starts with its family, and the family gives its size.
        let bytes = unsafe {
            let len = match i32::from((*interface.ifa_addr).sa_family) {
                libc::AF_INET => size_of::<libc::sockaddr_in>(),
                libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
                _ => continue,
            };
            std::slice::from_raw_parts(interface.ifa_addr.cast::<u8>(), len)
        };
        addresses.extend(decode_address(bytes).map(|address| address.ip()));
    }
    // SAFETY: `list` came from `getifaddrs` and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    addresses.retain(|ip| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    });
    addresses.sort_by_key(|ip| (ip.is_loopback(), *ip));
    addresses.dedup();
    addresses
}
