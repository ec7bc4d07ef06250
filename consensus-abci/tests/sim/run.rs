//! One run: a chain that somebody uses and something kills, and all that must hold meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use bytes::Bytes;
use chain_types::{Balance, Params, ResultCode, hex, transaction_hash};
use consensus_abci::{
    app::{EntryOutcome, Options},
    engine::{BroadcastError, Engine, MempoolError},
};
use serde_json::Value;
use tendermint_proto::v0_38::abci::ExecTxResult;
use tower::ServiceExt;

use crate::{
    actors::{Actors, junk},
    chance::Chance,
    finding::Finding,
    node::{Death, Fault, Node, OPERATOR, STAKE},
    replica::{Bug, Replica},
    rules::Rules,
    staked::{init, staked_state},
    world::{GENESIS_MS, NAMES, id},
};

/// Blocks after the last new transaction, in which everything that waits must come.
const DRAIN_BLOCKS: u32 = 40;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub seed: u64,
    /// With new transactions.
    pub blocks: u32,
    pub fault: Fault,
    pub bug: Bug,
}

impl Setup {
    /// With nothing wrong.
    pub fn sound(seed: u64, blocks: u32) -> Self {
        Self { seed, blocks, fault: Fault::None, bug: Bug::None }
    }
}

/// What there was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub blocks: u64,
    pub txs: usize,
    /// With code 0.
    pub done: usize,
    pub deaths: u32,
    pub junk: usize,
    /// Units that vouchers were paid.
    pub redeemed: u128,
    /// Height of the snapshot that a replica began with.
    pub joined: Option<u64>,
    /// Hash of the last block: of the whole chain before it, and its states.
    pub last_block: String,
}

/// A run in progress.
struct Run {
    chance: Chance,
    params: Params,
    node: Node,
    actors: Actors,
    rules: Rules,
    replicas: Vec<Replica>,
    /// Waits for a snapshot of a height from here on.
    joins_from: u64,
    interval: u64,
    now_ms: u64,
    /// Height that everybody has seen.
    seen: u64,
    /// Hash of a transaction: where it is.
    included: BTreeMap<[u8; 32], (u64, usize)>,
    committed: Vec<Bytes>,
    junk: BTreeMap<[u8; 32], &'static str>,
    report: Report,
}

/// Runs a seed.
pub fn run(setup: Setup) -> Result<Report, Finding> {
    let mut run = Run::begin(setup)?;
    for _ in 0..setup.blocks {
        run.turn()?;
    }
    run.drain()?;
    run.end()
}

/// Runs a seed, and holds to the rules an answer in which one voucher is paid a unit more.
pub fn with_a_unit_too_much(setup: Setup) -> Result<Report, Finding> {
    let mut run = Run::begin(setup)?;
    for _ in 0..setup.blocks {
        let (mut rules, seen) = (run.rules.clone(), run.seen);
        run.turn()?;
        for height in seen + 1..=run.seen {
            let mut decided = run.node.notebook.open().blocks[&height].clone();
            let paid = |result: &&mut ExecTxResult| result.code == 0 && !result.data.is_empty();
            if let Some(result) = decided.response.tx_results.iter_mut().find(paid) {
                let mut outcomes = EntryOutcome::decode_all(&result.data).expect("a redeem's");
                let paid = outcomes.iter_mut().find(|outcome| !outcome.paid.is_zero());
                let paid = &mut paid.expect("it has code 0").paid;
                *paid = Balance::new(paid.units() + 1).expect("an amount");
                result.data = EntryOutcome::encode_all(&outcomes).into();
            }
            rules.block(height, &decided)?;
        }
    }
    run.end()
}

impl Run {
    fn begin(Setup { seed, fault, bug, .. }: Setup) -> Result<Self, Finding> {
        let mut chance = Chance::of(seed, "run");
        let params = Params {
            close_window_blocks: 4,
            close_window_ms: 3_000,
            notice_blocks: 3,
            terms_grace_blocks: 8,
            ..Params::for_tests()
        };
        let interval = chance.within(4, 12);
        let versions_kept = chance.one_of(&[1, 50, 1_000]);
        let options = Options { snapshot_interval: interval, snapshot_keep: 2, versions_kept };
        let mut node = Node::new(params.clone(), options, fault);
        let deaths = chance.within(0, 3);
        node.start((0..deaths).map(|_| Death::any(&mut chance)).collect::<Vec<_>>())?;

        let quiet = Options { snapshot_interval: 0, snapshot_keep: 1, versions_kept: 1 };
        let state = staked_state(params.clone(), &[(OPERATOR, STAKE, 1_000)]);
        let genesis = init(&state, 1);
        let mut follower = Replica::new("a replica", seed, quiet, false);
        let mut mortal = Replica::new("a mortal replica", seed, Options::default(), true);
        follower.bug = bug;
        follower.init(genesis.clone());
        mortal.init(genesis);

        let names: Vec<_> = NAMES.into_iter().chain([OPERATOR]).map(id).collect();
        let rules = Rules::of(&node.app().snapshot(), &names);
        Ok(Self {
            joins_from: chance.within(10, 40),
            actors: Actors::new(seed, params.clone()),
            chance,
            params,
            node,
            rules,
            replicas: vec![follower, mortal],
            interval,
            now_ms: GENESIS_MS,
            seen: 0,
            included: BTreeMap::new(),
            committed: Vec::new(),
            junk: BTreeMap::new(),
            report: Report::default(),
        })
    }

    /// A block with all that comes before it, or a death.
    fn turn(&mut self) -> Result<(), Finding> {
        self.actors.act(self.seen);
        self.send()?;
        self.send_junk()?;
        let death = self.chance.once_in(8).then(|| Death::any(&mut self.chance));
        let lives = self.block(death)?;
        if lives && self.chance.once_in(20) {
            self.node.kill();
            self.restart()?;
        }
        if lives && self.report.joined.is_none() && self.seen >= self.joins_from {
            self.join()?;
        }
        if self.chance.once_in(3) {
            self.follow()?;
        }
        Ok(())
    }

    fn block(&mut self, death: Option<Death>) -> Result<bool, Finding> {
        self.now_ms += self.chance.within(200, 2_500);
        let lives = self.node.block(self.now_ms, death)?;
        if !lives {
            self.restart()?;
        }
        self.look()?;
        Ok(lives)
    }

    fn restart(&mut self) -> Result<(), Finding> {
        let deaths = self.chance.within(0, 4).saturating_sub(1);
        let deaths: Vec<_> = (0..deaths).map(|_| Death::any(&mut self.chance)).collect();
        self.node.start(deaths)?;
        self.actors.node_died();
        Ok(())
    }

    /// Sends what waits to be sent.
    fn send(&mut self) -> Result<(), Finding> {
        for (account, nonce, bytes) in self.actors.outbox() {
            match self.engine().broadcast_tx_sync(bytes.to_vec()) {
                Ok(outcome) if outcome.code == 0 => self.actors.is_taken(&account, nonce),
                Err(BroadcastError::Mempool(MempoolError::InCache)) => {
                    self.actors.is_taken(&account, nonce);
                }
                // It was in haste, and is replaced at the next block.
                Ok(outcome) if outcome.code == ResultCode::Expired.code() => {}
                Ok(outcome) => return Err(Finding::Refused(outcome.log)),
                Err(error) => return Err(Finding::Refused(error.to_string())),
            }
        }
        Ok(())
    }

    fn send_junk(&mut self) -> Result<(), Finding> {
        for _ in 0..self.chance.within(0, 4) {
            let (what, bytes) = junk(&mut self.chance, &self.committed, &self.params);
            let hash = transaction_hash(&bytes);
            if self.engine().broadcast_tx_sync(bytes.to_vec()).is_ok_and(|out| out.code == 0) {
                return Err(Finding::JunkTaken(what));
            }
            if !self.included.contains_key(&hash) {
                self.junk.insert(hash, what);
            }
            self.report.junk += 1;
        }
        Ok(())
    }

    fn engine(&self) -> &Engine {
        self.node.engine().engine()
    }

    /// Looks at every block that is new.
    fn look(&mut self) -> Result<(), Finding> {
        let height = self.engine().height();
        if height < self.seen {
            return Err(Finding::Forgotten { seen: self.seen, height });
        }
        for height in self.seen + 1..=height {
            let decided = self.node.notebook.open().blocks.get(&height).cloned();
            let decided = decided.ok_or(Finding::OtherBlock { height })?;
            self.rules.block(height, &decided)?;
            for (at, tx) in decided.request.txs.iter().enumerate() {
                let hash = transaction_hash(tx);
                if let Some(what) = self.junk.get(&hash) {
                    return Err(Finding::JunkIncluded { height, what });
                }
                if let Some((first, _)) = self.included.insert(hash, (height, at)) {
                    return Err(Finding::Twice { height, first });
                }
            }
            let results = &decided.response.tx_results;
            self.report.txs += results.len();
            self.report.done += results.iter().filter(|result| result.code == 0).count();
            self.actors.saw(height, &decided.request.txs);
            self.committed.extend(decided.request.txs);
        }
        self.seen = height;
        let snapshot = self.node.app().snapshot();
        self.rules.state(&snapshot)?;
        let audit = snapshot.audit().expect("a sound store");
        match audit.is_balanced() {
            true => Ok(()),
            false => Err(Finding::Books { height, audit: Box::new(audit) }),
        }
    }

    fn join(&mut self) -> Result<(), Finding> {
        let height = self.seen;
        // A node that died since may have made no snapshot of its newest state.
        if !height.is_multiple_of(self.interval) || self.node.app().snapshot().height() != height {
            return Ok(());
        }
        let options = Options { snapshot_interval: 7, snapshot_keep: 1, versions_kept: 5 };
        let mut joiner = Replica::new("a late joiner", self.chance.next(), options, true);
        joiner.join(self.node.app(), height);
        self.replicas.push(joiner);
        self.report.joined = Some(height);
        Ok(())
    }

    /// The replicas come to where the chain is.
    fn follow(&mut self) -> Result<(), Finding> {
        for replica in &mut self.replicas {
            while replica.height < self.seen {
                let decided = self.node.notebook.open().blocks[&(replica.height + 1)].clone();
                replica.follow(&decided)?;
            }
        }
        Ok(())
    }

    /// Nobody wants anything new: all that was taken comes.
    fn drain(&mut self) -> Result<(), Finding> {
        for _ in 0..DRAIN_BLOCKS {
            if self.actors.left().is_none() {
                return Ok(());
            }
            self.send()?;
            self.block(None)?;
        }
        match self.actors.left() {
            None => Ok(()),
            Some((signer, nonce)) => Err(Finding::Lost { signer, nonce }),
        }
    }

    fn end(mut self) -> Result<Report, Finding> {
        self.follow()?;
        self.node.kill();
        self.node.start([])?;
        self.look()?;
        find_all(self.engine(), &self.included)?;
        let hashes: BTreeSet<_> = self.replicas.iter().map(|replica| replica.app_hash()).collect();
        assert_eq!(hashes.len(), 1, "each was held to the same answers");
        let last = self.node.notebook.open().blocks[&self.seen].request.hash.clone();
        Ok(Report {
            blocks: self.seen,
            deaths: self.node.deaths,
            redeemed: self.rules.redeemed,
            last_block: hex::text(&last),
            ..self.report
        })
    }
}

/// The RPC finds each transaction where it was seen.
fn find_all(engine: &Engine, all: &BTreeMap<[u8; 32], (u64, usize)>) -> Result<(), Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let router = engine.rpc_router();
        for (hash, (height, index)) in all {
            let uri = format!("/tx?hash=0x{}", hex::text(hash));
            let request = Request::get(uri).body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("it answers");
            let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            let found = &answer["result"];
            let named = height.to_string();
            if found["height"] != named.as_str() || found["index"] != *index {
                let (height, index, said) = (*height, *index, answer.to_string());
                return Err(Finding::Index { height, index, said });
            }
        }
        Ok(())
    })
}
