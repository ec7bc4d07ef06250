use super::*;

const RATE: u64 = 1_000;
const PAUSE_MAX_NS: u64 = 60_000_000_000;

/// Paid up, connected, undisturbed.
fn good() -> Facts {
    Facts {
        now_ns: 1_000_000_000_000,
        is_connected: true,
        rights: Ok(()),
        owed: Balance::of(5 * RATE),
        paid: Balance::of(5 * RATE),
        is_unbound: false,
        grace: Balance::of(3 * RATE),
        moment: Balance::of(1),
        hold: None,
        is_channel_gone: false,
        invalid_vouchers: 0,
        disputed_ms: 0,
        disputed_grew: false,
        served_grew: true,
    }
}

/// Behind by so many ms of the rate.
fn behind(ms: u64) -> Facts {
    let arrears = Balance::of(ms * RATE / 1000);
    Facts { owed: good().paid.checked_add(arrears).expect("small"), ..good() }
}

fn disputed(ms: u64) -> Facts {
    Facts { disputed_ms: ms, disputed_grew: true, served_grew: false, ..good() }
}

const PAUSED: Standing = Standing::Paused { since_ns: 1_000_000_000_000, why: Pause::Overdue };

fn held(why: Pause) -> Standing {
    Standing::Paused { since_ns: 1_000_000_000_000, why }
}

fn waiting(after_s: u64) -> Standing {
    Standing::Disputed(Trial::Waiting { until_ns: good().now_ns + after_s * 1_000_000_000 })
}

const RUNNING: Standing = Standing::Disputed(Trial::Running { since_ns: 1_000_000_000_000 });

#[track_caller]
fn check(from: Standing, facts: Facts, to: Standing) {
    let machine = Machine { standing: from, trials: 0 };
    assert_eq!(machine.next(&facts, PAUSE_MAX_NS).standing, to);
}

/// The table of the protocol, row by row, and the refused beside the taken way.
#[test]
fn the_lane_lives_as_tabled() {
    use Standing::{Active, Closed, Late, Pending};
    // Pending
    check(Pending, Facts { is_connected: false, ..good() }, Pending);
    check(Pending, good(), Active);
    check(Pending, behind(1), Closed(End::Unpaid));
    check(Pending, Facts { hold: Some(Pause::Exposure), ..good() }, held(Pause::Exposure));
    check(Pending, Facts { disputed_ms: 6_001, ..good() }, waiting(5));
    // Active
    check(Active, good(), Active);
    check(Active, behind(1), Late);
    check(Active, Facts { is_unbound: true, ..good() }, Late);
    // Late
    check(Late, behind(1), Late);
    // At the grace to the unit not a moment more may flow.
    check(Late, behind(2_999), Late);
    check(Late, behind(3_000), PAUSED);
    check(Late, good(), Active);
    // Others' debts alone do not stop who is paid up; with its own they do.
    let used = Balance::ZERO;
    check(Active, Facts { grace: used, ..good() }, Active);
    check(Late, Facts { grace: used, ..behind(1) }, PAUSED);
    // Paused
    check(PAUSED, behind(9_000), PAUSED);
    check(PAUSED, behind(1), PAUSED);
    check(PAUSED, good(), Active);
    let later = |facts: Facts, ms: u64| Facts { now_ns: facts.now_ns + ms * 1_000_000, ..facts };
    check(PAUSED, later(behind(9_000), 59_999), PAUSED);
    check(PAUSED, later(behind(9_000), 60_000), Closed(End::Unpaid));
    check(PAUSED, Facts { is_channel_gone: true, ..behind(9_000) }, Closed(End::Unpaid));
    for why in [Pause::Channel, Pause::Exposure] {
        check(Active, Facts { hold: Some(why), ..good() }, held(why));
        check(Late, Facts { hold: Some(why), ..behind(1) }, held(why));
        check(held(why), Facts { hold: Some(why), ..good() }, held(why));
        check(held(why), good(), Active);
        check(held(why), behind(1), Late);
        check(held(why), behind(3_000), PAUSED);
    }
    // Disputed
    check(Active, disputed(6_000), Active);
    check(Active, disputed(6_001), waiting(5));
    check(Late, Facts { disputed_ms: 6_001, disputed_grew: true, ..behind(1) }, waiting(5));
    // What was disputed before a path got better does not count against it.
    check(Active, Facts { disputed_ms: 9_000, ..good() }, Active);
    check(waiting(5), later(good(), 4_999), waiting(5));
    check(waiting(0), good(), RUNNING);
    check(RUNNING, Facts { served_grew: false, ..good() }, RUNNING);
    check(RUNNING, good(), Active);
    check(RUNNING, behind(1), Late);
    check(RUNNING, disputed(9_000), waiting(5));
    check(waiting(5), behind(3_000), PAUSED);
    check(waiting(5), Facts { hold: Some(Pause::Channel), ..good() }, held(Pause::Channel));
    // A trial of which nothing is heard has failed.
    let silent = Facts { served_grew: false, ..good() };
    let until_ns = good().now_ns + 2_500_000_000 + 5_000_000_000;
    let failed = Standing::Disputed(Trial::Waiting { until_ns });
    check(RUNNING, later(silent, 2_500), failed);
}

#[test]
fn rights_and_invalid_vouchers_end_any_state() {
    let all = [Standing::Pending, Standing::Active, Standing::Late, PAUSED, waiting(5), RUNNING];
    for from in all {
        let reason = GateReason::Revoked;
        let revoked = Facts { rights: Err(reason), ..good() };
        check(from, revoked, Standing::Closed(End::Denied(reason)));
        let invalid = |invalid_vouchers| Facts { invalid_vouchers, ..good() };
        check(from, invalid(3), Standing::Closed(End::Invalid));
        let spared = Machine { standing: from, trials: 0 }.next(&invalid(2), PAUSE_MAX_NS);
        assert!(!matches!(spared.standing, Standing::Closed(_)));
    }
    check(Standing::Closed(End::Gone), good(), Standing::Closed(End::Gone));
}

#[test]
fn the_gate_is_open_while_media_is_due_and_lowest_beyond_half_the_grace() {
    #[track_caller]
    fn gate(standing: Standing, facts: Facts, expected: GateWish) {
        assert_eq!(Machine { standing, trials: 0 }.gate(&facts), expected);
    }
    gate(Standing::Pending, good(), GateWish::Closed);
    gate(Standing::Active, good(), GateWish::Open);
    gate(Standing::Late, behind(1_500), GateWish::Open);
    gate(Standing::Late, behind(1_501), GateWish::Lowest);
    gate(PAUSED, good(), GateWish::Closed);
    gate(waiting(5), good(), GateWish::Closed);
    gate(RUNNING, good(), GateWish::Until { at_ns: good().now_ns + TRIAL_NS });
    gate(Standing::Closed(End::Gone), good(), GateWish::Closed);
}

#[test]
fn trials_follow_ever_later_until_the_path_is_good() {
    let mut machine = Machine { standing: Standing::Active, trials: 0 };
    let mut facts = disputed(6_500);
    let mut after_s = Vec::new();
    for _ in 0..6 {
        machine = machine.next(&facts, PAUSE_MAX_NS);
        let Standing::Disputed(Trial::Waiting { until_ns }) = machine.standing else { panic!() };
        after_s.push((until_ns - facts.now_ns) / 1_000_000_000);
        facts.now_ns = until_ns;
        machine = machine.next(&facts, PAUSE_MAX_NS);
        assert!(matches!(machine.standing, Standing::Disputed(Trial::Running { .. })));
    }
    assert_eq!(after_s, [5, 10, 20, 40, 40, 40]);
    // Good again, and disputed at once: no fresh start while the window is full.
    let served = Facts { now_ns: facts.now_ns, disputed_ms: 6_500, ..good() };
    machine = machine.next(&served, PAUSE_MAX_NS);
    assert_eq!((machine.standing, machine.trials), (Standing::Active, 6));
    let again = machine.next(&facts, PAUSE_MAX_NS);
    assert!(matches!(again.standing, Standing::Disputed(_)) && again.trials == 7);
    let calm = Facts { disputed_ms: 6_000, ..served };
    assert_eq!(machine.next(&calm, PAUSE_MAX_NS).trials, 0);
}

#[test]
fn a_minute_forgets_what_was_disputed_before_it() {
    let mut window = DisputeWindow::default();
    window.add(0, 500);
    window.add(30_000_000_000, 500);
    window.add(31_000_000_000, 0);
    assert_eq!(window.sum_ms(59_999_999_999), 1_000);
    assert_eq!(window.sum_ms(60_000_000_000), 500);
    window.add(95_000_000_000, 500);
    assert_eq!(window.sum_ms(95_000_000_000), 500);
}

#[test]
fn every_end_has_its_code_and_says_what_to_do() {
    let ends = [
        (End::Unpaid, 4402, "Payment required"),
        (End::Denied(GateReason::Revoked), 4403, "taken back"),
        (End::Denied(GateReason::Expired), 4403, "expired"),
        (End::Denied(GateReason::Stream), 4403, "ended"),
        (End::Invalid, 4400, "invalid"),
        (End::Gone, 4404, "ended"),
    ];
    for (end, code, text) in ends {
        assert_eq!(end.code(), code);
        assert!(end.message().contains(text), "{}", end.message());
    }
}
