//! What a run found, as a table for people, as JSON for programs, as a verdict for scripts.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::histogram::Histogram;
use crate::load::series::Sample;
use crate::pay::Payments;
use crate::payload::Kind;
use crate::trace::Trace;
use crate::viewer::Viewer;

/// Everything a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// CPU, cores, kernel.
    pub machine: String,
    /// How the run was called.
    pub command: String,
    /// What the publishers played.
    pub trace: String,
    /// Groups of publishers and viewers.
    pub rooms: usize,
    /// Clients of each room that sent.
    pub publishers: u16,
    /// Clients that were to watch, those that joined within the window included.
    pub viewers: usize,
    /// Of those, clients that joined within the window, as many as left in it.
    pub churned: usize,
    /// Of those, clients that media reaches; fewer where a sink takes the place of receivers.
    pub hearing: usize,
    /// Clients with connected transport.
    pub connected: usize,
    /// Of those that hear, clients that decrypted media.
    pub playing: usize,
    /// Joins that the server answered with a status other than 201.
    pub refused: usize,
    /// Clients whose transport failed, or was closed by the server, before the end.
    pub ended: usize,
    /// Length of the counted window.
    pub seconds: f64,
    /// The window ended early, by a signal.
    pub interrupted: bool,
    /// After the window the server still took a request.
    pub server_answers: bool,
    /// What arrived of what was sent in the window.
    pub packets: Packets,
    /// Packets that the server sent to viewers in the window: received by those who hear, and
    /// dropped by the sink for the others. What a cost per packet is a cost of.
    pub forwarded: u64,
    /// `POST` to the first decrypted packet of the awaited track.
    pub join_ms: Latency,
    /// `POST` to connected transport.
    pub connect_ms: Latency,
    /// Hand-over to the publisher's transport, to arrival at the viewer's socket.
    pub latency_ms: Latency,
    /// The same as a curve: percent, ms.
    pub latency_curve: Vec<(f64, f64)>,
    /// `join_ms` as a curve: percent, ms.
    pub join_curve: Vec<(f64, f64)>,
    /// Known when the server's process was named.
    pub server: Option<ServerCost>,
    /// Known when the server exports it.
    pub sending: Option<Sending>,
    /// Turns of the server's media loops while viewers joined; known when the server exports them.
    pub joining_ticks: Option<Ticks>,
    /// The same in the window.
    pub window_ticks: Option<Ticks>,
    /// What viewers paid, where they did.
    pub payments: Option<Payments>,
    /// What the generator itself took.
    pub generator: Generator,
    /// First errors of clients.
    pub errors: Vec<String>,
    /// What happened when.
    pub series: Vec<Sample>,
}

/// Turns of the server's media loops in a span, by its own counters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ticks {
    /// No turn took longer, ms: the upper edge of a bucket where the server exports a histogram
    /// else, or beyond its last edge, the largest value of its gauge that was seen; `None`: beyond
    /// the last edge, and no gauge.
    pub longest_ms: Option<f64>,
    /// Turns beyond a millisecond.
    pub over_1ms: u64,
    /// Turns beyond ten milliseconds.
    pub over_10ms: u64,
}

/// Packets of the window, over all viewers that played.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Packets {
    /// Sent by the publishers, times viewers.
    pub expected: u64,
    /// Distinct packets decrypted.
    pub received: u64,
    /// Expected less received.
    pub lost: u64,
    /// Of those, Opus packets: nobody asks for them again.
    pub lost_audio: u64,
    /// Of the viewer that lost most.
    pub lost_by_worst_viewer: u64,
    /// SRTP and SRTCP packets that viewers threw away as asked (whole run).
    pub dropped_on_purpose: u64,
    /// Longest run of packets of one track that one viewer lost.
    pub longest_gap: u64,
    /// SRTP packets that came and were not delivered: not to be opened, or retransmissions of
    /// packets that had come after all (whole run).
    pub undelivered: u64,
    /// Delivered twice under different sequence numbers (whole run).
    pub duplicates: u64,
    /// SRTP packets that came twice (whole run).
    pub wire_repeats: u64,
    /// Came after a later one (whole run; retransmissions do).
    pub reordered: u64,
    /// Payload differs from what was sent (whole run).
    pub corrupt: u64,
    /// Of another publisher's stream (whole run).
    pub alien: u64,
    /// Retransmissions (whole run).
    pub rtx: u64,
    /// Viewers whose first video packet did not begin a keyframe.
    pub began_without_keyframe: u64,
    /// Tracks from which a viewer that plays heard nothing at all.
    pub silent_tracks: u64,
}

/// Percentiles, ms.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// What the server spent, per forwarded packet.
#[derive(Debug, Clone, Serialize)]
pub struct ServerCost {
    /// CPU µs of the whole process (scheduler's clock).
    pub us_per_packet: f64,
    /// CPU µs of the threads named `shard-*`.
    pub shard_us_per_packet: Option<f64>,
    /// Share in user mode (by 10 ms ticks).
    pub user_us_per_packet: f64,
    /// Share in the kernel (by 10 ms ticks).
    pub system_us_per_packet: f64,
    /// Cores kept busy.
    pub cores: f64,
    /// Time that threads were ready and others had the cores, of a hundred of the window: high
    /// means that latency and loss here are the machine's, not the server's.
    pub waited_percent: f64,
    /// CPU ms of the whole process for one join, from the first viewer's `POST` until all play. The
    /// forwarding to those who play already is in it.
    pub cpu_ms_per_join: Option<f64>,
    /// Resident set with all viewers.
    pub rss_mib: Option<f64>,
    /// Growth from publishers alone to all viewers, per viewer.
    pub rss_kib_per_viewer: Option<f64>,
}

/// By the server's own counters.
#[derive(Debug, Clone, Serialize)]
pub struct Sending {
    /// Datagrams per message handed to the kernel (UDP GSO).
    pub packets_per_message: f64,
    /// The same if every frame and every audio packet were one message.
    pub packets_per_message_ideal: f64,
    /// Payload bytes copied per packet.
    pub copied_bytes_per_packet: Option<f64>,
}

/// The generator's own state, so that its limit is not taken for the server's.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Threads that drove clients.
    pub threads: usize,
    /// Cores kept busy.
    pub cores: f64,
    /// Time that its busiest thread ran, or was ready to, of a hundred of the window.
    pub busiest_percent: f64,
    /// Cores of the machine.
    pub machine_cores: usize,
    /// Time that its threads were ready and others had the cores, of a hundred of the window.
    pub waited_percent: f64,
    /// Dropped by the kernel at our own sockets.
    pub dropped_datagrams: u64,
    /// Its sockets took trains (UDP GRO), which spares a sender on the same host work.
    pub takes_trains: bool,
}

/// A thread that runs or waits to run for more of the time than this can take no more load.
const BUSIEST_PERCENT_MAX: f64 = 95.0;
/// A machine of which more than this share is used has nothing left for either side.
const FULL_SHARE: f64 = 0.97;

/// Bounds of a run; one that is passed makes the exit code 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thresholds {
    /// Percent of expected packets.
    pub loss_percent_max: Option<f64>,
    /// Server's CPU µs per packet, whole process.
    pub us_per_packet_max: Option<f64>,
    /// Milliseconds, 99th percentile.
    pub latency_p99_ms_max: Option<f64>,
    /// Milliseconds from `POST` to the first media, 99th percentile.
    pub join_p99_ms_max: Option<f64>,
    /// Viewers that must have played.
    pub playing_min: Option<usize>,
    /// Growth of the server's resident set for a viewer, KiB.
    pub rss_kib_per_viewer_max: Option<f64>,
}

impl Latency {
    /// From ns.
    pub fn in_ms(histogram: &Histogram) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        Self {
            p50: ms(histogram.percentile_ns(50.0)),
            p99: ms(histogram.percentile_ns(99.0)),
            p999: ms(histogram.percentile_ns(99.9)),
            max: ms(histogram.max_ns()),
        }
    }
}

impl Packets {
    /// Adds one viewer's account of a trace; the windows are counters `from..until` by publisher.
    pub fn add(
        &mut self,
        viewer: &Viewer,
        audio: &[(u64, u64)],
        video: &[(u64, u64)],
        trace: &Trace,
    ) {
        let publisher = usize::from(viewer.publisher());
        let mut count = |kind: Kind, window: (u64, u64)| {
            let (from, until) = viewer.span(kind, window);
            let track = match kind {
                Kind::Audio => &viewer.audio,
                Kind::Video => &viewer.video,
            };
            self.silent_tracks += u64::from(trace.has(kind) && track.lowest().is_none());
            let received = track.received(from, until);
            self.expected += until - from;
            self.received += received;
            self.longest_gap = self.longest_gap.max(track.longest_gap(from, until));
            self.duplicates += track.duplicates;
            self.reordered += track.reordered;
            until - from - received
        };
        let lost_audio = count(Kind::Audio, audio[publisher]);
        let lost = lost_audio + count(Kind::Video, video[publisher]);
        self.lost += lost;
        self.lost_audio += lost_audio;
        self.lost_by_worst_viewer = self.lost_by_worst_viewer.max(lost);
        self.wire_repeats += viewer.wire_repeats;
        self.corrupt += viewer.corrupt;
        self.alien += viewer.alien;
        self.rtx += viewer.rtx;
        self.dropped_on_purpose += viewer.dropped_on_purpose;
        self.undelivered += viewer.wire_packets.saturating_sub(viewer.opened_packets);
        self.began_without_keyframe += u64::from(viewer.began_with_keyframe == Some(false));
    }

    /// Lost of a hundred.
    pub fn loss_percent(&self) -> f64 {
        100.0 * self.lost as f64 / self.expected.max(1) as f64
    }
}

impl Report {
    /// Why these figures are the generator's and not the server's, where that is so.
    pub fn generator_limit(&self) -> Option<String> {
        let own = &self.generator;
        let server = self.server.as_ref().map_or(0.0, |server| server.cores);
        let machine = own.machine_cores as f64;
        if own.dropped_datagrams > 0 {
            let dropped = own.dropped_datagrams;
            return Some(format!(
                "its own sockets dropped {dropped} datagrams that the server had delivered; use \
                 more --threads, or raise net.core.rmem_max"
            ));
        }
        if own.busiest_percent > BUSIEST_PERCENT_MAX {
            let busiest = own.busiest_percent;
            return Some(format!(
                "one of its threads ran or waited for a core {busiest:.0} % of the time; use more \
                 --threads, or another machine for it"
            ));
        }
        if own.cores + server > FULL_SHARE * machine {
            return Some(format!(
                "it used {:.2} and the server {server:.2} of this machine's {machine} cores; run it \
                 on another machine",
                own.cores
            ));
        }
        None
    }

    /// Sentences that say what is wrong; empty when all is well.
    pub fn verdict(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut wrong = Vec::new();
        let packets = &self.packets;
        if !self.server_answers {
            wrong
                .push("the server no longer answers: it ended during the run, or hangs".to_owned());
        }
        if self.playing < self.hearing {
            let missing = self.hearing - self.playing;
            wrong.push(format!("{missing} of {} viewers never played", self.hearing));
        }
        if self.connected < self.viewers && self.hearing < self.viewers {
            let missing = self.viewers - self.connected;
            wrong.push(format!("{missing} of {} viewers never connected", self.viewers));
        }
        for (count, what) in [
            (packets.corrupt, "packets arrived damaged"),
            (packets.alien, "packets of another stream arrived"),
            (packets.duplicates, "packets were delivered twice"),
            (packets.silent_tracks, "tracks of viewers that play stayed silent"),
        ] {
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        let loss = packets.loss_percent();
        if let Some(max) = thresholds.loss_percent_max
            && loss > max
        {
            let own = match self.generator.dropped_datagrams {
                0 => String::new(),
                own => format!(" ({own} datagrams at the generator's own sockets)"),
            };
            wrong.push(format!("{loss:.4} % of the packets were lost{own}, allowed are {max} %"));
        }
        if let Some(max) = thresholds.latency_p99_ms_max
            && self.latency_ms.p99 > max
        {
            let p99 = self.latency_ms.p99;
            wrong.push(format!("latency p99 is {p99:.2} ms, allowed are {max} ms"));
        }
        if let Some(max) = thresholds.join_p99_ms_max
            && self.join_ms.p99 > max
        {
            let p99 = self.join_ms.p99;
            wrong.push(format!("first media came after {p99:.0} ms (p99), allowed are {max} ms"));
        }
        if let Some(min) = thresholds.playing_min
            && self.playing < min
        {
            wrong.push(format!("{} viewers played, {min} are asked for", self.playing));
        }
        let rss = self.server.as_ref().and_then(|server| server.rss_kib_per_viewer);
        match (rss, thresholds.rss_kib_per_viewer_max) {
            (Some(rss), Some(max)) if rss > max => wrong.push(format!(
                "the server's memory grew by {rss:.0} KiB a viewer, allowed are {max} KiB"
            )),
            (None, Some(_)) => {
                wrong.push("memory a viewer is bounded, but no --pid says whose".to_owned());
            }
            (Some(_) | None, _) => {}
        }
        if let Some(payments) = self.payments.as_ref().filter(|payments| payments.stopped > 0) {
            let (stopped, sessions) = (payments.stopped, payments.sessions);
            wrong.push(format!("{stopped} of {sessions} viewers stopped to pay"));
        }
        match (&self.server, thresholds.us_per_packet_max) {
            (Some(server), Some(max)) if server.us_per_packet > max => wrong.push(format!(
                "the server spent {:.2} µs a packet, allowed are {max} µs",
                server.us_per_packet
            )),
            (None, Some(_)) => {
                wrong.push("CPU per packet is bounded, but no --pid says whose".to_owned());
            }
            (Some(_) | None, _) => {}
        }
        wrong
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<26} {value}");
        let packets = &self.packets;
        let spread = |l: &Latency| {
            let Latency { p50, p99, p999, max } = l;
            format!("p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms")
        };
        row("machine", self.machine.clone())?;
        row(
            "case",
            format!(
                "{}{} × {} -> {} viewers, {:.1} s{}{}",
                if self.rooms > 1 { format!("{} rooms, each ", self.rooms) } else { String::new() },
                self.publishers,
                self.trace,
                self.viewers - self.churned,
                self.seconds,
                match self.churned {
                    0 => String::new(),
                    churned => format!(", {churned} left and {churned} joined meanwhile"),
                },
                if self.interrupted { ", INTERRUPTED before its time" } else { "" },
            ),
        )?;
        row(
            "viewers",
            format!(
                "{} play, {} refused, {} ended{}",
                self.playing,
                self.refused,
                self.ended,
                match self.viewers - self.hearing {
                    0 => String::new(),
                    deaf => format!(
                        "; {} of {} connected, {deaf} of them behind a sink",
                        self.connected, self.viewers
                    ),
                }
            ),
        )?;
        let rate = self.forwarded as f64 / self.seconds;
        row(
            "packets",
            format!(
                "{} expected, {} received, {} forwarded ({rate:.0}/s)",
                packets.expected, packets.received, self.forwarded
            ),
        )?;
        row(
            "lost",
            format!(
                "{} ({:.4} %), {} of them audio, worst viewer {}, longest gap {}, {} \
                 retransmissions{}",
                packets.lost,
                packets.loss_percent(),
                packets.lost_audio,
                packets.lost_by_worst_viewer,
                packets.longest_gap,
                packets.rtx,
                match packets.dropped_on_purpose {
                    0 => String::new(),
                    dropped => format!(", {dropped} dropped on purpose"),
                }
            ),
        )?;
        row(
            "faults",
            format!(
                "{} undelivered, {} duplicate, {} repeated on the wire, {} reordered, {} corrupt, \
                 {} alien, {} began without keyframe, {} silent tracks",
                packets.undelivered,
                packets.duplicates,
                packets.wire_repeats,
                packets.reordered,
                packets.corrupt,
                packets.alien,
                packets.began_without_keyframe,
                packets.silent_tracks
            ),
        )?;
        row("transport connected", spread(&self.connect_ms))?;
        row("first media", spread(&self.join_ms))?;
        row("latency", spread(&self.latency_ms))?;
        if let Some(server) = &self.server {
            let shards = server.shard_us_per_packet.map(|us| format!(", shard threads {us:.2}"));
            row(
                "server CPU per packet",
                format!(
                    "{:.2} µs{} (user {:.2} + system {:.2}); {:.2} cores, waited for one {:.0} % of the time",
                    server.us_per_packet,
                    shards.unwrap_or_default(),
                    server.user_us_per_packet,
                    server.system_us_per_packet,
                    server.cores,
                    server.waited_percent
                ),
            )?;
            if let Some(ms) = server.cpu_ms_per_join {
                row("server CPU per join", format!("{ms:.2} ms, forwarding meanwhile included"))?;
            }
            if let (Some(rss), Some(each)) = (server.rss_mib, server.rss_kib_per_viewer) {
                row("server memory", format!("{rss:.1} MiB, {each:.0} KiB a viewer"))?;
            }
        }
        for (when, ticks) in [("joining", self.joining_ticks), ("window", self.window_ticks)] {
            let Some(Ticks { longest_ms, over_1ms, over_10ms }) = ticks else { continue };
            let longest = longest_ms.map_or_else(
                || "beyond its histogram".to_owned(),
                |ms| format!("{ms:.2} ms at most"),
            );
            row(
                &format!("longest tick, {when}"),
                format!("{longest}; {over_1ms} over 1 ms, {over_10ms} over 10 ms"),
            )?;
        }
        if let Some(sending) = &self.sending {
            let copied = sending
                .copied_bytes_per_packet
                .map(|bytes| format!(", {bytes:.0} bytes copied a packet"));
            row(
                "server sends",
                format!(
                    "{:.2} packets a message (a message a frame would be {:.2}){}",
                    sending.packets_per_message,
                    sending.packets_per_message_ideal,
                    copied.unwrap_or_default()
                ),
            )?;
        }
        if let Some(pay) = &self.payments {
            let sut = |units: u128| format!("{:.6}", units as f64 / 1e9);
            row(
                "payments",
                format!(
                    "{} vouchers of {} viewers at {} SUT/s: {} SUT spent, {} paid, {} redeemed; \
                     {} of {} packets came unpaid, {} stopped to pay",
                    pay.vouchers,
                    pay.sessions,
                    sut(pay.rate.into()),
                    sut(pay.spent),
                    sut(pay.paid),
                    sut(pay.redeemed),
                    pay.unpaid_packets,
                    pay.packets,
                    pay.stopped
                ),
            )?;
        }
        row(
            "generator",
            format!(
                "{:.2} cores of {} thread(s), its busiest one {:.0} % of the time, waited for one \
                 {:.0} %, {} datagrams dropped at its own sockets{}",
                self.generator.cores,
                self.generator.threads,
                self.generator.busiest_percent,
                self.generator.waited_percent,
                self.generator.dropped_datagrams,
                if self.generator.takes_trains { ", GRO on" } else { "" },
            ),
        )?;
        if let Some(limit) = self.generator_limit() {
            row("", format!("THE GENERATOR WAS THE LIMIT: {limit}."))?;
        }
        for error in &self.errors {
            row("error", error.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Report {
        let latency = Latency { p50: 1.0, p99: 5.0, p999: 8.0, max: 9.0 };
        Report {
            machine: "test".into(),
            command: "sutantra-bench load".into(),
            trace: "video-2400k".into(),
            rooms: 1,
            publishers: 1,
            viewers: 2,
            churned: 0,
            hearing: 2,
            connected: 2,
            playing: 2,
            refused: 0,
            ended: 0,
            seconds: 10.0,
            interrupted: false,
            server_answers: true,
            packets: Packets { expected: 1000, received: 1000, ..Packets::default() },
            forwarded: 1000,
            join_ms: latency,
            connect_ms: latency,
            latency_ms: latency,
            latency_curve: vec![(50.0, 1.0), (99.0, 5.0), (100.0, 9.0)],
            join_curve: vec![(50.0, 1.0), (99.0, 5.0), (100.0, 9.0)],
            server: Some(ServerCost {
                us_per_packet: 5.0,
                shard_us_per_packet: Some(4.0),
                user_us_per_packet: 2.0,
                system_us_per_packet: 3.0,
                cores: 0.5,
                waited_percent: 1.0,
                cpu_ms_per_join: Some(1.5),
                rss_mib: Some(20.0),
                rss_kib_per_viewer: Some(100.0),
            }),
            sending: None,
            joining_ticks: None,
            window_ticks: None,
            payments: None,
            generator: Generator {
                threads: 1,
                cores: 0.1,
                busiest_percent: 12.0,
                machine_cores: 2,
                waited_percent: 2.0,
                dropped_datagrams: 0,
                takes_trains: false,
            },
            errors: Vec::new(),
            series: Vec::new(),
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Report, &mut Thresholds), expected: &[&str]) {
        let (mut report, mut thresholds) = (example(), Thresholds::default());
        change(&mut report, &mut thresholds);
        assert_eq!(report.verdict(&thresholds), expected);
    }

    /// R114
    #[test]
    fn a_passed_threshold_is_said_in_a_sentence() {
        check(|_, _| {}, &[]);
        check(|_, t| t.us_per_packet_max = Some(5.0), &[]);
        check(
            |_, t| t.us_per_packet_max = Some(4.9),
            &["the server spent 5.00 µs a packet, allowed are 4.9 µs"],
        );
        check(
            |r, t| (r.server, t.us_per_packet_max) = (None, Some(9.0)),
            &["CPU per packet is bounded, but no --pid says whose"],
        );
        check(|r, t| (r.packets.lost, t.loss_percent_max) = (1, Some(0.1)), &[]);
        check(
            |r, t| (r.packets.lost, t.loss_percent_max) = (1, Some(0.0)),
            &["0.1000 % of the packets were lost, allowed are 0 %"],
        );
        check(
            |_, t| t.latency_p99_ms_max = Some(4.0),
            &["latency p99 is 5.00 ms, allowed are 4 ms"],
        );
        check(
            |_, t| t.join_p99_ms_max = Some(4.0),
            &["first media came after 5 ms (p99), allowed are 4 ms"],
        );
        check(|_, t| t.playing_min = Some(2), &[]);
        check(|_, t| t.playing_min = Some(3), &["2 viewers played, 3 are asked for"]);
        check(|_, t| t.rss_kib_per_viewer_max = Some(100.0), &[]);
        check(
            |_, t| t.rss_kib_per_viewer_max = Some(99.0),
            &["the server's memory grew by 100 KiB a viewer, allowed are 99 KiB"],
        );
        check(
            |r, t| (r.server, t.rss_kib_per_viewer_max) = (None, Some(99.0)),
            &["memory a viewer is bounded, but no --pid says whose"],
        );
        check(
            |r, _| r.payments = Some(Payments { sessions: 2, stopped: 1, ..Payments::default() }),
            &["1 of 2 viewers stopped to pay"],
        );
    }

    /// R114
    #[test]
    fn the_generator_says_when_it_was_the_limit_and_why() {
        #[track_caller]
        fn check(change: impl Fn(&mut Report), expected: Option<&str>) {
            let mut report = example();
            change(&mut report);
            let said = report.generator_limit();
            match (&said, expected) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
                (said, expected) => panic!("{said:?} instead of {expected:?}"),
            }
            let shown = report.to_string().contains("THE GENERATOR WAS THE LIMIT");
            assert_eq!(shown, said.is_some(), "what is so is shown");
        }
        check(|_| {}, None);
        check(|r| r.generator.dropped_datagrams = 3, Some("own sockets dropped 3 datagrams"));
        check(|r| r.generator.busiest_percent = 96.0, Some("a core 96 % of the time"));
        check(|r| r.generator.cores = 1.5, Some("1.50 and the server 0.50 of this machine's 2"));
    }

    /// R114
    #[test]
    fn damage_and_absent_viewers_fail_a_run_without_any_threshold() {
        check(|r, _| r.playing = 1, &["1 of 2 viewers never played"]);
        check(|r, _| (r.hearing, r.playing) = (1, 1), &[]);
        check(
            |r, _| (r.hearing, r.playing, r.connected) = (1, 1, 1),
            &["1 of 2 viewers never connected"],
        );
        check(|r, _| r.packets.corrupt = 3, &["3 packets arrived damaged"]);
        check(|r, _| r.packets.alien = 1, &["1 packets of another stream arrived"]);
        check(|r, _| r.packets.duplicates = 2, &["2 packets were delivered twice"]);
        check(|r, _| r.packets.silent_tracks = 1, &["1 tracks of viewers that play stayed silent"]);
    }

    /// R114
    #[test]
    fn a_report_is_json_with_numbers_by_name() {
        let json = serde_json::to_value(example()).expect("plain data");
        assert_eq!(json["packets"]["received"], 1000);
        assert_eq!(json["server"]["us_per_packet"], 5.0);
        assert_eq!(json["latency_ms"]["p99"], 5.0);
    }
}
