//! `query …`: what the chain says, each single record with a proof that is checked here.

use anyhow::bail;
use borsh::BorshDeserialize;
use chain_types::{
    AccessRecord, Account, Balance, Channel, ChannelId, Params, RelayRecord, StateKey, StreamId,
    StreamMetadata, Supply,
};
use clap::{ArgAction, Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    endpoint::RpcArgs,
    keys::{Store, Who},
    say,
    tx::Output,
};
use crate::config::{Config, chain::Trust};

mod blocks;
mod lists;
mod proved;
mod show;
mod staking;
mod table;

use proved::{Answer, Follower};
use staking::{GovQuestion, StakingQuestion};

/// `query`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct QueryArgs {
    #[command(subcommand)]
    pub command: QueryCommand,
    #[command(flatten)]
    pub options: QueryOptions,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum QueryCommand {
    /// An account's money and nonce
    Account {
        /// Its id, or the name of a key of the home
        account: Who,
    },
    /// A stream: prices, policy, shares
    Stream {
        /// Which
        stream: StreamId,
    },
    /// Streams, all or a creator's
    Streams {
        /// Whose
        #[arg(long, value_name = "ACCOUNT")]
        creator: Option<Who>,
    },
    /// A channel: what it holds, keeps and has paid
    Channel {
        /// Which
        channel: ChannelId,
    },
    /// Channels that an account pays, or is paid from
    #[group(required = true, multiple = false)]
    Channels {
        /// Who pays
        #[arg(long, value_name = "ACCOUNT")]
        payer: Option<Who>,
        /// Who is paid
        #[arg(long, value_name = "ACCOUNT")]
        payee: Option<Who>,
    },
    /// What was redeemed from a channel, lane by lane
    Lanes {
        /// Which channel
        channel: ChannelId,
    },
    /// What the chain says about one viewer on one stream
    Access {
        /// Which stream
        stream: StreamId,
        /// Whom
        viewer: Who,
    },
    /// A relay: its key, its address, its prices
    Relay {
        /// Its account
        account: Who,
    },
    /// All relays
    Relays,
    /// Fees, windows and bounds of the chain
    Params,
    /// All money
    Supply,
    /// Stake: validators, and what is staked with them
    #[command(subcommand)]
    Staking(StakingQuestion),
    /// What validators decide together
    #[command(subcommand)]
    Gov(GovQuestion),
    /// The new version of the program that is decided, and its height
    Upgrade,
    /// A transaction by its hash
    Tx {
        /// 64 hex digits
        hash: String,
    },
    /// A block and its transactions
    Block {
        /// Its height [default: the newest]
        height: Option<u64>,
    },
    /// The node behind the RPC and how far it is
    Status,
}

/// What holds for each question.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct QueryOptions {
    #[command(flatten)]
    pub rpc: RpcArgs,
    /// The state after this block [default: the newest that can be proved]
    #[arg(long, global = true, value_name = "HEIGHT")]
    pub height: Option<u64>,
    /// Header to begin with, from a source that you trust [default: what was verified before, else
    /// trust of the configuration, else the home's genesis file, else the first answer]
    #[arg(long, global = true, value_name = "HEIGHT:HASH")]
    pub trust: Option<Trust>,
    /// Verify headers and proofs; without, the answer is the endpoint's word
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    pub prove: bool,
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// One question on its way.
struct Asking<'a> {
    options: &'a QueryOptions,
    follower: Follower,
}

/// Carries it out.
///
/// # Errors
/// A sentence that names the endpoint and what to do; that there is no such record is one.
pub fn run(args: QueryArgs, config: &Config) -> anyhow::Result<()> {
    let QueryArgs { command, options } = args;
    let store = Store::at(&config.home);
    let clients = options.rpc.clients(config)?;
    let follower = Follower::new(clients, &config.home, options.trust.or(config.on_chain.trust));
    let mut ask = Asking { options: &options, follower };
    match command {
        QueryCommand::Account { account } => {
            ask.record::<Account>("account", StateKey::Account(account.account(&store)?))
        }
        QueryCommand::Stream { stream } => {
            ask.record::<StreamMetadata>("stream", StateKey::Stream(stream))
        }
        QueryCommand::Channel { channel } => {
            ask.record::<Channel>("channel", StateKey::Channel(channel))
        }
        QueryCommand::Access { stream, viewer } => {
            let key = StateKey::Access(stream, viewer.account(&store)?);
            ask.record::<AccessRecord>("access", key)
        }
        QueryCommand::Relay { account } => {
            ask.record::<RelayRecord>("relay", StateKey::Relay(account.account(&store)?))
        }
        QueryCommand::Params => ask.record::<Params>("params", StateKey::Params),
        QueryCommand::Supply => ask.supply(),
        QueryCommand::Staking(question) => ask.staking(question, &store),
        QueryCommand::Gov(question) => ask.gov(&question),
        QueryCommand::Upgrade => ask.upgrade(),
        QueryCommand::Streams { creator: None } => ask.list(lists::Kind::Streams, "/streams"),
        QueryCommand::Streams { creator: Some(creator) } => {
            let path = format!("/streams/by-creator/{}", creator.account(&store)?);
            ask.list(lists::Kind::Streams, &path)
        }
        QueryCommand::Channels { payer: Some(who), .. } => {
            let path = format!("/channels/by-payer/{}", who.account(&store)?);
            ask.list(lists::Kind::Channels, &path)
        }
        QueryCommand::Channels { payee: Some(who), .. } => {
            let path = format!("/channels/by-payee/{}", who.account(&store)?);
            ask.list(lists::Kind::Channels, &path)
        }
        QueryCommand::Channels { payer: None, payee: None } => {
            bail!("whose channels? Say --payer or --payee")
        }
        QueryCommand::Lanes { channel } => {
            ask.list(lists::Kind::Lanes, &format!("/lanes/{channel}"))
        }
        QueryCommand::Relays => ask.list(lists::Kind::Relays, "/relays"),
        QueryCommand::Tx { hash } => ask.tx(&hash),
        QueryCommand::Block { height } => ask.block(height.or(options.height)),
        QueryCommand::Status => ask.status(),
    }
}

impl Asking<'_> {
    /// One record, with its proof unless that is declined.
    fn answer(&mut self, key: StateKey) -> anyhow::Result<Answer> {
        match self.options.prove {
            true => self.follower.proved(key, self.options.height),
            false => self.follower.unproved(key, self.options.height),
        }
    }

    /// Another record of the same height, so that both mean something together.
    fn answer_at(&mut self, key: StateKey, height: u64) -> anyhow::Result<Answer> {
        match self.options.prove {
            true => self.follower.proved(key, Some(height)),
            false => self.follower.unproved(key, Some(height)),
        }
    }

    fn record<T: BorshDeserialize + Serialize>(
        &mut self,
        what: &str,
        key: StateKey,
    ) -> anyhow::Result<()> {
        let answer = self.answer(key)?;
        let record = answer.decode::<T>()?;
        self.tell(json!({ what: record }), &answer)?;
        match record {
            Some(_) => Ok(()),
            None => bail!(
                "at height {} the chain has no such {what} ({})",
                answer.height,
                answer.basis.words()
            ),
        }
    }

    fn supply(&mut self) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Supply)?;
        let supply = answer.decode::<Supply>()?.unwrap_or_default();
        // Both of one height: their sum means something.
        let pool = self.answer_at(StateKey::FeePool, answer.height)?;
        let fee_pool = pool.decode::<Balance>()?.unwrap_or_default();
        let record = json!({
            "genesis": supply.genesis,
            "burned": supply.burned,
            "current": supply.genesis.saturating_sub(supply.burned),
            "fee_pool": fee_pool,
        });
        self.tell(json!({ "supply": record }), &answer)
    }

    /// Prints a record and what stands behind it.
    fn tell(&self, mut record: Value, answer: &Answer) -> anyhow::Result<()> {
        match self.options.output {
            Output::Json => {
                record["height"] = json!(answer.height);
                record["proved"] = json!(answer.basis.is_proved());
                record["basis"] = json!(answer.basis.words());
                say(&format!("{record}\n"))
            }
            Output::Text => {
                let basis = answer.basis.words();
                say(&format!("{}at height {}, {basis}\n", show::lines(&record), answer.height))
            }
        }
    }

    /// Prints what nobody proves.
    fn tell_unproved(&self, mut value: Value) -> anyhow::Result<()> {
        let who = self.follower.primary().name();
        match self.options.output {
            Output::Json => {
                value["proved"] = json!(false);
                value["basis"] = json!(format!("unproved: the word of {who}"));
                say(&format!("{value}\n"))
            }
            Output::Text => say(&format!("{}unproved: the word of {who}\n", show::lines(&value))),
        }
    }
}
