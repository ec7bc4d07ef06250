//! Where things lie: the checkout's root, its target directory, its files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::run;
use crate::tally::Tally;

/// The longest that a build may take; beyond it something waits for a lock and is killed.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// A checkout of the project.
pub struct Workspace {
    /// The directory of the workspace manifest.
    pub root: PathBuf,
    /// Where cargo builds to.
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo; the answer does not depend on the current directory.
    pub fn find() -> Result<Workspace> {
        let metadata = Self::metadata_at(&manifest_of_xtask())?;
        let text = |key: &str| -> Result<PathBuf> {
            let value = metadata[key].as_str().with_context(|| format!("cargo metadata: {key}"))?;
            Ok(PathBuf::from(value))
        };
        Ok(Workspace { root: text("workspace_root")?, target: text("target_directory")? })
    }

    /// `cargo metadata` of the workspace's own crates; needs no network.
    #[cfg(test)]
    pub fn metadata(&self) -> Result<serde_json::Value> {
        Self::metadata_at(&self.root.join("Cargo.toml"))
    }

    fn metadata_at(manifest: &Path) -> Result<serde_json::Value> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(manifest)
            .output()
            .context("cargo metadata does not start")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("cargo metadata does not print JSON")
    }

    /// Builds every program of the workspace, as the tests build it: another choice of crates would
    /// unify features differently and build the dependencies again.
    pub fn build(&self, tally: &mut Tally) -> Result<()> {
        let scope = ["build", "--release", "--workspace", "--all-targets", "--locked"];
        run(self.cargo().args(scope), BUILD_LIMIT, tally)
    }

    /// A command that starts in the root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Cargo, started in the root.
    pub fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// A program of the workspace, as the release profile builds it.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Whether `path` (relative to the root) exists.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The text of a file, relative to the root.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.root.join(path);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Files of the project, relative to the root: tracked ones and new ones that git does not
    /// ignore.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let output = self
            .command("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .output()
            .context("git does not start")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut files: Vec<PathBuf> =
            names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect();
        files.sort();
        files.dedup();
        files.retain(|file| self.root.join(file).is_file()); // Deleted, and not yet committed.
        Ok(files)
    }
}

/// The cargo that runs us, so that the toolchain stays the same.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn manifest_of_xtask() -> PathBuf {
    let directory =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(directory).join("Cargo.toml")
}
