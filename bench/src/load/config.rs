//! What a load run is to do.

use std::sync::Arc;
use std::time::Duration;

use crate::pay::Funds;
use crate::payload::Kind;
use crate::screen::Show;
use crate::signal::Target;
use crate::sink::Sink;
use crate::socket::Gro;
use crate::trace::Trace;

/// Most clients of one run that publish: their number travels in each packet.
const PUBLISHERS_MAX: usize = u16::MAX as usize;
/// Most rooms, and viewers in all.
const ROOMS_MAX: usize = 10_000;
const VIEWERS_MAX: usize = 100_000;

/// Shortest window that holds a few frames.
const WINDOW_MIN: Duration = Duration::from_millis(100);

/// What to run.
#[derive(Clone)]
pub struct LoadConfig {
    /// The server.
    pub target: Target,
    /// Bearer token of WHIP and WHEP.
    pub bearer: Option<String>,
    /// Stream name; with several publishers, `-0`, `-1` … is appended, with several rooms
    /// `-ROOM-PUBLISHER`.
    pub stream: String,
    /// Groups of publishers and viewers that have nothing to do with one another.
    pub rooms: usize,
    /// Clients of each room that watch, spread over its publishers.
    pub viewers: usize,
    /// Clients of each room that publish.
    pub publishers: u16,
    /// The counted window.
    pub duration: Duration,
    /// Joins a second.
    pub ramp_per_second: u32,
    /// In the window, so many viewers a second leave and as many join.
    pub churn_per_second: u32,
    /// Viewers pay; `None`: they do not.
    pub pay: Option<PayConfig>,
    /// What publishers play.
    pub trace: Arc<Trace>,
    /// What to call the trace in the report.
    pub trace_name: String,
    /// Server process, for CPU and memory.
    pub pid: Option<u32>,
    /// Threads that drive clients.
    pub threads: usize,
    /// Every n-th viewer compares all payload bytes.
    pub sample_every: usize,
    /// See [`Gro`].
    pub gro: Gro,
    /// Share of the SRTP and SRTCP packets that viewers throw away, 0 to 1.
    pub drop_share: f64,
    /// Takes the media of the viewers that do not hear.
    pub sink: Option<Arc<dyn Sink>>,
    /// With a sink, viewer n hears media when n is a multiple of this; the others need only be
    /// connected. Without a sink all hear.
    pub hear_every: usize,
    /// What is shown while it runs.
    pub show: Show,
    /// How it was called, for the report.
    pub command: String,
}

/// How viewers pay.
#[derive(Debug, Clone)]
pub struct PayConfig {
    /// The relay, `http://host:port`.
    pub base: String,
    /// Whose money.
    pub funds: Funds,
    /// Price of each stream, 10⁻⁹ SUT a second.
    pub rate: u64,
}

/// Why a run cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing would be sent.
    #[error("a run needs a publisher in each of at least one room: give --publishers and --rooms")]
    NoPublisher,
    /// Too large.
    #[error("at most {max} {what} fit into one run, {wanted} are asked for: start several")]
    TooMany {
        /// `publishers`, …
        what: &'static str,
        /// Bound.
        max: usize,
        /// Asked for.
        wanted: usize,
    },
    /// Nothing could be counted.
    #[error("a window of {given:?} counts nothing: give --duration at least 100ms")]
    Window {
        /// Asked for.
        given: Duration,
    },
    /// Vouchers would be for media that a sink has dropped.
    #[error("viewers behind a sink hear nothing and pay nothing: leave --pay or the sink away")]
    PayBehindSink,
    /// More would leave than are there.
    #[error("{churn} viewers a second are to leave, and there are {viewers}: use a lower --churn")]
    Churn {
        /// A second.
        churn: u32,
        /// In all rooms.
        viewers: usize,
    },
}

impl LoadConfig {
    /// One publisher of `trace`, a hundred viewers at fifty a second, twenty seconds.
    pub fn new(target: Target, trace_name: &str, trace: Arc<Trace>) -> Self {
        Self {
            target,
            bearer: None,
            stream: "bench".to_owned(),
            rooms: 1,
            viewers: 100,
            publishers: 1,
            duration: Duration::from_secs(20),
            ramp_per_second: 50,
            churn_per_second: 0,
            pay: None,
            trace,
            trace_name: trace_name.to_owned(),
            pid: None,
            threads: 1,
            sample_every: 10,
            gro: Gro::Off,
            drop_share: 0.0,
            sink: None,
            hear_every: 1,
            show: Show::OnTerminal,
            command: String::new(),
        }
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.rooms == 0 || self.publishers == 0 {
            return Err(ConfigError::NoPublisher);
        }
        if self.duration < WINDOW_MIN {
            return Err(ConfigError::Window { given: self.duration });
        }
        for (what, wanted, max) in [
            ("rooms", self.rooms, ROOMS_MAX),
            ("publishers", self.all_publishers(), PUBLISHERS_MAX),
            ("viewers", self.all_viewers(), VIEWERS_MAX),
        ] {
            if wanted > max {
                return Err(ConfigError::TooMany { what, max, wanted });
            }
        }
        if self.pay.is_some() && self.sink.is_some() {
            return Err(ConfigError::PayBehindSink);
        }
        if self.churn_per_second as usize > self.all_viewers() {
            let (churn, viewers) = (self.churn_per_second, self.all_viewers());
            return Err(ConfigError::Churn { churn, viewers });
        }
        Ok(())
    }

    /// Of all rooms.
    pub fn all_publishers(&self) -> usize {
        self.rooms.saturating_mul(self.publishers.into())
    }

    /// Of all rooms, at one time.
    pub fn all_viewers(&self) -> usize {
        self.rooms.saturating_mul(self.viewers)
    }

    /// Name of the stream of a publisher, counted over all rooms.
    pub fn stream_of(&self, publisher: usize) -> String {
        let each = usize::from(self.publishers).max(1);
        match (self.rooms, self.publishers) {
            (1, 1) => self.stream.clone(),
            (1, _) => format!("{}-{publisher}", self.stream),
            _ => format!("{}-{}-{}", self.stream, publisher / each, publisher % each),
        }
    }

    /// Whom a viewer watches: rooms take turns, and in each its publishers.
    pub fn watched_by(&self, viewer: usize) -> usize {
        let each = usize::from(self.publishers).max(1);
        let (room, turn) = (viewer % self.rooms.max(1), viewer / self.rooms.max(1));
        room * each + turn % each
    }

    /// Whether a viewer gets media.
    pub fn hears(&self, viewer: usize) -> bool {
        self.sink.is_none() || viewer.is_multiple_of(self.hear_every.max(1))
    }

    /// The track whose first packet makes a viewer count as playing.
    pub fn awaited(&self) -> Kind {
        if self.trace.has(Kind::Video) { Kind::Video } else { Kind::Audio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LoadConfig {
        let target = Target::whip("http://127.0.0.1:1").expect("an address");
        LoadConfig::new(target, "audio", Arc::new(Trace::built_in("audio").expect("built in")))
    }

    #[test]
    fn every_room_has_its_own_publishers_and_its_own_viewers() {
        let mut config = config();
        assert_eq!((config.stream_of(0), config.watched_by(7)), ("bench".to_owned(), 0));
        config.publishers = 2;
        assert_eq!((config.stream_of(1), config.watched_by(3)), ("bench-1".to_owned(), 1));
        (config.rooms, config.viewers) = (3, 4);
        assert_eq!((config.all_publishers(), config.all_viewers()), (6, 12));
        assert_eq!(
            (config.stream_of(0), config.stream_of(5)),
            ("bench-0-0".into(), "bench-2-1".into())
        );
        let mut watchers = [0; 6];
        (0..12).for_each(|viewer| watchers[config.watched_by(viewer)] += 1);
        assert_eq!(watchers, [2; 6]);
        assert_eq!(config.watched_by(5), 5, "room 2, its second publisher");
    }

    #[test]
    fn a_run_that_cannot_be_is_refused_with_what_to_do() {
        #[track_caller]
        fn check(change: impl Fn(&mut LoadConfig), expected: Option<&str>) {
            let mut config = config();
            change(&mut config);
            let said = config.check().err().map(|error| error.to_string());
            match (said, expected) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
                (said, expected) => panic!("{said:?} instead of {expected:?}"),
            }
        }
        check(|_| {}, None);
        check(|c| c.rooms = 0, Some("a publisher in each"));
        check(|c| c.publishers = 0, Some("a publisher in each"));
        check(|c| (c.rooms, c.publishers) = (300, 300), Some("at most 65535 publishers"));
        check(|c| (c.rooms, c.viewers) = (1000, 1000), Some("at most 100000 viewers"));
        check(|c| (c.viewers, c.churn_per_second) = (4, 5), Some("lower --churn"));
    }
}
