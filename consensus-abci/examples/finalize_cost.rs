//! What CheckTx, FinalizeBlock and Commit cost for each kind of transaction, in CPU microseconds of
//! the thread that does it. (Of Commit the disk's time is not in it.)
//!
//! `cargo run --release -p consensus-abci --example finalize_cost [ACCOUNTS]`: a state of so many
//! accounts (default 10,000), then blocks of transactions of one kind each. Signatures are verified
//! in CheckTx, as on a validator that saw the transactions before; where it says `unseen` they are
//! verified in the block, and the column of CheckTx is empty. Reserves, tickets and the like differ
//! from the transfer by the records that they touch; the tree's share grows with the state.

use std::{collections::BTreeMap, error::Error, time::Duration};

use bytes::Bytes;
use chain_types::{
    AccountId, Balance, ChannelId, Params, Payload, Policy, Price, RelayFacts, ReserveRequest,
    SigningKey, SplitShares, StreamId, TransactionBody, Voucher, hex,
    staking::{self, Commission},
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    application::Application,
};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{RequestCheckTx, RequestFinalizeBlock, RequestInitChain},
};

#[path = "cpu/clock.rs"]
#[allow(dead_code, reason = "the other examples use the rest")]
mod clock;

const CHAIN_ID: &str = "sutantra-cost-1";
/// Transactions of one block.
const PER_BLOCK: u64 = 200;
/// Vouchers of one Redeem.
const ENTRIES: u32 = 32;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn key(at: u64) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(at.to_be_bytes()).into())
}

fn id(at: u64) -> AccountId {
    AccountId::from(&key(at))
}

struct Chain {
    app: App,
    height: i64,
    nonces: BTreeMap<u64, u64>,
}

impl Chain {
    /// Runs one block and says what a transaction of it cost; all of them must be done.
    fn block(&mut self, what: &str, payloads: Vec<(u64, Payload)>) -> Outcome<()> {
        self.run(what, payloads, true)
    }

    fn run(&mut self, what: &str, payloads: Vec<(u64, Payload)>, is_seen: bool) -> Outcome<()> {
        let params = self.app.snapshot().params()?;
        let count = payloads.len();
        let mut txs = Vec::with_capacity(count);
        for (who, payload) in payloads {
            let nonce = self.nonces.entry(who).or_default();
            let mut body = TransactionBody {
                signer: id(who),
                fee_payer: None,
                nonce: *nonce,
                valid_until_height: 0,
                fee: Balance::ZERO,
                payload,
            };
            *nonce += 1;
            body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
            txs.push(Bytes::from(body.sign(&key(who), CHAIN_ID).encode()));
        }
        let begin = clock::of_thread();
        for tx in txs.iter().filter(|_| is_seen) {
            let checked =
                self.app.check_tx(RequestCheckTx { tx: tx.clone(), ..Default::default() })?;
            if checked.code != 0 {
                return Err(format!("{what}: {}", checked.log).into());
            }
        }
        let checked = clock::of_thread() - begin;
        self.height += 1;
        let time = Some(Timestamp { seconds: 1_700_000_000 + self.height, nanos: 0 });
        let request = RequestFinalizeBlock { txs, height: self.height, time, ..Default::default() };
        let (response, finalized) = clock::measured(|| self.app.finalize_block(request));
        let (response, finalized) = (response?, finalized.cpu);
        let (done, committed) = clock::measured(|| self.app.commit());
        done?;
        let committed = committed.cpu;
        for result in &response.tx_results {
            if result.code != 0 {
                return Err(format!("{what}: code {}: {}", result.code, result.log).into());
            }
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        let check = match is_seen && count > 0 {
            true => format!("{:.1}", each(checked)),
            false => String::new(),
        };
        let whole = finalized.as_secs_f64() * 1e3;
        let each = each(finalized);
        let committed = committed.as_secs_f64() * 1e3;
        println!("{what:<24}{count:>6}{check:>10}{each:>12.1}{whole:>14.2}{committed:>12.2}");
        Ok(())
    }
}

fn each(payload: impl Fn(u64) -> Payload) -> Vec<(u64, Payload)> {
    (0..PER_BLOCK).map(|at| (at, payload(at))).collect()
}

fn main() -> Outcome<()> {
    let accounts: u64 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("sutantra-finalize-cost-{}", std::process::id()));
    let result = measure(accounts.max(2_000), &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(accounts: u64, dir: &std::path::Path) -> Outcome<()> {
    let app = App::open(dir)?;
    let account = |at| GenesisAccount { account: id(at), balance: Balance::of(1 << 45) };
    let params = Params { close_window_blocks: 1, close_window_ms: 0, ..Params::for_tests() };
    let accounts_and_operators = (0..accounts).chain(OPERATORS);
    let state = AppState {
        params,
        accounts: accounts_and_operators.map(account).collect(),
        gentxs: OPERATORS.map(gentx).to_vec(),
        ..AppState::default()
    };
    app.init_chain(RequestInitChain {
        time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        chain_id: CHAIN_ID.to_owned(),
        app_state_bytes: serde_json::to_vec(&state)?.into(),
        initial_height: 1,
        ..Default::default()
    })?;
    let mut chain = Chain { app, height: 0, nonces: BTreeMap::new() };
    println!("{accounts} accounts, blocks of {PER_BLOCK}, {ENTRIES} entries in a redeem");
    println!(
        "{:<24}{:>6}{:>10}{:>12}{:>14}{:>12}",
        "kind", "count", "check µs", "finalize µs", "finalize ms", "commit ms"
    );
    chain.block("an empty block", Vec::new())?;
    transfers(&mut chain, accounts)?;
    stake(&mut chain)?;
    streams(&mut chain)?;
    channels(&mut chain)
}

fn price() -> Price {
    let tier_bps = [2_500, 5_000, 10_000];
    Price { rate_per_second: 1_000_000, tier_bps, ticket_price: Balance::of(1000), ticket_ms: 1000 }
}

const SPLIT: SplitShares = SplitShares { creator_bps: 7_000, origin_bps: 0 };

fn relay(at: u64) -> RelayFacts {
    RelayFacts {
        relay_key: id(at),
        endpoint: "https://relay.example".to_owned(),
        region: "DE-u33".to_owned(),
        wholesale_per_gb: Balance::of(1),
        min_share_bps: 0,
    }
}

/// Operators of the genesis, behind all who send here.
const OPERATORS: [u64; 2] = [2_000_000_000, 2_000_000_001];

/// A validator's transaction in the genesis.
fn gentx(at: u64) -> String {
    let operator = id(at);
    let consensus = key(at + 100);
    let possession = staking::possession_preimage(&operator, CHAIN_ID);
    let body = TransactionBody {
        signer: operator,
        fee_payer: None,
        nonce: 0,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload: Payload::CreateValidator {
            consensus_key: AccountId::from(&consensus),
            possession: consensus.sign(possession.as_slice()).to_bytes(),
            moniker: "validator".to_owned(),
            website: String::new(),
            commission: Commission { bps: 1_000, max_bps: 2_000, step_bps: 100 },
            self_delegation: Balance::of(1 << 40),
        },
    };
    hex::text(&body.sign(&key(at), CHAIN_ID).encode())
}

/// As many as a full block has, and from few accounts to few.
fn transfers(chain: &mut Chain, accounts: u64) -> Outcome<()> {
    let transfer = |at: u64| {
        let to = id(accounts - 1 - at % 1_000);
        (at % 1_000, Payload::Transfer { to, amount: Balance::of(1_000_000) })
    };
    let some = |count: u64| (0..count).map(transfer).collect::<Vec<_>>();
    chain.block("transfer", some(PER_BLOCK))?;
    chain.run("transfer, unseen", some(PER_BLOCK), false)?;
    chain.block("transfer", some(3_000))?;
    chain.run("transfer, unseen", some(3_000), false)
}

fn stake(chain: &mut Chain) -> Outcome<()> {
    let [validator, to] = OPERATORS.map(id);
    let amount = Balance::of(2_000_000_000);
    chain.block("delegate", each(|_| Payload::Delegate { validator, amount }))?;
    chain.block("delegate, known", each(|_| Payload::Delegate { validator, amount }))?;
    chain.block("withdraw_rewards", each(|_| Payload::WithdrawRewards { validator }))?;
    chain.block("redelegate", each(|_| Payload::Redelegate { from: validator, to, amount }))?;
    chain.block("undelegate", each(|_| Payload::Undelegate { validator, amount }))
}

fn streams(chain: &mut Chain) -> Outcome<()> {
    let first = chain.nonces.get(&0).copied().unwrap_or(0);
    let stream = |at| StreamId::of(&id(at), first);
    let register = |_| Payload::RegisterStream {
        title: "A stream".to_owned(),
        policy: Policy::Ticketed,
        price: price(),
        split: SPLIT,
        origin_relay: None,
        issuers: Vec::new(),
        codecs: vec!["VP8".to_owned(), "opus".to_owned()],
        ext: BTreeMap::new(),
    };
    chain.block("register_stream", each(register))?;
    let update = |at| Payload::UpdateStream {
        stream: stream(at),
        title: Some("Another title".to_owned()),
        policy: None,
        origin_relay: None,
        codecs: None,
        ext: None,
    };
    chain.block("update_stream", each(update))?;
    let grant = |at| Payload::GrantAccess {
        stream: stream(at),
        viewer: id(at + 1),
        valid_until: u64::MAX,
        payment_status: 1,
        max_layer: 255,
    };
    chain.block("grant_access", each(grant))?;
    let revoke = |at| Payload::RevokeAccess { stream: stream(at), viewer: id(at + 1) };
    chain.block("revoke_access", each(revoke))?;
    let max_price = Balance::of(1000);
    let buy = |at| Payload::BuyAccess { stream: stream(at), terms_version: 1, max_price };
    chain.block("buy_access", each(buy))?;
    chain.block("bump_revocation", each(|at| Payload::BumpRevocation { stream: stream(at) }))?;
    let issuers = |at| Payload::SetIssuers { stream: stream(at), issuers: vec![id(at + 1)] };
    chain.block("set_issuers", each(issuers))?;
    let set = |at| Payload::SetPrice { stream: stream(at), price: price(), from_height: 0 };
    chain.block("set_price", each(set))?;
    let set = |at| Payload::SetSplit { stream: stream(at), split: SPLIT, from_height: 0 };
    chain.block("set_split", each(set))?;
    chain.block("end_stream", each(|at| Payload::EndStream { stream: stream(at) }))?;
    let bond = Balance::ZERO;
    chain.block("register_relay", each(|at| Payload::RegisterRelay { relay: relay(at), bond }))?;
    chain.block("update_relay", each(|at| Payload::UpdateRelay { relay: relay(at + 1) }))
}

fn channels(chain: &mut Chain) -> Outcome<()> {
    let first = chain.nonces.get(&0).copied().unwrap_or(0);
    let channel = |at| ChannelId::of(&id(at), first);
    let session = key(u64::MAX);
    let open = |_| Payload::OpenChannel {
        deposit: Balance::of(1_000_000_000),
        voucher_key: AccountId::from(&session),
        expires_height: 1_000_000,
        reserves: Vec::new(),
    };
    chain.block("open_channel", each(open))?;
    let amount = Balance::of(1);
    let more = |at| Payload::TopUp { channel: channel(at), amount, reserves: Vec::new() };
    chain.block("top_up", each(more))?;
    let amount = Balance::of(1_000);
    let reserve = |at| ReserveRequest { payee: id(at + 1), amount, until_height: 100_000 };
    let keep = |at| Payload::Reserve { channel: channel(at), reserve: reserve(at) };
    chain.block("reserve", each(keep))?;
    let entries = |at: u64, cumulative: u64| {
        let voucher = |lane| Voucher {
            channel: channel(at),
            payee: id(at + 1),
            stream: StreamId::ZERO,
            lane,
            terms_version: 0,
            nonce: cumulative,
            cumulative: Balance::of(cumulative),
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        (0..ENTRIES).map(|lane| voucher(lane).sign(&session, CHAIN_ID).encode()).collect()
    };
    let (watch_root, qos_root) = ([0; 32], [0; 32]);
    for (what, cumulative) in [("redeem, new lanes", 1_000), ("redeem, known lanes", 2_000)] {
        let redeem =
            |at| Payload::Redeem { entries: entries(at, cumulative), watch_root, qos_root };
        // Their payee presents them.
        let redeems = each(redeem).into_iter().map(|(at, redeem)| (at + 1, redeem)).collect();
        chain.block(what, redeems)?;
    }
    chain.block("request_close", each(|at| Payload::RequestClose { channel: channel(at) }))?;
    chain.block("finalize", each(|at| Payload::Finalize { channel: channel(at) }))
}
