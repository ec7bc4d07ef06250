//! What must be on the chain before a run that pays: streams with a price, and a funded pool a viewer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chain_types::{
    AccountId, Balance, Payload, Policy, Price, ReserveRequest, SigningKey, SplitShares, StreamId,
    TransactionBody, transaction_hash,
};
use serde_json::{Value, json};
use wallet::http::{Request, Url};
use wallet::{Caps, Chain, ChainFacts, Pool, Pools, Rpc};

use super::enter::said;
use super::{PayAccount, Payments, Purse};
use crate::client::JoinError;

/// A pool that a run left behind is closed by anybody after this many blocks.
const EXPIRES_BLOCKS: u64 = 86_400;
/// How long a relay can count on its reserve, blocks.
const RESERVE_BLOCKS: u64 = 1800;
/// A transaction that is in no block by then never will be.
const VALID_BLOCKS: u64 = 120;
/// Fees of an account's few transactions, in base fees.
const FEES_BASE: u64 = 200;
/// How long the window of relays is waited for at the end, and between two looks.
const CLOSE_MAX: Duration = Duration::from_secs(60);
const CLOSE_POLL: Duration = Duration::from_millis(500);
/// What a pool holds beyond the window, in seconds of its rate: joining, settling, the relay's
/// prepayment and grace.
const SPARE_SECONDS: u64 = 120;

/// Where the accounts' money comes from.
#[derive(Debug, Clone)]
pub enum Funds {
    /// One drop of a development chain's faucet, divided.
    Faucet,
    /// Seeds of funded accounts, one a line, in hex: the creator's, then one a viewer.
    Keys(PathBuf),
}

/// What to prepare.
#[derive(Debug, Clone)]
pub struct BankConfig {
    /// The server, `http://host:port`.
    pub base: String,
    /// See [`Funds`].
    pub funds: Funds,
    /// Names of the streams.
    pub streams: Vec<String>,
    /// Sessions at one time.
    pub seats: usize,
    /// Price, units of 10⁻⁹ SUT a second.
    pub rate: u64,
    /// How long a viewer pays at most.
    pub seconds: u64,
}

/// Streams and pools of one run.
pub struct Bank {
    pub(super) chain: Chain,
    pub(super) base: Url,
    pub(super) creator: SigningKey,
    relay: AccountId,
    rate: u64,
    /// The money is somebody's: what is left of it goes back.
    is_owned: bool,
    streams: BTreeMap<String, StreamId>,
    purses: Mutex<Vec<Purse>>,
    /// The records of the streams, asked for once: their price does not change in a run.
    facts: Mutex<BTreeMap<StreamId, ChainFacts>>,
    _home: Home,
}

/// A directory of pools, removed with the run: the money is play money, or the keys are the
/// caller's, and what was signed is on the chain.
struct Home(PathBuf);

impl Home {
    fn new() -> anyhow::Result<Self> {
        // Each voucher is written before it is signed: in memory, so that the disk is not measured.
        let memory = Path::new("/dev/shm");
        let below = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name =
            format!("sutantra-bench-pay-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = below.join(name);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // It lies in memory or among temporary files, and nobody reads it again.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

impl Bank {
    /// Asks the faucet, registers the streams, opens the pools; blocks for a few blocks' time.
    ///
    /// # Errors
    /// A server without a chain, an account without money, a chain that takes no transactions.
    pub fn open(config: &BankConfig) -> anyhow::Result<Self> {
        let base: Url = config.base.parse()?;
        let facts = chain_of(&base)?;
        let relay = facts["relay"]["account"].as_str().and_then(|text| text.parse().ok());
        let relay = relay.context("the node relays nothing: --pay needs a relay with a chain")?;
        let chain = Chain::connect(Rpc::new(base.join("/rpc")))?;
        let mut keys = match &config.funds {
            Funds::Faucet => (0..=config.seats).map(|_| fresh_key()).collect(),
            Funds::Keys(path) => read_keys(path, config.seats + 1)?,
        };
        let creator = keys.remove(0);
        let mut bank = Self {
            chain,
            base,
            creator,
            relay,
            rate: config.rate,
            is_owned: matches!(config.funds, Funds::Keys(_)),
            streams: BTreeMap::new(),
            purses: Mutex::default(),
            facts: Mutex::default(),
            _home: Home::new()?,
        };
        let deposit = bank.deposit(config)?;
        if matches!(config.funds, Funds::Faucet) {
            bank.fund(&keys, deposit).context("funding the viewers' accounts")?;
        }
        bank.register(&config.streams).context("registering streams")?;
        bank.open_pools(keys, deposit).context("opening the viewers' pools")?;
        Ok(bank)
    }

    /// What a viewer may spend.
    fn deposit(&self, config: &BankConfig) -> anyhow::Result<Balance> {
        let seconds = config.seconds.saturating_add(SPARE_SECONDS);
        let wanted = Balance::of(config.rate).checked_mul(seconds);
        let wanted = wanted.context("--rate times --duration is more money than there is")?;
        Ok(wanted.max(self.chain.params()?.deposit_min()))
    }

    fn fund(&self, keys: &[SigningKey], deposit: Balance) -> anyhow::Result<()> {
        let account = AccountId::from(&self.creator);
        let url = self.base.at("/api/faucet")?;
        let body = json!({ "account": account }).to_string();
        let headers = [("Content-Type", "application/json")];
        let answer =
            url.send(Request { method: "POST", headers: &headers, body: body.as_bytes() })?;
        if answer.status != 200 {
            bail!("{url} gives nothing (status {}): {}", answer.status, said(&answer));
        }
        let given: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{url} answers something else than JSON"))?;
        let hash = given["hash"].as_str().unwrap_or_default().to_ascii_lowercase();
        let hash: AccountId = hash.parse().ok().context("the faucet names no transaction")?;
        self.chain.wait_for(&hash.0)?;
        let params = self.chain.params()?;
        let fees = params.fee_base.checked_mul(FEES_BASE).context("fees beyond all money")?;
        let each = deposit.checked_add(fees).context("a deposit beyond all money")?;
        let each = each.max(params.new_account_min());
        let all = u64::try_from(keys.len()).ok().and_then(|count| each.checked_mul(count));
        let held = self.chain.account(&account)?.balance;
        if all.is_none_or(|all| all >= held) {
            bail!(
                "{} viewers need {} SUT each, the faucet gave {} SUT: use a lower --rate, fewer \
                 viewers, or --keys",
                keys.len(),
                each.in_sut(),
                held.in_sut()
            );
        }
        let transfers = keys
            .iter()
            .map(|key| Payload::Transfer { to: AccountId::from(key), amount: each })
            .collect();
        self.transact_in_order(transfers).map(drop)
    }

    fn register(&mut self, names: &[String]) -> anyhow::Result<()> {
        let register = |name: &String| Payload::RegisterStream {
            title: name.clone(),
            policy: Policy::Paid,
            price: Price {
                rate_per_second: self.rate,
                tier_bps: [2_500, 5_000, 10_000],
                ticket_price: Balance::ZERO,
                ticket_ms: 86_400_000,
            },
            split: SplitShares { creator_bps: 7_000, origin_bps: 0 },
            origin_relay: None,
            issuers: Vec::new(),
            codecs: vec!["VP8".to_owned(), "opus".to_owned()],
            ext: BTreeMap::new(),
        };
        let nonces = self.transact_in_order(names.iter().map(register).collect())?;
        let creator = AccountId::from(&self.creator);
        let ids = nonces.into_iter().map(|nonce| StreamId::of(&creator, nonce));
        self.streams = names.iter().cloned().zip(ids).collect();
        Ok(())
    }

    fn open_pools(&self, keys: Vec<SigningKey>, deposit: Balance) -> anyhow::Result<()> {
        let height = self.chain.height()?;
        let mut opened = Vec::new();
        for (number, key) in keys.into_iter().enumerate() {
            let pools = Pools::open(&self._home.0.join(number.to_string()), self.chain.id())?;
            pools.ledger().set_caps(Caps { per_stream: deposit, per_day: deposit })?;
            let payer = AccountId::from(&key);
            let nonce = self.chain.next_nonce(&payer)?;
            let expires_height = height.saturating_add(EXPIRES_BLOCKS);
            let draft = Pool::draft(payer, nonce, rand::random(), deposit, expires_height);
            let pool = pools.create(&draft)?;
            let until_height = height.saturating_add(RESERVE_BLOCKS);
            let reserve = ReserveRequest { payee: self.relay, amount: deposit, until_height };
            let payload = Payload::OpenChannel {
                deposit,
                voucher_key: draft.voucher_key(),
                expires_height,
                reserves: vec![reserve],
            };
            let hash = self.send(&key, nonce, payload)?;
            opened.push((hash, Purse { key, pool }));
        }
        for (hash, mut purse) in opened {
            self.chain.wait_for(&hash)?;
            let channel = self.chain.channel(&purse.pool.pool().channel)?;
            purse.pool.follow(&channel.context("the chain does not show the pool")?)?;
            self.give_back(purse);
        }
        Ok(())
    }

    /// Sends the creator's transactions one behind the other and waits for the last; their nonces.
    fn transact_in_order(&self, payloads: Vec<Payload>) -> anyhow::Result<Vec<u64>> {
        let first = self.chain.next_nonce(&AccountId::from(&self.creator))?;
        let (mut nonces, mut hashes) = (Vec::new(), Vec::new());
        for (nonce, payload) in (first..).zip(payloads) {
            hashes.push(self.send(&self.creator, nonce, payload)?);
            nonces.push(nonce);
        }
        hashes.iter().try_for_each(|hash| self.chain.wait_for(hash).map(drop))?;
        Ok(nonces)
    }

    /// Hands a transaction over; its hash.
    fn send(&self, key: &SigningKey, nonce: u64, payload: Payload) -> anyhow::Result<[u8; 32]> {
        let valid_until_height = self.chain.height()?.saturating_add(VALID_BLOCKS);
        let (signer, fee) = (AccountId::from(key), Balance::ZERO);
        let mut body =
            TransactionBody { signer, fee_payer: None, nonce, valid_until_height, fee, payload };
        // The fee has a fixed width: setting it does not change the length.
        body.fee = self.chain.params()?.fee_min(&body.payload, body.signed_len_bytes());
        let kind = body.payload.kind();
        let bytes = body.sign(key, self.chain.id()).encode();
        let checked = self.chain.rpc().broadcast_tx_sync(&bytes)?;
        if checked.code != 0 {
            bail!("the chain refuses {kind} of {signer}: code {}, {}", checked.code, checked.log);
        }
        Ok(transaction_hash(&bytes))
    }

    pub(super) fn stream(&self, name: &str) -> Result<StreamId, JoinError> {
        let unknown = || JoinError::Paying(format!("{name} was not registered"));
        self.streams.get(name).copied().ok_or_else(unknown)
    }

    pub(super) fn facts(&self, stream: StreamId, payee: AccountId) -> anyhow::Result<ChainFacts> {
        let mut known = self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(facts) = known.get(&stream).filter(|facts| facts.payee == payee) {
            return Ok(facts.clone());
        }
        let facts = ChainFacts {
            height: self.chain.height()?,
            stream: self.chain.stream(&stream)?.context("the chain has lost the stream")?,
            payee,
            relay_key: self.chain.relay(&payee)?.map(|relay| relay.relay_key),
            fee_per_voucher: self.chain.params()?.fee_per_voucher,
        };
        known.insert(stream, facts.clone());
        Ok(facts)
    }

    /// A purse that no session pays from now.
    pub(crate) fn take(&self) -> Option<Purse> {
        self.purses.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    /// The purse of a session that has ended.
    pub(crate) fn give_back(&self, purse: Purse) {
        let mut purses = self.purses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The one that rested longest is taken next.
        purses.insert(0, purse);
    }

    /// Closes the pools of accounts that somebody named: their rest goes back once the relays'
    /// window is over, by this program where that is soon.
    pub(crate) fn close(&self) -> anyhow::Result<()> {
        if !self.is_owned {
            return Ok(());
        }
        let mut closing = Vec::new();
        while let Some(Purse { key, pool }) = self.take() {
            let (channel, nonce) =
                (pool.pool().channel, self.chain.next_nonce(&AccountId::from(&key))?);
            let hash = self.send(&key, nonce, Payload::RequestClose { channel })?;
            closing.push((hash, key, channel));
        }
        let mut last = None;
        for (hash, ..) in &closing {
            self.chain.wait_for(hash)?;
            last = Some(self.chain.rpc().status()?);
        }
        let (Some(last), params) = (last, self.chain.params()?) else { return Ok(()) };
        let height = last.height.saturating_add(params.close_window_blocks);
        let time_ms = last.time_ms.saturating_add(params.close_window_ms);
        let until = Instant::now() + CLOSE_MAX;
        let is_over = || -> anyhow::Result<bool> {
            let now = self.chain.rpc().status()?;
            Ok(now.height >= height && now.time_ms >= time_ms)
        };
        while !is_over()? {
            if Instant::now() >= until {
                let seconds = params.close_window_ms / 1000;
                eprintln!(
                    "{} pools close: finalize each with `sutantra-node wallet close` in {seconds} s",
                    closing.len()
                );
                return Ok(());
            }
            std::thread::sleep(CLOSE_POLL);
        }
        for (_, key, channel) in &closing {
            let nonce = self.chain.next_nonce(&AccountId::from(key))?;
            let hash = self.send(key, nonce, Payload::Finalize { channel: *channel })?;
            self.chain.wait_for(&hash)?;
        }
        Ok(())
    }

    /// Adds up, and asks the chain what it has paid out.
    pub(crate) fn payments(&self, accounts: &[PayAccount]) -> anyhow::Result<Payments> {
        let mut payments = Payments { rate: self.rate, ..Payments::default() };
        accounts.iter().for_each(|account| payments.add(account));
        let mut channels: Vec<_> = accounts.iter().map(|account| account.channel).collect();
        channels.sort_unstable();
        channels.dedup();
        for channel in channels {
            let record = self.chain.channel(&channel)?.context("the chain has lost a pool")?;
            payments.redeemed = payments.redeemed.saturating_add(record.redeemed.units());
        }
        Ok(payments)
    }
}

/// What the node says of its chain.
fn chain_of(base: &Url) -> anyhow::Result<Value> {
    let url = base.at("/api/chain")?;
    let answer = url.send(Request { method: "GET", headers: &[], body: &[] })?;
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match json.filter(|json| answer.status == 200 && json["chain_id"].is_string()) {
        Some(json) => Ok(json),
        None => bail!(
            "--pay needs a node with a chain, and {base} has none: leave --pay away, or start one \
             with `sutantra-node dev`"
        ),
    }
}

fn fresh_key() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}

fn read_keys(path: &Path, wanted: usize) -> anyhow::Result<Vec<SigningKey>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(str::trim).enumerate();
    let mut keys = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let seed: Option<AccountId> = line.parse().ok();
        let seed = seed.with_context(|| {
            format!("{}:{}: a key is 64 hex digits", path.display(), number + 1)
        })?;
        keys.push(SigningKey::from_bytes(&seed.0));
    }
    if keys.len() < wanted {
        bail!(
            "{} holds {} keys, this run needs {wanted}: the creator's and one for each viewer at a \
             time, those that churn brings before others are gone included",
            path.display(),
            keys.len()
        );
    }
    keys.truncate(wanted);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_read_whole_or_refused_with_its_line() {
        let path = std::env::temp_dir().join(format!("bench-keys-{}", std::process::id()));
        let seed = |digit: &str| digit.repeat(64);
        let check = |text: String, wanted: usize, expected: Result<usize, &str>| {
            std::fs::write(&path, text).expect("a temporary file");
            let read = read_keys(&path, wanted).map(|keys| keys.len());
            match (read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(error), Err(part)) => {
                    assert!(format!("{error:#}").contains(part), "{error:#}")
                }
                (read, expected) => panic!("{read:?} instead of {expected:?}"),
            }
        };
        check(format!("# mine\n{}\n\n{}\n", seed("1"), seed("2")), 2, Ok(2));
        check(format!("{}\n{}\n", seed("1"), seed("2")), 3, Err("holds 2 keys"));
        check(format!("{}\nxyz\n", seed("1")), 1, Err(":2: a key is 64 hex digits"));
        std::fs::remove_file(&path).expect("it is there");
        assert!(read_keys(&path, 1).is_err());
    }
}
