//! Whether new sessions are well taken here now, and if not, why, in words for `/readyz`.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::metrics::{Disk, EndpointSight};

/// A clock, or a block, that is further off is no present.
pub const APART_MAX: Duration = Duration::from_secs(5);
/// With less room the next block or voucher may not be written, bytes.
pub const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Why a node is not ready; the names are labels of `sutantra_unready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It ends.
    Draining,
    /// No block will follow.
    Halted,
    /// No block follows.
    Stale,
    /// This machine's clock is wrong.
    Clock,
    /// Vouchers cannot be kept.
    Books,
    /// Nothing can be written soon.
    Disk,
    /// Nobody tells what the chain does.
    Endpoints,
}

impl Reason {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Draining,
        Self::Halted,
        Self::Stale,
        Self::Clock,
        Self::Books,
        Self::Disk,
        Self::Endpoints,
    ];

    /// For labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Halted => "halted",
            Self::Stale => "stale",
            Self::Clock => "clock",
            Self::Books => "books",
            Self::Disk => "disk",
            Self::Endpoints => "endpoints",
        }
    }

    /// For the body of an answer.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Halted => "chain_halted",
            Self::Stale => "chain_stale",
            Self::Clock => "clock_wrong",
            Self::Books => "books_unsafe",
            Self::Disk => "disk_full",
            Self::Endpoints => "chain_unreachable",
        }
    }
}

/// One reason, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// Which.
    pub reason: Reason,
    /// What is the matter, and the remedy.
    pub sentence: String,
}

/// What readiness rests on, at one moment.
#[derive(Debug, Clone)]
pub struct Vitals<'a> {
    /// The node ends.
    pub is_draining: bool,
    /// Of a node with a chain.
    pub chain: Option<ChainVitals>,
    /// Of the file system of the home.
    pub disk: Option<Disk>,
    /// Of a remote chain.
    pub endpoints: &'a [EndpointSight],
}

/// The chain and the books at one moment.
#[derive(Debug, Clone, Default)]
pub struct ChainVitals {
    /// Why no block will follow.
    pub halted: Option<String>,
    /// Of the newest block; 0 before the first.
    pub height: u64,
    /// Its time, unix ms.
    pub block_time_ms: u64,
    /// The node keeps books.
    pub has_books: bool,
    /// Vouchers can be kept now.
    pub are_books_safe: bool,
}

/// Remembers when the chain last moved, so that a wrong clock is told from a chain that stands.
#[derive(Debug, Default)]
pub struct Readiness {
    moved: Mutex<Option<(u64, Option<Instant>)>>,
}

impl Readiness {
    /// Why not; empty: ready. The weightiest first.
    pub fn unready(&self, now: (Instant, SystemTime), vitals: &Vitals<'_>) -> Vec<Unready> {
        let mut found = Vec::new();
        let clock = clock_by_endpoints(vitals.endpoints);
        if vitals.is_draining {
            found.push((Reason::Draining, "This relay is stopping; use another.".to_owned()));
        }
        if let Some(chain) = &vitals.chain {
            // Always, so that each look remembers.
            let is_moving = self.is_moving(now.0, chain.height);
            let by_block = || of_block(now.1, chain, is_moving);
            found.extend(halted(chain).or_else(|| if clock.is_none() { by_block() } else { None }));
            found.extend(books(chain));
        }
        found.extend(clock);
        found.extend(vitals.disk.and_then(disk));
        found.extend(endpoints(vitals.endpoints));
        found.sort_by_key(|(reason, _)| *reason);
        found.into_iter().map(|(reason, sentence)| Unready { reason, sentence }).collect()
    }

    /// Whether a block came within the last seconds; `None`: this is the first look.
    fn is_moving(&self, now: Instant, height: u64) -> Option<bool> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *moved {
            None => {
                *moved = Some((height, None));
                None
            }
            Some((known, at)) => {
                if height != *known {
                    (*known, *at) = (height, Some(now));
                }
                Some(at.is_some_and(|at| now.saturating_duration_since(at) <= APART_MAX))
            }
        }
    }
}

type Found = Option<(Reason, String)>;

fn halted(chain: &ChainVitals) -> Found {
    let why = chain.halted.as_ref()?;
    let sentence = format!(
        "The chain has stopped ({why}): mend that, such as by freeing disk space, and start the node again."
    );
    Some((Reason::Halted, sentence))
}

fn of_block(now: SystemTime, chain: &ChainVitals, is_moving: Option<bool>) -> Found {
    if chain.height == 0 {
        let sentence = "There is no block yet: wait for the first, or look at the log.";
        return Some((Reason::Stale, sentence.to_owned()));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let block = Duration::from_millis(chain.block_time_ms);
    let apart = now.abs_diff(block);
    if apart <= APART_MAX {
        return None;
    }
    let seconds = apart.as_secs();
    if block > now {
        return Some(wrong_clock(seconds, "behind the newest block"));
    }
    match is_moving {
        Some(true) => Some(wrong_clock(seconds, "ahead of the chain, whose blocks keep coming")),
        Some(false) | None => Some((
            Reason::Stale,
            format!(
                "The newest block is {seconds} s old: the chain stands, or this node does not hear of it, or this machine's clock is ahead; look at the log, the peers and the clock (timedatectl)."
            ),
        )),
    }
}

fn wrong_clock(seconds: u64, how: &str) -> (Reason, String) {
    let sentence = format!(
        "This machine's clock is {seconds} s {how}: set it (timedatectl set-ntp true, or chronyc makestep)."
    );
    (Reason::Clock, sentence)
}

/// By the clock of the endpoint in the middle, so that one alone cannot put the node out of service.
fn clock_by_endpoints(endpoints: &[EndpointSight]) -> Found {
    let mut ahead: Vec<f64> = endpoints
        .iter()
        .filter(|endpoint| endpoint.is_up)
        .filter_map(|endpoint| endpoint.clock_ahead_seconds)
        .collect();
    if ahead.len() < 2 {
        return None;
    }
    ahead.sort_by(f64::total_cmp);
    // Of two the nearer one.
    let (low, high) = (ahead[(ahead.len() - 1) / 2], ahead[ahead.len() / 2]);
    let off = if low.abs() < high.abs() { low } else { high };
    if off.abs() <= APART_MAX.as_secs_f64() {
        return None;
    }
    let seconds = Duration::from_secs_f64(off.abs().min(1e9)).as_secs();
    let how = if off > 0.0 { "behind" } else { "ahead of" };
    Some(wrong_clock(seconds, &format!("{how} the endpoints of the chain")))
}

fn books(chain: &ChainVitals) -> Found {
    (chain.has_books && !chain.are_books_safe).then(|| {
        let sentence = "Vouchers cannot be written to settlement/ of the home, so nobody is admitted: free disk space, or mend its permissions.";
        (Reason::Books, sentence.to_owned())
    })
}

fn disk(disk: Disk) -> Found {
    (disk.free_bytes < FREE_BYTES_MIN).then(|| {
        let (left, needed) = (disk.free_bytes >> 20, FREE_BYTES_MIN >> 20);
        let sentence = format!(
            "The disk of the home has {left} MiB left, and {needed} are needed: free some, or move the home with --home DIR."
        );
        (Reason::Disk, sentence)
    })
}

fn endpoints(endpoints: &[EndpointSight]) -> Found {
    let is_gone = !endpoints.is_empty() && endpoints.iter().all(|endpoint| !endpoint.is_up);
    is_gone.then(|| {
        let count = endpoints.len();
        let sentence = format!(
            "None of the {count} endpoints of --chain-rpc gives answers that hold: the log says why each of them; look at the network (sutantra-node doctor), or name others."
        );
        (Reason::Endpoints, sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_800_000_000_000;

    fn at(seconds: u64) -> (Instant, SystemTime) {
        // One origin for all, as a process has.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let origin = *ORIGIN.get_or_init(Instant::now);
        let unix = UNIX_EPOCH + Duration::from_millis(START_MS) + Duration::from_secs(seconds);
        (origin + Duration::from_secs(seconds), unix)
    }

    fn chain(height: u64, block_s: i64) -> ChainVitals {
        let block_time_ms = START_MS.checked_add_signed(block_s * 1000).expect("a time");
        ChainVitals { height, block_time_ms, has_books: true, are_books_safe: true, halted: None }
    }

    fn vitals(chain: ChainVitals) -> Vitals<'static> {
        Vitals { is_draining: false, chain: Some(chain), disk: None, endpoints: &[] }
    }

    #[track_caller]
    fn check(found: &[Unready], expected: &[(Reason, &str)]) {
        let reasons: Vec<_> = found.iter().map(|unready| unready.reason).collect();
        assert_eq!(reasons, expected.iter().map(|(reason, _)| *reason).collect::<Vec<_>>());
        for (unready, (_, words)) in found.iter().zip(expected) {
            assert!(unready.sentence.contains(words), "{}", unready.sentence);
        }
    }

    #[test]
    fn a_chain_that_goes_on_under_a_right_clock_is_ready() {
        let readiness = Readiness::default();
        check(&readiness.unready(at(0), &vitals(chain(7, 0))), &[]);
        check(&readiness.unready(at(5), &vitals(chain(8, 0))), &[]);
        let relay = Vitals { is_draining: false, chain: None, disk: None, endpoints: &[] };
        check(&readiness.unready(at(900), &relay), &[]);
    }

    #[test]
    fn a_chain_that_stands_is_told_from_a_clock_that_is_wrong() {
        let readiness = Readiness::default();
        check(&readiness.unready(at(0), &vitals(chain(7, 0))), &[]);
        let stands = [(Reason::Stale, "is 6 s old")];
        check(&readiness.unready(at(6), &vitals(chain(7, 0))), &stands);
        // Ten minutes ahead: old blocks, but new ones.
        let ahead = [(Reason::Clock, "clock is 600 s ahead of the chain")];
        check(&readiness.unready(at(10), &vitals(chain(8, -590))), &ahead);
        let behind = [(Reason::Clock, "clock is 600 s behind the newest block")];
        check(&readiness.unready(at(11), &vitals(chain(9, 611))), &behind);
        // Seen for the first time, old is old.
        let first = [(Reason::Stale, "600 s old")];
        check(&Readiness::default().unready(at(0), &vitals(chain(7, -600))), &first);
        let none = [(Reason::Stale, "no block yet")];
        check(&Readiness::default().unready(at(0), &vitals(chain(0, 0))), &none);
    }

    #[test]
    fn each_cause_is_named_with_its_remedy_and_the_weightiest_comes_first() {
        let full = Disk { free_bytes: 3 << 20, size_bytes: 1 << 40 };
        let halted = ChainVitals { halted: Some("no space left".to_owned()), ..chain(7, 0) };
        let unsafe_books = ChainVitals { are_books_safe: false, ..halted };
        let all = Vitals { is_draining: true, disk: Some(full), ..vitals(unsafe_books) };
        check(
            &Readiness::default().unready(at(0), &all),
            &[
                (Reason::Draining, "use another"),
                (Reason::Halted, "no space left"),
                (Reason::Books, "free disk space"),
                (Reason::Disk, "3 MiB left, and 64 are needed"),
            ],
        );
        let labels: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::label).into();
        let codes: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::code).into();
        assert!(labels.len() == Reason::ALL.len() && codes.len() == Reason::ALL.len());
    }

    #[test]
    fn endpoints_are_gone_when_none_answers_and_one_wrong_clock_is_not_ours() {
        let up = |ahead| EndpointSight {
            is_up: true,
            clock_ahead_seconds: Some(ahead),
            ..EndpointSight::default()
        };
        let gone = EndpointSight::default();
        #[track_caller]
        fn ask(endpoints: &[EndpointSight], expected: &[(Reason, &str)]) {
            let vitals = Vitals { endpoints, ..vitals(chain(7, 0)) };
            check(&Readiness::default().unready(at(0), &vitals), expected);
        }
        ask(&[gone, up(0.1)], &[]);
        ask(&[gone, gone], &[(Reason::Endpoints, "None of the 2 endpoints")]);
        ask(&[up(600.0), up(-0.2)], &[]);
        ask(&[up(600.0)], &[]);
        ask(&[up(600.0), up(599.0)], &[(Reason::Clock, "clock is 599 s behind the endpoints")]);
        let three = [up(-60.0), up(-61.0), up(0.0)];
        ask(&three, &[(Reason::Clock, "clock is 60 s ahead of the endpoints")]);
    }
}
