//! The real CometBFT as a child, with the applications that are built into it: `kvstore` in memory,
//! `persistent_kvstore` on the disk, `noop`.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use comet::process::{
    Binary, BinaryError, CONFIG_FILE, Comet, FilesError, LOG_FILE, Places, Settings, SpawnError,
    State, prepare,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn binary() -> Binary {
    Binary::find(None).unwrap_or_else(|error| panic!("{error}"))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port")
}

/// A home with keys and a genesis of its own, and settings for it.
fn home(dir: &TempDir, app: &str) -> Settings {
    let init = Command::new(binary().path).args(["init", "--home"]).arg(dir.path()).output();
    assert!(init.expect("it runs").status.success());
    // What `init` leaves besides keys and genesis is ours to write.
    fs::remove_dir_all(dir.path().join("data")).expect("made above");
    fs::remove_file(dir.path().join(CONFIG_FILE)).expect("made above");
    Settings {
        rpc: free_address(),
        p2p: free_address(),
        timeout_commit: Some(Duration::from_millis(50)),
        ..Settings::new(dir.path(), app)
    }
}

fn spawn(settings: &Settings) -> Comet {
    let comet = Comet::spawn(binary(), settings.clone()).unwrap_or_else(|error| panic!("{error}"));
    comet.wait_running(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    comet
}

fn get(at: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(at).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn height(at: SocketAddr) -> u64 {
    let status = get(at, "/status").unwrap_or_default();
    let text = &status["result"]["sync_info"]["latest_block_height"];
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < PATIENCE, "{what} has not come to pass");
        thread::sleep(Duration::from_millis(20));
    }
}

fn lives(pid: u32) -> bool {
    // A zombie is dead, and waits to be seen by its parent.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.expect("kill is everywhere").success());
}

#[track_caller]
fn refused(settings: &Settings, sentence: &str) -> FilesError {
    match Comet::spawn(binary(), settings.clone()) {
        Err(SpawnError::Files(error)) => {
            let text = error.to_string();
            assert!(text.contains(sentence), "{text}");
            error
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was started, and should be refused: {sentence}"),
    }
}

/// Starts it, and gives the sentence with which it fails.
#[track_caller]
fn failure(settings: &Settings) -> String {
    let comet = Comet::spawn(binary(), settings.clone()).unwrap_or_else(|error| panic!("{error}"));
    match comet.wait_until(PATIENCE, |state| matches!(state, State::Failed(_))) {
        State::Failed(sentence) => sentence,
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_node_runs_stops_in_order_and_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "persistent_kvstore");
    let mut comet = spawn(&settings);
    wait("height 3", || height(settings.rpc) >= 3);
    let pid = comet.pid().expect("it runs");
    comet.stop();
    assert_eq!((comet.state(), comet.pid(), comet.restarts()), (State::Stopped, None, 0));
    assert!(!lives(pid));
    let log = fs::read_to_string(dir.path().join(LOG_FILE)).expect("written");
    assert!(log.contains("Started node") && log.contains("Closing statestore"), "{log}");

    let comet = spawn(&settings);
    assert!(height(settings.rpc) >= 3);
    wait("a further block", || height(settings.rpc) >= 5);
    drop(comet);
    assert!(TcpStream::connect(settings.rpc).is_err(), "dropped is stopped");
}

#[test]
fn a_node_that_is_killed_starts_again_by_itself() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "persistent_kvstore");
    let comet = spawn(&settings);
    wait("height 2", || height(settings.rpc) >= 2);
    let (before, pid) = (height(settings.rpc), comet.pid().expect("it runs"));
    kill(pid);
    wait("the restart", || comet.restarts() == 1);
    comet.wait_running(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    wait("a further block", || height(settings.rpc) > before);
    assert_ne!(comet.pid(), Some(pid));
}

/// The other half of the next test: a process that starts a child and is killed.
#[test]
fn a_parent() {
    let Some(home) = env::var_os("SUTANTRA_TEST_PARENT_HOME") else { return };
    let settings =
        Settings { rpc: free_address(), p2p: free_address(), ..Settings::new(home, "kvstore") };
    let comet = spawn(&settings);
    println!("pid {}", comet.pid().expect("it runs"));
    thread::sleep(PATIENCE);
}

#[test]
fn a_node_dies_with_the_process_that_started_it() {
    let dir = TempDir::new().unwrap();
    home(&dir, "kvstore");
    let mut parent = Command::new(env::current_exe().expect("a test"))
        .args(["--exact", "a_parent", "--nocapture"])
        .env("SUTANTRA_TEST_PARENT_HOME", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| {
        // The test runner's own words may stand before it.
        line.split_once("pid ").map(|(_, pid)| pid.parse::<u32>().expect("a number"))
    });
    let pid = pid.expect("the parent tells the pid of its child");
    assert!(lives(pid));
    parent.kill().expect("ours");
    parent.wait().expect("ours");
    wait("the child's end", || !lives(pid));
}

#[test]
fn the_operators_config_is_written_once_and_obeyed() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { moniker: Some("anna's node".to_owned()), ..home(&dir, "kvstore") };
    prepare(&binary(), &settings).expect("it can be");
    let path = dir.path().join(CONFIG_FILE);
    let text = fs::read_to_string(&path).expect("written");
    for line in [
        "moniker = \"anna's node\"",
        "timeout_commit = \"50ms\"",
        "peer_gossip_sleep_duration = \"10ms\"",
        "flush_throttle_timeout = \"10ms\"",
        "size = 50000",
        "cache_size = 200000",
        "max_request_batch_size = 100",
        "allow_duplicate_ip = true",
        "addr_book_strict = false",
    ] {
        assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}\n{text}");
    }
    let changed = text.replace("max_request_batch_size = 100", "max_request_batch_size = 1");
    fs::write(&path, changed).expect("ours");
    let _comet = spawn(&settings);
    let status = get(settings.rpc, "/status").expect("it answers");
    assert_eq!(status["result"]["node_info"]["moniker"], "anna's node");
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"health"},{"jsonrpc":"2.0","id":2,"method":"health"}]"#;
    let mut stream = TcpStream::connect(settings.rpc).expect("it answers");
    let len = batch.len();
    write!(stream, "POST / HTTP/1.0\r\nContent-Length: {len}\r\n\r\n{batch}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("max"), "a batch of two is too many now: {answer}");
}

#[test]
fn a_wrong_value_in_the_config_is_named() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "kvstore");
    prepare(&binary(), &settings).expect("it can be");
    let path = dir.path().join(CONFIG_FILE);
    let text = fs::read_to_string(&path).expect("written");
    fs::write(&path, text.replace("size = 50000", "size = \"much\"")).expect("ours");
    let sentence = failure(&settings);
    assert!(sentence.contains("config.toml") && sentence.contains("mempool.size"), "{sentence}");
}

#[test]
fn what_would_go_wrong_is_refused_before_the_start() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "persistent_kvstore");
    let taken = TcpListener::bind(settings.p2p).expect("free");
    refused(&settings, "choose another address with --p2p");
    drop(taken);
    let key = dir.path().join("config/node_key.json");
    let elsewhere = dir.path().join("node_key.json");
    fs::rename(&key, &elsewhere).expect("ours");
    refused(&settings, "node_key.json is missing");
    fs::rename(&elsewhere, &key).expect("ours");

    let mut comet = spawn(&settings);
    wait("a block", || height(settings.rpc) >= 1);
    comet.stop();

    // CometBFT itself would start, with the genesis that it remembers.
    let genesis = dir.path().join("config/genesis.json");
    let text = fs::read_to_string(&genesis).expect("ours");
    let doc: Value = serde_json::from_str(&text).expect("JSON");
    let id = doc["chain_id"].as_str().expect("an id");
    fs::write(&genesis, text.replace(id, "another-chain")).expect("ours");
    let error = refused(&settings, "are of chain");
    assert!(error.to_string().contains(id) && error.to_string().contains("another-chain"));
    fs::write(&genesis, "{").expect("ours");
    refused(&settings, "is no genesis document");
    // The same document in another form is the same genesis.
    fs::write(&genesis, doc.to_string()).expect("ours");
    prepare(&binary(), &settings).expect("nothing has changed");

    fs::remove_file(dir.path().join("data/priv_validator_state.json")).expect("ours");
    refused(&settings, "it could sign twice");
}

#[test]
fn a_home_that_another_comet_works_on_is_refused() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "kvstore");
    let _first = spawn(&settings);
    let second = Settings { rpc: free_address(), p2p: free_address(), ..settings };
    let sentence = failure(&second);
    assert!(sentence.contains("another CometBFT works on this home"), "{sentence}");
}

#[test]
fn an_application_ahead_of_its_engine_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "persistent_kvstore");
    let mut comet = spawn(&settings);
    wait("a block", || height(settings.rpc) >= 2);
    comet.stop();
    let entries = fs::read_dir(dir.path().join("data")).expect("ours").flatten();
    for entry in entries.filter(|entry| entry.file_name() != "kvstore.db") {
        let path = entry.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("ours");
    }
    let started = Instant::now();
    let sentence = failure(&settings);
    assert!(sentence.contains("CometBFT's blocks end at 0"), "{sentence}");
    assert!(sentence.contains("move chain/state aside"), "{sentence}");
    assert!(started.elapsed() < Duration::from_secs(5), "no second attempt");
}

#[test]
fn an_application_that_computes_another_state_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "persistent_kvstore");
    let mut comet = spawn(&settings);
    wait("a block", || height(settings.rpc) >= 2);
    comet.stop();
    let sentence = failure(&Settings { app: "noop".to_owned(), ..settings });
    assert!(sentence.contains("computes another state"), "{sentence}");
}

#[test]
fn a_validator_that_may_have_signed_already_says_so_and_signs_nothing() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "kvstore");
    prepare(&binary(), &settings).expect("it can be");
    let state = dir.path().join("data/priv_validator_state.json");
    fs::write(state, r#"{"height":"500","round":0,"step":3}"#).expect("ours");
    let comet = spawn(&settings);
    wait("the warning", || comet.warning().is_some());
    let warning = comet.warning().expect("seen above");
    assert!(warning.contains("does not sign"), "{warning}");
    assert_eq!((height(settings.rpc), comet.state()), (0, State::Running));
}

fn script(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    // Written by another process: a file that this one has open for writing cannot be run, and a
    // child of another test may hold it open for a moment.
    let mut cp = Command::new("sh")
        .args(["-c", "cat > \"$0\"; chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    let text = format!("#!/bin/sh\n{text}\n");
    cp.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    assert!(cp.wait().expect("ours").success());
    path
}

#[test]
fn a_program_that_dies_at_once_is_given_up_with_its_last_words() {
    let dir = TempDir::new().unwrap();
    let settings = home(&dir, "kvstore");
    prepare(&binary(), &settings).expect("it can be");
    let text = "[ $1 = version ] && exec echo 0.38.1\necho 'panic: out of luck'\nexit 2";
    let program = Binary::find(Some(&script(&dir, "cometbft", text))).expect("it says 0.38.1");
    let comet = Comet::spawn(program, settings).unwrap_or_else(|error| panic!("{error}"));
    let failed = comet.wait_until(PATIENCE, |state| matches!(state, State::Failed(_)));
    let State::Failed(sentence) = failed else { panic!("{failed:?}") };
    assert!(sentence.contains("5 times") && sentence.contains("out of luck"), "{sentence}");
    assert_eq!(comet.restarts(), 4);
}

#[test]
fn the_program_is_found_in_order_and_a_wrong_one_is_named() {
    let dir = TempDir::new().unwrap();
    let (good, old) = ("echo 0.39.4", "echo 1.0.1");
    fs::create_dir_all(dir.path().join("src/.tools")).expect("ours");
    fs::create_dir_all(dir.path().join("src/deep/down")).expect("ours");
    fs::create_dir_all(dir.path().join("bin")).expect("ours");
    let none = |_: &str| None;
    let places = |path: &Path| Places {
        env: &none,
        current_dir: Some(path.to_owned()),
        executable: Some(dir.path().join("bin/sutantra-node")),
    };
    let deep = dir.path().join("src/deep/down");
    let find = |given: Option<&Path>| Binary::find_in(given, &places(&deep));
    let error = find(None).expect_err("nothing is there").to_string();
    assert!(error.contains("cargo xtask tools") && error.contains("go install"), "{error}");

    let beside = script(&dir, "bin/cometbft", old);
    let error = find(None).expect_err("too new").to_string();
    assert!(error.contains("is CometBFT 1.0.1; this node works with CometBFT 0.38.x"), "{error}");
    let tools = script(&dir, "src/.tools/cometbft", good);
    assert_eq!(find(None).expect("the checkout's").path, tools);
    // What is named is meant.
    assert!(matches!(find(Some(&beside)), Err(BinaryError::Unsuitable { .. })));
    let missing = dir.path().join("nowhere");
    assert!(matches!(find(Some(&missing)), Err(BinaryError::Missing { .. })));
    let mute = script(&dir, "mute", "true");
    let error = find(Some(&mute)).expect_err("no version").to_string();
    assert!(error.contains("when it is asked for its version"), "{error}");
    fs::set_permissions(&mute, fs::Permissions::from_mode(0o644)).expect("ours");
    assert!(matches!(find(Some(&mute)), Err(BinaryError::Missing { .. })));
}
