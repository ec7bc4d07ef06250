//! An honest viewer is never paused: payer and relay on one clock, with a network between them.

use chain_types::{Frame, LaneState, lane::payable_ms, lane::signed_total};
use rand::{Rng, SeedableRng, rngs::StdRng};
use settlement::decide::{Config, Input};

use crate::{
    media::Path,
    rig::{Rig, START_MS, Viewer, config},
};

const STEP_MS: u64 = 10;

/// What one run has shown.
struct Seen {
    /// The shortest time that a gate had left, ms.
    margin_ms: u64,
    /// Steps with a shut gate, or a state that asks for money.
    late_steps: u64,
    shut_steps: u64,
    /// Signed beyond what was served, in time, at most, ms.
    ahead_ms: u64,
    /// Signed and served at the end, ms.
    signed_ms: u64,
    served_ms: u64,
}

/// `minutes` of one viewer that signs by the common arithmetic, each cadence and never else.
fn watch(cadence_ms: u32, rtt_ms: u64, lost: f64, minutes: u64, seed: u64) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut rig = Rig::with(Config { cadence_ms, ..config() }, |_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 4_000_000_000, 3_900_000_000);
    rig.block();
    let terms = rig.terms();
    let mut signed = terms.min_prepay;
    let request = rig.request(&viewer, signed.units());
    let session = rig.join(&request);
    let mut path = Path::new(session, rtt_ms);
    // Frames on their way: when they arrive, and what they are.
    let mut to_relay: Vec<(u64, Frame)> = Vec::new();
    let mut to_viewer: Vec<(u64, Frame)> = Vec::new();
    let mut relays_served_ms = 0;
    let mut sign_at = rng.random_range(0..u64::from(cadence_ms));
    let report_phase = rng.random_range(0..200 / STEP_MS) * STEP_MS;
    let mut lost_until = 0;
    let mut seen = Seen {
        margin_ms: u64::MAX,
        late_steps: 0,
        shut_steps: 0,
        ahead_ms: 0,
        signed_ms: 0,
        served_ms: 0,
    };
    for at in (STEP_MS..=minutes * 60_000).step_by(STEP_MS as usize) {
        rig.after(STEP_MS);
        let is_open = rig.is_open(session);
        path.step(at, is_open, || {
            let is_lost = rng.random_bool(lost);
            if is_lost {
                lost_until = at + 500;
            }
            is_lost
        });
        // What is sent while everything is lost arrives by retransmission, later.
        let way_ms = |sent: u64| {
            if sent < lost_until { lost_until + rtt_ms } else { sent + rtt_ms / 2 }
        };
        if at % 200 == report_phase {
            rig.input(Input::Usage(vec![path.usage()]));
        } else if at % 50 == 0 {
            rig.input(Input::Tick);
        }
        let due = |frames: &mut Vec<(u64, Frame)>| -> Vec<Frame> {
            let (now, later) = frames.drain(..).partition::<Vec<_>, _>(|(when, _)| *when <= at);
            *frames = later;
            now.into_iter().map(|(_, frame)| frame).collect()
        };
        for frame in due(&mut to_relay) {
            rig.input(Input::Frame { session, bytes: frame.encode().into() });
        }
        to_viewer.extend(rig.said(session).into_iter().map(|frame| (way_ms(at), frame)));
        for frame in due(&mut to_viewer) {
            if let Frame::PayAck(ack) = frame {
                relays_served_ms = relays_served_ms.max(ack.served_ms);
            }
        }
        if at >= sign_at {
            sign_at += u64::from(cadence_ms);
            let payable = payable_ms(relays_served_ms, path.received_ms);
            let total = signed_total(terms.rate, payable, cadence_ms, 1);
            if total > signed {
                signed = total;
                let voucher = viewer.pay(&terms, total.units());
                to_relay.push((way_ms(at), Frame::Voucher(Box::new(voucher))));
            }
        }
        let gate = rig.gate(session);
        let left_ns = gate.valid_until_ns.unwrap_or(0).saturating_sub(rig.now.mono_ns);
        seen.margin_ms = seen.margin_ms.min(left_ns / 1_000_000);
        seen.shut_steps += u64::from(!rig.is_open(session));
        let states = rig.decider.counters().sessions_by_state;
        seen.late_steps += states[LaneState::Late as usize];
        let lane = rig.decider.book().get(&rig.lane(&viewer, &terms)).expect("it pays");
        let ahead = signed.saturating_sub(lane.owed()).units() * 1000 / u128::from(terms.rate);
        seen.ahead_ms = seen.ahead_ms.max(u64::try_from(ahead).expect("some seconds"));
        seen.served_ms = lane.served_ms;
    }
    assert_eq!(rig.now.unix_ms, START_MS + minutes * 60_000);
    let signed_ms = signed.units() * 1000 / u128::from(terms.rate);
    seen.signed_ms = u64::try_from(signed_ms).expect("some minutes");
    seen
}

/// R11
#[test]
fn an_honest_viewer_is_not_paused_at_any_cadence_distance_or_loss_up_to_a_fiftieth() {
    println!("cadence  RTT  lost  shortest deadline  most signed ahead  late");
    for cadence_ms in [1_000, 2_000, 5_000, 10_000] {
        for rtt_ms in [50, 300] {
            for (seed, lost) in [(1, 0.0), (2, 0.01), (3, 0.02)] {
                let seen = watch(cadence_ms, rtt_ms, lost, 5, seed);
                let name = format!("{cadence_ms} ms, {rtt_ms} ms, {lost}");
                println!(
                    "{cadence_ms:>5} ms {rtt_ms:>4} {lost:>5} {:>15} ms {:>15} ms {:>5} ms",
                    seen.margin_ms,
                    seen.ahead_ms,
                    seen.late_steps * STEP_MS
                );
                assert_eq!(seen.shut_steps, 0, "{name}");
                assert!(seen.served_ms > 280_000, "{name}: it was served");
                assert!(seen.ahead_ms <= 2 * u64::from(cadence_ms), "{name}: the viewer's risk");
            }
        }
    }
}

/// R28: a minute's vouchers are a minute's price and at most two cadences.
#[test]
fn a_minute_costs_a_minute_and_at_most_two_cadences_ahead() {
    for cadence_ms in [1_000, 2_000, 5_000, 10_000] {
        let seen = watch(cadence_ms, 50, 0.0, 1, 9);
        let ahead_ms = seen.signed_ms.checked_sub(seen.served_ms).expect("never behind");
        assert!((58_500..=60_000).contains(&seen.served_ms), "{}", seen.served_ms);
        assert!(ahead_ms <= 2 * u64::from(cadence_ms), "{cadence_ms}: {ahead_ms}");
    }
}

#[test]
fn the_model_sees_a_viewer_that_pays_too_late() {
    // At a tenth of the cadence that the relay expects: the bound can fail.
    let seen = watch(250, 5_000, 0.0, 1, 4);
    assert!(seen.late_steps + seen.shut_steps > 0);
}
