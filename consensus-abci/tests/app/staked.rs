//! A chain whose validators are staked: how it begins, what is asked of it, what holds on it always.

use std::collections::BTreeMap;

use borsh::BorshDeserialize;
use bytes::Bytes;
use chain_types::{
    Balance, Params, Payload, ResultCode, SigningKey, StateKey, TransactionBody, hex,
    staking::{Commission, Delegation, Rewards, Validator, consensus_address, possession_preimage},
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    application::Application,
};
use ed25519_dalek::Signer;
use serde_json::Value;
use tendermint_proto::v0_38::abci::{
    Event, Misbehavior, RequestInitChain, RequestQuery, ResponseFinalizeBlock, Validator as Voter,
};

use crate::world::*;

/// Units of one SUT, and of one power.
pub const SUT: u64 = 1_000_000_000;
/// What each first validator's operator stakes.
pub const STAKE: u64 = 100 * SUT;
/// Operators of the first validators, with their commissions in basis points.
pub const FIRSTS: [(&str, u64, u16); 3] =
    [("v1", STAKE, 0), ("v2", 2 * STAKE, 1_000), ("v3", 3 * STAKE, 3_333)];

/// The key that an operator's validator has in the engine.
pub fn engine_key(operator: &str) -> SigningKey {
    key(&format!("{operator}'s engine"))
}

pub fn address(operator: &str) -> [u8; 20] {
    consensus_address(&(&engine_key(operator)).into())
}

pub fn commission(bps: u16) -> Commission {
    Commission { bps, max_bps: 5_000, step_bps: 1_000 }
}

/// `operator` creates its validator.
pub fn create(operator: &str, self_delegation: u64, bps: u16) -> Payload {
    let proof = engine_key(operator).sign(possession_preimage(&id(operator), CHAIN_ID).as_slice());
    Payload::CreateValidator {
        consensus_key: (&engine_key(operator)).into(),
        possession: proof.to_bytes(),
        moniker: operator.to_owned(),
        website: String::new(),
        commission: commission(bps),
        self_delegation: sut(self_delegation),
    }
}

pub fn delegate(validator: &str, amount: u64) -> Payload {
    Payload::Delegate { validator: id(validator), amount: sut(amount) }
}

pub fn undelegate(validator: &str, amount: u64) -> Payload {
    Payload::Undelegate { validator: id(validator), amount: sut(amount) }
}

pub fn redelegate(from: &str, to: &str, amount: u64) -> Payload {
    Payload::Redelegate { from: id(from), to: id(to), amount: sut(amount) }
}

pub fn withdraw(validator: &str) -> Payload {
    Payload::WithdrawRewards { validator: id(validator) }
}

/// A genesis transaction.
pub fn gentx(operator: &str, self_delegation: u64, bps: u16) -> String {
    signed_for_genesis(operator, create(operator, self_delegation, bps), |_| {})
}

pub fn signed_for_genesis(
    operator: &str,
    payload: Payload,
    change: impl FnOnce(&mut TransactionBody),
) -> String {
    let mut body = TransactionBody {
        signer: id(operator),
        fee_payer: None,
        nonce: 0,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload,
    };
    change(&mut body);
    hex::text(&body.sign(&key(operator), CHAIN_ID).encode())
}

/// With everybody of [`NAMES`] and the operators.
pub fn staked_state(params: Params, firsts: &[(&str, u64, u16)]) -> AppState {
    let names = NAMES.iter().copied().chain(firsts.iter().map(|(name, ..)| *name));
    AppState {
        params,
        accounts: names
            .map(|name| GenesisAccount { account: id(name), balance: sut(BEGIN) })
            .collect(),
        gentxs: firsts.iter().map(|(name, stake, bps)| gentx(name, *stake, *bps)).collect(),
        records: Vec::new(),
    }
}

pub fn init(state: &AppState, initial_height: i64) -> RequestInitChain {
    RequestInitChain {
        time: timestamp(GENESIS_MS),
        chain_id: CHAIN_ID.to_owned(),
        app_state_bytes: serde_json::to_vec(state).unwrap().into(),
        initial_height,
        ..RequestInitChain::default()
    }
}

/// Types of events, in their order.
pub fn types(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.r#type.as_str()).filter(|name| *name != "changes").collect()
}

/// Consensus addresses and powers that a block tells the engine, in the order of addresses.
pub fn told(response: &ResponseFinalizeBlock) -> BTreeMap<[u8; 20], u64> {
    response.validator_updates.iter().map(Engine::address_of).collect()
}

impl World {
    /// With the validators of [`FIRSTS`].
    pub fn staked() -> Self {
        Self::staked_with(Params::for_tests(), &FIRSTS)
    }

    pub fn staked_with(params: Params, firsts: &[(&str, u64, u16)]) -> Self {
        Self::begin_staked(init(&staked_state(params, firsts), 1))
    }

    pub fn begin_staked(genesis: RequestInitChain) -> Self {
        Self { law: stake_is_sound, ..Self::begin(genesis) }
    }

    pub fn record<T: BorshDeserialize>(&self, key: StateKey) -> Option<T> {
        let data = Bytes::from(key.to_bytes());
        let request =
            RequestQuery { path: "/store/app/key".to_owned(), data, ..RequestQuery::default() };
        let value = self.app.query(request).unwrap().value;
        (!value.is_empty()).then(|| borsh::from_slice(&value).unwrap())
    }

    pub fn rewards(&self) -> Rewards {
        self.record(StateKey::Rewards).expect("validators are staked")
    }

    pub fn validator(&self, operator: &str) -> Validator {
        self.record(StateKey::Validator(id(operator))).expect("a validator")
    }

    pub fn delegation(&self, delegator: &str, operator: &str) -> Option<Delegation> {
        self.record(StateKey::Delegation(id(delegator), id(operator)))
    }

    /// What a path answers, or why not.
    pub fn answer(&self, path: &str) -> Result<Value, ResultCode> {
        Self::answer_of(&self.app, path)
    }

    pub fn answer_of(app: &App, path: &str) -> Result<Value, ResultCode> {
        let request = RequestQuery { path: path.to_owned(), ..RequestQuery::default() };
        let answer = app.query(request).unwrap();
        match ResultCode::from_code(answer.code) {
            None => Ok(serde_json::from_slice(&answer.value).unwrap()),
            Some(code) => Err(code),
        }
    }

    /// One of `/delegations`.
    #[track_caller]
    pub fn stake_of(&self, delegator: &str, operator: &str) -> Value {
        let all = self.answer(&format!("/delegations/{}", id(delegator))).unwrap();
        let operator = id(operator).to_string();
        let all = all.as_array().unwrap();
        all.iter().find(|one| one["validator"] == operator).expect("a delegation").clone()
    }

    /// Units that `WithdrawRewards` would pay.
    #[track_caller]
    pub fn due(&self, delegator: &str, operator: &str) -> u64 {
        units(&self.stake_of(delegator, operator)["rewards"])
    }

    /// Units that are staked.
    #[track_caller]
    pub fn staked_by(&self, delegator: &str, operator: &str) -> u64 {
        units(&self.stake_of(delegator, operator)["amount"])
    }

    pub fn fee(&self, who: &str, payload: &Payload) -> u64 {
        u64::try_from(self.body(who, payload.clone()).fee.units()).unwrap()
    }

    pub fn power(&self, operator: &str) -> u64 {
        self.validator(operator).power
    }

    /// The engine finds, for the next block, that a validator signed two blocks of `height`.
    pub fn signed_twice(&mut self, operator: &str, height: u64) {
        let power = self.engine.sets[&height][&address(operator)];
        self.engine.found.push(Misbehavior {
            r#type: 1,
            validator: Some(Voter {
                address: address(operator).to_vec().into(),
                power: i64::try_from(power).unwrap(),
            }),
            height: i64::try_from(height).unwrap(),
            time: timestamp(self.time_ms),
            total_voting_power: 0,
        });
    }

    /// Blocks, a step apart, until the next one is at `time_ms` exactly; the last step may be short.
    pub fn next_at(&mut self, time_ms: u64) {
        assert!(self.time_ms < time_ms, "time goes on");
        self.step_ms = time_ms - self.time_ms;
    }
}

#[track_caller]
pub fn units(value: &Value) -> u64 {
    value.as_str().expect("a decimal string").parse().expect("a decimal string")
}

/// Whatever happened: `bonded` is what voting validators have, their power is what the engine was
/// told, shares are whole, and what is owed is there.
#[track_caller]
pub fn stake_is_sound(world: &World) {
    let snapshot = world.app.snapshot();
    let rewards = world.rewards();
    let mut validators = BTreeMap::new();
    for entry in snapshot.records::<Validator>(StateKey::VALIDATORS) {
        let (StateKey::Validator(operator), validator) = entry.unwrap() else { panic!() };
        validators.insert(operator, validator);
    }
    let voting = || validators.values().filter(|validator| validator.power > 0);
    let bonded: u128 = voting().map(|validator| validator.tokens.units()).sum();
    assert_eq!(rewards.bonded.units(), bonded, "bonded is what voters have");
    let powers: BTreeMap<_, _> =
        voting().map(|validator| (validator.consensus_address(), validator.power)).collect();
    assert_eq!(world.engine.sets[&(world.height + 2)], powers, "powers are as told");
    let (mut shares, mut owed) = (BTreeMap::<_, u128>::new(), 0);
    for entry in snapshot.records::<Delegation>(StateKey::DELEGATIONS) {
        let (StateKey::Delegation(_, operator), delegation) = entry.unwrap() else { panic!() };
        *shares.entry(operator).or_default() += delegation.shares;
        let validator = &validators[&operator];
        // What was added to `per_share` when it was settled last; the rest is counted below.
        let since = validator.per_share - delegation.paid;
        owed += wide(delegation.shares, since);
    }
    for (operator, validator) in &validators {
        let all = shares.get(operator).copied().unwrap_or(0);
        assert_eq!(validator.shares, all, "every share is somebody's");
        owed += validator.commission_due.units();
        if validator.power > 0 {
            owed += wide(validator.tokens.units(), rewards.per_token - validator.settled);
        }
        if validator.slashed.is_none() && validator.power > 0 && validator.jailed.is_none() {
            let weight = validator.weight(&world.params());
            assert_eq!(validator.power, weight, "its power is its weight");
        }
    }
    assert!(owed <= rewards.held.units(), "{owed} units are owed, {} are held", rewards.held);
}

/// ⌊a·b / 2⁶⁴⌋ by halves.
pub fn wide(a: u128, b: u128) -> u128 {
    let (high, low) = (b >> 64, b & u128::from(u64::MAX));
    // `a` is below 2^96; split it too, so that no product is above 2^128.
    let (a_high, a_low) = (a >> 64, a & u128::from(u64::MAX));
    a * high + a_high * low + ((a_low * low) >> 64)
}
