//! The operator's limits change while viewers watch.

use chain_types::{Balance, Policy};
use settlement::{
    Refusal,
    decide::{Config, Input, Limits},
};

use crate::rig::{RATE, Rig, Viewer, config, creator};

fn limits(config: Config) -> Limits {
    let Config { cadence_ms, grace_ms, exposure_seconds, serve_free, min_share_bps, .. } = config;
    Limits { cadence_ms, grace_ms, exposure_seconds, serve_free, min_share_bps }
}

fn reconfigure(rig: &mut Rig, config: Config) {
    rig.input(Input::Reconfigured(Box::new(limits(config))));
}

/// R112
#[test]
fn other_limits_are_in_the_next_terms_and_end_no_session() {
    let mut rig = Rig::new(|_| {});
    let (viewer, session) = rig.watching(10);
    let before = rig.terms();
    reconfigure(&mut rig, Config { cadence_ms: 2_000, grace_ms: 5_000, ..config() });
    let after = rig.terms();
    assert_eq!((before.cadence_ms, before.grace_ms), (1_000, 3_000));
    assert_eq!((after.cadence_ms, after.grace_ms), (2_000, 5_000));
    assert!(after.min_prepay > before.min_prepay, "a longer cadence is prepaid");
    assert!(rig.is_open(session) && rig.end_of(session).is_none());
    // It still pays by the terms that it was bound to, and is still acknowledged.
    rig.usage(session, 1_000, 0);
    rig.pay(session, viewer.pay(&before, 3 * u128::from(RATE)));
    assert_eq!(rig.decider.counters().vouchers_accepted, 2);
    // Who was told the old terms is told the new ones, and is let in by them.
    let late = Viewer::new(11);
    rig.chain.open(&late, 1_000_000_000, 900_000_000);
    rig.block();
    let mut stale = rig.request(&late, 4 * u128::from(RATE));
    stale.bind = Some(late.signed_bind(&before));
    assert!(rig.admit(&stale).is_err());
    let fresh = rig.request(&late, after.min_prepay.units());
    rig.join(&fresh);
}

#[test]
fn a_shorter_grace_holds_for_those_who_watch_already() {
    let media_until = |grace_ms| {
        let mut rig = Rig::new(|_| {});
        let (_, session) = rig.watching(10);
        reconfigure(&mut rig, Config { grace_ms, ..config() });
        let mut served_ms = 0;
        while rig.is_open(session) && served_ms < 60_000 {
            rig.after(500);
            rig.usage(session, 500, 0);
            served_ms += 500;
        }
        assert_eq!(rig.end_of(session), None, "it is paused, not ended");
        served_ms
    };
    let (short, long) = (media_until(500), media_until(8_000));
    assert!(short < long && long < 60_000, "{short} {long}");
}

#[test]
fn a_relay_may_begin_and_cease_to_serve_a_creators_viewers_for_nothing() {
    let mut rig = Rig::new(|stream| {
        stream.policy = Policy::Paid;
        stream.split[0].creator_bps = 9_500;
    });
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 900_000_000);
    rig.block();
    let request = rig.request(&viewer, 2 * u128::from(RATE));
    // The split leaves 500 of 10,000, and 1,000 is asked.
    assert!(matches!(rig.admit(&request), Err(Refusal::Share)));
    reconfigure(&mut rig, Config { min_share_bps: 0, ..config() });
    let session = rig.join(&request);
    reconfigure(&mut rig, config());
    assert!(rig.is_open(session), "admitted under the old limit, it stays");
    let creator = chain_types::AccountId::from(&creator());
    reconfigure(&mut rig, Config { serve_free: vec![creator], ..config() });
    assert_eq!(rig.end_of(session), None);
    assert_eq!(rig.decider.counters().exposure_units, Balance::ZERO.units());
}
