//! The socket server, from the outside: order, limits, fatal errors, the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use consensus_abci::application::Method;
use consensus_abci::server::{Frames, Limits, ListenAddr, Server, ServerError};
use proptest::prelude::*;
use prost::Message;
use tendermint_proto::v0_38::abci::{
    Request, RequestApplySnapshotChunk, RequestCheckTx, RequestCommit, RequestEcho,
    RequestExtendVote, RequestFinalizeBlock, RequestFlush, RequestInfo, RequestInitChain,
    RequestListSnapshots, RequestLoadSnapshotChunk, RequestOfferSnapshot, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, RequestVerifyVoteExtension, ResponseApplySnapshotChunk,
    ResponseCommit, ResponseEcho, ResponseFlush, ResponseOfferSnapshot,
    ResponseVerifyVoteExtension, request::Value as Ask, response::Value as Say,
};

use crate::client::{Client, framed, socket_in, wait_until};
use crate::script::Script;
use crate::world::Dir;

struct World {
    app: Arc<Script>,
    server: Server,
    _dir: Dir,
}

impl World {
    fn at(at: &ListenAddr, dir: Dir, limits: Limits) -> World {
        let app = Arc::new(Script::default());
        let server = Server::start(app.clone(), at, limits).unwrap();
        World { app, server, _dir: dir }
    }

    fn unix(limits: Limits) -> World {
        let dir = Dir::new();
        World::at(&socket_in(&dir), dir, limits)
    }

    /// The same on both transports.
    fn each(limits: Limits) -> [World; 2] {
        let tcp = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
        [World::unix(limits.clone()), World::at(&tcp, Dir::new(), limits)]
    }

    fn client(&self) -> Client {
        Client::connect(self.server.local_addr())
    }

    /// Waits until the server has seen the end of all but `open` connections.
    fn wait_for_open(&self, open: u64) {
        wait_until("connections", || self.server.counters().connections_open == open);
    }
}

fn quick() -> Limits {
    Limits { engine_change: Duration::from_millis(50), ..Limits::default() }
}

fn echo(text: &str) -> Ask {
    Ask::Echo(RequestEcho { message: text.to_owned() })
}

fn echoed(text: &str) -> Say {
    Say::Echo(ResponseEcho { message: text.to_owned() })
}

fn block(height: i64) -> Ask {
    Ask::FinalizeBlock(RequestFinalizeBlock { height, ..RequestFinalizeBlock::default() })
}

fn commit() -> Ask {
    Ask::Commit(RequestCommit {})
}

const COMMITTED: Say = Say::Commit(ResponseCommit { retain_height: 7 });

#[test]
fn requests_are_answered_in_their_order_on_both_transports() {
    for world in World::each(Limits::default()) {
        let mut client = world.client();
        let tx = |byte| RequestCheckTx { tx: vec![byte; 3].into(), ..RequestCheckTx::default() };
        let mut bytes = Vec::new();
        for request in [
            echo("first"),
            Ask::Info(RequestInfo::default()),
            Ask::InitChain(RequestInitChain::default()),
            Ask::CheckTx(tx(1)),
            Ask::CheckTx(tx(2)),
            Ask::PrepareProposal(RequestPrepareProposal::default()),
            Ask::ProcessProposal(RequestProcessProposal::default()),
            block(1),
            commit(),
            Ask::Query(RequestQuery { data: vec![9].into(), ..RequestQuery::default() }),
            Ask::Flush(RequestFlush {}),
        ] {
            bytes.extend(framed(request));
        }
        client.write(&bytes);
        assert_eq!(client.next(), Some(echoed("first")));
        assert!(matches!(client.next(), Some(Say::Info(_))));
        assert!(matches!(client.next(), Some(Say::InitChain(_))));
        for byte in [1, 2] {
            let Some(Say::CheckTx(said)) = client.next() else { panic!("no CheckTx") };
            assert_eq!(said.data[..], [byte; 3]);
        }
        assert!(matches!(client.next(), Some(Say::PrepareProposal(_))));
        let Some(Say::ProcessProposal(said)) = client.next() else { panic!("no ProcessProposal") };
        assert_eq!(said.status, 1, "accept");
        let Some(Say::FinalizeBlock(said)) = client.next() else { panic!("no FinalizeBlock") };
        assert_eq!(said.app_hash[..], 1_i64.to_be_bytes());
        assert_eq!(client.next(), Some(COMMITTED));
        let Some(Say::Query(said)) = client.next() else { panic!("no Query") };
        assert_eq!(said.value[..], [9]);
        assert_eq!(client.next(), Some(Say::Flush(ResponseFlush {})));
        assert_eq!(world.app.calls(), ["init ", "finalize 1", "commit", "committed"]);
    }
}

#[test]
fn ten_thousand_requests_may_wait_in_one_pipe() {
    for world in World::each(Limits::default()) {
        let mut client = world.client();
        let mut reader_bytes = Vec::new();
        for number in 0..10_000 {
            reader_bytes.extend(framed(echo(&number.to_string())));
        }
        client.write(&reader_bytes);
        for number in 0..10_000 {
            assert_eq!(client.next(), Some(echoed(&number.to_string())));
        }
        let echo = world.server.counters().method(Method::Echo);
        assert_eq!((echo.requests, echo.errors), (10_000, 0));
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    for world in World::each(Limits::default()) {
        let mut client = world.client();
        let long = "x".repeat(300); // A length of two bytes.
        for text in ["", "short", &long] {
            for byte in framed(echo(text)) {
                client.write(&[byte]);
            }
            assert_eq!(client.next(), Some(echoed(text)));
        }
    }
}

#[test]
fn a_block_of_many_megabytes_comes_through() {
    let world = World::unix(Limits::default());
    let mut client = world.client();
    let txs: Vec<bytes::Bytes> = (0..24).map(|byte| vec![byte; 1 << 20].into()).collect();
    let request = RequestPrepareProposal { txs: txs.clone(), ..RequestPrepareProposal::default() };
    let writer = framed(Ask::PrepareProposal(request));
    client.write(&writer);
    let Some(Say::PrepareProposal(said)) = client.next() else { panic!("no PrepareProposal") };
    assert!(said.txs == txs);
    assert_eq!(client.call(echo("more")), echoed("more"));
}

#[test]
fn a_flush_is_answered_while_half_a_request_waits_behind_it() {
    let world = World::unix(Limits::default());
    let mut client = world.client();
    let (flush, next) = (framed(Ask::Flush(RequestFlush {})), framed(echo("rest")));
    client.write(&[&flush, &next[..3]].concat());
    assert_eq!(client.next(), Some(Say::Flush(ResponseFlush {})));
    client.write(&next[3..]);
    assert_eq!(client.next(), Some(echoed("rest")));
}

#[test]
fn what_is_no_request_gets_a_sentence_and_the_end_and_others_go_on() {
    #[track_caller]
    fn check(world: &World, bytes: &[u8], part: &str) {
        let mut other = world.client();
        assert_eq!(other.call(echo("before")), echoed("before"));
        let bad_before = world.server.counters().bad_messages;
        let mut client = world.client();
        client.write(&framed(echo("good")));
        // Behind it: more than the server wants to see.
        client.try_write(&[bytes, &[0x55; 100]].concat());
        assert_eq!(client.next(), Some(echoed("good")));
        client.expect_exception(part);
        assert_eq!(other.call(echo("after")), echoed("after"));
        assert_eq!(world.server.counters().bad_messages, bad_before + 1);
        assert_eq!(world.server.failure(), None);
    }
    for world in World::each(Limits { message_bytes_max: 1000, ..quick() }) {
        check(&world, &[0], "no request of ABCI 2.0");
        check(&world, &[2, 0xff, 0xff], "no request of ABCI 2.0");
        // `SetOption`, field 4 of older versions, and field 99.
        check(&world, &[2, 0x22, 0], "no request of ABCI 2.0");
        check(&world, &[3, 0x9a, 6, 0], "no request of ABCI 2.0");
        check(&world, &[0xe9, 7], "1001 bytes");
        check(&world, &[[0xff; 9].as_slice(), &[1]].concat(), "18446744073709551615 bytes");
        check(&world, &[0xff; 10], "not ABCI");
    }
}

#[test]
fn a_request_that_stops_midway_ends_its_connection_and_silence_does_not() {
    let stall = Duration::from_millis(60);
    for world in World::each(Limits { stall, ..Limits::default() }) {
        let (mut silent, mut midway) = (world.client(), world.client());
        assert_eq!(silent.call(echo("hello")), echoed("hello"));
        midway.write(&framed(echo("never whole"))[..5]);
        midway.expect_exception("stopped midway");
        assert_eq!(silent.call(echo("still here")), echoed("still here"));
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    for world in World::each(Limits { connections_max: 2, ..Limits::default() }) {
        let (mut first, second) = (world.client(), world.client());
        world.wait_for_open(2);
        world.client().expect_exception("2 connections already");
        drop(second);
        world.wait_for_open(1);
        assert_eq!(world.client().call(echo("third")), echoed("third"));
        assert_eq!(first.call(echo("first")), echoed("first"));
        let counters = world.server.counters();
        assert_eq!((counters.connections_accepted, counters.connections_refused), (3, 1));
    }
}

#[test]
fn snapshots_and_vote_extensions_are_declined_by_the_book() {
    let world = World::unix(Limits::default());
    let mut client = world.client();
    let Say::ListSnapshots(said) = client.call(Ask::ListSnapshots(RequestListSnapshots {})) else {
        panic!("no ListSnapshots")
    };
    assert!(said.snapshots.is_empty());
    assert_eq!(
        client.call(Ask::OfferSnapshot(RequestOfferSnapshot::default())),
        Say::OfferSnapshot(ResponseOfferSnapshot { result: 3 }), // REJECT
    );
    let Say::LoadSnapshotChunk(said) =
        client.call(Ask::LoadSnapshotChunk(RequestLoadSnapshotChunk::default()))
    else {
        panic!("no LoadSnapshotChunk")
    };
    assert!(said.chunk.is_empty());
    assert_eq!(
        client.call(Ask::ApplySnapshotChunk(RequestApplySnapshotChunk::default())),
        Say::ApplySnapshotChunk(ResponseApplySnapshotChunk { result: 2, ..Default::default() }),
    );
    let Say::ExtendVote(said) = client.call(Ask::ExtendVote(RequestExtendVote::default())) else {
        panic!("no ExtendVote")
    };
    assert!(said.vote_extension.is_empty());
    for (extension, status) in [(&[][..], 1), (&[0][..], 2)] {
        let vote_extension = extension.to_vec().into();
        let request = RequestVerifyVoteExtension { vote_extension, ..Default::default() };
        assert_eq!(
            client.call(Ask::VerifyVoteExtension(request)),
            Say::VerifyVoteExtension(ResponseVerifyVoteExtension { status }),
        );
    }
}

#[test]
fn between_a_block_and_its_commit_nobody_elses_block_comes() {
    let world = World::unix(quick());
    let (mut first, mut second) = (world.client(), world.client());
    assert!(matches!(first.call(block(1)), Say::FinalizeBlock(_)));
    second.send(block(9));
    second.expect_exception("stop the other engine");
    assert_eq!(first.call(commit()), COMMITTED);
    // It has the application until it ends; CheckTx and Query are everybody's.
    let mut third = world.client();
    assert!(matches!(third.call(Ask::CheckTx(RequestCheckTx::default())), Say::CheckTx(_)));
    assert!(matches!(third.call(Ask::Query(RequestQuery::default())), Say::Query(_)));
    drop(first);
    assert!(matches!(third.call(block(2)), Say::FinalizeBlock(_)));
    assert_eq!(third.call(commit()), COMMITTED);
    assert_eq!(
        world.app.calls(),
        ["finalize 1", "commit", "committed", "finalize 2", "commit", "committed"]
    );
    assert_eq!(world.server.failure(), None);
}

#[test]
fn an_engine_that_was_restarted_waits_for_the_end_of_its_predecessor() {
    let world = World::unix(Limits::default());
    let (mut first, mut second) = (world.client(), world.client());
    assert!(matches!(first.call(block(1)), Say::FinalizeBlock(_)));
    second.send(block(1));
    drop(first); // Killed before its Commit.
    assert!(matches!(second.next(), Some(Say::FinalizeBlock(_))));
    assert_eq!(second.call(commit()), COMMITTED);
    assert_eq!(world.app.calls(), ["finalize 1", "finalize 1", "commit", "committed"]);
}

#[test]
fn a_commit_without_a_block_is_refused_and_hurts_nobody() {
    let world = World::unix(quick());
    let mut client = world.client();
    client.send(commit());
    client.expect_exception("FinalizeBlock comes before it");
    // A block that was executed for another connection is not this one's to commit.
    let mut first = world.client();
    assert!(matches!(first.call(block(1)), Say::FinalizeBlock(_)));
    drop(first);
    world.wait_for_open(0);
    let mut second = world.client();
    second.send(commit());
    second.expect_exception("FinalizeBlock comes before it");
    assert_eq!(world.app.calls(), ["finalize 1"]);
    assert_eq!(world.server.failure(), None);
}

#[test]
fn an_error_of_the_application_halts_the_chain_and_says_why() {
    #[track_caller]
    fn check(method: Method, ask: Ask) {
        let world = World::unix(quick());
        *world.app.fails.lock().unwrap() = Some(method);
        let mut client = world.client();
        if method == Method::Commit {
            assert!(matches!(client.call(block(1)), Say::FinalizeBlock(_)));
        }
        client.send(ask);
        client.expect_exception("the disk is full: make room");
        let sentence = format!("{method}: the disk is full: make room");
        assert_eq!(world.server.failure(), Some(sentence));
        assert_eq!(world.server.counters().method(method).errors, 1);
        // Nothing is decided or taken any more, even when the cause is gone; the state is read.
        *world.app.fails.lock().unwrap() = None;
        let calls = world.app.calls();
        for ask in [
            Ask::Info(RequestInfo::default()),
            Ask::InitChain(RequestInitChain::default()),
            Ask::CheckTx(RequestCheckTx::default()),
            Ask::PrepareProposal(RequestPrepareProposal::default()),
            Ask::ProcessProposal(RequestProcessProposal::default()),
            block(2),
            commit(),
        ] {
            let mut client = world.client();
            client.send(ask);
            client.expect_exception("the chain is halted");
        }
        assert_eq!(world.app.calls(), calls);
        let mut client = world.client();
        assert!(matches!(client.call(Ask::Query(RequestQuery::default())), Say::Query(_)));
    }
    check(Method::Info, Ask::Info(RequestInfo::default()));
    check(Method::InitChain, Ask::InitChain(RequestInitChain::default()));
    check(Method::CheckTx, Ask::CheckTx(RequestCheckTx::default()));
    check(Method::PrepareProposal, Ask::PrepareProposal(RequestPrepareProposal::default()));
    check(Method::ProcessProposal, Ask::ProcessProposal(RequestProcessProposal::default()));
    check(Method::FinalizeBlock, block(1));
    check(Method::Commit, commit());
    check(Method::Query, Ask::Query(RequestQuery::default()));
}

#[test]
fn a_panic_of_the_application_is_an_error_with_its_words() {
    let world = World::unix(quick());
    world.app.panics.store(true, Ordering::SeqCst);
    let mut client = world.client();
    client.send(block(1));
    client.expect_exception("panicked: told to panic");
    let failure = world.server.failure().expect("the chain is halted");
    assert!(failure.starts_with("FinalizeBlock: "), "{failure}");
}

#[test]
fn an_engine_that_begins_anew_is_told_what_the_application_has() {
    let world = World::unix(quick());
    world.app.height.store(41, Ordering::SeqCst);
    let mut client = world.client();
    client.send(Ask::InitChain(RequestInitChain::default()));
    client.expect_exception("the application is at height 41, the engine begins at 0");
    assert!(world.server.failure().unwrap().contains("Restore both from the same moment"));
    assert!(world.app.calls().is_empty(), "the state is untouched");
}

#[test]
fn an_engine_of_another_abci_is_told_which_one_to_run() {
    #[track_caller]
    fn check(abci_version: &str, is_refused: bool) {
        let world = World::unix(quick());
        let mut client = world.client();
        client.send(Ask::Info(RequestInfo {
            version: "9.8.7".to_owned(),
            abci_version: abci_version.to_owned(),
            ..RequestInfo::default()
        }));
        match is_refused {
            true => client.expect_exception("CometBFT 9.8.7"),
            false => assert!(matches!(client.next(), Some(Say::Info(_)))),
        }
        assert_eq!(world.server.failure(), None, "the right engine may come yet");
    }
    check("2.0.0", false);
    check("", false);
    check("1.0.0", true);
    check("2.3.0", true);
    check("20.0.0", true);
}

#[test]
fn an_engine_that_leaves_after_the_handshake_leaves_advice() {
    let world = World::unix(quick());
    world.app.height.store(7, Ordering::SeqCst);
    // Looking in, without a word.
    drop(world.client());
    world.wait_for_open(0);
    assert_eq!(world.server.advice(), None);
    let (mut query, consensus) = (world.client(), world.client());
    query.call(Ask::Info(RequestInfo::default()));
    drop(query);
    world.wait_for_open(1);
    assert_eq!(world.server.advice(), None, "its other connection is here");
    drop(consensus);
    world.wait_for_open(0);
    let advice = world.server.advice().expect("it came, asked and left");
    assert!(advice.contains("(7)") && advice.contains("restore both"), "{advice}");
    // One that goes on needs none, whenever it leaves.
    let mut client = world.client();
    client.call(Ask::Info(RequestInfo::default()));
    assert!(matches!(client.call(block(8)), Say::FinalizeBlock(_)));
    assert_eq!(world.server.advice(), None);
    client.call(Ask::Info(RequestInfo::default()));
    drop(client);
    world.wait_for_open(0);
    assert_eq!(world.server.advice(), None);
}

#[test]
fn a_stop_waits_for_the_commit_in_hand_and_answers_it() {
    for world in World::each(Limits::default()) {
        let mut client = world.client();
        let mut idle = world.client();
        assert!(matches!(client.call(block(1)), Say::FinalizeBlock(_)));
        *world.app.holds_commit.lock().unwrap() = true;
        // What comes behind it is not begun any more.
        client.write(&[framed(commit()), framed(block(2))].concat());
        world.app.wait_for("commit");
        thread::scope(|scope| {
            let stopping = scope.spawn(|| world.server.stop());
            assert_eq!(idle.next(), None, "who waits for nothing is let go");
            assert!(!stopping.is_finished(), "the Commit goes on");
            world.app.release();
            assert_eq!(client.next(), Some(COMMITTED));
            assert_eq!(client.next(), None);
            stopping.join().unwrap();
        });
        assert_eq!(world.app.calls(), ["finalize 1", "commit", "committed"]);
        assert_eq!(Arc::strong_count(&world.app), 2, "no thread is left that could call it");
        if let ListenAddr::Unix(path) = world.server.local_addr() {
            assert!(!path.exists());
        }
        world.server.stop(); // Again, and nothing happens.
    }
}

#[test]
fn who_does_not_read_its_answers_holds_up_no_stop() {
    for world in World::each(Limits::default()) {
        let mut client = world.client();
        let request = framed(echo(&"x".repeat(1 << 20)));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..64 {
                    client.try_write(&request); // Until nothing fits into any buffer.
                }
            });
            let echoes = || world.server.counters().method(Method::Echo).requests;
            wait_until("a first answer", || echoes() > 0);
            world.server.stop();
        });
        assert_eq!(world.server.counters().connections_open, 0);
    }
}

#[test]
fn a_second_server_on_the_same_address_is_refused() {
    for world in World::each(Limits::default()) {
        let at = world.server.local_addr();
        let error = Server::start(Arc::new(Script::default()), at, Limits::default()).unwrap_err();
        assert!(matches!(error, ServerError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&at.to_string()), "{error}");
        assert_eq!(world.client().call(echo("still mine")), echoed("still mine"));
        world.server.stop();
        let next = Server::start(Arc::new(Script::default()), at, Limits::default()).unwrap();
        assert_eq!(Client::connect(next.local_addr()).call(echo("now")), echoed("now"));
    }
}

#[test]
fn a_socket_file_is_private_and_replaces_only_a_dead_one() {
    let start = |at: &ListenAddr| Server::start(Arc::new(Script::default()), at, Limits::default());
    let dir = Dir::new();
    let at = socket_in(&dir);
    let path = dir.path().join("abci.sock");
    drop(UnixListener::bind(&path).unwrap()); // The file of a process that was killed.
    assert!(path.exists());
    let server = start(&at).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Somebody else's file in its place is not ours to remove.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "notes").unwrap();
    server.stop();
    assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    let error = start(&at).unwrap_err();
    assert!(matches!(error, ServerError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    let error = start(&ListenAddr::Unix(dir.path().join("no/such/dir/abci.sock"))).unwrap_err();
    assert!(matches!(error, ServerError::Bind { .. }), "{error}");
}

#[test]
fn counters_count_what_was_asked_and_what_went_over_the_wire() {
    let world = World::unix(Limits::default());
    let mut client = world.client();
    let sent = framed(echo("abc")).len() as u64;
    assert_eq!(client.call(echo("abc")), echoed("abc"));
    assert!(matches!(client.call(block(1)), Say::FinalizeBlock(_)));
    let counters = world.server.counters();
    assert_eq!(counters.received_bytes, sent + framed(block(1)).len() as u64);
    // An answer may be here before it is counted.
    wait_until("bytes sent", || world.server.counters().sent_bytes > sent);
    assert_eq!((counters.connections_open, counters.connections_accepted), (1, 1));
    for method in Method::ALL {
        let count = counters.method(method);
        let expected = matches!(method, Method::Echo | Method::FinalizeBlock);
        assert_eq!((count.requests, count.errors), (u64::from(expected), 0), "{method}");
        assert_eq!(count.seconds > 0.0, expected, "{method}");
    }
}

/// What arrives: bytes of chance, requests, and requests with a byte changed.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        ".{0,20}".prop_map(|text| framed(echo(&text))),
        any::<i64>().prop_map(|height| framed(block(height))),
        Just(framed(commit())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|tx| {
            framed(Ask::CheckTx(RequestCheckTx { tx: tx.into(), ..RequestCheckTx::default() }))
        }),
    ];
    let changed = (request.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    let part = prop_oneof![
        2 => request,
        2 => changed,
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each message that is a request gets one answer, the first that is none an exception.
    #[test]
    fn no_bytes_break_the_server_or_get_an_answer_that_was_not_asked_for(bytes in any_bytes()) {
        static WORLD: OnceLock<World> = OnceLock::new();
        let world = WORLD.get_or_init(|| {
            let dir = Dir::new();
            fs::remove_dir_all(dir.path()).unwrap(); // Nothing drops a static value.
            let tcp = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
            World::at(&tcp, dir, Limits { message_bytes_max: 1 << 16, ..Limits::default() })
        });
        let mut client = world.client();
        client.try_write(&bytes);
        client.end_writing();
        let mut frames = Frames::new(1 << 16);
        frames.extend(&bytes);
        let mut is_executed = false;
        loop {
            let request = match frames.next_frame() {
                Ok(None) => break, // The rest never became a message.
                Ok(Some(frame)) => Request::decode(frame).ok().and_then(|request| request.value),
                Err(_) => None,
            };
            let is_refused = match &request {
                None => true,
                Some(Ask::Commit(_)) => !is_executed,
                Some(Ask::Info(info)) => {
                    !(info.abci_version.is_empty() || info.abci_version.starts_with("2.0."))
                }
                Some(_) => false,
            };
            match &request {
                Some(Ask::FinalizeBlock(_)) => is_executed = true,
                Some(Ask::Commit(_)) => is_executed = false,
                _ => {}
            }
            let said = client.next();
            prop_assert_eq!(matches!(said, Some(Say::Exception(_))), is_refused, "{:?}", said);
            if is_refused {
                break;
            }
            prop_assert!(said.is_some());
        }
        prop_assert_eq!(client.next(), None);
        prop_assert_eq!(world.server.failure(), None);
    }
}
