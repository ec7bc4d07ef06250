//! Every method over GET, POST and batch; every refusal.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use consensus_abci::engine::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::kv::{CODE_GARBAGE, KvApp};
use crate::world::{Dir, config, get, method, post, runtime, start, wait_for_height};

/// A chain that stands still: every method gives the same answer each time.
pub struct Still {
    pub engine: Engine,
    pub block_hash: String,
    pub tx_hash: String,
    _dir: Dir,
}

pub fn still() -> Still {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let mut config = config(dir.path());
    config.min_block_interval = Duration::from_millis(100);
    let engine = Engine::start(config, app).unwrap();
    wait_for_height(&engine, 1);
    let mut blocks = engine.subscribe_blocks(1024).unwrap();
    for number in 0..7 {
        engine.broadcast_tx_sync(format!("k{number}=same").into()).unwrap();
    }
    let mut txs = 0;
    while txs < 7 {
        txs += blocks.blocking_recv().unwrap().results.tx_results.len();
    }
    wait_for_height(&engine, engine.height() + 1);
    engine.stop();
    let block = runtime().block_on(method(&engine, "block", json!({ "height": "2" }))).unwrap();
    let block_hash = block["block_id"]["hash"].as_str().unwrap().to_owned();
    let tx_hash = hex(&Sha256::digest(b"k3=same"));
    Still { engine, block_hash, tx_hash, _dir: dir }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Every reading method: name, JSON parameters, the same as a query string.
pub fn reads(still: &Still) -> Vec<(&'static str, Value, String)> {
    let (block, tx) = (&still.block_hash, &still.tx_hash);
    let key = hex(b"first");
    vec![
        ("health", json!({}), String::new()),
        ("status", json!({}), String::new()),
        ("genesis", json!({}), String::new()),
        ("abci_info", json!({}), String::new()),
        ("net_info", json!({}), String::new()),
        ("num_unconfirmed_txs", json!({}), String::new()),
        ("unconfirmed_txs", json!({ "limit": "5" }), "limit=5".to_owned()),
        (
            "abci_query",
            json!({ "path": "/key", "data": key, "height": "0", "prove": false }),
            "path=%22/key%22&data=%22first%22&prove=false".to_owned(),
        ),
        (
            "abci_query",
            json!(["/key", key, 0, true]),
            format!("path=\"/key\"&data=0x{key}&prove=true").replace('"', "%22"),
        ),
        ("block", json!({}), String::new()),
        ("block", json!({ "height": "2" }), "height=2".to_owned()),
        ("block", json!({ "height": 2 }), "height=%222%22".to_owned()),
        ("block_by_hash", json!({ "hash": block }), format!("hash=0x{block}")),
        ("header", json!({ "height": "3" }), "height=3".to_owned()),
        ("header_by_hash", json!({ "hash": block }), format!("hash=0x{block}")),
        ("block_results", json!({ "height": "2" }), "height=2".to_owned()),
        (
            "blockchain",
            json!({ "minHeight": "1", "maxHeight": "3" }),
            "minHeight=1&maxHeight=3".to_owned(),
        ),
        ("commit", json!({ "height": "2" }), "height=2".to_owned()),
        ("validators", json!({ "height": "2", "page": "1" }), "height=2&page=1".to_owned()),
        ("consensus_params", json!({ "height": "2" }), "height=2".to_owned()),
        ("consensus_state", json!({}), String::new()),
        ("dump_consensus_state", json!({}), String::new()),
        ("genesis_chunked", json!({ "chunk": "0" }), "chunk=0".to_owned()),
        ("check_tx", json!({ "tx": BASE64.encode("k9=z") }), "tx=%22k9=z%22".to_owned()),
        (
            "block_search",
            json!({ "query": "block.height<4", "page": "2", "per_page": "2", "order_by": "asc" }),
            "query=%22block.height%3C4%22&page=2&per_page=2&order_by=%22asc%22".to_owned(),
        ),
        ("tx", json!({ "hash": tx, "prove": true }), format!("hash=0x{tx}&prove=true")),
        (
            "tx_search",
            json!({ "query": "set.value='same'", "page": "2", "per_page": "3", "order_by": "desc" }),
            "query=%22set.value='same'%22&page=2&per_page=3&order_by=%22desc%22".to_owned(),
        ),
    ]
}

#[test]
fn a_uri_a_request_and_a_batch_give_the_same_answer() {
    let still = still();
    runtime().block_on(async {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for (index, (name, params, query)) in reads(&still).into_iter().enumerate() {
            let result = method(&still.engine, name, params.clone()).await;
            let result = result.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (status, answer) = get(&still.engine, &format!("/{name}?{query}")).await;
            assert_eq!(status, StatusCode::OK, "{name}?{query}");
            assert_eq!(answer["id"], -1);
            assert_eq!(answer["result"], result, "{name}?{query}");
            batch.push(json!({ "jsonrpc": "2.0", "id": index, "method": name, "params": params }));
            expected.push(json!({ "jsonrpc": "2.0", "id": index, "result": result }));
        }
        let (status, answers) = post(&still.engine, Value::Array(batch).to_string()).await;
        assert_eq!((status, answers), (StatusCode::OK, Value::Array(expected)));
    });
}

#[test]
fn answers_have_what_other_peoples_clients_read() {
    let still = still();
    let call = |name: &'static str, params: Value| {
        runtime().block_on(method(&still.engine, name, params)).unwrap()
    };
    let status = call("status", json!({}));
    assert_eq!(status["node_info"]["network"], "engine-test-1");
    assert_eq!(status["node_info"]["id"].as_str().unwrap().len(), 40);
    let tip = still.engine.height().to_string();
    assert_eq!(status["sync_info"]["latest_block_height"], tip);
    assert_eq!(status["sync_info"]["earliest_block_height"], "1");
    assert_eq!(status["sync_info"]["catching_up"], false);
    assert_eq!(status["validator_info"]["voting_power"], "10");

    let answer = call("block", json!({ "height": "2" }));
    let block: tendermint::Block = serde_json::from_value(answer["block"].clone()).unwrap();
    let id: tendermint::block::Id = serde_json::from_value(answer["block_id"].clone()).unwrap();
    assert_eq!(block.header().hash(), id.hash, "the hash is the header's");
    assert_eq!(block.last_commit().as_ref().unwrap().height.value(), 1);
    let first = call("block", json!({ "height": "1" }));
    assert_eq!(first["block"]["header"]["last_block_id"]["hash"], "");
    assert_eq!(first["block"]["last_commit"]["height"], "0");

    let query = call("abci_query", json!({ "path": "/key", "data": hex(b"first") }));
    assert_eq!(query["response"]["value"], BASE64.encode("entry"));
    let missing = call("abci_query", json!({ "path": "/key", "data": "00" }));
    assert_eq!(missing["response"]["code"], 6);
    assert_eq!(missing["response"]["value"], Value::Null);

    let tx = call("tx", json!({ "hash": still.tx_hash, "prove": true }));
    assert_eq!(tx["tx"], BASE64.encode("k3=same"));
    assert_eq!(tx["tx_result"]["data"], BASE64.encode("k3"));
    assert_eq!(tx["tx_result"]["events"][0]["attributes"][0]["value"], "k3");
    let height = tx["height"].as_str().unwrap().to_owned();
    let header = call("header", json!({ "height": height }));
    assert_eq!(tx["proof"]["root_hash"], header["header"]["data_hash"]);

    let search = |query: &str| call("tx_search", json!({ "query": query }))["total_count"].clone();
    assert_eq!(search("set.value='same'"), "7");
    assert_eq!(search("set.value='same' AND set.key='k3'"), "1");
    assert_eq!(search("set.value='other'"), "0");
    assert_eq!(search(&format!("tx.hash='{}'", still.tx_hash)), "1");
    assert_eq!(search(&format!("tx.height={height}")), "7");
    assert_eq!(search("tx.height>0 AND tx.height<9999"), "7");
    assert_eq!(search("tx.height>9998"), "0");
    assert_eq!(search("tm.event='Tx' AND set.key='k3'"), "1");

    let chain = call("blockchain", json!({ "maxHeight": "3" }));
    let heights: Vec<&Value> = chain["block_metas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|meta| &meta["header"]["height"])
        .collect();
    assert_eq!(heights, ["3", "2", "1"]);
    let results = call("block_results", json!({ "height": "1" }));
    assert_eq!(results["txs_results"], Value::Null);
    assert_eq!(results["finalize_block_events"][0]["type"], "tick");
    assert_eq!(call("commit", json!({}))["canonical"], false);
    assert_eq!(call("commit", json!({ "height": "1" }))["canonical"], true);
    let unknown = call("block_by_hash", json!({ "hash": "00".repeat(32) }));
    assert_eq!(unknown["block"], Value::Null);
}

#[test]
fn blocks_are_found_by_height_and_by_their_own_events() {
    let still = still();
    let search = |params: Value| runtime().block_on(method(&still.engine, "block_search", params));
    let heights = |params: Value| -> Vec<String> {
        let answer = search(params).unwrap();
        let blocks = answer["blocks"].as_array().unwrap().iter();
        blocks
            .map(|block| block["block"]["header"]["height"].as_str().unwrap().to_owned())
            .collect()
    };
    let tip = still.engine.height().to_string();
    assert_eq!(heights(json!({ "query": "block.height<3" })), ["2", "1"], "newest first");
    assert_eq!(heights(json!({ "query": "block.height<3", "order_by": "asc" })), ["1", "2"]);
    assert_eq!(heights(json!({ "query": "block.height='2'" })), ["2"]);
    assert_eq!(heights(json!({ "query": format!("block.height>={tip}") })), [tip]);
    assert_eq!(heights(json!({ "query": "block.height>9999" })), [""; 0]);
    // The application says `tick` with each block, and `set` with a transaction only.
    assert_eq!(heights(json!({ "query": "tick.height='2'" })), ["2"]);
    assert_eq!(heights(json!({ "query": "set.value='same'" })), [""; 0]);
    let error = search(json!({ "query": "block.height>1", "order_by": "up" })).unwrap_err();
    assert!(error["data"].as_str().unwrap().contains("order_by"), "{error}");
    let error = search(json!({ "query": "" })).unwrap_err();
    assert_eq!(error["code"], -32602, "{error}");
}

#[test]
fn between_two_blocks_nothing_is_proposed_and_the_last_commit_is_whole() {
    let still = still();
    let call = |name: &'static str, params: Value| {
        runtime().block_on(method(&still.engine, name, params)).unwrap()
    };
    let tip = still.engine.height();
    let simple = call("consensus_state", json!({}));
    assert_eq!(simple["round_state"]["height/round/step"], format!("{}/0/1", tip + 1));
    assert_eq!(simple["round_state"]["height_vote_set"][0]["prevotes"], json!(["nil-Vote"]));
    let dump = call("dump_consensus_state", json!({}));
    let commit = call("commit", json!({}));
    let vote = dump["round_state"]["last_commit"]["votes"][0].as_str().unwrap();
    let hash = commit["signed_header"]["commit"]["block_id"]["hash"].as_str().unwrap();
    assert!(vote.contains(&format!(" {tip}/00/")), "{vote}");
    assert!(vote.contains(&hash[..12]), "{vote} of {hash}");
    assert_eq!(dump["round_state"]["last_commit"]["votes_bit_array"], "BA{1:x} 10/10 = 1.00");
    let validators = call("validators", json!({}))["validators"].clone();
    assert_eq!(dump["round_state"]["validators"]["validators"], validators);
    assert_eq!(dump["peers"], json!([]));
}

#[test]
fn the_genesis_comes_in_chunks_that_are_the_genesis() {
    let still = still();
    let call =
        |name: &'static str, params: Value| runtime().block_on(method(&still.engine, name, params));
    let chunk = call("genesis_chunked", json!({})).unwrap();
    assert_eq!((&chunk["chunk"], &chunk["total"]), (&json!("0"), &json!("1")));
    let bytes = BASE64.decode(chunk["data"].as_str().unwrap()).unwrap();
    let genesis: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(call("genesis", json!({})).unwrap()["genesis"], genesis);
    for chunk in ["1", "-1"] {
        let error = call("genesis_chunked", json!({ "chunk": chunk })).unwrap_err();
        assert!(error["data"].as_str().unwrap().contains("is invalid"), "{error}");
    }
}

#[test]
fn a_transaction_that_is_only_checked_does_not_wait() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    runtime().block_on(async {
        let check = |tx: &str| method(&engine, "check_tx", json!({ "tx": BASE64.encode(tx) }));
        assert_eq!(check("a=1").await.unwrap()["code"], 0);
        assert_eq!(check("bad").await.unwrap()["code"], CODE_GARBAGE);
        let waiting = method(&engine, "num_unconfirmed_txs", json!({})).await.unwrap();
        assert_eq!(waiting["total"], "0");
        // It is still new to the mempool.
        let sent = method(&engine, "broadcast_tx_sync", json!({ "tx": BASE64.encode("a=1") }));
        assert_eq!(sent.await.unwrap()["code"], 0);
        let evidence = method(&engine, "broadcast_evidence", json!({ "evidence": {} })).await;
        assert!(evidence.unwrap_err()["data"].as_str().unwrap().contains("one validator"));
        let nothing = method(&engine, "broadcast_evidence", json!({})).await.unwrap_err();
        assert_eq!(nothing["data"], "no evidence was provided");
    });
}

#[test]
fn a_transaction_is_broadcast_over_every_form() {
    let (dir, app) = (Dir::new(), Arc::new(KvApp::default()));
    let engine = start(dir.path(), &app);
    runtime().block_on(async {
        let commit =
            method(&engine, "broadcast_tx_commit", json!({ "tx": BASE64.encode("a=1") })).await;
        let commit = commit.unwrap();
        assert_eq!(commit["check_tx"]["code"], 0);
        assert_eq!(commit["tx_result"]["data"], BASE64.encode("a"));
        assert_eq!(commit["hash"], hex(&Sha256::digest(b"a=1")));
        let tx = method(&engine, "tx", json!({ "hash": commit["hash"] })).await.unwrap();
        assert_eq!(tx["height"], commit["height"]);

        let sync = method(&engine, "broadcast_tx_sync", json!([BASE64.encode("b=1")])).await;
        assert_eq!(sync.unwrap()["code"], 0);
        let (_, answer) = get(&engine, "/broadcast_tx_sync?tx=%22c=1%22").await;
        assert_eq!(answer["result"]["code"], 0, "{answer}");
        let (_, answer) = get(&engine, &format!("/broadcast_tx_async?tx=0x{}", hex(b"d=1"))).await;
        assert_eq!(answer["result"]["hash"], hex(&Sha256::digest(b"d=1")));
        let (_, answer) = get(&engine, "/broadcast_tx_commit?tx=%22e=1%22").await;
        assert_ne!(answer["result"]["height"], "0", "{answer}");

        let refused =
            method(&engine, "broadcast_tx_commit", json!({ "tx": BASE64.encode("bad") })).await;
        let refused = refused.unwrap();
        assert_eq!(refused["check_tx"]["code"], CODE_GARBAGE);
        assert_eq!(refused["height"], "0");
        let twice = method(&engine, "broadcast_tx_sync", json!({ "tx": BASE64.encode("a=1") }));
        assert_eq!(twice.await.unwrap_err()["data"], "tx already exists in cache");
    });
    let mut blocks = engine.subscribe_blocks(64).unwrap();
    while app.snapshot().entries.len() < 6 {
        blocks.blocking_recv().unwrap();
    }
}

#[test]
fn each_fault_has_cometbfts_code() {
    let still = still();
    let engine = &still.engine;
    let call = |name: &str, params: Value| {
        json!({ "jsonrpc": "2.0", "id": 1, "method": name, "params": params }).to_string()
    };
    let check = |body: String, status: StatusCode, code: i64, words: &str| {
        let (found, answer) = runtime().block_on(post(engine, body.clone()));
        assert_eq!(found, status, "{body}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
        let data = answer["error"]["data"].as_str().unwrap();
        assert!(data.contains(words), "{body}: {data}");
    };
    let (ok, bad) = (StatusCode::OK, StatusCode::BAD_REQUEST);
    check("{".to_owned(), StatusCode::INTERNAL_SERVER_ERROR, -32700, "unmarshaling");
    check("[]".to_owned(), bad, -32600, "empty batch");
    check("3".to_owned(), ok, -32600, "object");
    check(json!({ "id": 1 }).to_string(), ok, -32600, "method");
    check(json!({ "id": {}, "method": "status" }).to_string(), ok, -32600, "id");
    check(json!({ "id": 1, "jsonrpc": "1.0", "method": "x" }).to_string(), ok, -32600, "2.0");
    check(call("bock", json!({})), ok, -32601, "block_results");
    check(call("block", json!("2")), ok, -32602, "object or a list");
    check(call("block", json!([1, 2])), ok, -32602, "expected 1 parameters");
    check(call("block", json!({ "height": "two" })), ok, -32602, "height needs an integer");
    check(call("block", json!({ "height": "0" })), ok, -32603, "greater than 0");
    check(call("block", json!({ "height": "-1" })), ok, -32603, "greater than 0");
    check(call("block", json!({ "height": "99999" })), ok, -32603, "less than or equal");
    check(call("tx", json!({})), ok, -32602, "hash is missing");
    check(call("tx", json!({ "hash": "00" })), ok, -32602, "32-byte hash");
    check(call("tx", json!({ "hash": "00".repeat(32) })), ok, -32603, "not found");
    check(call("tx_search", json!({ "query": "x" })), ok, -32602, "query");
    check(call("tx_search", json!({ "query": "a.b EXISTS" })), ok, -32603, "a search needs");
    check(call("broadcast_tx_sync", json!({ "tx": "%" })), ok, -32602, "base64");
    check(call("broadcast_tx_sync", json!({ "tx": "YT0x" })), ok, -32603, "stopped");
    check(call("abci_query", json!({ "data": "xyz" })), ok, -32602, "hex");
    check(call("abci_query", json!({ "path": "/broken" })), ok, -32603, "a page cannot be read");
    check(call("validators", json!({ "page": "7" })), ok, -32603, "page should be within [1, 1]");
    check(
        call("blockchain", json!({ "minHeight": "5", "maxHeight": "3" })),
        ok,
        -32603,
        "min height",
    );
    let hundred_and_one = vec![json!({ "id": 1, "method": "health" }); 101];
    check(Value::Array(hundred_and_one).to_string(), bad, -32600, "at most 100");
    check("x".repeat(1_000_001), bad, -32600, "at most 1000000 bytes");

    let runtime = runtime();
    let (status, answer) = runtime.block_on(get(engine, "/bock"));
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32601)));
    let (status, answer) = runtime.block_on(get(engine, "/block?height=two"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer["error"]["code"], -32602);
    let (status, answer) =
        runtime.block_on(post(engine, json!({ "method": "status" }).to_string()));
    assert_eq!((status, answer), (StatusCode::OK, json!("")), "a notification has no answer");
    let (_, listing) = runtime.block_on(get(engine, "/"));
    assert!(listing.as_str().unwrap().contains("/abci_query?path=_&data=_"), "{listing}");
}

#[test]
fn the_rpc_is_open_to_every_page_and_nests_under_a_path() {
    let still = still();
    let app = Router::new().nest("/rpc", still.engine.rpc_router());
    runtime().block_on(async {
        let send = |method: Method, uri: &str, body: &'static str| {
            let request =
                Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
            app.clone().oneshot(request)
        };
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"health"}"#;
        for (method, uri, body, status) in [
            (Method::GET, "/rpc/status", "", StatusCode::OK),
            (Method::GET, "/rpc", "", StatusCode::OK),
            (Method::POST, "/rpc", call, StatusCode::OK),
            (Method::OPTIONS, "/rpc", "", StatusCode::NO_CONTENT),
            (Method::OPTIONS, "/rpc/status", "", StatusCode::NO_CONTENT),
        ] {
            let response = send(method.clone(), uri, body).await.unwrap();
            assert_eq!(response.status(), status, "{method} {uri}");
            let origin = &response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN];
            assert_eq!(origin, "*", "{method} {uri}");
        }
    });
}

/// A JSON value of any shape, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "(0x)?[0-9a-fA-F]{0,70}".prop_map(Value::from),
        Just(json!("set.value='same' AND tx.height > 1")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any_name(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Names of methods and parameters, and others.
fn any_name() -> impl Strategy<Value = String> {
    let known = [
        "id",
        "method",
        "params",
        "jsonrpc",
        "height",
        "hash",
        "prove",
        "path",
        "data",
        "tx",
        "query",
        "page",
        "per_page",
        "order_by",
        "limit",
        "minHeight",
        "maxHeight",
        "status",
        "abci_query",
        "block",
        "block_by_hash",
        "header_by_hash",
        "blockchain",
        "tx_search",
        "validators",
        "unconfirmed_txs",
        "broadcast_tx_sync",
        "broadcast_tx_commit",
        "commit",
    ];
    prop_oneof![4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn any_request() -> impl Strategy<Value = Value> {
    (any_name(), any_json(), any_json()).prop_map(
        |(method, params, id)| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }),
    )
}

fn shared() -> &'static Still {
    static STILL: OnceLock<Still> = OnceLock::new();
    STILL.get_or_init(still)
}

#[track_caller]
fn is_an_answer(answer: &Value) {
    let one = |answer: &Value| {
        answer["jsonrpc"] == "2.0"
            && (answer.get("result").is_some() != answer.get("error").is_some())
    };
    let sound = match answer {
        Value::Array(answers) => answers.iter().all(one),
        Value::String(text) => text.is_empty() || text.starts_with("Available endpoints"),
        answer => one(answer),
    };
    assert!(sound, "{answer}");
    assert!(!answer.to_string().contains("the call failed"), "{answer}");
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, answer) = runtime().block_on(post(&shared().engine, body));
        is_an_answer(&answer);
    }

    #[test]
    fn any_json_has_an_answer(body in prop_oneof![
        any_json(),
        any_request(),
        proptest::collection::vec(any_request(), 0..5).prop_map(Value::from),
    ]) {
        let (_, answer) = runtime().block_on(post(&shared().engine, body.to_string()));
        is_an_answer(&answer);
    }

    #[test]
    fn any_uri_has_an_answer(
        method in any_name(),
        pairs in proptest::collection::vec((any_name(), "[ -~]{0,20}"), 0..4),
    ) {
        let encode = |text: &str| -> String {
            text.bytes().map(|byte| format!("%{byte:02x}")).collect()
        };
        let query: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
            .collect();
        let uri = format!("/{}?{}", encode(&method), query.join("&"));
        let (status, answer) = runtime().block_on(get(&shared().engine, &uri));
        if status != StatusCode::BAD_REQUEST {
            is_an_answer(&answer);
        }
    }
}
