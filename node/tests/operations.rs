//! A day in the operator's life, from outside: a log for programs, settings read again, a doctor.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

fn command(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    // A world of its own: nothing of the person who runs the tests.
    command.env_clear().env("HOME", home).args(words.split_whitespace());
    command.arg("--home").arg(home);
    command
}

/// A node that serves.
struct Node {
    child: Child,
    /// `127.0.0.1:port`
    at: String,
    log: BufReader<ChildStderr>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(home: &Path, words: &str, notify: Option<&Path>) -> Self {
        let words = format!(
            "dev --http 127.0.0.1:0 --rpc 127.0.0.1:0 --udp-port 0 --media-ip 127.0.0.1 --shards 1 {words}"
        );
        let mut command = command(home, &words);
        if let Some(socket) = notify {
            command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "200000");
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let mut screen = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        while !screen.contains("Ctrl-C") {
            assert_ne!(lines.read_line(&mut screen).expect("text"), 0, "no screen: {screen}");
        }
        let (_, after) = screen.split_once("://").expect("an address");
        let at = after.split(['/', '\n']).next().expect("host and port").to_owned();
        Self { child, at, log }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill(1)").success());
    }

    /// Waits for a line of the log with `word` in it, and gives it.
    #[track_caller]
    fn await_log(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "the node ended without a word of {word:?}");
            if line.contains(word) {
                return line;
            }
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.at).expect("it listens");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.at).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    /// Ends it; what was left of its log.
    fn end(mut self) -> String {
        self.signal("-TERM");
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("text");
        assert_eq!(self.child.wait().expect("ours").code(), Some(0), "{log}");
        log
    }
}

#[test]
fn each_line_of_a_log_for_programs_is_one_object() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), "--log-format json --log info", None);
    node.get("/healthz");
    let log = node.end();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).expect(line);
        assert!(value["timestamp"].is_string() && value["fields"]["message"].is_string(), "{line}");
        let level = value["level"].as_str().expect(line);
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "{line}");
    }
    assert!(log.contains("\"stopped\""), "{log}");
}

/// R112
#[test]
fn settings_are_read_again_while_the_node_serves_and_a_mistake_changes_nothing() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("sutantra.toml");
    fs::write(&file, "grace-ms = 3000\n").expect("ours");
    let mut node = Node::start(home.path(), "", None);
    let pid = node.child.id();
    fs::write(&file, "grace-ms = 4000\nsessions-max = 5\nshards = 2\n").expect("ours");
    node.signal("-HUP");
    let said = node.await_log("read again");
    // A flag goes before the file.
    assert!(said.contains("taken over: grace-ms, sessions-max"), "{said}");
    assert!(!said.contains("shards"), "{said}");
    fs::write(&file, "grace-ms = 5000\nsesions-max = 5\n").expect("ours");
    node.signal("-HUP");
    let said = node.await_log("configuration in force stays");
    assert!(said.contains("sutantra.toml:2") && said.contains("`sessions-max`"), "{said}");
    fs::write(&file, "grace-ms = 4000\nsessions-max = 5\nlog-format = \"json\"\n").expect("ours");
    node.signal("-HUP");
    let said = node.await_log("taken over: log-format");
    let line: Value = serde_json::from_str(&said).expect("the log's new form");
    assert_eq!(line["level"], "INFO");
    assert!(node.get("/readyz").contains(" 200 ") && node.child.id() == pid);
    node.end();
}

/// R111
#[test]
fn a_service_manager_hears_ready_its_watchdog_a_reload_and_the_end() {
    let home = TempDir::new().unwrap();
    let socket = home.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("ours");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let node = Node::start(home.path(), "--no-demo", Some(&socket));
    let hears = |word: &str| {
        loop {
            let mut buffer = [0; 2048];
            let len = manager.recv(&mut buffer).expect("a datagram");
            let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if said.starts_with(word) {
                return said;
            }
        }
    };
    assert!(hears("READY=1").contains(&format!("STATUS=serving http://{}", node.at)));
    hears("WATCHDOG=1");
    node.signal("-HUP");
    hears("RELOADING=1");
    hears("READY=1");
    node.end();
    hears("STOPPING=1");
}

#[track_caller]
fn doctor(home: &Path, words: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        command(home, &format!("doctor {words}")).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn the_doctor_looks_beside_a_running_node_and_names_what_to_mend() {
    let home = TempDir::new().unwrap();
    let free = "http = \"127.0.0.1:0\"\nudp-port = 0\n";
    fs::write(home.path().join("sutantra.toml"), free).expect("ours");
    let (code, out, err) = doctor(home.path(), "");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("no node runs on it") && out.contains("candidates"), "{out}");

    let node = Node::start(home.path(), "--no-demo", None);
    let (port, rpc) = (node.at.clone(), format!("http://{}/rpc", node.at));
    // With the settings of the node itself its ports are its own; its RPC is a chain that goes on.
    let file = format!("http = \"{port}\"\nudp-port = 0\n");
    fs::write(home.path().join("sutantra.toml"), file).expect("ours");
    let (code, out, err) = doctor(home.path(), &format!("--json --endpoint {rpc}"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let found = |name: &str| {
        let list = report["findings"].as_array().expect("a list");
        list.iter().find(|of| of["name"] == name).unwrap_or_else(|| panic!("no {name}: {out}"))
    };
    assert_eq!(report["ok"], true);
    let pid = format!("pid {}", node.child.id());
    assert!(found("home")["found"].as_str().expect("text").ends_with(&pid));
    assert!(found("HTTP port")["found"].as_str().expect("text").contains("this home's node"));
    assert_eq!(found("node")["level"], "ok");
    assert_eq!(found("clock and chain")["level"], "ok");
    let endpoint = found(&format!("endpoint {rpc}"));
    assert!(endpoint["found"].as_str().expect("text").contains("height"), "{endpoint}");

    // Somebody else's port, and an endpoint where nobody is: two things to mend, exit code 1.
    let other = TempDir::new().unwrap();
    let words = "--endpoint http://127.0.0.1:9";
    fs::write(other.path().join("sutantra.toml"), format!("http = \"{port}\"\nudp-port = 0\n"))
        .expect("ours");
    let (code, out, err) = doctor(other.path(), words);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("!! HTTP port") && out.contains(&pid) && out.contains("--http"), "{out}");
    assert!(out.contains("!! endpoint http://127.0.0.1:9"), "{out}");
    assert!(err.contains("something must be mended"), "{err}");
    node.end();
}
