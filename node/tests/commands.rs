//! The operator's commands from outside: a home that `init` makes, the node that `start` runs on it,
//! transactions, questions with their proofs, and an endpoint that lies.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time that a peer of the test's proxy may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// An account that the chain does not know at the start.
const STRANGER: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// Exit code, stdout, stderr.
struct Done(i32, String, String);

impl Done {
    #[track_caller]
    fn ok(self) -> String {
        let Self(code, out, err) = self;
        assert_eq!(code, 0, "{out}{err}");
        out
    }

    #[track_caller]
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What a refused command says on stdout.
    #[track_caller]
    fn refused(self, sentence: &str) -> String {
        let Self(code, out, err) = self;
        assert!(code == 1 && err.contains(sentence), "{code}, not {sentence:?}: {out}{err}");
        out
    }
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    // A world of its own: nothing of the person who runs the tests.
    command.env_clear().env("HOME", home);
    command
}

fn run(home: &Path, words: &str, stdin: &str) -> Done {
    let mut command = command(home);
    command.args(words.split_whitespace()).arg("--home").arg(home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut input = child.stdin.take().expect("piped");
    // A command that reads nothing may be gone already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Done(output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// A node on a home that `init` made.
struct World {
    dir: TempDir,
    node: Child,
    rpc: SocketAddr,
    url: String,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl World {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("home");
        run(&home, "init alice --chain-id sutantra-test-1", "").ok();
        let log = fs::File::create(dir.path().join("node.log")).expect("ours");
        let words = "start --http 127.0.0.1:0 --rpc 127.0.0.1:0 --udp-port 0 --media-ip 127.0.0.1 --shards 1";
        let mut command = command(&home);
        command.args(words.split_whitespace()).arg("--home").arg(&home);
        let mut node = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it runs");
        let mut lines = BufReader::new(node.stdout.take().expect("piped"));
        let mut screen = String::new();
        while !screen.contains("Ctrl-C") {
            let read = lines.read_line(&mut screen).expect("text");
            let log = || fs::read_to_string(dir.path().join("node.log")).unwrap_or_default();
            assert_ne!(read, 0, "no screen: {screen}\n{}", log());
        }
        let (_, rpc) = screen.split_once("RPC at http://").expect("the RPC's address");
        let rpc = rpc.split_whitespace().next().expect("host and port");
        let rpc = rpc.trim_end_matches(',').parse().expect("host and port");
        let announced = fs::read_to_string(home.join("lock")).expect("the node's lock");
        let url = announced.lines().nth(1).expect("where its pages are").to_owned();
        Self { dir, node, rpc, url }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn run(&self, words: &str) -> Done {
        run(&self.home(), words, "")
    }

    /// A question, answered as JSON.
    fn query(&self, words: &str) -> Done {
        self.run(&format!("query {words} -o json --rpc http://{}", self.rpc))
    }

    fn tx(&self, words: &str) -> Done {
        self.run(&format!("tx {words} -o json --rpc http://{}", self.rpc))
    }
}

/// Passes requests on to an RPC and changes what it answers.
struct Liar {
    at: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.at);
    }
}

impl Liar {
    /// `lie` gets the method and its answer.
    fn before(rpc: SocketAddr, lie: impl Fn(&str, &mut Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // A command that ends closes its connections: no failure of the proxy.
                let _ = pass_on(stream, rpc, &lie);
            }
        });
        Self { at, is_over }
    }
}

/// Serves one request and closes.
fn pass_on(
    mut stream: TcpStream,
    rpc: SocketAddr,
    lie: &impl Fn(&str, &mut Value),
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let question: Value = serde_json::from_slice(&body).expect("JSON-RPC");

    let url: wallet::http::Url = format!("http://{rpc}").parse().expect("an address");
    let headers = [("Content-Type", "application/json")];
    let request = wallet::http::Request { method: "POST", headers: &headers, body: &body };
    let answer = url.send(request).expect("the node answers");
    let mut json: Value = serde_json::from_slice(&answer.body).expect("JSON");
    lie(question["method"].as_str().expect("a method"), &mut json);
    let text = json.to_string();
    write!(
        stream,
        "HTTP/1.1 {} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        answer.status,
        text.len()
    )
}

/// Changes one byte of a record.
fn other_value(method: &str, answer: &mut Value) {
    let value = &mut answer["result"]["response"]["value"];
    if method == "abci_query"
        && let Some(text) = value.as_str().filter(|text| !text.is_empty())
    {
        let mut bytes = STANDARD.decode(text).expect("base64");
        bytes[0] ^= 1;
        *value = json!(STANDARD.encode(bytes));
    }
}

/// Says that there is no record.
fn no_value(method: &str, answer: &mut Value) {
    if method == "abci_query" {
        answer["result"]["response"]["value"] = json!("");
    }
}

/// Another state under the same signatures.
fn other_state(method: &str, answer: &mut Value) {
    if method == "commit" {
        answer["result"]["signed_header"]["header"]["app_hash"] = json!("AB".repeat(32));
    }
}

/// R4, R52, R111, R112
#[test]
fn an_operator_makes_a_home_asks_with_proofs_and_sends_what_was_signed_elsewhere() {
    let world = World::start();

    // Names of the node, as its own RPC has them.
    let status = world.query("status").json();
    let id = world.run("comet show-node-id").ok();
    assert_eq!(status["status"]["node_id"], id.trim());
    let address = world.run("comet show-address").ok();
    assert_eq!(status["status"]["validator"], address.trim());
    assert_eq!(
        (&status["proved"], &status["status"]["chain_id"]),
        (&json!(false), &json!("sutantra-test-1"))
    );

    // Single records are proved: from the genesis first, from what was verified then.
    let first = world.query("account operator").json();
    assert_eq!(first["proved"], true);
    assert!(first["basis"].as_str().expect("text").contains("genesis file"), "{first}");
    let units: u64 = first["account"]["balance"].as_str().expect("units").parse().expect("units");
    assert!(units > 9_000_000_000_000, "{first}");
    let again = world.query("account operator").json();
    assert!(again["basis"].as_str().expect("text").contains("verified before"), "{again}");
    let absent =
        world.query(&format!("account {STRANGER}")).refused("no such account (proved under");
    let absent: Value = serde_json::from_str(absent.trim()).expect("JSON");
    assert_eq!((&absent["account"], &absent["proved"]), (&Value::Null, &json!(true)));
    let word = world.query("account operator --prove=false").json();
    assert!(
        word["proved"] == false && word["basis"].as_str().expect("text").contains("the word of")
    );

    // Money moves once a person, or -y, says so.
    let to = format!("transfer --to {STRANGER} --amount 1.5 --from operator");
    world.tx(&to).refused("say -y");
    let sent = world.tx(&format!("{to} -y")).json();
    assert_eq!((&sent["code"], &sent["kind"]), (&json!(0), &json!("transfer")));
    let height = sent["height"].as_u64().expect("a block");
    let got = world.query(&format!("account {STRANGER} --height {height}")).json();
    assert_eq!(
        (&got["account"]["balance"], &got["height"]),
        (&json!("1500000000"), &json!(height))
    );
    let before = world.query(&format!("account {STRANGER} --height {}", height - 1));
    before.refused("no such account");
    let hash = sent["hash"].as_str().expect("hex");
    let tx = world.query(&format!("tx {hash}")).json();
    assert_eq!((&tx["proved"], &tx["tx"]["height"]), (&json!(true), &json!(height)));
    assert_eq!(tx["tx"]["body"]["payload"]["kind"], "transfer");
    let block = world.query(&format!("block {height}")).json();
    assert!(block["block"]["transactions"].as_array().expect("a list").contains(&json!(hash)));

    // What cannot be paid is not sent; a refusal has a name, an advice and an exit code.
    let too_much = "transfer --to creator --amount 100000000 --from operator -y";
    world.tx(too_much).refused("are needed with the fee");
    let unknown = format!("end-stream {STRANGER} --from operator -y");
    let refused = world.tx(&unknown).refused("there is no such thing on this chain");
    let refused: Value = serde_json::from_str(refused.trim()).expect("JSON");
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(6), &json!("not_found")));

    // Made here, signed on a machine without a network, sent here.
    let made =
        world.tx("register-stream --title Tests --rate 0.001 --from creator --generate-only");
    let decoded = run(&world.home(), "tx decode -", &made.1).json();
    assert_eq!((&decoded["signed"], &decoded["kind"]), (&json!(false), &json!("register_stream")));
    let signed = run(&world.home(), "tx sign - --from creator", &made.ok()).ok();
    let file = world.dir.path().join("signed.json");
    fs::write(&file, signed.replace("Tests", "Jests")).expect("ours");
    let broadcast = format!("broadcast {}", file.display());
    world.tx(&broadcast).refused("signature");
    fs::write(&file, &signed).expect("ours");
    let stream = world.tx(&broadcast).json()["stream"].as_str().expect("an id").to_owned();
    let record = world.query(&format!("stream {stream}")).json();
    assert_eq!((&record["stream"]["title"], &record["proved"]), (&json!("Tests"), &json!(true)));
    let offline = "tx transfer --to creator --amount 1 --from operator --offline --chain-id x --nonce 7 \
                   --valid-until 9";
    let decoded = run(&world.home(), "tx decode -", &world.run(offline).ok()).json();
    assert_eq!((&decoded["signatures_fit"], &decoded["body"]["nonce"]), (&json!(true), &json!(7)));

    // Lists are nobody's proof, and say so.
    let relays = world.query("relays").json();
    assert_eq!(relays["proved"], false);
    assert_eq!(relays["relays"].as_array().expect("a list").len(), 1);
    let streams = world.query("streams --creator creator").json();
    assert_eq!(streams["streams"][0]["id"], json!(stream));
    world.query("params").json();
    let supply = world.query("supply").json();
    assert_eq!(supply["proved"], true);

    // One screen, and nothing wrong with it.
    let status = world.run("status --json").json();
    assert_eq!((&status["ok"], &status["role"]), (&json!(true), &json!("validator-relay")));
    assert_eq!(status["url"], json!(world.url));
    assert!(status["chain"]["height"].as_u64().expect("a height") >= height, "{status}");
    assert!(status["rpc"]["peers"].is_u64(), "{status}");
    let screen = world.run("status").ok();
    assert!(screen.contains("wrong    nothing"), "{screen}");
    let elsewhere = world.dir.path().join("elsewhere");
    run(&elsewhere, "status", "").refused("no node runs on");
}

/// R52
#[test]
fn an_endpoint_that_lies_is_caught_and_named() {
    let world = World::start();
    world.query("account operator").ok();
    #[track_caller]
    fn check(world: &World, lie: fn(&str, &mut Value), words: &str) {
        let liar = Liar::before(world.rpc, lie);
        let question = format!("query {words} -o json --rpc http://{}", liar.at);
        let Done(code, out, err) = world.run(&question);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(&liar.at.to_string()), "it is named: {err}");
        assert!(err.contains("do not use this endpoint"), "{err}");
    }
    check(&world, other_value, "account operator");
    check(&world, other_value, "params");
    check(&world, no_value, "account operator");
    check(&world, other_state, "account operator");

    // Whoever declines the proof is told that it is a word, and whose.
    let liar = Liar::before(world.rpc, other_value);
    let word = world
        .run(&format!("query account operator --prove=false -o json --rpc http://{}", liar.at));
    let word = word.json();
    assert!(word["basis"].as_str().expect("text").contains(&liar.at.to_string()), "{word}");
}

/// R112
#[test]
fn keys_are_added_copied_and_come_back_with_their_passphrase_alone() {
    let dir = TempDir::new().unwrap();
    let (home, other) = (dir.path().join("home"), dir.path().join("other"));
    run(&home, "keys list", "").refused("no keys yet");
    run(&home, "init alice", "").ok();
    let added = run(&home, "keys add savings", "").ok();
    let words = added.lines().next().expect("24 words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    run(&home, "keys add savings", "").refused("is there already");
    run(&home, "keys export savings", "").refused("say --yes");
    assert_eq!(run(&home, "keys export savings --yes", "").ok().trim(), words);
    let account = run(&home, "keys show savings", "").ok();
    run(&other, "keys import savings", &words.replacen(' ', " zoo ", 1)).refused("25");
    let imported = run(&other, "keys import savings", &words).ok();
    assert!(imported.contains(account.trim()), "{imported}");

    let (passphrase, wrong) = (dir.path().join("passphrase"), dir.path().join("wrong"));
    fs::write(&passphrase, "correct horse battery\n").expect("ours");
    fs::write(&wrong, "correct horse batterz\n").expect("ours");
    let with = |file: &Path| format!("--passphrase-file {}", file.display());
    let backup = dir.path().join("backup");
    let makes = format!("keys backup {} {}", backup.display(), with(&passphrase));
    let said = run(&home, &makes, "").ok();
    assert!(said.contains("priv_validator_key.json") && !said.contains("priv_validator_state"));
    run(&home, &makes, "").refused("is there already");
    let third = dir.path().join("third");
    let takes = format!("keys restore {}", backup.display());
    run(&third, &format!("{takes} {}", with(&wrong)), "").refused("passphrase is wrong");
    assert!(!third.exists());
    run(&third, &format!("{takes} {}", with(&passphrase)), "").ok();
    let list = |home: &Path| run(home, "keys list --json", "").json();
    assert_eq!(list(&third), list(&home));
    assert!(!third.join("config/priv_validator_key.json").exists(), "unless it is asked for");
    run(&third, &format!("{takes} --with-validator {}", with(&passphrase)), "").ok();
    assert_eq!(
        run(&third, "comet show-validator", "").ok(),
        run(&home, "comet show-validator", "").ok()
    );
}

#[test]
fn this_program_tells_its_versions_and_completes_in_a_shell() {
    let dir = TempDir::new().unwrap();
    let output = command(dir.path()).args(["version", "--long"]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    for row in ["commit", "rustc", "ABCI       2.0", "block      11", "CometBFT"] {
        assert!(text.contains(row), "{row} is not in {text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), &format!("completions {shell}"), "").ok();
        assert!(script.contains("register-stream"), "{shell}");
    }
}
