//! Chains made from names: whoever is named validates, a name's key is its hash.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use ed25519_consensus::SigningKey;
use light::{LightBlock, LightClient, LightError, Provider, ProviderError, Terms, Trust};
use sha2::{Digest, Sha256};
use tendermint::{
    AppHash, Hash, PublicKey, Signature, Time, account,
    block::{Commit, CommitSig, Header, Height, Id, Round, header::Version, parts},
    validator::{Info, Set},
    vote,
};

pub const CHAIN: &str = "light-test-1";
/// Blocks are a second apart; nothing is measured.
pub const GENESIS_S: i64 = 1_700_000_000;

pub fn time(second: i64) -> Time {
    Time::from_unix_timestamp(GENESIS_S + second, 0).unwrap()
}

pub fn height(height: u64) -> Height {
    Height::try_from(height).unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::from(<[u8; 32]>::from(Sha256::digest(name)))
}

pub fn public(name: &str) -> PublicKey {
    PublicKey::from_raw_ed25519(&key(name).verification_key().to_bytes()).unwrap()
}

/// Names separated by spaces, each with power 10.
pub fn validators(names: &str) -> Vec<Info> {
    names.split_whitespace().map(|name| Info::new(public(name), 10_u32.into())).collect()
}

/// What a chain does from block to block.
#[derive(Clone)]
pub struct Plan {
    pub chain_id: &'static str,
    /// Who validates from a height on.
    pub sets: BTreeMap<u64, &'static str>,
    /// Mixed into each app hash from a height on: two chains with other words are forks.
    pub words: BTreeMap<u64, &'static str>,
    /// Who signs; `None`: all validators.
    pub signers: Option<&'static str>,
}

impl Plan {
    pub fn steady() -> Self {
        Self {
            chain_id: CHAIN,
            sets: BTreeMap::from([(1, "ann bob cid dan")]),
            words: BTreeMap::new(),
            signers: None,
        }
    }

    fn names(&self, height: u64) -> &'static str {
        self.sets.range(..=height).next_back().unwrap().1
    }

    /// The first `count` blocks.
    pub fn blocks(&self, count: u64) -> Vec<LightBlock> {
        let mut blocks: Vec<LightBlock> = Vec::new();
        for number in 1..=count {
            let last = blocks.last().map(|block| block.signed_header.commit.block_id);
            blocks.push(self.block(number, last));
        }
        blocks
    }

    fn block(&self, number: u64, last_block_id: Option<Id>) -> LightBlock {
        let (now, next) = (validators(self.names(number)), validators(self.names(number + 1)));
        let set = Set::without_proposer(now.clone());
        let word = self.words.range(..=number).next_back().map_or("", |(_, word)| word);
        let hash = |text: String| Hash::Sha256(Sha256::digest(text).into());
        let app_hash = Sha256::digest(format!("state {number} {word}")).to_vec();
        let header = Header {
            version: Version { block: 11, app: 1 },
            chain_id: self.chain_id.parse().unwrap(),
            height: height(number),
            time: time(number.cast_signed()),
            last_block_id,
            last_commit_hash: Some(hash(format!("commit {number}"))),
            data_hash: Some(hash(format!("data {number}"))),
            validators_hash: set.hash(),
            next_validators_hash: Set::without_proposer(next.clone()).hash(),
            consensus_hash: hash("params".to_owned()),
            app_hash: AppHash::try_from(app_hash).unwrap(),
            last_results_hash: Some(hash(format!("results {number}"))),
            evidence_hash: Some(hash("evidence".to_owned())),
            proposer_address: set.validators()[0].address,
        };
        let names = self.names(number);
        let commit = sign(&header, names, self.signers.unwrap_or(names));
        light::light_block(header, commit, now, next).unwrap()
    }
}

/// Precommits of `signers`, in the set's order; who does not sign is absent.
pub fn sign(header: &Header, validators: &str, signers: &str) -> Commit {
    let part_set_header = parts::Header::new(1, Hash::Sha256([5; 32])).unwrap();
    let block_id = Id { hash: header.hash(), part_set_header };
    let set = Set::without_proposer(self::validators(validators));
    let signer = |address: account::Id| {
        signers.split_whitespace().find(|name| account::Id::from(public(name)) == address)
    };
    let signature = |info: &Info| {
        let Some(name) = signer(info.address) else { return CommitSig::BlockIdFlagAbsent };
        let timestamp = header.time;
        let vote = vote::Vote {
            vote_type: vote::Type::Precommit,
            height: header.height,
            round: Round::from(0_u8),
            block_id: Some(block_id),
            timestamp: Some(timestamp),
            validator_address: info.address,
            validator_index: 0_u32.try_into().unwrap(),
            signature: None,
            extension: Vec::new(),
            extension_signature: None,
        };
        let bytes = vote.into_signable_vec(header.chain_id.clone());
        let signature = Signature::new(key(name).sign(&bytes).to_bytes()).unwrap();
        CommitSig::BlockIdFlagCommit { validator_address: info.address, timestamp, signature }
    };
    let signatures = set.validators().iter().map(signature).collect();
    Commit { height: header.height, round: Round::from(0_u8), block_id, signatures }
}

/// A node that has these blocks.
pub struct Node {
    name: &'static str,
    pub blocks: Mutex<BTreeMap<u64, LightBlock>>,
    pub is_gone: AtomicBool,
    /// Blocks that it gave.
    pub given: AtomicU32,
}

impl Node {
    pub fn new(name: &'static str, blocks: Vec<LightBlock>) -> Arc<Self> {
        let blocks = blocks.into_iter().map(|block| (block.height().value(), block)).collect();
        let (is_gone, given) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { name, blocks: Mutex::new(blocks), is_gone, given })
    }

    /// Changes one of its blocks.
    pub fn change(&self, number: u64, change: impl FnOnce(&mut LightBlock)) {
        change(self.blocks.lock().unwrap().get_mut(&number).unwrap());
    }

    pub fn cut(&self, newest: u64) {
        self.blocks.lock().unwrap().retain(|number, _| *number <= newest);
    }
}

impl Provider for Node {
    fn name(&self) -> &str {
        self.name
    }

    fn light_block(&self, height: Option<Height>) -> Result<LightBlock, ProviderError> {
        if self.is_gone.load(Ordering::SeqCst) {
            return Err(ProviderError::Unreachable(format!("{} is gone", self.name)));
        }
        let blocks = self.blocks.lock().unwrap();
        let found = match height {
            Some(height) => blocks.get(&height.value()),
            None => blocks.last_key_value().map(|(_, block)| block),
        };
        self.given.fetch_add(1, Ordering::SeqCst);
        found.cloned().ok_or_else(|| ProviderError::Missing(format!("{} has none", self.name)))
    }
}

pub fn terms() -> Terms {
    Terms::new(CHAIN.parse().unwrap())
}

/// Trust in the header of a height, as `plan` made it.
pub fn trust(plan: &Plan, number: u64) -> Trust {
    let block = plan.blocks(number).pop().unwrap();
    Trust::Header { height: height(number), hash: block.signed_header.header.hash() }
}

/// A client that trusts header 1 of `plan`, a second after its newest block.
pub fn client(plan: &Plan, nodes: &[Arc<Node>]) -> Result<LightClient, LightError> {
    LightClient::begin(terms(), providers(nodes), &trust(plan, 1), time(1000))
}

pub fn providers(nodes: &[Arc<Node>]) -> Vec<Arc<dyn Provider>> {
    nodes.iter().map(|node| Arc::clone(node) as Arc<dyn Provider>).collect()
}

/// As long as [`Terms::period`].
pub const FORTNIGHT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
