//! Death in the middle of a restore: empty again, or whole; never half.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use consensus_abci::fail::{self, Step};

use crate::{
    chain::*,
    world::{Dir, content},
};

/// `source directory|target directory|step|number` for the child.
const CHILD: &str = "SUTANTRA_RESTORE_TEST_CHILD";
const STEPS: [Step; 3] = [Step::RestoredChunk, Step::BeforeSwitch, Step::AfterSwitch];

#[test]
fn a_restore_that_dies_leaves_an_empty_or_a_whole_state() {
    let mut world = chain(large_genesis());
    world.skip(5);
    let snapshot = snapshot_of(&world.app, 5);
    let chunks = chunks_of(&world.app, &snapshot);
    let head = world.app.snapshot().head();
    let state = content(&world.app.snapshot());
    let last = chunks.len() as u64 - 1;
    let source = world.dir.path().to_owned();
    let crate::world::World { app, dir: _dir, .. } = world;
    drop(app);
    for (at, number, is_whole) in
        [(0, 0, false), (0, last / 2, false), (0, last, false), (1, 5, false), (2, 5, true)]
    {
        let dir = Dir::new();
        let order = format!("{}|{}|{at}|{number}", source.display(), dir.path().display());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::a_child_process_restores", "--nocapture"])
            .env(CHILD, order)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        assert!(!child.wait().unwrap().success(), "it dies at {:?} {number}", STEPS[at]);
        let app = open(dir.path());
        if is_whole {
            assert_eq!(app.snapshot().head(), head);
        } else {
            assert_eq!(app.snapshot().head(), None, "{:?} {number}", STEPS[at]);
            assert!(content(&app.snapshot()).is_empty());
            take(&app, &snapshot, &chunks, &head.unwrap().app_hash);
        }
        assert!(content(&app.snapshot()) == state);
        assert_eq!(app.snapshot().chain_id(), chain_id());
    }
}

/// The body of the child; by itself it only returns.
#[test]
fn a_child_process_restores() {
    let Ok(order) = env::var(CHILD) else { return };
    let [source, target, at, number]: [&str; 4] =
        order.split('|').collect::<Vec<_>>().try_into().expect("four parts");
    let source = open(Path::new(source));
    let snapshot = snapshot_of(&source, 5);
    let chunks = chunks_of(&source, &snapshot);
    let app_hash = source.snapshot().head().unwrap().app_hash;
    fail::arm(STEPS[at.parse::<usize>().unwrap()], number.parse().unwrap());
    take(&open(Path::new(target)), &snapshot, &chunks, &app_hash);
}
