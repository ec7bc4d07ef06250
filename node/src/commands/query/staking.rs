//! Stake, proposals and upgrades: single records with their proofs, lists as tables.

use chain_types::{
    AccountId, Balance, Params, StateKey, Supply, hex,
    staking::{Delegation, Proposal, Rewards, SigningInfo, Upgrade, Validator},
};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Asking, Who, bail,
    lists::Kind,
    say,
    table::{self, Align::Left, Align::Right, percent, sut, text, time},
};
use crate::commands::{keys::Store, tx::Output};

/// `query staking`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum StakingQuestion {
    /// All validators: what is staked with them, and whether they vote
    Validators,
    /// One validator, with proof
    Validator {
        /// Its operator
        operator: Who,
    },
    /// What an account has staked, what it has earned, and what is on its way back
    Delegations {
        /// Whose
        delegator: Who,
    },
    /// One stake, with proof
    Delegation {
        /// Whose
        delegator: Who,
        /// With which operator
        operator: Who,
    },
    /// Who has staked with a validator
    Delegators {
        /// Its operator
        operator: Who,
    },
    /// The rules of stake, with proof
    Params,
    /// All stake that votes, beside all money, with proof
    Pool,
}

/// `query gov`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum GovQuestion {
    /// All proposals and how they stand
    Proposals,
    /// One proposal with proof, and its votes
    Proposal {
        /// Its number
        #[arg(value_name = "N")]
        number: u64,
    },
}

/// The parameters that are about stake.
const STAKE_PARAMS: [&str; 13] = [
    "validators_max",
    "power_unit",
    "delegation_min",
    "self_delegation_min",
    "unbonding_ms",
    "signed_window_blocks",
    "signed_min_bps",
    "downtime_jail_ms",
    "double_sign_bps",
    "relay_fault_bps",
    "reporter_bps",
    "relay_bond_min",
    "voting_ms",
];

impl Asking<'_> {
    /// A question about stake.
    pub(super) fn staking(
        &mut self,
        question: StakingQuestion,
        store: &Store,
    ) -> anyhow::Result<()> {
        match question {
            StakingQuestion::Validators => self.table(Kind::Validators, "/validators", validators),
            StakingQuestion::Validator { operator } => self.validator(operator.account(store)?),
            StakingQuestion::Delegations { delegator } => {
                let path = format!("/delegations/{}", delegator.account(store)?);
                self.table(Kind::Delegations, &path, delegations)
            }
            StakingQuestion::Delegation { delegator, operator } => {
                self.delegation(delegator.account(store)?, operator.account(store)?)
            }
            StakingQuestion::Delegators { operator } => {
                let path = format!("/delegators/{}", operator.account(store)?);
                self.table(Kind::Delegators, &path, delegators)
            }
            StakingQuestion::Params => self.stake_params(),
            StakingQuestion::Pool => self.pool(),
        }
    }

    /// A question about what validators decide.
    pub(super) fn gov(&mut self, question: &GovQuestion) -> anyhow::Result<()> {
        match question {
            GovQuestion::Proposals => self.table(Kind::Proposals, "/proposals", proposals),
            GovQuestion::Proposal { number } => self.proposal(*number),
        }
    }

    /// The upgrade that is decided; that there is none is an answer too.
    pub(super) fn upgrade(&mut self) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Upgrade)?;
        let upgrade = answer.decode::<Upgrade>()?;
        self.tell(json!({ "upgrade": upgrade }), &answer)
    }

    fn validator(&mut self, operator: AccountId) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Validator(operator))?;
        let Some(record) = answer.decode::<Validator>()? else {
            bail!(
                "at height {} {operator} is no validator's operator ({}): `sutantra-node query \
                 staking validators` lists them",
                answer.height,
                answer.basis.words()
            );
        };
        let info = self.answer_at(StateKey::SigningInfo(operator), answer.height)?;
        let info = info.decode::<SigningInfo>()?;
        let mut shown = json!(record);
        shown["account"] = json!(operator);
        shown["status"] = json!(status(&record));
        shown["address"] = json!(hex::text(&record.consensus_address()).to_uppercase());
        shown["missed_blocks"] = json!(info.map_or(0, |info| info.missed_blocks()));
        self.tell(json!({ "validator": shown }), &answer)
    }

    fn delegation(&mut self, delegator: AccountId, operator: AccountId) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Delegation(delegator, operator))?;
        let Some(record) = answer.decode::<Delegation>()? else {
            bail!(
                "at height {} {delegator} has no stake with {operator} ({}): `sutantra-node query \
                 staking delegations {delegator}` lists what it has",
                answer.height,
                answer.basis.words()
            );
        };
        let validator = self.answer_at(StateKey::Validator(operator), answer.height)?;
        let Some(validator) = validator.decode::<Validator>()? else {
            bail!("{} has stake with a validator that is not there", answer.basis.words());
        };
        let Delegation { shares, paid, incoming, leaving } = record;
        let shown = json!({
            "delegator": delegator,
            "operator": operator,
            "amount": tokens_of(&validator, shares),
            "shares": shares.to_string(),
            "shares_of_validator": validator.shares.to_string(),
            "paid_per_share": paid.to_string(),
            "incoming": incoming,
            "leaving": leaving,
        });
        self.tell(json!({ "delegation": shown }), &answer)
    }

    fn stake_params(&mut self) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Params)?;
        let params = json!(answer.decode::<Params>()?.unwrap_or_default());
        let of_stake: serde_json::Map<_, _> =
            STAKE_PARAMS.iter().map(|name| ((*name).to_owned(), params[*name].clone())).collect();
        self.tell(json!({ "params": of_stake }), &answer)
    }

    fn pool(&mut self) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Rewards)?;
        let rewards = answer.decode::<Rewards>()?.unwrap_or_default();
        let supply = self.answer_at(StateKey::Supply, answer.height)?;
        let supply = supply.decode::<Supply>()?.unwrap_or_default();
        let current = supply.genesis.saturating_sub(supply.burned);
        let pool = json!({
            "bonded": rewards.bonded,
            "rewards_held": rewards.held,
            "current": current,
            "bonded_bps": bps_of(rewards.bonded, current),
        });
        self.tell(json!({ "pool": pool }), &answer)
    }

    fn proposal(&mut self, number: u64) -> anyhow::Result<()> {
        let answer = self.answer(StateKey::Proposal(number))?;
        let Some(record) = answer.decode::<Proposal>()? else {
            bail!(
                "at height {} there is no proposal {number} ({}): `sutantra-node query gov \
                 proposals` lists them",
                answer.height,
                answer.basis.words()
            );
        };
        // Votes are many records: their sum is the endpoint's word.
        let client = self.follower.primary();
        let tally = client.abci_query(&format!("/proposal/{number}"), &[], 0, false)?;
        let tally: Value = serde_json::from_slice(&tally.value).unwrap_or_default();
        let mut shown = json!(record);
        shown["number"] = json!(number);
        let votes = json!({
            "yes_power": tally["yes_power"],
            "no_power": tally["no_power"],
            "total_power": tally["total_power"],
            "proved": false,
        });
        self.tell(json!({ "proposal": shown, "votes": votes }), &answer)
    }

    /// All records of a list, as a table for people.
    fn table(
        &mut self,
        kind: Kind,
        path: &str,
        lines: fn(&[Value]) -> String,
    ) -> anyhow::Result<()> {
        let (all, is_cut) = self.fetch(kind, path)?;
        match self.options.output {
            Output::Json => self.tell_unproved(json!({ kind.name(): all, "is_cut": is_cut })),
            Output::Text => {
                let who = self.follower.primary().name();
                say(&format!("{}unproved: the word of {who}\n", lines(&all)))
            }
        }
    }
}

fn status(validator: &Validator) -> &'static str {
    match validator {
        Validator { slashed: Some(_), .. } => "tombstoned",
        Validator { jailed: Some(_), .. } => "jailed",
        Validator { power: 0, .. } => "waiting",
        _ => "voting",
    }
}

/// What shares are worth, rounded down; `None`: more than can be counted here.
fn tokens_of(validator: &Validator, shares: u128) -> Option<Balance> {
    if shares == validator.shares {
        return Some(validator.tokens);
    }
    let units = shares.checked_mul(validator.tokens.units())?.checked_div(validator.shares)?;
    Balance::new(units).ok()
}

/// A part of a whole in basis points, rounded down; 0 of nothing.
fn bps_of(part: Balance, whole: Balance) -> u64 {
    let (part, whole) = (part.units(), whole.units());
    // Below 2^96 both, so that the product has room.
    let bps = part.saturating_mul(10_000).checked_div(whole).unwrap_or_default();
    u64::try_from(bps).unwrap_or(u64::MAX)
}

fn validators(all: &[Value]) -> String {
    let mut all: Vec<&Value> = all.iter().collect();
    let stake = |one: &Value| one["tokens"].as_str().and_then(|text| text.parse::<u128>().ok());
    // Stable: of equal stake in the order of their accounts.
    all.sort_by_key(|one| std::cmp::Reverse(stake(one)));
    let row = |one: &&Value| {
        [
            text(&one["moniker"]),
            text(&one["status"]),
            sut(&one["tokens"]),
            text(&one["power"]),
            percent(&one["commission"]["bps"]),
            text(&one["missed_blocks"]),
            text(&one["account"]),
        ]
    };
    let head = [
        ("MONIKER", Left),
        ("STATUS", Left),
        ("STAKE (SUT)", Right),
        ("POWER", Right),
        ("COMMISSION", Right),
        ("MISSED", Right),
        ("OPERATOR", Left),
    ];
    table::lines(head, &all.iter().map(row).collect::<Vec<_>>())
}

fn delegations(all: &[Value]) -> String {
    let row = |one: &Value| [text(&one["validator"]), sut(&one["amount"]), sut(&one["rewards"])];
    let head = [("OPERATOR", Left), ("STAKE (SUT)", Right), ("REWARDS (SUT)", Right)];
    let mut lines = table::lines(head, &all.iter().map(row).collect::<Vec<_>>());
    let list = |one: &Value, name: &str| one[name].as_array().cloned().unwrap_or_default();
    let leaving: Vec<_> = all
        .iter()
        .flat_map(|one| {
            list(one, "leaving").into_iter().map(|left| {
                let to = match &left["to"] {
                    Value::Null => "the account".to_owned(),
                    to => text(to),
                };
                [text(&one["validator"]), sut(&left["amount"]), time(&left["complete_ms"]), to]
            })
        })
        .collect();
    if !leaving.is_empty() {
        let head = [("LEAVES", Left), ("SUT", Right), ("FREE AT", Left), ("FOR", Left)];
        lines += "\n";
        lines += &table::lines(head, &leaving);
    }
    lines
}

fn delegators(all: &[Value]) -> String {
    let row = |one: &Value| [text(&one["delegator"]), sut(&one["amount"])];
    let head = [("DELEGATOR", Left), ("STAKE (SUT)", Right)];
    table::lines(head, &all.iter().map(row).collect::<Vec<_>>())
}

fn proposals(all: &[Value]) -> String {
    let row = |one: &Value| {
        [
            text(&one["number"]),
            text(&one["state"]),
            text(&one["change"]["kind"]),
            text(&one["yes_power"]),
            text(&one["no_power"]),
            text(&one["total_power"]),
            time(&one["ends_ms"]),
            text(&one["title"]),
        ]
    };
    let head = [
        ("N", Right),
        ("STATE", Left),
        ("ABOUT", Left),
        ("YES", Right),
        ("NO", Right),
        ("OF", Right),
        ("ENDS", Left),
        ("TITLE", Left),
    ];
    table::lines(head, &all.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_listed_by_stake_with_what_a_delegator_looks_for() {
        let validator = |moniker: &str, tokens: &str, status: &str| {
            json!({
                "account": "ab".repeat(32), "moniker": moniker, "tokens": tokens, "power": "5",
                "status": status, "commission": {"bps": 1050}, "missed_blocks": 3,
            })
        };
        let all =
            [validator("few", "5000000000", "jailed"), validator("many", "10500000000", "voting")];
        let operator = "ab".repeat(32);
        let expected = format!(
            "MONIKER  STATUS  STAKE (SUT)  POWER  COMMISSION  MISSED  OPERATOR\n\
             many     voting         10.5      5     10.50 %       3  {operator}\n\
             few      jailed            5      5     10.50 %       3  {operator}\n"
        );
        assert_eq!(validators(&all), expected);
        assert_eq!(validators(&[]), "none\n");
    }

    #[test]
    fn stake_on_its_way_back_is_shown_with_its_time() {
        let left = json!({"height": 7, "to": null, "amount": "2000000000", "complete_ms": 1000});
        let moved = json!({"height": 8, "to": "cd", "amount": "1", "complete_ms": 2000});
        let one = json!({
            "validator": "ab", "amount": "3000000000", "rewards": "4", "leaving": [left, moved],
        });
        let expected = "OPERATOR  STAKE (SUT)  REWARDS (SUT)\n\
                        ab                  3    0.000000004\n\n\
                        LEAVES          SUT  FREE AT               FOR\n\
                        ab                2  1970-01-01T00:00:01Z  the account\n\
                        ab      0.000000001  1970-01-01T00:00:02Z  cd\n";
        assert_eq!(delegations(&[one]), expected);
    }

    #[test]
    fn every_rule_of_stake_is_a_parameter_of_the_chain() {
        let params = json!(Params::default());
        for name in STAKE_PARAMS {
            assert!(!params[name].is_null(), "{name}");
        }
    }

    #[test]
    fn a_part_of_the_supply_is_counted_in_basis_points() {
        let of = |part, whole| bps_of(Balance::of(part), Balance::of(whole));
        assert_eq!((of(1, 4), of(0, 0), of(1, 30_000)), (2500, 0, 0));
        assert_eq!(bps_of(Balance::MAX, Balance::MAX), 10_000);
    }
}
