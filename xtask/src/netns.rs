//! A pair of network namespaces joined by a veth, gone when the value is dropped.
//!
//! A browser gathers no candidate on `lo` alone, and the host's own interfaces are nobody's to test
//! on. Both ends get an address of 10/8 and a default route to one another. They are called `eth0`: a
//! stack that takes `veth…` for the inner side of some container gathers nothing there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Two namespaces; their names carry our process id, so that two runs never meet.
pub struct Pair {
    near: String,
    far: String,
}

/// Address of the near end.
pub const NEAR: &str = "10.213.77.1";
/// Address of the far end.
pub const FAR: &str = "10.213.77.2";

impl Pair {
    /// Makes the pair; needs root, or the capability to make namespaces.
    pub fn create() -> Result<Pair> {
        sweep();
        let id = std::process::id();
        let pair = Pair { near: format!("sut{id}n"), far: format!("sut{id}f") };
        pair.build().context("network namespaces")?; // On failure `Drop` removes what was made.
        Ok(pair)
    }

    fn build(&self) -> Result<()> {
        let (near, far) = (self.near.as_str(), self.far.as_str());
        ip(&["netns", "add", near])?;
        ip(&["netns", "add", far])?;
        // Made inside, so that the host's namespace never holds the ends.
        let peer = ["peer", "name", "eth0", "netns", far];
        ip(&[&["-n", near, "link", "add", "eth0", "type", "veth"], &peer[..]].concat())?;
        for (namespace, address, gateway) in [(near, NEAR, FAR), (far, FAR, NEAR)] {
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", namespace, "route", "add", "default", "via", gateway])?;
        }
        Ok(())
    }

    /// `program`, to be started inside the near namespace.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.near]).arg(program.as_ref());
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The veth dies with either namespace; a namespace that was never made is no news.
        for namespace in [&self.near, &self.far] {
            let _ = quiet(&["netns", "delete", namespace]);
        }
    }
}

/// Removes what an interrupted run of ours left: pairs whose process is no more.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(pid) = owner(&name) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = quiet(&["netns", "delete", &name]);
        }
    }
}

/// The process id in a name of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("sut")?.strip_suffix(['n', 'f'])?.parse().ok()
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("`ip` does not start")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), reason.trim());
    }
    Ok(())
}

fn quiet(arguments: &[&str]) -> std::io::Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("sut123n"), Some(123));
        assert_eq!(owner("sut123f"), Some(123));
        for foreign in ["sut123", "sutn", "cni-123n", "sut12an"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_pair_is_gone_after_it_is_dropped() {
        // Only root may make namespaces; everybody else runs the scenarios on the host's network.
        let Ok(pair) = Pair::create() else { return };
        let near = Path::new("/run/netns").join(&pair.near);
        assert!(near.exists());
        let addresses = pair.command("ip").args(["-brief", "address"]).output().unwrap();
        assert!(String::from_utf8_lossy(&addresses.stdout).contains(NEAR));
        drop(pair);
        assert!(!near.exists());
    }
}
