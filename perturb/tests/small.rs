//! A network of real nodes, disturbed for half a minute; and one in which something does not hold.

use std::{fs, path::Path, process::Command};

use perturb::{
    conduct::{self, Wish},
    manifest::Manifest,
    report::Report,
    tools::Tools,
};

fn manifests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

#[test]
fn every_manifest_of_this_directory_can_be_run() {
    let mut count = 0;
    for entry in fs::read_dir(manifests()).expect("they are there") {
        let path = entry.expect("a file").path();
        Manifest::load(&path).unwrap_or_else(|error| panic!("{error}"));
        count += 1;
    }
    assert!(count >= 2, "{count} manifests");
}

#[test]
fn a_manifest_that_cannot_be_run_is_refused_by_the_program_with_code_2() {
    let path = std::env::temp_dir().join(format!("perturb-bad-{}.toml", std::process::id()));
    fs::write(&path, "[[node]]\nname = \"v0\"\nperturb = [{ at = 3, do = \"burn\" }]\n")
        .expect("ours");
    let output = Command::new(env!("CARGO_BIN_EXE_sutantra-perturb"))
        .arg("check")
        .arg(&path)
        .output()
        .expect("it starts");
    fs::remove_file(&path).expect("ours");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("line 3") && said.contains("`kill`"), "{said}");
}

fn run(manifest: Manifest) -> Report {
    let tools = Tools::find(None, None, None).unwrap_or_else(|error| panic!("{error:#}"));
    let wish = Wish { name: "small".to_owned(), manifest, tools, keep: None };
    conduct::run(wish).unwrap_or_else(|error| panic!("{error:#}"))
}

/// R107: killed, paused, shut off and joined late under load; equal states, nothing acknowledged is
/// lost, money is conserved, the validator set is as scheduled.
#[test]
fn a_disturbed_network_agrees_at_every_height_and_loses_nothing() {
    let manifest = Manifest::load(&manifests().join("small.toml")).expect("checked above");
    let report = run(manifest);
    assert!(report.is_good(), "{}", report.text());
    let done: Vec<&str> = report.incidents.iter().map(|one| one.what.as_str()).collect();
    for what in ["kill for 1s", "pause for 2s", "partition for 3s", "joins by block sync"] {
        assert!(done.contains(&what), "{done:?}");
    }
    assert!(report.load.seen > 100, "{}", report.text());
    assert_eq!(report.audited.heights_by_node.len(), 5, "{}", report.text());
    assert!(report.audited.answers_compared >= 4 * report.audited.height, "{}", report.text());
    println!("{}", report.text());
}

/// One validator, and a power that it never gets.
const WRONG: &str = r#"
    [chain]
    timeout_commit = "200ms"
    duration = "1s"

    [[node]]
    name = "v0"

    [[stake]]
    at = 3
    from = "v0"
    do = "delegate"
    amount = "1"
    expect = { v0 = 999 }
"#;

#[test]
fn what_does_not_hold_is_said_with_code_1_and_the_place_of_the_logs() {
    let dir = std::env::temp_dir().join(format!("perturb-wrong-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("ours");
    let (manifest, kept) = (dir.join("wrong.toml"), dir.join("kept"));
    fs::write(&manifest, WRONG).expect("ours");
    let output = Command::new(env!("CARGO_BIN_EXE_sutantra-perturb"))
        .arg("run")
        .arg(&manifest)
        .arg("--keep")
        .arg(&kept)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}{errors}");
    let violated = said.lines().find(|line| line.starts_with("VIOLATED")).unwrap_or_default();
    assert!(
        violated.contains("v0 has the power 101 at height")
            && violated.contains("the manifest expects 999"),
        "{said}"
    );
    assert!(said.contains(&format!("homes and logs: {}", kept.display())), "{said}");
    assert!(kept.join("v0/log/comet.log").exists());
    fs::remove_dir_all(&dir).expect("ours");
}
