//! Manifests of chance: the same seed gives the same one.

use std::time::Duration;

use chain_types::Balance;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::manifest::{
    Action, At, Chain, Fault, Kind, Load, Manifest, Mode, Node, Perturbation, Run, Span, Stake,
    Sut, Word,
};

/// What is to be generated.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// What chance is made of.
    pub seed: u64,
    /// How long the run lasts.
    pub duration: Duration,
    /// Whether nodes make snapshots and one joins from one.
    pub has_snapshots: bool,
}

/// Of the genesis; one of them may be away without the chain standing still.
const VALIDATORS: usize = 4;
/// Until the first disturbance.
const QUIET: Duration = Duration::from_secs(15);
/// At the end nothing is disturbed any more.
const END: Duration = Duration::from_secs(40);
/// What a validator may stay away: far less than what it is jailed for.
const AWAY_MAX_SECONDS: u64 = 8;
/// What a disturbance may take at worst, so that the next one finds a whole network.
const ROOM: Duration = Duration::from_secs(12);

/// A network of four validators, one node that becomes a validator and late joiners, and one
/// disturbance after the other.
pub fn manifest(wish: Wish) -> Manifest {
    let mut rng = StdRng::seed_from_u64(wish.seed);
    let mut nodes: Vec<Node> = (0..VALIDATORS)
        .map(|at| Node {
            name: format!("v{at}"),
            mode: Mode::Validator,
            run: if at == 1 { Run::Together } else { Run::Apart },
            stake: Some(Sut(Balance::of(100_000_000_000))),
            start_at: None,
            state_sync: false,
            key_of: None,
            perturb: Vec::new(),
        })
        .collect();
    let other = |name: &str, start_at| Node {
        name: name.to_owned(),
        mode: Mode::Full,
        run: Run::Apart,
        stake: None,
        start_at,
        state_sync: false,
        key_of: None,
        perturb: Vec::new(),
    };
    nodes.push(other("joiner", None));
    nodes.push(other("late", Some(At::Height(rng.random_range(25..40)))));
    if wish.has_snapshots {
        nodes.push(Node {
            state_sync: true,
            ..other("snap", Some(At::Height(rng.random_range(60..80))))
        });
    }
    // Each word once in a while, in an order of chance, before any comes again.
    let mut words: Vec<Word> = Vec::new();
    let mut now = QUIET;
    let mut last = usize::MAX;
    while now + END < wish.duration {
        if words.is_empty() {
            words = WORDS.to_vec();
        }
        let word = words.swap_remove(rng.random_range(0..words.len()));
        let fault = fault(word, &mut rng);
        let choices: Vec<usize> = (0..=VALIDATORS).filter(|at| *at != last).collect();
        // One disk is small, and the engine of one node lives within it.
        let node = match word {
            Word::DiskFull => 2,
            Word::KillEngine => 1,
            _ => choices.choose(&mut rng).copied().unwrap_or(0),
        };
        last = node;
        nodes[node].perturb.push(Perturbation { at: At::After(now), fault, expect: Vec::new() });
        now += ROOM + span_of(&fault) + Duration::from_secs(rng.random_range(0..8));
    }
    let sut = |sut: u64| Some(Sut(Balance::of(sut * 1_000_000_000)));
    let step = |at, from: &str, action, to: Option<&str>, amount, expect: (&str, u64)| Stake {
        at: At::Height(at),
        from: from.to_owned(),
        action,
        to: to.map(str::to_owned),
        amount,
        expect: [(expect.0.to_owned(), expect.1)].into(),
    };
    let stakes = vec![
        step(15, "joiner", Action::CreateValidator, None, sut(50), ("joiner", 50)),
        step(30, "v0", Action::Delegate, Some("joiner"), sut(25), ("joiner", 75)),
        step(45, "v0", Action::Undelegate, Some("joiner"), sut(10), ("joiner", 65)),
        step(60, "joiner", Action::Redelegate, Some("v0"), sut(20), ("v0", 120)),
    ];
    let params = [("signed_window_blocks", 400), ("unbonding_ms", 600_000)];
    let params = params.map(|(name, value)| (name.to_owned(), toml::Value::Integer(value)));
    Manifest {
        chain: Chain {
            duration: Span(wish.duration),
            seed: wish.seed,
            snapshot_interval: if wish.has_snapshots { 20 } else { 0 },
            params: params.into(),
            ..Chain::default()
        },
        load: Some(Load {
            tx_per_second: rng.random_range(15..40),
            accounts: 120,
            kinds: vec![Kind::Transfer, Kind::Transfer, Kind::Channel, Kind::Stream, Kind::Stake],
        }),
        nodes,
        stakes,
    }
}

const WORDS: [Word; 12] = [
    Word::Kill,
    Word::KillApp,
    Word::KillEngine,
    Word::Pause,
    Word::Partition,
    Word::Disconnect,
    Word::Restart,
    Word::DiskFull,
    Word::TruncateWal,
    Word::TruncateStore,
    Word::AppBehind,
    Word::AppAhead,
];

fn fault(word: Word, rng: &mut StdRng) -> Fault {
    let mut span = || Duration::from_secs(rng.random_range(1..=AWAY_MAX_SECONDS));
    match word {
        Word::Kill => Fault::Kill { down: span() },
        Word::KillApp => Fault::KillApp { down: span() },
        Word::KillEngine => Fault::KillEngine { down: span() },
        Word::Pause => Fault::Pause { span: span() },
        Word::Partition => Fault::Partition { span: span() },
        Word::Disconnect => Fault::Disconnect { span: span() },
        Word::Restart => Fault::Restart,
        Word::Stop => Fault::Stop { span: Some(span()) },
        Word::DiskFull => Fault::DiskFull { span: span() },
        Word::TruncateWal => Fault::TruncateWal { bytes: rng.random_range(1..4_096) },
        Word::TruncateStore => Fault::TruncateStore { bytes: rng.random_range(1..4_096) },
        Word::AppBehind => Fault::AppBehind { blocks: rng.random_range(1..10) },
        Word::AppAhead => Fault::AppAhead { blocks: rng.random_range(1..10) },
    }
}

fn span_of(fault: &Fault) -> Duration {
    match fault {
        Fault::Kill { down } | Fault::KillApp { down } | Fault::KillEngine { down } => *down,
        Fault::Pause { span }
        | Fault::Partition { span }
        | Fault::Disconnect { span }
        | Fault::DiskFull { span } => *span,
        Fault::Stop { span } => span.unwrap_or_default(),
        // Stopped twice, with blocks between.
        Fault::AppBehind { blocks } | Fault::AppAhead { blocks } => Duration::from_secs(8 + blocks),
        Fault::Restart | Fault::TruncateWal { .. } | Fault::TruncateStore { .. } => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_manifest_that_can_be_run_and_always_the_same() {
        for seed in 0..200 {
            let wish = Wish {
                seed,
                duration: Duration::from_secs(300 + seed),
                has_snapshots: seed % 2 == 0,
            };
            let text = manifest(wish).text();
            assert_eq!(manifest(wish).text(), text);
            let read = Manifest::parse("generated", &text).expect("a good one");
            let all: Vec<_> = read.nodes.iter().flat_map(|node| &node.perturb).collect();
            assert!(all.len() >= 5, "{text}");
            // One node at a time, and none at the end.
            let mut times: Vec<Duration> = all
                .iter()
                .map(|one| match one.at {
                    At::After(span) => span + span_of(&one.fault),
                    At::Height(_) => panic!("generated by time"),
                })
                .collect();
            times.sort();
            assert!(times.last().expect("some") < &(wish.duration - Duration::from_secs(20)));
        }
    }

    #[test]
    fn a_long_run_has_every_disturbance() {
        let wish = Wish { seed: 3, duration: Duration::from_secs(1_800), has_snapshots: true };
        let made = manifest(wish);
        let all: std::collections::BTreeSet<Word> =
            made.nodes.iter().flat_map(|node| &node.perturb).map(|one| one.fault.word()).collect();
        assert_eq!(all, WORDS.into_iter().collect());
    }
}
