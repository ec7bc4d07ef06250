//! Random stake beside a slow, obvious model: every delegation has a purse of its own, every reward
//! is shared out in every block, every deadline is a date in a list.

use std::collections::{BTreeMap, VecDeque};

use chain_types::{AccountId, Params, Payload, ResultCode};
use consensus_abci::{app::App, application::Application};
use ethnum::U256;
use proptest::prelude::*;
use tendermint_proto::v0_38::abci::Event;

use crate::{staked::*, world::*};

/// The first three are validators from the beginning; the others may become some.
const OPERATORS: [&str; 5] = ["v1", "v2", "v3", "other", "relay"];
const PEOPLE: [&str; 8] = ["viewer", "creator", "origin", "other", "relay", "v1", "v2", "v3"];
const PLACES: usize = 4;
const WINDOW: u64 = 20;
/// Roundings of one payment, at most: one for each time that its validator was touched.
const ROUNDINGS: u64 = 100;

#[derive(Debug, Clone)]
enum Step {
    Create(usize, u64, u16),
    Delegate(usize, usize, u64),
    /// So many thousandths of what is there.
    Undelegate(usize, usize, u64),
    Redelegate(usize, usize, usize, u64),
    Withdraw(usize, usize),
    Unjail(usize),
    /// A transaction that pays much more than it must.
    Fee(usize, u64),
    /// Signed twice, so many blocks ago.
    Twice(usize, u64),
    /// Is away from now on, or is back.
    Away(usize),
    Blocks(u64),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let person = || 0..PEOPLE.len();
    let operator = || 0..OPERATORS.len();
    let part = || prop_oneof![2 => 1u64..1000, 1 => Just(1000u64)];
    prop_oneof![
        2 => (3usize..5, 1u64..200, 0u16..5_000).prop_map(|(o, s, c)| Step::Create(o, s * SUT, c)),
        8 => (person(), operator(), SUT..80 * SUT).prop_map(|(p, o, a)| Step::Delegate(p, o, a)),
        6 => (person(), operator(), part()).prop_map(|(p, o, a)| Step::Undelegate(p, o, a)),
        6 => (person(), operator(), operator(), part())
            .prop_map(|(p, a, b, part)| Step::Redelegate(p, a, b, part)),
        5 => (person(), operator()).prop_map(|(p, o)| Step::Withdraw(p, o)),
        3 => operator().prop_map(Step::Unjail),
        4 => (person(), 0u64..50_000_000).prop_map(|(p, f)| Step::Fee(p, f)),
        1 => (operator(), 1u64..8).prop_map(|(o, back)| Step::Twice(o, back)),
        2 => operator().prop_map(Step::Away),
        2 => (1u64..14).prop_map(Step::Blocks),
        3 => (1u64..12_000).prop_map(Step::Time),
    ]
}

/// Units of 2⁻⁶⁴.
fn fine(units: u128) -> U256 {
    U256::from(units) << 64
}

fn whole(fine: U256) -> u128 {
    let units: U256 = fine >> 64;
    units.as_u128()
}

#[derive(Debug, Clone, Copy)]
struct Known {
    infraction: u64,
    height: u64,
    time_ms: u64,
}

#[derive(Debug, Default)]
struct Vault {
    tokens: u128,
    power: u64,
    bps: u16,
    commission: U256,
    jailed_until: Option<u64>,
    slashed: Option<Known>,
    /// Heights whose votes count from then on, and those that were missed.
    watched: Option<(u64, VecDeque<u64>)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Purse {
    amount: U256,
    due: U256,
}

#[derive(Debug)]
struct Gone {
    who: usize,
    from: usize,
    height: u64,
    complete_ms: u64,
    amount: u128,
    is_staked_elsewhere: bool,
}

#[derive(Debug)]
struct Came {
    who: usize,
    from: usize,
    to: usize,
    height: u64,
    complete_ms: u64,
    amount: U256,
}

impl Known {
    fn cuts(&self, height: u64, complete_ms: u64) -> bool {
        height + 1 >= self.infraction && height < self.height && self.time_ms < complete_ms
    }
}

#[derive(Default)]
struct Model {
    vaults: BTreeMap<usize, Vault>,
    /// By person and operator.
    purses: BTreeMap<(usize, usize), Purse>,
    gone: Vec<Gone>,
    came: Vec<Came>,
    balances: BTreeMap<usize, u128>,
    burned: u128,
    fees: u128,
}

fn person_of(operator: usize) -> usize {
    PEOPLE.iter().position(|name| *name == OPERATORS[operator]).expect("operators are people")
}

/// Numbers that events of a type say, in their order.
fn said(events: &[Event], kind: &str, name: &str) -> Vec<u128> {
    let of_kind = events.iter().filter(|event| event.r#type == kind);
    of_kind
        .map(|event| {
            let found = event.attributes.iter().find(|attribute| attribute.key == name);
            found.expect("the attribute").value.parse().expect("a number")
        })
        .collect()
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        for person in 0..PEOPLE.len() {
            model.balances.insert(person, u128::from(BEGIN));
        }
        for (operator, (_, stake, bps)) in FIRSTS.into_iter().enumerate() {
            model.create(operator, stake.into(), bps);
        }
        model.choose(0);
        for vault in model.vaults.values_mut() {
            vault.watched = Some((1, VecDeque::new()));
        }
        model
    }

    fn pay(&mut self, person: usize, units: u128) {
        let balance = self.balances.get_mut(&person).expect("everybody has an account");
        *balance = balance.checked_sub(units).expect("nobody pays what it has not");
    }

    fn get(&mut self, person: usize, units: u128) {
        *self.balances.get_mut(&person).expect("everybody has an account") += units;
    }

    fn create(&mut self, operator: usize, stake: u128, bps: u16) {
        self.pay(person_of(operator), stake);
        let vault = Vault { tokens: stake, bps, ..Vault::default() };
        assert!(self.vaults.insert(operator, vault).is_none());
        let purse = Purse { amount: fine(stake), due: U256::ZERO };
        self.purses.insert((person_of(operator), operator), purse);
    }

    /// Rewards are paid, and what came from elsewhere is cut or safe, as the events say.
    fn touch(&mut self, who: usize, operator: usize, events: &[Event], now_ms: u64) {
        let purse = self.purses.entry((who, operator)).or_default();
        let is_operator = person_of(operator) == who;
        let due = std::mem::take(&mut purse.due);
        let vault = self.vaults.get_mut(&operator).expect("it exists");
        let commission = match is_operator {
            true => std::mem::take(&mut vault.commission),
            false => U256::ZERO,
        };
        let mine = |event: &&Event| {
            let is = |name: &str, value: &str| {
                event.attributes.iter().any(|one| one.key == name && one.value == value)
            };
            event.r#type == "rewards_paid" && is("validator", &id(OPERATORS[operator]).to_string())
        };
        let paid: Vec<Event> = events.iter().filter(mine).cloned().collect();
        // A commission is rounded down whenever its validator is touched: what it lacks is shared.
        for (name, owed, more) in [("amount", due, ROUNDINGS), ("commission", commission, 1)] {
            let paid: u128 = said(&paid, "rewards_paid", name).iter().sum();
            let most = owed + fine(more.into());
            assert!(fine(paid) <= most, "{name}: {paid} units of {}", whole(owed));
            let least = owed.saturating_sub(fine(ROUNDINGS.into()));
            assert!(fine(paid) >= least, "{name}: {paid} units of {}", whole(owed));
            self.get(who, paid);
        }
        let mut cut = U256::ZERO;
        let vaults = &self.vaults;
        self.came.retain(|came| {
            if (came.who, came.to) != (who, operator) {
                return true;
            }
            let slash = vaults[&came.from].slashed;
            if slash.is_some_and(|slash| slash.cuts(came.height, came.complete_ms)) {
                cut += came.amount / U256::from(20u32);
                return false;
            }
            came.complete_ms > now_ms
        });
        let name = id(OPERATORS[operator]).to_string();
        let of_this = |event: &&Event| event.attributes.iter().any(|one| one.value == name);
        let cuts: Vec<Event> = events.iter().filter(of_this).cloned().collect();
        let taken: u128 = said(&cuts, "validator_slashed", "amount").iter().sum();
        let near = fine(taken).abs_diff(cut);
        assert!(near < fine(20), "{taken} units are cut of what came, not {}", whole(cut));
        let purse = self.purses.get_mut(&(who, operator)).expect("touched above");
        purse.amount -= cut.min(purse.amount);
        let is_low = is_operator && cut > U256::ZERO && purse.amount < fine(SUT.into());
        let vault = self.vaults.get_mut(&operator).expect("it exists");
        vault.tokens -= taken;
        if is_low && vault.jailed_until.is_none() {
            vault.jailed_until = Some(now_ms);
        }
        self.burned += taken;
    }

    fn leave(&mut self, who: usize, from: usize, amount: u128, at: (u64, u64), to: Option<usize>) {
        let (height, now_ms) = at;
        let is_own = person_of(from) == who;
        let purse = self.purses.get_mut(&(who, from)).expect("a delegation");
        assert!(fine(amount) <= purse.amount + fine(2), "no more than it has");
        purse.amount = purse.amount.saturating_sub(fine(amount));
        // Less than a unit is nothing.
        let left = match purse.amount < fine(2) {
            true => U256::ZERO,
            false => purse.amount,
        };
        purse.amount = left;
        assert!(left == U256::ZERO || left + fine(2) >= fine(SUT.into()));
        let held = self.came.iter().filter(|came| (came.who, came.to) == (who, from));
        let held: U256 = held.fold(U256::ZERO, |sum, came| sum + came.amount);
        assert!(left + fine(20) >= held, "what came lately stays");
        let vault = self.vaults.get_mut(&from).expect("it exists");
        vault.tokens -= amount;
        if is_own && left < fine(SUT.into()) && vault.jailed_until.is_none() {
            vault.jailed_until = Some(now_ms);
        }
        self.gone.push(Gone {
            who,
            from,
            height,
            complete_ms: now_ms + 20_000,
            amount,
            is_staked_elsewhere: to.is_some(),
        });
    }

    fn add(&mut self, who: usize, operator: usize, amount: u128) {
        self.vaults.get_mut(&operator).expect("it exists").tokens += amount;
        self.purses.entry((who, operator)).or_default().amount += fine(amount);
    }

    /// What a withdrawal brings of what left.
    fn claim(&mut self, who: usize, operator: usize, now_ms: u64) -> (u128, u128) {
        let slash = self.vaults[&operator].slashed;
        let (mut amount, mut burned) = (0, 0);
        self.gone.retain(|gone| {
            let is_due = (gone.who, gone.from) == (who, operator) && gone.complete_ms <= now_ms;
            if is_due && !gone.is_staked_elsewhere {
                amount += gone.amount;
                if slash.is_some_and(|slash| slash.cuts(gone.height, gone.complete_ms)) {
                    burned += gone.amount / 20;
                }
            }
            !is_due
        });
        self.burned += burned;
        self.get(who, amount - burned);
        (amount, burned)
    }

    /// The cut of what is still there.
    fn slash(&mut self, operator: usize, power: u64, known: Known) -> Option<u128> {
        let vault = self.vaults.get_mut(&operator).expect("it exists");
        if vault.slashed.is_some() {
            return None;
        }
        let gone = self.gone.iter().filter(|gone| gone.from == operator);
        let elsewhere: u128 = gone
            .filter(|gone| known.cuts(gone.height, gone.complete_ms))
            .map(|gone| gone.amount / 20)
            .sum();
        let all = u128::from(power) * u128::from(SUT) / 20;
        let here = all.saturating_sub(elsewhere).min(vault.tokens);
        let (before, after) = (U256::from(vault.tokens), U256::from(vault.tokens - here));
        vault.tokens -= here;
        vault.slashed = Some(known);
        vault.jailed_until = Some(u64::MAX);
        self.burned += here;
        if before > U256::ZERO {
            let purses = self.purses.iter_mut().filter(|((_, of), _)| *of == operator);
            purses.for_each(|(_, purse)| purse.amount = purse.amount * after / before);
            let came = self.came.iter_mut().filter(|came| came.to == operator);
            came.for_each(|came| came.amount = came.amount * after / before);
        }
        Some(here)
    }

    /// Votes for the block before `height`; who is jailed for them.
    fn votes(&mut self, height: u64, absent: &dyn Fn(usize) -> Option<bool>, now_ms: u64) -> usize {
        let mut jailed = 0;
        for (operator, vault) in &mut self.vaults {
            let Some((from, missed)) = &mut vault.watched else { continue };
            let Some(is_absent) = absent(*operator) else { continue };
            let voted = height - 1;
            if *from > voted {
                continue;
            }
            missed.retain(|height| height + WINDOW > voted);
            if is_absent {
                missed.push_back(voted);
                if missed.len() > 10 {
                    vault.watched = None;
                    vault.jailed_until = Some(now_ms + 5_000);
                    jailed += 1;
                }
            }
        }
        jailed
    }

    /// The block's fees, by tokens that vote.
    fn share(&mut self) {
        let bonded: u128 =
            self.vaults.values().filter(|vault| vault.power > 0).map(|vault| vault.tokens).sum();
        if bonded == 0 {
            return;
        }
        let fees = std::mem::take(&mut self.fees);
        for (operator, vault) in self.vaults.iter_mut().filter(|(_, vault)| vault.power > 0) {
            if vault.tokens == 0 {
                continue;
            }
            let all = fine(fees) * U256::from(vault.tokens) / U256::from(bonded);
            let commission = all * U256::from(vault.bps) / U256::from(10_000u32);
            vault.commission += commission;
            let of_this = self.purses.iter_mut().filter(|((_, of), _)| of == operator);
            for (_, purse) in of_this {
                // Amounts are in units of 2⁻⁶⁴: divided first by what would not fit.
                let part = (all - commission) / U256::from(vault.tokens);
                purse.due += part * whole(purse.amount);
            }
        }
    }

    /// Who votes with what from now on.
    fn choose(&mut self, height: u64) {
        let mut able: Vec<(u128, AccountId, usize)> = self
            .vaults
            .iter()
            .filter(|(_, vault)| vault.jailed_until.is_none() && vault.slashed.is_none())
            .filter(|(_, vault)| vault.tokens >= u128::from(SUT))
            .map(|(operator, vault)| (vault.tokens, id(OPERATORS[*operator]), *operator))
            .collect();
        if able.is_empty() {
            return;
        }
        able.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        able.truncate(PLACES);
        for (operator, vault) in &mut self.vaults {
            let is_in = able.iter().any(|(.., chosen)| chosen == operator);
            let power = if is_in { (vault.tokens / u128::from(SUT)) as u64 } else { 0 };
            match (vault.power > 0, power > 0) {
                (false, true) => vault.watched = Some((height + 2, VecDeque::new())),
                (true, false) => vault.watched = None,
                _ => {}
            }
            vault.power = power;
        }
    }
}

/// A world and its model.
struct Both {
    world: World,
    model: Model,
    hashes: Vec<bytes::Bytes>,
}

impl Both {
    fn new() -> Self {
        let params = Params { validators_max: PLACES as u32, ..Params::for_tests() };
        let world = World::staked_with(params, &FIRSTS);
        Self { world, model: Model::new(), hashes: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let tx = match *step {
            Step::Create(operator, stake, bps) => {
                Some((person_of(operator), create(OPERATORS[operator], stake, bps)))
            }
            Step::Delegate(who, to, amount) => Some((who, delegate(OPERATORS[to], amount))),
            Step::Undelegate(who, from, part) => {
                let amount = self.part(who, from, part);
                Some((who, undelegate(OPERATORS[from], amount)))
            }
            Step::Redelegate(who, from, to, part) => {
                let amount = self.part(who, from, part);
                Some((who, redelegate(OPERATORS[from], OPERATORS[to], amount)))
            }
            Step::Withdraw(who, from) => Some((who, withdraw(OPERATORS[from]))),
            Step::Unjail(operator) => Some((person_of(operator), Payload::Unjail)),
            Step::Fee(who, _) => {
                Some((who, Payload::Transfer { to: id("submitter"), amount: sut(0) }))
            }
            Step::Twice(operator, back) => {
                let height = self.world.height.saturating_sub(back).max(1);
                let set = &self.world.engine.sets[&height];
                if set.contains_key(&address(OPERATORS[operator])) {
                    self.world.signed_twice(OPERATORS[operator], height);
                }
                None
            }
            Step::Away(operator) => {
                let address = address(OPERATORS[operator]);
                if !self.world.engine.absent.remove(&address) {
                    self.world.engine.absent.insert(address);
                }
                None
            }
            Step::Blocks(blocks) => {
                (1..blocks).for_each(|_| self.block(None, 0));
                None
            }
            Step::Time(ms) => {
                self.world.step_ms = ms;
                None
            }
        };
        let more = if let Step::Fee(_, more) = step { *more } else { 0 };
        self.block(tx, more);
        self.world.step_ms = 1000;
    }

    /// So many thousandths of what the chain says is there; of nothing, a unit.
    fn part(&self, who: usize, operator: usize, part: u64) -> u64 {
        let all = self.world.answer(&format!("/delegations/{}", id(PEOPLE[who]))).unwrap();
        let name = id(OPERATORS[operator]).to_string();
        let found = all.as_array().unwrap().iter().find(|one| one["validator"] == name);
        found.map_or(1, |one| units(&one["amount"]) * part / 1000)
    }

    fn block(&mut self, tx: Option<(usize, Payload)>, more_fee: u64) {
        let Self { world, model, .. } = self;
        let (height, now_ms) = (world.height + 1, world.time_ms + world.step_ms);
        // What the engine brings comes first.
        let mut slashes = Vec::new();
        for found in world.engine.found.clone() {
            let validator = found.validator.unwrap();
            let is = |name: &&str| address(name)[..] == validator.address[..];
            let operator = OPERATORS.iter().position(is).unwrap();
            let infraction = u64::try_from(found.height).unwrap();
            let known = Known { infraction, height, time_ms: now_ms };
            let power = u64::try_from(validator.power).unwrap();
            slashes.extend(model.slash(operator, power, known));
        }
        let empty = BTreeMap::new();
        let voters = world.engine.sets.get(&(height - 1)).unwrap_or(&empty).clone();
        let absent = world.engine.absent.clone();
        let vote = |operator: usize| {
            let address = address(OPERATORS[operator]);
            voters.contains_key(&address).then(|| absent.contains(&address))
        };
        let jailed = model.votes(height, &vote, now_ms);
        let txs = tx.iter().map(|(who, payload)| {
            let mut body = world.body(PEOPLE[*who], payload.clone());
            body.fee = body.fee.checked_add(sut(more_fee)).unwrap();
            let fee = body.fee.units();
            (body.sign(&key(PEOPLE[*who]), CHAIN_ID).encode().into(), fee)
        });
        let (txs, fees): (Vec<bytes::Bytes>, Vec<u128>) = txs.unzip();
        let response = world.block(txs);
        self.hashes.push(response.app_hash.clone());
        assert_eq!(said(&response.events, "validator_slashed", "amount"), slashes);
        let missed = said(&response.events, "validator_jailed", "missed");
        assert_eq!(missed, vec![11; jailed]);
        if let Some((who, payload)) = &tx {
            let (fee, result) = (fees[0], &response.tx_results[0]);
            model.pay(*who, fee);
            model.burned += fee.div_ceil(2);
            model.fees += fee / 2;
            let code = ResultCode::from_code(result.code);
            apply(model, *who, payload, code, &result.events, (height, now_ms));
        }
        model.share();
        model.choose(height);
        self.compare();
    }

    fn compare(&self) {
        let Self { world, model, .. } = self;
        let powers = model.vaults.iter().filter(|(_, vault)| vault.power > 0);
        let powers: BTreeMap<_, _> =
            powers.map(|(operator, vault)| (address(OPERATORS[*operator]), vault.power)).collect();
        assert_eq!(world.engine.sets[&(world.height + 2)], powers);
        for (operator, vault) in &model.vaults {
            let record = world.validator(OPERATORS[*operator]);
            assert_eq!(record.tokens.units(), vault.tokens);
            assert_eq!(record.jailed.is_some(), vault.jailed_until.is_some());
            assert_eq!(record.slashed.is_some(), vault.slashed.is_some());
        }
        for (person, balance) in &model.balances {
            assert_eq!(world.account(PEOPLE[*person]).balance.units(), *balance);
        }
        let supply = world.app.snapshot().supply().unwrap();
        assert_eq!(supply.burned.units(), model.burned);
        let leaving: u128 = model
            .gone
            .iter()
            .filter(|gone| !gone.is_staked_elsewhere)
            .map(|gone| gone.amount)
            .sum();
        assert_eq!(world.app.snapshot().audit().unwrap().leaving.units(), leaving);
    }
}

fn operator_of(account: &AccountId) -> usize {
    OPERATORS.iter().position(|name| id(name) == *account).expect("an operator")
}

/// Does to the model what was done, and holds a refusal to the rules.
fn apply(
    model: &mut Model,
    who: usize,
    payload: &Payload,
    code: Option<ResultCode>,
    events: &[Event],
    at: (u64, u64),
) {
    let (_, now_ms) = at;
    let is_done = code.is_none();
    let can_take = |model: &Model, operator: usize| {
        model.vaults.get(&operator).is_some_and(|vault| vault.slashed.is_none())
    };
    match payload {
        Payload::CreateValidator { self_delegation, commission, .. } => {
            let operator = operator_of(&id(PEOPLE[who]));
            let stake = self_delegation.units();
            let is_right = !model.vaults.contains_key(&operator) && stake <= model.balances[&who];
            assert_eq!(is_done, is_right, "{code:?}");
            if is_done {
                model.create(operator, stake, commission.bps);
            }
        }
        Payload::Delegate { validator, amount } => {
            let operator = operator_of(validator);
            if is_done {
                assert!(can_take(model, operator));
                model.touch(who, operator, events, now_ms);
                model.pay(who, amount.units());
                model.add(who, operator, amount.units());
            } else {
                let is_poor = model.balances[&who] < amount.units();
                assert!(is_poor || !can_take(model, operator), "{code:?}");
            }
        }
        Payload::Undelegate { validator, amount } if is_done => {
            let operator = operator_of(validator);
            let left = said(events, "stake_unbonding", "amount")[0];
            assert!(left.abs_diff(amount.units()) <= 1);
            assert_eq!(
                said(events, "stake_unbonding", "complete_ms"),
                [u128::from(now_ms) + 20_000]
            );
            model.touch(who, operator, events, now_ms);
            model.leave(who, operator, left, at, None);
        }
        Payload::Redelegate { from, to, amount } if is_done => {
            let (from, to) = (operator_of(from), operator_of(to));
            assert!(can_take(model, to) && from != to);
            let moved = said(events, "stake_moved", "amount")[0];
            assert!(moved.abs_diff(amount.units()) <= 1);
            model.touch(who, from, events, now_ms);
            model.leave(who, from, moved, at, Some(to));
            model.touch(who, to, events, now_ms);
            model.add(who, to, moved);
            let (height, complete_ms, amount) = (at.0, now_ms + 20_000, fine(moved));
            model.came.push(Came { who, from, to, height, complete_ms, amount });
        }
        Payload::WithdrawRewards { validator } => {
            let operator = operator_of(validator);
            let has_left = model.gone.iter().any(|gone| (gone.who, gone.from) == (who, operator));
            let purse = model.purses.get(&(who, operator));
            let has_stake = purse.is_some_and(|purse| purse.amount > U256::ZERO);
            let is_operator = person_of(operator) == who && model.vaults.contains_key(&operator);
            assert_eq!(is_done, has_left || has_stake || is_operator, "{code:?}");
            if is_done {
                model.touch(who, operator, events, now_ms);
                let (amount, burned) = model.claim(who, operator, now_ms);
                let sum = |name| said(events, "stake_complete", name).iter().sum::<u128>();
                assert_eq!(
                    (sum("amount"), sum("burned")),
                    (amount, burned),
                    "to the unit, in time"
                );
            }
        }
        Payload::Unjail => {
            let operator = operator_of(&id(PEOPLE[who]));
            let own = model.purses.get(&(who, operator)).map_or(U256::ZERO, |purse| purse.amount);
            let is_right = model.vaults.get(&operator).is_some_and(|vault| {
                let is_over = vault.jailed_until.is_some_and(|until| until <= now_ms);
                is_over && vault.slashed.is_none() && own >= fine(SUT.into())
            });
            assert_eq!(is_done, is_right, "{code:?}");
            if is_done {
                let vault = model.vaults.get_mut(&operator).expect("it was jailed");
                vault.jailed_until = None;
                if vault.power > 0 && vault.watched.is_none() {
                    vault.watched = Some((at.0, VecDeque::new()));
                }
            }
        }
        Payload::Transfer { .. } => assert!(is_done, "{code:?}"),
        _ => assert!(!is_done, "{payload:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    })]

    /// R2, R3: in every block supply is conserved, power is bonded stake as the engine was told,
    /// everybody has what the rules give, nothing is paid early; and the same blocks give another
    /// application the same hashes.
    #[test]
    fn stake_does_what_the_naive_model_does(steps in prop::collection::vec(step(), 30..60)) {
        let mut both = Both::new();
        for step in &steps {
            both.step(step);
        }
        let dir = Dir::in_memory();
        let other = App::open(dir.path()).unwrap();
        let params = both.world.params();
        other.init_chain(init(&staked_state(params, &FIRSTS), 1)).unwrap();
        for (block, hash) in both.world.blocks.iter().zip(&both.hashes) {
            let response = other.finalize_block(block.clone()).unwrap();
            prop_assert_eq!(&response.app_hash, hash);
            other.commit().unwrap();
        }
    }
}
