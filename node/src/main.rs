//! The binary: reads the command line, does what it says, ends with an exit code.
//!
//! 0: done. 1: it could not be done, and one line on stderr says why. 2: the command line or the
//! configuration is wrong. 130: ended at once by a second Ctrl-C.

use std::{
    env, fs, io,
    path::Path,
    process::ExitCode,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

mod admission;
mod banner;
mod chain;
mod cli;
mod commands;
mod config;
mod coordination;
mod demo;
mod doctor;
mod grants;
mod http;
mod lan;
mod localnet;
mod metrics;
mod paying;
mod relay_control;
mod reload;
mod run;
mod service;
mod streams;
mod tls;
mod wallet;

use cli::{Action, ConfigArgs, GrantArgs, RevokeArgs};
use config::{ConfigError, Resolved, Surroundings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a wrong command line or configuration, as clap uses it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let action = match cli::parse(env::args_os()) {
        Ok(action) => action,
        Err(error) => {
            // `--help` is an error too, with code 0. A closed stdout is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match run(action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(errors)) => {
            errors.iter().for_each(|error| eprintln!("error: {error}"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Other(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command was not carried out.
enum Failure {
    Config(Vec<ConfigError>),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn run(action: Action) -> Result<(), Failure> {
    match action {
        Action::Dev(args) => {
            let resolved = resolve(&args, true)?;
            run::run(resolved, Box::new(move || read(&args, true)), run::Mode::Development)?;
        }
        Action::Start(args) => {
            let resolved = resolve(&args, false)?;
            run::run(resolved, Box::new(move || read(&args, false)), run::Mode::Service)?;
        }
        Action::ConfigPrint(args) => print!("{}", config::render(&resolve(&args, true)?)),
        Action::ConfigCheck(args) => {
            let resolved = resolve(&args, true)?;
            match resolved.file {
                Some(path) => println!("{}: ok", path.display()),
                None => println!("ok; there is no file, flags, environment and defaults hold"),
            }
        }
        Action::Grant(GrantArgs { stream, role, ttl, viewer, config }) => {
            let home = resolve(&config, true)?.config.home;
            let token = grants::grant(&home, &stream, role, &ttl, viewer.as_deref(), now_ms())?;
            println!("{}", token.to_bearer());
        }
        Action::Revoke(RevokeArgs { target, print, url, config }) => {
            let home = resolve(&config, true)?.config.home;
            let signed = grants::revocation(&home, &target, now_ms())?;
            match print {
                true => println!("{}", signed.to_text()),
                false => println!("{}", grants::deliver(&home, &signed, url.as_deref())?),
            }
        }
        Action::Wallet(args, config) => wallet::run(*args, &resolve(&config, true)?.config.home)?,
        Action::Operator(command, config) => {
            commands::run(*command, &resolve(&config, false)?.config)?
        }
        Action::Peer(matches, config) => {
            let home = resolve(&config, true)?.config.home;
            peer::run(&matches, &home.join("keys/peer.key"))?;
        }
        Action::Version { long } => print!("{}", commands::version(long)),
    }
    Ok(())
}

fn resolve(args: &ConfigArgs, development: bool) -> Result<Resolved, Failure> {
    read(args, development).map_err(Failure::Config)
}

/// The configuration; with the defaults of `dev`, or with those of `start`.
fn read(args: &ConfigArgs, development: bool) -> Result<Resolved, Vec<ConfigError>> {
    let around = Surroundings {
        env: &|name| env::var(name).ok(),
        read_file: &read_file,
        cores: thread::available_parallelism().map_or(1, usize::from),
        development,
    };
    config::resolve(&args.flags, args.file.as_deref(), &around)
}

fn read_file(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
