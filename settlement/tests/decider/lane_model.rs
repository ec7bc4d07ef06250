//! The lane machine against a slow model that keeps all that happened and counts again each time.

use chain_types::{Balance, GateReason};
use proptest::prelude::*;
use settlement::lane::{
    DISPUTED_MS_MAX, End, Facts, Machine, Pause, Standing, TRIAL_AFTER_S, TRIAL_PATIENCE_NS, Trial,
};

const RATE: u64 = 1_000_000;
const PAUSE_MAX_NS: u64 = 60_000_000_000;

/// One moment: what was so, and what followed.
#[derive(Debug, Clone, Copy)]
struct Moment {
    facts: Facts,
    row: Row,
}

/// The states of the table by name, without memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Pending,
    Active,
    Late,
    Overdue,
    Held,
    Waiting,
    Trying,
    Closed(End),
}

/// Knows nothing but the past: when a state began, and how many trials failed, it reads from there.
struct Model {
    past: Vec<Moment>,
}

impl Model {
    fn row(&self) -> Row {
        self.past.last().map_or(Row::Pending, |moment| moment.row)
    }

    /// How long the present rows have lasted, ns.
    fn since(&self, now_ns: u64, rows: &[Row]) -> u64 {
        let begin = self.past.iter().rev().take_while(|moment| rows.contains(&moment.row)).last();
        begin.map_or(0, |moment| now_ns - moment.facts.now_ns)
    }

    /// How long the present row has lasted; entered anew is counted anew.
    fn alone(&self, now_ns: u64) -> u64 {
        self.since(now_ns, &[self.row()])
    }

    /// Trials that were waited for before the present one, since the path was last calm with media
    /// served.
    fn waited(&self) -> usize {
        let waits = self.past.iter().rev().take_while(|moment| moment.row == Row::Waiting).count();
        let begin = &self.past[..=self.past.len() - waits];
        let is_calm = |facts: &Facts| facts.disputed_ms <= DISPUTED_MS_MAX && facts.served_grew;
        if begin.last().is_some_and(|begin| is_calm(&begin.facts)) {
            return 0;
        }
        let mut waited = 0;
        for at in (0..begin.len() - 1).rev() {
            let before = at.checked_sub(1).map_or(Row::Pending, |before| begin[before].row);
            waited += usize::from(begin[at].row == Row::Waiting && before != Row::Waiting);
            if is_calm(&begin[at].facts) {
                break;
            }
        }
        waited
    }

    fn next(&mut self, facts: Facts) -> Row {
        let behind = facts.owed > facts.paid || facts.is_unbound;
        // One more moment would be beyond the grace.
        let limit = facts.paid.units() + facts.grace.units();
        let beyond = facts.owed > facts.paid && facts.owed.units() + facts.moment.units() > limit;
        let paid = |row| if behind { Row::Late } else { row };
        let row = match self.row() {
            Row::Closed(end) => Row::Closed(end),
            _ if facts.rights.is_err() => {
                Row::Closed(End::Denied(facts.rights.expect_err("it was asked")))
            }
            _ if facts.invalid_vouchers >= 3 => Row::Closed(End::Invalid),
            _ if facts.is_channel_gone => Row::Closed(End::Unpaid),
            Row::Pending if !facts.is_connected => Row::Pending,
            Row::Pending if behind => Row::Closed(End::Unpaid),
            Row::Overdue | Row::Held
                if self.since(facts.now_ns, &[Row::Overdue, Row::Held]) >= PAUSE_MAX_NS =>
            {
                Row::Closed(End::Unpaid)
            }
            Row::Pending if facts.disputed_ms > DISPUTED_MS_MAX => Row::Waiting,
            _ if facts.hold.is_some() => Row::Held,
            _ if beyond => Row::Overdue,
            Row::Overdue if behind => Row::Overdue,
            Row::Overdue | Row::Held => paid(Row::Active),
            Row::Waiting => {
                let wait_s = TRIAL_AFTER_S[self.waited().min(3)];
                if self.alone(facts.now_ns) >= wait_s * 1_000_000_000 {
                    Row::Trying
                } else {
                    Row::Waiting
                }
            }
            Row::Trying if facts.served_grew && !facts.disputed_grew => paid(Row::Active),
            Row::Trying if facts.disputed_grew || self.alone(facts.now_ns) >= TRIAL_PATIENCE_NS => {
                Row::Waiting
            }
            Row::Trying => Row::Trying,
            Row::Pending | Row::Active | Row::Late => {
                if facts.disputed_grew && facts.disputed_ms > DISPUTED_MS_MAX {
                    Row::Waiting
                } else {
                    paid(Row::Active)
                }
            }
        };
        self.past.push(Moment { facts, row });
        row
    }
}

fn row_of(machine: &Machine) -> Row {
    match machine.standing {
        Standing::Pending => Row::Pending,
        Standing::Active => Row::Active,
        Standing::Late => Row::Late,
        Standing::Paused { why: Pause::Overdue, .. } => Row::Overdue,
        Standing::Paused { why: Pause::Channel | Pause::Exposure, .. } => Row::Held,
        Standing::Disputed(Trial::Waiting { .. }) => Row::Waiting,
        Standing::Disputed(Trial::Running { .. }) => Row::Trying,
        Standing::Closed(end) => Row::Closed(end),
    }
}

#[derive(Debug, Clone, Copy)]
struct Step {
    after_ms: u64,
    owed_ms: u64,
    paid_ms: u64,
    disputed_ms: u64,
    hold: Option<Pause>,
    rare: u16,
}

fn any_step() -> impl Strategy<Value = Step> {
    let after_ms = prop_oneof![8 => 50u64..1_000, 1 => 1_000u64..70_000];
    let paid_ms = prop_oneof![3 => Just(0u64), 3 => 0u64..3_000, 1 => 0u64..20_000];
    let disputed_ms = prop_oneof![4 => Just(0u64), 2 => Just(500u64), 1 => Just(7_000u64)];
    let why = prop_oneof![Just(Pause::Channel), Just(Pause::Exposure)];
    let hold = prop_oneof![12 => Just(None), 1 => why.prop_map(Some)];
    (after_ms, 0u64..4, paid_ms, disputed_ms, hold, any::<u16>()).prop_map(
        |(after_ms, slots, paid_ms, disputed_ms, hold, rare)| {
            let owed_ms = slots * 500;
            Step { after_ms, owed_ms, paid_ms, disputed_ms, hold, rare }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_is_where_the_slow_model_is(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut machine = Machine::default();
        let mut model = Model { past: Vec::new() };
        let (mut now_ns, mut owed_ms, mut paid_ms) = (1_000_000_000_000u64, 0u64, 2_000u64);
        let mut invalid_vouchers = 0;
        let mut disputes: Vec<(u64, u64)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            now_ns += step.after_ms * 1_000_000;
            owed_ms += step.owed_ms;
            paid_ms = (paid_ms + step.paid_ms).min(owed_ms + 20_000);
            disputes.push((now_ns, step.disputed_ms));
            invalid_vouchers += u8::from(step.rare % 101 == 0);
            let cost = |ms: u64| Balance::of(ms * RATE / 1000);
            let facts = Facts {
                now_ns,
                is_connected: at > 0,
                rights: if step.rare % 199 == 1 { Err(GateReason::Expired) } else { Ok(()) },
                owed: cost(owed_ms),
                paid: cost(paid_ms),
                is_unbound: step.rare % 31 == 2,
                grace: cost(u64::from(step.rare % 3) * 1_500),
                moment: cost(1),
                hold: step.hold,
                is_channel_gone: step.rare % 199 == 3,
                invalid_vouchers,
                disputed_ms: disputes
                    .iter()
                    .filter(|(when, _)| now_ns - when < 60_000_000_000)
                    .map(|(_, ms)| ms)
                    .sum(),
                disputed_grew: step.disputed_ms > 0,
                served_grew: step.owed_ms > 0,
            };
            machine = machine.next(&facts, PAUSE_MAX_NS);
            let expected = model.next(facts);
            prop_assert_eq!(row_of(&machine), expected, "step {}: {:?}", at, facts);
        }
    }
}
