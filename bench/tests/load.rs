//! The program as an operator runs it: against a real SFU in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::load::{self, LoadConfig};
use bench::report::Thresholds;
use bench::signal::Target;
use bench::sink::Sink;
use bench::trace::Trace;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sutantra-bench");

struct Sfu {
    child: Child,
    http_port: u16,
}

impl Sfu {
    fn start() -> Sfu {
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let http_port = http.local_addr().expect("bound").port();
        let udp_port = udp.local_addr().expect("bound").port();
        drop((http, udp));
        let child = Command::new(PROGRAM)
            .args(["reference-sfu", "--http", &format!("127.0.0.1:{http_port}")])
            .args(["--udp-port", &udp_port.to_string()])
            .spawn()
            .expect("the program starts");
        let sfu = Sfu { child, http_port };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, http_port)).is_err() {
            assert!(Instant::now() < until, "the SFU does not listen");
            std::thread::yield_now();
        }
        sfu
    }

    fn load(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["load", "--ramp", "100"]);
        command.args(["--base", &format!("http://127.0.0.1:{}", self.http_port)]);
        command.args(["--pid", &self.child.id().to_string()]);
        if !arguments.iter().any(|argument| argument.starts_with("--duration")) {
            command.args(["--duration", "500ms"]);
        }
        command.args(arguments);
        command
    }
}

impl Drop for Sfu {
    fn drop(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

/// R114
#[test]
fn one_command_measures_reports_as_text_and_json_and_judges_by_exit_code() {
    let sfu = Sfu::start();
    let json = std::env::temp_dir().join(format!("bench-load-{}.json", std::process::id()));
    let path = json.to_str().expect("a plain path");
    let good =
        sfu.load(&["--viewers", "4", "--publishers", "2", "--max-loss", "0", "--json", path]);
    let text = String::from_utf8_lossy(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&good.stderr));
    assert!(text.contains("4 play, 0 refused, 0 ended"), "{text}");
    let report = std::fs::read_to_string(&json).expect("it was written");
    std::fs::remove_file(&json).expect("it is there");
    let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
    let expected = report["packets"]["expected"].as_u64().expect("a number");
    assert!(expected > 4 * 100, "half a second of 316 packets a second, four times: {expected}");
    assert_eq!(report["packets"]["received"].as_u64(), Some(expected));
    assert_eq!(report["packets"]["began_without_keyframe"], 0);
    assert!(report["server"]["us_per_packet"].as_f64().is_some_and(|us| us > 0.0));

    let dear = sfu.load(&["--viewers", "1", "--max-us-per-packet", "0.001"]);
    assert_eq!(dear.status.code(), Some(1));
    let text = String::from_utf8_lossy(&dear.stdout);
    assert!(text.contains("FAILED: the server spent"), "{text}");
}

/// R114
#[test]
fn a_run_without_a_server_or_with_a_wrong_argument_is_code_2() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let nobody = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    for arguments in [
        &["--base", &nobody][..],
        &["--base", "ftp://x"],
        &["--trace", "no-such-file"],
        &["--duration", "5"],
        &["--rooms", "0"],
        &["--publishers", "0"],
        &["--viewers", "200000"],
        &["--viewers", "2", "--churn", "3"],
        &["--ramp", "0"],
        &["--threads", "0"],
        &["--rate", "5"],
        &["--max-viewers", "5"],
        &["--find-max", "--min-playing", "5"],
    ] {
        let run = Command::new(PROGRAM).arg("load").args(arguments).output().expect("it runs");
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// R51 R114
#[test]
fn rooms_keep_to_themselves_while_viewers_come_and_go_and_the_run_is_seen_in_time() {
    let sfu = Sfu::start();
    let file =
        |end: &str| std::env::temp_dir().join(format!("bench-rooms-{}.{end}", std::process::id()));
    let (json, html) = (file("json"), file("html"));
    let run = sfu.load(&[
        "--rooms=2",
        "--publishers=2",
        "--viewers=4",
        "--churn=4",
        "--duration=1500ms",
        "--threads=2",
        "--max-loss=0",
        "--min-playing=12",
        "--max-join-p99=5000",
        "--max-rss-kib-per-viewer=100000",
        "--json",
        json.to_str().expect("a plain path"),
        "--html",
        html.to_str().expect("a plain path"),
    ]);
    let said = text(&run.stdout) + &text(&run.stderr);
    let page = std::fs::read_to_string(&html).expect("it was written");
    let report = std::fs::read_to_string(&json).expect("it was written");
    for file in [json, html] {
        std::fs::remove_file(&file).expect("it is there");
    }
    assert_eq!(run.status.code(), Some(0), "{said}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
    // Five changes are due before the end of the window, the sixth exactly at it.
    let churned = report["churned"].as_u64().expect("a number");
    assert!((5..=6).contains(&churned), "{said}");
    assert_eq!(report["viewers"], 8 + churned);
    assert_eq!(report["playing"], 8 + churned);
    assert_eq!((&report["ended"], &report["packets"]["alien"]), (&0.into(), &0.into()));
    let packets = &report["packets"];
    assert_eq!((&packets["lost"], &packets["silent_tracks"]), (&0.into(), &0.into()), "{said}");
    // Eight watch at a time, and those that change places miss the join.
    let full = 8.0 * 316.0 * report["seconds"].as_f64().expect("a number");
    let expected = packets["expected"].as_f64().expect("a number");
    assert!(expected < full * 1.1 && expected > full * 0.6, "{expected} of {full}");
    let series = report["series"].as_array().expect("a list");
    let phases: Vec<&str> = series.iter().filter_map(|sample| sample["phase"].as_str()).collect();
    assert!(phases.contains(&"measuring") && phases.last() == Some(&"draining"), "{phases:?}");
    let rate = |sample: &serde_json::Value| sample["received_per_second"].as_f64();
    assert!(series.iter().filter_map(rate).fold(0.0, f64::max) > 1000.0);
    assert!(page.matches("<svg").count() >= 10 && page.contains("--rooms=2"));
    let machine = report["machine"].as_str().expect("a text");
    assert!(machine.contains("Linux") && page.contains(machine), "{machine}");
    assert!(text(&run.stderr).contains("measuring"), "plain lines where there is no terminal");
}

/// R114
#[test]
fn a_search_doubles_halves_and_says_whose_limit_it_found() {
    let sfu = Sfu::start();
    let search = |arguments: &[&str]| {
        let run = sfu.load(&[&["--find-max", "--duration=300ms"], arguments].concat());
        (run.status.code(), text(&run.stdout))
    };
    let (code, said) = search(&["--viewers=1", "--max-viewers=2"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 viewers a room; the search was told to go no further"), "{said}");
    // No server forwards in no time.
    let (code, said) = search(&["--viewers=2", "--max-viewers=2", "--max-latency-p99=0.0001"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("0 viewers a room; more is the SERVER'S limit"), "{said}");
}

/// R114
#[test]
fn an_interrupted_run_reports_what_it_has_measured() {
    let sfu = Sfu::start();
    let mut command = sfu.command(&["--viewers=1", "--duration=60s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running(command.spawn().expect("the program runs"));
    let mut lines = BufReader::new(run.0.stderr.take().expect("piped")).lines();
    let phase = lines.by_ref().map_while(Result::ok).find(|line| line == "measuring");
    assert!(phase.is_some(), "it comes to its window");
    let pid = libc::pid_t::try_from(run.0.id()).expect("a process id");
    // SAFETY: no memory is involved; the process is our child and not yet waited for.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let mut said = String::new();
    let mut stdout = run.0.stdout.take().expect("piped");
    stdout.read_to_string(&mut said).expect("text");
    assert_eq!(run.0.wait().expect("our child").code(), Some(0), "{said}");
    assert!(said.contains("INTERRUPTED before its time") && said.contains("1 play"), "{said}");
}

/// R114
#[test]
fn a_server_that_ends_in_the_window_is_said_so_with_what_was_measured() {
    let mut sfu = Sfu::start();
    let mut command = sfu.command(&["--viewers=1", "--duration=1500ms"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running(command.spawn().expect("the program runs"));
    let mut lines = BufReader::new(run.0.stderr.take().expect("piped")).lines();
    let phase = lines.by_ref().map_while(Result::ok).find(|line| line == "measuring");
    assert!(phase.is_some(), "it comes to its window");
    sfu.child.kill().expect("it is our child");
    sfu.child.wait().expect("it is our child");
    let mut said = String::new();
    let mut stdout = run.0.stdout.take().expect("piped");
    stdout.read_to_string(&mut said).expect("text");
    assert_eq!(run.0.wait().expect("our child").code(), Some(1), "{said}");
    assert!(said.contains("FAILED: the server no longer answers"), "{said}");
    assert!(said.contains("1 play"), "{said}");
}

/// Killed when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both are without effect on a process that has ended and was waited for.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// R114
#[test]
fn viewers_cannot_pay_where_there_is_no_chain() {
    let sfu = Sfu::start();
    let run = sfu.load(&["--viewers=1", "--pay"]);
    assert_eq!(run.status.code(), Some(2));
    let said = text(&run.stderr);
    assert!(said.contains("--pay needs a node with a chain"), "{said}");
}

/// Hears of addresses and claims to have dropped a thousand packets more each time it is asked.
#[derive(Default)]
struct CountingSink {
    heard: Mutex<Vec<SocketAddr>>,
    asked: Mutex<u64>,
}

impl Sink for CountingSink {
    fn hear(&self, viewer: SocketAddr) -> std::io::Result<()> {
        self.heard.lock().expect("no panic holds it").push(viewer);
        Ok(())
    }

    fn dropped(&self) -> std::io::Result<u64> {
        let mut asked = self.asked.lock().expect("no panic holds it");
        *asked += 1;
        Ok(*asked * 1000)
    }
}

/// Of five viewers, numbers 0, 2 and 4 hear.
#[test]
fn behind_a_sink_some_viewers_hear_and_the_others_need_only_be_connected() {
    let sfu = Sfu::start();
    let target = Target::whip(&format!("http://127.0.0.1:{}", sfu.http_port)).expect("an address");
    let trace = Arc::new(Trace::built_in("video-2400k").expect("it is built in"));
    let sink = Arc::new(CountingSink::default());
    let report = load::run(&LoadConfig {
        viewers: 5,
        duration: Duration::from_millis(500),
        ramp_per_second: 100,
        sink: Some(Arc::clone(&sink) as Arc<dyn Sink>),
        hear_every: 2,
        ..LoadConfig::new(target, "video-2400k", trace)
    })
    .expect("it is measured");
    assert_eq!((report.viewers, report.hearing, report.connected, report.playing), (5, 3, 5, 3));
    assert_eq!(report.verdict(&Thresholds::default()), Vec::<String>::new());
    let dropped = report.forwarded - report.packets.received;
    assert!(dropped > 0 && dropped.is_multiple_of(1000), "what the sink counted: {dropped}");
    let mut heard = sink.heard.lock().expect("no panic holds it").clone();
    heard.dedup();
    assert_eq!(heard.len(), 3, "each has a socket of its own: {heard:?}");
}
