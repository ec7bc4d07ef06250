//! What the tests need beyond Rust, gcc and Node: installed by name and version when it is missing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{run, show};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// A Debian package, wanted when none of its programs is on the path.
struct Package {
    name: &'static str,
    programs: &'static [&'static str],
}

const PACKAGES: &[Package] = &[
    Package { name: "chromium", programs: &["chromium", "google-chrome"] },
    Package { name: "firefox-esr", programs: &["firefox-esr", "firefox"] },
    Package { name: "prometheus", programs: &["promtool"] },
    Package { name: "systemd", programs: &["systemd-analyze"] },
    Package { name: "valgrind", programs: &["valgrind"] },
    Package { name: "g++", programs: &["c++", "g++", "clang++"] }, // libFuzzer is C++.
    Package { name: "iproute2", programs: &["ip"] },
    Package { name: "coturn", programs: &["turnserver"] },
];

/// The engine of real networks, in `.tools/` of the workspace.
pub const COMETBFT: &str = "0.38.26";
/// The next line of it, in a directory of its own below.
pub const COMETBFT_NEXT: &str = "0.39.4";
/// Oldest Go that builds it, or that fetches one that does (`GOTOOLCHAIN=auto` came with 1.21).
const GO_MIN: (u32, u32) = (1, 21);
/// Oldest Node whose test runner and fetch the scenarios can rely on.
const NODE_MAJOR_MIN: u32 = 20;
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Installs what is missing, or fails with the command that would.
pub fn install(workspace: &Workspace) -> Result<()> {
    check_node()?;
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|package| !is_there(package)).map(|package| package.name).collect();
    if missing.is_empty() {
        println!("every package is installed");
    } else {
        install_packages(&missing)?;
    }
    install_cometbft(workspace, COMETBFT)?;
    if workspace.has("web/package-lock.json") {
        let mut npm = workspace.command("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(workspace.root.join("web"));
        run(&mut npm, INSTALL_LIMIT, &mut Tally::default())?;
    }
    Ok(())
}

/// Puts CometBFT into `.tools/` unless it is there in the right version; its program.
pub fn install_cometbft(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let tools = match version {
        COMETBFT => workspace.root.join(".tools"),
        other => workspace.root.join(".tools").join(other),
    };
    let program = tools.join("cometbft");
    if cometbft_version(&program).as_deref() == Some(version) {
        println!("CometBFT {version} is in {}", tools.display());
        return Ok(program);
    }
    let go = check_go()?;
    println!("CometBFT {version} is built by {go}: a minute or two, once");
    let mut command = workspace.command("go");
    command
        .arg("install")
        .arg(format!("github.com/cometbft/cometbft/cmd/cometbft@v{version}"))
        .env("GOBIN", &tools)
        // A Go that is too old for it fetches the one that it names.
        .env("GOTOOLCHAIN", "auto");
    run(&mut command, INSTALL_LIMIT, &mut Tally::default()).with_context(|| {
        format!(
            "by hand: GOBIN={} {} (it needs the Go module proxy, or GOPROXY=direct and git)",
            tools.display(),
            show(&command)
        )
    })?;
    let found = cometbft_version(&program).unwrap_or_else(|| "nothing".to_owned());
    ensure!(found == version, "{} says {found}, expected {version}", program.display());
    Ok(program)
}

fn cometbft_version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A build from a checkout adds its commit.
    Some(text.trim().split('+').next()?.to_owned()).filter(|version| !version.is_empty())
}

/// What Go there is: `go1.26.1`.
fn check_go() -> Result<String> {
    let advice = format!(
        "CometBFT is built from source by Go {}.{} or newer: install it from https://go.dev/dl/ \
         (Debian 12's golang-go is 1.19, too old; golang-1.21 or newer of its backports will do)",
        GO_MIN.0, GO_MIN.1
    );
    let output = Command::new("go").arg("version").output();
    let output = output.with_context(|| format!("Go is missing. {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or("a Go without version");
    ensure!(go_version(version).is_some_and(|it| it >= GO_MIN), "{version} is too old. {advice}");
    Ok(version.to_owned())
}

/// Major and minor of `go1.26.1`, `go1.22rc1`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("go")?.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

fn install_packages(missing: &[&str]) -> Result<()> {
    let by_hand = format!("sudo apt-get install {}", missing.join(" "));
    println!("missing packages: {}", missing.join(", "));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of_us| of_us.uid() == 0);
    if !on_path("apt-get") || !(is_root || on_path("sudo")) {
        bail!("cannot install them from here; on Debian: {by_hand}");
    }
    let apt_get = |arguments: &[&str]| {
        // `-n`: a question for a password would wait for ever where nobody answers.
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        command.args(if is_root { &[][..] } else { &["-n", "env"] });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
        println!("{}", show(&command));
        run(&mut command, INSTALL_LIMIT, &mut Tally::default())
            .with_context(|| format!("by hand: {by_hand}"))
    };
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], missing].concat())?;
    for package in PACKAGES {
        ensure!(is_there(package), "{} is installed, but it is not on the path", package.name);
    }
    Ok(())
}

fn check_node() -> Result<()> {
    let output = Command::new("node").arg("--version").output();
    let output = output.context("Node is missing: install Node 20 or newer, with npm")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
    ensure!(
        major.is_some_and(|major: u32| major >= NODE_MAJOR_MIN),
        "Node {version} is too old, the tests need {NODE_MAJOR_MIN} or newer"
    );
    ensure!(on_path("npm"), "npm is missing: install it beside Node");
    Ok(())
}

fn is_there(package: &Package) -> bool {
    package.programs.iter().any(|program| on_path(program))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // `ip` lies in /usr/sbin, which is not on everybody's path.
    let sbin = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).to_owned());
    std::env::split_paths(&path).chain(sbin).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_that_can_fetch_a_newer_one_is_new_enough() {
        let enough = |text| go_version(text).is_some_and(|version| version >= GO_MIN);
        assert!(enough("go1.21.0") && enough("go1.26.8") && enough("go1.22rc1") && enough("go2.0"));
        assert!(!enough("go1.19.8") && !enough("go1.9") && !enough("devel") && !enough(""));
    }

    #[test]
    fn a_program_that_is_missing_or_mute_has_no_version() {
        assert_eq!(cometbft_version(Path::new("/nowhere/cometbft")), None);
        assert_eq!(cometbft_version(Path::new("/bin/true")), None);
        assert_eq!(cometbft_version(Path::new("/bin/echo")).as_deref(), Some("version"));
    }
}
