//! The two programs of a node: where they are, and what the node's own commands say.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use comet::process::Binary;

/// What a network is made of.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `sutantra-node`.
    pub node: PathBuf,
    /// CometBFT.
    pub comet: Binary,
}

impl Tools {
    /// Those given, else those that are found: the node's program beside this one, or in `PATH`.
    ///
    /// # Errors
    /// One is not there, or CometBFT is of another line than `engine` names.
    pub fn find(
        node: Option<&Path>,
        comet: Option<&Path>,
        engine: Option<&str>,
    ) -> anyhow::Result<Self> {
        let comet = Binary::find(comet)?;
        let found = format!("{}.{}", comet.version.major, comet.version.minor);
        if let Some(engine) = engine
            && engine != found
        {
            bail!(
                "{} is CometBFT {}, and the manifest wants {engine}: name another with --comet-bin",
                comet.path.display(),
                comet.version
            );
        }
        let node = match node {
            Some(node) => node.to_owned(),
            None => beside().or_else(in_path).context(
                "sutantra-node is neither beside this program nor in PATH: build it with \
                 `cargo build --release`, or name it with --node-bin FILE",
            )?,
        };
        let node = std::path::absolute(node)?;
        if !node.is_file() {
            bail!("{} is no program: name sutantra-node with --node-bin FILE", node.display());
        }
        Ok(Self { node, comet })
    }

    /// Runs a command of the node on a home; what it printed.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn run<S: AsRef<OsStr>>(&self, home: &Path, words: &[S]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.node);
        command.args(words).arg("--home").arg(home).stdin(Stdio::null());
        clean(&mut command);
        let output = command.output().with_context(|| self.node.display().to_string())?;
        if !output.status.success() {
            let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`sutantra-node {}` fails: {}", words.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Takes away what this process' environment would tell all nodes alike.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("SUTANTRA_") && text != "SUTANTRA_LOG") || text.starts_with("CMT_") {
            command.env_remove(&name);
        }
    }
}

const NODE: &str = "sutantra-node";

/// Tests lie a directory deeper than programs.
fn beside() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().skip(1).take(2).map(|dir| dir.join(NODE)).find(|path| path.is_file())
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(NODE)).find(|path| path.is_file())
}
