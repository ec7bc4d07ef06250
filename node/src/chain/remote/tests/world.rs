//! A chain, and doors to its RPC that can be closed, or lie.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chain_types::{
    AccountId, Balance, BlockDelta, Params, Payload, SigningKey, StateChange, StateKey,
    TransactionBody,
};
use consensus_abci::{
    app::{App, AppState, GenesisAccount},
    engine::{Engine, EngineConfig, Genesis, NodeKey, ValidatorKey},
};
use crossbeam_channel::Receiver;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{net::TcpSocket, runtime::Runtime};
use tower::ServiceExt;

use super::Lie;
use crate::config::chain::Trust;

pub const CHAIN_ID: &str = "remote-test-1";
const NAMES: [&str; 4] = ["creator", "viewer", "relay", "other"];

pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(name).into())
}

pub fn sut(units: u64) -> Balance {
    Balance::of(units)
}

/// Where a followed record is; `None`: it is not followed.
pub fn key_of(change: &StateChange) -> Option<Vec<u8>> {
    let key = match change {
        StateChange::Account(..) => return None,
        StateChange::Stream(record) => StateKey::Stream(record.id),
        StateChange::Access { stream, viewer, .. } => StateKey::Access(*stream, *viewer),
        StateChange::Channel(id, _) => StateKey::Channel(*id),
        StateChange::Lane(lane, _) => StateKey::Lane(*lane),
        StateChange::Relay(id, _) => StateKey::Relay(*id),
        StateChange::Params(_) => StateKey::Params,
    };
    Some(key.to_bytes())
}

pub fn params(params: Params) -> (Vec<u8>, StateChange) {
    (StateKey::Params.to_bytes(), StateChange::Params(Box::new(params)))
}

pub struct World {
    pub app: Arc<App>,
    engine: Engine,
    pub doors: Vec<Door>,
    told: Receiver<Arc<BlockDelta>>,
    known: Mutex<BTreeMap<u64, BlockDelta>>,
    _dir: TempDir,
}

impl World {
    pub fn start(doors: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let account = |name: &&str| GenesisAccount {
            account: AccountId::from(&key(name)),
            balance: sut(1_000_000_000_000_000),
        };
        let state = AppState {
            params: Params::for_tests(),
            accounts: NAMES.iter().map(account).collect(),
            ..AppState::default()
        };
        let validator = ValidatorKey::from_seed([7; 32]);
        let genesis = Genesis::single(
            CHAIN_ID.parse().unwrap(),
            tendermint::Time::now(),
            validator.public_key(),
            serde_json::to_value(state).unwrap(),
        );
        let app = Arc::new(App::open(&dir.path().join("state")).unwrap());
        let told = app.subscribe(100_000);
        let mut config = EngineConfig::new(
            dir.path().join("blocks"),
            genesis,
            validator,
            NodeKey::from_seed([8; 32]),
            dir.path().join("priv_validator_state.json"),
        );
        config.min_block_interval = Duration::from_millis(10);
        config.empty_block_interval = Duration::from_millis(50);
        let engine = Engine::start(config, app.clone()).unwrap();
        let doors = (0..doors).map(|_| Door::new(engine.rpc_router())).collect();
        let world = Self { app, engine, doors, told, known: Mutex::default(), _dir: dir };
        world.wait_for_blocks(3);
        world
    }

    pub fn urls(&self) -> Vec<String> {
        self.doors.iter().map(|door| format!("http://{}", door.address)).collect()
    }

    pub fn trust(&self) -> Trust {
        let block = self.ask("commit", serde_json::json!({ "height": "2" }));
        let header = &block["signed_header"]["header"];
        let header: tendermint::block::Header = serde_json::from_value(header.clone()).unwrap();
        Trust { height: 2, hash: header.hash().as_bytes().try_into().unwrap() }
    }

    pub fn genesis(&self) -> Value {
        self.ask("genesis", serde_json::json!({}))["genesis"].clone()
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": params
        });
        let request = Request::post("/").body(Body::from(call.to_string())).unwrap();
        let runtime = runtime();
        let response = runtime.block_on(self.engine.rpc_router().oneshot(request)).unwrap();
        let body = runtime.block_on(to_bytes(response.into_body(), usize::MAX)).unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["result"].clone()
    }

    pub fn wait_for_blocks(&self, count: u64) {
        let mut blocks = self.engine.subscribe_blocks(1024).unwrap();
        let last = self.engine.height() + count;
        while self.engine.height() < last {
            blocks.blocking_recv().unwrap();
        }
    }

    pub fn sign(&self, name: &str, payload: Payload) -> Vec<u8> {
        let signer = AccountId::from(&key(name));
        let snapshot = self.app.snapshot();
        let mut body = TransactionBody {
            signer,
            fee_payer: None,
            nonce: snapshot.account(&signer).unwrap().unwrap().nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload,
        };
        let params = snapshot.params().unwrap();
        body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
        body.sign(&key(name), CHAIN_ID).encode()
    }

    /// Does it on the chain; the height of its block.
    pub fn act(&self, name: &str, payload: Payload) -> u64 {
        let bytes = self.sign(name, payload);
        let hash = chain_types::transaction_hash(&bytes);
        let taken = self.engine.broadcast_tx_sync(bytes).unwrap();
        assert_eq!(taken.code, 0, "{}", taken.log);
        super::until("the block", || {
            let deltas = self.deltas();
            let found = deltas.values().rev().find_map(|delta| {
                let result = delta.results.iter().find(|(known, _)| *known == hash)?;
                Some((delta.height, result.1))
            });
            found.map(|(height, code)| {
                assert_eq!(code, 0);
                height
            })
        })
    }

    /// What the application itself told, by height.
    pub fn deltas(&self) -> BTreeMap<u64, BlockDelta> {
        let mut known = self.known.lock().unwrap();
        known.extend(self.told.try_iter().map(|delta| (delta.height, (*delta).clone())));
        known.clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

type SharedLie = Arc<Mutex<Option<Lie>>>;

/// A way to the RPC.
pub struct Door {
    pub address: SocketAddr,
    /// Bound and never listening: nobody else gets the port while the door is closed.
    _port: TcpSocket,
    rpc: Router,
    lie: SharedLie,
    serving: Option<Runtime>,
}

impl Door {
    fn new(rpc: Router) -> Self {
        let port = bound("127.0.0.1:0".parse().unwrap());
        let address = port.local_addr().unwrap();
        let mut door = Self { address, _port: port, rpc, lie: Arc::default(), serving: None };
        door.open();
        door
    }

    /// Opens, always at the same address.
    pub fn open(&mut self) {
        let runtime = runtime();
        let listener = runtime.block_on(async { bound(self.address).listen(128) }).unwrap();
        let router =
            Router::new().fallback(answer).with_state((self.rpc.clone(), self.lie.clone()));
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.serving = Some(runtime);
    }

    /// Closes it with all its connections.
    pub fn close(&mut self) {
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    pub fn lie(&self, lie: Lie) {
        self.give_lie(Some(lie));
    }

    pub fn give_lie(&self, lie: Option<Lie>) {
        *self.lie.lock().unwrap() = lie;
    }

    pub fn take_lie(&self) -> Option<Lie> {
        self.lie.lock().unwrap().take()
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Two may be bound to one port while neither, or only the other, listens.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(runtime) = self.serving.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State((rpc, lie)): State<(Router, SharedLie)>, request: Request) -> Response {
    if request.uri().path() == "/websocket" {
        return rpc.oneshot(request).await.unwrap().into_response();
    }
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let request = Request::post("/").body(Body::from(body)).unwrap();
    let response = rpc.oneshot(request).await.unwrap();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
    let lie = *lie.lock().unwrap();
    if let (Some(lie), Some(method)) = (lie, call["method"].as_str())
        && answer["result"].is_object()
    {
        lie(method, &call["params"], &mut answer["result"]);
    }
    (StatusCode::OK, answer.to_string()).into_response()
}
