//! Two connections in one thread: signals and datagrams by hand, time by arithmetic.

use std::net::SocketAddr;

use str0m::net::{Protocol, Receive};

use super::*;
use crate::framing::Kind;

/// What one side has seen.
#[derive(Debug, PartialEq)]
enum Saw {
    Opened,
    Text(String),
    Closed(CloseReason),
}

struct Side {
    connection: Connection,
    address: SocketAddr,
    deadline: Instant,
    saw: Vec<Saw>,
}

struct World {
    now: Instant,
    sides: [Side; 2],
    /// Signals on their way, with their sender.
    signals: VecDeque<(usize, String, Event)>,
    /// Datagrams on their way.
    datagrams: VecDeque<Transmit>,
    /// The network loses all.
    is_cut: bool,
}

fn address(side: usize) -> SocketAddr {
    format!("10.0.0.{}:5000", side + 1).parse().unwrap()
}

fn side(number: usize, role: Role, now: Instant) -> Side {
    let address = address(number);
    let candidate = Candidate::host(address, "udp").unwrap();
    let connection = Connection::new(format!("sid{number}"), role, number == 0, &[candidate], now);
    Side { connection, address, deadline: now, saw: Vec::new() }
}

impl World {
    fn new(roles: [Role; 2]) -> Self {
        let now = Instant::now();
        let [a, b] = roles;
        let sides = [side(0, a, now), side(1, b, now)];
        let (signals, datagrams) = Default::default();
        Self { now, sides, signals, datagrams, is_cut: false }
    }

    /// Runs until `is_done`; fails when it is not within `span`.
    #[track_caller]
    fn run(&mut self, span: Duration, is_done: impl Fn(&Self) -> bool) {
        let end = self.now + span;
        while !is_done(self) {
            assert!(
                self.now < end,
                "not within {span:?}: {:?}",
                [0, 1].map(|n| &self.sides[n].saw)
            );
            self.step();
        }
    }

    fn step(&mut self) {
        for number in [0, 1] {
            self.poll(number);
        }
        if let Some((from, sid, signal)) = self.signals.pop_front() {
            self.deliver(1 - from, &sid, signal);
        } else if let Some(transmit) = self.datagrams.pop_front() {
            self.carry(&transmit);
        } else {
            let next = self.sides[0].deadline.min(self.sides[1].deadline);
            self.now = next.max(self.now + Duration::from_millis(1));
            for side in &mut self.sides {
                if side.deadline <= self.now {
                    side.connection.handle_timeout(self.now);
                }
            }
        }
    }

    fn poll(&mut self, number: usize) {
        let side = &mut self.sides[number];
        loop {
            match side.connection.poll_output(self.now) {
                Output::Timeout(at) => {
                    side.deadline = at;
                    return;
                }
                Output::Transmit(transmit) => self.datagrams.push_back(transmit),
                Output::Event(Event::Opened) => side.saw.push(Saw::Opened),
                Output::Event(Event::Message(message)) => {
                    let text = String::from_utf8(message.body.as_bytes().to_vec()).unwrap();
                    side.saw.push(Saw::Text(text));
                }
                Output::Event(Event::Closed(reason)) => side.saw.push(Saw::Closed(reason)),
                Output::Event(signal) => {
                    let sid = side.connection.sid().to_owned();
                    self.signals.push_back((number, sid, signal));
                }
            }
        }
    }

    /// As the mesh does, in little.
    fn deliver(&mut self, to: usize, sid: &str, signal: Event) {
        let connection = &mut self.sides[to].connection;
        match signal {
            Event::Offer(sdp) => {
                match decide(Some(connection.standing(Some(sid), &sdp, self.now))) {
                    Decision::Ignore => return,
                    Decision::Continue => {}
                    Decision::Replace => {
                        self.sides[to] = side(to, Role::Answerer, self.now);
                    }
                }
                let connection = &mut self.sides[to].connection;
                connection.accept_offer(Some(sid.to_owned()), &sdp).unwrap();
            }
            Event::Answer(sdp) => {
                connection.accept_answer(Some(sid), &sdp).unwrap();
            }
            Event::Candidate(candidate) => connection.add_remote_candidate(Some(sid), &candidate),
            other => panic!("{other:?} is no signal"),
        }
    }

    fn carry(&mut self, transmit: &Transmit) {
        let to = self.sides.iter_mut().find(|side| side.address == transmit.destination);
        let (Some(to), false) = (to, self.is_cut) else { return };
        let (source, destination) = (transmit.source, transmit.destination);
        let receive = Receive::new(Protocol::Udp, source, destination, &transmit.contents).unwrap();
        let input = Input::Receive(self.now, receive);
        if to.connection.accepts(&input) {
            to.connection.handle_input(input);
        }
    }

    fn say(&mut self, from: usize, text: &str) {
        let message = Message::text(Kind::Application, text);
        self.sides[from].connection.send(message, Compression::Auto, self.now).unwrap();
    }

    fn both_open(&self) -> bool {
        self.sides.iter().all(|side| side.connection.is_open())
    }

    fn heard(&self, side: usize, text: &str) -> bool {
        self.sides[side].saw.iter().any(|saw| matches!(saw, Saw::Text(heard) if heard == text))
    }
}

const SOON: Duration = Duration::from_secs(10);

/// R101
#[test]
fn an_offer_opens_one_channel_that_carries_both_ways() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    world.run(SOON, World::both_open);
    world.say(0, "there");
    world.say(1, "and back");
    world.run(SOON, |world| world.heard(1, "there") && world.heard(0, "and back"));
    assert_eq!(world.sides[0].saw, [Saw::Opened, Saw::Text("and back".into())]);
}

/// R77
#[test]
fn of_two_that_offer_at_once_the_polite_yields_and_one_channel_opens() {
    let mut world = World::new([Role::Offerer, Role::Offerer]);
    world.run(SOON, World::both_open);
    assert!(!world.sides[0].connection.is_offerer(), "the polite one has yielded");
    world.say(0, "one channel");
    world.run(SOON, |world| world.heard(1, "one channel"));
    for side in &world.sides {
        assert_eq!(side.saw.iter().filter(|saw| **saw == Saw::Opened).count(), 1);
    }
}

#[test]
fn a_network_that_comes_back_is_found_again_by_an_ice_restart() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    world.run(SOON, World::both_open);
    world.is_cut = true;
    world.say(0, "late");
    let is_noticed = |world: &World| {
        world.sides.iter().any(|side| matches!(side.connection.state, State::Interrupted { .. }))
    };
    world.run(Duration::from_secs(60), is_noticed);
    // While it is cut, an offer to begin ICE anew has crossed by the coordinator.
    let restarted = |world: &World| world.sides.iter().any(|side| side.connection.restarts > 0);
    world.run(Duration::from_secs(30), restarted);
    world.is_cut = false;
    world.run(Duration::from_secs(30), |world| world.heard(1, "late"));
    assert_eq!(world.sides[0].saw, [Saw::Opened], "nobody saw it close");
}

#[test]
fn a_network_that_stays_away_ends_the_connection_once() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    world.run(SOON, World::both_open);
    world.is_cut = true;
    let are_closed = |world: &World| world.sides.iter().all(|side| side.connection.is_closed());
    world.run(Duration::from_secs(180), are_closed);
    world.step();
    for side in &world.sides {
        assert!(
            matches!(side.saw[..], [Saw::Opened, Saw::Closed(CloseReason::Lost)]),
            "{:?}",
            side.saw
        );
    }
}

#[test]
fn without_a_path_the_offerer_gives_up() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    world.is_cut = true;
    world.run(Duration::from_secs(40), |world| world.sides[0].connection.is_closed());
    world.step();
    assert_eq!(world.sides[0].saw, [Saw::Closed(CloseReason::NoPath)]);
}

#[test]
fn a_goodbye_is_heard_at_once() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    world.run(SOON, World::both_open);
    let before = world.now;
    world.sides[0].connection.close();
    world.run(SOON, |world| world.sides[1].connection.is_closed());
    assert!(world.now - before < Duration::from_secs(1), "{:?}", world.now - before);
}

#[test]
fn a_stale_answer_and_a_candidate_of_another_attempt_are_dropped() {
    let mut world = World::new([Role::Offerer, Role::Answerer]);
    let before = world.sides[0].connection.standing(None, "", world.now);
    let is_taken = world.sides[0].connection.accept_answer(Some("another"), "v=0\r\n");
    assert!(!is_taken.unwrap());
    let candidate = json!({ "candidate": "candidate:1 1 udp 1 10.0.0.9 9 typ host" });
    world.sides[0].connection.add_remote_candidate(Some("another"), &candidate);
    assert!(world.sides[0].connection.early_candidates.is_empty());
    assert_eq!(world.sides[0].connection.standing(None, "", world.now), before);
    world.run(SOON, World::both_open);
}

#[test]
fn an_offer_that_nobody_answers_stands_for_seconds_only() {
    let now = Instant::now();
    let offerer = side(1, Role::Offerer, now).connection;
    let has_offered =
        |seconds| offerer.standing(None, "", now + Duration::from_secs(seconds)).has_offered;
    assert!(has_offered(0) && has_offered(9) && !has_offered(10));
}

#[test]
fn descriptions_that_are_none_are_errors() {
    for junk in ["", "v=0\r\n", "hello", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"] {
        let mut answerer = side(0, Role::Answerer, Instant::now()).connection;
        assert!(answerer.accept_offer(None, junk).is_err(), "{junk:?}");
        let mut offerer = side(0, Role::Offerer, Instant::now()).connection;
        assert!(offerer.accept_answer(None, junk).is_err(), "{junk:?}");
        offerer.add_remote_candidate(None, &json!(junk));
        offerer.add_remote_candidate(None, &json!({ "candidate": junk }));
        assert!(offerer.early_candidates.is_empty());
    }
}
