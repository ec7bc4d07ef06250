//! The cases: who publishes what to how many, where it goes, what is aimed at.

use std::sync::Arc;

use bench::trace::Trace;

/// Where viewers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// Sockets of the same machine.
    Loopback,
    /// Behind a veth pair, where all media but a sample's is counted and dropped.
    Drop,
}

/// Who takes part beside the relay as it is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// LiveKit.
    LiveKit,
    /// LiveKit and Janus, and what was named by an address.
    Peers,
    /// The peers and a plain SFU through str0m.
    PeersAndPlain,
}

/// Whether the relay runs with other options, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variants {
    /// No.
    None,
    /// Links, shards, GSO, padding, gathering.
    All,
}

/// What a case is about, and so what its table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Cost per forwarded packet.
    Cost,
    /// Memory of sessions without media.
    Idle,
    /// Cost of joins.
    Joins,
}

/// What the acceptance asks of the relay as it is shipped.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Aims {
    /// Times the bare loop, at most.
    pub limit: Option<f64>,
    /// Share of LiveKit's cost, at most.
    pub livekit: Option<f64>,
    /// Share of Janus's cost, at most.
    pub janus: Option<f64>,
    /// Memory of a viewer or session, kB (1000 bytes), at most.
    pub viewer_kb: Option<f64>,
    /// Times its own cost with one shard that it may cost with two.
    pub two_shards: Option<f64>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// For `--cases`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What publishers play: a built-in trace, or one made for the case.
    pub trace_name: &'static str,
    /// Each in a stream of its own.
    pub publishers: u16,
    /// Spread over the streams.
    pub viewers: usize,
    /// Where they are.
    pub sink: Sink,
    /// See [`Subject`].
    pub subject: Subject,
    /// Joins a second.
    pub ramp_per_second: u32,
    /// See [`Beside`].
    pub beside: Beside,
    /// See [`Variants`].
    pub variants: Variants,
    /// See [`Aims`].
    pub aims: Aims,
}

/// An audio packet every ten seconds: enough to say that a session lives.
const IDLE_TRACE: &str = "period 10000000\n0 a 100 1 0\n";
const IDLE: &str = "idle";

impl Case {
    /// What the publishers play.
    pub fn trace(&self) -> Arc<Trace> {
        let trace = match self.trace_name {
            IDLE => Trace::parse(IDLE_TRACE).ok(),
            name => Trace::built_in(name),
        };
        Arc::new(trace.expect("the table below names traces that there are, held by a test"))
    }

    /// Mean RTP payload, bytes.
    pub fn payload_bytes(&self) -> usize {
        let packets = &self.trace().packets;
        packets.iter().map(|packet| packet.payload_bytes).sum::<usize>() / packets.len()
    }

    /// The same with few viewers: whether everything works, not what it costs.
    pub fn small(self) -> Self {
        Self { viewers: self.viewers.min(24), ramp_per_second: 50, ..self }
    }
}

/// The acceptance table.
pub fn all() -> Vec<Case> {
    let base = Case {
        name: "",
        title: "",
        trace_name: "bursts-2400k",
        publishers: 1,
        viewers: 200,
        sink: Sink::Loopback,
        subject: Subject::Cost,
        ramp_per_second: 50,
        beside: Beside::Peers,
        variants: Variants::None,
        aims: Aims::default(),
    };
    let limit = |times| Aims { limit: Some(times), ..Aims::default() };
    let sixth = Aims { livekit: Some(1.0 / 6.0), janus: Some(1.0 / 6.0), ..limit(1.25) };
    let fifth = |aims| Aims { livekit: Some(1.0 / 5.0), ..aims };
    vec![
        Case {
            name: "video-100",
            title: "1 video → 100, frame bursts",
            viewers: 100,
            beside: Beside::PeersAndPlain,
            aims: sixth,
            ..base.clone()
        },
        Case {
            name: "video-200",
            title: "1 video → 200, frame bursts",
            beside: Beside::PeersAndPlain,
            variants: Variants::All,
            aims: Aims { viewer_kb: Some(160.0), two_shards: Some(1.05), ..sixth },
            ..base.clone()
        },
        Case {
            name: "video-500-drop",
            title: "1 video → 500, frame bursts",
            viewers: 500,
            sink: Sink::Drop,
            ramp_per_second: 100,
            beside: Beside::Nobody,
            variants: Variants::All,
            aims: Aims { two_shards: Some(1.05), ..limit(1.25) },
            ..base.clone()
        },
        Case {
            name: "video-1000-drop",
            title: "1 video → 1,000, frame bursts",
            viewers: 1000,
            sink: Sink::Drop,
            ramp_per_second: 100,
            beside: Beside::Nobody,
            aims: limit(1.25),
            ..base.clone()
        },
        Case {
            name: "trace-200",
            title: "recorded browser → 200",
            trace_name: "video-2400k",
            variants: Variants::All,
            aims: limit(1.25),
            ..base.clone()
        },
        Case {
            name: "trace-500-drop",
            title: "recorded browser → 500",
            trace_name: "video-2400k",
            viewers: 500,
            sink: Sink::Drop,
            ramp_per_second: 100,
            beside: Beside::Nobody,
            variants: Variants::All,
            aims: limit(1.25),
            ..base.clone()
        },
        Case {
            name: "audio-200",
            title: "1 audio → 200",
            trace_name: "audio",
            beside: Beside::PeersAndPlain,
            aims: fifth(limit(1.3)),
            ..base.clone()
        },
        Case {
            name: "audio-1000-drop",
            title: "1 audio → 1,000",
            trace_name: "audio",
            viewers: 1000,
            sink: Sink::Drop,
            beside: Beside::LiveKit,
            aims: fifth(limit(1.3)),
            ..base.clone()
        },
        Case {
            name: "rooms-8x8",
            title: "8 rooms of 1 → 8, audio and video",
            trace_name: "video-2400k",
            publishers: 8,
            viewers: 64,
            aims: fifth(Aims::default()),
            ..base.clone()
        },
        Case {
            name: "idle-5000",
            title: "5,000 sessions without media",
            trace_name: IDLE,
            viewers: 5000,
            subject: Subject::Idle,
            ramp_per_second: 200,
            beside: Beside::Nobody,
            aims: Aims { viewer_kb: Some(64.0), ..Aims::default() },
            ..base.clone()
        },
        Case {
            name: "joins-100",
            title: "100 joins a second, 300 in all",
            trace_name: "audio",
            viewers: 300,
            subject: Subject::Joins,
            ramp_per_second: 100,
            beside: Beside::Nobody,
            ..base
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_trace() {
        let cases = all();
        let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
        for case in cases {
            assert!(!case.trace().packets.is_empty(), "{}", case.name);
            assert_eq!(case.name.ends_with("-drop"), case.sink == Sink::Drop, "{}", case.name);
            assert!(case.small().viewers <= 24);
        }
    }

    #[test]
    fn video_is_large_and_audio_small() {
        let bytes = |name: &str| {
            let case = all().into_iter().find(|case| case.name == name);
            case.expect("it is in the table").payload_bytes()
        };
        assert!((1140..=1160).contains(&bytes("video-200")), "{}", bytes("video-200"));
        assert_eq!(bytes("audio-200"), 100);
    }
}
