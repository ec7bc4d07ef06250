//! The ABCI 2.0 socket server: an [`Application`] for a CometBFT beside this process.
//!
//! CometBFT opens four connections: for consensus, mempool, queries and snapshots. Each has a
//! thread; requests of one connection are answered in their order, and answers leave together when
//! no further request has arrived. Calls that decide blocks come from one connection at a time,
//! one after the other; CheckTx and Query run beside them. What an application fails at is fatal:
//! the engine gets an exception, and so does every call after it, until the process starts anew.

mod address;
mod connection;
mod counters;
mod dispatch;
mod frame;
mod listener;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::Shutdown,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub use self::{
    address::{ListenAddr, ListenAddrError},
    counters::{Counters, MethodCounters},
    frame::{FrameError, Frames},
};
use self::{
    connection::{Connection, append},
    dispatch::{Answer, Dispatcher},
    listener::{Listener, Stream, Waker},
};
use crate::application::Application;

/// Bounds of what peers may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; one more is told so and closed.
    pub connections_max: usize,
    /// Bytes of one message; a longer one ends its connection.
    pub message_bytes_max: usize,
    /// Silence in the middle of a message that ends its connection.
    pub stall: Duration,
    /// How long a new engine waits until the connection of the one before it has ended.
    pub engine_change: Duration,
}

impl Default for Limits {
    /// Two engines with four connections, and as many people who look; a message holds CometBFT's
    /// largest block (100 MiB).
    fn default() -> Self {
        Limits {
            connections_max: 16,
            message_bytes_max: 128 << 20,
            stall: Duration::from_secs(30),
            engine_change: Duration::from_secs(5),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another process, or another server of this one.
    #[error("something listens at {at} already: stop it, or choose another address")]
    InUse {
        /// The address.
        at: ListenAddr,
    },
    /// A file that is not to be replaced.
    #[error("{} is a file and no socket: choose another path, or remove it", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{at} cannot be listened at: {source}")]
    Bind {
        /// The address.
        at: ListenAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("the thread that takes connections cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// How long a refused peer may take to read why.
const REFUSED_GRACE: Duration = Duration::from_millis(200);
/// Pause after a connection that the system could not give (no file descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    local_addr: ListenAddr,
    acceptor: Mutex<Option<(Waker, JoinHandle<()>)>>,
}

struct Shared {
    dispatcher: Dispatcher,
    limits: Limits,
    stopping: AtomicBool,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    last_id: u64,
    /// The sockets, to be shut from outside.
    open: BTreeMap<u64, Stream>,
    /// Those that ended are joined when the next one comes.
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens at `at` for engines of `app`.
    ///
    /// A socket file gets mode 600, and replaces one that nobody listens on.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn start(
        app: Arc<dyn Application>,
        at: &ListenAddr,
        limits: Limits,
    ) -> Result<Server, ServerError> {
        let failed = |source| ServerError::Bind { at: at.clone(), source };
        let listener = Listener::bind(at)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let waker = listener.waker().map_err(failed)?;
        let shared = Arc::new(Shared {
            dispatcher: Dispatcher::new(app, limits.engine_change),
            limits,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let thread = thread::Builder::new()
            .name("abci".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || accept(&shared, &listener)
            })
            .map_err(ServerError::Thread)?;
        tracing::info!(at = %local_addr, "ABCI is served");
        Ok(Server { shared, local_addr, acceptor: Mutex::new(Some((waker, thread))) })
    }

    /// Where it listens; of `tcp://…:0` with the port that it took.
    pub fn local_addr(&self) -> &ListenAddr {
        &self.local_addr
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.shared.dispatcher.counters.read()
    }

    /// Why the chain is halted: the first error of the application, as a sentence. It stays; the
    /// remedy needs a new process.
    pub fn failure(&self) -> Option<String> {
        self.shared.dispatcher.failure()
    }

    /// What to look at when an engine came and left without a block, as one does that finds the
    /// application ahead of it. Gone when an engine goes on.
    pub fn advice(&self) -> Option<String> {
        self.shared.dispatcher.advice()
    }

    /// Finishes the requests in hand, answers them, closes all connections and removes the socket
    /// file. Returns when no call into the application is under way or will come.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((waker, thread)) = acceptor {
            if let Err(error) = waker.wake() {
                // Then the next connection wakes it.
                tracing::warn!(%error, "the listening socket does not shut");
            }
            let _ = thread.join(); // A panic of it was printed.
        }
        self.shared.close_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(shared: &Arc<Shared>, listener: &Listener) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok(stream) => {
                if let Err(error) = shared.admit(stream) {
                    tracing::warn!(%error, "an ABCI connection could not be served");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an ABCI connection could not be taken");
                thread::sleep(ACCEPT_AGAIN);
            }
        }
    }
}

impl Shared {
    fn admit(self: &Arc<Self>, stream: Stream) -> io::Result<()> {
        let counters = &self.dispatcher.counters;
        let mut connections = self.lock();
        for ended in connections.threads.extract_if(.., |thread| thread.is_finished()) {
            let _ = ended.join();
        }
        if connections.open.len() >= self.limits.connections_max {
            drop(connections);
            counters::add(&counters.connections_refused, 1);
            return refuse(stream, self.limits.connections_max);
        }
        connections.last_id += 1;
        let id = connections.last_id;
        let handle = stream.try_clone()?;
        let shared = Arc::clone(self);
        // The new thread ends by taking the lock that is held here: it is in the map before.
        let thread = thread::Builder::new()
            .name(format!("abci-{id}"))
            .spawn(move || shared.serve(id, stream))?;
        connections.open.insert(id, handle);
        connections.threads.push(thread);
        counters::add(&counters.connections_accepted, 1);
        counters.connections_open.store(connections.open.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn serve(&self, id: u64, stream: Stream) {
        let (dispatcher, limits, stopping) = (&self.dispatcher, &self.limits, &self.stopping);
        let mut connection = Connection { id, stream, dispatcher, limits, stopping };
        match connection.serve() {
            Ok(()) => tracing::debug!(id, "an ABCI connection closed"),
            Err(error) => tracing::warn!(id, "an ABCI connection ended: {error}"),
        }
        drop(connection);
        // The socket closes here; the next line may wait for another connection's call.
        self.lock().open.remove(&id);
        dispatcher.left(id);
        let connections = self.lock();
        if connections.open.is_empty() {
            // Under the lock: nobody who came since is taken for one who left.
            dispatcher.all_left();
        }
        let open = connections.open.len() as u64;
        dispatcher.counters.connections_open.store(open, Ordering::Relaxed);
    }

    fn close_all(&self) {
        let mut connections = self.lock();
        for stream in connections.open.values() {
            // Reading ends; what is being executed is still answered. Fails where the peer closed.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let threads = std::mem::take(&mut connections.threads);
        drop(connections);
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn refuse(mut stream: Stream, connections_max: usize) -> io::Result<()> {
    let sentence = format!("there are {connections_max} connections already, no more are taken");
    let mut reply = Vec::new();
    append(&mut reply, &Answer::exception(sentence));
    stream.set_write_timeout(REFUSED_GRACE)?;
    stream.write_all(&reply)?;
    stream.shutdown(Shutdown::Write)
}
