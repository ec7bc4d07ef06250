//! The quick starts, run from their own text: every `sh` block, in order, in one shell, as a reader
//! types it on a fresh account.

use std::{
    fmt::Write as _,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{netns::Pair, process::run, tally::Tally, workspace::Workspace};

const FOLDER: &str = "docs/quickstart";
/// The longest that one document may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Builds the node and runs each document.
pub fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    workspace.build(tally)?;
    let mut names: Vec<String> = fs::read_dir(workspace.root.join(FOLDER))
        .with_context(|| format!("no folder {FOLDER}"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "{FOLDER} has no documents");
    for name in names {
        let started = Instant::now();
        run_document(workspace, &format!("{FOLDER}/{name}"))
            .with_context(|| format!("{FOLDER}/{name} does not do what it says"))?;
        tally.passed += 1;
        println!("{FOLDER}/{name} ... ok ({:.0} s)", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn run_document(workspace: &Workspace, path: &str) -> Result<()> {
    let blocks = blocks(&workspace.read(path)?);
    ensure!(!blocks.is_empty(), "it has no sh block");
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".md");
    let home = workspace.target.join("quickstart").join(stem);
    if home.exists() {
        fs::remove_dir_all(&home).context("what the last run left")?;
    }
    fs::create_dir_all(&home)?;
    let script = home.join("quickstart.sh");
    fs::write(&script, shell(path, &blocks))?;

    // The ports that a reader has: the defaults. A namespace of our own has all of them free.
    let pair = Pair::create();
    let mut command = match &pair {
        Ok(pair) => pair.command("bash"),
        Err(_) => Command::new("bash"),
    };
    let tools = [workspace.binary("sutantra-node"), workspace.root.join(".tools/cometbft")];
    let folders = tools.iter().filter_map(|tool| tool.parent().map(ToOwned::to_owned));
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&rest)))?;
    command.arg(&script).current_dir(&home).env("HOME", &home).env("PATH", path);
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "SUTANTRA_HOME", "SUTANTRA_CONFIG"] {
        command.env_remove(name);
    }
    run(&mut command, LIMIT, &mut Tally::default())
}

/// A fenced block and the line on which it begins.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    line: usize,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(Block { line: index + 2, text: String::new() }),
            (None, _) => {}
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    blocks
}

fn shell(path: &str, blocks: &[Block]) -> String {
    // What was started in the background ends with the document, however that ends.
    let mut text = "set -euo pipefail\n\
                    end() { local jobs; jobs=$(jobs -p); [ -z \"$jobs\" ] || kill $jobs 2>/dev/null || true; wait; }\n\
                    trap end EXIT\n"
        .to_owned();
    for Block { line, text: commands } in blocks {
        writeln!(text, "echo '--- {path}:{line}'\n{commands}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_blocks_of_a_document_are_run_and_no_others() {
        let document = "# A\n```sh\none\ntwo\n```\ntext\n```text\nno\n```\n```sh\nthree\n```\n";
        let block = |line, text: &str| Block { line, text: text.to_owned() };
        assert_eq!(blocks(document), [block(3, "one\ntwo\n"), block(11, "three\n")]);
        let script = shell("a.md", &blocks(document));
        assert!(script.contains("echo '--- a.md:3'\none\ntwo\n"), "{script}");
        assert!(blocks("```sh\nnever closed").is_empty());
    }
}
