//! Peers in the rooms of a real coordinator, on the loopback.

#![allow(clippy::unwrap_used)] // A test may panic.

mod support;

use peer::{
    event::Event,
    files::{self, FileId, Inbox, Received, Word},
    framing::{Compression, Kind, Message},
    signal::{SignalError, Transport},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc;

use support::{Coordinator, Someone, within};

fn noise(len_bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..len_bytes).map(|_| next()).collect()
}

async fn check(first: Transport, second: Transport) {
    let coordinator = Coordinator::start().await;
    let mut a = Someone::join(&coordinator, "ann", first).await;
    let mut b = Someone::join(&coordinator, "bob", second).await;
    let (to_a, to_b) = (a.id(), b.id());
    a.connected_to(&to_b).await;
    b.connected_to(&to_a).await;
    // Short, long enough to be deflated, and in fragments.
    for body in [noise(10), vec![7; 5000], noise(300_000)] {
        for (from, to, reader) in [(&a.peer, &to_b, &mut b.events), (&b.peer, &to_a, &mut a.events)]
        {
            let message = Message::bytes(Kind::Application, body.clone());
            from.send(Some(to), message.clone(), Compression::Auto).await.unwrap();
            assert_eq!(support::message(reader).await, message, "{first} {second}");
        }
    }
    b.leave().await;
    a.until(|event| matches!(event, Event::Disconnected { id, was_open: true, .. } if *id == to_b))
        .await;
    a.leave().await;
}

/// R66, R101, R103
#[tokio::test(flavor = "multi_thread")]
async fn two_peers_open_a_channel_over_websockets() {
    check(Transport::WebSocket, Transport::WebSocket).await;
}

/// R66
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_polls_and_one_with_a_websocket_open_a_channel() {
    check(Transport::Poll, Transport::WebSocket).await;
    check(Transport::WebSocket, Transport::Poll).await;
}

/// R66
#[tokio::test(flavor = "multi_thread")]
async fn two_peers_that_poll_open_a_channel() {
    check(Transport::Poll, Transport::Poll).await;
}

/// R83, R117
#[tokio::test(flavor = "multi_thread")]
async fn three_peers_that_come_one_by_one_are_a_mesh_of_verified_channels() {
    let coordinator = Coordinator::start().await;
    let mut all = Vec::new();
    for name in ["ann", "bob", "cid"] {
        all.push(Someone::join(&coordinator, name, Transport::Auto).await);
    }
    let ids: Vec<_> = all.iter().map(Someone::id).collect();
    for someone in &mut all {
        let own = someone.id();
        for id in ids.iter().filter(|id| **id != own) {
            assert!(someone.connected_to(id).await, "the fingerprint is signed");
        }
        let others = someone.peer.connected().await;
        assert_eq!(others.len(), 2, "{others:?}");
    }
    // A message to all reaches each of the others once.
    let hello = Message::text(Kind::Application, "hello all");
    all[0].peer.send(None, hello.clone(), Compression::Auto).await.unwrap();
    for someone in &mut all[1..] {
        assert_eq!(support::message(&mut someone.events).await, hello);
    }
    for someone in all {
        someone.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_five_megabytes_arrives_intact() {
    let coordinator = Coordinator::start().await;
    let mut a = Someone::join(&coordinator, "ann", Transport::WebSocket).await;
    let mut b = Someone::join(&coordinator, "bob", Transport::WebSocket).await;
    let (to_a, to_b) = (a.id(), b.id());
    b.connected_to(&to_a).await;
    a.connected_to(&to_b).await;

    let directory = TempDir::new().unwrap();
    let (from, to) = (directory.path().join("five.bin"), directory.path().join("to"));
    let bytes = noise(5_000_000);
    std::fs::write(&from, &bytes).unwrap();
    std::fs::create_dir(&to).unwrap();

    let (words, mut heard) = mpsc::channel(8);
    let sender = a.peer.clone();
    let sending = tokio::spawn(async move {
        let mut last = None;
        let id = FileId::new([9; 16]);
        let progress = |progress| last = Some(progress);
        let result = files::send(&sender, &to_b, &from, id, &mut heard, progress).await;
        (result, last.unwrap())
    });
    let mut a_events = a.events;
    let listening = tokio::spawn(async move {
        while let Some(event) = a_events.recv().await {
            if let Event::Message { message, .. } = event
                && let Some(word) = Word::read(&message)
                && words.send(word).await.is_err()
            {
                return;
            }
        }
    });
    let mut inbox = Inbox::new(Some(to.clone()));
    let receiving = async {
        loop {
            let message = support::message(&mut b.events).await;
            let (answer, received) = inbox.handle(&to_a, &message);
            if let Some(word) = answer {
                let peer = b.peer.clone();
                let to = to_a.clone();
                tokio::spawn(async move {
                    peer.send(Some(&to), word.message(), Compression::Auto).await.unwrap();
                });
            }
            match received {
                Some(Received::Whole { path, size }) => return (path, size),
                Some(Received::Failed { reason, .. }) => panic!("{reason}"),
                Some(Received::Begun { .. } | Received::Piece { .. }) | None => {}
            }
        }
    };
    let (path, size) = within("the file", receiving).await;
    let (result, last) = within("the sender", sending).await.unwrap();
    result.unwrap();
    assert_eq!((last.sent, last.size, size), (5_000_000, 5_000_000, 5_000_000));
    assert_eq!(path, to.join("five.bin"));
    assert_eq!(Sha256::digest(std::fs::read(path).unwrap()), Sha256::digest(&bytes));
    listening.abort();
    a.peer.close().await;
    b.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_room_without_an_invite_is_refused_with_a_sentence() {
    let coordinator = Coordinator::start().await;
    let room = format!("p:{}", "a".repeat(32));
    for transport in [Transport::WebSocket, Transport::Poll] {
        let mut someone = Someone::enter(&coordinator, "ann", transport, &room).await;
        let refused = someone.until(|event| matches!(event, Event::Refused(_))).await;
        let Event::Refused(error) = refused else { panic!("{refused:?}") };
        let is_named = matches!(error, SignalError::Forbidden { .. } | SignalError::Refused { .. });
        assert!(is_named, "{transport}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_not_there_is_a_sentence_at_once() {
    let port = support::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut someone = Someone::enter_at(&url, "ann", Transport::Auto, "global").await;
    let refused = someone.until(|event| matches!(event, Event::Refused(_))).await;
    let Event::Refused(error) = refused else { panic!("{refused:?}") };
    assert!(matches!(error, SignalError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} cannot be reached")), "{error}");
}

/// R99
#[tokio::test(flavor = "multi_thread")]
async fn channels_outlive_a_coordinator_and_peers_find_the_next_one() {
    let mut coordinator = Coordinator::start().await;
    let mut a = Someone::join(&coordinator, "ann", Transport::WebSocket).await;
    let mut b = Someone::join(&coordinator, "bob", Transport::Poll).await;
    let (to_a, to_b) = (a.id(), b.id());
    a.connected_to(&to_b).await;
    b.connected_to(&to_a).await;
    coordinator.stop();
    for someone in [&mut a, &mut b] {
        someone.until(|event| matches!(event, Event::CoordinatorLost { .. })).await;
    }
    let hello = Message::text(Kind::Application, "still here");
    a.peer.send(Some(&to_b), hello.clone(), Compression::Auto).await.unwrap();
    assert_eq!(support::message(&mut b.events).await, hello);
    coordinator.start_again().await;
    for someone in [&mut a, &mut b] {
        someone.until(|event| matches!(event, Event::Joined { .. })).await;
    }
    // The third is offered to nobody twice: one channel to each.
    let mut c = Someone::join(&coordinator, "cid", Transport::WebSocket).await;
    for id in [&to_a, &to_b] {
        c.connected_to(id).await;
    }
    assert_eq!(a.peer.connected().await.len(), 2);
    for someone in [a, b, c] {
        someone.leave().await;
    }
}

/// Runs the command as a program does, on a thread of its own.
fn command(
    flags: Vec<String>,
    key: std::path::PathBuf,
) -> std::thread::JoinHandle<Result<(), String>> {
    std::thread::spawn(move || {
        let flags = std::iter::once("peer".to_owned()).chain(flags);
        let matches =
            peer::command().try_get_matches_from(flags).map_err(|error| error.to_string())?;
        peer::run(&matches, &key).map_err(|error| format!("{error:#}"))
    })
}

async fn ended(thread: std::thread::JoinHandle<Result<(), String>>) -> Result<(), String> {
    let join = tokio::task::spawn_blocking(|| thread.join().unwrap());
    within("the command's end", join).await.unwrap()
}

/// R83, R103
#[tokio::test(flavor = "multi_thread")]
async fn two_commands_pass_a_file_and_end() {
    let coordinator = Coordinator::start().await;
    let directory = TempDir::new().unwrap();
    let (file, inbox) = (directory.path().join("a file.txt"), directory.path().join("inbox"));
    std::fs::write(&file, noise(100_000)).unwrap();
    std::fs::create_dir(&inbox).unwrap();
    let flags = |name: &str, more: &[&str]| {
        let seed = coordinator.url();
        let own = ["--seed", &seed, "--name", name, "--bind", "127.0.0.1", "--json"];
        own.iter().chain(more).map(|flag| (*flag).to_owned()).collect::<Vec<_>>()
    };
    let key = |name: &str| directory.path().join("keys").join(name);
    let receive = ["--receive", inbox.to_str().unwrap(), "--exit-after-received"];
    let receiver = command(flags("bob", &receive), key("bob"));
    let send = ["--send", file.to_str().unwrap(), "--to", "bob", "--exit-after-sent"];
    let sender = command(flags("ann", &send), key("ann"));
    assert_eq!(ended(sender).await, Ok(()));
    assert_eq!(ended(receiver).await, Ok(()));
    assert_eq!(std::fs::read(inbox.join("a file.txt")).unwrap(), noise(100_000));
    assert!(key("ann").exists() && key("bob").exists(), "each has made its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_is_wrong_and_ends() {
    let coordinator = Coordinator::start().await;
    let directory = TempDir::new().unwrap();
    let (seed, room) = (coordinator.url(), format!("p:{}", "b".repeat(32)));
    let nobody = format!("http://127.0.0.1:{}", support::free_port());
    for (flags, sentence) in [
        (vec!["--seed", &nobody], "cannot be reached"),
        (vec!["--seed", &seed, "--room", &room], &room),
        (vec!["--seed", &seed, "--room", "NO"], "is no room"),
        (vec!["--seed", "nowhere"], "is no URL"),
    ] {
        let flags = flags.into_iter().map(str::to_owned).collect();
        let error = ended(command(flags, directory.path().join("key"))).await.unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }
}
