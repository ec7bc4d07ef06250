//! The binary from outside: exit codes, what it prints, who it shares a host with.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use tempfile::TempDir;

fn command(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    // A world of its own: nothing of the person who runs the tests.
    command.env_clear().env("HOME", home).args(words.split_whitespace());
    command
}

#[track_caller]
fn run(home: &Path, words: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(home, words).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// A node that has shown its screen.
struct Node {
    child: Child,
    screen: String,
    log: BufReader<ChildStderr>,
}

impl Node {
    fn start(home: &Path, words: &str) -> Self {
        let words = format!("--http 127.0.0.1:0 --udp-port 0 --media-ip 127.0.0.1 {words}");
        let mut child = command(home, &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut screen = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        while !screen.contains("Ctrl-C") {
            if lines.read_line(&mut screen).expect("text") == 0 {
                let mut said = String::new();
                let _ = log.read_to_string(&mut said);
                panic!("no screen: {screen}\n{said}");
            }
        }
        Self { child, screen, log }
    }

    /// Waits until the log says `word`.
    #[track_caller]
    fn await_log(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let read = self.log.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "the node ended without a word of {word:?}");
        }
    }

    /// `127.0.0.1:port`
    fn http(&self) -> &str {
        let (_, after) = self.screen.split_once("://").expect("an address");
        after.split(['/', '\n']).next().expect("host and port")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().expect("kill(1)");
        assert!(sent.success());
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("text");
        (self.child.wait().expect("ours").code(), log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(at: &str, words: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    write!(stream, "{words} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn a_node_shows_where_to_go_and_ends_with_zero_when_told() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), "--shards 1");
    for word in
        ["Page     http://127.0.0.1:", "Demo", "WHIP", "WHEP", "Metrics", "UDP port", "buffers"]
    {
        assert!(node.screen.contains(word), "{word} is missing:\n{}", node.screen);
    }
    assert!(!node.screen.contains('\x1b'), "no colours in a pipe");
    assert!(request(node.http(), "GET /healthz").starts_with("HTTP/1.1 200"));
    assert!(request(node.http(), "GET /api/streams").contains("\"demo\""));
    assert!(request(node.http(), "GET /ca.crt").starts_with("HTTP/1.1 404"));
    node.signal("-TERM");
    let (code, log) = node.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
}

#[test]
fn a_taken_tcp_port_is_one_clear_line_and_exit_code_1() {
    let home = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let (code, out, err) = run(home.path(), &format!("--http 127.0.0.1:{port} --udp-port 0"));
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        format!(
            "error: TCP port {port} on 127.0.0.1 is taken by another process; choose another with --http\n"
        )
    );
}

#[test]
fn a_taken_udp_port_is_one_clear_line_and_exit_code_1() {
    let home = TempDir::new().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let words = format!("--http 127.0.0.1:0 --media-ip 127.0.0.1 --udp-port {port}");
    let (code, out, err) = run(home.path(), &words);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        format!(
            "error: UDP port {port} on 127.0.0.1 is taken by another process; choose another with --udp-port\n"
        )
    );
}

#[test]
fn two_nodes_do_not_share_a_home_and_a_killed_one_leaves_it_free() {
    let home = TempDir::new().unwrap();
    let mut node = Node::start(home.path(), "--no-demo");
    let (code, _, err) = run(home.path(), "--http 127.0.0.1:0 --udp-port 0");
    assert_eq!(code, 1);
    assert!(err.contains(&format!("in use by the node with pid {}", node.child.id())), "{err}");
    node.child.kill().expect("ours");
    node.child.wait().expect("ours");
    let again = Node::start(home.path(), "--no-demo");
    assert!(request(again.http(), "GET /healthz").starts_with("HTTP/1.1 200"));
}

/// R121
#[test]
fn a_grant_is_revoked_at_the_running_node_of_the_home() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path(), "--no-demo");
    let (code, token, err) = run(home.path(), "grant --stream demo --role subscribe --ttl 1h");
    assert_eq!(code, 0, "{err}");
    let watch = || {
        let words =
            format!("POST /whep/demo HTTP/1.1\r\nAuthorization: Bearer {}\r\n", token.trim());
        let mut stream = TcpStream::connect(node.http()).expect("it listens");
        write!(
            stream,
            "{words}Host: {}\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\nConnection: close\r\n\r\nv=0\n",
            node.http()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    // Let in by the token, refused for what follows: no such stream, or no usable offer.
    assert!(!["401", "403"].contains(&watch().as_str()), "{}", watch());
    let (code, out, err) = run(home.path(), &format!("revoke --token {}", token.trim()));
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with(&format!("revoked at http://{}", node.http())), "{out}");
    assert_eq!(watch(), "403");
}

#[test]
fn configuration_is_printed_checked_and_refused_with_exit_code_2() {
    let home = TempDir::new().unwrap();
    let (code, printed, _) = run(home.path(), "config print --udp-port 9");
    assert_eq!(code, 0);
    assert!(printed.contains("udp-port = 9") && printed.contains("# --udp-port"), "{printed}");

    let file = home.path().join("relay.toml");
    fs::write(&file, &printed).expect("ours");
    let file = file.display();
    let (code, out, _) = run(home.path(), &format!("config check {file}"));
    assert_eq!((code, out), (0, format!("{file}: ok\n")));

    fs::write(home.path().join("relay.toml"), "http = \"127.0.0.1:1\"\nudp_prt = 1\n")
        .expect("ours");
    let expected = format!("error: {file}:2: unknown key `udp_prt`; did you mean `udp-port`?\n");
    let (code, out, err) = run(home.path(), &format!("config check {file}"));
    assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected.as_str()));
    let (code, _, err) = run(home.path(), &format!("dev --config {file}"));
    assert_eq!((code, err), (2, expected));
    assert_eq!(run(home.path(), "--no-such-flag").0, 2);
    assert_eq!(run(home.path(), "grant --stream demo --role subscribe --ttl 99d").0, 1);
    assert_eq!(run(home.path(), "--help").0, 0);
    let (code, version, _) = run(home.path(), "version --long");
    assert!(code == 0 && version.contains("io_uring"), "{version}");
}

#[test]
fn the_local_network_mode_speaks_https_and_gives_its_authority_to_everybody() {
    let home = TempDir::new().unwrap();
    let mut child = command(home.path(), "--lan --http 0.0.0.0:0 --udp-port 0 --no-demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut screen = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    while !screen.contains("Ctrl-C") && lines.read_line(&mut screen).expect("text") > 0 {}
    let port = screen.split_once("HTTP").and_then(|(_, rest)| rest.split_once("0.0.0.0:"));
    let port = port.and_then(|(_, rest)| rest.split([',', ' ']).next()).expect("the port is shown");
    let ca = request(&format!("127.0.0.1:{port}"), "GET /ca.crt");
    let page = request(&format!("127.0.0.1:{port}"), "GET /");
    child.kill().expect("ours");
    child.wait().expect("ours");
    assert!(screen.contains("Page     https://") && screen.contains('▀'), "{screen}");
    assert!(ca.contains("BEGIN CERTIFICATE") && !ca.contains("PRIVATE"), "{ca}");
    assert!(page.starts_with("HTTP/1.1 308"), "{page}");
}

#[test]
fn a_second_interrupt_does_not_wait_for_anybody() {
    let home = TempDir::new().unwrap();
    let mut node = Node::start(home.path(), "--no-demo --open");
    // A request whose body never comes: draining gives it its time.
    let mut slow = TcpStream::connect(node.http()).expect("it listens");
    let words = "POST /whip/slow HTTP/1.1\r\nContent-Type: application/sdp\r\nExpect: 100-continue";
    write!(slow, "{words}\r\nHost: {}\r\nContent-Length: 9\r\n\r\n", node.http())
        .expect("it reads");
    // The handler asks for the body: the request is under way.
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).expect("an interim answer");
    assert_eq!(&answer, b"HTTP/1.1 100");
    node.signal("-INT");
    node.await_log("draining");
    node.signal("-INT");
    assert_eq!(node.end().0, Some(130));
}

#[test]
fn a_hangup_reads_the_certificate_again_and_a_bad_one_is_not_used() {
    let home = TempDir::new().unwrap();
    let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    let pair = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let write = |(cert_pem, key_pem): (String, String)| {
        fs::write(&cert, cert_pem).expect("ours");
        fs::write(&key, key_pem).expect("ours");
    };
    write(pair());
    let words = format!("--no-demo --tls-cert {} --tls-key {}", cert.display(), key.display());
    let mut node = Node::start(home.path(), &words);
    assert!(node.screen.contains("Page     https://127.0.0.1:"), "{}", node.screen);
    write(pair());
    node.signal("-HUP");
    node.await_log("certificate read again");
    fs::write(&key, "nothing").expect("ours");
    node.signal("-HUP");
    node.await_log("the old certificate stays in use");
    assert!(request(node.http(), "GET /").starts_with("HTTP/1.1 308"), "it goes on");

    let (code, _, err) = run(home.path(), &format!("--home {}/b {words}", home.path().display()));
    assert_eq!(code, 1);
    assert!(err.contains("no private key in PEM form"), "{err}");
}
