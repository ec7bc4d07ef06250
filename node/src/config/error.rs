//! What is wrong with the configuration, and who said it.

use std::{fmt, path::PathBuf};

/// Where a value comes from, weakest last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Command line.
    Flag(&'static str),
    /// Environment.
    Env(String),
    /// Configuration file and line.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => write!(f, "{name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => write!(f, "default"),
        }
    }
}

/// What is wrong with the configuration; each sentence says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is there or was named, and cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that nobody reads would be a setting that silently does nothing.
    #[error("{}:{line}: unknown key `{name}`; {}", path.display(), meant(*suggestion))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// As written.
        name: String,
        /// A known key that is spelled much like it.
        suggestion: Option<&'static str>,
    },
    /// A known key with a value of another type.
    #[error("{}:{line}: `{name}` must be {need}, not {got}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key.
        name: &'static str,
        /// Type needed.
        need: &'static str,
        /// Type given.
        got: &'static str,
    },
    /// A value that cannot be.
    #[error("{origin}: `{name}` cannot be `{value}`: {reason}")]
    Invalid {
        /// Who said it.
        origin: Origin,
        /// The key.
        name: &'static str,
        /// As given.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// Two settings, each right alone.
    #[error("{0}")]
    Conflict(String),
}

fn meant(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`sutantra-node config print` lists them all".to_owned(),
    }
}

impl ConfigError {
    /// In the file; 0 where it is about no line of it.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::Syntax { line, .. }
            | Self::UnknownKey { line, .. }
            | Self::WrongType { line, .. } => *line,
            Self::Unreadable { .. } | Self::Invalid { .. } | Self::Conflict(_) => 0,
        }
    }
}
