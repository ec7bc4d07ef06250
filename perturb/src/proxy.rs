//! A TCP proxy between two peers that can hold back or cut what passes.
//!
//! One listens for each direction of each pair of nodes, so that a node is shut off by turning its
//! links, with no right over the network that an ordinary user has not.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A connection to the node behind it is there within this time, or is not.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Between two looks at a listener.
const ACCEPT_POLL: Duration = Duration::from_millis(20);
const BUFFER_BYTES: usize = 16 * 1024;
/// Connections of one link; those of CometBFT are one, and a few that it gives up.
const CONNECTIONS_MAX: usize = 64;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Open,
    /// They wait, and connections stay: cables that lead nowhere.
    Held,
    /// There are no connections.
    Cut,
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    streams: Mutex<Vec<TcpStream>>,
    ending: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction: whoever connects here is connected with `to`. It ends when this is dropped.
#[derive(Debug)]
pub struct Link {
    at: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// No port or no thread.
    pub fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Open),
            changed: Condvar::new(),
            streams: Mutex::new(Vec::new()),
            ending: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || accept(&listener, to, &of_thread))?;
        Ok(Self { at, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// From now on. What was held passes when it is open again, in order.
    pub fn set(&self, mode: Mode) {
        *lock(&self.shared.mode) = mode;
        if mode == Mode::Cut {
            self.shared.close_all();
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.set(Mode::Cut);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // It has panicked: its connections are closed all the same.
        }
    }
}

impl Shared {
    fn close_all(&self) {
        for stream in lock(&self.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both); // It is closed already.
        }
    }

    /// Waits while bytes are held; whether they may pass then.
    fn may_pass(&self) -> bool {
        let mode = lock(&self.mode);
        let waited = self.changed.wait_while(mode, |mode| *mode == Mode::Held);
        *waited.unwrap_or_else(PoisonError::into_inner) == Mode::Open
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, shared: &Arc<Shared>) {
    while !shared.ending.load(Ordering::SeqCst) {
        let near = match listener.accept() {
            Ok((near, _)) => near,
            Err(_) => {
                thread::sleep(ACCEPT_POLL);
                continue;
            }
        };
        if *lock(&shared.mode) == Mode::Cut || lock(&shared.streams).len() >= CONNECTIONS_MAX {
            continue; // Dropped: whoever called hears that it is closed.
        }
        let shared = shared.clone();
        // A thread that cannot be had closes the connection, which its peer makes again.
        let _ = thread::Builder::new().name("link".to_owned()).spawn(move || {
            let _ = connect(near, to, &shared);
        });
    }
}

/// Carries one connection, until either side ends it or the link is cut.
fn connect(near: TcpStream, to: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    near.set_nonblocking(false)?;
    if !shared.may_pass() {
        return Ok(());
    }
    let far = TcpStream::connect_timeout(&to, CONNECT_MAX)?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        lock(&shared.streams).push(stream.try_clone()?);
    }
    // It was cut between the look and the list.
    if *lock(&shared.mode) == Mode::Cut {
        shared.close_all();
        return Ok(());
    }
    let names = [(near.local_addr()?, near.peer_addr()?), (far.local_addr()?, far.peer_addr()?)];
    let (near_reader, far_writer) = (near.try_clone()?, far.try_clone()?);
    let back = thread::Builder::new().name("link".to_owned()).spawn({
        let shared = shared.clone();
        move || pump(far, near, &shared)
    })?;
    pump(near_reader, far_writer, shared);
    let _ = back.join(); // It has panicked: the connection is over.
    let is_ours = |stream: &TcpStream| {
        let name = stream.local_addr().ok().zip(stream.peer_addr().ok());
        // One that has no peer any more is closed.
        name.is_none_or(|name| names.contains(&name))
    };
    lock(&shared.streams).retain(|stream| !is_ours(stream));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if !shared.may_pass() || to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// All links of a network.
#[derive(Debug)]
pub struct Proxy {
    /// `[from][to]`; none from a node to itself.
    links: Vec<Vec<Option<Link>>>,
}

impl Proxy {
    /// A link from each node to each other.
    ///
    /// # Errors
    /// As [`Link::start`].
    pub fn start(nodes: &[SocketAddr]) -> io::Result<Self> {
        let link = |from: usize, to: usize| match from == to {
            true => Ok(None),
            false => Link::start(nodes[to]).map(Some),
        };
        let row = |from| (0..nodes.len()).map(|to| link(from, to)).collect::<io::Result<Vec<_>>>();
        let links = (0..nodes.len()).map(row).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { links })
    }

    /// Where `from` reaches `to`; `None`: they are the same.
    pub fn at(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.links[from][to].as_ref().map(Link::at)
    }

    /// Turns each link from and to a node.
    pub fn set(&self, node: usize, mode: Mode) {
        for (from, row) in self.links.iter().enumerate() {
            for (to, link) in row.iter().enumerate() {
                if let Some(link) = link
                    && (from == node || to == node)
                {
                    link.set(mode);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// Sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut writer);
                });
            }
        });
        at
    }

    /// A client whose answers arrive in a channel; the channel closes with the connection.
    fn client(at: SocketAddr) -> (TcpStream, mpsc::Receiver<u8>) {
        let stream = TcpStream::connect(at).unwrap();
        let reader = stream.try_clone().unwrap();
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for byte in io::BufReader::new(reader).bytes() {
                let Ok(byte) = byte else { break };
                if sender.send(byte).is_err() {
                    break;
                }
            }
        });
        (stream, answers)
    }

    /// What is written comes back.
    #[track_caller]
    fn check_echo((stream, answers): &mut (TcpStream, mpsc::Receiver<u8>), bytes: &[u8]) {
        stream.write_all(bytes).unwrap();
        let all: Vec<u8> = bytes.iter().map(|_| answers.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(all, bytes);
    }

    #[test]
    fn an_open_link_carries_bytes_both_ways() {
        let link = Link::start(echo()).unwrap();
        check_echo(&mut client(link.at()), b"abc");
    }

    #[test]
    fn a_held_link_keeps_bytes_and_connections_until_it_is_open_again() {
        let link = Link::start(echo()).unwrap();
        let mut first = client(link.at());
        check_echo(&mut first, b"a");
        link.set(Mode::Held);
        let (mut stream, answers) = first;
        stream.write_all(b"b").unwrap();
        // One that comes meanwhile gets no answer either.
        let (mut late, late_answers) = client(link.at());
        late.write_all(b"c").unwrap();
        let silence = Duration::from_millis(200);
        assert_eq!(answers.recv_timeout(silence), Err(mpsc::RecvTimeoutError::Timeout));
        assert_eq!(late_answers.recv_timeout(silence), Err(mpsc::RecvTimeoutError::Timeout));
        link.set(Mode::Open);
        assert_eq!(answers.recv_timeout(LONG), Ok(b'b'));
        assert_eq!(late_answers.recv_timeout(LONG), Ok(b'c'));
    }

    #[test]
    fn a_cut_link_closes_what_there_is_and_refuses_what_comes() {
        let link = Link::start(echo()).unwrap();
        let mut first = client(link.at());
        check_echo(&mut first, b"a");
        link.set(Mode::Cut);
        assert_eq!(first.1.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        let (_refused, nothing) = client(link.at());
        assert_eq!(nothing.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        link.set(Mode::Open);
        check_echo(&mut client(link.at()), b"b");
    }

    #[test]
    fn a_held_link_that_is_cut_loses_what_it_held() {
        let link = Link::start(echo()).unwrap();
        let mut first = client(link.at());
        check_echo(&mut first, b"a");
        link.set(Mode::Held);
        let (mut stream, answers) = first;
        stream.write_all(b"b").unwrap();
        link.set(Mode::Cut);
        assert_eq!(answers.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_node_is_shut_off_and_the_others_are_not() {
        let nodes: Vec<SocketAddr> = (0..3).map(|_| echo()).collect();
        let proxy = Proxy::start(&nodes).unwrap();
        proxy.set(1, Mode::Cut);
        let answer = |from: usize, to: usize| {
            let (mut stream, answers) = client(proxy.at(from, to).unwrap());
            let _ = stream.write_all(b"x"); // Refused: the answer says so.
            answers.recv_timeout(LONG).is_ok()
        };
        assert!(answer(0, 2) && answer(2, 0));
        assert!(!answer(0, 1) && !answer(1, 0) && !answer(1, 2));
        assert_eq!(proxy.at(1, 1), None);
    }
}
