//! A viewer that pays, from outside: the real node with its chain, the real `wallet` command, and the
//! books to the unit.
#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use chain_types::{AccountId, Balance, Bind, ChannelId, SigningKey, TokenId, Voucher, lane};
use serde_json::Value;
use str0m::{
    Candidate, Rtc,
    media::{Direction, MediaKind},
};
use tempfile::TempDir;
use wallet::{
    Basis, Chain, Offer, OpenPool, Paid, Payment, Pools, Rpc,
    http::{Answer, Request, Url},
};

/// Units per second of the demo stream.
const RATE: u64 = 1_000_000;
const CADENCE_MS: u32 = 1_000;
const GRACE_MS: u64 = 3_000;

fn command(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sutantra-node"));
    // A world of its own: nothing of the person who runs the tests.
    command.env_clear().env("HOME", home).args(words.split_whitespace());
    command
}

/// One world at a time: what they measure is time, and each has a node, a chain and a viewer.
static TURN: Mutex<()> = Mutex::new(());

/// A node with a chain and the demo stream, and homes of wallets.
struct World {
    dir: TempDir,
    node: Child,
    at: String,
    chain: Chain,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl World {
    fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("node");
        let words = format!(
            "--home {} --http 127.0.0.1:0 --rpc 127.0.0.1:0 --udp-port 0 --media-ip 127.0.0.1 --shards 1",
            home.display()
        );
        let log = fs::File::create(dir.path().join("node.log")).expect("ours");
        let spawned = command(dir.path(), &words).stdout(Stdio::piped()).stderr(log).spawn();
        let mut node = spawned.expect("the binary runs");
        let mut lines = BufReader::new(node.stdout.take().expect("piped"));
        let mut screen = String::new();
        while !screen.contains("Ctrl-C") {
            let read = lines.read_line(&mut screen).expect("text");
            let log = || fs::read_to_string(dir.path().join("node.log")).unwrap_or_default();
            assert_ne!(read, 0, "no screen: {screen}\n{}", log());
        }
        let (_, after) = screen.split_once("://").expect("an address");
        let at = after.split(['/', '\n']).next().expect("host and port").to_owned();
        let rpc = Rpc::new(format!("http://{at}/rpc").parse().expect("an address"));
        let chain = Chain::connect(rpc).expect("the node serves its chain under /rpc");
        Self { dir, node, at, chain, _turn: turn }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn wallet(&self, name: &str, words: &str) -> Command {
        let home = self.home(name);
        let at = &self.at;
        let words = format!(
            "wallet {words} --home {} --rpc http://{at}/rpc --url http://{at}",
            home.display()
        );
        command(self.dir.path(), &words)
    }

    /// Exit code, stdout, stderr.
    fn run(&self, name: &str, words: &str) -> (i32, String, String) {
        let Output { status, stdout, stderr } =
            self.wallet(name, words).output().expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().expect("an exit code"), text(stdout), text(stderr))
    }

    /// What a command that must work says on stdout, and the fees that it says it paid.
    #[track_caller]
    fn done(&self, name: &str, words: &str) -> (String, Balance) {
        let (code, out, err) = self.run(name, words);
        assert_eq!(code, 0, "{words}: {out}{err}");
        let fees = err.split("fee ").skip(1).map(|rest| {
            let sut = rest.split(" SUT").next().expect("an amount");
            Balance::parse_sut(sut).expect("an amount")
        });
        (out, fees.sum())
    }

    #[track_caller]
    fn refused(&self, name: &str, words: &str, sentence: &str) {
        let (code, out, err) = self.run(name, words);
        assert!(code == 1 && err.contains(sentence), "{words}: {code} {out}{err}");
    }

    /// Watches to the end; each line as it was printed.
    #[track_caller]
    fn watch(&self, name: &str, words: &str) -> Watched {
        let (out, _) = self.done(name, &format!("watch demo --json {words}"));
        Watched(out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
    }

    fn get(&self, path: &str) -> Value {
        let url: Url = format!("http://{}{path}", self.at).parse().expect("an address");
        let answer =
            url.send(Request { method: "GET", headers: &[], body: &[] }).expect("it answers");
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    fn node_account(&self, name: &str) -> AccountId {
        let path = self.home("node").join("keys").join(format!("{name}.key"));
        let seed: AccountId =
            fs::read_to_string(path).expect("the node's key").trim().parse().expect("hex");
        AccountId::from(&SigningKey::from_bytes(&seed.0))
    }

    /// A wallet of the demo stream's creator: its key is the node's.
    fn creator(&self) -> &'static str {
        let wallet = self.home("creator").join("wallet");
        fs::create_dir_all(&wallet).expect("ours");
        let key = self.home("node").join("keys/creator.key");
        fs::copy(key, wallet.join("account.key")).expect("one format of keys");
        "creator"
    }

    /// A wallet with play money.
    fn funded(&self, name: &str) -> AccountId {
        self.done(name, "create");
        self.done(name, "faucet");
        self.done(name, "address").0.trim().parse().expect("an account")
    }

    fn books(&self, viewer: &AccountId) -> Books {
        let balance =
            |account: &AccountId| self.chain.account(account).expect("the chain answers").balance;
        let supply: Value = self.chain.rpc().query("/supply").expect("answers").expect("a record");
        let amount = |key: &str| -> Balance {
            supply[key].as_str().expect("decimal").parse().expect("an amount")
        };
        Books {
            viewer: balance(viewer),
            creator: balance(&self.node_account("creator")),
            relay: balance(&self.node_account("operator")),
            redeemer: balance(&self.node_account("relay")),
            faucet: balance(&self.node_account("faucet")),
            fee_pool: amount("fee_pool").checked_add(amount("rewards_held")).expect("an amount"),
            staked: amount("bonded"),
            burned: amount("burned"),
            genesis: amount("genesis"),
        }
    }
}

/// All money of the chain while no pool is open.
#[derive(Debug, Clone, Copy)]
struct Books {
    viewer: Balance,
    creator: Balance,
    relay: Balance,
    redeemer: Balance,
    faucet: Balance,
    /// And what of it is owed to those who stake.
    fee_pool: Balance,
    staked: Balance,
    burned: Balance,
    genesis: Balance,
}

impl Books {
    #[track_caller]
    fn assert_whole(&self) {
        let Self { viewer, creator, relay, redeemer, faucet, fee_pool, staked, burned, genesis } =
            *self;
        let all: Balance =
            [viewer, creator, relay, redeemer, faucet, fee_pool, staked, burned].into_iter().sum();
        assert_eq!(all, genesis, "every unit is accounted for: {self:?}");
    }
}

/// The lines of a `watch --json`.
struct Watched(Vec<Value>);

impl Watched {
    #[track_caller]
    fn event(&self, name: &str) -> &Value {
        let found = self.0.iter().rfind(|line| line["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.0))
    }

    #[track_caller]
    fn number(&self, event: &str, key: &str) -> u64 {
        let value = &self.event(event)[key];
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        number.unwrap_or_else(|| panic!("{event}.{key} is {value}"))
    }

    fn end(&self, key: &str) -> u64 {
        self.number("end", key)
    }

    /// Begin and end of each run of media, ms.
    fn media(&self) -> Vec<(u64, u64)> {
        let runs = self.event("end")["media"].as_array().expect("a list").iter();
        runs.map(|run| (run[0].as_u64().expect("ms"), run[1].as_u64().expect("ms"))).collect()
    }
}

fn signed_by(watched: &Watched) -> Balance {
    Balance::of(watched.end("lane_signed"))
}

/// A `watch` that runs.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn start(world: &World, name: &str, words: &str) -> Self {
        let mut command = world.wallet(name, &format!("watch demo --json {words}"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// Waits for a line that is as asked.
    #[track_caller]
    fn await_line(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("text"), 0, "it ended before");
            let line = serde_json::from_str(&line).expect("JSON");
            if is_it(&line) {
                return line;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// R28, R30, R31
#[test]
fn a_viewer_pays_by_the_second_and_the_books_close_to_the_unit() {
    let world = World::start();
    let viewer = world.funded("viewer");
    world.refused("viewer", "create", "holds a wallet already");
    world.refused(
        "viewer",
        &format!("send --to {viewer} --amount 1000"),
        "are needed with the fee",
    );
    world.refused("viewer", "open --deposit 1000", "are needed with the fee");
    world.refused("viewer", "watch demo --frames 1", "no open pool");
    let before = world.books(&viewer);
    before.assert_whole();
    let relay = world.get("/api/chain")["relay"]["account"].as_str().expect("hex").to_owned();
    let (opened, mut fees) = world.done("viewer", &format!("open --deposit 3 --for {relay}"));
    let channel: ChannelId =
        opened.split_whitespace().nth(1).expect("pool ID").parse().expect("an id");

    // Both ways of paying, on one lane.
    let mut signed = Balance::ZERO;
    for way in ["post", "channel"] {
        let watched = world.watch("viewer", &format!("--frames 100 --pay-by {way}"));
        assert!(watched.end("frames") >= 100 && watched.event("end")["reason"].is_null());
        let next = signed_by(&watched);
        assert!(next >= signed, "{way}: {next} after {signed}");
        signed = next;
        let (served_ms, media_ms) = (watched.end("served_ms"), watched.end("media_ms"));
        assert!(served_ms > 2_000 && media_ms > 2_000, "{way}: {served_ms} {media_ms}");
        // What was served, two cadences ahead, and what the numbers lag behind by.
        assert!(signed <= lane::signed_total(RATE, served_ms + 1_000, CADENCE_MS, 1));
    }

    // Killed while it pays: what was signed is on the disk, and the next session goes on from there.
    let mut watching = Watching::start(&world, "viewer", "--seconds 60 --pay-by channel");
    let paid = |line: &Value| line["paid"].as_str().and_then(|text| text.parse::<u64>().ok());
    watching.await_line(|line| line["event"] == "tick" && paid(line) > Some(2 * RATE));
    drop(watching);
    let again = world.watch("viewer", "--frames 50 --pay-by post");
    assert!(signed_by(&again) > signed, "the lane goes on");

    let (closed, more) = world.done("viewer", "close --wait");
    assert!(closed.contains("is closed"), "{closed}");
    fees = fees.checked_add(more).expect("an amount");
    let record = world.chain.channel(&channel).expect("the chain answers").expect("it was opened");
    assert!(record.closed);
    assert_eq!(record.redeemed, signed_by(&again), "all that was signed was redeemed, once");
    let after = world.books(&viewer);
    after.assert_whole();
    let spent = before.viewer.checked_sub(after.viewer).expect("it spent");
    assert_eq!(Some(spent), record.redeemed.checked_add(fees), "the stream and the fees");
    assert!(after.creator > before.creator && after.relay > before.relay);
    // 1 % of each entry is the chain's, the rest creator's and relay's: to the unit, with the fees
    // of the redeems, which somebody else paid.
    let gained = |now: Balance, then: Balance| now.checked_sub(then).expect("it gained");
    let shares = gained(after.creator, before.creator)
        .checked_add(gained(after.relay, before.relay))
        .expect("an amount");
    let redeem_fees = gained(before.redeemer, after.redeemer);
    let to_chain = gained(after.burned, before.burned)
        .checked_add(gained(after.fee_pool, before.fee_pool))
        .expect("an amount");
    let split_fee = gained(record.redeemed, shares);
    let expected = [fees, redeem_fees, split_fee].into_iter().sum::<Balance>();
    assert_eq!(to_chain, expected, "every fee is burned or in the pool of fees");
    let percent = record.redeemed.units() / 100;
    assert!(split_fee.units() <= percent && split_fee.units() + 100 > percent, "{split_fee}");
    // The pool is gone from this disk too.
    let (pools, _) = world.done("viewer", "pools");
    assert!(pools.contains("no pool"), "{pools}");
}

/// R23, R27
#[test]
fn media_stops_for_who_stops_paying_and_comes_back_with_the_next_voucher() {
    let world = World::start();
    world.funded("viewer");
    world.done("viewer", "open --deposit 1");
    let words = "--seconds 22 --stop-paying-after 4 --resume-after 16 --pay-by channel";
    let watched = world.watch("viewer", words);
    let (held, released) = (watched.number("held", "t_ms"), watched.number("released", "t_ms"));
    let media = watched.media();
    let (_, stopped) = *media.iter().rfind(|run| run.0 < held).expect("media before");
    let (resumed, _) = *media.iter().find(|run| run.0 > stopped).expect("media afterwards");
    // Paid for are two cadences ahead at most; then the grace, then nothing.
    let most = held + u64::from(2 * CADENCE_MS) + GRACE_MS + 1_000;
    assert!(stopped > held && stopped <= most, "held at {held}: {media:?}");
    assert!(
        resumed >= released && resumed <= released + 1_000,
        "released at {released}: {media:?}"
    );
    let ticks = watched.0.iter().filter(|line| line["event"] == "tick" && line["state"] == "held");
    let at_stop: Vec<u64> = ticks.filter_map(|line| line["served_ms"].as_u64()).collect();
    let signed_at_stop = watched.0.iter().rfind(|line| line["t_ms"].as_u64() < Some(held));
    let paid: u64 = signed_at_stop.expect("it had paid")["paid"]
        .as_str()
        .expect("units")
        .parse()
        .expect("units");
    // By the relay's own count it gave away the grace and a slot, no more.
    let served = at_stop.last().expect("it was held for a while");
    assert!(lane::cost(RATE, *served) <= lane::cost(RATE, paid / (RATE / 1000) + GRACE_MS + 1_000));
    assert_eq!(watched.event("end")["reason"], Value::Null);
}

/// R27, R52
#[test]
fn a_price_that_changes_while_one_watches_is_bound_to_and_paid_without_a_pause() {
    let world = World::start();
    world.funded("viewer");
    world.done("viewer", "open --deposit 1");
    let demo = world.get("/api/streams/demo")["stream_id"].as_str().expect("hex").to_owned();
    let mut watching = Watching::start(&world, "viewer", "--seconds 40 --pay-by post");
    let is_paying = |line: &Value| {
        assert!(line["state"] != "paused", "it never pauses: {line}");
        line["event"] == "tick" && line["state"] == "active"
    };
    watching.await_line(is_paying);
    let creator = world.creator();
    // Not more than a tenth dearer: what is more asks the person.
    world.done(creator, &format!("stream price {demo} --rate 0.00105"));
    let changed = watching.await_line(|line| is_paying(line) && line["rate"] == "1050000");
    let paid = |line: &Value| line["paid"].as_str().and_then(|text| text.parse::<u64>().ok());
    let before = paid(&changed);
    // Three seconds at the new price, on the new lane.
    let later = watching.await_line(|line| {
        is_paying(line) && paid(line) >= before.map(|units| units + 3 * 1_050_000)
    });
    assert_eq!(later["rate"], "1050000");
    let end = watching.await_line(|line| {
        assert!(line["state"] != "paused", "it never pauses: {line}");
        line["event"] == "end"
    });
    assert_eq!(end["reason"], Value::Null);
}

/// R33
#[test]
fn a_ticket_lets_in_without_a_pool_until_it_is_taken_back() {
    let world = World::start();
    let viewer = world.funded("viewer");
    let creator = world.creator();
    let demo = world.get("/api/streams/demo")["stream_id"].as_str().expect("hex").to_owned();
    world.refused("viewer", "buy demo", "sells no tickets");
    world.done(creator, &format!("stream policy {demo} ticketed"));
    world.refused("viewer", "watch demo --frames 1", "no ticket");
    world.refused("viewer", "buy demo --max-price 0.5", "a ticket costs 2 SUT");
    world.done("viewer", "buy demo");
    let watched = world.watch("viewer", "--frames 25");
    assert_eq!((watched.end("paid"), watched.event("end")["reason"].is_null()), (0, true));
    let mut watching = Watching::start(&world, "viewer", "--seconds 60");
    watching.await_line(|line| line["event"] == "tick" && line["frames"].as_u64() > Some(5));
    world.done(creator, &format!("stream revoke {demo} {viewer}"));
    let end = watching.await_line(|line| line["event"] == "end");
    assert!(end["reason"].is_string(), "{end}");
    world.refused("viewer", "watch demo --frames 1", "no ticket");
}

/// An endpoint that only offers.
fn offer() -> String {
    let mut rtc = Rtc::builder()
        .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
        .clear_codecs()
        .enable_vp8(true)
        .build(Instant::now());
    let address = ([127, 0, 0, 1], 9).into();
    rtc.add_local_candidate(Candidate::host(address, "udp").expect("a host address"));
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    api.apply().expect("a change").0.to_sdp_string()
}

fn fingerprint(sdp: &str) -> [u8; 32] {
    let prefix = "a=fingerprint:sha-256 ";
    let text = sdp.lines().find_map(|line| line.strip_prefix(prefix)).expect("a fingerprint");
    let bytes = text.trim().split(':').map(|pair| u8::from_str_radix(pair, 16).expect("hex"));
    bytes.collect::<Vec<_>>().try_into().expect("32 bytes")
}

/// Who asks `/whep/demo` by hand.
struct Client<'a> {
    world: &'a World,
    offer: String,
}

impl Client<'_> {
    fn post(&self, payment: Option<&str>) -> Answer {
        let url: Url = format!("http://{}/whep/demo", self.world.at).parse().expect("an address");
        let mut headers = vec![("Content-Type", "application/sdp")];
        headers.extend(payment.map(|value| ("PAYMENT-SIGNATURE", value)));
        let body = self.offer.as_bytes();
        url.send(Request { method: "POST", headers: &headers, body }).expect("it answers")
    }

    #[track_caller]
    fn is_refused(&self, payment: &str, status: u16, code: &str) {
        let answer = self.post(Some(payment));
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((answer.status, body["error"].as_str()), (status, Some(code)), "{body}");
    }
}

/// A Bind of this pool for one pair of certificates, and a voucher of the terms' prepayment.
fn payment(
    world: &World,
    pool: &mut OpenPool,
    offer: &Offer,
    viewer: AccountId,
    client_fingerprint: [u8; 32],
    relay_fingerprint: [u8; 32],
    nonce: u64,
) -> (Bind, String) {
    let terms = &offer.terms;
    let bind = Bind {
        token_id: TokenId::ZERO,
        stream: terms.stream,
        viewer,
        holder_key: pool.pool().voucher_key(),
        relay_key: terms.relay_key,
        client_fingerprint,
        relay_fingerprint,
        channel: pool.pool().channel,
        terms_hash: terms.hash(),
    };
    let voucher = Voucher {
        channel: bind.channel,
        payee: terms.payee,
        stream: terms.stream,
        lane: terms.lane(),
        terms_version: terms.terms_version,
        nonce,
        cumulative: terms.min_prepay,
        media_ms: 0,
        bytes: 0,
        qos: [0; 32],
    };
    let basis = Basis { served_ms: 0, rate: terms.rate, forgiven_ms: 0, has_media: false };
    let voucher = pool.pay(voucher, basis, 1_000).expect("within the deposit");
    let signed = pool.bind(bind, None);
    let payment = Payment { bind: &signed, voucher: Some(&voucher), token: None };
    (bind, payment.header(world.chain.id()))
}

/// R34; the pair of certificates under both keys keeps everybody else out.
#[test]
fn a_captured_payment_is_worth_nothing_to_another_client_or_behind_a_proxy() {
    let world = World::start();
    let viewer = world.funded("viewer");
    world.done("viewer", "open --deposit 1");
    let client = Client { world: &world, offer: offer() };
    let thief = Client { world: &world, offer: offer() };
    let asked = client.post(None);
    assert_eq!(asked.status, 402);
    assert!(
        asked.text().contains("Payment required") && asked.header("payment-required").is_some()
    );
    let offered = Offer::read(&asked.body, world.chain.id()).expect("terms");
    let relay_fingerprint: AccountId = offered.terms.relay_fp.parse().expect("hex");
    let relay_fingerprint = relay_fingerprint.0;

    let pools = Pools::open(&world.home("viewer").join("wallet"), world.chain.id()).expect("ours");
    let channel = world.chain.channels_of(&viewer).expect("answers").pop().expect("opened").id;
    let mut pool = pools.pay_from(&channel).expect("nobody else pays");
    let mut paid =
        |client, relay, nonce| payment(&world, &mut pool, &offered, viewer, client, relay, nonce);
    // A proxy that shows each side its own certificate: neither pair is the one that is signed.
    let proxy = fingerprint(&thief.offer);
    let own = fingerprint(&client.offer);
    let (_, behind) = paid(own, proxy, 1);
    client.is_refused(&behind, 403, "fingerprint_mismatch");
    thief.is_refused(&behind, 403, "fingerprint_mismatch");
    let (bind, good) = paid(own, relay_fingerprint, 2);
    // Captured from the request: another transport cannot use it.
    thief.is_refused(&good, 403, "fingerprint_mismatch");
    // A Bind of the thief's own, with a key that is not the channel's.
    let key = SigningKey::from_bytes(&[66; 32]);
    let forged = Bind { client_fingerprint: proxy, ..bind }.sign(&key, None, world.chain.id());
    let forged = Payment { bind: &forged, voucher: None, token: None }.header(world.chain.id());
    thief.is_refused(&forged, 403, "bind_signature");

    let let_in = client.post(Some(&good));
    assert_eq!(let_in.status, 201, "{}", let_in.text());
    let answer = Paid::read(let_in.header("payment-response").expect("the header")).expect("JSON");
    let ack = answer.bind_ack().expect("the relay's signature");
    bind.verify_ack(&ack, world.chain.id()).expect("by the key that the chain names");
    assert_eq!(fingerprint(&let_in.text()), relay_fingerprint);
    let relay = world.chain.relay(&offered.terms.payee).expect("answers").expect("registered");
    assert_eq!(relay.relay_key, bind.relay_key);
}

#[test]
fn the_words_bring_the_same_account_anywhere() {
    let home = TempDir::new().unwrap();
    let wallet = |name: &str, words: &str| {
        let home = home.path().join(name);
        let mut command = command(&home, &format!("wallet {words} --home {}", home.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary runs")
    };
    let said = |child: Child| {
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    };
    let (code, out, _) = said(wallet("one", "create"));
    assert_eq!(code, Some(0));
    let words = out.lines().next().expect("the words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    let (_, shown, _) = said(wallet("one", "words --yes"));
    assert_eq!(shown.trim_end(), words);
    let (code, shown, err) = said(wallet("one", "words"));
    assert!(code == Some(1) && shown.is_empty() && err.contains("--yes"), "{err}");
    let import = |name: &str, text: &str| {
        let mut child = wallet(name, "import");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
        drop(stdin);
        said(child)
    };
    let (code, _, err) =
        import("two", &words.replacen(words.split(' ').nth(3).expect("24"), "zzz", 1));
    assert!(code == Some(1) && err.contains("is not in the list"), "{err}");
    assert_eq!(import("two", &words).0, Some(0));
    let (one, two) = (said(wallet("one", "address")).1, said(wallet("two", "address")).1);
    assert!(one == two && one.trim_end().len() == 64, "{one} {two}");
    let (code, _, err) = import("two", &words);
    assert!(code == Some(1) && err.contains("holds a wallet already"), "{err}");
    let (code, _, err) = said(wallet("three", "balance"));
    assert!(code == Some(1) && err.contains("wallet create"), "{err}");
    let (code, _, err) = said(wallet("one", "balance --rpc http://127.0.0.1:9"));
    assert!(code == Some(1) && err.contains("does the node run"), "{err}");
}
