//! What FinalizeBlock and Commit cost for each kind of transaction, printed in microseconds.
//!
//! `cargo run --release -p consensus-abci --example finalize_cost [ACCOUNTS]`: a state of so many
//! accounts (default 10,000), then blocks of transactions of one kind each. Signatures are verified
//! in the block, as on a validator that did not see the transactions before. Reserves, tickets and
//! the like differ from the transfer by the records that they touch; the tree's share grows with
//! the state.

use std::{collections::BTreeMap, error::Error, time::Instant};

use bytes::Bytes;
use chain_types::{
    AccountId, Balance, ChannelId, Params, Payload, Policy, Price, RelayFacts, ReserveRequest,
    SigningKey, SplitShares, StreamId, TransactionBody, Voucher,
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    application::Application,
};
use sha2::{Digest, Sha256};
use tendermint_proto::{
    google::protobuf::Timestamp,
    v0_38::abci::{RequestFinalizeBlock, RequestInitChain},
};

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
        self.height += 1;
        let time = Some(Timestamp { seconds: 1_700_000_000 + self.height, nanos: 0 });
        let request = RequestFinalizeBlock { txs, height: self.height, time, ..Default::default() };
        let begin = Instant::now();
        let response = self.app.finalize_block(request)?;
        let finalized = begin.elapsed();
        self.app.commit()?;
        let committed = begin.elapsed() - finalized;
        for result in &response.tx_results {
            if result.code != 0 {
                return Err(format!("{what}: code {}: {}", result.code, result.log).into());
            }
        }
        let each = finalized.as_secs_f64() * 1e6 / count.max(1) as f64;
        let (finalized, committed) = (finalized.as_secs_f64() * 1e3, committed.as_secs_f64() * 1e3);
        println!("{what:<24}{count:>6}{each:>12.1}{finalized:>14.2}{committed:>12.2}");
        Ok(())
    }
}

fn each(payload: impl Fn(u64) -> Payload) -> Vec<(u64, Payload)> {
    (0..PER_BLOCK).map(|at| (at, payload(at))).collect()
}

fn main() -> Outcome<()> {
    let accounts: u64 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("sutantra-finalize-cost-{}", std::process::id()));
    let result = measure(accounts.max(PER_BLOCK + 1), &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(accounts: u64, dir: &std::path::Path) -> Outcome<()> {
    let app = App::open(dir)?;
    let account = |at| GenesisAccount { account: id(at), balance: Balance::of(1 << 45) };
    let params = Params { close_window_blocks: 1, close_window_ms: 0, ..Params::for_tests() };
    let state =
        AppState { params, accounts: (0..accounts).map(account).collect(), ..AppState::default() };
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
        "{:<24}{:>6}{:>12}{:>14}{:>12}",
        "kind", "count", "µs each", "finalize ms", "commit ms"
    );
    chain.block("an empty block", Vec::new())?;
    streams(&mut chain, accounts)?;
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

fn streams(chain: &mut Chain, accounts: u64) -> Outcome<()> {
    let amount = Balance::of(1_000_000);
    chain.block("transfer", each(|at| Payload::Transfer { to: id(accounts - 1 - at), amount }))?;
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
