//! A disk that takes no more: the commit is an error, the old state stays, nothing is lost later.
//!
//! Alone in its binary: the limit on file sizes holds for the whole process.

#[path = "app/world.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod world;

use chain_types::Payload;
use consensus_abci::{
    app::App,
    application::{Application, Method},
};
use world::*;

/// Lets files be written up to so many bytes.
fn limit_files(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both take plain values; with the signal ignored a write beyond the limit fails with
    // EFBIG, as it does with ENOSPC on a full disk.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
fn a_full_disk_fails_the_commit_and_leaves_whole_blocks_only() {
    check(RoomAgain::AfterTheEnd);
    check(RoomAgain::Before);
}

#[derive(PartialEq)]
enum RoomAgain {
    Before,
    AfterTheEnd,
}

#[track_caller]
fn check(room: RoomAgain) {
    let mut world = World::new();
    let transfer = || Payload::Transfer { to: id("relay"), amount: sut(5) };
    world.done("viewer", transfer());
    let deltas = world.app.subscribe(8);
    let before = (content(&world.app.snapshot()), world.app.snapshot().head());
    let block = world.request(vec![world.sign("viewer", transfer())]);
    let first = world.app.finalize_block(block.clone()).expect("a sound chain");

    limit_files(1);
    let error = world.app.commit().expect_err("there is no room");
    assert_eq!(error.method, Method::Commit);
    assert!(!error.reason.is_empty());
    let now = (content(&world.app.snapshot()), world.app.snapshot().head());
    assert!(now == before, "nothing is visible that is not durable");
    assert!(deltas.try_recv().is_err(), "nobody is told what did not happen");
    if room == RoomAgain::Before {
        limit_files(libc::RLIM_INFINITY);
    }
    // What reached the disk is known only after reopening: until then nothing more is taken.
    world.app.finalize_block(block.clone()).expect("a sound chain");
    assert!(world.app.commit().is_err());
    let World { app, dir, .. } = world;
    drop(app);
    limit_files(libc::RLIM_INFINITY);

    let app = App::open(dir.path()).expect("a sound chain");
    let head = app.snapshot().head().expect("a sound chain");
    if head.height == 1 {
        assert!((content(&app.snapshot()), app.snapshot().head()) == before);
        assert_eq!(app.finalize_block(block).expect("a sound chain"), first);
        app.commit().expect("a sound chain");
    } else {
        // The block was decided, and got to the disk whole after all.
        assert!(room == RoomAgain::Before, "there was no room for it");
    }
    let head = app.snapshot().head().expect("a sound chain");
    assert_eq!((head.height, &head.app_hash[..]), (2, &first.app_hash[..]));
    assert!(app.snapshot().audit().expect("a sound chain").is_balanced());
}
