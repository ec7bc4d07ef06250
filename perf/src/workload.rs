//! The deterministic work whose instructions callgrind counts: each case the same code that a shard
//! runs per packet, with nothing of the kernel in it.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use sfu::Runs;
use sfu::forward::run;
use sfu::ports::SrtpProfile;
use sfu::shard::bench::ForwardBench;
use sfu::wire::rtcp::{ReportBlock, write_receiver_report};
use sfu::wire::rtp::{HeaderTemplate, RtpHeader};
use sfu::wire::twcc::TwccReceiver;

use crate::bare_loop::{Cipher, keys};
use crate::cross::Pair;

/// Packets of one video frame, as MEDIA figures of 2.4 Mb/s have it.
const FRAME_PACKETS: usize = 9;
const SUBSCRIBERS: usize = 100;
const PAYLOAD_BYTES: usize = 1150;
const AUDIO_PAYLOAD_BYTES: usize = 100;
const SSRC: u32 = 7;

/// A case and what one of its units is.
pub struct Case {
    /// Name on the command line and in the baseline.
    pub name: &'static str,
    /// What is counted per unit.
    pub unit: &'static str,
    /// Units in one round.
    pub units_per_round: u64,
    /// Rounds under callgrind; enough that one more changes the quotient by nothing.
    pub rounds: u64,
}

/// All cases.
pub const CASES: [Case; 16] = [
    case("forward_video_to_100", "forwarded packet", FRAME_PACKETS * SUBSCRIBERS, 20),
    // As many again whose gate is closed: they must cost nothing.
    case("forward_video_to_100_of_200", "forwarded packet", FRAME_PACKETS * SUBSCRIBERS, 20),
    case("forward_video_to_1", "forwarded packet", FRAME_PACKETS, 200),
    case("forward_audio_to_100", "forwarded packet", SUBSCRIBERS, 100),
    // Without the receiving half: what a subscriber costs in a tick that has so many packets.
    case("fan_out_frame_of_1", "subscriber and tick", SUBSCRIBERS, 100),
    case("fan_out_frame_of_9", "subscriber and tick", SUBSCRIBERS, 20),
    case("receive_video", "received packet", FRAME_PACKETS, 100),
    case("plan_frame", "packet", FRAME_PACKETS, 1000),
    case("cross_shard", "packet and shard", FRAME_PACKETS, 100),
    case("gate_command", "command", 2 * SUBSCRIBERS, 20),
    case("rtcp_feedback", "compound of RR and TWCC", 1, 500),
    case("rtp_parse", "packet", 1, 2000),
    case("rtp_header_write", "packet", 1, 2000),
    case("srtp_seal_1150", "packet", 1, 1000),
    case("srtp_seal_120", "packet", 1, 1000),
    case("srtp_open_100", "packet", 1, 1000),
];

const fn case(name: &'static str, unit: &'static str, units_per_round: usize, rounds: u64) -> Case {
    Case { name, unit, units_per_round: units_per_round as u64, rounds }
}

/// Runs a case; only what happens inside [`counted_section`] is counted, and its CPU time returned.
pub fn run(name: &str, rounds: u64) -> anyhow::Result<Duration> {
    TIMED_NS.set(0);
    match name {
        "forward_video_to_100" => forward(SUBSCRIBERS, 0, PAYLOAD_BYTES, FRAME_PACKETS, rounds),
        "forward_video_to_100_of_200" => {
            forward(SUBSCRIBERS, SUBSCRIBERS, PAYLOAD_BYTES, FRAME_PACKETS, rounds)
        }
        "forward_video_to_1" => forward(1, 0, PAYLOAD_BYTES, FRAME_PACKETS, rounds),
        "forward_audio_to_100" => forward(SUBSCRIBERS, 0, AUDIO_PAYLOAD_BYTES, 1, rounds),
        "fan_out_frame_of_1" => fan_out(1, rounds),
        "fan_out_frame_of_9" => fan_out(FRAME_PACKETS, rounds),
        "receive_video" => receive(rounds),
        "plan_frame" => plan(rounds),
        "cross_shard" => cross(rounds),
        "gate_command" => gate(rounds),
        "rtcp_feedback" => feedback(rounds),
        "rtp_parse" => parse(rounds),
        "rtp_header_write" => write_header(rounds),
        "srtp_seal_1150" => seal(PAYLOAD_BYTES, rounds),
        "srtp_seal_120" => seal(120, rounds),
        "srtp_open_100" => open(rounds),
        _ => bail!("no case is called {name:?}"),
    }?;
    Ok(Duration::from_nanos(TIMED_NS.get()))
}

thread_local! {
    /// Time in [`counted_section`].
    static TIMED_NS: Cell<u64> = const { Cell::new(0) };
}

/// The function that callgrind is told to watch.
#[inline(never)]
fn counted_section(mut work: impl FnMut()) {
    let began = Instant::now();
    work();
    TIMED_NS.set(TIMED_NS.get() + began.elapsed().as_nanos() as u64);
    // Keeps the call above from becoming a jump out of this function's frame.
    black_box(());
}

/// A publisher's frames and the shard that they go through.
struct World {
    bench: ForwardBench,
    index: u64,
    payload_bytes: usize,
    frame_packets: usize,
}

impl World {
    /// `open` subscribers that watch and `paused` ones whose gate is closed again. Caches and
    /// vectors have grown to their size and the streams have started when this returns.
    fn new(
        open: usize,
        paused: usize,
        payload_bytes: usize,
        frame_packets: usize,
    ) -> anyhow::Result<World> {
        let bench = ForwardBench::new(open + paused, SrtpProfile::AEAD_AES_256_GCM)?;
        let mut world = World { bench, index: 1000, payload_bytes, frame_packets };
        for round in 0..20 {
            let packets = world.frame(round == 0);
            packets.iter().for_each(|packet| world.bench.receive(packet));
            world.bench.fan_out();
            if round == 10 {
                (open..open + paused).for_each(|number| world.bench.set_gate(number, false));
            }
        }
        Ok(world)
    }

    fn frame(&mut self, key: bool) -> Vec<Vec<u8>> {
        let timestamp = self.index as u32 * 300;
        (0..self.frame_packets)
            .map(|at| {
                let payload = vp8_payload(self.payload_bytes, at == 0, key);
                self.index += 1;
                let marker = at + 1 == self.frame_packets;
                self.bench.publisher_packet(self.index, timestamp, marker, &payload)
            })
            .collect()
    }
}

/// Frames of a publisher through a whole shard: parse, open, cache, plan, rewrite, seal, queue.
fn forward(
    subscribers: usize,
    paused: usize,
    payload_bytes: usize,
    frame_packets: usize,
    rounds: u64,
) -> anyhow::Result<()> {
    let mut world = World::new(subscribers, paused, payload_bytes, frame_packets)?;
    let before = sent(&world.bench);
    for _ in 0..rounds {
        let packets = world.frame(false);
        counted_section(|| {
            packets.iter().for_each(|packet| world.bench.receive(packet));
            world.bench.fan_out();
        });
    }
    ensure_forwarded(&world.bench, before, rounds * (frame_packets * subscribers) as u64)
}

/// The sending half alone.
fn fan_out(frame_packets: usize, rounds: u64) -> anyhow::Result<()> {
    let mut world = World::new(SUBSCRIBERS, 0, PAYLOAD_BYTES, frame_packets)?;
    let before = sent(&world.bench);
    for _ in 0..rounds {
        let packets = world.frame(false);
        packets.iter().for_each(|packet| world.bench.receive(packet));
        counted_section(|| world.bench.fan_out());
    }
    ensure_forwarded(&world.bench, before, rounds * (frame_packets * SUBSCRIBERS) as u64)
}

/// The receiving half alone: parse, open, cache.
fn receive(rounds: u64) -> anyhow::Result<()> {
    let mut world = World::new(1, 0, PAYLOAD_BYTES, FRAME_PACKETS)?;
    let before = sent(&world.bench);
    for _ in 0..rounds {
        let packets = world.frame(false);
        counted_section(|| packets.iter().for_each(|packet| world.bench.receive(packet)));
        world.bench.fan_out();
    }
    ensure_forwarded(&world.bench, before, rounds * FRAME_PACKETS as u64)
}

fn ensure_forwarded(bench: &ForwardBench, before: u64, expected: u64) -> anyhow::Result<()> {
    let forwarded = sent(bench) - before;
    ensure!(forwarded == expected, "{forwarded} packets were forwarded, expected {expected}");
    Ok(())
}

fn plan(rounds: u64) -> anyhow::Result<()> {
    // As libwebrtc splits a frame: lengths differ by one byte at most.
    let lengths = [1150, 1150, 1150, 1150, 1149, 1149, 1149, 1149, 1149];
    let mut steps = Vec::with_capacity(FRAME_PACKETS);
    counted_section(|| {
        for _ in 0..rounds {
            run::plan(black_box(&lengths).iter().copied(), Runs::default(), &mut steps);
            black_box(&steps);
        }
    });
    ensure!(steps.iter().filter(|step| step.ends_run).count() == 1, "a frame is one message");
    Ok(())
}

/// Packets of one shard to the other: copy, queue, cache; nothing of the fan-out there.
fn cross(rounds: u64) -> anyhow::Result<()> {
    let mut pair = Pair::new()?;
    for _ in 0..200 {
        pair.ingest(FRAME_PACKETS)?;
        pair.hand_over();
        pair.take_over();
    }
    let before = pair.crossed();
    for _ in 0..rounds {
        pair.ingest(FRAME_PACKETS)?;
        counted_section(|| {
            pair.hand_over();
            pair.take_over();
        });
    }
    let (crossed, expected) = (pair.crossed() - before, rounds * FRAME_PACKETS as u64);
    ensure!(crossed == expected, "{crossed} packets crossed, expected {expected}");
    Ok(())
}

/// Every gate closed and opened again.
fn gate(rounds: u64) -> anyhow::Result<()> {
    let mut world = World::new(SUBSCRIBERS, 0, PAYLOAD_BYTES, FRAME_PACKETS)?;
    let before = world.bench.core.counters.gate_commands;
    for _ in 0..rounds {
        counted_section(|| {
            for number in 0..SUBSCRIBERS {
                world.bench.set_gate(number, false);
                world.bench.set_gate(number, true);
            }
        });
        world.bench.advance(Duration::from_millis(1));
        world.bench.fan_out();
    }
    let applied = world.bench.core.counters.gate_commands - before;
    ensure!(applied == rounds * 2 * SUBSCRIBERS as u64, "{applied} commands were applied");
    Ok(())
}

/// A viewer's receiver report and transport-wide feedback about a frame: open, parse, note.
fn feedback(rounds: u64) -> anyhow::Result<()> {
    let mut world = World::new(1, 0, PAYLOAD_BYTES, FRAME_PACKETS)?;
    let mut arrivals = TwccReceiver::new();
    let (mut sequence, mut compound, mut datagram) = (0_u16, Vec::new(), Vec::new());
    let before = world.bench.core.counters.rtcp_received_packets;
    for round in 0..rounds {
        world.frame(false).iter().for_each(|packet| world.bench.receive(packet));
        world.bench.fan_out();
        for _ in 0..FRAME_PACKETS {
            arrivals.record(sequence, round * 33_000 + u64::from(sequence) * 100);
            sequence = sequence.wrapping_add(1);
        }
        compound.clear();
        datagram.clear();
        let subscriber = &mut world.bench.subscribers[0];
        let report = ReportBlock {
            ssrc: subscriber.ssrc,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_sequence: u32::from(sequence),
            jitter: 10,
            last_sr: 1,
            delay_since_last_sr: 1,
        };
        write_receiver_report(&mut compound, 1, &[report]);
        arrivals.build(1, subscriber.ssrc, &mut compound);
        subscriber.seal.seal_rtcp(&compound, &mut datagram);
        counted_section(|| world.bench.receive_from_subscriber(0, black_box(&datagram)));
    }
    let received = world.bench.core.counters.rtcp_received_packets - before;
    ensure!(received == rounds, "{received} of {rounds} compounds opened");
    Ok(())
}

fn sent(bench: &ForwardBench) -> u64 {
    use sfu::io::Link;
    bench.link.counters().sent_datagrams
}

fn parse(rounds: u64) -> anyhow::Result<()> {
    let packet = sealed(PAYLOAD_BYTES)?;
    counted_section(|| {
        for _ in 0..rounds {
            black_box(RtpHeader::parse(black_box(&packet))).ok();
        }
    });
    Ok(())
}

fn write_header(rounds: u64) -> anyhow::Result<()> {
    let template = HeaderTemplate::new(SSRC, 96, Some(3), None);
    let mut out = [0; 64];
    counted_section(|| {
        for round in 0..rounds {
            let sequence = round as u16;
            black_box(template.write(black_box(&mut out), true, false, sequence, 90, sequence));
        }
    });
    Ok(())
}

fn seal(payload_bytes: usize, rounds: u64) -> anyhow::Result<()> {
    let (seal, _) = keys(Cipher(SrtpProfile::AEAD_AES_256_GCM), 1)?;
    let (payload, mut out) = (vec![7; payload_bytes], [0; 1500]);
    out[0] = 0x80;
    counted_section(|| {
        for index in 0..rounds {
            black_box(seal.seal_rtp(black_box(&mut out), 20, black_box(&payload), SSRC, index));
        }
    });
    Ok(())
}

fn open(rounds: u64) -> anyhow::Result<()> {
    let (_, open) = keys(Cipher(SrtpProfile::AEAD_AES_256_GCM), 1)?;
    let packet = sealed(AUDIO_PAYLOAD_BYTES)?;
    let mut plain = [0; 1500];
    let mut opened = 0;
    counted_section(|| {
        for _ in 0..rounds {
            let result = open.open_rtp(black_box(&packet), 20, SSRC, 0, black_box(&mut plain));
            opened += u64::from(result.is_ok());
        }
    });
    ensure!(opened == rounds, "{opened} of {rounds} packets opened");
    Ok(())
}

fn sealed(payload_bytes: usize) -> anyhow::Result<Vec<u8>> {
    let (seal, _) = keys(Cipher(SrtpProfile::AEAD_AES_256_GCM), 1)?;
    let mut out = vec![0; payload_bytes + 64];
    let header_bytes =
        HeaderTemplate::new(SSRC, 96, Some(3), None).write(&mut out, false, false, 0, 90, 0);
    ensure!(header_bytes == 20, "a header with TWCC has 20 bytes");
    let bytes = seal.seal_rtp(&mut out, header_bytes, &vec![7; payload_bytes], SSRC, 0);
    out.truncate(bytes);
    Ok(out)
}

/// A VP8 payload (RFC 7741): descriptor of one byte, frame tag, filling.
fn vp8_payload(payload_bytes: usize, start: bool, key: bool) -> Vec<u8> {
    let mut payload = vec![7; payload_bytes];
    payload[0] = if start { 0x10 } else { 0 };
    let tag = [if key { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1];
    payload[1..11].copy_from_slice(&tag);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_does_the_work_that_it_counts() {
        for case in &CASES {
            run(case.name, 2).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        }
        assert!(run("unknown", 1).is_err());
    }
}
