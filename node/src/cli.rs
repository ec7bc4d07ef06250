//! The command line: which command, with which flags; nothing is interpreted here.

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, Subcommand as _,
    parser::ValueSource, value_parser,
};

use crate::{
    admission::Role,
    commands::OperatorCommand,
    config::{
        Flags,
        keys::{self, Key, Kind},
    },
    wallet::WalletArgs,
};

/// What the person asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a node.
    Dev(ConfigArgs),
    /// Run the node of an initialised home.
    Start(ConfigArgs),
    /// Show the effective configuration.
    ConfigPrint(ConfigArgs),
    /// Check a file, or what would be used.
    ConfigCheck(ConfigArgs),
    /// Sign an access token.
    Grant(GrantArgs),
    /// Take a token or a viewer back.
    Revoke(RevokeArgs),
    /// An account, its money, and a viewer that pays.
    Wallet(Box<WalletArgs>, ConfigArgs),
    /// What an operator does with a home, its keys and its chain.
    Operator(Box<OperatorCommand>, ConfigArgs),
    /// A peer that talks to others, found through a coordinator.
    Peer(Box<ArgMatches>, ConfigArgs),
    /// What this binary is.
    Version {
        /// All that is known about it.
        long: bool,
    },
}

/// Flags of the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigArgs {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Key name to values.
    pub flags: Flags,
}

/// `grant`.
#[derive(Debug, PartialEq, Eq)]
pub struct GrantArgs {
    /// The stream's name.
    pub stream: String,
    /// What the token allows.
    pub role: Role,
    /// As written, such as `10m`.
    pub ttl: String,
    /// Account of the viewer, 64 hex digits.
    pub viewer: Option<String>,
    /// For the home.
    pub config: ConfigArgs,
}

/// `revoke`.
#[derive(Debug, PartialEq, Eq)]
pub struct RevokeArgs {
    /// What is taken back.
    pub target: RevokeTarget,
    /// Print the signed revocation and send nothing.
    pub print: bool,
    /// Address of the node; the one that runs on the home if it is not given.
    pub url: Option<String>,
    /// For the home.
    pub config: ConfigArgs,
}

/// What `revoke` takes back.
#[derive(Debug, PartialEq, Eq)]
pub enum RevokeTarget {
    /// The bearer text.
    Token(String),
    /// Each token of a viewer on a stream.
    Viewer {
        /// The stream's name.
        stream: String,
        /// 64 hex digits; `None` = the tokens that name no viewer.
        viewer: Option<String>,
    },
}

fn config_args(keys: impl IntoIterator<Item = &'static Key>) -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file [default: sutantra.toml in the home] [env: SUTANTRA_CONFIG]");
    let flags = keys.into_iter().map(|key| {
        let arg = Arg::new(key.name)
            .long(key.name)
            .visible_aliases(key.aliases.iter().copied())
            .value_name(key.value_name)
            .help(format!("{} [env: {}]", key.help, Key::env_name(key.name)))
            .help_heading(key.heading());
        match key.kind {
            Kind::Text | Kind::Integer | Kind::Answer => arg,
            Kind::List => arg.action(ArgAction::Append),
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    });
    std::iter::once(file).chain(flags).collect()
}

/// The grammar.
pub fn command() -> Command {
    let text = |name: &'static str| Arg::new(name).long(name);
    let home = || config_args([&keys::HOME]);
    let command = Command::new("sutantra-node")
        .about("A WebRTC media relay: publish by WHIP, watch by WHEP. Without a command: dev.")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .args(config_args(keys::ALL.iter().copied()))
        .subcommand(
            Command::new("dev")
                .about("Runs a node on this machine")
                .args(config_args(keys::ALL.iter().copied())),
        )
        .subcommand(
            Command::new("start")
                .about("Runs the node of a home that `init` has made: validator, relay, both, or a coordinator")
                .args(config_args(keys::ALL.iter().copied())),
        )
        .subcommand(
            Command::new("config")
                .about("Shows or checks the configuration")
                .subcommand_required(true)
                .subcommand(
                    Command::new("print")
                        .about("Prints the effective configuration and where each value comes from")
                        .args(config_args(keys::ALL.iter().copied())),
                )
                .subcommand(
                    Command::new("check")
                        .about("Says what is wrong with a configuration file")
                        .arg(
                            Arg::new("FILE")
                                .value_parser(value_parser!(PathBuf))
                                .conflicts_with("config")
                                .help("[default: the file that `dev` would read]"),
                        )
                        .args(config_args(keys::ALL.iter().copied())),
                ),
        )
        .subcommand(
            Command::new("grant")
                .about("Prints an access token, signed by this node's issuer key")
                .arg(text("stream").value_name("NAME").required(true).help("The stream's name"))
                .arg(
                    text("role")
                        .value_name("ROLE")
                        .required(true)
                        .value_parser([Role::Publish.name(), Role::Subscribe.name()])
                        .help("What the token allows"),
                )
                .arg(
                    text("ttl")
                        .value_name("TIME")
                        .default_value("10m")
                        .help("How long it is valid: a number and s, m, h or d"),
                )
                .arg(
                    text("viewer")
                        .value_name("HEX")
                        .help("Account of the viewer, 64 hex digits [default: whoever bears it]"),
                )
                .args(home()),
        )
        .subcommand(
            Command::new("revoke")
                .about("Takes access back, at once and for later runs")
                .arg(text("token").value_name("TOKEN").help("The token, as `grant` printed it"))
                .arg(
                    text("stream")
                        .value_name("NAME")
                        .conflicts_with("token")
                        .required_unless_present("token")
                        .help("Every token for this stream that names no viewer, or --viewer's"),
                )
                .arg(
                    text("viewer")
                        .value_name("HEX")
                        .requires("stream")
                        .conflicts_with("token")
                        .help("Account of the viewer, 64 hex digits"),
                )
                .arg(
                    Arg::new("print")
                        .long("print")
                        .action(ArgAction::SetTrue)
                        .help("Print the signed revocation and send nothing"),
                )
                .arg(
                    text("http")
                        .value_name("URL")
                        .help("Node to tell [default: the one that runs on the home]"),
                )
                .args(home()),
        )
        .subcommand(
            WalletArgs::augment_args(
                Command::new("wallet")
                    .about("An account: its money, its pools, a viewer that pays"),
            )
            .args(home().into_iter().map(|arg| arg.global(true))),
        )
        .subcommand(peer())
        .subcommand(Command::new("version").about("Says what this binary is").arg(
            Arg::new("long").long("long").action(ArgAction::SetTrue).help("All that is known"),
        ));
    OperatorCommand::add_to(command, &home())
}

/// The command of a peer, whose key lies in the home; what a node takes too stands where a node's
/// help has it.
fn peer() -> Command {
    let shared = [&keys::SEED, &keys::STUN, &keys::TURN, &keys::AUTO_WEBRTC];
    let command = shared.iter().fold(peer::command(), |command, key| {
        command.mut_arg(key.name, |arg| arg.help_heading(keys::WEBRTC_HEADING))
    });
    command.args(config_args([&keys::HOME]))
}

/// Reads the arguments (the program's name first).
pub fn parse<I, T>(args: I) -> Result<Action, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let matches = command().try_get_matches_from(args)?;
    Ok(match matches.subcommand() {
        None => Action::Dev(flags(&matches)),
        Some(("dev", matches)) => Action::Dev(flags(matches)),
        Some(("start", matches)) => Action::Start(flags(matches)),
        Some(("config", matches)) => match matches.subcommand() {
            Some(("print", matches)) => Action::ConfigPrint(flags(matches)),
            Some((_, matches)) => {
                let mut args = flags(matches);
                args.file = matches.get_one::<PathBuf>("FILE").cloned().or(args.file);
                Action::ConfigCheck(args)
            }
            None => unreachable!("clap requires a subcommand"),
        },
        Some(("grant", matches)) => Action::Grant(GrantArgs {
            stream: required(matches, "stream"),
            role: match required(matches, "role").as_str() {
                "publish" => Role::Publish,
                _ => Role::Subscribe,
            },
            ttl: required(matches, "ttl"),
            viewer: optional(matches, "viewer"),
            // `--role` is a setting of a node, too.
            config: home_flags(matches),
        }),
        Some(("revoke", matches)) => Action::Revoke(RevokeArgs {
            target: match optional(matches, "token") {
                Some(token) => RevokeTarget::Token(token),
                None => RevokeTarget::Viewer {
                    stream: required(matches, "stream"),
                    viewer: optional(matches, "viewer"),
                },
            },
            print: matches.get_flag("print"),
            url: optional(matches, "http"),
            config: home_flags(matches),
        }),
        Some(("wallet", matches)) => {
            let args = WalletArgs::from_arg_matches(matches)?;
            Action::Wallet(Box::new(args), home_flags(matches))
        }
        Some(("peer", matches)) => Action::Peer(Box::new(matches.clone()), home_flags(matches)),
        Some(("version", matches)) => Action::Version { long: matches.get_flag("long") },
        Some((name, of_command)) if OperatorCommand::has_subcommand(name) => {
            let command = OperatorCommand::from_arg_matches(&matches)?;
            Action::Operator(Box::new(command), home_flags(of_command))
        }
        Some((other, _)) => unreachable!("clap knows no command {other}"),
    })
}

fn optional(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn required(matches: &ArgMatches, name: &str) -> String {
    optional(matches, name).expect("clap requires it or has a default")
}

/// What was said on the command line; a command knows some of the keys only.
fn flags(matches: &ArgMatches) -> ConfigArgs {
    let said = |key: &Key| {
        // `Err`: this command has no such flag.
        let values = matches.try_get_many::<String>(key.name).ok()??;
        (matches.value_source(key.name) == Some(ValueSource::CommandLine))
            .then(|| values.cloned().collect::<Vec<_>>())
    };
    let flags =
        keys::ALL.iter().filter_map(|key| said(key).map(|values| (key.name, values))).collect();
    let file = matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    ConfigArgs { file, flags }
}

/// As [`flags`] for a command whose `--http` is another node's address.
fn home_flags(matches: &ArgMatches) -> ConfigArgs {
    let mut args = flags(matches);
    args.flags.retain(|name, _| *name == keys::HOME.name);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Action, clap::error::ErrorKind> {
        parse(std::iter::once("sutantra-node").chain(words.split_whitespace()))
            .map_err(|error| error.kind())
    }

    fn dev(words: &str) -> Action {
        let mut flags = Flags::new();
        for (name, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
            let key = keys::find(name).expect("a known key");
            flags.entry(key.name).or_default().push(value.to_owned());
        }
        Action::Dev(ConfigArgs { file: None, flags })
    }

    #[test]
    fn the_grammar_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn no_command_means_dev() {
        assert_eq!(parse_words(""), Ok(dev("")));
        assert_eq!(parse_words("dev"), Ok(dev("")));
        let words =
            "--udp-port 9 --pin --media-ip ::1 --media-ip 192.0.2.1 --data-dir /srv --open=false";
        let expected = "udp-port=9 pin=true media-ip=::1 media-ip=192.0.2.1 home=/srv open=false";
        assert_eq!(parse_words(words), Ok(dev(expected)));
        assert_eq!(parse_words(&format!("dev {words}")), Ok(dev(expected)));
        // A switch takes no loose word: `--open dev` must not read `dev` as its value.
        assert!(parse_words("--open yes").is_err());
        assert!(parse_words("--udp-prt 9").is_err());
    }

    #[test]
    fn start_takes_what_dev_takes() {
        let Ok(Action::Start(args)) = parse_words("start --role relay --udp-port 9") else {
            panic!("start is refused")
        };
        assert_eq!(args.flags.len(), 2);
        assert!(parse_words("start relay").is_err());
    }

    #[test]
    fn every_key_is_a_flag() {
        for key in keys::ALL {
            let word = match key.kind {
                Kind::Switch => format!("--{}", key.name),
                Kind::Text | Kind::Integer | Kind::List | Kind::Answer => {
                    format!("--{} 1", key.name)
                }
            };
            let Ok(Action::Dev(args)) = parse_words(&word) else { panic!("{word} is refused") };
            assert!(args.flags.contains_key(key.name), "{word}");
        }
    }

    /// R84
    #[test]
    fn the_help_lists_the_coordinators_options_as_the_specification_prints_them() {
        let mut grammar = command();
        let peer = grammar.find_subcommand_mut("peer").expect("a command").render_help();
        let peer = peer.to_string();
        let (_, section) = peer.split_once("WebRTC Options (Server Mode):\n").expect("there too");
        for flag in ["--seed", "--stun", "--turn", "--auto-webrtc"] {
            assert!(section.contains(flag), "{flag}:\n{section}");
        }
        for name in ["dev", "start"] {
            let mut grammar = command().term_width(500);
            let of_command = grammar.find_subcommand_mut(name).expect("a command");
            let help = of_command.render_help().to_string();
            let (_, section) =
                help.split_once("WebRTC Options (Server Mode):\n").expect("a heading of its own");
            for (flag, says) in [
                ("--no-webrtc", "Disable WebRTC coordinator"),
                ("--stun <url>", "Add STUN server (default: stun.l.google.com:19302)"),
                ("--turn <url>", "Add TURN server (format: turn:user:pass@host:port)"),
                ("--auto-webrtc <bool>", "Auto-connect to coordinator (default: true)"),
                ("--server", "Serve /nodes"),
                ("--seed <url>", "Node whose /nodes"),
            ] {
                let line = section.lines().find(|line| line.trim_start().starts_with(flag));
                assert!(line.is_some_and(|line| line.contains(says)), "{flag}:\n{section}");
            }
        }
        // As the specification's own parser takes it: the answer is a word of its own.
        let words = "--server --auto-webrtc false --stun a:1 --stun b:2 --turn turn:u:p@h:3";
        let expected = "server=true auto-webrtc=false stun=a:1 stun=b:2 turn=turn:u:p@h:3";
        assert_eq!(parse_words(words), Ok(dev(expected)));
        assert!(parse_words("--auto-webrtc").is_err());
    }

    #[test]
    fn a_wallet_lies_in_the_home_and_asks_chain_and_relay() {
        let parsed =
            parse_words("wallet watch demo --frames 100 --pay-by post --home /srv --rpc r");
        let Ok(Action::Wallet(args, config)) = parsed else { panic!("{parsed:?}") };
        assert_eq!(config.flags, Flags::from([("home", vec!["/srv".to_owned()])]));
        assert_eq!((args.rpc.as_deref(), args.url), (Some("r"), None));
        assert!(matches!(args.command, crate::wallet::WalletCommand::Watch(_)));
        assert!(parse_words("wallet").is_err());
        assert!(parse_words("wallet send --to ab --amount 1").is_err());
        assert!(parse_words("wallet open --deposit -1").is_err());
        assert!(parse_words("wallet open --deposit 1 --reserve 1").is_err());
        assert!(parse_words("wallet watch demo --resume-after 3").is_err());
    }

    #[test]
    fn grant_and_revoke_ask_for_what_they_need() {
        let home = |dir: &str| ConfigArgs {
            file: None,
            flags: Flags::from([("home", vec![dir.to_owned()])]),
        };
        assert_eq!(
            parse_words("grant --stream demo --role publish --home /srv"),
            Ok(Action::Grant(GrantArgs {
                stream: "demo".to_owned(),
                role: Role::Publish,
                ttl: "10m".to_owned(),
                viewer: None,
                config: home("/srv"),
            }))
        );
        assert!(parse_words("grant --stream demo").is_err());
        assert!(parse_words("grant --stream demo --role watch").is_err());
        assert_eq!(
            parse_words("revoke --stream demo --viewer ab --http http://[::1]:80 --home /srv"),
            Ok(Action::Revoke(RevokeArgs {
                target: RevokeTarget::Viewer {
                    stream: "demo".to_owned(),
                    viewer: Some("ab".to_owned())
                },
                print: false,
                url: Some("http://[::1]:80".to_owned()),
                config: home("/srv"),
            }))
        );
        assert!(parse_words("revoke").is_err());
        assert!(parse_words("revoke --viewer ab").is_err());
        assert!(parse_words("revoke --token t --stream demo").is_err());
    }
}
