//! `keys …`: the accounts of a home, by name.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chain_types::AccountId;
use clap::{Args, Subcommand};
use rand::RngCore;
use serde_json::json;
use wallet::{seed_of, words_of};

use super::{prompt, say};

mod backup;
mod store;

pub use store::{KeyName, Store, Who};

/// Longest text that is read as 24 words.
const WORDS_BYTES_MAX: u64 = 4096;

/// `keys`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// Makes a key and shows its 24 words, once
    Add {
        /// What it is called from now on
        name: KeyName,
    },
    /// Lists the keys of the home and their accounts
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints the account of a key
    Show {
        /// Its name, or `wallet`
        name: KeyName,
    },
    /// Shows the 24 words of a key: whoever has them has its money
    Export {
        /// Its name, or `wallet`
        name: KeyName,
        /// Ask nothing
        #[arg(short, long)]
        yes: bool,
    },
    /// Takes over a key: reads its 24 words from stdin
    Import {
        /// What it is called from now on, or `wallet`
        name: KeyName,
    },
    /// Writes all keys into one encrypted file
    Backup {
        /// A new file
        file: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Takes the keys out of a backup; replaces none
    Restore {
        /// As `backup` wrote it
        file: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
        /// The validator's key too: only when the machine that had it is gone for good
        #[arg(long)]
        with_validator: bool,
    },
}

/// Where the passphrase comes from.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct PassphraseArgs {
    /// Its first line is the passphrase [default: typed at the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Carries out one of them.
pub fn run(command: KeysCommand, home: &Path) -> anyhow::Result<()> {
    let store = Store::at(home);
    match command {
        KeysCommand::Add { name } => add(&store, &name),
        KeysCommand::List { json } => list(&store, json),
        KeysCommand::Show { name } => say(&format!("{}\n", AccountId::from(&store.open(&name)?))),
        KeysCommand::Export { name, yes } => export(&store, &name, yes),
        KeysCommand::Import { name } => import(&store, &name),
        KeysCommand::Backup { file, passphrase } => {
            backup(&store, &file, passphrase.passphrase_file.as_deref())
        }
        KeysCommand::Restore { file, passphrase, with_validator } => {
            restore(&store, &file, passphrase.passphrase_file.as_deref(), with_validator)
        }
    }
}

fn add(store: &Store, name: &KeyName) -> anyhow::Result<()> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let account = store.create(name, &seed)?;
    say(&format!(
        "{}\n\n\
         Write these 24 words down, on paper, now: whoever has them has the money, and nobody can\n\
         give them back to you.\n\n\
         {name} {account}\n",
        words_of(&seed)
    ))
}

fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let keys = store.list()?;
    if as_json {
        let rows = keys.iter().map(|(name, account)| {
            json!({ "name": name.to_string(), "account": account, "for": name.purpose() })
        });
        return say(&format!("{}\n", serde_json::Value::from_iter(rows)));
    }
    if keys.is_empty() {
        bail!(
            "{} has no keys yet: `sutantra-node init` makes the node's, `sutantra-node keys add NAME` one more",
            store.home().display()
        );
    }
    let width = keys.iter().map(|(name, _)| name.to_string().len()).max().unwrap_or_default();
    let row = |(name, account): &(KeyName, AccountId)| {
        // `Display` of a name knows no width.
        format!("{:width$}  {account}  {}\n", name.to_string(), name.purpose())
    };
    say(&keys.iter().map(row).collect::<String>())
}

fn export(store: &Store, name: &KeyName, yes: bool) -> anyhow::Result<()> {
    let key = store.open(name)?;
    if !yes {
        prompt::confirm(
            &format!("Whoever sees the words of {name} has its money. Show them?"),
            "nobody is there to be asked whether the words may be shown: say --yes if they may",
        )?;
    }
    say(&format!("{}\n", words_of(&key.to_bytes())))
}

fn import(store: &Store, name: &KeyName) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("Type or paste the 24 words, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    std::io::stdin().take(WORDS_BYTES_MAX).read_to_string(&mut text).context("stdin")?;
    let account = store.create(name, &seed_of(&text)?)?;
    say(&format!("{name} {account}\n"))
}

fn backup(store: &Store, file: &Path, passphrase_file: Option<&Path>) -> anyhow::Result<()> {
    if file.try_exists()? {
        bail!("{} is there already: name a new file", file.display());
    }
    let files = store.secrets()?;
    let passphrase = prompt::new_passphrase(passphrase_file)?;
    let text = backup::seal(&files, &passphrase, rand::random());
    store::write_new(file, &text)?;
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    say(&format!(
        "{}: {}\n\
         Keep it and its passphrase apart. It holds keys only: vouchers that are not yet redeemed lie\n\
         in {}, and no backup holds what the validator signed last.\n",
        file.display(),
        names.join(", "),
        store.home().join("settlement").display(),
    ))
}

fn restore(
    store: &Store,
    file: &Path,
    passphrase_file: Option<&Path>,
    with_validator: bool,
) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("the backup {}", file.display()))?;
    let sealed = backup::Sealed::read(&text)?;
    let mut files = sealed.open(&prompt::passphrase(passphrase_file)?)?;
    let validator = files.contains_key(store::VALIDATOR_KEY);
    if !with_validator {
        files.remove(store::VALIDATOR_KEY);
    }
    let restored = store.restore(&files)?;
    for (name, is_new) in &restored {
        say(&format!("{name}{}\n", if *is_new { "" } else { ", there already and the same" }))?;
    }
    match (validator, with_validator) {
        (true, false) => eprintln!(
            "The validator's key stays in the backup: two machines that sign with one key sign against \
             each other, and its stake is slashed. When the old machine is gone for good, restore again \
             with --with-validator."
        ),
        (true, true) => eprintln!(
            "The validator's key is here now. See that the old machine never starts again: what it \
             signed last is not known here."
        ),
        (false, _) => {}
    }
    Ok(())
}
