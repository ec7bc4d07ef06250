//! `/websocket`: every method, and subscriptions to what is committed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::BODY_BYTES_MAX;
use super::envelope::{Request, Requests, envelope, parse};
use super::error::RpcError;
use super::methods::Methods;
use super::params::Params;
use super::request::answer_one;
use super::shape;
use crate::engine::{
    Attributes, BlockSubscription, CommittedBlock, FoundTx, Query, SubscriptionEnd, TxPosition,
    add_events, hex_upper, tx_attributes, tx_hash,
};

/// Connections; one more is refused with 503.
const CONNECTIONS_MAX: usize = 100;
/// Subscriptions of one connection; one more is refused.
const SUBSCRIPTIONS_MAX: usize = 16;
/// Calls of one connection that run at once; further messages are not read meanwhile.
const CALLS_MAX: usize = 16;
/// Blocks that wait for a slow connection; one more closes it.
const BLOCKS_QUEUED_MAX: usize = 64;
/// A message that is not taken for this long closes the connection.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// A ping this often; a connection that is silent for three of them is closed.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// State of the route.
#[derive(Clone)]
pub(crate) struct Websockets {
    methods: Methods,
    connections: Arc<Semaphore>,
}

impl Websockets {
    pub(crate) fn new(methods: Methods) -> Self {
        Websockets { methods, connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

pub(crate) async fn upgrade(
    State(websockets): State<Websockets>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(permit) = websockets.connections.clone().try_acquire_owned() else {
        let sentence = format!("{CONNECTIONS_MAX} connections are open already");
        return (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response();
    };
    upgrade.max_message_size(BODY_BYTES_MAX).on_upgrade(move |socket| async move {
        let connection = Connection {
            socket,
            methods: websockets.methods,
            subscriptions: Vec::new(),
            blocks: None,
            calls: JoinSet::new(),
        };
        // How it ended is the peer's business: everything it had ends with it.
        let _ = connection.serve().await;
        drop(permit);
    })
}

struct Connection {
    socket: WebSocket,
    methods: Methods,
    subscriptions: Vec<Subscription>,
    /// There while there are subscriptions.
    blocks: Option<BlockSubscription>,
    calls: JoinSet<Option<Value>>,
}

struct Subscription {
    query: Query,
    /// As the client wrote it: events and `unsubscribe` name it so.
    text: String,
    /// Id of the request that subscribed; its events carry it.
    id: Value,
}

/// The connection is over.
struct Closed;

impl Connection {
    async fn serve(mut self) -> Result<(), Closed> {
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = self.socket.recv(), if self.calls.len() < CALLS_MAX => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.handle(text.as_bytes()).await?,
                        Some(Ok(Message::Binary(bytes))) => self.handle(&bytes).await?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                    }
                }
                Some(answer) = self.calls.join_next() => {
                    if let Ok(Some(answer)) = answer {
                        self.send(&answer).await?;
                    }
                }
                block = next_block(&mut self.blocks) => match block {
                    Ok(block) => self.send_events(&block).await?,
                    Err(end) => return self.cancel(end).await,
                },
                _ = ping.tick() => {
                    if heard.elapsed() > PING_INTERVAL * 3 {
                        return Ok(());
                    }
                    self.send_message(Message::Ping(Default::default())).await?;
                }
            }
        }
    }

    async fn handle(&mut self, body: &[u8]) -> Result<(), Closed> {
        match parse(body) {
            Ok(Requests::One(request)) => self.handle_one(request).await,
            Ok(Requests::Batch(requests)) => {
                for request in requests {
                    self.handle_one(request).await?;
                }
                Ok(())
            }
            Err(error) => self.send(&envelope(Value::Null, Err(error))).await,
        }
    }

    async fn handle_one(
        &mut self,
        request: Result<Request, (Value, RpcError)>,
    ) -> Result<(), Closed> {
        let subscribing = matches!(&request, Ok(request) if
            ["subscribe", "unsubscribe", "unsubscribe_all"].contains(&request.method.as_str()));
        if let Ok(request) = request {
            if !subscribing {
                return self.spawn_call(Ok(request)).await;
            }
            let Some(id) = request.id else { return Ok(()) };
            let answer = match request.method.as_str() {
                "subscribe" => self.subscribe(&id, request.params),
                "unsubscribe" => self.unsubscribe(request.params),
                _ => self.unsubscribe_all(),
            };
            return self.send(&envelope(id, answer)).await;
        }
        self.spawn_call(request).await
    }

    /// Runs a call beside the connection; a batch waits here when too many run.
    async fn spawn_call(
        &mut self,
        request: Result<Request, (Value, RpcError)>,
    ) -> Result<(), Closed> {
        while self.calls.len() >= CALLS_MAX {
            if let Some(Ok(Some(answer))) = self.calls.join_next().await {
                self.send(&answer).await?;
            }
        }
        let methods = self.methods.clone();
        self.calls.spawn(async move { answer_one(&methods, request).await });
        Ok(())
    }

    fn subscribe(&mut self, id: &Value, params: Option<Value>) -> Result<Value, RpcError> {
        let text = Params::from_json(params, &["query"])?.text("query")?;
        let query =
            Query::parse(&text).map_err(|error| RpcError::invalid_params(error.to_string()))?;
        if self.subscriptions.iter().any(|subscription| subscription.query == query) {
            return Err(RpcError::internal("already subscribed"));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(RpcError::internal(format!(
                "max_subscriptions_per_client {SUBSCRIPTIONS_MAX} reached"
            )));
        }
        if self.blocks.is_none() {
            let blocks = self.methods.engine.subscribe_blocks(BLOCKS_QUEUED_MAX);
            self.blocks = Some(blocks.ok_or_else(|| {
                RpcError::internal("no further subscriber is taken, or the engine stopped")
            })?);
        }
        self.subscriptions.push(Subscription { query, text, id: id.clone() });
        Ok(json!({}))
    }

    fn unsubscribe(&mut self, params: Option<Value>) -> Result<Value, RpcError> {
        let text = Params::from_json(params, &["query"])?.text("query")?;
        let query =
            Query::parse(&text).map_err(|error| RpcError::invalid_params(error.to_string()))?;
        let position = self.subscriptions.iter().position(|known| known.query == query);
        let position = position.ok_or_else(|| RpcError::internal("subscription not found"))?;
        self.subscriptions.remove(position);
        if self.subscriptions.is_empty() {
            self.blocks = None;
        }
        Ok(json!({}))
    }

    fn unsubscribe_all(&mut self) -> Result<Value, RpcError> {
        if self.subscriptions.is_empty() {
            return Err(RpcError::internal("subscription not found"));
        }
        self.subscriptions.clear();
        self.blocks = None;
        Ok(json!({}))
    }

    async fn send_events(&mut self, block: &CommittedBlock) -> Result<(), Closed> {
        for event in events_of(block) {
            let mut data = None;
            for index in 0..self.subscriptions.len() {
                let subscription = &self.subscriptions[index];
                if !subscription.query.matches(&event.attributes) {
                    continue;
                }
                let data = data.get_or_insert_with(|| event.data(block));
                let result = json!({
                    "query": subscription.text,
                    "data": data,
                    "events": event.attributes_json(),
                });
                let message = envelope(subscription.id.clone(), Ok(result));
                self.send(&message).await?;
            }
        }
        Ok(())
    }

    /// Says why the subscriptions end, then closes.
    async fn cancel(mut self, end: SubscriptionEnd) -> Result<(), Closed> {
        let reason = match end {
            SubscriptionEnd::Lagged => "client is not pulling messages fast enough",
            SubscriptionEnd::Stopped => "the engine stopped",
        };
        for subscription in std::mem::take(&mut self.subscriptions) {
            let error = RpcError::server(format!("subscription was canceled (reason: {reason})"));
            self.send(&envelope(subscription.id, Err(error))).await?;
        }
        let frame = CloseFrame { code: close_code::AGAIN, reason: reason.into() };
        self.send_message(Message::Close(Some(frame))).await
    }

    async fn send(&mut self, answer: &Value) -> Result<(), Closed> {
        self.send_message(Message::Text(answer.to_string().into())).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Closed> {
        match timeout(SEND_WAIT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }
}

/// The next block, or never while nothing is subscribed to.
async fn next_block(
    blocks: &mut Option<BlockSubscription>,
) -> Result<Arc<CommittedBlock>, SubscriptionEnd> {
    match blocks {
        Some(blocks) => blocks.recv().await,
        None => std::future::pending().await,
    }
}

/// Something that can be subscribed to.
struct ChainEvent {
    attributes: Attributes,
    kind: Kind,
}

enum Kind {
    NewBlock,
    NewBlockHeader,
    NewBlockEvents,
    Tx(Box<FoundTx>),
}

/// Events of a block in CometBFT's order.
fn events_of(block: &CommittedBlock) -> Vec<ChainEvent> {
    let named = |name: &str| vec![("tm.event".to_owned(), name.to_owned())];
    let mut new_block = named("NewBlock");
    add_events(&mut new_block, &block.results.events);
    let mut block_events = named("NewBlockEvents");
    block_events.push(("block.height".to_owned(), block.height.to_string()));
    add_events(&mut block_events, &block.results.events);
    let mut events = vec![
        ChainEvent { attributes: new_block, kind: Kind::NewBlock },
        ChainEvent { attributes: named("NewBlockHeader"), kind: Kind::NewBlockHeader },
        ChainEvent { attributes: block_events, kind: Kind::NewBlockEvents },
    ];
    let txs = block.block.data.iter().flat_map(|data| &data.txs);
    for (index, (tx, result)) in txs.zip(&block.results.tx_results).enumerate() {
        let position = TxPosition { height: block.height, index: index as u32 };
        let found = FoundTx { position, tx: tx.clone(), result: result.clone() };
        let attributes = tx_attributes(&found);
        events.push(ChainEvent { attributes, kind: Kind::Tx(Box::new(found)) });
    }
    events
}

impl ChainEvent {
    fn data(&self, block: &CommittedBlock) -> Value {
        let (name, value) = match &self.kind {
            Kind::NewBlock => (
                "NewBlock",
                json!({
                    "block": shape::block(&block.block),
                    "block_id": shape::block_id(Some(&block.block_id)),
                    "result_finalize_block": shape::finalize_block(&block.results),
                }),
            ),
            Kind::NewBlockHeader => {
                let header = block.block.header.as_ref().map(shape::header);
                ("NewBlockHeader", json!({ "header": header }))
            }
            Kind::NewBlockEvents => (
                "NewBlockEvents",
                json!({
                    "height": block.height.to_string(),
                    "events": shape::events(&block.results.events),
                    "num_txs": block.results.tx_results.len().to_string(),
                }),
            ),
            Kind::Tx(found) => (
                "Tx",
                json!({ "TxResult": {
                    "height": found.position.height.to_string(),
                    "index": found.position.index,
                    "tx": shape::base64(&found.tx),
                    "result": shape::exec_tx_result(&found.result),
                    // Not CometBFT's: spares every client a SHA-256.
                    "hash": hex_upper(&tx_hash(&found.tx)),
                } }),
            ),
        };
        json!({ "type": format!("tendermint/event/{name}"), "value": value })
    }

    fn attributes_json(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in &self.attributes {
            let values = map.entry(key.as_str()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(Value::String(value.clone()));
            }
        }
        Value::Object(map)
    }
}
