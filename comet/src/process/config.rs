//! `config/config.toml`: CometBFT's own default with this project's values, written once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{Binary, Settings};

/// Below the home.
pub const CONFIG_FILE: &str = "config/config.toml";

/// Stands above what CometBFT wrote.
const HEAD: &str = "\
# Written once, then yours: CometBFT's defaults, with the values changed that a line `# sutantra:`
# explains. The node itself sets proxy_app, rpc.laddr and p2p.laddr when it starts CometBFT; moniker,
# persistent_peers and timeout_commit where it is told --moniker, --peers, --timeout-commit-ms.

";

/// Section, key, value as TOML, why it is not the default.
const VALUES: &[(&str, &str, &str, &str)] = &[
    ("rpc", "max_request_batch_size", "100", "settlement sends many transactions in one request"),
    (
        "p2p",
        "flush_throttle_timeout",
        "\"10ms\"",
        "votes are not held back for a tenth of a second",
    ),
    ("mempool", "size", "50000", "a burst of redeems waits here, not at the relays"),
    ("mempool", "cache_size", "200000", "four times `size`, so that what came twice is known"),
    ("consensus", "peer_gossip_sleep_duration", "\"10ms\"", "a vote waits for its turn no longer"),
];
/// The same, for several nodes on one machine.
const LOCAL_VALUES: &[(&str, &str, &str, &str)] = &[
    ("p2p", "addr_book_strict", "false", "the peers are on this machine"),
    ("p2p", "allow_duplicate_ip", "true", "the peers are on this machine"),
    ("consensus", "timeout_propose", "\"1s\"", "who is down holds the others up no longer"),
];

/// Why there is no `config.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The program writes none.
    #[error("`{} init` writes no config.toml: {reason}; is this CometBFT whole?", program.display())]
    Init {
        /// The program.
        program: PathBuf,
        /// What it said.
        reason: String,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ConfigError + '_ {
    move |error| ConfigError::Io { path: path.to_owned(), error }
}

/// Writes the file where there is none. Gives whether it did.
///
/// # Errors
/// The directory cannot be written, or the program does not give its defaults.
pub fn write_config_if_missing(binary: &Binary, settings: &Settings) -> Result<bool, ConfigError> {
    let path = settings.path(CONFIG_FILE);
    if path.try_exists().map_err(io_at(&path))? {
        return Ok(false);
    }
    let dir = path.parent().expect("the file lies in a directory");
    fs::create_dir_all(dir).map_err(io_at(dir))?;
    let text = adapt(&defaults(binary, dir)?, settings);
    write_whole(&path, &text)?;
    Ok(true)
}

/// The file appears whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<(), ConfigError> {
    let new = path.with_extension(format!("toml.new-{}", std::process::id()));
    fs::write(&new, text).map_err(io_at(&new))?;
    fs::rename(&new, path).map_err(io_at(path))
}

/// The text that this version of CometBFT writes by itself, comments and all: a text of our own would
/// explain the options of one version to the users of another.
fn defaults(binary: &Binary, dir: &Path) -> Result<String, ConfigError> {
    let scratch = dir.join(format!(".init-{}", std::process::id()));
    let failed = |reason: String| ConfigError::Init { program: binary.path.clone(), reason };
    let output = Command::new(&binary.path)
        .arg("init")
        .arg("--home")
        .arg(&scratch)
        .env_clear() // CMT_* variables could lead its keys to elsewhere.
        .stdin(Stdio::null())
        .output();
    let text = fs::read_to_string(scratch.join(CONFIG_FILE));
    let _ = fs::remove_dir_all(&scratch); // What stays is a key that nobody uses.
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failed(words.lines().next().unwrap_or("it fails").to_owned()));
    }
    text.map_err(|error| failed(error.to_string()))
}

fn adapt(defaults: &str, settings: &Settings) -> String {
    let local = if settings.p2p.ip().is_loopback() { LOCAL_VALUES } else { &[] };
    let mut text = format!("{HEAD}{defaults}");
    for (section, key, value, why) in VALUES.iter().chain(local) {
        text = set(&text, section, key, value, Some(why));
    }
    if let Some(moniker) = &settings.moniker {
        // JSON's strings are TOML's.
        let name = serde_json::to_string(moniker).expect("text serializes");
        text = set(&text, "", "moniker", &name, None);
    }
    let pause = go_duration(settings.timeout_commit.unwrap_or(Settings::TIMEOUT_COMMIT));
    let pause = format!("\"{pause}\"");
    let why = "the pause after a block, on every validator alike";
    set(&text, "consensus", "timeout_commit", &pause, Some(why))
}

/// Gives `key` in `[section]` (`""`: before the first) another value, where it stands or at the
/// section's head.
fn set(text: &str, section: &str, key: &str, value: &str, why: Option<&str>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let heads = |line: &String| line.trim_start().starts_with('[');
    let head = format!("[{section}]");
    let start = match lines.iter().position(|line| line.trim() == head) {
        _ if section.is_empty() => 0,
        Some(at) => at + 1,
        None => {
            lines.push(head);
            lines.len()
        }
    };
    let end = lines[start..].iter().position(heads).map_or(lines.len(), |at| start + at);
    let is_key = |line: &String| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let line = format!("{key} = {value}");
    let at = match lines[start..end].iter().position(is_key) {
        Some(at) => {
            lines[start + at] = line;
            start + at
        }
        None => {
            lines.insert(start, line);
            start
        }
    };
    if let Some(why) = why {
        lines.insert(at, format!("# sutantra: {why}."));
    }
    lines.join("\n") + "\n"
}

/// As Go writes durations.
pub(super) fn go_duration(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, section: &str, key: &str, expected: &str) {
        assert_eq!(set(text, section, key, "7", None), expected);
    }

    #[test]
    fn a_value_is_changed_in_its_own_section_and_nowhere_else() {
        let text = "size = 1\n[rpc]\nsize = 2\n# size = 3\n[mempool]\n\nsize = 4\nmax_size = 5\n";
        check(text, "mempool", "size", &text.replace("size = 4", "size = 7"));
        check(text, "rpc", "size", &text.replace("size = 2", "size = 7"));
        // Where it does not stand yet, it comes first in its section, or in a new one.
        check("[a]\nx = 1\n[b]\n", "a", "size", "[a]\nsize = 7\nx = 1\n[b]\n");
        check("[a]\n", "b", "size", "[a]\n[b]\nsize = 7\n");
        check("# top\nsize = 1\n[a]\nsize = 1\n", "", "size", "# top\nsize = 7\n[a]\nsize = 1\n");
    }

    #[test]
    fn nodes_on_one_machine_may_share_an_address_and_others_may_not() {
        let defaults = "[p2p]\nallow_duplicate_ip = false\naddr_book_strict = true\n";
        let mut settings = Settings::new("home", "unix:///app.sock");
        let local = adapt(defaults, &settings);
        assert!(local.contains("\nallow_duplicate_ip = true\n"), "{local}");
        settings.p2p = "192.0.2.1:26656".parse().expect("an address");
        let remote = adapt(defaults, &settings);
        assert!(remote.contains("\nallow_duplicate_ip = false\naddr_book_strict = true\n"));
        assert!(remote.contains("\ntimeout_commit = \"1000ms\"\n"), "{remote}");
    }
}
