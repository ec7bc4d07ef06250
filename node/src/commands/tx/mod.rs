//! `tx …`: a transaction from its parts to its block, or any step of that alone.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use chain_types::{
    AccountId, Balance, ChannelId, Params, Payload, SigningKey, StreamId, TransactionBody,
};
use clap::{Args, Subcommand, ValueEnum};
use comet::rpc::Client;
use wallet::SubmitError;

use super::{
    endpoint::RpcArgs,
    keys::{Store, Who},
    prompt, say,
};
use crate::{config::Config, now_ms};

mod document;
mod kind;
mod send;
mod staking;

use document::Document;
pub use kind::sut;
use kind::{Around, Kind};
pub use staking::ValidatorArgs;

/// A transaction is good for so many blocks unless it says otherwise.
const VALID_BLOCKS: u64 = 120;

/// `tx`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct TxArgs {
    #[command(subcommand)]
    pub command: TxCommand,
    #[command(flatten)]
    pub options: TxOptions,
}

/// What a transaction does, or one step of its way.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum TxCommand {
    #[command(flatten)]
    Kind(Kind),
    /// Signs what --generate-only wrote, with --from; prints the signed form
    Sign {
        /// The document; `-` reads stdin
        file: PathBuf,
    },
    /// Sends what was signed and waits for its block
    Broadcast {
        /// The document; `-` reads stdin
        file: PathBuf,
    },
    /// Shows a transaction: a document, or its bytes in hex or base64
    Decode {
        /// A file, `-` for stdin, or the bytes themselves
        text: String,
    },
}

/// What holds for each kind.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct TxOptions {
    /// Key of the home that signs: its name, or `wallet`
    #[arg(long, global = true, value_name = "KEY")]
    pub from: Option<Who>,
    /// Key of the home that pays the fee, in place of --from
    #[arg(long, global = true, value_name = "KEY")]
    pub fee_payer: Option<Who>,
    #[command(flatten)]
    pub rpc: RpcArgs,
    /// Id of the chain; another one behind the RPC is refused
    #[arg(long, global = true, value_name = "ID")]
    pub chain_id: Option<String>,
    /// Fee [default: the least]
    #[arg(long, global = true, value_name = "SUT", value_parser = kind::sut)]
    pub fee: Option<Balance>,
    /// The signer's nonce [default: what the chain says]
    #[arg(long, global = true, value_name = "N")]
    pub nonce: Option<u64>,
    /// Last height at which it may be in a block, 0: no limit [default: 120 blocks from now]
    #[arg(long, global = true, value_name = "HEIGHT")]
    pub valid_until: Option<u64>,
    /// Print the unsigned document; send nothing
    #[arg(long, global = true, conflicts_with = "sign_only")]
    pub generate_only: bool,
    /// Print the signed document; send nothing
    #[arg(long, global = true)]
    pub sign_only: bool,
    /// Ask no chain: needs --chain-id, --nonce and --valid-until; implies --sign-only
    #[arg(long, global = true)]
    pub offline: bool,
    /// Ask nothing before it is sent
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs: one object
    Json,
}

/// Carries it out.
///
/// # Errors
/// A sentence that says what to do next; a refusal by the chain is one.
pub fn run(args: TxArgs, config: &Config) -> anyhow::Result<()> {
    let TxArgs { command, options } = args;
    let store = Store::at(&config.home);
    match command {
        TxCommand::Kind(kind) => make(&kind, &options, &store, config),
        TxCommand::Sign { file } => {
            let mut document = Document::read(&document::text_of(&file)?)?;
            options.is_chain(&document.chain_id)?;
            document.sign(&options.key(&store)?)?;
            say(&document.to_json())
        }
        TxCommand::Broadcast { file } => {
            let document = Document::read(&document::text_of(&file)?)?;
            options.is_chain(&document.chain_id)?;
            let client = options.client(config)?;
            send::send(&client, &document, options.output)
        }
        TxCommand::Decode { text } => {
            let text = document::text_or_file(&text)?;
            say(&document::describe(&text, options.chain_id.as_deref())?)
        }
    }
}

/// What the chain says, or the command line in its place.
struct Facts {
    chain_id: String,
    nonce: u64,
    valid_until_height: u64,
    params: Params,
    /// Height, the signer's balance and the client, where a chain is asked.
    chain: Option<(u64, Balance, Client)>,
}

fn make(kind: &Kind, options: &TxOptions, store: &Store, config: &Config) -> anyhow::Result<()> {
    let from = options.from.as_ref().context("who acts? Say --from KEY")?;
    let signer = from.account(store)?;
    let facts = options.facts(signer, config)?;
    let height = facts.chain.as_ref().map(|(height, ..)| *height);
    let around = Around {
        store,
        signer,
        height,
        now_ms: now_ms(),
        chain_id: &facts.chain_id,
        params: facts.chain.as_ref().map(|_| &facts.params),
        moniker: config.on_chain.moniker.as_deref(),
    };
    let fee_payer = match &options.fee_payer {
        Some(payer) => Some(payer.account(store)?).filter(|account| *account != signer),
        None => None,
    };
    let mut body = TransactionBody {
        signer,
        fee_payer,
        nonce: facts.nonce,
        valid_until_height: facts.valid_until_height,
        fee: Balance::ZERO,
        payload: kind.payload(&around)?,
    };
    // The fee has a fixed width: setting it does not change the length.
    body.fee = match options.fee {
        Some(fee) => fee,
        None => facts.params.fee_min(&body.payload, body.signed_len_bytes()),
    };
    if options.fee.is_none() && options.offline {
        eprintln!("the fee is that of a chain's usual fee table; say --fee where it has another");
    }
    let mut document = Document::new(facts.chain_id, body);
    if options.generate_only {
        return say(&document.to_json());
    }
    document.sign(&from.key(store)?)?;
    if let Some(payer) = options.fee_payer.as_ref().filter(|_| fee_payer.is_some()) {
        document.sign(&payer.key(store)?)?;
    }
    match facts.chain {
        Some((_, balance, client)) if !options.sign_only => {
            // A block would refuse it too, and keep the fee.
            let needed = needed(&document.body);
            if balance < needed {
                return Err(SubmitError::Funds { balance, needed }.into());
            }
            if !options.yes {
                eprint!("{}", document.summary());
                prompt::confirm(
                    "Send it?",
                    "nobody is there to be asked whether it may be sent: say -y if it may",
                )?;
            }
            send::send(&client, &document, options.output)
        }
        _ => say(&document.to_json()),
    }
}

impl TxOptions {
    fn key(&self, store: &Store) -> anyhow::Result<SigningKey> {
        self.from.as_ref().context("who signs? Say --from KEY")?.key(store)
    }

    fn client(&self, config: &Config) -> anyhow::Result<Client> {
        let mut clients = self.rpc.clients(config)?;
        Ok(clients.swap_remove(0))
    }

    fn is_chain(&self, id: &str) -> anyhow::Result<()> {
        match &self.chain_id {
            Some(said) if said != id => {
                bail!("this is for the chain {id}, not for {said} of --chain-id")
            }
            _ => Ok(()),
        }
    }

    fn facts(&self, signer: AccountId, config: &Config) -> anyhow::Result<Facts> {
        if self.offline {
            // clap asks for the three: a default stands for none of them.
            return Ok(Facts {
                chain_id: self.chain_id.clone().context("--offline needs --chain-id")?,
                nonce: self.nonce.context("--offline needs --nonce")?,
                valid_until_height: self.valid_until.context("--offline needs --valid-until")?,
                params: Params::default(),
                chain: None,
            });
        }
        let client = self.client(config)?;
        let status = client.status()?;
        self.is_chain(&status.chain_id)
            .with_context(|| format!("{} is of another chain", client.name()))?;
        let account = send::account(&client, &signer)?;
        let height = status.latest_height;
        Ok(Facts {
            chain_id: status.chain_id,
            nonce: self.nonce.unwrap_or(account.nonce),
            valid_until_height: self.valid_until.unwrap_or(height.saturating_add(VALID_BLOCKS)),
            params: send::params(&client)?,
            chain: Some((height, account.balance, client)),
        })
    }
}

/// What the signer's account must hold, as far as the transaction says so itself.
fn needed(body: &TransactionBody) -> Balance {
    let fee = if body.fee_payer.is_some() { Balance::ZERO } else { body.fee };
    fee.checked_add(wallet::moved_by(&body.payload)).unwrap_or(Balance::MAX)
}

/// What a transaction makes: the id of its stream or channel, and what that is.
fn made(body: &TransactionBody) -> Option<(&'static str, String)> {
    match body.payload {
        Payload::RegisterStream { .. } => {
            Some(("stream", StreamId::of(&body.signer, body.nonce).to_string()))
        }
        Payload::OpenChannel { .. } => {
            Some(("channel", ChannelId::of(&body.signer, body.nonce).to_string()))
        }
        Payload::Transfer { .. }
        | Payload::UpdateStream { .. }
        | Payload::EndStream { .. }
        | Payload::SetPrice { .. }
        | Payload::SetSplit { .. }
        | Payload::SetIssuers { .. }
        | Payload::RegisterRelay { .. }
        | Payload::UpdateRelay { .. }
        | Payload::TopUp { .. }
        | Payload::Reserve { .. }
        | Payload::Redeem { .. }
        | Payload::RequestClose { .. }
        | Payload::Finalize { .. }
        | Payload::BuyAccess { .. }
        | Payload::GrantAccess { .. }
        | Payload::RevokeAccess { .. }
        | Payload::BumpRevocation { .. }
        | Payload::UnbondRelay
        | Payload::CreateValidator { .. }
        | Payload::EditValidator { .. }
        | Payload::Delegate { .. }
        | Payload::Undelegate { .. }
        | Payload::Redelegate { .. }
        | Payload::WithdrawRewards { .. }
        | Payload::Unjail
        | Payload::SubmitEvidence { .. }
        | Payload::Propose { .. }
        | Payload::Vote { .. }
        | Payload::ScheduleUpgrade { .. } => None,
    }
}
