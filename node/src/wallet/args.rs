//! The grammar of `wallet`.

use chain_types::{AccountId, Balance, BalanceError, ChannelId, Policy, StreamId};
use clap::{Args, Subcommand, ValueEnum};

/// `wallet`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct WalletArgs {
    #[command(subcommand)]
    pub command: WalletCommand,
    /// CometBFT RPC of the chain [default: http://127.0.0.1:26657]
    #[arg(long, global = true, value_name = "URL")]
    pub rpc: Option<String>,
    /// The relay [default: the node that runs on the home, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
}

fn sut(text: &str) -> Result<Balance, BalanceError> {
    Balance::parse_sut(text)
}

/// SUT per second, as units.
fn sut_rate(text: &str) -> Result<u64, String> {
    let rate = Balance::parse_sut(text).map_err(|error| error.to_string())?;
    u64::try_from(rate.units()).map_err(|_| "a rate is below 2^64 units a second".to_owned())
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum WalletCommand {
    /// Makes an account and shows its 24 words, once
    Create,
    /// Shows the 24 words: whoever has them has the money
    Words {
        /// Show them even where the output is no terminal
        #[arg(long)]
        yes: bool,
    },
    /// Takes over an account: reads its 24 words from stdin
    Import,
    /// Prints the account
    Address,
    /// Shows what the account and its pools hold
    Balance {
        /// As JSON, in units of 10^-9 SUT
        #[arg(long)]
        json: bool,
    },
    /// Asks the faucet of a development chain for play money
    Faucet,
    /// Sends money
    Send {
        /// Account of the receiver
        #[arg(long, value_name = "ACCOUNT")]
        to: AccountId,
        /// How much, such as 1.5
        #[arg(long, value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Opens a pool: a deposit that pays relays by the second; the rest comes back
    Open {
        /// What it holds
        #[arg(long, value_name = "SUT", value_parser = sut)]
        deposit: Balance,
        /// Keep money of it for this relay, which then serves longer before it redeems
        #[arg(long = "for", value_name = "RELAY_ACCOUNT")]
        relay: Option<AccountId>,
        /// How much of it is kept for the relay [default: all]
        #[arg(long, value_name = "SUT", requires = "relay", value_parser = sut)]
        reserve: Option<Balance>,
    },
    /// Puts more into a pool
    TopUp {
        /// How much
        #[arg(long, value_name = "SUT", value_parser = sut)]
        amount: Balance,
        /// Which pool [default: the only one]
        #[arg(long, value_name = "CHANNEL")]
        pool: Option<ChannelId>,
    },
    /// Closes a pool: relays redeem in a window, then the rest comes back
    Close {
        /// Which pool [default: the only one]
        #[arg(long, value_name = "CHANNEL")]
        pool: Option<ChannelId>,
        /// Wait for the window's end and take the rest back
        #[arg(long)]
        wait: bool,
    },
    /// Lists the pools
    Pools {
        /// As JSON, in units of 10^-9 SUT
        #[arg(long)]
        json: bool,
    },
    /// Shows or sets how much is signed on one day at most
    Caps {
        /// For one stream
        #[arg(long, value_name = "SUT", value_parser = sut)]
        per_stream: Option<Balance>,
        /// For all of them
        #[arg(long, value_name = "SUT", value_parser = sut)]
        per_day: Option<Balance>,
    },
    /// Watches a stream without a screen, and pays for it
    Watch(WatchArgs),
    /// Buys a ticket
    Buy {
        /// Name or id of the stream
        stream: String,
        /// At most this price [default: the one that the chain has now]
        #[arg(long, value_name = "SUT", value_parser = sut)]
        max_price: Option<Balance>,
    },
    /// Streams of this account
    #[command(subcommand)]
    Stream(StreamCommand),
}

/// `wallet watch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WatchArgs {
    /// Name or id of the stream
    pub stream: String,
    /// Leave after this time
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Leave after this many frames
    #[arg(long, value_name = "N")]
    pub frames: Option<u64>,
    /// How vouchers travel
    #[arg(long, value_enum, default_value_t = PayBy::Channel)]
    pub pay_by: PayBy,
    /// Pay from this pool [default: one with money left, best one that is kept for the relay]
    #[arg(long, value_name = "CHANNEL")]
    pub pool: Option<ChannelId>,
    /// Access token, as its issuer gave it
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    #[arg(long, hide = true, value_name = "S")]
    pub stop_paying_after: Option<u64>,
    #[arg(long, hide = true, value_name = "S", requires = "stop_paying_after")]
    pub resume_after: Option<u64>,
}

/// How vouchers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PayBy {
    /// `POST {session}/pay`
    Post,
    /// The data channel `sutantra/pay/1`
    Channel,
}

/// `wallet stream`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum StreamCommand {
    /// Registers a stream: its price, its policy, who gets what
    Register {
        /// For people
        #[arg(long)]
        title: String,
        /// Who may watch
        #[arg(long, value_enum, default_value_t = PolicyName::Paid)]
        policy: PolicyName,
        #[command(flatten)]
        price: PriceArgs,
        #[command(flatten)]
        split: SplitArgs,
        /// Relay that it is published to
        #[arg(long, value_name = "RELAY_ACCOUNT")]
        origin: Option<AccountId>,
        /// Key that may sign tokens besides this account's (again for more)
        #[arg(long = "issuer", value_name = "KEY")]
        issuers: Vec<AccountId>,
    },
    /// Sets a new price; it holds after the chain's notice
    Price {
        /// Which
        stream: StreamId,
        #[command(flatten)]
        price: PriceArgs,
    },
    /// Sets a new split; it holds after the chain's notice
    Split {
        /// Which
        stream: StreamId,
        #[command(flatten)]
        split: SplitArgs,
    },
    /// Changes who may watch, at once
    Policy {
        /// Which
        stream: StreamId,
        #[arg(value_enum)]
        policy: PolicyName,
    },
    /// Ends a stream for good
    End {
        /// Which
        stream: StreamId,
    },
    /// Puts a viewer on the stream's list
    Grant {
        /// Which
        stream: StreamId,
        /// Account of the viewer
        viewer: AccountId,
        /// How long: a number and s, m, h or d
        #[arg(long, value_name = "TIME", default_value = "1d")]
        ttl: String,
    },
    /// Takes a viewer off the stream's list, at once
    Revoke {
        /// Which
        stream: StreamId,
        /// Account of the viewer
        viewer: AccountId,
    },
    /// Signs an access token: by default the one that publishes the stream
    Token {
        /// Which
        stream: StreamId,
        /// What it allows
        #[arg(long, value_enum, default_value_t = TokenRole::Publish)]
        role: TokenRole,
        /// How long: a number and s, m, h or d
        #[arg(long, value_name = "TIME", default_value = "1h")]
        ttl: String,
        /// Account of the viewer [default: whoever bears it]
        #[arg(long, value_name = "ACCOUNT")]
        viewer: Option<AccountId>,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    Publish,
    Subscribe,
}

/// [`Policy`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Everybody watches
    Free,
    /// Who pays by the second
    Paid,
    /// Who bought a ticket
    Ticketed,
    /// Whom the creator granted access
    AllowList,
}

impl From<PolicyName> for Policy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Free => Self::Free,
            PolicyName::Paid => Self::Paid,
            PolicyName::Ticketed => Self::Ticketed,
            PolicyName::AllowList => Self::AllowList,
        }
    }
}

/// A price.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PriceArgs {
    /// SUT a second at full quality
    #[arg(long, value_name = "SUT", default_value = "0", value_parser = sut_rate)]
    pub rate: u64,
    /// Share of the rate for each tier, lowest first, in hundredths of a percent
    #[arg(long, value_name = "BPS", num_args = 3, default_values_t = [2_500, 5_000, 10_000])]
    pub tier_bps: Vec<u16>,
    /// Price of a ticket
    #[arg(long, value_name = "SUT", default_value = "0", value_parser = sut)]
    pub ticket_price: Balance,
    /// How long a ticket is good for: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub ticket_time: String,
}

/// A split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct SplitArgs {
    /// The creator's share of what the chain's 1 % leaves, in hundredths of a percent
    #[arg(long, value_name = "BPS", default_value_t = 7_000)]
    pub creator_bps: u16,
    /// The origin relay's
    #[arg(long, value_name = "BPS", default_value_t = 0)]
    pub origin_bps: u16,
}
