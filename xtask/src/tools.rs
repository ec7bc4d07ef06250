//! What the tests need beyond Rust, gcc and Node: installed by package name when it is missing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
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
    Package { name: "valgrind", programs: &["valgrind"] },
    Package { name: "g++", programs: &["c++", "g++", "clang++"] }, // libFuzzer is C++.
    Package { name: "iproute2", programs: &["ip"] },
];

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
    if workspace.has("web/package-lock.json") {
        let mut npm = workspace.command("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(workspace.root.join("web"));
        run(&mut npm, INSTALL_LIMIT, &mut Tally::default())?;
    }
    Ok(())
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
