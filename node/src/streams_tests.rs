//! The life of streams and sessions, told in events.

use chain_types::{AccountId, Grants, PaymentStatus, Revocation, Revoked, StreamId, TokenId};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> StreamName {
    text.parse().expect("a valid name")
}

/// Streams, a clock, and who is who.
struct World {
    streams: Streams,
    now: Instant,
    out: Vec<Output>,
    sessions: u64,
}

impl World {
    fn new() -> Self {
        let (streams, now) = (Streams::default(), Instant::now());
        Self { streams, now, out: Vec::new(), sessions: 0 }
    }

    fn claim(&mut self) -> Result<StreamKey, Refused> {
        self.streams.claim(&name("cam"), None, &mut self.out)
    }

    fn begin(
        &mut self,
        role: Role,
        stream: StreamKey,
        lease: Lease,
    ) -> Result<SessionKey, Refused> {
        self.sessions += 1;
        let session = SessionKey(self.sessions);
        let slot = (role == Role::Subscriber).then(|| slot(session));
        let resource = ResourceId(u128::from(self.sessions));
        let peer_ufrag = "abcd".to_owned();
        let new = NewSession { session, role, stream, slot, resource, lease, peer_ufrag };
        self.streams.begin(new, self.now, &mut self.out).map(|()| session)
    }

    /// A publisher whose transport is up.
    fn publish(&mut self) -> (StreamKey, SessionKey) {
        let stream = self.claim().expect("the name is free");
        let session = self.begin(Role::Publisher, stream, Lease::OPEN).expect("claimed");
        self.connected(session);
        (stream, session)
    }

    /// A viewer whose transport is up.
    fn watch(&mut self) -> SessionKey {
        let stream = self.streams.live(&name("cam")).expect("live");
        let session = self.begin(Role::Subscriber, stream, Lease::OPEN).expect("live");
        self.connected(session);
        session
    }

    fn connected(&mut self, session: SessionKey) {
        self.streams.connected(session, self.now, &mut self.out);
    }

    fn closed(&mut self, session: SessionKey) {
        self.streams.closed(session, self.now, &mut self.out);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.streams.tick(self.now, &mut self.out);
    }

    fn viewers(&self) -> Option<u32> {
        self.streams.facts(&name("cam"), self.now).map(|facts| facts.viewers)
    }

    #[track_caller]
    fn check_outputs(&mut self, expected: &[Output]) {
        assert_eq!(std::mem::take(&mut self.out), expected);
    }
}

fn slot(session: SessionKey) -> SlotId {
    let index = u32::try_from(session.0).expect("few sessions");
    SlotId { shard: 0, index, generation: 1 }
}

#[test]
fn a_name_is_what_an_address_can_hold() {
    for good in ["a", "0", "my-cam.2_x", &"x".repeat(64)] {
        assert_eq!(good.parse::<StreamName>().map(|name| name.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "-a", ".a", "_a", "A", "a b", "a/b", "ü", "a\n", &"x".repeat(65)] {
        assert_eq!(bad.parse::<StreamName>(), Err(StreamNameError), "{bad:?}");
    }
}

#[test]
fn a_resource_id_is_read_back_and_nothing_else_is() {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let id = ResourceId::random(&mut rand::rng());
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(seen.insert(id), "128 random bits do not repeat");
    }
    let good = ResourceId(0xab).to_string();
    for bad in ["", "ab", &good.to_uppercase(), &format!("+{}", &good[1..]), &format!("{good}0")] {
        assert_eq!(bad.parse::<ResourceId>(), Err(()), "{bad:?}");
    }
}

#[test]
fn a_stream_is_live_from_its_publishers_connection() {
    let mut world = World::new();
    let stream = world.claim().expect("free");
    assert_eq!(world.streams.live(&name("cam")), Err(Refused::NotLive));
    let session = world.begin(Role::Publisher, stream, Lease::OPEN).expect("claimed");
    assert_eq!(world.streams.live(&name("cam")), Err(Refused::NotLive), "nothing flows yet");
    world.connected(session);
    world.check_outputs(&[Output::StreamStarted { name: name("cam") }]);
    assert_eq!(world.streams.live(&name("cam")), Ok(stream));
    world.streams.track_started(stream, Codec::Opus);
    world.streams.track_started(stream, Codec::Vp8);
    world.streams.track_started(stream, Codec::H264);
    world.streams.size_known(stream, (640, 360));
    world.now += Duration::from_secs(3);
    let expected = StreamFacts {
        name: name("cam"),
        title: "cam".to_owned(),
        codecs: vec![Codec::H264, Codec::Opus],
        viewers: 0,
        size: Some((640, 360)),
        live_for: Duration::from_secs(3),
        publisher_present: true,
    };
    assert_eq!(world.streams.list(world.now), [expected]);
}

#[test]
fn a_second_publisher_is_refused_while_the_first_is_connected() {
    let mut world = World::new();
    world.publish();
    assert_eq!(world.claim(), Err(Refused::Taken));
    let opened = world.streams.open_local(&name("cam"), "Cam", &[], world.now, &mut world.out);
    assert_eq!(opened, Err(Refused::Taken));
}

#[test]
fn a_publisher_that_never_connected_is_replaced_at_once() {
    let mut world = World::new();
    let stream = world.claim().expect("free");
    assert_eq!(world.claim(), Err(Refused::Taken), "its offer is being answered");
    let first = world.begin(Role::Publisher, stream, Lease::OPEN).expect("claimed");
    assert_eq!(world.claim(), Ok(stream));
    world.check_outputs(&[Output::Close(first)]);
    let second = world.begin(Role::Publisher, stream, Lease::OPEN).expect("claimed");
    world.connected(first);
    world.check_outputs(&[]);
    world.connected(second);
    world.closed(first);
    world.check_outputs(&[Output::StreamStarted { name: name("cam") }]);
    assert_eq!(world.streams.live(&name("cam")), Ok(stream), "the first one's end changes nothing");
}

#[test]
fn an_offer_that_is_refused_gives_the_name_back() {
    let mut world = World::new();
    let stream = world.claim().expect("free");
    world.streams.release(stream, &mut world.out);
    world.check_outputs(&[Output::Free(stream)]);
    let (stream, session) = world.publish();
    world.closed(session);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.claim(), Ok(stream), "the publisher may come back");
    world.streams.release(stream, &mut world.out);
    world.out.clear();
    world.pass(Duration::from_secs(1));
    let duration = Duration::from_secs(10);
    // The failed attempt did not prolong the wait.
    world.check_outputs(&[
        Output::Free(stream),
        Output::StreamEnded { name: name("cam"), duration },
    ]);
}

#[test]
fn a_publisher_that_comes_back_keeps_its_viewers() {
    let mut world = World::new();
    let (stream, session) = world.publish();
    world.watch();
    world.closed(session);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.viewers(), Some(1), "listed, its publisher awaited");
    world.out.clear();
    let again = world.claim().expect("its name waits for it");
    assert_eq!(again, stream);
    let session = world.begin(Role::Publisher, again, Lease::OPEN).expect("claimed");
    world.connected(session);
    world.pass(Duration::from_secs(60));
    world.check_outputs(&[]);
    assert_eq!(world.viewers(), Some(1));
}

/// R22
#[test]
fn a_stream_ends_ten_seconds_after_its_publisher_left_and_closes_its_viewers() {
    let mut world = World::new();
    let (stream, session) = world.publish();
    let viewer = world.watch();
    world.now += Duration::from_secs(5);
    world.closed(session);
    world.out.clear();
    world.pass(PUBLISHER_RETURN_MAX - Duration::from_millis(1));
    world.check_outputs(&[]);
    world.pass(Duration::from_millis(1));
    world.check_outputs(&[
        Output::Close(viewer),
        Output::ViewerLeft { name: name("cam"), viewers: 0 },
        Output::Free(stream),
        Output::StreamEnded { name: name("cam"), duration: Duration::from_secs(15) },
    ]);
    assert_eq!(world.viewers(), None);
    world.closed(viewer);
    let (next, _) = world.publish();
    assert_ne!(next, stream, "a key is never given twice");
    assert_eq!(world.viewers(), Some(0));
}

#[test]
fn a_viewers_gate_opens_with_what_its_lease_says_or_not_at_all() {
    let mut world = World::new();
    let (stream, _) = world.publish();
    let until = world.now + Duration::from_secs(5);
    let lease = Lease { valid_until: Some(until), layer_cap: 1, token: None, admission: None };
    world.out.clear();
    let viewer = world.begin(Role::Subscriber, stream, lease.clone()).expect("live");
    world.check_outputs(&[]);
    world.connected(viewer);
    world.connected(viewer);
    world.check_outputs(&[
        Output::ViewerJoined { name: name("cam"), viewers: 1 },
        Output::Admitted {
            name: name("cam"),
            session: viewer,
            slot: slot(viewer),
            lease: Box::new(lease.clone()),
        },
    ]);
    let late = world.begin(Role::Subscriber, stream, lease).expect("live");
    world.now = until;
    world.connected(late);
    world.check_outputs(&[Output::ViewerJoined { name: name("cam"), viewers: 2 }]);
    world.pass(Duration::ZERO);
    let closed: Vec<_> = std::mem::take(&mut world.out);
    assert_eq!(closed.len(), 2, "both leases are over: {closed:?}");
    assert!(closed.contains(&Output::Close(viewer)) && closed.contains(&Output::Close(late)));
}

#[test]
fn a_session_that_closed_before_it_was_entered_is_not_counted() {
    let mut world = World::new();
    let (stream, _) = world.publish();
    world.out.clear();
    world.closed(SessionKey(2));
    let viewer = world.begin(Role::Subscriber, stream, Lease::OPEN).expect("live");
    assert_eq!(viewer, SessionKey(2));
    world.connected(viewer);
    assert_eq!(world.viewers(), Some(0));
    assert_eq!(world.streams.totals().sessions, 1, "the publisher's alone");
    world.check_outputs(&[]);
}

#[test]
fn a_session_whose_end_was_never_reported_is_dropped_in_the_end() {
    let mut world = World::new();
    let (stream, _) = world.publish();
    let viewer = world.begin(Role::Subscriber, stream, Lease::OPEN).expect("live");
    world.out.clear();
    world.pass(PENDING_MAX);
    world.check_outputs(&[Output::Close(viewer)]);
    world.pass(PENDING_MAX);
    world.check_outputs(&[]);
}

#[test]
fn a_subscriber_of_a_stream_that_ended_meanwhile_is_closed() {
    let mut world = World::new();
    let opened = world.streams.open_local(&name("cam"), "Cam", &[], world.now, &mut world.out);
    let stream = opened.expect("free");
    world.streams.close_local(stream, world.now, &mut world.out);
    world.out.clear();
    let late = world.begin(Role::Subscriber, stream, Lease::OPEN);
    assert_eq!(late, Err(Refused::NotLive));
    world.check_outputs(&[Output::Close(SessionKey(1)), Output::Free(stream)]);
}

#[test]
fn a_session_url_ends_its_session_once() {
    let mut world = World::new();
    let (_, publisher) = world.publish();
    let resource = ResourceId(1);
    assert_eq!(world.streams.session(resource).map(|session| session.session), Some(publisher));
    assert_eq!(world.streams.take_resource(resource), Some(publisher));
    assert_eq!(world.streams.take_resource(resource), None);
    assert_eq!(world.streams.session(resource), None);
}

/// R121
#[test]
fn a_revocation_hits_the_sessions_that_rest_on_it_and_no_others() {
    let mut world = World::new();
    let (stream, _) = world.publish();
    let token = |id: u8, not_before_ms: u64| Token {
        token_id: TokenId([id; 16]),
        stream: StreamId::local("cam"),
        viewer: AccountId([9; 32]),
        holder_key: AccountId::ZERO,
        issuer_key: AccountId([7; 32]),
        grants: Grants::SUBSCRIBE,
        max_layer: 255,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms,
        valid_until_ms: 10_000,
    };
    let lease = |token| Lease { token: Some(token), ..Lease::OPEN };
    let one = world.begin(Role::Subscriber, stream, lease(token(1, 100))).expect("live");
    let two = world.begin(Role::Subscriber, stream, lease(token(2, 300))).expect("live");
    world.watch();
    let revoke = |what, issued_ms| Revocation { issuer_key: AccountId([7; 32]), what, issued_ms };
    let by_token = revoke(Revoked::Token(TokenId([2; 16])), 1);
    assert_eq!(world.streams.revoked(&by_token), [(two, Some(slot(two)))]);
    let viewer = Revoked::Viewer { stream: StreamId::local("cam"), viewer: AccountId([9; 32]) };
    let by_viewer = revoke(viewer, 200);
    assert_eq!(world.streams.revoked(&by_viewer), [(one, Some(slot(one)))], "the later one counts");
    let foreign = Revocation { issuer_key: AccountId([8; 32]), ..by_token };
    assert_eq!(world.streams.revoked(&foreign), []);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Join,
    Connect(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Join),
        3 => any::<usize>().prop_map(Step::Connect),
        2 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// R21
    #[test]
    fn the_count_is_exact_under_a_thousand_random_joins_and_leaves(steps in steps()) {
        let mut world = World::new();
        let (stream, _) = world.publish();
        let (mut present, mut told) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Join => {
                    let session = world.begin(Role::Subscriber, stream, Lease::OPEN);
                    present.push((session.expect("live"), false));
                }
                Step::Connect(index) if !present.is_empty() => {
                    let index = index % present.len();
                    world.connected(present[index].0);
                    present[index].1 = true;
                }
                Step::Leave(index) if !present.is_empty() => {
                    let (session, _) = present.swap_remove(index % present.len());
                    world.closed(session);
                }
                Step::Connect(_) | Step::Leave(_) => {}
            }
            let expected = present.iter().filter(|(_, connected)| *connected).count() as u32;
            for output in world.out.drain(..) {
                if let Output::ViewerJoined { viewers, .. } | Output::ViewerLeft { viewers, .. } = output {
                    told = viewers;
                }
            }
            prop_assert_eq!(world.viewers(), Some(expected));
            prop_assert_eq!(told, expected, "the last event says the same");
        }
        prop_assert_eq!(world.streams.totals().sessions, present.len() + 1);
    }
}
