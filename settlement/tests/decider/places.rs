//! Places on a lane, one for each Bind, and vouchers that promise more than there is.

use chain_types::{Balance, Frame};
use settlement::{
    Admit, Refusal,
    decide::{Input, LANE_SESSIONS_MAX},
};
use sfu::ports::SessionKey;

use crate::rig::{RATE, Rig, Viewer};

const PREPAY: u128 = 2 * RATE as u128;

/// A viewer with a channel of one SUT, none of its transports connected.
fn payer() -> (Rig, Viewer) {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 900_000_000);
    rig.block();
    (rig, viewer)
}

/// A request of the same wallet from another transport.
fn from(rig: &Rig, viewer: &Viewer, fingerprint: u8) -> Admit {
    rig.request(&Viewer { fingerprint: [fingerprint; 32], ..viewer.clone() }, PREPAY)
}

fn begin(rig: &mut Rig, request: &Admit) -> SessionKey {
    let admission = rig.admit(request).expect("it is let in");
    rig.begin(&admission)
}

fn connect(rig: &mut Rig, session: SessionKey) {
    rig.input(Input::Connected { session });
}

/// §1: the same Bind twice is the same slot. Who repeats what it saw holds one place and no more.
#[test]
fn a_bind_that_is_shown_again_replaces_what_it_had_and_counts_once() {
    let (mut rig, viewer) = payer();
    let lane = rig.lane(&viewer, &rig.terms());
    let request = from(&rig, &viewer, 1);
    let sessions: Vec<_> = (0..60).map(|_| begin(&mut rig, &request)).collect();
    let (last, replaced) = sessions.split_last().expect("sixty");
    for session in replaced {
        assert_eq!(rig.end_of(*session), Some(4404));
    }
    assert_eq!(rig.end_of(*last), None);
    assert_eq!(rig.decider.viewers_on(&lane), 0, "nobody is connected");
    for fingerprint in 2..=4 {
        let request = from(&rig, &viewer, fingerprint);
        rig.join(&request);
    }
    assert_eq!(rig.end_of(*last), None, "there was a place for each");
    connect(&mut rig, *last);
    assert!(rig.is_open(*last));
    assert_eq!(rig.decider.viewers_on(&lane), LANE_SESSIONS_MAX);
}

#[test]
fn a_replaced_admission_is_void_when_its_session_begins_late() {
    let (mut rig, viewer) = payer();
    let request = from(&rig, &viewer, 1);
    let first = rig.admit(&request).expect("it is let in");
    let second = rig.admit(&request).expect("it is let in");
    let late = rig.begin(&first);
    assert_eq!(rig.end_of(late), Some(4408));
    let session = rig.begin(&second);
    connect(&mut rig, session);
    assert!(rig.is_open(session));
}

#[test]
fn a_repeated_bind_does_not_end_who_is_connected_until_it_connects_itself() {
    let (mut rig, viewer) = payer();
    let request = from(&rig, &viewer, 1);
    let watching = rig.join(&request);
    for _ in 0..5 {
        begin(&mut rig, &request);
    }
    assert!(rig.is_open(watching) && rig.end_of(watching).is_none());
    let again = rig.join(&request);
    assert!(rig.is_open(again));
    assert_eq!(rig.end_of(watching), Some(4404));
}

#[test]
fn where_all_places_are_taken_the_oldest_that_is_not_connected_gives_way() {
    let (mut rig, viewer) = payer();
    let requests: Vec<_> = (1..=7).map(|at| from(&rig, &viewer, at)).collect();
    let connected = rig.join(&requests[0]);
    let oldest = begin(&mut rig, &requests[1]);
    let younger = begin(&mut rig, &requests[2]);
    let admitted = rig.admit(&requests[3]).expect("it is let in");
    let fifth = begin(&mut rig, &requests[4]);
    assert_eq!(rig.end_of(oldest), Some(4404));
    let others = [connected, younger, fifth];
    assert!(others.iter().all(|session| rig.end_of(*session).is_none()));
    connect(&mut rig, younger);
    connect(&mut rig, fifth);
    // Admitted and not begun is not connected either.
    let sixth = rig.join(&requests[5]);
    let late = rig.begin(&admitted);
    assert_eq!(rig.end_of(late), Some(4408));
    assert_eq!(rig.admit(&requests[6]), Err(Refusal::Sessions), "four are connected");
    assert!([connected, younger, fifth, sixth].iter().all(|session| rig.is_open(*session)));
}

#[test]
fn a_voucher_beyond_what_its_channel_can_pay_is_refused_and_not_booked() {
    let (mut rig, viewer) = payer();
    let terms = rig.terms();
    let lane = rig.lane(&viewer, &terms);
    let all = 1_000_000_000;
    let paid = |rig: &Rig| rig.decider.book().get(&lane).map_or(0, |lane| lane.paid().units());
    for cumulative in [all + 1, Balance::MAX.units()] {
        let mut voucher = viewer.voucher(&terms, PREPAY);
        voucher.cumulative = Balance::new(cumulative).expect("an amount");
        let signed = voucher.sign(&viewer.voucher_key, crate::rig::CHAIN);
        let request = Admit { voucher: Some(signed), ..rig.request(&viewer, PREPAY) };
        let refused = rig.admit(&request).expect_err("nobody could be paid by it");
        assert_eq!((refused.http_status(), refused.code()), (402, "channel_refused"));
        assert_eq!((paid(&rig), rig.log.len()), (0, 0));
    }
    let request = rig.request(&viewer, PREPAY);
    let session = rig.join(&request);
    for _ in 0..5 {
        let said = rig.pay(session, viewer.pay(&terms, all + 1));
        let is_refused = |frame: &Frame| matches!(frame, Frame::Error { code: 402, .. });
        assert!(said.iter().any(is_refused), "{said:?}");
    }
    assert_eq!(paid(&rig), PREPAY);
    assert!(rig.is_open(session), "it is no invalid voucher: a top-up may be on its way");
    rig.chain.channel(viewer.channel, |channel| channel.deposits = Balance::of(2_000_000_000));
    rig.block();
    rig.pay(session, viewer.pay(&terms, all + 1));
    assert_eq!(paid(&rig), all + 1);
}

#[test]
fn all_that_a_channel_holds_can_be_promised_also_after_part_of_it_was_paid_out() {
    let (mut rig, viewer) = payer();
    let terms = rig.terms();
    let request = rig.request(&viewer, PREPAY);
    let session = rig.join(&request);
    let paid = rig.chain.redeem(&[viewer.pay(&terms, PREPAY)]);
    assert_eq!(paid.units(), PREPAY);
    rig.block();
    let lane = rig.lane(&viewer, &terms);
    assert_eq!(rig.decider.payable(&lane).units(), 1_000_000_000);
    rig.pay(session, viewer.pay(&terms, 1_000_000_000));
    let lane = rig.decider.book().get(&lane).expect("it is in the books");
    assert_eq!(lane.paid().units(), 1_000_000_000);
}
