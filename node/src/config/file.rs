//! Reads `sutantra.toml`: each key with its line, unknown ones refused.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    ConfigError,
    keys::{self, Key, Kind},
};

/// Longest file that is read; nobody writes one by hand.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// One `key = value` of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which setting.
    pub key: &'static Key,
    /// As text; one element unless the key is a list.
    pub values: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

/// Reads the text of a file; all that is wrong with it, not only the first.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, Vec<ConfigError>> {
    let line_at = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let syntax = |line, message: &str| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        message: message.lines().next().unwrap_or_default().to_owned(),
    };
    if text.len() > FILE_BYTES_MAX {
        return Err(vec![syntax(1, "the file is longer than 64 KiB")]);
    }
    let table = DeTable::parse(text).map_err(|error| {
        vec![syntax(line_at(error.span().map_or(0, |span| span.start)), error.message())]
    })?;

    let (mut entries, mut errors) = (Vec::<Entry>::new(), Vec::new());
    for (name, value) in table.into_inner() {
        let line = line_at(name.span().start);
        let name = name.into_inner();
        let Some(key) = keys::find(&name) else {
            let suggestion = keys::suggest(&name);
            let (path, name) = (path.to_owned(), name.into_owned());
            errors.push(ConfigError::UnknownKey { path, line, name, suggestion });
            continue;
        };
        if entries.iter().any(|entry| entry.key == key) {
            errors.push(syntax(line, &format!("`{}` is given twice, by two names", key.name)));
            continue;
        }
        match values(key.kind, value.into_inner()) {
            Ok(values) => entries.push(Entry { key, values, line }),
            Err((need, got)) => errors.push(ConfigError::WrongType {
                path: path.to_owned(),
                line,
                name: key.name,
                need,
                got,
            }),
        }
    }
    entries.sort_by_key(|entry| entry.line);
    errors.sort_by_key(ConfigError::line);
    if errors.is_empty() { Ok(entries) } else { Err(errors) }
}

fn values(kind: Kind, value: DeValue) -> Result<Vec<String>, (&'static str, &'static str)> {
    let need = match kind {
        Kind::Text => "a string",
        Kind::Integer => "an integer",
        Kind::Switch | Kind::Answer => "true or false",
        Kind::List => "an array of strings",
    };
    match (kind, value) {
        (Kind::Text, DeValue::String(text)) => Ok(vec![text.into_owned()]),
        (Kind::Integer, DeValue::Integer(number)) if number.radix() == 10 => {
            Ok(vec![number.as_str().to_owned()])
        }
        (Kind::Switch | Kind::Answer, DeValue::Boolean(switch)) => Ok(vec![switch.to_string()]),
        (Kind::List, DeValue::Array(array)) => array
            .into_iter()
            .map(|item| match item.into_inner() {
                DeValue::String(text) => Ok(text.into_owned()),
                other => Err((need, type_name(&other))),
            })
            .collect(),
        (_, other) => Err((need, type_name(&other))),
    }
}

fn type_name(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(number) if number.radix() == 10 => "an integer",
        DeValue::Integer(_) => "an integer that is not decimal",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let seen = match parse(Path::new("sutantra.toml"), text) {
            Ok(entries) => entries
                .iter()
                .map(|e| format!("{} {}={}", e.line, e.key.name, e.values.join(",")))
                .collect::<Vec<_>>(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(seen.join("\n"), expected);
    }

    #[test]
    fn each_kind_of_value_is_read_with_its_line() {
        check(
            "# my relay\nhttp = \"[::1]:80\"\n\nudp-port = 7_443\nmedia-ip = [\n \"192.0.2.1\",\n \"2001:db8::1\",\n]\npin = true\n",
            "2 http=[::1]:80\n4 udp-port=7443\n5 media-ip=192.0.2.1,2001:db8::1\n9 pin=true",
        );
        check("", "");
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        check(
            "udp_port = 1\n\nhttp = 80\nquux = 1\npin = \"yes\"\nmedia-ip = [1]\n[shards]\n",
            "sutantra.toml:1: unknown key `udp_port`; did you mean `udp-port`?\n\
             sutantra.toml:3: `http` must be a string, not an integer\n\
             sutantra.toml:4: unknown key `quux`; `sutantra-node config print` lists them all\n\
             sutantra.toml:5: `pin` must be true or false, not a string\n\
             sutantra.toml:6: `media-ip` must be an array of strings, not an integer\n\
             sutantra.toml:7: `shards` must be an integer, not a table",
        );
        check(
            "udp-port = 0x10\n",
            "sutantra.toml:1: `udp-port` must be an integer, not an integer that is not decimal",
        );
        check(
            "home = \"a\"\ndata-dir = \"b\"\n",
            "sutantra.toml:1: `home` is given twice, by two names",
        );
    }

    #[test]
    fn text_that_is_no_toml_is_refused_at_its_line() {
        let refused = |text: &str| parse(Path::new("s.toml"), text).expect_err("refused");
        assert!(matches!(
            refused("pin = true\nhttp =").as_slice(),
            [ConfigError::Syntax { line: 2, .. }]
        ));
        assert!(matches!(
            refused("pin = true\npin = true").as_slice(),
            [ConfigError::Syntax { line: 2, .. }]
        ));
        assert!(matches!(refused(&"#".repeat(65_537)).as_slice(), [ConfigError::Syntax { .. }]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_entries_or_errors(text in ".*") {
            if let Err(errors) = parse(Path::new("s.toml"), &text) {
                proptest::prop_assert!(!errors.is_empty());
            }
        }
    }
}
