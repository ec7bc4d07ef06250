//! A coordinator in this process, and somebody in its rooms.

#![allow(dead_code)] // Each test binary uses its part.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use coordinator::identity::NodeKey;
use peer::{
    event::Event,
    framing::Message,
    nat::IceServer,
    signal::{Entrance, Membership, Transport},
    task::{Options, Peer},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, task::JoinHandle};

/// Longer than any step takes on a machine that is busy with everything else.
const WITHIN: Duration = Duration::from_secs(60);

/// Awaits, but not for ever.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let result = tokio::time::timeout(WITHIN, future).await;
        result.unwrap_or_else(|_| panic!("{place}: {what} did not come within {WITHIN:?}"))
    }
}

/// A port where nobody listens.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A coordinator that can be stopped and started again at the same address. It has a runtime of its
/// own, so that a stop breaks off whatever is open, as a crash does.
pub struct Coordinator {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Coordinator {
    pub async fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (runtime, address) = serve(address).await.unwrap();
        Self { address, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub async fn start_again(&mut self) {
        let bind = async {
            loop {
                // The port is free when the runtime before has let go of it.
                match serve(self.address).await {
                    Ok((runtime, _)) => return runtime,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        self.runtime = Some(within("the port", bind).await);
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // A runtime that is merely dropped would block, which no async test may.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(address: SocketAddr) -> std::io::Result<(Runtime, SocketAddr)> {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build()?;
    let listener = match runtime.spawn(TcpListener::bind(address)).await.unwrap() {
        Ok(listener) => listener,
        Err(error) => {
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let address = listener.local_addr()?;
    let mut options = coordinator::Options::new("seed");
    options.stun_servers.clear();
    options.mode = coordinator::Mode::Required;
    let coordinator = coordinator::Coordinator::new(options).unwrap();
    runtime.spawn(async move {
        let app = coordinator.router().merge(coordinator.nodes_router());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).await.unwrap();
    });
    Ok((runtime, address))
}

/// A peer and what it tells.
pub struct Someone {
    pub peer: Peer,
    pub events: mpsc::Receiver<Event>,
    driver: JoinHandle<()>,
}

pub fn options(url: &str, name: &str, transport: Transport, room: &str) -> Options {
    let membership = Membership {
        entrance: Entrance::Seed(url.to_owned()),
        transport,
        room: room.to_owned(),
        name: name.to_owned(),
        key: NodeKey::from_seed(rand::random()),
        invite: None,
    };
    let bind = vec![Ipv4Addr::LOCALHOST.into()];
    Options { membership, servers: Vec::new(), bind, is_relay_only: false, must_verify: true }
}

impl Someone {
    pub async fn run(options: Options) -> Self {
        let (peer, events, driver) = Peer::start(options).await.unwrap();
        Self { peer, events, driver }
    }

    pub async fn enter_at(url: &str, name: &str, transport: Transport, room: &str) -> Self {
        Self::run(options(url, name, transport, room)).await
    }

    pub async fn enter(
        coordinator: &Coordinator,
        name: &str,
        transport: Transport,
        room: &str,
    ) -> Self {
        Self::enter_at(&coordinator.url(), name, transport, room).await
    }

    /// Is in room `global` when this returns.
    pub async fn join(coordinator: &Coordinator, name: &str, transport: Transport) -> Self {
        let mut someone = Self::enter(coordinator, name, transport, "global").await;
        someone.joined(transport).await;
        someone
    }

    /// Is there, by relays only.
    pub async fn join_by_relay(coordinator: &Coordinator, name: &str, relay: IceServer) -> Self {
        let mut options = options(&coordinator.url(), name, Transport::WebSocket, "global");
        options.servers = vec![relay];
        options.is_relay_only = true;
        let mut someone = Self::run(options).await;
        someone.joined(Transport::WebSocket).await;
        someone
    }

    async fn joined(&mut self, wanted: Transport) {
        let joined = self.until(|event| matches!(event, Event::Joined { .. })).await;
        let Event::Joined { transport } = joined else { panic!("{joined:?}") };
        assert!(wanted == Transport::Auto || transport == wanted, "{transport}");
    }

    pub fn id(&self) -> String {
        self.peer.node_id().to_owned()
    }

    /// Waits for an event; a refusal ends the wait with its sentence.
    pub async fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        let mut others = Vec::new();
        let wait = async {
            while let Some(event) = self.events.recv().await {
                if is_it(&event) {
                    return Some(event);
                }
                others.push(format!("{event:?}"));
            }
            None
        };
        match tokio::time::timeout(WITHIN, wait).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the peer has ended: {others:#?}"),
            Err(_) => panic!("not within {WITHIN:?}: {others:#?}"),
        }
    }

    /// Waits for the channel; gives whether the other end is verified.
    pub async fn connected_to(&mut self, wanted: &str) -> bool {
        let connected = self.peer.connected().await;
        if connected.iter().any(|(id, _)| id == wanted) {
            // The event may be behind us, with what it says.
            return true;
        }
        let is_it = |event: &Event| matches!(event, Event::Connected { id, .. } if id == wanted);
        let event = self.until(is_it).await;
        matches!(event, Event::Connected { is_verified: true, .. })
    }

    pub async fn leave(self) {
        self.peer.close().await;
        drop(self.events);
        within("the end", self.driver).await.unwrap();
    }
}

/// The next message.
pub async fn message(events: &mut mpsc::Receiver<Event>) -> Message {
    let next = async {
        loop {
            match events.recv().await.unwrap() {
                Event::Message { message, .. } => return message,
                Event::Warning(why) => panic!("{why}"),
                _ => {}
            }
        }
    };
    within("a message", next).await
}
