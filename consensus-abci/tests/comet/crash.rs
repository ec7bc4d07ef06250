//! Death of either process at every step, and at any moment: the chain goes on as if nothing was.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use consensus_abci::fail::Step;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::load::{Acknowledged, Load};
use crate::node::{Node, Transport};
use crate::twin::{Replayed, replay};

/// Moments of `kill -9` in the long run, and where its seed may come from.
const MOMENTS: usize = 50;
const SEED: &str = "SUTANTRA_CRASH_SEED";
/// CometBFT's ten sites in the order of one block: votes (twice, the first site), five times while
/// the block is finalized, four around FinalizeBlock and Commit.
const FAIL_INDICES: u32 = 11;

/// Ends the load, lets the chain go on a little, and holds it against an uncrashed twin.
#[track_caller]
fn check_twin(node: &mut Node, load: Load) -> (Replayed, Acknowledged) {
    let acknowledged = load.stop();
    node.wait_for_blocks(2);
    let replayed = replay(node.rpc(), &acknowledged);
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    assert!(replayed.done > 10 && replayed.done >= acknowledged.len(), "{replayed:?}");
    (replayed, acknowledged)
}

/// R107: at each of CometBFT's own fail points; the application stays.
#[test]
fn comet_dies_at_each_of_its_fail_points_and_the_chain_goes_on() {
    let mut node = Node::new(Transport::Unix);
    node.start_app(None);
    let load = Load::start(node.rpc());
    for index in 0..FAIL_INDICES {
        node.start_comet(Some(index));
        let status = node.wait_for_comet_end();
        assert_eq!(status.code(), Some(1), "fail point {index}");
        assert!(node.log().contains(&format!("*** fail-test {index} ***")), "{index}");
        node.start_comet(None);
        node.wait_for_blocks(3);
        node.kill_comet();
    }
    node.start_comet(None);
    node.wait_for_blocks(2);
    check_twin(&mut node, load);
}

/// R107: at each of the application's own; CometBFT then ends by itself.
#[test]
fn the_application_dies_at_each_of_its_steps_and_the_chain_goes_on() {
    let mut node = Node::new(Transport::Unix);
    let load = Load::start(node.rpc());
    let crash = |node: &mut Node, step: Step, height: u64| {
        node.start_app(Some((step, height)));
        node.start_comet(None);
        node.app().wait_for_end();
        node.end_comet_without_app();
        node.kill_app();
    };
    // The genesis state, while there is no block.
    let at_genesis = [
        Step::BeforeInitChain,
        Step::Prepared,
        Step::BeforeBatch,
        Step::AfterBatch,
        Step::AfterInitChain,
    ];
    for step in at_genesis {
        crash(&mut node, step, 0);
    }
    let mut height = 3;
    for step in Step::ALL.into_iter().skip(2) {
        crash(&mut node, step, height);
        node.start();
        let now = node.wait_for_height(height + 2);
        node.kill_app();
        node.end_comet_without_app();
        // The chain may have gone on until its end was seen.
        height = now + 30;
    }
    node.start();
    node.wait_for_blocks(2);
    check_twin(&mut node, load);
}

/// Kills whom chance says, when chance says.
fn kill_at_random_moments(moments: usize, seed: u64) -> String {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = Node::new(Transport::Unix);
    node.start();
    let mut height = node.wait_for_height(1);
    let load = Load::start(node.rpc());
    let (mut apps, mut comets, mut hung, mut slowest) = (0, 0, 0, Duration::ZERO);
    for _ in 0..moments {
        let wait = Duration::from_micros(rng.random_range(0..400_000));
        thread::sleep(wait); // The moment itself is what is tested.
        height = node.rpc().height().unwrap_or(height);
        let victim = rng.random_range(0..3);
        if victim != 1 {
            node.kill_app();
            apps += 1;
        }
        if victim != 0 {
            node.kill_comet();
            comets += 1;
        }
        if victim == 0 && node.end_comet_without_app() {
            hung += 1;
        }
        let begin = Instant::now();
        if node.app.is_none() {
            node.start_app(None);
        }
        node.start_comet(None);
        // One block may have been decided since; the next one was made after the return.
        height = node.wait_for_height(height + 2);
        slowest = slowest.max(begin.elapsed());
    }
    let (Replayed { heights, txs, done }, acknowledged) = check_twin(&mut node, load);
    format!(
        "seed {seed}: {moments} moments, {apps} kills of the application, {comets} of CometBFT \
         (and {hung} since it hung without the application); \
         {heights} heights, {txs} transactions ({done} done, {} waited for) equal to the twin's; \
         slowest return {} ms",
        acknowledged.len(),
        slowest.as_millis()
    )
}

/// R107: `kill -9` under load, a few times; which moments is chance, who dies is not.
#[test]
fn whoever_is_killed_under_load_the_state_is_that_of_an_uncrashed_twin() {
    println!("{}", kill_at_random_moments(6, 5));
}

/// The long form; `cargo xtask soak` runs it.
#[test]
#[ignore = "a minute: an item of `cargo xtask soak`"]
fn fifty_kills_under_load_leave_the_state_of_an_uncrashed_twin() {
    let seed = env::var(SEED).ok().and_then(|text| text.parse().ok());
    println!("{}", kill_at_random_moments(MOMENTS, seed.unwrap_or_else(rand::random)));
}

/// R107: an application that lost blocks is given them again; one that lost all, too.
#[test]
fn an_application_that_is_behind_or_empty_is_brought_to_its_engine() {
    let mut node = Node::new(Transport::Tcp);
    node.start();
    let load = Load::start(node.rpc());
    node.wait_for_height(10);
    // CometBFT first, so that the application's end is one between blocks.
    node.kill_comet();
    node.app.take().expect("it runs").stop();
    let older = node.dir.path().join("older");
    copy_dir(&node.app_dir(), &older);
    node.start();
    let now = node.wait_for_blocks(10);
    node.kill_comet();
    node.kill_app();
    fs::remove_dir_all(node.app_dir()).unwrap();
    copy_dir(&older, &node.app_dir());
    node.start();
    let now = node.wait_for_height(now + 5);
    assert!(node.log().contains("Applying block"), "the blocks between were executed again");
    node.kill_comet();
    node.kill_app();
    fs::remove_dir_all(node.app_dir()).unwrap();
    node.start();
    node.wait_for_height(now + 5);
    check_twin(&mut node, load);
}

/// R107: the engine refuses to go on, and the application says what that means and what to do.
#[test]
fn an_application_ahead_of_its_engine_is_told_so_and_rebuilt_without_its_data() {
    let mut node = Node::new(Transport::Unix);
    node.start();
    let load = Load::start(node.rpc());
    node.wait_for_height(5);
    node.kill_comet();
    let older = node.dir.path().join("older");
    let data = node.dir.path().join("data");
    copy_dir(&data, &older);
    node.start_comet(None);
    let ahead = node.wait_for_blocks(5);
    let acknowledged = load.stop();
    assert!(!acknowledged.is_empty());
    node.kill_comet();
    // An older copy of the engine's data, then none.
    for is_empty in [false, true] {
        match is_empty {
            true => node.forget_blocks(),
            false => {
                fs::remove_dir_all(&data).unwrap();
                copy_dir(&older, &data);
            }
        }
        node.kill_app();
        node.start();
        assert!(!node.wait_for_comet_end().success());
        let advice = node.app().wait_for("ADVICE");
        assert!(advice.contains("is ahead of this engine"), "{advice}");
        let height: u64 =
            advice.split(['(', ')']).nth(1).and_then(|text| text.parse().ok()).unwrap();
        assert!(height + 1 >= ahead, "{advice}");
    }
    // What the sentence says helps.
    fs::remove_dir_all(&data).unwrap();
    copy_dir(&older, &data);
    node.kill_app();
    fs::remove_dir_all(node.app_dir()).unwrap();
    node.start();
    let load = Load::start(node.rpc());
    node.wait_for_blocks(10);
    check_twin(&mut node, load);
}

/// A full disk halts the chain with a sentence; with room again it goes on where it was.
#[test]
fn a_full_disk_of_the_application_stops_the_chain_and_room_lets_it_go_on() {
    let mut node = Node::new(Transport::Unix);
    node.start();
    let load = Load::start(node.rpc());
    let before = node.wait_for_height(5);
    node.app().fill_the_disk();
    let failure = node.app().wait_for("FAILURE");
    assert!(failure.starts_with("Commit: "), "{failure}");
    node.end_comet_without_app();
    // As long as the disk is full an engine that comes again gets the sentence, and goes.
    node.start_comet(None);
    assert!(!node.wait_for_comet_end().success());
    assert!(node.log().contains("the chain is halted: Commit: "));
    node.kill_app();
    node.start();
    node.wait_for_height(before + 5);
    check_twin(&mut node, load);
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
