//! The `sutantra.toml` of a new home: every key with its help, those of the role set, the others as
//! comments with their defaults. Made from the table of keys, so that it cannot drift from it.

use std::{fmt::Write as _, path::Path};

use anyhow::bail;

use crate::config::{
    self, Flags, Surroundings,
    chain::{Peer, Role},
    keys::{self, Key, Kind},
};

/// Characters of a comment's line.
const LINE_CHARS_MAX: usize = 96;

/// What is set.
pub struct Settings<'a> {
    /// Name for people.
    pub moniker: &'a str,
    /// Part that the node plays.
    pub role: Role,
    /// Who makes the blocks.
    pub comet: &'a str,
    /// Whom CometBFT stays connected to.
    pub peers: &'a [Peer],
    /// Endpoints of a chain that others keep.
    pub chain_rpc: &'a [String],
}

impl Settings<'_> {
    /// The file.
    ///
    /// # Errors
    /// What the configuration's own reader says about these values.
    pub fn text(&self) -> anyhow::Result<String> {
        let text = self.write(&defaults());
        // As `start` will read it.
        let file = Path::new(config::FILE_NAME);
        let read = |path: &Path| Ok((path == Path::new(FILE)).then(|| text.clone()));
        match resolve(Some(Path::new(FILE)), &read) {
            Ok(_) => Ok(text),
            Err(errors) => {
                let errors: Vec<_> = errors
                    .iter()
                    .map(|error| error.to_string().replace(FILE, &file.display().to_string()))
                    .collect();
                bail!("{}", errors.join("\n"))
            }
        }
    }

    fn write(&self, defaults: &[(&'static Key, Option<String>)]) -> String {
        let mut text = "# Settings of this node. A flag, or the environment (SUTANTRA_UDP_PORT=7443), goes before\n\
                        # what is written here. `sutantra-node config check` says what is wrong with it.\n"
            .to_owned();
        for (key, default) in defaults {
            if *key == &keys::HOME {
                // The file lies in the home: it cannot move it.
                continue;
            }
            text.push('\n');
            write_help(&mut text, key.help);
            let line = match self.value(key) {
                Some(value) => format!("{} = {value}\n", key.name),
                None => {
                    let value = default.clone().unwrap_or_else(|| example(key));
                    format!("# {} = {value}\n", key.name)
                }
            };
            text.push_str(&line);
        }
        text
    }

    /// What the role wants of a key.
    fn value(&self, key: &Key) -> Option<String> {
        let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let list = |items: Vec<String>| {
            let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
            Some(format!("[{}]", items.join(", "))).filter(|_| !items.is_empty())
        };
        if key == &keys::ROLE {
            return Some(quote(self.role.name()));
        }
        if key == &keys::MONIKER {
            return Some(quote(self.moniker.trim()));
        }
        if key == &keys::COMET && self.role.keeps_chain() {
            return Some(quote(self.comet));
        }
        if key == &keys::PEERS {
            return list(self.peers.iter().map(ToString::to_string).collect());
        }
        if key == &keys::CHAIN_RPC {
            return list(self.chain_rpc.to_vec());
        }
        None
    }
}

/// The name under which the text is read before it is a file.
const FILE: &str = "sutantra.toml (new)";

fn resolve(
    path: Option<&Path>,
    read: &dyn Fn(&Path) -> std::io::Result<Option<String>>,
) -> Result<config::Resolved, Vec<config::ConfigError>> {
    let around = Surroundings {
        // A home is found through it; nothing of it is written.
        env: &|name| (name == "HOME").then(|| "/".to_owned()),
        read_file: read,
        cores: 1,
        development: false,
    };
    config::resolve(&Flags::new(), path, &around)
}

/// Each key and its default, as TOML.
fn defaults() -> Vec<(&'static Key, Option<String>)> {
    let resolved = resolve(None, &|_| Ok(None));
    let resolved = resolved.unwrap_or_else(|errors| panic!("the defaults fit: {errors:?}"));
    resolved.rows.into_iter().map(|(key, value, _)| (key, value)).collect()
}

/// A value in the right form for a key that has no default.
fn example(key: &Key) -> String {
    match key.kind {
        Kind::Text => format!("\"{}\"", key.value_name),
        Kind::Integer => "0".to_owned(),
        Kind::Switch | Kind::Answer => "false".to_owned(),
        Kind::List => format!("[\"{}\"]", key.value_name),
    }
}

fn write_help(text: &mut String, help: &str) {
    let mut width = 0;
    for word in help.split_whitespace() {
        if width == 0 || width + 1 + word.len() > LINE_CHARS_MAX {
            if width > 0 {
                text.push('\n');
            }
            write!(text, "# {word}").expect("a String takes any text");
            width = 2 + word.len();
        } else {
            write!(text, " {word}").expect("a String takes any text");
            width += 1 + word.len();
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn settings(role: Role) -> Settings<'static> {
        Settings { moniker: "a \"name\"", role, comet: "spawn", peers: &[], chain_rpc: &[] }
    }

    /// R112
    #[test]
    fn every_key_is_in_the_file_and_reads_back_set_or_not() {
        let text = settings(Role::ValidatorRelay).text().expect("it is understood");
        let path = Path::new("sutantra.toml");
        let set = file::parse(path, &text).expect("TOML");
        let set: Vec<_> = set.iter().map(|entry| (entry.key.name, entry.values.concat())).collect();
        let expected = [("role", "validator-relay"), ("comet", "spawn"), ("moniker", "a \"name\"")];
        assert_eq!(set, expected.map(|(name, value)| (name, value.to_owned())));

        // What is commented out is TOML of the right type as well.
        let is_setting = |line: &str| {
            let name = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "));
            name.is_some_and(|(name, _)| keys::find(name).is_some())
        };
        let uncommented: Vec<&str> =
            text.lines().map(|line| if is_setting(line) { &line[2..] } else { line }).collect();
        let all = file::parse(path, &uncommented.join("\n")).expect("TOML of the right types");
        assert_eq!(all.len(), keys::ALL.len() - 1, "all but the home");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_relay_names_its_endpoints_and_no_engine() {
        let chain_rpc = ["http://a:1".to_owned(), "https://b".to_owned()];
        let relay = Settings { chain_rpc: &chain_rpc, ..settings(Role::Relay) };
        let text = relay.text().expect("it is understood");
        assert!(text.contains("\nchain-rpc = [\"http://a:1\", \"https://b\"]\n"), "{text}");
        assert!(text.contains("\n# comet = \"embedded\"\n"), "{text}");
        let peer = "0123456789abcdef0123456789abcdef01234567@host:1".parse().expect("a peer");
        let validator = Settings { peers: &[peer], ..settings(Role::Validator) };
        assert!(validator.text().expect("understood").contains("\npeers = [\"0123"));
    }

    #[test]
    fn a_value_that_the_configuration_refuses_is_refused_before_it_is_written() {
        let refused = |settings: Settings| settings.text().expect_err("refused").to_string();
        let long = Settings { moniker: &"m".repeat(71), ..settings(Role::Validator) };
        assert!(refused(long).contains("at most 70 bytes"));
        let empty = Settings { moniker: " ", ..settings(Role::Validator) };
        assert!(refused(empty).contains("give a name"));
        assert!(refused(settings(Role::Relay)).contains("--chain-rpc"));
    }
}
