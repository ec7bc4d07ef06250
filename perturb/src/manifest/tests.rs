//! What a manifest means, and what is refused.

use super::*;

const GOOD: &str = r#"
        [chain]
        timeout_commit = "200ms"
        snapshot_interval = 10
        params = { signed_window_blocks = 50 }

        [load]
        tx_per_second = 20
        kinds = ["transfer", "channel"]

        [[node]]
        name = "v0"
        stake = "150"
        perturb = [
            { at = 5, do = "kill" },
            { at = "after 10s", do = "pause", for = "3s" },
            { at = 30, do = "truncate-wal", bytes = 100 },
            { at = 40, do = "stop", for = "20s", expect = ["validator_jailed"] },
        ]

        [[node]]
        name = "late"
        mode = "full"
        start_at = 20
        state_sync = true

        [[stake]]
        at = 12
        from = "v0"
        do = "delegate"
        amount = "50"
        expect = { v0 = 200 }
    "#;

#[test]
fn a_manifest_says_what_happens_when() {
    let manifest = Manifest::parse("good", GOOD).expect("good");
    let done: Vec<String> = manifest.nodes[0]
        .perturb
        .iter()
        .map(|perturbation| format!("{}: {}", perturbation.at, perturbation.fault))
        .collect();
    assert_eq!(
        done,
        [
            "height 5: kill",
            "after 10s: pause for 3s",
            "height 30: truncate-wal of 100 bytes",
            "height 40: stop for 20s",
        ]
    );
    assert_eq!(manifest.params().expect("good").signed_window_blocks, 50);
    assert_eq!(Manifest::stake_of(&manifest.nodes[0]), Balance::of(150_000_000_000));
    let again = Manifest::parse("again", &manifest.text()).expect("its own text");
    assert_eq!(again, manifest);
}

#[track_caller]
fn check(change: (&str, &str), expected: &str) {
    assert!(GOOD.contains(change.0), "{} is not there to be changed", change.0);
    let text = GOOD.replace(change.0, change.1);
    let error = Manifest::parse("bad.toml", &text).expect_err(change.1).to_string();
    assert!(error.contains("bad.toml") && error.contains(expected), "{error}");
}

#[test]
fn what_nobody_knows_is_refused_with_its_place_and_the_known_words() {
    check(("do = \"kill\"", "do = \"murder\""), "unknown variant `murder`, expected one of `kill`");
    check(("tx_per_second", "tps"), "unknown field `tps`, expected one of");
    check(("mode = \"full\"", "mode = \"seed\""), "`validator` or `full`");
    check(("\"channel\"", "\"mint\""), "unknown variant `mint`");
    check(("name = \"late\"", "nom = \"late\""), "line 2");
    check(("signed_window_blocks", "window"), "known parameters are");
    check(("= 50 }", "= 5 }"), "signed_window_blocks");
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    check((", for = \"3s\"", ""), "pause needs `for`");
    check(("do = \"kill\"", "do = \"kill\", bytes = 7"), "kill takes no `bytes`");
    check(("bytes = 100", "bytes = 0"), "`bytes` is 1 to");
    check(("\"3s\"", "\"3 s\""), "is no span of time");
    check(("\"after 10s\"", "\"10s\""), "write \"after 10s\"");
    check(("at = 5", "at = 0"), "a height is 1 or more");
    check(("start_at = 20", "# no start"), "say start_at");
    check(("snapshot_interval = 10", "snapshot_interval = 0"), "chain.snapshot_interval");
    check(("name = \"late\"", "name = \"v0\""), "two of this name");
    check(("amount = \"50\"", "# none"), "it needs an amount");
    check(("expect = { v0", "expect = { v9"), "there is no node \"v9\"");
    check(
        ("stake = \"150\"", "stake = \"150\"\n mode = \"full\""),
        "nobody would make the first block",
    );
    check(("state_sync = true", "key_of = \"nobody\""), "key_of must name a validator");
}
