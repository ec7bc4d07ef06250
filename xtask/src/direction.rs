//! The direction of dependencies, held against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::Workspace;

/// Crate, and those of ours that it may name. A new edge edits this table and brings an ADR.
/// `bench`, `perf`, `perturb` and `xtask` may name anything; nothing but [`TOP_EDGE`] names them.
const EDGES: &[(&str, &[&str])] = &[
    ("sfu", &[]),
    ("coordinator", &[]),
    ("peer", &["coordinator"]),
    ("chain-types", &[]),
    ("web", &[]),
    ("consensus-abci", &["chain-types"]),
    ("discovery", &["chain-types"]),
    ("light", &["chain-types"]),
    ("comet", &["light", "chain-types"]),
    ("wallet", &["chain-types"]),
    ("settlement", &["sfu", "light", "chain-types"]),
    (
        "node",
        &[
            "sfu",
            "coordinator",
            "peer",
            "chain-types",
            "web",
            "consensus-abci",
            "discovery",
            "light",
            "comet",
            "settlement",
            "wallet",
        ],
    ),
];

/// What a crate's tests may name besides: a client is tried against a real engine.
const TEST_EDGES: &[(&str, &str)] = &[("comet", "consensus-abci")];

const TOPS: &[&str] = &["bench", "perf", "perturb", "xtask"];

/// The one edge between tops: comparisons are driven by the load generator's clients.
const TOP_EDGE: (&str, &str) = ("perf", "bench");

/// Crates of HTTP, chain, accounts and money: the relay builds with none of them.
const BANNED_IN_SFU: &[&str] = &[
    "axum",
    "axum-core",
    "chain-types",
    "cometbft",
    "consensus-abci",
    "ed25519-consensus",
    "ed25519-dalek",
    "h2",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "jmt",
    "libp2p",
    "light",
    "reqwest",
    "rustls",
    "settlement",
    "tendermint",
    "tendermint-proto",
    "tendermint-rpc",
    "tokio",
    "tower",
];

/// Crates of the workspace, each with those of ours that it names (for builds, tests or scripts);
/// without what [`TEST_EDGES`] allows its tests.
fn own_edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = Workspace::find().unwrap().metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let edges = packages.iter().map(|package| {
        let all = package["dependencies"].as_array().unwrap();
        let from = name(package);
        let is_allowed = |dependency: &&serde_json::Value| {
            dependency["kind"] == "dev"
                && TEST_EDGES.contains(&(from.as_str(), name(dependency).as_str()))
        };
        let ours = all.iter().filter(|dependency| dependency["path"].is_string());
        let ours = ours.filter(|dependency| !is_allowed(dependency)).map(name).collect();
        (from, ours)
    });
    edges.collect()
}

#[test]
fn crates_depend_only_in_the_allowed_direction() {
    let table: BTreeMap<_, _> = EDGES.iter().copied().collect();
    for (from, to) in own_edges() {
        for to in to {
            if (from.as_str(), to.as_str()) == TOP_EDGE {
                continue;
            }
            assert!(!TOPS.contains(&to.as_str()), "{from} names {to}, which nothing may name");
            if TOPS.contains(&from.as_str()) {
                continue;
            }
            let allowed = table.get(from.as_str()).unwrap_or_else(|| panic!("{from}: no row"));
            assert!(allowed.contains(&to.as_str()), "{from} may not name {to}");
        }
    }
}

#[test]
fn every_crate_has_its_place() {
    let crates = own_edges();
    for name in crates.keys() {
        let known = TOPS.contains(&name.as_str()) || EDGES.iter().any(|(from, _)| from == name);
        assert!(known, "{name} is in neither table");
    }
    assert!(crates["node"].contains("sfu"), "the edges were not read");
}

#[test]
fn the_relay_builds_with_no_http_and_no_chain() {
    let tree = Workspace::find()
        .unwrap()
        .cargo()
        .args(["tree", "--package", "sfu", "--edges", "normal,build", "--locked"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("str0m") && names.len() > 10, "the tree was not read: {names:?}");
    for banned in BANNED_IN_SFU {
        assert!(!names.contains(banned), "sfu builds with {banned}");
    }
}
