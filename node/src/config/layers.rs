//! Who said what: flag before environment before file before default, and what was wrong with it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Flags,
    error::{ConfigError, Origin},
    file,
    keys::{self, Key, Kind},
};

/// What was said about each key, strongest voice only, and what was wrong with it.
pub(super) struct Layers {
    pub(super) given: BTreeMap<&'static str, (Vec<String>, Origin)>,
    pub(super) rows: Vec<(&'static Key, Option<String>, Origin)>,
    pub(super) errors: Vec<ConfigError>,
}

impl Layers {
    pub(super) fn new(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let (mut given, mut errors) = (BTreeMap::new(), Vec::new());
        for key in keys::ALL {
            if let Some(values) = flags.get(key.name) {
                given.insert(key.name, (values.clone(), Origin::Flag(key.name)));
                continue;
            }
            let mut said = key.names().filter_map(|name| {
                let name = Key::env_name(name);
                env(&name).map(|value| (name, value))
            });
            let Some((name, value)) = said.next() else { continue };
            if let Some((other, _)) = said.next() {
                errors.push(ConfigError::Conflict(format!(
                    "{name} and {other} are the same setting: unset one"
                )));
            }
            let values = match key.kind {
                Kind::List if value.trim().is_empty() => Vec::new(),
                Kind::List => value.split(',').map(|item| item.trim().to_owned()).collect(),
                Kind::Text | Kind::Integer | Kind::Switch | Kind::Answer => vec![value],
            };
            given.insert(key.name, (values, Origin::Env(name)));
        }
        Self { given, rows: Vec::new(), errors }
    }

    pub(super) fn add_file(&mut self, path: &Path, entries: Vec<file::Entry>, named: bool) {
        for file::Entry { key, values, line } in entries {
            if key == &keys::HOME && !named {
                self.errors.push(ConfigError::Invalid {
                    origin: Origin::File(path.to_owned(), line),
                    name: key.name,
                    value: values.concat(),
                    reason: "this file was found through the home, so it cannot move the home; \
                             start with --config FILE or --home DIR"
                        .to_owned(),
                });
                continue;
            }
            let origin = Origin::File(path.to_owned(), line);
            self.given.entry(key.name).or_insert((values, origin));
        }
    }

    pub(super) fn home(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, Vec<ConfigError>> {
        if let Some((values, _)) = self.given.get(keys::HOME.name) {
            return Ok(PathBuf::from(values.concat()));
        }
        default_home(env).ok_or_else(|| {
            vec![ConfigError::Conflict(
                "neither HOME nor XDG_DATA_HOME is set: say where keys are kept with --home DIR"
                    .to_owned(),
            )]
        })
    }

    /// Reads one setting; an error is noted and the default stands in until the end.
    pub(super) fn one<T>(
        &mut self,
        key: &'static Key,
        default: T,
        show: impl Fn(&T) -> Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let (value, origin) = match self.given.get(key.name) {
            None => (default, Origin::Default),
            Some((values, origin)) => {
                let text = values.last().map_or("", String::as_str);
                let value = parse(text).unwrap_or_else(|reason| {
                    let (origin, value) = (origin.clone(), text.to_owned());
                    self.errors.push(ConfigError::Invalid {
                        origin,
                        name: key.name,
                        value,
                        reason,
                    });
                    default
                });
                (value, origin.clone())
            }
        };
        self.rows.push((key, show(&value), origin));
        value
    }

    pub(super) fn switch(&mut self, key: &'static Key) -> bool {
        self.switch_or(key, false)
    }

    pub(super) fn switch_or(&mut self, key: &'static Key, default: bool) -> bool {
        self.one(
            key,
            default,
            |value| Some(value.to_string()),
            |text| match text {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err("say true or false".to_owned()),
            },
        )
    }

    pub(super) fn path(&mut self, key: &'static Key) -> Option<PathBuf> {
        let show =
            |value: &Option<PathBuf>| value.as_ref().map(|path| quote(&path.to_string_lossy()));
        self.one(key, None, show, |text| match text {
            "" => Err("give the path of a file".to_owned()),
            _ => Ok(Some(PathBuf::from(text))),
        })
    }

    /// Reads a list: each value once, at most `max` of them.
    pub(super) fn list<T: fmt::Display + PartialEq>(
        &mut self,
        key: &'static Key,
        max: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.list_or(key, max, &[], parse)
    }

    /// As [`Layers::list`], with what is read where nobody gives any; an empty list is given too.
    pub(super) fn list_or<T: fmt::Display + PartialEq>(
        &mut self,
        key: &'static Key,
        max: usize,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let usual = || (default.iter().map(|&text| text.to_owned()).collect(), Origin::Default);
        let (texts, origin) = self.given.get(key.name).cloned().unwrap_or_else(usual);
        let mut values = Vec::new();
        for text in texts {
            let parsed = match parse(&text) {
                Ok(value) if values.contains(&value) => continue,
                Ok(_) if values.len() == max => Err(format!("at most {max} of them")),
                parsed => parsed,
            };
            match parsed {
                Ok(value) => values.push(value),
                Err(reason) => {
                    let origin = origin.clone();
                    self.errors.push(ConfigError::Invalid {
                        origin,
                        name: key.name,
                        value: text,
                        reason,
                    });
                }
            }
        }
        let shown: Vec<_> = values.iter().map(|value| quote(&value.to_string())).collect();
        self.rows.push((key, Some(format!("[{}]", shown.join(", "))), origin));
        values
    }

    pub(super) fn conflict(&mut self, sentence: &str) {
        self.errors.push(ConfigError::Conflict(sentence.to_owned()));
    }
}

/// The XDG data directory (an `XDG_DATA_HOME` that is not absolute is ignored, as the XDG base
/// directory specification asks).
pub(super) fn default_home(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("sutantra"))
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
