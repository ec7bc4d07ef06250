//! Directories, genesis, and calls without a socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use consensus_abci::engine::{Engine, EngineConfig, EngineError, Genesis, NodeKey, ValidatorKey};
use serde_json::{Value, json};
use tendermint::Time;
use tower::ServiceExt;

use crate::kv::KvApp;

pub const KEY_SEED: [u8; 32] = [7; 32];
pub const CHAIN: &str = "engine-test-1";

/// A directory that goes when it is dropped.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("sutantra-engine-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
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

pub fn genesis() -> Genesis {
    let time = Time::parse_from_rfc3339("2026-01-02T03:04:05.678Z").unwrap();
    let key = ValidatorKey::from_seed(KEY_SEED).public_key();
    Genesis::single(CHAIN.parse().unwrap(), time, key, json!({ "first": "entry" }))
}

/// Blocks as fast as they can be made while transactions wait, an empty one each 20 ms.
pub fn config(dir: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(
        dir.join("blocks"),
        genesis(),
        ValidatorKey::from_seed(KEY_SEED),
        NodeKey::from_seed([8; 32]),
        dir.join("priv_validator_state.json"),
    );
    config.min_block_interval = Duration::from_millis(1);
    config.empty_block_interval = Duration::from_millis(20);
    config
}

pub fn start(dir: &Path, app: &Arc<KvApp>) -> Engine {
    Engine::start(config(dir), app.clone()).unwrap()
}

pub fn start_error(config: EngineConfig, app: &Arc<KvApp>) -> EngineError {
    Engine::start(config, app.clone()).expect_err("this engine must not start")
}

/// Waits until `height` is committed.
pub fn wait_for_height(engine: &Engine, height: u64) {
    let mut blocks = engine.subscribe_blocks(1024).expect("the engine runs");
    while engine.height() < height {
        blocks.blocking_recv().expect("the chain goes on");
    }
}

/// Waits until the engine is halted; the sentence.
pub fn wait_for_halt(engine: &Engine) -> String {
    if let Some(mut blocks) = engine.subscribe_blocks(1024) {
        while blocks.blocking_recv().is_ok() {}
    }
    engine.is_halted().expect("the engine halted")
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub async fn get(engine: &Engine, uri: &str) -> (StatusCode, Value) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    call(engine, request).await
}

pub async fn post(engine: &Engine, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/").body(body.into()).unwrap();
    call(engine, request).await
}

/// A POST of one method; its result, or its error.
pub async fn method(engine: &Engine, name: &str, params: Value) -> Result<Value, Value> {
    let body = json!({ "jsonrpc": "2.0", "id": "x", "method": name, "params": params });
    let (status, answer) = post(engine, body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["id"], "x", "{answer}");
    match answer.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(answer["result"].clone()),
    }
}

async fn call(engine: &Engine, request: Request<Body>) -> (StatusCode, Value) {
    let response = engine.rpc_router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
