//! The task that drives a peer: sockets, timers, signalling and commands around one [`Mesh`].

use std::{collections::VecDeque, io, net::IpAddr, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    connection::SendError,
    event::Event,
    framing::{Compression, Message},
    mesh::{Mesh, Out},
    nat::IceServer,
    net::{Arrival, Net, NetEvent},
    signal::{self, Membership, Outgoing, Update},
};

/// Commands that wait. One more makes its sender wait.
const COMMANDS_MAX: usize = 64;
/// Events that wait for the user. Beyond, nothing is read from the network until some are taken.
const EVENTS_MAX: usize = 256;
/// For goodbyes.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The longest sleep; every real deadline is sooner.
const IDLE: Duration = Duration::from_secs(3600);

/// What a peer is told.
pub struct Options {
    /// Which room, by which coordinator, as whom.
    pub membership: Membership,
    /// STUN and TURN servers beside those that the coordinator names.
    pub servers: Vec<IceServer>,
    /// Addresses to open sockets at; none: all of this host.
    pub bind: Vec<IpAddr>,
    /// Peers hear of relays only.
    pub is_relay_only: bool,
    /// Refuse peers that do not sign their certificate's fingerprint.
    pub must_verify: bool,
}

enum Command {
    Send {
        to: Option<String>,
        message: Message,
        compression: Compression,
        done: oneshot::Sender<Result<(), SendError>>,
    },
    Connected(oneshot::Sender<Vec<(String, String)>>),
    Close,
}

/// A handle on a running peer; the last one dropped closes it.
#[derive(Clone)]
pub struct Peer {
    node_id: String,
    commands: mpsc::Sender<Command>,
}

impl Peer {
    /// Opens sockets and begins to join. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Of the system, when no socket can be opened.
    pub async fn start(
        options: Options,
    ) -> io::Result<(Self, mpsc::Receiver<Event>, JoinHandle<()>)> {
        let Options { membership, servers, bind, is_relay_only, must_verify } = options;
        let mut net = Net::open(&bind, is_relay_only).await?;
        servers.into_iter().for_each(|server| net.use_server(server));
        let node_id = membership.key.node_id();
        let mut mesh = Mesh::new(node_id.clone(), membership.room.clone(), must_verify);
        net.candidates().iter().for_each(|candidate| mesh.add_candidate(candidate.clone()));
        let (signals, outgoing) = mpsc::channel(signal::OUTGOING_MAX);
        let (told, updates) = mpsc::channel(signal::UPDATES_MAX);
        let signalling = tokio::spawn(signal::run(membership, outgoing, told));
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (events, seen) = mpsc::channel(EVENTS_MAX);
        let task = Task {
            mesh,
            net,
            signals,
            signalling,
            updates,
            commands: received,
            events,
            waiting: VecDeque::new(),
            out: Vec::new(),
        };
        let driver = tokio::spawn(task.run());
        Ok((Self { node_id, commands }, seen, driver))
    }

    /// Its id.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Sends to one peer, or to all that are connected, and waits until more may be sent.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(
        &self,
        to: Option<&str>,
        message: Message,
        compression: Compression,
    ) -> Result<(), SendError> {
        let (done, sent) = oneshot::channel();
        let to = to.map(str::to_owned);
        let command = Command::Send { to, message, compression, done };
        self.commands.send(command).await.map_err(|_| SendError::NotOpen)?;
        sent.await.unwrap_or(Err(SendError::NotOpen))
    }

    /// Ids and names of those whose channel is open.
    pub async fn connected(&self) -> Vec<(String, String)> {
        let (answer, connected) = oneshot::channel();
        // A peer that has ended is connected to nobody.
        drop(self.commands.send(Command::Connected(answer)).await);
        connected.await.unwrap_or_default()
    }

    /// Says goodbye to all and leaves the room.
    pub async fn close(&self) {
        // One that has ended has left.
        drop(self.commands.send(Command::Close).await);
    }
}

struct Task {
    mesh: Mesh,
    net: Net,
    signals: mpsc::Sender<Outgoing>,
    signalling: JoinHandle<()>,
    updates: mpsc::Receiver<Update>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events that the channel had no room for.
    waiting: VecDeque<Event>,
    out: Vec<Out>,
}

enum Turn {
    Arrival(Arrival),
    Update(Option<Update>),
    Command(Option<Command>),
    Time,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.leave().await;
            let is_over = match self.next().await {
                Turn::Arrival(arrival) => {
                    self.take_in(arrival);
                    false
                }
                Turn::Update(Some(Update::Refused(error))) => {
                    self.waiting.push_back(Event::Refused(error));
                    true
                }
                Turn::Update(Some(update)) => {
                    self.handle_update(update);
                    false
                }
                // The signalling task ends by a refusal, which came before, or by our leaving.
                Turn::Update(None) => true,
                Turn::Command(Some(command)) => self.handle_command(command),
                Turn::Command(None) => true,
                Turn::Time => {
                    let mut events = Vec::new();
                    let now = Instant::now().into_std();
                    self.net.handle_timeout(now, &mut events);
                    self.mesh.handle_timeout(now);
                    self.handle_net(events);
                    false
                }
            };
            if is_over {
                return self.close().await;
            }
        }
    }

    /// What comes next; the network only while the user keeps up.
    async fn next(&mut self) -> Turn {
        let deadlines = [self.net.deadline(), self.mesh.deadline()];
        let deadline = deadlines.into_iter().flatten().min().map(Instant::from_std);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + IDLE);
        loop {
            let keeps_up = self.waiting.len() < EVENTS_MAX;
            tokio::select! {
                arrival = self.net.next(), if keeps_up => return Turn::Arrival(arrival),
                update = self.updates.recv(), if keeps_up => return Turn::Update(update),
                command = self.commands.recv() => return Turn::Command(command),
                () = sleep_until(deadline) => return Turn::Time,
                permit = self.events.reserve(), if !self.waiting.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.waiting.pop_front() {
                            permit.send(event);
                        }
                    }
                    // Nobody listens: the peer goes on for those that it is connected to.
                    Err(_) => self.waiting.clear(),
                },
            }
        }
    }

    /// One at a time: a connection that is not polled between two datagrams runs out of room.
    fn take_in(&mut self, arrival: Arrival) {
        let now = Instant::now().into_std();
        let mut events = Vec::new();
        self.net.handle(arrival, now, &mut events);
        self.handle_net(events);
    }

    fn handle_net(&mut self, events: Vec<NetEvent>) {
        let now = Instant::now().into_std();
        for event in events {
            match event {
                NetEvent::Candidate(candidate) => self.mesh.add_candidate(candidate),
                NetEvent::Gone(candidate) => self.mesh.remove_candidate(&candidate),
                NetEvent::Datagram { source, destination, bytes } => {
                    self.mesh.handle_datagram(source, destination, &bytes, now);
                }
                NetEvent::Warning(why) => self.waiting.push_back(Event::Warning(why)),
            }
        }
    }

    fn handle_update(&mut self, update: Update) {
        let now = Instant::now().into_std();
        match update {
            Update::Joined { transport, peers, ice_servers } => {
                self.waiting.push_back(Event::Joined { transport });
                let list = serde_json::to_value(ice_servers).unwrap_or_default();
                for server in IceServer::from_json(&list) {
                    match server {
                        Ok(server) => self.net.use_server(server),
                        Err(error) => self.waiting.push_back(Event::Warning(error.to_string())),
                    }
                }
                if let Some(peers) = peers {
                    let peers = peers.into_iter().map(|peer| (peer.node_id, peer.name));
                    self.mesh.joined(peers.collect(), now);
                }
            }
            Update::PeerJoined { id, name } => self.mesh.peer_joined(&id, name),
            Update::PeerLeft { id } => self.mesh.peer_left(&id),
            Update::Signal(signal) => self.mesh.handle_signal(signal, now),
            Update::Lost { why, retry_in } => {
                self.waiting.push_back(Event::CoordinatorLost { why, retry_in });
            }
            Update::Refused(error) => self.waiting.push_back(Event::Refused(error)),
        }
    }

    /// Whether it was the last.
    fn handle_command(&mut self, command: Command) -> bool {
        match command {
            Command::Send { to, message, compression, done } => {
                let now = Instant::now().into_std();
                self.mesh.send(to.as_deref(), &message, compression, done, now);
                false
            }
            Command::Connected(answer) => {
                // Whoever has stopped to wait does not want to know.
                drop(answer.send(self.mesh.connected()));
                false
            }
            Command::Close => true,
        }
    }

    /// Sends what has to leave.
    async fn leave(&mut self) {
        let now = Instant::now().into_std();
        let mut out = std::mem::take(&mut self.out);
        self.mesh.poll(now, &mut out);
        for out in out.drain(..) {
            match out {
                Out::Transmit(transmit) => self.net.send(&transmit, now).await,
                // A queue that is full is of a coordinator that is lost: negotiation starts anew.
                Out::Signal(signal) => drop(self.signals.try_send(signal)),
                Out::Event(event) => self.waiting.push_back(event),
            }
        }
        self.out = out;
        self.net.flush().await;
        while let Some(event) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.waiting.push_front(event);
                break;
            }
        }
    }

    async fn close(mut self) {
        self.mesh.flush();
        self.leave().await;
        self.mesh.close();
        self.leave().await;
        self.net.close(Instant::now().into_std()).await;
        let Self { signals, signalling, updates, events, waiting, .. } = self;
        drop((signals, updates));
        // A coordinator that does not answer notices by our silence.
        drop(timeout(CLOSE_WITHIN, signalling).await);
        let tell = async {
            for event in waiting {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        drop(timeout(CLOSE_WITHIN, tell).await);
    }
}
