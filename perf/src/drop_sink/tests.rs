//! Datagrams through a real pair, past the real program.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::sockets;

/// Runs a test on a thread of its own, in a network of its own. Where the rights or the tool are
/// missing it says so and the test passes; any other refusal fails.
#[track_caller]
pub(crate) fn check(attach: AttachMode, test: impl FnOnce(&Network, &DropSink) + Send) {
    std::thread::scope(|scope| {
        let body = || {
            let network = match Network::enter() {
                Ok(network) => network,
                Err(error @ (SinkError::NoNamespace(_) | SinkError::NoIp(_))) => {
                    return eprintln!("not tested: {error}");
                }
                Err(error) => panic!("{error}"),
            };
            let sink = match DropSink::attach_as(&network, attach) {
                Ok(sink) => sink,
                Err(SinkError::Bpf { what, source })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    return eprintln!("not tested: bpf(2) refused {what}: {source}");
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(sink.mode(), attach);
            test(&network, &sink);
        };
        let done = scope.spawn(body).join();
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

const RTP: [u8; 2] = [0x80, 96];

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((GENERATOR, 0)).expect("the address is ours");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("not zero");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

fn sender(network: &Network) -> UdpSocket {
    let bind = || UdpSocket::bind((RELAY, 0)).expect("the address is the relay's");
    network.relay().run(bind).expect("it can be entered")
}

fn datagram(start: [u8; 2], len: usize) -> Vec<u8> {
    let mut bytes = vec![7; len];
    bytes[..2].copy_from_slice(&start);
    bytes
}

/// Waits until as many packets as that were dropped.
#[track_caller]
fn wait_dropped(sink: &DropSink, packets: u64, bytes: u64) {
    let want = Dropped { packets, bytes };
    let until = Instant::now() + Duration::from_secs(5);
    while sink.counts().expect("it is ours") != want {
        let now = sink.counts().expect("it is ours");
        assert!(Instant::now() < until, "{now:?}, expected {want:?}");
        std::thread::yield_now();
    }
}

#[track_caller]
fn check_kinds(sink: &DropSink, sender: &UdpSocket) {
    let (deaf, to) = receiver();
    let mut buffer = [0; 2048];
    // What surrounds RTP on the same port, first and last of each range, passes.
    for start in [
        [0, 1],      // STUN
        [20, 254],   // DTLS
        [63, 254],   // DTLS
        [127, 96],   // none of RFC 7983's
        [192, 96],   // none of RFC 7983's
        [0x80, 192], // RTCP
        [0x80, 200], // RTCP, sender report
        [0xbf, 223], // RTCP
    ] {
        let sent = datagram(start, 100);
        sender.send_to(&sent, to).expect("there is a way");
        let got = deaf.recv(&mut buffer).unwrap_or_else(|error| panic!("{start:?}: {error}"));
        assert_eq!(buffer[..got], sent);
    }
    // Too short to be RTP.
    sender.send_to(&[0x80], to).expect("there is a way");
    assert_eq!(deaf.recv(&mut buffer).expect("it passes"), 1);
    assert_eq!(sink.counts().expect("ours"), Dropped::default());
    // RTP is dropped and counted, the ends of the ranges too.
    for start in [[0x80, 96], [0xbf, 0], [0x90, 191], [0x80, 224], [0x80, 255]] {
        let before = sink.counts().expect("ours");
        sender.send_to(&datagram(start, 1000), to).expect("there is a way");
        wait_dropped(sink, before.packets + 1, before.bytes + 1000);
    }
    deaf.set_nonblocking(true).expect("a socket");
    let error = deaf.recv(&mut buffer).expect_err("nothing came");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn rtp_to_a_deaf_port_is_dropped_and_counted_and_everything_else_passes() {
    check(AttachMode::Native, |network, sink| check_kinds(sink, &sender(network)));
}

#[test]
fn where_the_stack_runs_the_program_the_same_is_dropped() {
    check(AttachMode::Generic, |network, sink| check_kinds(sink, &sender(network)));
}

#[test]
fn at_the_sending_end_the_same_is_dropped() {
    check(AttachMode::Egress, |network, sink| check_kinds(sink, &sender(network)));
}

#[test]
fn a_port_that_hears_gets_its_rtp_until_it_no_longer_does() {
    check(AttachMode::Native, |network, sink| {
        let (sender, (hearing, to)) = (sender(network), receiver());
        let mut buffer = [0; 2048];
        sink.hear(to).expect("the map is ours");
        sender.send_to(&datagram(RTP, 500), to).expect("there is a way");
        assert_eq!(hearing.recv(&mut buffer).expect("it hears"), 500);
        assert_eq!(sink.dropped().expect("ours"), 0);
        sink.set_hears(to.port(), Hears::No).expect("the map is ours");
        sender.send_to(&datagram(RTP, 500), to).expect("there is a way");
        wait_dropped(sink, 1, 500);
        assert_eq!(sink.dropped().expect("ours"), 1);
    });
}

#[track_caller]
fn check_train(network: &Network, sink: &DropSink) {
    let (sender, (hearing, to)) = (sender(network), receiver());
    // Ten datagrams, the last one shorter; the second byte of each is a payload type.
    let train: Vec<u8> = [datagram(RTP, 1200).repeat(9), datagram(RTP, 700)].concat();
    sockets::send_train(&sender, to, &train, 1200).expect("there is a way");
    wait_dropped(sink, 10, train.len() as u64);
    sink.hear(to).expect("the map is ours");
    sockets::send_train(&sender, to, &train, 1200).expect("there is a way");
    let mut buffer = [0; 2048];
    let mut take = || hearing.recv(&mut buffer).expect("it hears");
    let got: Vec<usize> = (0..10).map(|_| take()).collect();
    assert_eq!(got, [vec![1200; 9], vec![700]].concat());
    assert_eq!(network.lost().expect("it is there"), 0);
}

#[test]
fn a_gso_train_is_counted_by_its_datagrams() {
    check(AttachMode::Native, check_train);
    check(AttachMode::Generic, check_train);
    check(AttachMode::Egress, check_train);
}

#[test]
fn a_child_started_for_the_relay_sees_the_relays_address_and_not_the_generators() {
    check(AttachMode::Native, |network, _| {
        let mut command = Command::new("ip");
        network.relay().adopt(command.args(["-brief", "address"])).expect("a descriptor");
        let output = command.output().expect("it was there before");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("10.77.0.2/24") && !text.contains("10.77.0.1/24"), "{text}");
    });
}

#[test]
fn the_verifier_says_why_it_refuses_a_program() {
    check(AttachMode::Native, |_, _| {
        // Reads the frame without looking at its end.
        let mut code = asm::Assembler::<()>::new();
        code.load(asm::Width::Word, asm::Reg::R2, asm::Reg::R1, 0);
        code.load(asm::Width::Byte, asm::Reg::R0, asm::Reg::R2, 0).exit(1);
        let error = bpf::load(&code.assemble(), AttachMode::Native)
            .expect_err("it reads beyond the frame")
            .to_string();
        assert!(error.contains("invalid access to packet"), "{error}");
    });
}
