//! The sockets: one for each host address, one for each relay; and what ICE may use of them.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use rand::Rng as _;
use str0m::{Candidate, net::Transmit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, lookup_host},
    sync::mpsc,
};

use crate::nat::{
    IceServer, Transport,
    binding::Bindings,
    stream::StreamReader,
    stun::looks_like_stun,
    turn::{self, Turn},
};

/// Longest datagram that is read.
const DATAGRAM_BYTES: usize = 2048;
/// Datagrams that wait for this process. One more waits in the kernel, or is dropped there.
const ARRIVALS_MAX: usize = 1024;
/// Messages that wait for a TURN server's stream. One more is dropped, as a router would.
const STREAM_MESSAGES_MAX: usize = 256;
/// Servers that are used. One more is left out.
const SERVERS_MAX: usize = 16;

/// Something that came in.
#[derive(Debug)]
pub enum Arrival {
    /// A datagram at a host address.
    Datagram { local: SocketAddr, from: SocketAddr, bytes: Vec<u8> },
    /// A message of a TURN server.
    Relayed { relay: usize, bytes: Vec<u8> },
    /// A TURN server's stream has ended.
    RelayClosed { relay: usize },
    /// A STUN server has an address.
    Stun(SocketAddr),
    /// A TURN server is connected.
    Turn { socket: RelaySocket, local: SocketAddr, credentials: (String, String) },
    /// A server cannot be used.
    Unusable(String),
}

/// The way to a TURN server.
#[derive(Debug)]
pub enum RelaySocket {
    /// Datagrams.
    Udp(Arc<UdpSocket>),
    /// A stream.
    Tcp(TcpStream),
}

enum Outbox {
    Udp(Arc<UdpSocket>),
    /// To the task that writes the stream.
    Tcp(mpsc::Sender<Vec<u8>>),
}

/// What an arrival means.
#[derive(Debug)]
pub enum NetEvent {
    /// An address of ours that peers may use.
    Candidate(Candidate),
    /// A datagram of a peer.
    Datagram { source: SocketAddr, destination: SocketAddr, bytes: Vec<u8> },
    /// Something that the user should know.
    Warning(String),
}

struct Relay {
    turn: Turn,
    outbox: Outbox,
    local: SocketAddr,
    address: Option<SocketAddr>,
}

/// All sockets.
pub struct Net {
    hosts: Vec<(SocketAddr, Arc<UdpSocket>)>,
    relays: Vec<Relay>,
    bindings: Bindings,
    candidates: Vec<Candidate>,
    servers: HashSet<IceServer>,
    is_relay_only: bool,
    sender: mpsc::Sender<Arrival>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Net {
    /// Opens a socket at each of `addresses`, or at each address of this host where there are none.
    /// With `is_relay_only` peers hear of relays only.
    ///
    /// # Errors
    /// Of the system, when not one socket can be opened.
    pub async fn open(addresses: &[IpAddr], is_relay_only: bool) -> io::Result<Self> {
        let addresses = if addresses.is_empty() { host_addresses()? } else { addresses.to_vec() };
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let (mut hosts, mut candidates, mut failure) = (Vec::new(), Vec::new(), None);
        for address in addresses {
            let socket = match UdpSocket::bind((address, 0)).await {
                Ok(socket) => Arc::new(socket),
                // An address that has just gone, or is not ready yet.
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            let local = socket.local_addr()?;
            if let (false, Ok(candidate)) = (is_relay_only, Candidate::host(local, "udp")) {
                candidates.push(candidate);
            }
            tokio::spawn(read_datagrams(Arc::clone(&socket), local, sender.clone()));
            hosts.push((local, socket));
        }
        if let (true, Some(error)) = (hosts.is_empty(), failure) {
            return Err(error);
        }
        let (relays, bindings, servers) = (Vec::new(), Bindings::default(), HashSet::new());
        Ok(Self { hosts, relays, bindings, candidates, servers, is_relay_only, sender, arrivals })
    }

    /// The addresses that are known by now.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Begins to use a server, once.
    pub fn use_server(&mut self, server: IceServer) {
        if self.servers.len() >= SERVERS_MAX || !self.servers.insert(server.clone()) {
            return;
        }
        // Peers must not learn our own address where only a relay's is wanted.
        if self.is_relay_only && matches!(server, IceServer::Stun { .. }) {
            return;
        }
        tokio::spawn(reach(server, self.sender.clone()));
    }

    /// Waits for an arrival.
    pub async fn next(&mut self) -> Arrival {
        self.arrivals.recv().await.expect("this value holds a sender itself")
    }

    /// Takes an arrival; what it means goes to `events`.
    pub fn handle(&mut self, arrival: Arrival, now: Instant, events: &mut Vec<NetEvent>) {
        match arrival {
            Arrival::Datagram { local, from, bytes } => {
                let mapped =
                    looks_like_stun(&bytes).then(|| self.bindings.handle(local, from, &bytes));
                let Some(mapped) = mapped.flatten() else {
                    let (source, destination) = (from, local);
                    return events.push(NetEvent::Datagram { source, destination, bytes });
                };
                let candidate = mapped.address.filter(|address| *address != local);
                let candidate = candidate
                    .and_then(|address| Candidate::server_reflexive(address, local, "udp").ok());
                self.add(candidate, events);
            }
            Arrival::Relayed { relay, bytes } => {
                if let Some(relay) = self.relays.get_mut(relay) {
                    relay.turn.handle_message(&bytes, now);
                }
                self.poll_relays(events);
            }
            Arrival::Stun(server) => {
                for (local, _) in &self.hosts {
                    self.bindings.ask(rand::rng().random(), *local, server, now);
                }
            }
            Arrival::Turn { socket, local, credentials: (username, password) } => {
                let (relay, sender) = (self.relays.len(), self.sender.clone());
                let (transport, outbox) = match socket {
                    RelaySocket::Udp(socket) => {
                        tokio::spawn(read_relayed(Arc::clone(&socket), relay, sender));
                        (Transport::Udp, Outbox::Udp(socket))
                    }
                    RelaySocket::Tcp(stream) => {
                        let (outbox, messages) = mpsc::channel(STREAM_MESSAGES_MAX);
                        tokio::spawn(run_stream(stream, messages, relay, sender));
                        (Transport::Tcp, Outbox::Tcp(outbox))
                    }
                };
                let next_id = || rand::rng().random();
                let turn = Turn::new(transport, username, password, next_id, now);
                self.relays.push(Relay { turn, outbox, local, address: None });
                self.poll_relays(events);
            }
            Arrival::RelayClosed { relay } => {
                if let Some(Relay { address: Some(_), .. }) = self.relays.get(relay) {
                    let why = "the TURN server closed its connection".to_owned();
                    events.push(NetEvent::Warning(why));
                }
            }
            Arrival::Unusable(why) => events.push(NetEvent::Warning(why)),
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, events: &mut Vec<NetEvent>) {
        self.bindings.handle_timeout(now);
        self.relays.iter_mut().for_each(|relay| relay.turn.handle_timeout(now));
        self.poll_relays(events);
    }

    /// When [`Net::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let relays = self.relays.iter().filter_map(|relay| relay.turn.poll_timeout());
        relays.chain(self.bindings.poll_timeout()).min()
    }

    /// Sends a datagram from the address that ICE chose: a host's or a relay's.
    pub async fn send(&mut self, transmit: &Transmit, now: Instant) {
        let Transmit { source, destination, contents, .. } = transmit;
        if let Some((_, socket)) = self.hosts.iter().find(|(local, _)| local == source) {
            // What the system refuses is a lost datagram: the protocols above repair it.
            return drop(socket.send_to(contents, *destination).await);
        }
        let relay = self.relays.iter_mut().find(|relay| relay.address == Some(*source));
        if let Some(relay) = relay {
            relay.turn.send(*destination, contents, now);
        }
    }

    /// Sends what STUN and TURN have to say.
    pub async fn flush(&mut self) {
        while let Some(request) = self.bindings.poll_request() {
            let host = self.hosts.iter().find(|(local, _)| *local == request.local);
            if let Some((_, socket)) = host {
                // Asked again by its timer.
                drop(socket.send_to(&request.bytes, request.server).await);
            }
        }
        for relay in &mut self.relays {
            while let Some(message) = relay.turn.poll_transmit() {
                match &relay.outbox {
                    Outbox::Udp(socket) => drop(socket.send(&message).await),
                    Outbox::Tcp(outbox) => drop(outbox.try_send(message)),
                }
            }
        }
    }

    /// Gives relays their addresses back.
    pub async fn close(&mut self, now: Instant) {
        self.relays.iter_mut().for_each(|relay| relay.turn.close(now));
        self.flush().await;
    }

    fn poll_relays(&mut self, events: &mut Vec<NetEvent>) {
        let mut found = Vec::new();
        for relay in &mut self.relays {
            while let Some(event) = relay.turn.poll_event() {
                match event {
                    turn::Event::Allocated { relayed, .. } => {
                        relay.address = Some(relayed);
                        found.push(Candidate::relayed(relayed, relay.local, "udp").ok());
                    }
                    turn::Event::Data { peer, bytes } => {
                        if let Some(destination) = relay.address {
                            events.push(NetEvent::Datagram { source: peer, destination, bytes });
                        }
                    }
                    turn::Event::Failed(error) => {
                        relay.address = None;
                        events.push(NetEvent::Warning(error.to_string()));
                    }
                }
            }
        }
        found.into_iter().for_each(|candidate| self.add(candidate, events));
    }

    fn add(&mut self, candidate: Option<Candidate>, events: &mut Vec<NetEvent>) {
        let Some(candidate) = candidate else { return };
        if !self.candidates.contains(&candidate) {
            self.candidates.push(candidate.clone());
            events.push(NetEvent::Candidate(candidate));
        }
    }
}

/// This host's addresses but the loopback, which counts where there is no other; and but those that
/// hold for one link.
fn host_addresses() -> io::Result<Vec<IpAddr>> {
    let is_link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let all: Vec<_> = if_addrs::get_if_addrs()?.iter().map(|interface| interface.ip()).collect();
    let (loopback, others): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|ip| !is_link_local(*ip)).partition(IpAddr::is_loopback);
    Ok(if others.is_empty() { loopback } else { others })
}

/// Resolves and, where it relays, connects.
async fn reach(server: IceServer, sender: mpsc::Sender<Arrival>) {
    let name = format!("{server:?}");
    let arrival = match connect(server).await {
        Ok(arrival) => arrival,
        Err(error) => Arrival::Unusable(format!("{name} cannot be used: {error}")),
    };
    // Nobody waits any more once all is closed.
    drop(sender.send(arrival).await);
}

async fn connect(server: IceServer) -> io::Result<Arrival> {
    let resolve = async |host: String, port| {
        let found = lookup_host((host, port)).await?.next();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    };
    match server {
        IceServer::Stun { host, port } => Ok(Arrival::Stun(resolve(host, port).await?)),
        IceServer::Turn { host, port, transport, username, password } => {
            let address = resolve(host, port).await?;
            let (socket, local) = match transport {
                Transport::Udp => {
                    let any: IpAddr = match address {
                        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    let socket = UdpSocket::bind((any, 0)).await?;
                    socket.connect(address).await?;
                    let local = socket.local_addr()?;
                    (RelaySocket::Udp(Arc::new(socket)), local)
                }
                Transport::Tcp => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    let local = stream.local_addr()?;
                    (RelaySocket::Tcp(stream), local)
                }
            };
            Ok(Arrival::Turn { socket, local, credentials: (username, password) })
        }
    }
}

async fn read_datagrams(socket: Arc<UdpSocket>, local: SocketAddr, sender: mpsc::Sender<Arrival>) {
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        tokio::select! {
            read = socket.recv_from(&mut buffer) => {
                // An error is about a datagram that we sent (ICMP), not about the socket.
                let Ok((len_bytes, from)) = read else { continue };
                let bytes = buffer[..len_bytes].to_vec();
                if sender.send(Arrival::Datagram { local, from, bytes }).await.is_err() {
                    return;
                }
            }
            () = sender.closed() => return,
        }
    }
}

async fn read_relayed(socket: Arc<UdpSocket>, relay: usize, sender: mpsc::Sender<Arrival>) {
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        tokio::select! {
            read = socket.recv(&mut buffer) => {
                let Ok(len_bytes) = read else { continue };
                let bytes = buffer[..len_bytes].to_vec();
                if sender.send(Arrival::Relayed { relay, bytes }).await.is_err() {
                    return;
                }
            }
            () = sender.closed() => return,
        }
    }
}

/// Reads and writes a TURN server's stream until it or this process ends.
async fn run_stream(
    stream: TcpStream,
    mut messages: mpsc::Receiver<Vec<u8>>,
    relay: usize,
    sender: mpsc::Sender<Arrival>,
) {
    let (mut read_half, mut write_half) = stream.into_split();
    let write = async {
        while let Some(message) = messages.recv().await {
            if write_half.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let (mut reader, mut buffer) = (StreamReader::default(), vec![0; 64 * 1024]);
        loop {
            let Ok(len_bytes @ 1..) = read_half.read(&mut buffer).await else { return };
            reader.push(&buffer[..len_bytes]);
            while let Ok(Some(bytes)) = reader.next_message() {
                if sender.send(Arrival::Relayed { relay, bytes }).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        // First what is to be written: a goodbye comes with the end of `messages`.
        biased;
        () = write => {}
        () = read => {}
    }
    drop(sender.send(Arrival::RelayClosed { relay }).await);
}
