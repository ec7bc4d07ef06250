//! A chain in a directory of its own, driven block by block; names stand for keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use chain_types::{
    Account, AccountId, Balance, Channel, ChannelId, LaneKey, Params, Payload, Policy, Price,
    RelayFacts, ReserveRequest, ResultCode, SignedVoucher, SigningKey, SplitShares, StateKey,
    StreamId, StreamMetadata, Transaction, TransactionBody, VOUCHER_SIGNED_BYTES, Voucher,
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount, StateSnapshot},
    application::Application,
};
use sha2::{Digest, Sha256};
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::{
        abci::{
            CommitInfo, ExecTxResult, Misbehavior, RequestFinalizeBlock, RequestInitChain,
            ResponseFinalizeBlock, Validator as Voter, ValidatorUpdate, VoteInfo,
        },
        crypto::public_key::Sum,
        types::BlockIdFlag,
    },
};

pub const CHAIN_ID: &str = "sutantra-test-1";
/// Block time of the genesis state, unix ms.
pub const GENESIS_MS: u64 = 1_700_000_000_000;
/// What each named account begins with.
pub const BEGIN: u64 = 1_000_000_000_000;
/// Accounts of the genesis state.
pub const NAMES: [&str; 6] = ["creator", "viewer", "relay", "origin", "other", "submitter"];

/// A directory that is gone when the test is.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("sutantra-app-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a sound chain");
        Self(dir)
    }

    /// Where the system has one: no test of rules waits for a disk.
    pub fn in_memory() -> Self {
        let mut dir = Self::new();
        let memory = Path::new("/dev/shm");
        if let (true, Some(name)) = (memory.is_dir(), dir.0.file_name()) {
            let moved = memory.join(name);
            let _ = std::fs::remove_dir_all(&moved);
            if std::fs::create_dir_all(&moved).is_ok() {
                dir = Self(moved);
            }
        }
        dir
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(name).into())
}

pub fn id(name: &str) -> AccountId {
    AccountId::from(&key(name))
}

pub fn sut(units: u64) -> Balance {
    Balance::of(units)
}

pub fn timestamp(ms: u64) -> Option<Timestamp> {
    let seconds = i64::try_from(ms / 1000).expect("a sound chain");
    Some(Timestamp { seconds, nanos: i32::try_from(ms % 1000).expect("a sound chain") * 1_000_000 })
}

pub fn genesis(params: Params) -> RequestInitChain {
    let account = |name: &&str| GenesisAccount { account: id(name), balance: sut(BEGIN) };
    let state =
        AppState { params, accounts: NAMES.iter().map(account).collect(), ..AppState::default() };
    RequestInitChain {
        time: timestamp(GENESIS_MS),
        chain_id: CHAIN_ID.to_owned(),
        app_state_bytes: serde_json::to_vec(&state).expect("a sound chain").into(),
        initial_height: 1,
        ..RequestInitChain::default()
    }
}

/// Everything in the state, key by key.
pub fn content(snapshot: &StateSnapshot) -> BTreeMap<Vec<u8>, Vec<u8>> {
    snapshot.iterate(b"").collect::<Result<_, _>>().expect("a sound chain")
}

/// The engine as far as the application sees it: who votes, as it was told, and what it found.
#[derive(Default)]
pub struct Engine {
    /// Power by consensus address, of each height that has one.
    pub sets: BTreeMap<u64, BTreeMap<[u8; 20], u64>>,
    /// Who signs nothing.
    pub absent: BTreeSet<[u8; 20]>,
    /// For the next block.
    pub found: Vec<Misbehavior>,
}

impl Engine {
    /// Consensus address of a key that the application named, and its power.
    pub fn address_of(update: &ValidatorUpdate) -> ([u8; 20], u64) {
        let key = update.pub_key.as_ref().and_then(|key| key.sum.as_ref());
        let Some(Sum::Ed25519(key)) = key else { panic!("{update:?}") };
        let key = AccountId(key.as_slice().try_into().expect("32 bytes"));
        let power = u64::try_from(update.power).expect("no power is negative");
        (chain_types::staking::consensus_address(&key), power)
    }

    /// Takes what a block said; refuses what CometBFT refuses.
    #[track_caller]
    fn take(&mut self, height: u64, updates: &[ValidatorUpdate]) {
        let Some(next) = self.sets.get(&(height + 1)) else { return };
        let mut next = next.clone();
        let mut seen = BTreeSet::new();
        for update in updates {
            let (address, power) = Self::address_of(update);
            assert!(seen.insert(address), "named twice");
            assert_ne!(
                next.get(&address).copied().unwrap_or(0),
                power,
                "only what changed is told"
            );
            match power {
                0 => next.remove(&address),
                _ => next.insert(address, power),
            };
        }
        assert!(!next.is_empty(), "somebody votes");
        self.sets.insert(height + 2, next);
    }

    fn last_commit(&self, height: u64) -> CommitInfo {
        let empty = BTreeMap::new();
        let set = self.sets.get(&(height - 1)).unwrap_or(&empty);
        let vote = |(address, power): (&[u8; 20], &u64)| VoteInfo {
            validator: Some(Voter {
                address: address.to_vec().into(),
                power: i64::try_from(*power).expect("below 2^60"),
            }),
            block_id_flag: match self.absent.contains(address) {
                true => BlockIdFlag::Absent.into(),
                false => BlockIdFlag::Commit.into(),
            },
        };
        CommitInfo { round: 0, votes: set.iter().map(vote).collect() }
    }
}

pub struct World {
    pub app: App,
    pub dir: Dir,
    pub height: u64,
    pub time_ms: u64,
    /// Between two blocks.
    pub step_ms: u64,
    /// Every block so far, to be replayed elsewhere.
    pub blocks: Vec<RequestFinalizeBlock>,
    /// Empty where the engine's genesis names the validators.
    pub engine: Engine,
    /// What must be so after every block.
    pub law: fn(&World),
}

impl World {
    pub fn new() -> Self {
        Self::with(Params::for_tests())
    }

    pub fn with(params: Params) -> Self {
        Self::begin(genesis(params))
    }

    pub fn begin(genesis: RequestInitChain) -> Self {
        let dir = Dir::in_memory();
        let app = App::open(dir.path()).expect("a sound chain");
        let height = u64::try_from(genesis.initial_height).expect("a sound chain") - 1;
        let voters = app.init_chain(genesis).expect("a sound chain").validators;
        let mut engine = Engine::default();
        if !voters.is_empty() {
            let set: BTreeMap<_, _> = voters.iter().map(Engine::address_of).collect();
            engine.sets.insert(height + 2, set.clone());
            engine.sets.insert(height + 1, set);
        }
        Self {
            app,
            dir,
            height,
            time_ms: GENESIS_MS,
            step_ms: 1000,
            blocks: Vec::new(),
            engine,
            law: |_| {},
        }
    }

    pub fn params(&self) -> Params {
        self.app.snapshot().params().expect("a sound chain")
    }

    pub fn account(&self, name: &str) -> Account {
        self.app.snapshot().account(&id(name)).expect("a sound chain").unwrap_or_default()
    }

    pub fn balance(&self, name: &str) -> u64 {
        u64::try_from(self.account(name).balance.units()).expect("a sound chain")
    }

    pub fn stream(&self, stream: &StreamId) -> StreamMetadata {
        self.app.snapshot().stream(stream).expect("a sound chain").expect("a sound chain")
    }

    pub fn channel(&self, channel: &ChannelId) -> Channel {
        self.app.snapshot().channel(channel).expect("a sound chain").expect("a sound chain")
    }

    /// A body with the next nonce and the least fee.
    pub fn body(&self, who: &str, payload: Payload) -> TransactionBody {
        let mut body = TransactionBody {
            signer: id(who),
            fee_payer: None,
            nonce: self.account(who).nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload,
        };
        body.fee = self.params().fee_min(&body.payload, body.signed_len_bytes());
        body
    }

    pub fn sign(&self, who: &str, payload: Payload) -> Bytes {
        self.body(who, payload).sign(&key(who), CHAIN_ID).encode().into()
    }

    pub fn request(&self, txs: Vec<Bytes>) -> RequestFinalizeBlock {
        RequestFinalizeBlock {
            txs,
            height: i64::try_from(self.height + 1).expect("a sound chain"),
            time: timestamp(self.time_ms + self.step_ms),
            decided_last_commit: Some(self.engine.last_commit(self.height + 1)),
            misbehavior: self.engine.found.clone(),
            ..RequestFinalizeBlock::default()
        }
    }

    /// Finalizes and commits a block a step after the last one; the books balance.
    #[track_caller]
    pub fn block(&mut self, txs: Vec<Bytes>) -> ResponseFinalizeBlock {
        let response = self.quiet_block(txs);
        let audit = self.app.snapshot().audit().expect("a sound chain");
        assert!(audit.is_balanced(), "{audit:?}");
        (self.law)(self);
        response
    }

    /// As [`World::block`], and nothing is counted after it.
    #[track_caller]
    pub fn quiet_block(&mut self, txs: Vec<Bytes>) -> ResponseFinalizeBlock {
        let request = self.request(txs);
        let response = self.app.finalize_block(request.clone()).expect("a sound chain");
        self.app.commit().expect("a sound chain");
        self.blocks.push(request);
        self.height += 1;
        self.time_ms += self.step_ms;
        self.engine.found.clear();
        self.engine.take(self.height, &response.validator_updates);
        let snapshot = self.app.snapshot();
        let head = snapshot.head().expect("a sound chain");
        assert_eq!((head.height, head.block_time_ms), (self.height, self.time_ms));
        assert_eq!(response.app_hash, head.app_hash[..]);
        response
    }

    pub fn skip(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.block(Vec::new());
        }
    }

    #[track_caller]
    pub fn run(&mut self, who: &str, payload: Payload) -> ExecTxResult {
        let bytes = self.sign(who, payload);
        self.block(vec![bytes]).tx_results.remove(0)
    }

    /// The transaction is done.
    #[track_caller]
    pub fn done(&mut self, who: &str, payload: Payload) -> ExecTxResult {
        let result = self.run(who, payload);
        assert_eq!(result.code, 0, "{}", result.log);
        result
    }

    /// The transaction is refused with a code, charged, and changes nothing else.
    #[track_caller]
    pub fn refused(&mut self, who: &str, payload: Payload, code: ResultCode) {
        let before = content(&self.app.snapshot());
        let (account, fee) = (self.account(who), self.body(who, payload.clone()).fee);
        let result = self.run(who, payload);
        assert_eq!(ResultCode::from_code(result.code), Some(code), "{}", result.log);
        assert_eq!(result.codespace, "sutantra");
        assert!(!result.log.is_empty());
        let now = self.account(who);
        assert_eq!(now.nonce, account.nonce + 1, "charged");
        assert_eq!(
            now.balance,
            account.balance.checked_sub(fee).expect("a sound chain"),
            "the whole fee"
        );
        let mine = StateKey::Account(id(who)).to_bytes();
        let others = |content: BTreeMap<Vec<u8>, Vec<u8>>| -> Vec<_> {
            let is_other = |key: &[u8]| key != mine && !key.starts_with(b"pool/");
            content.into_iter().filter(|(key, _)| is_other(key)).collect()
        };
        assert_eq!(others(content(&self.app.snapshot())), others(before), "nothing else changed");
    }

    /// The transaction is refused with a code, not charged, and changes nothing at all.
    #[track_caller]
    pub fn ignored(&mut self, bytes: impl Into<Bytes>, code: ResultCode) {
        let before = content(&self.app.snapshot());
        let result = self.block(vec![bytes.into()]).tx_results.remove(0);
        assert_eq!(ResultCode::from_code(result.code), Some(code), "{}", result.log);
        assert!(result.events.is_empty());
        assert_eq!(content(&self.app.snapshot()), before, "nothing changed");
    }

    /// A stream of `creator` at 1,000,000 units a second, with a split of 70 and 10 per cent.
    pub fn register(&mut self, policy: Policy) -> StreamId {
        let stream = StreamId::of(&id("creator"), self.account("creator").nonce);
        self.done("creator", register(policy));
        stream
    }

    /// Relays of these names, all with `relay_key` as their key.
    pub fn relays(&mut self, names: &[&str], relay_key: &str) {
        let relay = relay_facts(relay_key);
        let payload = Payload::RegisterRelay { relay, bond: Balance::ZERO };
        let txs = names.iter().map(|name| self.sign(name, payload.clone())).collect();
        let response = self.block(txs);
        assert!(response.tx_results.iter().all(|result| result.code == 0));
    }

    /// A channel of `viewer` under the key `session`.
    pub fn open(&mut self, deposit: u64, reserves: &[(&str, u64, u64)]) -> ChannelId {
        let channel = ChannelId::of(&id("viewer"), self.account("viewer").nonce);
        let payload = Payload::OpenChannel {
            deposit: sut(deposit),
            voucher_key: id("session"),
            expires_height: self.height + 10_000,
            reserves: reserves
                .iter()
                .map(|(who, amount, until)| keep(who, *amount, *until))
                .collect(),
        };
        self.done("viewer", payload);
        channel
    }
}

pub fn price(rate_per_second: u64) -> Price {
    Price {
        rate_per_second,
        tier_bps: [2_500, 5_000, 10_000],
        ticket_price: sut(500_000_000),
        ticket_ms: 60_000,
    }
}

pub fn register(policy: Policy) -> Payload {
    Payload::RegisterStream {
        title: "A stream".to_owned(),
        policy,
        price: price(1_000_000),
        split: SplitShares { creator_bps: 7_000, origin_bps: 1_000 },
        origin_relay: Some(id("origin")),
        issuers: vec![id("issuer")],
        codecs: vec!["VP8".to_owned(), "opus".to_owned()],
        ext: BTreeMap::new(),
    }
}

pub fn relay_facts(relay_key: &str) -> RelayFacts {
    RelayFacts {
        relay_key: id(relay_key),
        endpoint: "https://relay.example".to_owned(),
        region: "DE".to_owned(),
        wholesale_per_gb: Balance::ZERO,
        min_share_bps: 0,
    }
}

pub fn keep(payee: &str, amount: u64, until_height: u64) -> ReserveRequest {
    ReserveRequest { payee: id(payee), amount: sut(amount), until_height }
}

/// A voucher on lane 1, version 1, for `relay`.
pub fn voucher(channel: ChannelId, stream: StreamId, cumulative: u64) -> Voucher {
    Voucher {
        channel,
        payee: id("relay"),
        stream,
        lane: 1,
        terms_version: 1,
        nonce: cumulative,
        cumulative: sut(cumulative),
        media_ms: 0,
        bytes: 0,
        qos: [0; 32],
    }
}

/// Signed by `session`, as a redeem carries it.
pub fn signed(voucher: Voucher) -> [u8; VOUCHER_SIGNED_BYTES] {
    let signed: SignedVoucher = voucher.sign(&key("session"), CHAIN_ID);
    signed.encode()
}

pub fn redeem(entries: Vec<[u8; VOUCHER_SIGNED_BYTES]>) -> Payload {
    Payload::Redeem { entries, watch_root: [0; 32], qos_root: [0; 32] }
}

pub fn lane_of(voucher: &Voucher) -> LaneKey {
    voucher.lane_key()
}

/// Types of a result's events, in their order.
pub fn events(result: &ExecTxResult) -> Vec<&str> {
    result.events.iter().map(|event| event.r#type.as_str()).collect()
}

/// Value of an attribute of a result's event.
#[track_caller]
pub fn attribute<'a>(result: &'a ExecTxResult, event: &str, name: &str) -> &'a str {
    let event = result.events.iter().find(|found| found.r#type == event).expect("the event");
    let found = event.attributes.iter().find(|attribute| attribute.key == name);
    &found.expect("the attribute").value
}

#[track_caller]
pub fn decoded(bytes: &[u8]) -> Transaction {
    Transaction::decode(bytes).expect("a sound chain")
}
