//! The beginning of a chain of one's own: who has money there, who makes its blocks, the demo stream.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::bail;
use chain_types::{
    AccountId, Balance, Params, Payload, Policy, Price, SigningKey, SplitShares, Transaction,
    TransactionBody, hex,
    staking::{Commission, MONIKER_BYTES_MAX},
};
use consensus_abci::{
    app::APP_VERSION,
    engine::{ConsensusParams, Genesis, GenesisValidator, ValidatorKey},
};
use serde_json::{Map, Value, json};
use tendermint::{PublicKey, chain};

use super::Keys;

/// What each of the node's other accounts begins with.
const OWN_BALANCE: Balance = Balance::of(10_000_000_000_000);
/// What the faucet begins with.
pub const FAUCET_BALANCE: Balance = Balance::of(1_000_000_000_000_000_000);
/// Price of the demo stream, units per second: 0.001 SUT.
const DEMO_RATE: u64 = 1_000_000;
/// Share of the demo stream's creator; the relay has the rest.
const DEMO_SPLIT: SplitShares = SplitShares { creator_bps: 7_000, origin_bps: 0 };
/// An hour of the demo.
const DEMO_TICKET: (Balance, u64) = (Balance::of(2_000_000_000), 3_600_000);

/// What each validator of a chain made here stakes of its own.
pub const OWN_STAKE: Balance = Balance::of(10_000_000_000_000);
/// What its operator has besides.
const OPERATOR_BALANCE: Balance = Balance::of(10_000_000_000_000);
/// Blocks are at least so far apart, ms: no evidence is older in blocks than stake is in time.
const BLOCK_MS_MIN: u64 = 200;
/// Commission of a validator unless its operator says otherwise: 10 %, at most 20 %, 1 % a day.
pub const COMMISSION: Commission = Commission { bps: 1_000, max_bps: 2_000, step_bps: 100 };

/// A validator that a chain begins with, and who stakes for it.
pub struct Founder<'a> {
    /// Signs the transaction and has the money.
    pub operator: &'a SigningKey,
    /// Signs blocks.
    pub validator: &'a ValidatorKey,
    /// Name for people.
    pub moniker: &'a str,
    /// Where it tells more.
    pub website: &'a str,
    /// What it keeps of rewards.
    pub commission: Commission,
    /// What it stakes, of its balance in the genesis.
    pub stake: Balance,
}

impl<'a> Founder<'a> {
    /// One that stakes [`OWN_STAKE`], with the usual commission.
    pub fn usual(operator: &'a SigningKey, validator: &'a ValidatorKey, moniker: &'a str) -> Self {
        // Longer names are for CometBFT's peers only.
        let moniker = &moniker[..moniker.floor_char_boundary(MONIKER_BYTES_MAX)];
        let (website, commission, stake) = ("", COMMISSION, OWN_STAKE);
        Self { operator, validator, moniker, website, commission, stake }
    }

    /// The transaction that makes it a validator at the beginning: nonce 0, no fee.
    pub fn sign(&self, chain_id: &str) -> Transaction {
        let signer = AccountId::from(self.operator);
        let body = TransactionBody {
            signer,
            fee_payer: None,
            nonce: 0,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload: Payload::CreateValidator {
                consensus_key: self.validator.account(),
                possession: self.validator.possession(&signer, chain_id),
                moniker: self.moniker.to_owned(),
                website: self.website.to_owned(),
                commission: self.commission,
                self_delegation: self.stake,
            },
        };
        body.sign(self.operator, chain_id)
    }
}

/// A genesis of these accounts and validators; the engine's list of validators says the same as the
/// application's, for those who begin to verify with the file alone.
pub fn document(
    chain_id: chain::Id,
    params: &Params,
    accounts: &[(AccountId, Balance)],
    gentxs: &[Transaction],
) -> Genesis {
    let accounts: Vec<_> = accounts
        .iter()
        .map(|(account, balance)| json!({"account": account, "balance": balance}))
        .collect();
    let signed: Vec<_> = gentxs.iter().map(|gentx| hex::text(&gentx.encode())).collect();
    Genesis {
        chain_id,
        genesis_time: tendermint::Time::now(),
        initial_height: 1,
        consensus_params: consensus_params(params),
        validators: validators(gentxs, params),
        app_hash: Vec::new(),
        app_state: json!({"params": params, "accounts": accounts, "gentxs": signed}),
    }
}

/// Blocks as large as the application makes them, and evidence that is void before the stake that
/// it would cut is free.
fn consensus_params(params: &Params) -> ConsensusParams {
    let usual = ConsensusParams::default();
    let unbonding_ns = i64::try_from(params.unbonding_ms.saturating_mul(1_000_000));
    let blocks = i64::try_from((params.unbonding_ms / BLOCK_MS_MIN).max(1));
    ConsensusParams {
        evidence_max_age_ns: usual.evidence_max_age_ns.min(unbonding_ns.unwrap_or(i64::MAX)),
        evidence_max_age_blocks: usual.evidence_max_age_blocks.min(blocks.unwrap_or(i64::MAX)),
        // CometBFT asks the application, but its `rollback` reads it here.
        app_version: APP_VERSION,
        ..usual
    }
}

/// The validators that these transactions make, as the engine has them; none where the application
/// has to choose among them.
pub fn validators(gentxs: &[Transaction], params: &Params) -> Vec<GenesisValidator> {
    if usize::try_from(params.validators_max).is_ok_and(|max| gentxs.len() > max) {
        return Vec::new();
    }
    let validator = |gentx: &Transaction| match &gentx.body.payload {
        Payload::CreateValidator { consensus_key, moniker, self_delegation, .. } => {
            Some(GenesisValidator {
                pub_key: PublicKey::from_raw_ed25519(&consensus_key.0)?,
                power: params.power_of(*self_delegation),
                name: moniker.clone(),
            })
        }
        _ => None,
    };
    gentxs.iter().filter_map(validator).collect()
}

/// A chain of one validator for ever with a new name: its engine knows no other.
pub fn development(validator: &ValidatorKey, keys: &Keys) -> Genesis {
    use rand::RngCore;
    let name = format!("sutantra-dev-{:08x}", rand::rng().next_u32());
    let params = Params { validators_max: 1, ..Params::for_tests() };
    let chain_id = name.parse().expect("letters, digits and dashes, under 50 characters");
    let gentx = Founder::usual(&keys.operator, validator, "dev").sign(&name);
    document(chain_id, &params, &accounts(keys), &[gentx])
}

/// Who of a home has money at the beginning: its own accounts some, the faucet nearly all, the
/// operator what it stakes besides.
pub fn accounts(keys: &Keys) -> Vec<(AccountId, Balance)> {
    let own = [&keys.relay, &keys.creator].map(|key| (AccountId::from(key), OWN_BALANCE));
    let faucet = keys.faucet.as_ref().map(|key| (AccountId::from(key), FAUCET_BALANCE));
    [operator(&keys.operator)].into_iter().chain(own).chain(faucet).collect()
}

/// What an operator begins with: its stake, and as much again.
pub fn operator(key: &SigningKey) -> (AccountId, Balance) {
    let balance = OWN_STAKE.checked_add(OPERATOR_BALANCE).expect("far below 2^96 units");
    (AccountId::from(key), balance)
}

/// Another value of one parameter: `NAME=VALUE`, amounts in SUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamChange {
    name: String,
    value: String,
}

impl FromStr for ParamChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("write NAME=VALUE, such as validators_max=7")?;
        let change = Self { name: name.trim().to_owned(), value: value.trim().to_owned() };
        change.put(&mut fields(&Params::default()))?;
        Ok(change)
    }
}

impl ParamChange {
    /// `params` with all these changes.
    ///
    /// # Errors
    /// What the parameters could not be together.
    pub fn all(changes: &[Self], params: &Params) -> anyhow::Result<Params> {
        let mut fields = fields(params);
        for change in changes {
            change.put(&mut fields).map_err(anyhow::Error::msg)?;
        }
        let params: Params = serde_json::from_value(fields.into())?;
        let faults = params.faults();
        if !faults.is_empty() {
            bail!("these parameters cannot be: {}", faults.join("; "));
        }
        Ok(params)
    }

    fn put(&self, fields: &mut Map<String, Value>) -> Result<(), String> {
        let Self { name, value } = self;
        let Some(field) = fields.get_mut(name) else {
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            return Err(format!("there is no parameter {name}; there are {}", names.join(", ")));
        };
        *field = match field {
            // An amount.
            Value::String(_) => {
                let amount = Balance::parse_sut(value)
                    .map_err(|_| format!("{name}={value}: write SUT, such as 1.5"))?;
                json!(amount)
            }
            _ => {
                let number: u64 =
                    value.parse().map_err(|_| format!("{name}={value}: write a whole number"))?;
                json!(number)
            }
        };
        // It may be too large for this one.
        serde_json::from_value::<Params>(fields.clone().into())
            .map_err(|error| format!("{name}={value}: {error}"))?;
        Ok(())
    }
}

fn fields(params: &Params) -> Map<String, Value> {
    match serde_json::to_value(params) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a record's JSON form is an object"),
    }
}

/// Makes the demo stream known.
pub fn demo_stream() -> Payload {
    let (ticket_price, ticket_ms) = DEMO_TICKET;
    Payload::RegisterStream {
        title: crate::demo::TITLE.to_owned(),
        policy: Policy::Paid,
        price: Price {
            rate_per_second: DEMO_RATE,
            tier_bps: [2_500, 5_000, 10_000],
            ticket_price,
            ticket_ms,
        },
        split: DEMO_SPLIT,
        origin_relay: None,
        issuers: Vec::new(),
        codecs: vec!["VP8".to_owned(), "opus".to_owned()],
        ext: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use consensus_abci::app::AppState;

    use super::*;

    fn keys(byte: u8) -> Keys {
        let key = |add: u8| SigningKey::from_bytes(&[byte + add; 32]);
        Keys { operator: key(0), relay: key(1), creator: key(2), faucet: Some(key(3)) }
    }

    #[test]
    fn a_development_chain_has_one_staked_validator_and_never_another() {
        let (keys, validator) = (keys(1), ValidatorKey::from_seed([9; 32]));
        let genesis = development(&validator, &keys);
        let state = AppState::read(&genesis.app_state_bytes()).expect("without a fault");
        assert_eq!(state.check(genesis.chain_id.as_str()), Vec::<String>::new());
        assert_eq!(state.params.validators_max, 1);
        let [only] = genesis.validators.as_slice() else { panic!("{:?}", genesis.validators) };
        assert_eq!((only.pub_key, only.power), (validator.public_key(), 10_000));
        // Some of its operator's money is left to it.
        let own = state.accounts.iter().find(|own| own.account == AccountId::from(&keys.operator));
        assert!(own.expect("it has an account").balance > OWN_STAKE);
        // Evidence is void before the stake that it would cut is free.
        let evidence_ms = genesis.consensus_params.evidence_max_age_ns / 1_000_000;
        assert!(u64::try_from(evidence_ms).expect("positive") <= state.params.unbonding_ms);
        assert_eq!(genesis.consensus_params.block_max_bytes, -1);
    }

    #[test]
    fn a_parameter_is_changed_by_its_name_and_a_wrong_one_is_refused_with_the_right_ones() {
        #[track_caller]
        fn check(text: &str, expected: Result<fn(&Params) -> bool, &str>) {
            match (text.parse::<ParamChange>(), expected) {
                (Ok(change), Ok(holds)) => {
                    let params = ParamChange::all(&[change], &Params::for_tests());
                    assert!(holds(&params.expect("it can be")), "{text}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        check("validators_max=7", Ok(|params| params.validators_max == 7));
        check("relay_bond_min = 2.5", Ok(|p| p.relay_bond_min == Balance::of(2_500_000_000)));
        check("validators=7", Err("there is no parameter validators; there are account_fees_min"));
        check("validators_max", Err("NAME=VALUE"));
        check("validators_max=-1", Err("a whole number"));
        check("validators_max=4294967296", Err("validators_max=4294967296"));
        check("signed_min_bps=70000", Err("signed_min_bps=70000"));
        check("power_unit=much", Err("write SUT"));
        let none: ParamChange = "validators_max=0".parse().expect("a number");
        let error = ParamChange::all(&[none], &Params::for_tests()).expect_err("nobody could vote");
        assert!(error.to_string().contains("nobody could vote"), "{error}");
    }
}
