//! Descriptions that cannot be used, of peers that are connected and of some that are not.

use std::time::Duration;

use super::{
    neighbour::{ATTEMPTS_MAX, RETRY},
    *,
};
use crate::framing::Kind;

const STEPS_MAX: usize = 10_000;

fn mesh(id: &str, port: u16) -> Mesh {
    let mut mesh = Mesh::new(id.to_owned(), "global".to_owned(), false);
    let address = ([10, 0, 0, 1], port).into();
    mesh.add_candidate(Candidate::host(address, "udp").unwrap());
    mesh
}

fn incoming(from: &str, sid: &str, what: What) -> Incoming {
    Incoming { from: from.to_owned(), sid: Some(sid.to_owned()), what, signature: None }
}

/// What is told, once nothing more leaves.
fn events(mesh: &mut Mesh, now: Instant) -> Vec<Event> {
    let mut out = Vec::new();
    mesh.poll(now, &mut out);
    let event = |out| match out {
        Out::Event(event) => Some(event),
        Out::Signal(_) | Out::Transmit(_) => None,
    };
    out.into_iter().filter_map(event).collect()
}

fn disconnected(events: &[Event]) -> Vec<(bool, CloseReason)> {
    let of = |event: &Event| match event {
        Event::Disconnected { was_open, reason, .. } => Some((*was_open, *reason)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Two meshes that are connected, the first of which offered; with the name of the connection.
fn connected(now: &mut Instant) -> (Mesh, Mesh, String) {
    let (mut a, mut b) = (mesh("a", 1), mesh("b", 2));
    b.peer_joined("a", "ann".to_owned());
    a.joined(vec![("b".to_owned(), "bob".to_owned())], *now);
    let (mut sid, mut open) = (String::new(), 0);
    for _ in 0..STEPS_MAX {
        for from_a in [true, false] {
            let (from, to) = if from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let mut out = Vec::new();
            from.poll(*now, &mut out);
            for out in out {
                match out {
                    Out::Transmit(sent) => {
                        to.handle_datagram(sent.source, sent.destination, &sent.contents, *now);
                        // One at a time: nothing may wait between two datagrams.
                        let mut answers = Vec::new();
                        to.poll(*now, &mut answers);
                        for answer in answers {
                            match answer {
                                Out::Transmit(sent) => {
                                    let (source, destination) = (sent.source, sent.destination);
                                    from.handle_datagram(source, destination, &sent.contents, *now);
                                }
                                Out::Event(Event::Connected { .. }) => open += 1,
                                Out::Event(_) | Out::Signal(_) => {}
                            }
                        }
                    }
                    Out::Signal(Outgoing { sid: name, what, .. }) => {
                        let of = if from_a { "a" } else { "b" };
                        to.handle_signal(incoming(of, &name, what), *now);
                        sid = name;
                    }
                    Out::Event(Event::Connected { .. }) => open += 1,
                    Out::Event(_) => {}
                }
            }
        }
        if open == 2 {
            return (a, b, sid);
        }
        *now += Duration::from_millis(10);
        a.handle_timeout(*now);
        b.handle_timeout(*now);
    }
    panic!("no channel within {STEPS_MAX} steps");
}

/// Gives the name of the connection that is offered.
fn offered(mesh: &mut Mesh, now: Instant) -> String {
    let mut out = Vec::new();
    mesh.poll(now, &mut out);
    let sid = |out| match out {
        Out::Signal(Outgoing { sid, what: What::Offer(_), .. }) => Some(sid),
        _ => None,
    };
    out.into_iter().find_map(sid).expect("an offer leaves")
}

#[test]
fn an_answer_that_cannot_be_used_ends_the_attempt_and_the_next_one_waits() {
    let mut now = Instant::now();
    let mut a = mesh("a", 1);
    a.joined(vec![("b".to_owned(), "bob".to_owned())], now);
    for attempt in 0..=ATTEMPTS_MAX {
        let sid = offered(&mut a, now);
        now += Duration::from_secs(1);
        // One that belongs to no offer changes nothing.
        a.handle_signal(incoming("b", "another", What::Answer("x".to_owned())), now);
        assert!(disconnected(&events(&mut a, now)).is_empty());
        a.handle_signal(incoming("b", &sid, What::Answer("x".to_owned())), now);
        let told = disconnected(&events(&mut a, now));
        assert_eq!(told, [(false, CloseReason::Protocol)]);
        if attempt == ATTEMPTS_MAX {
            break;
        }
        let due = a.deadline().unwrap();
        assert_eq!(due, now + RETRY * 2_u32.pow(attempt), "no deadline is left behind");
        now = due;
        a.handle_timeout(now);
    }
    assert_eq!(a.deadline(), None);
}

#[test]
fn an_offer_that_cannot_be_used_leaves_nothing_of_who_is_not_in_the_room() {
    let now = Instant::now();
    let mut a = mesh("a", 1);
    a.handle_signal(incoming("c", "1", What::Offer("x".to_owned())), now);
    assert_eq!(disconnected(&events(&mut a, now)), [(false, CloseReason::Protocol)]);
    assert_eq!(a.deadline(), None);
    assert!(a.neighbours.is_empty());
}

#[test]
fn a_newcomer_in_place_of_an_attempt_leaves_no_deadline_behind() {
    let now = Instant::now();
    let mut a = mesh("a", 1);
    a.joined(vec![("b".to_owned(), "bob".to_owned())], now);
    offered(&mut a, now);
    assert!(a.deadline().is_some());
    a.peer_joined("b", "bob".to_owned());
    assert_eq!(a.deadline(), None);
}

#[test]
fn an_open_channel_that_ends_by_a_bad_offer_is_told_and_who_waits_to_send_is_answered() {
    let mut now = Instant::now();
    let (_a, mut b, sid) = connected(&mut now);
    assert_eq!(b.connected().len(), 1);
    let mut waits = None;
    for _ in 0..64 {
        let (done, mut sent) = oneshot::channel();
        let message = Message::bytes(Kind::Application, vec![7; 60_000]);
        b.send(Some("a"), &message, Compression::Never, done, now);
        events(&mut b, now);
        match sent.try_recv() {
            Ok(result) => result.unwrap(),
            Err(_) => {
                waits = Some(sent);
                break;
            }
        }
    }
    let mut waits = waits.expect("nothing is acknowledged, so a sender waits");
    b.handle_signal(incoming("a", &sid, What::Offer("x".to_owned())), now);
    assert_eq!(disconnected(&events(&mut b, now)), [(true, CloseReason::Protocol)]);
    assert_eq!(waits.try_recv(), Ok(Err(SendError::NotOpen)));
    assert_eq!(b.deadline(), None, "whoever offered tries again");
}
