//! Whole evenings in one thread: twenty viewers, three streams, honest and not, on a clock and dice
//! of a seed; MONEY crashes, its log fails, the chain stalls. What must hold is asked after each step.

use std::collections::BTreeMap;

use chain_types::{
    Balance, Frame, Policy,
    lane::{cost, payable_ms, signed_total},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use settlement::{Admit, Refusal, decide::Input};
use sfu::ports::SessionKey;

use crate::{
    media::Path,
    rig::{RATE, Rig, Viewer, stream_id},
};

const STEP_MS: u64 = 50;
const EVENING_MS: u64 = 8 * 60_000;
const RTT_MS: u64 = 60;
const CADENCE_MS: u64 = 1000;
const GRACE_MS: u64 = 3000;
/// Streams 1 and 3 are paid, 2 is for whom the chain names.
const LISTED: u8 = 2;

/// How somebody behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Signs each cadence what the common arithmetic says.
    Honest,
    /// The same, but stops for a while now and then, or for good.
    Forgetful,
    /// Pays as little as lets it in, leaves when the media stops, comes again.
    Farmer,
    /// Pays, but says often that nothing arrived, and reconnects when it is stopped for it.
    Denier,
    /// Pays far ahead in one go, then nothing until it is asked.
    Burster,
    /// Watches the stream of those whom the chain names.
    Guest,
}

struct Person {
    viewer: Viewer,
    manner: Manner,
    stream: u8,
    session: Option<(SessionKey, Path)>,
    /// No attempt to join before it, ms.
    rejoin_ms: u64,
    sign_ms: u64,
    silent_until_ms: u64,
    /// Highest cumulative amount that it signed.
    signed: Balance,
    relays_served_ms: u64,
    /// Received in sessions before this one, ms.
    received_ms: u64,
    /// Served and not denied in all sessions, ms.
    true_ms: u64,
    /// Of it, what crashes made the relay forget, ms.
    forgiven_ms: u64,
    /// When a slot was denied, ms.
    denied: Vec<u64>,
}

/// The most of each that was seen, to be printed beside its bound.
#[derive(Debug, Default)]
struct Bounds {
    viewer_ahead_ms: u64,
    relay_unpaid_ms: u64,
    forgiven_ms: u64,
    denied_in_a_minute_ms: u64,
    uncovered_ms: u64,
    packets: u64,
    crashes: u64,
    stalls: u64,
    log_failures: u64,
    requests: u64,
    ended: u64,
}

struct Evening {
    rig: Rig,
    rng: StdRng,
    people: Vec<Person>,
    now_ms: u64,
    stalled_until_ms: u64,
    block_ms: u64,
    log_broken_until_ms: Option<u64>,
    /// The log's newest record that is on the disk.
    synced: u64,
    bounds: Bounds,
}

impl Evening {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::new(|_| {});
        rig.syncs = false;
        rig.chain.stream(stream_id(LISTED), |stream| stream.policy = Policy::AllowList);
        rig.chain.stream(stream_id(3), |stream| stream.terms[0].rate_per_second = 3 * RATE);
        let manners = [
            Manner::Honest,
            Manner::Forgetful,
            Manner::Farmer,
            Manner::Denier,
            Manner::Burster,
            Manner::Guest,
        ];
        let mut people = Vec::new();
        for nth in 0..20u8 {
            let manner = manners[usize::from(nth) % manners.len()];
            let viewer = Viewer::new(10 + nth);
            // Every third has reserved nothing.
            let reserve = if nth % 3 == 0 { 0 } else { 8_000_000_000 };
            rig.chain.open(&viewer, 8_000_000_000, reserve);
            let stream = match manner {
                Manner::Guest => LISTED,
                _ if nth % 2 == 0 => 1,
                _ => 3,
            };
            people.push(Person {
                viewer,
                manner,
                stream,
                session: None,
                rejoin_ms: u64::from(nth) * 300,
                sign_ms: 0,
                silent_until_ms: 0,
                signed: Balance::ZERO,
                relays_served_ms: 0,
                received_ms: 0,
                true_ms: 0,
                forgiven_ms: 0,
                denied: Vec::new(),
            });
        }
        rig.block();
        Self {
            rig,
            rng: StdRng::seed_from_u64(seed),
            people,
            now_ms: 0,
            stalled_until_ms: 0,
            block_ms: 1000,
            log_broken_until_ms: None,
            synced: 0,
            bounds: Bounds::default(),
        }
    }

    fn run(mut self) -> Bounds {
        while self.now_ms < EVENING_MS {
            self.step();
        }
        self.bounds
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        self.rig.after(STEP_MS);
        self.sync_log();
        self.misfortune();
        if self.now_ms >= self.block_ms && self.now_ms >= self.stalled_until_ms {
            self.block();
        }
        for at in 0..self.people.len() {
            self.live(at);
        }
        self.rig.input(Input::Tick);
        self.hear();
        if self.now_ms.is_multiple_of(200) {
            let usage = self.people.iter().filter_map(|person| person.session.as_ref());
            let usage = usage.map(|(_, path)| path.usage()).collect();
            self.rig.input(Input::Usage(usage));
            self.hear();
        }
        self.check();
    }

    /// The log's group sync: what was written before this step is on the disk.
    fn sync_log(&mut self) {
        if let Some(until_ms) = self.log_broken_until_ms {
            if self.now_ms < until_ms {
                return;
            }
            self.log_broken_until_ms = None;
            self.rig.input(Input::LogRecovered);
        }
        if let Some((sequence, _)) = self.rig.log.last().copied() {
            self.synced = sequence;
            self.rig.input(Input::Synced { sequence });
        }
    }

    fn misfortune(&mut self) {
        if self.rng.random_bool(1.0 / 2400.0) {
            self.crash();
        }
        if self.rng.random_bool(1.0 / 1200.0) {
            self.stalled_until_ms = self.now_ms + self.rng.random_range(3_000..15_000);
            self.bounds.stalls += 1;
        }
        if self.log_broken_until_ms.is_none() && self.rng.random_bool(1.0 / 2400.0) {
            self.log_broken_until_ms = Some(self.now_ms + self.rng.random_range(500..3_000));
            self.rig.input(Input::LogFailed { reason: "no space left on device".to_owned() });
            self.bounds.log_failures += 1;
        }
    }

    /// The process dies: all sessions, and what the log had not synced.
    fn crash(&mut self) {
        self.bounds.crashes += 1;
        let before = self.rig.decider.book().clone();
        // Records of this very step are not synced yet.
        let keep = std::mem::take(&mut self.synced);
        self.rig.crash(keep);
        self.rig.syncs = false;
        let outage = self.log_broken_until_ms.take();
        for (key, lane) in before.iter() {
            let safe = lane.synced.map_or(Balance::ZERO, |synced| synced.voucher.cumulative);
            let found = self.rig.decider.book().get(key).map_or(Balance::ZERO, |lane| lane.paid());
            assert!(found >= safe, "a voucher that was on the disk is gone");
        }
        for person in &mut self.people {
            if let Some((_, path)) = person.session.take() {
                person.received_ms += path.received_ms;
            }
            person.rejoin_ms = self.now_ms + self.rng.random_range(200..3_000);
            person.relays_served_ms = 0;
            // What was denied is kept in memory alone: who crashes forgives it.
            person.denied.clear();
            if person.manner == Manner::Guest {
                continue;
            }
            let terms = self.rig.decider.terms(&stream_id(person.stream)).expect("it is there");
            let lane = person.viewer.voucher(&terms, 0).lane_key();
            let served_ms = self.rig.decider.book().get(&lane).map_or(0, |lane| lane.served_ms);
            let remembered_ms = person.true_ms - person.forgiven_ms;
            let forgiven_ms = remembered_ms.saturating_sub(served_ms);
            person.forgiven_ms += forgiven_ms;
            // A log that cannot be written forgets as long as that lasts: it lets nobody in.
            if outage.is_none() {
                self.bounds.forgiven_ms = self.bounds.forgiven_ms.max(forgiven_ms);
            }
        }
    }

    fn block(&mut self) {
        self.block_ms = self.now_ms + self.rng.random_range(600..1_500);
        let batches = std::mem::take(&mut self.rig.redeems);
        for batch in batches {
            self.rig.chain.redeem(&batch);
        }
        for person in self.people.iter().filter(|person| person.manner == Manner::Guest) {
            let viewer = person.viewer.account();
            if self.rng.random_bool(0.2) {
                let until = self.rig.now.unix_ms + self.rng.random_range(500..20_000);
                self.rig.chain.grant(stream_id(LISTED), viewer, until);
            } else if self.rng.random_bool(0.05) {
                self.rig.chain.revoke(stream_id(LISTED), viewer);
            }
        }
        if self.rng.random_bool(0.01) {
            self.rig.chain.stream(stream_id(LISTED), |stream| stream.rev_epoch += 1);
        }
        if self.rng.random_bool(0.02) {
            // A block is missed, and the chain followed anew.
            self.rig.chain.block(self.rig.now.unix_ms);
            self.rig.resync();
        } else {
            self.rig.block();
        }
        // Within the turn of the block, before anything else happens.
        self.check();
    }

    /// One person's step: media, money, coming and going.
    fn live(&mut self, at: usize) {
        let Self { rig, rng, people, now_ms, bounds, .. } = self;
        let (now_ms, person) = (*now_ms, &mut people[at]);
        let Some((session, path)) = &mut person.session else {
            if now_ms >= person.rejoin_ms {
                person.rejoin_ms = now_ms + rng.random_range(300..2_000);
                join(rig, person, now_ms);
            }
            return;
        };
        let session = *session;
        let is_open = rig.is_open(session);
        let (before_true, before_denied) = (path.true_ms, path.denied_ms);
        let lost = if person.manner == Manner::Denier { 0.4 } else { 0.005 };
        path.step(now_ms, is_open, || rng.random_bool(lost));
        bounds.packets += u64::from(is_open);
        person.true_ms += path.true_ms - before_true;
        if path.denied_ms > before_denied {
            person.denied.push(now_ms);
        }
        if person.manner == Manner::Guest {
            return;
        }
        let terms = rig.terms_of(stream_id(person.stream));
        if now_ms >= person.sign_ms {
            person.sign_ms = now_ms + CADENCE_MS;
            let received_ms = person.received_ms + path.received_ms;
            let payable = payable_ms(person.relays_served_ms, received_ms);
            let total = signed_total(terms.rate, payable, CADENCE_MS as u32, 1);
            let total = match person.manner {
                Manner::Honest | Manner::Denier | Manner::Guest => Some(total),
                Manner::Forgetful => {
                    if now_ms >= person.silent_until_ms && rng.random_bool(0.02) {
                        person.silent_until_ms = now_ms + rng.random_range(2_000..90_000);
                    }
                    (now_ms >= person.silent_until_ms).then_some(total)
                }
                Manner::Farmer => None,
                Manner::Burster => {
                    let ahead = cost(terms.rate, payable + 15_000);
                    (total > person.signed).then_some(ahead)
                }
            };
            if let Some(total) = total.filter(|total| *total > person.signed) {
                person.signed = total;
                let frame = Frame::Voucher(Box::new(person.viewer.pay(&terms, total.units())));
                rig.input(Input::Frame { session, bytes: frame.encode().into() });
            }
        }
        let leaves = match person.manner {
            Manner::Farmer | Manner::Denier => !is_open && rng.random_bool(0.1),
            Manner::Honest | Manner::Forgetful | Manner::Burster | Manner::Guest => {
                rng.random_bool(1.0 / 4000.0)
            }
        };
        if leaves {
            leave(rig, person, now_ms, rng.random_range(200..4_000));
        }
    }

    /// Frames that arrived, and sessions that MONEY has ended.
    fn hear(&mut self) {
        for person in &mut self.people {
            let Some((session, _)) = person.session else { continue };
            for frame in self.rig.said(session) {
                match frame {
                    Frame::PayAck(ack) => {
                        person.relays_served_ms = person.relays_served_ms.max(ack.served_ms);
                    }
                    Frame::PayReq(_) => self.bounds.requests += 1,
                    _ => {}
                }
            }
            if self.rig.end_of(session).is_some() {
                self.bounds.ended += 1;
                let wait_ms = self.rng.random_range(200..4_000);
                leave(&mut self.rig, person, self.now_ms, wait_ms);
            }
        }
    }

    fn check(&mut self) {
        self.hear();
        for at in 0..self.people.len() {
            let person = &self.people[at];
            match person.manner {
                Manner::Guest => self.check_guest(at),
                Manner::Honest
                | Manner::Forgetful
                | Manner::Farmer
                | Manner::Denier
                | Manner::Burster => self.check_payer(at),
            }
        }
    }

    /// Gate = rights, in this very step.
    fn check_guest(&self, at: usize) {
        let person = &self.people[at];
        let viewer = person.viewer.account();
        let epoch = self.rig.chain.streams[&stream_id(LISTED)].rev_epoch;
        let record = self.rig.chain.access.get(&(stream_id(LISTED), viewer));
        let may = record.is_some_and(|record| {
            record.rev_epoch == epoch && record.valid_until > self.rig.now.unix_ms
        });
        match &person.session {
            Some((session, _)) => {
                assert_eq!(self.rig.is_open(*session), may, "guest {at} at {} ms", self.now_ms);
            }
            None => {
                let open = self.rig.gates.values().filter(|gate| gate.open).count();
                let here = self.people.iter().filter(|person| person.session.is_some()).count();
                assert!(open <= here, "a gate without anybody behind it");
            }
        }
    }

    /// The table of losses, at this very step.
    fn check_payer(&mut self, at: usize) {
        let person = &self.people[at];
        let terms = self.rig.terms_of(stream_id(person.stream));
        let lane = person.viewer.voucher(&terms, 0).lane_key();
        let Some(lane) = self.rig.decider.book().get(&lane) else { return };
        let remembered_ms = person.true_ms - person.forgiven_ms;
        let due = cost(terms.rate, remembered_ms);
        let ms_of = |amount: Balance| {
            let ms = amount.units() * 1000 / u128::from(terms.rate);
            u64::try_from(ms).expect("some minutes")
        };
        let unpaid_ms = ms_of(due.saturating_sub(lane.paid()));
        self.bounds.relay_unpaid_ms = self.bounds.relay_unpaid_ms.max(unpaid_ms);
        // A slot counts whole from its begin on.
        assert!(
            unpaid_ms <= GRACE_MS + 500,
            "{:?} {at} owes {unpaid_ms} ms at {} ms",
            person.manner,
            self.now_ms
        );
        if person.manner == Manner::Honest {
            let received = person.session.as_ref().map_or(0, |(_, path)| path.received_ms);
            let watched_ms = person.received_ms + received;
            let ahead_ms = ms_of(person.signed).saturating_sub(watched_ms);
            self.bounds.viewer_ahead_ms = self.bounds.viewer_ahead_ms.max(ahead_ms);
            assert!(ahead_ms <= 2 * CADENCE_MS, "viewer {at} is {ahead_ms} ms ahead");
        }
        let channel = person.viewer.channel;
        let state = &self.rig.decider.access().expect("the chain was read").blockchain_state;
        let lanes = self.rig.decider.book().of_channel(&channel);
        let uncovered = settlement::exposure::uncovered(state, &channel, lanes);
        self.bounds.uncovered_ms = self.bounds.uncovered_ms.max(ms_of(uncovered));
        let from = self.now_ms.saturating_sub(60_000);
        let denied = person.denied.iter().rev().take_while(|denied| **denied > from).count() as u64;
        self.bounds.denied_in_a_minute_ms = self.bounds.denied_in_a_minute_ms.max(500 * denied);
    }
}

fn join(rig: &mut Rig, person: &mut Person, now_ms: u64) {
    let stream = stream_id(person.stream);
    let terms = rig.terms_of(stream);
    let request = if person.manner == Manner::Guest {
        Admit {
            stream,
            bind: Some(person.viewer.account_bind(&terms)),
            voucher: None,
            token: None,
            client_fingerprint: person.viewer.fingerprint,
        }
    } else {
        let first = person.signed.max(terms.min_prepay);
        person.signed = first;
        rig.request_for(stream, &person.viewer, first.units())
    };
    match rig.admit(&request) {
        Ok(admission) => {
            let session = rig.begin(&admission);
            rig.input(Input::Connected { session });
            person.session = Some((session, Path::new(session, RTT_MS)));
            person.sign_ms = now_ms + CADENCE_MS;
            if let Some(lane) = admission.lane {
                person.relays_served_ms = lane.served_ms;
            }
        }
        // It pays what is asked, next time; who is honest not for more than it has received.
        Err(Refusal::PaymentRequired { lane: Some(lane), .. }) => {
            let payable = payable_ms(lane.served_ms, person.received_ms);
            let most = signed_total(terms.rate, payable, CADENCE_MS as u32, 1);
            let asked = if person.manner == Manner::Honest { lane.due.min(most) } else { lane.due };
            person.signed = person.signed.max(asked);
        }
        Err(
            Refusal::AccessDenied(_)
            | Refusal::Books(_)
            | Refusal::Channel(_)
            | Refusal::PaymentRequired { lane: None, .. },
        ) => {}
        Err(refusal) => panic!("{:?}: {refusal}", person.manner),
    }
}

fn leave(rig: &mut Rig, person: &mut Person, now_ms: u64, wait_ms: u64) {
    let Some((session, path)) = person.session.take() else { return };
    person.received_ms += path.received_ms;
    let usage = Some(path.finish());
    rig.input(Input::Closed { session, usage });
    person.rejoin_ms = now_ms + wait_ms;
}

/// R12, R26
#[test]
fn gates_are_rights_and_nobody_loses_more_than_the_table_says() {
    println!("most seen in {} minutes of each seed, times in ms of the rate:", EVENING_MS / 60_000);
    let mut packets = BTreeMap::new();
    for seed in 1..=6 {
        let bounds = Evening::new(seed).run();
        println!(
            "seed {seed}: viewer ahead {} (2000), relay unpaid {} (3000 + a slot), forgotten at a crash {} \
             (1000 + undecided), denied in a minute {} (6000 + undecided), uncovered {} (10,000 + a slot); \
             {} packets, {} crashes, {} stalls, {} log failures, {} requests, {} ended",
            bounds.viewer_ahead_ms,
            bounds.relay_unpaid_ms,
            bounds.forgiven_ms,
            bounds.denied_in_a_minute_ms,
            bounds.uncovered_ms,
            bounds.packets,
            bounds.crashes,
            bounds.stalls,
            bounds.log_failures,
            bounds.requests,
            bounds.ended,
        );
        // Six seconds, what is undecided when they are over, and trials that went well for a slot.
        assert!(bounds.denied_in_a_minute_ms <= 9_000);
        assert!(bounds.uncovered_ms <= 10_500, "the limit, and the slot in which it is reached");
        assert!(bounds.forgiven_ms <= CADENCE_MS + 2_000, "a cadence, and what was undecided");
        assert!(bounds.packets > 20_000, "media flowed");
        packets.insert(seed, bounds.packets);
    }
    assert_eq!(Evening::new(1).run().packets, packets[&1], "one seed is one evening");
}
