//! `/websocket` over a real socket: methods, subscriptions, bounds, slow readers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use consensus_abci::engine::Engine;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::kv::KvApp;
use crate::rpc::{reads, still};
use crate::world::{Dir, config, method, runtime, start};

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came while something else was awaited.
    early: VecDeque<Value>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/websocket")).await.unwrap();
        Client { socket, early: VecDeque::new() }
    }

    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next JSON message; `None` when the connection is closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let message = timeout(Duration::from_secs(30), self.socket.next()).await.unwrap();
            match message? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn call(&mut self, id: &str, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        loop {
            let answer = self.next().await.expect("the connection is open");
            if answer["id"] == id && answer["result"].get("query").is_none() {
                return answer;
            }
            self.early.push_back(answer);
        }
    }

    async fn subscribe(&mut self, id: &str, query: &str) -> Value {
        self.call(id, "subscribe", json!({ "query": query })).await
    }

    /// The event of a subscription that has this value at a place.
    async fn event_of(&mut self, id: &str, place: &str, value: &Value) -> Value {
        loop {
            let event = self.event(id).await;
            if event.pointer(place) == Some(value) {
                return event;
            }
        }
    }

    /// The next event of a subscription.
    async fn event(&mut self, id: &str) -> Value {
        if let Some(position) = self.early.iter().position(|event| event["id"] == id) {
            return self.early.remove(position).unwrap()["result"].clone();
        }
        loop {
            let event = self.next().await.expect("the connection is open");
            if event["id"] == id {
                return event["result"].clone();
            }
            self.early.push_back(event);
        }
    }
}

async fn serve(engine: &Engine) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = engine.rpc_router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[test]
fn every_method_answers_as_over_http() {
    let still = still();
    runtime().block_on(async {
        let mut client = Client::connect(serve(&still.engine).await).await;
        for (index, (name, params, _)) in reads(&still).into_iter().enumerate() {
            let expected = method(&still.engine, name, params.clone()).await.unwrap();
            let answer = client.call(&index.to_string(), name, params).await;
            assert_eq!(answer["result"], expected, "{name}");
        }
        let unknown = client.call("u", "bock", json!({})).await;
        assert_eq!(unknown["error"]["code"], -32601);
        client.send(json!("no request")).await;
        assert_eq!(client.next().await.unwrap()["error"]["code"], -32600);
        client.socket.send(Message::text("{")).await.unwrap();
        assert_eq!(client.next().await.unwrap()["error"]["code"], -32700);
    });
}

#[test]
fn subscribers_hear_what_they_asked_for() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    runtime().block_on(async {
        let mut client = Client::connect(serve(&engine).await).await;
        let ok = json!({});
        for (id, query) in [
            ("block", "tm.event='NewBlock'"),
            ("header", "tm.event='NewBlockHeader'"),
            ("events", "tm.event='NewBlockEvents' AND tick.height EXISTS"),
            ("tx", "tm.event='Tx' AND set.key='wanted'"),
        ] {
            assert_eq!(client.subscribe(id, query).await["result"], ok, "{query}");
        }
        let twice = client.subscribe("again", "tm.event = 'NewBlock'").await;
        assert_eq!(twice["error"]["data"], "already subscribed");
        let bad = client.subscribe("bad", "tm.event").await;
        assert_eq!(bad["error"]["code"], -32602);

        // Blocks may come between two subscriptions: this is the youngest of the three.
        let events = client.event("events").await;
        let height = events["events"]["block.height"][0].clone();
        assert_eq!(events["events"]["tick.height"], json!([height]));
        let block = client.event_of("block", "/data/value/block/header/height", &height).await;
        assert_eq!(block["query"], "tm.event='NewBlock'");
        assert_eq!(block["data"]["type"], "tendermint/event/NewBlock");
        let header = client.event_of("header", "/data/value/header/height", &height).await;
        assert_eq!(header["data"]["type"], "tendermint/event/NewBlockHeader");

        for tx in ["other=1", "wanted=2"] {
            let sent = client.call(tx, "broadcast_tx_sync", json!([BASE64.encode(tx)])).await;
            assert_eq!(sent["result"]["code"], 0);
        }
        let tx = client.event("tx").await;
        assert_eq!(tx["data"]["value"]["TxResult"]["tx"], BASE64.encode("wanted=2"));
        assert_eq!(tx["events"]["set.value"], json!(["2"]));
        assert_eq!(tx["events"]["tm.event"], json!(["Tx"]));

        let query = json!({ "query": "tm.event='NewBlock'" });
        assert_eq!(client.call("off", "unsubscribe", query.clone()).await["result"], ok);
        let gone = client.call("off2", "unsubscribe", query).await;
        assert_eq!(gone["error"]["data"], "subscription not found");
        assert_eq!(client.call("all", "unsubscribe_all", json!({})).await["result"], ok);
        let none = client.call("all2", "unsubscribe_all", json!({})).await;
        assert_eq!(none["error"]["data"], "subscription not found");
    });
}

#[test]
fn a_connection_has_sixteen_subscriptions() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    runtime().block_on(async {
        let mut client = Client::connect(serve(&engine).await).await;
        for number in 0..16 {
            let query = format!("tm.event='Tx' AND set.key='{number}'");
            let answer = client.subscribe(&number.to_string(), &query).await;
            assert_eq!(answer["result"], json!({}));
        }
        let refused = client.subscribe("17", "tm.event='Tx'").await;
        assert_eq!(refused["error"]["data"], "max_subscriptions_per_client 16 reached");
    });
}

#[test]
fn a_halt_and_a_stop_end_subscriptions_with_a_reason() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    runtime().block_on(async {
        let mut client = Client::connect(serve(&engine).await).await;
        client.subscribe("s", "tm.event='Tx'").await;
        let stopping = engine.clone();
        tokio::task::spawn_blocking(move || stopping.stop()).await.unwrap();
        let end = client.next().await.unwrap();
        assert_eq!(end["error"]["code"], -32000);
        assert!(end["error"]["data"].as_str().unwrap().contains("the engine stopped"), "{end}");
        assert_eq!(client.next().await, None);
    });
}

/// A client that does not read is closed, blocks go on meanwhile.
#[test]
fn a_subscriber_that_does_not_read_is_closed() {
    const TXS: usize = 100;
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.empty_block_interval = Duration::from_secs(3600);
    let engine = Engine::start(config, app).unwrap();
    runtime().block_on(async {
        let address = serve(&engine).await;
        let mut client = Client::connect(address).await;
        assert_eq!(client.subscribe("s", "tm.event='NewBlock'").await["result"], json!({}));
        // Far more than the buffers of a loopback connection hold.
        for number in 0..TXS {
            let tx = format!("{number}={}", "x".repeat(300_000));
            let commit = engine.broadcast_tx_commit(tx.into(), Duration::from_secs(30)).await;
            assert!(commit.unwrap().included.is_some(), "blocks do not wait for the reader");
        }
        let mut events = 0;
        while let Some(message) = client.next().await {
            match message.get("error") {
                None => events += 1,
                Some(error) => {
                    let reason = error["data"].as_str().unwrap();
                    assert!(reason.contains("not pulling messages fast enough"), "{reason}");
                }
            }
        }
        assert!(events < TXS, "{events} events came, the connection was closed before the end");
    });
}
