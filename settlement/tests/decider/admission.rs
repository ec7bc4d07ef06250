//! Who is let in, and the name of each refusal beside it.

use chain_types::{
    AccountId, Balance, Bind, ChannelId, Grants, Policy, StreamTerms, Token, TokenId, lane,
};
use settlement::{Admit, Refusal, decide::Input};

use crate::rig::{
    CHAIN, PAYEE, RATE, Rig, START_MS, Viewer, account, config, key, signed, stream_id, token,
};

const PREPAY: u128 = 2 * RATE as u128;

/// A viewer with a channel on a paid stream, and its good request.
fn paid() -> (Rig, Viewer, Admit) {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 900_000_000);
    rig.block();
    let request = rig.request(&viewer, PREPAY);
    (rig, viewer, request)
}

/// What a paid stream says to a request that differs from a good one by `edit`.
#[track_caller]
fn check(edit: impl FnOnce(&mut Rig, &Viewer, &mut Admit), expected: Result<(), &str>) {
    let (mut rig, viewer, mut request) = paid();
    edit(&mut rig, &viewer, &mut request);
    let result = rig.admit(&request);
    let said = result.as_ref().map(|_| ()).map_err(|refusal| refusal.to_string());
    match expected {
        Ok(()) => assert_eq!(said, Ok(())),
        Err(expected) => {
            let said = said.expect_err("it is refused");
            assert!(said.contains(expected), "{said:?}, expected {expected:?}");
        }
    }
}

/// R34: without payment nobody gets further than 402 with this text.
#[test]
fn who_pays_two_cadences_ahead_is_let_in_and_who_does_not_is_asked_to() {
    check(|_, _, _| {}, Ok(()));
    check(|_, _, request| request.bind = None, Err("Payment required"));
    check(|_, _, request| request.voucher = None, Err("Payment required"));
    let less = |rig: &mut Rig, viewer: &Viewer, request: &mut Admit| {
        *request = rig.request(viewer, PREPAY - 1);
    };
    check(less, Err("Payment required"));
    let no_channel = |rig: &mut Rig, viewer: &Viewer, request: &mut Admit| {
        request.bind = Some(viewer.account_bind(&rig.terms()));
    };
    check(no_channel, Err("Payment required"));

    let (mut rig, viewer, _) = paid();
    let short = rig.request(&viewer, PREPAY - 1);
    let Err(refusal @ Refusal::PaymentRequired { .. }) = rig.admit(&short) else { panic!() };
    assert_eq!((refusal.http_status(), refusal.code()), (402, "payment_required"));
    let Refusal::PaymentRequired { terms, lane } = refusal else { panic!() };
    assert_eq!(*terms, rig.terms());
    let lane = lane.expect("a valid bind names one");
    assert_eq!((lane.due.units(), lane.paid.units()), (PREPAY, PREPAY - 1));
    assert_eq!(lane.lane, rig.lane(&viewer, &terms));
    // The money of a refused request is not lost: one unit more is enough.
    assert_eq!(rig.log.len(), 1);
    let enough = rig.request(&viewer, PREPAY);
    assert!(rig.admit(&enough).is_ok());
}

#[test]
fn unspent_money_lets_in_again_without_a_voucher() {
    let (mut rig, viewer, request) = paid();
    let session = rig.join(&request);
    rig.input(Input::Closed { session, usage: None });
    let again = Admit { voucher: None, ..rig.request(&viewer, PREPAY) };
    assert!(rig.admit(&again).is_ok());
}

#[test]
fn a_stream_that_the_chain_does_not_know_or_that_has_ended_is_not_found() {
    check(|_, _, r| r.stream = stream_id(9), Err("no such stream"));
    let ended = |rig: &mut Rig, _: &Viewer, _: &mut Admit| {
        rig.chain.stream(stream_id(1), |stream| stream.ended = Some(START_MS));
        rig.block();
    };
    check(ended, Err("no such stream"));
    assert_eq!(
        (Refusal::StreamUnknown.http_status(), "stream_unknown"),
        (404, Refusal::StreamUnknown.code())
    );
}

#[test]
fn a_bind_counts_for_this_stream_relay_terms_and_transport_alone() {
    #[track_caller]
    fn with(edit: impl Fn(&mut Bind), expected: &str) {
        check(
            |rig, viewer, request| {
                let mut bind = viewer.bind(&rig.terms());
                edit(&mut bind);
                request.bind = Some(bind.sign(&viewer.voucher_key, None, CHAIN));
            },
            Err(expected),
        );
    }
    with(|bind| bind.stream = stream_id(9), "the bind is for another stream");
    with(|bind| bind.relay_key = account(9), "the bind is for another relay");
    with(|bind| bind.terms_hash = [9; 32], "the bind is for another set of terms");
    with(|bind| bind.client_fingerprint = [9; 32], "other certificates");
    with(|bind| bind.relay_fingerprint = [9; 32], "other certificates");
    with(|bind| bind.holder_key = account(9), "the bind's signature is wrong");
    with(|bind| bind.viewer = account(9), "another viewer than who pays");
    with(|bind| bind.channel = ChannelId([9; 32]), "the chain does not know it");
    with(|bind| bind.token_id = TokenId([9; 16]), "one that was not shown");
    // The offer of another client: what was captured is of no use to it.
    check(|_, _, request| request.client_fingerprint = [9; 32], Err("other certificates"));
    let forged = |rig: &mut Rig, viewer: &Viewer, request: &mut Admit| {
        request.bind = Some(viewer.bind(&rig.terms()).sign(&key(9), None, CHAIN));
    };
    check(forged, Err("the bind's signature is wrong"));
    let other_chain = |rig: &mut Rig, viewer: &Viewer, request: &mut Admit| {
        request.bind = Some(viewer.bind(&rig.terms()).sign(&viewer.voucher_key, None, "other"));
    };
    check(other_chain, Err("the bind's signature is wrong"));
    let statuses = [
        (Refusal::BindStale("relay"), 409, "bind_stale"),
        (Refusal::FingerprintMismatch, 403, "fingerprint_mismatch"),
        (Refusal::BindSignature, 403, "bind_signature"),
    ];
    for (refusal, status, code) in statuses {
        assert_eq!((refusal.http_status(), refusal.code()), (status, code));
    }
}

#[test]
fn the_relay_signs_the_bind_that_it_accepts() {
    let (mut rig, viewer, request) = paid();
    let admission = rig.admit(&request).expect("it is let in");
    let bind = viewer.bind(&rig.terms());
    let ack = admission.bind_ack.expect("there was a bind");
    assert_eq!(bind.verify_ack(&ack, CHAIN), Ok(()));
    assert_eq!(admission.viewer, viewer.account());
    assert_eq!(admission.lane.map(|lane| lane.paid.units()), Some(PREPAY));
}

#[test]
fn a_voucher_that_cannot_be_taken_says_which_part_is_wrong() {
    #[track_caller]
    fn with(edit: impl Fn(&mut chain_types::Voucher), expected: &str) {
        check(
            |rig, viewer, request| {
                let mut voucher = viewer.voucher(&rig.terms(), PREPAY);
                edit(&mut voucher);
                request.voucher = Some(voucher.sign(&viewer.voucher_key, CHAIN));
            },
            Err(expected),
        );
    }
    with(|voucher| voucher.channel = ChannelId([9; 32]), "of another channel");
    with(|voucher| voucher.payee = account(9), "pays somebody else");
    with(|voucher| voucher.stream = stream_id(9), "for another stream");
    with(|voucher| voucher.lane ^= 1, "on another lane");
    with(|voucher| voucher.terms_version = 2, "another version of the terms");
    let forged = |rig: &mut Rig, viewer: &Viewer, request: &mut Admit| {
        request.voucher = Some(viewer.voucher(&rig.terms(), PREPAY).sign(&key(9), CHAIN));
    };
    check(forged, Err("its signature is wrong"));
    let refusal = Refusal::Voucher("");
    assert_eq!((refusal.http_status(), refusal.code()), (400, "voucher_refused"));
}

#[test]
fn a_channel_pays_while_it_is_open_lasts_and_holds_enough() {
    #[track_caller]
    fn with(edit: impl FnOnce(&mut chain_types::Channel), expected: &str) {
        check(
            |rig, viewer, _| {
                rig.chain.channel(viewer.channel, edit);
                rig.block();
            },
            Err(expected),
        );
    }
    let request = chain_types::CloseRequest { height: 101, time_ms: START_MS };
    with(|channel| channel.close_requested = Some(request), "it is closing");
    with(|channel| channel.closed = true, "it is closed");
    with(|channel| channel.expires_height = 110, "it expires too soon");
    let poor = |channel: &mut chain_types::Channel| {
        channel.reserves.clear();
        channel.deposits = Balance::of(RATE);
    };
    with(poor, "less than its vouchers promise");
    let refusal = Refusal::Channel("");
    assert_eq!((refusal.http_status(), refusal.code()), (402, "channel_refused"));
}

#[test]
fn four_sessions_share_a_lane_and_the_fifth_is_refused() {
    let (mut rig, viewer, _) = paid();
    let mut places = Vec::new();
    for fingerprint in 1..=4 {
        // Another transport each: another certificate.
        let viewer = Viewer { fingerprint: [fingerprint; 32], ..viewer.clone() };
        let request = rig.request(&viewer, PREPAY);
        places.push(rig.join(&request));
    }
    let fifth = Viewer { fingerprint: [5; 32], ..viewer.clone() };
    let request = rig.request(&fifth, PREPAY);
    assert_eq!(rig.admit(&request), Err(Refusal::Sessions));
    assert_eq!((Refusal::Sessions.http_status(), Refusal::Sessions.code()), (429, "lane_sessions"));
    // A Bind that has a place keeps it, and the transport that it named before is gone.
    let fourth = Viewer { fingerprint: [4; 32], ..viewer };
    let request_again = rig.request(&fourth, PREPAY);
    let again = rig.join(&request_again);
    assert!(rig.is_open(again));
    assert_eq!(rig.end_of(places[3]), Some(4404));
    rig.input(Input::Closed { session: places[0], usage: None });
    assert!(rig.admit(&request).is_ok(), "a place is free");
}

#[test]
fn an_admission_that_never_begins_gives_its_place_back() {
    let (mut rig, viewer, _) = paid();
    let mut admissions = Vec::new();
    for fingerprint in 1..=4 {
        let viewer = Viewer { fingerprint: [fingerprint; 32], ..viewer.clone() };
        let request = rig.request(&viewer, PREPAY);
        let admission = rig.admit(&request).expect("it is let in");
        if fingerprint == 4 {
            rig.input(Input::Abandoned { admission: admission.id });
        } else {
            admissions.push(admission);
        }
    }
    let fifth = Viewer { fingerprint: [5; 32], ..viewer.clone() };
    let request = rig.request(&fifth, PREPAY);
    admissions.push(rig.admit(&request).expect("one was abandoned"));
    // None had to give way for it.
    for admission in &admissions[..3] {
        let session = rig.begin(admission);
        rig.input(Input::Connected { session });
        assert!(rig.is_open(session));
    }
    rig.wait(31_000);
    let late = rig.begin(&admissions[3]);
    assert_eq!(rig.end_of(late), Some(4408), "half a minute is over");
    let sixth = Viewer { fingerprint: [6; 32], ..viewer };
    let request = rig.request(&sixth, PREPAY);
    assert!(rig.admit(&request).is_ok(), "and its place is free");
}

#[test]
fn who_owes_on_one_stream_is_let_in_nowhere_until_it_has_paid() {
    let (mut rig, viewer, request) = paid();
    rig.chain.stream(stream_id(2), |_| {});
    rig.block();
    let session = rig.join(&request);
    rig.usage(session, 2_500, 0);
    rig.input(Input::Closed { session, usage: None });
    let other = rig.request_for(stream_id(2), &viewer, PREPAY);
    let Err(Refusal::PaymentRequired { terms, lane: Some(lane) }) = rig.admit(&other) else {
        panic!("it owes half a second")
    };
    assert_eq!(terms.stream, stream_id(2));
    assert_eq!(lane.lane.stream, stream_id(1), "this is what is owed");
    assert_eq!((lane.due.units(), lane.paid.units()), (2_500_000, PREPAY));
    // The debt may be paid with the same request; the other lane has its prepay already.
    let pays = Admit { voucher: Some(viewer.pay(&rig.terms(), 2_500_000)), ..other };
    assert!(rig.admit(&pays).is_ok());
}

#[test]
fn a_split_that_leaves_the_relay_too_little_is_not_served() {
    let split = |creator_bps| {
        move |rig: &mut Rig, _: &Viewer, _: &mut Admit| {
            rig.chain.stream(stream_id(1), |stream| stream.split[0].creator_bps = creator_bps);
            rig.block();
        }
    };
    check(split(9_000), Ok(()));
    check(split(9_001), Err("less than its share"));
    assert_eq!((Refusal::Share.http_status(), Refusal::Share.code()), (403, "share_too_small"));
}

#[test]
fn a_relay_that_cannot_keep_its_books_lets_nobody_in() {
    check(
        |rig, _, _| rig.input(Input::LogFailed { reason: "no space".to_owned() }),
        Err("cannot take money now"),
    );
    let recovered = |rig: &mut Rig, _: &Viewer, _: &mut Admit| {
        rig.input(Input::LogFailed { reason: "no space".to_owned() });
        rig.input(Input::LogRecovered);
    };
    check(recovered, Ok(()));
    let mut blind = settlement::decide::Decider::new(config(), []);
    let (rig, _, request) = paid();
    let refusal = blind.admit(rig.now, &request, &mut Vec::new()).expect_err("no chain");
    assert_eq!((refusal.http_status(), refusal.code()), (503, "books_unsafe"));
}

/// A stream that is for whom the creator names.
fn listed(policy: Policy) -> (Rig, Viewer) {
    let rig = Rig::new(|stream| stream.policy = policy);
    (rig, Viewer::new(10))
}

fn with_token(rig: &Rig, viewer: &Viewer, token: Token) -> Admit {
    let terms = rig.terms();
    let bind = Bind {
        token_id: token.token_id,
        holder_key: viewer.account(),
        channel: ChannelId::ZERO,
        ..viewer.bind(&terms)
    };
    Admit {
        stream: stream_id(1),
        bind: Some(bind.sign(&viewer.key, None, CHAIN)),
        voucher: None,
        token: Some(signed(token)),
        client_fingerprint: viewer.fingerprint,
    }
}

#[test]
fn everybody_watches_a_free_stream_and_shows_nothing() {
    let (mut rig, viewer) = listed(Policy::Free);
    let request = Admit {
        stream: stream_id(1),
        bind: None,
        voucher: None,
        token: None,
        client_fingerprint: viewer.fingerprint,
    };
    let session = rig.join(&request);
    assert!(rig.is_open(session));
    assert_eq!(rig.gate(session).valid_until_ns, None);
    rig.usage(session, 60_000, 0);
    assert!(rig.is_open(session), "nothing is owed");
    // Who shows a Bind gets it acknowledged, or hears what stands against it.
    let shown = with_token(&rig, &viewer, token(stream_id(1), &viewer));
    let admission = rig.admit(&shown).expect("it is let in");
    assert!(admission.bind_ack.is_some());
    let proxied = Admit { client_fingerprint: [9; 32], ..shown.clone() };
    assert_eq!(rig.admit(&proxied), Err(Refusal::FingerprintMismatch));
    let only_token = Admit { bind: None, ..shown };
    rig.after(600_000);
    assert!(rig.admit(&only_token).is_ok(), "an old token does not shut out from what is free");
}

#[test]
fn a_ticket_or_an_entry_on_the_list_lets_in_who_signs_for_the_account() {
    for policy in [Policy::Ticketed, Policy::AllowList] {
        let (mut rig, viewer) = listed(policy);
        let terms = rig.terms();
        assert!(terms.min_prepay.is_zero() && terms.rate == 0, "nothing is charged");
        let request = Admit {
            stream: stream_id(1),
            bind: Some(viewer.account_bind(&terms)),
            voucher: None,
            token: None,
            client_fingerprint: viewer.fingerprint,
        };
        let bare = Admit { bind: None, ..request.clone() };
        assert_eq!(rig.admit(&bare), Err(Refusal::BindMissing));
        assert_eq!(
            (Refusal::BindMissing.http_status(), Refusal::BindMissing.code()),
            (401, "bind_missing")
        );
        let Err(refusal @ Refusal::AccessDenied(_)) = rig.admit(&request) else { panic!() };
        assert_eq!((refusal.http_status(), refusal.code()), (403, "access_denied"));
        rig.chain.grant(stream_id(1), viewer.account(), START_MS + 60_000);
        rig.block();
        let session = rig.join(&request);
        assert!(rig.is_open(session));
        rig.after(60_000);
        let late = rig.admit(&request);
        assert_eq!(late, Err(Refusal::AccessDenied("it has expired: get it anew")));
    }
}

#[test]
fn a_token_saves_the_transaction_and_says_what_is_wrong_with_it() {
    let (mut rig, viewer) = listed(Policy::AllowList);
    let good = with_token(&rig, &viewer, token(stream_id(1), &viewer));
    let session = rig.join(&good);
    assert!(rig.is_open(session));
    assert_eq!(rig.gate(session).layer_cap, 1, "the token's cap");

    #[track_caller]
    fn check(edit: impl FnOnce(&mut Rig, &mut Admit, Token), expected: &str) {
        let (mut rig, viewer) = listed(Policy::AllowList);
        let token = token(stream_id(1), &viewer);
        let mut request = with_token(&rig, &viewer, token);
        edit(&mut rig, &mut request, token);
        let Err(refusal @ Refusal::Token(said)) = rig.admit(&request) else { panic!("{expected}") };
        assert!(said.contains(expected), "{said:?}");
        assert_eq!((refusal.http_status(), refusal.code()), (403, "token_refused"));
    }
    check(|rig, _, _| rig.after(60_000), "it has expired");
    check(
        |_, request, token| {
            request.token = Some(signed(Token { not_before_ms: START_MS + 1, ..token }));
        },
        "not valid yet",
    );
    check(
        |_, request, token| {
            let issuer_key = account(9);
            let forged = Token { issuer_key, ..token }.sign(&key(9), CHAIN).expect("its own key");
            request.token = Some(forged);
        },
        "its issuer has no say",
    );
    check(
        |_, request, token| {
            let other = token.sign(&crate::rig::creator(), "other").expect("its own key");
            request.token = Some(other);
        },
        "its signature is wrong",
    );
    check(
        |_, request, token| request.token = Some(signed(Token { stream: stream_id(9), ..token })),
        "for another stream",
    );
    check(
        |_, request, token| {
            request.token = Some(signed(Token { grants: Grants::PUBLISH, ..token }))
        },
        "does not grant this",
    );
    check(
        |rig, _, _| {
            rig.chain.stream(stream_id(1), |stream| stream.rev_epoch = 1);
            rig.block();
        },
        "it was taken back",
    );
    check(
        |_, request, token| {
            request.token = Some(signed(Token { token_id: TokenId([8; 16]), ..token }));
        },
        "names another one",
    );
    check(
        |_, request, token| request.token = Some(signed(Token { viewer: account(9), ..token })),
        "for another viewer",
    );
}

#[test]
fn an_issuer_of_the_stream_signs_tokens_as_the_creator_does() {
    let (mut rig, viewer) = listed(Policy::AllowList);
    let issuer_key = account(9);
    let by_issuer = Token { issuer_key, ..token(stream_id(1), &viewer) };
    let mut request = with_token(&rig, &viewer, token(stream_id(1), &viewer));
    request.token = Some(by_issuer.sign(&key(9), CHAIN).expect("its own key"));
    assert!(rig.admit(&request).is_err());
    rig.chain.stream(stream_id(1), |stream| stream.issuers = vec![issuer_key]);
    rig.block();
    assert!(rig.admit(&request).is_ok());
}

#[test]
fn with_a_token_and_a_channel_both_keys_sign_and_money_is_asked_for_all_the_same() {
    let (mut rig, viewer, mut request) = paid();
    let token = token(stream_id(1), &viewer);
    let terms = rig.terms();
    let bind =
        Bind { token_id: token.token_id, holder_key: viewer.account(), ..viewer.bind(&terms) };
    request.token = Some(signed(token));
    request.bind = Some(bind.sign(&viewer.key, Some(&key(9)), CHAIN));
    assert_eq!(rig.admit(&request), Err(Refusal::BindSignature));
    request.bind = Some(bind.sign(&viewer.key, Some(&viewer.voucher_key), CHAIN));
    let broke = Admit { voucher: None, ..request.clone() };
    assert!(matches!(rig.admit(&broke), Err(Refusal::PaymentRequired { .. })));
    let session = rig.join(&request);
    assert_eq!(rig.gate(session).layer_cap, 1, "the token's cap holds for who pays too");
}

#[test]
fn no_record_and_no_token_makes_a_relay_work_for_nothing_unless_its_operator_wants_to() {
    let serving = settlement::decide::Config {
        serve_free: vec![AccountId::from(&crate::rig::creator())],
        ..config()
    };
    for (config, is_let_in) in [(config(), false), (serving, true)] {
        let mut rig = Rig::with(config, |_| {});
        let viewer = Viewer::new(10);
        let terms = rig.terms();
        let request = Admit {
            stream: stream_id(1),
            bind: Some(viewer.account_bind(&terms)),
            voucher: None,
            token: None,
            client_fingerprint: viewer.fingerprint,
        };
        let stranger = rig.admit(&request);
        assert!(matches!(stranger, Err(Refusal::PaymentRequired { .. })), "no record at all");
        rig.chain.grant(stream_id(1), viewer.account(), START_MS + 60_000);
        rig.block();
        let by_record = rig.admit(&request);
        assert_eq!(by_record.is_ok(), is_let_in);
        let shown = with_token(&rig, &viewer, token(stream_id(1), &viewer));
        assert_eq!(rig.admit(&shown).is_ok(), is_let_in);
    }
}

#[test]
fn the_terms_are_those_of_the_version_in_force() {
    let (mut rig, _, _) = paid();
    let terms = rig.terms();
    assert_eq!((terms.rate, terms.terms_version, terms.payee), (RATE, 1, PAYEE));
    assert_eq!(terms.min_prepay.units(), PREPAY);
    assert_eq!(terms.lane(), lane::lane_number(&terms.relay_key, &stream_id(1), 1, 2));
    rig.chain.stream(stream_id(1), |stream| {
        let newest = stream.terms[0].clone();
        stream.terms.push(StreamTerms {
            version: 2,
            from_height: 103,
            rate_per_second: 2 * RATE,
            ..newest
        });
    });
    rig.block();
    assert_eq!(rig.terms().terms_version, 1);
    rig.block();
    assert_eq!((rig.terms().terms_version, rig.terms().rate), (2, 2 * RATE));
    assert_eq!(rig.decider.terms(&stream_id(9)), None);
}

#[test]
fn the_creators_grant_of_this_chain_lets_publish_and_nothing_else_does() {
    let (mut rig, viewer) = listed(Policy::Free);
    let grant = Token { grants: Grants::PUBLISH, ..token(stream_id(1), &viewer) };
    let allowed = |rig: &Rig, token: &Token| {
        rig.decider.publish_allowed(rig.now, &stream_id(1), &signed(*token))
    };
    assert_eq!(allowed(&rig, &grant), Ok(()));
    let to_watch = Token { grants: Grants::SUBSCRIBE, ..grant };
    assert_eq!(allowed(&rig, &to_watch), Err(Refusal::Token("it does not grant this")));
    let local = grant.sign(&crate::rig::creator(), chain_types::LOCAL_CHAIN_ID).expect("its own");
    let refused = rig.decider.publish_allowed(rig.now, &stream_id(1), &local);
    assert!(matches!(refused, Err(Refusal::Token(_))));
    assert_eq!(
        rig.decider.publish_allowed(rig.now, &stream_id(9), &signed(grant)),
        Err(Refusal::StreamUnknown)
    );
    rig.chain.stream(stream_id(1), |stream| stream.rev_epoch = 1);
    rig.block();
    assert_eq!(allowed(&rig, &grant), Err(Refusal::Token("it was taken back: ask for a new one")));
}

/// R33
#[test]
fn who_may_watch_or_publish_may_meet_the_viewers_and_who_watches_a_paid_stream() {
    let (mut rig, viewer) = listed(Policy::AllowList);
    let allowed = |rig: &Rig, account: Option<AccountId>, token: Option<Token>| {
        let token = token.map(signed);
        rig.decider.meeting_allowed(rig.now, &stream_id(1), account.as_ref(), token.as_ref())
    };
    let denied = Err(Refusal::AccessDenied("the account is not on the stream's list"));
    let (me, other) = (Some(viewer.account()), Some(account(99)));
    assert_eq!(allowed(&rig, None, None), denied);
    assert_eq!(allowed(&rig, other, None), denied);
    assert_eq!(allowed(&rig, Some(AccountId::from(&crate::rig::creator())), None), Ok(()));
    let mine = token(stream_id(1), &viewer);
    assert_eq!(allowed(&rig, me, Some(mine)), Ok(()));
    assert_eq!(allowed(&rig, other, Some(mine)), denied, "it names somebody else");
    assert_eq!(allowed(&rig, None, Some(mine)), denied, "nobody has shown the key");
    let anybodys = Token { viewer: AccountId::ZERO, ..mine };
    assert_eq!(allowed(&rig, None, Some(anybodys)), Ok(()));
    let publisher = Token { grants: Grants::PUBLISH, ..mine };
    assert_eq!(allowed(&rig, other, Some(publisher)), Ok(()));
    rig.chain.grant(stream_id(1), viewer.account(), START_MS + 60_000);
    rig.block();
    assert_eq!(allowed(&rig, me, None), Ok(()), "by the chain's record");
    let unknown = rig.decider.meeting_allowed(rig.now, &stream_id(9), me.as_ref(), None);
    assert_eq!(unknown, Err(Refusal::StreamUnknown));

    let (rig, _) = listed(Policy::Free);
    assert_eq!(allowed(&rig, None, None), Ok(()));

    let mut rig = Rig::new(|_| {});
    let asked = allowed(&rig, other, None);
    let Err(Refusal::PaymentRequired { terms, .. }) = asked else { panic!("{asked:?}") };
    assert_eq!(*terms, rig.terms(), "as who asks to watch is told");
    let (viewer, _session) = rig.watching(10);
    assert_eq!(allowed(&rig, Some(viewer.account()), None), Ok(()), "it watches, and so it pays");
    assert!(allowed(&rig, other, None).is_err());
}
