//! The program as an operator runs it: against a real SFU in a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output};
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
        let mut command = Command::new(PROGRAM);
        command.args(["load", "--duration", "500ms", "--ramp", "100"]);
        command.args(["--base", &format!("http://127.0.0.1:{}", self.http_port)]);
        command.args(["--pid", &self.child.id().to_string()]);
        command.args(arguments).output().expect("the program runs")
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
    ] {
        let run = Command::new(PROGRAM).arg("load").args(arguments).output().expect("it runs");
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
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
    assert_eq!(report.forwarded, report.packets.received + 1000);
    let mut heard = sink.heard.lock().expect("no panic holds it").clone();
    heard.dedup();
    assert_eq!(heard.len(), 3, "each has a socket of its own: {heard:?}");
}
