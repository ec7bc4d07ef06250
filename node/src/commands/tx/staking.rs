//! The grammar of stake: validators, what is staked with them, what they decide.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chain_types::{
    Balance, Payload,
    staking::{
        Commission, Evidence, MONIKER_BYTES_MAX, PROPOSAL_TEXT_BYTES_MAX, PROPOSAL_TITLE_BYTES_MAX,
        Upgrade, WEBSITE_BYTES_MAX,
    },
};
use clap::{Args, Subcommand, ValueEnum};
use consensus_abci::engine::ValidatorKey;

use super::{
    document,
    kind::{Around, sut},
};
use crate::{
    chain::genesis::ParamChange,
    commands::{comet, keys::Who},
};

/// Hundredths of a percent, as people write them: `10`, `2.5` or `2.5%`.
///
/// # Errors
/// A sentence with the right form.
pub fn percent(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text}: write a percentage from 0 to 100, such as 10 or 2.5");
    let digits = text.trim().strip_suffix('%').unwrap_or(text.trim()).trim_end();
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || part.len() > 2 {
        return Err(wrong());
    }
    let whole: u16 = whole.parse().ok().filter(|whole| *whole <= 100).ok_or_else(wrong)?;
    let part: u16 = format!("{part:0<2}").parse().expect("two digits");
    let bps = whole * 100 + part;
    if bps <= 10_000 { Ok(bps) } else { Err(wrong()) }
}

/// What a validator tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ValidatorArgs {
    /// Its name, for people [default: moniker of the configuration]
    #[arg(long, value_name = "NAME")]
    pub moniker: Option<String>,
    /// Where it tells more about itself
    #[arg(long, value_name = "URL", default_value = "")]
    pub website: String,
    /// What it keeps of its delegators' rewards
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    pub commission: u16,
    /// It will never keep more
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = percent)]
    pub commission_max: u16,
    /// Most change of it in a day
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub commission_step: u16,
    /// Key that signs its blocks [default: config/priv_validator_key.json of the home]
    #[arg(long, value_name = "FILE")]
    pub validator_key: Option<PathBuf>,
}

impl ValidatorArgs {
    /// Its name, web address and commission.
    ///
    /// # Errors
    /// What no chain takes.
    pub fn facts(&self, moniker: Option<&str>) -> anyhow::Result<(String, String, Commission)> {
        let moniker = self.moniker.as_deref().or(moniker).unwrap_or_default().trim();
        if moniker.is_empty() {
            bail!("what is the validator called? Say --moniker NAME");
        }
        no_longer("--moniker", moniker, MONIKER_BYTES_MAX)?;
        no_longer("--website", &self.website, WEBSITE_BYTES_MAX)?;
        let (bps, max_bps, step_bps) = (self.commission, self.commission_max, self.commission_step);
        if bps > max_bps || step_bps > max_bps {
            bail!("--commission and --commission-step are at most --commission-max");
        }
        let commission = Commission { bps, max_bps, step_bps };
        Ok((moniker.to_owned(), self.website.clone(), commission))
    }

    /// The key that signs blocks; an absent one is not made.
    pub fn key(&self, home: &Path) -> anyhow::Result<ValidatorKey> {
        match &self.validator_key {
            None => comet::validator_key(home),
            Some(file) if file.try_exists()? => Ok(ValidatorKey::load_or_create(file)?),
            Some(file) => bail!("{} is not there", file.display()),
        }
    }
}

fn no_longer(what: &str, text: &str, bytes_max: usize) -> anyhow::Result<()> {
    if text.len() > bytes_max {
        bail!("{what} has {} bytes, at most {bytes_max} fit", text.len());
    }
    Ok(())
}

/// `tx staking`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Staking {
    /// Makes the signer the operator of a validator: of the home's, with its key's signature
    CreateValidator {
        #[command(flatten)]
        facts: ValidatorArgs,
        /// What the operator stakes
        #[arg(long, value_name = "SUT", value_parser = sut)]
        self_delegation: Balance,
    },
    /// Changes what is given of the signer's validator
    EditValidator {
        #[command(flatten)]
        change: ValidatorChange,
    },
    /// Stakes with a validator; pays out the rewards so far
    Delegate {
        /// Its operator
        #[arg(value_name = "OPERATOR")]
        validator: Who,
        /// How much, such as 1.5
        #[arg(value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Takes stake back; `withdraw-rewards` brings it when the unbonding time is over
    Undelegate {
        /// The operator
        #[arg(value_name = "OPERATOR")]
        validator: Who,
        /// How much
        #[arg(value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Moves stake to another validator at once
    Redelegate {
        /// The operator that it leaves
        // Not `from`: that is the signer's flag.
        #[arg(id = "from-operator", value_name = "FROM-OPERATOR")]
        from: Who,
        /// The operator that it goes to
        #[arg(value_name = "TO-OPERATOR")]
        to: Who,
        /// How much
        #[arg(value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Pays out rewards, the commission of an operator, and stake whose unbonding time is over
    WithdrawRewards {
        /// The operator
        #[arg(value_name = "OPERATOR")]
        validator: Who,
    },
    /// Lets the signer's validator vote again, which was jailed for missed blocks
    Unjail,
}

/// What changes of a validator; at least one of them.
#[derive(Debug, PartialEq, Eq, Args)]
#[group(required = true, multiple = true)]
pub struct ValidatorChange {
    /// New name
    #[arg(long, value_name = "NAME")]
    pub moniker: Option<String>,
    /// New web address
    #[arg(long, value_name = "URL")]
    pub website: Option<String>,
    /// New commission: a step a day
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub commission: Option<u16>,
}

impl Staking {
    /// The payload.
    ///
    /// # Errors
    /// A name that is no account here, a key that is not there, what no chain takes.
    pub fn payload(&self, around: &Around) -> anyhow::Result<Payload> {
        let account = |who: &Who| who.account(around.store);
        Ok(match self {
            Self::CreateValidator { facts, self_delegation } => {
                let (moniker, website, commission) = facts.facts(around.moniker)?;
                let key = facts.key(around.store.home())?;
                Payload::CreateValidator {
                    consensus_key: key.account(),
                    possession: key.possession(&around.signer, around.chain_id),
                    moniker,
                    website,
                    commission,
                    self_delegation: *self_delegation,
                }
            }
            Self::EditValidator { change } => {
                let ValidatorChange { moniker, website, commission } = change;
                no_longer("--moniker", moniker.as_deref().unwrap_or_default(), MONIKER_BYTES_MAX)?;
                no_longer("--website", website.as_deref().unwrap_or_default(), WEBSITE_BYTES_MAX)?;
                Payload::EditValidator {
                    moniker: moniker.clone(),
                    website: website.clone(),
                    commission_bps: *commission,
                }
            }
            Self::Delegate { validator, amount } => {
                Payload::Delegate { validator: account(validator)?, amount: *amount }
            }
            Self::Undelegate { validator, amount } => {
                Payload::Undelegate { validator: account(validator)?, amount: *amount }
            }
            Self::Redelegate { from, to, amount } => {
                let (from, to) = (account(from)?, account(to)?);
                if from == to {
                    bail!("stake moves from one validator to another: these two are the same");
                }
                Payload::Redelegate { from, to, amount: *amount }
            }
            Self::WithdrawRewards { validator } => {
                Payload::WithdrawRewards { validator: account(validator)? }
            }
            Self::Unjail => Payload::Unjail,
        })
    }
}

/// `tx gov`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Gov {
    /// Proposes other parameters of the chain, for operators whose validator votes
    Propose {
        /// What it is about, in a line
        #[arg(long)]
        title: String,
        /// Why
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        params: ProposedParams,
    },
    /// Votes on a proposal; the last vote counts
    Vote {
        /// Its number (`query gov proposals`)
        #[arg(value_name = "N")]
        proposal: u64,
        /// What is said
        #[arg(value_enum)]
        word: Word,
    },
    /// Proposes a new version of the program from a height on
    ScheduleUpgrade {
        /// Its name, which the new program knows
        name: String,
        /// The first block that needs it
        #[arg(long, value_name = "HEIGHT")]
        at_height: u64,
        /// Where to get it
        #[arg(long, default_value = "")]
        info: String,
    },
}

/// Which parameters are proposed.
#[derive(Debug, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct ProposedParams {
    /// Another value of a parameter, repeatable; the others stay as they are on the chain
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<ParamChange>,
    /// All of them, as `query params -o json` prints them below `params`
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Word {
    /// For it
    Yes,
    /// Against it
    No,
}

impl Gov {
    /// The payload.
    ///
    /// # Errors
    /// Texts that are too long, parameters that no chain can have.
    pub fn payload(&self, around: &Around) -> anyhow::Result<Payload> {
        Ok(match self {
            Self::Propose { title, text, params } => {
                no_longer("--title", title, PROPOSAL_TITLE_BYTES_MAX)?;
                no_longer("--text", text, PROPOSAL_TEXT_BYTES_MAX)?;
                let params = match &params.params {
                    Some(file) => {
                        let text = document::text_of(file)?;
                        serde_json::from_str(&text).with_context(|| {
                            format!("{} does not hold a chain's parameters", file.display())
                        })?
                    }
                    None => ParamChange::all(
                        &params.set,
                        around.params.context(
                            "--set changes what the chain has, and none is asked: say --params FILE",
                        )?,
                    )?,
                };
                let faults = params.faults();
                if !faults.is_empty() {
                    bail!("these parameters cannot be: {}", faults.join("; "));
                }
                Payload::Propose { title: title.clone(), text: text.clone(), params: params.into() }
            }
            Self::Vote { proposal, word } => {
                Payload::Vote { proposal: *proposal, approve: *word == Word::Yes }
            }
            Self::ScheduleUpgrade { name, at_height, info } => {
                no_longer("the upgrade's name", name, PROPOSAL_TITLE_BYTES_MAX)?;
                no_longer("--info", info, PROPOSAL_TEXT_BYTES_MAX)?;
                if around.height.is_some_and(|newest| *at_height <= newest) {
                    bail!("--at-height {at_height} is over already: name a height to come");
                }
                let (name, info) = (name.clone(), info.clone());
                Payload::ScheduleUpgrade { upgrade: Upgrade { name, height: *at_height, info } }
            }
        })
    }
}

/// `tx relay`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum RelayKind {
    /// Takes the signer's relay off the chain: once to begin, and after the unbonding time once
    /// more, which brings its bond
    Unbond,
}

/// `tx evidence`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum EvidenceKind {
    /// Proves a fault of a relay; a part of the cut goes to the signer
    Submit {
        /// The evidence as JSON; `-` reads stdin
        file: PathBuf,
    },
}

impl EvidenceKind {
    /// The payload.
    ///
    /// # Errors
    /// The file is no evidence.
    pub fn payload(&self) -> anyhow::Result<Payload> {
        let Self::Submit { file } = self;
        let evidence: Evidence =
            serde_json::from_str(&document::text_of(file)?).with_context(|| {
                format!(
                    "{} is no evidence: it needs \"kind\": \"dear_terms\", \"terms\", \"bind\" and \
                     \"ack\"",
                    file.display()
                )
            })?;
        Ok(Payload::SubmitEvidence { evidence })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_percentage_is_read_as_people_write_it() {
        #[track_caller]
        fn check(text: &str, expected: Option<u16>) {
            assert_eq!(percent(text).ok(), expected, "{text}");
        }
        check("10", Some(1000));
        check("2.5%", Some(250));
        check("0.01", Some(1));
        check("100", Some(10_000));
        check("0", Some(0));
        for wrong in ["", "%", "100.01", "101", "-1", "1.234", ".5", "ten", "1e2", "+1"] {
            check(wrong, None);
        }
    }

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        facts: ValidatorArgs,
    }

    #[test]
    fn a_validator_has_a_name_and_never_more_than_its_greatest_commission() {
        #[track_caller]
        fn check(words: &[&str], of_home: Option<&str>, expected: Result<(&str, u16), &str>) {
            let words = std::iter::once("x").chain(words.iter().copied());
            let facts = Cli::try_parse_from(words).expect("in the grammar").facts.facts(of_home);
            match (facts, expected) {
                (Ok((moniker, _, commission)), Ok((name, bps))) => {
                    assert_eq!((moniker.as_str(), commission.bps), (name, bps));
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
        check(&["--moniker", "alice"], None, Ok(("alice", 1000)));
        check(&[], Some("of the home"), Ok(("of the home", 1000)));
        check(&["--moniker", "a", "--commission", "5%"], Some("b"), Ok(("a", 500)));
        check(&[], None, Err("--moniker"));
        check(&["--moniker", &"m".repeat(65)], None, Err("at most 64"));
        check(&["--website", &"w".repeat(129)], Some("a"), Err("at most 128"));
        check(&["--commission", "21"], Some("a"), Err("at most --commission-max"));
        check(&["--commission-step", "21"], Some("a"), Err("at most --commission-max"));
        assert!(Cli::try_parse_from(["x", "--commission", "101"]).is_err());
    }
}
