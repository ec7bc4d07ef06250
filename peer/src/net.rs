//! The sockets: one for each host address, one for each relay; and what ICE may use of them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
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
    task::AbortHandle,
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
    Turn { socket: RelaySocket, local: SocketAddr, server: IceServer },
    /// A server cannot be used.
    Unusable { server: IceServer, why: String },
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
    /// With the task that reads the socket, which ends with the relay.
    Udp { socket: Arc<UdpSocket>, reader: AbortHandle },
    /// To the task that writes the stream, which ends with the relay.
    Tcp(mpsc::Sender<Vec<u8>>),
}

/// What an arrival means.
#[derive(Debug)]
pub enum NetEvent {
    /// An address of ours that peers may use.
    Candidate(Candidate),
    /// One that peers can use no longer.
    Gone(Candidate),
    /// A datagram of a peer.
    Datagram { source: SocketAddr, destination: SocketAddr, bytes: Vec<u8> },
    /// Something that the user should know.
    Warning(String),
}

struct Relay {
    turn: Turn,
    outbox: Outbox,
    /// With the credentials that it was asked with.
    server: IceServer,
    local: SocketAddr,
    address: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Outbox::Udp { reader, .. } = &self.outbox {
            reader.abort();
        }
    }
}

/// A server, whatever the credentials: host, port, and the transport of one that relays.
type Place = (String, u16, Option<Transport>);

fn place(server: &IceServer) -> Place {
    match server {
        IceServer::Stun { host, port } => (host.clone(), *port, None),
        IceServer::Turn { host, port, transport, .. } => (host.clone(), *port, Some(*transport)),
    }
}

/// All sockets.
pub struct Net {
    hosts: Vec<(SocketAddr, Arc<UdpSocket>)>,
    relays: BTreeMap<usize, Relay>,
    next_relay: usize,
    bindings: Bindings,
    candidates: Vec<Candidate>,
    /// Those in use, each with the credentials that were told last.
    servers: HashMap<Place, IceServer>,
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
        Ok(Self {
            hosts,
            relays: BTreeMap::new(),
            next_relay: 0,
            bindings: Bindings::default(),
            candidates,
            servers: HashMap::new(),
            is_relay_only,
            sender,
            arrivals,
        })
    }

    /// The addresses that are known by now.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Begins to use a server, once. Other credentials for one in use are kept for when it fails:
    /// an allocation lives on with those it was made with (RFC 8656 §5).
    pub fn use_server(&mut self, server: IceServer) {
        // Peers must not learn our own address where only a relay's is wanted.
        if self.is_relay_only && matches!(server, IceServer::Stun { .. }) {
            return;
        }
        let has_room = self.servers.len() < SERVERS_MAX;
        match self.servers.entry(place(&server)) {
            Entry::Occupied(mut known) => drop(known.insert(server)),
            Entry::Vacant(vacant) if has_room => {
                vacant.insert(server.clone());
                tokio::spawn(reach(server, self.sender.clone()));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// One that failed is tried again with what was told meanwhile, or when it is told again.
    fn failed(&mut self, server: &IceServer) {
        if let Some(latest) = self.servers.remove(&place(server))
            && latest != *server
        {
            self.use_server(latest);
        }
    }

    /// A relay has ended, and its address with it.
    fn drop_relay(&mut self, relay: usize, events: &mut Vec<NetEvent>) {
        let Some(relay) = self.relays.remove(&relay) else { return };
        if let Some(candidate) = &relay.candidate {
            self.candidates.retain(|one| one != candidate);
            events.push(NetEvent::Gone(candidate.clone()));
        }
        self.failed(&relay.server);
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
                if let Some(relay) = self.relays.get_mut(&relay) {
                    relay.turn.handle_message(&bytes, now);
                }
                self.poll_relays(events);
            }
            Arrival::Stun(server) => {
                for (local, _) in &self.hosts {
                    self.bindings.ask(rand::rng().random(), *local, server, now);
                }
            }
            Arrival::Turn { socket, local, server } => {
                let IceServer::Turn { username, password, .. } = server.clone() else { return };
                let (relay, sender) = (self.next_relay, self.sender.clone());
                self.next_relay += 1;
                let (transport, outbox) = match socket {
                    RelaySocket::Udp(socket) => {
                        let reader = read_relayed(Arc::clone(&socket), relay, sender);
                        let reader = tokio::spawn(reader).abort_handle();
                        (Transport::Udp, Outbox::Udp { socket, reader })
                    }
                    RelaySocket::Tcp(stream) => {
                        let (outbox, messages) = mpsc::channel(STREAM_MESSAGES_MAX);
                        tokio::spawn(run_stream(stream, messages, relay, sender));
                        (Transport::Tcp, Outbox::Tcp(outbox))
                    }
                };
                let next_id = || rand::rng().random();
                let turn = Turn::new(transport, username, password, next_id, now);
                let (address, candidate) = (None, None);
                let one = Relay { turn, outbox, server, local, address, candidate };
                self.relays.insert(relay, one);
                self.poll_relays(events);
            }
            Arrival::RelayClosed { relay } => {
                if let Some(Relay { address: Some(_), .. }) = self.relays.get(&relay) {
                    let why = "the TURN server closed its connection".to_owned();
                    events.push(NetEvent::Warning(why));
                }
                self.drop_relay(relay, events);
            }
            Arrival::Unusable { server, why } => {
                events.push(NetEvent::Warning(why));
                self.failed(&server);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, events: &mut Vec<NetEvent>) {
        self.bindings.handle_timeout(now);
        self.relays.values_mut().for_each(|relay| relay.turn.handle_timeout(now));
        self.poll_relays(events);
    }

    /// When [`Net::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let relays = self.relays.values().filter_map(|relay| relay.turn.poll_timeout());
        relays.chain(self.bindings.poll_timeout()).min()
    }

    /// Sends a datagram from the address that ICE chose: a host's or a relay's.
    pub async fn send(&mut self, transmit: &Transmit, now: Instant) {
        let Transmit { source, destination, contents, .. } = transmit;
        if let Some((_, socket)) = self.hosts.iter().find(|(local, _)| local == source) {
            // What the system refuses is a lost datagram: the protocols above repair it.
            return drop(socket.send_to(contents, *destination).await);
        }
        let relay = self.relays.values_mut().find(|relay| relay.address == Some(*source));
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
        for relay in self.relays.values_mut() {
            while let Some(message) = relay.turn.poll_transmit() {
                match &relay.outbox {
                    Outbox::Udp { socket, .. } => drop(socket.send(&message).await),
                    Outbox::Tcp(outbox) => drop(outbox.try_send(message)),
                }
            }
        }
    }

    /// Gives relays their addresses back.
    pub async fn close(&mut self, now: Instant) {
        self.relays.values_mut().for_each(|relay| relay.turn.close(now));
        self.flush().await;
    }

    fn poll_relays(&mut self, events: &mut Vec<NetEvent>) {
        let (mut found, mut ended) = (Vec::new(), Vec::new());
        for (id, relay) in &mut self.relays {
            while let Some(event) = relay.turn.poll_event() {
                match event {
                    turn::Event::Allocated { relayed, .. } => {
                        relay.address = Some(relayed);
                        relay.candidate = Candidate::relayed(relayed, relay.local, "udp").ok();
                        found.push(relay.candidate.clone());
                    }
                    turn::Event::Data { peer, bytes } => {
                        if let Some(destination) = relay.address {
                            events.push(NetEvent::Datagram { source: peer, destination, bytes });
                        }
                    }
                    turn::Event::Failed(error) => {
                        ended.push(*id);
                        events.push(NetEvent::Warning(error.to_string()));
                    }
                }
            }
        }
        found.into_iter().for_each(|candidate| self.add(candidate, events));
        ended.into_iter().for_each(|relay| self.drop_relay(relay, events));
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
    let arrival = match connect(server.clone()).await {
        Ok(arrival) => arrival,
        Err(error) => {
            let why = format!("{server:?} cannot be used: {error}");
            Arrival::Unusable { server, why }
        }
    };
    // Nobody waits any more once all is closed.
    drop(sender.send(arrival).await);
}

async fn connect(server: IceServer) -> io::Result<Arrival> {
    let resolve = async |host: String, port| {
        let found = lookup_host((host, port)).await?.next();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    };
    match server.clone() {
        IceServer::Stun { host, port } => Ok(Arrival::Stun(resolve(host, port).await?)),
        IceServer::Turn { host, port, transport, .. } => {
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
            Ok(Arrival::Turn { socket, local, server })
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

#[cfg(test)]
mod tests;
