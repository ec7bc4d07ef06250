//! The life of a session on its lane: which state follows from the facts, and what its gate is then.
//!
//! A pure function of the state before and the facts now; [`crate::decide`] gathers the facts and
//! carries out what the new state asks for. The table is that of the protocol (payments, "Lane
//! life").

use chain_types::{Balance, GateReason, LaneState};

/// More disputed media than this within [`DISPUTE_WINDOW_NS`] stops the media.
pub const DISPUTED_MS_MAX: u64 = 6_000;
/// The time over which disputed media is summed, ns.
pub const DISPUTE_WINDOW_NS: u64 = 60_000_000_000;
/// How long after the media was stopped each trial follows, seconds; the last repeats.
pub const TRIAL_AFTER_S: [u64; 4] = [5, 10, 20, 40];
/// A trial is one slot of usage, ns.
pub const TRIAL_NS: u64 = 500_000_000;
/// A trial of which nothing is known after this time has failed: its slots are decided within 1.5 s
/// and reported within 0.2 s.
pub const TRIAL_PATIENCE_NS: u64 = 2_500_000_000;

/// How a session stands, with what it has to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not connected.
    Pending,
    /// Paid up, or nothing to pay: media flows.
    Active,
    /// Behind, within the grace: media flows.
    Late,
    /// No media until something changes.
    Paused {
        /// Since when, ns.
        since_ns: u64,
        /// What has to change.
        why: Pause,
    },
    /// No media but in trials.
    Disputed(Trial),
    /// Over.
    Closed(End),
}

/// Why a session is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Behind beyond the grace.
    Overdue,
    /// The channel is closing, expiring or empty.
    Channel,
    /// This relay bears no more unreserved money of the channel.
    Exposure,
}

/// Where a disputed session is in its trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Closed until then, ns.
    Waiting {
        /// Start of the next trial.
        until_ns: u64,
    },
    /// Opened for one slot.
    Running {
        /// When it began, ns.
        since_ns: u64,
    },
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Not paid: 4402.
    Unpaid,
    /// No right to watch any more: 4403.
    Denied(GateReason),
    /// Three invalid vouchers: 4400.
    Invalid,
    /// The session is closed by its peer.
    Gone,
}

/// All that a standing depends on, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Monotonic time, ns.
    pub now_ns: u64,
    /// ICE and DTLS are up.
    pub is_connected: bool,
    /// Chain, policy and token; the reason where they say no.
    pub rights: Result<(), GateReason>,
    /// What is owed on the lane; zero where nothing is charged.
    pub owed: Balance,
    /// What was paid on the lane.
    pub paid: Balance,
    /// The new terms were not agreed to: late from their height on.
    pub is_unbound: bool,
    /// What the lane may be behind: the rate for the grace, less what the channel's other lanes
    /// have used of it, since the grace is the channel's.
    pub grace: Balance,
    /// What the shortest moment of media costs, a millisecond, rounded up: with less than that left
    /// of the grace no media may flow.
    pub moment: Balance,
    /// Something besides payment stands against media.
    pub hold: Option<Pause>,
    /// The channel is finalized: nothing comes any more.
    pub is_channel_gone: bool,
    /// Vouchers so far that were invalid.
    pub invalid_vouchers: u8,
    /// Media disputed within the window, ms.
    pub disputed_ms: u64,
    /// The last usage disputed more than the one before.
    pub disputed_grew: bool,
    /// The last usage served more than the one before.
    pub served_grew: bool,
}

impl Facts {
    fn is_behind(&self) -> bool {
        self.owed > self.paid || self.is_unbound
    }

    /// Behind by so much that more media would be beyond the grace: the gate has to be shut.
    fn is_overdue(&self) -> bool {
        let behind = self.owed.saturating_sub(self.paid);
        let next = behind.checked_add(self.moment).unwrap_or(Balance::MAX);
        !behind.is_zero() && next > self.grace
    }
}

/// Invalid vouchers that end a session.
pub const INVALID_VOUCHERS_MAX: u8 = 3;

/// A session's standing and its channel's count of trials, which outlives pauses and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The state, with its memory.
    pub standing: Standing,
    /// Trials that were waited for since the path was last good.
    pub trials: u8,
}

impl Default for Machine {
    fn default() -> Self {
        Self { standing: Standing::Pending, trials: 0 }
    }
}

impl Machine {
    /// The state's name for the peer.
    pub fn state(&self) -> LaneState {
        match self.standing {
            Standing::Pending => LaneState::Pending,
            Standing::Active => LaneState::Active,
            Standing::Late => LaneState::Late,
            Standing::Paused { .. } => LaneState::Paused,
            Standing::Disputed(_) => LaneState::Disputed,
            Standing::Closed(_) => LaneState::Closed,
        }
    }

    /// What follows from the facts. `pause_max_ns`: how long a pause may last.
    #[must_use]
    pub fn next(self, facts: &Facts, pause_max_ns: u64) -> Self {
        let Self { standing, mut trials } = self;
        if facts.disputed_ms <= DISPUTED_MS_MAX && facts.served_grew {
            trials = 0;
        }
        // Each time longer, also where a trial went well and the media after it did not.
        let mut disputed = || {
            let after_s = TRIAL_AFTER_S[usize::from(trials).min(TRIAL_AFTER_S.len() - 1)];
            trials = trials.saturating_add(1);
            let until_ns = facts.now_ns.saturating_add(after_s * 1_000_000_000);
            Standing::Disputed(Trial::Waiting { until_ns })
        };
        let pause = |why| Standing::Paused { since_ns: facts.now_ns, why };
        let next = match (standing, end(facts)) {
            (Standing::Closed(_), _) => standing,
            (_, Some(end)) => Standing::Closed(end),
            (Standing::Pending, None) if !facts.is_connected => Standing::Pending,
            // The prepay was asked for at admission; meanwhile the lane's other sessions used it.
            (Standing::Pending, None) if facts.is_behind() => Standing::Closed(End::Unpaid),
            // A new session does not make a path good: else denying would pay by reconnecting.
            (Standing::Pending, None) if facts.disputed_ms > DISPUTED_MS_MAX => disputed(),
            (Standing::Paused { since_ns, why }, None) => match facts.hold {
                _ if facts.now_ns.saturating_sub(since_ns) >= pause_max_ns => {
                    Standing::Closed(End::Unpaid)
                }
                Some(why) => Standing::Paused { since_ns, why },
                None if facts.is_overdue() => Standing::Paused { since_ns, why: Pause::Overdue },
                // Who was overdue pays all; a hold that ends leaves who is within the grace late.
                None if facts.is_behind() && why == Pause::Overdue => standing,
                None if facts.is_behind() => Standing::Late,
                None => Standing::Active,
            },
            (Standing::Disputed(trial), None) => match (trial, facts.hold) {
                (_, Some(why)) => pause(why),
                (_, None) if facts.is_overdue() => pause(Pause::Overdue),
                (Trial::Waiting { until_ns }, None) if facts.now_ns >= until_ns => {
                    Standing::Disputed(Trial::Running { since_ns: facts.now_ns })
                }
                (Trial::Waiting { .. }, None) => standing,
                (Trial::Running { .. }, None) if facts.served_grew && !facts.disputed_grew => {
                    if facts.is_behind() {
                        Standing::Late
                    } else {
                        Standing::Active
                    }
                }
                (Trial::Running { since_ns }, None)
                    if facts.disputed_grew
                        || facts.now_ns.saturating_sub(since_ns) >= TRIAL_PATIENCE_NS =>
                {
                    disputed()
                }
                (Trial::Running { .. }, None) => standing,
            },
            (Standing::Pending | Standing::Active | Standing::Late, None) => {
                if let Some(why) = facts.hold {
                    pause(why)
                } else if facts.is_overdue() {
                    pause(Pause::Overdue)
                } else if facts.disputed_grew && facts.disputed_ms > DISPUTED_MS_MAX {
                    disputed()
                } else if facts.is_behind() {
                    Standing::Late
                } else {
                    Standing::Active
                }
            }
        };
        Self { standing: next, trials }
    }

    /// What the gate is in this state. Its deadlines by access and by money come on top.
    pub fn gate(&self, facts: &Facts) -> GateWish {
        match self.standing {
            Standing::Active => GateWish::Open,
            Standing::Late => {
                let behind = facts.owed.saturating_sub(facts.paid);
                let half = Balance::new(facts.grace.units() / 2).expect("half of an amount is one");
                if behind > half { GateWish::Lowest } else { GateWish::Open }
            }
            Standing::Disputed(Trial::Running { since_ns }) => {
                GateWish::Until { at_ns: since_ns.saturating_add(TRIAL_NS) }
            }
            Standing::Pending
            | Standing::Paused { .. }
            | Standing::Disputed(Trial::Waiting { .. })
            | Standing::Closed(_) => GateWish::Closed,
        }
    }

    /// When time alone changes the state next, ns.
    pub fn wakes_at(&self, pause_max_ns: u64) -> Option<u64> {
        match self.standing {
            Standing::Paused { since_ns, .. } => Some(since_ns.saturating_add(pause_max_ns)),
            Standing::Disputed(Trial::Waiting { until_ns }) => Some(until_ns),
            Standing::Disputed(Trial::Running { since_ns }) => {
                Some(since_ns.saturating_add(TRIAL_PATIENCE_NS))
            }
            Standing::Pending | Standing::Active | Standing::Late | Standing::Closed(_) => None,
        }
    }
}

/// What ends any session.
fn end(facts: &Facts) -> Option<End> {
    if let Err(reason) = facts.rights {
        return Some(End::Denied(reason));
    }
    if facts.invalid_vouchers >= INVALID_VOUCHERS_MAX {
        return Some(End::Invalid);
    }
    facts.is_channel_gone.then_some(End::Unpaid)
}

/// The gate that a state asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateWish {
    /// No media.
    Closed,
    /// All that rights allow.
    Open,
    /// The lowest layer.
    Lowest,
    /// All that rights allow, until then.
    Until {
        /// Monotonic time, ns.
        at_ns: u64,
    },
}

impl Pause {
    /// As the peer is told.
    pub const fn reason(self) -> GateReason {
        match self {
            Self::Overdue => GateReason::Overdue,
            Self::Channel => GateReason::Channel,
            Self::Exposure => GateReason::Exposure,
        }
    }
}

impl End {
    /// Code of the last frame: HTTP's number and 4000.
    pub const fn code(self) -> u16 {
        match self {
            Self::Unpaid => 4402,
            Self::Denied(_) => 4403,
            Self::Invalid => 4400,
            Self::Gone => 4404,
        }
    }

    /// The last frame's sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unpaid => "Payment required",
            Self::Denied(GateReason::Expired) => {
                "your access has expired: buy a ticket or ask for one"
            }
            Self::Denied(GateReason::Stream) => "the stream has ended, or its policy has changed",
            Self::Denied(_) => "your access was taken back",
            Self::Invalid => "three vouchers were invalid: reload, and check the wallet's key",
            Self::Gone => "the session has ended",
        }
    }
}

/// What was disputed on a channel, whichever of its sessions it was.
#[derive(Debug, Clone, Default)]
pub struct Disputes {
    /// Of the last minute.
    pub window: DisputeWindow,
    /// See [`Machine::trials`].
    pub trials: u8,
}

/// Disputed media of the last minute.
#[derive(Debug, Clone, Default)]
pub struct DisputeWindow {
    /// (when, ms), oldest first; at most one entry for each usage report of a minute.
    entries: std::collections::VecDeque<(u64, u64)>,
}

impl DisputeWindow {
    /// More was disputed; what has left the window is dropped.
    pub fn add(&mut self, now_ns: u64, ms: u64) {
        if ms == 0 {
            return;
        }
        while self.entries.front().is_some_and(|(at, _)| !is_within(*at, now_ns)) {
            self.entries.pop_front();
        }
        self.entries.push_back((now_ns, ms));
    }

    /// What is in the window now, ms.
    pub fn sum_ms(&self, now_ns: u64) -> u64 {
        self.entries.iter().filter(|(at, _)| is_within(*at, now_ns)).map(|(_, ms)| ms).sum()
    }
}

fn is_within(at_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(at_ns) < DISPUTE_WINDOW_NS
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
