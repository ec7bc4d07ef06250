//! What is done to a node: words with their numbers, parsed into what can be.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::units::{At, Span};

/// Bytes that a truncation may cut.
const CUT_BYTES_MAX: u64 = 1 << 30;

/// What happens to a node, and when.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "RawPerturbation", into = "RawPerturbation")]
pub struct Perturbation {
    /// When.
    pub at: At,
    /// What.
    pub fault: Fault,
    /// Events of the chain about this node's validator that must be seen until it has recovered,
    /// such as `validator_jailed`.
    pub expect: Vec<String>,
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both processes die; they are started again after so long.
    Kill { down: Duration },
    /// The application dies, and its engine with it.
    KillApp { down: Duration },
    /// The engine dies alone.
    KillEngine { down: Duration },
    /// Both processes stand still.
    Pause { span: Duration },
    /// Its connections pass nothing, and none is closed.
    Partition { span: Duration },
    /// Its connections are closed, and new ones are refused.
    Disconnect { span: Duration },
    /// It is asked to end, and is started again.
    Restart,
    /// It is asked to end; without a span it is not started again.
    Stop { span: Option<Duration> },
    /// The application's disk is full.
    DiskFull { span: Duration },
    /// The engine's write-ahead log loses its end.
    TruncateWal { bytes: u64 },
    /// The newest file of the application's store loses its end.
    TruncateStore { bytes: u64 },
    /// The application's state is replaced by one that is so many blocks older.
    AppBehind { blocks: u64 },
    /// The engine's blocks are replaced by those of so many blocks ago.
    AppAhead { blocks: u64 },
}

/// The words of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    Kill,
    KillApp,
    KillEngine,
    Pause,
    Partition,
    Disconnect,
    Restart,
    Stop,
    DiskFull,
    TruncateWal,
    TruncateStore,
    AppBehind,
    AppAhead,
}

impl Word {
    /// As written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillApp => "kill-app",
            Self::KillEngine => "kill-engine",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Disconnect => "disconnect",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::DiskFull => "disk-full",
            Self::TruncateWal => "truncate-wal",
            Self::TruncateStore => "truncate-store",
            Self::AppBehind => "app-behind",
            Self::AppAhead => "app-ahead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
struct RawPerturbation {
    at: At,
    #[serde(rename = "do")]
    word: Word,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    span: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expect: Vec<String>,
}

impl Fault {
    /// Its word.
    pub const fn word(&self) -> Word {
        match self {
            Self::Kill { .. } => Word::Kill,
            Self::KillApp { .. } => Word::KillApp,
            Self::KillEngine { .. } => Word::KillEngine,
            Self::Pause { .. } => Word::Pause,
            Self::Partition { .. } => Word::Partition,
            Self::Disconnect { .. } => Word::Disconnect,
            Self::Restart => Word::Restart,
            Self::Stop { .. } => Word::Stop,
            Self::DiskFull { .. } => Word::DiskFull,
            Self::TruncateWal { .. } => Word::TruncateWal,
            Self::TruncateStore { .. } => Word::TruncateStore,
            Self::AppBehind { .. } => Word::AppBehind,
            Self::AppAhead { .. } => Word::AppAhead,
        }
    }

    /// `for`, `bytes`, `blocks`.
    fn numbers(&self) -> (Option<Duration>, Option<u64>, Option<u64>) {
        match *self {
            Self::Kill { down } | Self::KillApp { down } | Self::KillEngine { down } => {
                (Some(down).filter(|down| !down.is_zero()), None, None)
            }
            Self::Pause { span }
            | Self::Partition { span }
            | Self::Disconnect { span }
            | Self::DiskFull { span } => (Some(span), None, None),
            Self::Stop { span } => (span, None, None),
            Self::Restart => (None, None, None),
            Self::TruncateWal { bytes } | Self::TruncateStore { bytes } => {
                (None, Some(bytes), None)
            }
            Self::AppBehind { blocks } | Self::AppAhead { blocks } => (None, None, Some(blocks)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word().text())?;
        let (span, bytes, blocks) = self.numbers();
        if let Some(span) = span {
            write!(f, " for {}", Span(span))?;
        }
        if let Some(bytes) = bytes {
            write!(f, " of {bytes} bytes")?;
        }
        if let Some(blocks) = blocks {
            write!(f, " by {blocks} blocks")?;
        }
        Ok(())
    }
}

impl From<Perturbation> for RawPerturbation {
    fn from(of: Perturbation) -> Self {
        let (span, bytes, blocks) = of.fault.numbers();
        let (word, span) = (of.fault.word(), span.map(Span));
        Self { at: of.at, word, span, bytes, blocks, expect: of.expect }
    }
}

impl TryFrom<RawPerturbation> for Perturbation {
    type Error = String;

    fn try_from(raw: RawPerturbation) -> Result<Self, String> {
        let RawPerturbation { at, word, span, bytes, blocks, expect } = raw;
        let text = word.text();
        let span = span.map(|span| span.0);
        let needs_span = || span.ok_or_else(|| format!("{text} needs `for`, such as for = \"5s\""));
        let fault = match word {
            Word::Kill => Fault::Kill { down: span.unwrap_or_default() },
            Word::KillApp => Fault::KillApp { down: span.unwrap_or_default() },
            Word::KillEngine => Fault::KillEngine { down: span.unwrap_or_default() },
            Word::Pause => Fault::Pause { span: needs_span()? },
            Word::Partition => Fault::Partition { span: needs_span()? },
            Word::Disconnect => Fault::Disconnect { span: needs_span()? },
            Word::Restart => Fault::Restart,
            Word::Stop => Fault::Stop { span },
            Word::DiskFull => Fault::DiskFull { span: needs_span()? },
            Word::TruncateWal => Fault::TruncateWal { bytes: bytes.unwrap_or(512) },
            Word::TruncateStore => Fault::TruncateStore { bytes: bytes.unwrap_or(512) },
            Word::AppBehind => Fault::AppBehind { blocks: blocks.unwrap_or(5) },
            Word::AppAhead => Fault::AppAhead { blocks: blocks.unwrap_or(5) },
        };
        let (of_span, of_bytes, of_blocks) = fault.numbers();
        for (name, is_given, is_taken) in [
            ("for", span.is_some_and(|span| !span.is_zero()), of_span.is_some()),
            ("bytes", bytes.is_some(), of_bytes.is_some()),
            ("blocks", blocks.is_some(), of_blocks.is_some()),
        ] {
            if is_given && !is_taken {
                return Err(format!("{text} takes no `{name}`"));
            }
        }
        if !(1..=CUT_BYTES_MAX).contains(&of_bytes.unwrap_or(1)) {
            return Err(format!("{text}: `bytes` is 1 to {CUT_BYTES_MAX}"));
        }
        if of_blocks.unwrap_or(1) == 0 {
            return Err(format!("{text}: `blocks` is 1 or more"));
        }
        Ok(Self { at, fault, expect })
    }
}
