//! The model's coefficients, each a difference of measurements of the bare loop or of two cores.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sfu::io::{Endpoint, EpollLink, Link, LinkKind, UringLink, bind_shards};
use sfu::ports::SrtpProfile;

use crate::bare_loop::{Bursts, Case, Cipher, Delivery, Gso, Sockets};
use crate::cross::Pair;
use crate::limit::{self, SinkChoice};
use crate::thread_clock::thread_cpu_ns;
use crate::workload;

const PAYLOAD_BYTES: usize = 1150;
const SMALL_PAYLOAD_BYTES: usize = 350;
/// Packets of the long message.
const BURST: usize = 16;
const RECEIVERS: usize = 100;
const PACKETS: u64 = 40_000;
const SINGLE_TICKS: u64 = 5000;
/// Datagrams that wait for a link at once, and how often.
const WAITING: usize = 100;
const RECEIVE_ROUNDS: usize = 300;
/// Packets of a frame that crosses, and frames.
const FRAME_PACKETS: usize = 9;
const CROSSINGS: usize = 3000;
const FEEDBACK_ROUNDS: u64 = 2000;
const FEEDBACK_REPEATS: usize = 7;

/// CPU ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    /// Link and sink.
    pub measured_with: String,
    /// A message sent, without its packets.
    pub message_ns: f64,
    /// A packet in a message, without its bytes: header, seal's start, segment.
    pub packet_ns: f64,
    /// A byte of payload.
    pub byte_ns: f64,
    /// A message received among others that wait.
    pub receive_ns: f64,
    /// A sleep and a wake-up.
    pub wake_ns: f64,
    /// A viewer's RTCP compound, after it was received.
    pub feedback_ns: f64,
    /// A packet into another shard's queue, and its copy.
    pub cross_out_ns: f64,
    /// A packet out of the queue, into the other shard's cache.
    pub cross_in_ns: f64,
}

/// Measures them all. Called before any thread is started, for the drop sink's network.
///
/// # Errors
/// No right to the sink, no such link, a run that fails.
pub fn measure(sink: SinkChoice, link: &str, repeats: usize) -> anyhow::Result<Coefficients> {
    let links = limit::links(&[link.to_owned()])?;
    let link = *links.first().context("this kernel lacks the link; try --link epoll")?;
    let in_network = sink.open()?;
    let delivery = match &in_network {
        Some((network, sink)) => Delivery::Drop(network, sink),
        None => Delivery::Loopback,
    };
    let case = |burst: usize, payload_bytes, receivers, packets| Case {
        link,
        bursts: Bursts::of_mean(burst as f64).expect("a constant burst"),
        gso: Gso::On,
        sockets: Sockets::Shared,
        receivers,
        payload_bytes,
        cipher: Cipher(SrtpProfile::AEAD_AES_256_GCM),
        packets,
        pace: None,
        delivery,
    };
    let cases = [
        case(1, PAYLOAD_BYTES, RECEIVERS, PACKETS),
        case(BURST, PAYLOAD_BYTES, RECEIVERS, PACKETS),
        case(BURST, SMALL_PAYLOAD_BYTES, RECEIVERS, PACKETS),
        // Whoever feeds this one waits for each packet to be forwarded: the loop sleeps between.
        case(1, PAYLOAD_BYTES, 1, SINGLE_TICKS),
    ];
    let rows = limit::measure(&cases, repeats.max(1))?;
    let ns: Vec<f64> = rows.iter().map(|row| row.median_ns).collect();
    let (message_ns, packet_ns, byte_ns) = fit(ns[0], ns[1], ns[2]);
    let receive_ns = receive(link)?;
    let (cross_out_ns, cross_in_ns) = cross()?;
    // The least of some: nothing but disturbance makes it longer.
    let compounds = (0..FEEDBACK_REPEATS)
        .map(|_| workload::run("rtcp_feedback", FEEDBACK_ROUNDS))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let feedback = compounds.into_iter().min().context("some were run")?;
    Ok(Coefficients {
        measured_with: format!("{link}, {}", rows[0].sink),
        message_ns,
        packet_ns,
        byte_ns,
        receive_ns,
        // One message in, one out, a sleep; never below nothing, whatever the noise.
        wake_ns: (ns[3] - ns[0] - receive_ns).max(0.0),
        feedback_ns: feedback.as_nanos() as f64 / FEEDBACK_ROUNDS as f64,
        cross_out_ns,
        cross_in_ns,
    })
}

/// (message, packet, byte) of the costs a packet: one in a message, sixteen, sixteen small ones.
fn fit(one: f64, many: f64, small: f64) -> (f64, f64, f64) {
    let burst = BURST as f64;
    let byte = (many - small) / (PAYLOAD_BYTES - SMALL_PAYLOAD_BYTES) as f64;
    let full_packet = (burst * many - one) / (burst - 1.0);
    (one - full_packet, full_packet - byte * PAYLOAD_BYTES as f64, byte)
}

/// Small datagrams that wait in a socket on loopback: CPU ns each, through a link.
fn receive(kind: LinkKind) -> anyhow::Result<f64> {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (bound, mut shards) = bind_shards(&[Endpoint { bind, advertise: bind }], 1)?;
    let shard = shards.pop().context("one shard was asked for")?;
    match kind {
        LinkKind::IoUring => receive_through(&mut UringLink::new(shard)?, bound[0].bind),
        LinkKind::Epoll => receive_through(&mut EpollLink::new(shard)?, bound[0].bind),
    }
}

fn receive_through<L: Link>(link: &mut L, to: SocketAddr) -> anyhow::Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut ns = 0;
    for _ in 0..RECEIVE_ROUNDS {
        for _ in 0..WAITING {
            socket.send_to(&[0x80; 100], to)?;
        }
        let before = thread_cpu_ns();
        let (mut received, deadline) = (0, Instant::now() + Duration::from_secs(5));
        while received < WAITING {
            link.receive(Some(deadline), &mut |train| {
                received += train.bytes.len().div_ceil(train.segment_bytes);
            })?;
            ensure!(Instant::now() < deadline, "datagrams over loopback were lost");
        }
        ns += thread_cpu_ns() - before;
    }
    Ok(ns as f64 / (RECEIVE_ROUNDS * WAITING) as f64)
}

/// Frames from a core on one thread to a core on another, in turns: median ns a packet of either.
fn cross() -> anyhow::Result<(f64, f64)> {
    let mut pair = Pair::new()?;
    let (handed, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let per_packet = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64 / FRAME_PACKETS as f64
    };
    // The last quarter counts: by then each cache slot holds a packet that came across.
    let counts = |times: Vec<Duration>| times[times.len() * 3 / 4..].to_vec();
    let before = pair.crossed();
    let (home, away) = pair.split();
    let (out, inn) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let take = |turn| {
                wait(&handed, turn + 1);
                let began = Instant::now();
                away.take_over();
                let time = began.elapsed();
                taken.store(turn + 1, Ordering::Release);
                time
            };
            (0..CROSSINGS as u64).map(take).collect::<Vec<_>>()
        });
        let hand = |turn| {
            home.ingest(FRAME_PACKETS)?;
            let began = Instant::now();
            home.hand_over();
            let time = began.elapsed();
            handed.store(turn + 1, Ordering::Release);
            wait(&taken, turn + 1);
            anyhow::Ok(time)
        };
        let out = (0..CROSSINGS as u64).map(hand).collect::<anyhow::Result<Vec<_>>>();
        (out, other.join())
    });
    let inn = inn.map_err(|_| anyhow::anyhow!("the other shard's thread panicked"))?;
    let crossed = pair.crossed() - before;
    ensure!(crossed == (CROSSINGS * FRAME_PACKETS) as u64, "{crossed} packets crossed");
    Ok((per_packet(counts(out?)), per_packet(counts(inn))))
}

fn wait(turn: &AtomicU64, until: u64) {
    while turn.load(Ordering::Acquire) < until {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_finds_what_the_costs_were_made_of() {
        let (message, packet, byte) = (1500.0, 120.0, 0.4);
        let cost = |burst: f64, bytes: f64| (message + burst * (packet + byte * bytes)) / burst;
        let full = PAYLOAD_BYTES as f64;
        let many = cost(BURST as f64, full);
        let small = cost(BURST as f64, SMALL_PAYLOAD_BYTES as f64);
        let fitted = fit(cost(1.0, full), many, small);
        for (found, made) in [(fitted.0, message), (fitted.1, packet), (fitted.2, byte)] {
            assert!((found - made).abs() < 1e-6, "{fitted:?}");
        }
    }

    #[test]
    fn a_crossing_between_threads_costs_both_sides_something() {
        let (out, inn) = cross().expect("two cores");
        assert!(out > 0.0 && inn > 0.0);
    }
}
