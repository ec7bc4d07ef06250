//! The exposition, read as Prometheus reads it.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use consensus_abci::{
    application::Method,
    server::{Counters, MethodCounters},
};
use expect_test::expect_file;
use sfu::shard::ShardCounters;

use super::*;
use crate::doctor::ready::Reason;

fn metrics() -> Metrics {
    let build = BuildInfo {
        version: "1.2.3",
        link: "epoll".to_owned(),
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    };
    let metrics = Metrics::new(&build);
    // Every label once, so that the text shows every family.
    metrics.http_request("/whep/{stream}", 201, Duration::from_millis(3));
    metrics.http_request("page", 404, Duration::from_micros(30));
    metrics.connected(Role::Subscriber, SrtpProfile::AEAD_AES_256_GCM, Duration::from_millis(90));
    metrics.closed(Role::Publisher, CloseReason::Peer);
    metrics.gate_command(true);
    metrics.admission("admitted");
    metrics
}

fn abci() -> Counters {
    Counters {
        connections_open: 4,
        connections_accepted: 5,
        connections_refused: 0,
        received_bytes: 0,
        sent_bytes: 0,
        bad_messages: 0,
        methods: [MethodCounters::default(); Method::ALL.len()],
    }
}

fn exposition() -> String {
    let shard = |shard| ShardSnapshot {
        shard,
        counters: ShardCounters {
            rtp_received_packets: 10 + u64::from(shard),
            ..Default::default()
        },
        ..Default::default()
    };
    let money = MoneySight {
        books: Some(Default::default()),
        redeems: Some(Default::default()),
        height: 7,
        waiting: Some(0),
        ..Default::default()
    };
    let totals = Totals { streams: 1, sessions: 3, viewers: 2 };
    let metrics = metrics();
    metrics.watch_home(Path::new("/"));
    metrics.watch_buffers(BufferBytes { receive: 1, send: 2 });
    let up = EndpointSight { is_up: true, clock_ahead_seconds: Some(0.5), ..Default::default() };
    metrics.watch_engine(move || EngineSight {
        kind: EngineKind::Remote,
        is_up: Some(true),
        restarts: 1,
        abci: Some(Box::new(abci())),
        endpoints: vec![up, EndpointSight::default()],
    });
    *metrics.fee_wallet.lock().expect("ours") = Some(Balance::of(5));
    let rooms = coordinator::Coordinator::new(coordinator::Options::new("a")).expect("defaults");
    metrics.watch_rooms(move || RoomsSight {
        figures: rooms.metrics(),
        stream_rooms: 1,
        stream_peers: 2,
    });
    let full = Unready { reason: Reason::Disk, sentence: String::new() };
    metrics.render(totals, &[shard(0), shard(1)], Some(&money), &[full])
}

/// R113
#[test]
fn promtool_accepts_the_exposition() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool; install Debian's package `prometheus`");
    let mut stdin = promtool.stdin.take().expect("piped above");
    stdin.write_all(exposition().as_bytes()).expect("promtool reads to the end");
    drop(stdin);
    let said = promtool.wait_with_output().expect("it ends after its input");
    let words = [said.stdout, said.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    // It also fails on what it would only advise against; nothing is advised against here.
    assert!(said.status.success() && words.is_empty(), "{words}");
}

/// R113
#[test]
fn names_types_and_help_change_only_on_purpose() {
    let lines = exposition();
    let described: Vec<&str> = lines.lines().filter(|line| line.starts_with('#')).collect();
    expect_file!["metrics_names.txt"].assert_eq(&(described.join("\n") + "\n"));
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("sutantra_"), "{line}");
    }
}

#[test]
fn each_shard_is_one_line_of_a_family() {
    let text = exposition();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("sutantra_sfu_rtp_received_packets_total"))
        .collect();
    let expected = [
        "sutantra_sfu_rtp_received_packets_total{shard=\"0\"} 10",
        "sutantra_sfu_rtp_received_packets_total{shard=\"1\"} 11",
    ];
    assert_eq!(lines, expected);
    assert!(text.contains("sutantra_viewers 2\n"));
    assert!(text.contains("sutantra_build_info{link=\"epoll\",version=\"1.2.3\"} 1\n"));
}

#[test]
fn a_node_without_shards_has_metrics_all_the_same() {
    let text = metrics().render(Totals { streams: 0, sessions: 0, viewers: 0 }, &[], None, &[]);
    assert!(text.contains("sutantra_viewers 0\n") && !text.contains("tick_seconds"), "{text}");
}

#[test]
fn what_has_a_few_values_has_a_metric_for_each() {
    let text = exposition();
    for line in [
        "sutantra_ready 0",
        "sutantra_unready{reason=\"disk\"} 1",
        "sutantra_unready{reason=\"clock\"} 0",
        "sutantra_chain_engine{engine=\"remote\"} 1",
        "sutantra_chain_engine{engine=\"embedded\"} 0",
        "sutantra_chain_endpoint_up{endpoint=\"0\"} 1",
        "sutantra_chain_endpoint_up{endpoint=\"1\"} 0",
        "sutantra_chain_endpoint_clock_seconds{endpoint=\"0\"} 0.5",
        "sutantra_abci_requests_total{method=\"FinalizeBlock\"} 0",
        "sutantra_redeem_transactions_total{step=\"failed\"} 0",
        "sutantra_fee_wallet_units 5",
        "sutantra_coordinator_refused_total{code=\"rate_limited\"} 0",
        "sutantra_coordinator_signals_total{path=\"pushed\"} 0",
        "sutantra_coordinator_stream_peers 2",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is missing:\n{text}");
    }
    // Who says no time has no clock to compare with.
    assert!(!text.contains("sutantra_chain_endpoint_clock_seconds{endpoint=\"1\"}"));
}

#[test]
fn the_process_is_read_from_proc() {
    let usage = ProcessUsage::read().expect("Linux");
    assert!(usage.resident_bytes > 1e5 && usage.open_fds >= 3.0 && usage.cpu_seconds >= 0.0);
    let stat = "7 (a) b) S 1 1 1 0 -1 0 1 2 3 4 250 150 0 0 20 0 1 0 9";
    assert_eq!(cpu_seconds(stat), Some(4.0));
    for bad in ["", "7 (a) S 1", "7 a S 1 1 1 0 -1 0 1 2 3 4 x 150"] {
        assert_eq!(cpu_seconds(bad), None, "{bad:?}");
    }
    assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12_288.0));
    assert_eq!(resident_bytes("VmRSS:\t12 MB\n"), None);
}
