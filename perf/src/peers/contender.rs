//! Who is measured: the relay as it is shipped and otherwise, peers, addresses of others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bench::child::programs::{Absent, Program, Search};
use bench::child::{Kind, NodeOptions};
use bench::signal::Target;

use super::case::{Beside, Case, Sink, Variants};

/// Who a contender is to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The relay as it is shipped: the aims are its.
    Relay,
    /// The relay with other options.
    Variant,
    /// The relay with two shards.
    TwoShards,
    /// LiveKit.
    LiveKit,
    /// Janus.
    Janus,
    /// A plain SFU through str0m.
    Plain,
    /// A server that somebody else runs.
    Address,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Contender {
    /// For `--servers` and the table.
    pub name: String,
    /// See [`Part`].
    pub part: Part,
    /// How it is had.
    pub source: Source,
}

/// Where a contender comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Started for each run.
    Started {
        /// As what.
        kind: Kind,
        /// From which file.
        program: PathBuf,
    },
    /// Runs already.
    Running {
        /// Where.
        target: Target,
        /// Its process, for CPU and memory.
        pid: Option<u32>,
    },
}

/// Programs that were named instead of found.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// The relay.
    pub node: Option<PathBuf>,
    /// LiveKit.
    pub livekit: Option<PathBuf>,
    /// Janus.
    pub janus: Option<PathBuf>,
}

/// Everybody who can take part, and sentences about those who cannot.
///
/// # Errors
/// The relay itself is not there.
pub fn gather(
    search: &Search,
    named: &Named,
    running: Vec<Contender>,
) -> Result<(Vec<Contender>, Vec<String>), Absent> {
    let node = search.find(Program::Node, named.node.as_deref())?;
    let mut all: Vec<Contender> = relays()
        .into_iter()
        .map(|(name, part, options)| {
            let source = Source::Started { kind: Kind::Node(options), program: node.clone() };
            Contender { name: name.to_owned(), part, source }
        })
        .collect();
    let mut absent = Vec::new();
    for (name, part, kind, program, file) in [
        ("livekit", Part::LiveKit, Kind::LiveKit, Program::LiveKit, &named.livekit),
        ("janus", Part::Janus, Kind::Janus, Program::Janus, &named.janus),
        ("str0m", Part::Plain, Kind::Reference, Program::Bench, &None),
    ] {
        match search.find(program, file.as_deref()) {
            Ok(program) => {
                let source = Source::Started { kind, program };
                all.push(Contender { name: name.to_owned(), part, source });
            }
            Err(error) => absent.push(error.to_string()),
        }
    }
    all.extend(running);
    Ok((all, absent))
}

/// The relay as it is shipped, then what its defaults were chosen from. The link is always named:
/// the default takes io_uring where the kernel has it.
fn relays() -> Vec<(&'static str, Part, NodeOptions)> {
    let uring = NodeOptions {
        link: Some("io_uring".to_owned()),
        shards: Some(1),
        ..NodeOptions::default()
    };
    let with = |argument: &str| NodeOptions { more: vec![argument.to_owned()], ..uring.clone() };
    vec![
        ("relay", Part::Relay, uring.clone()),
        ("relay-2-shards", Part::TwoShards, NodeOptions { shards: Some(2), ..uring.clone() }),
        (
            "relay-epoll",
            Part::Variant,
            NodeOptions { link: Some("epoll".to_owned()), ..uring.clone() },
        ),
        ("relay-no-gso", Part::Variant, with("--gso=false")),
        ("relay-no-padding", Part::Variant, with("--pad=false")),
        ("relay-no-gathering", Part::Variant, NodeOptions { gather_us: Some(0), ..uring.clone() }),
    ]
}

impl Contender {
    /// Whether it belongs into a case.
    pub fn takes_part(&self, case: &Case) -> bool {
        use Beside::{LiveKit, Nobody, Peers, PeersAndPlain};
        match self.part {
            Part::Relay => true,
            Part::Variant | Part::TwoShards => case.variants == Variants::All,
            Part::LiveKit => matches!(case.beside, LiveKit | Peers | PeersAndPlain),
            Part::Janus => matches!(case.beside, Peers | PeersAndPlain),
            Part::Plain => matches!(case.beside, PeersAndPlain),
            // It cannot be taken into the namespace behind the drop sink.
            Part::Address => case.sink == Sink::Loopback && case.beside != Nobody,
        }
    }
}

impl Contender {
    /// Name, kind, version where the program tells one.
    pub fn description(&self) -> String {
        let what = match &self.source {
            Source::Started { kind, program } => match version(program) {
                Some(version) => format!("{kind} ({version})"),
                None => kind.to_string(),
            },
            Source::Running { target, .. } => target.base().authority().to_owned(),
        };
        format!("`{}`: {what}", self.name)
    }
}

/// What a program answers to `--version`, its first line.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    output.status.success().then(|| line.to_owned())
}

impl Part {
    /// The relay, whatever its options.
    pub fn is_relay(self) -> bool {
        matches!(self, Part::Relay | Part::Variant | Part::TwoShards)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    fn names(case_name: &str) -> Vec<String> {
        let case = case::all().into_iter().find(|case| case.name == case_name);
        let case = case.expect("it is in the table");
        let file = std::env::current_exe().expect("this test");
        let named = Named {
            node: Some(file.clone()),
            livekit: Some(file.clone()),
            janus: Some(file.clone()),
        };
        let target = Target::whip("http://127.0.0.1:1").expect("an address");
        let source = Source::Running { target, pid: None };
        let other = Contender { name: "other".to_owned(), part: Part::Address, source };
        let (all, _) = gather(&Search::default(), &named, vec![other]).expect("all are named");
        all.into_iter().filter(|one| one.takes_part(&case)).map(|one| one.name).collect()
    }

    #[test]
    fn peers_take_part_over_loopback_and_livekit_alone_behind_the_drop_sink() {
        assert_eq!(names("rooms-8x8"), ["relay", "livekit", "janus", "other"]);
        assert_eq!(names("audio-1000-drop"), ["relay", "livekit"]);
        assert_eq!(names("video-1000-drop"), ["relay"]);
        assert_eq!(names("video-200").len(), 6 + 3, "with all variants of the relay");
    }

    #[test]
    fn who_is_absent_is_told_and_the_relay_may_not_be() {
        let named = Named { node: std::env::current_exe().ok(), ..Named::default() };
        let (all, absent) = gather(&Search::default(), &named, Vec::new()).expect("a relay");
        assert!(all.iter().all(|one| one.part.is_relay()) || absent.len() < 3);
        assert!(absent.iter().any(|sentence| sentence.contains("apt-get install janus")));
        assert!(gather(&Search::default(), &Named::default(), Vec::new()).is_err());
    }
}
