//! What a run of rooms is to do.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::dialect::{self, Dialect};
use super::offer::OFFER_BYTES_MIN;
use crate::http::Base;
use crate::screen::Show;

/// Most connections of one run: descriptors, and what one thread can serve.
const PEERS_MAX: usize = 100_000;
/// Largest SDP: the coordinator takes 64 KiB a signal.
const OFFER_BYTES_MAX: usize = 60_000;
/// Shortest window that says anything.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// Peers that one source address carries: the coordinator's bound is 64 connections, and a peer that
/// polls has two.
const PEERS_PER_ADDRESS: usize = 24;
/// Connections a second from one source address: the coordinator's bound is 20.
const CONNECTS_PER_ADDRESS: usize = 10;
/// Most signals of a peer a second: the coordinator's bound is 50.
pub const SIGNALS_PER_PEER_MAX: f64 = 50.0;

/// Who is spoken to, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The coordinator, as a plain client speaks to it.
    Base,
    /// The coordinator, with `hello` and the cap `resume`.
    Extended,
    /// A PeerJS server.
    PeerJs,
    /// A socket.io server that runs this crate's script.
    SocketIo,
}

/// Who the peers say they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Any id, for a server in mode `open`.
    Open,
    /// A key each, and a signature for each join.
    Signed,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct RoomsConfig {
    /// The server.
    pub base: Base,
    /// What it is.
    pub server: Server,
    /// Rooms whose peers send offers to one another.
    pub rooms: usize,
    /// Peers of each.
    pub peers_per_room: usize,
    /// Name of the room; `None`: one of the run's own. With several, `-0`, `-1` … is appended.
    pub room: Option<String>,
    /// Peers that only stay connected, before all others.
    pub idle: usize,
    /// Offers a second, of all peers together.
    pub signals_per_second: f64,
    /// Size of each.
    pub signal_bytes: usize,
    /// Within the window: peers that come, and leave again, a second.
    pub churn_per_second: u32,
    /// How long such a one stays.
    pub stay: Duration,
    /// Peers that connect a second before the window.
    pub ramp_per_second: u32,
    /// The counted window.
    pub duration: Duration,
    /// Share of the peers in rooms that poll over HTTP in place of a WebSocket, 0 to 1.
    pub poll_share: f64,
    /// See [`Identity`].
    pub identity: Identity,
    /// Part of all names, so that runs against one server do not meet.
    pub run: String,
    /// Server process, for CPU and memory.
    pub pid: Option<u32>,
    /// Over loopback, peers come from many addresses of 127.0.0.0/8, as the server's bounds for one
    /// address would have it; otherwise all come from one.
    pub many_addresses: bool,
    /// What is shown while it runs.
    pub show: Show,
    /// How it was called, for the report.
    pub command: String,
}

/// Why a run cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody would do anything.
    #[error("a run without peers measures nothing: give --rooms, --idle or --join-rate")]
    Nobody,
    /// Offers need two.
    #[error("offers go from peer to peer: give --peers-per-room at least 2, or no signals")]
    Alone,
    /// Too many.
    #[error("at most {PEERS_MAX} peers fit into one run, {0} are asked for: start several")]
    TooMany(usize),
    /// Out of bounds.
    #[error("an offer has {OFFER_BYTES_MIN} to {OFFER_BYTES_MAX} bytes, not {0}: --signal-bytes")]
    OfferSize(usize),
    /// The server would refuse.
    #[error(
        "{0:.0} offers a second of each peer, and the coordinator takes {SIGNALS_PER_PEER_MAX}: \
         use more peers, or fewer signals"
    )]
    TooFast(f64),
    /// No number of offers.
    #[error("{0} is no number of signals a second")]
    Rate(f64),
    /// Not a share.
    #[error("a share of {0} is none: --poll-share is from 0 to 1")]
    Share(f64),
    /// Nothing could be counted.
    #[error("a window of {0:?} counts nothing: give --duration at least 100ms")]
    Window(Duration),
    /// The others know neither.
    #[error("only the coordinator is polled over HTTP and knows signed joins")]
    OnlyOurs,
    /// Not a room's name.
    #[error(
        "{0:?} is no room: small letters, digits and . _ : - after a letter or digit, at most 56"
    )]
    Room(String),
}

impl RoomsConfig {
    /// Ten rooms of ten, a thousand offers a second, ten seconds.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            server: Server::Base,
            rooms: 10,
            peers_per_room: 10,
            room: None,
            idle: 0,
            signals_per_second: 1000.0,
            signal_bytes: 2048,
            churn_per_second: 0,
            stay: Duration::from_millis(500),
            ramp_per_second: 500,
            duration: Duration::from_secs(10),
            poll_share: 0.0,
            identity: Identity::Open,
            run: format!("b{}", std::process::id()),
            pid: None,
            many_addresses: true,
            show: Show::OnTerminal,
            command: String::new(),
        }
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let peers = self.talkers().saturating_add(self.idle);
        if peers == 0 && self.churn_per_second == 0 {
            return Err(ConfigError::Nobody);
        }
        if peers > PEERS_MAX {
            return Err(ConfigError::TooMany(peers));
        }
        let rate = self.signals_per_second;
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(ConfigError::Rate(rate));
        }
        if rate > 0.0 && self.talkers() > 0 {
            if self.peers_per_room < 2 {
                return Err(ConfigError::Alone);
            }
            let each = rate / self.talkers() as f64;
            if self.is_ours() && each > SIGNALS_PER_PEER_MAX {
                return Err(ConfigError::TooFast(each));
            }
        }
        if !(OFFER_BYTES_MIN..=OFFER_BYTES_MAX).contains(&self.signal_bytes) {
            return Err(ConfigError::OfferSize(self.signal_bytes));
        }
        if !(0.0..=1.0).contains(&self.poll_share) {
            return Err(ConfigError::Share(self.poll_share));
        }
        if self.duration < WINDOW_MIN {
            return Err(ConfigError::Window(self.duration));
        }
        if !self.is_ours() && (self.poll_share > 0.0 || self.identity == Identity::Signed) {
            return Err(ConfigError::OnlyOurs);
        }
        if let Some(room) = &self.room {
            let mut letters = room.bytes();
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let first = letters.next().is_some_and(is_plain);
            if !first || room.len() > 56 || !letters.all(|b| is_plain(b) || b"._:-".contains(&b)) {
                return Err(ConfigError::Room(room.clone()));
            }
        }
        Ok(())
    }

    /// Whether the server is the coordinator.
    pub fn is_ours(&self) -> bool {
        matches!(self.server, Server::Base | Server::Extended)
    }

    /// Peers that send offers, of all rooms.
    pub fn talkers(&self) -> usize {
        self.rooms.saturating_mul(self.peers_per_room)
    }

    /// Name of a room.
    pub fn room_name(&self, number: usize) -> String {
        match (&self.room, self.rooms) {
            (Some(room), 0 | 1) => room.clone(),
            (Some(room), _) => format!("{room}-{number}"),
            (None, _) => format!("{}-{number}", self.run),
        }
    }

    /// Whether the `number`th peer of its room polls.
    pub fn polls(&self, number: usize) -> bool {
        // Spread over the room: every time the share has grown by another peer.
        let up_to = |count: usize| (count as f64 * self.poll_share + 1e-9).floor();
        up_to(number + 1) > up_to(number)
    }

    /// Where the `number`th connection comes from; `None`: from wherever the kernel has it come.
    pub fn source(&self, to: IpAddr, number: usize) -> Option<Ipv4Addr> {
        if !matches!(to, IpAddr::V4(to) if to.is_loopback()) || !self.many_addresses {
            return None;
        }
        let number = number % self.addresses();
        // 127.0.0.x stays free for the server and others.
        let [high, middle, low] = [number / 62_500 + 1, number / 250 % 250, number % 250 + 1];
        Some(Ipv4Addr::new(127, high as u8, middle as u8, low as u8))
    }

    fn addresses(&self) -> usize {
        let staying = (self.talkers() + self.idle) / PEERS_PER_ADDRESS;
        let coming = (self.ramp_per_second as usize).max(4 * self.churn_per_second as usize);
        (staying + 1).max(coming / CONNECTS_PER_ADDRESS + 1)
    }

    /// How to speak to the server.
    pub fn dialect(&self) -> Box<dyn Dialect> {
        match self.server {
            Server::Base => Box::new(dialect::Base),
            Server::Extended => Box::new(dialect::Extended),
            Server::PeerJs => Box::new(dialect::PeerJs),
            Server::SocketIo => Box::new(dialect::SocketIo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RoomsConfig {
        RoomsConfig::new(Base::parse("http://127.0.0.1:1").expect("an address"))
    }

    #[test]
    fn a_run_that_cannot_be_is_refused_with_what_to_do() {
        #[track_caller]
        fn check(change: impl Fn(&mut RoomsConfig), expected: Option<&str>) {
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
        check(|c| c.rooms = 0, Some("measures nothing"));
        check(|c| (c.rooms, c.idle) = (0, 1), None);
        check(|c| (c.rooms, c.churn_per_second) = (0, 1), None);
        check(|c| c.peers_per_room = 1, Some("at least 2"));
        check(|c| (c.peers_per_room, c.signals_per_second) = (1, 0.0), None);
        check(|c| c.idle = 100_000, Some("at most 100000 peers"));
        check(|c| c.signal_bytes = 255, Some("256 to 60000"));
        check(|c| c.signal_bytes = 60_001, Some("256 to 60000"));
        check(|c| c.signals_per_second = 5001.0, Some("fewer signals"));
        check(|c| (c.signals_per_second, c.server) = (5001.0, Server::PeerJs), None);
        check(|c| c.signals_per_second = f64::NAN, Some("no number"));
        check(|c| c.poll_share = 1.1, Some("from 0 to 1"));
        check(|c| c.duration = Duration::from_millis(99), Some("at least 100ms"));
        check(|c| (c.server, c.poll_share) = (Server::SocketIo, 0.1), Some("only the coordinator"));
        check(|c| c.room = Some("Room".into()), Some("is no room"));
        check(|c| c.room = Some("global".into()), None);
    }

    #[test]
    fn the_share_that_polls_is_spread_over_the_room() {
        let polls = |share: f64| {
            let config = RoomsConfig { poll_share: share, ..config() };
            (0..10).filter(|number| config.polls(*number)).collect::<Vec<_>>()
        };
        assert_eq!(polls(0.0), Vec::<usize>::new());
        assert_eq!(polls(0.2), [4, 9]);
        assert_eq!(polls(1.0).len(), 10);
    }

    #[test]
    fn over_loopback_no_address_carries_more_than_the_server_takes() {
        let config = RoomsConfig { idle: 10_000, ramp_per_second: 1000, ..config() };
        let to = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut peers = std::collections::BTreeMap::new();
        for number in 0..10_100 {
            *peers.entry(config.source(to, number).expect("loopback")).or_insert(0) += 1;
        }
        assert!(peers.values().all(|count| *count <= 64) && peers.len() > 100, "{}", peers.len());
        assert!(peers.keys().all(|address| address.is_loopback()));
        assert_eq!(config.source([192, 0, 2, 1].into(), 0), None, "the kernel chooses");
        let one = RoomsConfig { many_addresses: false, ..config };
        assert_eq!(one.source(to, 0), None);
    }
}
