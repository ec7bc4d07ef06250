//! `sutantra-bench signal` as an operator runs it, against a real coordinator.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use coordinator::Mode;
use support::Hosted;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sutantra-bench");

fn signal(url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["signal", "--url", url, "--duration", "500ms"]).args(arguments);
    let run = command.output().unwrap();
    (run.status.code(), String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned())
}

/// R102 R114
#[test]
fn one_command_signals_reports_and_judges_by_exit_code() {
    let server = Hosted::start(Mode::Open, |_| {});
    let pid = std::process::id().to_string();
    let file =
        |end: &str| std::env::temp_dir().join(format!("bench-signal-{}.{end}", std::process::id()));
    let (json, html) = (file("json"), file("html"));
    let (code, said) = signal(
        &server.url(),
        &[
            "--identity=open",
            "--rooms=2",
            "--peers-per-room=5",
            "--poll-share=0.2",
            "--idle=20",
            "--signals-per-second=200",
            "--join-rate=20",
            "--stay=100ms",
            "--p99-max=5000",
            "--pid",
            &pid,
            "--report",
            json.to_str().unwrap(),
            "--report",
            html.to_str().unwrap(),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let page = std::fs::read_to_string(&html).unwrap();
    for file in [json, html] {
        std::fs::remove_file(&file).unwrap();
    }
    let signals = &report["signals"];
    let sent = signals["sent"].as_u64().unwrap();
    assert!(sent >= 100, "half a second of 200: {said}");
    assert_eq!(signals["delivered"].as_u64(), Some(sent), "{said}");
    // Every fifth peer polls, and gets what its partners send.
    let polled = signals["polled"].as_u64().unwrap();
    assert!(polled > 0 && polled < sent, "{said}");
    let churned = report["peers"]["churned"].as_u64().unwrap();
    assert_eq!(report["peers"]["joined"].as_u64(), Some(30 + churned), "{said}");
    assert!(churned > 0 && report["presence_per_second"].as_f64().unwrap() > 0.0, "{said}");
    assert!(report["server"]["us_per_signal"].as_f64().unwrap() > 0.0, "{said}");
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{said}");
    assert!(page.matches("<svg").count() >= 8 && page.contains("--poll-share=0.2"));
    assert!(said.contains("measuring"), "plain lines where there is no terminal: {said}");

    let few = ["--identity=open", "--rooms=1", "--signals-per-second=50"];
    let dear = ["--us-per-signal-max=0.001", "--pid", &pid];
    let (code, said) = signal(&server.url(), &[few, dear].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAILED: the server's CPU for a signal is"), "{said}");
}

/// R87 R102
#[test]
fn peers_with_keys_signal_with_hello_and_by_poll_where_every_join_is_signed() {
    let server = Hosted::start(Mode::Signed, |_| {});
    let all = ["--rooms=1", "--peers-per-room=6", "--signals-per-second=60"];
    let hello = ["--client=hello", "--poll-share=0.34", "--join-rate=10", "--stay=50ms"];
    let (code, said) = signal(&server.url(), &[&all[..], &hello].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by poll), ") && !said.contains("(0 by poll)"), "{said}");
    let (code, said) = signal(&server.url(), &all);
    assert_eq!(code, Some(0), "{said}");
    // An id without a key is nobody here.
    let (code, said) = signal(&server.url(), &[&all[..], &["--identity=open"]].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAILED: 6 peers were refused"), "{said}");
}

/// R92 R102
#[test]
fn what_the_server_refuses_is_told_with_its_code() {
    let server = Hosted::start(Mode::Open, |limits| limits.room_peers_max = 4);
    let room = ["--identity=open", "--client=hello", "--rooms=1", "--peers-per-room=6"];
    let (code, said) = signal(&server.url(), &[&room[..], &["--signals-per-second=30"]].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("room_full"), "{said}");
}

/// R114
#[test]
fn a_run_without_a_server_or_with_a_wrong_argument_says_so() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for arguments in [
        &["--rooms=0"][..],
        &["--peers-per-room=1"],
        &["--poll-share=2"],
        &["--signal-bytes=10"],
        &["--signals-per-second=100000"],
        &["--ramp=0"],
        &["--duration=5"],
        &["--report=x.txt"],
        &["--room=NO"],
        &["--identity=open", "--url=ftp://x"],
        // Who joins with keys asks the server for its network first.
        &[],
    ] {
        let (code, said) = signal(&nobody, arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
    }
    let pair = ["--identity=open", "--rooms=1", "--peers-per-room=2", "--signals-per-second=9"];
    let (code, said) = signal(&nobody, &pair);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAILED: the server no longer answers"), "{said}");
}
