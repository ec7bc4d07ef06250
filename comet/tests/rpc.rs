//! The RPC client against the embedded engine, and against servers that misbehave.

#![allow(clippy::unwrap_used)] // A test may panic.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use chain_types::{
    Account, AccountId, Balance, Params, Payload, SigningKey, StateKey, TransactionBody, follow,
    transaction_hash,
};
use comet::rpc::{
    Broadcaster, Client, NEW_BLOCK_HEADER, RpcError, RpcUrl, Subscription, TX, Update,
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    engine::{Engine, EngineConfig, Genesis, NodeKey, ValidatorKey},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpSocket, runtime::Runtime};

const CHAIN_ID: &str = "rpc-test-1";
/// Far more than anything here takes.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A chain with its RPC on a port of its own.
struct Chain {
    engine: Engine,
    app: Arc<App>,
    serving: Option<Runtime>,
    /// Bound and never listening: nobody else gets the port while the RPC is closed.
    port: TcpSocket,
    _home: TempDir,
}

impl Chain {
    fn start() -> Self {
        let home = TempDir::new().unwrap();
        let dir = home.path();
        let account = GenesisAccount { account: id(), balance: Balance::of(1_000_000_000_000_000) };
        let state = AppState {
            params: Params::for_tests(),
            accounts: vec![account],
            ..AppState::default()
        };
        let validator = ValidatorKey::from_seed([7; 32]);
        let genesis = Genesis::single(
            CHAIN_ID.parse().unwrap(),
            tendermint::Time::now(),
            validator.public_key(),
            serde_json::to_value(state).unwrap(),
        );
        let app = Arc::new(App::open(&dir.join("state")).unwrap());
        let mut config = EngineConfig::new(
            dir.join("blocks"),
            genesis,
            validator,
            NodeKey::from_seed([8; 32]),
            dir.join("priv_validator_state.json"),
        );
        config.min_block_interval = Duration::from_millis(1);
        config.empty_block_interval = Duration::from_millis(20);
        let engine = Engine::start(config, app.clone()).unwrap();
        let port = bound("127.0.0.1:0".parse().unwrap());
        let mut chain = Self { engine, app, serving: None, port, _home: home };
        chain.serve();
        chain
    }

    /// Opens the RPC, where it was the last time.
    fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let address = self.address();
        let listener = runtime.block_on(async { bound(address).listen(128) }).unwrap();
        let router = self.engine.rpc_router();
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.serving = Some(runtime);
    }

    /// Closes the RPC with all its connections.
    fn vanish(&mut self) {
        self.serving.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }

    fn url(&self) -> RpcUrl {
        format!("http://{}", self.address()).parse().unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.port.local_addr().unwrap()
    }

    fn client(&self) -> Client {
        Client::at(self.url())
    }

    fn wait_for_height(&self, height: u64) {
        let mut blocks = self.engine.subscribe_blocks(1024).unwrap();
        while self.engine.height() < height {
            blocks.blocking_recv().unwrap();
        }
    }

    /// A transfer to somebody new.
    fn transfer(&self, nonce: u64) -> Vec<u8> {
        let mut to = [9; 32];
        to[..8].copy_from_slice(&nonce.to_be_bytes());
        let mut body = TransactionBody {
            signer: id(),
            fee_payer: None,
            nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload: Payload::Transfer { to: AccountId(to), amount: Balance::of(1_000_000) },
        };
        let params = self.app.snapshot().params().unwrap();
        body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
        body.sign(&key(), CHAIN_ID).encode()
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Two may be bound to one port while neither, or only the other, listens.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.engine.stop();
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_background();
        }
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn id() -> AccountId {
    AccountId::from(&key())
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::yield_now();
    }
}

#[test]
fn each_method_reads_what_the_engine_answers() {
    let chain = Chain::start();
    let client = chain.client();
    chain.wait_for_height(3);

    let status = client.status().unwrap();
    assert_eq!(status.chain_id, CHAIN_ID);
    assert_eq!(status.node_id.len(), 40);
    assert!(status.version.starts_with("0.38."), "{}", status.version);
    assert!(status.latest_height >= 3 && status.earliest_height == 1, "{status:?}");
    assert_eq!(status.latest_app_hash.len(), 32);
    assert_eq!(status.voting_power, 10);

    let genesis = client.genesis().unwrap();
    assert_eq!((genesis.chain_id.as_str(), genesis.initial_height), (CHAIN_ID, 1));
    assert_eq!(genesis.validators.len(), 1);
    assert!(genesis.document["app_state"]["params"].is_object());

    let signed = client.commit(Some(2)).unwrap();
    assert_eq!(signed.header.height.value(), 2);
    let block = client.block(Some(2)).unwrap();
    assert_eq!(block.block_id.hash, signed.header.hash());
    assert_eq!(block.block.header.hash(), signed.header.hash());
    assert_eq!(client.validators(2).unwrap().len(), 1);
    let results = client.block_results(Some(2)).unwrap();
    let next = client.commit(Some(3)).unwrap();
    assert_eq!(results.app_hash, next.header.app_hash.as_bytes());

    let block = client.light_block(None).unwrap();
    assert_eq!(block.validators.hash(), block.signed_header.header.validators_hash);
    assert_eq!(block.next_validators.hash(), block.signed_header.header.next_validators_hash);
    assert!(client.consensus_params(None).unwrap().evidence_age_max_ns > 0);
    assert!(client.net_info().unwrap().peers.is_empty());

    let tx = chain.transfer(0);
    let hash = transaction_hash(&tx);
    assert_eq!(client.tx(&hash).unwrap(), None);
    let taken = client.broadcast_tx_sync(&tx).unwrap();
    assert_eq!((taken.code, taken.hash), (0, hash));
    let again = client.broadcast_tx_sync(&tx).unwrap_err();
    assert!(again.is_known_tx(), "{again}");
    let bad = client.broadcast_tx_sync(b"no transaction").unwrap();
    assert_ne!(bad.code, 0);
    assert_ne!(bad.log, "");
    let found = until("the transaction's block", || client.tx(&hash).unwrap());
    assert_eq!((found.tx, found.tx_result.code), (tx, 0));
    assert!(found.tx_result.events.iter().any(|event| event.kind == "transfer"));

    let account = StateKey::Account(id()).to_bytes();
    let query = client.abci_query("/store/app/key", &account, found.height, true).unwrap();
    assert_eq!((query.code, query.height), (0, found.height));
    assert_eq!(borsh_account(&query.value).nonce, 1);
    assert_eq!(query.proof_ops.len(), 1);
    assert_eq!(
        (query.proof_ops[0].kind.as_str(), &query.proof_ops[0].key),
        ("ics23:jmt", &account)
    );
    let list = follow::ListRequest { prefix: b"param/chain".to_vec(), after: None, limit: 10 };
    let answer = client.abci_query(follow::LIST_PATH, &borsh::to_vec(&list).unwrap(), 0, false);
    let keys: Vec<Vec<u8>> = borsh::from_slice(&answer.unwrap().value).unwrap();
    assert_eq!(keys, [b"param/chain"]);
}

fn borsh_account(bytes: &[u8]) -> Account {
    borsh::from_slice(bytes).unwrap()
}

#[test]
fn what_the_engine_does_not_have_is_refused_in_its_own_words() {
    let chain = Chain::start();
    chain.wait_for_height(1);
    let client = chain.client();
    let missing = client.commit(Some(1_000_000)).unwrap_err();
    assert!(missing.is_missing_height(), "{missing}");
    let sentence = missing.to_string();
    assert!(sentence.starts_with(&format!("http://{} refuses commit: ", chain.address())));
    let unknown = client.call::<Value>("no_such_method", json!({})).unwrap_err();
    assert!(matches!(unknown, RpcError::Refused { code: -32601, .. }), "{unknown:?}");
    assert!(!unknown.is_missing_height() && !unknown.is_known_tx());
    let query = client.abci_query("/no/such/path", b"", 0, false).unwrap();
    assert_ne!((query.code, query.log), (0, String::new()));
}

#[test]
fn a_subscription_hears_each_block_and_comes_back_after_an_outage() {
    let mut chain = Chain::start();
    let subscription = Subscription::start(&chain.url(), NEW_BLOCK_HEADER, 1024).unwrap();
    let next = || subscription.updates().recv_timeout(WAIT_MAX).unwrap();
    let height = |update: Update| {
        let Update::Event(event) = update else { panic!("{update:?} is no event") };
        let text = event["data"]["value"]["header"]["height"].as_str().unwrap().to_owned();
        text.parse::<u64>().unwrap()
    };
    assert_eq!(next(), Update::Connected);
    let first = height(next());
    assert_eq!((height(next()), height(next())), (first + 1, first + 2));

    chain.vanish();
    until("the loss", || matches!(next(), Update::Lost(_)).then_some(()));
    chain.serve();
    let back = Instant::now();
    assert_eq!(next(), Update::Connected);
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    assert!(height(next()) > first);
}

#[test]
fn a_subscriber_that_is_too_slow_is_told_so_and_subscribed_again() {
    let chain = Chain::start();
    let subscription = Subscription::start(&chain.url(), NEW_BLOCK_HEADER, 2).unwrap();
    // Nobody takes anything until the queue is long full.
    chain.wait_for_height(chain.engine.height() + 20);
    let next = || subscription.updates().recv_timeout(WAIT_MAX).unwrap();
    assert_eq!(next(), Update::Connected);
    let lost = until("the loss", || match next() {
        Update::Lost(reason) => Some(reason),
        Update::Event(_) => None,
        Update::Connected => panic!("connected twice"),
    });
    assert_eq!(lost, "events came faster than they were taken");
    assert_eq!(next(), Update::Connected);
}

#[test]
fn a_subscription_ends_with_its_owner_and_one_that_is_refused_says_why() {
    let chain = Chain::start();
    let subscription = Subscription::start(&chain.url(), "no query at all", 8).unwrap();
    let update = subscription.updates().recv_timeout(WAIT_MAX).unwrap();
    let Update::Lost(reason) = update else { panic!("{update:?}") };
    assert!(reason.contains("refuses the subscription"), "{reason}");
    let updates = subscription.updates().clone();
    drop(subscription);
    until("the end of the thread", || match updates.recv_timeout(WAIT_MAX) {
        Err(error) => {
            let _: () = assert!(error.is_disconnected());
            Some(())
        }
        Ok(_) => None,
    });
}

#[test]
fn many_transactions_get_into_blocks_though_one_endpoint_is_gone() {
    const COUNT: u64 = 300;
    let chain = Chain::start();
    let gone = Client::at("http://127.0.0.1:1".parse().unwrap());
    let (reports, outcomes) = mpsc::channel();
    let endpoints = [gone, chain.client()];
    let broadcaster = Broadcaster::start(&endpoints, 4, 1000, move |outcome| {
        let _ = reports.send(outcome);
    })
    .unwrap();
    let subscription = Subscription::start(&chain.url(), TX, 4096).unwrap();
    let next = || subscription.updates().recv_timeout(WAIT_MAX).unwrap();
    assert_eq!(next(), Update::Connected);
    let txs: Vec<_> = (0..COUNT).map(|nonce| chain.transfer(nonce)).collect();
    for tx in &txs {
        broadcaster.send(tx.clone()).unwrap();
    }
    for _ in 0..COUNT {
        let outcome = outcomes.recv_timeout(WAIT_MAX).unwrap();
        assert_eq!(outcome.result, Ok(()));
    }
    let sent = || chain.app.snapshot().account(&id()).unwrap().unwrap().nonce;
    // Several connections mix the order; the mempool keeps a bounded number of later nonces, and
    // whoever sends follows the blocks and sends again.
    let mut again = Instant::now();
    until("the last transaction's block", || {
        if again.elapsed() > Duration::from_millis(500) {
            again = Instant::now();
            for tx in txs.iter().skip(usize::try_from(sent()).unwrap()) {
                let _ = broadcaster.send(tx.clone());
            }
        }
        (sent() == COUNT).then_some(())
    });
    for _ in 0..COUNT {
        let Update::Event(event) = next() else { panic!("no event") };
        assert_eq!(event["data"]["type"], "tendermint/event/Tx");
    }
}

#[test]
fn a_full_queue_refuses_and_a_gone_endpoint_is_reported() {
    let gone = Client::at("http://127.0.0.1:1".parse().unwrap());
    let (reports, outcomes) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let broadcaster = Broadcaster::start(&[gone], 1, 1, move |outcome| {
        let _ = reports.send(outcome);
        let _ = held.lock().unwrap().recv();
    })
    .unwrap();
    broadcaster.send(b"first".to_vec()).unwrap();
    let outcome = outcomes.recv_timeout(WAIT_MAX).unwrap();
    assert_eq!(outcome.hash, transaction_hash(b"first"));
    assert!(matches!(outcome.result, Err(RpcError::Unreachable { .. })), "{outcome:?}");
    // Its one thread is held: one more waits, the next is refused.
    broadcaster.send(b"second".to_vec()).unwrap();
    assert!(broadcaster.send(b"third".to_vec()).is_err());
    drop(hold);
}

/// Answers each connection with the same bytes and closes it.
fn liar(answer: Vec<u8>) -> (Client, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // Ends with the test's process.
        while let Ok((mut socket, _)) = listener.accept() {
            let answer = answer.clone();
            thread::spawn(move || {
                if read_request(&mut socket).is_some() {
                    let _ = socket.write_all(&answer);
                }
            });
        }
    });
    let url: RpcUrl = format!("http://{address}").parse().unwrap();
    (Client::with_timeout(url, Duration::from_secs(5)), address)
}

fn read_request(socket: &mut TcpStream) -> Option<()> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
        if read.windows(4).any(|four| four == b"\r\n\r\n") && read.ends_with(b"}") {
            return Some(());
        }
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into()
}

#[derive(Debug, PartialEq)]
enum Kind {
    Unreachable,
    Malformed,
    TooLarge,
    Refused,
}

#[track_caller]
fn check(answer: Vec<u8>, expected: Kind, words: &str) {
    let (client, address) = liar(answer);
    let error = client.status().expect_err("no status can be read from this");
    let kind = match &error {
        RpcError::Unreachable { .. } => Kind::Unreachable,
        RpcError::Malformed { .. } => Kind::Malformed,
        RpcError::TooLarge { .. } => Kind::TooLarge,
        RpcError::Refused { .. } => Kind::Refused,
    };
    assert_eq!(kind, expected, "{error}");
    let sentence = error.to_string();
    assert!(sentence.contains(&address.to_string()), "{sentence}");
    assert!(sentence.contains("status"), "{sentence}");
    assert!(sentence.contains(words), "{sentence}");
}

#[test]
fn a_server_that_misbehaves_becomes_an_error_that_says_how() {
    check(http("200 OK", ""), Kind::Malformed, "an empty answer");
    check(http("200 OK", "<html>hello</html>"), Kind::Malformed, "<html>hello</html>");
    check(http("200 OK", "{}"), Kind::Malformed, "another question");
    check(http("200 OK", r#"{"id":0}"#), Kind::Malformed, "neither a result nor an error");
    check(http("200 OK", r#"{"id":7,"result":{}}"#), Kind::Malformed, "");
    check(http("200 OK", r#"{"id":0,"result":{}}"#), Kind::Malformed, "node_info");
    check(http("200 OK", &"[".repeat(100_000)), Kind::Malformed, "recursion limit");
    check(http("404 Not Found", "nothing"), Kind::Malformed, "HTTP 404");
    check(http("301 Moved", ""), Kind::Malformed, "HTTP 301");
    check(http("502 Bad Gateway", "upstream"), Kind::Unreachable, "HTTP 502");
    check(http("429 Too Many Requests", ""), Kind::Unreachable, "HTTP 429");
    let refusal = r#"{"id":0,"error":{"code":-32603,"message":"Internal error","data":"no disk"}}"#;
    check(http("500 Internal Server Error", refusal), Kind::Refused, "Internal error: no disk");
    check(http("200 OK", refusal), Kind::Refused, "(code -32603)");
    check(Vec::new(), Kind::Unreachable, "");
    check(b"HTTP/1.1 200 OK\r\nconten".to_vec(), Kind::Unreachable, "");
    check(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\"".to_vec(), Kind::Unreachable, "");
    check(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Kind::Malformed, "");
}

#[test]
fn an_answer_without_end_is_not_read_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        read_request(&mut socket).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        while socket.write_all(&[b' '; 65536]).is_ok() {}
    });
    let error = Client::new(&format!("http://{address}")).unwrap().status().unwrap_err();
    assert!(matches!(error, RpcError::TooLarge { .. }), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let started = Instant::now();
    let error = Client::with_timeout(url, Duration::from_millis(300)).status().unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn validators_that_do_not_add_up_are_no_set() {
    let page = |height: &str, total: &str| {
        let result = json!({ "block_height": height, "total": total, "validators": [] });
        http("200 OK", &json!({ "id": 0, "result": result }).to_string())
    };
    for (answer, words) in [
        (page("5", "3"), "pages and their total differ"),
        (page("6", "0"), "height 6, when 5 was asked for"),
        (page("5", "-1"), "negative"),
    ] {
        let error = liar(answer).0.validators(5).unwrap_err();
        assert!(matches!(&error, RpcError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
