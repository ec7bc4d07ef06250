//! The manifest: which nodes there are, what happens to them when, what is expected.
//!
//! TOML. A word that is not known is refused with its place and the words that are.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use chain_types::{Balance, Params};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nodes of one network; each is two processes.
pub const NODES_MAX: usize = 12;
/// Accounts that send the load.
const ACCOUNTS_MAX: u32 = 2_000;
/// Bytes that a truncation may cut.
const CUT_BYTES_MAX: u64 = 1 << 30;
/// The longest span that a manifest may name.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A span of time, as `200ms`, `5s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let parsed = units.iter().find_map(|(unit, ms)| {
            let digits = text.strip_suffix(unit)?;
            let number: u64 = digits.parse().ok()?;
            number.checked_mul(*ms).map(Duration::from_millis)
        });
        match parsed {
            Some(span) if span <= SPAN_MAX => Ok(Self(span)),
            _ => Err(format!(
                "{text:?} is no span of time: write a whole number and ms, s, m or h, at most 24h, \
                 such as 5s"
            )),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// When something happens: when the chain is at a height, or so long after its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest height of any node.
    Height(u64),
    /// After the first block.
    After(Duration),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Height(height) => write!(f, "height {height}"),
            Self::After(span) => write!(f, "after {}", Span(*span)),
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = At;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a height such as 20, or a text such as \"after 10s\"")
            }

            fn visit_i64<E: de::Error>(self, height: i64) -> Result<At, E> {
                let height = u64::try_from(height).ok().filter(|height| *height > 0);
                height.map(At::Height).ok_or_else(|| E::custom("a height is 1 or more"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                let span = text.strip_prefix("after ").ok_or_else(|| {
                    E::custom(format!("{text:?}: write \"after 10s\", or a height without quotes"))
                })?;
                span.parse::<Span>().map(|span| At::After(span.0)).map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Height(height) => to.serialize_u64(*height),
            Self::After(span) => to.serialize_str(&format!("after {}", Span(*span))),
        }
    }
}

/// An amount in SUT, as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sut(pub Balance);

impl<'de> Deserialize<'de> for Sut {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Balance::parse_sut(&text).map(Self).map_err(|error| {
            de::Error::custom(format!("{text:?} is no amount of SUT, such as \"100\": {error}"))
        })
    }
}

impl Serialize for Sut {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0.in_sut())
    }
}

/// A whole manifest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Manifest {
    /// The chain and the run.
    #[serde(default)]
    pub chain: Chain,
    /// What is sent meanwhile; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// The nodes, in the order in which they are started.
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    /// What changes the validator set, one after the other.
    #[serde(default, rename = "stake", skip_serializing_if = "Vec::is_empty")]
    pub stakes: Vec<Stake>,
}

/// `[chain]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Chain {
    /// Pause after a block, on every node alike.
    pub timeout_commit: Span,
    /// How long the run lasts at least, from the first block on; perturbations that are not done by
    /// then are waited for.
    pub duration: Span,
    /// What chance is made of.
    pub seed: u64,
    /// Which line of CometBFT is wanted, `0.38` or `0.39`; any where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How long a node may take to be where the others are after its disturbance.
    pub recover_within: Span,
    /// How long the chain may take for its next blocks once everything is healed.
    pub blocks_within: Span,
    /// Blocks between two snapshots of each node; 0: none.
    pub snapshot_interval: u64,
    /// The application's parameters that are other than those for tests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, toml::Value>,
}

impl Default for Chain {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self {
            timeout_commit: Span(Duration::from_millis(500)),
            duration: seconds(60),
            seed: 1,
            engine: None,
            recover_within: seconds(90),
            blocks_within: seconds(45),
            snapshot_interval: 0,
            params: BTreeMap::new(),
        }
    }
}

/// `[load]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Load {
    /// Transactions a second, all senders together.
    pub tx_per_second: u32,
    /// Who sends: each has one transaction on its way at most.
    #[serde(default = "accounts_default")]
    pub accounts: u32,
    /// What is sent, each kind as often as it stands here.
    #[serde(default = "kinds_default")]
    pub kinds: Vec<Kind>,
}

fn accounts_default() -> u32 {
    100
}

fn kinds_default() -> Vec<Kind> {
    vec![Kind::Transfer]
}

/// A kind of transactions of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money to another account of the bank.
    Transfer,
    /// A stream is registered.
    Stream,
    /// A channel is opened, or topped up where there is one.
    Channel,
    /// Stake is given to a validator, taken back, or its rewards are.
    Stake,
}

/// `[[node]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Node {
    /// Its name: letters, digits and dashes.
    pub name: String,
    /// Whether it is in the genesis as a validator.
    #[serde(default)]
    pub mode: Mode,
    /// Whether application and engine are started apart, so that each can be killed alone.
    #[serde(default)]
    pub run: Run,
    /// What a validator of the genesis stakes, SUT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<Sut>,
    /// When it joins; at the beginning where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<At>,
    /// Joins from a snapshot of the others instead of all blocks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state_sync: bool,
    /// Signs with a copy of this node's validator key, which is punished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_of: Option<String>,
    /// What happens to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturb: Vec<Perturbation>,
}

/// A node's part at the genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It validates from the first block on.
    #[default]
    Validator,
    /// It follows; a stake step may make it a validator.
    Full,
}

/// How a node's processes are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// Application and engine by themselves (`--comet external`).
    #[default]
    Apart,
    /// The application starts its engine and watches it (`--comet spawn`).
    Together,
}

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

/// `[[stake]]`: a transaction of a node's operator, and what it makes of the validator set.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Stake {
    /// When it is sent, once the steps before it are done.
    pub at: At,
    /// The node whose operator sends it.
    pub from: String,
    /// What it does.
    #[serde(rename = "do")]
    pub action: Action,
    /// The node whose validator it is about; the sender's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How much, SUT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Sut>,
    /// Powers in the engine's set two blocks after its block; 0: not in the set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, u64>,
}

/// What a stake step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The sender's node becomes a validator.
    CreateValidator,
    /// Stake for `to`.
    Delegate,
    /// Stake of `to` comes back.
    Undelegate,
    /// Stake with the sender's own validator goes to `to`.
    Redelegate,
    /// The sender's validator, jailed, votes again.
    Unjail,
    /// Rewards with `to` are paid out.
    Withdraw,
}

/// Why a manifest cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there.
    #[error("{0} cannot be read: {1}")]
    Io(String, std::io::Error),
    /// No TOML, or words that nobody knows.
    #[error("{0}: {1}")]
    Syntax(String, toml::de::Error),
    /// It says what cannot be.
    #[error("{name} cannot be run:\n  {}", faults.join("\n  "))]
    Faults {
        /// The manifest.
        name: String,
        /// Each in a sentence.
        faults: Vec<String>,
    },
}

impl Manifest {
    /// Reads a file.
    ///
    /// # Errors
    /// Syntax with its place, or all that is wrong with its sense.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ManifestError::Io(name.clone(), error))?;
        Self::parse(&name, &text)
    }

    /// Reads a text; `name` is for the sentences.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(name.to_owned(), error))?;
        let faults = manifest.faults();
        match faults.is_empty() {
            true => Ok(manifest),
            false => Err(ManifestError::Faults { name: name.to_owned(), faults }),
        }
    }

    /// As TOML.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("plain values with text keys are TOML")
    }

    /// The application's parameters.
    ///
    /// # Errors
    /// What is no parameter, each in a sentence.
    pub fn params(&self) -> Result<Params, Vec<String>> {
        let mut json =
            serde_json::to_value(Params::for_tests()).expect("parameters have a JSON form");
        let mut faults = Vec::new();
        for (name, value) in &self.chain.params {
            let known = json.as_object().is_some_and(|all| all.contains_key(name));
            match serde_json::to_value(value) {
                Ok(value) if known => json[name] = value,
                _ => {
                    let names = json.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
                    let names = names.unwrap_or_default().join(", ");
                    faults.push(format!("chain.params.{name}: known parameters are {names}"));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let params: Params =
            serde_json::from_value(json).map_err(|error| vec![format!("chain.params: {error}")])?;
        let faults = params.faults();
        if faults.is_empty() { Ok(params) } else { Err(faults) }
    }

    /// What a validator of the genesis stakes.
    pub fn stake_of(node: &Node) -> Balance {
        node.stake.map_or(Balance::of(100_000_000_000), |sut| sut.0)
    }

    /// Where the node of this name stands.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=NODES_MAX).contains(&self.nodes.len()) {
            faults.push(format!("{} nodes: there are 1 to {NODES_MAX}", self.nodes.len()));
        }
        if let Some(engine) = &self.chain.engine
            && !["0.38", "0.39"].contains(&engine.as_str())
        {
            faults.push(format!("chain.engine is {engine:?}: say \"0.38\" or \"0.39\""));
        }
        if let Err(wrong) = self.params() {
            faults.extend(wrong);
        }
        if let Some(load) = &self.load {
            if !(1..=1_000).contains(&load.tx_per_second) {
                faults.push("load.tx_per_second is 1 to 1000".to_owned());
            }
            if !(2..=ACCOUNTS_MAX).contains(&load.accounts) {
                faults.push(format!("load.accounts is 2 to {ACCOUNTS_MAX}"));
            }
            if load.kinds.is_empty() {
                faults
                    .push("load.kinds is empty: say transfer, stream, channel or stake".to_owned());
            }
        }
        if !self.nodes.iter().any(Self::is_first) {
            faults.push(
                "no node is a validator from the beginning: nobody would make the first block"
                    .to_owned(),
            );
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let name = &node.name;
            let mut fault = |text: &str| faults.push(format!("node {name:?}: {text}"));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || name.len() > 24 || !name.bytes().all(is_plain) {
                fault("a name has 1 to 24 letters, digits and dashes");
            }
            if self.index(name) != Some(at) {
                fault("there are two of this name");
            }
            if node.state_sync && node.start_at.is_none() {
                fault("state_sync is for a node that joins later: say start_at");
            }
            if node.state_sync && self.chain.snapshot_interval == 0 {
                fault("state_sync needs snapshots: say chain.snapshot_interval");
            }
            if node.mode == Mode::Full && node.stake.is_some() {
                fault("stake is for a validator of the genesis: drop it, or drop mode = \"full\"");
            }
            if node.mode == Mode::Validator && node.start_at.is_some() && node.key_of.is_none() {
                fault(
                    "a validator of the genesis is there from the beginning: say mode = \"full\", and create-validator later",
                );
            }
            if let Some(other) = &node.key_of {
                match self.index(other).map(|other| &self.nodes[other]) {
                    Some(other) if other.mode == Mode::Validator && other.key_of.is_none() => {}
                    _ => fault("key_of must name a validator of the genesis"),
                }
                if node.start_at.is_none() || node.mode == Mode::Validator {
                    fault("a copy of a key joins later: say mode = \"full\" and start_at");
                }
            }
            for perturbation in &node.perturb {
                let word = perturbation.fault.word();
                let own_history =
                    matches!(word, Word::TruncateStore | Word::AppBehind | Word::AppAhead);
                if own_history && node.state_sync {
                    fault(&format!(
                        "{} needs all blocks, which a node that joined by state sync has not",
                        word.text()
                    ));
                }
                let is_early = match (perturbation.at, node.start_at) {
                    (At::Height(at), Some(At::Height(start))) => at <= start,
                    (At::After(at), Some(At::After(start))) => at <= start,
                    _ => false,
                };
                if is_early {
                    fault(&format!("{} {}, before its start", word.text(), perturbation.at));
                }
            }
        }
        self.stake_faults(&mut faults);
        faults
    }

    /// Whether a node votes on the first block.
    pub fn is_first(node: &Node) -> bool {
        node.mode == Mode::Validator && node.key_of.is_none() && node.start_at.is_none()
    }

    fn stake_faults(&self, faults: &mut Vec<String>) {
        for (number, step) in self.stakes.iter().enumerate() {
            let mut fault =
                |text: String| faults.push(format!("stake step {}: {text}", number + 1));
            let named = std::iter::once(&step.from).chain(&step.to).chain(step.expect.keys());
            for name in named {
                if self.index(name).is_none() {
                    fault(format!("there is no node {name:?}"));
                }
            }
            let needs_amount = matches!(
                step.action,
                Action::CreateValidator
                    | Action::Delegate
                    | Action::Undelegate
                    | Action::Redelegate
            );
            if needs_amount != step.amount.is_some() {
                let text = if needs_amount { "it needs an amount" } else { "it takes no amount" };
                fault(text.to_owned());
            }
            if step.action == Action::Redelegate
                && step.to.as_ref().is_none_or(|to| *to == step.from)
            {
                fault("redelegate needs `to`, another node".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [chain]
        timeout_commit = "200ms"
        snapshot_interval = 10
        params = { signed_window_blocks = 50 }

        [load]
        tx_per_second = 20
        kinds = ["transfer", "channel"]

        [[node]]
        name = "v0"
        stake = "150"
        perturb = [
            { at = 5, do = "kill" },
            { at = "after 10s", do = "pause", for = "3s" },
            { at = 30, do = "truncate-wal", bytes = 100 },
            { at = 40, do = "stop", for = "20s", expect = ["validator_jailed"] },
        ]

        [[node]]
        name = "late"
        mode = "full"
        start_at = 20
        state_sync = true

        [[stake]]
        at = 12
        from = "v0"
        do = "delegate"
        amount = "50"
        expect = { v0 = 200 }
    "#;

    #[test]
    fn a_manifest_says_what_happens_when() {
        let manifest = Manifest::parse("good", GOOD).expect("good");
        let done: Vec<String> = manifest.nodes[0]
            .perturb
            .iter()
            .map(|perturbation| format!("{}: {}", perturbation.at, perturbation.fault))
            .collect();
        assert_eq!(
            done,
            [
                "height 5: kill",
                "after 10s: pause for 3s",
                "height 30: truncate-wal of 100 bytes",
                "height 40: stop for 20s",
            ]
        );
        assert_eq!(manifest.params().expect("good").signed_window_blocks, 50);
        assert_eq!(Manifest::stake_of(&manifest.nodes[0]), Balance::of(150_000_000_000));
        let again = Manifest::parse("again", &manifest.text()).expect("its own text");
        assert_eq!(again, manifest);
    }

    #[track_caller]
    fn check(change: (&str, &str), expected: &str) {
        assert!(GOOD.contains(change.0), "{} is not there to be changed", change.0);
        let text = GOOD.replace(change.0, change.1);
        let error = Manifest::parse("bad.toml", &text).expect_err(change.1).to_string();
        assert!(error.contains("bad.toml") && error.contains(expected), "{error}");
    }

    #[test]
    fn what_nobody_knows_is_refused_with_its_place_and_the_known_words() {
        check(
            ("do = \"kill\"", "do = \"murder\""),
            "unknown variant `murder`, expected one of `kill`",
        );
        check(("tx_per_second", "tps"), "unknown field `tps`, expected one of");
        check(("mode = \"full\"", "mode = \"seed\""), "`validator` or `full`");
        check(("\"channel\"", "\"mint\""), "unknown variant `mint`");
        check(("name = \"late\"", "nom = \"late\""), "line 2");
        check(("signed_window_blocks", "window"), "known parameters are");
        check(("= 50 }", "= 5 }"), "signed_window_blocks");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        check((", for = \"3s\"", ""), "pause needs `for`");
        check(("do = \"kill\"", "do = \"kill\", bytes = 7"), "kill takes no `bytes`");
        check(("bytes = 100", "bytes = 0"), "`bytes` is 1 to");
        check(("\"3s\"", "\"3 s\""), "is no span of time");
        check(("\"after 10s\"", "\"10s\""), "write \"after 10s\"");
        check(("at = 5", "at = 0"), "a height is 1 or more");
        check(("start_at = 20", "# no start"), "say start_at");
        check(("snapshot_interval = 10", "snapshot_interval = 0"), "chain.snapshot_interval");
        check(("name = \"late\"", "name = \"v0\""), "two of this name");
        check(("amount = \"50\"", "# none"), "it needs an amount");
        check(("expect = { v0", "expect = { v9"), "there is no node \"v9\"");
        check(
            ("stake = \"150\"", "stake = \"150\"\n mode = \"full\""),
            "nobody would make the first block",
        );
        check(("state_sync = true", "key_of = \"nobody\""), "key_of must name a validator");
    }
}
