//! Viewers and Gb/s of a core, by bitrate: a cost model with coefficients measured here.

mod coefficients;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::limit::SinkChoice;
use coefficients::Coefficients;

/// RTP payload of a full video packet, and of an audio packet of 20 ms.
const VIDEO_PAYLOAD_BYTES: f64 = 1150.0;
const AUDIO_PAYLOAD_BYTES: f64 = 100.0;
const AUDIO_PACKETS_PER_SECOND: f64 = 50.0;
/// RTP header with the transport-wide number, GCM's tag, UDP and IPv4.
const OVERHEAD_BYTES: f64 = 20.0 + 16.0 + 8.0 + 20.0;
/// libwebrtc sends transport-wide feedback every 50 to 250 ms; ten a second are its middle.
const FEEDBACKS_PER_SECOND: f64 = 10.0;
/// Segments that one message may have.
const SEGMENTS_MAX: f64 = 64.0;

/// Options of `capacity`.
#[derive(Args)]
pub struct CapacityArgs {
    /// Video bitrates, one row each: 300k, 2.4M.
    #[arg(long, value_delimiter = ',', default_value = "300k,1M,2400k,5M,8M")]
    bitrate: Vec<Bitrate>,
    /// With an audio stream of 50 packets a second to each viewer.
    #[arg(long)]
    audio: bool,
    /// Cores that forward, one column each; the model is for as many shards.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    cores: Vec<u32>,
    /// Frames a second.
    #[arg(long, default_value_t = 30)]
    frame_rate: u32,
    /// Viewers of one publisher.
    #[arg(long, default_value_t = 100)]
    room: u32,
    /// Share of a core that may be used, of a hundred.
    #[arg(long, default_value_t = 70)]
    load: u32,
    /// What the relay takes over the bare loop; `peers` measures it.
    #[arg(long, default_value_t = 1.25)]
    factor: f64,
    /// Where the measured packets go; the drop sink needs root.
    #[arg(long, default_value = "loopback")]
    sink: SinkChoice,
    /// io_uring or epoll.
    #[arg(long, default_value = "io_uring")]
    link: String,
    /// Repeats of each measurement, interleaved.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Take the coefficients from this file instead of measuring them.
    #[arg(long, value_name = "FILE")]
    coefficients: Option<PathBuf>,
    /// Write the coefficients to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Bits a second of RTP payload.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bitrate(f64);

impl FromStr for Bitrate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (number, unit) = match text.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1e3),
            None => text.strip_suffix('M').map_or((text, 1.0), |number| (number, 1e6)),
        };
        let bits = number.parse::<f64>().with_context(|| format!("{text:?}: 300k, 2.4M"))? * unit;
        if !(1e3..=1e9).contains(&bits) {
            bail!("a bitrate is 1k to 1000M, not {text}");
        }
        Ok(Self(bits))
    }
}

/// What one viewer is sent in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stream {
    packets: f64,
    messages: f64,
    payload_bytes: f64,
    /// Times that the publisher's packets arrive, all of a frame together.
    arrivals: f64,
}

impl Stream {
    fn video(bitrate: Bitrate, frame_rate: u32) -> Self {
        let frames = f64::from(frame_rate);
        let frame_bytes = bitrate.0 / 8.0 / frames;
        let packets = (frame_bytes / VIDEO_PAYLOAD_BYTES).ceil().max(1.0);
        Self {
            packets: packets * frames,
            messages: (packets / SEGMENTS_MAX).ceil() * frames,
            payload_bytes: frame_bytes * frames,
            arrivals: frames,
        }
    }

    fn audio() -> Self {
        let packets = AUDIO_PACKETS_PER_SECOND;
        let payload_bytes = packets * AUDIO_PAYLOAD_BYTES;
        Self { packets, messages: packets, payload_bytes, arrivals: packets }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            messages: self.messages + other.messages,
            payload_bytes: self.payload_bytes + other.payload_bytes,
            arrivals: self.arrivals + other.arrivals,
        }
    }

    fn wire_bits(self) -> f64 {
        (self.payload_bytes + self.packets * OVERHEAD_BYTES) * 8.0
    }
}

/// CPU ns that a viewer takes in a second, its part of the room's costs included.
fn viewer_ns(cost: &Coefficients, stream: Stream, room: u32, cores: u32, factor: f64) -> f64 {
    let room = f64::from(room);
    // The room's viewers are spread over the shards; each of those that have some is handed every
    // packet, and wakes up for each arrival.
    let others = f64::from(cores - 1).min(room);
    let sent = stream.messages * cost.message_ns
        + stream.packets * cost.packet_ns
        + stream.payload_bytes * cost.byte_ns;
    let heard = FEEDBACKS_PER_SECOND * (cost.receive_ns + cost.feedback_ns);
    let arrived = stream.arrivals * (cost.receive_ns + cost.wake_ns);
    let crossed = others
        * (stream.packets * (cost.cross_out_ns + cost.cross_in_ns)
            + stream.arrivals * cost.wake_ns);
    factor * (sent + heard) + (factor * arrived + crossed) / room
}

/// Measures, or reads, and prints.
///
/// # Errors
/// Nonsense asked for, no right to the drop sink, a file.
pub fn run(args: &CapacityArgs) -> anyhow::Result<()> {
    ensure!(args.cores.iter().all(|cores| (1..=64).contains(cores)), "a relay has 1 to 64 shards");
    ensure!((1..=1000).contains(&args.frame_rate), "1 to 1000 frames a second");
    ensure!(args.room > 0 && (1..=100).contains(&args.load), "one viewer, 1 % of load at least");
    ensure!(args.factor.is_finite() && args.factor >= 1.0, "no relay is below the bare loop");
    let cost = match &args.coefficients {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| path.display().to_string())?;
            serde_json::from_str(&text).with_context(|| path.display().to_string())?
        }
        None => coefficients::measure(args.sink, &args.link, args.repeats)?,
    };
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&cost)?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    print_coefficients(&cost);
    print_table(args, &cost);
    print_assumptions(args);
    Ok(())
}

fn print_coefficients(cost: &Coefficients) {
    println!("| coefficient, CPU ns | {} |", cost.measured_with);
    println!("|---|---|");
    for (name, ns) in [
        ("a message sent", cost.message_ns),
        ("a packet in it: header, seal, segment", cost.packet_ns),
        ("1,000 bytes of payload", cost.byte_ns * 1000.0),
        ("a message received", cost.receive_ns),
        ("a sleep and a wake-up", cost.wake_ns),
        ("a viewer's feedback, opened and noted", cost.feedback_ns),
        ("a packet to another shard, there", cost.cross_out_ns),
        ("a packet from another shard, here", cost.cross_in_ns),
    ] {
        println!("| {name} | {ns:.0} |");
    }
    println!();
}

fn print_table(args: &CapacityArgs, cost: &Coefficients) {
    print!("| video | packets a message | CPU µs a packet |");
    args.cores.iter().for_each(|cores| print!(" viewers, {cores} cores | Gb/s |"));
    println!();
    println!("|---|---|---|{}", "---|---|".repeat(args.cores.len()));
    for bitrate in &args.bitrate {
        let video = Stream::video(*bitrate, args.frame_rate);
        let stream = if args.audio { video.plus(Stream::audio()) } else { video };
        let alone = viewer_ns(cost, stream, args.room, 1, args.factor);
        let per_message = video.packets / video.messages;
        let per_packet = alone / stream.packets / 1000.0;
        print!("| {:.1} Mb/s | {per_message:.0} | {per_packet:.2} |", bitrate.0 / 1e6);
        for cores in &args.cores {
            let viewers = viewers(args, cost, stream, *cores);
            print!(" {viewers:.0} | {:.2} |", viewers * stream.wire_bits() / 1e9);
        }
        println!();
    }
}

fn viewers(args: &CapacityArgs, cost: &Coefficients, stream: Stream, cores: u32) -> f64 {
    let ns = viewer_ns(cost, stream, args.room, cores, args.factor);
    (f64::from(cores) * f64::from(args.load) / 100.0 * 1e9 / ns).floor()
}

fn print_assumptions(args: &CapacityArgs) {
    println!();
    println!(
        "Assumed: rooms of one publisher and {} viewers, {} frames a second whose packets arrive \
         together and leave in one message per viewer, full packets of {VIDEO_PAYLOAD_BYTES} B \
         payload{}, {FEEDBACKS_PER_SECOND} feedbacks a second from each viewer, {} % of a core, \
         {} × the bare loop, viewers spread evenly over the shards. Gb/s are of IP packets.",
        args.room,
        args.frame_rate,
        if args.audio { ", audio of 50 packets a second" } else { "" },
        args.load,
        args.factor
    );
    println!(
        "Every arrival is taken to wake each shard that has viewers of the room, which a busy shard \
         does not need. Left out: the network card, its driver and interrupts (measured is the kernel up to the \
         sink), retransmissions, joins, key frames, cores that share caches, memory bandwidth or a \
         physical core, NUMA, and the control plane. Cores beyond those measured are extrapolated \
         from the cost of one crossing."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Coefficients = Coefficients {
        measured_with: String::new(),
        message_ns: 1000.0,
        packet_ns: 100.0,
        byte_ns: 0.5,
        receive_ns: 800.0,
        wake_ns: 2000.0,
        feedback_ns: 300.0,
        cross_out_ns: 100.0,
        cross_in_ns: 200.0,
    };

    #[test]
    fn bitrates_are_read_with_their_units() {
        for (text, bits) in [("300k", 3e5), ("2.4M", 2.4e6), ("2400k", 2.4e6), ("64000", 6.4e4)] {
            assert_eq!(text.parse::<Bitrate>().expect("good"), Bitrate(bits));
        }
        for text in ["", "M", "0", "-1M", "nan", "2G", "2000M"] {
            assert!(text.parse::<Bitrate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_frame_is_split_into_packets_and_shares_a_message() {
        let stream = Stream::video(Bitrate(2.4e6), 30);
        assert_eq!((stream.packets, stream.messages, stream.arrivals), (270.0, 30.0, 30.0));
        assert_eq!(stream.payload_bytes, 300_000.0);
        let small = Stream::video(Bitrate(1e5), 30);
        assert_eq!((small.packets, small.messages), (30.0, 30.0));
        // More packets than a message may have segments.
        let huge = Stream::video(Bitrate(30.0 * 8.0 * 1150.0 * 100.0), 30);
        assert_eq!((huge.packets, huge.messages), (3000.0, 60.0));
    }

    #[test]
    fn a_viewers_cost_is_the_sum_of_what_it_is_sent_and_its_part_of_the_room() {
        let stream = Stream::video(Bitrate(2.4e6), 30);
        let sent = 30.0 * 1000.0 + 270.0 * 100.0 + 300_000.0 * 0.5;
        let heard = 10.0 * (800.0 + 300.0);
        let arrived = 30.0 * (800.0 + 2000.0);
        assert_eq!(viewer_ns(&COST, stream, 1, 1, 1.0), sent + heard + arrived);
        assert_eq!(viewer_ns(&COST, stream, 100, 1, 1.0), sent + heard + arrived / 100.0);
        let crossed = 270.0 * 300.0 + 30.0 * 2000.0;
        let with_two = viewer_ns(&COST, stream, 100, 2, 1.0);
        assert!((with_two - (sent + heard + (arrived + crossed) / 100.0)).abs() < 1e-6);
        // A room of two cannot be on more than two other shards.
        assert_eq!(viewer_ns(&COST, stream, 2, 3, 1.0), viewer_ns(&COST, stream, 2, 64, 1.0),);
    }
}
