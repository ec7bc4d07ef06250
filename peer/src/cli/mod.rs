//! The command `peer`: flags, and what they become.

mod chat;
mod show;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use coordinator::identity::NodeKey;

use crate::{
    key,
    nat::{IceServer, ServerError},
    signal::{Entrance, Membership, Transport},
    task::Options,
};

/// When the program ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Asked to.
    Quit,
    /// The file of `--send` has arrived.
    Sent,
    /// A file has come.
    Received,
}

/// All flags, understood.
struct Settings {
    options: Options,
    connects: bool,
    is_json: bool,
    send: Option<PathBuf>,
    to: Option<String>,
    receive: Option<PathBuf>,
    until: Until,
}

/// The command's flags and help.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("peer")
        .about("Talk to browsers and other peers in a room: chat and files over data channels")
        .after_help(
            "Typed lines go to all that are connected. /to PEER TEXT, /send FILE [PEER], /peers, \
             /join, /quit.",
        )
        .arg(
            text("seed", "URL", "A node whose /nodes names the coordinator, as http://host:port")
                .required_unless_present("coordinator")
                .conflicts_with("coordinator"),
        )
        .arg(text("coordinator", "URL", "The coordinator itself, as http://host:port/webrtc"))
        .arg(text("room", "ROOM", "The room").default_value("global"))
        .arg(text("name", "NAME", "Shown to others; the host's name or the id by default"))
        .arg(
            text("key", "FILE", "This peer's secret key, made where there is none")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(text("invite", "INVITE", "Into a private room: what its owner gave, or its code"))
        .arg(
            text("stun", "URL", "A STUN server beside the coordinator's, as stun:host:port")
                .action(ArgAction::Append),
        )
        .arg(
            text(
                "turn",
                "URL",
                "A TURN server beside them, as turn:user:password@host:port, with \
                 ?transport=tcp at its end for TCP",
            )
            .action(ArgAction::Append),
        )
        .arg(
            text("auto-webrtc", "BOOL", "Join at once; false waits for /join")
                .value_parser(value_parser!(bool))
                .default_value("true"),
        )
        .arg(
            text("transport", "HOW", "To the coordinator: auto, websocket or poll")
                .value_parser(["auto", "websocket", "poll"])
                .default_value("auto"),
        )
        .arg(switch("relay-only", "Show peers no address but a TURN server's"))
        .arg(switch("verified-only", "Refuse peers whose key does not sign their certificate"))
        .arg(
            text(
                "bind",
                "IP",
                "Address to open a socket at, repeatable; all of this host by default",
            )
            .value_parser(value_parser!(IpAddr))
            .action(ArgAction::Append),
        )
        .arg(
            text("send", "FILE", "Send a file to the first that connects, or to --to")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            text("to", "PEER", "Whom --send is for: an id, its beginning, or a name")
                .requires("send"),
        )
        .arg(
            text("receive", "DIR", "Take files into this directory; without it they are refused")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(switch("json", "Tell all that happens as lines of JSON"))
        .arg(switch("exit-after-sent", "End when the file of --send has arrived").requires("send"))
        .arg(
            switch("exit-after-received", "End when a file has come")
                .requires("receive")
                .conflicts_with("exit-after-sent"),
        )
}

/// Runs the command until its user, a signal or its flags end it. Not to be called within an async
/// runtime: it starts its own.
///
/// # Errors
/// A sentence that says what to do: a flag that cannot be, an unreachable coordinator, a refused join,
/// a file that did not arrive.
pub fn run(matches: &ArgMatches, default_key: &Path) -> anyhow::Result<()> {
    let settings = Settings::read(matches, default_key)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("the runtime's threads")?;
    let result = runtime.block_on(chat::run(settings));
    // A thread that reads standard input may wait there for ever.
    runtime.shutdown_background();
    result
}

impl Settings {
    fn read(matches: &ArgMatches, default_key: &Path) -> anyhow::Result<Self> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let entrance = match (text("seed"), text("coordinator")) {
            (Some(seed), _) => Entrance::Seed(seed),
            (None, Some(coordinator)) => Entrance::Coordinator(coordinator),
            (None, None) => bail!("--seed or --coordinator says whom to ask"),
        };
        let room = text("room").context("--room has a default")?;
        if !is_room(&room) {
            bail!(
                "`{room}` is no room: a name has 1 to 64 of a-z, 0-9 and . _ : -, and begins with \
                 a letter or digit"
            );
        }
        let key = key::read_or_make(&path("key").unwrap_or_else(|| default_key.to_owned()))?;
        let transport: Transport = text("transport")
            .context("--transport has a default")?
            .parse()
            .map_err(anyhow::Error::msg)?;
        let receive = path("receive");
        if let Some(directory) = receive.as_ref().filter(|directory| !directory.is_dir()) {
            bail!("--receive {} is no directory: make it first", directory.display());
        }
        let send = path("send");
        if let Some(file) = send.as_ref().filter(|file| !file.is_file()) {
            bail!("--send {} is no file", file.display());
        }
        let is_set = |name: &str| matches.get_flag(name);
        let until = match (is_set("exit-after-sent"), is_set("exit-after-received")) {
            (true, _) => Until::Sent,
            (false, true) => Until::Received,
            (false, false) => Until::Quit,
        };
        let servers = servers(matches)?;
        let membership = Membership {
            entrance,
            transport,
            room,
            name: text("name").unwrap_or_else(|| default_name(&key)),
            key,
            invite: text("invite"),
        };
        let options = Options {
            membership,
            servers,
            bind: matches.get_many("bind").unwrap_or_default().copied().collect(),
            is_relay_only: is_set("relay-only"),
            must_verify: is_set("verified-only"),
        };
        let connects = matches.get_one("auto-webrtc").copied().unwrap_or(true);
        let (is_json, to) = (is_set("json"), text("to"));
        Ok(Self { options, connects, is_json, send, to, receive, until })
    }
}

fn servers(matches: &ArgMatches) -> Result<Vec<IceServer>, ServerError> {
    let given = |name: &str| matches.get_many::<String>(name).unwrap_or_default();
    // `--stun host:port` is what a node takes, so it is taken here too.
    let stun = given("stun").map(|url| match url.starts_with("stun") {
        true => IceServer::parse(url),
        false => IceServer::parse(&format!("stun:{url}")),
    });
    stun.chain(given("turn").map(|url| IceServer::parse(url))).collect()
}

/// `docs/coordinator.md`, "Rooms".
fn is_room(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_other = |byte: u8| is_letter(byte) || b"._:-".contains(&byte);
    name.len() <= 64 && name.bytes().next().is_some_and(is_letter) && name.bytes().all(is_other)
}

/// What tells peers of one key's holder apart without saying who it is.
fn default_name(key: &NodeKey) -> String {
    key.node_id().chars().take(11).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &str) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("peer.key");
        let flags = std::iter::once("peer").chain(flags.split_whitespace());
        let matches = command().try_get_matches_from(flags).map_err(|error| error.to_string())?;
        Settings::read(&matches, &key).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(flags: &str, sentence: &str) {
        let error = read(flags).err().expect("refused");
        assert!(error.contains(sentence), "{flags}: {error}");
    }

    /// R84
    #[test]
    fn flags_become_settings_or_a_sentence() {
        let settings = read("--seed http://a:1").unwrap();
        assert_eq!(settings.options.membership.entrance, Entrance::Seed("http://a:1".into()));
        assert_eq!(settings.options.membership.room, "global");
        assert_eq!(settings.options.membership.transport, Transport::Auto);
        assert!(settings.connects && !settings.options.is_relay_only);
        let settings = read(
            "--coordinator http://a:1 --auto-webrtc false --stun b:2 --stun stun:c \
             --turn turn:u:p@d:3?transport=tcp --relay-only --transport poll --room p:x",
        )
        .unwrap();
        assert!(!settings.connects && settings.options.is_relay_only);
        let servers = format!("{:?}", settings.options.servers);
        assert_eq!(servers, "[stun:b:2, stun:c:3478, turn:u:…@d:3 (Tcp)]");
        refused("", "--seed");
        refused("--seed a --coordinator b", "cannot be used with");
        refused("--seed http://a --room Big", "`Big` is no room");
        refused("--seed http://a --turn turn:host", "credentials");
        refused("--seed http://a --receive /no/such/directory", "make it first");
        refused("--seed http://a --send /no/such/file", "is no file");
        refused("--seed http://a --transport pigeon", "pigeon");
    }
}
