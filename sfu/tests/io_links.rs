//! One suite for both links: what one does, the other does; and the ports they share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sfu::io::{
    BindError, Endpoint, EpollLink, Link, Message, SOCKET_BUFFER_BYTES, ShardSockets, UringLink,
    available, bind_shards, host_addresses,
};
use sfu::limits::{MESSAGE_BYTES_MAX, MESSAGES_PER_FLUSH_MAX};

/// No test comes near it; it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(10);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Runs each function once with either link. Where io_uring is refused, its half says so and is
/// passed over: the other half is what runs there.
macro_rules! with_both_links {
    ($($name:ident)*) => {
        mod uring_link {
            $(#[test] fn $name() {
                match super::available() {
                    Ok(()) => super::$name(|s| super::UringLink::new(s).expect("it is available")),
                    Err(error) => eprintln!("not run: {error}"),
                }
            })*
        }
        mod epoll_link {
            $(#[test] fn $name() {
                super::$name(|s| super::EpollLink::new(s).expect("descriptors are left"));
            })*
        }
    };
}

with_both_links! {
    a_datagram_comes_with_its_endpoint_and_its_source
    a_message_leaves_from_the_endpoint_it_names
    a_train_leaves_as_the_datagrams_it_is_made_of
    a_train_between_two_links_stays_in_one_piece
    trains_of_one_sender_with_different_sizes_are_told_apart
    a_message_of_the_largest_size_arrives
    more_than_the_arena_holds_is_sent_on_the_way
    more_than_the_receive_buffers_hold_arrives_late_and_whole
    a_datagram_longer_than_any_of_ours_is_dropped_and_counted
    an_empty_datagram_is_counted_and_not_handed_over
    a_bad_destination_is_counted_and_disturbs_no_other
    a_train_that_the_kernel_refuses_is_sent_datagram_by_datagram
    a_segment_larger_than_the_path_is_sent_all_the_same
    a_full_send_buffer_drops_and_does_not_block
    a_port_that_nobody_listens_on_disturbs_no_other
    a_deadline_is_kept_and_not_forestalled
    a_past_deadline_only_looks
    a_pause_lasts_its_time_and_what_came_meanwhile_is_handed_over_together
    a_wake_ends_the_wait_to_come_and_none_after_it
    no_wake_from_another_thread_is_lost
    no_wake_of_a_busy_thread_is_lost
    a_datagram_ends_the_wait
    ipv6_works_like_ipv4
    shards_of_one_port_share_the_senders
    a_dropped_link_frees_its_port
}

/// A link's view of a message, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    endpoint: usize,
    from: SocketAddr,
    segment_bytes: usize,
    bytes: Vec<u8>,
}

fn endpoint(ip: IpAddr, port: u16) -> Endpoint {
    let at = SocketAddr::new(ip, port);
    Endpoint { bind: at, advertise: at }
}

/// A shard with a socket on a free port of each address.
fn shard_at(addresses: &[IpAddr]) -> (Vec<SocketAddr>, ShardSockets) {
    let endpoints: Vec<Endpoint> = addresses.iter().map(|ip| endpoint(*ip, 0)).collect();
    let (endpoints, mut shards) = bind_shards(&endpoints, 1).expect("free ports on loopback");
    (endpoints.iter().map(|e| e.bind).collect(), shards.remove(0))
}

fn link_on_loopback<L: Link>(make: fn(ShardSockets) -> L) -> (SocketAddr, L) {
    let (at, shard) = shard_at(&[LOOPBACK]);
    (at[0], make(shard))
}

/// A socket of the other side, with plain system calls.
fn peer() -> UdpSocket {
    let peer = UdpSocket::bind((LOOPBACK, 0)).expect("a free port on loopback");
    peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
    peer
}

fn address(peer: &UdpSocket) -> SocketAddr {
    peer.local_addr().expect("it is bound")
}

/// The peer's next datagram.
fn next(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 1 << 16];
    let (len, from) = peer.recv_from(&mut bytes).expect("a datagram is on its way");
    bytes.truncate(len);
    (bytes, from)
}

/// Receives until `datagrams` datagrams were handed over.
#[track_caller]
fn receive(link: &mut impl Link, datagrams: usize) -> Vec<Got> {
    let deadline = Instant::now() + PATIENCE;
    let mut got: Vec<Got> = Vec::new();
    let mut count = 0;
    while count < datagrams {
        assert!(Instant::now() < deadline, "{count} of {datagrams} datagrams came");
        let mut sink = |train: sfu::io::Train<'_>| {
            count += train.bytes.len().div_ceil(train.segment_bytes);
            let bytes = train.bytes.to_vec();
            let (endpoint, from) = (train.endpoint, train.from);
            got.push(Got { endpoint, from, segment_bytes: train.segment_bytes, bytes });
        };
        link.receive(Some(deadline), &mut sink).expect("the link works");
    }
    assert_eq!(count, datagrams);
    got
}

/// Queues a message of these bytes.
fn queue(link: &mut impl Link, endpoint: usize, to: SocketAddr, bytes: &[u8], segment: usize) {
    link.begin()[..bytes.len()].copy_from_slice(bytes);
    link.commit(Message { endpoint, to, len_bytes: bytes.len(), segment_bytes: segment });
}

/// Bytes that differ from place to place.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 7 + i * 31 + seed * 97) % 251) as u8).collect()
}

fn a_datagram_comes_with_its_endpoint_and_its_source<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, shard) = shard_at(&[LOOPBACK, [127, 0, 0, 2].into()]);
    let mut link = make(shard);
    let (one, two) = (peer(), peer());
    one.send_to(b"one", at[1]).expect("loopback takes it");
    assert_eq!(
        receive(&mut link, 1),
        [Got { endpoint: 1, from: address(&one), segment_bytes: 3, bytes: b"one".to_vec() }]
    );
    two.send_to(b"three", at[0]).expect("loopback takes it");
    assert_eq!(
        receive(&mut link, 1),
        [Got { endpoint: 0, from: address(&two), segment_bytes: 5, bytes: b"three".to_vec() }]
    );
    let counters = link.counters();
    assert_eq!((counters.received_messages, counters.received_datagrams), (2, 2));
    assert_eq!(counters.received_bytes, 8);
}

fn a_message_leaves_from_the_endpoint_it_names<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, shard) = shard_at(&[LOOPBACK, [127, 0, 0, 2].into()]);
    let mut link = make(shard);
    let peer = peer();
    queue(&mut link, 1, address(&peer), b"from the second", 15);
    queue(&mut link, 0, address(&peer), b"from the first", 14);
    link.flush();
    let mut got = [next(&peer), next(&peer)];
    got.sort();
    assert_eq!(got[0], (b"from the first".to_vec(), at[0]));
    assert_eq!(got[1], (b"from the second".to_vec(), at[1]));
    assert_eq!(link.counters().sent_messages, 2);
}

fn a_train_leaves_as_the_datagrams_it_is_made_of<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut link) = link_on_loopback(make);
    let peer = peer();
    let bytes = pattern(4 * 1200 + 77, 1);
    queue(&mut link, 0, address(&peer), &bytes, 1200);
    link.flush();
    for want in bytes.chunks(1200) {
        assert_eq!(next(&peer).0, want);
    }
    let counters = link.counters();
    assert_eq!((counters.sent_messages, counters.sent_datagrams), (1, 5));
    assert_eq!(counters.sent_bytes, bytes.len() as u64);
    assert_eq!(counters.gso_fallback_datagrams, 0);
}

fn a_train_between_two_links_stays_in_one_piece<L: Link>(make: fn(ShardSockets) -> L) {
    let (from, mut sender) = link_on_loopback(make);
    let (to, mut receiver) = link_on_loopback(make);
    let bytes = pattern(9 * 1111 + 10, 2);
    queue(&mut sender, 0, to, &bytes, 1111);
    sender.flush();
    let got = receive(&mut receiver, 10);
    assert_eq!(got, [Got { endpoint: 0, from, segment_bytes: 1111, bytes }]);
    assert_eq!(receiver.counters().received_messages, 1);
}

fn trains_of_one_sender_with_different_sizes_are_told_apart<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut sender) = link_on_loopback(make);
    let (to, mut receiver) = link_on_loopback(make);
    let trains = [(3000, 1000), (500, 500), (2 * 700 + 1, 700), (1, 1), (1200, 600)];
    for (seed, (len, segment)) in trains.into_iter().enumerate() {
        queue(&mut sender, 0, to, &pattern(len, seed), segment);
    }
    sender.flush();
    let datagrams = |got: &[Got]| -> Vec<Vec<u8>> {
        got.iter().flat_map(|g| g.bytes.chunks(g.segment_bytes).map(<[u8]>::to_vec)).collect()
    };
    let want: Vec<Vec<u8>> = trains
        .into_iter()
        .enumerate()
        .flat_map(|(seed, (len, segment))| {
            pattern(len, seed).chunks(segment).map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(datagrams(&receive(&mut receiver, want.len())), want);
}

fn a_message_of_the_largest_size_arrives<L: Link>(make: fn(ShardSockets) -> L) {
    let (from, mut sender) = link_on_loopback(make);
    let (to, mut receiver) = link_on_loopback(make);
    let bytes = pattern(MESSAGE_BYTES_MAX, 3);
    queue(&mut sender, 0, to, &bytes, 1200);
    sender.flush();
    assert_eq!(sender.counters().sent_datagrams, 55);
    let got = receive(&mut receiver, 55);
    // In one piece or in several: that is up to loopback.
    assert!(got.iter().all(|g| g.from == from && matches!(g.segment_bytes, 1200 | 707)));
    assert_eq!(got.into_iter().flat_map(|g| g.bytes).collect::<Vec<u8>>(), bytes);
}

fn more_than_the_arena_holds_is_sent_on_the_way<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut sender) = link_on_loopback(make);
    let (to, mut receiver) = link_on_loopback(make);
    // By count …
    for seed in 0..=MESSAGES_PER_FLUSH_MAX {
        queue(&mut sender, 0, to, &pattern(100, seed), 100);
    }
    let early = sender.counters().sent_messages as usize;
    assert_eq!(early, MESSAGES_PER_FLUSH_MAX, "all but the last were flushed to make room");
    sender.flush();
    let got = receive(&mut receiver, MESSAGES_PER_FLUSH_MAX + 1);
    let bytes: Vec<u8> = got.into_iter().flat_map(|g| g.bytes).collect();
    let want: Vec<u8> = (0..=MESSAGES_PER_FLUSH_MAX).flat_map(|seed| pattern(100, seed)).collect();
    assert!(bytes == want, "all datagrams, in order");
    // … and by bytes.
    let before = sender.counters().sent_messages;
    for seed in 0..9 {
        queue(&mut sender, 0, to, &pattern(60_000, seed), 1200);
    }
    assert!(sender.counters().sent_messages > before, "nine do not fit");
    sender.flush();
    let got = receive(&mut receiver, 9 * 50);
    let bytes: Vec<u8> = got.into_iter().flat_map(|g| g.bytes).collect();
    assert!(bytes == (0..9).flat_map(|seed| pattern(60_000, seed)).collect::<Vec<u8>>());
}

fn more_than_the_receive_buffers_hold_arrives_late_and_whole<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let peer = peer();
    let count = 300_u16;
    for number in 0..count {
        peer.send_to(&number.to_be_bytes(), at).expect("loopback takes it");
    }
    let got = receive(&mut link, usize::from(count));
    let want: Vec<Vec<u8>> = (0..count).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(got.into_iter().map(|g| g.bytes).collect::<Vec<_>>(), want);
}

fn a_datagram_longer_than_any_of_ours_is_dropped_and_counted<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let peer = peer();
    peer.send_to(&pattern(2049, 0), at).expect("loopback takes it");
    peer.send_to(&pattern(MESSAGE_BYTES_MAX, 0), at).expect("loopback takes it");
    peer.send_to(&pattern(2048, 0), at).expect("loopback takes it");
    assert_eq!(receive(&mut link, 1)[0].bytes, pattern(2048, 0));
    assert_eq!(link.counters().truncated_datagrams, 2);
    assert_eq!(link.counters().received_datagrams, 3);
}

fn an_empty_datagram_is_counted_and_not_handed_over<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let peer = peer();
    peer.send_to(b"", at).expect("loopback takes it");
    peer.send_to(b"x", at).expect("loopback takes it");
    assert_eq!(receive(&mut link, 1)[0].bytes, b"x");
    assert_eq!(link.counters().received_datagrams, 2);
}

fn a_bad_destination_is_counted_and_disturbs_no_other<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut link) = link_on_loopback(make);
    let peer = peer();
    let broadcast = ([255, 255, 255, 255], 9).into();
    let no_port = ([127, 0, 0, 1], 0).into();
    queue(&mut link, 0, broadcast, b"not allowed", 11);
    queue(&mut link, 0, address(&peer), b"first", 5);
    queue(&mut link, 0, no_port, b"three datagrams", 5);
    queue(&mut link, 0, address(&peer), b"second", 6);
    queue(&mut link, 0, broadcast, b"not allowed", 11);
    link.flush();
    assert_eq!(next(&peer).0, b"first");
    assert_eq!(next(&peer).0, b"second");
    let counters = link.counters();
    assert_eq!((counters.sent_messages, counters.send_errors), (2, 5));
    assert_eq!(counters.send_would_block, 0);
}

fn a_train_that_the_kernel_refuses_is_sent_datagram_by_datagram<L: Link>(
    make: fn(ShardSockets) -> L,
) {
    let (_, mut link) = link_on_loopback(make);
    let (peer, other) = (peer(), peer());
    // More segments than any kernel takes in one message.
    let bytes = pattern(130 * 100, 5);
    queue(&mut link, 0, address(&peer), &bytes, 100);
    queue(&mut link, 0, address(&other), b"abcdef", 3);
    link.flush();
    for want in bytes.chunks(100) {
        assert_eq!(next(&peer).0, want);
    }
    assert_eq!(next(&other).0, b"abc");
    assert_eq!(next(&other).0, b"def");
    let counters = *link.counters();
    assert_eq!(counters.gso_fallback_datagrams, 130, "the other destination keeps GSO");
    assert_eq!((counters.sent_messages, counters.sent_datagrams), (131, 132));
    // The destination is remembered; even a short train goes singly.
    queue(&mut link, 0, address(&peer), b"abcdef", 3);
    link.flush();
    assert_eq!(next(&peer).0, b"abc");
    assert_eq!(next(&peer).0, b"def");
    assert_eq!(link.counters().gso_fallback_datagrams, 132);
    assert_eq!(link.counters().send_errors, 0);
}

/// Runs `test` on a thread of its own in an empty network namespace, after the commands of `setup`
/// (`ip …`). Where that takes rights we lack, it says so and passes over the test.
fn in_namespace(setup: &[&str], test: impl FnOnce() + Send) {
    let run = move || {
        // SAFETY: takes an integer; concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("not run, no network namespace: {}", std::io::Error::last_os_error());
            return;
        }
        for line in setup {
            let Ok(output) = std::process::Command::new("ip").args(line.split(' ')).output() else {
                eprintln!("not run: there is no `ip` command");
                return;
            };
            assert!(output.status.success(), "ip {line}: {output:?}");
        }
        test();
    };
    thread::scope(|scope| scope.spawn(run).join()).expect("the test passes");
}

fn a_segment_larger_than_the_path_is_sent_all_the_same<L: Link>(make: fn(ShardSockets) -> L) {
    in_namespace(&["link set lo mtu 1280 up"], || {
        let (_, mut link) = link_on_loopback(make);
        let peer = peer();
        let bytes = pattern(3 * 1400, 6);
        queue(&mut link, 0, address(&peer), &bytes, 1400);
        link.flush();
        for want in bytes.chunks(1400) {
            assert_eq!(next(&peer).0, want);
        }
        assert_eq!(link.counters().gso_fallback_datagrams, 3);
        assert_eq!(link.counters().send_errors, 0);
    });
}

fn a_full_send_buffer_drops_and_does_not_block<L: Link>(make: fn(ShardSockets) -> L) {
    // A neighbour that does not answer: what is sent to it waits, and fills the send buffer.
    let setup = [
        "link set lo up",
        "link add near type veth peer name far",
        "address add 10.77.0.1/24 dev near",
        "link set near up",
        "link set far up",
    ];
    in_namespace(&setup, || {
        let limit = "/proc/sys/net/ipv4/neigh/near/unres_qlen_bytes";
        std::fs::write(limit, "100000000").expect("root of the namespace");
        let (_, shard) = shard_at(&[[0, 0, 0, 0].into()]);
        let mut link = make(shard);
        let started = Instant::now();
        for _ in 0..300 {
            queue(&mut link, 0, ([10, 77, 0, 2], 9).into(), &[7; 60_000], 1200);
        }
        link.flush();
        let counters = *link.counters();
        assert!(counters.sent_datagrams > 0 && counters.send_would_block > 0, "{counters:?}");
        assert_eq!(counters.sent_datagrams + counters.send_would_block, 300 * 50);
        assert_eq!(counters.send_errors, 0);
        assert!(started.elapsed() < PATIENCE);
        // Nothing is kept for later.
        link.flush();
        assert_eq!(counters, *link.counters());
    });
}

fn a_port_that_nobody_listens_on_disturbs_no_other<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let (peer, gone) = (peer(), address(&peer()));
    for _ in 0..3 {
        queue(&mut link, 0, gone, b"is anybody there", 16);
        queue(&mut link, 0, address(&peer), b"hello", 5);
        link.flush();
        assert_eq!(next(&peer).0, b"hello");
        peer.send_to(b"hello yourself", at).expect("loopback takes it");
        assert_eq!(receive(&mut link, 1)[0].bytes, b"hello yourself");
    }
    assert_eq!(link.counters().sent_messages, 6);
}

fn a_deadline_is_kept_and_not_forestalled<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut link) = link_on_loopback(make);
    for span in [Duration::from_micros(300), Duration::from_millis(20)] {
        let deadline = Instant::now() + span;
        link.receive(Some(deadline), &mut |_| panic!("nobody sent")).expect("the link works");
        let late = Instant::now().checked_duration_since(deadline);
        assert!(late.expect("not before the deadline") < PATIENCE);
    }
    assert_eq!(link.counters().wakeups, 0);
}

fn a_past_deadline_only_looks<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let past = Instant::now();
    link.receive(Some(past), &mut |_| panic!("nobody sent")).expect("the link works");
    peer().send_to(b"x", at).expect("loopback takes it");
    let (deadline, mut came) = (Instant::now() + PATIENCE, false);
    while !came {
        link.receive(Some(past), &mut |_| came = true).expect("the link works");
        assert!(Instant::now() < deadline, "it never saw the datagram");
    }
    assert_eq!(link.counters().waits, 0);
}

fn a_pause_lasts_its_time_and_what_came_meanwhile_is_handed_over_together<L: Link>(
    make: fn(ShardSockets) -> L,
) {
    let (at, mut link) = link_on_loopback(make);
    let past = Instant::now();
    // The receives are armed by the first look.
    link.receive(Some(past), &mut |_| panic!("nobody sent")).expect("the link works");
    let until = Instant::now() + Duration::from_millis(20);
    let waker = link.waker();
    let other = thread::spawn(move || {
        let peer = peer();
        for _ in 0..3 {
            peer.send_to(b"x", at).expect("loopback takes it");
            waker.wake();
        }
    });
    link.pause(until);
    assert!(Instant::now() >= until, "neither datagrams nor a wake end it");
    other.join().expect("it sent");
    let mut came = 0;
    link.receive(None, &mut |train| came += train.bytes.len()).expect("the link works");
    assert_eq!((came, link.counters().pauses), (3, 1));
    link.pause(past);
    assert_eq!(link.counters().pauses, 1, "a pause that is over is none");
}

fn a_wake_ends_the_wait_to_come_and_none_after_it<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, shard) = shard_at(&[LOOPBACK]);
    let before_the_link = shard.waker();
    let mut link = make(shard);
    for waker in [before_the_link, link.waker()] {
        waker.wake();
        waker.clone().wake();
        link.receive(None, &mut |_| panic!("nobody sent")).expect("the link works");
        let deadline = Instant::now() + Duration::from_millis(5);
        link.receive(Some(deadline), &mut |_| panic!("nobody sent")).expect("the link works");
        assert!(Instant::now() >= deadline, "two wakes before one wait are one");
    }
    assert_eq!(link.counters().wakeups, 2);
}

const WAKE_ROUNDS: u32 = 10_000;

fn no_wake_from_another_thread_is_lost<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut link) = link_on_loopback(make);
    let waker = link.waker();
    let (to_shard, queue) = mpsc::sync_channel(1);
    let (acknowledge, acknowledged) = mpsc::sync_channel(1);
    let other = thread::spawn(move || {
        for round in 0..WAKE_ROUNDS {
            to_shard.send(round).expect("the shard lives");
            waker.wake();
            assert_eq!(acknowledged.recv(), Ok(round));
        }
    });
    let mut expected = 0;
    while expected < WAKE_ROUNDS {
        while let Ok(round) = queue.try_recv() {
            assert_eq!(round, expected);
            expected += 1;
            acknowledge.send(round).expect("the other thread lives");
        }
        if expected < WAKE_ROUNDS {
            let deadline = Instant::now() + PATIENCE;
            link.receive(Some(deadline), &mut |_| panic!("nobody sent")).expect("the link works");
            assert!(Instant::now() < deadline, "slept over round {expected}");
        }
    }
    other.join().expect("all rounds were acknowledged");
    assert!(link.counters().wakeups > 0);
}

fn no_wake_of_a_busy_thread_is_lost<L: Link>(make: fn(ShardSockets) -> L) {
    let (_, mut link) = link_on_loopback(make);
    let (to_shard, queue) = mpsc::channel();
    for _ in 0..2 {
        let (waker, to_shard) = (link.waker(), to_shard.clone());
        thread::spawn(move || {
            for round in 0..WAKE_ROUNDS {
                to_shard.send(round).expect("the shard lives");
                waker.wake();
            }
        });
    }
    let mut missing = 2 * WAKE_ROUNDS;
    loop {
        missing -= queue.try_iter().count() as u32;
        if missing == 0 {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        link.receive(Some(deadline), &mut |_| panic!("nobody sent")).expect("the link works");
        assert!(Instant::now() < deadline, "slept over one of the last {missing}");
    }
}

fn a_datagram_ends_the_wait<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    let peer = peer();
    let (ask, asked) = mpsc::channel();
    let other = thread::spawn(move || {
        while let Ok(()) = asked.recv() {
            peer.send_to(b"x", at).expect("loopback takes it");
        }
    });
    for _ in 0..1000 {
        ask.send(()).expect("the peer lives");
        receive(&mut link, 1);
    }
    drop(ask);
    other.join().expect("the peer sent all");
    assert_eq!(link.counters().received_datagrams, 1000);
}

fn ipv6_works_like_ipv4<L: Link>(make: fn(ShardSockets) -> L) {
    let one = endpoint(std::net::Ipv6Addr::LOCALHOST.into(), 0);
    let (at, mut shards) = match bind_shards(&[endpoint(LOOPBACK, 0), one], 1) {
        Ok((endpoints, shards)) => (endpoints[1].bind, shards),
        Err(BindError::NoSuchAddress { .. }) => return eprintln!("not run: no IPv6 here"),
        Err(error) => panic!("{error}"),
    };
    let mut link = make(shards.remove(0));
    let peer = UdpSocket::bind("[::1]:0").expect("a free port on loopback");
    peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
    peer.send_to(b"six", at).expect("loopback takes it");
    assert_eq!(
        receive(&mut link, 1),
        [Got { endpoint: 1, from: address(&peer), segment_bytes: 3, bytes: b"six".to_vec() }]
    );
    let bytes = pattern(2500, 8);
    queue(&mut link, 1, address(&peer), &bytes, 1200);
    link.flush();
    for want in bytes.chunks(1200) {
        assert_eq!(next(&peer), (want.to_vec(), at));
    }
    assert_eq!(link.counters().sent_messages, 1);
}

fn shards_of_one_port_share_the_senders<L: Link>(make: fn(ShardSockets) -> L) {
    let (endpoints, shards) = bind_shards(&[endpoint(LOOPBACK, 0)], 2).expect("a free port");
    let at = endpoints[0].bind;
    let mut links: Vec<L> = shards.into_iter().map(make).collect();
    let peers: Vec<UdpSocket> = (0..64).map(|_| peer()).collect();
    for peer in &peers {
        peer.send_to(b"which shard?", at).expect("loopback takes it");
    }
    let mut froms = [Vec::new(), Vec::new()];
    let deadline = Instant::now() + PATIENCE;
    while froms[0].len() + froms[1].len() < peers.len() {
        assert!(Instant::now() < deadline, "some datagrams reached neither");
        for (link, froms) in links.iter_mut().zip(&mut froms) {
            let mut note = |train: sfu::io::Train<'_>| froms.push(train.from);
            link.receive(Some(Instant::now()), &mut note).expect("the link works");
        }
    }
    // All on one side by chance: 1 in 2⁶³.
    assert!(froms.iter().all(|f| !f.is_empty()), "the kernel spreads senders over shards");
    for (link, froms) in links.iter_mut().zip(&froms) {
        for from in froms {
            queue(link, 0, *from, b"this one", 8);
        }
        link.flush();
    }
    for peer in &peers {
        assert_eq!(next(peer), (b"this one".to_vec(), at));
    }
}

fn a_dropped_link_frees_its_port<L: Link>(make: fn(ShardSockets) -> L) {
    let (at, mut link) = link_on_loopback(make);
    link.receive(Some(Instant::now()), &mut |_| {}).expect("the link works");
    drop(link);
    UdpSocket::bind(at).expect("nobody holds the port any more");
}

#[test]
fn a_port_belongs_to_one_process_until_it_lets_go() {
    let (first, shards) = bind_shards(&[endpoint(LOOPBACK, 0)], 3).expect("a free port");
    let port = first[0].bind.port();
    for ip in [LOOPBACK, [0, 0, 0, 0].into()] {
        let second = bind_shards(&[endpoint(ip, port)], 2);
        let error = second.expect_err("or it would take a part of the flows");
        assert_eq!(
            error.to_string(),
            format!(
                "UDP port {port} on {ip} is taken by another process; choose another with --udp-port"
            )
        );
    }
    drop(shards);
    let (third, _shards) = bind_shards(&[endpoint(LOOPBACK, port)], 1).expect("it is free again");
    assert_eq!(third[0].bind.port(), port);
}

/// A killed process's port stays taken until the kernel has taken its io_uring down.
#[test]
fn a_port_that_is_freed_a_moment_later_is_waited_for() {
    let holder = peer();
    let at = address(&holder);
    let (bound, is_bound) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let too_early = is_bound.recv_timeout(Duration::from_millis(50));
        assert_eq!(too_early, Err(mpsc::RecvTimeoutError::Timeout), "the port is still held");
        drop(holder);
    });
    bind_shards(&[endpoint(LOOPBACK, at.port())], 1).expect("it was waited for");
    // An error if the other thread is done, as it should be.
    let _ = bound.send(());
    other.join().expect("nobody could bind before");
}

#[test]
fn an_endpoint_advertises_its_own_port_unless_it_names_another() {
    let here = SocketAddr::new(LOOPBACK, 0);
    let public: IpAddr = [203, 0, 113, 7].into();
    let endpoints = [
        Endpoint { bind: here, advertise: SocketAddr::new(public, 0) },
        Endpoint { bind: here, advertise: SocketAddr::new(public, 443) },
    ];
    let (bound, _shards) = bind_shards(&endpoints, 1).expect("free ports");
    assert_ne!(bound[0].bind.port(), 0);
    assert_ne!(bound[0].bind.port(), bound[1].bind.port());
    assert_eq!(bound[0].advertise, SocketAddr::new(public, bound[0].bind.port()));
    assert_eq!(bound[1].advertise, SocketAddr::new(public, 443));
}

#[test]
fn an_address_that_is_not_ours_and_an_empty_list_are_refused_by_name() {
    let foreign = bind_shards(&[endpoint([203, 0, 113, 7].into(), 0)], 1);
    assert!(matches!(foreign, Err(BindError::NoSuchAddress { .. })), "{foreign:?}");
    let nothing = bind_shards(&[], 1);
    assert!(matches!(nothing, Err(BindError::Nothing { endpoints: 0, shards: 1 })));
    let nobody = bind_shards(&[endpoint(LOOPBACK, 0)], 0);
    assert!(matches!(nobody, Err(BindError::Nothing { endpoints: 1, shards: 0 })));
}

#[test]
fn the_buffers_are_as_large_as_the_system_allows() {
    let (_, shard) = shard_at(&[LOOPBACK]);
    let limit = |name: &str| -> usize {
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).expect("Linux");
        text.trim().parse().expect("a number")
    };
    let granted = shard.buffer_bytes();
    assert!(granted.receive >= limit("rmem_max").min(SOCKET_BUFFER_BYTES), "{granted:?}");
    assert!(granted.send >= limit("wmem_max").min(SOCKET_BUFFER_BYTES), "{granted:?}");
}

#[test]
fn the_hosts_addresses_end_with_loopback_and_name_no_link_local_one() {
    let addresses = host_addresses();
    assert!(addresses.contains(&LOOPBACK));
    assert!(addresses.is_sorted_by_key(IpAddr::is_loopback), "{addresses:?}");
    for ip in addresses {
        UdpSocket::bind((ip, 0)).expect("an address of this host can be bound");
        assert!(!matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    }
}

mod atomic {
    //! In place of the crate's own, for the model below.
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
}
#[path = "../src/io/sleep.rs"]
mod sleep;

/// Two wakers and an owner in every interleaving: if the owner could block with something in its
/// queue, the model would stop in a deadlock, and if a wake did not publish what was pushed before
/// it, the owner would wait for a push that it cannot see.
#[test]
fn no_interleaving_of_wakers_and_owner_loses_a_wake() {
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use loom::sync::{Arc, Condvar, Mutex};

    let mut model = loom::model::Builder::new();
    // All interleavings with up to three preemptions; without a bound it takes minutes.
    model.preemption_bound = Some(3);
    model.check(|| {
        let flag = Arc::new(sleep::SleepFlag::new());
        // Relaxed, so that only the flag orders it.
        let pushed = Arc::new(AtomicU32::new(0));
        // The eventfd, edge-triggered: a ring is kept until a wait takes it.
        let bell = Arc::new((Mutex::new(false), Condvar::new()));
        for _ in 0..2 {
            let (flag, pushed, bell) = (flag.clone(), pushed.clone(), bell.clone());
            loom::thread::spawn(move || {
                pushed.fetch_add(1, Relaxed);
                if flag.notify() {
                    *bell.0.lock().expect("no thread panics") = true;
                    bell.1.notify_one();
                }
            });
        }
        while pushed.load(Relaxed) < 2 {
            if flag.try_sleep() {
                let mut rung = bell.0.lock().expect("no thread panics");
                while !*rung {
                    rung = bell.1.wait(rung).expect("no thread panics");
                }
                *rung = false;
            }
            flag.wake_up();
        }
    });
}
