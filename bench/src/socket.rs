//! UDP sockets in number: batched receive with kernel arrival times, readiness by epoll.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams taken by one system call.
const BATCH: usize = 64;
/// Room for one datagram, or for one train of them under GRO.
const DATAGRAM_BYTES: usize = 2048;
const TRAIN_BYTES: usize = 65_536;
/// Receive buffer asked for; the kernel caps it at `net.core.rmem_max`.
const SOCKET_BUFFER_BYTES: libc::c_int = 1 << 20;
const CONTROL_WORDS: usize = 16;
/// Position of the drop counter in `SO_MEMINFO` (`linux/sock_diag.h`, `SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;

/// `CLOCK_MONOTONIC` in ns: what the packets of publisher and viewers are stamped with.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// What to subtract from a kernel arrival time (`CLOCK_REALTIME`) to have `CLOCK_MONOTONIC`.
pub fn realtime_offset_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME).saturating_sub(monotonic_ns())
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Whether a socket takes trains of datagrams as one message (UDP GRO). Over loopback this spares
/// the sender the cutting of its GSO messages, which a real path does not: off unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gro {
    /// One datagram a message.
    Off,
    /// Trains.
    On,
}

/// Binds a non-blocking socket on the address from which `server` is reached.
pub fn bind_towards(server: SocketAddr, gro: Gro) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connecting a UDP socket sends nothing: it asks the kernel for the route.
    let route = UdpSocket::bind(any)?;
    route.connect(server)?;
    let socket = UdpSocket::bind((route.local_addr()?.ip(), 0))?;
    socket.set_nonblocking(true)?;
    set_receive_buffer(&socket, SOCKET_BUFFER_BYTES)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    if gro == Gro::On {
        set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    }
    let local = socket.local_addr()?;
    Ok((socket, local))
}

/// Asks for a receive buffer of `bytes`; the kernel caps it silently.
pub fn set_receive_buffer(socket: &UdpSocket, bytes: libc::c_int) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

fn set_option(
    socket: &UdpSocket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to `value`, which lives through the call, and `size` is its size.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the kernel dropped because this socket's buffer was full: our fault, not the
/// server's.
pub fn dropped_datagrams(socket: &UdpSocket) -> u64 {
    let mut info = [0_u32; MEMINFO_DROPS + 1];
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` has `size` writable bytes and the kernel writes at most that many.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &mut size,
        )
    };
    if done == 0 { u64::from(info[MEMINFO_DROPS]) } else { 0 }
}

/// One message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Sender.
    pub from: SocketAddr,
    /// One datagram, or several of `segment_bytes` (the last may be shorter).
    pub bytes: &'a [u8],
    /// Size of each datagram but the last.
    pub segment_bytes: usize,
    /// Kernel arrival time, `CLOCK_REALTIME` ns; 0 when the kernel gave none.
    pub arrived_realtime_ns: u64,
}

/// Room for one `recvmmsg`, used again and again.
pub struct Batch {
    room_bytes: usize,
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    lengths: Vec<(usize, usize, i32)>,
}

impl Batch {
    /// Room for the datagrams, or trains, of sockets bound with `gro`.
    pub fn new(gro: Gro) -> Self {
        let room_bytes = if gro == Gro::On { TRAIN_BYTES } else { DATAGRAM_BYTES };
        // SAFETY: all zeroes is a valid `sockaddr_storage` (family AF_UNSPEC).
        let name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        Self {
            room_bytes,
            buffers: vec![0; room_bytes * BATCH],
            names: vec![name; BATCH],
            controls: vec![[0; CONTROL_WORDS]; BATCH],
            lengths: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what waits on `socket`, up to a batch; false when the batch was not filled.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.lengths.clear();
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
            iov_base: self.buffers[at * self.room_bytes..].as_mut_ptr().cast(),
            iov_len: self.room_bytes,
        });
        // SAFETY: all zeroes is a valid `mmsghdr`: null pointers with length 0.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (at, message) in messages.iter_mut().enumerate() {
            message.msg_hdr.msg_name = (&raw mut self.names[at]).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            message.msg_hdr.msg_iov = &raw mut parts[at];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = self.controls[at].as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        // SAFETY: every header points to memory of `self` and of this frame with its true length,
        // each part of it used by one header only; nothing moves before the call returns.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if taken < 0 {
            let error = io::Error::last_os_error();
            // ECONNREFUSED is an earlier send of ours coming back: the session will time out.
            let nothing = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::Interrupted
            );
            return if nothing { Ok(false) } else { Err(error) };
        }
        for message in &messages[..taken as usize] {
            let header = &message.msg_hdr;
            self.lengths.push((message.msg_len as usize, header.msg_controllen, header.msg_flags));
        }
        Ok(taken as usize == BATCH)
    }

    /// What the last [`Batch::receive`] took.
    pub fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        self.lengths.iter().enumerate().filter_map(|(at, &(bytes, control_bytes, flags))| {
            if flags & libc::MSG_TRUNC != 0 {
                return None;
            }
            let (arrived_realtime_ns, segment_bytes) =
                read_control(&self.controls[at], control_bytes);
            Some(Arrival {
                from: read_name(&self.names[at])?,
                bytes: &self.buffers[at * self.room_bytes..][..bytes],
                segment_bytes: segment_bytes.unwrap_or(bytes).max(1),
                arrived_realtime_ns,
            })
        })
    }
}

fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a `sockaddr_in`; the storage is larger.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some((ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a `sockaddr_in6`, which fits as well.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some((ip, u16::from_be(v6.sin6_port)).into())
        }
        _ => None,
    }
}

/// Arrival time and GRO segment size from the control messages.
fn read_control(control: &[u64; CONTROL_WORDS], control_bytes: usize) -> (u64, Option<usize>) {
    let (mut arrived_ns, mut segment) = (0, None);
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_control = control.as_ptr().cast_mut().cast();
    header.msg_controllen = control_bytes.min(size_of::<[u64; CONTROL_WORDS]>()) as _;
    // SAFETY: `header` describes initialized memory that outlives the walk; the macros stay within
    // `msg_controllen`, and each value is read unaligned with the size its type and level imply.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&header);
        while !at.is_null() {
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = libc::CMSG_DATA(at).cast::<libc::timespec>().read_unaligned();
                    arrived_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let bytes = libc::CMSG_DATA(at).cast::<libc::c_int>().read_unaligned();
                    segment = usize::try_from(bytes).ok();
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&header, at);
        }
    }
    (arrived_ns, segment)
}

/// Tells which sockets have something to read.
pub struct Poller {
    epoll: std::os::fd::OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointer is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        let epoll = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// Watches `socket`; [`Poller::ready`] names it by `token`.
    pub fn add(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` is valid through the call, both descriptors are open.
        let done = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                socket.as_raw_fd(),
                &mut event,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Tokens of the sockets that are readable now, without waiting. Level-triggered: what does
    /// not fit in one answer comes with the next.
    pub fn ready(&mut self, tokens: &mut Vec<u64>) -> io::Result<()> {
        tokens.clear();
        let room = self.events.len() as libc::c_int;
        // SAFETY: `events` has `room` writable entries.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, 0) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        tokens.extend(self.events[..count as usize].iter().map(|event| event.u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_in_order_with_sender_and_arrival_time() {
        let server: SocketAddr = (Ipv4Addr::LOCALHOST, 9).into();
        let (socket, local) = bind_towards(server, Gro::Off).expect("loopback is there");
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut poller = Poller::new().expect("epoll");
        poller.add(&socket, 42).expect("an open socket");
        let mut tokens = Vec::new();
        poller.ready(&mut tokens).expect("epoll");
        assert!(tokens.is_empty());
        let before_ns = monotonic_ns();
        for number in 0..100_u8 {
            sender.send_to(&[number; 300], local).expect("loopback takes it");
        }
        poller.ready(&mut tokens).expect("epoll");
        assert_eq!(tokens, [42]);
        let (mut batch, mut seen) = (Batch::new(Gro::Off), Vec::new());
        let offset_ns = realtime_offset_ns();
        while {
            let full = batch.receive(&socket).expect("a readable socket");
            for arrival in batch.arrivals() {
                assert_eq!(Some(arrival.from), sender.local_addr().ok());
                assert_eq!((arrival.bytes.len(), arrival.segment_bytes), (300, 300));
                let at_ns = arrival.arrived_realtime_ns - offset_ns;
                assert!(at_ns + 1_000_000 > before_ns && at_ns < monotonic_ns() + 1_000_000);
                seen.push(arrival.bytes[0]);
            }
            full
        } {}
        assert_eq!(seen, (0..100).collect::<Vec<u8>>());
        assert!(!batch.receive(&socket).expect("an empty socket is no error"));
    }

    #[test]
    fn a_full_receive_buffer_is_counted_as_our_own_loss() {
        let (socket, local) =
            bind_towards((Ipv4Addr::LOCALHOST, 9).into(), Gro::Off).expect("loopback is there");
        assert_eq!(dropped_datagrams(&socket), 0);
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        for _ in 0..5000 {
            sender.send_to(&[0; 1200], local).expect("loopback takes it");
        }
        assert!(dropped_datagrams(&socket) > 0);
    }
}
