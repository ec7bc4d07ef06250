//! A foreign process decides over a framed socket: the example itself, run as a program would.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sfu::ports::foreign::ForeignDecisions;
use sfu::ports::gate::MonotonicClock;
use sfu::ports::{Gate, SlotId};

/// A socket path of this test's own; removed with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        Place(std::env::temp_dir().join(format!("sutantra-{name}-{}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn clock() -> MonotonicClock {
    MonotonicClock::new(Instant::now(), sfu::io::monotonic_nanos())
}

fn slot(index: u32) -> SlotId {
    SlotId { shard: 1, index, generation: 9 }
}

fn next(decisions: &ForeignDecisions) -> (SlotId, Gate) {
    decisions.decisions().recv_timeout(Duration::from_secs(60)).expect("a decision within a minute")
}

fn example(place: &Place) -> Example {
    // Cargo builds examples beside the tests: target/<profile>/deps/this -> target/<profile>/examples.
    let this = std::env::current_exe().expect("a test is a program");
    let profile = this.ancestors().nth(2).expect("it lies in target/<profile>/deps");
    let program = profile.join("examples/decision_source");
    let child = Command::new(&program)
        .args([place.0.as_os_str(), "demo".as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    Example(child)
}

/// R121
#[test]
fn a_foreign_source_opens_and_its_end_closes() {
    let place = Place::new("foreign");
    let decisions = ForeignDecisions::listen(&place.0, clock()).expect("a free path");
    decisions.joined(slot(1), b"demo anybody");
    let mut source = example(&place);
    let mut lines = BufReader::new(source.0.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("it prints").expect("text");
    assert_eq!(line(), "connected; allowing \"demo\"");
    assert_eq!(next(&decisions), (slot(1), Gate::OPEN), "who was there before is told of");
    decisions.joined(slot(2), b"other somebody");
    assert_eq!(next(&decisions), (slot(2), Gate::CLOSED));
    decisions.left(slot(2));
    assert_eq!(line(), "1 \"demo anybody\": open");
    assert_eq!(line(), "2 \"other somebody\": closed");
    assert_eq!(line(), "2 left");
    drop(source);
    assert_eq!(next(&decisions), (slot(1), Gate::CLOSED), "what it opened does not stay open");
    let _again = example(&place);
    assert_eq!(next(&decisions), (slot(1), Gate::OPEN), "another one takes over");
}

#[test]
fn a_source_that_breaks_the_rules_is_cut_off() {
    let place = Place::new("garbage");
    let decisions = ForeignDecisions::listen(&place.0, clock()).expect("a free path");
    let mut source = UnixStream::connect(&place.0).expect("it listens");
    source.write_all(&[0, 5, 99, 1, 2, 3, 4]).expect("it reads");
    // Its end of the connection is closed: everything it was told, then the end.
    let mut rest = Vec::new();
    let ended = std::io::Read::read_to_end(&mut source, &mut rest);
    assert!(
        ended.is_ok()
            || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    );
    assert!(decisions.decisions().try_recv().is_err());
}

#[test]
fn a_path_that_somebody_listens_at_is_refused() {
    let place = Place::new("taken");
    let _first = ForeignDecisions::listen(&place.0, clock()).expect("a free path");
    let second = ForeignDecisions::listen(&place.0, clock());
    let message = second.map(|_| ()).expect_err("it is taken").to_string();
    assert!(message.contains("another process listens"), "{message}");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let place = Place::new("file");
    std::fs::write(&place.0, "precious").expect("a temporary file");
    let refused = ForeignDecisions::listen(&place.0, clock());
    let message = refused.map(|_| ()).expect_err("it is a file").to_string();
    assert!(message.contains("no socket"), "{message}");
    assert_eq!(std::fs::read_to_string(&place.0).expect("still there"), "precious");
}
