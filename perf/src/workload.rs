//! The deterministic work whose instructions callgrind counts: each case the same code that a shard
//! runs per packet, with nothing of the kernel in it.

use std::hint::black_box;

use anyhow::{bail, ensure};
use sfu::ports::SrtpProfile;
use sfu::shard::bench::ForwardBench;
use sfu::wire::rtp::{HeaderTemplate, RtpHeader};

use crate::bare_loop::{Cipher, keys};

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
pub const CASES: [Case; 6] = [
    Case {
        name: "forward_video_to_100",
        unit: "forwarded packet",
        units_per_round: (FRAME_PACKETS * SUBSCRIBERS) as u64,
        rounds: 20,
    },
    Case {
        name: "forward_video_to_1",
        unit: "forwarded packet",
        units_per_round: FRAME_PACKETS as u64,
        rounds: 200,
    },
    Case { name: "rtp_parse", unit: "packet", units_per_round: 1, rounds: 2000 },
    Case { name: "rtp_header_write", unit: "packet", units_per_round: 1, rounds: 2000 },
    Case { name: "srtp_seal_1150", unit: "packet", units_per_round: 1, rounds: 1000 },
    Case { name: "srtp_open_100", unit: "packet", units_per_round: 1, rounds: 1000 },
];

/// Runs a case; only what happens inside [`counted_section`] is counted.
pub fn run(name: &str, rounds: u64) -> anyhow::Result<()> {
    match name {
        "forward_video_to_100" => forward(SUBSCRIBERS, rounds),
        "forward_video_to_1" => forward(1, rounds),
        "rtp_parse" => parse(rounds),
        "rtp_header_write" => write_header(rounds),
        "srtp_seal_1150" => seal(rounds),
        "srtp_open_100" => open(rounds),
        _ => bail!("no case is called {name:?}"),
    }
}

/// The function that callgrind is told to watch.
#[inline(never)]
fn counted_section(mut work: impl FnMut()) {
    work();
    // Keeps the call above from becoming a jump out of this function's frame.
    black_box(());
}

/// Frames of a publisher through a whole shard: parse, open, cache, plan, rewrite, seal, queue.
fn forward(subscribers: usize, rounds: u64) -> anyhow::Result<()> {
    let mut bench = ForwardBench::new(subscribers, SrtpProfile::AEAD_AES_256_GCM)?;
    let mut index = 1000;
    let mut frame = |bench: &mut ForwardBench, key: bool| -> Vec<Vec<u8>> {
        (0..FRAME_PACKETS)
            .map(|at| {
                let payload = vp8_payload(at == 0, key);
                index += 1;
                let timestamp = (index as u32 / FRAME_PACKETS as u32) * 3000;
                bench.publisher_packet(index, timestamp, at + 1 == FRAME_PACKETS, &payload)
            })
            .collect()
    };
    // Caches and vectors grow to their size, and the streams start, before anything is counted.
    for round in 0..20 {
        let packets = frame(&mut bench, round == 0);
        packets.iter().for_each(|packet| bench.receive(packet));
        bench.fan_out();
    }
    let before = sent(&bench);
    for _ in 0..rounds {
        let packets = frame(&mut bench, false);
        counted_section(|| {
            packets.iter().for_each(|packet| bench.receive(packet));
            bench.fan_out();
        });
    }
    let forwarded = sent(&bench) - before;
    let expected = rounds * (FRAME_PACKETS * subscribers) as u64;
    ensure!(forwarded == expected, "{forwarded} packets were forwarded, expected {expected}");
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

fn seal(rounds: u64) -> anyhow::Result<()> {
    let (seal, _) = keys(Cipher(SrtpProfile::AEAD_AES_256_GCM), 1)?;
    let (payload, mut out) = ([7; PAYLOAD_BYTES], [0; 1500]);
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
fn vp8_payload(start: bool, key: bool) -> Vec<u8> {
    let mut payload = vec![7; PAYLOAD_BYTES];
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
