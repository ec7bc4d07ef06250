//! What the documents promise, held against the tree.

use crate::requirements;
use crate::workspace::Workspace;

fn workspace() -> Workspace {
    Workspace::find().unwrap()
}

/// The lines of the first fenced block after `heading`.
fn block_after<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let after = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let block = after.split("\n```").nth(1).unwrap_or_else(|| panic!("no block: {heading:?}"));
    block.lines().skip(1).collect() // The first line is the rest of the fence.
}

#[test]
fn the_table_of_requirements_holds_each_number_once() {
    let rows = requirements::read(&workspace()).unwrap();
    assert_eq!(rows.len(), usize::from(requirements::NUMBER_MAX));
}

/// R122
#[test]
fn the_module_table_names_files_that_exist() {
    let workspace = workspace();
    let architecture = workspace.read("ARCHITECTURE.md").unwrap();
    requirements::check_modules(&architecture, |path| workspace.has(path)).unwrap();
}

#[test]
fn every_test_that_the_invariants_name_exists() {
    let workspace = workspace();
    let architecture = workspace.read("ARCHITECTURE.md").unwrap();
    let section = architecture.split("\n## ").find(|section| section.starts_with("Invariants"));
    let named: Vec<(&str, &str)> =
        section.unwrap().split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 10, "the section names no tests");
    for (file, test) in named {
        let text = workspace.read(format!("{file}.rs")).unwrap();
        let head = format!("fn {test}");
        let is_there = text.lines().any(|line| {
            line.trim_start().strip_prefix(&head).is_some_and(|rest| rest.starts_with(['(', '<']))
        });
        assert!(is_there, "{file}.rs has no test {test}");
    }
}

#[test]
fn the_configuration_reference_names_every_option() {
    let workspace = workspace();
    let reference = workspace.read("docs/configuration.md").unwrap();
    let table = workspace.read("node/src/config/keys.rs").unwrap();
    let options: Vec<&str> = table
        .lines()
        .filter_map(|line| line.trim_start().split_once(" = \"")?.1.split('"').next())
        .filter(|name| !name.contains(' ')) // Headings of the help are names too.
        .collect();
    assert!(options.contains(&"udp-port"), "the table was not read: {options:?}");
    for option in options {
        assert!(reference.contains(&format!("| `--{option}")), "no row of --{option}");
    }
}

#[test]
fn the_readme_quotes_the_committed_instruction_counts() {
    let workspace = workspace();
    let readme = workspace.read("README.md").unwrap();
    let baseline = workspace.read("perf/baselines/callgrind.json").unwrap();
    let baseline: serde_json::Value = serde_json::from_str(&baseline).unwrap();
    let rows = [
        ("| forward a video packet to 100 subscribers", "forward_video_to_100"),
        ("| of these, seal 1150 bytes", "srtp_seal_1150"),
        ("| forward a video packet to 1 subscriber,", "forward_video_to_1"),
    ];
    for (row, case) in rows {
        let line = readme.lines().find(|line| line.starts_with(row)).expect(row);
        let quoted = line.split('|').nth(2).unwrap().trim();
        let counted = baseline[case].as_f64().unwrap().round();
        assert_eq!(quoted, counted.to_string(), "{case}: README, then baseline");
    }
}

/// R110
#[test]
fn the_top_level_is_as_documented() {
    let workspace = workspace();
    let architecture = workspace.read("ARCHITECTURE.md").unwrap();
    for name in ["Cargo.toml", "sfu", "bench", "perf", "README.md"] {
        assert!(workspace.has(name), "{name} is missing");
    }
    // Those whose part has not come yet are announced, and no longer than until they are there.
    for name in ["settlement", "consensus-abci", "coordinator"] {
        let waits = architecture
            .lines()
            .any(|line| line.contains(&format!("`{name}`")) && line.contains("not built yet"));
        assert!(workspace.has(name) != waits, "{name}: exists, or is said to be not built yet");
    }
}

/// R109
#[test]
fn every_named_package_is_used_or_its_absence_is_argued() {
    let workspace = workspace();
    let decisions = workspace.read("docs/adr/0009-packages.md").unwrap();
    let manifests: Vec<String> = workspace
        .files()
        .unwrap()
        .iter()
        .filter(|file| file.components().count() == 2 && file.ends_with("Cargo.toml"))
        .map(|file| workspace.read(file).unwrap())
        .collect();
    let names = "str0m rtp bytes crossbeam ed25519-dalek prometheus hyper mimalloc tokio-uring \
                 tendermint-rs";
    for name in names.split_whitespace() {
        let row = decisions.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let row = row.unwrap_or_else(|| panic!("ADR 0009 has no row {name}"));
        // Two are families: `crossbeam-channel`, `crossbeam-queue`; `tendermint`, `tendermint-proto`.
        let (stem, is_family) = match name {
            "crossbeam" => (name, true),
            "tendermint-rs" => ("tendermint", true),
            _ => (name, false),
        };
        let is_dependency = |line: &str| {
            line.strip_prefix(stem).is_some_and(|rest| {
                rest.starts_with(['.', ' ']) || (is_family && rest.starts_with('-'))
            })
        };
        let used = manifests.iter().any(|manifest| manifest.lines().any(is_dependency));
        let said = row.split('|').nth(2).unwrap().trim();
        assert_eq!(said, if used { "yes" } else { "not now" }, "{name}");
    }
}

#[test]
fn the_readme_has_two_commands() {
    let readme = workspace().read("README.md").unwrap();
    let commands: Vec<&str> = block_after(&readme, "\n## Two commands")
        .into_iter()
        .filter_map(|line| Some(line.split('#').next()?.trim()).filter(|line| !line.is_empty()))
        .collect();
    assert_eq!(commands, ["cargo run --release", "cargo xtask test"]);
}

#[test]
fn continuous_integration_runs_the_second_command_and_nothing_else() {
    let script = workspace().read(".ci/run").unwrap();
    let is_frame = |line: &str| {
        line.is_empty()
            || line.starts_with('#')
            || line.starts_with("set ")
            || line.starts_with("cd ")
    };
    let commands: Vec<&str> = script.lines().filter(|line| !is_frame(line)).collect();
    assert_eq!(commands, ["cargo xtask test"]);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let workspace = workspace();
    for file in workspace.files().unwrap() {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = workspace.read(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.contains(char::is_whitespace) {
                continue; // An anchor, another site, or code that looks like a link.
            }
            let target = workspace.root.join(&file).with_file_name(path);
            assert!(target.exists(), "{}: {link} does not exist", file.display());
        }
    }
}

/// A path of one machine, or where one registry lies, runs nowhere else.
#[test]
fn no_file_names_a_path_of_one_machine() {
    let workspace = workspace();
    // Built from parts, so that this file does not name them either.
    let roots = ["work", "root", "Users"].map(|name| format!("/{name}/"));
    let resolved = format!("\"resolved\": \"{}", "http");
    for file in workspace.files().unwrap() {
        let Ok(bytes) = std::fs::read(workspace.root.join(&file)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue }; // An image or a recording.
        for (index, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), index + 1);
            assert!(!line.contains(&resolved), "{place}: a lock file names a download address");
            for root in &roots {
                let named = line.match_indices(root.as_str()).any(|(at, _)| {
                    // Behind a name it is a path inside the project.
                    !line[..at]
                        .ends_with(|c: char| c.is_ascii_alphanumeric() || "._-~}".contains(c))
                });
                assert!(!named, "{place}: {root} is a path of one machine");
            }
        }
    }
}
