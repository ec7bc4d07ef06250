//! An engine's side of the socket, one message at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use consensus_abci::server::{Frames, ListenAddr};
use prost::Message;
use tendermint_proto::v0_38::abci::{Request, Response, request, response};

use crate::world::Dir;

/// Longer than any answer takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The socket file of a server in `dir`.
pub fn socket_in(dir: &Dir) -> ListenAddr {
    ListenAddr::Unix(dir.path().join("abci.sock"))
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

trait Socket: Read + Write + Send {
    fn end_writing(&self);
}

impl Socket for UnixStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Socket for TcpStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

pub struct Client {
    socket: Box<dyn Socket>,
    frames: Frames,
}

impl Client {
    pub fn connect(at: &ListenAddr) -> Client {
        let socket: Box<dyn Socket> = match at {
            ListenAddr::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            ListenAddr::Tcp(addr) => {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        };
        Client { socket, frames: Frames::new(1 << 30) }
    }

    pub fn send(&mut self, value: request::Value) {
        self.write(&framed(value));
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Writes what the server may refuse to read.
    pub fn try_write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    pub fn end_writing(&self) {
        self.socket.end_writing();
    }

    /// The next answer; `None` when the server closed.
    pub fn next(&mut self) -> Option<response::Value> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(frame) = self.frames.next_frame().expect("the server's lengths are right") {
                let response = Response::decode(frame).expect("the server's answers are right");
                return Some(response.value.expect("an answer says something"));
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.frames.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn call(&mut self, value: request::Value) -> response::Value {
        self.send(value);
        self.next().expect("an answer")
    }

    /// The next answer is an exception, and the last one.
    #[track_caller]
    pub fn expect_exception(&mut self, part: &str) {
        match self.next() {
            Some(response::Value::Exception(exception)) => {
                assert!(exception.error.contains(part), "{}", exception.error);
            }
            other => panic!("{other:?} instead of an exception"),
        }
        assert_eq!(self.next(), None, "the connection ends");
    }
}

pub fn framed(value: request::Value) -> Vec<u8> {
    Request { value: Some(value) }.encode_length_delimited_to_vec()
}
